/* SPDX-License-Identifier: Apache-2.0
 * Multi-scale deformable attention. Samples of a head are placed VW at a time, in double, so that a location on the border of
 * a cell falls into the cell that the reference takes; rows of values are then summed MSDA_COLUMNS columns at a time. */
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd_wide.h"
#include "backend/cpu/vecmath.h"

#include <stdatomic.h>

#define MSDA_COLUMNS 32
#define MSDA_VECTORS (MSDA_COLUMNS / VW)
#define MSDA_CHAINS (VW == 16 ? 4 : 2) /* independent sums, so that additions need not wait for each other */
#define MSDA_QUERIES 32                /* of a piece */
#define MSDA_ZEROS (1 << 18)           /* elements of a piece */

/* What VW samples in a row have of their levels. Lanes beyond the last sample: a level without cells. */
typedef struct msda_lanes {
    double x_scale[VW], y_scale[VW]; /* cells by unit of a reference point */
    int32_t width[VW], height[VW], first[VW];
    int64_t down[VW]; /* elements from a row of cells to the next */
} msda_lanes;

typedef struct msda_job {
    const dd_op_msda *op;
    int64_t blocks, stride; /* blocks of a head; elements from token to token of what is read */
    msda_lanes *lanes;      /* [B,blocks] */
    int32_t *padded;        /* [B,S]: 1 is padding; NULL: none */
    /* of the gradient: */
    float *copies; /* [workers,2,S,D], or NULL */
    float *slopes; /* [B,M,2,blocks*VW] */
    float *g_ref;  /* [B,M,N,R], or NULL */
    atomic_llong next;
} msda_job;

/* VW samples: where their upper left corners are, which corners exist, bilinear parts. */
typedef struct msda_block {
    vf lx, ly, off_x, off_y;
    vd scale_x, scale_y; /* cells by unit of an offset */
    int64_t at[VW];
    float part[4][VW];
    uint32_t exists[4];
    bool whole; /* VW samples, and every corner of them exists */
} msda_block;

typedef struct msda_softmax {
    vf highest, inverse;
} msda_softmax;

static void msda_fill_lanes(const dd_op_msda *op, int64_t b, int64_t block, int64_t stride, msda_lanes *t)
{
    int32_t first[8] = {0};
    for (int32_t l = 1; l < op->L; l++) {
        first[l] = first[l - 1] + op->height[l - 1] * op->width[l - 1];
    }
    memset(t, 0, sizeof *t);
    for (int64_t i = block * VW, k = 0; k < VW && i < (int64_t)op->L * op->P; i++, k++) {
        const int32_t l = (int32_t)(i / op->P);
        const float *ratio = op->ratio ? (const float *)op->ratio + (b * op->L + l) * 2 : NULL;
        t->x_scale[k] = (ratio ? (double)ratio[0] : 1) * op->width[l];
        t->y_scale[k] = (ratio ? (double)ratio[1] : 1) * op->height[l];
        t->width[k] = op->width[l];
        t->height[k] = op->height[l];
        t->first[k] = first[l];
        t->down[k] = op->width[l] * stride;
    }
}

/* Tables for all images, and the padding as whole numbers if the reads are to look at it. */
static dd_status msda_prepare(dd_exec *exec, const dd_op_msda *op, bool look_at_padding, msda_job *job)
{
    job->op = op;
    job->blocks = cpu_pieces((int64_t)op->L * op->P, VW);
    job->lanes = exec->scratch(exec, (size_t)(op->B * job->blocks + 1) * sizeof *job->lanes);
    if (!job->lanes) {
        return DD_ERR_NOMEM;
    }
    for (int64_t i = 0; i < op->B * job->blocks; i++) {
        msda_fill_lanes(op, i / job->blocks, i % job->blocks, job->stride, job->lanes + i);
    }
    if (!op->padding || !look_at_padding) {
        return DD_OK;
    }
    job->padded = exec->scratch(exec, (size_t)(op->B * op->S + 1) * sizeof *job->padded);
    if (!job->padded) {
        return DD_ERR_NOMEM;
    }
    for (int64_t i = 0; i < op->B * op->S; i++) {
        job->padded[i] = op->padding[i] != 0;
    }
    return DD_OK;
}

