/* SPDX-License-Identifier: Apache-2.0
 * The assignment solver against exhaustive search, a textbook solver and stored results of scipy, for both cost types, every
 * instruction set of this machine and all kinds of strides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "costs.h"
#include "match/lsap.h"
#include <detrdistill/sys/backend.h>
#include <float.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 300, EXHAUSTIVE = 8 };

/* A cost matrix as doubles, dense; `single`: the values are those of floats. */
typedef struct problem {
    int32_t rows, cols;
    bool single;
    double cost[LARGEST * LARGEST];
} problem;

/* Where the solver finds it: strides in elements, from `origin`. */
typedef struct layout {
    int64_t row_stride, col_stride, origin, elements;
} layout;

static problem the_problem; /* too large for the stack */

static problem *make_problem(cost_kind kind, uint64_t seed, int32_t rows, int32_t cols, bool single)
{
    problem *p = &the_problem;
    p->rows = rows;
    p->cols = cols;
    p->single = single;
    for (int32_t i = 0; i < rows; i++)
        for (int32_t j = 0; j < cols; j++) {
            double x = cost_of(kind, seed, i, j, cols);
            p->cost[i * cols + j] = single ? (double)(float)x : x;
        }
    return p;
}

enum { DENSE, PADDED, TURNED, BACKWARDS, SPARSE, LAYOUTS };

static layout make_layout(int32_t number, int64_t rows, int64_t cols)
{
    switch (number) {
    case PADDED:
        return (layout){cols + 3, 1, 1, rows * (cols + 3) + 1};
    case TURNED:
        return (layout){1, rows, 0, rows * cols};
    case BACKWARDS:
        return (layout){-cols, -1, rows * cols - 1, rows * cols};
    case SPARSE:
        return (layout){2 * cols + 1, 2, 0, rows * (2 * cols + 1)};
    default:
        return (layout){cols, 1, 0, rows * cols};
    }
}

/* Solves with the costs laid out so, in exactly the workspace that is asked for. */
static double solve(const problem *p, layout where, int32_t isa, int32_t *row_to_col)
{
    size_t size = p->single ? sizeof(float) : sizeof(double), bytes = ddi_lsap_workspace(p->rows, p->cols);
    char *memory = malloc((size_t)where.elements * size), *workspace = aligned_alloc(64, bytes + 64);
    assert_true(bytes > 0 && bytes % 64 == 0 && memory && workspace);
    memset(memory, 0xff, (size_t)where.elements * size); /* NaN between the costs */
    memset(workspace, 0x5a, bytes + 64);
    float *floats = (float *)(void *)memory + where.origin;
    double *doubles = (double *)(void *)memory + where.origin;
    for (int32_t i = 0; i < p->rows; i++)
        for (int32_t j = 0; j < p->cols; j++) {
            int64_t k = i * where.row_stride + j * where.col_stride;
            if (p->single)
                floats[k] = (float)p->cost[i * p->cols + j];
            else
                doubles[k] = p->cost[i * p->cols + j];
        }
    double total =
        p->single ? ddi_lsap_f32(floats, p->rows, p->cols, where.row_stride, where.col_stride, row_to_col, workspace, isa)
                  : ddi_lsap_f64(doubles, p->rows, p->cols, where.row_stride, where.col_stride, row_to_col, workspace, isa);
    for (int32_t k = 0; k < 64; k++)
        assert_int_equal(workspace[bytes + (size_t)k], 0x5a);
    free(memory);
    free(workspace);
    return total;
}

/* min(rows, cols) rows have a column, no column twice, and the total is the sum in row order. */
static void check_pairing(const problem *p, const int32_t *row_to_col, double total)
{
    bool taken[LARGEST] = {false};
    int32_t pairs = 0;
    double sum = 0;
    for (int32_t i = 0; i < p->rows; i++) {
        int32_t j = row_to_col[i];
        if (j == -1)
            continue;
        assert_in_range(j, 0, p->cols - 1);
        assert_false(taken[j]);
        taken[j] = true;
        pairs++;
        sum += p->cost[i * p->cols + j];
    }
    assert_int_equal(pairs, p->rows < p->cols ? p->rows : p->cols);
    assert_true(total == sum);
}

