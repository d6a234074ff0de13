/* SPDX-License-Identifier: Apache-2.0
 * Target-aware feature distillation (B): a map of where the teacher's good queries look weighs the squared distance of feature
 * maps. */
#include "base/error.h"
#include "kd/distiller.h"
#include "tensor/tensor.h"

static dd_status check_level(dd_distiller *d, int32_t n)
{
    ddi_input *s = &d->input[IN_STUDENT_FEATURES + n], *t = &d->input[IN_TEACHER_FEATURES + n],
              *pad = &d->input[IN_PADDING + n];
    ddi_level *level = &d->level[n];
    int64_t width = d->input[IN_TEACHER_QUERIES].tensor.shape[3];
    DDI_TRY(ddi_input_expect(t, 4, (int64_t[]){d->images, width, -1, -1}));
    DDI_TRY(ddi_input_expect(s, 4, (int64_t[]){d->images, -1, -1, -1}));
    const int64_t *a = s->tensor.shape, *b = t->tensor.shape;
    for (int32_t i = 1; i < 4; i++) {
        int64_t limit = i == 1 ? DDI_MAX_CHANNELS : DDI_MAX_MAP_SIDE;
        if (a[i] < 1 || b[i] < 1)
            return ddi_fail(DD_ERR_SHAPE, s->name, "%s and %s must not be empty", s->name, t->name);
        if (a[i] > limit || b[i] > limit)
            return ddi_fail(DD_ERR_LIMIT, s->name, "%s or %s: dimension %d is above %lld", s->name, t->name, i,
                            (long long)limit);
    }
    if (a[2] * a[3] > INT32_MAX || b[2] * b[3] > INT32_MAX)
        return ddi_fail(DD_ERR_LIMIT, s->name, "%s or %s: more than 2^31 positions", s->name, t->name);
    level->height = (int32_t)b[2];
    level->width = (int32_t)b[3];
    level->adapt = d->settings.adaptor == DDI_ADAPTOR_ALWAYS || (d->settings.adaptor == DDI_ADAPTOR_AUTO && a[1] != b[1]);
    /* an adaptor that the caller bound is meant to be used */
    level->adapt = level->adapt || (d->settings.adaptor != DDI_ADAPTOR_NEVER && d->input[IN_ADAPTOR_WEIGHT + n].bound);
    level->resize = a[2] != b[2] || a[3] != b[3];
    if (!level->adapt && a[1] != b[1])
        return ddi_fail(DD_ERR_SHAPE, s->name, "%s has %lld channels, %s %lld: adaptor=never cannot compare them", s->name,
                        (long long)a[1], t->name, (long long)b[1]);
    return pad->bound ? ddi_input_expect(pad, 3, (int64_t[]){d->images, b[2], b[3]}) : DD_OK;
}

/* Bytes are read in place on the device. */
static dd_status take_padding(dd_distiller *d, int32_t n)
{
    ddi_input *pad = &d->input[IN_PADDING + n];
    pad->data = NULL;
    if (!pad->bound)
        return DD_OK;
    if (!ddi_tensor_is_contiguous(&pad->tensor))
        return ddi_fail(DD_ERR_ARGUMENT, pad->name, "%s must be contiguous", pad->name);
    pad->data = pad->tensor.data;
    return DD_OK;
}

dd_status ddi_features_check(dd_distiller *d)
{
    d->levels = 0;
    while (d->levels < DDI_MAX_LEVELS &&
           (d->input[IN_STUDENT_FEATURES + d->levels].bound || d->input[IN_TEACHER_FEATURES + d->levels].bound))
        d->levels++;
    if (d->levels == 0)
        return ddi_fail(DD_ERR_STATE, "student.features.0",
                        "student.features.0 is not bound; bind the maps or set feature-mask=none");
    DDI_TRY(
        ddi_input_expect(&d->input[IN_TEACHER_QUERIES], 4, (int64_t[]){d->teacher.stages, d->images, d->teacher.queries, -1}));
    for (int32_t n = 0; n < d->levels; n++)
        DDI_TRY(check_level(d, n));
    return DD_OK;
}

