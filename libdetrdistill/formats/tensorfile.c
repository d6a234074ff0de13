/* SPDX-License-Identifier: Apache-2.0
 * The handle dd_tensorfile: a set of named tensors and words, opened from a file or filled by the host. */
#include "formats/tensorfile.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/handle.h"
#include "base/limits.h"
#include "formats/json_reader.h"
#include "formats/torch_file.h"
#include "tensor/tensor.h"
#include <string.h>

bool ddi_file_grow(void **array, int32_t count, int32_t *room, size_t element)
{
    if (count < *room)
        return true;
    int32_t larger = *room ? *room * 2 : 8; /* counts end at 100,000 */
    void *grown = ddi_realloc(NULL, *array, (size_t)larger * element);
    if (!grown)
        return false;
    *array = grown;
    *room = larger;
    return true;
}

static void destroy(dd_tensorfile *file)
{
    for (int32_t i = 0; i < file->tensor_count; i++) {
        ddi_free(NULL, file->tensor[i].own_name);
        ddi_free(NULL, file->tensor[i].own_data);
    }
    for (int32_t i = 0; i < file->word_count; i++) {
        ddi_free(NULL, file->word[i].own_key);
        ddi_free(NULL, file->word[i].own_value);
    }
    ddi_free(NULL, file->tensor);
    ddi_free(NULL, file->word);
    ddi_name_index_free(&file->tensor_index);
    ddi_name_index_free(&file->word_index);
    ddi_free(NULL, file->header);
    ddi_file_map_close(&file->map);
    ddi_free(NULL, file);
}

/* Ends a call on the handle with its status. */
static dd_status leave(const dd_tensorfile *file, dd_status status)
{
    if (ddi_handle_leave(file))
        destroy((dd_tensorfile *)(uintptr_t)file);
    return status;
}

static dd_status read_any(dd_tensorfile *file, const char *path, const char *root)
{
    DDI_TRY(ddi_file_map_open(&file->map, path));
    return ddi_torch_is(&file->map) ? ddi_torch_read(file, path, root) : ddi_safetensors_read(file, path);
}

/* A new handle with the tensors of `path`, or empty when path is NULL. */
static dd_status make(dd_tensorfile **file, const char *path, const char *root)
{
    dd_tensorfile *made = ddi_alloc_zero(NULL, 1, sizeof *made);
    if (!made)
        return ddi_fail_nomem(sizeof *made, "a tensor file");
    dd_status status = path ? read_any(made, path, root) : DD_OK;
    if (status == DD_OK)
        status = ddi_handle_add(made, DDI_TENSORFILE);
    if (status != DD_OK) {
        destroy(made);
        return status;
    }
    *file = made;
    return DD_OK;
}

dd_status ddi_tensorfile_open(dd_tensorfile **file, const char *path, const char *root)
{
    return make(file, path, root);
}

dd_status dd_tensorfile_create(dd_tensorfile **file)
{
    ddi_error_clear();
    if (!file)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_tensorfile_create: file is NULL; give the address of a pointer");
    return make(file, NULL, NULL);
}

dd_status dd_tensorfile_open(dd_tensorfile **file, const char *path)
{
    ddi_error_clear();
    if (!file || !path)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_tensorfile_open: %s is NULL", file ? "path" : "file");
    return make(file, path, NULL);
}

void dd_tensorfile_free(dd_tensorfile *file)
{
    if (file && ddi_handle_remove(file, DDI_TENSORFILE))
        destroy(file);
}

dd_status dd_tensorfile_count(const dd_tensorfile *file, int32_t *count)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(file, DDI_TENSORFILE, "dd_tensorfile_count"));
    if (!count)
        return leave(file, ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_tensorfile_count: count is NULL"));
    *count = file->tensor_count;
    return leave(file, DD_OK);
}

static dd_status tensor_at(const dd_tensorfile *file, int32_t index, const char **name, dd_tensor *view)
{
    if (index < 0 || index >= file->tensor_count)
        return ddi_fail(DD_ERR_NOT_FOUND, NULL, "there is no tensor %d; the file has %d, counted from 0", index,
                        file->tensor_count);
    if (name)
        *name = file->tensor[index].name;
    if (view)
        *view = file->tensor[index].view;
    return DD_OK;
}

dd_status dd_tensorfile_at(const dd_tensorfile *file, int32_t index, const char **name, dd_tensor *view)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(file, DDI_TENSORFILE, "dd_tensorfile_at"));
    return leave(file, tensor_at(file, index, name, view));
}

