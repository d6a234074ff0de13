/* SPDX-License-Identifier: Apache-2.0
 * Opens a safetensors file: 8 bytes header length, a JSON header, the data. The header's grammar is fixed, and whatever is
 * not in it is refused:
 *     {"__metadata__": {"key": "value", ..}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..}
 * A tensor of shape [] becomes one of shape [1]; BOOL becomes DD_U8. */
#include "base/alloc.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/limits.h"
#include "formats/json_reader.h"
#include "formats/tensorfile.h"
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are used as they lie in the file");

static const struct {
    const char *type;
    int32_t dtype;
} types[] = {{"F32", DD_F32}, {"F64", DD_F64}, {"F16", DD_F16}, {"BF16", DD_BF16},
             {"I32", DD_I32}, {"I64", DD_I64}, {"U8", DD_U8},   {"BOOL", DD_U8}};
enum { TYPES = sizeof types / sizeof types[0] };

const char *ddi_safetensors_type(int32_t dtype)
{
    for (int i = 0; i < TYPES; i++) {
        if (types[i].dtype == dtype)
            return types[i].type;
    }
    return NULL;
}

int32_t ddi_safetensors_dtype(const char *type)
{
    for (int i = 0; i < TYPES; i++) {
        if (strcmp(types[i].type, type) == 0)
            return types[i].dtype;
    }
    return 0;
}

/* A tensor as the header describes it. */
typedef struct entry {
    const char *name;
    int32_t dtype, ndim, line;
    int64_t shape[DD_MAX_DIMS];
    int64_t begin, end; /* in the data */
} entry;

typedef struct reader {
    const char *path;
    dd_tensorfile *file;
    ddi_json json;
    entry *entry;
    int32_t count, room;
} reader;

static dd_status damaged(const reader *r)
{
    return ddi_fail(DD_ERR_FORMAT, NULL, "%s is damaged or no safetensors file: header byte %lld: %s", r->path,
                    (long long)(r->json.at - r->json.begin), r->json.problem ? r->json.problem : "unexpected end");
}

static dd_status read_metadata(reader *r)
{
    ddi_json *json = &r->json;
    dd_tensorfile *file = r->file;
    if (file->word_count)
        return ddi_fail(DD_ERR_FORMAT, NULL, "%s is damaged: it has two __metadata__ objects", r->path);
    if (!ddi_json_expect(json, '{', "expected '{' of __metadata__"))
        return damaged(r);
    for (bool first = true; ddi_json_next(json, '}', &first);) {
        char *key, *value;
        size_t bytes;
        if (!ddi_json_string(json, &key, &bytes) || !ddi_json_expect(json, ':', "expected ':'") ||
            !ddi_json_string(json, &value, &bytes))
            return damaged(r);
        if (file->word_count == DDI_MAX_SAFETENSORS_TENSORS)
            return ddi_fail(DD_ERR_LIMIT, NULL, "%s has more than %d words of metadata", r->path, DDI_MAX_SAFETENSORS_TENSORS);
        if (!ddi_file_grow((void **)&file->word, file->word_count, &file->word_room, sizeof *file->word))
            return ddi_fail_nomem(sizeof *file->word, "the metadata");
        file->word[file->word_count++] = (ddi_file_word){.key = key, .value = value};
    }
    return json->problem ? damaged(r) : DD_OK;
}

static dd_status read_dtype(reader *r, entry *e)
{
    char *type;
    size_t bytes;
    if (!ddi_json_string(&r->json, &type, &bytes))
        return damaged(r);
    e->dtype = ddi_safetensors_dtype(type);
    if (!e->dtype)
        return ddi_fail(DD_ERR_DTYPE, e->name,
                        "%s: tensor %s has element type %.20s; convert it to F32, F64, F16, BF16, I32, I64, U8 or BOOL",
                        r->path, e->name, type);
    return DD_OK;
}

static dd_status read_shape(reader *r, entry *e)
{
    if (!ddi_json_expect(&r->json, '[', "expected '[' of a shape"))
        return damaged(r);
    for (bool first = true; ddi_json_next(&r->json, ']', &first); e->ndim++) {
        int64_t size;
        if (!ddi_json_natural(&r->json, &size))
            return damaged(r);
        if (e->ndim == DD_MAX_DIMS)
            return ddi_fail(DD_ERR_LIMIT, e->name, "%s: tensor %s has more than %d dimensions", r->path, e->name, DD_MAX_DIMS);
        e->shape[e->ndim] = size;
    }
    if (r->json.problem)
        return damaged(r);
    if (e->ndim == 0)
        e->shape[e->ndim++] = 1;
    return DD_OK;
}

