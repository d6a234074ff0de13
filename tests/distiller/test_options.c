/* SPDX-License-Identifier: Apache-2.0
 * Option words of all objects: keys, ranges, what is said about a wrong one, the order of profiles, and the help texts. */
#include "case.h"
#include "guard.h"

#include <stdio.h>
#include <string.h>

static dd_context *context;

static dd_status try_distiller(const char *options)
{
    dd_distiller *d = NULL;
    dd_status status = CALL(dd_distiller_create(&d, context, options));
    dd_distiller_free(d);
    return status;
}

static dd_status try_matcher(const char *options)
{
    dd_matcher *m = NULL;
    dd_status status = CALL(dd_matcher_create(&m, context, options));
    dd_matcher_free(m);
    return status;
}

static dd_status try_context(const char *options)
{
    dd_context *c = NULL;
    dd_status status = CALL(dd_context_create(&c, options));
    dd_context_free(c);
    return status;
}

static void wrong_words(void **state)
{
    static const struct {
        const char *options, *subject, *says;
    } wrong[] = {
        {"spilt=1", "spilt", "did you mean 'split'"},
        {"weight.detr=1", "weight.detr", "did you mean 'weight.det'"},
        {"feature_mask=none", "feature_mask", "did you mean 'feature-mask'"},
        {"zzzzzzzzzzzz=1", "zzzzzzzzzzzz", "dd_options_help"},
        {"split", "split", "key=value"},
        {"=1", "", "unknown"},
        {"split=2", "split", "0|1"},
        {"split=", "split", "0|1"},
        {"split=0|1", "split", "0|1"},
        {"family=detr", "family", "deformable-detr|"},
        {"profile=Paper", "profile", "paper"},
        {"topk=-1", "topk", "must lie in"},
        {"topk=1.5", "topk", "whole number"},
        {"topk=99999999999999999999", "topk", "whole number"},
        {"topk=0x10", "topk", "whole number"},
        {"gamma-iou=nan", "gamma-iou", "needs a number"},
        {"gamma-iou=inf", "gamma-iou", "needs a number"},
        {"gamma-iou=", "gamma-iou", "needs a number"},
        {"gamma-iou=1,5", "gamma-iou", "needs a number"},
        {"gamma-iou=101", "gamma-iou", "must lie in"},
        {"weight.det=-1e-9", "weight.det", "must lie in"},
        {"weight.det=1e999", "weight.det", "needs a number"},
        {"logits=0 contrastive=1", "contrastive", "needs logits=1"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(try_distiller(wrong[i].options), DD_ERR_OPTION);
        assert_string_equal(dd_error_subject(), wrong[i].subject);
        SAYS(wrong[i].says);
    }
    assert_int_equal(try_matcher("wiht=teacher"), DD_ERR_OPTION);
    SAYS("did you mean 'with'");
    assert_int_equal(try_context("thread=2"), DD_ERR_OPTION);
    SAYS("did you mean 'threads'");
    assert_int_equal(try_context("device=ref seed=-1"), DD_ERR_OPTION);
}

static void good_words(void **state)
{
    static const char *const good[] = {"",
                                       " ",
                                       "\t\n split=1 \r\n",
                                       "split=1 split=0",
                                       "gamma-iou=1e-3 gamma-class=.5",
                                       "weight.det=1E+2",
                                       "topk=+7",
                                       "profile=paper",
                                       "weight.features=0"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(try_distiller(good[i]), DD_OK);
    assert_int_equal(try_distiller(NULL), DD_OK);
    assert_int_equal(try_matcher(NULL), DD_OK);
    assert_int_equal(try_context("device=ref seed=9223372036854775807 threads=256 isa=avx2"), DD_OK);
}

/* Words of any bytes: never a crash, always a status. */
static void random_words(void **state)
{
    static const char *const pieces[] = {
        "split",   "=",   "1",        " ",      "topk",
        "weight.", "det", "\xC3\xA9", "\xFF",   "e",
        ".",       "-",   "profile",  "paper",  "999",
        "%s",      "%n",  "\t",       "family", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    uint64_t random = 12;
    int good = 0;
    for (int k = 0; k < 20000; k++) {
        char text[1024] = "";
        for (int n = (int)(next_random(&random) * 9); n > 0; n--)
            strcat(text, pieces[(int)(next_random(&random) * 20)]);
        dd_status status = try_distiller(text);
        assert_true(status == DD_OK || status == DD_ERR_OPTION);
        good += status == DD_OK;
    }
    assert_true(good > 100);
}

/* Values of double words, as they are read: a total that is a known multiple tells the weight. */
static void numbers_are_read_exactly(void **state)
{
    static const struct {
        const char *word;
        double value;
    } numbers[] = {{"0.1", .1},         {"1e-3", 1e-3}, {"2.5E2", 250}, {".125", .125},
                   {"1000000000", 1e9}, {"+3", 3},      {"0", 0},       {"1e9", 1e9}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char options[64];
        double weight;
        dd_distiller *d;
        snprintf(options, sizeof options, "weight.prior=%s", numbers[i].word);
        GOOD(dd_distiller_create(&d, context, options));
        GOOD(dd_distiller_get_weight(d, "prior", &weight));
        assert_true(weight >= numbers[i].value * (1 - 1e-15) && weight <= numbers[i].value * (1 + 1e-15));
        dd_distiller_free(d);
    }
}

static bool has_result(const char *options, const char *name)
{
    case_sizes s = case_small;
    s.student_width = s.teacher_width;
    kd_case *c = case_make(s, 1);
    dd_distiller *d;
    dd_tensor view;
    GOOD(dd_distiller_create(&d, context, options));
    assert_int_equal(case_bind(c, d, true), DD_OK);
    GOOD(dd_distiller_step(d, NULL));
    dd_status status = CALL(dd_distiller_result(d, name, &view));
    assert_true(status == DD_OK || status == DD_ERR_NOT_FOUND);
    bool is_split = status == DD_OK && strcmp(name, "terms.logits") == 0 && view.shape[1] == 5;
    dd_distiller_free(d);
    case_free(c);
    return strcmp(name, "terms.logits") == 0 ? is_split : status == DD_OK;
}

/* A profile sets its options at its place in the line; later words win. */
static void the_order_of_profiles(void **state)
{
    assert_true(has_result("profile=paper", "terms.logits"));
    assert_false(has_result("profile=paper split=0", "terms.logits"));
    assert_true(has_result("split=0 profile=paper", "terms.logits"));
    assert_false(has_result("profile=paper profile=default", "terms.logits"));
    assert_true(has_result("profile=as-published contrastive-width=3", "terms.contrastive"));
    assert_false(has_result("profile=as-published contrastive=0", "terms.contrastive"));
    assert_true(has_result("profile=as-published contrastive-width=3", "cost.prior"));
    assert_false(has_result("", "cost.prior"));
    assert_false(has_result("prior=none", "terms.prior"));
    assert_false(has_result("prior=init", "terms.prior"));
    assert_false(has_result("feature-mask=none", "terms.features"));
    assert_false(has_result("det=0", "terms.det"));
    assert_false(has_result("logits=0", "match.logits"));
}

static void help_has_every_key(void **state)
{
    static const char *const keys[3][24] = {{"device", "threads", "seed", "isa", "modules"},
                                            {"with", "family", "class", "l1", "giou", "split", "nonfinite"},
                                            {"profile",       "family",
                                             "classes",       "det",
                                             "logits",        "split",
                                             "stage",         "contrastive",
                                             "feature-mask",  "topk",
                                             "gamma-class",   "gamma-iou",
                                             "psi-raw",       "adaptor",
                                             "prior",         "prior-stage",
                                             "weight.det",    "weight.denoising",
                                             "weight.logits", "weight.features",
                                             "weight.prior",  "weight.contrastive",
                                             "nonfinite",     "denoising-groups"}};
    static const char *const objects[] = {"context", "matcher", "distiller"};
    const char *text;
    for (int i = 0; i < 3; i++) {
        GOOD(dd_options_help(objects[i], &text));
        assert_true(text[strlen(text) - 1] == '\n');
        for (int k = 0; k < 24 && keys[i][k]; k++) {
            char line[64];
            snprintf(line, sizeof line, "%s=", keys[i][k]);
            const char *at = strstr(text, line);
            while (at && at != text && at[-1] != '\n')
                at = strstr(at + 1, line);
            if (!at)
                fail_msg("the help of %s lacks %s", objects[i], keys[i][k]);
        }
    }
    FAILS(DD_ERR_NOT_FOUND, dd_options_help("teapot", &text));
}

static int open_context(void **state)
{
    return dd_context_create(&context, "device=ref");
}

static int close_context(void **state)
{
    dd_context_free(context);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_words),
        cmocka_unit_test(good_words),
        cmocka_unit_test(random_words),
        cmocka_unit_test(numbers_are_read_exactly),
        cmocka_unit_test(the_order_of_profiles),
        cmocka_unit_test(help_has_every_key),
        cmocka_unit_test(every_status_is_documented),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
