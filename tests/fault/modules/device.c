/* SPDX-License-Identifier: Apache-2.0
 * A device on the CPU, as module cuda: its memory is not the host's, its kernels are the reference kernels, and the n-th
 * allocation, copy, launch or synchronisation fails on demand. */
#include "device.h"
#include "backend/ref/ref.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static fake_device_state state;

__attribute__((visibility("default"))) fake_device_state *fake_device(void);

fake_device_state *fake_device(void)
{
    return &state;
}

/* 1 if this call must fail. */
static int fails(fake_call call)
{
    state.calls[call]++;
    if (state.lost && call != FAKE_ALLOC)
        return 1;
    if (!state.fail_at[call] || state.calls[call] < state.fail_at[call])
        return 0;
    return state.calls[call] == state.fail_at[call] || state.for_good;
}

static int32_t score(char *why, size_t size)
{
    return 1;
}

static int32_t device_count(void)
{
    return 1;
}

static int32_t isa(void)
{
    return DD_ISA_NONE;
}

static dd_status device_open(int32_t index, void **device, char *text, size_t size)
{
    *device = &state;
    snprintf(text, size, "a device made of malloc");
    return index == 0 ? DD_OK : DD_ERR_DEVICE;
}

static void device_close(void *device) {}

static void *mem_alloc(void *device, size_t bytes)
{
    if (fails(FAKE_ALLOC))
        return NULL;
    void *memory = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (!memory)
        return NULL;
    memset(memory, 0xA5, bytes); /* nobody may count on zeros */
    state.live++;
    return memory;
}

static void mem_free(void *device, void *memory)
{
    state.live--;
    free(memory);
}

static dd_status copy(void *device, void *stream, void *dst, const void *src, size_t bytes, int32_t kind)
{
    if (kind < DD_COPY_TO_DEVICE || kind > DD_COPY_ON_DEVICE)
        return DD_ERR_INTERNAL;
    if (fails(FAKE_COPY))
        return DD_ERR_BACKEND;
    memmove(dst, src, bytes);
    return DD_OK;
}

static dd_status zero(void *device, void *stream, void *dst, size_t bytes)
{
    if (fails(FAKE_ZERO))
        return DD_ERR_BACKEND;
    memset(dst, 0, bytes);
    return DD_OK;
}

static dd_status sync(void *device, void *stream)
{
    return fails(FAKE_SYNC) ? DD_ERR_BACKEND : DD_OK;
}

static const char *last_error(void *device)
{
    return "the fake device was told to fail";
}

static dd_status launch(int32_t op, int32_t dtype, dd_exec *exec, const void *args)
{
    if (fails(FAKE_LAUNCH))
        return exec->fail(exec, DD_ERR_BACKEND, "the launch was told to fail");
    int32_t count;
    const dd_kernel *ref = ddi_ref_kernels(&count);
    for (int32_t i = 0; i < count; i++)
        if (ref[i].op == op && ref[i].dtype == dtype)
            return ref[i].run(exec, args);
    return DD_ERR_UNSUPPORTED;
}

#define DD_OP(name, type, text)                                                                                                \
    static dd_status name##_f32(dd_exec *exec, const void *args)                                                               \
    {                                                                                                                          \
        return launch(DD_OPERATOR_##name, DD_F32, exec, args);                                                                 \
    }                                                                                                                          \
    static dd_status name##_f64(dd_exec *exec, const void *args)                                                               \
    {                                                                                                                          \
        return launch(DD_OPERATOR_##name, DD_F64, exec, args);                                                                 \
    }
#include <detrdistill/sys/ops.def>
#undef DD_OP

static const dd_kernel kernels[] = {
#define DD_OP(name, type, text)                                                                                                \
    {DD_OPERATOR_##name, DD_F32, 0, 0, "fake", name##_f32, NULL}, {DD_OPERATOR_##name, DD_F64, 0, 0, "fake", name##_f64, NULL},
#include <detrdistill/sys/ops.def>
#undef DD_OP
};

static const dd_backend backend = {
    .struct_size = sizeof(dd_backend),
    .interface_version = DD_BACKEND_INTERFACE,
    .name = "cuda",
    .host_memory = 0,
    .device_type = DD_DEVICE_CUDA,
    .score = score,
    .device_count = device_count,
    .isa = isa,
    .device_open = device_open,
    .device_close = device_close,
    .mem_alloc = mem_alloc,
    .mem_free = mem_free,
    .copy = copy,
    .zero = zero,
    .sync = sync,
    .last_error = last_error,
    .kernels = kernels,
    .kernel_count = sizeof kernels / sizeof kernels[0],
};

__attribute__((visibility("default"))) const dd_backend *dd_backend_entry(uint32_t interface_version);

const dd_backend *dd_backend_entry(uint32_t interface_version)
{
    return interface_version == DD_BACKEND_INTERFACE ? &backend : NULL;
}
