/* SPDX-License-Identifier: Apache-2.0
 * The tape: memory of values and nodes, scopes, gradients on their way back. */
#include "base/checked.h"
#include "base/error.h"
#include "base/limits.h"
#include "tape/node.h"

#include <string.h>

enum { BUMP_BYTES = 256 << 10 };

void ddi_tape_init(ddi_tape *t, ddi_exec *exec, int32_t dtype, bool dry)
{
    *t = (ddi_tape){.exec = exec, .dtype = dtype, .element = (size_t)dd_dtype_size(dtype), .dry = dry};
    ddi_arena_init(&t->arena, exec->context, dry);
    t->nothing = (ddi_value){.ndim = 4, .shape = {1, 1, 1, 1}, .count = 1};
}

void ddi_tape_free(ddi_tape *t)
{
    if (!t->exec) {
        return;
    }
    for (ddi_bump *b = t->bump_first; b;) {
        ddi_bump *next = b->next;
        ddi_free(&t->exec->context->allocator, b);
        b = next;
    }
    ddi_arena_free(&t->arena);
    *t = (ddi_tape){0};
}

void ddi_tape_fail(ddi_tape *t, dd_status status)
{
    t->status = t->status == DD_OK ? status : t->status;
}

void *ddi_tape_memory(ddi_tape *t, size_t bytes)
{
    bytes = (bytes + 15) / 16 * 16;
    while (!t->bump || t->bump->size - t->bump->used < bytes) {
        ddi_bump *next = t->bump ? t->bump->next : t->bump_first;
        if (!next) {
            const size_t size = bytes > BUMP_BYTES ? bytes : BUMP_BYTES;
            next = ddi_alloc(&t->exec->context->allocator, sizeof *next + size);
            if (!next) {
                ddi_tape_fail(t, ddi_fail_nomem(size, "the tape's records"));
                return NULL;
            }
            *next = (ddi_bump){.size = size};
            *(t->bump ? &t->bump->next : &t->bump_first) = next;
        }
        next->used = 0;
        t->bump = next;
    }
    void *memory = (char *)(t->bump + 1) + t->bump->used;
    t->bump->used += bytes;
    return memset(memory, 0, bytes);
}

static void drop_value(ddi_tape *t, ddi_value *v)
{
    if (v->held) {
        ddi_arena_drop(&t->arena, v->block);
        v->held = false;
    }
}

static void drop_grad(ddi_tape *t, ddi_value *v)
{
    ddi_arena_drop(&t->arena, v->grad_block);
    v->grad_block = NULL;
}

static void drop_node(ddi_tape *t, ddi_node *node)
{
    for (int32_t i = 0; i < node->saved_count; i++) {
        ddi_arena_drop(&t->arena, node->saved[i]);
    }
    node->saved_count = 0;
}

void ddi_tape_reset(ddi_tape *t)
{
    for (ddi_value *v = t->newest; v; v = v->older) {
        drop_value(t, v);
        drop_grad(t, v);
    }
    for (ddi_node *node = t->last; node; node = node->older) {
        drop_node(t, node);
    }
    t->newest = NULL;
    t->last = NULL;
    t->bump = NULL;
    t->status = DD_OK;
    t->stream = 0;
    memset(t->cost, 0, sizeof t->cost);
}

/* ---- Values */

static ddi_value *make_value(ddi_tape *t, int32_t ndim, const int64_t *shape)
{
    int64_t count = 1;
    bool fits = true;
    for (int32_t i = 0; i < ndim; i++) {
        fits = fits && ddi_mul(count, shape[i], &count);
    }
    if (t->status == DD_OK && (!fits || count > DDI_MAX_ELEMENTS)) {
        ddi_tape_fail(t, ddi_fail(DD_ERR_LIMIT, NULL, "a tensor inside the model would be too large"));
    }
    ddi_value *v = t->status == DD_OK ? ddi_tape_memory(t, sizeof *v) : NULL;
    if (!v) {
        return NULL;
    }
    v->ndim = ndim;
    memcpy(v->shape, shape, (size_t)ndim * sizeof *shape);
    v->count = count;
    v->older = t->newest;
    t->newest = v;
    return v;
}

