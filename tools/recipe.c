/* SPDX-License-Identifier: Apache-2.0
 * detrdistill recipes, and train --recipe. A recipe has a line "key=value" for each option of train, under its own name, and
 * lines that describe: about, layout, teacher (its architecture), teacher-recipe, published, uncertain. '#' begins a comment.
 */
#include "recipe.h"
#include "common.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, MOST_FILES = 256 };

const char *const recipe_note_names[NOTES] = {"about", "layout", "teacher", "teacher-recipe", "published", "uncertain"};

/* ---- Where they are */

static bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* $DETRDISTILL_RECIPES, or a folder that lies beside the program: where it is installed, or in its source tree. */
static bool find_folder(char folder[PATH_BYTES])
{
    static const char *const beside[] = {"../share/detrdistill/recipes", "recipes", "../../../examples/recipes"};
    char program[PATH_BYTES / 2];
    const char *given = getenv("DETRDISTILL_RECIPES");
    if (given) {
        return snprintf(folder, PATH_BYTES, "%s", given) < PATH_BYTES && is_folder(folder);
    }
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(program, '/');
    for (size_t i = 0; slash && i < sizeof beside / sizeof *beside; i++) {
        *slash = '\0';
        snprintf(folder, PATH_BYTES, "%s/%s", program, beside[i]);
        if (is_folder(folder)) {
            return true;
        }
    }
    return false;
}

static int no_folder(const verb *v)
{
    return complain(
        EXIT_DATA, v->name,
        "no folder of recipes beside the program; its path can be given in DETRDISTILL_RECIPES, a recipe by its path");
}

/* ---- Reading */

static char *trim(char *at)
{
    at += strspn(at, " \t");
    for (size_t length = strlen(at); length > 0 && strchr(" \t\r", at[length - 1]); length--) {
        at[length - 1] = '\0';
    }
    return at;
}

static bool is_option(const verb *v, const char *key)
{
    for (const option *o = v->options; o->name; o++) {
        if (strcmp(o->name + 2, key) == 0) {
            return true;
        }
    }
    return false;
}

static int take_line(recipe *r, char *line, const char *path, int number)
{
    const verb *train = find_verb("train");
    line = trim(line);
    if (!*line || *line == '#') {
        return EXIT_DONE;
    }
    char *equals = strchr(line, '=');
    if (!equals) {
        return complain(EXIT_DATA, "recipes", "%s, line %d: a line is key=value, or a comment behind '#'", path, number);
    }
    *equals = '\0';
    const char *key = trim(line), *value = trim(equals + 1);
    for (int i = 0; i < NOTES; i++) {
        if (strcmp(key, recipe_note_names[i]) == 0) {
            r->note[i] = value;
            return EXIT_DONE;
        }
    }
    if (!is_option(train, key) || strcmp(key, "recipe") == 0 || r->keys == MOST_RECIPE_KEYS) {
        return complain(EXIT_DATA, "recipes", "%s, line %d: train has no option --%s", path, number, key);
    }
    r->key[r->keys] = key;
    r->value[r->keys++] = value;
    return EXIT_DONE;
}

static int read_text(const verb *v, const char *path, char text[RECIPE_BYTES])
{
    FILE *file = fopen(path, "r");
    if (!file) {
        return complain(EXIT_DATA, v->name, "cannot open the recipe %s", path);
    }
    const size_t bytes = fread(text, 1, RECIPE_BYTES, file);
    const bool bad = ferror(file) || bytes == RECIPE_BYTES || memchr(text, 0, bytes);
    fclose(file);
    text[bad ? 0 : bytes] = '\0';
    return bad ? complain(EXIT_DATA, v->name, "%s is no recipe: unreadable, not text, or longer than %d bytes", path,
                          RECIPE_BYTES - 1)
               : EXIT_DONE;
}

