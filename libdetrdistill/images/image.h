/* SPDX-License-Identifier: Apache-2.0
 * 8-bit RGB pictures in memory: a buffer that only grows, decoders of JPEG and PNG, a writer of PNG. */
#ifndef DDI_IMAGES_IMAGE_H
#define DDI_IMAGES_IMAGE_H

#include "base/alloc.h"
#include <detrdistill/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rows of width * 3 bytes without gaps; DDI_IMAGE_SLACK bytes behind the last one may be read and overwritten. */
typedef struct ddi_image {
    uint8_t *data;
    size_t room;
    int32_t width, height;
    ddi_allocator *allocator;
} ddi_image;

enum { DDI_IMAGE_SLACK = 64 };

/* Makes room for a picture; what was in it is lost. Errors: LIMIT (a side, the pixels), NOMEM. */
dd_status ddi_image_reserve(ddi_image *image, const char *name, int64_t width, int64_t height);
void ddi_image_free(ddi_image *image);

typedef struct ddi_image_about {
    int32_t width, height; /* as the file stores it, before it is turned */
    int32_t orientation;   /* EXIF: 1 (upright) .. 8 */
    bool truncated;        /* the file ended before the picture did; the rest is grey */
} ddi_image_about;

/* What the header says. `name` is for error sentences. Errors: FORMAT, LIMIT. */
dd_status ddi_image_look(ddi_image_about *about, const char *name, const void *bytes, size_t size);

/* Decodes a JPEG or PNG as it is stored (not turned). Errors: FORMAT (damaged, CMYK, neither JPEG nor PNG), LIMIT, NOMEM. A
 * file that is cut off inside the picture is no error here: see about->truncated. */
dd_status ddi_image_decode(ddi_image *image, ddi_image_about *about, const char *name, const void *bytes, size_t size);

/* Turns a picture as its EXIF orientation asks. Errors: NOMEM. */
dd_status ddi_image_turn(ddi_image *image, int32_t orientation);

/* Writes a PNG, all or nothing. Errors: IO, NOMEM. */
dd_status ddi_image_write_png(const ddi_image *image, const char *path);

#endif
