/* SPDX-License-Identifier: Apache-2.0
 * Cases of every operator: random shapes from 1 up, empty ones too, ordinary and extreme values, with the error that
 * reliability.md section 5 allows. */
#include "cases.h"
#include "attention_cases.h"
#include "dense_cases.h"
#include "layer_cases.h"
#include "mixing_cases.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t random_bits(random_state *r)
{
    uint64_t z = r->s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int64_t random_below(random_state *r, int64_t n)
{
    return n > 0 ? (int64_t)(random_bits(r) % (uint64_t)n) : 0;
}

double random_unit(random_state *r)
{
    return (double)(random_bits(r) >> 11) * 0x1p-53;
}

double uniform(random_state *r, double low, double high)
{
    return low + (high - low) * random_unit(r);
}

void *take(size_t bytes)
{
    void *memory = calloc(1, bytes + 1);
    if (!memory) {
        fprintf(stderr, "ddcheck: out of memory\n");
        abort();
    }
    return memory;
}

array *add(test_case *c, const char *name, size_t offset, array_kind kind, array_use use, size_t element, int64_t count)
{
    array *a = &c->array[c->arrays++];
    *a = (array){.name = name, .offset = offset, .kind = kind, .use = use, .element = element, .count = count};
    if (use != OUTPUT) {
        a->values = take((size_t)count * (kind == BYTES ? element : kind == DOUBLES ? sizeof(double) : sizeof(float)));
    }
    return a;
}

array *allow(array *a, double by_value, double by_scale)
{
    a->by_value = by_value;
    a->by_scale = by_scale;
    return a;
}

int profile_of(int64_t i)
{
    return (int)(i % PROFILES);
}

float value_of(random_state *r, int profile)
{
    const float sign = random_bits(r) & 1 ? 1 : -1;
    switch (profile) {
    case STEEP:
        return random_below(r, 3) ? sign * 50 : (float)uniform(r, -120, 120);
    case HUGE_VALUES:
        return random_below(r, 8) ? (float)uniform(r, -4, 4) : sign * (random_bits(r) & 1 ? FLT_MAX : 1e30f);
    case DENORMAL:
        return random_below(r, 3) ? sign * (float)random_below(r, 1 << 20) * 0x1p-149f : (float)uniform(r, -1, 1);
    case TIES:
        return (float)random_below(r, 4) - 2;
    default:
        return (float)(uniform(r, -4, 4) + uniform(r, -4, 4));
    }
}

void fill_values(array *a, random_state *r, int profile)
{
    for (int64_t i = 0; i < a->count; i++) {
        ((float *)a->values)[i] = value_of(r, profile);
    }
}

void fill_uniform(array *a, random_state *r, double low, double high)
{
    for (int64_t i = 0; i < a->count; i++) {
        ((float *)a->values)[i] = (float)uniform(r, low, high);
    }
}

/* Boxes of every size; with ties some equal each other. Most reach beyond the image. */
void fill_boxes(array *a, random_state *r, int profile)
{
    float *y = a->values;
    for (int64_t i = 0; i < a->count / 4; i++, y += 4) {
        const double extent = profile == DENORMAL ? 1e-3 : 0.6;
        y[0] = (float)uniform(r, 0, 1);
        y[1] = (float)uniform(r, 0, 1);
        y[2] = (float)uniform(r, 1e-4, extent);
        y[3] = (float)uniform(r, 1e-4, extent);
        for (int k = 0; profile == TIES && k < 4; k++) {
            y[k] = (float)(1 + random_below(r, 3)) / 4;
        }
        if (profile == STEEP && random_below(r, 6) == 0) {
            y[2] = y[3] = 0;
        }
    }
}

void fill_sizes(array *a, random_state *r)
{
    for (int64_t i = 0; i < a->count; i++) {
        ((float *)a->values)[i] = (float)(1 + random_below(r, 1333));
    }
}

int64_t some(random_state *r, int64_t highest)
{
    static const int64_t favourite[] = {1, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33};
    const int64_t n = random_below(r, 3) ? favourite[random_below(r, 11)] : 1 + random_below(r, highest);
    return n > highest ? highest : n;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double softplus(double x)
{
    return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}

/* Objects of a batch: offsets by image. Returns how many. */
static int32_t some_objects(random_state *r, int32_t images, int32_t *offsets, bool none)
{
    offsets[0] = 0;
    for (int32_t b = 0; b < images; b++) {
        offsets[b + 1] = offsets[b] + (none ? 0 : (int32_t)random_below(r, 7));
    }
    return offsets[images];
}

enum { IMAGES = 3 };

/* ---- conversion ---- */

static void check_finite_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_check_finite *op = (void *)c->args;
    op->outer = some(r, 4);
    op->images = some(r, 5);
    op->inner = i % 10 == 9 ? 0 : some(r, i % 10 == 8 ? 70000 : 300);
    array *x = REAL_IN(dd_op_check_finite, x, op->outer * op->images * op->inner);
    fill_values(x, r, profile_of(i));
    for (int64_t k = random_below(r, 4); k > 0 && x->count > 0; k--) {
        const float bad[] = {NAN, INFINITY, -INFINITY};
        ((float *)x->values)[random_below(r, x->count)] = bad[random_below(r, 3)];
    }
    add(c, "first", offsetof(dd_op_check_finite, first), BYTES, OUTPUT, sizeof(int64_t), 1);
    if (i % 3) {
        add(c, "image_bad", offsetof(dd_op_check_finite, image_bad), BYTES, UPDATED, sizeof(int32_t), op->images);
    }
    snprintf(c->text, sizeof c->text, "outer %lld images %lld inner %lld", (long long)op->outer, (long long)op->images,
             (long long)op->inner);
}

static size_t dtype_size(int32_t dtype)
{
    static const size_t size[] = {0, 4, 8, 2, 2, 4, 8, 1};
    return size[dtype];
}

/* A strided tensor over the given shape: returns its elements, and where element 0 lies. */
static int64_t some_strides(random_state *r, int32_t ndim, const int64_t *shape, bool contiguous, int64_t *stride,
                            int64_t *shift)
{
    int32_t order[DD_MAX_DIMS];
    for (int32_t a = 0; a < ndim; a++) {
        const int32_t at = contiguous ? a : (int32_t)random_below(r, a + 1);
        memmove(order + at + 1, order + at, (size_t)(a - at) * sizeof *order);
        order[at] = a;
    }
    int64_t step = 1;
    *shift = 0;
    for (int32_t a = ndim - 1; a >= 0; a--) {
        const int32_t axis = order[a];
        const bool reversed = !contiguous && random_below(r, 4) == 0;
        stride[axis] = reversed ? -step : step;
        *shift += reversed ? (shape[axis] - 1) * step : 0;
        step *= shape[axis] + (contiguous ? 0 : random_below(r, 2));
    }
    return step;
}

static void fill_element(unsigned char *at, int32_t dtype, random_state *r, int profile)
{
    const float f = random_below(r, 20) ? value_of(r, profile) : random_bits(r) & 1 ? INFINITY : NAN;
    const double d = random_below(r, 10) ? f : f * 1e10;
    const uint64_t bits = random_bits(r);
    memcpy(at,
           dtype == DD_F32   ? (const void *)&f
           : dtype == DD_F64 ? (const void *)&d
                             : (const void *)&bits,
           dtype_size(dtype));
}

static int32_t some_shape(random_state *r, int64_t i, int64_t *shape)
{
    const int32_t ndim = 1 + (int32_t)random_below(r, 4);
    for (int32_t a = 0; a < ndim; a++) {
        shape[a] = some(r, ndim == 1 ? 40000 : 40);
    }
    shape[0] = i % 16 == 15 ? 0 : shape[0];
    return ndim;
}

static int64_t product(const int64_t *shape, int32_t ndim)
{
    int64_t n = 1;
    for (int32_t a = 0; a < ndim; a++) {
        n *= shape[a];
    }
    return n;
}

static void fill_bytes(array *a, int32_t dtype, random_state *r, int profile)
{
    for (int64_t k = 0; k < a->count; k++) {
        fill_element((unsigned char *)a->values + (size_t)k * a->element, dtype, r, profile);
    }
}

static void gather_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_gather *op = (void *)c->args;
    c->exact = true;
    op->src_dtype = (int32_t)(1 + i % 7);
    op->sanitise = (int32_t)(i / 7 % 2);
    op->ndim = some_shape(r, i, op->shape);
    int64_t shift;
    const int64_t count = some_strides(r, op->ndim, op->shape, i % 3 == 0, op->stride, &shift);
    array *src = BYTES_IN(dd_op_gather, src, dtype_size(op->src_dtype), count);
    src->shift = count > 0 ? shift : 0;
    fill_bytes(src, op->src_dtype, r, profile_of(i));
    REAL_OUT(dd_op_gather, dst, product(op->shape, op->ndim));
    snprintf(c->text, sizeof c->text, "dtype %d ndim %d elements %lld", op->src_dtype, op->ndim,
             (long long)product(op->shape, op->ndim));
}

