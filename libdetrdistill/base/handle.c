/* SPDX-License-Identifier: Apache-2.0
 * The table of live handles: open addressing, at most half full, under one lock. */
#include "base/handle.h"
#include "base/alloc.h"
#include "base/error.h"

#include <pthread.h>
#include <string.h>

typedef struct entry {
    const void *object; /* NULL: never used; TOMBSTONE: removed */
    int32_t kind;
    int32_t users;
    bool freed;
    uint64_t number;
} entry;

static const char tombstone_object;
#define TOMBSTONE ((const void *)&tombstone_object)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
enum { FIRST_SLOTS = 64 };
static entry first_table[FIRST_SLOTS];
static entry *table = first_table;
static size_t slots = FIRST_SLOTS, used; /* used counts tombstones, too */
static uint64_t last_number;

static const char *const kind_names[] = {
    [DDI_CONTEXT] = "context",       [DDI_MATCHER] = "matcher", [DDI_DISTILLER] = "distiller",
    [DDI_TENSORFILE] = "tensorfile", [DDI_EVAL] = "evaluation", [DDI_MODEL] = "model",
    [DDI_IMAGE] = "image",           [DDI_DATASET] = "dataset", [DDI_LOADER] = "loader",
    [DDI_TRAINER] = "trainer",       [DDI_PLOT] = "plot"};

static size_t first_slot(const void *object)
{
    return (size_t)(((uintptr_t)object >> 4) * 0x9E3779B97F4A7C15u >> 20) & (slots - 1);
}

static entry *find(const void *object)
{
    for (size_t i = first_slot(object); table[i].object; i = (i + 1) & (slots - 1))
        if (table[i].object == object)
            return &table[i];
    return NULL;
}

static void insert(entry e)
{
    size_t i = first_slot(e.object);
    while (table[i].object)
        i = (i + 1) & (slots - 1);
    table[i] = e;
    used++;
}

static bool grow(void)
{
    entry *old = table;
    size_t old_slots = slots, live = 0;
    for (size_t i = 0; i < slots; i++)
        live += table[i].object && table[i].object != TOMBSTONE;
    size_t wanted = live * 4 > FIRST_SLOTS ? live * 4 : FIRST_SLOTS, size = FIRST_SLOTS;
    while (size < wanted)
        size *= 2;
    entry *bigger = ddi_alloc_zero(NULL, size, sizeof *bigger);
    if (!bigger)
        return false;
    table = bigger;
    slots = size;
    used = 0;
    for (size_t i = 0; i < old_slots; i++)
        if (old[i].object && old[i].object != TOMBSTONE)
            insert(old[i]);
    if (old != first_table)
        ddi_free(NULL, old);
    return true;
}

dd_status ddi_handle_add(const void *object, ddi_handle_kind kind)
{
    pthread_mutex_lock(&lock);
    bool room = 2 * (used + 1) <= slots || grow();
    if (room)
        insert((entry){.object = object, .kind = (int32_t)kind, .number = ++last_number});
    pthread_mutex_unlock(&lock);
    return room ? DD_OK : ddi_fail_nomem(slots * 2 * sizeof(entry), "the table of handles");
}

dd_status ddi_handle_enter(const void *object, ddi_handle_kind kind, const char *function)
{
    const char *name = kind_names[kind];
    if (!object)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "%s: the %s is NULL", function, name);
    dd_status status = DD_OK;
    pthread_mutex_lock(&lock);
    entry *e = find(object);
    if (!e || e->kind != (int32_t)kind || e->freed)
        status = DD_ERR_ARGUMENT;
    else if (e->users > 0 && kind != DDI_CONTEXT)
        status = DD_ERR_STATE;
    else
        e->users++;
    pthread_mutex_unlock(&lock);
    if (status == DD_ERR_ARGUMENT)
        return ddi_fail(status, NULL, "%s: not a live %s (freed already, or another kind of handle)", function, name);
    if (status == DD_ERR_STATE)
        return ddi_fail(status, NULL, "%s: another call is running on this %s; one thread at a time may use it", function,
                        name);
    return DD_OK;
}

uint64_t ddi_handle_number(const void *object)
{
    pthread_mutex_lock(&lock);
    const entry *e = find(object);
    const uint64_t number = e && !e->freed ? e->number : 0;
    pthread_mutex_unlock(&lock);
    return number;
}

static void forget(entry *e)
{
    e->object = TOMBSTONE;
}

bool ddi_handle_leave(const void *object)
{
    pthread_mutex_lock(&lock);
    entry *e = find(object);
    bool destroy = e && --e->users == 0 && e->freed;
    if (destroy)
        forget(e);
    pthread_mutex_unlock(&lock);
    return destroy;
}

bool ddi_handle_remove(const void *object, ddi_handle_kind kind)
{
    if (!object)
        return false;
    pthread_mutex_lock(&lock);
    entry *e = find(object);
    bool known = e && e->kind == (int32_t)kind && !e->freed, destroy = known && e->users == 0;
    if (destroy)
        forget(e);
    else if (known)
        e->freed = true;
    pthread_mutex_unlock(&lock);
    return destroy;
}
