/* SPDX-License-Identifier: Apache-2.0
 * Detection, distillation and feature losses. */
#include "cases.h"

static const double unit_size[4] = {1, 1, 1, 1};
static const double some_box[4] = {0.5, 0.5, 0.25, 0.25};

typedef struct pair_result {
    double term, gradient;
} pair_result;

/* BCE of one logit against one target probability, through kd_loss. */
static pair_result bce(int32_t dtype, double x, double t)
{
    const int32_t pairs[2] = {0, 0}, match[1] = {0};
    const void *box = reals(dtype, 4, some_box);
    double terms[5];
    void *g = fresh_reals(dtype, 1);
    const dd_op_kd_loss op = {.s_logits = reals(dtype, 1, &x),
                              .s_boxes = box,
                              .t_prob = reals(dtype, 1, &t),
                              .t_xyxy = reals(dtype, 4, (double[]){0.375, 0.375, 0.625, 0.625}),
                              .t_cxcywh = box,
                              .sizes = reals(dtype, 2, unit_size),
                              .pairs = pairs,
                              .host_pairs = pairs,
                              .match = match,
                              .terms = terms,
                              .g_logits = g,
                              .n_pairs = 1,
                              .L_S = 1,
                              .B = 1,
                              .NS = 1,
                              .NT = 1,
                              .C = 1,
                              .scale_class = {0, 1, 0},
                              .scale_l1 = {0, 5, 5},
                              .scale_giou = {0, 2, 2},
                              .grad_scale = 1};
    assert_int_equal(run_op(DD_OPERATOR_kd_loss, dtype, &op), DD_OK);
    for (int i = 1; i < 5; i++) {
        assert_true(terms[i] == 0); /* the boxes are equal */
    }
    return (pair_result){terms[0], real_at(dtype, g, 0)};
}

/* Section E, number 1. */
void bce_values(void **state)
{
    const double x[3] = {-2, 1.5, 0}, t[3] = {0.1, 0.8, 0.3};
    const double value[3] = {0.326928011, 0.501413278, 0.693147181}, gradient[3] = {0.019202922, 0.017574476, 0.2};
    FOR_BOTH_TYPES(dtype)
    {
        for (int i = 0; i < 3; i++) {
            const pair_result r = bce(dtype, x[i], t[i]);
            assert_near(r.term, value[i], dtype == DD_F32 ? 3e-7 : 1e-9);
            assert_near(r.gradient, gradient[i], dtype == DD_F32 ? 1e-7 : 1e-9);
        }
    }
}

void bce_at_50(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        const double tiny = exp(-50);
        assert_near(bce(dtype, 50, 1).term / tiny, 1, 1e-6);
        assert_near(bce(dtype, -50, 0).term / tiny, 1, 1e-6);
        assert_near(bce(dtype, -50, 0).gradient / tiny, 1, 1e-6);
        assert_near(bce(dtype, 50, 0).term, 50, 1e-7);
        assert_near(bce(dtype, -50, 1).term, 50, 1e-7);
        assert_near(bce(dtype, -50, 1).gradient, -1, 1e-7);
    }
}

/* Focal loss of one logit, through det_loss; target 0: the query has no object. */
static pair_result focal(int32_t dtype, double x, int target, double scale)
{
    const int32_t match[1] = {target ? 0 : -1}, labels[1] = {0}, offsets[2] = {0, 1};
    double terms[3];
    void *g = fresh_reals(dtype, 1);
    const void *box = reals(dtype, 4, some_box);
    const dd_op_det_loss op = {.logits = reals(dtype, 1, &x),
                               .boxes = box,
                               .match = match,
                               .gt_boxes = box,
                               .gt_labels = labels,
                               .gt_offsets = offsets,
                               .terms = terms,
                               .g_logits = g,
                               .S = 1,
                               .B = 1,
                               .N = 1,
                               .C = 1,
                               .G = 1,
                               .giou_eps = 1e-12,
                               .scale_class = scale,
                               .scale_l1 = 5,
                               .scale_giou = 2,
                               .grad_scale = 1};
    assert_int_equal(run_op(DD_OPERATOR_det_loss, dtype, &op), DD_OK);
    assert_true(terms[1] == 0 && terms[2] == 0);
    return (pair_result){terms[0], real_at(dtype, g, 0)};
}

