/* SPDX-License-Identifier: Apache-2.0
 * Opening data sets: layouts, splits, labels, what is dropped and counted, files that lie; the real ones where they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "folder.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static const int32_t small[4] = {1, 1, 2, 2};

/* ---- COCO */

static const char coco_train[] =
    "{\"annotations\": ["
    "{\"id\": 1, \"image_id\": 9, \"category_id\": 90, \"bbox\": [1, 2, 10, 8], \"area\": 60, \"iscrowd\": 0},"
    "{\"id\": 2, \"image_id\": 4, \"category_id\": 1, \"bbox\": [5, 5, 20, 20], \"area\": 300.5, \"iscrowd\": 1},"
    "{\"id\": 3, \"image_id\": 4, \"category_id\": 13, \"bbox\": [30, 20, 20, 20]},"
    "{\"id\": 4, \"image_id\": 4, \"category_id\": 13, \"bbox\": [3, 3, 0, 5], \"area\": 0},"
    "{\"id\": 5, \"image_id\": 4, \"category_id\": 13, \"bbox\": [3, 3, 0.5, 5], \"area\": 2.5},"
    "{\"id\": 6, \"image_id\": 4, \"category_id\": 13, \"bbox\": [41, 3, 5, 5], \"area\": 25},"
    "{\"id\": 7, \"image_id\": 4, \"category_id\": 77, \"bbox\": [3, 3, 5, 5], \"area\": 25},"
    "{\"id\": 8, \"image_id\": 5, \"category_id\": 1, \"bbox\": [3, 3, 5, 5], \"area\": 25},"
    "{\"id\": 9, \"image_id\": 9, \"category_id\": 1, \"bbox\": [3, 3, -5, 5], \"area\": 25},"
    "{\"id\": 10, \"image_id\": 9, \"category_id\": 1, \"bbox\": [3, 3, 5, 5], \"area\": 25, \"ignore\": 1},"
    "{\"id\": 11, \"image_id\": 8, \"category_id\": 1, \"bbox\": [3, 3, 5, 5], \"area\": 25}],"
    "\"info\": {\"year\": [2017, {}]},"
    "\"images\": [{\"id\": 9, \"file_name\": \"b.png\", \"width\": 40, \"height\": 30},"
    "{\"id\": 4, \"file_name\": \"a.png\", \"width\": 40, \"height\": 30},"
    "{\"id\": 8, \"file_name\": \"lost.png\", \"width\": 40, \"height\": 30},"
    "{\"id\": 12, \"file_name\": \"empty.png\", \"width\": 40, \"height\": 30}],"
    "\"categories\": [{\"id\": 90, \"name\": \"toothbrush\"}, {\"id\": 1, \"name\": \"person\"}, {\"id\": 13, \"name\": \"stop "
    "sign\"}]}";

static void write_coco(void)
{
    folder_text("annotations/instances_train2017.json", coco_train);
    folder_text("annotations/captions_train2017.json", "{}");
    folder_text("annotations/instances_val2017.json",
                "{\"images\": [{\"id\": 1, \"file_name\": \"c.png\"}], \"annotations\": []}");
    folder_picture("train2017/a.png", 40, 30, small);
    folder_picture("train2017/b.png", 40, 30, small);
    folder_picture("train2017/empty.png", 40, 30, small);
    folder_picture("val2017/c.png", 20, 30, small);
}

