/* SPDX-License-Identifier: Apache-2.0
 * Rows of the resize with AVX-512: as with AVX2, four rows across and 64 bytes down. */
#include "images/resize.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define INLINE TARGET static inline __attribute__((always_inline))

/* Weights 2k and 2k+1 in each 32-bit lane. */
INLINE __m512i pair(const int16_t *weight)
{
    int32_t both;
    memcpy(&both, weight, sizeof both);
    return _mm512_set1_epi32(both);
}

/* To 8 bits in each 32-bit lane, not yet cut at 255. */
INLINE __m512i rounded(__m512i low, __m512i high)
{
    const __m512i half = _mm512_set1_epi32(1 << (DDI_RESIZE_BITS - 1));
    const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(low, half), _mm512_slli_epi32(high, DDI_RESIZE_LOW_BITS));
    return _mm512_srai_epi32(sum, DDI_RESIZE_BITS);
}

/* ---- Across: four rows in the quarters of a register, red, green, blue in its lanes */

/* Two neighbouring pixels of four rows as pairs of 16 bits: (r0 r1) (g0 g1) (b0 b1) (0 0). */
INLINE __m512i two_pixels(const uint8_t *const row[4], size_t at)
{
    const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m128i a = _mm_loadl_epi64((const __m128i *)(row[0] + at)), b = _mm_loadl_epi64((const __m128i *)(row[1] + at));
    const __m128i c = _mm_loadl_epi64((const __m128i *)(row[2] + at)), d = _mm_loadl_epi64((const __m128i *)(row[3] + at));
    const __m256i upper = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
    const __m256i lower = _mm256_inserti128_si256(_mm256_castsi128_si256(c), d, 1);
    return _mm512_shuffle_epi8(_mm512_inserti64x4(_mm512_castsi256_si512(upper), lower, 1), order);
}

/* Output i of four rows, one in each 32-bit lane. */
INLINE __m128i output_of(const uint8_t *const row[4], const ddi_axis *axis, size_t i)
{
    const size_t at = i * (size_t)axis->taps, pixel = (size_t)axis->start[i] * 3;
    const int32_t count = axis->count[i];
    __m512i pixels = two_pixels(row, pixel);
    __m512i low = _mm512_madd_epi16(pixels, pair(axis->low + at)), high = _mm512_madd_epi16(pixels, pair(axis->high + at));
    for (int32_t k = 2; k < count; k += 2) {
        pixels = two_pixels(row, pixel + (size_t)k * 3);
        low = _mm512_add_epi32(low, _mm512_madd_epi16(pixels, pair(axis->low + at + k)));
        high = _mm512_add_epi32(high, _mm512_madd_epi16(pixels, pair(axis->high + at + k)));
    }
    return _mm512_cvtusepi32_epi8(rounded(low, high));
}

INLINE void put_four(uint8_t *const row[4], size_t at, __m128i pixels, size_t bytes)
{
    int32_t pixel[4];
    _mm_storeu_si128((__m128i *)pixel, pixels);
    for (int32_t r = 0; r < 4; r++) {
        memcpy(row[r] + at, &pixel[r], bytes);
    }
}

/* Each output writes one byte too many, which the next one puts right; the last writes its three. */
TARGET static void across(uint8_t *to, size_t to_stride, const uint8_t *from, size_t from_stride, int32_t rows,
                          const ddi_axis *axis)
{
    const size_t last = (size_t)axis->outputs - 1;
    const uint8_t *source[4];
    uint8_t *row[4];
    for (int32_t r = 0; r < 4; r++) {
        const size_t y = (size_t)(r < rows ? r : rows - 1); /* a last row is done several times */
        source[r] = from + y * from_stride;
        row[r] = to + y * to_stride;
    }
    for (size_t i = 0; i < last; i++) {
        put_four(row, i * 3, output_of(source, axis, i), 4);
    }
    put_four(row, last * 3, output_of(source, axis, last), 3);
}

/* ---- Down: 64 bytes of a row */

typedef struct sums {
    __m512i low[4], high[4];
} sums;

INLINE void add_products(sums *s, int32_t part, __m512i values, __m512i low, __m512i high)
{
    s->low[part] = _mm512_add_epi32(s->low[part], _mm512_madd_epi16(values, low));
    s->high[part] = _mm512_add_epi32(s->high[part], _mm512_madd_epi16(values, high));
}

INLINE void add_rows(sums *s, const uint8_t *a, const uint8_t *b, __m512i low, __m512i high)
{
    const __m512i zero = _mm512_setzero_si512();
    const __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
    const __m512i first = _mm512_unpacklo_epi8(x, y), second = _mm512_unpackhi_epi8(x, y);
    add_products(s, 0, _mm512_unpacklo_epi8(first, zero), low, high);
    add_products(s, 1, _mm512_unpackhi_epi8(first, zero), low, high);
    add_products(s, 2, _mm512_unpacklo_epi8(second, zero), low, high);
    add_products(s, 3, _mm512_unpackhi_epi8(second, zero), low, high);
}

TARGET static void down(uint8_t *to, const uint8_t *from, size_t stride, const ddi_axis *axis, int32_t output, size_t bytes)
{
    const size_t at = (size_t)output * (size_t)axis->taps;
    const int32_t count = axis->count[output];
    for (size_t x = 0; x < bytes; x += 64) {
        sums s = {0};
        for (int32_t k = 0; k < count; k += 2) {
            const uint8_t *a = from + (size_t)k * stride + x, *b = k + 1 < count ? a + stride : a;
            add_rows(&s, a, b, pair(axis->low + at + k), pair(axis->high + at + k));
        }
        const __m512i first = _mm512_packs_epi32(rounded(s.low[0], s.high[0]), rounded(s.low[1], s.high[1]));
        const __m512i second = _mm512_packs_epi32(rounded(s.low[2], s.high[2]), rounded(s.low[3], s.high[3]));
        _mm512_storeu_si512(to + x, _mm512_packus_epi16(first, second));
    }
}

const ddi_resize_rows ddi_resize_avx512 = {across, down};
#else
const ddi_resize_rows ddi_resize_avx512;
#endif
