/* SPDX-License-Identifier: Apache-2.0
 * Generated scenes: shapes on a cluttered ground, from (seed, split, index) alone. */
#ifndef DDI_DATA_SCENES_H
#define DDI_DATA_SCENES_H

#include "data/dataset.h"

enum { DDI_SCENE_SHAPES = 8, DDI_SCENE_OBJECTS = 8 };

typedef struct ddi_shape {
    int32_t class;
    double x, y, a, b; /* centre and half sides, in pixels */
} ddi_shape;

/* The shapes of a scene, the last on top; returns how many (1 .. DDI_SCENE_OBJECTS). */
int32_t ddi_scene_shapes(const ddi_scenes *scenes, int32_t index, ddi_shape shape[DDI_SCENE_OBJECTS]);

/* Errors: LIMIT, NOMEM. */
dd_status ddi_scene_render(const ddi_scenes *scenes, int32_t index, ddi_image *image);

extern const char *const ddi_shape_names[DDI_SCENE_SHAPES];

#endif
