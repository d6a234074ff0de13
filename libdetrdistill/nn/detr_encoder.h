/* SPDX-License-Identifier: Apache-2.0
 * The encoder of DETR: every token reads all others (detectors.md section 3 step 2). */
#ifndef DDI_NN_DETR_ENCODER_H
#define DDI_NN_DETR_ENCODER_H

#include "nn/transformer.h"

typedef struct ddi_detr_encoder_layer {
    ddi_self_attention attention;
    ddi_feed_forward ffn;
} ddi_detr_encoder_layer;

typedef struct ddi_detr_encoder {
    ddi_block_config block;
    int32_t layers;
    ddi_detr_encoder_layer layer[DDI_MOST_LAYERS];
} ddi_detr_encoder;

/* block is set already. */
void ddi_build_detr_encoder(ddi_detr_encoder *encoder, ddi_build *build, int32_t layers, int64_t ffn);
/* tokens, position [B,S,d]; padding: bytes [B,S] or NULL. */
ddi_value *ddi_run_detr_encoder(ddi_tape *tape, const ddi_detr_encoder *encoder, ddi_value *tokens, ddi_value *position,
                                ddi_value *padding);

#endif
