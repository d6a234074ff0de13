/* SPDX-License-Identifier: Apache-2.0
 * detrdistill convert: a checkpoint of another program becomes a Hugging Face folder. */
#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

option convert_options[MOST_OPTIONS + 1] = {
    {"--names", "A,B,..", NULL, "names of the classes, in order"},
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
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) {
        return complain(EXIT_DATA, v->name, "cannot make the folder %s: %s", folder, strerror(errno));
    }
    if (dd_model_save(model, folder) != DD_OK) {
        return complain_of_library(v->name);
    }
    if (is_given(v, values, "--json")) {
        printf("{\"folder\": ");
        print_quoted(folder);
        printf(", \"parameters\": %lld, \"classes\": %d}\n", (long long)parameters, classes);
    } else {
        printf("%s: %lld parameters, %d classes\n", folder, (long long)parameters, classes);
    }
    return EXIT_DONE;
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
