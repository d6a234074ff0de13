/* SPDX-License-Identifier: Apache-2.0
 * Gradients of the detectors' layers against central differences. */
#include "differences.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { MOST_INPUTS = 6 };

/* An operator on one shape. Outputs are written into `y` by the forward pass; every gradient starts from other numbers where it
 * is added to. */
typedef struct layer_case {
    int32_t op, grad;
    void *args;
    double *weight; /* gradient of y; a copy goes to the kernel, which may overwrite it */
    double **y, **g_y;
    int64_t outputs;
    struct {
        const char *name;
        double *x, **g;
        int64_t count;
        bool added;
    } input[MOST_INPUTS];
    int32_t inputs;
} layer_case;

static void differentiate(layer_case *c, const char *name, const void *x, void *g, int64_t count, bool added)
{
    c->input[c->inputs].name = name;
    c->input[c->inputs].x = (double *)(uintptr_t)x;
    c->input[c->inputs].g = g;
    c->input[c->inputs].count = count;
    c->input[c->inputs++].added = added;
}

static double case_scalar(void *context)
{
    const layer_case *c = context;
    run_f64(c->op, c->args);
    return weighted_sum(c->weight, *c->y, c->outputs);
}

static void check_case(layer_case *c)
{
    double *start[MOST_INPUTS];
    c->weight = random_reals(DD_F64, c->outputs, -1, 1);
    *c->g_y = random_reals(DD_F64, c->outputs, -1, 1);
    memcpy(*c->g_y, c->weight, (size_t)c->outputs * sizeof(double));
    for (int32_t i = 0; i < c->inputs; i++) {
        const int64_t count = c->input[i].count;
        *c->input[i].g = random_reals(DD_F64, count, -1, 1);
        start[i] = random_reals(DD_F64, count, -1, 1);
        memcpy(start[i], *c->input[i].g, (size_t)count * sizeof(double));
    }
    run_f64(c->op, c->args);
    run_f64(c->grad, c->args);
    for (int32_t i = 0; i < c->inputs; i++) {
        for (int64_t k = 0; c->input[i].added && k < c->input[i].count; k++) {
            (*c->input[i].g)[k] -= start[i][k];
        }
    }
    for (int32_t i = 0; i < c->inputs; i++) {
        double *kept = random_reals(DD_F64, c->input[i].count, 0, 1);
        memcpy(kept, *c->input[i].g, (size_t)c->input[i].count * sizeof(double));
        check_gradient(c->input[i].name, case_scalar, c, c->input[i].x, c->input[i].count, kept);
    }
}

#define CASE(name, size)                                                                                                       \
    {                                                                                                                          \
        .op = DD_OPERATOR_##name, .grad = DD_OPERATOR_##name##_grad, .args = &a, .y = (double **)&a.y,                         \
        .g_y = (double **)&a.g_y, .outputs = (size)                                                                            \
    }
#define BY(field, count, added) differentiate(&c, #field, a.field, &a.g_##field, count, added)

static double *some_reals(int64_t count)
{
    return random_reals(DD_F64, count, -1, 1);
}

/* Inputs whose outputs keep their distance from ReLU's kink. */
static bool near_zero(const double *y, int64_t count)
{
    bool near = false;
    for (int64_t i = 0; i < count; i++) {
        near = near || fabs(y[i]) < 1e-3;
    }
    return near;
}

void gradient_of_linear(int trial)
{
    dd_op_linear a = {.rows = random_size(trial), .K = random_size(trial), .N = random_size(trial), .add = trial % 2};
    a.ldx = a.K;
    a.ldy = a.N;
    do {
        a.relu = 0;
        a.x = some_reals(a.rows * a.K);
        a.w = some_reals((int64_t)a.N * a.K);
        a.bias = trial % 3 ? some_reals(a.N) : NULL;
        a.y = some_reals(a.rows * a.N);
        run_f64(DD_OPERATOR_linear, &a);
        a.relu = trial % 4 < 2;
    } while (near_zero(a.y, a.rows * a.N));
    layer_case c = CASE(linear, a.rows * a.N);
    BY(x, a.rows * a.K, a.add & 1);
    BY(w, (int64_t)a.N * a.K, true);
    if (a.bias) {
        BY(bias, a.N, true);
    }
    check_case(&c);
}

