/* SPDX-License-Identifier: Apache-2.0
 * Tensors bound by name. */
#include "match/inputs.h"
#include "base/error.h"
#include "tensor/tensor.h"

#include <math.h>
#include <string.h>

static const char *name_at(const void *inputs, int32_t i)
{
    return ((const ddi_input *)inputs)[i].name;
}

static dd_status check_kind(const ddi_input *in, const dd_tensor *t)
{
    bool index = t->dtype == DD_I32 || t->dtype == DD_I64;
    bool fits = (in->kind & DDI_REALS && ddi_dtype_is_float(t->dtype)) || (in->kind & DDI_INDICES && index) ||
                (in->kind & DDI_BYTES && t->dtype == DD_U8);
    if (!fits)
        return ddi_fail(DD_ERR_DTYPE, in->name, "%s: element type %s; it takes %s", in->name, dd_dtype_name(t->dtype),
                        in->kind & DDI_REALS     ? "f32, f64, f16 or bf16"
                        : in->kind & DDI_INDICES ? "i32 or i64"
                                                 : "u8");
    return DD_OK;
}

static dd_status check_place(const ddi_exec *x, const ddi_input *in, const dd_tensor *t)
{
    const dd_context *c = x->context;
    bool here = t->device_type == c->backend->device_type && (c->backend->host_memory || t->device_index == c->device_index);
    if (here || (in->anywhere && t->device_type == DD_DEVICE_CPU))
        return DD_OK;
    return ddi_fail(DD_ERR_DEVICE, in->name, "%s: the tensor is on device type %d, number %d, but the context is %s", in->name,
                    t->device_type, t->device_index, c->description);
}

static dd_status check_writable(const ddi_input *in, const dd_tensor *t)
{
    if (t->flags & DD_TENSOR_READONLY)
        return ddi_fail(DD_ERR_ARGUMENT, in->name, "%s: a gradient is written, but the tensor is read-only", in->name);
    if (ddi_tensor_overlaps_itself(t))
        return ddi_fail(DD_ERR_ARGUMENT, in->name, "%s: a gradient is written, but elements of the tensor share memory",
                        in->name);
    return DD_OK;
}

/* A gradient must not share memory with any other bound tensor: it is written while those are read. */
static dd_status check_alias(const ddi_input *in, const dd_tensor *t, const ddi_input *all, int32_t count)
{
    uintptr_t low, high, other_low, other_high;
    ddi_tensor_span(t, &low, &high);
    for (int32_t i = 0; i < count; i++) {
        if (!all[i].bound || &all[i] == in || !(in->writable || all[i].writable) || all[i].tensor.device_type != t->device_type)
            continue;
        ddi_tensor_span(&all[i].tensor, &other_low, &other_high);
        if (low < other_high && other_low < high)
            return ddi_fail(DD_ERR_ARGUMENT, in->name, "%s: shares memory with %s; a gradient needs memory of its own",
                            in->name, all[i].name);
    }
    return DD_OK;
}

dd_status ddi_inputs_bind(ddi_exec *x, ddi_input *input, int32_t count, const char *name, const dd_tensor *tensor)
{
    for (int32_t i = 0; i < count; i++) {
        ddi_input *in = &input[i];
        if (strcmp(in->name, name) != 0)
            continue;
        if (!tensor) {
            in->bound = false;
            return DD_OK;
        }
        DDI_TRY(ddi_tensor_check(tensor, in->name));
        DDI_TRY(check_kind(in, tensor));
        DDI_TRY(check_place(x, in, tensor));
        char shape[160];
        if (in->dims && tensor->ndim != in->dims)
            return ddi_fail(DD_ERR_SHAPE, in->name, "%s: shape %s; it needs %d dimensions", in->name,
                            ddi_shape_text(tensor, shape), in->dims);
        if (in->writable)
            DDI_TRY(check_writable(in, tensor));
        DDI_TRY(check_alias(in, tensor, input, count));
        in->tensor = *tensor;
        in->bound = true;
        return DD_OK;
    }
    const char *nearest = ddi_nearest(name, name_at, input, 0);
    for (int32_t i = 0; i < count && !nearest; i++) /* inputs are structs, not a plain list of names */
        nearest = ddi_nearest(name, name_at, &input[i], 1);
    if (nearest)
        return ddi_fail(DD_ERR_NOT_FOUND, name, "there is no tensor named '%.60s'; did you mean '%s'?", name, nearest);
    return ddi_fail(DD_ERR_NOT_FOUND, name, "there is no tensor named '%.60s' here", name);
}

