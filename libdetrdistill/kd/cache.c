/* SPDX-License-Identifier: Apache-2.0
 * Stored outputs of a teacher, one file for each image. A file's name tells whose weights and which input it belongs to; what
 * is inside says it again, in full, with a checksum, and is used only if all of it is what this step would compute. */
#include "base/checked.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/io.h"
#include "kd/attach.h"
#include <detrdistill/tensorfile.h>
#include <detrdistill/version.h>

#include <stdio.h>
#include <string.h>

#define ENDING ".teacher"
enum { PATH_BYTES = 4096, RECORD_BYTES = 768, WEIGHTS_DIGITS = 16, FILE_OVERHEAD = 8192 };

/* What one image's file holds, and the batch's tensor that it is a part of. */
typedef enum { LOGITS, BOXES, QUERIES, MAPS, POSITION, CONTENT, REFERENCE, PIECES } piece_id;

static const char *const piece_names[PIECES] = {"logits", "boxes", "queries", "maps", "position", "content", "reference"};

typedef struct piece {
    bool used;
    int64_t stages, rows, width; /* [stages,B,rows,width], or [B,rows,width] where stages = 0 */
    ddi_buffer batch;
} piece;

struct ddi_cache {
    char folder[PATH_BYTES];
    int64_t most, bytes, hits, misses;
    piece piece[PIECES];
    ddi_levels levels;
    ddi_hash weights;
    ddi_buffer image, hashes; /* [H,W,3] as the teacher reads it; a hash for each parameter */
};

/* ---- The folder */

static bool path_of(char path[2 * PATH_BYTES], const ddi_cache *c, const char *name)
{
    return snprintf(path, 2 * PATH_BYTES, "%s/%s", c->folder, name) < PATH_BYTES;
}

static dd_status measure(ddi_cache *c)
{
    char **names, path[2 * PATH_BYTES];
    int32_t count;
    int64_t bytes;
    DDI_TRY(ddi_folder_list(c->folder, ENDING, &names, &count));
    c->bytes = 0;
    for (int32_t i = 0; i < count; i++)
        if (path_of(path, c, names[i]) && ddi_file_size(path, &bytes) == DD_OK)
            c->bytes += bytes;
    ddi_free(NULL, names);
    return DD_OK;
}

/* Removes files of other weights until `bytes` more fit. */
static bool make_room(ddi_cache *c, const char *name, int64_t bytes)
{
    char **names, path[2 * PATH_BYTES];
    int32_t count;
    if (c->bytes + bytes <= c->most)
        return true;
    if (ddi_folder_list(c->folder, ENDING, &names, &count) != DD_OK)
        return false;
    for (int32_t i = 0; i < count && c->bytes + bytes > c->most; i++) {
        int64_t size;
        if (strncmp(names[i], name, WEIGHTS_DIGITS) != 0 && path_of(path, c, names[i]) && ddi_file_size(path, &size) == DD_OK &&
            ddi_file_remove(path) == DD_OK)
            c->bytes -= size;
    }
    ddi_free(NULL, names);
    return c->bytes + bytes <= c->most;
}

/* ---- Handles */

dd_status ddi_cache_open(ddi_cache **cache, const dd_distiller *d, const char *folder, int64_t most_bytes)
{
    if (strlen(folder) + 80 > PATH_BYTES)
        return ddi_fail(DD_ERR_LIMIT, NULL, "the path %.80s.. is too long", folder);
    ddi_cache *c = ddi_alloc_zero(&d->exec.context->allocator, 1, sizeof *c);
    if (!c)
        return ddi_fail_nomem(sizeof *c, "a cache of the teacher's outputs");
    snprintf(c->folder, sizeof c->folder, "%s", folder);
    c->most = most_bytes;
    const dd_status status = measure(c);
    if (status != DD_OK)
        ddi_free(&d->exec.context->allocator, c);
    else
        *cache = c;
    return status;
}

void ddi_cache_free(ddi_cache *c, ddi_exec *x)
{
    if (!c)
        return;
    for (int32_t i = 0; i < PIECES; i++)
        ddi_buffer_free(x, &c->piece[i].batch);
    ddi_buffer_free(x, &c->image);
    ddi_buffer_free(x, &c->hashes);
    ddi_free(&x->context->allocator, c);
}

