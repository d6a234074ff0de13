/* SPDX-License-Identifier: Apache-2.0
 * Gradients of weights: sums over the cells of a map of products g[cell][m] x[what the cell reads for a tap][n]. Cells are cut
 * into parts by the shape alone; sums of a part's chunks, then of parts, are added in order. */
#ifndef DDI_CPU_OUTER_H
#define DDI_CPU_OUTER_H

#include "backend/cpu/patch.inc.h"

#define OUTER_CHUNK 128 /* cells whose products are added up in registers */
#define OUTER_TILES (96 / TILE_ROWS)
#define OUTER_PANELS (256 / TILE_COLUMNS)
#define OUTER_LEAST 1024 /* cells of a part at least, where there are several */
#define OUTER_PIECES 32  /* wanted at least */
#define OUTER_TILE (TILE_ROWS * TILE_COLUMNS)

/* The map is that of a patch: its source is x, its cells are those of g (dense rows, g_cell apart). */
typedef struct outer_job {
    const patch *map;
    bool pairs; /* cells are pairs, of bf16 */
    const float *g;
    int64_t g_cell, M, N;
    int64_t tiles, panels, parts, part_cells, tile_pieces, panel_pieces;
    float *sum; /* [parts][taps][tiles][panels][OUTER_TILE] */
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

/* sum += g x^T over the listed cells, or pairs of them */
INLINE void outer_products(const float *g, const int64_t *g_at, const float *x, const int64_t *x_at, int64_t count, bool add,
                           bool pairs, float *tile)
{
    vf sum[TILE_ROWS][2];
    for (int i = 0; i < TILE_ROWS; i++) {
        sum[i][0] = sum[i][1] = v_zero();
    }
    for (int64_t k = 0; k < count; k++) {
        const float *a = g + g_at[k], *b = x + x_at[k];
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

/* Copies `width` numbers of each listed cell into rows of `whole`, zeros behind. */
static void outer_pack(const float *from, const int64_t *at, int64_t count, int64_t width, int64_t whole, float *to)
{
    for (int64_t k = 0; k < count; k++) {
        for (int64_t i = 0; i < whole; i++) {
            to[k * whole + i] = i < width ? from[at[k] + i] : 0;
        }
    }
}

static void outer_places(int64_t count, int64_t width, int64_t *at)
{
    for (int64_t k = 0; k < count; k++) {
        at[k] = k * width;
    }
}

/* One chunk: tiles m0.. x panels n0... Edges are copied, so that every tile is whole. */
static void outer_block(const outer_job *o, const outer_chunk *list, int64_t m0, int64_t m1, int64_t n0, int64_t n1, bool add,
                        float *sum)
{
    float g_edge[OUTER_CHUNK * TILE_ROWS], x_edge[OUTER_CHUNK * TILE_COLUMNS];
    int64_t g_places[OUTER_CHUNK], x_places[OUTER_CHUNK];
    for (int64_t n = n0; n < n1; n++) {
        const int64_t columns = minimum(TILE_COLUMNS, o->N - n * TILE_COLUMNS);
        const float *x = o->map->src + n * TILE_COLUMNS;
        const int64_t *x_at = list->x;
        if (columns < TILE_COLUMNS) {
            outer_pack(x, list->x, list->count, columns, TILE_COLUMNS, x_edge);
            outer_places(list->count, TILE_COLUMNS, x_places);
            x = x_edge;
            x_at = x_places;
        }
        for (int64_t m = m0; m < m1; m++) {
            const int64_t rows = minimum(TILE_ROWS, o->M - m * TILE_ROWS);
            const float *g = o->g + m * TILE_ROWS;
            const int64_t *g_at = list->g;
            if (rows < TILE_ROWS) {
                outer_pack(g, list->g, list->count, rows, TILE_ROWS, g_edge);
                outer_places(list->count, TILE_ROWS, g_places);
                g = g_edge;
                g_at = g_places;
            }
            float *tile = sum + (m * o->panels + n) * OUTER_TILE;
            if (PATCH_PAIRS && o->pairs) {
                outer_products(g, g_at, x, x_at, list->count, add, true, tile);
            } else {
                outer_products(g, g_at, x, x_at, list->count, add, false, tile);
            }
        }
    }
}

static void outer_piece(void *arg, int64_t piece)
{
    const outer_job *o = arg;
    const int64_t n0 = piece % o->panel_pieces * OUTER_PANELS, n1 = minimum(n0 + OUTER_PANELS, o->panels);
    const int64_t block = piece / o->panel_pieces, m0 = block % o->tile_pieces * OUTER_TILES;
    const int64_t m1 = minimum(m0 + OUTER_TILES, o->tiles), tap = block / o->tile_pieces % o->map->taps;
    const int64_t part = block / o->tile_pieces / o->map->taps, cells = o->map->images * o->map->rows * o->map->columns;
    const int64_t end = minimum((part + 1) * o->part_cells, cells);
    float *sum = o->sum + (part * o->map->taps + tap) * o->tiles * o->panels * OUTER_TILE;
    outer_chunk list;
    for (int64_t cell = part * o->part_cells; cell < end; cell += OUTER_CHUNK) {
        outer_list(o, &o->map->tap[tap], cell, minimum(cell + OUTER_CHUNK, end), &list);
        outer_block(o, &list, m0, m1, n0, n1, cell > part * o->part_cells, sum);
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

/* Makes the sums; false: out of memory. There is at least one cell. */
static bool outer_run(dd_exec *exec, outer_job *o)
{
    const int64_t cells = o->map->images * o->map->rows * o->map->columns;
    o->tiles = cpu_pieces(o->M, TILE_ROWS);
    o->panels = panel_count(o->N);
    o->tile_pieces = cpu_pieces(o->tiles, OUTER_TILES);
    o->panel_pieces = cpu_pieces(o->panels, OUTER_PANELS);
    const int64_t pieces = o->map->taps * o->tile_pieces * o->panel_pieces;
    const int64_t wanted = cpu_pieces(OUTER_PIECES, pieces), most = cpu_pieces(cells, OUTER_LEAST);
    o->part_cells = cpu_pieces(cells, minimum(wanted, most));
    o->parts = cpu_pieces(cells, o->part_cells);
    const int64_t sums = o->parts * o->map->taps * o->tiles * o->panels * OUTER_TILE;
    o->sum = exec->scratch(exec, (size_t)(sums + 1) * sizeof *o->sum);
    if (!o->sum) {
        return false;
    }
    cpu_parallel_for(exec->threads, o->parts * pieces, outer_piece, o);
    return true;
}

#endif
