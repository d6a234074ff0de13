/* SPDX-License-Identifier: Apache-2.0
 * What the attention kernels need beyond simd.h: doubles, whole numbers, pairs, sums of many vectors at once. */
#ifndef DDI_CPU_SIMD_WIDE_H
#define DDI_CPU_SIMD_WIDE_H

#include "backend/cpu/simd.h"

#if VW == 16

INLINE vd vd_mul(vd a, vd b)
{
    return (vd){_mm512_mul_pd(a.low, b.low), _mm512_mul_pd(a.high, b.high)};
}

INLINE vd vd_sub(vd a, vd b)
{
    return (vd){_mm512_sub_pd(a.low, b.low), _mm512_sub_pd(a.high, b.high)};
}

INLINE vd vd_all(double x)
{
    return (vd){_mm512_set1_pd(x), _mm512_set1_pd(x)};
}

INLINE vd vd_div(vd a, vd b)
{
    return (vd){_mm512_div_pd(a.low, b.low), _mm512_div_pd(a.high, b.high)};
}

/* Where one is NaN: b. */
INLINE vd vd_max(vd a, vd b)
{
    return (vd){_mm512_max_pd(a.low, b.low), _mm512_max_pd(a.high, b.high)};
}

INLINE vd vd_min(vd a, vd b)
{
    return (vd){_mm512_min_pd(a.low, b.low), _mm512_min_pd(a.high, b.high)};
}

INLINE vd vd_floor(vd x)
{
    enum { DOWN = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC };
    return (vd){_mm512_roundscale_pd(x.low, DOWN), _mm512_roundscale_pd(x.high, DOWN)};
}

/* Whole x in [low, 2^31 - 128]; NaN and all below become low. */
INLINE vi vd_to_whole(vd x, double low)
{
    const __m512d least = _mm512_set1_pd(low), most = _mm512_set1_pd(2147483520.0);
    const __m256i a = _mm512_cvttpd_epi32(_mm512_min_pd(_mm512_max_pd(x.low, least), most));
    const __m256i b = _mm512_cvttpd_epi32(_mm512_min_pd(_mm512_max_pd(x.high, least), most));
    return _mm512_inserti32x8(_mm512_castsi256_si512(a), b, 1);
}

INLINE vi vi_set(int32_t x)
{
    return _mm512_set1_epi32(x);
}

INLINE vi vi_load(const int32_t *p)
{
    return _mm512_loadu_si512(p);
}

INLINE vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}

INLINE vi vi_mul(vi a, vi b)
{
    return _mm512_mullo_epi32(a, b);
}

/* 0 <= a < b */
INLINE vm vi_within(vi a, vi b)
{
    return _mm512_cmplt_epu32_mask(a, b);
}

INLINE vm vm_and(vm a, vm b)
{
    return a & b;
}

/* Of the set lanes, those where p[at] is 0. */
INLINE vm vi_zero_at(const int32_t *p, vi at, vm lanes)
{
    const vi found = _mm512_mask_i32gather_epi32(_mm512_set1_epi32(1), lanes, at, p, 4);
    return _mm512_cmpeq_epi32_mask(found, _mm512_setzero_si512());
}

/* to[i] = x[i] * factor, 0 <= factor < 2^31 */
INLINE void vi_store_scaled(int64_t *to, vi x, int64_t factor)
{
    const vi f = _mm512_set1_epi64(factor);
    _mm512_storeu_si512(to, _mm512_mul_epi32(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(x)), f));
    _mm512_storeu_si512(to + 8, _mm512_mul_epi32(_mm512_cvtepi32_epi64(_mm512_extracti32x8_epi32(x, 1)), f));
}

