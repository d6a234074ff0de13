/* SPDX-License-Identifier: Apache-2.0
 * Sums, products, copies, choices of rows on the tape. */
#include "tape/node.h"

/* ---- Dropout, its own gradient */

static void dropout_back(ddi_tape *t, ddi_node *node)
{
    dd_op_dropout a = *(const dd_op_dropout *)node->args;
    a.x = a.y = ddi_grad_in(t, node->out, true);
    ddi_tape_run(t, DD_OPERATOR_dropout, &a);
}

/* The node's output is a view, so that x's gradient lives on for the node that made x. */
void ddi_dropout(ddi_tape *t, ddi_value *x, double rate)
{
    const dd_dropout draw = ddi_draw(t, rate);
    if (draw.rate <= 0) {
        return;
    }
    const dd_op_dropout a = {x->data, x->data, x->count, draw};
    ddi_tape_run(t, DD_OPERATOR_dropout, &a);
    ddi_tape_count(t, 0, 0, 2 * (double)x->count);
    ddi_note(t, dropout_back, ddi_view(t, x, 0, x->ndim, x->shape), false, &a, sizeof a, 1, &x);
    if (x->again) {
        x->again->drawn = draw;
    }
}

/* ---- a + b */

static void plus_back(ddi_tape *t, ddi_node *node)
{
    ddi_value *a = node->in[0], *b = node->in[1];
    ddi_grad_pass(t, a, node->out);
    if (b->count == node->out->count) {
        ddi_grad_pass(t, b, node->out);
        return;
    }
    const dd_op_copy_rows sum = {.src = ddi_grad_in(t, node->out, false),
                                 .dst = ddi_grad_sum(t, b),
                                 .outer = node->out->count / b->count,
                                 .rows = 1,
                                 .width = b->count,
                                 .src_outer = b->count,
                                 .add = 1};
    if (sum.dst) {
        ddi_tape_run(t, DD_OPERATOR_copy_rows, &sum);
    }
}

static void plus_again(ddi_tape *t, const ddi_node *node, void *y)
{
    dd_op_add a = *(const dd_op_add *)node->args;
    a.a = ddi_need(t, node->in[0]);
    a.b = ddi_need(t, node->in[1]);
    a.y = y;
    ddi_tape_run(t, DD_OPERATOR_add, &a);
}

ddi_value *ddi_plus(ddi_tape *t, ddi_value *a, ddi_value *b)
{
    ddi_value *y = ddi_new(t, a->ndim, a->shape);
    const dd_op_add args = {a->data, b->data, y->data, a->count, b->count};
    ddi_tape_run(t, DD_OPERATOR_add, &args);
    ddi_tape_count(t, 0, 0, 3 * (double)a->count);
    ddi_value *in[] = {a, b};
    ddi_node *node = ddi_note(t, plus_back, y, false, &args, sizeof args, 2, in);
    ddi_note_needed(node, a);
    ddi_note_needed(node, b);
    ddi_note_again(node, plus_again);
    return y;
}

/* ---- a * b */

static void times_back(ddi_tape *t, ddi_node *node)
{
    dd_op_product *p = node->args;
    int32_t add[2];
    p->g_y = ddi_grad_in(t, node->out, false);
    p->g_a = ddi_grad_out(t, node->in[0], &add[0]);
    p->g_b = ddi_grad_out(t, node->in[1], &add[1]);
    p->add = add[0] | add[1] << 1;
    ddi_tape_run(t, DD_OPERATOR_product_grad, p);
}

ddi_value *ddi_times(ddi_tape *t, ddi_value *a, ddi_value *b)
{
    ddi_value *y = ddi_new(t, a->ndim, a->shape);
    const dd_op_product args = {.a = a->data, .b = b->data, .y = y->data, .count = a->count};
    ddi_tape_run(t, DD_OPERATOR_product, &args);
    ddi_tape_count(t, 0, 0, 3 * (double)a->count);
    ddi_value *in[] = {a, b};
    ddi_node *node = ddi_note(t, times_back, y, false, &args, sizeof args, 2, in);
    ddi_note_saved(node, a);
    ddi_note_saved(node, b);
    return y;
}

/* ---- Strided copies: what is copied forward is added backward */

static void copy_back(ddi_tape *t, ddi_node *node)
{
    const dd_op_copy_rows *a = node->args;
    const ddi_value *x = node->in[0];
    const char *start = x->data;
    char *grad = ddi_grad_sum(t, node->in[0]), *from = ddi_grad_in(t, node->out, false);
    if (!grad || !from) {
        return;
    }
    const dd_op_copy_rows back = {.src = from + ((char *)a->dst - node->out->data),
                                  .dst = grad + ((const char *)a->src - start),
                                  .outer = a->outer,
                                  .rows = a->rows,
                                  .width = a->width,
                                  .src_outer = a->dst_outer,
                                  .src_row = a->dst_row,
                                  .dst_outer = a->src_outer,
                                  .dst_row = a->src_row,
                                  .add = 1};
    ddi_tape_run(t, DD_OPERATOR_copy_rows, &back);
}

