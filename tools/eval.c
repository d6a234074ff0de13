/* SPDX-License-Identifier: Apache-2.0
 * detrdistill eval: average precision of a model, or from files. */
#include "common.h"

#include <stdio.h>
#include <string.h>

const option eval_options[] = {
    {"--data", "DIR", NULL, "with MODEL: a COCO or Pascal VOC folder, or \"scenes\""},
    {"--annotations", "FILE", NULL, "without: COCO annotations"},
    {"--voc", "DIR", NULL, "or a Pascal VOC folder: DIR/Annotations/*.xml, or DIR/*.xml"},
    {"--split", "NAME", NULL, "with --data (val, else test), and with --voc: the pictures of DIR/ImageSets/Main/NAME.txt"},
    {"--results", "FILE", NULL, "detections, for --annotations and --voc"},
    {"--iou", "X", "0.5", "with --voc: overlap from which a detection is right"},
    {"--points", "11|all", "11", "with --voc: eleven recalls (2007), or the area under the curve (since 2010)"},
    {"--plus-one", "0|1", "0", "with --voc: 1 makes sides one pixel longer, as the development kit does"},
    MODEL_LOADER_OPTIONS,
    DEVICE_OPTIONS,
    {"--json", NULL, NULL, "one JSON object instead of tables"},
    {NULL, NULL, NULL, NULL},
};

static const char *const coco_name[12] = {"AP",  "AP50", "AP75",  "AP_S", "AP_M", "AP_L",
                                          "AR1", "AR10", "AR100", "AR_S", "AR_M", "AR_L"};
static const char *const coco_text[12] = {"average precision, IoU .50 to .95",
                                          "at IoU .50",
                                          "at IoU .75",
                                          "small objects (area below 32x32)",
                                          "medium objects",
                                          "large objects (area above 96x96)",
                                          "average recall, 1 detection of a class in an image",
                                          "10 detections",
                                          "100 detections",
                                          "small objects",
                                          "medium objects",
                                          "large objects"};

typedef struct numbers {
    int count;
    const char *const *name, *const *text;
    double value[12];
    int64_t left_out;
    const dd_dataset *data; /* NULL: the evaluation knows the names of the classes */
} numbers;

static int print_json(const dd_eval *eval, const numbers *n, int32_t classes)
{
    putchar('{');
    for (int i = 0; i < n->count; i++) {
        printf("\"%s\": %.17g, ", n->name[i], n->value[i]);
    }
    printf("\"left_out\": %lld, \"classes\": [", (long long)n->left_out);
    for (int32_t i = 0; i < classes; i++) {
        int64_t label, objects, detections;
        const char *name;
        double ap;
        if (dd_eval_class_at(eval, i, &label, &name, &ap, &objects, &detections) != DD_OK) {
            return complain_of_library("eval");
        }
        printf("%s{\"id\": %lld, \"name\": ", i ? ", " : "", (long long)label);
        print_quoted(n->data ? name_of_class(n->data, label) : name);
        printf(", \"AP\": %.17g, \"objects\": %lld, \"detections\": %lld}", ap, (long long)objects, (long long)detections);
    }
    printf("]}\n");
    return EXIT_DONE;
}

static void print_number(double value)
{
    if (value < 0) {
        printf("%8s", "-");
    } else {
        printf("%8.4f", value);
    }
}

static int print_tables(const dd_eval *eval, const numbers *n, int32_t classes)
{
    for (int i = 0; i < n->count; i++) {
        printf("%-6s", n->name[i]);
        print_number(n->value[i]);
        printf("   %s\n", n->text[i]);
    }
    printf("\n%-24s %8s %9s %11s\n", "class", "AP", "objects", "detections");
    for (int32_t i = 0; i < classes; i++) {
        int64_t label, objects, detections;
        const char *name;
        double ap;
        char number[24];
        if (dd_eval_class_at(eval, i, &label, &name, &ap, &objects, &detections) != DD_OK) {
            return complain_of_library("eval");
        }
        name = n->data ? name_of_class(n->data, label) : name;
        snprintf(number, sizeof number, "%lld", (long long)label);
        printf("%-24s ", name[0] ? name : number);
        print_number(ap);
        printf(" %9lld %11lld\n", (long long)objects, (long long)detections);
    }
    if (n->left_out > 0) {
        printf("\n%lld detections are on pictures or of classes that the annotations do not have; they were left out.\n",
               (long long)n->left_out);
    }
    return EXIT_DONE;
}

static dd_status evaluate_coco(dd_eval *eval, const char *annotations, const char *results, numbers *n)
{
    n->count = 12;
    n->name = coco_name;
    n->text = coco_text;
    dd_status status = dd_eval_add_coco_annotations(eval, annotations);
    if (status == DD_OK) {
        status = dd_eval_add_coco_results(eval, results, &n->left_out);
    }
    return status == DD_OK ? dd_eval_finish(eval, n->value) : status;
}

