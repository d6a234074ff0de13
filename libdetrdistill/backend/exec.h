/* SPDX-License-Identifier: Apache-2.0
 * Running operators for one handle: kernel choice, scratch memory, buffers that only grow. */
#ifndef DDI_BACKEND_EXEC_H
#define DDI_BACKEND_EXEC_H

#include "backend/context.h"

enum { DDI_SCRATCH_CHUNKS = 16 };

/* A piece of memory that is kept between steps: after the first step of a shape, nothing is allocated. */
typedef struct ddi_buffer {
    void *data;
    size_t bytes;
    bool on_device;
} ddi_buffer;

typedef struct ddi_exec {
    dd_exec base; /* what kernels see; first member */
    dd_context *context;
    ddi_buffer chunk[DDI_SCRATCH_CHUNKS];
    size_t chunk_used[DDI_SCRATCH_CHUNKS];
    ddi_buffer host_values, host_bytes; /* for reading small tensors */
    char sentence[256];                 /* a kernel's own words for its failure */
    bool whole;                         /* what runs now is not cut short by dd_context_cancel */
} ddi_exec;

/* Exchanges the scratch memory of two handles of one context. */
void ddi_exec_exchange(ddi_exec *one, ddi_exec *other);
void ddi_exec_init(ddi_exec *exec, dd_context *context);
void ddi_exec_free(ddi_exec *exec);

/* Makes the buffer at least `bytes` long; its old contents are lost when it grows. Errors: NOMEM, naming `what`. */
dd_status ddi_buffer_reserve(ddi_exec *exec, ddi_buffer *buffer, size_t bytes, bool on_device, const char *what);
void ddi_buffer_free(ddi_exec *exec, ddi_buffer *buffer);

/* Runs one operator on reals of `dtype`, best accepting kernel first. */
dd_status ddi_run(ddi_exec *exec, int32_t op, int32_t dtype, const void *args);

dd_status ddi_copy(ddi_exec *exec, void *dst, const void *src, size_t bytes, int32_t kind);
dd_status ddi_zero(ddi_exec *exec, void *dst, size_t bytes);
/* Waits until all that was queued is done. */
dd_status ddi_sync(ddi_exec *exec);

/* fn(arg, i) for i < n on the context's threads. */
void ddi_parallel_for(ddi_exec *exec, int64_t n, void (*fn)(void *arg, int64_t i), void *arg);

static inline bool ddi_on_host(const ddi_exec *exec)
{
    return exec->context->backend->host_memory != 0;
}

#endif
