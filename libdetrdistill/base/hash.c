/* SPDX-License-Identifier: Apache-2.0
 * Two multiplicative hashes side by side; each step is a bijection of the state for a given word, so that two inputs of the
 * same length that differ in one word never meet. */
#include "base/hash.h"

#include <string.h>

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static ddi_hash mix(ddi_hash h, uint64_t word)
{
    h.a = (h.a ^ word) * 0x9E3779B97F4A7C15u;
    h.a ^= h.a >> 29;
    h.b = rotate((h.b + word) * 0xC2B2AE3D27D4EB4Fu, 31);
    return h;
}

static uint64_t finish(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

ddi_hash ddi_hash_add(ddi_hash h, const void *data, size_t bytes)
{
    const char *at = data;
    uint64_t word;
    h = mix(h, bytes);
    for (; bytes >= sizeof word; bytes -= sizeof word, at += sizeof word) {
        memcpy(&word, at, sizeof word);
        h = mix(h, word);
    }
    if (bytes > 0) {
        word = 0;
        memcpy(&word, at, bytes);
        h = mix(h, word);
    }
    return (ddi_hash){finish(h.a), finish(h.b + h.a)};
}
