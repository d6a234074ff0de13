/* SPDX-License-Identifier: Apache-2.0
 * Softmax attention: blocks of queries against blocks of keys, so that only a block of scores exists at a time. A worker packs
 * the keys and values of one head of one image in panels of TILE_COLUMNS columns, padded with zeros; then every product is one
 * of whole register tiles. `compute` asks for nothing here: the reference forms these products in full as well. */
#include "backend/cpu/parallel.h"
#include "backend/cpu/philox.inc.h"
#include "backend/cpu/simd_wide.h"
#include "backend/cpu/tile.inc.h"
#include "backend/cpu/vecmath.h"

#include <stdatomic.h>

#define ATTENTION_ROWS (VW == 16 ? 8 : 4) /* of a register tile */
#define ATTENTION_QUERIES 32              /* of a block; a multiple of TILE_COLUMNS / 2 */
#define ATTENTION_KEYS 256                /* of a block; a multiple of TILE_COLUMNS */

/* What a worker has; all pieces of one scratch block. Panels: [panel][row][TILE_COLUMNS]. */
typedef struct attention_room {
    float *k_columns;     /* [key panels][dk]: keys as columns */
    float *v_rows;        /* [panels of dv][keys]; forward */
    float *v_columns;     /* [key panels][dv]; gradient, as the rest below */
    float *k_rows;        /* [panels of dk][keys] */
    float *g_k, *g_v;     /* [panels of dk or dv][keys] */
    float *g_q;           /* [panels of dk][queries] */
    float *g_rows;        /* [queries][dv] */
    float *q_panel;       /* [panels of dk][queries] */
    float *g_panel;       /* [panels of dv][queries] */
    float *slope;         /* [key panels of a block][queries] */
    float *blocked;       /* [keys]: 0 or -infinity */
    float *q_rows;        /* [queries][dk], times the scale */
    float *score;         /* [key panels of a block][queries] */
    float *y;             /* [panels of dv][queries] */
    float *highest, *sum; /* [queries]; gradient: lse, <g_y, y> */
    float *kept;          /* [keys of a block] and more */
} attention_room;

typedef struct attention_job {
    const dd_op_attention *op;
    int64_t keys; /* padded to whole panels */
    int64_t k_panels, v_panels;
    bool gradient;
    size_t room; /* floats of a worker */
    float *memory;
    atomic_llong next;
} attention_job;

/* One head of one image on one worker. */
typedef struct attention_task {
    const attention_job *job;
    const dd_op_attention *op;
    attention_room room;
    int64_t b, h;
} attention_task;

/* c[i][j] (+)= sum over k of a[i * a_row + k * a_k] panel[k][j], a register tile. */
static __attribute__((noinline)) void attention_tile(const float *a, int64_t a_row, int64_t a_k, const float *panel, int64_t K,
                                                     bool add, float *c)
{
    vf sum[ATTENTION_ROWS][2];
    for (int i = 0; i < ATTENTION_ROWS; i++) {
        sum[i][0] = add ? v_load(c + i * TILE_COLUMNS) : v_zero();
        sum[i][1] = add ? v_load(c + i * TILE_COLUMNS + VW) : v_zero();
    }
    for (int64_t k = 0; k < K; k++) {
        const vf b0 = v_load(panel + k * TILE_COLUMNS), b1 = v_load(panel + k * TILE_COLUMNS + VW);
        for (int i = 0; i < ATTENTION_ROWS; i++) {
            const vf x = v_set(a[i * a_row + k * a_k]);
            sum[i][0] = v_fma(x, b0, sum[i][0]);
            sum[i][1] = v_fma(x, b1, sum[i][1]);
        }
    }
    for (int i = 0; i < ATTENTION_ROWS; i++) {
        v_store(c + i * TILE_COLUMNS, sum[i][0]);
        v_store(c + i * TILE_COLUMNS + VW, sum[i][1]);
    }
}

/* ---- packing ---- */

static bool attention_padded(const attention_task *t, int64_t j)
{
    const dd_op_attention *op = t->op;
    return j >= op->Nk || (op->key_padding && op->key_padding[t->b * op->Nk + j]);
}

