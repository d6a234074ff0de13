/* SPDX-License-Identifier: Apache-2.0
 * One distillation step: take the tensors, match, compute every module, deliver (pseudo-code E of the specification). */
#include "base/error.h"
#include "kd/attach.h"

#include <math.h>
#include <string.h>

dd_status ddi_distiller_init(dd_distiller *d, dd_context *context, const char *options)
{
    DDI_TRY(ddi_distiller_parse(&d->settings, options));
    if (d->settings.contrastive && !d->settings.logits)
        return ddi_fail(DD_ERR_OPTION, "contrastive", "contrastive=1 compares matched queries and needs logits=1");
    ddi_exec_init(&d->exec, context);
    ddi_distiller_name_inputs(d);
    d->term = ddi_alloc(&context->allocator, DDI_MAX_TERMS * sizeof *d->term);
    return d->term ? DD_OK : ddi_fail_nomem(DDI_MAX_TERMS * sizeof *d->term, "a distiller");
}

static void free_buffers(ddi_exec *x, ddi_buffer *buffer, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        ddi_buffer_free(x, &buffer[i]);
}

static void free_levels(dd_distiller *d)
{
    for (int32_t n = 0; n < DDI_MAX_LEVELS; n++) {
        ddi_level *l = &d->level[n];
        ddi_buffer *const all[] = {&l->mapped, &l->resized, &l->g_resized, &l->g_mapped, &l->weight, &l->sum, &l->terms};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            ddi_buffer_free(&d->exec, all[i]);
    }
}

void ddi_distiller_free(dd_distiller *d)
{
    ddi_exec *x = &d->exec;
    ddi_attachment_free(d);
    ddi_inputs_free(x, d->input, IN_COUNT);
    ddi_objects_free(x, &d->objects);
    ddi_matching *const matchings[] = {&d->det_match, &d->teacher_match, &d->prior_match, &d->kd_match, &d->encoder_match};
    for (size_t i = 0; i < sizeof matchings / sizeof matchings[0]; i++)
        ddi_matching_free(x, matchings[i]);
    ddi_buffer *const single[] = {&d->quality_index, &d->quality,     &d->fixed_match, &d->fixed_match_device,
                                  &d->prior_targets, &d->first_class, &d->pairs.host,  &d->pairs.device,
                                  &d->scan.device,   &d->scan.host};
    for (size_t i = 0; i < sizeof single / sizeof single[0]; i++)
        ddi_buffer_free(x, single[i]);
    free_buffers(x, d->targets.memory, 3);
    free_buffers(x, d->contrastive, CONTRASTIVE_BUFFERS);
    free_buffers(x, d->terms, DDI_MODULES);
    free_buffers(x, d->host_terms, DDI_MODULES);
    free_buffers(x, d->result, RESULTS);
    free_levels(d);
    for (int32_t i = 0; i < d->parameter_count; i++) {
        ddi_buffer_free(x, &d->parameter[i].value);
        ddi_buffer_free(x, &d->parameter[i].grad);
        ddi_buffer_free(x, &d->parameter[i].sum);
    }
    ddi_free(&x->context->allocator, d->term);
    ddi_exec_free(x);
}

const uint8_t *ddi_image_use(const dd_distiller *d)
{
    return d->settings.nonfinite == DDI_NONFINITE_SKIP ? d->objects.d_image_use : NULL;
}

static bool needs_teacher(const dd_distiller *d)
{
    return d->active[DDI_LOGITS] || d->active[DDI_FEATURES] ||
           (d->active[DDI_PRIOR] && d->settings.prior == DDI_PRIOR_ASSIGNED);
}

bool ddi_needs_teacher_match(const dd_distiller *d)
{
    return (d->active[DDI_LOGITS] && d->settings.split) || (d->active[DDI_PRIOR] && d->settings.prior == DDI_PRIOR_ASSIGNED) ||
           (d->active[DDI_FEATURES] && d->settings.mask == DDI_MASK_PER_QUERY);
}

