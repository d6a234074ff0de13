/* SPDX-License-Identifier: Apache-2.0
 * R14: NaN, infinities, the largest and the smallest numbers at random places of every float input, under each policy. */
#include "case.h"
#include "guard.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const devices[] = {"device=ref", CPU_DEVICE " threads=1"};

/* `image` is the dimension that counts images, -1: none; `query` the one that counts queries, -1: none. */
static const struct {
    const char *name;
    int image, query;
} inputs[] = {
    {"student.logits", 1, 2},
    {"student.boxes", 1, 2},
    {"teacher.logits", 1, 2},
    {"teacher.boxes", 1, 2},
    {"prior.logits", 1, 2},
    {"prior.boxes", 1, 2},
    {"denoising.logits", 1, 2},
    {"denoising.boxes", 1, 2},
    {"student.queries", 1, 2},
    {"teacher.queries", 1, 2},
    {"student.features.0", 0, -1},
    {"teacher.features.1", 0, -1},
    {"adaptor.1.weight", -1, -1},
    {"adaptor.0.bias", -1, -1},
    {"contrastive.student.w1", -1, -1},
    {"contrastive.teacher.bn_weight", -1, -1},
    {"contrastive.teacher.b3", -1, -1},
    {"gt.boxes", -2, -1}, /* by offsets */
    {"image.sizes", 0, -1},
};
enum { INPUTS = sizeof inputs / sizeof inputs[0], GT_BOXES = INPUTS - 2, SIZES = INPUTS - 1 };

static dd_context *context;

static case_sizes all_parts(int32_t dtype)
{
    case_sizes s = case_small;
    s.parts = CASE_ALL;
    s.images = 3;
    s.dtype = dtype;
    return s;
}

static kd_case *make(int32_t dtype, uint64_t seed)
{
    kd_case *c = case_make(all_parts(dtype), seed);
    case_restore(case_find(c, "image.sizes"), DD_F32, NULL, 0);
    return c;
}

static int32_t index_along(const dd_tensor *view, int64_t element, int dim)
{
    for (int32_t i = view->ndim - 1; i > dim; i--)
        element /= view->shape[i];
    return (int32_t)(element % view->shape[dim]);
}

/* Puts `value` somewhere into input i; *image and *query tell where, -1: the tensor has none. */
static void spoil(kd_case *c, int i, double value, int32_t *image, int32_t *query)
{
    const dd_tensor *view = &case_find(c, inputs[i].name)->view;
    int64_t at = (int64_t)(next_random(&c->random) * (double)tensor_elements(view));
    tensor_set(view, at, value);
    *image = inputs[i].image >= 0 ? index_along(view, at, inputs[i].image) : -1;
    *query = inputs[i].query >= 0 ? index_along(view, at, inputs[i].query) : -1;
    for (int32_t b = 0; i == GT_BOXES && b < 3; b++)
        if (at / 4 >= c->object_start[b] && at / 4 < c->object_start[b + 1])
            *image = b;
}

static dd_distiller *open_on(kd_case *c, const char *options)
{
    dd_distiller *d;
    GOOD(dd_distiller_create(&d, context, options));
    assert_int_equal(case_bind(c, d, true), DD_OK);
    return d;
}

static void errors_name_the_place(void **state)
{
    const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (int k = 0; k < 2 * INPUTS * 3; k++) {
        int32_t image, query, i = k % INPUTS;
        GOOD(dd_context_create(&context, devices[k / INPUTS % 2]));
        kd_case *c = make(k % 5 ? DD_F32 : DD_F64, (uint64_t)k);
        spoil(c, i, bad[k / INPUTS % 3], &image, &query);
        dd_distiller *d = open_on(c, "contrastive=1");
        case_mark_gradients(c);
        uint64_t before = case_hash_inputs(c);
        double total = -1;
        FAILS(DD_ERR_NONFINITE, dd_distiller_step(d, &total));
        SAYS(inputs[i].name);
        assert_string_equal(dd_error_subject(), inputs[i].name);
        assert_int_equal(dd_error_place(DD_PLACE_IMAGE), image);
        assert_int_equal(dd_error_place(DD_PLACE_QUERY), query);
        assert_int_equal(dd_error_place(DD_PLACE_STEP), 0);
        assert_true(case_gradients_untouched(c));
        assert_true(case_hash_inputs(c) == before);
        assert_true(total == -1);
        dd_distiller_free(d);
        case_free(c);
        dd_context_free(context);
    }
}

/* Sum of |gradient| of one image. */
static double gradient_of_image(kd_case *c, const char *name, int dim, int32_t image)
{
    const dd_tensor *view = &case_find(c, name)->view;
    double sum = 0;
    for (int64_t e = 0; e < tensor_elements(view); e++)
        sum += index_along(view, e, dim) == image ? fabs(tensor_get(view, e)) : 0;
    return sum;
}