/* Keys (or values) as columns. x: of key 0, `width` numbers. Padded ones become 0: nothing that they hold may matter. */
static void attention_pack_columns(const attention_task *t, const float *x, int64_t ld, int64_t width, float *to)
{
    for (int64_t j = 0; j < t->job->keys; j++) {
        float *column = to + j / TILE_COLUMNS * width * TILE_COLUMNS + j % TILE_COLUMNS;
        const bool padded = attention_padded(t, j);
        for (int64_t c = 0; c < width; c++) {
            column[c * TILE_COLUMNS] = padded ? 0 : x[j * ld + c];
        }
    }
}

/* Row i of `rows` in panels: width numbers times a factor; x NULL: zeros. */
static void attention_pack_row(const float *x, float factor, int64_t width, int64_t i, int64_t rows, float *to)
{
    for (int64_t c = 0; c < width; c += VW) {
        const int64_t next = c / TILE_COLUMNS * rows * TILE_COLUMNS + i * TILE_COLUMNS + c % TILE_COLUMNS;
        v_store(to + next, x ? v_mul(v_set(factor), v_load_n(x + c, width - c)) : v_zero());
    }
    if (width % TILE_COLUMNS > 0 && width % TILE_COLUMNS <= VW) {
        v_store(to + width / TILE_COLUMNS * rows * TILE_COLUMNS + i * TILE_COLUMNS + VW, v_zero());
    }
}

static void attention_pack_keys(const attention_task *t)
{
    const dd_op_attention *op = t->op;
    const attention_room *m = &t->room;
    const float *k = (const float *)op->k + t->b * op->Nk * op->ldk + t->h * op->dk;
    const float *v = (const float *)op->v + t->b * op->Nk * op->ldv + t->h * op->dv;
    attention_pack_columns(t, k, op->ldk, op->dk, m->k_columns);
    if (t->job->gradient) {
        attention_pack_columns(t, v, op->ldv, op->dv, m->v_columns);
    }
    for (int64_t j = 0; j < t->job->keys; j++) {
        const bool padded = attention_padded(t, j);
        m->blocked[j] = padded ? -INFINITY : 0;
        if (t->job->gradient) {
            attention_pack_row(padded ? NULL : k + j * op->ldk, 1, op->dk, j, t->job->keys, m->k_rows);
        } else {
            attention_pack_row(padded ? NULL : v + j * op->ldv, 1, op->dv, j, t->job->keys, m->v_rows);
        }
    }
}

static void attention_copy_row(float *to, const float *x, float factor, int64_t width)
{
    for (int64_t c = 0; c < width; c += VW) {
        v_store_n(to + c, x ? v_mul(v_set(factor), v_load_n(x + c, width - c)) : v_zero(), width - c);
    }
}

/* Queries q .. of the block; rows beyond the last are 0. */
static void attention_pack_queries(const attention_task *t, int64_t first)
{
    const dd_op_attention *op = t->op;
    for (int64_t i = 0; i < ATTENTION_QUERIES; i++) {
        const int64_t at = t->b * op->Nq + first + i;
        const float *q = first + i < op->Nq ? (const float *)op->q + at * op->ldq + t->h * op->dk : NULL;
        attention_copy_row(t->room.q_rows + i * op->dk, q, (float)op->scale, op->dk);
        if (t->job->gradient) {
            const float *g = q ? (const float *)op->g_y + at * op->ldy + t->h * op->dv : NULL;
            attention_pack_row(q, (float)op->scale, op->dk, i, ATTENTION_QUERIES, t->room.q_panel);
            attention_pack_row(g, 1, op->dv, i, ATTENTION_QUERIES, t->room.g_panel);
            attention_copy_row(t->room.g_rows + i * op->dv, g, 1, op->dv);
        }
    }
}

/* ---- scores ---- */

/* Rows of a block, times all columns of its key panels. rows: [queries][width]. */
static void attention_block_product(const float *rows, int64_t width, const float *columns, int64_t first_key, int64_t keys,
                                    int64_t queries, float *to)
{
    for (int64_t j = 0; j < keys; j += TILE_COLUMNS) {
        const float *panel = columns + (first_key + j) / TILE_COLUMNS * width * TILE_COLUMNS;
        for (int64_t i = 0; i < queries; i += ATTENTION_ROWS) {
            attention_tile(rows + i * width, width, 1, panel, width, false, to + (j * ATTENTION_QUERIES) + i * TILE_COLUMNS);
        }
    }
}

