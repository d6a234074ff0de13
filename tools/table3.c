/* SPDX-License-Identifier: Apache-2.0
 * detrdistill info --table3: parameters, multiply-adds and the cost of distillation of the published pairs, beside what was
 * printed (distillation F.7). */
#include "common.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { HEIGHT = 800, WIDTH = 1280, CLASSES = 80, STAGES = 6, TOP = 100, PAIRS = 3, MODELS = 2, TERMS = 4 };

/* Of a matched pair of boxes: L1 and GIoU, about. */
#define BOX_OPERATIONS 32.0

static const struct {
    const char *name, *model; /* "%s": the backbone */
    int queries, channels, finest, levels;
    double parameters[MODELS], operations[MODELS]; /* as printed: student and teacher; millions, and 1e9 */
    double distillation, share;                    /* 1e9, per cent */
} pairs[PAIRS] = {
    {"AdaMixer", "adamixer:%s,queries=%d", 100, 256, 4, 4, {134.57, 153.56}, {102.88, 178.95}, 24.49, 7.99},
    {"Deformable DETR",
     "deformable_detr:%s,neck-bias=0,queries=%d",
     300,
     256,
     8,
     4,
     {39.84, 58.78},
     {192.26, 287.34},
     51.10,
     9.63},
    {"Conditional DETR", "conditional_detr:%s,queries=%d", 300, 256, 32, 1, {43.19, 62.13}, {95.32, 171.4}, 18.35, 6.43},
};
static const char *const backbones[MODELS] = {"r50", "r101"}, *const roles[MODELS] = {"student R-50", "teacher R-101"};
static const char *const terms[TERMS] = {"prior", "similarity", "feature-loss", "logits"};
static const char *const term_text[TERMS] = {"prior group: decoder and heads on the teacher's queries",
                                             "similarity of the teacher's features and best queries", "feature loss",
                                             "logits: classes and boxes of all pairs, six stages"};

typedef struct row {
    int64_t parameters[MODELS];
    double operations[MODELS], term[TERMS], distillation, share;
    double similarity_written; /* with a product for each entry, as the formula has it */
} row;

static dd_status open_pair(dd_context *context, int pair, int model, int queries, dd_model **made)
{
    char pattern[96] = "", name[128];
    const char *slot = strstr(pairs[pair].model, "%s");
    snprintf(pattern, sizeof pattern, "%.*s%s", (int)(slot - pairs[pair].model), pairs[pair].model, backbones[model]);
    const char *rest = slot + 2, *number = strstr(rest, "%d");
    snprintf(name, sizeof name, "%s%.*s%d", pattern, (int)(number - rest), rest, queries);
    return make_model(context, name, CLASSES, "gradients=0", made);
}

static dd_status count_model(dd_context *context, int pair, int model, int queries, int64_t *parameters, double *operations)
{
    dd_model *made = NULL;
    dd_status status = open_pair(context, pair, model, queries, &made);
    status = status || !parameters ? status : dd_model_size(made, parameters, NULL);
    status = status ? status : dd_model_operations(made, HEIGHT, WIDTH, NULL, operations);
    dd_model_free(made);
    return status;
}

/* Positions of all levels of the features that are compared. */
static double count_positions(int pair)
{
    double positions = 0;
    for (int l = 0, stride = pairs[pair].finest; l < pairs[pair].levels; l++, stride *= 2) {
        positions += (double)((HEIGHT + stride - 1) / stride) * (double)((WIDTH + stride - 1) / stride);
    }
    return positions;
}

/* The prior group shares all that does not depend on queries: what a model with as many more queries takes more. */
static dd_status count_terms(dd_context *context, int pair, row *r)
{
    const double N = pairs[pair].queries, d = pairs[pair].channels, P = count_positions(pair);
    double both = 0;
    const dd_status status = count_model(context, pair, 0, 2 * pairs[pair].queries, NULL, &both);
    r->term[0] = both - r->operations[0];
    r->term[1] = STAGES * TOP * d + (STAGES + 1) * P * d; /* entries are summed up first, for the map is linear in them */
    r->term[2] = P * (2 * d + STAGES);
    r->term[3] = STAGES * N * N * (CLASSES + BOX_OPERATIONS);
    r->similarity_written = STAGES * TOP * P * d;
    for (int i = 0; i < TERMS; i++) {
        r->distillation += r->term[i];
    }
    r->share = 100 * r->distillation / (r->operations[0] + r->operations[1] + r->distillation);
    return status;
}

