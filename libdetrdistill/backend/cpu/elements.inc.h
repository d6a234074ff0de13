/* SPDX-License-Identifier: Apache-2.0
 * Element by element and row by row: dropout, sums, products, copies, masks, the logistic function, largest of windows, the
 * optimiser. */
#ifndef DDI_CPU_ELEMENTS_H
#define DDI_CPU_ELEMENTS_H

#include "backend/cpu/parallel.h"
#include "backend/cpu/philox.inc.h"
#include "backend/cpu/vecmath.h"

#define ELEMENTS 8192 /* of a piece, a multiple of PHILOX_SET */

static void run_elements(dd_exec *exec, int64_t count, void (*piece)(void *, int64_t), const void *op)
{
    cpu_parallel_for(exec->threads, cpu_pieces(count, ELEMENTS), piece, (void *)(uintptr_t)op);
}

static void dropout_piece(void *arg, int64_t piece)
{
    enum { ROOM = 512 };
    const dd_op_dropout *op = arg;
    const float *x = op->x;
    float *y = op->y, room[ROOM + PHILOX_SET + 4];
    const int64_t end = minimum((piece + 1) * ELEMENTS, op->count);
    for (int64_t i = piece * ELEMENTS; i < end; i += ROOM) {
        const int64_t count = minimum(ROOM, end - i);
        const float *kept = op->dropout.rate > 0 ? philox_kept(&op->dropout, (uint64_t)i, count, room) : NULL;
        for (int64_t k = 0; k < count; k += VW) {
            const vf value = v_load_n(x + i + k, count - k);
            v_store_n(y + i + k, kept ? v_mul(value, v_load_n(kept + k, count - k)) : value, count - k);
        }
    }
}

dd_status KERNEL(dropout)(dd_exec *exec, const void *args)
{
    run_elements(exec, ((const dd_op_dropout *)args)->count, dropout_piece, args);
    return DD_OK;
}

static void add_piece(void *arg, int64_t piece)
{
    const dd_op_add *op = arg;
    const float *a = op->a, *b = op->b;
    float *y = op->y;
    const int64_t end = minimum((piece + 1) * ELEMENTS, op->count);
    int64_t i = piece * ELEMENTS;
    while (i < end) {
        const int64_t from = i % op->period, count = minimum(end - i, op->period - from);
        for (int64_t k = 0; k < count; k += VW) {
            v_store_n(y + i + k, v_add(v_load_n(a + i + k, count - k), v_load_n(b + from + k, count - k)), count - k);
        }
        i += count;
    }
}

dd_status KERNEL(add)(dd_exec *exec, const void *args)
{
    run_elements(exec, ((const dd_op_add *)args)->count, add_piece, args);
    return DD_OK;
}

static void product_piece(void *arg, int64_t piece)
{
    const dd_op_product *op = arg;
    const int64_t end = minimum((piece + 1) * ELEMENTS, op->count);
    for (int64_t i = piece * ELEMENTS; i < end; i += VW) {
        const vf a = v_load_n((const float *)op->a + i, end - i), b = v_load_n((const float *)op->b + i, end - i);
        v_store_n((float *)op->y + i, v_mul(a, b), end - i);
    }
}

dd_status KERNEL(product)(dd_exec *exec, const void *args)
{
    run_elements(exec, ((const dd_op_product *)args)->count, product_piece, args);
    return DD_OK;
}

/* g (+)= g_y * other */
INLINE void product_slope(vf g_y, const void *other, void *g, int64_t i, int64_t lanes, int32_t add)
{
    if (g) {
        float *to = (float *)g + i;
        const vf slope = v_mul(g_y, v_load_n((const float *)other + i, lanes));
        v_store_n(to, add ? v_add(v_load_n(to, lanes), slope) : slope, lanes);
    }
}

static void product_grad_piece(void *arg, int64_t piece)
{
    const dd_op_product *op = arg;
    const int64_t end = minimum((piece + 1) * ELEMENTS, op->count);
    for (int64_t i = piece * ELEMENTS; i < end; i += VW) {
        const vf g_y = v_load_n((const float *)op->g_y + i, end - i);
        product_slope(g_y, op->b, op->g_a, i, end - i, op->add & 1);
        product_slope(g_y, op->a, op->g_b, i, end - i, op->add & 2);
    }
}

