/* SPDX-License-Identifier: Apache-2.0
 * R1 for models: fallible calls of making, loading, running and saving a model fail one after the other, once and for good. A
 * clean status each time, nothing lost, and a folder that is the old one or the new one. */
#include "base/alloc.h"
#include <detrdistill/detrdistill.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TINY                                                                                                                   \
    "backbone=resnet-18 stem=8 depths=1,1,1,1 widths=8,8,8,8 width=32 heads=2 points=1 ffn=16 encoder-layers=1 "               \
    "decoder-layers=1 queries=5 classes=3 "
/* A model of each family, and a gradient that all of the backward pass goes into (32 numbers or more). */
static const struct {
    const char *options, *gradient;
} families[] = {{TINY "refine=1 two-stage=1", "model.input_proj.0.0.weight"},
                {TINY "family=conditional-detr levels=1", "model.input_projection.weight"},
                {TINY "family=dino", "model.input_proj.0.0.weight"},
                {TINY "family=adamixer encoder-layers=0 in-points=2 out-points=3", "model.input_proj.0.weight"}};
enum { FAMILIES = sizeof families / sizeof families[0] };

enum { SIDE = 40 };

static dd_context *context;
static int family;
static char folder[64];
static float pixels[3 * SIDE * SIDE];

static void good(dd_status status)
{
    if (status != DD_OK) {
        fail_msg("%s", dd_error_message());
    }
}

static dd_tensor image(void)
{
    dd_tensor x;
    good(dd_tensor_init(&x, pixels, DD_F32, 4, (const int64_t[]){1, SIDE, SIDE, 3}, NULL, DD_DEVICE_CPU, 0, 0));
    return x;
}

/* Makes the n-th fallible call fail, for growing n, until none does. `also`: another status that is fine. */
static void sweep(dd_status (*attempt)(void *), void *user, dd_status also)
{
    for (int32_t for_good = 0; for_good < 2; for_good++) {
        int64_t points = 0;
        for (int64_t n = 1;; n += 1 + n / 50) {
            const int64_t before = ddi_default_allocator.live_blocks;
            int64_t host[2];
            good(dd_context_memory(context, &host[0], NULL, NULL, NULL, NULL));
            dd_fault_set(n, for_good);
            const dd_status status = attempt(user);
            const bool failed = dd_fault_set(0, 0) >= n;
            good(dd_context_memory(context, &host[1], NULL, NULL, NULL, NULL));
            if (ddi_default_allocator.live_blocks != before || (!user && host[0] != host[1])) {
                fail_msg("call %lld failed%s: memory is lost", (long long)n, for_good ? " for good" : "");
            }
            if (failed ? status != DD_ERR_NOMEM && status != DD_ERR_IO && status != also : status != DD_OK) {
                fail_msg("call %lld failed%s: status %s", (long long)n, for_good ? " for good" : "", dd_status_name(status));
            }
            if (!failed) {
                break;
            }
            points++;
        }
        assert_true(points > 3);
    }
}

static dd_status make(void *user)
{
    dd_model *model = NULL;
    const dd_status status = dd_model_create(&model, context, families[family].options);
    dd_model_free(model);
    return status;
}

static dd_status load(void *user)
{
    dd_model *model = NULL;
    const dd_status status = dd_model_load(&model, context, folder, NULL);
    dd_model_free(model);
    return status;
}

/* A checkpoint without its configuration. */
static dd_status load_file(void *user)
{
    char path[128];
    dd_model *model = NULL;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    const dd_status status = dd_model_load(&model, context, path, "heads=2 queries=5");
    dd_model_free(model);
    return status;
}

static dd_status pass(void *user)
{
    dd_model *model = user;
    const dd_tensor x = image();
    dd_tensor seed;
    int32_t count;
    dd_status status = dd_model_forward(model, &x, NULL);
    if (status == DD_OK) {
        status = dd_model_detections(model, 0, 10, 10, 9, 0, &count, NULL, NULL, NULL, NULL);
    }
    if (status == DD_OK) {
        status = dd_model_seed(model, "logits", &seed);
    }
    if (status == DD_OK) {
        ((float *)seed.data)[0] = 1;
        status = dd_model_backward(model);
    }
    return status;
}

