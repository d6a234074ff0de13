/* SPDX-License-Identifier: Apache-2.0
 * Deformable DETR in files: the names that programs give its tensors (detectors.md 7.3), what our own model calls them
 * (transformers' names), config.json. */
#include "base/error.h"
#include "base/limits.h"
#include "models/detector.h"
#include "tensor/tensor.h"

#include <stdio.h>
#include <string.h>

/* ---- Names of other programs */

static const ddi_key_rule deformable_official[] = {
    DDI_NEVER_WANTED,
    {"backbone.0.body.fc.*", NULL},
    {"backbone.0.body.*", DDI_OUR_BACKBONE "*"},
    {"input_proj.*", "model.input_proj.*"},
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
    DDI_NEVER_WANTED, {"backbone.fc.*", NULL}, {"backbone.*", DDI_OUR_BACKBONE "*"},                                           \
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
    {MMDET2 "encoder.layers.#.attentions.0.*", DDI_OUR_ENCODER "self_attn.*"},
    {MMDET2 "encoder.layers.#.norms.0.*", DDI_OUR_ENCODER "self_attn_layer_norm.*"},
    {MMDET2 "encoder.layers.#.ffns.0.layers.0.0.*", DDI_OUR_ENCODER "fc1.*"},
    {MMDET2 "encoder.layers.#.ffns.0.layers.1.*", DDI_OUR_ENCODER "fc2.*"},
    {MMDET2 "encoder.layers.#.norms.1.*", DDI_OUR_ENCODER "final_layer_norm.*"},
    {MMDET2 "decoder.layers.#.attentions.0.attn.in_proj_*", DDI_OUR_DECODER "self_attn.{q,k,v}_proj.*"},
    {MMDET2 "decoder.layers.#.attentions.0.attn.out_proj.*", DDI_OUR_DECODER "self_attn.out_proj.*"},
    {MMDET2 "decoder.layers.#.norms.0.*", DDI_OUR_DECODER "self_attn_layer_norm.*"},
    {MMDET2 "decoder.layers.#.attentions.1.*", DDI_OUR_DECODER "encoder_attn.*"},
    {MMDET2 "decoder.layers.#.norms.1.*", DDI_OUR_DECODER "encoder_attn_layer_norm.*"},
    {MMDET2 "decoder.layers.#.ffns.0.layers.0.0.*", DDI_OUR_DECODER "fc1.*"},
    {MMDET2 "decoder.layers.#.ffns.0.layers.1.*", DDI_OUR_DECODER "fc2.*"},
    {MMDET2 "decoder.layers.#.norms.2.*", DDI_OUR_DECODER "final_layer_norm.*"},
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
    {"level_embed", "model.level_embed"},
    {"reference_points_fc.*", "model.reference_points.*"},
    {"memory_trans_fc.*", "model.enc_output.*"},
    {"memory_trans_norm.*", "model.enc_output_norm.*"},
    {"pos_trans_fc.*", "model.pos_trans.*"},
    {"pos_trans_norm.*", "model.pos_trans_norm.*"},
    {"query_embedding.weight", "model.query_position_embeddings.weight"},
};

/* The names are ours already. */
static const ddi_key_rule same[] = {DDI_NEVER_WANTED, {"*", "*"}};

static const ddi_keymap maps[] = {
    DDI_KEYMAP("deformable_detr", "huggingface", "model.level_embed", same),
    DDI_KEYMAP("deformable_detr", "official", "transformer.level_embed", deformable_official),
    DDI_KEYMAP("deformable_detr", "mmdet2", "bbox_head.transformer.level_embeds", deformable_mmdet2),
    DDI_KEYMAP("deformable_detr", "mmdet3", "level_embed", deformable_mmdet3),
};

/* ---- transformers' folders: one tensor under several names */

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

static bool is_head(const char *name)
{
    return begins(name, "class_embed.") || begins(name, "bbox_embed.");
}

static const char under_decoder[] = "model.decoder.";

/* A head may be stored under the decoder, or not. */
static bool other_name(const char *name, char *other, size_t size)
{
    const size_t length = strlen(under_decoder);
    const bool under = begins(name, under_decoder) && is_head(name + length);
    if (!under && !is_head(name)) {
        return false;
    }
    snprintf(other, size, "%s%s", under ? "" : under_decoder, under ? name + length : name);
    return true;
}

