/* SPDX-License-Identifier: Apache-2.0
 * Compares a backend's kernels with the reference in double. A case is one operator on one shape: its argument struct and a
 * list of the arrays in it, from which argument structs in float and in double are built. */
#ifndef DDCHECK_H
#define DDCHECK_H

#include <detrdistill/sys/backend.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CASE_ARRAYS = 20, CASE_ARGS = 512 };

/* Unit roundoff of float. */
#define EPS 0x1p-24

typedef enum array_kind { REALS, BYTES, DOUBLES } array_kind;
typedef enum array_use { INPUT, OUTPUT, UPDATED } array_use;

typedef struct array {
    const char *name;
    size_t offset; /* of the pointer in the argument struct */
    array_kind kind;
    array_use use;
    size_t element;                   /* BYTES: size */
    int64_t count, shift;             /* shift: elements from the array's start to where the pointer points */
    void *values;                     /* REALS: floats; the input, or what an output holds before the call; NULL: garbage */
    double *scale;                    /* REALS, DOUBLES: what `by_scale` multiplies, made by the case; NULL: none */
    double by_value, by_scale, floor; /* allowed: by_value |expected| + by_scale scale + floor; all 0: equal bits */
} array;

typedef struct test_case {
    int32_t op;
    bool exact; /* truth is the reference in float, bit for bit */
    bool costs; /* cost arrays: an entry may be flagged as not finite where its scale leaves the range of float */
    char text[200];
    int32_t arrays;
    array array[CASE_ARRAYS];
    _Alignas(16) unsigned char args[CASE_ARGS];
} test_case;

/* A small generator of its own; the same cases everywhere. */
typedef struct random_state {
    uint64_t s;
} random_state;

uint64_t random_bits(random_state *r);
int64_t random_below(random_state *r, int64_t n);
double random_unit(random_state *r);

/* Makes case number `i` of an operator. False: the operator has no generator. */
bool case_make(int32_t op, int64_t i, test_case *c);
void case_free(test_case *c);

/* Results of one run, array by array (NULL for inputs). */
typedef struct results {
    int32_t dtype; /* of REALS */
    void *array[CASE_ARRAYS];
} results;

typedef enum placing { ALIGNED, UNALIGNED } placing;

/* Runs a kernel on a case. NULL, or what went wrong: a status, a written guard, a changed input. */
const char *run_kernel(dd_kernel_fn kernel, const test_case *c, int32_t dtype, void *device, int32_t threads, placing place,
                       results *out);
void results_free(const test_case *c, results *out);
bool results_equal(const test_case *c, const results *a, const results *b, const char **which);

/* Compares with the truth; doubles are allowed as many of their own rounding errors. NULL, or a sentence (static memory).
 * `worst` gets the largest error / allowed so far. */
const char *compare_results(const test_case *c, const results *got, const results *truth, double *worst);

/* The truth: reference in double, or in float for exact cases. */
const char *run_truth(const test_case *c, results *out);
const dd_kernel *reference_kernel(int32_t op, int32_t dtype);

#endif
