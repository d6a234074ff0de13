/* SPDX-License-Identifier: Apache-2.0
 * Linear layers and convolutions with their gradients, as products of patches (patch.inc.h) and sums of outer products
 * (outer.inc.h). */
#ifndef DDI_CPU_DENSE_H
#define DDI_CPU_DENSE_H

#include "backend/cpu/outer.inc.h"
#include "backend/cpu/simd_wide.h"

#define COLUMN_ROWS 128 /* of a piece of column sums */
#define NARROW_INPUT 16 /* convolutions of as many channels read a row of the kernel at once */

/* ---- Gradients before the activation, and their sums by column */

typedef struct column_job {
    float *g;       /* becomes 0 where y is not positive; or stays, y NULL */
    const float *y; /* rows as g */
    int64_t rows, width, row;
    float *sum, *total; /* [pieces, width]; total += their sums; both NULL: not wanted */
} column_job;

INLINE vf column_masked(const column_job *job, int64_t at, int64_t lanes)
{
    const vf g = v_load_n(job->g + at, lanes);
    if (!job->y) {
        return g;
    }
    const vf open = v_select(v_less(v_zero(), v_load_n(job->y + at, lanes)), g, v_zero());
    v_store_n(job->g + at, open, lanes);
    return open;
}

static void column_piece(void *arg, int64_t piece)
{
    const column_job *job = arg;
    const int64_t first = piece * COLUMN_ROWS, end = minimum(first + COLUMN_ROWS, job->rows);
    float *sum = job->sum ? job->sum + piece * job->width : NULL;
    for (int64_t i = first; i < end; i += 4) {
        for (int64_t c = 0; c < job->width; c += VW) {
            const int64_t lanes = job->width - c;
            vf four[4];
            for (int64_t k = 0; k < 4; k++) {
                four[k] = i + k < end ? column_masked(job, (i + k) * job->row + c, lanes) : v_zero();
            }
            if (sum) {
                const vf before = i > first ? v_load_n(sum + c, lanes) : v_zero();
                v_store_n(sum + c, v_add(before, v_add(v_add(four[0], four[1]), v_add(four[2], four[3]))), lanes);
            }
        }
    }
}

static void column_total(void *arg, int64_t piece)
{
    const column_job *job = arg;
    const int64_t c = piece * VW, lanes = job->width - c;
    vd sum = vd_zero();
    for (int64_t i = 0; i < cpu_pieces(job->rows, COLUMN_ROWS); i++) {
        sum = vd_add(sum, vd_from(v_load_n(job->sum + i * job->width + c, lanes)));
    }
    v_store_n(job->total + c, v_add(v_load_n(job->total + c, lanes), vd_round(sum)), lanes);
}

/* Masks g and adds its columns to job->total, as far as wanted. False: out of memory. */
static bool column_run(dd_exec *exec, column_job *job)
{
    const int64_t pieces = cpu_pieces(job->rows, COLUMN_ROWS);
    if (job->total) {
        job->sum = exec->scratch(exec, (size_t)(pieces * job->width + 1) * sizeof *job->sum);
        if (!job->sum) {
            return false;
        }
    }
    if (job->total || job->y) {
        cpu_parallel_for(exec->threads, pieces, column_piece, job);
    }
    if (job->total) {
        cpu_parallel_for(exec->threads, cpu_pieces(job->width, VW), column_total, job);
    }
    return true;
}

/* ---- Weight gradients from sums of outer products */

typedef struct weight_grad {
    const outer_job *o;
    const float *w, *scale;
    float *g_w, *g_scale; /* += */
    int64_t inputs, area; /* column n of tap t is place t * N + n of [area][inputs] */
} weight_grad;

/* Adds scale * sum to g_w at a place; returns the products of w with the sums. The sum is 0 beyond `lanes`. */
INLINE vd weight_grad_put(const weight_grad *v, int64_t at, vf sum, vf scale, int64_t lanes)
{
    if (v->g_w) {
        float *to = v->g_w + at;
        v_store_n(to, v_add(v_load_n(to, lanes), v_mul(scale, sum)), lanes);
    }
    return v->g_scale ? vd_mul(vd_from(v_load_n(v->w + at, lanes)), vd_from(sum)) : vd_zero();
}

