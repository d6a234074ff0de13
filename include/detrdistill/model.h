/* SPDX-License-Identifier: Apache-2.0
 * Whole detectors: making and loading, forward pass, detections, gradients, saving. Deformable DETR (plain, with box
 * refinement, two-stage), Conditional DETR, AdaMixer, DINO (four levels). */
#ifndef DETRDISTILL_MODEL_H
#define DETRDISTILL_MODEL_H

#include <detrdistill/context.h>
#include <detrdistill/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dd_model dd_model;

/* Makes a model with start values (detectors.md section 8) drawn from the context's seed and each parameter's name alone.
 * Options (dd_options_help("architecture")):
 *   family=deformable-detr|conditional-detr|adamixer|dino  classes=80  queries=300
 *   refine=0|1  two-stage=0|1 (of the first family)
 *   backbone=resnet-18|resnet-50|resnet-101, of which may be changed: block=auto|basic|bottleneck  stem=CHANNELS
 *   depths=3,4,6,3 (blocks of each stage)  widths=256,512,1024,2048 (channels that a stage gives; bottleneck: multiples of 4)
 *   width=256 (a multiple of 32 and of the numbers of heads)  levels=4 (Conditional DETR: 1)  encoder-layers=6
 *   decoder-layers=6  heads=8  points=4  ffn=1024 (Conditional DETR: 2048), and for one half alone: encoder-heads=
 *   decoder-heads= encoder-points= .. decoder-ffn=
 *   backbone-weights=FILE (pretrained: torchvision's or timm's ResNet, also with norms folded into biases, or of a detector;
 *   convolutions that the file lacks or has in another shape keep their start values; the log says how many were taken)
 *   neck-bias=1|0 (0: as mmdetection)  shared-class-head=0|1 (with refine: one for all layers)
 *   dropout=0.1  attention-dropout=0.1  activation-dropout=0.1 (while training)
 *   family=adamixer begins with queries=100 ffn=2048 encoder-layers=0, no dropout, trains the affine part of its backbone's
 *   norms from the second stage on (the original pads pictures to multiples of 32: loader option multiple=32), and has
 *     groups=4 (of channels, mixed on their own)  in-points=32 (samples of a group)  out-points=128 (what they are mixed to)
 *   family=dino begins with queries=900 ffn=2048, no dropout and neck-bias=0, refines boxes and takes references from its
 *   encoder always, and has
 *     denoising=100 (pairs of noisy objects in a training step; 0: none)  label-noise=0.5  box-noise=1
 *     shared-class-head=0|1  shared-box-head=0|1 (1: as the official program)  label-rows=0 (of the label table; 0: classes)
 *     box-eps=1e-5 (official: 1e-3)  position-temperature=20  position-offset=0 (detrex: 10000 and -0.5)
 *   dtype=f32|f64  training=0|1  gradients=1|0 (as in dd_model_load)
 * Errors: ARGUMENT, OPTION, LIMIT, NOMEM, UNSUPPORTED; with backbone-weights also IO, FORMAT, SHAPE (nothing fits). The handle
 * keeps the context alive; one thread at a time. */
DD_API dd_status dd_model_create(dd_model **model, dd_context *context, const char *options);

/* Loads a folder that dd_model_save wrote, a Hugging Face folder (config.json and model.safetensors, as transformers writes
 * them; ResNet backbones of transformers or timm), or one file, .safetensors or .pth, of it, of mmdetection's (2 or 3;
 * Conditional DETR, DINO: 3), the official programs' (AdaMixer: its own) or detrex's models, with the shape read off its
 * tensors. Options (dd_options_help("model")):
 *   dtype=f32|f64  training=0|1 (1: dropout draws)  gradients=1|0 (0: less memory, no backward pass)
 *   map=FILE   rules "name -> name" ("name ->": left out) that come before the known ones; # stands for a number, * for words
 *   side=student|teacher   of a training file that holds both   coco=0|1 (1: of 91 classes keep the 80 that COCO has)
 *   heads=8  refine=auto|0|1  queries=300 (two-stage)   what a file alone does not tell
 * Names are strict: the error says what is missing, of another shape or unknown, and the log lists all of it. Errors: ARGUMENT,
 * OPTION, IO, FORMAT, SHAPE, DTYPE, NOT_FOUND (a missing tensor), LIMIT, NOMEM, UNSUPPORTED (another family). The handle keeps
 * the context alive; one thread at a time. */
