/* SPDX-License-Identifier: Apache-2.0
 * R7: modules that are missing, damaged, of another version, or unwilling: a clean DD_ERR_DEVICE with the reason. */
#include "../distiller/case.h"
#include "../distiller/guard.h"
#include "base/alloc.h"
#include "module_folder.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *reason;
} broken[] = {
    {"version", "plug-in interface 77"},
    {"size", "its table has 16 bytes"},
    {"symbol", "no symbol dd_backend_entry"},
    {"score", "wrong phase"},
    {"holes", "holes"},
    {"name", "'abacus'"},
    {"nothing", "does not serve"},
    {"open", "on fire"},
};

/* What dd_context_create says when libdetrdistill-cpu.so is the module of that name. */
static dd_status open_module(const char *name, dd_context **context)
{
    char options[128], file[64];
    snprintf(file, sizeof file, "libbroken-%s.so", name);
    const char *folder = module_folder(name[0] ? file : NULL, "cpu");
    snprintf(options, sizeof options, "device=cpu modules=%s", folder);
    dd_status status = CALL(dd_context_create(context, options));
    module_folder_remove(folder, "cpu");
    return status;
}

static void broken_modules_are_refused(void **state)
{
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
            dd_context *context = (dd_context *)&context;
            dd_status status = open_module(broken[i].name, &context);
            assert_int_equal(status, DD_ERR_DEVICE);
            SAYS(broken[i].reason);
            assert_string_equal(dd_error_subject(), "device");
            assert_ptr_equal(context, &context);
        }
}

static void a_file_that_is_no_module(void **state)
{
    dd_context *context;
    assert_int_equal(open_module("", &context), DD_ERR_DEVICE);
    SAYS("refused");
}

static void a_missing_module_tells_where_it_was_looked_for(void **state)
{
    dd_context *context;
    FAILS(DD_ERR_DEVICE, dd_context_create(&context, "device=cuda modules=/nowhere"));
    SAYS("libdetrdistill-cuda.so");
    SAYS("DETRDISTILL_MODULES");
    setenv("DETRDISTILL_MODULES", "/nowhere/either", 1);
    FAILS(DD_ERR_DEVICE, dd_context_create(&context, "device=cuda"));
    unsetenv("DETRDISTILL_MODULES");
}

/* A module that is found but unfit is not passed over for another one further down. */
static void the_first_module_found_decides(void **state)
{
    dd_context *context;
    char good[64];
    snprintf(good, sizeof good, "%s", module_folder("libbroken-few.so", "cpu"));
    setenv("DETRDISTILL_MODULES", good, 1);
    assert_int_equal(open_module("score", &context), DD_ERR_DEVICE);
    SAYS("wrong phase");
    GOOD(dd_context_create(&context, "device=cpu modules=/nowhere"));
    dd_context_free(context);
    unsetenv("DETRDISTILL_MODULES");
    module_folder_remove(good, "cpu");
}

#ifdef DDI_FAULT_POINTS
static void loading_fails_on_demand(void **state)
{
    for (int64_t n = 1, failed = 1; failed; n++) {
        dd_context *context = NULL;
        dd_fault_set(n, 0);
        dd_status status = open_module("few", &context);
        failed = dd_fault_set(0, 0) >= n;
        assert_true(failed ? status == DD_ERR_NOMEM || status == DD_ERR_DEVICE : status == DD_OK);
        dd_context_free(context);
    }
}
#endif

/* Rows of unknown operators are passed over, and a kernel that declines gives way to the reference. */
static void a_module_with_few_kernels_works(void **state)
{
    dd_context *contexts[2];
    assert_int_equal(open_module("few", &contexts[0]), DD_OK);
    GOOD(dd_context_create(&contexts[1], "device=ref"));
    uint64_t terms[2];
    const char *kernel;
    GOOD(dd_context_kernel(contexts[0], "kd_cost", DD_F32, &kernel));
    assert_string_equal(kernel, "declines");
    for (int i = 0; i < 2; i++) {
        kd_case *c = case_make(case_small, 3);
        dd_distiller *d;
        GOOD(dd_distiller_create(&d, contexts[i], ""));
        assert_int_equal(case_bind(c, d, true), DD_OK);
        GOOD(dd_distiller_step(d, NULL));
        terms[i] = case_hash_terms(d) ^ case_hash_gradients(c);
        dd_distiller_free(d);
        dd_context_free(contexts[i]);
        case_free(c);
    }
    assert_true(terms[0] == terms[1]);
}

static void bad_device_words(void **state)
{
    static const char *const words[] = {
        "device=gpu",     "device=",  "device=cuda:",   "device=cuda:64", "device=cuda:-1",
        "device=cuda:1x", "device=c", "device=ref:abc", "device=cpucpu",  "device=cudacudacudacudacuda"};
    dd_context *context;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        FAILS(DD_ERR_OPTION, dd_context_create(&context, words[i]));
        assert_string_equal(dd_error_subject(), "device");
    }
    FAILS(DD_ERR_DEVICE, dd_context_create(&context, "device=ref:1"));
    int32_t count = -1;
    GOOD(dd_device_count("ref", &count));
    assert_int_equal(count, 1);
    FAILS(DD_ERR_ARGUMENT, dd_device_count("tpu", &count));
    assert_int_equal(dd_has("ref"), 1);
    assert_int_equal(dd_has("telepathy"), 0);
    assert_int_equal(dd_has(NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_modules_are_refused),
        cmocka_unit_test(a_file_that_is_no_module),
        cmocka_unit_test(a_missing_module_tells_where_it_was_looked_for),
        cmocka_unit_test(the_first_module_found_decides),
#ifdef DDI_FAULT_POINTS
        cmocka_unit_test(loading_fails_on_demand),
#endif
        cmocka_unit_test(a_module_with_few_kernels_works),
        cmocka_unit_test(bad_device_words),
        cmocka_unit_test(every_status_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
