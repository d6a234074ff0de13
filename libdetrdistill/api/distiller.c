/* SPDX-License-Identifier: Apache-2.0
 * Public functions of the distiller: check arguments, take the handle, call down. */
#include "kd/distiller.h"
#include "base/error.h"
#include "base/handle.h"
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

static dd_status create(dd_distiller **distiller, dd_context *c, const char *options)
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
    dd_status status = create(distiller, context, options);
    if (ddi_handle_leave(context))
        ddi_context_release(context);
    return status;
}

void dd_distiller_free(dd_distiller *distiller)
{
    if (ddi_handle_remove(distiller, DDI_DISTILLER))
        destroy(distiller);
}

dd_status dd_distiller_bind(dd_distiller *distiller, const char *name, const dd_tensor *tensor)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_bind"));
    if (!name)
        return null_argument(distiller, "dd_distiller_bind", "name");
    return leave(distiller, ddi_inputs_bind(&distiller->exec, distiller->input, IN_COUNT, name, tensor));
}

static dd_status check_process(const dd_distiller *d, const char *function)
{
    if (d->exec.context->process == getpid())
        return DD_OK;
    return ddi_fail(DD_ERR_FORKED, NULL, "%s: the context was made before fork(); make a new one in this process", function);
}

dd_status dd_distiller_step(dd_distiller *distiller, double *total)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_step"));
    dd_status status = check_process(distiller, "dd_distiller_step");
    return leave(distiller, status == DD_OK ? ddi_distiller_step(distiller, total) : status);
}

dd_status dd_distiller_prepare(dd_distiller *distiller)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_prepare"));
    dd_status status = check_process(distiller, "dd_distiller_prepare");
    return leave(distiller, status == DD_OK ? ddi_distiller_prepare(distiller) : status);
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
    *count = distiller->parameter_count;
    return leave(distiller, DD_OK);
}

dd_status dd_distiller_parameter_at(dd_distiller *distiller, int32_t index, const char **name, dd_tensor *value,
                                    dd_tensor *grad)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(distiller, DDI_DISTILLER, "dd_distiller_parameter_at"));
    if (index < 0 || index >= distiller->parameter_count)
        return leave(distiller, ddi_fail(DD_ERR_NOT_FOUND, NULL, "dd_distiller_parameter_at: index %d; there are %d parameters",
                                         index, distiller->parameter_count));
    const ddi_parameter *p = &distiller->parameter[index];
    if (name)
        *name = distiller->input[p->input].name;
    if (value)
        *value = p->view;
    if (grad) {
        *grad = p->view;
        grad->data = p->grad.data;
    }
    return leave(distiller, DD_OK);
}
