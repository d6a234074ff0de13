/* SPDX-License-Identifier: Apache-2.0
 * What the operators of a tape share. */
#ifndef DDI_TAPE_NODE_H
#define DDI_TAPE_NODE_H

#include "tape/tape.h"

enum { DDI_NODE_INPUTS = 5, DDI_NODE_SAVED = 10 };

typedef void (*ddi_backward_fn)(ddi_tape *tape, ddi_node *node);

/* Runs the node's operator once more, with its result in `y`. */
typedef void (*ddi_again_fn)(ddi_tape *tape, const ddi_node *node, void *y);

struct ddi_node {
    ddi_node *older;
    ddi_backward_fn backward;
    ddi_again_fn again;
    dd_dropout drawn; /* of what was made, in place */
    ddi_value *out, *in[DDI_NODE_INPUTS];
    ddi_block *saved[DDI_NODE_SAVED]; /* blocks that the gradient reads */
    int32_t saved_count;
    void *args; /* the operator's argument struct, as the forward pass ran it */
};

/* Memory until ddi_tape_reset, cleared; NULL: none, and the tape has failed. */
void *ddi_tape_memory(ddi_tape *tape, size_t bytes);

/* Keeps the first error. */
void ddi_tape_fail(ddi_tape *tape, dd_status status);

/* Runs an operator, or counts it in a dry run. Returns whether the tape is still good. */
bool ddi_tape_run(ddi_tape *tape, int32_t op, const void *args);
void ddi_tape_count(ddi_tape *tape, double products, double counted, double elements);

/* The result of an operator: `into`, or new memory. */
ddi_value *ddi_result(ddi_tape *tape, ddi_value *into, int32_t ndim, const int64_t *shape);

/* Notes a node for `out`, if one of the inputs or parameters wants a gradient; NULL: nothing to note (or the tape failed).
 * args (args_bytes) is copied. */
ddi_node *ddi_note(ddi_tape *tape, ddi_backward_fn backward, ddi_value *out, bool params_want, const void *args,
                   size_t args_bytes, int32_t inputs, ddi_value *const *in);
/* The node's gradient reads the value's memory. */
void ddi_note_saved(ddi_node *node, ddi_value *value);
/* The same for gradients that call ddi_need before they read it: what can be made again is not held. */
void ddi_note_needed(ddi_node *node, ddi_value *value);
/* The node's result need not be held: `again` makes it once more, from what the node has saved and what it needs. */
void ddi_note_again(ddi_node *node, ddi_again_fn again);
/* The value's data, made again where they are gone. NULL: the tape has failed. */
void *ddi_need(ddi_tape *tape, ddi_value *value);

/* Where the gradient of v goes. *add: there is something already. NULL: not wanted, or the tape has failed. */
void *ddi_grad_out(ddi_tape *tape, ddi_value *v, int32_t *add);
/* The same for operators that only add: zeroed first where it is new. */
void *ddi_grad_sum(ddi_tape *tape, ddi_value *v);
/* The gradient that has arrived at v; NULL: none. writable: nobody else reads the memory. */
void *ddi_grad_in(ddi_tape *tape, ddi_value *v, bool writable);
/* v's gradient is (also) what has arrived at `from`, which is of the same size. */
void ddi_grad_pass(ddi_tape *tape, ddi_value *v, ddi_value *from);

/* The next dropout stream; rate 0 outside training. */
static inline dd_dropout ddi_draw(ddi_tape *t, double rate)
{
    return (dd_dropout){.rate = t->training ? rate : 0, .seed = t->seed, .step = t->step, .stream = t->stream++};
}

static inline void *ddi_param_grad(const ddi_param *p)
{
    return p ? p->grad : NULL;
}

static inline bool ddi_wants(const ddi_value *v)
{
    return v && v->needs_grad;
}

#endif
