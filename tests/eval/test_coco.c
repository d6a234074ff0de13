/* SPDX-License-Identifier: Apache-2.0
 * dd_eval against pycocotools: the official sample, stored random cases (cases.json), and how boxes may be handed over.
 *
 *     test_coco            the tests
 *     test_coco FILE       checks the cases of another file; the last line is 'N passed, N failed' */
#include <detrdistill/detrdistill.h>

#include <json-c/json.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef DDI_FAULT_POINTS
int64_t dd_fault_set(int64_t n, int32_t for_good);
#endif

#define TOLERANCE 1e-12

static void good(dd_status status)
{
    if (status != DD_OK)
        fprintf(stderr, "%s: %s\n", dd_status_name(status), dd_error_message());
    assert_int_equal(status, DD_OK);
    assert_string_equal(dd_error_message(), "");
}

static void bad(dd_status status, dd_status expected)
{
    assert_int_equal(status, expected);
    assert_int_equal(dd_error_status(), expected);
    assert_true(strlen(dd_error_message()) > 10);
}

static json_object *member(json_object *object, const char *key)
{
    json_object *found = NULL;
    assert_true(json_object_object_get_ex(object, key, &found));
    return found;
}

static double number(json_object *array, size_t index)
{
    return json_object_get_double(json_object_array_get_idx(array, index));
}

/* Rows [image, label, x, y, w, h, ..] of a case. */
static void read_row(json_object *row, int64_t *image, int64_t *label, double box[4])
{
    *image = json_object_get_int64(json_object_array_get_idx(row, 0));
    *label = json_object_get_int64(json_object_array_get_idx(row, 1));
    for (size_t i = 0; i < 4; i++)
        box[i] = number(row, 2 + i);
}

static void add_object(dd_eval *eval, json_object *row)
{
    int64_t image, label;
    double box[4], area = number(row, 6);
    uint8_t crowd = (uint8_t)json_object_get_int(json_object_array_get_idx(row, 7));
    read_row(row, &image, &label, box);
    good(dd_eval_add_objects(eval, image, 1, box, &label, &crowd, &area));
}

static void add_detection(dd_eval *eval, json_object *row)
{
    int64_t image, label;
    double box[4], score = number(row, 6);
    read_row(row, &image, &label, box);
    good(dd_eval_add_detections(eval, image, 1, box, &label, &score));
}

static dd_eval *fill(json_object *test)
{
    dd_eval *eval;
    json_object *images = member(test, "images"), *objects = member(test, "objects"), *detections = member(test, "detections");
    good(dd_eval_create(&eval));
    for (size_t i = 0; i < json_object_array_length(images); i++)
        good(dd_eval_add_objects(eval, json_object_get_int64(json_object_array_get_idx(images, i)), 0, NULL, NULL, NULL, NULL));
    for (size_t i = 0; i < json_object_array_length(objects); i++)
        add_object(eval, json_object_array_get_idx(objects, i));
    for (size_t i = 0; i < json_object_array_length(detections); i++)
        add_detection(eval, json_object_array_get_idx(detections, i));
    return eval;
}

/* The largest difference from pycocotools over the twelve numbers and the classes. */
static double difference(json_object *test)
{
    double numbers[12], worst = 0;
    dd_eval *eval = fill(test);
    good(dd_eval_finish(eval, numbers));
    for (size_t i = 0; i < 12; i++)
        worst = fmax(worst, fabs(numbers[i] - number(member(test, "numbers"), i)));
    json_object *classes = member(test, "classes");
    struct json_object_iterator it = json_object_iter_begin(classes), end = json_object_iter_end(classes);
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        double ap, expected = json_object_get_double(json_object_iter_peek_value(&it));
        good(dd_eval_class(eval, strtoll(json_object_iter_peek_name(&it), NULL, 10), &ap));
        worst = fmax(worst, fabs(ap - expected));
    }
    dd_eval_free(eval);
    return worst;
}

