/* SPDX-License-Identifier: Apache-2.0
 * Command lines. */
#include "arguments.h"

#include <detrdistill/detrdistill.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MOST_LETTERS = 63 };

int complain(int code, const char *name, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fprintf(stderr, "detrdistill%s%s: ", name ? " " : "", name ? name : "");
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    return code;
}

int complain_of_library(const char *name)
{
    static const struct {
        dd_status status;
        int code;
    } known[] = {{DD_ERR_OPTION, EXIT_USAGE},         {DD_ERR_FORMAT, EXIT_DATA},    {DD_ERR_IO, EXIT_DATA},
                 {DD_ERR_NOT_FOUND, EXIT_DATA},       {DD_ERR_SHAPE, EXIT_DATA},     {DD_ERR_DTYPE, EXIT_DATA},
                 {DD_ERR_NONFINITE, EXIT_DATA},       {DD_ERR_LIMIT, EXIT_DATA},     {DD_ERR_NOMEM, EXIT_MEMORY},
                 {DD_ERR_DEVICE, EXIT_DEVICE},        {DD_ERR_BACKEND, EXIT_DEVICE}, {DD_ERR_UNSUPPORTED, EXIT_DEVICE},
                 {DD_ERR_CANCELLED, EXIT_INTERRUPTED}};
    int code = EXIT_FAILED;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        code = known[i].status == dd_error_status() ? known[i].code : code;
    }
    return complain(code, name, "%s", dd_error_message());
}

/* Changed, added and left out letters between two words. */
static int distance(const char *a, const char *b)
{
    int row[MOST_LETTERS + 1];
    const int length = (int)strnlen(b, MOST_LETTERS);
    for (int j = 0; j <= length; j++) {
        row[j] = j;
    }
    for (int i = 1; *a && i <= MOST_LETTERS; i++, a++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= length; j++) {
            const int changed = corner + (*a != b[j - 1]), least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            corner = row[j];
            row[j] = changed < least ? changed : least;
        }
    }
    return row[length];
}

static void keep_nearer(const char *word, const char *name, int *best, const char **nearest)
{
    const int d = distance(word, name);
    if (d < *best) {
        *best = d;
        *nearest = name;
    }
}

const char *nearest_verb(const char *word)
{
    const char *nearest = NULL;
    int best = 3;
    for (const verb *v = verbs; v->name; v++) {
        keep_nearer(word, v->name, &best, &nearest);
    }
    return nearest;
}

const verb *find_verb(const char *name)
{
    for (const verb *v = verbs; v->name; v++) {
        if (strcmp(v->name, name) == 0) {
            return v;
        }
    }
    return NULL;
}

static int find_option(const verb *v, const char *name, size_t length)
{
    for (int i = 0; v->options[i].name; i++) {
        if (strlen(v->options[i].name) == length && strncmp(v->options[i].name, name, length) == 0) {
            return i;
        }
    }
    return -1;
}

const char *value_of(const verb *v, const char *const *values, const char *name)
{
    const int i = find_option(v, name, strlen(name));
    return i < 0 ? NULL : values[i] ? values[i] : v->options[i].initial;
}

bool is_given(const verb *v, const char *const *values, const char *name)
{
    const int i = find_option(v, name, strlen(name));
    return i >= 0 && values[i];
}

void set_value(const verb *v, const char **values, const char *name, const char *value)
{
    const int i = find_option(v, name, strlen(name));
    values[i] = values[i] ? values[i] : value;
}

const char *operand_of(const char *const *values, int index)
{
    return values[MOST_OPTIONS + index];
}

bool add_words(char words[MOST_WORDS], const char *format, ...)
{
    const size_t used = strlen(words);
    va_list list;
    va_start(list, format);
    const int length = vsnprintf(words + used, MOST_WORDS - used, format, list);
    va_end(list);
    return length >= 0 && (size_t)length < MOST_WORDS - used;
}

bool put_words(const verb *v, const char *const *values, option_group group, char words[MOST_WORDS])
{
    bool fits = true;
    for (int i = 0; v->options[i].name; i++) {
        const option *o = &v->options[i];
        const char *value = values[i] ? values[i] : o->initial;
        value = group == OF_TRAINER || group == OF_MODEL ? values[i] : value; /* the library has its defaults itself */
        if (o->group == group && value) {
            fits = fits && add_words(words, " %s=%s", o->name + 2, o->argument ? value : "1");
        }
    }
    return fits;
}

static int unknown_option(const verb *v, const char *word)
{
    const char *nearest = NULL;
    int best = 4;
    for (const option *o = v->options; o->name; o++) {
        keep_nearer(word, o->name, &best, &nearest);
    }
    if (nearest) {
        return complain(EXIT_USAGE, v->name, "unknown option '%s'; did you mean %s?", word, nearest);
    }
    return complain(EXIT_USAGE, v->name, "unknown option '%s'; see detrdistill %s --help", word, v->name);
}

