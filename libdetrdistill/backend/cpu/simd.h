/* SPDX-License-Identifier: Apache-2.0
 * A thin layer over the two instruction sets: `vf` holds VW floats, 16 with AVX-512 and 8 with AVX2. The kernel sources are
 * compiled once for each, products once more for AVX-512 with bf16; KERNEL(name) is the symbol of a kernel in the set that is
 * being compiled. */
#ifndef DDI_CPU_SIMD_H
#define DDI_CPU_SIMD_H

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)

#if defined(__AVX512BF16__)
#define KERNEL(name) cpu_avx512_bf16_##name
#else
#define KERNEL(name) cpu_avx512_##name
#endif
#define VW 16
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

INLINE vf v_set(float x)
{
    return _mm512_set1_ps(x);
}

INLINE vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void v_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}

/* Past the cache; p is aligned to the vector. */
INLINE void v_stream(float *p, vf x)
{
    _mm512_stream_ps(p, x);
}

/* The first n < VW lanes; loaded lanes beyond are 0. */
INLINE vm v_first(int64_t n)
{
    return (vm)((1u << n) - 1);
}

INLINE vf v_load_part(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(v_first(n), p);
}

INLINE void v_store_part(float *p, vf x, int64_t n)
{
    _mm512_mask_storeu_ps(p, v_first(n), x);
}

INLINE vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

INLINE vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

INLINE vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

INLINE vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

/* a b + c, rounded once */
INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* c - a b, rounded once */
INLINE vf v_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

/* Where one is NaN: b. */
INLINE vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

INLINE vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

INLINE vf v_abs(vf x)
{
    return _mm512_abs_ps(x);
}

INLINE vm v_less(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

/* |x| < infinity */
INLINE vm v_finite(vf x)
{
    return _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(INFINITY), _CMP_LT_OQ);
}

INLINE vm v_is_nan(vf x)
{
    return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
}

/* yes where the mask is set */
INLINE vf v_select(vm mask, vf yes, vf no)
{
    return _mm512_mask_blend_ps(mask, no, yes);
}

INLINE uint32_t v_bits(vm mask)
{
    return mask;
}

/* x 2^n for whole n */
INLINE vf v_scale(vf x, vf n)
{
    return _mm512_scalef_ps(x, n);
}

INLINE vf v_round(vf x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* x = m 2^e with m in [3/4, 3/2); normal positive x. Returns m. */
INLINE vf v_split(vf x, vf *exponent)
{
    *exponent = _mm512_getexp_ps(_mm512_mul_ps(x, _mm512_set1_ps(4.0f / 3)));
    return _mm512_scalef_ps(x, _mm512_sub_ps(_mm512_setzero_ps(), *exponent));
}

/* p[0], p[stride], .. */
INLINE vf v_load_strided(const float *p, int32_t stride)
{
    const vi lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_i32gather_ps(_mm512_mullo_epi32(lane, _mm512_set1_epi32(stride)), p, 4);
}

/* f16 and bf16 of VW lanes */
INLINE vf v_from_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

INLINE void v_to_f16(uint16_t *p, vf x)
{
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE vf v_from_bf16(const uint16_t *p)
{
    const vi wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

INLINE void v_to_bf16(uint16_t *p, vf x)
{
    const vi bits = _mm512_castps_si512(x);
    const vi last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    vi kept = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff))), 16);
    const vi sign = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x8000));
    kept = _mm512_mask_or_epi32(kept, v_is_nan(x), sign, _mm512_set1_epi32(0x7fc0));
    _mm256_storeu_si256((void *)p, _mm512_cvtepi32_epi16(kept));
}

/* Sums in double: VW lanes in two halves. */
typedef struct vd {
    __m512d low, high;
} vd;

INLINE vd vd_zero(void)
{
    return (vd){_mm512_setzero_pd(), _mm512_setzero_pd()};
}

INLINE vd vd_load(const double *p)
{
    return (vd){_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)};
}

INLINE void vd_store(double *p, vd x)
{
    _mm512_storeu_pd(p, x.low);
    _mm512_storeu_pd(p + 8, x.high);
}

INLINE vd vd_from(vf x)
{
    return (vd){_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))};
}

INLINE vf vd_round(vd x)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(x.low)), _mm512_cvtpd_ps(x.high), 1);
}

INLINE vd vd_add(vd a, vd b)
{
    return (vd){_mm512_add_pd(a.low, b.low), _mm512_add_pd(a.high, b.high)};
}

/* a b + c */
INLINE vd vd_fma(vd a, vd b, vd c)
{
    return (vd){_mm512_fmadd_pd(a.low, b.low, c.low), _mm512_fmadd_pd(a.high, b.high, c.high)};
}

INLINE double vd_sum(vd x)
{
    return _mm512_reduce_add_pd(_mm512_add_pd(x.low, x.high));
}

#elif defined(__AVX2__)

#define KERNEL(name) cpu_avx2_##name
#define VW 8
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm; /* all bits of a lane */

INLINE vf v_set(float x)
{
    return _mm256_set1_ps(x);
}

INLINE vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

INLINE void v_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}

INLINE void v_stream(float *p, vf x)
{
    _mm256_stream_ps(p, x);
}

