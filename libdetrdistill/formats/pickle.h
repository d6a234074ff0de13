/* SPDX-License-Identifier: Apache-2.0
 * Reads a pickle (protocols 2 to 5) as inert data: calls become nodes that say what would have been called, and nothing is
 * called, imported or built. Memory is bounded by the number of opcodes, and nothing recurses. */
#ifndef DDI_FORMATS_PICKLE_H
#define DDI_FORMATS_PICKLE_H

#include <detrdistill/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ddi_pickle_kind {
    DDI_PICKLE_OTHER, /* None, bytes, sets, huge integers */
    DDI_PICKLE_BOOL,
    DDI_PICKLE_INTEGER,
    DDI_PICKLE_REAL,
    DDI_PICKLE_TEXT,
    DDI_PICKLE_GLOBAL, /* from here on: nodes. callee: the module's name, arguments: its own */
    DDI_PICKLE_TUPLE,
    DDI_PICKLE_LIST,
    DDI_PICKLE_DICT,      /* items: key, value, key, value, .. */
    DDI_PICKLE_CALL,      /* callee(arguments); items: what was added to it afterwards */
    DDI_PICKLE_PERSISTENT /* arguments: its id */
} ddi_pickle_kind;

typedef struct ddi_pickle_value {
    ddi_pickle_kind kind;
    uint32_t size; /* bytes of a text, or of an integer too large for `integer` */
    union {
        int64_t integer;
        double real;
        const char *text; /* in the pickle, not terminated */
        uint32_t node;
    } as;
} ddi_pickle_value;

typedef struct ddi_pickle_node {
    ddi_pickle_kind kind;
    uint32_t first, last, count; /* cells of its items; 0: none */
    ddi_pickle_value callee, arguments;
} ddi_pickle_node;

typedef struct ddi_pickle_cell {
    ddi_pickle_value value;
    uint32_t next; /* 0: the last one */
} ddi_pickle_cell;

typedef struct ddi_pickle {
    const char *path; /* for error sentences */
    const unsigned char *begin, *at, *end;
    const char *problem;
    ddi_pickle_node *node;
    ddi_pickle_cell *cell;
    ddi_pickle_value *stack, *memo;
    uint32_t *mark;
    int32_t nodes, node_room, cells, cell_room, depth, stack_room, memo_count, memo_room, marks, mark_room, steps;
} ddi_pickle;

/* Reads the pickle at the start of the bytes and says how many it took. More than one may be read into the same trees; texts
 * stay in the bytes. Start with {.path = ..}; free in any case. Errors: FORMAT, LIMIT (DDI_MAX_PICKLE_OPCODES), NOMEM. */
dd_status ddi_pickle_read(ddi_pickle *pickle, const void *bytes, size_t size, size_t *used, ddi_pickle_value *result);
void ddi_pickle_free(ddi_pickle *pickle);

/* The node of a value, or NULL where it has none. */
const ddi_pickle_node *ddi_pickle_node_of(const ddi_pickle *pickle, ddi_pickle_value value);
/* Item `i` of a tuple or list, an OTHER where there is none. */
ddi_pickle_value ddi_pickle_item(const ddi_pickle *pickle, ddi_pickle_value value, uint32_t i);
bool ddi_pickle_is_text(ddi_pickle_value value, const char *text);
bool ddi_pickle_is_global(const ddi_pickle *pickle, ddi_pickle_value value, const char *module, const char *name);

#endif
