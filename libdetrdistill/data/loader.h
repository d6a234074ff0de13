/* SPDX-License-Identifier: Apache-2.0
 * The loader: a ring of batches, of which the caller holds one and threads fill the others. batch.c fills a batch, loader.c
 * keeps the ring and the threads. */
#ifndef DDI_DATA_LOADER_H
#define DDI_DATA_LOADER_H

#include "base/limits.h"
#include "data/augment.h"

#include <pthread.h>
#include <sys/types.h>

typedef enum ddi_damaged { DDI_DAMAGED_ERROR, DDI_DAMAGED_SKIP, DDI_DAMAGED_KEEP } ddi_damaged;

typedef struct ddi_loader_settings {
    int64_t batch, limit, seed, max_size, crop_min, crop_max, crop_max_size, multiple, threads, prefetch;
    double flip, crop;
    int32_t eval, drop_last, shuffle, damaged;
    char sizes[DDI_OPTION_TEXT], crop_sizes[DDI_OPTION_TEXT];
} ddi_loader_settings;

extern const ddi_option_table ddi_loader_options;

/* A picture of a batch. */
typedef struct ddi_entry {
    int32_t index;
    ddi_picture_view view;
    ddi_image pixels;
    bool left_out, damaged;
    dd_status status;
    char message[DDI_MAX_ERROR_BYTES];
} ddi_entry;

typedef struct ddi_batch {
    int64_t epoch, number;
    int32_t count;           /* pictures to be made; 0: the end of an epoch */
    int32_t taken, finished; /* by threads */
    bool ready;
    ddi_entry *entry; /* [batch size] */
    dd_status status;
    char message[DDI_MAX_ERROR_BYTES];
    int32_t failed, damaged; /* entry that failed or -1; how many were damaged */
    /* what is handed out */
    int32_t images, height, width, objects;
    float *pixels;
    size_t pixel_room;
    int32_t (*sizes)[2], (*originals)[2], *indices, *offsets, *labels;
    int64_t *ids;
    float (*boxes)[4];
    int32_t object_room;
} ddi_batch;

/* What one thread works with. */
typedef struct ddi_worker {
    dd_loader *loader;
    ddi_resizer resizer;
    ddi_image decoded, middle;
    ddi_image row; /* a row to be mirrored */
} ddi_worker;

struct dd_loader {
    dd_dataset *dataset;
    ddi_loader_settings settings;
    ddi_policy policy;
    int32_t images, batch_size, ring_size;
    int64_t batches; /* of an epoch */
    pid_t process;
    ddi_batch *ring;
    ddi_worker *worker; /* [threads, or one for the caller] */
    pthread_t *thread;
    int32_t threads;
    ddi_batch *current;        /* handed out */
    int64_t epoch, handed_out; /* the position */
    int64_t damaged;           /* of batches handed out */
    int64_t next_epoch, next;  /* the batch that is asked for next */
    int64_t order_epoch;       /* whose order `order` is, -1: none */
    int32_t *order;
    pthread_mutex_t lock;
    pthread_cond_t work, done; /* there is a picture to be made; a batch is ready or a thread is idle */
    /* under the lock: batches asked for, counted from the last seek; ring slot is number % ring_size */
    int64_t asked, fetched, working; /* asked for; handed out; first that still has pictures to be taken */
    int32_t busy;                    /* threads at a picture */
    bool stop;
};

dd_status ddi_loader_create(dd_loader **loader, dd_dataset *dataset, const char *options);
void ddi_loader_destroy(dd_loader *loader);
dd_status ddi_loader_next(dd_loader *loader, int32_t *images);
dd_status ddi_loader_seek(dd_loader *loader, int64_t epoch, int64_t batch);

/* batch.c */
dd_status ddi_batch_create(ddi_batch *batch, int32_t size);
void ddi_batch_destroy(ddi_batch *batch, int32_t size);
/* Decodes and resizes entry i. */
void ddi_batch_make_entry(const dd_loader *loader, ddi_batch *batch, int32_t i, ddi_worker *worker);
/* When all entries are made: the pixels and targets that are handed out. */
void ddi_batch_finish(const dd_loader *loader, ddi_batch *batch, ddi_worker *worker);
void ddi_worker_destroy(ddi_worker *worker);

#endif
