/* SPDX-License-Identifier: Apache-2.0
 * Matrix products by OpenBLAS. */
#include "backend/cpu/kernels.h"
#include "backend/cpu/matmul_grid.h"

#include <cblas.h>

typedef struct blas_job {
    const dd_op_matmul *op;
    matmul_grid grid;
} blas_job;

/* C = bias where there is no other C to add to. Returns the beta to go on with. */
#define START_FROM_BIAS(real)                                                                                                  \
    static double start_from_bias_##real(const dd_op_matmul *op, const matmul_part *p)                                         \
    {                                                                                                                          \
        const real *bias = op->bias;                                                                                           \
        real *c = (real *)op->c + part_of_c(op, p);                                                                            \
        for (int64_t m = 0; bias && m < p->rows; m++) {                                                                        \
            for (int64_t n = 0; n < p->columns; n++) {                                                                         \
                real *at = c + m * op->ldc + n;                                                                                \
                const real add = bias[op->bias_rows ? p->m + m : p->n + n];                                                    \
                *at = op->beta == 0 ? add : (real)(op->beta * *at + add);                                                      \
            }                                                                                                                  \
        }                                                                                                                      \
        return bias ? 1 : op->beta;                                                                                            \
    }
START_FROM_BIAS(float)
START_FROM_BIAS(double)

static void part_f32(void *arg, int64_t k)
{
    const blas_job *job = arg;
    const dd_op_matmul *op = job->op;
    const matmul_part p = part_of(op, &job->grid, k);
    const float beta = (float)start_from_bias_float(op, &p);
    cblas_sgemm(CblasRowMajor, op->trans_a ? CblasTrans : CblasNoTrans, op->trans_b ? CblasTrans : CblasNoTrans, (int)p.rows,
                (int)p.columns, op->K, (float)op->alpha, (const float *)op->a + part_of_a(op, &p), op->lda,
                (const float *)op->b + part_of_b(op, &p), op->ldb, beta, (float *)op->c + part_of_c(op, &p), op->ldc);
}

static void part_f64(void *arg, int64_t k)
{
    const blas_job *job = arg;
    const dd_op_matmul *op = job->op;
    const matmul_part p = part_of(op, &job->grid, k);
    const double beta = start_from_bias_double(op, &p);
    cblas_dgemm(CblasRowMajor, op->trans_a ? CblasTrans : CblasNoTrans, op->trans_b ? CblasTrans : CblasNoTrans, (int)p.rows,
                (int)p.columns, op->K, op->alpha, (const double *)op->a + part_of_a(op, &p), op->lda,
                (const double *)op->b + part_of_b(op, &p), op->ldb, beta, (double *)op->c + part_of_c(op, &p), op->ldc);
}

static dd_status run(dd_exec *exec, const dd_op_matmul *op, void (*part)(void *, int64_t))
{
    if (op->batch == 0 || op->M == 0 || op->N == 0) {
        return DD_OK;
    }
    blas_job job = {op, grid_of(op)};
    cpu_parallel_for(exec->threads, job.grid.parts, part, &job);
    return DD_OK;
}

dd_status cpu_openblas_matmul_f32(dd_exec *exec, const void *args)
{
    return run(exec, args, part_f32);
}

dd_status cpu_openblas_matmul_f64(dd_exec *exec, const void *args)
{
    return run(exec, args, part_f64);
}