/* Adds rows of `panels` (whole key panels of one row of tiles at a time), weighted by the block's columns, to sums by query. */
static void attention_add_rows(const float *weight, const float *panels, int64_t count, int64_t all_keys, int64_t first_key,
                               int64_t keys, int64_t queries, float *to)
{
    for (int64_t p = 0; p < count; p++) {
        for (int64_t i = 0; i < queries; i += ATTENTION_ROWS) {
            for (int64_t j = 0; j < keys; j += TILE_COLUMNS) {
                attention_tile(weight + j * ATTENTION_QUERIES + i * TILE_COLUMNS, TILE_COLUMNS, 1,
                               panels + (p * all_keys + first_key + j) * TILE_COLUMNS, TILE_COLUMNS, true,
                               to + (p * ATTENTION_QUERIES + i) * TILE_COLUMNS);
            }
        }
    }
}

/* Adds to sums by key: the block's queries, weighted by its rows. */
static void attention_add_columns(const float *weight, const float *panels, int64_t count, int64_t all_keys, int64_t first_key,
                                  int64_t keys, int64_t queries, float *to)
{
    for (int64_t p = 0; p < count; p++) {
        for (int64_t j = 0; j < keys; j += ATTENTION_ROWS) {
            const float *columns = weight + j / TILE_COLUMNS * TILE_COLUMNS * ATTENTION_QUERIES + j % TILE_COLUMNS;
            attention_tile(columns, 1, TILE_COLUMNS, panels + p * ATTENTION_QUERIES * TILE_COLUMNS, queries, true,
                           to + (p * all_keys + first_key + j) * TILE_COLUMNS);
        }
    }
}

/* Scores of query i against VW keys from j on, with bias, and -infinity where blocked. */
INLINE vf attention_score(const attention_task *t, int64_t i, int64_t j, vf s)
{
    const dd_op_attention *op = t->op;
    if (op->bias && j < op->Nk) {
        const float *bias = (const float *)op->bias + ((t->b * op->M + t->h) * op->Nq + i) * op->Nk + j;
        s = v_add(s, v_load_n(bias, op->Nk - j));
    }
    s = v_add(s, v_load(t->room.blocked + j));
    if (op->mask && j < op->Nk) {
        const vi flags = vi_from_bytes(op->mask + i * op->Nk + j, op->Nk - j);
        s = v_select(vi_within(vi_set(0), flags), v_set(-INFINITY), s);
    }
    if (op->split > 0) {
        const int64_t before = minimum(VW, op->split - j); /* the split */
        const vm own = v_first(before > 0 ? before : 0);
        s = i < op->split ? v_select(own, s, v_set(-INFINITY)) : v_select(own, v_set(-INFINITY), s);
    }
    return s;
}

/* What dropout leaves of the block's part of row i; NULL: everything. */
static const float *attention_kept(const attention_task *t, int64_t i, int64_t first_key, int64_t keys)
{
    const dd_op_attention *op = t->op;
    if (op->dropout.rate <= 0) {
        return NULL;
    }
    const int64_t row = (t->b * op->M + t->h) * op->Nq + i;
    return philox_kept(&op->dropout, (uint64_t)(row * op->Nk + first_key), keys, t->room.kept);
}

/* ---- forward ---- */

/* Row i of the block (query first + i): scores become weights below the highest score so far; sums so far are brought down. */
static void attention_weights(const attention_task *t, int64_t first, int64_t i, int64_t first_key, int64_t keys)
{
    const attention_room *m = &t->room;
    const float *kept = attention_kept(t, first + i, first_key, keys);
    vf highest = v_set(m->highest[i]), sum = v_zero();
    for (int64_t j = 0; j < keys; j += VW) {
        float *at = m->score + (j / TILE_COLUMNS * ATTENTION_QUERIES + i) * TILE_COLUMNS + j % TILE_COLUMNS;
        const vf s = attention_score(t, first + i, first_key + j, v_load(at));
        highest = v_max(highest, s);
        v_store(at, s);
    }
    const float top = v_highest(highest), level = top == -INFINITY ? 0 : top;
    for (int64_t j = 0; j < keys; j += VW) {
        float *at = m->score + (j / TILE_COLUMNS * ATTENTION_QUERIES + i) * TILE_COLUMNS + j % TILE_COLUMNS;
        const vf p = v_exp(v_sub(v_load(at), v_set(level)));
        sum = v_add(sum, p);
        v_store(at, kept ? v_mul(p, v_load(kept + j)) : p);
    }
    if (m->highest[i] != top) {
        const vf down = v_exp(v_sub(v_set(m->highest[i]), v_set(level)));
        m->sum[i] *= v_total(v_keep(down, 1));
        for (int64_t c = 0; c < t->job->v_panels * TILE_COLUMNS; c += VW) {
            float *y = m->y + (c / TILE_COLUMNS * ATTENTION_QUERIES + i) * TILE_COLUMNS + c % TILE_COLUMNS;
            v_store(y, v_mul(v_load(y), down));
        }
        m->highest[i] = top;
    }
    m->sum[i] += v_total(sum);
}

