/* SPDX-License-Identifier: Apache-2.0
 * The tensor view: checks of everything that comes from outside. */
#include "tensor/tensor.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/limits.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Bindings repeat this layout; they compare it at load time, C compares it here. */
_Static_assert(sizeof(dd_tensor) == 168, "dd_tensor is part of the ABI");
_Static_assert(offsetof(dd_tensor, data) == 24 && offsetof(dd_tensor, shape) == 32 && offsetof(dd_tensor, stride) == 96,
               "dd_tensor is part of the ABI");

static const struct {
    const char *name;
    int64_t size;
} dtypes[] = {{"?", 0}, {"f32", 4}, {"f64", 8}, {"f16", 2}, {"bf16", 2}, {"i32", 4}, {"i64", 8}, {"u8", 1}};

int64_t dd_dtype_size(int32_t dtype)
{
    return dtype >= DD_F32 && dtype <= DD_U8 ? dtypes[dtype].size : 0;
}

const char *dd_dtype_name(int32_t dtype)
{
    return dtypes[dtype >= DD_F32 && dtype <= DD_U8 ? dtype : 0].name;
}

bool ddi_dtype_is_float(int32_t dtype)
{
    return dtype >= DD_F32 && dtype <= DD_BF16;
}

static dd_status check_extent(const dd_tensor *t, const char *name)
{
    int64_t elements = 1, reach = 0, bytes;
    bool empty = false;
    for (int32_t i = 0; i < t->ndim; i++) {
        if (t->shape[i] < 0)
            return ddi_fail(DD_ERR_ARGUMENT, name, "%s: dimension %d has the negative size %lld", name, i,
                            (long long)t->shape[i]);
        empty |= t->shape[i] == 0;
    }
    for (int32_t i = 0; i < t->ndim && !empty; i++) {
        if (t->stride[i] == INT64_MIN)
            return ddi_fail(DD_ERR_LIMIT, name, "%s: the stride of dimension %d is out of range", name, i);
        int64_t stride = t->stride[i] < 0 ? -t->stride[i] : t->stride[i], step;
        if (!ddi_mul(elements, t->shape[i], &elements) || elements > DDI_MAX_ELEMENTS)
            return ddi_fail(DD_ERR_LIMIT, name, "%s: more than 2^40 elements", name);
        if (!ddi_mul(stride, t->shape[i] - 1, &step) || !ddi_add(reach, step, &reach) || !ddi_mul(reach, 8, &bytes) ||
            reach * dd_dtype_size(t->dtype) >= DDI_MAX_BYTES)
            return ddi_fail(DD_ERR_LIMIT, name, "%s: its strides reach farther than 2^42 bytes", name);
    }
    if (!empty && !t->data)
        return ddi_fail(DD_ERR_ARGUMENT, name, "%s: data is NULL but the tensor is not empty", name);
    return DD_OK;
}

dd_status ddi_tensor_check(const dd_tensor *t, const char *name)
{
    if (!t)
        return ddi_fail(DD_ERR_ARGUMENT, name, "%s: the tensor is NULL", name);
    if (t->struct_size != sizeof(dd_tensor) || t->reserved != 0)
        return ddi_fail(DD_ERR_ARGUMENT, name,
                        "%s: not a dd_tensor of this library (struct_size %u, not %u); use dd_tensor_init", name,
                        t->struct_size, (unsigned)sizeof(dd_tensor));
    if (dd_dtype_size(t->dtype) == 0)
        return ddi_fail(DD_ERR_DTYPE, name, "%s: unknown element type %d", name, t->dtype);
    if (t->ndim < 1 || t->ndim > DD_MAX_DIMS)
        return ddi_fail(DD_ERR_ARGUMENT, name, "%s: %d dimensions; 1 to %d are possible", name, t->ndim, DD_MAX_DIMS);
    if (t->device_type != DD_DEVICE_CPU && t->device_type != DD_DEVICE_CUDA)
        return ddi_fail(DD_ERR_DEVICE, name, "%s: unknown device type %d", name, t->device_type);
    if (t->device_index < 0 || t->device_index >= 64 || (t->device_type == DD_DEVICE_CPU && t->device_index != 0))
        return ddi_fail(DD_ERR_DEVICE, name, "%s: no device has the index %d", name, t->device_index);
    if (t->flags & ~(uint32_t)DD_TENSOR_READONLY)
        return ddi_fail(DD_ERR_ARGUMENT, name, "%s: unknown flags 0x%x", name, t->flags);
    if ((uintptr_t)t->data % (uintptr_t)dd_dtype_size(t->dtype) != 0)
        return ddi_fail(DD_ERR_ARGUMENT, name, "%s: data is not aligned to its %d-byte elements", name,
                        (int)dd_dtype_size(t->dtype));
    return check_extent(t, name);
}

