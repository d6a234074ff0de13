/* SPDX-License-Identifier: Apache-2.0
 * detrdistill predict: pictures with boxes, and a COCO result file. */
#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const option predict_options[] = {
    {"--data", "PATH", NULL, "a picture, a folder of pictures, a COCO or Pascal VOC folder, or \"scenes\""},
    {"--split", "NAME", NULL, "of a data set (test, else val)"},
    {"--out", "DIR", NULL, "folder for a PNG of each picture; made if it is missing"},
    {"--results", "FILE", NULL, "detections as COCO result JSON (--out's results.json)"},
    {"--score", "X", "0.5", "least score of a box that is drawn"},
    {"--most", "N", "100", "most detections of a picture"},
    {"--draw", "N", "0", "draw the first N pictures only; 0: all"},
    MODEL_LOADER_OPTIONS,
    DEVICE_OPTIONS,
    {"--json", NULL, NULL, "what was done as one JSON object"},
    {NULL, NULL, NULL, NULL},
};

enum { PATH_BYTES = 4096, COLOURS = 8 };

static const uint32_t colours[COLOURS] = {0x3b7dd8, 0xe8743b, 0x1f9e77, 0xb55cc4, 0xc79a00, 0xe0457b, 0x1398ab, 0x85888c};

typedef struct prediction {
    const verb *v;
    dd_model *model;
    dd_dataset *data;
    const class_map *map;
    const char *folder; /* NULL: nothing is drawn */
    FILE *results;      /* NULL: not written */
    bool by_name;       /* Pascal VOC: pictures and classes by name */
    double least_score;
    int64_t pictures, detections, drawn, most_drawn;
} prediction;

/* The id of a detection's class; -1: the data set has no such class. */
static int64_t class_of(const prediction *p, int64_t label, const char **name)
{
    int64_t id = -1;
    *name = "";
    if (p->map->classes == 0) {
        dd_model_class_at(p->model, (int32_t)label, name);
        return label;
    }
    if (p->map->to_data[label] >= 0 && dd_dataset_class_at(p->data, p->map->to_data[label], &id, name) != DD_OK) {
        return -1;
    }
    return id;
}

static dd_status name_of_picture(const prediction *p, int32_t index, char name[PATH_BYTES])
{
    const char *file;
    const dd_status status = dd_dataset_image_at(p->data, index, NULL, &file, NULL, NULL);
    if (status == DD_OK) {
        snprintf(name, PATH_BYTES, "%s", file);
        char *dot = strrchr(name, '.'), *slash = strrchr(name, '/');
        if (dot && dot > name && (!slash || dot > slash + 1)) {
            *dot = 0;
        }
    }
    return status;
}

static void write_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        fprintf(file, *c == '"' || *c == '\\' ? "\\%c" : *c < ' ' ? "\\u%04x" : "%c", *c);
    }
    fputc('"', file);
}

static void write_result(prediction *p, const found *f, int32_t i, int64_t class_id, const char *class_name, const char *name)
{
    const double *b = f->boxes + 4 * (size_t)i;
    const char *base = strrchr(name, '/');
    fprintf(p->results, "%s\n{\"image_id\": ", p->detections ? "," : "");
    if (p->by_name) {
        write_text(p->results, base ? base + 1 : name);
        fprintf(p->results, ", \"category_id\": ");
        write_text(p->results, class_name);
    } else {
        fprintf(p->results, "%lld, \"category_id\": %lld", (long long)f->id, (long long)class_id);
    }
    fprintf(p->results, ", \"bbox\": [%.9g, %.9g, %.9g, %.9g], \"score\": %.9g}", b[0], b[1], b[2], b[3], f->scores[i]);
}

static dd_status draw(const prediction *p, const found *f, const char *name)
{
    char path[PATH_BYTES], label[320];
    dd_image *image = NULL;
    if (snprintf(path, sizeof path, "%s/", p->folder) + strlen(name) + 5 > sizeof path) {
        complain(EXIT_FAILED, p->v->name, "%.80s..: the name is too long", p->folder);
        return DD_ERR_LIMIT;
    }
    char *at = path + strlen(path);
    for (const char *c = name; *c; c++) {
        *at++ = *c == '/' ? '_' : *c;
    }
    memcpy(at, ".png", 5);
    dd_status status = dd_dataset_read(p->data, f->index, &image);
    /* The best one is drawn last, on top. */
    for (int32_t i = f->count - 1; i >= 0 && status == DD_OK; i--) {
        const double *b = f->boxes + 4 * (size_t)i, corners[4] = {b[0], b[1], b[0] + b[2], b[1] + b[3]};
        const char *class_name;
        if (f->scores[i] < p->least_score || class_of(p, f->labels[i], &class_name) < 0) {
            continue;
        }
        snprintf(label, sizeof label, "%.255s %.2f", class_name, f->scores[i]);
        const int32_t thickness = 1 + (f->width < f->height ? f->width : f->height) / 300;
        status = dd_image_draw_box(image, corners, thickness, colours[f->labels[i] % COLOURS], label);
    }
    status = status == DD_OK ? dd_image_save(image, path) : status;
    dd_image_free(image);
    return status;
}

