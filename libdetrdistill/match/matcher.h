/* SPDX-License-Identifier: Apache-2.0
 * The matcher behind dd_matcher: predictions with objects, or student with teacher. */
#ifndef DDI_MATCH_MATCHER_H
#define DDI_MATCH_MATCHER_H

#include "match/finite.h"
#include "match/matching.h"

enum {
    DDI_MATCHER_STUDENT_LOGITS,
    DDI_MATCHER_STUDENT_BOXES,
    DDI_MATCHER_TEACHER_LOGITS,
    DDI_MATCHER_TEACHER_BOXES,
    DDI_MATCHER_GT_BOXES,
    DDI_MATCHER_GT_LABELS,
    DDI_MATCHER_GT_OFFSETS,
    DDI_MATCHER_GT_CROWD,
    DDI_MATCHER_SIZES,
    DDI_MATCHER_INPUTS
};

typedef struct ddi_matcher_settings {
    int32_t with, family, split, nonfinite; /* choices */
    double class_cost, l1, giou;            /* class_cost < 0: the default of `with` */
} ddi_matcher_settings;

extern const ddi_option_table ddi_matcher_options;

typedef struct dd_matcher {
    ddi_exec exec;
    ddi_matcher_settings settings;
    ddi_input input[DDI_MATCHER_INPUTS];
    ddi_objects objects;
    ddi_targets targets;
    ddi_stage_pairs pairs;
    ddi_matching matching, teacher_matching;
    ddi_finite_scan scan;
    ddi_buffer original; /* matches as indices before crowd boxes were dropped */
    bool has_run;
} dd_matcher;

dd_status ddi_matcher_init(dd_matcher *matcher, dd_context *context, const char *options);
dd_status ddi_matcher_run(dd_matcher *matcher);
void ddi_matcher_free(dd_matcher *matcher);

/* Rewrites object numbers of one block to those before crowd boxes were dropped. */
void ddi_original_objects(const ddi_objects *objects, int32_t image, const int32_t *match, int32_t *out, int32_t count);

#endif
