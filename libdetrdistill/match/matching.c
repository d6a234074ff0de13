/* SPDX-License-Identifier: Apache-2.0
 * Matching of predictions with objects and with teacher predictions. */
#include "match/matching.h"
#include "base/error.h"
#include "base/limits.h"

#include <math.h>
#include <string.h>

static dd_status check_sizes(const ddi_input *logits, int64_t queries)
{
    const int64_t *n = logits->tensor.shape;
    const struct {
        const char *what;
        int64_t limit;
    } limits[4] = {{"stages", DDI_MAX_STAGES}, {"images", DDI_MAX_IMAGES}, {"queries", queries}, {"classes", DDI_MAX_CLASSES}};
    for (int32_t i = 0; i < 4; i++) {
        if (n[i] < 1)
            return ddi_fail(DD_ERR_SHAPE, logits->name, "%s has no %s", logits->name, limits[i].what);
        if (n[i] > limits[i].limit)
            return ddi_fail(DD_ERR_LIMIT, logits->name, "%s has %lld %s; at most %lld are possible", logits->name,
                            (long long)n[i], limits[i].what, (long long)limits[i].limit);
    }
    return DD_OK;
}

/* Shapes are checked but for the boxes'. */
static dd_status take(ddi_exec *x, ddi_predictions *p, ddi_input *logits, ddi_input *boxes, int32_t dtype)
{
    const int64_t *n = logits->tensor.shape;
    DDI_TRY(ddi_input_expect(boxes, 4, (int64_t[]){n[0], n[1], n[2], 4}));
    DDI_TRY(ddi_input_stage(x, logits, dtype, false));
    DDI_TRY(ddi_input_stage(x, boxes, dtype, false));
    *p = (ddi_predictions){.logits = logits->data,
                           .boxes = boxes->data,
                           .stages = (int32_t)n[0],
                           .queries = (int32_t)n[2],
                           .classes = (int32_t)n[3],
                           .name = logits->name};
    return DD_OK;
}

dd_status ddi_predictions_take(ddi_exec *x, ddi_predictions *p, ddi_input *logits, ddi_input *boxes, int32_t dtype,
                               int64_t images, int64_t classes)
{
    DDI_TRY(ddi_input_expect(logits, 4, (int64_t[]){-1, images, -1, classes}));
    DDI_TRY(check_sizes(logits, DDI_MAX_QUERIES));
    return take(x, p, logits, boxes, dtype);
}

dd_status ddi_proposals_take(ddi_exec *x, ddi_predictions *p, ddi_input *logits, ddi_input *boxes, int32_t dtype,
                             int64_t images, int64_t classes)
{
    DDI_TRY(ddi_input_expect(logits, 4, (int64_t[]){1, images, -1, classes}));
    DDI_TRY(check_sizes(logits, DDI_MAX_PROPOSALS));
    return take(x, p, logits, boxes, dtype);
}

/* Results of a matching lie in one piece: totals, bad flag, match, kind. */
static size_t results_bytes(const ddi_matching *m, bool with_kind)
{
    size_t entries = (size_t)m->blocks * (size_t)m->queries;
    return ((size_t)m->blocks + 1) * 8 + entries * 4 * (with_kind ? 2 : 1);
}

static dd_status prepare_results(ddi_exec *x, ddi_matching *m, bool with_kind)
{
    size_t entries = (size_t)m->blocks * (size_t)m->queries;
    DDI_TRY(ddi_buffer_reserve(x, &m->memory, results_bytes(m, with_kind), true, "a matching"));
    m->total = m->memory.data;
    m->bad = (int64_t *)(m->total + m->blocks);
    m->match = (int32_t *)(m->bad + 1);
    m->kind = with_kind ? m->match + entries : NULL;
    static const int64_t none = INT64_MAX;
    return ddi_copy(x, m->bad, &none, sizeof none, ddi_on_host(x) ? DD_COPY_ON_DEVICE : DD_COPY_TO_DEVICE);
}

