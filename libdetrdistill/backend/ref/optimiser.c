/* SPDX-License-Identifier: Apache-2.0
 * AdamW, squared lengths, running averages. */
#include "backend/ref/real.h"

#include <math.h>

dd_status REF(adamw)(dd_exec *exec, const void *args)
{
    const dd_op_adamw *op = args;
    real *w = op->w, *m = op->m, *v = op->v;
    for (int64_t i = 0; i < op->count; i++) {
        const double g = (double)((const real *)op->g)[i] * op->grad_scale;
        m[i] = (real)((double)m[i] + (1 - op->beta1) * (g - (double)m[i]));
        v[i] = (real)(op->beta2 * (double)v[i] + (1 - op->beta2) * g * g);
        const double step = op->rate / op->correction1 * (double)m[i] / (sqrt((double)v[i] / op->correction2) + op->eps);
        w[i] = (real)((double)w[i] * (1 - op->rate * op->decay) - step);
    }
    return DD_OK;
}

dd_status REF(sum_squares)(dd_exec *exec, const void *args)
{
    const dd_op_sum_squares *op = args;
    double sum = 0;
    for (int64_t i = 0; i < op->count; i++) {
        sum += (double)((const real *)op->x)[i] * (double)((const real *)op->x)[i];
    }
    *op->sum = sum;
    return DD_OK;
}

dd_status REF(average)(dd_exec *exec, const void *args)
{
    const dd_op_average *op = args;
    for (int64_t i = 0; i < op->count; i++) {
        real *y = (real *)op->y + i;
        *y = (real)((double)*y + (1 - op->decay) * ((double)((const real *)op->x)[i] - (double)*y));
    }
    return DD_OK;
}
