/* SPDX-License-Identifier: Apache-2.0
 * Teacher entries and their quality (distillation B.2, B.4). */
#include "backend/cpu/box.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"

/* Does (x, at) come before (y, other) in the order: higher value, then lower index? */
INLINE bool precedes(const float *x, int32_t at, int32_t other)
{
    return x[at] > x[other] || (x[at] == x[other] && at < other);
}

/* The best so far as a heap of indices, the last of them in the order on top. */
static void sift_down(const float *x, int32_t *heap, int32_t count, int32_t hole, int32_t value)
{
    for (int32_t child; (child = 2 * hole + 1) < count; hole = child) {
        if (child + 1 < count && precedes(x, heap[child], heap[child + 1])) {
            child++;
        }
        if (precedes(x, heap[child], value)) {
            break;
        }
        heap[hole] = heap[child];
    }
    heap[hole] = value;
}

static void sift_up(const float *x, int32_t *heap, int32_t hole, int32_t value)
{
    while (hole > 0 && precedes(x, heap[(hole - 1) / 2], value)) {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = value;
}

/* Writes the indices of the K highest of x, in order. Returns how many there are without NaN, at most K. */
static int32_t highest(const float *x, int64_t count, int32_t K, int32_t *heap)
{
    int32_t held = 0;
    int64_t i = 0;
    for (; i < count && held < K; i++) {
        if (!isnan(x[i])) {
            sift_up(x, heap, held++, (int32_t)i);
        }
    }
    while (i < count) { /* only values above the lowest held can enter: a tie loses by its index */
        const int64_t lanes = minimum(VW, count - i);
        uint32_t enter =
            K == 0 ? 0 : v_bits(v_less(v_set(x[heap[0]]), v_load_n(x + i, lanes))) & (uint32_t)((1ull << lanes) - 1);
        for (; enter; enter &= enter - 1) {
            const int32_t at = (int32_t)(i + __builtin_ctz(enter));
            if (precedes(x, at, heap[0])) {
                sift_down(x, heap, held, 0, at);
            }
        }
        i += lanes;
    }
    for (int32_t last = held - 1; last > 0; last--) {
        const int32_t lowest = heap[0];
        sift_down(x, heap, last, 0, heap[last]);
        heap[last] = lowest;
    }
    return held;
}

/* 0^0 = 1 */
INLINE double power_of(double x, double exponent)
{
    return exponent == 1 ? x : exponent == 0 ? 1 : pow(x, exponent);
}

/* Quality of query n with class score c. */
static double quality_of(const dd_op_quality *op, int64_t image, int64_t n, double c)
{
    const int64_t b = image % op->B;
    const float *size = (const float *)op->sizes + b * 2;
    const corner_box box = corners_of((const float *)op->boxes + (image * op->N + n) * 4, size);
    int32_t first = op->gt_offsets[b], end = op->gt_offsets[b + 1];
    if (op->matched) {
        const int32_t object = op->match[image * op->N + n];
        if (object < 0) {
            return 0;
        }
        first += object;
        end = first + 1;
    } else if (first == end) {
        return power_of(c, op->gamma_class);
    }
    double iou = 0;
    for (int32_t g = first; g < end; g++) {
        const corner_box object_box = corners_of((const float *)op->gt_boxes + (int64_t)g * 4, size);
        const box_pair pair = pair_of(&box, &object_box, 1e-6);
        iou = larger(iou, iou_of_pair(&pair));
    }
    return power_of(c, op->gamma_class) * power_of(iou, op->gamma_iou);
}

INLINE double score_of(float x)
{
    return 1 / (1 + exp(-(double)x));
}

static void quality_piece(void *arg, int64_t image)
{
    const dd_op_quality *op = arg;
    const float *x = (const float *)op->logits + image * op->N * op->C;
    int32_t *index = op->index + image * op->K;
    float *quality = (float *)op->quality + image * op->K;
    const int32_t held = op->all_queries ? op->K : highest(x, (int64_t)op->N * op->C, op->K, index);
    for (int32_t k = 0; k < op->K; k++) {
        int64_t query = k;
        double c = 0; /* where there is no class, or NaN alone */
        if (op->all_queries) {
            int32_t best;
            c = highest(x + (int64_t)k * op->C, op->C, 1, &best) ? score_of(x[(int64_t)k * op->C + best]) : 0;
            index[k] = k;
        } else {
            index[k] = k < held ? index[k] : 0;
            query = index[k] / op->C;
            c = k < held ? score_of(x[index[k]]) : 0;
        }
        quality[k] = (float)quality_of(op, image, query, c);
    }
}

dd_status KERNEL(quality)(dd_exec *exec, const void *args)
{
    const dd_op_quality *op = args;
    cpu_parallel_for(exec->threads, (int64_t)op->L * op->B, quality_piece, (void *)(uintptr_t)op);
    return DD_OK;
}
