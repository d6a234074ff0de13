/* SPDX-License-Identifier: Apache-2.0
 * The ring of batches, the order of an epoch, and the threads. */
#include "data/loader.h"
#include "base/error.h"
#include "base/philox.h"
#include "base/thread.h"
#include "data/streams.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define AT(field) offsetof(ddi_loader_settings, field)
static const ddi_option options[] = {
    {"mode", DDI_CHOICE, AT(eval), 0, 0, "train", "train|eval",
     "eval: every picture once, in order, as it is but for its size"},
    {"batch", DDI_INT, AT(batch), 1, DDI_MAX_IMAGES, "2", NULL, "pictures of a batch"},
    {"drop-last", DDI_CHOICE, AT(drop_last), 0, 0, "0", "0|1", "1: a last batch that is not full is left out"},
    {"limit", DDI_INT, AT(limit), 0, DDI_MAX_DATASET_IMAGES, "0", NULL, "only the first N pictures; 0: all"},
    {"shuffle", DDI_CHOICE, AT(shuffle), 0, 0, "auto", "0|1|auto", "auto: in training"},
    {"seed", DDI_INT, AT(seed), 0, 9.2e18, "0", NULL, "of the order and the augmentation"},
    {"sizes", DDI_TEXT, AT(sizes), 0, 0, "480,512,544,576,608,640,672,704,736,768,800", NULL,
     "short sides to draw from, in pixels; eval takes the last"},
    DDI_AUGMENT_OPTIONS(AT),
    {"threads", DDI_INT, AT(threads), 0, DDI_MAX_THREADS, "1", NULL, "that decode ahead; 0: decode when asked"},
    {"prefetch", DDI_INT, AT(prefetch), 1, 64, "2", NULL, "batches ahead"},
    {"damaged", DDI_CHOICE, AT(damaged), 0, 0, "error", "error|skip|keep", "pictures that are cut off or unreadable"},
};
const ddi_option_table ddi_loader_options = {"loader", options, sizeof options / sizeof options[0]};

enum { SHUFFLE_AUTO = 2 };

/* ---- Order */

/* Fisher and Yates, drawn from (seed, epoch). */
static void put_in_order(dd_loader *l, int64_t epoch)
{
    const bool shuffle = l->settings.shuffle == SHUFFLE_AUTO ? !l->settings.eval : l->settings.shuffle;
    if (l->order_epoch == epoch) {
        return;
    }
    for (int32_t i = 0; i < l->images; i++) {
        l->order[i] = i;
    }
    for (int32_t i = l->images - 1; shuffle && i > 0; i--) {
        uint32_t words[4];
        ddi_philox((uint64_t)l->settings.seed, (uint32_t)epoch, DDI_STREAM_SHUFFLE, (uint64_t)i, words);
        const int32_t other = (int32_t)(((uint64_t)words[0] * (uint64_t)(i + 1)) >> 32), kept = l->order[i];
        l->order[i] = l->order[other];
        l->order[other] = kept;
    }
    l->order_epoch = epoch;
}

/* Under the lock: asks for batches until the ring is full. The one that the caller holds is not touched. */
static void ask(dd_loader *l)
{
    const int64_t most = l->settings.threads > 0 ? l->fetched + l->ring_size - (l->current != NULL) : l->fetched + 1;
    while (l->asked < most) {
        ddi_batch *b = &l->ring[l->asked++ % l->ring_size];
        b->epoch = l->next_epoch;
        b->number = l->next;
        b->taken = b->finished = b->count = 0;
        b->status = DD_OK;
        b->images = b->damaged = 0;
        b->failed = -1;
        b->ready = l->next == l->batches; /* the end of an epoch has no pictures */
        if (b->ready) {
            l->next_epoch++;
            l->next = 0;
            continue;
        }
        put_in_order(l, b->epoch);
        const int64_t first = l->next++ * l->batch_size, left = l->images - first;
        b->count = left < l->batch_size ? (int32_t)left : l->batch_size;
        for (int32_t i = 0; i < b->count; i++) {
            b->entry[i].index = l->order[first + i];
        }
    }
}

/* ---- Threads */

