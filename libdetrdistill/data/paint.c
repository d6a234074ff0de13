/* SPDX-License-Identifier: Apache-2.0
 * Paints a generated scene: ground, clutter, shapes with smooth edges, noise. Only operations that IEEE 754 rounds exactly are
 * used, so a scene has the same bits on every machine. */
#include "base/error.h"
#include "base/philox.h"
#include "data/scenes.h"
#include "data/streams.h"

#include <math.h>
#include <string.h>

typedef struct colour {
    float rgb[3];
} colour;

typedef struct painter {
    const ddi_scenes *scenes;
    uint64_t at;    /* of the random stream */
    uint32_t noise; /* what the noise of this scene hashes with */
    ddi_image *image;
} painter;

static float draw(painter *p)
{
    return (float)ddi_philox_uniform(p->scenes->seed, p->scenes->stream, DDI_STREAM_SCENE_PAINT, p->at++);
}

static float draw_between(painter *p, float low, float high)
{
    return low + (high - low) * draw(p);
}

static colour draw_colour(painter *p)
{
    colour c;
    for (int32_t i = 0; i < 3; i++) {
        c.rgb[i] = draw_between(p, 20, 235);
    }
    return c;
}

static float contrast(const colour *a, const colour *b)
{
    float sum = 0;
    for (int32_t i = 0; i < 3; i++) {
        sum += fabsf(a->rgb[i] - b->rgb[i]);
    }
    return sum;
}

/* 0 .. 1 from two whole numbers. */
static float hash(uint32_t noise, uint32_t x, uint32_t y)
{
    uint32_t h = noise ^ (x * 0x9E3779B1u) ^ (y * 0x85EBCA77u);
    h = (h ^ (h >> 15)) * 0x2C1B3C6Du;
    h = (h ^ (h >> 12)) * 0x297A2D39u;
    return (float)((h ^ (h >> 15)) >> 8) * 0x1p-24f;
}

static uint8_t *pixel(const ddi_image *image, int32_t x, int32_t y)
{
    return image->data + ((size_t)y * (size_t)image->width + (size_t)x) * 3;
}

static uint8_t to_byte(float value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value + 0.5f);
}

static void blend(uint8_t *to, const float rgb[3], float part)
{
    for (int32_t i = 0; i < 3; i++) {
        to[i] = to_byte(to[i] + (rgb[i] - to[i]) * part);
    }
}

/* ---- Ground */

/* Smooth noise on a grid of `cell` pixels. */
static float clouds(uint32_t noise, float x, float y)
{
    const float fx = floorf(x), fy = floorf(y);
    const uint32_t ix = (uint32_t)(int32_t)fx, iy = (uint32_t)(int32_t)fy;
    float u = x - fx, v = y - fy;
    u = u * u * (3 - 2 * u);
    v = v * v * (3 - 2 * v);
    const float top = hash(noise, ix, iy) * (1 - u) + hash(noise, ix + 1, iy) * u;
    const float bottom = hash(noise, ix, iy + 1) * (1 - u) + hash(noise, ix + 1, iy + 1) * u;
    return top * (1 - v) + bottom * v;
}

static void paint_ground(painter *p, const colour *near, const colour *far)
{
    const int32_t width = p->image->width, height = p->image->height;
    const float slope_x = draw_between(p, -1, 1) / (float)width, slope_y = draw_between(p, -1, 1) / (float)height;
    const float cells = draw_between(p, 3, 9) / (float)(width > height ? width : height);
    for (int32_t y = 0; y < height; y++) {
        uint8_t *to = pixel(p->image, 0, y);
        for (int32_t x = 0; x < width; x++, to += 3) {
            float part = 0.5f + 0.5f * (slope_x * (float)x + slope_y * (float)y);
            part += clouds(p->noise ^ 0x5EED, (float)x * cells, (float)y * cells) - 0.5f;
            part = part < 0 ? 0 : part > 1 ? 1 : part;
            for (int32_t i = 0; i < 3; i++) {
                to[i] = to_byte(near->rgb[i] + (far->rgb[i] - near->rgb[i]) * part);
            }
        }
    }
}

/* ---- Shapes: about how many pixels a point lies outside; (u, v) runs from -1 to 1 across the shape's box */

static float ellipse(float u, float v, float a, float b, float radius)
{
    const float x = u / radius, y = v / radius, k0 = sqrtf(x * x + y * y);
    const float k1 = sqrtf(x * x / (a * a) + y * y / (b * b)) / radius;
    return k1 > 0 ? k0 * (k0 - 1) / k1 : -(a < b ? a : b) * radius;
}

static float box(float u, float v, float a, float b, float half_u, float half_v)
{
    return fmaxf((fabsf(u) - half_u) * a, (fabsf(v) - half_v) * b);
}

