/* SPDX-License-Identifier: Apache-2.0
 * The names that programs give the tensors of a detector (detectors.md section 7), and what our models call them: those of
 * transformers for Deformable and Conditional DETR, those of mmdetection 3 for DINO, AdaMixer's own. */
#include "models/keymap.h"

#define COUNT(table) (int32_t)(sizeof(table) / sizeof((table)[0]))

#define NEVER_WANTED                                                                                                           \
    {"*num_batches_tracked", NULL},                                                                                            \
    {                                                                                                                          \
        "ema_*", NULL                                                                                                          \
    }

#define BACKBONE "model.backbone.conv_encoder.model."

#define ENCODER "model.encoder.layers.#."
#define DECODER "model.decoder.layers.#."

static const ddi_key_rule deformable_official[] = {
    NEVER_WANTED,
    {"backbone.0.body.fc.*", NULL},
    {"backbone.0.body.*", BACKBONE "*"},
    {"input_proj.*", "model.input_proj.*"},
    {"transformer.encoder.layers.#.self_attn.*", ENCODER "self_attn.*"},
    {"transformer.encoder.layers.#.norm1.*", ENCODER "self_attn_layer_norm.*"},
    {"transformer.encoder.layers.#.linear#.*", ENCODER "fc#.*"},
    {"transformer.encoder.layers.#.norm2.*", ENCODER "final_layer_norm.*"},
    {"transformer.decoder.layers.#.self_attn.in_proj_*", DECODER "self_attn.{q,k,v}_proj.*"},
    {"transformer.decoder.layers.#.self_attn.out_proj.*", DECODER "self_attn.out_proj.*"},
    {"transformer.decoder.layers.#.norm2.*", DECODER "self_attn_layer_norm.*"},
    {"transformer.decoder.layers.#.cross_attn.*", DECODER "encoder_attn.*"},
    {"transformer.decoder.layers.#.norm1.*", DECODER "encoder_attn_layer_norm.*"},
    {"transformer.decoder.layers.#.linear#.*", DECODER "fc#.*"},
    {"transformer.decoder.layers.#.norm3.*", DECODER "final_layer_norm.*"},
    {"transformer.decoder.class_embed.*", "model.decoder.class_embed.*"},
    {"transformer.decoder.bbox_embed.*", "model.decoder.bbox_embed.*"},
    {"transformer.level_embed", "model.level_embed"},
    {"transformer.reference_points.*", "model.reference_points.*"},
    {"transformer.enc_output.*", "model.enc_output.*"},
    {"transformer.enc_output_norm.*", "model.enc_output_norm.*"},
    {"transformer.pos_trans.*", "model.pos_trans.*"},
    {"transformer.pos_trans_norm.*", "model.pos_trans_norm.*"},
    {"query_embed.weight", "model.query_position_embeddings.weight"},
    {"class_embed.*", "class_embed.*"},
    {"bbox_embed.*", "bbox_embed.*"},
};

/* Neck, backbone and heads of Deformable DETR are alike in both versions of mmdetection. */
#define MMDET_DEFORMABLE_ENDS                                                                                                  \
    NEVER_WANTED, {"backbone.fc.*", NULL}, {"backbone.*", BACKBONE "*"},                                                       \
        {"neck.extra_convs.0.conv.*", "model.input_proj.3.0.*"}, {"neck.extra_convs.0.gn.*", "model.input_proj.3.1.*"},        \
        {"neck.convs.#.conv.*", "model.input_proj.#.0.*"}, {"neck.convs.#.gn.*", "model.input_proj.#.1.*"},                    \
        {"bbox_head.cls_branches.#.*", "class_embed.#.*"}, {"bbox_head.reg_branches.#.0.*", "bbox_embed.#.layers.0.*"},        \
        {"bbox_head.reg_branches.#.2.*", "bbox_embed.#.layers.1.*"},                                                           \
    {                                                                                                                          \
        "bbox_head.reg_branches.#.4.*", "bbox_embed.#.layers.2.*"                                                              \
    }

#define MMDET2 "bbox_head.transformer."