INLINE const float *msda_reference(const dd_op_msda *op, int64_t b, int64_t n)
{
    return (const float *)op->ref + ((op->ref_images == 1 ? 0 : b) * op->N + n) * op->R;
}

INLINE msda_softmax msda_softmax_of(const float *logit, int64_t count)
{
    vf highest = v_set(-INFINITY), sum = v_zero();
    for (int64_t i = 0; i < count; i += VW) {
        highest = v_max(highest, v_keep_or(v_load_n(logit + i, count - i), count - i, -INFINITY));
    }
    highest = v_set(v_highest(highest));
    for (int64_t i = 0; i < count; i += VW) {
        sum = v_add(sum, v_keep(v_exp(v_sub(v_load_n(logit + i, count - i), highest)), count - i));
    }
    return (msda_softmax){highest, v_div(v_set(1), v_set(v_total(sum)))};
}

INLINE vf msda_share(const msda_softmax *s, const float *logit, int64_t n)
{
    return v_keep(v_mul(v_exp(v_sub(v_load_n(logit, n), s->highest)), s->inverse), n);
}

INLINE void msda_corners(const msda_job *job, const msda_lanes *t, const int32_t *padded, vi x, vi y, msda_block *k)
{
    const vi width = vi_load(t->width), height = vi_load(t->height), one = vi_set(1);
    const vi row = vi_add(vi_load(t->first), vi_add(vi_mul(y, width), x));
    const vm in_x[2] = {vi_within(x, width), vi_within(vi_add(x, one), width)};
    const vm in_y[2] = {vi_within(y, height), vi_within(vi_add(y, one), height)};
    for (int c = 0; c < 4; c++) {
        vm inside = vm_and(in_x[c % 2], in_y[c / 2]);
        if (padded) {
            const vi at = vi_add(row, c / 2 ? vi_add(width, vi_set(c % 2)) : vi_set(c % 2));
            inside = vi_zero_at(padded, at, inside);
        }
        k->exists[c] = v_bits(inside);
    }
    vi_store_scaled(k->at, row, job->stride);
}

/* Places n samples. off: their offsets. */
INLINE void msda_place(const msda_job *job, const msda_lanes *t, const int32_t *padded, const float *ref, const float *off,
                       int64_t n, msda_block *k)
{
    const int32_t R = job->op->R;
    const vd x_scale = vd_load(t->x_scale), y_scale = vd_load(t->y_scale), half = vd_all(-0.5);
    v_load_pairs(off, n, &k->off_x, &k->off_y);
    k->scale_x = R == 4 ? vd_mul(x_scale, vd_all((double)ref[2] * 0.5 / job->op->P)) : vd_all(1);
    k->scale_y = R == 4 ? vd_mul(y_scale, vd_all((double)ref[3] * 0.5 / job->op->P)) : vd_all(1);
    const vd x = vd_fma(vd_all(ref[0]), x_scale, vd_fma(vd_from(k->off_x), k->scale_x, half));
    const vd y = vd_fma(vd_all(ref[1]), y_scale, vd_fma(vd_from(k->off_y), k->scale_y, half));
    const vd x0 = vd_floor(x), y0 = vd_floor(y);
    k->lx = vd_round(vd_sub(x, x0));
    k->ly = vd_round(vd_sub(y, y0));
    msda_corners(job, t, padded, vd_to_whole(x0, -2), vd_to_whole(y0, -2), k);
    k->whole = (k->exists[0] & k->exists[1] & k->exists[2] & k->exists[3]) == (1u << VW) - 1;
}

