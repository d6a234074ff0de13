/* SPDX-License-Identifier: Apache-2.0
 * Deformable DETR: plain, with box refinement, two-stage (detectors.md section 2). */
#ifndef DDI_MODELS_DEFORMABLE_DETR_H
#define DDI_MODELS_DEFORMABLE_DETR_H

#include "nn/resnet.h"
#include "nn/transformer.h"

enum { DDI_MOST_LEVELS = 8, DDI_MOST_LAYERS = 32 };

typedef struct ddi_deformable_config {
    ddi_resnet_config backbone;
    int64_t d, encoder_ffn, decoder_ffn, queries, classes;
    int32_t levels, encoder_layers, decoder_layers, encoder_heads, decoder_heads, encoder_points, decoder_points;
    bool refine, two_stage;
    bool neck_bias;                          /* convolutions of the neck have one */
    bool shared_class_head, shared_box_head; /* one for all layers, whatever refine says */
    double dropout, attention_dropout, activation_dropout;
} ddi_deformable_config;

typedef struct ddi_encoder_layer {
    ddi_deformable_attention attention;
    ddi_feed_forward ffn;
} ddi_encoder_layer;

typedef struct ddi_decoder_layer {
    ddi_self_attention self;
    ddi_deformable_attention cross;
    ddi_feed_forward ffn;
} ddi_decoder_layer;

typedef struct ddi_deformable {
    ddi_deformable_config config;
    ddi_resnet backbone;
    struct {
        ddi_param *w, *b;
        ddi_affine norm;
    } neck[DDI_MOST_LEVELS];
    ddi_param *level_embedding, *queries;
    ddi_dense reference, encoder_output, position_transform;
    ddi_affine encoder_norm, position_norm;
    ddi_encoder_layer encoder[DDI_MOST_LAYERS];
    ddi_decoder_layer decoder[DDI_MOST_LAYERS];
    ddi_dense class_head[DDI_MOST_LAYERS + 1]; /* one, one for each layer, or one more for the encoder */
    ddi_box_head box_head[DDI_MOST_LAYERS + 1];
} ddi_deformable;

/* What a decoder starts from; values of the tape. */
typedef struct ddi_query_values {
    ddi_value *position, *content; /* [B,N,d] */
    ddi_value *reference;          /* [B,N,2 or 4] */
} ddi_query_values;

/* Makes a second group of queries for the decoder; a reference that stays NULL is the model's own layer on the position.
 * Returns false where there is none. */
typedef bool (*ddi_group_fn)(ddi_tape *tape, void *arg, int64_t images, ddi_query_values *queries);

/* What a forward pass leaves; values of the tape. NULL: not of this variant. */
typedef struct ddi_detections {
    ddi_levels levels;
    ddi_value *stage[4];                          /* C2..C5 [B,H,W,C] */
    ddi_value *features;                          /* neck, [B,S,d] */
    ddi_value *encoder;                           /* [B,S,d] */
    ddi_value *layer[DDI_MOST_LAYERS];            /* [B,N,d] */
    ddi_value *reference;                         /* [B,N,2 or 4] */
    ddi_value *refined[DDI_MOST_LAYERS];          /* [B,N,4] */
    ddi_value *logits, *boxes;                    /* [L,B,N,K], [L,B,N,4] */
    ddi_value *ratio;                             /* [B,levels,2]; NULL: nothing is padded */
    ddi_value *proposal_logits, *proposals, *top; /* [B,S,K], [B,S,4] before the sigmoid, int32 [B,N] */
    ddi_value *proposal_boxes;                    /* [B,S,4] after it */
    ddi_query_values queries;                     /* what the decoder started from */
    ddi_value *group_logits, *group_boxes;        /* [L,B,Ng,K], [L,B,Ng,4] of the second group; NULL: none ran */
} ddi_detections;

/* What is wrong with a configuration; NULL: nothing. */
const char *ddi_deformable_complaint(const ddi_deformable_config *config);
dd_status ddi_deformable_build(ddi_deformable *model, ddi_build *build, const ddi_deformable_config *config);
/* image [B,H,W,3], normalised, zero outside; sizes: (w,h) of each image's real part, on the host. */
void ddi_deformable_forward(ddi_tape *tape, const ddi_deformable *model, ddi_value *image, const int32_t *sizes,
                            ddi_detections *out);

/* The same with a second group of queries (fn NULL: none) through the decoder. The groups do not see each other, so the first
 * gives what it gives alone, dropout included. */
void ddi_deformable_forward_groups(ddi_tape *tape, const ddi_deformable *model, ddi_value *image, const int32_t *sizes,
                                   ddi_group_fn group, void *arg, ddi_detections *out);

#endif
