/* SPDX-License-Identifier: Apache-2.0
 * Row passes of the assignment solver, eight columns at a time. */
#include "match/lsap_scan.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>

#define TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define LANES 8
typedef __m512d vec;
typedef __m256i rows;

INLINE vec same(double x)
{
    return _mm512_set1_pd(x);
}

INLINE rows same_row(int32_t row)
{
    return _mm256_set1_epi32(row);
}

INLINE vec lower(vec x, vec y)
{
    return _mm512_min_pd(x, y);
}

INLINE double lowest(vec x)
{
    return _mm512_reduce_min_pd(x);
}

INLINE __mmask8 first(int32_t n)
{
    return (__mmask8)((1u << n) - 1);
}

INLINE void put_row(__mmask8 lanes, rows row, int32_t *where)
{
    rows old = _mm256_load_si256((const rows *)where);
    _mm256_store_si256((rows *)where, _mm256_mask_mov_epi32(old, lanes, row));
}

INLINE vec start_lanes(vec c, const double *v, rows row, double *d, int32_t *via)
{
    vec x = _mm512_sub_pd(c, _mm512_load_pd(v));
    _mm512_store_pd(d, x);
    _mm256_store_si256((rows *)via, row);
    return x;
}

INLINE vec relax_lanes(vec c, const double *v, vec h, rows row, double *d, int32_t *via)
{
    vec x = _mm512_sub_pd(_mm512_sub_pd(c, _mm512_load_pd(v)), h), old = _mm512_load_pd(d);
    __mmask8 less = _mm512_cmp_pd_mask(x, old, _CMP_LT_OQ);
    vec now = _mm512_mask_mov_pd(old, less, x);
    _mm512_store_pd(d, now);
    put_row(less, row, via);
    return now;
}

INLINE void column_min_lanes(vec c, rows row, double *v, int32_t *best)
{
    vec old = _mm512_load_pd(v);
    __mmask8 less = _mm512_cmp_pd_mask(c, old, _CMP_LT_OQ);
    _mm512_store_pd(v, _mm512_mask_mov_pd(old, less, c));
    put_row(less, row, best);
}

TARGET static uint64_t equal(const double *d, double value)
{
    uint64_t bits = 0;
    for (int32_t j = 0; j < DDI_LSAP_BLOCK; j += LANES)
        bits |= (uint64_t)_mm512_cmp_pd_mask(_mm512_load_pd(d + j), same(value), _CMP_EQ_OQ) << j;
    return bits;
}

#define COST float
#define PASS(name) name##_f32
#define LOAD(c) _mm512_cvtps_pd(_mm256_loadu_ps(c))
#define LOAD_FIRST(n, c) _mm512_cvtps_pd(_mm256_maskz_loadu_ps(first(n), c))
#include "match/lsap_scan_loops.inc.h"

#define COST double
#define PASS(name) name##_f64
#define LOAD(c) _mm512_loadu_pd(c)
#define LOAD_FIRST(n, c) _mm512_maskz_loadu_pd(first(n), c)
#include "match/lsap_scan_loops.inc.h"

const ddi_lsap_scan ddi_lsap_scan_avx512[2] = {
    {start_f32, relax_f32, column_min_f32, equal},
    {start_f64, relax_f64, column_min_f64, equal},
};
#endif
