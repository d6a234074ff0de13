/* SPDX-License-Identifier: Apache-2.0
 * detrdistill info: layers, parameters and operations of a model. */
#include "common.h"

#include <stdio.h>
#include <string.h>

const option info_options[] = {
    {"--size", "HxW", "800x1280", "picture for which multiply-adds are counted"},
    {"--classes", "N", "80", "of a model that is not in a folder"},
    {"--table3", NULL, NULL, "instead of MODEL: the published pairs beside what was printed, and what distillation costs here"},
    {"--layers", NULL, NULL, "also every tensor: name, shape, trained or frozen"},
    DEVICE_OPTIONS,
    {"--json", NULL, NULL, "one JSON object instead of tables"},
    {NULL, NULL, NULL, NULL},
};

enum { PARTS = 5 };
static const char *const parts[PARTS] = {"backbone", "neck", "encoder", "decoder", "heads"};

typedef struct summary {
    int64_t trained, all;
    double operations[PARTS], total;
    int32_t height, width, classes, tensors;
} summary;

/* Whole numbers in groups of three. */
static void print_grouped(int64_t number)
{
    char digits[32];
    const int length = snprintf(digits, sizeof digits, "%lld", (long long)number);
    for (int i = 0; i < length; i++) {
        printf("%s%c", i > 0 && (length - i) % 3 == 0 ? "," : "", digits[i]);
    }
}

static dd_status measure(dd_model *model, summary *s)
{
    dd_status status = dd_model_size(model, &s->trained, &s->all);
    status = status ? status : dd_model_class_count(model, &s->classes);
    status = status ? status : dd_model_parameter_count(model, &s->tensors);
    for (int i = 0; i < PARTS && status == DD_OK; i++) {
        status = dd_model_operations(model, s->height, s->width, parts[i], &s->operations[i]);
    }
    return status ? status : dd_model_operations(model, s->height, s->width, NULL, &s->total);
}

static dd_status print_layers(dd_model *model, int32_t count, bool json)
{
    dd_status status = DD_OK;
    for (int32_t i = 0; i < count && status == DD_OK; i++) {
        const char *name;
        dd_tensor view;
        int32_t trained;
        status = dd_model_parameter_at(model, i, &name, &view, &trained);
        if (status != DD_OK) {
            break;
        }
        if (json) {
            printf("%s{\"name\": ", i ? ", " : "");
            print_quoted(name);
            printf(", \"trained\": %s, \"shape\": [", trained ? "true" : "false");
        } else {
            printf("%-72s %-7s ", name, trained ? "trained" : "frozen");
        }
        for (int32_t d = 0; d < view.ndim; d++) {
            printf("%s%lld", d ? (json ? ", " : " x ") : "", (long long)view.shape[d]);
        }
        printf(json ? "]}" : "\n");
    }
    return status;
}

static int print_json(const verb *v, dd_model *model, const summary *s, bool layers)
{
    printf("{\"parameters\": {\"trained\": %lld, \"all\": %lld}, \"size\": [%d, %d], \"macs\": {\"total\": %.17g",
           (long long)s->trained, (long long)s->all, s->height, s->width, s->total);
    for (int i = 0; i < PARTS; i++) {
        printf(", \"%s\": %.17g", parts[i], s->operations[i]);
    }
    printf("}, \"classes\": [");
    for (int32_t c = 0; c < s->classes; c++) {
        const char *name;
        if (dd_model_class_at(model, c, &name) != DD_OK) {
            return complain_of_library(v->name);
        }
        printf(c ? ", " : "");
        print_quoted(name);
    }
    printf("]");
    if (layers) {
        printf(", \"layers\": [");
        if (print_layers(model, s->tensors, true) != DD_OK) {
            return complain_of_library(v->name);
        }
        printf("]");
    }
    printf("}\n");
    return EXIT_DONE;
}

static int print_tables(const verb *v, dd_model *model, const summary *s, bool layers)
{
    printf("parameters     ");
    print_grouped(s->trained);
    printf(" trained, ");
    print_grouped(s->all);
    printf(" with frozen ones, in %d tensors\n", s->tensors);
    printf("multiply-adds  %.3f G for %d x %d (height x width), of which\n", s->total / 1e9, s->height, s->width);
    for (int i = 0; i < PARTS; i++) {
        printf("    %-10s %10.3f G\n", parts[i], s->operations[i] / 1e9);
    }
    printf("classes        %d:", s->classes);
    for (int32_t c = 0; c < s->classes; c++) {
        const char *name;
        if (dd_model_class_at(model, c, &name) != DD_OK) {
            return complain_of_library(v->name);
        }
        printf("%s %s", c ? "," : "", name);
    }
    printf("\n");
    if (layers) {
        printf("\n");
        return print_layers(model, s->tensors, false) == DD_OK ? EXIT_DONE : complain_of_library(v->name);
    }
    return EXIT_DONE;
}

int run_info(const verb *v, const char *const *values)
{
    dd_context *context = NULL;
    dd_model *model = NULL;
    summary s = {0};
    int classes, code = EXIT_DONE;
    char rest;
    const bool table3 = is_given(v, values, "--table3");
    if (table3 == (operand_of(values, 0) != NULL)) {
        return complain(EXIT_USAGE, v->name, "MODEL is missing, or --table3; see detrdistill info --help");
    }
    if (sscanf(value_of(v, values, "--size"), "%dx%d%c", &s.height, &s.width, &rest) != 2) {
        return complain(EXIT_USAGE, v->name, "--size must be HEIGHTxWIDTH, e.g. 800x1280");
    }
    if (sscanf(value_of(v, values, "--classes"), "%d%c", &classes, &rest) != 1) {
        return complain(EXIT_USAGE, v->name, "--classes must be a number");
    }
    if (table3) {
        code = open_context(v, values, &context) == DD_OK ? print_table3(v, context, is_given(v, values, "--json"))
                                                          : complain_of_library(v->name);
    } else if (open_context(v, values, &context) != DD_OK ||
               make_model(context, operand_of(values, 0), classes, NULL, &model) != DD_OK || measure(model, &s) != DD_OK) {
        code = complain_of_library(v->name);
    } else {
        const bool layers = is_given(v, values, "--layers");
        code = is_given(v, values, "--json") ? print_json(v, model, &s, layers) : print_tables(v, model, &s, layers);
    }
    dd_model_free(model);
    dd_context_free(context);
    return code;
}