/* One tap, or taps whose columns are inputs: sums [tap][input] become [input][tap], VW of each at a time. */
static vd weight_grad_taps(const weight_grad *v, int64_t m, vf scale)
{
    vd by_scale = vd_zero();
    for (int64_t c = 0; c < v->inputs; c += VW) {
        const int64_t first = (m * v->inputs + c) * v->area, inputs = minimum(VW, v->inputs - c);
        for (int64_t tap = 0; tap < v->area; tap += VW) {
            vf row[VW];
            for (int64_t t = 0; t < VW; t++) {
                row[t] = tap + t < v->area ? outer_sum(v->o, m, tap + t, c) : v_zero();
            }
            if (v->area == 1) {
                by_scale = vd_add(by_scale, weight_grad_put(v, first, row[0], scale, inputs));
                continue;
            }
            v_transpose(row);
            for (int64_t i = 0; i < inputs; i++) {
                const vd part = weight_grad_put(v, first + i * v->area + tap, row[i], scale, v->area - tap);
                by_scale = vd_add(by_scale, part);
            }
        }
    }
    return by_scale;
}

/* Taps that are rows of a kernel: column n is input n % inputs. */
static double weight_grad_narrow(const weight_grad *v, int64_t m, float scale)
{
    const outer_job *o = v->o;
    double by_scale = 0;
    for (int64_t tap = 0; tap < o->map->taps; tap++) {
        for (int64_t n = 0; n < o->N; n += VW) {
            float sum[VW];
            v_store(sum, outer_sum(o, m, tap, n));
            for (int64_t i = 0; i < minimum(VW, o->N - n); i++) {
                const int64_t place = tap * o->N + n + i;
                const int64_t at = (m * v->inputs + place % v->inputs) * v->area + place / v->inputs;
                if (v->g_w) {
                    v->g_w[at] += scale * sum[i];
                }
                by_scale += v->g_scale ? (double)v->w[at] * (double)sum[i] : 0;
            }
        }
    }
    return by_scale;
}

/* The row of output m. */
static void weight_grad_row(void *arg, int64_t m)
{
    const weight_grad *v = arg;
    const float scale = v->scale ? v->scale[m] : 1;
    const double by_scale =
        v->o->N == v->inputs ? vd_sum(weight_grad_taps(v, m, v_set(scale))) : weight_grad_narrow(v, m, scale);
    if (v->g_scale) {
        v->g_scale[m] += (float)by_scale;
    }
}

static dd_status weight_grad_run(dd_exec *exec, outer_job *o, weight_grad *v)
{
    if (!outer_run(exec, o)) {
        return DD_ERR_NOMEM;
    }
    v->o = o;
    cpu_parallel_for(exec->threads, o->M, weight_grad_row, v);
    return DD_OK;
}

/* ---- Linear */

static const patch_tap the_tap = {0, 0, 0};

/* Rows of x, `depth` wide, to rows of y, N wide. */
static patch linear_rows(const float *x, int64_t ldx, int64_t depth, float *y, int64_t ldy, int64_t N, int64_t rows)
{
    return (patch){.src = x,
                   .src_cell = ldx,
                   .height = 1,
                   .width = rows,
                   .step = 1,
                   .depth = depth,
                   .tap = &the_tap,
                   .taps = 1,
                   .dst = y,
                   .dst_cell = ldy,
                   .images = 1,
                   .rows = 1,
                   .columns = rows,
                   .N = N};
}

static packing linear_weight(const dd_op_linear *op)
{
    return (packing){.w = op->w, .outputs = op->N, .inputs = op->K, .area = 1, .round = op->compute == DD_COMPUTE_BF16};
}

#if PATCH_PAIRS
int32_t KERNEL(linear_accepts)(const void *args)
{
    return ((const dd_op_linear *)args)->compute == DD_COMPUTE_BF16 && __builtin_cpu_supports("avx512bf16");
}
#endif

