/* SPDX-License-Identifier: Apache-2.0
 * A sample of each kind of file, and what reads it. */
#ifndef TESTS_FAULT_READERS_H
#define TESTS_FAULT_READERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <detrdistill/detrdistill.h>

/* Fixtures of a group of tests: the samples in a new folder. */
int make_samples(void **state);
int remove_samples(void **state);

/* One of the last four paths asked for. */
const char *sample_path(const char *name);

typedef struct sample {
    const char *file;                                 /* below the folder */
    dd_status (*read)(const char *path, double *sum); /* *sum gets a number for all that was read */
    int json;                                         /* json-c reads it */
} sample;

extern const sample samples[];
extern const int sample_count;

#endif
