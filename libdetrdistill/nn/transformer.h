/* SPDX-License-Identifier: Apache-2.0
 * Blocks of transformers, post-norm: attention, deformable attention, feed-forward, small heads (detectors.md 1.6, 1.7, 1.9).
 */
#ifndef DDI_NN_TRANSFORMER_H
#define DDI_NN_TRANSFORMER_H

#include "nn/build.h"

/* What all blocks of a model share. */
typedef struct ddi_block_config {
    int64_t d;
    int32_t heads, levels, points;
    double dropout, attention_dropout, activation_dropout;
} ddi_block_config;

/* Names of a block's parts: Hugging Face's. */
typedef struct ddi_self_attention {
    ddi_dense q, k, v, out;
    ddi_affine norm;
} ddi_self_attention;
void ddi_build_self_attention(ddi_self_attention *block, ddi_build *build, const char *layer, const ddi_block_config *config);
/* LN(x + drop(MHA(Q = K = x + position, V = x))). masks: bias, key_padding, mask and split are read of it; NULL, also
 * of position: none. */
ddi_value *ddi_run_self_attention(ddi_tape *tape, const ddi_self_attention *block, const ddi_block_config *config, ddi_value *x,
                                  ddi_value *position, const ddi_attention_spec *masks);

typedef struct ddi_deformable_attention {
    ddi_dense offsets, weights, value, out;
    ddi_affine norm;
} ddi_deformable_attention;
/* name: "self_attn" or "encoder_attn" */
void ddi_build_deformable_attention(ddi_deformable_attention *block, ddi_build *build, const char *layer, const char *name,
                                    const ddi_block_config *config);
/* LN(x + drop(MSDA(q = x + position, v = tokens))). */
ddi_value *ddi_run_deformable_attention(ddi_tape *tape, const ddi_deformable_attention *block, const ddi_block_config *config,
                                        ddi_value *x, ddi_value *position, ddi_value *tokens, ddi_value *ref,
                                        const ddi_msda_spec *grid);

/* The two halves of it: the tokens' values, which several groups of queries may share, and their sampling. */
ddi_value *ddi_run_attention_values(ddi_tape *tape, const ddi_deformable_attention *block, ddi_value *tokens);
ddi_value *ddi_run_sampling(ddi_tape *tape, const ddi_deformable_attention *block, const ddi_block_config *config, ddi_value *x,
                            ddi_value *position, ddi_value *values, ddi_value *ref, const ddi_msda_spec *grid);

typedef struct ddi_feed_forward {
    ddi_dense in, out;
    ddi_affine norm;
} ddi_feed_forward;
void ddi_build_feed_forward(ddi_feed_forward *block, ddi_build *build, const char *layer, int64_t d, int64_t inner);
/* LN(x + drop(Lin(drop(relu(Lin x))))). */
ddi_value *ddi_run_feed_forward(ddi_tape *tape, const ddi_feed_forward *block, const ddi_block_config *config, ddi_value *x);

/* Lin, relu, Lin, .. The counting rule sees no ReLU: they are functions where this block is used. */
enum { DDI_MLP_LAYERS = 3 };
typedef struct ddi_mlp {
    int32_t layers;
    ddi_dense layer[DDI_MLP_LAYERS];
} ddi_mlp;
/* Names "NAME.layers.K"; width[K] -> width[K+1]. last: NULL, or the start of the last layer's weight (zeros) and bias. */
void ddi_build_mlp(ddi_mlp *mlp, ddi_build *build, const char *prefix, const char *name, int32_t layers, const int64_t *width,
                   ddi_start start, const ddi_init *last);
ddi_value *ddi_run_mlp(ddi_tape *tape, const ddi_mlp *mlp, ddi_value *x);

/* Lin, relu, Lin, relu, Lin -> 4. */
typedef struct ddi_box_head {
    ddi_dense layer[3];
} ddi_box_head;
ddi_value *ddi_run_box_head(ddi_tape *tape, const ddi_box_head *head, ddi_value *x);

ddi_value *ddi_run_dense(ddi_tape *tape, const ddi_dense *dense, ddi_value *x);

#endif
