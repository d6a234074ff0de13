/* SPDX-License-Identifier: Apache-2.0
 * Conditional DETR in files. */
#include "models/detector.h"

static const ddi_key_rule conditional_official[] = {
    DDI_NEVER_WANTED,
    {"backbone.0.body.fc.*", NULL},
    {"backbone.0.body.*", DDI_OUR_BACKBONE "*"},
    {"input_proj.*", "model.input_projection.*"},
    {"transformer.encoder.layers.#.self_attn.in_proj_*", DDI_OUR_ENCODER "self_attn.{q,k,v}_proj.*"},
    {"transformer.encoder.layers.#.self_attn.out_proj.*", DDI_OUR_ENCODER "self_attn.out_proj.*"},
    {"transformer.encoder.layers.#.norm1.*", DDI_OUR_ENCODER "self_attn_layer_norm.*"},
    {"transformer.encoder.layers.#.linear#.*", DDI_OUR_ENCODER "fc#.*"},
    {"transformer.encoder.layers.#.norm2.*", DDI_OUR_ENCODER "final_layer_norm.*"},
    {"transformer.decoder.layers.0.ca_qpos_proj.*", "model.decoder.layers.0.ca_qpos_proj.*"},
    {"transformer.decoder.layers.#.ca_qpos_proj.*", NULL}, /* there in the released file, and never used */
    {"transformer.decoder.layers.#.sa_*", DDI_OUR_DECODER "sa_*"},
    {"transformer.decoder.layers.#.ca_*", DDI_OUR_DECODER "ca_*"},
    {"transformer.decoder.layers.#.self_attn.out_proj.*", DDI_OUR_DECODER "self_attn.out_proj.*"},
    {"transformer.decoder.layers.#.cross_attn.out_proj.*", DDI_OUR_DECODER "encoder_attn.out_proj.*"},
    {"transformer.decoder.layers.#.norm1.*", DDI_OUR_DECODER "self_attn_layer_norm.*"},
    {"transformer.decoder.layers.#.norm2.*", DDI_OUR_DECODER "encoder_attn_layer_norm.*"},
    {"transformer.decoder.layers.#.norm3.*", DDI_OUR_DECODER "final_layer_norm.*"},
    {"transformer.decoder.layers.#.linear#.*", DDI_OUR_DECODER "fc#.*"},
    {"transformer.decoder.norm.*", "model.decoder.layernorm.*"},
    {"transformer.decoder.query_scale.*", "model.decoder.query_scale.*"},
    {"transformer.decoder.ref_point_head.*", "model.decoder.ref_point_head.*"},
    {"transformer.decoder.bbox_embed.*", NULL}, /* the same module as bbox_embed */
    {"query_embed.weight", "model.query_position_embeddings.weight"},
    {"class_embed.*", "class_labels_classifier.*"},
    {"bbox_embed.*", "bbox_predictor.*"},
};

static const ddi_key_rule conditional_mmdet3[] = {
    DDI_NEVER_WANTED,
    {"backbone.fc.*", NULL},
    {"backbone.*", DDI_OUR_BACKBONE "*"},
    {"neck.convs.0.conv.*", "model.input_projection.*"},
    {"encoder.layers.#.self_attn.attn.in_proj_*", DDI_OUR_ENCODER "self_attn.{q,k,v}_proj.*"},
    {"encoder.layers.#.self_attn.attn.out_proj.*", DDI_OUR_ENCODER "self_attn.out_proj.*"},
    {"encoder.layers.#.norms.0.*", DDI_OUR_ENCODER "self_attn_layer_norm.*"},
    {"encoder.layers.#.ffn.layers.0.0.*", DDI_OUR_ENCODER "fc1.*"},
    {"encoder.layers.#.ffn.layers.1.*", DDI_OUR_ENCODER "fc2.*"},
    {"encoder.layers.#.norms.1.*", DDI_OUR_ENCODER "final_layer_norm.*"},
    {"decoder.layers.#.self_attn.out_proj.*", DDI_OUR_DECODER "self_attn.out_proj.*"},
    {"decoder.layers.#.self_attn.*", DDI_OUR_DECODER "sa_*"},
    {"decoder.layers.#.cross_attn.out_proj.*", DDI_OUR_DECODER "encoder_attn.out_proj.*"},
    {"decoder.layers.0.cross_attn.qpos_proj.*", "model.decoder.layers.0.ca_qpos_proj.*"},
    {"decoder.layers.#.cross_attn.qpos_proj.*", NULL},
    {"decoder.layers.#.cross_attn.*", DDI_OUR_DECODER "ca_*"},
    {"decoder.layers.#.norms.0.*", DDI_OUR_DECODER "self_attn_layer_norm.*"},
    {"decoder.layers.#.norms.1.*", DDI_OUR_DECODER "encoder_attn_layer_norm.*"},
    {"decoder.layers.#.norms.2.*", DDI_OUR_DECODER "final_layer_norm.*"},
    {"decoder.layers.#.ffn.layers.0.0.*", DDI_OUR_DECODER "fc1.*"},
    {"decoder.layers.#.ffn.layers.1.*", DDI_OUR_DECODER "fc2.*"},
    {"decoder.post_norm.*", "model.decoder.layernorm.*"},
    {"decoder.query_scale.*", "model.decoder.query_scale.*"},
    {"decoder.ref_point_head.*", "model.decoder.ref_point_head.*"},
    {"query_embedding.weight", "model.query_position_embeddings.weight"},
    {"bbox_head.fc_cls.*", "class_labels_classifier.*"},
    {"bbox_head.reg_ffn.layers.0.0.*", "bbox_predictor.layers.0.*"},
    {"bbox_head.reg_ffn.layers.1.*", "bbox_predictor.layers.1.*"},
    {"bbox_head.fc_reg.*", "bbox_predictor.layers.2.*"},
};

/* The names are ours already. */
static const ddi_key_rule same[] = {DDI_NEVER_WANTED, {"backbone.fc.*", NULL}, {"*", "*"}};

static const ddi_keymap maps[] = {
    DDI_KEYMAP("conditional_detr", "huggingface", "model.decoder.layers.#.ca_qcontent_proj.weight", same),
    DDI_KEYMAP("conditional_detr", "official", "transformer.decoder.layers.#.ca_qcontent_proj.weight", conditional_official),
    DDI_KEYMAP("conditional_detr", "mmdet3", "decoder.layers.#.cross_attn.qcontent_proj.weight", conditional_mmdet3),
};

const ddi_detector_files ddi_conditional_detr_files = {.maps = maps, .map_count = DDI_COUNT(maps)};
