/* SPDX-License-Identifier: Apache-2.0
 * Cases of norms, elementwise operators, windows and the optimiser: rows far from zero, groups of one channel, levels inside a
 * token tensor, sums over either dimension, windows that hang over edges. */
#include "layer_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An output, or what is added to; `size` is what its rounding is measured by, times by_scale. */
static array *measured(test_case *c, const char *name, size_t offset, int64_t count, bool update, random_state *r,
                       double by_scale, double size)
{
    array *a = allow(add(c, name, offset, REALS, update ? UPDATED : OUTPUT, 0, count), 2 * EPS, by_scale);
    a->scale = take((size_t)count * sizeof(double));
    if (update) {
        fill_uniform(a, r, -1, 1);
    }
    for (int64_t k = 0; k < count; k++) {
        a->scale[k] = size + (update ? (double)absolute(a, k) : 0);
    }
    return a;
}

static double largest(const array *a)
{
    double most = 0;
    for (int64_t k = 0; k < a->count; k++) {
        most = fmax(most, (double)absolute(a, k));
    }
    return most;
}

static dd_dropout some_dropout(random_state *r, int64_t i)
{
    return (dd_dropout){.rate = i % 2 ? 0.1 : 0.5, .seed = random_bits(r), .step = 7, .stream = (uint32_t)i};
}

/* ---- layer norm ---- */

static void layernorm_shape(test_case *c, random_state *r, int64_t i)
{
    dd_op_layernorm *op = (void *)c->args;
    op->rows = i % 20 == 19 ? 0 : i % 10 == 7 ? 150 + random_below(r, 200) : some(r, 60);
    op->d = i % 3 == 0 ? 256 : (int32_t)some(r, i % 9 == 1 ? 1300 : 300);
    if (i % 4 >= 2) {
        op->dropout = some_dropout(r, i);
    }
    snprintf(c->text, sizeof c->text, "rows %lld d %d dropout %g", (long long)op->rows, op->d, op->dropout.rate);
}

/* x, and in two of three cases r; values around `level`. Rows of one element have no variance: their rstd is large. */
static void layernorm_branches(test_case *c, random_state *r, int64_t i, double level)
{
    const dd_op_layernorm *op = (void *)c->args;
    fill_uniform(REAL_IN(dd_op_layernorm, x, op->rows * op->d), r, level - 2, level + 2);
    if (i % 3 != 1) {
        fill_uniform(REAL_IN(dd_op_layernorm, r, op->rows * op->d), r, -1, 1);
    }
}

static bool layernorm_has_branch(int64_t i)
{
    return i % 3 != 1;
}

/* A sum s is rounded to float before it is normalised: that moves y by eps |s| rstd, and rstd by rstd^3 deviation eps |s|. */
static void layernorm_scales(const test_case *c, const array *x, const array *y, const array *rstd)
{
    const dd_op_layernorm *op = (const void *)c->args;
    const array *branch = strcmp(c->array[1].name, "r") == 0 ? &c->array[1] : NULL;
    const double kept = 1 / (1 - op->dropout.rate);
    for (int64_t row = 0; row < op->rows; row++) {
        double most = 0, sum = 0, squares = 0;
        for (int64_t at = row * op->d; at < (row + 1) * op->d; at++) {
            const double s = (double)((const float *)x->values)[at], more = branch ? kept * (double)absolute(branch, at) : 0;
            most = fmax(most, fabs(s) + more);
            sum += s;
            squares += s * s;
        }
        /* without the branch, whose dropout is not known here: it changes the deviation by less than a few times */
        const double mean = sum / op->d, variance = fmax(0, squares / op->d - mean * mean);
        const double factor = (op->d == 1 ? 317 : 2) / sqrt(op->d == 1 ? 1 : variance + 1e-5);
        rstd->scale[row] = op->d == 1 ? 1 : 2 * factor * factor * most;
        for (int64_t at = row * op->d; at < (row + 1) * op->d; at++) {
            y->scale[at] = 2 * (1 + most * factor);
        }
    }
}

