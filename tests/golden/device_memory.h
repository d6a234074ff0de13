/* SPDX-License-Identifier: Apache-2.0
 * Memory where a context's tensors must lie: the host's, or a GPU's through the CUDA runtime found by dlopen. */
#ifndef DEVICE_MEMORY_H
#define DEVICE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* gpu: use the CUDA runtime from now on; false when it is not there. */
bool device_memory_use_gpu(void);
void *device_memory_get(size_t bytes);
void device_memory_free(void *memory);
void device_memory_put(void *device, const void *host, size_t bytes);
void device_memory_take(void *host, const void *device, size_t bytes);

#endif
