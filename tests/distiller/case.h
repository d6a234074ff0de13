/* SPDX-License-Identifier: Apache-2.0
 * A random distillation case of given sizes: every tensor that a distiller or matcher can take, with gradients. */
#ifndef TESTS_CASE_H
#define TESTS_CASE_H

#include <detrdistill/detrdistill.h>
#include <stdbool.h>
#include <stddef.h>

/* Optional parts. */
enum {
    CASE_DENOISING = 1,
    CASE_ADAPTOR = 2,  /* the caller's own adaptors */
    CASE_BRANCHES = 4, /* the caller's own contrastive branches */
    CASE_PADDING = 8,
    CASE_CROWD = 16, /* all flags 0 at the start */
    CASE_NO_PRIOR = 32,
    CASE_ALL = CASE_DENOISING | CASE_ADAPTOR | CASE_BRANCHES | CASE_PADDING
};

typedef struct case_sizes {
    int32_t student_stages, teacher_stages, images, student_queries, teacher_queries, classes;
    int32_t student_width, teacher_width; /* channels of queries and maps */
    int32_t levels, height, width;        /* of the teacher's first map; each next one is half of it */
    int32_t student_height;               /* of the student's first map; 0: the teacher's */
    int32_t objects;                      /* of image 0; every second image has one more, if not 0 */
    int32_t hidden;                       /* of the branches */
    int32_t dtype, parts;
} case_sizes;

extern const case_sizes case_small;

typedef struct case_tensor {
    char name[48];
    dd_tensor view;
    void *memory;
    size_t bytes;
    bool is_gradient;
} case_tensor;

enum { CASE_TENSORS = 160 };

typedef struct kd_case {
    case_sizes sizes;
    case_tensor tensor[CASE_TENSORS];
    int32_t count;
    int32_t *object_start; /* [images+1] */
    uint64_t random;
} kd_case;

kd_case *case_make(case_sizes sizes, uint64_t seed);
void case_free(kd_case *c);

/* The tensor of that name, or NULL. */
case_tensor *case_find(kd_case *c, const char *name);
/* Drops the tensor (and its gradient) from what is bound. */
void case_drop(kd_case *c, const char *name);
/* Replaces memory and type of a tensor, keeping its numbers as the type can hold them. `order` (or NULL) is the order of its
 * dimensions in memory, slowest first; `gap` elements lie unused between neighbours of the last one. */
void case_restore(case_tensor *t, int32_t dtype, const int32_t *order, int32_t gap);

/* Binds all tensors; gradients too, unless told not to. */
dd_status case_bind(kd_case *c, dd_distiller *d, bool gradients);
/* Binds what a matcher takes. */
dd_status case_bind_matcher(kd_case *c, dd_matcher *m, bool teacher);

int64_t tensor_elements(const dd_tensor *view);
double tensor_get(const dd_tensor *view, int64_t i);
void tensor_set(const dd_tensor *view, int64_t i, double value);

/* Gradients get a byte pattern; tells whether all of them still have it, or each is wholly zero or wholly untouched. */
void case_mark_gradients(kd_case *c);
bool case_gradients_untouched(const kd_case *c);
bool case_gradients_untouched_or_zero(const kd_case *c);
bool case_gradients_finite(const kd_case *c);
uint64_t case_hash_gradients(const kd_case *c);
uint64_t case_hash_inputs(const kd_case *c);
/* Of all terms of the last step. */
uint64_t case_hash_terms(const dd_distiller *d);

uint64_t hash_bytes(uint64_t hash, const void *data, size_t bytes);
/* In [0,1). */
double next_random(uint64_t *state);

#endif
