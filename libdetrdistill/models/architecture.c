/* SPDX-License-Identifier: Apache-2.0
 * Options that describe a model made from nothing. */
#include "base/error.h"
#include "base/families.h"
#include "base/limits.h"
#include "models/model.h"

#include <stdlib.h>
#include <string.h>

/* The names a user gives; 0 and "" mean: as the backbone, or the general option, has it. */
typedef struct architecture {
    ddi_model_settings model;
    int32_t family, backbone, block, refine, two_stage, neck_bias, shared_class_head, shared_box_head;
    int64_t classes, queries, width, levels, encoder_layers, decoder_layers, stem;
    int64_t heads, encoder_heads, decoder_heads, points, encoder_points, decoder_points, ffn, encoder_ffn, decoder_ffn;
    int64_t label_rows, denoising, mixing_groups, in_points, out_points;
    double dropout, attention_dropout, activation_dropout;
    double label_noise, box_noise, box_eps, position_temperature, position_offset;
    char depths[DDI_OPTION_TEXT], widths[DDI_OPTION_TEXT], backbone_weights[DDI_OPTION_TEXT];
} architecture;

#define AT(field) offsetof(architecture, field)

static const ddi_option options[] = {
    {"family", DDI_CHOICE, AT(family), 0, 0, "deformable-detr", DDI_FAMILIES,
     "kind of detector; the defaults below are deformable-detr's"},
    {"backbone", DDI_CHOICE, AT(backbone), 0, 0, "resnet-50", "resnet-18|resnet-50|resnet-101", "where features come from"},
    {"classes", DDI_INT, AT(classes), 1, DDI_MAX_CLASSES, "80", NULL, "classes to tell apart"},
    {"queries", DDI_INT, AT(queries), 1, DDI_MAX_QUERIES, "300", NULL, "most detections of an image"},
    {"refine", DDI_CHOICE, AT(refine), 0, 0, "0", "0|1", "1: each decoder layer refines the boxes of the one before"},
    {"two-stage", DDI_CHOICE, AT(two_stage), 0, 0, "0", "0|1", "1: queries are the encoder's best tokens (needs refine=1)"},
    {"width", DDI_INT, AT(width), 32, 8192, "256", NULL, "channels of neck and transformer"},
    {"levels", DDI_INT, AT(levels), 1, DDI_MOST_LEVELS, "4", NULL, "feature maps: C3, C4, C5 and smaller ones"},
    {"encoder-layers", DDI_INT, AT(encoder_layers), 0, DDI_MOST_LAYERS, "6", NULL, "layers of the encoder"},
    {"decoder-layers", DDI_INT, AT(decoder_layers), 1, DDI_MOST_LAYERS, "6", NULL, "layers (stages) of the decoder"},
    {"heads", DDI_INT, AT(heads), 1, 1024, "8", NULL, "attention heads"},
    {"encoder-heads", DDI_INT, AT(encoder_heads), 0, 1024, "0", NULL, "of the encoder; 0: heads"},
    {"decoder-heads", DDI_INT, AT(decoder_heads), 0, 1024, "0", NULL, "of the decoder; 0: heads"},
    {"points", DDI_INT, AT(points), 1, 64, "4", NULL, "sampling points of a head on a level"},
    {"encoder-points", DDI_INT, AT(encoder_points), 0, 64, "0", NULL, "of the encoder; 0: points"},
    {"decoder-points", DDI_INT, AT(decoder_points), 0, 64, "0", NULL, "of the decoder; 0: points"},
    {"ffn", DDI_INT, AT(ffn), 1, 65536, "1024", NULL, "hidden channels of feed-forward blocks"},
    {"encoder-ffn", DDI_INT, AT(encoder_ffn), 0, 65536, "0", NULL, "of the encoder; 0: ffn"},
    {"decoder-ffn", DDI_INT, AT(decoder_ffn), 0, 65536, "0", NULL, "of the decoder; 0: ffn"},
    {"block", DDI_CHOICE, AT(block), 0, 0, "auto", "auto|basic|bottleneck", "block of the backbone"},
    {"depths", DDI_TEXT, AT(depths), 0, 0, "", NULL, "blocks of each stage of the backbone, e.g. 3,4,6,3"},
    {"widths", DDI_TEXT, AT(widths), 0, 0, "", NULL, "channels that each stage gives, e.g. 256,512,1024,2048"},
    {"stem", DDI_INT, AT(stem), 0, DDI_MAX_CHANNELS, "0", NULL, "channels of the first convolution; 0: 64"},
    {"neck-bias", DDI_CHOICE, AT(neck_bias), 0, 0, "1", "0|1", "0: convolutions of the neck have none, as in mmdetection"},
    {"shared-class-head", DDI_CHOICE, AT(shared_class_head), 0, 0, "0", "0|1", "1: one for all layers, also with refine=1"},
    {"shared-box-head", DDI_CHOICE, AT(shared_box_head), 0, 0, "0", "0|1", "the same of box heads"},
    {"denoising", DDI_INT, AT(denoising), 0, 1000, "100", NULL, "dino: pairs of noisy objects in a training step; 0: none"},
    {"label-noise", DDI_REAL, AT(label_noise), 0, 2, "0.5", NULL, "dino: twice the probability that they get another label"},
    {"box-noise", DDI_REAL, AT(box_noise), 0, 10, "1", NULL, "dino: how far their sides move, in half boxes"},
    {"label-rows", DDI_INT, AT(label_rows), 0, DDI_MAX_CLASSES + 1, "0", NULL, "dino: of the label table; 0: classes"},
    {"box-eps", DDI_REAL, AT(box_eps), 1e-12, 0.1, "1e-5", NULL,
     "dino: least reference that boxes are predicted from (1e-3: as the official program)"},
    {"position-temperature", DDI_REAL, AT(position_temperature), 1, 1e6, "20", NULL, "dino: of the position codes"},
    {"position-offset", DDI_REAL, AT(position_offset), -1, 1, "0", NULL, "dino: of the position codes, in cells"},
    {"groups", DDI_INT, AT(mixing_groups), 1, 1024, "4", NULL, "adamixer: of channels, mixed on their own"},
    {"in-points", DDI_INT, AT(in_points), 1, 1024, "32", NULL, "adamixer: samples of a group"},
    {"out-points", DDI_INT, AT(out_points), 1, 4096, "128", NULL, "adamixer: what they are mixed to"},
    {"dropout", DDI_REAL, AT(dropout), 0, 0.99, "0.1", NULL, "of what each block adds, while training"},
    {"attention-dropout", DDI_REAL, AT(attention_dropout), 0, 0.99, "0.1", NULL, "of attention weights"},
    {"activation-dropout", DDI_REAL, AT(activation_dropout), 0, 0.99, "0.1", NULL, "inside feed-forward blocks"},
    {"backbone-weights", DDI_TEXT, AT(backbone_weights), 0, 0, "", NULL, "file to start the backbone from, where shapes fit"},
    {"dtype", DDI_CHOICE, AT(model.f64), 0, 0, "f32", "f32|f64", "type of parameters and activations"},
    {"training", DDI_CHOICE, AT(model.training), 0, 0, "0", "0|1", "1: dropout draws"},
    {"gradients", DDI_CHOICE, AT(model.gradients), 0, 0, "1", "0|1", "0: no backward pass; activations are given back at once"},
};
const ddi_option_table ddi_architecture_options = {"architecture", options, sizeof options / sizeof options[0]};

