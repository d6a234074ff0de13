/* SPDX-License-Identifier: Apache-2.0
 * Attaching models: what fits together, which parameters the distiller adds, Teacher Init. */
#include "kd/attach.h"
#include "base/error.h"
#include "base/handle.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool ddi_attached_input(int32_t input)
{
    return input == IN_PIXELS || input == IN_IDS || (input >= IN_GT_BOXES && input <= IN_SIZES);
}

static const ddi_model_config *config_of(const dd_model *m)
{
    return &m->net.config;
}

/* ---- What fits together */

static dd_status check_models(const dd_distiller *d, const dd_model *student, const dd_model *teacher)
{
    const dd_context *context = d->exec.context;
    if (student->context != context || (teacher && teacher->context != context))
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_distiller_attach: the %s was made with another context than the distiller",
                        student->context != context ? "student" : "teacher");
    if (d->attached || d->steps > 0 || d->parameter_count > 0)
        return ddi_fail(DD_ERR_STATE, NULL, "dd_distiller_attach: the distiller has %s; make another one",
                        d->attached ? "models already" : "had a step without models");
    if (!student->settings.gradients || !student->params.grad.data)
        return ddi_fail(DD_ERR_STATE, NULL, "dd_distiller_attach: the student keeps no gradients; make it with gradients=1");
    const int64_t classes = config_of(student)->classes;
    if (d->settings.classes && d->settings.classes != classes)
        return ddi_fail(DD_ERR_SHAPE, "classes", "dd_distiller_attach: the distiller has classes=%lld, the student %lld",
                        (long long)d->settings.classes, (long long)classes);
    if (teacher && config_of(teacher)->classes != classes)
        return ddi_fail(DD_ERR_SHAPE, "classes", "dd_distiller_attach: the student has %lld classes, the teacher %lld",
                        (long long)classes, (long long)config_of(teacher)->classes);
    return DD_OK;
}

/* The conventions are the student's. */
static dd_status settle_family(dd_distiller *d, const ddi_attachment *a)
{
    const ddi_detector *detector = config_of(a->student)->detector;
    const int32_t number = ddi_detector_number(detector);
    if (d->settings.family != 0 && d->settings.family != number)
        return ddi_fail(DD_ERR_UNSUPPORTED, "family",
                        "dd_distiller_attach: the student is a %s, the distiller has another family", detector->name);
    d->settings.family = number;
    return DD_OK;
}

/* What needs models that are alike: the maps of one level after the other, and queries that mean the same. */
static dd_status check_alike(const ddi_distiller_settings *s, const ddi_model_config *student, const ddi_model_config *teacher)
{
    const bool same = student->detector == teacher->detector;
    if (!same && s->prior != DDI_PRIOR_NONE)
        return ddi_fail(DD_ERR_UNSUPPORTED, "prior",
                        "dd_distiller_attach: queries of a %s mean nothing to a %s; give prior=none", teacher->detector->name,
                        student->detector->name);
    if (!same && s->mask != DDI_MASK_NONE)
        return ddi_fail(DD_ERR_UNSUPPORTED, "feature-mask",
                        "dd_distiller_attach: the maps of a %s and a %s are not alike; give feature-mask=none",
                        teacher->detector->name, student->detector->name);
    if (!same && s->contrastive)
        return ddi_fail(DD_ERR_UNSUPPORTED, "contrastive",
                        "dd_distiller_attach: contrastive=1 needs models of one family; this is a %s and a %s",
                        teacher->detector->name, student->detector->name);
    return DD_OK;
}

/* Without a teacher, and where a module asks for what these models do not have. */
static dd_status settle_modules(dd_distiller *d, const ddi_attachment *a)
{
    ddi_distiller_settings *s = &d->settings;
    DDI_TRY(settle_family(d, a));
    if (!a->teacher) {
        s->logits = s->split = s->contrastive = 0;
        s->mask = DDI_MASK_NONE;
        s->prior = DDI_PRIOR_NONE;
        return DD_OK;
    }
    const ddi_model_config *student = config_of(a->student), *teacher = config_of(a->teacher);
    DDI_TRY(check_alike(s, student, teacher));
    if (s->contrastive && student->queries > teacher->queries)
        return ddi_fail(DD_ERR_SHAPE, "contrastive",
                        "dd_distiller_attach: contrastive=1 needs at least as many teacher queries (%lld) as student queries "
                        "(%lld)",
                        (long long)teacher->queries, (long long)student->queries);
    if (s->mask != DDI_MASK_NONE && s->adaptor == DDI_ADAPTOR_NEVER && student->d != teacher->d)
        return ddi_fail(DD_ERR_SHAPE, "adaptor",
                        "dd_distiller_attach: the student is %lld wide, the teacher %lld: adaptor=never cannot compare them",
                        (long long)student->d, (long long)teacher->d);
    return DD_OK;
}

