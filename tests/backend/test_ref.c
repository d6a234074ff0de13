/* SPDX-License-Identifier: Apache-2.0
 * Tests of the reference kernels: values worked out by hand or given in shared/spec/distillation.md section E, and edges. */
#include "cases.h"

#include "backend/ref/ref.h"

void table_has_every_operator_in_both_types(void **state)
{
    int32_t count, seen[DD_OPERATOR_COUNT][2] = {{0}};
    const dd_kernel *kernels = ddi_ref_kernels(&count);
    for (int32_t i = 0; i < count; i++) {
        assert_in_range(kernels[i].op, 0, DD_OPERATOR_COUNT - 1);
        assert_in_range(kernels[i].dtype, DD_F32, DD_F64);
        seen[kernels[i].op][kernels[i].dtype - DD_F32]++;
        assert_string_equal(kernels[i].name, "ref");
        assert_int_equal(kernels[i].isa, DD_ISA_NONE);
        assert_non_null(kernels[i].run);
        assert_null(kernels[i].accepts);
    }
    for (int32_t op = 0; op < DD_OPERATOR_COUNT; op++) {
        assert_int_equal(seen[op][0], 1);
        assert_int_equal(seen[op][1], 1);
    }
}

/* Room for the arguments of any operator. */
typedef union any_args {
#define DD_OP(name, type, text) type name;
#include <detrdistill/sys/ops.def>
#undef DD_OP
} any_args;

void empty_sizes_of_every_operator(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        for (int32_t op = 0; op < DD_OPERATOR_COUNT; op++) {
            int64_t first = 5;
            double loss = 5, squares = 5;
            any_args args;
            memset(&args, 0, sizeof args);
            if (op == DD_OPERATOR_check_finite) {
                args.check_finite.first = &first;
            }
            if (op == DD_OPERATOR_cross_entropy) {
                args.cross_entropy.loss = &loss;
            }
            if (op == DD_OPERATOR_sum_squares) {
                args.sum_squares.sum = &squares;
            }
            if (op == DD_OPERATOR_gather || op == DD_OPERATOR_scatter) { /* both start with two pointers, a type, ndim, shape */
                args.gather.src_dtype = DD_F32;
                args.gather.ndim = 2;
                args.gather.shape[0] = 3;
            }
            assert_int_equal(run_op(op, dtype, &args), DD_OK);
            assert_int_equal(first, op == DD_OPERATOR_check_finite ? -1 : 5);
            assert_true(squares == (op == DD_OPERATOR_sum_squares ? 0 : 5));
            assert_true(loss == (op == DD_OPERATOR_cross_entropy ? 0 : 5));
        }
    }
    release();
}

/* Every request for scratch that is refused ends in NOMEM. */
void scratch_that_runs_out(void **state)
{
    static const int32_t with_scratch[] = {DD_OPERATOR_assign,      DD_OPERATOR_feature_weights, DD_OPERATOR_feature_loss,
                                           DD_OPERATOR_resize_grad, DD_OPERATOR_sample3d_grad,   DD_OPERATOR_mixing,
                                           DD_OPERATOR_mixing_grad};
    any_args args;
    memset(&args, 0, sizeof args);
    for (size_t i = 0; i < sizeof with_scratch / sizeof with_scratch[0]; i++) {
        FOR_BOTH_TYPES(dtype)
        {
            assert_int_equal(run_op(with_scratch[i], dtype, &args), DD_OK);
            const int pieces = scratch_asked();
            assert_true(pieces > 0);
            for (int k = 0; k < pieces; k++) {
                limit_scratch(k);
                const dd_status status = run_op(with_scratch[i], dtype, &args);
                limit_scratch(-1);
                assert_int_equal(status, DD_ERR_NOMEM);
            }
        }
    }
}

static int end_of_case(void **state)
{
    release();
    return 0;
}

int main(void)
{
#define REF_ENTRY(name) cmocka_unit_test_teardown(name, end_of_case),
    const struct CMUnitTest tests[] = {REF_CASES(REF_ENTRY)};
    return cmocka_run_group_tests_name("reference kernels", tests, NULL, NULL);
}