/* Weights of the corners: `share` times the bilinear parts. */
INLINE void msda_weigh(vf share, msda_block *k)
{
    const vf right = v_mul(share, k->lx), left = v_sub(share, right);
    const vf bottom_left = v_mul(left, k->ly), bottom_right = v_mul(right, k->ly);
    v_store(k->part[0], v_sub(left, bottom_left));
    v_store(k->part[1], v_sub(right, bottom_right));
    v_store(k->part[2], bottom_left);
    v_store(k->part[3], bottom_right);
}

INLINE int64_t msda_corner(const msda_lanes *t, const msda_block *k, int64_t stride, int64_t i, int c)
{
    return k->at[i] + (c % 2 ? stride : 0) + (c / 2 ? t->down[i] : 0);
}

/* Adds n samples' rows of `values`, `width` columns of them. */
INLINE void msda_add(const msda_lanes *t, const msda_block *k, const float *values, int64_t stride, int64_t n, int64_t width,
                     bool whole, vf sum[MSDA_CHAINS][MSDA_VECTORS])
{
    for (int64_t i = 0; i < n; i++) {
        for (int c = 0; c < 4; c++) {
            if (whole || (k->exists[c] >> i & 1)) {
                const float *row = values + msda_corner(t, k, stride, i, c);
                const vf weight = v_set(k->part[c][i]);
                for (int j = 0; j < MSDA_VECTORS && j * VW < width; j++) {
                    vf *to = &sum[c % MSDA_CHAINS][j];
                    *to = v_fma(weight, v_load_n(row + j * VW, width - j * VW), *to);
                }
            }
        }
    }
}

/* Columns column .. column+width of head m of a query. values: of token 0, of that head. */
INLINE void msda_head(const msda_job *job, const float *values, int64_t b, int64_t n, int32_t m, int64_t column, int64_t width)
{
    const dd_op_msda *op = job->op;
    const int64_t count = (int64_t)op->L * op->P, D = (int64_t)op->M * op->D;
    const float *logit = (const float *)op->logits + (b * op->N + n) * op->ldl + m * count;
    const float *off = (const float *)op->off + (b * op->N + n) * op->ldo + 2 * m * count;
    const int32_t *padded = job->padded ? job->padded + b * op->S : NULL;
    const msda_softmax soft = msda_softmax_of(logit, count);
    vf sum[MSDA_CHAINS][MSDA_VECTORS];
    for (int c = 0; c < MSDA_CHAINS; c++) {
        for (int j = 0; j < MSDA_VECTORS; j++) {
            sum[c][j] = v_zero();
        }
    }
    for (int64_t i = 0, lanes = 0; i < count; i += VW, lanes++) {
        const msda_lanes *t = job->lanes + b * job->blocks + lanes;
        const int64_t some = minimum(VW, count - i);
        msda_block k;
        msda_place(job, t, padded, msda_reference(op, b, n), off + 2 * i, some, &k);
        msda_weigh(msda_share(&soft, logit + i, some), &k);
        if (k.whole) {
            msda_add(t, &k, values + column, job->stride, some, width, true, sum);
        } else {
            msda_add(t, &k, values + column, job->stride, some, width, false, sum);
        }
    }
    float *y = (float *)op->y + (b * op->N + n) * D + (int64_t)m * op->D + column;
    for (int j = 0; j < MSDA_VECTORS && j * VW < width; j++) {
        vf all = sum[0][j];
        for (int c = 1; c < MSDA_CHAINS; c++) {
            all = v_add(all, sum[c][j]);
        }
        v_store_n(y + j * VW, all, width - j * VW);
    }
}

/* As measured: with three samples of a head for each token, reading rows of a copy has gained what making it costs. */
static bool msda_copies_pay(const dd_op_msda *op)
{
    return (int64_t)op->N * op->L * op->P >= 3 * op->S;
}

