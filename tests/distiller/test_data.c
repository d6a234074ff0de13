/* SPDX-License-Identifier: Apache-2.0
 * R15: batches at the edge of sense (nothing in them, too much, all the same, crowds), and the same numbers in other element
 * types and orders of memory. */
#include "case.h"
#include "guard.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const devices[] = {"device=ref", CPU_DEVICE " threads=1"};
static const char *const profiles[] = {"", "profile=paper", "contrastive=1 contrastive-width=8 split=1 prior=group",
                                       "family=dino", "family=adamixer prior=none"};
enum { PROFILES = 5 };

static dd_context *context;

static dd_distiller *open_on(kd_case *c, const char *options)
{
    dd_distiller *d;
    GOOD(dd_distiller_create(&d, context, options));
    assert_int_equal(case_bind(c, d, true), DD_OK);
    return d;
}

/* A good step: finite terms and gradients. */
static void expect_finite_step(kd_case *c, const char *options)
{
    dd_distiller *d = open_on(c, options);
    double total = (double)NAN;
    case_mark_gradients(c);
    GOOD(dd_distiller_step(d, &total));
    assert_true(isfinite(total));
    assert_true(case_gradients_finite(c));
    dd_distiller_free(d);
}

static void fill(kd_case *c, const char *name, double value)
{
    case_tensor *t = case_find(c, name);
    for (int64_t i = 0; i < tensor_elements(&t->view); i++)
        tensor_set(&t->view, i, value);
}

/* What is done to a case before it must step well. */
typedef struct edge {
    const char *name;
    case_sizes sizes;
    void (*change)(kd_case *c);
} edge;

static void first_image_is_empty(kd_case *c)
{
    tensor_set(&case_find(c, "gt.offsets")->view, 1, 0);
}

static void last_image_is_empty(kd_case *c)
{
    const dd_tensor *offsets = &case_find(c, "gt.offsets")->view;
    tensor_set(offsets, 1, tensor_get(offsets, 2));
}

