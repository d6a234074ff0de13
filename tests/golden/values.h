/* SPDX-License-Identifier: Apache-2.0
 * Numbers of tensors, whatever their type and strides. */
#ifndef DD_TESTS_GOLDEN_VALUES_H
#define DD_TESTS_GOLDEN_VALUES_H

#include <detrdistill/detrdistill.h>

int64_t count_of(const dd_tensor *t);
/* The i-th number in C order. */
double value_at(const dd_tensor *t, int64_t i);

#endif
