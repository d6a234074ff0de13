/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints of torch.save: since 1.6 a zip archive with a pickle (data.pkl) and a member for each storage, before that five
 * pickles and the storages one after the other. Only calls that rebuild tensors are looked at, and only those in the state
 * dict. */
#include "formats/torch_file.h"
#include "base/alloc.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/limits.h"
#include "formats/json_reader.h"
#include "formats/pickle.h"
#include "formats/zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef ddi_pickle_value value;

enum { MOST_WRAPS = 8, SPARE_BYTES = 64 << 20, MEMBER_NAME = 512 };

/* A storage of the old format. */
typedef struct storage {
    const char *key;
    uint32_t key_bytes;
    int32_t dtype, element; /* 0: a type that dd_tensor lacks; bytes of an element */
    int64_t count;          /* elements, as the pickle says */
    const char *data;       /* NULL until its bytes are reached */
} storage;

typedef struct reader {
    const char *path;
    dd_tensorfile *file;
    ddi_pickle pickle;
    ddi_zip zip;
    char prefix[MEMBER_NAME]; /* of the archive's members: "model/" */
    bool old;
    storage *storage; /* old: sorted by key */
    int32_t storages, storage_room;
    int64_t copied;
} reader;

bool ddi_torch_is(const ddi_file_map *map)
{
    const unsigned char *at = map->data;
    if (map->size < 9 || at[8] == '{') { /* there a header of safetensors begins, whatever its length looks like */
        return false;
    }
    return memcmp(at, "PK\3\4", 4) == 0 || (at[0] == 0x80 && at[1] >= 2 && at[1] <= 5);
}

static dd_status damaged(const reader *r, const char *what)
{
    return ddi_fail(DD_ERR_FORMAT, NULL, "%s is damaged or no checkpoint of torch.save: %s", r->path, what);
}

static bool is_global(const reader *r, value v, const char *module, const char *name)
{
    return ddi_pickle_is_global(&r->pickle, v, module, name);
}

static value item(const reader *r, value v, uint32_t i)
{
    return ddi_pickle_item(&r->pickle, v, i);
}

/* ---- Dictionaries */

typedef struct walk {
    uint32_t cell;
    bool pairs;    /* items are lists [key, value] */
    uint32_t then; /* cells to go on with */
} walk;

static bool is_dict(const reader *r, value v)
{
    return v.kind == DDI_PICKLE_DICT ||
           (v.kind == DDI_PICKLE_CALL && is_global(r, ddi_pickle_node_of(&r->pickle, v)->callee, "collections", "OrderedDict"));
}

/* Python 2 hands an OrderedDict its items as an argument, Python 3 adds them afterwards. */
static walk walk_dict(const reader *r, value v)
{
    const ddi_pickle_node *n = ddi_pickle_node_of(&r->pickle, v);
    walk w = {.cell = n->first};
    const value list = n->kind == DDI_PICKLE_CALL ? item(r, n->arguments, 0) : (value){.kind = DDI_PICKLE_OTHER};
    if (list.kind == DDI_PICKLE_LIST) {
        w = (walk){.cell = ddi_pickle_node_of(&r->pickle, list)->first, .pairs = true, .then = n->first};
    }
    if (w.pairs && !w.cell) {
        w = (walk){.cell = w.then};
    }
    return w;
}

static bool next_item(const reader *r, walk *w, value *key, value *v)
{
    if (!w->cell) {
        return false;
    }
    const ddi_pickle_cell *cell = &r->pickle.cell[w->cell];
    if (w->pairs) {
        *key = item(r, cell->value, 0);
        *v = item(r, cell->value, 1);
    } else if (cell->next) {
        *key = cell->value;
        cell = &r->pickle.cell[cell->next];
        *v = cell->value;
    } else {
        return false; /* a list was appended to a dictionary of ours: nothing that a pickler does */
    }
    w->cell = cell->next;
    if (w->pairs && !w->cell) {
        *w = (walk){.cell = w->then};
    }
    return true;
}

