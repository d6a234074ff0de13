/* SPDX-License-Identifier: Apache-2.0
 * Recipes: files that name a published run in the options of `train`. */
#ifndef RECIPE_H
#define RECIPE_H

#include "arguments.h"

#include <stddef.h>

enum { RECIPE_BYTES = 16384, MOST_RECIPE_KEYS = 64 };

/* What a recipe says beside options, each at most once. */
typedef enum recipe_note {
    NOTE_ABOUT,
    NOTE_LAYOUT,
    NOTE_TEACHER,
    NOTE_TEACHER_RECIPE,
    NOTE_PUBLISHED,
    NOTE_UNCERTAIN,
    NOTES
} recipe_note;
extern const char *const recipe_note_names[NOTES];

typedef struct recipe {
    char text[RECIPE_BYTES];                                     /* the file, cut into words */
    char words[RECIPE_BYTES];                                    /* values that --scale changed */
    size_t used;                                                 /* of them */
    const char *note[NOTES];                                     /* NULL: not said */
    const char *key[MOST_RECIPE_KEYS], *value[MOST_RECIPE_KEYS]; /* options, without "--" */
    int keys;
    char student[1024], teacher[1024]; /* of a tiny run */
    int tiny;
} recipe;

/* Reads a recipe by its path or name. Returns EXIT_DONE or the exit code of a complaint that was made. */
int read_recipe(const verb *v, const char *name, recipe *r);
/* Makes it small enough for a test: the same stages and ratios, widths of a few channels. */
int shrink_recipe(const verb *v, recipe *r);
/* Fills in the options that were not given. `data`: where the pictures are, or NULL. */
void use_recipe(const verb *v, const recipe *r, const char **values, const char *data);
/* Writes names and first lines of all recipes. */
int list_recipes(const verb *v, bool json);

#endif
