/* SPDX-License-Identifier: Apache-2.0
 * The query-contrastive term (A.9): two branches (Linear, Linear, BatchNorm, ReLU, Linear, L2-normalise) project matched
 * student and teacher queries; row i of the teacher must find row i of the student. */
#include "base/error.h"
#include "kd/distiller.h"
#include "tensor/tensor.h"

#include <string.h>

#define TEMPERATURE 0.07
#define LOSS_WEIGHT 0.2

/* Buffers of one branch, then the shared ones. */
enum { A1, A2, Y, MEAN, RSTD, A3, Z, LENGTH, G_Z, G_A3, G_Y, G_A2, G_A1, G_VECTORS, BRANCH_BUFFERS };
enum { TEACHER_ROWS = 2 * BRANCH_BUFFERS, LOGITS, G_LOGITS, G_ROWS, STUDENT_ROWS };
_Static_assert((int)STUDENT_ROWS + 1 < (int)CONTRASTIVE_BUFFERS, "room for all buffers");

typedef struct branch {
    int32_t parameters; /* first of its inputs */
    int32_t buffers;    /* first of its buffers */
    const void *x;      /* [rows, width] */
    int32_t rows, width, hidden;
} branch;

static void *memory(const dd_distiller *d, const branch *k, int32_t buffer)
{
    return d->contrastive[k->buffers + buffer].data;
}

static const void *parameter(const dd_distiller *d, const branch *k, int32_t i)
{
    return d->input[k->parameters + i].data;
}

static dd_status reserve(dd_distiller *d, int32_t buffer, size_t reals)
{
    return ddi_buffer_reserve(&d->exec, &d->contrastive[buffer], reals * (size_t)dd_dtype_size(d->dtype), true,
                              "contrastive term");
}

static dd_status reserve_branch(dd_distiller *d, const branch *k)
{
    size_t rows = (size_t)k->rows * (size_t)k->hidden, h = (size_t)k->hidden;
    static const int32_t matrices[] = {A1, A2, Y, A3, Z, G_Z, G_A3, G_Y, G_A2, G_A1};
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++)
        DDI_TRY(reserve(d, k->buffers + matrices[i], rows));
    DDI_TRY(reserve(d, k->buffers + MEAN, h));
    DDI_TRY(reserve(d, k->buffers + RSTD, h));
    DDI_TRY(reserve(d, k->buffers + LENGTH, (size_t)k->rows));
    /* gradients of norm weight, norm bias and last bias, a row for each pair of stages */
    return reserve(d, k->buffers + G_VECTORS, 3 * h * (size_t)d->pairs.count);
}

/* y = x W^t + bias */
static dd_status linear(dd_distiller *d, const void *x, int32_t rows, int32_t in, int32_t out, const void *w, const void *bias,
                        void *y)
{
    dd_op_matmul m = {.a = x,
                      .b = w,
                      .bias = bias,
                      .c = y,
                      .batch = 1,
                      .M = rows,
                      .N = out,
                      .K = in,
                      .lda = in,
                      .ldb = in,
                      .ldc = out,
                      .trans_b = 1,
                      .alpha = 1};
    return ddi_run(&d->exec, DD_OPERATOR_matmul, d->dtype, &m);
}

/* g_x = g_y W */
static dd_status linear_back(dd_distiller *d, const void *g_y, int32_t rows, int32_t in, int32_t out, const void *w, void *g_x)
{
    dd_op_matmul m = {
        .a = g_y, .b = w, .c = g_x, .batch = 1, .M = rows, .N = in, .K = out, .lda = out, .ldb = in, .ldc = in, .alpha = 1};
    return ddi_run(&d->exec, DD_OPERATOR_matmul, d->dtype, &m);
}

/* g_W (+)= g_y^t x, where it is wanted */
static dd_status weight_back(dd_distiller *d, const branch *k, int32_t i, const void *g_y, const void *x, int32_t in,
                             int32_t out, int32_t pair)
{
    void *g_w = ddi_parameter_gradient(d, k->parameters + i);
    dd_op_matmul m = {.a = g_y,
                      .b = x,
                      .c = g_w,
                      .batch = 1,
                      .M = out,
                      .N = in,
                      .K = k->rows,
                      .lda = out,
                      .ldb = in,
                      .ldc = in,
                      .trans_a = 1,
                      .alpha = 1,
                      .beta = pair > 0};
    return g_w ? ddi_run(&d->exec, DD_OPERATOR_matmul, d->dtype, &m) : DD_OK;
}