static void scatter_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_scatter *op = (void *)c->args;
    c->exact = true;
    op->dst_dtype = (int32_t)(1 + i % 4);
    op->ndim = some_shape(r, i, op->shape);
    int64_t shift;
    array *src = REAL_IN(dd_op_scatter, src, product(op->shape, op->ndim));
    fill_values(src, r, profile_of(i / 4));
    int64_t count = some_strides(r, op->ndim, op->shape, i % 3 == 0, op->stride, &shift);
    array *dst = add(c, "dst", offsetof(dd_op_scatter, dst), BYTES, UPDATED, dtype_size(op->dst_dtype), src->count ? count : 0);
    dst->shift = src->count ? shift : 0;
    if (i / 4 % 2) {
        op->zero_dtype = (int32_t)(1 + random_below(r, 4));
        count = some_strides(r, op->ndim, op->shape, i % 5 == 0, op->zero_stride, &shift);
        array *where = BYTES_IN(dd_op_scatter, zero_where, dtype_size(op->zero_dtype), src->count ? count : 0);
        where->shift = src->count ? shift : 0;
        fill_bytes(where, op->zero_dtype, r, profile_of(i / 3));
    }
    snprintf(c->text, sizeof c->text, "dtype %d ndim %d elements %lld zero dtype %d", op->dst_dtype, op->ndim,
             (long long)src->count, op->zero_dtype);
}

/* ---- costs ---- */

/* Box in pixels (or as it is): what the error of GIoU depends on. */
typedef struct corners {
    double low[2], high[2];
} corners;

static corners corners_of(const float *y, const float *size)
{
    corners k;
    for (int a = 0; a < 2; a++) {
        const double unit = size ? size[a] : 1;
        k.low[a] = (y[a] - y[2 + a] / 2.0) * unit;
        k.high[a] = (y[a] + y[2 + a] / 2.0) * unit;
    }
    return k;
}

/* How much GIoU = I/U - 1 + U/E moves at most when each edge moves by 1, guards included. */
static double giou_slope(const corners *a, const corners *b, double guard)
{
    double overlap[2], hull[2], area_a = 1, area_b = 1, perimeter = 0;
    for (int i = 0; i < 2; i++) {
        overlap[i] = fmax(0, fmin(a->high[i], b->high[i]) - fmax(a->low[i], b->low[i]));
        hull[i] = fmax(a->high[i], b->high[i]) - fmin(a->low[i], b->low[i]);
        area_a *= a->high[i] - a->low[i];
        area_b *= b->high[i] - b->low[i];
        perimeter += a->high[i] - a->low[i] + b->high[i] - b->low[i];
    }
    const double I = overlap[0] * overlap[1], dI = 2 * (overlap[0] + overlap[1]), dU = 2 * perimeter + dI;
    const double U = fmax(area_a + area_b - I, guard), E = fmax(hull[0] * hull[1], guard), dE = 2 * (hull[0] + hull[1]);
    return dI / U + I * dU / U / U + dU / E + U * dE / E / E;
}

static double l1_scale(const float *x, const float *y)
{
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        sum += fabs(x[i]) + fabs(y[i]);
    }
    return sum;
}

static void gt_cost_scales(const dd_op_gt_cost *op, const array *in, const int32_t *labels, const int32_t *offsets,
                           double *scale)
{
    const float *logits = in[0].values, *boxes = in[1].values, *gt = in[2].values,
                *sizes = op->giou_pixels ? in[5].values : NULL;
    for (int64_t s = 0; s < op->S; s++) {
        for (int32_t b = 0; b < op->B; b++) {
            for (int64_t k = offsets[b] * (int64_t)op->N; k < offsets[b + 1] * (int64_t)op->N; k++) {
                const int64_t g = k / op->N, query = (s * op->B + b) * op->N + k % op->N;
                const double x = logits[query * op->C + labels[g]], p = sigmoid(x), q = sigmoid(-x);
                const float *size = sizes ? sizes + b * 2 : NULL, *y = boxes + query * 4;
                const corners one = corners_of(y, size), other = corners_of(gt + g * 4, size);
                /* extents and centre distance, not coordinates, are what is rounded */
                double reach = 0;
                for (int a = 0; a < 2; a++) {
                    reach = fmax(reach, (size ? size[a] : 1) * (y[2 + a] + gt[g * 4 + 2 + a] + fabs(y[a] - gt[g * 4 + a])));
                }
                const double giou = 2 + 4 * EPS * reach * giou_slope(&one, &other, op->giou_eps) / 1e-6;
                scale[(s * op->G + g) * op->N + k % op->N] =
                    op->w_class * (q * q * fmin(softplus(-x), 30) + p * p * fmin(softplus(x), 30)) +
                    op->w_l1 * l1_scale(y, gt + g * 4) + op->w_giou * giou;
            }
        }
    }
}

static void add_bad(test_case *c, size_t offset)
{
    array *bad = add(c, "bad", offset, BYTES, UPDATED, sizeof(int64_t), 1);
    *(int64_t *)bad->values = INT64_MAX;
}

/* Breaks an input now and then, so that costs are not finite. */
static void spoil(array *x, random_state *r, int64_t i)
{
    if (i % 9 == 4 && x->count > 0) {
        ((float *)x->values)[random_below(r, x->count)] = NAN;
    }
}

