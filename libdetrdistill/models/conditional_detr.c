/* SPDX-License-Identifier: Apache-2.0
 * Conditional DETR (detectors.md section 3). */
#include "base/error.h"
#include "models/detector.h"
#include "nn/detr_encoder.h"
#include "tape/node.h"

#include <math.h>
#include <stdio.h>

#define REFERENCE_EPS 1e-5

/* Queries and keys are sums of a content's and a position's projection, .. */
typedef struct self_attention {
    ddi_dense q_content, q_position, k_content, k_position, v, out;
    ddi_affine norm;
} self_attention;

/* .. or the two side by side, head by head. */
typedef struct cross_attention {
    ddi_dense q_content, q_sine, k_content, k_position, v, out;
    ddi_dense q_position; /* in the first layer, w NULL in others */
    ddi_affine norm;
} cross_attention;

typedef struct decoder_layer {
    self_attention self;
    cross_attention cross;
    ddi_feed_forward ffn;
} decoder_layer;

typedef struct conditional_detr {
    ddi_param *projection, *projection_bias;
    ddi_detr_encoder encoder;
    ddi_mlp reference, scale;
    ddi_block_config block; /* of the decoder */
    decoder_layer decoder[DDI_MOST_LAYERS];
    ddi_affine norm;
    ddi_dense class_head;
    ddi_mlp box_head;
} conditional_detr;

/* ---- Parameters */

static void build_projection(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    conditional_detr *m = net->parts;
    const int64_t in = c->backbone.width[3];
    const ddi_init start = {DDI_INIT_UNIFORM, 1 / sqrt((double)in), 0};
    m->projection = ddi_build_param(b, "model.", "input_projection.weight", start, DDI_SHAPE(c->d, in, 1, 1));
    m->projection_bias = ddi_build_param(b, "model.", "input_projection.bias", start, DDI_SHAPE(c->d));
}

static ddi_dense build_square(ddi_build *b, const char *layer, const char *name, int64_t d)
{
    return ddi_build_dense(b, layer, name, d, d, DDI_START_XAVIER, NULL);
}

static void build_self_attention(self_attention *a, ddi_build *b, const char *layer, int64_t d)
{
    const ddi_init zero = ddi_constant_init(0);
    a->q_content = build_square(b, layer, "sa_qcontent_proj", d);
    a->q_position = build_square(b, layer, "sa_qpos_proj", d);
    a->k_content = build_square(b, layer, "sa_kcontent_proj", d);
    a->k_position = build_square(b, layer, "sa_kpos_proj", d);
    a->v = build_square(b, layer, "sa_v_proj", d);
    a->out = ddi_build_dense(b, layer, "self_attn.out_proj", d, d, DDI_START_XAVIER, &zero);
    a->norm = ddi_build_norm(b, layer, "self_attn_layer_norm", d);
}

static void build_cross_attention(cross_attention *a, ddi_build *b, const char *layer, int64_t d, bool first)
{
    const ddi_init zero = ddi_constant_init(0);
    a->q_content = build_square(b, layer, "ca_qcontent_proj", d);
    if (first) {
        a->q_position = build_square(b, layer, "ca_qpos_proj", d);
    }
    a->k_content = build_square(b, layer, "ca_kcontent_proj", d);
    a->k_position = build_square(b, layer, "ca_kpos_proj", d);
    a->v = build_square(b, layer, "ca_v_proj", d);
    a->q_sine = build_square(b, layer, "ca_qpos_sine_proj", d);
    a->out = ddi_build_dense(b, layer, "encoder_attn.out_proj", d, d, DDI_START_XAVIER, &zero);
    a->norm = ddi_build_norm(b, layer, "encoder_attn_layer_norm", d);
}

static void build_decoder(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    conditional_detr *m = net->parts;
    char at[DDI_NAME_BYTES];
    m->block = ddi_config_block(c, false);
    for (int32_t i = 0; i < c->decoder_layers; i++) {
        snprintf(at, sizeof at, "model.decoder.layers.%d.", i);
        build_self_attention(&m->decoder[i].self, b, at, c->d);
        build_cross_attention(&m->decoder[i].cross, b, at, c->d, i == 0);
        ddi_build_feed_forward(&m->decoder[i].ffn, b, at, c->d, c->decoder_ffn);
    }
    const int64_t square[] = {c->d, c->d, c->d}, place[] = {c->d, c->d, 2};
    m->norm = ddi_build_norm(b, "model.decoder.", "layernorm", c->d);
    ddi_build_mlp(&m->scale, b, "model.decoder.", "query_scale", 2, square, DDI_START_XAVIER, NULL);
    ddi_build_mlp(&m->reference, b, "model.decoder.", "ref_point_head", 2, place, DDI_START_XAVIER, NULL);
}

