/* SPDX-License-Identifier: Apache-2.0
 * Cases of AdaMixer's operators: boxes apart, inside each other and without end; points on borders of cells and far outside;
 * groups of one number, and as large as in the model. */
#include "mixing_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* An output, or what is added to; `size` times by_scale is allowed. */
static array *measured(test_case *c, const char *name, size_t offset, int64_t count, bool update, random_state *r,
                       double by_scale, double size)
{
    array *a = allow(add(c, name, offset, REALS, update ? UPDATED : OUTPUT, 0, count), 2 * EPS, by_scale);
    a->scale = take((size_t)count * sizeof(double));
    if (update) {
        fill_uniform(a, r, -1, 1);
    }
    for (int64_t k = 0; k < count; k++) {
        a->scale[k] = size;
    }
    return a;
}

/* ---- overlap ---- */

/* Centres in an image of 64 pixels, boxes from a fraction of a pixel on; some far away, some larger than any float. */
static void fill_positions(array *a, random_state *r, int64_t i)
{
    for (int64_t k = 0; k < a->count; k += 4) {
        float *p = (float *)a->values + k;
        p[0] = (float)uniform(r, -10, 74);
        p[1] = (float)uniform(r, -10, 74);
        p[2] = (float)uniform(r, i % 3 == 1 ? -1 : 2, 6);
        p[3] = (float)uniform(r, -2, 2);
        if (i % 5 == 3 && random_below(r, 3) == 0) {
            p[0] = random_bits(r) & 1 ? 1e6f : -3e5f;
            p[2] = random_bits(r) & 1 ? 200 : 40;
        }
    }
}

static void iof_shape(test_case *c, random_state *r, int64_t i)
{
    dd_op_iof_bias *op = (void *)c->args;
    op->B = 1 + (int32_t)random_below(r, 3);
    op->N = i % 20 == 19 ? 0 : (int32_t)some(r, 60);
    op->M = 1 + (int32_t)random_below(r, 8);
    snprintf(c->text, sizeof c->text, "B %d N %d M %d", op->B, op->N, op->M);
}

void iof_bias_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_iof_bias *op = (void *)c->args;
    iof_shape(c, r, i);
    const int64_t cells = (int64_t)op->B * op->N * op->N;
    fill_positions(REAL_IN(dd_op_iof_bias, position, (int64_t)op->B * op->N * 4), r, i);
    fill_uniform(REAL_IN(dd_op_iof_bias, tau, op->M), r, 0, 4);
    /* the logarithm's argument is rounded to float once */
    if (i % 4) {
        measured(c, "overlap", offsetof(dd_op_iof_bias, overlap), cells, false, r, 4 * EPS, 1);
    }
    measured(c, "y", offsetof(dd_op_iof_bias, y), op->M * cells, false, r, 4 * EPS, 4)->by_value = 4 * EPS;
}

void iof_bias_grad_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_iof_bias *op = (void *)c->args;
    iof_shape(c, r, i);
    const int64_t cells = (int64_t)op->B * op->N * op->N;
    fill_uniform(REAL_IN(dd_op_iof_bias, overlap, cells), r, -16, 0);
    fill_uniform(REAL_IN(dd_op_iof_bias, g_y, op->M * cells), r, -1, 1);
    measured(c, "g_tau", offsetof(dd_op_iof_bias, g_tau), op->M, true, r, EPS, 1);
}

/* ---- sampling ---- */

static void sample3d_shape(dd_op_sample3d *op, random_state *r, int64_t i)
{
    op->B = 1 + (int32_t)random_below(r, 2);
    op->N = i % 19 == 18 ? 0 : (int32_t)some(r, 12);
    op->G = 1 + (int32_t)random_below(r, 4);
    op->D = i % 3 ? (int32_t)some(r, 140) : 64;
    op->L = i % 3 ? 1 + (int32_t)random_below(r, i % 7 == 6 ? 8 : 4) : 4;
    op->P = i % 3 ? (int32_t)some(r, 36) : 32;
    op->tau = i % 4 ? 2 : 1.5;
    op->S = 0;
    for (int32_t l = 0; l < op->L; l++) {
        op->stride[l] = 4 << l;
        op->height[l] = 1 + (int32_t)random_below(r, 16 >> (l < 4 ? l : 4));
        op->width[l] = 1 + (int32_t)random_below(r, 18 >> (l < 4 ? l : 4));
        op->S += (int64_t)op->height[l] * op->width[l];
    }
}