static void gt_cost_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_gt_cost *op = (void *)c->args;
    int32_t offsets[IMAGES + 1];
    *op = (dd_op_gt_cost){
        .S = (int32_t)some(r, 3), .B = (int32_t)some(r, IMAGES), .N = (int32_t)some(r, 70), .C = (int32_t)some(r, 90)};
    op->G = some_objects(r, op->B, offsets, i % 12 == 11);
    op->l1_xyxy = (int32_t)(i % 2);
    op->giou_pixels = (int32_t)(i / 2 % 2);
    op->w_class = 2;
    op->w_l1 = 5;
    op->w_giou = 2;
    op->class_eps = i % 3 ? 1e-12 : 1e-8;
    op->giou_eps = op->giou_pixels ? 1e-6 : 1e-12;
    array *logits = REAL_IN(dd_op_gt_cost, logits, (int64_t)op->S * op->B * op->N * op->C);
    array *boxes = REAL_IN(dd_op_gt_cost, boxes, (int64_t)op->S * op->B * op->N * 4);
    array *gt = REAL_IN(dd_op_gt_cost, gt_boxes, op->G * 4);
    array *labels = BYTES_IN(dd_op_gt_cost, gt_labels, sizeof(int32_t), op->G);
    array *ends = BYTES_IN(dd_op_gt_cost, gt_offsets, sizeof(int32_t), op->B + 1);
    fill_values(logits, r, profile_of(i / 4));
    fill_boxes(boxes, r, profile_of(i));
    fill_boxes(gt, r, profile_of(i));
    for (int32_t g = 0; g < op->G; g++) {
        ((int32_t *)labels->values)[g] = (int32_t)random_below(r, op->C);
    }
    memcpy(ends->values, offsets, (size_t)(op->B + 1) * sizeof *offsets);
    if (op->giou_pixels) {
        fill_sizes(REAL_IN(dd_op_gt_cost, sizes, op->B * 2), r);
    }
    array *cost = allow(REAL_OUT(dd_op_gt_cost, cost, (int64_t)op->S * op->G * op->N), 1e-6, 1e-6);
    cost->scale = take((size_t)cost->count * sizeof(double));
    gt_cost_scales(op, c->array, labels->values, offsets, cost->scale);
    spoil(logits, r, i);
    spoil(boxes, r, i + 2);
    add_bad(c, offsetof(dd_op_gt_cost, bad));
    snprintf(c->text, sizeof c->text, "S %d B %d N %d C %d G %d", op->S, op->B, op->N, op->C, op->G);
}

static void kd_targets_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_kd_targets *op = (void *)c->args;
    op->L = (int32_t)some(r, 3);
    op->B = (int32_t)some(r, IMAGES);
    op->N = i % 15 == 14 ? 0 : (int32_t)some(r, 120);
    op->C = (int32_t)some(r, 90);
    const int64_t queries = (int64_t)op->L * op->B * op->N;
    fill_values(REAL_IN(dd_op_kd_targets, logits, queries * op->C), r, profile_of(i));
    fill_boxes(REAL_IN(dd_op_kd_targets, boxes, queries * 4), r, profile_of(i));
    fill_sizes(REAL_IN(dd_op_kd_targets, sizes, op->B * 2), r);
    allow(REAL_OUT(dd_op_kd_targets, prob, queries * op->C), 4 * EPS, 0);
    allow(REAL_OUT(dd_op_kd_targets, xyxy, queries * 4), 2 * EPS, 0);
    /* 1e-15: the differences of clipped corners, in double, near 0 */
    allow(REAL_OUT(dd_op_kd_targets, cxcywh, queries * 4), 2 * EPS, 0)->floor = 1e-15;
    snprintf(c->text, sizeof c->text, "L %d B %d N %d C %d", op->L, op->B, op->N, op->C);
}

/* Pairs of stages; student stages may come several times, or never. */
static void some_pairs(random_state *r, int32_t n, int64_t L_S, int64_t L_T, int32_t *pairs)
{
    for (int32_t k = 0; k < n; k++) {
        pairs[2 * k] = (int32_t)random_below(r, L_S);
        pairs[2 * k + 1] = (int32_t)random_below(r, L_T);
    }
}

/* Teacher targets as kd_targets makes them. */
static void fill_targets(array *prob, array *xyxy, array *cxcywh, const float *sizes, int32_t B, int32_t N, random_state *r,
                         int profile)
{
    for (int64_t k = 0; k < prob->count; k++) {
        ((float *)prob->values)[k] = (float)sigmoid(value_of(r, profile == HUGE_VALUES ? STEEP : profile));
    }
    fill_boxes(cxcywh, r, profile);
    for (int64_t k = 0; k < cxcywh->count / 4; k++) {
        const float *y = (const float *)cxcywh->values + k * 4, *size = sizes + k / N % B * 2;
        const corners box = corners_of(y, size);
        for (int a = 0; a < 2; a++) {
            ((float *)xyxy->values)[k * 4 + a] = (float)box.low[a];
            ((float *)xyxy->values)[k * 4 + 2 + a] = (float)box.high[a];
        }
    }
}

static void kd_cost_scales(const dd_op_kd_cost *op, const array *in, const int32_t *pairs, double *scale)
{
    const float *x = in[0].values, *boxes = in[1].values, *prob = in[2].values, *xyxy = in[3].values, *cxcywh = in[4].values;
    const float *sizes = in[5].values;
    for (int64_t k = 0; k < (int64_t)op->n_pairs * op->B * op->NS * op->NT; k++) {
        const int64_t j = k % op->NT, i = k / op->NT % op->NS, b = k / op->NT / op->NS % op->B, n = k / op->NT / op->NS / op->B;
        const int64_t s = (pairs[2 * n] * (int64_t)op->B + b) * op->NS + i,
                      t = (pairs[2 * n + 1] * (int64_t)op->B + b) * op->NT + j;
        const corners one = corners_of(boxes + s * 4, sizes + b * 2);
        const float *e = xyxy + t * 4;
        const corners other = {{e[0], e[1]}, {e[2], e[3]}};
        double classes = 0, edge = 0;
        for (int32_t q = 0; q < op->C; q++) {
            classes += softplus(x[s * op->C + q]) + fabs(x[s * op->C + q]) * prob[t * op->C + q];
        }
        for (int a = 0; a < 2; a++) {
            edge = fmax(edge, fmax(fmax(fabs(one.low[a]), fabs(one.high[a])), fmax(fabs(e[a]), fabs(e[2 + a]))));
        }
        const double giou = 2 + 3 * EPS * edge * giou_slope(&one, &other, 1e-6) / 1e-6;
        scale[k] = op->w_class * classes * EPS * (8 + sqrt(op->C)) / 1e-6 + op->w_l1 * l1_scale(boxes + s * 4, cxcywh + t * 4) +
                   op->w_giou * giou;
    }
}

static void kd_cost_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_kd_cost *op = (void *)c->args;
    const int32_t L_S = (int32_t)some(r, 3), L_T = (int32_t)some(r, 3);
    op->n_pairs = (int32_t)some(r, 3);
    op->B = (int32_t)some(r, IMAGES);
    op->NS = i % 15 == 14 ? 0 : (int32_t)some(r, 90);
    op->NT = (int32_t)some(r, 90);
    op->C = (int32_t)some(r, 90);
    op->l1_xyxy = (int32_t)(i % 2);
    op->w_class = i % 5 == 4 ? 0 : 1;
    op->w_l1 = 5;
    op->w_giou = 2;
    array *logits = REAL_IN(dd_op_kd_cost, s_logits, (int64_t)L_S * op->B * op->NS * op->C);
    array *boxes = REAL_IN(dd_op_kd_cost, s_boxes, (int64_t)L_S * op->B * op->NS * 4);
    array *prob = REAL_IN(dd_op_kd_cost, t_prob, (int64_t)L_T * op->B * op->NT * op->C);
    array *xyxy = REAL_IN(dd_op_kd_cost, t_xyxy, (int64_t)L_T * op->B * op->NT * 4);
    array *cxcywh = REAL_IN(dd_op_kd_cost, t_cxcywh, (int64_t)L_T * op->B * op->NT * 4);
    array *sizes = REAL_IN(dd_op_kd_cost, sizes, op->B * 2);
    array *pairs = BYTES_IN(dd_op_kd_cost, pairs, sizeof(int32_t), op->n_pairs * 2);
    fill_values(logits, r, profile_of(i));
    fill_boxes(boxes, r, profile_of(i / 3));
    fill_sizes(sizes, r);
    fill_targets(prob, xyxy, cxcywh, sizes->values, op->B, op->NT, r, profile_of(i));
    some_pairs(r, op->n_pairs, L_S, L_T, pairs->values);
    array *host = BYTES_IN(dd_op_kd_cost, host_pairs, sizeof(int32_t), op->n_pairs * 2);
    memcpy(host->values, pairs->values, (size_t)host->count * sizeof(int32_t));
    array *cost = allow(REAL_OUT(dd_op_kd_cost, cost, (int64_t)op->n_pairs * op->B * op->NS * op->NT), 1e-6, 1e-6);
    cost->scale = take((size_t)cost->count * sizeof(double));
    kd_cost_scales(op, c->array, pairs->values, cost->scale);
    c->costs = true;
    spoil(logits, r, i);
    spoil(boxes, r, i + 2);
    add_bad(c, offsetof(dd_op_kd_cost, bad));
    snprintf(c->text, sizeof c->text, "pairs %d B %d NS %d NT %d C %d", op->n_pairs, op->B, op->NS, op->NT, op->C);
}

