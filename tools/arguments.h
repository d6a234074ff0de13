/* SPDX-License-Identifier: Apache-2.0
 * Command lines: one table of options for each verb drives parsing, --help, shell completion and the manual page. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <stdbool.h>

/* Exit codes. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

typedef struct option {
    const char *name;     /* "--annotations" */
    const char *argument; /* "FILE"; NULL: a flag */
    const char *initial;  /* NULL: not given */
    const char *help;
} option;

typedef struct verb {
    const char *name, *summary; /* one line */
    const char *text;           /* what it does and an example, for --help and the manual */
    const option *options;      /* ends with a NULL name */
    int (*run)(const struct verb *self, const char *const *values);
    const char *operand; /* "bash|zsh|fish": one word without a name that must be given, the last of `values`; NULL: none */
} verb;

extern const verb verbs[]; /* ends with a NULL name */

/* Reads the words behind the verb and runs it. Returns the exit code. */
int run_verb(const verb *v, int count, char **words);
/* The value of an option, its default, or NULL. A flag that was given is "". */
const char *value_of(const verb *v, const char *const *values, const char *name);

const verb *find_verb(const char *name);
/* The name nearest to `word`, or NULL. */
const char *nearest_verb(const char *word);

/* "detrdistill eval: what": on stderr. Returns `code`. */
int complain(int code, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Tells the library's last error. */
int complain_of_library(const char *name);

void print_help(const verb *v);
void print_overview(void);

int run_completion(const verb *v, const char *const *values);
int run_manual(const verb *v, const char *const *values);
int run_eval(const verb *v, const char *const *values);
extern const option eval_options[], no_options[];

#endif
