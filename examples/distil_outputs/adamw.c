/* SPDX-License-Identifier: Apache-2.0
 * One AdamW update; free parameters have no weights to decay. */
#include "adamw.h"
#include <math.h>
#include <stdlib.h>

bool adamw_init(adamw *a, int64_t count, double rate)
{
    *a = (adamw){.mean = calloc((size_t)count, sizeof(float)),
                 .square = calloc((size_t)count, sizeof(float)),
                 .count = count,
                 .rate = rate,
                 .mean_power = 1,
                 .square_power = 1};
    return a->mean && a->square;
}

void adamw_step(adamw *a, float *values, const float *gradients)
{
    const float beta1 = .9f, beta2 = .999f, epsilon = 1e-8f;
    a->mean_power *= (double)beta1;
    a->square_power *= (double)beta2;
    float rate = (float)(a->rate / (1 - a->mean_power)), scale = (float)(1 / (1 - a->square_power));
    for (int64_t i = 0; i < a->count; i++) {
        float g = gradients[i];
        a->mean[i] = beta1 * a->mean[i] + (1 - beta1) * g;
        a->square[i] = beta2 * a->square[i] + (1 - beta2) * g * g;
        values[i] -= rate * a->mean[i] / (sqrtf(a->square[i] * scale) + epsilon);
    }
}

void adamw_free(adamw *a)
{
    free(a->mean);
    free(a->square);
}
