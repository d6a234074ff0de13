/* SPDX-License-Identifier: Apache-2.0
 * Walks through a large JSON text item by item: brackets are followed here, and one item at a time becomes a json-c object. An
 * 80 MB annotation file needs the memory of its largest item instead of 1140 MB. */
#ifndef DDI_FORMATS_JSON_ITEMS_H
#define DDI_FORMATS_JSON_ITEMS_H

#include <detrdistill/status.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct ddi_json_items {
    const char *begin, *at, *end;
    struct json_tokener *tokener;
    dd_status status;
    const char *file; /* for error sentences */
} ddi_json_items;

/* The text must outlive the walk. Errors: NOMEM. */
dd_status ddi_json_items_open(ddi_json_items *items, const char *file, const void *text, size_t size);
void ddi_json_items_close(ddi_json_items *items);

/* Whether the next character is `bracket`; it is then taken. */
bool ddi_json_items_enter(ddi_json_items *items, char bracket);
/* The next key of the object that was entered, copied into `key` (cut to `size`); false at its end or at a problem. */
bool ddi_json_items_key(ddi_json_items *items, bool *first, char *key, size_t size);
/* Whether the array that was entered has another item; false at its end or at a problem. */
bool ddi_json_items_more(ddi_json_items *items, bool *first);
/* Passes over the next value. */
void ddi_json_items_skip(ddi_json_items *items);
/* The next value, to be given back with json_object_put; NULL at a problem. */
struct json_object *ddi_json_items_take(ddi_json_items *items);
/* Nothing but white space is left. Returns the first problem of the walk. */
dd_status ddi_json_items_finish(ddi_json_items *items);

/* Notes a problem at this place: the first one counts. Always false. */
bool ddi_json_items_problem(ddi_json_items *items, const char *what);

/* Fields of an object; false where it is missing or of another type. Numbers are finite. */
bool ddi_json_number(struct json_object *object, const char *key, double *value);
bool ddi_json_integer(struct json_object *object, const char *key, int64_t *value);
/* An array of `count` finite numbers. */
bool ddi_json_numbers(struct json_object *object, const char *key, int32_t count, double *values);
/* Borrowed from the object; without NUL inside. */
bool ddi_json_text(struct json_object *object, const char *key, const char **text);

#endif
