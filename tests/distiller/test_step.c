/* SPDX-License-Identifier: Apache-2.0
 * A distiller step from the caller's side: terms and weights, results by name, callbacks, cancelling, forking, memory. */
#include "case.h"
#include "guard.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const devices[] = {"device=ref", CPU_DEVICE " threads=1"};
static const char *const modules[] = {"det", "denoising", "logits", "features", "prior", "contrastive"};

typedef struct fixture {
    dd_context *context;
    dd_distiller *distiller;
    kd_case *data;
} fixture;

static fixture open_case(const char *device, const char *options, case_sizes sizes)
{
    fixture f;
    GOOD(dd_context_create(&f.context, device));
    GOOD(dd_distiller_create(&f.distiller, f.context, options));
    f.data = case_make(sizes, 21);
    assert_int_equal(case_bind(f.data, f.distiller, true), DD_OK);
    return f;
}

/* The context goes first: the distiller holds its own reference. */
static void close_case(fixture f)
{
    dd_context_free(f.context);
    dd_distiller_free(f.distiller);
    case_free(f.data);
}

static case_sizes with_all_parts(void)
{
    case_sizes s = case_small;
    s.parts = CASE_ALL;
    return s;
}

static double term(dd_distiller *d, const char *name)
{
    double value = (double)NAN;
    GOOD(dd_distiller_term_get(d, name, &value));
    return value;
}

static void total_is_the_weighted_sum(void **state)
{
    for (int i = 0; i < 2; i++) {
        fixture f = open_case(devices[i], "contrastive=1 contrastive-width=8", with_all_parts());
        double total, sum = 0, value;
        for (int m = 0; m < 6; m++)
            GOOD(dd_distiller_set_weight(f.distiller, modules[m], 1.5 + m));
        GOOD(dd_distiller_step(f.distiller, &total));
        for (int m = 0; m < 6; m++) {
            char name[32];
            snprintf(name, sizeof name, "loss.%s", modules[m]);
            value = term(f.distiller, name);
            assert_true(value > 0);
            sum += (1.5 + m) * value;
        }
        assert_true(fabs(total - sum) <= 1e-12 * fabs(sum));
        assert_true(total == term(f.distiller, "loss.total"));
        close_case(f);
    }
}

/* Parts of a module add up to it: names that start with loss.MODULE. */
static void parts_add_up(void **state)
{
    fixture f = open_case(devices[0], "contrastive=1 contrastive-width=8 split=1", with_all_parts());
    GOOD(dd_distiller_step(f.distiller, NULL));
    int32_t count;
    GOOD(dd_distiller_term_count(f.distiller, &count));
    for (int m = 0; m < 6; m++) {
        char name[32], prefix[32];
        double sum = 0;
        int parts = 0;
        snprintf(name, sizeof name, "loss.%s", modules[m]);
        snprintf(prefix, sizeof prefix, "loss.%s.", modules[m]);
        for (int32_t i = 0; i < count; i++) {
            const char *full;
            double value;
            GOOD(dd_distiller_term_at(f.distiller, i, &full, &value));
            if (strncmp(full, prefix, strlen(prefix)) == 0) {
                assert_true(value == term(f.distiller, full));
                sum += value;
                parts++;
            }
        }
        assert_true(parts >= 2);
        assert_true(fabs(sum - term(f.distiller, name)) <= 1e-12 * fabs(sum));
    }
    close_case(f);
}