static void coco_layout(void **state)
{
    dd_dataset *d;
    int32_t count, width, height;
    int64_t id;
    const char *name;
    write_coco();
    GOOD(dd_dataset_open(&d, folder_path(""), NULL));
    GOOD(dd_dataset_split_count(d, &count));
    assert_int_equal(count, 2);
    GOOD(dd_dataset_image_count(d, &count));
    assert_int_equal(count, 3);
    static const struct {
        const char *name;
        int64_t value;
    } wanted[] = {{"images", 3},    {"objects", 8},     {"targets", 2},         {"images-without-targets", 1},
                  {"crowd", 1},     {"ignored", 1},     {"zero-area", 2},       {"tiny", 1},
                  {"outside", 1},   {"clipped", 1},     {"swapped-corners", 0}, {"unknown-class", 1},
                  {"difficult", 0}, {"missing-xml", 0}, {"unknown-image", 1},   {"missing-image", 1}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (statistic(d, wanted[i].name) != wanted[i].value) {
            fail_msg("%s: %lld instead of %lld", wanted[i].name, (long long)statistic(d, wanted[i].name),
                     (long long)wanted[i].value);
        }
    }
    GOOD(dd_dataset_image_at(d, 0, &id, &name, &width, &height)); /* by id */
    assert_int_equal(id, 4);
    assert_string_equal(name, "a.png");
    assert_int_equal(width, 40);
    GOOD(dd_dataset_class_count(d, &count));
    assert_int_equal(count, 3);
    GOOD(dd_dataset_class_at(d, 1, &id, &name));
    assert_int_equal(id, 13);
    assert_string_equal(name, "stop sign");
    BAD(dd_dataset_class_at(d, 3, &id, &name), DD_ERR_NOT_FOUND);
    BAD(dd_dataset_image_at(d, -1, &id, &name, NULL, NULL), DD_ERR_NOT_FOUND);
    dd_dataset_free(d);
}

static void coco_objects(void **state)
{
    dd_dataset *d;
    int32_t count;
    const double *boxes, *areas;
    const int32_t *labels;
    const uint8_t *flags;
    write_coco();
    GOOD(dd_dataset_open(&d, folder_path("annotations/../"), "split=train"));
    GOOD(dd_dataset_objects(d, 0, &count, &boxes, &labels, &areas, &flags));
    assert_int_equal(count, 5);
    const int32_t label[] = {0, 1, 1, 1, 1};
    const uint8_t flag[] = {DD_OBJECT_CROWD, 0, DD_OBJECT_DROPPED, DD_OBJECT_DROPPED, DD_OBJECT_DROPPED};
    assert_memory_equal(labels, label, sizeof label);
    assert_memory_equal(flags, flag, sizeof flag);
    assert_true(areas[0] == 300.5 && areas[1] == 400);
    const double box[] = {30, 20, 20, 20};
    assert_memory_equal(boxes + 4, box, sizeof box); /* not cut at the picture */
    GOOD(dd_dataset_objects(d, 1, &count, &boxes, &labels, NULL, &flags));
    assert_int_equal(count, 3);
    assert_int_equal(labels[0], 2);
    assert_int_equal(flags[1], DD_OBJECT_DROPPED);
    assert_true(boxes[6] == 0);
    assert_int_equal(flags[2], DD_OBJECT_IGNORED);
    GOOD(dd_dataset_objects(d, 2, &count, NULL, NULL, NULL, NULL));
    assert_int_equal(count, 0);
    dd_dataset_free(d);
}

static void coco_options(void **state)
{
    dd_dataset *d;
    int32_t count;
    const char *name;
    const int32_t *labels;
    int64_t id;
    write_coco();
    GOOD(dd_dataset_open(&d, folder_path(""), "split=train classes=stop_sign,person empty=drop"));
    GOOD(dd_dataset_class_at(d, 0, &id, &name));
    assert_int_equal(id, 13);
    assert_int_equal(statistic(d, "images"), 1);
    GOOD(dd_dataset_objects(d, 0, NULL, NULL, &labels, NULL, NULL));
    assert_int_equal(labels[0], 1);
    assert_int_equal(labels[1], 0);
    dd_dataset_free(d);
    GOOD(dd_dataset_open(&d, folder_path(""), "annotations=annotations/instances_train2017.json images=train2017"));
    assert_int_equal(statistic(d, "targets"), 2);
    dd_dataset_free(d);
    GOOD(dd_dataset_open(&d, folder_path(""), "split=val2017"));
    GOOD(dd_dataset_image_count(d, &count));
    assert_int_equal(count, 1);
    dd_dataset_free(d);
    d = NULL;
    BAD(dd_dataset_open(&d, folder_path(""), "split=test"), DD_ERR_OPTION);
    assert_non_null(strstr(dd_error_message(), "train2017, val2017"));
    BAD(dd_dataset_open(&d, folder_path(""), "missing=error"), DD_ERR_IO);
    assert_non_null(strstr(dd_error_message(), "lost.png"));
    BAD(dd_dataset_open(&d, folder_path(""), "classes=unicorn"), DD_ERR_OPTION);
    BAD(dd_dataset_open(&d, folder_path(""), "spilt=train"), DD_ERR_OPTION);
    BAD(dd_dataset_open(&d, folder_path(""), "format=voc"), DD_ERR_FORMAT);
    BAD(dd_dataset_open(&d, folder_path("nothing"), NULL), DD_ERR_IO);
    BAD(dd_dataset_open(&d, NULL, NULL), DD_ERR_ARGUMENT);
    BAD(dd_dataset_open(NULL, folder_path(""), NULL), DD_ERR_ARGUMENT);
    assert_null(d);
}