void ddi_inputs_free(ddi_exec *x, ddi_input *input, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        ddi_buffer_free(x, &input[i].staged);
}

dd_status ddi_input_expect(const ddi_input *in, int32_t dims, const int64_t *shape)
{
    if (!in->bound)
        return ddi_fail(DD_ERR_STATE, in->name, "%s is not bound; this step needs it", in->name);
    dd_tensor wanted = {.ndim = dims};
    bool same = in->tensor.ndim == dims;
    for (int32_t i = 0; i < dims; i++) {
        wanted.shape[i] = shape[i];
        same = same && (shape[i] < 0 || in->tensor.shape[i] == shape[i]);
    }
    char is[160], should[160];
    if (!same)
        return ddi_fail(DD_ERR_SHAPE, in->name, "%s: shape %s; the other tensors need %s (-1: any)", in->name,
                        ddi_shape_text(&in->tensor, is), ddi_shape_text(&wanted, should));
    return DD_OK;
}

static size_t bytes_as(const dd_tensor *t, int32_t dtype)
{
    return (size_t)(ddi_tensor_elements(t) * dd_dtype_size(dtype));
}

dd_status ddi_input_stage(ddi_exec *x, ddi_input *in, int32_t dtype, bool sanitise)
{
    const dd_tensor *t = &in->tensor;
    if (t->dtype == dtype && ddi_tensor_is_contiguous(t) && !sanitise) {
        in->data = t->data;
        return DD_OK;
    }
    DDI_TRY(ddi_buffer_reserve(x, &in->staged, bytes_as(t, dtype), true, in->name));
    in->data = in->staged.data;
    dd_op_gather gather = {.src = t->data, .dst = in->data, .src_dtype = t->dtype, .ndim = t->ndim, .sanitise = sanitise};
    memcpy(gather.shape, t->shape, sizeof gather.shape);
    memcpy(gather.stride, t->stride, sizeof gather.stride);
    return ddi_run(x, DD_OPERATOR_gather, dtype, &gather);
}

dd_status ddi_output_stage(ddi_exec *x, ddi_input *out, int32_t dtype)
{
    const dd_tensor *t = &out->tensor;
    if (t->dtype == dtype && ddi_tensor_is_contiguous(t)) {
        out->data = t->data;
        return DD_OK;
    }
    DDI_TRY(ddi_buffer_reserve(x, &out->staged, bytes_as(t, dtype), true, out->name));
    out->data = out->staged.data;
    return DD_OK;
}

dd_status ddi_output_deliver(ddi_exec *x, ddi_input *out, int32_t dtype, const ddi_input *source)
{
    const dd_tensor *t = &out->tensor;
    if (out->data == t->data && !source)
        return DD_OK;
    dd_op_scatter scatter = {.src = out->data, .dst = t->data, .dst_dtype = t->dtype, .ndim = t->ndim};
    memcpy(scatter.shape, t->shape, sizeof scatter.shape);
    memcpy(scatter.stride, t->stride, sizeof scatter.stride);
    if (source) {
        scatter.zero_where = source->tensor.data;
        scatter.zero_dtype = source->tensor.dtype;
        memcpy(scatter.zero_stride, source->tensor.stride, sizeof scatter.zero_stride);
    }
    if (out->data == t->data) { /* the operator's output must not alias its input */
        DDI_TRY(ddi_buffer_reserve(x, &out->staged, bytes_as(t, dtype), true, out->name));
        DDI_TRY(ddi_copy(x, out->staged.data, out->data, bytes_as(t, dtype), DD_COPY_ON_DEVICE));
        scatter.src = out->staged.data;
    }
    return ddi_run(x, DD_OPERATOR_scatter, dtype, &scatter);
}

dd_status ddi_output_zero(ddi_exec *x, ddi_input *out, int32_t dtype)
{
    DDI_TRY(ddi_output_stage(x, out, dtype));
    DDI_TRY(ddi_zero(x, out->data, bytes_as(&out->tensor, dtype)));
    return ddi_output_deliver(x, out, dtype, NULL);
}

