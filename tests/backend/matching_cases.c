/* SPDX-License-Identifier: Apache-2.0
 * Matching costs and the assignment problem. */
#include "cases.h"

static const double unit_size[2] = {1, 1};

static double logit(double p)
{
    return log(p / (1 - p));
}

/* Class cost of one query with one class. */
static double class_cost(int32_t dtype, double x, double weight, double eps)
{
    const double box[4] = {0.5, 0.5, 0.2, 0.2};
    const int32_t label = 0, offsets[2] = {0, 1};
    int64_t bad = INT64_MAX;
    dd_op_gt_cost op = {.logits = reals(dtype, 1, &x),
                        .boxes = reals(dtype, 4, box),
                        .gt_boxes = reals(dtype, 4, box),
                        .gt_labels = &label,
                        .gt_offsets = offsets,
                        .cost = fresh_reals(dtype, 1),
                        .bad = &bad,
                        .S = 1,
                        .B = 1,
                        .N = 1,
                        .C = 1,
                        .G = 1,
                        .w_class = weight,
                        .class_eps = eps,
                        .giou_eps = 1e-12};
    assert_int_equal(run_op(DD_OPERATOR_gt_cost, dtype, &op), DD_OK);
    assert_true(bad == INT64_MAX);
    return real_at(dtype, op.cost, 0);
}

/* Section E, number 2. */
void focal_cost_values(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        const double tolerance = dtype == DD_F32 ? 1e-6 : 1e-9;
        assert_near(class_cost(dtype, logit(0.1), 2, 1e-12), 0.930966555, tolerance);
        assert_near(class_cost(dtype, logit(0.5), 2, 1e-12), -0.173286795, tolerance);
        assert_near(class_cost(dtype, logit(0.9), 2, 1e-12), -2.797114085, tolerance);
    }
}

/* Golden DECISION 3: p + eps inside the logarithm, with 1-p = sigmoid(-x). */
void focal_cost_at_50(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        const double tolerance = type_tolerance(dtype);
        assert_near(class_cost(dtype, -50, 1, 1e-12), -0.25 * log(1e-12 + exp(-50)), tolerance);
        assert_near(class_cost(dtype, 50, 1, 1e-12), 0.75 * log(1e-12 + exp(-50)), tolerance);
        assert_near(class_cost(dtype, -50, 1, 1e-8), -0.25 * log(1e-8 + exp(-50)), tolerance);
        assert_near(class_cost(dtype, -5000, 1, 1e-8), -0.25 * log(1e-8), tolerance);
    }
}

static void centre_form(const double *xyxy, double size, double *cxcywh)
{
    for (int a = 0; a < 2; a++) {
        cxcywh[a] = (xyxy[a] + xyxy[2 + a]) / 2 / size;
        cxcywh[2 + a] = (xyxy[2 + a] - xyxy[a]) / size;
    }
}

/* Section E, number 3: a GIoU from the cost, an IoU from the quality, in an image of 20 x 20. */
static void check_overlap(int32_t dtype, const double *a, const double *b, double iou, double giou)
{
    double box[4], target[4];
    const double size[2] = {20, 20}, x = 0;
    const int32_t label = 0, offsets[2] = {0, 1};
    int32_t index;
    int64_t bad = INT64_MAX;
    centre_form(a, 20, box);
    centre_form(b, 20, target);
    void *boxes = reals(dtype, 4, box), *gt_boxes = reals(dtype, 4, target), *sizes = reals(dtype, 2, size);
    dd_op_gt_cost cost = {reals(dtype, 1, &x),
                          boxes,
                          gt_boxes,
                          &label,
                          offsets,
                          sizes,
                          fresh_reals(dtype, 1),
                          &bad,
                          1,
                          1,
                          1,
                          1,
                          1,
                          0,
                          1,
                          0,
                          0,
                          1,
                          1e-12,
                          1e-6};
    assert_int_equal(run_op(DD_OPERATOR_gt_cost, dtype, &cost), DD_OK);
    assert_near(-real_at(dtype, cost.cost, 0), giou, 1e-6);
    dd_op_quality quality = {.logits = cost.logits,
                             .boxes = boxes,
                             .gt_boxes = gt_boxes,
                             .gt_offsets = offsets,
                             .sizes = sizes,
                             .index = &index,
                             .quality = fresh_reals(dtype, 1),
                             .L = 1,
                             .B = 1,
                             .N = 1,
                             .C = 1,
                             .G = 1,
                             .K = 1,
                             .gamma_class = 0,
                             .gamma_iou = 1};
    assert_int_equal(run_op(DD_OPERATOR_quality, dtype, &quality), DD_OK);
    assert_near(real_at(dtype, quality.quality, 0), iou, 1e-6);
}

