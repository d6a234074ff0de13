/* SPDX-License-Identifier: Apache-2.0
 * Plans, boxes and normalisation of views. */
#include "data/augment.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/philox.h"
#include "data/streams.h"

#include <detrdistill/sys/backend.h>
#include <math.h>
#include <string.h>

dd_status ddi_sizes_parse(ddi_sizes *sizes, const char *key, const char *text)
{
    sizes->count = 0;
    for (const char *at = text;; at++) {
        int64_t value = 0;
        const char *start = at;
        for (; *at >= '0' && *at <= '9' && value < DDI_MAX_IMAGE_SIDE; at++) {
            value = 10 * value + (*at - '0');
        }
        if (at == start || (*at && *at != ',') || value < 1 || value > DDI_MAX_IMAGE_SIDE || sizes->count == DDI_MOST_SIZES) {
            return ddi_fail(DD_ERR_OPTION, key, "loader option %s=%.80s: needs 1 to %d sizes in pixels, with commas between",
                            key, text, DDI_MOST_SIZES);
        }
        sizes->size[sizes->count++] = (int32_t)value;
        if (!*at) {
            return DD_OK;
        }
    }
}

/* ---- Plans */

/* What each number that is drawn for a picture decides. */
enum { FLIP, CROP, FIRST_SIZE, CROP_WIDTH, CROP_HEIGHT, CROP_X, CROP_Y, LAST_SIZE, DRAWS };

static int32_t pick(double u, int32_t low, int32_t high)
{
    return low + (int32_t)(u * (high - low + 1));
}

/* The short side becomes `size`, unless the long one would pass `most`. Python's round: a half goes to the even number. */
static void scaled(int32_t size, int32_t most, int32_t width, int32_t height, int32_t *to_width, int32_t *to_height)
{
    const double small = width < height ? width : height, large = width < height ? height : width;
    int32_t side = size;
    if (most > 0 && large / small * size > most) {
        side = (int32_t)nearbyint(most * small / large);
        side = side < 1 ? 1 : side; /* a picture longer than `most` times its width */
    }
    double other = floor(side * large / small);
    other = other > DDI_MAX_IMAGE_SIDE ? DDI_MAX_IMAGE_SIDE : other;
    other = side == 1 && most > 0 && other > most ? most : other;
    *to_width = width < height ? side : (int32_t)other;
    *to_height = width < height ? (int32_t)other : side;
}

static int32_t crop_side(const ddi_policy *p, double u, int32_t side)
{
    return pick(u, side < p->crop_min ? side : p->crop_min, side < p->crop_max ? side : p->crop_max);
}

ddi_picture_view ddi_view_plan(const ddi_policy *p, uint64_t seed, int64_t epoch, int32_t index, int32_t width, int32_t height)
{
    ddi_picture_view v = {.original_width = width, .original_height = height};
    int32_t size = p->sizes.size[p->sizes.count - 1];
    if (p->train) {
        double u[DRAWS];
        for (int32_t i = 0; i < DRAWS; i++) {
            u[i] = ddi_philox_uniform(seed, (uint32_t)epoch, DDI_STREAM_AUGMENT, (uint64_t)index * DRAWS + (uint64_t)i);
        }
        v.flip = u[FLIP] < p->flip;
        v.crop = u[CROP] < p->crop;
        size = p->sizes.size[pick(u[LAST_SIZE], 0, p->sizes.count - 1)];
        if (v.crop) {
            const int32_t first = p->crop_sizes.size[pick(u[FIRST_SIZE], 0, p->crop_sizes.count - 1)];
            scaled(first, p->crop_max_size, width, height, &v.first_width, &v.first_height);
            v.window.width = crop_side(p, u[CROP_WIDTH], v.first_width);
            v.window.height = crop_side(p, u[CROP_HEIGHT], v.first_height);
            v.window.x = pick(u[CROP_X], 0, v.first_width - v.window.width);
            v.window.y = pick(u[CROP_Y], 0, v.first_height - v.window.height);
            width = v.window.width;
            height = v.window.height;
        }
    }
    scaled(size, p->max_size, width, height, &v.width, &v.height);
    return v;
}

