/* SPDX-License-Identifier: Apache-2.0
 * Deformable DETR: plain, with box refinement, two-stage (detectors.md section 2). */
#include "base/error.h"
#include "models/detector.h"
#include "nn/deformable_encoder.h"
#include "nn/neck.h"
#include "tape/node.h"

#include <math.h>
#include <stdio.h>

#define REFERENCE_EPS 1e-5
enum { GROUPS = 32 };

typedef struct decoder_layer {
    ddi_self_attention self;
    ddi_deformable_attention cross;
    ddi_feed_forward ffn;
} decoder_layer;

typedef struct deformable_detr {
    ddi_neck neck;
    ddi_deformable_encoder encoder;
    ddi_dense reference, encoder_output, position_transform;
    ddi_affine encoder_norm, position_norm;
    ddi_block_config block; /* of the decoder */
    decoder_layer decoder[DDI_MOST_LAYERS];
    ddi_dense class_head[DDI_MOST_LAYERS + 1]; /* one, one for each layer, or one more for the encoder */
    ddi_box_head box_head[DDI_MOST_LAYERS + 1];
} deformable_detr;

/* ---- Parameters */

static void build_queries(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    deformable_detr *m = net->parts;
    const ddi_init normal = {DDI_INIT_NORMAL, 1, 0}, zero = ddi_constant_init(0);
    if (c->two_stage) {
        m->encoder_output = ddi_build_dense(b, "model.", "enc_output", c->d, c->d, DDI_START_XAVIER, NULL);
        m->encoder_norm = ddi_build_norm(b, "model.", "enc_output_norm", c->d);
        m->position_transform = ddi_build_dense(b, "model.", "pos_trans", 2 * c->d, 2 * c->d, DDI_START_XAVIER, NULL);
        m->position_norm = ddi_build_norm(b, "model.", "pos_trans_norm", 2 * c->d);
    } else {
        net->queries =
            ddi_build_param(b, "model.", "query_position_embeddings.weight", normal, DDI_SHAPE(c->queries, 2 * c->d));
        b->group = DDI_GROUP_SAMPLING;
        m->reference = ddi_build_dense(b, "model.", "reference_points", c->d, 2, DDI_START_XAVIER, &zero);
        b->group = DDI_GROUP_MAIN;
    }
}

static void build_decoder(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    deformable_detr *m = net->parts;
    char at[DDI_NAME_BYTES];
    m->block = ddi_config_block(c, false);
    for (int32_t i = 0; i < c->decoder_layers; i++) {
        snprintf(at, sizeof at, "model.decoder.layers.%d.", i);
        ddi_build_self_attention(&m->decoder[i].self, b, at, &m->block);
        ddi_build_deformable_attention(&m->decoder[i].cross, b, at, "encoder_attn", &m->block);
        ddi_build_feed_forward(&m->decoder[i].ffn, b, at, c->d, c->decoder_ffn);
    }
}

static int32_t heads_of(const ddi_model_config *c)
{
    return c->two_stage ? c->decoder_layers + 1 : c->refine ? c->decoder_layers : 1;
}

static int32_t class_heads_of(const ddi_model_config *c)
{
    return c->shared_class_head ? 1 : heads_of(c);
}

static int32_t box_heads_of(const ddi_model_config *c)
{
    return c->shared_box_head ? 1 : heads_of(c);
}

/* The layer's own head, or the one that all share; `layer` = decoder_layers: the encoder's. */
static const ddi_dense *class_head_of(const ddi_net *net, int32_t layer)
{
    const deformable_detr *m = net->parts;
    return &m->class_head[class_heads_of(&net->config) == 1 ? 0 : layer];
}

static const ddi_box_head *box_head_of(const ddi_net *net, int32_t layer)
{
    const deformable_detr *m = net->parts;
    return &m->box_head[box_heads_of(&net->config) == 1 ? 0 : layer];
}