static void build_heads(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    conditional_detr *m = net->parts;
    const ddi_init prior = ddi_constant_init(-log(99)), zero = ddi_constant_init(0); /* probability .01 */
    const int64_t width[] = {c->d, c->d, c->d, 4};
    m->class_head = ddi_build_dense(b, "", "class_labels_classifier", c->d, c->classes, DDI_START_DEFAULT, &prior);
    ddi_build_mlp(&m->box_head, b, "", "bbox_predictor", 3, width, DDI_START_DEFAULT, &zero);
}

static const char *complaint(const ddi_model_config *c)
{
    if (c->d % 4 != 0 || c->d % c->encoder_heads != 0 || c->d % c->decoder_heads != 0) {
        return "the width is not a multiple of 4 and of the numbers of heads";
    }
    if (c->refine || c->two_stage) {
        return "Conditional DETR has no refine=1 and no two-stage=1";
    }
    if (!c->neck_bias) {
        return "the projection of Conditional DETR has a bias (neck-bias=1)";
    }
    return c->levels != 1 ? "Conditional DETR has one level (levels=1)" : NULL;
}

static dd_status build(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    conditional_detr *m = net->parts;
    const ddi_init normal = {DDI_INIT_NORMAL, 1, 0};
    build_projection(net, b);
    m->encoder.block = ddi_config_block(c, true);
    ddi_build_detr_encoder(&m->encoder, b, c->encoder_layers, c->encoder_ffn);
    net->queries = ddi_build_param(b, "model.", "query_position_embeddings.weight", normal, DDI_SHAPE(c->queries, c->d));
    build_decoder(net, b);
    build_heads(net, b);
    return b->status;
}

/* ---- Queries */

/* Queries on their way through the decoder, and where their outputs go. */
typedef struct query_group {
    ddi_query_values start;
    ddi_value *sine;           /* code of the reference, (y,x) */
    ddi_value *x, *normed;     /* of the last layer so far; normed is what heads read */
    ddi_value *logits, *boxes; /* of all layers */
    uint32_t stream;           /* of dropout */
} query_group;

static ddi_value *zeros(ddi_tape *t, ddi_value *like)
{
    ddi_value *v = ddi_new(t, like->ndim, like->shape);
    if (t->status == DD_OK && !t->dry) {
        ddi_tape_fail(t, ddi_zero(t->exec, v->data, (size_t)v->count * t->element));
    }
    return v;
}

/* position: where the queries are; what else is NULL the model makes of it. */
static query_group make_group(ddi_tape *t, const ddi_net *net, ddi_query_values q, uint32_t stream)
{
    static const int32_t y_first[] = {1, 0};
    const ddi_model_config *c = &net->config;
    const conditional_detr *m = net->parts;
    const int64_t L = c->decoder_layers, B = q.position->shape[0], N = q.position->shape[1];
    q.content = q.content ? q.content : zeros(t, q.position);
    q.reference = q.reference ? q.reference : ddi_sigmoid(t, ddi_run_mlp(t, &m->reference, q.position));
    return (query_group){.start = q,
                         .sine = ddi_coord_embed(t, q.reference, (int32_t)(c->d / 2), y_first, 2 * M_PI),
                         .x = q.content,
                         .logits = ddi_new(t, DDI_SHAPE(L, B, N, c->classes)),
                         .boxes = ddi_new(t, DDI_SHAPE(L, B, N, 4)),
                         .stream = stream};
}

/* ---- Decoder and heads */

/* The counting rule leaves attention's output projection out. */
static ddi_value *attend(ddi_tape *t, const ddi_dense *out, ddi_value *q, ddi_value *k, ddi_value *v,
                         const ddi_attention_spec *spec)
{
    ddi_value *y = ddi_attention(t, q, k, v, spec);
    const double counted = t->cost[t->part].counted;
    y = ddi_run_dense(t, out, y);
    t->cost[t->part].counted = counted;
    return y;
}

