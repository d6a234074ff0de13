/* SPDX-License-Identifier: Apache-2.0
 * The two decoders behind ddi_image_decode. */
#ifndef DDI_IMAGES_CODECS_H
#define DDI_IMAGES_CODECS_H

#include "images/image.h"

/* With image NULL only the header is read. */
dd_status ddi_jpeg_decode(ddi_image *image, ddi_image_about *about, const char *name, const void *bytes, size_t size);
dd_status ddi_png_decode(ddi_image *image, ddi_image_about *about, const char *name, const void *bytes, size_t size);

/* The orientation in an EXIF block ("Exif\0\0" and a TIFF header), 1 where it says none. */
int32_t ddi_exif_orientation(const uint8_t *block, size_t size);

/* A side and the pixels against the limits. Errors: FORMAT (an empty picture), LIMIT. */
dd_status ddi_image_check(const char *name, int64_t width, int64_t height);

#endif
