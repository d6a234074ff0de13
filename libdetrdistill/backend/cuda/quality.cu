/* SPDX-License-Identifier: Apache-2.0
 * Teacher entries of the feature loss and their quality (distillation B.2, B.4). The K highest logits are found by a radix
 * selection on (logit, index), then sorted. */
#include "block.cuh"
#include "box.cuh"
#include "device.cuh"
#include "scalar.cuh"

#include <string.h>

namespace {
constexpr int BUCKETS = 256;      /* one for each thread */
constexpr int SHARED_SORT = 2048; /* entries that are sorted in shared memory */

/* Keys ascend where logits descend; -0 equals 0. */
__device__ uint64_t descending(float x)
{
    uint32_t bits;
    x = x == 0 ? 0 : x;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 31 ? bits : ~bits & 0x7fffffffu;
}

__device__ uint64_t descending(double x)
{
    uint64_t bits;
    x = x == 0 ? 0 : x;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 63 ? bits : ~bits & 0x7fffffffffffffffu;
}

struct entry {
    uint64_t key;
    uint32_t index;
};

__device__ bool before(entry a, entry b)
{
    return a.key < b.key || (a.key == b.key && a.index < b.index);
}

/* Digit d of (key, index), most significant first; the key has key_digits, the index four. */
__device__ int digit_of(entry e, int d, int key_digits)
{
    return d < key_digits ? (int)(e.key >> 8 * (key_digits - 1 - d) & 255) : (int)(e.index >> 8 * (3 - (d - key_digits)) & 255);
}

/* The bucket that holds the `wanted`-th entry, counting from 1, and how many lie in the buckets before it. */
struct bucket {
    int number;
    uint32_t below;
};

__device__ bucket find_bucket(const uint32_t *count, uint32_t wanted)
{
    constexpr int SHARE = BUCKETS / WARP; /* neighbouring buckets of one lane of the first warp */
    __shared__ uint32_t total[WARP];
    __shared__ bucket found;
    if (threadIdx.x < WARP) {
        total[threadIdx.x] = 0;
        for (int i = 0; i < SHARE; ++i)
            total[threadIdx.x] += count[threadIdx.x * SHARE + i];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        int lane = 0;
        found = {0, 0};
        while (lane < WARP - 1 && found.below + total[lane] < wanted)
            found.below += total[lane++];
        found.number = lane * SHARE;
        while (found.number < (lane + 1) * SHARE - 1 && found.below + count[found.number] < wanted)
            found.below += count[found.number++];
    }
    __syncthreads();
    return found; /* whoever calls has a barrier before the next call */
}

/* The last of the K first entries of x[0..count), in the order of `before`. */
template <class T> __device__ entry find_last(const T *x, uint32_t count, uint32_t wanted)
{
    __shared__ uint32_t histogram[BUCKETS];
    constexpr int key_digits = sizeof(T);
    entry last = {0, 0},
          mask = {key_digits < 8 ? ~(uint64_t)0 << 8 * (key_digits % 8) : 0, 0}; /* of the digits that are known */
    for (int d = 0; d < key_digits + 4; ++d) {
        histogram[threadIdx.x] = 0;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
            entry e = {descending(x[i]), i};
            if ((e.key & mask.key) == last.key && (e.index & mask.index) == last.index)
                atomicAdd(&histogram[digit_of(e, d, key_digits)], 1u);
        }
        __syncthreads();
        bucket found = find_bucket(histogram, wanted);
        bool is_whole = wanted == found.below + histogram[found.number];
        wanted -= found.below;
        if (d < key_digits) {
            last.key |= (uint64_t)found.number << 8 * (key_digits - 1 - d);
            mask.key |= (uint64_t)255 << 8 * (key_digits - 1 - d);
        } else {
            last.index |= (uint32_t)found.number << 8 * (3 - (d - key_digits));
            mask.index |= (uint32_t)255 << 8 * (3 - (d - key_digits));
        }
        __syncthreads();
        if (is_whole)
            break;
    }
    /* Everything that has the digits found belongs to the first K: fill the others with ones. */
    last.key |= ~mask.key;
    last.index |= ~mask.index;
    return last;
}

/* Bitonic sort of 2^n entries by one block. */
__device__ void sort_entries(entry *list, uint32_t size)
{
    for (uint32_t run = 2; run <= size; run *= 2) {
        for (uint32_t gap = run / 2; gap > 0; gap /= 2) {
            __syncthreads();
            for (uint32_t i = threadIdx.x; i < size; i += THREADS) {
                uint32_t j = i ^ gap;
                bool ascending = (i & run) == 0;
                if (j > i && before(list[j], list[i]) == ascending) {
                    entry other = list[i];
                    list[i] = list[j];
                    list[j] = other;
                }
            }
        }
    }
    __syncthreads();
}

