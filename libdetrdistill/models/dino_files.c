/* SPDX-License-Identifier: Apache-2.0
 * DINO in files: the names that programs give its tensors (detectors.md 7.6), config.json. Hugging Face has no DINO detector:
 * our names are those that it would have, by its Deformable and Conditional DETR. */
#include "base/error.h"
#include "base/limits.h"
#include "models/detector.h"
#include "tensor/tensor.h"

#include <stdio.h>
#include <string.h>

/* ---- Names of other programs */

static const ddi_key_rule dino_official[] = {
    DDI_NEVER_WANTED,
    {"backbone.0.body.fc.*", NULL},
    {"backbone.0.body.*", DDI_OUR_BACKBONE "*"},
    {"input_proj.*", "model.input_proj.*"},
    {"transformer.level_embed", "model.level_embed"},
    {"transformer.encoder.layers.#.self_attn.*", DDI_OUR_ENCODER "self_attn.*"},
    {"transformer.encoder.layers.#.norm1.*", DDI_OUR_ENCODER "self_attn_layer_norm.*"},
    {"transformer.encoder.layers.#.linear#.*", DDI_OUR_ENCODER "fc#.*"},
    {"transformer.encoder.layers.#.norm2.*", DDI_OUR_ENCODER "final_layer_norm.*"},
    {"transformer.decoder.layers.#.self_attn.in_proj_*", DDI_OUR_DECODER "self_attn.{q,k,v}_proj.*"},
    {"transformer.decoder.layers.#.self_attn.out_proj.*", DDI_OUR_DECODER "self_attn.out_proj.*"},
    {"transformer.decoder.layers.#.norm2.*", DDI_OUR_DECODER "self_attn_layer_norm.*"},
    {"transformer.decoder.layers.#.cross_attn.*", DDI_OUR_DECODER "encoder_attn.*"},
    {"transformer.decoder.layers.#.norm1.*", DDI_OUR_DECODER "encoder_attn_layer_norm.*"},
    {"transformer.decoder.layers.#.linear#.*", DDI_OUR_DECODER "fc#.*"},
    {"transformer.decoder.layers.#.norm3.*", DDI_OUR_DECODER "final_layer_norm.*"},
    {"transformer.decoder.norm.*", "model.decoder.layernorm.*"},
    {"transformer.decoder.ref_point_head.*", "model.decoder.ref_point_head.*"},
    {"transformer.decoder.class_embed.*", NULL}, /* the same modules as class_embed and bbox_embed */
    {"transformer.decoder.bbox_embed.*", NULL},
    {"transformer.enc_output.*", "model.enc_output.*"},
    {"transformer.enc_output_norm.*", "model.enc_output_norm.*"},
    {"transformer.tgt_embed.weight", "model.query_content_embeddings.weight"},
    {"transformer.enc_out_class_embed.*", "model.enc_out_class_embed.*"},
    {"transformer.enc_out_bbox_embed.*", "model.enc_out_bbox_embed.*"},
    {"class_embed.*", "class_embed.*"},
    {"bbox_embed.*", "bbox_embed.*"},
    {"label_enc.weight", "model.label_embeddings.weight"},
};

