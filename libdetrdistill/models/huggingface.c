/* SPDX-License-Identifier: Apache-2.0
 * Hugging Face folders of Deformable DETR: configuration, names of tensors, the other names that mean the same. */
#include "base/error.h"
#include "base/io.h"
#include "models/model.h"
#include "tensor/tensor.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

static const char backbone_prefix[] = "model.backbone.conv_encoder.model.";

/* ---- config.json */

typedef struct reader {
    struct json_object *root;
    const char *file;
    dd_status status;
} reader;

static void complain(reader *r, const char *key, const char *what)
{
    if (r->status == DD_OK) {
        r->status = ddi_fail(DD_ERR_FORMAT, key, "%s: '%s' %s", r->file, key, what);
    }
}

static int64_t read_integer(reader *r, const char *key, int64_t initial, int64_t low, int64_t high)
{
    struct json_object *value;
    if (!json_object_object_get_ex(r->root, key, &value) || !value) {
        return initial;
    }
    const int64_t number = json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : low - 1;
    if (number < low || number > high) {
        complain(r, key, "is no integer in its range");
        return initial;
    }
    return number;
}

static double read_rate(reader *r, const char *key)
{
    struct json_object *value;
    if (!json_object_object_get_ex(r->root, key, &value) || !value) {
        return 0;
    }
    const bool number = json_object_is_type(value, json_type_double) || json_object_is_type(value, json_type_int);
    const double rate = number ? json_object_get_double(value) : -1;
    if (!(rate >= 0 && rate < 1)) {
        complain(r, key, "is no number in [0,1)");
        return 0;
    }
    return rate;
}

static bool read_flag(reader *r, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(r->root, key, &value) && json_object_get_boolean(value);
}

static int64_t count_classes(reader *r)
{
    struct json_object *value;
    if (json_object_object_get_ex(r->root, "id2label", &value) && json_object_is_type(value, json_type_object)) {
        return json_object_object_length(value);
    }
    return read_integer(r, "num_labels", 2, 1, 65536);
}

static void check_family(reader *r)
{
    struct json_object *value;
    const char *family = json_object_object_get_ex(r->root, "model_type", &value) ? json_object_get_string(value) : NULL;
    if (!family || strcmp(family, "deformable_detr") != 0) {
        complain(r, "model_type", "is not 'deformable_detr', the one family that is read so far");
    }
    if (read_flag(r, "dilation")) {
        complain(r, "dilation", "asks for a dilated backbone, which is not supported");
    }
}

static void read_numbers(reader *r, ddi_deformable_config *c)
{
    c->two_stage = read_flag(r, "two_stage");
    c->refine = read_flag(r, "with_box_refine");
    c->d = read_integer(r, "d_model", 256, 1, 8192);
    c->encoder_ffn = read_integer(r, "encoder_ffn_dim", 1024, 1, 65536);
    c->decoder_ffn = read_integer(r, "decoder_ffn_dim", 1024, 1, 65536);
    c->queries = read_integer(r, c->two_stage ? "two_stage_num_proposals" : "num_queries", 300, 1, 16384);
    c->classes = count_classes(r);
    c->levels = (int32_t)read_integer(r, "num_feature_levels", 4, 3, DDI_MOST_LEVELS);
    c->encoder_layers = (int32_t)read_integer(r, "encoder_layers", 6, 0, DDI_MOST_LAYERS);
    c->decoder_layers = (int32_t)read_integer(r, "decoder_layers", 6, 1, DDI_MOST_LAYERS);
    c->encoder_heads = (int32_t)read_integer(r, "encoder_attention_heads", 8, 1, 1024);
    c->decoder_heads = (int32_t)read_integer(r, "decoder_attention_heads", 8, 1, 1024);
    c->encoder_points = (int32_t)read_integer(r, "encoder_n_points", 4, 1, 64);
    c->decoder_points = (int32_t)read_integer(r, "decoder_n_points", 4, 1, 64);
    c->dropout = read_rate(r, "dropout");
    c->attention_dropout = read_rate(r, "attention_dropout");
    c->activation_dropout = read_rate(r, "activation_dropout");
    if (c->d % 32 != 0 || c->d % c->encoder_heads != 0 || c->d % c->decoder_heads != 0) {
        complain(r, "d_model", "is not a multiple of 32 and of the numbers of heads");
    }
    if (c->classes < 1 || c->classes > 65536) {
        complain(r, "id2label", "has no class, or more than 65536");
    }
}

