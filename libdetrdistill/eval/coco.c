/* SPDX-License-Identifier: Apache-2.0
 * The handle dd_eval: collects objects and detections. */
#include "eval/coco.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/handle.h"
#include "base/limits.h"
#include <math.h>
#include <string.h>

static void destroy(dd_eval *eval)
{
    ddi_free(NULL, eval->object);
    ddi_free(NULL, eval->detection);
    ddi_free(NULL, eval->image);
    ddi_free(NULL, eval->name);
    ddi_free(NULL, eval->picture);
    ddi_free(NULL, eval->class);
    ddi_free(NULL, eval);
}

dd_status ddi_eval_leave(const dd_eval *eval, dd_status status)
{
    if (ddi_handle_leave(eval))
        destroy((dd_eval *)(uintptr_t)eval);
    return status;
}

dd_status dd_eval_create(dd_eval **eval)
{
    ddi_error_clear();
    if (!eval)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_eval_create: eval is NULL; give the address of a pointer");
    dd_eval *made = ddi_alloc_zero(NULL, 1, sizeof *made);
    if (!made)
        return ddi_fail_nomem(sizeof *made, "an evaluation");
    dd_status status = ddi_handle_add(made, DDI_EVAL);
    if (status != DD_OK) {
        destroy(made);
        return status;
    }
    *eval = made;
    return DD_OK;
}

void dd_eval_free(dd_eval *eval)
{
    if (ddi_handle_remove(eval, DDI_EVAL))
        destroy(eval);
}

dd_status ddi_eval_grow(void **array, int32_t count, int64_t more, int32_t *room, size_t element)
{
    int64_t needed = count + more, larger = *room * 2LL > needed ? *room * 2LL : needed;
    if (needed <= *room)
        return DD_OK;
    if (needed > INT32_MAX)
        return ddi_fail(DD_ERR_LIMIT, NULL, "an evaluation holds at most 2^31-1 boxes");
    larger = larger < 64 ? 64 : larger > INT32_MAX ? INT32_MAX : larger;
    void *grown = ddi_realloc(NULL, *array, (size_t)larger * element);
    if (!grown)
        return ddi_fail_nomem((uint64_t)larger * element, "an evaluation's boxes");
    *array = grown;
    *room = (int32_t)larger;
    return DD_OK;
}

static dd_status check_finite(const char *what, const double *values, int64_t count, int64_t width, int64_t image_id)
{
    for (int64_t i = 0; values && i < count * width; i++) {
        if (!isfinite(values[i]))
            return ddi_fail(DD_ERR_NONFINITE, what, "image id %lld: %s %lld is not finite", (long long)image_id, what,
                            (long long)(i / width));
    }
    return DD_OK;
}

static dd_status check_boxes(const char *function, int64_t image_id, int64_t count, int64_t limit, const double *boxes,
                             const int64_t *labels)
{
    if (count < 0)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "%s: count is negative", function);
    if (count && (!boxes || !labels))
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "%s: %s is NULL but count is not 0", function, boxes ? "labels" : "boxes");
    if (count > limit)
        return ddi_fail(DD_ERR_LIMIT, NULL, "%s: image id %lld: %lld boxes; the limit is %lld", function, (long long)image_id,
                        (long long)count, (long long)limit);
    return check_finite("boxes", boxes, count, 4, image_id);
}

void ddi_eval_forget_result(dd_eval *eval)
{
    ddi_free(NULL, eval->class);
    eval->class = NULL;
    eval->classes = 0;
}

static dd_status check_crowd(int64_t image_id, int64_t count, const uint8_t *crowd)
{
    for (int64_t i = 0; crowd && i < count; i++) {
        if (crowd[i] > 1)
            return ddi_fail(DD_ERR_ARGUMENT, "crowd", "image id %lld: crowd %lld is %d; only 0 and 1 have a meaning",
                            (long long)image_id, (long long)i, crowd[i]);
    }
    return DD_OK;
}

dd_status ddi_eval_add_objects(dd_eval *eval, int64_t image_id, int64_t count, const double *boxes, const int64_t *labels,
                               const uint8_t *crowd, const double *area)
{
    DDI_TRY(check_boxes("dd_eval_add_objects", image_id, count, DDI_MAX_BOXES, boxes, labels));
    DDI_TRY(check_finite("area", area, count, 1, image_id));
    DDI_TRY(check_crowd(image_id, count, crowd));
    DDI_TRY(ddi_eval_grow((void **)&eval->image, eval->images, 1, &eval->image_room, sizeof *eval->image));
    DDI_TRY(ddi_eval_grow((void **)&eval->object, eval->objects, count, &eval->object_room, sizeof *eval->object));
    ddi_eval_forget_result(eval);
    eval->image[eval->images++] = image_id;
    for (int64_t i = 0; i < count; i++) {
        const double *box = boxes + 4 * i;
        eval->object[eval->objects] = (ddi_coco_object){.label = labels[i],
                                                        .image = image_id,
                                                        .box = {box[0], box[1], box[2], box[3]},
                                                        .area = area ? area[i] : box[2] * box[3],
                                                        .sequence = eval->objects,
                                                        .crowd = crowd && crowd[i]};
        eval->objects++;
    }
    return DD_OK;
}

