/* SPDX-License-Identifier: Apache-2.0
 * The trainer on tiny models: it learns, accumulates, averages, evaluates, refuses bad steps, stops, and writes its files. */
#include "tiny.h"

#include "base/alloc.h"
#include "models/model.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STILL "dropout=0 attention-dropout=0 activation-dropout=0"

/* ---- It learns */

static void test_overfits_a_few_scenes(void **state)
{
    tiny t;
    double first, last = 0;
    tiny_open(&t, STILL, "threads=1 seed=1");
    OK(tiny_train(&t, NULL, "epochs=1000 limit=2 flip=0 lr=1e-3 lr.sampling=1 lr.backbone=1 clip=1 drop=900", NULL));
    OK(dd_trainer_step(t.trainer, &first));
    for (int i = 0; i < 120; i++) {
        OK(dd_trainer_step(t.trainer, &last));
    }
    print_message("loss %.3f, after 120 steps %.3f\n", first, last);
    assert_true(last < 0.2 * first);
    tiny_close(&t);
}

/* Handles may be freed in any order: models and trainer hold the context. */
static void test_context_may_go_first(void **state)
{
    tiny t;
    tiny_open(&t, STILL, "threads=1 seed=1");
    dd_context_free(t.context);
    t.context = NULL;
    OK(tiny_train(&t, NULL, "epochs=1 limit=2", NULL));
    OK(dd_trainer_step(t.trainer, NULL));
    tiny_close(&t);
}

static double norm_after(const char *options, uint64_t *hash)
{
    tiny t;
    tiny_open(&t, STILL, "threads=1 seed=1");
    OK(tiny_train(&t, NULL, options, NULL));
    OK(dd_trainer_step(t.trainer, NULL));
    const double norm = tiny_value(&t, "grad.norm");
    *hash = tiny_hash(t.student);
    tiny_close(&t);
    return norm;
}

/* Where all batches have as many objects, their mean is the gradient of the large batch; of the same batch twice to the bit. */
static void test_accumulation_is_a_larger_batch(void **state)
{
    uint64_t one, two;
    const double once = norm_after("limit=1 batch=1 flip=0", &one);
    tiny t;
    tiny_open(&t, STILL, "threads=1 seed=1");
    OK(tiny_train(&t, NULL, "limit=1 batch=1 flip=0 accumulate=2", NULL));
    OK(dd_trainer_step(t.trainer, NULL)); /* an epoch has one batch: the step ends with it */
    assert_true(tiny_hash(t.student) == one);
    assert_true(tiny_value(&t, "grad.norm") == once);
    assert_true(tiny_value(&t, "epoch") == 1);
    tiny_close(&t);

    /* Two scenes with as many objects. */
    char options[200], scenes[100];
    int32_t objects[2] = {0, 1}, seed = 0;
    while (objects[0] != objects[1]) {
        dd_dataset *pair;
        snprintf(scenes, sizeof scenes, "scenes:train=2,size=64,classes=3,seed=%d", ++seed);
        OK(dd_dataset_open(&pair, scenes, "split=train"));
        for (int32_t i = 0; i < 2; i++) {
            OK(dd_dataset_objects(pair, i, &objects[i], NULL, NULL, NULL, NULL));
        }
        dd_dataset_free(pair);
    }
    double norms[2], loss[2];
    for (int k = 0; k < 2; k++) {
        snprintf(options, sizeof options, "shuffle=0 flip=0 clip=0 batch=%d accumulate=%d", k ? 1 : 2, k ? 2 : 1);
        tiny_open(&t, STILL, "threads=1 seed=1");
        dd_dataset_free(t.train);
        OK(dd_dataset_open(&t.train, scenes, "split=train"));
        OK(tiny_train(&t, NULL, options, NULL));
        OK(dd_trainer_step(t.trainer, &loss[k]));
        norms[k] = tiny_value(&t, "grad.norm");
        tiny_close(&t);
    }
    assert_true(fabs(norms[0] - norms[1]) < 1e-5 * norms[0]);
    assert_true(fabs(loss[0] - loss[1]) < 1e-5 * loss[0]);
    assert_true(norm_after("shuffle=0 flip=0 batch=2", &two) != once && one != two);
}

/* ---- Averages, evaluation */

