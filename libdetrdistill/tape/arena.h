/* SPDX-License-Identifier: Apache-2.0
 * Memory of a tape: blocks of device memory that are counted by reference and used again. Once the chunks are large enough for
 * a step, later steps of that shape allocate nothing. A dry arena hands out addresses of no memory: it tells how much would be
 * needed. */
#ifndef DDI_TAPE_ARENA_H
#define DDI_TAPE_ARENA_H

#include "backend/exec.h"

typedef struct ddi_block {
    char *data; /* 64-byte aligned; of a dry arena: an address that must not be read */
    size_t bytes;
    int32_t references;              /* 0: free */
    struct ddi_block *below, *above; /* neighbours in the chunk */
} ddi_block;

enum { DDI_ARENA_CHUNKS = 64 };

typedef struct ddi_arena_chunk {
    void *memory;
    size_t bytes;
    ddi_block *first;
} ddi_arena_chunk;

typedef struct ddi_arena {
    dd_context *context;
    bool dry;
    ddi_arena_chunk chunk[DDI_ARENA_CHUNKS];
    int32_t chunks;
    ddi_block *spare;      /* block records that are not in use, linked by `above` */
    void *records;         /* slabs of them, linked by their first word */
    int64_t live, peak;    /* bytes in blocks now, at most so far */
    int64_t held, highest; /* bytes in chunks; end of the highest block ever, counted from the first chunk */
} ddi_arena;

void ddi_arena_init(ddi_arena *arena, dd_context *context, bool dry);
void ddi_arena_free(ddi_arena *arena);

/* A chunk of at least `bytes` beforehand, so that all blocks of a step of known size lie in one; where no block is in use, it
 * takes the place of smaller ones. Errors: NOMEM. */
dd_status ddi_arena_reserve(ddi_arena *arena, size_t bytes);

/* A block with one reference; NULL: out of memory. bytes = 0 gives a block, too. */
ddi_block *ddi_arena_take(ddi_arena *arena, size_t bytes);
/* Gives one reference back. NULL is fine. */
void ddi_arena_drop(ddi_arena *arena, ddi_block *block);

static inline ddi_block *ddi_arena_keep(ddi_block *block)
{
    block->references++;
    return block;
}

#endif
