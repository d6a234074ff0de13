/* SPDX-License-Identifier: Apache-2.0
 * AdamW over blocks of parameters. */
#include "train/optimiser.h"
#include "base/error.h"
#include "train/schedule.h"

#include <math.h>
#include <string.h>

/* ---- Blocks */

static size_t bytes_of(const ddi_weights *b)
{
    return (size_t)b->count * (size_t)dd_dtype_size(b->dtype);
}

static dd_status reserve_zeros(ddi_optimiser *o, ddi_buffer *buffer, size_t bytes, const char *what)
{
    DDI_TRY(ddi_buffer_reserve(o->exec, buffer, bytes + 1, true, what));
    return ddi_zero(o->exec, buffer->data, bytes);
}

static dd_status reserve_moments(ddi_optimiser *o, ddi_weights *b)
{
    DDI_TRY(reserve_zeros(o, &b->m, bytes_of(b), "moments"));
    return reserve_zeros(o, &b->v, bytes_of(b), "moments");
}

/* Trained parameters in the order of their places; neighbours that are treated alike become one slice. */
static void cut_slices(ddi_weights *b, const ddi_params *params, const ddi_optimiser_settings *settings)
{
    b->slices = 0;
    for (int32_t i = 0; i < params->count; i++) {
        const ddi_param *p = params->all[i];
        if (!p->trained) {
            continue;
        }
        const ddi_slice next = {p->place, p->count, settings->rate_of_group[p->group], settings->small_decay || p->ndim > 1};
        ddi_slice *last = b->slices ? &b->slice[b->slices - 1] : NULL;
        if (last && last->rate == next.rate && last->decays == next.decays) {
            last->count = next.first + next.count - last->first; /* what pads in between is zero and stays so */
        } else {
            b->slice[b->slices++] = next;
        }
    }
}

dd_status ddi_optimiser_init(ddi_optimiser *o, ddi_exec *exec, const ddi_params *params, const ddi_optimiser_settings *settings)
{
    *o = (ddi_optimiser){.exec = exec, .settings = *settings, .blocks = 1};
    ddi_weights *b = &o->block[0];
    *b = (ddi_weights){
        .w = params->trained.data, .g = params->grad.data, .dtype = params->dtype, .count = params->trained_elements};
    b->slice = ddi_alloc_zero(&exec->context->allocator, (size_t)params->count + 1, sizeof *b->slice);
    if (!b->slice) {
        return ddi_fail_nomem((uint64_t)params->count * sizeof *b->slice, "the optimiser");
    }
    cut_slices(b, params, settings);
    DDI_TRY(ddi_buffer_reserve(exec, &o->sums, DDI_MOST_BLOCKS * sizeof(double), true, "the optimiser"));
    DDI_TRY(reserve_moments(o, b));
    if (settings->average > 0) {
        DDI_TRY(ddi_buffer_reserve(exec, &b->average, bytes_of(b) + 1, true, "averaged weights"));
        DDI_TRY(ddi_copy(exec, b->average.data, b->w, bytes_of(b), DD_COPY_ON_DEVICE));
    }
    return DD_OK;
}

void ddi_optimiser_free(ddi_optimiser *o)
{
    for (int32_t i = 0; i < o->blocks; i++) {
        ddi_weights *b = &o->block[i];
        ddi_buffer *const held[] = {&b->m, &b->v, &b->average};
        for (size_t k = 0; k < sizeof held / sizeof *held; k++) {
            ddi_buffer_free(o->exec, held[k]);
        }
        ddi_free(&o->exec->context->allocator, b->slice);
    }
    if (o->exec) {
        ddi_buffer_free(o->exec, &o->sums);
    }
    *o = (ddi_optimiser){.exec = NULL};
}

static dd_status join_one(ddi_optimiser *o, const char *name, const dd_tensor *value, const dd_tensor *grad)
{
    if (o->blocks == DDI_MOST_BLOCKS) {
        return ddi_fail(DD_ERR_LIMIT, name, "a distiller with more than %d parameters", DDI_MOST_BLOCKS - 1);
    }
    ddi_weights *b = &o->block[o->blocks++];
    *b = (ddi_weights){.name = name, .w = value->data, .g = grad->data, .dtype = value->dtype, .count = 1, .slices = 1};
    for (int32_t d = 0; d < value->ndim; d++) {
        b->count *= value->shape[d];
    }
    b->slice = ddi_alloc(&o->exec->context->allocator, sizeof *b->slice);
    if (!b->slice) {
        return ddi_fail_nomem(sizeof *b->slice, "the optimiser");
    }
    *b->slice = (ddi_slice){0, b->count, 1, o->settings.small_decay || value->ndim > 1};
    return reserve_moments(o, b);
}