static const ddi_key_rule dino_mmdet3[] = {
    DDI_NEVER_WANTED,
    {"backbone.fc.*", NULL},
    {"backbone.*", DDI_OUR_BACKBONE "*"},
    {"neck.extra_convs.0.conv.*", "model.input_proj.3.0.*"},
    {"neck.extra_convs.0.gn.*", "model.input_proj.3.1.*"},
    {"neck.convs.#.conv.*", "model.input_proj.#.0.*"},
    {"neck.convs.#.gn.*", "model.input_proj.#.1.*"},
    {"level_embed", "model.level_embed"},
    {"encoder.layers.#.self_attn.*", DDI_OUR_ENCODER "self_attn.*"},
    {"encoder.layers.#.norms.0.*", DDI_OUR_ENCODER "self_attn_layer_norm.*"},
    {"encoder.layers.#.ffn.layers.0.0.*", DDI_OUR_ENCODER "fc1.*"},
    {"encoder.layers.#.ffn.layers.1.*", DDI_OUR_ENCODER "fc2.*"},
    {"encoder.layers.#.norms.1.*", DDI_OUR_ENCODER "final_layer_norm.*"},
    {"decoder.layers.#.self_attn.attn.in_proj_*", DDI_OUR_DECODER "self_attn.{q,k,v}_proj.*"},
    {"decoder.layers.#.self_attn.attn.out_proj.*", DDI_OUR_DECODER "self_attn.out_proj.*"},
    {"decoder.layers.#.norms.0.*", DDI_OUR_DECODER "self_attn_layer_norm.*"},
    {"decoder.layers.#.cross_attn.*", DDI_OUR_DECODER "encoder_attn.*"},
    {"decoder.layers.#.norms.1.*", DDI_OUR_DECODER "encoder_attn_layer_norm.*"},
    {"decoder.layers.#.ffn.layers.0.0.*", DDI_OUR_DECODER "fc1.*"},
    {"decoder.layers.#.ffn.layers.1.*", DDI_OUR_DECODER "fc2.*"},
    {"decoder.layers.#.norms.2.*", DDI_OUR_DECODER "final_layer_norm.*"},
    {"decoder.norm.*", "model.decoder.layernorm.*"},
    {"decoder.ref_point_head.*", "model.decoder.ref_point_head.*"},
    {"memory_trans_fc.*", "model.enc_output.*"},
    {"memory_trans_norm.*", "model.enc_output_norm.*"},
    {"query_embedding.weight", "model.query_content_embeddings.weight"},
    {"bbox_head.cls_branches.@.*", "model.enc_out_class_embed.*"}, /* the last is the encoder's */
    {"bbox_head.reg_branches.@.0.*", "model.enc_out_bbox_embed.layers.0.*"},
    {"bbox_head.reg_branches.@.2.*", "model.enc_out_bbox_embed.layers.1.*"},
    {"bbox_head.reg_branches.@.4.*", "model.enc_out_bbox_embed.layers.2.*"},
    {"bbox_head.cls_branches.#.*", "class_embed.#.*"},
    {"bbox_head.reg_branches.#.0.*", "bbox_embed.#.layers.0.*"},
    {"bbox_head.reg_branches.#.2.*", "bbox_embed.#.layers.1.*"},
    {"bbox_head.reg_branches.#.4.*", "bbox_embed.#.layers.2.*"},
    {"dn_query_generator.label_embedding.weight", "model.label_embeddings.weight"},
};

/* A stage of detectron2's ResNet. */
#define DETECTRON_STAGE(theirs, ours)                                                                                          \
    {"backbone." theirs ".#.shortcut.norm.*", DDI_OUR_BACKBONE ours ".#.downsample.1.*"},                                      \
        {"backbone." theirs ".#.shortcut.*", DDI_OUR_BACKBONE ours ".#.downsample.0.*"},                                       \
        {"backbone." theirs ".#.conv#.norm.*", DDI_OUR_BACKBONE ours ".#.bn#.*"},                                              \
    {                                                                                                                          \
        "backbone." theirs ".#.conv#.*", DDI_OUR_BACKBONE ours ".#.conv#.*"                                                    \
    }

static const ddi_key_rule dino_detrex[] = {
    DDI_NEVER_WANTED,
    {"backbone.stem.conv1.norm.*", DDI_OUR_BACKBONE "bn1.*"},
    {"backbone.stem.conv1.*", DDI_OUR_BACKBONE "conv1.*"},
    DETECTRON_STAGE("res2", "layer1"),
    DETECTRON_STAGE("res3", "layer2"),
    DETECTRON_STAGE("res4", "layer3"),
    DETECTRON_STAGE("res5", "layer4"),
    {"neck.extra_convs.0.conv.*", "model.input_proj.3.0.*"},
    {"neck.extra_convs.0.norm.*", "model.input_proj.3.1.*"},
    {"neck.convs.#.conv.*", "model.input_proj.#.0.*"},
    {"neck.convs.#.norm.*", "model.input_proj.#.1.*"},
    {"transformer.level_embeds", "model.level_embed"},
    {"transformer.encoder.layers.#.attentions.0.*", DDI_OUR_ENCODER "self_attn.*"},
    {"transformer.encoder.layers.#.norms.0.*", DDI_OUR_ENCODER "self_attn_layer_norm.*"},
    {"transformer.encoder.layers.#.ffns.0.layers.0.0.*", DDI_OUR_ENCODER "fc1.*"},
    {"transformer.encoder.layers.#.ffns.0.layers.1.*", DDI_OUR_ENCODER "fc2.*"},
    {"transformer.encoder.layers.#.norms.1.*", DDI_OUR_ENCODER "final_layer_norm.*"},
    {"transformer.decoder.layers.#.attentions.0.attn.in_proj_*", DDI_OUR_DECODER "self_attn.{q,k,v}_proj.*"},
    {"transformer.decoder.layers.#.attentions.0.attn.out_proj.*", DDI_OUR_DECODER "self_attn.out_proj.*"},
    {"transformer.decoder.layers.#.norms.0.*", DDI_OUR_DECODER "self_attn_layer_norm.*"},
    {"transformer.decoder.layers.#.attentions.1.*", DDI_OUR_DECODER "encoder_attn.*"},
    {"transformer.decoder.layers.#.norms.1.*", DDI_OUR_DECODER "encoder_attn_layer_norm.*"},
    {"transformer.decoder.layers.#.ffns.0.layers.0.0.*", DDI_OUR_DECODER "fc1.*"},
    {"transformer.decoder.layers.#.ffns.0.layers.1.*", DDI_OUR_DECODER "fc2.*"},
    {"transformer.decoder.layers.#.norms.2.*", DDI_OUR_DECODER "final_layer_norm.*"},
    {"transformer.decoder.norm.*", "model.decoder.layernorm.*"},
    {"transformer.decoder.ref_point_head.*", "model.decoder.ref_point_head.*"},
    {"transformer.decoder.class_embed.*", NULL}, /* the same modules as class_embed and bbox_embed */
    {"transformer.decoder.bbox_embed.*", NULL},
    {"transformer.enc_output.*", "model.enc_output.*"},
    {"transformer.enc_output_norm.*", "model.enc_output_norm.*"},
    {"transformer.tgt_embed.weight", "model.query_content_embeddings.weight"},
    {"class_embed.@.*", "model.enc_out_class_embed.*"}, /* the last is the encoder's */
    {"bbox_embed.@.*", "model.enc_out_bbox_embed.*"},
    {"class_embed.*", "class_embed.*"},
    {"bbox_embed.*", "bbox_embed.*"},
    {"label_enc.weight", "model.label_embeddings.weight"},
};

