/* SPDX-License-Identifier: Apache-2.0
 * Elementary functions, the search for NaN, conversion of types. */
#include "cases.h"

#include "backend/ref/math.h"

/* |value - exact| in units of the last place of `exact`. */
static double ulps(double value, long double exact)
{
    int exponent;
    (void)frexp((double)exact, &exponent);
    return (double)(fabsl((long double)value - exact) / ldexpl(1, (exponent < -1021 ? -1021 : exponent) - 53));
}

void exp_and_log_to_the_last_bits(void **state)
{
    double worst[5] = {0};
    for (int i = 0; i < 200000; i++) {
        const double x = i % 2 ? uniform(-745, 709) : uniform(-3, 3), y = exp2(uniform(-1074, 1023)), z = uniform(0.5, 2);
        const double w = exp2(uniform(-80, 80));
        worst[0] = fmax(worst[0], ulps(ddi_exp(x), expl(x)));
        worst[1] = fmax(worst[1], fmax(ulps(ddi_log(y), logl(y)), ulps(ddi_log(z), logl(z))));
        worst[2] = fmax(worst[2], ulps(ddi_log1p(w), log1pl(w)));
        const long double e = expl(-fabsl((long double)x));
        worst[3] = fmax(worst[3], ulps(ddi_sigmoid(x), (x >= 0 ? 1 : e) / (1 + e)));
        worst[4] = fmax(worst[4], ulps(ddi_softplus(x), fmaxl(x, 0) + log1pl(e)));
    }
    print_message("# ulps: exp %.3f log %.3f log1p %.3f sigmoid %.3f softplus %.3f\n", worst[0], worst[1], worst[2], worst[3],
                  worst[4]);
    assert_true(worst[0] < 1 && worst[1] < 1 && worst[2] < 2 && worst[3] < 3 && worst[4] < 3);
    assert_true(ddi_exp(0) == 1 && ddi_exp(-INFINITY) == 0 && ddi_exp(INFINITY) == INFINITY && ddi_exp(710) == INFINITY);
    assert_true(ddi_log(1) == 0 && ddi_log(0) == -INFINITY && ddi_log(INFINITY) == INFINITY);
    assert_true(isnan(ddi_exp(NAN)) && isnan(ddi_log(NAN)) && isnan(ddi_log(-1)));
    assert_true(ddi_log1p(0) == 0 && ddi_log1p(1e-300) == 1e-300);
}

void powers(void **state)
{
    assert_true(ddi_power(0, 0) == 1 && ddi_power(0.3, 0) == 1 && ddi_power(0, 1) == 0 && ddi_power(0, 0.5) == 0);
    assert_true(ddi_power(0.3, 1) == 0.3);
    assert_near(ddi_power(0.09, 0.5), 0.3, 1e-15);
    assert_near(ddi_power(0.2, 3), 0.008, 1e-15);
}

void finite_check_names_first_and_images(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        /* [2, 3, 2]: infinity in outer 0, image 2; NaN in outer 1, image 1. */
        const double values[12] = {1, 2, 3, 4, 5, INFINITY, 7, 8, NAN, 10, 11, 12};
        int64_t first = 7;
        int32_t bad[3] = {1, 0, 0};
        dd_op_check_finite op = {reals(dtype, 12, values), 2, 3, 2, &first, bad};
        assert_int_equal(run_op(DD_OPERATOR_check_finite, dtype, &op), DD_OK);
        assert_int_equal(first, 5);
        assert_true(bad[0] == 1 && bad[1] == 1 && bad[2] == 1);
        op.x = reals(dtype, 5, values);
        op.outer = op.images = 1;
        op.inner = 5;
        op.image_bad = NULL;
        assert_int_equal(run_op(DD_OPERATOR_check_finite, dtype, &op), DD_OK);
        assert_int_equal(first, -1);
    }
}

/* One number through a 16-bit type. */
static uint16_t narrowed(int32_t dtype, int32_t short_dtype, double x)
{
    uint16_t bits = 0;
    double copy = x;
    float single = (float)x;
    dd_op_scatter op = {.src = dtype == DD_F32 ? (void *)&single : (void *)&copy,
                        .dst = &bits,
                        .dst_dtype = short_dtype,
                        .ndim = 1,
                        .shape = {1},
                        .stride = {1}};
    assert_int_equal(run_op(DD_OPERATOR_scatter, dtype, &op), DD_OK);
    return bits;
}

static double widened(int32_t short_dtype, uint16_t bits)
{
    double x;
    dd_op_gather op = {.src = &bits, .dst = &x, .src_dtype = short_dtype, .ndim = 1, .shape = {1}, .stride = {1}};
    assert_int_equal(run_op(DD_OPERATOR_gather, DD_F64, &op), DD_OK);
    return x;
}