static bool look_up(const reader *r, value dict, const char *key, size_t bytes, value *found)
{
    value k, v;
    if (!is_dict(r, dict)) {
        return false;
    }
    for (walk w = walk_dict(r, dict); next_item(r, &w, &k, &v);) {
        if (k.kind == DDI_PICKLE_TEXT && k.size == bytes && memcmp(k.as.text, key, bytes) == 0) {
            *found = v;
            return true;
        }
    }
    return false;
}

/* ---- Tensors in the tree */

typedef struct recipe {
    value storage;
    int64_t offset;
    int32_t dtype, ndim;
    int64_t shape[DD_MAX_DIMS], stride[DD_MAX_DIMS];
} recipe;

/* The arguments (storage, offset, size, stride, ..) of the call that rebuilds a tensor, through the calls that wrap it; an
 * OTHER where the value is no tensor. */
static value tensor_arguments(const reader *r, value v)
{
    static const char *const wraps[] = {"_rebuild_parameter", "_rebuild_parameter_with_state"};
    static const char *const plain[] = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"};
    const value none = {.kind = DDI_PICKLE_OTHER};
    const ddi_pickle_node *n = v.kind == DDI_PICKLE_CALL ? ddi_pickle_node_of(&r->pickle, v) : NULL;
    value callee = n ? n->callee : none, arguments = n ? n->arguments : none;
    for (int wrap = 0; wrap < MOST_WRAPS; wrap++) {
        for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
            if (is_global(r, callee, "torch._utils", plain[i])) {
                return arguments;
            }
        }
        if (is_global(r, callee, "torch._tensor", "_rebuild_from_type_v2")) { /* function, type, arguments, state */
            callee = item(r, arguments, 0);
            arguments = item(r, arguments, 2);
            continue;
        }
        if (!is_global(r, callee, "torch._utils", wraps[0]) && !is_global(r, callee, "torch._utils", wraps[1])) {
            return none;
        }
        n = ddi_pickle_node_of(&r->pickle, item(r, arguments, 0));
        if (!n || n->kind != DDI_PICKLE_CALL) {
            return none;
        }
        callee = n->callee;
        arguments = n->arguments;
    }
    return none;
}

static bool is_tensor(const reader *r, value v)
{
    return tensor_arguments(r, v).kind == DDI_PICKLE_TUPLE;
}

/* What a storage's class says about its elements; those without a dtype can be passed over, but not read. */
static void set_type(const reader *r, value class, storage *s)
{
    static const struct {
        const char *name;
        int32_t dtype, element;
    } types[] = {{"FloatStorage", DD_F32, 4},     {"DoubleStorage", DD_F64, 8},  {"HalfStorage", DD_F16, 2},
                 {"BFloat16Storage", DD_BF16, 2}, {"IntStorage", DD_I32, 4},     {"LongStorage", DD_I64, 8},
                 {"ByteStorage", DD_U8, 1},       {"BoolStorage", DD_U8, 1},     {"CharStorage", 0, 1},
                 {"ShortStorage", 0, 2},          {"ComplexFloatStorage", 0, 8}, {"ComplexDoubleStorage", 0, 16},
                 {"QInt8Storage", 0, 1},          {"QUInt8Storage", 0, 1},       {"QInt32Storage", 0, 4}};
    s->dtype = s->element = 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (is_global(r, class, "torch", types[i].name) || is_global(r, class, "torch.cuda", types[i].name)) {
            s->dtype = types[i].dtype;
            s->element = types[i].element;
        }
    }
}

static bool natural(value v, int64_t *number)
{
    *number = v.as.integer;
    return v.kind == DDI_PICKLE_INTEGER && v.as.integer >= 0;
}

