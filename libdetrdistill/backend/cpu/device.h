/* SPDX-License-Identifier: Apache-2.0
 * What a context holds of the CPU module, and the libraries behind it. */
#ifndef DDI_CPU_DEVICE_H
#define DDI_CPU_DEVICE_H

#include <stddef.h>

typedef struct cpu_device {
    struct cpu_matmul_cache *matmuls; /* oneDNN's; NULL without oneDNN */
} cpu_device;

void cpu_libraries_describe(char *text, size_t text_size);

#endif
