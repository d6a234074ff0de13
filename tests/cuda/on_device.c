/* SPDX-License-Identifier: Apache-2.0
 * Cases in device memory. */
#include "on_device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 256, GUARD_BYTE = 0x5a, GARBAGE_BYTE = 0xff };

static void *device_scratch(dd_exec *base, size_t bytes)
{
    device_exec *exec = (device_exec *)base;
    if (exec->used == DEVICE_SCRATCHES || (exec->fail_scratch > 0 && --exec->fail_scratch == 0)) {
        return NULL;
    }
    void *memory = exec->backend->mem_alloc(base->device, bytes);
    if (memory) {
        exec->scratch[exec->used++] = memory;
    }
    return memory;
}

static dd_status keep_sentence(dd_exec *base, dd_status status, const char *sentence)
{
    snprintf(((device_exec *)base)->sentence, sizeof((device_exec *)base)->sentence, "%s", sentence);
    return status;
}

void device_exec_init(device_exec *exec, const dd_backend *backend, void *device)
{
    memset(exec, 0, sizeof *exec);
    exec->base = (dd_exec){sizeof(dd_exec), 1, device, NULL, device_scratch, keep_sentence, NULL};
    exec->backend = backend;
}

void device_exec_free(device_exec *exec)
{
    for (int32_t i = 0; i < exec->used; i++) {
        exec->backend->mem_free(exec->base.device, exec->scratch[i]);
    }
    exec->used = 0;
}

size_t element_size(const array *a, int32_t dtype)
{
    return a->kind == BYTES ? a->element : a->kind == DOUBLES || dtype == DD_F64 ? sizeof(double) : sizeof(float);
}

static bool stays_on_host(const array *a)
{
    return strncmp(a->name, "host_", 5) == 0;
}

/* The array as the run shall find it, guards around it. */
static unsigned char *image_of(const device_case *d, int32_t i, size_t *bytes)
{
    const array *a = &d->c->array[i];
    const size_t size = element_size(a, d->dtype), length = (size_t)a->count * size;
    *bytes = d->skip[i] + length + GUARD;
    unsigned char *image = malloc(*bytes), *data = image + d->skip[i];
    if (!image) {
        abort();
    }
    memset(image, GUARD_BYTE, *bytes);
    memset(data, GARBAGE_BYTE, length);
    for (int64_t k = 0; a->values && a->kind == REALS && d->dtype == DD_F64 && k < a->count; k++) {
        const double x = ((const float *)a->values)[k];
        memcpy(data + (size_t)k * 8, &x, 8);
    }
    if (a->values && length > 0 && !(a->kind == REALS && d->dtype == DD_F64)) {
        memcpy(data, a->values, length);
    }
    return image;
}

static const char *place(device_case *d, int32_t i, placing how)
{
    const array *a = &d->c->array[i];
    const size_t size = element_size(a, d->dtype);
    size_t bytes;
    if (stays_on_host(a)) {
        memcpy(d->args + a->offset, &a->values, sizeof a->values);
        return NULL;
    }
    /* One element off: all that is promised is the alignment of the elements. */
    d->skip[i] = GUARD + (how == UNALIGNED ? (size % 8 == 0 ? 8 : 4) : 0);
    unsigned char *image = image_of(d, i, &bytes);
    d->memory[i] = d->backend->mem_alloc(d->device, bytes);
    const bool good = d->memory[i] &&
                      d->backend->copy(d->device, NULL, d->memory[i], image, bytes, DD_COPY_TO_DEVICE) == DD_OK &&
                      d->backend->sync(d->device, NULL) == DD_OK;
    free(image);
    unsigned char *pointer = d->memory[i] + d->skip[i] + a->shift * (int64_t)size;
    memcpy(d->args + a->offset, &pointer, sizeof pointer);
    return good ? NULL : "could not be copied to the device";
}

const char *device_case_open(device_case *d, const test_case *c, int32_t dtype, const dd_backend *backend, void *device,
                             placing how)
{
    memset(d, 0, sizeof *d);
    d->c = c;
    d->backend = backend;
    d->device = device;
    d->dtype = dtype;
    memcpy(d->args, c->args, sizeof d->args);
    const char *wrong = NULL;
    for (int32_t i = 0; i < c->arrays && !wrong; i++) {
        wrong = place(d, i, how);
    }
    return wrong;
}

