/* SPDX-License-Identifier: Apache-2.0
 * Tiny teachers and students. */
#include "models.h"
#include "case.h"

#include <string.h>

void pictures_fill(pictures *p, uint64_t seed)
{
    uint64_t random = seed;
    *p = (pictures){.offsets = {0, 3, 5}, .sizes = {{WIDTH, HEIGHT}, {WIDTH - 25, HEIGHT - 9}}, .ids = {17, 4}};
    for (int32_t b = 0; b < PICTURES; b++) {
        for (int32_t i = 0; i < HEIGHT * WIDTH * 3; i++) {
            const int32_t x = i / 3 % WIDTH, y = i / 3 / WIDTH;
            const double value = 4 * next_random(&random) - 2;
            p->pixels[b * HEIGHT * WIDTH * 3 + i] = x < p->sizes[b][0] && y < p->sizes[b][1] ? value : 0;
        }
    }
    for (int32_t g = 0; g < p->offsets[PICTURES]; g++) {
        for (int32_t k = 0; k < 4; k++) {
            p->boxes[g][k] = (float)(k < 2 ? 0.3 + 0.4 * next_random(&random) : 0.1 + 0.4 * next_random(&random));
        }
        p->labels[g] = (int32_t)(3 * next_random(&random));
    }
}

static void bind(dd_distiller *d, const char *name, void *data, int32_t dtype, int32_t ndim, const int64_t *shape)
{
    dd_tensor view;
    GOOD(dd_tensor_init(&view, data, dtype, ndim, shape, NULL, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_distiller_bind(d, name, &view));
}

void pictures_bind(pictures *p, dd_distiller *d)
{
    const int64_t shape[] = {PICTURES, 3, HEIGHT, WIDTH}, stride[] = {HEIGHT * WIDTH * 3, 1, WIDTH * 3, 3};
    dd_tensor pixels;
    GOOD(dd_tensor_init(&pixels, p->pixels, DD_F64, 4, shape, stride, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_distiller_bind(d, "pixels", &pixels));
    bind(d, "gt.boxes", p->boxes, DD_F32, 2, (const int64_t[]){p->offsets[PICTURES], 4});
    bind(d, "gt.labels", p->labels, DD_I32, 1, (const int64_t[]){p->offsets[PICTURES]});
    bind(d, "gt.offsets", p->offsets, DD_I32, 1, (const int64_t[]){PICTURES + 1});
    bind(d, "image.sizes", p->sizes, DD_I32, 2, (const int64_t[]){PICTURES, 2});
    bind(d, "image.ids", p->ids, DD_I64, 1, (const int64_t[]){PICTURES});
}

dd_context *new_context(const char *options)
{
    dd_context *context;
    GOOD(dd_context_create(&context, options));
    return context;
}

dd_model *new_model(dd_context *context, const char *options, uint64_t noise)
{
    dd_model *model;
    int32_t count;
    GOOD(dd_model_create(&model, context, options));
    GOOD(dd_model_parameter_count(model, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view;
        int32_t trained;
        GOOD(dd_model_parameter_at(model, i, &name, &view, &trained));
        for (int64_t k = 0; k < tensor_elements(&view) && trained; k++) {
            tensor_set(&view, k, tensor_get(&view, k) + 0.2 * (next_random(&noise) - 0.5));
        }
    }
    return model;
}

dd_tensor parameter_of(dd_model *model, const char *wanted)
{
    int32_t count;
    dd_tensor view = {0};
    GOOD(dd_model_parameter_count(model, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        GOOD(dd_model_parameter_at(model, i, &name, &view, NULL));
        if (strcmp(name, wanted) == 0) {
            return view;
        }
    }
    fail_msg("there is no parameter %s", wanted);
    return view;
}

static uint64_t hash_view(uint64_t hash, const dd_tensor *view)
{
    for (int64_t i = 0; i < tensor_elements(view); i++) {
        const double x = tensor_get(view, i);
        hash = hash_bytes(hash, &x, sizeof x);
    }
    return hash;
}

uint64_t hash_model_gradients(dd_model *model)
{
    int32_t count, trained;
    uint64_t hash = 1;
    GOOD(dd_model_parameter_count(model, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view;
        GOOD(dd_model_parameter_at(model, i, &name, &view, &trained));
        if (trained) {
            GOOD(dd_model_gradient(model, name, &view));
            hash = hash_view(hash, &view);
        }
    }
    return hash;
}

uint64_t hash_model_tensor(dd_model *model, const char *name)
{
    dd_tensor view;
    GOOD(dd_model_tensor(model, name, &view));
    return hash_view(1, &view);
}