static void msda_store_n(float *to, vf x, int64_t n, bool add)
{
    v_store_n(to, add ? v_add(v_load_n(to, n), x) : x, n);
}

/* Between a row of the caller's values and one of the worker's copy: D columns. */
static void msda_move(float *to, const float *from, int64_t D, bool add)
{
    for (int64_t j = 0; j < D; j += VW) {
        msda_store_n(to + j, v_load_n(from + j, D - j), D - j, add);
    }
}

/* A head's values in rows of D; 0 where padded. */
static void msda_copy_values(const dd_op_msda *op, int64_t b, int32_t m, float *copy)
{
    const int64_t D = op->D, ld = (int64_t)op->M * D;
    for (int64_t s = 0; s < op->S; s++) {
        if (op->padding && op->padding[b * op->S + s]) {
            memset(copy + s * D, 0, (size_t)D * sizeof *copy);
        } else {
            msda_move(copy + s * D, (const float *)op->value + (b * op->S + s) * ld + m * D, D, false);
        }
    }
}

INLINE void msda_columns(const msda_job *job, const float *values, int64_t b, int64_t n, int32_t m)
{
    if (job->op->D == MSDA_COLUMNS) {
        msda_head(job, values, b, n, m, 0, MSDA_COLUMNS);
        return;
    }
    for (int64_t column = 0; column < job->op->D; column += MSDA_COLUMNS) {
        msda_head(job, values, b, n, m, column, minimum(MSDA_COLUMNS, job->op->D - column));
    }
}

static void msda_piece(void *arg, int64_t piece)
{
    const msda_job *job = arg;
    const dd_op_msda *op = job->op;
    const int64_t pieces = cpu_pieces(op->N, MSDA_QUERIES), b = piece / pieces, begin = piece % pieces * MSDA_QUERIES;
    for (int64_t n = begin; n < minimum(begin + MSDA_QUERIES, op->N); n++) {
        for (int32_t m = 0; m < op->M; m++) {
            msda_columns(job, (const float *)op->value + (b * op->S * op->M + m) * op->D, b, n, m);
        }
    }
}

static void msda_forward_worker(void *arg, int64_t worker)
{
    msda_job *job = arg;
    const dd_op_msda *op = job->op;
    float *copy = job->copies + worker * op->S * op->D;
    for (int64_t i; (i = atomic_fetch_add(&job->next, 1)) < (int64_t)op->B * op->M;) {
        msda_copy_values(op, i / op->M, (int32_t)(i % op->M), copy);
        for (int64_t n = 0; n < op->N; n++) {
            msda_columns(job, copy, i / op->M, n, (int32_t)(i % op->M));
        }
    }
}

dd_status KERNEL(msda)(dd_exec *exec, const void *args)
{
    const dd_op_msda *op = args;
    const int64_t tasks = (int64_t)op->B * op->M, workers = minimum(exec->threads, tasks);
    const bool copied = msda_copies_pay(op);
    msda_job job = {.stride = copied ? op->D : (int64_t)op->M * op->D};
    const dd_status status = msda_prepare(exec, op, !copied, &job);
    if (status != DD_OK) {
        return status;
    }
    if (!copied) {
        cpu_parallel_for(exec->threads, op->B * cpu_pieces(op->N, MSDA_QUERIES), msda_piece, &job);
        return DD_OK;
    }
    job.copies = exec->scratch(exec, (size_t)(workers * op->S * op->D + 1) * sizeof(float));
    if (!job.copies) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, workers, msda_forward_worker, &job);
    return DD_OK;
}

/* ---- Gradient: a task for each image and head, so that one thread alone adds to a value's gradient, query by query. Where
 * the samples are many, the head's values and sums are copied together: rows that are 4 KiB apart share few lines of a cache.
 */

typedef struct msda_task {
    const msda_job *job;
    const float *values;
    float *sums; /* where gradients of values are added, or NULL */
    int64_t b;
    int32_t m;
} msda_task;

