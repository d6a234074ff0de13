/* SPDX-License-Identifier: Apache-2.0
 * Replays the attention, sampling and position cases of golden/hf/ops: outputs and gradients of operators, and of the modules
 * that are made of a few of them.
 *
 *     golden_ops FOLDER       with DETRDISTILL_GOLDEN_DEVICE=ref|cpu, DETRDISTILL_GOLDEN_DTYPE=f32|f64, DETRDISTILL_GOLDEN_ISA
 *
 * Largest error / largest value of a tensor must stay within the README's 2e-5. */
#include "backend/exec.h"
#include <detrdistill/detrdistill.h>
#include <detrdistill/sys/backend.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT = 128, PATH = 4096 };

#define TOLERANCE 2e-5

static ddi_exec exec;
static int32_t dtype = DD_F32;
static const char *folder, *running;
static dd_tensorfile *file;
static void *kept[KEPT]; /* memory of the case that runs */
static int kept_count, compared, failed;

static void die(const char *what)
{
    fprintf(stderr, "golden_ops: %s: %s: %s\n", running ? running : "start", what, dd_error_message());
    exit(2);
}

/* ---- arrays of the run's real type */

static void *room(int64_t bytes)
{
    void *memory = calloc(1, (size_t)bytes + 1);
    if (!memory || kept_count == KEPT) {
        die("memory");
    }
    return kept[kept_count++] = memory;
}

static void *zeros(int64_t count)
{
    return room(count * 8);
}

static double get(const void *x, int64_t i)
{
    return dtype == DD_F64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static void put(void *x, int64_t i, double value)
{
    if (dtype == DD_F64) {
        ((double *)x)[i] = value;
    } else {
        ((float *)x)[i] = (float)value;
    }
}

static void *part(void *x, int64_t first)
{
    return (char *)x + first * (dtype == DD_F64 ? 8 : 4);
}

static dd_tensor tensor(const char *name)
{
    dd_tensor t;
    if (dd_tensorfile_get(file, name, &t) != DD_OK) {
        die(name);
    }
    return t;
}

static int64_t size(const char *name, int axis)
{
    return tensor(name).shape[axis];
}

static int64_t count_of(const char *name)
{
    const dd_tensor t = tensor(name);
    int64_t count = 1;
    for (int32_t k = 0; k < t.ndim; k++) {
        count *= t.shape[k];
    }
    return count;
}

static void *reals(const char *name)
{
    const int64_t count = count_of(name);
    const float *from = tensor(name).data;
    void *to = zeros(count);
    for (int64_t i = 0; i < count; i++) {
        put(to, i, (double)from[i]);
    }
    return to;
}

static void compare(const char *name, const void *got)
{
    const float *want = tensor(name).data;
    const int64_t count = count_of(name);
    double error = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        const double e = fabs(get(got, i) - (double)want[i]);
        error = e <= error ? error : e; /* NaN stays */
        largest = fmax(largest, fabs((double)want[i]));
    }
    compared++;
    if (!(error <= TOLERANCE * largest)) {
        failed++;
        printf("FAILED %s %s: error %.3g of %.3g\n", running, name, error, largest);
    }
}

/* Against numbers that follow from the file's. */
static void compare_made(const char *name, const void *got, const double *want, int64_t count)
{
    double error = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        error = fmax(error, isnan(get(got, i)) ? INFINITY : fabs(get(got, i) - want[i]));
        largest = fmax(largest, fabs(want[i]));
    }
    compared++;
    if (!(error <= TOLERANCE * largest)) {
        failed++;
        printf("FAILED %s %s: error %.3g of %.3g\n", running, name, error, largest);
    }
}

static void run(int32_t op, const void *args)
{
    if (ddi_run(&exec, op, dtype, args) != DD_OK) {
        die("operator");
    }
}

/* ---- modules */

/* A linear layer, with room for its gradients. */
static dd_op_linear linear(void *x, int64_t rows, void *w, void *bias, int64_t K, int64_t N)
{
    dd_op_linear l = {
        .x = x, .w = w, .bias = bias, .y = zeros(rows * N), .rows = rows, .ldx = K, .ldy = N, .K = (int32_t)K, .N = (int32_t)N};
    run(DD_OPERATOR_linear, &l);
    l.g_w = zeros(K * N);
    l.g_bias = zeros(N);
    l.g_x = zeros(rows * K);
    return l;
}

