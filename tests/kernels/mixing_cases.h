/* SPDX-License-Identifier: Apache-2.0
 * Generators of mixing_cases.c. */
#ifndef MIXING_CASES_H
#define MIXING_CASES_H

#include "cases.h"

void iof_bias_case(test_case *c, random_state *r, int64_t i);
void iof_bias_grad_case(test_case *c, random_state *r, int64_t i);
void sample3d_case(test_case *c, random_state *r, int64_t i);
void sample3d_grad_case(test_case *c, random_state *r, int64_t i);
void mixing_case(test_case *c, random_state *r, int64_t i);
void mixing_grad_case(test_case *c, random_state *r, int64_t i);

#endif