/* Solves with every instruction set; all must choose the same pairs. Returns the total. */
static double solve_all(const problem *p, layout where, int32_t *row_to_col)
{
    double total = solve(p, where, DD_ISA_NONE, row_to_col);
    check_pairing(p, row_to_col, total);
    for (int32_t isa = DD_ISA_AVX2; isa <= ddi_cpu_isa(); isa++) {
        int32_t other[LARGEST];
        assert_true(solve(p, where, isa, other) == total);
        assert_memory_equal(other, row_to_col, (size_t)p->rows * sizeof *other);
    }
    return total;
}

/* Least sum, added in row order, over all ways to give rows to sets of columns. Rounding is monotone, so the least of each step
 * leads to the least of all. */
static double search_all(const problem *p)
{
    int32_t sets = 1 << p->cols, spare = p->rows > p->cols ? p->rows - p->cols : 0;
    double least[1 << EXHAUSTIVE], before[1 << EXHAUSTIVE];
    for (int32_t set = 0; set < sets; set++)
        least[set] = set ? INFINITY : 0;
    for (int32_t i = 0; i < p->rows; i++) {
        memcpy(before, least, (size_t)sets * sizeof *least);
        for (int32_t set = 0; set < sets; set++) {
            least[set] = i - __builtin_popcount((unsigned)set) < spare ? before[set] : INFINITY;
            for (int32_t j = 0; j < p->cols; j++)
                if (set >> j & 1)
                    least[set] = fmin(least[set], before[set & ~(1 << j)] + p->cost[i * p->cols + j]);
        }
    }
    double best = INFINITY;
    for (int32_t set = 0; set < sets; set++)
        if (__builtin_popcount((unsigned)set) == (p->rows < p->cols ? p->rows : p->cols))
            best = fmin(best, least[set]);
    return best;
}

static void small_problems_against_exhaustive_search(void **state)
{
    for (uint64_t n = 0; n < 10000; n++) {
        int32_t rows = random_integer(1, 2 * n, 1, EXHAUSTIVE), cols = random_integer(1, 2 * n + 1, 1, EXHAUSTIVE);
        problem *p = make_problem((cost_kind)(n % EXACT_KINDS), 10 + n, rows, cols, n / EXACT_KINDS % 2);
        int32_t row_to_col[EXHAUSTIVE];
        double total = solve_all(p, make_layout((int32_t)(n % LAYOUTS), rows, cols), row_to_col);
        if (total != search_all(p))
            fail_msg("case %d, %d x %d: %a, least is %a", (int)n, rows, cols, total, search_all(p));
    }
}

/* The Hungarian method as in textbooks, rows <= cols: one row at a time, potentials kept feasible at every step.
 * cost of (i, j) is at(p, turned, i, j). */
static double at(const problem *p, bool turned, int32_t i, int32_t j)
{
    return turned ? p->cost[j * p->cols + i] : p->cost[i * p->cols + j];
}

static void add_row(const problem *p, bool turned, int32_t row, int32_t cols, double *u, double *v, int32_t *row_of)
{
    double slack[LARGEST + 1];
    int32_t before[LARGEST + 1], j = cols; /* column `cols` stands for the start */
    bool done[LARGEST + 1] = {false};
    for (int32_t k = 0; k <= cols; k++)
        slack[k] = INFINITY;
    row_of[cols] = row;
    while (row_of[j] >= 0) {
        done[j] = true;
        int32_t i = row_of[j], next = -1;
        for (int32_t k = 0; k < cols; k++) {
            if (done[k])
                continue;
            double reduced = at(p, turned, i, k) - u[i] - v[k];
            if (reduced < slack[k]) {
                slack[k] = reduced;
                before[k] = j;
            }
            if (next < 0 || slack[k] < slack[next])
                next = k;
        }
        double step = slack[next];
        for (int32_t k = 0; k <= cols; k++)
            if (done[k]) {
                u[row_of[k]] += step;
                v[k] -= step;
            } else {
                slack[k] -= step;
            }
        j = next;
    }
    for (; j != cols; j = before[j])
        row_of[j] = row_of[before[j]];
}

