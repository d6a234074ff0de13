/* SPDX-License-Identifier: Apache-2.0
 * Memory where a context's tensors must lie: the host's, or a device's through the plug-in interface of its module. */
#ifndef DEVICE_MEMORY_H
#define DEVICE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* From now on memory of device 0 of the module in this file; false, with a message, when it cannot be had. */
bool device_memory_use(const char *module_path);
void *device_memory_get(size_t bytes);
void device_memory_free(void *memory);
void device_memory_put(void *device, const void *host, size_t bytes);
void device_memory_take(void *host, const void *device, size_t bytes);

#endif
