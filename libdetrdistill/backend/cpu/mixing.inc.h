/* SPDX-License-Identifier: Apache-2.0
 * Adaptive mixing (detectors.md 4.3 step 4). A group of a row is a handful of small products that stay in the cache; its
 * parameters are read once. The gradient forms both products again, which costs no more than reading them would. */
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd_wide.h"

#include <stdatomic.h>

#define MIX_ROWS 4                     /* of a tile, all its vectors in registers */
#define MIX_VECTORS (VW == 16 ? 4 : 2) /* of a tile's row */
#define MIX_GROUPS 4                   /* that a worker takes at a time */
#define MIX_EPS 1e-5

/* C = A B, or C += A B; A by the strides of its rows and columns. */
typedef struct mix_product {
    const float *a, *b;
    float *c;
    int64_t M, N, K, a_row, a_column, ldb, ldc;
    bool add;
} mix_product;

/* Rows row .. row + rows and `width` columns of C. */
INLINE void mix_tile(const mix_product *p, int64_t row, int rows, int64_t column, int64_t width)
{
    vf sum[2 * MIX_ROWS][MIX_VECTORS];
    const float *a = p->a + row * p->a_row, *b = p->b + column;
    float *c = p->c + row * p->ldc + column;
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < MIX_VECTORS; v++) {
            sum[r][v] = v_zero();
        }
    }
    for (int64_t k = 0; k < p->K; k++) {
        vf line[MIX_VECTORS];
        for (int v = 0; v < MIX_VECTORS; v++) {
            line[v] = v * VW < width ? v_load_n(b + k * p->ldb + v * VW, width - v * VW) : v_zero();
        }
        for (int r = 0; r < rows; r++) {
            const vf factor = v_set(a[r * p->a_row + k * p->a_column]);
            for (int v = 0; v < MIX_VECTORS && v * VW < width; v++) {
                sum[r][v] = v_fma(factor, line[v], sum[r][v]);
            }
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < MIX_VECTORS && v * VW < width; v++) {
            float *to = c + r * p->ldc + v * VW;
            const int64_t n = width - v * VW;
            v_store_n(to, p->add ? v_add(v_load_n(to, n), sum[r][v]) : sum[r][v], n);
        }
    }
}

/* All rows of `width` columns, `rows` at a time. */
INLINE void mix_panel(const mix_product *p, int rows, int64_t column, int64_t width)
{
    int64_t row = 0;
    for (; row + rows <= p->M; row += rows) {
        mix_tile(p, row, rows, column, width);
    }
    for (; row < p->M; row++) {
        mix_tile(p, row, 1, column, width);
    }
}

static void mix_multiply(const mix_product *p)
{
    int64_t column = 0;
    for (; column + MIX_VECTORS * VW <= p->N; column += MIX_VECTORS * VW) {
        mix_panel(p, MIX_ROWS, column, MIX_VECTORS * VW);
    }
    for (; column + 2 * VW <= p->N; column += 2 * VW) {
        mix_panel(p, 2 * MIX_ROWS, column, 2 * VW);
    }
    for (; column + VW <= p->N; column += VW) {
        mix_panel(p, 2 * MIX_ROWS, column, VW);
    }
    if (column < p->N) {
        mix_panel(p, MIX_ROWS, column, p->N - column);
    }
}

/* to[columns,rows] */
static void mix_transpose(const float *from, int64_t rows, int64_t columns, float *to)
{
    for (int64_t j = 0; j < columns; j++) {
        int64_t i = 0;
        for (; i + VW <= rows; i += VW) {
            v_store(to + j * rows + i, v_load_strided(from + i * columns + j, (int32_t)columns));
        }
        for (; i < rows; i++) {
            to[j * rows + i] = from[i * columns + j];
        }
    }
}

/* ---- The norm of a whole matrix */

INLINE float mix_sum_of(const vf sum[4])
{
    return v_total(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

/* mean and rstd */
static void mix_measure(const float *x, int64_t count, float *stats)
{
    vf sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()}, square[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    for (int64_t k = 0; k < count; k += 4 * VW) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            const int64_t at = k + v * VW;
            sum[v] = at < count ? v_add(sum[v], v_load_n(x + at, count - at)) : sum[v];
        }
    }
    const float mean = (float)((double)mix_sum_of(sum) / (double)count);
    for (int64_t k = 0; k < count; k += 4 * VW) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            const int64_t at = k + v * VW;
            if (at < count) {
                const vf from_mean = v_keep(v_sub(v_load_n(x + at, count - at), v_set(mean)), count - at);
                square[v] = v_fma(from_mean, from_mean, square[v]);
            }
        }
    }
    stats[0] = mean;
    stats[1] = (float)(1 / sqrt((double)mix_sum_of(square) / (double)count + MIX_EPS));
}

