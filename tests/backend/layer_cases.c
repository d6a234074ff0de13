/* SPDX-License-Identifier: Apache-2.0
 * Matrix products, resizing, and the layers of the contrastive term. */
#include "cases.h"

static void check_reals(int32_t dtype, const void *data, int64_t count, const double *expected)
{
    for (int64_t i = 0; i < count; i++) {
        assert_near(real_at(dtype, data, i), expected[i], type_tolerance(dtype));
    }
}

/* A = [1 2 3; 4 5 6], B = [1 2; 3 4; 5 6] in rows of 3, in all four layouts; the unused third column of C stays. */
void matmul_values(void **state)
{
    const double a[6] = {1, 2, 3, 4, 5, 6}, a_t[6] = {1, 4, 2, 5, 3, 6};
    const double b[9] = {1, 2, 9, 3, 4, 9, 5, 6, 9}, b_t[6] = {1, 3, 5, 2, 4, 6}, bias[2] = {10, 20};
    FOR_BOTH_TYPES(dtype)
    {
        for (int layout = 0; layout < 4; layout++) {
            const int trans_a = layout & 1, trans_b = layout >> 1;
            void *c = fresh_reals(dtype, 6);
            dd_op_matmul op = {reals(dtype, 6, trans_a ? a_t : a),
                               trans_b ? reals(dtype, 6, b_t) : reals(dtype, 9, b),
                               NULL,
                               c,
                               1,
                               2,
                               2,
                               3,
                               trans_a ? 2 : 3,
                               3,
                               3,
                               trans_a,
                               trans_b,
                               0,
                               0,
                               0,
                               0,
                               1,
                               0};
            assert_int_equal(run_op(DD_OPERATOR_matmul, dtype, &op), DD_OK);
            check_reals(dtype, c, 2, (double[]){22, 28});
            check_reals(dtype, (char *)c + 3 * (dtype == DD_F32 ? 4 : 8), 2, (double[]){49, 64});
            assert_true(isnan(real_at(dtype, c, 2)) && isnan(real_at(dtype, c, 5)));
            op.alpha = 2;
            op.beta = -1;
            op.bias = reals(dtype, 2, bias);
            op.bias_rows = trans_a;
            assert_int_equal(run_op(DD_OPERATOR_matmul, dtype, &op), DD_OK);
            check_reals(dtype, c, 2, (double[]){22 + 10, 28 + (trans_a ? 10 : 20)});
            assert_near(real_at(dtype, c, 3), 49 + (trans_a ? 20 : 10), type_tolerance(dtype));
        }
        /* Batch with a shared A, and an empty sum. */
        void *c = fresh_reals(dtype, 2);
        dd_op_matmul op = {reals(dtype, 2, a), reals(dtype, 4, a), NULL, c, 2, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0, 2, 1, 1, 0};
        assert_int_equal(run_op(DD_OPERATOR_matmul, dtype, &op), DD_OK);
        check_reals(dtype, c, 2, (double[]){5, 11});
        op.K = 0;
        assert_int_equal(run_op(DD_OPERATOR_matmul, dtype, &op), DD_OK);
        check_reals(dtype, c, 2, (double[]){0, 0});
    }
}

void row_sums(void **state)
{
    const double x[12] = {1, 2, 3, 4, 5, 6, 10, 20, 30, 40, 50, 60}; /* [2, 2, 3] */
    FOR_BOTH_TYPES(dtype)
    {
        void *y = fresh_reals(dtype, 3);
        dd_op_row_sum op = {reals(dtype, 12, x), y, 2, 2, 0, 3};
        assert_int_equal(run_op(DD_OPERATOR_row_sum, dtype, &op), DD_OK);
        check_reals(dtype, y, 2, (double[]){66, 165});
        op.by_columns = 1;
        assert_int_equal(run_op(DD_OPERATOR_row_sum, dtype, &op), DD_OK);
        check_reals(dtype, y, 3, (double[]){55, 77, 99});
    }
}

void resize_values(void **state)
{
    const double map[4] = {0, 4, 8, 12};
    FOR_BOTH_TYPES(dtype)
    {
        void *src = reals(dtype, 4, map), *dst = fresh_reals(dtype, 16);
        dd_op_resize op = {src, dst, 1, 2, 2, 4, 4}; /* centres at -1/4, 1/4, 3/4, 5/4 */
        assert_int_equal(run_op(DD_OPERATOR_resize, dtype, &op), DD_OK);
        check_reals(dtype, dst, 16, (double[]){0, 1, 3, 4, 2, 3, 5, 6, 6, 7, 9, 10, 8, 9, 11, 12});
        op.dst_h = op.dst_w = 1; /* centre at 1/2 */
        assert_int_equal(run_op(DD_OPERATOR_resize, dtype, &op), DD_OK);
        check_reals(dtype, dst, 1, (double[]){6});
        op.dst_h = op.dst_w = 2; /* the same size: a copy */
        assert_int_equal(run_op(DD_OPERATOR_resize, dtype, &op), DD_OK);
        check_reals(dtype, dst, 4, map);
        op.maps = 4; /* four maps of one position */
        op.src_h = op.src_w = 1;
        assert_int_equal(run_op(DD_OPERATOR_resize, dtype, &op), DD_OK);
        for (int i = 0; i < 16; i++) {
            assert_true(real_at(dtype, dst, i) == map[i / 4]);
        }
    }
}

