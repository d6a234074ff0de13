/* SPDX-License-Identifier: Apache-2.0
 * From matched detections to recall, interpolated precision and the twelve means over classes. */
#include "base/alloc.h"
#include "base/error.h"
#include "eval/coco.h"
#include <float.h>
#include <stdlib.h>

enum { LIMITS = 3 }; /* 1, 10, 100 detections of a class in an image */
static const int32_t rank_limit[LIMITS] = {1, 10, DDI_COCO_DETECTIONS};

/* Sums over classes in which an object counts. */
typedef struct sums {
    double precision[DDI_COCO_AREAS][DDI_COCO_THRESHOLDS]; /* of means over the recall points; up to 100 detections */
    double recall[DDI_COCO_AREAS][LIMITS];                 /* of means over the thresholds */
    int64_t classes[DDI_COCO_AREAS];
} sums;

typedef struct average {
    dd_eval *eval;
    ddi_coco_scratch scratch;
    ddi_coco_scored *scored; /* the detections of one class */
    double *precision, *recall;
    sums sums;
} average;

static int compare_ids(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int by_id(const void *a, const void *b)
{
    return compare_ids(*(const int64_t *)a, *(const int64_t *)b);
}

static int objects_by_group(const void *a, const void *b)
{
    const ddi_coco_object *x = a, *y = b;
    int order = compare_ids(x->label, y->label);
    if (!order)
        order = compare_ids(x->image, y->image);
    return order ? order : compare_ids(x->sequence, y->sequence);
}

static int detections_by_group(const void *a, const void *b)
{
    const ddi_coco_detection *x = a, *y = b;
    int order = compare_ids(x->label, y->label);
    if (!order)
        order = compare_ids(x->image, y->image);
    if (!order)
        order = (x->score < y->score) - (x->score > y->score);
    return order ? order : compare_ids(x->sequence, y->sequence);
}

static int by_score(const void *a, const void *b)
{
    const ddi_coco_scored *x = a, *y = b;
    int order = (x->score < y->score) - (x->score > y->score);
    return order ? order : compare_ids(x->sequence, y->sequence);
}

static bool image_counts(const dd_eval *eval, int64_t id)
{
    return bsearch(&id, eval->image, (size_t)eval->images, sizeof id, by_id) != NULL;
}

/* Ends of the runs of one label, or of one label and image, that start at `from`. */
static int32_t objects_end(const dd_eval *eval, int32_t from, bool one_image)
{
    const ddi_coco_object *o = eval->object;
    int32_t to = from;
    while (to < eval->objects && o[to].label == o[from].label && (!one_image || o[to].image == o[from].image))
        to++;
    return to;
}

static int32_t detections_end(const dd_eval *eval, int32_t from, bool one_image)
{
    const ddi_coco_detection *d = eval->detection;
    int32_t to = from;
    while (to < eval->detections && d[to].label == d[from].label && (!one_image || d[to].image == d[from].image))
        to++;
    return to;
}

/* Matches all images of one class: objects o .. o_end-1 and detections d .. d_end-1, by ascending image. Returns the
 * number of scored detections. */
static int32_t match_class(average *a, int32_t o, int32_t o_end, int32_t d, int32_t d_end, int64_t counted[DDI_COCO_AREAS])
{
    const dd_eval *eval = a->eval;
    int32_t count = 0;
    while (o < o_end || d < d_end) {
        bool object_next = o < o_end && (d == d_end || eval->object[o].image <= eval->detection[d].image);
        int64_t image = object_next ? eval->object[o].image : eval->detection[d].image;
        bool detection_next = d < d_end && eval->detection[d].image == image;
        int32_t o_next = object_next ? objects_end(eval, o, true) : o;
        int32_t d_next = detection_next ? detections_end(eval, d, true) : d;
        if (object_next || image_counts(eval, image)) {
            int32_t best = d_next - d < DDI_COCO_DETECTIONS ? d_next - d : DDI_COCO_DETECTIONS;
            const ddi_coco_detection *detection = best ? eval->detection + d : NULL; /* there may be none at all */
            ddi_coco_match(eval->object + o, o_next - o, detection, best, &a->scratch, a->scored + count, counted);
            for (int32_t i = 0; i < best; i++)
                a->scored[count + i].sequence = count + i;
            count += best;
        }
        o = o_next;
        d = d_next;
    }
    return count;
}

/* Precision and recall after each detection that is not ignored or left out by rank; returns the last recall. */
static double trace(average *a, int32_t count, int area, int threshold, int32_t ranks, int64_t objects, int32_t *points)
{
    double right = 0, wrong = 0;
    *points = 0;
    for (int32_t i = 0; i < count; i++) {
        const ddi_coco_scored *s = &a->scored[i];
        if (s->rank >= ranks || s->ignored[area] >> threshold & 1)
            continue;
        if (s->matched[area] >> threshold & 1)
            right++;
        else
            wrong++;
        a->recall[*points] = right / (double)objects;
        a->precision[*points] = right / (wrong + right + DBL_EPSILON);
        ++*points;
    }
    return right / (double)objects;
}

/* Mean over the recall points of the highest precision at that recall or above. */
static double interpolated_precision(average *a, int32_t points)
{
    for (int32_t i = points - 1; i > 0; i--) {
        if (a->precision[i] > a->precision[i - 1])
            a->precision[i - 1] = a->precision[i];
    }
    double sum = 0;
    for (int32_t r = 0, i = 0; r < DDI_COCO_RECALLS; r++) {
        while (i < points && a->recall[i] < (r == DDI_COCO_RECALLS - 1 ? 1 : r * .01)) /* numpy.linspace(0, 1, 101) */
            i++;
        if (i == points)
            break;
        sum += a->precision[i];
    }
    return sum / DDI_COCO_RECALLS;
}

/* Adds one class to the sums; returns its AP. */
static double add_class(average *a, int32_t count, const int64_t counted[DDI_COCO_AREAS])
{
    double ap = 0;
    int32_t points;
    for (int area = 0; area < DDI_COCO_AREAS; area++) {
        if (!counted[area])
            continue;
        a->sums.classes[area]++;
        for (int t = 0; t < DDI_COCO_THRESHOLDS; t++) {
            for (int limit = area == 0 ? 0 : LIMITS - 1; limit < LIMITS; limit++) /* areas are asked for 100 detections only */
                a->sums.recall[area][limit] +=
                    trace(a, count, area, t, rank_limit[limit], counted[area], &points) / DDI_COCO_THRESHOLDS;
            double precision = interpolated_precision(a, points); /* of the last trace: 100 detections */
            a->sums.precision[area][t] += precision;
            if (area == 0)
                ap += precision / DDI_COCO_THRESHOLDS;
        }
    }
    return counted[0] ? ap : -1;
}

static void add_all_classes(average *a)
{
    dd_eval *eval = a->eval;
    for (int32_t o = 0, d = 0; o < eval->objects;) {
        int64_t label = eval->object[o].label, counted[DDI_COCO_AREAS] = {0};
        int32_t o_end = objects_end(eval, o, false);
        while (d < eval->detections && eval->detection[d].label < label)
            d++;
        int32_t d_end = d < eval->detections && eval->detection[d].label == label ? detections_end(eval, d, false) : d;
        int32_t count = match_class(a, o, o_end, d, d_end, counted);
        qsort(a->scored, (size_t)count, sizeof *a->scored, by_score);
        eval->class[eval->classes++] = (ddi_coco_class){label, add_class(a, count, counted), counted[0], d_end - d};
        o = o_end;
        d = d_end;
    }
}

static void finish_numbers(const sums *s, double numbers[12])
{
    for (int i = 0; i < 12; i++)
        numbers[i] = -1;
    for (int area = 0; area < DDI_COCO_AREAS; area++) {
        double classes = (double)s->classes[area], ap = 0;
        if (s->classes[area] == 0)
            continue;
        for (int t = 0; t < DDI_COCO_THRESHOLDS; t++)
            ap += s->precision[area][t];
        numbers[area ? 2 + area : 0] = ap / DDI_COCO_THRESHOLDS / classes;
        numbers[8 + area] = s->recall[area][LIMITS - 1] / classes;
        if (area == 0) {
            numbers[1] = s->precision[0][0] / classes; /* IoU .5 */
            numbers[2] = s->precision[0][5] / classes; /* IoU .75 */
            numbers[6] = s->recall[0][0] / classes;
            numbers[7] = s->recall[0][1] / classes;
        }
    }
}

void ddi_eval_sort(dd_eval *eval)
{
    if (eval->images)
        qsort(eval->image, (size_t)eval->images, sizeof *eval->image, by_id);
    if (eval->objects)
        qsort(eval->object, (size_t)eval->objects, sizeof *eval->object, objects_by_group);
    if (eval->detections)
        qsort(eval->detection, (size_t)eval->detections, sizeof *eval->detection, detections_by_group);
}

static dd_status allocate(average *a)
{
    dd_eval *eval = a->eval;
    int32_t largest = 0, classes = 0;
    size_t detections = (size_t)eval->detections;
    for (int32_t o = 0, end; o < eval->objects; o = end) {
        end = objects_end(eval, o, true);
        largest = end - o > largest ? end - o : largest;
        classes += o == 0 || eval->object[o].label != eval->object[o - 1].label;
    }
    a->scored = ddi_alloc(NULL, detections * sizeof *a->scored);
    a->precision = ddi_alloc(NULL, detections * sizeof *a->precision);
    a->recall = ddi_alloc(NULL, detections * sizeof *a->recall);
    eval->class = ddi_alloc(NULL, (size_t)classes * sizeof *eval->class);
    if (!a->scored || !a->precision || !a->recall || !eval->class)
        return ddi_fail_nomem(detections * (sizeof *a->scored + 2 * sizeof(double)), "averaging of detections");
    return ddi_coco_scratch_init(&a->scratch, largest);
}

dd_status ddi_coco_average(dd_eval *eval, double numbers[12])
{
    average a = {.eval = eval};
    ddi_eval_sort(eval);
    dd_status status = allocate(&a);
    if (status == DD_OK) {
        add_all_classes(&a);
        finish_numbers(&a.sums, numbers);
    } else {
        ddi_free(NULL, eval->class);
        eval->class = NULL;
    }
    ddi_coco_scratch_free(&a.scratch);
    ddi_free(NULL, a.scored);
    ddi_free(NULL, a.precision);
    ddi_free(NULL, a.recall);
    return status;
}