dd_status KERNEL(product_grad)(dd_exec *exec, const void *args)
{
    run_elements(exec, ((const dd_op_product *)args)->count, product_grad_piece, args);
    return DD_OK;
}

/* ---- Strided copies. Where all of a dimension goes to one place, a piece runs along it. */

typedef struct copy_rows_job {
    const dd_op_copy_rows *op;
    int64_t outer, rows, row_pieces, rows_each, width_each; /* that pieces are made of; 1 where the stride of dst is 0 */
} copy_rows_job;

#define COPY_WIDTH (8 * VW) /* columns of a sum */

/* dst[0..width] (+)= every row of the source that goes there. */
static void copy_sum(const dd_op_copy_rows *op, const float *src, float *dst, int64_t outer, int64_t rows, int64_t width)
{
    for (int64_t k = 0; k < width; k += VW) {
        vd sum = vd_from(v_load_n(dst + k, width - k));
        for (int64_t i = 0; i < outer; i++) {
            for (int64_t j = 0; j < rows; j++) {
                sum = vd_add(sum, vd_from(v_load_n(src + i * op->src_outer + j * op->src_row + k, width - k)));
            }
        }
        v_store_n(dst + k, vd_round(sum), width - k);
    }
}

static void copy_row(const dd_op_copy_rows *op, const float *src, float *dst, int64_t width)
{
    if (!op->add) {
        memcpy(dst, src, (size_t)width * sizeof *dst);
        return;
    }
    for (int64_t k = 0; k < width; k += VW) {
        v_store_n(dst + k, v_add(v_load_n(dst + k, width - k), v_load_n(src + k, width - k)), width - k);
    }
}

static void copy_rows_piece(void *arg, int64_t piece)
{
    const copy_rows_job *job = arg;
    const dd_op_copy_rows *op = job->op;
    const int64_t widths = cpu_pieces(op->width, job->width_each), k = piece % widths * job->width_each;
    const int64_t width = minimum(job->width_each, op->width - k), block = piece / widths;
    const int64_t i = block / job->row_pieces, first = block % job->row_pieces * job->rows_each;
    const int64_t outer = op->outer / job->outer, rows = op->rows / job->rows;
    for (int64_t j = first; j < minimum(first + job->rows_each, job->rows); j++) {
        const float *src = (const float *)op->src + i * op->src_outer + j * op->src_row + k;
        float *dst = (float *)op->dst + i * op->dst_outer + j * op->dst_row + k;
        if (outer * rows == 1) {
            copy_row(op, src, dst, width);
        } else if (op->add) {
            copy_sum(op, src, dst, outer, rows, width);
        } else { /* the last one stays */
            copy_row(op, src + (outer - 1) * op->src_outer + (rows - 1) * op->src_row, dst, width);
        }
    }
}

dd_status KERNEL(copy_rows)(dd_exec *exec, const void *args)
{
    const dd_op_copy_rows *op = args;
    if (op->outer <= 0 || op->rows <= 0 || op->width <= 0) {
        return DD_OK;
    }
    copy_rows_job job = {.op = op, .outer = op->dst_outer ? op->outer : 1, .rows = op->dst_row ? op->rows : 1};
    const bool sums = job.outer < op->outer || job.rows < op->rows;
    job.width_each = sums ? COPY_WIDTH : ELEMENTS;
    job.rows_each = 1 + (sums ? 0 : ELEMENTS / 2) / op->width;
    job.row_pieces = cpu_pieces(job.rows, job.rows_each);
    cpu_parallel_for(exec->threads, job.outer * job.row_pieces * cpu_pieces(op->width, job.width_each), copy_rows_piece, &job);
    return DD_OK;
}

#define MASK_ROWS 32

