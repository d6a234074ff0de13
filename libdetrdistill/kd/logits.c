/* SPDX-License-Identifier: Apache-2.0
 * Hungarian-matched logits distillation (A.4, A.6): each matched student query learns its teacher query's class probabilities
 * and clipped box. */
#include "base/error.h"
#include "kd/distiller.h"

#define NORMALISER_EPS 1.1920929e-7

/* Factors by kind: 1 joint or positive, 2 negative (box terms alone). */
static void set_scales(const dd_distiller *d, dd_op_kd_loss *loss)
{
    if (d->settings.split) {
        double positive = d->norm[NORM_PAIRS_POSITIVE] + NORMALISER_EPS,
               negative = d->norm[NORM_PAIRS_NEGATIVE] + NORMALISER_EPS;
        loss->scale_class[1] = 1 / positive;
        loss->scale_l1[1] = DDI_WEIGHT_L1 / positive;
        loss->scale_giou[1] = DDI_WEIGHT_GIOU / positive;
        loss->scale_l1[2] = DDI_WEIGHT_L1 / negative;
        loss->scale_giou[2] = DDI_WEIGHT_GIOU / negative;
        return;
    }
    double pairs = d->norm[NORM_PAIRS] + NORMALISER_EPS;
    loss->scale_class[1] =
        d->local_pairs > 0 ? 1 / (d->local_pairs + NORMALISER_EPS) : 0; /* of this process, not synchronised */
    loss->scale_l1[1] = DDI_WEIGHT_L1 / pairs;
    loss->scale_giou[1] = DDI_WEIGHT_GIOU / pairs;
}

dd_status ddi_logits_loss(dd_distiller *d)
{
    ddi_exec *x = &d->exec;
    size_t bytes = (size_t)d->pairs.count * (size_t)d->images * 5 * sizeof(double);
    DDI_TRY(ddi_buffer_reserve(x, &d->terms[DDI_LOGITS], bytes, true, "loss terms"));
    dd_op_kd_loss loss = {.s_logits = d->student.logits,
                          .s_boxes = d->student.boxes,
                          .t_prob = d->targets.prob,
                          .t_xyxy = d->targets.xyxy,
                          .t_cxcywh = d->targets.cxcywh,
                          .sizes = d->objects.d_sizes,
                          .pairs = d->pairs.d_pair,
                          .host_pairs = d->pairs.pair,
                          .match = d->kd_match.match,
                          .kind = d->kd_match.kind,
                          .image_use = ddi_image_use(d),
                          .terms = d->terms[DDI_LOGITS].data,
                          .n_pairs = d->pairs.count,
                          .L_S = d->student.stages,
                          .B = d->images,
                          .NS = d->student.queries,
                          .NT = d->teacher.queries,
                          .C = d->student.classes,
                          .l1_xyxy = ddi_family[d->settings.family].l1_xyxy,
                          .grad_scale = d->settings.weight[DDI_LOGITS]};
    int32_t add_boxes = 0;
    set_scales(d, &loss);
    loss.g_logits = ddi_gradient_target(d, IN_STUDENT_LOGITS, &loss.accumulate);
    loss.g_boxes = ddi_gradient_target(d, IN_STUDENT_BOXES, &add_boxes);
    loss.accumulate |= add_boxes; /* both were written by the detection loss, or neither */
    return ddi_run(x, DD_OPERATOR_kd_loss, d->dtype, &loss);
}
