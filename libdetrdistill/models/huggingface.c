/* SPDX-License-Identifier: Apache-2.0
 * Hugging Face folders: the backbone, names of tensors and the other names that mean the same. */
#include "base/error.h"
#include "models/model.h"
#include "tensor/tensor.h"

#include <stdio.h>
#include <string.h>

const char ddi_backbone_prefix[] = "model.backbone.conv_encoder.model.";

/* ---- The backbone, from its tensors */

static bool shape_of(const dd_tensorfile *file, const char *name, dd_tensor *view)
{
    char whole[sizeof ddi_backbone_prefix + DDI_NAME_BYTES];
    snprintf(whole, sizeof whole, "%s%s", ddi_backbone_prefix, name);
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
                        ddi_backbone_prefix);
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

/* What timm and torchvision call a tensor of transformers' ResNet (names below the prefix). */
bool ddi_backbone_other_name(const char *name, char *other, size_t size)
{
    int stage, layer, conv, used = 0;
    char kind[16] = "";
    const char *end = strrchr(name, '.');
    if (begins(name, "embedder.embedder.")) {
        snprintf(other, size, "%s%s", strstr(name, "normalization") ? "bn1" : "conv1", end);
        return true;
    }
    if (sscanf(name, "encoder.stages.%d.layers.%d.%n", &stage, &layer, &used) != 2 || used == 0) {
        return false;
    }
    const bool norm = strstr(name, ".normalization.") != NULL;
    if (begins(name + used, "shortcut.")) {
        snprintf(kind, sizeof kind, "downsample.%d", norm);
    } else if (sscanf(name + used, "layer.%d.", &conv) == 1 && conv >= 0 && conv < 3) {
        snprintf(kind, sizeof kind, "%s%d", norm ? "bn" : "conv", conv + 1);
    }
    snprintf(other, size, "layer%d.%d.%s%s", stage + 1, layer, kind, end);
    return *kind != '\0';
}

/* The place of a tensor in the file, or -1. A family may know another name; a backbone may have timm's. */
static int32_t find_tensor(const dd_model *m, const dd_tensorfile *file, const char *name)
{
    const ddi_detector_files *files = m->net.config.detector->files;
    char other[2 * DDI_NAME_BYTES];
    const int32_t index = ddi_name_index_find(&file->tensor_index, name);
    if (index >= 0) {
        return index;
    }
    if (files->other_name && files->other_name(name, other, sizeof other)) {
        return ddi_name_index_find(&file->tensor_index, other);
    }
    const size_t prefix = strlen(ddi_backbone_prefix);
    if (begins(name, ddi_backbone_prefix) && ddi_backbone_other_name(name + prefix, other + prefix, sizeof other - prefix)) {
        memcpy(other, ddi_backbone_prefix, prefix);
        return ddi_name_index_find(&file->tensor_index, other);
    }
    return -1;
}

bool ddi_param_fits(const ddi_param *p, const dd_tensor *view)
{
    bool same = view->ndim == p->ndim;
    for (int32_t i = 0; same && i < p->ndim; i++) {
        same = view->shape[i] == p->shape[i];
    }
    return same && (view->dtype == DD_F32 || view->dtype == DD_F64 || view->dtype == DD_F16 || view->dtype == DD_BF16);
}

dd_status ddi_model_copy_in(dd_model *m, const ddi_param *p, const dd_tensor *view)
{
    dd_op_gather a = {.src = view->data, .dst = p->data, .src_dtype = view->dtype, .ndim = view->ndim};
    memcpy(a.shape, view->shape, sizeof a.shape);
    memcpy(a.stride, view->stride, sizeof a.stride);
    return ddi_run(&m->exec, DD_OPERATOR_gather, m->dtype, &a);
}

/* What the model has no use for, and may be in the file all the same. */
static bool is_spare(const dd_model *m, const char *name)
{
    const ddi_model_config *c = &m->net.config;
    const size_t length = strlen(name), tail = strlen("num_batches_tracked");
    if (length > tail && strcmp(name + length - tail, "num_batches_tracked") == 0) {
        return true;
    }
    return c->detector->files->is_spare && c->detector->files->is_spare(c, name);
}

/* Names for an error sentence: the first few, and how many there are; the log has them all. */
typedef struct name_list {
    const dd_model *model;
    const char *what;
    char text[120];
    const char *first;
    int32_t count;
} name_list;

