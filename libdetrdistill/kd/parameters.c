/* SPDX-License-Identifier: Apache-2.0
 * Parameters of adaptors (B.5) and contrastive branches (A.9): the caller's if bound, else the distiller's own. */
#include "base/error.h"
#include "base/philox.h"
#include "kd/distiller.h"

#include <math.h>
#include <string.h>

static ddi_parameter *find(dd_distiller *d, int32_t input)
{
    for (int32_t i = 0; i < d->parameter_count; i++)
        if (d->parameter[i].input == input)
            return &d->parameter[i];
    return NULL;
}

typedef enum { FILL_UNIFORM, FILL_ONE, FILL_ZERO } fill;

/* Values as frameworks start a linear layer: uniform in +-1/sqrt(fan_in), weight and bias alike. */
static void start_values(const dd_distiller *d, void *values, int64_t n, int32_t dtype, fill how, int64_t fan_in,
                         int32_t stream)
{
    double bound = 1 / sqrt((double)fan_in);
    for (int64_t i = 0; i < n; i++) {
        double u =
            how == FILL_UNIFORM
                ? bound *
                      (2 * ddi_philox_uniform((uint64_t)d->exec.context->settings.seed, 0, (uint32_t)stream, (uint64_t)i) - 1)
            : how == FILL_ONE ? 1
                              : 0;
        if (dtype == DD_F64)
            ((double *)values)[i] = u;
        else
            ((float *)values)[i] = (float)u;
    }
}

static dd_status create(dd_distiller *d, ddi_parameter *p, int32_t input, int32_t dims, const int64_t *shape, fill how,
                        int64_t fan_in)
{
    ddi_exec *x = &d->exec;
    const dd_context *c = x->context;
    int64_t n = shape[0] * (dims > 1 ? shape[1] : 1);
    size_t bytes = (size_t)(n * dd_dtype_size(d->dtype));
    dd_tensor view = {.struct_size = sizeof view,
                      .dtype = d->dtype,
                      .ndim = dims,
                      .device_type = c->backend->device_type,
                      .device_index = c->device_index,
                      .shape = {shape[0], dims > 1 ? shape[1] : 0},
                      .stride = {dims > 1 ? shape[1] : 1, dims > 1 ? 1 : 0}};
    DDI_TRY(ddi_buffer_reserve(x, &p->value, bytes, true, d->input[input].name));
    DDI_TRY(ddi_buffer_reserve(x, &p->grad, bytes, true, d->input[input].name));
    DDI_TRY(ddi_buffer_reserve(x, &x->host_bytes, bytes, false, d->input[input].name));
    start_values(d, x->host_bytes.data, n, d->dtype, how, fan_in, input);
    DDI_TRY(ddi_copy(x, p->value.data, x->host_bytes.data, bytes, ddi_on_host(x) ? DD_COPY_ON_DEVICE : DD_COPY_TO_DEVICE));
    DDI_TRY(ddi_zero(x, p->grad.data, bytes));
    DDI_TRY(ddi_sync(x));
    view.data = p->value.data;
    p->view = view;
    p->input = input;
    return DD_OK;
}

/* Makes input `i` readable: the bound tensor, or the own parameter (made now if need be). */
static dd_status take(dd_distiller *d, int32_t i, int32_t dims, const int64_t *shape, fill how, int64_t fan_in)
{
    ddi_input *in = &d->input[i];
    if (in->bound) {
        DDI_TRY(ddi_input_expect(in, dims, shape));
        return ddi_input_stage(&d->exec, in, d->dtype, false);
    }
    ddi_parameter *p = find(d, i);
    if (!p) {
        p = &d->parameter[d->parameter_count];
        dd_status status = create(d, p, i, dims, shape, how, fan_in);
        if (status != DD_OK) {
            ddi_buffer_free(&d->exec, &p->value);
            ddi_buffer_free(&d->exec, &p->grad);
            return status;
        }
        d->parameter_count++;
        ddi_log_line(d->exec.context, DD_LOG_INFO, "made parameter %s, %lld numbers", in->name,
                     (long long)(shape[0] * (dims > 1 ? shape[1] : 1)));
    }
    if (p->view.dtype != d->dtype || p->view.shape[0] != shape[0] || (dims > 1 && p->view.shape[1] != shape[1]))
        return ddi_fail(DD_ERR_SHAPE, in->name,
                        "%s: this distiller made it for other widths or another element type; use another "
                        "distiller",
                        in->name);
    in->tensor = p->view;
    in->data = p->value.data;
    return DD_OK;
}

void *ddi_parameter_gradient(dd_distiller *d, int32_t i)
{
    int32_t accumulate;
    ddi_parameter *p = d->input[i].bound ? NULL : find(d, i);
    return p ? p->grad.data : ddi_gradient_target(d, i, &accumulate);
}

static dd_status make_branch(dd_distiller *d, int32_t first, int64_t width)
{
    int64_t h = d->settings.hidden;
    if (d->input[first].bound)
        h = d->input[first].tensor.shape[0];
    if (h < 1 || h > DDI_MAX_CHANNELS)
        return ddi_fail(h < 1 ? DD_ERR_SHAPE : DD_ERR_LIMIT, d->input[first].name, "%s has %lld rows; 1 to %d are possible",
                        d->input[first].name, (long long)h, DDI_MAX_CHANNELS);
    DDI_TRY(take(d, first + 0, 2, (int64_t[]){h, width}, FILL_UNIFORM, width));
    DDI_TRY(take(d, first + 1, 1, (int64_t[]){h}, FILL_UNIFORM, width));
    DDI_TRY(take(d, first + 2, 2, (int64_t[]){h, h}, FILL_UNIFORM, h));
    DDI_TRY(take(d, first + 3, 1, (int64_t[]){h}, FILL_UNIFORM, h));
    DDI_TRY(take(d, first + 4, 1, (int64_t[]){h}, FILL_ONE, h));
    DDI_TRY(take(d, first + 5, 1, (int64_t[]){h}, FILL_ZERO, h));
    DDI_TRY(take(d, first + 6, 2, (int64_t[]){h, h}, FILL_UNIFORM, h));
    return take(d, first + 7, 1, (int64_t[]){h}, FILL_UNIFORM, h);
}

dd_status ddi_parameters_make(dd_distiller *d)
{
    for (int32_t n = 0; n < d->levels && d->active[DDI_FEATURES]; n++) {
        int64_t d_s = d->input[IN_STUDENT_FEATURES + n].tensor.shape[1],
                d_t = d->input[IN_TEACHER_FEATURES + n].tensor.shape[1];
        if (!d->level[n].adapt)
            continue;
        DDI_TRY(take(d, IN_ADAPTOR_WEIGHT + n, 2, (int64_t[]){d_t, d_s}, FILL_UNIFORM, d_s));
        DDI_TRY(take(d, IN_ADAPTOR_BIAS + n, 1, (int64_t[]){d_t}, FILL_UNIFORM, d_s));
    }
    if (!d->active[DDI_CONTRASTIVE])
        return DD_OK;
    DDI_TRY(make_branch(d, IN_BRANCH_STUDENT, d->input[IN_STUDENT_QUERIES].tensor.shape[3]));
    return make_branch(d, IN_BRANCH_TEACHER, d->input[IN_TEACHER_QUERIES].tensor.shape[3]);
}
