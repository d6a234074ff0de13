/* SPDX-License-Identifier: Apache-2.0
 * Antialiased bilinear resize of 8-bit RGB, bit for bit Pillow's: weights in fixed point with 22 bits, horizontal pass,
 * rounding to 8 bits, vertical pass. */
#ifndef DDI_IMAGES_RESIZE_H
#define DDI_IMAGES_RESIZE_H

#include "images/image.h"

/* The weights of one axis: output i reads inputs start[i] .. start[i] + count[i] - 1 with weight[i * taps ..]. A weight w of 22
 * bits is kept in two parts, w = high << 15 | low, so that 16-bit products give the exact sum. Even and odd taps lie side by
 * side (taps is even; those beyond count are 0). */
typedef struct ddi_axis {
    int32_t outputs, taps;
    int32_t *start, *count;
    int16_t *low, *high;
} ddi_axis;

/* Memory of one resizing thread; it only grows. */
typedef struct ddi_resizer {
    ddi_allocator *allocator;
    void *memory;
    size_t room;
    uint8_t *narrow; /* rows after the horizontal pass */
    size_t narrow_room;
    int32_t isa; /* DD_ISA_*: the most to use */
} ddi_resizer;

/* A part of the resized picture. */
typedef struct ddi_window {
    int32_t x, y, width, height;
} ddi_window;

void ddi_resizer_init(ddi_resizer *resizer, ddi_allocator *allocator);
void ddi_resizer_free(ddi_resizer *resizer);

/* Resizes `from` to width x height and keeps the window (NULL: all of it) in `to`; only what the window needs is computed. The
 * pictures differ. Errors: LIMIT, NOMEM. */
dd_status ddi_image_resize(ddi_resizer *resizer, ddi_image *to, const ddi_image *from, int32_t width, int32_t height,
                           const ddi_window *window);

/* Rows of each pass. Inputs have DDI_IMAGE_SLACK bytes behind them that may be read. */
typedef struct ddi_resize_rows {
    /* `rows` (1 .. 4) rows, `from_stride` bytes apart, become as many, `to_stride` bytes apart. */
    void (*across)(uint8_t *to, size_t to_stride, const uint8_t *from, size_t from_stride, int32_t rows, const ddi_axis *axis);
    /* `bytes` bytes of output row `output`, and up to DDI_IMAGE_SLACK more; `from` is the row at axis->start[output]. */
    void (*down)(uint8_t *to, const uint8_t *from, size_t stride, const ddi_axis *axis, int32_t output, size_t bytes);
} ddi_resize_rows;

extern const ddi_resize_rows ddi_resize_plain, ddi_resize_avx2, ddi_resize_avx512;

enum { DDI_RESIZE_BITS = 22, DDI_RESIZE_LOW_BITS = 15 };

#endif
