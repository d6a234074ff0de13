/* SPDX-License-Identifier: Apache-2.0
 * ResNet whose norms have fixed statistics. */
#include "nn/resnet.h"
#include "base/error.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool ddi_resnet_standard(int32_t depth, ddi_resnet_config *c)
{
    const bool basic = depth == 18;
    if (depth != 18 && depth != 50 && depth != 101) {
        return false;
    }
    *c = (ddi_resnet_config){.names = DDI_RESNET_TRANSFORMERS, .bottleneck = !basic, .stem = 64};
    for (int32_t s = 0; s < 4; s++) {
        static const int32_t deep[] = {3, 4, 6, 3};
        c->depth[s] = basic ? 2 : depth == 101 && s == 2 ? 23 : deep[s];
        c->width[s] = ((int64_t)64 << s) * (basic ? 1 : 4);
    }
    return true;
}

static ddi_resnet_conv build_conv(ddi_build *b, bool affine, const char *conv, const char *norm, int64_t in, int64_t out,
                                  int64_t kernel, int32_t stride, bool relu)
{
    const bool trained = b->trained;
    /* Uniform with the variance 2/fan_out that He et al. use: only where no pretrained file is loaded. */
    const ddi_init init = {DDI_INIT_UNIFORM, sqrt(6.0 / (double)(out * kernel * kernel)), 0};
    ddi_resnet_conv c = {.stride = stride, .relu = relu};
    c.w = ddi_build_param(b, conv, ".weight", init, DDI_SHAPE(out, in, kernel, kernel));
    b->trained = trained && affine;
    c.gamma = ddi_build_param(b, norm, ".weight", ddi_constant_init(1), DDI_SHAPE(out));
    c.beta = ddi_build_param(b, norm, ".bias", ddi_constant_init(0), DDI_SHAPE(out));
    b->trained = false;
    c.mean = ddi_build_param(b, norm, ".running_mean", ddi_constant_init(0), DDI_SHAPE(out));
    c.variance = ddi_build_param(b, norm, ".running_var", ddi_constant_init(1), DDI_SHAPE(out));
    b->trained = trained;
    return c;
}

/* Convolution k (-1: the skip path's) of a block, in the names of the file. */
static ddi_resnet_conv build_block_conv(ddi_build *b, const ddi_resnet_config *config, const char *block, int32_t k, int64_t in,
                                        int64_t out, int64_t kernel, int32_t stride, bool relu)
{
    char conv[DDI_NAME_BYTES + 64], norm[DDI_NAME_BYTES + 64]; /* what is too long is refused where the parameter is made */
    if (config->names == DDI_RESNET_TRANSFORMERS) {
        char at[32];
        snprintf(at, sizeof at, k < 0 ? "shortcut" : "layer.%d", k);
        snprintf(conv, sizeof conv, "%s%s.convolution", block, at);
        snprintf(norm, sizeof norm, "%s%s.normalization", block, at);
    } else if (k < 0) {
        snprintf(conv, sizeof conv, "%sdownsample.0", block);
        snprintf(norm, sizeof norm, "%sdownsample.1", block);
    } else {
        snprintf(conv, sizeof conv, "%sconv%d", block, k + 1);
        snprintf(norm, sizeof norm, "%sbn%d", block, k + 1);
    }
    return build_conv(b, config->train_affine, conv, norm, in, out, kernel, stride, relu);
}

static void build_block(ddi_resnet *r, ddi_build *b, ddi_resnet_block *block, const char *name, int64_t in, int64_t out,
                        int32_t stride)
{
    const ddi_resnet_config *config = &r->config;
    if (in != out || stride != 1) {
        block->skip = build_block_conv(b, config, name, -1, in, out, 1, stride, false);
    }
    if (config->bottleneck) {
        const int64_t inner = out / 4;
        block->convs = 3;
        block->conv[0] = build_block_conv(b, config, name, 0, in, inner, 1, 1, true);
        block->conv[1] = build_block_conv(b, config, name, 1, inner, inner, 3, stride, true);
        block->conv[2] = build_block_conv(b, config, name, 2, inner, out, 1, 1, true);
    } else {
        block->convs = 2;
        block->conv[0] = build_block_conv(b, config, name, 0, in, out, 3, stride, true);
        block->conv[1] = build_block_conv(b, config, name, 1, out, out, 3, 1, true);
    }
}

dd_status ddi_resnet_build(ddi_resnet *r, ddi_build *b, const char *prefix, const ddi_resnet_config *config)
{
    char conv[DDI_NAME_BYTES], norm[DDI_NAME_BYTES];
    const bool transformers = config->names == DDI_RESNET_TRANSFORMERS;
    r->config = *config;
    for (int32_t s = 0; s < 4; s++) {
        r->blocks += config->depth[s];
    }
    r->block = ddi_alloc_zero(&b->params->context->allocator, (size_t)r->blocks, sizeof *r->block);
    if (!r->block) {
        return ddi_fail_nomem((uint64_t)r->blocks * sizeof *r->block, "a backbone");
    }
    b->group = DDI_GROUP_BACKBONE;
    b->trained = false; /* stem and first stage stay as they are */
    snprintf(conv, sizeof conv, "%s%s", prefix, transformers ? "embedder.embedder.convolution" : "conv1");
    snprintf(norm, sizeof norm, "%s%s", prefix, transformers ? "embedder.embedder.normalization" : "bn1");
    r->stem = build_conv(b, false, conv, norm, 3, config->stem, 7, 2, true);
    int64_t in = config->stem;
    for (int32_t s = 0, at = 0; s < 4; s++) {
        b->trained = s > 0;
        for (int32_t k = 0; k < config->depth[s]; k++, at++) {
            snprintf(conv, sizeof conv, transformers ? "%sencoder.stages.%d.layers.%d." : "%slayer%d.%d.", prefix,
                     transformers ? s : s + 1, k);
            build_block(r, b, &r->block[at], conv, in, config->width[s], s > 0 && k == 0 ? 2 : 1);
            in = config->width[s];
        }
    }
    b->group = DDI_GROUP_MAIN;
    b->trained = true;
    return b->status;
}