static void copy_part(ddi_tape *t, ddi_value *x, ddi_value *y, const dd_op_copy_rows *args)
{
    ddi_tape_run(t, DD_OPERATOR_copy_rows, args);
    ddi_tape_count(t, 0, 0, 2 * (double)(args->outer * args->rows * args->width));
    ddi_note(t, copy_back, y, false, args, sizeof *args, 1, &x);
}

ddi_value *ddi_repeat_columns(ddi_tape *t, ddi_value *x, int64_t images, int64_t first, int64_t width)
{
    const int64_t d = x->shape[x->ndim - 1], rows = x->count / d;
    ddi_value *y = ddi_new(t, DDI_SHAPE(images, rows, width));
    const dd_op_copy_rows a = {.src = x->data + (size_t)first * t->element,
                               .dst = y->data,
                               .outer = images,
                               .rows = rows,
                               .width = width,
                               .src_row = d,
                               .dst_outer = rows * width,
                               .dst_row = width};
    copy_part(t, x, y, &a);
    return y;
}

ddi_value *ddi_take_range(ddi_tape *t, ddi_value *x, int64_t first, int64_t rows)
{
    const int64_t d = x->shape[2];
    ddi_value *y = ddi_new(t, DDI_SHAPE(x->shape[0], rows, d));
    const dd_op_copy_rows a = {.src = x->data + (size_t)(first * d) * t->element,
                               .dst = y->data,
                               .outer = x->shape[0],
                               .rows = 1,
                               .width = rows * d,
                               .src_outer = x->shape[1] * d,
                               .dst_outer = rows * d};
    copy_part(t, x, y, &a);
    return y;
}

ddi_value *ddi_join_rows(ddi_tape *t, ddi_value *a, ddi_value *b)
{
    const int64_t B = a->shape[0], rows = a->shape[1] + b->shape[1], d = a->shape[2];
    ddi_value *y = ddi_new(t, DDI_SHAPE(B, rows, d)), *from[] = {a, b};
    for (int32_t i = 0; i < 2 && t->status == DD_OK; i++) {
        const int64_t first = i ? a->shape[1] : 0, n = from[i]->shape[1];
        /* A value of each part, so that its gradient lasts until both have had theirs. */
        ddi_value *part = ddi_view(t, y, first * d, DDI_SHAPE((B - 1) * rows + n, d));
        const dd_op_copy_rows copy = {.src = from[i]->data,
                                      .dst = part->data,
                                      .outer = B,
                                      .rows = 1,
                                      .width = n * d,
                                      .src_outer = n * d,
                                      .dst_outer = rows * d};
        copy_part(t, from[i], part, &copy);
    }
    return y;
}

ddi_value *ddi_join_heads(ddi_tape *t, ddi_value *a, ddi_value *b, int32_t heads)
{
    const int64_t B = a->shape[0], N = a->shape[1], width = a->shape[2] / heads, rows = B * N * heads;
    ddi_value *y = ddi_new(t, DDI_SHAPE(B, N, 2 * a->shape[2])), *from[] = {a, b};
    for (int32_t i = 0; i < 2 && t->status == DD_OK; i++) {
        ddi_value *part = ddi_view(t, y, i * width, DDI_SHAPE(2 * rows - 1, width)); /* as in ddi_join_rows */
        const dd_op_copy_rows copy = {.src = from[i]->data,
                                      .dst = part->data,
                                      .outer = 1,
                                      .rows = rows,
                                      .width = width,
                                      .src_row = width,
                                      .dst_row = 2 * width};
        copy_part(t, from[i], part, &copy);
    }
    return y;
}

/* ---- Masked rows */

static void mask_back(ddi_tape *t, ddi_node *node)
{
    dd_op_mask_rows a = *(const dd_op_mask_rows *)node->args;
    a.y = ddi_grad_in(t, node->out, true);
    a.x = a.y;
    ddi_tape_run(t, DD_OPERATOR_mask_rows, &a);
    ddi_grad_pass(t, node->in[0], node->out);
}

ddi_value *ddi_mask_rows(ddi_tape *t, ddi_value *x, ddi_value *mask)
{
    if (!mask) {
        return x;
    }
    const int64_t d = x->shape[x->ndim - 1];
    ddi_value *y = ddi_new(t, x->ndim, x->shape);
    const dd_op_mask_rows a = {x->data, (const uint8_t *)mask->data, y->data, x->count / d, (int32_t)d};
    ddi_tape_run(t, DD_OPERATOR_mask_rows, &a);
    ddi_tape_count(t, 0, 0, 2 * (double)x->count);
    ddi_note_saved(ddi_note(t, mask_back, y, false, &a, sizeof a, 1, &x), mask);
    return y;
}

