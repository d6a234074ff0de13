/* SPDX-License-Identifier: Apache-2.0
 * Saves a set of tensors as a safetensors file. The data come largest element type first, then by name, behind a header
 * padded to a multiple of 8 bytes: so each tensor is aligned to its element size, as the Python package does it. */
#include "base/alloc.h"
#include "base/error.h"
#include "base/limits.h"
#include "formats/tensorfile.h"
#include "tensor/tensor.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Text that grows. Once memory is out it stays as it is and `failed` is set. */
typedef struct text {
    char *data;
    size_t size, room;
    bool failed;
} text;

static void put(text *t, const char *bytes, size_t size)
{
    if (!t->failed && t->size + size > t->room) {
        size_t room = (t->size + size) * 2;
        char *grown = ddi_realloc(NULL, t->data, room);
        if (!grown) {
            t->failed = true;
        } else {
            t->data = grown;
            t->room = room;
        }
    }
    if (t->failed)
        return;
    memcpy(t->data + t->size, bytes, size);
    t->size += size;
}

static void put_text(text *t, const char *string)
{
    put(t, string, strlen(string));
}

static void put_number(text *t, int64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRId64, number);
    put_text(t, digits);
}

/* A JSON string; what may stand as it is (all of UTF-8 but quotes, backslashes and control characters) does. */
static void put_string(text *t, const char *string)
{
    put_text(t, "\"");
    while (*string) {
        size_t plain = 0;
        while ((unsigned char)string[plain] >= 0x20 && string[plain] != '"' && string[plain] != '\\')
            plain++;
        put(t, string, plain);
        string += plain;
        if (*string) {
            char escape[8];
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)(unsigned char)*string++);
            put_text(t, escape);
        }
    }
    put_text(t, "\"");
}

static int64_t byte_count(const dd_tensor *view)
{
    return ddi_tensor_elements(view) * dd_dtype_size(view->dtype);
}

static void put_metadata(text *t, const dd_tensorfile *file)
{
    put_text(t, "\"__metadata__\":{");
    for (int32_t i = 0; i < file->word_count; i++) {
        const ddi_file_word *word = &file->word[file->word_index.sorted[i].number];
        put_text(t, i ? "," : "");
        put_string(t, word->key);
        put_text(t, ":");
        put_string(t, word->value);
    }
    put_text(t, "}");
}

static void put_tensor(text *t, const ddi_file_tensor *tensor, int64_t begin)
{
    put_string(t, tensor->name);
    put_text(t, ":{\"dtype\":\"");
    put_text(t, ddi_safetensors_type(tensor->view.dtype));
    put_text(t, "\",\"shape\":[");
    for (int32_t i = 0; i < tensor->view.ndim; i++) {
        put_text(t, i ? "," : "");
        put_number(t, tensor->view.shape[i]);
    }
    put_text(t, "],\"data_offsets\":[");
    put_number(t, begin);
    put_text(t, ",");
    put_number(t, begin + byte_count(&tensor->view));
    put_text(t, "]}");
}

static void put_header(text *t, const dd_tensorfile *file, const ddi_file_tensor *const *order)
{
    int64_t begin = 0;
    put_text(t, "{");
    if (file->word_count)
        put_metadata(t, file);
    for (int32_t i = 0; i < file->tensor_count; i++) {
        put_text(t, i || file->word_count ? "," : "");
        put_tensor(t, order[i], begin);
        begin += byte_count(&order[i]->view);
    }
    put_text(t, "}");
    while (t->size % 8 && !t->failed)
        put_text(t, " ");
}

static int by_size_and_name(const void *a, const void *b)
{
    const ddi_file_tensor *x = *(const ddi_file_tensor *const *)a, *y = *(const ddi_file_tensor *const *)b;
    int64_t x_size = dd_dtype_size(x->view.dtype), y_size = dd_dtype_size(y->view.dtype);
    return x_size != y_size ? (x_size > y_size ? -1 : 1) : strcmp(x->name, y->name);
}

static dd_status write_file(const dd_tensorfile *file, const char *path, text *header, const ddi_file_tensor **order,
                            ddi_file_piece *pieces)
{
    size_t count = (size_t)file->tensor_count;
    for (size_t i = 0; i < count; i++)
        order[i] = &file->tensor[i];
    if (count)
        qsort(order, count, sizeof *order, by_size_and_name);
    put_header(header, file, order);
    if (header->failed)
        return ddi_fail_nomem(header->room, "the header of a safetensors file");
    if (header->size > DDI_MAX_SAFETENSORS_HEADER)
        return ddi_fail(DD_ERR_LIMIT, NULL,
                        "the header of %s would have %zu bytes; the limit is %d: use fewer or shorter names and words", path,
                        header->size, DDI_MAX_SAFETENSORS_HEADER);
    uint64_t header_size = header->size;
    pieces[0] = (ddi_file_piece){&header_size, sizeof header_size};
    pieces[1] = (ddi_file_piece){header->data, header->size};
    for (size_t i = 0; i < count; i++)
        pieces[i + 2] = (ddi_file_piece){order[i]->view.data, (size_t)byte_count(&order[i]->view)};
    return ddi_file_replace(path, pieces, count + 2);
}

dd_status ddi_safetensors_write(const dd_tensorfile *file, const char *path)
{
    text header = {0};
    size_t count = (size_t)file->tensor_count;
    const ddi_file_tensor **order = ddi_alloc_zero(NULL, count, sizeof *order);
    ddi_file_piece *pieces = ddi_alloc_zero(NULL, count + 2, sizeof *pieces);
    dd_status status = order && pieces ? write_file(file, path, &header, order, pieces)
                                       : ddi_fail_nomem((count + 2) * (sizeof *order + sizeof *pieces), "saving tensors");
    ddi_free(NULL, pieces);
    ddi_free(NULL, order);
    ddi_free(NULL, header.data);
    return status;
}
