/* SPDX-License-Identifier: Apache-2.0
 * Adaptive mixing (detectors.md 4.3 step 4). */
#include "backend/ref/math.h"
#include "backend/ref/real.h"

/* One group of one row, and its matrices in double. */
typedef struct group {
    const dd_op_mixing *op;
    int64_t at;             /* which group of all rows */
    const real *x, *A, *B;  /* [in,c], [c,c], [out,in] */
    double *first, *second; /* [in,c], [out,c]: before the norm, then normalised */
    double *g_first, *g_second;
} group;

static group group_of(const dd_op_mixing *op, int64_t at, double *memory)
{
    const int64_t c = op->c, first = op->in * c, second = op->out * c;
    group g = {.op = op, .at = at, .first = memory, .second = memory + first};
    g.g_first = g.second + second;
    g.g_second = g.g_first + first;
    g.x = (const real *)op->x + at * first;
    g.A = (const real *)op->params + at * (c * c + (int64_t)op->out * op->in);
    g.B = g.A + c * c;
    return g;
}

static double *memory_of(dd_exec *exec, const dd_op_mixing *op)
{
    return ddi_ref_scratch(exec, 2 * ((int64_t)op->in + op->out) * op->c, sizeof(double));
}

static double positive(double x)
{
    return x > 0 ? x : 0;
}

static void mix_channels(const group *g)
{
    const int64_t c = g->op->c;
    for (int64_t k = 0; k < g->op->in * c; k++) {
        g->first[k] = 0;
        for (int64_t i = 0; i < c; i++) {
            g->first[k] += (double)g->x[k / c * c + i] * (double)g->A[i * c + k % c];
        }
    }
}

/* `first` is normalised. */
static void mix_points(const group *g)
{
    const int64_t c = g->op->c, in = g->op->in;
    for (int64_t k = 0; k < g->op->out * c; k++) {
        g->second[k] = 0;
        for (int64_t p = 0; p < in; p++) {
            g->second[k] += (double)g->B[k / c * in + p] * positive(g->first[p * c + k % c]);
        }
    }
}

static void measure(const double *x, int64_t count, real *stats)
{
    double mean = 0, variance = 0;
    for (int64_t k = 0; k < count; k++) {
        mean += x[k];
    }
    mean /= (double)count;
    for (int64_t k = 0; k < count; k++) {
        variance += (x[k] - mean) * (x[k] - mean);
    }
    stats[0] = (real)mean;
    stats[1] = (real)(1 / sqrt(variance / (double)count + 1e-5));
}

static void normalise(double *x, int64_t count, const real *stats)
{
    for (int64_t k = 0; k < count; k++) {
        x[k] = (x[k] - (double)stats[0]) * (double)stats[1];
    }
}

dd_status REF(mixing)(dd_exec *exec, const void *args)
{
    const dd_op_mixing *op = args;
    const int64_t first = (int64_t)op->in * op->c, second = (int64_t)op->out * op->c;
    double *memory = memory_of(exec, op);
    if (!memory) {
        return DD_ERR_NOMEM;
    }
    for (int64_t at = 0; at < op->rows * op->G; at++) {
        const group g = group_of(op, at, memory);
        real *stats = (real *)op->stats + 4 * at, *y = (real *)op->y + at * second;
        mix_channels(&g);
        measure(g.first, first, stats);
        normalise(g.first, first, stats);
        mix_points(&g);
        measure(g.second, second, stats + 2);
        normalise(g.second, second, stats + 2);
        for (int64_t k = 0; k < second; k++) {
            y[k] = (real)positive(g.second[k]);
        }
    }
    return DD_OK;
}

/* g: of relu's output in, of what was normalised out. */
static void norm_back(double *g, const double *normal, int64_t count, double rstd)
{
    double mean = 0, slope = 0;
    for (int64_t k = 0; k < count; k++) {
        g[k] = normal[k] > 0 ? g[k] : 0;
        mean += g[k] / (double)count;
        slope += g[k] * normal[k] / (double)count;
    }
    for (int64_t k = 0; k < count; k++) {
        g[k] = rstd * (g[k] - mean - normal[k] * slope);
    }
}

static void put(void *to, int64_t at, double value, int32_t add)
{
    if (to) {
        real *y = (real *)to + at;
        *y = (real)(value + (add ? (double)*y : 0));
    }
}

/* From g_second to g_first and the gradient of B. */
static void points_back(const group *g, int64_t params)
{
    const int64_t c = g->op->c, in = g->op->in, out = g->op->out;
    for (int64_t k = 0; k < in * c; k++) {
        g->g_first[k] = 0;
        for (int64_t o = 0; o < out; o++) {
            g->g_first[k] += (double)g->B[o * in + k / c] * g->g_second[o * c + k % c];
        }
    }
    for (int64_t k = 0; k < out * in; k++) {
        double sum = 0;
        for (int64_t i = 0; i < c; i++) {
            sum += g->g_second[k / in * c + i] * positive(g->first[k % in * c + i]);
        }
        put(g->op->g_params, params + c * c + k, sum, g->op->add & 2);
    }
}

static void channels_back(const group *g, int64_t params)
{
    const int64_t c = g->op->c, in = g->op->in;
    for (int64_t k = 0; k < in * c; k++) {
        double sum = 0;
        for (int64_t i = 0; i < c; i++) {
            sum += g->g_first[k / c * c + i] * (double)g->A[k % c * c + i];
        }
        put(g->op->g_x, g->at * in * c + k, sum, g->op->add & 1);
    }
    for (int64_t k = 0; k < c * c; k++) {
        double sum = 0;
        for (int64_t p = 0; p < in; p++) {
            sum += (double)g->x[p * c + k / c] * g->g_first[p * c + k % c];
        }
        put(g->op->g_params, params + k, sum, g->op->add & 2);
    }
}

dd_status REF(mixing_grad)(dd_exec *exec, const void *args)
{
    const dd_op_mixing *op = args;
    const int64_t c = op->c, first = op->in * c, second = op->out * c;
    double *memory = memory_of(exec, op);
    if (!memory) {
        return DD_ERR_NOMEM;
    }
    for (int64_t at = 0; at < op->rows * op->G; at++) {
        const group g = group_of(op, at, memory);
        const real *stats = (const real *)op->stats + 4 * at, *g_y = (const real *)op->g_y + at * second;
        const int64_t params = at * (c * c + (int64_t)op->out * op->in);
        mix_channels(&g);
        normalise(g.first, first, stats);
        mix_points(&g);
        normalise(g.second, second, stats + 2);
        for (int64_t k = 0; k < second; k++) {
            g.g_second[k] = (double)g_y[k];
        }
        norm_back(g.g_second, g.second, second, (double)stats[3]);
        points_back(&g, params);
        norm_back(g.g_first, g.first, first, (double)stats[1]);
        channels_back(&g, params);
    }
    return DD_OK;
}
