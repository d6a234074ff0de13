/* SPDX-License-Identifier: Apache-2.0
 * A distiller with tiny models attached: its steps, and differences of them. */
#ifndef TESTS_DISTILLER_ATTACHED_H
#define TESTS_DISTILLER_ATTACHED_H

#include "models.h"

typedef struct setup {
    dd_context *context;
    dd_model *student, *teacher;
    dd_distiller *distiller;
    pictures batch;
} setup;

/* teacher NULL: none. */
void set_up(setup *s, const char *context, const char *student, const char *teacher, const char *options);
void tear_down(setup *s);

double term(const setup *s, const char *name);
bool has_term(const setup *s, const char *name);
uint64_t hash_matchings(dd_distiller *d);
/* Gradients of one step, put aside. */
dd_tensor copy_of(const dd_tensor *view);
/* Of a step's terms, and of its gradients alone. */
uint64_t hash_step(setup *s);

/* Gradients of a step against central differences (f64, reference): of all parameters, or of those whose names hold one of two
 * words. */
void check_differences(const char *student, const char *teacher, const char *options, const char *const words[2]);

/* For stored outputs: a folder of its own. each_file calls `each` (or removes) for every file; returns how many there were. */
void new_folder(char path[64]);
int each_file(const char *folder, void (*each)(const char *path), bool removes);
void remove_folder(const char *folder);

#endif