void gradient_of_conv(int trial)
{
    dd_op_conv a = {.B = 1 + (int32_t)random_below(2),
                    .H = random_size(trial),
                    .W = random_size(trial),
                    .Cin = random_size(trial),
                    .Cout = random_size(trial),
                    .kernel = trial % 3 == 0 ? 1 : 3,
                    .stride = 1 + trial % 2,
                    .add = trial / 2 % 2};
    a.pad = a.kernel / 2;
    a.OH = (a.H + 2 * a.pad - a.kernel) / a.stride + 1;
    a.OW = (a.W + 2 * a.pad - a.kernel) / a.stride + 1;
    const int64_t inputs = (int64_t)a.B * a.H * a.W * a.Cin, outputs = (int64_t)a.B * a.OH * a.OW * a.Cout;
    const int64_t weights = (int64_t)a.Cout * a.Cin * a.kernel * a.kernel;
    do {
        a.relu = 0;
        a.x = some_reals(inputs);
        a.w = some_reals(weights);
        a.scale = trial % 3 ? random_reals(DD_F64, a.Cout, 0.5, 1.5) : NULL;
        a.shift = trial % 4 ? some_reals(a.Cout) : NULL;
        a.residual = trial % 5 < 2 ? some_reals(outputs) : NULL;
        a.y = some_reals(outputs);
        run_f64(DD_OPERATOR_conv, &a);
        a.relu = trial % 4 < 2;
    } while (near_zero(a.y, outputs));
    layer_case c = CASE(conv, outputs);
    BY(x, inputs, a.add & 1);
    BY(w, weights, true);
    if (a.scale) {
        BY(scale, a.Cout, true);
    }
    if (a.shift) {
        BY(shift, a.Cout, true);
    }
    check_case(&c);
}

void gradient_of_maxpool(int trial)
{
    dd_op_maxpool a = {.B = 1,
                       .H = random_size(trial),
                       .W = random_size(trial),
                       .C = random_size(trial),
                       .kernel = 3,
                       .stride = 2,
                       .pad = 1,
                       .add = trial % 2};
    a.OH = (a.H + 2 * a.pad - a.kernel) / a.stride + 1;
    a.OW = (a.W + 2 * a.pad - a.kernel) / a.stride + 1;
    const int64_t inputs = (int64_t)a.H * a.W * a.C, outputs = (int64_t)a.OH * a.OW * a.C;
    double *x = some_reals(inputs);
    for (int64_t i = 0; i < inputs; i++) { /* no two values are near each other */
        x[i] = (double)((i * 7919) % 10007) / 1000;
    }
    a.x = x;
    a.y = some_reals(outputs);
    layer_case c = CASE(maxpool, outputs);
    BY(x, inputs, a.add & 1);
    check_case(&c);
}

void gradient_of_groupnorm(int trial)
{
    dd_op_groupnorm a = {.B = random_size(trial), .P = random_size(trial) + 1, .groups = random_size(trial), .add = trial % 2};
    a.C = a.groups * (1 + trial % 3);
    a.y_stride = (a.P + trial % 2) * a.C;
    const int64_t inputs = a.B * a.P * a.C, outputs = a.B * a.y_stride;
    a.x = some_reals(inputs);
    a.gamma = random_reals(DD_F64, a.C, 0.5, 1.5);
    a.beta = some_reals(a.C);
    a.mean = some_reals((int64_t)a.B * a.groups);
    a.rstd = some_reals((int64_t)a.B * a.groups);
    double *y = some_reals(outputs);
    a.y = y; /* rows between images keep what is there: a constant of the sum */
    layer_case c = CASE(groupnorm, outputs);
    BY(x, inputs, a.add & 1);
    BY(gamma, a.C, true);
    BY(beta, a.C, true);
    check_case(&c);
}

