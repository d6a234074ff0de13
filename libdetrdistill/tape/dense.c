/* SPDX-License-Identifier: Apache-2.0
 * Convolutions, matrix products and norms on the tape. */
#include "tape/node.h"

static bool param_wants(const ddi_param *p)
{
    return p && p->grad;
}

/* ---- y = relu(x w^T + bias) */

static void linear_back(ddi_tape *t, ddi_node *node)
{
    dd_op_linear *a = node->args;
    a->x = ddi_need(t, node->in[0]);
    a->y = ddi_need(t, node->out);
    a->g_y = ddi_grad_in(t, node->out, a->relu != 0);
    a->g_x = ddi_grad_out(t, node->in[0], &a->add);
    ddi_tape_run(t, DD_OPERATOR_linear_grad, a);
}

static void linear_again(ddi_tape *t, const ddi_node *node, void *y)
{
    dd_op_linear a = *(const dd_op_linear *)node->args;
    a.x = ddi_need(t, node->in[0]);
    a.y = y;
    ddi_tape_run(t, DD_OPERATOR_linear, &a);
}

ddi_value *ddi_linear(ddi_tape *t, ddi_value *x, ddi_param *w, ddi_param *bias, bool relu, ddi_value *into)
{
    int64_t shape[4] = {0};
    for (int32_t i = 0; i < x->ndim; i++) {
        shape[i] = x->shape[i];
    }
    const int64_t K = w->shape[1], N = w->shape[0], rows = x->count / K;
    shape[x->ndim - 1] = N;
    ddi_value *y = ddi_result(t, into, x->ndim, shape);
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    const dd_op_linear a = {.x = x->data,
                            .w = w->data,
                            .bias = bias ? bias->data : NULL,
                            .y = y->data,
                            .g_w = ddi_param_grad(w),
                            .g_bias = ddi_param_grad(bias),
                            .rows = rows,
                            .ldx = K,
                            .ldy = N,
                            .K = (int32_t)K,
                            .N = (int32_t)N,
                            .relu = relu,
                            .compute = t->compute};
    ddi_tape_run(t, DD_OPERATOR_linear, &a);
    const double products = (double)rows * (double)K * (double)N;
    ddi_tape_count(t, products, products, (double)(x->count + y->count + w->count));
    ddi_node *node = ddi_note(t, linear_back, y, param_wants(w) || param_wants(bias), &a, sizeof a, 1, &x);
    ddi_note_needed(node, x);
    if (t->sparing && relu && N > K && !into) {
        ddi_note_again(node, linear_again);
    }
    ddi_note_needed(node, relu ? y : NULL);
    return y;
}

/* ---- y = relu(conv(x, w) scale + shift + residual) */

static void conv_back(ddi_tape *t, ddi_node *node)
{
    dd_op_conv *a = node->args;
    a->g_y = ddi_grad_in(t, node->out, a->relu != 0);
    a->g_x = ddi_grad_out(t, node->in[0], &a->add);
    a->g_scale = node->in[2] ? ddi_grad_sum(t, node->in[2]) : NULL;
    a->g_shift = node->in[3] ? ddi_grad_sum(t, node->in[3]) : NULL;
    ddi_tape_run(t, DD_OPERATOR_conv_grad, a);
    if (node->in[1]) {
        ddi_grad_pass(t, node->in[1], node->out);
    }
}

static void *data_of(const ddi_value *v)
{
    return v ? v->data : NULL;
}

ddi_value *ddi_conv(ddi_tape *t, ddi_value *x, const ddi_conv_spec *s)
{
    const int64_t kernel = s->w->shape[2], out = s->w->shape[0], H = x->shape[1], W = x->shape[2];
    const int64_t OH = (H + 2 * s->pad - kernel) / s->stride + 1, OW = (W + 2 * s->pad - kernel) / s->stride + 1;
    ddi_value *y = ddi_new(t, DDI_SHAPE(x->shape[0], OH, OW, out));
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    const dd_op_conv a = {.x = x->data,
                          .w = s->w->data,
                          .scale = data_of(s->scale),
                          .shift = data_of(s->shift),
                          .residual = data_of(s->residual),
                          .y = y->data,
                          .g_w = ddi_param_grad(s->w),
                          .B = (int32_t)x->shape[0],
                          .H = (int32_t)H,
                          .W = (int32_t)W,
                          .Cin = (int32_t)x->shape[3],
                          .Cout = (int32_t)out,
                          .OH = (int32_t)OH,
                          .OW = (int32_t)OW,
                          .kernel = (int32_t)kernel,
                          .stride = s->stride,
                          .pad = s->pad,
                          .relu = s->relu,
                          .compute = t->compute};
    ddi_tape_run(t, DD_OPERATOR_conv, &a);
    const double products = (double)y->count * (double)(s->w->count / out);
    const double others = (double)y->count * ((s->norm ? 2 : s->shift ? 1 : 0) + s->relu);
    ddi_tape_count(t, products, products + others, (double)(x->count + y->count + s->w->count));
    ddi_value *in[] = {x, s->residual, s->scale, s->shift};
    ddi_node *node = ddi_note(t, conv_back, y, param_wants(s->w), &a, sizeof a, 4, in);
    ddi_note_saved(node, x);
    ddi_note_saved(node, s->scale);
    ddi_note_saved(node, s->relu ? y : NULL);
    return y;
}

