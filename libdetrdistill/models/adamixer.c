/* SPDX-License-Identifier: Apache-2.0
 * AdaMixer (detectors.md section 4): queries sample a pyramid in three dimensions and mix what they found. */
#include "base/error.h"
#include "models/detector.h"
#include "tape/node.h"

#include <math.h>
#include <stdio.h>

enum { LEVELS = 4, NORM_GROUPS = 32, MOST_MIXED = 1 << 24 };

/* A linear layer, a norm and a ReLU below an output layer. */
typedef struct tower {
    ddi_dense in, out;
    ddi_affine norm;
} tower;

typedef struct stage {
    ddi_self_attention self;
    ddi_param *overlap; /* by head, how much the overlap of boxes counts */
    ddi_dense offsets, mixing, mixed;
    ddi_affine mixing_norm;
    ddi_feed_forward ffn;
    tower class_head, box_head;
} stage;

typedef struct adamixer {
    ddi_param *projection[LEVELS], *projection_bias[LEVELS];
    ddi_affine neck_norm; /* of all levels */
    ddi_param *boxes;     /* that queries start from, cxcywh by the image's size */
    ddi_block_config block;
    stage stage[DDI_MOST_LAYERS];
} adamixer;

/* ---- Parameters */

static void build_neck(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    adamixer *m = net->parts;
    char at[DDI_NAME_BYTES];
    for (int32_t l = 0; l < LEVELS; l++) {
        const int64_t in = c->backbone.width[l];
        const ddi_init xavier = {DDI_INIT_UNIFORM, sqrt(6 / (double)(in + c->d)), 0};
        snprintf(at, sizeof at, "model.input_proj.%d", l);
        m->projection[l] = ddi_build_param(b, at, ".weight", xavier, DDI_SHAPE(c->d, in, 1, 1));
        m->projection_bias[l] = ddi_build_param(b, at, ".bias", ddi_constant_init(0), DDI_SHAPE(c->d));
    }
    m->neck_norm = ddi_build_norm(b, "model.", "input_norm", c->d);
}

/* The table of boxes takes no gradient and stays as it is, but the original program counts it as trained. */
static void build_queries(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    adamixer *m = net->parts;
    const ddi_init normal = {DDI_INIT_NORMAL, 1, 0}, whole = {DDI_INIT_BOX_SIZE, 1, 0.5};
    net->queries = ddi_build_param(b, "model.", "query_embeddings.weight", normal, DDI_SHAPE(c->queries, c->d));
    b->trained = false;
    m->boxes = ddi_build_param(b, "model.", "query_boxes.weight", whole, DDI_SHAPE(c->queries, 4));
    b->trained = true;
    if (m->boxes) {
        m->boxes->counted = true;
    }
}

/* Starts as PyTorch's attention does: one weight for all three inputs, and the default bias of its output. */
static void build_attention(stage *s, ddi_build *b, const char *at, const ddi_block_config *c)
{
    const double d = (double)c->d;
    ddi_build_self_attention(&s->self, b, at, c);
    s->overlap = ddi_build_param(b, at, "iof_tau", (ddi_init){DDI_INIT_UNIFORM, 2, 2}, DDI_SHAPE(c->heads));
    if (b->status == DD_OK) {
        s->self.q.w->init.a = s->self.k.w->init.a = s->self.v.w->init.a = sqrt(6 / (4 * d));
        s->self.out.b->init = (ddi_init){DDI_INIT_UNIFORM, 1 / sqrt(d), 0};
    }
}

static void build_mixing(stage *s, ddi_build *b, const char *at, const ddi_model_config *c)
{
    const ddi_init near = {DDI_INIT_XYZ, 0.5, -1};
    const int64_t G = c->mixing_groups, width = c->d / G, in = c->in_points, out = c->out_points;
    s->offsets = ddi_build_dense(b, at, "sampling_offsets", c->d, G * in * 3, DDI_START_ZERO, &near);
    s->mixing = ddi_build_dense(b, at, "mixing_parameters", c->d, G * (width * width + in * out), DDI_START_ZERO, NULL);
    s->mixed = ddi_build_dense(b, at, "mixing_out_proj", out * c->d, c->d, DDI_START_XAVIER, NULL);
    s->mixing_norm = ddi_build_norm(b, at, "mixing_layer_norm", c->d);
}

