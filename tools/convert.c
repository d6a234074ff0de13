/* SPDX-License-Identifier: Apache-2.0
 * detrdistill convert: a checkpoint of another program becomes a Hugging Face folder, or a model such a checkpoint. */
#include "common.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

option convert_options[MOST_OPTIONS + 1] = {
    {"--to", "NAME", NULL, "write a checkpoint, .safetensors, with the names of: official, mmdet2, mmdet3, .. (no folder)"},
    {"--coco-ids", NULL, NULL, "with --to: of 80 classes make 91, one for each id of COCO"},
    {"--names", "A,B,..", NULL, "names of the classes, in order"},
    {"--bf16", NULL, NULL, "weights in bfloat16: half the bytes, three digits"},
    {"--json", NULL, NULL, "what was done as one JSON object"},
    {NULL, NULL, NULL, NULL},
};

static void tell_line(void *user, int32_t level, const char *line)
{
    fprintf(stderr, "%s\n", line);
}

/* Sets the names between commas; as many as there are classes. */
static int name_classes(const verb *v, dd_model *model, const char *names, int32_t classes)
{
    int32_t c = 0;
    for (const char *at = names;; at++) {
        char name[256];
        const size_t length = strcspn(at, ",");
        if (length >= sizeof name || c == classes) {
            return complain(EXIT_USAGE, v->name, "--names: the model has %d classes, and a name at most 255 bytes", classes);
        }
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        if (dd_model_set_class(model, c++, name) != DD_OK) {
            return complain_of_library(v->name);
        }
        at += length;
        if (!*at) {
            break;
        }
    }
    return c == classes ? EXIT_DONE : complain(EXIT_USAGE, v->name, "--names: %d names for %d classes", c, classes);
}

/* ---- Weights in bfloat16 */

/* The nearest one, ties to even; NaN stays NaN. */
static uint16_t nearest_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return value != value ? 0x7fc0 : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static dd_status halve_tensor(dd_tensorfile *to, const char *name, dd_tensor view)
{
    int64_t count = 1;
    for (int32_t i = 0; i < view.ndim; i++) {
        count *= view.shape[i];
    }
    uint16_t *half = malloc((size_t)(count > 0 ? count : 1) * sizeof *half);
    if (!half) {
        return DD_ERR_NOMEM;
    }
    for (int64_t i = 0; i < count; i++) { /* a file's views are contiguous */
        half[i] = nearest_bf16(((const float *)view.data)[i]);
    }
    view.data = half;
    view.dtype = DD_BF16;
    const dd_status status = dd_tensorfile_set(to, name, &view);
    free(half);
    return status;
}

static dd_status halve_tensors(const dd_tensorfile *from, dd_tensorfile *to)
{
    int32_t count = 0;
    dd_status status = dd_tensorfile_count(from, &count);
    for (int32_t i = 0; i < count && status == DD_OK; i++) {
        const char *name;
        dd_tensor view;
        status = dd_tensorfile_at(from, i, &name, &view);
        if (status == DD_OK) {
            status = view.dtype == DD_F32 ? halve_tensor(to, name, view) : dd_tensorfile_set(to, name, &view);
        }
    }
    return status;
}

static int halve(const verb *v, const char *folder)
{
    char path[4096];
    dd_tensorfile *from = NULL, *to = NULL;
    if (snprintf(path, sizeof path, "%s/model.safetensors", folder) >= (int)sizeof path) {
        return complain(EXIT_USAGE, v->name, "the folder's name is too long");
    }
    dd_status status = dd_tensorfile_open(&from, path);
    if (status == DD_OK) {
        status = dd_tensorfile_create(&to);
    }
    if (status == DD_OK) {
        status = halve_tensors(from, to);
    }
    if (status == DD_OK) {
        status = dd_tensorfile_set_metadata(to, "format", "pt");
    }
    if (status == DD_OK) {
        status = dd_tensorfile_save(to, path);
    }
    const int code = status == DD_OK          ? EXIT_DONE
                     : status == DD_ERR_NOMEM ? complain(EXIT_MEMORY, v->name, "out of memory")
                                              : complain_of_library(v->name);
    dd_tensorfile_free(to);
    dd_tensorfile_free(from);
    return code;
}

static int report(const verb *v, const char *const *values, const char *out, int64_t parameters, int32_t classes)
{
    if (is_given(v, values, "--json")) {
        printf("{\"%s\": ", is_given(v, values, "--to") ? "file" : "folder");
        print_quoted(out);
        printf(", \"parameters\": %lld, \"classes\": %d}\n", (long long)parameters, classes);
    } else {
        printf("%s: %lld parameters, %d classes\n", out, (long long)parameters, classes);
    }
    return EXIT_DONE;
}

/* A file for another program. */
static dd_status export(const verb *v, const char *const *values, dd_model *model)
{
    char words[MOST_WORDS] = "";
    add_words(words, "names=%s coco-ids=%d", value_of(v, values, "--to"), is_given(v, values, "--coco-ids"));
    return dd_model_export(model, operand_of(values, 1), words);
}

static int save(const verb *v, const char *const *values, dd_model *model)
{
    const char *folder = operand_of(values, 1), *names = value_of(v, values, "--names");
    int64_t parameters = 0;
    int32_t classes = 0;
    if (dd_model_size(model, NULL, &parameters) != DD_OK || dd_model_class_count(model, &classes) != DD_OK) {
        return complain_of_library(v->name);
    }
    const int code = names ? name_classes(v, model, names, classes) : EXIT_DONE;
    if (code != EXIT_DONE) {
        return code;
    }
    if (is_given(v, values, "--to")) {
        return export(v, values, model) == DD_OK ? report(v, values, folder, parameters, classes)
                                                 : complain_of_library(v->name);
    }
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) {
        return complain(EXIT_DATA, v->name, "cannot make the folder %s: %s", folder, strerror(errno));
    }
    if (dd_model_save(model, folder) != DD_OK) {
        return complain_of_library(v->name);
    }
    if (is_given(v, values, "--bf16") && halve(v, folder) != EXIT_DONE) {
        return EXIT_FAILED;
    }
    return report(v, values, folder, parameters, classes);
}

int run_convert(const verb *v, const char *const *values)
{
    char words[MOST_WORDS] = "gradients=0";
    dd_context *context = NULL;
    dd_model *model = NULL;
    int code;
    if (!put_words(v, values, OF_MODEL, words)) {
        return complain(EXIT_USAGE, v->name, "the options are too long");
    }
    if (is_given(v, values, "--to") ? is_given(v, values, "--bf16") || is_given(v, values, "--names")
                                    : is_given(v, values, "--coco-ids")) {
        return complain(EXIT_USAGE, v->name, "--coco-ids goes with --to; --names and --bf16 go without it");
    }
    if (dd_context_create(&context, "device=ref") != DD_OK ||
        dd_context_set_log(context, tell_line, NULL, DD_LOG_WARNING) != DD_OK ||
        open_model(context, operand_of(values, 0), words, &model) != DD_OK) {
        code = complain_of_library(v->name);
    } else {
        code = save(v, values, model);
    }
    dd_model_free(model);
    dd_context_free(context);
    return code;
}
