/* SPDX-License-Identifier: Apache-2.0
 * A model as a handle: loading, one batch forward, the names of what it leaves. */
#include "models/model.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/io.h"
#include "base/limits.h"
#include "tape/node.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

static const ddi_option options[] = {
    {"dtype", DDI_CHOICE, offsetof(ddi_model_settings, f64), 0, 0, "f32", "f32|f64", "type of parameters and activations"},
    {"training", DDI_CHOICE, offsetof(ddi_model_settings, training), 0, 0, "0", "0|1", "1: dropout draws"},
    {"gradients", DDI_CHOICE, offsetof(ddi_model_settings, gradients), 0, 0, "1", "0|1",
     "0: no backward pass; activations are given back at once"},
    {"map", DDI_TEXT, offsetof(ddi_model_settings, map), 0, 0, "", NULL,
     "file of rules 'name -> name' that come before the known ones"},
    {"side", DDI_TEXT, offsetof(ddi_model_settings, side), 0, 0, "", NULL,
     "student or teacher, of a checkpoint that holds both"},
    {"coco", DDI_CHOICE, offsetof(ddi_model_settings, coco), 0, 0, "0", "0|1", "1: of 91 classes keep the 80 that COCO has"},
    {"refine", DDI_CHOICE, offsetof(ddi_model_settings, refine), 0, 0, "auto", "auto|1|0",
     "box refinement, where no configuration says; auto: if the layers' heads differ"},
    {"heads", DDI_INT, offsetof(ddi_model_settings, heads), 1, 1024, "8", NULL, "attention heads, where no configuration says"},
    {"queries", DDI_INT, offsetof(ddi_model_settings, queries), 1, DDI_MAX_QUERIES, "300", NULL,
     "of two-stage models, where no configuration says"},
};
const ddi_option_table ddi_model_options = {"model", options, sizeof options / sizeof options[0]};

void ddi_model_destroy(dd_model *m)
{
    dd_context *context = m->context;
    ddi_tape_free(&m->tape);
    ddi_net_free(&m->net, &m->exec);
    ddi_params_free(&m->params, &m->exec);
    ddi_buffer_free(&m->exec, &m->found);
    for (int64_t i = 0; m->class_name && i < m->net.config.classes; i++) {
        ddi_free(&context->allocator, m->class_name[i]);
    }
    ddi_free(&context->allocator, m->class_name);
    ddi_exec_free(&m->exec);
    ddi_free(&context->allocator, m->config);
    ddi_free(&context->allocator, m->source);
    ddi_free(&context->allocator, m);
    ddi_context_release(context);
}

/* ---- Loading */

static dd_status join(char *to, const char *folder, const char *name)
{
    return snprintf(to, PATH_BYTES, "%s/%s", folder, name) < PATH_BYTES
               ? DD_OK
               : ddi_fail(DD_ERR_LIMIT, NULL, "the path %.80s.. is too long", folder);
}

static dd_status read_config(dd_model *m, const char *folder, ddi_model_config *config)
{
    char path[PATH_BYTES];
    ddi_file_map map;
    DDI_TRY(join(path, folder, "config.json"));
    DDI_TRY(ddi_file_map_open(&map, path));
    dd_status status = ddi_huggingface_config(path, map.data, map.size, config);
    m->config = status == DD_OK ? ddi_alloc(&m->context->allocator, map.size) : NULL;
    if (m->config) {
        memcpy(m->config, map.data, map.size);
        m->config_bytes = map.size;
    } else if (status == DD_OK) {
        status = ddi_fail_nomem(map.size, "a configuration");
    }
    ddi_file_map_close(&map);
    return status;
}

/* Memory for parameters, with start values, and classes without names. */
static dd_status allocate(dd_model *m)
{
    const ddi_model_config *config = &m->net.config;
    DDI_TRY(ddi_params_allocate(&m->params, &m->exec, (uint64_t)m->context->settings.seed));
    m->class_name = ddi_alloc_zero(&m->context->allocator, (size_t)config->classes, sizeof *m->class_name);
    if (!m->class_name) {
        return ddi_fail_nomem((uint64_t)config->classes * sizeof *m->class_name, "names of classes");
    }
    for (int64_t i = 0; i < config->classes; i++) {
        char name[32];
        snprintf(name, sizeof name, "LABEL_%lld", (long long)i);
        DDI_TRY(ddi_model_set_class(m, (int32_t)i, name));
    }
    return DD_OK;
}