static double textbook(const problem *p, int32_t *row_to_col)
{
    bool turned = p->rows > p->cols;
    int32_t rows = turned ? p->cols : p->rows, cols = turned ? p->rows : p->cols, row_of[LARGEST + 1];
    double u[LARGEST] = {0}, v[LARGEST + 1] = {0}, total = 0;
    for (int32_t j = 0; j <= cols; j++)
        row_of[j] = -1;
    for (int32_t i = 0; i < rows; i++)
        add_row(p, turned, i, cols, u, v, row_of);
    for (int32_t i = 0; i < p->rows; i++)
        row_to_col[i] = turned ? row_of[i] : -1;
    for (int32_t j = 0; j < cols && !turned; j++)
        if (row_of[j] >= 0)
            row_to_col[row_of[j]] = j;
    for (int32_t i = 0; i < p->rows; i++)
        if (row_to_col[i] >= 0)
            total += p->cost[i * p->cols + row_to_col[i]];
    return total;
}

static double largest_of(const problem *p)
{
    double largest = 0;
    for (int32_t k = 0; k < p->rows * p->cols; k++)
        largest = fmax(largest, fabs(p->cost[k]));
    return largest;
}

/* A size from 1 to LARGEST, small ones more often. */
static int32_t random_size(uint64_t index)
{
    return (int32_t)pow(LARGEST + .5, random_uniform(2, index) * .9 + .1);
}

static void large_problems_against_the_textbook(void **state)
{
    for (uint64_t n = 0; n < 1000; n++) {
        cost_kind kind = (cost_kind)(n % KINDS);
        int32_t rows = random_size(2 * n), cols = n % 3 ? random_size(2 * n + 1) : rows;
        if (n >= 1000 - KINDS)
            rows = cols = LARGEST;
        problem *p = make_problem(kind, 20000 + n, rows, cols, n / KINDS % 2);
        int32_t row_to_col[LARGEST], expected[LARGEST];
        double total = solve_all(p, make_layout((int32_t)(n / 2 % LAYOUTS), rows, cols), row_to_col);
        double least = textbook(p, expected);
        /* Sums of UNIFORM, CLUSTERED and WIDE_RANGE are not exact: as many roundings as there are pairs. */
        bool exact = kind < EXACT_KINDS && kind != CLUSTERED;
        double rounding = exact ? 0 : 2 * DBL_EPSILON * largest_of(p) * (rows < cols ? rows : cols);
        if (!(fabs(total - least) <= rounding))
            fail_msg("case %d, kind %d, %d x %d: %a, least is %a", (int)n, (int)kind, rows, cols, total, least);
    }
}

typedef struct scipy_case {
    int32_t kind, seed, rows, cols, single, pairs;
    double total;
    const int16_t *row_to_col;
} scipy_case;

static const scipy_case scipy_cases[] = {
#include "scipy_cases.inc.h"
};

/* make_cost of make_scipy_cases.py */
static double scipy_cost(const scipy_case *c, int64_t i, int64_t j)
{
    uint64_t seed = (uint64_t)c->seed, cell = (uint64_t)(i * c->cols + j);
    if (c->kind == 0)
        return random_uniform(seed, cell);
    if (c->kind == 1)
        return (double)(random_word(seed, cell) % 10);
    if (c->kind == 4)
        return (double)((i + 1) * (j + 1));
    double sum = 0, first = 0;
    for (uint64_t k = 0; k < 4; k++) {
        uint64_t a = (uint64_t)i * 4 + k, b = (uint64_t)(c->rows + j) * 4 + k;
        double x = random_uniform(seed, a), y = random_uniform(seed, b);
        if (c->kind == 3) {
            x = (k < 3 ? (double)(random_word(seed + 1, a) % 2) : 0) + x / 1024;
            y = (k < 3 ? (double)(random_word(seed + 1, b) % 2) : 0) + y / 1024;
        }
        sum += fabs(x - y);
        first = k == 0 ? y : first;
    }
    return sum + first / 8;
}