static dd_status reserve_blocks(ddi_exec *x, ddi_matching *m, dd_assign_block **host)
{
    size_t bytes = (size_t)m->blocks * sizeof(dd_assign_block);
    DDI_TRY(ddi_buffer_reserve(x, &m->host_blocks, bytes, false, "cost blocks"));
    *host = m->host_blocks.data;
    return ddi_on_host(x) ? DD_OK : ddi_buffer_reserve(x, &m->device_blocks, bytes, true, "cost blocks");
}

/* Solves blocks first .. first+count-1. */
static dd_status solve(ddi_exec *x, int32_t dtype, ddi_matching *m, dd_op_assign *assign, int32_t first, int32_t count)
{
    size_t bytes = (size_t)count * sizeof(dd_assign_block);
    assign->blocks = count;
    assign->host_block = (const dd_assign_block *)m->host_blocks.data + first;
    assign->block = assign->host_block;
    if (!ddi_on_host(x)) {
        assign->block = (const dd_assign_block *)m->device_blocks.data + first;
        DDI_TRY(ddi_copy(x, (dd_assign_block *)m->device_blocks.data + first, assign->host_block, bytes, DD_COPY_TO_DEVICE));
    }
    return ddi_run(x, DD_OPERATOR_assign, dtype, assign);
}

dd_status ddi_match_objects(ddi_exec *x, int32_t dtype, const ddi_conventions *v, ddi_match_weights w, const ddi_predictions *p,
                            const ddi_objects *o, ddi_matching *m)
{
    int32_t B = o->images, G = o->count, N = p->queries;
    m->stages = p->stages;
    m->images = B;
    m->queries = N;
    m->blocks = p->stages * B;
    m->name = p->name;
    m->of_objects = true;
    m->partners = G;
    dd_assign_block *block;
    DDI_TRY(prepare_results(x, m, false));
    DDI_TRY(reserve_blocks(x, m, &block));
    size_t entries = (size_t)p->stages * (size_t)G * (size_t)N;
    DDI_TRY(ddi_buffer_reserve(x, &m->cost, entries * (size_t)dd_dtype_size(dtype), true, "matching costs"));
    dd_op_gt_cost cost = {.logits = p->logits,
                          .boxes = p->boxes,
                          .gt_boxes = o->d_boxes,
                          .gt_labels = o->d_labels,
                          .gt_offsets = o->d_offsets,
                          .sizes = o->d_sizes,
                          .cost = m->cost.data,
                          .bad = m->bad,
                          .S = p->stages,
                          .B = B,
                          .N = N,
                          .C = p->classes,
                          .G = G,
                          .l1_xyxy = v->l1_xyxy,
                          .giou_pixels = v->giou_pixels,
                          .w_class = w.class_cost,
                          .w_l1 = w.l1,
                          .w_giou = w.giou,
                          .class_eps = v->class_eps,
                          .giou_eps = v->giou_eps};
    DDI_TRY(ddi_run(x, DD_OPERATOR_gt_cost, dtype, &cost));
    for (int32_t s = 0; s < p->stages; s++) {
        for (int32_t b = 0; b < B; b++) {
            int64_t first = (int64_t)s * G + o->offsets[b];
            block[s * B + b] = (dd_assign_block){.cost_offset = first * N,
                                                 .row_offset = first,
                                                 .col_offset = ((int64_t)s * B + b) * N,
                                                 .rows = o->offsets[b + 1] - o->offsets[b],
                                                 .cols = N};
        }
    }
    dd_op_assign assign = {
        .cost = m->cost.data, .match = m->match, .total = m->total, .by_columns = 1, .max_rows = o->most, .max_cols = N};
    return solve(x, dtype, m, &assign, 0, m->blocks);
}