void giou_and_iou_values(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        check_overlap(dtype, (double[]){0, 0, 10, 10}, (double[]){5, 5, 15, 20}, 1.0 / 9, -5.0 / 36);
        check_overlap(dtype, (double[]){0, 0, 2, 2}, (double[]){4, 4, 5, 5}, 0, -0.8);
        check_overlap(dtype, (double[]){1, 2, 5, 9}, (double[]){1, 2, 5, 9}, 1, 1);
        /* A point in a point: union and hull are held at 1e-6, so GIoU = 0/1e-6 - 0. */
        check_overlap(dtype, (double[]){4, 4, 4, 4}, (double[]){4, 4, 4, 4}, 0, 0);
    }
}

/* Two stages, images with 1 and 2 objects: cost[s][g][n], L1 in both forms. */
void object_cost_layout_and_l1(void **state)
{
    enum { S = 2, B = 2, N = 3, G = 3 };
    const int32_t labels[G] = {0, 0, 0}, offsets[B + 1] = {0, 1, 3};
    FOR_BOTH_TYPES(dtype)
    {
        int64_t bad = INT64_MAX;
        const void *boxes = random_reals(dtype, S * B * N * 4, 0.1, 0.9), *gt = random_reals(dtype, G * 4, 0.1, 0.9);
        dd_op_gt_cost op = {random_reals(dtype, S * B * N, -1, 1),
                            boxes,
                            gt,
                            labels,
                            offsets,
                            NULL,
                            fresh_reals(dtype, S * G * N),
                            &bad,
                            S,
                            B,
                            N,
                            1,
                            G,
                            0,
                            0,
                            0,
                            3,
                            0,
                            1e-12,
                            1e-12};
        for (op.l1_xyxy = 0; op.l1_xyxy <= 1; op.l1_xyxy++) {
            assert_int_equal(run_op(DD_OPERATOR_gt_cost, dtype, &op), DD_OK);
            for (int i = 0; i < S * G * N; i++) {
                const int n = i % N, g = i / N % G, s = i / N / G, b = g > 0;
                double expected = 0;
                for (int a = 0; a < 2; a++) {
                    const int64_t at = ((s * B + b) * N + n) * 4 + a;
                    const double centre = real_at(dtype, boxes, at) - real_at(dtype, gt, g * 4 + a);
                    const double extent = real_at(dtype, boxes, at + 2) - real_at(dtype, gt, g * 4 + a + 2);
                    expected +=
                        op.l1_xyxy ? fabs(centre - extent / 2) + fabs(centre + extent / 2) : fabs(centre) + fabs(extent);
                }
                assert_near(real_at(dtype, op.cost, i), 3 * expected, 3 * type_tolerance(dtype));
            }
        }
    }
}

void object_cost_not_finite(void **state)
{
    enum { N = 3, G = 2 };
    const int32_t labels[G] = {0, 0}, offsets[2] = {0, G};
    FOR_BOTH_TYPES(dtype)
    {
        int64_t bad = INT64_MAX;
        void *boxes = random_reals(dtype, N * 4, 0.2, 0.4);
        set_real(dtype, boxes, 1 * 4, dtype == DD_F32 ? 3e38 : 1e308); /* its area overflows */
        set_real(dtype, boxes, 1 * 4 + 2, dtype == DD_F32 ? 3e38 : 1e308);
        dd_op_gt_cost op = {random_reals(dtype, N, -1, 1),
                            boxes,
                            random_reals(dtype, G * 4, 0.2, 0.4),
                            labels,
                            offsets,
                            reals(dtype, 2, (double[]){100, 100}),
                            fresh_reals(dtype, G * N),
                            &bad,
                            1,
                            1,
                            N,
                            1,
                            G,
                            0,
                            1,
                            2,
                            5,
                            2,
                            1e-12,
                            1e-6};
        assert_int_equal(run_op(DD_OPERATOR_gt_cost, dtype, &op), DD_OK);
        assert_int_equal(bad, 1);
        assert_near(real_at(dtype, op.cost, 1), 1e12, 1e-7);
        assert_near(real_at(dtype, op.cost, N + 1), 1e12, 1e-7);
        assert_true(fabs(real_at(dtype, op.cost, 0)) < 100 && fabs(real_at(dtype, op.cost, N + 2)) < 100);
    }
}