static dd_status read_offsets(reader *r, entry *e)
{
    ddi_json *json = &r->json;
    bool good = ddi_json_expect(json, '[', "expected '[' of the offsets") && ddi_json_natural(json, &e->begin) &&
                ddi_json_expect(json, ',', "expected ','") && ddi_json_natural(json, &e->end) &&
                ddi_json_expect(json, ']', "expected ']'");
    return good ? DD_OK : damaged(r);
}

/* {"dtype": .., "shape": .., "data_offsets": ..}, each once, in any order */
static dd_status read_tensor(reader *r, const char *name)
{
    static const struct {
        const char *key;
        dd_status (*read)(reader *, entry *);
    } fields[] = {{"dtype", read_dtype}, {"shape", read_shape}, {"data_offsets", read_offsets}};
    ddi_json *json = &r->json;
    if (r->count == DDI_MAX_SAFETENSORS_TENSORS)
        return ddi_fail(DD_ERR_LIMIT, NULL, "%s has more than %d tensors", r->path, DDI_MAX_SAFETENSORS_TENSORS);
    if (!ddi_file_grow((void **)&r->entry, r->count, &r->room, sizeof *r->entry))
        return ddi_fail_nomem(sizeof *r->entry, "the list of tensors");
    entry *e = &r->entry[r->count];
    *e = (entry){.name = name, .line = r->count};
    if (!ddi_json_expect(json, '{', "expected '{' of a tensor"))
        return damaged(r);
    unsigned seen = 0;
    for (bool first = true; ddi_json_next(json, '}', &first);) {
        char *key;
        size_t bytes;
        if (!ddi_json_string(json, &key, &bytes) || !ddi_json_expect(json, ':', "expected ':'"))
            return damaged(r);
        int field = 0;
        while (field < 3 && strcmp(fields[field].key, key) != 0)
            field++;
        if (field == 3 || seen >> field & 1)
            return ddi_fail(DD_ERR_FORMAT, name, "%s: tensor %s has %s field %.40s", r->path, name,
                            field == 3 ? "the unknown" : "twice the", key);
        seen |= 1u << field;
        DDI_TRY(fields[field].read(r, e));
    }
    if (json->problem)
        return damaged(r);
    if (seen != 7)
        return ddi_fail(DD_ERR_FORMAT, name, "%s: tensor %s lacks dtype, shape or data_offsets", r->path, name);
    r->count++;
    return DD_OK;
}

static dd_status read_header(reader *r)
{
    ddi_json *json = &r->json;
    if (json->begin == json->end || *json->begin != '{') /* the format allows no white space here */
        return ddi_json_problem(json, "expected '{' at the start"), damaged(r);
    ddi_json_take(json, '{');
    for (bool first = true; ddi_json_next(json, '}', &first);) {
        char *name;
        size_t bytes;
        if (!ddi_json_string(json, &name, &bytes) || !ddi_json_expect(json, ':', "expected ':'"))
            return damaged(r);
        if (bytes > DDI_MAX_NAME_BYTES)
            return ddi_fail(DD_ERR_LIMIT, NULL, "%s: a tensor name has %zu bytes; the limit is %d", r->path, bytes,
                            DDI_MAX_NAME_BYTES);
        DDI_TRY(strcmp(name, "__metadata__") == 0 ? read_metadata(r) : read_tensor(r, name));
    }
    return json->problem || !ddi_json_finish(json) ? damaged(r) : DD_OK;
}

/* Bytes of an entry's shape, or -1 when above the limit. */
static int64_t shape_bytes(const entry *e)
{
    int64_t count = 1;
    for (int32_t i = 0; i < e->ndim; i++) {
        if (e->shape[i] > DDI_MAX_ELEMENTS || !ddi_mul(count, e->shape[i], &count) || count > DDI_MAX_ELEMENTS)
            return -1;
    }
    int64_t bytes = count * dd_dtype_size(e->dtype);
    return bytes <= DDI_MAX_BYTES ? bytes : -1;
}

static int by_place(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return x->line - y->line;
}

/* Puts the entries in the order of their data, which they must fill without overlap or hole. */
static dd_status check_places(reader *r, int64_t data_size)
{
    int64_t expected = 0;
    if (r->count)
        qsort(r->entry, (size_t)r->count, sizeof *r->entry, by_place);
    for (int32_t i = 0; i < r->count; i++) {
        const entry *e = &r->entry[i];
        int64_t bytes = shape_bytes(e);
        if (bytes < 0)
            return ddi_fail(DD_ERR_LIMIT, e->name, "%s: tensor %s is above the limit of 2^40 elements or 2^42 bytes", r->path,
                            e->name);
        if (e->begin != expected)
            return ddi_fail(DD_ERR_FORMAT, e->name, "%s is damaged: tensor %s %s", r->path, e->name,
                            e->begin < expected ? "overlaps another" : "comes after bytes that belong to none");
        if (e->end < e->begin || e->end > data_size)
            return ddi_fail(DD_ERR_FORMAT, e->name, "%s is damaged or cut off: tensor %s ends outside the file", r->path,
                            e->name);
        if (e->end - e->begin != bytes)
            return ddi_fail(DD_ERR_FORMAT, e->name, "%s is damaged: tensor %s has %lld bytes, its shape needs %lld", r->path,
                            e->name, (long long)(e->end - e->begin), (long long)bytes);
        expected = e->end;
    }
    if (expected != data_size)
        return ddi_fail(DD_ERR_FORMAT, NULL, "%s is damaged: its last %lld bytes belong to no tensor", r->path,
                        (long long)(data_size - expected));
    return DD_OK;
}

