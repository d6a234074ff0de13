/* SPDX-License-Identifier: Apache-2.0
 * AdaMixer in files: the names that its own program gives the tensors (detectors.md 7.5), what our model calls them,
 * config.json.
 */
#include "base/error.h"
#include "base/limits.h"
#include "models/detector.h"

/* ---- Names */

#define STAGE "roi_head.bbox_head.#."
#define SAMPLING STAGE "sampling_n_mixing."

static const ddi_key_rule mmdet[] = {
    DDI_NEVER_WANTED,
    {"backbone.fc.*", NULL},
    {"backbone.*", DDI_OUR_BACKBONE "*"},
    {"neck.lateral_convs.#.conv.*", "model.input_proj.#.*"},
    {"neck.gn_out.*", "model.input_norm.*"},
    {"rpn_head.init_proposal_bboxes.weight", "model.query_boxes.weight"},
    {"rpn_head.init_content_features.weight", "model.query_embeddings.weight"},
    {STAGE "attention.attn.in_proj_*", DDI_OUR_DECODER "self_attn.{q,k,v}_proj.*"},
    {STAGE "attention.attn.out_proj.*", DDI_OUR_DECODER "self_attn.out_proj.*"},
    {STAGE "attention_norm.*", DDI_OUR_DECODER "self_attn_layer_norm.*"},
    {STAGE "iof_tau", DDI_OUR_DECODER "iof_tau"},
    {SAMPLING "sampling_offset_generator.0.*", DDI_OUR_DECODER "sampling_offsets.*"},
    {SAMPLING "adaptive_mixing.parameter_generator.0.*", DDI_OUR_DECODER "mixing_parameters.*"},
    {SAMPLING "adaptive_mixing.out_proj.*", DDI_OUR_DECODER "mixing_out_proj.*"},
    {SAMPLING "norm.*", DDI_OUR_DECODER "mixing_layer_norm.*"},
    {STAGE "ffn.layers.0.0.*", DDI_OUR_DECODER "fc1.*"},
    {STAGE "ffn.layers.1.*", DDI_OUR_DECODER "fc2.*"},
    {STAGE "ffn_norm.*", DDI_OUR_DECODER "final_layer_norm.*"},
    {STAGE "cls_fcs.0.*", DDI_OUR_DECODER "class_head.fc.*"},
    {STAGE "cls_fcs.1.*", DDI_OUR_DECODER "class_head.layer_norm.*"},
    {STAGE "fc_cls.*", DDI_OUR_DECODER "class_head.out.*"},
    {STAGE "reg_fcs.0.*", DDI_OUR_DECODER "box_head.fc.*"},
    {STAGE "reg_fcs.1.*", DDI_OUR_DECODER "box_head.layer_norm.*"},
    {STAGE "fc_reg.*", DDI_OUR_DECODER "box_head.out.*"},
};

/* The names are ours already. */
static const ddi_key_rule same[] = {DDI_NEVER_WANTED, {"*", "*"}};

static const ddi_keymap maps[] = {
    DDI_KEYMAP("adamixer", "detrdistill", "model.query_boxes.weight", same),
    DDI_KEYMAP("adamixer", "mmdet", "rpn_head.init_content_features.weight", mmdet),
};

/* ---- config.json */

#define AT(field) offsetof(ddi_model_config, field)
static const ddi_config_key keys[] = {
    {"d_model", DDI_KEY_INT64, AT(d), 256, 1, 8192},
    {"num_queries", DDI_KEY_INT64, AT(queries), 100, 1, DDI_MAX_QUERIES},
    {"decoder_layers", DDI_KEY_INT32, AT(decoder_layers), 6, 1, DDI_MOST_LAYERS},
    {"decoder_ffn_dim", DDI_KEY_INT64, AT(decoder_ffn), 2048, 1, 65536},
    {"decoder_attention_heads", DDI_KEY_INT32, AT(decoder_heads), 8, 1, 1024},
    {"mixing_groups", DDI_KEY_INT32, AT(mixing_groups), 4, 1, 1024},
    {"in_points", DDI_KEY_INT32, AT(in_points), 32, 1, 1024},
    {"out_points", DDI_KEY_INT32, AT(out_points), 128, 1, 4096},
    {"dropout", DDI_KEY_REAL, AT(dropout), 0, 0, 1},
    {"attention_dropout", DDI_KEY_REAL, AT(attention_dropout), 0, 0, 1},
    {"activation_dropout", DDI_KEY_REAL, AT(activation_dropout), 0, 0, 1},
};

static void set_fixed(ddi_model_config *c)
{
    c->levels = 4;
    c->encoder_heads = c->decoder_heads;
    c->neck_bias = true;
}

static void read_config(ddi_config_reader *r, ddi_model_config *c)
{
    set_fixed(c);
}

/* ---- Checkpoints without a configuration */

#define FIRST "model.decoder.layers.0."

/* Width c of a group, G groups, i samples and o outputs: a query has 3 G i offsets, G (c^2 + i o) parameters, and o G c numbers
 * that are mixed; G c = d. */
static dd_status read_mixing(const dd_tensorfile *file, ddi_model_config *c)
{
    dd_tensor offsets, parameters, mixed;
    if (!ddi_file_shape(file, FIRST "sampling_offsets.weight", 2, &offsets) ||
        !ddi_file_shape(file, FIRST "mixing_parameters.weight", 2, &parameters) ||
        !ddi_file_shape(file, FIRST "mixing_out_proj.weight", 2, &mixed)) {
        return ddi_file_lacks(FIRST "sampling_offsets.weight, mixing_parameters.weight or mixing_out_proj.weight");
    }
    const int64_t out = mixed.shape[1] / c->d, samples = offsets.shape[0] / 3;
    const bool bounded = out >= 1 && out <= 4096 && samples >= 1 && samples <= 1024 * 1024;
    const int64_t squares = bounded ? parameters.shape[0] - samples * out : 0; /* G c^2 = d^2 / G */
    const int64_t groups = squares > 0 ? c->d * c->d / squares : 0;
    if (groups < 1 || groups > 1024 || samples % groups != 0 || samples / groups > 1024) {
        return ddi_fail(DD_ERR_SHAPE, FIRST "mixing_parameters.weight",
                        "the file's offsets and mixing parameters fit no number of groups");
    }
    c->mixing_groups = (int32_t)groups;
    c->in_points = (int32_t)(samples / groups);
    c->out_points = (int32_t)out;
    return DD_OK;
}

static dd_status read_tensors(const dd_tensorfile *file, const ddi_unsaid *s, ddi_model_config *c)
{
    dd_tensor view;
    DDI_TRY(ddi_file_tables(file, "model.query_embeddings.weight", FIRST "class_head.out.weight", c));
    DDI_TRY(ddi_file_depth(file, c));
    if (!ddi_file_shape(file, FIRST "iof_tau", 1, &view) || view.shape[0] < 1 || view.shape[0] > 1024) {
        return ddi_file_lacks(FIRST "iof_tau");
    }
    c->decoder_heads = (int32_t)view.shape[0];
    set_fixed(c);
    return read_mixing(file, c);
}

const ddi_detector_files ddi_adamixer_files = {
    .maps = maps,
    .map_count = DDI_COUNT(maps),
    .keys = keys,
    .key_count = DDI_COUNT(keys),
    .read_config = read_config,
    .read_tensors = read_tensors,
};
