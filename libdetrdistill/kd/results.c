/* SPDX-License-Identifier: Apache-2.0
 * Results of the last step by name, as read-only host tensors. */
#include "base/error.h"
#include "kd/distiller.h"

#include <stdio.h>
#include <string.h>

static void describe(dd_tensor *view, void *data, int32_t dtype, int32_t dims, const int64_t *shape)
{
    *view = (dd_tensor){.struct_size = sizeof *view,
                        .dtype = dtype,
                        .ndim = dims,
                        .device_type = DD_DEVICE_CPU,
                        .flags = DD_TENSOR_READONLY,
                        .data = data};
    int64_t step = 1;
    for (int32_t i = dims - 1; i >= 0; i--) {
        view->shape[i] = shape[i];
        view->stride[i] = step;
        step *= shape[i];
    }
}

static dd_status absent(const char *name)
{
    return ddi_fail(DD_ERR_NOT_FOUND, name, "there is no result named '%.60s', or its module was off in the last step", name);
}

static dd_status match_result(dd_distiller *d, int32_t slot, const ddi_matching *m, bool is_on, const char *name,
                              dd_tensor *view)
{
    if (!is_on)
        return absent(name);
    size_t entries = (size_t)m->blocks * (size_t)m->queries;
    DDI_TRY(ddi_buffer_reserve(&d->exec, &d->result[slot], entries * 4, false, name));
    int32_t *out = d->result[slot].data;
    for (int32_t k = 0; k < m->blocks; k++) {
        const int32_t *match = m->host_match + (size_t)k * (size_t)m->queries;
        int32_t image = k % m->images;
        for (int32_t i = 0; i < m->queries; i++) {
            int32_t partner = d->objects.image_use[image] ? match[i] : -1;
            *out++ = partner >= 0 && m->of_objects ? d->objects.original[d->objects.offsets[image] + partner] : partner;
        }
    }
    describe(view, d->result[slot].data, DD_I32, 3, (int64_t[]){m->stages, m->images, m->queries});
    return DD_OK;
}

/* The teacher's assignment, arranged by student stage. */
static dd_status assigned_result(dd_distiller *d, int32_t slot, const char *name, dd_tensor *view)
{
    if (!d->active[DDI_PRIOR])
        return absent(name);
    dd_tensor teacher;
    size_t entries = (size_t)d->images * (size_t)d->prior.queries, stages = (size_t)d->prior.stages;
    DDI_TRY(match_result(d, 1, &d->teacher_match, true, "match.teacher", &teacher));
    DDI_TRY(ddi_buffer_reserve(&d->exec, &d->result[slot], stages * entries * 4, false, name));
    int32_t *out = d->result[slot].data;
    for (size_t s = 0; s < stages; s++) {
        size_t from = (size_t)ddi_prior_teacher_stage(d, (int32_t)s);
        memcpy(out + s * entries, (const int32_t *)teacher.data + from * entries, entries * 4);
    }
    describe(view, out, DD_I32, 3, (int64_t[]){d->prior.stages, d->images, d->prior.queries});
    return DD_OK;
}

static dd_status kind_result(dd_distiller *d, int32_t slot, const char *name, dd_tensor *view)
{
    const ddi_matching *m = &d->kd_match;
    if (!d->active[DDI_LOGITS])
        return absent(name);
    size_t entries = (size_t)m->blocks * (size_t)m->queries;
    DDI_TRY(ddi_buffer_reserve(&d->exec, &d->result[slot], entries * 4, false, name));
    int32_t *out = d->result[slot].data;
    for (size_t i = 0; i < entries; i++) {
        bool used = d->objects.image_use[i / (size_t)m->queries % (size_t)m->images] != 0;
        out[i] = !used ? 0 : m->host_kind ? m->host_kind[i] : m->host_match[i] >= 0;
    }
    describe(view, out, DD_I32, 3, (int64_t[]){m->stages, m->images, m->queries});
    return DD_OK;
}

static dd_status cost_result(const ddi_matching *m, bool is_on, const char *name, dd_tensor *view)
{
    if (!is_on)
        return absent(name);
    describe(view, (void *)(uintptr_t)m->host_total, DD_F64, 2, (int64_t[]){m->stages, m->images});
    return DD_OK;
}

