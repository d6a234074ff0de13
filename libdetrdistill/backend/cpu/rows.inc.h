/* SPDX-License-Identifier: Apache-2.0
 * What the query-contrastive term and the adaptors need besides matrix products (distillation A.9, B.5): sums, rows by
 * index, normalisations, cross entropy, resize. */
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd_wide.h"
#include "backend/cpu/vecmath.h"

#define VARIANCE_EPS 1e-5
#define LENGTH_FLOOR 1e-12
#define ROWS_PIECE 32 /* rows, or columns (a multiple of VW) */

static double sum_of(const float *x, int64_t count)
{
    vd sum = vd_zero();
    for (int64_t i = 0; i < count; i += VW) {
        sum = vd_add(sum, vd_from(v_load_n(x + i, count - i)));
    }
    return vd_sum(sum);
}

static void row_sum_piece(void *arg, int64_t m)
{
    const dd_op_row_sum *op = arg;
    double sum = 0;
    for (int64_t i = 0; i < op->batch; i++) {
        sum += sum_of((const float *)op->x + (i * op->M + m) * op->N, op->N);
    }
    ((float *)op->y)[m] = (float)sum;
}

static void column_sum_piece(void *arg, int64_t piece)
{
    const dd_op_row_sum *op = arg;
    const int64_t end = minimum((piece + 1) * ROWS_PIECE, op->N);
    for (int64_t n = piece * ROWS_PIECE; n < end; n += VW) {
        vd sum = vd_zero();
        for (int64_t row = 0; row < (int64_t)op->batch * op->M; row++) {
            sum = vd_add(sum, vd_from(v_load_n((const float *)op->x + row * op->N + n, end - n)));
        }
        v_store_n((float *)op->y + n, vd_round(sum), end - n);
    }
}

dd_status KERNEL(row_sum)(dd_exec *exec, const void *args)
{
    const dd_op_row_sum *op = args;
    if (op->by_columns) {
        cpu_parallel_for(exec->threads, cpu_pieces(op->N, ROWS_PIECE), column_sum_piece, (void *)(uintptr_t)op);
    } else {
        cpu_parallel_for(exec->threads, op->M, row_sum_piece, (void *)(uintptr_t)op);
    }
    return DD_OK;
}

/* Rows that the index lists, block by block: of dst, or of src if inverse. */
static void take_rows_piece(void *arg, int64_t piece)
{
    const dd_op_take_rows *op = arg;
    const size_t bytes = (size_t)op->d * sizeof(float);
    const int64_t listed = op->inverse ? op->src_rows_per_block : op->rows_per_block;
    const int64_t other = op->inverse ? op->rows_per_block : op->src_rows_per_block;
    const int64_t end = minimum((piece + 1) * ROWS_PIECE, op->rows);
    for (int64_t i = piece * ROWS_PIECE; i < end; i++) {
        const int64_t inside = op->index ? op->index[i] : i % listed, at = i / listed * other + inside;
        const int64_t from = op->inverse ? i : at, to = op->inverse ? at : i;
        if (inside >= 0) {
            memcpy((float *)op->dst + to * op->d, (const float *)op->src + from * op->d, bytes);
        } else if (!op->inverse) {
            memset((float *)op->dst + to * op->d, 0, bytes);
        }
    }
}

dd_status KERNEL(take_rows)(dd_exec *exec, const void *args)
{
    const dd_op_take_rows *op = args;
    if (op->rows == 0 || op->d == 0) {
        return DD_OK;
    }
    if (op->inverse) {
        const int64_t rows = op->rows / op->src_rows_per_block * op->rows_per_block;
        memset(op->dst, 0, (size_t)(rows * op->d) * sizeof(float));
    }
    cpu_parallel_for(exec->threads, cpu_pieces(op->rows, ROWS_PIECE), take_rows_piece, (void *)(uintptr_t)op);
    return DD_OK;
}