void gradient_of_layernorm(int trial)
{
    dd_op_layernorm a = {.rows = random_size(trial),
                         .d = random_size(trial) + 1,
                         .add = trial % 4,
                         .dropout = {.rate = trial % 3 ? 0.3 : 0, .seed = 5, .step = 2, .stream = 1}};
    const int64_t count = a.rows * a.d;
    a.x = some_reals(count);
    a.r = trial % 5 ? some_reals(count) : NULL;
    a.gamma = trial % 7 ? random_reals(DD_F64, a.d, 0.5, 1.5) : NULL;
    a.beta = a.gamma ? some_reals(a.d) : NULL;
    a.s = some_reals(count);
    a.y = some_reals(count);
    a.mean = some_reals(a.rows);
    a.rstd = some_reals(a.rows);
    layer_case c = CASE(layernorm, count);
    BY(x, count, a.add & 1);
    if (a.r) {
        BY(r, count, a.add & 2);
    }
    if (a.gamma) {
        BY(gamma, a.d, true);
        BY(beta, a.d, true);
    }
    check_case(&c);
}

void gradient_of_attention(int trial)
{
    dd_op_attention a = {.B = 1 + (int32_t)random_below(2),
                         .Nq = random_size(trial),
                         .Nk = random_size(trial),
                         .M = random_size(trial),
                         .dk = random_size(trial),
                         .dv = random_size(trial),
                         .add = trial % 16,
                         .scale = 0.7,
                         .dropout = {.rate = trial % 4 == 3 ? 0.25 : 0, .seed = 3, .step = 1, .stream = 9}};
    if (trial % 5 == 4) {
        a.Nk = a.Nq;
        a.split = 1 + (int32_t)random_below(a.Nq);
    }
    a.ldq = a.ldk = (int64_t)a.M * a.dk;
    a.ldv = a.ldy = (int64_t)a.M * a.dv;
    const int64_t nq = (int64_t)a.B * a.Nq, nk = (int64_t)a.B * a.Nk;
    uint8_t padding[64] = {0}, mask[64] = {0};
    for (int64_t i = 0; i < nk; i++) {
        padding[i] = random_below(3) == 0;
    }
    for (int64_t i = 0; i < (int64_t)a.Nq * a.Nk; i++) {
        mask[i] = random_below(4) == 0;
    }
    a.key_padding = trial % 3 == 1 ? padding : NULL;
    a.mask = trial % 3 == 2 ? mask : NULL;
    a.q = some_reals(nq * a.ldq);
    a.k = some_reals(nk * a.ldk);
    a.v = some_reals(nk * a.ldv);
    a.bias = trial % 2 ? some_reals(nq * a.M * a.Nk) : NULL;
    a.y = some_reals(nq * a.ldy);
    a.lse = some_reals(nq * a.M);
    layer_case c = CASE(attention, nq * a.ldy);
    BY(q, nq * a.ldq, a.add & 1);
    BY(k, nk * a.ldk, a.add & 2);
    BY(v, nk * a.ldv, a.add & 4);
    if (a.bias) {
        BY(bias, nq * a.M * a.Nk, a.add & 8);
    }
    check_case(&c);
}

/* Whether some sample lies near a cell's border, where its slope jumps. */
static bool near_border(const dd_op_msda *a)
{
    const double *off = a->off, *ref = a->ref, *ratio = a->ratio;
    bool near = false;
    for (int64_t i = 0; i < (int64_t)a->B * a->N * a->M * a->L * a->P; i++) {
        const int32_t l = (int32_t)(i / a->P % a->L);
        const int64_t query = i / ((int64_t)a->M * a->L * a->P), b = query / a->N;
        const double *r = ref + (a->ref_images == 1 ? query % a->N : query) * a->R;
        for (int32_t axis = 0; axis < 2; axis++) {
            const double side = axis ? a->height[l] : a->width[l], factor = ratio ? ratio[(b * a->L + l) * 2 + axis] : 1;
            const double x =
                r[axis] * factor * side + off[2 * i + axis] * (a->R == 4 ? r[2 + axis] * factor * .5 / a->P * side : 1) - .5;
            near = near || fabs(x - floor(x + .5)) < 1e-4;
        }
    }
    return near;
}

