/* SPDX-License-Identifier: Apache-2.0
 * The one allocator: counted, with peak, and able to fail on demand in builds for tests. */
#ifndef DDI_BASE_ALLOC_H
#define DDI_BASE_ALLOC_H

#include <detrdistill/context.h>
#include <stddef.h>

/* Counters and the memory hook of one owner (a context; handles without one share ddi_default_allocator). */
typedef struct ddi_allocator {
    dd_alloc_fn alloc; /* NULL: the C library's */
    dd_free_fn free;
    void *user;
    int64_t live_bytes, peak_bytes, live_blocks, count; /* atomics */
} ddi_allocator;

extern ddi_allocator ddi_default_allocator;

/* 64-byte aligned memory, not cleared; NULL when there is none (bytes = 0 gives a unique block). NULL allocator: the default
 * one. */
void *ddi_alloc(ddi_allocator *allocator, size_t bytes);
/* The same, cleared; also NULL when count * size overflows. */
void *ddi_alloc_zero(ddi_allocator *allocator, size_t count, size_t size);
/* Grows or shrinks, keeping contents; on failure NULL and `memory` is untouched. */
void *ddi_realloc(ddi_allocator *allocator, void *memory, size_t bytes);
void ddi_free(ddi_allocator *allocator, void *memory);
char *ddi_strdup(ddi_allocator *allocator, const char *text);

#ifdef DDI_FAULT_POINTS
#include <detrdistill/status.h>
/* Test builds: the n-th fallible call from now fails (once, or it and all after it). n = 0: none. Returns how many fallible
 * calls were made since the last call of this function. Counts allocations, thread starts and mappings of the whole process. */
DD_API int64_t dd_fault_set(int64_t n, int32_t for_good);
#endif
/* 1 if this fallible call must fail now (always 0 in normal builds). */
int32_t ddi_fault(void);

#endif
