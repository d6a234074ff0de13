/* SPDX-License-Identifier: Apache-2.0
 * Replaying golden/openmmlab: what the families share. */
#ifndef DD_TESTS_GOLDEN_OPENMMLAB_H
#define DD_TESTS_GOLDEN_OPENMMLAB_H

#include "kd/attach.h"
#include "values.h"
#include <detrdistill/detrdistill.h>

#include <json-c/json.h>
#include <stdbool.h>

enum { NAME = 256 };

/* Largest error / largest value that the READMEs allow. */
#define FORWARD 1e-4
#define LOSS 1e-5
#define GRADIENT 1e-3

typedef struct replay {
    const char *folder;
    dd_context *context;
    ddi_exec exec;
    dd_model *model;
    dd_distiller *distiller;
    dd_tensorfile *file; /* case.safetensors */
    struct json_object *config;
    int32_t dtype, images, height, width;
    int32_t *sizes, *offsets, *labels; /* (w,h) of each image; of the objects */
    double *boxes;                     /* (cx,cy,w,h) in 0..1 */
    double worst_forward, worst_gradient;
} replay;

/* Says which call failed, and ends the program. */
void must(dd_status status, const char *what);
void check_case(bool good, const char *name, double error, double allowed);

/* A number of config.json, by a path: "denoising.number". */
double setting(const replay *r, const char *path);

bool has(const replay *r, const char *name);
dd_tensor expected(const replay *r, const char *name);
/* A value of the tape, in C order. */
double real_of(const replay *r, const ddi_value *v, int64_t i);

/* One tensor of the file against numbers, in its order. Entries that `skip` (or NULL) marks are left out. */
void compare(replay *r, const char *name, const double *got, const unsigned char *skip, double tolerance);
/* A tensor of the library (dd_model_tensor) against one of the file, where the file has it. */
void compare_tensor(replay *r, const char *want, const char *name);
/* Integers must be equal. */
void compare_exactly(replay *r, const char *name, const dd_tensor *got);
/* Terms and total of the distiller's last step. */
void compare_term(const replay *r, const char *want, const char *name);
/* Whom each decoder layer's queries were matched with: "match.LAYER0", .. */
void compare_matches(replay *r, const char *layer);
/* Terms of all layers, "loss.LAYER0.PREFIXloss_cls", .., against those of `ours` (det, denoising). */
void compare_losses(const replay *r, const char *layer, const char *prefix, const char *ours);
/* The gradients of all trained parameters, by the names that the map knows them under. */
void compare_gradients(replay *r, const ddi_keymap *map);
/* The detections of every image in inference mode, where the file has any. clip: boxes are cut at the image's edges. */
void compare_predictions(replay *r, bool clip);

/* openmmlab_dino.c */
void replay_dino(replay *r);
/* openmmlab_adamixer.c */
void replay_adamixer(replay *r);

#endif
