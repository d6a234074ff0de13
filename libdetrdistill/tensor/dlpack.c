/* SPDX-License-Identifier: Apache-2.0
 * DLPack 1.x to and from tensor views. */
#include "base/alloc.h"
#include "base/error.h"
#include "tensor/tensor.h"
#include <detrdistill/dlpack.h>

#include <string.h>

_Static_assert(sizeof(dd_dl_tensor) == 48, "layout of DLTensor");
_Static_assert(sizeof(dd_dl_managed_versioned) == 80, "layout of DLManagedTensorVersioned");

enum { CODE_INT = 0, CODE_UINT = 1, CODE_FLOAT = 2, CODE_BFLOAT = 4, CODE_BOOL = 6, DEVICE_CUDA_HOST = 3 };

static const struct {
    uint8_t code, bits;
    int32_t dtype;
} types[] = {{CODE_FLOAT, 32, DD_F32}, {CODE_FLOAT, 64, DD_F64}, {CODE_FLOAT, 16, DD_F16}, {CODE_BFLOAT, 16, DD_BF16},
             {CODE_INT, 32, DD_I32},   {CODE_INT, 64, DD_I64},   {CODE_UINT, 8, DD_U8},    {CODE_BOOL, 8, DD_U8}};

enum { TYPES = sizeof types / sizeof types[0] };

static dd_status view(dd_tensor *tensor, const dd_dl_tensor *s, uint32_t flags)
{
    int32_t dtype = 0;
    for (int i = 0; i < TYPES && !dtype; i++)
        if (types[i].code == s->type_code && types[i].bits == s->type_bits && s->type_lanes == 1)
            dtype = types[i].dtype;
    if (!dtype)
        return ddi_fail(DD_ERR_DTYPE, NULL, "DLPack type code %d with %d bits and %d lanes has no counterpart here",
                        s->type_code, s->type_bits, s->type_lanes);
    /* pinned host memory is host memory */
    int32_t device = s->device_type == DEVICE_CUDA_HOST ? DD_DEVICE_CPU : s->device_type;
    char *data = s->data ? (char *)s->data + s->byte_offset : NULL;
    int64_t one = 1;
    bool scalar = s->ndim == 0; /* a number is a tensor of one element */
    return dd_tensor_init(tensor, data, dtype, scalar ? 1 : s->ndim, scalar ? &one : s->shape, scalar ? NULL : s->strides,
                          device, device == DD_DEVICE_CPU ? 0 : s->device_id, flags);
}

dd_status dd_tensor_from_dlpack(dd_tensor *tensor, const dd_dl_tensor *source)
{
    ddi_error_clear();
    if (!tensor || !source)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_tensor_from_dlpack: %s is NULL", tensor ? "source" : "tensor");
    return view(tensor, source, 0);
}

dd_status dd_tensor_from_dlpack_versioned(dd_tensor *tensor, const dd_dl_managed_versioned *source)
{
    ddi_error_clear();
    if (!tensor || !source)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_tensor_from_dlpack_versioned: %s is NULL", tensor ? "source" : "tensor");
    if (source->major != 1)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "DLPack version %u.%u; this library reads 1.x", source->major, source->minor);
    return view(tensor, &source->tensor, source->flags & 1 ? DD_TENSOR_READONLY : 0);
}

typedef struct exported {
    dd_dl_managed_versioned managed;
    int64_t shape[DD_MAX_DIMS], stride[DD_MAX_DIMS];
} exported;

static void delete_exported(dd_dl_managed_versioned *self)
{
    ddi_free(NULL, self);
}

dd_status dd_tensor_to_dlpack(const dd_tensor *tensor, dd_dl_managed_versioned **out)
{
    ddi_error_clear();
    if (!out)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_tensor_to_dlpack: out is NULL");
    DDI_TRY(ddi_tensor_check(tensor, "dd_tensor_to_dlpack"));
    exported *e = ddi_alloc_zero(NULL, 1, sizeof *e);
    if (!e)
        return ddi_fail_nomem(sizeof *e, "a DLPack tensor");
    memcpy(e->shape, tensor->shape, sizeof e->shape);
    memcpy(e->stride, tensor->stride, sizeof e->stride);
    e->managed.major = 1;
    e->managed.minor = 0;
    e->managed.deleter = delete_exported;
    e->managed.flags = tensor->flags & DD_TENSOR_READONLY ? 1 : 0;
    dd_dl_tensor *t = &e->managed.tensor;
    t->data = tensor->data;
    t->device_type = tensor->device_type;
    t->device_id = tensor->device_index;
    t->ndim = tensor->ndim;
    t->shape = e->shape;
    t->strides = e->stride;
    for (int i = 0; i < TYPES; i++) {
        if (types[i].dtype == tensor->dtype) {
            t->type_code = types[i].code;
            t->type_bits = types[i].bits;
            t->type_lanes = 1;
            break;
        }
    }
    *out = &e->managed;
    return DD_OK;
}
