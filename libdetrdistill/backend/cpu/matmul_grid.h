/* SPDX-License-Identifier: Apache-2.0
 * How a matrix product is cut into parts for a library: by its shape alone, so that results do not depend on threads. Each
 * part runs on one thread over all of K. */
#ifndef DDI_CPU_MATMUL_GRID_H
#define DDI_CPU_MATMUL_GRID_H

#include "backend/cpu/parallel.h"

typedef struct matmul_grid {
    int64_t rows, columns;                  /* of a part; less at the edges */
    int64_t row_parts, column_parts, parts; /* parts: of the whole batch */
} matmul_grid;

typedef struct matmul_part {
    int64_t i, m, n; /* matrix of the batch, first row and column */
    int64_t rows, columns;
} matmul_part;

enum { GRID_ROWS = 256, GRID_COLUMNS = 512, GRID_LEAST = 64, GRID_PARTS = 16, GRID_UNIT = 16 };

/* `count` cut into equal pieces of at most `largest`, rounded up to whole units. */
static inline int64_t even_piece(int64_t count, int64_t largest)
{
    const int64_t pieces = cpu_pieces(count, largest), size = cpu_pieces(count, pieces > 0 ? pieces : 1);
    return cpu_pieces(size, GRID_UNIT) * GRID_UNIT;
}

static inline matmul_grid grid_of(const dd_op_matmul *op)
{
    int64_t rows = GRID_ROWS, columns = GRID_COLUMNS;
    while (op->batch * cpu_pieces(op->M, rows) * cpu_pieces(op->N, columns) < GRID_PARTS &&
           (rows > GRID_LEAST || columns > GRID_LEAST)) {
        if (columns > rows || rows == GRID_LEAST) {
            columns /= 2;
        } else {
            rows /= 2;
        }
    }
    matmul_grid g = {even_piece(op->M, rows), even_piece(op->N, columns), 0, 0, 0};
    g.row_parts = cpu_pieces(op->M, g.rows);
    g.column_parts = cpu_pieces(op->N, g.columns);
    g.parts = op->batch * g.row_parts * g.column_parts;
    return g;
}

static inline matmul_part part_of(const dd_op_matmul *op, const matmul_grid *g, int64_t k)
{
    matmul_part p;
    p.n = k % g->column_parts * g->columns;
    p.m = k / g->column_parts % g->row_parts * g->rows;
    p.i = k / g->column_parts / g->row_parts;
    p.rows = op->M - p.m < g->rows ? op->M - p.m : g->rows;
    p.columns = op->N - p.n < g->columns ? op->N - p.n : g->columns;
    return p;
}

/* Elements from the start of a, b, c to what a part needs. */
static inline int64_t part_of_a(const dd_op_matmul *op, const matmul_part *p)
{
    return p->i * op->stride_a + (op->trans_a ? p->m : p->m * op->lda);
}

static inline int64_t part_of_b(const dd_op_matmul *op, const matmul_part *p)
{
    return p->i * op->stride_b + (op->trans_b ? p->n * op->ldb : p->n);
}

static inline int64_t part_of_c(const dd_op_matmul *op, const matmul_part *p)
{
    return p->i * op->stride_c + p->m * op->ldc + p->n;
}

#endif