static void choose_modules(dd_distiller *d)
{
    const ddi_distiller_settings *s = &d->settings;
    d->active[DDI_DET] = s->det;
    d->active[DDI_DENOISING] = d->input[IN_DENOISING_LOGITS].bound || d->input[IN_DENOISING_BOXES].bound;
    d->active[DDI_ENCODER] = d->input[IN_ENCODER_LOGITS].bound || d->input[IN_ENCODER_BOXES].bound;
    d->active[DDI_LOGITS] = s->logits;
    d->active[DDI_FEATURES] = s->mask != DDI_MASK_NONE;
    d->active[DDI_PRIOR] = s->prior == DDI_PRIOR_GROUP || s->prior == DDI_PRIOR_ASSIGNED;
    d->active[DDI_CONTRASTIVE] = s->contrastive;
    d->dtype = d->input[IN_STUDENT_LOGITS].bound && d->input[IN_STUDENT_LOGITS].tensor.dtype == DD_F64 ? DD_F64 : DD_F32;
}

static dd_status take_predictions(dd_distiller *d)
{
    ddi_exec *x = &d->exec;
    ddi_input *in = d->input;
    int64_t classes = d->settings.classes ? d->settings.classes : -1;
    DDI_TRY(ddi_predictions_take(x, &d->student, &in[IN_STUDENT_LOGITS], &in[IN_STUDENT_BOXES], d->dtype, -1, classes));
    d->images = (int32_t)in[IN_STUDENT_LOGITS].tensor.shape[1];
    classes = d->student.classes;
    if (needs_teacher(d)) {
        DDI_TRY(
            ddi_predictions_take(x, &d->teacher, &in[IN_TEACHER_LOGITS], &in[IN_TEACHER_BOXES], d->dtype, d->images, classes));
        DDI_TRY(ddi_stage_pairs_make(x, &d->pairs, d->student.stages, d->teacher.stages, (ddi_stage_map)d->settings.stage));
    }
    if (d->active[DDI_PRIOR]) {
        DDI_TRY(ddi_predictions_take(x, &d->prior, &in[IN_PRIOR_LOGITS], &in[IN_PRIOR_BOXES], d->dtype, d->images, classes));
        if (d->prior.stages != d->student.stages || (needs_teacher(d) && d->prior.queries != d->teacher.queries))
            return ddi_fail(DD_ERR_SHAPE, "prior.logits",
                            "prior.logits has %d stages and %d queries; it needs the student's %d stages "
                            "and the teacher's %d queries",
                            d->prior.stages, d->prior.queries, d->student.stages,
                            needs_teacher(d) ? d->teacher.queries : d->prior.queries);
    }
    if (d->active[DDI_DENOISING])
        DDI_TRY(ddi_predictions_take(x, &d->denoising, &in[IN_DENOISING_LOGITS], &in[IN_DENOISING_BOXES], d->dtype, d->images,
                                     classes));
    if (d->active[DDI_ENCODER])
        DDI_TRY(ddi_proposals_take(x, &d->encoder, &in[IN_ENCODER_LOGITS], &in[IN_ENCODER_BOXES], d->dtype, d->images,
                                   ddi_family[d->settings.family].first_class ? -1 : classes));
    return DD_OK;
}

static dd_status check_width(const ddi_input *queries)
{
    int64_t width = queries->tensor.shape[3];
    if (width < 1)
        return ddi_fail(DD_ERR_SHAPE, queries->name, "%s has no channels", queries->name);
    if (width > DDI_MAX_CHANNELS)
        return ddi_fail(DD_ERR_LIMIT, queries->name, "%s has %lld channels; at most %d are possible", queries->name,
                        (long long)width, DDI_MAX_CHANNELS);
    return DD_OK;
}

static dd_status take_contrastive(dd_distiller *d)
{
    ddi_input *s = &d->input[IN_STUDENT_QUERIES], *t = &d->input[IN_TEACHER_QUERIES];
    DDI_TRY(ddi_input_expect(s, 4, (int64_t[]){d->student.stages, d->images, d->student.queries, -1}));
    DDI_TRY(ddi_input_expect(t, 4, (int64_t[]){d->teacher.stages, d->images, d->teacher.queries, -1}));
    DDI_TRY(check_width(s));
    DDI_TRY(check_width(t));
    if (d->student.queries > d->teacher.queries)
        return ddi_fail(DD_ERR_SHAPE, s->name,
                        "contrastive=1 needs at least as many teacher queries (%d) as student queries (%d)", d->teacher.queries,
                        d->student.queries);
    if ((int64_t)d->images * d->student.queries > DDI_MAX_QUERIES * 4 ||
        (int64_t)d->images * d->student.queries * s->tensor.shape[3] > INT32_MAX)
        return ddi_fail(DD_ERR_LIMIT, s->name, "contrastive=1 compares all queries of the batch: more than %d",
                        DDI_MAX_QUERIES * 4);
    DDI_TRY(ddi_input_stage(&d->exec, s, d->dtype, false));
    return ddi_input_stage(&d->exec, t, d->dtype, false);
}

