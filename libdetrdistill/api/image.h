/* SPDX-License-Identifier: Apache-2.0
 * Handing out a picture. */
#ifndef DDI_API_IMAGE_H
#define DDI_API_IMAGE_H

#include "images/image.h"
#include <detrdistill/data.h>

/* Makes a handle that owns the pixels; on error they are freed. Errors: NOMEM. */
dd_status ddi_image_hand_out(dd_image **image, ddi_image *pixels);

#endif