/* Section E, number 2. */
void focal_loss_values(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        const double tolerance = dtype == DD_F32 ? 3e-7 : 1e-9;
        assert_near(focal(dtype, log(1.0 / 9), 1, 2).term, 0.932546963, tolerance);
        assert_near(focal(dtype, log(1.0 / 9), 0, 2).term, 0.001580408, tolerance);
        assert_near(focal(dtype, log(9.0), 1, 2).term, 0.000526803, tolerance);
    }
}

/* Golden DECISION 3: exact at +-50. */
void focal_loss_at_50(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        assert_near(focal(dtype, -50, 1, 1).term, 12.5, 1e-7);
        assert_near(focal(dtype, -50, 1, 1).gradient, -0.25, 1e-7);
        assert_near(focal(dtype, 50, 0, 1).term, 37.5, 1e-7);
        assert_near(focal(dtype, 50, 0, 1).gradient, 0.75, 1e-7);
        const double cube = dtype == DD_F32 ? 0 : 0.25 * exp(-150); /* below the smallest f32 */
        assert_true(fabs(focal(dtype, 50, 1, 1).term - cube) <= 1e-9 * cube);
        assert_true(isfinite(focal(dtype, 5000, 1, 1).gradient) && isfinite(focal(dtype, -5000, 1, 1).gradient));
    }
}

void detection_loss_without_objects(void **state)
{
    enum { N = 3, C = 2 };
    const int32_t match[N] = {-1, -1, -1}, offsets[2] = {0, 0};
    FOR_BOTH_TYPES(dtype)
    {
        double terms[3];
        void *g_boxes = fresh_reals(dtype, N * 4), *g_logits = fresh_reals(dtype, N * C);
        const dd_op_det_loss op = {.logits = random_reals(dtype, N * C, 0, 0),
                                   .boxes = random_reals(dtype, N * 4, 0.2, 0.4),
                                   .match = match,
                                   .gt_offsets = offsets,
                                   .terms = terms,
                                   .g_logits = g_logits,
                                   .g_boxes = g_boxes,
                                   .S = 1,
                                   .B = 1,
                                   .N = N,
                                   .C = C,
                                   .giou_eps = 1e-12,
                                   .scale_class = 1,
                                   .scale_l1 = 1,
                                   .scale_giou = 1,
                                   .grad_scale = 1};
        assert_int_equal(run_op(DD_OPERATOR_det_loss, dtype, &op), DD_OK);
        assert_near(terms[0], N * C * 0.75 * 0.25 * log(2), type_tolerance(dtype));
        assert_true(terms[1] == 0 && terms[2] == 0);
        for (int i = 0; i < N * 4; i++) {
            assert_true(real_at(dtype, g_boxes, i) == 0);
        }
        for (int i = 0; i < N * C; i++) {
            assert_true(real_at(dtype, g_logits, i) > 0);
        }
    }
}

/* Images with image_use 0 get terms 0 and gradient 0, or keep what was there; the others are as without the mask. */
void detection_loss_leaves_images_out(void **state)
{
    enum { S = 2, B = 3, N = 2, C = 2, G = 3 };
    const int32_t match[S * B * N] = {0, -1, -1, 0, 0, -1, -1, 0, 0, -1, 0, -1}, labels[G] = {1, 0, 1};
    const int32_t offsets[B + 1] = {0, 1, 2, 3};
    const uint8_t use[B] = {1, 0, 7};
    FOR_BOTH_TYPES(dtype)
    {
        double all[S * B * 3], some[S * B * 3];
        void *g_all = fresh_reals(dtype, S * B * N * 4), *g_some = fresh_reals(dtype, S * B * N * 4);
        dd_op_det_loss op = {.logits = random_reals(dtype, S * B * N * C, -2, 2),
                             .boxes = random_reals(dtype, S * B * N * 4, 0.2, 0.4),
                             .match = match,
                             .gt_boxes = random_reals(dtype, G * 4, 0.2, 0.4),
                             .gt_labels = labels,
                             .gt_offsets = offsets,
                             .sizes = reals(dtype, 2 * B, (double[]){4, 3, 2, 3, 5, 4}),
                             .terms = all,
                             .g_boxes = g_all,
                             .S = S,
                             .B = B,
                             .N = N,
                             .C = C,
                             .G = G,
                             .giou_pixels = 1,
                             .giou_eps = 1e-6,
                             .scale_class = 2,
                             .scale_l1 = 5,
                             .scale_giou = 2,
                             .grad_scale = 0.5};
        assert_int_equal(run_op(DD_OPERATOR_det_loss, dtype, &op), DD_OK);
        op.terms = some;
        op.g_boxes = g_some;
        op.image_use = use;
        for (op.accumulate = 0; op.accumulate <= 1; op.accumulate++) {
            assert_int_equal(run_op(DD_OPERATOR_det_loss, dtype, &op), DD_OK);
            for (int i = 0; i < S * B * 3; i++) {
                assert_true(some[i] == (i / 3 % B == 1 ? 0 : all[i]));
            }
            for (int i = 0; i < S * B * N * 4; i++) {
                const double expected = i / 4 / N % B == 1 ? 0 : (op.accumulate + 1) * real_at(dtype, g_all, i);
                assert_near(real_at(dtype, g_some, i), expected, 10 * type_tolerance(dtype));
            }
        }
    }
}