static void exported_layout(void **state)
{
    dd_dataset *d;
    folder_text("valid/_annotations.coco.json",
                "{\"images\": [{\"id\": 0, \"file_name\": \"x.png\"}], \"categories\": [{\"id\": 0, \"name\": \"all\"}],"
                "\"annotations\": [{\"image_id\": 0, \"category_id\": 0, \"bbox\": [0, 0, 5, 5]}]}");
    folder_picture("valid/x.png", 9, 9, small);
    GOOD(dd_dataset_open(&d, folder_path(""), NULL));
    assert_int_equal(statistic(d, "targets"), 1);
    dd_dataset_free(d);
}

static void coco_that_lies(void **state)
{
    static const struct {
        dd_status status;
        const char *text;
    } bad[] = {
        {DD_ERR_FORMAT, ""},
        {DD_ERR_FORMAT, "[]"},
        {DD_ERR_FORMAT, "{\"images\": []}"},
        {DD_ERR_FORMAT, "{\"images\": [], \"annotations\": []}"},
        {DD_ERR_FORMAT, "{\"images\": [{\"id\": 1, \"file_name\": \"../a.png\"}], \"annotations\": []}"},
        {DD_ERR_FORMAT, "{\"images\": [{\"id\": 1, \"file_name\": \"x/../../a.png\"}], \"annotations\": []}"},
        {DD_ERR_FORMAT, "{\"images\": [{\"id\": 1, \"file_name\": \"/etc/passwd\"}], \"annotations\": []}"},
        {DD_ERR_FORMAT, "{\"images\": [{\"id\": 1}], \"annotations\": []}"},
        {DD_ERR_FORMAT, "{\"images\": [{\"id\": 1, \"file_name\": \"a.png\"}, {\"id\": 1, \"file_name\": \"b.png\"}], "
                        "\"annotations\": []}"},
        {DD_ERR_FORMAT, "{\"categories\": [{\"id\": 1}, {\"id\": 1}], \"images\": [{\"id\": 1, \"file_name\": \"a.png\"}], "
                        "\"annotations\": []}"},
        {DD_ERR_FORMAT, "{\"images\": [{\"id\": 1, \"file_name\": \"a.png\"}], \"annotations\": [{\"image_id\": 1}]}"},
        {DD_ERR_FORMAT, "{\"images\": [{\"id\": 1, \"file_name\": \"a.png\"}], \"annotations\": [{\"image_id\": 1, "
                        "\"category_id\": 1, \"bbox\": [1, 2, 3, 1e999]}]}"},
        {DD_ERR_LIMIT,
         "{\"images\": [{\"id\": 1, \"file_name\": \"a.png\", \"width\": 70000, \"height\": 5}], \"annotations\": []}"},
        {DD_ERR_LIMIT,
         "{\"images\": [{\"id\": 1, \"file_name\": \"a.png\", \"width\": -1, \"height\": 5}], \"annotations\": []}"},
        {DD_ERR_IO, "{\"images\": [{\"id\": 1, \"file_name\": \"no.png\"}], \"annotations\": []}"},
    };
    dd_dataset *d = NULL;
    folder_picture("a.png", 9, 9, small);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        folder_text("instances.json", bad[i].text);
        if (dd_dataset_open(&d, folder_path("instances.json"), NULL) != bad[i].status) {
            fail_msg("%s: %s", bad[i].text, dd_error_message());
        }
        assert_null(d);
    }
}