/* normal (may be x) and its positive part; either may be NULL. */
static void mix_normalise(const float *x, int64_t count, const float *stats, float *normal, float *positive)
{
    const vf mean = v_set(stats[0]), rstd = v_set(stats[1]);
    for (int64_t k = 0; k < count; k += VW) {
        const vf y = v_mul(v_sub(v_load_n(x + k, count - k), mean), rstd);
        if (normal) {
            v_store_n(normal + k, y, count - k);
        }
        if (positive) {
            v_store_n(positive + k, v_max(y, v_zero()), count - k);
        }
    }
}

/* Of the gradient g of the positive part, what passes. */
INLINE vf mix_passed(const float *g, vf normal, int64_t n)
{
    return v_select(v_less(v_zero(), normal), v_load_n(g, n), v_zero());
}

/* From the gradient g of the positive part to that of what was normalised, which is written over `normal`. */
static void mix_norm_back(const float *g, float *normal, int64_t count, float rstd)
{
    vf sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()}, slope[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    for (int64_t k = 0; k < count; k += 4 * VW) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            const int64_t at = k + v * VW;
            if (at < count) {
                const vf y = v_load_n(normal + at, count - at), passed = mix_passed(g + at, y, count - at);
                sum[v] = v_add(sum[v], passed);
                slope[v] = v_fma(passed, y, slope[v]);
            }
        }
    }
    const vf mean = v_set((float)((double)mix_sum_of(sum) / (double)count));
    const vf by_normal = v_set((float)((double)mix_sum_of(slope) / (double)count)), factor = v_set(rstd);
    for (int64_t k = 0; k < count; k += VW) {
        const vf y = v_load_n(normal + k, count - k), passed = mix_passed(g + k, y, count - k);
        v_store_n(normal + k, v_mul(factor, v_fnma(by_normal, y, v_sub(passed, mean))), count - k);
    }
}

/* ---- A group of a row */

typedef struct mix_job {
    const dd_op_mixing *op;
    float *memory;
    int64_t each; /* floats of a worker */
    atomic_llong next;
    void (*group)(const dd_op_mixing *op, int64_t at, float *memory);
} mix_job;

/* x A */
static mix_product mix_channels(const dd_op_mixing *op, int64_t at, float *to)
{
    const int64_t c = op->c;
    return (mix_product){.a = (const float *)op->x + at * op->in * c,
                         .b = (const float *)op->params + at * (c * c + (int64_t)op->out * op->in),
                         .c = to,
                         .M = op->in,
                         .N = c,
                         .K = c,
                         .a_row = c,
                         .a_column = 1,
                         .ldb = c,
                         .ldc = c};
}

/* B m */
static mix_product mix_points(const dd_op_mixing *op, int64_t at, const float *m, float *to)
{
    const int64_t c = op->c, in = op->in;
    return (mix_product){.a = (const float *)op->params + at * (c * c + op->out * in) + c * c,
                         .b = m,
                         .c = to,
                         .M = op->out,
                         .N = c,
                         .K = in,
                         .a_row = in,
                         .a_column = 1,
                         .ldb = c,
                         .ldc = c};
}

static void mix_group(const dd_op_mixing *op, int64_t at, float *memory)
{
    const int64_t first = (int64_t)op->in * op->c, second = (int64_t)op->out * op->c;
    float *stats = (float *)op->stats + 4 * at, *y = (float *)op->y + at * second;
    const mix_product channels = mix_channels(op, at, memory), points = mix_points(op, at, memory, y);
    mix_multiply(&channels);
    mix_measure(memory, first, stats);
    mix_normalise(memory, first, stats, NULL, memory);
    mix_multiply(&points);
    mix_measure(y, second, stats + 2);
    mix_normalise(y, second, stats + 2, NULL, y);
}

/* The gradients of a group's two matrices, and of its rows of x. */
typedef struct mix_back {
    float *first, *positive, *turned; /* [in,c], [in,c], [c,in] */
    float *second;                    /* [out,c] */
    float *weight;                    /* A transposed */
} mix_back;

static mix_back mix_divide(const dd_op_mixing *op, float *memory)
{
    const int64_t first = (int64_t)op->in * op->c;
    mix_back m = {.first = memory, .positive = memory + first, .turned = memory + 2 * first};
    m.second = memory + 3 * first;
    m.weight = m.second + (int64_t)op->out * op->c;
    return m;
}

