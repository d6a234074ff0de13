/* SPDX-License-Identifier: Apache-2.0
 * Checksums by eight tables. */
#include "formats/crc.h"

#include <string.h>

void ddi_crc_make(ddi_crc_table *table, uint32_t polynomial)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t sum = i;
        for (int bit = 0; bit < 8; bit++) {
            sum = sum >> 1 ^ (sum & 1 ? polynomial : 0);
        }
        table->entry[0][i] = sum;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int k = 1; k < 8; k++) {
            const uint32_t below = table->entry[k - 1][i];
            table->entry[k][i] = below >> 8 ^ table->entry[0][below & 255];
        }
    }
}

uint32_t ddi_crc(const ddi_crc_table *table, const void *data, size_t size)
{
    const uint32_t(*t)[256] = table->entry;
    const unsigned char *at = data;
    uint32_t sum = ~0u;
    for (; size >= 8; at += 8, size -= 8) {
        uint32_t low, high;
        memcpy(&low, at, sizeof low);
        memcpy(&high, at + 4, sizeof high);
        low ^= sum;
        sum = t[7][low & 255] ^ t[6][low >> 8 & 255] ^ t[5][low >> 16 & 255] ^ t[4][low >> 24] ^ t[3][high & 255] ^
              t[2][high >> 8 & 255] ^ t[1][high >> 16 & 255] ^ t[0][high >> 24];
    }
    for (; size > 0; at++, size--) {
        sum = sum >> 8 ^ t[0][(sum ^ *at) & 255];
    }
    return ~sum;
}