dd_status ddi_teacher_targets(ddi_exec *x, int32_t dtype, const ddi_predictions *teacher, const ddi_objects *o, ddi_targets *t)
{
    size_t rows = (size_t)teacher->stages * (size_t)o->images * (size_t)teacher->queries, real = (size_t)dd_dtype_size(dtype);
    const size_t width[3] = {(size_t)teacher->classes, 4, 4};
    for (int32_t i = 0; i < 3; i++)
        DDI_TRY(ddi_buffer_reserve(x, &t->memory[i], rows * width[i] * real, true, "teacher targets"));
    t->prob = t->memory[0].data;
    t->xyxy = t->memory[1].data;
    t->cxcywh = t->memory[2].data;
    t->stages = teacher->stages;
    t->queries = teacher->queries;
    t->classes = teacher->classes;
    dd_op_kd_targets args = {.logits = teacher->logits,
                             .boxes = teacher->boxes,
                             .sizes = o->d_sizes,
                             .prob = t->prob,
                             .xyxy = t->xyxy,
                             .cxcywh = t->cxcywh,
                             .L = t->stages,
                             .B = o->images,
                             .N = t->queries,
                             .C = t->classes};
    return ddi_run(x, DD_OPERATOR_kd_targets, dtype, &args);
}

dd_status ddi_stage_pairs_make(ddi_exec *x, ddi_stage_pairs *pairs, int32_t student, int32_t teacher, ddi_stage_map map)
{
    if (map == DDI_STAGE_GROUPED && teacher % student != 0)
        return ddi_fail(DD_ERR_SHAPE, "teacher.logits",
                        "teacher.logits has %d stages, student.logits %d: grouping needs a multiple; "
                        "stage=first takes the first %d",
                        teacher, student, student);
    if (map == DDI_STAGE_FIRST && teacher < student)
        return ddi_fail(DD_ERR_SHAPE, "teacher.logits",
                        "teacher.logits has %d stages, student.logits %d: stage=first needs at least "
                        "as many",
                        teacher, student);
    int32_t group = map == DDI_STAGE_GROUPED ? teacher / student : 1;
    pairs->count = student * group;
    size_t bytes = (size_t)pairs->count * 2 * sizeof(int32_t);
    DDI_TRY(ddi_buffer_reserve(x, &pairs->host, bytes, false, "stage pairs"));
    pairs->pair = pairs->d_pair = pairs->host.data;
    for (int32_t n = 0; n < pairs->count; n++) {
        pairs->pair[2 * n] = n / group;
        pairs->pair[2 * n + 1] = n;
    }
    if (ddi_on_host(x))
        return DD_OK;
    DDI_TRY(ddi_buffer_reserve(x, &pairs->device, bytes, true, "stage pairs"));
    pairs->d_pair = pairs->device.data;
    return ddi_copy(x, pairs->d_pair, pairs->pair, bytes, DD_COPY_TO_DEVICE);
}

int32_t ddi_stage_last_teacher(const ddi_stage_pairs *pairs, int32_t s)
{
    int32_t last = 0;
    for (int32_t n = 0; n < pairs->count; n++)
        if (pairs->pair[2 * n] == s)
            last = pairs->pair[2 * n + 1];
    return last;
}

/* The masks of the paper's two matchings, and a second set of results for the negatives. */
typedef struct split_memory {
    uint8_t *row_use, *col_use;
    int32_t *match;
    double *total;
} split_memory;

/* Costs of a few pairs of stages at a time: on the host a few megabytes that stay in the cache serve any number of stages.
 * Blocks do not depend on each other, so neither do results on the share. A device gets all at once. */
static int32_t pairs_at_once(const ddi_exec *x, const dd_op_kd_cost *cost, int32_t dtype)
{
    enum { SHARE_BYTES = 2 << 20 };
    if (!ddi_on_host(x))
        return cost->n_pairs;
    int64_t pair_bytes = (int64_t)cost->B * cost->NS * cost->NT * dd_dtype_size(dtype);
    int64_t by_size = SHARE_BYTES / (pair_bytes > 0 ? pair_bytes : 1),
            by_threads = (2 * x->base.threads + cost->B - 1) / cost->B;
    int64_t pairs = by_size > by_threads ? by_size : by_threads;
    return (int32_t)(pairs < cost->n_pairs ? pairs : cost->n_pairs);
}

