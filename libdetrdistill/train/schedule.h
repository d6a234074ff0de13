/* SPDX-License-Identifier: Apache-2.0
 * Learning rate over a run: linear warm-up by steps, drops by epochs; and the decay of averaged weights. */
#ifndef DDI_TRAIN_SCHEDULE_H
#define DDI_TRAIN_SCHEDULE_H

#include <detrdistill/status.h>
#include <stdbool.h>
#include <stdint.h>

enum { DDI_MOST_DROPS = 64 };

typedef struct ddi_schedule {
    int64_t warmup; /* steps */
    double warmup_from, drop_factor;
    int64_t drop[DDI_MOST_DROPS]; /* epochs from which on the rate is lower, ascending */
    int32_t drops;
} ddi_schedule;

/* "8,11", or "auto": after four fifths of the epochs. Errors: OPTION. */
dd_status ddi_schedule_drops(ddi_schedule *schedule, const char *text, int64_t epochs);

/* What the base rate is multiplied with in a step (finished steps before it; its epoch). */
double ddi_schedule_rate(const ddi_schedule *schedule, int64_t step, int64_t epoch);

/* Decay of averaged weights at the n-th update (from 1): small at first, so that the average forgets its start. */
double ddi_schedule_average(double decay, int64_t update);

#endif