void layernorm_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_layernorm *op = (void *)c->args;
    layernorm_shape(c, r, i);
    const double level = i % 5 == 2 ? 50 : 0;
    layernorm_branches(c, r, i, level);
    if (i % 7 != 3) {
        fill_uniform(REAL_IN(dd_op_layernorm, gamma, op->d), r, -2, 2);
        fill_uniform(REAL_IN(dd_op_layernorm, beta, op->d), r, -1, 1);
    }
    const int64_t count = op->rows * op->d;
    if (layernorm_has_branch(i) && i % 2) {
        measured(c, "s", offsetof(dd_op_layernorm, s), count, false, r, 2 * EPS, level + 4);
    }
    const array *y = measured(c, "y", offsetof(dd_op_layernorm, y), count, false, r, 8 * EPS, 0);
    measured(c, "mean", offsetof(dd_op_layernorm, mean), op->rows, false, r, 2 * EPS, level + 4);
    layernorm_scales(c, &c->array[0], y, measured(c, "rstd", offsetof(dd_op_layernorm, rstd), op->rows, false, r, 8 * EPS, 0));
}

void layernorm_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_layernorm *op = (void *)c->args;
    layernorm_shape(c, r, i);
    op->add = (int32_t)(i % 4);
    layernorm_branches(c, r, i, 0);
    const int64_t count = op->rows * op->d;
    if (layernorm_has_branch(i)) {
        fill_uniform(REAL_IN(dd_op_layernorm, s, count), r, -2, 2);
    }
    if (i % 7 != 3) {
        fill_uniform(REAL_IN(dd_op_layernorm, gamma, op->d), r, -2, 2);
    }
    fill_uniform(REAL_IN(dd_op_layernorm, mean, op->rows), r, -1, 1);
    fill_uniform(REAL_IN(dd_op_layernorm, rstd, op->rows), r, 0.1, 2);
    fill_uniform(REAL_IN(dd_op_layernorm, g_y, count), r, -1, 1);
    /* of u, z u z with |u| <= 2, |z| <= 6 */
    if (i % 5 != 4) {
        measured(c, "g_x", offsetof(dd_op_layernorm, g_x), count, op->add & 1, r, 4 * EPS, 150);
    }
    if (layernorm_has_branch(i) && op->dropout.rate > 0) {
        measured(c, "g_r", offsetof(dd_op_layernorm, g_r), count, op->add & 2, r, 4 * EPS, 300);
    }
    if (i % 7 != 3 && i % 6 != 5) {
        measured(c, "g_gamma", offsetof(dd_op_layernorm, g_gamma), op->d, true, r, 2 * EPS, 1);
        measured(c, "g_beta", offsetof(dd_op_layernorm, g_beta), op->d, true, r, 2 * EPS, 1);
    }
}

/* ---- group norm ---- */

static void groupnorm_shape(test_case *c, random_state *r, int64_t i)
{
    dd_op_groupnorm *op = (void *)c->args;
    op->B = 1 + (int32_t)random_below(r, 3);
    op->P = i % 20 == 19 ? 0 : i % 10 == 7 ? 200 + random_below(r, 300) : some(r, 150);
    op->groups = i % 3 ? (int32_t)some(r, 12) : 32;
    op->C = op->groups * (1 + (int32_t)random_below(r, 9));
    op->y_stride = (op->P + (i % 4 == 1 ? 3 : 0)) * op->C;
    snprintf(c->text, sizeof c->text, "B %d P %lld C %d groups %d", op->B, (long long)op->P, op->C, op->groups);
}

static double groupnorm_inputs(test_case *c, random_state *r, int64_t i)
{
    const dd_op_groupnorm *op = (void *)c->args;
    const double level = i % 5 == 2 ? 30 : 0;
    array *x = REAL_IN(dd_op_groupnorm, x, op->B * op->P * op->C);
    fill_uniform(x, r, level - 2, level + 2);
    if (i % 5 == 2 && x->count > 0) {
        ((float *)x->values)[0] = -1000; /* what comes first says little about the rest */
    }
    fill_uniform(REAL_IN(dd_op_groupnorm, gamma, op->C), r, -2, 2);
    return largest(x);
}