/* Costs and assignments of all pairs, `at_once` of them at a time. */
static dd_status match_pairs(ddi_exec *x, int32_t dtype, const dd_op_kd_cost *all, const dd_op_assign *job, int32_t at_once,
                             ddi_matching *m)
{
    int64_t first_bad = INT64_MAX, none = INT64_MAX;
    for (int32_t n = 0; n < all->n_pairs; n += at_once) {
        dd_op_kd_cost cost = *all;
        dd_op_assign assign = *job;
        cost.pairs += 2 * n;
        cost.host_pairs += 2 * n;
        cost.n_pairs = all->n_pairs - n < at_once ? all->n_pairs - n : at_once;
        assign.total += n * all->B;
        DDI_TRY(ddi_run(x, DD_OPERATOR_kd_cost, dtype, &cost));
        DDI_TRY(solve(x, dtype, m, &assign, n * all->B, cost.n_pairs * all->B));
        if (at_once < all->n_pairs && *m->bad != INT64_MAX) { /* on the host: entries count from the share's start */
            int64_t bad = *m->bad + (int64_t)n * all->B * all->NS * all->NT;
            first_bad = bad < first_bad ? bad : first_bad;
            *m->bad = none;
        }
    }
    if (first_bad != INT64_MAX)
        *m->bad = first_bad;
    return DD_OK;
}

static dd_status match_split(ddi_exec *x, int32_t dtype, dd_op_kd_cost *cost, dd_op_assign *assign, int32_t at_once,
                             const int32_t *teacher_match, ddi_matching *m, split_memory *s)
{
    dd_op_split_masks masks = {.t_match = teacher_match,
                               .pairs = cost->pairs,
                               .match = m->match,
                               .match2 = s->match,
                               .kind = m->kind,
                               .row_use = s->row_use,
                               .col_use = s->col_use,
                               .n_pairs = cost->n_pairs,
                               .B = cost->B,
                               .NS = cost->NS,
                               .NT = cost->NT,
                               .step = 0};
    assign->row_use = s->row_use;
    assign->col_use = s->col_use;
    DDI_TRY(ddi_run(x, DD_OPERATOR_split_masks, dtype, &masks));
    DDI_TRY(match_pairs(x, dtype, cost, assign, at_once, m));
    masks.step = 1;
    cost->w_class = 0; /* negatives: the class is background, boxes alone count */
    assign->match = s->match;
    assign->total = s->total;
    DDI_TRY(ddi_run(x, DD_OPERATOR_split_masks, dtype, &masks));
    DDI_TRY(match_pairs(x, dtype, cost, assign, at_once, m));
    masks.step = 2;
    return ddi_run(x, DD_OPERATOR_split_masks, dtype, &masks);
}

static dd_status reserve_split(ddi_exec *x, ddi_matching *m, int32_t NT, split_memory *s)
{
    size_t n = (size_t)m->blocks, rows = n * (size_t)m->queries;
    DDI_TRY(ddi_buffer_reserve(x, &m->split, n * 8 + rows * 5 + n * (size_t)NT, true, "positives and negatives"));
    s->total = m->split.data;
    s->match = (int32_t *)(s->total + n);
    s->row_use = (uint8_t *)(s->match + rows);
    s->col_use = s->row_use + rows;
    m->total_negative = s->total;
    return DD_OK;
}