dd_status dd_tensor_init(dd_tensor *tensor, void *data, int32_t dtype, int32_t ndim, const int64_t *shape,
                         const int64_t *stride, int32_t device_type, int32_t device_index, uint32_t flags)
{
    ddi_error_clear();
    if (!tensor || !shape)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_tensor_init: %s is NULL", tensor ? "shape" : "tensor");
    if (ndim < 1 || ndim > DD_MAX_DIMS)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_tensor_init: %d dimensions; 1 to %d are possible", ndim, DD_MAX_DIMS);
    dd_tensor t = {.struct_size = sizeof t,
                   .dtype = dtype,
                   .ndim = ndim,
                   .device_type = device_type,
                   .device_index = device_index,
                   .flags = flags,
                   .data = data};
    memcpy(t.shape, shape, (size_t)ndim * sizeof *shape);
    int64_t step = 1;
    for (int32_t i = ndim - 1; i >= 0; i--) {
        t.stride[i] = stride ? stride[i] : step;
        if (!ddi_mul(step, shape[i] > 0 ? shape[i] : 1, &step))
            step = INT64_MAX; /* refused below, unless the tensor is empty and its strides mean nothing */
    }
    DDI_TRY(ddi_tensor_check(&t, "dd_tensor_init"));
    *tensor = t;
    return DD_OK;
}

int64_t ddi_tensor_elements(const dd_tensor *t)
{
    int64_t n = 1;
    for (int32_t i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}

bool ddi_tensor_is_contiguous(const dd_tensor *t)
{
    int64_t step = 1;
    for (int32_t i = t->ndim - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != step)
            return ddi_tensor_elements(t) == 0;
        step *= t->shape[i];
    }
    return true;
}

bool ddi_tensor_overlaps_itself(const dd_tensor *t)
{
    /* Sorted by stride, each dimension must step over all that the smaller ones cover. */
    int32_t order[DD_MAX_DIMS], n = 0;
    for (int32_t i = 0; i < t->ndim; i++) {
        if (t->shape[i] == 0)
            return false;
        if (t->shape[i] > 1)
            order[n++] = i;
    }
    for (int32_t i = 1; i < n; i++) {
        for (int32_t j = i; j > 0; j--) {
            int64_t a = t->stride[order[j]], b = t->stride[order[j - 1]];
            if ((a < 0 ? -a : a) >= (b < 0 ? -b : b))
                break;
            int32_t swap = order[j];
            order[j] = order[j - 1];
            order[j - 1] = swap;
        }
    }
    int64_t covered = 0;
    for (int32_t i = 0; i < n; i++) {
        int64_t stride = t->stride[order[i]] < 0 ? -t->stride[order[i]] : t->stride[order[i]];
        if (stride <= covered)
            return true;
        covered += stride * (t->shape[order[i]] - 1);
    }
    return false;
}

void ddi_tensor_span(const dd_tensor *t, uintptr_t *low, uintptr_t *high)
{
    int64_t first = 0, last = 0, size = dd_dtype_size(t->dtype);
    for (int32_t i = 0; i < t->ndim; i++) {
        int64_t reach = t->stride[i] * (t->shape[i] - 1);
        *(reach < 0 ? &first : &last) += reach;
    }
    bool empty = ddi_tensor_elements(t) == 0;
    *low = (uintptr_t)t->data + (uintptr_t)(empty ? 0 : first * size);
    *high = empty ? *low : (uintptr_t)t->data + (uintptr_t)((last + 1) * size);
}

const char *ddi_shape_text(const dd_tensor *t, char text[160])
{
    size_t used = 1;
    text[0] = '[';
    for (int32_t i = 0; i < t->ndim; i++)
        used += (size_t)snprintf(text + used, 160 - used, i ? ",%lld" : "%lld", (long long)t->shape[i]);
    snprintf(text + used, 160 - used, "]");
    return text;
}