dd_status ddi_huggingface_config(const char *file, const void *text, size_t size, ddi_deformable_config *config)
{
    enum json_tokener_error error = json_tokener_success;
    struct json_tokener *tokener = size > 0 && size <= 16 << 20 && !ddi_fault() ? json_tokener_new_ex(32) : NULL;
    if (!tokener) {
        return size > 0 && size <= 16 << 20 ? ddi_fail_nomem(size, "a configuration")
                                            : ddi_fail(DD_ERR_FORMAT, file, "%s is empty or larger than 16 MiB", file);
    }
    reader r = {.root = json_tokener_parse_ex(tokener, text, (int)size), .file = file};
    error = json_tokener_get_error(tokener);
    json_tokener_free(tokener);
    if (!json_object_is_type(r.root, json_type_object)) {
        json_object_put(r.root);
        return ddi_fail(DD_ERR_FORMAT, file, "%s: %s", file,
                        error == json_tokener_success ? "this is no JSON object" : json_tokener_error_desc(error));
    }
    check_family(&r);
    read_numbers(&r, config);
    json_object_put(r.root);
    return r.status;
}

/* ---- The backbone, from its tensors */

static bool shape_of(const dd_tensorfile *file, const char *name, dd_tensor *view)
{
    char whole[sizeof backbone_prefix + DDI_NAME_BYTES];
    snprintf(whole, sizeof whole, "%s%s", backbone_prefix, name);
    return dd_tensorfile_get(file, whole, view) == DD_OK && view->ndim == 4;
}

/* The weight of convolution k of a block. */
static bool block_conv(const dd_tensorfile *file, ddi_resnet_names names, int32_t stage, int32_t block, int32_t k,
                       dd_tensor *view)
{
    char name[DDI_NAME_BYTES];
    if (names == DDI_RESNET_TRANSFORMERS) {
        snprintf(name, sizeof name, "encoder.stages.%d.layers.%d.layer.%d.convolution.weight", stage, block, k);
    } else {
        snprintf(name, sizeof name, "layer%d.%d.conv%d.weight", stage + 1, block, k + 1);
    }
    return shape_of(file, name, view);
}

dd_status ddi_huggingface_backbone(const dd_tensorfile *file, ddi_resnet_config *c)
{
    dd_tensor view;
    const bool transformers = shape_of(file, "embedder.embedder.convolution.weight", &view);
    if (!transformers && !shape_of(file, "conv1.weight", &view)) {
        return ddi_fail(DD_ERR_NOT_FOUND, "backbone", "the file has no ResNet under %s: neither transformers' names nor timm's",
                        backbone_prefix);
    }
    *c = (ddi_resnet_config){.names = transformers ? DDI_RESNET_TRANSFORMERS : DDI_RESNET_TORCHVISION, .stem = view.shape[0]};
    c->bottleneck = block_conv(file, c->names, 0, 0, 2, &view);
    for (int32_t s = 0; s < 4; s++) {
        while (c->depth[s] < 1000 && block_conv(file, c->names, s, c->depth[s], c->bottleneck ? 2 : 1, &view)) {
            c->width[s] = view.shape[0];
            c->depth[s]++;
        }
        if (c->depth[s] == 0) {
            return ddi_fail(DD_ERR_NOT_FOUND, "backbone", "the file's ResNet has no block in stage %d", s + 1);
        }
    }
    return DD_OK;
}

/* ---- Tensors */

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

static bool is_head(const char *name)
{
    return begins(name, "class_embed.") || begins(name, "bbox_embed.");
}

/* A head may be stored under the decoder, and one that is shared under the number 0 alone. */
static dd_status find_tensor(const dd_tensorfile *file, const char *name, dd_tensor *view)
{
    static const char decoder[] = "model.decoder.";
    char other[DDI_NAME_BYTES];
    if (dd_tensorfile_get(file, name, view) == DD_OK) {
        return DD_OK;
    }
    const char *plain = begins(name, decoder) && is_head(name + strlen(decoder)) ? name + strlen(decoder) : name;
    if (is_head(plain)) {
        snprintf(other, sizeof other, "%s%s", plain == name ? decoder : "", plain);
        if (dd_tensorfile_get(file, other, view) == DD_OK) {
            return DD_OK;
        }
    }
    return ddi_fail(DD_ERR_NOT_FOUND, name, "the file lacks the tensor '%s'", name);
}

