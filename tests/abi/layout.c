/* SPDX-License-Identifier: Apache-2.0
 * The layout of the one public struct and of the DLPack structs, held at compile time; the program only prints it. */
#include <assert.h>
#include <detrdistill/detrdistill.h>
#include <stddef.h>
#include <stdio.h>

static_assert(sizeof(void *) == 8, "64-bit machines only");
static_assert(DD_MAX_DIMS == 8, "part of the layout");
static_assert(sizeof(dd_tensor) == 168, "size");
static_assert(offsetof(dd_tensor, struct_size) == 0, "struct_size");
static_assert(offsetof(dd_tensor, dtype) == 4, "dtype");
static_assert(offsetof(dd_tensor, ndim) == 8, "ndim");
static_assert(offsetof(dd_tensor, device_type) == 12, "device_type");
static_assert(offsetof(dd_tensor, device_index) == 16, "device_index");
static_assert(offsetof(dd_tensor, flags) == 20, "flags");
static_assert(offsetof(dd_tensor, data) == 24, "data");
static_assert(offsetof(dd_tensor, shape) == 32, "shape");
static_assert(offsetof(dd_tensor, stride) == 96, "stride");
static_assert(offsetof(dd_tensor, reserved) == 160, "reserved");

/* DLPack 1.x (dlpack.h): DLTensor, DLManagedTensor, DLManagedTensorVersioned. */
static_assert(sizeof(dd_dl_tensor) == 48 && offsetof(dd_dl_tensor, byte_offset) == 40, "DLTensor");
static_assert(offsetof(dd_dl_tensor, type_code) == 20 && offsetof(dd_dl_tensor, shape) == 24, "DLTensor");
static_assert(sizeof(dd_dl_managed) == 64, "DLManagedTensor");
static_assert(sizeof(dd_dl_managed_versioned) == 80 && offsetof(dd_dl_managed_versioned, tensor) == 32,
              "DLManagedTensorVersioned");

int main(void)
{
    /* The library agrees: it fills in the size that it was compiled with. */
    float x[2] = {0, 0};
    int64_t shape[1] = {2};
    dd_tensor t;
    if (dd_tensor_init(&t, x, DD_F32, 1, shape, NULL, DD_DEVICE_CPU, 0, 0) != DD_OK)
        return 1;
    printf("dd_tensor: %u bytes here, %u in the library\n", (unsigned)sizeof t, t.struct_size);
    return t.struct_size == sizeof t ? 0 : 1;
}
