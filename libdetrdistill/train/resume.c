/* SPDX-License-Identifier: Apache-2.0
 * A run taken up from its folder alone: what it was begun with is opened again. */
#include "base/error.h"
#include "train/trainer.h"

#include <stdio.h>
#include <string.h>

static dd_status not_there(const char *what, const char *path)
{
    char reason[160];
    snprintf(reason, sizeof reason, "%s", dd_error_message());
    return ddi_fail(DD_ERR_NOT_FOUND, what, "the run's %s cannot be opened from '%.60s': %s", what, path, reason);
}

static dd_status open_dataset(dd_dataset **data, const dd_tensorfile *file, const char *key)
{
    char name[64];
    const char *path, *words;
    DDI_TRY(dd_tensorfile_metadata(file, key, &path));
    if (!path[0]) {
        return DD_OK;
    }
    snprintf(name, sizeof name, "%s.options", key);
    DDI_TRY(dd_tensorfile_metadata(file, name, &words));
    const dd_status status = dd_dataset_open(data, path, words);
    return status == DD_OK || status == DD_ERR_NOMEM ? status : not_there(key, path);
}

static dd_status open_teacher(dd_model **teacher, dd_context *context, const dd_tensorfile *file, const char *words)
{
    const char *folder, *hash;
    char found[24];
    DDI_TRY(dd_tensorfile_metadata(file, "teacher", &folder));
    DDI_TRY(dd_tensorfile_metadata(file, "teacher.hash", &hash));
    if (!hash[0]) {
        return DD_OK;
    }
    if (!folder[0]) {
        return ddi_fail(DD_ERR_NOT_FOUND, "teacher",
                        "the run's teacher was not loaded from a folder; take the run up with "
                        "dd_trainer_create and resume=1");
    }
    const dd_status status = dd_model_load(teacher, context, folder, words);
    if (status != DD_OK) {
        return status == DD_ERR_NOMEM ? status : not_there("teacher", folder);
    }
    snprintf(found, sizeof found, "%016llx", (unsigned long long)ddi_model_hash(*teacher));
    return strcmp(found, hash) == 0
               ? DD_OK
               : ddi_fail(DD_ERR_FORMAT, "teacher", "the teacher in %.120s has changed since the run began", folder);
}

static dd_status open_student(dd_model **student, dd_context *context, const dd_tensorfile *file, const char *folder)
{
    char path[DDI_TRAIN_PATH], words[64];
    const char *dtype;
    DDI_TRY(ddi_path_of(path, folder, "student"));
    DDI_TRY(dd_tensorfile_metadata(file, "dtype", &dtype));
    snprintf(words, sizeof words, "dtype=%s", dtype);
    const dd_status status = dd_model_load(student, context, path, words);
    return status == DD_OK || status == DD_ERR_NOMEM ? status : not_there("student", path);
}

/* The run's own words, then those that override them. */
static dd_status join_options(ddi_text *text, const dd_tensorfile *file, const char *options)
{
    const char *words;
    DDI_TRY(dd_tensorfile_metadata(file, "options", &words));
    ddi_text_put(text, words);
    ddi_text_put(text, " resume=1 ");
    ddi_text_put(text, options ? options : "");
    ddi_text_bytes(text, "", 1);
    return ddi_text_status(text);
}

static dd_status open_parts(ddi_trainer_parts *p, ddi_text *words, dd_context *context, const dd_tensorfile *file,
                            const char *options)
{
    DDI_TRY(join_options(words, file, options));
    p->options = words->data;
    DDI_TRY(dd_tensorfile_metadata(file, "distiller", &p->distiller));
    DDI_TRY(open_dataset(&p->train, file, "train"));
    DDI_TRY(open_dataset(&p->validation, file, "validation"));
    DDI_TRY(open_student(&p->student, context, file, p->folder));
    return open_teacher(&p->teacher, context, file, "gradients=0");
}

dd_status ddi_trainer_resume(dd_trainer **trainer, dd_context *context, const char *folder, const char *options)
{
    ddi_trainer_parts parts = {.folder = folder};
    ddi_text words = {.data = NULL};
    dd_tensorfile *file = NULL;
    DDI_TRY(ddi_state_open(&file, folder));
    dd_status status = open_parts(&parts, &words, context, file, options);
    if (status == DD_OK) {
        status = ddi_trainer_create(trainer, &parts);
    }
    /* The trainer keeps a reference of its own on the data sets. */
    dd_dataset_free(parts.train);
    dd_dataset_free(parts.validation);
    if (status == DD_OK) {
        (*trainer)->owns = true;
    } else {
        dd_model_free(parts.student);
        dd_model_free(parts.teacher);
    }
    dd_tensorfile_free(file);
    ddi_text_free(&words);
    return status;
}
