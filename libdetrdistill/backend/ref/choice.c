/* SPDX-License-Identifier: Apache-2.0
 * What mixed query selection and denoising need: scores of rows, lookups, references of a level. */
#include "backend/ref/real.h"

#include <math.h>

dd_status REF(row_max)(dd_exec *exec, const void *args)
{
    const dd_op_row_max *op = args;
    for (int64_t i = 0; i < op->rows; i++) {
        const real *x = (const real *)op->x + i * op->d;
        real most = (real)-INFINITY;
        for (int64_t c = 0; c < op->d; c++) {
            most = x[c] > most || isnan(x[c]) ? x[c] : most; /* nothing is larger than a NaN */
        }
        ((real *)op->y)[i] = most;
    }
    return DD_OK;
}

dd_status REF(add_rows)(dd_exec *exec, const void *args)
{
    const dd_op_add_rows *op = args;
    for (int64_t i = 0; i < op->rows; i++) {
        const real *x = (const real *)op->x + i * op->d;
        real *to = (real *)op->table + (int64_t)op->index[i] * op->d;
        for (int32_t c = 0; op->index[i] >= 0 && c < op->d; c++) {
            to[c] += x[c];
        }
    }
    return DD_OK;
}

dd_status REF(scale_references)(dd_exec *exec, const void *args)
{
    const dd_op_scale_references *op = args;
    const int64_t each = op->N * op->R;
    for (int64_t i = 0; i < op->B * each; i++) {
        const real *ratio = (const real *)op->ratio + i / each * op->L * 2;
        ((real *)op->y)[i] = ((const real *)op->x)[i] * ratio[i % op->R % 2];
    }
    return DD_OK;
}
