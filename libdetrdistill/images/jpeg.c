/* SPDX-License-Identifier: Apache-2.0
 * JPEG through libjpeg. Its errors leave by longjmp: everything that must survive one lies in `reader`. */
#include "base/error.h"
#include "base/limits.h"
#include "images/codecs.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

/* MOST_PIXELS_PER_BYTE: a flat picture takes a bit for each block of 64 at the least; far above that a header lies. */
enum { MOST_SCANS = 500, MOST_PIXELS_PER_BYTE = 4096, EXIF_MARKER = JPEG_APP0 + 1 };

typedef struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    bool truncated, many_scans;
    char message[JMSG_LENGTH_MAX];
} reader;

static void on_error(j_common_ptr jpeg)
{
    reader *r = jpeg->client_data;
    jpeg->err->format_message(jpeg, r->message);
    longjmp(r->out, 1);
}

static void on_message(j_common_ptr jpeg, int level)
{
    reader *r = jpeg->client_data;
    if (level < 0) {
        jpeg->err->num_warnings++;
        r->truncated |= jpeg->err->msg_code == JWRN_JPEG_EOF;
    }
}

static void on_output(j_common_ptr jpeg) {}

/* A small file can ask for a pass over a large picture thousands of times. */
static void on_progress(j_common_ptr jpeg)
{
    reader *r = jpeg->client_data;
    if (r->jpeg.input_scan_number > MOST_SCANS) {
        r->many_scans = true;
        longjmp(r->out, 1);
    }
}

static uint32_t number(const uint8_t *at, int32_t bytes, bool big)
{
    uint32_t value = 0;
    for (int32_t i = 0; i < bytes; i++) {
        value |= (uint32_t)at[i] << 8 * (big ? bytes - 1 - i : i);
    }
    return value;
}

int32_t ddi_exif_orientation(const uint8_t *block, size_t size)
{
    enum { HEADER = 6, ENTRY = 12, ORIENTATION = 0x0112, SHORT = 3 };
    if (size < HEADER + 8 || memcmp(block, "Exif\0\0", HEADER) != 0) {
        return 1;
    }
    const uint8_t *tiff = block + HEADER;
    const size_t length = size - HEADER;
    const bool big = memcmp(tiff, "MM\0*", 4) == 0;
    if (!big && memcmp(tiff, "II*\0", 4) != 0) {
        return 1;
    }
    const size_t table = number(tiff + 4, 4, big);
    if (table > length || length - table < 2) {
        return 1;
    }
    const uint32_t entries = number(tiff + table, 2, big);
    for (uint32_t i = 0; i < entries && table + 2 + (i + 1) * (size_t)ENTRY <= length; i++) {
        const uint8_t *entry = tiff + table + 2 + i * (size_t)ENTRY;
        if (number(entry, 2, big) == ORIENTATION && number(entry + 2, 2, big) == SHORT) {
            const uint32_t value = number(entry + 8, 2, big);
            return value >= 1 && value <= 8 ? (int32_t)value : 1;
        }
    }
    return 1;
}

static int32_t saved_orientation(const reader *r)
{
    for (jpeg_saved_marker_ptr marker = r->jpeg.marker_list; marker; marker = marker->next) {
        if (marker->marker == EXIF_MARKER) {
            return ddi_exif_orientation(marker->data, marker->data_length);
        }
    }
    return 1;
}

static dd_status check_header(const reader *r, const char *name, size_t size)
{
    const int64_t width = r->jpeg.image_width, height = r->jpeg.image_height;
    DDI_TRY(ddi_image_check(name, width, height));
    if (r->jpeg.jpeg_color_space == JCS_CMYK || r->jpeg.jpeg_color_space == JCS_YCCK) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%.120s: a CMYK picture; convert it to RGB or grey first", name);
    }
    if (width * height / MOST_PIXELS_PER_BYTE > (int64_t)size) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%.120s: %zu bytes cannot hold %lld x %lld pixels; the file is cut off", name,
                        size, (long long)width, (long long)height);
    }
    return DD_OK;
}

static dd_status read_rows(reader *r, ddi_image *image)
{
    const size_t row = (size_t)image->width * 3;
    JSAMPROW rows[8];
    jpeg_start_decompress(&r->jpeg);
    while (r->jpeg.output_scanline < r->jpeg.output_height) {
        const JDIMENSION left = r->jpeg.output_height - r->jpeg.output_scanline, count = left < 8 ? left : 8;
        for (JDIMENSION i = 0; i < count; i++) {
            rows[i] = image->data + (r->jpeg.output_scanline + i) * row;
        }
        jpeg_read_scanlines(&r->jpeg, rows, count);
    }
    return DD_OK;
}

/* After an error of libjpeg. */
static dd_status explain(const reader *r, const char *name, size_t size)
{
    if (r->many_scans) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "%.120s: more than %d scans", name, MOST_SCANS);
    }
    switch (r->errors.msg_code) {
    case JERR_IMAGE_TOO_BIG:
        return ddi_image_check(name, r->jpeg.image_width, r->jpeg.image_height);
    case JERR_NO_BACKING_STORE:
        return ddi_fail(DD_ERR_LIMIT, NULL, "%.120s: its decoder needs more than 1 GiB", name);
    case JERR_OUT_OF_MEMORY:
        return ddi_fail_nomem(size, "decoding a JPEG");
    default:
        return ddi_fail(DD_ERR_FORMAT, NULL, "%.120s: damaged JPEG: %.100s", name, r->message);
    }
}

static dd_status read_picture(reader *r, ddi_image *image, ddi_image_about *about, const char *name, const void *bytes,
                              size_t size)
{
    if (setjmp(r->out)) {
        return explain(r, name, size);
    }
    jpeg_create_decompress(&r->jpeg);
    r->jpeg.client_data = r;
    r->jpeg.progress = &r->progress;
    r->jpeg.mem->max_memory_to_use = DDI_MAX_DECODER_BYTES;
    jpeg_save_markers(&r->jpeg, EXIF_MARKER, 0xFFFF);
    jpeg_mem_src(&r->jpeg, bytes, size);
    jpeg_read_header(&r->jpeg, TRUE);
    DDI_TRY(check_header(r, name, size));
    about->width = (int32_t)r->jpeg.image_width;
    about->height = (int32_t)r->jpeg.image_height;
    about->orientation = saved_orientation(r);
    if (!image) {
        return DD_OK;
    }
    DDI_TRY(ddi_image_reserve(image, name, r->jpeg.image_width, r->jpeg.image_height));
    r->jpeg.out_color_space = JCS_RGB;
    return read_rows(r, image);
}

dd_status ddi_jpeg_decode(ddi_image *image, ddi_image_about *about, const char *name, const void *bytes, size_t size)
{
    reader r = {.progress = {.progress_monitor = on_progress}};
    if (ddi_fault()) {
        return ddi_fail_nomem(size, "decoding a JPEG");
    }
    r.jpeg.err = jpeg_std_error(&r.errors);
    r.jpeg.client_data = &r;
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    r.errors.output_message = on_output;
    const dd_status status = read_picture(&r, image, about, name, bytes, size);
    about->truncated = r.truncated;
    jpeg_destroy_decompress(&r.jpeg);
    return status;
}
