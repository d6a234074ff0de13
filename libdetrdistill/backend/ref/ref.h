/* SPDX-License-Identifier: Apache-2.0
 * The reference kernels: every operator of ops.def in plain C, for f32 and f64. They are the definition of correct. */
#ifndef DDI_BACKEND_REF_H
#define DDI_BACKEND_REF_H

#include <detrdistill/sys/backend.h>

/* Both types of every operator, named "ref". Static. The kernels run on host memory, on the calling thread, and of
 * dd_exec use only `scratch`. */
const dd_kernel *ddi_ref_kernels(int32_t *count);

#endif
