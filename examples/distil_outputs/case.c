/* SPDX-License-Identifier: Apache-2.0
 * Memory of a case. */
#include "case.h"
#include <stdlib.h>

static bool allocate_detections(detections *d, int64_t pictures, int64_t classes, int64_t queries)
{
    d->queries = queries;
    d->logits = calloc((size_t)(pictures * queries * classes), sizeof(float));
    d->boxes = calloc((size_t)(pictures * queries * 4), sizeof(float));
    return d->logits && d->boxes;
}

bool case_allocate(distil_case *c, int64_t pictures, int64_t classes, int64_t teacher_queries, int64_t student_queries,
                   int64_t objects)
{
    *c = (distil_case){.pictures = pictures, .classes = classes, .objects = objects};
    bool made = allocate_detections(&c->teacher, pictures, classes, teacher_queries);
    made = allocate_detections(&c->student, pictures, classes, student_queries) && made;
    c->gt_boxes = calloc((size_t)objects + 1, 4 * sizeof(float));
    c->gt_labels = calloc((size_t)objects + 1, sizeof(int32_t));
    c->gt_offsets = calloc((size_t)pictures + 1, sizeof(int32_t));
    c->sizes = calloc((size_t)pictures, 2 * sizeof(float));
    if (!made || !c->gt_boxes || !c->gt_labels || !c->gt_offsets || !c->sizes) {
        case_free(c);
        return false;
    }
    for (int64_t i = 0; i < 2 * pictures; i++)
        c->sizes[i] = PICTURE_SIDE;
    return true;
}

void case_free(distil_case *c)
{
    free(c->teacher.logits);
    free(c->teacher.boxes);
    free(c->student.logits);
    free(c->student.boxes);
    free(c->gt_boxes);
    free(c->gt_labels);
    free(c->gt_offsets);
    free(c->sizes);
    *c = (distil_case){0};
}