/* transformers has biases in the neck whatever the configuration; where ours has none they are zeros in the file. */
static bool is_neck_bias(const char *name)
{
    static const char prefix[] = "model.input_proj.";
    return begins(name, prefix) && strcmp(name + sizeof prefix, ".0.bias") == 0;
}

/* Copies of heads of layers that there are. */
static bool is_spare(const ddi_model_config *c, const char *name)
{
    char number[16];
    const char *head = begins(name, under_decoder) ? name + strlen(under_decoder) : name;
    if (is_neck_bias(name)) {
        return !c->neck_bias;
    }
    for (int32_t i = 0; is_head(head) && i <= c->decoder_layers; i++) {
        snprintf(number, sizeof number, "%d.", i);
        if (begins(strchr(head, '.') + 1, number)) {
            return true;
        }
    }
    return false;
}

/* In transformers the decoder of refining models has the heads, too: both names are stored, as in the files of its hub. */
static dd_status save_copy(const ddi_model_config *c, dd_tensorfile *file, const char *name, const dd_tensor *view)
{
    char other[DDI_NAME_BYTES];
    const bool wanted = begins(name, under_decoder) || (c->refine && begins(name, "bbox_embed."));
    return wanted && other_name(name, other, sizeof other) ? dd_tensorfile_set(file, other, view) : DD_OK;
}

/* Biases of zeros for a neck that has none. */
static dd_status save_more(const ddi_net *net, dd_context *context, int32_t dtype, dd_tensorfile *file)
{
    const ddi_model_config *c = &net->config;
    const size_t element = (size_t)dd_dtype_size(dtype);
    if (c->neck_bias) {
        return DD_OK;
    }
    void *zeros = ddi_alloc_zero(&context->allocator, (size_t)c->d, element);
    dd_status status = zeros ? DD_OK : ddi_fail_nomem((uint64_t)c->d * element, "biases");
    for (int32_t l = 0; l < c->levels && status == DD_OK; l++) {
        char name[DDI_NAME_BYTES];
        dd_tensor view;
        snprintf(name, sizeof name, "model.input_proj.%d.0.bias", l);
        status = dd_tensor_init(&view, zeros, dtype, 1, &c->d, NULL, DD_DEVICE_CPU, 0, 0);
        status = status == DD_OK ? dd_tensorfile_set(file, name, &view) : status;
    }
    ddi_free(&context->allocator, zeros);
    return status;
}

static bool has_head(const dd_tensorfile *file, const char *head)
{
    char under[DDI_NAME_BYTES];
    dd_tensor view;
    snprintf(under, sizeof under, "%s%s", under_decoder, head);
    return ddi_file_shape(file, head, 2, &view) || ddi_file_shape(file, under, 2, &view);
}

/* transformers 5 ties the class heads of refining models unless the configuration says otherwise: the file tells. */
static void read_shared_heads(const dd_tensorfile *file, ddi_model_config *c)
{
    c->shared_class_head = has_head(file, "class_embed.0.weight") && !has_head(file, "class_embed.1.weight");
    c->shared_box_head = has_head(file, "bbox_embed.0.layers.0.weight") && !has_head(file, "bbox_embed.1.layers.0.weight");
}

/* ---- config.json */

