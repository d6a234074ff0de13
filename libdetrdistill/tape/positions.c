/* SPDX-License-Identifier: Apache-2.0
 * Position codes, references and boxes on the tape. */
#include "tape/node.h"

#include <string.h>

/* ---- Sine code of every level, plus the level's embedding */

typedef struct position_args {
    const ddi_levels *levels;
    ddi_param *embedding;
    int64_t images, channels;
} position_args;

/* An embedding's gradient sums over its level's tokens. */
static void position_back(ddi_tape *t, ddi_node *node)
{
    const position_args *a = node->args;
    const int64_t C = a->channels;
    const char *grad = ddi_grad_in(t, node->out, false);
    for (int32_t l = 0; grad && l < a->levels->count; l++) {
        const dd_op_copy_rows sum = {.src = grad + (size_t)(a->levels->first[l] * C) * t->element,
                                     .dst = a->embedding->grad + (size_t)(l * C) * t->element,
                                     .outer = a->images,
                                     .rows = (int64_t)a->levels->height[l] * a->levels->width[l],
                                     .width = C,
                                     .src_outer = a->levels->tokens * C,
                                     .src_row = C,
                                     .add = 1};
        ddi_tape_run(t, DD_OPERATOR_copy_rows, &sum);
    }
}

ddi_value *ddi_sine_position(ddi_tape *t, const ddi_levels *levels, int64_t images, int64_t channels, ddi_value *valid,
                             ddi_param *embedding, double temperature, double offset)
{
    ddi_value *y = ddi_new(t, DDI_SHAPE(images, levels->tokens, channels));
    for (int32_t l = 0; l < levels->count && t->status == DD_OK; l++) {
        const dd_op_sine_position a = {.valid = (const int32_t *)valid->data + l * images * 2,
                                       .embedding = embedding ? embedding->data + (size_t)(l * channels) * t->element : NULL,
                                       .y = y->data + (size_t)(levels->first[l] * channels) * t->element,
                                       .y_stride = levels->tokens * channels,
                                       .B = (int32_t)images,
                                       .H = levels->height[l],
                                       .W = levels->width[l],
                                       .C = (int32_t)channels,
                                       .temperature = temperature,
                                       .offset = offset};
        ddi_tape_run(t, DD_OPERATOR_sine_position, &a);
    }
    ddi_tape_count(t, 0, 0, (double)y->count);
    const position_args a = {levels, embedding, images, channels};
    ddi_note(t, position_back, y, embedding && embedding->grad, &a, sizeof a, 0, NULL);
    return y;
}

/* ---- Coordinate embedding */

static void embed_back(ddi_tape *t, ddi_node *node)
{
    dd_op_coord_embed *a = node->args;
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_x = ddi_grad_out(t, node->in[0], &a->add);
    if (a->g_x) {
        ddi_tape_run(t, DD_OPERATOR_coord_embed_grad, a);
    }
}

static ddi_value *embed(ddi_tape *t, ddi_value *x, dd_op_coord_embed a)
{
    ddi_value *y = ddi_new(t, DDI_SHAPE(x->shape[0], x->shape[1], x->shape[2] * a.n));
    a.x = x->data;
    a.y = y->data;
    a.rows = x->shape[0] * x->shape[1];
    a.coordinates = (int32_t)x->shape[2];
    a.temperature = 10000;
    ddi_tape_run(t, DD_OPERATOR_coord_embed, &a);
    ddi_tape_count(t, 0, 0, (double)y->count);
    ddi_note_saved(ddi_note(t, embed_back, y, false, &a, sizeof a, 1, &x), x);
    return y;
}

ddi_value *ddi_coord_embed(ddi_tape *t, ddi_value *x, int32_t n, const int32_t *order, double scale)
{
    dd_op_coord_embed a = {.n = n, .scale = scale};
    memcpy(a.order, order, (size_t)x->shape[2] * sizeof *order);
    return embed(t, x, a);
}

ddi_value *ddi_xyzr_embed(ddi_tape *t, ddi_value *position, int32_t n)
{
    const dd_op_coord_embed a = {.n = n, .order = {0, 1, 2, 3}, .scale = 1, .unit = {1000, 1000, 1, 1}};
    return embed(t, position, a);
}

/* ---- Logistic function */

static void sigmoid_back(ddi_tape *t, ddi_node *node)
{
    dd_op_sigmoid *a = node->args;
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_x = ddi_grad_out(t, node->in[0], &a->add);
    if (a->g_x) {
        ddi_tape_run(t, DD_OPERATOR_sigmoid_grad, a);
    }
}