static dd_status finish(dd_model *m)
{
    DDI_TRY(ddi_resnet_fold(&m->net.backbone, &m->exec, m->dtype));
    return m->settings.gradients ? ddi_params_allocate_grad(&m->params, &m->exec) : DD_OK;
}

static dd_status load_parameters(dd_model *m, const dd_tensorfile *file, const ddi_model_config *config)
{
    ddi_build build = {.params = &m->params, .trained = true};
    int32_t *place;
    DDI_TRY(ddi_net_build(&m->net, &build, config));
    DDI_TRY(ddi_huggingface_match(m, file, &place)); /* before memory is taken for what a file only claims */
    dd_status status = allocate(m);
    if (status == DD_OK) {
        status = ddi_huggingface_load(m, file, place);
    }
    ddi_free(&m->context->allocator, place);
    return status;
}

static dd_status load_folder(dd_model *m, const char *folder, dd_tensorfile *file, const char *path)
{
    ddi_model_config config;
    const ddi_keymap *map;
    DDI_TRY(read_config(m, folder, &config));
    if (*m->settings.map) {
        DDI_TRY(ddi_checkpoint_rename(file, path, &m->settings, &map));
    }
    DDI_TRY(ddi_huggingface_backbone(file, &config.backbone));
    if (config.detector->files->read_folder) {
        config.detector->files->read_folder(file, &config);
    }
    const char *wrong = ddi_config_complaint(&config);
    if (wrong) {
        return ddi_fail(DD_ERR_FORMAT, folder, "the model in %.120s cannot be: %s", folder, wrong);
    }
    DDI_TRY(load_parameters(m, file, &config));
    DDI_TRY(ddi_huggingface_classes(m));
    m->renamed = false;
    return finish(m);
}

/* A checkpoint without a configuration. Its backbone gets transformers' names, so that what is saved is a folder of theirs. */
static dd_status load_file(dd_model *m, dd_tensorfile *file, const char *path)
{
    ddi_model_config config;
    const ddi_keymap *map;
    DDI_TRY(ddi_checkpoint_rename(file, path, &m->settings, &map));
    DDI_TRY(ddi_checkpoint_config(file, &m->settings, map, &config));
    config.backbone.names = DDI_RESNET_TRANSFORMERS;
    DDI_TRY(load_parameters(m, file, &config));
    return finish(m);
}

static dd_status load(dd_model *m, const char *at)
{
    char path[PATH_BYTES];
    dd_tensorfile *file = NULL;
    DDI_TRY(join(path, at, "config.json"));
    const bool folder = ddi_file_exists(path);
    if (folder) {
        DDI_TRY(join(path, at, "model.safetensors"));
    }
    const char *weights = folder ? path : at;
    DDI_TRY(dd_tensorfile_open(&file, weights));
    const dd_status status = folder ? load_folder(m, at, file, path) : load_file(m, file, at);
    dd_tensorfile_free(file);
    DDI_TRY(status);
    ddi_path_absolute(at, path);
    m->source = ddi_strdup(&m->context->allocator, path);
    return m->source ? DD_OK : ddi_fail_nomem(strlen(path), "a path");
}

/* Without parameters yet; NULL: out of memory. */
static dd_model *start(dd_context *context, const ddi_model_settings *settings)
{
    dd_model *m = ddi_alloc_zero(&context->allocator, 1, sizeof *m);
    if (!m) {
        ddi_fail_nomem(sizeof *m, "a model");
        return NULL;
    }
    m->context = ddi_context_reference(context);
    m->settings = *settings;
    m->seed = (uint64_t)context->settings.seed;
    m->dtype = settings->f64 ? DD_F64 : DD_F32;
    ddi_exec_init(&m->exec, context);
    ddi_params_init(&m->params, context, m->dtype);
    ddi_tape_init(&m->tape, &m->exec, m->dtype, false);
    return m;
}

static dd_status hand_out(dd_model **model, dd_model *m, dd_status status)
{
    if (status != DD_OK) {
        ddi_model_destroy(m);
        return status;
    }
    *model = m;
    return DD_OK;
}

