/* SPDX-License-Identifier: Apache-2.0
 * What every reference kernel includes. The kernels are compiled twice: `real` is float with DDI_REF_BITS 32, double with
 * 64, and REF(name) is the kernel's symbol. */
#ifndef DDI_REF_REAL_H
#define DDI_REF_REAL_H

#include "base/checked.h"
#include <detrdistill/sys/backend.h>

#if DDI_REF_BITS == 32
typedef float real;
#define REF(name) ddi_ref_f32_##name
#elif DDI_REF_BITS == 64
typedef double real;
#define REF(name) ddi_ref_f64_##name
#else
#error "DDI_REF_BITS is 32 or 64"
#endif

#define DD_OP(name, type, text) dd_status REF(name)(dd_exec * exec, const void *args);
#include <detrdistill/sys/ops.def>
#undef DD_OP

/* Scratch for count elements; NULL if there is none or the size does not fit. An empty array is not NULL. */
static inline void *ddi_ref_scratch(dd_exec *exec, int64_t count, size_t element)
{
    int64_t bytes;
    if (!ddi_mul(count, (int64_t)element, &bytes)) {
        return NULL;
    }
    return exec->scratch(exec, bytes > 0 ? (size_t)bytes : 1);
}

static inline real ddi_ref_max(real a, real b)
{
    return a > b ? a : b;
}

static inline real ddi_ref_min(real a, real b)
{
    return a < b ? a : b;
}

#endif
