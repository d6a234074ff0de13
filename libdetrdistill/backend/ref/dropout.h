/* SPDX-License-Identifier: Apache-2.0
 * What dropout keeps of an element. */
#ifndef DDI_REF_DROPOUT_H
#define DDI_REF_DROPOUT_H

#include "backend/ref/real.h"
#include "base/philox.h"

/* 0, or 1/(1-rate). */
static inline double ddi_ref_kept(const dd_dropout *d, int64_t index)
{
    if (d->rate <= 0) {
        return 1;
    }
    return ddi_philox_uniform(d->seed, d->step, d->stream, (uint64_t)index) >= d->rate ? 1 / (1 - d->rate) : 0;
}

#endif
