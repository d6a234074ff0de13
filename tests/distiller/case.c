/* SPDX-License-Identifier: Apache-2.0
 * Random distillation cases. */
#include "case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const case_sizes case_small = {.student_stages = 2,
                               .teacher_stages = 4,
                               .images = 2,
                               .student_queries = 7,
                               .teacher_queries = 9,
                               .classes = 5,
                               .student_width = 6,
                               .teacher_width = 8,
                               .levels = 2,
                               .height = 6,
                               .width = 4,
                               .objects = 2,
                               .hidden = 5,
                               .dtype = DD_F32};

enum { MARK = 0x5A };

double next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (double)((z ^ z >> 31) >> 11) / 9007199254740992.0;
}

uint64_t hash_bytes(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ p[i]) * 0x100000001B3u;
    return hash;
}

int64_t tensor_elements(const dd_tensor *view)
{
    int64_t n = 1;
    for (int32_t i = 0; i < view->ndim; i++)
        n *= view->shape[i];
    return n;
}

static char *element(const dd_tensor *view, int64_t i)
{
    int64_t at = 0;
    for (int32_t k = view->ndim - 1; k >= 0; k--) {
        at += i % view->shape[k] * view->stride[k];
        i /= view->shape[k];
    }
    return (char *)view->data + at * dd_dtype_size(view->dtype);
}