/* A name with a slash or an ending is a path. */
static int find_file(const verb *v, const char *name, char path[PATH_BYTES])
{
    char folder[PATH_BYTES];
    if (strchr(name, '/') || strstr(name, ".conf")) {
        return snprintf(path, PATH_BYTES, "%s", name) < PATH_BYTES ? EXIT_DONE
                                                                   : complain(EXIT_USAGE, v->name, "the path is too long");
    }
    if (!find_folder(folder)) {
        return no_folder(v);
    }
    if (snprintf(path, PATH_BYTES, "%s/%s.conf", folder, name) >= PATH_BYTES || access(path, R_OK) != 0) {
        return complain(EXIT_USAGE, v->name, "there is no recipe '%s'; detrdistill recipes lists them", name);
    }
    return EXIT_DONE;
}

int read_recipe(const verb *v, const char *name, recipe *r)
{
    char path[PATH_BYTES];
    memset(r, 0, sizeof *r);
    int code = find_file(v, name, path);
    code = code ? code : read_text(v, path, r->text);
    char *at = r->text;
    for (int line = 1; code == EXIT_DONE && *at; line++) {
        char *end = at + strcspn(at, "\n");
        const bool last = !*end;
        *end = '\0';
        code = take_line(r, at, path, line);
        at = end + !last;
    }
    return code;
}

/* ---- A tiny run */

static const char **value_at(recipe *r, const char *key)
{
    for (int i = 0; i < r->keys; i++) {
        if (strcmp(r->key[i], key) == 0) {
            return &r->value[i];
        }
    }
    return NULL;
}

/* Sizes, perhaps several with commas between, divided. */
static void divide(recipe *r, const char *key, double by)
{
    const char **value = value_at(r, key);
    const char *at = value ? *value : "";
    char *to = r->words + r->used, *begin = to, *end = r->words + sizeof r->words;
    while (*at && end - to > 32) {
        char *after;
        const double number = strtod(at, &after);
        if (after == at) {
            break;
        }
        to += snprintf(to, 24, "%.0f%s", number > 0 && number < by ? 1 : number / by, *after == ',' ? "," : "");
        at = after + (*after == ',');
    }
    if (value && to > begin) {
        *value = begin;
        r->used += (size_t)(to - begin) + 1;
    }
}

static void replace(recipe *r, const char *key, const char *value)
{
    const char **old = value_at(r, key);
    if (old) {
        *old = value;
    }
}

/* The same blocks, stages and ratio of queries; a ResNet with a block or two in each stage. */
static bool shrink_model(const char *name, char out[1024])
{
    static const struct {
        const char *name, *words;
    } backbones[] = {{"r18", "depths=1,1,1,1,widths=8,16,24,32"},
                     {"r50", "depths=1,1,1,1,widths=16,24,32,48"},
                     {"r101", "depths=1,1,2,1,widths=16,24,32,48"}};
    const char *backbone = strchr(name, ':'), *at = strstr(name, "queries=");
    const int queries = at ? atoi(at + 8) : 0;
    for (size_t i = 0; backbone && queries > 0 && i < sizeof backbones / sizeof *backbones; i++) {
        const size_t length = strlen(backbones[i].name);
        if (strncmp(backbone + 1, backbones[i].name, length) == 0 && strchr(",", backbone[1 + length])) {
            return snprintf(out, 1024, "%s,queries=%d,width=32,heads=4,ffn=64,stem=8,%s", name, queries < 25 ? 1 : queries / 25,
                            backbones[i].words) < 1024;
        }
    }
    return false;
}

int shrink_recipe(const verb *v, recipe *r)
{
    static const char *const sizes[] = {"sizes", "max-size", "crop-sizes", "crop-max-size", "crop-min", "crop-max", "multiple"};
    const char **student = value_at(r, "student"), *teacher = r->note[NOTE_TEACHER];
    if (!student || !shrink_model(*student, r->student) || (teacher && !shrink_model(teacher, r->teacher))) {
        return complain(EXIT_DATA, v->name,
                        "--scale tiny knows r18, r50 and r101 with queries=N, as student and as teacher of the recipe");
    }
    *student = r->student;
    r->note[NOTE_TEACHER] = teacher ? r->teacher : NULL;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        divide(r, sizes[i], 12.5);
    }
    replace(r, "accumulate", "2");
    r->tiny = 1;
    return EXIT_DONE;
}

