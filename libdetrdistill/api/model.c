/* SPDX-License-Identifier: Apache-2.0
 * Public functions of models. */
#include "models/model.h"
#include "base/error.h"
#include "base/handle.h"
#include "base/limits.h"
#include "tensor/tensor.h"

#include <string.h>
#include <unistd.h>

static dd_status leave(dd_model *m, dd_status status)
{
    if (ddi_handle_leave(m)) {
        ddi_model_destroy(m);
    }
    return status;
}

static dd_status enter(dd_model *m, const char *function)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(m, DDI_MODEL, function));
    if (m->context->process != getpid()) {
        return leave(m, ddi_fail(DD_ERR_FORKED, NULL, "%s: the model was made before fork(); make a new context", function));
    }
    return DD_OK;
}

static dd_status no_null(const void *p, const char *function, const char *what)
{
    return p ? DD_OK : ddi_fail(DD_ERR_ARGUMENT, NULL, "%s: %s is NULL", function, what);
}

/* Makes a fresh model known, or ends it. */
static dd_status hand_out(dd_model **model, dd_model *made, dd_status status)
{
    if (status == DD_OK) {
        status = ddi_handle_add(made, DDI_MODEL);
        if (status != DD_OK) {
            ddi_model_destroy(made);
        } else {
            *model = made;
        }
    }
    return status;
}

dd_status dd_model_load(dd_model **model, dd_context *context, const char *path, const char *options)
{
    dd_model *made = NULL;
    ddi_error_clear();
    DDI_TRY(no_null(model, "dd_model_load", "model"));
    DDI_TRY(no_null(path, "dd_model_load", "path"));
    DDI_TRY(ddi_handle_enter(context, DDI_CONTEXT, "dd_model_load"));
    dd_status status = ddi_model_load(&made, context, path, options);
    status = hand_out(model, made, status);
    ddi_handle_leave(context);
    return status;
}

dd_status dd_model_create(dd_model **model, dd_context *context, const char *options)
{
    dd_model *made = NULL;
    ddi_error_clear();
    DDI_TRY(no_null(model, "dd_model_create", "model"));
    DDI_TRY(ddi_handle_enter(context, DDI_CONTEXT, "dd_model_create"));
    dd_status status = ddi_model_create(&made, context, options);
    status = hand_out(model, made, status);
    ddi_handle_leave(context);
    return status;
}

void dd_model_free(dd_model *model)
{
    if (ddi_handle_remove(model, DDI_MODEL)) {
        ddi_model_destroy(model);
    }
}

dd_status dd_model_save(dd_model *model, const char *folder)
{
    DDI_TRY(enter(model, "dd_model_save"));
    const dd_status status = no_null(folder, "dd_model_save", "folder");
    return leave(model, status == DD_OK ? ddi_model_save(model, folder) : status);
}

dd_status dd_model_export(dd_model *model, const char *path, const char *options)
{
    DDI_TRY(enter(model, "dd_model_export"));
    const dd_status status = no_null(path, "dd_model_export", "path");
    return leave(model, status == DD_OK ? ddi_model_export(model, path, options) : status);
}

/* ---- Modes and classes */