/* Lane i: g times corner c of sample i. */
INLINE vf msda_dots(const msda_lanes *t, const msda_block *k, const float *values, int64_t stride, int64_t width, bool whole,
                    int c, const vf g[MSDA_VECTORS])
{
    vf row[VW];
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) {
        row[i] = v_zero();
        if (whole || (k->exists[c] >> i & 1)) {
            const float *at = values + msda_corner(t, k, stride, i, c);
            for (int j = 0; j < MSDA_VECTORS && j * VW < width; j++) {
                row[i] = v_fma(g[j], v_load_n(at + j * VW, width - j * VW), row[i]);
            }
        }
    }
    return v_sums(row);
}

INLINE void msda_scatter(const msda_lanes *t, const msda_block *k, float *sums, int64_t stride, int64_t n, int64_t width,
                         bool whole, const vf g[MSDA_VECTORS])
{
    for (int64_t i = 0; i < n; i++) {
        for (int c = 0; c < 4; c++) {
            if (whole || (k->exists[c] >> i & 1)) {
                float *row = sums + msda_corner(t, k, stride, i, c);
                const vf weight = v_set(k->part[c][i]);
                for (int j = 0; j < MSDA_VECTORS && j * VW < width; j++) {
                    const int64_t lanes = width - j * VW;
                    v_store_n(row + j * VW, v_fma(weight, g[j], v_load_n(row + j * VW, lanes)), lanes);
                }
            }
        }
    }
}

/* All columns of a block: gradients of values, and the products that the other gradients are made of. */
INLINE void msda_block_back(const msda_task *task, const msda_lanes *t, const msda_block *k, const float *g_y, int64_t n,
                            int64_t D, bool whole, vf dot[4])
{
    const int64_t stride = task->job->stride;
    for (int64_t column = 0; column < D; column += MSDA_COLUMNS) {
        const int64_t width = minimum(MSDA_COLUMNS, D - column);
        vf g[MSDA_VECTORS];
        for (int j = 0; j < MSDA_VECTORS; j++) {
            g[j] = j * VW < width ? v_load_n(g_y + column + j * VW, width - j * VW) : v_zero();
        }
        for (int c = 0; c < 4; c++) {
            const vf here = msda_dots(t, k, task->values + column, stride, width, whole, c, g);
            dot[c] = column ? v_add(dot[c], here) : here;
        }
        if (task->sums) {
            msda_scatter(t, k, task->sums + column, stride, n, width, whole, g);
        }
    }
}

/* Gradients of n offsets. by_x, by_y: of locations in cells. */
INLINE void msda_offsets_back(const dd_op_msda *op, int64_t at, int64_t n, const msda_block *k, vf by_x, vf by_y)
{
    if (op->g_off) {
        float *to = (float *)op->g_off + at;
        vf x = by_x, y = by_y, before_x, before_y;
        if (op->R == 4) {
            x = vd_round(vd_mul(vd_from(x), k->scale_x));
            y = vd_round(vd_mul(vd_from(y), k->scale_y));
        }
        if (op->add & 2) {
            v_load_pairs(to, n, &before_x, &before_y);
            x = v_add(x, before_x);
            y = v_add(y, before_y);
        }
        v_store_pairs(to, n, x, y);
    }
}

INLINE void msda_reference_back(const dd_op_msda *op, const msda_lanes *t, const msda_block *k, vf by_x, vf by_y, double ref[4])
{
    const vd x = vd_mul(vd_from(by_x), vd_load(t->x_scale)), y = vd_mul(vd_from(by_y), vd_load(t->y_scale));
    ref[0] += vd_sum(x);
    ref[1] += vd_sum(y);
    if (op->R == 4) {
        ref[2] += vd_sum(vd_mul(x, vd_from(k->off_x))) * 0.5 / op->P;
        ref[3] += vd_sum(vd_mul(y, vd_from(k->off_y))) * 0.5 / op->P;
    }
}

