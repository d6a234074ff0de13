/* SPDX-License-Identifier: Apache-2.0
 * Public functions of the trainer. */
#include "train/trainer.h"
#include "base/error.h"
#include "base/handle.h"

#include <string.h>
#include <unistd.h>

static dd_status leave(const dd_trainer *t, dd_status status)
{
    if (ddi_handle_leave(t)) {
        ddi_trainer_destroy((dd_trainer *)(uintptr_t)t);
    }
    return status;
}

static dd_status enter(const dd_trainer *t, const char *function)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(t, DDI_TRAINER, function));
    if (t->context->process != getpid()) {
        return leave(t, ddi_fail(DD_ERR_FORKED, NULL, "%s: the trainer was made before fork(); make a new context", function));
    }
    return DD_OK;
}

static dd_status no_null(const void *p, const char *function, const char *what)
{
    return p ? DD_OK : ddi_fail(DD_ERR_ARGUMENT, NULL, "%s: %s is NULL", function, what);
}

static dd_status publish(dd_trainer **trainer, dd_trainer *made)
{
    const dd_status status = ddi_handle_add(made, DDI_TRAINER);
    if (status != DD_OK) {
        ddi_trainer_destroy(made);
        return status;
    }
    *trainer = made;
    return DD_OK;
}

/* Whether it is a live handle that nobody uses; it is not kept. */
static dd_status is_live(const void *object, ddi_handle_kind kind)
{
    DDI_TRY(ddi_handle_enter(object, kind, "dd_trainer_create"));
    ddi_handle_leave(object);
    return DD_OK;
}

dd_status dd_trainer_create(dd_trainer **trainer, dd_model *student, dd_model *teacher, dd_dataset *train,
                            dd_dataset *validation, const char *folder, const char *options, const char *distiller)
{
    const ddi_trainer_parts parts = {student, teacher, train, validation, folder, options, distiller};
    dd_trainer *made = NULL;
    ddi_error_clear();
    DDI_TRY(no_null(trainer, "dd_trainer_create", "trainer"));
    DDI_TRY(is_live(student, DDI_MODEL));
    DDI_TRY(is_live(train, DDI_DATASET));
    DDI_TRY(teacher ? is_live(teacher, DDI_MODEL) : DD_OK);
    DDI_TRY(validation ? is_live(validation, DDI_DATASET) : DD_OK);
    DDI_TRY(ddi_trainer_create(&made, &parts));
    return publish(trainer, made);
}

dd_status dd_trainer_resume(dd_trainer **trainer, dd_context *context, const char *folder, const char *options)
{
    dd_trainer *made = NULL;
    ddi_error_clear();
    DDI_TRY(no_null(trainer, "dd_trainer_resume", "trainer"));
    DDI_TRY(no_null(folder, "dd_trainer_resume", "folder"));
    DDI_TRY(ddi_handle_enter(context, DDI_CONTEXT, "dd_trainer_resume"));
    dd_status status = ddi_trainer_resume(&made, context, folder, options);
    if (status == DD_OK) {
        status = publish(trainer, made);
    }
    if (ddi_handle_leave(context)) {
        ddi_context_release(context);
    }
    return status;
}

void dd_trainer_free(dd_trainer *trainer)
{
    if (ddi_handle_remove(trainer, DDI_TRAINER)) {
        ddi_trainer_destroy(trainer);
    }
}

dd_status dd_trainer_set_progress(dd_trainer *trainer, dd_train_fn progress, void *user)
{
    DDI_TRY(enter(trainer, "dd_trainer_set_progress"));
    trainer->progress = progress;
    trainer->user = user;
    return leave(trainer, DD_OK);
}

dd_status dd_trainer_step(dd_trainer *trainer, double *loss)
{
    DDI_TRY(enter(trainer, "dd_trainer_step"));
    const dd_status status = ddi_trainer_step(trainer);
    if (status == DD_OK && loss) {
        *loss = trainer->report.total;
    }
    return leave(trainer, status);
}

dd_status dd_trainer_run(dd_trainer *trainer, int64_t epoch, int32_t *why)
{
    int32_t reason = 0;
    DDI_TRY(enter(trainer, "dd_trainer_run"));
    const dd_status status = epoch < 0 ? ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_trainer_run: an epoch below 0")
                                       : ddi_trainer_run(trainer, epoch, &reason);
    if (status == DD_OK && why) {
        *why = reason;
    }
    return leave(trainer, status);
}

dd_status dd_trainer_stop(dd_trainer *trainer)
{
    /* No look-up: its lock must not be taken in a signal handler. Nor is the error cleared, see dd_context_cancel. */
    if (!trainer) {
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_trainer_stop: trainer is NULL");
    }
    __atomic_store_n(&trainer->stop, 1, __ATOMIC_SEQ_CST);
    return DD_OK;
}