static uint16_t to_bf16(double value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (isnan(f))
        return 0x7FC0;
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static double from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint16_t to_f16(double value)
{
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double size = fabs(value);
    if (isnan(value))
        return 0x7E00;
    if (size >= 65520)
        return sign | 0x7C00;
    if (size < ldexp(1, -14))
        return sign | (uint16_t)rint(ldexp(size, 24));
    int exponent;
    double mantissa = frexp(size, &exponent); /* in [.5, 1) */
    return (uint16_t)(sign + ((exponent + 14) << 10) + (int)rint(ldexp(mantissa, 11)) - 1024);
}

static double from_f16(uint16_t half)
{
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double size = exponent == 31 ? (mantissa ? (double)NAN : (double)INFINITY)
                  : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                                 : ldexp(mantissa, -24);
    return half >> 15 ? -size : size;
}

double tensor_get(const dd_tensor *view, int64_t i)
{
    const char *p = element(view, i);
    uint16_t half;
    float f;
    double d;
    int32_t n;
    int64_t wide;
    switch (view->dtype) {
    case DD_F32:
        memcpy(&f, p, sizeof f);
        return f;
    case DD_F64:
        memcpy(&d, p, sizeof d);
        return d;
    case DD_I32:
        memcpy(&n, p, sizeof n);
        return n;
    case DD_I64:
        memcpy(&wide, p, sizeof wide);
        return (double)wide;
    case DD_U8:
        return *(const uint8_t *)p;
    default:
        memcpy(&half, p, sizeof half);
        return view->dtype == DD_F16 ? from_f16(half) : from_bf16(half);
    }
}

void tensor_set(const dd_tensor *view, int64_t i, double value)
{
    char *p = element(view, i);
    float f = (float)value;
    int32_t n = view->dtype == DD_I32 ? (int32_t)value : 0;
    int64_t wide = view->dtype == DD_I64 ? (int64_t)value : 0;
    uint16_t half = view->dtype == DD_F16 ? to_f16(value) : to_bf16(value);
    switch (view->dtype) {
    case DD_F32:
        memcpy(p, &f, sizeof f);
        break;
    case DD_F64:
        memcpy(p, &value, sizeof value);
        break;
    case DD_I32:
        memcpy(p, &n, sizeof n);
        break;
    case DD_I64:
        memcpy(p, &wide, sizeof wide);
        break;
    case DD_U8:
        *(uint8_t *)p = (uint8_t)value;
        break;
    default:
        memcpy(p, &half, sizeof half);
    }
}

static case_tensor *add(kd_case *c, const char *name, int32_t dtype, int32_t dims, const int64_t *shape)
{
    case_tensor *t = &c->tensor[c->count++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->bytes = (size_t)dd_dtype_size(dtype);
    for (int32_t i = 0; i < dims; i++)
        t->bytes *= (size_t)shape[i];
    t->memory = calloc(1, t->bytes + 1);
    if (!t->memory || c->count == CASE_TENSORS ||
        dd_tensor_init(&t->view, t->memory, dtype, dims, shape, NULL, DD_DEVICE_CPU, 0, 0) != DD_OK)
        abort();
    return t;
}

/* A float tensor with numbers in low..high, and its gradient if it has one. */
static case_tensor *add_reals(kd_case *c, const char *name, int32_t dims, const int64_t *shape, double low, double high,
                              bool gradient)
{
    case_tensor *t = add(c, name, c->sizes.dtype, dims, shape);
    int64_t n = tensor_elements(&t->view);
    for (int64_t i = 0; i < n; i++)
        tensor_set(&t->view, i, low + (high - low) * next_random(&c->random));
    if (gradient) {
        char of[64];
        snprintf(of, sizeof of, "%s.grad", name);
        add(c, of, c->sizes.dtype, dims, shape)->is_gradient = true;
    }
    return t;
}

static case_tensor *add_numbered(kd_case *c, const char *name, int32_t n, int32_t dims, const int64_t *shape, double low,
                                 double high, bool gradient)
{
    char numbered[48];
    snprintf(numbered, sizeof numbered, name, n);
    return add_reals(c, numbered, dims, shape, low, high, gradient);
}

static void fill_boxes(kd_case *c, const case_tensor *t)
{
    for (int64_t i = 0; i < tensor_elements(&t->view); i++)
        tensor_set(&t->view, i, i % 4 < 2 ? .2 + .6 * next_random(&c->random) : .05 + .35 * next_random(&c->random));
}

static void add_predictions(kd_case *c, const char *who, int32_t stages, int32_t queries, bool gradient)
{
    char name[48];
    snprintf(name, sizeof name, "%s.logits", who);
    add_reals(c, name, 4, (int64_t[]){stages, c->sizes.images, queries, c->sizes.classes}, -4, 4, gradient);
    snprintf(name, sizeof name, "%s.boxes", who);
    fill_boxes(c, add_reals(c, name, 4, (int64_t[]){stages, c->sizes.images, queries, 4}, 0, 1, gradient));
}

static int32_t objects_of(const case_sizes *s, int32_t image)
{
    return s->objects ? s->objects + image % 2 : 0;
}

static void add_objects(kd_case *c)
{
    const case_sizes *s = &c->sizes;
    int32_t total = 0;
    c->object_start = calloc((size_t)s->images + 1, sizeof *c->object_start);
    case_tensor *offsets = add(c, "gt.offsets", DD_I64, 1, (int64_t[]){s->images + 1});
    for (int32_t b = 0; b < s->images; b++) {
        total += objects_of(s, b);
        c->object_start[b + 1] = total;
        tensor_set(&offsets->view, b + 1, total);
    }
    fill_boxes(c, add_reals(c, "gt.boxes", 2, (int64_t[]){total, 4}, 0, 1, false));
    case_tensor *labels = add(c, "gt.labels", DD_I32, 1, (int64_t[]){total});
    for (int32_t g = 0; g < total; g++)
        tensor_set(&labels->view, g, (int32_t)(next_random(&c->random) * s->classes));
    case_tensor *sizes = add(c, "image.sizes", DD_I32, 2, (int64_t[]){s->images, 2});
    for (int32_t i = 0; i < 2 * s->images; i++)
        tensor_set(&sizes->view, i, 320 + (int32_t)(next_random(&c->random) * 480));
    if (s->parts & CASE_CROWD)
        add(c, "gt.crowd", DD_U8, 1, (int64_t[]){total});
}

/* One group: a positive slot for each object of the fullest image, then as many negative ones. */
static void add_denoising(kd_case *c)
{
    const case_sizes *s = &c->sizes;
    int32_t most = objects_of(s, s->images > 1), slots = most ? 2 * most : 2;
    add_predictions(c, "denoising", s->student_stages, slots, true);
    case_tensor *match = add(c, "denoising.match", DD_I32, 3, (int64_t[]){s->student_stages, s->images, slots});
    for (int64_t i = 0; i < tensor_elements(&match->view); i++) {
        int32_t slot = (int32_t)(i % slots), image = (int32_t)(i / slots % s->images);
        tensor_set(&match->view, i, slot < most && slot < objects_of(s, image) ? slot : -1);
    }
}

static void add_features(kd_case *c)
{
    const case_sizes *s = &c->sizes;
    for (int32_t n = 0; n < s->levels; n++) {
        int64_t h = s->height >> n ? s->height >> n : 1, w = s->width >> n ? s->width >> n : 1;
        int64_t own = s->student_height ? (s->student_height >> n ? s->student_height >> n : 1) : h;
        add_numbered(c, "student.features.%d", n, 4, (int64_t[]){s->images, s->student_width, own, w}, -1, 1, true);
        add_numbered(c, "teacher.features.%d", n, 4, (int64_t[]){s->images, s->teacher_width, h, w}, -1, 1, false);
        if (s->parts & CASE_ADAPTOR) {
            add_numbered(c, "adaptor.%d.weight", n, 2, (int64_t[]){s->teacher_width, s->student_width}, -.5, .5, true);
            add_numbered(c, "adaptor.%d.bias", n, 1, (int64_t[]){s->teacher_width}, -.5, .5, true);
        }
        if (s->parts & CASE_PADDING) {
            char name[48];
            snprintf(name, sizeof name, "features.padding.%d", n);
            case_tensor *padding = add(c, name, DD_U8, 3, (int64_t[]){s->images, h, w});
            tensor_set(&padding->view, tensor_elements(&padding->view) - 1, 1);
        }
    }
}

static void add_branch(kd_case *c, const char *who, int64_t width)
{
    static const char *const part[] = {"w1", "b1", "w2", "b2", "bn_weight", "bn_bias", "w3", "b3"};
    int64_t h = c->sizes.hidden;
    for (int32_t i = 0; i < 8; i++) {
        char name[48];
        bool is_weight = part[i][0] == 'w', scale = i == 4;
        snprintf(name, sizeof name, "contrastive.%s.%s", who, part[i]);
        add_reals(c, name, is_weight ? 2 : 1, (int64_t[]){h, i == 0 ? width : h}, scale ? .5 : -.8, scale ? 1.5 : .8, true);
    }
}

kd_case *case_make(case_sizes s, uint64_t seed)
{
    kd_case *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->sizes = s;
    c->random = seed * 0x2545F4914F6CDD1Du + 1;
    add_predictions(c, "student", s.student_stages, s.student_queries, true);
    add_predictions(c, "teacher", s.teacher_stages, s.teacher_queries, false);
    if (!(s.parts & CASE_NO_PRIOR))
        add_predictions(c, "prior", s.student_stages, s.teacher_queries, true);
    add_reals(c, "student.queries", 4, (int64_t[]){s.student_stages, s.images, s.student_queries, s.student_width}, -1, 1,
              true);
    add_reals(c, "teacher.queries", 4, (int64_t[]){s.teacher_stages, s.images, s.teacher_queries, s.teacher_width}, -1, 1,
              false);
    add_objects(c);
    if (s.parts & CASE_DENOISING)
        add_denoising(c);
    add_features(c);
    if (s.parts & CASE_BRANCHES) {
        add_branch(c, "student", s.student_width);
        add_branch(c, "teacher", s.teacher_width);
    }
    return c;
}

void case_free(kd_case *c)
{
    for (int32_t i = 0; i < c->count; i++)
        free(c->tensor[i].memory);
    free(c->object_start);
    free(c);
}

case_tensor *case_find(kd_case *c, const char *name)
{
    for (int32_t i = 0; i < c->count; i++)
        if (strcmp(c->tensor[i].name, name) == 0)
            return &c->tensor[i];
    return NULL;
}

void case_drop(kd_case *c, const char *name)
{
    size_t n = strlen(name);
    for (int32_t i = 0; i < c->count; i++) {
        case_tensor *t = &c->tensor[i];
        if (strncmp(t->name, name, n) == 0 && (!t->name[n] || strcmp(t->name + n, ".grad") == 0)) {
            free(t->memory);
            *t = c->tensor[--c->count];
            i--;
        }
    }
}

void case_restore(case_tensor *t, int32_t dtype, const int32_t *order, int32_t gap)
{
    case_tensor old = *t;
    int64_t stride[DD_MAX_DIMS], step = 1 + gap;
    for (int32_t i = t->view.ndim - 1; i >= 0; i--) {
        int32_t k = order ? order[i] : i;
        stride[k] = step;
        step *= t->view.shape[k];
    }
    t->bytes = (size_t)(step * dd_dtype_size(dtype));
    t->memory = calloc(1, t->bytes + 1);
    if (!t->memory ||
        dd_tensor_init(&t->view, t->memory, dtype, old.view.ndim, old.view.shape, stride, DD_DEVICE_CPU, 0, 0) != DD_OK)
        abort();
    for (int64_t i = 0; i < tensor_elements(&t->view); i++)
        tensor_set(&t->view, i, tensor_get(&old.view, i));
    free(old.memory);
}

dd_status case_bind(kd_case *c, dd_distiller *d, bool gradients)
{
    for (int32_t i = 0; i < c->count; i++) {
        if (c->tensor[i].is_gradient && !gradients)
            continue;
        dd_status status = dd_distiller_bind(d, c->tensor[i].name, &c->tensor[i].view);
        if (status != DD_OK)
            return status;
    }
    return DD_OK;
}

dd_status case_bind_matcher(kd_case *c, dd_matcher *m, bool teacher)
{
    static const char *const names[] = {"student.logits", "student.boxes", "gt.boxes",       "gt.labels",    "gt.offsets",
                                        "gt.crowd",       "image.sizes",   "teacher.logits", "teacher.boxes"};
    for (int i = 0; i < (teacher ? 9 : 7); i++) {
        const case_tensor *t = case_find(c, names[i]);
        dd_status status = t ? dd_matcher_bind(m, names[i], &t->view) : DD_OK;
        if (status != DD_OK)
            return status;
    }
    return DD_OK;
}

void case_mark_gradients(kd_case *c)
{
    for (int32_t i = 0; i < c->count; i++)
        if (c->tensor[i].is_gradient)
            memset(c->tensor[i].memory, MARK, c->tensor[i].bytes);
}

static bool all_bytes(const case_tensor *t, unsigned char value)
{
    const unsigned char *p = t->memory;
    for (size_t i = 0; i < t->bytes; i++)
        if (p[i] != value)
            return false;
    return true;
}

/* Zero or never written between the elements. */
static bool is_zero(const case_tensor *t)
{
    for (int64_t i = 0; i < tensor_elements(&t->view); i++)
        if (tensor_get(&t->view, i) != 0)
            return false;
    return true;
}

bool case_gradients_untouched(const kd_case *c)
{
    for (int32_t i = 0; i < c->count; i++)
        if (c->tensor[i].is_gradient && !all_bytes(&c->tensor[i], MARK))
            return false;
    return true;
}

bool case_gradients_untouched_or_zero(const kd_case *c)
{
    for (int32_t i = 0; i < c->count; i++)
        if (c->tensor[i].is_gradient && !all_bytes(&c->tensor[i], MARK) && !is_zero(&c->tensor[i]))
            return false;
    return true;
}

bool case_gradients_finite(const kd_case *c)
{
    for (int32_t i = 0; i < c->count; i++)
        for (int64_t k = 0; c->tensor[i].is_gradient && k < tensor_elements(&c->tensor[i].view); k++)
            if (!isfinite(tensor_get(&c->tensor[i].view, k)))
                return false;
    return true;
}

static uint64_t hash_tensors(const kd_case *c, bool gradients)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (int32_t i = 0; i < c->count; i++)
        if (c->tensor[i].is_gradient == gradients)
            hash = hash_bytes(hash, c->tensor[i].memory, c->tensor[i].bytes);
    return hash;
}

uint64_t case_hash_gradients(const kd_case *c)
{
    return hash_tensors(c, true);
}

uint64_t case_hash_inputs(const kd_case *c)
{
    return hash_tensors(c, false);
}

uint64_t case_hash_terms(const dd_distiller *d)
{
    uint64_t hash = 0xCBF29CE484222325u;
    int32_t count = 0;
    if (dd_distiller_term_count(d, &count) != DD_OK)
        return 0;
    for (int32_t i = 0; i < count; i++) {
        const char *name = "";
        double value = 0;
        dd_distiller_term_at(d, i, &name, &value);
        hash = hash_bytes(hash_bytes(hash, name, strlen(name)), &value, sizeof value);
    }
    return hash;
}