static void mask_rows_piece(void *arg, int64_t piece)
{
    const dd_op_mask_rows *op = arg;
    const size_t bytes = (size_t)op->d * sizeof(float);
    for (int64_t i = piece * MASK_ROWS; i < minimum((piece + 1) * MASK_ROWS, op->rows); i++) {
        float *y = (float *)op->y + i * op->d;
        const float *x = (const float *)op->x + i * op->d;
        if (op->mask[i]) {
            memset(y, 0, bytes);
        } else if (y != x) {
            memcpy(y, x, bytes);
        }
    }
}

dd_status KERNEL(mask_rows)(dd_exec *exec, const void *args)
{
    const dd_op_mask_rows *op = args;
    cpu_parallel_for(exec->threads, cpu_pieces(op->d > 0 ? op->rows : 0, MASK_ROWS), mask_rows_piece, (void *)(uintptr_t)op);
    return DD_OK;
}

static void relu_piece(void *arg, int64_t piece)
{
    const dd_op_relu *op = arg;
    const int64_t end = minimum((piece + 1) * ELEMENTS, op->count);
    for (int64_t i = piece * ELEMENTS; i < end; i += VW) {
        const vf x = v_load_n((const float *)op->x + i, end - i);
        v_store_n((float *)op->y + i, v_select(v_less(x, v_zero()), v_zero(), x), end - i);
    }
}

dd_status KERNEL(relu)(dd_exec *exec, const void *args)
{
    run_elements(exec, ((const dd_op_relu *)args)->count, relu_piece, args);
    return DD_OK;
}

static void relu_grad_piece(void *arg, int64_t piece)
{
    const dd_op_relu *op = arg;
    const int64_t end = minimum((piece + 1) * ELEMENTS, op->count);
    for (int64_t i = piece * ELEMENTS; i < end; i += VW) {
        float *to = (float *)op->g_x + i;
        const vf y = v_load_n((const float *)op->y + i, end - i), g_y = v_load_n((const float *)op->g_y + i, end - i);
        const vf slope = v_select(v_less(v_zero(), v_abs(y)), g_y, v_select(v_is_nan(y), g_y, v_zero()));
        v_store_n(to, op->add & 1 ? v_add(v_load_n(to, end - i), slope) : slope, end - i);
    }
}

dd_status KERNEL(relu_grad)(dd_exec *exec, const void *args)
{
    run_elements(exec, ((const dd_op_relu *)args)->count, relu_grad_piece, args);
    return DD_OK;
}

static void sigmoid_piece(void *arg, int64_t piece)
{
    const dd_op_sigmoid *op = arg;
    const int64_t end = minimum((piece + 1) * ELEMENTS, op->count);
    for (int64_t i = piece * ELEMENTS; i < end; i += VW) {
        v_store_n((float *)op->y + i, v_sigmoid(v_load_n((const float *)op->x + i, end - i)), end - i);
    }
}

dd_status KERNEL(sigmoid)(dd_exec *exec, const void *args)
{
    run_elements(exec, ((const dd_op_sigmoid *)args)->count, sigmoid_piece, args);
    return DD_OK;
}

static void sigmoid_grad_piece(void *arg, int64_t piece)
{
    const dd_op_sigmoid *op = arg;
    const int64_t end = minimum((piece + 1) * ELEMENTS, op->count);
    for (int64_t i = piece * ELEMENTS; i < end; i += VW) {
        float *to = (float *)op->g_x + i;
        const vf y = v_load_n((const float *)op->y + i, end - i);
        const vf slope = v_mul(v_load_n((const float *)op->g_y + i, end - i), v_mul(y, v_sub(v_set(1), y)));
        v_store_n(to, op->add & 1 ? v_add(v_load_n(to, end - i), slope) : slope, end - i);
    }
}

dd_status KERNEL(sigmoid_grad)(dd_exec *exec, const void *args)
{
    run_elements(exec, ((const dd_op_sigmoid *)args)->count, sigmoid_grad_piece, args);
    return DD_OK;
}

/* ---- Largest of windows */

/* The window's taps inside the map: rows and columns of x. */
typedef struct pool_window {
    int64_t image;
    int32_t h0, h1, w0, w1;
} pool_window;

