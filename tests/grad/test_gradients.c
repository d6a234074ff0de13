/* SPDX-License-Identifier: Apache-2.0
 * One test for each operator of ops.def: its gradient is checked on 20 random shapes, or a reason is given why it has
 * none. An operator with neither fails. */
#include "differences.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { TRIALS = 20 };

static const double step = 1e-6, tolerance = 1e-6;

typedef struct operator_entry {
    const char *name;
    void (*trial)(int number);
    const char *no_gradient; /* why */
} operator_entry;

static const operator_entry entries[DD_OPERATOR_COUNT] = {
    [DD_OPERATOR_check_finite] = {.no_gradient = "a test"},
    [DD_OPERATOR_gather] = {.no_gradient = "conversion at the edge of the library; scatter brings gradients back"},
    [DD_OPERATOR_scatter] = {.no_gradient = "conversion at the edge of the library"},
    [DD_OPERATOR_gt_cost] = {.no_gradient = "matchings are constants"},
    [DD_OPERATOR_kd_targets] = {.no_gradient = "the teacher is a constant"},
    [DD_OPERATOR_kd_cost] = {.no_gradient = "matchings are constants"},
    [DD_OPERATOR_assign] = {.no_gradient = "matchings are constants"},
    [DD_OPERATOR_split_masks] = {.no_gradient = "masks are constants"},
    [DD_OPERATOR_det_loss] = {.trial = gradient_of_det_loss},
    [DD_OPERATOR_kd_loss] = {.trial = gradient_of_kd_loss},
    [DD_OPERATOR_quality] = {.no_gradient = "the teacher is a constant"},
    [DD_OPERATOR_feature_weights] = {.no_gradient = "masks are constants"},
    [DD_OPERATOR_feature_loss] = {.trial = gradient_of_feature_loss},
    [DD_OPERATOR_matmul] = {.trial = gradient_of_matmul},
    [DD_OPERATOR_row_sum] = {.trial = gradient_of_row_sum},
    [DD_OPERATOR_resize] = {.trial = gradient_of_resize},
    [DD_OPERATOR_resize_grad] = {.trial = gradient_of_resize},
    [DD_OPERATOR_take_rows] = {.trial = gradient_of_take_rows},
    [DD_OPERATOR_batchnorm_relu] = {.trial = gradient_of_batchnorm_relu},
    [DD_OPERATOR_batchnorm_relu_grad] = {.trial = gradient_of_batchnorm_relu},
    [DD_OPERATOR_l2norm] = {.trial = gradient_of_l2norm},
    [DD_OPERATOR_l2norm_grad] = {.trial = gradient_of_l2norm},
    [DD_OPERATOR_cross_entropy] = {.trial = gradient_of_cross_entropy},
    [DD_OPERATOR_linear] = {.trial = gradient_of_linear},
    [DD_OPERATOR_linear_grad] = {.trial = gradient_of_linear},
    [DD_OPERATOR_conv] = {.trial = gradient_of_conv},
    [DD_OPERATOR_conv_grad] = {.trial = gradient_of_conv},
    [DD_OPERATOR_maxpool] = {.trial = gradient_of_maxpool},
    [DD_OPERATOR_maxpool_grad] = {.trial = gradient_of_maxpool},
    [DD_OPERATOR_groupnorm] = {.trial = gradient_of_groupnorm},
    [DD_OPERATOR_groupnorm_grad] = {.trial = gradient_of_groupnorm},
    [DD_OPERATOR_layernorm] = {.trial = gradient_of_layernorm},
    [DD_OPERATOR_layernorm_grad] = {.trial = gradient_of_layernorm},
    [DD_OPERATOR_attention] = {.trial = gradient_of_attention},
    [DD_OPERATOR_attention_grad] = {.trial = gradient_of_attention},
    [DD_OPERATOR_msda] = {.trial = gradient_of_msda},
    [DD_OPERATOR_msda_grad] = {.trial = gradient_of_msda},
    [DD_OPERATOR_coord_embed] = {.trial = gradient_of_coord_embed},
    [DD_OPERATOR_coord_embed_grad] = {.trial = gradient_of_coord_embed},
    [DD_OPERATOR_relu] = {.trial = gradient_of_relu},
    [DD_OPERATOR_relu_grad] = {.trial = gradient_of_relu},
    [DD_OPERATOR_sigmoid] = {.trial = gradient_of_sigmoid},
    [DD_OPERATOR_sigmoid_grad] = {.trial = gradient_of_sigmoid},
    [DD_OPERATOR_box_refine] = {.trial = gradient_of_box_refine},
    [DD_OPERATOR_box_refine_grad] = {.trial = gradient_of_box_refine},
    [DD_OPERATOR_product] = {.trial = gradient_of_product},
    [DD_OPERATOR_product_grad] = {.trial = gradient_of_product},
    [DD_OPERATOR_dropout] = {.no_gradient = "its own gradient: linear in x"},
    [DD_OPERATOR_add] = {.no_gradient = "linear: the gradient is the operand itself"},
    [DD_OPERATOR_copy_rows] = {.no_gradient = "linear: the same copy backwards"},
    [DD_OPERATOR_mask_rows] = {.no_gradient = "its own gradient: linear in x"},
    [DD_OPERATOR_sine_position] = {.no_gradient = "positions are constants; of the embedding it is a sum"},
    [DD_OPERATOR_grid_points] = {.no_gradient = "positions are constants"},
    [DD_OPERATOR_proposals] = {.no_gradient = "positions are constants"},
    [DD_OPERATOR_top_rows] = {.no_gradient = "a choice"},
    [DD_OPERATOR_row_max] = {.no_gradient = "read by a choice alone"},
    [DD_OPERATOR_add_rows] = {.no_gradient = "the gradient of a lookup, which is linear"},
    [DD_OPERATOR_scale_references] = {.no_gradient = "references are constants here"},
    [DD_OPERATOR_adamw] = {.no_gradient = "an update"},
    [DD_OPERATOR_sum_squares] = {.no_gradient = "read by clipping alone"},
    [DD_OPERATOR_average] = {.no_gradient = "an update"},
    [DD_OPERATOR_iof_bias] = {.trial = gradient_of_iof_bias},
    [DD_OPERATOR_iof_bias_grad] = {.trial = gradient_of_iof_bias},
    [DD_OPERATOR_xyzr_start] = {.no_gradient = "positions are constants"},
    [DD_OPERATOR_xyzr_refine] = {.trial = gradient_of_xyzr_refine},
    [DD_OPERATOR_xyzr_refine_grad] = {.trial = gradient_of_xyzr_refine},
    [DD_OPERATOR_sample3d] = {.trial = gradient_of_sample3d},
    [DD_OPERATOR_sample3d_grad] = {.trial = gradient_of_sample3d},
    [DD_OPERATOR_mixing] = {.trial = gradient_of_mixing},
    [DD_OPERATOR_mixing_grad] = {.trial = gradient_of_mixing},
    [DD_OPERATOR_fold_norm] = {.trial = gradient_of_fold_norm},
    [DD_OPERATOR_fold_norm_grad] = {.trial = gradient_of_fold_norm},
};

