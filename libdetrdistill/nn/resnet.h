/* SPDX-License-Identifier: Apache-2.0
 * ResNet whose norms have fixed statistics and are folded into the convolutions (detectors.md 1.1). */
#ifndef DDI_NN_RESNET_H
#define DDI_NN_RESNET_H

#include "nn/build.h"

#define DDI_NORM_EPS 1e-5

typedef enum ddi_resnet_names { DDI_RESNET_TORCHVISION, DDI_RESNET_TRANSFORMERS } ddi_resnet_names;

typedef struct ddi_resnet_config {
    ddi_resnet_names names;
    bool bottleneck;
    bool train_affine; /* gamma and beta of stages 2 to 4 are trained */
    int32_t depth[4];
    int64_t stem, width[4]; /* output channels */
} ddi_resnet_config;

typedef struct ddi_resnet_conv {
    ddi_param *w, *gamma, *beta, *mean, *variance;
    int32_t stride;
    bool relu;
    char *scale, *shift; /* folded norm, where it stays as it is */
} ddi_resnet_conv;

typedef struct ddi_resnet_block {
    ddi_resnet_conv conv[3], skip; /* skip.w NULL: the input itself */
    int32_t convs;
} ddi_resnet_block;

typedef struct ddi_resnet {
    ddi_resnet_config config;
    ddi_resnet_conv stem;
    ddi_resnet_block *block; /* of all stages */
    int32_t blocks;
    ddi_buffer folded;
} ddi_resnet;

/* r18, r50, r101. */
bool ddi_resnet_standard(int32_t depth, ddi_resnet_config *config);

dd_status ddi_resnet_build(ddi_resnet *resnet, ddi_build *build, const char *prefix, const ddi_resnet_config *config);
/* After the parameters got their values: folds the norms that are not trained. The others are folded in every pass. */
dd_status ddi_resnet_fold(ddi_resnet *resnet, ddi_exec *exec, int32_t dtype);
void ddi_resnet_free(ddi_resnet *resnet, ddi_exec *exec);

/* image [B,H,W,3] -> C2..C5. */
void ddi_resnet_forward(ddi_tape *tape, const ddi_resnet *resnet, ddi_value *image, ddi_value *stage[4]);

#endif
