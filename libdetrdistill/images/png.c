/* SPDX-License-Identifier: Apache-2.0
 * PNG through libpng: any kind becomes 8-bit RGB as Pillow's convert('RGB') does it. libpng's errors leave by longjmp:
 * everything that must survive one lies in `coder`. */
#include "base/error.h"
#include "base/io.h"
#include "base/limits.h"
#include "images/codecs.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

/* MOST_PIXELS_PER_BYTE: deflate shrinks to a thousandth at most, and a byte may hold 8 pixels. */
enum { MOST_PIXELS_PER_BYTE = 8 * 1032, MOST_CHUNKS = 1000, MOST_CHUNK_BYTES = 1 << 20 };

typedef struct coder {
    png_structp png;
    png_infop info;
    jmp_buf out;
    bool truncated, no_memory;
    char message[128];
    /* reading */
    const uint8_t *at, *end;
    png_bytep *row;
    png_bytep wide; /* rows of 16-bit grey, before they become 8-bit */
    /* writing */
    uint8_t *written;
    size_t used, room;
} coder;

static void on_error(png_structp png, png_const_charp message)
{
    coder *c = png_get_error_ptr(png);
    const size_t length = strnlen(message, sizeof c->message - 1);
    memcpy(c->message, message, length);
    c->message[length] = '\0';
    longjmp(c->out, 1);
}

static void on_warning(png_structp png, png_const_charp message) {}

static png_voidp on_alloc(png_structp png, png_alloc_size_t bytes)
{
    coder *c = png_get_mem_ptr(png);
    void *memory = bytes <= DDI_MAX_DECODER_BYTES ? ddi_alloc(NULL, bytes) : NULL;
    c->no_memory |= !memory;
    return memory;
}

static void on_free(png_structp png, png_voidp memory)
{
    ddi_free(NULL, memory);
}

static void on_read(png_structp png, png_bytep to, size_t size)
{
    coder *c = png_get_io_ptr(png);
    if (size > (size_t)(c->end - c->at)) {
        c->truncated = true;
        png_error(png, "the file ends too early");
    }
    memcpy(to, c->at, size);
    c->at += size;
}

static dd_status fail(const coder *c, const char *name)
{
    return c->no_memory ? ddi_fail(DD_ERR_NOMEM, NULL, "out of memory for the PNG %.120s", name)
                        : ddi_fail(DD_ERR_FORMAT, NULL, "%.120s: damaged PNG: %s", name, c->message);
}

static dd_status read_header(coder *c, ddi_image_about *about, const char *name, size_t size)
{
    if (setjmp(c->out)) {
        return fail(c, name);
    }
    png_set_user_limits(c->png, DDI_MAX_IMAGE_SIDE, DDI_MAX_IMAGE_SIDE);
    png_set_chunk_cache_max(c->png, MOST_CHUNKS);
    png_set_chunk_malloc_max(c->png, MOST_CHUNK_BYTES);
    png_set_crc_action(c->png, PNG_CRC_DEFAULT, PNG_CRC_DEFAULT);
    /* colour profiles and texts are not wanted: they are passed over, not unpacked */
    png_set_keep_unknown_chunks(c->png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep) "iCCP\0iTXt\0tEXt\0zTXt\0sPLT", 5);
    png_set_read_fn(c->png, c, on_read);
    png_read_info(c->png, c->info);
    const int64_t width = png_get_image_width(c->png, c->info), height = png_get_image_height(c->png, c->info);
    DDI_TRY(ddi_image_check(name, width, height));
    if (width * height / MOST_PIXELS_PER_BYTE > (int64_t)size) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%.120s: %zu bytes cannot hold %lld x %lld pixels; the file is cut off", name,
                        size, (long long)width, (long long)height);
    }
    png_bytep exif = NULL;
    png_uint_32 exif_size = 0;
    uint8_t block[6 + 4096] = "Exif\0";
    if (png_get_eXIf_1(c->png, c->info, &exif_size, &exif) && exif_size >= 8) {
        const size_t kept = exif_size < sizeof block - 6 ? exif_size : sizeof block - 6;
        memcpy(block + 6, exif, kept);
        about->orientation = ddi_exif_orientation(block, 6 + kept);
    }
    about->width = (int32_t)width;
    about->height = (int32_t)height;
    return DD_OK;
}

/* Pillow reads 16-bit grey as integers and clips them to 0..255 on the way to RGB; of 16-bit colours it keeps the high byte. */
static bool is_wide_grey(const coder *c)
{
    return png_get_color_type(c->png, c->info) == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(c->png, c->info) == 16;
}