static float outside(int32_t class, float u, float v, float a, float b)
{
    const float au = fabsf(u), av = fabsf(v);
    switch (class) {
    case 0: /* disc */
        return ellipse(u, v, a, b, 1);
    case 1: /* square */
        return box(u, v, a, b, 1, 1);
    case 2: /* triangle */
        return fmaxf((v - 1) * b, (au - 0.5f * (v + 1)) / sqrtf(1 / (a * a) + 0.25f / (b * b)));
    case 3: /* ring */
        return fmaxf(ellipse(u, v, a, b, 1), -ellipse(u, v, a, b, 0.55f));
    case 4: /* cross */
        return fminf(box(u, v, a, b, 1, 0.34f), box(u, v, a, b, 0.34f, 1));
    case 5: /* diamond */
        return (au + av - 1) / sqrtf(1 / (a * a) + 1 / (b * b));
    case 6: /* hourglass */
        return fmaxf(box(u, v, a, b, 1, 1), (au - av) / sqrtf(1 / (a * a) + 1 / (b * b)));
    default: /* corner */
        return fmaxf(box(u, v, a, b, 1, 1), -fmaxf((-0.3f - u) * a, (v - 0.3f) * b));
    }
}

typedef struct fill {
    colour first, second;
    int32_t kind; /* 0 plain, 1 shaded, 2 striped, 3 speckled */
    float along_u, along_v;
} fill;

/* How much of the second colour a point has. */
static float second_part(const fill *f, uint32_t noise, float u, float v)
{
    const float t = u * f->along_u + v * f->along_v;
    switch (f->kind) {
    case 0:
        return 0;
    case 1:
        return fminf(fmaxf(0.5f + 0.5f * t, 0), 1);
    case 2:
        return fabsf(2 * (2.5f * t - floorf(2.5f * t)) - 1);
    default:
        return clouds(noise, 5 * u + 64, 5 * v + 64);
    }
}

static void paint_shape(painter *p, int32_t class, float x, float y, float a, float b, const fill *f, float strength)
{
    const int32_t left = (int32_t)fmaxf(x - a - 1, 0), right = (int32_t)fminf(x + a + 2, (float)p->image->width);
    const int32_t top = (int32_t)fmaxf(y - b - 1, 0), bottom = (int32_t)fminf(y + b + 2, (float)p->image->height);
    const uint32_t noise = p->noise ^ (uint32_t)p->at;
    for (int32_t py = top; py < bottom; py++) {
        for (int32_t px = left; px < right; px++) {
            const float u = ((float)px + 0.5f - x) / a, v = ((float)py + 0.5f - y) / b;
            const float part = 0.5f - outside(class, u, v, a, b);
            if (part > 0) {
                const float mix = second_part(f, noise, u, v);
                float rgb[3];
                for (int32_t i = 0; i < 3; i++) {
                    rgb[i] = f->first.rgb[i] + (f->second.rgb[i] - f->first.rgb[i]) * mix;
                }
                blend(pixel(p->image, px, py), rgb, strength * (part > 1 ? 1 : part));
            }
        }
    }
}

static fill draw_fill(painter *p, const colour *ground)
{
    fill f;
    f.first = draw_colour(p);
    for (int32_t i = 0; i < 6 && contrast(&f.first, ground) < 180; i++) {
        f.first = draw_colour(p);
    }
    f.second = f.first;
    for (int32_t i = 0; i < 3; i++) {
        f.second.rgb[i] *= draw_between(p, 0.55f, 1.1f);
    }
    f.kind = (int32_t)(4 * draw(p));
    f.along_u = draw_between(p, -1, 1);
    f.along_v = draw_between(p, -1, 1);
    return f;
}

/* Bars, long and thin: no class looks like them. */
static void paint_clutter(painter *p, const colour *ground)
{
    const float width = (float)p->image->width, height = (float)p->image->height;
    const int32_t count = 2 + (int32_t)(5 * draw(p));
    for (int32_t i = 0; i < count; i++) {
        const fill f = draw_fill(p, ground);
        const float length = draw_between(p, 0.1f, 0.35f), thin = draw_between(p, 0.7f, 1.8f);
        const bool lies = draw(p) < 0.5f;
        const float x = draw(p) * width, y = draw(p) * height;
        paint_shape(p, 1, x, y, lies ? length * width : thin, lies ? thin : length * height, &f, 0.7f);
    }
}

static void add_noise(painter *p, float strength)
{
    const int32_t width = p->image->width * 3;
    for (int32_t y = 0; y < p->image->height; y++) {
        uint8_t *to = pixel(p->image, 0, y);
        for (int32_t x = 0; x < width; x++) {
            to[x] = to_byte((float)to[x] + strength * (hash(p->noise, (uint32_t)x, (uint32_t)y) - 0.5f));
        }
    }
}

dd_status ddi_scene_render(const ddi_scenes *scenes, int32_t index, ddi_image *image)
{
    ddi_shape shape[DDI_SCENE_OBJECTS];
    painter p = {.scenes = scenes, .at = (uint64_t)index << 16, .image = image};
    DDI_TRY(ddi_image_reserve(image, "a scene", scenes->width, scenes->height));
    p.noise = (uint32_t)(draw(&p) * 0x1p24f) * 0x9E3779B1u;
    const colour near = draw_colour(&p), far = draw_colour(&p);
    paint_ground(&p, &near, &far);
    paint_clutter(&p, &near);
    const int32_t count = ddi_scene_shapes(scenes, index, shape);
    for (int32_t i = 0; i < count; i++) {
        const fill f = draw_fill(&p, &near);
        paint_shape(&p, shape[i].class, (float)shape[i].x, (float)shape[i].y, (float)shape[i].a, (float)shape[i].b, &f, 1);
    }
    add_noise(&p, draw_between(&p, 4, 40));
    return DD_OK;
}
