/* SPDX-License-Identifier: Apache-2.0
 * Gradients of matrix products, sums, resizing, rows by index, normalisations and cross entropy. Where an operator's gradient
 * is another operator (or itself with other arguments), that one is run. */
#include "differences.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* An operator on one array, and the weights that make a scalar of its output. */
typedef struct layer {
    int32_t op;
    const void *args;
    const double *weight, *output;
    int64_t outputs;
} layer;

static double layer_scalar(void *context)
{
    const layer *l = context;
    run_f64(l->op, l->args);
    return weighted_sum(l->weight, l->output, l->outputs);
}

/* C = alpha op(A) op(B) + bias, so with the weights G of C:  d/d op(A) = alpha G op(B)^T, d/d op(B) = alpha op(A)^T G,
 * each transposed as a whole where A or B is. */
static void matmul_gradients(const dd_op_matmul *op, const double *weight, double *g_a, double *g_b)
{
    dd_op_matmul a = {.batch = op->batch, .K = op->N, .alpha = op->alpha, .c = g_a, .stride_c = (int64_t)op->M * op->K};
    a.a = op->trans_a ? op->b : weight;
    a.b = op->trans_a ? weight : op->b;
    a.M = op->trans_a ? op->K : op->M;
    a.N = op->trans_a ? op->M : op->K;
    a.ldc = a.N;
    a.lda = op->trans_a ? op->ldb : op->N;
    a.ldb = op->trans_a ? op->N : op->ldb;
    a.stride_a = op->trans_a ? op->stride_b : op->stride_c;
    a.stride_b = op->trans_a ? op->stride_c : op->stride_b;
    a.trans_a = op->trans_a ? op->trans_b : 0;
    a.trans_b = op->trans_a ? 1 : !op->trans_b;
    run_f64(DD_OPERATOR_matmul, &a);
    dd_op_matmul b = {.batch = op->batch, .K = op->M, .alpha = op->alpha, .c = g_b, .stride_c = (int64_t)op->K * op->N};
    b.a = op->trans_b ? weight : op->a;
    b.b = op->trans_b ? op->a : weight;
    b.M = op->trans_b ? op->N : op->K;
    b.N = op->trans_b ? op->K : op->N;
    b.ldc = b.N;
    b.lda = op->trans_b ? op->N : op->lda;
    b.ldb = op->trans_b ? op->lda : op->N;
    b.stride_a = op->trans_b ? op->stride_c : op->stride_a;
    b.stride_b = op->trans_b ? op->stride_a : op->stride_c;
    b.trans_a = op->trans_b ? 1 : !op->trans_a;
    b.trans_b = op->trans_b ? op->trans_a : 0;
    run_f64(DD_OPERATOR_matmul, &b);
}

/* Dense matrices, all layouts, with a bias by rows or columns whose gradient is a row_sum. */
static dd_op_matmul random_matmul(int trial)
{
    dd_op_matmul op = {.batch = random_size(trial),
                       .M = random_size(trial),
                       .N = random_size(trial),
                       .K = random_size(trial),
                       .trans_a = trial % 2,
                       .trans_b = trial / 2 % 2,
                       .bias_rows = trial / 4 % 2,
                       .alpha = uniform(0.5, 2)};
    op.lda = op.trans_a ? op.M : op.K;
    op.ldb = op.trans_b ? op.K : op.N;
    op.ldc = op.N;
    op.stride_a = (int64_t)op.M * op.K;
    op.stride_b = (int64_t)op.K * op.N;
    op.stride_c = (int64_t)op.M * op.N;
    op.a = random_reals(DD_F64, op.batch * op.stride_a, -1, 1);
    op.b = random_reals(DD_F64, op.batch * op.stride_b, -1, 1);
    op.bias = random_reals(DD_F64, op.bias_rows ? op.M : op.N, -1, 1);
    op.c = fresh_reals(DD_F64, op.batch * op.stride_c);
    return op;
}

void gradient_of_matmul(int trial)
{
    const dd_op_matmul op = random_matmul(trial);
    const int64_t outputs = op.batch * op.stride_c;
    layer l = {DD_OPERATOR_matmul, &op, random_reals(DD_F64, outputs, -1, 1), op.c, outputs};
    double *g_a = fresh_reals(DD_F64, op.batch * op.stride_a), *g_b = fresh_reals(DD_F64, op.batch * op.stride_b);
    matmul_gradients(&op, l.weight, g_a, g_b);
    check_gradient("a", layer_scalar, &l, (double *)op.a, op.batch * op.stride_a, g_a);
    check_gradient("b", layer_scalar, &l, (double *)op.b, op.batch * op.stride_b, g_b);
}