/* ---- losses ---- */

/* A random partial matching: rows to targets 0 .. targets-1, each at most once. */
static void some_match(random_state *r, int64_t rows, int32_t targets, int32_t *match)
{
    for (int64_t n = 0; n < rows; n++) {
        match[n] = -1;
    }
    for (int32_t t = 0; t < targets; t++) {
        const int64_t n = random_below(r, rows);
        if (rows > 0 && match[n] < 0 && random_below(r, 8)) {
            match[n] = t;
        }
    }
}

static void add_image_use(test_case *c, size_t offset, int32_t images, random_state *r)
{
    array *use = add(c, "image_use", offset, BYTES, INPUT, 1, images);
    for (int32_t b = 0; b < images; b++) {
        ((uint8_t *)use->values)[b] = random_below(r, 3) != 0;
    }
}

/* A gradient: written, or added to numbers up to `scale`. */
void add_gradient(test_case *c, const char *name, size_t offset, int64_t count, bool accumulate, random_state *r, double scale,
                  double by_scale)
{
    array *g = allow(add(c, name, offset, REALS, accumulate ? UPDATED : OUTPUT, 0, count), 1e-6, by_scale);
    g->scale = take((size_t)count * sizeof(double));
    for (int64_t k = 0; k < count; k++) {
        if (accumulate) {
            ((float *)g->values)[k] = (float)uniform(r, -scale, scale);
        }
        g->scale[k] = scale;
    }
}

static void det_loss_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_det_loss *op = (void *)c->args;
    int32_t offsets[IMAGES + 1];
    op->S = (int32_t)some(r, 3);
    op->B = (int32_t)some(r, IMAGES);
    op->N = i % 15 == 14 ? 0 : (int32_t)some(r, 150);
    op->C = (int32_t)some(r, 90);
    op->G = some_objects(r, op->B, offsets, i % 12 == 11);
    op->l1_xyxy = (int32_t)(i % 2);
    op->giou_pixels = (int32_t)(i / 2 % 2);
    op->accumulate = (int32_t)(i / 4 % 2);
    op->giou_eps = op->giou_pixels ? 1e-6 : 1e-12;
    op->scale_class = 0.3;
    op->scale_l1 = 0.7;
    op->scale_giou = 0.4;
    op->grad_scale = 1.5;
    const int64_t queries = (int64_t)op->S * op->B * op->N;
    fill_values(REAL_IN(dd_op_det_loss, logits, queries * op->C), r, profile_of(i));
    fill_boxes(REAL_IN(dd_op_det_loss, boxes, queries * 4), r, profile_of(i / 2));
    fill_boxes(REAL_IN(dd_op_det_loss, gt_boxes, op->G * 4), r, profile_of(i / 2));
    array *match = BYTES_IN(dd_op_det_loss, match, sizeof(int32_t), queries);
    for (int64_t image = 0; image < (int64_t)op->S * op->B; image++) {
        const int64_t b = image % op->B;
        some_match(r, op->N, offsets[b + 1] - offsets[b], (int32_t *)match->values + image * op->N);
    }
    array *labels = BYTES_IN(dd_op_det_loss, gt_labels, sizeof(int32_t), op->G);
    for (int32_t g = 0; g < op->G; g++) {
        ((int32_t *)labels->values)[g] = (int32_t)random_below(r, op->C);
    }
    memcpy(BYTES_IN(dd_op_det_loss, gt_offsets, sizeof(int32_t), op->B + 1)->values, offsets,
           (size_t)(op->B + 1) * sizeof *offsets);
    if (op->giou_pixels) {
        fill_sizes(REAL_IN(dd_op_det_loss, sizes, op->B * 2), r);
    }
    if (i % 3 == 2) {
        add_image_use(c, offsetof(dd_op_det_loss, image_use), op->B, r);
    }
    allow(add(c, "terms", offsetof(dd_op_det_loss, terms), DOUBLES, OUTPUT, 0, (int64_t)op->S * op->B * 3), 1e-6, 0)->floor =
        1e-13;
    if (i % 7 != 6) {
        add_gradient(c, "g_logits", offsetof(dd_op_det_loss, g_logits), queries * op->C, op->accumulate, r, 1, 0);
        /* 1e-9: sums of opposite edge gradients, in double */
        add_gradient(c, "g_boxes", offsetof(dd_op_det_loss, g_boxes), queries * 4, op->accumulate, r, 1, 1e-9);
    }
    snprintf(c->text, sizeof c->text, "S %d B %d N %d C %d G %d", op->S, op->B, op->N, op->C, op->G);
}

static void kd_loss_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_kd_loss *op = (void *)c->args;
    const int32_t L_T = (int32_t)some(r, 3);
    op->L_S = (int32_t)some(r, 3);
    op->n_pairs = (int32_t)some(r, 4);
    op->B = (int32_t)some(r, IMAGES);
    op->NS = i % 15 == 14 ? 0 : (int32_t)some(r, 150);
    op->NT = (int32_t)some(r, 150);
    op->C = (int32_t)some(r, 90);
    op->l1_xyxy = (int32_t)(i % 2);
    op->accumulate = (int32_t)(i / 4 % 2);
    op->scale_class[1] = 0.3;
    for (int kind = 1; kind <= 2; kind++) {
        op->scale_l1[kind] = 0.5 * kind;
        op->scale_giou[kind] = 0.4 / kind;
    }
    op->grad_scale = 1.5;
    const int64_t students = (int64_t)op->L_S * op->B * op->NS, teachers = (int64_t)L_T * op->B * op->NT;
    array *logits = REAL_IN(dd_op_kd_loss, s_logits, students * op->C);
    array *boxes = REAL_IN(dd_op_kd_loss, s_boxes, students * 4);
    array *prob = REAL_IN(dd_op_kd_loss, t_prob, teachers * op->C);
    array *xyxy = REAL_IN(dd_op_kd_loss, t_xyxy, teachers * 4), *cxcywh = REAL_IN(dd_op_kd_loss, t_cxcywh, teachers * 4);
    array *sizes = REAL_IN(dd_op_kd_loss, sizes, op->B * 2);
    array *pairs = BYTES_IN(dd_op_kd_loss, pairs, sizeof(int32_t), op->n_pairs * 2);
    fill_values(logits, r, profile_of(i));
    fill_boxes(boxes, r, profile_of(i / 2));
    fill_sizes(sizes, r);
    fill_targets(prob, xyxy, cxcywh, sizes->values, op->B, op->NT, r, profile_of(i));
    some_pairs(r, op->n_pairs, op->L_S, L_T, pairs->values);
    memcpy(BYTES_IN(dd_op_kd_loss, host_pairs, sizeof(int32_t), op->n_pairs * 2)->values, pairs->values,
           (size_t)op->n_pairs * 2 * sizeof(int32_t));
    array *match = BYTES_IN(dd_op_kd_loss, match, sizeof(int32_t), (int64_t)op->n_pairs * op->B * op->NS);
    for (int64_t image = 0; image < (int64_t)op->n_pairs * op->B; image++) {
        some_match(r, op->NS, op->NT, (int32_t *)match->values + image * op->NS);
    }
    if (i % 2) {
        array *kind = BYTES_IN(dd_op_kd_loss, kind, sizeof(int32_t), match->count);
        for (int64_t k = 0; k < match->count; k++) {
            ((int32_t *)kind->values)[k] = ((int32_t *)match->values)[k] < 0 ? 0 : 1 + (int32_t)random_below(r, 2);
        }
    }
    if (i % 3 == 2) {
        add_image_use(c, offsetof(dd_op_kd_loss, image_use), op->B, r);
    }
    allow(add(c, "terms", offsetof(dd_op_kd_loss, terms), DOUBLES, OUTPUT, 0, (int64_t)op->n_pairs * op->B * 5), 1e-6, 0)
        ->floor = 1e-13;
    if (i % 7 != 6) {
        /* sigmoid(x) - t of each pair: 1e-6 of its parts, which are at most 1 */
        const double factor = op->grad_scale * op->scale_class[1] * 2;
        add_gradient(c, "g_logits", offsetof(dd_op_kd_loss, g_logits), students * op->C, op->accumulate, r, factor, 1e-6);
        add_gradient(c, "g_boxes", offsetof(dd_op_kd_loss, g_boxes), students * 4, op->accumulate, r, op->grad_scale * 8,
                     4 * EPS);
    }
    snprintf(c->text, sizeof c->text, "pairs %d L_S %d B %d NS %d NT %d C %d", op->n_pairs, op->L_S, op->B, op->NS, op->NT,
             op->C);
}