/* How many cases of a file differ, or -1 when it cannot be read. */
static int count_wrong(const char *file, int *cases)
{
    json_object *all = json_object_from_file(file);
    if (!all)
        return -1;
    int wrong = 0;
    *cases = (int)json_object_array_length(all);
    for (int i = 0; i < *cases; i++) {
        double worst = difference(json_object_array_get_idx(all, (size_t)i));
        if (!(worst <= TOLERANCE)) {
            printf("# case %d differs by %g\n", i, worst);
            wrong++;
        }
    }
    json_object_put(all);
    return wrong;
}

static void stored_cases(void **state)
{
    int cases = 0;
    assert_int_equal(count_wrong(CASES, &cases), 0);
    assert_int_equal(cases, 24);
}

/* ---- COCO's own sample: 100 images of val2014 and made-up results; numbers by pycocotools 2.0.11 */

static void read_annotation(json_object *annotation, int64_t *image, int64_t *label, double box[4])
{
    *image = json_object_get_int64(member(annotation, "image_id"));
    *label = json_object_get_int64(member(annotation, "category_id"));
    for (size_t i = 0; i < 4; i++)
        box[i] = number(member(annotation, "bbox"), i);
}

static void official_sample(void **state)
{
    static const char truth_file[] = SHARED_DIR "/data/eval-coco/instances_val2014_100.json";
    static const char results_file[] = SHARED_DIR "/data/eval-coco/instances_val2014_fakebbox100_results.json";
    static const double expected[12] = {0.5045806987249628, 0.6969727247299577, 0.5729816669904824,  0.5856257209410443,
                                        0.5193996948036719, 0.5013978986347466, 0.38681277964578054, 0.5936795762842003,
                                        0.595352982877607,  0.6398109626113442, 0.5664205978994309,  0.5642905982905982};
    if (access(truth_file, R_OK) || access(results_file, R_OK)) {
        print_message("skipped: no %s\n", truth_file);
        skip();
    }
    json_object *truth = json_object_from_file(truth_file), *results = json_object_from_file(results_file);
    dd_eval *eval;
    int64_t image, label;
    double box[4], numbers[12];
    good(dd_eval_create(&eval));
    json_object *annotations = member(truth, "annotations");
    for (size_t i = 0; i < json_object_array_length(results); i++) { /* detections first: the order does not matter */
        json_object *result = json_object_array_get_idx(results, i);
        double score = json_object_get_double(member(result, "score"));
        read_annotation(result, &image, &label, box);
        good(dd_eval_add_detections(eval, image, 1, box, &label, &score));
    }
    for (size_t i = 0; i < json_object_array_length(annotations); i++) {
        json_object *annotation = json_object_array_get_idx(annotations, i);
        uint8_t crowd = (uint8_t)json_object_get_int(member(annotation, "iscrowd"));
        double area = json_object_get_double(member(annotation, "area"));
        read_annotation(annotation, &image, &label, box);
        good(dd_eval_add_objects(eval, image, 1, box, &label, &crowd, &area));
    }
    json_object *images = member(truth, "images");
    for (size_t i = 0; i < json_object_array_length(images); i++)
        good(dd_eval_add_objects(eval, json_object_get_int64(member(json_object_array_get_idx(images, i), "id")), 0, NULL, NULL,
                                 NULL, NULL));
    good(dd_eval_finish(eval, numbers));
    for (int i = 0; i < 12; i++)
        assert_true(fabs(numbers[i] - expected[i]) <= TOLERANCE);
    dd_eval_free(eval);
    json_object_put(truth);
    json_object_put(results);
}

/* ---- how boxes are handed over */

static const double two_boxes[8] = {0, 0, 40, 40, 100, 100, 50, 50};
static const int64_t two_labels[2] = {3, 5};
static const double two_scores[2] = {.9, .8};