INLINE vm v_first(int64_t n)
{
    const vi lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)n), lane));
}

INLINE vf v_load_part(const float *p, int64_t n)
{
    return _mm256_maskload_ps(p, _mm256_castps_si256(v_first(n)));
}

INLINE void v_store_part(float *p, vf x, int64_t n)
{
    _mm256_maskstore_ps(p, _mm256_castps_si256(v_first(n)), x);
}

INLINE vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

INLINE vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

INLINE vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

INLINE vf v_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vf v_fnma(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
}

INLINE vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

INLINE vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

INLINE vf v_abs(vf x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

INLINE vm v_less(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}

INLINE vm v_finite(vf x)
{
    return _mm256_cmp_ps(v_abs(x), _mm256_set1_ps(INFINITY), _CMP_LT_OQ);
}

INLINE vm v_is_nan(vf x)
{
    return _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
}

INLINE vf v_select(vm mask, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, mask);
}

INLINE uint32_t v_bits(vm mask)
{
    return (uint32_t)_mm256_movemask_ps(mask);
}

/* In two steps, so that results may be subnormal: |n| up to 250. */
INLINE vf v_scale(vf x, vf n)
{
    const vi whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    const vi first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const vi second = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

INLINE vf v_round(vf x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE vf v_split(vf x, vf *exponent)
{
    /* 3/4 moved to 1, the exponent's field tells which octave x is in */
    const vi bits = _mm256_castps_si256(x), shifted = _mm256_castps_si256(_mm256_mul_ps(x, _mm256_set1_ps(4.0f / 3)));
    const vi e = _mm256_sub_epi32(_mm256_srli_epi32(shifted, 23), _mm256_set1_epi32(127));
    *exponent = _mm256_cvtepi32_ps(e);
    return _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(e, 23)));
}

INLINE vf v_load_strided(const float *p, int32_t stride)
{
    const vi lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_i32gather_ps(p, _mm256_mullo_epi32(lane, _mm256_set1_epi32(stride)), 4);
}

INLINE vf v_from_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

INLINE void v_to_f16(uint16_t *p, vf x)
{
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE vf v_from_bf16(const uint16_t *p)
{
    const vi wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

INLINE void v_to_bf16(uint16_t *p, vf x)
{
    const vi bits = _mm256_castps_si256(x);
    const vi last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const vi kept = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff))), 16);
    const vi sign = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x8000));
    const vi nan = _mm256_or_si256(sign, _mm256_set1_epi32(0x7fc0));
    const vi word = _mm256_blendv_epi8(kept, nan, _mm256_castps_si256(v_is_nan(x)));
    const vi packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(word, word), 0x08);
    _mm_storeu_si128((void *)p, _mm256_castsi256_si128(packed));
}

typedef struct vd {
    __m256d low, high;
} vd;

INLINE vd vd_zero(void)
{
    return (vd){_mm256_setzero_pd(), _mm256_setzero_pd()};
}

INLINE vd vd_load(const double *p)
{
    return (vd){_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)};
}

INLINE void vd_store(double *p, vd x)
{
    _mm256_storeu_pd(p, x.low);
    _mm256_storeu_pd(p + 4, x.high);
}

INLINE vd vd_from(vf x)
{
    return (vd){_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}

INLINE vf vd_round(vd x)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(x.low)), _mm256_cvtpd_ps(x.high), 1);
}

INLINE vd vd_add(vd a, vd b)
{
    return (vd){_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)};
}

INLINE vd vd_fma(vd a, vd b, vd c)
{
    return (vd){_mm256_fmadd_pd(a.low, b.low, c.low), _mm256_fmadd_pd(a.high, b.high, c.high)};
}

INLINE double vd_sum(vd x)
{
    const __m256d four = _mm256_add_pd(x.low, x.high);
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

#else
#error "compile with AVX2 and FMA, or with AVX-512"
#endif

/* n lanes of a vector: all of them, or the last few of a row. */
INLINE vf v_load_n(const float *p, int64_t n)
{
    return n >= VW ? v_load(p) : v_load_part(p, n);
}

INLINE void v_store_n(float *p, vf x, int64_t n)
{
    if (n >= VW) {
        v_store(p, x);
    } else {
        v_store_part(p, x, n);
    }
}

INLINE vf v_zero(void)
{
    return v_set(0);
}

/* x in the first n lanes, 0 in the rest */
INLINE vf v_keep(vf x, int64_t n)
{
    return n >= VW ? x : v_select(v_first(n), x, v_zero());
}

INLINE vd vd_set(double x)
{
    const float high = (float)x, low = (float)(x - high);
    return vd_add(vd_from(v_set(high)), vd_from(v_set(low)));
}

/* The first n of VW doubles. */
INLINE vd vd_load_n(const double *p, int64_t n)
{
    double some[VW] = {0};
    if (n >= VW) {
        return vd_load(p);
    }
    memcpy(some, p, (size_t)n * sizeof *p);
    return vd_load(some);
}

INLINE void vd_store_n(double *p, vd x, int64_t n)
{
    double some[VW];
    if (n >= VW) {
        vd_store(p, x);
        return;
    }
    vd_store(some, x);
    memcpy(p, some, (size_t)n * sizeof *p);
}

INLINE int64_t minimum(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

#endif
