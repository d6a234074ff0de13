/* SPDX-License-Identifier: Apache-2.0
 * The stack machine of pickles, without any of its powers. */
#include "formats/pickle.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/limits.h"
#include "formats/tensorfile.h"

#include <string.h>

enum { FIRST_PROTOCOL = 2, LAST_PROTOCOL = 5 };

typedef ddi_pickle_value value;

static const value nothing = {.kind = DDI_PICKLE_OTHER};

/* ---- The bytes */

static bool fail(ddi_pickle *p, const char *what)
{
    p->problem = p->problem ? p->problem : what;
    return false;
}

static bool out_of_memory(ddi_pickle *p)
{
    return fail(p, "");
}

/* An unsigned number of `bytes` bytes, low byte first; 0 at a problem. */
static uint64_t read_number(ddi_pickle *p, int bytes)
{
    uint64_t number = 0;
    if (p->end - p->at < bytes) {
        fail(p, "it ends early");
        return 0;
    }
    for (int i = bytes - 1; i >= 0; i--) {
        number = number << 8 | p->at[i];
    }
    p->at += bytes;
    return number;
}

/* Passes over `bytes` bytes; NULL at a problem. */
static const char *read_bytes(ddi_pickle *p, uint64_t bytes)
{
    const char *text = (const char *)p->at;
    if (p->problem || bytes > (uint64_t)(p->end - p->at) || bytes > INT32_MAX) {
        fail(p, "a text in it is longer than the rest");
        return NULL;
    }
    p->at += bytes;
    return text;
}

/* ---- Stack, memo and nodes */

static bool push(ddi_pickle *p, value v)
{
    if (!ddi_file_grow((void **)&p->stack, p->depth, &p->stack_room, sizeof *p->stack)) {
        return out_of_memory(p);
    }
    p->stack[p->depth++] = v;
    return true;
}

/* Where the values above the last mark begin, or 0. */
static int32_t floor_of(const ddi_pickle *p)
{
    return p->marks ? (int32_t)p->mark[p->marks - 1] : 0;
}

static value pop(ddi_pickle *p)
{
    if (p->depth <= floor_of(p)) {
        fail(p, "it takes more from its stack than there is");
        return nothing;
    }
    return p->stack[--p->depth];
}

static bool push_mark(ddi_pickle *p)
{
    if (!ddi_file_grow((void **)&p->mark, p->marks, &p->mark_room, sizeof *p->mark)) {
        return out_of_memory(p);
    }
    p->mark[p->marks++] = (uint32_t)p->depth;
    return true;
}

/* Takes the last mark away; what was above it begins at the result. */
static int32_t pop_mark(ddi_pickle *p)
{
    if (!p->marks) {
        fail(p, "it closes a bracket that was never opened");
        return p->depth;
    }
    return (int32_t)p->mark[--p->marks];
}

static bool push_node(ddi_pickle *p, ddi_pickle_kind kind, value callee, value arguments)
{
    if (!ddi_file_grow((void **)&p->node, p->nodes, &p->node_room, sizeof *p->node)) {
        return out_of_memory(p);
    }
    p->node[p->nodes] = (ddi_pickle_node){.kind = kind, .callee = callee, .arguments = arguments};
    return push(p, (value){.kind = kind, .as.node = (uint32_t)p->nodes++});
}

static bool append(ddi_pickle *p, uint32_t node, value v)
{
    p->cells = p->cells ? p->cells : 1; /* 0 means none */
    if (!ddi_file_grow((void **)&p->cell, p->cells, &p->cell_room, sizeof *p->cell)) {
        return out_of_memory(p);
    }
    ddi_pickle_node *n = &p->node[node];
    p->cell[p->cells] = (ddi_pickle_cell){.value = v};
    if (n->first) {
        p->cell[n->last].next = (uint32_t)p->cells;
    } else {
        n->first = (uint32_t)p->cells;
    }
    n->last = (uint32_t)p->cells++;
    n->count++;
    return true;
}

