/* SPDX-License-Identifier: Apache-2.0
 * Decoders, resize, drawing and the PNG writer: against hashes of Pillow's results, with files that are cut, damaged and lie.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/io.h"
#include "images/codecs.h"
#include "images/draw.h"
#include "images/resize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct known {
    const char *name;
    int32_t width, height;
    uint64_t pixels, resized;
} known;

static const known files[] = {
#include "files.inc.h"
};
enum { FILES = sizeof files / sizeof *files };

typedef struct bytes {
    uint8_t *data;
    size_t size;
} bytes;

/* A copy of exactly the file's size, so that reading beyond it is seen. */
static bytes load(const char *name)
{
    char path[1024];
    ddi_file_map map;
    snprintf(path, sizeof path, FILES_DIR "/%s", name);
    assert_int_equal(ddi_file_map_open(&map, path), DD_OK);
    bytes b = {malloc(map.size), map.size};
    memcpy(b.data, map.data, map.size);
    ddi_file_map_close(&map);
    return b;
}

static uint64_t hash(const ddi_image *image)
{
    uint64_t value = 0xCBF29CE484222325u;
    for (size_t i = 0; i < (size_t)image->width * (size_t)image->height * 3; i++) {
        value = (value ^ image->data[i]) * 0x100000001B3u;
    }
    return value;
}

static dd_status decode(ddi_image *image, ddi_image_about *about, const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    const dd_status status = ddi_image_decode(image, about, "picture", copy, size);
    free(copy);
    return status;
}

static void pillows_pixels(void **state)
{
    ddi_resizer resizer;
    ddi_resizer_init(&resizer, &ddi_default_allocator);
    for (int32_t i = 0; i < FILES; i++) {
        const bytes b = load(files[i].name);
        ddi_image image = {0}, small = {0};
        ddi_image_about about, head;
        assert_int_equal(decode(&image, &about, b.data, b.size), DD_OK);
        assert_int_equal(ddi_image_look(&head, "picture", b.data, b.size), DD_OK);
        assert_int_equal(head.width, about.width);
        assert_int_equal(head.orientation, about.orientation);
        assert_false(about.truncated);
        assert_int_equal(ddi_image_turn(&image, about.orientation), DD_OK);
        assert_int_equal(image.width, files[i].width);
        assert_int_equal(image.height, files[i].height);
        assert_true(hash(&image) == files[i].pixels);
        for (resizer.isa = 0; resizer.isa < 3; resizer.isa++) {
            assert_int_equal(ddi_image_resize(&resizer, &small, &image, 61, 37, NULL), DD_OK);
            assert_true(hash(&small) == files[i].resized);
        }
        ddi_image_free(&image);
        ddi_image_free(&small);
        free(b.data);
    }
    ddi_resizer_free(&resizer);
}

