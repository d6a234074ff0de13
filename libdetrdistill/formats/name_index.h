/* SPDX-License-Identifier: Apache-2.0
 * Names to numbers: a sorted list, so that no choice of names makes it slow. */
#ifndef DDI_FORMATS_NAME_INDEX_H
#define DDI_FORMATS_NAME_INDEX_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ddi_name {
    const char *name; /* borrowed */
    int32_t number;
} ddi_name;

typedef struct ddi_name_index {
    ddi_name *sorted;
    int32_t count, capacity;
} ddi_name_index;

/* Room for `count` names in all; false when memory is out. */
bool ddi_name_index_reserve(ddi_name_index *index, int32_t count);
/* Sorts `count` names that were put into `sorted` directly; returns a name that is there twice, or NULL. */
const char *ddi_name_index_sort(ddi_name_index *index, int32_t count);
/* The number of a name, or -1. */
int32_t ddi_name_index_find(const ddi_name_index *index, const char *name);
/* Adds a name that is not there; room was reserved. */
void ddi_name_index_add(ddi_name_index *index, const char *name, int32_t number);
void ddi_name_index_free(ddi_name_index *index);

#endif
