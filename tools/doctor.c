/* SPDX-License-Identifier: Apache-2.0
 * detrdistill doctor: what a user should know before a run: the data, the teacher on it, the classes, memory, and what share
 * each term of distillation has in the student's gradient. */
#include "common.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const option doctor_options[] = {
    {"--data", "DIR", NULL, "a COCO or Pascal VOC folder, or \"scenes\""},
    {"--teacher", "DIR", NULL, "a folder with a model, or a run"},
    {"--student", "NAME", "deformable_detr:r50", "as in train"},
    {"--kd", "WORDS", NULL, "options of distillation, as in train"},
    {"--split", "NAME", NULL, "pictures to learn from (train)"},
    {"--val-split", "NAME", NULL, "pictures for the teacher's AP (val, else test)"},
    {"--limit", "N", NULL, "only the first N of these; 0: all (0)", OF_LOADER},
    {"--steps", "N", "2", "pictures on which gradients are measured; 0: none"},
    MODEL_LOADER_OPTIONS,
    DEVICE_OPTIONS,
    {"--json", NULL, NULL, "one JSON object instead of text"},
    {NULL, NULL, NULL, NULL},
};

enum { MODULES = 6, MOST_ADVICE = 8 };
static const char *const modules[MODULES] = {"det", "encoder", "logits", "features", "prior", "contrastive"};

typedef struct visit {
    const verb *v;
    const char *const *values;
    bool json;
    dd_context *context;
    dd_model *teacher, *student;
    dd_dataset *train, *validation;
    class_map map;
    double ap[12], bytes, norm[MODULES];
    int32_t measured; /* pictures */
    const char *advice[MOST_ADVICE];
    int advices;
} visit;

static void advise(visit *d, const char *sentence)
{
    if (d->advices < MOST_ADVICE) {
        d->advice[d->advices++] = sentence;
    }
}

/* ---- Data and classes */

static int tell_data(const visit *d)
{
    int32_t statistics = 0, classes = 0;
    if (dd_dataset_statistic_count(d->train, &statistics) != DD_OK || dd_dataset_class_count(d->train, &classes) != DD_OK) {
        return complain_of_library(d->v->name);
    }
    printf(d->json ? "{\"data\": {\"classes\": %d" : "data: %d classes", classes);
    for (int32_t i = 0; i < statistics; i++) {
        const char *name;
        int64_t value;
        if (dd_dataset_statistic_at(d->train, i, &name, &value) != DD_OK) {
            return complain_of_library(d->v->name);
        }
        if (d->json || value > 0) {
            printf(d->json ? ", \"%s\": %lld" : ", %s %lld", name, (long long)value);
        }
    }
    printf(d->json ? "}" : "\n");
    return EXIT_DONE;
}

static void tell_classes(const visit *d)
{
    const class_map *m = &d->map;
    if (d->json) {
        printf(", \"classes\": {\"teacher\": %d, \"data\": %d, \"matched\": %d, \"by\": \"%s\", \"pairs\": [", m->labels,
               m->classes, m->matched, m->by_name ? "name" : "order");
    } else {
        printf("classes: %d of the data set's %d are the teacher's, by %s\n", m->matched, m->classes,
               m->by_name ? "name" : "order");
    }
    bool first = true;
    for (int32_t label = 0; label < m->labels; label++) {
        const char *own = "", *theirs = "";
        if (m->to_data[label] < 0) {
            continue;
        }
        dd_model_class_at(d->teacher, label, &own);
        dd_dataset_class_at(d->train, m->to_data[label], NULL, &theirs);
        if (d->json) {
            printf("%s[", first ? "" : ", ");
            print_quoted(own);
            printf(", ");
            print_quoted(theirs);
            printf("]");
        } else if (m->classes <= 20) {
            printf("    %s -> %s\n", own, theirs);
        }
        first = false;
    }
    printf(d->json ? "]}" : "");
}

/* ---- The teacher */

static int judge_teacher(visit *d)
{
    char words[MOST_WORDS] = "";
    dd_eval *eval = NULL;
    put_words(d->v, d->values, OF_LOADER, words);
    if (dd_eval_create(&eval) != DD_OK) {
        return complain_of_library(d->v->name);
    }
    int code = evaluate_model(d->v, d->teacher, d->validation, words, &d->map, eval);
    if (code == EXIT_DONE && dd_eval_finish(eval, d->ap) != DD_OK) {
        code = complain_of_library(d->v->name);
    }
    dd_eval_free(eval);
    if (code != EXIT_DONE) {
        return code;
    }
    printf(d->json ? ", \"teacher\": {\"AP\": %.17g, \"AP50\": %.17g}"
                   : "teacher: AP %.4f, AP50 %.4f on the validation pictures\n",
           d->ap[0], d->ap[1]);
    if (d->ap[0] < .05) {
        advise(d, "the teacher hardly finds anything on these pictures: its classes, its preprocessing (--sizes) or the "
                  "teacher itself "
                  "are wrong for them; distillation will not help");
    }
    return EXIT_DONE;
}

