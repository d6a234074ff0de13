/* SPDX-License-Identifier: Apache-2.0
 * Position codes of maps and coordinates, boxes and their references, proposals (detectors.md 1.4, 1.5, 1.8, 1.10, 1.11). */
#include "backend/ref/math.h"
#include "backend/ref/real.h"

#define TWO_PI 6.283185307179586

/* T^(2 floor(c/2) / n) */
static double period(double temperature, int64_t c, int64_t n)
{
    return ddi_exp(ddi_log(temperature) * (double)(2 * (c / 2)) / (double)n);
}

/* The coordinate that block j of row's code is of, times the scale. */
static double coordinate_of(const dd_op_coord_embed *op, int64_t row, int64_t j)
{
    const int32_t k = op->order[j];
    return op->scale * (double)((const real *)op->x)[row * op->coordinates + k] / (op->unit[k] == 0 ? 1 : op->unit[k]);
}

static double wave(double x, int64_t c)
{
    return c % 2 ? ddi_cos(x) : ddi_sin(x);
}

dd_status REF(sine_position)(dd_exec *exec, const void *args)
{
    const dd_op_sine_position *op = args;
    const real *embedding = op->embedding;
    const int64_t half = op->C / 2;
    for (int64_t b = 0; b < op->B; b++) {
        const int32_t width = op->valid[2 * b], height = op->valid[2 * b + 1];
        for (int64_t i = 0; i < op->H; i++) {
            for (int64_t j = 0; j < op->W; j++) {
                real *y = (real *)op->y + b * op->y_stride + (i * op->W + j) * op->C;
                const double at_y = ((double)(i + 1) + op->offset) / (height + 1e-6) * TWO_PI;
                const double at_x = ((double)(j + 1) + op->offset) / (width + 1e-6) * TWO_PI;
                for (int64_t c = 0; c < op->C; c++) {
                    const double at = (c < half ? at_y : at_x) / period(op->temperature, c % half, half);
                    const double code = i < height && j < width ? wave(at, c % half) : 0;
                    y[c] = (real)(code + (embedding ? (double)embedding[c] : 0));
                }
            }
        }
    }
    return DD_OK;
}

dd_status REF(coord_embed)(dd_exec *exec, const void *args)
{
    const dd_op_coord_embed *op = args;
    for (int64_t i = 0; i < op->rows * op->coordinates; i++) {
        const double x = coordinate_of(op, i / op->coordinates, i % op->coordinates);
        for (int64_t c = 0; c < op->n; c++) {
            ((real *)op->y)[i * op->n + c] = (real)wave(x / period(op->temperature, c, op->n), c);
        }
    }
    return DD_OK;
}

dd_status REF(coord_embed_grad)(dd_exec *exec, const void *args)
{
    const dd_op_coord_embed *op = args;
    for (int64_t i = 0; i < op->rows * op->coordinates; i++) {
        const int32_t k = op->order[i % op->coordinates];
        const double x = coordinate_of(op, i / op->coordinates, i % op->coordinates);
        double sum = 0;
        for (int64_t c = 0; c < op->n; c++) {
            const double t = period(op->temperature, c, op->n);
            const double slope = c % 2 ? -ddi_sin(x / t) : ddi_cos(x / t);
            sum += (double)((const real *)op->g_y)[i * op->n + c] * slope * op->scale / t;
        }
        sum /= op->unit[k] == 0 ? 1 : op->unit[k];
        real *g_x = (real *)op->g_x + i / op->coordinates * op->coordinates + k;
        *g_x = (real)(sum + (op->add & 1 ? (double)*g_x : 0));
    }
    return DD_OK;
}

/* log(max(x',eps) / max(1-x',eps)), x' = x clipped to 0..1 */
static double inverse_sigmoid(double x, double eps)
{
    x = x < 0 ? 0 : x > 1 ? 1 : x;
    return ddi_log(x > eps ? x : eps) - ddi_log(1 - x > eps ? 1 - x : eps);
}

static double inverse_sigmoid_slope(double x, double eps)
{
    if (x < 0 || x > 1) {
        return 0;
    }
    return (x >= eps ? 1 / x : 0) + (1 - x >= eps ? 1 / (1 - x) : 0);
}

dd_status REF(box_refine)(dd_exec *exec, const void *args)
{
    const dd_op_box_refine *op = args;
    const real *t = op->t, *ref = op->ref;
    for (int64_t i = 0; i < 4 * op->rows; i++) {
        double x = (double)t[i];
        if (i % 4 < op->R) {
            x += inverse_sigmoid((double)ref[i / 4 % op->ref_rows * op->R + i % 4], op->eps);
        }
        ((real *)op->y)[i] = (real)ddi_sigmoid(x);
    }
    return DD_OK;
}

