/* SPDX-License-Identifier: Apache-2.0
 * Detection loss against matched objects, with gradient (distillation D.2; focal loss: detectors 1.13). */
#include "backend/ref/box.h"
#include "backend/ref/math.h"

/* Positive: -alpha (1-p)^2 ln p, derivative alpha (1-p)^2 (2p ln p - (1-p)).
 * Negative: -(1-alpha) p^2 ln(1-p), derivative (1-alpha) p^2 (p - 2(1-p) ln(1-p)).  alpha = 1/4, p = sigmoid(x). */
static real focal(real x, int positive, real *derivative)
{
    const real p = (real)ddi_sigmoid(x), q = (real)ddi_sigmoid(-x);
    if (positive) {
        const real log_p = -(real)ddi_softplus(-x);
        *derivative = (real)0.25 * q * q * (2 * p * log_p - q);
        return (real)-0.25 * q * q * log_p;
    }
    const real log_q = -(real)ddi_softplus(x);
    *derivative = (real)0.75 * p * p * (p - 2 * q * log_q);
    return (real)-0.75 * p * p * log_q;
}

/* The C class terms of one query; label -1: background. */
static double class_terms(const dd_op_det_loss *op, int64_t query, int32_t label)
{
    const real *x = (const real *)op->logits + query * op->C;
    real *g = op->g_logits ? (real *)op->g_logits + query * op->C : NULL;
    const real factor = (real)(op->grad_scale * op->scale_class);
    double sum = 0;
    for (int32_t c = 0; c < op->C; c++) {
        real derivative;
        sum += focal(x[c], c == label, &derivative);
        if (g) {
            g[c] += factor * derivative;
        }
    }
    return sum;
}

static void box_terms(const dd_op_det_loss *op, int64_t query, int32_t object, const real *size, double *l1, double *giou)
{
    const real *y = (const real *)op->boxes + query * 4, *target = (const real *)op->gt_boxes + (int64_t)object * 4;
    const ref_box box = ref_corners(y, size), target_box = ref_corners(target, size);
    const real guard = (real)op->giou_eps;
    *l1 += ref_l1(y, target, op->l1_xyxy);
    *giou += 1 - ref_giou(&box, &target_box, guard);
    if (op->g_boxes) {
        real *g = (real *)op->g_boxes + query * 4;
        const ref_box g_corners = ref_giou_gradient(&box, &target_box, guard);
        ref_add_l1_gradient(g, y, target, op->l1_xyxy, (real)(op->grad_scale * op->scale_l1));
        ref_add_corner_gradient(g, &g_corners, size, (real)(-op->grad_scale * op->scale_giou));
    }
}

static void image_terms(const dd_op_det_loss *op, int64_t image, int64_t b, double *terms)
{
    const real *size = op->giou_pixels ? (const real *)op->sizes + b * 2 : NULL;
    double classes = 0, l1 = 0, giou = 0;
    for (int64_t n = 0; n < op->N; n++) {
        const int64_t query = image * op->N + n;
        const int32_t object = op->match[query] < 0 ? -1 : op->gt_offsets[b] + op->match[query];
        classes += class_terms(op, query, object < 0 ? -1 : op->gt_labels[object]);
        if (object >= 0) {
            box_terms(op, query, object, size, &l1, &giou);
        }
    }
    terms[0] = op->scale_class * classes;
    terms[1] = op->scale_l1 * l1;
    terms[2] = op->scale_giou * giou;
}

dd_status REF(det_loss)(dd_exec *exec, const void *args)
{
    const dd_op_det_loss *op = args;
    const int64_t images = (int64_t)op->S * op->B, queries = images * op->N;
    if (op->g_logits && !op->accumulate) {
        memset(op->g_logits, 0, (size_t)(queries * op->C) * sizeof(real));
    }
    if (op->g_boxes && !op->accumulate) {
        memset(op->g_boxes, 0, (size_t)(queries * 4) * sizeof(real));
    }
    for (int64_t image = 0; image < images; image++) {
        const int64_t b = image % op->B;
        double *terms = op->terms + image * 3;
        if (op->image_use && !op->image_use[b]) {
            terms[0] = terms[1] = terms[2] = 0;
        } else {
            image_terms(op, image, b, terms);
        }
    }
    return DD_OK;
}
