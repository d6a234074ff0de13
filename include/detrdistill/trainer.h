/* SPDX-License-Identifier: Apache-2.0
 * The trainer: trains a student detector, with a teacher or alone, evaluates it, and keeps the run on disk so that it can go on
 * after any interruption. */
#ifndef DETRDISTILL_TRAINER_H
#define DETRDISTILL_TRAINER_H

#include <detrdistill/context.h>
#include <detrdistill/data.h>
#include <detrdistill/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dd_trainer dd_trainer;

/* What a progress call is about. */
enum {
    DD_TRAIN_STEP = 1,       /* a step is done */
    DD_TRAIN_EVALUATING = 2, /* some more pictures of the validation set were looked at */
    DD_TRAIN_EVALUATED = 3,  /* the metrics of an evaluation are there */
    DD_TRAIN_SAVED = 4       /* a checkpoint is on disk */
};

/* Why dd_trainer_run came back. */
enum {
    DD_TRAIN_FINISHED = 0, /* all epochs (or steps) are done */
    DD_TRAIN_REACHED = 1,  /* the epoch that was asked for is done */
    DD_TRAIN_STOPPED = 2,  /* dd_trainer_stop was called, or a progress call asked for it */
    DD_TRAIN_NO_GAIN = 3   /* early stop: no better AP in `patience` evaluations */
};

/* clang-format off */
/* Progress: names and values of an event, valid during the call. 0 goes on; anything else stops the run after this step, as
 * dd_trainer_stop does. Runs on the thread that is inside dd_trainer_step or dd_trainer_run; of the trainer and what it works
 * with it may call dd_trainer_stop alone. Names:
 *   all events:  step (finished so far), steps (of the whole run, as far as is known), epoch (from 0), epochs
 *   STEP:        loss.total, and the modules that are on: loss.det, loss.encoder, loss.logits, loss.features, loss.prior,
 *                loss.contrastive (means over the step's batches); lr, grad.norm (before clipping), skipped (steps refused so
 *                far, nonfinite=skip), damaged (pictures left out or completed so far), images-per-second, seconds-left
 *   EVALUATING:  images, images-total
 *   EVALUATED:   ap, ap50, ap75, ap-small, ap-medium, ap-large, ar1, ar10, ar100, ar-small, ar-medium, ar-large (-1: none of
 *                that kind), best.ap, best.epoch, seconds */
/* clang-format on */
typedef int32_t (*dd_train_fn)(void *user, int32_t event, const char *const *name, const double *value, int32_t count);

/* clang-format off */
/* Begins a run. The student must be loaded with gradients (and gives its weights up to training: it is changed in place);
 * teacher NULL: it learns alone. `validation` NULL: no evaluation. Both data sets must have as many classes as the student.
 * `folder` (made if its parent exists; NULL: nothing is written) receives the run, see below; one that holds a run already is
 * STATE, unless resume=1; one that another trainer has, of this process or another, is STATE in any case.
 * `options` (dd_options_help("trainer")):
 *   epochs=50  steps=0 (0: all epochs; else the run ends after so many)  batch=2
 *   accumulate=1 (batches of a step: gradients are averaged)
 *   compute=fp32|bf16 (bf16: products in bf16, the teacher's too; weights, sums and moments stay fp32)
 *   lr=2e-4  lr.backbone=0.1  lr.sampling=0.1 (factors: backbone; sampling offsets and reference points)
 *   warmup=500 (steps, linear)  warmup-from=0.001  drop=auto|EPOCH,EPOCH,.. (auto: after four fifths)  drop-factor=0.1
 *   decay=1e-4  decay-norm-bias=1 (0: tensors of one dimension do not decay)  beta1=0.9  beta2=0.999  eps=1e-8
 *   clip=0.1 (L2 norm of all gradients; 0: off)
 *   ema=0 (decay of averaged weights, which are then what is evaluated and exported; min(ema, (1+step)/(10+step)) is used;
 *   0: off)
 *   nonfinite=error|skip (a step with NaN or infinity in a loss or gradient never changes a weight; skip: it is counted and
 *   passed over, 100 in a row are an error)
 *   eval-every=1 (epochs; 0: never)  eval-batch=0 (0: as batch)  eval-limit=0 (pictures; 0: all)  eval-detections=100
 *   patience=0 (evaluations without a better AP that end the run; 0: never)
 *   save-every=0 (steps between checkpoints besides those at the end of an epoch)  log-every=10 (steps)
 *   seed=-1 (-1: the context's)  resume=0|1 (1: goes on from the folder's checkpoint where there is one)
 *   sizes max-size flip crop crop-sizes crop-min crop-max crop-max-size multiple drop-last limit shuffle threads prefetch
 *   damaged: of the training loader, as in dd_loader_create (the validation set takes sizes, max-size, multiple, threads,
 *   prefetch and damaged).
 * `distiller`: words of dd_distiller_create (NULL: its defaults), teacher NULL: only det, family, classes and weight.det count.
 * Errors: ARGUMENT, OPTION, STATE (gradients=0; handles of different contexts; a run is there, or another trainer), SHAPE
 * (classes), IO, FORMAT, LIMIT, NOMEM. The models and data sets must stay until the trainer is freed; in calls of the trainer they are in use. One
 * thread at a time. */
