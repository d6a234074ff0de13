/* SPDX-License-Identifier: Apache-2.0
 * Patches of a map times a packed weight: linear layers, convolutions and their gradients by the input, which differ in
 * what a row reads and where its result goes. Sums of a row and column run in one order: taps, then depth. */
#ifndef DDI_CPU_PATCH_H
#define DDI_CPU_PATCH_H

#include "backend/cpu/parallel.h"
#include "backend/cpu/tile.inc.h"

#define PATCH_KERNEL 16 /* wider kernels are left to the reference */
#define PATCH_DEPTH 256 /* of a tap at a time: a panel's part stays in the first cache */
#define PATCH_CELLS 192 /* of a piece of a heavy weight, half of it of others: what they read stays in the second cache */
#define PATCH_HEAVY (512 << 10) /* elements of a weight that does not stay there beside them */
#define PATCH_GROUP 8           /* parts of a sum at a time */
#define PATCH_PIECES 32         /* wanted at least, so that threads end together */

/* Products of bf16, where the processor has them, take two numbers of a row at once: `depth`, strides and places of the source
 * then count pairs, which lie in a float's place, the last one filled up with 0. */
#if defined(__AVX512BF16__)
#define PATCH_PAIRS 1
#else
#define PATCH_PAIRS 0
#endif
#define PATCH_UNITS(count) (PATCH_PAIRS ? ((count) + 1) / 2 : (count))

/* a b + c */
INLINE vf patch_product(vf a, vf b, vf c)
{
#if PATCH_PAIRS
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
#else
    return v_fma(a, b, c);
#endif
}

/* Source cell (i*step + up, j*step + left), for one tap; `packed` is the weight's. */
typedef struct patch_tap {
    int32_t up, left, packed;
} patch_tap;

/* Results (b, i, j), i < rows, j < columns. Places are in elements. */
typedef struct patch {
    const float *src; /* cells outside of height x width count as 0 */
    int64_t src_image, src_row, src_cell, height, width, step, depth;
    const patch_tap *tap;
    int32_t taps;
    bool add, relu;
    float *dst;
    int64_t dst_image, dst_row, dst_cell, images, rows, columns, N;
    const float *packed; /* [panels][packed taps][depth][TILE_COLUMNS], panels panel_stride apart */
    int64_t panel_stride;
    const float *shift, *residual; /* [N]; as dst; or NULL */
} patch;

typedef struct patch_job {
    patch g;
    int64_t cells, panels, cells_each, panels_each, panel_pieces;
} patch_job;

typedef struct patch_cell {
    int64_t src, h, w, dst;
} patch_cell;

static const float patch_zeros[PATCH_DEPTH];

/* Cells first .. first+count and where they read and write. */
static void patch_walk(const patch *g, int64_t first, int64_t count, patch_cell *cell)
{
    int64_t j = first % g->columns, i = first / g->columns % g->rows, b = first / g->columns / g->rows;
    for (int64_t n = 0; n < count; n++) {
        cell[n] = (patch_cell){b * g->src_image + i * g->step * g->src_row + j * g->step * g->src_cell, i * g->step,
                               j * g->step, b * g->dst_image + i * g->dst_row + j * g->dst_cell};
        if (++j == g->columns) {
            j = 0;
            if (++i == g->rows) {
                i = 0;
                b++;
            }
        }
    }
}

/* Parts of the sums that are added up in registers one after the other: taps, or parts of a deep one. */
typedef struct patch_group {
    int64_t parts, K[PATCH_GROUP], packed[PATCH_GROUP]; /* packed: where the part begins in a panel */
    const float *row[PATCH_GROUP][PATCH_CELLS];
    bool load, last; /* begin with what the destination holds; finish */
} patch_group;