static void linear_back(dd_op_linear *l, void *g_y)
{
    l->g_y = g_y;
    run(DD_OPERATOR_linear_grad, l);
}

static void levels(dd_op_msda *op)
{
    const int32_t *shapes = tensor("in.shapes").data;
    op->L = (int32_t)size("in.shapes", 0);
    for (int32_t l = 0; l < op->L; l++) {
        op->height[l] = shapes[2 * l];
        op->width[l] = shapes[2 * l + 1];
    }
}

/* Cells of the level of offset k of [..,L,P,2]. */
static double cells(const dd_op_msda *op, int64_t k)
{
    const int64_t l = k / 2 / op->P % op->L;
    return k % 2 ? op->height[l] : op->width[l];
}

/* Locations become offsets from 0, weights (which sum to 1) their logarithms. */
static void msda_core(void)
{
    dd_op_msda op = {.value = reals("in.value"), .g_y = reals("gout.y"), .R = 2};
    const int64_t locations = count_of("in.loc"), weights = count_of("in.weight"), values = count_of("in.value");
    levels(&op);
    op.S = size("in.value", 1);
    op.B = op.ref_images = (int32_t)size("in.loc", 0);
    op.N = (int32_t)size("in.loc", 1);
    op.M = (int32_t)size("in.loc", 2);
    op.P = (int32_t)size("in.loc", 4);
    op.D = (int32_t)size("in.value", 3);
    op.ldl = (int64_t)op.M * op.L * op.P;
    op.ldo = 2 * op.ldl;
    void *off = reals("in.loc"), *logits = reals("in.weight");
    for (int64_t k = 0; k < locations; k++) {
        put(off, k, get(off, k) * cells(&op, k));
    }
    for (int64_t k = 0; k < weights; k++) {
        put(logits, k, log(get(logits, k)));
    }
    op.off = off;
    op.logits = logits;
    op.ref = zeros((int64_t)op.B * op.N * 2);
    op.y = zeros(count_of("out.y"));
    run(DD_OPERATOR_msda, &op);
    compare("out.y", op.y);
    op.g_value = zeros(values);
    op.g_off = zeros(locations);
    op.g_logits = zeros(weights);
    run(DD_OPERATOR_msda_grad, &op);
    compare("grad.value", op.g_value);
    for (int64_t k = 0; k < locations; k++) {
        put(op.g_off, k, get(op.g_off, k) * cells(&op, k));
    }
    compare("grad.loc", op.g_off);
    /* of logits: w (g - sum of w g) over the samples of a head */
    const float *w = tensor("in.weight").data, *g = tensor("grad.weight").data;
    const int64_t samples = (int64_t)op.L * op.P;
    double *want = room(weights * 8);
    for (int64_t head = 0; head < weights; head += samples) {
        double mean = 0;
        for (int64_t k = head; k < head + samples; k++) {
            mean += (double)w[k] * (double)g[k];
        }
        for (int64_t k = head; k < head + samples; k++) {
            want[k] = (double)w[k] * ((double)g[k] - mean);
        }
    }
    compare_made("grad.weight", op.g_logits, want, weights);
}

/* Gradients of reference points, [B,N,L,R]: sums over heads and points of those by offset from 0, in cells. off: the module's
 * own offsets. */
static void references_back(const dd_op_msda *op, const void *off, int64_t R)
{
    void *g_ref = zeros(count_of("in.ref"));
    for (int64_t k = 0; k < (int64_t)op->B * op->N * op->ldo; k++) {
        const int64_t at = (k / op->ldo * op->L + k / 2 / op->P % op->L) * R + k % 2;
        const double location = get(op->g_off, k) * cells(op, k);
        put(g_ref, at, get(g_ref, at) + location);
        if (R == 4) {
            put(g_ref, at + 2, get(g_ref, at + 2) + location * get(off, k) * 0.5 / op->P);
        }
    }
    compare("grad.ref", g_ref);
}

