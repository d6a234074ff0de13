/* SPDX-License-Identifier: Apache-2.0
 * The assignment operator for host backends (the fast solver of lsap.c, blocks shared among threads), and dd_assign. */
#include "backend/exec.h"
#include "base/checked.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/limits.h"
#include "match/lsap.h"
#include <detrdistill/matcher.h>

#include <string.h>

/* One thread's memory. */
typedef struct desk {
    void *workspace;
    void *packed;                /* the rows and columns that take part, dense */
    int32_t *row, *col, *chosen; /* their numbers in the block; the solver's answer */
} desk;

typedef struct job {
    const dd_op_assign *a;
    desk *desks;
    int32_t next; /* atomic: the next block */
    int32_t isa, dtype;
} job;

static int32_t numbers_in_use(const uint8_t *use, int32_t n, int32_t *numbers)
{
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++)
        if (!use || use[i])
            numbers[count++] = i;
    return count;
}

static void pack(const char *cost, int32_t cols, const desk *d, int32_t n_rows, int32_t n_cols, int32_t dtype)
{
    for (int32_t i = 0; i < n_rows; i++) {
        int64_t row = (int64_t)d->row[i] * cols, to = (int64_t)i * n_cols;
        if (dtype == DD_F64)
            for (int32_t j = 0; j < n_cols; j++)
                ((double *)d->packed)[to + j] = ((const double *)cost)[row + d->col[j]];
        else
            for (int32_t j = 0; j < n_cols; j++)
                ((float *)d->packed)[to + j] = ((const float *)cost)[row + d->col[j]];
    }
}

static void solve_block(const job *w, const desk *d, int32_t number)
{
    const dd_op_assign *a = w->a;
    const dd_assign_block *k = &a->block[number];
    const char *cost = (const char *)a->cost + k->cost_offset * dd_dtype_size(w->dtype);
    const uint8_t *row_use = a->row_use ? a->row_use + k->row_offset : NULL,
                  *col_use = a->col_use ? a->col_use + k->col_offset : NULL;
    int32_t n_rows = numbers_in_use(row_use, k->rows, d->row), n_cols = numbers_in_use(col_use, k->cols, d->col);
    if (n_rows < k->rows || n_cols < k->cols) {
        pack(cost, k->cols, d, n_rows, n_cols, w->dtype);
        cost = d->packed;
    }
    if (w->dtype == DD_F64)
        a->total[number] = ddi_lsap_f64((const double *)cost, n_rows, n_cols, n_cols, 1, d->chosen, d->workspace, w->isa);
    else
        a->total[number] = ddi_lsap_f32((const float *)cost, n_rows, n_cols, n_cols, 1, d->chosen, d->workspace, w->isa);
    int32_t *match = a->match + (a->by_columns ? k->col_offset : k->row_offset);
    int32_t length = a->by_columns ? k->cols : k->rows;
    for (int32_t i = 0; i < length; i++)
        match[i] = -1;
    for (int32_t i = 0; i < n_rows; i++)
        if (d->chosen[i] >= 0) {
            int32_t col = d->col[d->chosen[i]];
            match[a->by_columns ? col : d->row[i]] = a->by_columns ? d->row[i] : col;
        }
}