/* With one module's weight at w and all others 0, gradients are w times those of weight 1, to the bit for powers of two. */
static void gradients_are_linear_in_the_weights(void **state)
{
    for (int m = 0; m < 6; m++) {
        fixture f = open_case(devices[0], "contrastive=1 contrastive-width=8", with_all_parts());
        for (int k = 0; k < 6; k++)
            GOOD(dd_distiller_set_weight(f.distiller, modules[k], k == m));
        GOOD(dd_distiller_step(f.distiller, NULL));
        kd_case *before = case_make(f.data->sizes, 21);
        for (int32_t i = 0; i < before->count; i++)
            memcpy(before->tensor[i].memory, f.data->tensor[i].memory, before->tensor[i].bytes);
        GOOD(dd_distiller_set_weight(f.distiller, modules[m], 4));
        GOOD(dd_distiller_step(f.distiller, NULL));
        double largest = 0;
        for (int32_t i = 0; i < before->count; i++) {
            const case_tensor *t = &f.data->tensor[i];
            for (int64_t k = 0; t->is_gradient && k < tensor_elements(&t->view); k++) {
                double four = tensor_get(&t->view, k), one = tensor_get(&before->tensor[i].view, k);
                assert_true(fabs(four - 4 * one) <= 1e-6 * fabs(four));
                largest = fabs(four) > largest ? fabs(four) : largest;
            }
        }
        assert_true(largest > 0);
        GOOD(dd_distiller_set_weight(f.distiller, modules[m], 0));
        GOOD(dd_distiller_step(f.distiller, NULL));
        for (int32_t i = 0; i < f.data->count; i++)
            for (int64_t k = 0; f.data->tensor[i].is_gradient && k < tensor_elements(&f.data->tensor[i].view); k++)
                assert_true(tensor_get(&f.data->tensor[i].view, k) == 0);
        double weight = -1;
        GOOD(dd_distiller_get_weight(f.distiller, modules[m], &weight));
        assert_true(weight == 0);
        case_free(before);
        close_case(f);
    }
}

/* The gradient of all modules is the sum of those of each alone. */
static void modules_share_gradients(void **state)
{
    case_sizes sizes = with_all_parts();
    sizes.dtype = DD_F64;
    fixture f = open_case(devices[0], "contrastive=1 contrastive-width=8", sizes);
    case_tensor *g = case_find(f.data, "student.logits.grad");
    int64_t n = tensor_elements(&g->view);
    double *sum = calloc((size_t)n, sizeof *sum);
    for (int m = 0; m < 6; m++) {
        for (int k = 0; k < 6; k++)
            GOOD(dd_distiller_set_weight(f.distiller, modules[k], k == m));
        GOOD(dd_distiller_step(f.distiller, NULL));
        for (int64_t i = 0; i < n; i++)
            sum[i] += tensor_get(&g->view, i);
    }
    for (int k = 0; k < 6; k++)
        GOOD(dd_distiller_set_weight(f.distiller, modules[k], 1));
    GOOD(dd_distiller_step(f.distiller, NULL));
    for (int64_t i = 0; i < n; i++)
        assert_true(fabs(sum[i] - tensor_get(&g->view, i)) <= 1e-12);
    free(sum);
    close_case(f);
}

static void weights_are_checked(void **state)
{
    fixture f = open_case(devices[0], "", case_small);
    double weight;
    FAILS(DD_ERR_NOT_FOUND, dd_distiller_set_weight(f.distiller, "logit", 1));
    FAILS(DD_ERR_NOT_FOUND, dd_distiller_get_weight(f.distiller, "", &weight));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_set_weight(f.distiller, "det", -1));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_set_weight(f.distiller, "det", (double)NAN));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_set_weight(f.distiller, "det", (double)INFINITY));
    GOOD(dd_distiller_get_weight(f.distiller, "det", &weight));
    assert_true(weight == 1);
    close_case(f);
}

static const struct {
    const char *name;
    int32_t dtype, dims;
    int64_t shape[3];
} expected_results[] = {
    {"match.det", DD_I32, 3, {2, 2, 7}},
    {"match.teacher", DD_I32, 3, {4, 2, 9}},
    {"match.prior", DD_I32, 3, {2, 2, 9}},
    {"match.logits", DD_I32, 3, {4, 2, 7}},
    {"pairs.logits", DD_I32, 2, {4, 2}},
    {"kind.logits", DD_I32, 3, {4, 2, 7}},
    {"cost.det", DD_F64, 2, {2, 2}},
    {"cost.teacher", DD_F64, 2, {4, 2}},
    {"cost.logits", DD_F64, 2, {4, 2}},
    {"terms.det", DD_F64, 2, {2, 3}},
    {"terms.denoising", DD_F64, 2, {2, 3}},
    {"terms.prior", DD_F64, 2, {2, 3}},
    {"terms.logits", DD_F64, 2, {4, 5}},
    {"terms.features", DD_F64, 2, {4, 2}},
    {"terms.contrastive", DD_F64, 1, {4}},
    {"features.index", DD_I32, 3, {4, 2, 45}},
    {"features.quality", DD_F32, 3, {4, 2, 45}},
    {"features.weight.0", DD_F32, 3, {2, 6, 4}},
    {"features.weight.1", DD_F32, 3, {2, 3, 2}},
};