void ddi_cache_statistics(const ddi_cache *c, int64_t *hits, int64_t *misses, int64_t *bytes)
{
    if (hits)
        *hits = c->hits;
    if (misses)
        *misses = c->misses;
    if (bytes)
        *bytes = c->bytes;
}

/* ---- Whose outputs they are */

typedef struct weights_job {
    const dd_model *model;
    ddi_hash *hash;
} weights_job;

static void hash_parameter(void *arg, int64_t i)
{
    const weights_job *job = arg;
    const ddi_param *p = job->model->params.all[i];
    ddi_hash h = ddi_hash_add((ddi_hash){0}, p->name, strlen(p->name));
    h = ddi_hash_add(h, p->shape, (size_t)p->ndim * sizeof *p->shape);
    job->hash[i] = ddi_hash_add(h, p->data, (size_t)p->count * job->model->tape.element);
}

/* Anew in each step: a caller may write into parameters at any time, and reading them costs a hundredth of running them. */
static dd_status hash_weights(dd_distiller *d, ddi_cache *c)
{
    const dd_model *m = d->attached->teacher;
    const ddi_model_config *g = &m->net.config;
    const size_t bytes = (size_t)m->params.count * sizeof(ddi_hash);
    const int64_t shape[] = {m->dtype,          m->tape.compute,   g->d,         g->queries,        g->classes,
                             g->levels,         g->encoder_layers, g->refine,    g->decoder_layers, g->encoder_heads,
                             g->decoder_heads,  g->encoder_points, g->two_stage, g->decoder_points, m->net.backbone.blocks,
                             g->shared_box_head};
    const double numbers[] = {g->head_eps, g->position_temperature, g->position_offset};
    DDI_TRY(ddi_buffer_reserve(&d->exec, &c->hashes, bytes, false, "hashes of parameters"));
    weights_job job = {m, c->hashes.data};
    ddi_parallel_for(&d->exec, m->params.count, hash_parameter, &job);
    const ddi_hash sizes = ddi_hash_add(ddi_hash_add((ddi_hash){0}, shape, sizeof shape), numbers, sizeof numbers);
    c->weights = ddi_hash_add(sizes, c->hashes.data, bytes);
    return DD_OK;
}

/* The record of image b, whose pixels are in c->image, and the name of its file. */
static dd_status describe(dd_distiller *d, const ddi_cache *c, int64_t b, const dd_tensor *sizes, char record[RECORD_BYTES],
                          char name[80])
{
    const ddi_attachment *a = d->attached;
    const dd_context *context = d->exec.context;
    const int64_t *pixels = d->input[IN_PIXELS].tensor.shape;
    const int32_t *size = (const int32_t *)sizes->data + 2 * b;
    const char *threads = strrchr(context->description, ','); /* the same bits for any number of them */
    int64_t id = -1;
    const dd_tensor *ids = &d->input[IN_IDS].tensor;
    if (d->input[IN_IDS].bound)
        id = ids->dtype == DD_I64 ? ((const int64_t *)ids->data)[b * ids->stride[0]]
                                  : ((const int32_t *)ids->data)[b * ids->stride[0]];
    const ddi_hash image =
        ddi_hash_add((ddi_hash){0}, c->image.data, (size_t)(pixels[2] * pixels[3] * 3) * a->teacher->tape.element);
    const int length = snprintf(
        record, RECORD_BYTES,
        "version %s; %.*s isa %d; weights %016llx%016llx; %s%s%s%s; image %lld, %dx%d in %lldx%lld, %016llx%016llx",
        dd_version(), threads ? (int)(threads - context->description) : (int)strlen(context->description), context->description,
        context->isa, (unsigned long long)c->weights.a, (unsigned long long)c->weights.b, a->wants_maps ? "maps " : "",
        a->wants_queries ? "queries " : "", a->encoder ? "encoder " : "", a->stored_group ? "group " : "", (long long)id,
        size[0], size[1], (long long)pixels[3], (long long)pixels[2], (unsigned long long)image.a, (unsigned long long)image.b);
    if (length < 0 || length >= RECORD_BYTES)
        return ddi_fail(DD_ERR_INTERNAL, NULL, "the description of a stored output is too long");
    const ddi_hash all = ddi_hash_add((ddi_hash){0}, record, (size_t)length);
    snprintf(name, 80, "%016llx-%016llx%016llx" ENDING, (unsigned long long)c->weights.a, (unsigned long long)all.a,
             (unsigned long long)all.b);
    return DD_OK;
}