static void build_heads(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    deformable_detr *m = net->parts;
    const char *place = c->two_stage ? "model.decoder." : "";
    const ddi_init prior = ddi_constant_init(-log(99)); /* probability .01 */
    char at[DDI_NAME_BYTES];
    for (int32_t i = 0; i < class_heads_of(c); i++) {
        snprintf(at, sizeof at, "class_embed.%d", i);
        m->class_head[i] = ddi_build_dense(b, place, at, c->d, c->classes, DDI_START_DEFAULT, &prior);
    }
    for (int32_t i = 0; i < box_heads_of(c); i++) {
        const ddi_init size = {DDI_INIT_BOX_SIZE, i == 0 && !c->two_stage ? -2 : 0, 0};
        for (int32_t k = 0; k < 3; k++) {
            snprintf(at, sizeof at, "bbox_embed.%d.layers.%d", i, k);
            m->box_head[i].layer[k] = ddi_build_dense(b, place, at, c->d, k == 2 ? 4 : c->d,
                                                      k == 2 ? DDI_START_ZERO : DDI_START_DEFAULT, k == 2 ? &size : NULL);
        }
    }
}

static const char *complaint(const ddi_model_config *c)
{
    if (c->d % GROUPS != 0 || c->d % c->encoder_heads != 0 || c->d % c->decoder_heads != 0) {
        return "the width is not a multiple of 32 and of the numbers of heads";
    }
    if (c->two_stage && !c->refine) {
        return "two-stage=1 needs refine=1";
    }
    return c->levels < 3 || c->levels > DDI_MOST_LEVELS ? "the levels must be 3 to 8" : NULL;
}

static dd_status build(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    deformable_detr *m = net->parts;
    ddi_build_neck(&m->neck, b, c->levels, c->d, c->backbone.width, c->neck_bias);
    m->encoder.block = ddi_config_block(c, true);
    m->encoder.temperature = 10000;
    m->encoder.offset = -0.5;
    ddi_build_deformable_encoder(&m->encoder, b, c->encoder_layers, c->encoder_ffn);
    build_queries(net, b);
    build_decoder(net, b);
    build_heads(net, b);
    return b->status;
}

/* ---- Queries: a table (2.1), or the best tokens of the encoder (2.3) */

static ddi_value *table_reference(ddi_tape *t, const ddi_net *net, ddi_value *position)
{
    const deformable_detr *m = net->parts;
    return ddi_sigmoid(t, ddi_run_dense(t, &m->reference, position));
}

static ddi_query_values table_queries(ddi_tape *t, const ddi_net *net, int64_t B)
{
    const int64_t d = net->config.d;
    ddi_value *table = ddi_param_value(t, net->queries);
    ddi_query_values q;
    q.position = ddi_repeat_columns(t, table, B, 0, d);
    q.content = ddi_repeat_columns(t, table, B, d, d);
    q.reference = table_reference(t, net, q.position);
    return q;
}

static ddi_query_values token_queries(ddi_tape *t, const ddi_net *net, const ddi_level_masks *masks, ddi_detections *out)
{
    static const int32_t order[] = {0, 1, 2, 3};
    const ddi_model_config *c = &net->config;
    const deformable_detr *m = net->parts;
    const int32_t head = c->decoder_layers;
    const int64_t B = out->encoder->shape[0];
    if (t->status == DD_OK && out->levels.tokens < c->queries) {
        ddi_tape_fail(t, ddi_fail(DD_ERR_SHAPE, "pixels",
                                  "the pictures give %lld tokens, of which the model takes %lld as queries",
                                  (long long)out->levels.tokens, (long long)c->queries));
        return (ddi_query_values){&t->nothing, &t->nothing, &t->nothing};
    }
    ddi_value *drop, *box = ddi_proposals(t, &out->levels, B, masks->valid, &drop);
    ddi_value *memory = ddi_run_dense(t, &m->encoder_output, ddi_mask_rows(t, out->encoder, drop));
    memory = ddi_layernorm(t, memory, NULL, m->encoder_norm.gamma, m->encoder_norm.beta, 0);
    t->part = DDI_PART_HEADS;
    out->proposal_logits = ddi_run_dense(t, class_head_of(net, head), memory);
    out->proposals = ddi_plus(t, ddi_run_box_head(t, box_head_of(net, head), memory), box);
    out->proposal_boxes = ddi_sigmoid(t, out->proposals);
    t->part = DDI_PART_DECODER;
    out->top = ddi_top_rows(t, out->proposal_logits, c->queries);
    ddi_query_values q;
    q.reference = ddi_sigmoid(t, ddi_take_rows(t, ddi_detach(t, out->proposals), out->top, c->queries));
    ddi_value *code = ddi_coord_embed(t, q.reference, (int32_t)(c->d / 2), order, 2 * M_PI);
    code = ddi_layernorm(t, ddi_run_dense(t, &m->position_transform, code), NULL, m->position_norm.gamma, m->position_norm.beta,
                         0);
    ddi_value *rows = ddi_view(t, code, 0, DDI_SHAPE(B * c->queries, 2 * c->d));
    q.position = ddi_repeat_columns(t, rows, 1, 0, c->d);
    q.content = ddi_repeat_columns(t, rows, 1, c->d, c->d);
    q.position = ddi_view(t, q.position, 0, DDI_SHAPE(B, c->queries, c->d));
    q.content = ddi_view(t, q.content, 0, DDI_SHAPE(B, c->queries, c->d));
    return q;
}

