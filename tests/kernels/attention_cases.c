/* SPDX-License-Identifier: Apache-2.0
 * Cases of attention, deformable attention and position codes: masks of every kind, locations outside and on borders, steep
 * logits, nothing real in an image. */
#include "attention_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double largest(const array *a)
{
    double most = 0;
    for (int64_t k = 0; k < a->count; k++) {
        most = fmax(most, (double)absolute(a, k));
    }
    return most;
}

/* Allowed: by_scale times scale, and where the gradient is added, a rounding of what was there for each of `additions`. */
static array *add_scaled(test_case *c, const char *name, size_t offset, int64_t count, bool update, random_state *r,
                         double by_scale, double additions)
{
    array *a = allow(add(c, name, offset, REALS, update ? UPDATED : OUTPUT, 0, count), 2 * EPS, by_scale);
    a->scale = take((size_t)count * sizeof(double));
    if (update) {
        fill_uniform(a, r, -1, 1);
        for (int64_t k = 0; k < count; k++) {
            a->scale[k] = additions * EPS / by_scale * (double)absolute(a, k);
        }
    }
    return a;
}

static void raise(array *a, double scale)
{
    for (int64_t k = 0; k < a->count; k++) {
        a->scale[k] += scale;
    }
}

/* ---- attention ---- */

static void attention_shape(dd_op_attention *op, random_state *r, int64_t i)
{
    op->B = 1 + (int32_t)random_below(r, 2);
    op->M = 1 + (int32_t)random_below(r, 3);
    op->Nq = i % 20 == 19 ? 0 : (int32_t)some(r, 80);
    op->Nk = i % 17 == 16 ? 0 : (int32_t)some(r, i % 6 == 5 ? 600 : 90);
    op->dk = i % 3 ? (int32_t)some(r, 70) : 32;
    op->dv = i % 3 ? (int32_t)some(r, 70) : 32;
    op->ldq = (int64_t)op->M * op->dk + (i % 4 == 1 ? 3 : 0);
    op->ldk = (int64_t)op->M * op->dk + (i % 4 == 2 ? 5 : 0);
    op->ldv = (int64_t)op->M * op->dv + (i % 4 == 3 ? 1 : 0);
    op->ldy = (int64_t)op->M * op->dv + (i % 4 == 1 ? 2 : 0);
    op->scale = 1 / sqrt(op->dk);
    op->split = i % 5 == 3 ? 1 + (int32_t)random_below(r, 20) : 0;
    op->compute = i % 7 == 2 ? DD_COMPUTE_BF16 : DD_COMPUTE_FULL;
    if (i % 4 == 2) {
        op->dropout = (dd_dropout){.rate = i % 8 == 2 ? 0.1 : 0.5, .seed = random_bits(r), .step = 7, .stream = (uint32_t)i};
    }
}

static void fill_flags(array *a, random_state *r, int64_t one_in)
{
    for (int64_t k = 0; k < a->count; k++) {
        ((uint8_t *)a->values)[k] = random_below(r, one_in) == 0 ? (uint8_t)(1 + random_below(r, 255)) : 0;
    }
}

/* Inputs of the forward pass. Every third query or so is blocked as a whole where there is a mask. Returns a bound of logits.
 */
static double attention_inputs(test_case *c, random_state *r, int64_t i, array *values[3])
{
    dd_op_attention *op = (void *)c->args;
    attention_shape(op, r, i);
    const double reach = i % 5 ? i % 5 == 2 ? 6 : 1.5 : 1;
    values[0] = REAL_IN(dd_op_attention, q, (int64_t)op->B * op->Nq * op->ldq);
    values[1] = REAL_IN(dd_op_attention, k, (int64_t)op->B * op->Nk * op->ldk);
    values[2] = REAL_IN(dd_op_attention, v, (int64_t)op->B * op->Nk * op->ldv);
    for (int n = 0; n < 3; n++) {
        fill_uniform(values[n], r, n == 2 ? -1 : -reach, n == 2 ? 1 : reach);
    }
    double bound = op->scale * op->dk * largest(values[0]) * largest(values[1]);
    if (i % 4 == 3) {
        array *bias = REAL_IN(dd_op_attention, bias, (int64_t)op->B * op->M * op->Nq * op->Nk);
        fill_uniform(bias, r, -3, i % 8 == 3 ? 3 : 40);
        bound += largest(bias);
    }
    if (i % 3 == 1) {
        fill_flags(BYTES_IN(dd_op_attention, key_padding, 1, (int64_t)op->B * op->Nk), r, i % 9 == 1 ? 1 : 3);
    }
    if (i % 6 >= 4) {
        array *mask = BYTES_IN(dd_op_attention, mask, 1, (int64_t)op->Nq * op->Nk);
        fill_flags(mask, r, 4);
        for (int64_t q = 0; op->Nk > 0 && q < op->Nq; q += 3) {
            memset((uint8_t *)mask->values + q * op->Nk, 1, (size_t)op->Nk);
        }
    }
    snprintf(c->text, sizeof c->text, "B %d M %d Nq %d Nk %d dk %d dv %d split %d compute %d dropout %g", op->B, op->M, op->Nq,
             op->Nk, op->dk, op->dv, op->split, op->compute, op->dropout.rate);
    return bound;
}

