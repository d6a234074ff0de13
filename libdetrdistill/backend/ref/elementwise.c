/* SPDX-License-Identifier: Apache-2.0
 * Element by element and row by row: dropout, sums, products, copies, masks, the logistic function. */
#include "backend/ref/dropout.h"
#include "backend/ref/math.h"

dd_status REF(dropout)(dd_exec *exec, const void *args)
{
    const dd_op_dropout *op = args;
    for (int64_t i = 0; i < op->count; i++) {
        ((real *)op->y)[i] = (real)((double)((const real *)op->x)[i] * ddi_ref_kept(&op->dropout, i));
    }
    return DD_OK;
}

dd_status REF(add)(dd_exec *exec, const void *args)
{
    const dd_op_add *op = args;
    for (int64_t i = 0; i < op->count; i++) {
        ((real *)op->y)[i] = ((const real *)op->a)[i] + ((const real *)op->b)[i % op->period];
    }
    return DD_OK;
}

dd_status REF(product)(dd_exec *exec, const void *args)
{
    const dd_op_product *op = args;
    for (int64_t i = 0; i < op->count; i++) {
        ((real *)op->y)[i] = ((const real *)op->a)[i] * ((const real *)op->b)[i];
    }
    return DD_OK;
}

/* g (+)= g_y * other */
static void product_slope(const dd_op_product *op, const void *other, void *g, int32_t add)
{
    for (int64_t i = 0; g && i < op->count; i++) {
        const real slope = ((const real *)op->g_y)[i] * ((const real *)other)[i];
        ((real *)g)[i] = add ? ((real *)g)[i] + slope : slope;
    }
}

dd_status REF(product_grad)(dd_exec *exec, const void *args)
{
    const dd_op_product *op = args;
    product_slope(op, op->b, op->g_a, op->add & 1);
    product_slope(op, op->a, op->g_b, op->add & 2);
    return DD_OK;
}

dd_status REF(copy_rows)(dd_exec *exec, const void *args)
{
    const dd_op_copy_rows *op = args;
    for (int64_t i = 0; i < op->outer; i++) {
        for (int64_t j = 0; j < op->rows; j++) {
            const real *src = (const real *)op->src + i * op->src_outer + j * op->src_row;
            real *dst = (real *)op->dst + i * op->dst_outer + j * op->dst_row;
            for (int64_t k = 0; k < op->width; k++) {
                dst[k] = op->add ? dst[k] + src[k] : src[k];
            }
        }
    }
    return DD_OK;
}

dd_status REF(mask_rows)(dd_exec *exec, const void *args)
{
    const dd_op_mask_rows *op = args;
    for (int64_t i = 0; i < op->rows * op->d; i++) {
        ((real *)op->y)[i] = op->mask[i / op->d] ? 0 : ((const real *)op->x)[i];
    }
    return DD_OK;
}

dd_status REF(relu)(dd_exec *exec, const void *args)
{
    const dd_op_relu *op = args;
    for (int64_t i = 0; i < op->count; i++) {
        const real x = ((const real *)op->x)[i];
        ((real *)op->y)[i] = x < 0 ? 0 : x;
    }
    return DD_OK;
}

dd_status REF(relu_grad)(dd_exec *exec, const void *args)
{
    const dd_op_relu *op = args;
    real *g_x = op->g_x;
    for (int64_t i = 0; i < op->count; i++) {
        const real g = ((const real *)op->y)[i] == 0 ? 0 : ((const real *)op->g_y)[i];
        g_x[i] = op->add & 1 ? g_x[i] + g : g;
    }
    return DD_OK;
}

dd_status REF(sigmoid)(dd_exec *exec, const void *args)
{
    const dd_op_sigmoid *op = args;
    for (int64_t i = 0; i < op->count; i++) {
        ((real *)op->y)[i] = (real)ddi_sigmoid((double)((const real *)op->x)[i]);
    }
    return DD_OK;
}

dd_status REF(sigmoid_grad)(dd_exec *exec, const void *args)
{
    const dd_op_sigmoid *op = args;
    real *g_x = op->g_x;
    for (int64_t i = 0; i < op->count; i++) {
        const double y = (double)((const real *)op->y)[i], g = (double)((const real *)op->g_y)[i] * y * (1 - y);
        g_x[i] = (real)(g + (op->add & 1 ? (double)g_x[i] : 0));
    }
    return DD_OK;
}
