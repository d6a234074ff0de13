/* SPDX-License-Identifier: Apache-2.0
 * Public functions of the distiller: check arguments, take the handle, call down. */
#include "base/error.h"
#include "base/handle.h"
#include "kd/attach.h"
#include <detrdistill/distiller.h>

#include <math.h>
#include <string.h>
#include <unistd.h>

static void destroy(dd_distiller *d)
{
    dd_context *c = d->exec.context;
    ddi_distiller_free(d);
    ddi_free(&c->allocator, d);
    ddi_context_release(c);
}

static dd_status leave(const dd_distiller *distiller, dd_status status)
{
    if (ddi_handle_leave(distiller))
        destroy((dd_distiller *)(uintptr_t)distiller);
    return status;
}

static dd_status null_argument(const dd_distiller *distiller, const char *function, const char *argument)
{
    return leave(distiller, ddi_fail(DD_ERR_ARGUMENT, NULL, "%s: %s is NULL", function, argument));
}

static dd_status no_step(const dd_distiller *distiller, const char *function)
{
    return leave(distiller, ddi_fail(DD_ERR_STATE, NULL, "%s: no good dd_distiller_step yet", function));
}

dd_status ddi_distiller_make(dd_distiller **distiller, dd_context *c, const char *options)
{
    dd_distiller *d = ddi_alloc_zero(&c->allocator, 1, sizeof *d);
    if (!d)
        return ddi_fail_nomem(sizeof *d, "a distiller");
    d->exec.context = ddi_context_reference(c);
    dd_status status = ddi_distiller_init(d, c, options);
    if (status == DD_OK)
        status = ddi_handle_add(d, DDI_DISTILLER);
    if (status != DD_OK)
        destroy(d);
    else
        *distiller = d;
    return status;
}

dd_status dd_distiller_create(dd_distiller **distiller, dd_context *context, const char *options)
{
    ddi_error_clear();
    if (!distiller)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_distiller_create: distiller is NULL");
    DDI_TRY(ddi_handle_enter(context, DDI_CONTEXT, "dd_distiller_create"));
    dd_status status = ddi_distiller_make(distiller, context, options);
    if (ddi_handle_leave(context))
        ddi_context_release(context);
    return status;
}

void dd_distiller_free(dd_distiller *distiller)
{
    if (ddi_handle_remove(distiller, DDI_DISTILLER))
        destroy(distiller);
}

/* What models give is not the caller's to bind, and the other way round. */
static dd_status check_bindable(const dd_distiller *d, const char *name)
{
    for (int32_t i = 0; i < IN_COUNT; i++) {
        if (strcmp(d->input[i].name, name) != 0)
            continue;
        if (d->attached && !ddi_attached_input(i))
            return ddi_fail(DD_ERR_ARGUMENT, name, "dd_distiller_bind: %s comes from the attached models; bind the batch",
                            name);
        if (!d->attached && (i == IN_PIXELS || i == IN_IDS))
            return ddi_fail(DD_ERR_ARGUMENT, name,
                            "dd_distiller_bind: %s is for attached models; call dd_distiller_attach first", name);
    }
    return DD_OK;
}

dd_status dd_distiller_bind(dd_distiller *distiller, const char *name, const dd_tensor *tensor)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_bind"));
    if (!name)
        return null_argument(distiller, "dd_distiller_bind", "name");
    dd_status status = check_bindable(distiller, name);
    if (status == DD_OK)
        status = ddi_inputs_bind(&distiller->exec, distiller->input, IN_COUNT, name, tensor);
    return leave(distiller, status);
}

static dd_status check_process(const dd_distiller *d, const char *function)
{
    if (d->exec.context->process == getpid())
        return DD_OK;
    return ddi_fail(DD_ERR_FORKED, NULL, "%s: the context was made before fork(); make a new one in this process", function);
}

/* ---- Whole models */

static dd_status enter_model(dd_model *model, uint64_t number, const char *function)
{
    if (number && ddi_handle_number(model) != number)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "%s: an attached model was freed", function);
    return ddi_handle_enter(model, DDI_MODEL, function);
}

static dd_status leave_model(dd_model *model, dd_status status)
{
    if (ddi_handle_leave(model))
        ddi_model_destroy(model);
    return status;
}

/* Runs `call` while both models are in use; teacher may be NULL. Numbers 0: not known yet. */
static dd_status with_models(const char *function, dd_model *student, uint64_t student_number, dd_model *teacher,
                             uint64_t teacher_number, dd_status (*call)(void *arg), void *arg)
{
    DDI_TRY(enter_model(student, student_number, function));
    if (!teacher)
        return leave_model(student, call(arg));
    dd_status status = enter_model(teacher, teacher_number, function);
    if (status == DD_OK)
        status = leave_model(teacher, call(arg));
    return leave_model(student, status);
}

typedef struct model_call {
    dd_distiller *distiller;
    dd_model *student, *teacher;
    double *total;
} model_call;

static dd_status call_step(void *arg)
{
    const model_call *c = arg;
    return ddi_attached_step(c->distiller, c->total);
}

