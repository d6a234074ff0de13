/* SPDX-License-Identifier: Apache-2.0
 * Files of a Pascal VOC folder: lists of names, annotations by path. */
#ifndef DDI_FORMATS_VOC_LIST_H
#define DDI_FORMATS_VOC_LIST_H

#include "formats/voc_xml.h"

/* Calls `take` with the first word of each line, until it fails. Errors: IO, FORMAT (a name with '/'), and what it returns. */
dd_status ddi_voc_each_name(const char *path, dd_status (*take)(void *user, const char *name, size_t length), void *user);

/* ddi_voc_read of a file. Errors: IO, FORMAT, LIMIT, NOMEM. */
dd_status ddi_voc_read_file(ddi_voc_annotation *annotation, ddi_allocator *allocator, const char *path);

#endif
