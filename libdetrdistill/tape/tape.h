/* SPDX-License-Identifier: Apache-2.0
 * The tape: operators run as a model function calls them and are noted down, so that ddi_tape_backward can run their gradients
 * in reverse. One model function serves three modes: recording, without gradients (buffers return when their scope ends), and
 * dry (shapes only; counts bytes and operations).
 *
 * Errors stick: after the first one every call returns a value of no use and does nothing, and ddi_tape_backward and
 * t->status tell. So a model function reads like its formula.
 * Values and nodes live until ddi_tape_reset; the memory behind a value lives until its scope ends and no gradient needs it. */
#ifndef DDI_TAPE_TAPE_H
#define DDI_TAPE_TAPE_H

#include "tape/arena.h"
#include "tape/params.h"

typedef struct ddi_value ddi_value;
typedef struct ddi_node ddi_node;

/* A dense tensor in C order. */
struct ddi_value {
    char *data;
    int32_t ndim;
    int64_t shape[4], count;
    bool needs_grad;
    /* private */
    ddi_block *block; /* of its data; NULL: memory of somebody else */
    ddi_value *base;  /* a view: part of it, `offset` elements in */
    int64_t offset;
    ddi_param *param;      /* its gradient lies there */
    ddi_block *grad_block; /* gradient that has arrived so far; NULL: none yet */
    ddi_value *older;      /* in the order they were made; for scopes */
    bool held;             /* its scope has a reference on the block */
    ddi_node *again;       /* can make the data once more: nobody needs to hold them for the way back; NULL: cannot */
    bool rebuilt;          /* the data were made again, and live until that node's turn */
};

/* Where operations are counted. */
typedef enum ddi_part {
    DDI_PART_BACKBONE,
    DDI_PART_NECK,
    DDI_PART_ENCODER,
    DDI_PART_DECODER,
    DDI_PART_HEADS,
    DDI_PARTS
} ddi_part;

typedef struct ddi_cost {
    double products; /* multiply-adds of convolutions, matrix products, attention and sampling, forward */
    double counted;  /* by the counting rule of detectors.md 12.1 */
    double bytes;    /* read and written, forward */
} ddi_cost;

typedef struct ddi_bump {
    struct ddi_bump *next;
    size_t size, used;
} ddi_bump;

typedef struct ddi_tape {
    ddi_exec *exec;
    int32_t dtype, compute; /* DD_F32 or DD_F64; DD_COMPUTE_* */
    size_t element;
    bool record, dry, training; /* training: dropout draws */
    bool sparing;               /* wide hidden layers are made again on the way back */
    dd_status status;
    ddi_arena arena;
    ddi_bump *bump, *bump_first;
    ddi_node *last;
    ddi_value *newest;
    ddi_value nothing; /* what calls return after an error */
    uint64_t seed;
    uint32_t step, stream; /* of dropout: the next stream */
    ddi_part part;
    ddi_cost cost[DDI_PARTS];
} ddi_tape;

/* A ReLU module, for the counting rule (those of convolutions are counted with them). */
static inline void ddi_tape_count_relu(ddi_tape *tape, const ddi_value *x)
{
    tape->cost[tape->part].counted += (double)x->count;
}

void ddi_tape_init(ddi_tape *tape, ddi_exec *exec, int32_t dtype, bool dry);
void ddi_tape_free(ddi_tape *tape);
/* Forgets all values and nodes and returns their memory to the arena; the error and the costs, too. */
void ddi_tape_reset(ddi_tape *tape);

/* Runs the gradients of all nodes back to the first, the newest first. Gradients of parameters are added to what is there. */
dd_status ddi_tape_backward(ddi_tape *tape);

/* ---- Values */

/* Memory of its own, not initialised. */
ddi_value *ddi_new(ddi_tape *tape, int32_t ndim, const int64_t *shape);
/* Somebody else's memory; no gradient flows to it. */
ddi_value *ddi_constant(ddi_tape *tape, const void *data, int32_t ndim, const int64_t *shape);
ddi_value *ddi_param_value(ddi_tape *tape, ddi_param *param);
/* The elements from `offset` on, in another shape. A view written by an operator is a part of its base's value. */
ddi_value *ddi_view(ddi_tape *tape, ddi_value *base, int64_t offset, int32_t ndim, const int64_t *shape);
/* The same numbers without a way back. */
ddi_value *ddi_detach(ddi_tape *tape, ddi_value *x);
/* Device memory for something that is no real number (index lists, masks); its block is held like a value's. */
ddi_value *ddi_bytes(ddi_tape *tape, size_t bytes);

