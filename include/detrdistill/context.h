/* SPDX-License-Identifier: Apache-2.0
 * The context: one device, its memory, threads, seed, log and allocator. Every other handle holds a reference on its
 * context, so handles may be freed in any order. */
#ifndef DETRDISTILL_CONTEXT_H
#define DETRDISTILL_CONTEXT_H

#include <detrdistill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dd_context dd_context;

enum { DD_LOG_ERROR = 0, DD_LOG_WARNING = 1, DD_LOG_INFO = 2, DD_LOG_DEBUG = 3 };

/* Gets one finished line without a newline. Runs only on the thread that is inside a library call. */
typedef void (*dd_log_fn)(void *user, int32_t level, const char *line);

/* Memory hook. alloc returns memory aligned to 64 bytes or NULL. Both may be called from any thread that is inside a
 * library call. */
typedef void *(*dd_alloc_fn)(void *user, uint64_t bytes);
typedef void (*dd_free_fn)(void *user, void *memory);

/* Makes a context. `options` is NULL or "key=value" words (dd_options_help("context") lists them):
 *   device=cpu|cuda|cuda:N|ref   threads=0..256 (0: all cores)   seed=0..2^63-1
 *   isa=auto|none|avx2|avx512 (an upper bound, for tests)   modules=DIR (where backend modules are looked for first)
 * The CPU's threads are OpenMP's. A process that shares its cores with others should be started with GOMP_SPINCOUNT=1000
 * in its environment (GNU's library reads it once): without it a loop may wait 15 ms for a thread that does not run.
 * Errors: ARGUMENT, OPTION, DEVICE (no such device; module not found or refused, with the reason), LIMIT, NOMEM.
 * Any thread. The context itself may be shared by threads; each other handle by one thread at a time. */
DD_API dd_status dd_context_create(dd_context **context, const char *options);

/* The same with the caller's allocator for host memory. Both functions, or neither. Errors: as dd_context_create. */
DD_API dd_status dd_context_create_with(dd_context **context, const char *options, dd_alloc_fn alloc, dd_free_fn free_memory,
                                        void *user);

/* Drops the caller's reference. NULL is fine. */
DD_API void dd_context_free(dd_context *context);

/* "cpu: oneDNN 3.2, OpenBLAS 0.3.21, AVX-512, 2 threads". Borrowed: lives as long as the context. */
DD_API dd_status dd_context_describe(const dd_context *context, const char **description);

/* How many devices of a kind ("cpu", "cuda", "ref") can be opened. 0 where the module is missing. */
DD_API dd_status dd_device_count(const char *kind, int32_t *count);

/* Sends log lines up to `level` to `log` (NULL: nowhere, as at the start). */
DD_API dd_status dd_context_set_log(dd_context *context, dd_log_fn log, void *user, int32_t level);

/* Memory of this context and its handles, in bytes: held now and at most so far, on the host and on the device, and the
 * number of allocations made so far. Any of the pointers may be NULL. */
DD_API dd_status dd_context_memory(const dd_context *context, int64_t *host_bytes, int64_t *host_peak, int64_t *device_bytes,
                                   int64_t *device_peak, int64_t *allocations);

/* Makes running and later calls on this context's handles return DD_ERR_CANCELLED, until cancelled is 0 again.
 * Any thread, also from a signal handler. */
DD_API dd_status dd_context_cancel(dd_context *context, int32_t cancelled);

/* The kernel that runs operator `op` ("kd_cost", ..) on f32 (or f64) tensors here, e.g. "cpu/avx512". Borrowed, static.
 * Errors: ARGUMENT, DTYPE, NOT_FOUND (no such operator), UNSUPPORTED (no kernel on this device). */
DD_API dd_status dd_context_kernel(const dd_context *context, const char *op, int32_t dtype, const char **name);

/* The option table of an object as text, a line each: "context", "matcher", "distiller", "model" (loading),
 * "architecture" (dd_model_create), "dataset", "loader", "trainer", "plot".
 * Static.
 * Errors: ARGUMENT, NOT_FOUND (no such object). */
DD_API dd_status dd_options_help(const char *object, const char **text);

#ifdef __cplusplus
}
#endif
#endif
