/* SPDX-License-Identifier: Apache-2.0
 * Rows times a weight. */
#include "backend/ref/rounding.h"

dd_status REF(linear)(dd_exec *exec, const void *args)
{
    const dd_op_linear *op = args;
    const real *x = op->x, *w = op->w, *bias = op->bias;
    real *y = op->y;
    for (int64_t i = 0; i < op->rows; i++) {
        for (int32_t n = 0; n < op->N; n++) {
            double sum = bias ? (double)bias[n] : 0;
            for (int32_t k = 0; k < op->K; k++) {
                sum += ddi_ref_factor(x[i * op->ldx + k], op->compute) * ddi_ref_factor(w[(int64_t)n * op->K + k], op->compute);
            }
            y[i * op->ldy + n] = (real)(op->relu && sum < 0 ? 0 : sum);
        }
    }
    return DD_OK;
}

static void weight_gradient(const dd_op_linear *op)
{
    const real *x = op->x, *g = op->g_y;
    real *g_w = op->g_w, *g_bias = op->g_bias;
    for (int32_t n = 0; n < op->N; n++) {
        for (int32_t k = 0; g_w && k < op->K; k++) {
            double sum = 0;
            for (int64_t i = 0; i < op->rows; i++) {
                sum += ddi_ref_factor(g[i * op->ldy + n], op->compute) * ddi_ref_factor(x[i * op->ldx + k], op->compute);
            }
            g_w[(int64_t)n * op->K + k] += (real)sum;
        }
        double sum = 0;
        for (int64_t i = 0; g_bias && i < op->rows; i++) {
            sum += (double)g[i * op->ldy + n];
        }
        if (g_bias) {
            g_bias[n] += (real)sum;
        }
    }
}

dd_status REF(linear_grad)(dd_exec *exec, const void *args)
{
    const dd_op_linear *op = args;
    const real *w = op->w, *y = op->y;
    real *g = op->g_y, *g_x = op->g_x;
    for (int64_t i = 0; op->relu && i < op->rows; i++) {
        for (int32_t n = 0; n < op->N; n++) {
            if (y[i * op->ldy + n] <= 0) {
                g[i * op->ldy + n] = 0;
            }
        }
    }
    for (int64_t i = 0; g_x && i < op->rows; i++) {
        for (int32_t k = 0; k < op->K; k++) {
            double sum = op->add & 1 ? (double)g_x[i * op->ldx + k] : 0;
            for (int32_t n = 0; n < op->N; n++) {
                sum += ddi_ref_factor(g[i * op->ldy + n], op->compute) * ddi_ref_factor(w[(int64_t)n * op->K + k], op->compute);
            }
            g_x[i * op->ldx + k] = (real)sum;
        }
    }
    weight_gradient(op);
    return DD_OK;
}