/* VW columns from c on. */
static void batchnorm_columns(const dd_op_batchnorm_relu *op, int64_t c)
{
    const float *x = op->x, *gamma = op->gamma, *beta = op->beta;
    const int64_t lanes = op->d - c;
    vd mean = vd_zero(), variance = vd_zero();
    for (int64_t i = 0; i < op->rows; i++) {
        mean = vd_add(mean, vd_from(v_load_n(x + i * op->d + c, lanes)));
    }
    mean = vd_mul(mean, vd_set(1 / (double)op->rows));
    for (int64_t i = 0; i < op->rows; i++) {
        const vd deviation = vd_sub(vd_from(v_load_n(x + i * op->d + c, lanes)), mean);
        variance = vd_fma(deviation, deviation, variance);
    }
    double rstd[VW];
    vd_store(rstd, variance);
    for (int k = 0; k < VW; k++) {
        rstd[k] = 1 / sqrt(rstd[k] / (double)op->rows + VARIANCE_EPS);
    }
    vd scale = vd_load(rstd);
    v_store_n((float *)op->mean + c, vd_round(mean), lanes);
    v_store_n((float *)op->rstd + c, vd_round(scale), lanes);
    scale = vd_mul(scale, vd_from(v_load_n(gamma + c, lanes)));
    const vd shift = vd_sub(vd_from(v_load_n(beta + c, lanes)), vd_mul(mean, scale));
    for (int64_t i = 0; i < op->rows; i++) {
        const vd y = vd_fma(vd_from(v_load_n(x + i * op->d + c, lanes)), scale, shift);
        v_store_n((float *)op->y + i * op->d + c, v_max(v_zero(), vd_round(y)), lanes);
    }
}

static void batchnorm_piece(void *arg, int64_t piece)
{
    const dd_op_batchnorm_relu *op = arg;
    for (int64_t c = piece * ROWS_PIECE; c < minimum((piece + 1) * ROWS_PIECE, op->d); c += VW) {
        batchnorm_columns(op, c);
    }
}

dd_status KERNEL(batchnorm_relu)(dd_exec *exec, const void *args)
{
    const dd_op_batchnorm_relu *op = args;
    cpu_parallel_for(exec->threads, cpu_pieces(op->d, ROWS_PIECE), batchnorm_piece, (void *)(uintptr_t)op);
    return DD_OK;
}

/* g_y where ReLU let it pass, and z = (x - mean) rstd, at element `at`. */
INLINE vd passed_gradient(const dd_op_batchnorm_relu *op, int64_t at, int64_t c, int64_t lanes, vd *z)
{
    const vm open = v_less(v_zero(), v_load_n((const float *)op->y + at, lanes));
    const vd mean = vd_from(v_load_n((const float *)op->mean + c, lanes));
    const vd rstd = vd_from(v_load_n((const float *)op->rstd + c, lanes));
    *z = vd_mul(vd_sub(vd_from(v_load_n((const float *)op->x + at, lanes)), mean), rstd);
    return vd_from(v_select(open, v_load_n((const float *)op->g_y + at, lanes), v_zero()));
}

/* g_x = gamma rstd (g - (sum g + z sum g z) / rows) */
static void batchnorm_grad_columns(const dd_op_batchnorm_relu *op, int64_t c)
{
    const int64_t lanes = op->d - c;
    vd z, g_beta = vd_zero(), g_gamma = vd_zero();
    for (int64_t i = 0; i < op->rows; i++) {
        const vd g = passed_gradient(op, i * op->d + c, c, lanes, &z);
        g_beta = vd_add(g_beta, g);
        g_gamma = vd_fma(g, z, g_gamma);
    }
    const vd scale =
        vd_mul(vd_from(v_load_n((const float *)op->gamma + c, lanes)), vd_from(v_load_n((const float *)op->rstd + c, lanes)));
    const vd share = vd_set(1 / (double)op->rows);
    for (int64_t i = 0; i < op->rows; i++) {
        const vd g = passed_gradient(op, i * op->d + c, c, lanes, &z);
        const vd removed = vd_mul(vd_fma(z, g_gamma, g_beta), share);
        v_store_n((float *)op->g_x + i * op->d + c, vd_round(vd_mul(scale, vd_sub(g, removed))), lanes);
    }
    v_store_n((float *)op->g_beta + c, vd_round(g_beta), lanes);
    v_store_n((float *)op->g_gamma + c, vd_round(g_gamma), lanes);
}

static void batchnorm_grad_piece(void *arg, int64_t piece)
{
    const dd_op_batchnorm_relu *op = arg;
    for (int64_t c = piece * ROWS_PIECE; c < minimum((piece + 1) * ROWS_PIECE, op->d); c += VW) {
        batchnorm_grad_columns(op, c);
    }
}

dd_status KERNEL(batchnorm_relu_grad)(dd_exec *exec, const void *args)
{
    const dd_op_batchnorm_relu *op = args;
    cpu_parallel_for(exec->threads, cpu_pieces(op->d, ROWS_PIECE), batchnorm_grad_piece, (void *)(uintptr_t)op);
    return DD_OK;
}

static double dot_of(const float *x, const float *y, int64_t count)
{
    vd sum = vd_zero();
    for (int64_t i = 0; i < count; i += VW) {
        sum = vd_fma(vd_from(v_load_n(x + i, count - i)), vd_from(v_load_n(y + i, count - i)), sum);
    }
    return vd_sum(sum);
}