static dd_status take_objects(dd_distiller *d)
{
    ddi_input *in = d->input;
    bool pixels = ddi_family[d->settings.family].giou_pixels;
    bool based = d->active[DDI_DET] || d->active[DDI_PRIOR] || d->active[DDI_DENOISING] || d->active[DDI_ENCODER] ||
                 ddi_needs_teacher_match(d);
    const ddi_objects_inputs batch = {.boxes = &in[IN_GT_BOXES],
                                      .labels = &in[IN_GT_LABELS],
                                      .offsets = &in[IN_GT_OFFSETS],
                                      .crowd = &in[IN_GT_CROWD],
                                      .sizes = &in[IN_SIZES],
                                      .need_objects = based || d->active[DDI_FEATURES],
                                      .need_sizes = d->active[DDI_LOGITS] || d->active[DDI_FEATURES] || (based && pixels)};
    return ddi_objects_read(&d->exec, &d->objects, &batch, d->images, d->student.classes, d->dtype,
                            (ddi_nonfinite)d->settings.nonfinite);
}

/* Looks for NaN in all that was taken; replaces or leaves out as asked. */
static dd_status check_finite(dd_distiller *d)
{
    static const int32_t with_queries[] = {IN_STUDENT_LOGITS, IN_STUDENT_BOXES, IN_TEACHER_LOGITS,   IN_TEACHER_BOXES,
                                           IN_PRIOR_LOGITS,   IN_PRIOR_BOXES,   IN_DENOISING_LOGITS, IN_DENOISING_BOXES,
                                           IN_ENCODER_LOGITS, IN_ENCODER_BOXES, IN_STUDENT_QUERIES,  IN_TEACHER_QUERIES};
    const bool taken[] = {true,
                          true,
                          needs_teacher(d),
                          needs_teacher(d),
                          d->active[DDI_PRIOR],
                          d->active[DDI_PRIOR],
                          d->active[DDI_DENOISING],
                          d->active[DDI_DENOISING],
                          d->active[DDI_ENCODER],
                          d->active[DDI_ENCODER],
                          d->active[DDI_CONTRASTIVE],
                          d->active[DDI_CONTRASTIVE] || d->active[DDI_FEATURES]};
    bool replaced[DDI_MAX_SCANS] = {false};
    d->scan.count = 0;
    for (int32_t i = 0; i < (int32_t)(sizeof taken / sizeof taken[0]); i++)
        if (taken[i])
            ddi_finite_add(&d->scan, &d->input[with_queries[i]], 1, 2);
    for (int32_t n = 0; n < d->levels && d->active[DDI_FEATURES]; n++) {
        ddi_finite_add(&d->scan, &d->input[IN_STUDENT_FEATURES + n], 0, -1);
        ddi_finite_add(&d->scan, &d->input[IN_TEACHER_FEATURES + n], 0, -1);
    }
    for (int32_t n = 0; n < d->levels && d->active[DDI_FEATURES]; n++) {
        if (d->level[n].adapt) {
            ddi_finite_add(&d->scan, &d->input[IN_ADAPTOR_WEIGHT + n], -1, -1);
            ddi_finite_add(&d->scan, &d->input[IN_ADAPTOR_BIAS + n], -1, -1);
        }
    }
    for (int32_t i = IN_BRANCH_STUDENT; i < IN_WITH_GRADIENT && d->active[DDI_CONTRASTIVE]; i++)
        ddi_finite_add(&d->scan, &d->input[i], -1, -1);
    DDI_TRY(ddi_finite_check(&d->exec, &d->scan, &d->objects, d->dtype, (ddi_nonfinite)d->settings.nonfinite, replaced));
    memset(d->replaced, 0, sizeof d->replaced);
    for (int32_t i = 0; i < d->scan.count; i++)
        d->replaced[d->scan.input[i] - d->input] = replaced[i];
    return DD_OK;
}

