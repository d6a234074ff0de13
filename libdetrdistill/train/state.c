/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints: one safetensors file with all that a run needs to go on. The new one is written whole under a name of its own,
 * then the last one steps back, then the new one takes its name; resume takes the newest of the three that is whole. */
#include "base/error.h"
#include "train/trainer.h"
#include <detrdistill/version.h>

#include <stdio.h>
#include <string.h>

static const char next_name[] = "state.next.safetensors", last_name[] = "state.safetensors",
                  previous_name[] = "state.previous.safetensors";
static const char format_word[] = "detrdistill-state-1";

enum { NAME_BYTES = 600, COUNTS = sizeof(ddi_trainer_counts) / 8, REALS = sizeof(ddi_trainer_reals) / 8 };

/* ---- Checksums */

typedef struct sum_job {
    const ddi_crc_table *table;
    const ddi_file_tensor *tensor;
    uint32_t *sum;
} sum_job;

static size_t bytes_of(const dd_tensor *view)
{
    size_t bytes = (size_t)dd_dtype_size(view->dtype);
    for (int32_t d = 0; d < view->ndim; d++) {
        bytes *= (size_t)view->shape[d];
    }
    return bytes;
}

static void sum_tensor(void *arg, int64_t i)
{
    const sum_job *job = arg;
    job->sum[i] = ddi_crc(job->table, job->tensor[i].view.data, bytes_of(&job->tensor[i].view));
}

/* Tensors may stand in another order than they were added in: their sums are added up. */
static dd_status sum_tensors(const dd_tensorfile *file, const ddi_crc_table *table, ddi_exec *exec, uint64_t *sum)
{
    const int32_t count = file->tensor_count;
    uint32_t *sums = ddi_alloc(NULL, (size_t)count * sizeof *sums);
    if (!sums) {
        return ddi_fail_nomem((uint64_t)count * sizeof *sums, "the checksums of a checkpoint");
    }
    sum_job job = {table, file->tensor, sums};
    if (exec) {
        ddi_parallel_for(exec, count, sum_tensor, &job);
    } else {
        for (int32_t i = 0; i < count; i++) {
            sum_tensor(&job, i);
        }
    }
    *sum = 0;
    for (int32_t i = 0; i < count; i++) {
        const char *name = file->tensor[i].name;
        const uint64_t of_name = ddi_crc(table, name, strlen(name));
        *sum += (of_name << 32 | sums[i]) * 0x9E3779B97F4A7C15u ^ of_name;
    }
    ddi_free(NULL, sums);
    return DD_OK;
}

static void sum_words(const dd_tensorfile *file, const ddi_crc_table *table, uint64_t *sum)
{
    for (int32_t i = 0; i < file->word_count; i++) {
        const ddi_file_word *w = &file->word[i];
        if (strcmp(w->key, "checksum") != 0) {
            const uint64_t key = ddi_crc(table, w->key, strlen(w->key)), value = ddi_crc(table, w->value, strlen(w->value));
            *sum += (key << 32 | value) * 0xD1B54A32D192ED03u ^ key;
        }
    }
}

/* Over names, bytes and words. exec NULL: on this thread. */
static dd_status checksum(const dd_tensorfile *file, const ddi_crc_table *table, ddi_exec *exec, char text[17])
{
    uint64_t sum = 0;
    DDI_TRY(sum_tensors(file, table, exec, &sum));
    sum_words(file, table, &sum);
    snprintf(text, 17, "%016llx", (unsigned long long)sum);
    return DD_OK;
}

uint64_t ddi_model_hash(const dd_model *model)
{
    ddi_crc_table first, second;
    uint64_t hash = 0;
    ddi_crc_make(&first, DDI_CRC_CASTAGNOLI);
    ddi_crc_make(&second, DDI_CRC_ZIP);
    for (int32_t i = 0; i < model->params.count; i++) {
        const ddi_param *p = model->params.all[i];
        const size_t bytes = (size_t)p->count * (size_t)dd_dtype_size(model->dtype);
        const uint64_t name = ddi_crc(&first, p->name, strlen(p->name));
        hash = (hash ^ name) * 0x9E3779B97F4A7C15u;
        hash =
            (hash ^ ((uint64_t)ddi_crc(&first, p->data, bytes) << 32 | ddi_crc(&second, p->data, bytes))) * 0xD1B54A32D192ED03u;
    }
    return hash;
}

/* ---- Which tensors */

/* Calls `visit` for each tensor of a checkpoint with its place in memory. */
typedef dd_status (*tensor_fn)(void *user, const char *name, const dd_tensor *place);

static dd_status visit_one(tensor_fn visit, void *user, const char *kind, const char *name, void *data, int32_t dtype,
                           int32_t ndim, const int64_t *shape)
{
    char full[NAME_BYTES];
    dd_tensor place;
    if (snprintf(full, sizeof full, "%s.%s", kind, name) >= (int)sizeof full) {
        return ddi_fail(DD_ERR_LIMIT, name, "the tensor name %.80s.. is too long for a checkpoint", name);
    }
    DDI_TRY(dd_tensor_init(&place, data, dtype, ndim, shape, NULL, DD_DEVICE_CPU, 0, 0));
    return visit(user, full, &place);
}