/* Far more taps than the vector rows take, and a window of one pixel. */
static void extreme_ratios(void **state)
{
    ddi_resizer resizer;
    ddi_image wide = {0}, out[3] = {{0}};
    ddi_resizer_init(&resizer, &ddi_default_allocator);
    assert_int_equal(ddi_image_reserve(&wide, "wide", 5000, 3), DD_OK);
    for (size_t i = 0; i < 45000; i++) {
        wide.data[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    const int32_t sizes[][2] = {{1, 1}, {7, 2}, {20, 900}, {4999, 3}, {5000, 1}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int32_t w = sizes[s][0], h = sizes[s][1];
        for (resizer.isa = 0; resizer.isa < 3; resizer.isa++) {
            assert_int_equal(ddi_image_resize(&resizer, &out[resizer.isa], &wide, w, h, NULL), DD_OK);
            assert_memory_equal(out[resizer.isa].data, out[0].data, (size_t)w * (size_t)h * 3);
        }
        const ddi_window corner = {w - 1, h - 1, 1, 1};
        assert_int_equal(ddi_image_resize(&resizer, &out[1], &wide, w, h, &corner), DD_OK);
        assert_memory_equal(out[1].data, out[0].data + ((size_t)w * (size_t)h - 1) * 3, 3);
    }
    for (int32_t i = 0; i < 3; i++) {
        ddi_image_free(&out[i]);
    }
    ddi_image_free(&wide);
    ddi_resizer_free(&resizer);
}

/* Cut at every byte: an error, or a picture of the right size that says it is truncated. */
static void cut_files(void **state)
{
    for (int32_t i = 0; i < FILES; i++) {
        const bytes b = load(files[i].name);
        int32_t truncated = 0;
        ddi_image image = {0};
        ddi_image_about about;
        for (size_t size = 0; size < b.size; size++) {
            const dd_status status = decode(&image, &about, b.data, size);
            assert_true(status == DD_OK || status == DD_ERR_FORMAT);
            if (status == DD_OK && size + 16 < b.size) {
                assert_true(about.truncated);
                assert_int_equal(about.width * about.height, files[i].width * files[i].height);
                truncated++;
            }
        }
        assert_true(truncated > 20);
        ddi_image_free(&image);
        free(b.data);
    }
}

static void damaged_files(void **state)
{
    uint64_t random = 7;
    for (int32_t i = 0; i < FILES; i++) {
        const bytes b = load(files[i].name);
        ddi_image image = {0};
        ddi_image_about about;
        for (int32_t round = 0; round < 400; round++) {
            uint8_t *copy = malloc(b.size);
            memcpy(copy, b.data, b.size);
            for (int32_t flips = 0; flips <= round % 8; flips++) {
                random = random * 6364136223846793005u + 1442695040888963407u;
                copy[(random >> 33) % b.size] ^= (uint8_t)(1u << (random >> 24 & 7));
            }
            const dd_status status = ddi_image_decode(&image, &about, "picture", copy, b.size);
            if (status == DD_OK) {
                assert_int_equal(ddi_image_turn(&image, about.orientation), DD_OK);
            } else {
                assert_true(status == DD_ERR_FORMAT || status == DD_ERR_LIMIT);
                assert_true(strlen(dd_error_message()) > 0);
            }
            free(copy);
        }
        ddi_image_free(&image);
        free(b.data);
    }
}

/* Where the frame header's height and width lie. */
static uint8_t *frame_sides(const bytes *b)
{
    for (size_t i = 2; i + 9 < b->size; i++) {
        if (b->data[i] == 0xFF && (b->data[i + 1] == 0xC0 || b->data[i + 1] == 0xC2)) {
            return b->data + i + 5;
        }
    }
    fail();
    return NULL;
}

static void headers_that_lie(void **state)
{
    bytes b = load("baseline.jpg");
    ddi_image image = {0};
    ddi_image_about about;
    uint8_t *sides = frame_sides(&b);
    const int64_t live = ddi_default_allocator.live_bytes;
    memset(sides, 0xFF, 4);
    assert_int_equal(decode(&image, &about, b.data, b.size), DD_ERR_LIMIT);
    assert_non_null(strstr(dd_error_message(), "65535 x 65535"));
    memcpy(sides, "\x60\0\x60\0", 4); /* 24576: the pixels */
    assert_int_equal(decode(&image, &about, b.data, b.size), DD_ERR_LIMIT);
    memcpy(sides, "\x30\0\x30\0", 4); /* 12288 x 12288 in a file of less than 2 KB */
    assert_int_equal(decode(&image, &about, b.data, b.size), DD_ERR_FORMAT);
    assert_non_null(strstr(dd_error_message(), "cut off"));
    assert_int_equal(ddi_default_allocator.live_bytes, live);
    free(b.data);
    b = load("colour.png");
    memcpy(b.data + 16, "\0\1\0\0\0\1\0\0", 8); /* the checksum is wrong now, too: that is an error either way */
    assert_int_not_equal(decode(&image, &about, b.data, b.size), DD_OK);
    assert_int_equal(ddi_default_allocator.live_bytes, live);
    free(b.data);
    b = load("cmyk.jpg");
    assert_int_equal(decode(&image, &about, b.data, b.size), DD_ERR_FORMAT);
    assert_non_null(strstr(dd_error_message(), "CMYK"));
    free(b.data);
    assert_int_equal(decode(&image, &about, (const uint8_t *)"GIF89a", 6), DD_ERR_FORMAT);
    assert_non_null(strstr(dd_error_message(), "neither a JPEG nor a PNG"));
    ddi_image_free(&image);
}

static void orientation_blocks(void **state)
{
    static const uint8_t block[] = "Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0";
    uint8_t *copy = malloc(sizeof block);
    assert_int_equal(ddi_exif_orientation(block, sizeof block), 6);
    for (size_t size = 0; size < 26; size++) {
        uint8_t *cut = malloc(size ? size : 1);
        memcpy(cut, block, size);
        assert_int_equal(ddi_exif_orientation(cut, size), 1);
        free(cut);
    }
    for (size_t i = 6; i < sizeof block; i++) { /* each byte at its largest: nothing beyond the block is read */
        memcpy(copy, block, sizeof block);
        copy[i] = 0xFF;
        const int32_t o = ddi_exif_orientation(copy, sizeof block);
        assert_in_range(o, 1, 8);
    }
    free(copy);
}

static const uint8_t *pixel(const ddi_image *image, int32_t x, int32_t y)
{
    return image->data + (y * image->width + x) * 3;
}

static void drawing(void **state)
{
    ddi_image image = {0};
    int32_t width, height, ink = 0;
    assert_int_equal(ddi_image_reserve(&image, "picture", 60, 40), DD_OK);
    memset(image.data, 0, 60 * 40 * 3);
    ddi_draw_frame(&image, (const double[]){10, 5, 50, 35}, 2, 0xFF8001);
    assert_memory_equal(pixel(&image, 10, 5), "\xFF\x80\x01", 3);
    assert_memory_equal(pixel(&image, 49, 34), "\xFF\x80\x01", 3);
    assert_memory_equal(pixel(&image, 12, 7), "\0\0\0", 3);
    assert_memory_equal(pixel(&image, 50, 34), "\0\0\0", 3);
    assert_memory_equal(pixel(&image, 9, 5), "\0\0\0", 3);
    ddi_draw_frame(&image, (const double[]){-1e9, -5, 1e9, 1e9}, 1, 0x0000FF); /* cut at the picture */
    ddi_draw_frame(&image, (const double[]){0.0 / 1e-300, 8, 5, 3}, 1, 0x0000FF);
    ddi_draw_text_size("A1", 2, &width, &height);
    assert_int_equal(width, 26);
    assert_int_equal(height, 18);
    memset(image.data, 0, 60 * 40 * 3);
    ddi_draw_text(&image, 3, 4, "I", 1, 0xFFFFFF, 0x000080);
    for (int32_t i = 0; i < 60 * 40; i++) {
        ink += image.data[3 * i] == 255;
    }
    assert_int_equal(ink, 3 + 5 + 3);
    ddi_draw_text(&image, -20, 37, "person \xC3\xA4 0.95%", 2, 0xFFFFFF, 0x000080);
    ddi_draw_text(&image, 1e18, -1e18, "far away", 3, 0xFFFFFF, 0x000080);
    ddi_image_free(&image);
}

static void png_round_trip(void **state)
{
    char path[] = "/tmp/dd_png_XXXXXX";
    const int descriptor = mkstemp(path);
    ddi_image image = {0}, back = {0};
    ddi_image_about about;
    ddi_file_map map;
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_int_equal(ddi_image_reserve(&image, "picture", 300, 77), DD_OK);
    for (size_t i = 0; i < 300 * 77 * 3; i++) {
        image.data[i] = (uint8_t)(i * i >> 5);
    }
    assert_int_equal(ddi_image_write_png(&image, path), DD_OK);
    assert_int_equal(ddi_file_map_open(&map, path), DD_OK);
    assert_int_equal(ddi_image_decode(&back, &about, path, map.data, map.size), DD_OK);
    ddi_file_map_close(&map);
    assert_true(hash(&back) == hash(&image));
    assert_int_equal(ddi_image_write_png(&image, "/nonexistent/folder/a.png"), DD_ERR_IO);
    ddi_image_free(&image);
    ddi_image_free(&back);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pillows_pixels), cmocka_unit_test(extreme_ratios),   cmocka_unit_test(cut_files),
        cmocka_unit_test(damaged_files),  cmocka_unit_test(headers_that_lie), cmocka_unit_test(orientation_blocks),
        cmocka_unit_test(drawing),        cmocka_unit_test(png_round_trip),
    };
    return cmocka_run_group_tests_name("images", tests, NULL, NULL);
}
