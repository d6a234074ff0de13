/* SPDX-License-Identifier: Apache-2.0
 * The teacher's outputs for a batch. */
#include "base/error.h"
#include "kd/attach.h"

#include <string.h>

dd_tensor ddi_level_view(const dd_tensor *maps, const ddi_levels *levels, int32_t n)
{
    const int64_t d = maps->shape[2], width = levels->width[n];
    dd_tensor v = *maps;
    v.ndim = 4;
    v.data = (char *)maps->data + (size_t)(levels->first[n] * d * dd_dtype_size(maps->dtype));
    const int64_t shape[4] = {maps->shape[0], d, levels->height[n], width};
    const int64_t stride[4] = {maps->shape[1] * d, 1, width * d, d};
    memcpy(v.shape, shape, sizeof shape);
    memcpy(v.stride, stride, sizeof stride);
    return v;
}

dd_status ddi_pack_layers(ddi_exec *x, const dd_model *m, ddi_buffer *buffer, dd_tensor *view)
{
    const ddi_model_config *c = &m->net.config;
    const ddi_value *first = m->out.layer[0];
    const size_t bytes = (size_t)first->count * m->tape.element;
    const int64_t shape[4] = {c->decoder_layers, first->shape[0], first->shape[1], first->shape[2]};
    DDI_TRY(ddi_buffer_reserve(x, buffer, bytes * (size_t)c->decoder_layers, true, "queries of all stages"));
    for (int32_t i = 0; i < c->decoder_layers; i++)
        DDI_TRY(ddi_copy(x, (char *)buffer->data + (size_t)i * bytes, m->out.layer[i]->data, bytes, DD_COPY_ON_DEVICE));
    return dd_tensor_init(view, buffer->data, m->dtype, 4, shape, NULL, x->context->backend->device_type,
                          x->context->device_index, 0);
}

static dd_status view_value(const dd_model *m, const ddi_value *v, dd_tensor *view)
{
    return dd_tensor_init(view, v->data, m->dtype, v->ndim, v->shape, NULL, m->context->backend->device_type,
                          m->context->device_index, DD_TENSOR_READONLY);
}

/* Columns of the query table, the same for all images: [B,N,d] with stride 0. first < 0: the table has none. */
static dd_status view_table(const dd_model *m, int64_t images, int32_t first, dd_tensor *view)
{
    if (first < 0)
        return DD_OK;
    const int64_t d = m->net.config.d, row = m->net.queries->shape[1];
    const int64_t shape[3] = {images, m->net.config.queries, d}, stride[3] = {0, row, 1};
    return dd_tensor_init(view, m->net.queries->data + (size_t)first * m->tape.element, m->dtype, 3, shape, stride,
                          m->context->backend->device_type, m->context->device_index, DD_TENSOR_READONLY);
}

/* Copies what the views show, which is dense. */
static dd_status keep_outputs(dd_distiller *d)
{
    ddi_attachment *a = d->attached;
    ddi_teacher_outputs *o = &a->teacher_outputs;
    dd_tensor *const views[DDI_KEPT_OUTPUTS] = {&o->logits, &o->boxes, &o->maps, &o->position, &o->content, &o->reference};
    for (int32_t i = 0; i < DDI_KEPT_OUTPUTS; i++) {
        dd_tensor *v = views[i];
        size_t bytes = v->ndim ? (size_t)dd_dtype_size(v->dtype) : 0;
        for (int32_t k = 0; k < v->ndim; k++)
            bytes *= (size_t)v->shape[k];
        if (bytes == 0)
            continue;
        DDI_TRY(ddi_buffer_reserve(&d->exec, &a->kept[i], bytes, true, "outputs of the teacher"));
        DDI_TRY(ddi_copy(&d->exec, a->kept[i].data, v->data, bytes, DD_COPY_ON_DEVICE));
        v->data = a->kept[i].data;
    }
    return ddi_sync(&d->exec);
}

static dd_status run_model(dd_distiller *d, const dd_tensor *sizes)
{
    ddi_attachment *a = d->attached;
    dd_model *m = a->teacher;
    ddi_teacher_outputs *o = &a->teacher_outputs;
    const ddi_model_pass pass = {.record = false};
    DDI_TRY(ddi_model_run(m, &d->input[IN_PIXELS].tensor, sizes, &pass));
    DDI_TRY(ddi_sync(&m->exec));
    o->levels = m->out.levels;
    DDI_TRY(view_value(m, m->out.logits, &o->logits));
    DDI_TRY(view_value(m, m->out.boxes, &o->boxes));
    if (a->wants_maps)
        DDI_TRY(view_value(m, a->encoder ? m->out.encoder : m->out.features, &o->maps));
    if (a->stored_group) {
        if (m->out.queries.position)
            DDI_TRY(view_value(m, m->out.queries.position, &o->position));
        if (m->out.queries.content)
            DDI_TRY(view_value(m, m->out.queries.content, &o->content));
        DDI_TRY(view_value(m, m->out.queries.reference, &o->reference));
    }
    if (a->wants_queries)
        DDI_TRY(ddi_pack_layers(&d->exec, m, &a->teacher_queries, &o->queries));
    return keep_outputs(d);
}

dd_status ddi_teacher_run(dd_distiller *d, const dd_tensor *sizes)
{
    ddi_attachment *a = d->attached;
    ddi_teacher_outputs *o = &a->teacher_outputs;
    const dd_model *m = a->teacher;
    memset(o, 0, sizeof *o);
    ddi_model_exchange(a->student, a->teacher);
    const dd_status status = a->cache ? ddi_cache_run(d, sizes) : run_model(d, sizes);
    ddi_model_exchange(a->student, a->teacher);
    DDI_TRY(status);
    if (!a->wants_group || a->stored_group)
        return DD_OK;
    const int64_t images = o->logits.shape[1];
    const ddi_model_config *c = &m->net.config;
    DDI_TRY(view_table(m, images, c->detector->position_column(c), &o->position));
    return view_table(m, images, c->detector->content_column(c), &o->content);
}