static dd_status forward(dd_distiller *d, const branch *k)
{
    ddi_exec *x = &d->exec;
    int32_t h = k->hidden;
    DDI_TRY(linear(d, k->x, k->rows, k->width, h, parameter(d, k, 0), parameter(d, k, 1), memory(d, k, A1)));
    DDI_TRY(linear(d, memory(d, k, A1), k->rows, h, h, parameter(d, k, 2), parameter(d, k, 3), memory(d, k, A2)));
    dd_op_batchnorm_relu norm = {.x = memory(d, k, A2),
                                 .gamma = parameter(d, k, 4),
                                 .beta = parameter(d, k, 5),
                                 .y = memory(d, k, Y),
                                 .mean = memory(d, k, MEAN),
                                 .rstd = memory(d, k, RSTD),
                                 .rows = k->rows,
                                 .d = h};
    DDI_TRY(ddi_run(x, DD_OPERATOR_batchnorm_relu, d->dtype, &norm));
    DDI_TRY(linear(d, memory(d, k, Y), k->rows, h, h, parameter(d, k, 6), parameter(d, k, 7), memory(d, k, A3)));
    dd_op_l2norm l2 = {.x = memory(d, k, A3), .y = memory(d, k, Z), .length = memory(d, k, LENGTH), .rows = k->rows, .d = h};
    return ddi_run(x, DD_OPERATOR_l2norm, d->dtype, &l2);
}

/* Row `pair` of vector `which` among G_VECTORS. */
static void *vector_slot(const dd_distiller *d, const branch *k, int32_t which, int32_t pair)
{
    size_t at = ((size_t)which * (size_t)d->pairs.count + (size_t)pair) * (size_t)k->hidden;
    return (char *)memory(d, k, G_VECTORS) + at * (size_t)dd_dtype_size(d->dtype);
}

/* From G_Z to all parameters' gradients, and to g_x (or NULL). */
static dd_status backward(dd_distiller *d, const branch *k, int32_t pair, void *g_x)
{
    ddi_exec *x = &d->exec;
    int32_t h = k->hidden;
    dd_op_l2norm l2 = {.x = memory(d, k, A3),
                       .y = memory(d, k, Z),
                       .length = memory(d, k, LENGTH),
                       .g_y = memory(d, k, G_Z),
                       .g_x = memory(d, k, G_A3),
                       .rows = k->rows,
                       .d = h};
    DDI_TRY(ddi_run(x, DD_OPERATOR_l2norm_grad, d->dtype, &l2));
    DDI_TRY(weight_back(d, k, 6, memory(d, k, G_A3), memory(d, k, Y), h, h, pair));
    dd_op_row_sum bias = {
        .x = memory(d, k, G_A3), .y = vector_slot(d, k, 2, pair), .batch = 1, .M = k->rows, .by_columns = 1, .N = h};
    DDI_TRY(ddi_run(x, DD_OPERATOR_row_sum, d->dtype, &bias));
    DDI_TRY(linear_back(d, memory(d, k, G_A3), k->rows, h, h, parameter(d, k, 6), memory(d, k, G_Y)));
    dd_op_batchnorm_relu norm = {.x = memory(d, k, A2),
                                 .gamma = parameter(d, k, 4),
                                 .beta = parameter(d, k, 5),
                                 .y = memory(d, k, Y),
                                 .mean = memory(d, k, MEAN),
                                 .rstd = memory(d, k, RSTD),
                                 .g_y = memory(d, k, G_Y),
                                 .g_x = memory(d, k, G_A2),
                                 .g_gamma = vector_slot(d, k, 0, pair),
                                 .g_beta = vector_slot(d, k, 1, pair),
                                 .rows = k->rows,
                                 .d = h};
    DDI_TRY(ddi_run(x, DD_OPERATOR_batchnorm_relu_grad, d->dtype, &norm));
    DDI_TRY(weight_back(d, k, 2, memory(d, k, G_A2), memory(d, k, A1), h, h, pair));
    DDI_TRY(linear_back(d, memory(d, k, G_A2), k->rows, h, h, parameter(d, k, 2), memory(d, k, G_A1)));
    DDI_TRY(weight_back(d, k, 0, memory(d, k, G_A1), k->x, k->width, h, pair));
    return g_x ? linear_back(d, memory(d, k, G_A1), k->rows, k->width, h, parameter(d, k, 0), g_x) : DD_OK;
}

