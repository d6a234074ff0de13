/* SPDX-License-Identifier: Apache-2.0
 * Puts what a reader collected in order and counts what is dropped. */
#include "data/finish.h"
#include "base/error.h"
#include "base/io.h"
#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

/* ---- Classes */

static int by_class_id(const void *a, const void *b)
{
    const ddi_class *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static int by_picture_id(const void *a, const void *b)
{
    const ddi_picture *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

bool ddi_same_class(const char *name, const char *other, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (name[i] != other[i] && !((name[i] == ' ' || name[i] == '_') && (other[i] == ' ' || other[i] == '_'))) {
            return false;
        }
    }
    return name[length] == '\0';
}

/* The chosen classes in their order, taken out of `all`. */
static dd_status choose_classes(dd_dataset *d, const ddi_list *all)
{
    for (const char *word = d->settings.classes; *word;) {
        const size_t length = strcspn(word, ",");
        const ddi_class *found = NULL;
        for (int64_t i = 0; i < all->count && !found; i++) {
            const ddi_class *c = (const ddi_class *)all->data + i;
            found = ddi_same_class(c->name, word, length) ? c : NULL;
        }
        if (!found) {
            return ddi_fail(DD_ERR_OPTION, "classes", "classes: there is no class '%.*s' here",
                            (int)(length < 80 ? length : 80), word);
        }
        DDI_TRY(ddi_dataset_add_class(d, found->id, found->name));
        word += length + (word[length] == ',');
    }
    return DD_OK;
}

/* Sorted by id, so that gaps in the ids make none in the labels. */
static dd_status order_classes(dd_dataset *d)
{
    ddi_class *class = d->class.data;
    if (d->class.count > 0) {
        qsort(class, (size_t)d->class.count, sizeof *class, by_class_id);
    }
    for (int64_t i = 1; i < d->class.count; i++) {
        if (class[i].id == class[i - 1].id) {
            return ddi_fail(DD_ERR_FORMAT, NULL, "category id %lld is there twice", (long long)class[i].id);
        }
    }
    if (!d->settings.classes[0]) {
        return DD_OK;
    }
    const ddi_list all = d->class;
    d->class = (ddi_list){0};
    const dd_status status = choose_classes(d, &all);
    ddi_free(NULL, all.data);
    return status;
}

/* Classes sorted by id, with their labels: for looking up. */
static dd_status label_objects(dd_dataset *d)
{
    const ddi_class *class = d->class.data;
    const int64_t count = d->class.count;
    struct {
        int64_t id, label;
    } *sorted = ddi_alloc(NULL, (size_t)count * sizeof *sorted + 1);
    if (!sorted) {
        return ddi_fail_nomem((uint64_t)count * sizeof *sorted, "the list of classes");
    }
    for (int64_t i = 0; i < count; i++) { /* few and nearly in order */
        int64_t at = i;
        for (; at > 0 && sorted[at - 1].id > class[i].id; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at].id = class[i].id;
        sorted[at].label = i;
    }
    ddi_object *object = d->object.data;
    for (int64_t i = 0; i < d->object.count; i++) {
        int64_t low = 0, high = count;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (sorted[middle].id < object[i].category) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        const bool known = low < count && sorted[low].id == object[i].category;
        d->tally[DDI_TALLY_UNKNOWN_CLASS] += !known;
        object[i].category = known ? sorted[low].label : -1;
    }
    ddi_free(NULL, sorted);
    return DD_OK;
}

/* ---- Pictures */

static dd_status order_pictures(dd_dataset *d)
{
    ddi_picture *picture = d->image.data;
    if (d->image.count > 0) {
        qsort(picture, (size_t)d->image.count, sizeof *picture, by_picture_id);
    }
    for (int64_t i = 1; i < d->image.count; i++) {
        if (picture[i].id == picture[i - 1].id) {
            return ddi_fail(DD_ERR_FORMAT, NULL, "picture id %lld is there twice", (long long)picture[i].id);
        }
    }
    ddi_object *object = d->object.data;
    for (int64_t i = 0; i < d->object.count; i++) {
        const ddi_picture wanted = {.id = object[i].image};
        const ddi_picture *found =
            d->image.count > 0 ? bsearch(&wanted, picture, (size_t)d->image.count, sizeof *picture, by_picture_id) : NULL;
        d->tally[DDI_TALLY_UNKNOWN_IMAGE] += !found;
        object[i].image = found ? found - picture : -1;
    }
    return DD_OK;
}

/* ---- Objects */

static double overlap(double low, double side, int32_t most)
{
    const double from = low > 0 ? low : 0, to = low + side < most ? low + side : most;
    return to - from;
}

static void judge(dd_dataset *d, ddi_object *o)
{
    const ddi_picture *p = ddi_dataset_picture(d, (int32_t)o->image);
    const double *b = o->box;
    const bool known = p->width > 0 && p->height > 0;
    int32_t tally = -1;
    if (!(b[2] > 0 && b[3] > 0 && o->area > 0)) {
        tally = DDI_TALLY_ZERO_AREA;
    } else if (b[2] < 1 || b[3] < 1) {
        tally = DDI_TALLY_TINY;
    } else if (known && !(overlap(b[0], b[2], p->width) > 0 && overlap(b[1], b[3], p->height) > 0)) {
        tally = DDI_TALLY_OUTSIDE;
    } else {
        d->tally[DDI_TALLY_CLIPPED] += known && (b[0] < 0 || b[1] < 0 || b[0] + b[2] > p->width || b[1] + b[3] > p->height);
    }
    if (tally >= 0) {
        d->tally[tally]++;
        o->flags |= DD_OBJECT_DROPPED;
    }
    o->box[2] = b[2] > 0 ? b[2] : 0;
    o->box[3] = b[3] > 0 ? b[3] : 0;
    d->tally[DDI_TALLY_CROWD] += (o->flags & DD_OBJECT_CROWD) != 0;
    d->tally[DDI_TALLY_DIFFICULT] += (o->flags & DD_OBJECT_DIFFICULT) != 0;
    d->tally[DDI_TALLY_IGNORED] += (o->flags & DD_OBJECT_IGNORED) != 0;
    d->tally[DDI_TALLY_TARGETS] += o->flags == 0;
}

/* place[i] = -1 for pictures without a file. */
static dd_status find_missing(dd_dataset *d, int32_t *place)
{
    char path[DDI_DATA_PATH];
    for (int64_t i = 0; i < d->image.count && !d->generated; i++) {
        DDI_TRY(ddi_path_join(path, d->folder, ddi_dataset_file(d, (int32_t)i)));
        if (ddi_file_exists(path)) {
            continue;
        }
        if (!d->settings.skip_missing) {
            return ddi_fail(DD_ERR_IO, NULL, "the picture %.200s is missing", path);
        }
        d->tally[DDI_TALLY_MISSING_IMAGE]++;
        place[i] = -1;
    }
    return DD_OK;
}

/* place[i] becomes the picture's new place, or -1 where it is dropped. */
static dd_status drop_pictures(dd_dataset *d, int32_t *place, const int32_t *targets)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < d->image.count; i++) {
        const ddi_picture p = *ddi_dataset_picture(d, (int32_t)i);
        const bool there = place[i] >= 0, stays = there && (targets[i] > 0 || d->settings.keep_empty);
        d->tally[DDI_TALLY_NO_TARGETS] += there && targets[i] == 0;
        place[i] = stays ? (int32_t)kept : -1;
        if (stays) {
            *ddi_dataset_picture(d, (int32_t)kept++) = p;
        }
    }
    if (kept == 0) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%.150s: none of %lld pictures is left (%lld files are missing)", d->root,
                        (long long)d->image.count, (long long)d->tally[DDI_TALLY_MISSING_IMAGE]);
    }
    d->image.count = kept;
    return DD_OK;
}