/* Adds the values from `from` to the container that lies below them, and takes them away. */
static bool add_items(ddi_pickle *p, int32_t from, bool pairs)
{
    const int32_t count = p->depth - from;
    if (p->problem || from <= floor_of(p) || (pairs && count % 2)) {
        return fail(p, "it adds items where no container is");
    }
    const value to = p->stack[from - 1];
    const bool fits = pairs ? to.kind == DDI_PICKLE_DICT : to.kind == DDI_PICKLE_LIST;
    if (fits || to.kind == DDI_PICKLE_CALL) {
        for (int32_t i = 0; i < count; i++) {
            if (!append(p, to.as.node, p->stack[from + i])) {
                return false;
            }
        }
    } else if (to.kind != DDI_PICKLE_OTHER) {
        return fail(p, "it adds items to what is no container");
    }
    p->depth = from;
    return true;
}

/* A tuple, list or dict of the values from `from`. */
static bool make_container(ddi_pickle *p, ddi_pickle_kind kind, int32_t from)
{
    if (p->problem || from < floor_of(p)) {
        return fail(p, "it takes more from its stack than there is");
    }
    if (kind == DDI_PICKLE_DICT && (p->depth - from) % 2) {
        return fail(p, "a key in it has no value");
    }
    const int32_t end = p->depth;
    if (!push_node(p, kind, nothing, nothing)) {
        return false;
    }
    const value made = p->stack[end];
    for (int32_t i = from; i < end; i++) {
        if (!append(p, made.as.node, p->stack[i])) {
            return false;
        }
    }
    p->depth = from;
    return push(p, made);
}

/* callee(arguments), which lie on the stack. */
static bool make_call(ddi_pickle *p)
{
    const value arguments = pop(p), callee = pop(p);
    return !p->problem && push_node(p, DDI_PICKLE_CALL, callee, arguments);
}

/* A pickler numbers what it remembers from 0 on; an optimised pickle has gaps. */
static bool remember(ddi_pickle *p, uint64_t number)
{
    if (p->problem || p->depth <= floor_of(p) || number >= DDI_MAX_PICKLE_OPCODES) {
        return fail(p, "it remembers nothing, or too much");
    }
    while ((uint64_t)p->memo_count <= number) {
        if (!ddi_file_grow((void **)&p->memo, p->memo_count, &p->memo_room, sizeof *p->memo)) {
            return out_of_memory(p);
        }
        p->memo[p->memo_count++] = nothing;
    }
    p->memo[number] = p->stack[p->depth - 1];
    return true;
}

static bool recall(ddi_pickle *p, uint64_t number)
{
    if (p->problem || number >= (uint64_t)p->memo_count) {
        return fail(p, "it recalls a value that it never had");
    }
    return push(p, p->memo[number]);
}

/* ---- Values */

static bool push_text(ddi_pickle *p, ddi_pickle_kind kind, int width)
{
    const uint64_t size = read_number(p, width);
    const char *text = read_bytes(p, size);
    return text && push(p, (value){.kind = kind, .size = (uint32_t)size, .as.text = text});
}

static bool push_integer(ddi_pickle *p, int64_t number)
{
    return !p->problem && push(p, (value){.kind = DDI_PICKLE_INTEGER, .as.integer = number});
}

/* Two's complement of any length; what needs more than 8 bytes stays as it lies there. */
static bool push_long(ddi_pickle *p, int width)
{
    const uint64_t size = read_number(p, width);
    const char *text = read_bytes(p, size);
    uint64_t number = 0;
    if (!text) {
        return false;
    }
    if (size > 8) {
        return push(p, (value){.kind = DDI_PICKLE_OTHER, .size = (uint32_t)size, .as.text = text});
    }
    for (uint64_t i = 0; i < size; i++) {
        number |= (uint64_t)(unsigned char)text[i] << 8 * i;
    }
    if (size > 0 && size < 8 && number >> (8 * size - 1)) {
        number |= ~(uint64_t)0 << 8 * size;
    }
    return push_integer(p, (int64_t)number);
}

static bool push_real(ddi_pickle *p)
{
    const uint64_t bits = __builtin_bswap64(read_number(p, 8));
    value v = {.kind = DDI_PICKLE_REAL};
    memcpy(&v.as.real, &bits, sizeof bits);
    return !p->problem && push(p, v);
}