static void attention_finish(const attention_task *t, int64_t first, int64_t rows)
{
    const dd_op_attention *op = t->op;
    for (int64_t i = 0; i < rows; i++) {
        const float sum = t->room.sum[i], inverse = sum == 0 ? 0 : 1 / sum;
        float *y = (float *)op->y + (t->b * op->Nq + first + i) * op->ldy + t->h * op->dv;
        ((float *)op->lse)[(t->b * op->M + t->h) * op->Nq + first + i] =
            sum > 0 ? t->room.highest[i] + v_total(v_keep(v_log(v_set(sum)), 1)) : -INFINITY;
        for (int64_t c = 0; c < op->dv; c += VW) {
            const float *from = t->room.y + (c / TILE_COLUMNS * ATTENTION_QUERIES + i) * TILE_COLUMNS + c % TILE_COLUMNS;
            v_store_n(y + c, v_mul(v_load(from), v_set(inverse)), op->dv - c);
        }
    }
}

static void attention_forward(const attention_task *t)
{
    const dd_op_attention *op = t->op;
    const attention_room *m = &t->room;
    const int64_t all = t->job->keys;
    for (int64_t first = 0; first < op->Nq; first += ATTENTION_QUERIES) {
        const int64_t rows = minimum(ATTENTION_QUERIES, op->Nq - first);
        attention_pack_queries(t, first);
        memset(m->y, 0, (size_t)(t->job->v_panels * ATTENTION_QUERIES * TILE_COLUMNS) * sizeof *m->y);
        for (int64_t i = 0; i < ATTENTION_QUERIES; i++) {
            m->highest[i] = -INFINITY;
            m->sum[i] = 0;
        }
        for (int64_t key = 0; key < all; key += ATTENTION_KEYS) {
            const int64_t keys = minimum(ATTENTION_KEYS, all - key);
            attention_block_product(m->q_rows, op->dk, m->k_columns, key, keys, rows, m->score);
            for (int64_t i = 0; i < rows; i++) {
                attention_weights(t, first, i, key, keys);
            }
            attention_add_rows(m->score, m->v_rows, t->job->v_panels, all, key, keys, rows, m->y);
        }
        attention_finish(t, first, rows);
    }
}

/* ---- gradient ---- */

/* lse and <g_y, y> of the block's queries. Rows without keys, and rows beyond the last query: weights become 0. */
static void attention_recall(const attention_task *t, int64_t first)
{
    const dd_op_attention *op = t->op;
    for (int64_t i = 0; i < ATTENTION_QUERIES; i++) {
        const int64_t at = t->b * op->Nq + first + i;
        t->room.highest[i] = INFINITY;
        t->room.sum[i] = 0;
        if (first + i < op->Nq) {
            const float lse = ((const float *)op->lse)[(t->b * op->M + t->h) * op->Nq + first + i];
            const float *y = (const float *)op->y + at * op->ldy + t->h * op->dv;
            vd sum = vd_zero();
            for (int64_t c = 0; c < op->dv; c += VW) {
                const vf g = v_load_n((const float *)op->g_y + at * op->ldy + t->h * op->dv + c, op->dv - c);
                sum = vd_fma(vd_from(g), vd_from(v_load_n(y + c, op->dv - c)), sum);
            }
            t->room.highest[i] = lse == -INFINITY ? INFINITY : lse;
            t->room.sum[i] = (float)vd_sum(sum);
        }
    }
}

