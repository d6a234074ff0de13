/* SPDX-License-Identifier: Apache-2.0
 * Real outputs from a safetensors file, read with the library, and ground truth from JSON:
 *     {"image_order": [42, 73, ..],                                  the pictures, in the order of the tensors' first axis
 *      "results": {"NAME": [{"image_id": 42, "labels": [16], "boxes_cxcywh": [[cx, cy, w, h]]}, ..]}}   of any one NAME */
#include "case.h"
#include <detrdistill/detrdistill.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

static bool fail(char message[CASE_MESSAGE], const char *what, const char *detail)
{
    snprintf(message, CASE_MESSAGE, "%s: %s", what, detail);
    return false;
}

/* PREFIX.pred_logits [B,N,C] or PREFIX.pred_boxes [B,N,4], f32 */
static bool find_output(const dd_tensorfile *file, const char *prefix, const char *kind, dd_tensor *view,
                        char message[CASE_MESSAGE])
{
    char name[256];
    snprintf(name, sizeof name, "%s.pred_%s", prefix, kind);
    if (dd_tensorfile_get(file, name, view))
        return fail(message, name, dd_error_message());
    if (view->dtype != DD_F32 || view->ndim != 3 || view->shape[0] < 1 || view->shape[1] < 1 || view->shape[2] < 1)
        return fail(message, name, "must be f32 with three axes: pictures, queries, and classes or 4");
    return true;
}

static bool same_sizes(const dd_tensor *logits, const dd_tensor *boxes, const char *prefix, char message[CASE_MESSAGE])
{
    if (boxes->shape[2] != 4 || boxes->shape[0] != logits->shape[0] || boxes->shape[1] != logits->shape[1])
        return fail(message, prefix, "pred_boxes must be [pictures, queries, 4] with the sizes of pred_logits");
    return true;
}

/* "results", one list of pictures with their objects */
static json_object *find_truth(json_object *root, json_object **order, char message[CASE_MESSAGE])
{
    json_object *results;
    if (!json_object_object_get_ex(root, "image_order", order) || !json_object_is_type(*order, json_type_array) ||
        !json_object_object_get_ex(root, "results", &results) || !json_object_is_type(results, json_type_object)) {
        fail(message, "ground truth", "needs \"image_order\" (a list) and \"results\" (an object)");
        return NULL;
    }
    struct json_object_iterator it = json_object_iter_begin(results), end = json_object_iter_end(results);
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        json_object *list = json_object_iter_peek_value(&it);
        if (json_object_is_type(list, json_type_array))
            return list;
    }
    fail(message, "ground truth", "\"results\" holds no list");
    return NULL;
}

/* Labels and boxes of one picture; false where the file has none or they do not fit each other. */
static bool find_objects(json_object *truth, int64_t image_id, json_object **labels, json_object **boxes)
{
    for (size_t i = 0; i < json_object_array_length(truth); i++) {
        json_object *picture = json_object_array_get_idx(truth, i), *id;
        if (!json_object_object_get_ex(picture, "image_id", &id) || json_object_get_int64(id) != image_id)
            continue;
        return json_object_object_get_ex(picture, "labels", labels) && json_object_is_type(*labels, json_type_array) &&
               json_object_object_get_ex(picture, "boxes_cxcywh", boxes) && json_object_is_type(*boxes, json_type_array) &&
               json_object_array_length(*labels) == json_object_array_length(*boxes);
    }
    return false;
}

/* Goes through all objects; `c` is NULL in a first pass that only counts and checks them. */
static bool walk_objects(distil_case *c, json_object *order, json_object *truth, int64_t classes, int64_t *count,
                         char message[CASE_MESSAGE])
{
    *count = 0;
    for (size_t b = 0; b < json_object_array_length(order); b++) {
        json_object *labels, *boxes;
        if (!find_objects(truth, json_object_get_int64(json_object_array_get_idx(order, b)), &labels, &boxes))
            return fail(message, "ground truth", "a picture of image_order has no matching labels and boxes_cxcywh");
        for (size_t i = 0; i < json_object_array_length(labels); i++, ++*count) {
            int64_t label = json_object_get_int64(json_object_array_get_idx(labels, i));
            json_object *box = json_object_array_get_idx(boxes, i);
            if (label < 0 || label >= classes || !json_object_is_type(box, json_type_array) ||
                json_object_array_length(box) != 4)
                return fail(message, "ground truth", "a label is outside the classes, or a box has not four numbers");
            if (!c)
                continue;
            c->gt_labels[*count] = (int32_t)label;
            for (size_t k = 0; k < 4; k++)
                c->gt_boxes[4 * *count + (int64_t)k] = (float)json_object_get_double(json_object_array_get_idx(box, k));
        }
        if (c)
            c->gt_offsets[b + 1] = (int32_t)*count;
    }
    return true;
}

static void copy_outputs(const detections *d, const dd_tensor *logits, const dd_tensor *boxes)
{
    memcpy(d->logits, logits->data, (size_t)(logits->shape[0] * logits->shape[1] * logits->shape[2]) * sizeof(float));
    memcpy(d->boxes, boxes->data, (size_t)(boxes->shape[0] * boxes->shape[1] * 4) * sizeof(float));
}

static bool load(distil_case *c, const dd_tensorfile *file, json_object *root, const char *teacher, const char *student,
                 char message[CASE_MESSAGE])
{
    dd_tensor t_logits, t_boxes, s_logits, s_boxes;
    json_object *order, *truth;
    int64_t objects;
    if (!find_output(file, teacher, "logits", &t_logits, message) || !find_output(file, teacher, "boxes", &t_boxes, message) ||
        !find_output(file, student, "logits", &s_logits, message) || !find_output(file, student, "boxes", &s_boxes, message) ||
        !same_sizes(&t_logits, &t_boxes, teacher, message) || !same_sizes(&s_logits, &s_boxes, student, message))
        return false;
    if (t_logits.shape[0] != s_logits.shape[0] || t_logits.shape[2] != s_logits.shape[2])
        return fail(message, student, "teacher and student must have the same pictures and classes");
    if (!(truth = find_truth(root, &order, message)))
        return false;
    if ((int64_t)json_object_array_length(order) != t_logits.shape[0])
        return fail(message, "ground truth", "image_order and the tensors have different numbers of pictures");
    if (!walk_objects(NULL, order, truth, t_logits.shape[2], &objects, message))
        return false;
    if (!case_allocate(c, t_logits.shape[0], t_logits.shape[2], t_logits.shape[1], s_logits.shape[1], objects))
        return fail(message, "case", "out of memory");
    copy_outputs(&c->teacher, &t_logits, &t_boxes);
    copy_outputs(&c->student, &s_logits, &s_boxes);
    return walk_objects(c, order, truth, c->classes, &objects, message);
}

bool case_load(distil_case *c, const char *data, const char *ground_truth, const char *teacher, const char *student,
               char message[CASE_MESSAGE])
{
    dd_tensorfile *file;
    if (dd_tensorfile_open(&file, data))
        return fail(message, "cannot read the outputs", dd_error_message());
    json_object *root = json_object_from_file(ground_truth);
    bool loaded = root ? load(c, file, root, teacher, student, message) : fail(message, ground_truth, "cannot be read as JSON");
    if (loaded)
        c->source = data;
    json_object_put(root);
    dd_tensorfile_free(file); /* the case holds copies */
    return loaded;
}
