/* SPDX-License-Identifier: Apache-2.0
 * The run folder but for checkpoints: config.json, logs, exported students; and progress calls. */
#include "base/error.h"
#include "train/trainer.h"
#include <detrdistill/version.h>

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Columns of metrics.csv: what a step has, then what an evaluation has. */
enum { STEP_COLUMNS = 4 + DDI_TRAIN_MODULES + 1, COLUMNS = STEP_COLUMNS + DDI_METRICS };

static const char *const column[COLUMNS] = {
    "epoch",        "lr",          "loss.total",    "grad.norm",  "loss.det",         "loss.denoising",
    "loss.encoder", "loss.logits", "loss.features", "loss.prior", "loss.contrastive", "images-per-second",
    "ap",           "ap50",        "ap75",          "ap-small",   "ap-medium",        "ap-large",
    "ar1",          "ar10",        "ar100",         "ar-small",   "ar-medium",        "ar-large"};

static double wall_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- config.json */

static void put_pair(ddi_text *text, const char *key, const char *value)
{
    ddi_text_put(text, ",\n ");
    ddi_text_json(text, key);
    ddi_text_put(text, ":");
    ddi_text_json(text, value);
}

static void put_dataset(ddi_text *text, const char *key, const dd_dataset *data)
{
    ddi_text_put(text, ",\n ");
    ddi_text_json(text, key);
    if (!data) {
        ddi_text_put(text, ":null");
        return;
    }
    ddi_text_put(text, ":{\"path\":");
    ddi_text_json(text, data->given);
    ddi_text_put(text, ",\"images\":");
    ddi_text_integer(text, data->image.count);
    ddi_text_put(text, ",\"classes\":");
    ddi_text_integer(text, data->class.count);
    ddi_text_put(text, ",\"options\":");
    ddi_options_json(&ddi_dataset_options, &data->settings, text);
    ddi_text_put(text, "}");
}

static void put_model(ddi_text *text, const char *key, const dd_model *model, uint64_t hash)
{
    char hex[24];
    ddi_text_put(text, ",\n ");
    ddi_text_json(text, key);
    if (!model) {
        ddi_text_put(text, ":null");
        return;
    }
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)hash);
    ddi_text_put(text, ":{\"folder\":");
    ddi_text_json(text, model->source ? model->source : "");
    ddi_text_put(text, ",\"dtype\":");
    ddi_text_json(text, dd_dtype_name(model->dtype));
    ddi_text_put(text, ",\"trained-parameters\":");
    ddi_text_integer(text, ddi_params_trained_count(&model->params));
    ddi_text_put(text, ",\"hash\":");
    ddi_text_json(text, hex);
    ddi_text_put(text, ",\"config\":");
    ddi_text config = {.data = NULL};
    const dd_status status = ddi_huggingface_write(model, &config);
    ddi_text_bytes(text, config.data, config.size);
    text->failed = text->failed || status != DD_OK;
    ddi_text_free(&config);
    ddi_text_put(text, "}");
}

static dd_status write_config(dd_trainer *t)
{
    char path[DDI_TRAIN_PATH];
    ddi_text text = {.data = NULL};
    DDI_TRY(ddi_path_of(path, t->folder, "config.json"));
    ddi_text_put(&text, "{\"library\":");
    ddi_text_json(&text, dd_version());
    put_pair(&text, "device", t->context->description);
    ddi_text_put(&text, ",\n \"seed\":");
    ddi_text_integer(&text, t->counts.seed);
    put_pair(&text, "options-given", t->options);
    put_pair(&text, "distiller-given", t->words);
    ddi_text_put(&text, ",\n \"options\":");
    ddi_options_json(&ddi_trainer_options, &t->settings, &text);
    ddi_text_put(&text, ",\n \"distiller\":");
    ddi_options_json(&ddi_distiller_options, &t->distiller->settings, &text);
    put_dataset(&text, "train", t->train);
    put_dataset(&text, "validation", t->validation);
    put_model(&text, "student", t->student, t->student_hash);
    put_model(&text, "teacher", t->teacher, t->teacher_hash);
    ddi_text_put(&text, "}\n");
    dd_status status = ddi_text_status(&text);
    if (status == DD_OK) {
        const ddi_file_piece piece = {text.data, text.size};
        status = ddi_file_replace(path, &piece, 1);
    }
    ddi_text_free(&text);
    return status;
}

