/* SPDX-License-Identifier: Apache-2.0
 * Inside of a dd_trainer. options.c reads what is asked for; step.c makes one step; evaluate.c measures; state.c keeps
 * checkpoints; report.c writes the run folder's other files; plot.c draws; run.c begins, takes up and runs. */
#ifndef DDI_TRAIN_TRAINER_H
#define DDI_TRAIN_TRAINER_H

#include "data/loader.h"
#include "formats/run_files.h"
#include "formats/tensorfile.h"
#include "kd/distiller.h"
#include "models/model.h"
#include "train/optimiser.h"
#include "train/schedule.h"
#include <detrdistill/trainer.h>

enum { DDI_TRAIN_PATH = 4096, DDI_METRICS = 12, DDI_TRAIN_MODULES = 7, DDI_MOST_SKIPPED = 100 };

typedef struct ddi_trainer_settings {
    int64_t epochs, steps, batch, accumulate, warmup, eval_every, eval_batch, eval_limit, eval_detections, patience, save_every,
        log_every, seed;
    int64_t limit, max_size, crop_min, crop_max, crop_max_size, multiple, threads, prefetch;
    double lr, lr_backbone, lr_sampling, warmup_from, drop_factor, decay, beta1, beta2, eps, clip, average, flip, crop;
    int32_t bf16, small_decay, skip, resume, drop_last, shuffle, damaged;
    char drop[DDI_OPTION_TEXT], sizes[DDI_OPTION_TEXT], crop_sizes[DDI_OPTION_TEXT];
} ddi_trainer_settings;

extern const ddi_option_table ddi_trainer_options;

/* Numbers of a run that a checkpoint keeps. All are int64_t or double: state.c saves them as two arrays. */
typedef struct ddi_trainer_counts {
    int64_t step, skipped, skipped_in_row; /* steps begun so far, refused ones among them */
    int64_t batch;                         /* forward passes of training: the number of their random draws */
    int64_t epoch, epoch_batch;            /* of the loader */
    int64_t closed;                        /* epochs of which evaluation and checkpoint are done */
    int64_t damaged, seed, evaluated_step; /* step of the last evaluation, -1: none */
    int64_t best_epoch, without_gain;      /* evaluations since the best one */
} ddi_trainer_counts;

typedef struct ddi_trainer_reals {
    double best_ap, metric[DDI_METRICS]; /* of the last evaluation */
} ddi_trainer_reals;

/* What the last step was like. */
typedef struct ddi_step_report {
    double total, module[DDI_TRAIN_MODULES], rate, norm;
    bool is_there;
} ddi_step_report;

struct dd_trainer {
    dd_context *context;
    ddi_exec exec; /* of the optimiser */
    dd_model *student, *teacher;
    dd_dataset *train, *validation;
    bool owns; /* resume opened the four */
    dd_distiller *distiller;
    dd_loader *loader;
    ddi_trainer_settings settings;
    ddi_schedule schedule;
    ddi_optimiser optimiser;
    ddi_trainer_counts counts;
    ddi_trainer_reals reals;
    ddi_step_report report;
    bool has_module[DDI_TRAIN_MODULES];
    dd_train_fn progress;
    void *user;
    int32_t stop; /* atomic */
    int64_t saved_step, parameters, zero_steps[DDI_TRAIN_MODULES];
    int64_t images;                /* of the last step */
    double per_second, evaluation; /* images; seconds of the last evaluation */
    double step_seconds, mark;     /* smoothed; the clock at the end of the last step, 0: there was none since the start */
    /* the folder */
    char folder[DDI_TRAIN_PATH];         /* "": none */
    int lock;                            /* of the folder; -1: none */
    char *options, *words;               /* as given; the distiller's */
    uint64_t student_hash, teacher_hash; /* when the run began, or was taken up */
    bool log_open, table_open, events_open;
    ddi_run_log log;
    ddi_run_table table;
    ddi_run_events events;
    ddi_crc_table crc;
};