dd_status dd_model_set_mode(dd_model *model, int32_t training, int32_t gradients)
{
    DDI_TRY(enter(model, "dd_model_set_mode"));
    if (training < 0 || training > 1 || gradients < 0 || gradients > 1) {
        return leave(model, ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_model_set_mode: training and gradients are 0 or 1"));
    }
    return leave(model, ddi_model_set_mode(model, training, gradients));
}

dd_status dd_model_class_count(dd_model *model, int32_t *count)
{
    DDI_TRY(enter(model, "dd_model_class_count"));
    const dd_status status = no_null(count, "dd_model_class_count", "count");
    if (status == DD_OK) {
        *count = (int32_t)model->net.config.classes;
    }
    return leave(model, status);
}

static dd_status check_label(const dd_model *m, int32_t label)
{
    return label >= 0 && label < m->net.config.classes
               ? DD_OK
               : ddi_fail(DD_ERR_NOT_FOUND, NULL, "there is no class %d; the model has %lld", label,
                          (long long)m->net.config.classes);
}

static dd_status class_at(dd_model *m, int32_t label, const char **name)
{
    DDI_TRY(no_null(name, "dd_model_class_at", "name"));
    DDI_TRY(check_label(m, label));
    *name = m->class_name[label];
    return DD_OK;
}

dd_status dd_model_class_at(dd_model *model, int32_t label, const char **name)
{
    DDI_TRY(enter(model, "dd_model_class_at"));
    return leave(model, class_at(model, label, name));
}

static dd_status set_class(dd_model *m, int32_t label, const char *name)
{
    enum { MOST = 255 };
    DDI_TRY(no_null(name, "dd_model_set_class", "name"));
    DDI_TRY(check_label(m, label));
    if (strnlen(name, MOST + 1) > MOST) {
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_model_set_class: the name is longer than %d bytes", MOST);
    }
    return ddi_model_set_class(m, label, name);
}

dd_status dd_model_set_class(dd_model *model, int32_t label, const char *name)
{
    DDI_TRY(enter(model, "dd_model_set_class"));
    return leave(model, set_class(model, label, name));
}

/* ---- Parameters */

dd_status dd_model_parameter_count(dd_model *model, int32_t *count)
{
    DDI_TRY(enter(model, "dd_model_parameter_count"));
    const dd_status status = no_null(count, "dd_model_parameter_count", "count");
    if (status == DD_OK) {
        *count = model->params.count;
    }
    return leave(model, status);
}

static dd_status parameter_at(dd_model *m, int32_t index, const char **name, dd_tensor *view, int32_t *trained)
{
    DDI_TRY(no_null(name, "dd_model_parameter_at", "name"));
    DDI_TRY(no_null(view, "dd_model_parameter_at", "view"));
    if (index < 0 || index >= m->params.count) {
        return ddi_fail(DD_ERR_NOT_FOUND, NULL, "there is no parameter %d; the model has %d", index, m->params.count);
    }
    const ddi_param *p = m->params.all[index];
    DDI_TRY(dd_tensor_init(view, p->data, m->dtype, p->ndim, p->shape, NULL, DD_DEVICE_CPU, 0, 0));
    *name = p->name;
    if (trained) {
        *trained = p->trained;
    }
    return DD_OK;
}

dd_status dd_model_parameter_at(dd_model *model, int32_t index, const char **name, dd_tensor *view, int32_t *trained)
{
    DDI_TRY(enter(model, "dd_model_parameter_at"));
    return leave(model, parameter_at(model, index, name, view, trained));
}

static dd_status gradient(dd_model *m, const char *name, dd_tensor *view)
{
    DDI_TRY(no_null(name, "dd_model_gradient", "name"));
    DDI_TRY(no_null(view, "dd_model_gradient", "view"));
    const ddi_param *p = ddi_params_find(&m->params, name);
    if (!p) {
        return ddi_fail(DD_ERR_NOT_FOUND, name, "the model has no parameter '%.100s'", name);
    }
    if (!p->grad) {
        return ddi_fail(DD_ERR_STATE, name, "'%.100s' is not trained", name);
    }
    return dd_tensor_init(view, p->grad, m->dtype, p->ndim, p->shape, NULL, DD_DEVICE_CPU, 0, 0);
}

dd_status dd_model_gradient(dd_model *model, const char *name, dd_tensor *view)
{
    DDI_TRY(enter(model, "dd_model_gradient"));
    return leave(model, gradient(model, name, view));
}

dd_status dd_model_zero_gradients(dd_model *model)
{
    DDI_TRY(enter(model, "dd_model_zero_gradients"));
    return leave(model, model->settings.gradients ? ddi_params_zero_grad(&model->params, &model->exec) : DD_OK);
}

dd_status dd_model_size(dd_model *model, int64_t *trained, int64_t *all)
{
    DDI_TRY(enter(model, "dd_model_size"));
    if (trained) {
        *trained = ddi_params_trained_count(&model->params);
    }
    if (all) {
        *all = ddi_params_total_count(&model->params);
    }
    return leave(model, DD_OK);
}

/* ---- Parts, operations, plans */

static dd_status find_part(const char *part, int32_t count, int32_t *found)
{
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(part, ddi_part_names[i]) == 0) {
            *found = i;
            return DD_OK;
        }
    }
    return ddi_fail(DD_ERR_NOT_FOUND, part, "'%.40s' is no part; backbone, neck, encoder, decoder, heads%s are", part,
                    count > DDI_PARTS ? " and queries" : "");
}