INLINE void msda_query_back(const msda_task *task, int64_t n, int64_t D)
{
    const msda_job *job = task->job;
    const dd_op_msda *op = job->op;
    const int64_t count = (int64_t)op->L * op->P, query = task->b * op->N + n, m = task->m;
    const float *logit = (const float *)op->logits + query * op->ldl + m * count;
    const int64_t off = query * op->ldo + 2 * m * count;
    const int32_t *padded = job->padded ? job->padded + task->b * op->S : NULL;
    float *shares = job->slopes + (task->b * op->M + m) * 2 * job->blocks * VW, *slopes = shares + job->blocks * VW;
    const msda_softmax soft = msda_softmax_of(logit, count);
    vf mean = v_zero();
    double ref[4] = {0};
    for (int64_t i = 0, lanes = 0; i < count; i += VW, lanes++) {
        const msda_lanes *t = job->lanes + task->b * job->blocks + lanes;
        const int64_t some = minimum(VW, count - i);
        const vf share = msda_share(&soft, logit + i, some);
        vf dot[4];
        msda_block k;
        msda_place(job, t, padded, msda_reference(op, task->b, n), (const float *)op->off + off + 2 * i, some, &k);
        msda_weigh(share, &k);
        if (k.whole) {
            msda_block_back(task, t, &k, (const float *)op->g_y + (query * op->M + m) * D, VW, D, true, dot);
        } else {
            msda_block_back(task, t, &k, (const float *)op->g_y + (query * op->M + m) * D, some, D, false, dot);
        }
        const vf step_top = v_sub(dot[1], dot[0]), step_bottom = v_sub(dot[3], dot[2]);
        const vf top = v_fma(k.lx, step_top, dot[0]), bottom = v_fma(k.lx, step_bottom, dot[2]), drop = v_sub(bottom, top);
        const vf by_x = v_mul(share, v_fma(k.ly, v_sub(step_bottom, step_top), step_top)), by_y = v_mul(share, drop);
        const vf slope = v_fma(k.ly, drop, top);
        mean = v_fma(share, slope, mean);
        v_store(shares + i, share);
        v_store(slopes + i, slope);
        msda_offsets_back(op, off + 2 * i, some, &k, by_x, by_y);
        if (job->g_ref) {
            msda_reference_back(op, t, &k, by_x, by_y, ref);
        }
    }
    mean = v_set(v_total(mean));
    for (int64_t i = 0; op->g_logits && i < count; i += VW) {
        const vf g = v_mul(v_load(shares + i), v_sub(v_load(slopes + i), mean));
        msda_store_n((float *)op->g_logits + query * op->ldl + m * count + i, g, count - i, op->add & 4);
    }
    for (int32_t r = 0; job->g_ref && r < op->R; r++) {
        job->g_ref[((task->b * op->M + m) * op->N + n) * op->R + r] = (float)ref[r];
    }
}

static void msda_queries_back(const msda_task *task)
{
    const dd_op_msda *op = task->job->op;
    for (int64_t n = 0; n < op->N; n++) {
        if (op->D == MSDA_COLUMNS) {
            msda_query_back(task, n, MSDA_COLUMNS);
        } else {
            msda_query_back(task, n, op->D);
        }
    }
}

/* With copies of the head's values and sums. */
static void msda_copied_back(msda_task *task, float *copy)
{
    const dd_op_msda *op = task->job->op;
    const int64_t D = op->D, ld = (int64_t)op->M * D, first = task->b * op->S;
    float *sums = copy + op->S * D, *g_value = op->g_value ? (float *)op->g_value + first * ld + task->m * D : NULL;
    msda_copy_values(op, task->b, task->m, copy);
    memset(sums, 0, (size_t)(op->S * D) * sizeof *sums);
    task->values = copy;
    task->sums = g_value ? sums : NULL;
    msda_queries_back(task);
    for (int64_t s = 0; g_value && s < op->S; s++) {
        if (op->padding && op->padding[first + s]) {
            memset(sums + s * D, 0, (size_t)D * sizeof *sums);
        }
        msda_move(g_value + s * ld, sums + s * D, D, op->add & 1);
    }
}

