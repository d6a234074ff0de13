/* SPDX-License-Identifier: Apache-2.0
 * Bilinear resize of maps, and its adjoint (distillation B.5; golden DECISION 10). */
#include "backend/ref/real.h"

/* One output coordinate reads inputs `low` and `high`, the latter with weight `part`. */
typedef struct tap {
    int32_t low, high;
    double part;
} tap;

/* Pixel centres lie at i + 1/2 (align_corners = false); coordinates stop at the edges. */
static tap tap_of(int32_t i, int32_t source_size, int32_t target_size)
{
    double x = (i + 0.5) * source_size / target_size - 0.5;
    if (x < 0) {
        x = 0;
    }
    tap t;
    t.low = (int32_t)x;
    if (t.low > source_size - 1) {
        t.low = source_size - 1;
    }
    t.high = t.low + 1 < source_size ? t.low + 1 : t.low;
    t.part = x - t.low;
    return t;
}

dd_status REF(resize)(dd_exec *exec, const void *args)
{
    const dd_op_resize *op = args;
    const int64_t src_size = (int64_t)op->src_h * op->src_w, dst_size = (int64_t)op->dst_h * op->dst_w;
    for (int64_t map = 0; map < op->maps; map++) {
        const real *src = (const real *)op->src + map * src_size;
        real *dst = (real *)op->dst + map * dst_size;
        for (int32_t y = 0; y < op->dst_h; y++) {
            const tap v = tap_of(y, op->src_h, op->dst_h);
            const real *upper = src + (int64_t)v.low * op->src_w, *lower = src + (int64_t)v.high * op->src_w;
            for (int32_t x = 0; x < op->dst_w; x++) {
                const tap h = tap_of(x, op->src_w, op->dst_w);
                const double above = (1 - h.part) * upper[h.low] + h.part * upper[h.high];
                const double below = (1 - h.part) * lower[h.low] + h.part * lower[h.high];
                dst[(int64_t)y * op->dst_w + x] = (real)((1 - v.part) * above + v.part * below);
            }
        }
    }
    return DD_OK;
}

dd_status REF(resize_grad)(dd_exec *exec, const void *args)
{
    const dd_op_resize *op = args;
    const int64_t src_size = (int64_t)op->src_h * op->src_w, dst_size = (int64_t)op->dst_h * op->dst_w;
    double *sum = ddi_ref_scratch(exec, src_size, sizeof *sum);
    if (!sum) {
        return DD_ERR_NOMEM;
    }
    for (int64_t map = 0; map < op->maps; map++) {
        const real *dst = (const real *)op->dst + map * dst_size;
        real *src = (real *)op->src + map * src_size;
        for (int64_t i = 0; i < src_size; i++) {
            sum[i] = 0;
        }
        for (int32_t y = 0; y < op->dst_h; y++) {
            const tap v = tap_of(y, op->src_h, op->dst_h);
            double *upper = sum + (int64_t)v.low * op->src_w, *lower = sum + (int64_t)v.high * op->src_w;
            for (int32_t x = 0; x < op->dst_w; x++) {
                const tap h = tap_of(x, op->src_w, op->dst_w);
                const double g = dst[(int64_t)y * op->dst_w + x];
                upper[h.low] += (1 - v.part) * (1 - h.part) * g;
                upper[h.high] += (1 - v.part) * h.part * g;
                lower[h.low] += v.part * (1 - h.part) * g;
                lower[h.high] += v.part * h.part * g;
            }
        }
        for (int64_t i = 0; i < src_size; i++) {
            src[i] = (real)sum[i];
        }
    }
    return DD_OK;
}