dd_status ddi_features_take(dd_distiller *d)
{
    DDI_TRY(ddi_input_stage(&d->exec, &d->input[IN_TEACHER_QUERIES], d->dtype, false));
    for (int32_t n = 0; n < d->levels; n++) {
        DDI_TRY(ddi_input_stage(&d->exec, &d->input[IN_STUDENT_FEATURES + n], d->dtype, false));
        DDI_TRY(ddi_input_stage(&d->exec, &d->input[IN_TEACHER_FEATURES + n], d->dtype, false));
        DDI_TRY(take_padding(d, n));
    }
    return DD_OK;
}

/* The teacher's entries and their quality (B.2). */
static dd_status score_queries(dd_distiller *d)
{
    ddi_exec *x = &d->exec;
    bool all = d->settings.topk == 0;
    int64_t entries = (int64_t)d->teacher.queries * (all ? 1 : d->teacher.classes);
    d->topk = (int32_t)(all || d->settings.topk > entries ? entries : d->settings.topk);
    size_t count = (size_t)d->teacher.stages * (size_t)d->images * (size_t)d->topk;
    DDI_TRY(ddi_buffer_reserve(x, &d->quality_index, count * 4, true, "teacher entries"));
    DDI_TRY(ddi_buffer_reserve(x, &d->quality, count * (size_t)dd_dtype_size(d->dtype), true, "teacher entries"));
    dd_op_quality q = {.logits = d->teacher.logits,
                       .boxes = d->teacher.boxes,
                       .match = d->teacher_match.match,
                       .gt_boxes = d->objects.d_boxes,
                       .gt_offsets = d->objects.d_offsets,
                       .sizes = d->objects.d_sizes,
                       .index = d->quality_index.data,
                       .quality = d->quality.data,
                       .L = d->teacher.stages,
                       .B = d->images,
                       .N = d->teacher.queries,
                       .C = d->teacher.classes,
                       .G = d->objects.count,
                       .K = d->topk,
                       .all_queries = all,
                       .matched = d->settings.mask == DDI_MASK_PER_QUERY,
                       .gamma_class = d->settings.gamma_class,
                       .gamma_iou = d->settings.gamma_iou};
    return ddi_run(x, DD_OPERATOR_quality, d->dtype, &q);
}

static dd_status weigh_positions(dd_distiller *d, int32_t n)
{
    ddi_exec *x = &d->exec;
    ddi_level *level = &d->level[n];
    int64_t positions = (int64_t)level->height * level->width;
    size_t map = (size_t)d->images * (size_t)positions * (size_t)dd_dtype_size(d->dtype);
    DDI_TRY(ddi_buffer_reserve(x, &level->weight, map * (size_t)d->teacher.stages, true, "weight maps"));
    DDI_TRY(ddi_buffer_reserve(x, &level->sum, map, true, "weight maps"));
    const ddi_input *queries = &d->input[IN_TEACHER_QUERIES];
    dd_op_feature_weights w = {.queries = queries->data,
                               .index = d->quality_index.data,
                               .quality = d->quality.data,
                               .features = d->input[IN_TEACHER_FEATURES + n].data,
                               .padding = d->input[IN_PADDING + n].data,
                               .image_use = ddi_image_use(d),
                               .weight = level->weight.data,
                               .sum = level->sum.data,
                               .L = d->teacher.stages,
                               .B = d->images,
                               .N = d->teacher.queries,
                               .K = d->topk,
                               .d = (int32_t)queries->tensor.shape[3],
                               .index_divisor = d->settings.topk == 0 ? 1 : d->teacher.classes,
                               .per_query = d->settings.mask == DDI_MASK_PER_QUERY,
                               .raw = d->settings.psi_raw,
                               .P = positions};
    return ddi_run(x, DD_OPERATOR_feature_weights, d->dtype, &w);
}