/* ---- A norm with fixed statistics, for the convolution before it */

static void fold_norm_back(ddi_tape *t, ddi_node *node)
{
    dd_op_fold_norm *a = node->args;
    a->g_y = ddi_grad_in(t, node->out, false);
    ddi_tape_run(t, DD_OPERATOR_fold_norm_grad, a);
}

ddi_value *ddi_fold_norm(ddi_tape *t, ddi_param *gamma, ddi_param *beta, const ddi_param *mean, const ddi_param *variance)
{
    ddi_value *y = ddi_new(t, DDI_SHAPE(2, gamma->count));
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    const dd_op_fold_norm a = {.gamma = gamma->data,
                               .beta = beta->data,
                               .mean = mean->data,
                               .variance = variance->data,
                               .y = y->data,
                               .g_gamma = ddi_param_grad(gamma),
                               .g_beta = ddi_param_grad(beta),
                               .C = gamma->count};
    ddi_tape_run(t, DD_OPERATOR_fold_norm, &a);
    ddi_tape_count(t, 0, 0, 6 * (double)gamma->count);
    ddi_note(t, fold_norm_back, y, param_wants(gamma) || param_wants(beta), &a, sizeof a, 0, NULL);
    return y;
}

/* ---- Largest of each window */

static void maxpool_back(ddi_tape *t, ddi_node *node)
{
    dd_op_maxpool *a = node->args;
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_x = ddi_grad_out(t, node->in[0], &a->add);
    ddi_tape_run(t, DD_OPERATOR_maxpool_grad, a);
}

ddi_value *ddi_maxpool(ddi_tape *t, ddi_value *x, int32_t kernel, int32_t stride, int32_t pad)
{
    const int64_t H = x->shape[1], W = x->shape[2];
    const int64_t OH = (H + 2 * pad - kernel) / stride + 1, OW = (W + 2 * pad - kernel) / stride + 1;
    ddi_value *y = ddi_new(t, DDI_SHAPE(x->shape[0], OH, OW, x->shape[3]));
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    const dd_op_maxpool a = {.x = x->data,
                             .y = y->data,
                             .B = (int32_t)x->shape[0],
                             .H = (int32_t)H,
                             .W = (int32_t)W,
                             .C = (int32_t)x->shape[3],
                             .OH = (int32_t)OH,
                             .OW = (int32_t)OW,
                             .kernel = kernel,
                             .stride = stride,
                             .pad = pad};
    ddi_tape_run(t, DD_OPERATOR_maxpool, &a);
    ddi_tape_count(t, 0, (double)x->count, (double)(x->count + y->count));
    ddi_node *node = ddi_note(t, maxpool_back, y, false, &a, sizeof a, 1, &x);
    ddi_note_saved(node, x);
    ddi_note_saved(node, y);
    return y;
}

/* ---- Group norm of a map, into a level of the tokens */

static void groupnorm_back(ddi_tape *t, ddi_node *node)
{
    dd_op_groupnorm *a = node->args;
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_x = ddi_grad_out(t, node->in[0], &a->add);
    ddi_tape_run(t, DD_OPERATOR_groupnorm_grad, a);
}

