/* SPDX-License-Identifier: Apache-2.0
 * Making the parameters of a model. Errors stick, as on the tape: after the first one nothing more is added. */
#ifndef DDI_NN_BUILD_H
#define DDI_NN_BUILD_H

#include "tape/tape.h"

enum { DDI_NAME_BYTES = 192, DDI_MOST_LAYERS = 32 };

typedef struct ddi_build {
    ddi_params *params;
    dd_status status;
    ddi_param_group group; /* of what is added now */
    bool trained;
} ddi_build;

/* prefix + name; NULL after an error. */
ddi_param *ddi_build_param(ddi_build *build, const char *prefix, const char *name, ddi_init init, int32_t ndim,
                           const int64_t *shape);

/* A matrix product's weight and bias. */
typedef struct ddi_dense {
    ddi_param *w, *b;
} ddi_dense;

/* Start of a weight: Xavier's bound, or the default of PyTorch's Linear; the bias by the default, or a constant. */
typedef enum ddi_start { DDI_START_XAVIER, DDI_START_DEFAULT, DDI_START_ZERO } ddi_start;
ddi_dense ddi_build_dense(ddi_build *build, const char *prefix, const char *name, int64_t in, int64_t out, ddi_start start,
                          const ddi_init *bias);

typedef struct ddi_affine {
    ddi_param *gamma, *beta;
} ddi_affine;
ddi_affine ddi_build_norm(ddi_build *build, const char *prefix, const char *name, int64_t d);

static inline ddi_init ddi_constant_init(double value)
{
    return (ddi_init){DDI_INIT_CONSTANT, value, 0};
}

#endif
