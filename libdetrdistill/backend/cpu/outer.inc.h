/* SPDX-License-Identifier: Apache-2.0
 * Gradients of weights: sums over the cells of a map of products g[cell][m] x[what the cell reads for a tap][n]. Cells are cut
 * into parts by the shape alone; sums of a part's chunks, then of parts, are added in order. */
#ifndef DDI_CPU_OUTER_H
#define DDI_CPU_OUTER_H

#include "backend/cpu/patch.inc.h"

#define OUTER_CHUNK 192 /* cells whose products are added up in registers: a panel of them stays in the first cache */
#define OUTER_TILES (264 / TILE_ROWS)
#define OUTER_PANELS (256 / TILE_COLUMNS)
#define OUTER_LEAST 1024 /* cells of a part at least, where there are several */
#define OUTER_PIECES 16  /* wanted at least, .. */
#define OUTER_FEW 16     /* .. and blocks are cut smaller where there are fewer than so many */
#define OUTER_TILE (TILE_ROWS * TILE_COLUMNS)
#define OUTER_STRIPS 8                                  /* tiles packed side by side */
#define OUTER_STRIP(width) (OUTER_CHUNK * (width) + VW) /* room of the packed cells of a tile or panel */

/* The map is that of a patch: its source is x, its cells are those of g (dense rows, g_cell apart). */
typedef struct outer_job {
    const patch *map;
    bool pairs; /* cells are pairs, of bf16 */
    bool round; /* to bf16 */
    const float *g;
    int64_t g_cell, M, N;
    int64_t tiles, panels, parts, part_cells, tiles_each, panels_each, tile_pieces, panel_pieces;
    float *sum;  /* [parts][taps][tiles][panels][OUTER_TILE] */
    float *room; /* [threads][room_each] */
    int64_t room_each;
} outer_job;

/* Where the numbers of up to OUTER_CHUNK cells are. */
typedef struct outer_chunk {
    int64_t count, g[OUTER_CHUNK], x[OUTER_CHUNK];
} outer_chunk;

/* The cells from first to end that read inside the map. */
static void outer_list(const outer_job *o, const patch_tap *t, int64_t first, int64_t end, outer_chunk *list)
{
    const patch *map = o->map;
    int64_t j = first % map->columns, i = first / map->columns % map->rows, b = first / map->columns / map->rows;
    list->count = 0;
    for (int64_t cell = first; cell < end; cell++) {
        const int64_t h = i * map->step + t->up, w = j * map->step + t->left;
        list->g[list->count] = cell * o->g_cell;
        list->x[list->count] = b * map->src_image + h * map->src_row + w * map->src_cell;
        list->count += (uint64_t)h < (uint64_t)map->height && (uint64_t)w < (uint64_t)map->width;
        if (++j == map->columns) {
            j = 0;
            if (++i == map->rows) {
                i = 0;
                b++;
            }
        }
    }
}

/* sum += g x^T over the cells, or pairs of them, of g [count][VW] and x [count][TILE_COLUMNS] */
INLINE void outer_products(const float *g, const float *x, int64_t count, bool add, bool pairs, float *tile)
{
    vf sum[TILE_ROWS][2];
    for (int i = 0; i < TILE_ROWS; i++) {
        sum[i][0] = sum[i][1] = v_zero();
    }
    for (int64_t k = 0; k < count; k++) {
        const float *a = g + k * VW, *b = x + k * TILE_COLUMNS;
        const vf b0 = v_load(b), b1 = v_load(b + VW);
        for (int i = 0; i < TILE_ROWS; i++) {
            const vf y = v_set(a[i]);
            sum[i][0] = pairs ? patch_product(y, b0, sum[i][0]) : v_fma(y, b0, sum[i][0]);
            sum[i][1] = pairs ? patch_product(y, b1, sum[i][1]) : v_fma(y, b1, sum[i][1]);
        }
    }
    for (int i = 0; i < TILE_ROWS; i++) {
        float *to = tile + i * TILE_COLUMNS;
        v_store(to, add ? v_add(v_load(to), sum[i][0]) : sum[i][0]);
        v_store(to + VW, add ? v_add(v_load(to + VW), sum[i][1]) : sum[i][1]);
    }
}

