/* SPDX-License-Identifier: Apache-2.0
 * Looking for NaN and infinity in the inputs of a step, and what the nonfinite option makes of them. */
#ifndef DDI_MATCH_FINITE_H
#define DDI_MATCH_FINITE_H

#include "match/objects.h"

enum { DDI_MAX_SCANS = 64 };

typedef struct ddi_finite_scan {
    ddi_input *input[DDI_MAX_SCANS];
    int64_t inner[DDI_MAX_SCANS]; /* elements of one image (of one stage) */
    bool shared[DDI_MAX_SCANS];   /* the tensor has no images: a parameter */
    int64_t query[DDI_MAX_SCANS]; /* elements of one query, 0: the tensor has no queries */
    int32_t count;
    ddi_buffer device, host; /* [count] first bad element, then [count][images] flags */
} ddi_finite_scan;

/* Adds a staged input shaped [.., images, ..] with the image as dimension `image_dim`, or -1 where it belongs to no image;
 * query_dim: the dimension that counts queries, or -1. */
void ddi_finite_add(ddi_finite_scan *scan, ddi_input *input, int32_t image_dim, int32_t query_dim);

/* Runs the search and waits: scan->host has the first bad element of each input (-1: none), then flags by image. */
dd_status ddi_finite_search(ddi_exec *exec, ddi_finite_scan *scan, int32_t images, int32_t dtype);

/* Scans all (waits for the device). Policy error: the first bad tensor is an error that names where. skip: image_use of bad
 * images becomes 0; in a tensor without images it is an error, too. skip and clamp: bad tensors are staged anew with their bad
 * numbers replaced; `replaced` (a flag for each input, in the order of adding) tells which. */
dd_status ddi_finite_check(ddi_exec *exec, ddi_finite_scan *scan, ddi_objects *objects, int32_t dtype, ddi_nonfinite policy,
                           bool *replaced);

#endif
