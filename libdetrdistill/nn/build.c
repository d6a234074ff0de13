/* SPDX-License-Identifier: Apache-2.0
 * Making the parameters of a model. */
#include "nn/build.h"
#include "base/error.h"

#include <math.h>
#include <stdio.h>

ddi_param *ddi_build_param(ddi_build *b, const char *prefix, const char *name, ddi_init init, int32_t ndim,
                           const int64_t *shape)
{
    char whole[DDI_NAME_BYTES];
    if (b->status != DD_OK) {
        return NULL;
    }
    if (snprintf(whole, sizeof whole, "%s%s", prefix, name) >= (int)sizeof whole) {
        b->status = ddi_fail(DD_ERR_INTERNAL, name, "the name of parameter '%s' is too long", name);
        return NULL;
    }
    ddi_param *made = ddi_params_add(b->params, whole, init, b->group, b->trained, ndim, shape);
    if (!made) {
        b->status = dd_error_status();
    }
    return made;
}

ddi_dense ddi_build_dense(ddi_build *b, const char *prefix, const char *name, int64_t in, int64_t out, ddi_start start,
                          const ddi_init *bias)
{
    char at[DDI_NAME_BYTES];
    const double plain = 1 / sqrt((double)in), xavier = sqrt(6 / (double)(in + out));
    const ddi_init weight = {DDI_INIT_UNIFORM, start == DDI_START_XAVIER ? xavier : plain, 0};
    const ddi_init usual = {DDI_INIT_UNIFORM, plain, 0};
    snprintf(at, sizeof at, "%s%s", prefix, name);
    return (ddi_dense){
        ddi_build_param(b, at, ".weight", start == DDI_START_ZERO ? ddi_constant_init(0) : weight, DDI_SHAPE(out, in)),
        ddi_build_param(b, at, ".bias", bias ? *bias : usual, DDI_SHAPE(out))};
}

ddi_affine ddi_build_norm(ddi_build *b, const char *prefix, const char *name, int64_t d)
{
    char at[DDI_NAME_BYTES];
    snprintf(at, sizeof at, "%s%s", prefix, name);
    return (ddi_affine){ddi_build_param(b, at, ".weight", ddi_constant_init(1), DDI_SHAPE(d)),
                        ddi_build_param(b, at, ".bias", ddi_constant_init(0), DDI_SHAPE(d))};
}
