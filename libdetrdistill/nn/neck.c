/* SPDX-License-Identifier: Apache-2.0
 * The neck of deformable transformers. */
#include "nn/neck.h"

#include <math.h>
#include <stdio.h>

enum { GROUPS = 32 };

void ddi_build_neck(ddi_neck *neck, ddi_build *b, int32_t levels, int64_t d, const int64_t width[4], bool bias)
{
    neck->levels = levels;
    for (int32_t l = 0; l < levels; l++) {
        char at[DDI_NAME_BYTES];
        const int64_t in = l < 3 ? width[1 + l] : l == 3 ? width[3] : d, kernel = l < 3 ? 1 : 3;
        const ddi_init xavier = {DDI_INIT_UNIFORM, sqrt(6 / (double)((in + d) * kernel * kernel)), 0};
        snprintf(at, sizeof at, "model.input_proj.%d.", l);
        neck->level[l].w = ddi_build_param(b, at, "0.weight", xavier, DDI_SHAPE(d, in, kernel, kernel));
        if (bias) {
            neck->level[l].b = ddi_build_param(b, at, "0.bias", ddi_constant_init(0), DDI_SHAPE(d));
        }
        neck->level[l].norm = ddi_build_norm(b, at, "1", d);
    }
}

ddi_value *ddi_run_neck(ddi_tape *t, const ddi_neck *neck, ddi_value *const stage[4], ddi_levels *levels)
{
    ddi_value *map[DDI_MOST_LEVELS];
    t->part = DDI_PART_NECK;
    for (int32_t l = 0; l < neck->levels; l++) {
        ddi_value *from = l < 3 ? stage[1 + l] : l == 3 ? stage[3] : map[l - 1];
        const ddi_conv_spec spec = {.w = neck->level[l].w,
                                    .shift = neck->level[l].b ? ddi_param_value(t, neck->level[l].b) : NULL,
                                    .stride = l < 3 ? 1 : 2,
                                    .pad = l < 3 ? 0 : 1};
        map[l] = ddi_conv(t, from, &spec);
        ddi_levels_add(levels, map[l]->shape[1], map[l]->shape[2]);
    }
    ddi_value *tokens = ddi_new(t, DDI_SHAPE(map[0]->shape[0], levels->tokens, neck->level[0].w->shape[0]));
    for (int32_t l = 0; l < neck->levels && t->status == DD_OK; l++) {
        ddi_groupnorm(t, map[l], neck->level[l].norm.gamma, neck->level[l].norm.beta, GROUPS, tokens, levels->first[l]);
    }
    return tokens;
}
