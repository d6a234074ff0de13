/* SPDX-License-Identifier: Apache-2.0
 * The encoder of deformable transformers. */
#include "nn/deformable_encoder.h"

#include <stdio.h>

void ddi_build_deformable_encoder(ddi_deformable_encoder *e, ddi_build *b, int32_t layers, int64_t ffn)
{
    char at[DDI_NAME_BYTES];
    const ddi_init normal = {DDI_INIT_NORMAL, 1, 0};
    e->layers = layers;
    e->level_embedding = ddi_build_param(b, "model.", "level_embed", normal, DDI_SHAPE(e->block.levels, e->block.d));
    for (int32_t i = 0; i < layers; i++) {
        snprintf(at, sizeof at, "model.encoder.layers.%d.", i);
        ddi_build_deformable_attention(&e->layer[i].attention, b, at, "self_attn", &e->block);
        ddi_build_feed_forward(&e->layer[i].ffn, b, at, e->block.d, ffn);
    }
}

ddi_value *ddi_run_deformable_encoder(ddi_tape *t, const ddi_deformable_encoder *e, ddi_value *tokens, const ddi_levels *levels,
                                      const ddi_level_masks *masks)
{
    const ddi_block_config *block = &e->block;
    const ddi_msda_spec grid = {levels, masks->ratio, masks->padding, block->heads, block->points};
    const int64_t B = tokens->shape[0];
    t->part = DDI_PART_ENCODER;
    ddi_value *position =
        ddi_sine_position(t, levels, B, block->d, masks->valid_by_level, e->level_embedding, e->temperature, e->offset);
    ddi_value *points = ddi_grid_points(t, levels, B, masks->ratio), *x = tokens;
    for (int32_t i = 0; i < e->layers; i++) {
        ddi_scope scope = ddi_scope_begin(t);
        x = ddi_run_deformable_attention(t, &e->layer[i].attention, block, x, position, x, points, &grid);
        t->sparing = true; /* the hidden layer is as large as all else that a layer holds, and cheap to make again */
        x = ddi_run_feed_forward(t, &e->layer[i].ffn, block, x);
        t->sparing = false;
        ddi_scope_end(t, scope, 1, &x);
    }
    return x;
}
