/* SPDX-License-Identifier: Apache-2.0
 * The distiller: one knowledge-distillation step on the caller's tensors. It matches, computes every loss term and
 * writes gradients into the caller's memory. Source: DETRDistill (ICCV 2023), shared spec distillation A to D. */
#ifndef DETRDISTILL_DISTILLER_H
#define DETRDISTILL_DISTILLER_H

#include <detrdistill/context.h>
#include <detrdistill/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dd_distiller dd_distiller;

/* Replaces values[0..count-1] by their mean over all processes of a distributed run (an all-reduce). 0 is good; anything
 * else ends the step with DD_ERR_BACKEND. Called once per step, on the calling thread, with count = 6: matched student queries,
 * objects, student-teacher pairs of one stage, its positive and its negative pairs, matched queries of the prior group. */
typedef int32_t (*dd_mean_fn)(void *user, double *values, int32_t count);

/* Gets one JSON object per matched pair ("who taught whom"), without a newline. 0 goes on; anything else ends the trace. */
typedef int32_t (*dd_trace_fn)(void *user, const char *json, int64_t bytes);

/* Makes a distiller. Options (dd_options_help("distiller") has all, with defaults):
 *   family=deformable-detr|conditional-detr|adamixer|dino      conventions of the base loss
 *   profile=default|as-published|paper                         sets the options below; later words override
 *   classes=N (0: taken from the tensors)   det=0|1   logits=0|1
 *   split=0|1   stage=grouped|first   contrastive=0|1
 *   feature-mask=sum-max|per-query|none   topk=100 (0: all queries once)   gamma-class=1 gamma-iou=1   psi-raw=0|1
 *   adaptor=auto|always|never   prior=none|init|group|assigned   prior-stage=stage|last
 *   weight.det weight.denoising weight.logits weight.features weight.prior weight.contrastive = 1
 *   nonfinite=error|skip|clamp
 * Errors: ARGUMENT, OPTION, LIMIT, NOMEM. */
DD_API dd_status dd_distiller_create(dd_distiller **distiller, dd_context *context, const char *options);
DD_API void dd_distiller_free(dd_distiller *distiller);

/* Binds a tensor view by name; NULL unbinds. The memory must stay until it is bound anew or the distiller freed; only
 * dd_distiller_step touches it. Floats: f32, f64, f16 or bf16 (computed in f32; in f64 when student.logits is f64), any
 * strides; contiguous f32 (f64) is used in place. A gradient is asked for by binding NAME.grad, of the same shape; a step
 * overwrites it. L stages, B images, N queries, C classes, G objects, d channels; boxes (cx,cy,w,h) in 0..1.
 *   student.logits [L,B,N,C]  student.boxes [L,B,N,4]                        (+ .grad)
 *   student.queries [L,B,N,d]  decoder embeddings, for contrastive=1         (+ .grad)
 *   student.features.0 .. .7 [B,d,H,W]                                       (+ .grad)
 *   teacher.logits  teacher.boxes  teacher.queries  teacher.features.0 ..    constants
 *   features.padding.0 .. [B,H,W] u8   1 = padded: weight 0 there (optional)
 *   prior.logits [L,B,N_T,C]  prior.boxes   student decoder fed with the teacher's queries   (+ .grad)
 *   denoising.logits [L,B,Nd,C]  denoising.boxes  denoising.match [L,B,Nd] i32  object or -1 (optional; + .grad)
 *   gt.boxes [G,4]  gt.labels [G]  gt.offsets [B+1]  gt.crowd [G] (optional)  image.sizes [B,2] (W,H) in pixels
 *   adaptor.N.weight [d_T,d_S]  adaptor.N.bias [d_T]                         (+ .grad) instead of the distiller's own
 *   contrastive.student|teacher.{w1,b1,w2,b2,bn_weight,bn_bias,w3,b3}        (+ .grad) instead of the distiller's own
 * Errors: ARGUMENT, NOT_FOUND (did you mean ..), SHAPE, DTYPE, DEVICE, LIMIT. */
DD_API dd_status dd_distiller_bind(dd_distiller *distiller, const char *name, const dd_tensor *tensor);

