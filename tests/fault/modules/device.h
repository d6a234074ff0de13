/* SPDX-License-Identifier: Apache-2.0
 * The handle on the fake device's failures, shared by the module and its test. */
#ifndef TESTS_FAULT_DEVICE_H
#define TESTS_FAULT_DEVICE_H

#include <stdint.h>

typedef enum { FAKE_ALLOC, FAKE_COPY, FAKE_ZERO, FAKE_LAUNCH, FAKE_SYNC, FAKE_CALLS } fake_call;

typedef struct fake_device_state {
    int64_t calls[FAKE_CALLS], fail_at[FAKE_CALLS]; /* fail_at: the n-th call of its kind, 0: none */
    int32_t for_good;                               /* and all after it */
    int32_t lost;                                   /* every call but allocation fails */
    int64_t live;                                   /* blocks */
} fake_device_state;

typedef fake_device_state *(*fake_device_fn)(void);

#endif
