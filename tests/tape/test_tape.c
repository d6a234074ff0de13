/* SPDX-License-Identifier: Apache-2.0
 * The tape without a model: parts joined and taken, masks, layers that are run again on the way back; gradients against central
 * differences in f64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/exec.h"
#include "tape/node.h"
#include "tape/params.h"
#include "tape/tape.h"
#include <detrdistill/detrdistill.h>

#include <math.h>
#include <string.h>

enum { PARAMETERS = 8, MOST = 128 };

typedef struct graph {
    dd_context *context;
    ddi_exec exec;
    ddi_params params;
    ddi_param *a, *b, *w, *bias, *gamma, *beta, *picture, *points;
    ddi_tape tape;
    bool recomputed;
} graph;

static void open_graph(graph *g, bool recomputed)
{
    const ddi_init start = {DDI_INIT_UNIFORM, 1, 0};
    *g = (graph){.recomputed = recomputed};
    assert_int_equal(dd_context_create(&g->context, "device=ref threads=2 seed=3"), DD_OK);
    ddi_exec_init(&g->exec, g->context);
    ddi_params_init(&g->params, g->context, DD_F64);
    g->a = ddi_params_add(&g->params, "a", start, DDI_GROUP_MAIN, true, DDI_SHAPE(2, 3, 4));
    g->b = ddi_params_add(&g->params, "b", start, DDI_GROUP_MAIN, true, DDI_SHAPE(2, 2, 4));
    g->w = ddi_params_add(&g->params, "w", start, DDI_GROUP_MAIN, true, DDI_SHAPE(4, 4));
    g->bias = ddi_params_add(&g->params, "bias", start, DDI_GROUP_MAIN, true, DDI_SHAPE(4));
    g->gamma = ddi_params_add(&g->params, "gamma", start, DDI_GROUP_MAIN, true, DDI_SHAPE(4));
    g->beta = ddi_params_add(&g->params, "beta", start, DDI_GROUP_MAIN, true, DDI_SHAPE(4));
    g->picture = ddi_params_add(&g->params, "picture", start, DDI_GROUP_MAIN, true, DDI_SHAPE(1, 5, 5, 2));
    g->points = ddi_params_add(&g->params, "points", start, DDI_GROUP_MAIN, true, DDI_SHAPE(1, 3, 2));
    assert_int_equal(ddi_params_allocate(&g->params, &g->exec, 9), DD_OK);
    assert_int_equal(ddi_params_allocate_grad(&g->params, &g->exec), DD_OK);
    ddi_tape_init(&g->tape, &g->exec, DD_F64, false);
}

static void close_graph(graph *g)
{
    ddi_tape_free(&g->tape);
    ddi_params_free(&g->params, &g->exec);
    ddi_exec_free(&g->exec);
    dd_context_free(g->context);
}

static ddi_value *layer(ddi_tape *t, const void *arg, ddi_value *const *in)
{
    const graph *g = arg;
    ddi_value *x = ddi_linear(t, in[0], g->w, g->bias, true, NULL);
    ddi_dropout(t, x, 0.3);
    return ddi_layernorm(t, in[0], x, g->gamma, g->beta, 0.2);
}

static double coefficient(int64_t i)
{
    return sin(1.7 * (double)i + 0.4);
}

/* The loss is a weighted sum of what comes out; its gradient is seeded. */
static double weigh(graph *g, ddi_value *y, bool seeds)
{
    double sum = 0;
    double *grad = seeds ? ddi_seed(&g->tape, y) : NULL;
    for (int64_t i = 0; i < y->count; i++) {
        sum += coefficient(i) * ((const double *)(const void *)y->data)[i];
        if (grad) {
            grad[i] = coefficient(i);
        }
    }
    return sum;
}