void gradient_of_msda(int trial)
{
    dd_op_msda a = {.B = 1 + (int32_t)random_below(2),
                    .N = random_size(trial),
                    .M = 1 + (int32_t)random_below(3),
                    .D = random_size(trial),
                    .L = 1 + (int32_t)random_below(3),
                    .P = 1 + (int32_t)random_below(3),
                    .R = trial % 2 ? 4 : 2,
                    .add = trial % 16};
    a.ref_images = trial % 3 ? a.B : 1;
    for (int32_t l = 0; l < a.L; l++) {
        a.height[l] = random_size(trial);
        a.width[l] = random_size(trial);
        a.S += (int64_t)a.height[l] * a.width[l];
    }
    a.ldo = (int64_t)a.M * a.L * a.P * 2;
    a.ldl = a.ldo / 2;
    const int64_t queries = (int64_t)a.B * a.N, values = a.B * a.S * a.M * a.D;
    uint8_t padding[512] = {0};
    for (int64_t i = 0; i < a.B * a.S; i++) {
        padding[i] = random_below(5) == 0;
    }
    a.padding = trial % 4 == 1 ? padding : NULL;
    a.value = some_reals(values);
    a.logits = some_reals(queries * a.ldl);
    a.y = some_reals(queries * a.M * a.D);
    a.ratio = trial % 5 ? random_reals(DD_F64, (int64_t)a.B * a.L * 2, 0.6, 1) : NULL;
    do {
        a.off = random_reals(DD_F64, queries * a.ldo, -2, 2);
        a.ref = random_reals(DD_F64, (int64_t)a.ref_images * a.N * a.R, 0.1, 0.9);
    } while (near_border(&a));
    layer_case c = CASE(msda, queries * a.M * a.D);
    BY(value, values, a.add & 1);
    BY(off, queries * a.ldo, a.add & 2);
    BY(logits, queries * a.ldl, a.add & 4);
    BY(ref, (int64_t)a.ref_images * a.N * a.R, a.add & 8);
    check_case(&c);
}

void gradient_of_coord_embed(int trial)
{
    dd_op_coord_embed a = {.rows = random_size(trial),
                           .coordinates = 2 + 2 * (trial % 2),
                           .n = 2 * random_size(trial),
                           .order = {1, 0, 3, 2},
                           .add = trial % 2,
                           .scale = 6.283185307179586,
                           .temperature = 20,
                           .unit = {0, 2, 0.5, 1}};
    a.x = random_reals(DD_F64, a.rows * a.coordinates, 0, 1);
    a.y = some_reals(a.rows * a.coordinates * a.n);
    layer_case c = CASE(coord_embed, a.rows * a.coordinates * a.n);
    BY(x, a.rows * a.coordinates, a.add & 1);
    check_case(&c);
}

void gradient_of_relu(int trial)
{
    dd_op_relu a = {.count = random_size(trial), .add = trial % 2};
    double *x = some_reals(a.count);
    for (int64_t i = 0; i < a.count; i++) { /* away from the kink */
        x[i] += x[i] < 0 ? -0.1 : 0.1;
    }
    a.x = x;
    a.y = some_reals(a.count);
    layer_case c = CASE(relu, a.count);
    BY(x, a.count, a.add & 1);
    check_case(&c);
}

void gradient_of_sigmoid(int trial)
{
    dd_op_sigmoid a = {.count = random_size(trial), .add = trial % 2};
    a.x = random_reals(DD_F64, a.count, -3, 3);
    a.y = some_reals(a.count);
    layer_case c = CASE(sigmoid, a.count);
    BY(x, a.count, a.add & 1);
    check_case(&c);
}

