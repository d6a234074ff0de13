/* SPDX-License-Identifier: Apache-2.0
 * Detection loss (D.2) and logits distillation loss (A.4, A.6), each with its gradient in the same pass. */
#include "backend/cpu/box.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"
#include "backend/cpu/vecmath.h"

#define LOSS_PIECE 64 /* queries */

/* The lane of a target among VW logits. */
INLINE vm v_only(int64_t lane)
{
    float mark[2 * VW] = {0};
    mark[VW] = 1;
    return v_less(v_zero(), v_load(mark + VW - lane));
}

/* Focal loss of VW logits, alpha = 1/4, gamma = 2; the target's class is `target_lane` (-1: none here).
 * Background: (1-alpha) p^2 sp(x), derivative (1-alpha) p^2 (2q sp(x) + p).   sp = softplus, q = 1-p
 * Target:     alpha q^2 sp(-x),    derivative -alpha q^2 (2p sp(-x) + q). */
INLINE vf focal(vf x, int64_t target_lane, vf *derivative)
{
    const v_logistic l = v_logistic_of(x);
    const vf softplus = v_add(l.positive_part, l.log1p_e), p_weight = v_mul(v_set(0.75f), v_mul(l.p, l.p));
    vf loss = v_mul(p_weight, softplus);
    *derivative = v_mul(p_weight, v_fma(v_add(l.q, l.q), softplus, l.p));
    if (target_lane >= 0) {
        const vm target = v_only(target_lane);
        const vf softplus_minus = v_add(v_max(v_zero(), v_sub(v_zero(), x)), l.log1p_e);
        const vf q_weight = v_mul(v_set(0.25f), v_mul(l.q, l.q));
        const vf slope = v_mul(q_weight, v_fma(v_add(l.p, l.p), softplus_minus, l.q));
        loss = v_select(target, v_mul(q_weight, softplus_minus), loss);
        *derivative = v_select(target, v_sub(v_zero(), slope), *derivative);
    }
    return loss;
}

/* Writes factor * derivative, or adds it. */
INLINE void put_gradient(float *g, vf factor, vf derivative, bool add, int64_t lanes)
{
    v_store_n(g, add ? v_fma(factor, derivative, v_load_n(g, lanes)) : v_mul(factor, derivative), lanes);
}

/* Queries begin .. end of one image and stage. */
typedef struct det_block {
    const dd_op_det_loss *op;
    int64_t image, b, begin, end; /* image: stage and image */
} det_block;

/* Class terms of a block as one flat run of logits; `target` lists the flat places of the targets, ascending, then one that
 * is never reached. */
static double det_class_terms(const det_block *block, const int64_t *target)
{
    const dd_op_det_loss *op = block->op;
    const int64_t first = (block->image * op->N + block->begin) * op->C, count = (block->end - block->begin) * op->C;
    const float *x = (const float *)op->logits + first;
    float *g = op->g_logits ? (float *)op->g_logits + first : NULL;
    const vf factor = v_set((float)(op->grad_scale * op->scale_class));
    vd sum = vd_zero();
    for (int64_t i = 0; i < count; i += VW) {
        const int64_t lanes = count - i;
        const vf logit = v_load_n(x + i, lanes);
        vf derivative, loss = focal(logit, *target < i + VW ? *target - i : -1, &derivative);
        for (; *target < i + VW; target++) { /* more than one only if C < VW */
            vf other_derivative;
            const vf other = focal(logit, *target - i, &other_derivative);
            loss = v_select(v_only(*target - i), other, loss);
            derivative = v_select(v_only(*target - i), other_derivative, derivative);
        }
        sum = vd_add(sum, vd_from(v_keep(loss, lanes)));
        if (g) {
            put_gradient(g + i, factor, derivative, op->accumulate, lanes);
        }
    }
    return vd_sum(sum);
}

static void put_box_gradient(float *out, const double *g, bool add)
{
    for (int i = 0; i < 4; i++) {
        out[i] = add ? (float)(out[i] + g[i]) : (float)g[i];
    }
}

