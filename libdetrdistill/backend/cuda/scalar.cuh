/* SPDX-License-Identifier: Apache-2.0
 * Functions of one logit: sigmoid, softplus and the focal terms, exact for large |x| (golden README, decision 3). */
#ifndef DDC_SCALAR_CUH
#define DDC_SCALAR_CUH

#include "platform.cuh"

/* p = sigmoid(x), q = 1 - p = sigmoid(-x), softplus(x) = -ln q, softplus(-x) = -ln p, from one exponential. */
template <class T> struct logit_terms {
    T p, q, softplus, softplus_negative;

    __device__ explicit logit_terms(T x)
    {
        T e = exp(x < 0 ? x : -x);
        T tail = log1p(e), larger = 1 / (1 + e), smaller = e / (1 + e);
        p = x < 0 ? smaller : larger;
        q = x < 0 ? larger : smaller;
        softplus = (x > 0 ? x : 0) + tail;
        softplus_negative = (x < 0 ? -x : 0) + tail;
    }
};

template <class T> __device__ inline T sigmoid(T x)
{
    T e = exp(x < 0 ? x : -x);
    return (x < 0 ? e : T(1)) / (1 + e);
}

template <class T> __device__ inline T softplus(T x)
{
    return (x > 0 ? x : 0) + log1p(exp(x < 0 ? x : -x));
}

/* BCE(x, t) = softplus(x) - x t, without the cancellation of x and x t. */
template <class T> __device__ inline T soft_bce(T x, T t)
{
    return (x > 0 ? x * (1 - t) : -x * t) + log1p(exp(x < 0 ? x : -x));
}

/* ln(sigmoid(x) + eps) */
__device__ inline double log_sigmoid_plus(double x, double eps)
{
    double p = sigmoid(x);
    if (x < 0 && eps > 0)
        return log(p + eps);
    return -softplus(-x) + (eps > 0 ? log1p(eps / p) : 0);
}

constexpr double FOCAL_ALPHA = 0.25; /* gamma is 2 */

template <class T> __device__ inline bool is_finite(T x)
{
    return x - x == 0;
}

#endif