extern const char *const ddi_train_modules[DDI_TRAIN_MODULES]; /* "loss.det", .. */
extern const char *const ddi_train_metrics[DDI_METRICS];       /* "ap", .. */

/* options.c */
dd_status ddi_trainer_parse(ddi_trainer_settings *settings, const char *text);
/* Words for the loader of the training or the validation set. */
void ddi_trainer_loader_words(const ddi_trainer_settings *settings, bool validation, int64_t seed, ddi_text *words);
/* Adds {"key": value, ..} of an option table. */
void ddi_options_json(const ddi_option_table *table, const void *settings, ddi_text *text);

/* The words that a data set was opened with. */
void ddi_dataset_words(const dd_dataset *data, ddi_text *words);

/* pass.c: the models become the distiller's; the loader's current batch through models and losses, gradients added. */
dd_status ddi_trainer_attach(dd_trainer *trainer);
dd_status ddi_trainer_pass(dd_trainer *trainer, double *total);
dd_status ddi_batch_pixels(const ddi_batch *batch, dd_tensor *pixels, dd_tensor *sizes);

/* step.c */
/* The student is the trainer's for a while. Errors: ARGUMENT (it was freed), STATE. */
dd_status ddi_trainer_hold(dd_trainer *trainer);
dd_status ddi_trainer_release(dd_trainer *trainer, dd_status status);
dd_status ddi_trainer_step(dd_trainer *trainer);
bool ddi_trainer_at_end(const dd_trainer *trainer);
double ddi_trainer_rate(const dd_trainer *trainer);

/* evaluate.c. *stopped: a stop was asked for meanwhile, and the numbers are not there. */
dd_status ddi_trainer_evaluate(dd_trainer *trainer, double metric[DDI_METRICS], bool *stopped);

/* state.c */
dd_status ddi_state_save(dd_trainer *trainer);
/* The newest whole checkpoint of a folder. Errors: NOT_FOUND, FORMAT (all are damaged), IO, NOMEM. */
dd_status ddi_state_open(dd_tensorfile **file, const char *folder);
/* Puts everything back. Errors: FORMAT, SHAPE. */
dd_status ddi_state_restore(dd_trainer *trainer, const dd_tensorfile *file);
/* A number that changes with any bit of a model's parameters. */
uint64_t ddi_model_hash(const dd_model *model);

/* report.c */
/* Logs go on behind step `last_step` (-1: anew); config.json is written. */
dd_status ddi_report_open(dd_trainer *trainer, int64_t last_step);
void ddi_report_close(dd_trainer *trainer);
dd_status ddi_report_step(dd_trainer *trainer);
dd_status ddi_report_evaluation(dd_trainer *trainer);
/* The student, averaged where there are averages, as FOLDER, or FOLDER/name. */
dd_status ddi_report_export(dd_trainer *trainer, const char *folder, const char *name);
/* Tells whoever listens; sets `stop` where that is the answer. */
void ddi_report_progress(dd_trainer *trainer, int32_t event, int64_t images, int64_t images_total);

/* plot.c */
dd_status ddi_run_plot(const char *folder, const char *path);

/* values.c: what dd_trainer_value_* tell. */
enum { DDI_TRAIN_VALUES = 48 };
int32_t ddi_trainer_values(const dd_trainer *trainer, int32_t event, const char *name[DDI_TRAIN_VALUES],
                           double value[DDI_TRAIN_VALUES]);

/* run.c */
typedef struct ddi_trainer_parts {
    dd_model *student, *teacher;
    dd_dataset *train, *validation;
    const char *folder, *options, *distiller;
} ddi_trainer_parts;
dd_status ddi_trainer_create(dd_trainer **trainer, const ddi_trainer_parts *parts);
dd_status ddi_trainer_resume(dd_trainer **trainer, dd_context *context, const char *folder, const char *options);
void ddi_trainer_destroy(dd_trainer *trainer);
dd_status ddi_trainer_run(dd_trainer *trainer, int64_t epoch, int32_t *why);
dd_status ddi_path_of(char path[DDI_TRAIN_PATH], const char *folder, const char *name);

#endif
