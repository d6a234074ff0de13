/* SPDX-License-Identifier: Apache-2.0
 * R1: every fallible call of a scenario fails once, and for good: a clean status, nothing lost, nothing half written, and the
 * handle goes on to the same bits as an undisturbed one. */
#include "../distiller/case.h"
#include "../distiller/guard.h"
#include "base/alloc.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *device; /* options of the context */
static int64_t points;     /* failures provoked so far */

static const char *const devices[] = {"device=ref", CPU_DEVICE " threads=1"};

/* Handles that have come and gone leave the table of handles at its full size, which is no leak. */
static void warm_up(void)
{
    dd_eval *all[200];
    for (int i = 0; i < 200; i++)
        GOOD(dd_eval_create(&all[i]));
    for (int i = 0; i < 200; i++)
        dd_eval_free(all[i]);
    dd_context *context;
    for (int i = 0; i < 2; i++) {
        GOOD(dd_context_create(&context, devices[i]));
        dd_context_free(context);
    }
}

/* Runs `attempt` with its n-th call failing, n = 1, 2, .. until none fails; `attempt` returns what the library said. */
static void sweep(dd_status (*attempt)(void *), void *user, dd_status also)
{
    for (int32_t for_good = 0; for_good < 2; for_good++) {
        for (int64_t n = 1;; n++) {
            int64_t before = ddi_default_allocator.live_blocks;
            dd_fault_set(n, for_good);
            dd_status status = attempt(user);
            bool failed = dd_fault_set(0, 0) >= n;
            int64_t after = ddi_default_allocator.live_blocks;
            if (after != before)
                fail_msg("call %lld failed%s: %lld blocks leaked (%s)", (long long)n, for_good ? " for good" : "",
                         (long long)(after - before), dd_error_message());
            if (failed ? status != DD_ERR_NOMEM && status != also : status != DD_OK)
                fail_msg("call %lld failed%s: status %s, %s", (long long)n, for_good ? " for good" : "", dd_status_name(status),
                         dd_error_message());
            if (!failed)
                break;
            points++;
        }
    }
}

static dd_status create_all(void *user)
{
    dd_context *context = NULL;
    dd_distiller *distiller = NULL;
    dd_matcher *matcher = NULL;
    dd_status status = CALL(dd_context_create(&context, device));
    if (status == DD_OK)
        status = CALL(dd_matcher_create(&matcher, context, "with=teacher split=1"));
    if (status == DD_OK)
        status = CALL(dd_distiller_create(&distiller, context, "profile=paper weight.logits=2"));
    dd_context_free(context);
    dd_distiller_free(distiller);
    dd_matcher_free(matcher);
    return status;
}

static void creating(void **state)
{
    for (int i = 0; i < 2; i++) {
        device = devices[i];
        sweep(create_all, NULL, DD_ERR_NOMEM);
    }
}

/* Bytes that the context's handles hold must be 0 when they are gone. */
static void expect_empty(const dd_context *context, int64_t own)
{
    int64_t host, on_device;
    GOOD(dd_context_memory(context, &host, NULL, &on_device, NULL, NULL));
    assert_int_equal(host, own);
    assert_int_equal(on_device, 0);
}

typedef struct step_scenario {
    const char *options;
    case_sizes sizes;
} step_scenario;

static dd_context *context_for_step;
static int64_t context_bytes;

static dd_distiller *make_distiller(const step_scenario *s, kd_case *c)
{
    dd_distiller *d;
    GOOD(dd_distiller_create(&d, context_for_step, s->options));
    assert_int_equal(case_bind(c, d, true), DD_OK);
    return d;
}

/* One step with the n-th call failing, then a good one, which must give the bits of `expected`. false: no call was left to
 * fail. */
