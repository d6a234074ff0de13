/* SPDX-License-Identifier: Apache-2.0
 * The ground truth of a batch. */
#include "match/objects.h"
#include "base/error.h"
#include "base/limits.h"

#include <math.h>
#include <string.h>

/* Memory layout of the packed batch, the same on host and device. */
typedef struct layout {
    size_t boxes, sizes, labels, offsets, use, original, bytes;
} layout;

static size_t place(size_t *at, size_t bytes)
{
    size_t here = *at;
    *at += (bytes + 63) & ~(size_t)63;
    return here;
}

static layout lay_out(int32_t images, int64_t objects, size_t real)
{
    layout l;
    size_t at = 0;
    l.boxes = place(&at, (size_t)objects * 4 * real);
    l.sizes = place(&at, (size_t)images * 2 * real);
    l.labels = place(&at, (size_t)objects * 4);
    l.offsets = place(&at, ((size_t)images + 1) * 4);
    l.use = place(&at, (size_t)images);
    l.original = place(&at, (size_t)objects * 4);
    l.bytes = at;
    return l;
}

static void store_real(void *array, int64_t i, int32_t dtype, double value)
{
    if (dtype == DD_F64)
        ((double *)array)[i] = value;
    else
        ((float *)array)[i] = (float)value;
}

static dd_status bad_number(const char *name, int32_t image, int64_t object)
{
    dd_status status = object < 0 ? ddi_fail(DD_ERR_NONFINITE, name, "%s: NaN or infinity for image %d", name, image)
                                  : ddi_fail(DD_ERR_NONFINITE, name, "%s: NaN or infinity in object %lld of image %d", name,
                                             (long long)object, image);
    ddi_error_set_place(DD_PLACE_IMAGE, image);
    return status;
}

static dd_status bad_argument(const char *name, int32_t image, int64_t object, const char *what)
{
    ddi_fail(DD_ERR_ARGUMENT, name, "%s: object %lld of image %d %s", name, (long long)object, image, what);
    ddi_error_set_place(DD_PLACE_IMAGE, image);
    return DD_ERR_ARGUMENT;
}

static dd_status check_offsets(const ddi_objects *o, const ddi_objects_inputs *in, int64_t total)
{
    for (int32_t b = 0; b <= o->images; b++) {
        int32_t here = o->offsets[b], before = b ? o->offsets[b - 1] : 0;
        if ((b == 0 && here != 0) || here < before || here > total || (b == o->images && here != total))
            return ddi_fail(DD_ERR_ARGUMENT, in->offsets->name,
                            "gt.offsets: entry %d is %d; they must start at 0, never fall, and end "
                            "at the number of boxes (%lld)",
                            b, here, (long long)total);
        if (here - before > DDI_MAX_BOXES)
            return ddi_fail(DD_ERR_LIMIT, in->offsets->name, "gt.offsets: image %d has %d objects; at most %d are possible",
                            b - 1, here - before, DDI_MAX_BOXES);
    }
    return DD_OK;
}

/* One number under the policy. */
static dd_status admit(double *value, ddi_nonfinite policy, ddi_objects *o, const char *name, int32_t image, int64_t object)
{
    if (isfinite(*value))
        return DD_OK;
    if (policy == DDI_NONFINITE_ERROR)
        return bad_number(name, image, object);
    if (policy == DDI_NONFINITE_SKIP)
        o->image_use[image] = 0;
    *value = isnan(*value) ? 0 : *value > 0 ? 1e4 : -1e4;
    return DD_OK;
}

static dd_status read_sizes(ddi_exec *x, ddi_objects *o, const ddi_objects_inputs *in, int32_t dtype, void *sizes,
                            ddi_nonfinite policy)
{
    DDI_TRY(ddi_input_expect(in->sizes, 2, (int64_t[]){o->images, 2}));
    DDI_TRY(ddi_buffer_reserve(x, &x->host_values, (size_t)o->images * 16, false, "image sizes"));
    double *value = x->host_values.data;
    DDI_TRY(ddi_input_to_host_real(x, in->sizes, value));
    for (int32_t i = 0; i < 2 * o->images; i++) {
        DDI_TRY(admit(&value[i], policy, o, in->sizes->name, i / 2, -1));
        bool used = o->image_use[i / 2] != 0;
        if (used && (value[i] <= 0 || value[i] > 1e6)) {
            ddi_fail(DD_ERR_ARGUMENT, in->sizes->name, "image.sizes: image %d is %g wide or high; sides lie in 0 to 1e6 pixels",
                     i / 2, value[i]);
            ddi_error_set_place(DD_PLACE_IMAGE, i / 2);
            return DD_ERR_ARGUMENT;
        }
        store_real(sizes, i, dtype, used ? value[i] : 1);
    }
    return DD_OK;
}