static dd_status export(void *user)
{
    char file[512];
    snprintf(file, sizeof file, "%s/official.safetensors", folder);
    return dd_model_export(user, file, "names=official coco-ids=1");
}

static dd_status save(void *user)
{
    return dd_model_save(user, folder);
}

/* The folder holds a model of the family from now on. */
static void begin_family(int number)
{
    dd_model *model;
    family = number;
    good(dd_model_create(&model, context, families[family].options));
    good(dd_model_save(model, folder));
    dd_model_free(model);
}

static void making_and_loading(void **state)
{
    for (int i = 0; i < FAMILIES; i++) {
        begin_family(i);
        sweep(make, NULL, DD_ERR_NOMEM);
        sweep(load, NULL, DD_ERR_NOMEM);
        sweep(load_file, NULL, DD_OK); /* whether there is a configuration beside it may fail to be found out */
    }
}

static void assert_same_gradients(dd_model *model, dd_model *other)
{
    dd_tensor a, b;
    good(dd_model_gradient(model, families[family].gradient, &a));
    good(dd_model_gradient(other, families[family].gradient, &b));
    assert_memory_equal(a.data, b.data, 32 * 4);
}

/* A model goes on after a first pass that failed, to the same bits. */
static void fail_passes(void)
{
    dd_model *undisturbed;
    int64_t points = 0;
    good(dd_model_load(&undisturbed, context, folder, NULL));
    good(pass(undisturbed));
    for (int64_t n = 1;; n++) {
        dd_model *model;
        good(dd_model_load(&model, context, folder, NULL));
        dd_fault_set(n, (int32_t)(n % 2));
        dd_status status = pass(model);
        const bool failed = dd_fault_set(0, 0) >= n;
        assert_int_equal(status, failed ? DD_ERR_NOMEM : DD_OK);
        if (failed) {
            good(dd_model_zero_gradients(model));
            good(pass(model));
        }
        assert_same_gradients(model, undisturbed);
        dd_model_free(model);
        if (!failed) {
            break;
        }
        points++;
    }
    assert_true(points > 5);
    dd_model_free(undisturbed);
}

static void passes(void **state)
{
    for (int i = 0; i < FAMILIES; i++) {
        begin_family(i);
        fail_passes();
    }
}

static void saving(void **state)
{
    dd_model *model, *again;
    begin_family(0);
    good(dd_model_load(&model, context, folder, NULL));
    good(dd_model_set_class(model, 1, "cat"));
    for (int k = 0; k < 2; k++) {
        sweep(save, model, DD_ERR_NOMEM);
        sweep(export, model, DD_ERR_NOMEM);
        good(dd_model_load(&again, context, folder, NULL));
        dd_model_free(again);
    }
    dd_model_free(model);
}

static int set_up(void **state)
{
    dd_eval *all[200];
    for (int i = 0; i < 3 * SIDE * SIDE; i++) {
        pixels[i] = (float)(i * 31 % 101) / 50 - 1;
    }
    snprintf(folder, sizeof folder, "/tmp/dd-faults-XXXXXX");
    for (int i = 0; i < 200; i++) { /* the table of handles keeps its size */
        good(dd_eval_create(&all[i]));
    }
    for (int i = 0; i < 200; i++) {
        dd_eval_free(all[i]);
    }
    good(dd_context_create(&context, "device=ref threads=1"));
    return mkdtemp(folder) ? 0 : 1;
}

static int tear_down(void **state)
{
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/official.safetensors", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/config.json", folder);
    unlink(path);
    dd_context_free(context);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(making_and_loading), cmocka_unit_test(passes),
                                       cmocka_unit_test(saving)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