static void too_many_objects(void **state)
{
    const size_t room = 16385 * 64 + 1000;
    char *text = malloc(room);
    size_t used = (size_t)snprintf(text, room,
                                   "{\"images\":[{\"id\":1,\"file_name\":\"a.png\"}],\"categories\":[{\"id\":1}],"
                                   "\"annotations\":[");
    dd_dataset *d = NULL;
    folder_picture("a.png", 9, 9, small);
    for (int32_t i = 0; i < 16385; i++) {
        if (i == 16384) { /* as many as may be */
            memcpy(text + used, "]}", 3);
            folder_text("instances.json", text);
            GOOD(dd_dataset_open(&d, folder_path("instances.json"), NULL));
            dd_dataset_free(d);
        }
        used +=
            (size_t)snprintf(text + used, room - used, "%s{\"image_id\":1,\"category_id\":1,\"bbox\":[1,1,2,2]}", i ? "," : "");
    }
    memcpy(text + used, "]}", 3);
    folder_text("instances.json", text);
    BAD(dd_dataset_open(&d, folder_path("instances.json"), NULL), DD_ERR_LIMIT);
    free(text);
}

/* ---- VOC */

static void voc_xml(const char *file, const char *objects)
{
    char text[2048];
    snprintf(text, sizeof text, "<annotation><size><width>40</width><height>30</height></size>%s</annotation>", objects);
    folder_text(file, text);
}

#define OBJECT(name, difficult, x0, y0, x1, y1)                                                                                \
    "<object><name>" name "</name><difficult>" #difficult "</difficult><bndbox><xmin>" #x0 "</xmin><ymin>" #y0                 \
    "</ymin><xmax>" #x1 "</xmax><ymax>" #y1 "</ymax></bndbox></object>"

static void voc_of_two_years(void **state)
{
    dd_dataset *d;
    int32_t count;
    int64_t id;
    const double *boxes;
    const int32_t *labels;
    const uint8_t *flags;
    const char *name;
    voc_xml("VOCdevkit/VOC2007/Annotations/000001.xml",
            OBJECT("cat", 0, 1, 1, 10.7, 12) OBJECT("dog", 1, 5, 5, 20, 20) OBJECT("person", 0, 30, 10, 20, 25));
    voc_xml("VOCdevkit/VOC2012/Annotations/2008_000001.xml", OBJECT("aeroplane", 0, 4, 4, 4, 4));
    folder_text("VOCdevkit/VOC2007/ImageSets/Main/trainval.txt", "000001\r\n000002 \n\n000003 -1\n");
    folder_text("VOCdevkit/VOC2007/ImageSets/Main/cat_trainval.txt", "000001 1\n");
    folder_text("VOCdevkit/VOC2012/ImageSets/Main/trainval.txt", "2008_000001");
    folder_text("VOCdevkit/VOC2007/ImageSets/Main/test.txt", "000002");
    folder_picture("VOCdevkit/VOC2007/JPEGImages/000001.png", 40, 30, small);
    folder_picture("VOCdevkit/VOC2007/JPEGImages/000002.png", 40, 30, small);
    folder_picture("VOCdevkit/VOC2012/JPEGImages/2008_000001.png", 40, 30, small);
    GOOD(dd_dataset_open(&d, folder_path(""), "split=trainval"));
    GOOD(dd_dataset_split_count(d, &count));
    assert_int_equal(count, 2);
    GOOD(dd_dataset_class_count(d, &count));
    assert_int_equal(count, 20);
    GOOD(dd_dataset_image_at(d, 2, &id, &name, NULL, NULL));
    assert_int_equal(id, 4);
    assert_string_equal(name, "VOC2012/JPEGImages/2008_000001.png");
    assert_int_equal(statistic(d, "missing-xml"), 2);
    assert_int_equal(statistic(d, "missing-image"), 1);
    assert_int_equal(statistic(d, "zero-area"), 1);
    assert_int_equal(statistic(d, "swapped-corners"), 1);
    assert_int_equal(statistic(d, "difficult"), 1);
    assert_int_equal(statistic(d, "targets"), 2);
    GOOD(dd_dataset_objects(d, 0, &count, &boxes, &labels, NULL, &flags));
    assert_int_equal(count, 3);
    const double cat[4] = {0, 0, 9, 11}, person[4] = {19, 9, 10, 15};
    assert_memory_equal(boxes, cat, sizeof cat);
    assert_memory_equal(boxes + 8, person, sizeof person);
    assert_int_equal(labels[0], 7);
    assert_int_equal(labels[1], 11);
    assert_int_equal(flags[1], DD_OBJECT_DIFFICULT);
    dd_dataset_free(d);
    BAD(dd_dataset_open(&d, folder_path("VOCdevkit"), NULL), DD_ERR_OPTION);
    assert_non_null(strstr(dd_error_message(), "test, trainval"));
    folder_text("VOCdevkit/VOC2007/ImageSets/Main/test.txt", "../000002");
    BAD(dd_dataset_open(&d, folder_path("VOCdevkit/VOC2007"), "split=test"), DD_ERR_FORMAT);
}