dd_status ddi_match_teacher(ddi_exec *x, int32_t dtype, int32_t l1_xyxy, ddi_match_weights w, const ddi_predictions *student,
                            const ddi_targets *t, const ddi_objects *o, const ddi_stage_pairs *pairs,
                            const int32_t *teacher_match, ddi_matching *m)
{
    int32_t B = o->images, NS = student->queries, NT = t->queries;
    m->stages = pairs->count;
    m->images = B;
    m->queries = NS;
    m->blocks = pairs->count * B;
    m->name = "student and teacher";
    m->of_objects = false;
    m->partners = NT;
    dd_op_kd_cost cost = {.s_logits = student->logits,
                          .s_boxes = student->boxes,
                          .t_prob = t->prob,
                          .t_xyxy = t->xyxy,
                          .t_cxcywh = t->cxcywh,
                          .sizes = o->d_sizes,
                          .pairs = pairs->d_pair,
                          .host_pairs = pairs->pair,
                          .n_pairs = pairs->count,
                          .B = B,
                          .NS = NS,
                          .NT = NT,
                          .C = t->classes,
                          .l1_xyxy = l1_xyxy,
                          .w_class = w.class_cost,
                          .w_l1 = w.l1,
                          .w_giou = w.giou};
    int32_t at_once = pairs_at_once(x, &cost, dtype);
    int64_t block_size = (int64_t)NS * NT;
    size_t bytes = (size_t)(at_once * B * block_size * dd_dtype_size(dtype));
    dd_assign_block *block;
    DDI_TRY(prepare_results(x, m, teacher_match != NULL));
    DDI_TRY(reserve_blocks(x, m, &block));
    DDI_TRY(ddi_buffer_reserve(x, &m->cost, bytes, true, "matching costs"));
    for (int32_t k = 0; k < m->blocks; k++)
        block[k] = (dd_assign_block){.cost_offset = k % (at_once * B) * block_size,
                                     .row_offset = (int64_t)k * NS,
                                     .col_offset = (int64_t)k * NT,
                                     .rows = NS,
                                     .cols = NT};
    cost.cost = m->cost.data;
    cost.bad = m->bad;
    dd_op_assign assign = {.cost = m->cost.data, .match = m->match, .total = m->total, .max_rows = NS, .max_cols = NT};
    if (!teacher_match)
        return match_pairs(x, dtype, &cost, &assign, at_once, m);
    split_memory s;
    DDI_TRY(reserve_split(x, m, NT, &s));
    return match_split(x, dtype, &cost, &assign, at_once, teacher_match, m, &s);
}

static dd_status refuse_cost(const ddi_matching *m, const ddi_objects *o, int64_t bad)
{
    int32_t stage, image = 0, query;
    if (m->of_objects) {
        query = (int32_t)(bad % m->queries);
        int32_t object = (int32_t)(bad / m->queries % m->partners);
        stage = (int32_t)(bad / m->queries / m->partners);
        while (o->offsets[image + 1] <= object)
            image++;
    } else {
        int64_t block = bad / m->partners / m->queries;
        query = (int32_t)(bad / m->partners % m->queries);
        stage = (int32_t)(block / m->images);
        image = (int32_t)(block % m->images);
    }
    ddi_fail(DD_ERR_NONFINITE, "cost",
             "the matching cost of %s is not finite at stage %d, image %d, query %d: a box or logit is too "
             "large",
             m->name, stage, image, query);
    ddi_error_set_place(DD_PLACE_STAGE, stage);
    ddi_error_set_place(DD_PLACE_IMAGE, image);
    ddi_error_set_place(DD_PLACE_QUERY, query);
    return DD_ERR_NONFINITE;
}

dd_status ddi_matching_fetch(ddi_exec *x, ddi_matching *m, const ddi_objects *o, ddi_nonfinite policy)
{
    size_t bytes = results_bytes(m, m->kind != NULL), n = (size_t)m->blocks;
    DDI_TRY(ddi_buffer_reserve(x, &m->host_results, bytes + 8 + n * 8, false, "matching results"));
    double *total = m->host_results.data, *negative = (double *)((char *)m->host_results.data + ((bytes + 7) & ~(size_t)7));
    int32_t copy = ddi_on_host(x) ? DD_COPY_ON_DEVICE : DD_COPY_TO_HOST;
    DDI_TRY(ddi_copy(x, total, m->memory.data, bytes, copy));
    if (m->kind)
        DDI_TRY(ddi_copy(x, negative, m->total_negative, n * 8, copy));
    DDI_TRY(ddi_sync(x));
    for (size_t i = 0; m->kind && i < n; i++)
        total[i] += negative[i];
    int64_t bad = *(int64_t *)(total + n);
    m->host_total = total;
    m->host_match = (const int32_t *)(total + n + 1);
    m->host_kind = m->kind ? m->host_match + n * (size_t)m->queries : NULL;
    return bad != INT64_MAX && policy == DDI_NONFINITE_ERROR ? refuse_cost(m, o, bad) : DD_OK;
}

void ddi_matching_free(ddi_exec *x, ddi_matching *m)
{
    ddi_buffer *const all[] = {&m->cost, &m->memory, &m->split, &m->host_blocks, &m->device_blocks, &m->host_results};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ddi_buffer_free(x, all[i]);
}
