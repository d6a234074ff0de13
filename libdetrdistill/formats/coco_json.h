/* SPDX-License-Identifier: Apache-2.0
 * A COCO annotation file, streamed: its images, annotations and categories in the file's order. */
#ifndef DDI_FORMATS_COCO_JSON_H
#define DDI_FORMATS_COCO_JSON_H

#include "formats/json_items.h"

typedef struct ddi_coco_image {
    int64_t id, width, height; /* sides 0: not said */
    const char *file;          /* "": not said; borrowed during the call */
} ddi_coco_image;

typedef struct ddi_coco_annotation {
    int64_t image, category;
    double box[4], area; /* x, y, w, h; the area is w*h where the file has none */
    bool crowd, ignore;
} ddi_coco_annotation;

/* What is done with each; a status other than DD_OK ends the walk. */
typedef struct ddi_coco_taker {
    dd_status (*image)(void *user, const ddi_coco_image *image);
    dd_status (*annotation)(void *user, const ddi_coco_annotation *annotation);
    dd_status (*category)(void *user, int64_t id, const char *name); /* the name is borrowed during the call, "" if not said */
    bool negative_sides; /* of boxes are passed on instead of being a problem of the file */
} ddi_coco_taker;

/* Errors: FORMAT, NOMEM, and what the takers return. */
dd_status ddi_coco_read(ddi_json_items *items, const ddi_coco_taker *taker, void *user);

/* The box (x,y,w,h) of a result; one that is damaged or has a negative side is a problem that is noted. */
bool ddi_coco_box(ddi_json_items *items, struct json_object *item, double box[4]);

#endif
