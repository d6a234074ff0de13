/* SPDX-License-Identifier: Apache-2.0
 * Costs of the matchings: queries with objects (detectors 1.14), students with teachers (distillation A.2, A.3). */
#include "backend/ref/box.h"
#include "backend/ref/math.h"

/* The value of a cost entry that is not finite: large, and small enough that the other rows keep their optimum. */
#define COST_OF_NONFINITE 1e12

static void put_cost(real *cost, int64_t at, double value, int64_t *bad)
{
    cost[at] = (real)value;
    if (!isfinite(cost[at])) {
        cost[at] = (real)COST_OF_NONFINITE;
        *bad = at < *bad ? at : *bad;
    }
}

/* alpha (1-p)^2 * -ln(p+eps) - (1-alpha) p^2 * -ln(1-p+eps), alpha = 1/4, p = sigmoid(x). */
static double focal_cost(double x, double eps)
{
    const double p = ddi_sigmoid(x), q = ddi_sigmoid(-x);
    return 0.75 * p * p * ddi_log(q + eps) - 0.25 * q * q * ddi_log(p + eps);
}

static double object_cost(const dd_op_gt_cost *op, int64_t query, int32_t object, const real *size)
{
    const real *x = (const real *)op->logits + query * op->C;
    const real *y = (const real *)op->boxes + query * 4, *target = (const real *)op->gt_boxes + (int64_t)object * 4;
    const ref_box box = ref_corners(y, size), target_box = ref_corners(target, size);
    return op->w_class * focal_cost(x[op->gt_labels[object]], op->class_eps) + op->w_l1 * ref_l1(y, target, op->l1_xyxy) -
           op->w_giou * ref_giou(&box, &target_box, (real)op->giou_eps);
}

dd_status REF(gt_cost)(dd_exec *exec, const void *args)
{
    const dd_op_gt_cost *op = args;
    for (int64_t s = 0; s < op->S; s++) {
        for (int64_t b = 0; b < op->B; b++) {
            const real *size = op->giou_pixels ? (const real *)op->sizes + b * 2 : NULL;
            for (int32_t g = op->gt_offsets[b]; g < op->gt_offsets[b + 1]; g++) {
                for (int64_t n = 0; n < op->N; n++) {
                    const double cost = object_cost(op, (s * op->B + b) * op->N + n, g, size);
                    put_cost(op->cost, (s * op->G + g) * op->N + n, cost, op->bad);
                }
            }
        }
    }
    return DD_OK;
}

dd_status REF(kd_targets)(dd_exec *exec, const void *args)
{
    const dd_op_kd_targets *op = args;
    const real *logits = op->logits, *boxes = op->boxes, *sizes = op->sizes;
    real *prob = op->prob, *xyxy = op->xyxy, *cxcywh = op->cxcywh;
    const int64_t queries = (int64_t)op->L * op->B * op->N;
    for (int64_t i = 0; i < queries * op->C; i++) {
        prob[i] = (real)ddi_sigmoid(logits[i]);
    }
    for (int64_t i = 0; i < queries; i++) {
        const real *size = sizes + i / op->N % op->B * 2;
        const ref_box box = ref_corners(boxes + i * 4, size);
        for (int a = 0; a < 2; a++) {
            const real low = ddi_ref_min(ddi_ref_max(box.edge[a], 0), size[a]);
            const real high = ddi_ref_min(ddi_ref_max(box.edge[2 + a], 0), size[a]);
            xyxy[i * 4 + a] = low;
            xyxy[i * 4 + 2 + a] = high;
            cxcywh[i * 4 + a] = (low / size[a] + high / size[a]) / 2;
            cxcywh[i * 4 + 2 + a] = high / size[a] - low / size[a];
        }
    }
    return DD_OK;
}

/* Student query and teacher query by their flat index over stages and images. constant: sum of softplus(x). */
static double teacher_cost(const dd_op_kd_cost *op, int64_t student, int64_t teacher, double constant, const real *size)
{
    const real *y = (const real *)op->s_boxes + student * 4;
    const ref_box box = ref_corners(y, size);
    ref_box target;
    memcpy(target.edge, (const real *)op->t_xyxy + teacher * 4, sizeof target.edge);
    const double cost = op->w_l1 * ref_l1(y, (const real *)op->t_cxcywh + teacher * 4, op->l1_xyxy) -
                        op->w_giou * ref_giou(&box, &target, (real)1e-6);
    if (op->w_class == 0) {
        return cost;
    }
    const real *x = (const real *)op->s_logits + student * op->C, *t = (const real *)op->t_prob + teacher * op->C;
    double product = 0;
    for (int32_t c = 0; c < op->C; c++) {
        product += (double)x[c] * t[c];
    }
    return op->w_class * (constant - product) + cost;
}

dd_status REF(kd_cost)(dd_exec *exec, const void *args)
{
    const dd_op_kd_cost *op = args;
    for (int64_t row = 0; row < (int64_t)op->n_pairs * op->B * op->NS; row++) {
        const int64_t i = row % op->NS, b = row / op->NS % op->B, n = row / op->NS / op->B;
        const int64_t student = (op->pairs[2 * n] * (int64_t)op->B + b) * op->NS + i;
        const int64_t teachers = (op->pairs[2 * n + 1] * (int64_t)op->B + b) * op->NT;
        double constant = 0;
        for (int32_t c = 0; op->w_class != 0 && c < op->C; c++) {
            constant += ddi_softplus(((const real *)op->s_logits)[student * op->C + c]);
        }
        for (int64_t j = 0; j < op->NT; j++) {
            const double cost = teacher_cost(op, student, teachers + j, constant, (const real *)op->sizes + b * 2);
            put_cost(op->cost, row * op->NT + j, cost, op->bad);
        }
    }
    return DD_OK;
}