/* As the gradient of a bias, and by itself: the derivative of y[o] by each x that it sums is 1. */
void gradient_of_row_sum(int trial)
{
    const dd_op_matmul product = random_matmul(trial);
    const int64_t outputs = product.batch * product.stride_c, biases = product.bias_rows ? product.M : product.N;
    layer l = {DD_OPERATOR_matmul, &product, random_reals(DD_F64, outputs, -1, 1), product.c, outputs};
    double *g_bias = fresh_reals(DD_F64, biases);
    const dd_op_row_sum bias_sum = {l.weight, g_bias, product.batch, product.M, !product.bias_rows, product.N};
    run_f64(DD_OPERATOR_row_sum, &bias_sum);
    check_gradient("bias", layer_scalar, &l, (double *)product.bias, biases, g_bias);

    double *x = random_reals(DD_F64, outputs, -1, 1), *y = fresh_reals(DD_F64, biases), *g = fresh_reals(DD_F64, outputs);
    const dd_op_row_sum sum = {x, y, product.batch, product.M, !product.bias_rows, product.N};
    layer s = {DD_OPERATOR_row_sum, &sum, random_reals(DD_F64, biases, -1, 1), y, biases};
    for (int64_t i = 0; i < outputs; i++) {
        g[i] = s.weight[product.bias_rows ? i / product.N % product.M : i % product.N];
    }
    check_gradient("x", layer_scalar, &s, x, outputs, g);
}

void gradient_of_resize(int trial)
{
    dd_op_resize op = {.maps = random_size(trial),
                       .src_h = random_size(trial),
                       .src_w = random_size(trial),
                       .dst_h = random_size(trial),
                       .dst_w = random_size(trial)};
    const int64_t inputs = op.maps * op.src_h * op.src_w, outputs = op.maps * op.dst_h * op.dst_w;
    op.src = random_reals(DD_F64, inputs, -1, 1);
    op.dst = fresh_reals(DD_F64, outputs);
    layer l = {DD_OPERATOR_resize, &op, random_reals(DD_F64, outputs, -1, 1), op.dst, outputs};
    dd_op_resize adjoint = op;
    adjoint.src = fresh_reals(DD_F64, inputs);
    adjoint.dst = (void *)l.weight;
    run_f64(DD_OPERATOR_resize_grad, &adjoint);
    check_gradient("src", layer_scalar, &l, op.src, inputs, adjoint.src);
}

/* Random distinct rows of each block, or -1. */
static int32_t *random_index(int32_t blocks, int32_t taken, int32_t available)
{
    int32_t *index = fresh((int64_t)blocks * taken, sizeof *index), *order = fresh(available, sizeof *order);
    for (int32_t k = 0; k < blocks; k++) {
        for (int32_t i = 0; i < available; i++) {
            const int32_t other = random_below(i + 1);
            order[i] = order[other];
            order[other] = i;
        }
        for (int32_t i = 0; i < taken; i++) {
            index[k * taken + i] = i < available && random_below(4) > 0 ? order[i] : -1;
        }
    }
    return index;
}

/* Forward and inverse are each other's gradient. */
void gradient_of_take_rows(int trial)
{
    const int32_t blocks = random_size(trial), taken = random_size(trial), available = random_size(trial);
    const int32_t d = random_size(trial);
    const int64_t listed = (int64_t)blocks * taken * d, all = (int64_t)blocks * available * d;
    const int32_t *index = trial % 5 == 4 && taken <= available ? NULL : random_index(blocks, taken, available);
    double *x = random_reals(DD_F64, all, -1, 1), *y = fresh_reals(DD_F64, listed);
    double *g_x = fresh_reals(DD_F64, all), *weight = random_reals(DD_F64, listed, -1, 1);
    const dd_op_take_rows forward = {x, index, y, (int64_t)blocks * taken, taken, available, d, 0};
    const dd_op_take_rows forward_gradient = {weight, index, g_x, (int64_t)blocks * taken, available, taken, d, 1};
    layer f = {DD_OPERATOR_take_rows, &forward, weight, y, listed};
    run_f64(DD_OPERATOR_take_rows, &forward_gradient);
    check_gradient("src", layer_scalar, &f, x, all, g_x);

    double *rows = random_reals(DD_F64, listed, -1, 1), *spread = fresh_reals(DD_F64, all);
    double *g_rows = fresh_reals(DD_F64, listed), *all_weight = random_reals(DD_F64, all, -1, 1);
    const dd_op_take_rows inverse = {rows, index, spread, (int64_t)blocks * taken, available, taken, d, 1};
    const dd_op_take_rows inverse_gradient = {all_weight, index, g_rows, (int64_t)blocks * taken, taken, available, d, 0};
    layer i = {DD_OPERATOR_take_rows, &inverse, all_weight, spread, all};
    run_f64(DD_OPERATOR_take_rows, &inverse_gradient);
    check_gradient("inverse src", layer_scalar, &i, rows, listed, g_rows);
}