void short_floats_keep_all_their_values(void **state)
{
    for (int32_t type = DD_F16; type <= DD_BF16; type++) {
        for (uint32_t bits = 0; bits <= 0xffff; bits++) {
            const double x = widened(type, (uint16_t)bits);
            FOR_BOTH_TYPES(dtype)
            {
                const uint16_t back = narrowed(dtype, type, x);
                assert_true(isnan(x) ? isnan(widened(type, back)) : back == bits);
            }
        }
    }
    assert_true(widened(DD_F16, 0x3c01) == 1 + 0x1p-10 && widened(DD_F16, 0xfbff) == -65504);
    assert_true(widened(DD_F16, 0x0001) == 0x1p-24 && widened(DD_BF16, 0x0001) == 0x1p-133);
    assert_true(widened(DD_BF16, 0x3f81) == 1 + 0x1p-7 && widened(DD_BF16, 0x7f80) == INFINITY);
}

/* Halfway between two neighbours goes to the even one, anything else to the nearer one: all neighbours of both types. */
void short_floats_round_to_nearest_even(void **state)
{
    for (int32_t type = DD_F16; type <= DD_BF16; type++) {
        const uint16_t largest = type == DD_F16 ? 0x7bff : 0x7f7f;
        for (uint16_t bits = 0; bits <= largest; bits++) {
            const double low = widened(type, bits);
            const double high = bits < largest ? widened(type, (uint16_t)(bits + 1)) : type == DD_F16 ? 0x1p16 : 0x1p128;
            const double middle = (low + high) / 2;
            const uint16_t even = bits % 2 ? (uint16_t)(bits + 1) : bits;
            assert_int_equal(narrowed(DD_F64, type, middle), even);
            assert_int_equal(narrowed(DD_F64, type, -middle), even | 0x8000);
            assert_int_equal(narrowed(DD_F64, type, nextafter(middle, 0)), bits);
            assert_int_equal(narrowed(DD_F64, type, nextafter(middle, INFINITY)), bits + 1);
            if (type == DD_F16) { /* of bf16 the last subnormal halves are below f32 */
                assert_int_equal(narrowed(DD_F32, type, middle), even);
                assert_int_equal(narrowed(DD_F32, type, nextafterf((float)middle, 0)), bits);
            }
        }
        assert_int_equal(narrowed(DD_F64, type, 1e300), largest + 1);
        assert_int_equal(narrowed(DD_F64, type, 1e-300), 0);
        assert_int_equal(narrowed(DD_F64, type, -5e-324), 0x8000);
    }
}

void gather_reads_every_type_and_stride(void **state)
{
    const float f32[6] = {0, 1, 2, 3, 4, 5};
    const double f64[6] = {0, 1, 2, 3, 4, 5};
    const uint16_t f16[6] = {0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500}, bf16[6] = {0, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0};
    const int32_t i32[6] = {0, 1, 2, 3, 4, 5};
    const int64_t i64[6] = {0, 1, 2, 3, 4, 5};
    const uint8_t u8[6] = {0, 1, 2, 3, 4, 5};
    const void *source[] = {
        [DD_F32] = f32, [DD_F64] = f64, [DD_F16] = f16, [DD_BF16] = bf16, [DD_I32] = i32, [DD_I64] = i64, [DD_U8] = u8};
    const size_t size[] = {[DD_F32] = 4, [DD_F64] = 8, [DD_F16] = 2, [DD_BF16] = 2, [DD_I32] = 4, [DD_I64] = 8, [DD_U8] = 1};
    const double expected[6] = {5, 3, 1, 4, 2, 0}; /* the transposed 3 x 2 matrix backwards */
    FOR_BOTH_TYPES(dtype)
    {
        for (int32_t type = DD_F32; type <= DD_U8; type++) {
            void *dst = fresh_reals(dtype, 6);
            dd_op_gather op = {.src = (const char *)source[type] + 5 * size[type],
                               .dst = dst,
                               .src_dtype = type,
                               .ndim = 2,
                               .shape = {2, 3},
                               .stride = {-1, -2}};
            assert_int_equal(run_op(DD_OPERATOR_gather, dtype, &op), DD_OK);
            for (int i = 0; i < 6; i++) {
                assert_true(real_at(dtype, dst, i) == expected[i]);
            }
            op.stride[0] = op.stride[1] = 0;
            assert_int_equal(run_op(DD_OPERATOR_gather, dtype, &op), DD_OK);
            assert_true(real_at(dtype, dst, 0) == 5 && real_at(dtype, dst, 5) == 5);
        }
        const dd_op_gather unknown = {.src = f32, .src_dtype = 99, .ndim = 1, .shape = {1}};
        assert_int_equal(run_op(DD_OPERATOR_gather, dtype, &unknown), DD_ERR_DTYPE);
    }
}

