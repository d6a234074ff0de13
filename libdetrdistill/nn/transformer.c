/* SPDX-License-Identifier: Apache-2.0
 * Blocks of transformers. */
#include "nn/transformer.h"

#include <math.h>
#include <stdio.h>

ddi_value *ddi_run_dense(ddi_tape *t, const ddi_dense *dense, ddi_value *x)
{
    return ddi_linear(t, x, dense->w, dense->b, false, NULL);
}

/* ---- Self-attention */

void ddi_build_self_attention(ddi_self_attention *a, ddi_build *b, const char *layer, const ddi_block_config *c)
{
    const ddi_init zero = ddi_constant_init(0);
    a->k = ddi_build_dense(b, layer, "self_attn.k_proj", c->d, c->d, DDI_START_XAVIER, &zero);
    a->v = ddi_build_dense(b, layer, "self_attn.v_proj", c->d, c->d, DDI_START_XAVIER, &zero);
    a->q = ddi_build_dense(b, layer, "self_attn.q_proj", c->d, c->d, DDI_START_XAVIER, &zero);
    a->out = ddi_build_dense(b, layer, "self_attn.out_proj", c->d, c->d, DDI_START_XAVIER, &zero);
    a->norm = ddi_build_norm(b, layer, "self_attn_layer_norm", c->d);
}

ddi_value *ddi_run_self_attention(ddi_tape *t, const ddi_self_attention *a, const ddi_block_config *c, ddi_value *x,
                                  ddi_value *position, const ddi_attention_spec *masks)
{
    ddi_attention_spec spec = masks ? *masks : (ddi_attention_spec){.split = 0};
    spec.heads = c->heads;
    spec.scale = 1 / sqrt((double)c->d / c->heads);
    spec.dropout = c->attention_dropout;
    ddi_scope scope = ddi_scope_begin(t);
    const double counted = t->cost[t->part].counted; /* the counting rule leaves this attention out */
    ddi_value *at = position ? ddi_plus(t, x, position) : x;
    ddi_value *q = ddi_run_dense(t, &a->q, at), *k = ddi_run_dense(t, &a->k, at), *v = ddi_run_dense(t, &a->v, x);
    ddi_value *y = ddi_run_dense(t, &a->out, ddi_attention(t, q, k, v, &spec));
    t->cost[t->part].counted = counted;
    y = ddi_layernorm(t, x, y, a->norm.gamma, a->norm.beta, c->dropout);
    ddi_scope_end(t, scope, 1, &y);
    return y;
}

/* ---- Deformable attention */

void ddi_build_deformable_attention(ddi_deformable_attention *a, ddi_build *b, const char *layer, const char *name,
                                    const ddi_block_config *c)
{
    char at[DDI_NAME_BYTES];
    const int64_t samples = (int64_t)c->heads * c->levels * c->points;
    const ddi_init zero = ddi_constant_init(0), directions = {DDI_INIT_DIRECTIONS, c->levels, c->points};
    snprintf(at, sizeof at, "%s%s.", layer, name);
    b->group = DDI_GROUP_SAMPLING;
    a->offsets = ddi_build_dense(b, at, "sampling_offsets", c->d, 2 * samples, DDI_START_ZERO, &directions);
    b->group = DDI_GROUP_MAIN;
    a->weights = ddi_build_dense(b, at, "attention_weights", c->d, samples, DDI_START_ZERO, &zero);
    a->value = ddi_build_dense(b, at, "value_proj", c->d, c->d, DDI_START_XAVIER, &zero);
    a->out = ddi_build_dense(b, at, "output_proj", c->d, c->d, DDI_START_XAVIER, &zero);
    snprintf(at, sizeof at, "%s_layer_norm", name);
    a->norm = ddi_build_norm(b, layer, at, c->d);
}

ddi_value *ddi_run_attention_values(ddi_tape *t, const ddi_deformable_attention *a, ddi_value *tokens)
{
    return ddi_run_dense(t, &a->value, tokens);
}

