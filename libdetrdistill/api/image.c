/* SPDX-License-Identifier: Apache-2.0
 * Public functions of pictures. */
#include "api/image.h"
#include "base/error.h"
#include "base/handle.h"
#include "base/io.h"
#include "images/draw.h"
#include "images/resize.h"

#include <math.h>
#include <string.h>

struct dd_image {
    ddi_image pixels;
};

static dd_status no_null(const void *p, const char *function, const char *what)
{
    return p ? DD_OK : ddi_fail(DD_ERR_ARGUMENT, NULL, "%s: %s is NULL", function, what);
}

static void destroy(dd_image *image)
{
    ddi_image_free(&image->pixels);
    ddi_free(NULL, image);
}

static dd_status leave(const dd_image *image, dd_status status)
{
    if (ddi_handle_leave(image)) {
        destroy((dd_image *)(uintptr_t)image);
    }
    return status;
}

static dd_status enter(const dd_image *image, const char *function)
{
    ddi_error_clear();
    return ddi_handle_enter(image, DDI_IMAGE, function);
}

dd_status ddi_image_hand_out(dd_image **image, ddi_image *pixels)
{
    dd_image *made = ddi_alloc_zero(NULL, 1, sizeof *made);
    dd_status status = made ? ddi_handle_add(made, DDI_IMAGE) : ddi_fail_nomem(sizeof *made, "a picture");
    if (status != DD_OK) {
        ddi_free(NULL, made);
        ddi_image_free(pixels);
        return status;
    }
    made->pixels = *pixels;
    *image = made;
    return DD_OK;
}

dd_status dd_image_create(dd_image **image, int32_t width, int32_t height)
{
    ddi_image pixels = {0};
    ddi_error_clear();
    DDI_TRY(no_null(image, "dd_image_create", "image"));
    if (width < 1 || height < 1) {
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_image_create: the sides %d x %d must be positive", width, height);
    }
    DDI_TRY(ddi_image_reserve(&pixels, "dd_image_create", width, height));
    memset(pixels.data, 0, (size_t)width * (size_t)height * 3);
    return ddi_image_hand_out(image, &pixels);
}

static dd_status decode(dd_image **image, const char *name, const void *bytes, size_t size)
{
    ddi_image pixels = {0};
    ddi_image_about about;
    dd_status status = ddi_image_decode(&pixels, &about, name, bytes, size);
    if (status == DD_OK && about.truncated) {
        status = ddi_fail(DD_ERR_FORMAT, NULL, "%.150s is cut off inside the picture", name);
    }
    if (status == DD_OK) {
        status = ddi_image_turn(&pixels, about.orientation);
    }
    if (status == DD_OK) {
        return ddi_image_hand_out(image, &pixels);
    }
    ddi_image_free(&pixels);
    return status;
}

dd_status dd_image_decode(dd_image **image, const void *bytes, uint64_t size)
{
    ddi_error_clear();
    DDI_TRY(no_null(image, "dd_image_decode", "image"));
    DDI_TRY(no_null(bytes, "dd_image_decode", "bytes"));
    return decode(image, "the picture", bytes, (size_t)size);
}

dd_status dd_image_open(dd_image **image, const char *path)
{
    ddi_file_map map;
    ddi_error_clear();
    DDI_TRY(no_null(image, "dd_image_open", "image"));
    DDI_TRY(no_null(path, "dd_image_open", "path"));
    DDI_TRY(ddi_file_map_open(&map, path));
    const dd_status status = decode(image, path, map.data, map.size);
    ddi_file_map_close(&map);
    return status;
}

void dd_image_free(dd_image *image)
{
    if (ddi_handle_remove(image, DDI_IMAGE)) {
        destroy(image);
    }
}

dd_status dd_image_pixels(dd_image *image, dd_tensor *view)
{
    DDI_TRY(enter(image, "dd_image_pixels"));
    dd_status status = no_null(view, "dd_image_pixels", "view");
    if (status == DD_OK) {
        const int64_t shape[3] = {image->pixels.height, image->pixels.width, 3};
        status = dd_tensor_init(view, image->pixels.data, DD_U8, 3, shape, NULL, DD_DEVICE_CPU, 0, 0);
    }
    return leave(image, status);
}

static dd_status resize(dd_image *image, int32_t width, int32_t height)
{
    ddi_image resized = {0};
    ddi_resizer resizer;
    if (width < 1 || height < 1) {
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_image_resize: the sides %d x %d must be positive", width, height);
    }
    ddi_resizer_init(&resizer, NULL);
    const dd_status status = ddi_image_resize(&resizer, &resized, &image->pixels, width, height, NULL);
    ddi_resizer_free(&resizer);
    ddi_image_free(status == DD_OK ? &image->pixels : &resized);
    if (status == DD_OK) {
        image->pixels = resized;
    }
    return status;
}

dd_status dd_image_resize(dd_image *image, int32_t width, int32_t height)
{
    DDI_TRY(enter(image, "dd_image_resize"));
    return leave(image, resize(image, width, height));
}

static dd_status draw_box(dd_image *image, const double box[4], int32_t thickness, uint32_t rgb, const char *label)
{
    DDI_TRY(no_null(box, "dd_image_draw_box", "box"));
    if (thickness < 1 || thickness > 256 || isnan(box[0]) || isnan(box[1]) || isnan(box[2]) || isnan(box[3])) {
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_image_draw_box: thickness must be 1 .. 256, and the box without NaN");
    }
    ddi_draw_frame(&image->pixels, box, thickness, rgb);
    if (label && *label) {
        const int32_t scale = image->pixels.height < 400 ? 1 : 2;
        const uint32_t light = (rgb >> 16 & 255) * 3 + (rgb >> 8 & 255) * 6 + (rgb & 255);
        int32_t width, height;
        ddi_draw_text_size(label, scale, &width, &height);
        const double x = fmax(fmin(box[0], image->pixels.width - width), 0);
        const double y = box[1] >= height ? box[1] - height : box[1] + thickness;
        ddi_draw_text(&image->pixels, x, fmax(y, 0), label, scale, light > 1275 ? 0x000000 : 0xFFFFFF, rgb);
    }
    return DD_OK;
}

dd_status dd_image_draw_box(dd_image *image, const double box[4], int32_t thickness, uint32_t rgb, const char *label)
{
    DDI_TRY(enter(image, "dd_image_draw_box"));
    return leave(image, draw_box(image, box, thickness, rgb, label));
}

dd_status dd_image_save(const dd_image *image, const char *path)
{
    DDI_TRY(enter(image, "dd_image_save"));
    const dd_status status = no_null(path, "dd_image_save", "path");
    return leave(image, status != DD_OK ? status : ddi_image_write_png(&image->pixels, path));
}
