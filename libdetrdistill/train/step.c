/* SPDX-License-Identifier: Apache-2.0
 * One step: batches forward and backward, then the update; all of it or nothing. */
#include "base/error.h"
#include "base/handle.h"
#include "train/trainer.h"

#include <math.h>
#include <string.h>

const char *const ddi_train_modules[DDI_TRAIN_MODULES] = {"loss.det",      "loss.denoising", "loss.encoder",    "loss.logits",
                                                          "loss.features", "loss.prior",     "loss.contrastive"};
static const ddi_module module_of[DDI_TRAIN_MODULES] = {DDI_DET,      DDI_DENOISING, DDI_ENCODER,    DDI_LOGITS,
                                                        DDI_FEATURES, DDI_PRIOR,     DDI_CONTRASTIVE};

enum { MOST_ZERO_STEPS = 50 };

bool ddi_trainer_at_end(const dd_trainer *t)
{
    const ddi_trainer_settings *s = &t->settings;
    return t->loader->epoch >= s->epochs || (s->steps > 0 && t->counts.step >= s->steps);
}

double ddi_trainer_rate(const dd_trainer *t)
{
    return t->settings.lr * ddi_schedule_rate(&t->schedule, t->counts.step, t->loader->epoch);
}

dd_status ddi_trainer_hold(dd_trainer *t)
{
    return ddi_handle_enter(t->student, DDI_MODEL, "the trainer's student");
}

dd_status ddi_trainer_release(dd_trainer *t, dd_status status)
{
    if (ddi_handle_leave(t->student)) {
        ddi_model_destroy(t->student);
    }
    return status;
}

/* ---- Gradients */

static void note_terms(dd_trainer *t, double total)
{
    t->report.total += total;
    for (int32_t i = 0; i < DDI_TRAIN_MODULES; i++) {
        t->has_module[i] = t->distiller->active[module_of[i]];
        t->report.module[i] += t->distiller->module_sum[module_of[i]];
    }
}

static dd_status run_batch(dd_trainer *t)
{
    double total = 0;
    DDI_TRY(ddi_trainer_hold(t));
    t->student->seed = (uint64_t)t->counts.seed; /* of its random draws */
    t->student->tape.step = (uint32_t)t->counts.batch++;
    DDI_TRY(ddi_trainer_release(t, DD_OK));
    DDI_TRY(ddi_trainer_pass(t, &total));
    note_terms(t, total);
    return DD_OK;
}

/* *images: 0 at the end of an epoch, but never for the first batch of a step. */
static dd_status next_batch(dd_trainer *t, bool first, int32_t *images)
{
    DDI_TRY(ddi_loader_next(t->loader, images));
    if (*images == 0 && first && t->loader->epoch < t->settings.epochs) {
        DDI_TRY(ddi_loader_next(t->loader, images));
    }
    return *images == 0 && first ? ddi_fail(DD_ERR_FORMAT, NULL, "an epoch without a usable picture") : DD_OK;
}

static dd_status get_ready(dd_trainer *t)
{
    DDI_TRY(ddi_model_set_mode(t->student, true, true));
    DDI_TRY(dd_distiller_zero_gradients(t->distiller));
    return ddi_params_zero_grad(&t->student->params, &t->exec);
}

static dd_status add_gradients(dd_trainer *t, int32_t *batches)
{
    t->report = (ddi_step_report){.rate = ddi_trainer_rate(t)};
    *batches = 0;
    DDI_TRY(ddi_trainer_hold(t));
    DDI_TRY(ddi_trainer_release(t, get_ready(t)));
    while (*batches < t->settings.accumulate) {
        int32_t images;
        DDI_TRY(next_batch(t, *batches == 0, &images));
        if (images == 0) {
            break;
        }
        DDI_TRY(run_batch(t));
        t->images += images;
        ++*batches;
    }
    t->report.total /= *batches;
    for (int32_t i = 0; i < DDI_TRAIN_MODULES; i++) {
        t->report.module[i] /= *batches;
    }
    return DD_OK;
}

/* ---- Judging them */

static bool is_finite_tensor(const char *data, int64_t count, int32_t dtype)
{
    for (int64_t i = 0; i < count; i++) {
        const double x =
            dtype == DD_F64 ? ((const double *)(const void *)data)[i] : (double)((const float *)(const void *)data)[i];
        if (!isfinite(x)) {
            return false;
        }
    }
    return true;
}