/* The id of a storage: ("storage", class, key, place, elements[, view]). */
static bool storage_of(const reader *r, value v, storage *s)
{
    const value id = v.kind == DDI_PICKLE_PERSISTENT ? ddi_pickle_node_of(&r->pickle, v)->arguments : v;
    const value key = item(r, id, 2);
    if (v.kind != DDI_PICKLE_PERSISTENT || id.kind != DDI_PICKLE_TUPLE || !ddi_pickle_is_text(item(r, id, 0), "storage") ||
        key.kind != DDI_PICKLE_TEXT || key.size > MEMBER_NAME / 4 || !natural(item(r, id, 4), &s->count) ||
        item(r, id, 5).kind != DDI_PICKLE_OTHER) {
        return false; /* the sixth, a view, was None from the first releases on */
    }
    s->key = key.as.text;
    s->key_bytes = key.size;
    set_type(r, item(r, id, 1), s);
    s->data = NULL;
    return true;
}

static bool read_sizes(const reader *r, value tuple, int32_t *count, int64_t *sizes)
{
    const ddi_pickle_node *n = ddi_pickle_node_of(&r->pickle, tuple);
    if (!n || (n->kind != DDI_PICKLE_TUPLE && n->kind != DDI_PICKLE_LIST) || n->count > DD_MAX_DIMS) {
        return false;
    }
    *count = (int32_t)n->count;
    for (uint32_t i = 0; i < n->count; i++) {
        if (!natural(item(r, tuple, i), &sizes[i])) {
            return false;
        }
    }
    return true;
}

/* Elements, and the first one after the last that is touched; false: more elements than the limit. */
static bool reach(const recipe *t, int64_t *elements, int64_t *end)
{
    *elements = 1;
    *end = t->offset;
    for (int32_t d = 0; d < t->ndim; d++) {
        if (!ddi_mul(*elements, t->shape[d], elements) || *elements > DDI_MAX_ELEMENTS) {
            return false;
        }
    }
    for (int32_t d = 0; d < t->ndim && *elements; d++) {
        int64_t far;
        if (!ddi_mul(t->shape[d] - 1, t->stride[d], &far) || !ddi_add(*end, far, end)) {
            *end = INT64_MAX;
            return true;
        }
    }
    *end += *elements > 0 && *end < INT64_MAX;
    return true;
}

static bool is_contiguous(const recipe *t)
{
    int64_t expected = 1;
    for (int32_t d = t->ndim - 1; d >= 0; d--) {
        if (t->shape[d] != 1 && t->stride[d] != expected) {
            return false;
        }
        expected *= t->shape[d];
    }
    return true;
}

/* ---- Storages */

static int by_key(const void *a, const void *b)
{
    const storage *x = a, *y = b;
    if (x->key_bytes != y->key_bytes) {
        return x->key_bytes < y->key_bytes ? -1 : 1;
    }
    return memcmp(x->key, y->key, x->key_bytes);
}

/* The bytes of a storage. */
static dd_status take_storage(reader *r, const storage *s, const char *name, const char **data)
{
    const void *bytes = NULL;
    char member[2 * MEMBER_NAME];
    if (r->old) {
        const storage *found = r->storages ? bsearch(s, r->storage, (size_t)r->storages, sizeof *s, by_key) : NULL;
        if (!found || !found->data || found->dtype != s->dtype || found->count != s->count) {
            return ddi_fail(DD_ERR_FORMAT, name, "%s is damaged: the storage of %s is missing, or has two sizes", r->path,
                            name);
        }
        *data = found->data;
        return DD_OK;
    }
    const int length = snprintf(member, sizeof member, "%sdata/%.*s", r->prefix, (int)s->key_bytes, s->key);
    ddi_zip_member *m = ddi_zip_find(&r->zip, member, (size_t)length);
    if (!m) {
        return ddi_fail(DD_ERR_FORMAT, name, "%s is damaged: the storage of %s is missing", r->path, name);
    }
    if (m->size / (uint64_t)dd_dtype_size(s->dtype) < (uint64_t)s->count) {
        return ddi_fail(DD_ERR_FORMAT, name, "%s is damaged: the storage of %s is shorter than it should be", r->path, name);
    }
    DDI_TRY(ddi_zip_take(&r->zip, m, &bytes));
    *data = bytes;
    return DD_OK;
}