static ddi_value *run_self_attention(ddi_tape *t, const self_attention *a, const ddi_block_config *c, ddi_value *x,
                                     ddi_value *position)
{
    const ddi_attention_spec spec = {
        .heads = c->heads, .scale = 1 / sqrt((double)c->d / c->heads), .dropout = c->attention_dropout};
    ddi_scope scope = ddi_scope_begin(t);
    ddi_value *q = ddi_plus(t, ddi_run_dense(t, &a->q_content, x), ddi_run_dense(t, &a->q_position, position));
    ddi_value *k = ddi_plus(t, ddi_run_dense(t, &a->k_content, x), ddi_run_dense(t, &a->k_position, position));
    ddi_value *y = attend(t, &a->out, q, k, ddi_run_dense(t, &a->v, x), &spec);
    y = ddi_layernorm(t, x, y, a->norm.gamma, a->norm.beta, c->dropout);
    ddi_scope_end(t, scope, 1, &y);
    return y;
}

/* What a layer's queries read of the tokens: the same for all groups. */
typedef struct token_keys {
    ddi_value *keys, *values, *padding;
} token_keys;

static token_keys make_keys(ddi_tape *t, const cross_attention *a, const ddi_block_config *c, ddi_value *tokens,
                            ddi_value *position, ddi_value *padding)
{
    token_keys k = {.padding = padding};
    ddi_scope scope = ddi_scope_begin(t);
    ddi_value *content = ddi_run_dense(t, &a->k_content, tokens), *place = ddi_run_dense(t, &a->k_position, position);
    if (a->q_position.w) {
        content = ddi_plus(t, content, place);
    }
    k.keys = ddi_join_heads(t, content, place, c->heads);
    k.values = ddi_run_dense(t, &a->v, tokens);
    ddi_value *keep[] = {k.keys, k.values};
    ddi_scope_end(t, scope, 2, keep);
    return k;
}

/* sine: the reference's code, scaled by what the layer before knows. */
static ddi_value *run_cross_attention(ddi_tape *t, const cross_attention *a, const ddi_block_config *c, ddi_value *x,
                                      ddi_value *position, ddi_value *sine, const token_keys *from)
{
    const ddi_attention_spec spec = {.key_padding = from->padding,
                                     .heads = c->heads,
                                     .scale = 1 / sqrt(2 * (double)c->d / c->heads),
                                     .dropout = c->attention_dropout};
    ddi_scope scope = ddi_scope_begin(t);
    ddi_value *q = ddi_run_dense(t, &a->q_content, x);
    if (a->q_position.w) {
        q = ddi_plus(t, q, ddi_run_dense(t, &a->q_position, position));
    }
    q = ddi_join_heads(t, q, ddi_run_dense(t, &a->q_sine, sine), c->heads);
    ddi_value *y = attend(t, &a->out, q, from->keys, from->values, &spec);
    y = ddi_layernorm(t, x, y, a->norm.gamma, a->norm.beta, c->dropout);
    ddi_scope_end(t, scope, 1, &y);
    return y;
}

/* Logits and boxes of a layer, written into their stage of the group's. */
static void run_heads(ddi_tape *t, const ddi_net *net, int32_t layer, const query_group *g)
{
    const conditional_detr *m = net->parts;
    const int64_t B = g->x->shape[0], N = g->x->shape[1], K = net->config.classes;
    t->part = DDI_PART_HEADS;
    ddi_value *logits = ddi_view(t, g->logits, layer * B * N * K, DDI_SHAPE(B, N, K));
    ddi_value *boxes = ddi_view(t, g->boxes, layer * B * N * 4, DDI_SHAPE(B, N, 4));
    ddi_linear(t, g->normed, m->class_head.w, m->class_head.b, false, logits);
    ddi_box_refine(t, ddi_run_mlp(t, &m->box_head, g->normed), g->start.reference, REFERENCE_EPS, boxes);
    t->part = DDI_PART_DECODER;
}

static void run_layer(ddi_tape *t, const ddi_net *net, int32_t layer, query_group *g, const token_keys *keys)
{
    const conditional_detr *m = net->parts;
    const decoder_layer *l = &m->decoder[layer];
    ddi_scope scope = ddi_scope_begin(t);
    t->stream = g->stream;
    ddi_value *sine = layer == 0 ? g->sine : ddi_times(t, g->sine, ddi_run_mlp(t, &m->scale, g->x));
    g->x = run_self_attention(t, &l->self, &m->block, g->x, g->start.position);
    g->x = run_cross_attention(t, &l->cross, &m->block, g->x, g->start.position, sine, keys);
    g->x = ddi_run_feed_forward(t, &l->ffn, &m->block, g->x);
    g->normed = ddi_layernorm(t, g->x, NULL, m->norm.gamma, m->norm.beta, 0);
    run_heads(t, net, layer, g);
    g->stream = t->stream;
    ddi_value *keep[] = {g->x, g->normed};
    ddi_scope_end(t, scope, 2, keep);
}