static void compare_layer(const char *name, const dd_op_linear *l)
{
    char text[80];
    snprintf(text, sizeof text, "grad.p_%s_weight", name);
    compare(text, l->g_w);
    snprintf(text, sizeof text, "grad.p_%s_bias", name);
    compare(text, l->g_bias);
}

/* The module has reference points for each level, the operator one for all: offsets take them up, in cells of the level. */
static void msda_module(void)
{
    dd_op_msda op = {.R = 2, .M = 4, .P = 2};
    void *query = reals("in.query"), *pos = reals("in.pos"), *ref = reals("in.ref"), *g_out = reals("gout.y");
    const uint8_t *valid = tensor("in.valid").data;
    const int64_t d = size("in.query", 2), R = size("in.ref", 3);
    levels(&op);
    op.S = size("in.memory", 1);
    op.B = op.ref_images = (int32_t)size("in.query", 0);
    op.N = (int32_t)size("in.query", 1);
    op.D = (int32_t)(d / op.M);
    op.ldl = (int64_t)op.M * op.L * op.P;
    op.ldo = 2 * op.ldl;
    const int64_t rows = (int64_t)op.B * op.N, tokens = op.B * op.S, offsets = rows * op.ldo;
    for (int64_t i = 0; i < rows * d; i++) {
        put(query, i, get(query, i) + get(pos, i));
    }
    uint8_t *padding = room(tokens);
    for (int64_t s = 0; s < tokens; s++) {
        padding[s] = !valid[s];
    }
    dd_op_linear value =
        linear(reals("in.memory"), tokens, reals("in.p_value_proj_weight"), reals("in.p_value_proj_bias"), d, d);
    dd_op_linear off =
        linear(query, rows, reals("in.p_sampling_offsets_weight"), reals("in.p_sampling_offsets_bias"), d, op.ldo);
    dd_op_linear weight =
        linear(query, rows, reals("in.p_attention_weights_weight"), reals("in.p_attention_weights_bias"), d, op.ldl);
    double *scale = room(offsets * 8);
    void *moved = zeros(offsets);
    for (int64_t k = 0; k < offsets; k++) {
        const int64_t at = (k / op.ldo * op.L + k / 2 / op.P % op.L) * R + k % 2;
        scale[k] = R == 4 ? get(ref, at + 2) * 0.5 / op.P * cells(&op, k) : 1;
        put(moved, k, get(off.y, k) * scale[k] + get(ref, at) * cells(&op, k));
    }
    op.value = value.y;
    op.off = moved;
    op.logits = weight.y;
    op.ref = zeros(rows * 2);
    op.padding = padding;
    op.y = zeros(rows * d);
    run(DD_OPERATOR_msda, &op);
    dd_op_linear out = linear(op.y, rows, reals("in.p_output_proj_weight"), reals("in.p_output_proj_bias"), d, d);
    compare("out.y", out.y);
    linear_back(&out, g_out);
    op.g_y = out.g_x;
    op.g_value = zeros(tokens * d);
    op.g_off = zeros(offsets);
    op.g_logits = zeros(rows * op.ldl);
    run(DD_OPERATOR_msda_grad, &op);
    references_back(&op, off.y, R);
    for (int64_t k = 0; k < offsets; k++) {
        put(op.g_off, k, get(op.g_off, k) * scale[k]);
    }
    linear_back(&value, op.g_value);
    linear_back(&off, op.g_off);
    weight.g_x = off.g_x;
    weight.add = 1;
    linear_back(&weight, op.g_logits);
    compare("grad.query", weight.g_x);
    compare("grad.pos", weight.g_x);
    compare("grad.memory", value.g_x);
    compare_layer("value_proj", &value);
    compare_layer("sampling_offsets", &off);
    compare_layer("attention_weights", &weight);
    compare_layer("output_proj", &out);
}

