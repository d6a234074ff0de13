/* SPDX-License-Identifier: Apache-2.0
 * Multi-scale deformable attention (detectors.md 1.9). */
#include "backend/ref/math.h"
#include "backend/ref/real.h"

/* One sample of one head: where it reads, and with which weight. */
typedef struct sample {
    int64_t corner[4]; /* rows of value, upper left first; -1: outside, or padding */
    double part[4];    /* bilinear weights */
    double lx, ly, weight;
    double off_to_x, off_to_y; /* location in cells by offset: d x / d off */
    double off_x, off_y;
    int32_t level;
} sample;

/* One query of one head. */
typedef struct head {
    const dd_op_msda *op;
    int64_t b, n;
    int32_t m;
} head;

static const real *reference_of(const head *h)
{
    const int64_t image = h->op->ref_images == 1 ? 0 : h->b;
    return (const real *)h->op->ref + (image * h->op->N + h->n) * h->op->R;
}

static double ratio_of(const head *h, int32_t level, int32_t axis)
{
    return h->op->ratio ? (double)((const real *)h->op->ratio)[(h->b * h->op->L + level) * 2 + axis] : 1;
}

static int64_t first_of_level(const dd_op_msda *op, int32_t level)
{
    int64_t first = 0;
    for (int32_t l = 0; l < level; l++) {
        first += (int64_t)op->height[l] * op->width[l];
    }
    return first;
}

static int64_t corner_at(const head *h, int32_t level, double x, double y)
{
    const dd_op_msda *op = h->op;
    if (!(x >= 0 && y >= 0 && x < op->width[level] && y < op->height[level])) {
        return -1;
    }
    const int64_t token = first_of_level(op, level) + (int64_t)y * op->width[level] + (int64_t)x;
    return op->padding && op->padding[h->b * op->S + token] ? -1 : h->b * op->S + token;
}

static sample sample_of(const head *h, int32_t at, double weight)
{
    const dd_op_msda *op = h->op;
    const real *ref = reference_of(h);
    const real *off = (const real *)op->off + (h->b * op->N + h->n) * op->ldo + ((int64_t)h->m * op->L * op->P + at) * 2;
    sample s = {.level = at / op->P, .weight = weight, .off_x = (double)off[0], .off_y = (double)off[1]};
    const double W = op->width[s.level], H = op->height[s.level];
    const double rx = ratio_of(h, s.level, 0), ry = ratio_of(h, s.level, 1);
    s.off_to_x = op->R == 4 ? (double)ref[2] * rx * 0.5 / op->P * W : 1;
    s.off_to_y = op->R == 4 ? (double)ref[3] * ry * 0.5 / op->P * H : 1;
    const double x = (double)ref[0] * rx * W + s.off_x * s.off_to_x - 0.5,
                 y = (double)ref[1] * ry * H + s.off_y * s.off_to_y - 0.5;
    const double x0 = floor(x), y0 = floor(y);
    s.lx = x - x0;
    s.ly = y - y0;
    for (int32_t k = 0; k < 4; k++) {
        s.corner[k] = corner_at(h, s.level, x0 + k % 2, y0 + k / 2);
        s.part[k] = (k % 2 ? s.lx : 1 - s.lx) * (k / 2 ? s.ly : 1 - s.ly);
    }
    return s;
}

static const real *value_at(const head *h, int64_t corner)
{
    return (const real *)h->op->value + (corner * h->op->M + h->m) * h->op->D;
}

/* Softmax over the head's samples. */
static void weights_of(const head *h, double *weight)
{
    const int32_t count = h->op->L * h->op->P;
    const real *logit = (const real *)h->op->logits + (h->b * h->op->N + h->n) * h->op->ldl + (int64_t)h->m * count;
    double highest = -INFINITY, sum = 0;
    for (int32_t i = 0; i < count; i++) {
        highest = (double)logit[i] > highest ? (double)logit[i] : highest;
    }
    for (int32_t i = 0; i < count; i++) {
        weight[i] = ddi_exp((double)logit[i] - highest);
        sum += weight[i];
    }
    for (int32_t i = 0; i < count; i++) {
        weight[i] /= sum;
    }
}

static void forward(const head *h, double *weight)
{
    const dd_op_msda *op = h->op;
    real *y = (real *)op->y + ((h->b * op->N + h->n) * op->M + h->m) * op->D;
    double *sum = weight + op->L * op->P;
    weights_of(h, weight);
    for (int32_t c = 0; c < op->D; c++) {
        sum[c] = 0;
    }
    for (int32_t i = 0; i < op->L * op->P; i++) {
        const sample s = sample_of(h, i, weight[i]);
        for (int32_t k = 0; k < 4; k++) {
            const real *v = s.corner[k] >= 0 ? value_at(h, s.corner[k]) : NULL;
            for (int32_t c = 0; v && c < op->D; c++) {
                sum[c] += s.weight * s.part[k] * (double)v[c];
            }
        }
    }
    for (int32_t c = 0; c < op->D; c++) {
        y[c] = (real)sum[c];
    }
}