static tower build_tower(ddi_build *b, int32_t layer, const char *name, int64_t d, int64_t out, ddi_start start, double bias)
{
    const ddi_init constant = ddi_constant_init(bias);
    char head[DDI_NAME_BYTES];
    snprintf(head, sizeof head, "model.decoder.layers.%d.%s.", layer, name);
    return (tower){.in = ddi_build_dense(b, head, "fc", d, d, DDI_START_XAVIER, NULL),
                   .norm = ddi_build_norm(b, head, "layer_norm", d),
                   .out = ddi_build_dense(b, head, "out", d, out, start, &constant)};
}

static const char *complaint(const ddi_model_config *c)
{
    if (c->d % NORM_GROUPS != 0 || c->d % c->decoder_heads != 0 || c->d % c->mixing_groups != 0) {
        return "the width is not a multiple of 32 and of the numbers of heads and groups";
    }
    const int64_t width = c->d / c->mixing_groups, points = (int64_t)c->in_points * c->out_points;
    if (c->mixing_groups * (width * width + points) > MOST_MIXED || c->out_points * c->d > MOST_MIXED) {
        return "adaptive mixing has more than 16777216 numbers of a query: more groups, or fewer points";
    }
    if (c->refine || c->two_stage || c->encoder_layers > 0) {
        return "AdaMixer has no encoder (encoder-layers=0), no refine=1 and no two-stage=1";
    }
    if (!c->neck_bias) {
        return "the neck of AdaMixer has biases (neck-bias=1)";
    }
    return c->levels != LEVELS ? "AdaMixer has four levels (levels=4)" : NULL;
}

static dd_status build(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    adamixer *m = net->parts;
    char at[DDI_NAME_BYTES];
    m->block = ddi_config_block(c, false);
    build_neck(net, b);
    build_queries(net, b);
    for (int32_t i = 0; i < c->decoder_layers; i++) {
        stage *s = &m->stage[i];
        snprintf(at, sizeof at, "model.decoder.layers.%d.", i);
        build_attention(s, b, at, &m->block);
        build_mixing(s, b, at, c);
        ddi_build_feed_forward(&s->ffn, b, at, c->d, c->decoder_ffn);
        s->class_head = build_tower(b, i, "class_head", c->d, c->classes, DDI_START_XAVIER, -log(99)); /* probability .01 */
        s->box_head = build_tower(b, i, "box_head", c->d, 4, DDI_START_ZERO, 0);
    }
    return b->status;
}

/* ---- Neck: each level alone, one norm for all */

static ddi_value *run_neck(ddi_tape *t, const adamixer *m, ddi_value *const from[4], ddi_levels *levels)
{
    ddi_value *map[LEVELS];
    t->part = DDI_PART_NECK;
    for (int32_t l = 0; l < LEVELS; l++) {
        const ddi_conv_spec spec = {.w = m->projection[l], .shift = ddi_param_value(t, m->projection_bias[l]), .stride = 1};
        map[l] = ddi_conv(t, from[l], &spec);
        ddi_levels_add(levels, map[l]->shape[1], map[l]->shape[2]);
    }
    ddi_value *tokens = ddi_new(t, DDI_SHAPE(map[0]->shape[0], levels->tokens, m->neck_norm.gamma->count));
    for (int32_t l = 0; l < LEVELS && t->status == DD_OK; l++) {
        ddi_groupnorm(t, map[l], m->neck_norm.gamma, m->neck_norm.beta, NORM_GROUPS, tokens, levels->first[l]);
    }
    return tokens;
}

/* ---- Queries */

/* Queries on their way through the stages, and where their outputs go. */
typedef struct query_group {
    ddi_value *x, *position;   /* [B,N,d], [B,N,4] (x,y,z,r) */
    ddi_value *logits, *boxes; /* of all stages */
    uint32_t stream;           /* of dropout */
} query_group;