static void l2norm_piece(void *arg, int64_t piece)
{
    const dd_op_l2norm *op = arg;
    for (int64_t i = piece * ROWS_PIECE; i < minimum((piece + 1) * ROWS_PIECE, op->rows); i++) {
        const float *x = (const float *)op->x + i * op->d;
        const double length = sqrt(dot_of(x, x, op->d));
        const vd factor = vd_set(1 / (length >= LENGTH_FLOOR ? length : LENGTH_FLOOR));
        for (int64_t c = 0; c < op->d; c += VW) {
            const vd y = vd_mul(vd_from(v_load_n(x + c, op->d - c)), factor);
            v_store_n((float *)op->y + i * op->d + c, vd_round(y), op->d - c);
        }
        ((float *)op->length)[i] = (float)length;
    }
}

dd_status KERNEL(l2norm)(dd_exec *exec, const void *args)
{
    const dd_op_l2norm *op = args;
    cpu_parallel_for(exec->threads, cpu_pieces(op->rows, ROWS_PIECE), l2norm_piece, (void *)(uintptr_t)op);
    return DD_OK;
}

/* (g - y <y, g>) / |x|; at the floor g / 1e-12. */
static void l2norm_grad_piece(void *arg, int64_t piece)
{
    const dd_op_l2norm *op = arg;
    for (int64_t i = piece * ROWS_PIECE; i < minimum((piece + 1) * ROWS_PIECE, op->rows); i++) {
        const float *y = (const float *)op->y + i * op->d, *g = (const float *)op->g_y + i * op->d;
        const double length = ((const float *)op->length)[i];
        const bool floored = length < LENGTH_FLOOR;
        const vd along = vd_set(floored ? 0 : -dot_of(y, g, op->d)), factor = vd_set(1 / (floored ? LENGTH_FLOOR : length));
        for (int64_t c = 0; c < op->d; c += VW) {
            const vd across = vd_fma(vd_from(v_load_n(y + c, op->d - c)), along, vd_from(v_load_n(g + c, op->d - c)));
            v_store_n((float *)op->g_x + i * op->d + c, vd_round(vd_mul(across, factor)), op->d - c);
        }
    }
}

dd_status KERNEL(l2norm_grad)(dd_exec *exec, const void *args)
{
    const dd_op_l2norm *op = args;
    cpu_parallel_for(exec->threads, cpu_pieces(op->rows, ROWS_PIECE), l2norm_grad_piece, (void *)(uintptr_t)op);
    return DD_OK;
}

static float highest_of(const float *x, int64_t count)
{
    float lane[VW], highest = x[0];
    vf best = v_set(x[0]);
    for (int64_t i = 0; i + VW <= count; i += VW) {
        best = v_max(best, v_load(x + i));
    }
    v_store(lane, best);
    for (int k = 0; k < VW; k++) {
        highest = lane[k] > highest ? lane[k] : highest;
    }
    for (int64_t i = count - count % VW; i < count; i++) {
        highest = x[i] > highest ? x[i] : highest;
    }
    return highest;
}

typedef struct entropy_job {
    const dd_op_cross_entropy *op;
    double *loss; /* of each row */
} entropy_job;

static void cross_entropy_row(void *arg, int64_t i)
{
    const entropy_job *job = arg;
    const dd_op_cross_entropy *op = job->op;
    const float *x = (const float *)op->logits + i * op->n;
    float *g = op->g_logits ? (float *)op->g_logits + i * op->n : NULL;
    const float highest = highest_of(x, op->n);
    vd sum = vd_zero();
    for (int64_t j = 0; j < op->n; j += VW) {
        const vf e = v_exp(v_sub(v_load_n(x + j, op->n - j), v_set(highest)));
        sum = vd_add(sum, vd_from(v_keep(e, op->n - j)));
        if (g) {
            v_store_n(g + j, e, op->n - j);
        }
    }
    const double total = vd_sum(sum), factor = op->grad_scale * op->scale / (double)op->n;
    job->loss[i] = highest - (double)x[i] + log(total);
    if (!g) {
        return;
    }
    const double diagonal = factor * (g[i] / total - 1);
    for (int64_t j = 0; j < op->n; j += VW) {
        v_store_n(g + j, v_mul(v_load_n(g + j, op->n - j), v_set((float)(factor / total))), op->n - j);
    }
    g[i] = (float)diagonal;
}

