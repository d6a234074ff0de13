/* SPDX-License-Identifier: Apache-2.0
 * What the generators of cases share. */
#ifndef CASES_H
#define CASES_H

#include "ddcheck.h"

#define REAL_IN(type, field, count) add(c, #field, offsetof(type, field), REALS, INPUT, 0, count)
#define REAL_OUT(type, field, count) add(c, #field, offsetof(type, field), REALS, OUTPUT, 0, count)
#define BYTES_IN(type, field, element, count) add(c, #field, offsetof(type, field), BYTES, INPUT, element, count)

/* Kinds of values. */
enum { ORDINARY, STEEP, HUGE_VALUES, DENORMAL, TIES, PROFILES };

double uniform(random_state *r, double low, double high);
void *take(size_t bytes);
array *add(test_case *c, const char *name, size_t offset, array_kind kind, array_use use, size_t element, int64_t count);
array *allow(array *a, double by_value, double by_scale);
int profile_of(int64_t i);
float value_of(random_state *r, int profile);
void fill_values(array *a, random_state *r, int profile);
void fill_uniform(array *a, random_state *r, double low, double high);
void fill_boxes(array *a, random_state *r, int profile);
void fill_sizes(array *a, random_state *r);
int64_t some(random_state *r, int64_t highest);
float absolute(const array *a, int64_t k);
void add_gradient(test_case *c, const char *name, size_t offset, int64_t count, bool accumulate, random_state *r, double scale,
                  double by_scale);

#endif
