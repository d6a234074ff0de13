/* SPDX-License-Identifier: Apache-2.0
 * Runs kernels on cases: memory with guards, argument structs for float and double, comparison of results. */
#include "backend/ref/ref.h"
#include "ddcheck.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GUARD = 128, GUARD_BYTE = 0x5a, GARBAGE_BYTE = 0xff, SCRATCHES = 64 };

/* Memory of one array during a run, aligned to its element if not to more. Inputs that are not aligned end at a page that must
 * not be read. */
typedef struct placed {
    unsigned char *map, *data;
    size_t map_bytes, bytes;
    bool guarded;
} placed;

static void *must(void *memory)
{
    if (!memory || memory == MAP_FAILED) {
        fprintf(stderr, "ddcheck: out of memory\n");
        abort();
    }
    return memory;
}

static placed place_array(size_t bytes, size_t element, bool output, placing place)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    placed p = {.bytes = bytes, .guarded = output || place == ALIGNED};
    p.map_bytes = (bytes + 2 * GUARD + 64 + 2 * page) / page * page + page;
    p.map = must(mmap(NULL, p.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    memset(p.map, GUARD_BYTE, p.map_bytes);
    p.data = p.map + GUARD + (place == ALIGNED ? 0 : element > 4 ? element : 4);
    if (!p.guarded) {
        if (mprotect(p.map + p.map_bytes - page, page, PROT_NONE) != 0) {
            abort();
        }
        p.data = p.map + p.map_bytes - page - bytes;
    }
    return p;
}

static bool guards_intact(const placed *p)
{
    for (size_t i = 0; p->guarded && i < GUARD; i++) {
        if (p->data[-1 - (ptrdiff_t)i] != GUARD_BYTE || p->data[p->bytes + i] != GUARD_BYTE) {
            return false;
        }
    }
    return true;
}

typedef struct test_exec {
    dd_exec base;
    void *scratch[SCRATCHES];
    int32_t used;
} test_exec;

/* Filled with garbage, with a guard behind it that a checking allocator sees. */
static void *test_scratch(dd_exec *exec, size_t bytes)
{
    test_exec *e = (test_exec *)exec;
    void *memory = NULL;
    if (e->used == SCRATCHES || posix_memalign(&memory, 64, bytes ? bytes : 1) != 0) {
        return NULL;
    }
    memset(memory, GARBAGE_BYTE, bytes);
    return e->scratch[e->used++] = memory;
}

static dd_status test_fail(dd_exec *exec, dd_status status, const char *sentence)
{
    return status;
}

static size_t element_bytes(const array *a, int32_t dtype)
{
    return a->kind == BYTES     ? a->element
           : a->kind == DOUBLES ? sizeof(double)
           : dtype == DD_F64    ? sizeof(double)
                                : sizeof(float);
}

/* Floats of the case become reals of the run. */
static void fill(const array *a, int32_t dtype, void *data)
{
    const size_t bytes = (size_t)a->count * element_bytes(a, dtype);
    if (!a->values) {
        memset(data, GARBAGE_BYTE, bytes);
    } else if (a->kind == REALS && dtype == DD_F64) {
        for (int64_t i = 0; i < a->count; i++) {
            const double x = ((const float *)a->values)[i];
            memcpy((unsigned char *)data + i * 8, &x, 8);
        }
    } else if (bytes > 0) {
        memcpy(data, a->values, bytes);
    }
}

static bool input_unchanged(const array *a, int32_t dtype, const placed *p)
{
    void *before = must(malloc(p->bytes + 1));
    fill(a, dtype, before);
    const bool same = memcmp(before, p->data, p->bytes) == 0;
    free(before);
    return same;
}

static const char *take_result(const array *a, int32_t dtype, const placed *p, void **out)
{
    static _Thread_local char text[160];
    if (!guards_intact(p)) {
        snprintf(text, sizeof text, "wrote outside of %s", a->name);
        return text;
    }
    if (a->use == INPUT) {
        snprintf(text, sizeof text, "changed its input %s", a->name);
        return input_unchanged(a, dtype, p) ? NULL : text;
    }
    *out = must(malloc(p->bytes + 1));
    memcpy(*out, p->data, p->bytes);
    return NULL;
}

const char *run_kernel(dd_kernel_fn kernel, const test_case *c, int32_t dtype, void *device, int32_t threads, placing place,
                       results *out)
{
    static _Thread_local char text[160];
    placed memory[CASE_ARRAYS];
    _Alignas(16) unsigned char args[CASE_ARGS];
    test_exec exec = {{sizeof(dd_exec), threads, device, NULL, test_scratch, test_fail, NULL}, {NULL}, 0};
    memcpy(args, c->args, sizeof args);
    memset(out, 0, sizeof *out);
    out->dtype = dtype;
    for (int32_t i = 0; i < c->arrays; i++) {
        const array *a = &c->array[i];
        const size_t element = element_bytes(a, dtype);
        memory[i] = place_array((size_t)a->count * element, element, a->use != INPUT, place);
        fill(a, dtype, memory[i].data);
        unsigned char *pointer = memory[i].data + a->shift * (int64_t)element;
        memcpy(args + a->offset, &pointer, sizeof pointer);
    }
    const dd_status status = kernel(&exec.base, args);
    snprintf(text, sizeof text, "returned status %d", status);
    const char *wrong = status == DD_OK ? NULL : text;
    for (int32_t i = 0; i < c->arrays; i++) {
        const char *broken = take_result(&c->array[i], dtype, &memory[i], &out->array[i]);
        wrong = wrong ? wrong : broken;
        munmap(memory[i].map, memory[i].map_bytes);
    }
    for (int32_t i = 0; i < exec.used; i++) {
        free(exec.scratch[i]);
    }
    return wrong;
}

void results_free(const test_case *c, results *out)
{
    for (int32_t i = 0; i < c->arrays; i++) {
        free(out->array[i]);
        out->array[i] = NULL;
    }
}

bool results_equal(const test_case *c, const results *a, const results *b, const char **which)
{
    for (int32_t i = 0; i < c->arrays; i++) {
        const size_t bytes = (size_t)c->array[i].count * element_bytes(&c->array[i], a->dtype);
        if (a->array[i] && memcmp(a->array[i], b->array[i], bytes) != 0) {
            *which = c->array[i].name;
            return false;
        }
    }
    return true;
}

const dd_kernel *reference_kernel(int32_t op, int32_t dtype)
{
    int32_t count;
    const dd_kernel *k = ddi_ref_kernels(&count);
    for (int32_t i = 0; i < count; i++) {
        if (k[i].op == op && k[i].dtype == dtype) {
            return &k[i];
        }
    }
    return NULL;
}

const char *run_truth(const test_case *c, results *out)
{
    const int32_t dtype = c->exact ? DD_F32 : DD_F64;
    return run_kernel(reference_kernel(c->op, dtype)->run, c, dtype, NULL, 1, ALIGNED, out);
}

/* Bits of element i; all NaN of reals are alike. */
static bool same_bits(const array *a, const void *x, const void *y, int64_t i)
{
    const size_t n = element_bytes(a, DD_F32);
    if (a->kind == REALS && isnan(((const float *)x)[i]) && isnan(((const float *)y)[i])) {
        return true;
    }
    return memcmp((const char *)x + (size_t)i * n, (const char *)y + (size_t)i * n, n) == 0;
}

static bool is_tolerant(const array *a)
{
    return a->by_value != 0 || a->by_scale != 0 || a->floor != 0;
}

/* error / allowed of element i; above 1 is wrong. Where results are added to what was there, by_value is of what is added. */
static double excess(const test_case *c, const array *a, int32_t dtype, const void *got, const void *truth, int64_t i,
                     double *x, double *y)
{
    const bool in_float = a->kind == REALS && dtype == DD_F32;
    const double finer = dtype == DD_F64 ? 0x1p-53 / EPS : 1;
    const double scale = a->scale ? a->scale[i] : 0;
    const double before = a->use == UPDATED ? ((const float *)a->values)[i] : 0;
    *x = in_float ? ((const float *)got)[i] : ((const double *)got)[i];
    *y = ((const double *)truth)[i];
    const double rounding = a->use == UPDATED ? EPS * (fabs(before) + fabs(*y)) : 0;
    const double allowed = finer * (a->by_value * fabs(*y - before) + rounding + a->by_scale * scale + a->floor) + 0x1p-149;
    const bool overflow = in_float && fabs(*y) > FLT_MAX && isinf(*x) && (*x > 0) == (*y > 0);
    const bool flagged = c->costs && a->kind == REALS && scale > FLT_MAX / 8 && *x == (double)1e12f;
    if (overflow || flagged || (isnan(*y) && isnan(*x))) {
        return 0;
    }
    const double ratio = fabs(*x - *y) / allowed;
    return isnan(ratio) ? INFINITY : ratio;
}

/* *bad: equal, or flagged where a scale says so. */
static bool flags_agree(const test_case *c, const array *a)
{
    const array *cost = NULL;
    for (int32_t i = 0; i < c->arrays; i++) {
        cost = c->array[i].kind == REALS && c->array[i].use == OUTPUT ? &c->array[i] : cost;
    }
    for (int64_t i = 0; c->costs && cost && cost->scale && i < cost->count; i++) {
        if (cost->scale[i] > FLT_MAX / 8) {
            return a->kind == BYTES;
        }
    }
    return false;
}

static const char *compare_array(const test_case *c, const array *a, int32_t dtype, const void *got, const void *truth,
                                 double *worst)
{
    static _Thread_local char text[400];
    for (int64_t i = 0; i < a->count; i++) {
        if (!is_tolerant(a)) {
            if (!same_bits(a, got, truth, i) && !flags_agree(c, a)) {
                snprintf(text, sizeof text, "%s[%lld] differs from the reference", a->name, (long long)i);
                return text;
            }
            continue;
        }
        double x, y;
        const double ratio = excess(c, a, dtype, got, truth, i, &x, &y);
        *worst = ratio > *worst ? ratio : *worst;
        if (!(ratio <= 1)) {
            snprintf(text, sizeof text, "%s[%lld] = %.9g, expected %.9g, error %.3g, %.3g times the allowed", a->name,
                     (long long)i, x, y, fabs(x - y), ratio);
            return text;
        }
    }
    return NULL;
}

const char *compare_results(const test_case *c, const results *got, const results *truth, double *worst)
{
    for (int32_t i = 0; i < c->arrays; i++) {
        if (c->array[i].use == INPUT) {
            continue;
        }
        const char *wrong = compare_array(c, &c->array[i], got->dtype, got->array[i], truth->array[i], worst);
        if (wrong) {
            return wrong;
        }
    }
    return NULL;
}