dd_status KERNEL(linear)(dd_exec *exec, const void *args)
{
    const dd_op_linear *op = args;
    int64_t row = op->ldx;
    const float *x = patch_factors(exec, op->x, op->rows, op->K, &row, op->compute == DD_COMPUTE_BF16);
    patch g = linear_rows(x, row, PATCH_UNITS(op->K), op->y, op->ldy, op->N, op->rows);
    if (!pack_weight(exec, linear_weight(op), false, &g) || (op->compute == DD_COMPUTE_BF16 && !x)) {
        return DD_ERR_NOMEM;
    }
    g.shift = op->bias;
    g.relu = op->relu != 0;
    patch_run(exec, &g);
    return DD_OK;
}

/* Rows of x and of g_y meet one by one: linear layers, and convolutions that look at their own cell. */
typedef struct row_factors {
    const float *x, *g;
    int64_t rows, ldx, ldg, K, N;
} row_factors;

static dd_status rows_weight_grad(dd_exec *exec, row_factors f, bool round, weight_grad *v)
{
#if PATCH_PAIRS
    if (round) {
        f.x = joined_copy(exec, f.x, f.rows, f.K, f.ldx);
        f.g = joined_copy(exec, f.g, f.rows, f.N, f.ldg);
        f.rows = PATCH_UNITS(f.rows);
        f.ldx = f.K;
        f.ldg = f.N;
        if (!f.x || !f.g) {
            return DD_ERR_NOMEM;
        }
    }
#endif
    const patch map = linear_rows(f.x, f.ldx, f.K, NULL, 0, 0, f.rows);
    outer_job o = {.map = &map,
                   .pairs = round && PATCH_PAIRS,
                   .round = round && !PATCH_PAIRS,
                   .g = f.g,
                   .g_cell = f.ldg,
                   .M = f.N,
                   .N = f.K};
    return weight_grad_run(exec, &o, v);
}

static dd_status linear_input_grad(dd_exec *exec, const dd_op_linear *op)
{
    int64_t row = op->ldy;
    const float *g_y = patch_factors(exec, op->g_y, op->rows, op->N, &row, op->compute == DD_COMPUTE_BF16);
    patch g = linear_rows(g_y, row, PATCH_UNITS(op->N), op->g_x, op->ldx, op->K, op->rows);
    if (!g_y || !pack_weight(exec, linear_weight(op), true, &g)) {
        return DD_ERR_NOMEM;
    }
    g.add = op->add & 1;
    patch_run(exec, &g);
    return DD_OK;
}

dd_status KERNEL(linear_grad)(dd_exec *exec, const void *args)
{
    const dd_op_linear *op = args;
    if (op->rows == 0) {
        return DD_OK;
    }
    column_job columns = {
        .g = op->g_y, .y = op->relu ? op->y : NULL, .rows = op->rows, .width = op->N, .row = op->ldy, .total = op->g_bias};
    if (!column_run(exec, &columns)) {
        return DD_ERR_NOMEM;
    }
    const dd_status status = op->g_x ? linear_input_grad(exec, op) : DD_OK;
    if (status != DD_OK || !op->g_w || op->N == 0 || op->K == 0) {
        return status;
    }
    weight_grad v = {.g_w = op->g_w, .inputs = op->K, .area = 1};
    return rows_weight_grad(exec, (row_factors){op->x, op->g_y, op->rows, op->ldx, op->ldy, op->K, op->N},
                            op->compute == DD_COMPUTE_BF16, &v);
}

/* ---- Convolution */

static bool conv_is_narrow(const dd_op_conv *op)
{
    return op->Cin <= NARROW_INPUT && op->kernel > 1;
}

int32_t KERNEL(conv_accepts)(const void *args)
{
    const dd_op_conv *op = args;
#if PATCH_PAIRS
    if (op->compute != DD_COMPUTE_BF16 || conv_is_narrow(op) || !__builtin_cpu_supports("avx512bf16")) {
        return 0;
    }
#endif
    return op->kernel <= PATCH_KERNEL;
}

typedef struct pad_job {
    const dd_op_conv *op;
    float *y; /* [B,H+2pad,W+2pad,Cin] */
} pad_job;

