/* SPDX-License-Identifier: Apache-2.0
 * The student's own detection loss (D.2) and the denoising loss (D.6): focal class loss, L1 and GIoU against matched objects.
 */
#include "kd/detection.h"
#include "base/error.h"

#include <string.h>

dd_status ddi_object_loss(dd_distiller *d, ddi_module module, const ddi_predictions *p, const int32_t *match, double normaliser,
                          int32_t logits, int32_t boxes)
{
    const ddi_conventions *v = &ddi_family[d->settings.family];
    ddi_exec *x = &d->exec;
    size_t bytes = (size_t)p->stages * (size_t)d->images * 3 * sizeof(double);
    DDI_TRY(ddi_buffer_reserve(x, &d->terms[module], bytes, true, "loss terms"));
    double n = normaliser + v->normaliser_eps;
    int32_t add_logits = 0, add_boxes = 0;
    dd_op_det_loss loss = {.logits = p->logits,
                           .boxes = p->boxes,
                           .match = match,
                           .gt_boxes = d->objects.d_boxes,
                           .gt_labels = ddi_labels_of(d, module),
                           .gt_offsets = d->objects.d_offsets,
                           .sizes = d->objects.d_sizes,
                           .image_use = ddi_image_use(d),
                           .terms = d->terms[module].data,
                           .S = p->stages,
                           .B = d->images,
                           .N = p->queries,
                           .C = p->classes,
                           .G = d->objects.count,
                           .l1_xyxy = v->l1_xyxy,
                           .giou_pixels = v->giou_pixels,
                           .giou_eps = v->giou_eps,
                           .scale_class = v->class_weight / n,
                           .scale_l1 = DDI_WEIGHT_L1 / n,
                           .scale_giou = DDI_WEIGHT_GIOU / n,
                           .grad_scale = d->settings.weight[module]};
    loss.g_logits = ddi_gradient_target(d, logits, &add_logits);
    loss.g_boxes = ddi_gradient_target(d, boxes, &add_boxes);
    /* each prediction belongs to one module of this kind, which is the first to write its gradient */
    loss.accumulate = 0;
    return ddi_run(x, DD_OPERATOR_det_loss, d->dtype, &loss);
}

dd_status ddi_detection_loss(dd_distiller *d)
{
    bool by_objects = ddi_family[d->settings.family].count_objects;
    return ddi_object_loss(d, DDI_DET, &d->student, d->det_match.match, d->norm[by_objects ? NORM_OBJECTS : NORM_POSITIVES],
                           IN_STUDENT_LOGITS, IN_STUDENT_BOXES);
}

/* Compact number of each object of an image, or -1 where a crowd box was dropped. */
static int32_t compact_object(const ddi_objects *o, int32_t image, int32_t original)
{
    for (int32_t g = o->offsets[image]; g < o->offsets[image + 1]; g++)
        if (o->original[g] == original)
            return g - o->offsets[image];
    return -1;
}

/* Groups of the denoising block: told, or each group has a positive and a negative slot for every object of the fullest image.
 */
static dd_status count_groups(dd_distiller *d)
{
    int32_t slots = d->denoising.queries, most = d->objects.most;
    d->groups = (double)d->settings.denoising_groups;
    if (d->groups > 0)
        return DD_OK;
    if (most > 0 && slots % (2 * most) != 0)
        return ddi_fail(DD_ERR_SHAPE, "denoising.logits",
                        "denoising.logits has %d slots, no multiple of 2 x %d objects: set denoising-groups", slots, most);
    d->groups = most > 0 ? slots / (2 * most) : 1;
    return DD_OK;
}

dd_status ddi_denoising_match(dd_distiller *d)
{
    ddi_exec *x = &d->exec;
    const ddi_predictions *p = &d->denoising;
    ddi_input *in = &d->input[IN_DENOISING_MATCH];
    size_t n = (size_t)p->stages * (size_t)d->images * (size_t)p->queries;
    DDI_TRY(count_groups(d));
    DDI_TRY(ddi_input_expect(in, 3, (int64_t[]){p->stages, d->images, p->queries}));
    DDI_TRY(ddi_buffer_reserve(x, &d->fixed_match, n * 4, false, in->name));
    int32_t *match = d->fixed_match.data;
    DDI_TRY(ddi_input_to_host(x, in, match));
    for (size_t i = 0; i < n; i++) {
        int32_t image = (int32_t)(i / (size_t)p->queries % (size_t)d->images);
        int32_t object = match[i] < 0 ? -1 : compact_object(&d->objects, image, match[i]);
        if (match[i] >= 0 && object < 0 && d->objects.image_use[image]) {
            ddi_fail(DD_ERR_ARGUMENT, in->name, "%s: slot %d of image %d names object %d, which is not there or a crowd box",
                     in->name, (int32_t)(i % (size_t)p->queries), image, match[i]);
            ddi_error_set_place(DD_PLACE_IMAGE, image);
            return DD_ERR_ARGUMENT;
        }
        match[i] = object;
    }
    if (ddi_on_host(x))
        return DD_OK;
    DDI_TRY(ddi_buffer_reserve(x, &d->fixed_match_device, n * 4, true, in->name));
    return ddi_copy(x, d->fixed_match_device.data, match, n * 4, DD_COPY_TO_DEVICE);
}

dd_status ddi_denoising_loss(dd_distiller *d)
{
    const int32_t *match = ddi_on_host(&d->exec) ? d->fixed_match.data : d->fixed_match_device.data;
    return ddi_object_loss(d, DDI_DENOISING, &d->denoising, match, d->groups * d->norm[NORM_OBJECTS], IN_DENOISING_LOGITS,
                           IN_DENOISING_BOXES);
}