/* ---- Shapes of a batch */

static void set_piece(ddi_cache *c, piece_id i, bool used, int64_t stages, int64_t rows, int64_t width)
{
    c->piece[i].used = used;
    c->piece[i].stages = stages;
    c->piece[i].rows = rows;
    c->piece[i].width = width;
}

/* Sides of the levels: every layer of stride 2 halves, rounding up (detectors.md 1.1). */
static void plan_levels(ddi_levels *levels, const ddi_model_config *g, int64_t height, int64_t width)
{
    *levels = (ddi_levels){.count = 0};
    for (int32_t stride = 2; levels->count < g->levels; stride *= 2) {
        height = (height + 1) / 2;
        width = (width + 1) / 2;
        if (stride >= g->detector->first_stride)
            ddi_levels_add(levels, height, width);
    }
}

static size_t piece_bytes(const piece *p, size_t element)
{
    return (size_t)((p->stages ? p->stages : 1) * p->rows * p->width) * element;
}

static dd_status plan(dd_distiller *d, ddi_cache *c)
{
    const ddi_attachment *a = d->attached;
    const ddi_model_config *g = &a->teacher->net.config;
    const int64_t *pixels = d->input[IN_PIXELS].tensor.shape, L = g->decoder_layers, N = g->queries;
    if (pixels[1] != 3 || pixels[0] < 1 || pixels[2] < 1 || pixels[3] < 1 || pixels[2] > DDI_MAX_MAP_SIDE ||
        pixels[3] > DDI_MAX_MAP_SIDE)
        return ddi_fail(DD_ERR_SHAPE, "pixels", "pixels must be [B,3,H,W], with sides of 1 .. %d", DDI_MAX_MAP_SIDE);
    plan_levels(&c->levels, g, pixels[2], pixels[3]);
    set_piece(c, LOGITS, true, L, N, g->classes);
    set_piece(c, BOXES, true, L, N, 4);
    set_piece(c, QUERIES, a->wants_queries, L, N, g->d);
    set_piece(c, MAPS, a->wants_maps, 0, c->levels.tokens, g->d);
    set_piece(c, POSITION, a->stored_group && !g->detector->no_position, 0, N, g->d);
    set_piece(c, CONTENT, a->stored_group, 0, N, g->d);
    set_piece(c, REFERENCE, a->stored_group, 0, N, g->two_stage ? 4 : 2);
    const size_t element = a->teacher->tape.element;
    for (int32_t i = 0; i < PIECES; i++)
        if (c->piece[i].used)
            DDI_TRY(ddi_buffer_reserve(&d->exec, &c->piece[i].batch, (size_t)pixels[0] * piece_bytes(&c->piece[i], element),
                                       true, "the teacher's stored outputs"));
    return ddi_buffer_reserve(&d->exec, &c->image, (size_t)(pixels[2] * pixels[3] * 3) * element, true, "one image's pixels");
}

/* One image's part of the batch. */
static void put_piece(piece *p, int64_t images, int64_t b, const char *from, size_t element)
{
    const size_t row = (size_t)(p->rows * p->width) * element;
    for (int64_t l = 0; l < (p->stages ? p->stages : 1); l++)
        memcpy((char *)p->batch.data + (size_t)(l * images + b) * row, from + (size_t)l * row, row);
}

static dd_status view_piece(const dd_distiller *d, const piece *p, int64_t images, dd_tensor *view)
{
    const int64_t shape[4] = {p->stages, images, p->rows, p->width};
    return dd_tensor_init(view, p->batch.data, d->attached->teacher->dtype, p->stages ? 4 : 3, shape + (p->stages ? 0 : 1),
                          NULL, DD_DEVICE_CPU, 0, DD_TENSOR_READONLY);
}

/* ---- Reading and writing */

static void checksum_text(const char *const data[PIECES], const ddi_cache *c, size_t element, char text[40])
{
    ddi_hash h = {0};
    for (int32_t i = 0; i < PIECES; i++)
        if (c->piece[i].used)
            h = ddi_hash_add(h, data[i], piece_bytes(&c->piece[i], element));
    snprintf(text, 40, "%016llx%016llx", (unsigned long long)h.a, (unsigned long long)h.b);
}

