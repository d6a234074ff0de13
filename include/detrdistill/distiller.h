/* SPDX-License-Identifier: Apache-2.0
 * The distiller: one knowledge-distillation step, on the caller's tensors or on whole models of this library. It matches,
 * computes every loss term and writes gradients: into the caller's memory, or back into the student's parameters. Source:
 * DETRDistill (ICCV 2023), shared spec distillation A to D. */
#ifndef DETRDISTILL_DISTILLER_H
#define DETRDISTILL_DISTILLER_H

#include <detrdistill/context.h>
#include <detrdistill/data.h>
#include <detrdistill/model.h>
#include <detrdistill/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dd_distiller dd_distiller;

/* Replaces values[0..count-1] by their mean over all processes of a distributed run (an all-reduce). 0 is good; anything
 * else ends the step with DD_ERR_BACKEND. Called once per step, on the calling thread, with count = 6: matched student queries,
 * objects, student-teacher pairs of one stage, its positive and its negative pairs, matched queries of the prior group; with
 * encoder.logits count = 7: the encoder's matched proposals are the last. */
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
 *   feature-source=auto|neck|encoder   of attached models: which maps are compared (D.5)
 *   weight.det weight.denoising weight.encoder weight.logits weight.features weight.prior weight.contrastive = 1
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
 *   encoder.logits [1,B,S,C]  encoder.boxes [1,B,S,4]   all proposals of a two-stage encoder, after the sigmoid (+ .grad)
 *                             optional; matched with the objects as if all were of class 0, for family=dino with their labels
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

/* Terms of the last step, without the outer weights: "loss.total" (with weights), "loss.det", "loss.denoising", "loss.encoder",
 * "loss.logits", "loss.features", "loss.prior", "loss.contrastive", and their parts, e.g. "loss.logits.stage5.giou",
 * "loss.features.level2", "loss.prior.stage0.class". Names are borrowed: they live until the next step or free.
 * Errors: ARGUMENT, STATE (no step yet), NOT_FOUND. */
DD_API dd_status dd_distiller_term_count(const dd_distiller *distiller, int32_t *count);
DD_API dd_status dd_distiller_term_at(const dd_distiller *distiller, int32_t index, const char **name, double *value);
DD_API dd_status dd_distiller_term_get(const dd_distiller *distiller, const char *name, double *value);

/* A result of the last step as a read-only host tensor, borrowed until the next step or free:
 *   match.det [L_S,B,N_S] i32  match.teacher [L_T,B,N_T]  match.prior [L_S,B,N_T]      object of each query (as in gt.*), or -1
 *   match.encoder [1,B,S] i32  cost.encoder [1,B] f64  terms.encoder [1,3] f64   the same of the encoder's proposals
 *   pairs.logits [n,2] i32 (student stage, teacher stage)   match.logits [n,B,N_S] i32 teacher query, or -1
 *   kind.logits [n,B,N_S] i32  0 unmatched, 1 joint or positive, 2 negative
 *   cost.det [L_S,B] f64  cost.teacher  cost.prior  cost.logits [n,B]
 *   terms.det [L_S,3] f64 (class, L1, GIoU)  terms.denoising  terms.prior  terms.logits [n,3], with split [n,5]
 *   terms.features [L_T,levels] f64  terms.contrastive [n] f64
 *   features.index [L_T,B,K] i32  features.quality [L_T,B,K] f32  features.weight.N [B,H,W] f32  (f64 in f64 steps)
 * Errors: ARGUMENT, STATE (no step yet), NOT_FOUND (no such result, or its module is off), NOMEM, BACKEND. */
DD_API dd_status dd_distiller_result(dd_distiller *distiller, const char *name, dd_tensor *view);

/* Outer weight of a module: "det", "denoising", "encoder", "logits" (lambda 1), "features" (lambda 2), "prior" (lambda 3),
 * "contrastive". Finite, >= 0. With weight 0 the terms are still computed; their gradient is zero. Errors: ARGUMENT, NOT_FOUND
 * (no such module). */
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

