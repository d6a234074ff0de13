/* SPDX-License-Identifier: Apache-2.0
 * Levels of a token tensor and their masks (detectors.md 1.3). */
#ifndef DDI_NN_LEVELS_H
#define DDI_NN_LEVELS_H

#include "tape/tape.h"

enum { DDI_MOST_LEVELS = 8 };

/* The mask of each level: how many columns and rows from the upper left are real. */
typedef struct ddi_level_masks {
    ddi_value *valid;          /* int32 [B,L,2] (w,h) */
    ddi_value *valid_by_level; /* int32 [L,B,2] */
    ddi_value *ratio;          /* [B,L,2]; NULL, as padding: nothing is padded */
    ddi_value *padding;        /* bytes [B,S] */
} ddi_level_masks;

/* One more level, behind those that are there. */
void ddi_levels_add(ddi_levels *levels, int64_t height, int64_t width);
/* image [B,H,W,3]; sizes: (w,h) of each image's real part, on the host. */
ddi_level_masks ddi_make_masks(ddi_tape *tape, const ddi_levels *levels, const ddi_value *image, const int32_t *sizes);
/* Device memory with a copy of something on the host. */
ddi_value *ddi_upload(ddi_tape *tape, const void *host, size_t bytes);

#endif