static void pad_row(void *arg, int64_t i)
{
    const pad_job *job = arg;
    const dd_op_conv *op = job->op;
    const int64_t high = op->H + 2 * op->pad, h = i % high - op->pad, b = i / high;
    const int64_t edge = (int64_t)op->pad * op->Cin, inner = (int64_t)op->W * op->Cin;
    const bool inside = h >= 0 && h < op->H, round = op->compute == DD_COMPUTE_BF16;
    float *to = job->y + i * (inner + 2 * edge);
    memset(to, 0, (size_t)(inside ? edge : inner + 2 * edge) * sizeof *to);
    if (!inside) {
        return;
    }
    const float *from = (const float *)op->x + (b * op->H + h) * inner;
    for (int64_t c = 0; c < inner; c += VW) {
        v_store_n(to + edge + c, v_rounded(v_load_n(from + c, inner - c), round), inner - c);
    }
    memset(to + edge + inner, 0, (size_t)edge * sizeof *to);
}

/* What the outputs read of x, in rows as products take them, or plain ones (which sums of outer products round). Where a
 * cell is narrow, x is padded and a row of the kernel is one tap, for its cells follow one another. False: out of memory. */
static bool conv_source(dd_exec *exec, const dd_op_conv *op, bool plain, patch *g, patch_tap *tap)
{
    const bool narrow = conv_is_narrow(op), round = op->compute == DD_COMPUTE_BF16;
    const int64_t edge = narrow ? 2 * (int64_t)op->pad : 0, width = op->W + edge, height = op->H + edge;
    const int64_t cells = (int64_t)op->B * op->H * op->W;
    const float *x = op->x;
    int64_t row = op->Cin;
    if (narrow) {
        pad_job job = {op, exec->scratch(exec, (size_t)(op->B * height * width * op->Cin + 1) * sizeof *job.y)};
        if (job.y) {
            cpu_parallel_for(exec->threads, op->B * height, pad_row, &job);
        }
        x = job.y;
    } else if (!plain) {
        x = patch_factors(exec, x, cells, op->Cin, &row, round);
    }
    const int32_t across = narrow ? 1 : op->kernel, pad = narrow ? 0 : op->pad;
    for (int32_t k = 0; k < op->kernel * across; k++) {
        tap[k] = (patch_tap){k / across - pad, k % across - pad, k};
    }
    *g = (patch){.src = x,
                 .src_image = height * width * row,
                 .src_row = width * row,
                 .src_cell = row,
                 .height = height,
                 .width = width,
                 .step = op->stride,
                 .depth = narrow ? (int64_t)op->kernel * op->Cin : row,
                 .tap = tap,
                 .taps = op->kernel * across,
                 .images = op->B,
                 .rows = op->OH > 0 ? op->OH : 0,
                 .columns = op->OW > 0 ? op->OW : 0};
    return x != NULL;
}

static packing conv_weight(const dd_op_conv *op)
{
    return (packing){.w = op->w,
                     .scale = op->scale,
                     .outputs = op->Cout,
                     .inputs = op->Cin,
                     .area = (int64_t)op->kernel * op->kernel,
                     .round = op->compute == DD_COMPUTE_BF16};
}

dd_status KERNEL(conv)(dd_exec *exec, const void *args)
{
    const dd_op_conv *op = args;
    patch_tap tap[PATCH_KERNEL * PATCH_KERNEL];
    patch g;
    if (!conv_source(exec, op, false, &g, tap) || !pack_weight(exec, conv_weight(op), false, &g)) {
        return DD_ERR_NOMEM;
    }
    g.N = op->Cout;
    g.dst = op->y;
    g.dst_cell = op->Cout;
    g.dst_row = g.dst_cell * op->OW;
    g.dst_image = g.dst_row * op->OH;
    g.shift = op->shift;
    g.residual = op->residual;
    g.relu = op->relu != 0;
    patch_run(exec, &g);
    return DD_OK;
}

