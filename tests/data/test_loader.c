/* SPDX-License-Identifier: Apache-2.0
 * The loader: plans of the augmentation, pixels and boxes that stay together, the same bits for any number of threads, going on
 * from a position, damaged pictures, wrong calls, failing memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "data/augment.h"
#include "folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int set_up(void **state)
{
    folder_make();
    return 0;
}

static int tear_down(void **state)
{
    folder_remove();
    return 0;
}

/* ---- Plans */

static const ddi_policy coco_policy = {.train = true,
                                       .sizes = {11, {480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800}},
                                       .crop_sizes = {3, {400, 500, 600}},
                                       .max_size = 1333,
                                       .crop_min = 384,
                                       .crop_max = 600,
                                       .flip = 0.5,
                                       .crop = 0.5};

/* Sizes that the official code gives. */
static void sizes_of_an_evaluation(void **state)
{
    static const int32_t cases[][4] = {{640, 480, 1066, 800},  {480, 640, 800, 1066}, {500, 375, 1066, 800},
                                       {640, 359, 1333, 748},  {612, 612, 800, 800},  {1333, 800, 1333, 800},
                                       {2000, 500, 1332, 333}, {427, 640, 800, 1199}, {1, 10000, 1, 1333},
                                       {10000, 1, 1333, 1},    {3, 4000, 1, 1333},    {1, 1, 800, 800}};
    ddi_policy policy = coco_policy;
    policy.train = false;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const ddi_picture_view v = ddi_view_plan(&policy, 0, 0, 0, cases[i][0], cases[i][1]);
        if (v.width != cases[i][2] || v.height != cases[i][3]) {
            fail_msg("%d x %d becomes %d x %d", cases[i][0], cases[i][1], v.width, v.height);
        }
        assert_false(v.flip || v.crop);
    }
}

static void plans_stay_within_the_policy(void **state)
{
    int32_t flips = 0, crops = 0, sizes[11] = {0};
    for (int32_t i = 0; i < 6000; i++) {
        const int32_t width = 30 + i * 7 % 900, height = 30 + i * 13 % 700;
        const ddi_picture_view v = ddi_view_plan(&coco_policy, 5, i / 100, i, width, height);
        const int32_t small = v.width < v.height ? v.width : v.height, large = v.width < v.height ? v.height : v.width;
        assert_true(small <= 800 && large <= 1334 + large / small / 2); /* the short side was rounded */
        flips += v.flip;
        crops += v.crop;
        for (int32_t k = 0; k < 11; k++) {
            sizes[k] += small == coco_policy.sizes.size[k];
        }
        if (v.crop) {
            const int32_t first = v.first_width < v.first_height ? v.first_width : v.first_height;
            const ddi_window *w = &v.window;
            assert_true(first == 400 || first == 500 || first == 600);
            assert_true(w->x >= 0 && w->y >= 0 && w->x + w->width <= v.first_width && w->y + w->height <= v.first_height);
            assert_in_range(w->width, 384, 600);
            assert_in_range(w->height, 384, 600);
        }
    }
    assert_in_range(flips, 2800, 3200);
    assert_in_range(crops, 2800, 3200);
    for (int32_t k = 0; k < 11; k++) {
        assert_in_range(sizes[k], 250, 900);
    }
}

static void boxes_follow_the_picture(void **state)
{
    float out[4];
    const ddi_picture_view plain = {.original_width = 100, .original_height = 50, .width = 200, .height = 100};
    assert_true(ddi_view_box(&plain, (double[]){10, 5, 20, 10}, out));
    const float wanted[4] = {0.2f, 0.2f, 0.2f, 0.2f};
    assert_memory_equal(out, wanted, sizeof wanted);
    ddi_picture_view v = plain;
    v.flip = true;
    assert_true(ddi_view_box(&v, (double[]){-30, 40, 60, 30}, out)); /* cut at the picture, then mirrored */
    assert_true(fabsf(out[0] - 0.85f) < 1e-6f && fabsf(out[2] - 0.3f) < 1e-6f);
    assert_true(fabsf(out[1] - 0.9f) < 1e-6f && fabsf(out[3] - 0.2f) < 1e-6f);
    v = plain;
    v.crop = true;
    v.first_width = 200;
    v.first_height = 100;
    v.window = (ddi_window){50, 20, 100, 40};
    assert_true(ddi_view_box(&v, (double[]){20, 10, 10, 10}, out)); /* x 40..60 of 200, less 50: 0..10 of 100 */
    assert_true(fabsf(out[0] - 0.05f) < 1e-6f && fabsf(out[2] - 0.1f) < 1e-6f);
    assert_false(ddi_view_box(&v, (double[]){0, 0, 25, 50}, out)); /* ends where the window begins */
    assert_false(ddi_view_box(&v, (double[]){75, 0, 25, 50}, out));
}