void teacher_targets_are_clipped(void **state)
{
    /* Two images of different size; the second box leaves its image at the right and at the top, the third wholly. */
    const double boxes[12] = {0.5, 0.5, 0.2, 0.4, 0.9, 0.1, 0.4, 0.4, 1.5, 0.5, 0.2, 0.2};
    const double sizes[6] = {100, 50, 10, 20, 8, 8}, logits[3] = {0, 50, -50};
    const double xyxy[12] = {40, 15, 60, 35, 7, 0, 10, 6, 8, 3.2, 8, 4.8};
    const double cxcywh[12] = {0.5, 0.5, 0.2, 0.4, 0.85, 0.15, 0.3, 0.3, 1, 0.5, 0, 0.2};
    const double prob[3] = {0.5, 1, 1.9287498479639178e-22};
    FOR_BOTH_TYPES(dtype)
    {
        dd_op_kd_targets op = {reals(dtype, 3, logits),
                               reals(dtype, 12, boxes),
                               reals(dtype, 6, sizes),
                               fresh_reals(dtype, 3),
                               fresh_reals(dtype, 12),
                               fresh_reals(dtype, 12),
                               1,
                               3,
                               1,
                               1};
        assert_int_equal(run_op(DD_OPERATOR_kd_targets, dtype, &op), DD_OK);
        for (int i = 0; i < 12; i++) {
            assert_near(real_at(dtype, op.xyxy, i), xyxy[i], type_tolerance(dtype));
            assert_near(real_at(dtype, op.cxcywh, i), cxcywh[i], type_tolerance(dtype));
        }
        for (int i = 0; i < 3; i++) {
            assert_near(real_at(dtype, op.prob, i) / prob[i], 1, type_tolerance(dtype));
        }
    }
}

/* Section E, number 4. */
void teacher_cost_values_and_matching(void **state)
{
    const double x[4] = {2, -1, -3, 0.5}, t[4] = {0.1, 0.6, 0.9, 0.2};
    const double expected[4] = {2.8401897, 0.8401897, 1.0226643, 3.6226643};
    const int32_t pairs[2] = {0, 0};
    FOR_BOTH_TYPES(dtype)
    {
        int64_t bad = INT64_MAX;
        const void *boxes = random_reals(dtype, 8, 0.2, 0.4), *t_prob = reals(dtype, 4, t), *s_logits = reals(dtype, 4, x);
        const void *sizes = reals(dtype, 2, unit_size);
        dd_op_kd_cost op = {s_logits, boxes, t_prob, boxes, boxes, sizes, pairs, fresh_reals(dtype, 4), &bad, 1, 1, 2,
                            2,        2,     0,      pairs, 1,     0,     0};
        assert_int_equal(run_op(DD_OPERATOR_kd_cost, dtype, &op), DD_OK);
        for (int i = 0; i < 4; i++) {
            assert_near(real_at(dtype, op.cost, i), expected[i], 1e-7);
        }
        const dd_assign_block block = {0, 0, 0, 2, 2};
        int32_t match[2];
        double total, terms[5];
        const dd_op_assign assign = {op.cost, &block, &block, NULL, NULL, match, &total, 1, 0, 2, 2};
        assert_int_equal(run_op(DD_OPERATOR_assign, dtype, &assign), DD_OK);
        assert_true(match[0] == 1 && match[1] == 0);
        assert_near(total, 0.8401897 + 1.0226643, 2e-7);
        const dd_op_kd_loss loss = {.s_logits = s_logits,
                                    .s_boxes = boxes,
                                    .t_prob = t_prob,
                                    .t_xyxy = boxes,
                                    .t_cxcywh = boxes,
                                    .sizes = sizes,
                                    .pairs = pairs,
                                    .host_pairs = pairs,
                                    .match = match,
                                    .terms = terms,
                                    .n_pairs = 1,
                                    .L_S = 1,
                                    .B = 1,
                                    .NS = 2,
                                    .NT = 2,
                                    .C = 2,
                                    .scale_class = {0, 0.5}};
        assert_int_equal(run_op(DD_OPERATOR_kd_loss, dtype, &loss), DD_OK);
        assert_near(terms[0], 0.9314270, 1e-7);
    }
}

