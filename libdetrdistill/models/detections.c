/* SPDX-License-Identifier: Apache-2.0
 * Detections of an image: the pairs (query, class) with the highest scores (detectors.md section 9). */
#include "base/error.h"
#include "models/model.h"

#include <math.h>

/* A pair by its place in [N,K]. The order is that of logits, not scores: those of large logits round to the same number. Of
 * equals the earlier pair is better. */
typedef struct pair {
    double logit;
    int64_t place;
} pair;

static bool is_better(pair a, pair b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.place < b.place);
}

/* heap[0] is the worst of the pairs kept. */
static void sink(pair *heap, int64_t count, int64_t at)
{
    for (;;) {
        int64_t worst = at;
        for (int64_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++) {
            worst = is_better(heap[worst], heap[child]) ? child : worst;
        }
        if (worst == at) {
            return;
        }
        const pair moved = heap[at];
        heap[at] = heap[worst];
        heap[worst] = moved;
        at = worst;
    }
}

static double real_at(const ddi_value *v, int32_t dtype, int64_t i)
{
    return dtype == DD_F64 ? ((const double *)(const void *)v->data)[i] : (double)((const float *)(const void *)v->data)[i];
}

/* Fills the heap with the best `most` of `pairs`; returns how many there are, or -1: a logit is no number. */
static int64_t choose(pair *heap, int64_t most, const ddi_value *logits, int32_t dtype, int64_t first, int64_t pairs,
                      double least)
{
    int64_t count = 0;
    for (int64_t i = 0; i < pairs; i++) {
        const pair p = {real_at(logits, dtype, first + i), i};
        if (isnan(p.logit)) {
            return -1;
        }
        if (1 / (1 + exp(-p.logit)) <= least) {
            continue;
        }
        if (count < most) {
            heap[count++] = p;
            for (int64_t at = count / 2 - 1; count == most && at >= 0; at--) {
                sink(heap, count, at);
            }
        } else if (is_better(p, heap[0])) {
            heap[0] = p;
            sink(heap, count, 0);
        }
    }
    for (int64_t at = count / 2 - 1; count < most && at >= 0; at--) {
        sink(heap, count, at);
    }
    return count;
}

/* Best first: the worst goes to the end, again and again. */
static void sort(pair *heap, int64_t count)
{
    while (count > 1) {
        const pair worst = heap[0];
        heap[0] = heap[--count];
        heap[count] = worst;
        sink(heap, count, 0);
    }
}

static dd_status take_room(dd_model *m, int64_t most, ddi_found *found, pair **heap)
{
    const size_t each = 4 * sizeof(double) + sizeof(double) + sizeof(int64_t) + sizeof(pair) + sizeof(int32_t);
    DDI_TRY(ddi_buffer_reserve(&m->exec, &m->found, (size_t)most * each, false, "detections"));
    found->boxes = m->found.data;
    found->scores = found->boxes + 4 * most;
    *heap = (pair *)(void *)(found->scores + most);
    found->labels = (int64_t *)(void *)(*heap + most);
    found->queries = (int32_t *)(void *)(found->labels + most);
    return DD_OK;
}

dd_status ddi_model_detections(dd_model *m, int32_t image, const int32_t size[2], int64_t most, double least, ddi_found *found)
{
    if (!m->has_run) {
        return ddi_fail(DD_ERR_STATE, NULL, "dd_model_detections: call dd_model_forward first");
    }
    const ddi_value *logits = m->out.logits, *boxes = m->out.boxes;
    const int64_t L = logits->shape[0], B = logits->shape[1], N = logits->shape[2], K = logits->shape[3];
    if (image < 0 || image >= B) {
        return ddi_fail(DD_ERR_NOT_FOUND, NULL, "there is no image %d; the last batch had %lld", image, (long long)B);
    }
    pair *heap;
    most = most < N * K ? most : N * K;
    DDI_TRY(take_room(m, most, found, &heap));
    const int64_t row = ((L - 1) * B + image) * N;
    found->count = choose(heap, most, logits, m->dtype, row * K, N * K, least);
    if (found->count < 0) {
        dd_status status = ddi_fail(DD_ERR_NONFINITE, "logits", "image %d: a logit of the last stage is not a number", image);
        ddi_error_set_place(DD_PLACE_IMAGE, image);
        return status;
    }
    sort(heap, found->count);
    for (int64_t i = 0; i < found->count; i++) {
        const int64_t query = heap[i].place / K;
        double side[4];
        for (int32_t k = 0; k < 4; k++) {
            side[k] = real_at(boxes, m->dtype, (row + query) * 4 + k) * size[k % 2];
        }
        double *box = found->boxes + 4 * i;
        box[0] = side[0] - side[2] / 2;
        box[1] = side[1] - side[3] / 2;
        box[2] = side[2];
        box[3] = side[3];
        found->scores[i] = 1 / (1 + exp(-heap[i].logit));
        found->labels[i] = heap[i].place % K;
        found->queries[i] = (int32_t)query;
    }
    return DD_OK;
}
