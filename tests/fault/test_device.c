/* SPDX-License-Identifier: Apache-2.0
 * R3, R39: the whole distiller and matcher on a device whose memory is not the host's: the bits of the reference; then with
 * each of its calls failing: a status comes back, memory returns, the next step is good again. */
#include "../distiller/case.h"
#include "../distiller/guard.h"
#include "module_folder.h"
#include "modules/device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static fake_device_state *fake;
static dd_context *device, *host;

static char folder[64];

static int open_device(void **state)
{
    char options[128], path[128];
    snprintf(folder, sizeof folder, "%s", module_folder("libfake-device.so", "cuda"));
    snprintf(options, sizeof options, "device=cuda modules=%s", folder);
    snprintf(path, sizeof path, "%s/libdetrdistill-cuda.so", folder);
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    union {
        void *object;
        fake_device_fn function;
    } entry = {module ? dlsym(module, "fake_device") : NULL};
    if (!entry.object)
        return -1;
    fake = entry.function();
    return dd_context_create(&host, "device=ref") != DD_OK || dd_context_create(&device, options) != DD_OK;
}

static int close_device(void **state)
{
    dd_context_free(device);
    dd_context_free(host);
    module_folder_remove(folder, "cuda");
    return 0;
}

/* The case's tensors count as device memory; objects and sizes may stay on the host. */
static void move_to_device(kd_case *c, bool objects)
{
    for (int32_t i = 0; i < c->count; i++)
        if (objects || (strncmp(c->tensor[i].name, "gt.", 3) != 0 && strcmp(c->tensor[i].name, "image.sizes") != 0))
            c->tensor[i].view.device_type = DD_DEVICE_CUDA;
}

static const char *const options[] = {"", "profile=paper", "contrastive=1 contrastive-width=4 nonfinite=skip",
                                      "split=1 prior=group nonfinite=clamp"};

static kd_case *make_case(int k, bool on_device)
{
    case_sizes s = case_small;
    s.parts = k == 2 ? CASE_DENOISING | CASE_PADDING : CASE_DENOISING | CASE_CROWD;
    s.student_height = 9;
    kd_case *c = case_make(s, (uint64_t)k);
    case_restore(case_find(c, "student.boxes"), DD_BF16, NULL, 1);
    case_restore(case_find(c, "prior.boxes.grad"), DD_F32, (int32_t[]){2, 0, 1, 3}, 1);
    case_restore(case_find(c, "prior.logits.grad"), DD_F16, (int32_t[]){3, 0, 1, 2}, 0);
    if (k >= 2)
        tensor_set(&case_find(c, "student.logits")->view, 3, 1.0 / 0.0);
    if (on_device)
        move_to_device(c, k % 2);
    case_mark_gradients(c);
    return c;
}

static dd_distiller *open_on(dd_context *context, int k, kd_case *c)
{
    dd_distiller *d;
    GOOD(dd_distiller_create(&d, context, options[k]));
    assert_int_equal(case_bind(c, d, true), DD_OK);
    return d;
}

static void reference_bits(int k, uint64_t expected[2])
{
    kd_case *c = make_case(k, false);
    dd_distiller *d = open_on(host, k, c);
    GOOD(dd_distiller_step(d, NULL));
    expected[0] = case_hash_gradients(c);
    expected[1] = case_hash_terms(d);
    dd_distiller_free(d);
    case_free(c);
}

static void expect_nothing_held(void)
{
    int64_t on_device;
    GOOD(dd_context_memory(device, NULL, NULL, &on_device, NULL, NULL));
    assert_int_equal(on_device, 0);
    assert_int_equal(fake->live, 0);
}

static void a_step_gives_the_bits_of_the_reference(void **state)
{
    for (int k = 0; k < 4; k++) {
        uint64_t expected[2];
        reference_bits(k, expected);
        kd_case *c = make_case(k, true);
        dd_distiller *d = open_on(device, k, c);
        for (int step = 0; step < 3; step++) {
            GOOD(dd_distiller_step(d, NULL));
            assert_true(case_hash_gradients(c) == expected[0]);
            assert_true(case_hash_terms(d) == expected[1]);
        }
        static const char *const names[] = {"match.det", "match.logits", "features.quality", "features.weight.0",
                                            "terms.features"};
        for (int i = 0; i < 5; i++) {
            dd_tensor view;
            GOOD(dd_distiller_result(d, names[i], &view));
            assert_int_equal(view.device_type, DD_DEVICE_CPU);
        }
        dd_distiller_free(d);
        expect_nothing_held();
        case_free(c);
    }
}

static void tensors_on_the_wrong_device(void **state)
{
    kd_case *c = make_case(0, true);
    dd_distiller *d = open_on(device, 0, c), *on_host;
    dd_tensor view = case_find(c, "student.logits")->view;
    view.device_index = 1;
    FAILS(DD_ERR_DEVICE, dd_distiller_bind(d, "student.logits", &view));
    view.device_index = 0;
    view.device_type = DD_DEVICE_CPU;
    FAILS(DD_ERR_DEVICE, dd_distiller_bind(d, "student.logits", &view));
    GOOD(dd_distiller_create(&on_host, host, ""));
    view.device_type = DD_DEVICE_CUDA;
    FAILS(DD_ERR_DEVICE, dd_distiller_bind(on_host, "student.logits", &view));
    view = case_find(c, "image.sizes")->view;
    view.device_type = DD_DEVICE_CUDA;
    FAILS(DD_ERR_DEVICE, dd_distiller_bind(on_host, "image.sizes", &view));
    dd_distiller_free(on_host);
    dd_distiller_free(d);
    case_free(c);
}