/* Offsets by the box; i % 8 == 3: every number that makes up a location is exact, and many lie on borders of cells. */
static void sample3d_inputs(test_case *c, random_state *r, int64_t i, bool forward)
{
    dd_op_sample3d *op = (void *)c->args;
    sample3d_shape(op, r, i);
    const int64_t queries = (int64_t)op->B * op->N;
    fill_uniform(REAL_IN(dd_op_sample3d, value, op->B * op->S * op->G * op->D), r, -1, 1);
    array *off = REAL_IN(dd_op_sample3d, off, queries * op->G * op->P * 3);
    array *position = REAL_IN(dd_op_sample3d, position, queries * 4);
    fill_uniform(off, r, -1, 1);
    fill_positions(position, r, forward ? i : i % 5 == 3 ? 1 : i);
    for (int64_t k = 0; k < position->count && i % 8 == 3; k++) {
        static const int exact[] = {32, 24, 4, 0};
        ((float *)position->values)[k] = (float)exact[k % 4];
    }
    for (int64_t k = 0; k < off->count; k++) {
        float *x = (float *)off->values + k;
        if (i % 8 == 3) {
            *x = (float)(random_below(r, 17) - 8) / 8;
        } else if (i % 5 == 4 && random_below(r, 8) == 0) {
            static const float far[] = {1e3f, -1e3f, 1e9f, -1e30f, 3e38f};
            *x = k % 3 < 2 ? far[random_below(r, 5)] : (float)uniform(r, -20, 20);
        }
    }
    snprintf(c->text, sizeof c->text, "B %d N %d G %d D %d L %d P %d first level %d x %d", op->B, op->N, op->G, op->D, op->L,
             op->P, op->height[0], op->width[0]);
}

void sample3d_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_sample3d *op = (void *)c->args;
    sample3d_inputs(c, r, i, true);
    measured(c, "y", offsetof(dd_op_sample3d, y), (int64_t)op->B * op->N * op->G * op->P * op->D, false, r,
             (24 + 4 * op->L) * EPS, 1);
}

/* The slope by an offset in x or y is that by a cell, times the box's side in cells. */
static void sample3d_offset_scales(const dd_op_sample3d *op, const array *position, array *g_off)
{
    for (int64_t k = 0; k < g_off->count; k++) {
        const float *p = (const float *)position->values + k / 3 / op->P / op->G * 4;
        const double side = exp2((double)p[2] + (k % 3 == 1 ? 0.5 : -0.5) * (double)p[3]) / 4;
        g_off->scale[k] = 2 * sqrt(op->D) * (k % 3 == 2 ? 8 : side);
    }
}

void sample3d_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_sample3d *op = (void *)c->args;
    sample3d_inputs(c, r, i, false);
    const int64_t points = (int64_t)op->B * op->N * op->G * op->P;
    const array *position = &c->array[2];
    op->add = (int32_t)(i % 4);
    fill_uniform(REAL_IN(dd_op_sample3d, g_y, points * op->D), r, -1, 1);
    /* A point gives a value no more than its gradient. */
    if (i % 6 != 5) {
        const double additions = op->add & 1 ? 4.0 * op->N * op->P : 0;
        measured(c, "g_value", offsetof(dd_op_sample3d, g_value), c->array[0].count, op->add & 1, r,
                 (24 + 2.0 * op->N * op->P) * EPS, 1)
            ->floor = additions * EPS;
    }
    sample3d_offset_scales(
        op, position,
        measured(c, "g_off", offsetof(dd_op_sample3d, g_off), points * 3, op->add & 2, r, (24 + 2 * op->L) * EPS, 0));
}

/* ---- adaptive mixing ---- */

static void mixing_shape(test_case *c, random_state *r, int64_t i)
{
    dd_op_mixing *op = (void *)c->args;
    op->rows = i % 20 == 19 ? 0 : some(r, i % 3 ? 6 : 2);
    op->G = 1 + (int32_t)random_below(r, 4);
    op->in = i % 3 ? (int32_t)some(r, 40) : 32;
    op->out = i % 3 ? (int32_t)some(r, 70) : 128;
    op->c = i % 3 ? (int32_t)some(r, 80) : 64;
    snprintf(c->text, sizeof c->text, "rows %lld G %d in %d out %d c %d", (long long)op->rows, op->G, op->in, op->out, op->c);
}

/* Multiples of 1/8 for x and A: their product is exact, so that every kernel lets the same numbers through the first ReLU. */
static void mixing_inputs(test_case *c, random_state *r, double level)
{
    const dd_op_mixing *op = (void *)c->args;
    const int64_t square = (int64_t)op->c * op->c, each = square + (int64_t)op->out * op->in;
    array *x = REAL_IN(dd_op_mixing, x, op->rows * op->G * op->in * op->c);
    array *params = REAL_IN(dd_op_mixing, params, op->rows * op->G * each);
    fill_uniform(params, r, -1, 1);
    for (int64_t k = 0; k < x->count; k++) {
        ((float *)x->values)[k] = (float)(level + (double)(random_below(r, 17) - 8) / 8);
    }
    for (int64_t k = 0; k < params->count; k++) {
        if (k % each < square) {
            ((float *)params->values)[k] = (float)(random_below(r, 17) - 8) / 8;
        }
    }
}

