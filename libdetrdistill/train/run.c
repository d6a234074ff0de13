/* SPDX-License-Identifier: Apache-2.0
 * A run from its beginning, or from where it was left, to its end. */
#include "base/error.h"
#include "base/handle.h"
#include "train/trainer.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

dd_status ddi_path_of(char path[DDI_TRAIN_PATH], const char *folder, const char *name)
{
    return snprintf(path, DDI_TRAIN_PATH, "%s/%s", folder, name) < DDI_TRAIN_PATH
               ? DD_OK
               : ddi_fail(DD_ERR_LIMIT, NULL, "the path %.80s.. is too long", folder);
}

static double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- Life */

void ddi_trainer_destroy(dd_trainer *t)
{
    dd_context *context = t->context;
    ddi_report_close(t);
    ddi_optimiser_free(&t->optimiser);
    dd_distiller_free(t->distiller);
    dd_loader_free(t->loader);
    if (t->owns) {
        dd_model_free(t->student);
        dd_model_free(t->teacher);
    }
    if (t->train) {
        ddi_dataset_release(t->train);
    }
    if (t->validation) {
        ddi_dataset_release(t->validation);
    }
    ddi_folder_unlock(t->lock);
    ddi_exec_free(&t->exec);
    ddi_free(&context->allocator, t->options);
    ddi_free(&context->allocator, t->words);
    ddi_free(&context->allocator, t);
    ddi_context_release(context);
}

static dd_status check_classes(const dd_trainer *t, const dd_dataset *data, const char *which)
{
    const int64_t classes = t->student->net.config.classes;
    return !data || data->class.count == classes
               ? DD_OK
               : ddi_fail(DD_ERR_SHAPE, which, "the %s set has %lld classes, the student %lld", which,
                          (long long)data->class.count, (long long)classes);
}

static dd_status check_parts(const dd_trainer *t)
{
    if (t->student == t->teacher) {
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_trainer_create: student and teacher are the same model");
    }
    if (t->teacher && t->teacher->context != t->context) {
        return ddi_fail(DD_ERR_STATE, NULL, "dd_trainer_create: student and teacher have different contexts");
    }
    if (!ddi_on_host(&t->exec)) {
        return ddi_fail(DD_ERR_UNSUPPORTED, NULL, "dd_trainer_create: models train on the CPU so far");
    }
    if (!t->student->settings.gradients) {
        return ddi_fail(DD_ERR_STATE, NULL, "dd_trainer_create: the student was loaded with gradients=0");
    }
    if (t->settings.bf16 && t->student->dtype != DD_F32) {
        return ddi_fail(DD_ERR_OPTION, "compute", "trainer option compute=bf16 is for students of dtype f32");
    }
    DDI_TRY(check_classes(t, t->train, "training"));
    return check_classes(t, t->validation, "validation");
}

static dd_status make_loader(dd_trainer *t)
{
    ddi_text words = {.data = NULL};
    ddi_trainer_loader_words(&t->settings, false, t->counts.seed, &words);
    dd_status status = ddi_text_status(&words);
    if (status == DD_OK) {
        status = ddi_loader_create(&t->loader, t->train, words.data);
    }
    if (status == DD_OK) {
        status = ddi_handle_add(t->loader, DDI_LOADER);
        if (status != DD_OK) {
            ddi_loader_destroy(t->loader);
            t->loader = NULL;
        }
    }
    ddi_text_free(&words);
    return status;
}

static dd_status make_optimiser(dd_trainer *t)
{
    const ddi_trainer_settings *s = &t->settings;
    const ddi_optimiser_settings settings = {
        .decay = s->decay,
        .beta1 = s->beta1,
        .beta2 = s->beta2,
        .eps = s->eps,
        .clip = s->clip,
        .average = s->average,
        .rate_of_group = {[DDI_GROUP_MAIN] = 1, [DDI_GROUP_BACKBONE] = s->lr_backbone, [DDI_GROUP_SAMPLING] = s->lr_sampling},
        .small_decay = s->small_decay != 0};
    DDI_TRY(ddi_optimiser_init(&t->optimiser, &t->exec, &t->student->params, &settings));
    return ddi_optimiser_join(&t->optimiser, t->distiller);
}

/* What needs the student for itself. */
static dd_status make_own_parts(dd_trainer *t)
{
    t->parameters = ddi_params_trained_count(&t->student->params);
    t->student_hash = t->folder[0] ? ddi_model_hash(t->student) : 0;
    t->teacher_hash = t->folder[0] && t->teacher ? ddi_model_hash(t->teacher) : 0;
    t->student->tape.compute = t->settings.bf16 ? DD_COMPUTE_BF16 : DD_COMPUTE_FULL;
    if (t->teacher && t->teacher->dtype == DD_F32) {
        t->teacher->tape.compute = t->student->tape.compute;
    }
    return make_optimiser(t);
}