static void worker(void *arg, int64_t i)
{
    job *w = arg;
    int32_t number;
    while ((number = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < w->a->blocks)
        solve_block(w, &w->desks[i], number);
}

static dd_status assign(dd_exec *exec, const void *args, int32_t dtype, int32_t isa)
{
    const dd_op_assign *a = args;
    ddi_exec *x = exec->core;
    int32_t workers = exec->threads < a->blocks ? exec->threads : a->blocks;
    size_t workspace = ddi_lsap_workspace(a->max_rows, a->max_cols);
    size_t packed = a->row_use || a->col_use ? (size_t)a->max_rows * (size_t)a->max_cols * (size_t)dd_dtype_size(dtype) : 0;
    if (a->blocks == 0)
        return DD_OK;
    desk *desks = exec->scratch(exec, (size_t)workers * sizeof *desks);
    for (int32_t i = 0; desks && i < workers; i++) {
        size_t numbers = ((size_t)a->max_rows * 2 + (size_t)a->max_cols) * sizeof(int32_t);
        char *memory = exec->scratch(exec, workspace + 64 + packed + 64 + numbers);
        if (!memory)
            return DD_ERR_NOMEM;
        desks[i].workspace = memory;
        desks[i].packed = memory + ((workspace + 63) & ~(size_t)63);
        desks[i].row = (int32_t *)((char *)desks[i].packed + ((packed + 63) & ~(size_t)63));
        desks[i].chosen = desks[i].row + a->max_rows;
        desks[i].col = desks[i].chosen + a->max_rows;
    }
    if (!desks || workspace == 0)
        return DD_ERR_NOMEM;
    job w = {.a = a, .desks = desks, .isa = isa, .dtype = dtype};
    ddi_parallel_for(x, workers, worker, &w);
    return DD_OK;
}

static dd_status assign_f32_avx512(dd_exec *exec, const void *args)
{
    return assign(exec, args, DD_F32, DD_ISA_AVX512);
}

static dd_status assign_f32_avx2(dd_exec *exec, const void *args)
{
    return assign(exec, args, DD_F32, DD_ISA_AVX2);
}

static dd_status assign_f32(dd_exec *exec, const void *args)
{
    return assign(exec, args, DD_F32, DD_ISA_NONE);
}

static dd_status assign_f64_avx512(dd_exec *exec, const void *args)
{
    return assign(exec, args, DD_F64, DD_ISA_AVX512);
}

static dd_status assign_f64_avx2(dd_exec *exec, const void *args)
{
    return assign(exec, args, DD_F64, DD_ISA_AVX2);
}

static dd_status assign_f64(dd_exec *exec, const void *args)
{
    return assign(exec, args, DD_F64, DD_ISA_NONE);
}

const dd_kernel *ddi_core_kernels(int32_t *count)
{
    static const dd_kernel kernels[] = {
        {DD_OPERATOR_assign, DD_F32, DD_ISA_AVX512, 0, "avx512", assign_f32_avx512, NULL},
        {DD_OPERATOR_assign, DD_F32, DD_ISA_AVX2, 0, "avx2", assign_f32_avx2, NULL},
        {DD_OPERATOR_assign, DD_F32, DD_ISA_NONE, 0, "c", assign_f32, NULL},
        {DD_OPERATOR_assign, DD_F64, DD_ISA_AVX512, 0, "avx512", assign_f64_avx512, NULL},
        {DD_OPERATOR_assign, DD_F64, DD_ISA_AVX2, 0, "avx2", assign_f64_avx2, NULL},
        {DD_OPERATOR_assign, DD_F64, DD_ISA_NONE, 0, "c", assign_f64, NULL},
    };
    *count = sizeof kernels / sizeof kernels[0];
    return kernels;
}

/* Bytes from the first to the last of `n` costs; false: out of range. */
static bool reach(int64_t n, int64_t stride, int64_t *bytes)
{
    int64_t steps = n > 0 ? n - 1 : 0, size = 8;
    return stride != INT64_MIN && ddi_mul(steps, stride < 0 ? -stride : stride, bytes) && ddi_mul(*bytes, size, bytes) &&
           *bytes <= DDI_MAX_BYTES;
}

/* The stride of a single row or column means nothing; it becomes 0, so that no arithmetic meets it. */
static dd_status check_assign(const void *cost, int64_t rows, int64_t cols, int64_t *row_stride, int64_t *col_stride,
                              const int32_t *row_to_col)
{
    int64_t bytes;
    ddi_error_clear();
    if (rows < 0 || cols < 0)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_assign: %lld x %lld is no matrix", (long long)rows, (long long)cols);
    if (rows > DDI_MAX_QUERIES || cols > DDI_MAX_QUERIES)
        return ddi_fail(DD_ERR_LIMIT, NULL, "dd_assign: %lld x %lld; at most %d rows and columns are possible", (long long)rows,
                        (long long)cols, DDI_MAX_QUERIES);
    *row_stride = rows > 1 ? *row_stride : 0;
    *col_stride = cols > 1 ? *col_stride : 0;
    if (!reach(rows, *row_stride, &bytes) || !reach(cols, *col_stride, &bytes))
        return ddi_fail(DD_ERR_LIMIT, NULL, "dd_assign: the strides %lld and %lld reach farther than 2^42 bytes",
                        (long long)*row_stride, (long long)*col_stride);
    if ((!cost && rows * cols > 0) || (!row_to_col && rows > 0))
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_assign: %s is NULL", cost ? "row_to_col" : "cost");
    return DD_OK;
}

static dd_status check_finite(int64_t first, int64_t cols)
{
    if (first < 0)
        return DD_OK;
    ddi_fail(DD_ERR_NONFINITE, "cost", "dd_assign: the cost of row %lld, column %lld is not finite", (long long)(first / cols),
             (long long)(first % cols));
    ddi_error_set_place(DD_PLACE_IMAGE, first / cols);
    ddi_error_set_place(DD_PLACE_QUERY, first % cols);
    return DD_ERR_NONFINITE;
}

static dd_status get_workspace(int64_t rows, int64_t cols, void **workspace)
{
    size_t bytes = ddi_lsap_workspace(rows, cols);
    *workspace = bytes ? ddi_alloc(NULL, bytes) : NULL;
    return *workspace ? DD_OK : ddi_fail_nomem(bytes, "an assignment");
}

dd_status dd_assign_f32(const float *cost, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride,
                        int32_t *row_to_col, double *total)
{
    void *workspace;
    DDI_TRY(check_assign(cost, rows, cols, &row_stride, &col_stride, row_to_col));
    DDI_TRY(check_finite(ddi_lsap_first_nonfinite_f32(cost, rows, cols, row_stride, col_stride), cols));
    DDI_TRY(get_workspace(rows, cols, &workspace));
    double sum = ddi_lsap_f32(cost, rows, cols, row_stride, col_stride, row_to_col, workspace, ddi_cpu_isa());
    ddi_free(NULL, workspace);
    if (total)
        *total = sum;
    return DD_OK;
}

dd_status dd_assign_f64(const double *cost, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride,
                        int32_t *row_to_col, double *total)
{
    void *workspace;
    DDI_TRY(check_assign(cost, rows, cols, &row_stride, &col_stride, row_to_col));
    DDI_TRY(check_finite(ddi_lsap_first_nonfinite_f64(cost, rows, cols, row_stride, col_stride), cols));
    DDI_TRY(get_workspace(rows, cols, &workspace));
    double sum = ddi_lsap_f64(cost, rows, cols, row_stride, col_stride, row_to_col, workspace, ddi_cpu_isa());
    ddi_free(NULL, workspace);
    if (total)
        *total = sum;
    return DD_OK;
}
