/* SPDX-License-Identifier: Apache-2.0
 * DINO with four levels: mixed query selection, look forward twice, contrastive denoising (detectors.md section 5). */
#include "base/error.h"
#include "models/detector.h"
#include "nn/deformable_encoder.h"
#include "nn/neck.h"
#include "tape/node.h"

#include <math.h>
#include <stdio.h>

/* Of the inverse sigmoid where references are refined (1.8). */
#define REFINE_EPS 1e-3
enum { GROUPS = 32 };

typedef struct decoder_layer {
    ddi_self_attention self;
    ddi_deformable_attention cross;
    ddi_feed_forward ffn;
} decoder_layer;

typedef struct dino {
    ddi_neck neck;
    ddi_deformable_encoder encoder;
    ddi_dense encoder_output, encoder_class, position[2];
    ddi_affine encoder_norm, decoder_norm;
    ddi_box_head encoder_box;
    ddi_block_config block; /* of the decoder */
    decoder_layer decoder[DDI_MOST_LAYERS];
    ddi_dense class_head[DDI_MOST_LAYERS]; /* one for each layer, or one */
    ddi_box_head box_head[DDI_MOST_LAYERS];
    ddi_param *labels; /* contents of denoising queries */
} dino;

/* ---- Parameters */

static void build_queries(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    dino *m = net->parts;
    const ddi_init xavier = {DDI_INIT_UNIFORM, sqrt(6 / (double)(c->queries + c->d)), 0}, normal = {DDI_INIT_NORMAL, 1, 0};
    m->encoder_output = ddi_build_dense(b, "model.", "enc_output", c->d, c->d, DDI_START_XAVIER, NULL);
    m->encoder_norm = ddi_build_norm(b, "model.", "enc_output_norm", c->d);
    net->queries = ddi_build_param(b, "model.", "query_content_embeddings.weight", xavier, DDI_SHAPE(c->queries, c->d));
    m->labels = ddi_build_param(b, "model.", "label_embeddings.weight", normal, DDI_SHAPE(c->label_rows, c->d));
}

static void build_decoder(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    dino *m = net->parts;
    char at[DDI_NAME_BYTES];
    m->block = ddi_config_block(c, false);
    for (int32_t i = 0; i < c->decoder_layers; i++) {
        snprintf(at, sizeof at, "model.decoder.layers.%d.", i);
        ddi_build_self_attention(&m->decoder[i].self, b, at, &m->block);
        ddi_build_deformable_attention(&m->decoder[i].cross, b, at, "encoder_attn", &m->block);
        ddi_build_feed_forward(&m->decoder[i].ffn, b, at, c->d, c->decoder_ffn);
    }
    for (int32_t k = 0; k < 2; k++) {
        snprintf(at, sizeof at, "ref_point_head.layers.%d", k);
        m->position[k] = ddi_build_dense(b, "model.decoder.", at, k == 0 ? 2 * c->d : c->d, c->d, DDI_START_XAVIER, NULL);
    }
    m->decoder_norm = ddi_build_norm(b, "model.decoder.", "layernorm", c->d);
}

static ddi_dense build_class_head(ddi_build *b, const ddi_model_config *c, const char *prefix, const char *name)
{
    const ddi_init prior = ddi_constant_init(-log(99)); /* probability .01 */
    return ddi_build_dense(b, prefix, name, c->d, c->classes, DDI_START_DEFAULT, &prior);
}

static void build_box_head(ddi_box_head *head, ddi_build *b, int64_t d, const char *prefix)
{
    const ddi_init zero = ddi_constant_init(0);
    char at[DDI_NAME_BYTES];
    for (int32_t k = 0; k < 3; k++) {
        snprintf(at, sizeof at, "layers.%d", k);
        head->layer[k] = ddi_build_dense(b, prefix, at, d, k == 2 ? 4 : d, k == 2 ? DDI_START_ZERO : DDI_START_DEFAULT,
                                         k == 2 ? &zero : NULL);
    }
}

