/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints of other programs: their names are turned into ours, and what a configuration would say is read off the tensors.
 */
#include "base/error.h"
#include "base/limits.h"
#include "models/keymap.h"
#include "models/model.h"

#include <stdio.h>
#include <string.h>

/* ---- Names */

static dd_status no_map(const dd_tensorfile *file, const char *path)
{
    return ddi_fail(
        DD_ERR_FORMAT, path,
        "%.120s: its names ('%.60s', ..) are of no detector that is known: Hugging Face's, mmdetection's or the official "
        "programs'",
        path, file->tensor_count > 0 ? file->tensor[0].name : "none");
}

static dd_status rename_with(dd_tensorfile *file, const char *path, const ddi_model_settings *s, const ddi_key_rules *own,
                             const ddi_keymap **map)
{
    char side[DDI_OPTION_TEXT + 1];
    snprintf(side, sizeof side, "%s.", s->side);
    const char *wanted = *s->side ? side : NULL;
    *map = ddi_keymap_guess(file, wanted);
    if (!*map && own->count == 0) {
        return no_map(file, path);
    }
    if (*map && !ddi_detector_find((*map)->family)) {
        return ddi_fail(DD_ERR_UNSUPPORTED, path, "%.120s holds a model of the kind %s, which is no detector of ours", path,
                        (*map)->family);
    }
    DDI_TRY(ddi_keymap_rename(file, *map, own, wanted));
    return s->coco ? ddi_keymap_select_coco(file) : DD_OK;
}

dd_status ddi_checkpoint_rename(dd_tensorfile *file, const char *path, const ddi_model_settings *s, const ddi_keymap **map)
{
    ddi_key_rules own = {.rule = NULL};
    ddi_file_map text = {.data = NULL};
    dd_status status = *s->map ? ddi_file_map_open(&text, s->map) : DD_OK;
    if (status == DD_OK && *s->map) {
        status = ddi_key_rules_read(&own, s->map, text.data, text.size);
        ddi_file_map_close(&text);
    }
    if (status == DD_OK) {
        status = rename_with(file, path, s, &own, map);
    }
    ddi_key_rules_free(&own);
    return status;
}

/* ---- Sizes, from tensors */

bool ddi_file_shape(const dd_tensorfile *file, const char *name, int32_t ndim, dd_tensor *view)
{
    const int32_t index = ddi_name_index_find(&file->tensor_index, name);
    if (index < 0 || file->tensor[index].view.ndim != ndim) {
        return false;
    }
    *view = file->tensor[index].view;
    return true;
}

int32_t ddi_file_layers(const dd_tensorfile *file, const char *part, const char *tensor, int64_t *rows)
{
    dd_tensor view;
    int32_t count = 0;
    for (; count <= DDI_MOST_LAYERS; count++) {
        char name[DDI_NAME_BYTES];
        snprintf(name, sizeof name, "model.%s.layers.%d.%s", part, count, tensor);
        if (!ddi_file_shape(file, name, 2, &view)) {
            break;
        }
        *rows = view.shape[0];
    }
    return count;
}

bool ddi_file_all_zero(const dd_tensorfile *file, const char *name)
{
    dd_tensor view;
    bool zero = ddi_file_shape(file, name, 1, &view);
    for (int64_t i = 0; zero && i < view.shape[0] * dd_dtype_size(view.dtype); i++) {
        zero = ((const char *)view.data)[i] == 0;
    }
    return zero;
}

dd_status ddi_file_lacks(const char *what)
{
    return ddi_fail(DD_ERR_NOT_FOUND, what, "the file lacks the tensor '%s'", what);
}

dd_status ddi_file_tables(const dd_tensorfile *file, const char *table, const char *class_head, ddi_model_config *c)
{
    dd_tensor view;
    if (!ddi_file_shape(file, table, 2, &view)) {
        return ddi_file_lacks(table);
    }
    if (view.shape[1] < 1 || view.shape[1] > 8192) {
        return ddi_fail(DD_ERR_LIMIT, table, "the file's model has no channel, or more than 8192");
    }
    c->queries = view.shape[0];
    c->d = view.shape[1];
    if (!ddi_file_shape(file, class_head, 2, &view)) {
        return ddi_file_lacks(class_head);
    }
    c->classes = view.shape[0];
    return DD_OK;
}