static bool give_block(ddi_tape *t, ddi_value *v, size_t bytes)
{
    v->block = ddi_arena_take(&t->arena, bytes);
    if (!v->block) {
        ddi_tape_fail(t, ddi_fail_nomem(bytes, "activations"));
        return false;
    }
    v->held = true;
    v->data = v->block->data;
    return true;
}

ddi_value *ddi_new(ddi_tape *t, int32_t ndim, const int64_t *shape)
{
    ddi_value *v = make_value(t, ndim, shape);
    return v && give_block(t, v, (size_t)v->count * t->element) ? v : &t->nothing;
}

ddi_value *ddi_bytes(ddi_tape *t, size_t bytes)
{
    ddi_value *v = make_value(t, DDI_SHAPE((int64_t)bytes));
    return v && give_block(t, v, bytes) ? v : &t->nothing;
}

ddi_value *ddi_constant(ddi_tape *t, const void *data, int32_t ndim, const int64_t *shape)
{
    ddi_value *v = make_value(t, ndim, shape);
    if (!v) {
        return &t->nothing;
    }
    v->data = (char *)(uintptr_t)data;
    return v;
}

ddi_value *ddi_param_value(ddi_tape *t, ddi_param *param)
{
    ddi_value *v = make_value(t, param->ndim, param->shape);
    if (!v) {
        return &t->nothing;
    }
    v->data = param->data;
    v->param = param;
    v->needs_grad = t->record && param->grad;
    return v;
}

ddi_value *ddi_view(ddi_tape *t, ddi_value *base, int64_t offset, int32_t ndim, const int64_t *shape)
{
    ddi_value *v = make_value(t, ndim, shape);
    if (!v) {
        return &t->nothing;
    }
    if (offset < 0 || offset + v->count > base->count) {
        ddi_tape_fail(t, ddi_fail(DD_ERR_INTERNAL, NULL, "a view reaches beyond its tensor"));
        return &t->nothing;
    }
    v->data = base->data + (size_t)offset * t->element;
    v->base = base->base ? base->base : base;
    v->offset = offset + (base->base ? base->offset : 0);
    v->needs_grad = base->needs_grad;
    if (base->block) {
        v->block = ddi_arena_keep(base->block);
        v->held = true;
    }
    return v;
}

ddi_value *ddi_detach(ddi_tape *t, ddi_value *x)
{
    ddi_value *v = make_value(t, x->ndim, x->shape);
    if (!v) {
        return &t->nothing;
    }
    v->data = x->data;
    if (x->block) {
        v->block = ddi_arena_keep(x->block);
        v->held = true;
    }
    return v;
}

ddi_scope ddi_scope_begin(ddi_tape *t)
{
    return t->newest;
}

void ddi_scope_end(ddi_tape *t, ddi_scope scope, int32_t count, ddi_value *const *keep)
{
    for (ddi_value *v = t->newest; v && v != scope; v = v->older) {
        bool kept = false;
        for (int32_t i = 0; i < count; i++) {
            kept = kept || v == keep[i] || v == keep[i]->base;
        }
        if (!kept) {
            drop_value(t, v);
        }
    }
}

ddi_value *ddi_result(ddi_tape *t, ddi_value *into, int32_t ndim, const int64_t *shape)
{
    return into ? into : ddi_new(t, ndim, shape);
}

/* ---- Running */

bool ddi_tape_run(ddi_tape *t, int32_t op, const void *args)
{
    if (t->status == DD_OK && !t->dry) {
        t->status = ddi_run(t->exec, op, t->dtype, args);
    }
    return t->status == DD_OK;
}

void ddi_tape_count(ddi_tape *t, double products, double counted, double elements)
{
    ddi_cost *c = &t->cost[t->part];
    c->products += products;
    c->counted += counted;
    c->bytes += elements * (double)t->element;
}