static dd_status evaluate(dd_trainer *t, double numbers[12])
{
    bool stopped = false;
    double metric[DDI_METRICS];
    DDI_TRY(no_null(numbers, "dd_trainer_evaluate", "numbers"));
    DDI_TRY(ddi_trainer_hold(t));
    DDI_TRY(ddi_trainer_release(t, ddi_trainer_evaluate(t, metric, &stopped)));
    if (stopped) {
        __atomic_store_n(&t->stop, 0, __ATOMIC_SEQ_CST);
        return ddi_fail(DD_ERR_CANCELLED, NULL, "dd_trainer_evaluate: dd_trainer_stop was called");
    }
    memcpy(numbers, metric, sizeof metric);
    return DD_OK;
}

dd_status dd_trainer_evaluate(dd_trainer *trainer, double numbers[12])
{
    DDI_TRY(enter(trainer, "dd_trainer_evaluate"));
    return leave(trainer, evaluate(trainer, numbers));
}

static dd_status save(dd_trainer *t)
{
    DDI_TRY(ddi_trainer_hold(t));
    return ddi_trainer_release(t, ddi_state_save(t));
}

dd_status dd_trainer_save(dd_trainer *trainer)
{
    DDI_TRY(enter(trainer, "dd_trainer_save"));
    return leave(trainer, save(trainer));
}

static dd_status export_student(dd_trainer *t, const char *folder)
{
    DDI_TRY(no_null(folder, "dd_trainer_export", "folder"));
    DDI_TRY(ddi_trainer_hold(t));
    return ddi_trainer_release(t, ddi_report_export(t, folder, NULL));
}

dd_status dd_trainer_export(dd_trainer *trainer, const char *folder)
{
    DDI_TRY(enter(trainer, "dd_trainer_export"));
    return leave(trainer, export_student(trainer, folder));
}

/* ---- Values */

dd_status dd_trainer_value_count(const dd_trainer *trainer, int32_t *count)
{
    const char *name[DDI_TRAIN_VALUES];
    double value[DDI_TRAIN_VALUES];
    DDI_TRY(enter(trainer, "dd_trainer_value_count"));
    const dd_status status = no_null(count, "dd_trainer_value_count", "count");
    if (status == DD_OK) {
        *count = ddi_trainer_values(trainer, 0, name, value);
    }
    return leave(trainer, status);
}

dd_status dd_trainer_value_at(const dd_trainer *trainer, int32_t index, const char **name, double *value)
{
    const char *names[DDI_TRAIN_VALUES];
    double values[DDI_TRAIN_VALUES];
    DDI_TRY(enter(trainer, "dd_trainer_value_at"));
    const int32_t count = ddi_trainer_values(trainer, 0, names, values);
    if (index < 0 || index >= count) {
        return leave(trainer,
                     ddi_fail(DD_ERR_NOT_FOUND, NULL, "dd_trainer_value_at: there is no value %d; there are %d", index, count));
    }
    if (name) {
        *name = names[index];
    }
    if (value) {
        *value = values[index];
    }
    return leave(trainer, DD_OK);
}

static dd_status value_get(const dd_trainer *t, const char *name, double *value)
{
    const char *names[DDI_TRAIN_VALUES];
    double values[DDI_TRAIN_VALUES];
    DDI_TRY(no_null(name, "dd_trainer_value_get", "name"));
    DDI_TRY(no_null(value, "dd_trainer_value_get", "value"));
    const int32_t count = ddi_trainer_values(t, 0, names, values);
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            *value = values[i];
            return DD_OK;
        }
    }
    return ddi_fail(DD_ERR_NOT_FOUND, name, "the run has no value '%.60s' (yet)", name);
}

dd_status dd_trainer_value_get(const dd_trainer *trainer, const char *name, double *value)
{
    DDI_TRY(enter(trainer, "dd_trainer_value_get"));
    return leave(trainer, value_get(trainer, name, value));
}

dd_status dd_trainer_student(const dd_trainer *trainer, dd_model **student)
{
    DDI_TRY(enter(trainer, "dd_trainer_student"));
    const dd_status status = no_null(student, "dd_trainer_student", "student");
    if (status == DD_OK) {
        *student = trainer->student;
    }
    return leave(trainer, status);
}

dd_status dd_run_plot(const char *folder, const char *path)
{
    ddi_error_clear();
    DDI_TRY(no_null(folder, "dd_run_plot", "folder"));
    return ddi_run_plot(folder, path);
}
