/* SPDX-License-Identifier: Apache-2.0
 * Rows of the resize in plain C: what the vector variants must equal. */
#include "images/resize.h"

static int32_t weight(const ddi_axis *axis, size_t at)
{
    return axis->high[at] * (1 << DDI_RESIZE_LOW_BITS) + axis->low[at];
}

/* Weights are never negative and their sum is 1 up to rounding, so a sum can only pass 255 by a hair. */
static uint8_t rounded(int32_t sum)
{
    const int32_t value = (sum + (1 << (DDI_RESIZE_BITS - 1))) >> DDI_RESIZE_BITS;
    return (uint8_t)(value > 255 ? 255 : value);
}

static void across(uint8_t *to, size_t to_stride, const uint8_t *from, size_t from_stride, int32_t rows, const ddi_axis *axis)
{
    for (int32_t row = 0; row < rows; row++, to += to_stride, from += from_stride) {
        for (int32_t i = 0; i < axis->outputs; i++) {
            int32_t sum[3] = {0, 0, 0};
            const uint8_t *pixel = from + (size_t)axis->start[i] * 3;
            for (int32_t k = 0; k < axis->count[i]; k++, pixel += 3) {
                const int32_t w = weight(axis, (size_t)i * (size_t)axis->taps + (size_t)k);
                for (int32_t c = 0; c < 3; c++) {
                    sum[c] += w * pixel[c];
                }
            }
            for (int32_t c = 0; c < 3; c++) {
                to[(size_t)i * 3 + (size_t)c] = rounded(sum[c]);
            }
        }
    }
}

static void down(uint8_t *to, const uint8_t *from, size_t stride, const ddi_axis *axis, int32_t output, size_t bytes)
{
    for (size_t x = 0; x < bytes; x++) {
        int32_t sum = 0;
        for (int32_t k = 0; k < axis->count[output]; k++) {
            sum += weight(axis, (size_t)output * (size_t)axis->taps + (size_t)k) * from[(size_t)k * stride + x];
        }
        to[x] = rounded(sum);
    }
}

const ddi_resize_rows ddi_resize_plain = {across, down};
