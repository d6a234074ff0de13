/* SPDX-License-Identifier: Apache-2.0
 * Strided tensors of any type from and to contiguous reals, and the search for NaN and infinities. */
#include "device.cuh"
#include "scalar.cuh"

#include <string.h>

namespace {
constexpr int BLOCK = 256;

/* A binary format of 16 bits: sign, exponent, mantissa. */
template <int EXPONENT, int MANTISSA> struct short_float {
    static constexpr int bias = (1 << (EXPONENT - 1)) - 1;
    static constexpr uint64_t infinity = (uint64_t)((1 << EXPONENT) - 1) << MANTISSA;

    static __device__ double read(uint16_t bits)
    {
        int exponent = bits >> MANTISSA & ((1 << EXPONENT) - 1), mantissa = bits & ((1 << MANTISSA) - 1);
        double size = exponent == (1 << EXPONENT) - 1 ? (mantissa ? (double)NAN : (double)INFINITY)
                      : exponent == 0                 ? ldexp((double)mantissa, 1 - bias - MANTISSA)
                                                      : ldexp((double)(mantissa + (1 << MANTISSA)), exponent - bias - MANTISSA);
        return bits >> 15 ? -size : size;
    }

    /* Nearest, ties to even, in one rounding. A carry out of the mantissa moves on to the exponent by itself. */
    static __device__ uint16_t write(double x)
    {
        uint64_t bits;
        memcpy(&bits, &x, sizeof bits);
        uint16_t sign = (uint16_t)(bits >> 63 << 15);
        int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
        if (x != x)
            return (uint16_t)(sign | infinity | (uint64_t)1 << (MANTISSA - 1));
        if (exponent > bias)
            return (uint16_t)(sign | infinity);
        uint64_t significand = (bits & 0xfffffffffffffu) | (uint64_t)1 << 52;
        int below_normal = exponent < 1 - bias ? 1 - bias - exponent : 0, drop = 52 - MANTISSA + below_normal;
        if (drop > 54)
            return sign;
        uint64_t kept = (significand + ((uint64_t)1 << (drop - 1)) - 1 + (significand >> drop & 1)) >> drop;
        return (uint16_t)(sign | (below_normal ? kept : ((uint64_t)(exponent + bias - 1) << MANTISSA) + kept));
    }
};
typedef short_float<5, 10> f16;
typedef short_float<8, 7> bf16;

template <class T> __device__ T load(const void *data, int32_t dtype, int64_t at)
{
    switch (dtype) {
    case DD_F32:
        return (T)((const float *)data)[at];
    case DD_F64:
        return (T)((const double *)data)[at];
    case DD_F16:
        return (T)f16::read(((const uint16_t *)data)[at]);
    case DD_BF16:
        return (T)bf16::read(((const uint16_t *)data)[at]);
    case DD_I32:
        return (T)((const int32_t *)data)[at];
    case DD_I64:
        return (T)((const int64_t *)data)[at];
    default:
        return (T)((const uint8_t *)data)[at];
    }
}

template <class T> __device__ void store(void *data, int32_t dtype, int64_t at, T x)
{
    switch (dtype) {
    case DD_F32:
        ((float *)data)[at] = (float)x;
        break;
    case DD_F64:
        ((double *)data)[at] = (double)x;
        break;
    case DD_F16:
        ((uint16_t *)data)[at] = f16::write((double)x);
        break;
    default:
        ((uint16_t *)data)[at] = bf16::write((double)x);
    }
}

/* A shape and the strides of up to two tensors of it. */
struct layout {
    int64_t count;
    int32_t ndim;
    int64_t shape[DD_MAX_DIMS], stride[2][DD_MAX_DIMS];
};

/* Joins axes that both tensors walk as one: fewer divisions for each element. */
layout make_layout(int32_t ndim, const int64_t *shape, const int64_t *first, const int64_t *second)
{
    layout all = {1, 0, {0}, {{0}}};
    for (int32_t axis = 0; axis < ndim; ++axis) {
        const int64_t stride[2] = {first[axis], second ? second[axis] : 0};
        all.count *= shape[axis];
        int32_t last = all.ndim - 1;
        bool joined = last >= 0;
        for (int t = 0; joined && t < 2; ++t)
            joined = all.stride[t][last] == (t == 1 && !second ? 0 : stride[t] * shape[axis]);
        if (!joined)
            last = all.ndim++;
        all.shape[last] = joined ? all.shape[last] * shape[axis] : shape[axis];
        all.stride[0][last] = stride[0];
        all.stride[1][last] = stride[1];
    }
    return all;
}

/* Where element i (in C order) lies in the two tensors. 32-bit division is several times faster where it is enough. */
__device__ void places(const layout &all, int64_t i, int64_t place[2])
{
    place[0] = place[1] = 0;
    for (int32_t axis = all.ndim - 1; axis >= 0; --axis) {
        int64_t coordinate;
        if (all.count < ((int64_t)1 << 31)) {
            unsigned size = (unsigned)all.shape[axis], rest = (unsigned)i / size;
            coordinate = (unsigned)i - rest * size;
            i = rest;
        } else {
            coordinate = i % all.shape[axis];
            i /= all.shape[axis];
        }
        place[0] += coordinate * all.stride[0][axis];
        place[1] += coordinate * all.stride[1][axis];
    }
}

template <class T> __device__ T sanitised(T x)
{
    return x != x ? T(0) : is_finite(x) ? x : x > 0 ? T(1e4) : T(-1e4);
}

template <class T> __global__ void gather(layout all, const void *src, int32_t dtype, T *dst, bool sanitise)
{
    for (int64_t i = (int64_t)blockIdx.x * BLOCK + threadIdx.x; i < all.count; i += (int64_t)gridDim.x * BLOCK) {
        int64_t place[2];
        places(all, i, place);
        T x = load<T>(src, dtype, place[0]);
        dst[i] = sanitise ? sanitised(x) : x;
    }
}

template <class T>
__global__ void scatter(layout all, const T *src, void *dst, int32_t dtype, const void *zero_where, int32_t zero_dtype)
{
    for (int64_t i = (int64_t)blockIdx.x * BLOCK + threadIdx.x; i < all.count; i += (int64_t)gridDim.x * BLOCK) {
        int64_t place[2];
        places(all, i, place);
        bool zero = zero_where && !is_finite(load<T>(zero_where, zero_dtype, place[1]));
        store(dst, dtype, place[0], zero ? T(0) : src[i]);
    }
}

template <class T>
__global__ void check_finite(const T *x, int64_t images, int64_t inner, int64_t count, int64_t *first, int32_t *image_bad)
{
    for (int64_t i = (int64_t)blockIdx.x * BLOCK + threadIdx.x; i < count; i += (int64_t)gridDim.x * BLOCK) {
        if (is_finite(x[i]))
            continue;
        atomicMin((unsigned long long *)first, (unsigned long long)i); /* "none" is -1, the highest unsigned number */
        if (image_bad)
            image_bad[i / inner % images] = 1;
    }
}

bool is_float(int32_t dtype)
{
    return dtype == DD_F32 || dtype == DD_F64 || dtype == DD_F16 || dtype == DD_BF16;
}
} // namespace

