/* SPDX-License-Identifier: Apache-2.0
 * Deformable DETR. */
#include "models/deformable_detr.h"
#include "base/error.h"
#include "tape/node.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define REFERENCE_EPS 1e-5
enum { GROUPS = 32 };

/* ---- Parameters */

static ddi_block_config block_config(const ddi_deformable_config *c, bool encoder)
{
    return (ddi_block_config){.d = c->d,
                              .heads = encoder ? c->encoder_heads : c->decoder_heads,
                              .levels = c->levels,
                              .points = encoder ? c->encoder_points : c->decoder_points,
                              .dropout = c->dropout,
                              .attention_dropout = c->attention_dropout,
                              .activation_dropout = c->activation_dropout};
}

/* One projection for each of C3, C4, C5; what comes above is made of C5, then of the level below. */
static void build_neck(ddi_deformable *m, ddi_build *b)
{
    const ddi_deformable_config *c = &m->config;
    for (int32_t l = 0; l < c->levels; l++) {
        char at[DDI_NAME_BYTES];
        const int64_t in = l < 3 ? c->backbone.width[1 + l] : l == 3 ? c->backbone.width[3] : c->d, kernel = l < 3 ? 1 : 3;
        const ddi_init xavier = {DDI_INIT_UNIFORM, sqrt(6 / (double)((in + c->d) * kernel * kernel)), 0};
        snprintf(at, sizeof at, "model.input_proj.%d.", l);
        m->neck[l].w = ddi_build_param(b, at, "0.weight", xavier, DDI_SHAPE(c->d, in, kernel, kernel));
        if (c->neck_bias) {
            m->neck[l].b = ddi_build_param(b, at, "0.bias", ddi_constant_init(0), DDI_SHAPE(c->d));
        }
        m->neck[l].norm = ddi_build_norm(b, at, "1", c->d);
    }
}

static void build_queries(ddi_deformable *m, ddi_build *b)
{
    const ddi_deformable_config *c = &m->config;
    const ddi_init normal = {DDI_INIT_NORMAL, 1, 0}, zero = ddi_constant_init(0);
    m->level_embedding = ddi_build_param(b, "model.", "level_embed", normal, DDI_SHAPE(c->levels, c->d));
    if (c->two_stage) {
        m->encoder_output = ddi_build_dense(b, "model.", "enc_output", c->d, c->d, DDI_START_XAVIER, NULL);
        m->encoder_norm = ddi_build_norm(b, "model.", "enc_output_norm", c->d);
        m->position_transform = ddi_build_dense(b, "model.", "pos_trans", 2 * c->d, 2 * c->d, DDI_START_XAVIER, NULL);
        m->position_norm = ddi_build_norm(b, "model.", "pos_trans_norm", 2 * c->d);
    } else {
        m->queries = ddi_build_param(b, "model.", "query_position_embeddings.weight", normal, DDI_SHAPE(c->queries, 2 * c->d));
        b->group = DDI_GROUP_SAMPLING;
        m->reference = ddi_build_dense(b, "model.", "reference_points", c->d, 2, DDI_START_XAVIER, &zero);
        b->group = DDI_GROUP_MAIN;
    }
}

static void build_layers(ddi_deformable *m, ddi_build *b)
{
    const ddi_deformable_config *c = &m->config;
    const ddi_block_config encoder = block_config(c, true), decoder = block_config(c, false);
    char at[DDI_NAME_BYTES];
    for (int32_t i = 0; i < c->encoder_layers; i++) {
        snprintf(at, sizeof at, "model.encoder.layers.%d.", i);
        ddi_build_deformable_attention(&m->encoder[i].attention, b, at, "self_attn", &encoder);
        ddi_build_feed_forward(&m->encoder[i].ffn, b, at, c->d, c->encoder_ffn);
    }
    for (int32_t i = 0; i < c->decoder_layers; i++) {
        snprintf(at, sizeof at, "model.decoder.layers.%d.", i);
        ddi_build_self_attention(&m->decoder[i].self, b, at, &decoder);
        ddi_build_deformable_attention(&m->decoder[i].cross, b, at, "encoder_attn", &decoder);
        ddi_build_feed_forward(&m->decoder[i].ffn, b, at, c->d, c->decoder_ffn);
    }
}

static int32_t heads_of(const ddi_deformable_config *c)
{
    return c->two_stage ? c->decoder_layers + 1 : c->refine ? c->decoder_layers : 1;
}

static int32_t class_heads_of(const ddi_deformable_config *c)
{
    return c->shared_class_head ? 1 : heads_of(c);
}

static int32_t box_heads_of(const ddi_deformable_config *c)
{
    return c->shared_box_head ? 1 : heads_of(c);
}

