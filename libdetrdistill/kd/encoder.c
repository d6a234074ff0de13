/* SPDX-License-Identifier: Apache-2.0
 * The loss of a two-stage encoder's proposals (detectors 2.3): every token is matched with the objects, as a decoder stage is.
 * Where the family says so, all objects count as the first class: what is asked is whether there is one. */
#include "base/error.h"
#include "kd/detection.h"

/* Memory of its own for the labels; they are the batch's where the family tells classes apart. */
static dd_status make_labels(dd_distiller *d)
{
    if (!ddi_family[d->settings.family].first_class)
        return DD_OK;
    const size_t bytes = (size_t)d->objects.count * sizeof(int32_t) + 1;
    DDI_TRY(ddi_buffer_reserve(&d->exec, &d->first_class, bytes, true, "labels of the encoder"));
    return ddi_zero(&d->exec, d->first_class.data, bytes);
}

const int32_t *ddi_labels_of(const dd_distiller *d, ddi_module module)
{
    const bool first = module == DDI_ENCODER && ddi_family[d->settings.family].first_class;
    return first ? d->first_class.data : d->objects.d_labels;
}

dd_status ddi_encoder_match(dd_distiller *d)
{
    const ddi_match_weights weights = {DDI_WEIGHT_CLASS_COST, DDI_WEIGHT_L1, DDI_WEIGHT_GIOU};
    DDI_TRY(make_labels(d));
    ddi_objects objects = d->objects;
    objects.d_labels = (int32_t *)(uintptr_t)ddi_labels_of(d, DDI_ENCODER);
    return ddi_match_objects(&d->exec, d->dtype, &ddi_family[d->settings.family], weights, &d->encoder, &objects,
                             &d->encoder_match);
}

dd_status ddi_encoder_loss(dd_distiller *d)
{
    const bool by_objects = ddi_family[d->settings.family].count_objects;
    return ddi_object_loss(d, DDI_ENCODER, &d->encoder, d->encoder_match.match,
                           d->norm[by_objects ? NORM_OBJECTS : NORM_ENCODER_POSITIVES], IN_ENCODER_LOGITS, IN_ENCODER_BOXES);
}