static void test_evaluation_changes_nothing(void **state)
{
    tiny t;
    double numbers[12], again[12];
    tiny_open(&t, "", "threads=1 seed=1");
    OK(tiny_train(&t, NULL, "lr=1e-3 ema=0.5", NULL));
    for (int i = 0; i < 3; i++) {
        OK(dd_trainer_step(t.trainer, NULL));
    }
    const uint64_t before = tiny_hash(t.student);
    OK(dd_trainer_evaluate(t.trainer, numbers));
    OK(dd_trainer_evaluate(t.trainer, again));
    assert_memory_equal(numbers, again, sizeof numbers);
    assert_true(tiny_hash(t.student) == before);
    for (int i = 0; i < 12; i++) {
        assert_true(numbers[i] >= -1 && numbers[i] <= 1);
    }
    double loss;
    OK(dd_trainer_step(t.trainer, &loss));
    tiny other;
    double same;
    tiny_open(&other, "", "threads=1 seed=1");
    OK(tiny_train(&other, NULL, "lr=1e-3 ema=0.5", NULL));
    for (int i = 0; i < 4; i++) {
        OK(dd_trainer_step(other.trainer, &same));
    }
    assert_true(loss == same && tiny_hash(other.student) == tiny_hash(t.student));
    tiny_close(&other);
    tiny_close(&t);
}

/* ---- Steps that are refused */

static void poison(dd_model *model)
{
    const char *name;
    dd_tensor view;
    int32_t count, trained = 0;
    OK(dd_model_parameter_count(model, &count));
    for (int32_t i = count - 1; i >= 0 && !trained; i--) {
        OK(dd_model_parameter_at(model, i, &name, &view, &trained));
    }
    ((float *)view.data)[0] = NAN;
}

static void test_nonfinite_step_is_refused(void **state)
{
    tiny t;
    tiny_open(&t, "", "threads=1 seed=1");
    OK(tiny_train(&t, NULL, "", NULL));
    OK(dd_trainer_step(t.trainer, NULL));
    poison(t.student);
    const uint64_t before = tiny_hash(t.student);
    assert_int_equal(dd_trainer_step(t.trainer, NULL), DD_ERR_NONFINITE);
    assert_true(strlen(dd_error_message()) > 0);
    assert_true(tiny_hash(t.student) == before);
    assert_true(tiny_value(&t, "step") == 1);
    tiny_close(&t);
}

static void test_nonfinite_steps_are_skipped(void **state)
{
    tiny t;
    tiny_open(&t, "", "threads=1 seed=1");
    OK(tiny_train(&t, NULL, "nonfinite=skip epochs=1000 batch=1", NULL));
    OK(dd_trainer_step(t.trainer, NULL));
    poison(t.student);
    const uint64_t before = tiny_hash(t.student);
    for (int i = 0; i < 99; i++) {
        OK(dd_trainer_step(t.trainer, NULL));
    }
    assert_int_equal(dd_trainer_step(t.trainer, NULL), DD_ERR_NONFINITE);
    assert_true(tiny_hash(t.student) == before);
    assert_true(tiny_value(&t, "step") == 100 && tiny_value(&t, "skipped") == 99);
    tiny_close(&t);
}

static void test_cancelled_step_leaves_no_trace(void **state)
{
    tiny t, other;
    double loss, same;
    tiny_open(&t, "", "threads=1 seed=1");
    tiny_open(&other, "", "threads=1 seed=1");
    OK(tiny_train(&t, NULL, "", NULL));
    OK(tiny_train(&other, NULL, "", NULL));
    OK(dd_context_cancel(t.context, 1));
    assert_int_equal(dd_trainer_step(t.trainer, NULL), DD_ERR_CANCELLED);
    OK(dd_context_cancel(t.context, 0));
    OK(dd_trainer_step(t.trainer, &loss));
    OK(dd_trainer_step(other.trainer, &same));
    assert_true(loss == same && tiny_hash(t.student) == tiny_hash(other.student));
    tiny_close(&other);
    tiny_close(&t);
}

