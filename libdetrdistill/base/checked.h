/* SPDX-License-Identifier: Apache-2.0
 * Arithmetic on sizes from outside: each result says whether it is valid. */
#ifndef DDI_BASE_CHECKED_H
#define DDI_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

/* *out = a * b, or false when it does not fit (or one is negative). */
static inline bool ddi_mul(int64_t a, int64_t b, int64_t *out)
{
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}

static inline bool ddi_add(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

#endif
