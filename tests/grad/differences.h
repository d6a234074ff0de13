/* SPDX-License-Identifier: Apache-2.0
 * Gradients of the reference kernels, in double, against central differences. */
#ifndef TEST_GRAD_DIFFERENCES_H
#define TEST_GRAD_DIFFERENCES_H

#include "../backend/reference.h"

#include <stddef.h>

/* The scalar whose gradient is checked; it reads the array that is being changed through `context`. */
typedef double (*scalar_fn)(void *context);

/* Fails the test unless g[i] = d scalar / d x[i] for all i, to 1e-6 of the largest |g|. x is left as it was. */
void check_gradient(const char *what, scalar_fn scalar, void *context, double *x, int64_t count, const double *g);

/* Runs the f64 kernel; the test fails unless it succeeds. */
void run_f64(int32_t op, const void *args);

/* sum of weight[i] * y[i]: makes a scalar of an array; its gradient by y is `weight`. */
double weighted_sum(const double *weight, const double *y, int64_t count);

/* Sizes of trial t: 1 at first, then odd and even ones up to 7. */
int32_t random_size(int trial);

/* The tests of the operators; each makes random shapes and calls check_gradient. One trial each call. */
void gradient_of_det_loss(int trial);
void gradient_of_kd_loss(int trial);
void gradient_of_feature_loss(int trial);
void gradient_of_matmul(int trial);
void gradient_of_row_sum(int trial);
void gradient_of_resize(int trial);
void gradient_of_take_rows(int trial);
void gradient_of_batchnorm_relu(int trial);
void gradient_of_l2norm(int trial);
void gradient_of_cross_entropy(int trial);
void gradient_of_linear(int trial);
void gradient_of_conv(int trial);
void gradient_of_maxpool(int trial);
void gradient_of_groupnorm(int trial);
void gradient_of_layernorm(int trial);
void gradient_of_attention(int trial);
void gradient_of_msda(int trial);
void gradient_of_coord_embed(int trial);
void gradient_of_relu(int trial);
void gradient_of_sigmoid(int trial);
void gradient_of_product(int trial);
void gradient_of_box_refine(int trial);
void gradient_of_iof_bias(int trial);
void gradient_of_xyzr_refine(int trial);
void gradient_of_sample3d(int trial);
void gradient_of_mixing(int trial);
void gradient_of_fold_norm(int trial);

#endif