/* Numbers first .. end of each listed cell, by tile: to[tile][cell][VW], zeros behind the last number. Few tiles at a time:
 * each lies in pages of its own. */
static void outer_pack_rows(const float *from, const int64_t *at, int64_t count, int64_t first, int64_t end, bool round,
                            float *to)
{
    for (int64_t begin = first; begin < end; begin += OUTER_STRIPS * TILE_ROWS) {
        const int64_t stop = minimum(begin + OUTER_STRIPS * TILE_ROWS, end);
        for (int64_t k = 0; k < count; k++) {
            const float *row = from + at[k];
            float *place = to + k * VW;
            for (int64_t c = begin; c < stop; c += TILE_ROWS) {
                v_store(place, v_rounded(v_load_n(row + c, end - c), round));
                place += OUTER_STRIP(VW);
            }
        }
        to += OUTER_STRIPS * OUTER_STRIP(VW);
    }
}

/* The same for one panel: to[cell][TILE_COLUMNS]. */
static void outer_pack_columns(const float *from, const int64_t *at, int64_t count, int64_t columns, bool round, float *to)
{
    for (int64_t k = 0; k < count; k++) {
        const float *row = from + at[k];
        v_store(to + k * TILE_COLUMNS, v_rounded(v_load_n(row, columns), round));
        v_store(to + k * TILE_COLUMNS + VW, columns > VW ? v_rounded(v_load_n(row + VW, columns - VW), round) : v_zero());
    }
}

/* Tiles m0 .. m1 x panels n0 .. n1. */
typedef struct outer_area {
    int64_t m0, m1, n0, n1;
} outer_area;

INLINE void outer_fetch_row(const float *row, int64_t count)
{
    for (int64_t c = 0; c < count; c += 64 / (int64_t)sizeof *row) {
        _mm_prefetch((const char *)(row + c), _MM_HINT_T1);
    }
}

/* Brings numbers of some of a chunk's cells nearer. */
static void outer_fetch(const outer_job *o, const outer_chunk *list, const outer_area *area, int64_t first, int64_t end)
{
    const int64_t m = area->m0 * TILE_ROWS, n = area->n0 * TILE_COLUMNS;
    const int64_t width = minimum(o->M, area->m1 * TILE_ROWS) - m, depth = minimum(o->N, area->n1 * TILE_COLUMNS) - n;
    for (int64_t k = first; k < end; k++) {
        outer_fetch_row(o->g + list->g[k] + m, width);
        outer_fetch_row(o->map->src + list->x[k] + n, depth);
    }
}

/* One chunk; meanwhile the next one is fetched. */
static void outer_block(const outer_job *o, const outer_chunk *list, const outer_chunk *next, const outer_area *area, bool add,
                        float *g, float *sum)
{
    const int64_t m0 = area->m0, all = (area->m1 - m0) * (area->n1 - area->n0);
    float *x = g + o->tiles_each * OUTER_STRIP(VW);
    int64_t done = 0, fetched = 0;
    outer_pack_rows(o->g, list->g, list->count, m0 * TILE_ROWS, minimum(o->M, area->m1 * TILE_ROWS), o->round, g);
    for (int64_t n = area->n0; n < area->n1; n++) {
        outer_pack_columns(o->map->src + n * TILE_COLUMNS, list->x, list->count, o->N - n * TILE_COLUMNS, o->round, x);
        for (int64_t m = m0; m < area->m1; m++) {
            const float *a = g + (m - m0) * OUTER_STRIP(VW);
            float *tile = sum + (m * o->panels + n) * OUTER_TILE;
            const int64_t to = next->count * ++done / all;
            outer_fetch(o, next, area, fetched, to);
            fetched = to;
            if (PATCH_PAIRS && o->pairs) {
                outer_products(a, x, list->count, add, true, tile);
            } else {
                outer_products(a, x, list->count, add, false, tile);
            }
        }
    }
}

