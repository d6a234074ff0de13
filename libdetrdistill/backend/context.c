/* SPDX-License-Identifier: Apache-2.0
 * The context: opens a device and chooses its kernels. */
#include "backend/context.h"
#include "backend/ref/ref.h"
#include "base/error.h"
#include "base/handle.h"
#include "base/limits.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIELD(name) offsetof(ddi_context_settings, name)
static const ddi_option option[] = {
    {"device", DDI_TEXT, FIELD(device), 0, 0, "cpu", NULL, "cpu, cuda, cuda:N, or ref (plain C, slow)"},
    {"threads", DDI_INT, FIELD(threads), 0, DDI_MAX_THREADS, "0", NULL, "CPU threads; 0: all cores this process may use"},
    {"seed", DDI_INT, FIELD(seed), 0, 0x1p63, "0", NULL, "of every random number that this context's handles draw"},
    {"isa", DDI_CHOICE, FIELD(isa), 0, 0, "auto", "auto|none|avx2|avx512", "highest instruction set to use"},
    {"modules", DDI_TEXT, FIELD(modules), 0, 0, "", NULL, "folder where backend modules are looked for first"},
};
const ddi_option_table ddi_context_options = {"context", option, sizeof option / sizeof option[0]};

static int64_t cores_of_process(void)
{
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return cores > DDI_MAX_THREADS ? DDI_MAX_THREADS : cores;
}

/* "cuda:1" -> kind "cuda", index 1 */
static dd_status split_device(const char *text, char kind[16], int32_t *index)
{
    const char *colon = strchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : strlen(text);
    *index = 0;
    if (n >= 16 || (strncmp(text, "cpu", n) != 0 && strncmp(text, "cuda", n) != 0 && strncmp(text, "ref", n) != 0) || n < 3)
        return ddi_fail(DD_ERR_OPTION, "device", "context option device=%.40s: must be cpu, cuda, cuda:N or ref", text);
    memcpy(kind, text, n);
    kind[n] = '\0';
    if (!colon)
        return DD_OK;
    char *end;
    long number = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end || number < 0 || number > 63)
        return ddi_fail(DD_ERR_OPTION, "device", "context option device=%.40s: the device number must lie in 0 to 63", text);
    *index = (int32_t)number;
    return DD_OK;
}

static void append_rows(dd_context *c, const dd_kernel *kernels, int32_t count)
{
    for (int32_t k = 0; k < count; k++) {
        const dd_kernel *kernel = &kernels[k];
        if (kernel->op < 0 || kernel->op >= DD_OPERATOR_COUNT || kernel->isa > c->isa ||
            (kernel->dtype != DD_F32 && kernel->dtype != DD_F64))
            continue;
        const dd_kernel **row = c->rows[kernel->op][kernel->dtype == DD_F64];
        for (int32_t i = 0; i < DDI_MAX_ROWS; i++)
            if (!row[i]) {
                row[i] = kernel;
                break;
            }
    }
}

static void choose_kernels(dd_context *c)
{
    static const int32_t bound[] = {DD_ISA_AVX512, DD_ISA_NONE, DD_ISA_AVX2, DD_ISA_AVX512};
    c->isa = c->backend->isa();
    if (c->isa > bound[c->settings.isa])
        c->isa = bound[c->settings.isa];
    append_rows(c, c->backend->kernels, c->backend->kernel_count);
    if (!c->backend->host_memory)
        return;
    int32_t count;
    if (c->backend != ddi_ref_backend()) {
        const dd_kernel *own = ddi_core_kernels(&count);
        append_rows(c, own, count);
    }
    const dd_kernel *ref = ddi_ref_kernels(&count);
    append_rows(c, ref, count);
}