/* How near the argument of ReLU comes to 0, of all rows and channels. */
static double relu_distance(const dd_op_batchnorm_relu *op)
{
    const double *x = op->x, *mean = op->mean, *rstd = op->rstd, *gamma = op->gamma, *beta = op->beta;
    double distance = INFINITY;
    for (int64_t i = 0; i < op->rows * op->d; i++) {
        const int64_t c = i % op->d;
        distance = fmin(distance, fabs(gamma[c] * (x[i] - mean[c]) * rstd[c] + beta[c]));
    }
    return distance;
}

void gradient_of_batchnorm_relu(int trial)
{
    const int64_t rows = random_size(trial), d = random_size(trial), count = rows * d;
    dd_op_batchnorm_relu op = {.y = fresh_reals(DD_F64, count),
                               .mean = fresh_reals(DD_F64, d),
                               .rstd = fresh_reals(DD_F64, d),
                               .g_y = random_reals(DD_F64, count, -1, 1),
                               .g_x = fresh_reals(DD_F64, count),
                               .g_gamma = fresh_reals(DD_F64, d),
                               .g_beta = fresh_reals(DD_F64, d),
                               .rows = rows,
                               .d = (int32_t)d};
    do {
        op.x = random_reals(DD_F64, count, -2, 2);
        op.gamma = random_reals(DD_F64, d, 0.5, 1.5);
        op.beta = random_reals(DD_F64, d, -0.5, 0.5);
        run_f64(DD_OPERATOR_batchnorm_relu, &op);
    } while (relu_distance(&op) < 1e-3);
    layer l = {DD_OPERATOR_batchnorm_relu, &op, op.g_y, op.y, count};
    run_f64(DD_OPERATOR_batchnorm_relu_grad, &op);
    check_gradient("x", layer_scalar, &l, (double *)op.x, count, op.g_x);
    check_gradient("gamma", layer_scalar, &l, (double *)op.gamma, d, op.g_gamma);
    check_gradient("beta", layer_scalar, &l, (double *)op.beta, d, op.g_beta);
}

void gradient_of_l2norm(int trial)
{
    const int64_t rows = random_size(trial), d = random_size(trial), count = rows * d;
    double *x = random_reals(DD_F64, count, 0.3, 2);
    for (int64_t i = 0; i < count; i++) { /* away from the zero vector */
        x[i] = random_below(2) ? x[i] : -x[i];
    }
    double *y = fresh_reals(DD_F64, count), *weight = random_reals(DD_F64, count, -1, 1);
    const dd_op_l2norm op = {x, y, fresh_reals(DD_F64, rows), weight, fresh_reals(DD_F64, count), rows, (int32_t)d};
    layer l = {DD_OPERATOR_l2norm, &op, weight, y, count};
    run_f64(DD_OPERATOR_l2norm, &op);
    run_f64(DD_OPERATOR_l2norm_grad, &op);
    check_gradient("x", layer_scalar, &l, x, count, op.g_x);
}

static double cross_entropy_scalar(void *context)
{
    dd_op_cross_entropy op = *(dd_op_cross_entropy *)context;
    double loss;
    op.loss = &loss;
    op.g_logits = fresh_reals(DD_F64, op.n * op.n);
    run_f64(DD_OPERATOR_cross_entropy, &op);
    return op.grad_scale * loss;
}

void gradient_of_cross_entropy(int trial)
{
    const int64_t n = random_size(trial), count = n * n;
    double loss, *x = random_reals(DD_F64, count, -3, 3);
    dd_op_cross_entropy op = {x, fresh_reals(DD_F64, count), &loss, n, uniform(0.1, 1), uniform(0.5, 2)};
    run_f64(DD_OPERATOR_cross_entropy, &op);
    check_gradient("logits", cross_entropy_scalar, &op, x, count, op.g_logits);
}
