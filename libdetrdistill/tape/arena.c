/* SPDX-License-Identifier: Apache-2.0
 * Memory of a tape. The lowest free piece that is large enough is taken, which keeps long-lived blocks low and the highest
 * address small; neighbours that are free are joined. A step has some hundred blocks, so a walk along them costs nothing. */
#include "tape/arena.h"
#include "base/error.h"

enum { ALIGNMENT = 64, RECORDS_IN_A_SLAB = 256 };
#define LEAST_CHUNK ((size_t)16 << 20)
#define DRY_CHUNK ((size_t)1 << 46)

typedef struct slab {
    struct slab *next;
    ddi_block record[RECORDS_IN_A_SLAB];
} slab;

void ddi_arena_init(ddi_arena *a, dd_context *context, bool dry)
{
    *a = (ddi_arena){.context = context, .dry = dry};
}

void ddi_arena_free(ddi_arena *a)
{
    for (int32_t i = 0; i < a->chunks; i++) {
        if (!a->dry) {
            ddi_device_free(a->context, a->chunk[i].memory, a->chunk[i].bytes);
        }
    }
    for (slab *s = a->records; s;) {
        slab *next = s->next;
        ddi_free(&a->context->allocator, s);
        s = next;
    }
    *a = (ddi_arena){0};
}

static ddi_block *new_record(ddi_arena *a)
{
    if (!a->spare) {
        slab *s = ddi_alloc(&a->context->allocator, sizeof *s);
        if (!s) {
            return NULL;
        }
        s->next = a->records;
        a->records = s;
        for (int i = 0; i < RECORDS_IN_A_SLAB; i++) {
            s->record[i].above = a->spare;
            a->spare = &s->record[i];
        }
    }
    ddi_block *record = a->spare;
    a->spare = record->above;
    *record = (ddi_block){0};
    return record;
}

static bool add_chunk(ddi_arena *a, size_t bytes)
{
    ddi_block *whole = a->chunks < DDI_ARENA_CHUNKS ? new_record(a) : NULL;
    /* The dry chunk begins above zero, so that no address looks like "not wanted". */
    void *memory = !whole ? NULL : a->dry ? (void *)(uintptr_t)ALIGNMENT : ddi_device_alloc(a->context, bytes);
    if (!memory) {
        if (whole) {
            whole->above = a->spare;
            a->spare = whole;
        }
        return false;
    }
    whole->data = memory;
    whole->bytes = bytes;
    a->chunk[a->chunks++] = (ddi_arena_chunk){memory, bytes, whole};
    a->held += a->dry ? 0 : (int64_t)bytes;
    return true;
}

dd_status ddi_arena_reserve(ddi_arena *a, size_t bytes)
{
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (int32_t i = 0; i < a->chunks; i++) {
        if (a->chunk[i].bytes >= bytes) {
            return DD_OK;
        }
    }
    if (a->dry) {
        return DD_OK;
    }
    if (a->live == 0) { /* each chunk is one free block: what is too small goes first */
        for (int32_t i = 0; i < a->chunks; i++) {
            a->chunk[i].first->above = a->spare;
            a->spare = a->chunk[i].first;
            ddi_device_free(a->context, a->chunk[i].memory, a->chunk[i].bytes);
        }
        a->chunks = 0;
        a->held = 0;
    }
    return add_chunk(a, bytes) ? DD_OK : ddi_fail_nomem(bytes, "a step's activations");
}

static ddi_block *take_from(ddi_arena *a, ddi_arena_chunk *chunk, size_t bytes)
{
    ddi_block *b = chunk->first;
    while (b && (b->references > 0 || b->bytes < bytes)) {
        b = b->above;
    }
    if (!b) {
        return NULL;
    }
    if (b->bytes > bytes) {
        ddi_block *rest = new_record(a);
        if (!rest) {
            return NULL;
        }
        *rest = (ddi_block){.data = b->data + bytes, .bytes = b->bytes - bytes, .below = b, .above = b->above};
        if (b->above) {
            b->above->below = rest;
        }
        b->above = rest;
        b->bytes = bytes;
    }
    b->references = 1;
    return b;
}

static void count_block(ddi_arena *a, int32_t chunk, const ddi_block *b)
{
    int64_t end = b->data + b->bytes - (char *)a->chunk[chunk].memory;
    for (int32_t i = 0; i < chunk; i++) {
        end += (int64_t)a->chunk[i].bytes;
    }
    a->highest = end > a->highest ? end : a->highest;
    a->live += (int64_t)b->bytes;
    a->peak = a->live > a->peak ? a->live : a->peak;
}

ddi_block *ddi_arena_take(ddi_arena *a, size_t bytes)
{
    if (bytes > DRY_CHUNK / 2) {
        return NULL;
    }
    bytes = bytes == 0 ? ALIGNMENT : (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (int32_t i = 0;; i++) {
        if (i == a->chunks && !add_chunk(a, a->dry ? DRY_CHUNK : bytes > LEAST_CHUNK ? bytes : LEAST_CHUNK)) {
            return NULL;
        }
        ddi_block *b = take_from(a, &a->chunk[i], bytes);
        if (b) {
            count_block(a, i, b);
            return b;
        }
    }
}

/* Joins b with the free block above it. */
static void join(ddi_arena *a, ddi_block *b)
{
    ddi_block *gone = b->above;
    b->bytes += gone->bytes;
    b->above = gone->above;
    if (b->above) {
        b->above->below = b;
    }
    gone->above = a->spare;
    a->spare = gone;
}

void ddi_arena_drop(ddi_arena *a, ddi_block *b)
{
    if (!b || --b->references > 0) {
        return;
    }
    a->live -= (int64_t)b->bytes;
    if (b->above && b->above->references == 0) {
        join(a, b);
    }
    if (b->below && b->below->references == 0) {
        join(a, b->below);
    }
}