static bool disturbed_step(const step_scenario *s, kd_case *c, int64_t n, int32_t for_good, const uint64_t expected[2])
{
    dd_distiller *d = make_distiller(s, c);
    double total = -1;
    uint64_t inputs = case_hash_inputs(c);
    case_mark_gradients(c);
    dd_fault_set(n, for_good);
    dd_status status = CALL(dd_distiller_step(d, &total));
    bool failed = dd_fault_set(0, 0) >= n;
    assert_int_equal(case_hash_inputs(c), inputs);
    if (failed) {
        points++;
        if (status != DD_ERR_NOMEM)
            fail_msg("%s: call %lld failed: %s, %s", s->options, (long long)n, dd_status_name(status), dd_error_message());
        assert_true(total == -1);
        assert_true(case_gradients_untouched_or_zero(c));
        FAILS(DD_ERR_STATE, dd_distiller_term_get(d, "loss.total", &total));
        GOOD(dd_distiller_step(d, &total));
    } else {
        assert_int_equal(status, DD_OK);
    }
    assert_int_equal(case_hash_gradients(c), expected[0]);
    assert_int_equal(case_hash_terms(d), expected[1]);
    dd_distiller_free(d);
    expect_empty(context_for_step, context_bytes);
    return failed;
}

static void sweep_step(const step_scenario *s)
{
    kd_case *c = case_make(s->sizes, 7);
    GOOD(dd_context_create(&context_for_step, device));
    GOOD(dd_context_memory(context_for_step, &context_bytes, NULL, NULL, NULL, NULL));
    dd_distiller *d = make_distiller(s, c);
    GOOD(dd_distiller_step(d, NULL));
    const uint64_t expected[2] = {case_hash_gradients(c), case_hash_terms(d)};
    dd_distiller_free(d);
    for (int32_t for_good = 0; for_good < 2; for_good++)
        for (int64_t n = 1; disturbed_step(s, c, n, for_good, expected); n++)
            ;
    dd_context_free(context_for_step);
    case_free(c);
}

static case_sizes sizes_with(int32_t parts, int32_t student_width, int32_t student_height)
{
    case_sizes s = case_small;
    s.parts = parts;
    s.student_width = student_width;
    s.student_height = student_height;
    return s;
}

static void stepping(void **state)
{
    case_sizes as_f64 = sizes_with(CASE_ALL, 6, 4);
    as_f64.dtype = DD_F64;
    const step_scenario scenarios[] = {
        {"", sizes_with(0, 6, 0)},
        {"profile=paper", sizes_with(CASE_DENOISING, 8, 3)},
        {"profile=as-published contrastive-width=4", sizes_with(0, 8, 0)},
        {"contrastive=1", sizes_with(CASE_ALL, 6, 9)},
        {"contrastive=1 split=1", as_f64},
        {"nonfinite=clamp prior=group family=dino", sizes_with(CASE_CROWD, 6, 0)},
    };
    for (int i = 0; i < 2; i++) {
        device = devices[i];
        for (size_t k = 0; k < sizeof scenarios / sizeof scenarios[0]; k++)
            sweep_step(&scenarios[k]);
    }
}

/* Tensors that need a copy: bf16 inputs, and gradients whose elements do not lie side by side. */
static void stepping_on_strided_tensors(void **state)
{
    step_scenario s = {"nonfinite=skip", sizes_with(0, 6, 0)};
    for (int i = 0; i < 2; i++) {
        device = devices[i];
        GOOD(dd_context_create(&context_for_step, device));
        GOOD(dd_context_memory(context_for_step, &context_bytes, NULL, NULL, NULL, NULL));
        kd_case *c = case_make(s.sizes, 11);
        case_restore(case_find(c, "teacher.logits"), DD_BF16, NULL, 0);
        case_restore(case_find(c, "student.boxes"), DD_F32, (int32_t[]){1, 0, 2, 3}, 1);
        case_restore(case_find(c, "student.boxes.grad"), DD_F32, (int32_t[]){2, 1, 0, 3}, 2);
        case_restore(case_find(c, "student.logits.grad"), DD_BF16, NULL, 1);
        tensor_set(&case_find(c, "student.logits")->view, 3, (double)NAN);
        case_mark_gradients(c);
        dd_distiller *d = make_distiller(&s, c);
        GOOD(dd_distiller_step(d, NULL));
        const uint64_t expected[2] = {case_hash_gradients(c), case_hash_terms(d)};
        dd_distiller_free(d);
        for (int32_t for_good = 0; for_good < 2; for_good++)
            for (int64_t n = 1; disturbed_step(&s, c, n, for_good, expected); n++)
                ;
        case_free(c);
        dd_context_free(context_for_step);
    }
}

