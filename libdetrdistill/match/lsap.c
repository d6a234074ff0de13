/* SPDX-License-Identifier: Apache-2.0
 * The assignment solver: shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987) with dense, vectorised row
 * passes.
 *
 * The dual problem: prices v[j] of columns, and u[i] = min_j c[i][j] - v[j] of rows. A set of pairs is optimal when each pair
 * (i, j) is tight, c[i][j] - v[j] = u[i], and columns without a row have the highest price of all, 0. Rows are added one at a
 * time: Dijkstra's algorithm over the reduced costs c[i][j] - v[j] - u[i] >= 0 finds the shortest alternating path from the row
 * to a column without a row; the prices of the columns that it passed fall so that its edges become tight, and the pairs along
 * it swap.
 *
 * Measured and left out, on uniform costs and on the costs of 300 and 900 teacher and student queries: augmenting row reduction
 * (the auction steps of Jonker and Volgenant; bidding wars on teacher costs, no gain otherwise), short lists of a row's nearest
 * columns with a bound for the rest (building and falling back cost more than the passes they save), writing only blocks
 * in which a distance falls (slower when tried). */
#include "match/lsap.h"
#include "base/checked.h"
#include "match/lsap_scan.h"
#include <detrdistill/sys/backend.h>

#include <math.h>
#include <stdbool.h>
#include <string.h>

typedef struct solver {
    const char *cost; /* rows <= cols; a row's costs lie side by side */
    int64_t row_bytes;
    int32_t rows, cols, blocks; /* blocks of DDI_LSAP_BLOCK columns */
    bool wide;                  /* costs are doubles */
    const ddi_lsap_scan *scan;

    double *v;        /* [cols] prices; -inf while the present search has passed the column */
    double *distance; /* [cols] from the search's row; inf once passed */
    int32_t *via;     /* [cols] the row before the column on its shortest path */
    double *block_min;
    int32_t *row_of, *col_of; /* [cols], [rows] the pairs so far, or -1 */
    uint64_t *open;           /* bit j: column j has no row */

    int32_t *passed; /* columns that the present search passed, in order, with the distance and price they had */
    double *passed_distance, *passed_price;
} solver;

enum { ALIGNMENT = 64 };

static int64_t aligned(int64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Gives the arrays their places in `memory`; returns how many bytes they take (memory = NULL: only that). */
static int64_t place_arrays(solver *s, char *memory)
{
    int64_t cols = (int64_t)s->blocks * DDI_LSAP_BLOCK, used = 0;
    const struct {
        void *array;
        int64_t bytes;
    } parts[] = {
        {&s->v, cols * 8},
        {&s->distance, cols * 8},
        {&s->via, cols * 4},
        {&s->block_min, s->blocks * (int64_t)8},
        {&s->row_of, cols * 4},
        {&s->col_of, s->rows * (int64_t)4},
        {&s->open, s->blocks * (int64_t)8},
        {&s->passed, cols * 4},
        {&s->passed_distance, cols * 8},
        {&s->passed_price, cols * 8},
    };
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
        if (memory) {
            void *place = memory + used;
            memcpy(parts[k].array, &place, sizeof place);
        }
        used += aligned(parts[k].bytes);
    }
    return used;
}

static void set_size(solver *s, int64_t rows, int64_t cols)
{
    s->rows = (int32_t)(rows < cols ? rows : cols);
    s->cols = (int32_t)(rows < cols ? cols : rows);
    s->blocks = (s->cols - 1) / DDI_LSAP_BLOCK + 1;
}

size_t ddi_lsap_workspace(int64_t rows, int64_t cols)
{
    int64_t elements, packed, total;
    if (rows < 0 || cols < 0 || rows > INT32_MAX - DDI_LSAP_BLOCK || cols > INT32_MAX - DDI_LSAP_BLOCK)
        return 0;
    solver s = {0};
    set_size(&s, rows, cols);
    if (!ddi_mul(rows, cols, &elements) || !ddi_mul(elements, sizeof(double), &packed) || packed > INT64_MAX - ALIGNMENT ||
        !ddi_add(place_arrays(&s, NULL), aligned(packed), &total) || (uint64_t)total > SIZE_MAX)
        return 0;
    return total ? (size_t)total : ALIGNMENT;
}