ddi_value *ddi_run_sampling(ddi_tape *t, const ddi_deformable_attention *a, const ddi_block_config *c, ddi_value *x,
                            ddi_value *position, ddi_value *values, ddi_value *ref, const ddi_msda_spec *grid)
{
    ddi_scope scope = ddi_scope_begin(t);
    ddi_value *at = ddi_plus(t, x, position);
    ddi_value *off = ddi_run_dense(t, &a->offsets, at), *logits = ddi_run_dense(t, &a->weights, at);
    ddi_value *y = ddi_run_dense(t, &a->out, ddi_msda(t, values, off, logits, ref, grid));
    y = ddi_layernorm(t, x, y, a->norm.gamma, a->norm.beta, c->dropout);
    ddi_scope_end(t, scope, 1, &y);
    return y;
}

ddi_value *ddi_run_deformable_attention(ddi_tape *t, const ddi_deformable_attention *a, const ddi_block_config *c, ddi_value *x,
                                        ddi_value *position, ddi_value *tokens, ddi_value *ref, const ddi_msda_spec *grid)
{
    ddi_scope scope = ddi_scope_begin(t);
    ddi_value *y = ddi_run_sampling(t, a, c, x, position, ddi_run_attention_values(t, a, tokens), ref, grid);
    ddi_scope_end(t, scope, 1, &y);
    return y;
}

/* ---- Feed-forward */

void ddi_build_feed_forward(ddi_feed_forward *f, ddi_build *b, const char *layer, int64_t d, int64_t inner)
{
    f->in = ddi_build_dense(b, layer, "fc1", d, inner, DDI_START_XAVIER, NULL);
    f->out = ddi_build_dense(b, layer, "fc2", inner, d, DDI_START_XAVIER, NULL);
    f->norm = ddi_build_norm(b, layer, "final_layer_norm", d);
}

ddi_value *ddi_run_feed_forward(ddi_tape *t, const ddi_feed_forward *f, const ddi_block_config *c, ddi_value *x)
{
    ddi_scope scope = ddi_scope_begin(t);
    ddi_value *h = ddi_linear(t, x, f->in.w, f->in.b, true, NULL);
    ddi_tape_count_relu(t, h);
    ddi_dropout(t, h, c->activation_dropout);
    ddi_value *y = ddi_run_dense(t, &f->out, h);
    y = ddi_layernorm(t, x, y, f->norm.gamma, f->norm.beta, c->dropout);
    ddi_scope_end(t, scope, 1, &y);
    return y;
}

/* ---- Small heads */

void ddi_build_mlp(ddi_mlp *mlp, ddi_build *b, const char *prefix, const char *name, int32_t layers, const int64_t *width,
                   ddi_start start, const ddi_init *last)
{
    char at[DDI_NAME_BYTES];
    mlp->layers = layers;
    for (int32_t k = 0; k < layers; k++) {
        const bool own = last && k + 1 == layers;
        snprintf(at, sizeof at, "%s.layers.%d", name, k);
        mlp->layer[k] = ddi_build_dense(b, prefix, at, width[k], width[k + 1], own ? DDI_START_ZERO : start, own ? last : NULL);
    }
}

ddi_value *ddi_run_mlp(ddi_tape *t, const ddi_mlp *mlp, ddi_value *x)
{
    ddi_scope scope = ddi_scope_begin(t);
    for (int32_t k = 0; k < mlp->layers; k++) {
        x = ddi_linear(t, x, mlp->layer[k].w, mlp->layer[k].b, k + 1 < mlp->layers, NULL);
    }
    ddi_scope_end(t, scope, 1, &x);
    return x;
}

ddi_value *ddi_run_box_head(ddi_tape *t, const ddi_box_head *head, ddi_value *x)
{
    ddi_scope scope = ddi_scope_begin(t);
    for (int32_t i = 0; i < 3; i++) {
        x = ddi_linear(t, x, head->layer[i].w, head->layer[i].b, i < 2, NULL);
        if (i < 2) {
            ddi_tape_count_relu(t, x);
        }
    }
    ddi_scope_end(t, scope, 1, &x);
    return x;
}