static void build_heads(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    dino *m = net->parts;
    char at[DDI_NAME_BYTES];
    for (int32_t i = 0; i < (c->shared_class_head ? 1 : c->decoder_layers); i++) {
        snprintf(at, sizeof at, "class_embed.%d", i);
        m->class_head[i] = build_class_head(b, c, "", at);
    }
    for (int32_t i = 0; i < (c->shared_box_head ? 1 : c->decoder_layers); i++) {
        snprintf(at, sizeof at, "bbox_embed.%d.", i);
        build_box_head(&m->box_head[i], b, c->d, at);
    }
    m->encoder_class = build_class_head(b, c, "model.", "enc_out_class_embed");
    build_box_head(&m->encoder_box, b, c->d, "model.enc_out_bbox_embed.");
}

static const char *complaint(const ddi_model_config *c)
{
    if (c->d % GROUPS != 0 || c->d % c->encoder_heads != 0 || c->d % c->decoder_heads != 0) {
        return "the width is not a multiple of 32 and of the numbers of heads";
    }
    if (!c->two_stage || !c->refine) {
        return "DINO takes its queries from the encoder and refines boxes: two-stage=1 refine=1";
    }
    if (c->label_rows < c->classes) {
        return "the label table has fewer rows than there are classes";
    }
    return c->levels < 3 || c->levels > DDI_MOST_LEVELS ? "the levels must be 3 to 8" : NULL;
}

static dd_status build(ddi_net *net, ddi_build *b)
{
    const ddi_model_config *c = &net->config;
    dino *m = net->parts;
    ddi_build_neck(&m->neck, b, c->levels, c->d, c->backbone.width, c->neck_bias);
    m->encoder.block = ddi_config_block(c, true);
    m->encoder.temperature = c->position_temperature;
    m->encoder.offset = c->position_offset;
    ddi_build_deformable_encoder(&m->encoder, b, c->encoder_layers, c->encoder_ffn);
    build_queries(net, b);
    build_decoder(net, b);
    build_heads(net, b);
    return b->status;
}

/* ---- Mixed query selection (5.2): references of the encoder's best tokens, contents of a table */

static ddi_value *run_encoder_output(ddi_tape *t, const dino *m, ddi_value *tokens)
{
    return ddi_layernorm(t, ddi_run_dense(t, &m->encoder_output, tokens), NULL, m->encoder_norm.gamma, m->encoder_norm.beta, 0);
}

/* By the largest logit of any class. Of all tokens that is all that is asked, and there is no way back. */
static void choose_tokens(ddi_tape *t, const ddi_net *net, ddi_value *tokens, ddi_detections *out)
{
    const dino *m = net->parts;
    const int64_t B = tokens->shape[0], S = tokens->shape[1];
    const bool record = t->record;
    ddi_scope scope = ddi_scope_begin(t);
    t->record = false;
    out->scores = ddi_row_max(t, ddi_run_dense(t, &m->encoder_class, run_encoder_output(t, m, tokens)));
    out->top = ddi_top_rows(t, ddi_view(t, out->scores, 0, DDI_SHAPE(B, S, 1)), net->config.queries);
    t->record = record;
    ddi_value *keep[] = {out->scores, out->top};
    ddi_scope_end(t, scope, 2, keep);
}

