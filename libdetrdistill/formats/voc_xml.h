/* SPDX-License-Identifier: Apache-2.0
 * One annotation file of Pascal VOC. */
#ifndef DDI_FORMATS_VOC_XML_H
#define DDI_FORMATS_VOC_XML_H

#include "base/alloc.h"
#include <detrdistill/status.h>
#include <stdbool.h>
#include <stddef.h>

enum { DDI_VOC_NAME = 128 };

typedef struct ddi_voc_object {
    char name[DDI_VOC_NAME];
    double corner[4];        /* xmin, ymin, xmax, ymax as the file has them: counted from 1, the last pixel included */
    bool difficult, swapped; /* swapped: a pair of corners stood the wrong way round and was turned */
} ddi_voc_object;

typedef struct ddi_voc_annotation {
    char filename[256];
    int32_t width, height; /* 0: not said */
    ddi_voc_object *object;
    int32_t objects, room;
    ddi_allocator *allocator;
} ddi_voc_annotation;

/* Reads the text of a file; `file` is its name for error sentences. Boxes inside <part> are no objects. Declarations of
 * document types are refused, so entities cannot grow. Errors: FORMAT, LIMIT, NOMEM. */
dd_status ddi_voc_read(ddi_voc_annotation *annotation, ddi_allocator *allocator, const char *file, const void *text,
                       size_t size);
void ddi_voc_free(ddi_voc_annotation *annotation);

#endif