/* second: the gradient before the second norm. Leaves the gradient of m in `positive`. */
static void mix_points_back(const dd_op_mixing *op, int64_t at, const mix_back *m)
{
    const int64_t c = op->c, in = op->in, params = at * (c * c + op->out * in) + c * c;
    if (op->g_params) {
        mix_transpose(m->positive, in, c, m->turned);
        const mix_product by_weight = {.a = m->second,
                                       .b = m->turned,
                                       .c = (float *)op->g_params + params,
                                       .M = op->out,
                                       .N = in,
                                       .K = c,
                                       .a_row = c,
                                       .a_column = 1,
                                       .ldb = in,
                                       .ldc = in,
                                       .add = op->add & 2};
        mix_multiply(&by_weight);
    }
    const mix_product by_input = {.a = (const float *)op->params + params,
                                  .b = m->second,
                                  .c = m->positive,
                                  .M = in,
                                  .N = c,
                                  .K = op->out,
                                  .a_row = 1,
                                  .a_column = in,
                                  .ldb = c,
                                  .ldc = c};
    mix_multiply(&by_input);
}

/* first: the gradient before the first norm. */
static void mix_channels_back(const dd_op_mixing *op, int64_t at, const mix_back *m)
{
    const int64_t c = op->c, in = op->in, params = at * (c * c + op->out * in);
    if (op->g_params) {
        const mix_product by_weight = {.a = (const float *)op->x + at * in * c,
                                       .b = m->first,
                                       .c = (float *)op->g_params + params,
                                       .M = c,
                                       .N = c,
                                       .K = in,
                                       .a_row = 1,
                                       .a_column = c,
                                       .ldb = c,
                                       .ldc = c,
                                       .add = op->add & 2};
        mix_multiply(&by_weight);
    }
    if (op->g_x) {
        mix_transpose((const float *)op->params + params, c, c, m->weight);
        const mix_product by_input = {.a = m->first,
                                      .b = m->weight,
                                      .c = (float *)op->g_x + at * in * c,
                                      .M = in,
                                      .N = c,
                                      .K = c,
                                      .a_row = c,
                                      .a_column = 1,
                                      .ldb = c,
                                      .ldc = c,
                                      .add = op->add & 1};
        mix_multiply(&by_input);
    }
}

static void mix_group_back(const dd_op_mixing *op, int64_t at, float *memory)
{
    const int64_t first = (int64_t)op->in * op->c, second = (int64_t)op->out * op->c;
    const float *stats = (const float *)op->stats + 4 * at;
    const mix_back m = mix_divide(op, memory);
    const mix_product channels = mix_channels(op, at, m.first), points = mix_points(op, at, m.positive, m.second);
    mix_multiply(&channels);
    mix_normalise(m.first, first, stats, m.first, m.positive);
    mix_multiply(&points);
    mix_normalise(m.second, second, stats + 2, m.second, NULL);
    mix_norm_back((const float *)op->g_y + at * second, m.second, second, stats[3]);
    mix_points_back(op, at, &m);
    mix_norm_back(m.positive, m.first, first, stats[1]);
    mix_channels_back(op, at, &m);
}

static void mix_worker(void *arg, int64_t worker)
{
    mix_job *job = arg;
    const int64_t groups = job->op->rows * job->op->G;
    for (int64_t begin; (begin = atomic_fetch_add(&job->next, MIX_GROUPS)) < groups;) {
        for (int64_t at = begin; at < minimum(begin + MIX_GROUPS, groups); at++) {
            job->group(job->op, at, job->memory + worker * job->each);
        }
    }
}

static dd_status mix_run(dd_exec *exec, mix_job *job)
{
    const int64_t workers = minimum(exec->threads, cpu_pieces(job->op->rows * job->op->G, MIX_GROUPS));
    job->each = cpu_pieces(job->each, 16) * 16; /* whole lines */
    job->memory = exec->scratch(exec, (size_t)(workers * job->each + 1) * sizeof *job->memory);
    if (!job->memory) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, workers, mix_worker, job);
    return DD_OK;
}

dd_status KERNEL(mixing)(dd_exec *exec, const void *args)
{
    mix_job job = {.op = args, .group = mix_group};
    job.each = (int64_t)job.op->in * job.op->c;
    return mix_run(exec, &job);
}

dd_status KERNEL(mixing_grad)(dd_exec *exec, const void *args)
{
    mix_job job = {.op = args, .group = mix_group_back};
    job.each = (3 * (int64_t)job.op->in + job.op->out + job.op->c) * job.op->c;
    return mix_run(exec, &job);
}