static void every_result_has_its_shape(void **state)
{
    for (int i = 0; i < 2; i++) {
        fixture f = open_case(devices[i], "contrastive=1 contrastive-width=8 split=1", with_all_parts());
        dd_tensor view;
        FAILS(DD_ERR_STATE, dd_distiller_result(f.distiller, "match.det", &view));
        GOOD(dd_distiller_step(f.distiller, NULL));
        for (size_t k = 0; k < sizeof expected_results / sizeof expected_results[0]; k++) {
            GOOD(dd_distiller_result(f.distiller, expected_results[k].name, &view));
            assert_int_equal(view.dtype, expected_results[k].dtype);
            assert_int_equal(view.ndim, expected_results[k].dims);
            for (int32_t n = 0; n < view.ndim; n++)
                assert_int_equal(view.shape[n], expected_results[k].shape[n]);
            assert_int_equal(view.flags, DD_TENSOR_READONLY);
            assert_int_equal(view.device_type, DD_DEVICE_CPU);
            for (int64_t n = 0; n < tensor_elements(&view); n++)
                assert_true(isfinite(tensor_get(&view, n)));
        }
        static const char *const absent[] = {"match",
                                             "cost.prior",
                                             "features.weight.2",
                                             "features.weight.",
                                             "features.weight.-1",
                                             "features.weight.+1",
                                             "features.weight. 1",
                                             "terms.total",
                                             "",
                                             "terms.Det"};
        for (size_t k = 0; k < sizeof absent / sizeof absent[0]; k++)
            FAILS(DD_ERR_NOT_FOUND, dd_distiller_result(f.distiller, absent[k], &view));
        close_case(f);
    }
}

/* Matchings are one to one, kinds agree with them. */
static void matchings_are_one_to_one(void **state)
{
    fixture f = open_case(devices[1], "split=1", case_small);
    dd_tensor match, kind;
    GOOD(dd_distiller_step(f.distiller, NULL));
    GOOD(dd_distiller_result(f.distiller, "match.logits", &match));
    GOOD(dd_distiller_result(f.distiller, "kind.logits", &kind));
    for (int64_t block = 0; block < match.shape[0] * match.shape[1]; block++) {
        int used[16] = {0}, pairs = 0;
        for (int64_t i = 0; i < match.shape[2]; i++) {
            int32_t to = ((int32_t *)match.data)[block * match.shape[2] + i],
                    k = ((int32_t *)kind.data)[block * match.shape[2] + i];
            assert_true(to >= -1 && to < 9);
            assert_int_equal(to >= 0, k != 0);
            assert_true(k >= 0 && k <= 2);
            if (to >= 0)
                assert_int_equal(used[to]++, 0);
            pairs += to >= 0;
        }
        assert_int_equal(pairs, 7);
    }
    close_case(f);
}

static void results_end_with_a_step_that_fails(void **state)
{
    fixture f = open_case(devices[0], "", case_small);
    dd_tensor view;
    int32_t count;
    double value;
    GOOD(dd_distiller_step(f.distiller, NULL));
    GOOD(dd_distiller_bind(f.distiller, "gt.labels", NULL));
    FAILS(DD_ERR_STATE, dd_distiller_step(f.distiller, NULL));
    SAYS("gt.labels");
    assert_string_equal(dd_error_subject(), "gt.labels");
    assert_int_equal(dd_error_place(DD_PLACE_STEP), 1);
    FAILS(DD_ERR_STATE, dd_distiller_result(f.distiller, "match.det", &view));
    FAILS(DD_ERR_STATE, dd_distiller_term_count(f.distiller, &count));
    FAILS(DD_ERR_STATE, dd_distiller_term_at(f.distiller, 0, NULL, &value));
    /* prepare reads new sizes, so old results must not be read with them */
    GOOD(dd_distiller_bind(f.distiller, "gt.labels", &case_find(f.data, "gt.labels")->view));
    GOOD(dd_distiller_step(f.distiller, NULL));
    GOOD(dd_distiller_prepare(f.distiller));
    FAILS(DD_ERR_STATE, dd_distiller_result(f.distiller, "terms.logits", &view));
    GOOD(dd_distiller_step(f.distiller, NULL));
    FAILS(DD_ERR_NOT_FOUND, dd_distiller_term_at(f.distiller, -1, NULL, NULL));
    FAILS(DD_ERR_NOT_FOUND, dd_distiller_term_get(f.distiller, "loss.prior.stage9.l1", &value));
    close_case(f);
}

