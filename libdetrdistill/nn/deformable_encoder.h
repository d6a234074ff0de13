/* SPDX-License-Identifier: Apache-2.0
 * The encoder of deformable transformers: every token reads a few places of all levels (detectors.md 2.1 step 2). */
#ifndef DDI_NN_DEFORMABLE_ENCODER_H
#define DDI_NN_DEFORMABLE_ENCODER_H

#include "nn/levels.h"
#include "nn/transformer.h"

typedef struct ddi_deformable_encoder_layer {
    ddi_deformable_attention attention;
    ddi_feed_forward ffn;
} ddi_deformable_encoder_layer;

typedef struct ddi_deformable_encoder {
    ddi_block_config block;
    int32_t layers;
    double temperature, offset; /* of the position codes (1.4) */
    ddi_param *level_embedding;
    ddi_deformable_encoder_layer layer[DDI_MOST_LAYERS];
} ddi_deformable_encoder;

/* block, temperature and offset are set already. */
void ddi_build_deformable_encoder(ddi_deformable_encoder *encoder, ddi_build *build, int32_t layers, int64_t ffn);
ddi_value *ddi_run_deformable_encoder(ddi_tape *tape, const ddi_deformable_encoder *encoder, ddi_value *tokens,
                                      const ddi_levels *levels, const ddi_level_masks *masks);

#endif