/* exp of a logit is off by the logit's own rounding; sums and the rest add a few units. */
static double attention_bound(double logit)
{
    return (8 + 2 * logit) * EPS;
}

static array *attention_outputs(test_case *c, random_state *r, double logit, const array *v, array **lse)
{
    const dd_op_attention *op = (void *)c->args;
    const double kept = 1 / (1 - op->dropout.rate);
    array *y = add_scaled(c, "y", offsetof(dd_op_attention, y), (int64_t)op->B * op->Nq * op->ldy, false, r,
                          attention_bound(logit), 0);
    *lse = add_scaled(c, "lse", offsetof(dd_op_attention, lse), (int64_t)op->B * op->M * op->Nq, false, r, EPS, 0);
    raise(y, kept * largest(v));
    raise(*lse, 8 + 2 * logit);
    return y;
}

void attention_case(test_case *c, random_state *r, int64_t i)
{
    array *in[3], *lse;
    const double logit = attention_inputs(c, r, i, in);
    attention_outputs(c, r, logit, in[2], &lse);
}

/* Weights of one head from lse, for the scales of gradients (those of blocked keys, too); returns them, [Nq,Nk]. */
static double *attention_weights_of(const test_case *c, const array *in[3], const array *lse, int64_t b, int64_t h)
{
    const dd_op_attention *op = (const void *)c->args;
    double *p = take((size_t)op->Nq * (size_t)op->Nk * sizeof *p);
    const array *bias = NULL;
    for (int32_t a = 0; a < c->arrays; a++) {
        bias = strcmp(c->array[a].name, "bias") == 0 ? &c->array[a] : bias;
    }
    for (int64_t i = 0; i < op->Nq; i++) {
        const int64_t row = (b * op->M + h) * op->Nq + i;
        for (int64_t j = 0; j < op->Nk; j++) {
            const float *q = (const float *)in[0]->values + (b * op->Nq + i) * op->ldq + h * op->dk,
                        *k = (const float *)in[1]->values + (b * op->Nk + j) * op->ldk + h * op->dk;
            double logit = bias ? (double)((const float *)bias->values)[row * op->Nk + j] : 0;
            for (int64_t d = 0; d < op->dk; d++) {
                logit += op->scale * (double)q[d] * (double)k[d];
            }
            p[i * op->Nk + j] = fmin(1, exp(logit - (double)((const float *)lse->values)[row]));
        }
    }
    return p;
}

/* The largest |g_weight - mean| times weights, added up the way the gradients are. out: g_q, g_k, g_v, g_bias. */
static void attention_scales(const test_case *c, const array *in[3], const array *lse, double g, array *out[4])
{
    const dd_op_attention *op = (const void *)c->args;
    const double kept = 1 / (1 - op->dropout.rate), slope = 2 * kept * op->dv * g * largest(in[2]) / 8;
    const double by_q = op->scale * slope * largest(in[1]), by_k = op->scale * slope * largest(in[0]);
    for (int64_t head = 0; head < (int64_t)op->B * op->M; head++) {
        const int64_t b = head / op->M, h = head % op->M;
        double *p = attention_weights_of(c, in, lse, b, h);
        for (int64_t n = 0; n < (int64_t)op->Nq * op->Nk; n++) {
            const int64_t i = n / op->Nk, j = n % op->Nk;
            for (int64_t d = 0; d < op->dk; d++) {
                out[0]->scale[(b * op->Nq + i) * op->ldq + h * op->dk + d] += p[n] * by_q;
                out[1]->scale[(b * op->Nk + j) * op->ldk + h * op->dk + d] += p[n] * by_k;
            }
            for (int64_t d = 0; d < op->dv; d++) {
                out[2]->scale[(b * op->Nk + j) * op->ldv + h * op->dv + d] += p[n] * kept * g;
            }
            if (out[3]) {
                out[3]->scale[head * op->Nq * op->Nk + n] += p[n] * slope;
            }
        }
        free(p);
    }
}

