/* SPDX-License-Identifier: Apache-2.0
 *
 * libdetrdistill: knowledge distillation for DETR-family detectors (DETRDistill, ICCV 2023).
 *
 * A host that trains its own detector hands over pointers to teacher and student outputs and gets matchings, every loss
 * term and gradients back:
 *
 *     dd_context *ctx;  dd_distiller *d;  dd_tensor t;  double total;
 *     dd_context_create(&ctx, "device=cpu");
 *     dd_distiller_create(&d, ctx, "family=deformable-detr prior=none feature-mask=none");
 *     dd_tensor_init(&t, logits, DD_F32, 4, (int64_t[]){6, 2, 300, 80}, NULL, DD_DEVICE_CPU, 0, 0);
 *     dd_distiller_bind(d, "student.logits", &t);                   ... and the other tensors, by name
 *     dd_distiller_bind(d, "student.logits.grad", &grad);           gradients only where they are wanted
 *     if (dd_distiller_step(d, &total)) puts(dd_error_message());
 *     dd_distiller_free(d);  dd_context_free(ctx);
 *
 * Rules that hold everywhere:
 * - A function that can fail returns dd_status: 0 good, negative bad; dd_error_message has the sentence. The library never
 *   prints, exits or aborts.
 * - Out-parameter first, then the object, then the rest. On error out-parameters are untouched unless a function says more.
 * - What a _create or _open made is the caller's and ends with the one _free; _free(NULL) is fine. What a getter returned is
 *   borrowed until the handle's next step, run or free.
 * - Tensors are views (dd_tensor): the caller owns the memory. Names and shapes are the same in every language.
 * - Same seed, same bits: on one machine and backend, for any number of threads.
 * - A handle is used by one thread at a time; misuse is DD_ERR_STATE. Different handles, also of one context, may be used in
 * parallel.
 */
#ifndef DETRDISTILL_DETRDISTILL_H
#define DETRDISTILL_DETRDISTILL_H

#include <detrdistill/context.h>
#include <detrdistill/data.h>
#include <detrdistill/distiller.h>
#include <detrdistill/dlpack.h>
#include <detrdistill/eval.h>
#include <detrdistill/matcher.h>
#include <detrdistill/model.h>
#include <detrdistill/plot.h>
#include <detrdistill/status.h>
#include <detrdistill/tensor.h>
#include <detrdistill/tensorfile.h>
#include <detrdistill/trainer.h>
#include <detrdistill/version.h>

#endif
