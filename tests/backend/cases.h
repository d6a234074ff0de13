/* SPDX-License-Identifier: Apache-2.0
 * The cases of test_ref, by subject; each name is a test function. */
#ifndef TEST_REF_CASES_H
#define TEST_REF_CASES_H

#include "reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#define REF_CASES(CASE)                                                                                                        \
    CASE(table_has_every_operator_in_both_types)                                                                               \
    CASE(empty_sizes_of_every_operator)                                                                                        \
    CASE(scratch_that_runs_out)                                                                                                \
    CASE(exp_and_log_to_the_last_bits)                                                                                         \
    CASE(powers)                                                                                                               \
    CASE(finite_check_names_first_and_images)                                                                                  \
    CASE(short_floats_keep_all_their_values)                                                                                   \
    CASE(short_floats_round_to_nearest_even)                                                                                   \
    CASE(gather_reads_every_type_and_stride)                                                                                   \
    CASE(gather_sanitises)                                                                                                     \
    CASE(scatter_zeroes_where_not_finite)                                                                                      \
    CASE(scores_of_rows)                                                                                                       \
    CASE(rows_added_to_a_table)                                                                                                \
    CASE(references_of_padded_maps)                                                                                            \
    CASE(focal_cost_values)                                                                                                    \
    CASE(focal_cost_at_50)                                                                                                     \
    CASE(giou_and_iou_values)                                                                                                  \
    CASE(object_cost_layout_and_l1)                                                                                            \
    CASE(object_cost_not_finite)                                                                                               \
    CASE(teacher_targets_are_clipped)                                                                                          \
    CASE(teacher_cost_values_and_matching)                                                                                     \
    CASE(teacher_cost_without_class_term)                                                                                      \
    CASE(assign_against_brute_force)                                                                                           \
    CASE(assign_of_known_optimum)                                                                                              \
    CASE(assign_more_objects_than_queries)                                                                                     \
    CASE(assign_of_empty_blocks)                                                                                               \
    CASE(assign_with_one_patched_row)                                                                                          \
    CASE(split_masks_in_three_steps)                                                                                           \
    CASE(bce_values)                                                                                                           \
    CASE(bce_at_50)                                                                                                            \
    CASE(focal_loss_values)                                                                                                    \
    CASE(focal_loss_at_50)                                                                                                     \
    CASE(detection_loss_without_objects)                                                                                       \
    CASE(detection_loss_leaves_images_out)                                                                                     \
    CASE(giou_subgradients)                                                                                                    \
    CASE(distillation_loss_kinds)                                                                                              \
    CASE(distillation_loss_adds_pairs_of_a_stage)                                                                              \
    CASE(quality_order_ties_and_exponents)                                                                                     \
    CASE(quality_of_all_queries)                                                                                               \
    CASE(quality_without_objects)                                                                                              \
    CASE(feature_values_sum_max)                                                                                               \
    CASE(feature_values_per_query)                                                                                             \
    CASE(feature_weights_of_opposite_queries)                                                                                  \
    CASE(feature_weights_padding_and_images)                                                                                   \
    CASE(losses_of_empty_images)                                                                                               \
    CASE(matmul_values)                                                                                                        \
    CASE(row_sums)                                                                                                             \
    CASE(resize_values)                                                                                                        \
    CASE(take_rows_both_ways)                                                                                                  \
    CASE(batchnorm_values)                                                                                                     \
    CASE(l2norm_values)                                                                                                        \
    CASE(cross_entropy_values)                                                                                                 \
    CASE(overlap_of_boxes)                                                                                                     \
    CASE(positions_move_by_their_size)                                                                                         \
    CASE(samples_of_two_levels)                                                                                                \
    CASE(mixing_values)                                                                                                        \
    CASE(folded_norm_values)

#define REF_DECLARE(name) void name(void **state);
REF_CASES(REF_DECLARE)
#undef REF_DECLARE

/* Fails unless |value - expected| <= tolerance * max(1, |expected|); NaN fails. */
#define assert_near(value, expected, tolerance) near_or_fail(value, expected, tolerance, __FILE__, __LINE__)

static inline void near_or_fail(double value, double expected, double tolerance, const char *file, int line)
{
    const double scale = fabs(expected) > 1 ? fabs(expected) : 1;
    if (!(fabs(value - expected) <= tolerance * scale)) {
        print_error("%s:%d: %.17g is not %.17g (to %g)\n", file, line, value, expected, tolerance);
        fail();
    }
}

/* What one rounding of a type allows, with some steps in between. */
static inline double type_tolerance(int32_t dtype)
{
    return dtype == DD_F32 ? 1e-6 : 1e-14;
}

#define FOR_BOTH_TYPES(dtype) for (int32_t dtype = DD_F32; dtype <= DD_F64; dtype++)

#endif