static void det_box_terms(const dd_op_det_loss *op, int64_t query, int32_t object, int64_t b, double *terms, double *g)
{
    const float *y = (const float *)op->boxes + query * 4, *target = (const float *)op->gt_boxes + (int64_t)object * 4;
    const float *size = op->giou_pixels ? (const float *)op->sizes + b * 2 : NULL;
    const corner_box box = corners_of(y, size), target_box = corners_of(target, size);
    const box_pair pair = pair_of(&box, &target_box, op->giou_eps);
    terms[1] += l1_with_gradient(y, target, op->l1_xyxy, op->grad_scale * op->scale_l1, g);
    terms[2] += 1 - giou_of_pair(&pair);
    add_giou_gradient(&pair, &box, &target_box, size, -op->grad_scale * op->scale_giou, g);
}

static void det_block_terms(const det_block *block, double *terms)
{
    const dd_op_det_loss *op = block->op;
    int64_t target[LOSS_PIECE + 1], targets = 0;
    for (int64_t n = block->begin; n < block->end; n++) {
        const int64_t query = block->image * op->N + n;
        double g[4] = {0};
        if (op->match[query] >= 0) {
            const int32_t object = op->gt_offsets[block->b] + op->match[query];
            target[targets++] = (n - block->begin) * op->C + op->gt_labels[object];
            det_box_terms(op, query, object, block->b, terms, g);
        }
        if (op->g_boxes) {
            put_box_gradient((float *)op->g_boxes + query * 4, g, op->accumulate);
        }
    }
    target[targets] = INT64_MAX;
    terms[0] = det_class_terms(block, target);
}

typedef struct det_job {
    const dd_op_det_loss *op;
    int64_t blocks;     /* of an image */
    double (*terms)[3]; /* of each block */
} det_job;

static void clear_rows(float *x, int64_t first, int64_t rows, int64_t width)
{
    if (x) {
        memset(x + first * width, 0, (size_t)(rows * width) * sizeof *x);
    }
}

static void det_loss_piece(void *arg, int64_t piece)
{
    const det_job *job = arg;
    const dd_op_det_loss *op = job->op;
    const int64_t image = piece / job->blocks, begin = piece % job->blocks * LOSS_PIECE;
    const det_block block = {op, image, image % op->B, begin, minimum(begin + LOSS_PIECE, op->N)};
    memset(job->terms[piece], 0, sizeof job->terms[piece]);
    if (!op->image_use || op->image_use[block.b]) {
        det_block_terms(&block, job->terms[piece]);
    } else if (!op->accumulate) {
        clear_rows(op->g_logits, image * op->N + begin, block.end - begin, op->C);
        clear_rows(op->g_boxes, image * op->N + begin, block.end - begin, 4);
    }
}

dd_status KERNEL(det_loss)(dd_exec *exec, const void *args)
{
    const dd_op_det_loss *op = args;
    const int64_t images = (int64_t)op->S * op->B, blocks = cpu_pieces(op->N, LOSS_PIECE);
    det_job job = {op, blocks, exec->scratch(exec, (size_t)(images * blocks + 1) * sizeof *job.terms)};
    if (!job.terms) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, images * blocks, det_loss_piece, &job);
    for (int64_t image = 0; image < images; image++) {
        const double scale[3] = {op->scale_class, op->scale_l1, op->scale_giou};
        for (int t = 0; t < 3; t++) {
            double sum = 0;
            for (int64_t k = 0; k < blocks; k++) {
                sum += job.terms[image * blocks + k][t];
            }
            op->terms[image * 3 + t] = scale[t] * sum;
        }
    }
    return DD_OK;
}

/* sum_c BCE(x_c, t_c), BCE = max(x,0) - xt + ln(1+e^-|x|); g += factor * (sigmoid(x) - t). */
static double soft_class_terms(const float *x, const float *t, float *g, vf factor, int64_t classes)
{
    vd sum = vd_zero();
    for (int64_t c = 0; c < classes; c += VW) {
        const int64_t lanes = classes - c;
        const vf logit = v_load_n(x + c, lanes), soft = v_load_n(t + c, lanes);
        const v_logistic l = v_logistic_of(logit);
        const vf loss = v_add(v_fnma(logit, soft, l.positive_part), l.log1p_e);
        sum = vd_add(sum, vd_from(v_keep(loss, lanes)));
        if (g) {
            put_gradient(g + c, factor, v_sub(l.p, soft), true, lanes);
        }
    }
    return vd_sum(sum);
}

typedef struct kd_job {
    const dd_op_kd_loss *op;
    int64_t blocks;     /* of a pair and image */
    double (*terms)[5]; /* [n_pairs, B, blocks] */
} kd_job;

