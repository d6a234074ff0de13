/* SPDX-License-Identifier: Apache-2.0 */
#include "values.h"

int64_t count_of(const dd_tensor *t)
{
    int64_t count = 1;
    for (int32_t k = 0; k < t->ndim; k++) {
        count *= t->shape[k];
    }
    return count;
}

double value_at(const dd_tensor *t, int64_t i)
{
    int64_t at = 0;
    for (int32_t k = t->ndim - 1; k >= 0; k--) {
        at += i % t->shape[k] * t->stride[k];
        i /= t->shape[k];
    }
    switch (t->dtype) {
    case DD_F64:
        return ((const double *)t->data)[at];
    case DD_I32:
        return ((const int32_t *)t->data)[at];
    case DD_U8:
        return ((const uint8_t *)t->data)[at];
    default:
        return (double)((const float *)t->data)[at];
    }
}
