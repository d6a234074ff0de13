/* SPDX-License-Identifier: Apache-2.0
 * Runs with models of families beside the first: distilled, they learn, and a run that is taken up goes on to the same bits. */
#include "tiny.h"

#include <stdio.h>
#include <stdlib.h>

static const struct family {
    const char *words;
    const char *terms[2]; /* of the loss that it has beside those of all */
} families[] = {{"family=conditional-detr levels=1", {NULL}},
                {"family=adamixer levels=4 encoder-layers=0 in-points=4 out-points=8", {NULL}},
                {"family=dino denoising=10", {"loss.denoising", "loss.encoder"}}};
enum { FAMILIES = sizeof families / sizeof families[0], STEPS = 40, WINDOW = 8 };

#define OPTIONS "batch=2 epochs=1000 flip=0 lr=3e-4 lr.backbone=1 "

/* A run is taken up with its teacher's folder. */
static void open_pair(tiny *t, int family, const char *folder)
{
    char words[600], path[400];
    tiny_open(t, families[family].words, "threads=1 seed=3");
    snprintf(words, sizeof words, TINY_STUDENT " %s queries=16 decoder-layers=4", families[family].words);
    OK(dd_model_create(&t->teacher, t->context, words));
    snprintf(path, sizeof path, "mkdir -p '%s-teacher'", folder);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s-teacher", folder);
    OK(dd_model_save(t->teacher, path));
    dd_model_free(t->teacher);
    OK(dd_model_load(&t->teacher, t->context, path, "gradients=0"));
    OK(tiny_train(t, folder, OPTIONS, NULL));
}

/* Their mean loss. */
static double take_steps(tiny *t, int steps)
{
    double loss, sum = 0;
    for (int i = 0; i < steps; i++) {
        OK(dd_trainer_step(t->trainer, &loss));
        sum += loss;
    }
    return sum / steps;
}

static void test_learns_and_resumes(void **state)
{
    for (int family = 0; family < FAMILIES; family++) {
        uint64_t hash[2];
        double loss[2];
        char folder[256], path[300];
        dd_model *student;
        tiny t;
        tiny_folder(folder);
        for (int taken_up = 0; taken_up < 2; taken_up++) {
            snprintf(path, sizeof path, "%s/%d", folder, taken_up);
            open_pair(&t, family, path);
            const double first = take_steps(&t, WINDOW);
            if (taken_up) {
                OK(dd_trainer_save(t.trainer));
                dd_trainer_free(t.trainer);
                OK(dd_trainer_resume(&t.trainer, t.context, path, NULL));
            }
            take_steps(&t, STEPS - 2 * WINDOW);
            loss[taken_up] = take_steps(&t, WINDOW);
            OK(dd_trainer_student(t.trainer, &student));
            hash[taken_up] = tiny_hash(student);
            for (int i = 0; i < 2 && families[family].terms[i]; i++) {
                assert_true(tiny_value(&t, families[family].terms[i]) > 0);
            }
            assert_true(tiny_value(&t, "loss.prior") > 0 && tiny_value(&t, "loss.logits") > 0);
            print_message("%s: loss %.3f, then %.3f\n", families[family].words, first, loss[taken_up]);
            assert_true(loss[taken_up] < first);
            tiny_close(&t);
        }
        assert_true(hash[0] == hash[1] && loss[0] == loss[1]);
        tiny_remove(folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_learns_and_resumes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