/* The loader draws by the run's seed, whatever the context's is. */
static dd_status take_up(dd_trainer *t, const dd_tensorfile *file)
{
    DDI_TRY(ddi_state_restore(t, file));
    if (t->loader->settings.seed != t->counts.seed) {
        dd_loader_free(t->loader);
        t->loader = NULL;
        DDI_TRY(make_loader(t));
    }
    DDI_TRY(ddi_loader_seek(t->loader, t->counts.epoch, t->counts.epoch_batch));
    return ddi_report_open(t, t->counts.step);
}

static dd_status begin_folder(dd_trainer *t)
{
    char path[DDI_TRAIN_PATH];
    dd_tensorfile *file = NULL;
    static const char *const within[] = {"", "student", "best"};
    DDI_TRY(ddi_folder_make(t->folder));
    DDI_TRY(ddi_folder_lock(t->folder, &t->lock));
    for (size_t i = 0; i < sizeof within / sizeof *within; i++) {
        DDI_TRY(ddi_path_of(path, t->folder, within[i]));
        if (ddi_file_exists(path)) {
            DDI_TRY(ddi_folder_sweep(path));
        }
    }
    dd_status status = ddi_state_open(&file, t->folder);
    if (status == DD_OK && !t->settings.resume) {
        status = ddi_fail(DD_ERR_STATE, NULL, "%.150s holds a run already; take it up with resume=1, or choose another folder",
                          t->folder);
    } else if (status == DD_OK) {
        status = take_up(t, file);
    } else if (status == DD_ERR_NOT_FOUND) {
        ddi_error_clear();
        status = ddi_report_export(t, t->folder, "student");
        status = status == DD_OK ? ddi_state_save(t) : status;
        status = status == DD_OK ? ddi_report_open(t, -1) : status;
    }
    dd_tensorfile_free(file);
    return status;
}

static dd_status fill(dd_trainer *t, const ddi_trainer_parts *p)
{
    ddi_text words = {.data = NULL};
    ddi_allocator *a = &t->context->allocator;
    t->options = ddi_strdup(a, p->options ? p->options : "");
    t->words = ddi_strdup(a, p->distiller ? p->distiller : "");
    if (!t->options || !t->words) {
        return ddi_fail_nomem(strlen(p->options ? p->options : ""), "options");
    }
    if (p->folder && snprintf(t->folder, sizeof t->folder, "%s", p->folder) >= (int)sizeof t->folder) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "the path %.80s.. is too long", p->folder);
    }
    DDI_TRY(ddi_trainer_parse(&t->settings, p->options));
    DDI_TRY(ddi_schedule_drops(&t->schedule, t->settings.drop, t->settings.epochs));
    t->schedule.warmup = t->settings.warmup;
    t->schedule.warmup_from = t->settings.warmup_from;
    t->schedule.drop_factor = t->settings.drop_factor;
    t->counts = (ddi_trainer_counts){.evaluated_step = -1, .best_epoch = -1};
    t->counts.seed = t->settings.seed >= 0 ? t->settings.seed : t->context->settings.seed;
    t->reals.best_ap = -1;
    DDI_TRY(check_parts(t));
    DDI_TRY(make_loader(t));
    ddi_text_free(&words);
    DDI_TRY(ddi_distiller_make(&t->distiller, t->context, t->words));
    DDI_TRY(ddi_trainer_attach(t));
    DDI_TRY(ddi_trainer_hold(t));
    dd_status status = make_own_parts(t);
    if (status == DD_OK && t->folder[0]) {
        ddi_crc_make(&t->crc, DDI_CRC_CASTAGNOLI);
        status = begin_folder(t);
    }
    return ddi_trainer_release(t, status);
}

dd_status ddi_trainer_create(dd_trainer **trainer, const ddi_trainer_parts *p)
{
    dd_context *context = p->student->context;
    dd_trainer *t = ddi_alloc_zero(&context->allocator, 1, sizeof *t);
    if (!t) {
        return ddi_fail_nomem(sizeof *t, "a trainer");
    }
    t->lock = -1;
    t->context = ddi_context_reference(context);
    ddi_exec_init(&t->exec, context);
    t->student = p->student;
    t->teacher = p->teacher;
    t->train = p->train;
    t->validation = p->validation;
    ddi_dataset_retain(p->train);
    if (p->validation) {
        ddi_dataset_retain(p->validation);
    }
    const dd_status status = fill(t, p);
    if (status != DD_OK) {
        ddi_trainer_destroy(t);
        return status;
    }
    *trainer = t;
    return DD_OK;
}

/* ---- Running */

static void note_time(dd_trainer *t)
{
    const double now = monotonic(), taken = now - t->mark;
    if (t->mark > 0) {
        t->step_seconds = t->step_seconds > 0 ? 0.9 * t->step_seconds + 0.1 * taken : taken;
        t->per_second = t->step_seconds > 0 ? (double)t->images / t->step_seconds : 0;
    }
    t->mark = now;
}