void use_recipe(const verb *v, const recipe *r, const char **values, const char *data)
{
    const bool scenes = data && strncmp(data, "scenes", 6) == 0;
    for (int i = 0; i < r->keys; i++) {
        /* Generated scenes have splits of their own. */
        if (scenes && (strcmp(r->key[i], "split") == 0 || strcmp(r->key[i], "val-split") == 0)) {
            continue;
        }
        char name[64];
        snprintf(name, sizeof name, "--%.60s", r->key[i]);
        set_value(v, values, name, r->value[i]);
    }
}

/* ---- The verb */

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int find_names(const verb *v, char name[MOST_FILES][64], int *count)
{
    char folder[PATH_BYTES];
    *count = 0;
    DIR *all = find_folder(folder) ? opendir(folder) : NULL;
    if (!all) {
        return no_folder(v);
    }
    for (const struct dirent *entry; (entry = readdir(all)) != NULL && *count < MOST_FILES;) {
        const size_t length = strlen(entry->d_name);
        if (length > 5 && length < 64 && strcmp(entry->d_name + length - 5, ".conf") == 0) {
            snprintf(name[(*count)++], 64, "%.*s", (int)length - 5, entry->d_name);
        }
    }
    closedir(all);
    qsort(name, (size_t)*count, sizeof *name, by_name);
    return EXIT_DONE;
}

static void print_recipe(const char *name, const recipe *r)
{
    printf("{\"name\": ");
    print_quoted(name);
    for (int i = 0; i < NOTES; i++) {
        if (r->note[i]) {
            printf(", \"%s\": ", recipe_note_names[i]);
            print_quoted(r->note[i]);
        }
    }
    printf(", \"options\": {");
    for (int i = 0; i < r->keys; i++) {
        printf(i ? ", " : "");
        print_quoted(r->key[i]);
        printf(": ");
        print_quoted(r->value[i]);
    }
    printf("}}");
}

int list_recipes(const verb *v, bool json)
{
    static char name[MOST_FILES][64];
    static recipe r;
    int count;
    int code = find_names(v, name, &count);
    printf(json && code == EXIT_DONE ? "[" : "");
    for (int i = 0; i < count && code == EXIT_DONE; i++) {
        code = read_recipe(v, name[i], &r);
        if (code == EXIT_DONE && json) {
            printf(i ? ",\n " : "");
            print_recipe(name[i], &r);
        } else if (code == EXIT_DONE) {
            printf("%-28s %s\n", name[i], r.note[NOTE_ABOUT] ? r.note[NOTE_ABOUT] : "");
        }
    }
    printf(json && code == EXIT_DONE ? "]\n" : "");
    return code;
}

const option recipes_options[] = {
    {"--json", NULL, NULL, "all that the recipes say, as a JSON list"},
    {NULL, NULL, NULL, NULL},
};

int run_recipes(const verb *v, const char *const *values)
{
    static char text[RECIPE_BYTES];
    char path[PATH_BYTES];
    const char *name = operand_of(values, 0);
    if (!name) {
        return list_recipes(v, is_given(v, values, "--json"));
    }
    int code = find_file(v, name, path);
    if (code == EXIT_DONE && is_given(v, values, "--json")) {
        static recipe r;
        code = read_recipe(v, name, &r);
        if (code == EXIT_DONE) {
            print_recipe(name, &r);
            printf("\n");
        }
        return code;
    }
    code = code ? code : read_text(v, path, text);
    if (code == EXIT_DONE) {
        fputs(text, stdout);
    }
    return code;
}
