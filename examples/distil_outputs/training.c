/* SPDX-License-Identifier: Apache-2.0
 * The step of a host: ask the distiller for losses and gradients, take the gradients through the host's own model (here one
 * sigmoid), update. */
#include "training.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t logit_count(const training *t)
{
    return t->c->pictures * t->c->student.queries * t->c->classes;
}

static int64_t box_count(const training *t)
{
    return t->c->pictures * t->c->student.queries * 4;
}

static void boxes_from_inputs(training *t)
{
    for (int64_t i = 0; i < box_count(t); i++)
        t->c->student.boxes[i] = 1 / (1 + expf(-t->box_inputs[i]));
}

/* u = ln(y / (1-y)), with y kept off the ends where u is infinite */
static void inputs_from_boxes(training *t)
{
    for (int64_t i = 0; i < box_count(t); i++) {
        float y = fminf(fmaxf(t->c->student.boxes[i], 1e-4f), 1 - 1e-4f);
        t->box_inputs[i] = logf(y / (1 - y));
    }
}

/* Shows memory of ours to the distiller under one of its names. */
static dd_status bind(dd_distiller *distiller, const char *name, void *data, int32_t dtype, int32_t ndim, const int64_t *shape)
{
    dd_tensor view;
    dd_status status = dd_tensor_init(&view, data, dtype, ndim, shape, NULL, DD_DEVICE_CPU, 0, 0);
    return status ? status : dd_distiller_bind(distiller, name, &view);
}

/* One stage of predictions: logits [1,B,N,C] and boxes [1,B,N,4]. */
static dd_status bind_detections(training *t, const char *who, const char *suffix, int64_t queries, float *logits, float *boxes)
{
    char name[64];
    snprintf(name, sizeof name, "%s.logits%s", who, suffix);
    dd_status status = bind(t->distiller, name, logits, DD_F32, 4, (int64_t[]){1, t->c->pictures, queries, t->c->classes});
    snprintf(name, sizeof name, "%s.boxes%s", who, suffix);
    return status ? status : bind(t->distiller, name, boxes, DD_F32, 4, (int64_t[]){1, t->c->pictures, queries, 4});
}

static dd_status bind_all(training *t)
{
    distil_case *c = t->c;
    dd_status status = bind_detections(t, "teacher", "", c->teacher.queries, c->teacher.logits, c->teacher.boxes);
    if (!status)
        status = bind_detections(t, "student", "", c->student.queries, c->student.logits, c->student.boxes);
    if (!status)
        status = bind_detections(t, "student", ".grad", c->student.queries, t->logit_gradients, t->box_gradients);
    if (!status)
        status = bind(t->distiller, "gt.boxes", c->gt_boxes, DD_F32, 2, (int64_t[]){c->objects, 4});
    if (!status)
        status = bind(t->distiller, "gt.labels", c->gt_labels, DD_I32, 1, (int64_t[]){c->objects});
    if (!status)
        status = bind(t->distiller, "gt.offsets", c->gt_offsets, DD_I32, 1, (int64_t[]){c->pictures + 1});
    if (!status)
        status = bind(t->distiller, "image.sizes", c->sizes, DD_F32, 2, (int64_t[]){c->pictures, 2});
    return status;
}

dd_status training_init(training *t, distil_case *c, dd_context *context, bool labels, bool joint, double logit_rate,
                        double box_rate)
{
    *t = (training){.c = c};
    t->box_inputs = calloc((size_t)box_count(t), sizeof(float));
    t->logit_gradients = calloc((size_t)logit_count(t), sizeof(float));
    t->box_gradients = calloc((size_t)box_count(t), sizeof(float));
    t->partner = calloc((size_t)(c->pictures * c->student.queries), sizeof(int32_t));
    bool room = adamw_init(&t->logit_optimiser, logit_count(t), logit_rate);
    room = adamw_init(&t->box_optimiser, box_count(t), box_rate) && room;
    if (!room || !t->box_inputs || !t->logit_gradients || !t->box_gradients || !t->partner)
        return DD_ERR_NOMEM;
    inputs_from_boxes(t);
    boxes_from_inputs(t);
    char options[128];
    snprintf(options, sizeof options, "family=deformable-detr feature-mask=none prior=none split=%d det=%d", !joint, labels);
    dd_status status = dd_distiller_create(&t->distiller, context, options);
    return status ? status : bind_all(t);
}

dd_status training_losses(training *t)
{
    dd_tensor match;
    dd_status status = dd_distiller_step(t->distiller, NULL);
    if (!status)
        status = dd_distiller_result(t->distiller, "match.logits", &match); /* [1,B,N] i32 */
    if (status)
        return status;
    const int32_t *now = match.data;
    t->compared = t->partners > 0;
    t->same_partner = t->partners = 0;
    for (int64_t i = 0; i < t->c->pictures * t->c->student.queries; i++) {
        t->partners += now[i] >= 0;
        t->same_partner += now[i] >= 0 && now[i] == t->partner[i];
        t->partner[i] = now[i];
    }
    return DD_OK;
}

void training_update(training *t)
{
    const float *y = t->c->student.boxes;
    for (int64_t i = 0; i < box_count(t); i++)
        t->box_gradients[i] *= y[i] * (1 - y[i]); /* dL/du = dL/dy * dy/du, y = sigmoid(u) */
    adamw_step(&t->logit_optimiser, t->c->student.logits, t->logit_gradients);
    adamw_step(&t->box_optimiser, t->box_inputs, t->box_gradients);
    boxes_from_inputs(t);
}

double training_stability(const training *t)
{
    return t->compared ? (double)t->same_partner / (double)t->partners : -1;
}

void training_free(training *t)
{
    dd_distiller_free(t->distiller);
    free(t->box_inputs);
    free(t->logit_gradients);
    free(t->box_gradients);
    free(t->partner);
    adamw_free(&t->logit_optimiser);
    adamw_free(&t->box_optimiser);
}
