/* SPDX-License-Identifier: Apache-2.0
 * A fast hash of 128 bits for telling contents apart. Not for use against somebody who forges collisions. */
#ifndef DDI_BASE_HASH_H
#define DDI_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct ddi_hash {
    uint64_t a, b;
} ddi_hash;

/* Adds bytes, and how many they are, to what was hashed before ({0}: nothing). */
ddi_hash ddi_hash_add(ddi_hash hash, const void *data, size_t bytes);

#endif