static dd_status evaluate_voc(dd_eval *eval, const verb *v, const char *const *values, const char *results, numbers *n)
{
    static const char *const name[] = {"mAP"}, *const text[] = {"mean over the classes"};
    char options[256];
    n->count = 1;
    n->name = name;
    n->text = text;
    snprintf(options, sizeof options, "iou=%s points=%s plus_one=%s", value_of(v, values, "--iou"),
             value_of(v, values, "--points"), value_of(v, values, "--plus-one"));
    dd_status status = dd_eval_add_voc_annotations(eval, value_of(v, values, "--voc"), value_of(v, values, "--split"));
    if (status == DD_OK) {
        status = dd_eval_add_voc_results(eval, results, &n->left_out);
    }
    return status == DD_OK ? dd_eval_finish_voc(eval, options, n->value) : status;
}

static int evaluate_opened(const verb *v, const char *const *values, dd_model *model, dd_dataset *data, dd_eval *eval,
                           numbers *n)
{
    char words[MOST_WORDS] = "";
    class_map map = {0};
    int code = EXIT_DONE;
    put_words(v, values, OF_LOADER, words);
    if (!map_classes(model, data, &map)) {
        code = complain_of_library(v->name);
    } else if (map.matched == 0) {
        code = complain(EXIT_DATA, v->name,
                        "the model and the data set have no class in common; detrdistill info lists the model's");
    } else {
        code = evaluate_model(v, model, data, words, &map, eval);
    }
    free_classes(&map);
    n->count = 12;
    n->name = coco_name;
    n->text = coco_text;
    n->data = data;
    return code != EXIT_DONE || dd_eval_finish(eval, n->value) == DD_OK ? code : complain_of_library(v->name);
}

static int print_numbers(const verb *v, const char *const *values, const dd_eval *eval, const numbers *n)
{
    int32_t classes = 0;
    if (dd_eval_class_count(eval, &classes) != DD_OK) {
        return complain_of_library(v->name);
    }
    return is_given(v, values, "--json") ? print_json(eval, n, classes) : print_tables(eval, n, classes);
}

static int run_with_model(const verb *v, const char *const *values)
{
    static const char *const splits[] = {"val", "test", NULL};
    dd_context *context = NULL;
    dd_model *model = NULL;
    dd_dataset *data = NULL;
    dd_eval *eval = NULL;
    numbers n = {0};
    int code = EXIT_DONE;
    if (open_context(v, values, &context) != DD_OK ||
        open_model(context, operand_of(values, 0), "gradients=0", &model) != DD_OK ||
        open_split(value_of(v, values, "--data"), value_of(v, values, "--split"), splits, NULL, &data) != DD_OK ||
        dd_eval_create(&eval) != DD_OK) {
        code = complain_of_library(v->name);
    } else {
        code = evaluate_opened(v, values, model, data, eval, &n);
    }
    code = code == EXIT_DONE ? print_numbers(v, values, eval, &n) : code;
    dd_eval_free(eval);
    dd_dataset_free(data);
    dd_model_free(model);
    dd_context_free(context);
    return code;
}

static int check(const verb *v, const char *const *values)
{
    static const char *const of_voc[] = {"--split", "--iou", "--points", "--plus-one"};
    const bool voc = value_of(v, values, "--voc") != NULL, model = operand_of(values, 0) != NULL;
    if (model != is_given(v, values, "--data")) {
        return complain(EXIT_USAGE, v->name,
                        model ? "--data DIR is missing: the pictures to look at" : "--data goes with MODEL");
    }
    if (model) {
        return EXIT_DONE;
    }
    if (voc == (value_of(v, values, "--annotations") != NULL)) {
        return complain(EXIT_USAGE, v->name, "give either --annotations FILE or --voc DIR");
    }
    if (!value_of(v, values, "--results")) {
        return complain(EXIT_USAGE, v->name, "--results FILE is missing: the detections to be judged");
    }
    for (int k = 0; !voc && k < 4; k++) {
        for (int i = 0; v->options[i].name; i++) {
            if (strcmp(v->options[i].name, of_voc[k]) == 0 && values[i]) {
                return complain(EXIT_USAGE, v->name, "%s goes with --voc", of_voc[k]);
            }
        }
    }
    return EXIT_DONE;
}

int run_eval(const verb *v, const char *const *values)
{
    dd_eval *eval = NULL;
    numbers n = {0};
    int code = check(v, values);
    if (code != EXIT_DONE) {
        return code;
    }
    if (operand_of(values, 0)) {
        return run_with_model(v, values);
    }
    const char *annotations = value_of(v, values, "--annotations"), *results = value_of(v, values, "--results");
    dd_status status = dd_eval_create(&eval);
    if (status == DD_OK) {
        status = annotations ? evaluate_coco(eval, annotations, results, &n) : evaluate_voc(eval, v, values, results, &n);
    }
    code = status == DD_OK ? print_numbers(v, values, eval, &n) : complain_of_library(v->name);
    dd_eval_free(eval);
    return code;
}
