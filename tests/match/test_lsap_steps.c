/* SPDX-License-Identifier: Apache-2.0
 * How much work the assignment solver does, counted in row passes rather than by a clock: it is compiled here with a counting
 * table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "match/lsap_scan.h"

static const ddi_lsap_scan counting[2];
#define ddi_lsap_scan_plain counting
#include "match/lsap.c"
#undef ddi_lsap_scan_plain

#include "costs.h"
#include <stdlib.h>

static int64_t starts, relaxations, column_passes;

static double start_counted(const void *c, int32_t cols, const double *v, int32_t row, double *d, int32_t *via,
                            double *block_min)
{
    starts++;
    return ddi_lsap_scan_plain[1].start(c, cols, v, row, d, via, block_min);
}

static double relax_counted(const void *c, int32_t cols, const double *v, double h, int32_t row, double *d, int32_t *via,
                            double *block_min)
{
    relaxations++;
    return ddi_lsap_scan_plain[1].relax(c, cols, v, h, row, d, via, block_min);
}

static void column_min_counted(const void *c, int32_t cols, int32_t row, double *v, int32_t *best)
{
    column_passes++;
    ddi_lsap_scan_plain[1].column_min(c, cols, row, v, best);
}

static uint64_t equal_plain(const double *d, double value)
{
    return ddi_lsap_scan_plain[1].equal(d, value);
}

static const ddi_lsap_scan counting[2] = {{0}, {start_counted, relax_counted, column_min_counted, equal_plain}};

static int64_t count_passes(cost_kind kind, int32_t rows, int32_t cols)
{
    double *cost = malloc((size_t)rows * (size_t)cols * sizeof *cost);
    int32_t *row_to_col = malloc((size_t)rows * sizeof *row_to_col);
    void *workspace = aligned_alloc(64, ddi_lsap_workspace(rows, cols));
    assert_true(cost && row_to_col && workspace);
    for (int32_t i = 0; i < rows; i++)
        for (int32_t j = 0; j < cols; j++)
            cost[i * cols + j] = cost_of(kind, 1, i, j, cols);
    starts = relaxations = column_passes = 0;
    ddi_lsap_f64(cost, rows, cols, cols, 1, row_to_col, workspace, DD_ISA_NONE);
    free(cost);
    free(row_to_col);
    free(workspace);
    return starts + relaxations + column_passes;
}

/* Row k needs at most k passes, as it meets each row before it at most once; and one pass reduces the columns. */
static void no_costs_take_more_than_half_the_square(void **state)
{
    for (int32_t kind = 0; kind < KINDS; kind++)
        for (int32_t rows = 1; rows <= 256; rows *= 4) {
            int64_t n = rows;
            assert_in_range(count_passes((cost_kind)kind, rows, rows), n, n + n * (n + 1) / 2);
            assert_in_range(count_passes((cost_kind)kind, rows, rows + 50), n, n * (n + 1) / 2);
        }
}

/* Equal costs and few distinct ones: a column without a row is taken as soon as it is nearest. */
static void ties_do_not_cost_paths(void **state)
{
    assert_int_equal(count_passes(CONSTANT, 500, 500), 500 + 499);
    assert_int_equal(count_passes(CONSTANT, 300, 500), 300);
    assert_in_range(count_passes(FEW_INTEGERS, 500, 500), 500, 3 * 500);
}

/* Magnitude alone changes nothing. */
static void scaling_by_powers_of_two_changes_no_step(void **state)
{
    int64_t passes = count_passes(HUGE_INTEGERS, 200, 200);
    double *cost = malloc(200 * 200 * sizeof *cost);
    void *workspace = aligned_alloc(64, ddi_lsap_workspace(200, 200));
    int32_t row_to_col[200];
    assert_true(cost && workspace);
    for (int32_t k = 0; k < 200 * 200; k++)
        cost[k] = cost_of(HUGE_INTEGERS, 1, k / 200, k % 200, 200) * 0x1p-1000;
    starts = relaxations = column_passes = 0;
    ddi_lsap_f64(cost, 200, 200, 200, 1, row_to_col, workspace, DD_ISA_NONE);
    assert_int_equal(starts + relaxations + column_passes, passes);
    free(cost);
    free(workspace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_costs_take_more_than_half_the_square),
        cmocka_unit_test(ties_do_not_cost_paths),
        cmocka_unit_test(scaling_by_powers_of_two_changes_no_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