/* ---- Rows by index */

static void take_back(ddi_tape *t, ddi_node *node)
{
    dd_op_take_rows a = *(const dd_op_take_rows *)node->args;
    ddi_value *x = node->in[0];
    ddi_value *spread = ddi_new(t, x->ndim, x->shape);
    const int64_t listed = a.rows_per_block;
    a.src = ddi_grad_in(t, node->out, false);
    a.dst = spread->data;
    a.rows_per_block = a.src_rows_per_block;
    a.src_rows_per_block = listed;
    a.inverse = 1;
    ddi_tape_run(t, DD_OPERATOR_take_rows, &a);
    if (t->status == DD_OK) {
        spread->grad_block = ddi_arena_keep(spread->block);
        ddi_grad_pass(t, x, spread);
    }
}

ddi_value *ddi_take_rows(ddi_tape *t, ddi_value *x, ddi_value *index, int64_t k)
{
    ddi_value *y = ddi_new(t, DDI_SHAPE(x->shape[0], k, x->shape[2]));
    const dd_op_take_rows a = {.src = x->data,
                               .index = (const int32_t *)index->data,
                               .dst = y->data,
                               .rows = x->shape[0] * k,
                               .rows_per_block = k,
                               .src_rows_per_block = x->shape[1],
                               .d = (int32_t)x->shape[2]};
    ddi_tape_run(t, DD_OPERATOR_take_rows, &a);
    ddi_tape_count(t, 0, 0, 2 * (double)y->count);
    ddi_note_saved(ddi_note(t, take_back, y, false, &a, sizeof a, 1, &x), index);
    return y;
}

ddi_value *ddi_top_rows(ddi_tape *t, ddi_value *x, int64_t k)
{
    ddi_value *index = ddi_bytes(t, (size_t)(x->shape[0] * k) * sizeof(int32_t));
    const dd_op_top_rows a = {x->data, (int32_t *)index->data, x->shape[1], x->shape[2], (int32_t)x->shape[0], (int32_t)k};
    ddi_tape_run(t, DD_OPERATOR_top_rows, &a);
    return index;
}

ddi_value *ddi_row_max(ddi_tape *t, ddi_value *x)
{
    const int64_t d = x->shape[2];
    ddi_value *y = ddi_new(t, DDI_SHAPE(x->shape[0], x->shape[1]));
    const dd_op_row_max a = {x->data, y->data, x->count / d, d};
    ddi_tape_run(t, DD_OPERATOR_row_max, &a);
    return y;
}

/* ---- Rows of a table, as often as they are asked for */

static void lookup_back(ddi_tape *t, ddi_node *node)
{
    dd_op_add_rows *a = node->args;
    a->x = ddi_grad_in(t, node->out, false);
    ddi_tape_run(t, DD_OPERATOR_add_rows, a);
}

ddi_value *ddi_lookup(ddi_tape *t, ddi_param *table, ddi_value *index, int64_t rows)
{
    const int64_t d = table->shape[1];
    ddi_value *y = ddi_new(t, DDI_SHAPE(1, rows, d));
    const int32_t *list = (const int32_t *)index->data;
    const dd_op_take_rows take = {.src = table->data,
                                  .index = list,
                                  .dst = y->data,
                                  .rows = rows,
                                  .rows_per_block = rows,
                                  .src_rows_per_block = table->shape[0],
                                  .d = (int32_t)d};
    ddi_tape_run(t, DD_OPERATOR_take_rows, &take);
    ddi_tape_count(t, 0, 0, 2 * (double)y->count);
    const dd_op_add_rows add = {.index = list, .table = table->grad, .rows = rows, .d = (int32_t)d};
    ddi_note_saved(ddi_note(t, lookup_back, y, table->grad != NULL, &add, sizeof add, 0, NULL), index);
    return y;
}

ddi_value *ddi_scale_references(ddi_tape *t, ddi_value *reference, ddi_value *ratio)
{
    if (!ratio) {
        return reference;
    }
    ddi_value *y = ddi_new(t, reference->ndim, reference->shape);
    const dd_op_scale_references a = {.x = reference->data,
                                      .ratio = ratio->data,
                                      .y = y->data,
                                      .N = reference->shape[1],
                                      .B = (int32_t)reference->shape[0],
                                      .L = (int32_t)ratio->shape[1],
                                      .R = (int32_t)reference->shape[2]};
    ddi_tape_run(t, DD_OPERATOR_scale_references, &a);
    return y;
}
