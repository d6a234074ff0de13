/* SPDX-License-Identifier: Apache-2.0
 * Every row of a module's kernel table against the reference in double (R26), at 1 to 4 threads with equal bits, and a proof
 * that the comparison sees a wrong kernel (R45). The module: DETRDISTILL_TEST_MODULE, or the one built beside. */
#include "ddcheck.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CASES = 120,
    LEAST_ACCEPTED = 50,
    MAX_ROWS = 256,
    ORDINARY_STEP = 5 /* every fifth case has no extreme values */
};

static const dd_backend *module;
static void *device;

static const char *operator_name(int32_t op)
{
    static const char *name[] = {
#define DD_OP(op_name, type, text) #op_name,
#include <detrdistill/sys/ops.def>
#undef DD_OP
    };
    return name[op];
}

/* One case on one row: against the truth, aligned and not, and equal bits for every number of threads. */
static void check_case(const dd_kernel *row, const test_case *c, const results *truth, double *worst)
{
    for (int place = ALIGNED; place <= UNALIGNED; place++) {
        results first, other;
        const char *which = "", *wrong = run_kernel(row->run, c, row->dtype, device, 1, (placing)place, &first);
        wrong = wrong ? wrong : compare_results(c, &first, truth, worst);
        for (int32_t threads = 2; threads <= 4 && !wrong; threads++) {
            wrong = run_kernel(row->run, c, row->dtype, device, threads, (placing)place, &other);
            if (!wrong && !results_equal(c, &first, &other, &which)) {
                wrong = "has other bits with more threads";
            }
            results_free(c, &other);
        }
        if (wrong) {
            fail_msg("%s %s, %s, %s: %s %s", operator_name(c->op), row->name, c->text, place ? "unaligned" : "aligned", which,
                     wrong);
        }
        results_free(c, &first);
    }
}

/* Rows that this machine's processor cannot run accept nothing. */
static bool lacks_instructions(const dd_kernel *row)
{
    return strcmp(row->name, "avx512-bf16") == 0 && !__builtin_cpu_supports("avx512bf16");
}

static void row_matches_reference(void **state)
{
    const dd_kernel *row = *state;
    if (lacks_instructions(row)) {
        print_message("skipped: %s %s: the processor has no avx512_bf16\n", operator_name(row->op), row->name);
        skip();
    }
    double worst = 0;
    int accepted = 0;
    for (int64_t i = 0; i < CASES; i++) {
        test_case c;
        if (!case_make(row->op, i, &c)) {
            fail_msg("no cases for operator %s: add a generator to cases.c", operator_name(row->op));
        }
        if (!row->accepts || row->accepts(c.args)) {
            results truth;
            const char *wrong = run_truth(&c, &truth);
            if (wrong) {
                fail_msg("reference of %s, %s: %s", operator_name(row->op), c.text, wrong);
            }
            check_case(row, &c, &truth, &worst);
            results_free(&c, &truth);
            accepted++;
        }
        case_free(&c);
    }
    print_message("# %s %s: %d cases, worst error %.2g of the allowed\n", operator_name(row->op), row->name, accepted, worst);
    assert_true(accepted >= LEAST_ACCEPTED);
}

static void *largest_result(const test_case *c, const results *out, bool *is_double)
{
    void *largest = NULL;
    double highest = 0;
    for (int32_t i = 0; i < c->arrays; i++) {
        const array *a = &c->array[i];
        for (int64_t k = 0; out->array[i] && a->kind != BYTES && k < a->count; k++) {
            float *f = (float *)out->array[i] + k;
            double *d = (double *)out->array[i] + k;
            const bool wide = a->kind == DOUBLES || out->dtype == DD_F64;
            const double x = fabs(wide ? *d : (double)*f);
            if (x > highest && x < 1e30 && x != (double)1e12f) {
                highest = x;
                largest = wide ? (void *)d : (void *)f;
                *is_double = wide;
            }
        }
    }
    return largest;
}

