/* SPDX-License-Identifier: Apache-2.0
 * One batch through student and distiller, forward and backward. */
#include "train/trainer.h"

#include "base/error.h"

static dd_status view_tensor(dd_tensor *view, void *data, int32_t dtype, int32_t ndim, const int64_t *shape)
{
    static char nothing[16];
    return dd_tensor_init(view, data ? data : nothing, dtype, ndim, shape, NULL, DD_DEVICE_CPU, 0, 0);
}

dd_status ddi_batch_pixels(const ddi_batch *b, dd_tensor *pixels, dd_tensor *sizes)
{
    const int64_t B = b->images, H = b->height, W = b->width;
    const int64_t shape[4] = {B, 3, H, W}, stride[4] = {H * W * 3, 1, W * 3, 3};
    DDI_TRY(dd_tensor_init(pixels, b->pixels, DD_F32, 4, shape, stride, DD_DEVICE_CPU, 0, 0));
    return view_tensor(sizes, b->sizes, DD_I32, 2, (const int64_t[]){B, 2});
}

static dd_status bind_targets(dd_trainer *t, const ddi_batch *b, const dd_tensor *sizes)
{
    dd_tensor view;
    DDI_TRY(view_tensor(&view, b->boxes, DD_F32, 2, (const int64_t[]){b->objects, 4}));
    DDI_TRY(dd_distiller_bind(t->distiller, "gt.boxes", &view));
    DDI_TRY(view_tensor(&view, b->labels, DD_I32, 1, (const int64_t[]){b->objects}));
    DDI_TRY(dd_distiller_bind(t->distiller, "gt.labels", &view));
    DDI_TRY(view_tensor(&view, b->offsets, DD_I32, 1, (const int64_t[]){b->images + 1}));
    DDI_TRY(dd_distiller_bind(t->distiller, "gt.offsets", &view));
    return dd_distiller_bind(t->distiller, "image.sizes", sizes);
}

static dd_status bind_output(dd_trainer *t, const char *name, const char *input, const char *gradient)
{
    ddi_value *value;
    dd_tensor view;
    DDI_TRY(ddi_model_value(t->student, name, &value, &view));
    DDI_TRY(dd_distiller_bind(t->distiller, input, &view));
    view.data = ddi_seed(&t->student->tape, value);
    return view.data ? dd_distiller_bind(t->distiller, gradient, &view) : t->student->tape.status;
}

dd_status ddi_trainer_attach(dd_trainer *t)
{
    ddi_distiller_settings *s = &t->distiller->settings;
    if (t->teacher) {
        return ddi_fail(DD_ERR_UNSUPPORTED, NULL, "teachers come with dd_distiller_attach");
    }
    s->logits = s->contrastive = 0;
    s->mask = DDI_MASK_NONE;
    s->prior = DDI_PRIOR_NONE;
    return DD_OK;
}

dd_status ddi_trainer_pass(dd_trainer *t, double *total)
{
    dd_tensor pixels, sizes;
    const ddi_batch *b = t->loader->current;
    DDI_TRY(ddi_batch_pixels(b, &pixels, &sizes));
    DDI_TRY(bind_targets(t, b, &sizes));
    DDI_TRY(ddi_model_forward(t->student, &pixels, &sizes));
    DDI_TRY(bind_output(t, "logits", "student.logits", "student.logits.grad"));
    DDI_TRY(bind_output(t, "boxes", "student.boxes", "student.boxes.grad"));
    DDI_TRY(ddi_distiller_step(t->distiller, total));
    return ddi_tape_backward(&t->student->tape);
}
