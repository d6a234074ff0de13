/* SPDX-License-Identifier: Apache-2.0
 * The encoder of DETR. */
#include "nn/detr_encoder.h"

#include <stdio.h>

void ddi_build_detr_encoder(ddi_detr_encoder *e, ddi_build *b, int32_t layers, int64_t ffn)
{
    char at[DDI_NAME_BYTES];
    e->layers = layers;
    for (int32_t i = 0; i < layers; i++) {
        snprintf(at, sizeof at, "model.encoder.layers.%d.", i);
        ddi_build_self_attention(&e->layer[i].attention, b, at, &e->block);
        ddi_build_feed_forward(&e->layer[i].ffn, b, at, e->block.d, ffn);
    }
}

ddi_value *ddi_run_detr_encoder(ddi_tape *t, const ddi_detr_encoder *e, ddi_value *tokens, ddi_value *position,
                                ddi_value *padding)
{
    const ddi_attention_spec masks = {.key_padding = padding};
    ddi_value *x = tokens;
    t->part = DDI_PART_ENCODER;
    for (int32_t i = 0; i < e->layers; i++) {
        ddi_scope scope = ddi_scope_begin(t);
        x = ddi_run_self_attention(t, &e->layer[i].attention, &e->block, x, position, &masks);
        x = ddi_run_feed_forward(t, &e->layer[i].ffn, &e->block, x);
        ddi_scope_end(t, scope, 1, &x);
    }
    return x;
}