/* The names are ours already. */
static const ddi_key_rule same[] = {DDI_NEVER_WANTED, {"*", "*"}};

/* The decoder has the heads, too. */
static const ddi_key_rule copies[] = {{"class_embed.*", "transformer.decoder.class_embed.*"},
                                      {"bbox_embed.*", "transformer.decoder.bbox_embed.*"}};

static const ddi_keymap maps[] = {
    DDI_KEYMAP("dino", "detrdistill", "model.query_content_embeddings.weight", same),
    DDI_KEYMAP_TWICE("dino", "detrex", "transformer.decoder.layers.#.attentions.0.attn.in_proj_weight", dino_detrex, copies,
                     false),
    DDI_KEYMAP_TWICE("dino", "official", "transformer.tgt_embed.weight", dino_official, copies, true),
    DDI_KEYMAP("dino", "mmdet3", "dn_query_generator.label_embedding.weight", dino_mmdet3),
};

/* Biases of zeros for a neck that has none, as renaming makes them; copies of heads that all layers share. */
static bool is_spare(const ddi_model_config *c, const char *name)
{
    static const char neck[] = "model.input_proj.";
    if (strncmp(name, neck, strlen(neck)) == 0 && strcmp(name + sizeof neck, ".0.bias") == 0) {
        return !c->neck_bias;
    }
    const bool class_head = strncmp(name, "class_embed.", 12) == 0, box_head = strncmp(name, "bbox_embed.", 11) == 0;
    char number[16];
    for (int32_t i = 1; i < c->decoder_layers; i++) {
        snprintf(number, sizeof number, ".%d.", i);
        if (strncmp(strchr(name, '.') ? strchr(name, '.') : "", number, strlen(number)) == 0) {
            return (class_head && c->shared_class_head) || (box_head && c->shared_box_head);
        }
    }
    return false;
}

/* ---- config.json */

#define AT(field) offsetof(ddi_model_config, field)
static const ddi_config_key keys[] = {
    {"d_model", DDI_KEY_INT64, AT(d), 256, 1, 8192},
    {"num_queries", DDI_KEY_INT64, AT(queries), 900, 1, DDI_MAX_QUERIES},
    {"num_feature_levels", DDI_KEY_INT32, AT(levels), 4, 3, DDI_MOST_LEVELS},
    {"encoder_layers", DDI_KEY_INT32, AT(encoder_layers), 6, 0, DDI_MOST_LAYERS},
    {"encoder_ffn_dim", DDI_KEY_INT64, AT(encoder_ffn), 2048, 1, 65536},
    {"encoder_attention_heads", DDI_KEY_INT32, AT(encoder_heads), 8, 1, 1024},
    {"encoder_n_points", DDI_KEY_INT32, AT(encoder_points), 4, 1, 64},
    {"decoder_layers", DDI_KEY_INT32, AT(decoder_layers), 6, 1, DDI_MOST_LAYERS},
    {"decoder_ffn_dim", DDI_KEY_INT64, AT(decoder_ffn), 2048, 1, 65536},
    {"decoder_attention_heads", DDI_KEY_INT32, AT(decoder_heads), 8, 1, 1024},
    {"decoder_n_points", DDI_KEY_INT32, AT(decoder_points), 4, 1, 64},
    {"dropout", DDI_KEY_REAL, AT(dropout), 0, 0, 1},
    {"attention_dropout", DDI_KEY_REAL, AT(attention_dropout), 0, 0, 1},
    {"activation_dropout", DDI_KEY_REAL, AT(activation_dropout), 0, 0, 1},
    {"neck_bias", DDI_KEY_FLAG, AT(neck_bias), 0, 0, 1},
    {"shared_class_head", DDI_KEY_FLAG, AT(shared_class_head), 0, 0, 1},
    {"shared_box_head", DDI_KEY_FLAG, AT(shared_box_head), 0, 0, 1},
    {"box_eps", DDI_KEY_REAL, AT(head_eps), 1e-5, 1e-12, 0.1},
    {"position_temperature", DDI_KEY_REAL, AT(position_temperature), 20, 1, 1e6},
    {"position_offset", DDI_KEY_REAL, AT(position_offset), 0, -1, 1},
    {"num_denoising", DDI_KEY_INT32, AT(denoising.number), 100, 0, 1000},
    {"label_noise_ratio", DDI_KEY_REAL, AT(denoising.label_noise), 0.5, 0, 2.001},
    {"box_noise_scale", DDI_KEY_REAL, AT(denoising.box_noise), 1, 0, 10.001},
};