typedef struct mean_call {
    int calls, fail_with;
    double factor, seen[6];
    dd_distiller *distiller;
} mean_call;

static int32_t take_mean(void *user, double *values, int32_t count)
{
    mean_call *m = user;
    double total;
    assert_int_equal(count, 6);
    m->calls++;
    for (int i = 0; i < 6; i++) {
        m->seen[i] = values[i];
        values[i] *= m->factor;
    }
    if (m->distiller)
        FAILS(DD_ERR_STATE, dd_distiller_step(m->distiller, &total)); /* a callback cannot use the handle it runs in */
    return m->fail_with;
}

static void the_mean_is_asked_once(void **state)
{
    fixture f = open_case(devices[0], "feature-mask=none", case_small);
    mean_call m = {.factor = 1, .distiller = f.distiller};
    double alone, half;
    GOOD(dd_distiller_step(f.distiller, NULL));
    alone = term(f.distiller, "loss.det");
    GOOD(dd_distiller_set_mean(f.distiller, take_mean, &m));
    GOOD(dd_distiller_step(f.distiller, NULL));
    assert_true(alone == term(f.distiller, "loss.det"));
    assert_int_equal(m.calls, 1);
    /* images have 2 and 3 objects; 7 student and 9 teacher queries */
    const double counts[6] = {5, 5, 14, 5, 9, 5};
    for (int i = 0; i < 6; i++)
        assert_true(m.seen[i] == counts[i]);
    m.factor = 2;
    GOOD(dd_distiller_step(f.distiller, NULL));
    half = term(f.distiller, "loss.det");
    assert_true(fabs(2 * half - alone) <= 1e-6 * alone);
    close_case(f);
}

static void a_bad_mean_ends_the_step(void **state)
{
    fixture f = open_case(devices[0], "", case_small);
    mean_call m = {.factor = 1, .fail_with = 5};
    GOOD(dd_distiller_set_mean(f.distiller, take_mean, &m));
    case_mark_gradients(f.data);
    FAILS(DD_ERR_BACKEND, dd_distiller_step(f.distiller, NULL));
    assert_true(case_gradients_untouched_or_zero(f.data));
    m.fail_with = 0;
    const double bad[] = {(double)NAN, (double)INFINITY, -1};
    for (int i = 0; i < 3; i++) {
        m.factor = bad[i];
        FAILS(DD_ERR_BACKEND, dd_distiller_step(f.distiller, NULL));
        assert_true(case_gradients_untouched_or_zero(f.data));
    }
    GOOD(dd_distiller_set_mean(f.distiller, NULL, NULL));
    GOOD(dd_distiller_step(f.distiller, NULL));
    close_case(f);
}

typedef struct trace_lines {
    int count, stop_after;
    dd_tensor match; /* of an equal step before */
    int32_t teacher_stage[8];
} trace_lines;

static int32_t number_of(json_object *o, const char *key)
{
    json_object *value;
    assert_true(json_object_object_get_ex(o, key, &value));
    return json_object_get_int(value);
}

static int32_t read_trace(void *user, const char *json, int64_t bytes)
{
    trace_lines *t = user;
    assert_int_equal(strlen(json), bytes);
    assert_null(strchr(json, '\n'));
    json_object *o = json_tokener_parse(json);
    assert_non_null(o);
    int32_t stage = number_of(o, "teacher_stage"), image = number_of(o, "image"), query = number_of(o, "student_query");
    assert_int_equal(number_of(o, "student_stage"), stage / 2);
    assert_int_equal(number_of(o, "step"), 1);
    const int32_t *match = t->match.data;
    assert_int_equal(number_of(o, "teacher_query"), match[(stage * 2 + image) * 7 + query]);
    int32_t object = number_of(o, "object");
    assert_true(object >= -1 && object < 3);
    json_object_put(o);
    return ++t->count == t->stop_after;
}

