/* SPDX-License-Identifier: Apache-2.0
 * Teacher entries of the feature loss and their quality (distillation B.2, B.4). */
#include "backend/ref/box.h"
#include "backend/ref/math.h"

/* The next entry of a descending order with ties by lower index, after entry `last` (-1: the first of all). */
static int64_t next_highest(const real *x, int64_t count, int64_t last)
{
    int64_t best = -1;
    for (int64_t i = 0; i < count; i++) {
        const int after = last < 0 || x[i] < x[last] || (x[i] == x[last] && i > last);
        if (after && (best < 0 || x[i] > x[best])) {
            best = i;
        }
    }
    return best;
}

/* Query n with class score c. */
static real quality_of(const dd_op_quality *op, int64_t image, int64_t b, int64_t n, real c)
{
    const real *size = (const real *)op->sizes + b * 2, *gt_boxes = op->gt_boxes;
    const ref_box box = ref_corners((const real *)op->boxes + (image * op->N + n) * 4, size);
    int32_t first = op->gt_offsets[b], end = op->gt_offsets[b + 1];
    if (op->matched) {
        const int32_t object = op->match[image * op->N + n];
        if (object < 0) {
            return 0;
        }
        first += object;
        end = first + 1;
    } else if (first == end) {
        return (real)ddi_power(c, op->gamma_class);
    }
    real iou = 0;
    for (int32_t g = first; g < end; g++) {
        const ref_box object_box = ref_corners(gt_boxes + (int64_t)g * 4, size);
        iou = ddi_ref_max(iou, ref_iou(&box, &object_box, (real)1e-6));
    }
    return (real)(ddi_power(c, op->gamma_class) * ddi_power(iou, op->gamma_iou));
}

/* Entry k of an image; `at` is the entry before it in the order and becomes this one's flat index. Where there is no class, or
 * no entry is left because of NaN, the score is 0. */
static void put_entry(const dd_op_quality *op, int64_t image, int64_t k, int64_t *at)
{
    const real *logits = (const real *)op->logits + image * op->N * op->C;
    int64_t query = k, index = k;
    if (op->all_queries) {
        *at = next_highest(logits + k * op->C, op->C, -1);
        *at += *at < 0 ? 0 : k * op->C;
    } else {
        *at = next_highest(logits, (int64_t)op->N * op->C, *at);
        index = *at < 0 ? 0 : *at;
        query = index / op->C;
    }
    const real c = *at < 0 ? 0 : (real)ddi_sigmoid(logits[*at]);
    op->index[image * op->K + k] = (int32_t)index;
    ((real *)op->quality)[image * op->K + k] = quality_of(op, image, image % op->B, query, c);
}

dd_status REF(quality)(dd_exec *exec, const void *args)
{
    const dd_op_quality *op = args;
    for (int64_t image = 0; image < (int64_t)op->L * op->B; image++) {
        int64_t at = -1;
        for (int64_t k = 0; k < op->K; k++) {
            put_entry(op, image, k, &at);
        }
    }
    return DD_OK;
}