static void voc_labels_of_all_splits(void **state)
{
    dd_dataset *d;
    const char *name;
    const int32_t *labels;
    voc_xml("Annotations/a.xml", OBJECT("zebra", 0, 1, 1, 9, 9));
    voc_xml("Annotations/b.xml", OBJECT("ant", 0, 1, 1, 9, 9) OBJECT("cat", 0, 1, 1, 9, 9));
    folder_text("ImageSets/Main/train.txt", "a\n");
    folder_text("ImageSets/Main/val.txt", "b\n");
    folder_picture("JPEGImages/a.png", 40, 30, small);
    folder_picture("JPEGImages/b.png", 40, 30, small);
    for (int32_t i = 0; i < 2; i++) {
        GOOD(dd_dataset_open(&d, folder_path(""), i ? "split=val" : "split=train"));
        int32_t count;
        GOOD(dd_dataset_class_count(d, &count));
        assert_int_equal(count, 3);
        GOOD(dd_dataset_class_at(d, 2, NULL, &name));
        assert_string_equal(name, "zebra");
        GOOD(dd_dataset_objects(d, 0, NULL, NULL, &labels, NULL, NULL));
        assert_int_equal(labels[0], i ? 0 : 2);
        dd_dataset_free(d);
    }
    folder_text("Annotations/b.xml", "<annotation><object>");
    BAD(dd_dataset_open(&d, folder_path(""), "split=val"), DD_ERR_FORMAT);
}

static void pictures_alone(void **state)
{
    dd_dataset *d;
    dd_image *image;
    dd_tensor view;
    int32_t count;
    const int32_t box[4] = {2, 1, 3, 4};
    folder_picture("b.png", 20, 10, box);
    folder_picture("a.png", 9, 9, box);
    folder_text("notes.txt", "no picture");
    GOOD(dd_dataset_open(&d, folder_path(""), NULL));
    GOOD(dd_dataset_image_count(d, &count));
    assert_int_equal(count, 2);
    dd_dataset_free(d);
    GOOD(dd_dataset_open(&d, folder_path("b.png"), NULL));
    GOOD(dd_dataset_read(d, 0, &image));
    GOOD(dd_image_pixels(image, &view));
    assert_int_equal(view.shape[1], 20);
    assert_int_equal(((uint8_t *)view.data)[(1 * 20 + 2) * 3], 255);
    dd_dataset_free(d); /* the picture is its own */
    GOOD(dd_image_resize(image, 40, 20));
    GOOD(dd_image_draw_box(image, (double[]){1, 1, 9, 9}, 1, 0x00FF00, "cat 0.9"));
    BAD(dd_image_draw_box(image, (double[]){1, 1, 9, 9}, 0, 0, NULL), DD_ERR_ARGUMENT);
    BAD(dd_image_resize(image, 0, 5), DD_ERR_ARGUMENT);
    BAD(dd_image_resize(image, 65501, 5), DD_ERR_LIMIT);
    dd_image_free(image);
    BAD(dd_image_pixels(image, &view), DD_ERR_ARGUMENT);
    BAD(dd_image_open(&image, folder_path("notes.txt")), DD_ERR_FORMAT);
    BAD(dd_image_open(&image, folder_path("none.png")), DD_ERR_IO);
    unlink(folder_path("a.png"));
    unlink(folder_path("b.png"));
    BAD(dd_dataset_open(&d, folder_path(""), NULL), DD_ERR_FORMAT);
}

