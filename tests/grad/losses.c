/* SPDX-License-Identifier: Apache-2.0
 * Gradients of the detection, distillation and feature losses. */
#include "differences.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Differences go 1e-6 to each side; no kink may be nearer than this. */
static const double kink_distance = 1e-4;

/* The smallest distance of a box from a kink of L1 (both forms) and of GIoU with another box, or of clipping's edges. */
static double distance_from_kinks(const double *a, const double *b)
{
    double distance = INFINITY;
    for (int i = 0; i < 2; i++) {
        const double a0 = a[i] - a[2 + i] / 2, a1 = a[i] + a[2 + i] / 2, b0 = b[i] - b[2 + i] / 2, b1 = b[i] + b[2 + i] / 2;
        const double gap[6] = {a[i] - b[i], a[2 + i] - b[2 + i], a0 - b0, a1 - b1, a1 - b0, b1 - a0};
        for (int k = 0; k < 6; k++) {
            distance = fmin(distance, fabs(gap[k]));
        }
    }
    return distance;
}

static void random_box(double *box)
{
    for (int a = 0; a < 2; a++) {
        box[a] = uniform(0.2, 0.8);
        box[2 + a] = uniform(0.1, 0.5);
    }
}

/* A box that is far from all kinks with each of `count` others. */
static void random_box_beside(double *box, const double *others, int64_t count)
{
    double distance;
    do {
        random_box(box);
        distance = INFINITY;
        for (int64_t i = 0; i < count; i++) {
            distance = fmin(distance, distance_from_kinks(box, others + i * 4));
        }
    } while (distance < kink_distance);
}

static double *random_sizes(int32_t images)
{
    return random_reals(DD_F64, (int64_t)images * 2, 4, 16);
}

/* 1, 1, .., or with an image left out; NULL in some trials. */
static const uint8_t *random_use(int32_t images)
{
    if (random_below(2)) {
        return NULL;
    }
    uint8_t *use = fresh(images, 1);
    for (int32_t b = 0; b < images; b++) {
        use[b] = b == 0 || random_below(2);
    }
    return use;
}

/* What a gradient is written to: with `accumulate` it starts from `base`, which has to be taken off again. */
static void *gradient_memory(int64_t count, int accumulate, double *base)
{
    double *g = fresh_reals(DD_F64, count);
    for (int64_t i = 0; accumulate && i < count; i++) {
        g[i] = base[i] = uniform(-1, 1);
    }
    return g;
}

static void take_off(double *g, const double *base, int64_t count, int accumulate)
{
    for (int64_t i = 0; accumulate && i < count; i++) {
        g[i] -= base[i];
    }
}

static double det_scalar(void *context)
{
    dd_op_det_loss op = *(dd_op_det_loss *)context;
    double sum = 0;
    op.g_logits = op.g_boxes = NULL;
    run_f64(DD_OPERATOR_det_loss, &op);
    for (int64_t i = 0; i < (int64_t)op.S * op.B * 3; i++) {
        sum += op.terms[i];
    }
    return op.grad_scale * sum;
}

/* Objects of all images, and queries that are matched with some of them. */
static void make_objects(dd_op_det_loss *op)
{
    const int64_t queries = (int64_t)op->S * op->B * op->N;
    int32_t *offsets = fresh(op->B + 1, sizeof *offsets), *match = fresh(queries, sizeof *match);
    double *boxes = fresh_reals(DD_F64, queries * 4);
    offsets[0] = 0;
    for (int32_t b = 0; b < op->B; b++) {
        offsets[b + 1] = offsets[b] + random_below(op->N + 1);
    }
    op->G = offsets[op->B];
    int32_t *labels = fresh(op->G, sizeof *labels);
    double *gt_boxes = fresh_reals(DD_F64, (int64_t)op->G * 4);
    for (int32_t g = 0; g < op->G; g++) {
        labels[g] = random_below(op->C);
        random_box(gt_boxes + g * 4);
    }
    for (int64_t i = 0; i < queries; i++) {
        const int64_t b = i / op->N % op->B, n = i % op->N, count = offsets[b + 1] - offsets[b];
        match[i] = n < count ? (int32_t)(count - 1 - n) : -1;
        random_box_beside(boxes + i * 4, gt_boxes + (int64_t)offsets[b] * 4, count);
    }
    op->gt_offsets = offsets;
    op->gt_labels = labels;
    op->gt_boxes = gt_boxes;
    op->match = match;
    op->boxes = boxes;
}

