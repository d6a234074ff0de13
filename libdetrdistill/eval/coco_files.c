/* SPDX-License-Identifier: Apache-2.0
 * COCO's files, streamed into an evaluation: annotations and results. */
#include "base/alloc.h"
#include "base/error.h"
#include "base/handle.h"
#include "base/io.h"
#include "eval/files.h"
#include "formats/coco_json.h"

#include <stdlib.h>
#include <string.h>

static dd_status add_image(void *eval, const ddi_coco_image *image)
{
    return ddi_eval_add_objects(eval, image->id, 0, NULL, NULL, NULL, NULL);
}

static dd_status add_annotation(void *eval, const ddi_coco_annotation *a)
{
    const uint8_t crowd = a->crowd;
    return ddi_eval_add_objects(eval, a->image, 1, a->box, &a->category, &crowd, &a->area);
}

dd_status ddi_eval_add_name(dd_eval *eval, int64_t label, const char *name)
{
    DDI_TRY(ddi_eval_grow((void **)&eval->name, eval->names, 1, &eval->name_room, sizeof *eval->name));
    ddi_eval_name *made = &eval->name[eval->names++];
    made->label = label;
    size_t length = strlen(name);
    length = length < sizeof made->name ? length : sizeof made->name - 1;
    memcpy(made->name, name, length);
    made->name[length] = '\0';
    return DD_OK;
}

static dd_status add_category(void *eval, int64_t id, const char *name)
{
    return ddi_eval_add_name(eval, id, name);
}

static dd_status read_annotations(dd_eval *eval, ddi_json_items *j, void *unused)
{
    static const ddi_coco_taker taker = {add_image, add_annotation, add_category, .negative_sides = false};
    return ddi_coco_read(j, &taker, eval);
}

void ddi_eval_undo(dd_eval *eval, const dd_eval *before)
{
    eval->objects = before->objects;
    eval->detections = before->detections;
    eval->images = before->images;
    eval->names = before->names;
}

dd_status ddi_eval_read_file(dd_eval *eval, const char *path, ddi_eval_reader read, void *user)
{
    ddi_file_map map = {0};
    ddi_json_items items;
    const dd_eval before = *eval;
    DDI_TRY(ddi_file_map_open(&map, path));
    dd_status status = ddi_json_items_open(&items, path, map.data, map.size);
    if (status == DD_OK) {
        status = read(eval, &items, user);
        ddi_json_items_close(&items);
    }
    ddi_file_map_close(&map);
    if (status != DD_OK) {
        ddi_eval_undo(eval, &before);
    }
    return status;
}

dd_status ddi_eval_check_path(const void *path, const char *function)
{
    return path ? DD_OK : ddi_fail(DD_ERR_ARGUMENT, NULL, "%s: path is NULL", function);
}

dd_status dd_eval_add_coco_annotations(dd_eval *eval, const char *path)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(eval, DDI_EVAL, "dd_eval_add_coco_annotations"));
    dd_status status = ddi_eval_check_path(path, "dd_eval_add_coco_annotations");
    return ddi_eval_leave(eval, status != DD_OK ? status : ddi_eval_read_file(eval, path, read_annotations, NULL));
}

/* ---- Results */

typedef struct results {
    int64_t *image; /* sorted */
    int32_t images;
    int64_t left_out;
} results;

static int by_id(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

typedef struct addition {
    ddi_eval_adder add;
    void *user;
} addition;

static dd_status read_results(dd_eval *eval, ddi_json_items *j, void *user)
{
    const addition *a = user;
    if (!ddi_json_items_enter(j, '[')) {
        ddi_json_items_problem(j, "results begin with '['");
        return j->status;
    }
    for (bool first = true; ddi_json_items_more(j, &first);) {
        struct json_object *item = ddi_json_items_take(j);
        const dd_status status = item ? a->add(eval, j, item, a->user) : j->status;
        json_object_put(item);
        DDI_TRY(status);
    }
    return ddi_json_items_finish(j);
}

dd_status ddi_eval_read_results(dd_eval *eval, const char *path, ddi_eval_adder add, void *user)
{
    addition a = {add, user};
    return ddi_eval_read_file(eval, path, read_results, &a);
}

dd_status ddi_eval_read_detection(ddi_json_items *j, struct json_object *item, double box[4], double *score)
{
    if (ddi_coco_box(j, item, box) && !ddi_json_number(item, "score", score)) {
        ddi_json_items_problem(j, "a result lacks its 'score'");
    }
    return j->status;
}

static dd_status add_result(dd_eval *eval, ddi_json_items *j, struct json_object *item, void *user)
{
    results *r = user;
    int64_t image, label;
    double box[4], score;
    if (!ddi_json_integer(item, "image_id", &image) || !ddi_json_integer(item, "category_id", &label)) {
        ddi_json_items_problem(j, "a result lacks its integer 'image_id' or 'category_id'");
        return j->status;
    }
    DDI_TRY(ddi_eval_read_detection(j, item, box, &score));
    if (!bsearch(&image, r->image, (size_t)r->images, sizeof image, by_id)) {
        r->left_out++;
        return DD_OK;
    }
    return ddi_eval_add_detections(eval, image, 1, box, &label, &score);
}

static dd_status add_results(dd_eval *eval, const char *path, int64_t *left_out)
{
    results r = {.images = eval->images, .image = ddi_alloc(NULL, (size_t)eval->images * sizeof(int64_t) + 1)};
    if (!r.image) {
        return ddi_fail_nomem((uint64_t)eval->images * sizeof(int64_t), "the list of images");
    }
    if (eval->images > 0) {
        memcpy(r.image, eval->image, (size_t)eval->images * sizeof(int64_t));
        qsort(r.image, (size_t)r.images, sizeof *r.image, by_id);
    }
    const dd_status status = ddi_eval_read_results(eval, path, add_result, &r);
    ddi_free(NULL, r.image);
    if (status == DD_OK && left_out) {
        *left_out = r.left_out;
    }
    return status;
}

dd_status dd_eval_add_coco_results(dd_eval *eval, const char *path, int64_t *left_out)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(eval, DDI_EVAL, "dd_eval_add_coco_results"));
    dd_status status = ddi_eval_check_path(path, "dd_eval_add_coco_results");
    return ddi_eval_leave(eval, status != DD_OK ? status : add_results(eval, path, left_out));
}
