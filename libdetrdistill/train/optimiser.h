/* SPDX-License-Identifier: Apache-2.0
 * AdamW over blocks of parameters: the student's trained block, and what the distiller trains along with it. */
#ifndef DDI_TRAIN_OPTIMISER_H
#define DDI_TRAIN_OPTIMISER_H

#include "tape/params.h"
#include <detrdistill/distiller.h>

enum { DDI_MOST_BLOCKS = 65 };

/* Elements of a block that share rate and decay. */
typedef struct ddi_slice {
    int64_t first, count;
    double rate; /* factor */
    bool decays;
} ddi_slice;

/* Parameters that lie one after the other. */
typedef struct ddi_weights {
    const char *name; /* of a single parameter of the distiller; NULL: the student's block */
    char *w, *g;
    int32_t dtype;
    int64_t count;
    ddi_slice *slice;
    int32_t slices;
    ddi_buffer m, v;
    ddi_buffer average; /* EMA of w; the student's alone, and only where it is on */
} ddi_weights;

typedef struct ddi_optimiser_settings {
    double decay, beta1, beta2, eps, clip, average; /* clip, average: 0 = off */
    double rate_of_group[DDI_GROUPS];
    bool small_decay; /* tensors of one dimension decay, too */
} ddi_optimiser_settings;

typedef struct ddi_optimiser {
    ddi_exec *exec;
    ddi_optimiser_settings settings;
    ddi_weights block[DDI_MOST_BLOCKS];
    int32_t blocks;
    ddi_buffer sums; /* double of each block, where operators can write it */
} ddi_optimiser;

/* Takes the student's trained parameters, with moments at zero. On error the caller frees it. Errors: NOMEM. */
dd_status ddi_optimiser_init(ddi_optimiser *optimiser, ddi_exec *exec, const ddi_params *params,
                             const ddi_optimiser_settings *settings);
void ddi_optimiser_free(ddi_optimiser *optimiser);

/* Takes the distiller's parameters. Errors: NOMEM, LIMIT. */
dd_status ddi_optimiser_join(ddi_optimiser *optimiser, dd_distiller *distiller);

/* L2 norm of all gradients, which are sums over `batches`. */
dd_status ddi_optimiser_norm(ddi_optimiser *optimiser, int32_t batches, double *norm);

/* Update number `update` (from 1) with the base rate `rate`, given the norm (finite). */
dd_status ddi_optimiser_update(ddi_optimiser *optimiser, int64_t update, double rate, int32_t batches, double norm);

/* What clipping multiplies gradients of this norm with. */
double ddi_clip_factor(double clip, double norm);

/* Changes the student's weights and their average; twice: as before. */
void ddi_optimiser_swap_average(ddi_optimiser *optimiser);

#endif