static dd_status refuse_gradients(const dd_trainer *t)
{
    const char *name = "";
    for (int32_t i = 0; i < t->student->params.count && !*name; i++) {
        const ddi_param *p = t->student->params.all[i];
        name = p->trained && !is_finite_tensor(p->grad, p->count, t->student->dtype) ? p->name : name;
    }
    for (int32_t i = 1; i < t->optimiser.blocks && !*name; i++) {
        const ddi_weights *b = &t->optimiser.block[i];
        name = is_finite_tensor(b->g, b->count, b->dtype) ? name : b->name;
    }
    dd_status status = ddi_fail(DD_ERR_NONFINITE, *name ? name : NULL, "step %lld: the gradient of %.100s is NaN or infinite",
                                (long long)t->counts.step, *name ? name : "the loss");
    ddi_error_set_place(DD_PLACE_STEP, t->counts.step);
    return status;
}

/* A term that stays at zero teaches nothing, and nobody would notice. */
static dd_status look_for_zeros(dd_trainer *t)
{
    for (int32_t i = 0; i < DDI_TRAIN_MODULES; i++) {
        const bool zero = t->has_module[i] && t->report.module[i] == 0 && t->distiller->settings.weight[module_of[i]] > 0;
        t->zero_steps[i] = zero ? t->zero_steps[i] + 1 : 0;
        if (t->zero_steps[i] >= MOST_ZERO_STEPS) {
            return ddi_fail(DD_ERR_STATE, ddi_train_modules[i],
                            "%s was exactly 0 for %d steps: it teaches nothing; turn it off", ddi_train_modules[i],
                            MOST_ZERO_STEPS);
        }
    }
    return DD_OK;
}

static dd_status update(dd_trainer *t, int32_t batches)
{
    DDI_TRY(ddi_optimiser_norm(&t->optimiser, batches, &t->report.norm));
    if (!isfinite(t->report.norm) || !isfinite(t->report.total)) {
        return refuse_gradients(t);
    }
    DDI_TRY(look_for_zeros(t));
    t->exec.whole = true;
    const dd_status status =
        ddi_optimiser_update(&t->optimiser, t->counts.step - t->counts.skipped + 1, t->report.rate, batches, t->report.norm);
    t->exec.whole = false;
    return status;
}

/* ---- The step */

static dd_status try_step(dd_trainer *t)
{
    int32_t batches = 0;
    dd_status status = add_gradients(t, &batches);
    if (status == DD_OK) {
        status = ddi_trainer_hold(t);
        status = status == DD_OK ? ddi_trainer_release(t, update(t, batches)) : status;
    }
    if (status == DD_ERR_NONFINITE && t->settings.skip && t->counts.skipped_in_row + 1 < DDI_MOST_SKIPPED) {
        ddi_log_line(t->context, DD_LOG_WARNING, "step refused: %s", dd_error_message());
        ddi_error_clear();
        t->report.total = t->report.norm = NAN;
        t->counts.skipped++;
        t->counts.skipped_in_row++;
    } else {
        DDI_TRY(status);
        t->counts.skipped_in_row = 0;
    }
    t->counts.step++;
    t->report.is_there = true;
    return DD_OK;
}

/* The loader's mark between two epochs, so that its position says which epochs are over. */
static dd_status pass_end_of_epoch(dd_trainer *t)
{
    int32_t images = 0;
    return t->loader->handed_out == t->loader->batches ? ddi_loader_next(t->loader, &images) : DD_OK;
}

dd_status ddi_trainer_step(dd_trainer *t)
{
    if (ddi_trainer_at_end(t)) {
        return ddi_fail(DD_ERR_STATE, NULL, "the run is at its end after %lld steps", (long long)t->counts.step);
    }
    const ddi_trainer_counts before = t->counts;
    const ddi_step_report report = t->report;
    const int64_t epoch = t->loader->epoch, batch = t->loader->handed_out, damaged = t->loader->damaged;
    t->images = 0;
    dd_status status = try_step(t);
    if (status == DD_OK) {
        t->counts.damaged += t->loader->damaged - damaged;
        return pass_end_of_epoch(t);
    }
    t->counts = before;
    t->report = report;
    t->loader->damaged = damaged;
    ddi_loader_seek(t->loader, epoch, batch); /* a position that it has had */
    return status;
}
