/* SPDX-License-Identifier: Apache-2.0
 * AdaMixer of golden/openmmlab: a training step through the distiller, then detections. */
#include "openmmlab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- Backbone, neck and stages */

static void compare_value(replay *r, const char *name, const ddi_value *v, int64_t first, int64_t count)
{
    if (!has(r, name)) {
        return;
    }
    double *got = calloc((size_t)count, sizeof *got);
    for (int64_t i = 0; i < count; i++) {
        got[i] = real_of(r, v, first + i);
    }
    compare(r, name, got, NULL, FORWARD);
    free(got);
}

/* The content behind the norm that queries start with. */
static void compare_content(replay *r)
{
    const ddi_value *v = r->model->out.queries.content;
    const int64_t d = r->model->net.config.d;
    double *got = calloc((size_t)v->count, sizeof *got);
    for (int64_t i = 0; i < v->count; i++) {
        double mean = 0, square = 0;
        for (int64_t k = 0; k < d; k++) {
            const double x = real_of(r, v, i / d * d + k);
            mean += x / (double)d;
            square += x * x / (double)d;
        }
        got[i] = (real_of(r, v, i) - mean) / sqrt(square - mean * mean + 1e-5);
    }
    compare(r, "init.content", got, NULL, FORWARD);
    free(got);
}

/* Corners in pixels. */
static void compare_boxes(replay *r, const char *name, const ddi_value *boxes, int64_t first, int64_t queries)
{
    const int64_t count = 4 * queries * r->images;
    double *got = calloc((size_t)count, sizeof *got);
    for (int64_t i = 0; i < count; i++) {
        const int64_t box = first + i / 4 * 4, axis = i % 2, b = i / 4 / queries;
        const double half = real_of(r, boxes, box + 2 + axis) / 2;
        got[i] = (real_of(r, boxes, box + axis) + (i % 4 < 2 ? -half : half)) * r->sizes[2 * b + axis];
    }
    compare(r, name, got, NULL, FORWARD);
    free(got);
}

static void compare_stage(replay *r, int32_t s)
{
    const ddi_detections *o = &r->model->out;
    const int64_t rows = r->images * r->model->net.config.queries, K = r->model->net.config.classes;
    char name[NAME];
    snprintf(name, sizeof name, "stage%d.xyzr_in", s);
    compare_value(r, name, s == 0 ? o->reference : o->refined[s - 1], 0, rows * 4);
    snprintf(name, sizeof name, "stage%d.query", s);
    compare_value(r, name, o->layer[s], 0, o->layer[s]->count);
    snprintf(name, sizeof name, "stage%d.xyzr", s);
    compare_value(r, name, o->refined[s], 0, rows * 4);
    snprintf(name, sizeof name, "stage%d.logits", s);
    compare_value(r, name, o->logits, s * rows * K, rows * K);
    snprintf(name, sizeof name, "stage%d.boxes", s);
    compare_boxes(r, name, o->boxes, s * rows * 4, r->model->net.config.queries);
}

static void compare_forward(replay *r)
{
    char want[NAME], name[NAME];
    for (int32_t l = 0; l < 4; l++) {
        snprintf(want, sizeof want, "backbone.c%d", l + 2);
        snprintf(name, sizeof name, "backbone.%d", l);
        compare_tensor(r, want, name);
        snprintf(want, sizeof want, "neck.l%d", l);
        snprintf(name, sizeof name, "features.%d", l);
        compare_tensor(r, want, name);
    }
    compare_content(r);
    compare_value(r, "init.xyzr", r->model->out.reference, 0, r->model->out.reference->count);
    for (int32_t s = 0; s < r->model->net.config.decoder_layers; s++) {
        compare_stage(r, s);
    }
}

void replay_adamixer(replay *r)
{
    must(dd_distiller_step(r->distiller, NULL), "step");
    compare_forward(r);
    compare_matches(r, "stage");
    compare_losses(r, "stage", "", "det");
    compare_term(r, "loss.total", "loss.total");
    compare_gradients(r, ddi_keymap_find("adamixer", "mmdet"));
    compare_predictions(r, false);
}
