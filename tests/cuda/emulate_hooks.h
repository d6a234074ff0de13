/* SPDX-License-Identifier: Apache-2.0
 * What a test may ask of the emulated device. The module libdetrdistill-cuda-emulated.so exports these two symbols; the real
 * module does not. */
#ifndef EMULATE_HOOKS_H
#define EMULATE_HOOKS_H

#include <stdint.h>

typedef struct emulate_hooks {
    int32_t devices;                                       /* how many there are; 1 at the start */
    int32_t current;                                       /* the current device of the host */
    int32_t backwards;                                     /* threads and blocks run in the opposite order */
    int64_t fail_allocation;                               /* the n-th allocation from now fails; 0: none */
    int64_t fail_launch;                                   /* the n-th kernel from now cannot be launched; 0: none */
    int32_t lost;                                          /* every later call fails, as after an illegal access */
    int64_t allocations, launches, live_bytes, live_count; /* so far; held now */
} emulate_hooks;

/* emulate_hooks *emulate_get_hooks(void) */
typedef emulate_hooks *(*emulate_get_hooks_fn)(void);
#define EMULATE_GET_HOOKS "emulate_get_hooks"

#endif
