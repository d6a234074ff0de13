/* SPDX-License-Identifier: Apache-2.0
 * Golden checkpoints in the names of other programs. */
#include "foreign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void good(dd_status status)
{
    if (status != DD_OK) {
        print_message("%s\n", dd_error_message());
    }
    assert_int_equal(status, DD_OK);
}

dd_tensorfile *open_golden(const char *name)
{
    char path[1024];
    dd_tensorfile *file;
    snprintf(path, sizeof path, "%s/golden/%s/model.safetensors", SHARED_DIR, name);
    if (dd_tensorfile_open(&file, path) != DD_OK) {
        print_message("skipped: %s\n", dd_error_message());
        skip();
    }
    return file;
}

bool invert(const ddi_keymap *map, const char *name, int32_t layers, char source[DDI_KEY_BYTES], int32_t *part, int32_t *parts)
{
    const char *plain =
        strncmp(name, "model.decoder.class_embed", 25) == 0 || strncmp(name, "model.decoder.bbox_embed", 24) == 0
            ? name + strlen("model.decoder.")
            : name;
    for (int32_t i = 0; i < map->rules; i++) {
        if (ddi_key_rule_invert(&map->rule[i], name, layers, source, part, parts)) {
            return true;
        }
    }
    return plain != name && invert(map, plain, layers, source, part, parts);
}

int32_t count_layers(const dd_tensorfile *file)
{
    int32_t layers = 0;
    for (int32_t i = 0; i < file->tensor_count; i++) {
        const char *at = strstr(file->tensor[i].name, "decoder.layers.");
        const int32_t layer = at ? atoi(at + strlen("decoder.layers.")) + 1 : 0;
        layers = layer > layers ? layer : layers;
    }
    return layers;
}

dd_tensorfile *as_foreign(const dd_tensorfile *file, const ddi_keymap *map, const char *prefix, bool neck_bias)
{
    dd_tensorfile *foreign;
    good(dd_tensorfile_create(&foreign));
    for (int32_t i = 0; i < file->tensor_count; i++) {
        char source[DDI_KEY_BYTES], name[2 * DDI_KEY_BYTES];
        int32_t part, parts;
        dd_tensor view = file->tensor[i].view, whole;
        assert_true(invert(map, file->tensor[i].name, count_layers(file), source, &part, &parts));
        snprintf(name, sizeof name, "%s%s", prefix, source);
        if (!neck_bias && strncmp(file->tensor[i].name, "model.input_proj.", 17) == 0 &&
            strstr(file->tensor[i].name, ".0.bias")) {
            continue;
        }
        if (parts > 1 && dd_tensorfile_get(foreign, name, &whole) != DD_OK) {
            const int64_t rows = view.shape[0];
            view.shape[0] = rows * parts;
            void *zeros = calloc((size_t)(view.shape[0] * view.stride[0]), (size_t)dd_dtype_size(view.dtype));
            void *data = view.data;
            view.data = zeros;
            good(dd_tensorfile_set(foreign, name, &view));
            free(zeros);
            view.shape[0] = rows;
            view.data = data;
        }
        if (parts > 1) {
            good(dd_tensorfile_get(foreign, name, &whole));
            const size_t bytes = (size_t)(view.shape[0] * view.stride[0] * dd_dtype_size(view.dtype));
            memcpy((char *)whole.data + (size_t)part * bytes, view.data, bytes);
        } else {
            good(dd_tensorfile_set(foreign, name, &view));
        }
    }
    return foreign;
}