/* ---- Memory */

static dd_status plan_memory(visit *d)
{
    const char *batch = value_of(d->v, d->values, "--batch");
    double student = 0, teacher = 0, own = 0, lent = 0; /* the teacher runs in the student's memory */
    int64_t trained = 0;
    dd_status status = dd_model_plan(d->student, atoi(batch), 800, 1333, 1, 1, "total", &student);
    status = status ? status : dd_model_plan(d->teacher, atoi(batch), 800, 1333, 1, 0, "total", &teacher);
    status = status ? status : dd_model_plan(d->student, atoi(batch), 800, 1333, 1, 1, "activations", &own);
    status = status ? status : dd_model_plan(d->teacher, atoi(batch), 800, 1333, 1, 0, "activations", &lent);
    status = status ? status : dd_model_size(d->student, &trained, NULL);
    d->bytes = student + teacher - (own < lent ? own : lent) + 8.0 * (double)trained;
    if (status == DD_OK) {
        printf(d->json ? ", \"memory\": {\"bytes\": %.0f, \"batch\": %s}"
                       : "memory: %.0f bytes for a step of %s of 800 x 1333 pixels (detrdistill plan has the parts)\n",
               d->bytes, batch);
    }
    return status;
}

/* ---- Shares of the terms */

static dd_status gradient_length(dd_model *model, double *length)
{
    int32_t count = 0;
    double sum = 0;
    dd_status status = dd_model_parameter_count(model, &count);
    for (int32_t k = 0; k < count && status == DD_OK; k++) {
        const char *name;
        dd_tensor view;
        int32_t trained;
        int64_t elements = 1;
        status = dd_model_parameter_at(model, k, &name, &view, &trained);
        if (status != DD_OK || !trained) {
            continue;
        }
        status = dd_model_gradient(model, name, &view);
        for (int32_t i = 0; i < view.ndim; i++) {
            elements *= view.shape[i];
        }
        for (int64_t i = 0; i < elements && status == DD_OK; i++) {
            sum += (double)((const float *)view.data)[i] * ((const float *)view.data)[i];
        }
    }
    *length = sqrt(sum);
    return status;
}

/* One step for each term that is on, with its weight alone. */
static dd_status measure_picture(visit *d, dd_distiller *distiller, const double weight[MODULES])
{
    dd_status status = DD_OK;
    for (int m = 0; m < MODULES && status == DD_OK; m++) {
        double length = 0;
        if (weight[m] == 0) {
            continue;
        }
        for (int k = 0; k < MODULES && status == DD_OK; k++) {
            status = dd_distiller_set_weight(distiller, modules[k], k == m ? weight[k] : 0);
        }
        status = status ? status : dd_model_zero_gradients(d->student);
        status = status ? status : dd_distiller_step(distiller, NULL);
        status = status ? status : gradient_length(d->student, &length);
        d->norm[m] += length;
        show_progress("gradient of %s: %.3g", modules[m], length);
    }
    return status;
}

static dd_status measure_all(visit *d, dd_distiller *distiller, dd_loader *loader, int32_t pictures)
{
    double weight[MODULES];
    dd_status status = DD_OK;
    for (int m = 0; m < MODULES && status == DD_OK; m++) {
        status = dd_distiller_get_weight(distiller, modules[m], &weight[m]);
    }
    while (status == DD_OK && d->measured < pictures) {
        int32_t images = 0;
        status = dd_loader_next(loader, &images);
        if (images == 0) {
            break;
        }
        status = status ? status : dd_distiller_bind_batch(distiller, loader);
        status = status ? status : measure_picture(d, distiller, weight);
        d->measured += images;
    }
    clear_progress();
    return status;
}

