/* SPDX-License-Identifier: Apache-2.0
 * The operators of an AdaMixer stage on the tape, in f64: gradients against central differences, positions and boxes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tape/tape.h"
#include <detrdistill/detrdistill.h>

#include <math.h>
#include <string.h>

enum { B = 2, N = 3, G = 2, C = 2, IN = 3, OUT = 4, D = G * C, S = 4 * 5 + 2 * 3, EACH = C * C + OUT * IN };

typedef struct stage {
    dd_context *context;
    ddi_exec exec;
    ddi_params params;
    ddi_param *content, *tokens, *offsets, *generator, *tau, *delta, *boxes;
    ddi_tape tape;
    double next[B * N * 4];
} stage;

static const int32_t size[2 * B] = {20, 16, 17, 13};

static ddi_param *param(stage *s, const char *name, bool trained, int32_t ndim, const int64_t *shape)
{
    const ddi_init start = {DDI_INIT_UNIFORM, 0.8, 0};
    return ddi_params_add(&s->params, name, start, DDI_GROUP_MAIN, trained, ndim, shape);
}

static void open_stage(stage *s)
{
    memset(s, 0, sizeof *s);
    assert_int_equal(dd_context_create(&s->context, "device=ref threads=2 seed=3"), DD_OK);
    ddi_exec_init(&s->exec, s->context);
    ddi_params_init(&s->params, s->context, DD_F64);
    s->content = param(s, "content", true, DDI_SHAPE(B, N, D));
    s->tokens = param(s, "tokens", true, DDI_SHAPE(B, S, D));
    s->offsets = param(s, "offsets", true, DDI_SHAPE(G * IN * 3, D));
    s->generator = param(s, "generator", true, DDI_SHAPE(G * EACH, D));
    s->tau = param(s, "tau", true, DDI_SHAPE(2));
    s->delta = param(s, "delta", true, DDI_SHAPE(4, G * OUT * C));
    s->boxes = param(s, "boxes", false, DDI_SHAPE(N, 4));
    assert_int_equal(ddi_params_allocate(&s->params, &s->exec, 11), DD_OK);
    assert_int_equal(ddi_params_allocate_grad(&s->params, &s->exec), DD_OK);
    double *box = (double *)(void *)s->boxes->data;
    for (int64_t i = 0; i < 4 * N; i++) {
        box[i] = i % 4 < 2 ? 0.5 + 0.2 * box[i] : 0.5 + 0.3 * box[i];
    }
    ddi_tape_init(&s->tape, &s->exec, DD_F64, false);
}

static void close_stage(stage *s)
{
    ddi_tape_free(&s->tape);
    ddi_params_free(&s->params, &s->exec);
    ddi_exec_free(&s->exec);
    dd_context_free(s->context);
}

static ddi_value *forward(stage *s)
{
    const ddi_levels levels = {.count = 2, .height = {4, 2}, .width = {5, 3}, .first = {0, 20}, .tokens = S};
    ddi_tape *t = &s->tape;
    ddi_value *wh = ddi_bytes(t, sizeof size), *next;
    memcpy(wh->data, size, sizeof size);
    ddi_value *position = ddi_xyzr_start(t, ddi_param_value(t, s->boxes), B, wh);
    ddi_value *a = ddi_plus(t, ddi_param_value(t, s->content), ddi_xyzr_embed(t, position, D / 4));
    const ddi_attention_spec spec = {.bias = ddi_iof_bias(t, position, s->tau), .heads = 2, .scale = 0.7};
    ddi_value *q = ddi_layernorm(t, a, ddi_attention(t, a, a, a, &spec), NULL, NULL, 0);
    ddi_value *off = ddi_linear(t, q, s->offsets, NULL, false, NULL);
    ddi_value *x = ddi_sample3d(t, ddi_param_value(t, s->tokens), off, position, &levels, G);
    ddi_value *z = ddi_mixing(t, x, ddi_linear(t, q, s->generator, NULL, false, NULL), OUT);
    ddi_value *boxes = ddi_xyzr_refine(t, position, ddi_linear(t, z, s->delta, NULL, false, NULL), wh, &next, NULL);
    assert_int_equal(t->status, DD_OK);
    memcpy(s->next, next->data, sizeof s->next);
    return boxes;
}

static double run(stage *s, bool backward)
{
    double sum = 0;
    ddi_tape_reset(&s->tape);
    s->tape.record = backward;
    ddi_value *y = forward(s);
    double *grad = backward ? ddi_seed(&s->tape, y) : NULL;
    for (int64_t i = 0; i < y->count; i++) {
        const double weight = sin(1.7 * (double)i + 0.4);
        sum += weight * ((const double *)(const void *)y->data)[i];
        if (grad) {
            grad[i] = weight;
        }
    }
    if (backward) {
        assert_int_equal(ddi_params_zero_grad(&s->params, &s->exec), DD_OK);
        assert_int_equal(ddi_tape_backward(&s->tape), DD_OK);
    }
    return sum;
}

static bool agrees(stage *s, double *x, double grad)
{
    for (double h = 1e-5; h > 1e-8; h /= 10) { /* smaller where a kink lies between the ends */
        const double before = *x;
        *x = before + h;
        const double above = run(s, false);
        *x = before - h;
        const double below = run(s, false);
        *x = before;
        if (fabs((above - below) / (2 * h) - grad) < 1e-6 * (1 + fabs(grad))) {
            return true;
        }
    }
    return false;
}

static void gradients_by_differences(void **state)
{
    stage s;
    open_stage(&s);
    run(&s, true);
    for (int32_t i = 0; i < s.params.count; i++) {
        const ddi_param *p = s.params.all[i];
        double largest = 0;
        for (int64_t k = 0; p->grad && k < p->count; k++) {
            const double grad = ((const double *)(const void *)p->grad)[k];
            largest = fmax(largest, fabs(grad));
            if (!agrees(&s, (double *)(void *)p->data + k, grad)) {
                fail_msg("%s[%d]: gradient %.9g is not what differences give", p->name, (int)k, grad);
            }
        }
        assert_true(!p->trained || largest > 1e-6);
    }
    close_stage(&s);
}

/* A box of the image's size lies at its centre; without a step, boxes come back as they were. */
static void positions_and_boxes(void **state)
{
    stage s;
    open_stage(&s);
    memset(s.delta->data, 0, (size_t)s.delta->count * sizeof(double));
    double *box = (double *)(void *)s.boxes->data;
    for (int k = 0; k < 4; k++) {
        box[k] = k < 2 ? 0.5 : 1;
    }
    ddi_tape_reset(&s.tape);
    s.tape.record = false;
    const ddi_value *y = forward(&s);
    for (int64_t i = 0; i < y->count; i++) {
        assert_true(fabs(((const double *)(const void *)y->data)[i] - box[i % (4 * N)]) < 1e-12);
    }
    for (int b = 0; b < B; b++) {
        const double w = size[2 * b], h = size[2 * b + 1], *at = s.next + (ptrdiff_t)b * N * 4;
        assert_true(at[0] == w / 2 && at[1] == h / 2);
        assert_true(fabs(at[2] - log2(sqrt(w * h))) < 1e-12 && fabs(at[3] - log2(h / w)) < 1e-12);
    }
    close_stage(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_by_differences),
        cmocka_unit_test(positions_and_boxes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
