/* SPDX-License-Identifier: Apache-2.0
 * Opening models and data sets by the names that users give; progress on a terminal. */
#include "common.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

void print_quoted(const char *text)
{
    putchar('"');
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') {
            printf("\\%c", *c);
        } else if (*c < ' ') {
            printf("\\u%04x", *c);
        } else {
            putchar(*c);
        }
    }
    putchar('"');
}

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- Progress */

bool progress_is_shown(void)
{
    static int shown = -1;
    if (shown < 0) {
        shown = isatty(STDERR_FILENO);
    }
    return shown == 1;
}

void clear_progress(void)
{
    if (progress_is_shown()) {
        fprintf(stderr, "\r\033[K");
    }
}

void show_progress(const char *format, ...)
{
    if (!progress_is_shown()) {
        return;
    }
    va_list list;
    va_start(list, format);
    fprintf(stderr, "\r\033[K");
    vfprintf(stderr, format, list);
    fflush(stderr);
    va_end(list);
}

/* ---- Opening */

dd_status open_context(const verb *v, const char *const *values, dd_context **context)
{
    char words[MOST_WORDS] = "";
    put_words(v, values, OF_CONTEXT, words);
    return dd_context_create(context, words);
}

static bool is_file(const char *folder, const char *name, char path[PATH_BYTES])
{
    struct stat about;
    return snprintf(path, PATH_BYTES, "%s/%s", folder, name) < PATH_BYTES && stat(path, &about) == 0 && S_ISREG(about.st_mode);
}

/* The folder of the model that `name` stands for. */
static bool find_model(const char *name, char folder[PATH_BYTES])
{
    static const char *const inside[] = {"model.safetensors", "best/model.safetensors", "student/model.safetensors"};
    for (int i = 0; i < 3; i++) {
        if (is_file(name, inside[i], folder)) {
            *strrchr(folder, '/') = 0;
            return true;
        }
    }
    return false;
}

bool is_model_folder(const char *name)
{
    char folder[PATH_BYTES];
    return find_model(name, folder);
}

dd_status open_model(dd_context *context, const char *name, const char *options, dd_model **model)
{
    char folder[PATH_BYTES];
    return dd_model_load(model, context, find_model(name, folder) ? folder : name, options);
}

/* "deformable_detr:r50,queries=100" -> "family=deformable-detr backbone=resnet-50 queries=100". */
static void write_architecture(const char *name, char words[MOST_WORDS])
{
    const size_t family = strcspn(name, ":,");
    const char *at = name + family;
    add_words(words, " family=");
    for (size_t i = 0; i < family; i++) {
        add_words(words, "%c", name[i] == '_' ? '-' : name[i]);
    }
    if (*at == ':') {
        const int length = (int)strcspn(++at, ",");
        const bool is_short = length > 1 && at[0] == 'r' && at[1] >= '0' && at[1] <= '9';
        add_words(words, " backbone=%s%.*s", is_short ? "resnet-" : "", length - is_short, at + is_short);
        at += length;
    }
    /* A comma is followed by a word of its own where an equals sign comes before the next comma. */
    while (*at == ',') {
        const int length = (int)strcspn(++at, ",");
        add_words(words, memchr(at, '=', (size_t)length) ? " %.*s" : ",%.*s", length, at);
        at += length;
    }
}

dd_status make_model(dd_context *context, const char *name, int32_t classes, const char *more, dd_model **model)
{
    char words[MOST_WORDS] = "";
    if (is_model_folder(name) || strchr(name, '/')) {
        return open_model(context, name, NULL, model);
    }
    add_words(words, "classes=%d", classes);
    write_architecture(name, words);
    add_words(words, " %s", more ? more : "");
    return dd_model_create(model, context, words);
}

dd_status open_split(const char *path, const char *asked, const char *const *splits, const char *more, dd_dataset **data)
{
    char words[MOST_WORDS] = "";
    more = more ? more : "";
    if (asked) {
        add_words(words, "split=%s %s", asked, more);
        return dd_dataset_open(data, path, words);
    }
    for (; *splits; splits++) {
        words[0] = 0;
        add_words(words, "split=%s %s", *splits, more);
        const dd_status status = dd_dataset_open(data, path, words);
        if (status != DD_ERR_OPTION) {
            return status;
        }
    }
    return dd_dataset_open(data, path, more);
}

/* ---- Classes */

static int32_t find_class(const dd_dataset *data, int32_t classes, const char *name)
{
    for (int32_t c = 0; c < classes; c++) {
        const char *other;
        if (dd_dataset_class_at(data, c, NULL, &other) == DD_OK && strcasecmp(name, other) == 0) {
            return c;
        }
    }
    return -1;
}

void free_classes(class_map *map)
{
    free(map->to_data);
    map->to_data = NULL;
}

bool map_classes(dd_model *model, const dd_dataset *data, class_map *map)
{
    *map = (class_map){.by_name = true};
    if (dd_model_class_count(model, &map->labels) != DD_OK || dd_dataset_class_count(data, &map->classes) != DD_OK) {
        return false;
    }
    map->to_data = calloc((size_t)map->labels + 1, sizeof *map->to_data);
    if (!map->to_data) {
        return false;
    }
    for (int32_t label = 0; label < map->labels; label++) {
        const char *name;
        map->to_data[label] = dd_model_class_at(model, label, &name) == DD_OK ? find_class(data, map->classes, name) : -1;
        map->matched += map->to_data[label] >= 0;
    }
    if (map->matched < map->classes && map->labels == map->classes) {
        map->by_name = false;
        map->matched = map->classes;
        for (int32_t label = 0; label < map->labels; label++) {
            map->to_data[label] = label;
        }
    }
    return true;
}
