/* SPDX-License-Identifier: Apache-2.0
 * Fills a batch: pictures one by one, then all together. */
#include "base/checked.h"
#include "base/error.h"
#include "data/loader.h"

#include <stdio.h>
#include <string.h>

dd_status ddi_batch_create(ddi_batch *b, int32_t size)
{
    const size_t n = (size_t)size;
    b->entry = ddi_alloc_zero(NULL, n, sizeof *b->entry);
    b->sizes = ddi_alloc(NULL, n * sizeof *b->sizes);
    b->originals = ddi_alloc(NULL, n * sizeof *b->originals);
    b->indices = ddi_alloc(NULL, n * sizeof *b->indices);
    b->offsets = ddi_alloc(NULL, (n + 1) * sizeof *b->offsets);
    b->ids = ddi_alloc(NULL, n * sizeof *b->ids);
    return b->entry && b->sizes && b->originals && b->indices && b->offsets && b->ids
               ? DD_OK
               : ddi_fail_nomem(n * sizeof *b->entry, "a batch");
}

void ddi_batch_destroy(ddi_batch *b, int32_t size)
{
    for (int32_t i = 0; b->entry && i < size; i++) {
        ddi_image_free(&b->entry[i].pixels);
    }
    void *const held[] = {b->entry, b->sizes, b->originals, b->indices, b->offsets, b->ids, b->pixels, b->boxes, b->labels};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) {
        ddi_free(NULL, held[i]);
    }
    *b = (ddi_batch){0};
}

void ddi_worker_destroy(ddi_worker *w)
{
    ddi_resizer_free(&w->resizer);
    ddi_image_free(&w->decoded);
    ddi_image_free(&w->middle);
    ddi_image_free(&w->row);
}

/* ---- A picture */

static dd_status decode(const dd_loader *l, ddi_entry *e, ddi_worker *w)
{
    const ddi_damaged policy = (ddi_damaged)l->settings.damaged;
    bool truncated = false;
    const dd_status status = ddi_dataset_read(l->dataset, e->index, &w->decoded, &truncated);
    if (status == DD_OK && truncated) {
        e->damaged = true;
        e->left_out = policy == DDI_DAMAGED_SKIP;
        return policy != DDI_DAMAGED_ERROR ? DD_OK
                                           : ddi_fail(DD_ERR_FORMAT, NULL, "%.150s is cut off inside the picture",
                                                      ddi_dataset_file(l->dataset, e->index));
    }
    if ((status == DD_ERR_FORMAT || status == DD_ERR_LIMIT) && policy != DDI_DAMAGED_ERROR) {
        e->damaged = e->left_out = true;
        return DD_OK;
    }
    return status;
}

static dd_status make_entry(const dd_loader *l, int64_t epoch, ddi_entry *e, ddi_worker *w)
{
    DDI_TRY(decode(l, e, w));
    if (e->left_out) {
        return DD_OK;
    }
    e->view = ddi_view_plan(&l->policy, (uint64_t)l->settings.seed, epoch, e->index, w->decoded.width, w->decoded.height);
    return ddi_view_pixels(&e->view, &w->resizer, &w->decoded, &w->middle, &e->pixels);
}

void ddi_batch_make_entry(const dd_loader *l, ddi_batch *b, int32_t i, ddi_worker *w)
{
    ddi_entry *e = &b->entry[i];
    e->left_out = e->damaged = false;
    e->status = make_entry(l, b->epoch, e, w);
    if (e->status != DD_OK) {
        snprintf(e->message, sizeof e->message, "%s", dd_error_message());
    }
}

/* ---- All together */

static dd_status grow_objects(ddi_batch *b, int32_t more)
{
    const int64_t needed = (int64_t)b->objects + more;
    if (needed <= b->object_room) {
        return DD_OK;
    }
    const int64_t room = needed + b->object_room + 64;
    if (room > INT32_MAX / 2) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "a batch with more than %d objects", INT32_MAX / 4);
    }
    float(*boxes)[4] = ddi_realloc(NULL, b->boxes, (size_t)room * sizeof *boxes);
    b->boxes = boxes ? boxes : b->boxes;
    int32_t *labels = boxes ? ddi_realloc(NULL, b->labels, (size_t)room * sizeof *labels) : NULL;
    b->labels = labels ? labels : b->labels;
    if (!boxes || !labels) {
        return ddi_fail_nomem((uint64_t)room * sizeof *boxes, "the targets of a batch");
    }
    b->object_room = (int32_t)room;
    return DD_OK;
}

