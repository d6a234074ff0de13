/* SPDX-License-Identifier: Apache-2.0
 * One batch through student, teacher and distiller, forward and backward. */
#include "base/error.h"
#include "train/trainer.h"

dd_status ddi_batch_pixels(const ddi_batch *b, dd_tensor *pixels, dd_tensor *sizes)
{
    const int64_t B = b->images, H = b->height, W = b->width;
    const int64_t shape[4] = {B, 3, H, W}, stride[4] = {H * W * 3, 1, W * 3, 3};
    DDI_TRY(dd_tensor_init(pixels, b->pixels, DD_F32, 4, shape, stride, DD_DEVICE_CPU, 0, 0));
    return dd_tensor_init(sizes, b->sizes, DD_I32, 2, (const int64_t[]){B, 2}, NULL, DD_DEVICE_CPU, 0, 0);
}

dd_status ddi_trainer_attach(dd_trainer *t)
{
    return dd_distiller_attach(t->distiller, t->student, t->teacher);
}

dd_status ddi_trainer_pass(dd_trainer *t, double *total)
{
    DDI_TRY(dd_distiller_bind_batch(t->distiller, t->loader));
    return dd_distiller_step(t->distiller, total);
}
