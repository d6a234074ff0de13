/* SPDX-License-Identifier: Apache-2.0
 * compute=bf16: the curve of the loss follows that of fp32, weights and moments stay fp32, a run goes on to the same bits. */
#include "tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STUDENT                                                                                                                \
    "classes=3 queries=12 backbone=resnet-18 block=basic stem=16 depths=1,1,1,1 widths=16,32,32,64 width=64 levels=4 "         \
    "encoder-layers=2 decoder-layers=2 heads=4 ffn=128 refine=1 dropout=0"
#define TEACHER STUDENT " queries=16 decoder-layers=4"
#define OPTIONS "batch=2 epochs=1000 flip=0 lr=5e-4 lr.backbone=1 "

enum { STEPS = 80, WINDOW = 20, SEEDS = 6 };

static void open_pair(tiny *t, const char *compute, int seed, const char *folder)
{
    char options[200], context[60];
    snprintf(context, sizeof context, "threads=1 seed=%d", seed);
    tiny_open(t, "", context);
    dd_model_free(t->student);
    t->student = NULL;
    OK(dd_model_create(&t->teacher, t->context, TEACHER));
    OK(dd_model_create(&t->student, t->context, STUDENT));
    if (folder) { /* a run is taken up with its teacher's folder */
        char path[400];
        snprintf(path, sizeof path, "mkdir -p '%s-teacher'", folder);
        assert_int_equal(system(path), 0);
        snprintf(path, sizeof path, "%s-teacher", folder);
        OK(dd_model_save(t->teacher, path));
        dd_model_free(t->teacher);
        OK(dd_model_load(&t->teacher, t->context, path, "gradients=0"));
    }
    snprintf(options, sizeof options, OPTIONS "compute=%s", compute);
    OK(tiny_train(t, folder, options, NULL));
}

/* Adds losses by step to `loss`; a hash of the weights after them. */
static uint64_t run(const char *compute, int seed, double loss[STEPS])
{
    tiny t;
    open_pair(&t, compute, seed, NULL);
    for (int i = 0; i < STEPS; i++) {
        double one;
        OK(dd_trainer_step(t.trainer, &one));
        loss[i] += one / SEEDS;
    }
    const uint64_t hash = tiny_hash(t.student);
    tiny_close(&t);
    return hash;
}

/* A single run leaves the other's path by some percent once a matching falls out differently; the mean of a few does not. */
static void test_loss_follows_fp32(void **state)
{
    double loss[2][STEPS] = {{0}}, worst = 0;
    for (int seed = 1; seed <= SEEDS; seed++) {
        const uint64_t full = run("fp32", seed, loss[0]), half = run("bf16", seed, loss[1]);
        if (full == half) {
            print_message("skipped: no kernel of this processor computes in bf16\n");
            skip();
        }
    }
    assert_true(fabs(loss[1][0] - loss[0][0]) < 0.01 * loss[0][0]);
    for (int first = 0; first < STEPS; first += WINDOW) {
        double sum[2] = {0, 0};
        for (int i = first; i < first + WINDOW; i++) {
            sum[0] += loss[0][i];
            sum[1] += loss[1][i];
        }
        worst = fmax(worst, fabs(sum[1] / sum[0] - 1));
        print_message("steps %2d..%2d: fp32 %.3f, bf16 %.3f\n", first, first + WINDOW - 1, sum[0] / WINDOW, sum[1] / WINDOW);
    }
    assert_true(worst < 0.03);
    assert_true(loss[0][STEPS - 1] < 0.85 * loss[0][0]); /* there was something to follow */
}

/* How many values of a parameter have bits that bf16 lacks. */
static int64_t count_fine(const dd_tensor *view, int64_t *all)
{
    int64_t n = 1, fine = 0;
    for (int32_t d = 0; d < view->ndim; d++) {
        n *= view->shape[d];
    }
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, (const float *)view->data + i, sizeof bits);
        fine += (bits & 0xFFFF) != 0;
    }
    *all += n;
    return fine;
}

static void test_weights_stay_fp32(void **state)
{
    tiny t;
    int64_t fine = 0, all = 0;
    int32_t count, trained;
    open_pair(&t, "bf16", 4, NULL);
    for (int i = 0; i < 3; i++) {
        OK(dd_trainer_step(t.trainer, NULL));
    }
    OK(dd_model_parameter_count(t.student, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view;
        OK(dd_model_parameter_at(t.student, i, &name, &view, &trained));
        assert_int_equal(view.dtype, DD_F32);
        fine += trained ? count_fine(&view, &all) : 0;
    }
    assert_true((double)fine > 0.95 * (double)all);
    tiny_close(&t);
}

static void check_types(const char *folder)
{
    char path[400];
    dd_tensorfile *file;
    int32_t count, moments = 0;
    snprintf(path, sizeof path, "%s/state.safetensors", folder);
    OK(dd_tensorfile_open(&file, path));
    OK(dd_tensorfile_count(file, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view;
        OK(dd_tensorfile_at(file, i, &name, &view));
        if (strncmp(name, "student.", 8) == 0 || strncmp(name, "moment", 6) == 0) {
            assert_int_equal(view.dtype, DD_F32);
            moments += name[0] == 'm';
        }
    }
    assert_true(moments > 100);
    dd_tensorfile_free(file);
}

static void test_resume_to_the_same_bits(void **state)
{
    tiny t;
    char folder[256], path[300];
    double loss[2];
    uint64_t hash[2];
    tiny_folder(folder);
    for (int k = 0; k < 2; k++) {
        snprintf(path, sizeof path, "%s/%d", folder, k);
        open_pair(&t, "bf16", 4, path);
        for (int i = 0; i < (k ? 4 : 9); i++) {
            OK(dd_trainer_step(t.trainer, &loss[k]));
        }
        if (k) {
            OK(dd_trainer_save(t.trainer));
            check_types(path);
            dd_trainer_free(t.trainer);
            OK(dd_trainer_resume(&t.trainer, t.context, path, NULL));
            for (int i = 0; i < 5; i++) {
                OK(dd_trainer_step(t.trainer, &loss[k]));
            }
        }
        dd_model *student;
        OK(dd_trainer_student(t.trainer, &student));
        hash[k] = tiny_hash(student);
        tiny_close(&t);
    }
    assert_true(loss[0] == loss[1] && hash[0] == hash[1]);
    tiny_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_follows_fp32),
        cmocka_unit_test(test_weights_stay_fp32),
        cmocka_unit_test(test_resume_to_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