static const char *take(device_case *d, int32_t i, void **out)
{
    static char text[160];
    const array *a = &d->c->array[i];
    size_t bytes;
    unsigned char *before = image_of(d, i, &bytes), *after = malloc(bytes);
    const size_t length = (size_t)a->count * element_size(a, d->dtype), skip = d->skip[i];
    if (!after || d->backend->copy(d->device, NULL, after, d->memory[i], bytes, DD_COPY_TO_HOST) != DD_OK ||
        d->backend->sync(d->device, NULL) != DD_OK) {
        free(before);
        free(after);
        return "could not be copied to the host";
    }
    text[0] = 0;
    if (memcmp(before, after, skip) != 0 || memcmp(before + skip + length, after + skip + length, GUARD) != 0) {
        snprintf(text, sizeof text, "wrote outside of %s", a->name);
    } else if (a->use == INPUT && memcmp(before, after, bytes) != 0) {
        snprintf(text, sizeof text, "changed its input %s", a->name);
    } else if (a->use != INPUT) {
        memmove(after, after + skip, length);
        *out = after;
        after = NULL;
    }
    free(before);
    free(after);
    return text[0] ? text : NULL;
}

const char *device_case_results(device_case *d, results *out)
{
    const char *wrong = NULL;
    memset(out, 0, sizeof *out);
    out->dtype = d->dtype;
    for (int32_t i = 0; i < d->c->arrays && !wrong; i++) {
        wrong = d->memory[i] ? take(d, i, &out->array[i]) : NULL;
    }
    return wrong;
}

void device_case_close(device_case *d)
{
    for (int32_t i = 0; i < d->c->arrays; i++) {
        if (d->memory[i]) {
            d->backend->mem_free(d->device, d->memory[i]);
        }
    }
}

const char *run_on_device(dd_kernel_fn kernel, const test_case *c, int32_t dtype, const dd_backend *backend, void *device,
                          placing how, results *out)
{
    static char text[400];
    device_case d;
    device_exec exec;
    memset(out, 0, sizeof *out);
    const char *wrong = device_case_open(&d, c, dtype, backend, device, how);
    if (!wrong) {
        device_exec_init(&exec, backend, device);
        dd_status status = kernel(&exec.base, d.args);
        if (status == DD_OK) {
            status = backend->sync(device, NULL);
            snprintf(exec.sentence, sizeof exec.sentence, "%s", status == DD_OK ? "" : backend->last_error(device));
        }
        device_exec_free(&exec);
        snprintf(text, sizeof text, "returned status %d: %s", status, exec.sentence);
        wrong = status == DD_OK ? device_case_results(&d, out) : text;
    }
    device_case_close(&d);
    return wrong;
}

/* What f32 may be off by, in units of double: 2^-29 of it, and 32 times as much for the functions of the device's library;
 * and the rounding of parts of a sum that cancel, which are as large as `scale`. */
static double allowed_f64(const array *a, int64_t i, double truth)
{
    const double scale = a->scale ? a->scale[i] : 0, sum = a->use == UPDATED ? fabs(truth) + 1 : 0;
    return (a->by_value * fabs(truth) + a->by_scale * scale + sum * EPS) * 0x1p-24 + 4 * 0x1p-53 * scale + a->floor + 0x1p-149;
}

const char *compare_f64(const test_case *c, const results *got, const results *truth, double *worst)
{
    static char text[300];
    for (int32_t i = 0; i < c->arrays; i++) {
        const array *a = &c->array[i];
        const bool tolerant = a->by_value != 0 || a->by_scale != 0 || a->floor != 0;
        const size_t size = element_size(a, DD_F64);
        for (int64_t k = 0; a->use != INPUT && k < a->count; k++) {
            const char *x = (const char *)got->array[i] + (size_t)k * size,
                       *y = (const char *)truth->array[i] + (size_t)k * size;
            const double real_x = a->kind == BYTES ? 0 : *(const double *)x, real_y = a->kind == BYTES ? 0 : *(const double *)y;
            if (memcmp(x, y, size) == 0 || (isnan(real_x) && isnan(real_y) && a->kind != BYTES)) {
                continue;
            }
            const double ratio = tolerant && a->kind != BYTES ? fabs(real_x - real_y) / allowed_f64(a, k, real_y) : INFINITY;
            *worst = fmax(*worst, ratio);
            if (!(ratio <= 1)) {
                snprintf(text, sizeof text, "%s[%lld] = %.17g, expected %.17g, %.3g times the allowed", a->name, (long long)k,
                         real_x, real_y, ratio);
                return text;
            }
        }
    }
    return NULL;
}