static dd_status read_boxes(ddi_exec *x, ddi_objects *o, const ddi_objects_inputs *in, int32_t dtype, void *boxes,
                            int64_t total, ddi_nonfinite policy)
{
    DDI_TRY(ddi_buffer_reserve(x, &x->host_values, (size_t)total * 32, false, "object boxes"));
    double *value = x->host_values.data;
    DDI_TRY(ddi_input_to_host_real(x, in->boxes, value));
    for (int32_t b = 0; b < o->images; b++) {
        for (int64_t g = o->offsets[b]; g < o->offsets[b + 1]; g++) {
            for (int32_t k = 0; k < 4; k++) {
                DDI_TRY(admit(&value[4 * g + k], policy, o, in->boxes->name, b, g - o->offsets[b]));
                store_real(boxes, 4 * g + k, dtype, value[4 * g + k]);
            }
            if (o->image_use[b] && policy != DDI_NONFINITE_CLAMP && (value[4 * g + 2] < 0 || value[4 * g + 3] < 0))
                return bad_argument(in->boxes->name, b, g - o->offsets[b], "has a negative width or height");
        }
    }
    return DD_OK;
}

static dd_status check_labels(const ddi_objects *o, const ddi_objects_inputs *in, int32_t classes)
{
    for (int32_t b = 0; b < o->images; b++)
        for (int32_t g = o->offsets[b]; g < o->offsets[b + 1]; g++)
            if (o->labels[g] < 0 || o->labels[g] >= classes)
                return bad_argument(in->labels->name, b, g - o->offsets[b], "has a label outside 0 to classes-1");
    return DD_OK;
}

/* Keeps object `from` as number `to`. */
static void keep(ddi_objects *o, void *boxes, size_t real, int32_t from, int32_t to)
{
    memmove((char *)boxes + (size_t)to * 4 * real, (char *)boxes + (size_t)from * 4 * real, 4 * real);
    o->labels[to] = o->labels[from];
    o->original[to] = o->original[from];
}

/* Drops crowd boxes and the objects of images that are left out; compacts in place. */
static void compact(ddi_objects *o, const int32_t *crowd, void *boxes, size_t real)
{
    int32_t kept = 0, start = 0;
    for (int32_t b = 0; b < o->images; b++) {
        int32_t end = o->offsets[b + 1];
        for (int32_t g = start; g < end; g++)
            if (o->image_use[b] && !(crowd && crowd[g]))
                keep(o, boxes, real, g, kept++);
        start = end;
        o->offsets[b + 1] = kept;
    }
    o->count = kept;
}

/* Objects of the fullest image, left out or not: denoising slots were made for all. */
static void count_most(ddi_objects *o, const int32_t *crowd)
{
    for (int32_t b = 0; b < o->images; b++) {
        int32_t objects = 0;
        for (int32_t g = o->offsets[b]; g < o->offsets[b + 1]; g++)
            objects += !(crowd && crowd[g]);
        if (objects > o->most)
            o->most = objects;
    }
}