/* Where the cells read for a tap; the last one repeats until the tile is full. */
static void patch_point(const patch *g, const patch_cell *cell, int64_t count, const patch_tap *t, int64_t k, const float **row)
{
    const int64_t shift = t->up * g->src_row + t->left * g->src_cell + k;
    for (int64_t n = 0; n < count; n++) {
        const bool inside =
            (uint64_t)(cell[n].h + t->up) < (uint64_t)g->height && (uint64_t)(cell[n].w + t->left) < (uint64_t)g->width;
        row[n] = inside ? g->src + (cell[n].src + shift) : patch_zeros;
    }
    for (int64_t n = count; n % TILE_ROWS != 0; n++) {
        row[n] = row[count - 1];
    }
}

/* sum += rows x panel */
INLINE void patch_products(const float *const *row, const float *panel, int64_t K, vf sum[TILE_ROWS][2])
{
    const float *at[TILE_ROWS];
    for (int i = 0; i < TILE_ROWS; i++) {
        at[i] = row[i];
    }
    for (int64_t k = 0; k < K; k++) {
        const vf b0 = v_load(panel + k * TILE_COLUMNS), b1 = v_load(panel + k * TILE_COLUMNS + VW);
        _mm_prefetch((const char *)(panel + (k + 8) * TILE_COLUMNS), _MM_HINT_T0);
        _mm_prefetch((const char *)(panel + (k + 8) * TILE_COLUMNS + VW), _MM_HINT_T0);
        for (int i = 0; i < TILE_ROWS; i++) {
            const vf x = v_set(at[i][k]);
            sum[i][0] = patch_product(x, b0, sum[i][0]);
            sum[i][1] = patch_product(x, b1, sum[i][1]);
        }
    }
}

/* What the sums become in the end. */
INLINE vf patch_finish(const patch *g, vf sum, vf shift, const float *residual, int64_t lanes)
{
    sum = v_add(sum, shift);
    if (residual) {
        sum = v_add(sum, v_load_n(residual, lanes));
    }
    return g->relu ? v_max(v_zero(), sum) : sum;
}

/* Rows n .. of the group's cells in the columns of a panel. */
static void patch_tile(const patch *g, const patch_group *group, const patch_cell *cell, int64_t n, int64_t rows,
                       const float *panel, int64_t column)
{
    const int64_t lanes = g->N - column;
    vf sum[TILE_ROWS][2];
    for (int i = 0; i < TILE_ROWS; i++) {
        sum[i][0] = sum[i][1] = v_zero();
    }
    if (group->load) {
        for (int i = 0; i < TILE_ROWS; i++) {
            const float *from = g->dst + cell[n + minimum(i, rows - 1)].dst + column;
            sum[i][0] = v_load_n(from, lanes);
            sum[i][1] = lanes > VW ? v_load_n(from + VW, lanes - VW) : v_zero();
        }
    }
    for (int i = 0; i < TILE_ROWS; i++) {
        const float *to = g->dst + cell[n + minimum(i, rows - 1)].dst + column;
        __builtin_prefetch(to, 1);
        __builtin_prefetch(to + VW, 1);
    }
    for (int64_t part = 0; part < group->parts; part++) {
        patch_products(group->row[part] + n, panel + group->packed[part], group->K[part], sum);
    }
    const bool finish = group->last && (g->shift || g->residual || g->relu);
    for (int64_t half = 0; half < 2 && lanes > half * VW; half++) {
        const int64_t c = column + half * VW, some = lanes - half * VW;
        const vf shift = finish && g->shift ? v_load_n(g->shift + c, some) : v_zero();
        for (int i = 0; i < TILE_ROWS; i++) {
            if (i < rows) {
                const int64_t at = cell[n + i].dst + c;
                const float *residual = g->residual ? g->residual + at : NULL;
                v_store_n(g->dst + at, finish ? patch_finish(g, sum[i][half], shift, residual, some) : sum[i][half], some);
            }
        }
    }
}

