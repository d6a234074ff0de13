/* SPDX-License-Identifier: Apache-2.0
 * What a model is made of, and what a batch takes, without running it. */
#include "base/error.h"
#include "models/model.h"

#include <string.h>

const char *const ddi_part_names[DDI_PARTS + 1] = {"backbone", "neck", "encoder", "decoder", "heads", "queries"};

static int32_t part_of(const ddi_detector *detector, const char *name)
{
    for (int32_t i = 0; i < detector->part_name_count; i++) {
        if (strncmp(name, detector->part_names[i].prefix, strlen(detector->part_names[i].prefix)) == 0) {
            return detector->part_names[i].part;
        }
    }
    return DDI_PARTS;
}

void ddi_model_part_size(const dd_model *m, int32_t part, int64_t *trained, int64_t *all)
{
    *trained = *all = 0;
    for (int32_t i = 0; i < m->params.count; i++) {
        const ddi_param *p = m->params.all[i];
        if (part_of(m->net.config.detector, p->name) == part) {
            *all += p->count;
            *trained += p->trained || p->counted ? p->count : 0;
        }
    }
}

/* Gradients arrive where losses and distillation read. */
static void seed_all(ddi_tape *t, const ddi_detections *out)
{
    ddi_value *const read[] = {out->logits,         out->boxes,           out->features,       out->group_logits,
                               out->group_boxes,    out->proposal_logits, out->proposal_boxes, out->denoising.logits,
                               out->denoising.boxes};
    for (size_t i = 0; i < sizeof read / sizeof read[0] && t->status == DD_OK; i++) {
        if (read[i]) {
            ddi_seed(t, read[i]);
        }
    }
}

dd_status ddi_model_plan(dd_model *m, const int64_t shape[4], bool padded, const ddi_model_pass *pass, ddi_plan *plan)
{
    ddi_allocator *allocator = &m->context->allocator;
    int32_t *sizes = ddi_alloc(allocator, (size_t)shape[0] * 2 * sizeof *sizes);
    if (!sizes) {
        return ddi_fail_nomem((uint64_t)shape[0] * 2 * sizeof *sizes, "sizes of images");
    }
    for (int64_t i = 0; i < 2 * shape[0]; i++) {
        sizes[i] = (int32_t)shape[i % 2 ? 1 : 2];
    }
    if (padded) {
        sizes[0] = 1;
    }
    ddi_tape dry;
    ddi_detections out;
    ddi_tape_init(&dry, &m->exec, m->dtype, true);
    dry.record = pass->record;
    dry.training = pass->training;
    const ddi_model_input input = {ddi_new(&dry, 4, shape), sizes, pass->group, pass->group_arg, pass->truth, NULL};
    m->net.config.detector->forward(&dry, &m->net, &input, &out);
    *plan = (ddi_plan){.activations = 0};
    for (int32_t i = 0; i < DDI_PARTS; i++) {
        plan->products += dry.cost[i].products;
        plan->traffic += dry.cost[i].bytes;
        plan->counted[i] = dry.cost[i].counted;
    }
    if (pass->record && dry.status == DD_OK) {
        seed_all(&dry, &out);
        ddi_tape_backward(&dry);
    }
    const dd_status status = dry.status;
    const double element = (double)m->tape.element;
    plan->activations = (double)dry.arena.highest;
    plan->parameters = (double)(m->params.trained_elements + m->params.frozen_elements) * element;
    plan->gradients = pass->record ? (double)m->params.trained_elements * element : 0;
    ddi_tape_free(&dry);
    ddi_free(allocator, sizes);
    return status;
}