static dd_status read_objects(ddi_exec *x, ddi_objects *o, const ddi_objects_inputs *in, int32_t classes, int32_t dtype,
                              void *boxes, int64_t total, ddi_nonfinite policy)
{
    DDI_TRY(ddi_input_expect(in->labels, 1, (int64_t[]){total}));
    DDI_TRY(ddi_input_expect(in->offsets, 1, (int64_t[]){o->images + 1}));
    DDI_TRY(ddi_input_to_host(x, in->offsets, o->offsets));
    DDI_TRY(check_offsets(o, in, total));
    DDI_TRY(ddi_input_to_host(x, in->labels, o->labels));
    DDI_TRY(check_labels(o, in, classes));
    DDI_TRY(read_boxes(x, o, in, dtype, boxes, total, policy));
    for (int32_t b = 0; b < o->images; b++)
        for (int32_t g = o->offsets[b]; g < o->offsets[b + 1]; g++)
            o->original[g] = g - o->offsets[b];
    o->count = (int32_t)total;
    if (!in->crowd->bound) {
        count_most(o, NULL);
        return DD_OK;
    }
    DDI_TRY(ddi_input_expect(in->crowd, 1, (int64_t[]){total}));
    DDI_TRY(ddi_buffer_reserve(x, &x->host_bytes, (size_t)total * 4, false, "crowd flags"));
    DDI_TRY(ddi_input_to_host(x, in->crowd, x->host_bytes.data));
    count_most(o, x->host_bytes.data);
    compact(o, x->host_bytes.data, boxes, (size_t)dd_dtype_size(dtype));
    return DD_OK;
}

dd_status ddi_objects_read(ddi_exec *x, ddi_objects *o, const ddi_objects_inputs *in, int32_t images, int32_t classes,
                           int32_t dtype, ddi_nonfinite policy)
{
    int64_t total = 0;
    if (in->need_objects) {
        DDI_TRY(ddi_input_expect(in->boxes, 2, (int64_t[]){-1, 4}));
        total = in->boxes->tensor.shape[0];
        if (total > (int64_t)images * DDI_MAX_BOXES)
            return ddi_fail(DD_ERR_LIMIT, in->boxes->name, "gt.boxes: more than %d objects for each image", DDI_MAX_BOXES);
    }
    size_t real = (size_t)dd_dtype_size(dtype);
    layout l = lay_out(images, total, real);
    DDI_TRY(ddi_buffer_reserve(x, &o->host, l.bytes, false, "the ground truth"));
    char *h = o->host.data;
    o->bytes = l.bytes;
    o->dtype = dtype;
    o->images = images;
    o->count = o->most = 0;
    o->labels = (int32_t *)(h + l.labels);
    o->offsets = (int32_t *)(h + l.offsets);
    o->original = (int32_t *)(h + l.original);
    o->image_use = (uint8_t *)(h + l.use);
    memset(o->image_use, 1, (size_t)images);
    memset(o->offsets, 0, ((size_t)images + 1) * 4);
    if (in->need_sizes)
        DDI_TRY(read_sizes(x, o, in, dtype, h + l.sizes, policy));
    if (in->need_objects)
        DDI_TRY(read_objects(x, o, in, classes, dtype, h + l.boxes, total, policy));
    char *d = h; /* host backends read the packed batch where it is */
    if (!ddi_on_host(x)) {
        DDI_TRY(ddi_buffer_reserve(x, &o->device, l.bytes, true, "the ground truth"));
        d = o->device.data;
    }
    o->d_boxes = d + l.boxes;
    o->d_sizes = d + l.sizes;
    o->d_labels = (int32_t *)(d + l.labels);
    o->d_offsets = (int32_t *)(d + l.offsets);
    o->d_image_use = (uint8_t *)(d + l.use);
    return DD_OK;
}

dd_status ddi_objects_upload(ddi_exec *x, ddi_objects *o)
{
    compact(o, NULL, o->host.data, (size_t)dd_dtype_size(o->dtype)); /* the boxes come first in the packed batch */
    return ddi_on_host(x) ? DD_OK : ddi_copy(x, o->device.data, o->host.data, o->bytes, DD_COPY_TO_DEVICE);
}

void ddi_objects_free(ddi_exec *x, ddi_objects *o)
{
    ddi_buffer_free(x, &o->host);
    ddi_buffer_free(x, &o->device);
}

int64_t ddi_objects_pairs(const ddi_objects *o, int32_t queries)
{
    int64_t pairs = 0;
    for (int32_t b = 0; b < o->images; b++) {
        int32_t objects = o->offsets[b + 1] - o->offsets[b];
        pairs += objects < queries ? objects : queries;
    }
    return pairs;
}
