/* SPDX-License-Identifier: Apache-2.0
 * The ground truth of a batch: checked on the host, without crowd boxes, and copied to the device in one piece. */
#ifndef DDI_MATCH_OBJECTS_H
#define DDI_MATCH_OBJECTS_H

#include "match/inputs.h"

/* The bound tensors that describe a batch. */
typedef struct ddi_objects_inputs {
    ddi_input *boxes, *labels, *offsets, *crowd, *sizes; /* crowd may be unbound */
    bool need_objects, need_sizes;
} ddi_objects_inputs;

typedef struct ddi_objects {
    int32_t images, count; /* count: objects that are kept */
    /* host */
    int32_t *labels, *offsets, *original; /* original[g]: index in its image before crowd boxes were dropped */
    int32_t most;                         /* objects of the fullest image, also of one that is left out */
    /* device (host backends: the same memory) */
    void *d_boxes, *d_sizes;
    int32_t *d_labels, *d_offsets;
    uint8_t *image_use, *d_image_use; /* 0: this image is left out (nonfinite=skip) */
    ddi_buffer host, device;          /* the packed batch */
    size_t bytes;
    int32_t dtype; /* of boxes and sizes */
} ddi_objects;

/* Reads and checks the ground truth of `images` images with `classes` classes. In an image with a non-finite number:
 * error, or image_use[b] = 0 (skip), or the number replaced (clamp). */
dd_status ddi_objects_read(ddi_exec *exec, ddi_objects *objects, const ddi_objects_inputs *in, int32_t images, int32_t classes,
                           int32_t dtype, ddi_nonfinite policy);
/* Drops the objects of images that are left out (image_use[b] = 0) and copies all to the device. */
dd_status ddi_objects_upload(ddi_exec *exec, ddi_objects *objects);
void ddi_objects_free(ddi_exec *exec, ddi_objects *objects);

/* Sum over images of min(queries, objects): the number of pairs that any matching makes. */
int64_t ddi_objects_pairs(const ddi_objects *objects, int32_t queries);

#endif
