/* SPDX-License-Identifier: Apache-2.0
 * Parameters of a model. */
#include "tape/params.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/philox.h"

#include <math.h>
#include <string.h>

enum { ELEMENT_ALIGNMENT = 16 };

void ddi_params_init(ddi_params *p, dd_context *context, int32_t dtype)
{
    *p = (ddi_params){.context = context, .dtype = dtype};
}

void ddi_params_free(ddi_params *p, ddi_exec *exec)
{
    ddi_allocator *allocator = &p->context->allocator;
    for (int32_t i = 0; i < p->count; i++) {
        ddi_free(allocator, p->all[i]->name);
        ddi_free(allocator, p->all[i]);
    }
    ddi_free(allocator, p->all);
    ddi_buffer_free(exec, &p->trained);
    ddi_buffer_free(exec, &p->frozen);
    ddi_buffer_free(exec, &p->grad);
    p->all = NULL;
    p->count = p->room = 0;
}

ddi_param *ddi_params_find(const ddi_params *p, const char *name)
{
    for (int32_t i = 0; i < p->count; i++) {
        if (strcmp(p->all[i]->name, name) == 0) {
            return p->all[i];
        }
    }
    return NULL;
}

static bool make_room(ddi_params *p)
{
    if (p->count < p->room) {
        return true;
    }
    const int32_t room = p->room ? 2 * p->room : 64;
    ddi_param **all = ddi_realloc(&p->context->allocator, p->all, (size_t)room * sizeof *all);
    if (!all) {
        return false;
    }
    p->all = all;
    p->room = room;
    return true;
}

ddi_param *ddi_params_add(ddi_params *p, const char *name, ddi_init init, ddi_param_group group, bool trained, int32_t ndim,
                          const int64_t *shape)
{
    ddi_param *made = NULL;
    int64_t count = 1;
    bool fits = true;
    for (int32_t i = 0; i < ndim; i++) {
        fits = fits && shape[i] > 0 && ddi_mul(count, shape[i], &count);
    }
    if (!fits || count > DDI_MAX_ELEMENTS) {
        ddi_fail(DD_ERR_LIMIT, name, "parameter '%s' is too large", name);
        return NULL;
    }
    if (ddi_params_find(p, name)) {
        ddi_fail(DD_ERR_INTERNAL, name, "parameter '%s' was added twice", name);
        return NULL;
    }
    if (make_room(p)) {
        made = ddi_alloc_zero(&p->context->allocator, 1, sizeof *made);
    }
    char *copy = made ? ddi_strdup(&p->context->allocator, name) : NULL;
    if (!copy) {
        ddi_free(&p->context->allocator, made);
        ddi_fail_nomem(sizeof *made, "a parameter's record");
        return NULL;
    }
    *made = (ddi_param){.name = copy, .ndim = ndim, .count = count, .init = init, .group = group, .trained = trained};
    memcpy(made->shape, shape, (size_t)ndim * sizeof *shape);
    int64_t *end = trained ? &p->trained_elements : &p->frozen_elements;
    made->place = *end;
    *end += (count + ELEMENT_ALIGNMENT - 1) / ELEMENT_ALIGNMENT * ELEMENT_ALIGNMENT;
    p->all[p->count++] = made;
    return made;
}

/* FNV-1a: the stream of a name. */
static uint32_t stream_of(const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name; name++) {
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    }
    return hash;
}

static double normal(uint64_t seed, uint32_t stream, uint64_t index)
{
    const double u = ddi_philox_uniform(seed, 0, stream, 2 * index), v = ddi_philox_uniform(seed, 0, stream, 2 * index + 1);
    return sqrt(-2 * log(1 - u)) * cos(2 * M_PI * v);
}

/* Offset of head h, point k: (k+1) steps along direction h, scaled to the unit square (1.9). */
static double direction(const ddi_param *p, int64_t i)
{
    const int64_t levels = (int64_t)p->init.a, points = (int64_t)p->init.b, heads = p->count / (levels * points * 2);
    const int64_t head = i / (levels * points * 2), point = i / 2 % points;
    const double angle = 2 * M_PI * (double)head / (double)heads, x = cos(angle), y = sin(angle);
    return (double)(point + 1) * (i % 2 ? y : x) / fmax(fabs(x), fabs(y));
}