static void note_name(name_list *list, const char *name)
{
    const size_t used = strlen(list->text), room = sizeof list->text - used;
    if (list->count++ == 0) {
        list->first = name;
    }
    if (strlen(name) + 5 < room) {
        snprintf(list->text + used, room, "%s'%s'", used ? ", " : "", name);
    }
    ddi_log_line(list->model->context, DD_LOG_ERROR, "%s: %s", list->what, name);
}

static dd_status say_names(const name_list *list, dd_status status)
{
    return list->count == 0   ? DD_OK
           : list->count == 1 ? ddi_fail(status, list->first, "%s '%.180s'", list->what, list->first)
                              : ddi_fail(status, list->first, "%s %d tensors: %s, ..; the log lists them all", list->what,
                                         list->count, list->text);
}

static dd_status check_shape(const ddi_param *p, const dd_tensor *view)
{
    if (ddi_param_fits(p, view)) {
        return DD_OK;
    }
    char want[96] = "", have[96] = "";
    for (int32_t i = 0; i < p->ndim; i++) {
        snprintf(want + strlen(want), sizeof want - strlen(want), "%s%lld", i ? "," : "", (long long)p->shape[i]);
    }
    for (int32_t i = 0; i < view->ndim && strlen(have) < sizeof have - 24; i++) {
        snprintf(have + strlen(have), sizeof have - strlen(have), "%s%lld", i ? "," : "", (long long)view->shape[i]);
    }
    const bool shape = strcmp(want, have) != 0;
    return ddi_fail(shape ? DD_ERR_SHAPE : DD_ERR_DTYPE, p->name,
                    shape ? "the file's tensor '%.100s' is [%s]; the configuration asks for [%s]"
                          : "the file's tensor '%.100s' is [%s] of a type that is no real number; the model needs [%s]",
                    p->name, have, want);
}

static dd_status match_names(const dd_model *m, const dd_tensorfile *file, int32_t *place, bool *used)
{
    name_list missing = {.model = m, .what = "the file lacks"}, unknown = {.model = m, .what = "this model does not know"};
    for (int32_t i = 0; i < m->params.count; i++) {
        place[i] = find_tensor(m, file, m->params.all[i]->name);
        if (place[i] < 0) {
            note_name(&missing, m->params.all[i]->name);
        } else {
            used[place[i]] = true;
        }
    }
    DDI_TRY(say_names(&missing, DD_ERR_NOT_FOUND));
    for (int32_t i = 0; i < m->params.count; i++) {
        DDI_TRY(check_shape(m->params.all[i], &file->tensor[place[i]].view));
    }
    for (int32_t i = 0; i < file->tensor_count; i++) {
        if (!used[i] && !is_spare(m, file->tensor[i].name)) {
            note_name(&unknown, file->tensor[i].name);
        }
    }
    return say_names(&unknown, DD_ERR_FORMAT);
}

dd_status ddi_huggingface_match(const dd_model *m, const dd_tensorfile *file, int32_t **place)
{
    ddi_allocator *allocator = &m->context->allocator;
    *place = ddi_alloc_zero(allocator, (size_t)m->params.count, sizeof **place);
    bool *used = ddi_alloc_zero(allocator, (size_t)file->tensor_count, sizeof *used);
    dd_status status = *place && used ? match_names(m, file, *place, used)
                                      : ddi_fail_nomem((uint64_t)m->params.count * sizeof **place, "a list of names");
    ddi_free(allocator, used);
    if (status != DD_OK) {
        ddi_free(allocator, *place);
        *place = NULL;
    }
    return status;
}

dd_status ddi_huggingface_load(dd_model *m, const dd_tensorfile *file, const int32_t *place)
{
    for (int32_t i = 0; i < m->params.count; i++) {
        DDI_TRY(ddi_model_copy_in(m, m->params.all[i], &file->tensor[place[i]].view));
    }
    return DD_OK;
}

dd_status ddi_huggingface_save(const dd_model *m, dd_tensorfile *file)
{
    const ddi_detector_files *files = m->net.config.detector->files;
    DDI_TRY(dd_tensorfile_set_metadata(file, "format", "pt"));
    if (files->save_more) {
        DDI_TRY(files->save_more(&m->net, m->context, m->dtype, file));
    }
    for (int32_t i = 0; i < m->params.count; i++) {
        const ddi_param *p = m->params.all[i];
        dd_tensor view;
        DDI_TRY(dd_tensor_init(&view, p->data, m->dtype, p->ndim, p->shape, NULL, DD_DEVICE_CPU, 0, 0));
        DDI_TRY(dd_tensorfile_set(file, p->name, &view));
        if (files->save_copy) {
            DDI_TRY(files->save_copy(&m->net.config, file, p->name, &view));
        }
    }
    return DD_OK;
}