static double run(graph *g, bool backward)
{
    static const uint8_t dropped[6] = {0, 1, 0, 0, 0, 1};
    static const int32_t order[] = {1, 0}, rows[] = {2, 0, -1, 2, 3};
    ddi_tape *t = &g->tape;
    ddi_tape_reset(t);
    t->record = backward;
    t->training = true;
    t->seed = 5;
    t->step = 1;
    t->stream = 0;
    ddi_value *a = ddi_param_value(t, g->a), *mask = ddi_bytes(t, sizeof dropped);
    ddi_value *index = ddi_bytes(t, sizeof rows);
    memcpy(mask->data, dropped, sizeof dropped);
    memcpy(index->data, rows, sizeof rows);
    ddi_value *x = ddi_join_rows(t, a, ddi_param_value(t, g->b));
    x = ddi_mask_rows(t, ddi_take_range(t, x, 1, 3), mask);
    for (int i = 0; i < 2; i++) { /* twice, so that gradients of the layer's parameters add up */
        x = g->recomputed ? ddi_recompute(t, layer, g, 1, &x) : layer(t, g, &x);
    }
    x = ddi_plus(t, x, a);
    ddi_value *pooled = ddi_maxpool(t, ddi_param_value(t, g->picture), 3, 2, 1);
    ddi_value *code = ddi_coord_embed(t, ddi_param_value(t, g->points), 4, order, 3);
    ddi_value *heads = ddi_join_heads(t, code, ddi_times(t, code, code), 2);
    ddi_value *looked_up = ddi_lookup(t, g->w, index, 5); /* a row twice, and one that is not there */
    assert_int_equal(t->status, DD_OK);
    const double total = weigh(g, x, backward) + weigh(g, pooled, backward) + weigh(g, code, backward) +
                         weigh(g, heads, backward) + weigh(g, looked_up, backward);
    if (backward) {
        assert_int_equal(ddi_params_zero_grad(&g->params, &g->exec), DD_OK);
        assert_int_equal(ddi_tape_backward(t), DD_OK);
    }
    return total;
}

static void gradients_by_differences(void **state)
{
    const double h = 1e-6;
    for (int recomputed = 0; recomputed < 2; recomputed++) {
        graph g;
        double grad[PARAMETERS][MOST];
        open_graph(&g, recomputed != 0);
        run(&g, true);
        for (int32_t i = 0; i < g.params.count; i++) {
            memcpy(grad[i], g.params.all[i]->grad, (size_t)g.params.all[i]->count * sizeof(double));
        }
        for (int32_t i = 0; i < g.params.count; i++) {
            double *x = (double *)(void *)g.params.all[i]->data;
            for (int64_t k = 0; k < g.params.all[i]->count; k++) {
                const double before = x[k];
                x[k] = before + h;
                const double above = run(&g, false);
                x[k] = before - h;
                const double below = run(&g, false);
                x[k] = before;
                if (!(fabs((above - below) / (2 * h) - grad[i][k]) < 1e-7)) {
                    fail_msg("%s[%d]: numeric %.9g, analytic %.9g", g.params.all[i]->name, (int)k, (above - below) / (2 * h),
                             grad[i][k]);
                }
            }
        }
        close_graph(&g);
    }
}

/* A layer that is run again draws the same random numbers: the same bits as without, and less memory. */
static void recomputed_layers_change_nothing(void **state)
{
    graph g[2];
    double total[2];
    for (int i = 0; i < 2; i++) {
        open_graph(&g[i], i == 1);
        total[i] = run(&g[i], true);
        assert_true(run(&g[i], true) == total[i]); /* and so does the next pass */
    }
    assert_true(total[0] == total[1]);
    for (int32_t p = 0; p < g[0].params.count; p++) {
        const size_t bytes = (size_t)g[0].params.all[p]->count * sizeof(double);
        assert_memory_equal(g[0].params.all[p]->grad, g[1].params.all[p]->grad, bytes);
    }
    close_graph(&g[0]);
    close_graph(&g[1]);
}

static void parameters_that_cannot_be(void **state)
{
    const ddi_init start = {DDI_INIT_UNIFORM, 1, 0};
    graph g;
    open_graph(&g, false);
    assert_null(ddi_params_add(&g.params, "a", start, DDI_GROUP_MAIN, true, DDI_SHAPE(2)));
    assert_non_null(strstr(dd_error_message(), "twice"));
    assert_null(ddi_params_add(&g.params, "c", start, DDI_GROUP_MAIN, true, DDI_SHAPE(1 << 30, 1 << 30)));
    assert_non_null(strstr(dd_error_message(), "too large"));
    assert_null(ddi_params_add(&g.params, "c", start, DDI_GROUP_MAIN, true, DDI_SHAPE(3, 0)));
    close_graph(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_by_differences),
        cmocka_unit_test(recomputed_layers_change_nothing),
        cmocka_unit_test(parameters_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