static pool_window pool_window_of(const dd_op_maxpool *op, int64_t b, int64_t oh, int64_t ow)
{
    const int32_t h = (int32_t)oh * op->stride - op->pad, w = (int32_t)ow * op->stride - op->pad;
    return (pool_window){b * op->H * op->W, h > 0 ? h : 0, h + op->kernel < op->H ? h + op->kernel : op->H, w > 0 ? w : 0,
                         w + op->kernel < op->W ? w + op->kernel : op->W};
}

/* The largest of VW channels and its place in the window, counted from 0, first ones winning. */
INLINE vf pool_largest(const dd_op_maxpool *op, const pool_window *v, int64_t c, vf *place)
{
    const float *x = op->x;
    const int64_t lanes = op->C - c;
    vf best = v_load_n(x + (v->image + (int64_t)v->h0 * op->W + v->w0) * op->C + c, lanes);
    float n = 0;
    *place = v_zero();
    for (int64_t h = v->h0; h < v->h1; h++) {
        for (int64_t w = v->w0; w < v->w1; w++) {
            const vf value = v_load_n(x + (v->image + h * op->W + w) * op->C + c, lanes);
            const vm larger = v_less(best, value);
            best = v_select(larger, value, best);
            *place = v_select(larger, v_set(n), *place);
            n++;
        }
    }
    return best;
}

static void maxpool_row(void *arg, int64_t i)
{
    const dd_op_maxpool *op = arg;
    for (int64_t ow = 0; ow < op->OW; ow++) {
        const pool_window v = pool_window_of(op, i / op->OH, i % op->OH, ow);
        for (int64_t c = 0; c < op->C; c += VW) {
            vf place;
            v_store_n((float *)op->y + (i * op->OW + ow) * op->C + c, pool_largest(op, &v, c, &place), op->C - c);
        }
    }
}

/* A window may lie in the padding as a whole; the reference's business. */
int32_t KERNEL(maxpool_accepts)(const void *args)
{
    const dd_op_maxpool *op = args;
    return op->pad < op->kernel && op->kernel < 4096 && (op->OH - 1) * (int64_t)op->stride - op->pad < op->H &&
           (op->OW - 1) * (int64_t)op->stride - op->pad < op->W;
}

dd_status KERNEL(maxpool)(dd_exec *exec, const void *args)
{
    const dd_op_maxpool *op = args;
    cpu_parallel_for(exec->threads, op->OH > 0 ? (int64_t)op->B * op->OH : 0, maxpool_row, (void *)(uintptr_t)op);
    return DD_OK;
}

/* VW channels of an image: windows overlap, so that they come one after the other. */
static void maxpool_grad_channels(void *arg, int64_t piece)
{
    const dd_op_maxpool *op = arg;
    const int64_t vectors = cpu_pieces(op->C, VW), b = piece / vectors, c = piece % vectors * VW, lanes = op->C - c;
    float *g_x = op->g_x;
    for (int64_t i = 0; !(op->add & 1) && i < (int64_t)op->H * op->W; i++) {
        v_store_n(g_x + (b * op->H * op->W + i) * op->C + c, v_zero(), lanes);
    }
    for (int64_t o = 0; op->OH > 0 && op->OW > 0 && o < (int64_t)op->OH * op->OW; o++) {
        const pool_window v = pool_window_of(op, b, o / op->OW, o % op->OW);
        const vf g = v_load_n((const float *)op->g_y + ((int64_t)b * op->OH * op->OW + o) * op->C + c, lanes);
        vf place;
        pool_largest(op, &v, c, &place);
        float n = 0;
        for (int64_t h = v.h0; h < v.h1; h++) {
            for (int64_t w = v.w0; w < v.w1; w++) {
                float *to = g_x + (v.image + h * op->W + w) * op->C + c;
                const vf before = v_load_n(to, lanes);
                const vm here = v_less(v_abs(v_sub(place, v_set(n))), v_set(0.5f));
                v_store_n(to, v_select(here, v_add(before, g), before), lanes);
                n++;
            }
        }
    }
}

dd_status KERNEL(maxpool_grad)(dd_exec *exec, const void *args)
{
    const dd_op_maxpool *op = args;
    cpu_parallel_for(exec->threads, op->B * cpu_pieces(op->C, VW), maxpool_grad_channels, (void *)(uintptr_t)op);
    return DD_OK;
}