dd_status ddi_model_load(dd_model **model, dd_context *context, const char *folder, const char *text)
{
    ddi_model_settings settings;
    ddi_options_init(&ddi_model_options, &settings);
    DDI_TRY(ddi_options_parse(&ddi_model_options, text, &settings, NULL));
    dd_model *m = start(context, &settings);
    return m ? hand_out(model, m, load(m, folder)) : DD_ERR_NOMEM;
}

static dd_status create(dd_model *m, const ddi_model_config *config, const char *weights)
{
    ddi_build build = {.params = &m->params, .trained = true};
    DDI_TRY(ddi_net_build(&m->net, &build, config));
    DDI_TRY(allocate(m));
    if (*weights) {
        DDI_TRY(ddi_checkpoint_backbone(m, weights));
    }
    return finish(m);
}

dd_status ddi_model_create(dd_model **model, dd_context *context, const char *text)
{
    ddi_model_settings settings;
    ddi_model_config config;
    char weights[DDI_OPTION_TEXT];
    DDI_TRY(ddi_architecture_read(text, &settings, &config, weights));
    dd_model *m = start(context, &settings);
    return m ? hand_out(model, m, create(m, &config, weights)) : DD_ERR_NOMEM;
}

/* ---- Saving, classes, modes */

dd_status ddi_model_save(const dd_model *m, const char *folder)
{
    char path[PATH_BYTES];
    ddi_text config = {0};
    dd_tensorfile *file = NULL;
    DDI_TRY(join(path, folder, "model.safetensors"));
    DDI_TRY(dd_tensorfile_create(&file));
    dd_status status = ddi_huggingface_save(m, file);
    if (status == DD_OK) {
        status = ddi_huggingface_write(m, &config);
    }
    if (status == DD_OK) {
        status = dd_tensorfile_save(file, path);
    }
    dd_tensorfile_free(file);
    if (status == DD_OK) {
        status = join(path, folder, "config.json");
    }
    const ddi_file_piece piece = {config.data, config.size};
    if (status == DD_OK) {
        status = ddi_file_replace(path, &piece, 1);
    }
    ddi_text_free(&config);
    return status;
}

dd_status ddi_model_set_class(dd_model *m, int32_t label, const char *name)
{
    ddi_allocator *allocator = &m->context->allocator;
    char *copy = ddi_strdup(allocator, name);
    if (!copy) {
        return ddi_fail_nomem(strlen(name) + 1, "the name of a class");
    }
    ddi_free(allocator, m->class_name[label]);
    m->class_name[label] = copy;
    m->renamed = true;
    return DD_OK;
}

dd_status ddi_model_set_mode(dd_model *m, bool training, bool gradients)
{
    if (gradients && !m->params.grad.data) {
        DDI_TRY(ddi_params_allocate_grad(&m->params, &m->exec));
    }
    m->settings.training = training;
    m->settings.gradients = gradients;
    return DD_OK;
}

/* ---- Forward */

static dd_status check_pixels(const dd_tensor *p)
{
    if (p->ndim != 4 || (p->shape[1] != 3 && p->shape[3] != 3)) {
        return ddi_fail(DD_ERR_SHAPE, "pixels", "pixels must be [B,3,H,W] or [B,H,W,3]");
    }
    const bool is_float = p->dtype == DD_F32 || p->dtype == DD_F64 || p->dtype == DD_F16 || p->dtype == DD_BF16;
    return is_float
               ? DD_OK
               : ddi_fail(DD_ERR_DTYPE, "pixels", "pixels has the type %s; give floats, normalised", dd_dtype_name(p->dtype));
}

static dd_status check_sides(const dd_tensor *p)
{
    if (p->shape[0] < 1 || p->shape[0] > DDI_MAX_IMAGES || p->shape[2] < 1 || p->shape[2] > DDI_MAX_MAP_SIDE ||
        p->shape[3] < 1 || p->shape[3] > DDI_MAX_MAP_SIDE) {
        return ddi_fail(DD_ERR_LIMIT, "pixels", "pixels has no image, or sides outside 1 .. %d", DDI_MAX_MAP_SIDE);
    }
    return DD_OK;
}