static void read_config(ddi_config_reader *r, ddi_model_config *c)
{
    c->refine = c->two_stage = true;
    c->label_rows = ddi_config_integer(r, "label_rows", c->classes, 1, DDI_MAX_CLASSES + 1);
}

static void write_config(ddi_config_writer *w, const ddi_model_config *c)
{
    ddi_config_put_integer(w, "label_rows", c->label_rows);
    ddi_config_put_flag(w, "with_box_refine", true);
    ddi_config_put_flag(w, "two_stage", true);
}

/* ---- Checkpoints without a configuration */

static bool is_from(const ddi_unsaid *s, const char *convention)
{
    return s->map && strcmp(s->map->convention, convention) == 0;
}

/* The official program has one head for all layers, of which it stores a copy for each. */
static bool is_shared(const dd_tensorfile *file, const ddi_unsaid *s, const ddi_model_config *c, const char *format)
{
    char first[DDI_NAME_BYTES], other[DDI_NAME_BYTES];
    bool shared = !is_from(s, "mmdet3") && !is_from(s, "detrex");
    snprintf(first, sizeof first, format, 0);
    for (int32_t i = 1; shared && i < c->decoder_layers; i++) {
        dd_tensor view;
        snprintf(other, sizeof other, format, i);
        shared = !ddi_file_shape(file, other, 2, &view) || ddi_file_same(file, first, other);
    }
    return shared && c->decoder_layers > 1;
}

static dd_status read_sizes(const dd_tensorfile *file, ddi_model_config *c)
{
    dd_tensor view;
    DDI_TRY(ddi_file_deformable(file, c));
    if (!ddi_file_shape(file, "model.query_content_embeddings.weight", 2, &view)) {
        return ddi_file_lacks("model.query_content_embeddings.weight");
    }
    c->queries = view.shape[0];
    if (!ddi_file_shape(file, "class_embed.0.weight", 2, &view)) {
        return ddi_file_lacks("class_embed.0.weight");
    }
    c->classes = view.shape[0];
    c->label_rows = ddi_file_shape(file, "model.label_embeddings.weight", 2, &view) ? view.shape[0] : c->classes;
    return DD_OK;
}

static dd_status read_tensors(const dd_tensorfile *file, const ddi_unsaid *s, ddi_model_config *c)
{
    DDI_TRY(read_sizes(file, c));
    c->refine = c->two_stage = true;
    DDI_TRY(ddi_file_sampling(file, s->heads, c));
    c->neck_bias = !(is_from(s, "mmdet3") && ddi_file_all_zero(file, "model.input_proj.0.0.bias"));
    c->shared_class_head = is_shared(file, s, c, "class_embed.%d.weight");
    c->shared_box_head = is_shared(file, s, c, "bbox_embed.%d.layers.0.weight");
    c->head_eps = is_from(s, "official") || is_from(s, "detrex") ? 1e-3 : 1e-5;
    c->position_temperature = is_from(s, "detrex") ? 10000 : 20;
    c->position_offset = is_from(s, "detrex") ? -0.5 : 0;
    c->denoising = (ddi_denoising_config){100, 0.5, 1};
    return DD_OK;
}

const ddi_detector_files ddi_dino_files = {
    .maps = maps,
    .map_count = DDI_COUNT(maps),
    .keys = keys,
    .key_count = DDI_COUNT(keys),
    .read_config = read_config,
    .write_config = write_config,
    .read_tensors = read_tensors,
    .is_spare = is_spare,
};