static const ddi_lsap_scan *scan_of(int32_t isa, bool wide)
{
#if defined(__x86_64__)
    if (isa >= DD_ISA_AVX512)
        return &ddi_lsap_scan_avx512[wide];
    if (isa >= DD_ISA_AVX2)
        return &ddi_lsap_scan_avx2[wide];
#endif
    (void)isa;
    return &ddi_lsap_scan_plain[wide];
}

static const void *row_at(const solver *s, int32_t i)
{
    return s->cost + i * s->row_bytes;
}

static double cost_at(const solver *s, int32_t i, int32_t j)
{
    return s->wide ? ((const double *)row_at(s, i))[j] : (double)((const float *)row_at(s, i))[j];
}

static void pair(solver *s, int32_t i, int32_t j)
{
    s->col_of[i] = j;
    s->row_of[j] = i;
    s->open[j / DDI_LSAP_BLOCK] &= ~((uint64_t)1 << j % DDI_LSAP_BLOCK);
}

static void start(solver *s)
{
    memset(s->open, 0, (size_t)s->blocks * sizeof *s->open);
    for (int32_t j = 0; j < s->blocks * DDI_LSAP_BLOCK; j++) {
        bool real = j < s->cols;
        s->v[j] = real ? 0 : -INFINITY;
        s->distance[j] = INFINITY;
        s->row_of[j] = -1;
        s->open[j / DDI_LSAP_BLOCK] |= (uint64_t)real << j % DDI_LSAP_BLOCK;
    }
    for (int32_t i = 0; i < s->rows; i++)
        s->col_of[i] = -1;
}

/* Square problems may start from any prices, as every column gets a row: with the least cost of the column, many pairs are
 * tight at once. */
static void reduce_columns(solver *s)
{
    for (int32_t j = 0; j < s->cols; j++)
        s->v[j] = INFINITY;
    for (int32_t i = 0; i < s->rows; i++)
        s->scan->column_min(row_at(s, i), s->cols, i, s->v, s->via);
    for (int32_t j = 0; j < s->cols; j++)
        if (s->col_of[s->via[j]] < 0)
            pair(s, s->via[j], j);
}

/* The first column at distance mu, one without a row if there is one. */
static int32_t nearest(const solver *s, double mu)
{
    int32_t taken = -1;
    for (int32_t b = 0; b < s->blocks; b++) {
        if (s->block_min[b] != mu)
            continue;
        uint64_t at_mu = s->scan->equal(s->distance + b * DDI_LSAP_BLOCK, mu);
        if (at_mu & s->open[b])
            return b * DDI_LSAP_BLOCK + __builtin_ctzll(at_mu & s->open[b]);
        if (taken < 0)
            taken = b * DDI_LSAP_BLOCK + __builtin_ctzll(at_mu);
    }
    return taken;
}

/* Adds row `first` to the pairs. The search passes each column at most once. */
static void augment(solver *s, int32_t first)
{
    double mu = s->scan->start(row_at(s, first), s->cols, s->v, first, s->distance, s->via, s->block_min);
    int32_t j = nearest(s, mu), count = 0;
    while (s->row_of[j] >= 0) {
        int32_t i = s->row_of[j];
        double h = (cost_at(s, i, j) - s->v[j]) - mu; /* u[i] - mu */
        s->passed[count] = j;
        s->passed_distance[count] = mu;
        s->passed_price[count++] = s->v[j];
        s->distance[j] = INFINITY;
        s->v[j] = -INFINITY;
        mu = s->scan->relax(row_at(s, i), s->cols, s->v, h, i, s->distance, s->via, s->block_min);
        j = nearest(s, mu);
    }
    for (int32_t k = 0; k < count; k++)
        s->v[s->passed[k]] = s->passed_price[k] + (s->passed_distance[k] - mu);
    for (int32_t i = -1; i != first;) {
        i = s->via[j];
        int32_t left = s->col_of[i];
        pair(s, i, j);
        j = left;
    }
}

static void solve(solver *s)
{
    start(s);
    if (s->rows == s->cols)
        reduce_columns(s);
    for (int32_t i = 0; i < s->rows; i++)
        if (s->col_of[i] < 0)
            augment(s, i);
}

#define COST float
#define BITS uint32_t
#define EXPONENT_BITS 8
#define MANTISSA_BITS 23
#define NAME(function) function##_f32
#include "match/lsap_costs.inc.h"

#define COST double
#define BITS uint64_t
#define EXPONENT_BITS 11
#define MANTISSA_BITS 52
#define NAME(function) function##_f64
#include "match/lsap_costs.inc.h"