static const char *const results[] = {"match.det",      "match.teacher",    "match.prior",       "match.logits",
                                      "kind.logits",    "pairs.logits",     "cost.det",          "cost.logits",
                                      "features.index", "features.quality", "features.weight.0", "terms.logits"};

static dd_status read_results(void *user)
{
    dd_tensor view;
    dd_status worst = DD_OK;
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        dd_status status = CALL(dd_distiller_result(user, results[i], &view));
        worst = status != DD_OK ? status : worst;
    }
    return worst;
}

static void results_and_parameters(void **state)
{
    step_scenario s = {"contrastive=1 contrastive-width=3", sizes_with(0, 6, 0)};
    kd_case *c = case_make(s.sizes, 5);
    for (int i = 0; i < 2; i++) {
        for (int64_t n = 1;; n++) {
            GOOD(dd_context_create(&context_for_step, devices[i]));
            dd_distiller *d = make_distiller(&s, c);
            GOOD(dd_distiller_step(d, NULL));
            dd_fault_set(n, 0);
            dd_status status = read_results(d);
            bool failed = dd_fault_set(0, 0) >= n;
            assert_int_equal(status, failed ? DD_ERR_NOMEM : DD_OK);
            assert_int_equal(read_results(d), DD_OK);
            dd_distiller_free(d);
            d = make_distiller(&s, c);
            dd_fault_set(n, 0);
            status = CALL(dd_distiller_prepare(d));
            bool prepare_failed = dd_fault_set(0, 0) >= n;
            assert_int_equal(status, prepare_failed ? DD_ERR_NOMEM : DD_OK);
            GOOD(dd_distiller_prepare(d));
            int32_t count;
            GOOD(dd_distiller_parameter_count(d, &count));
            assert_int_equal(count, 2 * 2 + 2 * 8);
            dd_distiller_free(d);
            dd_context_free(context_for_step);
            points += failed + prepare_failed;
            if (!failed && !prepare_failed)
                break;
        }
    }
    case_free(c);
}

static dd_matcher *make_matcher(kd_case *c, const char *options)
{
    dd_matcher *m;
    GOOD(dd_matcher_create(&m, context_for_step, options));
    assert_int_equal(case_bind_matcher(c, m, strstr(options, "teacher") != NULL), DD_OK);
    return m;
}

static uint64_t hash_matches(dd_matcher *m)
{
    uint64_t hash = 0;
    int32_t stages, images;
    GOOD(dd_matcher_count(m, &stages, &images));
    for (int32_t s = 0; s < stages; s++) {
        for (int32_t b = 0; b < images; b++) {
            const int32_t *match;
            int64_t count;
            double cost;
            GOOD(dd_matcher_get(m, s, b, &match, &count, &cost));
            hash = hash_bytes(hash_bytes(hash, match, (size_t)count * 4), &cost, sizeof cost);
        }
    }
    return hash;
}

static void matching(void **state)
{
    static const char *const options[] = {"", "with=teacher", "with=teacher split=1 nonfinite=skip",
                                          "family=dino nonfinite=clamp"};
    kd_case *c = case_make(sizes_with(CASE_CROWD, 6, 0), 3);
    for (int k = 0; k < 8; k++) {
        GOOD(dd_context_create(&context_for_step, devices[k / 4]));
        GOOD(dd_context_memory(context_for_step, &context_bytes, NULL, NULL, NULL, NULL));
        dd_matcher *m = make_matcher(c, options[k % 4]);
        GOOD(dd_matcher_run(m));
        uint64_t expected = hash_matches(m);
        dd_matcher_free(m);
        for (int64_t n = 1, failed = 1; failed; n++) {
            m = make_matcher(c, options[k % 4]);
            dd_fault_set(n, n % 2);
            dd_status status = CALL(dd_matcher_run(m));
            failed = dd_fault_set(0, 0) >= n;
            assert_int_equal(status, failed ? DD_ERR_NOMEM : DD_OK);
            GOOD(dd_matcher_run(m));
            assert_int_equal(hash_matches(m), expected);
            dd_matcher_free(m);
            expect_empty(context_for_step, context_bytes);
            points += failed;
        }
        dd_context_free(context_for_step);
    }
    case_free(c);
}