/* One option at words[*at]; leaves *at on its last word. */
static int read_option(const verb *v, int count, char **words, int *at, const char **values)
{
    const char *word = words[*at], *equals = strchr(word, '=');
    const int i = find_option(v, word, equals ? (size_t)(equals - word) : strlen(word));
    if (i < 0) {
        return unknown_option(v, word);
    }
    const option *o = &v->options[i];
    if (values[i]) {
        return complain(EXIT_USAGE, v->name, "%s is given twice", o->name);
    }
    if (!o->argument) {
        values[i] = "";
        return equals ? complain(EXIT_USAGE, v->name, "%s takes no value", o->name) : EXIT_DONE;
    }
    if (!equals && *at + 1 == count) {
        return complain(EXIT_USAGE, v->name, "%s needs a value: %s %s", o->name, o->name, o->argument);
    }
    values[i] = equals ? equals + 1 : words[++*at];
    return EXIT_DONE;
}

int run_verb(const verb *v, int count, char **words)
{
    const char *values[MOST_OPTIONS + MOST_OPERANDS + 1] = {NULL};
    int operands = 0;
    for (int at = 0; at < count; at++) {
        if (strcmp(words[at], "--help") == 0 || strcmp(words[at], "-h") == 0) {
            print_help(v);
            return EXIT_DONE;
        }
        if (words[at][0] == '-') {
            const int code = read_option(v, count, words, &at, values);
            if (code != EXIT_DONE) {
                return code;
            }
        } else if (operands < v->most) {
            values[MOST_OPTIONS + operands++] = words[at];
        } else {
            return complain(EXIT_USAGE, v->name, "'%s' is no option; see detrdistill %s --help", words[at], v->name);
        }
    }
    if (operands < v->least) {
        return complain(EXIT_USAGE, v->name, "%s is missing; see detrdistill %s --help", v->operand, v->name);
    }
    return v->run(v, values);
}

/* A copy of `length` characters with `before` in front, for as long as the program runs. NULL: no room. */
static const char *keep(const char *before, const char *text, size_t length)
{
    static char room[1 << 15];
    static size_t used;
    const int bytes = snprintf(room + used, sizeof room - used, "%s%.*s", before, (int)length, text);
    if (bytes < 0 || (size_t)bytes >= sizeof room - used) {
        return NULL;
    }
    const char *kept = room + used;
    used += (size_t)bytes + 1;
    return kept;
}

/* A line is "key=range  [default]  help". */
void take_library_options(option table[MOST_OPTIONS + 1], const char *object, option_group group, const char *without)
{
    const char *line;
    int count = 0;
    while (table[count].name) {
        count++;
    }
    const int own = count;
    if (dd_options_help(object, &line) != DD_OK) {
        return;
    }
    for (; *line && count < MOST_OPTIONS; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *equals = strchr(line, '='), *open = strstr(line, "  ["), *shut = open ? strstr(open, "]  ") : NULL;
        if (!equals || !shut || equals > open) {
            continue;
        }
        const option o = {keep("--", line, (size_t)(equals - line)), keep("", equals + 1, (size_t)(open - equals - 1)),
                          keep("", open + 3, (size_t)(shut - open - 3)), keep("", shut + 3, strcspn(shut + 3, "\n")), group};
        bool known = !o.name || !o.argument || !o.initial || !o.help;
        char key[64];
        snprintf(key, sizeof key, " %.*s ", (int)(equals - line), line);
        known = known || strstr(without, key);
        for (int i = 0; i < own && !known; i++) {
            known = strcmp(table[i].name, o.name) == 0;
        }
        if (!known) {
            table[count++] = o;
        }
    }
}

void print_help(const verb *v)
{
    printf("usage: detrdistill %s%s%s%s\n\n%s\n", v->name, v->options[0].name ? " [OPTIONS]" : "", v->operand ? " " : "",
           v->operand ? v->operand : "", v->text);
    for (const option *o = v->options; o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", o->name, o->argument ? o->argument : "");
        printf("%s  %-24s %s", o == v->options ? "\n" : "", left, o->help);
        printf(o->initial ? " (%s)\n" : "\n", o->initial);
    }
}

void print_overview(void)
{
    printf("usage: detrdistill VERB [OPTIONS]\n\nKnowledge distillation for DETR-family detectors.\n\n");
    for (const verb *v = verbs; v->name; v++) {
        printf("  %-12s %s\n", v->name, v->summary);
    }
    printf("\nExit status: 0 done, 1 failed, 2 wrong use, 3 data, 4 memory, 5 device, 130 interrupted.\n'detrdistill VERB "
           "--help' has the options and an example.\n");
}
