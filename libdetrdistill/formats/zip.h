/* SPDX-License-Identifier: Apache-2.0
 * Members of a zip archive that lies in memory, as torch.save writes them: stored without compression, zip64 where needed. */
#ifndef DDI_FORMATS_ZIP_H
#define DDI_FORMATS_ZIP_H

#include "formats/crc.h"
#include <detrdistill/status.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct ddi_zip_member {
    const char *name; /* in the archive, not terminated */
    uint32_t name_bytes, crc;
    uint64_t place, size, packed; /* of the local header; of the contents; as stored */
    int32_t method;
    const void *data; /* NULL until it was taken once */
} ddi_zip_member;

typedef struct ddi_zip {
    const char *path; /* for error sentences */
    const unsigned char *bytes;
    size_t size, taken; /* taken: contents handed out so far */
    ddi_zip_member *member;
    int32_t count;
    bool summed; /* torch can be told to leave the checksums out: then every one is 0 */
    ddi_crc_table table;
} ddi_zip;

/* Reads the directory of an archive; both `path` and the bytes must outlive it. Errors: FORMAT, LIMIT, NOMEM. */
dd_status ddi_zip_open(ddi_zip *zip, const char *path, const void *bytes, size_t size);
void ddi_zip_free(ddi_zip *zip);

/* A member by name, or NULL. */
ddi_zip_member *ddi_zip_find(const ddi_zip *zip, const char *name, size_t bytes);
/* Its contents, in the archive's own bytes; the first time their checksum is compared. Errors: FORMAT (damaged, compressed,
 * or members that overlap). */
dd_status ddi_zip_take(ddi_zip *zip, ddi_zip_member *member, const void **data);

#endif