static int write_picture(void *user, const found *f)
{
    prediction *p = user;
    char name[PATH_BYTES];
    if (name_of_picture(p, f->index, name) != DD_OK) {
        return complain_of_library(p->v->name);
    }
    for (int32_t i = 0; i < f->count; i++) {
        const char *class_name;
        const int64_t id = class_of(p, f->labels[i], &class_name);
        if (id >= 0) {
            if (p->results) {
                write_result(p, f, i, id, class_name, name);
            }
            p->detections++;
        }
    }
    p->pictures++;
    if (!p->folder || (p->most_drawn > 0 && p->drawn >= p->most_drawn)) {
        return EXIT_DONE;
    }
    p->drawn++;
    return draw(p, f, name) == DD_OK ? EXIT_DONE : complain_of_library(p->v->name);
}

static bool is_voc(const char *path)
{
    char inside[PATH_BYTES];
    struct stat about;
    return snprintf(inside, sizeof inside, "%s/Annotations", path) < (int)sizeof inside && stat(inside, &about) == 0;
}

static int predict(prediction *p, const char *const *values)
{
    char words[MOST_WORDS] = "";
    class_map map = {0};
    put_words(p->v, values, OF_LOADER, words);
    p->map = &map;
    if (!map_classes(p->model, p->data, &map)) {
        free_classes(&map);
        return complain_of_library(p->v->name);
    }
    if (map.classes > 0 && map.matched == 0) {
        free_classes(&map);
        return complain(EXIT_DATA, p->v->name, "the model and the data set have no class in common");
    }
    if (p->results) {
        fputc('[', p->results);
    }
    const int code = detect_all(p->v, p->model, p->data, words, atoi(value_of(p->v, values, "--most")), 0, write_picture, p);
    if (p->results) {
        fprintf(p->results, "\n]\n");
    }
    free_classes(&map);
    return code;
}

static void tell(const prediction *p, const char *const *values, const char *results)
{
    if (is_given(p->v, values, "--json")) {
        printf("{\"pictures\": %lld, \"detections\": %lld, \"drawn\": %lld, \"out\": ", (long long)p->pictures,
               (long long)p->detections, (long long)p->drawn);
        print_quoted(p->folder ? p->folder : "");
        printf(", \"results\": ");
        print_quoted(results);
        printf("}\n");
    } else {
        printf("%lld pictures, %lld detections in %s", (long long)p->pictures, (long long)p->detections, results);
        printf(p->folder ? ", %lld pictures with boxes in %s\n" : "\n", (long long)p->drawn, p->folder);
    }
}

static int predict_into(prediction *p, const char *const *values)
{
    char path[PATH_BYTES];
    const char *results = value_of(p->v, values, "--results");
    if (p->folder && mkdir(p->folder, 0777) != 0 && errno != EEXIST) {
        return complain(EXIT_DATA, p->v->name, "cannot make the folder %s: %s", p->folder, strerror(errno));
    }
    if (!results) {
        snprintf(path, sizeof path, "%s/results.json", p->folder);
        results = path;
    }
    p->results = fopen(results, "w");
    if (!p->results) {
        return complain(EXIT_DATA, p->v->name, "cannot write %s: %s", results, strerror(errno));
    }
    int code = predict(p, values);
    const bool failed = ferror(p->results) != 0;
    if ((fclose(p->results) != 0 || failed) && code == EXIT_DONE) {
        code = complain(EXIT_FAILED, p->v->name, "%s could not be written", results);
    }
    if (code == EXIT_DONE) {
        tell(p, values, results);
    }
    return code;
}

int run_predict(const verb *v, const char *const *values)
{
    static const char *const splits[] = {"test", "val", NULL};
    const char *path = value_of(v, values, "--data"), *folder = value_of(v, values, "--out");
    prediction p = {.v = v, .folder = folder, .most_drawn = atoll(value_of(v, values, "--draw"))};
    dd_context *context = NULL;
    char *end;
    int code;
    p.least_score = strtod(value_of(v, values, "--score"), &end);
    if (!path || (!folder && !is_given(v, values, "--results"))) {
        return complain(EXIT_USAGE, v->name, path ? "--out DIR or --results FILE is missing" : "--data PATH is missing");
    }
    if (*end || !(p.least_score >= 0 && p.least_score <= 1)) {
        return complain(EXIT_USAGE, v->name, "--score must be a number 0 to 1");
    }
    p.by_name = is_voc(path);
    if (open_context(v, values, &context) != DD_OK ||
        open_model(context, operand_of(values, 0), "gradients=0", &p.model) != DD_OK ||
        open_split(path, value_of(v, values, "--split"), splits, NULL, &p.data) != DD_OK) {
        code = complain_of_library(v->name);
    } else {
        code = predict_into(&p, values);
    }
    dd_dataset_free(p.data);
    dd_model_free(p.model);
    dd_context_free(context);
    return code;
}