void ddi_resnet_free(ddi_resnet *r, ddi_exec *exec)
{
    ddi_buffer_free(exec, &r->folded);
    ddi_free(&exec->context->allocator, r->block);
    r->block = NULL;
}

/* ---- Folding: scale = gamma / sqrt(variance + eps), shift = beta - mean scale */

static double read_real(const char *data, int32_t dtype, int64_t i)
{
    return dtype == DD_F64 ? ((const double *)(const void *)data)[i] : (double)((const float *)(const void *)data)[i];
}

static void write_real(char *data, int32_t dtype, int64_t i, double value)
{
    if (dtype == DD_F64) {
        ((double *)(void *)data)[i] = value;
    } else {
        ((float *)(void *)data)[i] = (float)value;
    }
}

static bool folded_once(const ddi_resnet_conv *c)
{
    return c->w && !c->gamma->trained;
}

static void fold_conv(ddi_resnet_conv *c, char **at, int32_t dtype)
{
    if (!folded_once(c)) {
        return;
    }
    const int64_t count = c->gamma->count;
    c->scale = *at;
    c->shift = c->scale + (size_t)count * (size_t)dd_dtype_size(dtype);
    for (int64_t i = 0; i < count; i++) {
        const double scale = read_real(c->gamma->data, dtype, i) / sqrt(read_real(c->variance->data, dtype, i) + DDI_NORM_EPS);
        write_real(c->scale, dtype, i, scale);
        write_real(c->shift, dtype, i, read_real(c->beta->data, dtype, i) - read_real(c->mean->data, dtype, i) * scale);
    }
    *at = c->shift + (size_t)count * (size_t)dd_dtype_size(dtype);
}

static int64_t folded_elements(const ddi_resnet_conv *c)
{
    return folded_once(c) ? 2 * c->gamma->count : 0;
}

dd_status ddi_resnet_fold(ddi_resnet *r, ddi_exec *exec, int32_t dtype)
{
    int64_t elements = folded_elements(&r->stem);
    if (!ddi_on_host(exec)) {
        return ddi_fail(DD_ERR_UNSUPPORTED, NULL, "whole models run on the CPU alone so far");
    }
    for (int32_t i = 0; i < r->blocks; i++) {
        elements += folded_elements(&r->block[i].skip);
        for (int32_t k = 0; k < r->block[i].convs; k++) {
            elements += folded_elements(&r->block[i].conv[k]);
        }
    }
    DDI_TRY(ddi_buffer_reserve(exec, &r->folded, (size_t)elements * (size_t)dd_dtype_size(dtype), true, "folded norms"));
    char *at = r->folded.data;
    fold_conv(&r->stem, &at, dtype);
    for (int32_t i = 0; i < r->blocks; i++) {
        fold_conv(&r->block[i].skip, &at, dtype);
        for (int32_t k = 0; k < r->block[i].convs; k++) {
            fold_conv(&r->block[i].conv[k], &at, dtype);
        }
    }
    return DD_OK;
}

/* ---- Forward */

static ddi_value *run_conv(ddi_tape *t, const ddi_resnet_conv *c, ddi_value *x, ddi_value *residual)
{
    const int64_t count = c->gamma->count;
    ddi_value *folded = folded_once(c) ? NULL : ddi_fold_norm(t, c->gamma, c->beta, c->mean, c->variance);
    const ddi_conv_spec spec = {
        .w = c->w,
        .scale = folded ? ddi_view(t, folded, 0, DDI_SHAPE(count)) : ddi_constant(t, c->scale, DDI_SHAPE(count)),
        .shift = folded ? ddi_view(t, folded, count, DDI_SHAPE(count)) : ddi_constant(t, c->shift, DDI_SHAPE(count)),
        .residual = residual,
        .stride = c->stride,
        .pad = (int32_t)c->w->shape[2] / 2,
        .relu = c->relu,
        .norm = true};
    return ddi_conv(t, x, &spec);
}

static ddi_value *run_block(ddi_tape *t, const ddi_resnet_block *block, ddi_value *x)
{
    ddi_scope scope = ddi_scope_begin(t);
    ddi_value *skip = block->skip.w ? run_conv(t, &block->skip, x, NULL) : x, *y = x;
    for (int32_t k = 0; k < block->convs; k++) {
        y = run_conv(t, &block->conv[k], y, k + 1 == block->convs ? skip : NULL);
    }
    ddi_scope_end(t, scope, 1, &y);
    return y;
}

void ddi_resnet_forward(ddi_tape *t, const ddi_resnet *r, ddi_value *image, ddi_value *stage[4])
{
    ddi_scope scope = ddi_scope_begin(t);
    t->part = DDI_PART_BACKBONE;
    ddi_value *x = run_conv(t, &r->stem, image, NULL);
    x = ddi_maxpool(t, x, 3, 2, 1);
    ddi_scope_end(t, scope, 1, &x);
    for (int32_t s = 0, at = 0; s < 4; s++) {
        scope = ddi_scope_begin(t);
        for (int32_t k = 0; k < r->config.depth[s]; k++, at++) {
            x = run_block(t, &r->block[at], x);
        }
        ddi_scope_end(t, scope, 1, &x);
        stage[s] = x;
    }
}
