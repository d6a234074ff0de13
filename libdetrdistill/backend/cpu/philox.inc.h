/* SPDX-License-Identifier: Apache-2.0
 * The Philox numbers of base/philox.h, a vector of counters at a time, and what dropout makes of them. */
#ifndef DDI_CPU_PHILOX_H
#define DDI_CPU_PHILOX_H

#include "backend/cpu/simd_wide.h"
#include <detrdistill/sys/backend.h>

#define PHILOX_SET (4 * VW) /* elements that a vector of counters gives */

/* Upper 32 bits of a x */
INLINE vi vi_mul_high(vi a, uint32_t x)
{
#if VW == 16
    const vi m = _mm512_set1_epi64(x);
    const vi even = _mm512_mul_epu32(a, m), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), m);
    return _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
#else
    const vi m = _mm256_set1_epi64x(x);
    const vi even = _mm256_mul_epu32(a, m), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), m);
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
#endif
}

INLINE vi vi_xor3(vi a, vi b, uint32_t x)
{
#if VW == 16
    return _mm512_ternarylogic_epi32(a, b, vi_set((int32_t)x), 0x96);
#else
    return _mm256_xor_si256(_mm256_xor_si256(a, b), vi_set((int32_t)x));
#endif
}

/* Counters first, first + 1, ..: to[4 i + k] = factor where word k of counter i says that its element stays, else 0. The lanes
 * hold counters in the order that makes four rows of the result from two rounds of interleaving. */
INLINE void philox_kept_set(const dd_dropout *d, uint64_t first, uint32_t least, vf factor, float *to)
{
    int32_t low[VW], high[VW];
    for (uint32_t i = 0; i < VW; i++) {
        const uint64_t counter = first + i % 4 * (VW / 4) + i / 4;
        low[i] = (int32_t)(uint32_t)counter;
        high[i] = (int32_t)(uint32_t)(counter >> 32);
    }
    vi c0 = vi_load(low), c1 = vi_load(high), c2 = vi_set((int32_t)d->step), c3 = vi_set((int32_t)d->stream);
    uint32_t k0 = (uint32_t)d->seed, k1 = (uint32_t)(d->seed >> 32);
    for (int round = 0; round < 10; round++) {
        const vi n0 = vi_xor3(vi_mul_high(c2, 0xCD9E8D57u), c1, k0), n2 = vi_xor3(vi_mul_high(c0, 0xD2511F53u), c3, k1);
        c1 = vi_mul(c2, vi_set((int32_t)0xCD9E8D57u));
        c3 = vi_mul(c0, vi_set((int32_t)0xD2511F53u));
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    const vi word[4] = {c0, c1, c2, c3};
    vf kept[4];
    for (int k = 0; k < 4; k++) {
#if VW == 16
        kept[k] = _mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(_mm512_srli_epi32(word[k], 8), vi_set((int32_t)least)), factor);
#else
        kept[k] = _mm256_andnot_ps(
            _mm256_castsi256_ps(_mm256_cmpgt_epi32(vi_set((int32_t)least), _mm256_srli_epi32(word[k], 8))), factor);
#endif
    }
#if VW == 16
#define PHILOX_LOW _mm512_unpacklo_ps
#define PHILOX_HIGH _mm512_unpackhi_ps
#define PHILOX_SHUFFLE _mm512_shuffle_ps
#else
#define PHILOX_LOW _mm256_unpacklo_ps
#define PHILOX_HIGH _mm256_unpackhi_ps
#define PHILOX_SHUFFLE _mm256_shuffle_ps
#endif
    const vf a = PHILOX_LOW(kept[0], kept[1]), b = PHILOX_LOW(kept[2], kept[3]);
    const vf c = PHILOX_HIGH(kept[0], kept[1]), e = PHILOX_HIGH(kept[2], kept[3]);
    v_store(to, PHILOX_SHUFFLE(a, b, 0x44));
    v_store(to + VW, PHILOX_SHUFFLE(a, b, 0xee));
    v_store(to + 2 * VW, PHILOX_SHUFFLE(c, e, 0x44));
    v_store(to + 3 * VW, PHILOX_SHUFFLE(c, e, 0xee));
}

/* What dropout multiplies elements index .. index+n by, from the returned place on. `room`: n + 4 and a set more. */
static const float *philox_kept(const dd_dropout *d, uint64_t index, int64_t n, float *room)
{
    const uint32_t least = (uint32_t)ceil(d->rate * 0x1p24); /* of the 24 bits that stay */
    const vf factor = v_set((float)(1 / (1 - d->rate)));
    const int64_t shift = (int64_t)(index % 4);
    for (int64_t i = 0; i < shift + n; i += PHILOX_SET) {
        philox_kept_set(d, index / 4 + (uint64_t)i / 4, least, factor, room + i);
    }
    return room + shift;
}

#endif