/* ---- Parameters of the distiller's own */

/* Those of the losses: their widths are known before the first step. */
static dd_status make_loss_parameters(dd_distiller *d, const ddi_attachment *a)
{
    const ddi_model_config *student = config_of(a->student), *teacher = config_of(a->teacher);
    d->dtype = a->student->dtype;
    d->levels = a->levels;
    d->active[DDI_FEATURES] = a->wants_maps;
    d->active[DDI_CONTRASTIVE] = d->settings.contrastive != 0;
    d->input[IN_STUDENT_QUERIES].tensor.shape[3] = student->d;
    d->input[IN_TEACHER_QUERIES].tensor.shape[3] = teacher->d;
    for (int32_t n = 0; n < a->levels; n++) {
        d->input[IN_STUDENT_FEATURES + n].tensor.shape[1] = student->d;
        d->input[IN_TEACHER_FEATURES + n].tensor.shape[1] = teacher->d;
        d->level[n].adapt =
            d->settings.adaptor == DDI_ADAPTOR_ALWAYS || (d->settings.adaptor == DDI_ADAPTOR_AUTO && student->d != teacher->d);
    }
    return ddi_parameters_make(d);
}

static dd_status make_map(ddi_attachment *a, const char *name, ddi_dense *map)
{
    const int64_t in = config_of(a->teacher)->d, out = config_of(a->student)->d;
    const ddi_init start = {DDI_INIT_UNIFORM, 1 / sqrt((double)in), 0};
    char at[DDI_NAME_BYTES];
    snprintf(at, sizeof at, "prior.%s.weight", name);
    map->w = ddi_params_add(&a->maps, at, start, DDI_GROUP_MAIN, true, DDI_SHAPE(out, in));
    snprintf(at, sizeof at, "prior.%s.bias", name);
    map->b = map->w ? ddi_params_add(&a->maps, at, start, DDI_GROUP_MAIN, true, DDI_SHAPE(out)) : NULL;
    return map->b ? DD_OK : DD_ERR_NOMEM;
}

static bool has_column(const dd_model *m, bool content)
{
    const ddi_model_config *c = config_of(m);
    return (content ? c->detector->content_column(c) : c->detector->position_column(c)) >= 0;
}

/* Maps for the teacher's queries where the decoders differ in width (C.2). */
static dd_status make_query_maps(dd_distiller *d, ddi_attachment *a)
{
    ddi_params_init(&a->maps, d->exec.context, a->student->dtype);
    if (!a->wants_group || config_of(a->student)->d == config_of(a->teacher)->d)
        return DD_OK;
    if ((a->stored_group && !config_of(a->teacher)->detector->no_position) || has_column(a->teacher, false))
        DDI_TRY(make_map(a, "position", &a->position_map));
    if (a->stored_group || has_column(a->teacher, true))
        DDI_TRY(make_map(a, "content", &a->content_map));
    DDI_TRY(ddi_params_allocate(&a->maps, &d->exec, (uint64_t)d->exec.context->settings.seed));
    return ddi_params_allocate_grad(&a->maps, &d->exec);
}

/* Sums of gradients over steps, for parameters whose operators overwrite. */
static dd_status make_sums(dd_distiller *d)
{
    for (int32_t i = 0; i < d->parameter_count; i++) {
        ddi_parameter *p = &d->parameter[i];
        DDI_TRY(ddi_buffer_reserve(&d->exec, &p->sum, p->grad.bytes, true, d->input[p->input].name));
        DDI_TRY(ddi_zero(&d->exec, p->sum.data, p->sum.bytes));
    }
    return DD_OK;
}

/* ---- Teacher Init (C.5) */

static int64_t row_of(const ddi_param *table)
{
    return table ? table->shape[1] : 0;
}

static dd_status copy_table(dd_distiller *d, const ddi_attachment *a)
{
    const ddi_model_config *student = config_of(a->student), *teacher = config_of(a->teacher);
    const ddi_param *from = a->teacher->net.queries, *to = a->student->net.queries;
    if (!from || !to || student->queries != teacher->queries || row_of(from) != row_of(to))
        return ddi_fail(DD_ERR_SHAPE, "prior",
                        "prior=init copies the teacher's query table (%lld queries of %lld numbers%s); the student has %lld of "
                        "%lld%s",
                        (long long)teacher->queries, (long long)row_of(from), from ? "" : ", made by its encoder",
                        (long long)student->queries, (long long)row_of(to), to ? "" : ", made by its encoder");
    const dd_op_gather copy = {.src = from->data,
                               .dst = to->data,
                               .src_dtype = a->teacher->dtype,
                               .ndim = 2,
                               .shape = {from->shape[0], from->shape[1]},
                               .stride = {from->shape[1], 1}};
    DDI_TRY(ddi_run(&d->exec, DD_OPERATOR_gather, a->student->dtype, &copy));
    return ddi_sync(&d->exec);
}

