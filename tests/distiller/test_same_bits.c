/* SPDX-License-Identifier: Apache-2.0
 * R32: the same bits of every gradient and term for 1 to 4 threads, in 5 runs, on the reference and the CPU kernels. */
#include "case.h"
#include "guard.h"

#include <stdio.h>

static const char *const options[] = {"contrastive=1", "profile=paper nonfinite=clamp", "split=1 prior=group family=adamixer"};

static uint64_t run(const char *device, int threads, const char *option, kd_case *c)
{
    char words[512];
    dd_context *context;
    dd_distiller *d;
    snprintf(words, sizeof words, "%s threads=%d seed=5", device, threads);
    GOOD(dd_context_create(&context, words));
    GOOD(dd_distiller_create(&d, context, option));
    assert_int_equal(case_bind(c, d, true), DD_OK);
    case_mark_gradients(c);
    GOOD(dd_distiller_step(d, NULL));
    uint64_t first = case_hash_gradients(c) ^ case_hash_terms(d) * 3;
    GOOD(dd_distiller_step(d, NULL));
    assert_true(first == (case_hash_gradients(c) ^ case_hash_terms(d) * 3));
    dd_distiller_free(d);
    dd_context_free(context);
    return first;
}

static void compare(const char *device, case_sizes sizes)
{
    for (size_t k = 0; k < sizeof options / sizeof options[0]; k++) {
        kd_case *c = case_make(sizes, 77 + k);
        uint64_t expected = run(device, 1, options[k], c);
        for (int repeat = 0; repeat < 5; repeat++)
            for (int threads = 1; threads <= 4; threads++)
                assert_true(run(device, threads, options[k], c) == expected);
        case_free(c);
    }
}

static void reference(void **state)
{
    case_sizes s = case_small;
    s.parts = CASE_ALL;
    compare("device=ref", s);
}

static void cpu(void **state)
{
    const case_sizes moderate = {.student_stages = 2,
                                 .teacher_stages = 4,
                                 .images = 3,
                                 .student_queries = 61,
                                 .teacher_queries = 75,
                                 .classes = 23,
                                 .student_width = 24,
                                 .teacher_width = 32,
                                 .levels = 2,
                                 .height = 37,
                                 .width = 29,
                                 .student_height = 21,
                                 .objects = 7,
                                 .hidden = 40,
                                 .dtype = DD_F32,
                                 .parts = CASE_DENOISING | CASE_PADDING};
    compare(CPU_DEVICE, moderate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference),
        cmocka_unit_test(cpu),
        cmocka_unit_test(every_status_is_documented),
    };
    setenv("OMP_WAIT_POLICY", "passive", 1); /* more threads than cores must not spin */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
