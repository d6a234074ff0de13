/* SPDX-License-Identifier: Apache-2.0
 * Memory where a context's tensors must lie. */
#include "device_memory.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int (*cuda_malloc)(void **, size_t);
static int (*cuda_free)(void *);
static int (*cuda_copy)(void *, const void *, size_t, int);

static void *symbol(void *library, const char *name)
{
    void *found = library ? dlsym(library, name) : NULL;
    if (library && !found)
        fprintf(stderr, "the CUDA runtime has no %s\n", name);
    return found;
}

bool device_memory_use_gpu(void)
{
    static const char *const names[] = {"libcudart.so.13", "libcudart.so.12", "libcudart.so",
                                        "/usr/local/cuda/lib64/libcudart.so"};
    void *library = NULL;
    for (int i = 0; i < 4 && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    *(void **)&cuda_malloc = symbol(library, "cudaMalloc");
    *(void **)&cuda_free = symbol(library, "cudaFree");
    *(void **)&cuda_copy = symbol(library, "cudaMemcpy");
    return cuda_malloc && cuda_free && cuda_copy;
}

static void check(int error, const char *what)
{
    if (error != 0) {
        fprintf(stderr, "%s failed with CUDA error %d\n", what, error);
        exit(2);
    }
}

void *device_memory_get(size_t bytes)
{
    void *memory = NULL;
    if (cuda_malloc)
        check(cuda_malloc(&memory, bytes ? bytes : 1), "cudaMalloc");
    else if (!(memory = malloc(bytes ? bytes : 1)))
        exit(2);
    return memory;
}

void device_memory_free(void *memory)
{
    if (cuda_free)
        cuda_free(memory);
    else
        free(memory);
}

enum { HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2 };

void device_memory_put(void *device, const void *host, size_t bytes)
{
    if (cuda_copy)
        check(cuda_copy(device, host, bytes, HOST_TO_DEVICE), "cudaMemcpy");
    else
        memcpy(device, host, bytes);
}

void device_memory_take(void *host, const void *device, size_t bytes)
{
    if (cuda_copy)
        check(cuda_copy(host, device, bytes, DEVICE_TO_HOST), "cudaMemcpy");
    else
        memcpy(host, device, bytes);
}