/* w_class = 0 reads no logits; box terms of pairs of several stages and images, NS < NT. */
void teacher_cost_without_class_term(void **state)
{
    enum { LS = 2, LT = 3, B = 2, NS = 2, NT = 3, PAIRS = 2 };
    const int32_t pairs[2 * PAIRS] = {1, 2, 0, 1};
    FOR_BOTH_TYPES(dtype)
    {
        int64_t bad = INT64_MAX;
        const void *s_boxes = random_reals(dtype, LS * B * NS * 4, 0.2, 0.4);
        const void *t_cxcywh = random_reals(dtype, LT * B * NT * 4, 0.2, 0.4);
        dd_op_kd_cost op = {NULL,     s_boxes,
                            NULL,     t_cxcywh,
                            t_cxcywh, reals(dtype, 2 * B, (double[]){1, 1, 1, 1}),
                            pairs,    fresh_reals(dtype, PAIRS * B * NS * NT),
                            &bad,     PAIRS,
                            B,        NS,
                            NT,       4,
                            0,        pairs,
                            0,        5,
                            0};
        assert_int_equal(run_op(DD_OPERATOR_kd_cost, dtype, &op), DD_OK);
        for (int e = 0; e < PAIRS * B * NS * NT; e++) {
            const int j = e % NT, i = e / NT % NS, b = e / NT / NS % B, n = e / NT / NS / B;
            const int s = (pairs[2 * n] * B + b) * NS + i, t = (pairs[2 * n + 1] * B + b) * NT + j;
            double l1 = 0;
            for (int a = 0; a < 4; a++) {
                l1 += fabs(real_at(dtype, s_boxes, s * 4 + a) - real_at(dtype, t_cxcywh, t * 4 + a));
            }
            assert_near(real_at(dtype, op.cost, e), 5 * l1, 5 * type_tolerance(dtype));
        }
    }
}

typedef struct random_block {
    int rows, cols;
    double cost[64];
    uint8_t row_use[8], col_use[8];
    int masked, by_columns;
} random_block;

/* Small integers give ties; then come reals, and reals with one huge row. */
static random_block make_block(int number)
{
    random_block r = {.rows = random_below(9), .cols = random_below(9)};
    r.masked = number / 3 % 2;
    r.by_columns = number / 6 % 2;
    for (int i = 0; i < 64; i++) {
        const double x = number % 3 == 0 ? random_below(4) : (double)(float)uniform(-3, 3);
        r.cost[i] = number % 3 == 2 && r.cols > 0 && i / r.cols == 1 ? x * 1e5 : x;
    }
    for (int i = 0; i < 8; i++) {
        r.row_use[i] = !r.masked || random_below(3) > 0;
        r.col_use[i] = !r.masked || random_below(3) > 0;
    }
    return r;
}

/* The best total of min(rows, cols) pairs: over the rows in turn, best[s] is the cheapest way to have given the
 * columns of set s to rows so far. */
static double brute_force(const random_block *r, int *pair_count)
{
    double best[256], next[256];
    int used_rows = 0, used_cols = 0;
    for (int s = 0; s < 256; s++) {
        best[s] = s == 0 ? 0 : INFINITY;
    }
    for (int j = 0; j < r->cols; j++) {
        used_cols += r->col_use[j];
    }
    for (int i = 0; i < r->rows; i++) {
        if (!r->row_use[i]) {
            continue;
        }
        used_rows++;
        memcpy(next, best, sizeof next); /* the row may stay out; the number of pairs decides below */
        for (int s = 0; s < 256; s++) {
            for (int j = 0; j < r->cols; j++) {
                if (r->col_use[j] && !(s >> j & 1)) {
                    next[s | 1 << j] = fmin(next[s | 1 << j], best[s] + r->cost[i * r->cols + j]);
                }
            }
        }
        memcpy(best, next, sizeof best);
    }
    *pair_count = used_rows < used_cols ? used_rows : used_cols;
    double total = INFINITY;
    for (int s = 0; s < 256; s++) {
        total = __builtin_popcount((unsigned)s) == *pair_count ? fmin(total, best[s]) : total;
    }
    return total;
}