void groupnorm_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_groupnorm *op = (void *)c->args;
    groupnorm_shape(c, r, i);
    groupnorm_inputs(c, r, i);
    fill_uniform(REAL_IN(dd_op_groupnorm, beta, op->C), r, -1, 1);
    /* sums and products in double: the results' own rounding, and 1e-16 of what was taken off */
    measured(c, "y", offsetof(dd_op_groupnorm, y), op->B * op->y_stride, false, r, EPS, 2);
    measured(c, "mean", offsetof(dd_op_groupnorm, mean), (int64_t)op->B * op->groups, false, r, EPS, 1e-6);
    measured(c, "rstd", offsetof(dd_op_groupnorm, rstd), (int64_t)op->B * op->groups, false, r, EPS, 1e-2);
}

void groupnorm_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_groupnorm *op = (void *)c->args;
    groupnorm_shape(c, r, i);
    const double most = groupnorm_inputs(c, r, i) + 1;
    op->add = (int32_t)(i % 2);
    fill_uniform(REAL_IN(dd_op_groupnorm, mean, (int64_t)op->B * op->groups), r, -1, 1);
    fill_uniform(REAL_IN(dd_op_groupnorm, rstd, (int64_t)op->B * op->groups), r, 0.1, 2);
    fill_uniform(REAL_IN(dd_op_groupnorm, g_y, op->B * op->y_stride), r, -1, 1);
    if (i % 5 != 4) {
        measured(c, "g_x", offsetof(dd_op_groupnorm, g_x), op->B * op->P * op->C, op->add & 1, r, EPS,
                 1 + 1e-8 * most * most * most);
    }
    if (i % 6 != 5) {
        measured(c, "g_gamma", offsetof(dd_op_groupnorm, g_gamma), op->C, true, r, EPS, 1);
        measured(c, "g_beta", offsetof(dd_op_groupnorm, g_beta), op->C, true, r, EPS, 1);
    }
}

/* ---- elements ---- */

void dropout_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_dropout *op = (void *)c->args;
    op->count = i % 20 == 19 ? 0 : i % 5 == 2 ? 8000 + random_below(r, 9000) : some(r, 3000);
    if (i % 6 != 5) {
        op->dropout = some_dropout(r, i);
    }
    fill_values(REAL_IN(dd_op_dropout, x, op->count), r, profile_of(i) == HUGE_VALUES ? ORDINARY : profile_of(i));
    allow(REAL_OUT(dd_op_dropout, y, op->count), 2 * EPS, 0);
    snprintf(c->text, sizeof c->text, "count %lld rate %g", (long long)op->count, op->dropout.rate);
}

void add_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_add *op = (void *)c->args;
    c->exact = true;
    op->period = some(r, 600);
    op->count = i % 20 == 19 ? 0 : op->period * (i % 5 == 2 ? 1 : some(r, i % 5 == 3 ? 100 : 9));
    fill_values(REAL_IN(dd_op_add, a, op->count), r, profile_of(i));
    fill_values(REAL_IN(dd_op_add, b, op->period), r, profile_of(i));
    REAL_OUT(dd_op_add, y, op->count);
    snprintf(c->text, sizeof c->text, "count %lld period %lld", (long long)op->count, (long long)op->period);
}

void product_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_product *op = (void *)c->args;
    c->exact = true;
    op->count = i % 20 == 19 ? 0 : some(r, 9000);
    fill_values(REAL_IN(dd_op_product, a, op->count), r, profile_of(i));
    fill_values(REAL_IN(dd_op_product, b, op->count), r, profile_of(i + 1));
    REAL_OUT(dd_op_product, y, op->count);
    snprintf(c->text, sizeof c->text, "count %lld", (long long)op->count);
}

