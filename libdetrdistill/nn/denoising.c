/* SPDX-License-Identifier: Apache-2.0
 * Contrastive denoising: draws, noisy copies, who sees whom. */
#include "nn/denoising.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/philox.h"
#include "nn/levels.h"
#include "tape/node.h"

#include <math.h>
#include <string.h>

/* Of the inverse sigmoid of noisy boxes (1.8). */
#define BOX_EPS 1e-3

/* The stream of the draws (dropout's begin at 0 and 1 << 24), and how many numbers a copy takes: two for its label, a sign and
 * a shift for each side. */
enum { STREAM = 1 << 28, DRAWS = 10 };

typedef struct draw {
    double label, sign[4], shift[4];
    int32_t new_label;
} draw;

typedef struct maker {
    const ddi_tape *tape;
    const ddi_denoising_config *config;
    const ddi_truth *truth;
    const ddi_noise *noise;
    int64_t images, classes, d;
    int32_t most; /* objects of the fullest image */
    char *box;    /* [B,slots,4], reals of the tape */
} maker;

static draw take_draw(const maker *m, int64_t copy)
{
    draw r;
    if (m->noise) {
        r.label = (double)m->noise->label[copy];
        r.new_label = m->noise->new_label[copy];
        for (int32_t k = 0; k < 4; k++) {
            r.sign[k] = m->noise->sign[4 * copy + k];
            r.shift[k] = (double)m->noise->shift[4 * copy + k];
        }
        return r;
    }
    double u[DRAWS];
    for (int32_t k = 0; k < DRAWS; k++) {
        u[k] = ddi_philox_uniform(m->tape->seed, m->tape->step, STREAM, (uint64_t)(copy * DRAWS + k));
    }
    r.label = u[0];
    r.new_label = (int32_t)(u[1] * (double)m->classes);
    for (int32_t k = 0; k < 4; k++) {
        r.sign[k] = u[2 + k] < 0.5 ? -1 : 1;
        r.shift[k] = u[6 + k];
    }
    return r;
}

static double box_number(const ddi_truth *truth, int64_t i)
{
    return truth->dtype == DD_F64 ? ((const double *)truth->boxes)[i] : (double)((const float *)truth->boxes)[i];
}

static double inverse_sigmoid(double x)
{
    x = fmin(fmax(x, 0), 1);
    return log(fmax(x, BOX_EPS) / fmax(1 - x, BOX_EPS));
}

/* Every side moves by up to half the box, of negatives by half to the whole of it. Sides may cross: nobody puts that right. */
static void shift_box(const maker *m, const draw *r, bool negative, int64_t object, int64_t slot)
{
    double side[4], logit[4];
    for (int32_t k = 0; k < 4; k++) {
        const double centre = box_number(m->truth, 4 * object + k % 2), size = box_number(m->truth, 4 * object + 2 + k % 2);
        const double half = size / 2, away = r->sign[k] * (r->shift[k] + negative) * half * m->config->box_noise;
        side[k] = fmin(fmax(centre + (k < 2 ? -half : half) + away, 0), 1);
    }
    for (int32_t k = 0; k < 4; k++) {
        logit[k] = inverse_sigmoid(k < 2 ? (side[k] + side[k + 2]) / 2 : side[k] - side[k - 2]);
        if (m->tape->dtype == DD_F64) {
            ((double *)(void *)m->box)[4 * slot + k] = logit[k];
        } else {
            ((float *)(void *)m->box)[4 * slot + k] = (float)logit[k];
        }
    }
}

/* Row `row` of the draws: the positive or negative copies of a group. */
static void fill_copies(const maker *m, int32_t row, const ddi_denoising *out)
{
    const int64_t objects = m->truth->offsets[m->images];
    for (int64_t b = 0; b < m->images; b++) {
        const int32_t first = m->truth->offsets[b], count = m->truth->offsets[b + 1] - first;
        for (int32_t k = 0; k < count; k++) {
            const int64_t slot = b * out->slots + (int64_t)row * m->most + k;
            const draw r = take_draw(m, row * objects + first + k);
            const bool other = r.label < m->config->label_noise / 2;
            out->label[slot] = other ? r.new_label : m->truth->labels[first + k];
            out->object[slot] = row % 2 ? -1 : k;
            shift_box(m, &r, row % 2 != 0, first + k, slot);
        }
    }
}

/* Rows do not see columns of another group, and those of no group see none; all see the columns of no group. */
static void fill_mask(const ddi_denoising *out, int32_t most, int64_t rows, uint8_t *mask)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < out->slots; j++) {
            mask[i * rows + j] = i >= out->slots || i / (2 * most) != j / (2 * most);
        }
    }
}

static bool count_slots(ddi_tape *t, const ddi_denoising_config *c, maker *m, ddi_denoising *out)
{
    for (int64_t b = 0; b < m->images; b++) {
        const int32_t count = m->truth->offsets[b + 1] - m->truth->offsets[b];
        m->most = count > m->most ? count : m->most;
    }
    if (t->dry && m->most < c->number) {
        m->most = c->number; /* as many as there can be, but for very full images: other batches fit in then */
    }
    if (m->most == 0) {
        return false;
    }
    out->groups = c->number / m->most > 1 ? c->number / m->most : 1;
    out->slots = 2 * m->most * out->groups;
    if (out->slots > DDI_MAX_QUERIES) {
        ddi_tape_fail(t, ddi_fail(DD_ERR_LIMIT, "gt.boxes", "an image has %d objects: more than %d denoising queries", m->most,
                                  DDI_MAX_QUERIES));
    }
    return t->status == DD_OK;
}

bool ddi_make_denoising(ddi_tape *t, const ddi_denoising_config *c, const ddi_truth *truth, const ddi_noise *noise,
                        ddi_param *table, int64_t classes, int64_t images, int64_t queries, ddi_denoising *out)
{
    maker m = {t, c, truth, noise, images, classes, table->shape[1], 0, NULL};
    *out = (ddi_denoising){.groups = 0};
    if (!truth || c->number < 1 || t->status != DD_OK || !count_slots(t, c, &m, out)) {
        return false;
    }
    const int64_t copies = images * out->slots, rows = out->slots + queries;
    out->label = ddi_tape_memory(t, (size_t)copies * sizeof *out->label);
    out->object = ddi_tape_memory(t, (size_t)copies * sizeof *out->object);
    m.box = ddi_tape_memory(t, (size_t)copies * 4 * t->element); /* zeros: unused slots keep them */
    uint8_t *mask = ddi_tape_memory(t, (size_t)(rows * rows));
    if (!out->label || !out->object || !m.box || !mask) {
        return false;
    }
    memset(out->label, 0xff, (size_t)copies * sizeof *out->label);
    memset(out->object, 0xff, (size_t)copies * sizeof *out->object);
    for (int32_t row = 0; row < 2 * out->groups && !t->dry; row++) {
        fill_copies(&m, row, out);
    }
    fill_mask(out, m.most, rows, mask);
    ddi_value *index = ddi_upload(t, out->label, (size_t)copies * sizeof *out->label);
    ddi_value *bytes = ddi_upload(t, m.box, (size_t)copies * 4 * t->element);
    out->box = ddi_view(t, bytes, 0, DDI_SHAPE(images, out->slots, 4));
    out->content = ddi_view(t, ddi_lookup(t, table, index, copies), 0, DDI_SHAPE(images, out->slots, m.d));
    out->mask = ddi_upload(t, mask, (size_t)(rows * rows));
    return t->status == DD_OK;
}