static const struct {
    const char *name;
    int image;
} image_gradients[] = {{"student.logits.grad", 1},    {"student.boxes.grad", 1},   {"student.queries.grad", 1},
                       {"prior.logits.grad", 1},      {"denoising.boxes.grad", 1}, {"student.features.0.grad", 0},
                       {"student.features.1.grad", 0}};
enum { IMAGE_GRADIENTS = sizeof image_gradients / sizeof image_gradients[0] };

static void skipped_images_have_no_gradient(void **state)
{
    for (int k = 0; k < 2 * INPUTS * 2; k++) {
        int32_t image, query, i = k % INPUTS;
        GOOD(dd_context_create(&context, devices[k / INPUTS % 2]));
        kd_case *c = make(DD_F32, (uint64_t)k + 500);
        spoil(c, i, k / INPUTS / 2 ? (double)INFINITY : (double)NAN, &image, &query);
        dd_distiller *d = open_on(c, k % 2 ? "contrastive=1 nonfinite=skip" : "profile=paper contrastive=1 nonfinite=skip");
        double total = (double)NAN;
        case_mark_gradients(c);
        if (inputs[i].image == -1) { /* a parameter is everybody's: no image can be left out */
            FAILS(DD_ERR_NONFINITE, dd_distiller_step(d, &total));
            assert_true(case_gradients_untouched(c));
        } else {
            GOOD(dd_distiller_step(d, &total));
            assert_true(isfinite(total));
            assert_true(case_gradients_finite(c));
            for (int g = 0; g < IMAGE_GRADIENTS; g++)
                for (int32_t b = 0; b < 3; b++) {
                    double sum = gradient_of_image(c, image_gradients[g].name, image_gradients[g].image, b);
                    if (b == image ? sum != 0 : !isfinite(sum))
                        fail_msg("%s spoilt in image %d: %s of image %d adds up to %g", inputs[i].name, image,
                                 image_gradients[g].name, b, sum);
                }
            assert_true(gradient_of_image(c, "student.logits.grad", 1, (image + 1) % 3) > 0);
        }
        dd_distiller_free(d);
        case_free(c);
        dd_context_free(context);
    }
}

static void all_images_skipped(void **state)
{
    for (int k = 0; k < 2; k++) {
        GOOD(dd_context_create(&context, devices[k]));
        kd_case *c = make(DD_F32, 9);
        for (int64_t i = 0; i < tensor_elements(&case_find(c, "student.boxes")->view); i += 4)
            tensor_set(&case_find(c, "student.boxes")->view, i, (double)NAN);
        dd_distiller *d = open_on(c, "contrastive=1 nonfinite=skip");
        double total;
        case_mark_gradients(c);
        GOOD(dd_distiller_step(d, &total));
        assert_true(total == 0);
        for (int32_t i = 0; i < c->count; i++)
            for (int64_t e = 0; c->tensor[i].is_gradient && e < tensor_elements(&c->tensor[i].view); e++)
                assert_true(tensor_get(&c->tensor[i].view, e) == 0);
        dd_distiller_free(d);
        case_free(c);
        dd_context_free(context);
    }
}

/* Views of the first `images` images of every tensor; the offsets are cut, too. */
static void cut(kd_case *c, int32_t images)
{
    int32_t objects = c->object_start[images];
    for (int32_t i = 0; i < c->count; i++) {
        dd_tensor *view = &c->tensor[i].view;
        const char *name = c->tensor[i].name;
        bool has_images = strncmp(name, "contrastive", 11) != 0 && strncmp(name, "adaptor", 7) != 0;
        if (strcmp(name, "gt.offsets") == 0)
            view->shape[0] = images + 1;
        else if (strncmp(name, "gt.", 3) == 0)
            view->shape[0] = objects;
        else if (has_images)
            view->shape[strstr(name, "features") || strstr(name, "sizes") ? 0 : 1] = images;
    }
}

/* With the last of three images left out, terms and gradients are those of the first two alone. The feature term is divided by
 * the number of images, which counts all. */
