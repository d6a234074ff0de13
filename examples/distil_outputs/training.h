/* SPDX-License-Identifier: Apache-2.0
 * A student whose outputs are its parameters, taught by the library: the place of the host's own model and optimiser. */
#ifndef TRAINING_H
#define TRAINING_H

#include "adamw.h"
#include "case.h"
#include <detrdistill/detrdistill.h>

typedef struct training {
    distil_case *c;
    dd_distiller *distiller;
    float *box_inputs; /* u, of which the boxes are sigmoid(u): so they stay in 0..1 */
    float *logit_gradients, *box_gradients;
    int32_t *partner;               /* teacher query of each student query in the last step, -1: none */
    int64_t same_partner, partners; /* student queries whose partner stayed, and all that have one */
    bool compared;                  /* there was a step before */
    adamw logit_optimiser, box_optimiser;
} training;

/* Binds the case's memory; the case must outlive the training. */
dd_status training_init(training *t, distil_case *c, dd_context *context, bool labels, bool joint, double logit_rate,
                        double box_rate);

/* Losses and gradients of the student as it is, and who teaches whom. */
dd_status training_losses(training *t);
/* Moves the student against the gradients. */
void training_update(training *t);

/* Share of student queries whose teacher partner is the one of the step before; -1 in the first step. */
double training_stability(const training *t);

void training_free(training *t);

#endif