dd_status ddi_file_depth(const dd_tensorfile *file, ddi_model_config *c)
{
    c->encoder_ffn = 1;
    c->encoder_layers = ddi_file_layers(file, "encoder", "fc1.weight", &c->encoder_ffn);
    c->decoder_layers = ddi_file_layers(file, "decoder", "fc1.weight", &c->decoder_ffn);
    if (c->encoder_layers > DDI_MOST_LAYERS || c->decoder_layers < 1 || c->decoder_layers > DDI_MOST_LAYERS) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "the file's model has no decoder layer, or more than %d", DDI_MOST_LAYERS);
    }
    return DD_OK;
}

bool ddi_same_bytes(const dd_tensor *a, const dd_tensor *b)
{
    return a->dtype == b->dtype && a->shape[0] == b->shape[0] && a->shape[1] == b->shape[1] &&
           memcmp(a->data, b->data, (size_t)(a->shape[0] * a->shape[1] * dd_dtype_size(a->dtype))) == 0;
}

bool ddi_file_same(const dd_tensorfile *file, const char *a, const char *b)
{
    dd_tensor first, second;
    return ddi_file_shape(file, a, 2, &first) && ddi_file_shape(file, b, 2, &second) && ddi_same_bytes(&first, &second);
}

dd_status ddi_file_deformable(const dd_tensorfile *file, ddi_model_config *c)
{
    dd_tensor view;
    if (!ddi_file_shape(file, "model.level_embed", 2, &view)) {
        return ddi_file_lacks("model.level_embed");
    }
    if (view.shape[0] > DDI_MOST_LEVELS || view.shape[1] > 8192) {
        return ddi_fail(DD_ERR_LIMIT, "model.level_embed", "the file's model has more than %d levels or 8192 channels",
                        DDI_MOST_LEVELS);
    }
    c->levels = (int32_t)view.shape[0];
    c->d = view.shape[1];
    return ddi_file_depth(file, c);
}

/* Points of a head on a level; 0: the rows do not fit the numbers of heads and levels. */
static int32_t count_points(const dd_tensorfile *file, const char *name, int64_t heads, int64_t levels)
{
    dd_tensor view;
    const bool found = ddi_file_shape(file, name, 2, &view);
    return found && view.shape[0] % (heads * levels) == 0 && view.shape[0] / heads / levels <= 64
               ? (int32_t)(view.shape[0] / heads / levels)
               : 0;
}

dd_status ddi_file_sampling(const dd_tensorfile *file, int64_t heads, ddi_model_config *c)
{
    static const char encoder[] = "model.encoder.layers.0.self_attn.attention_weights.weight";
    static const char decoder[] = "model.decoder.layers.0.encoder_attn.attention_weights.weight";
    c->encoder_heads = c->decoder_heads = (int32_t)heads;
    c->encoder_points = c->encoder_layers > 0 ? count_points(file, encoder, heads, c->levels) : 1;
    c->decoder_points = count_points(file, decoder, heads, c->levels);
    if (c->encoder_points == 0 || c->decoder_points == 0) {
        return ddi_fail(DD_ERR_SHAPE, "heads",
                        "the file's attention weights do not fit %lld heads and %d levels; give heads=", (long long)heads,
                        c->levels);
    }
    return DD_OK;
}

/* The family of a map; without one that of the tensors' own names. */
static const ddi_detector *detector_of(const dd_tensorfile *file, const ddi_keymap *map)
{
    map = map ? map : ddi_keymap_guess(file, "");
    const ddi_detector *detector = ddi_detector_find(map ? map->family : NULL);
    return detector ? detector : &ddi_deformable_detr;
}

dd_status ddi_checkpoint_config(const dd_tensorfile *file, const ddi_model_settings *s, const ddi_keymap *map,
                                ddi_model_config *c)
{
    const ddi_unsaid unsaid = {.refine = s->refine, .heads = s->heads, .queries = s->queries, .map = map};
    *c = (ddi_model_config){.detector = detector_of(file, map)};
    DDI_TRY(c->detector->files->read_tensors(file, &unsaid, c));
    if (c->queries > DDI_MAX_QUERIES || c->classes > DDI_MAX_CLASSES) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "the file's model has more than %d queries or %d classes", DDI_MAX_QUERIES,
                        DDI_MAX_CLASSES);
    }
    DDI_TRY(ddi_huggingface_backbone(file, &c->backbone));
    const char *wrong = ddi_config_complaint(c);
    return wrong ? ddi_fail(DD_ERR_FORMAT, NULL, "the file's model cannot be: %s", wrong) : DD_OK;
}