/* ---- Views */

static dd_status read_recipe(const reader *r, const char *name, value v, recipe *t, storage *s)
{
    const value arguments = tensor_arguments(r, v);
    int32_t strides = 0;
    t->storage = item(r, arguments, 0);
    if (!storage_of(r, t->storage, s) || !natural(item(r, arguments, 1), &t->offset) ||
        !read_sizes(r, item(r, arguments, 2), &t->ndim, t->shape) ||
        !read_sizes(r, item(r, arguments, 3), &strides, t->stride) || strides != t->ndim) {
        return ddi_fail(DD_ERR_FORMAT, name, "%s is damaged: what describes the tensor %s makes no sense", r->path, name);
    }
    const value given = item(r, arguments, 6); /* _rebuild_tensor_v3 says the type there, for types without a storage class */
    if (!s->dtype || given.kind == DDI_PICKLE_GLOBAL) {
        return ddi_fail(
            DD_ERR_DTYPE, name,
            "%s: the tensor %s has an element type other than float32, float64, float16, bfloat16, int32, int64, uint8 "
            "and bool",
            r->path, name);
    }
    t->dtype = s->dtype;
    return DD_OK;
}

static void copy_elements(char *to, const char *from, const recipe *t, int64_t elements)
{
    const int64_t size = dd_dtype_size(t->dtype);
    int64_t at[DD_MAX_DIMS] = {0}, place = t->offset;
    for (int64_t i = 0; i < elements; i++) {
        memcpy(to + i * size, from + place * size, (size_t)size);
        for (int32_t d = t->ndim - 1; d >= 0; d--) {
            place += t->stride[d];
            if (++at[d] < t->shape[d]) {
                break;
            }
            place -= t->shape[d] * t->stride[d];
            at[d] = 0;
        }
    }
}

/* Memory of its own for a tensor that is not contiguous or lies askew. */
static dd_status copy_tensor(reader *r, const char *name, const recipe *t, int64_t elements, const char *data, void **copy)
{
    const int64_t bytes = elements * dd_dtype_size(t->dtype);
    if (bytes > (int64_t)r->file->map.size + SPARE_BYTES - r->copied) {
        return ddi_fail(DD_ERR_LIMIT, name, "%s: the tensor %s repeats its storage too often; save a contiguous one", r->path,
                        name);
    }
    *copy = ddi_alloc(NULL, (size_t)bytes);
    if (!*copy) {
        return ddi_fail_nomem((uint64_t)bytes, name);
    }
    r->copied += bytes;
    if (is_contiguous(t)) {
        memcpy(*copy, data + t->offset * dd_dtype_size(t->dtype), (size_t)bytes);
    } else {
        copy_elements(*copy, data, t, elements);
    }
    return DD_OK;
}

static dd_status add_tensor(reader *r, char *name, value v)
{
    dd_tensorfile *file = r->file;
    recipe t = {.ndim = 0};
    storage s;
    int64_t elements, end;
    const char *data = NULL;
    ddi_file_tensor *made = &file->tensor[file->tensor_count++]; /* from here on dd_tensorfile_free frees it */
    *made = (ddi_file_tensor){.name = name, .own_name = name};
    DDI_TRY(read_recipe(r, name, v, &t, &s));
    if (!reach(&t, &elements, &end)) {
        return ddi_fail(DD_ERR_LIMIT, name, "%s: tensor %s is above the limit of 2^40 elements", r->path, name);
    }
    if (end > s.count) {
        return ddi_fail(DD_ERR_FORMAT, name, "%s is damaged: tensor %s reaches outside of its storage", r->path, name);
    }
    DDI_TRY(take_storage(r, &s, name, &data));
    const char *place = data + t.offset * dd_dtype_size(t.dtype);
    if (elements && (!is_contiguous(&t) || (uintptr_t)place % (uintptr_t)dd_dtype_size(t.dtype))) {
        DDI_TRY(copy_tensor(r, name, &t, elements, data, &made->own_data));
        place = made->own_data;
    } else if (!elements) {
        place = file->map.data;
    }
    if (t.ndim == 0) {
        t.shape[t.ndim++] = 1;
    }
    return dd_tensor_init(&made->view, (void *)(uintptr_t)place, t.dtype, t.ndim, t.shape, NULL, DD_DEVICE_CPU, 0,
                          DD_TENSOR_READONLY);
}

