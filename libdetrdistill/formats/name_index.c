/* SPDX-License-Identifier: Apache-2.0
 * A sorted list of names with binary search. */
#include "formats/name_index.h"
#include "base/alloc.h"
#include <stdlib.h>
#include <string.h>

bool ddi_name_index_reserve(ddi_name_index *index, int32_t count)
{
    if (count <= index->capacity)
        return true;
    int32_t capacity = count < 8 ? 8 : count > index->capacity * 2 ? count : index->capacity * 2;
    ddi_name *grown = ddi_realloc(NULL, index->sorted, (size_t)capacity * sizeof *grown);
    if (!grown)
        return false;
    index->sorted = grown;
    index->capacity = capacity;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const ddi_name *)a)->name, ((const ddi_name *)b)->name);
}

const char *ddi_name_index_sort(ddi_name_index *index, int32_t count)
{
    if (count)
        qsort(index->sorted, (size_t)count, sizeof *index->sorted, by_name);
    index->count = count;
    for (int32_t i = 1; i < count; i++) {
        if (strcmp(index->sorted[i - 1].name, index->sorted[i].name) == 0)
            return index->sorted[i].name;
    }
    return NULL;
}

/* Where `name` is, or would be. */
static int32_t position(const ddi_name_index *index, const char *name)
{
    int32_t low = 0, high = index->count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (strcmp(index->sorted[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int32_t ddi_name_index_find(const ddi_name_index *index, const char *name)
{
    int32_t at = position(index, name);
    return at < index->count && strcmp(index->sorted[at].name, name) == 0 ? index->sorted[at].number : -1;
}

void ddi_name_index_add(ddi_name_index *index, const char *name, int32_t number)
{
    int32_t at = position(index, name);
    memmove(&index->sorted[at + 1], &index->sorted[at], (size_t)(index->count - at) * sizeof *index->sorted);
    index->sorted[at] = (ddi_name){name, number};
    index->count++;
}

void ddi_name_index_free(ddi_name_index *index)
{
    ddi_free(NULL, index->sorted);
    *index = (ddi_name_index){NULL, 0, 0};
}