static void empty(void **state)
{
    dd_eval *eval;
    double numbers[12], ap;
    good(dd_eval_create(&eval));
    good(dd_eval_finish(eval, numbers));
    for (int i = 0; i < 12; i++)
        assert_true(numbers[i] == -1);
    good(dd_eval_add_detections(eval, 1, 2, two_boxes, two_labels, two_scores)); /* detections alone */
    good(dd_eval_finish(eval, numbers));
    assert_true(numbers[0] == -1);
    good(dd_eval_class(eval, 3, &ap));
    assert_true(ap == -1);
    dd_eval_free(eval);
}

static void more_after_finish(void **state)
{
    dd_eval *eval;
    double numbers[12], ap;
    good(dd_eval_create(&eval));
    good(dd_eval_add_objects(eval, 1, 2, two_boxes, two_labels, NULL, NULL));
    good(dd_eval_add_detections(eval, 1, 1, two_boxes, two_labels, two_scores));
    good(dd_eval_finish(eval, numbers));
    assert_true(fabs(numbers[0] - .5) < TOLERANCE); /* one class found, the other not */
    good(dd_eval_class(eval, 3, &ap));
    assert_true(fabs(ap - 1) < TOLERANCE);
    good(dd_eval_class(eval, 5, &ap));
    assert_true(ap == 0);
    good(dd_eval_add_detections(eval, 1, 1, two_boxes + 4, two_labels + 1, two_scores + 1));
    bad(dd_eval_class(eval, 3, &ap), DD_ERR_STATE);
    good(dd_eval_finish(eval, numbers));
    assert_true(fabs(numbers[0] - 1) < TOLERANCE);
    good(dd_eval_finish(eval, numbers)); /* again, nothing new */
    assert_true(fabs(numbers[0] - 1) < TOLERANCE);
    dd_eval_free(eval);
}

static void image_without_objects(void **state)
{
    static const double wrong_score = 1;
    dd_eval *eval;
    double numbers[12];
    good(dd_eval_create(&eval));
    good(dd_eval_add_objects(eval, 1, 1, two_boxes, two_labels, NULL, NULL));
    good(dd_eval_add_detections(eval, 1, 1, two_boxes, two_labels, two_scores));
    good(
        dd_eval_add_detections(eval, 2, 1, two_boxes, two_labels, &wrong_score)); /* image 2 is not part of the evaluation .. */
    good(dd_eval_finish(eval, numbers));
    assert_true(fabs(numbers[0] - 1) < TOLERANCE);
    good(dd_eval_add_objects(eval, 2, 0, NULL, NULL, NULL, NULL)); /* .. now it is: a false alarm before the right one */
    good(dd_eval_finish(eval, numbers));
    assert_true(fabs(numbers[0] - .5) < TOLERANCE);
    dd_eval_free(eval);
}

/* An area on a limit belongs to both sides: small ends and medium starts at 32 * 32. */
static void area_on_the_edge(void **state)
{
    static const double box[4] = {0, 0, 32, 32};
    dd_eval *eval;
    double numbers[12];
    good(dd_eval_create(&eval));
    good(dd_eval_add_objects(eval, 1, 1, box, two_labels, NULL, NULL));
    good(dd_eval_add_detections(eval, 1, 1, box, two_labels, two_scores));
    good(dd_eval_finish(eval, numbers));
    assert_true(fabs(numbers[3] - 1) < TOLERANCE);
    assert_true(fabs(numbers[4] - 1) < TOLERANCE);
    assert_true(numbers[5] == -1);
    dd_eval_free(eval);
}

