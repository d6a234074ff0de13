/* SPDX-License-Identifier: Apache-2.0
 * Group norm of maps, layer norm of the sum of two branches. */
#include "backend/ref/dropout.h"

#include <math.h>

#define VARIANCE_EPS 1e-5

/* Element i (of P * width) of a group: position i / width, channel first + i % width. */
typedef struct group {
    int64_t x, y, first, width, count; /* where image and channels begin in x and in y */
} group;

static group group_of(const dd_op_groupnorm *op, int64_t b, int64_t k)
{
    const int64_t width = op->C / op->groups;
    return (group){b * op->P * op->C + k * width, b * op->y_stride + k * width, k * width, width, op->P * width};
}

static int64_t inside(const dd_op_groupnorm *op, const group *g, int64_t i)
{
    return i / g->width * op->C + i % g->width;
}

dd_status REF(groupnorm)(dd_exec *exec, const void *args)
{
    const dd_op_groupnorm *op = args;
    const real *x = op->x, *gamma = op->gamma, *beta = op->beta;
    for (int64_t at = 0; at < (int64_t)op->B * op->groups; at++) {
        const group g = group_of(op, at / op->groups, at % op->groups);
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < g.count; i++) {
            mean += (double)x[g.x + inside(op, &g, i)];
        }
        mean /= (double)(g.count > 0 ? g.count : 1);
        for (int64_t i = 0; i < g.count; i++) {
            const double d = (double)x[g.x + inside(op, &g, i)] - mean;
            variance += d * d;
        }
        const double rstd = 1 / sqrt(variance / (double)(g.count > 0 ? g.count : 1) + VARIANCE_EPS);
        for (int64_t i = 0; i < g.count; i++) {
            const int64_t k = inside(op, &g, i), c = g.first + i % g.width;
            ((real *)op->y)[g.y + k] = (real)(((double)x[g.x + k] - mean) * rstd * (double)gamma[c] + (double)beta[c]);
        }
        ((real *)op->mean)[at] = (real)mean;
        ((real *)op->rstd)[at] = (real)rstd;
    }
    return DD_OK;
}

/* With u = gamma g_y and x' the normalised x: g_x = rstd (u - mean u - x' mean(u x')). */
static void groupnorm_input(const dd_op_groupnorm *op, int64_t at)
{
    const group g = group_of(op, at / op->groups, at % op->groups);
    const real *x = op->x, *gamma = op->gamma, *g_y = op->g_y;
    const double mean = (double)((real *)op->mean)[at], rstd = (double)((real *)op->rstd)[at];
    double sum = 0, moment = 0;
    for (int64_t i = 0; i < g.count; i++) {
        const int64_t k = inside(op, &g, i);
        const double u = (double)gamma[g.first + i % g.width] * (double)g_y[g.y + k];
        sum += u;
        moment += u * ((double)x[g.x + k] - mean) * rstd;
    }
    sum /= (double)g.count;
    moment /= (double)g.count;
    for (int64_t i = 0; i < g.count; i++) {
        const int64_t k = inside(op, &g, i);
        const double u = (double)gamma[g.first + i % g.width] * (double)g_y[g.y + k];
        const double slope = rstd * (u - sum - ((double)x[g.x + k] - mean) * rstd * moment);
        real *to = (real *)op->g_x + g.x + k;
        *to = (real)(slope + (op->add & 1 ? (double)*to : 0));
    }
}

dd_status REF(groupnorm_grad)(dd_exec *exec, const void *args)
{
    const dd_op_groupnorm *op = args;
    const real *x = op->x, *g_y = op->g_y, *mean = op->mean, *rstd = op->rstd;
    for (int32_t c = 0; (op->g_gamma || op->g_beta) && c < op->C; c++) {
        double by_gamma = 0, by_beta = 0;
        for (int64_t b = 0; b < op->B; b++) {
            const int64_t at = b * op->groups + c / (op->C / op->groups);
            for (int64_t p = 0; p < op->P; p++) {
                const double g = (double)g_y[b * op->y_stride + p * op->C + c];
                by_gamma += g * ((double)x[(b * op->P + p) * op->C + c] - (double)mean[at]) * (double)rstd[at];
                by_beta += g;
            }
        }
        if (op->g_gamma) {
            ((real *)op->g_gamma)[c] += (real)by_gamma;
        }
        if (op->g_beta) {
            ((real *)op->g_beta)[c] += (real)by_beta;
        }
    }
    for (int64_t at = 0; op->g_x && op->P > 0 && at < (int64_t)op->B * op->groups; at++) {
        groupnorm_input(op, at);
    }
    return DD_OK;
}

/* ---- Layer norm */

