/* SPDX-License-Identifier: Apache-2.0
 * What `compute` asks for: factors of products as they are, or rounded to bf16. */
#ifndef DDI_REF_ROUNDING_H
#define DDI_REF_ROUNDING_H

#include "backend/ref/real.h"
#include <string.h>

/* To the nearest bf16, ties to even. */
static inline double ddi_ref_bf16(double value)
{
    float x = (float)value;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000u) != 0x7f800000u) {
        bits += 0x7fffu + (bits >> 16 & 1);
    }
    bits &= 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline double ddi_ref_factor(real x, int32_t compute)
{
    return compute == DD_COMPUTE_BF16 ? ddi_ref_bf16((double)x) : (double)x;
}

#endif
