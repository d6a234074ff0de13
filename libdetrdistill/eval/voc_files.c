/* SPDX-License-Identifier: Apache-2.0
 * A Pascal VOC folder and results on its pictures, for an evaluation. */
#include "base/alloc.h"
#include "base/error.h"
#include "base/handle.h"
#include "base/io.h"
#include "base/limits.h"
#include "eval/files.h"
#include "formats/voc_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, STEM_BYTES = sizeof(((ddi_eval_name *)0)->name) };

/* A class name and its objects so far, before labels can be given. */
typedef struct voc_object {
    ddi_voc_object object;
    int32_t picture;
} voc_object;

typedef struct voc_folder {
    char path[PATH_BYTES]; /* where the XML files lie */
    voc_object *object;
    int32_t objects, room;
} voc_folder;

static dd_status join(char *to, const char *folder, const char *middle, const char *name, const char *ending)
{
    const int length = snprintf(to, PATH_BYTES, "%s/%s%s%s", folder, middle, name, ending);
    return length < PATH_BYTES ? DD_OK : ddi_fail(DD_ERR_LIMIT, NULL, "the path %.80s.. is too long", folder);
}

static dd_status add_picture(dd_eval *eval, const char *stem, size_t length)
{
    if (length == 0 || length >= STEM_BYTES) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "a picture's name has %zu characters; it may have 1 to 127", length);
    }
    DDI_TRY(ddi_eval_grow((void **)&eval->picture, eval->pictures, 1, &eval->picture_room, STEM_BYTES));
    memcpy(eval->picture[eval->pictures], stem, length);
    eval->picture[eval->pictures++][length] = '\0';
    return DD_OK;
}

/* Every NAME.xml. */
static dd_status list_folder(dd_eval *eval, const char *path)
{
    char **names;
    int32_t count;
    DDI_TRY(ddi_folder_list(path, ".xml", &names, &count));
    dd_status status = DD_OK;
    for (int32_t i = 0; i < count && status == DD_OK; i++) {
        status = add_picture(eval, names[i], strlen(names[i]) - 4);
    }
    ddi_free(NULL, names);
    return status;
}

static dd_status add_listed(void *eval, const char *stem, size_t length)
{
    return add_picture(eval, stem, length);
}

static dd_status list_split(dd_eval *eval, const char *folder, const char *split)
{
    char path[PATH_BYTES];
    DDI_TRY(join(path, folder, "ImageSets/Main/", split, ".txt"));
    return ddi_voc_each_name(path, add_listed, eval);
}

static dd_status keep_objects(voc_folder *f, const ddi_voc_annotation *a, int32_t picture)
{
    DDI_TRY(ddi_eval_grow((void **)&f->object, f->objects, a->objects, &f->room, sizeof *f->object));
    for (int32_t i = 0; i < a->objects; i++) {
        f->object[f->objects++] = (voc_object){a->object[i], picture};
    }
    return DD_OK;
}

static dd_status read_picture(dd_eval *eval, voc_folder *f, int32_t picture, bool may_be_missing)
{
    char path[PATH_BYTES];
    ddi_voc_annotation annotation;
    DDI_TRY(join(path, f->path, "", eval->picture[picture], ".xml"));
    if (may_be_missing && !ddi_file_exists(path)) {
        return DD_OK;
    }
    DDI_TRY(ddi_voc_read_file(&annotation, &ddi_default_allocator, path));
    const dd_status status = keep_objects(f, &annotation, picture);
    ddi_voc_free(&annotation);
    return status;
}

static int by_class(const void *a, const void *b)
{
    const voc_object *x = a, *y = b;
    const int order = strcmp(x->object.name, y->object.name);
    return order ? order : (x->picture > y->picture) - (x->picture < y->picture);
}

/* Labels by the alphabet; boxes counted from 0. */
static dd_status label_objects(dd_eval *eval, voc_folder *f)
{
    int64_t label = 0;
    if (f->objects > 0) {
        qsort(f->object, (size_t)f->objects, sizeof *f->object, by_class);
    }
    for (int32_t i = 0; i < f->objects; i++) {
        const ddi_voc_object *o = &f->object[i].object;
        if (i == 0 || strcmp(o->name, f->object[i - 1].object.name) != 0) {
            DDI_TRY(ddi_eval_add_name(eval, ++label, o->name));
        }
        const double *c = o->corner, box[4] = {c[0] - 1, c[1] - 1, c[2] - c[0], c[3] - c[1]};
        const uint8_t difficult = o->difficult;
        DDI_TRY(ddi_eval_add_objects(eval, f->object[i].picture + 1, 1, box, &label, &difficult, NULL));
    }
    return DD_OK;
}

