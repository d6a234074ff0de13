/* SPDX-License-Identifier: Apache-2.0
 * Generated scenes as a data set: options, and where the shapes of a scene lie. */
#include "data/scenes.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/philox.h"
#include "data/streams.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

const char *const ddi_shape_names[DDI_SCENE_SHAPES] = {"disc",  "square",  "triangle",  "ring",
                                                       "cross", "diamond", "hourglass", "corner"};

typedef struct settings {
    int64_t count[3], seed, size, width, height, classes, objects;
    int32_t smallest;
} settings;

static const char *const split_names[] = {"train", "val", "test"};

static const ddi_option options[] = {
    {"train", DDI_INT, offsetof(settings, count[0]), 0, 1 << 24, "400", NULL, "scenes of the split train"},
    {"val", DDI_INT, offsetof(settings, count[1]), 0, 1 << 24, "100", NULL, "scenes of the split val"},
    {"test", DDI_INT, offsetof(settings, count[2]), 0, 1 << 24, "100", NULL, "scenes of the split test"},
    {"seed", DDI_INT, offsetof(settings, seed), 0, 1LL << 62, "1", NULL, "what the scenes are drawn from"},
    {"size", DDI_INT, offsetof(settings, size), 16, 4096, "160", NULL, "width and height where they are not given"},
    {"width", DDI_INT, offsetof(settings, width), 0, 4096, "0", NULL, "0: size"},
    {"height", DDI_INT, offsetof(settings, height), 0, 4096, "0", NULL, "0: size"},
    {"classes", DDI_INT, offsetof(settings, classes), 1, DDI_SCENE_SHAPES, "5", NULL, "kinds of shapes"},
    {"objects", DDI_INT, offsetof(settings, objects), 1, DDI_SCENE_OBJECTS, "8", NULL, "shapes of a scene, at most"},
    {"smallest", DDI_CHOICE, offsetof(settings, smallest), 0, 0, "small", "small|medium|large", "of the sizes of shapes"},
};
static const ddi_option_table table = {"scenes", options, sizeof options / sizeof options[0]};

/* ---- Layout */

/* Numbers in [0,1), one after the other. */
typedef struct draws {
    const ddi_scenes *scenes;
    uint64_t at;
} draws;

static double draw(draws *r)
{
    return ddi_philox_uniform(r->scenes->seed, r->scenes->stream, DDI_STREAM_SCENE_LAYOUT, r->at++);
}

static double draw_between(draws *r, double low, double high)
{
    return low + (high - low) * draw(r);
}

/* COCO's small, medium and large objects as they would be if its usual 640 x 480 were this size; of equal numbers. */
static double draw_side(draws *r)
{
    static const double range[3][2] = {{20, 32}, {32, 96}, {96, 240}};
    const int32_t smallest = r->scenes->smallest;
    const double *sides = range[smallest + (int32_t)((3 - smallest) * draw(r))];
    const double scale = sqrt((double)r->scenes->width * r->scenes->height / (640.0 * 480.0));
    const double side = draw_between(r, sides[0], sides[1]) * scale;
    return side < 6 ? 6 : side;
}

static double shared(const ddi_shape *s, const ddi_shape *t)
{
    const double w = fmin(s->x + s->a, t->x + t->a) - fmax(s->x - s->a, t->x - t->a);
    const double h = fmin(s->y + s->b, t->y + t->b) - fmax(s->y - s->b, t->y - t->b);
    return w > 0 && h > 0 ? w * h : 0;
}

/* Overlaps are wanted, hidden objects are not: a shape covers at most half of each other one. */
static bool fits(const ddi_shape *s, const ddi_shape *others, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        const double both = shared(s, &others[i]), area = 4 * others[i].a * others[i].b, own = 4 * s->a * s->b;
        if (both > 0.5 * area || both > 0.7 * own) {
            return false;
        }
    }
    return true;
}

