/* SPDX-License-Identifier: Apache-2.0
 * Generators of layer_cases.c. */
#ifndef LAYER_CASES_H
#define LAYER_CASES_H

#include "cases.h"

void layernorm_case(test_case *c, random_state *r, int64_t i);
void layernorm_grad_case(test_case *c, random_state *r, int64_t i);
void groupnorm_case(test_case *c, random_state *r, int64_t i);
void groupnorm_grad_case(test_case *c, random_state *r, int64_t i);
void dropout_case(test_case *c, random_state *r, int64_t i);
void add_case(test_case *c, random_state *r, int64_t i);
void product_case(test_case *c, random_state *r, int64_t i);
void product_grad_case(test_case *c, random_state *r, int64_t i);
void copy_rows_case(test_case *c, random_state *r, int64_t i);
void mask_rows_case(test_case *c, random_state *r, int64_t i);
void relu_case(test_case *c, random_state *r, int64_t i);
void relu_grad_case(test_case *c, random_state *r, int64_t i);
void sigmoid_case(test_case *c, random_state *r, int64_t i);
void sigmoid_grad_case(test_case *c, random_state *r, int64_t i);
void maxpool_case(test_case *c, random_state *r, int64_t i);
void maxpool_grad_case(test_case *c, random_state *r, int64_t i);
void adamw_case(test_case *c, random_state *r, int64_t i);
void sum_squares_case(test_case *c, random_state *r, int64_t i);
void average_case(test_case *c, random_state *r, int64_t i);

#endif