/* phi(F_S) at the teacher's size (B.5). Reserves the gradients' memory, too, if `grad`. */
static dd_status map_student(dd_distiller *d, int32_t n, bool grad, const void **mapped)
{
    ddi_exec *x = &d->exec;
    ddi_level *level = &d->level[n];
    const int64_t *s = d->input[IN_STUDENT_FEATURES + n].tensor.shape;
    int32_t d_t = (int32_t)d->input[IN_TEACHER_FEATURES + n].tensor.shape[1];
    size_t real = (size_t)dd_dtype_size(d->dtype), maps = (size_t)d->images * (size_t)d_t;
    size_t own = maps * (size_t)(s[2] * s[3]) * real, teacher = maps * (size_t)level->height * (size_t)level->width * real;
    *mapped = d->input[IN_STUDENT_FEATURES + n].data;
    if (level->adapt) {
        DDI_TRY(ddi_buffer_reserve(x, &level->mapped, own, true, "adapted maps"));
        dd_op_matmul phi = {.a = d->input[IN_ADAPTOR_WEIGHT + n].data,
                            .b = *mapped,
                            .bias = d->input[IN_ADAPTOR_BIAS + n].data,
                            .c = level->mapped.data,
                            .batch = d->images,
                            .M = d_t,
                            .N = (int32_t)(s[2] * s[3]),
                            .K = (int32_t)s[1],
                            .lda = (int32_t)s[1],
                            .ldb = (int32_t)(s[2] * s[3]),
                            .ldc = (int32_t)(s[2] * s[3]),
                            .bias_rows = 1,
                            .stride_b = s[1] * s[2] * s[3],
                            .stride_c = d_t * s[2] * s[3],
                            .alpha = 1};
        DDI_TRY(ddi_run(x, DD_OPERATOR_matmul, d->dtype, &phi));
        *mapped = level->mapped.data;
    }
    if (level->resize) {
        DDI_TRY(ddi_buffer_reserve(x, &level->resized, teacher, true, "resized maps"));
        union {
            const void *in;
            void *out;
        } src = {*mapped}; /* the operator only reads it in this direction */
        dd_op_resize resize = {.src = src.out,
                               .dst = level->resized.data,
                               .maps = (int64_t)maps,
                               .src_h = (int32_t)s[2],
                               .src_w = (int32_t)s[3],
                               .dst_h = level->height,
                               .dst_w = level->width};
        DDI_TRY(ddi_run(x, DD_OPERATOR_resize, d->dtype, &resize));
        *mapped = level->resized.data;
    }
    if (grad && level->resize)
        DDI_TRY(ddi_buffer_reserve(x, &level->g_resized, teacher, true, "gradients of resized maps"));
    if (grad && level->adapt)
        DDI_TRY(ddi_buffer_reserve(x, &level->g_mapped, own, true, "gradients of adapted maps"));
    return DD_OK;
}

