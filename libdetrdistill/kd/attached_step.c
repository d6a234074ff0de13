/* SPDX-License-Identifier: Apache-2.0
 * A training step through attached models: forward, losses on their tensors in place, backward. */
#include "base/error.h"
#include "kd/attach.h"
#include "tape/node.h"

#include <string.h>

/* ---- The batch */

static dd_status read_sizes(dd_distiller *d, dd_tensor *view)
{
    ddi_attachment *a = d->attached;
    const ddi_input *in = &d->input[IN_SIZES], *pixels = &d->input[IN_PIXELS];
    if (!pixels->bound)
        return ddi_fail(DD_ERR_STATE, pixels->name, "pixels is not bound; this step needs it");
    const int64_t shape[2] = {pixels->tensor.shape[0], 2};
    DDI_TRY(ddi_input_expect(in, 2, shape));
    if (in->tensor.dtype != DD_I32 && in->tensor.dtype != DD_I64)
        return ddi_fail(DD_ERR_DTYPE, in->name, "%s: element type %s; models take i32 or i64", in->name,
                        dd_dtype_name(in->tensor.dtype));
    if (shape[0] > DDI_MAX_IMAGES)
        return ddi_fail(DD_ERR_LIMIT, pixels->name, "pixels has more than %d images", DDI_MAX_IMAGES);
    DDI_TRY(ddi_buffer_reserve(&d->exec, &a->sizes, (size_t)shape[0] * 8 + 1, false, "sizes"));
    DDI_TRY(ddi_input_to_host(&d->exec, in, a->sizes.data));
    return dd_tensor_init(view, a->sizes.data, DD_I32, 2, shape, NULL, DD_DEVICE_CPU, 0, 0);
}

/* ---- The second group: the teacher's queries on the student's tape (C.2) */

static ddi_value *take_constant(ddi_tape *t, const dd_tensor *from, int64_t images)
{
    ddi_value *v = ddi_new(t, DDI_SHAPE(images, from->shape[1], from->shape[2]));
    dd_op_gather a = {.src = from->data, .dst = v->data, .src_dtype = from->dtype, .ndim = 3};
    memcpy(a.shape, v->shape, sizeof v->shape);
    memcpy(a.stride, from->stride, sizeof a.stride);
    ddi_tape_run(t, DD_OPERATOR_gather, &a);
    return v;
}

/* In the student's width; NULL: the teacher has none, and the student's own rule holds. */
static ddi_value *take_queries(ddi_tape *t, const dd_tensor *from, const ddi_dense *map, int64_t images)
{
    if (from->ndim == 0)
        return NULL;
    ddi_value *q = take_constant(t, from, images);
    return map->w ? ddi_run_dense(t, map, q) : q;
}

static bool make_group(ddi_tape *t, void *arg, int64_t images, ddi_query_values *q)
{
    const ddi_attachment *a = arg;
    const ddi_teacher_outputs *o = &a->teacher_outputs;
    const ddi_model_config *c = &a->student->net.config;
    q->position = take_queries(t, &o->position, &a->position_map, images);
    q->content = take_queries(t, &o->content, &a->content_map, images);
    q->reference = c->detector->reads_image(c) ? take_constant(t, &o->reference, images) : NULL;
    return true;
}

/* ---- Binding, without the checks of memory from outside */

static void bind(dd_distiller *d, int32_t input, const dd_tensor *view)
{
    d->input[input].tensor = *view;
    d->input[input].bound = true;
}

static void unbind_all(dd_distiller *d)
{
    for (int32_t i = 0; i < IN_COUNT; i++)
        d->input[i].bound = d->input[i].bound && ddi_attached_input(i);
}

static dd_status view_value(const dd_model *m, const ddi_value *v, dd_tensor *view)
{
    return dd_tensor_init(view, v->data, m->dtype, v->ndim, v->shape, NULL, m->context->backend->device_type,
                          m->context->device_index, 0);
}

/* A value of the student under a name, and its gradient. */
static dd_status bind_value(dd_distiller *d, int32_t input, ddi_value *v)
{
    dd_model *m = d->attached->student;
    dd_tensor view;
    DDI_TRY(view_value(m, v, &view));
    bind(d, input, &view);
    view.data = ddi_seed(&m->tape, v);
    if (!view.data)
        return m->tape.status;
    bind(d, IN_GRADIENTS + input, &view);
    return DD_OK;
}