/* Row i: score becomes the weight after dropout, slope (the gradient of that weight) the gradient of the score. */
static void attention_slopes(const attention_task *t, int64_t first, int64_t i, int64_t first_key, int64_t keys)
{
    const dd_op_attention *op = t->op;
    const attention_room *m = &t->room;
    const bool real = first + i < op->Nq;
    const float *kept = real ? attention_kept(t, first + i, first_key, keys) : NULL;
    const vf lse = v_set(m->highest[i]), mean = v_set(m->sum[i]);
    float *bias = real && op->g_bias ? (float *)op->g_bias + ((t->b * op->M + t->h) * op->Nq + first + i) * op->Nk : NULL;
    for (int64_t j = 0; j < keys; j += VW) {
        const int64_t at = (j / TILE_COLUMNS * ATTENTION_QUERIES + i) * TILE_COLUMNS + j % TILE_COLUMNS,
                      left = op->Nk - first_key - j;
        vf s = v_load(m->score + at), g = v_load(m->slope + at);
        s = real ? attention_score(t, first + i, first_key + j, s) : s;
        const vf p = v_exp(v_sub(s, lse)), keep = kept ? v_load(kept + j) : v_set(1);
        const vf slope = v_mul(p, v_sub(v_mul(g, keep), mean));
        v_store(m->score + at, v_mul(p, keep));
        v_store(m->slope + at, slope);
        if (bias && left > 0) {
            float *to = bias + first_key + j;
            v_store_n(to, op->add & 8 ? v_add(v_load_n(to, left), slope) : slope, left);
        }
    }
}

/* Rows of sums in panels to rows of the caller: written, or added. */
static void attention_deliver(void *to, const float *panels, int64_t rows, int64_t all_rows, int64_t width, int64_t ld,
                              float factor, bool add)
{
    for (int64_t i = 0; to && i < rows; i++) {
        for (int64_t c = 0; c < width; c += VW) {
            float *at = (float *)to + i * ld + c;
            const vf x = v_load(panels + (c / TILE_COLUMNS * all_rows + i) * TILE_COLUMNS + c % TILE_COLUMNS);
            const vf before = add ? v_load_n(at, width - c) : v_zero();
            v_store_n(at, v_fma(x, v_set(factor), before), width - c);
        }
    }
}

INLINE void *attention_at(void *x, int64_t offset)
{
    return x ? (float *)x + offset : NULL;
}

static void attention_backward(const attention_task *t)
{
    const dd_op_attention *op = t->op;
    const attention_job *job = t->job;
    const attention_room *m = &t->room;
    const int64_t all = job->keys;
    memset(m->g_k, 0, (size_t)(job->k_panels * all * TILE_COLUMNS) * sizeof *m->g_k);
    memset(m->g_v, 0, (size_t)(job->v_panels * all * TILE_COLUMNS) * sizeof *m->g_v);
    for (int64_t first = 0; first < op->Nq; first += ATTENTION_QUERIES) {
        const int64_t queries = cpu_pieces(minimum(ATTENTION_QUERIES, op->Nq - first), ATTENTION_ROWS) * ATTENTION_ROWS;
        attention_pack_queries(t, first);
        attention_recall(t, first);
        memset(m->g_q, 0, (size_t)(job->k_panels * ATTENTION_QUERIES * TILE_COLUMNS) * sizeof *m->g_q);
        for (int64_t key = 0; key < all; key += ATTENTION_KEYS) {
            const int64_t keys = minimum(ATTENTION_KEYS, all - key);
            attention_block_product(m->q_rows, op->dk, m->k_columns, key, keys, queries, m->score);
            attention_block_product(m->g_rows, op->dv, m->v_columns, key, keys, queries, m->slope);
            for (int64_t i = 0; i < queries; i++) {
                attention_slopes(t, first, i, key, keys);
            }
            attention_add_columns(m->score, m->g_panel, op->g_v ? job->v_panels : 0, all, key, keys, queries, m->g_v);
            attention_add_columns(m->slope, m->q_panel, op->g_k ? job->k_panels : 0, all, key, keys, queries, m->g_k);
            attention_add_rows(m->slope, m->k_rows, op->g_q ? job->k_panels : 0, all, key, keys, queries, m->g_q);
        }
        attention_deliver(attention_at(op->g_q, (t->b * op->Nq + first) * op->ldq + t->h * op->dk), m->g_q,
                          minimum(ATTENTION_QUERIES, op->Nq - first), ATTENTION_QUERIES, op->dk, op->ldq, (float)op->scale,
                          op->add & 1);
    }
    attention_deliver(attention_at(op->g_k, t->b * op->Nk * op->ldk + t->h * op->dk), m->g_k, op->Nk, all, op->dk, op->ldk, 1,
                      op->add & 2);
    attention_deliver(attention_at(op->g_v, t->b * op->Nk * op->ldv + t->h * op->dv), m->g_v, op->Nk, all, op->dv, op->ldv, 1,
                      op->add & 4);
}