/* The file's tensors, if it is the one that the record describes and whole. */
static bool check_file(const dd_tensorfile *file, const ddi_cache *c, const dd_model *m, const char *record,
                       const char *data[PIECES])
{
    const char *word;
    char text[40];
    if (dd_tensorfile_metadata(file, "record", &word) != DD_OK || strcmp(word, record) != 0)
        return false;
    for (int32_t i = 0; i < PIECES; i++) {
        const piece *p = &c->piece[i];
        dd_tensor v;
        if (!p->used)
            continue;
        const int64_t stages = p->stages ? p->stages : 1;
        if (dd_tensorfile_get(file, piece_names[i], &v) != DD_OK || v.dtype != m->dtype || v.ndim != 3 ||
            v.shape[0] != stages || v.shape[1] != p->rows || v.shape[2] != p->width)
            return false;
        data[i] = v.data;
    }
    checksum_text(data, c, m->tape.element, text);
    return dd_tensorfile_metadata(file, "checksum", &word) == DD_OK && strcmp(word, text) == 0;
}

static bool read_image(const dd_distiller *d, ddi_cache *c, int64_t b, const char *record, const char *name)
{
    const dd_model *m = d->attached->teacher;
    const char *data[PIECES] = {NULL};
    char path[2 * PATH_BYTES];
    dd_tensorfile *file;
    if (!path_of(path, c, name) || !ddi_file_exists(path) || dd_tensorfile_open(&file, path) != DD_OK)
        return false;
    const bool good = check_file(file, c, m, record, data);
    for (int32_t i = 0; i < PIECES && good; i++)
        if (c->piece[i].used)
            put_piece(&c->piece[i], d->input[IN_PIXELS].tensor.shape[0], b, data[i], m->tape.element);
    dd_tensorfile_free(file);
    return good;
}

static dd_status fill_file(dd_tensorfile *file, const ddi_cache *c, const dd_model *m, const char *record,
                           const char *const data[PIECES])
{
    char text[40];
    for (int32_t i = 0; i < PIECES; i++) {
        const piece *p = &c->piece[i];
        const int64_t shape[3] = {p->stages ? p->stages : 1, p->rows, p->width};
        dd_tensor v;
        if (!p->used)
            continue;
        DDI_TRY(dd_tensor_init(&v, (void *)(uintptr_t)data[i], m->dtype, 3, shape, NULL, DD_DEVICE_CPU, 0, DD_TENSOR_READONLY));
        DDI_TRY(dd_tensorfile_set(file, piece_names[i], &v));
    }
    checksum_text(data, c, m->tape.element, text);
    DDI_TRY(dd_tensorfile_set_metadata(file, "checksum", text));
    return dd_tensorfile_set_metadata(file, "record", record);
}

/* Where it does not work out, the next time computes again. */
static void write_image(ddi_cache *c, const dd_model *m, const char *record, const char *name, const char *const data[PIECES])
{
    char path[2 * PATH_BYTES];
    dd_tensorfile *file;
    int64_t bytes = FILE_OVERHEAD, before = 0;
    for (int32_t i = 0; i < PIECES; i++)
        bytes += c->piece[i].used ? (int64_t)piece_bytes(&c->piece[i], m->tape.element) : 0;
    if (!path_of(path, c, name) || !make_room(c, name, bytes) || dd_tensorfile_create(&file) != DD_OK)
        return;
    const bool there = ddi_file_exists(path) && ddi_file_size(path, &before) == DD_OK; /* a damaged one */
    if (fill_file(file, c, m, record, data) == DD_OK && dd_tensorfile_save(file, path) == DD_OK) {
        const bool known = ddi_file_size(path, &bytes) == DD_OK;
        c->bytes += (known ? bytes : FILE_OVERHEAD) - (there ? before : 0);
    }
    dd_tensorfile_free(file);
}

/* ---- A batch, image by image */