dd_status REF(layernorm)(dd_exec *exec, const void *args)
{
    const dd_op_layernorm *op = args;
    const real *gamma = op->gamma, *beta = op->beta;
    for (int64_t row = 0; row < op->rows; row++) {
        const int64_t first = row * op->d;
        double mean = 0, variance = 0;
        for (int32_t i = 0; i < op->d; i++) {
            const int64_t at = first + i;
            real s = ((const real *)op->x)[at];
            if (op->r) {
                s += (real)((double)((const real *)op->r)[at] * ddi_ref_kept(&op->dropout, at));
            }
            /* y holds the sum meanwhile: x or r may be s. */
            ((real *)op->y)[at] = s;
            mean += (double)s;
        }
        mean /= op->d;
        for (int32_t i = 0; i < op->d; i++) {
            const double d = (double)((real *)op->y)[first + i] - mean;
            variance += d * d;
        }
        const double rstd = 1 / sqrt(variance / op->d + VARIANCE_EPS);
        for (int32_t i = 0; i < op->d; i++) {
            const real s = ((real *)op->y)[first + i];
            const double y = ((double)s - mean) * rstd;
            if (op->r && op->s) {
                ((real *)op->s)[first + i] = s;
            }
            ((real *)op->y)[first + i] = (real)(gamma ? y * (double)gamma[i] + (double)beta[i] : y);
        }
        ((real *)op->mean)[row] = (real)mean;
        ((real *)op->rstd)[row] = (real)rstd;
    }
    return DD_OK;
}

static void put(void *to, int64_t at, double value, int32_t add)
{
    if (to) {
        real *y = (real *)to + at;
        *y = (real)(value + (add ? (double)*y : 0));
    }
}

static void layernorm_row(const dd_op_layernorm *op, int64_t row)
{
    const int64_t first = row * op->d;
    const real *s = (const real *)(op->r ? op->s : op->x) + first, *gamma = op->gamma, *g_y = (const real *)op->g_y + first;
    const double mean = (double)((real *)op->mean)[row], rstd = (double)((real *)op->rstd)[row];
    double sum = 0, moment = 0;
    for (int32_t i = 0; i < op->d; i++) {
        const double u = (double)g_y[i] * (gamma ? (double)gamma[i] : 1);
        sum += u;
        moment += u * ((double)s[i] - mean) * rstd;
    }
    sum /= op->d;
    moment /= op->d;
    for (int32_t i = 0; i < op->d; i++) {
        const double u = (double)g_y[i] * (gamma ? (double)gamma[i] : 1);
        const double slope = rstd * (u - sum - ((double)s[i] - mean) * rstd * moment);
        put(op->g_x, first + i, slope, op->add & 1);
        put(op->g_r, first + i, slope * ddi_ref_kept(&op->dropout, first + i), op->add & 2);
    }
}

dd_status REF(layernorm_grad)(dd_exec *exec, const void *args)
{
    const dd_op_layernorm *op = args;
    const real *s = op->r ? op->s : op->x, *g_y = op->g_y, *mean = op->mean, *rstd = op->rstd;
    for (int32_t i = 0; (op->g_gamma || op->g_beta) && i < op->d; i++) {
        double by_gamma = 0, by_beta = 0;
        for (int64_t row = 0; row < op->rows; row++) {
            const double g = (double)g_y[row * op->d + i];
            by_gamma += g * ((double)s[row * op->d + i] - (double)mean[row]) * (double)rstd[row];
            by_beta += g;
        }
        put(op->g_gamma, i, by_gamma, 1);
        put(op->g_beta, i, by_beta, 1);
    }
    for (int64_t row = 0; (op->g_x || op->g_r) && row < op->rows; row++) {
        layernorm_row(op, row);
    }
    return DD_OK;
}

static double folded_rstd(const dd_op_fold_norm *op, int64_t i)
{
    return 1 / sqrt((double)((const real *)op->variance)[i] + VARIANCE_EPS);
}

dd_status REF(fold_norm)(dd_exec *exec, const void *args)
{
    const dd_op_fold_norm *op = args;
    real *scale = op->y, *shift = scale + op->C;
    for (int64_t i = 0; i < op->C; i++) {
        const double factor = (double)((const real *)op->gamma)[i] * folded_rstd(op, i);
        scale[i] = (real)factor;
        shift[i] = (real)((double)((const real *)op->beta)[i] - (double)((const real *)op->mean)[i] * factor);
    }
    return DD_OK;
}

dd_status REF(fold_norm_grad)(dd_exec *exec, const void *args)
{
    const dd_op_fold_norm *op = args;
    const real *g_scale = op->g_y, *g_shift = g_scale + op->C;
    real *g_gamma = op->g_gamma, *g_beta = op->g_beta;
    for (int64_t i = 0; i < op->C; i++) {
        const double by_factor = (double)g_scale[i] - (double)((const real *)op->mean)[i] * (double)g_shift[i];
        if (g_gamma) {
            g_gamma[i] = (real)((double)g_gamma[i] + by_factor * folded_rstd(op, i));
        }
        if (g_beta) {
            g_beta[i] += g_shift[i];
        }
    }
    return DD_OK;
}
