/* SPDX-License-Identifier: Apache-2.0
 * Parameters of a model: named tensors, how they start, and what is trained. The trained ones lie one after the other in one
 * block, and so do their gradients, so that clipping and the optimiser see long vectors. */
#ifndef DDI_TAPE_PARAMS_H
#define DDI_TAPE_PARAMS_H

#include "backend/exec.h"

/* How a parameter starts (detectors.md section 8). */
typedef enum ddi_init_kind {
    DDI_INIT_CONSTANT,   /* a */
    DDI_INIT_UNIFORM,    /* in [b-a, b+a) */
    DDI_INIT_NORMAL,     /* standard deviation a */
    DDI_INIT_BOX_SIZE,   /* a in the last two of four entries, b in the others */
    DDI_INIT_DIRECTIONS, /* bias of sampling offsets (1.9): heads x levels x points, a = levels, b = points */
    DDI_INIT_XYZ         /* of three entries two in [-a, a), and b */
} ddi_init_kind;

typedef struct ddi_init {
    ddi_init_kind kind;
    double a, b;
} ddi_init;

/* Which learning rate a parameter has. */
typedef enum ddi_param_group { DDI_GROUP_MAIN, DDI_GROUP_BACKBONE, DDI_GROUP_SAMPLING, DDI_GROUPS } ddi_param_group;

typedef struct ddi_param {
    char *name;
    int32_t ndim;
    int64_t shape[4], count;
    ddi_init init;
    ddi_param_group group;
    bool trained;  /* part of the trained block */
    bool counted;  /* among the trained though nothing teaches it: others' programs count it so */
    int64_t place; /* first element in its block */
    char *data;
    char *grad; /* NULL: not trained, or gradients are not wanted */
} ddi_param;

typedef struct ddi_params {
    dd_context *context;
    int32_t dtype;
    ddi_param **all;
    int32_t count, room;
    int64_t trained_elements, frozen_elements; /* in the blocks: every parameter begins at a multiple of 16 */
    ddi_buffer trained, frozen, grad;
} ddi_params;

void ddi_params_init(ddi_params *params, dd_context *context, int32_t dtype);
void ddi_params_free(ddi_params *params, ddi_exec *exec);

/* Adds one without memory yet; NULL: out of memory or a name that is there already (the error says which). */
ddi_param *ddi_params_add(ddi_params *params, const char *name, ddi_init init, ddi_param_group group, bool trained,
                          int32_t ndim, const int64_t *shape);
ddi_param *ddi_params_find(const ddi_params *params, const char *name);

/* Memory for all of them, filled with their start values: a function of (seed, name) alone. */
dd_status ddi_params_allocate(ddi_params *params, ddi_exec *exec, uint64_t seed);
/* Memory for gradients, zeroed. */
dd_status ddi_params_allocate_grad(ddi_params *params, ddi_exec *exec);
dd_status ddi_params_zero_grad(ddi_params *params, ddi_exec *exec);

/* What "trained" counts: elements without the padding between parameters. */
int64_t ddi_params_trained_count(const ddi_params *params);
int64_t ddi_params_total_count(const ddi_params *params);

#endif
