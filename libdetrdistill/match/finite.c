/* SPDX-License-Identifier: Apache-2.0
 * Looking for NaN and infinity. */
#include "match/finite.h"
#include "base/error.h"
#include "tensor/tensor.h"

#include <string.h>

void ddi_finite_add(ddi_finite_scan *scan, ddi_input *input, int32_t image_dim, int32_t query_dim)
{
    int32_t i = scan->count++;
    scan->input[i] = input;
    scan->inner[i] = 1;
    scan->shared[i] = image_dim < 0;
    scan->query[i] = query_dim < 0 ? 0 : 1;
    for (int32_t k = image_dim + 1; k < input->tensor.ndim; k++) {
        scan->inner[i] *= input->tensor.shape[k];
        if (query_dim >= 0 && k > query_dim)
            scan->query[i] *= input->tensor.shape[k];
    }
}

static dd_status refuse(const ddi_finite_scan *scan, int32_t i, int64_t first, int32_t images)
{
    const char *name = scan->input[i]->name;
    int64_t block = first / scan->inner[i], image = block % images, stage = block / images;
    if (scan->shared[i])
        return ddi_fail(DD_ERR_NONFINITE, name, "%s: NaN or infinity in element %lld", name, (long long)first);
    int64_t query = scan->query[i] ? first % scan->inner[i] / scan->query[i] : -1;
    if (query < 0)
        ddi_fail(DD_ERR_NONFINITE, name, "%s: NaN or infinity in image %lld, element %lld", name, (long long)image,
                 (long long)(first % scan->inner[i]));
    else
        ddi_fail(DD_ERR_NONFINITE, name, "%s: NaN or infinity at stage %lld, image %lld, query %lld", name, (long long)stage,
                 (long long)image, (long long)query);
    ddi_error_set_place(DD_PLACE_IMAGE, image);
    ddi_error_set_place(DD_PLACE_QUERY, query);
    if (query >= 0)
        ddi_error_set_place(DD_PLACE_STAGE, stage);
    return DD_ERR_NONFINITE;
}

dd_status ddi_finite_search(ddi_exec *x, ddi_finite_scan *scan, int32_t images, int32_t dtype)
{
    size_t firsts = (size_t)scan->count * 8, bytes = firsts + (size_t)scan->count * (size_t)images * 4;
    DDI_TRY(ddi_buffer_reserve(x, &scan->device, bytes, true, "the search for NaN"));
    DDI_TRY(ddi_buffer_reserve(x, &scan->host, bytes, false, "the search for NaN"));
    int64_t *first = scan->device.data;
    int32_t *flags = (int32_t *)((char *)scan->device.data + firsts);
    DDI_TRY(ddi_zero(x, scan->device.data, bytes));
    for (int32_t i = 0; i < scan->count; i++) {
        int64_t n = ddi_tensor_elements(&scan->input[i]->tensor), block = scan->inner[i] * (scan->shared[i] ? 1 : images);
        dd_op_check_finite check = {.x = scan->input[i]->data,
                                    .outer = block ? n / block : 0,
                                    .images = scan->shared[i] ? 1 : images,
                                    .inner = scan->inner[i],
                                    .first = first + i,
                                    .image_bad = flags + (size_t)i * (size_t)images};
        DDI_TRY(ddi_run(x, DD_OPERATOR_check_finite, dtype, &check));
    }
    DDI_TRY(ddi_copy(x, scan->host.data, scan->device.data, bytes, ddi_on_host(x) ? DD_COPY_ON_DEVICE : DD_COPY_TO_HOST));
    return ddi_sync(x);
}

dd_status ddi_finite_check(ddi_exec *x, ddi_finite_scan *scan, ddi_objects *o, int32_t dtype, ddi_nonfinite policy,
                           bool *replaced)
{
    DDI_TRY(ddi_finite_search(x, scan, o->images, dtype));
    const int64_t *first = scan->host.data;
    const int32_t *flags = (const int32_t *)(first + scan->count);
    for (int32_t i = 0; i < scan->count; i++) {
        replaced[i] = first[i] >= 0;
        if (first[i] < 0)
            continue;
        if (policy == DDI_NONFINITE_ERROR || (policy == DDI_NONFINITE_SKIP && scan->shared[i]))
            return refuse(scan, i, first[i], o->images);
        for (int32_t b = 0; b < o->images && policy == DDI_NONFINITE_SKIP; b++)
            if (flags[(int64_t)i * o->images + b])
                o->image_use[b] = 0;
        ddi_log_line(x->context, DD_LOG_WARNING, "%s has NaN or infinity, first at element %lld: %s", scan->input[i]->name,
                     (long long)first[i], policy == DDI_NONFINITE_SKIP ? "its images are left out" : "replaced");
        DDI_TRY(ddi_input_stage(x, scan->input[i], dtype, true));
    }
    return DD_OK;
}