static dd_status step_models(dd_distiller *d, double *total)
{
    const ddi_attachment *a = d->attached;
    model_call c = {.distiller = d, .total = total};
    return with_models("dd_distiller_step", a->student, a->student_number, a->teacher, a->teacher_number, call_step, &c);
}

static dd_status call_attach(void *arg)
{
    const model_call *c = arg;
    return ddi_attach(c->distiller, c->student, c->teacher);
}

dd_status dd_distiller_attach(dd_distiller *distiller, dd_model *student, dd_model *teacher)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_attach"));
    dd_status status = check_process(distiller, "dd_distiller_attach");
    if (status == DD_OK && student && student == teacher)
        status = ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_distiller_attach: student and teacher are the same model; load it twice");
    model_call c = {.distiller = distiller, .student = student, .teacher = teacher};
    if (status == DD_OK)
        status = with_models("dd_distiller_attach", student, 0, teacher, 0, call_attach, &c);
    return leave(distiller, status);
}

static dd_status bind_batch(dd_distiller *d, dd_loader *loader)
{
    static const char *const names[] = {"image.sizes", "image.ids", "gt.boxes", "gt.labels", "gt.offsets"};
    dd_tensor view, pixels;
    DDI_TRY(dd_loader_tensor(loader, "pixels", &view));
    const int64_t *s = view.shape;
    const int64_t shape[4] = {s[0], 3, s[1], s[2]}, stride[4] = {s[1] * s[2] * 3, 1, s[2] * 3, 3};
    DDI_TRY(dd_tensor_init(&pixels, view.data, view.dtype, 4, shape, stride, view.device_type, view.device_index, 0));
    DDI_TRY(ddi_inputs_bind(&d->exec, d->input, IN_COUNT, "pixels", &pixels));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        DDI_TRY(dd_loader_tensor(loader, names[i], &view));
        DDI_TRY(ddi_inputs_bind(&d->exec, d->input, IN_COUNT, names[i], &view));
    }
    return ddi_inputs_bind(&d->exec, d->input, IN_COUNT, "gt.crowd", NULL);
}

dd_status dd_distiller_bind_batch(dd_distiller *distiller, dd_loader *loader)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_bind_batch"));
    if (!distiller->attached)
        return leave(distiller, ddi_fail(DD_ERR_STATE, NULL,
                                         "dd_distiller_bind_batch: no models are attached; call dd_distiller_attach first"));
    return leave(distiller, bind_batch(distiller, loader));
}

dd_status dd_distiller_zero_gradients(dd_distiller *distiller)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_zero_gradients"));
    return leave(distiller, ddi_attached_zero(distiller));
}

dd_status dd_distiller_set_cache(dd_distiller *distiller, const char *folder, int64_t most_bytes)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_set_cache"));
    return leave(distiller, ddi_attached_cache(distiller, folder, most_bytes));
}

dd_status dd_distiller_cache_statistics(const dd_distiller *distiller, int64_t *hits, int64_t *misses, int64_t *bytes)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_cache_statistics"));
    if (!distiller->attached || !distiller->attached->cache)
        return leave(distiller, ddi_fail(DD_ERR_STATE, NULL, "dd_distiller_cache_statistics: there is no cache"));
    ddi_cache_statistics(distiller->attached->cache, hits, misses, bytes);
    return leave(distiller, DD_OK);
}

/* ---- Steps */

dd_status dd_distiller_step(dd_distiller *distiller, double *total)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_step"));
    dd_status status = check_process(distiller, "dd_distiller_step");
    if (status == DD_OK)
        status = distiller->attached ? step_models(distiller, total) : ddi_distiller_step(distiller, total);
    return leave(distiller, status);
}

dd_status dd_distiller_prepare(dd_distiller *distiller)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_prepare"));
    dd_status status = check_process(distiller, "dd_distiller_prepare");
    if (status == DD_OK && !distiller->attached) /* else all parameters are there */
        status = ddi_distiller_prepare(distiller);
    return leave(distiller, status);
}

dd_status dd_distiller_term_count(const dd_distiller *distiller, int32_t *count)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_term_count"));
    if (!count)
        return null_argument(distiller, "dd_distiller_term_count", "count");
    if (!distiller->has_result)
        return no_step(distiller, "dd_distiller_term_count");
    *count = distiller->term_count;
    return leave(distiller, DD_OK);
}

dd_status dd_distiller_term_at(const dd_distiller *distiller, int32_t index, const char **name, double *value)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_term_at"));
    if (!distiller->has_result)
        return no_step(distiller, "dd_distiller_term_at");
    if (index < 0 || index >= distiller->term_count)
        return leave(distiller, ddi_fail(DD_ERR_NOT_FOUND, NULL, "dd_distiller_term_at: index %d; there are %d terms", index,
                                         distiller->term_count));
    if (name)
        *name = distiller->term[index].name;
    if (value)
        *value = distiller->term[index].value;
    return leave(distiller, DD_OK);
}