ddi_value *ddi_groupnorm(ddi_tape *t, ddi_value *x, ddi_param *gamma, ddi_param *beta, int32_t groups, ddi_value *tokens,
                         int64_t first)
{
    const int64_t B = x->shape[0], P = x->shape[1] * x->shape[2], C = x->shape[3];
    ddi_value *y =
        tokens ? ddi_view(t, tokens, first * C, DDI_SHAPE((B - 1) * tokens->shape[1] + P, C)) : ddi_new(t, DDI_SHAPE(B, P, C));
    ddi_value *mean = ddi_new(t, DDI_SHAPE(B, groups)), *rstd = ddi_new(t, DDI_SHAPE(B, groups));
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    const dd_op_groupnorm a = {.x = x->data,
                               .gamma = gamma->data,
                               .beta = beta->data,
                               .y = y->data,
                               .mean = mean->data,
                               .rstd = rstd->data,
                               .g_gamma = ddi_param_grad(gamma),
                               .g_beta = ddi_param_grad(beta),
                               .P = P,
                               .y_stride = tokens ? tokens->shape[1] * C : P * C,
                               .B = (int32_t)B,
                               .C = (int32_t)C,
                               .groups = groups};
    ddi_tape_run(t, DD_OPERATOR_groupnorm, &a);
    ddi_tape_count(t, 0, 2 * (double)x->count, 2 * (double)x->count);
    ddi_node *node = ddi_note(t, groupnorm_back, y, param_wants(gamma), &a, sizeof a, 1, &x);
    ddi_note_saved(node, x);
    ddi_note_saved(node, mean);
    ddi_note_saved(node, rstd);
    return tokens ? tokens : y;
}

/* ---- LN(x + dropout(r)) */

static void layernorm_back(ddi_tape *t, ddi_node *node)
{
    dd_op_layernorm *a = node->args;
    ddi_value *x = node->in[0], *r = node->in[1];
    int32_t add_x = 0, add_r = 0;
    const bool own_r = r && a->dropout.rate > 0;
    /* Both branches have one gradient where nothing was dropped: it is made for the second and passed on to the first. */
    const bool shared = r && !own_r && ddi_wants(r) && !r->base && !r->grad_block;
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_x = ddi_grad_out(t, shared ? r : x, &add_x);
    a->g_r = own_r ? ddi_grad_out(t, r, &add_r) : NULL;
    a->add = add_x | add_r << 1;
    ddi_tape_run(t, DD_OPERATOR_layernorm_grad, a);
    if (shared) {
        ddi_grad_pass(t, x, r);
    } else if (r && !own_r && ddi_wants(r)) {
        a->g_x = ddi_grad_out(t, r, &a->add);
        a->g_gamma = a->g_beta = NULL;
        ddi_tape_run(t, DD_OPERATOR_layernorm_grad, a);
    }
}

/* From the sum that was kept. */
static void layernorm_again(ddi_tape *t, const ddi_node *node, void *y)
{
    dd_op_layernorm a = *(const dd_op_layernorm *)node->args;
    a.x = a.s;
    a.r = a.s = NULL;
    a.y = y;
    a.dropout.rate = 0;
    ddi_tape_run(t, DD_OPERATOR_layernorm, &a);
}

ddi_value *ddi_layernorm(ddi_tape *t, ddi_value *x, ddi_value *r, ddi_param *gamma, ddi_param *beta, double dropout)
{
    const int64_t d = x->shape[x->ndim - 1], rows = x->count / d;
    ddi_value *y = ddi_new(t, x->ndim, x->shape);
    ddi_value *s = r && t->record ? ddi_new(t, x->ndim, x->shape) : NULL;
    ddi_value *mean = ddi_new(t, DDI_SHAPE(rows)), *rstd = ddi_new(t, DDI_SHAPE(rows));
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    const dd_op_layernorm a = {.x = x->data,
                               .r = data_of(r),
                               .gamma = gamma ? gamma->data : NULL,
                               .beta = beta ? beta->data : NULL,
                               .s = data_of(s),
                               .y = y->data,
                               .mean = mean->data,
                               .rstd = rstd->data,
                               .g_gamma = ddi_param_grad(gamma),
                               .g_beta = ddi_param_grad(beta),
                               .rows = rows,
                               .d = (int32_t)d,
                               .dropout = ddi_draw(t, r ? dropout : 0)};
    ddi_tape_run(t, DD_OPERATOR_layernorm, &a);
    ddi_tape_count(t, 0, gamma ? 2 * (double)x->count : 0, (r ? 3 : 2) * (double)x->count);
    ddi_value *in[] = {x, r};
    ddi_node *node = ddi_note(t, layernorm_back, y, param_wants(gamma), &a, sizeof a, 2, in);
    ddi_note_saved(node, s ? s : x);
    ddi_note_saved(node, mean);
    ddi_note_saved(node, rstd);
    if (s) {
        ddi_note_again(node, layernorm_again);
    }
    return y;
}