/* Loss of one pair of stages, and G_Z of both branches. */
static dd_status compare(dd_distiller *d, const branch *s, const branch *t, int32_t pair)
{
    ddi_exec *x = &d->exec;
    int32_t n = s->rows, h = s->hidden;
    void *logits = d->contrastive[LOGITS].data, *g = d->contrastive[G_LOGITS].data;
    dd_op_matmul product = {.a = memory(d, t, Z),
                            .b = memory(d, s, Z),
                            .c = logits,
                            .batch = 1,
                            .M = n,
                            .N = n,
                            .K = h,
                            .lda = h,
                            .ldb = h,
                            .ldc = n,
                            .trans_b = 1,
                            .alpha = 1 / TEMPERATURE};
    DDI_TRY(ddi_run(x, DD_OPERATOR_matmul, d->dtype, &product));
    dd_op_cross_entropy ce = {.logits = logits,
                              .g_logits = g,
                              .loss = (double *)d->terms[DDI_CONTRASTIVE].data + pair,
                              .n = n,
                              .scale = LOSS_WEIGHT,
                              .grad_scale = d->settings.weight[DDI_CONTRASTIVE]};
    DDI_TRY(ddi_run(x, DD_OPERATOR_cross_entropy, d->dtype, &ce));
    dd_op_matmul g_t = {.a = g,
                        .b = memory(d, s, Z),
                        .c = memory(d, t, G_Z),
                        .batch = 1,
                        .M = n,
                        .N = h,
                        .K = n,
                        .lda = n,
                        .ldb = h,
                        .ldc = h,
                        .alpha = 1 / TEMPERATURE};
    DDI_TRY(ddi_run(x, DD_OPERATOR_matmul, d->dtype, &g_t));
    dd_op_matmul g_s = {.a = g,
                        .b = memory(d, t, Z),
                        .c = memory(d, s, G_Z),
                        .batch = 1,
                        .M = n,
                        .N = h,
                        .K = n,
                        .lda = n,
                        .ldb = h,
                        .ldc = h,
                        .trans_a = 1,
                        .alpha = 1 / TEMPERATURE};
    return ddi_run(x, DD_OPERATOR_matmul, d->dtype, &g_s);
}

/* Images that follow each other and take part, as rows of the comparison. */
typedef struct image_run {
    int32_t first, count; /* images */
    int32_t before;       /* images that took part before them */
} image_run;

/* The next run; begin with {0}. One run holds all images unless some are left out (nonfinite=skip). */
static bool next_run(const dd_distiller *d, image_run *run)
{
    const uint8_t *use = d->objects.image_use;
    run->before += run->count;
    run->first += run->count;
    run->count = 0;
    while (run->first < d->images && !use[run->first])
        run->first++;
    while (run->first + run->count < d->images && use[run->first + run->count])
        run->count++;
    return run->count > 0;
}

static void *at(void *base, size_t rows, size_t row_bytes)
{
    return (char *)base + rows * row_bytes;
}

/* Student rows of the images that take part: in place, or copied together. */
static dd_status student_rows(dd_distiller *d, branch *s, int32_t stage, size_t row_bytes)
{
    ddi_exec *x = &d->exec;
    size_t queries = (size_t)d->student.queries, images = (size_t)d->images;
    void *all = at(d->input[IN_STUDENT_QUERIES].data, (size_t)stage * images * queries, row_bytes);
    s->x = all;
    if ((size_t)s->rows == images * queries)
        return DD_OK;
    s->x = d->contrastive[STUDENT_ROWS].data;
    for (image_run r = {0}; next_run(d, &r);)
        DDI_TRY(ddi_copy(x, at(d->contrastive[STUDENT_ROWS].data, (size_t)r.before * queries, row_bytes),
                         at(all, (size_t)r.first * queries, row_bytes), (size_t)r.count * queries * row_bytes,
                         DD_COPY_ON_DEVICE));
    return DD_OK;
}