dd_status dd_eval_add_objects(dd_eval *eval, int64_t image_id, int64_t count, const double *boxes, const int64_t *labels,
                              const uint8_t *crowd, const double *area)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(eval, DDI_EVAL, "dd_eval_add_objects"));
    return ddi_eval_leave(eval, ddi_eval_add_objects(eval, image_id, count, boxes, labels, crowd, area));
}

dd_status ddi_eval_add_detections(dd_eval *eval, int64_t image_id, int64_t count, const double *boxes, const int64_t *labels,
                                  const double *scores)
{
    DDI_TRY(check_boxes("dd_eval_add_detections", image_id, count, INT32_MAX, boxes, labels));
    if (count && !scores)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_eval_add_detections: scores is NULL but count is not 0");
    DDI_TRY(check_finite("scores", scores, count, 1, image_id));
    DDI_TRY(ddi_eval_grow((void **)&eval->detection, eval->detections, count, &eval->detection_room, sizeof *eval->detection));
    ddi_eval_forget_result(eval);
    for (int64_t i = 0; i < count; i++) {
        const double *box = boxes + 4 * i;
        eval->detection[eval->detections] = (ddi_coco_detection){.label = labels[i],
                                                                 .image = image_id,
                                                                 .box = {box[0], box[1], box[2], box[3]},
                                                                 .score = scores[i],
                                                                 .sequence = eval->detections};
        eval->detections++;
    }
    return DD_OK;
}

dd_status dd_eval_add_detections(dd_eval *eval, int64_t image_id, int64_t count, const double *boxes, const int64_t *labels,
                                 const double *scores)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(eval, DDI_EVAL, "dd_eval_add_detections"));
    return ddi_eval_leave(eval, ddi_eval_add_detections(eval, image_id, count, boxes, labels, scores));
}

dd_status dd_eval_finish(dd_eval *eval, double numbers[12])
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(eval, DDI_EVAL, "dd_eval_finish"));
    if (!numbers)
        return ddi_eval_leave(eval, ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_eval_finish: numbers is NULL; give room for twelve"));
    ddi_eval_forget_result(eval);
    return ddi_eval_leave(eval, ddi_coco_average(eval, numbers));
}

static dd_status class_ap(const dd_eval *eval, int64_t label, double *ap)
{
    if (!ap)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_eval_class: ap is NULL");
    if (!eval->class)
        return ddi_fail(DD_ERR_STATE, NULL, "dd_eval_class: call dd_eval_finish first, also after adding more");
    double found = -1;
    for (int32_t low = 0, high = eval->classes; low < high;) {
        int32_t middle = low + (high - low) / 2;
        if (eval->class[middle].label == label)
            found = eval->class[middle].ap;
        if (eval->class[middle].label < label)
            low = middle + 1;
        else
            high = middle;
    }
    *ap = found;
    return DD_OK;
}

dd_status dd_eval_class(const dd_eval *eval, int64_t label, double *ap)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(eval, DDI_EVAL, "dd_eval_class"));
    return ddi_eval_leave(eval, class_ap(eval, label, ap));
}

static dd_status check_finished(const dd_eval *eval, const char *function)
{
    return eval->class ? DD_OK : ddi_fail(DD_ERR_STATE, NULL, "%s: finish first, also after adding more", function);
}

static dd_status count_classes(const dd_eval *eval, int32_t *count)
{
    if (!count)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_eval_class_count: count is NULL");
    DDI_TRY(check_finished(eval, "dd_eval_class_count"));
    *count = eval->classes;
    return DD_OK;
}

dd_status dd_eval_class_count(const dd_eval *eval, int32_t *count)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(eval, DDI_EVAL, "dd_eval_class_count"));
    return ddi_eval_leave(eval, count_classes(eval, count));
}

static const char *name_of(const dd_eval *eval, int64_t label)
{
    for (int32_t i = 0; i < eval->names; i++) {
        if (eval->name[i].label == label)
            return eval->name[i].name;
    }
    return "";
}

static dd_status class_at(const dd_eval *eval, int32_t index, int64_t *label, const char **name, double *ap, int64_t *objects,
                          int64_t *detections)
{
    DDI_TRY(check_finished(eval, "dd_eval_class_at"));
    if (index < 0 || index >= eval->classes)
        return ddi_fail(DD_ERR_NOT_FOUND, NULL, "dd_eval_class_at: there is no class %d; %d were evaluated", index,
                        eval->classes);
    const ddi_coco_class *class = &eval->class[index];
    if (label)
        *label = class->label;
    if (name)
        *name = name_of(eval, class->label);
    if (ap)
        *ap = class->ap;
    if (objects)
        *objects = class->objects;
    if (detections)
        *detections = class->detections;
    return DD_OK;
}

dd_status dd_eval_class_at(const dd_eval *eval, int32_t index, int64_t *label, const char **name, double *ap, int64_t *objects,
                           int64_t *detections)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(eval, DDI_EVAL, "dd_eval_class_at"));
    return ddi_eval_leave(eval, class_at(eval, index, label, name, ap, objects, detections));
}