/* n pairs (x, y) in a row */
INLINE void v_load_pairs(const float *p, int64_t n, vf *x, vf *y)
{
    const vf a = v_load_n(p, 2 * n), b = n > 8 ? v_load_n(p + 16, 2 * n - 16) : _mm512_setzero_ps();
    const vi even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    *x = _mm512_permutex2var_ps(a, even, b);
    *y = _mm512_permutex2var_ps(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
}

INLINE void v_store_pairs(float *p, int64_t n, vf x, vf y)
{
    const vi low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    v_store_n(p, _mm512_permutex2var_ps(x, low, y), 2 * n);
    if (n > 8) {
        v_store_n(p + 16, _mm512_permutex2var_ps(x, _mm512_add_epi32(low, _mm512_set1_epi32(8)), y), 2 * n - 16);
    }
}

/* Lane i: sum of row[i]. The order of rows below is its own inverse, and what the shuffles make of them. */
INLINE vf v_sums(const vf row[VW])
{
    static const int order[VW] = {0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15};
    vf eight[8], four[4], two[2];
    for (int i = 0; i < 8; i++) {
        const vf a = row[order[i]], b = row[order[i + 8]];
        eight[i] = v_add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
    for (int i = 0; i < 4; i++) {
        four[i] = v_add(_mm512_shuffle_f32x4(eight[i], eight[i + 4], 0x88), _mm512_shuffle_f32x4(eight[i], eight[i + 4], 0xdd));
    }
    for (int i = 0; i < 2; i++) {
        two[i] = v_add(_mm512_unpacklo_ps(four[i], four[i + 2]), _mm512_unpackhi_ps(four[i], four[i + 2]));
    }
    return v_add(_mm512_shuffle_ps(two[0], two[1], 0x44), _mm512_shuffle_ps(two[0], two[1], 0xee));
}

INLINE float v_highest(vf x)
{
    return _mm512_reduce_max_ps(x);
}

INLINE float v_total(vf x)
{
    return _mm512_reduce_add_ps(x);
}

#else

INLINE vd vd_mul(vd a, vd b)
{
    return (vd){_mm256_mul_pd(a.low, b.low), _mm256_mul_pd(a.high, b.high)};
}

INLINE vd vd_sub(vd a, vd b)
{
    return (vd){_mm256_sub_pd(a.low, b.low), _mm256_sub_pd(a.high, b.high)};
}

INLINE vd vd_all(double x)
{
    return (vd){_mm256_set1_pd(x), _mm256_set1_pd(x)};
}

INLINE vd vd_div(vd a, vd b)
{
    return (vd){_mm256_div_pd(a.low, b.low), _mm256_div_pd(a.high, b.high)};
}

/* Where one is NaN: b. */
INLINE vd vd_max(vd a, vd b)
{
    return (vd){_mm256_max_pd(a.low, b.low), _mm256_max_pd(a.high, b.high)};
}

INLINE vd vd_min(vd a, vd b)
{
    return (vd){_mm256_min_pd(a.low, b.low), _mm256_min_pd(a.high, b.high)};
}

INLINE vd vd_floor(vd x)
{
    return (vd){_mm256_floor_pd(x.low), _mm256_floor_pd(x.high)};
}

INLINE vi vd_to_whole(vd x, double low)
{
    const __m256d least = _mm256_set1_pd(low), most = _mm256_set1_pd(2147483520.0);
    const __m128i a = _mm256_cvttpd_epi32(_mm256_min_pd(_mm256_max_pd(x.low, least), most));
    const __m128i b = _mm256_cvttpd_epi32(_mm256_min_pd(_mm256_max_pd(x.high, least), most));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

INLINE vi vi_set(int32_t x)
{
    return _mm256_set1_epi32(x);
}

INLINE vi vi_load(const int32_t *p)
{
    return _mm256_loadu_si256((const void *)p);
}

INLINE vi vi_add(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}

INLINE vi vi_mul(vi a, vi b)
{
    return _mm256_mullo_epi32(a, b);
}

INLINE vm vi_within(vi a, vi b)
{
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_cmpgt_epi32(a, _mm256_set1_epi32(-1)), _mm256_cmpgt_epi32(b, a)));
}

INLINE vm vm_and(vm a, vm b)
{
    return _mm256_and_ps(a, b);
}

INLINE vm vi_zero_at(const int32_t *p, vi at, vm lanes)
{
    const vi found = _mm256_mask_i32gather_epi32(_mm256_set1_epi32(1), p, at, _mm256_castps_si256(lanes), 4);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(found, _mm256_setzero_si256()));
}

INLINE void vi_store_scaled(int64_t *to, vi x, int64_t factor)
{
    const vi f = _mm256_set1_epi64x(factor);
    const vi low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(x)),
             high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(x, 1));
    _mm256_storeu_si256((void *)to, _mm256_mul_epi32(low, f));
    _mm256_storeu_si256((void *)(to + 4), _mm256_mul_epi32(high, f));
}

INLINE void v_load_pairs(const float *p, int64_t n, vf *x, vf *y)
{
    const vf a = v_load_n(p, 2 * n), b = n > 4 ? v_load_n(p + 8, 2 * n - 8) : _mm256_setzero_ps();
    const vf low = _mm256_permute2f128_ps(a, b, 0x20), high = _mm256_permute2f128_ps(a, b, 0x31);
    *x = _mm256_shuffle_ps(low, high, 0x88);
    *y = _mm256_shuffle_ps(low, high, 0xdd);
}

INLINE void v_store_pairs(float *p, int64_t n, vf x, vf y)
{
    const vf low = _mm256_unpacklo_ps(x, y), high = _mm256_unpackhi_ps(x, y);
    v_store_n(p, _mm256_permute2f128_ps(low, high, 0x20), 2 * n);
    if (n > 4) {
        v_store_n(p + 8, _mm256_permute2f128_ps(low, high, 0x31), 2 * n - 8);
    }
}

INLINE vf v_sums(const vf row[VW])
{
    static const int order[VW] = {0, 2, 1, 3, 4, 6, 5, 7};
    vf four[4], two[2];
    for (int i = 0; i < 4; i++) {
        const vf a = row[order[i]], b = row[order[i + 4]];
        four[i] = v_add(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    }
    for (int i = 0; i < 2; i++) {
        two[i] = v_add(_mm256_unpacklo_ps(four[i], four[i + 2]), _mm256_unpackhi_ps(four[i], four[i + 2]));
    }
    return v_add(_mm256_shuffle_ps(two[0], two[1], 0x44), _mm256_shuffle_ps(two[0], two[1], 0xee));
}

INLINE float v_highest(vf x)
{
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

INLINE float v_total(vf x)
{
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#endif

/* The first VW of n bytes as whole numbers, 0 beyond. */
INLINE vi vi_from_bytes(const uint8_t *p, int64_t n)
{
    uint8_t some[16] = {0};
    memcpy(some, p, (size_t)minimum(VW, n));
#if VW == 16
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)some));
#else
    return _mm256_cvtepu8_epi32(_mm_loadu_si128((const void *)some));
#endif
}

/* The first n lanes of x; `other` in the rest. */
INLINE vf v_keep_or(vf x, int64_t n, float other)
{
    return n >= VW ? x : v_select(v_first(n), x, v_set(other));
}

#endif
