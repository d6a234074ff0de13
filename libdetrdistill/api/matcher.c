/* SPDX-License-Identifier: Apache-2.0
 * Public functions of the matcher: check arguments, take the handle, call down. */
#include "match/matcher.h"
#include "base/error.h"
#include "base/handle.h"
#include <detrdistill/matcher.h>

#include <unistd.h>

static void destroy(dd_matcher *m)
{
    dd_context *c = m->exec.context;
    ddi_matcher_free(m);
    ddi_free(&c->allocator, m);
    ddi_context_release(c);
}

static dd_status leave(dd_matcher *m, dd_status status)
{
    if (ddi_handle_leave(m))
        destroy(m);
    return status;
}

static dd_status create(dd_matcher **matcher, dd_context *c, const char *options)
{
    dd_matcher *m = ddi_alloc_zero(&c->allocator, 1, sizeof *m);
    if (!m)
        return ddi_fail_nomem(sizeof *m, "a matcher");
    m->exec.context = ddi_context_reference(c);
    dd_status status = ddi_matcher_init(m, c, options);
    if (status == DD_OK)
        status = ddi_handle_add(m, DDI_MATCHER);
    if (status != DD_OK)
        destroy(m);
    else
        *matcher = m;
    return status;
}

dd_status dd_matcher_create(dd_matcher **matcher, dd_context *context, const char *options)
{
    ddi_error_clear();
    if (!matcher)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_matcher_create: matcher is NULL");
    DDI_TRY(ddi_handle_enter(context, DDI_CONTEXT, "dd_matcher_create"));
    dd_status status = create(matcher, context, options);
    if (ddi_handle_leave(context))
        ddi_context_release(context);
    return status;
}

void dd_matcher_free(dd_matcher *matcher)
{
    if (ddi_handle_remove(matcher, DDI_MATCHER))
        destroy(matcher);
}

dd_status dd_matcher_bind(dd_matcher *matcher, const char *name, const dd_tensor *tensor)
{
    ddi_error_clear();
    if (!name)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_matcher_bind: name is NULL");
    DDI_TRY(ddi_handle_enter(matcher, DDI_MATCHER, "dd_matcher_bind"));
    return leave(matcher, ddi_inputs_bind(&matcher->exec, matcher->input, DDI_MATCHER_INPUTS, name, tensor));
}

dd_status dd_matcher_run(dd_matcher *matcher)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(matcher, DDI_MATCHER, "dd_matcher_run"));
    if (matcher->exec.context->process != getpid())
        return leave(matcher,
                     ddi_fail(DD_ERR_FORKED, NULL, "dd_matcher_run: the context was made before fork(); make a new one here"));
    return leave(matcher, ddi_matcher_run(matcher));
}

dd_status dd_matcher_count(const dd_matcher *matcher, int32_t *stages, int32_t *images)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(matcher, DDI_MATCHER, "dd_matcher_count"));
    dd_matcher *m = (dd_matcher *)(uintptr_t)matcher; /* only the table of handles changes */
    if (!stages || !images)
        return leave(m, ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_matcher_count: %s is NULL", stages ? "images" : "stages"));
    if (!m->has_run)
        return leave(m, ddi_fail(DD_ERR_STATE, NULL, "dd_matcher_count: no good dd_matcher_run yet"));
    *stages = m->matching.stages;
    *images = m->matching.images;
    return leave(m, DD_OK);
}

dd_status dd_matcher_get(dd_matcher *matcher, int32_t stage, int32_t image, const int32_t **match, int64_t *count, double *cost)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(matcher, DDI_MATCHER, "dd_matcher_get"));
    const ddi_matching *g = &matcher->matching;
    if (!matcher->has_run)
        return leave(matcher, ddi_fail(DD_ERR_STATE, NULL, "dd_matcher_get: no good dd_matcher_run yet"));
    if (stage < 0 || stage >= g->stages || image < 0 || image >= g->images)
        return leave(matcher,
                     ddi_fail(DD_ERR_NOT_FOUND, NULL, "dd_matcher_get: stage %d, image %d; there are %d stages and %d images",
                              stage, image, g->stages, g->images));
    size_t block = (size_t)stage * (size_t)g->images + (size_t)image;
    if (match)
        *match = (const int32_t *)matcher->original.data + block * (size_t)g->queries;
    if (count)
        *count = g->queries;
    if (cost)
        *cost = g->host_total[block];
    return leave(matcher, DD_OK);
}
