/* SPDX-License-Identifier: Apache-2.0
 * One golden case: named arrays and options of a file, and those that a recipe makes. */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <detrdistill/detrdistill.h>

typedef struct array {
    char name[64];
    int kind; /* 0 reals, 1 int32, 2 bytes */
    int dims;
    int64_t shape[8], n;
    double *f;
    int32_t *i;
    uint8_t *u;
    int compared;
} array;

enum { MAX_ARRAYS = 256 };

typedef struct golden_case {
    const char *path;
    dd_tensorfile *file;
    array arrays[MAX_ARRAYS];
    int count;
} golden_case;

/* NULL where the file has no such option or array. */
const char *golden_option(const golden_case *c, const char *key);
array *golden_array(golden_case *c, const char *name);
array *golden_add(golden_case *c, const char *name, int kind, int dims, const int64_t *shape);

uint64_t golden_hash(uint64_t i, uint64_t seed, uint64_t stream);
void golden_make_recipe(golden_case *c);

#endif