static dd_status open_device(dd_context *c)
{
    char kind[16], text[160] = "";
    DDI_TRY(split_device(c->settings.device, kind, &c->device_index));
    DDI_TRY(ddi_backend_find(kind, c->settings.modules, &c->backend));
    dd_status status = c->backend->device_open(c->device_index, &c->device, text, sizeof text);
    if (status != DD_OK) {
        c->backend = NULL;
        return ddi_fail(status == DD_ERR_NOMEM ? status : DD_ERR_DEVICE, "device", "device=%s: %s", c->settings.device,
                        text[0] ? text : "it could not be opened");
    }
    if (c->backend->host_memory)
        snprintf(c->description, sizeof c->description, "%s: %s, %d thread%s", kind, text, c->threads,
                 c->threads == 1 ? "" : "s");
    else
        snprintf(c->description, sizeof c->description, "%s:%d: %s", kind, c->device_index, text);
    return DD_OK;
}

static void destroy(dd_context *c)
{
    if (c->backend)
        c->backend->device_close(c->device);
    ddi_allocator owner = c->allocator; /* the block that holds the counters goes last */
    ddi_free(&owner, c);
}

dd_status dd_context_create_with(dd_context **context, const char *options, dd_alloc_fn alloc, dd_free_fn free_memory,
                                 void *user)
{
    ddi_error_clear();
    if (!context)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_context_create: context is NULL");
    if (!alloc != !free_memory)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_context_create_with: give both alloc and free, or neither");
    ddi_allocator allocator = {.alloc = alloc, .free = free_memory, .user = user};
    dd_context *c = ddi_alloc_zero(&allocator, 1, sizeof *c);
    if (!c)
        return ddi_fail_nomem(sizeof *c, "a context");
    c->allocator = allocator;
    c->references = 1;
    c->process = getpid();
    ddi_options_init(&ddi_context_options, &c->settings);
    dd_status status = ddi_options_parse(&ddi_context_options, options, &c->settings, NULL);
    c->threads = (int32_t)(c->settings.threads ? c->settings.threads : cores_of_process());
    if (status == DD_OK)
        status = open_device(c);
    if (status == DD_OK) {
        choose_kernels(c);
        status = ddi_handle_add(c, DDI_CONTEXT);
    }
    if (status != DD_OK) {
        destroy(c);
        return status;
    }
    *context = c;
    return DD_OK;
}

dd_status dd_context_create(dd_context **context, const char *options)
{
    return dd_context_create_with(context, options, NULL, NULL, NULL);
}

dd_context *ddi_context_reference(dd_context *c)
{
    __atomic_add_fetch(&c->references, 1, __ATOMIC_RELAXED);
    return c;
}

void ddi_context_release(dd_context *c)
{
    if (__atomic_sub_fetch(&c->references, 1, __ATOMIC_ACQ_REL) == 0)
        destroy(c);
}

void dd_context_free(dd_context *context)
{
    if (ddi_handle_remove(context, DDI_CONTEXT))
        ddi_context_release(context);
}

/* Ends a call that was begun by ddi_handle_enter. */
static dd_status leave(dd_context *c, dd_status status)
{
    if (ddi_handle_leave(c))
        ddi_context_release(c);
    return status;
}

dd_status dd_context_describe(const dd_context *context, const char **description)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(context, DDI_CONTEXT, "dd_context_describe"));
    if (!description)
        return leave((dd_context *)(uintptr_t)context,
                     ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_context_describe: description is NULL"));
    *description = context->description;
    return leave((dd_context *)(uintptr_t)context, DD_OK);
}