static dd_status copy_in(dd_model *m, const ddi_param *p, const dd_tensor *view)
{
    bool same = view->ndim == p->ndim;
    for (int32_t i = 0; same && i < p->ndim; i++) {
        same = view->shape[i] == p->shape[i];
    }
    if (!same) {
        return ddi_fail(DD_ERR_SHAPE, p->name, "the file's tensor '%s' has another shape than the configuration asks for",
                        p->name);
    }
    if (view->dtype != DD_F32 && view->dtype != DD_F64 && view->dtype != DD_F16 && view->dtype != DD_BF16) {
        return ddi_fail(DD_ERR_DTYPE, p->name, "the file's tensor '%s' has the type %s", p->name, dd_dtype_name(view->dtype));
    }
    dd_op_gather a = {.src = view->data, .dst = p->data, .src_dtype = view->dtype, .ndim = view->ndim};
    memcpy(a.shape, view->shape, sizeof a.shape);
    memcpy(a.stride, view->stride, sizeof a.stride);
    return ddi_run(&m->exec, DD_OPERATOR_gather, m->dtype, &a);
}

/* What the model has no use for, and may be in the file all the same. */
static bool is_spare(const dd_model *m, const char *name)
{
    const size_t length = strlen(name), tail = strlen("num_batches_tracked");
    char number[16];
    const char *head = begins(name, "model.decoder.") ? name + strlen("model.decoder.") : name;
    if (length > tail && strcmp(name + length - tail, "num_batches_tracked") == 0) {
        return true;
    }
    if (!is_head(head)) {
        return false;
    }
    /* Copies of heads of layers that there are. */
    const char *dot = strchr(head, '.') + 1;
    for (int32_t i = 0; i <= m->net.config.decoder_layers; i++) {
        snprintf(number, sizeof number, "%d.", i);
        if (begins(dot, number)) {
            return true;
        }
    }
    return false;
}

static dd_status check_unknown(const dd_model *m, const dd_tensorfile *file)
{
    int32_t count;
    DDI_TRY(dd_tensorfile_count(file, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view;
        DDI_TRY(dd_tensorfile_at(file, i, &name, &view));
        if (!ddi_params_find(&m->params, name) && !is_spare(m, name)) {
            return ddi_fail(DD_ERR_FORMAT, name, "the file has the tensor '%.150s', which this model does not know", name);
        }
    }
    return DD_OK;
}

dd_status ddi_huggingface_load(dd_model *m, const dd_tensorfile *file)
{
    for (int32_t i = 0; i < m->params.count; i++) {
        dd_tensor view;
        DDI_TRY(find_tensor(file, m->params.all[i]->name, &view));
        DDI_TRY(copy_in(m, m->params.all[i], &view));
    }
    return check_unknown(m, file);
}

/* transformers keeps a copy of the refining heads under the decoder. */
static dd_status save_copy(const dd_model *m, dd_tensorfile *file, const char *name, const dd_tensor *view)
{
    char other[DDI_NAME_BYTES];
    if (!m->net.config.refine || !begins(name, "bbox_embed.")) {
        return DD_OK;
    }
    snprintf(other, sizeof other, "model.decoder.%s", name);
    return dd_tensorfile_set(file, other, view);
}

dd_status ddi_huggingface_save(const dd_model *m, dd_tensorfile *file)
{
    DDI_TRY(dd_tensorfile_set_metadata(file, "format", "pt"));
    for (int32_t i = 0; i < m->params.count; i++) {
        const ddi_param *p = m->params.all[i];
        dd_tensor view;
        DDI_TRY(dd_tensor_init(&view, p->data, m->dtype, p->ndim, p->shape, NULL, DD_DEVICE_CPU, 0, 0));
        DDI_TRY(dd_tensorfile_set(file, p->name, &view));
        DDI_TRY(save_copy(m, file, p->name, &view));
    }
    return DD_OK;
}