/* The teacher's partner of each student row. */
static dd_status teacher_rows(dd_distiller *d, branch *t, int32_t pair, int32_t stage, size_t row_bytes)
{
    size_t students = (size_t)d->student.queries, teachers = (size_t)d->teacher.queries, images = (size_t)d->images;
    t->x = d->contrastive[TEACHER_ROWS].data;
    for (image_run r = {0}; next_run(d, &r);) {
        dd_op_take_rows partners = {
            .src = at(d->input[IN_TEACHER_QUERIES].data, ((size_t)stage * images + (size_t)r.first) * teachers, row_bytes),
            .index = d->kd_match.match + ((size_t)pair * images + (size_t)r.first) * students,
            .dst = at(d->contrastive[TEACHER_ROWS].data, (size_t)r.before * students, row_bytes),
            .rows = (int64_t)r.count * d->student.queries,
            .rows_per_block = d->student.queries,
            .src_rows_per_block = d->teacher.queries,
            .d = t->width};
        DDI_TRY(ddi_run(&d->exec, DD_OPERATOR_take_rows, d->dtype, &partners));
    }
    return DD_OK;
}

/* to[i] += from[i] */
static dd_status add_reals(dd_distiller *d, void *to, const void *from, int64_t n)
{
    ddi_exec *x = &d->exec;
    static const double one = 1;
    static const float one_f32 = 1;
    DDI_TRY(ddi_buffer_reserve(x, &d->contrastive[CONTRASTIVE_BUFFERS - 1], 8, true, "contrastive term"));
    void *unit = d->contrastive[CONTRASTIVE_BUFFERS - 1].data;
    DDI_TRY(ddi_copy(x, unit, d->dtype == DD_F64 ? (const void *)&one : (const void *)&one_f32, (size_t)dd_dtype_size(d->dtype),
                     ddi_on_host(x) ? DD_COPY_ON_DEVICE : DD_COPY_TO_DEVICE));
    dd_op_matmul add = {.a = unit,
                        .b = from,
                        .c = to,
                        .batch = 1,
                        .M = 1,
                        .N = (int32_t)n,
                        .K = 1,
                        .lda = 1,
                        .ldb = (int32_t)n,
                        .ldc = (int32_t)n,
                        .alpha = 1,
                        .beta = 1};
    return ddi_run(x, DD_OPERATOR_matmul, d->dtype, &add);
}

/* Brings the student's row gradients of this pair to student.queries.grad, where several teacher stages may teach one student
 * stage. */
static dd_status add_row_gradient(dd_distiller *d, const branch *s, int32_t pair, size_t row_bytes, void *g_queries)
{
    ddi_exec *x = &d->exec;
    int32_t stage = d->pairs.pair[2 * pair];
    size_t queries = (size_t)d->student.queries, images = (size_t)d->images;
    void *to = at(g_queries, (size_t)stage * images * queries, row_bytes), *from = d->contrastive[G_ROWS].data;
    bool is_first = pair == 0 || d->pairs.pair[2 * (pair - 1)] != stage;
    if (is_first && (size_t)s->rows < images * queries)
        DDI_TRY(ddi_zero(x, to, images * queries * row_bytes));
    for (image_run r = {0}; next_run(d, &r);) {
        void *image = at(to, (size_t)r.first * queries, row_bytes), *g = at(from, (size_t)r.before * queries, row_bytes);
        size_t rows = (size_t)r.count * queries;
        if (is_first)
            DDI_TRY(ddi_copy(x, image, g, rows * row_bytes, DD_COPY_ON_DEVICE));
        else
            DDI_TRY(add_reals(d, image, g, (int64_t)rows * s->width));
    }
    return DD_OK;
}

/* Sums the pairs' vector gradients. The biases before the norm get exactly 0: the norm subtracts them again. */
static dd_status finish_vectors(dd_distiller *d, const branch *k)
{
    static const int32_t target[3] = {4, 5, 7}, vanishing[2] = {1, 3};
    ddi_exec *x = &d->exec;
    for (int32_t i = 0; i < 3; i++) {
        void *g = ddi_parameter_gradient(d, k->parameters + target[i]);
        dd_op_row_sum sum = {
            .x = vector_slot(d, k, i, 0), .y = g, .batch = 1, .M = d->pairs.count, .by_columns = 1, .N = k->hidden};
        if (g)
            DDI_TRY(ddi_run(x, DD_OPERATOR_row_sum, d->dtype, &sum));
    }
    for (int32_t i = 0; i < 2; i++) {
        void *g = ddi_parameter_gradient(d, k->parameters + vanishing[i]);
        if (g)
            DDI_TRY(ddi_zero(x, g, (size_t)k->hidden * (size_t)dd_dtype_size(d->dtype)));
    }
    return DD_OK;
}

