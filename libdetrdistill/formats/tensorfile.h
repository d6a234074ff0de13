/* SPDX-License-Identifier: Apache-2.0
 * Inside a dd_tensorfile: tensors and words that lie in the mapped file or in memory of their own. */
#ifndef DDI_FORMATS_TENSORFILE_H
#define DDI_FORMATS_TENSORFILE_H

#include "base/io.h"
#include "formats/name_index.h"
#include <detrdistill/tensorfile.h>

typedef struct ddi_file_tensor {
    const char *name;
    char *own_name; /* NULL: the name lies in `header` */
    dd_tensor view; /* C order, read-only */
    void *own_data; /* NULL: the data lie in `map` */
} ddi_file_tensor;

typedef struct ddi_file_word {
    const char *key, *value;
    char *own_key, *own_value; /* NULL: it lies in `header` */
} ddi_file_word;

struct dd_tensorfile {
    ddi_file_map map;
    char *header; /* the open file's, strings decoded in place */
    ddi_file_tensor *tensor;
    int32_t tensor_count, tensor_room;
    ddi_name_index tensor_index;
    ddi_file_word *word;
    int32_t word_count, word_room;
    ddi_name_index word_index;
};

/* Room for one more element in an array; false when memory is out. */
bool ddi_file_grow(void **array, int32_t count, int32_t *room, size_t element);

/* The format's name of a dtype ("F32"), and back (0: none; BOOL is read as DD_U8). */
const char *ddi_safetensors_type(int32_t dtype);
int32_t ddi_safetensors_dtype(const char *type);

/* A new handle with the tensors of a file of safetensors or of torch.save; `root`: see ddi_torch_read. Errors: as
 * dd_tensorfile_open. */
dd_status ddi_tensorfile_open(dd_tensorfile **file, const char *path, const char *root);

/* As dd_tensorfile_set for a name that is not there yet, without a copy: the memory, contiguous on the host, must stay as it is
 * until the file is saved and freed. Errors: ARGUMENT, LIMIT, NOMEM. */
dd_status ddi_tensorfile_borrow(dd_tensorfile *file, const char *name, const dd_tensor *tensor);

/* Fills a file of which `map` alone is set; `path` is for error sentences. On error the caller frees it. */
dd_status ddi_safetensors_read(dd_tensorfile *file, const char *path);
dd_status ddi_safetensors_write(const dd_tensorfile *file, const char *path);

#endif