static void multi_head(void)
{
    static const char *const input[] = {"in.q", "in.k", "in.v"}, *const gradient[] = {"grad.q", "grad.k", "grad.v"};
    dd_tensor t;
    const int64_t d = size("in.q", 2), B = size("in.q", 0), Nq = size("in.q", 1), Nk = size("in.k", 1), heads = 4;
    const bool biased = dd_tensorfile_get(file, "in.bias", &t) == DD_OK;
    void *w = reals("in.in_proj_weight"), *bias = reals("in.in_proj_bias"), *g_w = zeros(3 * d * d), *g_bias = zeros(3 * d);
    dd_op_linear in[3];
    for (int n = 0; n < 3; n++) {
        in[n] = linear(reals(input[n]), B * (n ? Nk : Nq), part(w, n * d * d), part(bias, n * d), d, d);
        in[n].g_w = part(g_w, n * d * d);
        in[n].g_bias = part(g_bias, n * d);
    }
    dd_op_attention op = {.q = in[0].y,
                          .k = in[1].y,
                          .v = in[2].y,
                          .bias = biased ? reals("in.bias") : NULL,
                          .key_padding = tensor("in.key_padding").data,
                          .y = zeros(B * Nq * d),
                          .lse = zeros(B * heads * Nq),
                          .g_q = zeros(B * Nq * d),
                          .g_k = zeros(B * Nk * d),
                          .g_v = zeros(B * Nk * d),
                          .g_bias = biased ? zeros(B * heads * Nq * Nk) : NULL,
                          .ldq = d,
                          .ldk = d,
                          .ldv = d,
                          .ldy = d,
                          .B = (int32_t)B,
                          .Nq = (int32_t)Nq,
                          .Nk = (int32_t)Nk,
                          .M = (int32_t)heads,
                          .dk = (int32_t)(d / heads),
                          .dv = (int32_t)(d / heads),
                          .scale = 1 / sqrt((double)d / (double)heads)};
    run(DD_OPERATOR_attention, &op);
    dd_op_linear out = linear(op.y, B * Nq, reals("in.out_proj_weight"), reals("in.out_proj_bias"), d, d);
    compare("out.y", out.y);
    linear_back(&out, reals("gout.y"));
    op.g_y = out.g_x;
    run(DD_OPERATOR_attention_grad, &op);
    void *g[] = {op.g_q, op.g_k, op.g_v};
    for (int n = 0; n < 3; n++) {
        linear_back(&in[n], g[n]);
        compare(gradient[n], in[n].g_x);
    }
    if (biased) {
        compare("grad.bias", op.g_bias);
    }
    compare("grad.in_proj_weight", g_w);
    compare("grad.in_proj_bias", g_bias);
    compare("grad.out_proj_weight", out.g_w);
    compare("grad.out_proj_bias", out.g_bias);
}

/* ---- positions */

static void sine_position(void)
{
    const dd_tensor mask = tensor("in.mask");
    const int64_t B = mask.shape[0], H = mask.shape[1], W = mask.shape[2], C = size("out.y", 1);
    const uint8_t *real = mask.data;
    const float *want = tensor("out.y").data;
    int32_t *valid = room(B * 8);
    for (int64_t i = 0; i < B * H * W; i++) {
        const int64_t b = i / (H * W), y = i / W % H, x = i % W;
        valid[2 * b] += y == 0 && real[i];
        valid[2 * b + 1] += x == 0 && real[i];
    }
    dd_op_sine_position op = {.valid = valid,
                              .y = zeros(B * H * W * C),
                              .y_stride = H * W * C,
                              .B = (int32_t)B,
                              .H = (int32_t)H,
                              .W = (int32_t)W,
                              .C = (int32_t)C,
                              .temperature = 10000,
                              .offset = strstr(running, "deformable") ? -0.5 : 0};
    run(DD_OPERATOR_sine_position, &op);
    double *wanted = room(B * H * W * C * 8);
    void *got = zeros(B * H * W * C);
    for (int64_t i = 0; i < B * H * W * C; i++) {
        const int64_t b = i / (C * H * W), c = i / (H * W) % C, p = i % (H * W);
        wanted[i] = (double)want[i];
        put(got, i, real[b * H * W + p] ? get(op.y, (b * H * W + p) * C + c) : 0);
    }
    compare_made("out.y", got, wanted, B * H * W * C);
}