static const char *const operator_name[] = {
#define DD_OP(name, type, text) #name,
#include <detrdistill/sys/ops.def>
#undef DD_OP
};

static double worst; /* of the operator under test: |difference| / max |g| */
static int64_t checked;

void check_gradient(const char *what, scalar_fn scalar, void *context, double *x, int64_t count, const double *g)
{
    double largest = 0;
    for (int64_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs(g[i]));
    }
    /* Where the gradient is zero as a whole, what differences leave of it is rounding. */
    const double scale = largest > 1e-3 ? largest : 1e-3;
    for (int64_t i = 0; i < count; i++) {
        const double kept = x[i];
        x[i] = kept + step;
        const double up = x[i], above = scalar(context);
        x[i] = kept - step;
        const double down = x[i], below = scalar(context);
        x[i] = kept;
        const double difference = (above - below) / (up - down), error = fabs(g[i] - difference) / scale;
        if (!(error <= tolerance)) {
            print_error("%s[%lld]: gradient %.12g, by differences %.12g, largest %.6g\n", what, (long long)i, g[i], difference,
                        largest);
            fail();
        }
        worst = fmax(worst, error);
        checked++;
    }
}

void run_f64(int32_t op, const void *args)
{
    assert_int_equal(run_op(op, DD_F64, args), DD_OK);
}

double weighted_sum(const double *weight, const double *y, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += weight[i] * y[i];
    }
    return sum;
}

int32_t random_size(int trial)
{
    static const int32_t size[] = {1, 2, 3, 4, 5, 7};
    return trial == 0 ? 1 : size[random_below(6)];
}

static void check_operator(void **state)
{
    const operator_entry *entry = *state;
    const int32_t op = (int32_t)(entry - entries);
    if (entry->no_gradient) {
        assert_null(entry->trial);
        return;
    }
    if (!entry->trial) {
        print_error("%s has neither a gradient test nor a reason to have none\n", operator_name[op]);
        fail();
    }
    worst = 0;
    checked = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        entry->trial(trial);
        release();
    }
    assert_true(checked >= TRIALS);
    print_message("# %s: worst %.2e of %lld derivatives\n", operator_name[op], worst, (long long)checked);
}

int main(void)
{
    struct CMUnitTest tests[DD_OPERATOR_COUNT];
    for (int32_t op = 0; op < DD_OPERATOR_COUNT; op++) {
        tests[op] = (struct CMUnitTest){operator_name[op], check_operator, NULL, NULL, (void *)&entries[op]};
    }
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