/* Four numbers with commas between; "" changes nothing. */
static dd_status read_four(const char *key, const char *text, int64_t most, int64_t out[4])
{
    const char *at = text;
    for (int32_t i = 0; *text && i < 4; i++) {
        char *end;
        out[i] = strtoll(at, &end, 10);
        if (end == at || *end != (i < 3 ? ',' : '\0') || out[i] < 1 || out[i] > most) {
            return ddi_fail(DD_ERR_OPTION, key, "architecture option %s=%.80s: needs four numbers 1 to %lld, commas between",
                            key, text, (long long)most);
        }
        at = end + 1;
    }
    return DD_OK;
}

static dd_status read_backbone(const architecture *a, ddi_resnet_config *c)
{
    static const int32_t depths[] = {18, 50, 101};
    int64_t depth[4];
    ddi_resnet_standard(depths[a->backbone], c);
    c->bottleneck = a->block == 0 ? c->bottleneck : a->block == 2;
    c->stem = a->stem ? a->stem : c->stem;
    for (int32_t s = 0; s < 4; s++) {
        depth[s] = c->depth[s];
    }
    DDI_TRY(read_four("depths", a->depths, 1000, depth));
    for (int32_t s = 0; s < 4; s++) {
        c->depth[s] = (int32_t)depth[s];
    }
    return read_four("widths", a->widths, DDI_MAX_CHANNELS, c->width);
}

