/* SPDX-License-Identifier: Apache-2.0
 * Option tables. */
#include "base/options.h"
#include "base/error.h"
#include "base/limits.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 64 };

/* Levenshtein distance of two short names. */
static int32_t distance(const char *a, const char *b)
{
    int32_t row[NAME_BYTES + 1];
    int32_t n = (int32_t)strnlen(a, NAME_BYTES), m = (int32_t)strnlen(b, NAME_BYTES);
    for (int32_t j = 0; j <= m; j++)
        row[j] = j;
    for (int32_t i = 1; i <= n; i++) {
        int32_t diagonal = row[0];
        row[0] = i;
        for (int32_t j = 1; j <= m; j++) {
            int32_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

const char *ddi_nearest(const char *name, const char *(*at)(const void *names, int32_t i), const void *names, int32_t count)
{
    const char *nearest = NULL;
    int32_t best = 2 + (int32_t)strnlen(name, NAME_BYTES) / 4; /* farther than this is no help */
    for (int32_t i = 0; i < count; i++) {
        int32_t d = distance(name, at(names, i));
        if (d < best) {
            best = d;
            nearest = at(names, i);
        }
    }
    return nearest;
}

static const char *key_at(const void *names, int32_t i)
{
    return ((const ddi_option_table *)names)->option[i].key;
}

/* Position of `value` in "a|b|c", or -1. */
static int32_t choice_index(const char *choices, const char *value)
{
    size_t n = strlen(value);
    int32_t i = 0;
    for (const char *c = choices; c; i++) {
        const char *end = strchr(c, '|');
        size_t m = end ? (size_t)(end - c) : strlen(c);
        if (m == n && memcmp(c, value, n) == 0)
            return i;
        c = end ? end + 1 : NULL;
    }
    return -1;
}

/* strtod with a dot, whatever the host's locale. */
static int32_t parse_real(const char *text, double *value)
{
    double sign = 1, mantissa = 0, scale = 1;
    const char *p = text;
    int32_t digits = 0;
    if (*p == '-' || *p == '+')
        sign = *p++ == '-' ? -1 : 1;
    for (; isdigit((unsigned char)*p); p++, digits++)
        mantissa = mantissa * 10 + (*p - '0');
    if (*p == '.')
        for (p++; isdigit((unsigned char)*p); p++, digits++, scale *= 10)
            mantissa = mantissa * 10 + (*p - '0');
    if (digits == 0 || digits > 300)
        return 0;
    long exponent = 0;
    if (*p == 'e' || *p == 'E') {
        char *end;
        exponent = strtol(p + 1, &end, 10);
        if (end == p + 1 || exponent > 300 || exponent < -300)
            return 0;
        p = end;
    }
    *value = sign * mantissa / scale * pow(10, (double)exponent);
    return *p == '\0' && isfinite(*value);
}

static dd_status store_number(const ddi_option_table *table, const ddi_option *o, const char *value, void *field)
{
    double number;
    int64_t whole = 0;
    if (o->type == DDI_INT) {
        char *end;
        errno = 0;
        whole = strtoll(value, &end, 10);
        number = (double)whole;
        if (end == value || *end || errno)
            return ddi_fail(DD_ERR_OPTION, o->key, "%s option %s=%s: needs a whole number", table->object, o->key, value);
    } else if (!parse_real(value, &number)) {
        return ddi_fail(DD_ERR_OPTION, o->key, "%s option %s=%s: needs a number", table->object, o->key, value);
    }
    if (number < o->low || number > o->high)
        return ddi_fail(DD_ERR_OPTION, o->key, "%s option %s=%s: must lie in %.15g to %.15g", table->object, o->key, value,
                        o->low, o->high);
    if (o->type == DDI_INT)
        memcpy(field, &whole, sizeof whole);
    else
        memcpy(field, &number, sizeof number);
    return DD_OK;
}

static dd_status store(const ddi_option_table *table, const ddi_option *o, const char *value, void *settings)
{
    char *field = (char *)settings + o->offset;
    switch (o->type) {
    case DDI_INT:
    case DDI_REAL:
        return store_number(table, o, value, field);
    case DDI_CHOICE: {
        int32_t index = choice_index(o->choices, value);
        if (index < 0)
            return ddi_fail(DD_ERR_OPTION, o->key, "%s option %s=%s: must be one of %s", table->object, o->key, value,
                            o->choices);
        memcpy(field, &index, sizeof index);
        return DD_OK;
    }
    case DDI_TEXT:
        if (strlen(value) >= DDI_OPTION_TEXT)
            return ddi_fail(DD_ERR_LIMIT, o->key, "%s option %s: longer than %d bytes", table->object, o->key,
                            DDI_OPTION_TEXT - 1);
        memcpy(field, value, strlen(value) + 1);
        return DD_OK;
    }
    return ddi_fail(DD_ERR_INTERNAL, o->key, "option %s has no type", o->key);
}

void ddi_options_init(const ddi_option_table *table, void *settings)
{
    for (int32_t i = 0; i < table->count; i++)
        store(table, &table->option[i], table->option[i].initial, settings);
}

static dd_status parse_word(const ddi_option_table *table, char *word, void *settings,
                            void (*after)(void *settings, const ddi_option *option))
{
    char *equals = strchr(word, '=');
    if (!equals)
        return ddi_fail(DD_ERR_OPTION, word, "%s option '%.60s': write it as key=value", table->object, word);
    *equals = '\0';
    for (int32_t i = 0; i < table->count; i++) {
        const ddi_option *o = &table->option[i];
        if (strcmp(o->key, word) == 0) {
            DDI_TRY(store(table, o, equals + 1, settings));
            if (after)
                after(settings, o);
            return DD_OK;
        }
    }
    const char *nearest = ddi_nearest(word, key_at, table, table->count);
    if (nearest)
        return ddi_fail(DD_ERR_OPTION, word, "unknown %s option '%.60s'; did you mean '%s'?", table->object, word, nearest);
    return ddi_fail(DD_ERR_OPTION, word, "unknown %s option '%.60s'; dd_options_help(\"%s\") lists them", table->object, word,
                    table->object);
}

dd_status ddi_options_parse(const ddi_option_table *table, const char *text, void *settings,
                            void (*after)(void *settings, const ddi_option *option))
{
    if (!text)
        return DD_OK;
    if (strnlen(text, DDI_MAX_OPTIONS_BYTES + 1) > DDI_MAX_OPTIONS_BYTES)
        return ddi_fail(DD_ERR_LIMIT, NULL, "%s options are longer than %d bytes", table->object, DDI_MAX_OPTIONS_BYTES);
    char *copy = ddi_strdup(NULL, text);
    if (!copy)
        return ddi_fail_nomem(strlen(text) + 1, "an option string");
    dd_status status = DD_OK;
    char *rest = NULL;
    for (char *word = strtok_r(copy, " \t\r\n", &rest); word && status == DD_OK; word = strtok_r(NULL, " \t\r\n", &rest))
        status = parse_word(table, word, settings, after);
    ddi_free(NULL, copy);
    return status;
}

void ddi_options_help(const ddi_option_table *table, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < table->count && used < size; i++) {
        const ddi_option *o = &table->option[i];
        char values[256];
        if (o->type == DDI_CHOICE)
            snprintf(values, sizeof values, "%s", o->choices);
        else if (o->type == DDI_TEXT)
            snprintf(values, sizeof values, "TEXT");
        else
            snprintf(values, sizeof values, "%.10g..%.10g", o->low, o->high);
        int n = snprintf(text + used, size - used, "%s=%s  [%s]  %s\n", o->key, values, o->initial, o->help);
        used += n > 0 ? (size_t)n : 0;
    }
}