/* ---- A pretrained backbone */

typedef struct start {
    dd_model *model;
    const dd_tensorfile *file;
    int32_t taken, all; /* convolutions */
    dd_status status;
} start;

static bool begin(start *s, const ddi_param *p, const char *at, const char *end)
{
    char name[DDI_NAME_BYTES + 64];
    snprintf(name, sizeof name, "%s%s", at, end);
    const int32_t index = p && s->status == DD_OK ? ddi_name_index_find(&s->file->tensor_index, name) : -1;
    if (index < 0 || !ddi_param_fits(p, &s->file->tensor[index].view)) {
        return false;
    }
    s->status = ddi_model_copy_in(s->model, p, &s->file->tensor[index].view);
    return s->status == DD_OK;
}

static void fill(dd_model *m, const ddi_param *p, double value)
{
    for (int64_t i = 0; i < p->count; i++) {
        if (m->dtype == DD_F64) {
            ((double *)(void *)p->data)[i] = value;
        } else {
            ((float *)(void *)p->data)[i] = (float)value;
        }
    }
}

/* A convolution with its norm, or with a bias that a norm was folded into. */
static void begin_conv(start *s, const ddi_resnet_conv *c, const char *conv, const char *norm)
{
    if (!c->w) {
        return;
    }
    s->all++;
    if (!begin(s, c->w, conv, ".weight")) {
        return;
    }
    s->taken++;
    if (begin(s, c->beta, conv, ".bias")) {
        fill(s->model, c->gamma, 1);
        fill(s->model, c->mean, 0);
        fill(s->model, c->variance, 1 - DDI_NORM_EPS); /* so that the scale is 1 */
        return;
    }
    begin(s, c->gamma, norm, ".weight");
    begin(s, c->beta, norm, ".bias");
    begin(s, c->mean, norm, ".running_mean");
    begin(s, c->variance, norm, ".running_var");
}

static void begin_blocks(start *s)
{
    char conv[DDI_NAME_BYTES], norm[DDI_NAME_BYTES];
    const ddi_resnet *r = &s->model->net.backbone;
    snprintf(conv, sizeof conv, "%sconv1", ddi_backbone_prefix);
    snprintf(norm, sizeof norm, "%sbn1", ddi_backbone_prefix);
    begin_conv(s, &r->stem, conv, norm);
    for (int32_t stage = 0, at = 0; stage < 4; stage++) {
        for (int32_t k = 0; k < r->config.depth[stage]; k++, at++) {
            const ddi_resnet_block *block = &r->block[at];
            for (int32_t i = 0; i <= block->convs; i++) {
                const bool skip = i == block->convs;
                snprintf(conv, sizeof conv, skip ? "%slayer%d.%d.downsample.0" : "%slayer%d.%d.conv%d", ddi_backbone_prefix,
                         stage + 1, k, i + 1);
                snprintf(norm, sizeof norm, skip ? "%slayer%d.%d.downsample.1" : "%slayer%d.%d.bn%d", ddi_backbone_prefix,
                         stage + 1, k, i + 1);
                begin_conv(s, skip ? &block->skip : &block->conv[i], conv, norm);
            }
        }
    }
}

dd_status ddi_checkpoint_backbone(dd_model *m, const char *path)
{
    dd_tensorfile *file = NULL;
    DDI_TRY(dd_tensorfile_open(&file, path));
    const ddi_keymap *map = ddi_keymap_guess(file, NULL);
    start s = {.model = m, .file = file, .status = map ? ddi_keymap_rename(file, map, NULL, NULL) : no_map(file, path)};
    if (s.status == DD_OK) {
        begin_blocks(&s);
    }
    if (s.status == DD_OK && s.taken == 0) {
        s.status = ddi_fail(DD_ERR_SHAPE, path, "%.120s: none of its convolutions fits this backbone", path);
    }
    ddi_log_line(m->context, DD_LOG_INFO, "%s: %d of the backbone's %d convolutions", path, s.taken, s.all);
    dd_tensorfile_free(file);
    return s.status;
}