void product_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_product *op = (void *)c->args;
    op->count = i % 20 == 19 ? 0 : some(r, 9000);
    op->add = (int32_t)(i % 4);
    fill_values(REAL_IN(dd_op_product, a, op->count), r, i % 3 ? ORDINARY : DENORMAL);
    fill_values(REAL_IN(dd_op_product, b, op->count), r, ORDINARY);
    fill_uniform(REAL_IN(dd_op_product, g_y, op->count), r, -1, 1);
    if (i % 5 != 3) {
        measured(c, "g_a", offsetof(dd_op_product, g_a), op->count, op->add & 1, r, EPS, 0)->by_value = 2 * EPS;
    }
    if (i % 5 != 4) {
        measured(c, "g_b", offsetof(dd_op_product, g_b), op->count, op->add & 2, r, EPS, 0)->by_value = 2 * EPS;
    }
    snprintf(c->text, sizeof c->text, "count %lld add %d", (long long)op->count, op->add);
}

/* i % 5: 0, 1 strides with gaps; 2 a sum over rows; 3 over both; 4 over the outer dimension. */
void copy_rows_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_copy_rows *op = (void *)c->args;
    const int64_t gap = i % 3 == 1 ? 3 : 0;
    op->outer = i % 20 == 19 ? 0 : some(r, 6);
    op->rows = some(r, i % 10 == 6 ? 300 : 40);
    op->width = some(r, 300);
    op->add = i % 5 >= 2 ? 1 : (int32_t)(i / 5 % 2);
    op->src_row = i % 7 == 3 ? 0 : op->width + gap;
    op->src_outer = i % 8 == 5 ? 0 : (op->width + gap) * op->rows + gap;
    op->dst_row = i % 5 == 2 || i % 5 == 3 ? 0 : op->width + 2 * gap;
    op->dst_outer = i % 5 == 4 || i % 5 == 3 ? 0 : (op->width + 2 * gap) * op->rows + 1;
    array *src = REAL_IN(dd_op_copy_rows, src, op->outer * ((op->width + gap) * op->rows + gap) + 1);
    fill_values(src, r, ORDINARY);
    array *dst = add(c, "dst", offsetof(dd_op_copy_rows, dst), REALS, UPDATED, 0,
                     op->outer * ((op->width + 2 * gap) * op->rows + 1) + op->width);
    fill_values(dst, r, ORDINARY);
    c->exact = op->dst_row > 0 && op->dst_outer > 0;
    if (!c->exact) {
        allow(dst, 2 * EPS, 0);
    }
    snprintf(c->text, sizeof c->text, "%lld x %lld x %lld from (%lld, %lld) to (%lld, %lld) add %d", (long long)op->outer,
             (long long)op->rows, (long long)op->width, (long long)op->src_outer, (long long)op->src_row,
             (long long)op->dst_outer, (long long)op->dst_row, op->add);
}

void mask_rows_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_mask_rows *op = (void *)c->args;
    c->exact = true;
    op->rows = i % 20 == 19 ? 0 : some(r, 150);
    op->d = i % 15 == 14 ? 0 : (int32_t)some(r, 300);
    fill_values(REAL_IN(dd_op_mask_rows, x, op->rows * op->d), r, profile_of(i));
    array *mask = BYTES_IN(dd_op_mask_rows, mask, 1, op->rows);
    for (int64_t k = 0; k < op->rows; k++) {
        ((uint8_t *)mask->values)[k] = random_below(r, 3) ? 0 : (uint8_t)(1 + random_below(r, 255));
    }
    REAL_OUT(dd_op_mask_rows, y, op->rows * op->d);
    snprintf(c->text, sizeof c->text, "rows %lld d %d", (long long)op->rows, op->d);
}

void relu_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_relu *op = (void *)c->args;
    c->exact = true;
    op->count = i % 20 == 19 ? 0 : some(r, 9000);
    fill_values(REAL_IN(dd_op_relu, x, op->count), r, profile_of(i));
    REAL_OUT(dd_op_relu, y, op->count);
    snprintf(c->text, sizeof c->text, "count %lld", (long long)op->count);
}