dd_status dd_distiller_term_get(const dd_distiller *distiller, const char *name, double *value)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_term_get"));
    if (!name || !value)
        return null_argument(distiller, "dd_distiller_term_get", name ? "value" : "name");
    if (!distiller->has_result)
        return no_step(distiller, "dd_distiller_term_get");
    for (int32_t i = 0; i < distiller->term_count; i++)
        if (strcmp(distiller->term[i].name, name) == 0) {
            *value = distiller->term[i].value;
            return leave(distiller, DD_OK);
        }
    return leave(distiller, ddi_fail(DD_ERR_NOT_FOUND, name, "there is no term named '%.60s', or its module was off", name));
}

dd_status dd_distiller_result(dd_distiller *distiller, const char *name, dd_tensor *view)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_result"));
    if (!name || !view)
        return null_argument(distiller, "dd_distiller_result", name ? "view" : "name");
    if (!distiller->has_result)
        return no_step(distiller, "dd_distiller_result");
    return leave(distiller, ddi_result_get(distiller, name, view));
}

static int32_t module_number(const char *module)
{
    for (int32_t i = 0; i < DDI_MODULES; i++)
        if (strcmp(ddi_module_names[i], module) == 0)
            return i;
    return -1;
}

static dd_status no_module(const dd_distiller *distiller, const char *module)
{
    return leave(distiller, ddi_fail(DD_ERR_NOT_FOUND, module,
                                     "there is no module named '%.40s'; det, denoising, logits, features, prior "
                                     "and contrastive have weights",
                                     module));
}

dd_status dd_distiller_set_weight(dd_distiller *distiller, const char *module, double weight)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_set_weight"));
    if (!module)
        return null_argument(distiller, "dd_distiller_set_weight", "module");
    if (module_number(module) < 0)
        return no_module(distiller, module);
    if (!isfinite(weight) || weight < 0 || weight > 1e9)
        return leave(distiller,
                     ddi_fail(DD_ERR_ARGUMENT, module, "dd_distiller_set_weight: %g; a weight lies in 0 to 1e9", weight));
    distiller->settings.weight[module_number(module)] = weight;
    return leave(distiller, DD_OK);
}

dd_status dd_distiller_get_weight(const dd_distiller *distiller, const char *module, double *weight)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_get_weight"));
    if (!module || !weight)
        return null_argument(distiller, "dd_distiller_get_weight", module ? "weight" : "module");
    if (module_number(module) < 0)
        return no_module(distiller, module);
    *weight = distiller->settings.weight[module_number(module)];
    return leave(distiller, DD_OK);
}

dd_status dd_distiller_set_stream(dd_distiller *distiller, void *stream)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_set_stream"));
    distiller->exec.base.stream = stream;
    return leave(distiller, DD_OK);
}

dd_status dd_distiller_set_mean(dd_distiller *distiller, dd_mean_fn mean, void *user)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_set_mean"));
    distiller->mean = mean;
    distiller->mean_user = user;
    return leave(distiller, DD_OK);
}

dd_status dd_distiller_set_trace(dd_distiller *distiller, dd_trace_fn trace, void *user)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_set_trace"));
    distiller->trace = trace;
    distiller->trace_user = user;
    return leave(distiller, DD_OK);
}

dd_status dd_distiller_parameter_count(const dd_distiller *distiller, int32_t *count)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_parameter_count"));
    if (!count)
        return null_argument(distiller, "dd_distiller_parameter_count", "count");
    *count = distiller->parameter_count + (distiller->attached ? distiller->attached->maps.count : 0);
    return leave(distiller, DD_OK);
}

static dd_status map_at(const dd_distiller *d, const ddi_param *p, const char **name, dd_tensor *value, dd_tensor *grad)
{
    const dd_context *c = d->exec.context;
    dd_tensor view;
    DDI_TRY(dd_tensor_init(&view, p->data, d->attached->maps.dtype, p->ndim, p->shape, NULL, c->backend->device_type,
                           c->device_index, 0));
    if (name)
        *name = p->name;
    if (value)
        *value = view;
    view.data = p->grad;
    if (grad)
        *grad = view;
    return DD_OK;
}

dd_status dd_distiller_parameter_at(dd_distiller *distiller, int32_t index, const char **name, dd_tensor *value,
                                    dd_tensor *grad)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_parameter_at"));
    const ddi_params *maps = distiller->attached ? &distiller->attached->maps : NULL;
    const int32_t own = distiller->parameter_count, count = own + (maps ? maps->count : 0);
    if (index < 0 || index >= count)
        return leave(distiller, ddi_fail(DD_ERR_NOT_FOUND, NULL, "dd_distiller_parameter_at: index %d; there are %d parameters",
                                         index, count));
    if (index >= own)
        return leave(distiller, map_at(distiller, maps->all[index - own], name, value, grad));
    const ddi_parameter *p = &distiller->parameter[index];
    if (name)
        *name = distiller->input[p->input].name;
    if (value)
        *value = p->view;
    if (grad) {
        *grad = p->view;
        grad->data = distiller->attached ? p->sum.data : p->grad.data;
    }
    return leave(distiller, DD_OK);
}