static dd_status take_image(dd_distiller *d, ddi_cache *c, int64_t b)
{
    const dd_tensor *p = &d->input[IN_PIXELS].tensor;
    const dd_op_gather take = {.src = (const char *)p->data + (size_t)(b * p->stride[0] * dd_dtype_size(p->dtype)),
                               .dst = c->image.data,
                               .src_dtype = p->dtype,
                               .ndim = 3,
                               .shape = {p->shape[2], p->shape[3], 3},
                               .stride = {p->stride[2], p->stride[3], p->stride[1]}};
    return ddi_run(&d->exec, DD_OPERATOR_gather, d->attached->teacher->dtype, &take);
}

static dd_status compute_image(dd_distiller *d, ddi_cache *c, const dd_tensor *sizes, int64_t b, const char *data[PIECES])
{
    ddi_attachment *a = d->attached;
    dd_model *m = a->teacher;
    const int64_t *p = d->input[IN_PIXELS].tensor.shape, H = p[2], W = p[3];
    const int64_t shape[4] = {1, 3, H, W}, stride[4] = {H * W * 3, 1, W * 3, 3};
    const ddi_model_pass pass = {.record = false};
    const ddi_detections *o = &m->out;
    dd_tensor pixels, size = *sizes, queries;
    DDI_TRY(dd_tensor_init(&pixels, c->image.data, m->dtype, 4, shape, stride, DD_DEVICE_CPU, 0, DD_TENSOR_READONLY));
    size.data = (int32_t *)sizes->data + 2 * b;
    size.shape[0] = 1;
    DDI_TRY(ddi_model_run(m, &pixels, &size, &pass));
    DDI_TRY(ddi_sync(&m->exec));
    if (memcmp(o->levels.height, c->levels.height, sizeof o->levels.height) != 0 ||
        memcmp(o->levels.width, c->levels.width, sizeof o->levels.width) != 0)
        return ddi_fail(DD_ERR_INTERNAL, NULL, "the teacher's levels have other sizes than planned");
    data[LOGITS] = o->logits->data;
    data[BOXES] = o->boxes->data;
    if (a->wants_queries) {
        DDI_TRY(ddi_pack_layers(&d->exec, m, &a->teacher_queries, &queries));
        data[QUERIES] = queries.data;
    }
    if (a->wants_maps)
        data[MAPS] = (a->encoder ? o->encoder : o->features)->data;
    if (a->stored_group) {
        data[POSITION] = o->queries.position ? o->queries.position->data : NULL;
        data[CONTENT] = o->queries.content->data;
        data[REFERENCE] = o->queries.reference->data;
    }
    for (int32_t i = 0; i < PIECES; i++)
        if (c->piece[i].used)
            put_piece(&c->piece[i], p[0], b, data[i], m->tape.element);
    return DD_OK;
}

static dd_status run_image(dd_distiller *d, ddi_cache *c, const dd_tensor *sizes, int64_t b)
{
    const char *data[PIECES] = {NULL};
    char record[RECORD_BYTES], name[80];
    DDI_TRY(take_image(d, c, b));
    DDI_TRY(describe(d, c, b, sizes, record, name));
    if (read_image(d, c, b, record, name)) {
        c->hits++;
        return DD_OK;
    }
    c->misses++;
    DDI_TRY(compute_image(d, c, sizes, b, data));
    write_image(c, d->attached->teacher, record, name, data);
    ddi_error_clear(); /* of a file that could not be read or written */
    return DD_OK;
}

dd_status ddi_cache_run(dd_distiller *d, const dd_tensor *sizes)
{
    ddi_attachment *a = d->attached;
    ddi_cache *c = a->cache;
    ddi_teacher_outputs *o = &a->teacher_outputs;
    dd_tensor *const views[PIECES] = {&o->logits, &o->boxes, &o->queries, &o->maps, &o->position, &o->content, &o->reference};
    const int64_t images = d->input[IN_PIXELS].tensor.shape[0];
    DDI_TRY(plan(d, c));
    if (d->input[IN_IDS].bound)
        DDI_TRY(ddi_input_expect(&d->input[IN_IDS], 1, &images));
    DDI_TRY(hash_weights(d, c));
    for (int64_t b = 0; b < images; b++)
        DDI_TRY(run_image(d, c, sizes, b));
    o->levels = c->levels;
    for (int32_t i = 0; i < PIECES; i++)
        if (c->piece[i].used)
            DDI_TRY(view_piece(d, &c->piece[i], images, views[i]));
    return DD_OK;
}
