/* SPDX-License-Identifier: Apache-2.0
 * Average precision, streamed: COCO's twelve numbers as pycocotools computes them, and Pascal VOC's. */
#ifndef DETRDISTILL_EVAL_H
#define DETRDISTILL_EVAL_H

#include <detrdistill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dd_eval dd_eval;

/* Makes an empty box evaluation. Errors: ARGUMENT, NOMEM. One thread at a time. */
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
/* Pascal VOC's average precision of what was added, at one IoU threshold; objects added as crowd are its "difficult" ones: they
 * neither count nor make a detection wrong. Options: "iou=0.5 points=11|all plus_one=0|1" (points: precision at recall 0, .1 ..
 * 1 as in 2007, or the area under the curve; plus_one: sides are one pixel longer, as in the development kit). *mean_ap: over
 * the classes that have an object that counts; -1 without any. Errors: ARGUMENT, OPTION, NOMEM. */
DD_API dd_status dd_eval_finish_voc(dd_eval *eval, const char *options, double *mean_ap);

/* Adds the images, objects and class names of a COCO annotation file, streamed. Ids stay as they are. On error nothing of the
 * file stays. Errors: ARGUMENT, IO, FORMAT, LIMIT, NOMEM. */
DD_API dd_status dd_eval_add_coco_annotations(dd_eval *eval, const char *path);
/* Adds a COCO result file (a list of image_id, category_id, bbox, score). *left_out (or NULL): detections on images that were
 * not added. Errors: as above. */
DD_API dd_status dd_eval_add_coco_results(dd_eval *eval, const char *path, int64_t *left_out);
/* Adds the pictures of a Pascal VOC folder: DIR/Annotations/NAME.xml (or DIR/NAME.xml). `split` names a list in
 * DIR/ImageSets/Main/SPLIT.txt, of which a picture without XML counts as one without objects; NULL: every XML of the folder.
 * Image ids are 1, 2, .. in that order; labels 1, 2, .. of the class names in alphabetical order. Errors: as above. */
DD_API dd_status dd_eval_add_voc_annotations(dd_eval *eval, const char *folder, const char *split);
/* Adds results on those pictures: a list of image_id (the file's name without ending, or that as a number), category_id (the
 * class name, or its label), bbox (x,y,w,h, pixels counted from 0) and score. Errors: as above, STATE (no VOC folder was
 * added). */
DD_API dd_status dd_eval_add_voc_results(dd_eval *eval, const char *path, int64_t *left_out);

/* How many classes the last finish saw, and what one is called: label, name ("" where no file gave one; borrowed until more is
 * added), AP, objects that count (not crowd or difficult), detections. Pointers may be NULL. Errors: ARGUMENT, STATE,
 * NOT_FOUND. */
DD_API dd_status dd_eval_class_count(const dd_eval *eval, int32_t *count);
DD_API dd_status dd_eval_class_at(const dd_eval *eval, int32_t index, int64_t *label, const char **name, double *ap,
                                  int64_t *objects, int64_t *detections);

/* AP of one class (label), as in the first number; -1 without objects. After finish. Errors: ARGUMENT, STATE. */
DD_API dd_status dd_eval_class(const dd_eval *eval, int64_t label, double *ap);

#ifdef __cplusplus
}
#endif
#endif