static bool is_name(value key)
{
    const char *at = key.as.text, *end = key.kind == DDI_PICKLE_TEXT ? at + key.size : at;
    while (at < end) {
        const int length = *at ? ddi_utf8_length(at, end) : 0;
        if (length == 0) {
            return false;
        }
        at += length;
    }
    return key.kind == DDI_PICKLE_TEXT && key.size <= DDI_MAX_NAME_BYTES;
}

static int32_t count_tensors(const reader *r, value dict)
{
    int32_t count = 0;
    value key, v;
    for (walk w = walk_dict(r, dict); next_item(r, &w, &key, &v);) {
        count += key.kind == DDI_PICKLE_TEXT && is_tensor(r, v);
    }
    return count;
}

static dd_status add_tensors(reader *r, value dict)
{
    dd_tensorfile *file = r->file;
    const int32_t count = count_tensors(r, dict);
    value key, v;
    if (count > DDI_MAX_SAFETENSORS_TENSORS) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "%s has more than %d tensors", r->path, DDI_MAX_SAFETENSORS_TENSORS);
    }
    file->tensor = ddi_alloc_zero(NULL, (size_t)count, sizeof *file->tensor);
    if (!file->tensor || !ddi_name_index_reserve(&file->tensor_index, count)) {
        return ddi_fail_nomem((uint64_t)count * sizeof *file->tensor, "the list of tensors");
    }
    file->tensor_room = count;
    for (walk w = walk_dict(r, dict); next_item(r, &w, &key, &v);) {
        if (key.kind != DDI_PICKLE_TEXT || !is_tensor(r, v)) {
            continue;
        }
        if (!is_name(key)) {
            return damaged(r, "a tensor's name is not UTF-8, or too long");
        }
        char *name = ddi_alloc(NULL, (size_t)key.size + 1);
        if (!name) {
            return ddi_fail_nomem(key.size, "a tensor's name");
        }
        memcpy(name, key.as.text, key.size);
        name[key.size] = 0;
        file->tensor_index.sorted[file->tensor_count] = (ddi_name){name, file->tensor_count};
        DDI_TRY(add_tensor(r, name, v));
    }
    const char *twice = ddi_name_index_sort(&file->tensor_index, file->tensor_count);
    return twice ? ddi_fail(DD_ERR_FORMAT, twice, "%s is damaged: the name %s is there twice", r->path, twice) : DD_OK;
}

/* ---- The state dict */

/* The dictionary of tensors at the end of a way of keys. */
static bool follow(const reader *r, const char *way, value top, value *found)
{
    *found = top;
    for (const char *at = way; *at;) {
        const size_t bytes = strcspn(at, "/");
        if (!look_up(r, *found, at, bytes, found)) {
            return false;
        }
        at += bytes + (at[bytes] == '/');
    }
    return is_dict(r, *found) && count_tensors(r, *found) > 0;
}

