/* SPDX-License-Identifier: Apache-2.0
 * A model as a checkpoint of another program: the rules for names, the other way round (detectors.md 7.7). */
#include "base/error.h"
#include "models/model.h"
#include "tensor/tensor.h"

#include <stdio.h>
#include <string.h>

typedef struct export_settings {
    int32_t coco_ids;
    char names[DDI_OPTION_TEXT];
} export_settings;

static const ddi_option options[] = {
    {"names", DDI_TEXT, offsetof(export_settings, names), 0, 0, "", NULL,
     "whose: official, mmdet2, mmdet3, .. as far as there are such files of the family"},
    {"coco-ids", DDI_CHOICE, offsetof(export_settings, coco_ids), 0, 0, "0", "0|1",
     "1: of 80 classes make 91, one for each id of COCO; those that it does not use are never found"},
};
const ddi_option_table ddi_export_options = {"export", options, sizeof options / sizeof options[0]};

typedef struct exporter {
    const dd_model *model;
    const ddi_keymap *map;
    dd_tensorfile *own, *file; /* the model in our names; in theirs */
} exporter;

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

static bool is_there(const dd_tensorfile *file, const char *name)
{
    return ddi_name_index_find(&file->tensor_index, name) >= 0;
}

/* ---- Names */

/* The name in their file, and which part of it: by a rule that reading would take for it. */
static bool their_name(const exporter *e, const char *name, char theirs[DDI_KEY_BYTES], int32_t *part, int32_t *parts)
{
    const int32_t layers = e->model->net.config.decoder_layers;
    ddi_key_match back;
    for (int32_t i = 0; i < e->map->rules; i++) {
        if (ddi_key_rule_invert(&e->map->rule[i], name, layers, theirs, part, parts) &&
            ddi_keymap_apply(e->map, NULL, theirs, layers, &back) && *part < back.parts &&
            strcmp(back.name[*part], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Maps are made for torchvision's names of a backbone. */
static const char *without_transformers(const char *name, char other[2 * DDI_NAME_BYTES])
{
    const size_t prefix = strlen(ddi_backbone_prefix);
    if (!begins(name, ddi_backbone_prefix) ||
        !ddi_backbone_other_name(name + prefix, other + prefix, 2 * DDI_NAME_BYTES - prefix)) {
        return name;
    }
    memcpy(other, ddi_backbone_prefix, prefix);
    return other;
}

/* ---- Tensors */

/* Puts a tensor, or its part, under their name. */
static dd_status put_one(exporter *e, const char *theirs, int32_t part, int32_t parts, const dd_tensor *view)
{
    if (parts == 1) {
        return dd_tensorfile_set(e->file, theirs, view);
    }
    const size_t bytes = (size_t)(view->shape[0] * view->stride[0] * dd_dtype_size(view->dtype));
    if (!is_there(e->file, theirs)) {
        dd_tensor whole = *view;
        whole.shape[0] *= parts;
        void *zeros = ddi_alloc_zero(NULL, (size_t)parts, bytes);
        if (!zeros) {
            return ddi_fail_nomem((uint64_t)parts * bytes, theirs);
        }
        whole.data = zeros;
        const dd_status status = dd_tensorfile_set(e->file, theirs, &whole);
        ddi_free(NULL, zeros);
        DDI_TRY(status);
    }
    const ddi_file_tensor *whole = &e->file->tensor[ddi_name_index_find(&e->file->tensor_index, theirs)];
    memcpy((char *)whole->own_data + (size_t)part * bytes, view->data, bytes);
    return DD_OK;
}

/* Writes a tensor under the name of a layer, and where their program has the module twice, the copy. */
static dd_status put(exporter *e, const char *name, const dd_tensor *view)
{
    char theirs[DDI_KEY_BYTES];
    int32_t part, parts;
    if (!their_name(e, name, theirs, &part, &parts)) {
        return ddi_fail(DD_ERR_UNSUPPORTED, name, "%s has no name for '%.150s'", e->map->convention, name);
    }
    DDI_TRY(put_one(e, theirs, part, parts, view));
    for (int32_t i = 0; i < e->map->copies; i++) {
        ddi_key_match copy;
        if (ddi_key_rule_apply(&e->map->copy[i], theirs, e->model->net.config.decoder_layers, &copy)) {
            DDI_TRY(put_one(e, copy.name[0], part, parts, view));
        }
    }
    return DD_OK;
}

/* ---- Heads */

static const char under_decoder[] = "model.decoder.";

/* Behind "class_embed." or "bbox_embed.", perhaps under the decoder: the number of a layer; NULL: no head. */
static const char *head_number(const char *name)
{
    static const char *const heads[] = {"class_embed.", "bbox_embed."};
    name += begins(name, under_decoder) ? strlen(under_decoder) : 0;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        if (begins(name, heads[i])) {
            return name + strlen(heads[i]);
        }
    }
    return NULL;
}

static void name_of_layer(const char *name, int32_t layer, char out[DDI_KEY_BYTES])
{
    const char *number = head_number(name);
    snprintf(out, DDI_KEY_BYTES, "%.*s%d%s", (int)(number - name), name, layer, number + strspn(number, "0123456789"));
}

/* Decoder layers, and the encoder of two-stage models where its heads are counted among theirs. */
static int32_t count_heads(const exporter *e)
{
    const ddi_model_config *c = &e->model->net.config;
    return c->decoder_layers + (c->two_stage && !is_there(e->own, "model.enc_out_class_embed.weight"));
}

static bool same_bits(const dd_tensor *a, const dd_tensor *b)
{
    int64_t count = 1;
    for (int32_t i = 0; i < a->ndim; i++) {
        count *= a->shape[i];
    }
    return memcmp(a->data, b->data, (size_t)(count * dd_dtype_size(a->dtype))) == 0;
}

/* A head that all layers share is written for each. Where their program has one alone, ours must be the same to the bit. */
static dd_status put_head(exporter *e, const char *name, const dd_tensor *view)
{
    char other[DDI_KEY_BYTES];
    dd_tensor first;
    name_of_layer(name, 0, other);
    if (e->map->one_head && dd_tensorfile_get(e->own, other, &first) == DD_OK && !same_bits(&first, view)) {
        return ddi_fail(DD_ERR_UNSUPPORTED, name,
                        "%s has one head for all layers; in this model '%.100s' differs from that of the first layer",
                        e->map->convention, name);
    }
    name_of_layer(name, 1, other);
    const int32_t copies = strcmp(name, other) == 0 || is_there(e->own, other) ? 1 : count_heads(e);
    DDI_TRY(put(e, name, view));
    for (int32_t i = 1; i < copies; i++) {
        name_of_layer(name, i, other);
        DDI_TRY(put(e, other, view));
    }
    return DD_OK;
}

/* mmdetection's copies of heads under the decoder do not exist. */
static bool is_second_copy(const exporter *e, const char *name)
{
    char theirs[DDI_KEY_BYTES];
    int32_t part, parts;
    return begins(name, under_decoder) && head_number(name) && !their_name(e, name, theirs, &part, &parts);
}

static bool all_zero(const dd_tensor *view)
{
    const char *bytes = view->data;
    for (int64_t i = 0; i < view->shape[0] * dd_dtype_size(view->dtype); i++) {
        if (bytes[i]) {
            return false;
        }
    }
    return true;
}

/* Convolutions with a norm behind them have no bias in mmdetection. */
static bool is_bias_of_none(const exporter *e, const char *name)
{
    static const char neck[] = "model.input_proj.";
    return begins(e->map->convention, "mmdet") && begins(name, neck) && strcmp(name + sizeof neck, ".0.bias") == 0;
}

static dd_status export_one(exporter *e, const char *name, const dd_tensor *view)
{
    char other[2 * DDI_NAME_BYTES];
    if (is_bias_of_none(e, name)) {
        return all_zero(view) ? DD_OK
                              : ddi_fail(DD_ERR_UNSUPPORTED, name, "%s has no biases in its neck; '%.60s' is not zero",
                                         e->map->convention, name);
    }
    if (!is_second_copy(e, name)) {
        name = without_transformers(name, other);
        return head_number(name) ? put_head(e, name, view) : put(e, name, view);
    }
    /* Two-stage models have class heads under the decoder alone. */
    const char *plain = name + strlen(under_decoder);
    return is_there(e->own, plain) ? DD_OK : put_head(e, plain, view);
}

/* A bias of zeros for each convolution of a neck that has none: other programs have them. */
static dd_status add_neck_biases(exporter *e)
{
    for (int32_t level = 0; level < e->model->net.config.levels; level++) {
        char weight[64], bias[64];
        dd_tensor view;
        snprintf(weight, sizeof weight, "model.input_proj.%d.0.weight", level);
        snprintf(bias, sizeof bias, "model.input_proj.%d.0.bias", level);
        if (is_there(e->own, bias) || !is_there(e->own, weight)) {
            continue;
        }
        DDI_TRY(dd_tensorfile_get(e->own, weight, &view));
        void *zeros = ddi_alloc_zero(NULL, (size_t)view.shape[0], (size_t)dd_dtype_size(view.dtype));
        dd_status status = zeros ? DD_OK : ddi_fail_nomem((uint64_t)view.shape[0], bias);
        status = status ? status : dd_tensor_init(&view, zeros, view.dtype, 1, view.shape, NULL, DD_DEVICE_CPU, 0, 0);
        status = status ? status : dd_tensorfile_set(e->own, bias, &view);
        ddi_free(NULL, zeros);
        DDI_TRY(status);
    }
    return DD_OK;
}

static dd_status export_all(exporter *e, bool coco_ids)
{
    DDI_TRY(ddi_huggingface_save(e->model, e->own));
    DDI_TRY(add_neck_biases(e));
    if (coco_ids) {
        DDI_TRY(ddi_keymap_expand_coco(e->own));
    }
    DDI_TRY(dd_tensorfile_set_metadata(e->file, "format", "pt"));
    for (int32_t i = 0; i < e->own->tensor_count; i++) {
        DDI_TRY(export_one(e, e->own->tensor[i].name, &e->own->tensor[i].view));
    }
    return DD_OK;
}

static dd_status no_convention(const char *family, const char *names)
{
    char list[160] = "";
    const ddi_keymap *map;
    for (int32_t i = 0; (map = ddi_keymap_at(i)) != NULL; i++) {
        const size_t used = strlen(list);
        if (strcmp(map->family, family) == 0) {
            snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", map->convention);
        }
    }
    return ddi_fail(DD_ERR_OPTION, "names", "export option names=%.40s: names of a %s are %s", names, family, list);
}

dd_status ddi_model_export(const dd_model *m, const char *path, const char *text)
{
    export_settings *s = ddi_alloc_zero(NULL, 1, sizeof *s);
    exporter e = {.model = m};
    if (!s) {
        return ddi_fail_nomem(sizeof *s, "options");
    }
    ddi_options_init(&ddi_export_options, s);
    dd_status status = ddi_options_parse(&ddi_export_options, text, s, NULL);
    if (status == DD_OK) {
        e.map = ddi_keymap_find(m->net.config.detector->type, s->names);
        status = e.map ? dd_tensorfile_create(&e.own) : no_convention(m->net.config.detector->type, s->names);
    }
    status = status ? status : dd_tensorfile_create(&e.file);
    status = status ? status : export_all(&e, s->coco_ids != 0);
    status = status ? status : dd_tensorfile_save(e.file, path);
    dd_tensorfile_free(e.own);
    dd_tensorfile_free(e.file);
    ddi_free(NULL, s);
    return status;
}
