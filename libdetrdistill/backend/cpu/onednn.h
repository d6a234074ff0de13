/* SPDX-License-Identifier: Apache-2.0
 * Matrix products by oneDNN, whose primitives a device keeps. */
#ifndef DDI_CPU_ONEDNN_H
#define DDI_CPU_ONEDNN_H

#include <detrdistill/sys/backend.h>

typedef struct cpu_matmul_cache cpu_matmul_cache;

/* NULL: out of memory, or oneDNN would not start. */
cpu_matmul_cache *cpu_matmul_cache_create(void);
void cpu_matmul_cache_free(cpu_matmul_cache *cache);

dd_status cpu_onednn_matmul(dd_exec *exec, const void *args);
int32_t cpu_onednn_accepts(const void *args);

#endif