/* Gradient of 1 - GIoU of one box with one object, normalised. */
static void giou_gradient(int32_t dtype, const double *box, const double *object, double *g)
{
    const int32_t match[1] = {0}, labels[1] = {0}, offsets[2] = {0, 1};
    double terms[3];
    void *g_boxes = fresh_reals(dtype, 4);
    const dd_op_det_loss op = {.logits = fresh_reals(dtype, 1),
                               .boxes = reals(dtype, 4, box),
                               .match = match,
                               .gt_boxes = reals(dtype, 4, object),
                               .gt_labels = labels,
                               .gt_offsets = offsets,
                               .terms = terms,
                               .g_boxes = g_boxes,
                               .S = 1,
                               .B = 1,
                               .N = 1,
                               .G = 1,
                               .giou_eps = 1e-12,
                               .scale_giou = 1,
                               .grad_scale = 1};
    assert_int_equal(run_op(DD_OPERATOR_det_loss, dtype, &op), DD_OK);
    for (int i = 0; i < 4; i++) {
        g[i] = real_at(dtype, g_boxes, i);
    }
}

/* Golden DECISION 12. */
void giou_subgradients(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        double g[4];
        /* Equal boxes: halves of I and E cancel, U = E. */
        giou_gradient(dtype, some_box, some_box, g);
        for (int i = 0; i < 4; i++) {
            assert_near(g[i], 0, 10 * type_tolerance(dtype));
        }
        /* [0,1]x[0,1] touches [1,2]x[0,2] (overlap side 0, passed on): U = 3, E = 4, dU = 1/4, dI = 1/3 - 1/4,
         * dE = -3/16. Right edge: dU + dI = 1/3. Left edge: -dU - 2 dE = 1/8. Lower edge: dU + 0. Upper edges tie:
         * -dU - (dE 2)/2 = -1/16. */
        giou_gradient(dtype, (double[]){0.5, 0.5, 1, 1}, (double[]){1.5, 1, 1, 2}, g);
        const double x1 = 1.0 / 3, x0 = 1.0 / 8, y1 = 0.25, y0 = -1.0 / 16;
        assert_near(g[0], -(x0 + x1), type_tolerance(dtype));
        assert_near(g[2], -(x1 - x0) / 2, type_tolerance(dtype));
        assert_near(g[1], -(y0 + y1), type_tolerance(dtype));
        assert_near(g[3], -(y1 - y0) / 2, type_tolerance(dtype));
        /* Two points: both guards hold, nothing moves. */
        giou_gradient(dtype, (double[]){0.5, 0.5, 0, 0}, (double[]){0.5, 0.5, 0, 0}, g);
        for (int i = 0; i < 4; i++) {
            assert_true(g[i] == 0);
        }
    }
}