/* y and lse are what the reference computes in float. */
static void attention_results(const test_case *forward, array *y, array *lse)
{
    results out;
    if (run_kernel(reference_kernel(DD_OPERATOR_attention, DD_F32)->run, forward, DD_F32, NULL, 1, ALIGNED, &out)) {
        abort();
    }
    memcpy(y->values, out.array[forward->arrays - 2], (size_t)y->count * sizeof(float));
    memcpy(lse->values, out.array[forward->arrays - 1], (size_t)lse->count * sizeof(float));
    results_free(forward, &out);
}

void attention_grad_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_attention *op = (void *)c->args;
    static const char *const name[] = {"g_q", "g_k", "g_v", "g_bias"};
    static const size_t offset[] = {offsetof(dd_op_attention, g_q), offsetof(dd_op_attention, g_k),
                                    offsetof(dd_op_attention, g_v), offsetof(dd_op_attention, g_bias)};
    test_case forward = {.op = DD_OPERATOR_attention};
    array *in[3], *lse, *out[4] = {NULL};
    random_state same = *r;
    attention_inputs(&forward, &same, i, in);
    attention_outputs(&forward, &same, 0, in[2], &lse);
    const double logit = attention_inputs(c, r, i, in);
    ((dd_op_attention *)(void *)c->args)->add = (int32_t)(i % 16);
    array *y = REAL_IN(dd_op_attention, y, (int64_t)op->B * op->Nq * op->ldy);
    lse = REAL_IN(dd_op_attention, lse, (int64_t)op->B * op->M * op->Nq);
    attention_results(&forward, y, lse);
    case_free(&forward);
    array *g_y = REAL_IN(dd_op_attention, g_y, y->count);
    fill_uniform(g_y, r, -1, 1);
    const int64_t count[] = {in[0]->count, in[1]->count, in[2]->count, (int64_t)op->B * op->M * op->Nq * op->Nk};
    for (int n = 0; n < (i % 4 == 3 ? 4 : 3); n++) {
        out[n] = add_scaled(c, name[n], offset[n], count[n], op->add >> n & 1, r, attention_bound(logit), 2);
    }
    attention_scales(c, (const array **)in, lse, largest(g_y), out);
}

/* ---- deformable attention ---- */

static void msda_shape(dd_op_msda *op, random_state *r, int64_t i)
{
    op->B = 1 + (int32_t)random_below(r, 2);
    op->N = i % 19 == 18 ? 0 : (int32_t)some(r, 40);
    op->M = 1 + (int32_t)random_below(r, 3);
    op->D = i % 3 ? (int32_t)some(r, 70) : 32;
    op->L = i % 3 ? 1 + (int32_t)random_below(r, i % 7 == 6 ? 8 : 3) : 4;
    op->P = i % 3 ? i % 8 == 3 ? 4 : 1 + (int32_t)random_below(r, 5) : 4;
    op->R = i % 2 ? 4 : 2;
    op->ref_images = i % 5 == 1 ? 1 : op->B;
    op->ldo = (int64_t)op->M * op->L * op->P * 2 + (i % 4 == 1 ? 3 : 0);
    op->ldl = (int64_t)op->M * op->L * op->P + (i % 4 == 2 ? 1 : 0);
    op->S = 0;
    for (int32_t l = 0; l < op->L; l++) {
        op->height[l] = (int32_t)some(r, 9);
        op->width[l] = (int32_t)some(r, 12);
        op->S += (int64_t)op->height[l] * op->width[l];
    }
}

/* Offsets in cells (R = 2) or box halves: near, far outside, and (i % 8 == 3, with references to match) on borders of cells,
 * where every number that makes up a location is exact. */