static ddi_query_values token_queries(ddi_tape *t, const ddi_net *net, const ddi_level_masks *masks, ddi_detections *out)
{
    const ddi_model_config *c = &net->config;
    const dino *m = net->parts;
    const int64_t B = out->encoder->shape[0];
    if (t->status == DD_OK && out->levels.tokens < c->queries) {
        ddi_tape_fail(t, ddi_fail(DD_ERR_SHAPE, "pixels",
                                  "the pictures give %lld tokens, of which the model takes %lld as queries",
                                  (long long)out->levels.tokens, (long long)c->queries));
    }
    if (t->status != DD_OK) {
        return (ddi_query_values){NULL, &t->nothing, &t->nothing};
    }
    ddi_value *drop, *box = ddi_proposals(t, &out->levels, B, masks->valid, &drop);
    ddi_value *tokens = ddi_mask_rows(t, out->encoder, drop);
    choose_tokens(t, net, tokens, out);
    ddi_value *chosen = run_encoder_output(t, m, ddi_take_rows(t, tokens, out->top, c->queries));
    t->part = DDI_PART_HEADS;
    out->proposal_logits = ddi_run_dense(t, &m->encoder_class, chosen);
    out->proposals = ddi_plus(t, ddi_run_box_head(t, &m->encoder_box, chosen), ddi_take_rows(t, box, out->top, c->queries));
    out->proposal_boxes = ddi_sigmoid(t, out->proposals);
    t->part = DDI_PART_DECODER;
    ddi_query_values q = {.position = NULL};
    q.content = ddi_repeat_columns(t, ddi_param_value(t, net->queries), B, 0, c->d);
    q.reference = ddi_detach(t, out->proposal_boxes);
    return q;
}

/* ---- Decoder and heads */

/* Rows of a group that have a loss of their own, and where their outputs go. */
typedef struct query_part {
    int64_t first, rows;
    ddi_value *before;         /* [B,rows,4]: the references that the next boxes are predicted from, with their way back */
    ddi_value *logits, *boxes; /* of all layers */
} query_part;

/* Queries on their way through the decoder: the denoising ones first. */
typedef struct query_group {
    ddi_value *x, *reference; /* [B,rows,d], [B,rows,4] without a way back */
    ddi_value *position, *mask;
    query_part part[2];
    int32_t parts;
    uint32_t stream; /* of dropout */
} query_group;

static ddi_value *rows_of(ddi_tape *t, ddi_value *x, const query_part *p)
{
    return p->rows == x->shape[1] ? x : ddi_take_range(t, x, p->first, p->rows);
}

static void add_part(ddi_tape *t, const ddi_model_config *c, query_group *g, int64_t rows, ddi_value *reference)
{
    const int64_t L = c->decoder_layers, B = reference->shape[0];
    const query_part *last = g->parts > 0 ? &g->part[g->parts - 1] : NULL;
    g->part[g->parts++] = (query_part){.first = last ? last->first + last->rows : 0,
                                       .rows = rows,
                                       .before = reference,
                                       .logits = ddi_new(t, DDI_SHAPE(L, B, rows, c->classes)),
                                       .boxes = ddi_new(t, DDI_SHAPE(L, B, rows, 4))};
}

/* denoising NULL: none. */
static query_group make_group(ddi_tape *t, const ddi_model_config *c, ddi_query_values q, const ddi_denoising *denoising,
                              uint32_t stream)
{
    query_group g = {.x = q.content, .reference = q.reference, .stream = stream};
    if (denoising) {
        ddi_value *reference = ddi_sigmoid(t, denoising->box);
        add_part(t, c, &g, denoising->slots, reference);
        g.x = ddi_join_rows(t, denoising->content, q.content);
        g.reference = ddi_join_rows(t, reference, q.reference);
        g.mask = denoising->mask;
    }
    add_part(t, c, &g, q.reference->shape[1], q.reference);
    return g;
}

/* A code of the references, made anew in each layer. */
static ddi_value *run_position(ddi_tape *t, const ddi_net *net, ddi_value *reference, ddi_value *ratio)
{
    static const int32_t order[] = {1, 0, 2, 3};
    const dino *m = net->parts;
    ddi_value *code =
        ddi_coord_embed(t, ddi_scale_references(t, reference, ratio), (int32_t)(net->config.d / 2), order, 2 * M_PI);
    ddi_value *h = ddi_linear(t, code, m->position[0].w, m->position[0].b, true, NULL);
    ddi_tape_count_relu(t, h);
    return ddi_run_dense(t, &m->position[1], h);
}