/* The encoder's proposals as one stage. */
static dd_status bind_proposals(dd_distiller *d, int32_t input, ddi_value *v)
{
    ddi_input *in[2] = {&d->input[input], &d->input[IN_GRADIENTS + input]};
    DDI_TRY(bind_value(d, input, v));
    const int64_t shape[4] = {1, v->shape[0], v->shape[1], v->shape[2]};
    for (int32_t i = 0; i < 2; i++)
        DDI_TRY(dd_tensor_init(&in[i]->tensor, in[i]->tensor.data, in[i]->tensor.dtype, 4, shape, NULL,
                               in[i]->tensor.device_type, in[i]->tensor.device_index, 0));
    return DD_OK;
}

static dd_status bind_maps(dd_distiller *d)
{
    const ddi_attachment *a = d->attached;
    dd_model *m = a->student;
    ddi_value *maps = a->encoder ? m->out.encoder : m->out.features;
    dd_tensor value, grad, level;
    DDI_TRY(view_value(m, maps, &value));
    grad = value;
    grad.data = ddi_seed(&m->tape, maps);
    if (!grad.data)
        return m->tape.status;
    for (int32_t n = 0; n < a->levels; n++) {
        level = ddi_level_view(&value, &m->out.levels, n);
        bind(d, IN_STUDENT_FEATURES + n, &level);
        level = ddi_level_view(&grad, &m->out.levels, n);
        bind(d, IN_GRADIENTS + IN_STUDENT_FEATURES + n, &level);
        level = ddi_level_view(&a->teacher_outputs.maps, &a->teacher_outputs.levels, n);
        bind(d, IN_TEACHER_FEATURES + n, &level);
    }
    return DD_OK;
}

/* The contrastive term reads the layers as one tensor, and its gradient goes back to each of them. */
static dd_status bind_student_queries(dd_distiller *d)
{
    ddi_attachment *a = d->attached;
    dd_tensor view;
    DDI_TRY(ddi_pack_layers(&d->exec, a->student, &a->student_queries, &view));
    bind(d, IN_STUDENT_QUERIES, &view);
    DDI_TRY(ddi_buffer_reserve(&d->exec, &a->student_queries_grad, a->student_queries.bytes, true, "gradients of queries"));
    view.data = a->student_queries_grad.data;
    bind(d, IN_GRADIENTS + IN_STUDENT_QUERIES, &view);
    return DD_OK;
}

/* Every layer's denoising queries are to find the same objects, which the distiller knows by their numbers in gt.*. */
static dd_status bind_denoising(dd_distiller *d)
{
    ddi_attachment *a = d->attached;
    const ddi_denoising *n = &a->student->out.denoising;
    const ddi_objects *o = &d->objects;
    const int64_t shape[3] = {n->logits->shape[0], n->logits->shape[1], n->slots}, layer = shape[1] * shape[2];
    dd_tensor view;
    DDI_TRY(ddi_buffer_reserve(&d->exec, &a->denoising_match, (size_t)(shape[0] * layer) * 4, false, "denoising.match"));
    int32_t *match = a->denoising_match.data;
    for (int64_t i = 0; i < shape[0] * layer; i++) {
        const int32_t object = n->object[i % layer];
        match[i] = object < 0 ? -1 : o->original[o->offsets[i % layer / n->slots] + object];
    }
    DDI_TRY(dd_tensor_init(&view, match, DD_I32, 3, shape, NULL, DD_DEVICE_CPU, 0, 0));
    bind(d, IN_DENOISING_MATCH, &view);
    DDI_TRY(bind_value(d, IN_DENOISING_LOGITS, n->logits));
    return bind_value(d, IN_DENOISING_BOXES, n->boxes);
}

static dd_status bind_tensors(dd_distiller *d)
{
    const ddi_attachment *a = d->attached;
    const ddi_teacher_outputs *o = &a->teacher_outputs;
    const ddi_detections *s = &a->student->out;
    DDI_TRY(bind_value(d, IN_STUDENT_LOGITS, s->logits));
    DDI_TRY(bind_value(d, IN_STUDENT_BOXES, s->boxes));
    if (s->group_logits) {
        DDI_TRY(bind_value(d, IN_PRIOR_LOGITS, s->group_logits));
        DDI_TRY(bind_value(d, IN_PRIOR_BOXES, s->group_boxes));
    }
    if (s->proposals && d->settings.det) {
        DDI_TRY(bind_proposals(d, IN_ENCODER_LOGITS, s->proposal_logits));
        DDI_TRY(bind_proposals(d, IN_ENCODER_BOXES, s->proposal_boxes));
    }
    if (s->denoising.logits && d->settings.det)
        DDI_TRY(bind_denoising(d));
    if (!a->teacher)
        return DD_OK;
    bind(d, IN_TEACHER_LOGITS, &o->logits);
    bind(d, IN_TEACHER_BOXES, &o->boxes);
    if (a->wants_queries)
        bind(d, IN_TEACHER_QUERIES, &o->queries);
    if (a->wants_maps)
        DDI_TRY(bind_maps(d));
    return d->settings.contrastive ? bind_student_queries(d) : DD_OK;
}