static const ddi_key_rule deformable_mmdet2[] = {
    MMDET_DEFORMABLE_ENDS,
    {MMDET2 "encoder.layers.#.attentions.0.*", ENCODER "self_attn.*"},
    {MMDET2 "encoder.layers.#.norms.0.*", ENCODER "self_attn_layer_norm.*"},
    {MMDET2 "encoder.layers.#.ffns.0.layers.0.0.*", ENCODER "fc1.*"},
    {MMDET2 "encoder.layers.#.ffns.0.layers.1.*", ENCODER "fc2.*"},
    {MMDET2 "encoder.layers.#.norms.1.*", ENCODER "final_layer_norm.*"},
    {MMDET2 "decoder.layers.#.attentions.0.attn.in_proj_*", DECODER "self_attn.{q,k,v}_proj.*"},
    {MMDET2 "decoder.layers.#.attentions.0.attn.out_proj.*", DECODER "self_attn.out_proj.*"},
    {MMDET2 "decoder.layers.#.norms.0.*", DECODER "self_attn_layer_norm.*"},
    {MMDET2 "decoder.layers.#.attentions.1.*", DECODER "encoder_attn.*"},
    {MMDET2 "decoder.layers.#.norms.1.*", DECODER "encoder_attn_layer_norm.*"},
    {MMDET2 "decoder.layers.#.ffns.0.layers.0.0.*", DECODER "fc1.*"},
    {MMDET2 "decoder.layers.#.ffns.0.layers.1.*", DECODER "fc2.*"},
    {MMDET2 "decoder.layers.#.norms.2.*", DECODER "final_layer_norm.*"},
    {MMDET2 "level_embeds", "model.level_embed"},
    {MMDET2 "reference_points.*", "model.reference_points.*"},
    {MMDET2 "enc_output.*", "model.enc_output.*"},
    {MMDET2 "enc_output_norm.*", "model.enc_output_norm.*"},
    {MMDET2 "pos_trans.*", "model.pos_trans.*"},
    {MMDET2 "pos_trans_norm.*", "model.pos_trans_norm.*"},
    {"bbox_head.query_embedding.weight", "model.query_position_embeddings.weight"},
};

static const ddi_key_rule deformable_mmdet3[] = {
    MMDET_DEFORMABLE_ENDS,
    {"encoder.layers.#.self_attn.*", ENCODER "self_attn.*"},
    {"encoder.layers.#.norms.0.*", ENCODER "self_attn_layer_norm.*"},
    {"encoder.layers.#.ffn.layers.0.0.*", ENCODER "fc1.*"},
    {"encoder.layers.#.ffn.layers.1.*", ENCODER "fc2.*"},
    {"encoder.layers.#.norms.1.*", ENCODER "final_layer_norm.*"},
    {"decoder.layers.#.self_attn.attn.in_proj_*", DECODER "self_attn.{q,k,v}_proj.*"},
    {"decoder.layers.#.self_attn.attn.out_proj.*", DECODER "self_attn.out_proj.*"},
    {"decoder.layers.#.norms.0.*", DECODER "self_attn_layer_norm.*"},
    {"decoder.layers.#.cross_attn.*", DECODER "encoder_attn.*"},
    {"decoder.layers.#.norms.1.*", DECODER "encoder_attn_layer_norm.*"},
    {"decoder.layers.#.ffn.layers.0.0.*", DECODER "fc1.*"},
    {"decoder.layers.#.ffn.layers.1.*", DECODER "fc2.*"},
    {"decoder.layers.#.norms.2.*", DECODER "final_layer_norm.*"},
    {"level_embed", "model.level_embed"},
    {"reference_points_fc.*", "model.reference_points.*"},
    {"memory_trans_fc.*", "model.enc_output.*"},
    {"memory_trans_norm.*", "model.enc_output_norm.*"},
    {"pos_trans_fc.*", "model.pos_trans.*"},
    {"pos_trans_norm.*", "model.pos_trans_norm.*"},
    {"query_embedding.weight", "model.query_position_embeddings.weight"},
};

static const ddi_key_rule conditional_official[] = {
    NEVER_WANTED,
    {"backbone.0.body.fc.*", NULL},
    {"backbone.0.body.*", BACKBONE "*"},
    {"input_proj.*", "model.input_projection.*"},
    {"transformer.encoder.layers.#.self_attn.in_proj_*", ENCODER "self_attn.{q,k,v}_proj.*"},
    {"transformer.encoder.layers.#.self_attn.out_proj.*", ENCODER "self_attn.out_proj.*"},
    {"transformer.encoder.layers.#.norm1.*", ENCODER "self_attn_layer_norm.*"},
    {"transformer.encoder.layers.#.linear#.*", ENCODER "fc#.*"},
    {"transformer.encoder.layers.#.norm2.*", ENCODER "final_layer_norm.*"},
    {"transformer.decoder.layers.0.ca_qpos_proj.*", "model.decoder.layers.0.ca_qpos_proj.*"},
    {"transformer.decoder.layers.#.ca_qpos_proj.*", NULL}, /* there in the released file, and never used */
    {"transformer.decoder.layers.#.sa_*", DECODER "sa_*"},
    {"transformer.decoder.layers.#.ca_*", DECODER "ca_*"},
    {"transformer.decoder.layers.#.self_attn.out_proj.*", DECODER "self_attn.out_proj.*"},
    {"transformer.decoder.layers.#.cross_attn.out_proj.*", DECODER "encoder_attn.out_proj.*"},
    {"transformer.decoder.layers.#.norm1.*", DECODER "self_attn_layer_norm.*"},
    {"transformer.decoder.layers.#.norm2.*", DECODER "encoder_attn_layer_norm.*"},
    {"transformer.decoder.layers.#.norm3.*", DECODER "final_layer_norm.*"},
    {"transformer.decoder.layers.#.linear#.*", DECODER "fc#.*"},
    {"transformer.decoder.norm.*", "model.decoder.layernorm.*"},
    {"transformer.decoder.query_scale.*", "model.decoder.query_scale.*"},
    {"transformer.decoder.ref_point_head.*", "model.decoder.ref_point_head.*"},
    {"transformer.decoder.bbox_embed.*", NULL}, /* the same module as bbox_embed */
    {"query_embed.weight", "model.query_position_embeddings.weight"},
    {"class_embed.*", "class_labels_classifier.*"},
    {"bbox_embed.*", "bbox_predictor.*"},
};

