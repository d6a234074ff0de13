/* SPDX-License-Identifier: Apache-2.0
 * The module's own kernels, each for two instruction sets, and those that call other libraries. */
#ifndef DDI_CPU_KERNELS_H
#define DDI_CPU_KERNELS_H

#include <detrdistill/sys/backend.h>

/* X(operator): kernels on f32. */
#define CPU_KERNELS(X)                                                                                                         \
    X(check_finite)                                                                                                            \
    X(gather)                                                                                                                  \
    X(scatter)

#define DECLARE(name)                                                                                                          \
    dd_status cpu_avx512_##name(dd_exec *exec, const void *args);                                                              \
    dd_status cpu_avx2_##name(dd_exec *exec, const void *args);
CPU_KERNELS(DECLARE)
#undef DECLARE

#endif