#define DDI_SHAPE(...)                                                                                                         \
    (int32_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                                           \
    {                                                                                                                          \
        __VA_ARGS__                                                                                                            \
    }

/* A scope gives back, at its end, the memory of the values that were made in it, but for those in `keep` and what gradients
 * need. */
typedef ddi_value *ddi_scope;
ddi_scope ddi_scope_begin(ddi_tape *tape);
void ddi_scope_end(ddi_tape *tape, ddi_scope scope, int32_t count, ddi_value *const *keep);

/* The value's gradient, to be written by the caller before ddi_tape_backward (a loss outside the tape): made and zeroed where
 * there was none. NULL on error. */
void *ddi_seed(ddi_tape *tape, ddi_value *value);

/* Runs `layer` without keeping what lies inside; the backward pass runs it again, with the same random numbers. `layer` makes
 * one value of `inputs` and must do the same each time. `arg` must live until the backward pass. */
typedef ddi_value *(*ddi_layer_fn)(ddi_tape *tape, const void *arg, ddi_value *const *inputs);
ddi_value *ddi_recompute(ddi_tape *tape, ddi_layer_fn layer, const void *arg, int32_t count, ddi_value *const *inputs);

/* ---- Operators. `into`: where the result goes (a view made by the caller), NULL: new memory. NULL biases, masks and branches
 * mean none. Weights of frozen parameters get no gradient. */

/* x [.., K] -> [.., N]; w [N,K]. */
ddi_value *ddi_linear(ddi_tape *tape, ddi_value *x, ddi_param *w, ddi_param *bias, bool relu, ddi_value *into);

/* A convolution and what is folded into it. scale and shift: values [Cout] (a frozen norm), or shift alone (a bias). */
typedef struct ddi_conv_spec {
    ddi_param *w;
    ddi_value *scale, *shift, *residual;
    int32_t stride, pad;
    bool relu;
    bool norm; /* for the counting rule: scale and shift stand for a norm module */
} ddi_conv_spec;
ddi_value *ddi_conv(ddi_tape *tape, ddi_value *x, const ddi_conv_spec *spec);
/* [2,C]: scale and shift of a norm with fixed statistics, for a convolution. */
ddi_value *ddi_fold_norm(ddi_tape *tape, ddi_param *gamma, ddi_param *beta, const ddi_param *mean, const ddi_param *variance);
ddi_value *ddi_maxpool(ddi_tape *tape, ddi_value *x, int32_t kernel, int32_t stride, int32_t pad);
/* x [B,H,W,C] -> y [B,H*W,C]. With `tokens` [B,S,C], image b's rows from `first` on are written there and the result is
 * `tokens`. */
ddi_value *ddi_groupnorm(ddi_tape *tape, ddi_value *x, ddi_param *gamma, ddi_param *beta, int32_t groups, ddi_value *tokens,
                         int64_t first);
/* LN(x + dropout(r)) over the last axis. */
ddi_value *ddi_layernorm(ddi_tape *tape, ddi_value *x, ddi_value *r, ddi_param *gamma, ddi_param *beta, double dropout);
/* In place: x must come from an operation that can go back from what is left of it, as one that ends with ReLU can: it passes
 * no gradient where x is 0. */
void ddi_dropout(ddi_tape *tape, ddi_value *x, double rate);
/* a + b; b repeats where it is smaller. */
ddi_value *ddi_plus(ddi_tape *tape, ddi_value *a, ddi_value *b);
/* a * b, of the same shape. */
ddi_value *ddi_times(ddi_tape *tape, ddi_value *a, ddi_value *b);
/* Columns first .. first+width of x [rows,d], for each of `images`: [images,rows,width]. */
ddi_value *ddi_repeat_columns(ddi_tape *tape, ddi_value *x, int64_t images, int64_t first, int64_t width);
/* Rows first .. first+rows of each image of x [B,N,d] -> [B,rows,d]. */
ddi_value *ddi_take_range(ddi_tape *tape, ddi_value *x, int64_t first, int64_t rows);
/* a [B,Na,d] and b [B,Nb,d] -> [B,Na+Nb,d]. */
ddi_value *ddi_join_rows(ddi_tape *tape, ddi_value *a, ddi_value *b);
/* a and b [B,N,heads*w] -> [B,N,heads*2w]: head h of a, then head h of b. */
ddi_value *ddi_join_heads(ddi_tape *tape, ddi_value *a, ddi_value *b, int32_t heads);
/* mask: bytes [rows] or NULL (then x itself). */
ddi_value *ddi_mask_rows(ddi_tape *tape, ddi_value *x, ddi_value *mask);
/* Row index[b][i] of x [B,S,d]: [B,k,d]. */
ddi_value *ddi_take_rows(ddi_tape *tape, ddi_value *x, ddi_value *index, int64_t k);
/* The k rows of x [B,S,stride] with the largest first column: int32 [B,k]. */
ddi_value *ddi_top_rows(ddi_tape *tape, ddi_value *x, int64_t k);
/* The largest number of each row of x [.., d]: [B,S] of x [B,S,d], a constant. */
ddi_value *ddi_row_max(ddi_tape *tape, ddi_value *x);
/* Rows of a table by index (int32, `rows` of them; -1: zeros): [1,rows,d]. */
ddi_value *ddi_lookup(ddi_tape *tape, ddi_param *table, ddi_value *index, int64_t rows);
/* References [B,N,R], which get no gradient, times the finest level's ratio [B,L,2]; NULL: as they are. */
ddi_value *ddi_scale_references(ddi_tape *tape, ddi_value *reference, ddi_value *ratio);

typedef struct ddi_attention_spec {
    ddi_value *bias;        /* [B,M,Nq,Nk] */
    ddi_value *key_padding; /* bytes [B,Nk] */
    ddi_value *mask;        /* bytes [Nq,Nk] */
    int32_t heads, split;
    double scale, dropout;
} ddi_attention_spec;
/* q [B,Nq,M*dk], k [B,Nk,M*dk], v [B,Nk,M*dv] -> [B,Nq,M*dv] */
ddi_value *ddi_attention(ddi_tape *tape, ddi_value *q, ddi_value *k, ddi_value *v, const ddi_attention_spec *spec);

/* The levels of a token tensor. */
typedef struct ddi_levels {
    int32_t count, height[8], width[8];
    int64_t first[8], tokens;
} ddi_levels;

typedef struct ddi_msda_spec {
    const ddi_levels *levels;
    ddi_value *ratio;   /* [B,L,2] or NULL */
    ddi_value *padding; /* bytes [B,S] or NULL */
    int32_t heads, points;
} ddi_msda_spec;
/* value [B,S,d], off [B,N,M*L*P*2], logits [B,N,M*L*P], ref [1 or B, N, 2 or 4] -> [B,N,d] */
ddi_value *ddi_msda(ddi_tape *tape, ddi_value *value, ddi_value *off, ddi_value *logits, ddi_value *ref,
                    const ddi_msda_spec *spec);

/* Position code of level l plus the level's embedding, written to rows of tokens [B,S,C] (no gradient but the embedding's).
 * valid: int32 [B,L,2] (w,h), bytes. */
ddi_value *ddi_sine_position(ddi_tape *tape, const ddi_levels *levels, int64_t images, int64_t channels, ddi_value *valid,
                             ddi_param *embedding, double temperature, double offset);
ddi_value *ddi_coord_embed(ddi_tape *tape, ddi_value *x, int32_t n, const int32_t *order, double scale);
ddi_value *ddi_sigmoid(ddi_tape *tape, ddi_value *x);
/* Counted as a ReLU module. */
ddi_value *ddi_relu(ddi_tape *tape, ddi_value *x);
/* sigmoid(t + inv(ref)); t [B,N,4], ref [1 or B, N, 2 or 4]. */
ddi_value *ddi_box_refine(ddi_tape *tape, ddi_value *t, ddi_value *ref, double eps, ddi_value *into);
ddi_value *ddi_grid_points(ddi_tape *tape, const ddi_levels *levels, int64_t images, ddi_value *ratio);
/* Proposals in logit form [B,S,4]; *drop: bytes [B,S]. */
ddi_value *ddi_proposals(ddi_tape *tape, const ddi_levels *levels, int64_t images, ddi_value *valid, ddi_value **drop);

/* ---- AdaMixer: positions [B,N,4] are (x, y, z, r), see dd_op_xyzr_refine, and take no gradient. size: int32 [B,2] (w,h),
 * bytes. */

/* Positions of the boxes [N,4] that all images share. */
ddi_value *ddi_xyzr_start(ddi_tape *tape, ddi_value *boxes, int64_t images, ddi_value *size);
/* Code of positions: [B,N,4n]. */
ddi_value *ddi_xyzr_embed(ddi_tape *tape, ddi_value *position, int32_t n);
/* tau [M] times the overlap of boxes: [B,M,N,N]. */
ddi_value *ddi_iof_bias(ddi_tape *tape, ddi_value *position, ddi_param *tau);
/* Boxes of the moved positions (cxcywh by the image's size); *next: the positions. */
ddi_value *ddi_xyzr_refine(ddi_tape *tape, ddi_value *position, ddi_value *delta, ddi_value *size, ddi_value **next,
                           ddi_value *into);
/* tokens [B,S,d], off [B,N,groups*P*3] -> [B*N,groups,P,d/groups]. Level l has cells of 4 * 2^l pixels. */
ddi_value *ddi_sample3d(ddi_tape *tape, ddi_value *tokens, ddi_value *off, ddi_value *position, const ddi_levels *levels,
                        int32_t groups);
/* x [B*N,G,P,c], params [B,N,G*(c*c + out*P)] -> [B,N,G*out*c]. */
ddi_value *ddi_mixing(ddi_tape *tape, ddi_value *x, ddi_value *params, int32_t out);

#endif