dd_status ddi_view_pixels(const ddi_picture_view *v, ddi_resizer *resizer, const ddi_image *from, ddi_image *middle,
                          ddi_image *to)
{
    if (v->crop) {
        DDI_TRY(ddi_image_resize(resizer, middle, from, v->first_width, v->first_height, &v->window));
        from = middle;
    }
    return ddi_image_resize(resizer, to, from, v->width, v->height, NULL);
}

/* ---- Boxes */

/* One axis: cut at the original, scaled, shifted, cut at the window; then as centre and side in 0..1. */
static bool along(double low, double side, double original, double first, double offset, double window, bool flip,
                  float *centre, float *length)
{
    double from = fmax(low, 0) * (first / original) - offset, to = fmin(low + side, original) * (first / original) - offset;
    from = fmin(fmax(from, 0), window);
    to = fmin(fmax(to, 0), window);
    const double middle = 0.5 * (from + to) / window;
    *centre = (float)(flip ? 1 - middle : middle);
    *length = (float)((to - from) / window);
    return *length > 0;
}

bool ddi_view_box(const ddi_picture_view *v, const double box[4], float out[4])
{
    const double w = v->original_width, h = v->original_height;
    const ddi_window all = {0, 0, v->original_width, v->original_height}, *c = v->crop ? &v->window : &all;
    return along(box[0], box[2], w, v->crop ? v->first_width : w, c->x, c->width, v->flip, &out[0], &out[2]) &&
           along(box[1], box[3], h, v->crop ? v->first_height : h, c->y, c->height, false, &out[1], &out[3]);
}

/* ---- Normalisation */

enum { PATTERN = 48 }; /* a multiple of three colours and of a vector */

static const float means[3] = {123.675f, 116.28f, 103.53f}, deviations[3] = {58.395f, 57.12f, 57.375f};

static inline __attribute__((always_inline)) void normalise_bytes(float *to, const uint8_t *from, size_t count)
{
    float mean[PATTERN], scale[PATTERN];
    for (size_t i = 0; i < PATTERN; i++) {
        mean[i] = means[i % 3];
        scale[i] = 1 / deviations[i % 3];
    }
    size_t at = 0;
    for (; at + PATTERN <= count; at += PATTERN) {
        for (size_t i = 0; i < PATTERN; i++) {
            to[at + i] = ((float)from[at + i] - mean[i]) * scale[i];
        }
    }
    for (size_t i = 0; at + i < count; i++) {
        to[at + i] = ((float)from[at + i] - mean[i]) * scale[i];
    }
}

static void normalise_plain(float *to, const uint8_t *from, size_t count)
{
    normalise_bytes(to, from, count);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void normalise_avx2(float *to, const uint8_t *from, size_t count)
{
    normalise_bytes(to, from, count);
}
#endif

static void mirror(uint8_t *to, const uint8_t *from, int32_t pixels)
{
    for (from += 3 * (size_t)pixels; pixels > 0; pixels--, to += 3) {
        from -= 3;
        to[0] = from[0];
        to[1] = from[1];
        to[2] = from[2];
    }
}

void ddi_normalise(float *to, int32_t height, int32_t width, const ddi_image *image, bool flip, uint8_t *row)
{
    const size_t used = (size_t)image->width * 3, stride = (size_t)width * 3;
    void (*normalise)(float *, const uint8_t *, size_t) = normalise_plain;
#if defined(__x86_64__)
    normalise = ddi_cpu_isa() >= DD_ISA_AVX2 ? normalise_avx2 : normalise_plain;
#endif
    for (int32_t y = 0; y < image->height; y++, to += stride) {
        const uint8_t *from = image->data + (size_t)y * used;
        if (flip) {
            mirror(row, from, image->width);
            from = row;
        }
        normalise(to, from, used);
        memset(to + used, 0, (stride - used) * sizeof *to);
    }
    memset(to, 0, (size_t)(height - image->height) * stride * sizeof *to);
}