/* ---- Decoder and heads */

/* Queries on their way through the decoder, and where their outputs go. */
typedef struct query_group {
    ddi_query_values start;
    ddi_value *x, *reference;
    ddi_value *logits, *boxes; /* of all layers */
    uint32_t stream;           /* of dropout */
} query_group;

/* Logits and boxes of a layer, written into their stage of the group's. */
static ddi_value *run_heads(ddi_tape *t, const ddi_net *net, int32_t layer, const query_group *g)
{
    const ddi_model_config *c = &net->config;
    const ddi_dense *class_head = class_head_of(net, layer);
    const int64_t B = g->x->shape[0], N = g->x->shape[1];
    t->part = DDI_PART_HEADS;
    ddi_value *logits = ddi_view(t, g->logits, layer * B * N * c->classes, DDI_SHAPE(B, N, c->classes));
    ddi_value *boxes = ddi_view(t, g->boxes, layer * B * N * 4, DDI_SHAPE(B, N, 4));
    ddi_linear(t, g->x, class_head->w, class_head->b, false, logits);
    ddi_box_refine(t, ddi_run_box_head(t, box_head_of(net, layer), g->x), g->reference, REFERENCE_EPS, boxes);
    t->part = DDI_PART_DECODER;
    return boxes;
}

static query_group make_group(ddi_tape *t, const ddi_model_config *c, ddi_query_values q, uint32_t stream)
{
    const int64_t L = c->decoder_layers, B = q.content->shape[0], N = q.content->shape[1];
    return (query_group){.start = q,
                         .x = q.content,
                         .reference = q.reference,
                         .logits = ddi_new(t, DDI_SHAPE(L, B, N, c->classes)),
                         .boxes = ddi_new(t, DDI_SHAPE(L, B, N, 4)),
                         .stream = stream};
}

static void run_layer(ddi_tape *t, const ddi_net *net, int32_t layer, query_group *g, ddi_value *values,
                      const ddi_msda_spec *grid)
{
    const ddi_model_config *c = &net->config;
    const deformable_detr *m = net->parts;
    ddi_scope scope = ddi_scope_begin(t);
    t->stream = g->stream;
    g->x = ddi_run_self_attention(t, &m->decoder[layer].self, &m->block, g->x, g->start.position, NULL);
    g->x = ddi_run_sampling(t, &m->decoder[layer].cross, &m->block, g->x, g->start.position, values, g->reference, grid);
    g->x = ddi_run_feed_forward(t, &m->decoder[layer].ffn, &m->block, g->x);
    ddi_value *boxes = run_heads(t, net, layer, g);
    if (c->refine || c->two_stage) {
        g->reference = ddi_detach(t, boxes);
    }
    g->stream = t->stream;
    ddi_value *keep[] = {g->x, g->reference};
    ddi_scope_end(t, scope, 2, keep);
}