#define AT(field) offsetof(ddi_model_config, field)
static const ddi_config_key keys[] = {
    {"d_model", DDI_KEY_INT64, AT(d), 256, 1, 8192},
    {"num_feature_levels", DDI_KEY_INT32, AT(levels), 4, 3, DDI_MOST_LEVELS},
    {"encoder_layers", DDI_KEY_INT32, AT(encoder_layers), 6, 0, DDI_MOST_LAYERS},
    {"encoder_ffn_dim", DDI_KEY_INT64, AT(encoder_ffn), 1024, 1, 65536},
    {"encoder_attention_heads", DDI_KEY_INT32, AT(encoder_heads), 8, 1, 1024},
    {"encoder_n_points", DDI_KEY_INT32, AT(encoder_points), 4, 1, 64},
    {"decoder_layers", DDI_KEY_INT32, AT(decoder_layers), 6, 1, DDI_MOST_LAYERS},
    {"decoder_ffn_dim", DDI_KEY_INT64, AT(decoder_ffn), 1024, 1, 65536},
    {"decoder_attention_heads", DDI_KEY_INT32, AT(decoder_heads), 8, 1, 1024},
    {"decoder_n_points", DDI_KEY_INT32, AT(decoder_points), 4, 1, 64},
    {"dropout", DDI_KEY_REAL, AT(dropout), 0, 0, 1},
    {"attention_dropout", DDI_KEY_REAL, AT(attention_dropout), 0, 0, 1},
    {"activation_dropout", DDI_KEY_REAL, AT(activation_dropout), 0, 0, 1},
    {"with_box_refine", DDI_KEY_FLAG, AT(refine), 0, 0, 1},
    {"two_stage", DDI_KEY_FLAG, AT(two_stage), 0, 0, 1},
};

static void read_config(ddi_config_reader *r, ddi_model_config *c)
{
    c->queries = ddi_config_integer(r, c->two_stage ? "two_stage_num_proposals" : "num_queries", 300, 1, DDI_MAX_QUERIES);
    c->neck_bias = ddi_config_flag(r, "neck_bias", true);
}

static void write_config(ddi_config_writer *w, const ddi_model_config *c)
{
    ddi_config_put_integer(w, "num_queries", c->queries);
    ddi_config_put_integer(w, "two_stage_num_proposals", c->queries);
    /* Tied or not: what the file holds is what the layers get. */
    ddi_config_put_flag(w, "tie_word_embeddings", c->shared_class_head || !(c->refine || c->two_stage));
    if (!c->neck_bias) {
        ddi_config_put_flag(w, "neck_bias", false);
    }
}

/* ---- Checkpoints without a configuration */

static bool find_head(const dd_tensorfile *file, const char *head, dd_tensor *view)
{
    char under[DDI_NAME_BYTES];
    snprintf(under, sizeof under, "model.decoder.%s", head);
    return ddi_file_shape(file, head, 2, view) || ddi_file_shape(file, under, 2, view);
}

/* Layers without refinement share a head, of which programs store a copy for each. */
static bool heads_differ(const dd_tensorfile *file)
{
    dd_tensor first, second;
    return find_head(file, "bbox_embed.0.layers.0.weight", &first) &&
           find_head(file, "bbox_embed.1.layers.0.weight", &second) && !ddi_same_bytes(&first, &second);
}

static dd_status read_heads(const dd_tensorfile *file, const ddi_unsaid *s, ddi_model_config *c)
{
    dd_tensor view;
    if (!find_head(file, "class_embed.0.weight", &view)) {
        return ddi_file_lacks("class_embed.0.weight");
    }
    c->classes = view.shape[0];
    c->refine = s->refine == 1 ? true : s->refine == 2 ? false : c->two_stage || heads_differ(file);
    return ddi_file_sampling(file, s->heads, c);
}

static dd_status read_tensors(const dd_tensorfile *file, const ddi_unsaid *s, ddi_model_config *c)
{
    dd_tensor view;
    DDI_TRY(ddi_file_deformable(file, c));
    c->two_stage = ddi_file_shape(file, "model.enc_output.weight", 2, &view);
    c->queries = ddi_file_shape(file, "model.query_position_embeddings.weight", 2, &view) ? view.shape[0] : s->queries;
    DDI_TRY(read_heads(file, s, c));
    c->neck_bias =
        !(s->map && strncmp(s->map->convention, "mmdet", 5) == 0 && ddi_file_all_zero(file, "model.input_proj.0.0.bias"));
    c->dropout = c->attention_dropout = c->activation_dropout = 0.1;
    read_shared_heads(file, c);
    return DD_OK;
}

const ddi_detector_files ddi_deformable_detr_files = {
    .maps = maps,
    .map_count = DDI_COUNT(maps),
    .keys = keys,
    .key_count = DDI_COUNT(keys),
    .read_config = read_config,
    .write_config = write_config,
    .read_folder = read_shared_heads,
    .read_tensors = read_tensors,
    .other_name = other_name,
    .is_spare = is_spare,
    .save_copy = save_copy,
    .save_more = save_more,
};
