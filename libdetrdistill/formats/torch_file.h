/* SPDX-License-Identifier: Apache-2.0
 * Tensors of a checkpoint that torch.save wrote, without running any of it. */
#ifndef DDI_FORMATS_TORCH_FILE_H
#define DDI_FORMATS_TORCH_FILE_H

#include "formats/tensorfile.h"

/* Whether the bytes begin as a checkpoint of torch.save does: a zip archive, or a pickle. */
bool ddi_torch_is(const ddi_file_map *map);

/* Fills a file of which `map` alone is set. `root` is the way to the state dict, keys with '/' between them ("ema/module", ""
 * for the top level), or NULL: the top level if it has tensors, else the first of state_dict, model, .. that has. Contiguous
 * tensors stay in the mapped bytes; others are copied, and these copies may not take more than the file does plus 64 MiB.
 * Integers that dd_tensor lacks, complex and quantised tensors: DTYPE. On error the caller frees the file. Errors: FORMAT,
 * LIMIT, DTYPE, NOT_FOUND (no state dict at `root`), NOMEM. */
dd_status ddi_torch_read(dd_tensorfile *file, const char *path, const char *root);

#endif