void take_rows_both_ways(void **state)
{
    const double source[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}; /* two blocks of three rows of width 2 */
    const int32_t index[4] = {2, -1, 0, 1};
    FOR_BOTH_TYPES(dtype)
    {
        void *taken = fresh_reals(dtype, 8), *back = fresh_reals(dtype, 12);
        dd_op_take_rows op = {reals(dtype, 12, source), index, taken, 4, 2, 3, 2, 0};
        assert_int_equal(run_op(DD_OPERATOR_take_rows, dtype, &op), DD_OK);
        check_reals(dtype, taken, 8, (double[]){5, 6, 0, 0, 7, 8, 9, 10});
        dd_op_take_rows inverse = {taken, index, back, 4, 3, 2, 2, 1};
        assert_int_equal(run_op(DD_OPERATOR_take_rows, dtype, &inverse), DD_OK);
        check_reals(dtype, back, 12, (double[]){0, 0, 0, 0, 5, 6, 7, 8, 9, 10, 0, 0});
        op.index = NULL; /* the first two rows of each block */
        assert_int_equal(run_op(DD_OPERATOR_take_rows, dtype, &op), DD_OK);
        check_reals(dtype, taken, 8, (double[]){1, 2, 3, 4, 7, 8, 9, 10});
        inverse.index = NULL;
        assert_int_equal(run_op(DD_OPERATOR_take_rows, dtype, &inverse), DD_OK);
        check_reals(dtype, back, 12, (double[]){1, 2, 3, 4, 0, 0, 7, 8, 9, 10, 0, 0});
    }
}

void batchnorm_values(void **state)
{
    const double x[6] = {1, 7, 3, 7, 5, 7}, gamma[2] = {2, 3}, beta[2] = {0.5, -0.25};
    FOR_BOTH_TYPES(dtype)
    {
        void *y = fresh_reals(dtype, 6), *mean = fresh_reals(dtype, 2), *rstd = fresh_reals(dtype, 2);
        const dd_op_batchnorm_relu op = {.x = reals(dtype, 6, x),
                                         .gamma = reals(dtype, 2, gamma),
                                         .beta = reals(dtype, 2, beta),
                                         .y = y,
                                         .mean = mean,
                                         .rstd = rstd,
                                         .rows = 3,
                                         .d = 2};
        assert_int_equal(run_op(DD_OPERATOR_batchnorm_relu, dtype, &op), DD_OK);
        const double r = 1 / sqrt(8.0 / 3 + 1e-5); /* the biased variance */
        check_reals(dtype, mean, 2, (double[]){3, 7});
        check_reals(dtype, rstd, 2, (double[]){r, 1 / sqrt(1e-5)});
        check_reals(dtype, y, 6, (double[]){0, 0, 0.5, 0, 0.5 + 4 * r, 0});
    }
}

void l2norm_values(void **state)
{
    const double x[8] = {3, 4, 0, 0, -5e-13, 0, 6, -8}, g_y[8] = {1, 0, 2, 3, 1, 1, 3, -4};
    FOR_BOTH_TYPES(dtype)
    {
        void *y = fresh_reals(dtype, 8), *length = fresh_reals(dtype, 4), *g_x = fresh_reals(dtype, 8);
        const dd_op_l2norm op = {reals(dtype, 8, x), y, length, reals(dtype, 8, g_y), g_x, 4, 2};
        assert_int_equal(run_op(DD_OPERATOR_l2norm, dtype, &op), DD_OK);
        check_reals(dtype, y, 8, (double[]){0.6, 0.8, 0, 0, -0.5, 0, 0.6, -0.8});
        check_reals(dtype, length, 4, (double[]){5, 0, 5e-13, 10});
        assert_int_equal(run_op(DD_OPERATOR_l2norm_grad, dtype, &op), DD_OK);
        /* Along y nothing is left; below the floor the division is by a constant. */
        check_reals(dtype, g_x, 8, (double[]){0.64 / 5, -0.48 / 5, 2e12, 3e12, 1e12, 1e12, 0, 0});
    }
}

void cross_entropy_values(void **state)
{
    const double logits[4] = {0, log(3), 1000, 1001};
    FOR_BOTH_TYPES(dtype)
    {
        double loss;
        void *g = fresh_reals(dtype, 4);
        dd_op_cross_entropy op = {reals(dtype, 4, logits), g, &loss, 2, 0.2, 10};
        assert_int_equal(run_op(DD_OPERATOR_cross_entropy, dtype, &op), DD_OK);
        const double e = exp(-1), last = 1 / (1 + e); /* the second row is (-1, 0) plus 1001 */
        assert_near(loss, 0.2 * (log(4) + log(1 + e)) / 2, type_tolerance(dtype));
        check_reals(dtype, g, 4, (double[]){-0.75, 0.75, 1 - last, last - 1});
        op.n = 1;
        assert_int_equal(run_op(DD_OPERATOR_cross_entropy, dtype, &op), DD_OK);
        assert_true(loss == 0 && real_at(dtype, g, 0) == 0);
    }
}
