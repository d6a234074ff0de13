/* SPDX-License-Identifier: Apache-2.0
 * DINO in files. */
#include "models/detector.h"

static const ddi_key_rule dino_official[] = {
    DDI_NEVER_WANTED,
    {"backbone.0.body.fc.*", NULL},
    {"backbone.0.body.*", "backbone.*"},
    {"input_proj.3.0.*", "neck.extra_convs.0.conv.*"},
    {"input_proj.3.1.*", "neck.extra_convs.0.gn.*"},
    {"input_proj.#.0.*", "neck.convs.#.conv.*"},
    {"input_proj.#.1.*", "neck.convs.#.gn.*"},
    {"transformer.level_embed", "level_embed"},
    {"transformer.encoder.layers.#.self_attn.*", "encoder.layers.#.self_attn.*"},
    {"transformer.encoder.layers.#.linear1.*", "encoder.layers.#.ffn.layers.0.0.*"},
    {"transformer.encoder.layers.#.linear2.*", "encoder.layers.#.ffn.layers.1.*"},
    {"transformer.encoder.layers.#.norm1.*", "encoder.layers.#.norms.0.*"},
    {"transformer.encoder.layers.#.norm2.*", "encoder.layers.#.norms.1.*"},
    {"transformer.decoder.layers.#.self_attn.*", "decoder.layers.#.self_attn.attn.*"},
    {"transformer.decoder.layers.#.cross_attn.*", "decoder.layers.#.cross_attn.*"},
    {"transformer.decoder.layers.#.linear1.*", "decoder.layers.#.ffn.layers.0.0.*"},
    {"transformer.decoder.layers.#.linear2.*", "decoder.layers.#.ffn.layers.1.*"},
    {"transformer.decoder.layers.#.norm2.*", "decoder.layers.#.norms.0.*"},
    {"transformer.decoder.layers.#.norm1.*", "decoder.layers.#.norms.1.*"},
    {"transformer.decoder.layers.#.norm3.*", "decoder.layers.#.norms.2.*"},
    {"transformer.decoder.norm.*", "decoder.norm.*"},
    {"transformer.decoder.ref_point_head.*", "decoder.ref_point_head.*"},
    {"transformer.decoder.class_embed.*", NULL}, /* the same modules as class_embed and bbox_embed */
    {"transformer.decoder.bbox_embed.*", NULL},
    {"transformer.enc_output.*", "memory_trans_fc.*"},
    {"transformer.enc_output_norm.*", "memory_trans_norm.*"},
    {"transformer.tgt_embed.weight", "query_embedding.weight"},
    {"transformer.enc_out_class_embed.*", "bbox_head.cls_branches.@.*"},
    {"transformer.enc_out_bbox_embed.layers.0.*", "bbox_head.reg_branches.@.0.*"},
    {"transformer.enc_out_bbox_embed.layers.1.*", "bbox_head.reg_branches.@.2.*"},
    {"transformer.enc_out_bbox_embed.layers.2.*", "bbox_head.reg_branches.@.4.*"},
    {"class_embed.#.*", "bbox_head.cls_branches.#.*"},
    {"bbox_embed.#.layers.0.*", "bbox_head.reg_branches.#.0.*"},
    {"bbox_embed.#.layers.1.*", "bbox_head.reg_branches.#.2.*"},
    {"bbox_embed.#.layers.2.*", "bbox_head.reg_branches.#.4.*"},
    {"label_enc.weight", "dn_query_generator.label_embedding.weight"},
};

/* The names are ours already. */
static const ddi_key_rule same[] = {DDI_NEVER_WANTED, {"backbone.fc.*", NULL}, {"*", "*"}};

static const ddi_keymap maps[] = {
    DDI_KEYMAP("dino", "official", "transformer.tgt_embed.weight", dino_official),
    DDI_KEYMAP("dino", "mmdet3", "dn_query_generator.label_embedding.weight", same),
};

const ddi_detector_files ddi_dino_files = {.maps = maps, .map_count = DDI_COUNT(maps)};
