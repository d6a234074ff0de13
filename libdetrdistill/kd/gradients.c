/* SPDX-License-Identifier: Apache-2.0
 * Gradients that the caller asked for: where operators write them and how they reach the caller's memory. */
#include "base/error.h"
#include "kd/distiller.h"
#include "tensor/tensor.h"

void *ddi_gradient_target(dd_distiller *d, int32_t i, int32_t *accumulate)
{
    ddi_input *grad = &d->input[IN_GRADIENTS + i];
    if (!grad->bound)
        return NULL;
    *accumulate = d->written[i];
    d->written[i] = true;
    return grad->data;
}

/* Checks every bound gradient against its tensor before anything is written. */
dd_status ddi_gradients_stage(dd_distiller *d)
{
    for (int32_t i = 0; i < IN_WITH_GRADIENT; i++) {
        ddi_input *grad = &d->input[IN_GRADIENTS + i];
        d->written[i] = false;
        if (!grad->bound)
            continue;
        const ddi_input *in = &d->input[i];
        DDI_TRY(ddi_input_expect(in, in->tensor.ndim, in->tensor.shape));
        DDI_TRY(ddi_input_expect(grad, in->tensor.ndim, in->tensor.shape));
        DDI_TRY(ddi_output_stage(&d->exec, grad, d->dtype));
    }
    return DD_OK;
}

dd_status ddi_gradients_check(dd_distiller *d)
{
    d->scan.count = 0;
    for (int32_t i = 0; i < IN_WITH_GRADIENT; i++)
        if (d->input[IN_GRADIENTS + i].bound && d->written[i])
            ddi_finite_add(&d->scan, &d->input[IN_GRADIENTS + i], -1, -1);
    for (int32_t i = 0; i < d->parameter_count; i++) {
        ddi_input *grad = &d->input[IN_GRADIENTS + d->parameter[i].input];
        if (d->input[d->parameter[i].input].bound)
            continue;
        grad->tensor = d->parameter[i].view;
        grad->data = d->parameter[i].grad.data;
        ddi_finite_add(&d->scan, grad, -1, -1);
    }
    DDI_TRY(ddi_finite_search(&d->exec, &d->scan, 1, d->dtype));
    const int64_t *first = d->scan.host.data;
    for (int32_t i = 0; i < d->scan.count; i++)
        if (first[i] >= 0)
            return ddi_fail(DD_ERR_NONFINITE, d->scan.input[i]->name,
                            "%s overflowed: an input is finite but too large; all bound gradients were set to zero",
                            d->scan.input[i]->name);
    return DD_OK;
}

dd_status ddi_gradients_deliver(dd_distiller *d)
{
    for (int32_t i = 0; i < IN_WITH_GRADIENT; i++) {
        ddi_input *grad = &d->input[IN_GRADIENTS + i];
        if (!grad->bound)
            continue;
        if (!d->written[i]) /* no active module depends on this tensor */
            DDI_TRY(ddi_output_zero(&d->exec, grad, d->dtype));
        else
            DDI_TRY(ddi_output_deliver(&d->exec, grad, d->dtype, d->replaced[i] ? &d->input[i] : NULL));
    }
    return DD_OK;
}

void ddi_gradients_zero(dd_distiller *d, bool delivering)
{
    ddi_exec *x = &d->exec;
    for (int32_t i = 0; i < IN_WITH_GRADIENT; i++) {
        const ddi_input *grad = &d->input[IN_GRADIENTS + i];
        if (grad->bound && (delivering || grad->data == grad->tensor.data))
            ddi_output_clear(x, grad);
    }
    for (int32_t i = 0; i < d->parameter_count; i++)
        x->context->backend->zero(x->base.device, x->base.stream, d->parameter[i].grad.data, d->parameter[i].grad.bytes);
    x->context->backend->sync(x->base.device, x->base.stream);
}