static dd_status add_targets(const dd_loader *l, ddi_batch *b, const ddi_entry *e)
{
    const dd_dataset *d = l->dataset;
    const ddi_picture *p = ddi_dataset_picture(d, e->index);
    DDI_TRY(grow_objects(b, p->objects));
    for (int64_t i = p->first; i < p->first + p->objects; i++) {
        if (d->flags[i] == 0 && ddi_view_box(&e->view, d->box[i], b->boxes[b->objects])) {
            b->labels[b->objects++] = d->label[i];
        }
    }
    return DD_OK;
}

static int32_t rounded_up(int64_t side, int64_t multiple)
{
    return (int32_t)((side + multiple - 1) / multiple * multiple);
}

static dd_status reserve_pixels(const dd_loader *l, ddi_batch *b)
{
    int64_t bytes;
    b->height = rounded_up(b->height, l->settings.multiple);
    b->width = rounded_up(b->width, l->settings.multiple);
    if (!ddi_mul((int64_t)b->height * b->width, (int64_t)b->images * 3 * (int64_t)sizeof(float), &bytes) ||
        bytes > DDI_MAX_BYTES) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "a batch of %d pictures of %d x %d pixels is too large", b->images, b->width,
                        b->height);
    }
    if ((size_t)bytes <= b->pixel_room) {
        return DD_OK;
    }
    float *pixels = ddi_alloc(NULL, (size_t)bytes);
    if (!pixels) {
        return ddi_fail_nomem((uint64_t)bytes, "the pixels of a batch");
    }
    ddi_free(NULL, b->pixels);
    b->pixels = pixels;
    b->pixel_room = (size_t)bytes;
    return DD_OK;
}

/* The lists; entry[place[i]] becomes picture i. */
static dd_status list_images(const dd_loader *l, ddi_batch *b)
{
    b->images = b->height = b->width = b->objects = b->damaged = 0;
    b->failed = -1;
    b->offsets[0] = 0;
    for (int32_t i = 0; i < b->count; i++) {
        const ddi_entry *e = &b->entry[i];
        b->damaged += e->damaged;
        if (e->status != DD_OK) {
            b->failed = i;
            return ddi_fail(e->status, NULL, "%s", e->message);
        }
        if (e->left_out) {
            continue;
        }
        const int32_t at = b->images++;
        b->height = e->view.height > b->height ? e->view.height : b->height;
        b->width = e->view.width > b->width ? e->view.width : b->width;
        b->sizes[at][0] = e->view.width;
        b->sizes[at][1] = e->view.height;
        b->originals[at][0] = e->view.original_width;
        b->originals[at][1] = e->view.original_height;
        b->indices[at] = e->index;
        b->ids[at] = ddi_dataset_picture(l->dataset, e->index)->id;
        DDI_TRY(add_targets(l, b, e));
        b->offsets[b->images] = b->objects;
    }
    return DD_OK;
}

static dd_status finish(const dd_loader *l, ddi_batch *b, ddi_worker *w)
{
    DDI_TRY(list_images(l, b));
    if (b->images == 0) {
        return DD_OK;
    }
    DDI_TRY(reserve_pixels(l, b));
    DDI_TRY(ddi_image_reserve(&w->row, "a row", b->width, 1));
    const size_t size = (size_t)b->height * (size_t)b->width * 3;
    int32_t at = 0;
    for (int32_t i = 0; i < b->count; i++) {
        const ddi_entry *e = &b->entry[i];
        if (!e->left_out) {
            ddi_normalise(b->pixels + size * (size_t)at++, b->height, b->width, &e->pixels, e->view.flip, w->row.data);
        }
    }
    return DD_OK;
}

void ddi_batch_finish(const dd_loader *l, ddi_batch *b, ddi_worker *w)
{
    b->status = finish(l, b, w);
    if (b->status != DD_OK) {
        snprintf(b->message, sizeof b->message, "%s", dd_error_message());
    }
}
