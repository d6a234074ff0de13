/* SPDX-License-Identifier: Apache-2.0
 * The matcher behind dd_matcher. */
#include "match/matcher.h"
#include "base/error.h"

#include <stdio.h>
#include <string.h>

#define FIELD(name) offsetof(ddi_matcher_settings, name)
static const ddi_option option[] = {
    {"with", DDI_CHOICE, FIELD(with), 0, 0, "objects", "objects|teacher", "what student predictions are matched with"},
    {"family", DDI_CHOICE, FIELD(family), 0, 0, "deformable-detr", DDI_FAMILIES, "conventions of the cost"},
    {"class", DDI_REAL, FIELD(class_cost), -1, 1e6, "-1", NULL,
     "weight of the class cost; -1: 2 for objects, 1 for the teacher"},
    {"l1", DDI_REAL, FIELD(l1), 0, 1e6, "5", NULL, "weight of the L1 distance of boxes"},
    {"giou", DDI_REAL, FIELD(giou), 0, 1e6, "2", NULL, "weight of the generalised IoU"},
    {"split", DDI_CHOICE, FIELD(split), 0, 0, "0", "0|1", "with=teacher: positives and negatives apart (needs gt.*)"},
    {"nonfinite", DDI_CHOICE, FIELD(nonfinite), 0, 0, "error", "error|skip|clamp", "what a NaN or infinity does"},
};
const ddi_option_table ddi_matcher_options = {"matcher", option, sizeof option / sizeof option[0]};

static const struct {
    const char *name;
    ddi_element_kind kind;
    int32_t dims;
    bool anywhere;
} inputs[DDI_MATCHER_INPUTS] = {
    {"student.logits", DDI_REALS, 0, false},
    {"student.boxes", DDI_REALS, 0, false},
    {"teacher.logits", DDI_REALS, 0, false},
    {"teacher.boxes", DDI_REALS, 0, false},
    {"gt.boxes", DDI_REALS, 2, true},
    {"gt.labels", DDI_INDICES, 1, true},
    {"gt.offsets", DDI_INDICES, 1, true},
    {"gt.crowd", DDI_BYTES, 1, true},
    {"image.sizes", DDI_REALS | DDI_INDICES, 2, true},
};

dd_status ddi_matcher_init(dd_matcher *m, dd_context *context, const char *options)
{
    ddi_options_init(&ddi_matcher_options, &m->settings);
    DDI_TRY(ddi_options_parse(&ddi_matcher_options, options, &m->settings, NULL));
    if (m->settings.class_cost < 0)
        m->settings.class_cost = m->settings.with == 0 ? 2 : 1;
    ddi_exec_init(&m->exec, context);
    for (int32_t i = 0; i < DDI_MATCHER_INPUTS; i++) {
        snprintf(m->input[i].name, sizeof m->input[i].name, "%s", inputs[i].name);
        m->input[i].kind = inputs[i].kind;
        m->input[i].dims = inputs[i].dims;
        m->input[i].anywhere = inputs[i].anywhere;
    }
    return DD_OK;
}

void ddi_matcher_free(dd_matcher *m)
{
    ddi_exec *x = &m->exec;
    ddi_inputs_free(x, m->input, DDI_MATCHER_INPUTS);
    ddi_objects_free(x, &m->objects);
    ddi_matching_free(x, &m->matching);
    ddi_matching_free(x, &m->teacher_matching);
    ddi_buffer *const buffers[] = {&m->targets.memory[0], &m->targets.memory[1], &m->targets.memory[2], &m->pairs.host,
                                   &m->pairs.device,      &m->scan.device,       &m->scan.host,         &m->original};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        ddi_buffer_free(x, buffers[i]);
    ddi_exec_free(x);
}

/* [B,N,C] counts as one stage. */
static void add_stage_dim(ddi_input *in)
{
    dd_tensor *t = &in->tensor;
    if (!in->bound || t->ndim != 3)
        return;
    memmove(t->shape + 1, t->shape, 3 * sizeof t->shape[0]);
    memmove(t->stride + 1, t->stride, 3 * sizeof t->stride[0]);
    t->shape[0] = 1;
    t->stride[0] = t->shape[1] * t->stride[1];
    t->ndim = 4;
}

void ddi_original_objects(const ddi_objects *o, int32_t image, const int32_t *match, int32_t *out, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        out[i] = match[i] < 0 ? -1 : o->original[o->offsets[image] + match[i]];
}

static dd_status keep_original(dd_matcher *m)
{
    const ddi_matching *g = &m->matching;
    size_t entries = (size_t)g->blocks * (size_t)g->queries;
    DDI_TRY(ddi_buffer_reserve(&m->exec, &m->original, entries * 4, false, "matches"));
    if (!g->of_objects) {
        memcpy(m->original.data, g->host_match, entries * 4);
        return DD_OK;
    }
    for (int32_t k = 0; k < g->blocks; k++)
        ddi_original_objects(&m->objects, k % g->images, g->host_match + (size_t)k * (size_t)g->queries,
                             (int32_t *)m->original.data + (size_t)k * (size_t)g->queries, g->queries);
    return DD_OK;
}

