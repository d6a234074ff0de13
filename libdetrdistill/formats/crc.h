/* SPDX-License-Identifier: Apache-2.0
 * Cyclic checksums of 32 bits, bits in reflected order: of zip files, and Castagnoli's of TensorBoard's records. */
#ifndef DDI_FORMATS_CRC_H
#define DDI_FORMATS_CRC_H

#include <stddef.h>
#include <stdint.h>

#define DDI_CRC_ZIP 0xEDB88320u
#define DDI_CRC_CASTAGNOLI 0x82F63B78u

/* Made once by whoever needs sums: eight bytes are taken at a time. */
typedef struct ddi_crc_table {
    uint32_t entry[8][256];
} ddi_crc_table;

void ddi_crc_make(ddi_crc_table *table, uint32_t polynomial);
uint32_t ddi_crc(const ddi_crc_table *table, const void *data, size_t size);

#endif