template <class T> dd_status ddc_gather(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_gather);
    if (!is_float(a.src_dtype) && a.src_dtype != DD_I32 && a.src_dtype != DD_I64 && a.src_dtype != DD_U8)
        return DD_ERR_DTYPE;
    layout all = make_layout(a.ndim, a.shape, a.stride, NULL);
    DDC_LAUNCH((gather<T>), ddc_blocks(all.count, BLOCK), BLOCK, 0, all, a.src, a.src_dtype, (T *)a.dst, a.sanitise != 0);
    return DD_OK;
}

template <class T> dd_status ddc_scatter(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_scatter);
    if (!is_float(a.dst_dtype) || (a.zero_where && !is_float(a.zero_dtype)))
        return DD_ERR_DTYPE;
    layout all = make_layout(a.ndim, a.shape, a.stride, a.zero_where ? a.zero_stride : NULL);
    DDC_LAUNCH((scatter<T>), ddc_blocks(all.count, BLOCK), BLOCK, 0, all, (const T *)a.src, a.dst, a.dst_dtype, a.zero_where,
               a.zero_dtype);
    return DD_OK;
}

template <class T> dd_status ddc_check_finite(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_check_finite);
    int64_t count = a.outer * a.images * a.inner;
    DDC_CUDA(cudaMemsetAsync(a.first, 0xff, sizeof *a.first, (cudaStream_t)exec->stream));
    DDC_LAUNCH((check_finite<T>), ddc_blocks(count, BLOCK * 4), BLOCK, 0, (const T *)a.x, a.images, a.inner, count, a.first,
               a.image_bad);
    return DD_OK;
}

DDC_OPERATOR(gather);
DDC_OPERATOR(scatter);
DDC_OPERATOR(check_finite);
