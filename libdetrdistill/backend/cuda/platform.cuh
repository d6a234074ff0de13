/* SPDX-License-Identifier: Apache-2.0
 * CUDA, or the emulator of tests/cuda that runs the same kernels on the CPU. The only place that tells the two apart. */
#ifndef DDC_PLATFORM_CUH
#define DDC_PLATFORM_CUH

#ifdef DD_CUDA_EMULATED
#include "emulate.h"
#else
#include <cuda_runtime.h>
#define DD_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                              \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define DD_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

#endif