static void coord_embed(void)
{
    dd_op_coord_embed op = {.x = reals("in.xy"),
                            .y = zeros(count_of("out.y")),
                            .g_y = reals("gout.y"),
                            .g_x = zeros(count_of("in.xy")),
                            .rows = count_of("in.xy") / 2,
                            .coordinates = 2,
                            .n = 24,
                            .order = {1, 0},
                            .scale = 2 * 3.14159265358979323846,
                            .temperature = 10000};
    run(DD_OPERATOR_coord_embed, &op);
    compare("out.y", op.y);
    run(DD_OPERATOR_coord_embed_grad, &op);
    compare("grad.xy", op.g_x);
}

static void proposal_embed(void)
{
    const int64_t count = count_of("in.logit");
    const dd_op_sigmoid sigmoid = {.x = reals("in.logit"), .y = zeros(count), .count = count};
    run(DD_OPERATOR_sigmoid, &sigmoid);
    const dd_op_coord_embed op = {.x = sigmoid.y,
                                  .y = zeros(count_of("out.y")),
                                  .rows = count / 4,
                                  .coordinates = 4,
                                  .n = 16,
                                  .order = {0, 1, 2, 3},
                                  .scale = 2 * 3.14159265358979323846,
                                  .temperature = 10000};
    run(DD_OPERATOR_coord_embed, &op);
    compare("out.y", op.y);
}

static void reference_points(void)
{
    const int64_t L = size("in.shapes", 0), S = size("out.ref", 1), B = size("out.ref", 0);
    dd_op_msda shape = {0};
    levels(&shape);
    dd_op_grid_points op = {.ratio = reals("in.valid_ratios"), .y = zeros(B * S * 2), .S = S, .B = (int32_t)B, .L = (int32_t)L};
    memcpy(op.height, shape.height, sizeof op.height);
    memcpy(op.width, shape.width, sizeof op.width);
    run(DD_OPERATOR_grid_points, &op);
    void *got = zeros(B * S * L * 2);
    for (int64_t i = 0; i < B * S * L * 2; i++) {
        const int64_t b = i / (S * L * 2), token = i / (L * 2), l = i / 2 % L;
        put(got, i, get(op.y, token * 2 + i % 2) * get(op.ratio, (b * L + l) * 2 + i % 2));
    }
    compare("out.ref", got);
}

static const struct {
    const char *name;
    void (*replay)(void);
} cases[] = {{"msda_core", msda_core},
             {"msda_core_integer", msda_core},
             {"msda_module_2d", msda_module},
             {"msda_module_4d", msda_module},
             {"mha_key_padding", multi_head},
             {"mha_additive_bias", multi_head},
             {"sine_position_deformable", sine_position},
             {"sine_position_conditional", sine_position},
             {"coord_embed_yx", coord_embed},
             {"proposal_embed_xywh", proposal_embed},
             {"encoder_reference_points", reference_points}};

static dd_context *open_context(void)
{
    const char *device = getenv("DETRDISTILL_GOLDEN_DEVICE"), *isa = getenv("DETRDISTILL_GOLDEN_ISA"),
               *type = getenv("DETRDISTILL_GOLDEN_DTYPE");
    char options[PATH];
    dd_context *context;
    dtype = type && strcmp(type, "f64") == 0 ? DD_F64 : DD_F32;
    snprintf(options, sizeof options, "device=%s%s%s", device ? device : "ref", isa ? " isa=" : "", isa ? isa : "");
    if (dd_context_create(&context, options) != DD_OK) {
        die("context");
    }
    ddi_exec_init(&exec, context);
    return context;
}

int main(int count, char **words)
{
    dd_context *context = open_context();
    folder = count == 2 ? words[1] : "";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[PATH];
        running = cases[i].name;
        snprintf(path, sizeof path, "%s/%s.safetensors", folder, running);
        if (dd_tensorfile_open(&file, path) != DD_OK) {
            die(path);
        }
        cases[i].replay();
        dd_tensorfile_free(file);
        while (kept_count > 0) {
            free(kept[--kept_count]);
        }
    }
    ddi_exec_free(&exec);
    dd_context_free(context);
    printf("%d passed, %d failed\n", compared - failed, failed);
    return failed > 0;
}
