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

#define CONTRASTIVE "contrastive=1 contrastive-width=8 "

/* The reference, and the CPU's kernels with two threads. */
extern const char *const step_devices[2];

/* A step gives the same bits with one thread and with two. */
void check_same_bits(const char *student, const char *teacher);
/* From the third step on nothing is allocated. */
void check_steady_steps(const char *student, const char *teacher);
/* After a step: the student's outputs are, to the bit, those of a new model with its words that runs alone, which is returned.
 */
dd_model *check_own_outputs(setup *s, const char *student, const char *const names[], size_t count);

/* For stored outputs: a folder of its own. each_file calls `each` (or removes) for every file; returns how many there were. */
void new_folder(char path[64]);
int each_file(const char *folder, void (*each)(const char *path), bool removes);
void remove_folder(const char *folder);

#endif