static dd_status assign_and_export(void *user)
{
    float cost[6] = {3, 1, 2, 2, 4, 6};
    int32_t match[2];
    dd_tensor view;
    dd_dl_managed_versioned *out = NULL;
    dd_status status = CALL(dd_assign_f32(cost, 2, 3, 3, 1, match, NULL));
    GOOD(dd_tensor_init(&view, cost, DD_F32, 2, (int64_t[]){2, 3}, NULL, DD_DEVICE_CPU, 0, 0));
    dd_status exported = CALL(dd_tensor_to_dlpack(&view, &out));
    assert_true((exported == DD_OK) == (out != NULL));
    if (out)
        out->deleter(out);
    return status != DD_OK ? status : exported;
}

static void assigning(void **state)
{
    sweep(assign_and_export, NULL, DD_ERR_NOMEM);
}

static char path[] = "/tmp/detrdistill-oom-XXXXXX";

static dd_status save_and_open(void *user)
{
    dd_tensorfile *file = NULL;
    float numbers[4] = {1, 2, 3, 4};
    dd_tensor view;
    GOOD(dd_tensor_init(&view, numbers, DD_F32, 1, (int64_t[]){4}, NULL, DD_DEVICE_CPU, 0, 0));
    dd_status status = CALL(dd_tensorfile_create(&file));
    if (status == DD_OK)
        status = CALL(dd_tensorfile_set(file, "numbers", &view));
    if (status == DD_OK)
        status = CALL(dd_tensorfile_set_metadata(file, "by", "test"));
    if (status == DD_OK)
        status = CALL(dd_tensorfile_save(file, path));
    dd_tensorfile_free(file);
    file = NULL;
    if (status == DD_OK)
        status = CALL(dd_tensorfile_open(&file, path));
    if (status == DD_OK)
        status = CALL(dd_tensorfile_get(file, "numbers", &view));
    if (status == DD_OK)
        assert_memory_equal(view.data, numbers, sizeof numbers);
    dd_tensorfile_free(file);
    return status;
}

static void saving(void **state)
{
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    sweep(save_and_open, NULL, DD_ERR_IO);
    unlink(path);
}

static dd_status evaluate(void *user)
{
    static const double boxes[8] = {0, 0, 10, 10, 5, 5, 20, 20}, scores[2] = {.9, .8};
    static const int64_t labels[2] = {1, 2};
    dd_eval *eval = NULL;
    double numbers[12], ap;
    dd_status status = CALL(dd_eval_create(&eval));
    for (int image = 0; image < 3 && status == DD_OK; image++) {
        status = CALL(dd_eval_add_objects(eval, image, 2, boxes, labels, NULL, NULL));
        if (status == DD_OK)
            status = CALL(dd_eval_add_detections(eval, image, 2, boxes, labels, scores));
    }
    if (status == DD_OK)
        status = CALL(dd_eval_finish(eval, numbers));
    if (status == DD_OK)
        status = CALL(dd_eval_class(eval, 1, &ap));
    if (status == DD_OK)
        assert_true(numbers[0] > .99 && ap > .99);
    dd_eval_free(eval);
    return status;
}

static void evaluating(void **state)
{
    sweep(evaluate, NULL, DD_ERR_NOMEM);
}

static void enough_points(void **state)
{
    print_message("%lld failures were provoked\n", (long long)points);
    assert_true(points > 1500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(creating),
        cmocka_unit_test(stepping),
        cmocka_unit_test(stepping_on_strided_tensors),
        cmocka_unit_test(results_and_parameters),
        cmocka_unit_test(matching),
        cmocka_unit_test(assigning),
        cmocka_unit_test(saving),
        cmocka_unit_test(evaluating),
        cmocka_unit_test(enough_points),
        cmocka_unit_test(every_status_is_documented),
    };
    warm_up();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