void gather_sanitises(void **state)
{
    const double source[5] = {NAN, INFINITY, -INFINITY, -0.5, 1e30}, expected[5] = {0, 1e4, -1e4, -0.5, 1e30};
    FOR_BOTH_TYPES(dtype)
    {
        void *dst = fresh_reals(dtype, 5);
        dd_op_gather op = {
            .src = source, .dst = dst, .src_dtype = DD_F64, .ndim = 1, .shape = {5}, .stride = {1}, .sanitise = 1};
        assert_int_equal(run_op(DD_OPERATOR_gather, dtype, &op), DD_OK);
        for (int i = 0; i < 5; i++) {
            assert_near(real_at(dtype, dst, i), expected[i], 1e-7);
        }
        op.sanitise = 0;
        assert_int_equal(run_op(DD_OPERATOR_gather, dtype, &op), DD_OK);
        assert_true(isnan(real_at(dtype, dst, 0)) && real_at(dtype, dst, 1) == INFINITY);
    }
}

void scatter_zeroes_where_not_finite(void **state)
{
    const double source[4] = {1.5, 2.5, 3.5, 4.5};
    const float where[4] = {0, INFINITY, NAN, 1}; /* read backwards below */
    FOR_BOTH_TYPES(dtype)
    {
        double *dst = fresh(8, sizeof *dst);
        dd_op_scatter op = {.src = reals(dtype, 4, source),
                            .dst = dst,
                            .dst_dtype = DD_F64,
                            .ndim = 2,
                            .shape = {2, 2},
                            .stride = {2, 4},
                            .zero_where = where + 3,
                            .zero_dtype = DD_F32,
                            .zero_stride = {-2, -1}};
        assert_int_equal(run_op(DD_OPERATOR_scatter, dtype, &op), DD_OK);
        assert_true(dst[0] == 1.5 && dst[4] == 0 && dst[2] == 0 && dst[6] == 4.5);
        assert_true(isnan(dst[1]) && isnan(dst[3]) && isnan(dst[5]) && isnan(dst[7]));
        op.dst_dtype = DD_I32;
        assert_int_equal(run_op(DD_OPERATOR_scatter, dtype, &op), DD_ERR_DTYPE);
    }
}

void scores_of_rows(void **state)
{
    const double x[12] = {1, 5, -2, -3, -1, -7, INFINITY, 0, NAN, NAN, 2, 1}, expected[4] = {5, -1, NAN, NAN};
    FOR_BOTH_TYPES(dtype)
    {
        void *y = fresh_reals(dtype, 4);
        const dd_op_row_max op = {reals(dtype, 12, x), y, 4, 3};
        assert_int_equal(run_op(DD_OPERATOR_row_max, dtype, &op), DD_OK);
        for (int i = 0; i < 4; i++) {
            const double got = real_at(dtype, y, i);
            assert_true(isnan(expected[i]) ? isnan(got) : got == expected[i]);
        }
    }
}

void rows_added_to_a_table(void **state)
{
    const double x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, before[6] = {10, 20, 30, 40, 50, 60}, expected[6] = {18, 30, 30, 40, 55, 66};
    const int32_t index[4] = {0, -1, 2, 0};
    FOR_BOTH_TYPES(dtype)
    {
        void *table = reals(dtype, 6, before);
        const dd_op_add_rows op = {reals(dtype, 8, x), index, table, 4, 2};
        assert_int_equal(run_op(DD_OPERATOR_add_rows, dtype, &op), DD_OK);
        for (int i = 0; i < 6; i++) {
            assert_true(real_at(dtype, table, i) == expected[i]);
        }
    }
}

void references_of_padded_maps(void **state)
{
    const double x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, ratio[8] = {0.5, 0.25, 9, 9, 1, 2, 9, 9}; /* two levels; the first counts */
    const double expected[8] = {0.5, 0.5, 1.5, 1, 5, 12, 7, 16};
    FOR_BOTH_TYPES(dtype)
    {
        void *y = fresh_reals(dtype, 8);
        const dd_op_scale_references op = {reals(dtype, 8, x), reals(dtype, 8, ratio), y, 1, 2, 2, 4};
        assert_int_equal(run_op(DD_OPERATOR_scale_references, dtype, &op), DD_OK);
        for (int i = 0; i < 8; i++) {
            assert_true(real_at(dtype, y, i) == expected[i]);
        }
    }
}
