/* SPDX-License-Identifier: Apache-2.0
 * What verbs with a model share: opening things by the names that users give, and running a model over pictures. */
#ifndef COMMON_H
#define COMMON_H

#include "arguments.h"

#include <detrdistill/detrdistill.h>

/* A name in quotation marks, for JSON. */
void print_quoted(const char *text);
/* Seconds of a clock that only goes forward. */
double seconds_now(void);

/* "--device", "--threads", "--seed" become the context's words. */
dd_status open_context(const verb *v, const char *const *values, dd_context **context);
/* `name`: a Hugging Face folder, or a run folder (its best/ where there is one, or student/). */
dd_status open_model(dd_context *context, const char *name, const char *options, dd_model **model);
/* Whether it is a folder with a model. */
bool is_model_folder(const char *name);
/* `name`: a folder as above, or "deformable_detr:r50", with "key=value" words of dd_model_create behind commas. A new one has
 * `classes` classes, and `more` words (or NULL). */
dd_status make_model(dd_context *context, const char *name, int32_t classes, const char *more, dd_model **model);
/* The first of `splits` (NULL at the end) that the data set has, or its only split; `more`: words of dd_dataset_open, or NULL.
 */
dd_status open_split(const char *path, const char *asked, const char *const *splits, const char *more, dd_dataset **data);

/* The classes of a data set as a model has them. */
typedef struct class_map {
    int32_t labels;   /* of the model */
    int32_t *to_data; /* label of the data set, or -1 */
    int32_t matched, classes;
    bool by_name;
} class_map;

/* Classes are paired by their names or, where the data set's names are not all there and the numbers are equal, by their order.
 * false: the library has an error, or there is no memory. */
bool map_classes(dd_model *model, const dd_dataset *data, class_map *map);
void free_classes(class_map *map);

/* The detections of a picture. */
typedef struct found {
    int32_t index; /* in the data set */
    int64_t id;
    int32_t width, height, count;
    const double *boxes, *scores;
    const int64_t *labels; /* of the model */
} found;

/* Runs the model over a data set; `each` returns EXIT_DONE or an exit code that ends it. Progress goes to a terminal. */
int detect_all(const verb *v, dd_model *model, dd_dataset *data, const char *loader_words, int32_t most, double least_score,
               int (*each)(void *user, const found *f), void *user);

/* Adds the objects of a data set and the detections of a model on it to an evaluation, by the ids of the annotations. */
int evaluate_model(const verb *v, dd_model *model, dd_dataset *data, const char *loader_words, const class_map *map,
                   dd_eval *eval);
/* Table 3 of the paper's supplement, counted here. */
int print_table3(const verb *v, dd_context *context, bool json);
/* The name of a class by its id in the annotations, or "". */
const char *name_of_class(const dd_dataset *data, int64_t id);

/* A progress line on a terminal: replaced by the next one, removed by NULL. Nothing where stderr is no terminal. */
void show_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void clear_progress(void);
bool progress_is_shown(void);

/* Options that several verbs have. */
#define MODEL_LOADER_OPTIONS                                                                                                   \
    {"--sizes", "N", NULL, "short side that pictures are resized to, in pixels (800)", OF_LOADER},                             \
        {"--max-size", "N", NULL, "longest long side; 0: none (1333)", OF_LOADER},                                             \
        {"--batch", "N", "1", "pictures at once", OF_LOADER},                                                                  \
    {                                                                                                                          \
        "--damaged", "error|skip|keep", NULL, "pictures that are cut off or unreadable (error)", OF_LOADER                     \
    }
#define DEVICE_OPTIONS                                                                                                         \
    {"--device", "cpu|ref|..", NULL, "where to compute (cpu)", OF_CONTEXT},                                                    \
        {"--threads", "N", NULL, "threads; 0: all cores (0)", OF_CONTEXT},                                                     \
    {                                                                                                                          \
        "--seed", "N", NULL, "of all that is drawn (0)", OF_CONTEXT                                                            \
    }

#endif