/* Under the lock: the next picture to be made, of the earliest batch that has one. */
static ddi_batch *take(dd_loader *l, int32_t *entry)
{
    for (; l->working < l->asked; l->working++) {
        ddi_batch *b = &l->ring[l->working % l->ring_size];
        if (b->taken < b->count) {
            *entry = b->taken++;
            return b;
        }
    }
    return NULL;
}

/* Makes one picture, and the batch if it was its last. Called with the lock held, and returns so. */
static void make(dd_loader *l, ddi_batch *b, int32_t entry, ddi_worker *w)
{
    l->busy++;
    pthread_mutex_unlock(&l->lock);
    ddi_batch_make_entry(l, b, entry, w);
    pthread_mutex_lock(&l->lock);
    if (++b->finished == b->count) {
        pthread_mutex_unlock(&l->lock);
        ddi_batch_finish(l, b, w);
        pthread_mutex_lock(&l->lock);
        b->ready = true;
    }
    l->busy--;
    pthread_cond_broadcast(&l->done);
}

static void *run(void *user)
{
    ddi_worker *w = user;
    dd_loader *l = w->loader;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        int32_t entry;
        ddi_batch *b = take(l, &entry);
        if (b) {
            make(l, b, entry, w);
        } else {
            pthread_cond_wait(&l->work, &l->lock);
        }
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void stop_threads(dd_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int32_t i = 0; i < l->threads; i++) {
        pthread_join(l->thread[i], NULL);
    }
    l->threads = 0;
}

/* ---- Life */

void ddi_loader_destroy(dd_loader *l)
{
    if (l->process != getpid()) {
        return; /* the threads are the parent's, and they may hold the lock */
    }
    stop_threads(l);
    const int64_t workers = l->settings.threads > 0 ? l->settings.threads : 1;
    for (int32_t i = 0; l->ring && i < l->ring_size; i++) {
        ddi_batch_destroy(&l->ring[i], l->batch_size);
    }
    for (int64_t i = 0; l->worker && i < workers; i++) {
        ddi_worker_destroy(&l->worker[i]);
    }
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->done);
    pthread_mutex_destroy(&l->lock);
    ddi_free(NULL, l->ring);
    ddi_free(NULL, l->worker);
    ddi_free(NULL, l->thread);
    ddi_free(NULL, l->order);
    ddi_dataset_release(l->dataset);
    ddi_free(NULL, l);
}

static dd_status read_options(dd_loader *l, const char *text)
{
    ddi_loader_settings *s = &l->settings;
    ddi_policy *p = &l->policy;
    ddi_options_init(&ddi_loader_options, s);
    DDI_TRY(ddi_options_parse(&ddi_loader_options, text, s, NULL));
    DDI_TRY(ddi_sizes_parse(&p->sizes, "sizes", s->sizes));
    DDI_TRY(ddi_sizes_parse(&p->crop_sizes, "crop-sizes", s->crop_sizes));
    if (s->crop_min > s->crop_max) {
        return ddi_fail(DD_ERR_OPTION, "crop-min", "loader option crop-min=%lld is above crop-max=%lld", (long long)s->crop_min,
                        (long long)s->crop_max);
    }
    p->train = !s->eval;
    p->max_size = (int32_t)s->max_size;
    p->crop_max_size = (int32_t)s->crop_max_size;
    p->crop_min = (int32_t)s->crop_min;
    p->crop_max = (int32_t)s->crop_max;
    p->flip = s->flip;
    p->crop = s->crop;
    l->images = (int32_t)(s->limit > 0 && s->limit < l->dataset->image.count ? s->limit : l->dataset->image.count);
    l->batch_size = (int32_t)s->batch;
    l->batches = s->drop_last ? l->images / l->batch_size : (l->images + l->batch_size - 1) / l->batch_size;
    l->ring_size = s->threads > 0 ? (int32_t)s->prefetch + 1 : 1;
    return l->batches > 0 ? DD_OK
                          : ddi_fail(DD_ERR_OPTION, "drop-last",
                                     "%d pictures do not fill one batch of %d, and drop-last is set", l->images, l->batch_size);
}