/* ---- Optimiser */

INLINE vf v_root(vf x)
{
#if VW == 16
    return _mm512_sqrt_ps(x);
#else
    return _mm256_sqrt_ps(x);
#endif
}

static void adamw_piece(void *arg, int64_t piece)
{
    const dd_op_adamw *op = arg;
    const int64_t end = minimum((piece + 1) * ELEMENTS, op->count);
    const vf scale = v_set((float)op->grad_scale), part1 = v_set((float)(1 - op->beta1)), beta2 = v_set((float)op->beta2);
    const vf part2 = v_set((float)(1 - op->beta2)), rate = v_set((float)(op->rate / op->correction1));
    const vf root = v_set((float)(1 / sqrt(op->correction2))), eps = v_set((float)op->eps);
    const vf shrink = v_set((float)(op->rate * op->decay));
    for (int64_t i = piece * ELEMENTS; i < end; i += VW) {
        const int64_t lanes = end - i;
        float *w_at = (float *)op->w + i, *m_at = (float *)op->m + i, *v_at = (float *)op->v + i;
        const vf g = v_mul(v_load_n((const float *)op->g + i, lanes), scale), w = v_load_n(w_at, lanes);
        vf m = v_load_n(m_at, lanes), v = v_load_n(v_at, lanes);
        m = v_fma(part1, v_sub(g, m), m);
        v = v_fma(v_mul(part2, g), g, v_mul(beta2, v));
        const vf step = v_div(v_mul(rate, m), v_fma(v_root(v), root, eps));
        v_store_n(m_at, m, lanes);
        v_store_n(v_at, v, lanes);
        v_store_n(w_at, v_sub(v_fnma(shrink, w, w), step), lanes);
    }
}

dd_status KERNEL(adamw)(dd_exec *exec, const void *args)
{
    run_elements(exec, ((const dd_op_adamw *)args)->count, adamw_piece, args);
    return DD_OK;
}

typedef struct squares_job {
    const dd_op_sum_squares *op;
    double *sum; /* of each piece */
} squares_job;

static void squares_piece(void *arg, int64_t piece)
{
    const squares_job *job = arg;
    const int64_t end = minimum((piece + 1) * ELEMENTS, job->op->count);
    vd sum[4] = {vd_zero(), vd_zero(), vd_zero(), vd_zero()};
    for (int64_t i = piece * ELEMENTS; i < end; i += 4 * VW) {
        for (int64_t k = 0; k < 4; k++) {
            if (i + k * VW < end) {
                const vd x = vd_from(v_load_n((const float *)job->op->x + i + k * VW, end - i - k * VW));
                sum[k] = vd_fma(x, x, sum[k]);
            }
        }
    }
    job->sum[piece] = vd_sum(vd_add(vd_add(sum[0], sum[1]), vd_add(sum[2], sum[3])));
}

dd_status KERNEL(sum_squares)(dd_exec *exec, const void *args)
{
    const dd_op_sum_squares *op = args;
    const int64_t pieces = cpu_pieces(op->count, ELEMENTS);
    squares_job job = {op, exec->scratch(exec, (size_t)(pieces + 1) * sizeof *job.sum)};
    if (!job.sum) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, pieces, squares_piece, &job);
    double sum = 0;
    for (int64_t i = 0; i < pieces; i++) {
        sum += job.sum[i];
    }
    *op->sum = sum;
    return DD_OK;
}

static void average_piece(void *arg, int64_t piece)
{
    const dd_op_average *op = arg;
    const int64_t end = minimum((piece + 1) * ELEMENTS, op->count);
    const vf part = v_set((float)(1 - op->decay));
    for (int64_t i = piece * ELEMENTS; i < end; i += VW) {
        float *to = (float *)op->y + i;
        const vf y = v_load_n(to, end - i);
        v_store_n(to, v_fma(part, v_sub(v_load_n((const float *)op->x + i, end - i), y), y), end - i);
    }
}

dd_status KERNEL(average)(dd_exec *exec, const void *args)
{
    run_elements(exec, ((const dd_op_average *)args)->count, average_piece, args);
    return DD_OK;
}

#endif