ddi_value *ddi_sigmoid(ddi_tape *t, ddi_value *x)
{
    ddi_value *y = ddi_new(t, x->ndim, x->shape);
    const dd_op_sigmoid a = {.x = x->data, .y = y->data, .count = x->count};
    ddi_tape_run(t, DD_OPERATOR_sigmoid, &a);
    ddi_tape_count(t, 0, 0, 2 * (double)x->count);
    ddi_note_saved(ddi_note(t, sigmoid_back, y, false, &a, sizeof a, 1, &x), y);
    return y;
}

/* ---- Larger of number and zero */

static void relu_back(ddi_tape *t, ddi_node *node)
{
    dd_op_relu *a = node->args;
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_x = ddi_grad_out(t, node->in[0], &a->add);
    if (a->g_x) {
        ddi_tape_run(t, DD_OPERATOR_relu_grad, a);
    }
}

ddi_value *ddi_relu(ddi_tape *t, ddi_value *x)
{
    ddi_value *y = ddi_new(t, x->ndim, x->shape);
    const dd_op_relu a = {.x = x->data, .y = y->data, .count = x->count};
    ddi_tape_run(t, DD_OPERATOR_relu, &a);
    ddi_tape_count(t, 0, (double)x->count, 2 * (double)x->count);
    ddi_note_saved(ddi_note(t, relu_back, y, false, &a, sizeof a, 1, &x), y);
    return y;
}

/* ---- Box from an offset and a reference */

static void refine_back(ddi_tape *t, ddi_node *node)
{
    dd_op_box_refine *a = node->args;
    int32_t add_t = 0, add_ref = 0;
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_t = ddi_grad_out(t, node->in[0], &add_t);
    a->g_ref = ddi_grad_out(t, node->in[1], &add_ref);
    a->add = add_t | add_ref << 1;
    ddi_tape_run(t, DD_OPERATOR_box_refine_grad, a);
}

ddi_value *ddi_box_refine(ddi_tape *t, ddi_value *offset, ddi_value *ref, double eps, ddi_value *into)
{
    ddi_value *y = ddi_result(t, into, offset->ndim, offset->shape);
    const dd_op_box_refine a = {.t = offset->data,
                                .ref = ref->data,
                                .y = y->data,
                                .rows = offset->count / 4,
                                .ref_rows = ref->count / ref->shape[2],
                                .R = (int32_t)ref->shape[2],
                                .eps = eps};
    ddi_tape_run(t, DD_OPERATOR_box_refine, &a);
    ddi_tape_count(t, 0, 0, 2 * (double)y->count);
    ddi_value *in[] = {offset, ref};
    ddi_node *node = ddi_note(t, refine_back, y, false, &a, sizeof a, 2, in);
    ddi_note_saved(node, y);
    ddi_note_saved(node, ref);
    return y;
}

/* ---- Constants of the token grid */

ddi_value *ddi_grid_points(ddi_tape *t, const ddi_levels *levels, int64_t images, ddi_value *ratio)
{
    ddi_value *y = ddi_new(t, DDI_SHAPE(images, levels->tokens, 2));
    dd_op_grid_points a = {
        .ratio = ratio ? ratio->data : NULL, .y = y->data, .S = levels->tokens, .B = (int32_t)images, .L = levels->count};
    memcpy(a.height, levels->height, sizeof a.height);
    memcpy(a.width, levels->width, sizeof a.width);
    ddi_tape_run(t, DD_OPERATOR_grid_points, &a);
    return y;
}

ddi_value *ddi_proposals(ddi_tape *t, const ddi_levels *levels, int64_t images, ddi_value *valid, ddi_value **drop)
{
    ddi_value *y = ddi_new(t, DDI_SHAPE(images, levels->tokens, 4));
    *drop = ddi_bytes(t, (size_t)(images * levels->tokens));
    dd_op_proposals a = {.valid = (const int32_t *)valid->data,
                         .logit = y->data,
                         .drop = (uint8_t *)(*drop)->data,
                         .S = levels->tokens,
                         .B = (int32_t)images,
                         .L = levels->count};
    memcpy(a.height, levels->height, sizeof a.height);
    memcpy(a.width, levels->width, sizeof a.width);
    ddi_tape_run(t, DD_OPERATOR_proposals, &a);
    return y;
}