static void all_equal(kd_case *c)
{
    static const char *const names[] = {"student.logits",     "teacher.logits", "prior.logits", "student.boxes",
                                        "teacher.boxes",      "prior.boxes",    "gt.boxes",     "student.features.0",
                                        "teacher.features.0", "teacher.queries"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        fill(c, names[i], .25);
}

static void zero_area(kd_case *c)
{
    static const char *const names[] = {"student.boxes", "teacher.boxes", "prior.boxes", "gt.boxes"};
    for (int k = 0; k < 4; k++) {
        case_tensor *t = case_find(c, names[k]);
        for (int64_t i = 0; i < tensor_elements(&t->view); i++)
            tensor_set(&t->view, i, i % 4 < 2 ? .5 : 0);
    }
}

static void inverted_predictions(kd_case *c)
{
    case_tensor *t = case_find(c, "student.boxes");
    for (int64_t i = 2; i < tensor_elements(&t->view); i += 4)
        tensor_set(&t->view, i, -.1);
}

static void duplicates(kd_case *c)
{
    case_tensor *boxes = case_find(c, "gt.boxes");
    for (int64_t i = 4; i < tensor_elements(&boxes->view); i++)
        tensor_set(&boxes->view, i, tensor_get(&boxes->view, i % 4));
    fill(c, "gt.labels", 1);
}

static void silent_queries(kd_case *c)
{
    fill(c, "teacher.queries", 0);
    fill(c, "student.queries", 0);
    fill(c, "teacher.features.0", 0);
}

static void extreme_logits(kd_case *c)
{
    case_tensor *s = case_find(c, "student.logits"), *t = case_find(c, "teacher.logits");
    for (int64_t i = 0; i < tensor_elements(&s->view); i++)
        tensor_set(&s->view, i, i % 2 ? 1000 : -1000);
    for (int64_t i = 0; i < tensor_elements(&t->view); i++)
        tensor_set(&t->view, i, i % 3 ? 1000 : -1000);
}

static void all_crowd(kd_case *c)
{
    fill(c, "gt.crowd", 1);
}

static void all_padding(kd_case *c)
{
    fill(c, "features.padding.0", 1);
}

static case_sizes with(int32_t objects, int32_t students, int32_t teachers, int32_t classes, int32_t parts)
{
    case_sizes s = case_small;
    s.objects = objects;
    s.student_queries = students;
    s.teacher_queries = teachers;
    s.classes = classes;
    s.parts = parts;
    return s;
}

static void edges(void **state)
{
    const edge all[] = {
        {"no objects", with(0, 7, 9, 5, 0), NULL},
        {"no objects, denoising", with(0, 7, 9, 5, CASE_DENOISING), NULL},
        {"first image empty", with(2, 7, 9, 5, 0), first_image_is_empty},
        {"last image empty", with(2, 7, 9, 5, 0), last_image_is_empty},
        {"one query", with(1, 1, 1, 5, 0), NULL},
        {"one student query", with(3, 1, 9, 5, 0), NULL},
        {"objects x 10", with(70, 7, 9, 5, CASE_DENOISING), NULL},
        {"one class", with(3, 7, 9, 1, CASE_DENOISING), NULL},
        {"all equal", with(3, 7, 9, 5, 0), all_equal},
        {"zero area", with(3, 7, 9, 5, 0), zero_area},
        {"inverted predictions", with(3, 7, 9, 5, 0), inverted_predictions},
        {"duplicates", with(5, 7, 9, 5, 0), duplicates},
        {"silent queries", with(3, 7, 9, 5, 0), silent_queries},
        {"extreme logits", with(3, 7, 9, 5, 0), extreme_logits},
        {"all crowd", with(3, 7, 9, 5, CASE_CROWD), all_crowd},
        {"all padding", with(3, 7, 9, 5, CASE_PADDING), all_padding},
    };
    for (int i = 0; i < 2; i++) {
        GOOD(dd_context_create(&context, devices[i]));
        for (size_t k = 0; k < sizeof all / sizeof all[0] * 2; k++) {
            case_sizes sizes = all[k / 2].sizes;
            sizes.dtype = k % 2 ? DD_F64 : DD_F32;
            for (int p = 0; p < PROFILES; p++) {
                kd_case *c = case_make(sizes, k * 10 + (uint64_t)p);
                if (all[k / 2].change)
                    all[k / 2].change(c);
                expect_finite_step(c, profiles[p]);
                case_free(c);
            }
        }
        dd_context_free(context);
    }
}

/* Numbers of stages, images and queries that differ. */
static void sizes_of_all_kinds(void **state)
{
    static const int32_t stages[][2] = {{1, 1}, {3, 3}, {3, 6}, {1, 6}, {2, 6}};
    GOOD(dd_context_create(&context, devices[0]));
    for (int k = 0; k < 5; k++) {
        for (int32_t images = 1; images <= 5; images++) {
            case_sizes s = with(2, images * 3, 14 - images * 2, 4, 0);
            s.images = images;
            s.student_stages = stages[k][0];
            s.teacher_stages = stages[k][1];
            kd_case *c = case_make(s, (uint64_t)(k * 10 + images));
            expect_finite_step(c, "");
            expect_finite_step(c, "split=1 stage=first");
            case_free(c);
        }
    }
    dd_context_free(context);
}

static void stages_that_do_not_fit(void **state)
{
    static const int32_t stages[][2] = {{2, 3}, {6, 3}};
    GOOD(dd_context_create(&context, devices[0]));
    for (int k = 0; k < 2; k++) {
        case_sizes s = case_small;
        s.student_stages = stages[k][0];
        s.teacher_stages = stages[k][1];
        kd_case *c = case_make(s, 4);
        dd_distiller *d = open_on(c, "");
        FAILS(DD_ERR_SHAPE, dd_distiller_step(d, NULL));
        SAYS("teacher.logits");
        dd_distiller_free(d);
        d = open_on(c, "stage=first");
        if (k == 0)
            GOOD(dd_distiller_step(d, NULL));
        else
            FAILS(DD_ERR_SHAPE, dd_distiller_step(d, NULL));
        dd_distiller_free(d);
        case_free(c);
    }
    dd_context_free(context);
}

/* One number of one tensor that must be refused, naming the tensor and the image. */
static const struct {
    const char *tensor;
    int64_t element;
    double value;
    dd_status status;
    int64_t image;
} refused[] = {
    {"gt.boxes", 2, -.1, DD_ERR_ARGUMENT, 0},      {"gt.boxes", 11, -1e-6, DD_ERR_ARGUMENT, 1},
    {"gt.labels", 0, 5, DD_ERR_ARGUMENT, 0},       {"gt.labels", 4, -1, DD_ERR_ARGUMENT, 1},
    {"gt.labels", 3, 1e9, DD_ERR_ARGUMENT, 1},     {"gt.offsets", 0, 1, DD_ERR_ARGUMENT, -1},
    {"gt.offsets", 1, 6, DD_ERR_ARGUMENT, -1},     {"gt.offsets", 1, -1, DD_ERR_ARGUMENT, -1},
    {"gt.offsets", 2, 4, DD_ERR_ARGUMENT, -1},     {"gt.offsets", 2, 6, DD_ERR_ARGUMENT, -1},
    {"gt.offsets", 2, 1e12, DD_ERR_ARGUMENT, -1},  {"image.sizes", 0, 0, DD_ERR_ARGUMENT, 0},
    {"image.sizes", 3, -7, DD_ERR_ARGUMENT, 1},    {"image.sizes", 2, 2e6, DD_ERR_ARGUMENT, 1},
    {"denoising.match", 3, 2, DD_ERR_ARGUMENT, 0}, {"denoising.match", 6, 3, DD_ERR_ARGUMENT, 1},
};

static void bad_numbers(void **state)
{
    GOOD(dd_context_create(&context, devices[0]));
    for (size_t k = 0; k < sizeof refused / sizeof refused[0]; k++) {
        kd_case *c = case_make(with(2, 7, 9, 5, CASE_DENOISING), 1);
        tensor_set(&case_find(c, refused[k].tensor)->view, refused[k].element, refused[k].value);
        dd_distiller *d = open_on(c, "");
        double total = -3;
        case_mark_gradients(c);
        FAILS(refused[k].status, dd_distiller_step(d, &total));
        assert_string_equal(dd_error_subject(), refused[k].tensor);
        assert_int_equal(dd_error_place(DD_PLACE_IMAGE), refused[k].image);
        assert_true(case_gradients_untouched(c));
        assert_true(total == -3);
        dd_distiller_free(d);
        case_free(c);
    }
    dd_context_free(context);
}

static void denoising_slots_that_do_not_fit(void **state)
{
    GOOD(dd_context_create(&context, devices[0]));
    kd_case *c = case_make(with(2, 7, 9, 5, CASE_DENOISING), 1);
    dd_distiller *d;
    tensor_set(&case_find(c, "gt.offsets")->view, 1, 1); /* the fullest image has 4 objects now, for 6 slots */
    tensor_set(&case_find(c, "denoising.match")->view, 1, -1);
    tensor_set(&case_find(c, "denoising.match")->view, 13, -1);
    d = open_on(c, "");
    case_mark_gradients(c);
    FAILS(DD_ERR_SHAPE, dd_distiller_step(d, NULL));
    SAYS("denoising-groups");
    assert_true(case_gradients_untouched(c));
    dd_distiller_free(d);
    d = open_on(c, "denoising-groups=1");
    GOOD(dd_distiller_step(d, NULL));
    dd_distiller_free(d);
    case_free(c);
    dd_context_free(context);
}

/* Removes the objects whose flag is 1, by hand. */
static void remove_crowd(kd_case *c)
{
    case_tensor *crowd = case_find(c, "gt.crowd"), *boxes = case_find(c, "gt.boxes"), *labels = case_find(c, "gt.labels");
    const dd_tensor *offsets = &case_find(c, "gt.offsets")->view;
    int64_t kept = 0, start = 0;
    for (int32_t b = 0; b < c->sizes.images; b++) {
        int64_t end = (int64_t)tensor_get(offsets, b + 1);
        for (int64_t g = start; g < end; g++) {
            if (tensor_get(&crowd->view, g) != 0)
                continue;
            for (int k = 0; k < 4; k++)
                tensor_set(&boxes->view, 4 * kept + k, tensor_get(&boxes->view, 4 * g + k));
            tensor_set(&labels->view, kept++, tensor_get(&labels->view, g));
        }
        start = end;
        tensor_set(offsets, b + 1, (double)kept);
    }
    boxes->view.shape[0] = labels->view.shape[0] = kept;
    case_drop(c, "gt.crowd");
}

static void crowd_boxes_are_as_if_absent(void **state)
{
    static const int32_t original[3][4] = {{1, 3, -1, -1}, {0, 1, 3, 4}, {2, -1, -1, -1}};
    for (int i = 0; i < 2; i++) {
        GOOD(dd_context_create(&context, devices[i]));
        for (int p = 0; p < PROFILES; p++) {
            case_sizes s = with(4, 9, 10, 5, CASE_CROWD);
            s.images = 2;
            kd_case *with_crowd = case_make(s, 31), *without = case_make(s, 31);
            static const int64_t crowd[] = {0, 2, 6};
            for (int k = 0; k < 3; k++) {
                tensor_set(&case_find(with_crowd, "gt.crowd")->view, crowd[k], 1);
                tensor_set(&case_find(without, "gt.crowd")->view, crowd[k], 1);
            }
            remove_crowd(without);
            dd_distiller *a = open_on(with_crowd, profiles[p]), *b = open_on(without, profiles[p]);
            GOOD(dd_distiller_step(a, NULL));
            GOOD(dd_distiller_step(b, NULL));
            assert_true(case_hash_terms(a) == case_hash_terms(b));
            assert_true(case_hash_gradients(with_crowd) == case_hash_gradients(without));
            dd_tensor x, y;
            GOOD(dd_distiller_result(a, "match.det", &x));
            GOOD(dd_distiller_result(b, "match.det", &y));
            for (int64_t k = 0; k < tensor_elements(&x); k++) {
                int32_t compact = ((int32_t *)y.data)[k], image = (int32_t)(k / 9 % 2);
                assert_int_equal(((int32_t *)x.data)[k], compact < 0 ? -1 : original[image][compact]);
            }
            dd_distiller_free(a);
            dd_distiller_free(b);
            case_free(with_crowd);
            case_free(without);
        }
        dd_context_free(context);
    }
}

static const char *const floats[] = {"student.logits",
                                     "student.boxes",
                                     "teacher.logits",
                                     "teacher.boxes",
                                     "prior.logits",
                                     "prior.boxes",
                                     "teacher.queries",
                                     "student.features.0",
                                     "teacher.features.1",
                                     "gt.boxes",
                                     "student.queries",
                                     "adaptor.0.weight",
                                     "adaptor.1.bias",
                                     "denoising.logits",
                                     "denoising.boxes",
                                     "contrastive.student.w1",
                                     "contrastive.teacher.bn_weight"};
enum { FLOATS = sizeof floats / sizeof floats[0] };

static const int32_t no_order[4] = {0, 1, 2, 3}, reversed[4] = {3, 2, 1, 0}, turned[4] = {1, 3, 0, 2};

/* The same numbers contiguous and in the case's working type. */
static uint64_t plain_hash(kd_case *c, int32_t dtype, const char *options, uint64_t *terms)
{
    for (int i = 0; i < FLOATS; i++)
        case_restore(case_find(c, floats[i]), dtype, NULL, 0);
    dd_distiller *d = open_on(c, options);
    GOOD(dd_distiller_step(d, NULL));
    *terms = case_hash_terms(d);
    dd_distiller_free(d);
    return case_hash_gradients(c);
}

/* Inputs of any float type and any strides give the bits of contiguous ones with the same numbers. */
static void inputs_of_every_type_and_order(void **state)
{
    static const int32_t types[] = {DD_F16, DD_BF16, DD_F32, DD_F64};
    for (int k = 0; k < 2 * 4 * 3; k++) {
        int32_t type = types[k % 4], work = k % 4 == 3 ? DD_F64 : DD_F32;
        const int32_t *order = (const int32_t *[]){no_order, reversed, turned}[k / 8];
        case_sizes s = with(2, 7, 9, 5, CASE_DENOISING | CASE_ADAPTOR | CASE_BRANCHES);
        s.dtype = work;
        GOOD(dd_context_create(&context, devices[k / 4 % 2]));
        kd_case *c = case_make(s, (uint64_t)k);
        for (int i = 0; i < FLOATS; i++) {
            case_tensor *t = case_find(c, floats[i]);
            case_restore(t, type, t->view.ndim == 4 ? order : NULL, k % 3);
        }
        dd_distiller *d = open_on(c, "contrastive=1 contrastive-width=8");
        GOOD(dd_distiller_step(d, NULL));
        uint64_t terms = case_hash_terms(d), gradients = case_hash_gradients(c), plain_terms;
        dd_distiller_free(d);
        assert_true(plain_hash(c, work, "contrastive=1 contrastive-width=8", &plain_terms) == gradients);
        assert_true(plain_terms == terms);
        case_free(c);
        dd_context_free(context);
    }
}

/* Negative strides and images of whole tensors that share one memory (stride 0). */
static void reversed_and_repeated_inputs(void **state)
{
    GOOD(dd_context_create(&context, devices[0]));
    kd_case *c = case_make(with(2, 7, 9, 5, 0), 3);
    dd_tensor *view = &case_find(c, "teacher.logits")->view;
    view->data = (char *)view->data + 4 * view->stride[0] * (view->shape[0] - 1);
    view->stride[0] = -view->stride[0];
    case_find(c, "teacher.queries")->view.stride[1] = 0;
    uint64_t terms[2];
    for (int i = 0; i < 2; i++) {
        dd_distiller *d = open_on(c, "");
        GOOD(dd_distiller_step(d, NULL));
        terms[i] = case_hash_terms(d);
        dd_distiller_free(d);
        case_restore(case_find(c, "teacher.logits"), DD_F32, NULL, 0);
        case_restore(case_find(c, "teacher.queries"), DD_F32, NULL, 0);
    }
    assert_true(terms[0] == terms[1]);
    case_free(c);
    dd_context_free(context);
}

static double rounded(double value, int32_t dtype)
{
    uint64_t memory;
    dd_tensor one = {.dtype = dtype, .ndim = 1, .data = &memory, .shape = {1}, .stride = {1}};
    tensor_set(&one, 0, value);
    return tensor_get(&one, 0);
}

/* Gradients arrive in any type and order, rounded once; memory between their elements stays as it was. */
static void gradients_of_every_type_and_order(void **state)
{
    static const int32_t types[] = {DD_F16, DD_BF16, DD_F32, DD_F64};
    for (int k = 0; k < 2 * 4 * 3; k++) {
        int32_t type = types[k % 4];
        const int32_t *order = (const int32_t *[]){no_order, reversed, turned}[k / 8];
        GOOD(dd_context_create(&context, devices[k / 4 % 2]));
        case_sizes s = with(2, 7, 9, 5, CASE_DENOISING | CASE_ADAPTOR | CASE_BRANCHES);
        kd_case *a = case_make(s, (uint64_t)k), *b = case_make(s, (uint64_t)k);
        for (int32_t i = 0; i < b->count; i++)
            if (b->tensor[i].is_gradient)
                case_restore(&b->tensor[i], type, b->tensor[i].view.ndim == 4 ? order : NULL, 1);
        case_mark_gradients(b);
        dd_distiller *da = open_on(a, "contrastive=1 contrastive-width=8"), *db = open_on(b, "contrastive=1");
        GOOD(dd_distiller_step(da, NULL));
        GOOD(dd_distiller_step(db, NULL));
        assert_true(case_hash_terms(da) == case_hash_terms(db));
        for (int32_t i = 0; i < a->count; i++) {
            const dd_tensor *x = &a->tensor[i].view, *y = &b->tensor[i].view;
            for (int64_t e = 0; a->tensor[i].is_gradient && e < tensor_elements(x); e++)
                assert_true(tensor_get(y, e) == rounded(tensor_get(x, e), type));
            size_t size = (size_t)dd_dtype_size(type); /* every second element is a gap */
            for (size_t at = size; a->tensor[i].is_gradient && at < b->tensor[i].bytes; at += 2 * size)
                assert_int_equal(((unsigned char *)b->tensor[i].memory)[at], 0x5A);
        }
        dd_distiller_free(da);
        dd_distiller_free(db);
        case_free(a);
        case_free(b);
        dd_context_free(context);
    }
}

/* Objects and sizes in any integer type. */
static void integers_of_every_type(void **state)
{
    for (int i = 0; i < 2; i++) {
        GOOD(dd_context_create(&context, devices[i]));
        kd_case *c = case_make(with(2, 7, 9, 5, CASE_DENOISING), 8);
        dd_distiller *d = open_on(c, "");
        GOOD(dd_distiller_step(d, NULL));
        uint64_t terms = case_hash_terms(d);
        dd_distiller_free(d);
        static const char *const names[] = {"gt.labels", "gt.offsets", "denoising.match", "image.sizes"};
        for (int k = 0; k < 3; k++) {
            for (int n = 0; n < 4; n++)
                case_restore(case_find(c, names[n]), k == 2 && n == 3 ? DD_F32 : k ? DD_I64 : DD_I32, NULL, k);
            d = open_on(c, "");
            GOOD(dd_distiller_step(d, NULL));
            assert_true(case_hash_terms(d) == terms);
            dd_distiller_free(d);
        }
        case_free(c);
        dd_context_free(context);
    }
}

/* f32 and f64 agree as far as f32 can tell. */
static void f32_and_f64_agree(void **state)
{
    for (int p = 0; p < PROFILES * 2; p++) {
        GOOD(dd_context_create(&context, devices[p / PROFILES]));
        kd_case *c = case_make(with(2, 7, 9, 5, 0), 80 + (uint64_t)p);
        double narrow, wide;
        dd_distiller *d = open_on(c, profiles[p % PROFILES]);
        GOOD(dd_distiller_step(d, &narrow));
        dd_distiller_free(d);
        case_restore(case_find(c, "student.logits"), DD_F64, NULL, 0);
        d = open_on(c, profiles[p % PROFILES]); /* the other inputs stay f32, as do the gradients */
        GOOD(dd_distiller_step(d, &wide));
        dd_distiller_free(d);
        assert_true(fabs(narrow - wide) <= 1e-5 * fabs(wide));
        assert_true(narrow != wide);
        case_free(c);
        dd_context_free(context);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edges),
        cmocka_unit_test(sizes_of_all_kinds),
        cmocka_unit_test(stages_that_do_not_fit),
        cmocka_unit_test(bad_numbers),
        cmocka_unit_test(denoising_slots_that_do_not_fit),
        cmocka_unit_test(crowd_boxes_are_as_if_absent),
        cmocka_unit_test(inputs_of_every_type_and_order),
        cmocka_unit_test(reversed_and_repeated_inputs),
        cmocka_unit_test(gradients_of_every_type_and_order),
        cmocka_unit_test(integers_of_every_type),
        cmocka_unit_test(f32_and_f64_agree),
        cmocka_unit_test(every_status_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