ddi_node *ddi_note(ddi_tape *t, ddi_backward_fn backward, ddi_value *out, bool params_want, const void *args, size_t args_bytes,
                   int32_t inputs, ddi_value *const *in)
{
    bool wanted = params_want;
    for (int32_t i = 0; i < inputs; i++) {
        wanted = wanted || ddi_wants(in[i]);
    }
    if (!t->record || !wanted || t->status != DD_OK) {
        return NULL;
    }
    ddi_node *node = ddi_tape_memory(t, sizeof *node + args_bytes + 16);
    if (!node) {
        return NULL;
    }
    node->args = (char *)node + (sizeof *node + 15) / 16 * 16;
    memcpy(node->args, args, args_bytes);
    node->backward = backward;
    node->out = out;
    for (int32_t i = 0; i < inputs; i++) {
        node->in[i] = in[i];
    }
    node->older = t->last;
    t->last = node;
    out->needs_grad = true;
    if (out->base) {
        out->base->needs_grad = true;
    }
    return node;
}

void ddi_note_saved(ddi_node *node, ddi_value *value)
{
    if (node && value && value->block) {
        node->saved[node->saved_count++] = ddi_arena_keep(value->block);
    }
}

void ddi_note_needed(ddi_node *node, ddi_value *value)
{
    if (value && !value->again) {
        ddi_note_saved(node, value);
    }
}

void ddi_note_again(ddi_node *node, ddi_again_fn again)
{
    if (node) {
        node->again = again;
        node->out->again = node;
    }
}

void *ddi_need(ddi_tape *t, ddi_value *v)
{
    if (!v->again || v->held || t->status != DD_OK) {
        return v->data;
    }
    if (give_block(t, v, (size_t)v->count * t->element)) {
        v->rebuilt = true;
        v->again->again(t, v->again, v->data);
        const dd_op_dropout drop = {v->data, v->data, v->count, v->again->drawn};
        if (drop.dropout.rate > 0) {
            ddi_tape_run(t, DD_OPERATOR_dropout, &drop);
        }
    }
    return t->status == DD_OK ? v->data : NULL;
}

/* ---- Gradients */

static char *new_grad(ddi_tape *t, ddi_value *v)
{
    const size_t bytes = (size_t)v->count * t->element;
    v->grad_block = ddi_arena_take(&t->arena, bytes);
    if (!v->grad_block) {
        ddi_tape_fail(t, ddi_fail_nomem(bytes, "gradients of activations"));
        return NULL;
    }
    return v->grad_block->data;
}

/* Before the memory is written: it may be somebody else's gradient, too. */
static char *make_own(ddi_tape *t, ddi_value *v)
{
    ddi_block *shared = v->grad_block;
    if (shared->references == 1) {
        return shared->data;
    }
    char *own = new_grad(t, v);
    if (own && !t->dry) {
        const dd_status status = ddi_copy(t->exec, own, shared->data, (size_t)v->count * t->element, DD_COPY_ON_DEVICE);
        if (status != DD_OK) {
            ddi_tape_fail(t, status);
        }
    }
    ddi_arena_drop(&t->arena, shared);
    return own;
}

static char *zeroed_grad(ddi_tape *t, ddi_value *v)
{
    if (v->grad_block) {
        return make_own(t, v);
    }
    char *grad = new_grad(t, v);
    if (grad && !t->dry) {
        const dd_status status = ddi_zero(t->exec, grad, (size_t)v->count * t->element);
        if (status != DD_OK) {
            ddi_tape_fail(t, status);
        }
    }
    return grad;
}

void *ddi_grad_sum(ddi_tape *t, ddi_value *v)
{
    if (!ddi_wants(v) || t->status != DD_OK) {
        return NULL;
    }
    ddi_value *owner = v->base ? v->base : v;
    char *grad = owner->param ? owner->param->grad : zeroed_grad(t, owner);
    return grad ? grad + (size_t)v->offset * t->element : NULL;
}

