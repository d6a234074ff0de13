/* SPDX-License-Identifier: Apache-2.0
 * The entry of libdetrdistill-cpu.so: device functions and the table of kernels. */
#include "backend/cpu/kernels.h"
#include "backend/cpu/libraries.h"
#include "backend/cpu/parallel.h"
#if CPU_HAVE_ONEDNN
#include "backend/cpu/onednn.h"
#endif

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

/* Conversions of half floats; clang's __builtin_cpu_supports does not know them. */
static int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

static int32_t cpu_isa(void)
{
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c()) {
        return DD_ISA_NONE;
    }
    const int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                     __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    return wide ? DD_ISA_AVX512 : DD_ISA_AVX2;
}

static int32_t cpu_score(char *why, size_t why_size)
{
    if (cpu_isa() != DD_ISA_NONE) {
        return 1;
    }
    snprintf(why, why_size, "this processor has no AVX2 with FMA and F16C");
    return 0;
}

static int32_t cpu_device_count(void)
{
    return cpu_isa() != DD_ISA_NONE;
}

static dd_status cpu_device_open(int32_t index, void **device, char *text, size_t text_size)
{
    if (index != 0) {
        snprintf(text, text_size, "there is one CPU device, number 0");
        return DD_ERR_DEVICE;
    }
#if CPU_HAVE_ONEDNN
    if (cpu_onednn_open() != DD_OK) {
        snprintf(text, text_size, "oneDNN did not start");
        return DD_ERR_BACKEND;
    }
#endif
    char libraries[128] = "";
    cpu_libraries_describe(libraries, sizeof libraries);
    snprintf(text, text_size, "%s%s", libraries, cpu_isa() == DD_ISA_AVX512 ? "AVX-512" : "AVX2");
    static int32_t the_device; /* nothing is kept by device */
    *device = &the_device;
    return DD_OK;
}

static void cpu_device_close(void *device)
{
#if CPU_HAVE_ONEDNN
    cpu_onednn_close();
#endif
}

static dd_status cpu_copy(void *device, void *stream, void *dst, const void *src, size_t bytes, int32_t kind)
{
    if (bytes > 0) {
        memcpy(dst, src, bytes);
    }
    return DD_OK;
}

static dd_status cpu_zero(void *device, void *stream, void *dst, size_t bytes)
{
    if (bytes > 0) {
        memset(dst, 0, bytes);
    }
    return DD_OK;
}

static dd_status cpu_sync(void *device, void *stream)
{
    return DD_OK;
}

#define ROW_AVX512(name) {DD_OPERATOR_##name, DD_F32, DD_ISA_AVX512, 0, "avx512", cpu_avx512_##name, NULL},
#define ROW_AVX2(name) {DD_OPERATOR_##name, DD_F32, DD_ISA_AVX2, 0, "avx2", cpu_avx2_##name, NULL},
#define CHOOSY_AVX512(name, test)                                                                                              \
    {DD_OPERATOR_##name, DD_F32, DD_ISA_AVX512, 0, "avx512", cpu_avx512_##name, cpu_avx512_##test},
#define ROW_BF16(name, test)                                                                                                   \
    {DD_OPERATOR_##name, DD_F32, DD_ISA_AVX512, 0, "avx512-bf16", cpu_avx512_bf16_##name, cpu_avx512_bf16_##test},
#define CHOOSY_AVX2(name, test) {DD_OPERATOR_##name, DD_F32, DD_ISA_AVX2, 0, "avx2", cpu_avx2_##name, cpu_avx2_##test},
/* As measured (tests/bench/kernels_bench.c): oneDNN before our own AVX-512 products, OpenBLAS, which chooses its instructions
 * by itself and is slower than both, before our AVX2 ones. */
static const dd_kernel kernels[] = {
#if CPU_HAVE_ONEDNN
    {DD_OPERATOR_matmul, DD_F32, DD_ISA_AVX512, 0, "onednn", cpu_onednn_matmul, cpu_onednn_accepts},
#endif
#if CPU_HAVE_BF16
    CPU_BF16_KERNELS(ROW_BF16)
#endif
        CPU_KERNELS(ROW_AVX512) CPU_CHOOSY_KERNELS(CHOOSY_AVX512)
#if CPU_HAVE_OPENBLAS
            {DD_OPERATOR_matmul, DD_F32, DD_ISA_AVX2, 0, "openblas", cpu_openblas_matmul_f32, NULL},
    {DD_OPERATOR_matmul, DD_F64, DD_ISA_AVX2, 0, "openblas", cpu_openblas_matmul_f64, NULL},
#endif
    CPU_KERNELS(ROW_AVX2) CPU_CHOOSY_KERNELS(CHOOSY_AVX2)};

static const dd_backend backend = {
    .struct_size = sizeof(dd_backend),
    .interface_version = DD_BACKEND_INTERFACE,
    .name = "cpu",
    .host_memory = 1,
    .device_type = DD_DEVICE_CPU,
    .score = cpu_score,
    .device_count = cpu_device_count,
    .isa = cpu_isa,
    .device_open = cpu_device_open,
    .device_close = cpu_device_close,
    .copy = cpu_copy,
    .zero = cpu_zero,
    .sync = cpu_sync,
    .parallel_for = cpu_parallel_for,
    .kernels = kernels,
    .kernel_count = sizeof kernels / sizeof kernels[0],
};

__attribute__((visibility("default"))) const dd_backend *dd_backend_entry(uint32_t interface_version);

const dd_backend *dd_backend_entry(uint32_t interface_version)
{
    return interface_version == DD_BACKEND_INTERFACE ? &backend : NULL;
}