static void stored_results_of_scipy(void **state)
{
    for (size_t n = 0; n < sizeof scipy_cases / sizeof scipy_cases[0]; n++) {
        const scipy_case *c = &scipy_cases[n];
        problem *p = make_problem(CONSTANT, 0, c->rows, c->cols, c->single);
        for (int64_t i = 0; i < c->rows; i++)
            for (int64_t j = 0; j < c->cols; j++) {
                double x = scipy_cost(c, i, j);
                p->cost[i * c->cols + j] = c->single ? (double)(float)x : x;
            }
        int32_t row_to_col[LARGEST];
        double total = solve_all(p, make_layout(DENSE, c->rows, c->cols), row_to_col);
        for (int32_t i = 0; i < c->pairs; i++)
            if (row_to_col[i] != c->row_to_col[i])
                fail_msg("case %d: row %d has column %d, scipy %d", (int)n, i, row_to_col[i], c->row_to_col[i]);
        double rounding = c->pairs ? 0 : 2 * DBL_EPSILON * largest_of(p) * c->rows;
        if (!(fabs(total - c->total) <= rounding))
            fail_msg("case %d: total %a, scipy %a", (int)n, total, c->total);
    }
}

/* Ties do not depend on strides either: the same matrix seen in each layout. */
static void layouts_give_the_same_pairs(void **state)
{
    for (int32_t n = 0; n < 3 * KINDS; n++) {
        static const int32_t size[3][2] = {{70, 70}, {31, 130}, {130, 31}};
        problem *p = make_problem((cost_kind)(n % KINDS), (uint64_t)n, size[n / KINDS][0], size[n / KINDS][1], n & 1);
        int32_t first[LARGEST], other[LARGEST];
        double total = solve_all(p, make_layout(DENSE, p->rows, p->cols), first);
        for (int32_t where = 1; where < LAYOUTS; where++) {
            assert_true(solve_all(p, make_layout(where, p->rows, p->cols), other) == total);
            assert_memory_equal(first, other, (size_t)p->rows * sizeof *first);
        }
    }
}

static void strides_may_be_zero(void **state)
{
    double line[5] = {3, 1, 4, 1.5, 9}, total = 0;
    int32_t row_to_col[5];
    char *workspace = aligned_alloc(64, ddi_lsap_workspace(5, 5));
    total = ddi_lsap_f64(line, 3, 5, 0, 1, row_to_col, workspace, ddi_cpu_isa()); /* equal rows */
    assert_true(total == 3 + 1 + 1.5);
    total = ddi_lsap_f64(line, 5, 2, 1, 0, row_to_col, workspace, ddi_cpu_isa()); /* equal columns */
    assert_true(total == 1 + 1.5 && row_to_col[1] >= 0 && row_to_col[3] >= 0 && row_to_col[0] == -1);
    total = ddi_lsap_f64(line, 5, 5, 0, 0, row_to_col, workspace, ddi_cpu_isa());
    assert_true(total == 15);
    total = ddi_lsap_f64(line, 2, 2, 1, 1, row_to_col, workspace, ddi_cpu_isa());
    assert_true(total == 2 * line[1] || total == line[0] + line[2]);
    free(workspace);
}

static void sizes_may_be_zero(void **state)
{
    int32_t row_to_col[3] = {7, 7, 7};
    float none = 0;
    char *workspace = aligned_alloc(64, 4096);
    assert_in_range(ddi_lsap_workspace(0, 0), 1, 4096);
    assert_in_range(ddi_lsap_workspace(3, 0), 1, 4096);
    assert_true(ddi_lsap_f32(&none, 0, 0, 0, 1, row_to_col, workspace, DD_ISA_NONE) == 0);
    assert_true(ddi_lsap_f32(&none, 0, 5, 5, 1, row_to_col, workspace, DD_ISA_NONE) == 0);
    assert_int_equal(row_to_col[0], 7);
    assert_true(ddi_lsap_f32(&none, 3, 0, 0, 1, row_to_col, workspace, DD_ISA_NONE) == 0);
    for (int32_t i = 0; i < 3; i++)
        assert_int_equal(row_to_col[i], -1);
    assert_int_equal(ddi_lsap_first_nonfinite_f32(&none, 0, 5, 5, 1), -1);
    assert_int_equal(ddi_lsap_first_nonfinite_f32(&none, 5, 0, 1, 1), -1);
    free(workspace);
}

