/* SPDX-License-Identifier: Apache-2.0
 * Decodes and resizes pictures as a list of orders asks, for comparison with Pillow:
 *
 *     copy_picture ORDERS
 *
 * A line is "FILE RAW ISA WIDTH HEIGHT X Y W H": the window of FILE resized to WIDTH x HEIGHT goes to RAW as bytes. WIDTH 0: as
 * decoded and turned upright. An error goes to the standard output. */
#include "base/io.h"
#include "images/resize.h"

#include <stdio.h>
#include <string.h>

static int fail(void)
{
    printf("%s\n", dd_error_message());
    return 1;
}

static int copy(ddi_resizer *resizer, const char *file, const char *raw, int isa, int width, int height, ddi_window window)
{
    ddi_file_map map;
    ddi_image image = {0}, resized = {0};
    ddi_image_about about;
    if (ddi_file_map_open(&map, file)) {
        return fail();
    }
    dd_status status = ddi_image_decode(&image, &about, file, map.data, map.size);
    if (status == DD_OK) {
        status = ddi_image_turn(&image, about.orientation);
    }
    if (status == DD_OK && width > 0) {
        resizer->isa = isa;
        status = ddi_image_resize(resizer, &resized, &image, width, height, &window);
    }
    const ddi_image *out = width > 0 ? &resized : &image;
    FILE *stream = status == DD_OK ? fopen(raw, "wb") : NULL;
    if (stream) {
        fwrite(out->data, 3, (size_t)out->width * (size_t)out->height, stream);
        fclose(stream);
    }
    ddi_image_free(&image);
    ddi_image_free(&resized);
    ddi_file_map_close(&map);
    return stream ? 0 : fail();
}

int main(int count, char **arguments)
{
    char file[1024], raw[1024];
    int isa, width, height, failed = 0;
    ddi_window w;
    ddi_resizer resizer;
    FILE *orders = count == 2 ? fopen(arguments[1], "r") : NULL;
    if (!orders) {
        return 2;
    }
    ddi_resizer_init(&resizer, &ddi_default_allocator);
    while (fscanf(orders, "%1023s %1023s %d %d %d %d %d %d %d", file, raw, &isa, &width, &height, &w.x, &w.y, &w.width,
                  &w.height) == 9) {
        failed |= copy(&resizer, file, raw, isa, width, height, w);
    }
    ddi_resizer_free(&resizer);
    fclose(orders);
    return failed;
}
