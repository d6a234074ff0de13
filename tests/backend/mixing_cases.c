/* SPDX-License-Identifier: Apache-2.0
 * AdaMixer's operators and folded norms: values worked out by hand, boxes without end. */
#include "cases.h"

/* Boxes 4 x 4 at the origin; half over it; apart; 2 x 2 inside the first; far below a pixel; without end. */
void overlap_of_boxes(void **state)
{
    enum { N = 6 };
    const double position[4 * N] = {0, 0, 2, 0, 2, 0, 2, 0, 100, 100, 2, 0, 0, 0, 1, 0, 0, 0, -40, 0, 0, 0, 5000, 0};
    const double tau[2] = {1, 3};
    const double share[N] = {1, 0.5, 0, 0.25, 0x1p-84, 1}; /* of the first box */
    FOR_BOTH_TYPES(dtype)
    {
        void *y = fresh_reals(dtype, 2 * N * N), *overlap = fresh_reals(dtype, N * N);
        dd_op_iof_bias op = {.position = reals(dtype, 4 * N, position),
                             .tau = reals(dtype, 2, tau),
                             .overlap = overlap,
                             .y = y,
                             .B = 1,
                             .N = N,
                             .M = 2};
        assert_int_equal(run_op(DD_OPERATOR_iof_bias, dtype, &op), DD_OK);
        for (int j = 0; j < N; j++) {
            assert_near(real_at(dtype, overlap, j), log(share[j] + 1e-7), type_tolerance(dtype));
            assert_near(real_at(dtype, y, N * N + j), 3 * log(share[j] + 1e-7), type_tolerance(dtype));
        }
        assert_near(real_at(dtype, overlap, 3 * N), log(1 + 1e-7), type_tolerance(dtype)); /* the inner by itself */
        assert_near(real_at(dtype, overlap, 4 * N), log(0x1p-80 / 1e-6 + 1e-7), type_tolerance(dtype));
        assert_near(real_at(dtype, overlap, 5 * N), log(1e-7), type_tolerance(dtype)); /* a part of what has no end */
        assert_near(real_at(dtype, overlap, 5 * N + 5), log(1 + 1e-7), type_tolerance(dtype));
    }
}

void positions_move_by_their_size(void **state)
{
    const double position[8] = {30, 20, 3, 0, 30, 20, 5000, 0}, delta[8] = {0.5, -1, 1, 2, 1, -1, 1, 0};
    const int32_t size[2] = {64, 32};
    FOR_BOTH_TYPES(dtype)
    {
        void *next = fresh_reals(dtype, 8), *y = fresh_reals(dtype, 8);
        dd_op_xyzr_refine op = {.position = reals(dtype, 8, position),
                                .delta = reals(dtype, 8, delta),
                                .size = size,
                                .next = next,
                                .y = y,
                                .B = 1,
                                .N = 2};
        const double moved[4] = {34, 12, 4, 2}, box[4] = {34.0 / 64, 12.0 / 32, 8.0 / 64, 32.0 / 32};
        assert_int_equal(run_op(DD_OPERATOR_xyzr_refine, dtype, &op), DD_OK);
        for (int k = 0; k < 4; k++) {
            assert_near(real_at(dtype, next, k), moved[k], type_tolerance(dtype));
            assert_near(real_at(dtype, y, k), box[k], type_tolerance(dtype));
        }
        assert_true(real_at(dtype, next, 4) == INFINITY && real_at(dtype, next, 5) == -INFINITY);
        assert_true(real_at(dtype, y, 6) == INFINITY && real_at(dtype, next, 6) == 5001);
    }
}

/* Between two levels both count half; a point beyond the maps, however far, reads nothing. */
void samples_of_two_levels(void **state)
{
    const double value[5] = {1, 2, 3, 4, 20}; /* 2 x 2 cells of 4 pixels, one of 8 */
    const double position[4] = {4, 4, 2.5, 0}, far[4] = {4, 4, 1e30, 0};
    const double off[9] = {0, 0, 0, 5, 0, 0, 0, 0, 40};
    FOR_BOTH_TYPES(dtype)
    {
        void *y = fresh_reals(dtype, 3);
        dd_op_sample3d op = {.value = reals(dtype, 5, value),
                             .off = reals(dtype, 9, off),
                             .position = reals(dtype, 4, position),
                             .y = y,
                             .S = 5,
                             .B = 1,
                             .N = 1,
                             .G = 1,
                             .D = 1,
                             .L = 2,
                             .P = 3,
                             .height = {2, 1},
                             .width = {2, 1},
                             .stride = {4, 8},
                             .tau = 2};
        assert_int_equal(run_op(DD_OPERATOR_sample3d, dtype, &op), DD_OK);
        assert_near(real_at(dtype, y, 0), 0.5 * 2.5 + 0.5 * 20, type_tolerance(dtype));
        assert_true(real_at(dtype, y, 1) == 0);
        assert_near(real_at(dtype, y, 2), 20, type_tolerance(dtype)); /* high above: the coarser level alone */
        op.position = reals(dtype, 4, far);
        assert_int_equal(run_op(DD_OPERATOR_sample3d, dtype, &op), DD_OK);
        assert_true(real_at(dtype, y, 1) == 0);
    }
}

void mixing_values(void **state)
{
    const double x[2] = {1, 2}, params[5] = {1, 0, 0, 1, 3};
    const double a = 0.5 / sqrt(0.25 + 1e-5), b = 1.5 * a / sqrt(2.25 * a * a + 1e-5);
    FOR_BOTH_TYPES(dtype)
    {
        void *y = fresh_reals(dtype, 2), *stats = fresh_reals(dtype, 4);
        dd_op_mixing op = {.x = reals(dtype, 2, x),
                           .params = reals(dtype, 5, params),
                           .y = y,
                           .stats = stats,
                           .rows = 1,
                           .G = 1,
                           .in = 1,
                           .out = 1,
                           .c = 2};
        assert_int_equal(run_op(DD_OPERATOR_mixing, dtype, &op), DD_OK);
        assert_true(real_at(dtype, y, 0) == 0);
        assert_near(real_at(dtype, y, 1), b, type_tolerance(dtype));
        assert_near(real_at(dtype, stats, 0), 1.5, type_tolerance(dtype));
        assert_near(real_at(dtype, stats, 2), 1.5 * a, type_tolerance(dtype));
    }
}

void folded_norm_values(void **state)
{
    const double gamma[2] = {2, -3}, beta[2] = {1, 5}, mean[2] = {0.5, 4}, variance[2] = {4, 0};
    FOR_BOTH_TYPES(dtype)
    {
        void *y = fresh_reals(dtype, 4);
        dd_op_fold_norm op = {.gamma = reals(dtype, 2, gamma),
                              .beta = reals(dtype, 2, beta),
                              .mean = reals(dtype, 2, mean),
                              .variance = reals(dtype, 2, variance),
                              .y = y,
                              .C = 2};
        assert_int_equal(run_op(DD_OPERATOR_fold_norm, dtype, &op), DD_OK);
        for (int i = 0; i < 2; i++) {
            const double scale = gamma[i] / sqrt(variance[i] + 1e-5);
            assert_near(real_at(dtype, y, i), scale, type_tolerance(dtype));
            assert_near(real_at(dtype, y, 2 + i), beta[i] - mean[i] * scale, type_tolerance(dtype));
        }
    }
}