void *ddi_grad_out(ddi_tape *t, ddi_value *v, int32_t *add)
{
    *add = 1;
    if (!ddi_wants(v) || t->status != DD_OK) {
        return NULL;
    }
    if (v->base || v->param || v->grad_block) {
        return ddi_grad_sum(t, v);
    }
    *add = 0;
    return new_grad(t, v);
}

void *ddi_grad_in(ddi_tape *t, ddi_value *v, bool writable)
{
    ddi_value *owner = v->base ? v->base : v;
    if (!owner->grad_block || t->status != DD_OK) {
        return NULL;
    }
    char *grad = writable ? make_own(t, owner) : owner->grad_block->data;
    return grad ? grad + (size_t)v->offset * t->element : NULL;
}

void ddi_grad_pass(ddi_tape *t, ddi_value *v, ddi_value *from)
{
    if (!ddi_wants(v) || t->status != DD_OK) {
        return;
    }
    if (!v->base && !v->param && !v->grad_block && !from->base && v->count == from->count) {
        v->grad_block = ddi_arena_keep(from->grad_block);
        return;
    }
    char *grad = ddi_grad_sum(t, v);
    if (grad) {
        const dd_op_add args = {grad, ddi_grad_in(t, from, false), grad, v->count, v->count};
        ddi_tape_run(t, DD_OPERATOR_add, &args);
    }
}

void *ddi_seed(ddi_tape *t, ddi_value *value)
{
    value->needs_grad = true;
    return ddi_grad_sum(t, value);
}

/* Runs back to `first`, which is not run. */
static void run_back(ddi_tape *t, const ddi_node *first)
{
    while (t->last && t->last != first && t->status == DD_OK) {
        ddi_node *node = t->last;
        t->last = node->older;
        ddi_value *owner = node->out->base ? node->out->base : node->out;
        if (owner->grad_block) {
            node->backward(t, node);
        }
        drop_node(t, node);
        if (!node->out->base) {
            drop_grad(t, node->out);
        }
        if (node->out->rebuilt) {
            drop_value(t, node->out);
            node->out->rebuilt = false;
        }
    }
}

dd_status ddi_tape_backward(ddi_tape *t)
{
    run_back(t, NULL);
    return t->status;
}

/* ---- Recomputed layers */

typedef struct recomputed {
    ddi_layer_fn layer;
    const void *arg;
    uint32_t stream;
    ddi_part part;
    int32_t inputs;
} recomputed;

static void recompute_back(ddi_tape *t, ddi_node *node)
{
    const recomputed *r = node->args;
    const ddi_node *before = t->last;
    const uint32_t stream = t->stream;
    ddi_cost cost[DDI_PARTS];
    memcpy(cost, t->cost, sizeof cost);
    ddi_scope scope = ddi_scope_begin(t);
    t->record = true;
    t->stream = r->stream;
    t->part = r->part;
    ddi_value *again = r->layer(t, r->arg, node->in);
    ddi_grad_pass(t, again, node->out);
    drop_grad(t, node->out);
    run_back(t, before);
    ddi_scope_end(t, scope, 0, NULL);
    t->stream = stream;
    memcpy(t->cost, cost, sizeof cost); /* counted when the layer ran first */
}

ddi_value *ddi_recompute(ddi_tape *t, ddi_layer_fn layer, const void *arg, int32_t count, ddi_value *const *inputs)
{
    const recomputed r = {layer, arg, t->stream, t->part, count};
    const bool record = t->record;
    ddi_scope scope = ddi_scope_begin(t);
    t->record = false;
    ddi_value *out = layer(t, arg, inputs);
    t->record = record;
    ddi_scope_end(t, scope, 1, &out);
    ddi_node *node = ddi_note(t, recompute_back, out, true, &r, sizeof r, count, inputs);
    for (int32_t i = 0; node && i < count; i++) {
        ddi_note_saved(node, inputs[i]);
    }
    return out;
}