/* The three words of a log setting belong together; contexts are shared by threads. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

dd_status dd_context_set_log(dd_context *context, dd_log_fn log, void *user, int32_t level)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(context, DDI_CONTEXT, "dd_context_set_log"));
    if (level < DD_LOG_ERROR || level > DD_LOG_DEBUG)
        return leave(context, ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_context_set_log: level %d is not one of DD_LOG_*", level));
    pthread_mutex_lock(&log_lock);
    context->log = log;
    context->log_user = user;
    context->log_level = level;
    pthread_mutex_unlock(&log_lock);
    return leave(context, DD_OK);
}

void ddi_log_line(const dd_context *context, int32_t level, const char *format, ...)
{
    pthread_mutex_lock(&log_lock);
    dd_log_fn log = level <= context->log_level ? context->log : NULL;
    void *user = context->log_user;
    pthread_mutex_unlock(&log_lock);
    if (!log)
        return;
    char line[DDI_MAX_LOG_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    log(user, level, line);
}

dd_status dd_context_memory(const dd_context *context, int64_t *host_bytes, int64_t *host_peak, int64_t *device_bytes,
                            int64_t *device_peak, int64_t *allocations)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(context, DDI_CONTEXT, "dd_context_memory"));
    const ddi_allocator *a = &context->allocator;
    int64_t *const out[] = {host_bytes, host_peak, device_bytes, device_peak};
    const int64_t *const value[] = {&a->live_bytes, &a->peak_bytes, &context->device_live, &context->device_peak};
    for (int i = 0; i < 4; i++)
        if (out[i])
            *out[i] = __atomic_load_n(value[i], __ATOMIC_RELAXED);
    if (allocations)
        *allocations = __atomic_load_n(&a->count, __ATOMIC_RELAXED) + __atomic_load_n(&context->device_count, __ATOMIC_RELAXED);
    return leave((dd_context *)(uintptr_t)context, DD_OK);
}

dd_status dd_context_cancel(dd_context *context, int32_t cancelled)
{
    /* No table look-up here: its lock must not be taken in a signal handler. Nor is the error cleared: the handler may have
     * interrupted a call that has just failed. */
    if (!context)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_context_cancel: context is NULL");
    __atomic_store_n(&context->cancelled, cancelled != 0, __ATOMIC_SEQ_CST);
    return DD_OK;
}

dd_status dd_context_kernel(const dd_context *context, const char *op, int32_t dtype, const char **name)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(context, DDI_CONTEXT, "dd_context_kernel"));
    dd_context *c = (dd_context *)(uintptr_t)context;
    if (!op || !name)
        return leave(c, ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_context_kernel: %s is NULL", op ? "name" : "op"));
    if (dtype != DD_F32 && dtype != DD_F64)
        return leave(
            c, ddi_fail(DD_ERR_DTYPE, NULL, "dd_context_kernel: kernels run on f32 or f64, not %s", dd_dtype_name(dtype)));
    int32_t i = 0;
    while (i < DD_OPERATOR_COUNT && strcmp(ddi_operator_name(i), op) != 0)
        i++;
    if (i == DD_OPERATOR_COUNT)
        return leave(c, ddi_fail(DD_ERR_NOT_FOUND, op, "dd_context_kernel: there is no operator '%.40s'", op));
    const dd_kernel *kernel = c->rows[i][dtype == DD_F64][0];
    if (!kernel)
        return leave(c,
                     ddi_fail(DD_ERR_UNSUPPORTED, op, "%s has no %s kernel on %s", op, dd_dtype_name(dtype), c->backend->name));
    *name = kernel->name;
    return leave(c, DD_OK);
}

void *ddi_device_alloc(dd_context *c, size_t bytes)
{
    if (!c->backend->mem_alloc)
        return ddi_alloc(&c->allocator, bytes);
    void *memory = ddi_fault() ? NULL : c->backend->mem_alloc(c->device, bytes ? bytes : 1);
    if (memory) {
        int64_t live = __atomic_add_fetch(&c->device_live, (int64_t)bytes, __ATOMIC_RELAXED);
        __atomic_add_fetch(&c->device_count, 1, __ATOMIC_RELAXED);
        if (live > c->device_peak)
            c->device_peak = live; /* a figure for people: a lost update between threads does no harm */
    }
    return memory;
}

void ddi_device_free(dd_context *c, void *memory, size_t bytes)
{
    if (!memory)
        return;
    if (!c->backend->mem_alloc) {
        ddi_free(&c->allocator, memory);
        return;
    }
    c->backend->mem_free(c->device, memory);
    __atomic_sub_fetch(&c->device_live, (int64_t)bytes, __ATOMIC_RELAXED);
}