static void skipping_equals_the_smaller_batch(void **state)
{
    static const char *const terms[] = {"loss.det", "loss.denoising", "loss.logits", "loss.prior", "loss.contrastive"};
    for (int k = 0; k < 4; k++) {
        GOOD(dd_context_create(&context, devices[k % 2]));
        kd_case *whole = make(DD_F32, 12), *small = make(DD_F32, 12);
        const char *options = k / 2 ? "contrastive=1 split=1 nonfinite=skip denoising-groups=1 weight.features=0"
                                    : "contrastive=1 nonfinite=skip denoising-groups=1 weight.features=0 family=dino";
        tensor_set(&case_find(whole, "teacher.logits")->view, tensor_elements(&case_find(whole, "teacher.logits")->view) - 1,
                   (double)NAN);
        cut(small, 2);
        dd_distiller *a = open_on(whole, options), *b = open_on(small, options);
        GOOD(dd_distiller_step(a, NULL));
        GOOD(dd_distiller_step(b, NULL));
        double x, y;
        for (int t = 0; t < 5; t++) {
            GOOD(dd_distiller_term_get(a, terms[t], &x));
            GOOD(dd_distiller_term_get(b, terms[t], &y));
            assert_true(y > 0 && fabs(x - y) <= 1e-6 * y);
        }
        GOOD(dd_distiller_term_get(a, "loss.features", &x));
        GOOD(dd_distiller_term_get(b, "loss.features", &y));
        assert_true(y > 0 && fabs(x * 3 / 2 - y) <= 1e-5 * y);
        for (int32_t i = 0; i < small->count; i++) {
            const dd_tensor *p = &whole->tensor[i].view, *q = &small->tensor[i].view;
            int dim = strstr(whole->tensor[i].name, "features") ? 0 : 1;
            bool parameter = p->ndim < 4;
            for (int64_t e = 0, f = 0; small->tensor[i].is_gradient && e < tensor_elements(p); e++) {
                if (!parameter && index_along(p, e, dim) == 2)
                    continue;
                double u = tensor_get(p, e), v = tensor_get(q, f++);
                assert_true(fabs(u - v) <= 1e-5 * fabs(v) + 1e-7);
            }
        }
        dd_distiller_free(a);
        dd_distiller_free(b);
        case_free(whole);
        case_free(small);
        dd_context_free(context);
    }
}

static void clamping_gives_finite_results(void **state)
{
    const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (int k = 0; k < 2 * INPUTS * 3; k++) {
        int32_t image, query, i = k % INPUTS;
        double value = bad[k / INPUTS % 3], total = (double)NAN;
        GOOD(dd_context_create(&context, devices[k / INPUTS / 3]));
        kd_case *c = make(DD_F32, (uint64_t)k + 900);
        spoil(c, i, value, &image, &query);
        uint64_t before = case_hash_inputs(c);
        dd_distiller *d = open_on(c, "contrastive=1 nonfinite=clamp");
        case_mark_gradients(c);
        if (i == SIZES && !(value > 0)) { /* NaN becomes 0 and -Inf -10000, which are no sizes */
            FAILS(DD_ERR_ARGUMENT, dd_distiller_step(d, &total));
            assert_true(case_gradients_untouched(c));
        } else {
            GOOD(dd_distiller_step(d, &total));
            assert_true(isfinite(total));
            assert_true(case_gradients_finite(c));
        }
        assert_true(case_hash_inputs(c) == before);
        dd_distiller_free(d);
        case_free(c);
        dd_context_free(context);
    }
}

/* No gradient flows into a number that was replaced. */
static void clamped_numbers_get_no_gradient(void **state)
{
    GOOD(dd_context_create(&context, devices[0]));
    kd_case *c = make(DD_F32, 2);
    tensor_set(&case_find(c, "student.logits")->view, 17, (double)INFINITY);
    tensor_set(&case_find(c, "student.features.0")->view, 5, (double)NAN);
    dd_distiller *d = open_on(c, "nonfinite=clamp");
    case_mark_gradients(c);
    GOOD(dd_distiller_step(d, NULL));
    assert_true(tensor_get(&case_find(c, "student.logits.grad")->view, 17) == 0);
    assert_true(tensor_get(&case_find(c, "student.logits.grad")->view, 18) != 0);
    assert_true(tensor_get(&case_find(c, "student.features.0.grad")->view, 5) == 0);
    dd_distiller_free(d);
    case_free(c);
    dd_context_free(context);
}

/* Finite but extreme: a finite result, or an error that says so; it always ends. */
static void extreme_numbers(void **state)
{
    const double values[] = {(double)FLT_MAX, -(double)FLT_MAX, 1e19, -1e30, (double)FLT_MIN / 8, -(double)FLT_MIN / 2};
    static const char *const policies[] = {"error", "skip", "clamp"};
    int good = 0, refused = 0;
    for (int k = 0; k < 2 * INPUTS * 6; k++) {
        int32_t image, query, i = k % INPUTS;
        double value = values[k / INPUTS % 6], total = (double)NAN;
        char options[64];
        GOOD(dd_context_create(&context, devices[k / INPUTS / 6]));
        kd_case *c = make(DD_F32, (uint64_t)k + 1300);
        spoil(c, i, value, &image, &query);
        snprintf(options, sizeof options, "contrastive=1 nonfinite=%s", policies[k % 3]);
        dd_distiller *d = open_on(c, options);
        case_mark_gradients(c);
        dd_status status = CALL(dd_distiller_step(d, &total));
        if (status == DD_OK) {
            good++;
            if (!isfinite(total) || !case_gradients_finite(c))
                fail_msg("%g in %s, %s: total %g, gradients %sfinite", value, inputs[i].name, devices[k / INPUTS / 6], total,
                         case_gradients_finite(c) ? "" : "not ");
        } else {
            refused++;
            bool is_range = (i == SIZES || i == GT_BOXES) && status == DD_ERR_ARGUMENT;
            if (status != DD_ERR_NONFINITE && !is_range)
                fail_msg("%g in %s: %s", value, inputs[i].name, dd_error_message());
            assert_true(case_gradients_untouched_or_zero(c));
        }
        dd_distiller_free(d);
        case_free(c);
        dd_context_free(context);
    }
    assert_true(good > 50 && refused > 20);
}