static void quality_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_quality *op = (void *)c->args;
    int32_t offsets[IMAGES + 1];
    static const double exponent[] = {1, 0.5, 0, 2};
    op->L = (int32_t)some(r, 3);
    op->B = (int32_t)some(r, IMAGES);
    op->N = (int32_t)some(r, 90);
    op->C = (int32_t)some(r, 90);
    op->G = some_objects(r, op->B, offsets, i % 12 == 11);
    op->all_queries = (int32_t)(i % 3 == 0);
    op->matched = (int32_t)(i % 4 == 1);
    op->K = op->all_queries ? op->N : (int32_t)(random_below(r, 3) ? some(r, (int64_t)op->N * op->C) : (int64_t)op->N * op->C);
    op->K = op->K > 300 && !op->all_queries ? 300 : op->K;
    op->gamma_class = exponent[i / 2 % 4];
    op->gamma_iou = exponent[i / 8 % 4];
    const int64_t queries = (int64_t)op->L * op->B * op->N;
    fill_values(REAL_IN(dd_op_quality, logits, queries * op->C), r, profile_of(i));
    fill_boxes(REAL_IN(dd_op_quality, boxes, queries * 4), r, profile_of(i / 2));
    if (op->matched) {
        array *match = BYTES_IN(dd_op_quality, match, sizeof(int32_t), queries);
        for (int64_t image = 0; image < (int64_t)op->L * op->B; image++) {
            const int64_t b = image % op->B;
            some_match(r, op->N, offsets[b + 1] - offsets[b], (int32_t *)match->values + image * op->N);
        }
    }
    fill_boxes(REAL_IN(dd_op_quality, gt_boxes, op->G * 4), r, profile_of(i / 2));
    memcpy(BYTES_IN(dd_op_quality, gt_offsets, sizeof(int32_t), op->B + 1)->values, offsets,
           (size_t)(op->B + 1) * sizeof *offsets);
    fill_sizes(REAL_IN(dd_op_quality, sizes, op->B * 2), r);
    add(c, "index", offsetof(dd_op_quality, index), BYTES, OUTPUT, sizeof(int32_t), (int64_t)op->L * op->B * op->K);
    allow(REAL_OUT(dd_op_quality, quality, (int64_t)op->L * op->B * op->K), 1e-6, 0);
    snprintf(c->text, sizeof c->text, "L %d B %d N %d C %d G %d K %d", op->L, op->B, op->N, op->C, op->G, op->K);
}

/* ---- features ---- */

float absolute(const array *a, int64_t k)
{
    return a && a->values ? fabsf(((const float *)a->values)[k]) : 0;
}

static double length_of(const float *x, int64_t count, int64_t stride)
{
    double squares = 0;
    for (int64_t k = 0; k < count; k++) {
        squares += (double)x[k * stride] * x[k * stride];
    }
    return fmax(sqrt(squares), 1e-12);
}

/* <row, F(:,p)>, and |row| |F| divided by what normalises. */
static double similarity_of(const double *row, const float *f, int64_t d, int64_t P, bool raw, double *bound)
{
    double dot = 0, squares = 0;
    for (int64_t c = 0; c < d; c++) {
        dot += row[c] * f[c * P];
        squares += row[c] * row[c];
    }
    const double length = length_of(f, d, P);
    *bound = sqrt(squares) * (raw ? length : 1);
    return raw ? dot : dot / length;
}

/* row += factor times the query row of entry n, normalised unless raw. */
static void add_entry(const dd_op_feature_weights *op, const array *in, int64_t image, int64_t n, double factor, double *row)
{
    const int64_t query = ((const int32_t *)in[1].values)[image * op->K + n] / op->index_divisor;
    const float *x = (const float *)in[0].values + (image * op->N + query) * op->d;
    const double length = op->raw ? 1 : length_of(x, op->d, 1);
    for (int64_t c = 0; c < op->d; c++) {
        row[c] += factor * x[c] / length;
    }
}

/* A dot product is off by e = eps (4 + sqrt d) |row| |F|, so q v^2 by q (2 |v| e + e^2) .. */
static void per_query_scales(const dd_op_feature_weights *op, const array *in, int64_t image, const float *features,
                             double *weight)
{
    const double rounding = EPS * (4 + sqrt(op->d));
    double *row = take((size_t)op->d * sizeof *row);
    for (int64_t n = 0; n < op->K; n++) {
        memset(row, 0, (size_t)op->d * sizeof *row);
        add_entry(op, in, image, n, 1, row);
        for (int64_t p = 0; p < op->P; p++) {
            double bound;
            const double v = fabs(similarity_of(row, features + p, op->d, op->P, op->raw, &bound)), e = rounding * bound;
            weight[p] += (double)absolute(&in[2], image * op->K + n) * (2 * v * e + e * e) / op->K;
        }
    }
    free(row);
}

/* .. and psi^2 = (s / highest)^2, psi <= 1, by four times e / highest. */
static void sum_max_scales(const dd_op_feature_weights *op, const array *in, int64_t image, const float *features,
                           double *weight)
{
    double *row = take((size_t)op->d * sizeof *row), highest = 0.01, largest = 0, bound;
    for (int64_t n = 0; n < op->K; n++) {
        add_entry(op, in, image, n, (double)absolute(&in[2], image * op->K + n), row);
    }
    for (int64_t p = 0; p < op->P; p++) {
        highest = fmax(highest, similarity_of(row, features + p, op->d, op->P, false, &bound));
        largest = fmax(largest, bound);
    }
    for (int64_t p = 0; p < op->P; p++) {
        weight[p] = 4 * EPS * (4 + sqrt(op->d)) * largest / highest;
    }
    free(row);
}

