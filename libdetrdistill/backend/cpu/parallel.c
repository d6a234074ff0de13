/* SPDX-License-Identifier: Apache-2.0
 * The module's only door to OpenMP. */
#include "backend/cpu/parallel.h"

#include <omp.h>

void cpu_parallel_for(int32_t threads, int64_t n, void (*fn)(void *arg, int64_t i), void *arg)
{
    if (threads > n) {
        threads = (int32_t)n;
    }
    if (threads < 1) {
        return;
    }
/* A region even for one thread: the setting below belongs to the region and goes away with it. */
#pragma omp parallel num_threads(threads)
    {
        omp_set_num_threads(1); /* of oneDNN and OpenBLAS inside fn */
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < n; i++) {
            fn(arg, i);
        }
    }
}

int32_t cpu_thread_number(void)
{
    return omp_get_thread_num();
}