/* "module\nname\n" */
static bool push_global(ddi_pickle *p)
{
    const unsigned char *line = memchr(p->at, '\n', (size_t)(p->end - p->at));
    const unsigned char *end = line ? memchr(line + 1, '\n', (size_t)(p->end - line - 1)) : NULL;
    if (!end) {
        return fail(p, "it ends early");
    }
    const value module = {.kind = DDI_PICKLE_TEXT, .size = (uint32_t)(line - p->at), .as.text = (const char *)p->at};
    const value name = {.kind = DDI_PICKLE_TEXT, .size = (uint32_t)(end - line - 1), .as.text = (const char *)line + 1};
    p->at = end + 1;
    return push_node(p, DDI_PICKLE_GLOBAL, module, name);
}

static bool push_stack_global(ddi_pickle *p)
{
    const value name = pop(p), module = pop(p);
    if (p->problem || name.kind != DDI_PICKLE_TEXT || module.kind != DDI_PICKLE_TEXT) {
        return fail(p, "it imports what is no name");
    }
    return push_node(p, DDI_PICKLE_GLOBAL, module, name);
}

/* ---- Opcodes */

static bool do_number(ddi_pickle *p, unsigned char code)
{
    switch (code) {
    case 'N':
        return push(p, nothing);
    case 0x88:
    case 0x89:
        return push(p, (value){.kind = DDI_PICKLE_BOOL, .as.integer = code == 0x88});
    case 'K':
        return push_integer(p, (int64_t)read_number(p, 1));
    case 'M':
        return push_integer(p, (int64_t)read_number(p, 2));
    case 'J':
        return push_integer(p, (int32_t)(uint32_t)read_number(p, 4));
    case 0x8a:
        return push_long(p, 1);
    case 0x8b:
        return push_long(p, 4);
    case 'G':
        return push_real(p);
    default:
        return false;
    }
}

static bool do_text(ddi_pickle *p, unsigned char code)
{
    switch (code) {
    case 'U': /* what Python 2 calls a string: names in old files */
    case 0x8c:
        return push_text(p, DDI_PICKLE_TEXT, 1);
    case 'T':
    case 'X':
        return push_text(p, DDI_PICKLE_TEXT, 4);
    case 0x8d:
        return push_text(p, DDI_PICKLE_TEXT, 8);
    case 'C':
        return push_text(p, DDI_PICKLE_OTHER, 1);
    case 'B':
        return push_text(p, DDI_PICKLE_OTHER, 4);
    case 0x8e:
    case 0x96:
        return push_text(p, DDI_PICKLE_OTHER, 8);
    case 'c':
        return push_global(p);
    case 0x93:
        return push_stack_global(p);
    default:
        return false;
    }
}

static bool do_container(ddi_pickle *p, unsigned char code)
{
    switch (code) {
    case '(':
        return push_mark(p);
    case '}':
        return push_node(p, DDI_PICKLE_DICT, nothing, nothing);
    case ']':
        return push_node(p, DDI_PICKLE_LIST, nothing, nothing);
    case ')':
        return push_node(p, DDI_PICKLE_TUPLE, nothing, nothing);
    case 't':
        return make_container(p, DDI_PICKLE_TUPLE, pop_mark(p));
    case 0x85:
    case 0x86:
    case 0x87:
        return make_container(p, DDI_PICKLE_TUPLE, p->depth - (code - 0x84));
    case 'l':
    case 0x91: /* a frozen set, which nobody here looks into */
        return make_container(p, DDI_PICKLE_LIST, pop_mark(p));
    case 'd':
        return make_container(p, DDI_PICKLE_DICT, pop_mark(p));
    case 0x8f:
        return push(p, nothing);
    case 'a':
        return add_items(p, p->depth - 1, false);
    case 'e':
    case 0x90:
        return add_items(p, pop_mark(p), false);
    case 's':
        return add_items(p, p->depth - 2, true);
    case 'u':
        return add_items(p, pop_mark(p), true);
    default:
        return false;
    }
}

static bool do_stack(ddi_pickle *p, unsigned char code)
{
    switch (code) {
    case '0':
        pop(p);
        return true;
    case '1':
        p->depth = pop_mark(p);
        return true;
    case '2':
        return p->depth > floor_of(p) ? push(p, p->stack[p->depth - 1]) : fail(p, "it takes more from its stack than there is");
    case 'q':
        return remember(p, read_number(p, 1));
    case 'r':
        return remember(p, read_number(p, 4));
    case 0x94:
        return remember(p, (uint64_t)p->memo_count);
    case 'h':
        return recall(p, read_number(p, 1));
    case 'j':
        return recall(p, read_number(p, 4));
    default:
        return false;
    }
}

