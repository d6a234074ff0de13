/* SPDX-License-Identifier: Apache-2.0
 * Option tables: one table per object drives parsing, error sentences and the help text. */
#ifndef DDI_BASE_OPTIONS_H
#define DDI_BASE_OPTIONS_H

#include "base/alloc.h"
#include <detrdistill/status.h>
#include <stddef.h>

typedef enum { DDI_INT, DDI_REAL, DDI_CHOICE, DDI_TEXT } ddi_option_type;

/* One key. `offset` is where its value lies in the object's settings struct: int64_t (INT), double (REAL), int32_t (CHOICE:
 * position in `choices`), char[DDI_OPTION_TEXT] (TEXT). */
typedef struct ddi_option {
    const char *key;
    ddi_option_type type;
    size_t offset;
    double low, high;    /* range, inclusive */
    const char *initial; /* default, as text */
    const char *choices; /* "a|b|c" */
    const char *help;    /* one line */
} ddi_option;

enum { DDI_OPTION_TEXT = 4096 };

typedef struct ddi_option_table {
    const char *object; /* "context" */
    const ddi_option *option;
    int32_t count;
} ddi_option_table;

/* Fills `settings` with the defaults. */
void ddi_options_init(const ddi_option_table *table, void *settings);

/* Reads "key=value" words into `settings`; words of unknown keys are an error with the nearest known key. `text` may be NULL.
 * `seen` (or NULL) is called before a value is stored, in order, so that a profile can set several values. */
dd_status ddi_options_parse(const ddi_option_table *table, const char *text, void *settings,
                            void (*after)(void *settings, const ddi_option *option));

/* The known name that is nearest to `name`, or NULL if none is near. */
const char *ddi_nearest(const char *name, const char *(*at)(const void *names, int32_t i), const void *names, int32_t count);

/* The table as text, a line per key; cut to `size`. */
void ddi_options_help(const ddi_option_table *table, char *text, size_t size);

#endif
