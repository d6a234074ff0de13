/* SPDX-License-Identifier: Apache-2.0
 * Generators of dense_cases.c. */
#ifndef DENSE_CASES_H
#define DENSE_CASES_H

#include "cases.h"

void linear_case(test_case *c, random_state *r, int64_t i);
void linear_grad_case(test_case *c, random_state *r, int64_t i);
void conv_case(test_case *c, random_state *r, int64_t i);
void conv_grad_case(test_case *c, random_state *r, int64_t i);

#endif
