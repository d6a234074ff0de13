/* SPDX-License-Identifier: Apache-2.0
 * What the program works on: outputs of a teacher and a student on the same pictures, and the objects in them. */
#ifndef CASE_H
#define CASE_H

#include <stdbool.h>
#include <stdint.h>

/* Boxes are (cx,cy,w,h) in 0..1; logits are before the sigmoid. */
typedef struct detections {
    int64_t queries;
    float *logits; /* [pictures][queries][classes] */
    float *boxes;  /* [pictures][queries][4] */
} detections;

typedef struct distil_case {
    int64_t pictures, classes, objects;
    detections teacher, student;
    float *gt_boxes;     /* [objects][4] */
    int32_t *gt_labels;  /* [objects] */
    int32_t *gt_offsets; /* [pictures+1] objects of picture b: gt_offsets[b] .. gt_offsets[b+1]-1 */
    float *sizes;        /* [pictures][2] width and height in pixels */
    const char *source;  /* for people */
} distil_case;

enum { CASE_MESSAGE = 600 };

/* Pictures are taken as PICTURE_SIDE pixels square: the files do not tell their sizes. */
enum { PICTURE_SIDE = 640 };

/* A made-up case: the teacher sees well, the student badly. The same seed gives the same case. */
bool case_generate(distil_case *c, uint64_t seed);

/* Reads PREFIX.pred_logits and PREFIX.pred_boxes of both models from a safetensors file and the objects from JSON. On error
 * `message` says what is wrong. */
bool case_load(distil_case *c, const char *data, const char *ground_truth, const char *teacher, const char *student,
               char message[CASE_MESSAGE]);

/* Memory for a case of these sizes; false when there is none. */
bool case_allocate(distil_case *c, int64_t pictures, int64_t classes, int64_t teacher_queries, int64_t student_queries,
                   int64_t objects);
void case_free(distil_case *c);

#endif