static void the_trace_agrees_with_the_matching(void **state)
{
    for (int split = 0; split < 2; split++) {
        fixture f = open_case(devices[0], split ? "split=1 prior=none" : "", case_small);
        trace_lines t = {0};
        GOOD(dd_distiller_step(f.distiller, NULL));
        GOOD(dd_distiller_result(f.distiller, "match.logits", &t.match));
        void *copy = malloc(4 * 2 * 7 * 4);
        memcpy(copy, t.match.data, 4 * 2 * 7 * 4);
        t.match.data = copy;
        GOOD(dd_distiller_set_trace(f.distiller, read_trace, &t));
        GOOD(dd_distiller_step(f.distiller, NULL));
        assert_int_equal(t.count, 4 * 2 * 7);
        close_case(f);
        f = open_case(devices[0], split ? "split=1 prior=none" : "", case_small);
        t.count = 0;
        t.stop_after = 3;
        GOOD(dd_distiller_step(f.distiller, NULL));
        GOOD(dd_distiller_set_trace(f.distiller, read_trace, &t));
        GOOD(dd_distiller_step(f.distiller, NULL)); /* the end of the trace is not the end of the step */
        assert_int_equal(t.count, 3);
        free(copy);
        close_case(f);
    }
}

static int32_t free_in_trace(void *user, const char *json, int64_t bytes)
{
    dd_distiller_free(user);
    return 1;
}

