/* SPDX-License-Identifier: Apache-2.0
 * Hugging Face folders of Deformable DETR: names of tensors, the other names that mean the same. */
#include "base/error.h"
#include "models/model.h"
#include "tensor/tensor.h"

#include <stdio.h>
#include <string.h>

static const char backbone_prefix[] = "model.backbone.conv_encoder.model.";

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

/* Whether a head of a layer is in the file, on its own or under the decoder. */
static bool has_head(const dd_tensorfile *file, const char *head)
{
    char under[DDI_NAME_BYTES];
    dd_tensor view;
    snprintf(under, sizeof under, "model.decoder.%s", head);
    return dd_tensorfile_get(file, head, &view) == DD_OK || dd_tensorfile_get(file, under, &view) == DD_OK;
}

/* transformers 5 ties the class heads of refining models unless the configuration says otherwise: the file tells. */
void ddi_huggingface_heads(const dd_tensorfile *file, ddi_deformable_config *c)
{
    c->shared_class_head = has_head(file, "class_embed.0.weight") && !has_head(file, "class_embed.1.weight");
    c->shared_box_head = has_head(file, "bbox_embed.0.layers.0.weight") && !has_head(file, "bbox_embed.1.layers.0.weight");
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

/* transformers has biases in the neck whatever the configuration; where ours has none they are zeros in the file. */
static bool is_neck_bias(const char *name)
{
    static const char prefix[] = "model.input_proj.";
    return begins(name, prefix) && strcmp(name + sizeof prefix, ".0.bias") == 0;
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
    if (is_neck_bias(name)) {
        return !m->net.config.neck_bias;
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

static dd_status save_neck_biases(const dd_model *m, dd_tensorfile *file)
{
    const ddi_deformable_config *c = &m->net.config;
    void *zeros = c->neck_bias ? NULL : ddi_alloc_zero(&m->context->allocator, (size_t)c->d, m->tape.element);
    dd_status status = c->neck_bias || zeros ? DD_OK : ddi_fail_nomem((uint64_t)c->d * m->tape.element, "biases");
    for (int32_t l = 0; zeros && l < c->levels && status == DD_OK; l++) {
        char name[DDI_NAME_BYTES];
        dd_tensor view;
        snprintf(name, sizeof name, "model.input_proj.%d.0.bias", l);
        status = dd_tensor_init(&view, zeros, m->dtype, 1, &c->d, NULL, DD_DEVICE_CPU, 0, 0);
        status = status == DD_OK ? dd_tensorfile_set(file, name, &view) : status;
    }
    ddi_free(&m->context->allocator, zeros);
    return status;
}

dd_status ddi_huggingface_save(const dd_model *m, dd_tensorfile *file)
{
    DDI_TRY(dd_tensorfile_set_metadata(file, "format", "pt"));
    DDI_TRY(save_neck_biases(m, file));
    for (int32_t i = 0; i < m->params.count; i++) {
        const ddi_param *p = m->params.all[i];
        dd_tensor view;
        DDI_TRY(dd_tensor_init(&view, p->data, m->dtype, p->ndim, p->shape, NULL, DD_DEVICE_CPU, 0, 0));
        DDI_TRY(dd_tensorfile_set(file, p->name, &view));
        DDI_TRY(save_copy(m, file, p->name, &view));
    }
    return DD_OK;
}