static dd_status tensor_named(const dd_tensorfile *file, const char *name, dd_tensor *view)
{
    if (!name || !view)
        return ddi_fail(DD_ERR_ARGUMENT, name, "dd_tensorfile_get: %s is NULL", name ? "view" : "name");
    int32_t index = ddi_name_index_find(&file->tensor_index, name);
    if (index < 0)
        return ddi_fail(DD_ERR_NOT_FOUND, name, "the file has no tensor %s; dd_tensorfile_at lists its %d tensors", name,
                        file->tensor_count);
    *view = file->tensor[index].view;
    return DD_OK;
}

dd_status dd_tensorfile_get(const dd_tensorfile *file, const char *name, dd_tensor *view)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(file, DDI_TENSORFILE, "dd_tensorfile_get"));
    return leave(file, tensor_named(file, name, view));
}

static dd_status word_of(const dd_tensorfile *file, const char *key, const char **value)
{
    if (!key || !value)
        return ddi_fail(DD_ERR_ARGUMENT, key, "dd_tensorfile_metadata: %s is NULL", key ? "value" : "key");
    int32_t index = ddi_name_index_find(&file->word_index, key);
    if (index < 0)
        return ddi_fail(DD_ERR_NOT_FOUND, key, "the file's metadata has no word %s", key);
    *value = file->word[index].value;
    return DD_OK;
}

dd_status dd_tensorfile_metadata(const dd_tensorfile *file, const char *key, const char **value)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(file, DDI_TENSORFILE, "dd_tensorfile_metadata"));
    return leave(file, word_of(file, key, value));
}

/* Copies a view of any strides to C order: runs along the last axis, an odometer over the others. */
static void copy_to_c_order(char *out, const dd_tensor *view)
{
    int32_t last = view->ndim - 1;
    int64_t size = dd_dtype_size(view->dtype), run = view->shape[last], step = view->stride[last] * size;
    int64_t at[DD_MAX_DIMS] = {0};
    const char *in = view->data;
    for (int64_t runs = ddi_tensor_elements(view) / run; runs > 0; runs--) {
        for (int64_t i = 0; i < run; i++)
            memcpy(out + i * size, in + i * step, (size_t)size);
        out += run * size;
        for (int32_t d = last - 1; d >= 0; d--) {
            in += view->stride[d] * size;
            if (++at[d] < view->shape[d])
                break;
            in -= view->shape[d] * view->stride[d] * size;
            at[d] = 0;
        }
    }
}

/* A C-order copy of a host tensor in memory of its own. */
static dd_status copy_tensor(const char *name, const dd_tensor *tensor, dd_tensor *copy, void **memory)
{
    DDI_TRY(ddi_tensor_check(tensor, name));
    if (tensor->device_type != DD_DEVICE_CPU)
        return ddi_fail(DD_ERR_DEVICE, name, "%s is not in host memory; copy it to the host first", name);
    int64_t bytes = ddi_tensor_elements(tensor) * dd_dtype_size(tensor->dtype);
    if (bytes > DDI_MAX_BYTES)
        return ddi_fail(DD_ERR_LIMIT, name, "%s has more than 2^42 bytes", name);
    void *data = ddi_alloc(NULL, (size_t)bytes);
    if (!data)
        return ddi_fail_nomem((uint64_t)bytes, name);
    if (bytes && ddi_tensor_is_contiguous(tensor))
        memcpy(data, tensor->data, (size_t)bytes);
    else if (bytes)
        copy_to_c_order(data, tensor);
    dd_status status =
        dd_tensor_init(copy, data, tensor->dtype, tensor->ndim, tensor->shape, NULL, DD_DEVICE_CPU, 0, DD_TENSOR_READONLY);
    if (status != DD_OK)
        ddi_free(NULL, data);
    else
        *memory = data;
    return status;
}

static bool is_utf8(const char *text)
{
    const char *end = text + strlen(text);
    while (text < end) {
        int length = ddi_utf8_length(text, end);
        if (length == 0)
            return false;
        text += length;
    }
    return true;
}

static dd_status check_name(const char *name)
{
    if (strlen(name) > DDI_MAX_NAME_BYTES)
        return ddi_fail(DD_ERR_LIMIT, NULL, "a tensor name has %zu bytes; the limit is %d", strlen(name), DDI_MAX_NAME_BYTES);
    if (strcmp(name, "__metadata__") == 0)
        return ddi_fail(DD_ERR_ARGUMENT, name, "the name __metadata__ belongs to the format; use dd_tensorfile_set_metadata");
    if (!is_utf8(name))
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "a tensor name is not UTF-8");
    return DD_OK;
}

