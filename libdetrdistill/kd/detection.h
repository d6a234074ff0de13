/* SPDX-License-Identifier: Apache-2.0
 * The loss of predictions against matched objects, shared by detection, denoising and the prior group. */
#ifndef DDI_KD_DETECTION_H
#define DDI_KD_DETECTION_H

#include "kd/distiller.h"

/* Terms and gradients of one module; `logits` and `boxes` are the inputs that the predictions came from. */
dd_status ddi_object_loss(dd_distiller *distiller, ddi_module module, const ddi_predictions *predictions, const int32_t *match,
                          double normaliser, int32_t logits, int32_t boxes);

/* encoder.c: on the device, the class of each object as a module sees it. */
const int32_t *ddi_labels_of(const dd_distiller *distiller, ddi_module module);

#endif