/* The layer's own head, or the one that all share; `layer` = decoder_layers: the encoder's. */
static const ddi_dense *class_head_of(const ddi_deformable *m, int32_t layer)
{
    return &m->class_head[class_heads_of(&m->config) == 1 ? 0 : layer];
}

static const ddi_box_head *box_head_of(const ddi_deformable *m, int32_t layer)
{
    return &m->box_head[box_heads_of(&m->config) == 1 ? 0 : layer];
}

static void build_heads(ddi_deformable *m, ddi_build *b)
{
    const ddi_deformable_config *c = &m->config;
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

const char *ddi_deformable_complaint(const ddi_deformable_config *c)
{
    if (c->d % GROUPS != 0 || c->d % c->encoder_heads != 0 || c->d % c->decoder_heads != 0) {
        return "the width is not a multiple of 32 and of the numbers of heads";
    }
    if (c->levels < 3 || c->levels > DDI_MOST_LEVELS) {
        return "the levels must be 3 to 8";
    }
    for (int32_t s = 0; s < 4; s++) {
        if (c->backbone.depth[s] < 1 || c->backbone.width[s] < 1 || (c->backbone.bottleneck && c->backbone.width[s] % 4 != 0)) {
            return "each stage of the backbone needs a block, and channels (of bottlenecks a multiple of 4)";
        }
    }
    return NULL;
}

dd_status ddi_deformable_build(ddi_deformable *m, ddi_build *b, const ddi_deformable_config *config)
{
    m->config = *config;
    DDI_TRY(ddi_resnet_build(&m->backbone, b, "model.backbone.conv_encoder.model.", &config->backbone));
    build_neck(m, b);
    build_queries(m, b);
    build_layers(m, b);
    build_heads(m, b);
    return b->status;
}

/* ---- Levels and their masks (1.3) */

/* The mask of each level: how many columns and rows from the upper left are real. */
typedef struct level_masks {
    ddi_value *valid;          /* int32 [B,L,2] (w,h) */
    ddi_value *valid_by_level; /* int32 [L,B,2] */
    ddi_value *ratio, *padding;
} level_masks;

/* Cells of a level that read a real pixel by nearest sampling, with the ratio in float. */
static int32_t valid_cells(int64_t in, int64_t out, int32_t real_cells)
{
    const float ratio = (float)in / (float)out;
    int32_t count = 0;
    for (int64_t i = 0; i < out; i++) {
        const int64_t at = (int64_t)((float)i * ratio);
        count += (at < in - 1 ? at : in - 1) < real_cells;
    }
    return count;
}

static ddi_value *upload(ddi_tape *t, const void *host, size_t bytes)
{
    ddi_value *v = ddi_bytes(t, bytes);
    if (t->status == DD_OK && !t->dry) {
        ddi_tape_fail(t, ddi_copy(t->exec, v->data, host, bytes, DD_COPY_TO_DEVICE));
    }
    return v;
}

static void fill_padding(const ddi_levels *levels, int64_t b, const int32_t *valid, uint8_t *padding)
{
    for (int32_t l = 0; l < levels->count; l++) {
        uint8_t *at = padding + b * levels->tokens + levels->first[l];
        for (int32_t i = 0; i < levels->height[l]; i++) {
            for (int32_t j = 0; j < levels->width[l]; j++) {
                *at++ = j >= valid[2 * l] || i >= valid[2 * l + 1];
            }
        }
    }
}

static level_masks make_masks(ddi_tape *t, const ddi_levels *levels, const ddi_value *image, const int32_t *sizes)
{
    const int64_t B = image->shape[0], L = levels->count;
    level_masks masks = {.valid = &t->nothing, .valid_by_level = &t->nothing};
    bool padded = false;
    int32_t *valid = ddi_tape_memory(t, (size_t)(B * L * 2) * sizeof *valid);
    int32_t *by_level = ddi_tape_memory(t, (size_t)(B * L * 2) * sizeof *valid);
    char *ratio = ddi_tape_memory(t, (size_t)(B * L * 2) * t->element);
    uint8_t *padding = ddi_tape_memory(t, (size_t)(B * levels->tokens));
    if (!valid || !by_level || !ratio || !padding) {
        return masks;
    }
    for (int64_t i = 0; i < B * L * 2; i++) {
        const int64_t b = i / 2 / L, l = i / 2 % L, axis = i % 2;
        const int32_t side = axis ? levels->height[l] : levels->width[l];
        valid[i] = valid_cells(image->shape[axis ? 1 : 2], side, sizes[2 * b + axis]);
        by_level[(l * B + b) * 2 + axis] = valid[i];
        padded = padded || valid[i] < side;
        if (t->dtype == DD_F64) {
            ((double *)(void *)ratio)[i] = (double)valid[i] / side;
        } else {
            ((float *)(void *)ratio)[i] = (float)valid[i] / (float)side;
        }
    }
    masks.valid = upload(t, valid, (size_t)(B * L * 2) * sizeof *valid);
    masks.valid_by_level = upload(t, by_level, (size_t)(B * L * 2) * sizeof *valid);
    if (padded) {
        for (int64_t b = 0; b < B; b++) {
            fill_padding(levels, b, valid + b * L * 2, padding);
        }
        masks.padding = upload(t, padding, (size_t)(B * levels->tokens));
        masks.ratio = upload(t, ratio, (size_t)(B * L * 2) * t->element);
    }
    return masks;
}

static void add_level(ddi_levels *levels, int64_t height, int64_t width)
{
    const int32_t l = levels->count++;
    levels->height[l] = (int32_t)height;
    levels->width[l] = (int32_t)width;
    levels->first[l] = levels->tokens;
    levels->tokens += height * width;
}

/* ---- Backbone, neck, encoder */

static ddi_value *run_neck(ddi_tape *t, const ddi_deformable *m, ddi_detections *out)
{
    const ddi_deformable_config *c = &m->config;
    ddi_value *map[DDI_MOST_LEVELS], *from = NULL;
    t->part = DDI_PART_NECK;
    for (int32_t l = 0; l < c->levels; l++) {
        from = l < 3 ? out->stage[1 + l] : l == 3 ? out->stage[3] : map[l - 1];
        const ddi_conv_spec spec = {.w = m->neck[l].w,
                                    .shift = m->neck[l].b ? ddi_param_value(t, m->neck[l].b) : NULL,
                                    .stride = l < 3 ? 1 : 2,
                                    .pad = l < 3 ? 0 : 1};
        map[l] = ddi_conv(t, from, &spec);
        add_level(&out->levels, map[l]->shape[1], map[l]->shape[2]);
    }
    ddi_value *tokens = ddi_new(t, DDI_SHAPE(map[0]->shape[0], out->levels.tokens, c->d));
    for (int32_t l = 0; l < c->levels && t->status == DD_OK; l++) {
        ddi_groupnorm(t, map[l], m->neck[l].norm.gamma, m->neck[l].norm.beta, GROUPS, tokens, out->levels.first[l]);
    }
    return tokens;
}

static ddi_value *run_encoder(ddi_tape *t, const ddi_deformable *m, const ddi_detections *out, const level_masks *masks)
{
    const ddi_deformable_config *c = &m->config;
    const ddi_block_config block = block_config(c, true);
    const ddi_msda_spec grid = {&out->levels, masks->ratio, masks->padding, block.heads, block.points};
    const int64_t B = out->features->shape[0];
    t->part = DDI_PART_ENCODER;
    ddi_value *position = ddi_sine_position(t, &out->levels, B, c->d, masks->valid_by_level, m->level_embedding, 10000, -0.5);
    ddi_value *points = ddi_grid_points(t, &out->levels, B, masks->ratio), *x = out->features;
    for (int32_t i = 0; i < c->encoder_layers; i++) {
        ddi_scope scope = ddi_scope_begin(t);
        x = ddi_run_deformable_attention(t, &m->encoder[i].attention, &block, x, position, x, points, &grid);
        x = ddi_run_feed_forward(t, &m->encoder[i].ffn, &block, x);
        ddi_scope_end(t, scope, 1, &x);
    }
    return x;
}

/* ---- Queries: a table (2.1), or the best tokens of the encoder (2.3) */

static ddi_query_values table_queries(ddi_tape *t, const ddi_deformable *m, int64_t B)
{
    ddi_value *table = ddi_param_value(t, m->queries);
    ddi_query_values q;
    q.position = ddi_repeat_columns(t, table, B, 0, m->config.d);
    q.content = ddi_repeat_columns(t, table, B, m->config.d, m->config.d);
    q.reference = ddi_sigmoid(t, ddi_run_dense(t, &m->reference, q.position));
    return q;
}

static ddi_query_values token_queries(ddi_tape *t, const ddi_deformable *m, const level_masks *masks, ddi_detections *out)
{
    static const int32_t order[] = {0, 1, 2, 3};
    const ddi_deformable_config *c = &m->config;
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
    out->proposal_logits = ddi_run_dense(t, class_head_of(m, head), memory);
    out->proposals = ddi_plus(t, ddi_run_box_head(t, box_head_of(m, head), memory), box);
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
static ddi_value *run_heads(ddi_tape *t, const ddi_deformable *m, int32_t layer, const query_group *g)
{
    const ddi_deformable_config *c = &m->config;
    const ddi_dense *class_head = class_head_of(m, layer);
    const int64_t B = g->x->shape[0], N = g->x->shape[1];
    t->part = DDI_PART_HEADS;
    ddi_value *logits = ddi_view(t, g->logits, layer * B * N * c->classes, DDI_SHAPE(B, N, c->classes));
    ddi_value *boxes = ddi_view(t, g->boxes, layer * B * N * 4, DDI_SHAPE(B, N, 4));
    ddi_linear(t, g->x, class_head->w, class_head->b, false, logits);
    ddi_box_refine(t, ddi_run_box_head(t, box_head_of(m, layer), g->x), g->reference, REFERENCE_EPS, boxes);
    t->part = DDI_PART_DECODER;
    return boxes;
}

static query_group make_group(ddi_tape *t, const ddi_deformable *m, ddi_query_values q, uint32_t stream)
{
    const int64_t L = m->config.decoder_layers, B = q.content->shape[0], N = q.content->shape[1];
    return (query_group){.start = q,
                         .x = q.content,
                         .reference = q.reference,
                         .logits = ddi_new(t, DDI_SHAPE(L, B, N, m->config.classes)),
                         .boxes = ddi_new(t, DDI_SHAPE(L, B, N, 4)),
                         .stream = stream};
}

static void run_layer(ddi_tape *t, const ddi_deformable *m, int32_t layer, query_group *g, ddi_value *values,
                      const ddi_msda_spec *grid)
{
    const ddi_deformable_config *c = &m->config;
    const ddi_block_config block = block_config(c, false);
    ddi_scope scope = ddi_scope_begin(t);
    t->stream = g->stream;
    g->x = ddi_run_self_attention(t, &m->decoder[layer].self, &block, g->x, g->start.position, 0);
    g->x = ddi_run_sampling(t, &m->decoder[layer].cross, &block, g->x, g->start.position, values, g->reference, grid);
    g->x = ddi_run_feed_forward(t, &m->decoder[layer].ffn, &block, g->x);
    ddi_value *boxes = run_heads(t, m, layer, g);
    if (c->refine || c->two_stage) {
        g->reference = ddi_detach(t, boxes);
    }
    g->stream = t->stream;
    ddi_value *keep[] = {g->x, g->reference};
    ddi_scope_end(t, scope, 2, keep);
}

/* All groups layer by layer, so that they share a layer's values of the tokens. */
static void run_decoder(ddi_tape *t, const ddi_deformable *m, query_group *group, int32_t groups, const level_masks *masks,
                        ddi_detections *out)
{
    const ddi_deformable_config *c = &m->config;
    const ddi_msda_spec grid = {&out->levels, masks->ratio, masks->padding, c->decoder_heads, c->decoder_points};
    for (int32_t i = 0; i < c->decoder_layers; i++) {
        ddi_scope scope = ddi_scope_begin(t);
        ddi_value *values = ddi_run_attention_values(t, &m->decoder[i].cross, out->encoder), *keep[4];
        for (int32_t g = 0; g < groups; g++) {
            run_layer(t, m, i, &group[g], values, &grid);
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

void ddi_deformable_forward_groups(ddi_tape *t, const ddi_deformable *m, ddi_value *image, const int32_t *sizes,
                                   ddi_group_fn second, void *arg, ddi_detections *out)
{
    enum { SECOND_STREAMS = 1 << 24 }; /* more than the first group ever draws from */
    ddi_query_values other = {0};
    query_group group[2];
    int32_t groups = 1;
    *out = (ddi_detections){.levels = {0}};
    ddi_resnet_forward(t, &m->backbone, image, out->stage);
    out->features = run_neck(t, m, out);
    if (t->status != DD_OK) {
        return;
    }
    const level_masks masks = make_masks(t, &out->levels, image, sizes);
    out->ratio = masks.ratio;
    out->encoder = run_encoder(t, m, out, &masks);
    t->part = DDI_PART_DECODER;
    out->queries = m->config.two_stage ? token_queries(t, m, &masks, out) : table_queries(t, m, image->shape[0]);
    out->reference = out->queries.reference;
    group[0] = make_group(t, m, out->queries, t->stream);
    if (second && second(t, arg, image->shape[0], &other)) {
        other.reference = other.reference ? other.reference : ddi_sigmoid(t, ddi_run_dense(t, &m->reference, other.position));
        group[groups++] = make_group(t, m, other, SECOND_STREAMS);
    }
    run_decoder(t, m, group, groups, &masks, out);
}

void ddi_deformable_forward(ddi_tape *t, const ddi_deformable *m, ddi_value *image, const int32_t *sizes, ddi_detections *out)
{
    ddi_deformable_forward_groups(t, m, image, sizes, NULL, NULL, out);
}
