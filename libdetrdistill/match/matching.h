/* SPDX-License-Identifier: Apache-2.0
 * Matching of predictions with objects (detectors 1.14) and with teacher predictions (distillation A.3, A.6). */
#ifndef DDI_MATCH_MATCHING_H
#define DDI_MATCH_MATCHING_H

#include "match/conventions.h"
#include "match/objects.h"

/* Logits and boxes of all stages, contiguous on the device. */
typedef struct ddi_predictions {
    const void *logits, *boxes; /* [stages,B,queries,classes], [..,4] */
    int32_t stages, queries, classes;
    const char *name; /* "student", for errors */
} ddi_predictions;

/* Checks a pair of bound tensors, [stages, images, queries, classes] and [.., 4], and makes them ready; -1 leaves a size open.
 */
dd_status ddi_predictions_take(ddi_exec *exec, ddi_predictions *predictions, ddi_input *logits, ddi_input *boxes, int32_t dtype,
                               int64_t images, int64_t classes);

/* The same for the tokens of an encoder: one stage, and more of them than queries may be. */
dd_status ddi_proposals_take(ddi_exec *exec, ddi_predictions *predictions, ddi_input *logits, ddi_input *boxes, int32_t dtype,
                             int64_t images, int64_t classes);

/* Teacher targets (A.2). */
typedef struct ddi_targets {
    void *prob, *xyxy, *cxcywh;
    ddi_buffer memory[3];
    int32_t stages, queries, classes;
} ddi_targets;

/* A matching: all stages (or pairs of stages) and images. */
typedef struct ddi_matching {
    int32_t blocks, stages, images, queries; /* blocks = stages * images */
    int32_t *match;                          /* device [stages,B,queries] */
    int32_t *kind;                           /* device, or NULL */
    double *total;                           /* device [stages,B] */
    int64_t *bad;                            /* device: first non-finite cost */
    const char *name;                        /* "student" or "student and teacher" */
    bool of_objects;
    int32_t partners;       /* objects of the batch, or teacher queries */
    double *total_negative; /* device [stages,B]: totals of the second matching of a split */
    ddi_buffer cost, memory, split, host_blocks, device_blocks, host_results;
    const int32_t *host_match, *host_kind;
    const double *host_total;
} ddi_matching;

typedef struct ddi_match_weights {
    double class_cost, l1, giou;
} ddi_match_weights;

dd_status ddi_match_objects(ddi_exec *exec, int32_t dtype, const ddi_conventions *conventions, ddi_match_weights weights,
                            const ddi_predictions *predictions, const ddi_objects *objects, ddi_matching *matching);

dd_status ddi_teacher_targets(ddi_exec *exec, int32_t dtype, const ddi_predictions *teacher, const ddi_objects *objects,
                              ddi_targets *targets);

/* Pairs of stages (A.5), on the host and the device. */
typedef struct ddi_stage_pairs {
    int32_t count;
    int32_t *pair, *d_pair; /* [count][2]: student stage, teacher stage */
    ddi_buffer host, device;
} ddi_stage_pairs;

typedef enum { DDI_STAGE_GROUPED, DDI_STAGE_FIRST } ddi_stage_map;
dd_status ddi_stage_pairs_make(ddi_exec *exec, ddi_stage_pairs *pairs, int32_t student, int32_t teacher, ddi_stage_map map);
/* The last teacher stage that teaches student stage s. */
int32_t ddi_stage_last_teacher(const ddi_stage_pairs *pairs, int32_t s);

/* teacher_match (or NULL): the teacher's own matching with objects; then positives and negatives are matched apart (A.6). */
dd_status ddi_match_teacher(ddi_exec *exec, int32_t dtype, int32_t l1_xyxy, ddi_match_weights weights,
                            const ddi_predictions *student, const ddi_targets *targets, const ddi_objects *objects,
                            const ddi_stage_pairs *pairs, const int32_t *teacher_match, ddi_matching *matching);

/* Brings match, kind, total and bad to the host (waits for the device); after it, under policy error a non-finite cost is an
 * error that names where. */
dd_status ddi_matching_fetch(ddi_exec *exec, ddi_matching *matching, const ddi_objects *objects, ddi_nonfinite policy);
void ddi_matching_free(ddi_exec *exec, ddi_matching *matching);

#endif
