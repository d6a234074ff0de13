/* SPDX-License-Identifier: Apache-2.0
 * A tiny distillation of each family that stops, is taken up by another process's context and ends with the same bits as one
 * that was left alone. */
#include "tiny.h"

#include <stdio.h>
#include <string.h>

#define RUN "batch=2 lr=1e-3 eval-every=0 log-every=1 "

static const struct family {
    const char *words;
    const char *terms[4]; /* that it has beside those of all */
} families[] = {{"family=dino denoising=10 attention-dropout=0.1", {"loss.denoising", "loss.encoder"}}};

/* A teacher in a folder, where taking the run up finds it. */
static void make_teacher(tiny *t, const struct family *f, const char *folder)
{
    char text[600];
    snprintf(text, sizeof text, "%s %s queries=9", TINY_STUDENT, f->words);
    OK(dd_model_create(&t->teacher, t->context, text));
    OK(dd_model_save(t->teacher, folder));
    dd_model_free(t->teacher);
    OK(dd_model_load(&t->teacher, t->context, folder, NULL));
}

static void begin(tiny *t, const struct family *f, const char *teacher, const char *folder, const char *steps)
{
    char text[600];
    tiny_open(t, f->words, "threads=1 seed=3");
    make_teacher(t, f, teacher);
    snprintf(text, sizeof text, RUN "%s", steps);
    OK(tiny_train(t, folder, text, NULL));
}

static uint64_t run(tiny *t)
{
    dd_model *student;
    OK(dd_trainer_run(t->trainer, 0, NULL));
    OK(dd_trainer_student(t->trainer, &student));
    return tiny_hash(student);
}

static void taken_up(void **state)
{
    const struct family *f = *state;
    tiny t;
    char folder[256], path[300], context[300];
    tiny_folder(folder);
    snprintf(path, sizeof path, "%s/whole", folder);
    begin(&t, f, folder, path, "steps=4");
    const uint64_t whole = run(&t);
    for (int i = 0; i < 4 && f->terms[i]; i++) {
        assert_true(tiny_value(&t, f->terms[i]) > 0);
    }
    assert_true(tiny_value(&t, "loss.prior") > 0 && tiny_value(&t, "loss.logits") > 0);
    tiny_close(&t);
    snprintf(path, sizeof path, "%s/parts", folder);
    begin(&t, f, folder, path, "steps=2");
    assert_true(run(&t) != whole);
    tiny_close(&t);
    snprintf(context, sizeof context, "%s threads=2 seed=99", TINY_DEVICE);
    OK(dd_context_create(&t.context, context));
    OK(dd_trainer_resume(&t.trainer, t.context, path, "steps=4"));
    assert_true(run(&t) == whole);
    tiny_close(&t);
    tiny_remove(folder);
}

int main(void)
{
    struct CMUnitTest tests[sizeof families / sizeof families[0]];
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        tests[i] = (struct CMUnitTest){families[i].words, taken_up, NULL, NULL, (void *)&families[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
