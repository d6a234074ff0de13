/* SPDX-License-Identifier: Apache-2.0
 * Every row of the CUDA module's kernel table against the reference (R26), twice with equal bits, with failing launches and
 * memory (R3, R39), and the device calls around them. On a CPU: test_cuda libdetrdistill-cuda-emulated.so, which also runs the
 * threads of a block backwards (a kernel that races gives other bits). On a GPU: test_cuda libdetrdistill-cuda.so [cases].
 * Needs no test library: prints what failed and "N passed, N failed". */
#include "emulate_hooks.h"
#include "on_device.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const dd_backend *backend;
static emulate_hooks *hooks; /* NULL on a real device */
static void *device;
static int passed, failed;

__attribute__((format(printf, 2, 3))) static bool check(bool good, const char *format, ...)
{
    if (good) {
        passed++;
        return true;
    }
    va_list arguments;
    failed++;
    va_start(arguments, format);
    printf("FAILED: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    return false;
}

static const char *operator_name(int32_t op)
{
    static const char *name[] = {
#define DD_OP(op_name, type, text) #op_name,
#include <detrdistill/sys/ops.def>
#undef DD_OP
    };
    return name[op];
}

static bool make_case(int32_t op, int64_t i, test_case *c, bool *unique)
{
    *unique = false;
    if (op == DD_OPERATOR_assign) {
        assign_case(i, c, unique);
    } else if (op == DD_OPERATOR_split_masks) {
        split_masks_case(i, c);
    } else {
        return case_make(op, i, c);
    }
    return true;
}

/* The reference in double; in the type itself where results are equal bits. Assignment is checked by its own laws. */
static const char *truth_of(const test_case *c, int32_t dtype, results *out)
{
    const int32_t as = c->exact ? dtype : DD_F64;
    return run_kernel(reference_kernel(c->op, as)->run, c, as, NULL, 1, ALIGNED, out);
}

static const char *compare(const test_case *c, int32_t dtype, const results *got, const results *truth, bool unique,
                           double *worst)
{
    if (c->op == DD_OPERATOR_assign) {
        return check_assignment(c, got, truth, unique);
    }
    return dtype == DD_F64 ? compare_f64(c, got, truth, worst) : compare_results(c, got, truth, worst);
}

static bool same_results(const test_case *c, int32_t dtype, const results *a, const results *b)
{
    for (int32_t i = 0; i < c->arrays; i++) {
        const size_t bytes = (size_t)c->array[i].count * element_size(&c->array[i], dtype);
        if (a->array[i] && memcmp(a->array[i], b->array[i], bytes) != 0) {
            return false;
        }
    }
    return true;
}

/* Right, and the same bits again; unaligned; on the emulator with its threads backwards. */
static void check_case(const dd_kernel *row, const test_case *c, bool unique, double *worst)
{
    results truth, first, other;
    const char *wrong = truth_of(c, row->dtype, &truth);
    const char *kind = row->dtype == DD_F64 ? "f64" : "f32";
    check(!wrong, "reference of %s: %s", operator_name(c->op), wrong);
    wrong = run_on_device(row->run, c, row->dtype, backend, device, ALIGNED, &first);
    wrong = wrong ? wrong : compare(c, row->dtype, &first, &truth, unique, worst);
    check(!wrong, "%s %s %s, %s: %s", operator_name(c->op), row->name, kind, c->text, wrong);
    for (int again = 0; again < 2 && !wrong; again++) {
        if (hooks) {
            hooks->backwards = again == 0;
        }
        wrong = run_on_device(row->run, c, row->dtype, backend, device, again == 0 ? ALIGNED : UNALIGNED, &other);
        wrong = wrong                                                        ? wrong
                : again == 0 && !same_results(c, row->dtype, &first, &other) ? "other bits in another order of threads"
                                                                             : NULL;
        wrong = wrong ? wrong : compare(c, row->dtype, &other, &truth, unique, worst);
        check(!wrong, "%s %s %s, %s, %s: %s", operator_name(c->op), row->name, kind, c->text, again ? "unaligned" : "again",
              wrong);
        results_free(c, &other);
    }
    if (hooks) {
        hooks->backwards = 0;
    }
    results_free(c, &first);
    results_free(c, &truth);
}

static void test_rows(int64_t cases)
{
    for (int32_t k = 0; k < backend->kernel_count; k++) {
        const dd_kernel *row = &backend->kernels[k];
        const int failed_before = failed;
        double worst = 0;
        int64_t done = 0;
        for (int64_t i = 0; i < cases && failed - failed_before < 5; i++) {
            test_case c;
            bool unique;
            if (!check(make_case(row->op, i, &c, &unique), "no cases for operator %s", operator_name(row->op))) {
                break;
            }
            if (!row->accepts || row->accepts(c.args)) {
                check_case(row, &c, unique, &worst);
                done++;
            }
            case_free(&c);
        }
        check(done > 0, "no case of %s was accepted by %s", operator_name(row->op), row->name);
        printf("%s %s %s: %lld cases, worst error %.2g of the allowed\n", operator_name(row->op), row->name,
               row->dtype == DD_F64 ? "f64" : "f32", (long long)done, worst);
    }
}

/* Every operator of the distiller has a kernel of both types: for a device a missing one would be an error (promise 4). Those
 * of whole models, which follow in ops.def, run on the CPU alone so far. */
static void test_table(void)
{
    for (int32_t op = 0; op <= DD_OPERATOR_cross_entropy; op++) {
        for (int32_t dtype = DD_F32; dtype <= DD_F64; dtype++) {
            int rows = 0;
            for (int32_t k = 0; k < backend->kernel_count; k++) {
                rows += backend->kernels[k].op == op && backend->kernels[k].dtype == dtype && !backend->kernels[k].accepts;
            }
            check(rows == 1, "operator %s has %d kernels of type %d that accept everything", operator_name(op), rows, dtype);
        }
    }
    check(strcmp(backend->name, "cuda") == 0 && backend->host_memory == 0 && backend->device_type == DD_DEVICE_CUDA &&
              backend->struct_size == sizeof *backend,
          "the table describes another backend");
}

/* The n-th scratch request of a row fails, n = 1, 2, ..: NOMEM, then the row works. */
static void test_scratch_failures(void)
{
    for (int32_t k = 0; k < backend->kernel_count; k++) {
        const dd_kernel *row = &backend->kernels[k];
        test_case c;
        bool unique;
        make_case(row->op, 1, &c, &unique);
        for (int32_t n = 1; n < DEVICE_SCRATCHES && (!row->accepts || row->accepts(c.args)); n++) {
            device_case d;
            device_exec exec;
            check(!device_case_open(&d, &c, row->dtype, backend, device, ALIGNED), "device memory");
            device_exec_init(&exec, backend, device);
            exec.fail_scratch = n;
            const dd_status status = row->run(&exec.base, d.args);
            const bool reached = exec.fail_scratch == 0;
            check(status == (reached ? DD_ERR_NOMEM : DD_OK), "%s: status %d where scratch request %d fails",
                  operator_name(row->op), status, n);
            check(!reached || strstr(exec.sentence, "memory"), "%s: no sentence for lack of memory", operator_name(row->op));
            check(backend->sync(device, NULL) == DD_OK, "%s: an error was left behind", operator_name(row->op));
            device_exec_free(&exec);
            device_case_close(&d);
            if (!reached) {
                break;
            }
        }
        case_free(&c);
    }
}

/* One run whose n-th launch fails. True if it has that many launches. */
static bool fail_launch(const dd_kernel *row, const test_case *c, int64_t n)
{
    device_case d;
    device_exec exec;
    char name[64];
    check(!device_case_open(&d, c, row->dtype, backend, device, ALIGNED), "device memory");
    device_exec_init(&exec, backend, device);
    hooks->fail_launch = n;
    const dd_status status = row->run(&exec.base, d.args);
    const bool reached = hooks->fail_launch == 0;
    hooks->fail_launch = 0;
    snprintf(name, sizeof name, "operator %s", operator_name(row->op));
    check(status == (reached ? DD_ERR_BACKEND : DD_OK), "%s: status %d where launch %d fails", name, status, (int)n);
    check(!reached || strstr(exec.sentence, name) || strstr(exec.sentence, "operator matmul"), "%s: the sentence is \"%s\"",
          name, exec.sentence);
    check(backend->sync(device, NULL) == DD_OK, "%s: an error was left behind", name);
    device_exec_free(&exec);
    device_case_close(&d);
    return reached;
}

static void test_launch_failures(void)
{
    for (int32_t k = 0; k < backend->kernel_count; k++) {
        const dd_kernel *row = &backend->kernels[k];
        test_case c;
        bool unique;
        int64_t n = 1;
        make_case(row->op, 1, &c, &unique);
        while (fail_launch(row, &c, n)) {
            n++;
        }
        check(n > 1, "operator %s launches nothing", operator_name(row->op));
        case_free(&c);
    }
}

/* A device that is gone: statuses at every call, no hang, and memory can still be given back. */
static void test_lost_device(void)
{
    unsigned char byte = 0;
    void *memory = backend->mem_alloc(device, 1);
    hooks->lost = 1;
    check(!backend->mem_alloc(device, 64), "a lost device gave memory");
    check(backend->copy(device, NULL, memory, &byte, 1, DD_COPY_TO_DEVICE) == DD_ERR_BACKEND, "copy to a lost device");
    check(backend->zero(device, NULL, memory, 1) == DD_ERR_BACKEND, "zero on a lost device");
    check(backend->sync(device, NULL) == DD_ERR_BACKEND && strstr(backend->last_error(device), "cudaErrorLaunchFailure"),
          "sync with a lost device: %s", backend->last_error(device));
    backend->mem_free(device, memory);
    hooks->lost = 0;
    check(backend->sync(device, NULL) == DD_OK, "the emulated device did not come back");
}

static void test_memory(void)
{
    unsigned char out[100], in[100] = {0};
    for (int i = 0; i < 100; i++) {
        out[i] = (unsigned char)(i * 7 + 1);
    }
    unsigned char *a = backend->mem_alloc(device, 100), *b = backend->mem_alloc(device, 0);
    check(a && b && (uintptr_t)a % 64 == 0, "allocation");
    check(backend->copy(device, NULL, a, out, 100, DD_COPY_TO_DEVICE) == DD_OK, "copy to the device");
    check(backend->zero(device, NULL, a + 10, 20) == DD_OK, "zero");
    check(backend->copy(device, NULL, a + 50, a, 30, DD_COPY_ON_DEVICE) == DD_OK, "copy on the device");
    check(backend->copy(device, NULL, in, a, 100, DD_COPY_TO_HOST) == DD_OK && backend->sync(device, NULL) == DD_OK,
          "copy to the host");
    memset(out + 10, 0, 20);
    memcpy(out + 50, out, 30);
    check(memcmp(in, out, 100) == 0, "copies brought other bytes");
    check(backend->copy(device, NULL, a, NULL, 0, DD_COPY_TO_DEVICE) == DD_OK && backend->zero(device, NULL, NULL, 0) == DD_OK,
          "empty copies");
    backend->mem_free(device, b);
    backend->mem_free(device, a);
    backend->mem_free(device, NULL);
    if (!hooks) {
        check(!backend->mem_alloc(device, (size_t)1 << 50) && strstr(backend->last_error(device), "cudaMalloc"),
              "a petabyte was given");
        check(backend->sync(device, NULL) == DD_OK, "running out of memory left an error behind");
        return;
    }
    hooks->fail_allocation = 1;
    check(!backend->mem_alloc(device, 8) && strstr(backend->last_error(device), "cudaMalloc"), "a failed allocation");
    check(backend->sync(device, NULL) == DD_OK, "a failed allocation left an error behind");
}

static void test_opening(void)
{
    void *other = NULL;
    char text[256] = "";
    check(backend->device_open(backend->device_count(), &other, text, sizeof text) == DD_ERR_DEVICE && text[0] && !other,
          "a device that is not there was opened");
    check(backend->device_open(-1, &other, text, sizeof text) == DD_ERR_DEVICE, "device -1 was opened");
    backend->device_close(NULL);
    if (!hooks) {
        return;
    }
    hooks->devices = 0;
    check(backend->score(text, sizeof text) == 0 && strcmp(text, "no CUDA device") == 0 && backend->device_count() == 0,
          "no device: %s", text);
    hooks->devices = -1;
    check(backend->score(text, sizeof text) == 0 && strstr(text, "no CUDA driver"), "no driver: %s", text);
    hooks->devices = 3;
    hooks->current = 2;
    check(backend->device_open(1, &other, text, sizeof text) == DD_OK, "device 1: %s", text);
    void *memory = backend->mem_alloc(other, 8);
    check(memory && backend->zero(other, NULL, memory, 8) == DD_OK && backend->sync(other, NULL) == DD_OK,
          "memory of device 1");
    backend->mem_free(other, memory);
    backend->device_close(other);
    check(hooks->current == 2, "the current device changed to %d", hooks->current);
    hooks->devices = 1;
    hooks->current = 0;
}

static bool load(const char *path)
{
    char text[256] = "";
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!check(module, "%s: %s", path, module ? "" : dlerror())) {
        return false;
    }
    dd_backend_entry_fn entry;
    emulate_get_hooks_fn get_hooks;
    *(void **)&entry = dlsym(module, DD_BACKEND_ENTRY);
    *(void **)&get_hooks = dlsym(module, EMULATE_GET_HOOKS);
    hooks = get_hooks ? get_hooks() : NULL;
    if (!check(entry, "the module has no entry")) {
        return false;
    }
    check(!entry(DD_BACKEND_INTERFACE + 1) && !entry(0), "the module took an interface that it does not know");
    backend = entry(DD_BACKEND_INTERFACE);
    return check(backend && backend->score(text, sizeof text) > 0, "no device: %s", text) &&
           check(backend->device_open(0, &device, text, sizeof text) == DD_OK, "device 0: %s", text) &&
           printf("%s\n", text) > 0;
}

int main(int argc, char **argv)
{
    const int64_t cases = argc > 2 ? atoll(argv[2]) : 60;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 2) {
        fprintf(stderr, "usage: test_cuda MODULE [CASES]\n");
        return 2;
    }
    if (load(argv[1])) {
        test_table();
        test_memory();
        test_opening();
        test_rows(cases);
        test_scratch_failures();
        if (hooks) {
            test_launch_failures();
            test_lost_device();
        }
        backend->device_close(device);
        check(!hooks || hooks->live_count == 0, "device memory was not given back");
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