static void msda_offsets(const dd_op_msda *op, array *off, random_state *r, int64_t i, bool forward)
{
    for (int64_t k = 0; k < off->count; k++) {
        float *x = (float *)off->values + k;
        *x = (float)uniform(r, -4, 4);
        if (i % 8 == 3) {
            *x = (float)(random_below(r, 9) - 4) * (op->R == 2 ? 0.5f : 1);
        } else if (i % 5 == 4 && random_below(r, 6) == 0) {
            static const float far[] = {1e3f, -1e3f, 1e9f, -3e9f, 1e30f, -3e38f, INFINITY, -INFINITY};
            *x = far[random_below(r, forward ? 8 : 6)];
        }
    }
}

/* Returns the largest width or height in cells, with the ratio. */
static double msda_inputs(test_case *c, random_state *r, int64_t i, bool forward, array *in[4])
{
    dd_op_msda *op = (void *)c->args;
    msda_shape(op, r, i);
    in[0] = REAL_IN(dd_op_msda, value, (int64_t)op->B * op->S * op->M * op->D);
    in[1] = REAL_IN(dd_op_msda, off, (int64_t)op->B * op->N * op->ldo);
    in[2] = REAL_IN(dd_op_msda, logits, (int64_t)op->B * op->N * op->ldl);
    in[3] = REAL_IN(dd_op_msda, ref, (int64_t)op->ref_images * op->N * op->R);
    fill_uniform(in[0], r, -1, 1);
    msda_offsets(op, in[1], r, i, forward);
    fill_values(in[2], r, i % 5 ? profile_of(i) == HUGE_VALUES ? STEEP : profile_of(i) : ORDINARY);
    fill_uniform(in[3], r, i % 4 == 2 ? -0.3 : 0, i % 4 == 2 ? 1.3 : 1);
    for (int64_t k = 0; i % 8 == 3 && k < in[3]->count; k++) {
        ((float *)in[3]->values)[k] = (float)random_below(r, 9) / 8;
    }
    double cells = 1;
    for (int32_t l = 0; l < op->L; l++) {
        cells = fmax(cells, fmax(op->width[l], op->height[l]));
    }
    if (i % 4 == 0) {
        fill_uniform(REAL_IN(dd_op_msda, ratio, (int64_t)op->B * op->L * 2), r, 0.5, 1);
    }
    if (i % 3 == 1) {
        fill_flags(BYTES_IN(dd_op_msda, padding, 1, (int64_t)op->B * op->S), r, i % 9 == 1 ? 1 : 3);
    }
    snprintf(c->text, sizeof c->text, "B %d N %d M %d D %d L %d P %d R %d first level %d x %d S %lld", op->B, op->N, op->M,
             op->D, op->L, op->P, op->R, op->height[0], op->width[0], (long long)op->S);
    return cells;
}

void msda_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_msda *op = (void *)c->args;
    array *in[4];
    msda_inputs(c, r, i, true, in);
    array *y = add_scaled(c, "y", offsetof(dd_op_msda, y), (int64_t)op->B * op->N * op->M * op->D, false, r,
                          (16 + 2 * op->L * op->P) * EPS, 0);
    raise(y, 1);
}

/* Offsets of 4-d references count by the box: what a unit of each moves in cells. */
static void msda_offset_scales(const dd_op_msda *op, const array *ref, double slope, array *g_off)
{
    for (int64_t k = 0; k < g_off->count; k++) {
        const int64_t query = k / op->ldo, at = k % op->ldo, l = at / 2 / op->P % op->L;
        const int64_t row = op->ref_images == 1 ? query % op->N : query;
        const double box = op->R == 4 ? (double)((const float *)ref->values)[row * 4 + 2 + at % 2] : 1;
        const double cells = op->R == 4 ? (at % 2 ? op->height[l] : op->width[l]) * 0.5 / op->P : 1;
        g_off->scale[k] += slope * fabs(box) * cells;
    }
}

