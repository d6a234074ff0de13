/* SPDX-License-Identifier: Apache-2.0
 * Largest value of each window. */
#include "backend/ref/real.h"

/* First place of the largest value of a window, as an index of x. */
static int64_t largest(const dd_op_maxpool *op, int64_t b, int32_t oh, int32_t ow, int32_t c)
{
    const real *x = op->x;
    int64_t best = -1;
    for (int32_t kh = 0; kh < op->kernel; kh++) {
        for (int32_t kw = 0; kw < op->kernel; kw++) {
            const int32_t h = oh * op->stride - op->pad + kh, w = ow * op->stride - op->pad + kw;
            const int64_t at = ((b * op->H + h) * op->W + w) * op->C + c;
            if (h >= 0 && h < op->H && w >= 0 && w < op->W && (best < 0 || x[at] > x[best])) {
                best = at;
            }
        }
    }
    return best;
}

static int64_t place(const dd_op_maxpool *op, int64_t b, int32_t oh, int32_t ow, int32_t c)
{
    return ((b * op->OH + oh) * op->OW + ow) * op->C + c;
}

dd_status REF(maxpool)(dd_exec *exec, const void *args)
{
    const dd_op_maxpool *op = args;
    for (int64_t b = 0; b < op->B; b++) {
        for (int32_t oh = 0; oh < op->OH; oh++) {
            for (int32_t ow = 0; ow < op->OW; ow++) {
                for (int32_t c = 0; c < op->C; c++) {
                    ((real *)op->y)[place(op, b, oh, ow, c)] = ((const real *)op->x)[largest(op, b, oh, ow, c)];
                }
            }
        }
    }
    return DD_OK;
}

dd_status REF(maxpool_grad)(dd_exec *exec, const void *args)
{
    const dd_op_maxpool *op = args;
    real *g_x = op->g_x;
    const int64_t inputs = (int64_t)op->B * op->H * op->W * op->C;
    for (int64_t i = 0; !(op->add & 1) && i < inputs; i++) {
        g_x[i] = 0;
    }
    for (int64_t b = 0; b < op->B; b++) {
        for (int32_t oh = 0; oh < op->OH; oh++) {
            for (int32_t ow = 0; ow < op->OW; ow++) {
                for (int32_t c = 0; c < op->C; c++) {
                    g_x[largest(op, b, oh, ow, c)] += ((const real *)op->g_y)[place(op, b, oh, ow, c)];
                }
            }
        }
    }
    return DD_OK;
}