/* All groups layer by layer, so that they share a layer's keys. */
static void run_decoder(ddi_tape *t, const ddi_net *net, query_group *group, int32_t groups, ddi_value *position,
                        ddi_value *padding, ddi_detections *out)
{
    const conditional_detr *m = net->parts;
    for (int32_t i = 0; i < net->config.decoder_layers; i++) {
        ddi_scope scope = ddi_scope_begin(t);
        const token_keys keys = make_keys(t, &m->decoder[i].cross, &m->block, out->encoder, position, padding);
        ddi_value *keep[4];
        for (int32_t g = 0; g < groups; g++) {
            run_layer(t, net, i, &group[g], &keys);
            keep[2 * g] = group[g].x;
            keep[2 * g + 1] = group[g].normed;
        }
        ddi_scope_end(t, scope, 2 * groups, keep);
        out->raw[i] = group[0].x;
        out->layer[i] = group[0].normed;
    }
    out->logits = group[0].logits;
    out->boxes = group[0].boxes;
    if (groups > 1) {
        out->group_logits = group[1].logits;
        out->group_boxes = group[1].boxes;
    }
}

static ddi_value *project(ddi_tape *t, const conditional_detr *m, ddi_value *stage, ddi_levels *levels)
{
    t->part = DDI_PART_NECK;
    const ddi_conv_spec spec = {.w = m->projection, .shift = ddi_param_value(t, m->projection_bias), .stride = 1};
    ddi_value *map = ddi_conv(t, stage, &spec);
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    ddi_levels_add(levels, map->shape[1], map->shape[2]);
    return ddi_view(t, map, 0, DDI_SHAPE(map->shape[0], levels->tokens, map->shape[3]));
}

static void forward(ddi_tape *t, const ddi_net *net, const ddi_model_input *in, ddi_detections *out)
{
    const int64_t B = in->image->shape[0], d = net->config.d;
    const conditional_detr *m = net->parts;
    ddi_query_values own = {0}, other = {0};
    query_group group[2];
    int32_t groups = 1;
    *out = (ddi_detections){.levels = {0}};
    ddi_resnet_forward(t, &net->backbone, in->image, out->stage);
    out->features = project(t, m, out->stage[3], &out->levels);
    if (t->status != DD_OK) {
        return;
    }
    const ddi_level_masks masks = ddi_make_masks(t, &out->levels, in->image, in->sizes);
    t->part = DDI_PART_ENCODER;
    ddi_value *position = ddi_sine_position(t, &out->levels, B, d, masks.valid_by_level, NULL, 10000, 0);
    out->ratio = masks.ratio;
    out->encoder = ddi_run_detr_encoder(t, &m->encoder, out->features, position, masks.padding);
    t->part = DDI_PART_DECODER;
    own.position = ddi_repeat_columns(t, ddi_param_value(t, net->queries), B, 0, d);
    group[0] = make_group(t, net, own, t->stream);
    out->queries = group[0].start;
    out->reference = out->queries.reference;
    if (in->group && in->group(t, in->group_arg, B, &other)) {
        group[groups++] = make_group(t, net, other, DDI_SECOND_STREAMS);
    }
    run_decoder(t, net, group, groups, position, masks.padding, out);
}

/* ---- The family */

static int32_t position_column(const ddi_model_config *c)
{
    return 0;
}

static int32_t content_column(const ddi_model_config *c)
{
    return -1;
}

static bool reads_image(const ddi_model_config *c)
{
    return false;
}

static const ddi_part_name part_names[] = {
    {"model.backbone.", DDI_PART_BACKBONE}, {"model.input_projection.", DDI_PART_NECK},   {"model.encoder.", DDI_PART_ENCODER},
    {"model.decoder.", DDI_PART_DECODER},   {"class_labels_classifier.", DDI_PART_HEADS}, {"bbox_predictor.", DDI_PART_HEADS},
};

const ddi_detector ddi_conditional_detr = {
    .name = "conditional-detr",
    .type = "conditional_detr",
    .architecture = "ConditionalDetrForObjectDetection",
    .auxiliary_loss = false,
    .defaults = "levels=1 ffn=2048",
    .bytes = sizeof(conditional_detr),
    .part_names = part_names,
    .part_name_count = (int32_t)(sizeof part_names / sizeof part_names[0]),
    .position_column = position_column,
    .content_column = content_column,
    .reads_image = reads_image,
    .features_from_encoder = true,
    .first_stride = 32,
    .complaint = complaint,
    .build = build,
    .forward = forward,
    .files = &ddi_conditional_detr_files,
};
