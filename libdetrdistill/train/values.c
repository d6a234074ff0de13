/* SPDX-License-Identifier: Apache-2.0
 * The numbers of a run by name: for progress calls, logs, and whoever asks. */
#include "train/trainer.h"

typedef struct value_list {
    const char **name;
    double *value;
    int32_t count;
} value_list;

static void put(value_list *list, const char *name, double value)
{
    list->name[list->count] = name;
    list->value[list->count++] = value;
}

static void put_place(value_list *list, const dd_trainer *t)
{
    const int64_t per_epoch = (t->loader->batches + t->settings.accumulate - 1) / t->settings.accumulate;
    int64_t steps = per_epoch * t->settings.epochs;
    steps = t->settings.steps > 0 && t->settings.steps < steps ? t->settings.steps : steps;
    steps = ddi_trainer_at_end(t) || steps < t->counts.step ? t->counts.step : steps;
    put(list, "step", (double)t->counts.step);
    put(list, "steps", (double)steps);
    put(list, "epoch", (double)t->loader->epoch);
    put(list, "epochs", (double)t->settings.epochs);
}

static void put_step(value_list *list, const dd_trainer *t)
{
    const ddi_step_report *r = &t->report;
    put(list, "loss.total", r->total);
    for (int32_t i = 0; i < DDI_TRAIN_MODULES; i++) {
        if (t->has_module[i]) {
            put(list, ddi_train_modules[i], r->module[i]);
        }
    }
    put(list, "lr", r->rate);
    put(list, "grad.norm", r->norm);
    put(list, "skipped", (double)t->counts.skipped);
    put(list, "damaged", (double)t->counts.damaged);
    put(list, "images-per-second", t->per_second);
    put(list, "seconds-left", (list->value[1] - list->value[0]) * t->step_seconds);
}

static void put_evaluation(value_list *list, const dd_trainer *t)
{
    for (int32_t i = 0; i < DDI_METRICS; i++) {
        put(list, ddi_train_metrics[i], t->reals.metric[i]);
    }
    put(list, "best.ap", t->reals.best_ap);
    put(list, "best.epoch", (double)t->counts.best_epoch);
    put(list, "seconds", t->evaluation);
}

int32_t ddi_trainer_values(const dd_trainer *t, int32_t event, const char *name[DDI_TRAIN_VALUES],
                           double value[DDI_TRAIN_VALUES])
{
    value_list list = {name, value, 0};
    put_place(&list, t);
    if ((event == DD_TRAIN_STEP || event == 0) && t->report.is_there) {
        put_step(&list, t);
    }
    if ((event == DD_TRAIN_EVALUATED || event == 0) && t->counts.evaluated_step >= 0) {
        put_evaluation(&list, t);
    }
    if (event == 0) {
        put(&list, "finished", ddi_trainer_at_end(t));
        put(&list, "parameters", (double)t->parameters);
    }
    return list.count;
}
