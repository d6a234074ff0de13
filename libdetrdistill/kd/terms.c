/* SPDX-License-Identifier: Apache-2.0
 * From the sums that the operators wrote to named terms. */
#include "base/error.h"
#include "kd/distiller.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int32_t ddi_term_rows(const dd_distiller *d, ddi_module module)
{
    switch (module) {
    case DDI_LOGITS:
    case DDI_CONTRASTIVE:
        return d->pairs.count;
    case DDI_FEATURES:
        return d->teacher.stages;
    case DDI_PRIOR:
        return d->prior.stages;
    case DDI_ENCODER:
        return 1;
    case DDI_DENOISING:
        return d->denoising.stages;
    default:
        return d->student.stages;
    }
}

int32_t ddi_term_parts(const dd_distiller *d, ddi_module module)
{
    switch (module) {
    case DDI_LOGITS:
        return d->settings.split ? 5 : 3;
    case DDI_CONTRASTIVE:
        return 1;
    case DDI_FEATURES:
        return d->levels;
    default:
        return 3;
    }
}

/* Copies [rows][images][parts] from the device and adds up the images into out[row*out_parts + first ..]. */
static dd_status add_images(dd_distiller *d, const void *device, int32_t rows, int32_t images, int32_t parts, double *out,
                            int32_t out_parts, int32_t first)
{
    ddi_exec *x = &d->exec;
    size_t bytes = (size_t)rows * (size_t)images * (size_t)parts * sizeof(double);
    DDI_TRY(ddi_buffer_reserve(x, &x->host_values, bytes, false, "loss terms"));
    DDI_TRY(ddi_copy(x, x->host_values.data, device, bytes, ddi_on_host(x) ? DD_COPY_ON_DEVICE : DD_COPY_TO_HOST));
    DDI_TRY(ddi_sync(x));
    const double *in = x->host_values.data;
    int32_t kept = first + parts > out_parts ? out_parts - first : parts;
    for (int32_t r = 0; r < rows; r++)
        for (int32_t k = 0; k < kept; k++) {
            double sum = 0;
            for (int32_t b = 0; b < images; b++)
                sum += in[((size_t)r * (size_t)images + (size_t)b) * (size_t)parts + (size_t)k];
            out[r * out_parts + first + k] = sum;
        }
    return DD_OK;
}

static dd_status fetch_module(dd_distiller *d, ddi_module m)
{
    int32_t rows = ddi_term_rows(d, m), parts = ddi_term_parts(d, m);
    DDI_TRY(
        ddi_buffer_reserve(&d->exec, &d->host_terms[m], (size_t)rows * (size_t)parts * sizeof(double), false, "loss terms"));
    double *out = d->host_terms[m].data;
    if (m == DDI_FEATURES) {
        for (int32_t n = 0; n < d->levels; n++)
            DDI_TRY(add_images(d, d->level[n].terms.data, rows, d->images, 1, out, parts, n));
    } else if (m == DDI_CONTRASTIVE) {
        DDI_TRY(add_images(d, d->terms[m].data, rows, 1, 1, out, parts, 0));
    } else {
        DDI_TRY(add_images(d, d->terms[m].data, rows, d->images, m == DDI_LOGITS ? 5 : 3, out, parts, 0));
    }
    d->module_sum[m] = 0;
    for (int32_t i = 0; i < rows * parts; i++)
        d->module_sum[m] += out[i];
    return DD_OK;
}

dd_status ddi_terms_fetch(dd_distiller *d)
{
    d->total = 0;
    for (int32_t m = 0; m < DDI_MODULES; m++) {
        d->module_sum[m] = 0;
        if (!d->active[m])
            continue;
        DDI_TRY(fetch_module(d, (ddi_module)m));
        if (!isfinite(d->module_sum[m]))
            return ddi_fail(DD_ERR_NONFINITE, ddi_module_names[m],
                            "loss.%s overflowed: an input is finite but too large; all bound "
                            "gradients were set to zero",
                            ddi_module_names[m]);
        d->total += d->settings.weight[m] * d->module_sum[m];
    }
    return DD_OK;
}

static void add_term(dd_distiller *d, double value, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void add_term(dd_distiller *d, double value, const char *format, ...)
{
    if (d->term_count == DDI_MAX_TERMS)
        return;
    ddi_term *t = &d->term[d->term_count++];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(t->name, sizeof t->name, format, arguments);
    va_end(arguments);
    t->value = value;
}

/* Sum of one part over the rows that belong to student stage `stage`. */
static double stage_sum(const dd_distiller *d, ddi_module m, int32_t stage, int32_t part)
{
    const double *value = d->host_terms[m].data;
    int32_t parts = ddi_term_parts(d, m);
    bool by_pair = m == DDI_LOGITS || m == DDI_CONTRASTIVE;
    double sum = 0;
    for (int32_t r = 0; r < ddi_term_rows(d, m); r++)
        if ((by_pair ? d->pairs.pair[2 * r] : r) == stage)
            sum += value[r * parts + part];
    return sum;
}

static const char *const part[] = {"class", "l1", "giou", "l1_negative", "giou_negative"};

static void name_stages(dd_distiller *d, ddi_module m)
{
    for (int32_t s = 0; s < d->student.stages; s++) {
        if (m == DDI_CONTRASTIVE)
            add_term(d, stage_sum(d, m, s, 0), "loss.%s.stage%d", ddi_module_names[m], s);
        for (int32_t k = 0; k < ddi_term_parts(d, m) && m != DDI_CONTRASTIVE; k++)
            add_term(d, stage_sum(d, m, s, k), "loss.%s.stage%d.%s", ddi_module_names[m], s, part[k]);
    }
}

static void name_encoder(dd_distiller *d)
{
    const double *value = d->host_terms[DDI_ENCODER].data;
    for (int32_t k = 0; k < 3; k++)
        add_term(d, value[k], "loss.encoder.%s", part[k]);
}

static void name_levels(dd_distiller *d)
{
    const double *value = d->host_terms[DDI_FEATURES].data;
    for (int32_t n = 0; n < d->levels; n++) {
        double sum = 0;
        for (int32_t k = 0; k < d->teacher.stages; k++)
            sum += value[k * d->levels + n];
        add_term(d, sum, "loss.features.level%d", n);
    }
}

void ddi_terms_name(dd_distiller *d)
{
    d->term_count = 0;
    add_term(d, d->total, "loss.total");
    for (int32_t m = 0; m < DDI_MODULES; m++)
        if (d->active[m])
            add_term(d, d->module_sum[m], "loss.%s", ddi_module_names[m]);
    for (int32_t m = 0; m < DDI_MODULES; m++) {
        if (d->active[m] && m == DDI_FEATURES)
            name_levels(d);
        else if (d->active[m] && m == DDI_ENCODER)
            name_encoder(d);
        else if (d->active[m])
            name_stages(d, (ddi_module)m);
    }
}