/* Spoils the largest result of a case. Returns 1 if the comparison sees it, 0 if not, -1 if there is nothing to spoil. */
static int spoil_and_compare(const dd_kernel *row, int64_t i)
{
    test_case c;
    results truth, got;
    double worst = 0;
    bool is_double;
    int seen = -1;
    assert_true(case_make(row->op, i, &c));
    if (row->accepts && !row->accepts(c.args)) {
        case_free(&c);
        return -1;
    }
    assert_null(run_truth(&c, &truth));
    assert_null(run_kernel(row->run, &c, row->dtype, device, 1, ALIGNED, &got));
    assert_null(compare_results(&c, &got, &truth, &worst));
    void *x = largest_result(&c, &got, &is_double);
    if (x) {
        const double factor = 1 + 1e-4;
        if (is_double) {
            *(double *)x *= factor;
        } else {
            *(float *)x = (float)(*(float *)x * factor);
        }
        seen = compare_results(&c, &got, &truth, &worst) != NULL;
    }
    results_free(&c, &got);
    results_free(&c, &truth);
    case_free(&c);
    return seen;
}

/* In a case or two all results may be so small that 1e-4 of them is within the rounding of what they are made of. */
static void wrong_by_1e_4_is_caught(void **state)
{
    for (int32_t k = 0; k < module->kernel_count; k++) {
        const dd_kernel *row = &module->kernels[k];
        int spoiled = 0, seen = 0;
        for (int64_t i = 0; i < 20 * ORDINARY_STEP && row->isa <= module->isa(); i += ORDINARY_STEP) {
            const int outcome = spoil_and_compare(row, i);
            spoiled += outcome >= 0;
            seen += outcome == 1;
        }
        if (seen * 10 < spoiled * 9) {
            fail_msg("%s %s: an error of 1e-4 was seen in %d of %d cases", operator_name(row->op), row->name, seen, spoiled);
        }
    }
}

/* A host that calls us from its own OpenMP threads, or from a thread with little stack, gets the same bits. */
typedef struct host_call {
    const dd_kernel *row;
    const test_case *c;
    const results *expected;
    const char *wrong[4];
} host_call;

static void call_from_host(void *arg, int64_t i)
{
    host_call *call = arg;
    results got;
    const char *which;
    call->wrong[i] = run_kernel(call->row->run, call->c, call->row->dtype, device, 2, ALIGNED, &got);
    if (!call->wrong[i] && !results_equal(call->c, call->expected, &got, &which)) {
        call->wrong[i] = "other bits";
    }
    results_free(call->c, &got);
}

static void *call_from_thread(void *arg)
{
    call_from_host(arg, 0);
    return NULL;
}