/* content [B,N,d], not normed yet. boxes [N,4]. */
static query_group make_group(ddi_tape *t, const ddi_model_config *c, ddi_value *content, ddi_value *boxes, ddi_value *sizes,
                              uint32_t stream)
{
    const int64_t L = c->decoder_layers, B = content->shape[0], N = content->shape[1];
    return (query_group){.x = ddi_layernorm(t, content, NULL, NULL, NULL, 0),
                         .position = ddi_xyzr_start(t, boxes, B, sizes),
                         .logits = ddi_new(t, DDI_SHAPE(L, B, N, c->classes)),
                         .boxes = ddi_new(t, DDI_SHAPE(L, B, N, 4)),
                         .stream = stream};
}

/* [N,4]: the whole image N times. */
static ddi_value *whole_images(ddi_tape *t, int64_t N)
{
    char *host = ddi_tape_memory(t, (size_t)(4 * N) * t->element);
    ddi_value *boxes = ddi_new(t, DDI_SHAPE(N, 4));
    for (int64_t i = 0; host && i < 4 * N; i++) {
        const double x = i % 4 < 2 ? 0.5 : 1;
        if (t->dtype == DD_F64) {
            ((double *)(void *)host)[i] = x;
        } else {
            ((float *)(void *)host)[i] = (float)x;
        }
    }
    if (t->status == DD_OK && !t->dry) {
        ddi_tape_fail(t, ddi_copy(t->exec, boxes->data, host, (size_t)(4 * N) * t->element, DD_COPY_TO_DEVICE));
    }
    return boxes;
}

/* ---- A stage */

/* The code of the position is part of what attention reads, passes on and adds to: keys, values and the way around. */
static ddi_value *run_attention(ddi_tape *t, const adamixer *m, const stage *s, const query_group *g)
{
    ddi_scope scope = ddi_scope_begin(t);
    const ddi_attention_spec masks = {.bias = ddi_iof_bias(t, g->position, s->overlap)};
    ddi_value *at = ddi_plus(t, g->x, ddi_xyzr_embed(t, g->position, (int32_t)(m->block.d / 4)));
    ddi_value *y = ddi_run_self_attention(t, &s->self, &m->block, at, NULL, &masks);
    ddi_scope_end(t, scope, 1, &y);
    return y;
}

static ddi_value *run_mixing(ddi_tape *t, const ddi_net *net, const stage *s, const query_group *g, ddi_value *tokens,
                             const ddi_levels *levels)
{
    const ddi_model_config *c = &net->config;
    ddi_scope scope = ddi_scope_begin(t);
    ddi_value *found = ddi_sample3d(t, tokens, ddi_run_dense(t, &s->offsets, g->x), g->position, levels, c->mixing_groups);
    ddi_value *y = ddi_mixing(t, found, ddi_run_dense(t, &s->mixing, g->x), c->out_points);
    y = ddi_layernorm(t, g->x, ddi_run_dense(t, &s->mixed, y), s->mixing_norm.gamma, s->mixing_norm.beta, c->dropout);
    ddi_scope_end(t, scope, 1, &y);
    return y;
}

static ddi_value *run_tower(ddi_tape *t, const tower *h, ddi_value *x, ddi_value *into)
{
    ddi_scope scope = ddi_scope_begin(t);
    x = ddi_relu(t, ddi_layernorm(t, ddi_run_dense(t, &h->in, x), NULL, h->norm.gamma, h->norm.beta, 0));
    ddi_value *y = ddi_linear(t, x, h->out.w, h->out.b, false, into);
    ddi_scope_end(t, scope, 1, &y);
    return y;
}