static dd_status measure_shares(visit *d, int32_t pictures)
{
    const char *kd = value_of(d->v, d->values, "--kd");
    char words[MOST_WORDS] = "mode=eval damaged=skip";
    dd_distiller *distiller = NULL;
    dd_loader *loader = NULL;
    if (is_given(d->v, d->values, "--sizes")) {
        add_words(words, " sizes=%s", value_of(d->v, d->values, "--sizes"));
    }
    if (is_given(d->v, d->values, "--max-size")) {
        add_words(words, " max-size=%s", value_of(d->v, d->values, "--max-size"));
    }
    add_words(words, " batch=1 limit=%d", pictures);
    dd_status status = dd_loader_create(&loader, d->train, words);
    status = status ? status : dd_distiller_create(&distiller, d->context, kd);
    status = status ? status : dd_distiller_attach(distiller, d->student, d->teacher);
    status = status ? status : measure_all(d, distiller, loader, pictures);
    dd_loader_free(loader);
    dd_distiller_free(distiller);
    return status;
}

static void tell_shares(visit *d)
{
    double all = 0;
    for (int m = 0; m < MODULES; m++) {
        all += d->norm[m];
    }
    printf(d->json ? ", \"gradient\": {\"pictures\": %d" : "gradient of a fresh student, on %d pictures:\n", d->measured);
    for (int m = 0; m < MODULES; m++) {
        if (d->norm[m] > 0) {
            printf(d->json ? ", \"%s\": {\"norm\": %.17g, \"share\": %.17g}" : "    %-12s norm %10.4g   share %.3f\n",
                   modules[m], d->norm[m] / d->measured, d->norm[m] / all);
        }
    }
    printf(d->json ? "}" : "");
    if (all > 0 && d->norm[0] < .02 * all) {
        advise(d, "distillation drowns the student's own loss: lower the weights of the largest terms (--kd "
                  "\"weight.features=0.1\")");
    }
    if (all > 0 && d->norm[0] > .98 * all) {
        advise(d, "distillation hardly moves the student: raise the weights of its terms (--kd \"weight.logits=4\")");
    }
}

static int examine(visit *d)
{
    const int32_t pictures = atoi(value_of(d->v, d->values, "--steps"));
    int32_t classes = 0;
    int code = tell_data(d);
    if (code != EXIT_DONE) {
        return code;
    }
    if (!map_classes(d->teacher, d->train, &d->map) || dd_dataset_class_count(d->train, &classes) != DD_OK) {
        return complain_of_library(d->v->name);
    }
    tell_classes(d);
    if (d->map.labels != classes || !d->map.matched) {
        advise(d, "teacher and data set have other numbers of classes: the trainer needs the same classes in the same order");
    }
    code = d->map.matched ? judge_teacher(d) : EXIT_DONE;
    if (code != EXIT_DONE) {
        return code;
    }
    if (d->map.labels == classes &&
        (make_model(d->context, value_of(d->v, d->values, "--student"), classes, NULL, &d->student) != DD_OK ||
         plan_memory(d) != DD_OK || (pictures > 0 && measure_shares(d, pictures) != DD_OK))) {
        return complain_of_library(d->v->name);
    }
    if (d->measured > 0) {
        tell_shares(d);
    }
    printf(d->json ? ", \"advice\": [" : "");
    for (int i = 0; i < d->advices; i++) {
        printf(d->json ? "%s\"%s\"" : "%sadvice: %s\n", d->json && i ? ", " : "", d->advice[i]);
    }
    printf(d->json ? "]}\n" : d->advices ? "" : "nothing stands against a run\n");
    return EXIT_DONE;
}

int run_doctor(const verb *v, const char *const *values)
{
    static const char *const learn[] = {"train", NULL}, *const judge[] = {"val", "test", NULL};
    const char *data = value_of(v, values, "--data"), *teacher = value_of(v, values, "--teacher");
    visit d = {.v = v, .values = values, .json = is_given(v, values, "--json")};
    int code;
    if (!data || !teacher) {
        return complain(EXIT_USAGE, v->name, "%s is missing; see detrdistill doctor --help", data ? "--teacher" : "--data");
    }
    if (open_context(v, values, &d.context) != DD_OK ||
        open_split(data, value_of(v, values, "--split"), learn, NULL, &d.train) != DD_OK ||
        open_split(data, value_of(v, values, "--val-split"), judge, NULL, &d.validation) != DD_OK ||
        open_model(d.context, teacher, "gradients=0", &d.teacher) != DD_OK) {
        code = complain_of_library(v->name);
    } else {
        code = examine(&d);
    }
    free_classes(&d.map);
    dd_model_free(d.student);
    dd_model_free(d.teacher);
    dd_dataset_free(d.train);
    dd_dataset_free(d.validation);
    dd_context_free(d.context);
    return code;
}