static const ddi_key_rule conditional_mmdet3[] = {
    NEVER_WANTED,
    {"backbone.fc.*", NULL},
    {"backbone.*", BACKBONE "*"},
    {"neck.convs.0.conv.*", "model.input_projection.*"},
    {"encoder.layers.#.self_attn.attn.in_proj_*", ENCODER "self_attn.{q,k,v}_proj.*"},
    {"encoder.layers.#.self_attn.attn.out_proj.*", ENCODER "self_attn.out_proj.*"},
    {"encoder.layers.#.norms.0.*", ENCODER "self_attn_layer_norm.*"},
    {"encoder.layers.#.ffn.layers.0.0.*", ENCODER "fc1.*"},
    {"encoder.layers.#.ffn.layers.1.*", ENCODER "fc2.*"},
    {"encoder.layers.#.norms.1.*", ENCODER "final_layer_norm.*"},
    {"decoder.layers.#.self_attn.out_proj.*", DECODER "self_attn.out_proj.*"},
    {"decoder.layers.#.self_attn.*", DECODER "sa_*"},
    {"decoder.layers.#.cross_attn.out_proj.*", DECODER "encoder_attn.out_proj.*"},
    {"decoder.layers.0.cross_attn.qpos_proj.*", "model.decoder.layers.0.ca_qpos_proj.*"},
    {"decoder.layers.#.cross_attn.qpos_proj.*", NULL},
    {"decoder.layers.#.cross_attn.*", DECODER "ca_*"},
    {"decoder.layers.#.norms.0.*", DECODER "self_attn_layer_norm.*"},
    {"decoder.layers.#.norms.1.*", DECODER "encoder_attn_layer_norm.*"},
    {"decoder.layers.#.norms.2.*", DECODER "final_layer_norm.*"},
    {"decoder.layers.#.ffn.layers.0.0.*", DECODER "fc1.*"},
    {"decoder.layers.#.ffn.layers.1.*", DECODER "fc2.*"},
    {"decoder.post_norm.*", "model.decoder.layernorm.*"},
    {"decoder.query_scale.*", "model.decoder.query_scale.*"},
    {"decoder.ref_point_head.*", "model.decoder.ref_point_head.*"},
    {"query_embedding.weight", "model.query_position_embeddings.weight"},
    {"bbox_head.fc_cls.*", "class_labels_classifier.*"},
    {"bbox_head.reg_ffn.layers.0.0.*", "bbox_predictor.layers.0.*"},
    {"bbox_head.reg_ffn.layers.1.*", "bbox_predictor.layers.1.*"},
    {"bbox_head.fc_reg.*", "bbox_predictor.layers.2.*"},
};

static const ddi_key_rule dino_official[] = {
    NEVER_WANTED,
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

/* A classifier's file: the pretrained backbone. */
static const ddi_key_rule resnet_torchvision[] = {
    NEVER_WANTED,
    {"fc.*", NULL},
    {"conv1.*", BACKBONE "conv1.*"},
    {"bn1.*", BACKBONE "bn1.*"},
    {"layer#.*", BACKBONE "layer#.*"},
};

/* The names are ours already. */
static const ddi_key_rule same[] = {NEVER_WANTED, {"backbone.fc.*", NULL}, {"*", "*"}};

#define MAP(family, convention, mark, table)                                                                                   \
    {                                                                                                                          \
        family, convention, mark, table, COUNT(table)                                                                          \
    }

const ddi_keymap ddi_keymaps[] = {
    MAP("adamixer", "mmdet", "rpn_head.init_content_features.weight", same),
    MAP("conditional_detr", "huggingface", "model.decoder.layers.#.ca_qcontent_proj.weight", same),
    MAP("conditional_detr", "official", "transformer.decoder.layers.#.ca_qcontent_proj.weight", conditional_official),
    MAP("conditional_detr", "mmdet3", "decoder.layers.#.cross_attn.qcontent_proj.weight", conditional_mmdet3),
    MAP("dino", "official", "transformer.tgt_embed.weight", dino_official),
    MAP("dino", "mmdet3", "dn_query_generator.label_embedding.weight", same),
    MAP("deformable_detr", "huggingface", "model.level_embed", same),
    MAP("deformable_detr", "official", "transformer.level_embed", deformable_official),
    MAP("deformable_detr", "mmdet2", "bbox_head.transformer.level_embeds", deformable_mmdet2),
    MAP("deformable_detr", "mmdet3", "level_embed", deformable_mmdet3),
    MAP("resnet", "torchvision", "layer1.0.conv1.weight", resnet_torchvision),
};
const int32_t ddi_keymap_count = COUNT(ddi_keymaps);