/* ---- Batches */

typedef struct batch {
    int32_t images;
    dd_tensor pixels, sizes, originals, ids, indices, boxes, labels, offsets;
} batch;

static bool next(dd_loader *l, batch *b)
{
    GOOD(dd_loader_next(l, &b->images));
    if (b->images == 0) {
        return false;
    }
    GOOD(dd_loader_tensor(l, "pixels", &b->pixels));
    GOOD(dd_loader_tensor(l, "image.sizes", &b->sizes));
    GOOD(dd_loader_tensor(l, "image.originals", &b->originals));
    GOOD(dd_loader_tensor(l, "image.ids", &b->ids));
    GOOD(dd_loader_tensor(l, "image.indices", &b->indices));
    GOOD(dd_loader_tensor(l, "gt.boxes", &b->boxes));
    GOOD(dd_loader_tensor(l, "gt.labels", &b->labels));
    GOOD(dd_loader_tensor(l, "gt.offsets", &b->offsets));
    return true;
}

static uint64_t hash_tensor(uint64_t value, const dd_tensor *t)
{
    int64_t bytes = dd_dtype_size(t->dtype);
    for (int32_t i = 0; i < t->ndim; i++) {
        value = (value ^ (uint64_t)t->shape[i]) * 0x100000001B3u;
        bytes *= t->shape[i];
    }
    for (int64_t i = 0; i < bytes; i++) {
        value = (value ^ ((const uint8_t *)t->data)[i]) * 0x100000001B3u;
    }
    return value;
}

static uint64_t hash_batch(const batch *b)
{
    const dd_tensor *all[] = {&b->pixels, &b->sizes, &b->originals, &b->ids, &b->indices, &b->boxes, &b->labels, &b->offsets};
    uint64_t value = 0xCBF29CE484222325u;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        value = hash_tensor(value, all[i]);
    }
    return value;
}

static float pixel(const batch *b, int64_t image, int64_t y, int64_t x)
{
    return ((const float *)b->pixels.data)[((image * b->pixels.shape[1] + y) * b->pixels.shape[2] + x) * 3];
}

static const float white = (255 - 123.675f) / 58.395f, black = -123.675f / 58.395f;

/* The bright part of a picture, at the places where it crosses half of white: its edges in pixels. */
static bool bright_part(const batch *b, int64_t image, float edge[4])
{
    const int32_t *size = (const int32_t *)b->sizes.data + 2 * image;
    edge[0] = edge[1] = 1e9f;
    edge[2] = edge[3] = -1;
    for (int32_t y = 0; y < size[1]; y++) {
        for (int32_t x = 0; x < size[0]; x++) {
            if (pixel(b, image, y, x) > 0.5f * (white + black)) {
                edge[0] = x < edge[0] ? (float)x : edge[0];
                edge[1] = y < edge[1] ? (float)y : edge[1];
                edge[2] = x + 1 > edge[2] ? (float)(x + 1) : edge[2];
                edge[3] = y + 1 > edge[3] ? (float)(y + 1) : edge[3];
            }
        }
    }
    return edge[2] > 0;
}

enum { PICTURES = 13 };