/* One step: matchings, all terms, gradients of what is bound. *total (may be NULL) gets the weighted sum of the terms.
 * On an error in the arguments or inputs nothing was written. A failure that is met later (memory, device, cancellation,
 * overflow of finite inputs in a sum) leaves all bound gradients at zero or untouched, never half written.
 * Errors: STATE (a tensor is missing, or the handle is in use by another thread), SHAPE, DTYPE, LIMIT, NONFINITE (names tensor,
 * image, stage, query), ARGUMENT (a label outside 0..C-1, offsets that do not grow), NOMEM, BACKEND, UNSUPPORTED, CANCELLED,
 * FORKED. */
DD_API dd_status dd_distiller_step(dd_distiller *distiller, double *total);

/* Terms of the last step, without the outer weights: "loss.total" (with weights), "loss.det", "loss.denoising", "loss.logits",
 * "loss.features", "loss.prior", "loss.contrastive", and their parts, e.g. "loss.logits.stage5.giou",
 * "loss.features.level2", "loss.prior.stage0.class". Names are borrowed: they live until the next step or free.
 * Errors: ARGUMENT, STATE (no step yet), NOT_FOUND. */
DD_API dd_status dd_distiller_term_count(const dd_distiller *distiller, int32_t *count);
DD_API dd_status dd_distiller_term_at(const dd_distiller *distiller, int32_t index, const char **name, double *value);
DD_API dd_status dd_distiller_term_get(const dd_distiller *distiller, const char *name, double *value);

/* A result of the last step as a read-only host tensor, borrowed until the next step or free:
 *   match.det [L_S,B,N_S] i32  match.teacher [L_T,B,N_T]  match.prior [L_S,B,N_T]      object of each query (as in gt.*), or -1
 *   pairs.logits [n,2] i32 (student stage, teacher stage)   match.logits [n,B,N_S] i32 teacher query, or -1
 *   kind.logits [n,B,N_S] i32  0 unmatched, 1 joint or positive, 2 negative
 *   cost.det [L_S,B] f64  cost.teacher  cost.prior  cost.logits [n,B]
 *   terms.det [L_S,3] f64 (class, L1, GIoU)  terms.denoising  terms.prior  terms.logits [n,3], with split [n,5]
 *   terms.features [L_T,levels] f64  terms.contrastive [n] f64
 *   features.index [L_T,B,K] i32  features.quality [L_T,B,K] f32  features.weight.N [B,H,W] f32  (f64 in f64 steps)
 * Errors: ARGUMENT, STATE (no step yet), NOT_FOUND (no such result, or its module is off), NOMEM, BACKEND. */
DD_API dd_status dd_distiller_result(dd_distiller *distiller, const char *name, dd_tensor *view);

/* Outer weight of a module: "det", "denoising", "logits" (lambda 1), "features" (lambda 2), "prior" (lambda 3), "contrastive".
 * Finite, >= 0. With weight 0 the terms are still computed; their gradient is zero. Errors: ARGUMENT, NOT_FOUND (no such
 * module). */
DD_API dd_status dd_distiller_set_weight(dd_distiller *distiller, const char *module, double weight);
DD_API dd_status dd_distiller_get_weight(const dd_distiller *distiller, const char *module, double *weight);

/* The CUDA stream that work is queued on (a cudaStream_t; NULL: the default stream). Ignored on the CPU. */
DD_API dd_status dd_distiller_set_stream(dd_distiller *distiller, void *stream);

/* Normalisers of a distributed run (distillation, section 1, avg_R). NULL: one process. */
DD_API dd_status dd_distiller_set_mean(dd_distiller *distiller, dd_mean_fn mean, void *user);

/* Who taught whom: runs at the end of each good step. NULL: off. */
DD_API dd_status dd_distiller_set_trace(dd_distiller *distiller, dd_trace_fn trace, void *user);

/* Parameters that the distiller owns: adaptors where widths differ, branches of the contrastive term. They exist from the first
 * step that needs them (or dd_distiller_prepare). `value` and `grad` are views of the distiller's memory on its device, the
 * same for its whole life: the host's optimiser updates `value` in place. A step overwrites `grad`. dd_distiller_prepare fails
 * as dd_distiller_step does and, like a step that fails, ends the results of the last step. Errors: ARGUMENT, NOT_FOUND
 * (index); of prepare: as dd_distiller_step. */
DD_API dd_status dd_distiller_prepare(dd_distiller *distiller);
DD_API dd_status dd_distiller_parameter_count(const dd_distiller *distiller, int32_t *count);
DD_API dd_status dd_distiller_parameter_at(dd_distiller *distiller, int32_t index, const char **name, dd_tensor *value,
                                           dd_tensor *grad);

#ifdef __cplusplus
}
#endif
#endif
