/* SPDX-License-Identifier: Apache-2.0
 * Command lines: one table of options for each verb drives parsing, --help, shell completion and the manual page. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <stdbool.h>

/* Exit codes. */
enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_DATA = 3,
    EXIT_MEMORY = 4,
    EXIT_DEVICE = 5,
    EXIT_INTERRUPTED = 130
};

enum { MOST_OPTIONS = 72, MOST_OPERANDS = 8, MOST_WORDS = 2048 };

/* Which of the library's option strings an option is a word of: "--lr.backbone 0.2" becomes "lr.backbone=0.2". */
typedef enum { OF_PROGRAM, OF_CONTEXT, OF_TRAINER, OF_MODEL, OF_LOADER } option_group;

typedef struct option {
    const char *name;     /* "--annotations" */
    const char *argument; /* "FILE"; NULL: a flag */
    const char *initial;  /* NULL: not given */
    const char *help;
    option_group group;
} option;

typedef struct verb {
    const char *name, *summary; /* one line */
    const char *text;           /* what it does and an example, for --help and the manual */
    const option *options;      /* ends with a NULL name */
    int (*run)(const struct verb *self, const char *const *values);
    const char *operand; /* "bash|zsh|fish": words without a name; NULL: none */
    int least, most;     /* how many of them */
} verb;

extern const verb verbs[]; /* ends with a NULL name */

/* Reads the words behind the verb and runs it. Returns the exit code. */
int run_verb(const verb *v, int count, char **words);
/* The value of an option, its default, or NULL. A flag that was given is "". */
const char *value_of(const verb *v, const char *const *values, const char *name);
bool is_given(const verb *v, const char *const *values, const char *name);
/* Gives an option a value where it has none. */
void set_value(const verb *v, const char **values, const char *name, const char *value);
/* A word without a name, or NULL. */
const char *operand_of(const char *const *values, int index);
/* The options of a group that were given or have a default, as words for the library; behind what `words` holds already. false:
 * they are too long. */
bool put_words(const verb *v, const char *const *values, option_group group, char words[MOST_WORDS]);
/* Fills the empty end of a table with the options of the library's `object` (dd_options_help) that it does not have yet,
 * but for the keys of `without` (" key key "). */
void take_library_options(option table[MOST_OPTIONS + 1], const char *object, option_group group, const char *without);
/* Adds formatted text behind what `words` holds. */
bool add_words(char words[MOST_WORDS], const char *format, ...) __attribute__((format(printf, 2, 3)));

const verb *find_verb(const char *name);
/* The name nearest to `word`, or NULL. */
const char *nearest_verb(const char *word);

/* "detrdistill eval: what": on stderr. Returns `code`. */
int complain(int code, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Tells the library's last error. Returns the exit code for its status. */
int complain_of_library(const char *name);

void print_help(const verb *v);
void print_overview(void);

int run_completion(const verb *v, const char *const *values);
int run_manual(const verb *v, const char *const *values);
int run_eval(const verb *v, const char *const *values);
int run_predict(const verb *v, const char *const *values);
int run_info(const verb *v, const char *const *values);
int run_plot(const verb *v, const char *const *values);
int run_recipes(const verb *v, const char *const *values);
int run_train(const verb *v, const char *const *values);
int run_resume(const verb *v, const char *const *values);
int run_plan(const verb *v, const char *const *values);
int run_convert(const verb *v, const char *const *values);
int run_verify(const verb *v, const char *const *values);
int run_doctor(const verb *v, const char *const *values);
extern const option eval_options[], predict_options[], info_options[], plot_options[], plan_options[], doctor_options[],
    verify_options[], recipes_options[], no_options[];
extern option train_options[MOST_OPTIONS + 1], resume_options[MOST_OPTIONS + 1],
    convert_options[MOST_OPTIONS + 1]; /* the library's are added at the start */

#endif