static void weights_scales(const dd_op_feature_weights *op, const array *in, double *weight, double *sum)
{
    for (int64_t image = 0; image < (int64_t)op->L * op->B; image++) {
        const int64_t b = image % op->B;
        const float *features = (const float *)in[3].values + b * op->d * op->P;
        (op->per_query ? per_query_scales : sum_max_scales)(op, in, image, features, weight + image * op->P);
        for (int64_t p = 0; p < op->P; p++) {
            sum[b * op->P + p] += weight[image * op->P + p];
        }
    }
}

static void feature_weights_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_feature_weights *op = (void *)c->args;
    op->L = (int32_t)some(r, 10);
    op->B = (int32_t)some(r, IMAGES);
    op->N = (int32_t)some(r, 30);
    op->K = i % 16 == 15 ? 0 : (int32_t)some(r, 40);
    op->d = (int32_t)some(r, 200);
    op->P = some(r, i % 5 == 0 ? 1500 : 90);
    op->per_query = (int32_t)(i % 3 == 1);
    op->raw = (int32_t)(i % 4 == 3 && op->per_query);
    op->index_divisor = (int32_t)some(r, 5);
    array *queries = REAL_IN(dd_op_feature_weights, queries, (int64_t)op->L * op->B * op->N * op->d);
    array *index = BYTES_IN(dd_op_feature_weights, index, sizeof(int32_t), (int64_t)op->L * op->B * op->K);
    array *quality = REAL_IN(dd_op_feature_weights, quality, index->count);
    array *features = REAL_IN(dd_op_feature_weights, features, (int64_t)op->B * op->d * op->P);
    fill_uniform(queries, r, -1, 2);
    fill_uniform(quality, r, 0, 1);
    fill_uniform(features, r, -1, 2);
    for (int64_t k = 0; k < index->count; k++) {
        ((int32_t *)index->values)[k] = (int32_t)random_below(r, (int64_t)op->N * op->index_divisor);
        ((float *)quality->values)[k] *= (float)(random_below(r, 3) != 0);
    }
    const float factor[] = {1, 1e30f, 1e-30f, 0, 1e-41f};
    for (int64_t p = 0; p < features->count && !op->raw && i % 2; p++) { /* extreme positions: float sums of squares fail */
        ((float *)features->values)[p] *= p % op->P % 3 ? 1 : factor[i / 2 % 5];
    }
    if (i % 3) {
        array *padding = BYTES_IN(dd_op_feature_weights, padding, 1, op->B * op->P);
        for (int64_t p = 0; p < padding->count; p++) {
            ((uint8_t *)padding->values)[p] = random_below(r, 4) == 0;
        }
    }
    if (i % 4 == 2) {
        add_image_use(c, offsetof(dd_op_feature_weights, image_use), op->B, r);
    }
    array *weight = allow(REAL_OUT(dd_op_feature_weights, weight, (int64_t)op->L * op->B * op->P), 1e-6, 1);
    array *sum = allow(REAL_OUT(dd_op_feature_weights, sum, op->B * op->P), 2e-6, 1);
    weight->scale = take((size_t)weight->count * sizeof(double));
    sum->scale = take((size_t)sum->count * sizeof(double));
    weights_scales(op, c->array, weight->scale, sum->scale);
    snprintf(c->text, sizeof c->text, "L %d B %d N %d K %d d %d P %lld per_query %d raw %d", op->L, op->B, op->N, op->K, op->d,
             (long long)op->P, op->per_query, op->raw);
}

static void feature_loss_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_feature_loss *op = (void *)c->args;
    op->L = (int32_t)some(r, 7);
    op->B = (int32_t)some(r, IMAGES);
    op->d = i % 14 == 13 ? 700 : (int32_t)some(r, 200);
    op->P = i % 14 == 13 ? 1601 : some(r, i % 5 == 0 ? 1500 : 90);
    op->B = i % 14 == 13 ? 1 : op->B;
    op->grad_scale = 1.5;
    const int64_t count = (int64_t)op->B * op->d * op->P;
    array *teacher = REAL_IN(dd_op_feature_loss, teacher, count), *student = REAL_IN(dd_op_feature_loss, student, count);
    fill_uniform(teacher, r, -2, 2);
    fill_uniform(student, r, -2, 2);
    for (int64_t k = 0; k < count && i % 4 == 3; k += 5) {
        ((float *)teacher->values)[k] *= 1e30f;
    }
    fill_uniform(REAL_IN(dd_op_feature_loss, weight, (int64_t)op->L * op->B * op->P), r, 0, 1);
    fill_uniform(REAL_IN(dd_op_feature_loss, sum, op->B * op->P), r, 0, 6);
    allow(add(c, "terms", offsetof(dd_op_feature_loss, terms), DOUBLES, OUTPUT, 0, (int64_t)op->L * op->B), 1e-6, 0);
    if (i % 6 != 5) {
        allow(REAL_OUT(dd_op_feature_loss, g_student, count), 1e-6, 0);
    }
    snprintf(c->text, sizeof c->text, "L %d B %d d %d P %lld", op->L, op->B, op->d, (long long)op->P);
}

/* ---- products and rows ---- */

static void matmul_scales(const dd_op_matmul *op, const array *a, const array *b, const array *c, const array *bias,
                          double *scale)
{
    for (int64_t i = 0; i < op->batch; i++) {
        for (int64_t m = 0; m < op->M; m++) {
            for (int64_t n = 0; n < op->N; n++) {
                const int64_t at = i * op->stride_c + m * op->ldc + n;
                double sum = 0;
                for (int64_t k = 0; k < op->K; k++) {
                    sum += (double)absolute(a, i * op->stride_a + (op->trans_a ? k * op->lda + m : m * op->lda + k)) *
                           absolute(b, i * op->stride_b + (op->trans_b ? n * op->ldb + k : k * op->ldb + n));
                }
                scale[at] = fabs(op->alpha) * sum * (4 + sqrt(op->K)) + 4 * fabs(op->beta) * absolute(c, at) +
                            4 * (double)absolute(bias, op->bias_rows ? m : n);
            }
        }
    }
}

static void matmul_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_matmul *op = (void *)c->args;
    const bool large = i % 12 == 7;
    op->batch = (int32_t)(1 + random_below(r, 3));
    op->M = large ? 150 + (int32_t)random_below(r, 300) : (int32_t)some(r, 90);
    op->N = large ? 100 + (int32_t)random_below(r, 300) : (int32_t)some(r, 90);
    op->K = i % 15 == 14 ? 0 : (int32_t)some(r, i % 6 == 5 ? 1300 : 200);
    op->M = i % 25 == 24 ? 0 : op->M;
    op->trans_a = (int32_t)(i % 2);
    op->trans_b = (int32_t)(i / 2 % 2);
    op->bias_rows = (int32_t)(i / 4 % 2);
    op->alpha = i % 3 ? 1 : -0.7;
    op->beta = i % 5 ? 0 : 0.6;
    const int32_t gap = i % 7 == 3 ? 3 : 0;
    op->lda = (op->trans_a ? op->M : op->K) + gap + 1;
    op->ldb = (op->trans_b ? op->K : op->N) + gap + 1;
    op->ldc = op->N + gap;
    op->stride_a = (int64_t)op->lda * (op->trans_a ? op->K : op->M) * (i % 4 != 2);
    op->stride_b = (int64_t)op->ldb * (op->trans_b ? op->N : op->K) * (i % 4 != 1);
    op->stride_c = (int64_t)op->ldc * op->M;
    array *a = REAL_IN(dd_op_matmul, a, (int64_t)op->lda * (op->trans_a ? op->K : op->M) * op->batch);
    array *b = REAL_IN(dd_op_matmul, b, (int64_t)op->ldb * (op->trans_b ? op->N : op->K) * op->batch);
    array *out = add(c, "c", offsetof(dd_op_matmul, c), REALS, UPDATED, 0, op->stride_c * op->batch);
    fill_values(a, r, i % 8 == 6 ? DENORMAL : ORDINARY);
    fill_values(b, r, ORDINARY);
    fill_values(out, r, ORDINARY);
    array *bias = NULL;
    if (i % 3) {
        bias = REAL_IN(dd_op_matmul, bias, op->bias_rows ? op->M : op->N);
        fill_values(bias, r, ORDINARY);
    }
    out->scale = take((size_t)out->count * sizeof(double));
    allow(out, 2 * EPS, EPS);
    matmul_scales(op, a, b, out, bias, out->scale);
    snprintf(c->text, sizeof c->text, "batch %d M %d N %d K %d trans %d %d beta %g bias %d", op->batch, op->M, op->N, op->K,
             op->trans_a, op->trans_b, op->beta, bias != NULL);
}

