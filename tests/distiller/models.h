/* SPDX-License-Identifier: Apache-2.0
 * Tiny teachers and students, and a batch of random pictures for them. */
#ifndef TESTS_DISTILLER_MODELS_H
#define TESTS_DISTILLER_MODELS_H

#include "guard.h"

#include <stdbool.h>

enum { PICTURES = 2, HEIGHT = 32, WIDTH = 48, MOST_OBJECTS = 8 };

/* A student of width 32 with 2 stages and 9 queries, 3 classes. */
#define TINY_STUDENT                                                                                                           \
    "backbone=resnet-18 stem=8 depths=1,1,1,1 widths=8,8,16,16 width=32 heads=4 points=2 levels=3 ffn=24 encoder-layers=1 "    \
    "decoder-layers=2 queries=9 classes=3 "
/* The same, but for depth, queries and stages. */
#define TINY_TEACHER                                                                                                           \
    "backbone=resnet-18 stem=8 depths=1,2,1,1 widths=8,8,16,16 width=32 heads=4 points=2 levels=3 ffn=24 encoder-layers=1 "    \
    "decoder-layers=4 queries=12 classes=3 "
/* Wider. */
#define TINY_WIDE                                                                                                              \
    "backbone=resnet-18 stem=8 depths=1,1,1,1 widths=8,8,16,16 width=64 heads=4 points=2 levels=4 ffn=24 encoder-layers=1 "    \
    "decoder-layers=4 queries=12 classes=3 "

/* DINO, of the same sizes. */
#define DINO "family=dino ffn=24 denoising=9 "
#define DINO_STUDENT TINY_STUDENT DINO
#define DINO_TEACHER TINY_TEACHER DINO
#define DINO_WIDE TINY_WIDE DINO

/* AdaMixer, of the same sizes. */
#define ADAMIXER "family=adamixer levels=4 encoder-layers=0 in-points=3 out-points=5 "

typedef struct pictures {
    double pixels[PICTURES * HEIGHT * WIDTH * 3];
    float boxes[MOST_OBJECTS][4];
    int32_t labels[MOST_OBJECTS], offsets[PICTURES + 1], sizes[PICTURES][2];
    int64_t ids[PICTURES];
} pictures;

/* The second picture is smaller than the batch. */
void pictures_fill(pictures *p, uint64_t seed);
void pictures_bind(pictures *p, dd_distiller *d);

dd_context *new_context(const char *options);
/* Start values with noise, so that no gradient is zero by symmetry. */
dd_model *new_model(dd_context *context, const char *options, uint64_t noise);

/* The parameter of that name; the test fails without. */
dd_tensor parameter_of(dd_model *model, const char *name);
/* Of all gradients of the model's trained parameters, and of a tensor that it left. */
uint64_t hash_model_gradients(dd_model *model);
uint64_t hash_model_tensor(dd_model *model, const char *name);

#endif
