/* SPDX-License-Identifier: Apache-2.0
 * A run that is killed and taken up again ends with the same bits as one that was left alone: at random times, at any call that
 * writes, with damaged checkpoints, with another number of threads. */
#include "tiny.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUN "batch=1 eval-limit=2 ema=0.9 log-every=1 lr=1e-3 "

enum { ANSWER = 64 };

typedef struct child {
    pid_t process;
    int output;
} child;

static child start(const char *folder, const char *options, const char *variable, long value)
{
    int ends[2];
    char text[32];
    assert_int_equal(pipe(ends), 0);
    const pid_t process = fork();
    assert_true(process >= 0);
    if (process == 0) {
        snprintf(text, sizeof text, "%ld", value);
        if (variable) {
            setenv(variable, text, 1);
        }
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(RUN_TINY, RUN_TINY, folder, options, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    return (child){process, ends[0]};
}

/* Waits for the end; 0: a good one, else the signal. */
static int finish(child c, char answer[ANSWER])
{
    int status;
    ssize_t size = 0, got;
    while (size < ANSWER - 1 && (got = read(c.output, answer + size, (size_t)(ANSWER - 1 - size))) > 0) {
        size += got;
    }
    answer[size] = '\0';
    close(c.output);
    assert_int_equal(waitpid(c.process, &status, 0), c.process);
    if (WIFEXITED(status)) {
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void run(const char *folder, const char *options, char answer[ANSWER])
{
    assert_int_equal(finish(start(folder, options, NULL, 0), answer), 0);
}

static void copy_folder(const char *from, const char *to)
{
    char command[1000];
    snprintf(command, sizeof command, "rm -rf '%s' && cp -r '%s' '%s'", to, from, to);
    assert_int_equal(system(command), 0);
}

static void sleep_for(double seconds)
{
    const struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, NULL);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Random times */

static uint32_t random_state;

static double random_part(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (double)(random_state >> 8) / (1 << 24);
}

static void test_killed_at_random(void **state)
{
    static const char options[] = RUN "steps=60 save-every=2";
    char folder[256], alone[300], killed[300], wanted[ANSWER], answer[ANSWER];
    int kills = 0;
    random_state = (uint32_t)getpid();
    print_message("kill times from %u\n", random_state);
    tiny_folder(folder);
    snprintf(alone, sizeof alone, "%s/alone", folder);
    snprintf(killed, sizeof killed, "%s/killed", folder);
    const double begin = now();
    run(alone, options, wanted);
    const double whole = now() - begin;
    const int wished = getenv("DETRDISTILL_TEST_ALL") ? 500 : 25;
    for (int starts = 0; kills < wished; starts++) {
        child c = start(killed, options, NULL, 0);
        sleep_for(whole * 0.5 * random_part());
        kill(c.process, SIGKILL);
        if (finish(c, answer) == SIGKILL) {
            kills++;
        } else { /* it was at its end */
            assert_string_equal(answer, wanted);
            tiny_remove(killed);
        }
        assert_true(starts < 5 * wished);
    }
    run(killed, options, answer);
    assert_string_equal(answer, wanted);
    tiny_remove(folder);
}

/* ---- Another process */

static void test_killed_trainer_leaves_no_lock(void **state)
{
    char folder[256], path[300], file[400], context[300], answer[ANSWER];
    tiny t = {0};
    tiny_folder(folder);
    snprintf(path, sizeof path, "%s/run", folder);
    snprintf(file, sizeof file, "%s/state.previous.safetensors", path);
    snprintf(context, sizeof context, "%s threads=1", TINY_DEVICE);
    OK(dd_context_create(&t.context, context));
    child c = start(path, RUN "steps=100000 save-every=1", NULL, 0);
    for (int i = 0; access(file, F_OK) != 0; i++) {
        sleep_for(0.01);
        assert_true(i < 3000);
    }
    assert_int_equal(dd_trainer_resume(&t.trainer, t.context, path, NULL), DD_ERR_STATE);
    assert_non_null(strstr(dd_error_message(), "another trainer"));
    kill(c.process, SIGKILL);
    assert_int_equal(finish(c, answer), SIGKILL);
    OK(dd_trainer_resume(&t.trainer, t.context, path, NULL));
    tiny_close(&t);
    tiny_remove(folder);
}

/* ---- At a call that writes */

static void prepare(const char *folder, char base[300], char copy[300], char wanted[ANSWER])
{
    char answer[ANSWER];
    snprintf(base, 300, "%s/base", folder);
    snprintf(copy, 300, "%s/copy", folder);
    run(base, RUN "steps=3", answer);
    run(copy, RUN "steps=5", wanted);
}

static void test_killed_while_writing(void **state)
{
    char folder[256], base[300], copy[300], wanted[ANSWER], answer[ANSWER];
    tiny_folder(folder);
    prepare(folder, base, copy, wanted);
    copy_folder(base, copy);
    assert_int_equal(finish(start(copy, "steps=5 save-every=1", "COUNT", 1), answer), 0);
    const long calls = strtol(answer, NULL, 10);
    print_message("%ld calls that write\n", calls);
    assert_true(calls > 50);
    const char *all = getenv("DETRDISTILL_TEST_ALL");
    for (long k = 1; k <= calls; k += all ? 1 : 1 + calls / 24) {
        copy_folder(base, copy);
        assert_int_equal(finish(start(copy, "steps=5 save-every=1", "DIE_AT", k), answer), SIGKILL);
        run(copy, "steps=5 save-every=1", answer);
        if (strcmp(answer, wanted) != 0) {
            print_error("killed at call %ld\n", k);
        }
        assert_string_equal(answer, wanted);
    }
    tiny_remove(folder);
}

/* Then previous or newest checkpoint is whole, whatever became of the rest. */
static void test_machine_crashes(void **state)
{
    char folder[256], base[300], copy[300], wanted[ANSWER], answer[ANSWER], text[32];
    const int crashes = getenv("DETRDISTILL_TEST_ALL") ? 400 : 24;
    tiny_folder(folder);
    prepare(folder, base, copy, wanted);
    copy_folder(base, copy);
    assert_int_equal(finish(start(copy, "steps=5 save-every=1", "COUNT", 1), answer), 0);
    const long calls = strtol(answer, NULL, 10);
    random_state = (uint32_t)getpid();
    print_message("crashes from %u\n", random_state);
    for (int i = 1; i <= crashes; i++) {
        const long k = 1 + (long)(random_part() * (double)calls);
        copy_folder(base, copy);
        snprintf(text, sizeof text, "%d", 1 + (int)(random_part() * 1e9));
        setenv("CRASH", text, 1);
        assert_int_equal(finish(start(copy, "steps=5 save-every=1", "DIE_AT", k), answer), SIGKILL);
        unsetenv("CRASH");
        run(copy, "steps=5 save-every=1", answer);
        if (strcmp(answer, wanted) != 0) {
            print_error("crash %s at call %ld\n", text, k);
        }
        assert_string_equal(answer, wanted);
    }
    tiny_remove(folder);
}

static void test_failing_call(void **state)
{
    char folder[256], base[300], copy[300], wanted[ANSWER], answer[ANSWER];
    tiny_folder(folder);
    prepare(folder, base, copy, wanted);
    copy_folder(base, copy);
    assert_int_equal(finish(start(copy, "steps=5 save-every=1", "COUNT", 2), answer), 0);
    const long calls = strtol(answer, NULL, 10);
    for (long k = 1; k <= calls; k += getenv("DETRDISTILL_TEST_ALL") ? 1 : 1 + calls / 10) {
        copy_folder(base, copy);
        assert_int_equal(finish(start(copy, "steps=5 save-every=1", "FAIL_AT", k), answer), 0);
        assert_string_equal(answer, wanted);
        run(copy, "steps=6", answer); /* what it left can be taken up */
    }
    tiny_remove(folder);
}

/* ---- Other threads, damaged files */

static void test_other_threads(void **state)
{
    char folder[256], base[300], copy[300], wanted[ANSWER], answer[ANSWER];
    tiny_folder(folder);
    prepare(folder, base, copy, wanted);
    copy_folder(base, copy);
    assert_int_equal(finish(start(copy, "steps=5 save-every=1 threads=0 prefetch=3", "THREADS", 2), answer), 0);
    assert_string_equal(answer, wanted);
    tiny_remove(folder);
}

static long size_of(const char *path)
{
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    return (long)about.st_size;
}

static void flip(const char *path, long at)
{
    unsigned char byte;
    const int file = open(path, O_RDWR);
    assert_int_equal(pread(file, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(pwrite(file, &byte, 1, at), 1);
    close(file);
}

/* Each damage is found: the one before is taken, or, where that is damaged, too, an error. */
static void test_damaged_checkpoints(void **state)
{
    char folder[256], base[300], copy[300], last[400], previous[400], wanted[ANSWER];
    tiny t = {0};
    tiny_folder(folder);
    prepare(folder, base, copy, wanted);
    snprintf(last, sizeof last, "%s/state.safetensors", copy);
    snprintf(previous, sizeof previous, "%s/state.previous.safetensors", copy);
    char context[300];
    snprintf(context, sizeof context, "%s threads=1", TINY_DEVICE);
    OK(dd_context_create(&t.context, context));
    for (int i = 0; i < 12; i++) {
        copy_folder(base, copy);
        const long size = size_of(last), at = i < 4 ? 8 + 40 * i : size / 12 * i;
        if (i % 3 == 2) {
            assert_int_equal(truncate(last, at), 0);
        } else {
            flip(last, at);
        }
        OK(dd_trainer_resume(&t.trainer, t.context, copy, NULL));
        assert_true(tiny_value(&t, "step") < 3);
        dd_trainer_free(t.trainer);
        t.trainer = NULL;
        flip(previous, size_of(previous) / 2);
        const dd_status status = dd_trainer_resume(&t.trainer, t.context, copy, NULL);
        assert_true(status == DD_ERR_FORMAT || status == DD_ERR_DTYPE || status == DD_ERR_LIMIT);
        assert_true(strlen(dd_error_message()) > 0);
    }
    assert_int_equal(dd_trainer_resume(&t.trainer, t.context, folder, NULL), DD_ERR_NOT_FOUND);
    tiny_close(&t);
    tiny_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_at_random),     cmocka_unit_test(test_killed_trainer_leaves_no_lock),
        cmocka_unit_test(test_killed_while_writing), cmocka_unit_test(test_machine_crashes),
        cmocka_unit_test(test_failing_call),         cmocka_unit_test(test_other_threads),
        cmocka_unit_test(test_damaged_checkpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
