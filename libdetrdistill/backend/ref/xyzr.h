/* SPDX-License-Identifier: Apache-2.0
 * Boxes of AdaMixer's positions (detectors.md 4.2). */
#ifndef DDI_REF_XYZR_H
#define DDI_REF_XYZR_H

#include "backend/ref/math.h"
#include "backend/ref/real.h"

/* Width (axis 0) or height (1) of the box at (x, y, z, r). */
static inline double ddi_xyzr_side(const real *position, int axis)
{
    return ddi_exp2((double)position[2] + (axis ? 0.5 : -0.5) * (double)position[3]);
}

#endif