static void ask_for_rgb(const coder *c)
{
    const int kind = png_get_color_type(c->png, c->info), depth = png_get_bit_depth(c->png, c->info);
    if (kind == PNG_COLOR_TYPE_PALETTE) {
        png_set_palette_to_rgb(c->png);
    } else if (kind == PNG_COLOR_TYPE_GRAY && depth < 8) {
        png_set_expand_gray_1_2_4_to_8(c->png);
    }
    if (depth == 16 && !is_wide_grey(c)) {
        png_set_strip_16(c->png);
    }
    if ((kind & PNG_COLOR_MASK_COLOR) == 0 && !is_wide_grey(c)) {
        png_set_gray_to_rgb(c->png);
    }
    png_set_strip_alpha(c->png);
}

static void narrow(uint8_t *to, const uint8_t *from, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++, from += 2, to += 3) {
        memset(to, from[0] ? 255 : from[1], 3);
    }
}

static dd_status read_pixels(coder *c, ddi_image *image, const char *name)
{
    if (setjmp(c->out)) {
        return c->truncated && !c->no_memory ? DD_OK : fail(c, name);
    }
    ask_for_rgb(c);
    png_set_interlace_handling(c->png);
    png_read_update_info(c->png, c->info);
    const size_t pixels = (size_t)image->width, row = pixels * (c->wide ? 2 : 3);
    if (png_get_rowbytes(c->png, c->info) != row) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%.120s: a kind of PNG that cannot become RGB", name);
    }
    for (int32_t y = 0; y < image->height; y++) {
        c->row[y] = (c->wide ? c->wide : image->data) + (size_t)y * row;
    }
    png_read_image(c->png, c->row);
    return DD_OK;
}

static dd_status decode(coder *c, ddi_image *image, const char *name)
{
    DDI_TRY(ddi_image_reserve(image, name, png_get_image_width(c->png, c->info), png_get_image_height(c->png, c->info)));
    const size_t pixels = (size_t)image->width * (size_t)image->height;
    memset(image->data, 128, pixels * 3); /* what a file that is cut off leaves */
    c->row = ddi_alloc(NULL, (size_t)image->height * sizeof *c->row);
    c->wide = is_wide_grey(c) ? ddi_alloc_zero(NULL, pixels, 2) : NULL;
    if (!c->row || (!c->wide && is_wide_grey(c))) {
        return ddi_fail_nomem(pixels * 2, "the rows of a PNG");
    }
    DDI_TRY(read_pixels(c, image, name));
    if (c->wide) {
        narrow(image->data, c->wide, pixels);
    }
    return DD_OK;
}

dd_status ddi_png_decode(ddi_image *image, ddi_image_about *about, const char *name, const void *bytes, size_t size)
{
    coder c = {.at = bytes, .end = (const uint8_t *)bytes + size};
    c.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &c, on_error, on_warning, &c, on_alloc, on_free);
    c.info = c.png ? png_create_info_struct(c.png) : NULL;
    dd_status status = c.info ? DD_OK : ddi_fail_nomem(size, "decoding a PNG");
    if (status == DD_OK) {
        status = read_header(&c, about, name, size);
    }
    if (status == DD_OK && image) {
        status = decode(&c, image, name);
        about->truncated = c.truncated;
    }
    png_destroy_read_struct(&c.png, &c.info, NULL);
    ddi_free(NULL, c.row);
    ddi_free(NULL, c.wide);
    return status;
}

/* ---- Writing */

static void on_write(png_structp png, png_bytep bytes, size_t size)
{
    coder *c = png_get_io_ptr(png);
    if (size > c->room - c->used) {
        const size_t room = 2 * c->room + size;
        uint8_t *grown = ddi_realloc(NULL, c->written, room);
        if (!grown) {
            c->no_memory = true;
            png_error(png, "out of memory");
        }
        c->written = grown;
        c->room = room;
    }
    memcpy(c->written + c->used, bytes, size);
    c->used += size;
}

static void on_flush(png_structp png) {}

static dd_status encode(coder *c, const ddi_image *image, const char *path)
{
    if (setjmp(c->out)) {
        return fail(c, path);
    }
    png_set_write_fn(c->png, c, on_write, on_flush);
    png_set_compression_level(c->png, 4); /* twice as fast as the default for a few percent of size */
    png_set_IHDR(c->png, c->info, (png_uint_32)image->width, (png_uint_32)image->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(c->png, c->info);
    for (int32_t y = 0; y < image->height; y++) {
        png_write_row(c->png, image->data + (size_t)y * (size_t)image->width * 3);
    }
    png_write_end(c->png, NULL);
    return DD_OK;
}

dd_status ddi_image_write_png(const ddi_image *image, const char *path)
{
    coder c = {0};
    c.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &c, on_error, on_warning, &c, on_alloc, on_free);
    c.info = c.png ? png_create_info_struct(c.png) : NULL;
    dd_status status = c.info ? encode(&c, image, path) : ddi_fail_nomem(1024, "writing a PNG");
    png_destroy_write_struct(&c.png, &c.info);
    if (status == DD_OK) {
        const ddi_file_piece piece = {c.written, c.used};
        status = ddi_file_replace(path, &piece, 1);
    }
    ddi_free(NULL, c.written);
    return status;
}
