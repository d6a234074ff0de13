/* SPDX-License-Identifier: Apache-2.0
 * Opens the input as a file of tensors, reads every byte of every tensor, and asks for each by its name. */
#include "target.h"
#include <detrdistill/tensorfile.h>
#include <string.h>

static void read_tensor(const dd_tensorfile *file, int32_t index)
{
    const char *name;
    dd_tensor view, same;
    FUZZ_CHECK(dd_tensorfile_at(file, index, &name, &view) == DD_OK);
    FUZZ_CHECK(dd_tensorfile_get(file, name, &same) == DD_OK && same.data == view.data);
    int64_t bytes = dd_dtype_size(view.dtype);
    for (int32_t d = 0; d < view.ndim; d++) {
        bytes *= view.shape[d];
    }
    unsigned sum = 0;
    for (int64_t i = 0; i < bytes; i++) {
        sum += ((const unsigned char *)view.data)[i];
    }
    FUZZ_CHECK(sum <= 255u * (uint64_t)bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dd_tensorfile *file;
    int32_t count;
    if (dd_tensorfile_open(&file, fuzz_file(data, size)) != DD_OK) {
        FUZZ_CHECK(strlen(dd_error_message()) > 10);
        return 0;
    }
    FUZZ_CHECK(dd_tensorfile_count(file, &count) == DD_OK);
    for (int32_t i = 0; i < count && i < 1000; i++) {
        read_tensor(file, i);
    }
    dd_tensorfile_free(file);
    return 0;
}
