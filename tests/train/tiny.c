/* SPDX-License-Identifier: Apache-2.0
 * Tiny models on generated scenes. */
#include "tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void assert_ok(dd_status status, const char *call, const char *file, int line)
{
    if (status != DD_OK) {
        print_error("%s: %s: %s\n", call, dd_status_name(status), dd_error_message());
    }
    _assert_int_equal(status, DD_OK, file, line);
}

void tiny_open(tiny *t, const char *words, const char *context)
{
    char text[1024];
    memset(t, 0, sizeof *t);
    snprintf(text, sizeof text, "%s %s", TINY_DEVICE, context);
    OK(dd_context_create(&t->context, text));
    snprintf(text, sizeof text, "%s %s", TINY_STUDENT, words);
    OK(dd_model_create(&t->student, t->context, text));
    OK(dd_dataset_open(&t->train, TINY_SCENES, "split=train"));
    OK(dd_dataset_open(&t->validation, TINY_SCENES, "split=val"));
}

void tiny_close(tiny *t)
{
    dd_trainer_free(t->trainer);
    dd_model_free(t->student);
    dd_model_free(t->teacher);
    dd_dataset_free(t->train);
    dd_dataset_free(t->validation);
    dd_context_free(t->context);
    memset(t, 0, sizeof *t);
}

dd_status tiny_train(tiny *t, const char *folder, const char *options, const char *distiller)
{
    char text[1024];
    snprintf(text, sizeof text, TINY_DATA "%s", options);
    return dd_trainer_create(&t->trainer, t->student, t->teacher, t->train, t->validation, folder, text, distiller);
}

uint64_t tiny_hash(dd_model *model)
{
    uint64_t hash = 14695981039346656037u;
    int32_t count;
    OK(dd_model_parameter_count(model, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view;
        int64_t bytes = 4;
        OK(dd_model_parameter_at(model, i, &name, &view, NULL));
        for (int32_t d = 0; d < view.ndim; d++) {
            bytes *= view.shape[d];
        }
        for (int64_t k = 0; k < bytes; k++) {
            hash = (hash ^ ((const unsigned char *)view.data)[k]) * 1099511628211u;
        }
    }
    return hash;
}

double tiny_value(const tiny *t, const char *name)
{
    double value;
    OK(dd_trainer_value_get(t->trainer, name, &value));
    return value;
}

void tiny_folder(char path[256])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, 256, "%s/detrdistill-train-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(path));
}

void tiny_remove(const char *path)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}