/* ---- Scenes */

static uint64_t hash(uint64_t value, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        value = (value ^ ((const uint8_t *)bytes)[i]) * 0x100000001B3u;
    }
    return value;
}

/* Pixels and objects of the first scenes. */
static uint64_t look(const char *path, const char *options, int32_t scenes)
{
    dd_dataset *d;
    uint64_t value = 0xCBF29CE484222325u;
    GOOD(dd_dataset_open(&d, path, options));
    for (int32_t i = 0; i < scenes; i++) {
        dd_image *image;
        dd_tensor view;
        const double *boxes;
        const int32_t *labels;
        int32_t count;
        GOOD(dd_dataset_read(d, i, &image));
        GOOD(dd_image_pixels(image, &view));
        value = hash(value, view.data, (size_t)(view.shape[0] * view.shape[1] * 3));
        GOOD(dd_dataset_objects(d, i, &count, &boxes, &labels, NULL, NULL));
        value = hash(hash(value, boxes, (size_t)count * 32), labels, (size_t)count * 4);
        dd_image_free(image);
    }
    dd_dataset_free(d);
    return value;
}

static void scenes_are_fixed(void **state)
{
    const uint64_t first = look("scenes", NULL, 8);
    assert_true(first == 0x66645eb0905b5acbu); /* these bits belong to the default data set */
    assert_true(look("scenes:train=9", "split=train", 8) == first);
    assert_true(look("scenes", "split=val", 8) != first);
    assert_true(look("scenes:seed=2", NULL, 8) != first);
}

typedef struct census {
    int32_t by_class[8], by_size[3], total, most;
} census;

/* Objects of 500 scenes. */
static census count_objects(const char *path)
{
    dd_dataset *d;
    census c = {.total = 0};
    GOOD(dd_dataset_open(&d, path, NULL));
    assert_int_equal(statistic(d, "images-without-targets"), 0);
    assert_int_equal(statistic(d, "clipped"), 0);
    assert_int_equal(statistic(d, "objects"), statistic(d, "targets"));
    for (int32_t i = 0; i < 500; i++) {
        const double *areas;
        const int32_t *labels;
        int32_t count;
        GOOD(dd_dataset_objects(d, i, &count, NULL, &labels, &areas, NULL));
        assert_true(count >= 1);
        c.most = count > c.most ? count : c.most;
        for (int32_t k = 0; k < count; k++) {
            const double area = areas[k] * 4; /* as at 640 x 480 */
            c.by_class[labels[k]]++;
            c.by_size[area < 32 * 32 ? 0 : area < 96 * 96 ? 1 : 2]++;
            c.total++;
        }
    }
    dd_dataset_free(d);
    return c;
}

static void scenes_are_balanced(void **state)
{
    const census c = count_objects("scenes:train=500,classes=8,width=320,height=240");
    assert_int_equal(c.most, 8);
    for (int32_t i = 0; i < 8; i++) {
        assert_in_range(c.by_class[i], c.total / 12, c.total / 6);
    }
    for (int32_t i = 0; i < 3; i++) {
        assert_in_range(c.by_size[i], c.total / 6, c.total / 2);
    }
}

