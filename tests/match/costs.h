/* SPDX-License-Identifier: Apache-2.0
 * Random numbers and kinds of cost matrices for the tests of the assignment solver. */
#ifndef TESTS_MATCH_COSTS_H
#define TESTS_MATCH_COSTS_H

#include <math.h>
#include <stdint.h>

/* splitmix64: number `index` (from 0) of the stream `seed`; make_scipy_cases.py has the same. */
static inline uint64_t random_word(uint64_t seed, uint64_t index)
{
    uint64_t z = (seed << 32) + (index + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* In [0,1), a multiple of 2^-24. */
static inline double random_uniform(uint64_t seed, uint64_t index)
{
    return (double)(random_word(seed, index) >> 40) * 0x1p-24;
}

/* In low .. high. */
static inline int32_t random_integer(uint64_t seed, uint64_t index, int32_t low, int32_t high)
{
    return low + (int32_t)(random_word(seed, index) % (uint64_t)(high - low + 1));
}

typedef enum {
    UNIFORM,
    FEW_INTEGERS,  /* 0 .. 3 */
    MANY_INTEGERS, /* -50 .. 50 */
    CONSTANT,
    SUMS,                     /* a[i] + b[j]: every assignment of a square is optimal */
    NEAR_TIES,                /* SUMS with differences of 2^-20 */
    CLUSTERED,                /* distances of points near a few centres */
    PRODUCT,                  /* (i+1)*(j+1): the longest paths */
    DENORMAL,                 /* integers times 2^-149 */
    HUGE_INTEGERS,            /* integers times 2^90, about 1e30 */
    EXACT_KINDS,              /* sums of the kinds above are exact, or their optimum is unique beyond rounding */
    WIDE_RANGE = EXACT_KINDS, /* 10^-30 .. 10^30, either sign */
    KINDS
} cost_kind;

static inline double distance_of_clusters(uint64_t seed, int64_t i, int64_t j)
{
    double sum = 0;
    for (uint64_t k = 0; k < 4; k++) {
        uint64_t a = (uint64_t)i * 8 + k, b = (uint64_t)j * 8 + 4 + k;
        double x = (double)(random_word(seed + 1, a) % 3) + random_uniform(seed, a) / 512;
        double y = (double)(random_word(seed + 1, b) % 3) + random_uniform(seed, b) / 512;
        sum += fabs(x - y);
    }
    return sum;
}

/* Cost (i, j); floats hold every kind but WIDE_RANGE and CLUSTERED exactly. */
static inline double cost_of(cost_kind kind, uint64_t seed, int64_t i, int64_t j, int64_t cols)
{
    uint64_t cell = (uint64_t)(i * cols + j), row = (uint64_t)i, col = (uint64_t)j + 100000;
    double sum = (double)random_integer(seed, row, 0, 100) + random_integer(seed, col, 0, 100);
    switch (kind) {
    case UNIFORM:
        return random_uniform(seed, cell);
    case FEW_INTEGERS:
        return random_integer(seed, cell, 0, 3);
    case MANY_INTEGERS:
        return random_integer(seed, cell, -50, 50);
    case CONSTANT:
        return 0.375;
    case SUMS:
        return sum;
    case NEAR_TIES:
        return sum / 64 + random_integer(seed + 1, cell, 0, 7) * 0x1p-20;
    case CLUSTERED:
        return distance_of_clusters(seed, i, j);
    case PRODUCT:
        return (double)((i + 1) * (j + 1));
    case DENORMAL:
        return random_integer(seed, cell, 0, 200) * 0x1p-149;
    case HUGE_INTEGERS:
        return random_integer(seed, cell, -1000, 1000) * 0x1p90;
    default:
        return pow(10, 60 * random_uniform(seed, cell) - 30) * (random_word(seed + 1, cell) & 1 ? 1 : -1);
    }
}

#endif