/* Near the end of the range of doubles differences of two costs overflow. */
static void costs_may_be_as_large_as_doubles(void **state)
{
    for (uint64_t n = 0; n < 200; n++) {
        int32_t rows = random_integer(3, 2 * n, 1, EXHAUSTIVE), cols = random_integer(3, 2 * n + 1, 1, EXHAUSTIVE);
        problem *p = make_problem(MANY_INTEGERS, 30000 + n, rows, cols, false);
        double least = search_all(p);
        for (int32_t k = 0; k < rows * cols; k++)
            p->cost[k] *= 0x1p1018; /* up to 0.8 * 2^1024: the sum may be infinite, the choice is not to suffer */
        int32_t row_to_col[EXHAUSTIVE];
        solve_all(p, make_layout((int32_t)(n % LAYOUTS), rows, cols), row_to_col);
        double total = 0;
        for (int32_t i = 0; i < rows; i++)
            total += row_to_col[i] < 0 ? 0 : p->cost[i * cols + row_to_col[i]] * 0x1p-1018;
        assert_true(total == least);
    }
    /* Every choice of the last two rows is more than DBL_MAX above the least of its column. */
    problem *p = make_problem(CONSTANT, 0, 3, 3, false);
    const double most = DBL_MAX, extreme[9] = {-most, -most, -most, most, most, most / 2, most, most / 2, most};
    memcpy(p->cost, extreme, sizeof extreme);
    int32_t row_to_col[3];
    solve_all(p, make_layout(DENSE, 3, 3), row_to_col);
    assert_int_equal(row_to_col[0], 0);
    assert_int_equal(row_to_col[1], 2);
    assert_int_equal(row_to_col[2], 1);
}

static void workspace_of_impossible_sizes_is_zero(void **state)
{
    assert_int_equal(ddi_lsap_workspace(-1, 5), 0);
    assert_int_equal(ddi_lsap_workspace(5, INT64_MAX), 0);
    assert_int_equal(ddi_lsap_workspace(INT64_MAX, INT64_MAX), 0);
    assert_int_equal(ddi_lsap_workspace(INT32_MAX, INT32_MAX), 0);
    assert_true(ddi_lsap_workspace(16384, 16384) > (size_t)16384 * 16384 * 8);
}

static void first_nonfinite_is_found(void **state)
{
    for (uint64_t n = 0; n < 2000; n++) {
        int32_t rows = random_integer(4, 4 * n, 1, 40), cols = random_integer(4, 4 * n + 1, 1, 40), bad = rows * cols;
        problem *p = make_problem(UNIFORM, n, rows, cols, false);
        layout where = make_layout((int32_t)(n % LAYOUTS), rows, cols);
        float *floats = calloc((size_t)where.elements, sizeof *floats);
        double *doubles = calloc((size_t)where.elements, sizeof *doubles);
        static const float extremes[4] = {NAN, INFINITY, -INFINITY, FLT_MAX}; /* the last is none */
        for (uint64_t k = 0; k < 2; k++) {
            int32_t which = random_integer(4, 4 * n + 2, 0, 3), place = random_integer(5 + k, n, 0, rows * cols - 1);
            p->cost[place] = extremes[which];
            bad = which < 3 && place < bad ? place : bad;
        }
        for (int32_t k = 0; k < rows * cols; k++) {
            int64_t to = where.origin + k / cols * where.row_stride + k % cols * where.col_stride;
            floats[to] = (float)p->cost[k];
            doubles[to] = p->cost[k];
        }
        int64_t expected = bad < rows * cols ? bad : -1;
        assert_int_equal(ddi_lsap_first_nonfinite_f32(floats + where.origin, rows, cols, where.row_stride, where.col_stride),
                         expected);
        assert_int_equal(ddi_lsap_first_nonfinite_f64(doubles + where.origin, rows, cols, where.row_stride, where.col_stride),
                         expected);
        free(floats);
        free(doubles);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_problems_against_exhaustive_search),
        cmocka_unit_test(large_problems_against_the_textbook),
        cmocka_unit_test(stored_results_of_scipy),
        cmocka_unit_test(layouts_give_the_same_pairs),
        cmocka_unit_test(strides_may_be_zero),
        cmocka_unit_test(sizes_may_be_zero),
        cmocka_unit_test(costs_may_be_as_large_as_doubles),
        cmocka_unit_test(workspace_of_impossible_sizes_is_zero),
        cmocka_unit_test(first_nonfinite_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