/* A group's matrices, normalised by `stats`, in double: [in,c], [out,c]. */
static void mixing_matrices(const test_case *c, int64_t at, const float *stats, double *first, double *second)
{
    const dd_op_mixing *op = (const void *)c->args;
    const int64_t w = op->c, in = op->in;
    const float *x = (const float *)c->array[0].values + at * in * w;
    const float *a = (const float *)c->array[1].values + at * (w * w + op->out * in), *b = a + w * w;
    for (int64_t k = 0; k < in * w; k++) {
        double sum = 0;
        for (int64_t i = 0; i < w; i++) {
            sum += (double)x[k / w * w + i] * (double)a[i * w + k % w];
        }
        first[k] = (sum - (double)stats[0]) * (double)stats[1];
    }
    for (int64_t k = 0; k < op->out * w; k++) {
        double sum = 0;
        for (int64_t p = 0; p < in; p++) {
            sum += (double)b[k / w * in + p] * fmax(0, first[p * w + k % w]);
        }
        second[k] = (sum - (double)stats[2]) * (double)stats[3];
    }
}

/* Largest entry and root of the mean square. */
typedef struct extent {
    double most, typical;
} extent;

static extent extent_of(const double *x, int64_t count)
{
    extent e = {0, 0};
    for (int64_t k = 0; k < count; k++) {
        e.most = fmax(e.most, fabs(x[k]));
        e.typical += x[k] * x[k] / (double)count;
    }
    e.typical = sqrt(e.typical);
    return e;
}

/* What the reference finds in float. */
static float *mixing_stats(const test_case *forward)
{
    const dd_op_mixing *op = (const void *)forward->args;
    const int64_t count = 4 * op->rows * op->G;
    results out;
    float *stats = take((size_t)count * sizeof *stats);
    if (run_kernel(reference_kernel(DD_OPERATOR_mixing, DD_F32)->run, forward, DD_F32, NULL, 1, ALIGNED, &out)) {
        abort();
    }
    for (int64_t k = 0; k < count; k++) {
        stats[k] = ((const float *)out.array[3])[k];
    }
    results_free(forward, &out);
    return stats;
}

/* Errors of a group in units of EPS: of a matrix before the norm, of its rstd by itself, and after the norm. */
typedef struct norm_error {
    double before, rstd, after;
} norm_error;

static norm_error norm_error_of(double before, double rstd, extent normal)
{
    norm_error e = {.before = before, .rstd = 4 + rstd * before * (1 + normal.typical)};
    e.after = rstd * before + (4 + e.rstd) * normal.most;
    return e;
}

static void mixing_scales(const test_case *c, const float *stats, array *y, array *stats_out)
{
    const dd_op_mixing *op = (const void *)c->args;
    const int64_t first = (int64_t)op->in * op->c, second = (int64_t)op->out * op->c;
    double *a = take((size_t)first * sizeof *a), *b = take((size_t)second * sizeof *b), most = 0;
    for (int64_t k = 0; k < c->array[0].count; k++) {
        most = fmax(most, (double)absolute(&c->array[0], k));
    }
    for (int64_t at = 0; at < op->rows * op->G; at++) {
        const float *of = stats + 4 * at;
        mixing_matrices(c, at, of, a, b);
        const extent na = extent_of(a, first), nb = extent_of(b, second);
        const norm_error ea = norm_error_of(sqrt(op->c) * most * 2, (double)of[1], na);
        const norm_error eb = norm_error_of(sqrt(op->in) * (ea.after + 2 * na.most), (double)of[3], nb);
        for (int64_t k = 0; k < second; k++) {
            y->scale[at * second + k] = eb.after;
        }
        stats_out->scale[4 * at] = ea.before + fabs((double)of[0]);
        stats_out->scale[4 * at + 1] = ea.rstd * (double)of[1];
        stats_out->scale[4 * at + 2] = eb.before + fabs((double)of[2]);
        stats_out->scale[4 * at + 3] = eb.rstd * (double)of[3];
    }
    free(a);
    free(b);
}