/* The parts from (tap, depth) on that make a group; moves on behind them. */
static void patch_next(const patch *g, const patch_cell *cell, int64_t count, int32_t *tap, int64_t *k, patch_group *group)
{
    int64_t total = 0;
    group->load = g->add || *tap > 0 || *k > 0;
    group->parts = 0;
    while (*tap < g->taps && group->parts < PATCH_GROUP) {
        const int64_t K = minimum(PATCH_DEPTH, g->depth - *k);
        if (total > 0 && total + K > PATCH_DEPTH) {
            break;
        }
        patch_point(g, cell, count, &g->tap[*tap], *k, group->row[group->parts]);
        group->K[group->parts] = K;
        group->packed[group->parts++] = (g->tap[*tap].packed * g->depth + *k) * TILE_COLUMNS;
        total += K;
        *k += K;
        if (*k == g->depth) {
            *k = 0;
            (*tap)++;
        }
    }
    group->last = *tap == g->taps;
}

static void patch_piece(void *arg, int64_t piece)
{
    const patch_job *job = arg;
    const patch *g = &job->g;
    const int64_t first = piece / job->panel_pieces * job->cells_each, count = minimum(job->cells_each, job->cells - first);
    const int64_t p_begin = piece % job->panel_pieces * job->panels_each;
    const int64_t p_end = minimum(p_begin + job->panels_each, job->panels);
    patch_cell cell[PATCH_CELLS];
    patch_group group;
    int32_t tap = 0;
    int64_t k = 0;
    patch_walk(g, first, count, cell);
    while (tap < g->taps) {
        patch_next(g, cell, count, &tap, &k, &group);
        for (int64_t p = p_begin; p < p_end; p++) {
            const float *panel = g->packed + p * g->panel_stride;
            for (int64_t n = 0; n < count; n += TILE_ROWS) {
                patch_tile(g, &group, cell, n, minimum(TILE_ROWS, count - n), panel, p * TILE_COLUMNS);
            }
        }
    }
}

/* Nothing to add up: zeros, shift and residual alone. */
static void patch_empty_piece(void *arg, int64_t piece)
{
    const patch_job *job = arg;
    const patch *g = &job->g;
    const int64_t first = piece * PATCH_CELLS, count = minimum(PATCH_CELLS, job->cells - first);
    patch_cell cell[PATCH_CELLS];
    patch_walk(g, first, count, cell);
    for (int64_t n = 0; n < count; n++) {
        for (int64_t c = 0; c < g->N; c += VW) {
            const int64_t lanes = g->N - c, at = cell[n].dst + c;
            const vf begin = g->add ? v_load_n(g->dst + at, lanes) : v_zero();
            const vf shift = g->shift ? v_load_n(g->shift + c, lanes) : v_zero();
            v_store_n(g->dst + at, patch_finish(g, begin, shift, g->residual ? g->residual + at : NULL, lanes), lanes);
        }
    }
}

/* Runs a product. The cut into pieces is by the shape alone. */
static void patch_run(dd_exec *exec, const patch *g)
{
    patch_job job = {.g = *g, .cells = g->images * g->rows * g->columns, .panels = panel_count(g->N)};
    if (job.cells == 0 || g->N == 0) {
        return;
    }
    if (g->taps == 0 || g->depth == 0) {
        cpu_parallel_for(exec->threads, cpu_pieces(job.cells, PATCH_CELLS), patch_empty_piece, &job);
        return;
    }
    const bool heavy = job.panels * TILE_COLUMNS * g->taps * g->depth > PATCH_HEAVY;
    job.cells_each = heavy ? PATCH_CELLS : PATCH_CELLS / 2;
    job.panels_each = minimum(job.panels, 8 * 32 / TILE_COLUMNS);
    while (cpu_pieces(job.cells, job.cells_each) * cpu_pieces(job.panels, job.panels_each) < PATCH_PIECES &&
           (job.cells_each > PATCH_CELLS / 8 || job.panels_each > 1)) {
        if (job.panels_each > 2 || job.cells_each == PATCH_CELLS / 8) {
            job.panels_each = (job.panels_each + 1) / 2;
        } else {
            job.cells_each /= 2;
        }
    }
    job.panel_pieces = cpu_pieces(job.panels, job.panels_each);
    cpu_parallel_for(exec->threads, cpu_pieces(job.cells, job.cells_each) * job.panel_pieces, patch_piece, &job);
}