/* The view of one entry; data that do not lie on a multiple of the element size are copied to memory that does. */
static dd_status make_view(reader *r, const entry *e, const char *data)
{
    ddi_file_tensor *t = &r->file->tensor[r->file->tensor_count];
    *t = (ddi_file_tensor){.name = e->name};
    const void *place = data + e->begin;
    if ((uintptr_t)place % (uintptr_t)dd_dtype_size(e->dtype)) {
        size_t bytes = (size_t)(e->end - e->begin);
        t->own_data = ddi_alloc(NULL, bytes);
        if (!t->own_data)
            return ddi_fail_nomem(bytes, e->name);
        place = memcpy(t->own_data, place, bytes);
    }
    r->file->tensor_count++; /* from here on dd_tensorfile_free frees it */
    return dd_tensor_init(&t->view, (void *)(uintptr_t)place, e->dtype, e->ndim, e->shape, NULL, DD_DEVICE_CPU, 0,
                          DD_TENSOR_READONLY);
}

static dd_status make_views(reader *r, const char *data)
{
    dd_tensorfile *file = r->file;
    if (r->count == 0)
        return DD_OK;
    file->tensor = ddi_alloc_zero(NULL, (size_t)r->count, sizeof *file->tensor);
    if (!file->tensor)
        return ddi_fail_nomem((uint64_t)r->count * sizeof *file->tensor, "the list of tensors");
    file->tensor_room = r->count;
    for (int32_t i = 0; i < r->count; i++)
        DDI_TRY(make_view(r, &r->entry[i], data));
    return DD_OK;
}

static dd_status index_names(reader *r)
{
    dd_tensorfile *file = r->file;
    if (!ddi_name_index_reserve(&file->tensor_index, file->tensor_count) ||
        !ddi_name_index_reserve(&file->word_index, file->word_count))
        return ddi_fail_nomem((uint64_t)(file->tensor_count + file->word_count) * sizeof(ddi_name), "the index of names");
    for (int32_t i = 0; i < file->tensor_count; i++)
        file->tensor_index.sorted[i] = (ddi_name){file->tensor[i].name, i};
    for (int32_t i = 0; i < file->word_count; i++)
        file->word_index.sorted[i] = (ddi_name){file->word[i].key, i};
    const char *twice = ddi_name_index_sort(&file->tensor_index, file->tensor_count);
    if (!twice)
        twice = ddi_name_index_sort(&file->word_index, file->word_count);
    return twice ? ddi_fail(DD_ERR_FORMAT, twice, "%s is damaged: the name %s is there twice", r->path, twice) : DD_OK;
}

static dd_status read_file(reader *r)
{
    dd_tensorfile *file = r->file;
    uint64_t header_size;
    if (file->map.size < sizeof header_size)
        return ddi_fail(DD_ERR_FORMAT, NULL, "%s is no safetensors file: it has only %zu bytes", r->path, file->map.size);
    const char *bytes = file->map.data;
    memcpy(&header_size, bytes, sizeof header_size);
    bytes += sizeof header_size;
    size_t rest = file->map.size - sizeof header_size;
    if (header_size > rest)
        return ddi_fail(DD_ERR_FORMAT, NULL, "%s is cut off or no safetensors file: it is shorter than its header should be",
                        r->path);
    if (header_size > DDI_MAX_SAFETENSORS_HEADER)
        return ddi_fail(DD_ERR_LIMIT, NULL, "%s has a header of %llu bytes; the limit is %d", r->path,
                        (unsigned long long)header_size, DDI_MAX_SAFETENSORS_HEADER);
    file->header = ddi_alloc(NULL, (size_t)header_size);
    if (!file->header)
        return ddi_fail_nomem(header_size, "the header of a safetensors file");
    memcpy(file->header, bytes, (size_t)header_size);
    ddi_json_start(&r->json, file->header, (size_t)header_size);
    DDI_TRY(read_header(r));
    DDI_TRY(check_places(r, (int64_t)(rest - header_size)));
    DDI_TRY(make_views(r, bytes + header_size));
    return index_names(r);
}

dd_status ddi_safetensors_read(dd_tensorfile *file, const char *path)
{
    reader r = {.path = path, .file = file};
    dd_status status = read_file(&r);
    ddi_free(NULL, r.entry);
    return status;
}
