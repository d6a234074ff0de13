/* SPDX-License-Identifier: Apache-2.0
 * CUDA on the CPU, for tests: what the sources of libdetrdistill/backend/cuda need to compile with g++ and run. The threads of
 * a block are fibers that run in turn, forwards or backwards, and change at barriers and warp operations alone; so a kernel
 * that races gives different results in the two orders. Blocks run one after the other. Wrong use (threads that miss a
 * barrier, a launch outside the hardware's limits) ends the process with a sentence. */
#ifndef EMULATE_H
#define EMULATE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __shared__ static /* blocks and launches run one at a time */
#define __launch_bounds__(threads)
#define DD_DYNAMIC_SHARED(name) unsigned char *name = emulate::shared_memory

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emulate {
extern dim3 thread, block, block_size, grid_size;
extern unsigned char *shared_memory;

/* Runs body(context) for each thread of the grid. */
void launch(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, void (*body)(void *context), void *context);
void block_barrier();
/* Waits for all lanes of the warp; gives every lane what each of them brought. */
const uint64_t *exchange(unsigned lanes, uint64_t mine);

template <class Body> void run_body(void *body)
{
    (*(Body *)body)();
}
template <class Body> void launch_body(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, Body body)
{
    launch(kernel, grid, block, shared_bytes, run_body<Body>, &body);
}
template <class T> uint64_t to_word(T value)
{
    static_assert(sizeof(T) <= 8, "one word");
    uint64_t word = 0;
    memcpy(&word, &value, sizeof value);
    return word;
}
template <class T> T from_word(uint64_t word)
{
    T value;
    memcpy(&value, &word, sizeof value);
    return value;
}
} // namespace emulate

#define threadIdx emulate::thread
#define blockIdx emulate::block
#define blockDim emulate::block_size
#define gridDim emulate::grid_size
#define DD_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                              \
    emulate::launch_body(#kernel, (grid), (block), (shared_bytes), [=]() { kernel(__VA_ARGS__); })

inline void __syncthreads()
{
    emulate::block_barrier();
}

template <class T> T __shfl_xor_sync(unsigned lanes, T value, int mask)
{
    const uint64_t *words = emulate::exchange(lanes, emulate::to_word(value));
    return emulate::from_word<T>(words[(threadIdx.x % 32) ^ (unsigned)mask]);
}

inline unsigned __reduce_min_sync(unsigned lanes, unsigned value)
{
    const uint64_t *words = emulate::exchange(lanes, value);
    uint64_t least = words[0];
    for (int lane = 1; lane < 32; ++lane)
        least = words[lane] < least ? words[lane] : least;
    return (unsigned)least;
}

inline unsigned __ballot_sync(unsigned lanes, int vote)
{
    const uint64_t *words = emulate::exchange(lanes, vote != 0);
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane)
        votes |= (unsigned)words[lane] << lane;
    return votes;
}

inline int __popc(unsigned bits)
{
    return __builtin_popcount(bits);
}

inline int __ffs(int bits)
{
    return __builtin_ffs(bits);
}

inline unsigned __float_as_uint(float x)
{
    return emulate::from_word<unsigned>(emulate::to_word(x));
}

inline long long __double_as_longlong(double x)
{
    return emulate::from_word<long long>(emulate::to_word(x));
}

template <class T> T atomicMin(T *place, T value)
{
    T before = *place;
    *place = value < before ? value : before;
    return before;
}

template <class T> T atomicMax(T *place, T value)
{
    T before = *place;
    *place = value > before ? value : before;
    return before;
}

template <class T> T atomicAdd(T *place, T value)
{
    T before = *place;
    *place = before + value;
    return before;
}

/* The runtime's functions that the module calls, with the runtime's numbers. */
enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorLaunchFailure = 719
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
typedef struct emulated_stream *cudaStream_t;
struct cudaDeviceProp {
    char name[256];
    int major, minor;
    size_t totalGlobalMem;
};

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaGetLastError();
const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);

#endif