dd_status REF(msda)(dd_exec *exec, const void *args)
{
    const dd_op_msda *op = args;
    double *weight = ddi_ref_scratch(exec, (int64_t)op->L * op->P + op->D, sizeof *weight);
    if (!weight) {
        return DD_ERR_NOMEM;
    }
    for (head h = {.op = op}; h.b < op->B; h.b++) {
        for (h.n = 0; h.n < op->N; h.n++) {
            for (h.m = 0; h.m < op->M; h.m++) {
                forward(&h, weight);
            }
        }
    }
    return DD_OK;
}

/* Sums in double; what the gradients become at last. */
typedef struct sums {
    double *value, *ref, *weight, *slope; /* [B,S,M,D], [ref_images,N,R], [L*P], [L*P] */
} sums;

static void put(void *to, int64_t at, double value, int32_t add)
{
    if (to) {
        real *y = (real *)to + at;
        *y = (real)(value + (add ? (double)*y : 0));
    }
}

/* <g, corner> for the four corners. */
static void dots(const head *h, const sample *s, const real *g, double dot[4])
{
    for (int32_t k = 0; k < 4; k++) {
        dot[k] = 0;
        const real *v = s->corner[k] >= 0 ? value_at(h, s->corner[k]) : NULL;
        for (int32_t c = 0; v && c < h->op->D; c++) {
            dot[k] += (double)g[c] * (double)v[c];
        }
    }
}

static void sample_back(const head *h, const sums *all, int32_t i, const real *g)
{
    const dd_op_msda *op = h->op;
    const sample s = sample_of(h, i, all->weight[i]);
    double dot[4];
    dots(h, &s, g, dot);
    all->slope[i] = 0;
    for (int32_t k = 0; k < 4; k++) {
        all->slope[i] += s.part[k] * dot[k];
        for (int32_t c = 0; s.corner[k] >= 0 && c < op->D; c++) {
            all->value[(s.corner[k] * op->M + h->m) * op->D + c] += s.weight * s.part[k] * (double)g[c];
        }
    }
    const double by_x = s.weight * ((1 - s.ly) * (dot[1] - dot[0]) + s.ly * (dot[3] - dot[2]));
    const double by_y = s.weight * ((1 - s.lx) * (dot[2] - dot[0]) + s.lx * (dot[3] - dot[1]));
    const int64_t at = (h->b * op->N + h->n) * op->ldo + ((int64_t)h->m * op->L * op->P + i) * 2;
    put(op->g_off, at, by_x * s.off_to_x, op->add & 2);
    put(op->g_off, at + 1, by_y * s.off_to_y, op->add & 2);
    double *ref = all->ref + ((op->ref_images == 1 ? 0 : h->b) * op->N + h->n) * op->R;
    const double x_scale = ratio_of(h, s.level, 0) * op->width[s.level],
                 y_scale = ratio_of(h, s.level, 1) * op->height[s.level];
    ref[0] += by_x * x_scale;
    ref[1] += by_y * y_scale;
    if (op->R == 4) {
        ref[2] += by_x * x_scale * s.off_x * 0.5 / op->P;
        ref[3] += by_y * y_scale * s.off_y * 0.5 / op->P;
    }
}

static void backward(const head *h, const sums *all)
{
    const dd_op_msda *op = h->op;
    const int32_t count = op->L * op->P;
    const real *g = (const real *)op->g_y + ((h->b * op->N + h->n) * op->M + h->m) * op->D;
    double mean = 0;
    weights_of(h, all->weight);
    for (int32_t i = 0; i < count; i++) {
        sample_back(h, all, i, g);
        mean += all->weight[i] * all->slope[i];
    }
    const int64_t at = (h->b * op->N + h->n) * op->ldl + (int64_t)h->m * count;
    for (int32_t i = 0; i < count; i++) {
        put(op->g_logits, at + i, all->weight[i] * (all->slope[i] - mean), op->add & 4);
    }
}

dd_status REF(msda_grad)(dd_exec *exec, const void *args)
{
    const dd_op_msda *op = args;
    const int64_t values = (int64_t)op->B * op->S * op->M * op->D, refs = (int64_t)op->ref_images * op->N * op->R;
    const int64_t samples = (int64_t)op->L * op->P;
    double *all = ddi_ref_scratch(exec, values + refs + 2 * samples, sizeof *all);
    if (!all) {
        return DD_ERR_NOMEM;
    }
    const sums s = {all, all + values, all + values + refs, all + values + refs + samples};
    for (int64_t i = 0; i < values + refs; i++) {
        all[i] = 0;
    }
    for (head h = {.op = op}; h.b < op->B; h.b++) {
        for (h.n = 0; h.n < op->N; h.n++) {
            for (h.m = 0; h.m < op->M; h.m++) {
                backward(&h, &s);
            }
        }
    }
    for (int64_t i = 0; i < values; i++) {
        put(op->g_value, i, s.value[i], op->add & 1);
    }
    for (int64_t i = 0; i < refs; i++) {
        put(op->g_ref, i, s.ref[i], op->add & 8);
    }
    return DD_OK;
}
