/* SPDX-License-Identifier: Apache-2.0
 * The register tile of matrix products: TILE_ROWS x TILE_COLUMNS sums over k, each in the order of k. */
#ifndef DDI_CPU_TILE_H
#define DDI_CPU_TILE_H

#include "backend/cpu/simd.h"

#define TILE_ROWS (VW == 16 ? 12 : 6)
#define TILE_COLUMNS (2 * VW)

/* Columns of B lie in panels of TILE_COLUMNS: panel[k][column]. */
INLINE int64_t panel_count(int64_t columns)
{
    return (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
}

/* Packs columns first .. first+TILE_COLUMNS (at most `columns`; the rest becomes 0) of B, element (k, j) at
 * b[k * k_stride + j * column_stride]. */
static inline void pack_panel(const float *b, int64_t k_stride, int64_t column_stride, int64_t K, int64_t first,
                              int64_t columns, float *panel)
{
    const int64_t width = minimum(TILE_COLUMNS, columns - first);
    if (column_stride == 1) {
        for (int64_t k = 0; k < K; k++) {
            const float *row = b + k * k_stride + first;
            v_store(panel + k * TILE_COLUMNS, v_load_n(row, width));
            v_store(panel + k * TILE_COLUMNS + VW, width > VW ? v_load_n(row + VW, width - VW) : v_zero());
        }
        return;
    }
    for (int64_t j = 0; j < TILE_COLUMNS; j++) {
        const float *column = b + (first + j) * column_stride;
        for (int64_t k = 0; k < K; k++) {
            panel[k * TILE_COLUMNS + j] = j < width ? column[k * k_stride] : 0;
        }
    }
}

/* tile[i][j] (+)= sum_k a[i * row_stride + k * k_stride] panel[k][j]; rows beyond `rows` repeat the last. */
INLINE void tile_product(const float *a, int64_t row_stride, int64_t k_stride, int64_t rows, const float *panel, int64_t K,
                         bool add, float *tile)
{
    const float *row[TILE_ROWS];
    vf sum[TILE_ROWS][2];
    for (int i = 0; i < TILE_ROWS; i++) {
        row[i] = a + minimum(i, rows - 1) * row_stride;
        sum[i][0] = add ? v_load(tile + i * TILE_COLUMNS) : v_zero();
        sum[i][1] = add ? v_load(tile + i * TILE_COLUMNS + VW) : v_zero();
    }
    for (int64_t k = 0; k < K; k++) {
        const vf b0 = v_load(panel + k * TILE_COLUMNS), b1 = v_load(panel + k * TILE_COLUMNS + VW);
        for (int i = 0; i < TILE_ROWS; i++) {
            const vf x = v_set(row[i][k * k_stride]);
            sum[i][0] = v_fma(x, b0, sum[i][0]);
            sum[i][1] = v_fma(x, b1, sum[i][1]);
        }
    }
    for (int i = 0; i < TILE_ROWS; i++) {
        v_store(tile + i * TILE_COLUMNS, sum[i][0]);
        v_store(tile + i * TILE_COLUMNS + VW, sum[i][1]);
    }
}

#endif
