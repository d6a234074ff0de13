/* SPDX-License-Identifier: Apache-2.0
 * Cases of linear layers and convolutions: gaps between rows, windows that hang over every edge, strides that skip, maps
 * smaller than the kernel. Allowed: eps (4 + sqrt(terms)) times the sum of the terms' sizes. */
#include "dense_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* An output whose scale the caller adds up. */
static array *sum_of_terms(test_case *c, const char *name, size_t offset, int64_t count, bool update, random_state *r)
{
    array *a = allow(add(c, name, offset, REALS, update ? UPDATED : OUTPUT, 0, count), 2 * EPS, EPS);
    a->scale = take((size_t)count * sizeof(double));
    if (update) {
        fill_uniform(a, r, -1, 1);
    }
    return a;
}

/* Of `terms` products each; what was there and what is added at the end are rounded, too. With bf16 a factor below 2^-126 may
 * count as 0; the other one is below 16 (two below 4, or a scaled one). */
static void finish_scale(const array *a, double terms, int32_t compute)
{
    const double lost = compute == DD_COMPUTE_BF16 ? terms * 16 * 0x1p-126 / EPS : 0;
    for (int64_t k = 0; a && k < a->count; k++) {
        a->scale[k] = a->scale[k] * (4 + sqrt(terms)) + 4 * (double)(a->use == UPDATED ? absolute(a, k) : 0) + lost;
    }
}

/* Gradients of outputs, which the kernel may mask. */
static array *gradient_in(test_case *c, size_t offset, int64_t count, bool masked, random_state *r)
{
    array *g = add(c, "g_y", offset, REALS, masked ? UPDATED : INPUT, 0, count);
    fill_uniform(g, r, -1, 1);
    return masked ? allow(g, EPS, 0) : g;
}

static int values_of(int64_t i)
{
    return i % 8 == 6 ? DENORMAL : i % 8 == 3 ? STEEP : ORDINARY;
}

/* ---- linear ---- */

static array *linear_inputs(test_case *c, random_state *r, int64_t i, array **w)
{
    dd_op_linear *op = (void *)c->args;
    op->rows = i % 20 == 19 ? 0 : i % 10 == 7 ? 1000 + random_below(r, 1500) : some(r, 400);
    op->K = i % 16 == 15 ? 0 : (int32_t)some(r, i % 10 == 7 ? 24 : i % 10 == 4 ? 700 : 150);
    op->N = (int32_t)some(r, i % 10 == 7 ? 24 : i % 10 == 4 ? 30 : 150);
    op->ldx = op->K + (i % 4 == 1 ? 3 : 0);
    op->ldy = op->N + (i % 4 == 2 ? 5 : 0);
    op->relu = (int32_t)(i / 2 % 2);
    op->compute = (i + i / 10) % 5 < 3 ? DD_COMPUTE_BF16 : DD_COMPUTE_FULL;
    array *x = REAL_IN(dd_op_linear, x, op->rows * op->ldx);
    fill_values(x, r, values_of(i));
    *w = REAL_IN(dd_op_linear, w, (int64_t)op->N * op->K);
    fill_values(*w, r, ORDINARY);
    snprintf(c->text, sizeof c->text, "rows %lld (%lld, %lld) K %d N %d relu %d compute %d", (long long)op->rows,
             (long long)op->ldx, (long long)op->ldy, op->K, op->N, op->relu, op->compute);
    return x;
}

void linear_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_linear *op = (void *)c->args;
    array *w, *x = linear_inputs(c, r, i, &w), *bias = NULL;
    if (i % 3) {
        bias = REAL_IN(dd_op_linear, bias, op->N);
        fill_values(bias, r, ORDINARY);
    }
    array *y = sum_of_terms(c, "y", offsetof(dd_op_linear, y), op->rows * op->ldy, false, r);
    for (int64_t at = 0; at < op->rows * op->N; at++) {
        const int64_t row = at / op->N, n = at % op->N;
        for (int64_t k = 0; k < op->K; k++) {
            y->scale[row * op->ldy + n] += (double)absolute(x, row * op->ldx + k) * (double)absolute(w, n * op->K + k);
        }
        y->scale[row * op->ldy + n] += bias ? (double)absolute(bias, n) : 0;
    }
    finish_scale(y, op->K, op->compute);
}