static dd_status visit_student(dd_trainer *t, tensor_fn visit, void *user)
{
    const ddi_weights *b = &t->optimiser.block[0];
    const int32_t dtype = t->student->dtype;
    for (int32_t i = 0; i < t->student->params.count; i++) {
        const ddi_param *p = t->student->params.all[i];
        const size_t at = (size_t)p->place * (size_t)dd_dtype_size(dtype);
        DDI_TRY(visit_one(visit, user, "student", p->name, p->data, dtype, p->ndim, p->shape));
        if (!p->trained) {
            continue;
        }
        DDI_TRY(visit_one(visit, user, "moment1", p->name, (char *)b->m.data + at, dtype, p->ndim, p->shape));
        DDI_TRY(visit_one(visit, user, "moment2", p->name, (char *)b->v.data + at, dtype, p->ndim, p->shape));
        if (b->average.data) {
            DDI_TRY(visit_one(visit, user, "average", p->name, (char *)b->average.data + at, dtype, p->ndim, p->shape));
        }
    }
    return DD_OK;
}

static dd_status visit_distiller(dd_trainer *t, tensor_fn visit, void *user)
{
    for (int32_t i = 1; i < t->optimiser.blocks; i++) {
        const ddi_weights *b = &t->optimiser.block[i];
        const int32_t dtype = b->dtype;
        DDI_TRY(visit_one(visit, user, "distiller", b->name, b->w, dtype, 1, &b->count));
        DDI_TRY(visit_one(visit, user, "moment1.distiller", b->name, b->m.data, dtype, 1, &b->count));
        DDI_TRY(visit_one(visit, user, "moment2.distiller", b->name, b->v.data, dtype, 1, &b->count));
    }
    return DD_OK;
}

static dd_status visit_all(dd_trainer *t, tensor_fn visit, void *user)
{
    DDI_TRY(visit_one(visit, user, "run", "counts", &t->counts, DD_I64, 1, (const int64_t[]){COUNTS}));
    DDI_TRY(visit_one(visit, user, "run", "reals", &t->reals, DD_F64, 1, (const int64_t[]){REALS}));
    DDI_TRY(visit_student(t, visit, user));
    return visit_distiller(t, visit, user);
}

/* ---- Saving */

static dd_status borrow(void *user, const char *name, const dd_tensor *place)
{
    return ddi_tensorfile_borrow(user, name, place);
}

static dd_status set_dataset(dd_tensorfile *file, const char *key, const dd_dataset *data)
{
    char name[64];
    ddi_text words = {.data = NULL};
    if (!data) {
        return dd_tensorfile_set_metadata(file, key, "");
    }
    DDI_TRY(dd_tensorfile_set_metadata(file, key, data->given));
    ddi_dataset_words(data, &words);
    dd_status status = ddi_text_status(&words);
    if (status == DD_OK) {
        snprintf(name, sizeof name, "%s.options", key);
        status = dd_tensorfile_set_metadata(file, name, words.data);
    }
    ddi_text_free(&words);
    return status;
}

static dd_status set_words(dd_trainer *t, dd_tensorfile *file)
{
    char hash[24];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)t->teacher_hash);
    DDI_TRY(dd_tensorfile_set_metadata(file, "format", format_word));
    DDI_TRY(dd_tensorfile_set_metadata(file, "version", dd_version()));
    DDI_TRY(dd_tensorfile_set_metadata(file, "options", t->options));
    DDI_TRY(dd_tensorfile_set_metadata(file, "distiller", t->words));
    DDI_TRY(dd_tensorfile_set_metadata(file, "dtype", dd_dtype_name(t->student->dtype)));
    DDI_TRY(dd_tensorfile_set_metadata(file, "teacher", t->teacher && t->teacher->source ? t->teacher->source : ""));
    DDI_TRY(dd_tensorfile_set_metadata(file, "teacher.hash", t->teacher ? hash : ""));
    DDI_TRY(set_dataset(file, "train", t->train));
    return set_dataset(file, "validation", t->validation);
}

static dd_status fill(dd_trainer *t, dd_tensorfile *file)
{
    char sum[17];
    t->counts.epoch = t->loader->epoch;
    t->counts.epoch_batch = t->loader->handed_out;
    DDI_TRY(visit_all(t, borrow, file));
    DDI_TRY(set_words(t, file));
    DDI_TRY(checksum(file, &t->crc, &t->student->exec, sum));
    return dd_tensorfile_set_metadata(file, "checksum", sum);
}