static dd_status pair_loss(dd_distiller *d, branch *s, branch *t, int32_t pair, void *g_queries)
{
    size_t real = (size_t)dd_dtype_size(d->dtype), row_bytes = (size_t)s->width * real;
    DDI_TRY(student_rows(d, s, d->pairs.pair[2 * pair], row_bytes));
    DDI_TRY(teacher_rows(d, t, pair, d->pairs.pair[2 * pair + 1], (size_t)t->width * real));
    DDI_TRY(forward(d, s));
    DDI_TRY(forward(d, t));
    DDI_TRY(compare(d, s, t, pair));
    DDI_TRY(backward(d, t, pair, NULL));
    DDI_TRY(backward(d, s, pair, g_queries ? d->contrastive[G_ROWS].data : NULL));
    return g_queries ? add_row_gradient(d, s, pair, row_bytes, g_queries) : DD_OK;
}

/* Every image was left out: no term, no gradient. */
static dd_status nothing_to_compare(dd_distiller *d, void *g_queries)
{
    ddi_exec *x = &d->exec;
    size_t real = (size_t)dd_dtype_size(d->dtype);
    DDI_TRY(ddi_zero(x, d->terms[DDI_CONTRASTIVE].data, (size_t)d->pairs.count * 8));
    if (g_queries)
        DDI_TRY(ddi_zero(x, g_queries, (size_t)ddi_tensor_elements(&d->input[IN_STUDENT_QUERIES].tensor) * real));
    for (int32_t i = IN_BRANCH_STUDENT; i < IN_WITH_GRADIENT; i++) {
        void *g = ddi_parameter_gradient(d, i);
        if (g)
            DDI_TRY(ddi_zero(x, g, (size_t)ddi_tensor_elements(&d->input[i].tensor) * real));
    }
    return DD_OK;
}

static int32_t images_compared(const dd_distiller *d)
{
    image_run r = {0};
    while (next_run(d, &r))
        ;
    return r.before;
}

dd_status ddi_contrastive_loss(dd_distiller *d)
{
    int32_t rows = images_compared(d) * d->student.queries, unused;
    int32_t width = (int32_t)d->input[IN_STUDENT_QUERIES].tensor.shape[3];
    const ddi_input *w1 = &d->input[IN_BRANCH_STUDENT];
    int32_t hidden = (int32_t)(w1->bound ? w1->tensor.shape[0] : d->settings.hidden);
    branch s = {.parameters = IN_BRANCH_STUDENT, .buffers = 0, .rows = rows, .width = width, .hidden = hidden};
    branch t = {.parameters = IN_BRANCH_TEACHER,
                .buffers = BRANCH_BUFFERS,
                .rows = rows,
                .hidden = hidden,
                .width = (int32_t)d->input[IN_TEACHER_QUERIES].tensor.shape[3]};
    size_t n = (size_t)rows;
    DDI_TRY(ddi_buffer_reserve(&d->exec, &d->terms[DDI_CONTRASTIVE], (size_t)d->pairs.count * 8, true, "loss terms"));
    void *g_queries = ddi_gradient_target(d, IN_STUDENT_QUERIES, &unused);
    if (rows == 0)
        return nothing_to_compare(d, g_queries);
    DDI_TRY(reserve_branch(d, &s));
    DDI_TRY(reserve_branch(d, &t));
    DDI_TRY(reserve(d, TEACHER_ROWS, n * (size_t)t.width));
    if (rows < d->images * d->student.queries)
        DDI_TRY(reserve(d, STUDENT_ROWS, n * (size_t)s.width));
    DDI_TRY(reserve(d, G_ROWS, n * (size_t)s.width));
    DDI_TRY(reserve(d, LOGITS, n * n));
    DDI_TRY(reserve(d, G_LOGITS, n * n));
    for (int32_t pair = 0; pair < d->pairs.count; pair++)
        DDI_TRY(pair_loss(d, &s, &t, pair, g_queries));
    DDI_TRY(finish_vectors(d, &s));
    return finish_vectors(d, &t);
}