static void matcher_policies(void **state)
{
    static const int input[] = {0, 1, 2, 3, GT_BOXES, SIZES};
    for (int k = 0; k < 2 * 6 * 3 * 2; k++) {
        int i = input[k % 6], policy = k / 6 % 3, device = k / 18 % 2;
        int32_t image, query, stages, images;
        GOOD(dd_context_create(&context, devices[device]));
        kd_case *c = make(DD_F32, (uint64_t)k);
        spoil(c, i, k / 36 ? (double)INFINITY : (double)NAN, &image, &query);
        dd_matcher *m;
        static const char *const options[] = {"with=teacher split=1", "with=teacher split=1 nonfinite=skip",
                                              "with=teacher split=1 nonfinite=clamp"};
        GOOD(dd_matcher_create(&m, context, options[policy]));
        assert_int_equal(case_bind_matcher(c, m, true), DD_OK);
        if (policy == 0) {
            FAILS(DD_ERR_NONFINITE, dd_matcher_run(m));
            SAYS(inputs[i].name);
            assert_int_equal(dd_error_place(DD_PLACE_IMAGE), image);
            assert_int_equal(dd_error_place(DD_PLACE_QUERY), query);
            FAILS(DD_ERR_STATE, dd_matcher_count(m, &stages, &images));
        } else if (policy == 2 && i == SIZES && !(k / 36)) {
            FAILS(DD_ERR_ARGUMENT, dd_matcher_run(m));
        } else {
            GOOD(dd_matcher_run(m));
            GOOD(dd_matcher_count(m, &stages, &images));
            for (int32_t s = 0; s < stages * images; s++) {
                const int32_t *match;
                int64_t count, pairs = 0;
                double cost;
                GOOD(dd_matcher_get(m, s / images, s % images, &match, &count, &cost));
                for (int64_t q = 0; q < count; q++)
                    pairs += match[q] >= 0;
                assert_int_equal(pairs, policy == 1 && s % images == image ? 0 : 7);
                assert_true(isfinite(cost));
            }
        }
        dd_matcher_free(m);
        case_free(c);
        dd_context_free(context);
    }
}

static void bare_assignment(void **state)
{
    double cost[30 * 20], total = -1;
    int32_t match[30];
    uint64_t random = 4;
    const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (int k = 0; k < 300; k++) {
        for (int i = 0; i < 600; i++)
            cost[i] = next_random(&random);
        int at = (int)(next_random(&random) * 600);
        cost[at] = bad[k % 3];
        memset(match, 0x5A, sizeof match);
        FAILS(DD_ERR_NONFINITE, dd_assign_f64(cost, 30, 20, 20, 1, match, &total));
        assert_int_equal(dd_error_place(DD_PLACE_IMAGE), at / 20);
        assert_int_equal(dd_error_place(DD_PLACE_QUERY), at % 20);
        assert_true(match[0] == 0x5A5A5A5A && match[29] == 0x5A5A5A5A && total == -1);
    }
    const double extreme[] = {DBL_MAX, -DBL_MAX, DBL_MIN / 4, 0};
    for (int k = 0; k < 300; k++) {
        for (int i = 0; i < 600; i++)
            cost[i] = i % 7 ? next_random(&random) : extreme[(i / 7 + k) % 4];
        GOOD(dd_assign_f64(cost, 30, 20, 20, 1, match, NULL));
        int pairs = 0;
        for (int i = 0; i < 30; i++)
            pairs += match[i] >= 0;
        assert_int_equal(pairs, 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_name_the_place),
        cmocka_unit_test(skipped_images_have_no_gradient),
        cmocka_unit_test(all_images_skipped),
        cmocka_unit_test(skipping_equals_the_smaller_batch),
        cmocka_unit_test(clamping_gives_finite_results),
        cmocka_unit_test(clamped_numbers_get_no_gradient),
        cmocka_unit_test(extreme_numbers),
        cmocka_unit_test(matcher_policies),
        cmocka_unit_test(bare_assignment),
        cmocka_unit_test(every_status_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
