/* SPDX-License-Identifier: Apache-2.0
 * detrdistill eval: average precision from files. */
#include "arguments.h"

#include <detrdistill/detrdistill.h>
#include <stdio.h>
#include <string.h>

const option eval_options[] = {
    {"--annotations", "FILE", NULL, "COCO annotations"},
    {"--voc", "DIR", NULL, "or a Pascal VOC folder: DIR/Annotations/*.xml, or DIR/*.xml"},
    {"--split", "NAME", NULL, "with --voc: the pictures of DIR/ImageSets/Main/NAME.txt"},
    {"--results", "FILE", NULL, "detections"},
    {"--iou", "X", "0.5", "with --voc: overlap from which a detection is right"},
    {"--points", "11|all", "11", "with --voc: eleven recalls (2007), or the area under the curve (since 2010)"},
    {"--plus-one", "0|1", "0", "with --voc: 1 makes sides one pixel longer, as the development kit does"},
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
} numbers;

/* A name in quotation marks, for JSON. */
static void print_quoted(const char *text)
{
    putchar('"');
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') {
            printf("\\%c", *c);
        } else if (*c < ' ') {
            printf("\\u%04x", *c);
        } else {
            putchar(*c);
        }
    }
    putchar('"');
}

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
        print_quoted(name);
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

static int check(const verb *v, const char *const *values)
{
    static const char *const of_voc[] = {"--split", "--iou", "--points", "--plus-one"};
    const bool voc = value_of(v, values, "--voc") != NULL;
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
    int32_t classes = 0;
    int code = check(v, values);
    if (code != EXIT_DONE) {
        return code;
    }
    const char *annotations = value_of(v, values, "--annotations"), *results = value_of(v, values, "--results");
    dd_status status = dd_eval_create(&eval);
    if (status == DD_OK) {
        status = annotations ? evaluate_coco(eval, annotations, results, &n) : evaluate_voc(eval, v, values, results, &n);
    }
    if (status == DD_OK) {
        status = dd_eval_class_count(eval, &classes);
    }
    if (status != DD_OK) {
        code = complain_of_library(v->name);
        code = status == DD_ERR_OPTION ? EXIT_USAGE : code;
    } else {
        code = value_of(v, values, "--json") ? print_json(eval, &n, classes) : print_tables(eval, &n, classes);
    }
    dd_eval_free(eval);
    return code;
}
