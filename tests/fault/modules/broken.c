/* SPDX-License-Identifier: Apache-2.0
 * A module named cpu with one thing wrong, chosen by BROKEN. */
#include <detrdistill/sys/backend.h>
#include <stdio.h>
#include <string.h>

enum { VERSION = 1, SIZE, SYMBOL, SCORE, HOLES, NAME, NOTHING, OPEN, FEW_KERNELS };

static int32_t score(char *why, size_t size)
{
    if (BROKEN == SCORE)
        snprintf(why, size, "the moon is in the wrong phase");
    return BROKEN != SCORE;
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
    *device = NULL;
    if (BROKEN != OPEN)
        return DD_OK;
    snprintf(text, size, "the device is on fire");
    return DD_ERR_BACKEND;
}

static void device_close(void *device) {}

static dd_status copy(void *device, void *stream, void *dst, const void *src, size_t bytes, int32_t kind)
{
    memcpy(dst, src, bytes);
    return DD_OK;
}

static dd_status zero(void *device, void *stream, void *dst, size_t bytes)
{
    memset(dst, 0, bytes);
    return DD_OK;
}

static dd_status sync(void *device, void *stream)
{
    return DD_OK;
}

static dd_status refuse(dd_exec *exec, const void *args)
{
    return DD_ERR_UNSUPPORTED;
}

/* A kernel of an operator that this core does not have, and one that declines everything. */
static const dd_kernel kernels[] = {{10000, DD_F32, 0, 0, "unknown", refuse, NULL},
                                    {-1, DD_F32, 0, 0, "unknown", refuse, NULL},
                                    {DD_OPERATOR_kd_cost, DD_F32, 0, 0, "declines", refuse, NULL}};

static const dd_backend backend = {
    .struct_size = BROKEN == SIZE ? 16 : sizeof(dd_backend),
    .interface_version = BROKEN == VERSION ? 77 : DD_BACKEND_INTERFACE,
    .name = BROKEN == NAME ? "abacus" : "cpu",
    .host_memory = 1,
    .device_type = DD_DEVICE_CPU,
    .score = score,
    .device_count = device_count,
    .isa = isa,
    .device_open = device_open,
    .device_close = device_close,
    .copy = BROKEN == HOLES ? NULL : copy,
    .zero = zero,
    .sync = sync,
    .kernels = kernels,
    .kernel_count = sizeof kernels / sizeof kernels[0],
};

#if BROKEN == 3
#define dd_backend_entry dd_some_other_entry
#endif
__attribute__((visibility("default"))) const dd_backend *dd_backend_entry(uint32_t interface_version);

const dd_backend *dd_backend_entry(uint32_t interface_version)
{
    return BROKEN == NOTHING ? NULL : &backend;
}
