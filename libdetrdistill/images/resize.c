/* SPDX-License-Identifier: Apache-2.0
 * Weights of the resize and the order of its passes. */
#include "images/resize.h"
#include "base/cpu.h"
#include "base/error.h"
#include "images/codecs.h"

#include <detrdistill/sys/backend.h>
#include <math.h>
#include <string.h>

void ddi_resizer_init(ddi_resizer *resizer, ddi_allocator *allocator)
{
    *resizer = (ddi_resizer){.allocator = allocator, .isa = ddi_cpu_isa()};
}

void ddi_resizer_free(ddi_resizer *resizer)
{
    ddi_free(resizer->allocator, resizer->memory);
    ddi_free(resizer->allocator, resizer->narrow);
    *resizer = (ddi_resizer){.allocator = resizer->allocator, .isa = resizer->isa};
}

/* Half the width of the triangle, in input pixels. */
static double support_of(int32_t inputs, int32_t outputs)
{
    const double scale = (double)inputs / outputs;
    return scale < 1 ? 1 : scale;
}

static int32_t taps_of(int32_t inputs, int32_t outputs)
{
    const int32_t taps = 2 * (int32_t)ceil(support_of(inputs, outputs)) + 1;
    return taps + taps % 2;
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Pillow's order of operations, so that every weight rounds as there. */
static void fill_output(ddi_axis *axis, int32_t inputs, int32_t all, int32_t at, int32_t i)
{
    const double support = support_of(inputs, all), center = (at + 0.5) * ((double)inputs / all), shrink = 1.0 / support;
    int32_t first = (int32_t)(center - support + 0.5), last = (int32_t)(center + support + 0.5);
    first = first < 0 ? 0 : first;
    last = last > inputs ? inputs : last;
    double sum = 0;
    for (int32_t k = first; k < last; k++) {
        sum += triangle((k - center + 0.5) * shrink);
    }
    axis->start[i] = first;
    axis->count[i] = last - first;
    for (int32_t k = 0; k < axis->taps; k++) {
        double weight = k < last - first ? triangle((k + first - center + 0.5) * shrink) : 0;
        weight = sum != 0 ? weight / sum : weight;
        const int32_t fixed = (int32_t)(0.5 + weight * (1 << DDI_RESIZE_BITS));
        axis->low[(size_t)i * (size_t)axis->taps + (size_t)k] = (int16_t)(fixed & ((1 << DDI_RESIZE_LOW_BITS) - 1));
        axis->high[(size_t)i * (size_t)axis->taps + (size_t)k] = (int16_t)(fixed >> DDI_RESIZE_LOW_BITS);
    }
}

static size_t axis_bytes(const ddi_axis *axis)
{
    return (size_t)axis->outputs * (2 * sizeof(int32_t) + 2 * (size_t)axis->taps * sizeof(int16_t));
}

/* Outputs first .. first + axis->outputs - 1 of `all`. */
static void *fill_axis(ddi_axis *axis, void *memory, int32_t inputs, int32_t all, int32_t first)
{
    axis->start = memory;
    axis->count = axis->start + axis->outputs;
    axis->low = (int16_t *)(axis->count + axis->outputs);
    axis->high = axis->low + (size_t)axis->outputs * (size_t)axis->taps;
    for (int32_t i = 0; i < axis->outputs; i++) {
        fill_output(axis, inputs, all, first + i, i);
    }
    return (char *)memory + axis_bytes(axis);
}

static dd_status grow(ddi_resizer *r, void **memory, size_t *room, size_t bytes)
{
    if (bytes <= *room) {
        return DD_OK;
    }
    void *made = ddi_alloc(r->allocator, bytes);
    if (!made) {
        return ddi_fail_nomem(bytes, "resizing a picture");
    }
    ddi_free(r->allocator, *memory);
    *memory = made;
    *room = bytes;
    return DD_OK;
}

static const ddi_resize_rows *choose(int32_t isa)
{
    const int32_t best = ddi_cpu_isa();
    isa = isa < best ? isa : best;
    return isa >= DD_ISA_AVX512 ? &ddi_resize_avx512 : isa >= DD_ISA_AVX2 ? &ddi_resize_avx2 : &ddi_resize_plain;
}

typedef struct plan {
    ddi_axis across, down;
    int32_t first_row, rows; /* of the input, that the window needs */
    const ddi_resize_rows *pass;
} plan;

static dd_status make_plan(plan *p, ddi_resizer *r, const ddi_image *from, int32_t width, int32_t height, const ddi_window *w)
{
    p->across = (ddi_axis){.outputs = w->width, .taps = taps_of(from->width, width)};
    p->down = (ddi_axis){.outputs = w->height, .taps = taps_of(from->height, height)};
    DDI_TRY(grow(r, &r->memory, &r->room, axis_bytes(&p->across) + axis_bytes(&p->down)));
    void *rest = fill_axis(&p->across, r->memory, from->width, width, w->x);
    fill_axis(&p->down, rest, from->height, height, w->y);
    p->first_row = p->down.start[0];
    p->rows = p->down.start[w->height - 1] + p->down.count[w->height - 1] - p->first_row;
    p->pass = choose(r->isa);
    /* sums of low parts must fit into 32 bits: 255 * 32767 * taps */
    p->pass = p->across.taps > 256 || p->down.taps > 256 ? &ddi_resize_plain : p->pass;
    return DD_OK;
}

static void copy_window(ddi_image *to, const ddi_image *from, const ddi_window *w)
{
    for (int32_t y = 0; y < w->height; y++) {
        memcpy(to->data + (size_t)y * (size_t)w->width * 3,
               from->data + ((size_t)(w->y + y) * (size_t)from->width + (size_t)w->x) * 3, (size_t)w->width * 3);
    }
}

static void across(const plan *p, uint8_t *to, const ddi_image *from)
{
    const size_t from_row = (size_t)from->width * 3, to_row = (size_t)p->across.outputs * 3;
    for (int32_t y = 0; y < p->rows; y += 4) {
        const int32_t rows = p->rows - y < 4 ? p->rows - y : 4;
        p->pass->across(to + (size_t)y * to_row, to_row, from->data + (size_t)(p->first_row + y) * from_row, from_row, rows,
                        &p->across);
    }
}

dd_status ddi_image_resize(ddi_resizer *r, ddi_image *to, const ddi_image *from, int32_t width, int32_t height,
                           const ddi_window *window)
{
    const ddi_window all = {0, 0, width, height}, *w = window ? window : &all;
    plan p;
    DDI_TRY(ddi_image_check("a resized picture", width, height));
    DDI_TRY(ddi_image_reserve(to, "a resized picture", w->width, w->height));
    if (width == from->width && height == from->height) {
        copy_window(to, from, w);
        return DD_OK;
    }
    DDI_TRY(make_plan(&p, r, from, width, height, w));
    const size_t row = (size_t)w->width * 3;
    const uint8_t *source = from->data + (size_t)p.first_row * (size_t)from->width * 3;
    size_t stride = (size_t)from->width * 3;
    if (height == from->height) {
        across(&p, to->data, from);
        return DD_OK;
    }
    if (width == from->width) {
        source += (size_t)w->x * 3;
    } else {
        void *narrow = r->narrow;
        DDI_TRY(grow(r, &narrow, &r->narrow_room, row * (size_t)p.rows + DDI_IMAGE_SLACK));
        r->narrow = narrow;
        across(&p, r->narrow, from);
        source = r->narrow;
        stride = row;
    }
    for (int32_t y = 0; y < w->height; y++) { /* downwards: what a row writes beyond its end the next one overwrites */
        p.pass->down(to->data + (size_t)y * row, source + (size_t)(p.down.start[y] - p.first_row) * stride, stride, &p.down, y,
                     row);
    }
    return DD_OK;
}
