/* SPDX-License-Identifier: Apache-2.0
 * Strided tensors of any type from and to contiguous reals. */
#include "backend/ref/math.h"
#include "backend/ref/real.h"

/* A binary format of 16 bits: sign, exponent, mantissa. */
typedef struct short_float {
    int exponent_bits, mantissa_bits;
} short_float;

static const short_float f16 = {5, 10}, bf16 = {8, 7};

static double from_short(uint16_t bits, short_float format)
{
    const int bias = (1 << (format.exponent_bits - 1)) - 1;
    const int exponent = bits >> format.mantissa_bits & ((1 << format.exponent_bits) - 1);
    const int mantissa = bits & ((1 << format.mantissa_bits) - 1);
    const double sign = bits >> 15 ? -1 : 1;
    if (exponent == (1 << format.exponent_bits) - 1) {
        return mantissa ? NAN : sign * INFINITY;
    }
    if (exponent == 0) {
        return sign * mantissa * ddi_power_of_two(1 - bias - format.mantissa_bits);
    }
    return sign * (mantissa + (1 << format.mantissa_bits)) * ddi_power_of_two(exponent - bias - format.mantissa_bits);
}

/* Rounds to nearest, ties to even, once: also from double. Too large becomes infinity. */
static uint16_t to_short(double x, short_float format)
{
    const int bias = (1 << (format.exponent_bits - 1)) - 1;
    const uint64_t infinity = (uint64_t)((1 << format.exponent_bits) - 1) << format.mantissa_bits;
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 63 << 15);
    if (x != x) {
        return (uint16_t)(sign | infinity | 1u << (format.mantissa_bits - 1));
    }
    const int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    const uint64_t significand = (bits & 0xfffffffffffffu) | (uint64_t)1 << 52;
    if (exponent > bias) {
        return (uint16_t)(sign | infinity);
    }
    /* Below the smallest normal number the last kept bit stays where it is, so more bits are dropped. */
    const int subnormal = exponent < 1 - bias ? 1 - bias - exponent : 0;
    const int drop = 52 - format.mantissa_bits + subnormal;
    if (drop > 54) {
        return sign;
    }
    const uint64_t half = (uint64_t)1 << (drop - 1), last = significand >> drop & 1;
    const uint64_t kept = (significand + half - 1 + last) >> drop;
    /* `kept` has the leading one of a normal number, and a carry moves on to the exponent by itself. */
    const uint64_t result = subnormal ? kept : ((uint64_t)(exponent + bias - 1) << format.mantissa_bits) + kept;
    return (uint16_t)(sign | result);
}

static real load(const void *data, int32_t dtype, int64_t at)
{
    switch (dtype) {
    case DD_F32:
        return (real)((const float *)data)[at];
    case DD_F64:
        return (real)((const double *)data)[at];
    case DD_F16:
        return (real)from_short(((const uint16_t *)data)[at], f16);
    case DD_BF16:
        return (real)from_short(((const uint16_t *)data)[at], bf16);
    case DD_I32:
        return (real)((const int32_t *)data)[at];
    case DD_I64:
        return (real)((const int64_t *)data)[at];
    default:
        return (real)((const uint8_t *)data)[at];
    }
}

static void store(void *data, int32_t dtype, int64_t at, real x)
{
    switch (dtype) {
    case DD_F32:
        ((float *)data)[at] = (float)x;
        break;
    case DD_F64:
        ((double *)data)[at] = x;
        break;
    case DD_F16:
        ((uint16_t *)data)[at] = to_short(x, f16);
        break;
    default:
        ((uint16_t *)data)[at] = to_short(x, bf16);
    }
}

static int is_float(int32_t dtype)
{
    return dtype == DD_F32 || dtype == DD_F64 || dtype == DD_F16 || dtype == DD_BF16;
}

static int64_t count_of(const int64_t *shape, int32_t ndim)
{
    int64_t count = 1;
    for (int32_t a = 0; a < ndim; a++) {
        count *= shape[a];
    }
    return count;
}

/* Where element i (in C order) of a tensor lies. */
static int64_t place_of(int64_t i, const int64_t *shape, const int64_t *stride, int32_t ndim)
{
    int64_t at = 0;
    for (int32_t a = ndim - 1; a >= 0; a--) {
        at += i % shape[a] * stride[a];
        i /= shape[a];
    }
    return at;
}

static real sanitised(real x)
{
    if (x != x) {
        return 0;
    }
    return isfinite(x) ? x : x > 0 ? (real)1e4 : (real)-1e4;
}

dd_status REF(gather)(dd_exec *exec, const void *args)
{
    const dd_op_gather *op = args;
    real *dst = op->dst;
    if (op->src_dtype < DD_F32 || op->src_dtype > DD_U8) {
        return DD_ERR_DTYPE;
    }
    const int64_t count = count_of(op->shape, op->ndim);
    for (int64_t i = 0; i < count; i++) {
        const real x = load(op->src, op->src_dtype, place_of(i, op->shape, op->stride, op->ndim));
        dst[i] = op->sanitise ? sanitised(x) : x;
    }
    return DD_OK;
}

dd_status REF(scatter)(dd_exec *exec, const void *args)
{
    const dd_op_scatter *op = args;
    const real *src = op->src;
    if (!is_float(op->dst_dtype) || (op->zero_where && !is_float(op->zero_dtype))) {
        return DD_ERR_DTYPE;
    }
    const int64_t count = count_of(op->shape, op->ndim);
    for (int64_t i = 0; i < count; i++) {
        real x = src[i];
        if (op->zero_where) {
            const int64_t at = place_of(i, op->shape, op->zero_stride, op->ndim);
            x = isfinite(load(op->zero_where, op->zero_dtype, at)) ? x : 0;
        }
        store(op->dst, op->dst_dtype, place_of(i, op->shape, op->stride, op->ndim), x);
    }
    return DD_OK;
}
