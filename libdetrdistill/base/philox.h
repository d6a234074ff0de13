/* SPDX-License-Identifier: Apache-2.0
 * Philox4x32-10 (Salmon et al., SC 2011): a counter-based generator. The numbers depend on (seed, step, op, index) alone, so
 * any thread may draw any of them, and nothing but integers has to be saved. */
#ifndef DDI_BASE_PHILOX_H
#define DDI_BASE_PHILOX_H

#include <stdint.h>

/* Four random words for one index of the stream (seed, step, op). */
static inline void ddi_philox(uint64_t seed, uint32_t step, uint32_t op, uint64_t index, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = step, c3 = op;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Element `index` of the stream as a number in [0,1) with 24 bits. */
static inline double ddi_philox_uniform(uint64_t seed, uint32_t step, uint32_t op, uint64_t index)
{
    uint32_t words[4];
    ddi_philox(seed, step, op, index / 4, words);
    return (double)(words[index % 4] >> 8) * 0x1p-24;
}

#endif
