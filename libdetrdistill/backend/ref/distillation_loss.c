/* SPDX-License-Identifier: Apache-2.0
 * Logits distillation loss of matched students and teachers, with gradient (distillation A.4, A.6). */
#include "backend/ref/box.h"
#include "backend/ref/math.h"

/* BCE(x, t) = max(x,0) - xt + ln(1 + e^-|x|), summed over classes; derivative sigmoid(x) - t. */
static double class_term(const dd_op_kd_loss *op, int64_t student, int64_t teacher)
{
    const real *x = (const real *)op->s_logits + student * op->C, *t = (const real *)op->t_prob + teacher * op->C;
    real *g = op->g_logits ? (real *)op->g_logits + student * op->C : NULL;
    const real factor = (real)(op->grad_scale * op->scale_class[1]);
    double sum = 0;
    for (int32_t c = 0; c < op->C; c++) {
        sum += (ddi_ref_max(x[c], 0) - x[c] * t[c]) + (real)ddi_log1p(ddi_exp(-fabs(x[c])));
        if (g) {
            g[c] += factor * ((real)ddi_sigmoid(x[c]) - t[c]);
        }
    }
    return sum;
}

static void box_terms(const dd_op_kd_loss *op, int64_t student, int64_t teacher, const real *size, int32_t kind, double *l1,
                      double *giou)
{
    const real *y = (const real *)op->s_boxes + student * 4, *target = (const real *)op->t_cxcywh + teacher * 4;
    const real guard = (real)1e-6;
    const ref_box box = ref_corners(y, size);
    ref_box target_box;
    memcpy(target_box.edge, (const real *)op->t_xyxy + teacher * 4, sizeof target_box.edge);
    *l1 += ref_l1(y, target, op->l1_xyxy);
    *giou += 1 - ref_giou(&box, &target_box, guard);
    if (op->g_boxes) {
        real *g = (real *)op->g_boxes + student * 4;
        const ref_box g_corners = ref_giou_gradient(&box, &target_box, guard);
        ref_add_l1_gradient(g, y, target, op->l1_xyxy, (real)(op->grad_scale * op->scale_l1[kind]));
        ref_add_corner_gradient(g, &g_corners, size, (real)(-op->grad_scale * op->scale_giou[kind]));
    }
}

/* Pair n of stages, image b. */
static void pair_terms(const dd_op_kd_loss *op, int64_t n, int64_t b, double *terms)
{
    const int64_t students = (op->pairs[2 * n] * (int64_t)op->B + b) * op->NS;
    const int64_t teachers = (op->pairs[2 * n + 1] * (int64_t)op->B + b) * op->NT;
    const real *size = (const real *)op->sizes + b * 2;
    double classes = 0, l1[3] = {0}, giou[3] = {0};
    for (int64_t i = 0; i < op->NS; i++) {
        const int64_t at = (n * op->B + b) * op->NS + i;
        const int32_t j = op->match[at], kind = op->kind ? op->kind[at] : j >= 0;
        if (j < 0 || kind == 0) {
            continue;
        }
        if (kind == 1) {
            classes += class_term(op, students + i, teachers + j);
        }
        box_terms(op, students + i, teachers + j, size, kind, &l1[kind], &giou[kind]);
    }
    terms[0] = op->scale_class[1] * classes;
    for (int kind = 1; kind <= 2; kind++) {
        terms[2 * kind - 1] = op->scale_l1[kind] * l1[kind];
        terms[2 * kind] = op->scale_giou[kind] * giou[kind];
    }
}

dd_status REF(kd_loss)(dd_exec *exec, const void *args)
{
    const dd_op_kd_loss *op = args;
    const int64_t students = (int64_t)op->L_S * op->B * op->NS;
    if (op->g_logits && !op->accumulate) {
        memset(op->g_logits, 0, (size_t)(students * op->C) * sizeof(real));
    }
    if (op->g_boxes && !op->accumulate) {
        memset(op->g_boxes, 0, (size_t)(students * 4) * sizeof(real));
    }
    for (int64_t n = 0; n < op->n_pairs; n++) {
        for (int64_t b = 0; b < op->B; b++) {
            double *terms = op->terms + (n * op->B + b) * 5;
            if (op->image_use && !op->image_use[b]) {
                memset(terms, 0, 5 * sizeof *terms);
            } else {
                pair_terms(op, n, b, terms);
            }
        }
    }
    return DD_OK;
}