void linear_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_linear *op = (void *)c->args;
    array *w, *x = linear_inputs(c, r, i, &w), *g_x = NULL, *g_w = NULL, *g_bias = NULL;
    op->add = (int32_t)(i / 3 % 2);
    if (op->relu) {
        fill_uniform(REAL_IN(dd_op_linear, y, op->rows * op->ldy), r, -1, 1);
    }
    array *g = gradient_in(c, offsetof(dd_op_linear, g_y), op->rows * op->ldy, op->relu != 0, r);
    if (i % 5 != 3) {
        g_x = sum_of_terms(c, "g_x", offsetof(dd_op_linear, g_x), op->rows * op->ldx, op->add & 1, r);
    }
    if (i % 5 != 4) {
        g_w = sum_of_terms(c, "g_w", offsetof(dd_op_linear, g_w), w->count, true, r);
    }
    if (i % 4 != 3) {
        g_bias = sum_of_terms(c, "g_bias", offsetof(dd_op_linear, g_bias), op->N, true, r);
    }
    for (int64_t at = 0; at < op->rows * op->N; at++) {
        const int64_t row = at / op->N, n = at % op->N;
        const double slope = (double)absolute(g, row * op->ldy + n);
        for (int64_t k = 0; k < op->K; k++) {
            if (g_x) {
                g_x->scale[row * op->ldx + k] += slope * (double)absolute(w, n * op->K + k);
            }
            if (g_w) {
                g_w->scale[n * op->K + k] += slope * (double)absolute(x, row * op->ldx + k);
            }
        }
        if (g_bias) {
            g_bias->scale[n] += slope;
        }
    }
    finish_scale(g_x, op->N, op->compute);
    finish_scale(g_w, (double)op->rows, op->compute);
    finish_scale(g_bias, (double)op->rows, op->compute);
}

/* ---- convolution ---- */

static int32_t conv_size(int32_t size, const dd_op_conv *op)
{
    const int32_t room = size + 2 * op->pad - op->kernel;
    return room < 0 ? 0 : room / op->stride + 1;
}

static void conv_shape(dd_op_conv *op, random_state *r, int64_t i)
{
    static const int32_t kernel[] = {1, 3, 3, 1, 2, 3, 7, 5};
    const bool long_map = i % 10 == 7;
    op->B = i % 20 == 19 ? 0 : 1 + (int32_t)random_below(r, 2);
    op->kernel = kernel[i % 8];
    op->stride = 1 + (int32_t)(i / 2 % 3);
    op->pad = (int32_t)random_below(r, op->kernel);
    op->H = (int32_t)some(r, long_map ? 40 : 12);
    op->W = long_map ? 40 : (int32_t)some(r, 12);
    op->Cin = (int32_t)some(r, long_map ? 6 : i % 9 == 5 ? 300 : 35);
    op->compute = (i + i / 10) % 5 < 3 ? DD_COMPUTE_BF16 : DD_COMPUTE_FULL;
    op->Cin += op->compute == DD_COMPUTE_BF16 && i % 4 ? 17 : 0; /* few channels take another way */
    op->Cout = (int32_t)some(r, long_map ? 12 : i % 9 == 5 ? 10 : 40);
    op->OH = conv_size(op->H, op);
    op->OW = conv_size(op->W, op);
    op->relu = (int32_t)(i / 3 % 2);
}

static array *conv_inputs(test_case *c, random_state *r, int64_t i, array **w, array **scale)
{
    dd_op_conv *op = (void *)c->args;
    conv_shape(op, r, i);
    array *x = REAL_IN(dd_op_conv, x, (int64_t)op->B * op->H * op->W * op->Cin);
    fill_values(x, r, values_of(i));
    *w = REAL_IN(dd_op_conv, w, (int64_t)op->Cout * op->Cin * op->kernel * op->kernel);
    fill_values(*w, r, ORDINARY);
    *scale = NULL;
    if (i % 4 != 1) {
        *scale = REAL_IN(dd_op_conv, scale, op->Cout);
        for (int64_t k = 0; k < op->Cout; k++) {
            /* with bf16 a power of two: a product that is rounded to float first may round to another bf16 */
            ((float *)(*scale)->values)[k] =
                op->compute == DD_COMPUTE_BF16 ? 0.25f * (float)(1 << random_below(r, 4)) : (float)uniform(r, -2, 2);
        }
    }
    snprintf(c->text, sizeof c->text, "B %d %d x %d, %d to %d, kernel %d stride %d pad %d relu %d compute %d", op->B, op->H,
             op->W, op->Cin, op->Cout, op->kernel, op->stride, op->pad, op->relu, op->compute);
    return x;
}

/* A product of input `in`, weight `w` (of output channel o) and output `out`. */
typedef struct conv_term {
    int64_t in, w, out, o;
} conv_term;

