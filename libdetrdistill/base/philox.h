/* SPDX-License-Identifier: Apache-2.0
 * Philox4x32-10 (Salmon et al., SC 2011): a counter-based generator. The numbers depend on (seed, step, op, index) alone, so
 * any thread may draw any of them, and nothing but integers has to be saved. */
#ifndef DDI_BASE_PHILOX_H
#define DDI_BASE_PHILOX_H

#include <stdint.h>

/* Four random words for one index of the stream (seed, step, op). */
void ddi_philox(uint64_t seed, uint32_t step, uint32_t op, uint64_t index, uint32_t out[4]);

/* Element `index` of the stream as a number in [0,1) with 24 bits. */
double ddi_philox_uniform(uint64_t seed, uint32_t step, uint32_t op, uint64_t index);

#endif
