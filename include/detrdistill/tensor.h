/* SPDX-License-Identifier: Apache-2.0
 * The tensor view: a description of memory that the caller owns. The library's only public struct. */
#ifndef DETRDISTILL_TENSOR_H
#define DETRDISTILL_TENSOR_H

#include <detrdistill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DD_MAX_DIMS 8

enum { DD_F32 = 1, DD_F64 = 2, DD_F16 = 3, DD_BF16 = 4, DD_I32 = 5, DD_I64 = 6, DD_U8 = 7 };

/* Numbers as in DLPack. */
enum { DD_DEVICE_CPU = 1, DD_DEVICE_CUDA = 2 };

enum { DD_TENSOR_READONLY = 1 };

/* A view: it owns nothing. Element (i0, i1, ..) lies at data + (i0*stride[0] + i1*stride[1] + ..) * element size.
 * Strides count elements. Inputs may have any strides, 0 and negative ones too; outputs (gradients) must not overlap
 * themselves. Fill it with dd_tensor_init, which checks it. */
typedef struct dd_tensor {
    uint32_t struct_size; /* sizeof(dd_tensor) of the code that filled it */
    int32_t dtype;        /* DD_F32 .. */
    int32_t ndim;         /* 1 .. DD_MAX_DIMS */
    int32_t device_type;  /* DD_DEVICE_* */
    int32_t device_index; /* 0 for the CPU */
    uint32_t flags;       /* DD_TENSOR_READONLY */
    void *data;           /* host address, or device address on CUDA; aligned to the element size */
    int64_t shape[DD_MAX_DIMS];
    int64_t stride[DD_MAX_DIMS];
    uint64_t reserved; /* 0 */
} dd_tensor;

/* Describes memory. `shape` has `ndim` entries, each >= 0 (0 makes an empty tensor, whose data may be NULL);
 * `stride` has `ndim` entries or is NULL for C order. Nothing is read from `data`.
 * Errors: ARGUMENT (NULL, bad ndim, negative size, misaligned data, unknown flags), DTYPE, DEVICE,
 * LIMIT (2^40 elements, 2^42 bytes). On error *tensor is untouched. Any thread. */
DD_API dd_status dd_tensor_init(dd_tensor *tensor, void *data, int32_t dtype, int32_t ndim, const int64_t *shape,
                                const int64_t *stride, int32_t device_type, int32_t device_index, uint32_t flags);

/* Bytes of one element, 0 for an unknown dtype. */
DD_API int64_t dd_dtype_size(int32_t dtype);

/* "f32", "bf16", ..; "?" for an unknown dtype. Static. */
DD_API const char *dd_dtype_name(int32_t dtype);

#ifdef __cplusplus
}
#endif
#endif