void gradient_of_det_loss(int trial)
{
    dd_op_det_loss op = {.S = random_size(trial) % 4 + 1,
                         .B = random_size(trial) % 4 + 1,
                         .N = random_size(trial),
                         .C = random_size(trial),
                         .l1_xyxy = trial % 2,
                         .giou_pixels = trial / 2 % 2,
                         .accumulate = trial / 4 % 2,
                         .scale_class = 2,
                         .scale_l1 = 0.7,
                         .scale_giou = 1.3,
                         .grad_scale = uniform(0.5, 2)};
    const int64_t queries = (int64_t)op.S * op.B * op.N, logits = queries * op.C;
    make_objects(&op);
    op.giou_eps = op.giou_pixels ? 1e-6 : 1e-12;
    op.sizes = op.giou_pixels ? random_sizes(op.B) : NULL;
    op.image_use = random_use(op.B);
    op.logits = random_reals(DD_F64, logits, -4, 4);
    op.terms = fresh((int64_t)op.S * op.B * 3, sizeof(double));
    double *logits_base = fresh_reals(DD_F64, logits), *boxes_base = fresh_reals(DD_F64, queries * 4);
    op.g_logits = gradient_memory(logits, op.accumulate, logits_base);
    op.g_boxes = gradient_memory(queries * 4, op.accumulate, boxes_base);
    run_f64(DD_OPERATOR_det_loss, &op);
    take_off(op.g_logits, logits_base, logits, op.accumulate);
    take_off(op.g_boxes, boxes_base, queries * 4, op.accumulate);
    check_gradient("logits", det_scalar, &op, (double *)op.logits, logits, op.g_logits);
    check_gradient("boxes", det_scalar, &op, (double *)op.boxes, queries * 4, op.g_boxes);
}

static double kd_scalar(void *context)
{
    dd_op_kd_loss op = *(dd_op_kd_loss *)context;
    double sum = 0;
    op.g_logits = op.g_boxes = NULL;
    run_f64(DD_OPERATOR_kd_loss, &op);
    for (int64_t i = 0; i < (int64_t)op.n_pairs * op.B * 5; i++) {
        sum += op.terms[i];
    }
    return op.grad_scale * sum;
}

/* Teacher stages 2s and 2s+1 teach student stage s; with one pair less the last student stage has one teacher, or none.
 * Targets are those of boxes that partly leave their image. */
static void make_teacher(dd_op_kd_loss *op)
{
    const int32_t stages = 2 * op->L_S;
    const int64_t queries = (int64_t)stages * op->B * op->NT;
    int32_t *pairs = fresh((int64_t)stages * 2, sizeof *pairs);
    double *boxes = fresh_reals(DD_F64, queries * 4);
    op->n_pairs = stages - random_below(3);
    for (int32_t n = 0; n < stages; n++) {
        pairs[2 * n] = n / 2;
        pairs[2 * n + 1] = n;
    }
    for (int64_t i = 0; i < queries; i++) {
        random_box(boxes + i * 4);
        boxes[i * 4] += 0.2;
    }
    op->sizes = random_sizes(op->B);
    dd_op_kd_targets targets = {random_reals(DD_F64, queries * op->C, -4, 4),
                                boxes,
                                op->sizes,
                                fresh_reals(DD_F64, queries * op->C),
                                fresh_reals(DD_F64, queries * 4),
                                fresh_reals(DD_F64, queries * 4),
                                stages,
                                op->B,
                                op->NT,
                                op->C};
    run_f64(DD_OPERATOR_kd_targets, &targets);
    op->t_prob = targets.prob;
    op->t_xyxy = targets.xyxy;
    op->t_cxcywh = targets.cxcywh;
    op->pairs = op->host_pairs = pairs;
}