/* (w,h) of each image, on the tape's memory. */
static const int32_t *read_sizes(dd_model *m, const dd_tensor *pixels, const dd_tensor *sizes)
{
    const int64_t B = pixels->shape[0];
    int32_t *out = ddi_tape_memory(&m->tape, (size_t)B * 2 * sizeof *out);
    if (out && sizes && (sizes->ndim != 2 || sizes->shape[0] != B || sizes->shape[1] != 2 || sizes->dtype != DD_I32)) {
        ddi_tape_fail(&m->tape, ddi_fail(DD_ERR_SHAPE, "sizes", "sizes must be int32 [B,2]: width and height of each image"));
        return NULL;
    }
    for (int64_t i = 0; out && i < 2 * B; i++) {
        const int64_t side = pixels->shape[i % 2 ? 2 : 3];
        out[i] = sizes ? ((const int32_t *)sizes->data)[i / 2 * sizes->stride[0] + i % 2 * sizes->stride[1]] : (int32_t)side;
        if (out[i] < 1 || out[i] > side) {
            ddi_tape_fail(&m->tape, ddi_fail(DD_ERR_ARGUMENT, "sizes", "image %lld: a side of %d is outside 1 .. %lld",
                                             (long long)(i / 2), out[i], (long long)side));
            return NULL;
        }
    }
    return out;
}

/* [B,3,H,W] of any strides to [B,H,W,3]. */
static ddi_value *take_pixels(dd_model *m, const dd_tensor *p)
{
    const int64_t shape[4] = {p->shape[0], p->shape[2], p->shape[3], 3};
    const int64_t stride[4] = {p->stride[0], p->stride[2], p->stride[3], p->stride[1]};
    ddi_value *image = ddi_new(&m->tape, 4, shape);
    dd_op_gather a = {.src = p->data, .dst = image->data, .src_dtype = p->dtype, .ndim = 4};
    memcpy(a.shape, shape, sizeof shape);
    memcpy(a.stride, stride, sizeof stride);
    ddi_tape_run(&m->tape, DD_OPERATOR_gather, &a);
    return image;
}

/* [B,H,W,3] seen as [B,3,H,W]. */
static dd_tensor channels_first(const dd_tensor *pixels)
{
    dd_tensor p = *pixels;
    if (p.ndim == 4 && p.shape[1] != 3) {
        const int32_t from[4] = {0, 3, 1, 2};
        for (int32_t i = 0; i < 4; i++) {
            p.shape[i] = pixels->shape[from[i]];
            p.stride[i] = pixels->stride[from[i]];
        }
    }
    return p;
}

/* One piece of memory for all that a batch of this size needs: blocks that lie in several waste room. */
static dd_status reserve(dd_model *m, const dd_tensor *pixels, const ddi_model_pass *pass)
{
    const int64_t *s = pixels->shape, shape[4] = {s[0], s[2], s[3], 3};
    const int32_t kind = pass->record ? 1 + (pass->group != NULL) + 2 * (pass->truth != NULL) : 0;
    int64_t elements;
    if (!ddi_mul(s[0], s[2], &elements) || !ddi_mul(elements, s[3], &elements) || elements > DDI_MAX_ELEMENTS) {
        return ddi_fail(DD_ERR_LIMIT, "pixels", "pixels has too many elements");
    }
    if (elements > m->planned[kind].elements) {
        ddi_plan plan;
        DDI_TRY(ddi_model_plan(m, shape, true, pass, &plan));
        m->planned[kind].elements = elements;
        m->planned[kind].bytes = (size_t)plan.activations;
    }
    return ddi_arena_reserve(&m->tape.arena, m->planned[kind].bytes);
}

static void forget_pass(dd_model *m)
{
    ddi_tape_reset(&m->tape);
    m->has_run = false;
}

void ddi_model_exchange(dd_model *one, dd_model *other)
{
    forget_pass(one);
    forget_pass(other);
    const ddi_arena arena = one->tape.arena;
    one->tape.arena = other->tape.arena;
    other->tape.arena = arena;
    ddi_exec_exchange(&one->exec, &other->exec);
}

dd_status ddi_model_forward(dd_model *m, const dd_tensor *pixels, const dd_tensor *sizes)
{
    const ddi_model_pass pass = {.record = m->settings.gradients != 0, .training = m->settings.training != 0};
    return ddi_model_run(m, pixels, sizes, &pass);
}

