/* SPDX-License-Identifier: Apache-2.0
 * Inside of a context: one opened device and the kernels that may run on it. */
#ifndef DDI_BACKEND_CONTEXT_H
#define DDI_BACKEND_CONTEXT_H

#include "base/alloc.h"
#include "base/options.h"
#include <detrdistill/context.h>
#include <detrdistill/sys/backend.h>
#include <stdbool.h>
#include <sys/types.h>

enum { DDI_MAX_ROWS = 8 };

typedef struct ddi_context_settings {
    char device[DDI_OPTION_TEXT];
    char modules[DDI_OPTION_TEXT];
    int64_t threads, seed;
    int32_t isa; /* choice auto|none|avx2|avx512 */
} ddi_context_settings;

extern const ddi_option_table ddi_context_options;

struct dd_context {
    int32_t references; /* atomic: the caller's, and one for each child handle */
    int32_t cancelled;  /* atomic */
    ddi_allocator allocator;
    ddi_context_settings settings;
    const dd_backend *backend;
    void *device; /* of the backend */
    int32_t device_index, threads;
    int32_t isa; /* highest DD_ISA_* that may run */
    pid_t process;
    dd_log_fn log;
    void *log_user;
    int32_t log_level;
    int64_t device_live, device_peak, device_count;            /* atomics */
    const dd_kernel *rows[DD_OPERATOR_COUNT][2][DDI_MAX_ROWS]; /* [op][f64][best first] */
    char description[256];
};

/* Opens `kind` (cpu, cuda, ref) and its kernels; the reference kernels are appended for host backends. */
dd_status ddi_backend_find(const char *kind, const char *modules, const dd_backend **backend);
const char *ddi_operator_name(int32_t op);
/* The backend that has the reference kernels alone. */
const dd_backend *ddi_ref_backend(void);
/* The core's own SIMD rows for host backends (match/assign.c). */
const dd_kernel *ddi_core_kernels(int32_t *count);

dd_context *ddi_context_reference(dd_context *context);
void ddi_context_release(dd_context *context);
void ddi_log_line(const dd_context *context, int32_t level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Device memory (host memory on host backends), counted. NULL: none. */
void *ddi_device_alloc(dd_context *context, size_t bytes);
void ddi_device_free(dd_context *context, void *memory, size_t bytes);

#endif
