/* SPDX-License-Identifier: Apache-2.0
 * The one allocator. Each block starts with a header that remembers its size, so that counters stay exact. */
#include "base/alloc.h"
#include "base/checked.h"

#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define HUGE_PAGE ((size_t)2 << 20)

enum { HEADER = 64, MAGIC_LIVE = 0x64644c56, MAGIC_DEAD = 0x64644445 };

typedef struct block_header {
    uint64_t bytes;
    uint32_t magic;
} block_header;

ddi_allocator ddi_default_allocator;

#ifdef DDI_FAULT_POINTS
static int64_t fault_at, fault_calls;
static int32_t fault_for_good;

int64_t dd_fault_set(int64_t n, int32_t for_good)
{
    __atomic_store_n(&fault_for_good, for_good, __ATOMIC_SEQ_CST);
    __atomic_store_n(&fault_at, n, __ATOMIC_SEQ_CST);
    return __atomic_exchange_n(&fault_calls, 0, __ATOMIC_SEQ_CST);
}

int32_t ddi_fault(void)
{
    int64_t call = __atomic_add_fetch(&fault_calls, 1, __ATOMIC_SEQ_CST);
    int64_t at = __atomic_load_n(&fault_at, __ATOMIC_SEQ_CST);
    return at > 0 && (call == at || (call > at && __atomic_load_n(&fault_for_good, __ATOMIC_SEQ_CST)));
}
#else
int32_t ddi_fault(void)
{
    return 0;
}
#endif

static void count(ddi_allocator *a, int64_t bytes, int64_t blocks)
{
    int64_t live = __atomic_add_fetch(&a->live_bytes, bytes, __ATOMIC_RELAXED);
    __atomic_add_fetch(&a->live_blocks, blocks, __ATOMIC_RELAXED);
    if (blocks > 0)
        __atomic_add_fetch(&a->count, 1, __ATOMIC_RELAXED);
    int64_t peak = __atomic_load_n(&a->peak_bytes, __ATOMIC_RELAXED);
    while (live > peak && !__atomic_compare_exchange_n(&a->peak_bytes, &peak, live, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

/* Activations and weights are read in strides that go beyond what the processor knows of small pages. */
static void *take_huge(size_t whole)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    whole = (whole + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *memory = aligned_alloc(HUGE_PAGE, whole);
    if (memory)
        madvise(memory, whole, MADV_HUGEPAGE); /* a wish: without it the pages stay small */
    return memory;
#else
    return aligned_alloc(64, whole);
#endif
}

static void *take(size_t whole)
{
    return whole >= 2 * HUGE_PAGE ? take_huge(whole) : aligned_alloc(64, whole);
}

void *ddi_alloc(ddi_allocator *allocator, size_t bytes)
{
    ddi_allocator *a = allocator ? allocator : &ddi_default_allocator;
    if (bytes > (size_t)INT64_MAX - 2 * HEADER || ddi_fault())
        return NULL;
    size_t whole = (bytes + HEADER + 63) & ~(size_t)63;
    void *memory = a->alloc ? a->alloc(a->user, whole) : take(whole);
    if (!memory)
        return NULL;
    block_header *header = memory;
    header->bytes = bytes;
    header->magic = MAGIC_LIVE;
    count(a, (int64_t)bytes, 1);
    return (char *)memory + HEADER;
}

void *ddi_alloc_zero(ddi_allocator *allocator, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    void *memory = ddi_alloc(allocator, bytes);
    return memory ? memset(memory, 0, bytes) : NULL;
}

void *ddi_realloc(ddi_allocator *allocator, void *memory, size_t bytes)
{
    void *moved = ddi_alloc(allocator, bytes);
    if (moved && memory) {
        size_t old = (size_t)((block_header *)((char *)memory - HEADER))->bytes;
        memcpy(moved, memory, old < bytes ? old : bytes);
        ddi_free(allocator, memory);
    }
    return moved;
}

void ddi_free(ddi_allocator *allocator, void *memory)
{
    ddi_allocator *a = allocator ? allocator : &ddi_default_allocator;
    if (!memory)
        return;
    block_header *header = (block_header *)((char *)memory - HEADER);
    if (header->magic != MAGIC_LIVE)
        return; /* freed twice: leaking is safer than corrupting the heap */
    header->magic = MAGIC_DEAD;
    count(a, -(int64_t)header->bytes, -1);
    if (a->alloc)
        a->free(a->user, header);
    else
        free(header);
}

char *ddi_strdup(ddi_allocator *allocator, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = ddi_alloc(allocator, bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}
