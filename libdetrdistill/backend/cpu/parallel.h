/* SPDX-License-Identifier: Apache-2.0
 * The module's only door to OpenMP. */
#ifndef DDI_CPU_PARALLEL_H
#define DDI_CPU_PARALLEL_H

#include <detrdistill/sys/backend.h>

/* Runs fn(arg, i) for 0 <= i < n on `threads` threads. Libraries that fn calls run on one thread each. Which thread takes
 * which i is open, so fn must compute the same bits for i wherever it runs. */
void cpu_parallel_for(int32_t threads, int64_t n, void (*fn)(void *arg, int64_t i), void *arg);

/* Inside of fn: 0 .. threads - 1, for memory of a thread's own. */
int32_t cpu_thread_number(void);

/* Pieces of at most `size` elements that make up `count`. */
static inline int64_t cpu_pieces(int64_t count, int64_t size)
{
    return count / size + (count % size != 0);
}

#endif
