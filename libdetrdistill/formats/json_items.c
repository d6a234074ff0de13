/* SPDX-License-Identifier: Apache-2.0
 * A large JSON text, item by item. */
#include "formats/json_items.h"
#include "base/alloc.h"
#include "base/error.h"

#include <math.h>
#include <string.h>

enum { DEEPEST = 32, LARGEST_ITEM = 256 << 20 };

dd_status ddi_json_items_open(ddi_json_items *j, const char *file, const void *text, size_t size)
{
    *j = (ddi_json_items){.begin = text, .at = text, .end = (const char *)text + size, .file = file};
    j->tokener = ddi_fault() ? NULL : json_tokener_new_ex(DEEPEST);
    return j->tokener ? DD_OK : ddi_fail_nomem(sizeof(void *), "a JSON reader");
}

void ddi_json_items_close(ddi_json_items *j)
{
    if (j->tokener) {
        json_tokener_free(j->tokener);
        j->tokener = NULL;
    }
}

bool ddi_json_items_problem(ddi_json_items *j, const char *what)
{
    if (j->status == DD_OK) {
        int64_t line = 1;
        for (const char *c = j->begin; c < j->at; c++) {
            line += *c == '\n';
        }
        j->status = ddi_fail(DD_ERR_FORMAT, j->file, "%s: byte %lld (line %lld): %s", j->file, (long long)(j->at - j->begin),
                             (long long)line, what);
    }
    return false;
}

static char next_character(ddi_json_items *j)
{
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r')) {
        j->at++;
    }
    return j->at < j->end ? *j->at : '\0';
}

bool ddi_json_items_enter(ddi_json_items *j, char bracket)
{
    if (j->status != DD_OK || next_character(j) != bracket || j->at == j->end) {
        return false;
    }
    j->at++;
    return true;
}

/* At a quotation mark: past the closing one. */
static bool skip_string(ddi_json_items *j)
{
    for (j->at++; j->at < j->end; j->at++) {
        if (*j->at == '\\') {
            j->at++;
        } else if (*j->at == '"') {
            j->at++;
            return true;
        }
    }
    j->at = j->end;
    return ddi_json_items_problem(j, "a string has no end");
}

void ddi_json_items_skip(ddi_json_items *j)
{
    int64_t depth = 0;
    const char *start = j->at;
    while (j->status == DD_OK) {
        const char c = next_character(j);
        if (j->at == j->end) {
            ddi_json_items_problem(j, "the file ends inside a value");
        } else if (c == '"') {
            skip_string(j);
        } else if (c == '{' || c == '[') {
            depth++;
            j->at++;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
            j->at++;
        } else if (depth > 0 && (c == ',' || c == ':')) {
            j->at++;
            continue;
        } else {
            start = j->at;
            while (j->at < j->end && !strchr(",:]}[{\" \t\r\n", *j->at)) {
                j->at++;
            }
            if (j->at == start) {
                ddi_json_items_problem(j, "a value is missing");
            }
        }
        if (depth == 0) {
            return;
        }
    }
}

struct json_object *ddi_json_items_take(ddi_json_items *j)
{
    next_character(j);
    const char *start = j->at;
    ddi_json_items_skip(j);
    if (j->status != DD_OK) {
        return NULL;
    }
    const char *end = j->at;
    if (end - start > LARGEST_ITEM) {
        ddi_json_items_problem(j, "a single item has more than 256 MiB");
        return NULL;
    }
    /* The character behind the value tells the tokener that a number has ended. */
    json_tokener_reset(j->tokener);
    struct json_object *object =
        ddi_fault() ? NULL : json_tokener_parse_ex(j->tokener, start, (int)(end - start) + (end < j->end));
    const enum json_tokener_error error = json_tokener_get_error(j->tokener);
    /* A space behind the value may be taken, too. */
    const size_t parsed = json_tokener_get_parse_end(j->tokener), size = (size_t)(end - start);
    const bool whole = parsed == size || (parsed == size + 1 && end < j->end && strchr(" \t\r\n", *end));
    if (!object || error != json_tokener_success || !whole) {
        json_object_put(object);
        j->at = start;
        ddi_json_items_problem(j, error != json_tokener_success && error != json_tokener_continue
                                      ? json_tokener_error_desc(error)
                                      : "this is not a JSON object");
        return NULL;
    }
    return object;
}

/* After `first`, a comma stands between; at `closing` the walk through this level ends. */
static bool step(ddi_json_items *j, bool *first, char closing)
{
    if (j->status != DD_OK) {
        return false;
    }
    const char c = next_character(j);
    if (j->at < j->end && c == closing) {
        j->at++;
        return false;
    }
    if (!*first) {
        if (c != ',') {
            return ddi_json_items_problem(j, "a comma or a closing bracket is missing");
        }
        j->at++;
    }
    *first = false;
    next_character(j);
    return j->at < j->end || ddi_json_items_problem(j, "the file ends too early");
}

bool ddi_json_items_more(ddi_json_items *j, bool *first)
{
    return step(j, first, ']');
}

bool ddi_json_items_key(ddi_json_items *j, bool *first, char *key, size_t size)
{
    if (!step(j, first, '}')) {
        return false;
    }
    if (*j->at != '"') {
        return ddi_json_items_problem(j, "a key in quotation marks is missing");
    }
    const char *start = j->at + 1;
    if (!skip_string(j)) {
        return false;
    }
    const size_t length = (size_t)(j->at - 1 - start), kept = length < size - 1 ? length : size - 1;
    memcpy(key, start, kept);
    key[kept] = '\0';
    if (next_character(j) != ':') {
        return ddi_json_items_problem(j, "a colon is missing");
    }
    j->at++;
    return true;
}

dd_status ddi_json_items_finish(ddi_json_items *j)
{
    next_character(j);
    if (j->at < j->end) {
        ddi_json_items_problem(j, "there is something behind the end");
    }
    return j->status;
}

static struct json_object *field(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    return json_object_is_type(object, json_type_object) && json_object_object_get_ex(object, key, &value) ? value : NULL;
}

static bool number_of(struct json_object *value, double *number)
{
    if (!json_object_is_type(value, json_type_double) && !json_object_is_type(value, json_type_int)) {
        return false;
    }
    *number = json_object_get_double(value);
    return isfinite(*number);
}

bool ddi_json_number(struct json_object *object, const char *key, double *value)
{
    return number_of(field(object, key), value);
}

bool ddi_json_integer(struct json_object *object, const char *key, int64_t *value)
{
    double number;
    struct json_object *found = field(object, key);
    if (!number_of(found, &number) || fabs(number) > 0x1p62) {
        return false;
    }
    *value = json_object_is_type(found, json_type_int) ? json_object_get_int64(found) : (int64_t)number;
    return json_object_is_type(found, json_type_int) || (double)*value == number;
}

bool ddi_json_numbers(struct json_object *object, const char *key, int32_t count, double *values)
{
    struct json_object *array = field(object, key);
    if (!json_object_is_type(array, json_type_array) || json_object_array_length(array) != (size_t)count) {
        return false;
    }
    for (int32_t i = 0; i < count; i++) {
        if (!number_of(json_object_array_get_idx(array, (size_t)i), &values[i])) {
            return false;
        }
    }
    return true;
}

bool ddi_json_text(struct json_object *object, const char *key, const char **text)
{
    struct json_object *value = field(object, key);
    if (!json_object_is_type(value, json_type_string)) {
        return false;
    }
    *text = json_object_get_string(value);
    return strlen(*text) == (size_t)json_object_get_string_len(value);
}
