/* SPDX-License-Identifier: Apache-2.0
 * AdaMixer's positions: from boxes, moved by a head, and how much their boxes overlap (detectors.md 4.1 to 4.3). */
#include "backend/ref/xyzr.h"

#define LN2 (DDI_LN2_HIGH + DDI_LN2_LOW)

/* ---- Overlap */

/* Ends of the box along an axis. */
static void ends_of(const real *position, int axis, double end[2])
{
    const double half = ddi_xyzr_side(position, axis) / 2;
    end[0] = (double)position[axis] - half;
    end[1] = (double)position[axis] + half;
}

/* What boxes a and b share, by the area of a. Sides that overflow: all of it. */
static double share_of(const real *a, const real *b)
{
    double shared = 1, area = 1;
    for (int axis = 0; axis < 2; axis++) {
        double x[2], y[2];
        ends_of(a, axis, x);
        ends_of(b, axis, y);
        const double side = (x[1] < y[1] ? x[1] : y[1]) - (x[0] > y[0] ? x[0] : y[0]);
        shared *= side > 0 ? side : 0;
        area *= x[1] - x[0];
    }
    area = area > 1e-6 ? area : 1e-6;
    return shared < area ? shared / area : 1;
}

dd_status REF(iof_bias)(dd_exec *exec, const void *args)
{
    const dd_op_iof_bias *op = args;
    const int64_t N = op->N;
    for (int64_t k = 0; k < op->B * N * N; k++) {
        const int64_t b = k / (N * N), i = k / N % N, j = k % N;
        const real *position = (const real *)op->position + b * N * 4;
        const double overlap = ddi_log(share_of(position + 4 * i, position + 4 * j) + 1e-7);
        if (op->overlap) {
            ((real *)op->overlap)[k] = (real)overlap;
        }
        for (int64_t m = 0; m < op->M; m++) {
            ((real *)op->y)[((b * op->M + m) * N + i) * N + j] = (real)((double)((const real *)op->tau)[m] * overlap);
        }
    }
    return DD_OK;
}

dd_status REF(iof_bias_grad)(dd_exec *exec, const void *args)
{
    const dd_op_iof_bias *op = args;
    const int64_t cells = (int64_t)op->N * op->N;
    for (int64_t m = 0; op->g_tau && m < op->M; m++) {
        double sum = 0;
        for (int64_t k = 0; k < op->B * cells; k++) {
            const int64_t b = k / cells;
            sum +=
                (double)((const real *)op->g_y)[(b * op->M + m) * cells + k % cells] * (double)((const real *)op->overlap)[k];
        }
        real *g_tau = (real *)op->g_tau + m;
        *g_tau = (real)((double)*g_tau + sum);
    }
    return DD_OK;
}

/* ---- Positions */

dd_status REF(xyzr_start)(dd_exec *exec, const void *args)
{
    const dd_op_xyzr_start *op = args;
    for (int64_t i = 0; i < (int64_t)op->B * op->N; i++) {
        const real *box = (const real *)op->boxes + i % op->N * 4;
        const int32_t *size = op->size + i / op->N * 2;
        real *y = (real *)op->y + 4 * i;
        const double w = ddi_log((double)box[2] * size[0]) / LN2, h = ddi_log((double)box[3] * size[1]) / LN2;
        y[0] = (real)((double)box[0] * size[0]);
        y[1] = (real)((double)box[1] * size[1]);
        y[2] = (real)((w + h) / 2);
        y[3] = (real)(h - w);
    }
    return DD_OK;
}

dd_status REF(xyzr_refine)(dd_exec *exec, const void *args)
{
    const dd_op_xyzr_refine *op = args;
    for (int64_t i = 0; i < (int64_t)op->B * op->N; i++) {
        const real *position = (const real *)op->position + 4 * i, *delta = (const real *)op->delta + 4 * i;
        const int32_t *size = op->size + i / op->N * 2;
        const double step = ddi_exp2((double)position[2]);
        real *next = (real *)op->next + 4 * i, *y = (real *)op->y + 4 * i;
        for (int k = 0; k < 4; k++) {
            next[k] = (real)((double)position[k] + (double)delta[k] * (k < 2 ? step : 1));
        }
        for (int axis = 0; axis < 2; axis++) {
            y[axis] = (real)((double)next[axis] / size[axis]);
            y[2 + axis] = (real)(ddi_xyzr_side(next, axis) / size[axis]);
        }
    }
    return DD_OK;
}

dd_status REF(xyzr_refine_grad)(dd_exec *exec, const void *args)
{
    const dd_op_xyzr_refine *op = args;
    for (int64_t i = 0; op->g_delta && i < (int64_t)op->B * op->N; i++) {
        const real *g = (const real *)op->g_y + 4 * i, *y = (const real *)op->y + 4 * i;
        const int32_t *size = op->size + i / op->N * 2;
        const double step = ddi_exp2((double)((const real *)op->position)[4 * i + 2]);
        const double by_w = LN2 * (double)g[2] * (double)y[2], by_h = LN2 * (double)g[3] * (double)y[3];
        const double by[4] = {(double)g[0] * step / size[0], (double)g[1] * step / size[1], by_w + by_h, (by_h - by_w) / 2};
        for (int k = 0; k < 4; k++) {
            real *g_delta = (real *)op->g_delta + 4 * i + k;
            *g_delta = (real)(by[k] + (op->add & 1 ? (double)*g_delta : 0));
        }
    }
    return DD_OK;
}
