/* SPDX-License-Identifier: Apache-2.0
 * detrdistill plan: memory and time of a training step before it runs, for one shape of batch. */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const option plan_options[] = {
    {"--student", "NAME", NULL, "deformable_detr:r50, or a folder with a model"},
    {"--teacher", "NAME", NULL, "the same; none: the student learns alone"},
    {"--size", "HxW", "800x1333", "the largest batch: height and width"},
    {"--batch", "N", "2", "its pictures"},
    {"--classes", "N", "80", "of models that are not in a folder"},
    DEVICE_OPTIONS,
    {"--json", NULL, NULL, "one JSON object instead of a table"},
    {NULL, NULL, NULL, NULL},
};

typedef struct part {
    double activations, parameters, gradients, moments, total, products;
} part;

typedef struct plan {
    int height, width, batch, classes;
    part student, teacher;
    bool has_teacher;
    double rate; /* multiply-adds a second */
} plan;

static dd_status plan_model(dd_model *model, const plan *p, int32_t gradients, part *out)
{
    static const char *const what[] = {"activations", "parameters", "gradients", "products"};
    double *const to[] = {&out->activations, &out->parameters, &out->gradients, &out->products};
    int64_t trained = 0;
    dd_status status = dd_model_size(model, &trained, NULL);
    for (int i = 0; i < 4 && status == DD_OK; i++) {
        status = dd_model_plan(model, p->batch, p->height, p->width, 1, gradients, what[i], to[i]);
    }
    out->moments = gradients ? 8.0 * (double)trained : 0; /* AdamW: two of four bytes */
    out->total = out->activations + out->parameters + out->gradients + out->moments;
    return status;
}

/* The rate of this machine: a small detector on one picture, the second of two passes. */
static dd_status measure_rate(dd_context *context, double *rate)
{
    static float pixels[3 * 320 * 320];
    dd_model *model = NULL;
    dd_tensor view;
    double products = 0, best = 1e30;
    dd_status status = dd_model_create(&model, context, "backbone=resnet-50 gradients=0 classes=20 queries=100");
    status = status ? status
                    : dd_tensor_init(&view, pixels, DD_F32, 4, (const int64_t[]){1, 3, 320, 320}, NULL, DD_DEVICE_CPU, 0, 0);
    status = status ? status : dd_model_plan(model, 1, 320, 320, 0, 0, "products", &products);
    for (int i = 0; i < 3 && status == DD_OK; i++) {
        const double begin = seconds_now();
        status = dd_model_forward(model, &view, NULL);
        const double seconds = seconds_now() - begin;
        best = seconds < best ? seconds : best;
    }
    *rate = status == DD_OK ? products / best : 0;
    dd_model_free(model);
    return status;
}

/* Forward and backward of the student are three times its forward pass; the prior group adds to its decoder, which is small. */
static double step_seconds(const plan *p)
{
    return (3 * p->student.products + p->teacher.products) / p->rate;
}

/* The teacher runs in the student's memory, before the student does. */
static double all_bytes(const plan *p)
{
    const double shared = p->student.activations < p->teacher.activations ? p->student.activations : p->teacher.activations;
    return p->student.total + p->teacher.total - shared;
}

static void print_row(const char *name, double student, double teacher)
{
    printf("%-14s %10.1f %10.1f\n", name, student / (1 << 20), teacher / (1 << 20));
}

static void print_plan(const verb *v, const char *const *values, const plan *p)
{
    const part *s = &p->student, *t = &p->teacher;
    if (is_given(v, values, "--json")) {
        printf("{\"batch\": %d, \"size\": [%d, %d], \"bytes\": %.0f, \"seconds\": %.4g", p->batch, p->height, p->width,
               all_bytes(p), step_seconds(p));
        for (int i = 0; i < 1 + p->has_teacher; i++) {
            const part *m = i ? t : s;
            printf(", \"%s\": {\"activations\": %.0f, \"parameters\": %.0f, \"gradients\": %.0f, \"moments\": %.0f, "
                   "\"products\": %.0f}",
                   i ? "teacher" : "student", m->activations, m->parameters, m->gradients, m->moments, m->products);
        }
        printf("}\n");
        return;
    }
    printf("a step of %d pictures of %d x %d, in MiB\n%-14s %10s %10s\n", p->batch, p->height, p->width, "", "student",
           p->has_teacher ? "teacher" : "");
    print_row("activations", s->activations, t->activations);
    print_row("parameters", s->parameters, t->parameters);
    print_row("gradients", s->gradients, t->gradients);
    print_row("AdamW", s->moments, t->moments);
    print_row("together", s->total, t->total);
    printf(
        "\n%.2f GiB in all%s, without the kernels' scratch memory; about %.2f s a step here (%.0f G multiply-adds a second)\n",
        all_bytes(p) / (1 << 30), p->has_teacher ? ", one model's activations after the other's in the same memory" : "",
        step_seconds(p), p->rate / 1e9);
}

static dd_status plan_one(dd_context *context, const char *name, const plan *p, int32_t gradients, part *out)
{
    dd_model *model = NULL;
    dd_status status = make_model(context, name, p->classes, NULL, &model);
    status = status ? status : dd_model_set_mode(model, 0, gradients);
    status = status ? status : plan_model(model, p, gradients, out);
    dd_model_free(model);
    return status;
}

int run_plan(const verb *v, const char *const *values)
{
    const char *student = value_of(v, values, "--student"), *teacher = value_of(v, values, "--teacher");
    plan p = {.has_teacher = teacher != NULL};
    dd_context *context = NULL;
    char rest;
    int code = EXIT_DONE;
    if (!student) {
        return complain(EXIT_USAGE, v->name, "--student is missing; see detrdistill plan --help");
    }
    if (sscanf(value_of(v, values, "--size"), "%dx%d%c", &p.height, &p.width, &rest) != 2 ||
        sscanf(value_of(v, values, "--batch"), "%d%c", &p.batch, &rest) != 1 ||
        sscanf(value_of(v, values, "--classes"), "%d%c", &p.classes, &rest) != 1) {
        return complain(EXIT_USAGE, v->name, "--size must be HEIGHTxWIDTH, --batch and --classes numbers");
    }
    if (open_context(v, values, &context) != DD_OK || plan_one(context, student, &p, 1, &p.student) != DD_OK ||
        (teacher && plan_one(context, teacher, &p, 0, &p.teacher) != DD_OK) || measure_rate(context, &p.rate) != DD_OK) {
        code = complain_of_library(v->name);
    } else {
        print_plan(v, values, &p);
    }
    dd_context_free(context);
    return code;
}