/* A block for each (stage, image): index[0..K) = flat indices of the K highest logits, in order. `size`: K up to a power of 2;
 * spill: room for it where shared memory has none. */
template <class T> __global__ void top_entries(dd_op_quality a, uint32_t size, entry *spill)
{
    __shared__ entry shared_list[SHARED_SORT];
    __shared__ uint32_t found;
    uint32_t count = (uint32_t)a.N * (uint32_t)a.C;
    for (int64_t image = blockIdx.x; image < (int64_t)a.L * a.B; image += gridDim.x) {
        const T *x = (const T *)a.logits + image * count;
        entry *list = spill ? spill + image * size : shared_list;
        entry last = find_last(x, count, (uint32_t)a.K);
        for (uint32_t i = threadIdx.x; i < size; i += THREADS)
            list[i] = {~(uint64_t)0, ~0u};
        if (threadIdx.x == 0)
            found = 0;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
            entry e = {descending(x[i]), i};
            if (!before(last, e))
                list[atomicAdd(&found, 1u)] = e; /* in any order: they are sorted next */
        }
        sort_entries(list, size);
        for (uint32_t k = threadIdx.x; k < (uint32_t)a.K; k += THREADS)
            a.index[image * a.K + k] = (int32_t)list[k].index;
        __syncthreads();
    }
}

__global__ void number_queries(dd_op_quality a)
{
    int64_t count = (int64_t)a.L * a.B * a.K;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS)
        a.index[i] = (int32_t)(i % a.K);
}

__device__ double power(double x, double exponent)
{
    return exponent == 1 ? x : exponent == 0 ? 1 : pow(x, exponent);
}

/* Best overlap of a query with the objects first .. end-1, by a warp. */
template <class T> __device__ double best_iou(const dd_op_quality &a, int64_t query, int64_t b, int32_t first, int32_t end)
{
    const T *size = (const T *)a.sizes + 2 * b;
    corners box = to_corners(load_centre((const T *)a.boxes + query * 4), size[0], size[1]);
    double best = 0;
    for (int32_t g = first + (int32_t)(threadIdx.x % WARP); g < end; g += WARP) {
        corners object = to_corners(load_centre((const T *)a.gt_boxes + (int64_t)g * 4), size[0], size[1]);
        best = fmax(best, iou(box, object, 1e-6));
    }
    return warp_max(best);
}

/* Highest logit of a query, by a warp. */
template <class T> __device__ T best_class(const T *x, int32_t classes)
{
    T best = (T)-INFINITY;
    for (int32_t c = threadIdx.x % WARP; c < classes; c += WARP)
        best = x[c] > best ? x[c] : best;
    return warp_max(best);
}

/* A warp for each entry. */
template <class T> __global__ void entry_quality(dd_op_quality a)
{
    int64_t entries = (int64_t)a.L * a.B * a.K;
    for (int64_t at = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP; at < entries; at += (int64_t)gridDim.x * WARPS) {
        int64_t image = at / a.K, b = image % a.B;
        int32_t index = a.index[at];
        int64_t query = image * a.N + (a.all_queries ? index : index / a.C);
        T logit = a.all_queries ? best_class((const T *)a.logits + query * a.C, a.C)
                                : ((const T *)a.logits)[image * a.N * a.C + index];
        double score = power((double)sigmoid(logit), a.gamma_class);
        int32_t first = a.gt_offsets[b], end = a.gt_offsets[b + 1], object = a.matched ? a.match[query] : 0;
        if (a.matched && object >= 0) {
            first += object;
            end = first + 1;
        }
        double overlap = best_iou<T>(a, query, b, first, end);
        if (a.matched && object < 0)
            score = 0;
        else if (first != end)
            score *= power(overlap, a.gamma_iou);
        if (threadIdx.x % WARP == 0)
            ((T *)a.quality)[at] = (T)score;
    }
}
} // namespace

template <class T> dd_status ddc_quality(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_quality);
    int64_t images = (int64_t)a.L * a.B, entries = images * a.K;
    if (entries == 0)
        return DD_OK;
    if (a.all_queries) {
        DDC_LAUNCH(number_queries, ddc_blocks(entries, THREADS), THREADS, 0, a);
    } else {
        int64_t size = 1;
        entry *spill = NULL;
        while (size < a.K)
            size *= 2;
        if (size > SHARED_SORT)
            DDC_TRY(ddc_scratch(exec, images * size, &spill));
        DDC_LAUNCH((top_entries<T>), ddc_blocks(images), THREADS, 0, a, (uint32_t)size, spill);
    }
    DDC_LAUNCH((entry_quality<T>), ddc_blocks(entries, WARPS), THREADS, 0, a);
    return DD_OK;
}

DDC_OPERATOR(quality);