/* From the gradient of phi(F_S) to those of F_S and the adaptor. */
static dd_status adaptor_backward(dd_distiller *d, int32_t n, void *g_student)
{
    ddi_exec *x = &d->exec;
    const ddi_level *level = &d->level[n];
    const ddi_input *student = &d->input[IN_STUDENT_FEATURES + n];
    const int64_t *s = student->tensor.shape;
    int32_t d_t = (int32_t)d->input[IN_TEACHER_FEATURES + n].tensor.shape[1], d_s = (int32_t)s[1],
            positions = (int32_t)(s[2] * s[3]);
    const char *g = level->g_mapped.data;
    size_t real = (size_t)dd_dtype_size(d->dtype);
    if (g_student) {
        dd_op_matmul back = {.a = d->input[IN_ADAPTOR_WEIGHT + n].data,
                             .b = g,
                             .c = g_student,
                             .batch = d->images,
                             .M = d_s,
                             .N = positions,
                             .K = d_t,
                             .lda = d_s,
                             .ldb = positions,
                             .ldc = positions,
                             .trans_a = 1,
                             .stride_b = (int64_t)d_t * positions,
                             .stride_c = (int64_t)d_s * positions,
                             .alpha = 1};
        DDI_TRY(ddi_run(x, DD_OPERATOR_matmul, d->dtype, &back));
    }
    void *g_weight = ddi_parameter_gradient(d, IN_ADAPTOR_WEIGHT + n), *g_bias = ddi_parameter_gradient(d, IN_ADAPTOR_BIAS + n);
    for (int32_t b = 0; b < d->images && g_weight; b++) {
        dd_op_matmul outer = {.a = g + (size_t)b * (size_t)d_t * (size_t)positions * real,
                              .b = (const char *)student->data + (size_t)b * (size_t)d_s * (size_t)positions * real,
                              .c = g_weight,
                              .batch = 1,
                              .M = d_t,
                              .N = d_s,
                              .K = positions,
                              .lda = positions,
                              .ldb = positions,
                              .ldc = d_s,
                              .trans_b = 1,
                              .alpha = 1,
                              .beta = b > 0};
        DDI_TRY(ddi_run(x, DD_OPERATOR_matmul, d->dtype, &outer));
    }
    if (!g_bias)
        return DD_OK;
    dd_op_row_sum sum = {.x = g, .y = g_bias, .batch = d->images, .M = d_t, .N = positions};
    return ddi_run(x, DD_OPERATOR_row_sum, d->dtype, &sum);
}

static dd_status level_loss(dd_distiller *d, int32_t n)
{
    ddi_exec *x = &d->exec;
    ddi_level *level = &d->level[n];
    const int64_t *s = d->input[IN_STUDENT_FEATURES + n].tensor.shape;
    int32_t d_t = (int32_t)d->input[IN_TEACHER_FEATURES + n].tensor.shape[1], unused;
    void *g_student = ddi_gradient_target(d, IN_STUDENT_FEATURES + n, &unused);
    bool grad = g_student || level->adapt;
    const void *mapped;
    DDI_TRY(map_student(d, n, grad, &mapped));
    DDI_TRY(ddi_buffer_reserve(x, &level->terms, (size_t)d->teacher.stages * (size_t)d->images * 8, true, "loss terms"));
    void *g_adapted = level->adapt && grad ? level->g_mapped.data : g_student;
    dd_op_feature_loss loss = {.teacher = d->input[IN_TEACHER_FEATURES + n].data,
                               .student = mapped,
                               .weight = level->weight.data,
                               .sum = level->sum.data,
                               .terms = level->terms.data,
                               .L = d->teacher.stages,
                               .B = d->images,
                               .d = d_t,
                               .P = (int64_t)level->height * level->width,
                               .grad_scale = d->settings.weight[DDI_FEATURES]};
    loss.g_student = level->resize && grad ? level->g_resized.data : g_adapted;
    DDI_TRY(ddi_run(x, DD_OPERATOR_feature_loss, d->dtype, &loss));
    if (level->resize && grad) {
        dd_op_resize back = {.src = g_adapted,
                             .dst = level->g_resized.data,
                             .maps = (int64_t)d->images * d_t,
                             .src_h = (int32_t)s[2],
                             .src_w = (int32_t)s[3],
                             .dst_h = level->height,
                             .dst_w = level->width};
        DDI_TRY(ddi_run(x, DD_OPERATOR_resize_grad, d->dtype, &back));
    }
    return level->adapt ? adaptor_backward(d, n, g_student) : DD_OK;
}

dd_status ddi_feature_loss(dd_distiller *d)
{
    DDI_TRY(score_queries(d));
    for (int32_t n = 0; n < d->levels; n++) {
        DDI_TRY(weigh_positions(d, n));
        DDI_TRY(level_loss(d, n));
    }
    return DD_OK;
}
