/* SPDX-License-Identifier: Apache-2.0
 * Asks the processor once; the compiler's run-time check includes the registers that the operating system saves. */
#include "base/cpu.h"
#include <detrdistill/sys/backend.h>

static int32_t detect(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw"))
        return DD_ISA_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return DD_ISA_AVX2;
#endif
    return DD_ISA_NONE;
}

int32_t ddi_cpu_isa(void)
{
    static int32_t known = -1; /* every thread writes the same value */
    int32_t isa = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (isa < 0) {
        isa = detect();
        __atomic_store_n(&known, isa, __ATOMIC_RELAXED);
    }
    return isa;
}