/* On the caller's arrays; those that are not added to are 0 already. */
static void msda_direct_back(msda_task *task)
{
    const dd_op_msda *op = task->job->op;
    const int64_t D = op->D, ld = (int64_t)op->M * D, head = task->b * op->S * ld + task->m * D;
    task->values = (const float *)op->value + head;
    task->sums = op->g_value ? (float *)op->g_value + head : NULL;
    msda_queries_back(task);
}

static void msda_worker(void *arg, int64_t worker)
{
    msda_job *job = arg;
    const int64_t tasks = (int64_t)job->op->B * job->op->M;
    for (int64_t i; (i = atomic_fetch_add(&job->next, 1)) < tasks;) {
        msda_task task = {.job = job, .b = i / job->op->M, .m = (int32_t)(i % job->op->M)};
        if (job->copies) {
            msda_copied_back(&task, job->copies + worker * 2 * job->op->S * job->op->D);
        } else {
            msda_direct_back(&task);
        }
    }
}

static void msda_zero_piece(void *arg, int64_t piece)
{
    const dd_op_msda *op = ((const msda_job *)arg)->op;
    const int64_t begin = piece * MSDA_ZEROS, count = (int64_t)op->B * op->S * op->M * op->D;
    memset((float *)op->g_value + begin, 0, (size_t)minimum(MSDA_ZEROS, count - begin) * sizeof(float));
}

/* Sums over heads, and over images that share their reference points. */
static void msda_sum_references(const msda_job *job)
{
    const dd_op_msda *op = job->op;
    const int64_t count = (int64_t)op->N * op->R, parts = op->ref_images == 1 ? (int64_t)op->B * op->M : op->M;
    for (int64_t image = 0; image < op->ref_images; image++) {
        for (int64_t i = 0; i < count; i++) {
            float *to = (float *)op->g_ref + image * count + i;
            double sum = op->add & 8 ? (double)*to : 0;
            for (int64_t part = 0; part < parts; part++) {
                sum += (double)job->g_ref[(image * parts + part) * count + i];
            }
            *to = (float)sum;
        }
    }
}

dd_status KERNEL(msda_grad)(dd_exec *exec, const void *args)
{
    const dd_op_msda *op = args;
    const int64_t tasks = (int64_t)op->B * op->M, workers = minimum(exec->threads, tasks);
    const bool copied = msda_copies_pay(op);
    msda_job job = {.stride = copied ? op->D : (int64_t)op->M * op->D};
    const dd_status status = msda_prepare(exec, op, !copied, &job);
    if (status != DD_OK) {
        return status;
    }
    job.slopes = exec->scratch(exec, (size_t)(tasks * 2 * job.blocks * VW + 1) * sizeof(float));
    job.copies = copied ? exec->scratch(exec, (size_t)(workers * 2 * op->S * op->D + 1) * sizeof(float)) : NULL;
    job.g_ref = op->g_ref ? exec->scratch(exec, (size_t)(tasks * op->N * op->R + 1) * sizeof(float)) : NULL;
    if (!job.slopes || (copied && !job.copies) || (op->g_ref && !job.g_ref)) {
        return DD_ERR_NOMEM;
    }
    if (!copied && op->g_value && !(op->add & 1)) {
        const int64_t count = (int64_t)op->B * op->S * op->M * op->D;
        cpu_parallel_for(exec->threads, cpu_pieces(count, MSDA_ZEROS), msda_zero_piece, &job);
    }
    cpu_parallel_for(exec->threads, workers, msda_worker, &job);
    if (op->g_ref) {
        msda_sum_references(&job);
    }
    return DD_OK;
}