/* clang-format on */
DD_API dd_status dd_trainer_create(dd_trainer **trainer, dd_model *student, dd_model *teacher, dd_dataset *train,
                                   dd_dataset *validation, const char *folder, const char *options, const char *distiller);

/* Takes up the run in a folder where its newest whole checkpoint is: opens the data sets, the teacher and the student that the
 * run was begun with (all owned by the trainer) and puts everything back; what follows is bit for bit what would have followed.
 * `options`: words that override the run's own (e.g. "epochs=80 threads=4"), or NULL. Errors: as dd_trainer_create; NOT_FOUND
 * (no checkpoint, or the teacher or a data set is not where it was), FORMAT (every checkpoint is damaged; the teacher has
 * changed). */
DD_API dd_status dd_trainer_resume(dd_trainer **trainer, dd_context *context, const char *folder, const char *options);

/* Ends the run's files; what was not saved is lost. NULL is fine. */
DD_API void dd_trainer_free(dd_trainer *trainer);

/* NULL: no progress calls. */
DD_API dd_status dd_trainer_set_progress(dd_trainer *trainer, dd_train_fn progress, void *user);

/* One step: `accumulate` batches forward and backward, clipping, AdamW, EMA. Nothing is evaluated or saved; at the end of an
 * epoch the next one begins. *loss (or NULL): the weighted sum of the terms. After an error the run is as it was before the
 * step, and the step may be tried again. Errors: NONFINITE (names the place or the parameter), IO, FORMAT (a picture), NOMEM,
 * CANCELLED, STATE (the run is at its end), FORKED; as dd_distiller_step. */
DD_API dd_status dd_trainer_step(dd_trainer *trainer, double *loss);

/* Runs until `epoch` epochs are done (0: to the end), with evaluations, best copy and checkpoints as the options say; saves
 * when it stops. *why (or NULL): DD_TRAIN_FINISHED, .. Errors: as dd_trainer_step and dd_trainer_save; after one the run is as
 * it was after its last good step, and may be saved or go on. */
DD_API dd_status dd_trainer_run(dd_trainer *trainer, int64_t epoch, int32_t *why);

/* Asks a running dd_trainer_run to end after the step it is in. Any thread, also from a signal handler; the trainer must be
 * alive. An evaluation that it interrupts is made again when the run goes on. */
DD_API dd_status dd_trainer_stop(dd_trainer *trainer);

/* Evaluates the student (its averaged weights where there are some) on the validation set: COCO's twelve numbers in the order
 * of dd_eval_finish, labels matched as the data set has them. Changes nothing of the run. Errors: STATE (no validation set),
 * and as dd_model_forward, dd_loader_next. */
DD_API dd_status dd_trainer_evaluate(dd_trainer *trainer, double numbers[12]);

/* Writes a checkpoint now. Errors: STATE (no folder), IO, NOMEM; the last good one stays in any case. */
DD_API dd_status dd_trainer_save(dd_trainer *trainer);

/* Writes the student for use as a Hugging Face folder (made unless it is there, if its parent is), its averaged weights where
 * there are some. Errors: as dd_model_save. */
DD_API dd_status dd_trainer_export(dd_trainer *trainer, const char *folder);

/* Where the run is, by name: those of the last progress events (step, steps, epoch, epochs, loss.total .. ap, best.ap,
 * best.epoch, ..),
 * lr, finished (0|1), parameters (trained elements). Names are static. Errors: ARGUMENT, NOT_FOUND (also: no step or no
 * evaluation yet). */
DD_API dd_status dd_trainer_value_count(const dd_trainer *trainer, int32_t *count);
DD_API dd_status dd_trainer_value_at(const dd_trainer *trainer, int32_t index, const char **name, double *value);
DD_API dd_status dd_trainer_value_get(const dd_trainer *trainer, const char *name, double *value);

/* The student: the caller's own, or the one that dd_trainer_resume opened (borrowed, until the trainer is freed). */
DD_API dd_status dd_trainer_student(const dd_trainer *trainer, dd_model **student);

/* Draws the curves of a run folder (losses, learning rate, AP) as an SVG document, whole or not at all; `path` NULL:
 * FOLDER/curves.svg. Errors: ARGUMENT, IO, FORMAT (metrics.csv), LIMIT, NOMEM. Any thread. */
DD_API dd_status dd_run_plot(const char *folder, const char *path);

/* clang-format off */
/* The run folder:
 *   config.json                        every value used: options, data sets, student, teacher and its hash, versions, device
 *   log.jsonl                          a line for each logged step and each evaluation
 *   metrics.csv                        the same as a table, a column for each loss term and metric
 *   events.out.tfevents.*              the same for TensorBoard, a file for each start
 *   state.safetensors                  the newest checkpoint: weights, moments, averaged weights, distiller's parameters, counters,
 *                                      random state, loader position, best AP, options and hashes; one checksum for all.
 *                                      Written beside, synced, renamed
 *   state.previous.safetensors         the one before
 *   student/                           Hugging Face folder, written at the start and whenever the run ends or stops
 *   best/                              the same, of the evaluation with the highest AP
 *   curves.svg                         drawn after each evaluation */
/* clang-format on */

#ifdef __cplusplus
}
#endif
#endif