static void scenes_as_asked(void **state)
{
    dd_dataset *d;
    const census c = count_objects("scenes:train=500,width=320,height=240,objects=3,smallest=medium");
    assert_int_equal(c.most, 3);
    assert_int_equal(c.by_size[0], 0);
    assert_in_range(c.by_size[1], c.total / 3, 2 * c.total / 3);
    const census large = count_objects("scenes:train=500,width=320,height=240,smallest=large");
    assert_int_equal(large.by_size[2], large.total);
    BAD(dd_dataset_open(&d, "scenes:classes=9", NULL), DD_ERR_OPTION);
    BAD(dd_dataset_open(&d, "scenes:objects=9", NULL), DD_ERR_OPTION);
    BAD(dd_dataset_open(&d, "scenes:smallest=tiny", NULL), DD_ERR_OPTION);
    BAD(dd_dataset_open(&d, "scenes:width=15", NULL), DD_ERR_OPTION);
    BAD(dd_dataset_open(&d, "scenes:train=0", NULL), DD_ERR_FORMAT);
    BAD(dd_dataset_open(&d, "scenes", "split=trainval"), DD_ERR_OPTION);
}

/* ---- Real ones */

static bool shared(char path[1024], const char *name)
{
    const char *folder = getenv("DETRDISTILL_TEST_DATA");
    snprintf(path, 1024, "%s/%s", folder ? folder : SHARED_DIR "/data", name);
    if (access(path, R_OK) == 0) {
        return true;
    }
    print_message("skipped: %s is not there\n", path);
    return false;
}

static void bccd(void **state)
{
    char path[1024];
    dd_dataset *d;
    int64_t targets = 0;
    if (!shared(path, "bccd")) {
        skip();
    }
    const struct {
        const char *options;
        int64_t images;
    } splits[] = {{"split=train", 205}, {"split=val", 87}, {"split=test", 72}};
    for (int32_t i = 0; i < 3; i++) {
        GOOD(dd_dataset_open(&d, path, splits[i].options));
        assert_int_equal(statistic(d, "images"), splits[i].images);
        int32_t classes;
        GOOD(dd_dataset_class_count(d, &classes));
        assert_int_equal(classes, 3);
        targets += statistic(d, "targets") + statistic(d, "zero-area");
        dd_dataset_free(d);
    }
    assert_int_equal(targets, 4888);
}

static void coco17(void **state)
{
    char path[1024];
    dd_dataset *d;
    if (!shared(path, "coco17")) {
        skip();
    }
    GOOD(dd_dataset_open(&d, path, NULL));
    assert_int_equal(statistic(d, "images"), 17);
    assert_int_equal(statistic(d, "objects"), 145);
    assert_int_equal(statistic(d, "crowd"), 2);
    assert_int_equal(statistic(d, "targets"), 143);
    dd_dataset_free(d);
}

static void toy_cats(void **state)
{
    char path[1024];
    dd_dataset *d;
    if (!shared(path, "voc-toy-cats")) {
        skip();
    }
    GOOD(dd_dataset_open(&d, path, "format=voc annotations=gts_vocpascal_format images=images"));
    assert_int_equal(statistic(d, "images"), 12);
    assert_int_equal(statistic(d, "targets"), 12);
    assert_int_equal(statistic(d, "missing-xml"), 2);
    assert_int_equal(statistic(d, "images-without-targets"), 3);
    dd_dataset_free(d);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(coco_layout),
        CASE(coco_objects),
        CASE(coco_options),
        CASE(exported_layout),
        CASE(coco_that_lies),
        CASE(too_many_objects),
        CASE(voc_of_two_years),
        CASE(voc_labels_of_all_splits),
        CASE(pictures_alone),
        CASE(scenes_are_fixed),
        CASE(scenes_are_balanced),
        CASE(scenes_as_asked),
        CASE(bccd),
        CASE(coco17),
        CASE(toy_cats),
    };
    return cmocka_run_group_tests_name("datasets", tests, NULL, NULL);
}
