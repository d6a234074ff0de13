/* SPDX-License-Identifier: Apache-2.0
 * What the detector families do differently in matching and in the base loss (distillation D.2; detectors 1.14; golden/kd
 * DECISIONS 1 to 4). */
#ifndef DDI_MATCH_CONVENTIONS_H
#define DDI_MATCH_CONVENTIONS_H

#include "base/families.h"
#include <stdint.h>

typedef struct ddi_conventions {
    int32_t l1_xyxy;       /* L1 over xyxy instead of cxcywh */
    int32_t giou_pixels;   /* boxes times (W,H) before GIoU */
    int32_t count_objects; /* normaliser: number of objects, not of matched queries */
    double class_eps;      /* in the logarithms of the focal cost */
    double giou_eps;       /* guard of the two divisions */
    double class_weight;   /* of the focal loss */
    double normaliser_eps; /* added to the normaliser */
    int32_t first_class;   /* proposals of an encoder are matched with all objects as class 0 (detectors 2.3, 5) */
} ddi_conventions;

/* Indexed by the choice of DDI_FAMILIES. */
static const ddi_conventions ddi_family[] = {
    {0, 1, 0, 1e-12, 1e-6, 2, 1.1920929e-7, 1}, /* deformable-detr */
    {0, 0, 1, 1e-8, 1e-12, 2, 0, 1},            /* conditional-detr */
    {1, 1, 0, 1e-12, 1e-6, 2, 0, 1},            /* adamixer */
    {0, 0, 1, 1e-8, 1e-12, 1, 0, 0},            /* dino */
};

/* Guard of pixel GIoU in the distillation terms (section 1, primitive 4). */
#define DDI_KD_GIOU_EPS 1e-6
#define DDI_WEIGHT_CLASS_COST 2.0
#define DDI_WEIGHT_L1 5.0
#define DDI_WEIGHT_GIOU 2.0

#endif