static dd_status read_folder(dd_eval *eval, voc_folder *f, const char *folder, const char *split)
{
    DDI_TRY(join(f->path, folder, "Annotations", "", ""));
    if (!ddi_file_exists(f->path)) {
        DDI_TRY(join(f->path, folder, ".", "", ""));
    }
    DDI_TRY(split ? list_split(eval, folder, split) : list_folder(eval, f->path));
    if (eval->pictures == 0) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%s has no picture: neither Annotations/*.xml nor *.xml", folder);
    }
    for (int32_t i = 0; i < eval->pictures; i++) {
        DDI_TRY(ddi_eval_add_objects(eval, i + 1, 0, NULL, NULL, NULL, NULL));
        DDI_TRY(read_picture(eval, f, i, split != NULL));
    }
    return label_objects(eval, f);
}

static dd_status add_folder(dd_eval *eval, const char *folder, const char *split)
{
    DDI_TRY(ddi_eval_check_path(folder, "dd_eval_add_voc_annotations"));
    if (eval->images > 0) {
        return ddi_fail(DD_ERR_STATE, NULL, "a VOC folder must be the first that is added: its pictures are numbered from 1");
    }
    voc_folder f = {.objects = 0};
    const dd_eval before = *eval;
    const dd_status status = read_folder(eval, &f, folder, split);
    ddi_free(NULL, f.object);
    if (status != DD_OK) {
        ddi_eval_undo(eval, &before);
        eval->pictures = 0;
    }
    return status;
}

dd_status dd_eval_add_voc_annotations(dd_eval *eval, const char *folder, const char *split)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(eval, DDI_EVAL, "dd_eval_add_voc_annotations"));
    return ddi_eval_leave(eval, add_folder(eval, folder, split));
}

/* ---- Results */

typedef struct voc_results {
    int64_t left_out;
    int32_t last; /* picture of the result before: most files go picture by picture */
} voc_results;

/* Whether picture i is called `text`, or by the number where text is NULL. */
static bool is_picture(const dd_eval *eval, int32_t i, const char *text, int64_t number)
{
    const char *digit = eval->picture[i];
    int64_t value = 0;
    if (text) {
        return strcmp(digit, text) == 0;
    }
    for (; *digit >= '0' && *digit <= '9' && value < INT64_MAX / 20; digit++) {
        value = 10 * value + (*digit - '0');
    }
    return *digit == '\0' && value == number;
}

/* -1: neither a name nor a number; 0: unknown. */
static int64_t find_picture(const dd_eval *eval, struct json_object *item, voc_results *r)
{
    const char *text = NULL;
    int64_t number = 0;
    if (!ddi_json_text(item, "image_id", &text) && !ddi_json_integer(item, "image_id", &number)) {
        return -1;
    }
    if (is_picture(eval, r->last, text, number)) {
        return r->last + 1;
    }
    for (int32_t i = 0; i < eval->pictures; i++) {
        if (is_picture(eval, i, text, number)) {
            r->last = i;
            return i + 1;
        }
    }
    return 0;
}

/* -1: neither a name nor a number; 0: unknown. */
static int64_t find_class(const dd_eval *eval, struct json_object *item)
{
    const char *text;
    int64_t number;
    if (ddi_json_text(item, "category_id", &text)) {
        for (int32_t i = 0; i < eval->names; i++) {
            if (strcmp(eval->name[i].name, text) == 0) {
                return eval->name[i].label;
            }
        }
        return 0;
    }
    if (!ddi_json_integer(item, "category_id", &number)) {
        return -1;
    }
    return number >= 1 && number <= eval->names ? number : 0;
}

static dd_status add_result(dd_eval *eval, ddi_json_items *j, struct json_object *item, void *user)
{
    voc_results *r = user;
    double box[4], score;
    const int64_t picture = find_picture(eval, item, r), label = find_class(eval, item);
    if (picture < 0 || label < 0) {
        ddi_json_items_problem(j, "a result lacks its 'image_id' or 'category_id' (a name or a number)");
        return j->status;
    }
    DDI_TRY(ddi_eval_read_detection(j, item, box, &score));
    if (picture == 0 || label == 0) {
        r->left_out++;
        return DD_OK;
    }
    return ddi_eval_add_detections(eval, picture, 1, box, &label, &score);
}

static dd_status add_results(dd_eval *eval, const char *path, int64_t *left_out)
{
    voc_results r = {0};
    DDI_TRY(ddi_eval_check_path(path, "dd_eval_add_voc_results"));
    if (eval->pictures == 0) {
        return ddi_fail(DD_ERR_STATE, NULL, "dd_eval_add_voc_results: add a VOC folder first");
    }
    DDI_TRY(ddi_eval_read_results(eval, path, add_result, &r));
    if (left_out) {
        *left_out = r.left_out;
    }
    return DD_OK;
}

dd_status dd_eval_add_voc_results(dd_eval *eval, const char *path, int64_t *left_out)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(eval, DDI_EVAL, "dd_eval_add_voc_results"));
    return ddi_eval_leave(eval, add_results(eval, path, left_out));
}