void gradient_of_box_refine(int trial)
{
    dd_op_box_refine a = {.ref_rows = random_size(trial), .R = trial % 2 ? 4 : 2, .add = trial % 4, .eps = 1e-3};
    a.rows = a.ref_rows * (1 + trial % 3);
    a.t = some_reals(4 * a.rows);
    a.ref = random_reals(DD_F64, a.ref_rows * a.R, 0.05, 0.95);
    a.y = some_reals(4 * a.rows);
    layer_case c = CASE(box_refine, 4 * a.rows);
    BY(t, 4 * a.rows, a.add & 1);
    BY(ref, a.ref_rows * a.R, a.add & 2);
    check_case(&c);
}

/* ---- AdaMixer */

/* Boxes of some pixels that lie near each other. */
static double *some_positions(int64_t count)
{
    double *x = random_reals(DD_F64, 4 * count, -1, 1);
    for (int64_t i = 0; i < count; i++) {
        x[4 * i] = 16 + 10 * x[4 * i];
        x[4 * i + 1] = 16 + 10 * x[4 * i + 1];
        x[4 * i + 2] += 3;
    }
    return x;
}

void gradient_of_iof_bias(int trial)
{
    dd_op_iof_bias a = {.B = 1 + trial % 2, .N = random_size(trial), .M = random_size(trial)};
    const int64_t cells = (int64_t)a.B * a.N * a.N;
    a.position = some_positions((int64_t)a.B * a.N);
    a.tau = some_reals(a.M);
    a.overlap = some_reals(cells);
    a.y = some_reals(a.M * cells);
    layer_case c = CASE(iof_bias, a.M * cells);
    BY(tau, a.M, true);
    check_case(&c);
}

void gradient_of_xyzr_refine(int trial)
{
    static const int32_t size[] = {40, 30, 21, 50};
    dd_op_xyzr_refine a = {.size = size, .B = 1 + trial % 2, .N = random_size(trial), .add = trial / 2 % 2};
    const int64_t count = 4 * (int64_t)a.B * a.N;
    a.position = some_positions(count / 4);
    a.delta = some_reals(count);
    a.next = some_reals(count);
    a.y = some_reals(count);
    layer_case c = CASE(xyzr_refine, count);
    BY(delta, count, a.add & 1);
    check_case(&c);
}

/* Whether some point lies near a cell's border on a level. */
static bool near_cell_border(const dd_op_sample3d *a)
{
    const double *off = a->off, *position = a->position;
    bool near = false;
    for (int64_t i = 0; i < (int64_t)a->B * a->N * a->G * a->P * a->L; i++) {
        const int64_t at = i / a->L, query = at / a->P / a->G;
        const double *p = position + 4 * query;
        for (int32_t axis = 0; axis < 2; axis++) {
            const double side = exp2(p[2] + (axis ? 0.5 : -0.5) * p[3]);
            const double x = (p[axis] + off[3 * at + axis] * side) / a->stride[i % a->L] - 0.5;
            near = near || fabs(x - floor(x + 0.5)) < 1e-4;
        }
    }
    return near;
}

void gradient_of_sample3d(int trial)
{
    dd_op_sample3d a = {.B = 1 + (int32_t)random_below(2),
                        .N = 1 + (int32_t)random_below(3),
                        .G = 1 + (int32_t)random_below(3),
                        .D = random_size(trial),
                        .L = 1 + (int32_t)random_below(4),
                        .P = 1 + (int32_t)random_below(4),
                        .add = trial % 4,
                        .tau = 2};
    for (int32_t l = 0; l < a.L; l++) {
        a.stride[l] = 4 << l;
        a.height[l] = 1 + random_below(8 >> l);
        a.width[l] = 1 + random_below(8 >> l);
        a.S += (int64_t)a.height[l] * a.width[l];
    }
    const int64_t points = (int64_t)a.B * a.N * a.G * a.P, values = a.B * a.S * a.G * a.D;
    a.value = some_reals(values);
    a.y = some_reals(points * a.D);
    do {
        a.off = some_reals(points * 3);
        a.position = some_positions((int64_t)a.B * a.N);
    } while (near_cell_border(&a));
    layer_case c = CASE(sample3d, points * a.D);
    BY(value, values, a.add & 1);
    BY(off, points * 3, a.add & 2);
    check_case(&c);
}