dd_status ddi_optimiser_join(ddi_optimiser *o, dd_distiller *distiller)
{
    int32_t count;
    DDI_TRY(dd_distiller_parameter_count(distiller, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor value, grad;
        DDI_TRY(dd_distiller_parameter_at(distiller, i, &name, &value, &grad));
        DDI_TRY(join_one(o, name, &value, &grad));
    }
    return DD_OK;
}

/* ---- A step */

dd_status ddi_optimiser_norm(ddi_optimiser *o, int32_t batches, double *norm)
{
    double sum[DDI_MOST_BLOCKS], all = 0;
    double *place = o->sums.data;
    for (int32_t i = 0; i < o->blocks; i++) {
        const dd_op_sum_squares a = {o->block[i].g, &place[i], o->block[i].count};
        DDI_TRY(ddi_run(o->exec, DD_OPERATOR_sum_squares, o->block[i].dtype, &a));
    }
    DDI_TRY(ddi_copy(o->exec, sum, place, (size_t)o->blocks * sizeof *sum, DD_COPY_TO_HOST));
    DDI_TRY(ddi_sync(o->exec));
    for (int32_t i = 0; i < o->blocks; i++) {
        all += sum[i];
    }
    *norm = sqrt(all) / batches;
    return DD_OK;
}

double ddi_clip_factor(double clip, double norm)
{
    const double factor = clip / (norm + 1e-6);
    return clip > 0 && factor < 1 ? factor : 1;
}

static dd_status update_slice(ddi_optimiser *o, const ddi_weights *b, const ddi_slice *slice, int64_t update, double rate,
                              double scale)
{
    const ddi_optimiser_settings *s = &o->settings;
    const size_t at = (size_t)slice->first * (size_t)dd_dtype_size(b->dtype);
    const dd_op_adamw a = {.w = b->w + at,
                           .m = (char *)b->m.data + at,
                           .v = (char *)b->v.data + at,
                           .g = b->g + at,
                           .count = slice->count,
                           .rate = rate * slice->rate,
                           .decay = slice->decays ? s->decay : 0,
                           .beta1 = s->beta1,
                           .beta2 = s->beta2,
                           .eps = s->eps,
                           .correction1 = 1 - pow(s->beta1, (double)update),
                           .correction2 = 1 - pow(s->beta2, (double)update),
                           .grad_scale = scale};
    return ddi_run(o->exec, DD_OPERATOR_adamw, b->dtype, &a);
}

dd_status ddi_optimiser_update(ddi_optimiser *o, int64_t update, double rate, int32_t batches, double norm)
{
    const double clip = ddi_clip_factor(o->settings.clip, norm);
    for (int32_t i = 0; i < o->blocks; i++) {
        const ddi_weights *b = &o->block[i];
        for (int32_t k = 0; k < b->slices; k++) {
            DDI_TRY(update_slice(o, b, &b->slice[k], update, rate, clip / batches));
        }
    }
    const ddi_weights *b = &o->block[0];
    const dd_op_average a = {b->w, b->average.data, b->count, ddi_schedule_average(o->settings.average, update)};
    return b->average.data ? ddi_run(o->exec, DD_OPERATOR_average, b->dtype, &a) : DD_OK;
}

void ddi_optimiser_swap_average(ddi_optimiser *o)
{
    enum { PIECE = 4096 };
    ddi_weights *b = &o->block[0];
    char kept[PIECE], *average = b->average.data;
    for (size_t at = 0, end = average ? bytes_of(b) : 0; at < end; at += PIECE) {
        const size_t size = end - at < PIECE ? end - at : PIECE;
        memcpy(kept, b->w + at, size);
        memcpy(b->w + at, average + at, size);
        memcpy(average + at, kept, size);
    }
}
