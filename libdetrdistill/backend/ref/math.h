/* SPDX-License-Identifier: Apache-2.0
 * Own exp, log and what is made of them, in double: the same bits with every compiler and C library (glibc picks variants
 * by processor). Errors stay below 1 ulp for exp and log, 2 for log1p and 3 for the rest; f32 kernels round the result. */
#ifndef DDI_REF_MATH_H
#define DDI_REF_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ln 2 in two parts; the first has 33 significant bits, so that its product with an exponent is exact. */
#define DDI_LN2_HIGH 0x1.62e42feep-1
#define DDI_LN2_LOW 0x1.a39ef35793c76p-33

/* 2^k for -1022 <= k <= 1023. */
static inline double ddi_power_of_two(int k)
{
    const uint64_t bits = (uint64_t)(k + 1023) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* e^x = 2^k e^r, |r| <= ln 2 / 2, e^r by its Taylor series: the first term left out, r^14/14!, is below 2^-57. */
static inline double ddi_exp(double x)
{
    static const double coefficient[] = {1.0 / 2,       1.0 / 6,        1.0 / 24,        1.0 / 120,
                                         1.0 / 720,     1.0 / 5040,     1.0 / 40320,     1.0 / 362880,
                                         1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};
    if (x != x) {
        return x;
    }
    if (x > 709.8) {
        return INFINITY;
    }
    if (x < -745.2) {
        return 0;
    }
    const int k = (int)(x * 1.4426950408889634 + (x < 0 ? -0.5 : 0.5));
    const double high = x - k * DDI_LN2_HIGH; /* exact */
    const double low = k * DDI_LN2_LOW;
    const double r = high - low;
    const double lost = (high - r) - low;
    double series = coefficient[11];
    for (int i = 10; i >= 0; i--) {
        series = series * r + coefficient[i];
    }
    const double power = 1 + (r + (r * r * series + lost));
    /* Two factors: one alone does not reach the subnormals, nor 2^1024. */
    return power * ddi_power_of_two(k / 2) * ddi_power_of_two(k - k / 2);
}

/* 2^x, exact for whole x. */
static inline double ddi_exp2(double x)
{
    const double whole = floor(x + 0.5);
    if (!(fabs(x) < 2000)) {
        return ddi_exp(x);
    }
    const int k = (int)whole;
    return ddi_exp((x - whole) * (DDI_LN2_HIGH + DDI_LN2_LOW)) * ddi_power_of_two(k / 2) * ddi_power_of_two(k - k / 2);
}

/* ln x = k ln 2 + ln(1+f), 1+f between sqrt(1/2) and sqrt(2). With s = f/(2+f):
 * ln(1+f) = 2 atanh s = 2s + s R, R = 2s^2/3 + 2s^4/5 + .. (next term below 2^-60), and 2s = f - h + s h with h = f^2/2,
 * which leaves f, exact, as the leading term. */
static inline double ddi_log(double x)
{
    static const double coefficient[] = {2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9,  2.0 / 11, 2.0 / 13,
                                         2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21, 2.0 / 23};
    int k = 0;
    if (!(x > 0)) {
        return x == 0 ? -INFINITY : NAN;
    }
    if (x > 0x1.fffffffffffffp1023) {
        return x;
    }
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        k = -54;
    }
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    k += (int)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | (uint64_t)1023 << 52;
    memcpy(&x, &bits, sizeof x);
    if (x > 1.4142135623730951) {
        x *= 0.5;
        k++;
    }
    const double f = x - 1, s = f / (2 + f), z = s * s, h = 0.5 * f * f;
    double series = coefficient[10];
    for (int i = 9; i >= 0; i--) {
        series = series * z + coefficient[i];
    }
    return k * DDI_LN2_HIGH - ((h - (s * (h + z * series) + k * DDI_LN2_LOW)) - f);
}

/* ln(1+x), x >= 0. What rounding 1+x to u lost, x - (u-1), is added back to first order. */
static inline double ddi_log1p(double x)
{
    const double u = 1 + x;
    if (u > 0x1p53) {
        return ddi_log(u);
    }
    return ddi_log(u) + (x - (u - 1)) / u;
}

/* 1/(1+e^-x). 1 - sigmoid(x) = sigmoid(-x) loses nothing. */
static inline double ddi_sigmoid(double x)
{
    const double e = ddi_exp(-fabs(x));
    return (x >= 0 ? 1 : e) / (1 + e);
}

/* ln(1+e^x) = -ln sigmoid(-x). */
static inline double ddi_softplus(double x)
{
    return (x > 0 ? x : 0) + ddi_log1p(ddi_exp(-fabs(x)));
}

/* x^y for x, y >= 0; 0^0 = 1; y = 1 is exact. */
static inline double ddi_power(double x, double y)
{
    if (y == 0) {
        return 1;
    }
    if (y == 1 || x == 0) {
        return x;
    }
    return ddi_exp(y * ddi_log(x));
}

/* pi/2 in three parts; products of the first two with whole numbers below 2^20 are exact. */
#define DDI_HALF_PI_1 0x1.921fb544p+0
#define DDI_HALF_PI_2 0x1.0b4611a6p-34
#define DDI_HALF_PI_3 0x1.3198a2e037073p-69

/* sin and cos of |r| <= pi/4 by their Taylor series: the terms left out are below 2^-56. */
static inline double ddi_sin_small(double r)
{
    const double z = r * r;
    return r + r * z *
                   (-1.0 / 6 +
                    z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880 + z * (-1.0 / 39916800 + z * (1.0 / 6227020800 -
                                                                                                        z / 1307674368000))))));
}

static inline double ddi_cos_small(double r)
{
    const double z = r * r;
    return 1 - z / 2 +
           z * z *
               (1.0 / 24 +
                z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800 + z * (1.0 / 479001600 + z * (-1.0 / 87178291200 +
                                                                                                       z / 20922789888000))))));
}

/* sin(x + quarter * pi/2), |x| below 10^6. */
static inline double ddi_sin_shifted(double x, int64_t quarter)
{
    const double turns = floor(x / (DDI_HALF_PI_1 + DDI_HALF_PI_2) + 0.5);
    const double r = ((x - turns * DDI_HALF_PI_1) - turns * DDI_HALF_PI_2) - turns * DDI_HALF_PI_3;
    const int64_t k = ((int64_t)turns + quarter) & 3;
    const double y = k & 1 ? ddi_cos_small(r) : ddi_sin_small(r);
    return k & 2 ? -y : y;
}

static inline double ddi_sin(double x)
{
    return ddi_sin_shifted(x, 0);
}

static inline double ddi_cos(double x)
{
    return ddi_sin_shifted(x, 1);
}

#endif