void relu_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_relu *op = (void *)c->args;
    op->count = i % 20 == 19 ? 0 : some(r, 9000);
    op->add = (int32_t)(i % 2);
    array *y = REAL_IN(dd_op_relu, y, op->count);
    fill_values(y, r, i % 3 ? ORDINARY : DENORMAL);
    for (int64_t k = 0; k < op->count; k += 1 + (int64_t)some(r, 4)) {
        ((float *)y->values)[k] = 0;
    }
    fill_uniform(REAL_IN(dd_op_relu, g_y, op->count), r, -1, 1);
    measured(c, "g_x", offsetof(dd_op_relu, g_x), op->count, op->add, r, EPS, 0)->by_value = 2 * EPS;
    snprintf(c->text, sizeof c->text, "count %lld add %d", (long long)op->count, op->add);
}

void sigmoid_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_sigmoid *op = (void *)c->args;
    op->count = i % 20 == 19 ? 0 : some(r, 9000);
    array *x = REAL_IN(dd_op_sigmoid, x, op->count);
    fill_values(x, r, profile_of(i));
    for (int64_t k = 0; i % 5 == 3 && k < op->count; k += 3) {
        ((float *)x->values)[k] = k % 2 ? INFINITY : -INFINITY;
    }
    allow(REAL_OUT(dd_op_sigmoid, y, op->count), 6 * EPS, 0);
    snprintf(c->text, sizeof c->text, "count %lld", (long long)op->count);
}

void sigmoid_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_sigmoid *op = (void *)c->args;
    op->count = i % 20 == 19 ? 0 : some(r, 9000);
    op->add = (int32_t)(i % 2);
    array *y = REAL_IN(dd_op_sigmoid, y, op->count), *g_y = REAL_IN(dd_op_sigmoid, g_y, op->count);
    fill_uniform(y, r, 0, 1);
    fill_values(g_y, r, i % 3 ? ORDINARY : DENORMAL);
    for (int64_t k = 0; i % 5 == 3 && k < op->count; k += 3) {
        ((float *)y->values)[k] = k % 2 ? 1 : 0;
    }
    measured(c, "g_x", offsetof(dd_op_sigmoid, g_x), op->count, op->add, r, EPS, 0)->by_value = 4 * EPS;
    snprintf(c->text, sizeof c->text, "count %lld add %d", (long long)op->count, op->add);
}

/* ---- largest of windows ---- */

static void maxpool_inputs(test_case *c, random_state *r, int64_t i)
{
    dd_op_maxpool *op = (void *)c->args;
    op->B = i % 20 == 19 ? 0 : 1 + (int32_t)random_below(r, 2);
    op->kernel = i % 4 == 3 ? 1 + (int32_t)random_below(r, 4) : 3;
    op->stride = i % 4 == 2 ? 1 + (int32_t)random_below(r, 3) : 2;
    op->pad = (int32_t)random_below(r, op->kernel / 2 + 1);
    op->H = op->kernel + (int32_t)some(r, 15);
    op->W = op->kernel + (int32_t)some(r, 15);
    op->C = (int32_t)some(r, 70);
    op->OH = (op->H + 2 * op->pad - op->kernel) / op->stride + 1;
    op->OW = (op->W + 2 * op->pad - op->kernel) / op->stride + 1;
    fill_values(REAL_IN(dd_op_maxpool, x, (int64_t)op->B * op->H * op->W * op->C), r, profile_of(i));
    snprintf(c->text, sizeof c->text, "B %d %d x %d x %d kernel %d stride %d pad %d", op->B, op->H, op->W, op->C, op->kernel,
             op->stride, op->pad);
}

void maxpool_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_maxpool *op = (void *)c->args;
    c->exact = true;
    maxpool_inputs(c, r, i);
    REAL_OUT(dd_op_maxpool, y, (int64_t)op->B * op->OH * op->OW * op->C);
}