dd_status ddi_model_run(dd_model *m, const dd_tensor *given, const dd_tensor *sizes, const ddi_model_pass *pass)
{
    ddi_tape *t = &m->tape;
    const uint32_t step = t->step;
    DDI_TRY(check_pixels(given));
    const dd_tensor seen = channels_first(given), *pixels = &seen;
    DDI_TRY(check_sides(pixels));
    m->has_run = false;
    ddi_tape_reset(t);
    DDI_TRY(reserve(m, pixels, pass));
    t->record = pass->record;
    t->training = pass->training;
    t->seed = m->seed;
    const int32_t *known = read_sizes(m, pixels, sizes);
    if (known) {
        const ddi_model_input input = {take_pixels(m, pixels), known, pass->group, pass->group_arg, pass->truth, pass->noise};
        m->net.config.detector->forward(t, &m->net, &input, &m->out);
    }
    t->step = step + 1;
    m->has_run = t->status == DD_OK;
    return t->status;
}

/* ---- Names */

/* The number behind "name." where it is below `count`; -1 otherwise. */
static int32_t numbered(const char *name, const char *prefix, int32_t count)
{
    char text[64];
    for (int32_t i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%s.%d", prefix, i);
        if (strcmp(text, name) == 0) {
            return i;
        }
    }
    return -1;
}

static dd_status view_of(const dd_model *m, const ddi_value *v, dd_tensor *view)
{
    return dd_tensor_init(view, v->data, m->dtype, v->ndim, v->shape, NULL, DD_DEVICE_CPU, 0, 0);
}

/* A map [B,H,W,C], or level l of tokens, seen as [B,C,H,W]. */
static dd_status view_map(const dd_model *m, const ddi_value *v, int64_t B, int64_t C, int64_t H, int64_t W, int64_t image,
                          int64_t first, dd_tensor *view)
{
    const int64_t shape[4] = {B, C, H, W}, stride[4] = {image, 1, W * C, C};
    return dd_tensor_init(view, v->data + (size_t)(first * C) * m->tape.element, m->dtype, 4, shape, stride, DD_DEVICE_CPU, 0,
                          0);
}

static ddi_value *plain_value(const ddi_detections *o, const ddi_model_config *c, const char *name)
{
    const struct {
        const char *name;
        ddi_value *value;
    } known[] = {{"logits", o->logits},
                 {"boxes", o->boxes},
                 {"encoder", o->encoder},
                 {"reference", o->reference},
                 {"ratios", o->ratio},
                 {"proposal.logits", o->proposal_logits},
                 {"proposal.boxes", o->proposals},
                 {"proposal.sigmoid", o->proposal_boxes},
                 {"proposal.scores", o->scores}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i].name) == 0) {
            return known[i].value;
        }
    }
    const struct {
        const char *prefix;
        ddi_value *const *layer;
    } layers[] = {{"decoder", o->layer}, {"raw", o->raw}, {"refined", o->refined}};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        const int32_t n = numbered(name, layers[i].prefix, c->decoder_layers);
        if (n >= 0) {
            return layers[i].layer[n];
        }
    }
    return NULL;
}

dd_status ddi_model_value(dd_model *m, const char *name, ddi_value **value, dd_tensor *view)
{
    const ddi_detections *o = &m->out;
    if (!m->has_run) {
        return ddi_fail(DD_ERR_STATE, name, "'%.60s' is there after dd_model_forward", name);
    }
    int32_t i = numbered(name, "features", o->levels.count);
    if (i >= 0) {
        *value = o->features;
        return view_map(m, *value, (*value)->shape[0], (*value)->shape[2], o->levels.height[i], o->levels.width[i],
                        o->levels.tokens * (*value)->shape[2], o->levels.first[i], view);
    }
    i = numbered(name, "backbone", 4);
    if (i >= 0) {
        *value = o->stage[i];
        const int64_t *s = (*value)->shape;
        return view_map(m, *value, s[0], s[3], s[1], s[2], s[1] * s[2] * s[3], 0, view);
    }
    if (strcmp(name, "proposal.top") == 0 && o->top) {
        const int64_t shape[2] = {o->features->shape[0], m->net.config.queries};
        *value = o->top;
        return dd_tensor_init(view, o->top->data, DD_I32, 2, shape, NULL, DD_DEVICE_CPU, 0, DD_TENSOR_READONLY);
    }
    *value = plain_value(o, &m->net.config, name);
    if (!*value) {
        return ddi_fail(DD_ERR_NOT_FOUND, name, "this model leaves no tensor '%.60s'", name);
    }
    return view_of(m, *value, view);
}
