/* SPDX-License-Identifier: Apache-2.0
 * Conditional DETR in files: the names that programs give its tensors (detectors.md 7.4), what our own model calls them
 * (transformers' names), config.json. */
#include "base/error.h"
#include "base/limits.h"
#include "models/detector.h"

#include <string.h>

/* ---- Names of other programs */

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

/* The decoder has the box head, too. */
static const ddi_key_rule official_copies[] = {{"bbox_embed.*", "transformer.decoder.bbox_embed.*"}};

static const ddi_keymap maps[] = {
    DDI_KEYMAP("conditional_detr", "huggingface", "model.decoder.layers.#.ca_qcontent_proj.weight", same),
    DDI_KEYMAP_TWICE("conditional_detr", "official", "transformer.decoder.layers.#.ca_qcontent_proj.weight",
                     conditional_official, official_copies, false),
    DDI_KEYMAP("conditional_detr", "mmdet3", "decoder.layers.#.cross_attn.qcontent_proj.weight", conditional_mmdet3),
};

/* Every layer of some files has a projection that the first alone uses. */
static bool is_spare(const ddi_model_config *c, const char *name)
{
    static const char layers[] = "model.decoder.layers.";
    return strncmp(name, layers, strlen(layers)) == 0 && strstr(name, ".ca_qpos_proj.") != NULL;
}

/* ---- config.json */

#define AT(field) offsetof(ddi_model_config, field)
static const ddi_config_key keys[] = {
    {"d_model", DDI_KEY_INT64, AT(d), 256, 1, 8192},
    {"num_queries", DDI_KEY_INT64, AT(queries), 300, 1, DDI_MAX_QUERIES},
    {"encoder_layers", DDI_KEY_INT32, AT(encoder_layers), 6, 0, DDI_MOST_LAYERS},
    {"encoder_ffn_dim", DDI_KEY_INT64, AT(encoder_ffn), 2048, 1, 65536},
    {"encoder_attention_heads", DDI_KEY_INT32, AT(encoder_heads), 8, 1, 1024},
    {"decoder_layers", DDI_KEY_INT32, AT(decoder_layers), 6, 1, DDI_MOST_LAYERS},
    {"decoder_ffn_dim", DDI_KEY_INT64, AT(decoder_ffn), 2048, 1, 65536},
    {"decoder_attention_heads", DDI_KEY_INT32, AT(decoder_heads), 8, 1, 1024},
    {"dropout", DDI_KEY_REAL, AT(dropout), 0.1, 0, 1},
    {"attention_dropout", DDI_KEY_REAL, AT(attention_dropout), 0, 0, 1},
    {"activation_dropout", DDI_KEY_REAL, AT(activation_dropout), 0, 0, 1},
};

static void read_config(ddi_config_reader *r, ddi_model_config *c)
{
    c->levels = 1;
    c->neck_bias = true;
}

/* ---- Checkpoints without a configuration */

static dd_status read_tensors(const dd_tensorfile *file, const ddi_unsaid *s, ddi_model_config *c)
{
    DDI_TRY(ddi_file_tables(file, "model.query_position_embeddings.weight", "class_labels_classifier.weight", c));
    DDI_TRY(ddi_file_depth(file, c));
    c->levels = 1;
    c->neck_bias = true;
    c->encoder_heads = c->decoder_heads = (int32_t)s->heads;
    c->dropout = c->attention_dropout = c->activation_dropout = 0.1;
    return DD_OK;
}

const ddi_detector_files ddi_conditional_detr_files = {
    .maps = maps,
    .map_count = DDI_COUNT(maps),
    .keys = keys,
    .key_count = DDI_COUNT(keys),
    .read_config = read_config,
    .read_tensors = read_tensors,
    .is_spare = is_spare,
};
