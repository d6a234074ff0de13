/* SPDX-License-Identifier: Apache-2.0
 * The neck that gives a deformable transformer its levels (detectors.md 1.2). */
#ifndef DDI_NN_NECK_H
#define DDI_NN_NECK_H

#include "nn/build.h"
#include "nn/levels.h"

typedef struct ddi_neck {
    int32_t levels;
    struct {
        ddi_param *w, *b; /* b NULL: none, as in mmdetection */
        ddi_affine norm;
    } level[DDI_MOST_LEVELS];
} ddi_neck;

/* One projection for each of C3, C4, C5; what comes above is made of C5, then of the level below. width: channels of C2..C5. */
void ddi_build_neck(ddi_neck *neck, ddi_build *build, int32_t levels, int64_t d, const int64_t width[4], bool bias);
/* stage: C2..C5. Notes the levels; returns the tokens of all, [B,S,d]. */
ddi_value *ddi_run_neck(ddi_tape *tape, const ddi_neck *neck, ddi_value *const stage[4], ddi_levels *levels);

#endif
