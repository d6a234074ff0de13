/* SPDX-License-Identifier: Apache-2.0
 * R25: the gradient of a whole step against central differences of its total, in f64 on the reference kernels, along random
 * directions through all inputs at once. */
#include "case.h"
#include "guard.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DIRECTIONS = 6 };
#define STEP 1e-6
#define TOLERANCE 1e-6

static const char *const matchings[] = {"match.det", "match.prior", "match.logits"};

static uint64_t hash_matchings(dd_distiller *d)
{
    uint64_t hash = 1;
    for (int i = 0; i < 3; i++) {
        dd_tensor view;
        if (CALL(dd_distiller_result(d, matchings[i], &view)) == DD_OK)
            hash = hash_bytes(hash, view.data, (size_t)tensor_elements(&view) * 4);
    }
    return hash;
}

/* Adds factor * direction to each tensor that has a gradient; `direction` runs over all of them. */
static void shift(kd_case *c, const double *direction, double factor)
{
    for (int32_t i = 0; i < c->count; i++)
        for (int64_t k = 0; c->tensor[i].is_gradient && k < tensor_elements(&c->tensor[i - 1].view); k++)
            tensor_set(&c->tensor[i - 1].view, k, tensor_get(&c->tensor[i - 1].view, k) + factor * *direction++);
}

static void compare(dd_distiller *d, kd_case *c, const char *options, double *direction)
{
    double analytic = 0, plus, minus;
    int64_t n = 0;
    GOOD(dd_distiller_step(d, NULL));
    uint64_t pairing = hash_matchings(d);
    for (int32_t i = 0; i < c->count; i++)
        for (int64_t k = 0; c->tensor[i].is_gradient && k < tensor_elements(&c->tensor[i].view); k++, n++) {
            direction[n] = 2 * next_random(&c->random) - 1;
            analytic += direction[n] * tensor_get(&c->tensor[i].view, k);
        }
    shift(c, direction, STEP);
    GOOD(dd_distiller_step(d, &plus));
    assert_true(hash_matchings(d) == pairing); /* across another matching the total has a kink */
    shift(c, direction, -2 * STEP);
    GOOD(dd_distiller_step(d, &minus));
    assert_true(hash_matchings(d) == pairing);
    shift(c, direction, STEP);
    double numeric = (plus - minus) / (2 * STEP);
    if (!(fabs(numeric - analytic) <= TOLERANCE * fabs(analytic)))
        fail_msg("%s: numeric %.12g, analytic %.12g", options, numeric, analytic);
}

static void check(const char *options, case_sizes sizes, uint64_t seed)
{
    dd_context *context;
    dd_distiller *d;
    sizes.dtype = DD_F64;
    kd_case *c = case_make(sizes, seed);
    int64_t elements = 0;
    for (int32_t i = 0; i < c->count; i++)
        elements += c->tensor[i].is_gradient ? tensor_elements(&c->tensor[i].view) : 0;
    double *direction = calloc((size_t)elements, sizeof *direction);
    GOOD(dd_context_create(&context, "device=ref"));
    GOOD(dd_distiller_create(&d, context, options));
    assert_int_equal(case_bind(c, d, true), DD_OK);
    for (int i = 0; i < DIRECTIONS; i++)
        compare(d, c, options, direction);
    free(direction);
    dd_distiller_free(d);
    dd_context_free(context);
    case_free(c);
}

static const char *const families[] = {"deformable-detr", "conditional-detr", "adamixer", "dino"};

static void check_families(const char *module, const char *more, case_sizes sizes)
{
    for (int i = 0; i < 4; i++) {
        char options[256];
        snprintf(options, sizeof options,
                 "weight.det=0 weight.denoising=0 weight.logits=0 weight.features=0 weight.prior=0 weight.contrastive=0 "
                 "weight.%s=1 family=%s %s",
                 module, families[i], more);
        check(options, sizes, (uint64_t)i + 40);
    }
}

static case_sizes sizes_of(int32_t parts)
{
    case_sizes s = case_small;
    s.parts = parts;
    s.student_height = 9;
    return s;
}

static void detection(void **state)
{
    check_families("det", "", sizes_of(0));
}

static void denoising(void **state)
{
    check_families("denoising", "", sizes_of(CASE_DENOISING));
}

static void logits(void **state)
{
    check_families("logits", "", sizes_of(0));
    check_families("logits", "split=1", sizes_of(0));
    check_families("logits", "stage=first", sizes_of(0));
}

static void features(void **state)
{
    check_families("features", "", sizes_of(CASE_ADAPTOR | CASE_PADDING));
    check_families("features", "feature-mask=per-query topk=0 gamma-class=.5 gamma-iou=.5", sizes_of(CASE_ADAPTOR));
    check_families("features", "feature-mask=per-query psi-raw=1", sizes_of(CASE_ADAPTOR));
}

static void prior(void **state)
{
    check_families("prior", "", sizes_of(0));
    check_families("prior", "prior=group", sizes_of(0));
    check_families("prior", "prior-stage=last", sizes_of(0));
}

static void contrastive(void **state)
{
    check_families("contrastive", "contrastive=1", sizes_of(CASE_BRANCHES));
}

static void everything(void **state)
{
    case_sizes equal_widths = sizes_of(CASE_DENOISING | CASE_BRANCHES);
    check("contrastive=1 weight.features=3 weight.logits=.5", sizes_of(CASE_ALL), 60);
    check("profile=paper weight.prior=2", sizes_of(CASE_ALL), 61);
    equal_widths.student_width = equal_widths.teacher_width;
    equal_widths.student_height = 0;
    check("profile=as-published", equal_widths, 62);
    check("profile=as-published family=dino", equal_widths, 63);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detection),  cmocka_unit_test(denoising),
        cmocka_unit_test(logits),     cmocka_unit_test(features),
        cmocka_unit_test(prior),      cmocka_unit_test(contrastive),
        cmocka_unit_test(everything), cmocka_unit_test(every_status_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