/* A matching is one-to-one, within the masks, of the right size, and costs what was said. */
static void check_matching(const random_block *r, const int32_t *match, int pair_count, double total)
{
    int taken[8] = {0}, pairs = 0;
    double sum = 0;
    for (int k = 0; k < (r->by_columns ? r->cols : r->rows); k++) {
        if (match[k] < 0) {
            assert_int_equal(match[k], -1);
            continue;
        }
        const int i = r->by_columns ? match[k] : k, j = r->by_columns ? k : match[k];
        assert_true(i < r->rows && j < r->cols && r->row_use[i] && r->col_use[j]);
        assert_int_equal(taken[match[k]]++, 0);
        sum += r->cost[i * r->cols + j];
        pairs++;
    }
    assert_int_equal(pairs, pair_count);
    assert_near(sum, total, 1e-13);
}

/* 10,000 problems up to 8 x 8, solved a hundred at a time as blocks of one call. */
void assign_against_brute_force(void **state)
{
    enum { CALLS = 100, BLOCKS = 100 };
    static random_block problem[BLOCKS];
    dd_assign_block block[BLOCKS];
    FOR_BOTH_TYPES(dtype)
    {
        for (int call = 0; call < CALLS; call++) {
            void *cost = fresh_reals(dtype, BLOCKS * 64);
            uint8_t *row_use = fresh(BLOCKS * 8, 1), *col_use = fresh(BLOCKS * 8, 1);
            int32_t *match = fresh(BLOCKS * 8, sizeof *match);
            double *total = fresh(BLOCKS, sizeof *total);
            for (int k = 0; k < BLOCKS; k++) {
                random_block *r = &problem[k];
                *r = make_block(call);
                for (int i = 0; i < 64; i++) {
                    set_real(dtype, cost, k * 64 + i, r->cost[i]);
                }
                memcpy(row_use + k * 8, r->row_use, 8);
                memcpy(col_use + k * 8, r->col_use, 8);
                block[k] = (dd_assign_block){k * 64, k * 8, k * 8, r->rows, r->cols};
            }
            const int masked = problem[0].masked, by_columns = problem[0].by_columns;
            const dd_op_assign op = {
                cost, block, block, masked ? row_use : NULL, masked ? col_use : NULL, match, total, BLOCKS, by_columns, 8, 8};
            assert_int_equal(run_op(DD_OPERATOR_assign, dtype, &op), DD_OK);
            for (int k = 0; k < BLOCKS; k++) {
                for (int i = 0; i < 64; i++) { /* what f32 made of it */
                    problem[k].cost[i] = real_at(dtype, cost, k * 64 + i);
                }
                int pair_count;
                const double best = brute_force(&problem[k], &pair_count);
                assert_near(total[k], best, 1e-13);
                check_matching(&problem[k], match + k * 8, pair_count, total[k]);
            }
            release();
        }
    }
}

/* cost = u[i] + v[j] + slack, slack 0 on a random permutation and positive elsewhere: that permutation is the only optimum
 * (v = 0 where columns stay out). */
void assign_of_known_optimum(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        for (int trial = 0; trial < 30; trial++) {
            const int rows = 1 + random_below(120), cols = rows + (trial % 2 ? random_below(60) : 0);
            int32_t *column = fresh(cols, sizeof *column), *match = fresh(rows, sizeof *match);
            void *cost = fresh_reals(dtype, (int64_t)rows * cols);
            double total;
            for (int j = 0; j < cols; j++) {
                const int other = random_below(j + 1);
                column[j] = column[other];
                column[other] = j;
            }
            for (int i = 0; i < rows; i++) {
                const double u = uniform(-5, 5);
                for (int j = 0; j < cols; j++) {
                    const double v = rows == cols ? j * 0.37 : 0, slack = j == column[i] ? 0 : uniform(0.001, 2);
                    set_real(dtype, cost, (int64_t)i * cols + j, u + v + slack);
                }
            }
            const dd_assign_block block = {0, 0, 0, rows, cols};
            const dd_op_assign op = {cost, &block, &block, NULL, NULL, match, &total, 1, 0, rows, cols};
            assert_int_equal(run_op(DD_OPERATOR_assign, dtype, &op), DD_OK);
            assert_memory_equal(match, column, (size_t)rows * sizeof *match);
        }
    }
}

/* Objects are rows, queries columns, the result by query. */
void assign_more_objects_than_queries(void **state)
{
    const double cost[8] = {5, 9, 1, 8, 7, 7, 3, 2}; /* 4 objects, 2 queries: objects 1 and 3 */
    FOR_BOTH_TYPES(dtype)
    {
        int32_t match[2];
        double total;
        const dd_assign_block block = {0, 0, 0, 4, 2};
        const dd_op_assign op = {reals(dtype, 8, cost), &block, &block, NULL, NULL, match, &total, 1, 1, 4, 2};
        assert_int_equal(run_op(DD_OPERATOR_assign, dtype, &op), DD_OK);
        assert_true(match[0] == 1 && match[1] == 3 && total == 3);
    }
}