dd_status KERNEL(cross_entropy)(dd_exec *exec, const void *args)
{
    const dd_op_cross_entropy *op = args;
    entropy_job job = {op, exec->scratch(exec, (size_t)(op->n + 1) * sizeof *job.loss)};
    if (!job.loss) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, op->n, cross_entropy_row, &job);
    double sum = 0;
    for (int64_t i = 0; i < op->n; i++) {
        sum += job.loss[i];
    }
    *op->loss = op->n > 0 ? op->scale / (double)op->n * sum : 0;
    return DD_OK;
}

/* One target coordinate reads sources low and low + step, the latter with weight `part`. */
typedef struct resize_tap {
    int32_t low, step;
    double part;
} resize_tap;

/* Pixel centres lie at i + 1/2 (align_corners = false); coordinates stop at the edges. */
static resize_tap tap_of(int32_t i, int32_t source, int32_t target)
{
    double x = (i + 0.5) * source / target - 0.5;
    x = x > 0 ? x : 0;
    resize_tap tap;
    tap.low = x < source - 1 ? (int32_t)x : source - 1;
    tap.step = tap.low + 1 < source;
    tap.part = x - tap.low;
    return tap;
}

typedef struct resize_job {
    const dd_op_resize *op;
    const resize_tap *across; /* [dst_w] */
    double *line;             /* [maps, src_w] */
} resize_job;

/* Down first: a line of src_w numbers, from which the target's row is read. */
static void resize_map(void *arg, int64_t map)
{
    const resize_job *job = arg;
    const dd_op_resize *op = job->op;
    const float *src = (const float *)op->src + map * op->src_h * op->src_w;
    float *dst = (float *)op->dst + map * op->dst_h * op->dst_w;
    double *line = job->line + map * op->src_w;
    for (int32_t y = 0; y < op->dst_h; y++) {
        const resize_tap down = tap_of(y, op->src_h, op->dst_h);
        const float *upper = src + (int64_t)down.low * op->src_w, *lower = upper + (int64_t)down.step * op->src_w;
        for (int32_t x = 0; x < op->src_w; x++) {
            line[x] = (1 - down.part) * upper[x] + down.part * lower[x];
        }
        for (int32_t x = 0; x < op->dst_w; x++) {
            const resize_tap tap = job->across[x];
            dst[(int64_t)y * op->dst_w + x] = (float)((1 - tap.part) * line[tap.low] + tap.part * line[tap.low + tap.step]);
        }
    }
}

/* Adds factor * line to a row of the gradient. */
static void add_line(float *row, const double *line, double factor, int32_t count)
{
    for (int32_t x = 0; x < count; x++) {
        row[x] = (float)(row[x] + factor * line[x]);
    }
}

static void resize_grad_map(void *arg, int64_t map)
{
    const resize_job *job = arg;
    const dd_op_resize *op = job->op;
    float *src = (float *)op->src + map * op->src_h * op->src_w;
    const float *dst = (const float *)op->dst + map * op->dst_h * op->dst_w;
    double *line = job->line + map * op->src_w;
    memset(src, 0, (size_t)op->src_h * (size_t)op->src_w * sizeof *src);
    for (int32_t y = 0; y < op->dst_h; y++) {
        const resize_tap down = tap_of(y, op->src_h, op->dst_h);
        memset(line, 0, (size_t)op->src_w * sizeof *line);
        for (int32_t x = 0; x < op->dst_w; x++) {
            const resize_tap tap = job->across[x];
            const double g = dst[(int64_t)y * op->dst_w + x];
            line[tap.low] += (1 - tap.part) * g;
            line[tap.low + tap.step] += tap.part * g;
        }
        add_line(src + (int64_t)down.low * op->src_w, line, 1 - down.part, op->src_w);
        if (down.part > 0) {
            add_line(src + ((int64_t)down.low + down.step) * op->src_w, line, down.part, op->src_w);
        }
    }
}

static dd_status resize_maps(dd_exec *exec, const dd_op_resize *op, void (*one)(void *, int64_t))
{
    resize_tap *across = exec->scratch(exec, ((size_t)op->dst_w + 1) * sizeof *across);
    double *line = exec->scratch(exec, ((size_t)op->maps * (size_t)op->src_w + 1) * sizeof *line);
    if (!across || !line) {
        return DD_ERR_NOMEM;
    }
    for (int32_t x = 0; x < op->dst_w; x++) {
        across[x] = tap_of(x, op->src_w, op->dst_w);
    }
    resize_job job = {op, across, line};
    cpu_parallel_for(exec->threads, op->maps, one, &job);
    return DD_OK;
}

dd_status KERNEL(resize)(dd_exec *exec, const void *args)
{
    return resize_maps(exec, args, resize_map);
}

dd_status KERNEL(resize_grad)(dd_exec *exec, const void *args)
{
    return resize_maps(exec, args, resize_grad_map);
}