/* Adds a tensor that is not there yet; takes `data` only on success. */
static dd_status add_tensor(dd_tensorfile *file, const char *name, const dd_tensor *view, void *data)
{
    if (file->tensor_count == DDI_MAX_SAFETENSORS_TENSORS)
        return ddi_fail(DD_ERR_LIMIT, name, "a file holds at most %d tensors", DDI_MAX_SAFETENSORS_TENSORS);
    char *copy = ddi_strdup(NULL, name);
    if (!copy || !ddi_file_grow((void **)&file->tensor, file->tensor_count, &file->tensor_room, sizeof *file->tensor) ||
        !ddi_name_index_reserve(&file->tensor_index, file->tensor_count + 1)) {
        ddi_free(NULL, copy);
        return ddi_fail_nomem(sizeof *file->tensor, "the list of tensors");
    }
    file->tensor[file->tensor_count] = (ddi_file_tensor){.name = copy, .own_name = copy, .view = *view, .own_data = data};
    ddi_name_index_add(&file->tensor_index, copy, file->tensor_count++);
    return DD_OK;
}

dd_status ddi_tensorfile_borrow(dd_tensorfile *file, const char *name, const dd_tensor *tensor)
{
    DDI_TRY(check_name(name));
    if (ddi_name_index_find(&file->tensor_index, name) >= 0)
        return ddi_fail(DD_ERR_ARGUMENT, name, "the file has a tensor '%.150s' already", name);
    return add_tensor(file, name, tensor, NULL);
}

static dd_status set_tensor(dd_tensorfile *file, const char *name, const dd_tensor *tensor)
{
    if (!name || !tensor)
        return ddi_fail(DD_ERR_ARGUMENT, name, "dd_tensorfile_set: %s is NULL", name ? "tensor" : "name");
    DDI_TRY(check_name(name));
    dd_tensor copy;
    void *data = NULL;
    DDI_TRY(copy_tensor(name, tensor, &copy, &data));
    int32_t index = ddi_name_index_find(&file->tensor_index, name);
    if (index < 0) {
        dd_status status = add_tensor(file, name, &copy, data);
        if (status != DD_OK)
            ddi_free(NULL, data);
        return status;
    }
    ddi_free(NULL, file->tensor[index].own_data);
    file->tensor[index].view = copy;
    file->tensor[index].own_data = data;
    return DD_OK;
}

dd_status dd_tensorfile_set(dd_tensorfile *file, const char *name, const dd_tensor *tensor)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(file, DDI_TENSORFILE, "dd_tensorfile_set"));
    return leave(file, set_tensor(file, name, tensor));
}

static dd_status add_word(dd_tensorfile *file, const char *key, char *value)
{
    if (file->word_count == DDI_MAX_SAFETENSORS_TENSORS)
        return ddi_fail(DD_ERR_LIMIT, key, "a file's metadata holds at most %d words", DDI_MAX_SAFETENSORS_TENSORS);
    char *copy = ddi_strdup(NULL, key);
    if (!copy || !ddi_file_grow((void **)&file->word, file->word_count, &file->word_room, sizeof *file->word) ||
        !ddi_name_index_reserve(&file->word_index, file->word_count + 1)) {
        ddi_free(NULL, copy);
        return ddi_fail_nomem(sizeof *file->word, "the metadata");
    }
    file->word[file->word_count] = (ddi_file_word){copy, value, copy, value};
    ddi_name_index_add(&file->word_index, copy, file->word_count++);
    return DD_OK;
}

static dd_status set_word(dd_tensorfile *file, const char *key, const char *value)
{
    if (!key || !value)
        return ddi_fail(DD_ERR_ARGUMENT, key, "dd_tensorfile_set_metadata: %s is NULL", key ? "value" : "key");
    if (!is_utf8(key) || !is_utf8(value))
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "a metadata %s is not UTF-8", is_utf8(key) ? "value" : "key");
    char *copy = ddi_strdup(NULL, value);
    if (!copy)
        return ddi_fail_nomem(strlen(value) + 1, "a metadata value");
    int32_t index = ddi_name_index_find(&file->word_index, key);
    if (index < 0) {
        dd_status status = add_word(file, key, copy);
        if (status != DD_OK)
            ddi_free(NULL, copy);
        return status;
    }
    ddi_free(NULL, file->word[index].own_value);
    file->word[index].value = file->word[index].own_value = copy;
    return DD_OK;
}

dd_status dd_tensorfile_set_metadata(dd_tensorfile *file, const char *key, const char *value)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(file, DDI_TENSORFILE, "dd_tensorfile_set_metadata"));
    return leave(file, set_word(file, key, value));
}

dd_status dd_tensorfile_save(const dd_tensorfile *file, const char *path)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(file, DDI_TENSORFILE, "dd_tensorfile_save"));
    if (!path)
        return leave(file, ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_tensorfile_save: path is NULL"));
    return leave(file, ddi_safetensors_write(file, path));
}
