/* SPDX-License-Identifier: Apache-2.0
 * Average precision, streamed: COCO's twelve numbers as pycocotools computes them. */
#ifndef DETRDISTILL_EVAL_H
#define DETRDISTILL_EVAL_H

#include <detrdistill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dd_eval dd_eval;

/* Makes an empty COCO box evaluation. Errors: ARGUMENT, NOMEM. One thread at a time. */
DD_API dd_status dd_eval_create(dd_eval **eval);
DD_API void dd_eval_free(dd_eval *eval);

/* Adds objects of one image: boxes [count][4] (x,y,w,h) in pixels, labels [count], and per object, or NULL for none/computed:
 * crowd [count] 0|1, area [count] (NULL: w*h). May be called several times for an image; an image without objects that should
 * count is added with count 0. Errors: ARGUMENT, NONFINITE, LIMIT, NOMEM. */
DD_API dd_status dd_eval_add_objects(dd_eval *eval, int64_t image_id, int64_t count, const double *boxes, const int64_t *labels,
                                     const uint8_t *crowd, const double *area);
/* Adds detections of one image: boxes as above, labels, scores. Errors: ARGUMENT, NONFINITE, LIMIT, NOMEM. */
DD_API dd_status dd_eval_add_detections(dd_eval *eval, int64_t image_id, int64_t count, const double *boxes,
                                        const int64_t *labels, const double *scores);
/* COCO's numbers in pycocotools' order: AP, AP50, AP75, AP_S, AP_M, AP_L, AR1, AR10, AR100, AR_S, AR_M, AR_L; -1 where no
 * object falls in. More may be added afterwards and finish called again. Errors: ARGUMENT, NOMEM. */
DD_API dd_status dd_eval_finish(dd_eval *eval, double numbers[12]);
/* AP of one class (label), as in the first number; -1 without objects. After finish. Errors: ARGUMENT, STATE. */
DD_API dd_status dd_eval_class(const dd_eval *eval, int64_t label, double *ap);

#ifdef __cplusplus
}
#endif
#endif
