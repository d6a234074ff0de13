/* SPDX-License-Identifier: Apache-2.0
 * Batched matrix product, and sums of rows or columns. */
#include "backend/ref/real.h"

dd_status REF(matmul)(dd_exec *exec, const void *args)
{
    const dd_op_matmul *op = args;
    const real *bias = op->bias;
    for (int64_t i = 0; i < op->batch; i++) {
        const real *a = (const real *)op->a + i * op->stride_a, *b = (const real *)op->b + i * op->stride_b;
        real *c = (real *)op->c + i * op->stride_c;
        for (int64_t m = 0; m < op->M; m++) {
            for (int64_t n = 0; n < op->N; n++) {
                double sum = 0;
                for (int64_t k = 0; k < op->K; k++) {
                    const real x = op->trans_a ? a[k * op->lda + m] : a[m * op->lda + k];
                    const real y = op->trans_b ? b[n * op->ldb + k] : b[k * op->ldb + n];
                    sum += (double)x * y;
                }
                sum *= op->alpha;
                if (op->beta != 0) { /* otherwise C may be uninitialised */
                    sum += op->beta * c[m * op->ldc + n];
                }
                if (bias) {
                    sum += bias[op->bias_rows ? m : n];
                }
                c[m * op->ldc + n] = (real)sum;
            }
        }
    }
    return DD_OK;
}

dd_status REF(row_sum)(dd_exec *exec, const void *args)
{
    const dd_op_row_sum *op = args;
    const real *x = op->x;
    real *y = op->y;
    const int64_t outputs = op->by_columns ? op->N : op->M, summed = op->by_columns ? op->M : op->N;
    for (int64_t o = 0; o < outputs; o++) {
        double sum = 0;
        for (int64_t i = 0; i < op->batch; i++) {
            for (int64_t k = 0; k < summed; k++) {
                const int64_t m = op->by_columns ? k : o, n = op->by_columns ? o : k;
                sum += x[(i * op->M + m) * op->N + n];
            }
        }
        y[o] = (real)sum;
    }
    return DD_OK;
}
