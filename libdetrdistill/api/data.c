/* SPDX-License-Identifier: Apache-2.0
 * Public functions of data sets and loaders. */
#include "api/image.h"
#include "base/error.h"
#include "base/handle.h"
#include "data/loader.h"

#include <string.h>
#include <unistd.h>

static dd_status no_null(const void *p, const char *function, const char *what)
{
    return p ? DD_OK : ddi_fail(DD_ERR_ARGUMENT, NULL, "%s: %s is NULL", function, what);
}

static dd_status within(int32_t index, int64_t count, const char *function, const char *what)
{
    return index >= 0 && index < count ? DD_OK
                                       : ddi_fail(DD_ERR_NOT_FOUND, NULL, "%s: there is no %s %d; there are %lld", function,
                                                  what, index, (long long)count);
}

/* ---- Data sets */

static dd_status enter(const dd_dataset *d, const char *function)
{
    ddi_error_clear();
    return ddi_handle_enter(d, DDI_DATASET, function);
}

static dd_status leave(const dd_dataset *d, dd_status status)
{
    if (ddi_handle_leave(d)) {
        ddi_dataset_release((dd_dataset *)(uintptr_t)d);
    }
    return status;
}

dd_status dd_dataset_open(dd_dataset **dataset, const char *path, const char *options)
{
    dd_dataset *made = NULL;
    ddi_error_clear();
    DDI_TRY(no_null(dataset, "dd_dataset_open", "dataset"));
    DDI_TRY(no_null(path, "dd_dataset_open", "path"));
    DDI_TRY(ddi_dataset_open(&made, path, options));
    const dd_status status = ddi_handle_add(made, DDI_DATASET);
    if (status != DD_OK) {
        ddi_dataset_release(made);
        return status;
    }
    *dataset = made;
    return DD_OK;
}

void dd_dataset_free(dd_dataset *dataset)
{
    if (ddi_handle_remove(dataset, DDI_DATASET)) {
        ddi_dataset_release(dataset);
    }
}

static dd_status count_of(const dd_dataset *d, const char *function, int64_t value, int32_t *count)
{
    const dd_status status = no_null(count, function, "count");
    if (status == DD_OK) {
        *count = (int32_t)value;
    }
    return leave(d, status);
}

dd_status dd_dataset_image_count(const dd_dataset *dataset, int32_t *count)
{
    DDI_TRY(enter(dataset, "dd_dataset_image_count"));
    return count_of(dataset, "dd_dataset_image_count", dataset->image.count, count);
}

dd_status dd_dataset_class_count(const dd_dataset *dataset, int32_t *count)
{
    DDI_TRY(enter(dataset, "dd_dataset_class_count"));
    return count_of(dataset, "dd_dataset_class_count", dataset->class.count, count);
}

dd_status dd_dataset_split_count(const dd_dataset *dataset, int32_t *count)
{
    DDI_TRY(enter(dataset, "dd_dataset_split_count"));
    return count_of(dataset, "dd_dataset_split_count", dataset->split.count, count);
}

static dd_status split_at(const dd_dataset *d, int32_t index, const char **name)
{
    DDI_TRY(no_null(name, "dd_dataset_split_at", "name"));
    DDI_TRY(within(index, d->split.count, "dd_dataset_split_at", "split"));
    *name = (const char *)d->split.data + (size_t)index * DDI_DATA_NAME;
    return DD_OK;
}

dd_status dd_dataset_split_at(const dd_dataset *dataset, int32_t index, const char **name)
{
    DDI_TRY(enter(dataset, "dd_dataset_split_at"));
    return leave(dataset, split_at(dataset, index, name));
}

dd_status dd_dataset_class_at(const dd_dataset *dataset, int32_t label, int64_t *id, const char **name)
{
    DDI_TRY(enter(dataset, "dd_dataset_class_at"));
    const dd_status status = within(label, dataset->class.count, "dd_dataset_class_at", "class");
    if (status == DD_OK) {
        const ddi_class *class = (const ddi_class *)dataset->class.data + label;
        if (id) {
            *id = class->id;
        }
        if (name) {
            *name = class->name;
        }
    }
    return leave(dataset, status);
}

dd_status dd_dataset_image_at(const dd_dataset *dataset, int32_t index, int64_t *id, const char **file, int32_t *width,
                              int32_t *height)
{
    DDI_TRY(enter(dataset, "dd_dataset_image_at"));
    const dd_status status = within(index, dataset->image.count, "dd_dataset_image_at", "picture");
    if (status == DD_OK) {
        const ddi_picture *p = ddi_dataset_picture(dataset, index);
        if (id) {
            *id = p->id;
        }
        if (file) {
            *file = ddi_dataset_file(dataset, index);
        }
        if (width) {
            *width = p->width;
        }
        if (height) {
            *height = p->height;
        }
    }
    return leave(dataset, status);
}