void mixing_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_mixing *op = (void *)c->args;
    mixing_shape(c, r, i);
    mixing_inputs(c, r, i % 5 == 2 ? 20 : 0);
    array *y = measured(c, "y", offsetof(dd_op_mixing, y), op->rows * op->G * op->out * op->c, false, r, EPS, 0);
    array *out = measured(c, "stats", offsetof(dd_op_mixing, stats), 4 * op->rows * op->G, false, r, EPS, 0);
    float *stats = mixing_stats(c);
    mixing_scales(c, stats, y, out);
    free(stats);
}

/* Sizes and errors (by EPS) of gradients along the way back through one norm. */
typedef struct flow {
    double size, error;
} flow;

/* g: of the positive part; normal: with an error of its own. The mean of gradients times normals is that of numbers of both
 * signs. */
static flow flow_through_norm(flow g, double rstd, extent normal, double normal_error, int64_t count)
{
    const double root = sqrt((double)count), factor = 1 + (1 + 3 * normal.most * normal.typical) / root;
    const double by_normal = 3 * (normal.typical + normal.most) / root;
    return (flow){rstd * g.size * factor, rstd * (g.error * factor + g.size * (4 * factor + by_normal * normal_error))};
}

/* A sum of n products with numbers up to `by`. */
static flow flow_through_sum(flow g, double n, double by, double by_error)
{
    const double root = sqrt(n);
    return (flow){root * g.size * by, root * (by * (g.error + 2 * g.size) + by_error * g.size)};
}

/* Outputs near the kink of the second ReLU get no gradient: it may pass in one kernel and not in another. */
static void mixing_gradient(test_case *c, random_state *r, const float *stats, flow bound[3])
{
    const dd_op_mixing *op = (const void *)c->args;
    const int64_t first = (int64_t)op->in * op->c, second = (int64_t)op->out * op->c;
    array *g_y = REAL_IN(dd_op_mixing, g_y, op->rows * op->G * second);
    double *a = take((size_t)first * sizeof *a), *b = take((size_t)second * sizeof *b);
    fill_uniform(g_y, r, -1, 1);
    for (int64_t at = 0; at < op->rows * op->G; at++) {
        const double rstd[2] = {(double)stats[4 * at + 1], (double)stats[4 * at + 3]};
        mixing_matrices(c, at, stats + 4 * at, a, b);
        const extent na = extent_of(a, first), nb = extent_of(b, second);
        const double ea = 4 * na.most, eb = 4 * nb.most + rstd[1] * sqrt(op->in) * (ea + 2 * na.most);
        for (int64_t k = 0; k < second; k++) {
            float *g = (float *)g_y->values + at * second + k;
            *g = fabs(b[k]) < 1e-3 ? 0 : *g;
        }
        const flow inner = flow_through_norm((flow){1, 0}, rstd[1], nb, eb, second);
        const flow outer = flow_through_norm(flow_through_sum(inner, op->out, 1, 0), rstd[0], na, ea, first);
        const flow of[3] = {flow_through_sum(outer, op->c, 1, 0), flow_through_sum(outer, op->in, 1, 0),
                            flow_through_sum(inner, op->c, na.most, ea)};
        for (int n = 0; n < 3; n++) {
            bound[n].error = fmax(bound[n].error, of[n].error);
        }
    }
    free(a);
    free(b);
}

void mixing_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_mixing *op = (void *)c->args;
    flow bound[3] = {{0, 0}, {0, 0}, {0, 0}}; /* of x, A, B */
    mixing_shape(c, r, i);
    mixing_inputs(c, r, 0);
    op->add = (int32_t)(i % 4);
    array *stats = REAL_IN(dd_op_mixing, stats, 4 * op->rows * op->G);
    for (int64_t k = 0; k < stats->count; k++) {
        const double inverse = sqrt(k % 4 == 1 ? op->c : op->in) / 3;
        ((float *)stats->values)[k] = (float)(k % 2 ? uniform(r, 0.5, 1.5) / inverse : uniform(r, -0.3, 0.3));
    }
    mixing_gradient(c, r, stats->values, bound);
    const int64_t each = (int64_t)op->c * op->c + (int64_t)op->out * op->in;
    if (i % 5 != 4) {
        measured(c, "g_x", offsetof(dd_op_mixing, g_x), op->rows * op->G * op->in * op->c, op->add & 1, r, EPS / 4,
                 bound[0].error);
    }
    if (i % 6 != 5) {
        array *g =
            measured(c, "g_params", offsetof(dd_op_mixing, g_params), op->rows * op->G * each, op->add & 2, r, EPS / 4, 0);
        for (int64_t k = 0; k < g->count; k++) {
            g->scale[k] = bound[k % each < (int64_t)op->c * op->c ? 1 : 2].error;
        }
    }
}
