/* SPDX-License-Identifier: Apache-2.0
 * Memory where a context's tensors must lie. */
#include "device_memory.h"

#include <detrdistill/sys/backend.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const dd_backend *backend; /* NULL: the host's memory */
static void *device;

bool device_memory_use(const char *module_path)
{
    char text[256] = "";
    void *library = dlopen(module_path, RTLD_NOW | RTLD_LOCAL);
    union {
        void *object;
        dd_backend_entry_fn function;
    } entry = {library ? dlsym(library, DD_BACKEND_ENTRY) : NULL};
    const dd_backend *found = entry.object ? entry.function(DD_BACKEND_INTERFACE) : NULL;
    if (found && found->score(text, sizeof text) > 0 && found->device_open(0, &device, text, sizeof text) == DD_OK)
        backend = found;
    else
        fprintf(stderr, "%s: %s\n", module_path, library ? text : dlerror());
    return backend != NULL;
}

static void check(dd_status status, const char *what)
{
    if (status != DD_OK) {
        fprintf(stderr, "%s failed: %s\n", what, dd_status_name(status));
        exit(2);
    }
}

void *device_memory_get(size_t bytes)
{
    void *memory = backend ? backend->mem_alloc(device, bytes ? bytes : 1) : malloc(bytes ? bytes : 1);
    check(memory ? DD_OK : DD_ERR_NOMEM, "memory for a tensor");
    return memory;
}

void device_memory_free(void *memory)
{
    if (backend)
        backend->mem_free(device, memory);
    else
        free(memory);
}

static void copy(void *to, const void *from, size_t bytes, int32_t kind)
{
    if (!backend) {
        memcpy(to, from, bytes);
        return;
    }
    check(backend->copy(device, NULL, to, from, bytes, kind), "copy");
    check(backend->sync(device, NULL), "synchronisation");
}

void device_memory_put(void *to, const void *host, size_t bytes)
{
    copy(to, host, bytes, DD_COPY_TO_DEVICE);
}

void device_memory_take(void *host, const void *from, size_t bytes)
{
    copy(host, from, bytes, DD_COPY_TO_HOST);
}
