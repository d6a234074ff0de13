/* SPDX-License-Identifier: Apache-2.0
 * Tensor exchange with other frameworks by DLPack 1.x. The structs repeat the layout of the DLPack standard
 * (dmlc/dlpack, include/dlpack/dlpack.h) under our names, so that no other header is needed. */
#ifndef DETRDISTILL_DLPACK_H
#define DETRDISTILL_DLPACK_H

#include <detrdistill/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dd_dl_tensor {
    void *data;
    int32_t device_type;
    int32_t device_id;
    int32_t ndim;
    uint8_t type_code; /* 0 int, 1 uint, 2 float, 4 bfloat, 6 bool */
    uint8_t type_bits;
    uint16_t type_lanes;
    int64_t *shape;
    int64_t *strides; /* in elements; NULL = C order */
    uint64_t byte_offset;
} dd_dl_tensor;

typedef struct dd_dl_managed {
    dd_dl_tensor tensor;
    void *manager;
    void (*deleter)(struct dd_dl_managed *self);
} dd_dl_managed;

typedef struct dd_dl_managed_versioned {
    uint32_t major;
    uint32_t minor;
    void *manager;
    void (*deleter)(struct dd_dl_managed_versioned *self);
    uint64_t flags; /* bit 0: read only; bit 1: copied */
    dd_dl_tensor tensor;
} dd_dl_managed_versioned;

/* View of a DLTensor, no copy; the view is good as long as the exporter keeps the memory.
 * Errors: as dd_tensor_init. */
DD_API dd_status dd_tensor_from_dlpack(dd_tensor *tensor, const dd_dl_tensor *source);

/* The same for a "dltensor_versioned" capsule's content: checks the major version (1) and keeps its read-only flag. */
DD_API dd_status dd_tensor_from_dlpack_versioned(dd_tensor *tensor, const dd_dl_managed_versioned *source);

/* Describes a view for another framework. *out is the caller's: end it by its own deleter. It holds no reference on the
 * memory, which must outlive it. Errors: ARGUMENT, NOMEM; as dd_tensor_init for a damaged view. */
DD_API dd_status dd_tensor_to_dlpack(const dd_tensor *tensor, dd_dl_managed_versioned **out);

#ifdef __cplusplus
}
#endif
#endif