/* One pair of stages, one image: arguments of kd_loss that the cases below change. */
static dd_op_kd_loss kd_args(int32_t dtype, int32_t NS, int32_t NT, const int32_t *pairs, int32_t n_pairs, int32_t L_S)
{
    return (dd_op_kd_loss){.s_logits = random_reals(dtype, L_S * NS, -2, 2),
                           .s_boxes = random_reals(dtype, L_S * NS * 4, 0.2, 0.4),
                           .t_prob = random_reals(dtype, 2 * NT, 0, 1),
                           .t_xyxy = random_reals(dtype, 2 * NT * 4, 0, 1),
                           .t_cxcywh = random_reals(dtype, 2 * NT * 4, 0.2, 0.4),
                           .sizes = reals(dtype, 2, unit_size),
                           .pairs = pairs,
                           .host_pairs = pairs,
                           .g_logits = fresh_reals(dtype, L_S * NS),
                           .g_boxes = fresh_reals(dtype, L_S * NS * 4),
                           .n_pairs = n_pairs,
                           .L_S = L_S,
                           .B = 1,
                           .NS = NS,
                           .NT = NT,
                           .C = 1,
                           .scale_class = {0, 1, 0},
                           .scale_l1 = {0, 5, 3},
                           .scale_giou = {0, 2, 4},
                           .grad_scale = 1};
}

/* More students than teachers; kind 1 has all terms, kind 2 those of boxes with its own scales, the rest none. */
void distillation_loss_kinds(void **state)
{
    enum { NS = 3, NT = 2 };
    const int32_t pairs[2] = {0, 1}, match[NS] = {1, -1, 0}, kind[NS] = {1, 0, 2};
    const int32_t only_first[NS] = {1, -1, -1}, only_last[NS] = {-1, -1, 0};
    FOR_BOTH_TYPES(dtype)
    {
        double both[5], first[5], last[5];
        dd_op_kd_loss op = kd_args(dtype, NS, NT, pairs, 1, 1);
        op.match = match;
        op.kind = kind;
        op.terms = both;
        assert_int_equal(run_op(DD_OPERATOR_kd_loss, dtype, &op), DD_OK);
        assert_true(real_at(dtype, op.g_logits, 0) != 0 && real_at(dtype, op.g_logits, 1) == 0);
        assert_true(real_at(dtype, op.g_logits, 2) == 0 && real_at(dtype, op.g_boxes, 4) == 0);
        assert_true(real_at(dtype, op.g_boxes, 8) != 0);
        op.kind = NULL;
        op.match = only_first;
        op.terms = first;
        assert_int_equal(run_op(DD_OPERATOR_kd_loss, dtype, &op), DD_OK);
        op.match = only_last;
        op.terms = last;
        assert_int_equal(run_op(DD_OPERATOR_kd_loss, dtype, &op), DD_OK);
        assert_true(both[0] == first[0] && both[1] == first[1] && both[2] == first[2]);
        assert_near(both[3], last[1] / 5 * 3, 1e-13);
        assert_near(both[4], last[2] / 2 * 4, 1e-13);
        assert_true(first[0] > 0 && first[3] == 0 && first[4] == 0);
    }
}

/* Two teacher stages of one student stage add up; the stage without a pair gets zero, or keeps what it had. */
void distillation_loss_adds_pairs_of_a_stage(void **state)
{
    enum { NS = 2, NT = 2, LS = 2, COUNT = LS * NS * 4 };
    const int32_t pairs[4] = {1, 0, 1, 1}, match[2 * NS] = {1, 0, 0, 1};
    FOR_BOTH_TYPES(dtype)
    {
        double terms[10], g_both[COUNT], g_parts[COUNT] = {0};
        dd_op_kd_loss op = kd_args(dtype, NS, NT, pairs, 2, LS);
        op.match = match;
        op.terms = terms;
        assert_int_equal(run_op(DD_OPERATOR_kd_loss, dtype, &op), DD_OK);
        for (int i = 0; i < COUNT; i++) {
            g_both[i] = real_at(dtype, op.g_boxes, i);
            assert_true(i >= COUNT / 2 || g_both[i] == 0);
        }
        op.accumulate = 1;
        assert_int_equal(run_op(DD_OPERATOR_kd_loss, dtype, &op), DD_OK);
        for (int i = 0; i < COUNT; i++) {
            assert_near(real_at(dtype, op.g_boxes, i), 2 * g_both[i], 20 * type_tolerance(dtype));
        }
        op.accumulate = 0;
        op.n_pairs = 1;
        for (int n = 0; n < 2; n++) {
            op.pairs = op.host_pairs = pairs + 2 * n;
            op.match = match + NS * n;
            assert_int_equal(run_op(DD_OPERATOR_kd_loss, dtype, &op), DD_OK);
            for (int i = 0; i < COUNT; i++) {
                g_parts[i] += real_at(dtype, op.g_boxes, i);
            }
        }
        for (int i = 0; i < COUNT; i++) {
            assert_near(g_both[i], g_parts[i], 20 * type_tolerance(dtype));
        }
    }
}

