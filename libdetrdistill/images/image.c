/* SPDX-License-Identifier: Apache-2.0
 * The picture buffer, which decoder reads a file, and turning by EXIF orientation. */
#include "images/image.h"
#include "base/error.h"
#include "base/limits.h"
#include "images/codecs.h"

#include <string.h>

dd_status ddi_image_check(const char *name, int64_t width, int64_t height)
{
    if (width < 1 || height < 1) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%.120s: the picture is empty", name);
    }
    if (width > DDI_MAX_IMAGE_SIDE || height > DDI_MAX_IMAGE_SIDE || width * height > DDI_MAX_PIXELS) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "%.120s: %lld x %lld pixels; a side has at most %d, a picture %lld", name,
                        (long long)width, (long long)height, DDI_MAX_IMAGE_SIDE, (long long)DDI_MAX_PIXELS);
    }
    return DD_OK;
}

dd_status ddi_image_reserve(ddi_image *image, const char *name, int64_t width, int64_t height)
{
    DDI_TRY(ddi_image_check(name, width, height));
    const size_t bytes = (size_t)(width * height * 3) + DDI_IMAGE_SLACK;
    if (bytes > image->room) {
        uint8_t *data = ddi_alloc(image->allocator, bytes);
        if (!data) {
            return ddi_fail_nomem(bytes, "a picture");
        }
        ddi_free(image->allocator, image->data);
        image->data = data;
        image->room = bytes;
    }
    image->width = (int32_t)width;
    image->height = (int32_t)height;
    return DD_OK;
}

void ddi_image_free(ddi_image *image)
{
    ddi_free(image->allocator, image->data);
    *image = (ddi_image){.allocator = image->allocator};
}

static dd_status decode(ddi_image *image, ddi_image_about *about, const char *name, const void *bytes, size_t size)
{
    static const uint8_t jpeg[] = {0xFF, 0xD8, 0xFF}, png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    *about = (ddi_image_about){.orientation = 1};
    if (size >= sizeof jpeg && memcmp(bytes, jpeg, sizeof jpeg) == 0) {
        return ddi_jpeg_decode(image, about, name, bytes, size);
    }
    if (size >= sizeof png && memcmp(bytes, png, sizeof png) == 0) {
        return ddi_png_decode(image, about, name, bytes, size);
    }
    return ddi_fail(DD_ERR_FORMAT, NULL, "%.120s: neither a JPEG nor a PNG", name);
}

dd_status ddi_image_look(ddi_image_about *about, const char *name, const void *bytes, size_t size)
{
    return decode(NULL, about, name, bytes, size);
}

dd_status ddi_image_decode(ddi_image *image, ddi_image_about *about, const char *name, const void *bytes, size_t size)
{
    return decode(image, about, name, bytes, size);
}

/* Byte offset of the pixel that comes to (x, y) of the turned picture: start + x * step_x + y * step_y. */
typedef struct walk {
    int64_t start, step_x, step_y;
} walk;

static walk walk_of(int32_t orientation, int64_t width, int64_t height)
{
    const int64_t row = 3 * width, right = 3 * (width - 1), bottom = row * (height - 1);
    switch (orientation) {
    case 2: /* mirrored */
        return (walk){right, -3, row};
    case 3: /* upside down */
        return (walk){right + bottom, -3, -row};
    case 4:
        return (walk){bottom, 3, -row};
    case 5: /* transposed */
        return (walk){0, row, 3};
    case 6: /* to be turned clockwise */
        return (walk){bottom, -row, 3};
    case 7:
        return (walk){bottom + right, -row, -3};
    default: /* 8: to be turned counter-clockwise */
        return (walk){right, row, -3};
    }
}

dd_status ddi_image_turn(ddi_image *image, int32_t orientation)
{
    if (orientation < 2 || orientation > 8) {
        return DD_OK;
    }
    ddi_image turned = {.allocator = image->allocator};
    const bool across = orientation >= 5;
    DDI_TRY(
        ddi_image_reserve(&turned, "a picture", across ? image->height : image->width, across ? image->width : image->height));
    const walk w = walk_of(orientation, image->width, image->height);
    uint8_t *to = turned.data;
    for (int64_t y = 0; y < turned.height; y++) {
        const uint8_t *from = image->data + w.start + y * w.step_y;
        for (int64_t x = 0; x < turned.width; x++, from += w.step_x, to += 3) {
            to[0] = from[0];
            to[1] = from[1];
            to[2] = from[2];
        }
    }
    ddi_image_free(image);
    *image = turned;
    return DD_OK;
}
