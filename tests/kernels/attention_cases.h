/* SPDX-License-Identifier: Apache-2.0
 * Generators of attention_cases.c. */
#ifndef ATTENTION_CASES_H
#define ATTENTION_CASES_H

#include "cases.h"

void attention_case(test_case *c, random_state *r, int64_t i);
void attention_grad_case(test_case *c, random_state *r, int64_t i);
void msda_case(test_case *c, random_state *r, int64_t i);
void msda_grad_case(test_case *c, random_state *r, int64_t i);
void sine_position_case(test_case *c, random_state *r, int64_t i);
void coord_embed_case(test_case *c, random_state *r, int64_t i);
void coord_embed_grad_case(test_case *c, random_state *r, int64_t i);

#endif
