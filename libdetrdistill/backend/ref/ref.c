/* SPDX-License-Identifier: Apache-2.0
 * The table of reference kernels, made from ops.def: an operator without a kernel does not link. */
#include "backend/ref/ref.h"

#define DD_OP(name, type, text)                                                                                                \
    dd_status ddi_ref_f32_##name(dd_exec *exec, const void *args);                                                             \
    dd_status ddi_ref_f64_##name(dd_exec *exec, const void *args);
#include <detrdistill/sys/ops.def>
#undef DD_OP

static const dd_kernel kernels[] = {
#define DD_OP(name, type, text)                                                                                                \
    {DD_OPERATOR_##name, DD_F32, DD_ISA_NONE, 0, "ref", ddi_ref_f32_##name, NULL},                                             \
        {DD_OPERATOR_##name, DD_F64, DD_ISA_NONE, 0, "ref", ddi_ref_f64_##name, NULL},
#include <detrdistill/sys/ops.def>
#undef DD_OP
};

const dd_kernel *ddi_ref_kernels(int32_t *count)
{
    *count = (int32_t)(sizeof kernels / sizeof kernels[0]);
    return kernels;
}