/* Number `at` of all terms; false: it reads outside. */
static bool conv_term_of(const dd_op_conv *op, int64_t at, conv_term *t)
{
    const int64_t kw = at % op->kernel, kh = at / op->kernel % op->kernel, rest = at / op->kernel / op->kernel;
    const int64_t c = rest % op->Cin, o = rest / op->Cin % op->Cout, cell = rest / op->Cin / op->Cout;
    const int64_t h = cell / op->OW % op->OH * op->stride - op->pad + kh, w = cell % op->OW * op->stride - op->pad + kw;
    const int64_t b = cell / op->OW / op->OH;
    *t = (conv_term){((b * op->H + h) * op->W + w) * op->Cin + c, ((o * op->Cin + c) * op->kernel + kh) * op->kernel + kw,
                     cell * op->Cout + o, o};
    return h >= 0 && h < op->H && w >= 0 && w < op->W;
}

static int64_t conv_terms(const dd_op_conv *op)
{
    return (int64_t)op->B * op->OH * op->OW * op->Cout * op->Cin * op->kernel * op->kernel;
}

void conv_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_conv *op = (void *)c->args;
    array *w, *scale, *x = conv_inputs(c, r, i, &w, &scale), *shift = NULL, *residual = NULL;
    const int64_t outputs = (int64_t)op->B * op->OH * op->OW * op->Cout;
    if (i % 3) {
        shift = REAL_IN(dd_op_conv, shift, op->Cout);
        fill_values(shift, r, ORDINARY);
    }
    if (i % 4 >= 2) {
        residual = REAL_IN(dd_op_conv, residual, outputs);
        fill_values(residual, r, ORDINARY);
    }
    array *y = sum_of_terms(c, "y", offsetof(dd_op_conv, y), outputs, false, r);
    conv_term t;
    for (int64_t at = 0; at < conv_terms(op); at++) {
        if (conv_term_of(op, at, &t)) {
            y->scale[t.out] +=
                (double)absolute(x, t.in) * (double)absolute(w, t.w) * (scale ? (double)absolute(scale, t.o) : 1);
        }
    }
    for (int64_t k = 0; k < outputs; k++) {
        y->scale[k] += (shift ? (double)absolute(shift, k % op->Cout) : 0) + (residual ? (double)absolute(residual, k) : 0);
    }
    finish_scale(y, (double)op->Cin * op->kernel * op->kernel, op->compute);
}

typedef struct conv_out {
    array *g_x, *g_w, *g_scale, *g_shift;
} conv_out;

static void conv_grad_scales(const dd_op_conv *op, const array *x, const array *w, const array *scale, const array *g,
                             const conv_out *out)
{
    conv_term t;
    for (int64_t at = 0; at < conv_terms(op); at++) {
        if (!conv_term_of(op, at, &t)) {
            continue;
        }
        const double slope = (double)absolute(g, t.out), factor = scale ? (double)absolute(scale, t.o) : 1;
        const double by_weight = slope * (double)absolute(x, t.in);
        if (out->g_x) {
            out->g_x->scale[t.in] += slope * (double)absolute(w, t.w) * factor;
        }
        if (out->g_w) {
            out->g_w->scale[t.w] += by_weight * factor;
        }
        if (out->g_scale) {
            out->g_scale->scale[t.o] += by_weight * (double)absolute(w, t.w);
        }
    }
    for (int64_t k = 0; out->g_shift && k < g->count; k++) {
        out->g_shift->scale[k % op->Cout] += (double)absolute(g, k);
    }
}

void conv_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_conv *op = (void *)c->args;
    array *w, *scale, *x = conv_inputs(c, r, i, &w, &scale);
    conv_out out = {NULL, NULL, NULL, NULL};
    const int64_t outputs = (int64_t)op->B * op->OH * op->OW * op->Cout;
    op->add = (int32_t)(i / 5 % 2);
    if (op->relu) {
        fill_uniform(REAL_IN(dd_op_conv, y, outputs), r, -1, 1);
    }
    array *g = gradient_in(c, offsetof(dd_op_conv, g_y), outputs, op->relu != 0, r);
    if (i % 5 != 3) {
        out.g_x = sum_of_terms(c, "g_x", offsetof(dd_op_conv, g_x), x->count, op->add & 1, r);
    }
    if (i % 5 != 4) {
        out.g_w = sum_of_terms(c, "g_w", offsetof(dd_op_conv, g_w), w->count, true, r);
    }
    if (i % 3 == 1) {
        out.g_scale = sum_of_terms(c, "g_scale", offsetof(dd_op_conv, g_scale), op->Cout, true, r);
    }
    if (i % 3 != 2) {
        out.g_shift = sum_of_terms(c, "g_shift", offsetof(dd_op_conv, g_shift), op->Cout, true, r);
    }
    conv_grad_scales(op, x, w, scale, g, &out);
    const double cells = (double)op->B * op->OH * op->OW;
    finish_scale(out.g_x, (double)op->Cout * op->kernel * op->kernel, op->compute);
    finish_scale(out.g_w, cells, op->compute);
    finish_scale(out.g_scale, cells, op->compute);
    finish_scale(out.g_shift, cells, op->compute);
}
