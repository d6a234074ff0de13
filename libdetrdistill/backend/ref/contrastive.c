/* SPDX-License-Identifier: Apache-2.0
 * What the query-contrastive term is made of, besides matrix products (distillation A.9). */
#include "backend/ref/math.h"
#include "backend/ref/real.h"

#define VARIANCE_FLOOR 1e-5
#define LENGTH_FLOOR 1e-12

/* Blocks of dst have rows_per_block rows and blocks of src src_rows_per_block, in both directions. */
dd_status REF(take_rows)(dd_exec *exec, const void *args)
{
    const dd_op_take_rows *op = args;
    const real *src = op->src;
    real *dst = op->dst;
    const size_t row_bytes = (size_t)op->d * sizeof(real);
    const int64_t listed_per_block = op->inverse ? op->src_rows_per_block : op->rows_per_block;
    const int64_t other_per_block = op->inverse ? op->rows_per_block : op->src_rows_per_block;
    if (op->rows == 0 || op->d == 0) {
        return DD_OK;
    }
    if (op->inverse) {
        memset(dst, 0, (size_t)(op->rows / listed_per_block * other_per_block) * row_bytes);
    }
    for (int64_t i = 0; i < op->rows; i++) {
        const int64_t inside = op->index ? op->index[i] : i % listed_per_block;
        const int64_t other = i / listed_per_block * other_per_block + inside;
        if (inside >= 0) {
            memcpy(dst + (op->inverse ? other : i) * op->d, src + (op->inverse ? i : other) * op->d, row_bytes);
        } else if (!op->inverse) {
            memset(dst + i * op->d, 0, row_bytes);
        }
    }
    return DD_OK;
}

dd_status REF(batchnorm_relu)(dd_exec *exec, const void *args)
{
    const dd_op_batchnorm_relu *op = args;
    const real *x = op->x, *gamma = op->gamma, *beta = op->beta;
    for (int64_t c = 0; c < op->d; c++) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < op->rows; i++) {
            mean += x[i * op->d + c] / (double)op->rows;
        }
        for (int64_t i = 0; i < op->rows; i++) {
            const double deviation = x[i * op->d + c] - mean;
            variance += deviation * deviation / (double)op->rows;
        }
        const double rstd = 1 / sqrt(variance + VARIANCE_FLOOR);
        for (int64_t i = 0; i < op->rows; i++) {
            const double y = gamma[c] * ((x[i * op->d + c] - mean) * rstd) + beta[c];
            ((real *)op->y)[i * op->d + c] = y > 0 ? (real)y : 0;
        }
        ((real *)op->mean)[c] = (real)mean;
        ((real *)op->rstd)[c] = (real)rstd;
    }
    return DD_OK;
}

/* With z = (x - mean) rstd and g = g_y where y > 0:  g_beta = sum g, g_gamma = sum g z,
 * g_x = gamma rstd (g - (g_beta + z g_gamma) / rows). */
dd_status REF(batchnorm_relu_grad)(dd_exec *exec, const void *args)
{
    const dd_op_batchnorm_relu *op = args;
    const real *x = op->x, *y = op->y, *g_y = op->g_y, *gamma = op->gamma, *mean = op->mean, *rstd = op->rstd;
    for (int64_t c = 0; c < op->d; c++) {
        double g_beta = 0, g_gamma = 0;
        for (int64_t at = c; at < op->rows * op->d; at += op->d) {
            const double g = y[at] > 0 ? g_y[at] : 0;
            g_beta += g;
            g_gamma += g * (((double)x[at] - mean[c]) * rstd[c]);
        }
        for (int64_t at = c; at < op->rows * op->d; at += op->d) {
            const double g = y[at] > 0 ? g_y[at] : 0, z = ((double)x[at] - mean[c]) * rstd[c];
            ((real *)op->g_x)[at] = (real)((double)gamma[c] * rstd[c] * (g - (g_beta + z * g_gamma) / (double)op->rows));
        }
        ((real *)op->g_beta)[c] = (real)g_beta;
        ((real *)op->g_gamma)[c] = (real)g_gamma;
    }
    return DD_OK;
}

/* `length` gets |x| itself, not the floor, so that the gradient knows which of the two divided. */
dd_status REF(l2norm)(dd_exec *exec, const void *args)
{
    const dd_op_l2norm *op = args;
    for (int64_t i = 0; i < op->rows; i++) {
        const real *x = (const real *)op->x + i * op->d;
        real *y = (real *)op->y + i * op->d;
        double squares = 0;
        for (int32_t c = 0; c < op->d; c++) {
            squares += (double)x[c] * x[c];
        }
        const double length = sqrt(squares), divisor = length >= LENGTH_FLOOR ? length : LENGTH_FLOOR;
        for (int32_t c = 0; c < op->d; c++) {
            y[c] = (real)(x[c] / divisor);
        }
        ((real *)op->length)[i] = (real)length;
    }
    return DD_OK;
}

/* y = x/|x|: g_x = (g_y - y <y, g_y>) / |x|. At the floor y = x/1e-12: g_x = g_y/1e-12. */
dd_status REF(l2norm_grad)(dd_exec *exec, const void *args)
{
    const dd_op_l2norm *op = args;
    for (int64_t i = 0; i < op->rows; i++) {
        const real *y = (const real *)op->y + i * op->d, *g_y = (const real *)op->g_y + i * op->d;
        real *g_x = (real *)op->g_x + i * op->d;
        const double length = ((const real *)op->length)[i];
        const int floored = length < LENGTH_FLOOR;
        double along = 0;
        for (int32_t c = 0; c < op->d && !floored; c++) {
            along += (double)y[c] * g_y[c];
        }
        for (int32_t c = 0; c < op->d; c++) {
            g_x[c] = (real)((g_y[c] - y[c] * along) / (floored ? LENGTH_FLOOR : length));
        }
    }
    return DD_OK;
}

/* d loss / d logits = scale / n (softmax(row) - 1 on the diagonal). */
dd_status REF(cross_entropy)(dd_exec *exec, const void *args)
{
    const dd_op_cross_entropy *op = args;
    const double share = op->n > 0 ? op->scale / (double)op->n : 0;
    double loss = 0;
    for (int64_t i = 0; i < op->n; i++) {
        const real *x = (const real *)op->logits + i * op->n;
        real highest = x[0];
        double sum = 0;
        for (int64_t j = 1; j < op->n; j++) {
            highest = ddi_ref_max(highest, x[j]);
        }
        for (int64_t j = 0; j < op->n; j++) {
            sum += ddi_exp((double)x[j] - highest);
        }
        loss += highest - (double)x[i] + ddi_log(sum);
        real *g = op->g_logits ? (real *)op->g_logits + i * op->n : NULL;
        for (int64_t j = 0; g && j < op->n; j++) {
            g[j] = (real)(op->grad_scale * share * (ddi_exp((double)x[j] - highest) / sum - (j == i)));
        }
    }
    *op->loss = share * loss;
    return DD_OK;
}
