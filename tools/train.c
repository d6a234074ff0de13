/* SPDX-License-Identifier: Apache-2.0
 * detrdistill train and resume: a run with progress on a terminal, plain lines elsewhere, and Ctrl-C that saves and stops. */
#include "common.h"
#include "recipe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

option train_options[MOST_OPTIONS + 1] = {
    {"--recipe", "NAME|FILE", NULL, "a published run, whose options count where none are given here; list: which there are"},
    {"--scale", "full|tiny", NULL, "tiny: a recipe with a few channels and a new teacher, on generated scenes: does it run?"},
    {"--data", "DIR", NULL, "a COCO or Pascal VOC folder, or \"scenes\""},
    {"--student", "NAME", NULL, "deformable_detr:r50, or a folder with a model"},
    {"--backbone", "FILE", NULL, "pretrained ResNet that a new student begins with"},
    {"--teacher", "DIR|FILE", NULL, "a folder with a model or a run, or a checkpoint; without it the student learns alone"},
    {"--out", "DIR", NULL, "the run's folder; made if it is missing"},
    {"--kd", "WORDS", NULL, "options of distillation, e.g. \"profile=paper weight.logits=2\"; off: the same run without it"},
    {"--split", "NAME", NULL, "pictures to learn from (train)"},
    {"--empty", "keep|drop", NULL, "pictures without an object: learn from them, too (keep)"},
    {"--val-split", "NAME", NULL, "pictures to evaluate on (val, else test)"},
    {"--json", NULL, NULL, "the result as one JSON object"},
    DEVICE_OPTIONS,
    {NULL, NULL, NULL, NULL},
};
option resume_options[MOST_OPTIONS + 1] = {
    {"--json", NULL, NULL, "the result as one JSON object"},
    DEVICE_OPTIONS,
    {NULL, NULL, NULL, NULL},
};

typedef struct run {
    const verb *v;
    dd_context *context;
    dd_model *student, *teacher;
    dd_dataset *train, *validation;
    dd_trainer *trainer;
    recipe *recipe;   /* NULL: none */
    double last_line; /* when the last plain line was written */
} run;

static dd_trainer *stoppable;

/* A second signal ends the program at once. */
static void stop_run(int number)
{
    signal(number, SIG_DFL);
    dd_trainer_stop(stoppable);
}

static void close_run(run *r)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    dd_trainer_free(r->trainer);
    dd_model_free(r->student);
    dd_model_free(r->teacher);
    dd_dataset_free(r->train);
    dd_dataset_free(r->validation);
    dd_context_free(r->context);
}

/* ---- Progress */

static double value_called(const char *wanted, const char *const *name, const double *value, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(name[i], wanted) == 0) {
            return value[i];
        }
    }
    return 0;
}

static void write_duration(char text[32], double seconds)
{
    const long long whole = seconds > 0 && seconds < 1e9 ? (long long)(seconds + .5) : 0;
    if (whole >= 3600) {
        snprintf(text, 32, "%lld h %02lld min", whole / 3600, whole / 60 % 60);
    } else if (whole >= 60) {
        snprintf(text, 32, "%lld min %02lld s", whole / 60, whole % 60);
    } else {
        snprintf(text, 32, "%lld s", whole);
    }
}

static void tell_step(run *r, const char *const *name, const double *value, int32_t count)
{
    char line[512], left[32];
    const double now = seconds_now();
    int used = snprintf(line, sizeof line, "epoch %.0f/%.0f  step %.0f/%.0f", value_called("epoch", name, value, count) + 1,
                        value_called("epochs", name, value, count), value_called("step", name, value, count),
                        value_called("steps", name, value, count));
    for (int32_t i = 0; i < count && used < (int)sizeof line - 64; i++) {
        if (strncmp(name[i], "loss.", 5) == 0) {
            used += snprintf(line + used, sizeof line - (size_t)used, "  %s %.4g",
                             i && strcmp(name[i], "loss.total") ? name[i] + 5 : "loss", value[i]);
        }
    }
    write_duration(left, value_called("seconds-left", name, value, count));
    snprintf(line + used, sizeof line - (size_t)used, "  %.2f images/s  %s left",
             value_called("images-per-second", name, value, count), left);
    if (progress_is_shown()) {
        show_progress("%s", line);
    } else if (now - r->last_line >= 10) {
        fprintf(stderr, "%s\n", line);
        r->last_line = now;
    }
}

static int32_t tell(void *user, int32_t event, const char *const *name, const double *value, int32_t count)
{
    run *r = user;
    if (event == DD_TRAIN_STEP) {
        tell_step(r, name, value, count);
    } else if (event == DD_TRAIN_EVALUATING) {
        show_progress("evaluating: %.0f of %.0f pictures", value_called("images", name, value, count),
                      value_called("images-total", name, value, count));
    } else if (event == DD_TRAIN_EVALUATED) {
        clear_progress();
        fprintf(stderr, "epoch %.0f  AP %.4f  AP50 %.4f  AP75 %.4f  best AP %.4f\n", value_called("epoch", name, value, count),
                value_called("ap", name, value, count), value_called("ap50", name, value, count),
                value_called("ap75", name, value, count), value_called("best.ap", name, value, count));
    }
    return 0;
}

