/* SPDX-License-Identifier: Apache-2.0
 * Running operators for one handle. */
#include "backend/exec.h"
#include "base/error.h"
#include "base/limits.h"

#include <stdio.h>
#include <string.h>

/* Each chunk is at least twice as large as the one before, so that many small pieces fit in few chunks. A chunk that this
 * operator has not begun to use and that is too small is replaced by a larger one: growing sizes do not use them up. */
static void *scratch(dd_exec *base, size_t bytes)
{
    ddi_exec *x = (ddi_exec *)base;
    if (bytes > (size_t)DDI_MAX_BYTES)
        return NULL;
    size_t whole = (bytes + 63) & ~(size_t)63;
    for (int32_t i = 0; i < DDI_SCRATCH_CHUNKS; i++) {
        ddi_buffer *chunk = &x->chunk[i];
        size_t least = (size_t)65536 << i;
        if (x->chunk_used[i] == 0 && chunk->bytes < whole) {
            if (chunk->data && !ddi_on_host(x) && ddi_sync(x) != DD_OK)
                return NULL;
            ddi_device_free(x->context, chunk->data, chunk->bytes);
            *chunk = (ddi_buffer){0};
            chunk->data = ddi_device_alloc(x->context, whole > least ? whole : least);
            if (!chunk->data)
                return NULL;
            chunk->bytes = whole > least ? whole : least;
        }
        if (chunk->data && chunk->bytes - x->chunk_used[i] >= whole) {
            void *memory = (char *)chunk->data + x->chunk_used[i];
            x->chunk_used[i] += whole;
            return memory;
        }
    }
    return NULL;
}

static dd_status fail(dd_exec *base, dd_status status, const char *sentence)
{
    snprintf(((ddi_exec *)base)->sentence, sizeof((ddi_exec *)base)->sentence, "%s", sentence);
    return status;
}

void ddi_exec_init(ddi_exec *x, dd_context *context)
{
    memset(x, 0, sizeof *x);
    x->context = context;
    x->base = (dd_exec){.struct_size = sizeof x->base,
                        .threads = context->threads,
                        .device = context->device,
                        .scratch = scratch,
                        .fail = fail,
                        .core = x};
}

void ddi_exec_exchange(ddi_exec *one, ddi_exec *other)
{
    for (int32_t i = 0; i < DDI_SCRATCH_CHUNKS; i++) {
        const ddi_buffer chunk = one->chunk[i];
        one->chunk[i] = other->chunk[i];
        other->chunk[i] = chunk;
    }
}

void ddi_buffer_free(ddi_exec *x, ddi_buffer *buffer)
{
    if (buffer->on_device)
        ddi_device_free(x->context, buffer->data, buffer->bytes);
    else
        ddi_free(&x->context->allocator, buffer->data);
    *buffer = (ddi_buffer){0};
}

void ddi_exec_free(ddi_exec *x)
{
    ddi_buffer_free(x, &x->host_values);
    ddi_buffer_free(x, &x->host_bytes);
    for (int32_t i = 0; i < DDI_SCRATCH_CHUNKS; i++)
        ddi_device_free(x->context, x->chunk[i].data, x->chunk[i].bytes);
}

dd_status ddi_buffer_reserve(ddi_exec *x, ddi_buffer *buffer, size_t bytes, bool on_device, const char *what)
{
    if (buffer->data && buffer->bytes >= bytes && buffer->on_device == on_device)
        return DD_OK;
    if (buffer->data && on_device && !ddi_on_host(x))
        DDI_TRY(ddi_sync(x)); /* a queued kernel may still use the old memory */
    ddi_buffer_free(x, buffer);
    void *memory = on_device ? ddi_device_alloc(x->context, bytes) : ddi_alloc(&x->context->allocator, bytes);
    if (!memory)
        return ddi_fail_nomem(bytes, what);
    *buffer = (ddi_buffer){memory, bytes, on_device};
    return DD_OK;
}

static dd_status device_failure(ddi_exec *x, dd_status status, const char *what)
{
    const dd_backend *b = x->context->backend;
    const char *words = x->sentence[0] ? x->sentence : b->last_error ? b->last_error(x->base.device) : NULL;
    if (status == DD_ERR_NOMEM && !x->sentence[0])
        words = "out of memory";
    return ddi_fail(status, what, "%s on %s: %s", what, b->name, words && words[0] ? words : dd_status_name(status));
}

dd_status ddi_run(ddi_exec *x, int32_t op, int32_t dtype, const void *args)
{
    dd_context *c = x->context;
    if (!x->whole && __atomic_load_n(&c->cancelled, __ATOMIC_RELAXED))
        return ddi_fail(DD_ERR_CANCELLED, NULL, "cancelled by dd_context_cancel before operator %s", ddi_operator_name(op));
    memset(x->chunk_used, 0, sizeof x->chunk_used);
    const dd_kernel *const *row = c->rows[op][dtype == DD_F64];
    for (int32_t i = 0; i < DDI_MAX_ROWS && row[i]; i++) {
        if (row[i]->accepts && !row[i]->accepts(args))
            continue;
        x->sentence[0] = '\0';
        dd_status status = row[i]->run(&x->base, args);
        if (status == DD_ERR_UNSUPPORTED)
            continue;
        return status == DD_OK ? DD_OK : device_failure(x, status, ddi_operator_name(op));
    }
    return ddi_fail(DD_ERR_UNSUPPORTED, ddi_operator_name(op), "operator %s has no %s kernel on %s", ddi_operator_name(op),
                    dd_dtype_name(dtype), c->backend->name);
}

dd_status ddi_copy(ddi_exec *x, void *dst, const void *src, size_t bytes, int32_t kind)
{
    x->sentence[0] = '\0';
    if (bytes == 0)
        return DD_OK;
    dd_status status = x->context->backend->copy(x->base.device, x->base.stream, dst, src, bytes, kind);
    return status == DD_OK ? DD_OK : device_failure(x, status, "copy");
}

dd_status ddi_zero(ddi_exec *x, void *dst, size_t bytes)
{
    x->sentence[0] = '\0';
    if (bytes == 0)
        return DD_OK;
    dd_status status = x->context->backend->zero(x->base.device, x->base.stream, dst, bytes);
    return status == DD_OK ? DD_OK : device_failure(x, status, "zero");
}

dd_status ddi_sync(ddi_exec *x)
{
    x->sentence[0] = '\0';
    dd_status status = x->context->backend->sync(x->base.device, x->base.stream);
    return status == DD_OK ? DD_OK : device_failure(x, status, "synchronisation");
}

void ddi_parallel_for(ddi_exec *x, int64_t n, void (*fn)(void *arg, int64_t i), void *arg)
{
    if (x->context->backend->parallel_for && x->base.threads > 1 && n > 1) {
        x->context->backend->parallel_for(x->base.threads, n, fn, arg);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        fn(arg, i);
}
