/* SPDX-License-Identifier: Apache-2.0
 * Row passes of the assignment solver, four columns at a time. */
#include "match/lsap_scan.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define LANES 4
typedef __m256d vec;
typedef __m128i rows;

/* From position 3 - n: n lanes set, the rest clear (n < 4). */
static const int32_t first32[7] = {-1, -1, -1, 0, 0, 0, 0};
static const int64_t first64[7] = {-1, -1, -1, 0, 0, 0, 0};

INLINE vec same(double x)
{
    return _mm256_set1_pd(x);
}

INLINE rows same_row(int32_t row)
{
    return _mm_set1_epi32(row);
}

INLINE vec lower(vec x, vec y)
{
    return _mm256_min_pd(x, y);
}

INLINE double lowest(vec x)
{
    __m128d m = _mm_min_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_min_sd(m, _mm_unpackhi_pd(m, m)));
}

INLINE void put_row(vec lanes, rows row, int32_t *where)
{
    __m128 low = _mm_castpd_ps(_mm256_castpd256_pd128(lanes)), high = _mm_castpd_ps(_mm256_extractf128_pd(lanes, 1));
    rows narrow = _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)));
    _mm_store_si128((rows *)where, _mm_blendv_epi8(_mm_load_si128((const rows *)where), row, narrow));
}

INLINE vec start_lanes(vec c, const double *v, rows row, double *d, int32_t *via)
{
    vec x = _mm256_sub_pd(c, _mm256_load_pd(v));
    _mm256_store_pd(d, x);
    _mm_store_si128((rows *)via, row);
    return x;
}

INLINE vec relax_lanes(vec c, const double *v, vec h, rows row, double *d, int32_t *via)
{
    vec x = _mm256_sub_pd(_mm256_sub_pd(c, _mm256_load_pd(v)), h), old = _mm256_load_pd(d);
    vec less = _mm256_cmp_pd(x, old, _CMP_LT_OQ);
    vec now = _mm256_blendv_pd(old, x, less);
    _mm256_store_pd(d, now);
    put_row(less, row, via);
    return now;
}

INLINE void column_min_lanes(vec c, rows row, double *v, int32_t *best)
{
    vec old = _mm256_load_pd(v);
    vec less = _mm256_cmp_pd(c, old, _CMP_LT_OQ);
    _mm256_store_pd(v, _mm256_blendv_pd(old, c, less));
    put_row(less, row, best);
}

TARGET static uint64_t equal(const double *d, double value)
{
    uint64_t bits = 0;
    for (int32_t j = 0; j < DDI_LSAP_BLOCK; j += LANES)
        bits |= (uint64_t)_mm256_movemask_pd(_mm256_cmp_pd(_mm256_load_pd(d + j), same(value), _CMP_EQ_OQ)) << j;
    return bits;
}

#define COST float
#define PASS(name) name##_f32
#define LOAD(c) _mm256_cvtps_pd(_mm_loadu_ps(c))
#define LOAD_FIRST(n, c) _mm256_cvtps_pd(_mm_maskload_ps(c, _mm_loadu_si128((const rows *)(first32 + 3 - (n)))))
#include "match/lsap_scan_loops.inc.h"

#define COST double
#define PASS(name) name##_f64
#define LOAD(c) _mm256_loadu_pd(c)
#define LOAD_FIRST(n, c) _mm256_maskload_pd(c, _mm256_loadu_si256((const __m256i *)(first64 + 3 - (n))))
#include "match/lsap_scan_loops.inc.h"

const ddi_lsap_scan ddi_lsap_scan_avx2[2] = {
    {start_f32, relax_f32, column_min_f32, equal},
    {start_f64, relax_f64, column_min_f64, equal},
};
#endif
