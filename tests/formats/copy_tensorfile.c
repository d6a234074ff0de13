/* SPDX-License-Identifier: Apache-2.0
 * Copies a safetensors file, tensor by tensor: copy_tensorfile FROM TO. For the exchange with the Python package. */
#include <detrdistill/detrdistill.h>
#include <stdio.h>

static dd_status copy(const dd_tensorfile *from, dd_tensorfile *to)
{
    int32_t count;
    dd_status status = dd_tensorfile_count(from, &count);
    for (int32_t i = 0; i < count && !status; i++) {
        const char *name;
        dd_tensor view;
        status = dd_tensorfile_at(from, i, &name, &view);
        if (!status)
            status = dd_tensorfile_set(to, name, &view);
    }
    const char *word;
    if (!status && !dd_tensorfile_metadata(from, "made by", &word))
        status = dd_tensorfile_set_metadata(to, "made by", word);
    return status;
}

int main(int argc, char **argv)
{
    dd_tensorfile *from = NULL, *to = NULL;
    if (argc != 3)
        return 2;
    dd_status status = dd_tensorfile_open(&from, argv[1]);
    if (!status)
        status = dd_tensorfile_create(&to);
    if (!status)
        status = copy(from, to);
    if (!status)
        status = dd_tensorfile_save(to, argv[2]);
    if (status)
        fprintf(stderr, "%s\n", dd_error_message());
    dd_tensorfile_free(to);
    dd_tensorfile_free(from);
    return status ? 1 : 0;
}