static void a_callback_may_free_the_handle(void **state)
{
    fixture f = open_case(devices[0], "", case_small);
    GOOD(dd_distiller_set_trace(f.distiller, free_in_trace, f.distiller));
    GOOD(dd_distiller_step(f.distiller, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_step(f.distiller, NULL));
    int64_t host;
    GOOD(dd_context_memory(f.context, &host, NULL, NULL, NULL, NULL));
    assert_true(host < 65536);
    dd_context_free(f.context);
    case_free(f.data);
}

static dd_context *to_cancel;

static int32_t cancel_here(void *user, double *values, int32_t count)
{
    dd_context_cancel(to_cancel, 1);
    return 0;
}

static void cancelling(void **state)
{
    for (int i = 0; i < 2; i++) {
        fixture f = open_case(devices[i], "", case_small);
        GOOD(dd_distiller_step(f.distiller, NULL));
        uint64_t expected = case_hash_gradients(f.data);
        case_mark_gradients(f.data);
        GOOD(dd_context_cancel(f.context, 1));
        FAILS(DD_ERR_CANCELLED, dd_distiller_step(f.distiller, NULL));
        assert_true(case_gradients_untouched(f.data));
        dd_context_cancel(f.context, 0);
        /* from inside, after the matchings */
        to_cancel = f.context;
        GOOD(dd_distiller_set_mean(f.distiller, cancel_here, NULL));
        FAILS(DD_ERR_CANCELLED, dd_distiller_step(f.distiller, NULL));
        assert_true(case_gradients_untouched_or_zero(f.data));
        dd_context_cancel(f.context, 0);
        GOOD(dd_distiller_set_mean(f.distiller, NULL, NULL));
        GOOD(dd_distiller_step(f.distiller, NULL));
        assert_int_equal(case_hash_gradients(f.data), expected);
        close_case(f);
    }
}

/* What a forked child does with the parent's handles; its exit status tells how many answers were wrong. */
static int wrong_answers_in_child(fixture f, dd_matcher *m)
{
    dd_context *own = NULL;
    dd_distiller *d = NULL;
    double total;
    int wrong = dd_distiller_step(f.distiller, &total) != DD_ERR_FORKED;
    wrong += dd_error_message()[0] == '\0';
    wrong += dd_distiller_prepare(f.distiller) != DD_ERR_FORKED;
    wrong += dd_matcher_run(m) != DD_ERR_FORKED;
    wrong += dd_context_create(&own, "device=ref") != DD_OK;
    wrong += dd_distiller_create(&d, own, "") != DD_OK || case_bind(f.data, d, true) != DD_OK;
    wrong += dd_distiller_step(d, &total) != DD_OK;
    dd_distiller_free(d);
    dd_context_free(own);
    dd_distiller_free(f.distiller);
    dd_matcher_free(m);
    dd_context_free(f.context);
    return wrong;
}

static void forking(void **state)
{
    fixture f = open_case(devices[0], "", case_small);
    dd_matcher *m;
    GOOD(dd_matcher_create(&m, f.context, ""));
    assert_int_equal(case_bind_matcher(f.data, m, false), DD_OK);
    GOOD(dd_distiller_step(f.distiller, NULL));
    pid_t child = fork();
    if (child == 0)
        _exit(wrong_answers_in_child(f, m));
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    GOOD(dd_distiller_step(f.distiller, NULL));
    dd_matcher_free(m);
    close_case(f);
}

static int64_t allocations(const dd_context *c)
{
    int64_t n;
    GOOD(dd_context_memory(c, NULL, NULL, NULL, NULL, &n));
    return n;
}

/* R6 */
static void steady_steps_allocate_nothing(void **state)
{
    static const char *const options[] = {"", "profile=paper", "contrastive=1 contrastive-width=8 split=1",
                                          "nonfinite=clamp prior=group"};
    for (int i = 0; i < 8; i++) {
        case_sizes sizes = case_small;
        sizes.parts = CASE_DENOISING;
        sizes.student_height = 9;
        fixture f = open_case(devices[i / 4], options[i % 4], sizes);
        dd_matcher *m;
        GOOD(dd_matcher_create(&m, f.context, i % 2 ? "with=teacher split=1" : ""));
        assert_int_equal(case_bind_matcher(f.data, m, i % 2), DD_OK);
        case_restore(case_find(f.data, "student.boxes"), DD_BF16, NULL, 1);
        case_restore(case_find(f.data, "student.boxes.grad"), DD_F32, (int32_t[]){1, 0, 3, 2}, 0);
        assert_int_equal(case_bind(f.data, f.distiller, true), DD_OK);
        assert_int_equal(case_bind_matcher(f.data, m, i % 2), DD_OK);
        dd_tensor view;
        int64_t after_two = 0;
        for (int step = 1; step <= 20; step++) {
            GOOD(dd_distiller_step(f.distiller, NULL));
            GOOD(dd_distiller_result(f.distiller, "match.logits", &view));
            GOOD(dd_matcher_run(m));
            if (step == 2)
                after_two = allocations(f.context);
        }
        assert_int_equal(allocations(f.context), after_two);
        dd_matcher_free(m);
        close_case(f);
    }
}

/* Batches grow one by one for long, and many threads need their own memory: neither uses up anything but memory. */
static void growing_batches(void **state)
{
    dd_context *context;
    dd_matcher *m;
    for (int i = 0; i < 3; i++) {
        static const char *const options[] = {"device=ref", CPU_DEVICE " threads=1", CPU_DEVICE " threads=64"};
        GOOD(dd_context_create(&context, options[i]));
        GOOD(dd_matcher_create(&m, context, "with=teacher split=1"));
        for (int32_t n = 1; n <= 24; n++) {
            case_sizes s = case_small;
            s.student_queries = 6 * n;
            s.teacher_queries = 7 * n;
            s.objects = n;
            s.student_stages = s.teacher_stages = i == 2 ? 20 : 2;
            s.levels = 0;
            kd_case *c = case_make(s, (uint64_t)n);
            assert_int_equal(case_bind_matcher(c, m, true), DD_OK);
            GOOD(dd_matcher_run(m));
            case_free(c);
        }
        dd_matcher_free(m);
        dd_context_free(context);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(total_is_the_weighted_sum),
        cmocka_unit_test(parts_add_up),
        cmocka_unit_test(gradients_are_linear_in_the_weights),
        cmocka_unit_test(modules_share_gradients),
        cmocka_unit_test(weights_are_checked),
        cmocka_unit_test(every_result_has_its_shape),
        cmocka_unit_test(matchings_are_one_to_one),
        cmocka_unit_test(results_end_with_a_step_that_fails),
        cmocka_unit_test(the_mean_is_asked_once),
        cmocka_unit_test(a_bad_mean_ends_the_step),
        cmocka_unit_test(the_trace_agrees_with_the_matching),
        cmocka_unit_test(a_callback_may_free_the_handle),
        cmocka_unit_test(cancelling),
        cmocka_unit_test(forking),
        cmocka_unit_test(steady_steps_allocate_nothing),
        cmocka_unit_test(growing_batches),
        cmocka_unit_test(every_status_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