void maxpool_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_maxpool *op = (void *)c->args;
    c->exact = true;
    maxpool_inputs(c, r, i);
    op->add = (int32_t)(i / 2 % 2);
    fill_values(REAL_IN(dd_op_maxpool, g_y, (int64_t)op->B * op->OH * op->OW * op->C), r, ORDINARY);
    array *g_x = add(c, "g_x", offsetof(dd_op_maxpool, g_x), REALS, UPDATED, 0, (int64_t)op->B * op->H * op->W * op->C);
    fill_values(g_x, r, ORDINARY);
}

/* ---- optimiser ---- */

void adamw_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_adamw *op = (void *)c->args;
    op->count = i % 20 == 19 ? 0 : i % 5 == 2 ? 8000 + random_below(r, 9000) : some(r, 3000);
    op->rate = i % 3 ? 2e-4 : 0.05;
    op->decay = i % 4 ? 1e-4 : 0;
    op->beta1 = 0.9;
    op->beta2 = 0.999;
    op->eps = 1e-8;
    const double step = (double)(1 + random_below(r, 1000));
    op->correction1 = 1 - pow(op->beta1, step);
    op->correction2 = 1 - pow(op->beta2, step);
    op->grad_scale = i % 2 ? 1 : 0.03;
    array *g = REAL_IN(dd_op_adamw, g, op->count);
    fill_values(g, r, i % 6 == 5 ? DENORMAL : ORDINARY);
    array *w = measured(c, "w", offsetof(dd_op_adamw, w), op->count, true, r, 2 * EPS, 0);
    array *m = measured(c, "m", offsetof(dd_op_adamw, m), op->count, true, r, 2 * EPS, 0);
    array *v = measured(c, "v", offsetof(dd_op_adamw, v), op->count, true, r, 2 * EPS, 0);
    for (int64_t k = 0; k < op->count; k++) {
        const double slope = (double)absolute(g, k) * op->grad_scale, before = (double)absolute(v, k);
        ((float *)v->values)[k] = (float)before;
        const double square = op->beta2 * before + (1 - op->beta2) * slope * slope;
        m->scale[k] += slope;
        v->scale[k] += square;
        /* 8 roundings of the step, which may be of m's two terms */
        w->scale[k] +=
            8 * op->rate / op->correction1 * ((double)absolute(m, k) + slope) / (sqrt(square / op->correction2) + op->eps);
    }
    snprintf(c->text, sizeof c->text, "count %lld", (long long)op->count);
}

void sum_squares_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_sum_squares *op = (void *)c->args;
    op->count = i % 20 == 19 ? 0 : i % 5 == 2 ? 8000 + random_below(r, 20000) : some(r, 3000);
    fill_values(REAL_IN(dd_op_sum_squares, x, op->count), r, profile_of(i) == HUGE_VALUES ? ORDINARY : profile_of(i));
    allow(add(c, "sum", offsetof(dd_op_sum_squares, sum), DOUBLES, OUTPUT, 0, 1), 1e-12, 0);
    snprintf(c->text, sizeof c->text, "count %lld", (long long)op->count);
}

void average_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_average *op = (void *)c->args;
    op->count = i % 20 == 19 ? 0 : i % 5 == 2 ? 8000 + random_below(r, 9000) : some(r, 3000);
    op->decay = i % 3 ? 0.9998 : 0.5;
    array *x = REAL_IN(dd_op_average, x, op->count);
    fill_values(x, r, i % 6 == 5 ? DENORMAL : ORDINARY);
    array *y = measured(c, "y", offsetof(dd_op_average, y), op->count, true, r, 2 * EPS, 0);
    for (int64_t k = 0; k < op->count; k++) {
        y->scale[k] += (1 - op->decay) * (double)absolute(x, k);
    }
    snprintf(c->text, sizeof c->text, "count %lld", (long long)op->count);
}