static dd_status make_parts(dd_loader *l)
{
    const size_t workers = l->settings.threads > 0 ? (size_t)l->settings.threads : 1;
    l->ring = ddi_alloc_zero(NULL, (size_t)l->ring_size, sizeof *l->ring);
    l->worker = ddi_alloc_zero(NULL, workers, sizeof *l->worker);
    l->thread = ddi_alloc_zero(NULL, workers, sizeof *l->thread);
    l->order = ddi_alloc(NULL, (size_t)l->images * sizeof *l->order);
    if (!l->ring || !l->worker || !l->thread || !l->order) {
        return ddi_fail_nomem((uint64_t)l->images * sizeof *l->order, "a loader");
    }
    for (int32_t i = 0; i < l->ring_size; i++) {
        DDI_TRY(ddi_batch_create(&l->ring[i], l->batch_size));
    }
    for (size_t i = 0; i < workers; i++) {
        l->worker[i].loader = l;
        ddi_resizer_init(&l->worker[i].resizer, &ddi_default_allocator);
    }
    pthread_mutex_lock(&l->lock);
    ask(l);
    pthread_mutex_unlock(&l->lock);
    for (int64_t i = 0; i < l->settings.threads; i++) {
        DDI_TRY(ddi_thread_start(&l->thread[i], run, &l->worker[i]));
        l->threads++;
    }
    return DD_OK;
}

dd_status ddi_loader_create(dd_loader **loader, dd_dataset *dataset, const char *text)
{
    dd_loader *l = ddi_alloc_zero(NULL, 1, sizeof *l);
    if (!l) {
        return ddi_fail_nomem(sizeof *l, "a loader");
    }
    l->dataset = dataset;
    l->process = getpid();
    l->order_epoch = -1;
    ddi_dataset_retain(dataset);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->done, NULL);
    dd_status status = read_options(l, text);
    if (status == DD_OK) {
        status = make_parts(l);
    }
    if (status == DD_OK) {
        *loader = l;
    } else {
        ddi_loader_destroy(l);
    }
    return status;
}

/* ---- Use */

/* Under the lock: waits for the next batch, or makes it. */
static ddi_batch *fetch(dd_loader *l)
{
    ddi_batch *b = &l->ring[l->fetched % l->ring_size];
    int32_t entry = 0;
    l->current = NULL;
    ask(l);
    pthread_cond_broadcast(&l->work);
    while (!b->ready) {
        ddi_batch *unfinished = l->settings.threads > 0 ? NULL : take(l, &entry);
        if (unfinished) {
            make(l, unfinished, entry, &l->worker[0]);
        } else {
            pthread_cond_wait(&l->done, &l->lock);
        }
    }
    l->fetched++;
    return b;
}

dd_status ddi_loader_next(dd_loader *l, int32_t *images)
{
    ddi_batch *b;
    do { /* a batch of which every picture was left out is no batch */
        pthread_mutex_lock(&l->lock);
        b = fetch(l);
        pthread_mutex_unlock(&l->lock);
        const bool ended = b->count == 0;
        l->epoch = ended ? b->epoch + 1 : b->epoch;
        l->handed_out = ended ? 0 : b->number + 1;
        l->damaged += b->damaged;
        if (b->status != DD_OK) {
            ddi_fail(b->status, NULL, "%s", b->message);
            ddi_error_set_place(DD_PLACE_IMAGE, b->failed);
            return b->status;
        }
    } while (b->count > 0 && b->images == 0);
    l->current = b->count > 0 ? b : NULL;
    *images = b->images;
    return DD_OK;
}

dd_status ddi_loader_seek(dd_loader *l, int64_t epoch, int64_t batch)
{
    if (epoch < 0 || epoch > UINT32_MAX || batch < 0 || batch > l->batches) {
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_loader_seek: an epoch has %lld batches; there is no position %lld, %lld",
                        (long long)l->batches, (long long)epoch, (long long)batch);
    }
    pthread_mutex_lock(&l->lock);
    l->working = l->asked; /* nothing is left to be taken */
    while (l->busy > 0) {
        pthread_cond_wait(&l->done, &l->lock);
    }
    l->current = NULL;
    l->asked = l->fetched = l->working = 0;
    l->next_epoch = l->epoch = epoch;
    l->next = l->handed_out = batch;
    ask(l);
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return DD_OK;
}
