/* SPDX-License-Identifier: Apache-2.0
 * Reads JSON from memory piece by piece, as the caller expects it: no tree is built, nothing is allocated, and a reader of a
 * fixed grammar cannot be made to recurse. Strings are decoded in place, so the memory must be the reader's own. */
#ifndef DDI_FORMATS_JSON_READER_H
#define DDI_FORMATS_JSON_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ddi_json {
    char *begin, *at, *end;
    const char *problem; /* what is wrong at `at`, NULL: nothing so far */
} ddi_json;

void ddi_json_start(ddi_json *json, char *text, size_t size);

/* Notes the first problem; always false, so that a reader can return it. */
bool ddi_json_problem(ddi_json *json, const char *problem);

/* Whether the next character after white space is `c`; it is then taken. */
bool ddi_json_take(ddi_json *json, char c);
/* The same where nothing else is right. `problem` says so. */
bool ddi_json_expect(ddi_json *json, char c, const char *problem);

/* A string without NUL inside, NUL-terminated in place; valid UTF-8. */
bool ddi_json_string(ddi_json *json, char **text, size_t *bytes);
/* An integer 0 .. 2^63-1 in plain digits. */
bool ddi_json_natural(ddi_json *json, int64_t *value);
/* Nothing but white space is left. */
bool ddi_json_finish(ddi_json *json);

/* Bytes of the UTF-8 character at `text` (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF), or 0. */
int ddi_utf8_length(const char *text, const char *end);

/* Walks through "{...}" or "[...]" of which the opening bracket was taken: false at its end or at a problem.
 *     for (bool first = true; ddi_json_next(json, '}', &first);) .. */
bool ddi_json_next(ddi_json *json, char closing, bool *first);

#endif