/* Pictures of several sizes, each with one bright rectangle that is its object. */
static void write_rectangles(void)
{
    char text[8192], name[64];
    size_t used = (size_t)snprintf(text, sizeof text, "{\"categories\": [{\"id\": 7, \"name\": \"box\"}], \"images\": [");
    for (int32_t i = 0; i < PICTURES; i++) {
        const int32_t width = 60 + 13 * i % 50, height = 50 + 29 * i % 70, box[4] = {5 + i * 2, 30 - i, 25, 18};
        snprintf(name, sizeof name, "images/%d.png", i);
        folder_picture(name, width, height, box);
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s{\"id\": %d, \"file_name\": \"%d.png\", \"width\": %d, \"height\": %d}", i ? "," : "",
                                 100 + i, i, width, height);
    }
    used += (size_t)snprintf(text + used, sizeof text - used, "], \"annotations\": [");
    for (int32_t i = 0; i < PICTURES; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s{\"image_id\": %d, \"category_id\": 7, \"bbox\": [%d, %d, 25, 18]}", i ? "," : "", 100 + i,
                                 5 + i * 2, 30 - i);
    }
    snprintf(text + used, sizeof text - used, "]}");
    folder_text("instances.json", text);
}

static dd_loader *open_loader(const char *path, const char *options)
{
    dd_dataset *d;
    dd_loader *l;
    GOOD(dd_dataset_open(&d, path, NULL));
    GOOD(dd_loader_create(&l, d, options));
    dd_dataset_free(d); /* the loader keeps it */
    return l;
}

#define SMALL "sizes=60,80,97 max-size=150 crop-sizes=70,90 crop-min=40 crop-max=66 "

static void boxes_lie_on_their_pixels(void **state)
{
    batch b;
    int32_t seen = 0, cut = 0, lost = 0;
    write_rectangles();
    dd_loader *l = open_loader(folder_path(""), SMALL "batch=3 seed=2 multiple=8");
    for (int32_t epoch = 0; epoch < 12; epoch++) {
        while (next(l, &b)) {
            assert_true(b.pixels.shape[1] % 8 == 0 && b.pixels.shape[2] % 8 == 0);
            const int32_t *offsets = b.offsets.data;
            for (int32_t i = 0; i < b.images; i++) {
                const int32_t *size = (const int32_t *)b.sizes.data + 2 * i, count = offsets[i + 1] - offsets[i];
                float edge[4];
                const bool bright = bright_part(&b, i, edge);
                lost += count == 0;
                if (count == 0 || !bright) { /* a hair of it may be left on either side */
                    assert_true(count + bright < 2);
                    continue;
                }
                const float *box = (const float *)b.boxes.data + 4 * offsets[i], w = (float)size[0], h = (float)size[1];
                const float wanted[4] = {(box[0] - box[2] / 2) * w, (box[1] - box[3] / 2) * h, (box[0] + box[2] / 2) * w,
                                         (box[1] + box[3] / 2) * h};
                for (int32_t k = 0; k < 4; k++) {
                    assert_true(fabsf(wanted[k] - edge[k]) < 1.1f);
                    assert_true(wanted[k] > -1e-3f && wanted[k] < (k % 2 ? h : w) + 1e-3f);
                    cut += wanted[k] < 0.5f || wanted[k] > (k % 2 ? h : w) - 0.5f;
                }
                seen++;
            }
        }
    }
    assert_true(seen > PICTURES * 9 && cut > 10 && lost > 0);
    dd_loader_free(l);
}

static void evaluation_in_order(void **state)
{
    batch b;
    int64_t batches;
    int32_t seen = 0;
    write_rectangles();
    dd_loader *l = open_loader(folder_path(""), "mode=eval sizes=60,80 max-size=100 batch=5 threads=2");
    GOOD(dd_loader_batch_count(l, &batches));
    assert_int_equal(batches, 3);
    for (int32_t round = 0; round < 2; round++) {
        seen = 0;
        while (next(l, &b)) {
            for (int32_t i = 0; i < b.images; i++, seen++) {
                const int32_t *size = (const int32_t *)b.sizes.data + 2 * i,
                              *original = (const int32_t *)b.originals.data + 2 * i;
                assert_int_equal(((const int64_t *)b.ids.data)[i], 100 + seen);
                assert_int_equal(((const int32_t *)b.indices.data)[i], seen);
                assert_int_equal(original[0], 60 + 13 * seen % 50);
                const int32_t shorter = size[0] < size[1] ? size[0] : size[1], longer = size[0] + size[1] - shorter;
                assert_true(shorter == 80 || (shorter < 80 && longer >= 99 && longer <= 101));
                for (int64_t y = 0; y < b.pixels.shape[1]; y++) { /* zero beyond the picture, black or brighter inside */
                    for (int64_t x = 0; x < b.pixels.shape[2]; x++) {
                        const bool inside = y < size[1] && x < size[0];
                        assert_true(inside ? pixel(&b, i, y, x) != 0 : pixel(&b, i, y, x) == 0);
                    }
                }
            }
        }
        assert_int_equal(seen, PICTURES);
    }
    dd_loader_free(l);
}

