/* SPDX-License-Identifier: Apache-2.0
 * dd_eval for average precision, dd_matcher for the query of each object. */
#include "judge.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BEST = 100 }; /* entries of a picture, as COCO counts them */

typedef struct entry {
    float logit;
    int32_t query, label;
} entry;

static int best_first(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->query != y->query ? x->query - y->query : x->label - y->label;
}

/* (cx,cy,w,h) in 0..1 to (x,y,w,h) in pixels of a square picture; the IoU does not depend on its size. */
static void pixel_box(const float *box, double *out)
{
    out[0] = (double)(box[0] - box[2] / 2) * PICTURE_SIDE;
    out[1] = (double)(box[1] - box[3] / 2) * PICTURE_SIDE;
    out[2] = (double)box[2] * PICTURE_SIDE;
    out[3] = (double)box[3] * PICTURE_SIDE;
}

static dd_status add_objects(dd_eval *eval, const distil_case *c, int64_t picture)
{
    dd_status status = dd_eval_add_objects(eval, picture, 0, NULL, NULL, NULL, NULL); /* it counts, with or without objects */
    for (int32_t g = c->gt_offsets[picture]; g < c->gt_offsets[picture + 1] && !status; g++) {
        double box[4];
        int64_t label = c->gt_labels[g];
        pixel_box(c->gt_boxes + 4 * g, box);
        status = dd_eval_add_objects(eval, picture, 1, box, &label, NULL, NULL);
    }
    return status;
}

static dd_status add_detections(dd_eval *eval, const distil_case *c, const detections *d, int64_t picture, entry *entries)
{
    int64_t count = d->queries * c->classes, labels[BEST];
    double boxes[BEST][4], scores[BEST];
    for (int64_t i = 0; i < count; i++)
        entries[i] = (entry){d->logits[picture * count + i], (int32_t)(i / c->classes), (int32_t)(i % c->classes)};
    qsort(entries, (size_t)count, sizeof *entries, best_first);
    int64_t best = count < BEST ? count : BEST;
    for (int64_t i = 0; i < best; i++) {
        pixel_box(d->boxes + 4 * (picture * d->queries + entries[i].query), boxes[i]);
        labels[i] = entries[i].label;
        scores[i] = 1 / (1 + exp(-(double)entries[i].logit));
    }
    return dd_eval_add_detections(eval, picture, best, boxes[0], labels, scores);
}

static dd_status average_precision(const distil_case *c, const detections *d, verdict *v)
{
    double numbers[12];
    dd_eval *eval = NULL;
    entry *entries = malloc((size_t)(d->queries * c->classes) * sizeof *entries);
    dd_status status = entries ? dd_eval_create(&eval) : DD_ERR_NOMEM;
    for (int64_t b = 0; b < c->pictures && !status; b++) {
        status = add_objects(eval, c, b);
        if (!status)
            status = add_detections(eval, c, d, b, entries);
    }
    if (!status)
        status = dd_eval_finish(eval, numbers);
    if (!status) {
        v->ap = numbers[0];
        v->ap50 = numbers[1];
        v->ap75 = numbers[2];
    }
    dd_eval_free(eval);
    free(entries);
    return status;
}

static dd_status bind(dd_matcher *matcher, const char *name, void *data, int32_t dtype, int32_t ndim, const int64_t *shape)
{
    dd_tensor view;
    dd_status status = dd_tensor_init(&view, data, dtype, ndim, shape, NULL, DD_DEVICE_CPU, 0, 0);
    return status ? status : dd_matcher_bind(matcher, name, &view);
}

static dd_status bind_all(dd_matcher *matcher, const distil_case *c, const detections *d)
{
    dd_status status = bind(matcher, "student.logits", d->logits, DD_F32, 3, (int64_t[]){c->pictures, d->queries, c->classes});
    if (!status)
        status = bind(matcher, "student.boxes", d->boxes, DD_F32, 3, (int64_t[]){c->pictures, d->queries, 4});
    if (!status)
        status = bind(matcher, "gt.boxes", c->gt_boxes, DD_F32, 2, (int64_t[]){c->objects, 4});
    if (!status)
        status = bind(matcher, "gt.labels", c->gt_labels, DD_I32, 1, (int64_t[]){c->objects});
    if (!status)
        status = bind(matcher, "gt.offsets", c->gt_offsets, DD_I32, 1, (int64_t[]){c->pictures + 1});
    if (!status)
        status = bind(matcher, "image.sizes", c->sizes, DD_F32, 2, (int64_t[]){c->pictures, 2});
    return status;
}

static double iou(const float *a, const float *b)
{
    double p[4], q[4];
    pixel_box(a, p);
    pixel_box(b, q);
    double w = fmin(p[0] + p[2], q[0] + q[2]) - fmax(p[0], q[0]), h = fmin(p[1] + p[3], q[1] + q[3]) - fmax(p[1], q[1]);
    return w <= 0 || h <= 0 ? 0 : w * h / (p[2] * p[3] + q[2] * q[3] - w * h);
}

static int64_t top_class(const float *logits, int64_t classes)
{
    int64_t best = 0;
    for (int64_t k = 1; k < classes; k++)
        best = logits[k] > logits[best] ? k : best;
    return best;
}

static dd_status count_found(dd_matcher *matcher, const distil_case *c, const detections *d, int64_t *found)
{
    *found = 0;
    for (int64_t b = 0; b < c->pictures; b++) {
        const int32_t *object;
        int64_t queries;
        dd_status status = dd_matcher_get(matcher, 0, (int32_t)b, &object, &queries, NULL);
        if (status)
            return status;
        for (int64_t q = 0; q < queries; q++) {
            int64_t row = b * queries + q, g = c->gt_offsets[b] + object[q];
            *found += object[q] >= 0 && top_class(d->logits + row * c->classes, c->classes) == c->gt_labels[g] &&
                      iou(d->boxes + 4 * row, c->gt_boxes + 4 * g) >= .5;
        }
    }
    return DD_OK;
}

dd_status judge(const distil_case *c, const detections *d, dd_context *context, verdict *v)
{
    dd_matcher *matcher = NULL;
    int64_t found = 0;
    dd_status status = average_precision(c, d, v);
    if (!status)
        status = dd_matcher_create(&matcher, context, "with=objects family=deformable-detr");
    if (!status)
        status = bind_all(matcher, c, d);
    if (!status)
        status = dd_matcher_run(matcher);
    if (!status)
        status = count_found(matcher, c, d, &found);
    v->found = c->objects ? (double)found / (double)c->objects : 0;
    dd_matcher_free(matcher);
    return status;
}