void msda_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_msda *op = (void *)c->args;
    array *in[4];
    const double cells = msda_inputs(c, r, i, false, in);
    const int64_t outputs = (int64_t)op->B * op->N * op->M * op->D, samples = (int64_t)op->L * op->P;
    const double slope = op->D / 2.0;
    op->add = (int32_t)(i % 16);
    fill_uniform(REAL_IN(dd_op_msda, g_y, outputs), r, -1, 1);
    /* A query gives a value no more than its gradient, in as many additions as it has samples. */
    raise(add_scaled(c, "g_value", offsetof(dd_op_msda, g_value), in[0]->count, op->add & 1, r, (16 + 2 * op->N) * EPS,
                     (double)(op->N * samples)),
          1);
    msda_offset_scales(
        op, in[3], slope,
        add_scaled(c, "g_off", offsetof(dd_op_msda, g_off), (int64_t)op->B * op->N * op->ldo, op->add & 2, r, 8 * EPS, 2));
    raise(add_scaled(c, "g_logits", offsetof(dd_op_msda, g_logits), (int64_t)op->B * op->N * op->ldl, op->add & 4, r,
                     (8 + (double)samples / 4) * EPS, 2),
          slope);
    if (i % 3) {
        double box = 1; /* by how much a unit of width moves a location, beside one of the centre */
        for (int64_t k = 0; op->R == 4 && k < in[1]->count; k++) {
            const double x = (double)absolute(in[1], k);
            box = x < 100 ? fmax(box, x * 0.5 / op->P) : box; /* others are outside */
        }
        raise(add_scaled(c, "g_ref", offsetof(dd_op_msda, g_ref), in[3]->count, op->add & 8, r, 8 * EPS, 2),
              slope * cells * box * op->M * (op->ref_images == op->B ? 1 : op->B));
    }
}

/* ---- position codes: float of a wave in double, and one addition */

void sine_position_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_sine_position *op = (void *)c->args;
    op->B = 1 + (int32_t)random_below(r, 3);
    op->H = (int32_t)some(r, 20);
    op->W = (int32_t)some(r, 30);
    op->C = 2 * (int32_t)some(r, 70);
    op->y_stride = (int64_t)op->H * op->W * op->C + (i % 3 == 2 ? 40 : 0);
    op->temperature = i % 2 ? 10000 : 20;
    op->offset = i % 3 ? -0.5 : 0;
    array *valid = BYTES_IN(dd_op_sine_position, valid, sizeof(int32_t), (int64_t)op->B * 2);
    for (int64_t k = 0; k < valid->count; k++) {
        const int32_t most = k % 2 ? op->H : op->W;
        ((int32_t *)valid->values)[k] = i % 4 ? (int32_t)random_below(r, most + 1) : most;
    }
    if (i % 5) {
        fill_uniform(REAL_IN(dd_op_sine_position, embedding, op->C), r, -1, 1);
    }
    raise(add_scaled(c, "y", offsetof(dd_op_sine_position, y), op->B * op->y_stride, false, r, 2 * EPS, 0), 1);
    snprintf(c->text, sizeof c->text, "B %d H %d W %d C %d", op->B, op->H, op->W, op->C);
}

static void coord_embed_inputs(test_case *c, random_state *r, int64_t i)
{
    dd_op_coord_embed *op = (void *)c->args;
    op->rows = i % 15 == 14 ? 0 : some(r, 60);
    op->coordinates = 1 + (int32_t)random_below(r, 4);
    op->n = (int32_t)some(r, 70);
    op->scale = i % 3 ? 6.283185307179586 : 1;
    op->temperature = i % 2 ? 10000 : 20;
    for (int32_t j = 0; j < op->coordinates; j++) {
        op->unit[j] = i % 5 == 2 ? 1000 : j % 2;
        op->order[j] = (j + (int32_t)(i % 7)) % op->coordinates;
    }
    array *x = REAL_IN(dd_op_coord_embed, x, op->rows * op->coordinates);
    fill_uniform(x, r, i % 4 ? 0 : -300, i % 4 ? 1 : 300);
    snprintf(c->text, sizeof c->text, "rows %lld coordinates %d n %d", (long long)op->rows, op->coordinates, op->n);
}

void coord_embed_case(test_case *c, random_state *r, int64_t i)
{
    const dd_op_coord_embed *op = (void *)c->args;
    coord_embed_inputs(c, r, i);
    raise(add_scaled(c, "y", offsetof(dd_op_coord_embed, y), op->rows * op->coordinates * op->n, false, r, EPS, 0), 1e-6);
}

void coord_embed_grad_case(test_case *c, random_state *r, int64_t i)
{
    dd_op_coord_embed *op = (void *)c->args;
    coord_embed_inputs(c, r, i);
    op->add = (int32_t)(i % 2);
    fill_uniform(REAL_IN(dd_op_coord_embed, g_y, op->rows * op->coordinates * op->n), r, -1, 1);
    raise(add_scaled(c, "g_x", offsetof(dd_op_coord_embed, g_x), op->rows * op->coordinates, op->add, r, EPS, 2),
          1e-6 * op->n * op->scale);
}
