/* SPDX-License-Identifier: Apache-2.0
 * exp, log and what is made of them on vectors of floats, within 2 ulp. NaN stays NaN. */
#ifndef DDI_CPU_VECMATH_H
#define DDI_CPU_VECMATH_H

#include "backend/cpu/simd.h"

/* e^x for x <= 0: 2^n e^r, |r| <= ln 2 / 2, e^r by its Taylor series (the first term left out is below 2^-27). */
INLINE vf v_exp(vf x)
{
    x = v_max(v_set(-110.0f), x); /* e^-110 is 0 */
    const vf n = v_round(v_mul(x, v_set(0x1.715476p+0f)));
    vf r = v_fnma(n, v_set(0x1.62e400p-1f), x); /* the high part of ln 2 has 15 bits: the product is exact */
    r = v_fnma(n, v_set(0x1.7f7d1cp-20f), r);
    vf series = v_set(1.0f / 5040);
    series = v_fma(series, r, v_set(1.0f / 720));
    series = v_fma(series, r, v_set(1.0f / 120));
    series = v_fma(series, r, v_set(1.0f / 24));
    series = v_fma(series, r, v_set(1.0f / 6));
    series = v_fma(series, r, v_set(0.5f));
    const vf power = v_add(v_fma(v_mul(r, r), series, r), v_set(1));
    return v_scale(power, n);
}

/* ln(1+e) for 0 <= e <= 1: 2 atanh s = 2s (1 + s^2/3 + s^4/5 + ..), s = e/(2+e) <= 1/3. */
INLINE vf v_log1p(vf e)
{
    const vf s = v_div(e, v_add(e, v_set(2))), z = v_mul(s, s);
    vf series = v_set(2.0f / 15);
    series = v_fma(series, z, v_set(2.0f / 13));
    series = v_fma(series, z, v_set(2.0f / 11));
    series = v_fma(series, z, v_set(2.0f / 9));
    series = v_fma(series, z, v_set(2.0f / 7));
    series = v_fma(series, z, v_set(2.0f / 5));
    series = v_fma(series, z, v_set(2.0f / 3));
    series = v_mul(series, z);
    return v_fma(series, s, v_add(s, s));
}

/* ln x for normal positive x: e ln 2 + ln(1+f), f in [-1/4, 1/2). */
INLINE vf v_log(vf x)
{
    vf e;
    const vf f = v_sub(v_split(x, &e), v_set(1)), s = v_div(f, v_add(f, v_set(2))), z = v_mul(s, s);
    vf series = v_set(2.0f / 11);
    series = v_fma(series, z, v_set(2.0f / 9));
    series = v_fma(series, z, v_set(2.0f / 7));
    series = v_fma(series, z, v_set(2.0f / 5));
    series = v_fma(series, z, v_set(2.0f / 3));
    series = v_mul(series, z);
    const vf log_mantissa = v_fma(series, s, v_add(s, s));
    return v_fma(e, v_set(0x1.62e400p-1f), v_fma(e, v_set(0x1.7f7d1cp-20f), log_mantissa));
}

/* All that the losses need of one logit. */
typedef struct v_logistic {
    vf p, q;          /* sigmoid(x), sigmoid(-x): nothing is lost at either end */
    vf log1p_e;       /* ln(1 + e^-|x|) */
    vf positive_part; /* max(x, 0) */
} v_logistic;

INLINE v_logistic v_logistic_of(vf x)
{
    const vf e = v_exp(v_sub(v_zero(), v_abs(x))), one = v_set(1);
    const vf large = v_div(one, v_add(one, e)), small = v_mul(e, large);
    const vm negative = v_less(x, v_zero());
    v_logistic l;
    l.p = v_select(negative, small, large);
    l.q = v_select(negative, large, small);
    l.log1p_e = v_log1p(e);
    l.positive_part = v_max(v_zero(), x);
    return l;
}

/* ln(1+e^x) = -ln sigmoid(-x) */
INLINE vf v_softplus(vf x)
{
    const vf e = v_exp(v_sub(v_zero(), v_abs(x)));
    return v_add(v_max(v_zero(), x), v_log1p(e));
}

INLINE vf v_sigmoid(vf x)
{
    const vf e = v_exp(v_sub(v_zero(), v_abs(x)));
    return v_div(v_select(v_less(x, v_zero()), e, v_set(1)), v_add(v_set(1), e));
}

#endif