/* Replaced numbers lie in other memory than before. */
static void refresh_predictions(dd_distiller *d)
{
    ddi_predictions *const p[] = {&d->student, &d->teacher, &d->prior, &d->denoising, &d->encoder};
    static const int32_t logits[] = {IN_STUDENT_LOGITS, IN_TEACHER_LOGITS, IN_PRIOR_LOGITS, IN_DENOISING_LOGITS,
                                     IN_ENCODER_LOGITS};
    static const int32_t boxes[] = {IN_STUDENT_BOXES, IN_TEACHER_BOXES, IN_PRIOR_BOXES, IN_DENOISING_BOXES, IN_ENCODER_BOXES};
    for (size_t i = 0; i < sizeof p / sizeof p[0]; i++) {
        p[i]->logits = d->input[logits[i]].data;
        p[i]->boxes = d->input[boxes[i]].data;
    }
}

/* Everything that a step reads, checked and on the device. */
static dd_status take_inputs(dd_distiller *d)
{
    choose_modules(d);
    DDI_TRY(take_predictions(d));
    d->levels = 0;
    if (d->active[DDI_FEATURES])
        DDI_TRY(ddi_features_check(d));
    if (d->active[DDI_CONTRASTIVE])
        DDI_TRY(take_contrastive(d));
    DDI_TRY(ddi_parameters_make(d));
    DDI_TRY(take_objects(d));
    if (d->active[DDI_FEATURES])
        DDI_TRY(ddi_features_take(d));
    DDI_TRY(check_finite(d));
    refresh_predictions(d);
    DDI_TRY(ddi_objects_upload(&d->exec, &d->objects));
    return d->active[DDI_DENOISING] ? ddi_denoising_match(d) : DD_OK;
}