/* Inputs (h, w) with the same remainders by the stride meet the same taps: output (h + pad - kh) / stride. */
static void conv_input_phase(dd_exec *exec, const dd_op_conv *op, patch *g, int32_t h, int32_t w)
{
    patch_tap tap[PATCH_KERNEL * PATCH_KERNEL];
    const int32_t s = op->stride;
    g->taps = 0;
    for (int32_t k = 0; k < op->kernel * op->kernel; k++) {
        const int32_t up = h + op->pad - k / op->kernel, left = w + op->pad - k % op->kernel;
        if (up % s == 0 && left % s == 0) {
            tap[g->taps++] = (patch_tap){up / s, left / s, k};
        }
    }
    g->tap = tap;
    g->dst = (float *)op->g_x + ((int64_t)h * op->W + w) * op->Cin;
    g->rows = h < op->H ? (op->H - h + s - 1) / s : 0;
    g->columns = w < op->W ? (op->W - w + s - 1) / s : 0;
    if (g->taps > 0 || !g->add) {
        patch_run(exec, g);
    }
}

static dd_status conv_input_grad(dd_exec *exec, const dd_op_conv *op)
{
    const int64_t OH = op->OH > 0 ? op->OH : 0, OW = op->OW > 0 ? op->OW : 0;
    int64_t row = op->Cout;
    const float *g_y = patch_factors(exec, op->g_y, op->B * OH * OW, op->Cout, &row, op->compute == DD_COMPUTE_BF16);
    patch g = {.src = g_y,
               .src_image = OH * OW * row,
               .src_row = OW * row,
               .src_cell = row,
               .height = OH,
               .width = OW,
               .step = 1,
               .depth = row,
               .add = op->add & 1,
               .dst_image = (int64_t)op->H * op->W * op->Cin,
               .dst_row = (int64_t)op->stride * op->W * op->Cin,
               .dst_cell = (int64_t)op->stride * op->Cin,
               .images = op->B,
               .N = op->Cin};
    if (!g_y || !pack_weight(exec, conv_weight(op), true, &g)) {
        return DD_ERR_NOMEM;
    }
    for (int32_t h = 0; h < op->stride; h++) {
        for (int32_t w = 0; w < op->stride; w++) {
            conv_input_phase(exec, op, &g, h, w);
        }
    }
    return DD_OK;
}

static dd_status conv_weight_grad(dd_exec *exec, const dd_op_conv *op, int64_t cells)
{
    patch_tap tap[PATCH_KERNEL * PATCH_KERNEL];
    patch map;
    const bool round = op->compute == DD_COMPUTE_BF16;
    weight_grad v = {.w = op->w,
                     .scale = op->scale,
                     .g_w = op->g_w,
                     .g_scale = op->g_scale,
                     .inputs = op->Cin,
                     .area = (int64_t)op->kernel * op->kernel};
    if (op->kernel == 1 && op->stride == 1 && op->pad == 0) {
        return rows_weight_grad(exec, (row_factors){op->x, op->g_y, cells, op->Cin, op->Cout, op->Cin, op->Cout}, round, &v);
    }
    if (!conv_source(exec, op, true, &map, tap)) {
        return DD_ERR_NOMEM;
    }
    outer_job o = {.map = &map, .round = round, .g = op->g_y, .g_cell = op->Cout, .M = op->Cout, .N = map.depth};
    return weight_grad_run(exec, &o, &v);
}

dd_status KERNEL(conv_grad)(dd_exec *exec, const void *args)
{
    const dd_op_conv *op = args;
    const int64_t cells = op->OH > 0 && op->OW > 0 ? (int64_t)op->B * op->OH * op->OW : 0;
    column_job columns = {
        .g = op->g_y, .y = op->relu ? op->y : NULL, .rows = cells, .width = op->Cout, .row = op->Cout, .total = op->g_shift};
    if (!column_run(exec, &columns)) {
        return DD_ERR_NOMEM;
    }
    const dd_status status = op->g_x ? conv_input_grad(exec, op) : DD_OK;
    if (status != DD_OK || !(op->g_w || op->g_scale) || cells == 0 || op->Cin == 0 || op->Cout == 0) {
        return status;
    }
    return conv_weight_grad(exec, op, cells);
}

#endif