static dd_status part_size(dd_model *m, const char *part, int64_t *trained, int64_t *all)
{
    int32_t found = 0;
    int64_t sum[2];
    DDI_TRY(no_null(part, "dd_model_part_size", "part"));
    DDI_TRY(find_part(part, DDI_PARTS + 1, &found));
    ddi_model_part_size(m, found, &sum[0], &sum[1]);
    if (trained) {
        *trained = sum[0];
    }
    if (all) {
        *all = sum[1];
    }
    return DD_OK;
}

dd_status dd_model_part_size(dd_model *model, const char *part, int64_t *trained, int64_t *all)
{
    DDI_TRY(enter(model, "dd_model_part_size"));
    return leave(model, part_size(model, part, trained, all));
}

static dd_status plan_shape(dd_model *m, const char *function, int64_t images, int32_t height, int32_t width, bool padded,
                            bool gradients, ddi_plan *plan)
{
    if (images < 1 || images > DDI_MAX_IMAGES || height < 1 || width < 1 || height > DDI_MAX_MAP_SIDE ||
        width > DDI_MAX_MAP_SIDE) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "%s: sides must be 1 .. %d, images 1 .. %d", function, DDI_MAX_MAP_SIDE,
                        DDI_MAX_IMAGES);
    }
    const ddi_model_pass pass = {.record = gradients, .training = m->settings.training != 0};
    return ddi_model_plan(m, (const int64_t[]){images, height, width, 3}, padded, &pass, plan);
}

static dd_status count_operations(dd_model *m, int32_t height, int32_t width, const char *part, double *count)
{
    int32_t chosen = -1;
    ddi_plan plan;
    DDI_TRY(no_null(count, "dd_model_operations", "count"));
    if (part) {
        DDI_TRY(find_part(part, DDI_PARTS, &chosen));
    }
    DDI_TRY(plan_shape(m, "dd_model_operations", 1, height, width, false, false, &plan));
    *count = 0;
    for (int32_t i = 0; i < DDI_PARTS; i++) {
        *count += !part || i == chosen ? plan.counted[i] : 0;
    }
    return DD_OK;
}

dd_status dd_model_operations(dd_model *model, int32_t height, int32_t width, const char *part, double *count)
{
    DDI_TRY(enter(model, "dd_model_operations"));
    return leave(model, count_operations(model, height, width, part, count));
}

static dd_status plan_for(dd_model *m, const int32_t shape[3], int32_t padded, int32_t gradients, const char *what,
                          double *value)
{
    ddi_plan plan;
    DDI_TRY(no_null(what, "dd_model_plan", "what"));
    DDI_TRY(no_null(value, "dd_model_plan", "value"));
    if (padded < 0 || padded > 1 || gradients < 0 || gradients > 1) {
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_model_plan: padded and gradients are 0 or 1");
    }
    DDI_TRY(plan_shape(m, "dd_model_plan", shape[0], shape[1], shape[2], padded, gradients, &plan));
    const struct {
        const char *name;
        double value;
    } known[] = {{"activations", plan.activations}, {"parameters", plan.parameters},
                 {"gradients", plan.gradients},     {"products", plan.products},
                 {"traffic", plan.traffic},         {"total", plan.activations + plan.parameters + plan.gradients}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(what, known[i].name) == 0) {
            *value = known[i].value;
            return DD_OK;
        }
    }
    return ddi_fail(DD_ERR_NOT_FOUND, what,
                    "dd_model_plan: '%.40s' is not planned; activations, parameters, gradients, total, products, traffic are",
                    what);
}

dd_status dd_model_plan(dd_model *model, int32_t images, int32_t height, int32_t width, int32_t padded, int32_t gradients,
                        const char *what, double *value)
{
    const int32_t shape[3] = {images, height, width};
    DDI_TRY(enter(model, "dd_model_plan"));
    return leave(model, plan_for(model, shape, padded, gradients, what, value));
}

dd_status dd_model_memory(dd_model *model, int64_t *peak, int64_t *held)
{
    DDI_TRY(enter(model, "dd_model_memory"));
    if (peak) {
        *peak = model->tape.arena.highest;
    }
    if (held) {
        *held = model->tape.arena.held;
    }
    return leave(model, DD_OK);
}

/* ---- Passes */