static void reset_failures(void)
{
    for (int i = 0; i < FAKE_CALLS; i++)
        fake->calls[i] = fake->fail_at[i] = 0;
    fake->for_good = fake->lost = 0;
}

/* The first step of a handle with the n-th call of a kind failing. false: there was no n-th call. */
static bool disturbed_step(int k, fake_call call, int64_t n, int32_t for_good, const uint64_t expected[2])
{
    kd_case *c = make_case(k, true);
    dd_distiller *d = open_on(device, k, c);
    double total = -1;
    reset_failures();
    fake->fail_at[call] = n;
    fake->for_good = for_good;
    dd_status status = CALL(dd_distiller_step(d, &total));
    bool failed = fake->calls[call] >= n, zero_works = call != FAKE_ZERO || !for_good;
    reset_failures();
    if (failed) {
        if (status != (call == FAKE_ALLOC ? DD_ERR_NOMEM : DD_ERR_BACKEND))
            fail_msg("%s: call %d number %lld: %s, %s", options[k], call, (long long)n, dd_status_name(status),
                     dd_error_message());
        if (call != FAKE_ALLOC)
            SAYS("told to fail");
        assert_true(total == -1);
        if (zero_works && !case_gradients_untouched_or_zero(c))
            fail_msg("%s: call %d number %lld left a gradient half written", options[k], call, (long long)n);
        FAILS(DD_ERR_STATE, dd_distiller_term_get(d, "loss.total", &total));
        GOOD(dd_distiller_step(d, NULL));
    } else {
        assert_int_equal(status, DD_OK);
    }
    assert_true(case_hash_terms(d) == expected[1]);
    assert_true(case_hash_gradients(c) == expected[0]);
    dd_distiller_free(d);
    expect_nothing_held();
    case_free(c);
    return failed;
}

static void every_call_fails(void **state)
{
    int64_t points = 0;
    for (int k = 0; k < 4; k++) {
        uint64_t expected[2];
        reference_bits(k, expected);
        for (int call = 0; call < FAKE_CALLS; call++)
            for (int32_t for_good = 0; for_good < 2; for_good++)
                for (int64_t n = 1; disturbed_step(k, (fake_call)call, n, for_good, expected); n++)
                    points++;
    }
    print_message("%lld device calls were made to fail\n", (long long)points);
    assert_true(points > 500);
}

static void a_matcher_with_every_call_failing(void **state)
{
    for (int call = 0; call < FAKE_CALLS; call++) {
        for (int64_t n = 1, failed = 1; failed; n++) {
            kd_case *c = make_case(0, true);
            dd_matcher *m;
            const int32_t *match;
            GOOD(dd_matcher_create(&m, device, "with=teacher split=1"));
            assert_int_equal(case_bind_matcher(c, m, true), DD_OK);
            reset_failures();
            fake->fail_at[call] = n;
            dd_status status = CALL(dd_matcher_run(m));
            failed = fake->calls[call] >= n;
            reset_failures();
            assert_int_equal(status, !failed ? DD_OK : call == FAKE_ALLOC ? DD_ERR_NOMEM : DD_ERR_BACKEND);
            if (failed)
                FAILS(DD_ERR_STATE, dd_matcher_get(m, 0, 0, &match, NULL, NULL));
            GOOD(dd_matcher_run(m));
            GOOD(dd_matcher_get(m, 0, 0, &match, NULL, NULL));
            dd_matcher_free(m);
            expect_nothing_held();
            case_free(c);
        }
    }
}

static void a_lost_device(void **state)
{
    kd_case *c = make_case(0, true);
    dd_distiller *d = open_on(device, 0, c);
    GOOD(dd_distiller_step(d, NULL));
    fake->lost = 1;
    for (int i = 0; i < 3; i++)
        FAILS(DD_ERR_BACKEND, dd_distiller_step(d, NULL));
    uint64_t unused[2];
    reference_bits(0, unused); /* work on the CPU goes on */
    dd_distiller_free(d);
    reset_failures();
    expect_nothing_held();
    case_free(c);
}

static dd_context *cancelled_context;

static int32_t cancel(void *user, double *values, int32_t count)
{
    dd_context_cancel(cancelled_context, 1);
    return 0;
}

static void cancelling_on_a_device(void **state)
{
    kd_case *c = make_case(0, true);
    dd_distiller *d = open_on(device, 0, c);
    cancelled_context = device;
    GOOD(dd_distiller_set_mean(d, cancel, NULL));
    FAILS(DD_ERR_CANCELLED, dd_distiller_step(d, NULL));
    assert_true(case_gradients_untouched_or_zero(c));
    dd_context_cancel(device, 0);
    dd_distiller_free(d);
    case_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_gives_the_bits_of_the_reference),
        cmocka_unit_test(tensors_on_the_wrong_device),
        cmocka_unit_test(every_call_fails),
        cmocka_unit_test(a_matcher_with_every_call_failing),
        cmocka_unit_test(a_lost_device),
        cmocka_unit_test(cancelling_on_a_device),
        cmocka_unit_test(every_status_is_documented),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