/* Logits and boxes of a layer for rows h behind the decoder's norm, written into their stage of the part's. */
static void run_heads(ddi_tape *t, const ddi_net *net, int32_t layer, ddi_value *h, const query_part *p)
{
    const ddi_model_config *c = &net->config;
    const dino *m = net->parts;
    const ddi_dense *class_head = &m->class_head[c->shared_class_head ? 0 : layer];
    const int64_t B = h->shape[0], N = p->rows;
    t->part = DDI_PART_HEADS;
    ddi_value *logits = ddi_view(t, p->logits, layer * B * N * c->classes, DDI_SHAPE(B, N, c->classes));
    ddi_value *boxes = ddi_view(t, p->boxes, layer * B * N * 4, DDI_SHAPE(B, N, 4));
    ddi_linear(t, h, class_head->w, class_head->b, false, logits);
    ddi_box_refine(t, ddi_run_box_head(t, &m->box_head[c->shared_box_head ? 0 : layer], h), p->before, c->head_eps, boxes);
    t->part = DDI_PART_DECODER;
}

/* Boxes are predicted from the references that the layer before refined, so that its losses teach that layer, too: look forward
 * twice. The queries themselves get references without a way back. keep: what must live on. Returns how many. */
static int32_t run_layer(ddi_tape *t, const ddi_net *net, int32_t layer, query_group *g, ddi_value *values,
                         const ddi_msda_spec *grid, ddi_value **keep)
{
    const ddi_model_config *c = &net->config;
    const dino *m = net->parts;
    const decoder_layer *own = &m->decoder[layer];
    int32_t kept = 0;
    t->stream = g->stream;
    g->position = run_position(t, net, g->reference, grid->ratio);
    const ddi_attention_spec masks = {.mask = g->mask};
    g->x = ddi_run_self_attention(t, &own->self, &m->block, g->x, g->position, &masks);
    g->x = ddi_run_sampling(t, &own->cross, &m->block, g->x, g->position, values, g->reference, grid);
    g->x = ddi_run_feed_forward(t, &own->ffn, &m->block, g->x);
    t->part = DDI_PART_HEADS;
    const ddi_box_head *box_head = &m->box_head[c->shared_box_head ? 0 : layer];
    ddi_value *refined = ddi_box_refine(t, ddi_run_box_head(t, box_head, g->x), g->reference, REFINE_EPS, NULL);
    t->part = DDI_PART_DECODER;
    ddi_value *normed = ddi_layernorm(t, g->x, NULL, m->decoder_norm.gamma, m->decoder_norm.beta, 0);
    for (int32_t i = 0; i < g->parts; i++) {
        ddi_value *h = rows_of(t, normed, &g->part[i]);
        run_heads(t, net, layer, h, &g->part[i]);
        keep[kept++] = h;
        keep[kept++] = g->part[i].before = rows_of(t, refined, &g->part[i]);
    }
    g->reference = ddi_detach(t, refined);
    g->stream = t->stream;
    ddi_value *const more[] = {g->x, g->reference, g->position};
    for (int32_t i = 0; i < 3; i++) {
        keep[kept + i] = more[i];
    }
    return kept + 3;
}

/* What a layer left in the first group, of which the last part are the model's own queries. */
static void note_layer(ddi_detections *out, int32_t layer, const query_group *g, ddi_value *const *keep)
{
    const int32_t own = g->parts - 1;
    out->layer[layer] = keep[2 * own];
    out->refined[layer] = g->part[own].before;
    out->state[layer] = g->x;
    out->position[layer] = g->position;
}

