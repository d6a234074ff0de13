/* SPDX-License-Identifier: Apache-2.0
 * Convolution of channels-last maps, with a folded norm, a residual and ReLU. */
#include "backend/ref/rounding.h"

/* Walks through the pairs of positions that a window joins. */
typedef struct window {
    int64_t in, out; /* first channel of the input and output position */
    int64_t tap;     /* place in the kernel */
    int32_t b, oh, ow, kh, kw;
    bool begun;
} window;

/* The next pair with the input inside the map; false at the end. */
static bool next(const dd_op_conv *op, window *v)
{
    for (;;) {
        if (v->begun && ++v->kw == op->kernel) {
            v->kw = 0;
            if (++v->kh == op->kernel) {
                v->kh = 0;
                if (++v->ow == op->OW) {
                    v->ow = 0;
                    if (++v->oh == op->OH) {
                        v->oh = 0;
                        v->b++;
                    }
                }
            }
        }
        v->begun = true;
        if (v->b >= op->B || op->OH <= 0 || op->OW <= 0) {
            return false;
        }
        const int32_t h = v->oh * op->stride - op->pad + v->kh, w = v->ow * op->stride - op->pad + v->kw;
        if (h >= 0 && h < op->H && w >= 0 && w < op->W) {
            v->in = (((int64_t)v->b * op->H + h) * op->W + w) * op->Cin;
            v->out = (((int64_t)v->b * op->OH + v->oh) * op->OW + v->ow) * op->Cout;
            v->tap = (int64_t)v->kh * op->kernel + v->kw;
            return true;
        }
    }
}

static int64_t outputs(const dd_op_conv *op)
{
    return (int64_t)op->B * op->OH * op->OW * op->Cout;
}

/* What the products are formed with: the weight times the folded scale. */
static double folded(const dd_op_conv *op, int64_t at, int64_t channel)
{
    const real *w = op->w, *scale = op->scale;
    return ddi_ref_factor(scale ? w[at] * scale[channel] : w[at], op->compute);
}

dd_status REF(conv)(dd_exec *exec, const void *args)
{
    const dd_op_conv *op = args;
    const real *x = op->x, *shift = op->shift, *residual = op->residual;
    real *y = op->y;
    const int64_t count = outputs(op), area = (int64_t)op->kernel * op->kernel;
    double *sum = ddi_ref_scratch(exec, count, sizeof *sum);
    if (!sum) {
        return DD_ERR_NOMEM;
    }
    for (int64_t i = 0; i < count; i++) {
        sum[i] = (shift ? (double)shift[i % op->Cout] : 0) + (residual ? (double)residual[i] : 0);
    }
    for (window v = {0}; next(op, &v);) {
        for (int64_t o = 0; o < op->Cout; o++) {
            for (int64_t c = 0; c < op->Cin; c++) {
                sum[v.out + o] += ddi_ref_factor(x[v.in + c], op->compute) * folded(op, (o * op->Cin + c) * area + v.tap, o);
            }
        }
    }
    for (int64_t i = 0; i < count; i++) {
        y[i] = (real)(op->relu && sum[i] < 0 ? 0 : sum[i]);
    }
    return DD_OK;
}

static dd_status input_gradient(dd_exec *exec, const dd_op_conv *op)
{
    const real *g = op->g_y;
    real *g_x = op->g_x;
    const int64_t count = (int64_t)op->B * op->H * op->W * op->Cin, area = (int64_t)op->kernel * op->kernel;
    double *sum = ddi_ref_scratch(exec, count, sizeof *sum);
    if (!sum) {
        return DD_ERR_NOMEM;
    }
    for (int64_t i = 0; i < count; i++) {
        sum[i] = op->add & 1 ? (double)g_x[i] : 0;
    }
    for (window v = {0}; next(op, &v);) {
        for (int64_t o = 0; o < op->Cout; o++) {
            for (int64_t c = 0; c < op->Cin; c++) {
                sum[v.in + c] += ddi_ref_factor(g[v.out + o], op->compute) * folded(op, (o * op->Cin + c) * area + v.tap, o);
            }
        }
    }
    for (int64_t i = 0; i < count; i++) {
        g_x[i] = (real)sum[i];
    }
    return DD_OK;
}

static dd_status weight_gradient(dd_exec *exec, const dd_op_conv *op)
{
    const real *x = op->x, *w = op->w, *scale = op->scale, *g = op->g_y;
    real *g_w = op->g_w, *g_scale = op->g_scale;
    const int64_t area = (int64_t)op->kernel * op->kernel, each = op->Cin * area, count = op->Cout * each;
    double *sum = ddi_ref_scratch(exec, count, sizeof *sum);
    if (!sum) {
        return DD_ERR_NOMEM;
    }
    for (int64_t i = 0; i < count; i++) {
        sum[i] = 0;
    }
    for (window v = {0}; next(op, &v);) {
        for (int64_t o = 0; o < op->Cout; o++) {
            for (int64_t c = 0; c < op->Cin; c++) {
                sum[(o * op->Cin + c) * area + v.tap] +=
                    ddi_ref_factor(g[v.out + o], op->compute) * ddi_ref_factor(x[v.in + c], op->compute);
            }
        }
    }
    for (int64_t o = 0; o < op->Cout; o++) {
        double by_scale = 0;
        for (int64_t i = o * each; i < (o + 1) * each; i++) {
            by_scale += (double)w[i] * sum[i];
            if (g_w) {
                g_w[i] += (real)(scale ? (double)scale[o] * sum[i] : sum[i]);
            }
        }
        if (g_scale) {
            g_scale[o] += (real)by_scale;
        }
    }
    return DD_OK;
}

dd_status REF(conv_grad)(dd_exec *exec, const void *args)
{
    const dd_op_conv *op = args;
    const real *y = op->y;
    real *g = op->g_y, *g_shift = op->g_shift;
    const int64_t count = outputs(op);
    for (int64_t i = 0; op->relu && i < count; i++) {
        g[i] = y[i] > 0 ? g[i] : 0;
    }
    for (int64_t o = 0; g_shift && o < op->Cout; o++) {
        double sum = 0;
        for (int64_t i = o; i < count; i += op->Cout) {
            sum += (double)g[i];
        }
        g_shift[o] += (real)sum;
    }
    dd_status status = op->g_x ? input_gradient(exec, op) : DD_OK;
    if (status == DD_OK && (op->g_w || op->g_scale)) {
        status = weight_gradient(exec, op);
    }
    return status;
}