static dd_status find_root(const reader *r, const char *root, value top, value *found)
{
    static const char *const usual[] = {"", "state_dict", "model", "model_state_dict", "module", "net", "ema", "ema/module"};
    if (root) {
        return follow(r, root, top, found)
                   ? DD_OK
                   : ddi_fail(DD_ERR_NOT_FOUND, root, "%s has no dictionary of tensors at '%.100s'", r->path, root);
    }
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++) {
        if (follow(r, usual[i], top, found)) {
            return DD_OK;
        }
    }
    return ddi_fail(
        DD_ERR_NOT_FOUND, NULL,
        "%s holds no dictionary of tensors, neither itself nor as state_dict, model, model_state_dict, module, net or "
        "ema; save model.state_dict()",
        r->path);
}

/* ---- The archive */

/* The one member NAME/data.pkl says how the others are called. */
static dd_status find_prefix(reader *r, ddi_zip_member **tree)
{
    static const char tail[] = "/data.pkl";
    const size_t bytes = strlen(tail);
    *tree = NULL;
    for (int32_t i = 0; i < r->zip.count; i++) {
        ddi_zip_member *m = &r->zip.member[i];
        const size_t front = m->name_bytes > bytes ? m->name_bytes - bytes : 0;
        if (front == 0 || front + 2 > sizeof r->prefix || memcmp(m->name + front, tail, bytes) != 0 ||
            memchr(m->name, '/', front) || memchr(m->name, 0, front)) {
            continue;
        }
        if (*tree) {
            return damaged(r, "it has two data.pkl");
        }
        *tree = m;
        snprintf(r->prefix, sizeof r->prefix, "%.*s/", (int)front, m->name);
    }
    return *tree ? DD_OK : damaged(r, "the archive has no data.pkl");
}

static dd_status check_byte_order(reader *r)
{
    char name[MEMBER_NAME + 16];
    const void *order = NULL;
    const int length = snprintf(name, sizeof name, "%sbyteorder", r->prefix);
    ddi_zip_member *m = ddi_zip_find(&r->zip, name, (size_t)length);
    if (!m) {
        return DD_OK; /* old versions wrote it little-endian and did not say so */
    }
    DDI_TRY(ddi_zip_take(&r->zip, m, &order));
    return m->size == 6 && memcmp(order, "little", 6) == 0
               ? DD_OK
               : ddi_fail(DD_ERR_FORMAT, NULL, "%s has big-endian numbers; save it on a little-endian machine", r->path);
}

static dd_status read_archive(reader *r, const char *root)
{
    ddi_zip_member *tree = NULL;
    const void *bytes = NULL;
    value top, dict;
    size_t used;
    DDI_TRY(ddi_zip_open(&r->zip, r->path, r->file->map.data, r->file->map.size));
    DDI_TRY(find_prefix(r, &tree));
    DDI_TRY(check_byte_order(r));
    DDI_TRY(ddi_zip_take(&r->zip, tree, &bytes));
    DDI_TRY(ddi_pickle_read(&r->pickle, bytes, (size_t)tree->size, &used, &top));
    DDI_TRY(find_root(r, root, top, &dict));
    return add_tensors(r, dict);
}

/* ---- The format before 1.6 */

static dd_status next_pickle(reader *r, size_t *at, value *v)
{
    size_t used = 0;
    DDI_TRY(ddi_pickle_read(&r->pickle, (const char *)r->file->map.data + *at, r->file->map.size - *at, &used, v));
    *at += used;
    return DD_OK;
}

/* Magic number, version and what the writer's machine was like. */
static dd_status read_preamble(reader *r, size_t *at)
{
    static const unsigned char magic[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    value v, little;
    DDI_TRY(next_pickle(r, at, &v));
    if (v.kind != DDI_PICKLE_OTHER || v.size != sizeof magic || memcmp(v.as.text, magic, sizeof magic) != 0) {
        return damaged(r, "its magic number is wrong");
    }
    DDI_TRY(next_pickle(r, at, &v));
    if (v.kind != DDI_PICKLE_INTEGER || v.as.integer != 1001) {
        return damaged(r, "its version is not 1001");
    }
    DDI_TRY(next_pickle(r, at, &v));
    if (look_up(r, v, "little_endian", strlen("little_endian"), &little) && little.kind == DDI_PICKLE_BOOL &&
        !little.as.integer) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%s has big-endian numbers; save it on a little-endian machine", r->path);
    }
    return DD_OK;
}