static dd_status make_arrays(dd_dataset *d, int64_t count)
{
    d->box = ddi_alloc(NULL, (size_t)count * sizeof *d->box);
    d->area = ddi_alloc(NULL, (size_t)count * sizeof *d->area);
    d->label = ddi_alloc(NULL, (size_t)count * sizeof *d->label);
    d->flags = ddi_alloc(NULL, (size_t)count);
    return d->box && d->area && d->label && d->flags ? DD_OK
                                                     : ddi_fail_nomem((uint64_t)count * 45, "the objects of a data set");
}

/* Objects go to their pictures in the order in which they were found. */
static dd_status place_objects(dd_dataset *d, const int32_t *place)
{
    ddi_object *object = d->object.data;
    int64_t count = 0;
    for (int64_t i = 0; i < d->object.count; i++) {
        object[i].image = object[i].image >= 0 && object[i].category >= 0 ? place[object[i].image] : -1;
        if (object[i].image >= 0 && ++ddi_dataset_picture(d, (int32_t)object[i].image)->objects > DDI_MAX_BOXES) {
            return ddi_fail(DD_ERR_LIMIT, NULL, "more than %d objects in a picture", DDI_MAX_BOXES);
        }
    }
    for (int64_t i = 0; i < d->image.count; i++) {
        ddi_picture *p = ddi_dataset_picture(d, (int32_t)i);
        p->first = count;
        count += p->objects;
        p->objects = 0;
    }
    DDI_TRY(make_arrays(d, count));
    for (int64_t i = 0; i < d->object.count; i++) {
        if (object[i].image < 0) {
            continue;
        }
        ddi_picture *p = ddi_dataset_picture(d, (int32_t)object[i].image);
        const int64_t at = p->first + p->objects++;
        memcpy(d->box[at], object[i].box, sizeof d->box[at]);
        d->area[at] = object[i].area;
        d->label[at] = (int32_t)object[i].category;
        d->flags[at] = object[i].flags;
    }
    d->tally[DDI_TALLY_OBJECTS] = count;
    d->tally[DDI_TALLY_IMAGES] = d->image.count;
    return DD_OK;
}

static dd_status judge_and_place(dd_dataset *d, int32_t *place)
{
    int32_t *targets = place + d->image.count;
    ddi_object *object = d->object.data;
    DDI_TRY(find_missing(d, place));
    for (int64_t i = 0; i < d->object.count; i++) {
        if (object[i].image >= 0 && object[i].category >= 0 && place[object[i].image] >= 0) {
            judge(d, &object[i]);
            targets[object[i].image] += object[i].flags == 0;
        }
    }
    DDI_TRY(drop_pictures(d, place, targets));
    return place_objects(d, place);
}

dd_status ddi_dataset_finish(dd_dataset *d)
{
    DDI_TRY(order_classes(d));
    DDI_TRY(label_objects(d));
    DDI_TRY(order_pictures(d));
    int32_t *place = ddi_alloc_zero(NULL, (size_t)d->image.count * 2 + 1, sizeof *place);
    if (!place) {
        return ddi_fail_nomem((uint64_t)d->image.count * 8, "the order of pictures");
    }
    const dd_status status = judge_and_place(d, place);
    ddi_free(NULL, place);
    ddi_free(NULL, d->object.data);
    d->object = (ddi_list){0};
    return status;
}