static dd_status forward(dd_model *m, const dd_tensor *pixels, const dd_tensor *sizes)
{
    DDI_TRY(no_null(pixels, "dd_model_forward", "pixels"));
    DDI_TRY(ddi_tensor_check(pixels, "pixels"));
    if (sizes) {
        DDI_TRY(ddi_tensor_check(sizes, "sizes"));
    }
    if (pixels->device_type != DD_DEVICE_CPU || (sizes && sizes->device_type != DD_DEVICE_CPU)) {
        return ddi_fail(DD_ERR_DEVICE, "pixels", "dd_model_forward takes host memory");
    }
    return ddi_model_forward(m, pixels, sizes);
}

dd_status dd_model_forward(dd_model *model, const dd_tensor *pixels, const dd_tensor *sizes)
{
    DDI_TRY(enter(model, "dd_model_forward"));
    return leave(model, forward(model, pixels, sizes));
}

static dd_status detections(dd_model *m, int32_t image, const int32_t size[2], int32_t most, double least_score,
                            ddi_found *found)
{
    if (size[0] < 1 || size[1] < 1 || most < 1 || most > 65536 || !(least_score >= 0 && least_score <= 1)) {
        return ddi_fail(DD_ERR_ARGUMENT, NULL,
                        "dd_model_detections: sides from 1, most from 1 to 65536, least_score from 0 to 1 are possible");
    }
    return ddi_model_detections(m, image, size, most, least_score, found);
}

dd_status dd_model_detections(dd_model *model, int32_t image, int32_t width, int32_t height, int32_t most, double least_score,
                              int32_t *count, const double **boxes, const int64_t **labels, const double **scores,
                              const int32_t **queries)
{
    const int32_t size[2] = {width, height};
    ddi_found found;
    DDI_TRY(enter(model, "dd_model_detections"));
    const dd_status status = detections(model, image, size, most, least_score, &found);
    if (status != DD_OK) {
        return leave(model, status);
    }
    if (count) {
        *count = (int32_t)found.count;
    }
    if (boxes) {
        *boxes = found.boxes;
    }
    if (labels) {
        *labels = found.labels;
    }
    if (scores) {
        *scores = found.scores;
    }
    if (queries) {
        *queries = found.queries;
    }
    return leave(model, DD_OK);
}

static dd_status tensor(dd_model *m, const char *function, const char *name, ddi_value **value, dd_tensor *view)
{
    DDI_TRY(no_null(name, function, "name"));
    DDI_TRY(no_null(view, function, "view"));
    return ddi_model_value(m, name, value, view);
}

dd_status dd_model_tensor(dd_model *model, const char *name, dd_tensor *view)
{
    ddi_value *value;
    DDI_TRY(enter(model, "dd_model_tensor"));
    return leave(model, tensor(model, "dd_model_tensor", name, &value, view));
}

static dd_status seed(dd_model *m, const char *name, dd_tensor *view)
{
    ddi_value *value;
    dd_tensor found;
    DDI_TRY(tensor(m, "dd_model_seed", name, &value, view ? &found : NULL));
    if (!m->tape.record) {
        return ddi_fail(DD_ERR_STATE, name,
                        "this pass keeps no gradients: load with gradients=1, seed once before going backward");
    }
    if (found.dtype == DD_I32 || !value->needs_grad) {
        return ddi_fail(DD_ERR_STATE, name, "no gradient flows through '%.60s'", name);
    }
    char *grad = ddi_seed(&m->tape, value);
    if (!grad) {
        return m->tape.status;
    }
    *view = found;
    view->data = grad + ((char *)found.data - value->data);
    return DD_OK;
}

dd_status dd_model_seed(dd_model *model, const char *name, dd_tensor *view)
{
    DDI_TRY(enter(model, "dd_model_seed"));
    return leave(model, seed(model, name, view));
}

static dd_status backward(dd_model *m)
{
    if (!m->has_run || !m->tape.record) {
        return ddi_fail(DD_ERR_STATE, NULL, "dd_model_backward: go forward first, with gradients=1, and backward once");
    }
    const dd_status status = ddi_tape_backward(&m->tape);
    m->tape.record = false;
    return status;
}

dd_status dd_model_backward(dd_model *model)
{
    DDI_TRY(enter(model, "dd_model_backward"));
    return leave(model, backward(model));
}