static dd_status read_batch(dd_matcher *m, int32_t images, int32_t classes, int32_t dtype)
{
    ddi_input *in = m->input;
    const ddi_objects_inputs batch = {.boxes = &in[DDI_MATCHER_GT_BOXES],
                                      .labels = &in[DDI_MATCHER_GT_LABELS],
                                      .offsets = &in[DDI_MATCHER_GT_OFFSETS],
                                      .crowd = &in[DDI_MATCHER_GT_CROWD],
                                      .sizes = &in[DDI_MATCHER_SIZES],
                                      .need_objects = m->settings.with == 0 || m->settings.split,
                                      .need_sizes = m->settings.with == 1 || ddi_family[m->settings.family].giou_pixels};
    return ddi_objects_read(&m->exec, &m->objects, &batch, images, classes, dtype, (ddi_nonfinite)m->settings.nonfinite);
}

static dd_status match_with_teacher(dd_matcher *m, int32_t dtype, const ddi_predictions *student,
                                    const ddi_predictions *teacher)
{
    ddi_exec *x = &m->exec;
    const ddi_conventions *v = &ddi_family[m->settings.family];
    ddi_match_weights w = {m->settings.class_cost, m->settings.l1, m->settings.giou};
    ddi_match_weights with_objects = {DDI_WEIGHT_CLASS_COST, DDI_WEIGHT_L1, DDI_WEIGHT_GIOU};
    const int32_t *teacher_match = NULL;
    DDI_TRY(ddi_stage_pairs_make(x, &m->pairs, student->stages, teacher->stages, DDI_STAGE_GROUPED));
    if (m->settings.split) {
        DDI_TRY(ddi_match_objects(x, dtype, v, with_objects, teacher, &m->objects, &m->teacher_matching));
        teacher_match = m->teacher_matching.match;
    }
    DDI_TRY(ddi_teacher_targets(x, dtype, teacher, &m->objects, &m->targets));
    return ddi_match_teacher(x, dtype, v->l1_xyxy, w, student, &m->targets, &m->objects, &m->pairs, teacher_match,
                             &m->matching);
}

/* Queries of images that are left out have no partner. */
static void clear_skipped(dd_matcher *m)
{
    ddi_matching *g = &m->matching;
    int32_t *match = m->original.data;
    for (int32_t k = 0; k < g->blocks; k++)
        for (int32_t i = 0; i < g->queries && !m->objects.image_use[k % g->images]; i++)
            match[(size_t)k * (size_t)g->queries + (size_t)i] = -1;
}

dd_status ddi_matcher_run(dd_matcher *m)
{
    ddi_exec *x = &m->exec;
    ddi_input *in = m->input;
    ddi_nonfinite policy = (ddi_nonfinite)m->settings.nonfinite;
    bool with_teacher = m->settings.with == 1, replaced[4];
    ddi_predictions student, teacher = {0};
    for (int32_t i = 0; i < 4; i++)
        add_stage_dim(&in[i]);
    m->has_run = false;
    int32_t dtype = in[0].bound && in[0].tensor.dtype == DD_F64 ? DD_F64 : DD_F32;
    DDI_TRY(ddi_predictions_take(x, &student, &in[0], &in[1], dtype, -1, -1));
    int32_t images = (int32_t)in[0].tensor.shape[1];
    if (with_teacher)
        DDI_TRY(ddi_predictions_take(x, &teacher, &in[2], &in[3], dtype, images, student.classes));
    DDI_TRY(read_batch(m, images, student.classes, dtype));
    m->scan.count = 0;
    for (int32_t i = 0; i < (with_teacher ? 4 : 2); i++)
        ddi_finite_add(&m->scan, &in[i], 1, 2);
    DDI_TRY(ddi_finite_check(x, &m->scan, &m->objects, dtype, policy, replaced));
    student.logits = in[0].data; /* replaced numbers lie elsewhere */
    student.boxes = in[1].data;
    teacher.logits = in[2].data;
    teacher.boxes = in[3].data;
    DDI_TRY(ddi_objects_upload(x, &m->objects));
    ddi_match_weights w = {m->settings.class_cost, m->settings.l1, m->settings.giou};
    if (with_teacher)
        DDI_TRY(match_with_teacher(m, dtype, &student, &teacher));
    else
        DDI_TRY(ddi_match_objects(x, dtype, &ddi_family[m->settings.family], w, &student, &m->objects, &m->matching));
    DDI_TRY(ddi_matching_fetch(x, &m->matching, &m->objects, policy));
    DDI_TRY(keep_original(m));
    clear_skipped(m);
    m->has_run = true;
    return DD_OK;
}