/* ---- Logs */

static dd_status open_events(dd_trainer *t, int64_t first_step)
{
    char name[80], path[DDI_TRAIN_PATH];
    const double wall = wall_clock();
    for (int32_t i = 0;; i++) {
        snprintf(name, sizeof name, "events.out.tfevents.%lld.detrdistill.%d", (long long)wall, i);
        DDI_TRY(ddi_path_of(path, t->folder, name));
        if (!ddi_file_exists(path) || i == 1000) {
            return ddi_run_events_open(&t->events, path, wall, first_step);
        }
    }
}

dd_status ddi_report_open(dd_trainer *t, int64_t last_step)
{
    char path[DDI_TRAIN_PATH];
    DDI_TRY(write_config(t));
    DDI_TRY(ddi_path_of(path, t->folder, "log.jsonl"));
    DDI_TRY(ddi_run_log_open(&t->log, path, last_step));
    t->log_open = true;
    DDI_TRY(ddi_path_of(path, t->folder, "metrics.csv"));
    DDI_TRY(ddi_run_table_open(&t->table, path, column, COLUMNS, last_step));
    t->table_open = true;
    DDI_TRY(open_events(t, last_step + 1));
    t->events_open = true;
    return DD_OK;
}

void ddi_report_close(dd_trainer *t)
{
    if (t->log_open) {
        ddi_run_log_close(&t->log);
    }
    if (t->table_open) {
        ddi_run_table_close(&t->table);
    }
    if (t->events_open) {
        ddi_run_events_close(&t->events);
    }
    t->log_open = t->table_open = t->events_open = false;
}

/* The values of an event into all three. */
static dd_status write_event(dd_trainer *t, int32_t event)
{
    const char *name[DDI_TRAIN_VALUES];
    double value[DDI_TRAIN_VALUES], row[COLUMNS];
    ddi_run_value line[DDI_TRAIN_VALUES];
    const int32_t count = ddi_trainer_values(t, event, name, value);
    for (int32_t c = 0; c < COLUMNS; c++) {
        row[c] = NAN;
    }
    for (int32_t i = 1; i < count; i++) { /* the step is in front already */
        line[i - 1] = (ddi_run_value){.key = name[i], .kind = DDI_RUN_REAL, .real = value[i]};
        for (int32_t c = 0; c < COLUMNS; c++) {
            row[c] = strcmp(column[c], name[i]) == 0 ? value[i] : row[c];
        }
    }
    DDI_TRY(ddi_run_log_write(&t->log, t->counts.step, line, count - 1));
    DDI_TRY(ddi_run_table_write(&t->table, t->counts.step, row));
    return ddi_run_events_write(&t->events, wall_clock(), t->counts.step, line, count - 1);
}

dd_status ddi_report_step(dd_trainer *t)
{
    return t->log_open && t->counts.step % t->settings.log_every == 0 ? write_event(t, DD_TRAIN_STEP) : DD_OK;
}

dd_status ddi_report_evaluation(dd_trainer *t)
{
    return t->log_open ? write_event(t, DD_TRAIN_EVALUATED) : DD_OK;
}

void ddi_report_progress(dd_trainer *t, int32_t event, int64_t images, int64_t images_total)
{
    const char *name[DDI_TRAIN_VALUES];
    double value[DDI_TRAIN_VALUES];
    if (!t->progress) {
        return;
    }
    int32_t count = ddi_trainer_values(t, event, name, value);
    if (event == DD_TRAIN_EVALUATING) {
        name[count] = "images";
        value[count++] = (double)images;
        name[count] = "images-total";
        value[count++] = (double)images_total;
    }
    if (t->progress(t->user, event, name, value, count)) {
        __atomic_store_n(&t->stop, 1, __ATOMIC_SEQ_CST);
    }
}

/* ---- The student for use */

dd_status ddi_report_export(dd_trainer *t, const char *folder, const char *name)
{
    char path[DDI_TRAIN_PATH];
    if (name) {
        DDI_TRY(ddi_path_of(path, folder, name));
        folder = path;
    }
    DDI_TRY(ddi_folder_make(folder));
    ddi_optimiser_swap_average(&t->optimiser);
    const dd_status status = ddi_model_save(t->student, folder);
    ddi_optimiser_swap_average(&t->optimiser);
    return status;
}