/* ---- Order and bits */

enum { EPOCHS = 3, MOST = 64 };

static int32_t all_batches(dd_loader *l, uint64_t *hashes, int32_t *order)
{
    batch b;
    int32_t batches = 0, images = 0;
    for (int32_t epoch = 0; epoch < EPOCHS; epoch++) {
        while (next(l, &b)) {
            hashes[batches++] = hash_batch(&b);
            for (int32_t i = 0; i < b.images && order; i++) {
                order[images++] = ((const int32_t *)b.indices.data)[i];
            }
        }
    }
    return batches;
}

static void same_bits_for_any_threads(void **state)
{
    uint64_t first[MOST], other[MOST];
    char options[256];
    for (int32_t threads = 0; threads < 5; threads++) {
        snprintf(options, sizeof options, SMALL "batch=4 seed=9 threads=%d prefetch=%d", threads, 1 + threads % 3);
        dd_loader *l = open_loader("scenes:train=18,size=64", options);
        assert_int_equal(all_batches(l, threads ? other : first, NULL), 5 * EPOCHS);
        assert_memory_equal(threads ? other : first, first, 5 * EPOCHS * sizeof *first);
        dd_loader_free(l);
    }
    dd_loader *l = open_loader("scenes:train=18,size=64", SMALL "batch=4 seed=10");
    all_batches(l, other, NULL);
    assert_memory_not_equal(other, first, sizeof *first);
    dd_loader_free(l);
}

static void every_epoch_has_every_picture(void **state)
{
    uint64_t hashes[MOST];
    int32_t order[EPOCHS * 18], moved = 0;
    dd_loader *l = open_loader("scenes:train=18,size=64", SMALL "batch=4 seed=9");
    all_batches(l, hashes, order);
    dd_loader_free(l);
    for (int32_t epoch = 0; epoch < EPOCHS; epoch++) {
        int32_t times[18] = {0};
        for (int32_t i = 0; i < 18; i++) {
            times[order[epoch * 18 + i]]++;
            moved += order[epoch * 18 + i] != order[i];
        }
        for (int32_t i = 0; i < 18; i++) {
            assert_int_equal(times[i], 1);
        }
    }
    assert_true(moved > 20); /* the epochs differ */
    l = open_loader("scenes:train=18,size=64", SMALL "batch=4 drop-last=1 limit=11 shuffle=0");
    assert_int_equal(all_batches(l, hashes, order), 2 * EPOCHS);
    for (int32_t i = 0; i < 8 * EPOCHS; i++) {
        assert_int_equal(order[i], i % 8);
    }
    dd_loader_free(l);
}

static void going_on_from_a_position(void **state)
{
    uint64_t all[MOST];
    int64_t epoch, number;
    batch b;
    dd_loader *l = open_loader("scenes:train=18,size=64", SMALL "batch=4 seed=9 threads=2");
    const int32_t batches = all_batches(l, all, NULL);
    for (int32_t start = 0; start < batches; start += 2) {
        GOOD(dd_loader_seek(l, start / 5, start % 5));
        GOOD(dd_loader_position(l, &epoch, &number));
        assert_int_equal(epoch * 5 + number, start);
        for (int32_t i = start; i < batches && i < start + 3; i++) {
            if (!next(l, &b)) {
                assert_true(next(l, &b));
            }
            assert_true(hash_batch(&b) == all[i]);
            GOOD(dd_loader_position(l, &epoch, &number));
            assert_int_equal(epoch, i / 5);
            assert_int_equal(number, i % 5 + 1);
        }
    }
    GOOD(dd_loader_seek(l, 1, 5)); /* the end of an epoch */
    assert_false(next(l, &b));
    GOOD(dd_loader_position(l, &epoch, &number));
    assert_true(epoch == 2 && number == 0);
    assert_true(next(l, &b));
    assert_true(hash_batch(&b) == all[10]);
    BAD(dd_loader_seek(l, 0, 6), DD_ERR_ARGUMENT);
    BAD(dd_loader_seek(l, -1, 0), DD_ERR_ARGUMENT);
    dd_loader_free(l);
}