/* All storages that the tree names, sorted, each once. */
static dd_status list_storages(reader *r)
{
    for (int32_t i = 0; i < r->pickle.nodes; i++) {
        storage s;
        if (!storage_of(r, (value){.kind = r->pickle.node[i].kind, .as.node = (uint32_t)i}, &s)) {
            continue;
        }
        if (!ddi_file_grow((void **)&r->storage, r->storages, &r->storage_room, sizeof s)) {
            return ddi_fail_nomem(sizeof s, "the list of storages");
        }
        r->storage[r->storages++] = s;
    }
    if (r->storages == 0) {
        return DD_OK;
    }
    qsort(r->storage, (size_t)r->storages, sizeof *r->storage, by_key);
    int32_t kept = 1;
    for (int32_t i = 1; i < r->storages; i++) {
        const storage *last = &r->storage[kept - 1];
        if (by_key(last, &r->storage[i]) != 0) {
            r->storage[kept++] = r->storage[i];
        } else if (last->dtype != r->storage[i].dtype || last->count != r->storage[i].count) {
            return damaged(r, "a storage has two types or sizes");
        }
    }
    r->storages = kept;
    return DD_OK;
}

/* The storages follow the list of their keys: the number of elements, then the elements. */
static dd_status place_storages(reader *r, value keys, size_t at)
{
    const char *bytes = r->file->map.data;
    const ddi_pickle_node *n = ddi_pickle_node_of(&r->pickle, keys);
    for (uint32_t cell = n ? n->first : 0; cell; cell = r->pickle.cell[cell].next) {
        const value key = r->pickle.cell[cell].value;
        const storage wanted = {.key = key.as.text, .key_bytes = key.size};
        storage *s = key.kind == DDI_PICKLE_TEXT && r->storages
                         ? bsearch(&wanted, r->storage, (size_t)r->storages, sizeof wanted, by_key)
                         : NULL;
        int64_t count, size;
        if (!s || s->data || s->element == 0) {
            return damaged(r, "its list of storages has one that nothing uses, that is there twice, or of an unknown type");
        }
        if (r->file->map.size - at < sizeof count) {
            return damaged(r, "its storages end early");
        }
        memcpy(&count, bytes + at, sizeof count);
        at += sizeof count;
        if (count != s->count || !ddi_mul(count, s->element, &size) || (uint64_t)size > r->file->map.size - at) {
            return damaged(r, "a storage has another size than the tree says, or ends outside of the file");
        }
        s->data = bytes + at;
        at += (size_t)size;
    }
    return DD_OK;
}

static dd_status read_old(reader *r, const char *root)
{
    value top, keys, dict;
    size_t at = 0;
    r->old = true;
    DDI_TRY(read_preamble(r, &at));
    DDI_TRY(next_pickle(r, &at, &top));
    DDI_TRY(next_pickle(r, &at, &keys));
    if (keys.kind != DDI_PICKLE_LIST) {
        return damaged(r, "the list of its storages is none");
    }
    DDI_TRY(list_storages(r));
    DDI_TRY(place_storages(r, keys, at));
    DDI_TRY(find_root(r, root, top, &dict));
    return add_tensors(r, dict);
}

dd_status ddi_torch_read(dd_tensorfile *file, const char *path, const char *root)
{
    reader r = {.path = path, .file = file, .pickle = {.path = path}};
    const bool archive = file->map.size > 0 && *(const char *)file->map.data == 'P';
    const dd_status status = archive ? read_archive(&r, root) : read_old(&r, root);
    ddi_zip_free(&r.zip);
    ddi_pickle_free(&r.pickle);
    ddi_free(NULL, r.storage);
    return status;
}