/* ---- Packing of weights [outputs][inputs][area] */

typedef struct packing {
    const float *w, *scale; /* scale by output, or NULL */
    int64_t outputs, inputs, area;
    bool round; /* to bf16 */
    int64_t depth;
    float *packed;
} packing;

INLINE vf v_rounded(vf x, bool round)
{
    if (!round) {
        return x;
    }
    uint16_t word[VW];
    v_to_bf16(word, x);
    return v_from_bf16(word);
}

INLINE void v_transpose(vf x[VW])
{
    vf y[VW];
#if VW == 16
    for (int i = 0; i < VW; i += 4) {
        const vf a = _mm512_unpacklo_ps(x[i], x[i + 1]), b = _mm512_unpackhi_ps(x[i], x[i + 1]);
        const vf c = _mm512_unpacklo_ps(x[i + 2], x[i + 3]), d = _mm512_unpackhi_ps(x[i + 2], x[i + 3]);
        y[i] = _mm512_shuffle_ps(a, c, 0x44);
        y[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        y[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        y[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        const vf a = _mm512_shuffle_f32x4(y[i], y[i + 4], 0x88), b = _mm512_shuffle_f32x4(y[i], y[i + 4], 0xdd);
        const vf c = _mm512_shuffle_f32x4(y[i + 8], y[i + 12], 0x88), d = _mm512_shuffle_f32x4(y[i + 8], y[i + 12], 0xdd);
        x[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        x[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        x[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        x[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
#else
    for (int i = 0; i < VW; i += 4) {
        const vf a = _mm256_unpacklo_ps(x[i], x[i + 1]), b = _mm256_unpackhi_ps(x[i], x[i + 1]);
        const vf c = _mm256_unpacklo_ps(x[i + 2], x[i + 3]), d = _mm256_unpackhi_ps(x[i + 2], x[i + 3]);
        y[i] = _mm256_shuffle_ps(a, c, 0x44);
        y[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        y[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        y[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_permute2f128_ps(y[i], y[i + 4], 0x20);
        x[i + 4] = _mm256_permute2f128_ps(y[i], y[i + 4], 0x31);
    }
#endif
}

#define PACK_FLATS (8 * VW) /* of a piece */

/* packed[panel of outputs][tap][input][output]: VW flat places (input, tap) of VW outputs at a time. */
static void pack_by_output(void *arg, int64_t piece)
{
    const packing *v = arg;
    const int64_t flats = v->inputs * v->area, chunks = cpu_pieces(flats, PACK_FLATS), panel = piece / chunks;
    const int64_t begin = piece % chunks * PACK_FLATS, end = minimum(begin + PACK_FLATS, flats);
    for (int64_t f = begin; f < end; f += VW) {
        for (int64_t half = 0; half < 2; half++) {
            const int64_t o = panel * TILE_COLUMNS + half * VW;
            vf row[VW];
            for (int i = 0; i < VW; i++) {
                row[i] = v_zero();
                if (o + i < v->outputs) {
                    const vf w = v_load_n(v->w + (o + i) * flats + f, end - f);
                    row[i] = v_rounded(v->scale ? v_mul(w, v_set(v->scale[o + i])) : w, v->round);
                }
            }
            v_transpose(row);
            int64_t input = f / v->area, tap = f % v->area;
            for (int64_t i = 0; i < minimum(VW, end - f); i++) {
                v_store(v->packed + (((panel * v->area + tap) * v->inputs + input) * 2 + half) * VW, row[i]);
                input += tap == v->area - 1;
                tap = tap == v->area - 1 ? 0 : tap + 1;
            }
        }
    }
}

/* packed[panel of inputs][tap][output][input]: VW inputs and up to VW of their taps at a time. */
static void pack_by_input(void *arg, int64_t o)
{
    const packing *v = arg;
    const vf scale = v_set(v->scale ? v->scale[o] : 1);
    for (int64_t c = 0; c < panel_count(v->inputs) * TILE_COLUMNS; c += VW) {
        const float *from = v->w + (o * v->inputs + c) * v->area;
        float *to = v->packed + (c / TILE_COLUMNS * v->area * v->outputs + o) * TILE_COLUMNS + c % TILE_COLUMNS;
        for (int64_t tap = 0; tap < v->area; tap += VW) {
            vf row[VW];
            if (v->area == 1) {
                row[0] = c < v->inputs ? v_load_n(from, v->inputs - c) : v_zero();
            } else {
                for (int64_t i = 0; i < VW; i++) {
                    row[i] = c + i < v->inputs ? v_load_n(from + i * v->area + tap, v->area - tap) : v_zero();
                }
                v_transpose(row);
            }
            for (int64_t t = 0; t < minimum(VW, v->area - tap); t++) {
                v_store(to + (tap + t) * v->outputs * TILE_COLUMNS, v_rounded(v_mul(row[t], scale), v->round));
            }
        }
    }
}

#if PATCH_PAIRS
/* Rows 2i and 2i+1 of a panel's taps, numbers of bf16, become row i. What is read lies at or behind what is written. */
static void pack_pairs(void *arg, int64_t panel)
{
    const packing *v = arg;
    float *at = v->packed + panel * v->area * v->depth * TILE_COLUMNS, *to = at;
    for (int64_t tap = 0; tap < v->area; tap++) {
        for (int64_t k = 0; k < v->depth; k += 2) {
            const bool alone = k + 1 == v->depth;
            for (int64_t c = 0; c < TILE_COLUMNS; c += VW) {
                const vi low = _mm512_castps_si512(v_load(at + c));
                const vi high = alone ? _mm512_setzero_si512() : _mm512_castps_si512(v_load(at + TILE_COLUMNS + c));
                v_store(to + c, _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32(low, 16), high)));
            }
            to += TILE_COLUMNS;
            at += (alone ? 1 : 2) * TILE_COLUMNS;
        }
    }
}
#endif

/* Packs with room from the kernel's scratch memory, for g. False: out of memory. */
static bool pack_weight(dd_exec *exec, packing v, bool by_input, patch *g)
{
    const int64_t panels = panel_count(by_input ? v.inputs : v.outputs);
    v.depth = by_input ? v.outputs : v.inputs;
    v.packed = exec->scratch(exec, (size_t)(panels * v.depth * v.area * TILE_COLUMNS + 1) * sizeof *v.packed);
    g->packed = v.packed;
    g->panel_stride = v.depth * v.area * TILE_COLUMNS;
    if (!v.packed) {
        return false;
    }
    if (by_input) {
        cpu_parallel_for(exec->threads, v.outputs, pack_by_input, &v);
    } else {
        cpu_parallel_for(exec->threads, panels * cpu_pieces(v.inputs * v.area, PACK_FLATS), pack_by_output, &v);
    }
#if PATCH_PAIRS
    cpu_parallel_for(exec->threads, panels, pack_pairs, &v);
#endif
    return true;
}

/* ---- Copies of activations */

typedef struct rounding_job {
    const float *x;
    float *y;
    int64_t rows, width, x_row;
} rounding_job;

#define ROUNDED_ROWS 32

#if !PATCH_PAIRS
static void round_rows(void *arg, int64_t piece)
{
    const rounding_job *job = arg;
    for (int64_t i = piece * ROUNDED_ROWS; i < minimum((piece + 1) * ROUNDED_ROWS, job->rows); i++) {
        for (int64_t c = 0; c < job->width; c += VW) {
            v_store_n(job->y + i * job->width + c, v_rounded(v_load_n(job->x + i * job->x_row + c, job->width - c), true),
                      job->width - c);
        }
    }
}

/* A dense copy whose numbers are rounded to bf16; NULL: out of memory. */
static const float *rounded_copy(dd_exec *exec, const float *x, int64_t rows, int64_t width, int64_t x_row)
{
    float *y = exec->scratch(exec, (size_t)(rows * width + 1) * sizeof *y);
    rounding_job job = {x, y, rows, width, x_row};
    if (y) {
        cpu_parallel_for(exec->threads, cpu_pieces(rows, ROUNDED_ROWS), round_rows, &job);
    }
    return y;
}
#endif

#if PATCH_PAIRS
static void pair_rows(void *arg, int64_t piece)
{
    const rounding_job *job = arg;
    const int64_t units = PATCH_UNITS(job->width);
    for (int64_t i = piece * ROUNDED_ROWS; i < minimum((piece + 1) * ROUNDED_ROWS, job->rows); i++) {
        const float *x = job->x + i * job->x_row;
        float *y = job->y + i * units;
        for (int64_t c = 0; c < job->width; c += 2 * VW) {
            const int64_t lanes = job->width - c;
            const vf low = v_load_n(x + c, lanes), high = lanes > VW ? v_load_n(x + c + VW, lanes - VW) : v_zero();
            v_store_n(y + c / 2, (vf)_mm512_cvtne2ps_pbh(high, low), PATCH_UNITS(lanes));
        }
    }
}
#endif

#if PATCH_PAIRS
/* Row i: rows 2i and 2i+1 of x, number by number; behind the last row comes a row of 0. */
static void join_rows(void *arg, int64_t piece)
{
    const rounding_job *job = arg;
    for (int64_t i = piece * ROUNDED_ROWS; i < minimum((piece + 1) * ROUNDED_ROWS, PATCH_UNITS(job->rows)); i++) {
        const float *x = job->x + 2 * i * job->x_row;
        for (int64_t c = 0; c < job->width; c += VW) {
            const int64_t lanes = job->width - c;
            const vf second = 2 * i + 1 < job->rows ? v_load_n(x + job->x_row + c, lanes) : v_zero();
            const vi low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v_load_n(x + c, lanes)));
            const vi high = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(second)), 16);
            v_store_n(job->y + i * job->width + c, _mm512_castsi512_ps(_mm512_or_si512(low, high)), lanes);
        }
    }
}

/* Pairs of rows for sums over rows; NULL: out of memory. */
static const float *joined_copy(dd_exec *exec, const float *x, int64_t rows, int64_t width, int64_t x_row)
{
    const int64_t pairs = PATCH_UNITS(rows);
    rounding_job job = {x, exec->scratch(exec, (size_t)(pairs * width + 1) * sizeof *job.y), rows, width, x_row};
    if (job.y) {
        cpu_parallel_for(exec->threads, cpu_pieces(pairs, ROUNDED_ROWS), join_rows, &job);
    }
    return job.y;
}
#endif

/* Rows as products take them: x itself, or a copy in bf16. *row: how far apart. NULL: out of memory. */
static const float *patch_factors(dd_exec *exec, const float *x, int64_t rows, int64_t width, int64_t *row, bool round)
{
    if (!round) {
        return x;
    }
#if PATCH_PAIRS
    const int64_t x_row = *row;
    *row = PATCH_UNITS(width);
    rounding_job job = {x, exec->scratch(exec, (size_t)(rows * *row + 1) * sizeof *job.y), rows, width, x_row};
    if (job.y) {
        cpu_parallel_for(exec->threads, cpu_pieces(rows, ROUNDED_ROWS), pair_rows, &job);
    }
    return job.y;
#else
    const int64_t x_row = *row;
    *row = width;
    return rounded_copy(exec, x, rows, width, x_row);
#endif
}

#endif