/* ---- Damaged pictures */

/* 0 good, 1 cut off, 2 no picture at all, 3 good */
static void write_damaged(void)
{
    uint8_t bytes[4096];
    FILE *file = fopen(FILES_DIR "/baseline.jpg", "rb");
    assert_non_null(file);
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    folder_write("0.jpg", bytes, size);
    folder_write("1.jpg", bytes, size - 60);
    folder_text("2.jpg", "GIF89a");
    folder_write("3.jpg", bytes, size);
}

static void damaged_pictures(void **state)
{
    batch b;
    int32_t images;
    int64_t count;
    write_damaged();
    for (int32_t threads = 0; threads < 3; threads++) {
        char options[128];
        snprintf(options, sizeof options, "mode=eval sizes=32 batch=1 threads=%d", threads);
        dd_loader *l = open_loader(folder_path(""), options);
        assert_true(next(l, &b));
        BAD(dd_loader_next(l, &images), DD_ERR_FORMAT);
        assert_non_null(strstr(dd_error_message(), "1.jpg is cut off"));
        assert_int_equal(dd_error_place(DD_PLACE_IMAGE), 0);
        BAD(dd_loader_tensor(l, "pixels", &b.pixels), DD_ERR_STATE);
        BAD(dd_loader_next(l, &images), DD_ERR_FORMAT);
        assert_non_null(strstr(dd_error_message(), "2.jpg: neither"));
        assert_true(next(l, &b)); /* it goes on */
        assert_int_equal(((const int32_t *)b.indices.data)[0], 3);
        dd_loader_free(l);
        snprintf(options, sizeof options, "mode=eval sizes=32 batch=1 damaged=skip threads=%d", threads);
        l = open_loader(folder_path(""), options);
        assert_true(next(l, &b));
        assert_true(next(l, &b)); /* batches of which nothing is left are passed over */
        assert_int_equal(((const int32_t *)b.indices.data)[0], 3);
        GOOD(dd_loader_damaged_count(l, &count));
        assert_int_equal(count, 2);
        assert_false(next(l, &b));
        dd_loader_free(l);
        snprintf(options, sizeof options, "mode=eval sizes=32 batch=4 damaged=keep threads=%d", threads);
        l = open_loader(folder_path(""), options);
        assert_true(next(l, &b));
        assert_int_equal(b.images, 3);
        assert_int_equal(((const int32_t *)b.indices.data)[1], 1);
        GOOD(dd_loader_damaged_count(l, &count));
        assert_int_equal(count, 2);
        dd_loader_free(l);
    }
}

/* ---- Wrong calls and failing memory */

static void wrong_calls(void **state)
{
    static const char *const bad[] = {"batch=0",     "sizes=",        "sizes=1,,2",   "sizes=0",
                                      "sizes=70000", "sizes=480 800", "crop-min=700", "flip=1.5",
                                      "threads=257", "damaged=maybe", "mode=test",    "prefetch=0",
                                      "multiple=0",  "max-sise=5",    "crop-sizes=x", "drop-last=1 batch=19"};
    dd_dataset *d;
    dd_loader *l = NULL;
    dd_tensor view;
    int32_t images;
    GOOD(dd_dataset_open(&d, "scenes:train=18,size=64", NULL));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        BAD(dd_loader_create(&l, d, bad[i]), DD_ERR_OPTION);
        assert_null(l);
    }
    BAD(dd_loader_create(NULL, d, NULL), DD_ERR_ARGUMENT);
    BAD(dd_loader_create(&l, NULL, NULL), DD_ERR_ARGUMENT);
    BAD(dd_loader_create(&l, (dd_dataset *)&view, NULL), DD_ERR_ARGUMENT);
    GOOD(dd_loader_create(&l, d, SMALL));
    BAD(dd_loader_tensor(l, "pixels", &view), DD_ERR_STATE);
    GOOD(dd_loader_next(l, &images));
    BAD(dd_loader_tensor(l, "pixel", &view), DD_ERR_NOT_FOUND);
    BAD(dd_loader_tensor(l, NULL, &view), DD_ERR_ARGUMENT);
    BAD(dd_loader_tensor(l, "pixels", NULL), DD_ERR_ARGUMENT);
    BAD(dd_loader_next(l, NULL), DD_ERR_ARGUMENT);
    BAD(dd_dataset_image_count((dd_dataset *)l, &images), DD_ERR_ARGUMENT);
    dd_dataset_free(d);
    dd_loader_free(l);
    BAD(dd_loader_next(l, &images), DD_ERR_ARGUMENT);
    dd_loader_free(NULL);
    dd_dataset_free(NULL);
    dd_image_free(NULL);
}