/* A row of 1e12, what a non-finite cost becomes, leaves the other rows their optimum. */
void assign_with_one_patched_row(void **state)
{
    enum { N = 40 };
    FOR_BOTH_TYPES(dtype)
    {
        for (int trial = 0; trial < 20; trial++) {
            const int patched = random_below(N);
            void *cost = random_reals(dtype, N * N, -1, 1);
            int32_t match[N], again[N];
            double total;
            const dd_assign_block block = {0, 0, 0, N, N};
            dd_op_assign op = {cost, &block, &block, NULL, NULL, match, &total, 1, 0, N, N};
            for (int j = 0; j < N; j++) {
                set_real(dtype, cost, patched * N + j, 0);
            }
            assert_int_equal(run_op(DD_OPERATOR_assign, dtype, &op), DD_OK);
            for (int j = 0; j < N; j++) {
                set_real(dtype, cost, patched * N + j, 1e12);
            }
            op.match = again;
            assert_int_equal(run_op(DD_OPERATOR_assign, dtype, &op), DD_OK);
            double difference = 0;
            for (int i = 0; i < N; i++) {
                if (i != patched) {
                    difference += real_at(dtype, cost, i * N + match[i]) - real_at(dtype, cost, i * N + again[i]);
                }
            }
            assert_near(difference, 0, 1e-3); /* dual values of 1e12 have steps of 1e-4 */
        }
    }
}

void split_masks_in_three_steps(void **state)
{
    enum { B = 2, NS = 3, NT = 4 };
    const int32_t t_match[2 * B * NT] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, 0, -1, 1, -1, -1, -1, -1};
    const int32_t pairs[2] = {0, 1}, match2[B * NS] = {2, -1, -1, 3, 0, -1};
    FOR_BOTH_TYPES(dtype)
    {
        int32_t match[B * NS] = {-1, 3, 1, -1, -1, -1}, kind[B * NS];
        uint8_t row_use[B * NS], col_use[B * NT];
        dd_op_split_masks op = {t_match, pairs, match, match2, kind, row_use, col_use, 1, B, NS, NT, 0};
        assert_int_equal(run_op(DD_OPERATOR_split_masks, dtype, &op), DD_OK);
        assert_memory_equal(row_use, ((uint8_t[]){1, 1, 1, 1, 1, 1}), sizeof row_use);
        assert_memory_equal(col_use, ((uint8_t[]){0, 1, 0, 1, 0, 0, 0, 0}), sizeof col_use);
        op.step = 1;
        assert_int_equal(run_op(DD_OPERATOR_split_masks, dtype, &op), DD_OK);
        assert_memory_equal(row_use, ((uint8_t[]){1, 0, 0, 1, 1, 1}), sizeof row_use);
        assert_memory_equal(col_use, ((uint8_t[]){1, 0, 1, 0, 1, 1, 1, 1}), sizeof col_use);
        op.step = 2;
        assert_int_equal(run_op(DD_OPERATOR_split_masks, dtype, &op), DD_OK);
        assert_memory_equal(match, ((int32_t[]){2, 3, 1, 3, 0, -1}), sizeof match);
        assert_memory_equal(kind, ((int32_t[]){2, 1, 1, 2, 2, 0}), sizeof kind);
    }
}

void assign_of_empty_blocks(void **state)
{
    const dd_assign_block block[2] = {{0, 0, 0, 0, 2}, {0, 0, 2, 3, 0}};
    FOR_BOTH_TYPES(dtype)
    {
        int32_t match[3] = {5, 5, 5};
        double total[2] = {5, 5};
        dd_op_assign op = {fresh_reals(dtype, 0), block, block, NULL, NULL, match, total, 2, 0, 3, 2};
        assert_int_equal(run_op(DD_OPERATOR_assign, dtype, &op), DD_OK);
        assert_true(match[0] == -1 && match[1] == -1 && match[2] == -1 && total[0] == 0 && total[1] == 0);
        match[0] = match[1] = match[2] = 5;
        op.by_columns = 1;
        assert_int_equal(run_op(DD_OPERATOR_assign, dtype, &op), DD_OK);
        assert_true(match[0] == -1 && match[1] == -1 && match[2] == 5);
    }
}
