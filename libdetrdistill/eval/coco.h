/* SPDX-License-Identifier: Apache-2.0
 * The COCO box evaluation in three steps: collect (coco.c), match in each image and class (coco_match.c), average
 * (coco_average.c). The rules are those of pycocotools, to the order of ties and of additions in a precision. */
#ifndef DDI_EVAL_COCO_H
#define DDI_EVAL_COCO_H

#include <detrdistill/eval.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    DDI_COCO_AREAS = 4,       /* all, small, medium, large */
    DDI_COCO_THRESHOLDS = 10, /* IoU .5, .55, .. .95 */
    DDI_COCO_RECALLS = 101,   /* recall 0, .01, .. 1 */
    DDI_COCO_DETECTIONS = 100 /* of one class in one image, the best */
};

typedef struct ddi_coco_object {
    int64_t label, image;
    double box[4], area;
    int32_t sequence; /* when it was added */
    bool crowd;
} ddi_coco_object;

typedef struct ddi_coco_detection {
    int64_t label, image;
    double box[4], score;
    int32_t sequence;
} ddi_coco_detection;

/* A detection after matching. Bit t of a mask stands for IoU threshold t. */
typedef struct ddi_coco_scored {
    double score;
    int32_t sequence; /* by image, then by score in the image */
    int32_t rank;     /* in its image and class, 0 = best */
    uint16_t matched[DDI_COCO_AREAS], ignored[DDI_COCO_AREAS];
} ddi_coco_scored;

typedef struct ddi_coco_class {
    int64_t label;
    double ap;
    int64_t objects, detections;
} ddi_coco_class;

/* What a file calls a class. */
typedef struct ddi_eval_name {
    int64_t label;
    char name[128];
} ddi_eval_name;

struct dd_eval {
    ddi_coco_object *object;
    ddi_coco_detection *detection;
    int64_t *image; /* ids that objects were added for, also none */
    int32_t objects, object_room, detections, detection_room, images, image_room;
    ddi_eval_name *name;
    int32_t names, name_room;
    char (*picture)[128]; /* of a VOC folder: file names without ending, of the ids 1, 2, .. */
    int32_t pictures, picture_room;
    ddi_coco_class *class; /* ascending labels; of the last finish, NULL when something was added since */
    int32_t classes;
};

/* Room for `more` elements behind `count`. */
dd_status ddi_eval_grow(void **array, int32_t count, int64_t more, int32_t *room, size_t element);
/* Collecting for an entered handle; the functions of the same names in eval.h say what is checked. */
dd_status ddi_eval_add_objects(dd_eval *eval, int64_t image_id, int64_t count, const double *boxes, const int64_t *labels,
                               const uint8_t *crowd, const double *area);
dd_status ddi_eval_add_detections(dd_eval *eval, int64_t image_id, int64_t count, const double *boxes, const int64_t *labels,
                                  const double *scores);
/* Ends a call on the handle with its status. */
dd_status ddi_eval_leave(const dd_eval *eval, dd_status status);
void ddi_eval_forget_result(dd_eval *eval);

/* Memory for matching groups of up to a number of objects. */
typedef struct ddi_coco_scratch {
    double *iou;    /* [DDI_COCO_DETECTIONS][objects] */
    int32_t *order; /* [objects] those that count first */
    bool *ignored, *taken;
} ddi_coco_scratch;

dd_status ddi_coco_scratch_init(ddi_coco_scratch *scratch, int32_t objects);
void ddi_coco_scratch_free(ddi_coco_scratch *scratch);

/* Matches one image's detections of one class, best first, with its objects. Fills scored[0 .. detections-1] but for
 * `sequence`, and adds to counted[area] how many objects count. */
void ddi_coco_match(const ddi_coco_object *object, int32_t objects, const ddi_coco_detection *detection, int32_t detections,
                    ddi_coco_scratch *scratch, ddi_coco_scored *scored, int64_t counted[DDI_COCO_AREAS]);

/* Objects and detections by class, then image; detections then by falling score, ties as they were added. */
void ddi_eval_sort(dd_eval *eval);

/* The twelve numbers; also makes eval->class. */
dd_status ddi_coco_average(dd_eval *eval, double numbers[12]);

#endif