/* ---- */

static void choose_taps(const dd_distiller *d, ddi_attachment *a)
{
    const ddi_distiller_settings *s = &d->settings;
    a->wants_maps = s->mask != DDI_MASK_NONE;
    a->wants_queries = a->wants_maps || s->contrastive;
    a->wants_group = s->prior == DDI_PRIOR_GROUP || s->prior == DDI_PRIOR_ASSIGNED;
    const ddi_model_config *student = config_of(a->student);
    a->encoder = s->source == DDI_SOURCE_ENCODER || (s->source == DDI_SOURCE_AUTO && student->detector->features_from_encoder);
    if (!a->teacher)
        return;
    const ddi_model_config *teacher = config_of(a->teacher);
    a->levels = student->levels < teacher->levels ? student->levels : teacher->levels;
    a->stored_group = a->wants_group && (teacher->detector->reads_image(teacher) || student->detector->reads_image(student));
}

static dd_status fill(dd_distiller *d, ddi_attachment *a)
{
    DDI_TRY(settle_modules(d, a));
    choose_taps(d, a);
    if (a->wants_maps && a->encoder && (config_of(a->student)->encoder_layers < 1 || config_of(a->teacher)->encoder_layers < 1))
        return ddi_fail(DD_ERR_UNSUPPORTED, "feature-source",
                        "dd_distiller_attach: feature-source=encoder, and a model has no encoder");
    DDI_TRY(make_query_maps(d, a));
    if (a->teacher)
        DDI_TRY(make_loss_parameters(d, a));
    DDI_TRY(make_sums(d));
    return d->settings.prior == DDI_PRIOR_INIT ? copy_table(d, a) : DD_OK;
}

static void drop_parameters(dd_distiller *d)
{
    for (int32_t i = 0; i < d->parameter_count; i++) {
        ddi_buffer_free(&d->exec, &d->parameter[i].value);
        ddi_buffer_free(&d->exec, &d->parameter[i].grad);
        ddi_buffer_free(&d->exec, &d->parameter[i].sum);
    }
    d->parameter_count = 0;
}

dd_status ddi_attach(dd_distiller *d, dd_model *student, dd_model *teacher)
{
    DDI_TRY(check_models(d, student, teacher));
    ddi_attachment *a = ddi_alloc_zero(&d->exec.context->allocator, 1, sizeof *a);
    if (!a)
        return ddi_fail_nomem(sizeof *a, "attached models");
    const ddi_distiller_settings before = d->settings;
    a->student = student;
    a->teacher = teacher;
    a->student_number = ddi_handle_number(student);
    a->teacher_number = teacher ? ddi_handle_number(teacher) : 0;
    d->attached = a;
    const dd_status status = fill(d, a);
    if (status != DD_OK) { /* as if nothing had been tried */
        drop_parameters(d);
        ddi_attachment_free(d);
        d->settings = before;
    }
    return status;
}

void ddi_attachment_free(dd_distiller *d)
{
    ddi_attachment *a = d->attached;
    if (!a)
        return;
    ddi_cache_free(a->cache, &d->exec);
    ddi_buffer *const all[] = {&a->sizes, &a->denoising_match, &a->teacher_queries, &a->student_queries,
                               &a->student_queries_grad};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ddi_buffer_free(&d->exec, all[i]);
    for (int32_t i = 0; i < DDI_KEPT_OUTPUTS; i++)
        ddi_buffer_free(&d->exec, &a->kept[i]);
    if (a->maps.context)
        ddi_params_free(&a->maps, &d->exec);
    ddi_free(&d->exec.context->allocator, a);
    d->attached = NULL;
}

dd_status ddi_attached_cache(dd_distiller *d, const char *folder, int64_t most_bytes)
{
    ddi_attachment *a = d->attached;
    ddi_cache *made = NULL;
    if (!a || !a->teacher)
        return ddi_fail(DD_ERR_STATE, NULL, "dd_distiller_set_cache: no teacher is attached");
    if (folder && !ddi_on_host(&d->exec))
        return ddi_fail(DD_ERR_UNSUPPORTED, NULL, "dd_distiller_set_cache: outputs of a teacher on a device are not stored");
    if (folder && most_bytes < 0)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_distiller_set_cache: %lld bytes", (long long)most_bytes);
    if (folder)
        DDI_TRY(ddi_cache_open(&made, d, folder, most_bytes));
    ddi_cache_free(a->cache, &d->exec);
    a->cache = made;
    return DD_OK;
}

dd_status ddi_attached_zero(dd_distiller *d)
{
    for (int32_t i = 0; i < d->parameter_count; i++)
        DDI_TRY(ddi_zero(&d->exec, d->parameter[i].sum.data, d->parameter[i].sum.bytes));
    return d->attached && d->attached->maps.count ? ddi_params_zero_grad(&d->attached->maps, &d->exec) : DD_OK;
}
