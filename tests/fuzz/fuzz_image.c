/* SPDX-License-Identifier: Apache-2.0
 * Pictures: JPEG with its EXIF block, PNG. */
#include "images/image.h"
#include "target.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST_PIXELS = 1 << 20 }; /* larger ones are decoded as well, but take their time */
    ddi_image image = {0};
    ddi_image_about about, again;
    memset(&about, 0, sizeof about);
    if (ddi_image_look(&about, "fuzz", data, size) == DD_OK && (int64_t)about.width * about.height <= MOST_PIXELS) {
        FUZZ_CHECK(about.width > 0 && about.height > 0 && about.orientation >= 1 && about.orientation <= 8);
        if (ddi_image_decode(&image, &again, "fuzz", data, size) == DD_OK) {
            FUZZ_CHECK(image.width == about.width && image.height == about.height);
            FUZZ_CHECK(ddi_image_turn(&image, again.orientation) == DD_OK);
            FUZZ_CHECK((int64_t)image.width * image.height == (int64_t)about.width * about.height);
        }
    }
    ddi_image_free(&image);
    return 0;
}
