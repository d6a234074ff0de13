/* SPDX-License-Identifier: Apache-2.0
 * A small ResNet in f64: what is trained, gradients by central differences through its folded norms, and the same values
 * whether norms are folded once or in every pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "nn/resnet.h"
#include <detrdistill/detrdistill.h>

#include <math.h>
#include <string.h>

enum { SIDE = 33 };

typedef struct network {
    dd_context *context;
    ddi_exec exec;
    ddi_params params;
    ddi_resnet resnet;
    ddi_tape tape;
    double image[SIDE * SIDE * 3];
} network;

/* Statistics and affine parts away from the identity, which would hide what they do. */
static void spread(const ddi_param *p, double low, double high)
{
    double *x = (double *)(void *)p->data;
    for (int64_t i = 0; i < p->count; i++) {
        x[i] = low + (high - low) * (0.5 + 0.5 * sin(2.3 * (double)i + 0.1 * (double)strlen(p->name)));
    }
}

static void open_network(network *n, bool bottleneck, bool train_affine)
{
    const ddi_resnet_config config = {.names = DDI_RESNET_TORCHVISION,
                                      .bottleneck = bottleneck,
                                      .train_affine = train_affine,
                                      .depth = {1, 1, 2, 1},
                                      .stem = 3,
                                      .width = {4, 4, 8, 8}};
    ddi_build build = {.params = &n->params, .trained = true};
    memset(n, 0, sizeof *n);
    assert_int_equal(dd_context_create(&n->context, "device=ref threads=2 seed=3"), DD_OK);
    ddi_exec_init(&n->exec, n->context);
    ddi_params_init(&n->params, n->context, DD_F64);
    assert_int_equal(ddi_resnet_build(&n->resnet, &build, "b.", &config), DD_OK);
    assert_int_equal(ddi_params_allocate(&n->params, &n->exec, 9), DD_OK);
    assert_int_equal(ddi_params_allocate_grad(&n->params, &n->exec), DD_OK);
    for (int32_t i = 0; i < n->params.count; i++) {
        const ddi_param *p = n->params.all[i];
        if (strstr(p->name, "running_var")) {
            spread(p, 0.3, 1.5);
        } else if (strstr(p->name, "running_mean")) {
            spread(p, -0.4, 0.4);
        } else if (p->ndim == 1) {
            spread(p, strstr(p->name, "bias") ? -0.2 : 0.7, strstr(p->name, "bias") ? 0.4 : 1.4);
        }
    }
    for (int64_t i = 0; i < SIDE * SIDE * 3; i++) {
        n->image[i] = sin(0.37 * (double)i) + 0.5 * cos(1.9 * (double)i);
    }
    assert_int_equal(ddi_resnet_fold(&n->resnet, &n->exec, DD_F64), DD_OK);
    ddi_tape_init(&n->tape, &n->exec, DD_F64, false);
}

static void close_network(network *n)
{
    ddi_tape_free(&n->tape);
    ddi_resnet_free(&n->resnet, &n->exec);
    ddi_params_free(&n->params, &n->exec);
    ddi_exec_free(&n->exec);
    dd_context_free(n->context);
}

/* A weighted sum of all stages' outputs; backward: its gradients. */
static double run(network *n, bool backward)
{
    ddi_tape *t = &n->tape;
    ddi_value *stage[4];
    double sum = 0;
    ddi_tape_reset(t);
    t->record = backward;
    ddi_resnet_forward(t, &n->resnet, ddi_constant(t, n->image, DDI_SHAPE(1, SIDE, SIDE, 3)), stage);
    assert_int_equal(t->status, DD_OK);
    for (int s = 0; s < 4; s++) {
        double *grad = backward ? ddi_seed(t, stage[s]) : NULL;
        for (int64_t i = 0; i < stage[s]->count; i++) {
            const double weight = sin(1.7 * (double)i + s);
            sum += weight * ((const double *)(const void *)stage[s]->data)[i];
            if (grad) {
                grad[i] = weight;
            }
        }
    }
    if (backward) {
        assert_int_equal(ddi_params_zero_grad(&n->params, &n->exec), DD_OK);
        assert_int_equal(ddi_tape_backward(t), DD_OK);
    }
    return sum;
}

/* A ReLU or a window may change sides between the two ends of a difference: then a smaller step must agree. */
static bool agrees(network *n, double *x, double grad)
{
    for (double h = 1e-5; h > 1e-8; h /= 10) {
        const double before = *x;
        *x = before + h;
        const double above = run(n, false);
        *x = before - h;
        const double below = run(n, false);
        *x = before;
        if (fabs((above - below) / (2 * h) - grad) < 1e-6 * (1 + fabs(grad))) {
            return true;
        }
    }
    return false;
}

static void check_gradients(bool bottleneck, bool train_affine)
{
    network n;
    open_network(&n, bottleneck, train_affine);
    run(&n, true);
    for (int32_t i = 0; i < n.params.count; i++) {
        const ddi_param *p = n.params.all[i];
        const bool stays = !strncmp(p->name, "b.conv1", 7) || !strncmp(p->name, "b.bn1", 5) || strstr(p->name, "layer1.");
        const bool statistics = strstr(p->name, "running") != NULL, affine = p->ndim == 1 && !statistics;
        assert_int_equal(p->trained, !stays && !statistics && (train_affine || !affine));
        if (!p->trained) {
            assert_null(p->grad);
            continue;
        }
        for (int64_t k = 0; k < p->count; k += affine ? 1 : 1 + p->count / 7) {
            const double grad = ((const double *)(const void *)p->grad)[k];
            if (!agrees(&n, (double *)(void *)p->data + k, grad)) {
                fail_msg("%s[%d]: gradient %.9g is not what differences give", p->name, (int)k, grad);
            }
        }
    }
    close_network(&n);
}

static void gradients_by_differences(void **state)
{
    check_gradients(false, true);
    check_gradients(true, true);
    check_gradients(true, false);
}

static void folding_does_not_change_values(void **state)
{
    network once, always;
    open_network(&once, true, false);
    open_network(&always, true, true);
    const double a = run(&once, false), b = run(&always, false);
    assert_true(fabs(a - b) <= 1e-12 * fabs(a));
    assert_true(run(&always, true) == b);
    close_network(&once);
    close_network(&always);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_by_differences),
        cmocka_unit_test(folding_does_not_change_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
