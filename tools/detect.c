/* SPDX-License-Identifier: Apache-2.0
 * Runs a model over a data set: for predictions and for average precision. */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>

enum { COCO_DETECTIONS = 100 };

typedef struct batch {
    dd_tensor pixels, sizes, originals, ids, indices;
} batch;

static dd_status read_batch(dd_loader *loader, batch *b)
{
    dd_status status = dd_loader_tensor(loader, "pixels", &b->pixels);
    status = status ? status : dd_loader_tensor(loader, "image.sizes", &b->sizes);
    status = status ? status : dd_loader_tensor(loader, "image.originals", &b->originals);
    status = status ? status : dd_loader_tensor(loader, "image.ids", &b->ids);
    return status ? status : dd_loader_tensor(loader, "image.indices", &b->indices);
}

typedef struct job {
    const verb *v;
    dd_model *model;
    int32_t most;
    double least_score;
    int (*each)(void *user, const found *f);
    void *user;
} job;

static int detect_batch(const job *j, dd_loader *loader, int32_t images)
{
    batch b;
    dd_status status = read_batch(loader, &b);
    status = status ? status : dd_model_forward(j->model, &b.pixels, &b.sizes);
    if (status != DD_OK) {
        return complain_of_library(j->v->name);
    }
    for (int32_t i = 0; i < images; i++) {
        const int32_t *size = (const int32_t *)b.originals.data + 2 * i;
        found f = {.index = ((const int32_t *)b.indices.data)[i],
                   .id = ((const int64_t *)b.ids.data)[i],
                   .width = size[0],
                   .height = size[1]};
        if (dd_model_detections(j->model, i, f.width, f.height, j->most, j->least_score, &f.count, &f.boxes, &f.labels,
                                &f.scores, NULL) != DD_OK) {
            return complain_of_library(j->v->name);
        }
        const int code = j->each(j->user, &f);
        if (code != EXIT_DONE) {
            return code;
        }
    }
    return EXIT_DONE;
}

int detect_all(const verb *v, dd_model *model, dd_dataset *data, const char *loader_words, int32_t most, double least_score,
               int (*each)(void *user, const found *f), void *user)
{
    const job j = {v, model, most, least_score, each, user};
    char words[MOST_WORDS] = "mode=eval";
    const double begin = seconds_now();
    dd_loader *loader = NULL;
    int32_t images = 1, total = 0, done = 0;
    int code = EXIT_DONE;
    add_words(words, "%s", loader_words);
    if (dd_dataset_image_count(data, &total) != DD_OK || dd_loader_create(&loader, data, words) != DD_OK) {
        return complain_of_library(v->name);
    }
    while (code == EXIT_DONE) {
        if (dd_loader_next(loader, &images) != DD_OK) {
            code = complain_of_library(v->name);
        } else if (images == 0) {
            break;
        } else {
            code = detect_batch(&j, loader, images);
            done += images;
            show_progress("%d of %d pictures, %.0f s left", done, total,
                          (seconds_now() - begin) / done * (total > done ? total - done : 0));
        }
    }
    clear_progress();
    dd_loader_free(loader);
    return code;
}

/* ---- Average precision */

typedef struct judge {
    const verb *v;
    dd_dataset *data;
    dd_eval *eval;
    const class_map *map;
} judge;

static dd_status class_id(const dd_dataset *data, int32_t label, int64_t *id)
{
    return dd_dataset_class_at(data, label, id, NULL);
}

static dd_status add_objects(const judge *j, const found *f)
{
    int32_t count;
    const double *boxes, *areas;
    const int32_t *labels;
    const uint8_t *flags;
    dd_status status = dd_dataset_objects(j->data, f->index, &count, &boxes, &labels, &areas, &flags);
    status = status ? status : dd_eval_add_objects(j->eval, f->id, 0, NULL, NULL, NULL, NULL);
    for (int32_t i = 0; i < count && status == DD_OK; i++) {
        int64_t id;
        const uint8_t crowd = (flags[i] & (DD_OBJECT_CROWD | DD_OBJECT_DIFFICULT | DD_OBJECT_IGNORED)) != 0;
        status = class_id(j->data, labels[i], &id);
        status = status ? status : dd_eval_add_objects(j->eval, f->id, 1, boxes + 4 * (size_t)i, &id, &crowd, areas + i);
    }
    return status;
}

static int judge_picture(void *user, const found *f)
{
    const judge *j = user;
    dd_status status = add_objects(j, f);
    for (int32_t i = 0; i < f->count && status == DD_OK; i++) {
        const int32_t label = j->map->to_data[f->labels[i]];
        int64_t id;
        if (label >= 0) {
            status = class_id(j->data, label, &id);
            status = status ? status : dd_eval_add_detections(j->eval, f->id, 1, f->boxes + 4 * (size_t)i, &id, f->scores + i);
        }
    }
    return status == DD_OK ? EXIT_DONE : complain_of_library(j->v->name);
}

int evaluate_model(const verb *v, dd_model *model, dd_dataset *data, const char *loader_words, const class_map *map,
                   dd_eval *eval)
{
    judge j = {v, data, eval, map};
    return detect_all(v, model, data, loader_words, COCO_DETECTIONS, 0, judge_picture, &j);
}

const char *name_of_class(const dd_dataset *data, int64_t id)
{
    int32_t classes = 0;
    int64_t other;
    const char *name;
    if (dd_dataset_class_count(data, &classes) == DD_OK) {
        for (int32_t c = 0; c < classes; c++) {
            if (dd_dataset_class_at(data, c, &other, &name) == DD_OK && other == id) {
                return name;
            }
        }
    }
    return "";
}