static void wrong_calls(void **state)
{
    dd_eval *eval;
    double numbers[12], ap, infinite[8] = {0, 0, 1, 1, 0, (double)INFINITY, 1, 1}, nan_score[2] = {1, (double)NAN};
    uint8_t two = 2;
    bad(dd_eval_create(NULL), DD_ERR_ARGUMENT);
    good(dd_eval_create(&eval));
    bad(dd_eval_add_objects(NULL, 1, 0, NULL, NULL, NULL, NULL), DD_ERR_ARGUMENT);
    bad(dd_eval_add_objects(eval, 1, -1, two_boxes, two_labels, NULL, NULL), DD_ERR_ARGUMENT);
    bad(dd_eval_add_objects(eval, 1, 2, NULL, two_labels, NULL, NULL), DD_ERR_ARGUMENT);
    bad(dd_eval_add_objects(eval, 1, 2, two_boxes, NULL, NULL, NULL), DD_ERR_ARGUMENT);
    bad(dd_eval_add_objects(eval, 1, 16385, two_boxes, two_labels, NULL, NULL), DD_ERR_LIMIT);
    bad(dd_eval_add_objects(eval, 1, 1, two_boxes, two_labels, &two, NULL), DD_ERR_ARGUMENT);
    bad(dd_eval_add_objects(eval, 1, 2, infinite, two_labels, NULL, NULL), DD_ERR_NONFINITE);
    assert_non_null(strstr(dd_error_message(), "boxes 1"));
    bad(dd_eval_add_objects(eval, 1, 2, two_boxes, two_labels, NULL, nan_score), DD_ERR_NONFINITE);
    bad(dd_eval_add_detections(eval, 1, 2, two_boxes, two_labels, NULL), DD_ERR_ARGUMENT);
    bad(dd_eval_add_detections(eval, 1, 2, two_boxes, two_labels, nan_score), DD_ERR_NONFINITE);
    bad(dd_eval_add_detections(eval, 1, 2, infinite, two_labels, two_scores), DD_ERR_NONFINITE);
    bad(dd_eval_finish(eval, NULL), DD_ERR_ARGUMENT);
    bad(dd_eval_class(eval, 3, &ap), DD_ERR_STATE);
    good(dd_eval_finish(eval, numbers)); /* what was refused left nothing behind */
    assert_true(numbers[0] == -1);
    bad(dd_eval_class(eval, 3, NULL), DD_ERR_ARGUMENT);
    dd_eval_free(eval);
    bad(dd_eval_finish(eval, numbers), DD_ERR_ARGUMENT); /* freed */
    dd_eval_free(NULL);
}

#ifdef DDI_FAULT_POINTS
/* Every allocation fails in turn, once and for good: NOMEM, and after it the same handle still works. */
static void out_of_memory(void **state)
{
    for (int for_good = 0; for_good < 2; for_good++) {
        dd_status status = DD_ERR_NOMEM;
        int64_t n = 1;
        for (; status != DD_OK; n++) {
            dd_eval *eval = NULL;
            double numbers[12];
            dd_fault_set(n, for_good);
            status = dd_eval_create(&eval);
            if (!status)
                status = dd_eval_add_objects(eval, 1, 2, two_boxes, two_labels, NULL, NULL);
            if (!status)
                status = dd_eval_add_detections(eval, 1, 2, two_boxes, two_labels, two_scores);
            if (!status)
                status = dd_eval_finish(eval, numbers);
            dd_fault_set(0, 0);
            assert_true(status == DD_OK || status == DD_ERR_NOMEM);
            if (eval) {
                good(dd_eval_finish(eval, numbers));
                dd_eval_free(eval);
            }
        }
        assert_true(n > 8);
    }
}
#endif

int main(int argc, char **argv)
{
    if (argc == 2) {
        int cases = 0, wrong = count_wrong(argv[1], &cases);
        if (wrong < 0)
            return 1;
        printf("%d passed, %d failed\n", cases - wrong, wrong);
        return wrong > 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_cases),      cmocka_unit_test(official_sample),       cmocka_unit_test(empty),
        cmocka_unit_test(more_after_finish), cmocka_unit_test(image_without_objects), cmocka_unit_test(area_on_the_edge),
        cmocka_unit_test(wrong_calls),
#ifdef DDI_FAULT_POINTS
        cmocka_unit_test(out_of_memory),
#endif
    };
    return cmocka_run_group_tests_name("coco", tests, NULL, NULL);
}