static void print_values(const run *r)
{
    int32_t count = 0;
    dd_trainer_value_count(r->trainer, &count);
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        double value;
        if (dd_trainer_value_at(r->trainer, i, &name, &value) == DD_OK) {
            printf(value == value && value - value == 0 ? ", \"%s\": %.17g" : ", \"%s\": null", name, value);
        }
    }
}

/* Runs to the end and tells how it went. */
static int run_it(run *r, const char *const *values, const char *folder)
{
    static const char *const reason[] = {"finished", "reached", "stopped", "no-gain"};
    int32_t why = 0;
    double ap = -1;
    stoppable = r->trainer;
    signal(SIGINT, stop_run);
    signal(SIGTERM, stop_run);
    dd_trainer_set_progress(r->trainer, tell, r);
    const dd_status status = dd_trainer_run(r->trainer, 0, &why);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    clear_progress();
    if (status != DD_OK) {
        return complain_of_library(r->v->name);
    }
    if (is_given(r->v, values, "--json")) {
        printf("{\"run\": ");
        print_quoted(folder);
        printf(", \"ended\": \"%s\"", reason[why]);
        print_values(r);
        printf("}\n");
    } else if (why == DD_TRAIN_STOPPED) {
        printf("stopped and saved; 'detrdistill resume %s' goes on\n", folder);
    } else {
        printf("%s: the student is in %s/student, curves in %s/curves.svg", why == DD_TRAIN_NO_GAIN ? "no more gain" : "done",
               folder, folder);
        const bool judged = dd_trainer_value_get(r->trainer, "best.ap", &ap) == DD_OK;
        printf(judged ? "; best AP %.4f in %s/best\n" : "\n", ap, folder);
    }
    return why == DD_TRAIN_STOPPED ? EXIT_INTERRUPTED : EXIT_DONE;
}

/* ---- train */

/* A new student learns the data set's names. */
static dd_status name_classes(dd_model *student, const dd_dataset *data, int32_t classes)
{
    int32_t own = 0;
    dd_status status = dd_model_class_count(student, &own);
    for (int32_t c = 0; c < classes && own == classes && status == DD_OK; c++) {
        const char *name;
        status = dd_dataset_class_at(data, c, NULL, &name);
        status = status ? status : dd_model_set_class(student, c, name);
    }
    return status;
}

static dd_status open_data(run *r, const char *const *values)
{
    static const char *const learn[] = {"train", NULL}, *const judge[] = {"val", "test", NULL};
    const char *path = value_of(r->v, values, "--data"), *asked = value_of(r->v, values, "--val-split");
    int32_t splits = 0;
    char more[32] = "";
    if (is_given(r->v, values, "--empty")) {
        snprintf(more, sizeof more, "empty=%.16s", value_of(r->v, values, "--empty"));
    }
    dd_status status = open_split(path, value_of(r->v, values, "--split"), learn, more, &r->train);
    status = status ? status : dd_dataset_split_count(r->train, &splits);
    if (status == DD_OK && splits <= 1 && !asked) {
        fprintf(stderr, "note: the data set has one split; AP is of the pictures that the student learns from\n");
    }
    return status ? status : open_split(path, asked, judge, NULL, &r->validation);
}

/* Of a tiny run: an untrained one of the recipe's teacher's kind, in the run's folder, so that the run can be taken up. */
static dd_status make_teacher(run *r, const char *folder, int32_t classes)
{
    char path[4096];
    dd_model *made = NULL;
    if (snprintf(path, sizeof path, "%s/teacher", folder) >= (int)sizeof path) {
        return DD_OK; /* the trainer says that the folder's name is too long */
    }
    mkdir(folder, 0777);
    mkdir(path, 0777); /* saving says what went wrong */
    dd_status status = make_model(r->context, r->recipe->note[NOTE_TEACHER], classes, "gradients=0", &made);
    status = status ? status : dd_model_save(made, path);
    dd_model_free(made);
    return status ? status : open_model(r->context, path, "gradients=0", &r->teacher);
}

static dd_status open_models(run *r, const char *const *values)
{
    const char *name = value_of(r->v, values, "--student"), *teacher = value_of(r->v, values, "--teacher"),
               *kd = value_of(r->v, values, "--kd"), *backbone = value_of(r->v, values, "--backbone");
    char more[MOST_WORDS] = "";
    int32_t classes = 0;
    if (backbone) {
        add_words(more, "backbone-weights=%s", backbone);
    }
    dd_status status = dd_dataset_class_count(r->train, &classes);
    status = status ? status : make_model(r->context, name, classes, more, &r->student);
    if (status == DD_OK && !is_model_folder(name)) {
        status = name_classes(r->student, r->train, classes);
    }
    if (status != DD_OK || (kd && strcmp(kd, "off") == 0)) {
        return status;
    }
    if (!teacher && r->recipe && r->recipe->tiny && r->recipe->note[NOTE_TEACHER]) {
        return make_teacher(r, value_of(r->v, values, "--out"), classes);
    }
    return teacher ? open_model(r->context, teacher, "gradients=0", &r->teacher) : DD_OK;
}

