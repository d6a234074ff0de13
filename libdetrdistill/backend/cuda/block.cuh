/* SPDX-License-Identifier: Apache-2.0
 * Sums and extrema over a warp or a block. The order of every sum is a tree that the shape alone fixes. */
#ifndef DDC_BLOCK_CUH
#define DDC_BLOCK_CUH

#include "platform.cuh"

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int THREADS = 256; /* of a block, where nothing speaks for another number */
constexpr int WARPS = THREADS / WARP;

/* Tiles over maps [channels, positions]: a warp reads TILE neighbouring positions of one channel, ROWS warps share the
 * channels. */
constexpr int TILE = 32;
constexpr int ROWS = THREADS / TILE;

template <class T> __device__ inline T warp_sum(T value)
{
    for (int step = WARP / 2; step > 0; step /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, step);
    return value;
}

template <class T> __device__ inline T warp_max(T value)
{
    for (int step = WARP / 2; step > 0; step /= 2) {
        T other = __shfl_xor_sync(ALL_LANES, value, step);
        value = other > value ? other : value;
    }
    return value;
}

/* Sum over a block of THREADS threads; every thread gets it. */
template <class T> __device__ inline T block_sum(T value)
{
    __shared__ T part[WARPS];
    value = warp_sum(value);
    __syncthreads(); /* the last call's readers are done */
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = value;
    __syncthreads();
    T sum = part[0];
    for (int warp = 1; warp < WARPS; ++warp)
        sum += part[warp];
    return sum;
}

template <class T> __device__ inline T block_max(T value)
{
    __shared__ T part[WARPS];
    value = warp_max(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = value;
    __syncthreads();
    T most = part[0];
    for (int warp = 1; warp < WARPS; ++warp)
        most = part[warp] > most ? part[warp] : most;
    return most;
}

/* Sum over the ROWS threads that share a column of a TILE x ROWS block; they all get it. */
template <class T> __device__ inline T column_sum(T value)
{
    __shared__ T part[ROWS][TILE];
    int row = threadIdx.x / TILE, column = threadIdx.x % TILE;
    __syncthreads();
    part[row][column] = value;
    __syncthreads();
    T sum = part[0][column];
    for (int other = 1; other < ROWS; ++other)
        sum += part[other][column];
    return sum;
}

#endif