dd_status dd_dataset_objects(const dd_dataset *dataset, int32_t index, int32_t *count, const double **boxes,
                             const int32_t **labels, const double **areas, const uint8_t **flags)
{
    DDI_TRY(enter(dataset, "dd_dataset_objects"));
    const dd_status status = within(index, dataset->image.count, "dd_dataset_objects", "picture");
    if (status == DD_OK) {
        const ddi_picture *p = ddi_dataset_picture(dataset, index);
        if (count) {
            *count = p->objects;
        }
        if (boxes) {
            *boxes = (const double *)(dataset->box + p->first);
        }
        if (labels) {
            *labels = dataset->label + p->first;
        }
        if (areas) {
            *areas = dataset->area + p->first;
        }
        if (flags) {
            *flags = dataset->flags + p->first;
        }
    }
    return leave(dataset, status);
}

static dd_status read_picture(const dd_dataset *d, int32_t index, dd_image **image)
{
    ddi_image pixels = {0};
    bool truncated;
    DDI_TRY(no_null(image, "dd_dataset_read", "image"));
    DDI_TRY(within(index, d->image.count, "dd_dataset_read", "picture"));
    dd_status status = ddi_dataset_read(d, index, &pixels, &truncated);
    if (status == DD_OK && truncated) {
        status = ddi_fail(DD_ERR_FORMAT, NULL, "%.150s is cut off inside the picture", ddi_dataset_file(d, index));
    }
    if (status != DD_OK) {
        ddi_image_free(&pixels);
        return status;
    }
    return ddi_image_hand_out(image, &pixels);
}

dd_status dd_dataset_read(const dd_dataset *dataset, int32_t index, dd_image **image)
{
    DDI_TRY(enter(dataset, "dd_dataset_read"));
    return leave(dataset, read_picture(dataset, index, image));
}

static const char *const tally_names[DDI_TALLIES] = {[DDI_TALLY_IMAGES] = "images",
                                                     [DDI_TALLY_OBJECTS] = "objects",
                                                     [DDI_TALLY_TARGETS] = "targets",
                                                     [DDI_TALLY_NO_TARGETS] = "images-without-targets",
                                                     [DDI_TALLY_CROWD] = "crowd",
                                                     [DDI_TALLY_DIFFICULT] = "difficult",
                                                     [DDI_TALLY_IGNORED] = "ignored",
                                                     [DDI_TALLY_ZERO_AREA] = "zero-area",
                                                     [DDI_TALLY_TINY] = "tiny",
                                                     [DDI_TALLY_OUTSIDE] = "outside",
                                                     [DDI_TALLY_CLIPPED] = "clipped",
                                                     [DDI_TALLY_SWAPPED] = "swapped-corners",
                                                     [DDI_TALLY_UNKNOWN_CLASS] = "unknown-class",
                                                     [DDI_TALLY_UNKNOWN_IMAGE] = "unknown-image",
                                                     [DDI_TALLY_MISSING_XML] = "missing-xml",
                                                     [DDI_TALLY_MISSING_IMAGE] = "missing-image"};

dd_status dd_dataset_statistic_count(const dd_dataset *dataset, int32_t *count)
{
    DDI_TRY(enter(dataset, "dd_dataset_statistic_count"));
    return count_of(dataset, "dd_dataset_statistic_count", DDI_TALLIES, count);
}

dd_status dd_dataset_statistic_at(const dd_dataset *dataset, int32_t index, const char **name, int64_t *value)
{
    DDI_TRY(enter(dataset, "dd_dataset_statistic_at"));
    const dd_status status = within(index, DDI_TALLIES, "dd_dataset_statistic_at", "statistic");
    if (status == DD_OK) {
        if (name) {
            *name = tally_names[index];
        }
        if (value) {
            *value = dataset->tally[index];
        }
    }
    return leave(dataset, status);
}

/* ---- Loaders */

static dd_status leave_loader(const dd_loader *l, dd_status status)
{
    if (ddi_handle_leave(l)) {
        ddi_loader_destroy((dd_loader *)(uintptr_t)l);
    }
    return status;
}