void ddi_output_clear(ddi_exec *x, const ddi_input *out)
{
    const dd_tensor *t = &out->tensor;
    int64_t run = 1, index[DD_MAX_DIMS] = {0}, at = 0, size = dd_dtype_size(t->dtype);
    int32_t outer = t->ndim; /* the dimensions above `outer` lie in one run */
    while (outer > 0 && (t->shape[outer - 1] == 1 || t->stride[outer - 1] == run))
        run *= t->shape[--outer];
    for (int64_t n = run ? ddi_tensor_elements(t) / run : 0; n > 0; n--) {
        x->context->backend->zero(x->base.device, x->base.stream, (char *)t->data + at * size, (size_t)(run * size));
        for (int32_t i = outer - 1; i >= 0; i--) {
            at += t->stride[i];
            if (++index[i] < t->shape[i])
                break;
            at -= t->stride[i] * t->shape[i];
            index[i] = 0;
        }
    }
}

static double half_to_double(uint16_t h)
{
    int32_t exponent = h >> 10 & 31, mantissa = h & 1023;
    double magnitude = exponent == 31  ? (mantissa ? NAN : INFINITY)
                       : exponent == 0 ? ldexp(mantissa, -24)
                                       : ldexp(1024 + mantissa, exponent - 25);
    return h >> 15 ? -magnitude : magnitude;
}

static double element(const dd_tensor *t, const char *p)
{
    union {
        uint32_t bits;
        float value;
    } wide;
    uint16_t half;
    float f;
    double d;
    int32_t i32;
    int64_t i64;
    switch (t->dtype) {
    case DD_F32:
        memcpy(&f, p, sizeof f);
        return f;
    case DD_F64:
        memcpy(&d, p, sizeof d);
        return d;
    case DD_F16:
        memcpy(&half, p, sizeof half);
        return half_to_double(half);
    case DD_BF16:
        memcpy(&half, p, sizeof half);
        wide.bits = (uint32_t)half << 16;
        return wide.value;
    case DD_I32:
        memcpy(&i32, p, sizeof i32);
        return i32;
    case DD_I64:
        memcpy(&i64, p, sizeof i64);
        return (double)i64;
    default:
        return *(const uint8_t *)p;
    }
}

/* Visits all elements of a host tensor in C order. */
static void read_elements(const dd_tensor *t, const char *data, double *out)
{
    int64_t index[DD_MAX_DIMS] = {0}, n = ddi_tensor_elements(t), size = dd_dtype_size(t->dtype), at = 0;
    for (int64_t k = 0; k < n; k++) {
        out[k] = element(t, data + at * size);
        for (int32_t i = t->ndim - 1; i >= 0; i--) {
            at += t->stride[i];
            if (++index[i] < t->shape[i])
                break;
            at -= t->stride[i] * t->shape[i];
            index[i] = 0;
        }
    }
}

dd_status ddi_input_to_host_real(ddi_exec *x, const ddi_input *in, double *out)
{
    const dd_tensor *t = &in->tensor;
    if (t->device_type == DD_DEVICE_CPU || ddi_on_host(x)) {
        read_elements(t, t->data, out);
        return DD_OK;
    }
    if (!ddi_tensor_is_contiguous(t))
        return ddi_fail(DD_ERR_ARGUMENT, in->name, "%s: on a device it must be contiguous", in->name);
    size_t bytes = bytes_as(t, t->dtype);
    DDI_TRY(ddi_buffer_reserve(x, &x->host_bytes, bytes, false, in->name));
    DDI_TRY(ddi_copy(x, x->host_bytes.data, t->data, bytes, DD_COPY_TO_HOST));
    DDI_TRY(ddi_sync(x));
    read_elements(t, x->host_bytes.data, out);
    return DD_OK;
}

dd_status ddi_input_to_host(ddi_exec *x, const ddi_input *in, int32_t *out)
{
    int64_t n = ddi_tensor_elements(&in->tensor);
    DDI_TRY(ddi_buffer_reserve(x, &x->host_values, (size_t)n * sizeof(double), false, in->name));
    double *values = x->host_values.data;
    DDI_TRY(ddi_input_to_host_real(x, in, values));
    for (int64_t i = 0; i < n; i++) {
        if (values[i] < INT32_MIN || values[i] > INT32_MAX)
            return ddi_fail(DD_ERR_ARGUMENT, in->name, "%s: entry %lld is out of range", in->name, (long long)i);
        out[i] = (int32_t)values[i];
    }
    return DD_OK;
}
