/* SPDX-License-Identifier: Apache-2.0
 * AdamW (Loshchilov, Hutter 2019) without weight decay: the host's optimiser. */
#ifndef ADAMW_H
#define ADAMW_H

#include <stdbool.h>
#include <stdint.h>

typedef struct adamw {
    float *mean, *square; /* moving averages of the gradient and of its square */
    int64_t count;
    double rate, mean_power, square_power; /* beta^t */
} adamw;

bool adamw_init(adamw *a, int64_t count, double rate);
void adamw_step(adamw *a, float *values, const float *gradients);
void adamw_free(adamw *a);

#endif