/* Logits and boxes of a stage, written into their part of the group's. Positions go on without a way back. */
static void run_heads(ddi_tape *t, const ddi_net *net, int32_t i, query_group *g, ddi_value *sizes)
{
    const stage *s = &((const adamixer *)net->parts)->stage[i];
    const int64_t B = g->x->shape[0], N = g->x->shape[1], K = net->config.classes;
    t->part = DDI_PART_HEADS;
    run_tower(t, &s->class_head, g->x, ddi_view(t, g->logits, i * B * N * K, DDI_SHAPE(B, N, K)));
    ddi_value *boxes = ddi_view(t, g->boxes, i * B * N * 4, DDI_SHAPE(B, N, 4)), *next = &t->nothing;
    ddi_xyzr_refine(t, g->position, run_tower(t, &s->box_head, g->x, NULL), sizes, &next, boxes);
    g->position = next;
    t->part = DDI_PART_DECODER;
}

static void run_stage(ddi_tape *t, const ddi_net *net, int32_t i, query_group *g, ddi_value *tokens, const ddi_levels *levels,
                      ddi_value *sizes)
{
    const adamixer *m = net->parts;
    const stage *s = &m->stage[i];
    ddi_scope scope = ddi_scope_begin(t);
    t->stream = g->stream;
    g->x = run_attention(t, m, s, g);
    g->x = run_mixing(t, net, s, g, tokens, levels);
    g->x = ddi_run_feed_forward(t, &s->ffn, &m->block, g->x);
    run_heads(t, net, i, g, sizes);
    g->stream = t->stream;
    ddi_value *keep[] = {g->x, g->position};
    ddi_scope_end(t, scope, 2, keep);
}

static void run_stages(ddi_tape *t, const ddi_net *net, query_group *group, int32_t groups, ddi_value *sizes,
                       ddi_detections *out)
{
    for (int32_t i = 0; i < net->config.decoder_layers; i++) {
        for (int32_t g = 0; g < groups; g++) {
            run_stage(t, net, i, &group[g], out->features, &out->levels, sizes);
        }
        out->layer[i] = group[0].x;
        out->refined[i] = group[0].position;
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
    const adamixer *m = net->parts;
    const int64_t B = in->image->shape[0];
    ddi_query_values other = {0};
    query_group group[2];
    int32_t groups = 1;
    *out = (ddi_detections){.levels = {0}};
    ddi_resnet_forward(t, &net->backbone, in->image, out->stage);
    out->features = run_neck(t, m, out->stage, &out->levels);
    if (t->status != DD_OK) {
        return;
    }
    t->part = DDI_PART_DECODER;
    ddi_value *sizes = ddi_upload(t, in->sizes, (size_t)B * 2 * sizeof *in->sizes);
    out->queries.content = ddi_repeat_columns(t, ddi_param_value(t, net->queries), B, 0, c->d);
    group[0] = make_group(t, c, out->queries.content, ddi_param_value(t, m->boxes), sizes, t->stream);
    out->queries.reference = out->reference = group[0].position;
    if (in->group && in->group(t, in->group_arg, B, &other)) {
        group[groups++] = make_group(t, c, other.content, whole_images(t, other.content->shape[1]), sizes, DDI_SECOND_STREAMS);
    }
    run_stages(t, net, group, groups, sizes, out);
}

/* ---- The family */

static int32_t position_column(const ddi_model_config *c)
{
    return -1;
}

static int32_t content_column(const ddi_model_config *c)
{
    return 0;
}

static bool reads_image(const ddi_model_config *c)
{
    return false;
}

static const ddi_part_name part_names[] = {
    {"model.backbone.", DDI_PART_BACKBONE},
    {"model.input_", DDI_PART_NECK},
    {"model.decoder.", DDI_PART_DECODER},
};

const ddi_detector ddi_adamixer = {
    .name = "adamixer",
    .type = "adamixer",
    .architecture = "AdaMixerForObjectDetection",
    .auxiliary_loss = true,
    .defaults = "queries=100 encoder-layers=0 ffn=2048 dropout=0 attention-dropout=0 activation-dropout=0",
    .bytes = sizeof(adamixer),
    .part_names = part_names,
    .part_name_count = (int32_t)(sizeof part_names / sizeof part_names[0]),
    .position_column = position_column,
    .content_column = content_column,
    .reads_image = reads_image,
    .first_stride = 4,
    .trains_norms = true,
    .complaint = complaint,
    .build = build,
    .forward = forward,
    .files = &ddi_adamixer_files,
};