/* Golden DECISION 7. Boxes: query 0 overlaps object 1 with IoU 1/3, query 1 equals object 0, query 2 lies apart. */
static dd_op_quality quality_args(int32_t dtype, const double *logits, int32_t *index, int32_t K)
{
    static const double boxes[12] = {0.25, 0.25, 0.2, 0.2, 0.75, 0.75, 0.2, 0.2, 0.1, 0.9, 0.1, 0.1};
    static const double objects[8] = {0.75, 0.75, 0.2, 0.2, 0.35, 0.25, 0.2, 0.2};
    static const int32_t offsets[2] = {0, 2};
    return (dd_op_quality){.logits = reals(dtype, 6, logits),
                           .boxes = reals(dtype, 12, boxes),
                           .gt_boxes = reals(dtype, 8, objects),
                           .gt_offsets = offsets,
                           .sizes = reals(dtype, 2, (double[]){100, 50}),
                           .index = index,
                           .quality = fresh_reals(dtype, K),
                           .L = 1,
                           .B = 1,
                           .N = 3,
                           .C = 2,
                           .G = 2,
                           .K = K,
                           .gamma_class = 1,
                           .gamma_iou = 1};
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

void quality_order_ties_and_exponents(void **state)
{
    const double logits[6] = {1, -1, 2, 1, -1, 1}, iou[3] = {1.0 / 3, 1, 0};
    const int32_t order[6] = {2, 0, 3, 5, 1, 4};
    FOR_BOTH_TYPES(dtype)
    {
        int32_t index[6];
        dd_op_quality op = quality_args(dtype, logits, index, 6);
        for (int half = 0; half <= 1; half++) {
            op.gamma_class = op.gamma_iou = half ? 0.5 : 1;
            assert_int_equal(run_op(DD_OPERATOR_quality, dtype, &op), DD_OK);
            assert_memory_equal(index, order, sizeof order);
            for (int k = 0; k < 6; k++) {
                const double q = sigmoid(logits[order[k]]) * iou[order[k] / 2];
                assert_near(real_at(dtype, op.quality, k), half ? sqrt(q) : q, 10 * type_tolerance(dtype));
            }
        }
        op.gamma_class = op.gamma_iou = 0;
        assert_int_equal(run_op(DD_OPERATOR_quality, dtype, &op), DD_OK);
        for (int k = 0; k < 6; k++) {
            assert_true(real_at(dtype, op.quality, k) == 1);
        }
    }
}

void quality_of_all_queries(void **state)
{
    const double logits[6] = {1, -1, 2, 1, -1, 1};
    const int32_t match[3] = {1, -1, 0};
    FOR_BOTH_TYPES(dtype)
    {
        int32_t index[3];
        dd_op_quality op = quality_args(dtype, logits, index, 3);
        op.all_queries = op.matched = 1;
        op.match = match;
        assert_int_equal(run_op(DD_OPERATOR_quality, dtype, &op), DD_OK);
        assert_true(index[0] == 0 && index[1] == 1 && index[2] == 2);
        assert_near(real_at(dtype, op.quality, 0), sigmoid(1) / 3, 10 * type_tolerance(dtype));
        assert_true(real_at(dtype, op.quality, 1) == 0 && real_at(dtype, op.quality, 2) == 0);
        op.match = (const int32_t[]){0, -1, 1}; /* query 0 overlaps only the object that is not its own */
        assert_int_equal(run_op(DD_OPERATOR_quality, dtype, &op), DD_OK);
        assert_true(real_at(dtype, op.quality, 0) == 0);
    }
}

void quality_without_objects(void **state)
{
    const double logits[6] = {1, -1, 2, 1, -1, 1};
    const int32_t none[2] = {0, 0}, match[3] = {-1, -1, -1};
    FOR_BOTH_TYPES(dtype)
    {
        int32_t index[3];
        dd_op_quality op = quality_args(dtype, logits, index, 3);
        op.gt_offsets = none;
        assert_int_equal(run_op(DD_OPERATOR_quality, dtype, &op), DD_OK);
        assert_near(real_at(dtype, op.quality, 0), sigmoid(2), type_tolerance(dtype));
        op.all_queries = op.matched = 1;
        op.match = match;
        assert_int_equal(run_op(DD_OPERATOR_quality, dtype, &op), DD_OK);
        for (int k = 0; k < 3; k++) {
            assert_true(real_at(dtype, op.quality, k) == 0);
        }
    }
}

/* Section E, number 5: two positions, two queries, width 2. Gives the weights, returns the loss. */
static double feature_values(int32_t dtype, int32_t per_query, int32_t raw, double weight[2])
{
    const double queries[4] = {1, 0, 0, 5}, quality[2] = {0.9, 0.2};
    const double teacher[4] = {3, 0, 4, 2}, student[4] = {1, 1, 4, 1}; /* channel by channel */
    const int32_t index[2] = {0, 1};
    double term;
    void *w = fresh_reals(dtype, 2), *sum = fresh_reals(dtype, 2), *g = fresh_reals(dtype, 4);
    const dd_op_feature_weights weights = {.queries = reals(dtype, 4, queries),
                                           .index = index,
                                           .quality = reals(dtype, 2, quality),
                                           .features = reals(dtype, 4, teacher),
                                           .weight = w,
                                           .sum = sum,
                                           .L = 1,
                                           .B = 1,
                                           .N = 2,
                                           .K = 2,
                                           .d = 2,
                                           .index_divisor = 1,
                                           .per_query = per_query,
                                           .raw = raw,
                                           .P = 2};
    assert_int_equal(run_op(DD_OPERATOR_feature_weights, dtype, &weights), DD_OK);
    const dd_op_feature_loss loss = {weights.features, reals(dtype, 4, student), w, sum, &term, g, 1, 1, 2, 2, 3};
    assert_int_equal(run_op(DD_OPERATOR_feature_loss, dtype, &loss), DD_OK);
    for (int p = 0; p < 2; p++) {
        weight[p] = real_at(dtype, w, p);
        assert_true(real_at(dtype, sum, p) == weight[p]);
        for (int c = 0; c < 2; c++) {
            const double expected = 3 * 2 * weight[p] * (student[c * 2 + p] - teacher[c * 2 + p]) / 4;
            assert_near(real_at(dtype, g, c * 2 + p), expected, type_tolerance(dtype));
        }
    }
    return term;
}

void feature_values_sum_max(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        double weight[2];
        assert_near(feature_values(dtype, 0, 0, weight), 1.0408163, 1e-7);
        assert_near(weight[0], 1, 1e-7);
        assert_near(weight[1], 0.2857143 * 0.2857143, 1e-7);
    }
}

