/* SPDX-License-Identifier: Apache-2.0
 * Frames and small labels on a picture; what leaves the picture is cut. */
#ifndef DDI_IMAGES_DRAW_H
#define DDI_IMAGES_DRAW_H

#include "images/image.h"

/* A filled rectangle; corners x1, y1 are not part of it. */
void ddi_draw_fill(ddi_image *image, double x0, double y0, double x1, double y1, uint32_t rgb);
/* A frame whose outer edge is the rectangle. */
void ddi_draw_frame(ddi_image *image, const double corner[4], int32_t thickness, uint32_t rgb);
/* Pixels that a text takes: characters of 5 x 7 in cells of 6 x 9, each pixel `scale` wide. */
void ddi_draw_text_size(const char *text, int32_t scale, int32_t *width, int32_t *height);
/* A text on a filled ground; (x, y) is the ground's upper left corner. Characters outside ASCII are shown as a box. */
void ddi_draw_text(ddi_image *image, double x, double y, const char *text, int32_t scale, uint32_t ink, uint32_t ground);

#endif