/* Students far from kinks with all teachers of their image; matches that differ from pair to pair, of all kinds. */
static void make_students(dd_op_kd_loss *op, int with_kinds)
{
    const int64_t students = (int64_t)op->L_S * op->B * op->NS, rows = (int64_t)op->n_pairs * op->B * op->NS;
    double *boxes = fresh_reals(DD_F64, students * 4), *others = fresh_reals(DD_F64, (int64_t)2 * op->L_S * op->NT * 4);
    int32_t *match = fresh(rows, sizeof *match), *kind = fresh(rows, sizeof *kind);
    for (int64_t i = 0; i < students; i++) {
        const int64_t b = i / op->NS % op->B, image_reals = (int64_t)op->NT * 4;
        for (int64_t t = 0; t < 2 * op->L_S; t++) {
            memcpy(others + t * image_reals, (const double *)op->t_cxcywh + (t * op->B + b) * image_reals,
                   (size_t)image_reals * sizeof(double));
        }
        random_box_beside(boxes + i * 4, others, (int64_t)2 * op->L_S * op->NT);
    }
    for (int64_t i = 0; i < rows; i++) {
        const int64_t j = i % op->NS + i / op->NS;
        match[i] = i % op->NS < op->NT ? (int32_t)(j % op->NT) : -1;
        kind[i] = match[i] < 0 ? 0 : 1 + random_below(2);
    }
    op->s_boxes = boxes;
    op->match = match;
    op->kind = with_kinds ? kind : NULL;
}

void gradient_of_kd_loss(int trial)
{
    dd_op_kd_loss op = {.L_S = 1 + trial % 3,
                        .B = random_size(trial) % 3 + 1,
                        .NS = random_size(trial),
                        .NT = random_size(trial),
                        .C = random_size(trial),
                        .l1_xyxy = trial % 2,
                        .accumulate = trial / 2 % 2,
                        .scale_class = {0, 0.8, 0},
                        .scale_l1 = {0, 1.1, 0.6},
                        .scale_giou = {0, 0.9, 1.7},
                        .grad_scale = uniform(0.5, 2)};
    const int64_t students = (int64_t)op.L_S * op.B * op.NS, logits = students * op.C;
    make_teacher(&op);
    make_students(&op, trial / 4 % 2);
    op.image_use = random_use(op.B);
    op.s_logits = random_reals(DD_F64, logits, -4, 4);
    for (int64_t i = 0; i < logits; i++) {
        double *x = (double *)op.s_logits + i; /* primitive 1 has no kink at 0, but its two parts have */
        *x += *x >= 0 ? kink_distance : -kink_distance;
    }
    op.terms = fresh((int64_t)op.n_pairs * op.B * 5, sizeof(double));
    double *logits_base = fresh_reals(DD_F64, logits), *boxes_base = fresh_reals(DD_F64, students * 4);
    op.g_logits = gradient_memory(logits, op.accumulate, logits_base);
    op.g_boxes = gradient_memory(students * 4, op.accumulate, boxes_base);
    run_f64(DD_OPERATOR_kd_loss, &op);
    take_off(op.g_logits, logits_base, logits, op.accumulate);
    take_off(op.g_boxes, boxes_base, students * 4, op.accumulate);
    check_gradient("logits", kd_scalar, &op, (double *)op.s_logits, logits, op.g_logits);
    check_gradient("boxes", kd_scalar, &op, (double *)op.s_boxes, students * 4, op.g_boxes);
}

static double feature_scalar(void *context)
{
    dd_op_feature_loss op = *(dd_op_feature_loss *)context;
    double sum = 0;
    op.g_student = NULL;
    run_f64(DD_OPERATOR_feature_loss, &op);
    for (int64_t i = 0; i < (int64_t)op.L * op.B; i++) {
        sum += op.terms[i];
    }
    return op.grad_scale * sum;
}

void gradient_of_feature_loss(int trial)
{
    dd_op_feature_loss op = {.L = random_size(trial),
                             .B = random_size(trial),
                             .d = random_size(trial),
                             .P = random_size(trial) * (int64_t)random_size(trial),
                             .grad_scale = uniform(0.5, 2)};
    const int64_t maps = op.B * op.P, count = maps * op.d;
    double *weight = random_reals(DD_F64, op.L * maps, 0, 1), *sum = fresh_reals(DD_F64, maps);
    for (int64_t i = 0; i < maps; i++) {
        sum[i] = 0;
        for (int64_t l = 0; l < op.L; l++) {
            sum[i] += weight[l * maps + i];
        }
    }
    op.weight = weight;
    op.sum = sum;
    op.teacher = random_reals(DD_F64, count, -2, 2);
    op.student = random_reals(DD_F64, count, -2, 2);
    op.terms = fresh((int64_t)op.L * op.B, sizeof(double));
    op.g_student = fresh_reals(DD_F64, count);
    run_f64(DD_OPERATOR_feature_loss, &op);
    check_gradient("student", feature_scalar, &op, (double *)op.student, count, op.g_student);
}