void feature_values_per_query(void **state)
{
    FOR_BOTH_TYPES(dtype)
    {
        double weight[2];
        assert_near(feature_values(dtype, 1, 1, weight), 49.05, 1e-6);
        assert_near(weight[0], 44.05, 1e-6);
        assert_near(weight[1], 10, 1e-6);
        assert_near(feature_values(dtype, 1, 0, weight), 0.276, 1e-6);
        assert_near(weight[0], 0.226, 1e-6);
        assert_near(weight[1], 0.1, 1e-6);
    }
}

/* A negative cosine counts as 0; the literal product of psi_raw is squared with its sign. */
void feature_weights_of_opposite_queries(void **state)
{
    const double query[2] = {-2, 0}, features[2] = {3, 4}, quality = 0.5;
    const int32_t index = 0;
    FOR_BOTH_TYPES(dtype)
    {
        for (int32_t raw = 0; raw <= 1; raw++) {
            void *weight = fresh_reals(dtype, 1), *sum = fresh_reals(dtype, 1);
            const dd_op_feature_weights op = {reals(dtype, 2, query),
                                              &index,
                                              reals(dtype, 1, &quality),
                                              reals(dtype, 2, features),
                                              NULL,
                                              NULL,
                                              weight,
                                              sum,
                                              1,
                                              1,
                                              1,
                                              1,
                                              2,
                                              1,
                                              1,
                                              raw,
                                              1};
            assert_int_equal(run_op(DD_OPERATOR_feature_weights, dtype, &op), DD_OK);
            assert_true(real_at(dtype, weight, 0) == (raw ? 18 : 0));
        }
    }
}

