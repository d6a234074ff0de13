/* SPDX-License-Identifier: Apache-2.0
 * The families of detectors: their names in options, and their numbers. */
#ifndef DDI_BASE_FAMILIES_H
#define DDI_BASE_FAMILIES_H

#define DDI_FAMILIES "deformable-detr|conditional-detr|adamixer|dino"
typedef enum { DDI_DEFORMABLE_DETR, DDI_CONDITIONAL_DETR, DDI_ADAMIXER, DDI_DINO } ddi_family_number;

#endif