/* ---- Back */

static dd_status seed_layers(dd_distiller *d)
{
    ddi_attachment *a = d->attached;
    dd_model *m = a->student;
    const char *from = a->student_queries_grad.data;
    for (int32_t i = 0; i < m->net.config.decoder_layers && d->settings.contrastive; i++) {
        ddi_value *layer = m->out.layer[i];
        const size_t bytes = (size_t)layer->count * m->tape.element;
        void *grad = ddi_seed(&m->tape, layer);
        if (!grad)
            return m->tape.status;
        DDI_TRY(ddi_copy(&d->exec, grad, from + (size_t)i * bytes, bytes, DD_COPY_ON_DEVICE));
    }
    return ddi_sync(&d->exec);
}

static dd_status add_parameter_gradients(dd_distiller *d)
{
    for (int32_t i = 0; i < d->parameter_count; i++) {
        const ddi_parameter *p = &d->parameter[i];
        const int64_t count = (int64_t)(p->grad.bytes / (size_t)dd_dtype_size(p->view.dtype));
        const dd_op_add add = {p->sum.data, p->grad.data, p->sum.data, count, count};
        DDI_TRY(ddi_run(&d->exec, DD_OPERATOR_add, p->view.dtype, &add));
    }
    return ddi_sync(&d->exec);
}

/* The objects of the batch, for denoising queries: the losses read them once more, and find the same. */
static dd_status read_truth(dd_distiller *d, ddi_truth *truth)
{
    ddi_input *in = d->input;
    const dd_model *m = d->attached->student;
    const ddi_objects_inputs batch = {.boxes = &in[IN_GT_BOXES],
                                      .labels = &in[IN_GT_LABELS],
                                      .offsets = &in[IN_GT_OFFSETS],
                                      .crowd = &in[IN_GT_CROWD],
                                      .sizes = &in[IN_SIZES],
                                      .need_objects = true};
    DDI_TRY(ddi_objects_read(&d->exec, &d->objects, &batch, (int32_t)in[IN_PIXELS].tensor.shape[0],
                             (int32_t)m->net.config.classes, m->dtype, (ddi_nonfinite)d->settings.nonfinite));
    *truth = (ddi_truth){d->objects.offsets, d->objects.labels, d->objects.host.data, m->dtype}; /* boxes come first */
    return DD_OK;
}

static bool wants_denoising(const dd_distiller *d)
{
    const dd_model *m = d->attached->student;
    const ddi_model_config *c = &m->net.config;
    return c->detector->denoises && c->denoising.number > 0 && m->settings.training && d->settings.det;
}

static dd_status forward(dd_distiller *d)
{
    ddi_attachment *a = d->attached;
    dd_tensor sizes;
    ddi_truth truth;
    const bool denoising = wants_denoising(d);
    DDI_TRY(read_sizes(d, &sizes));
    if (denoising)
        DDI_TRY(read_truth(d, &truth));
    if (a->teacher)
        DDI_TRY(ddi_teacher_run(d, &sizes));
    const ddi_model_pass pass = {.record = true,
                                 .training = a->student->settings.training != 0,
                                 .group = a->wants_group ? make_group : NULL,
                                 .group_arg = a,
                                 .truth = denoising ? &truth : NULL,
                                 .noise = a->noise};
    DDI_TRY(ddi_model_run(a->student, &d->input[IN_PIXELS].tensor, &sizes, &pass));
    return ddi_sync(&a->student->exec);
}

static dd_status step(dd_distiller *d, double *total)
{
    DDI_TRY(forward(d));
    DDI_TRY(bind_tensors(d));
    DDI_TRY(ddi_distiller_step(d, total));
    DDI_TRY(seed_layers(d));
    DDI_TRY(ddi_tape_backward(&d->attached->student->tape));
    return add_parameter_gradients(d);
}

dd_status ddi_attached_step(dd_distiller *d, double *total)
{
    d->has_result = false;
    const dd_status status = step(d, total);
    d->attached->student->tape.record = false; /* nothing is left to go back over */
    unbind_all(d);
    if (status != DD_OK)
        d->has_result = false;
    return status;
}
