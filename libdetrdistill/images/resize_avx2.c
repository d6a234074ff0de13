/* SPDX-License-Identifier: Apache-2.0
 * Rows of the resize with AVX2. Two taps at a time: 16-bit products of the low and of the high part of the weights, summed
 * apart; the sums are exact, so the bits are those of the plain rows. */
#include "images/resize.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET static inline __attribute__((always_inline))

/* Weights 2k and 2k+1 in each 32-bit lane. */
INLINE __m256i pair(const int16_t *weight)
{
    int32_t both;
    memcpy(&both, weight, sizeof both);
    return _mm256_set1_epi32(both);
}

/* To 8 bits in each 32-bit lane, not yet cut at 255. */
INLINE __m256i rounded(__m256i low, __m256i high)
{
    const __m256i half = _mm256_set1_epi32(1 << (DDI_RESIZE_BITS - 1));
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(low, half), _mm256_slli_epi32(high, DDI_RESIZE_LOW_BITS));
    return _mm256_srai_epi32(sum, DDI_RESIZE_BITS);
}

/* ---- Across: two rows in the halves of a register, red, green, blue in its lanes */

/* Two neighbouring pixels of two rows as pairs of 16 bits: (r0 r1) (g0 g1) (b0 b1) (0 0). */
INLINE __m256i two_pixels(const uint8_t *upper, const uint8_t *lower)
{
    const __m256i order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m128i a = _mm_loadl_epi64((const __m128i *)upper), b = _mm_loadl_epi64((const __m128i *)lower);
    return _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1), order);
}

/* Output i of two rows, as 8 bits in the low 4 bytes of each half. */
INLINE __m256i output_of(const uint8_t *upper, const uint8_t *lower, const ddi_axis *axis, size_t i)
{
    const size_t at = i * (size_t)axis->taps, pixel = (size_t)axis->start[i] * 3;
    const int32_t count = axis->count[i];
    __m256i pixels = two_pixels(upper + pixel, lower + pixel);
    __m256i low = _mm256_madd_epi16(pixels, pair(axis->low + at)), high = _mm256_madd_epi16(pixels, pair(axis->high + at));
    for (int32_t k = 2; k < count; k += 2) {
        const size_t next = pixel + (size_t)k * 3;
        pixels = two_pixels(upper + next, lower + next);
        low = _mm256_add_epi32(low, _mm256_madd_epi16(pixels, pair(axis->low + at + k)));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(pixels, pair(axis->high + at + k)));
    }
    const __m256i words = _mm256_packs_epi32(rounded(low, high), _mm256_setzero_si256());
    return _mm256_packus_epi16(words, words);
}

INLINE void put(uint8_t *to, int32_t pixel, size_t bytes)
{
    memcpy(to, &pixel, bytes);
}

INLINE void put_two(uint8_t *upper, uint8_t *lower, __m256i pixels, size_t bytes)
{
    put(upper, _mm_cvtsi128_si32(_mm256_castsi256_si128(pixels)), bytes);
    put(lower, _mm_cvtsi128_si32(_mm256_extracti128_si256(pixels, 1)), bytes);
}

/* Each output writes one byte too many, which the next one puts right; the last writes its three. */
TARGET static void across_two(uint8_t *upper, uint8_t *lower, const uint8_t *from_upper, const uint8_t *from_lower,
                              const ddi_axis *axis)
{
    const size_t last = (size_t)axis->outputs - 1;
    for (size_t i = 0; i < last; i++) {
        put_two(upper + i * 3, lower + i * 3, output_of(from_upper, from_lower, axis, i), 4);
    }
    put_two(upper + last * 3, lower + last * 3, output_of(from_upper, from_lower, axis, last), 3);
}

TARGET static void across(uint8_t *to, size_t to_stride, const uint8_t *from, size_t from_stride, int32_t rows,
                          const ddi_axis *axis)
{
    for (int32_t y = 0; y < rows; y += 2) {
        const size_t upper = (size_t)y, lower = (size_t)(y + 1 < rows ? y + 1 : y); /* an odd last row is done twice */
        across_two(to + upper * to_stride, to + lower * to_stride, from + upper * from_stride, from + lower * from_stride,
                   axis);
    }
}

/* ---- Down: 32 bytes of a row */

typedef struct sums {
    __m256i low[4], high[4];
} sums;

INLINE void add_products(sums *s, int32_t part, __m256i values, __m256i low, __m256i high)
{
    s->low[part] = _mm256_add_epi32(s->low[part], _mm256_madd_epi16(values, low));
    s->high[part] = _mm256_add_epi32(s->high[part], _mm256_madd_epi16(values, high));
}

INLINE void add_rows(sums *s, const uint8_t *a, const uint8_t *b, __m256i low, __m256i high)
{
    const __m256i zero = _mm256_setzero_si256();
    const __m256i x = _mm256_loadu_si256((const __m256i *)a), y = _mm256_loadu_si256((const __m256i *)b);
    const __m256i first = _mm256_unpacklo_epi8(x, y), second = _mm256_unpackhi_epi8(x, y);
    add_products(s, 0, _mm256_unpacklo_epi8(first, zero), low, high);
    add_products(s, 1, _mm256_unpackhi_epi8(first, zero), low, high);
    add_products(s, 2, _mm256_unpacklo_epi8(second, zero), low, high);
    add_products(s, 3, _mm256_unpackhi_epi8(second, zero), low, high);
}

TARGET static void down(uint8_t *to, const uint8_t *from, size_t stride, const ddi_axis *axis, int32_t output, size_t bytes)
{
    const size_t at = (size_t)output * (size_t)axis->taps;
    const int32_t count = axis->count[output];
    for (size_t x = 0; x < bytes; x += 32) {
        sums s = {0};
        for (int32_t k = 0; k < count; k += 2) {
            const uint8_t *a = from + (size_t)k * stride + x, *b = k + 1 < count ? a + stride : a;
            add_rows(&s, a, b, pair(axis->low + at + k), pair(axis->high + at + k));
        }
        const __m256i first = _mm256_packs_epi32(rounded(s.low[0], s.high[0]), rounded(s.low[1], s.high[1]));
        const __m256i second = _mm256_packs_epi32(rounded(s.low[2], s.high[2]), rounded(s.low[3], s.high[3]));
        _mm256_storeu_si256((__m256i *)(to + x), _mm256_packus_epi16(first, second));
    }
}

const ddi_resize_rows ddi_resize_avx2 = {across, down};
#else
const ddi_resize_rows ddi_resize_avx2;
#endif