static int64_t either(int64_t own, int64_t general)
{
    return own ? own : general;
}

static dd_status translate(const architecture *a, ddi_model_config *c)
{
    *c = (ddi_model_config){.detector = ddi_detectors[a->family],
                            .d = a->width,
                            .encoder_ffn = either(a->encoder_ffn, a->ffn),
                            .decoder_ffn = either(a->decoder_ffn, a->ffn),
                            .queries = a->queries,
                            .classes = a->classes,
                            .levels = (int32_t)a->levels,
                            .encoder_layers = (int32_t)a->encoder_layers,
                            .decoder_layers = (int32_t)a->decoder_layers,
                            .encoder_heads = (int32_t)either(a->encoder_heads, a->heads),
                            .decoder_heads = (int32_t)either(a->decoder_heads, a->heads),
                            .encoder_points = (int32_t)either(a->encoder_points, a->points),
                            .decoder_points = (int32_t)either(a->decoder_points, a->points),
                            .refine = a->refine,
                            .two_stage = a->two_stage,
                            .neck_bias = a->neck_bias,
                            .shared_class_head = a->shared_class_head,
                            .shared_box_head = a->shared_box_head,
                            .dropout = a->dropout,
                            .attention_dropout = a->attention_dropout,
                            .activation_dropout = a->activation_dropout,
                            .position_temperature = a->position_temperature,
                            .position_offset = a->position_offset,
                            .head_eps = a->box_eps,
                            .label_rows = either(a->label_rows, a->classes),
                            .denoising = {(int32_t)a->denoising, a->label_noise, a->box_noise},
                            .mixing_groups = (int32_t)a->mixing_groups,
                            .in_points = (int32_t)a->in_points,
                            .out_points = (int32_t)a->out_points};
    DDI_TRY(read_backbone(a, &c->backbone));
    const char *wrong = ddi_config_complaint(c);
    return wrong ? ddi_fail(DD_ERR_OPTION, NULL, "architecture options: %s", wrong) : DD_OK;
}

/* The family's defaults, then what the user gives: his words are read once more, for the family may be the last of them. */
static dd_status read_words(const char *text, architecture *a)
{
    ddi_options_init(&ddi_architecture_options, a);
    DDI_TRY(ddi_options_parse(&ddi_architecture_options, text, a, NULL));
    const int32_t family = a->family;
    ddi_options_init(&ddi_architecture_options, a);
    DDI_TRY(ddi_options_parse(&ddi_architecture_options, ddi_detectors[family]->defaults, a, NULL));
    return ddi_options_parse(&ddi_architecture_options, text, a, NULL);
}

dd_status ddi_architecture_read(const char *text, ddi_model_settings *settings, ddi_model_config *config, char *weights)
{
    architecture *a = ddi_alloc_zero(NULL, 1, sizeof *a);
    if (!a) {
        return ddi_fail_nomem(sizeof *a, "a model's options");
    }
    dd_status status = read_words(text, a);
    if (status == DD_OK) {
        *settings = a->model;
        memcpy(weights, a->backbone_weights, DDI_OPTION_TEXT);
        status = translate(a, config);
    }
    ddi_free(NULL, a);
    return status;
}
