/* SPDX-License-Identifier: Apache-2.0
 * For tests that call the reference kernels directly: running an operator, guarded memory, random numbers. */
#ifndef TEST_REFERENCE_H
#define TEST_REFERENCE_H

#include <detrdistill/sys/backend.h>

/* Runs the reference kernel of an operator (DD_OPERATOR_*) on one real type (DD_F32, DD_F64). */
dd_status run_op(int32_t op, int32_t dtype, const void *args);

/* The next runs get this many pieces of scratch memory, then NULL. Negative: no limit. */
void limit_scratch(int pieces);
/* How many pieces the last run asked for. */
int scratch_asked(void);

/* Memory between guard bytes, filled so that what is not written shows as NaN (or -1). It lives until release(), which
 * fails the test if a guard byte was changed. */
void *fresh(int64_t count, size_t element);
void release(void);

/* Reals of a type: uninitialised, from doubles, and read back. */
void *fresh_reals(int32_t dtype, int64_t count);
void *reals(int32_t dtype, int64_t count, const double *values);
double real_at(int32_t dtype, const void *data, int64_t i);
void set_real(int32_t dtype, void *data, int64_t i, double value);

/* The same numbers in every run of a test program. */
uint64_t random_bits(void);
double uniform(double low, double high);
int32_t random_below(int32_t end);
void *random_reals(int32_t dtype, int64_t count, double low, double high);

#endif
