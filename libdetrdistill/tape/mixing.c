/* SPDX-License-Identifier: Apache-2.0
 * AdaMixer's operators on the tape: positions, overlap, 3-D sampling, adaptive mixing (detectors.md 4). */
#include "tape/node.h"

#include <string.h>

ddi_value *ddi_xyzr_start(ddi_tape *t, ddi_value *boxes, int64_t images, ddi_value *size)
{
    const int64_t N = boxes->shape[0];
    ddi_value *y = ddi_new(t, DDI_SHAPE(images, N, 4));
    const dd_op_xyzr_start a = {.boxes = boxes->data,
                                .size = (const int32_t *)(const void *)size->data,
                                .y = y->data,
                                .B = (int32_t)images,
                                .N = (int32_t)N};
    ddi_tape_run(t, DD_OPERATOR_xyzr_start, &a);
    return y;
}

/* ---- Overlap as a bias of attention */

static void iof_back(ddi_tape *t, ddi_node *node)
{
    dd_op_iof_bias *a = node->args;
    a->g_y = ddi_grad_in(t, node->out, false);
    ddi_tape_run(t, DD_OPERATOR_iof_bias_grad, a);
}

ddi_value *ddi_iof_bias(ddi_tape *t, ddi_value *position, ddi_param *tau)
{
    const int64_t B = position->shape[0], N = position->shape[1], M = tau->count;
    const bool wanted = t->record && tau->grad;
    ddi_value *y = ddi_new(t, DDI_SHAPE(B, M, N, N)), *overlap = wanted ? ddi_new(t, DDI_SHAPE(B, N, N)) : NULL;
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    const dd_op_iof_bias a = {.position = position->data,
                              .tau = tau->data,
                              .overlap = overlap ? overlap->data : NULL,
                              .y = y->data,
                              .g_tau = ddi_param_grad(tau),
                              .B = (int32_t)B,
                              .N = (int32_t)N,
                              .M = (int32_t)M};
    ddi_tape_run(t, DD_OPERATOR_iof_bias, &a);
    ddi_tape_count(t, 0, 0, (double)y->count);
    ddi_note_saved(ddi_note(t, iof_back, y, wanted, &a, sizeof a, 0, NULL), overlap);
    return y;
}

/* ---- Positions moved by a head, and their boxes */

static void xyzr_back(ddi_tape *t, ddi_node *node)
{
    dd_op_xyzr_refine *a = node->args;
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_delta = ddi_grad_out(t, node->in[0], &a->add);
    ddi_tape_run(t, DD_OPERATOR_xyzr_refine_grad, a);
}

ddi_value *ddi_xyzr_refine(ddi_tape *t, ddi_value *position, ddi_value *delta, ddi_value *size, ddi_value **next,
                           ddi_value *into)
{
    ddi_value *y = ddi_result(t, into, position->ndim, position->shape);
    *next = ddi_new(t, position->ndim, position->shape);
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    const dd_op_xyzr_refine a = {.position = position->data,
                                 .delta = delta->data,
                                 .size = (const int32_t *)(const void *)size->data,
                                 .next = (*next)->data,
                                 .y = y->data,
                                 .B = (int32_t)position->shape[0],
                                 .N = (int32_t)position->shape[1]};
    ddi_tape_run(t, DD_OPERATOR_xyzr_refine, &a);
    ddi_tape_count(t, 0, 0, 4 * (double)y->count);
    ddi_node *node = ddi_note(t, xyzr_back, y, false, &a, sizeof a, 1, &delta);
    ddi_note_saved(node, position);
    ddi_note_saved(node, size);
    ddi_note_saved(node, y);
    return y;
}

/* ---- Sampling of the pyramid */

static void sample3d_back(ddi_tape *t, ddi_node *node)
{
    dd_op_sample3d *a = node->args;
    int32_t add[2] = {0};
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_value = ddi_grad_out(t, node->in[0], &add[0]);
    a->g_off = ddi_grad_out(t, node->in[1], &add[1]);
    a->add = add[0] | add[1] << 1;
    ddi_tape_run(t, DD_OPERATOR_sample3d_grad, a);
}

ddi_value *ddi_sample3d(ddi_tape *t, ddi_value *tokens, ddi_value *off, ddi_value *position, const ddi_levels *levels,
                        int32_t groups)
{
    const int64_t B = tokens->shape[0], N = off->shape[1], P = off->shape[2] / groups / 3, D = tokens->shape[2] / groups;
    ddi_value *y = ddi_new(t, DDI_SHAPE(B * N, groups, P, D));
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    dd_op_sample3d a = {.value = tokens->data,
                        .off = off->data,
                        .position = position->data,
                        .y = y->data,
                        .S = tokens->shape[1],
                        .B = (int32_t)B,
                        .N = (int32_t)N,
                        .G = groups,
                        .D = (int32_t)D,
                        .L = levels->count,
                        .P = (int32_t)P,
                        .tau = 2};
    memcpy(a.height, levels->height, sizeof a.height);
    memcpy(a.width, levels->width, sizeof a.width);
    for (int32_t l = 0; l < levels->count; l++) {
        a.stride[l] = 4 << l;
    }
    ddi_tape_run(t, DD_OPERATOR_sample3d, &a);
    ddi_tape_count(t, (double)y->count * 4 * a.L, 0, (double)(tokens->count + off->count + y->count));
    ddi_value *in[] = {tokens, off};
    ddi_node *node = ddi_note(t, sample3d_back, y, false, &a, sizeof a, 2, in);
    ddi_note_saved(node, tokens);
    ddi_note_saved(node, off);
    ddi_note_saved(node, position);
    return y;
}

/* ---- Adaptive mixing */

static void mixing_back(ddi_tape *t, ddi_node *node)
{
    dd_op_mixing *a = node->args;
    int32_t add[2] = {0};
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_x = ddi_grad_out(t, node->in[0], &add[0]);
    a->g_params = ddi_grad_out(t, node->in[1], &add[1]);
    a->add = add[0] | add[1] << 1;
    ddi_tape_run(t, DD_OPERATOR_mixing_grad, a);
}

ddi_value *ddi_mixing(ddi_tape *t, ddi_value *x, ddi_value *params, int32_t out)
{
    const int64_t rows = x->shape[0], G = x->shape[1], in = x->shape[2], c = x->shape[3];
    ddi_value *y = ddi_new(t, DDI_SHAPE(params->shape[0], params->shape[1], G * out * c));
    ddi_value *stats = ddi_new(t, DDI_SHAPE(rows, G, 4));
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    const dd_op_mixing a = {.x = x->data,
                            .params = params->data,
                            .y = y->data,
                            .stats = stats->data,
                            .rows = rows,
                            .G = (int32_t)G,
                            .in = (int32_t)in,
                            .out = out,
                            .c = (int32_t)c};
    ddi_tape_run(t, DD_OPERATOR_mixing, &a);
    const double products = (double)x->count * (double)c + (double)y->count * (double)in;
    /* the counting rule sees the two ReLUs alone */
    ddi_tape_count(t, products, (double)(x->count + y->count), (double)(x->count + params->count + y->count));
    ddi_value *inputs[] = {x, params};
    ddi_node *node = ddi_note(t, mixing_back, y, false, &a, sizeof a, 2, inputs);
    ddi_note_saved(node, x);
    ddi_note_saved(node, params);
    ddi_note_saved(node, stats);
    return y;
}