/* Padding keeps out of the maximum; images and entries without use weigh nothing; all similarities low: psi = 1. */
void feature_weights_padding_and_images(void **state)
{
    enum { L = 2, B = 3, N = 1, C = 4, D = 1, P = 3 };
    const double queries[L * B * N] = {1, 1, 1, 1, 1, -1}, quality[L * B] = {1, 1, 1, 0, 1, 1};
    const double features[B * P] = {5, 4, 2, 5, 4, 2, 5, 4, 2}; /* raw: s = 5, 4, 2 */
    const uint8_t padding[B * P] = {1, 0, 0, 0, 0, 0, 0, 0, 0}, use[B] = {1, 0, 1};
    const int32_t index[L * B] = {3, 0, 2, 1, 0, 0};                        /* class numbers inside query 0 */
    const double expected[L * B * P] = {0, 1, 0.25, 0, 0, 0, 1, 0.64, 0.16, /* stage 0 */
                                        0, 1, 1,    0, 0, 0, 1, 1,    1};
    FOR_BOTH_TYPES(dtype)
    {
        void *weight = fresh_reals(dtype, L * B * P), *sum = fresh_reals(dtype, B * P);
        const dd_op_feature_weights op = {reals(dtype, L * B, queries),
                                          index,
                                          reals(dtype, L * B, quality),
                                          reals(dtype, B * P, features),
                                          padding,
                                          use,
                                          weight,
                                          sum,
                                          L,
                                          B,
                                          N,
                                          1,
                                          D,
                                          C,
                                          0,
                                          1,
                                          P};
        assert_int_equal(run_op(DD_OPERATOR_feature_weights, dtype, &op), DD_OK);
        for (int i = 0; i < L * B * P; i++) {
            assert_near(real_at(dtype, weight, i), expected[i], type_tolerance(dtype));
        }
        for (int i = 0; i < B * P; i++) {
            assert_near(real_at(dtype, sum, i), expected[i] + expected[B * P + i], type_tolerance(dtype));
        }
    }
}

/* Images without queries, entries or objects: terms are 0, not left as they were. */
void losses_of_empty_images(void **state)
{
    enum { B = 2, P = 2 };
    const int32_t offsets[B + 1] = {0}, pairs[2] = {0, 0};
    FOR_BOTH_TYPES(dtype)
    {
        void *none = fresh_reals(dtype, 0), *sizes = reals(dtype, 4, unit_size);
        double det[B * 3] = {1, 1, 1, 1, 1, 1}, kd[B * 5] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
        const dd_op_det_loss det_op = {
            .logits = none, .boxes = none, .gt_offsets = offsets, .terms = det, .g_logits = none, .S = 1, .B = B, .C = 3};
        assert_int_equal(run_op(DD_OPERATOR_det_loss, dtype, &det_op), DD_OK);
        const dd_op_kd_loss kd_op = {.sizes = sizes, .pairs = pairs, .terms = kd, .n_pairs = 1, .L_S = 1, .B = B, .C = 3};
        assert_int_equal(run_op(DD_OPERATOR_kd_loss, dtype, &kd_op), DD_OK);
        for (int i = 0; i < B * 5; i++) {
            assert_true(kd[i] == 0 && det[i % 6] == 0);
        }
        const dd_op_quality quality = {
            .logits = none, .boxes = none, .gt_offsets = offsets, .quality = none, .L = 1, .B = B, .C = 3};
        assert_int_equal(run_op(DD_OPERATOR_quality, dtype, &quality), DD_OK);
        void *weight = fresh_reals(dtype, B * P), *sum = fresh_reals(dtype, B * P);
        dd_op_feature_weights weights = {.queries = none,
                                         .quality = none,
                                         .features = random_reals(dtype, B * P, 1, 2),
                                         .weight = weight,
                                         .sum = sum,
                                         .L = 1,
                                         .B = B,
                                         .d = 1,
                                         .index_divisor = 1,
                                         .P = P};
        for (weights.per_query = 0; weights.per_query <= 1; weights.per_query++) {
            assert_int_equal(run_op(DD_OPERATOR_feature_weights, dtype, &weights), DD_OK);
            for (int i = 0; i < B * P; i++) {
                assert_true(real_at(dtype, weight, i) == !weights.per_query && real_at(dtype, sum, i) == !weights.per_query);
            }
        }
    }
}