static dd_status terms_result(dd_distiller *d, ddi_module m, const char *name, dd_tensor *view)
{
    if (!d->active[m])
        return absent(name);
    describe(view, d->host_terms[m].data, DD_F64, m == DDI_CONTRASTIVE ? 1 : 2,
             (int64_t[]){ddi_term_rows(d, m), ddi_term_parts(d, m)});
    return DD_OK;
}

static dd_status device_result(dd_distiller *d, int32_t slot, const void *data, int32_t dtype, const int64_t *shape,
                               const char *name, dd_tensor *view)
{
    ddi_exec *x = &d->exec;
    if (!d->active[DDI_FEATURES])
        return absent(name);
    size_t bytes = (size_t)(shape[0] * shape[1] * shape[2] * dd_dtype_size(dtype));
    DDI_TRY(ddi_buffer_reserve(x, &d->result[slot], bytes, false, name));
    DDI_TRY(ddi_copy(x, d->result[slot].data, data, bytes, ddi_on_host(x) ? DD_COPY_ON_DEVICE : DD_COPY_TO_HOST));
    DDI_TRY(ddi_sync(x));
    describe(view, d->result[slot].data, dtype, 3, shape);
    return DD_OK;
}

static dd_status weight_result(dd_distiller *d, const char *name, dd_tensor *view)
{
    const char *digit = name + strlen("features.weight.");
    int32_t n = digit[0] - '0'; /* there are at most 8 levels */
    if (n < 0 || n >= d->levels || digit[1])
        return absent(name);
    const ddi_level *l = &d->level[n];
    return device_result(d, 16 + n, l->sum.data, d->dtype, (int64_t[]){d->images, l->height, l->width}, name, view);
}

dd_status ddi_result_get(dd_distiller *d, const char *name, dd_tensor *view)
{
    bool group = d->active[DDI_PRIOR] && d->settings.prior == DDI_PRIOR_GROUP, teacher = ddi_needs_teacher_match(d);
    const int64_t entries[] = {d->teacher.stages, d->images, d->topk};
    if (strcmp(name, "match.det") == 0)
        return match_result(d, 0, &d->det_match, d->active[DDI_DET], name, view);
    if (strcmp(name, "match.teacher") == 0)
        return match_result(d, 1, &d->teacher_match, teacher, name, view);
    if (strcmp(name, "match.prior") == 0)
        return group ? match_result(d, 2, &d->prior_match, true, name, view) : assigned_result(d, 2, name, view);
    if (strcmp(name, "match.logits") == 0)
        return match_result(d, 3, &d->kd_match, d->active[DDI_LOGITS], name, view);
    if (strcmp(name, "match.encoder") == 0)
        return match_result(d, 7, &d->encoder_match, d->active[DDI_ENCODER], name, view);
    if (strcmp(name, "kind.logits") == 0)
        return kind_result(d, 4, name, view);
    if (strcmp(name, "pairs.logits") == 0 && d->active[DDI_LOGITS]) {
        describe(view, d->pairs.pair, DD_I32, 2, (int64_t[]){d->pairs.count, 2});
        return DD_OK;
    }
    if (strcmp(name, "cost.det") == 0)
        return cost_result(&d->det_match, d->active[DDI_DET], name, view);
    if (strcmp(name, "cost.teacher") == 0)
        return cost_result(&d->teacher_match, teacher, name, view);
    if (strcmp(name, "cost.prior") == 0)
        return cost_result(&d->prior_match, group, name, view);
    if (strcmp(name, "cost.logits") == 0)
        return cost_result(&d->kd_match, d->active[DDI_LOGITS], name, view);
    if (strcmp(name, "cost.encoder") == 0)
        return cost_result(&d->encoder_match, d->active[DDI_ENCODER], name, view);
    if (strcmp(name, "features.index") == 0)
        return device_result(d, 5, d->quality_index.data, DD_I32, entries, name, view);
    if (strcmp(name, "features.quality") == 0)
        return device_result(d, 6, d->quality.data, d->dtype, entries, name, view);
    if (strncmp(name, "features.weight.", strlen("features.weight.")) == 0)
        return weight_result(d, name, view);
    for (int32_t m = 0; m < DDI_MODULES; m++)
        if (strncmp(name, "terms.", 6) == 0 && strcmp(name + 6, ddi_module_names[m]) == 0)
            return terms_result(d, (ddi_module)m, name, view);
    return absent(name);
}