static void row_sum_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_row_sum *op = (void *)c->args;
    op->batch = (int32_t)some(r, 4);
    op->M = (int32_t)some(r, 70);
    op->N = i % 15 == 14 ? 0 : some(r, 500);
    op->by_columns = (int32_t)(i % 2);
    const int64_t outputs = op->by_columns ? op->N : op->M, count = (int64_t)op->batch * op->M * op->N;
    array *x = REAL_IN(dd_op_row_sum, x, count);
    fill_values(x, r, i % 3 ? ORDINARY : DENORMAL);
    array *y = allow(REAL_OUT(dd_op_row_sum, y, outputs), 2 * EPS, 1e-9);
    y->scale = take((size_t)outputs * sizeof(double));
    for (int64_t k = 0; k < count; k++) {
        y->scale[op->by_columns ? k % op->N : k / op->N % op->M] += absolute(x, k);
    }
    snprintf(c->text, sizeof c->text, "batch %d M %d N %lld by_columns %d", op->batch, op->M, (long long)op->N, op->by_columns);
}

static void take_rows_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_take_rows *op = (void *)c->args;
    c->exact = true;
    const int64_t blocks = i % 15 == 14 ? 0 : some(r, 4);
    op->inverse = (int32_t)(i % 2);
    op->d = (int32_t)some(r, 70);
    op->src_rows_per_block = some(r, 60);
    op->rows_per_block = op->inverse ? op->src_rows_per_block + random_below(r, 20) : some(r, 60);
    const int64_t listed = op->inverse ? op->src_rows_per_block : op->rows_per_block;
    const int64_t others = op->inverse ? op->rows_per_block : op->src_rows_per_block;
    op->rows = blocks * listed;
    array *src = REAL_IN(dd_op_take_rows, src, blocks * op->src_rows_per_block * op->d);
    fill_values(src, r, profile_of(i));
    if (i % 5 || listed > others) {
        array *index = BYTES_IN(dd_op_take_rows, index, sizeof(int32_t), op->rows);
        for (int64_t b = 0; b < blocks; b++) {
            int32_t *at = (int32_t *)index->values + b * listed;
            some_match(r, listed, (int32_t)others, at);
        }
    }
    REAL_OUT(dd_op_take_rows, dst, blocks * op->rows_per_block * op->d);
    snprintf(c->text, sizeof c->text, "rows %lld of %lld, %lld d %d inverse %d", (long long)op->rows,
             (long long)op->rows_per_block, (long long)op->src_rows_per_block, op->d, op->inverse);
}

static void batchnorm_inputs(test_case *c, random_state *r, int64_t i, dd_op_batchnorm_relu *op)
{
    op->rows = some(r, 70);
    op->d = (int32_t)some(r, 90);
    fill_uniform(REAL_IN(dd_op_batchnorm_relu, x, op->rows * op->d), r, -1, i % 3 ? 3 : 30);
    fill_uniform(REAL_IN(dd_op_batchnorm_relu, gamma, op->d), r, 0.5, 2);
    snprintf(c->text, sizeof c->text, "rows %lld d %d", (long long)op->rows, op->d);
}

/* Softmax, layer norm: 16 eps (1 + log2 K). */
static double norm_bound(int64_t K)
{
    return 16 * EPS * (1 + log2((double)(K > 1 ? K : 1)));
}

/* A floor for what double leaves of differences that vanish. */
static const double vanished = 1e-12;

static void batchnorm_relu_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_batchnorm_relu *op = (void *)c->args;
    batchnorm_inputs(c, r, i, op);
    fill_uniform(REAL_IN(dd_op_batchnorm_relu, beta, op->d), r, -1, 1);
    allow(REAL_OUT(dd_op_batchnorm_relu, y, op->rows * op->d), norm_bound(op->rows), 0)->floor = vanished;
    allow(REAL_OUT(dd_op_batchnorm_relu, mean, op->d), norm_bound(op->rows), 0)->floor = vanished;
    allow(REAL_OUT(dd_op_batchnorm_relu, rstd, op->d), norm_bound(op->rows), 0);
}

static void batchnorm_relu_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_batchnorm_relu *op = (void *)c->args;
    batchnorm_inputs(c, r, i, op);
    fill_uniform(REAL_IN(dd_op_batchnorm_relu, y, op->rows * op->d), r, -1, 1);
    fill_uniform(REAL_IN(dd_op_batchnorm_relu, mean, op->d), r, -1, 1);
    fill_uniform(REAL_IN(dd_op_batchnorm_relu, rstd, op->d), r, 0.1, 2);
    fill_uniform(REAL_IN(dd_op_batchnorm_relu, g_y, op->rows * op->d), r, -1, 1);
    allow(REAL_OUT(dd_op_batchnorm_relu, g_x, op->rows * op->d), norm_bound(op->rows), 0)->floor = 1e-10;
    allow(REAL_OUT(dd_op_batchnorm_relu, g_gamma, op->d), norm_bound(op->rows), 0)->floor = 1e-10;
    allow(REAL_OUT(dd_op_batchnorm_relu, g_beta, op->d), norm_bound(op->rows), 0)->floor = vanished;
}

static void l2norm_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_l2norm *op = (void *)c->args;
    op->rows = i % 15 == 14 ? 0 : some(r, 90);
    op->d = (int32_t)some(r, 300);
    fill_values(REAL_IN(dd_op_l2norm, x, op->rows * op->d), r, profile_of(i));
    allow(REAL_OUT(dd_op_l2norm, y, op->rows * op->d), norm_bound(op->d), 0);
    allow(REAL_OUT(dd_op_l2norm, length, op->rows), norm_bound(op->d), 0);
    snprintf(c->text, sizeof c->text, "rows %lld d %d", (long long)op->rows, op->d);
}

static void l2norm_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_l2norm *op = (void *)c->args;
    op->rows = i % 15 == 14 ? 0 : some(r, 90);
    op->d = (int32_t)some(r, 300);
    fill_uniform(REAL_IN(dd_op_l2norm, y, op->rows * op->d), r, -0.2, 0.2);
    array *length = REAL_IN(dd_op_l2norm, length, op->rows);
    fill_uniform(length, r, 0.1, 3);
    fill_uniform(REAL_IN(dd_op_l2norm, g_y, op->rows * op->d), r, -1, 1);
    for (int64_t k = 0; k < op->rows; k += 4) {
        ((float *)length->values)[k] = i % 2 ? 0 : 1e-20f;
    }
    allow(REAL_OUT(dd_op_l2norm, g_x, op->rows * op->d), norm_bound(op->d), 0)->floor = 1e-10;
    snprintf(c->text, sizeof c->text, "rows %lld d %d", (long long)op->rows, op->d);
}

