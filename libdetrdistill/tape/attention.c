/* SPDX-License-Identifier: Apache-2.0
 * Attention on the tape: softmax over all keys, and deformable sampling of a few. */
#include "tape/node.h"

#include <string.h>

static void *data_of(const ddi_value *v)
{
    return v ? v->data : NULL;
}

static void attention_back(ddi_tape *t, ddi_node *node)
{
    dd_op_attention *a = node->args;
    int32_t add[4] = {0};
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_q = ddi_grad_out(t, node->in[0], &add[0]);
    a->g_k = ddi_grad_out(t, node->in[1], &add[1]);
    a->g_v = ddi_grad_out(t, node->in[2], &add[2]);
    a->g_bias = ddi_grad_out(t, node->in[3], &add[3]);
    a->add = add[0] | add[1] << 1 | add[2] << 2 | add[3] << 3;
    ddi_tape_run(t, DD_OPERATOR_attention_grad, a);
}

ddi_value *ddi_attention(ddi_tape *t, ddi_value *q, ddi_value *k, ddi_value *v, const ddi_attention_spec *s)
{
    const int64_t B = q->shape[0], Nq = q->shape[1], Nk = k->shape[1], M = s->heads;
    ddi_value *y = ddi_new(t, DDI_SHAPE(B, Nq, v->shape[2])), *lse = ddi_new(t, DDI_SHAPE(B, M, Nq));
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    const dd_op_attention a = {.q = q->data,
                               .k = k->data,
                               .v = v->data,
                               .bias = data_of(s->bias),
                               .key_padding = data_of(s->key_padding),
                               .mask = data_of(s->mask),
                               .y = y->data,
                               .lse = lse->data,
                               .ldq = q->shape[2],
                               .ldk = k->shape[2],
                               .ldv = v->shape[2],
                               .ldy = v->shape[2],
                               .B = (int32_t)B,
                               .Nq = (int32_t)Nq,
                               .Nk = (int32_t)Nk,
                               .M = (int32_t)M,
                               .dk = (int32_t)(q->shape[2] / M),
                               .dv = (int32_t)(v->shape[2] / M),
                               .split = s->split,
                               .compute = t->compute,
                               .scale = s->scale,
                               .dropout = ddi_draw(t, s->dropout)};
    ddi_tape_run(t, DD_OPERATOR_attention, &a);
    ddi_tape_count(t, (double)(B * Nq * Nk) * (double)(q->shape[2] + v->shape[2]), 0,
                   (double)(q->count + k->count + v->count + y->count));
    ddi_value *in[] = {q, k, v, s->bias};
    ddi_node *node = ddi_note(t, attention_back, y, false, &a, sizeof a, 4, in);
    ddi_value *saved[] = {q, k, v, y, lse, s->bias, s->key_padding, s->mask};
    for (size_t i = 0; i < sizeof saved / sizeof saved[0]; i++) {
        ddi_note_saved(node, saved[i]);
    }
    return y;
}

static void msda_back(ddi_tape *t, ddi_node *node)
{
    dd_op_msda *a = node->args;
    int32_t add[4] = {0};
    a->g_y = ddi_grad_in(t, node->out, false);
    a->g_value = ddi_grad_out(t, node->in[0], &add[0]);
    a->g_off = ddi_grad_out(t, node->in[1], &add[1]);
    a->g_logits = ddi_grad_out(t, node->in[2], &add[2]);
    a->g_ref = ddi_grad_out(t, node->in[3], &add[3]);
    a->add = add[0] | add[1] << 1 | add[2] << 2 | add[3] << 3;
    ddi_tape_run(t, DD_OPERATOR_msda_grad, a);
}

ddi_value *ddi_msda(ddi_tape *t, ddi_value *value, ddi_value *off, ddi_value *logits, ddi_value *ref, const ddi_msda_spec *s)
{
    const int64_t B = value->shape[0], N = off->shape[1], d = value->shape[2];
    ddi_value *y = ddi_new(t, DDI_SHAPE(B, N, d));
    if (t->status != DD_OK) {
        return &t->nothing;
    }
    dd_op_msda a = {.value = value->data,
                    .off = off->data,
                    .logits = logits->data,
                    .ref = ref->data,
                    .ratio = data_of(s->ratio),
                    .padding = data_of(s->padding),
                    .y = y->data,
                    .S = value->shape[1],
                    .ldo = off->shape[2],
                    .ldl = logits->shape[2],
                    .B = (int32_t)B,
                    .N = (int32_t)N,
                    .M = s->heads,
                    .D = (int32_t)(d / s->heads),
                    .L = s->levels->count,
                    .P = s->points,
                    .R = (int32_t)ref->shape[2],
                    .ref_images = (int32_t)ref->shape[0]};
    memcpy(a.height, s->levels->height, sizeof a.height);
    memcpy(a.width, s->levels->width, sizeof a.width);
    ddi_tape_run(t, DD_OPERATOR_msda, &a);
    ddi_tape_count(t, (double)(B * N * d) * 4 * a.L * a.P, 0, (double)(value->count + off->count + logits->count + y->count));
    ddi_value *in[] = {value, off, logits, ref};
    ddi_node *node = ddi_note(t, msda_back, y, false, &a, sizeof a, 4, in);
    ddi_value *saved[] = {value, off, logits, ref, s->ratio, s->padding};
    for (size_t i = 0; i < sizeof saved / sizeof saved[0]; i++) {
        ddi_note_saved(node, saved[i]);
    }
    return y;
}