static dd_status step_back(const char *folder)
{
    char next[DDI_TRAIN_PATH], last[DDI_TRAIN_PATH], previous[DDI_TRAIN_PATH];
    DDI_TRY(ddi_path_of(next, folder, next_name));
    DDI_TRY(ddi_path_of(last, folder, last_name));
    DDI_TRY(ddi_path_of(previous, folder, previous_name));
    if (ddi_file_exists(last)) {
        DDI_TRY(ddi_file_rename(last, previous));
    }
    return ddi_file_rename(next, last);
}

dd_status ddi_state_save(dd_trainer *t)
{
    char path[DDI_TRAIN_PATH];
    dd_tensorfile *file = NULL;
    if (!t->folder[0]) {
        return ddi_fail(DD_ERR_STATE, NULL, "this run has no folder to be saved in");
    }
    DDI_TRY(ddi_path_of(path, t->folder, next_name));
    DDI_TRY(dd_tensorfile_create(&file));
    dd_status status = fill(t, file);
    if (status == DD_OK) {
        status = dd_tensorfile_save(file, path);
    }
    dd_tensorfile_free(file);
    DDI_TRY(status);
    DDI_TRY(step_back(t->folder));
    t->saved_step = t->counts.step;
    return DD_OK;
}

/* ---- Opening */

/* The step of a checkpoint that is whole. Errors: FORMAT, and as dd_tensorfile_open. */
static dd_status check_file(const dd_tensorfile *file, const char *path, const ddi_crc_table *table, int64_t *step)
{
    char sum[17];
    const char *words, *stored;
    dd_tensor counts;
    if (dd_tensorfile_metadata(file, "format", &words) != DD_OK || strcmp(words, format_word) != 0 ||
        dd_tensorfile_metadata(file, "checksum", &stored) != DD_OK || dd_tensorfile_get(file, "run.counts", &counts) != DD_OK ||
        counts.dtype != DD_I64 || counts.ndim != 1 || counts.shape[0] != COUNTS) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%.150s is no checkpoint of this version", path);
    }
    DDI_TRY(checksum(file, table, NULL, sum));
    if (strcmp(sum, stored) != 0) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%.150s is damaged: its checksum differs", path);
    }
    memcpy(step, (const char *)counts.data + offsetof(ddi_trainer_counts, step), sizeof *step);
    return DD_OK;
}

dd_status ddi_state_open(dd_tensorfile **file, const char *folder)
{
    const char *const name[] = {next_name, last_name, previous_name};
    char path[DDI_TRAIN_PATH];
    dd_tensorfile *best = NULL;
    int64_t best_step = -1;
    dd_status worst = DD_OK;
    ddi_crc_table table;
    ddi_crc_make(&table, DDI_CRC_CASTAGNOLI);
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        dd_tensorfile *one = NULL;
        int64_t step = -1;
        DDI_TRY(ddi_path_of(path, folder, name[i]));
        if (!ddi_file_exists(path)) {
            continue;
        }
        dd_status status = dd_tensorfile_open(&one, path);
        if (status == DD_OK) {
            status = check_file(one, path, &table, &step);
        }
        worst = status != DD_OK ? status : worst;
        if (step > best_step) {
            dd_tensorfile_free(best);
            best = one;
            best_step = step;
        } else {
            dd_tensorfile_free(one);
        }
    }
    if (best) {
        ddi_error_clear();
        *file = best;
        return DD_OK;
    }
    return worst != DD_OK ? worst : ddi_fail(DD_ERR_NOT_FOUND, NULL, "%.150s holds no checkpoint", folder);
}

/* ---- Putting back */

/* Everything is looked at before anything is changed. */
typedef struct taking {
    const dd_tensorfile *file;
    bool copies;
} taking;

static dd_status take(void *user, const char *name, const dd_tensor *place)
{
    const taking *from = user;
    dd_tensor stored;
    if (dd_tensorfile_get(from->file, name, &stored) != DD_OK) {
        return ddi_fail(DD_ERR_FORMAT, name, "the checkpoint lacks %.150s: it is of a run with other options", name);
    }
    bool same = stored.dtype == place->dtype && stored.ndim == place->ndim;
    for (int32_t d = 0; same && d < place->ndim; d++) {
        same = stored.shape[d] == place->shape[d];
    }
    if (!same) {
        return ddi_fail(DD_ERR_SHAPE, name, "the checkpoint's %.150s has another shape or type than the run's", name);
    }
    if (from->copies) {
        memcpy(place->data, stored.data, bytes_of(place));
    }
    return DD_OK;
}

dd_status ddi_state_restore(dd_trainer *t, const dd_tensorfile *file)
{
    taking from = {file, false};
    DDI_TRY(visit_all(t, take, &from));
    from.copies = true;
    DDI_TRY(visit_all(t, take, &from));
    DDI_TRY(ddi_resnet_fold(&t->student->net.backbone, &t->student->exec, t->student->dtype)); /* made of frozen norms */
    t->saved_step = t->counts.step;
    return DD_OK;
}