static dd_status match_all(dd_distiller *d)
{
    ddi_exec *x = &d->exec;
    const ddi_conventions *v = &ddi_family[d->settings.family];
    ddi_nonfinite policy = (ddi_nonfinite)d->settings.nonfinite;
    const ddi_match_weights objects = {DDI_WEIGHT_CLASS_COST, DDI_WEIGHT_L1, DDI_WEIGHT_GIOU};
    const ddi_match_weights queries = {1, DDI_WEIGHT_L1, DDI_WEIGHT_GIOU};
    bool group = d->active[DDI_PRIOR] && d->settings.prior == DDI_PRIOR_GROUP, teacher = ddi_needs_teacher_match(d);
    if (d->active[DDI_ENCODER])
        DDI_TRY(ddi_encoder_match(d));
    if (d->active[DDI_DET])
        DDI_TRY(ddi_match_objects(x, d->dtype, v, objects, &d->student, &d->objects, &d->det_match));
    if (teacher)
        DDI_TRY(ddi_match_objects(x, d->dtype, v, objects, &d->teacher, &d->objects, &d->teacher_match));
    if (group)
        DDI_TRY(ddi_match_objects(x, d->dtype, v, objects, &d->prior, &d->objects, &d->prior_match));
    if (d->active[DDI_LOGITS]) {
        DDI_TRY(ddi_teacher_targets(x, d->dtype, &d->teacher, &d->objects, &d->targets));
        DDI_TRY(ddi_match_teacher(x, d->dtype, v->l1_xyxy, queries, &d->student, &d->targets, &d->objects, &d->pairs,
                                  d->settings.split ? d->teacher_match.match : NULL, &d->kd_match));
        DDI_TRY(ddi_matching_fetch(x, &d->kd_match, &d->objects, policy));
    }
    if (d->active[DDI_ENCODER])
        DDI_TRY(ddi_matching_fetch(x, &d->encoder_match, &d->objects, policy));
    if (d->active[DDI_DET])
        DDI_TRY(ddi_matching_fetch(x, &d->det_match, &d->objects, policy));
    if (teacher)
        DDI_TRY(ddi_matching_fetch(x, &d->teacher_match, &d->objects, policy));
    return group ? ddi_matching_fetch(x, &d->prior_match, &d->objects, policy) : DD_OK;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* Counts of this process; all are known from the sizes, since every matching makes min(rows, columns) pairs. */
static void count_locally(dd_distiller *d)
{
    double students = d->student.queries, teachers = d->teacher.queries;
    memset(d->norm, 0, sizeof d->norm);
    d->norm[NORM_POSITIVES] = (double)ddi_objects_pairs(&d->objects, d->student.queries);
    d->norm[NORM_OBJECTS] = d->objects.count;
    if (d->active[DDI_PRIOR])
        d->norm[NORM_PRIOR_POSITIVES] = (double)ddi_objects_pairs(&d->objects, d->prior.queries);
    if (d->active[DDI_ENCODER])
        d->norm[NORM_ENCODER_POSITIVES] = (double)ddi_objects_pairs(&d->objects, d->encoder.queries);
    for (int32_t b = 0; b < d->images && d->active[DDI_LOGITS]; b++) {
        if (!d->objects.image_use[b])
            continue;
        double positive = smaller(teachers, d->objects.offsets[b + 1] - d->objects.offsets[b]);
        double taken = smaller(students, positive);
        d->norm[NORM_PAIRS] += smaller(students, teachers);
        d->norm[NORM_PAIRS_POSITIVE] += taken;
        d->norm[NORM_PAIRS_NEGATIVE] += smaller(students - taken, teachers - positive);
    }
    d->local_pairs = d->norm[NORM_PAIRS];
}

static dd_status set_normalisers(dd_distiller *d)
{
    count_locally(d);
    if (d->mean && d->mean(d->mean_user, d->norm, d->active[DDI_ENCODER] ? NORM_COUNT : NORM_COUNT - 1) != 0)
        return ddi_fail(DD_ERR_BACKEND, "mean", "the mean callback reported a failure");
    for (int32_t i = 0; i < NORM_COUNT; i++) {
        if (!isfinite(d->norm[i]) || d->norm[i] < 0)
            return ddi_fail(DD_ERR_BACKEND, "mean", "the mean callback returned %g as number %d", d->norm[i], i);
        if (d->norm[i] < 1)
            d->norm[i] = 1;
    }
    return DD_OK;
}

static dd_status compute_modules(dd_distiller *d)
{
    static dd_status (*const module[DDI_MODULES])(dd_distiller *) = {
        [DDI_DET] = ddi_detection_loss,           [DDI_DENOISING] = ddi_denoising_loss, [DDI_LOGITS] = ddi_logits_loss,
        [DDI_ENCODER] = ddi_encoder_loss,         [DDI_FEATURES] = ddi_feature_loss,    [DDI_PRIOR] = ddi_prior_loss,
        [DDI_CONTRASTIVE] = ddi_contrastive_loss,
    };
    for (int32_t i = 0; i < DDI_MODULES; i++)
        if (d->active[i])
            DDI_TRY(module[i](d));
    return DD_OK;
}

dd_status ddi_distiller_prepare(dd_distiller *d)
{
    d->has_result = false; /* the sizes that results are read with may change now */
    choose_modules(d);
    DDI_TRY(take_predictions(d));
    d->levels = 0;
    if (d->active[DDI_FEATURES])
        DDI_TRY(ddi_features_check(d));
    if (d->active[DDI_CONTRASTIVE])
        DDI_TRY(take_contrastive(d));
    return ddi_parameters_make(d);
}

static dd_status step(dd_distiller *d)
{
    d->has_result = false;
    DDI_TRY(take_inputs(d));
    DDI_TRY(match_all(d));
    DDI_TRY(set_normalisers(d));
    DDI_TRY(ddi_gradients_stage(d));
    dd_status status = compute_modules(d);
    if (status == DD_OK)
        status = ddi_terms_fetch(d);
    if (status == DD_OK)
        status = ddi_gradients_check(d);
    bool delivering = status == DD_OK;
    if (status == DD_OK)
        status = ddi_gradients_deliver(d);
    if (status == DD_OK)
        status = ddi_sync(&d->exec);
    if (status != DD_OK)
        ddi_gradients_zero(d, delivering);
    return status;
}

dd_status ddi_distiller_step(dd_distiller *d, double *total)
{
    dd_status status = step(d);
    if (status != DD_OK) {
        ddi_error_set_place(DD_PLACE_STEP, d->steps);
        return status;
    }
    ddi_terms_name(d);
    d->steps++;
    d->has_result = true;
    ddi_trace_matches(d);
    ddi_error_clear(); /* calls that the caller's mean or trace made may have failed */
    if (total)
        *total = d->total;
    return DD_OK;
}