/* ---- workers ---- */

/* The next piece of a worker's memory; without memory only its size counts. */
static float *attention_take(float *memory, size_t *used, int64_t floats)
{
    float *piece = memory ? memory + *used : NULL;
    *used += (size_t)cpu_pieces(floats, 16) * 16;
    return piece;
}

/* Lays out a worker's memory (or NULL). Returns how many floats it takes. */
static size_t attention_lay_out(const attention_job *job, float *memory, attention_room *m)
{
    const dd_op_attention *op = job->op;
    const int64_t block = ATTENTION_QUERIES * ATTENTION_KEYS, queries = ATTENTION_QUERIES * TILE_COLUMNS;
    const int64_t keys = job->keys * TILE_COLUMNS;
    size_t used = 0;
    memset(m, 0, sizeof *m);
    m->k_columns = attention_take(memory, &used, job->keys * op->dk);
    m->blocked = attention_take(memory, &used, job->keys);
    m->q_rows = attention_take(memory, &used, (int64_t)ATTENTION_QUERIES * op->dk);
    m->score = attention_take(memory, &used, block);
    m->highest = attention_take(memory, &used, ATTENTION_QUERIES);
    m->sum = attention_take(memory, &used, ATTENTION_QUERIES);
    m->kept = attention_take(memory, &used, ATTENTION_KEYS + 4 + PHILOX_SET);
    if (!job->gradient) {
        m->v_rows = attention_take(memory, &used, job->v_panels * keys);
        m->y = attention_take(memory, &used, job->v_panels * queries);
        return used;
    }
    m->v_columns = attention_take(memory, &used, job->keys * op->dv);
    m->k_rows = attention_take(memory, &used, job->k_panels * keys);
    m->g_k = attention_take(memory, &used, job->k_panels * keys);
    m->g_v = attention_take(memory, &used, job->v_panels * keys);
    m->g_q = attention_take(memory, &used, job->k_panels * queries);
    m->g_rows = attention_take(memory, &used, (int64_t)ATTENTION_QUERIES * op->dv);
    m->q_panel = attention_take(memory, &used, job->k_panels * queries);
    m->g_panel = attention_take(memory, &used, job->v_panels * queries);
    m->slope = attention_take(memory, &used, block);
    return used;
}

static void attention_worker(void *arg, int64_t worker)
{
    attention_job *job = arg;
    attention_task task = {.job = job, .op = job->op};
    attention_lay_out(job, job->memory + worker * (int64_t)job->room, &task.room);
    for (int64_t i; (i = atomic_fetch_add(&job->next, 1)) < (int64_t)job->op->B * job->op->M;) {
        task.b = i / job->op->M;
        task.h = i % job->op->M;
        attention_pack_keys(&task);
        if (job->gradient) {
            attention_backward(&task);
        } else {
            attention_forward(&task);
        }
    }
}

static dd_status attention_run(dd_exec *exec, const dd_op_attention *op, bool gradient)
{
    attention_job job = {.op = op, .gradient = gradient, .keys = cpu_pieces(op->Nk, TILE_COLUMNS) * TILE_COLUMNS};
    job.k_panels = cpu_pieces(op->dk, TILE_COLUMNS);
    job.v_panels = cpu_pieces(op->dv, TILE_COLUMNS);
    const int64_t workers = minimum(exec->threads, (int64_t)op->B * op->M);
    attention_room room;
    job.room = attention_lay_out(&job, NULL, &room);
    job.memory = exec->scratch(exec, ((size_t)workers * job.room + 1) * sizeof *job.memory);
    if (!job.memory) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, workers, attention_worker, &job);
    return DD_OK;
}

dd_status KERNEL(attention)(dd_exec *exec, const void *args)
{
    return attention_run(exec, args, false);
}

dd_status KERNEL(attention_grad)(dd_exec *exec, const void *args)
{
    return attention_run(exec, args, true);
}