static void scale(dd_model *model, const char *words, double factor)
{
    int32_t count, found = 0;
    OK(dd_model_parameter_count(model, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view;
        OK(dd_model_parameter_at(model, i, &name, &view, NULL));
        int64_t n = 1;
        for (int32_t d = 0; d < view.ndim; d++) {
            n *= view.shape[d];
        }
        for (int64_t k = 0; strstr(name, words) && k < n; k++) {
            ((float *)view.data)[k] *= (float)factor;
            found++;
        }
    }
    assert_true(found > 0);
}

/* The loss is finite, a gradient is not: small activations, enormous weights of the class head. */
static void test_infinite_gradient_is_refused(void **state)
{
    tiny t;
    tiny_open(&t, STILL, "threads=1 seed=1");
    OK(tiny_train(&t, NULL, "", NULL));
    scale(t.student, "decoder.layers.0.final_layer_norm", 1e-12);
    scale(t.student, "decoder.layers.1.final_layer_norm", 1e-12);
    scale(t.student, "class_embed.0.weight", 1e38);
    scale(t.student, "class_embed.0.weight", 15);
    const uint64_t before = tiny_hash(t.student);
    assert_int_equal(dd_trainer_step(t.trainer, NULL), DD_ERR_NONFINITE);
    assert_non_null(strstr(dd_error_message(), "gradient of"));
    assert_true(tiny_hash(t.student) == before);
    tiny_close(&t);
}

/* A student that is its teacher has nothing to learn of its maps. */
static void test_term_that_stays_zero_is_told(void **state)
{
    tiny t;
    char folder[256];
    dd_status status = DD_OK;
    int steps = 0;
    tiny_folder(folder);
    tiny_open(&t, STILL, "threads=1 seed=1");
    OK(dd_model_save(t.student, folder));
    OK(dd_model_load(&t.teacher, t.context, folder, "gradients=0"));
    OK(tiny_train(&t, NULL, "epochs=100 lr=0 decay=0", "prior=none"));
    while (steps < 60 && (status = dd_trainer_step(t.trainer, NULL)) == DD_OK) {
        steps++;
    }
    assert_int_equal(status, DD_ERR_STATE);
    assert_int_equal(steps, 49);
    assert_string_equal(dd_error_subject(), "loss.features");
    tiny_close(&t);
    tiny_remove(folder);
}

/* ---- Runs */

typedef struct heard {
    int events[5], stop_after;
    double last_step, last_steps;
} heard;

static int32_t listen(void *user, int32_t event, const char *const *name, const double *value, int32_t count)
{
    heard *h = user;
    h->events[event]++;
    assert_string_equal(name[0], "step");
    assert_string_equal(name[1], "steps");
    h->last_step = value[0];
    h->last_steps = value[1];
    for (int32_t i = 0; i < count; i++) {
        assert_true(strlen(name[i]) > 0);
    }
    return event == DD_TRAIN_STEP && h->events[event] == h->stop_after;
}

static void test_run_stops_and_goes_on(void **state)
{
    tiny t;
    heard h = {.stop_after = 5};
    int32_t why;
    tiny_open(&t, "", "threads=1 seed=1");
    OK(tiny_train(&t, NULL, "epochs=3 eval-limit=2", NULL));
    OK(dd_trainer_set_progress(t.trainer, listen, &h));
    OK(dd_trainer_run(t.trainer, 0, &why));
    assert_int_equal(why, DD_TRAIN_STOPPED);
    assert_true(h.last_step == 5 && h.last_steps == 12);
    assert_int_equal(h.events[DD_TRAIN_EVALUATED], 1);
    OK(dd_trainer_run(t.trainer, 2, &why));
    assert_int_equal(why, DD_TRAIN_REACHED);
    assert_true(tiny_value(&t, "step") == 8 && tiny_value(&t, "finished") == 0);
    OK(dd_trainer_run(t.trainer, 0, &why));
    assert_int_equal(why, DD_TRAIN_FINISHED);
    assert_int_equal(h.events[DD_TRAIN_STEP], 12);
    assert_int_equal(h.events[DD_TRAIN_EVALUATED], 3);
    assert_int_equal(h.events[DD_TRAIN_EVALUATING], 3);
    assert_true(tiny_value(&t, "finished") == 1 && tiny_value(&t, "best.epoch") >= 1);
    assert_int_equal(dd_trainer_step(t.trainer, NULL), DD_ERR_STATE);
    assert_int_equal(dd_trainer_save(t.trainer), DD_ERR_STATE); /* no folder */
    tiny_close(&t);
}

/* With one detection of a picture, to allow more of a class brings nothing; with many, more objects are found. */
static void test_detections_of_an_evaluation(void **state)
{
    static const char *const options[] = {
        "epochs=60 batch=4 lr=2e-3 lr.backbone=1 lr.sampling=1 eval-every=60 eval-detections=1",
        "epochs=1 lr=0 eval-detections=300"};
    tiny t;
    double recall[2];
    tiny_open(&t, "", "threads=1 seed=1");
    dd_dataset_free(t.validation);
    OK(dd_dataset_open(&t.validation, TINY_SCENES, "split=train"));
    for (int i = 0; i < 2; i++) {
        int32_t why;
        OK(tiny_train(&t, NULL, options[i], NULL));
        OK(dd_trainer_run(t.trainer, 0, &why));
        recall[i] = tiny_value(&t, "ar100");
        assert_true(i == 1 || tiny_value(&t, "ar1") == recall[0]);
        dd_trainer_free(t.trainer);
        t.trainer = NULL;
    }
    assert_true(recall[1] > recall[0]);
    assert_int_equal(tiny_train(&t, NULL, "eval-detections=0", NULL), DD_ERR_OPTION);
    tiny_close(&t);
}

static void test_run_without_gain_ends_early(void **state)
{
    tiny t;
    int32_t why;
    tiny_open(&t, "", "threads=1 seed=1");
    OK(tiny_train(&t, NULL, "epochs=50 lr=0 patience=2 eval-limit=1", NULL));
    OK(dd_trainer_run(t.trainer, 0, &why));
    assert_int_equal(why, DD_TRAIN_NO_GAIN);
    assert_true(tiny_value(&t, "epoch") == 3);
    tiny_close(&t);
}

static int exists(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void test_run_folder(void **state)
{
    tiny t;
    char folder[256], path[300];
    tiny_folder(folder);
    snprintf(path, sizeof path, "%s/run", folder);
    tiny_open(&t, "", "threads=1 seed=1");
    OK(tiny_train(&t, path, "epochs=2 log-every=1 ema=0.9", NULL));
    OK(dd_trainer_run(t.trainer, 0, NULL));
    static const char *const names[] = {"config.json",         "log.jsonl",
                                        "metrics.csv",         "state.safetensors",
                                        "curves.svg",          "state.previous.safetensors",
                                        "student/config.json", "student/model.safetensors",
                                        "best/config.json",    "best/model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(exists(path, names[i]));
    }
    assert_false(exists(path, "state.next.safetensors"));
    const uint64_t hash = tiny_hash(t.student);
    dd_trainer_free(t.trainer);
    t.trainer = NULL;
    assert_int_equal(tiny_train(&t, path, "epochs=2", NULL), DD_ERR_STATE); /* a run is there */
    OK(tiny_train(&t, path, "epochs=2 ema=0.9 resume=1", NULL));
    assert_true(tiny_value(&t, "step") == 8 && tiny_hash(t.student) == hash);
    dd_trainer_free(t.trainer);
    t.trainer = NULL;
    assert_int_equal(tiny_train(&t, path, "epochs=2 ema=0 resume=1 batch=x", NULL), DD_ERR_OPTION);
    tiny_close(&t);
    tiny_remove(folder);
}

static void test_folder_is_one_trainers(void **state)
{
    tiny t, other;
    char folder[256], path[300];
    tiny_folder(folder);
    snprintf(path, sizeof path, "%s/run", folder);
    tiny_open(&t, "", "threads=1 seed=1");
    tiny_open(&other, "", "threads=1 seed=1");
    OK(tiny_train(&t, path, "epochs=2", NULL));
    assert_int_equal(tiny_train(&other, path, "epochs=2 resume=1", NULL), DD_ERR_STATE);
    assert_non_null(strstr(dd_error_message(), "another trainer"));
    assert_int_equal(dd_trainer_resume(&other.trainer, other.context, path, NULL), DD_ERR_STATE);
    OK(dd_trainer_step(t.trainer, NULL)); /* the refused ones have changed nothing */
    OK(dd_trainer_save(t.trainer));
    dd_trainer_free(t.trainer);
    t.trainer = NULL;
    OK(dd_trainer_resume(&other.trainer, other.context, path, NULL));
    assert_true(tiny_value(&other, "step") == 1);
    tiny_close(&other);
    tiny_close(&t);
    tiny_remove(folder);
}

/* ---- With a teacher */

/* Wider, deeper, with more queries: adaptors, maps of queries and the contrastive branches are trained along. */
static void save_teacher(const char *folder, const char *context)
{
    tiny t;
    char command[400];
    tiny_open(&t, "width=64 queries=16 decoder-layers=4 ffn=64", context);
    snprintf(command, sizeof command, "mkdir -p '%s'", folder);
    assert_int_equal(system(command), 0);
    OK(dd_model_save(t.student, folder));
    tiny_close(&t);
}

static void note(tiny *t, uint64_t *hash, double parts[4])
{
    static const char *const names[4] = {"loss.logits", "loss.features", "loss.prior", "loss.contrastive"};
    dd_model *student;
    OK(dd_trainer_student(t->trainer, &student));
    *hash = tiny_hash(student);
    for (int i = 0; i < 4; i++) {
        parts[i] = tiny_value(t, names[i]);
        assert_true(parts[i] > 0);
    }
    assert_true(t->trainer->optimiser.blocks > 5);
}

static void steps(tiny *t, int count)
{
    for (int i = 0; i < count; i++) {
        OK(dd_trainer_step(t->trainer, NULL));
    }
}

static void test_resume_with_teacher(void **state)
{
    static const char options[] = "batch=2 lr=1e-3 accumulate=2", words[] = "contrastive=1 contrastive-width=16";
    char folder[256], teacher[300], run[2][300];
    uint64_t hash[2];
    double parts[2][4];
    tiny t;
    tiny_folder(folder);
    snprintf(teacher, sizeof teacher, "%s/teacher", folder);
    save_teacher(teacher, "threads=1 seed=11");
    for (int k = 0; k < 2; k++) {
        snprintf(run[k], sizeof run[k], "%s/%d", folder, k);
        tiny_open(&t, "", "threads=1 seed=1");
        OK(dd_model_load(&t.teacher, t.context, teacher, "gradients=0"));
        OK(tiny_train(&t, run[k], options, words));
        steps(&t, k ? 3 : 7);
        if (k) {
            OK(dd_trainer_save(t.trainer));
            steps(&t, 1); /* is lost */
            dd_trainer_free(t.trainer);
            OK(dd_trainer_resume(&t.trainer, t.context, run[k], NULL));
            steps(&t, 4);
        }
        note(&t, &hash[k], parts[k]);
        tiny_close(&t);
    }
    assert_true(hash[0] == hash[1]);
    assert_memory_equal(parts[0], parts[1], sizeof parts[0]);

    /* A teacher that has changed, or is gone, is not taken. */
    save_teacher(teacher, "threads=1 seed=12");
    tiny_open(&t, "", "threads=1 seed=1");
    assert_int_equal(dd_trainer_resume(&t.trainer, t.context, run[0], NULL), DD_ERR_FORMAT);
    tiny_remove(teacher);
    assert_int_equal(dd_trainer_resume(&t.trainer, t.context, run[0], NULL), DD_ERR_NOT_FOUND);
    tiny_close(&t);
    tiny_remove(folder);
}

/* ---- Wrong calls */

static void test_wrong_parts(void **state)
{
    tiny t;
    tiny_open(&t, "", "threads=1 seed=1");
    dd_dataset *other;
    OK(dd_dataset_open(&other, "scenes:train=2,size=64,classes=2", "split=train"));
    assert_int_equal(dd_trainer_create(&t.trainer, t.student, NULL, other, NULL, NULL, NULL, NULL), DD_ERR_SHAPE);
    assert_int_equal(dd_trainer_create(&t.trainer, t.student, NULL, t.train, other, NULL, NULL, NULL), DD_ERR_SHAPE);
    assert_int_equal(dd_trainer_create(&t.trainer, t.student, t.student, t.train, NULL, NULL, NULL, NULL), DD_ERR_ARGUMENT);
    assert_int_equal(dd_trainer_create(&t.trainer, NULL, NULL, t.train, NULL, NULL, NULL, NULL), DD_ERR_ARGUMENT);
    assert_int_equal(dd_trainer_create(&t.trainer, t.student, NULL, t.train, NULL, NULL, "epochs=0", NULL), DD_ERR_OPTION);
    assert_int_equal(dd_trainer_create(&t.trainer, t.student, NULL, t.train, NULL, NULL, "drop=2,1", NULL), DD_ERR_OPTION);
    assert_int_equal(dd_trainer_create(&t.trainer, t.student, NULL, t.train, NULL, NULL, NULL, "det=2"), DD_ERR_OPTION);
    assert_null(t.trainer);
    OK(dd_trainer_create(&t.trainer, t.student, NULL, t.train, NULL, NULL, TINY_DATA, NULL));
    dd_model_free(t.student); /* freed too early: calls fail, and nothing breaks */
    t.student = NULL;
    assert_int_equal(dd_trainer_step(t.trainer, NULL), DD_ERR_ARGUMENT);
    dd_dataset_free(other);
    tiny_close(&t);
}

/* ---- Failing memory, files and threads */

#ifdef DDI_FAULT_POINTS
/* A whole small run of which the n-th call that can fail does. What it leaves can be freed, and where a step failed, the same
 * step can be made again. */
static dd_status faulty_run(const char *folder, int64_t n, int32_t for_good, int64_t *calls)
{
    tiny t;
    double numbers[12], loss[2] = {0, 0};
    tiny_open(&t, "", "threads=1 seed=1");
    dd_fault_set(n, for_good);
    dd_status status = tiny_train(&t, folder, "batch=1 limit=2 eval-limit=1 threads=0 ema=0.9 log-every=1", NULL);
    if (status == DD_OK) {
        status = dd_trainer_run(t.trainer, 1, NULL);
    }
    if (status == DD_OK) {
        status = dd_trainer_evaluate(t.trainer, numbers);
    }
    *calls = dd_fault_set(0, 0);
    if (t.trainer && status != DD_OK) {
        assert_true(strlen(dd_error_message()) > 0);
        OK(dd_trainer_run(t.trainer, 2, NULL));
        OK(dd_trainer_step(t.trainer, &loss[0]));
        static double usual; /* of the same step in every run */
        usual = usual == 0 ? loss[0] : usual;
        assert_true(loss[0] == usual);
    }
    tiny_close(&t);
    return status;
}

static void test_failing_calls(void **state)
{
    char folder[256], path[300];
    int64_t calls, ignored;
    int failed = 0;
    tiny_folder(folder);
    snprintf(path, sizeof path, "%s/0", folder);
    OK(faulty_run(path, 0, 0, &calls));
    print_message("%d calls that can fail\n", (int)calls);
    assert_true(calls > 100);
    for (int64_t n = 1; n <= calls; n += 1 + calls / 40) {
        snprintf(path, sizeof path, "%s/%d", folder, (int)n);
        const dd_status status = faulty_run(path, n, (int32_t)(n % 2), &ignored);
        failed += status != DD_OK;
        assert_true(status == DD_OK || status == DD_ERR_NOMEM || status == DD_ERR_IO);
        tiny_remove(path);
    }
    assert_true(failed > 20);
    tiny_remove(folder);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overfits_a_few_scenes),
        cmocka_unit_test(test_context_may_go_first),
        cmocka_unit_test(test_accumulation_is_a_larger_batch),
        cmocka_unit_test(test_evaluation_changes_nothing),
        cmocka_unit_test(test_nonfinite_step_is_refused),
        cmocka_unit_test(test_nonfinite_steps_are_skipped),
        cmocka_unit_test(test_cancelled_step_leaves_no_trace),
        cmocka_unit_test(test_infinite_gradient_is_refused),
        cmocka_unit_test(test_term_that_stays_zero_is_told),
        cmocka_unit_test(test_run_stops_and_goes_on),
        cmocka_unit_test(test_detections_of_an_evaluation),
        cmocka_unit_test(test_run_without_gain_ends_early),
        cmocka_unit_test(test_run_folder),
        cmocka_unit_test(test_folder_is_one_trainers),
        cmocka_unit_test(test_resume_with_teacher),
        cmocka_unit_test(test_wrong_parts),
#ifdef DDI_FAULT_POINTS
        cmocka_unit_test(test_failing_calls),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