/* Student query and its teacher by their flat index over stages and images. */
static void soft_pair_terms(const dd_op_kd_loss *op, int64_t student, int64_t teacher, int64_t b, int32_t kind, double *terms)
{
    const float *y = (const float *)op->s_boxes + student * 4, *target = (const float *)op->t_cxcywh + teacher * 4;
    const float *size = (const float *)op->sizes + b * 2;
    const corner_box box = corners_of(y, size), target_box = corners_from((const float *)op->t_xyxy + teacher * 4);
    const box_pair pair = pair_of(&box, &target_box, 1e-6);
    double g[4] = {0};
    if (kind == 1) {
        float *g_logits = op->g_logits ? (float *)op->g_logits + student * op->C : NULL;
        terms[0] += soft_class_terms((const float *)op->s_logits + student * op->C, (const float *)op->t_prob + teacher * op->C,
                                     g_logits, v_set((float)(op->grad_scale * op->scale_class[1])), op->C);
    }
    terms[2 * kind - 1] += l1_with_gradient(y, target, op->l1_xyxy, op->grad_scale * op->scale_l1[kind], g);
    terms[2 * kind] += 1 - giou_of_pair(&pair);
    add_giou_gradient(&pair, &box, &target_box, size, -op->grad_scale * op->scale_giou[kind], g);
    if (op->g_boxes) {
        put_box_gradient((float *)op->g_boxes + student * 4, g, true);
    }
}

/* Queries begin .. end of pair n, image b. */
static void soft_block_terms(const dd_op_kd_loss *op, int64_t n, int64_t b, int64_t begin, int64_t end, double *terms)
{
    const int64_t students = (op->host_pairs[2 * n] * (int64_t)op->B + b) * op->NS;
    const int64_t teachers = (op->host_pairs[2 * n + 1] * (int64_t)op->B + b) * op->NT;
    for (int64_t i = begin; i < end; i++) {
        const int64_t at = (n * op->B + b) * op->NS + i;
        const int32_t j = op->match[at], kind = op->kind ? op->kind[at] : j >= 0;
        if (j >= 0 && kind != 0) {
            soft_pair_terms(op, students + i, teachers + j, b, kind, terms);
        }
    }
}

/* A block of students of one stage and image, with all pairs of the stage in turn: their gradients add up in that order. */
static void kd_loss_piece(void *arg, int64_t piece)
{
    const kd_job *job = arg;
    const dd_op_kd_loss *op = job->op;
    const int64_t k = piece % job->blocks, b = piece / job->blocks % op->B, s = piece / job->blocks / op->B;
    const int64_t begin = k * LOSS_PIECE, end = minimum(begin + LOSS_PIECE, op->NS);
    if (!op->accumulate) {
        const int64_t first = (s * op->B + b) * op->NS + begin;
        clear_rows(op->g_logits, first, end - begin, op->C);
        clear_rows(op->g_boxes, first, end - begin, 4);
    }
    for (int64_t n = 0; n < op->n_pairs; n++) {
        if (op->host_pairs[2 * n] != s) {
            continue;
        }
        double *terms = job->terms[(n * op->B + b) * job->blocks + k];
        memset(terms, 0, sizeof job->terms[0]);
        if (!op->image_use || op->image_use[b]) {
            soft_block_terms(op, n, b, begin, end, terms);
        }
    }
}

dd_status KERNEL(kd_loss)(dd_exec *exec, const void *args)
{
    const dd_op_kd_loss *op = args;
    const int64_t blocks = cpu_pieces(op->NS, LOSS_PIECE), images = (int64_t)op->n_pairs * op->B;
    kd_job job = {op, blocks, exec->scratch(exec, (size_t)(images * blocks + 1) * sizeof *job.terms)};
    if (!job.terms) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, (int64_t)op->L_S * op->B * blocks, kd_loss_piece, &job);
    const double scale[5] = {op->scale_class[1], op->scale_l1[1], op->scale_giou[1], op->scale_l1[2], op->scale_giou[2]};
    for (int64_t image = 0; image < images; image++) {
        for (int t = 0; t < 5; t++) {
            double sum = 0;
            for (int64_t k = 0; k < blocks; k++) {
                sum += job.terms[image * blocks + k][t];
            }
            op->terms[image * 5 + t] = scale[t] * sum;
        }
    }
    return DD_OK;
}
