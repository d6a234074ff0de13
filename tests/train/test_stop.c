/* SPDX-License-Identifier: Apache-2.0
 * A run that is stopped or cancelled at random moments, by a signal handler or by another thread, can be saved each time and
 * ends with the same bits as one that was left alone. And the student as it is handed out. */
#include "tiny.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define RUN "epochs=4 batch=1 eval-limit=2 ema=0.9 lr=1e-3 log-every=1 save-every=3"

static tiny run;
static char run_folder[300];
static int cancels; /* the run's context, else the trainer is stopped */
static volatile sig_atomic_t calls;

static void interrupt_run(int number)
{
    calls++;
    if (cancels) {
        dd_context_cancel(run.context, 1);
    } else {
        dd_trainer_stop(run.trainer);
    }
}

static uint32_t random_state;

static long random_below(long bound)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (long)(random_state >> 8) % bound;
}

/* The signal comes in so many microseconds. */
static void set_timer(long after)
{
    const struct itimerval time = {.it_value = {after / 1000000, after % 1000000}};
    assert_int_equal(setitimer(ITIMER_REAL, &time, NULL), 0);
}

typedef struct other_thread {
    pthread_t thread;
    long after;
} other_thread;

static void *wait_and_interrupt(void *arg)
{
    usleep((useconds_t)((other_thread *)arg)->after);
    interrupt_run(0);
    return NULL;
}

/* Runs to the end with an interruption every now and then; how many there were. */
static int run_with_interruptions(int by_thread, long longest)
{
    int interruptions = 0, why = -1;
    while (why != DD_TRAIN_FINISHED) {
        other_thread other = {.after = random_below(longest)};
        if (by_thread) {
            assert_int_equal(pthread_create(&other.thread, NULL, wait_and_interrupt, &other), 0);
        } else {
            set_timer(other.after + 1);
        }
        const dd_status status = dd_trainer_run(run.trainer, 0, &why);
        if (by_thread) {
            pthread_join(other.thread, NULL);
        } else {
            set_timer(0);
        }
        OK(dd_context_cancel(run.context, 0));
        if (status != DD_OK) {
            assert_true(cancels && status == DD_ERR_CANCELLED);
            why = -1;
        }
        interruptions += why != DD_TRAIN_FINISHED;
        OK(dd_trainer_save(run.trainer));
        if (interruptions == 5 || interruptions == 9) { /* what was saved after an interruption is a whole run */
            dd_trainer_free(run.trainer);
            OK(dd_trainer_resume(&run.trainer, run.context, run_folder, NULL));
            interruptions++;
        }
        assert_true(interruptions < 500);
    }
    return interruptions;
}

static uint64_t student_hash(void)
{
    dd_model *student;
    OK(dd_trainer_student(run.trainer, &student));
    return tiny_hash(student);
}

static void test_interrupted_runs(void **state)
{
    char folder[256];
    uint64_t wanted = 0;
    const struct sigaction action = {.sa_handler = interrupt_run};
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    random_state = (uint32_t)getpid();
    print_message("random moments from %u\n", random_state);
    tiny_folder(folder);
    for (int i = 0; i < 5; i++) { /* alone; stopped, cancelled; by a signal, by a thread */
        struct timespec begin, end;
        static double whole;
        snprintf(run_folder, sizeof run_folder, "%s/%d", folder, i);
        tiny_open(&run, "", "threads=1 seed=6");
        OK(tiny_train(&run, run_folder, RUN, NULL));
        clock_gettime(CLOCK_MONOTONIC, &begin);
        if (i == 0) {
            OK(dd_trainer_run(run.trainer, 0, NULL));
            clock_gettime(CLOCK_MONOTONIC, &end);
            whole = (double)(end.tv_sec - begin.tv_sec) * 1e6 + (double)(end.tv_nsec - begin.tv_nsec) / 1e3;
            wanted = student_hash();
        } else {
            cancels = i > 2;
            const int interruptions = run_with_interruptions(i % 2, (long)(whole / 5) + 1);
            print_message("%d interruptions\n", interruptions);
            assert_true(interruptions > 3);
            assert_true(student_hash() == wanted);
        }
        tiny_close(&run);
    }
    assert_true(calls > 10);
    tiny_remove(folder);
}

/* ---- The student for use */

static uint64_t hash_of_folder(dd_context *context, const char *folder)
{
    dd_model *model;
    OK(dd_model_load(&model, context, folder, NULL));
    const uint64_t hash = tiny_hash(model);
    dd_model_free(model);
    return hash;
}

static void test_export(void **state)
{
    for (int averaged = 0; averaged < 2; averaged++) {
        tiny t;
        char folder[256], path[300], file[400];
        double first, same;
        tiny_folder(folder);
        snprintf(path, sizeof path, "%s/student", folder);
        tiny_open(&t, "", "threads=1 seed=6");
        OK(tiny_train(&t, NULL, averaged ? "lr=1e-2 ema=0.5" : "lr=1e-2", NULL));
        for (int i = 0; i < 3; i++) {
            OK(dd_trainer_step(t.trainer, NULL));
        }
        const uint64_t before = tiny_hash(t.student);
        OK(dd_trainer_export(t.trainer, path));
        assert_true(tiny_hash(t.student) == before);
        assert_true((hash_of_folder(t.context, path) == before) == !averaged);
        OK(dd_trainer_export(t.trainer, path)); /* over the old one */
        snprintf(file, sizeof file, "%s/none/student", folder);
        assert_int_equal(dd_trainer_export(t.trainer, file), DD_ERR_IO);
        assert_int_equal(dd_trainer_export(t.trainer, NULL), DD_ERR_ARGUMENT);
        assert_int_equal(dd_trainer_export(NULL, path), DD_ERR_ARGUMENT);
        assert_true(tiny_hash(t.student) == before);
        OK(dd_trainer_step(t.trainer, &first)); /* neither has changed the run */
        tiny_close(&t);
        tiny_open(&t, "", "threads=1 seed=6");
        OK(tiny_train(&t, NULL, averaged ? "lr=1e-2 ema=0.5" : "lr=1e-2", NULL));
        for (int i = 0; i < 4; i++) {
            OK(dd_trainer_step(t.trainer, &same));
        }
        assert_true(first == same);
        tiny_close(&t);
        tiny_remove(folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_interrupted_runs), cmocka_unit_test(test_export)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