static void outer_piece(void *arg, int64_t piece)
{
    const outer_job *o = arg;
    const int64_t block = piece / o->panel_pieces, tap = block / o->tile_pieces % o->map->taps;
    outer_area area = {.m0 = block % o->tile_pieces * o->tiles_each, .n0 = piece % o->panel_pieces * o->panels_each};
    area.m1 = minimum(area.m0 + o->tiles_each, o->tiles);
    area.n1 = minimum(area.n0 + o->panels_each, o->panels);
    const int64_t part = block / o->tile_pieces / o->map->taps, cells = o->map->images * o->map->rows * o->map->columns;
    const int64_t first = part * o->part_cells, end = minimum(first + o->part_cells, cells);
    float *sum = o->sum + (part * o->map->taps + tap) * o->tiles * o->panels * OUTER_TILE;
    float *room = o->room + cpu_thread_number() * o->room_each;
    outer_chunk list[2];
    outer_list(o, &o->map->tap[tap], first, minimum(first + OUTER_CHUNK, end), &list[0]);
    for (int64_t cell = first, turn = 0; cell < end; cell += OUTER_CHUNK, turn ^= 1) {
        const int64_t next = minimum(cell + OUTER_CHUNK, end);
        outer_list(o, &o->map->tap[tap], next, minimum(next + OUTER_CHUNK, end), &list[turn ^ 1]);
        outer_block(o, &list[turn], &list[turn ^ 1], &area, cell > first, room, sum);
    }
}

/* The sum of row m, tap, column n .. n+VW (a vector of a panel). */
INLINE vf outer_sum(const outer_job *o, int64_t m, int64_t tap, int64_t n)
{
    const int64_t each = o->tiles * o->panels * OUTER_TILE;
    const float *from = o->sum + tap * each + (m / TILE_ROWS * o->panels + n / TILE_COLUMNS) * OUTER_TILE +
                        m % TILE_ROWS * TILE_COLUMNS + n % TILE_COLUMNS;
    vf sum = v_load(from);
    for (int64_t part = 1; part < o->parts; part++) {
        sum = v_add(sum, v_load(from + part * o->map->taps * each));
    }
    return sum;
}

/* Cuts tiles, panels and cells into pieces, by the shape alone. */
static void outer_cut(outer_job *o, int64_t cells)
{
    o->tiles = cpu_pieces(o->M, TILE_ROWS);
    o->panels = panel_count(o->N);
    o->tiles_each = cpu_pieces(o->tiles, cpu_pieces(o->tiles, OUTER_TILES));
    o->panels_each = cpu_pieces(o->panels, cpu_pieces(o->panels, OUTER_PANELS));
    for (;;) {
        o->tile_pieces = cpu_pieces(o->tiles, o->tiles_each);
        o->panel_pieces = cpu_pieces(o->panels, o->panels_each);
        const int64_t pieces = o->map->taps * o->tile_pieces * o->panel_pieces;
        const int64_t wanted = cpu_pieces(OUTER_PIECES, pieces), most = cpu_pieces(cells, OUTER_LEAST);
        o->part_cells = cpu_pieces(cells, minimum(wanted, most));
        o->parts = cpu_pieces(cells, o->part_cells);
        if (o->parts * pieces >= OUTER_FEW || (o->panels_each <= 2 && o->tiles_each <= 4)) {
            return;
        }
        if (o->panels_each * TILE_COLUMNS >= o->tiles_each * TILE_ROWS && o->panels_each > 2) {
            o->panels_each = (o->panels_each + 1) / 2;
        } else {
            o->tiles_each = (o->tiles_each + 1) / 2;
        }
    }
}

/* Makes the sums; false: out of memory. There is at least one cell. */
static bool outer_run(dd_exec *exec, outer_job *o)
{
    outer_cut(o, o->map->images * o->map->rows * o->map->columns);
    const int64_t sums = o->parts * o->map->taps * o->tiles * o->panels * OUTER_TILE;
    o->room_each = o->tiles_each * OUTER_STRIP(VW) + OUTER_STRIP(TILE_COLUMNS);
    o->sum = exec->scratch(exec, (size_t)(sums + 1) * sizeof *o->sum);
    o->room = exec->scratch(exec, (size_t)(exec->threads * o->room_each) * sizeof *o->room);
    if (!o->sum || !o->room) {
        return false;
    }
    cpu_parallel_for(exec->threads, o->parts * o->map->taps * o->tile_pieces * o->panel_pieces, outer_piece, o);
    return true;
}

#endif