/* Normalises x; whether some entry lies near the mean, where the ReLU has its kink. */
static bool norm_near_zero(double *x, int64_t count)
{
    double mean = 0, square = 0;
    for (int64_t i = 0; i < count; i++) {
        mean += x[i] / (double)count;
        square += x[i] * x[i] / (double)count;
    }
    const double rstd = 1 / sqrt(square - mean * mean + 1e-5);
    for (int64_t i = 0; i < count; i++) {
        x[i] = (x[i] - mean) * rstd;
    }
    return near_zero(x, count);
}

static void product(int64_t rows, int64_t inner, int64_t columns, const double *a, const double *b, bool positive, double *y)
{
    for (int64_t i = 0; i < rows * columns; i++) {
        y[i] = 0;
        for (int64_t k = 0; k < inner; k++) {
            const double x = b[k * columns + i % columns];
            y[i] += a[i / columns * inner + k] * (positive && x < 0 ? 0 : x);
        }
    }
}

static bool mixing_near_zero(const dd_op_mixing *a)
{
    double *first = some_reals((int64_t)a->in * a->c), *second = some_reals((int64_t)a->out * a->c);
    bool near = false;
    for (int64_t i = 0; i < a->rows * a->G; i++) {
        const double *params = (const double *)a->params + i * (a->c * a->c + a->out * a->in);
        product(a->in, a->c, a->c, (const double *)a->x + i * a->in * a->c, params, false, first);
        near = norm_near_zero(first, (int64_t)a->in * a->c) || near;
        product(a->out, a->in, a->c, params + a->c * a->c, first, true, second);
        near = norm_near_zero(second, (int64_t)a->out * a->c) || near;
    }
    return near;
}

void gradient_of_mixing(int trial)
{
    dd_op_mixing a = {.rows = 1 + random_below(2),
                      .G = 1 + random_below(2),
                      .in = random_size(trial),
                      .out = random_size(trial),
                      .c = 1 + random_size(trial),
                      .add = trial % 4};
    const int64_t groups = a.rows * a.G, inputs = groups * a.in * a.c, outputs = groups * a.out * a.c;
    const int64_t params = groups * (a.c * a.c + a.out * a.in);
    a.y = some_reals(outputs);
    a.stats = some_reals(4 * groups);
    do {
        a.x = some_reals(inputs);
        a.params = some_reals(params);
    } while (mixing_near_zero(&a));
    layer_case c = CASE(mixing, outputs);
    BY(x, inputs, a.add & 1);
    BY(params, params, a.add & 2);
    check_case(&c);
}

void gradient_of_fold_norm(int trial)
{
    dd_op_fold_norm a = {.C = random_size(trial)};
    a.gamma = some_reals(a.C);
    a.beta = some_reals(a.C);
    a.mean = some_reals(a.C);
    a.variance = random_reals(DD_F64, a.C, 0.1, 2);
    a.y = some_reals(2 * a.C);
    layer_case c = CASE(fold_norm, 2 * a.C);
    BY(gamma, a.C, true);
    BY(beta, a.C, true);
    check_case(&c);
}

void gradient_of_product(int trial)
{
    dd_op_product a = {.count = random_size(trial), .add = trial % 4};
    a.a = some_reals(a.count);
    a.b = some_reals(a.count);
    a.y = some_reals(a.count);
    layer_case c = CASE(product, a.count);
    if (trial % 5 != 3) {
        BY(a, a.count, a.add & 1);
    }
    if (trial % 5 != 4) {
        BY(b, a.count, a.add & 2);
    }
    check_case(&c);
}
