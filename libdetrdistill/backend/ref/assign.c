/* SPDX-License-Identifier: Apache-2.0
 * Exact assignment: each row in turn is joined by a shortest augmenting path (Hungarian method with dual values), in
 * double. */
#include "backend/ref/math.h"
#include "backend/ref/real.h"

/* One block with the unused rows and columns taken out. "Few" is the shorter side, every one of which gets a partner of the
 * other side, "many". Index 0 of the arrays from `dual_few` on stands for "none"; the sides count from 1. */
typedef struct problem {
    const real *cost;
    int64_t few_stride, many_stride;
    int32_t few, many;
    int32_t *row, *column;           /* numbers in the block of the used rows and columns */
    const int32_t *few_at, *many_at; /* the one or the other of these */
    double *dual_few, *dual_many;
    double *slack;      /* of each of many: length of the shortest path found so far */
    int32_t *partner;   /* of each of many: its partner, or 0 */
    int32_t *came_from; /* of each of many: the one of many before it on its path */
    uint8_t *done;
} problem;

static int allocate(dd_exec *exec, problem *p, int32_t max_rows, int32_t max_cols)
{
    const int64_t few = max_rows < max_cols ? max_rows : max_cols, many = max_rows < max_cols ? max_cols : max_rows;
    p->row = ddi_ref_scratch(exec, max_rows, sizeof *p->row);
    p->column = ddi_ref_scratch(exec, max_cols, sizeof *p->column);
    /* With rows and columns left out either side may be the shorter one. */
    p->dual_few = ddi_ref_scratch(exec, few + 1, sizeof *p->dual_few);
    p->dual_many = ddi_ref_scratch(exec, many + 1, sizeof *p->dual_many);
    p->slack = ddi_ref_scratch(exec, many + 1, sizeof *p->slack);
    p->partner = ddi_ref_scratch(exec, many + 1, sizeof *p->partner);
    p->came_from = ddi_ref_scratch(exec, many + 1, sizeof *p->came_from);
    p->done = ddi_ref_scratch(exec, many + 1, sizeof *p->done);
    return p->row && p->column && p->dual_few && p->dual_many && p->slack && p->partner && p->came_from && p->done;
}

static int32_t list_used(const uint8_t *use, int32_t count, int32_t *list)
{
    int32_t used = 0;
    for (int32_t i = 0; i < count; i++) {
        if (!use || use[i]) {
            list[used++] = i;
        }
    }
    return used;
}

static double reduced_cost(const problem *p, int32_t i, int32_t j)
{
    const double cost = p->cost[p->few_at[i - 1] * p->few_stride + p->many_at[j - 1] * p->many_stride];
    return cost - p->dual_few[i] - p->dual_many[j];
}

/* Extends the shortest paths through `at`, then settles and returns the nearest of many that is not settled yet. */
static int32_t settle_next(problem *p, int32_t at)
{
    int32_t nearest = 0;
    p->done[at] = 1;
    for (int32_t j = 1; j <= p->many; j++) {
        if (p->done[j]) {
            continue;
        }
        const double length = reduced_cost(p, p->partner[at], j);
        if (length < p->slack[j]) {
            p->slack[j] = length;
            p->came_from[j] = at;
        }
        if (nearest == 0 || p->slack[j] < p->slack[nearest]) {
            nearest = j;
        }
    }
    /* Moving the dual values makes the settled part tight up to `nearest`. */
    const double step = p->slack[nearest];
    for (int32_t j = 0; j <= p->many; j++) {
        if (p->done[j]) {
            p->dual_few[p->partner[j]] += step;
            p->dual_many[j] -= step;
        } else {
            p->slack[j] -= step;
        }
    }
    return nearest;
}

static void add_one(problem *p, int32_t i)
{
    int32_t at = 0;
    p->partner[0] = i;
    for (int32_t j = 0; j <= p->many; j++) {
        p->slack[j] = INFINITY;
        p->done[j] = 0;
    }
    do {
        at = settle_next(p, at);
    } while (p->partner[at] != 0);
    while (at != 0) {
        p->partner[at] = p->partner[p->came_from[at]];
        at = p->came_from[at];
    }
}

static void solve(problem *p)
{
    memset(p->dual_few, 0, sizeof *p->dual_few * (size_t)(p->few + 1));
    memset(p->dual_many, 0, sizeof *p->dual_many * (size_t)(p->many + 1));
    memset(p->partner, 0, sizeof *p->partner * (size_t)(p->many + 1));
    for (int32_t i = 1; i <= p->few; i++) {
        add_one(p, i);
    }
}

/* Chooses which side is the shorter one. Returns 1 if it is the rows. */
static int lay_out(problem *p, int32_t rows, int32_t columns, int32_t width)
{
    const int by_rows = rows <= columns;
    p->few = by_rows ? rows : columns;
    p->many = by_rows ? columns : rows;
    p->few_at = by_rows ? p->row : p->column;
    p->many_at = by_rows ? p->column : p->row;
    p->few_stride = by_rows ? width : 1;
    p->many_stride = by_rows ? 1 : width;
    return by_rows;
}

static double assign_block(const dd_op_assign *op, const dd_assign_block *block, problem *p)
{
    const uint8_t *row_use = op->row_use ? op->row_use + block->row_offset : NULL;
    const uint8_t *col_use = op->col_use ? op->col_use + block->col_offset : NULL;
    int32_t *match = op->match + (op->by_columns ? block->col_offset : block->row_offset);
    for (int32_t i = 0; i < (op->by_columns ? block->cols : block->rows); i++) {
        match[i] = -1;
    }
    p->cost = (const real *)op->cost + block->cost_offset;
    const int32_t rows = list_used(row_use, block->rows, p->row), columns = list_used(col_use, block->cols, p->column);
    const int by_rows = lay_out(p, rows, columns, block->cols);
    solve(p);
    double total = 0;
    for (int32_t j = 1; j <= p->many; j++) {
        if (p->partner[j] == 0) {
            continue;
        }
        const int32_t few = p->few_at[p->partner[j] - 1], many = p->many_at[j - 1];
        const int32_t row = by_rows ? few : many, column = by_rows ? many : few;
        match[op->by_columns ? column : row] = op->by_columns ? row : column;
        total += (double)p->cost[(int64_t)row * block->cols + column];
    }
    return total;
}

dd_status REF(assign)(dd_exec *exec, const void *args)
{
    const dd_op_assign *op = args;
    problem p;
    if (!allocate(exec, &p, op->max_rows, op->max_cols)) {
        return DD_ERR_NOMEM;
    }
    for (int32_t k = 0; k < op->blocks; k++) {
        op->total[k] = assign_block(op, &op->host_block[k], &p);
    }
    return DD_OK;
}
