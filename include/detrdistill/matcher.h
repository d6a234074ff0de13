/* SPDX-License-Identifier: Apache-2.0
 * Bipartite matching: predictions with objects, student predictions with teacher predictions, and the bare
 * assignment problem. Sources: shared spec detectors 1.14; distillation A.3, A.6. */
#ifndef DETRDISTILL_MATCHER_H
#define DETRDISTILL_MATCHER_H

#include <detrdistill/context.h>
#include <detrdistill/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Minimum-cost assignment of min(rows, cols) pairs; exact. Element (i, j) of the cost lies at
 * cost[i*row_stride + j*col_stride]. row_to_col[i] gets the column of row i, or -1 (only when rows > cols).
 * *total (may be NULL) gets the sum of the chosen costs. The pairing is scipy.optimize.linear_sum_assignment's wherever
 * the optimum is unique. Sums and dual values are in double for both types.
 * Errors: ARGUMENT, LIMIT (16,384 rows or columns), NONFINITE (naming row as image, column as query), NOMEM. Nothing
 * is written on error. No handle, no state: any thread. */
DD_API dd_status dd_assign_f32(const float *cost, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride,
                               int32_t *row_to_col, double *total);
DD_API dd_status dd_assign_f64(const double *cost, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride,
                               int32_t *row_to_col, double *total);

typedef struct dd_matcher dd_matcher;

/* Makes a matcher. Options (dd_options_help("matcher")):
 *   with=objects|teacher         what predictions are matched with
 *   family=deformable-detr|conditional-detr|adamixer|dino   conventions of the cost: epsilon, box form of L1, space of GIoU
 *   class=2 l1=5 giou=2          weights (with=teacher: class=1)
 *   split=0|1                    with=teacher: the paper's two matchings, positives then negatives (needs gt.*)
 *   nonfinite=error|skip|clamp   a NaN or infinity: fail, leave the image out, or replace it (NaN by 0, Inf by +-1e4)
 * Errors: ARGUMENT, OPTION, LIMIT, NOMEM. */
DD_API dd_status dd_matcher_create(dd_matcher **matcher, dd_context *context, const char *options);
DD_API void dd_matcher_free(dd_matcher *matcher);

/* Binds a tensor view by name; NULL unbinds. The memory must stay until it is bound anew or the matcher freed; it is read
 * by dd_matcher_run only. Floats: f32, f64, f16 or bf16, any strides. Boxes are (cx,cy,w,h) in 0..1.
 *   student.logits [L,B,N,C] or [B,N,C]    student.boxes [L,B,N,4]         the predictions that are matched
 *   teacher.logits [L',B,M,C]  teacher.boxes [L',B,M,4]                    with=teacher
 *   gt.boxes [G,4]  gt.labels [G] i32|i64  gt.offsets [B+1] i32|i64        objects of image b: offsets[b] .. offsets[b+1]-1
 *   gt.crowd [G] u8 (optional: 1 = ignored)                                on the CPU, or on the context's device
 *   image.sizes [B,2] (W,H) in pixels; needed unless the family measures GIoU on normalised boxes
 * Errors: ARGUMENT, NOT_FOUND (no such name; did you mean ..), SHAPE, DTYPE, DEVICE, LIMIT. */
DD_API dd_status dd_matcher_bind(dd_matcher *matcher, const char *name, const dd_tensor *tensor);

/* Matches all stages and images. Teacher stages are mapped to student stages as by stage=grouped (distillation A.5).
 * Errors: STATE (a tensor is missing, or the handle is in use), SHAPE, NONFINITE, LIMIT, NOMEM, BACKEND, CANCELLED. */
DD_API dd_status dd_matcher_run(dd_matcher *matcher);

/* Blocks of the last run: pairs of stages x images. */
DD_API dd_status dd_matcher_count(const dd_matcher *matcher, int32_t *stages, int32_t *images);

/* The result of one block: match[i] is the object (index in the image, before crowd boxes were dropped) or teacher query of
 * student query i, or -1; `count` is the number of student queries; `cost` the total cost of the chosen pairs. Pointers may be
 * NULL. Borrowed: lives until the next run or free. Errors: ARGUMENT, STATE (no run yet), NOT_FOUND (index). */
DD_API dd_status dd_matcher_get(dd_matcher *matcher, int32_t stage, int32_t image, const int32_t **match, int64_t *count,
                                double *cost);

#ifdef __cplusplus
}
#endif
#endif