DD_API dd_status dd_model_load(dd_model **model, dd_context *context, const char *path, const char *options);
DD_API void dd_model_free(dd_model *model);

/* Writes FOLDER/config.json and FOLDER/model.safetensors, each whole or not at all; transformers loads those of its own
 * families (it has no AdaMixer and no DINO). The folder must exist. Errors: ARGUMENT, IO, NOMEM. */
DD_API dd_status dd_model_save(dd_model *model, const char *folder);

/* Writes the model as a checkpoint of another program: one .safetensors file, whole or not at all, with that program's names,
 * queries, keys and values joined, heads repeated as it has them; dd_model_load reads it. Options (dd_options_help("export")):
 *   names=official|mmdet2|mmdet3|..   whose; the error says which there are for the family
 *   coco-ids=0|1   1: of 80 classes make 91, one for each id of COCO; those that it does not use get weights of 0 and biases of
 *   -10000
 * Errors: ARGUMENT, OPTION, UNSUPPORTED (a tensor that has no place there: a neck's biases in mmdetection's; heads that differ
 * where that program has one), IO, NOMEM. */
DD_API dd_status dd_model_export(dd_model *model, const char *path, const char *options);

/* Whether dropout draws (and DINO has denoising queries in steps of a distiller), and whether forward passes can go backward,
 * from the next forward pass on. Both are 0 or 1. Errors: ARGUMENT, NOMEM (memory for gradients that the model had none of). */
DD_API dd_status dd_model_set_mode(dd_model *model, int32_t training, int32_t gradients);

/* Classes, and their names ("LABEL_3" where nobody gave one): id2label of config.json. A name is borrowed until it is set anew
 * or the model freed; it is UTF-8 of at most 255 bytes. Errors: ARGUMENT, NOT_FOUND, NOMEM. */
DD_API dd_status dd_model_class_count(dd_model *model, int32_t *count);
DD_API dd_status dd_model_class_at(dd_model *model, int32_t label, const char **name);
DD_API dd_status dd_model_set_class(dd_model *model, int32_t label, const char *name);

/* Parameters, frozen ones included, in the order of the network; names are those of the file. `trained` (or NULL): 1 if it has
 * a gradient. Views are writable and live as long as the model; writing into a frozen norm takes effect at loading only.
 * Errors: ARGUMENT, NOT_FOUND. */
DD_API dd_status dd_model_parameter_count(dd_model *model, int32_t *count);
DD_API dd_status dd_model_parameter_at(dd_model *model, int32_t index, const char **name, dd_tensor *view, int32_t *trained);
/* The gradient of a parameter: what the backward passes since the last dd_model_zero_gradients added up. Errors: ARGUMENT,
 * NOT_FOUND, STATE (not trained). */
DD_API dd_status dd_model_gradient(dd_model *model, const char *name, dd_tensor *view);
DD_API dd_status dd_model_zero_gradients(dd_model *model);

/* Elements of trained parameters and of all of them (detectors.md section 11). Pointers may be NULL. */
DD_API dd_status dd_model_size(dd_model *model, int64_t *trained, int64_t *all);
/* The same for one part: "backbone", "neck", "encoder", "decoder", "heads" or "queries" (tables, level embedding, reference
 * layer, and of two-stage models what makes queries of tokens). Errors: ARGUMENT, NOT_FOUND. */
DD_API dd_status dd_model_part_size(dd_model *model, const char *part, int64_t *trained, int64_t *all);
/* Multiply-adds of a forward pass of one image by mmcv's counting rule (detectors.md 12.1), for one part ("backbone", "neck",
 * "encoder", "decoder", "heads") or NULL for the whole. Runs nothing. Errors: ARGUMENT, NOT_FOUND, LIMIT, NOMEM. */
DD_API dd_status dd_model_operations(dd_model *model, int32_t height, int32_t width, const char *part, double *count);