static double start_of(const ddi_param *p, uint64_t seed, uint32_t stream, int64_t i)
{
    switch (p->init.kind) {
    case DDI_INIT_UNIFORM:
        return p->init.a * (2 * ddi_philox_uniform(seed, 0, stream, (uint64_t)i) - 1) + p->init.b;
    case DDI_INIT_NORMAL:
        return p->init.a * normal(seed, stream, (uint64_t)i);
    case DDI_INIT_BOX_SIZE:
        return i % 4 >= 2 ? p->init.a : p->init.b;
    case DDI_INIT_DIRECTIONS:
        return direction(p, i);
    case DDI_INIT_XYZ:
        return i % 3 == 2 ? p->init.b : p->init.a * (2 * ddi_philox_uniform(seed, 0, stream, (uint64_t)i) - 1);
    default:
        return p->init.a;
    }
}

typedef struct fill_job {
    const ddi_params *params;
    char *trained, *frozen; /* on the host */
    uint64_t seed;
} fill_job;

static void fill_param(void *arg, int64_t at)
{
    const fill_job *job = arg;
    const ddi_param *p = job->params->all[at];
    char *block = p->trained ? job->trained : job->frozen;
    const uint32_t stream = stream_of(p->name);
    for (int64_t i = 0; i < p->count; i++) {
        const double x = start_of(p, job->seed, stream, i);
        if (job->params->dtype == DD_F64) {
            ((double *)block)[p->place + i] = x;
        } else {
            ((float *)block)[p->place + i] = (float)x;
        }
    }
}

/* Fills both blocks, on the host and then copied where device memory is elsewhere. */
static dd_status fill(ddi_params *p, ddi_exec *exec, uint64_t seed)
{
    const size_t element = (size_t)dd_dtype_size(p->dtype);
    const size_t trained = (size_t)p->trained_elements * element, frozen = (size_t)p->frozen_elements * element;
    if (ddi_on_host(exec)) {
        fill_job job = {p, p->trained.data, p->frozen.data, seed};
        memset(job.trained, 0, trained);
        memset(job.frozen, 0, frozen);
        ddi_parallel_for(exec, p->count, fill_param, &job);
        return DD_OK;
    }
    char *host = ddi_alloc_zero(&p->context->allocator, trained + frozen + 1, 1);
    if (!host) {
        return ddi_fail_nomem(trained + frozen, "parameters");
    }
    fill_job job = {p, host, host + trained, seed};
    ddi_parallel_for(exec, p->count, fill_param, &job);
    dd_status status = ddi_copy(exec, p->trained.data, host, trained, DD_COPY_TO_DEVICE);
    if (status == DD_OK) {
        status = ddi_copy(exec, p->frozen.data, host + trained, frozen, DD_COPY_TO_DEVICE);
    }
    if (status == DD_OK) {
        status = ddi_sync(exec);
    }
    ddi_free(&p->context->allocator, host);
    return status;
}

dd_status ddi_params_allocate(ddi_params *p, ddi_exec *exec, uint64_t seed)
{
    const size_t element = (size_t)dd_dtype_size(p->dtype);
    DDI_TRY(ddi_buffer_reserve(exec, &p->trained, (size_t)p->trained_elements * element + 1, true, "trained parameters"));
    DDI_TRY(ddi_buffer_reserve(exec, &p->frozen, (size_t)p->frozen_elements * element + 1, true, "frozen parameters"));
    for (int32_t i = 0; i < p->count; i++) {
        ddi_param *q = p->all[i];
        q->data = (char *)(q->trained ? p->trained.data : p->frozen.data) + (size_t)q->place * element;
    }
    return fill(p, exec, seed);
}

dd_status ddi_params_zero_grad(ddi_params *p, ddi_exec *exec)
{
    return ddi_zero(exec, p->grad.data, (size_t)p->trained_elements * (size_t)dd_dtype_size(p->dtype));
}

dd_status ddi_params_allocate_grad(ddi_params *p, ddi_exec *exec)
{
    const size_t element = (size_t)dd_dtype_size(p->dtype);
    DDI_TRY(ddi_buffer_reserve(exec, &p->grad, (size_t)p->trained_elements * element + 1, true, "gradients of parameters"));
    for (int32_t i = 0; i < p->count; i++) {
        ddi_param *q = p->all[i];
        q->grad = q->trained ? (char *)p->grad.data + (size_t)q->place * element : NULL;
    }
    return ddi_params_zero_grad(p, exec);
}

int64_t ddi_params_trained_count(const ddi_params *p)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < p->count; i++) {
        sum += p->all[i]->trained || p->all[i]->counted ? p->all[i]->count : 0;
    }
    return sum;
}

int64_t ddi_params_total_count(const ddi_params *p)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < p->count; i++) {
        sum += p->all[i]->count;
    }
    return sum;
}