static bool do_object(ddi_pickle *p, unsigned char code)
{
    uint64_t protocol;
    value id;
    switch (code) {
    case 0x80:
        protocol = read_number(p, 1);
        return (protocol >= FIRST_PROTOCOL && protocol <= LAST_PROTOCOL) || fail(p, "its protocol is not 2 to 5");
    case 0x95: /* how long a frame is: nothing that matters here */
        read_number(p, 8);
        return true;
    case 'Q':
        id = pop(p);
        return !p->problem && push_node(p, DDI_PICKLE_PERSISTENT, nothing, id);
    case 0x92: /* with keyword arguments, which are dropped */
        pop(p);
        return make_call(p);
    case 'R':
    case 0x81:
        return make_call(p);
    case 'b': /* the state of an object */
        pop(p);
        return true;
    default:
        return false;
    }
}

static bool step(ddi_pickle *p, unsigned char code)
{
    return do_number(p, code) || do_text(p, code) || do_container(p, code) || do_stack(p, code) || do_object(p, code);
}

static dd_status report(ddi_pickle *p)
{
    if (p->problem && !*p->problem) {
        return ddi_fail_nomem((uint64_t)(p->nodes + 1) * sizeof *p->node, "the objects of a checkpoint");
    }
    return ddi_fail(DD_ERR_FORMAT, NULL, "%s is damaged or no checkpoint: its pickle at byte %lld: %s", p->path,
                    (long long)(p->at - p->begin), p->problem ? p->problem : "an opcode that state dicts do not have");
}

dd_status ddi_pickle_read(ddi_pickle *p, const void *bytes, size_t size, size_t *used, ddi_pickle_value *result)
{
    p->begin = p->at = bytes;
    p->end = p->begin + size;
    p->depth = p->marks = p->memo_count = 0;
    for (; p->at < p->end; p->steps++) {
        const unsigned char code = *p->at++;
        if (code == '.') {
            *result = pop(p);
            if (p->problem) {
                return report(p);
            }
            *used = (size_t)(p->at - p->begin);
            return DD_OK;
        }
        if (p->steps == DDI_MAX_PICKLE_OPCODES) {
            return ddi_fail(DD_ERR_LIMIT, NULL, "%s: its pickle has more than %d opcodes", p->path, DDI_MAX_PICKLE_OPCODES);
        }
        if (!step(p, code) || p->problem) {
            return report(p);
        }
    }
    fail(p, "it ends early");
    return report(p);
}

void ddi_pickle_free(ddi_pickle *p)
{
    ddi_free(NULL, p->node);
    ddi_free(NULL, p->cell);
    ddi_free(NULL, p->stack);
    ddi_free(NULL, p->memo);
    ddi_free(NULL, p->mark);
    *p = (ddi_pickle){.path = p->path};
}

/* ---- Looking at trees */

const ddi_pickle_node *ddi_pickle_node_of(const ddi_pickle *p, ddi_pickle_value v)
{
    return v.kind >= DDI_PICKLE_GLOBAL ? &p->node[v.as.node] : NULL;
}

ddi_pickle_value ddi_pickle_item(const ddi_pickle *p, ddi_pickle_value v, uint32_t i)
{
    const ddi_pickle_node *n = ddi_pickle_node_of(p, v);
    uint32_t cell = n && i < n->count ? n->first : 0;
    for (; cell && i > 0; i--) {
        cell = p->cell[cell].next;
    }
    return cell ? p->cell[cell].value : nothing;
}

bool ddi_pickle_is_text(ddi_pickle_value v, const char *text)
{
    return v.kind == DDI_PICKLE_TEXT && v.size == strlen(text) && memcmp(v.as.text, text, v.size) == 0;
}

bool ddi_pickle_is_global(const ddi_pickle *p, ddi_pickle_value v, const char *module, const char *name)
{
    return v.kind == DDI_PICKLE_GLOBAL && ddi_pickle_is_text(p->node[v.as.node].callee, module) &&
           ddi_pickle_is_text(p->node[v.as.node].arguments, name);
}