/* What a pass over a batch of a shape will take, from a dry run; nothing is computed. With gradients=1: forward and backward,
 * seeded at logits, boxes, neck and proposals. `what`:
 *   "activations"   bytes of the batch, of activations and of their gradients, at most at a time
 *   "parameters", "gradients"   bytes that the model holds for them (gradients: 0 where gradients=0)
 *   "total"   these together; without the kernels' own scratch memory and an optimiser's state
 *   "products", "traffic"   multiply-adds, and bytes read and written, of the forward pass; backward takes about twice as much
 * padded=1: some images are smaller than the batch. Errors: ARGUMENT, NOT_FOUND, LIMIT, NOMEM. */
DD_API dd_status dd_model_plan(dd_model *model, int32_t images, int32_t height, int32_t width, int32_t padded,
                               int32_t gradients, const char *what, double *value);
/* What "activations" were at most so far, in bytes, and what is held for them now. Pointers may be NULL. Errors: ARGUMENT. */
DD_API dd_status dd_model_memory(dd_model *model, int64_t *peak, int64_t *held);

/* Runs a batch: pixels [B,3,H,W], or [B,H,W,3] where the second dimension is not 3 (a loader's "pixels"), RGB, normalised
 * (detectors.md 10.1), zero where an image is padded, any float type and strides; sizes [B,2] int32, (w,h) of each image's real
 * part in the upper left corner, or NULL: nothing is padded. Errors: ARGUMENT, SHAPE, DTYPE, DEVICE, LIMIT, NOMEM, CANCELLED.
 */
DD_API dd_status dd_model_forward(dd_model *model, const dd_tensor *pixels, const dd_tensor *sizes);
/* The detections of image `image` of the last forward pass, best first: of all pairs (query, class) of the last decoder stage
 * the `most` (1 .. 65536; COCO counts 100) with the highest scores (sigmoid of the logit) above `least_score` (0 for AP).
 * Boxes [count][4] are (x,y,w,h) in pixels of a picture of `width` x `height`, e.g. the loader's image.originals; they are not
 * cut at its edges. They, labels, scores and queries [count] are borrowed until the next call of this function or the model's
 * end; pointers may be NULL. With dd_eval_add_detections they are measured. Errors: ARGUMENT, NOT_FOUND (no such image), STATE
 * (no forward pass yet), NONFINITE, NOMEM. */
DD_API dd_status dd_model_detections(dd_model *model, int32_t image, int32_t width, int32_t height, int32_t most,
                                     double least_score, int32_t *count, const double **boxes, const int64_t **labels,
                                     const double **scores, const int32_t **queries);
/* A tensor of the last forward pass, borrowed until the next one: "logits" [L,B,N,K], "boxes" [L,B,N,4] (cx,cy,w,h in 0..1),
 * "features.0".. [B,d,H,W] (neck), "backbone.0".. (C2..C5), "encoder" [B,S,d], "decoder.0".. [B,N,d] (what heads read),
 * "reference" [B,N,2 or 4], "refined.0".. (of AdaMixer both are (x,y,z,r) in pixels and powers of two); Conditional DETR:
 * "raw.0".. (before the heads' norm); two-stage: "proposal.logits" [B,S,K], "proposal.boxes" [B,S,4] (before the sigmoid),
 * "proposal.sigmoid" (after it), "proposal.top" int32 [B,N]; DINO: these of the N chosen tokens alone, and "proposal.scores"
 * [B,S], the largest logit of each token. Errors: ARGUMENT, NOT_FOUND, STATE (no forward pass yet). */
DD_API dd_status dd_model_tensor(dd_model *model, const char *name, dd_tensor *view);
/* Memory for the gradient of such a tensor, zero at first, in the same shape and strides: the caller fills it before
 * dd_model_backward. Errors: as dd_model_tensor; STATE (the model was loaded with gradients=0, or went backward already). */
DD_API dd_status dd_model_seed(dd_model *model, const char *name, dd_tensor *view);
/* Runs the gradients back to the parameters, once for each forward pass. Errors: ARGUMENT, STATE, NOMEM, CANCELLED. */
DD_API dd_status dd_model_backward(dd_model *model);

#ifdef __cplusplus
}
#endif
#endif