static void in_a_forked_child(void **state)
{
    int32_t images;
    dd_loader *l = open_loader("scenes:train=18,size=64", SMALL "threads=2");
    GOOD(dd_loader_next(l, &images));
    const pid_t child = fork();
    if (child == 0) {
        const int wrong = dd_loader_next(l, &images) != DD_ERR_FORKED;
        dd_loader_free(l); /* must not wait for threads that are not there */
        _exit(wrong);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    GOOD(dd_loader_next(l, &images));
    dd_loader_free(l);
}

/* No allocation once every buffer has been as large as it gets. */
static void steady_state(void **state)
{
    int32_t images;
    dd_loader *l = open_loader("scenes:train=8,size=64", "mode=eval sizes=96 threads=0 batch=2");
    for (int32_t i = 0; i < 10; i++) {
        GOOD(dd_loader_next(l, &images));
    }
    const int64_t before = ddi_default_allocator.count;
    for (int32_t i = 0; i < 20; i++) {
        GOOD(dd_loader_next(l, &images));
    }
    assert_int_equal(ddi_default_allocator.count, before);
    dd_loader_free(l);
}

#ifdef DDI_FAULT_POINTS
static dd_status open_and_load(int32_t threads)
{
    dd_dataset *d = NULL;
    dd_loader *l = NULL;
    char options[128];
    int32_t images = 1;
    snprintf(options, sizeof options, SMALL "batch=4 damaged=skip threads=%d", threads);
    dd_status status = dd_dataset_open(&d, folder_path(""), NULL);
    if (status == DD_OK) {
        status = dd_loader_create(&l, d, options);
    }
    while (status == DD_OK && images > 0) {
        status = dd_loader_next(l, &images);
    }
    dd_loader_free(l);
    dd_dataset_free(d);
    return status;
}

/* Every call fails in turn, once and for good: an error or, where a file seems to be missing, less data; never a leak. */
static void failing_calls(void **state)
{
    write_rectangles();
    for (int32_t threads = 0; threads < 2; threads++) {
        assert_int_equal(open_and_load(threads), DD_OK); /* the table of handles may grow */
        dd_fault_set(0, 0);
        assert_int_equal(open_and_load(threads), DD_OK);
        const int64_t calls = dd_fault_set(0, 0);
        int32_t failures = 0;
        assert_true(calls > 100);
        for (int64_t n = 1; n <= 2 * calls; n += threads ? 5 : 1) {
            const int64_t before = ddi_default_allocator.live_blocks;
            dd_fault_set(1 + (n - 1) / 2, n % 2);
            const dd_status status = open_and_load(threads);
            dd_fault_set(0, 0);
            assert_int_equal(ddi_default_allocator.live_blocks, before);
            assert_true(status == DD_OK || status == DD_ERR_NOMEM || status == DD_ERR_IO || status == DD_ERR_FORMAT);
            failures += status != DD_OK;
        }
        assert_true(failures > calls / 4);
    }
}
#endif

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(sizes_of_an_evaluation),
        CASE(plans_stay_within_the_policy),
        CASE(boxes_follow_the_picture),
        CASE(boxes_lie_on_their_pixels),
        CASE(evaluation_in_order),
        CASE(same_bits_for_any_threads),
        CASE(every_epoch_has_every_picture),
        CASE(going_on_from_a_position),
        CASE(damaged_pictures),
        CASE(wrong_calls),
        CASE(in_a_forked_child),
        CASE(steady_state),
#ifdef DDI_FAULT_POINTS
        CASE(failing_calls),
#endif
    };
    return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}
