/* SPDX-License-Identifier: Apache-2.0
 * Named tensors in a file: safetensors, read without copying, written whole or not at all; checkpoints of torch.save, read. */
#ifndef DETRDISTILL_TENSORFILE_H
#define DETRDISTILL_TENSORFILE_H

#include <detrdistill/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dd_tensorfile dd_tensorfile;

/* Opens and checks a safetensors file (header at most 100,000,000 bytes, 100,000 tensors; every offset in range, in
 * order, without overlap or hole, and equal to dtype x shape). The file is mapped: it must not be changed while open.
 * Element types that dd_tensor lacks make opening fail with DTYPE. A file of torch.save (.pth, both of its formats) is known by
 * its first bytes: the tensors of its state dict are listed (the top level, or the first of the keys state_dict, model,
 * model_state_dict, module, net, ema that holds tensors), whatever else it holds is passed over and never run; what is not
 * contiguous is copied. Errors: ARGUMENT, IO, FORMAT, LIMIT, DTYPE, NOT_FOUND (no state dict), NOMEM. */
DD_API dd_status dd_tensorfile_open(dd_tensorfile **file, const char *path);
/* An empty set of tensors, to be filled by dd_tensorfile_set and saved. Errors: ARGUMENT, NOMEM. */
DD_API dd_status dd_tensorfile_create(dd_tensorfile **file);
DD_API void dd_tensorfile_free(dd_tensorfile *file);

DD_API dd_status dd_tensorfile_count(const dd_tensorfile *file, int32_t *count);
/* Name and view by index, in file order. Views are read-only and live as long as `file`. */
DD_API dd_status dd_tensorfile_at(const dd_tensorfile *file, int32_t index, const char **name, dd_tensor *view);
/* View by name. Errors: NOT_FOUND. */
DD_API dd_status dd_tensorfile_get(const dd_tensorfile *file, const char *name, dd_tensor *view);
/* A word of the file's "__metadata__"; NOT_FOUND where it has none. Borrowed. */
DD_API dd_status dd_tensorfile_metadata(const dd_tensorfile *file, const char *key, const char **value);

/* Copies a host tensor (any strides) under a name; an existing one of that name is replaced. Errors: ARGUMENT, DEVICE, NOMEM,
 * LIMIT. */
DD_API dd_status dd_tensorfile_set(dd_tensorfile *file, const char *name, const dd_tensor *tensor);
DD_API dd_status dd_tensorfile_set_metadata(dd_tensorfile *file, const char *key, const char *value);
/* Writes `path` beside it, syncs, renames: the old file or the new one is there at any time. Errors: IO, NOMEM. */
DD_API dd_status dd_tensorfile_save(const dd_tensorfile *file, const char *path);

#ifdef __cplusplus
}
#endif
#endif