static ddi_shape draw_shape(draws *r)
{
    const ddi_scenes *c = r->scenes;
    const double side = draw_side(r), stretch = draw_between(r, 0.75, 1.33);
    ddi_shape s = {.class = (int32_t)(c->classes * draw(r))};
    s.a = fmin(0.5 * side * stretch, 0.45 * c->width);
    s.b = fmin(0.5 * side / stretch, 0.45 * c->height);
    s.x = draw_between(r, s.a, c->width - s.a);
    s.y = draw_between(r, s.b, c->height - s.b);
    return s;
}

int32_t ddi_scene_shapes(const ddi_scenes *scenes, int32_t index, ddi_shape shape[DDI_SCENE_OBJECTS])
{
    draws r = {scenes, (uint64_t)index << 16};
    const int32_t wanted = 1 + (int32_t)(scenes->objects * draw(&r));
    int32_t count = 0;
    for (int32_t attempt = 0; attempt < 6 * wanted && count < wanted; attempt++) {
        shape[count] = draw_shape(&r);
        count += fits(&shape[count], shape, count);
    }
    return count;
}

/* ---- Data set */

static dd_status add_scene(dd_dataset *d, int32_t index)
{
    char name[64];
    ddi_shape shape[DDI_SCENE_OBJECTS];
    snprintf(name, sizeof name, "scene-%06d", index + 1);
    DDI_TRY(ddi_dataset_add_image(d, index + 1, name, d->scenes.width, d->scenes.height));
    const int32_t count = ddi_scene_shapes(&d->scenes, index, shape);
    for (int32_t i = 0; i < count; i++) {
        const ddi_shape *s = &shape[i];
        const ddi_object object = {.image = index + 1,
                                   .category = s->class + 1,
                                   .box = {s->x - s->a, s->y - s->b, 2 * s->a, 2 * s->b},
                                   .area = 4 * s->a * s->b};
        DDI_TRY(ddi_dataset_add_object(d, &object));
    }
    return DD_OK;
}

/* Commas become blanks. */
static dd_status parse(settings *s, const char *words)
{
    char text[1024];
    const size_t length = strnlen(words, sizeof text);
    if (length == sizeof text) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "the words after 'scenes:' are longer than 1023 bytes");
    }
    for (size_t i = 0; i <= length; i++) {
        text[i] = words[i];
        if (text[i] == ',') {
            text[i] = ' ';
        }
    }
    ddi_options_init(&table, s);
    return ddi_options_parse(&table, text, s, NULL);
}

dd_status ddi_scenes_open(dd_dataset *d, const char *words)
{
    settings s;
    int32_t split;
    DDI_TRY(parse(&s, words));
    for (int32_t i = 0; i < 3; i++) {
        DDI_TRY(ddi_dataset_add_split(d, split_names[i], strlen(split_names[i])));
    }
    DDI_TRY(ddi_dataset_choose_split(d, &split));
    snprintf(d->root, sizeof d->root, "scenes, split %s", split_names[split]);
    d->generated = true;
    d->scenes = (ddi_scenes){.width = (int32_t)(s.width > 0 ? s.width : s.size),
                             .height = (int32_t)(s.height > 0 ? s.height : s.size),
                             .classes = (int32_t)s.classes,
                             .objects = (int32_t)s.objects,
                             .smallest = s.smallest,
                             .seed = (uint64_t)s.seed,
                             .stream = (uint32_t)split};
    if (d->scenes.width < 16 || d->scenes.height < 16) {
        return ddi_fail(DD_ERR_OPTION, "width", "a scene has at least 16 x 16 pixels");
    }
    for (int32_t i = 0; i < d->scenes.classes; i++) {
        DDI_TRY(ddi_dataset_add_class(d, i + 1, ddi_shape_names[i]));
    }
    for (int32_t i = 0; i < s.count[split]; i++) {
        DDI_TRY(add_scene(d, i));
    }
    return DD_OK;
}
