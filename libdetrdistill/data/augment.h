/* SPDX-License-Identifier: Apache-2.0
 * What is done to a picture and its boxes before a detector sees them: DETR's augmentation, or the resize of an evaluation. */
#ifndef DDI_DATA_AUGMENT_H
#define DDI_DATA_AUGMENT_H

#include "data/dataset.h"
#include "images/resize.h"

enum { DDI_MOST_SIZES = 64 };

typedef struct ddi_sizes {
    int32_t count, size[DDI_MOST_SIZES];
} ddi_sizes;

typedef struct ddi_policy {
    bool train;
    ddi_sizes sizes, crop_sizes;
    int32_t max_size, crop_max_size; /* 0: none */
    int32_t crop_min, crop_max;
    double flip, crop; /* chances */
} ddi_policy;

/* Its options, for the tables of loaders and trainers; AT(field): where the field lies in their settings. */
/* clang-format off */
#define DDI_AUGMENT_OPTIONS(AT) \
    {"max-size", DDI_INT, AT(max_size), 0, DDI_MAX_IMAGE_SIDE, "1333", NULL, "longest long side; 0: none"}, \
    {"flip", DDI_REAL, AT(flip), 0, 1, "0.5", NULL, "chance of a picture to be mirrored"}, \
    {"crop", DDI_REAL, AT(crop), 0, 1, "0.5", NULL, "chance of a picture to be resized, cut and resized again"}, \
    {"crop-sizes", DDI_TEXT, AT(crop_sizes), 0, 0, "400,500,600", NULL, "short sides of that first resize"}, \
    {"crop-max-size", DDI_INT, AT(crop_max_size), 0, DDI_MAX_IMAGE_SIDE, "0", NULL, "its longest long side; 0: none"}, \
    {"crop-min", DDI_INT, AT(crop_min), 1, DDI_MAX_IMAGE_SIDE, "384", NULL, "shortest side of the part that is cut out"}, \
    {"crop-max", DDI_INT, AT(crop_max), 1, DDI_MAX_IMAGE_SIDE, "600", NULL, "longest side of the part that is cut out"}, \
    {"multiple", DDI_INT, AT(multiple), 1, 1024, "1", NULL, "height and width of a batch are rounded up to a multiple"}
/* clang-format on */

/* "480,512,..": Errors: OPTION. */
dd_status ddi_sizes_parse(ddi_sizes *sizes, const char *key, const char *text);

/* The plan for one picture of width x height: perhaps a first resize of which a window is kept, the last resize, a flip. */
typedef struct ddi_picture_view {
    int32_t original_width, original_height;
    bool flip, crop;
    int32_t first_width, first_height;
    ddi_window window; /* of the first resize */
    int32_t width, height;
} ddi_picture_view;

ddi_picture_view ddi_view_plan(const ddi_policy *policy, uint64_t seed, int64_t epoch, int32_t index, int32_t width,
                               int32_t height);

/* Makes the view's pixels but for the flip; `middle` is for the first resize. Errors: LIMIT, NOMEM. */
dd_status ddi_view_pixels(const ddi_picture_view *view, ddi_resizer *resizer, const ddi_image *from, ddi_image *middle,
                          ddi_image *to);

/* A box (x, y, w, h in pixels of the original) as (cx, cy, w, h) in 0..1 of the view; false: nothing of it is left. */
bool ddi_view_box(const ddi_picture_view *view, const double box[4], float out[4]);

/* Normalised RGB of `image` into the upper left part of `to` [height][width][3], the rest 0. `row`: image->width * 3 bytes. */
void ddi_normalise(float *to, int32_t height, int32_t width, const ddi_image *image, bool flip, uint8_t *row);

#endif