/* What a recipe needs, and what is published of students that had it. */
static int check_recipe(const run *r, const char *const *values)
{
    const char *kd = value_of(r->v, values, "--kd"), *const *note = r->recipe->note;
    if (note[NOTE_TEACHER] && !r->recipe->tiny && !is_given(r->v, values, "--teacher") && !(kd && strcmp(kd, "off") == 0)) {
        return complain(EXIT_USAGE, r->v->name,
                        "the recipe needs a trained teacher, %s: --teacher with a folder, a run or a checkpoint; 'detrdistill "
                        "train --recipe %s' trains one, 'detrdistill convert' takes a published one; --kd off goes without",
                        note[NOTE_TEACHER], note[NOTE_TEACHER_RECIPE] ? note[NOTE_TEACHER_RECIPE] : "of its own");
    }
    if (!r->recipe->tiny && !is_given(r->v, values, "--backbone") && !is_model_folder(value_of(r->v, values, "--student"))) {
        fprintf(stderr, "note: published students begin with a backbone that was trained on ImageNet: --backbone FILE\n");
    }
    return EXIT_DONE;
}

/* Reads --recipe and fills in what was not given. `given`: the user's options. */
static int follow_recipe(run *r, const char *const *given, const char **values)
{
    static const char tiny_data[] = "scenes:train=8,val=2,size=64";
    const char *scale = value_of(r->v, given, "--scale"), *data = value_of(r->v, given, "--data");
    const bool tiny = scale && strcmp(scale, "tiny") == 0;
    static recipe held;
    if (scale && !tiny && strcmp(scale, "full") != 0) {
        return complain(EXIT_USAGE, r->v->name, "--scale is full or tiny");
    }
    r->recipe = &held;
    int code = read_recipe(r->v, value_of(r->v, given, "--recipe"), r->recipe);
    code = code == EXIT_DONE && tiny ? shrink_recipe(r->v, r->recipe) : code;
    if (code != EXIT_DONE) {
        return code;
    }
    data = tiny && !data ? tiny_data : data;
    set_value(r->v, values, "--data", data);
    use_recipe(r->v, r->recipe, values, data);
    return check_recipe(r, values);
}

static int run_with(run *r, const char *const *values)
{
    static const char *const needed[] = {"--data", "--student", "--out"};
    const char *folder = value_of(r->v, values, "--out"), *kd = value_of(r->v, values, "--kd");
    char words[MOST_WORDS] = "";
    for (int i = 0; i < 3; i++) {
        if (!is_given(r->v, values, needed[i])) {
            return complain(EXIT_USAGE, r->v->name, "%s is missing; see detrdistill train --help", needed[i]);
        }
    }
    if (!put_words(r->v, values, OF_TRAINER, words)) {
        return complain(EXIT_USAGE, r->v->name, "the options are too long");
    }
    if (open_context(r->v, values, &r->context) != DD_OK || open_data(r, values) != DD_OK || open_models(r, values) != DD_OK ||
        dd_trainer_create(&r->trainer, r->student, r->teacher, r->train, r->validation, folder, words,
                          kd && strcmp(kd, "off") != 0 ? kd : NULL) != DD_OK) {
        return complain_of_library(r->v->name);
    }
    return run_it(r, values, folder);
}

int run_train(const verb *v, const char *const *given)
{
    const char *values[MOST_OPTIONS + MOST_OPERANDS + 1], *name = value_of(v, given, "--recipe");
    run r = {.v = v, .last_line = -1e9};
    memcpy(values, given, sizeof values);
    if (name && strcmp(name, "list") == 0) {
        return list_recipes(v, is_given(v, given, "--json"));
    }
    if (!name && is_given(v, given, "--scale")) {
        return complain(EXIT_USAGE, v->name, "--scale goes with --recipe");
    }
    int code = name ? follow_recipe(&r, given, values) : EXIT_DONE;
    code = code ? code : run_with(&r, values);
    close_run(&r);
    return code;
}

/* ---- resume */

int run_resume(const verb *v, const char *const *values)
{
    char words[MOST_WORDS] = "";
    run r = {.v = v, .last_line = -1e9};
    int code = EXIT_DONE;
    if (!put_words(v, values, OF_TRAINER, words)) {
        return complain(EXIT_USAGE, v->name, "the options are too long");
    }
    if (open_context(v, values, &r.context) != DD_OK ||
        dd_trainer_resume(&r.trainer, r.context, operand_of(values, 0), words) != DD_OK) {
        code = complain_of_library(v->name);
    } else {
        code = run_it(&r, values, operand_of(values, 0));
    }
    close_run(&r);
    return code;
}