/* ---- Whole models */

/* Attaches a student and its teacher (NULL: none; then only the student's own detection loss runs, whatever the options say).
 * From now on dd_distiller_step is one training step on the bound batch:
 *   the teacher's forward pass, without gradients and without dropout (or its stored outputs, see dd_distiller_set_cache);
 *   the student's, in the mode that it has (dd_model_set_mode; in training a DINO has denoising queries made of gt.*, drawn
 *   by the model's seed and step), with the teacher's queries as a second group through its
 *   decoder where prior=group or assigned: the groups do not see each other, and the student's own outputs keep their bits;
 *   matchings, terms, and their gradients back into the parameters: *added* to what dd_model_gradient and
 *   dd_distiller_parameter_at show, until dd_model_zero_gradients and dd_distiller_zero_gradients.
 * Terms, results, weights, mean and trace are as without models; dd_model_tensor shows what both models left. A step that fails
 * has added nothing, unless it fails on the way back (NOMEM, BACKEND, CANCELLED): zero the gradients then.
 * Instead of the tensors above one binds the batch: pixels [B,3,H,W], image.sizes [B,2] (the real part of each image), gt.*,
 * and image.ids [B] (optional), or all of them at once by dd_distiller_bind_batch. Models may differ in backbone, depth,
 * queries, stages, width and element type; classes and context must be the same. Levels that only one of them has are left out.
 * The student needs gradients=1. prior=init copies the teacher's query table into the student now, and never again: load a
 * saved state afterwards. The parameters of dd_distiller_parameter_at all exist after this call; where decoders differ in
 * width, two maps for the teacher's queries are among them (prior.position.*, prior.content.*). Once for each distiller, before
 * its first step. Models may be freed in any order; a step then fails. Errors: ARGUMENT (not models, the same one twice,
 * another context), STATE (attached already, or had a step, or the student keeps no gradients), SHAPE (classes differ;
 * prior=init with other queries or width), UNSUPPORTED (family of the options), LIMIT, NOMEM, BACKEND, FORKED. */
DD_API dd_status dd_distiller_attach(dd_distiller *distiller, dd_model *student, dd_model *teacher);

/* Binds the loader's current batch: pixels, image.sizes, image.ids, gt.boxes, gt.labels, gt.offsets. Step before the loader
 * goes on. Errors: ARGUMENT, STATE (no models attached; the loader has no batch). */
DD_API dd_status dd_distiller_bind_batch(dd_distiller *distiller, dd_loader *loader);

/* Zeroes the gradients of the distiller's own parameters. Errors: ARGUMENT, BACKEND. */
DD_API dd_status dd_distiller_zero_gradients(dd_distiller *distiller);

/* Keeps the teacher's outputs in a folder, one file for each image, and reads them instead of running the teacher. A file is
 * used only if the picture's pixels as they entered the step (after augmentation and padding), its size and id, the teacher's
 * weights and shape, the library and the kernels of this machine are the same, and its checksum is right; else the teacher
 * runs, one image at a time, so that what is read is bit for bit what would be computed. The folder never holds more than
 * `most_bytes` of such files: those of other weights go first; once it is full, nothing more is stored. A file that cannot be
 * written is no error. folder = NULL: off. The folder must exist. Errors: ARGUMENT, STATE (no teacher attached), UNSUPPORTED
 * (on a device), IO, LIMIT, NOMEM. */
DD_API dd_status dd_distiller_set_cache(dd_distiller *distiller, const char *folder, int64_t most_bytes);

/* Images whose outputs were read, and computed, since dd_distiller_set_cache; bytes of the folder's files. Pointers may be
 * NULL. Errors: ARGUMENT, STATE (no cache). */
DD_API dd_status dd_distiller_cache_statistics(const dd_distiller *distiller, int64_t *hits, int64_t *misses, int64_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