static dd_status count_pair(dd_context *context, int pair, row *r)
{
    dd_status status = DD_OK;
    for (int m = 0; m < MODELS && status == DD_OK; m++) {
        status = count_model(context, pair, m, pairs[pair].queries, &r->parameters[m], &r->operations[m]);
    }
    return status ? status : count_terms(context, pair, r);
}

static void print_models(int pair, const row *r)
{
    for (int m = 0; m < MODELS; m++) {
        printf("  %-42s %9.2f %9.2f %10.2f %10.2f\n", roles[m], (double)r->parameters[m] / 1e6, pairs[pair].parameters[m],
               r->operations[m] / 1e9, pairs[pair].operations[m]);
    }
}

static void print_pair(int pair, const row *r)
{
    printf("%s, %d queries\n", pairs[pair].name, pairs[pair].queries);
    print_models(pair, r);
    printf("  %-42s %9s %9s %10.2f %10.2f\n", "distillation", "", "", r->distillation / 1e9, pairs[pair].distillation);
    for (int i = 0; i < TERMS; i++) {
        printf("    %-60s %10.3f\n", term_text[i], r->term[i] / 1e9);
    }
    printf("    %-60s %10.3f\n", "(similarity with a product for each of 100 entries)", r->similarity_written / 1e9);
    printf("  %-62s %8.2f %% %8.2f %%\n\n", "share: distillation / (teacher + student + distillation)", r->share,
           pairs[pair].share);
}

static void print_json_row(int pair, const row *r)
{
    printf("%s{\"name\": ", pair ? ",\n " : "");
    print_quoted(pairs[pair].name);
    printf(", \"queries\": %d, \"published\": {\"parameters\": [%.2f, %.2f], \"gmacs\": [%.2f, %.2f], "
           "\"distillation\": %.2f, \"share\": %.2f}",
           pairs[pair].queries, pairs[pair].parameters[0], pairs[pair].parameters[1], pairs[pair].operations[0],
           pairs[pair].operations[1], pairs[pair].distillation, pairs[pair].share);
    printf(", \"parameters\": [%lld, %lld], \"macs\": [%.17g, %.17g], \"distillation\": %.17g, \"share\": %.17g, "
           "\"similarity-written\": %.17g, \"terms\": {",
           (long long)r->parameters[0], (long long)r->parameters[1], r->operations[0], r->operations[1], r->distillation,
           r->share, r->similarity_written);
    for (int i = 0; i < TERMS; i++) {
        printf("%s\"%s\": %.17g", i ? ", " : "", terms[i], r->term[i]);
    }
    printf("}}");
}

int print_table3(const verb *v, dd_context *context, bool json)
{
    row rows[PAIRS] = {{{0}}};
    for (int i = 0; i < PAIRS; i++) {
        if (count_pair(context, i, &rows[i]) != DD_OK) {
            return complain_of_library(v->name);
        }
    }
    if (json) {
        printf("[");
        for (int i = 0; i < PAIRS; i++) {
            print_json_row(i, &rows[i]);
        }
        printf("]\n");
        return EXIT_DONE;
    }
    printf("%-44s %9s %9s %10s %10s\n%-44s %9s %9s %10s %10s\n\n", "", "M params", "printed", "GMAC", "printed",
           "one picture of 800 x 1280, forward passes", "trained", "", "", "");
    for (int i = 0; i < PAIRS; i++) {
        print_pair(i, &rows[i]);
    }
    printf(
        "Printed: Table 3 of the supplement, whose own terms of distillation are not known. 287.34 and 192.26 cannot both be\n"
        "counts of models that differ in their backbone alone. Matching (an assignment problem for each picture and stage)\n"
        "is no multiply-add and is left out; so are backward passes, as there.\n");
    return EXIT_DONE;
}