static dd_status evaluate(dd_trainer *t)
{
    bool stopped = false;
    double metric[DDI_METRICS];
    const double begin = monotonic();
    DDI_TRY(ddi_trainer_evaluate(t, metric, &stopped));
    t->mark = 0;
    if (stopped) {
        return DD_OK;
    }
    t->evaluation = monotonic() - begin;
    memcpy(t->reals.metric, metric, sizeof metric);
    t->counts.evaluated_step = t->counts.step;
    t->counts.without_gain++;
    if (metric[0] > t->reals.best_ap) {
        t->reals.best_ap = metric[0];
        t->counts.best_epoch = t->loader->epoch;
        t->counts.without_gain = 0;
        if (t->folder[0]) {
            DDI_TRY(ddi_report_export(t, t->folder, "best"));
        }
    }
    DDI_TRY(ddi_report_evaluation(t));
    if (t->folder[0]) {
        DDI_TRY(ddi_run_plot(t->folder, NULL));
    }
    ddi_report_progress(t, DD_TRAIN_EVALUATED, 0, 0);
    return DD_OK;
}

static dd_status save(dd_trainer *t)
{
    if (!t->folder[0] || t->saved_step == t->counts.step) {
        return DD_OK;
    }
    DDI_TRY(ddi_state_save(t));
    ddi_report_progress(t, DD_TRAIN_SAVED, 0, 0);
    return DD_OK;
}

/* What is due after the step: evaluation and checkpoint where an epoch, or the run, is over. */
static dd_status close_epoch(dd_trainer *t)
{
    const int64_t every = t->settings.eval_every;
    const bool over = ddi_trainer_at_end(t), epoch_over = t->loader->epoch > t->counts.closed;
    const bool due = over || (epoch_over && every > 0 && t->loader->epoch % every == 0);
    if (!over && !epoch_over) {
        return t->settings.save_every > 0 && t->counts.step % t->settings.save_every == 0 ? save(t) : DD_OK;
    }
    if (due && every > 0 && t->validation && t->counts.evaluated_step != t->counts.step) {
        DDI_TRY(evaluate(t));
        if (t->counts.evaluated_step != t->counts.step) {
            return DD_OK; /* a stop: it is made again when the run goes on */
        }
    }
    t->counts.closed = t->loader->epoch;
    t->saved_step = -1; /* also where a checkpoint of this step is there, of before the evaluation */
    return save(t);
}

static bool has_stopped(const dd_trainer *t)
{
    return __atomic_load_n(&t->stop, __ATOMIC_SEQ_CST) != 0;
}

static bool has_no_gain(const dd_trainer *t)
{
    return t->settings.patience > 0 && t->counts.without_gain >= t->settings.patience;
}

static dd_status one_step(dd_trainer *t)
{
    DDI_TRY(ddi_trainer_step(t));
    note_time(t);
    DDI_TRY(ddi_report_step(t));
    ddi_report_progress(t, DD_TRAIN_STEP, 0, 0);
    return DD_OK;
}

/* With the student held. */
static dd_status closing(dd_trainer *t)
{
    DDI_TRY(ddi_trainer_hold(t));
    return ddi_trainer_release(t, close_epoch(t));
}

static dd_status end_run(dd_trainer *t)
{
    if (!t->folder[0]) {
        return DD_OK;
    }
    DDI_TRY(ddi_trainer_hold(t));
    dd_status status = save(t);
    if (status == DD_OK) {
        status = ddi_report_export(t, t->folder, "student");
    }
    if (status == DD_OK) {
        status = ddi_run_plot(t->folder, NULL);
    }
    return ddi_trainer_release(t, status);
}

dd_status ddi_trainer_run(dd_trainer *t, int64_t epoch, int32_t *why)
{
    t->mark = monotonic();
    /* Left where an epoch was over but not evaluated yet. */
    if (t->loader->epoch > t->counts.closed || (ddi_trainer_at_end(t) && t->counts.evaluated_step != t->counts.step)) {
        DDI_TRY(closing(t));
    }
    for (;;) {
        const bool pending = t->loader->epoch > t->counts.closed;
        *why = has_stopped(t)                           ? DD_TRAIN_STOPPED
               : pending                                ? -1
               : ddi_trainer_at_end(t)                  ? DD_TRAIN_FINISHED
               : has_no_gain(t)                         ? DD_TRAIN_NO_GAIN
               : epoch > 0 && t->counts.closed >= epoch ? DD_TRAIN_REACHED
                                                        : -1;
        if (*why >= 0) {
            break;
        }
        DDI_TRY(one_step(t));
        DDI_TRY(closing(t));
    }
    __atomic_store_n(&t->stop, 0, __ATOMIC_SEQ_CST);
    return end_run(t);
}
