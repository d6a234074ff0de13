/* SPDX-License-Identifier: Apache-2.0
 * Lists and annotations of a Pascal VOC folder. */
#include "formats/voc_list.h"
#include "base/error.h"
#include "base/io.h"

#include <string.h>

dd_status ddi_voc_each_name(const char *path, dd_status (*take)(void *user, const char *name, size_t length), void *user)
{
    ddi_file_map map;
    DDI_TRY(ddi_file_map_open(&map, path));
    const char *at = map.data, *end = at + map.size;
    dd_status status = DD_OK;
    while (at < end && status == DD_OK) {
        const char *start = at;
        while (at < end && (unsigned char)*at > ' ') {
            at++;
        }
        if (at > start) {
            status = memchr(start, '/', (size_t)(at - start))
                         ? ddi_fail(DD_ERR_FORMAT, NULL, "%s: a name with '/' in it is no picture's name", path)
                         : take(user, start, (size_t)(at - start));
        }
        while (at < end && *at != '\n') {
            at++;
        }
        at += at < end;
    }
    ddi_file_map_close(&map);
    return status;
}

dd_status ddi_voc_read_file(ddi_voc_annotation *annotation, ddi_allocator *allocator, const char *path)
{
    ddi_file_map map;
    DDI_TRY(ddi_file_map_open(&map, path));
    const dd_status status = ddi_voc_read(annotation, allocator, path, map.data, map.size);
    ddi_file_map_close(&map);
    return status;
}