static double box_slope(const dd_op_box_refine *op, int64_t i)
{
    const double y = (double)((const real *)op->y)[i];
    return (double)((const real *)op->g_y)[i] * y * (1 - y);
}

dd_status REF(box_refine_grad)(dd_exec *exec, const void *args)
{
    const dd_op_box_refine *op = args;
    real *g_t = op->g_t, *g_ref = op->g_ref;
    for (int64_t i = 0; g_t && i < 4 * op->rows; i++) {
        g_t[i] = (real)(box_slope(op, i) + (op->add & 1 ? (double)g_t[i] : 0));
    }
    for (int64_t k = 0; g_ref && k < op->ref_rows * op->R; k++) {
        double sum = 0;
        for (int64_t row = k / op->R; row < op->rows; row += op->ref_rows) {
            sum += box_slope(op, 4 * row + k % op->R);
        }
        sum *= inverse_sigmoid_slope((double)((const real *)op->ref)[k], op->eps);
        g_ref[k] = (real)(sum + (op->add & 2 ? (double)g_ref[k] : 0));
    }
    return DD_OK;
}

dd_status REF(grid_points)(dd_exec *exec, const void *args)
{
    const dd_op_grid_points *op = args;
    const real *ratio = op->ratio;
    real *y = op->y;
    for (int64_t b = 0; b < op->B; b++) {
        for (int32_t l = 0; l < op->L; l++) {
            const double rx = ratio ? (double)ratio[(b * op->L + l) * 2] : 1,
                         ry = ratio ? (double)ratio[(b * op->L + l) * 2 + 1] : 1;
            for (int32_t i = 0; i < op->height[l]; i++) {
                for (int32_t j = 0; j < op->width[l]; j++) {
                    *y++ = (real)((j + 0.5) / (rx * op->width[l]));
                    *y++ = (real)((i + 0.5) / (ry * op->height[l]));
                }
            }
        }
    }
    return DD_OK;
}

dd_status REF(proposals)(dd_exec *exec, const void *args)
{
    const dd_op_proposals *op = args;
    int64_t at = 0;
    for (int64_t b = 0; b < op->B; b++) {
        for (int32_t l = 0; l < op->L; l++) {
            const int32_t *valid = op->valid + (b * op->L + l) * 2;
            const double side = 0.05 * ddi_power_of_two(l);
            for (int64_t k = 0; k < (int64_t)op->height[l] * op->width[l]; k++, at++) {
                const int64_t i = k / op->width[l], j = k % op->width[l];
                const double p[4] = {((double)j + 0.5) / valid[0], ((double)i + 0.5) / valid[1], side, side};
                bool drop = j >= valid[0] || i >= valid[1];
                for (int32_t c = 0; c < 4; c++) {
                    drop = drop || !(p[c] > 0.01 && p[c] < 0.99);
                }
                for (int32_t c = 0; c < 4; c++) {
                    ((real *)op->logit)[4 * at + c] = (real)(drop ? INFINITY : ddi_log(p[c] / (1 - p[c])));
                }
                op->drop[at] = drop;
            }
        }
    }
    return DD_OK;
}

/* Whether row a of an image stands before row b: larger, or equal and earlier; NaN last. */
static bool before(double x, int64_t a, double y, int64_t b)
{
    if (isnan(x) || isnan(y)) {
        return isnan(x) == isnan(y) ? a < b : isnan(y);
    }
    return x != y ? x > y : a < b;
}

dd_status REF(top_rows)(dd_exec *exec, const void *args)
{
    const dd_op_top_rows *op = args;
    for (int64_t b = 0; b < op->B; b++) {
        const real *x = (const real *)op->x + b * op->S * op->stride;
        int32_t *index = op->index + b * op->k;
        int32_t found = 0;
        for (int64_t s = 0; s < op->S; s++) {
            int32_t at = found;
            while (at > 0 && before((double)x[s * op->stride], s, (double)x[index[at - 1] * op->stride], index[at - 1])) {
                at--;
            }
            if (at == op->k) {
                continue;
            }
            found += found < op->k;
            memmove(index + at + 1, index + at, (size_t)(found - at - 1) * sizeof *index);
            index[at] = (int32_t)s;
        }
        for (; found < op->k; found++) {
            index[found] = -1;
        }
    }
    return DD_OK;
}