static dd_status enter_loader(const dd_loader *l, const char *function)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(l, DDI_LOADER, function));
    if (l->process != getpid()) {
        return leave_loader(l,
                            ddi_fail(DD_ERR_FORKED, NULL, "%s: the loader was made before fork(); make a new one", function));
    }
    return DD_OK;
}

dd_status dd_loader_create(dd_loader **loader, dd_dataset *dataset, const char *options)
{
    dd_loader *made = NULL;
    ddi_error_clear();
    DDI_TRY(no_null(loader, "dd_loader_create", "loader"));
    DDI_TRY(enter(dataset, "dd_loader_create"));
    dd_status status = ddi_loader_create(&made, dataset, options);
    if (status == DD_OK) {
        status = ddi_handle_add(made, DDI_LOADER);
        if (status == DD_OK) {
            *loader = made;
        } else {
            ddi_loader_destroy(made);
        }
    }
    return leave(dataset, status);
}

void dd_loader_free(dd_loader *loader)
{
    if (ddi_handle_remove(loader, DDI_LOADER)) {
        ddi_loader_destroy(loader);
    }
}

dd_status dd_loader_next(dd_loader *loader, int32_t *images)
{
    DDI_TRY(enter_loader(loader, "dd_loader_next"));
    const dd_status status = no_null(images, "dd_loader_next", "images");
    return leave_loader(loader, status != DD_OK ? status : ddi_loader_next(loader, images));
}

static dd_status tensor(const dd_loader *l, const char *name, dd_tensor *view)
{
    const ddi_batch *b = l->current;
    DDI_TRY(no_null(name, "dd_loader_tensor", "name"));
    DDI_TRY(no_null(view, "dd_loader_tensor", "view"));
    if (!b) {
        return ddi_fail(DD_ERR_STATE, name, "dd_loader_tensor: there is no batch; call dd_loader_next first");
    }
    const struct {
        const char *name;
        void *data;
        int32_t dtype, ndim;
        int64_t shape[4];
    } known[] = {{"pixels", b->pixels, DD_F32, 4, {b->images, b->height, b->width, 3}},
                 {"image.sizes", b->sizes, DD_I32, 2, {b->images, 2}},
                 {"image.originals", b->originals, DD_I32, 2, {b->images, 2}},
                 {"image.ids", b->ids, DD_I64, 1, {b->images}},
                 {"image.indices", b->indices, DD_I32, 1, {b->images}},
                 {"gt.boxes", b->boxes, DD_F32, 2, {b->objects, 4}},
                 {"gt.labels", b->labels, DD_I32, 1, {b->objects}},
                 {"gt.offsets", b->offsets, DD_I32, 1, {b->images + 1}}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name) == 0) {
            return dd_tensor_init(view, known[i].data, known[i].dtype, known[i].ndim, known[i].shape, NULL, DD_DEVICE_CPU, 0,
                                  0);
        }
    }
    return ddi_fail(DD_ERR_NOT_FOUND, name, "a batch has no tensor '%.60s'", name);
}

dd_status dd_loader_tensor(dd_loader *loader, const char *name, dd_tensor *view)
{
    DDI_TRY(enter_loader(loader, "dd_loader_tensor"));
    return leave_loader(loader, tensor(loader, name, view));
}

dd_status dd_loader_position(const dd_loader *loader, int64_t *epoch, int64_t *batch)
{
    DDI_TRY(enter_loader(loader, "dd_loader_position"));
    if (epoch) {
        *epoch = loader->epoch;
    }
    if (batch) {
        *batch = loader->handed_out;
    }
    return leave_loader(loader, DD_OK);
}

dd_status dd_loader_seek(dd_loader *loader, int64_t epoch, int64_t batch)
{
    DDI_TRY(enter_loader(loader, "dd_loader_seek"));
    return leave_loader(loader, ddi_loader_seek(loader, epoch, batch));
}

static dd_status number_of(const dd_loader *l, const char *function, int64_t value, int64_t *count)
{
    const dd_status status = no_null(count, function, "count");
    if (status == DD_OK) {
        *count = value;
    }
    return leave_loader(l, status);
}

dd_status dd_loader_batch_count(const dd_loader *loader, int64_t *count)
{
    DDI_TRY(enter_loader(loader, "dd_loader_batch_count"));
    return number_of(loader, "dd_loader_batch_count", loader->batches, count);
}

dd_status dd_loader_damaged_count(const dd_loader *loader, int64_t *count)
{
    DDI_TRY(enter_loader(loader, "dd_loader_damaged_count"));
    return number_of(loader, "dd_loader_damaged_count", loader->damaged, count);
}
