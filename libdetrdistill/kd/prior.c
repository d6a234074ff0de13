/* SPDX-License-Identifier: Apache-2.0
 * Query-prior assignment distillation (C): the teacher's queries, run through the student's decoder, are supervised with the
 * objects that the teacher's own matching gave them. */
#include "base/error.h"
#include "kd/detection.h"

int32_t ddi_prior_teacher_stage(const dd_distiller *d, int32_t s)
{
    return d->settings.prior_last ? d->teacher.stages - 1 : ddi_stage_last_teacher(&d->pairs, s);
}

/* ASSIGNED: the teacher's matches, arranged by student stage. */
static dd_status teacher_assignment(dd_distiller *d, const int32_t **match)
{
    ddi_exec *x = &d->exec;
    int32_t stages = d->prior.stages;
    size_t entries = (size_t)d->images * (size_t)d->prior.queries;
    DDI_TRY(ddi_buffer_reserve(x, &d->prior_targets, (size_t)stages * entries * 4, true, "the prior group's targets"));
    for (int32_t s = 0; s < stages; s++) {
        size_t from = (size_t)ddi_prior_teacher_stage(d, s);
        DDI_TRY(ddi_copy(x, (int32_t *)d->prior_targets.data + (size_t)s * entries, d->teacher_match.match + from * entries,
                         entries * 4, DD_COPY_ON_DEVICE));
    }
    *match = d->prior_targets.data;
    return DD_OK;
}

dd_status ddi_prior_loss(dd_distiller *d)
{
    if (d->settings.prior == DDI_PRIOR_ASSIGNED) {
        const int32_t *match;
        DDI_TRY(teacher_assignment(d, &match));
        return ddi_object_loss(d, DDI_PRIOR, &d->prior, match, d->norm[NORM_PRIOR_POSITIVES], IN_PRIOR_LOGITS, IN_PRIOR_BOXES);
    }
    bool by_objects = ddi_family[d->settings.family].count_objects;
    return ddi_object_loss(d, DDI_PRIOR, &d->prior, d->prior_match.match,
                           d->norm[by_objects ? NORM_OBJECTS : NORM_PRIOR_POSITIVES], IN_PRIOR_LOGITS, IN_PRIOR_BOXES);
}