static void cross_entropy_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_cross_entropy *op = (void *)c->args;
    static const int profile[] = {ORDINARY, STEEP, TIES, DENORMAL};
    op->n = i % 15 == 14 ? 0 : some(r, 150);
    op->scale = 0.2;
    op->grad_scale = 1.5;
    array *x = REAL_IN(dd_op_cross_entropy, logits, op->n * op->n);
    fill_values(x, r, profile[i % 4]);
    /* log of a sum near 1 keeps eps of the sum */
    allow(add(c, "loss", offsetof(dd_op_cross_entropy, loss), DOUBLES, OUTPUT, 0, 1), 1e-6, 0)->floor = EPS;
    if (i % 6 != 5) {
        array *g = allow(REAL_OUT(dd_op_cross_entropy, g_logits, x->count), norm_bound(op->n), norm_bound(op->n));
        g->scale = take((size_t)x->count * sizeof(double));
        for (int64_t k = 0; k < op->n; k++) {
            g->scale[k * op->n + k] = op->grad_scale * op->scale / (double)op->n;
        }
    }
    snprintf(c->text, sizeof c->text, "n %lld", (long long)op->n);
}

/* Coordinates are exact in double; their effect on what is read is eps of the local sum. */
static void resize_case_of(test_case *c, random_state *r, int64_t i, bool gradient)
{
    dd_op_resize *op = (void *)c->args;
    op->maps = i % 15 == 14 ? 0 : some(r, 12);
    op->src_h = (int32_t)some(r, 30);
    op->src_w = (int32_t)some(r, 30);
    op->dst_h = (int32_t)some(r, 30);
    op->dst_w = (int32_t)some(r, 30);
    const int64_t src = op->maps * op->src_h * op->src_w, dst = op->maps * op->dst_h * op->dst_w;
    array *in = gradient ? REAL_IN(dd_op_resize, dst, dst) : REAL_IN(dd_op_resize, src, src);
    fill_values(in, r, i % 3 ? ORDINARY : DENORMAL);
    array *out = gradient ? REAL_OUT(dd_op_resize, src, src) : REAL_OUT(dd_op_resize, dst, dst);
    /* local sums: at most 8 for each number read, and as many as go to one place */
    const double terms = gradient ? 8.0 * (2 + (double)op->dst_h / op->src_h) * (2 + (double)op->dst_w / op->src_w) : 8;
    allow(out, gradient ? 64 * EPS : 16 * EPS, gradient ? EPS : 16 * EPS);
    out->scale = take((size_t)out->count * sizeof(double));
    for (int64_t k = 0; k < out->count; k++) {
        out->scale[k] = terms;
    }
    snprintf(c->text, sizeof c->text, "maps %lld src %d x %d dst %d x %d", (long long)op->maps, op->src_h, op->src_w, op->dst_h,
             op->dst_w);
}

static void resize_case(test_case *c, random_state *r, int64_t i)
{
    resize_case_of(c, r, i, false);
}

static void resize_grad_case(test_case *c, random_state *r, int64_t i)
{
    resize_case_of(c, r, i, true);
}

typedef void (*case_maker)(test_case *c, random_state *r, int64_t i);

static const case_maker maker[DD_OPERATOR_COUNT] = {
    [DD_OPERATOR_check_finite] = check_finite_case,
    [DD_OPERATOR_gather] = gather_case,
    [DD_OPERATOR_scatter] = scatter_case,
    [DD_OPERATOR_gt_cost] = gt_cost_case,
    [DD_OPERATOR_kd_targets] = kd_targets_case,
    [DD_OPERATOR_kd_cost] = kd_cost_case,
    [DD_OPERATOR_det_loss] = det_loss_case,
    [DD_OPERATOR_kd_loss] = kd_loss_case,
    [DD_OPERATOR_quality] = quality_case,
    [DD_OPERATOR_feature_weights] = feature_weights_case,
    [DD_OPERATOR_feature_loss] = feature_loss_case,
    [DD_OPERATOR_matmul] = matmul_case,
    [DD_OPERATOR_row_sum] = row_sum_case,
    [DD_OPERATOR_resize] = resize_case,
    [DD_OPERATOR_resize_grad] = resize_grad_case,
    [DD_OPERATOR_take_rows] = take_rows_case,
    [DD_OPERATOR_batchnorm_relu] = batchnorm_relu_case,
    [DD_OPERATOR_batchnorm_relu_grad] = batchnorm_relu_grad_case,
    [DD_OPERATOR_l2norm] = l2norm_case,
    [DD_OPERATOR_l2norm_grad] = l2norm_grad_case,
    [DD_OPERATOR_cross_entropy] = cross_entropy_case,
    [DD_OPERATOR_attention] = attention_case,
    [DD_OPERATOR_attention_grad] = attention_grad_case,
    [DD_OPERATOR_msda] = msda_case,
    [DD_OPERATOR_msda_grad] = msda_grad_case,
    [DD_OPERATOR_sine_position] = sine_position_case,
    [DD_OPERATOR_coord_embed] = coord_embed_case,
    [DD_OPERATOR_coord_embed_grad] = coord_embed_grad_case,
    [DD_OPERATOR_linear] = linear_case,
    [DD_OPERATOR_linear_grad] = linear_grad_case,
    [DD_OPERATOR_conv] = conv_case,
    [DD_OPERATOR_conv_grad] = conv_grad_case,
    [DD_OPERATOR_layernorm] = layernorm_case,
    [DD_OPERATOR_layernorm_grad] = layernorm_grad_case,
    [DD_OPERATOR_groupnorm] = groupnorm_case,
    [DD_OPERATOR_groupnorm_grad] = groupnorm_grad_case,
    [DD_OPERATOR_dropout] = dropout_case,
    [DD_OPERATOR_add] = add_case,
    [DD_OPERATOR_product] = product_case,
    [DD_OPERATOR_product_grad] = product_grad_case,
    [DD_OPERATOR_copy_rows] = copy_rows_case,
    [DD_OPERATOR_mask_rows] = mask_rows_case,
    [DD_OPERATOR_relu] = relu_case,
    [DD_OPERATOR_relu_grad] = relu_grad_case,
    [DD_OPERATOR_sigmoid] = sigmoid_case,
    [DD_OPERATOR_sigmoid_grad] = sigmoid_grad_case,
    [DD_OPERATOR_maxpool] = maxpool_case,
    [DD_OPERATOR_maxpool_grad] = maxpool_grad_case,
    [DD_OPERATOR_adamw] = adamw_case,
    [DD_OPERATOR_sum_squares] = sum_squares_case,
    [DD_OPERATOR_average] = average_case,
    [DD_OPERATOR_iof_bias] = iof_bias_case,
    [DD_OPERATOR_iof_bias_grad] = iof_bias_grad_case,
    [DD_OPERATOR_sample3d] = sample3d_case,
    [DD_OPERATOR_sample3d_grad] = sample3d_grad_case,
    [DD_OPERATOR_mixing] = mixing_case,
    [DD_OPERATOR_mixing_grad] = mixing_grad_case,
};

bool case_make(int32_t op, int64_t i, test_case *c)
{
    if (op < 0 || op >= DD_OPERATOR_COUNT || !maker[op]) {
        return false;
    }
    random_state r = {(uint64_t)op * 1000003 + (uint64_t)i};
    memset(c, 0, sizeof *c);
    c->op = op;
    maker[op](c, &r, i);
    return true;
}

void case_free(test_case *c)
{
    for (int32_t i = 0; i < c->arrays; i++) {
        free(c->array[i].values);
        free(c->array[i].scale);
    }
}