/* All groups layer by layer, so that they share a layer's values of the tokens. */
static void run_decoder(ddi_tape *t, const ddi_net *net, query_group *group, int32_t groups, const ddi_level_masks *masks,
                        ddi_detections *out)
{
    const ddi_model_config *c = &net->config;
    const deformable_detr *m = net->parts;
    const ddi_msda_spec grid = {&out->levels, masks->ratio, masks->padding, c->decoder_heads, c->decoder_points};
    for (int32_t i = 0; i < c->decoder_layers; i++) {
        ddi_scope scope = ddi_scope_begin(t);
        ddi_value *values = ddi_run_attention_values(t, &m->decoder[i].cross, out->encoder), *keep[4];
        for (int32_t g = 0; g < groups; g++) {
            run_layer(t, net, i, &group[g], values, &grid);
            keep[2 * g] = group[g].x;
            keep[2 * g + 1] = group[g].reference;
        }
        ddi_scope_end(t, scope, 2 * groups, keep);
        out->layer[i] = group[0].x;
        out->refined[i] = c->refine || c->two_stage ? group[0].reference : NULL;
    }
    out->logits = group[0].logits;
    out->boxes = group[0].boxes;
    if (groups > 1) {
        out->group_logits = group[1].logits;
        out->group_boxes = group[1].boxes;
    }
}

static void forward(ddi_tape *t, const ddi_net *net, const ddi_model_input *in, ddi_detections *out)
{
    const ddi_model_config *c = &net->config;
    const deformable_detr *m = net->parts;
    const int64_t B = in->image->shape[0];
    ddi_query_values other = {0};
    query_group group[2];
    int32_t groups = 1;
    *out = (ddi_detections){.levels = {0}};
    ddi_resnet_forward(t, &net->backbone, in->image, out->stage);
    out->features = ddi_run_neck(t, &m->neck, out->stage, &out->levels);
    if (t->status != DD_OK) {
        return;
    }
    const ddi_level_masks masks = ddi_make_masks(t, &out->levels, in->image, in->sizes);
    out->ratio = masks.ratio;
    out->encoder = ddi_run_deformable_encoder(t, &m->encoder, out->features, &out->levels, &masks);
    t->part = DDI_PART_DECODER;
    out->queries = c->two_stage ? token_queries(t, net, &masks, out) : table_queries(t, net, B);
    out->reference = out->queries.reference;
    group[0] = make_group(t, c, out->queries, t->stream);
    if (in->group && in->group(t, in->group_arg, B, &other)) {
        other.reference = other.reference ? other.reference : table_reference(t, net, other.position);
        group[groups++] = make_group(t, c, other, DDI_SECOND_STREAMS);
    }
    run_decoder(t, net, group, groups, &masks, out);
}

/* ---- The family */

static int32_t position_column(const ddi_model_config *c)
{
    return c->two_stage ? -1 : 0;
}

static int32_t content_column(const ddi_model_config *c)
{
    return c->two_stage ? -1 : (int32_t)c->d;
}

static bool reads_image(const ddi_model_config *c)
{
    return c->two_stage;
}

static const ddi_part_name part_names[] = {
    {"model.backbone.", DDI_PART_BACKBONE},
    {"model.input_proj.", DDI_PART_NECK},
    {"model.encoder.", DDI_PART_ENCODER},
    {"model.decoder.layers.", DDI_PART_DECODER},
    {"model.decoder.class_embed.", DDI_PART_HEADS},
    {"model.decoder.bbox_embed.", DDI_PART_HEADS},
    {"class_embed.", DDI_PART_HEADS},
    {"bbox_embed.", DDI_PART_HEADS},
};

const ddi_detector ddi_deformable_detr = {
    .name = "deformable-detr",
    .type = "deformable_detr",
    .architecture = "DeformableDetrForObjectDetection",
    .auxiliary_loss = true,
    .defaults = "",
    .bytes = sizeof(deformable_detr),
    .part_names = part_names,
    .part_name_count = (int32_t)(sizeof part_names / sizeof part_names[0]),
    .position_column = position_column,
    .content_column = content_column,
    .reads_image = reads_image,
    .first_stride = 8,
    .complaint = complaint,
    .build = build,
    .forward = forward,
    .files = &ddi_deformable_detr_files,
};
