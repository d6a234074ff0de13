/* SPDX-License-Identifier: Apache-2.0
 * A sample of each kind of file, and what reads it. */
#include "readers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[256];

const char *sample_path(const char *name)
{
    static char path[4][400];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(sample_path(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static const char coco[] =
    "{\"info\": {\"x\": [1, 2.5, \"\\u00e9\"]}, \"images\": [{\"id\": 9, \"file_name\": \"a.jpg\", \"width\": 8, \"height\": "
    "6},"
    " {\"id\": 12, \"file_name\": \"b.jpg\", \"width\": 8, \"height\": 6}], \"categories\": [{\"id\": 4, \"name\": \"cat\"}],"
    " \"annotations\": [{\"id\": 1, \"image_id\": 9, \"category_id\": 4, \"bbox\": [0, 0, 5, 5], \"area\": 25, \"iscrowd\": 0},"
    " {\"id\": 2, \"image_id\": 12, \"category_id\": 4, \"bbox\": [1, 1, 5, 5], \"area\": 25, \"iscrowd\": 0}]}";
static const char results[] = "[{\"image_id\": 9, \"category_id\": 4, \"bbox\": [0, 0, 5, 4], \"score\": 0.5}]";
static const char voc[] =
    "<annotation><filename>a.jpg</filename><size><width>8</width><height>6</height><depth>3</depth></size><object><name>cat</"
    "name>"
    "<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>";

int make_samples(void **state)
{
    char command[1200];
    dd_context *context;
    dd_model *model;
    snprintf(folder, sizeof folder, "%s/detrdistill-parsers-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command,
             "cd '%s' && mkdir -p coco/images voc/Annotations voc/JPEGImages voc/ImageSets/Main model && "
             "cp '" PICTURES_DIR "'/*.jpg '" PICTURES_DIR "'/*.png '" TORCH_DIR
             "'/*.pth . && cp baseline.jpg voc/JPEGImages/a.jpg && "
             "cp baseline.jpg coco/images/a.jpg && cp baseline.jpg coco/images/b.jpg && echo a >voc/ImageSets/Main/all.txt",
             folder);
    assert_int_equal(system(command), 0);
    write_text("coco/instances.json", coco);
    write_text("results.json", results);
    write_text("voc/Annotations/a.xml", voc);
    assert_int_equal(dd_context_create(&context, "device=ref threads=1"), DD_OK);
    assert_int_equal(dd_model_create(&model, context,
                                     "classes=3 queries=4 backbone=resnet-18 block=basic stem=8 depths=1,1,1,1 widths=8,8,8,8 "
                                     "width=32 levels=3 encoder-layers=1 decoder-layers=1 heads=2 points=1 ffn=8"),
                     DD_OK);
    assert_int_equal(dd_model_save(model, sample_path("model")), DD_OK);
    dd_model_free(model);
    dd_context_free(context);
    return 0;
}

int remove_samples(void **state)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* ---- Reading; *sum: a number for all that was read */

static dd_status add_picture(dd_image *image, double *sum)
{
    dd_tensor view;
    const dd_status status = dd_image_pixels(image, &view);
    for (int64_t i = 0; status == DD_OK && i < view.shape[0] * view.shape[1] * view.shape[2]; i++) {
        *sum += (double)(i % 251 + 1) * ((const uint8_t *)view.data)[i];
    }
    return status;
}

static dd_status read_picture(const char *path, double *sum)
{
    dd_image *image = NULL;
    dd_status status = dd_image_open(&image, path);
    status = status == DD_OK ? add_picture(image, sum) : status;
    dd_image_free(image);
    return status;
}

static dd_status read_dataset(const char *path, const char *options, double *sum)
{
    dd_dataset *data = NULL;
    int32_t images = 0, objects = 0;
    const double *boxes;
    dd_status status = dd_dataset_open(&data, path, options);
    status = status == DD_OK ? dd_dataset_image_count(data, &images) : status;
    for (int32_t i = 0; status == DD_OK && i < images; i++) {
        status = dd_dataset_objects(data, i, &objects, &boxes, NULL, NULL, NULL);
        for (int32_t k = 0; status == DD_OK && k < 4 * objects; k++) {
            *sum += (k % 7 + 1) * boxes[k];
        }
    }
    *sum += 1000.0 * images;
    dd_dataset_free(data);
    return status;
}

static dd_status read_coco(const char *path, double *sum)
{
    return read_dataset(path, "format=coco", sum);
}

static dd_status read_voc(const char *path, double *sum)
{
    return read_dataset(sample_path("voc"), "split=all", sum);
}

static dd_status read_results(const char *path, double *sum)
{
    dd_eval *eval = NULL;
    int64_t left_out = 0;
    double numbers[12] = {0};
    dd_status status = dd_eval_create(&eval);
    status = status == DD_OK ? dd_eval_add_coco_annotations(eval, sample_path("coco/instances.json")) : status;
    status = status == DD_OK ? dd_eval_add_coco_results(eval, sample_path("results.json"), &left_out) : status;
    status = status == DD_OK ? dd_eval_finish(eval, numbers) : status;
    for (int i = 0; i < 12; i++) {
        *sum += numbers[i] * (i + 1);
    }
    dd_eval_free(eval);
    return status;
}

static dd_status read_tensors(const char *path, double *sum)
{
    dd_tensorfile *file = NULL;
    int32_t count = 0;
    dd_status status = dd_tensorfile_open(&file, path);
    status = status == DD_OK ? dd_tensorfile_count(file, &count) : status;
    for (int32_t i = 0; status == DD_OK && i < count; i++) {
        const char *name;
        dd_tensor view;
        status = dd_tensorfile_at(file, i, &name, &view);
        int64_t bytes = status == DD_OK ? dd_dtype_size(view.dtype) : 0;
        for (int32_t d = 0; status == DD_OK && d < view.ndim; d++) {
            bytes *= view.shape[d];
        }
        for (int64_t k = 0; k < bytes; k++) { /* all that it claims to have */
            *sum += (double)(k % 13 + 1) * ((const uint8_t *)view.data)[k];
        }
    }
    dd_tensorfile_free(file);
    return status;
}

static dd_status load_model(dd_context *context, const char *path, const char *options, double *sum)
{
    dd_model *model = NULL;
    int32_t count = 0;
    dd_status status = dd_model_load(&model, context, path, options);
    status = status == DD_OK ? dd_model_parameter_count(model, &count) : status;
    for (int32_t i = 0; status == DD_OK && i < count; i++) {
        const char *name;
        dd_tensor view;
        status = dd_model_parameter_at(model, i, &name, &view, NULL);
        *sum += status == DD_OK ? (double)view.shape[0] * (double)((const float *)view.data)[0] : 0;
    }
    dd_model_free(model);
    return status;
}

static dd_status read_model(const char *path, double *sum)
{
    dd_context *context = NULL;
    dd_status status = dd_context_create(&context, "device=ref threads=1");
    status = status == DD_OK ? load_model(context, sample_path("model"), NULL, sum) : status;
    dd_context_free(context);
    return status;
}

const sample samples[] = {
    {"baseline.jpg", read_picture, 0},     {"progressive.jpg", read_picture, 0},       {"turned.jpg", read_picture, 0},
    {"colour.png", read_picture, 0},       {"palette.png", read_picture, 0},           {"alpha.png", read_picture, 0},
    {"coco/instances.json", read_coco, 1}, {"results.json", read_results, 1},          {"voc/Annotations/a.xml", read_voc, 0},
    {"model/config.json", read_model, 1},  {"model/model.safetensors", read_model, 1}, {"plain.pth", read_tensors, 0},
    {"plain_old.pth", read_tensors, 0},
};
const int sample_count = sizeof samples / sizeof samples[0];