static void run_on_small_stack(host_call *call)
{
    pthread_attr_t attributes;
    pthread_t thread;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 64 << 10), 0);
    assert_int_equal(pthread_create(&thread, &attributes, call_from_thread, call), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

static void host_threads_and_small_stacks(void **state)
{
    int (*most_threads)(void);
    *(void **)&most_threads = dlsym(*state, "omp_get_max_threads");
    assert_non_null(most_threads);
    const int threads_before = most_threads();
    for (int32_t k = 0; k < module->kernel_count; k++) {
        const dd_kernel *row = &module->kernels[k];
        for (int64_t i = 7; i < 120 && row->isa <= module->isa(); i += 30) {
            test_case c;
            results expected;
            assert_true(case_make(row->op, i, &c));
            if (!row->accepts || row->accepts(c.args)) {
                host_call call = {row, &c, &expected, {NULL}};
                assert_null(run_kernel(row->run, &c, row->dtype, device, 1, ALIGNED, &expected));
                run_on_small_stack(&call);
                assert_null(call.wrong[0]);
                module->parallel_for(2, 4, call_from_host, &call);
                for (int host = 0; host < 4; host++) {
                    assert_null(call.wrong[host]);
                }
                results_free(&c, &expected);
            }
            case_free(&c);
        }
    }
    assert_int_equal(most_threads(), threads_before);
}

static void every_accelerated_operator_has_rows_of_both_sets(void **state)
{
    int32_t rows[DD_OPERATOR_COUNT] = {0};
    for (int32_t k = 0; k < module->kernel_count; k++) {
        const dd_kernel *row = &module->kernels[k];
        assert_in_range(row->op, 0, DD_OPERATOR_COUNT - 1);
        rows[row->op] |= row->dtype == DD_F32 ? 1 << row->isa : 0;
    }
    for (int32_t op = 0; op < DD_OPERATOR_COUNT; op++) {
        if (rows[op] != 0) {
            assert_int_equal(rows[op], 1 << DD_ISA_AVX2 | 1 << DD_ISA_AVX512);
        }
    }
}

static void count_call(void *arg, int64_t i)
{
    ((int32_t *)arg)[i]++;
}

static void parallel_for_runs_each_index_once(void **state)
{
    for (int32_t threads = 1; threads <= 4; threads++) {
        for (int64_t n = 0; n < 100; n += 9) {
            int32_t calls[100] = {0};
            module->parallel_for(threads, n, count_call, calls);
            for (int64_t i = 0; i < 100; i++) {
                assert_int_equal(calls[i], i < n);
            }
        }
    }
}

static void refuses_another_interface(void **state)
{
    void *library = *state;
    dd_backend_entry_fn entry;
    *(void **)&entry = dlsym(library, DD_BACKEND_ENTRY);
    assert_null(entry(DD_BACKEND_INTERFACE + 1));
    void *other = NULL;
    char text[160] = "";
    assert_int_equal(module->device_open(1, &other, text, sizeof text), DD_ERR_DEVICE);
    assert_true(text[0] != '\0');
}

int main(void)
{
    const char *path = getenv("DETRDISTILL_TEST_MODULE");
    void *library = dlopen(path ? path : TEST_MODULE, RTLD_NOW | RTLD_LOCAL);
    dd_backend_entry_fn entry;
    char why[160] = "", text[160] = "";
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    *(void **)&entry = dlsym(library, DD_BACKEND_ENTRY);
    module = entry ? entry(DD_BACKEND_INTERFACE) : NULL;
    if (!module || module->score(why, sizeof why) <= 0) {
        printf("1..0 # SKIP %s\n", module ? why : "no entry");
        return module ? 0 : 1;
    }
    if (module->device_open(0, &device, text, sizeof text) != DD_OK) {
        fprintf(stderr, "%s\n", text);
        return 1;
    }
    struct CMUnitTest tests[MAX_ROWS + 8] = {
        {"every_accelerated_operator_has_rows_of_both_sets", every_accelerated_operator_has_rows_of_both_sets, NULL, NULL,
         NULL},
        {"parallel_for_runs_each_index_once", parallel_for_runs_each_index_once, NULL, NULL, NULL},
        {"refuses_another_interface", refuses_another_interface, NULL, NULL, library},
        {"wrong_by_1e_4_is_caught", wrong_by_1e_4_is_caught, NULL, NULL, NULL},
        {"host_threads_and_small_stacks", host_threads_and_small_stacks, NULL, NULL, library},
    };
    static char name[MAX_ROWS][80];
    size_t count = 5;
    for (int32_t k = 0; k < module->kernel_count && k < MAX_ROWS; k++) {
        const dd_kernel *row = &module->kernels[k];
        if (row->isa <= module->isa()) {
            snprintf(name[k], sizeof name[k], "%s_%s_%s", operator_name(row->op), row->name,
                     row->dtype == DD_F64 ? "f64" : "f32");
            tests[count++] = (struct CMUnitTest){name[k], row_matches_reference, NULL, NULL, (void *)(uintptr_t)row};
        }
    }
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const int failed = _cmocka_run_group_tests("kernels", tests, count, NULL, NULL);
    module->device_close(device);
    return failed;
}
