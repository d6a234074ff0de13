/* SPDX-License-Identifier: Apache-2.0
 * Average precision of the student on the validation set. */
#include "base/error.h"
#include "eval/coco.h"
#include "train/trainer.h"

#include <string.h>

const char *const ddi_train_metrics[DDI_METRICS] = {"ap",  "ap50", "ap75",  "ap-small", "ap-medium", "ap-large",
                                                    "ar1", "ar10", "ar100", "ar-small", "ar-medium", "ar-large"};

/* What COCO leaves out of the count: it is no object to be found, and to find it is no fault. */
static uint8_t is_crowd(uint8_t flags)
{
    return (flags & (DD_OBJECT_CROWD | DD_OBJECT_DIFFICULT | DD_OBJECT_IGNORED)) != 0;
}

static dd_status add_objects(dd_eval *eval, const dd_dataset *data, int32_t index)
{
    const ddi_picture *p = ddi_dataset_picture(data, index);
    DDI_TRY(ddi_eval_add_objects(eval, p->id, 0, NULL, NULL, NULL, NULL));
    for (int64_t i = p->first; i < p->first + p->objects; i++) {
        const int64_t label = data->label[i];
        const uint8_t crowd = is_crowd(data->flags[i]);
        DDI_TRY(ddi_eval_add_objects(eval, p->id, 1, data->box[i], &label, &crowd, &data->area[i]));
    }
    return DD_OK;
}

static dd_status add_batch(dd_trainer *t, dd_eval *eval, const ddi_batch *b)
{
    dd_tensor pixels, sizes;
    DDI_TRY(ddi_batch_pixels(b, &pixels, &sizes));
    DDI_TRY(ddi_model_forward(t->student, &pixels, &sizes));
    for (int32_t i = 0; i < b->images; i++) {
        ddi_found found;
        DDI_TRY(add_objects(eval, t->validation, b->indices[i]));
        DDI_TRY(ddi_model_detections(t->student, i, b->originals[i], t->settings.eval_detections, 0, &found));
        DDI_TRY(ddi_eval_add_detections(eval, b->ids[i], found.count, found.boxes, found.labels, found.scores));
    }
    return DD_OK;
}

static dd_status look_at_all(dd_trainer *t, dd_eval *eval, dd_loader *loader, bool *stopped)
{
    int64_t images = 0;
    for (int32_t count = 1; count > 0;) {
        *stopped = __atomic_load_n(&t->stop, __ATOMIC_RELAXED) != 0;
        if (*stopped) {
            return DD_OK;
        }
        DDI_TRY(ddi_loader_next(loader, &count));
        if (count > 0) {
            DDI_TRY(add_batch(t, eval, loader->current));
            images += count;
            ddi_report_progress(t, DD_TRAIN_EVALUATING, images, loader->images);
        }
    }
    return DD_OK;
}

static dd_status measure(dd_trainer *t, dd_eval *eval, double metric[DDI_METRICS], bool *stopped)
{
    dd_loader *loader = NULL;
    ddi_text words = {.data = NULL};
    ddi_trainer_loader_words(&t->settings, true, 0, &words);
    dd_status status = ddi_text_status(&words);
    if (status == DD_OK) {
        status = ddi_loader_create(&loader, t->validation, words.data);
    }
    ddi_text_free(&words);
    DDI_TRY(status);
    status = look_at_all(t, eval, loader, stopped);
    ddi_loader_destroy(loader);
    if (status == DD_OK && !*stopped) {
        status = ddi_coco_average(eval, metric);
    }
    return status;
}

dd_status ddi_trainer_evaluate(dd_trainer *t, double metric[DDI_METRICS], bool *stopped)
{
    dd_eval *eval = NULL;
    if (!t->validation) {
        return ddi_fail(DD_ERR_STATE, NULL, "this run has no validation set");
    }
    DDI_TRY(dd_eval_create(&eval));
    const ddi_model_settings mode = t->student->settings;
    dd_status status = ddi_model_set_mode(t->student, false, false);
    if (status == DD_OK) {
        ddi_optimiser_swap_average(&t->optimiser);
        status = measure(t, eval, metric, stopped);
        ddi_optimiser_swap_average(&t->optimiser);
    }
    dd_eval_free(eval);
    const dd_status back = ddi_model_set_mode(t->student, mode.training != 0, mode.gradients != 0);
    return status == DD_OK ? back : status;
}