static void run_decoder(ddi_tape *t, const ddi_net *net, query_group *group, int32_t groups, const ddi_level_masks *masks,
                        ddi_detections *out)
{
    enum { MOST_KEPT = 2 * 7 };
    const ddi_model_config *c = &net->config;
    const dino *m = net->parts;
    const ddi_msda_spec grid = {&out->levels, masks->ratio, masks->padding, c->decoder_heads, c->decoder_points};
    for (int32_t i = 0; i < c->decoder_layers; i++) {
        ddi_scope scope = ddi_scope_begin(t);
        ddi_value *values = ddi_run_attention_values(t, &m->decoder[i].cross, out->encoder), *keep[MOST_KEPT];
        int32_t kept = run_layer(t, net, i, &group[0], values, &grid, keep);
        note_layer(out, i, &group[0], keep);
        kept += groups > 1 ? run_layer(t, net, i, &group[1], values, &grid, keep + kept) : 0;
        ddi_scope_end(t, scope, kept, keep);
    }
}

static void note_outputs(const query_group *group, int32_t groups, ddi_detections *out)
{
    const query_part *own = &group[0].part[group[0].parts - 1];
    out->logits = own->logits;
    out->boxes = own->boxes;
    if (group[0].parts > 1) {
        out->denoising.logits = group[0].part[0].logits;
        out->denoising.boxes = group[0].part[0].boxes;
    }
    if (groups > 1) {
        out->group_logits = group[1].part[0].logits;
        out->group_boxes = group[1].part[0].boxes;
    }
}

static void run_queries(ddi_tape *t, const ddi_net *net, const ddi_model_input *in, const ddi_level_masks *masks,
                        ddi_detections *out)
{
    const ddi_model_config *c = &net->config;
    const dino *m = net->parts;
    const int64_t B = in->image->shape[0];
    ddi_query_values other = {0};
    query_group group[2];
    int32_t groups = 1;
    out->queries = token_queries(t, net, masks, out);
    out->reference = out->queries.reference;
    const bool noisy = t->training && ddi_make_denoising(t, &c->denoising, in->truth, in->noise, m->labels, c->classes, B,
                                                         c->queries, &out->denoising);
    if (t->status != DD_OK) {
        return;
    }
    group[0] = make_group(t, c, out->queries, noisy ? &out->denoising : NULL, t->stream);
    if (in->group && in->group(t, in->group_arg, B, &other)) {
        group[groups++] = make_group(t, c, other, NULL, DDI_SECOND_STREAMS);
    }
    if (t->status == DD_OK) {
        run_decoder(t, net, group, groups, masks, out);
        note_outputs(group, groups, out);
    }
}

static void forward(ddi_tape *t, const ddi_net *net, const ddi_model_input *in, ddi_detections *out)
{
    const dino *m = net->parts;
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
    run_queries(t, net, in, &masks, out);
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
    return true;
}

static const ddi_part_name part_names[] = {
    {"model.backbone.", DDI_PART_BACKBONE}, {"model.input_proj.", DDI_PART_NECK}, {"model.encoder.", DDI_PART_ENCODER},
    {"model.decoder.", DDI_PART_DECODER},   {"class_embed.", DDI_PART_HEADS},     {"bbox_embed.", DDI_PART_HEADS},
    {"model.enc_out_", DDI_PART_HEADS},
};

const ddi_detector ddi_dino = {
    .name = "dino",
    .type = "dino",
    .architecture = "DinoForObjectDetection",
    .auxiliary_loss = true,
    .defaults = "refine=1 two-stage=1 queries=900 ffn=2048 neck-bias=0 dropout=0 attention-dropout=0 activation-dropout=0",
    .bytes = sizeof(dino),
    .part_names = part_names,
    .part_name_count = (int32_t)(sizeof part_names / sizeof part_names[0]),
    .position_column = position_column,
    .content_column = content_column,
    .reads_image = reads_image,
    .no_position = true,
    .denoises = true,
    .first_stride = 8,
    .complaint = complaint,
    .build = build,
    .forward = forward,
    .files = &ddi_dino_files,
};
