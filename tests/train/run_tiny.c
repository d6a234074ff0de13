/* SPDX-License-Identifier: Apache-2.0
 * A tiny run in a process of its own, to be killed: run_tiny FOLDER OPTIONS begins one, or takes up the one that is there, runs
 * it to its end and prints a hash of all weights. With DIE_AT=k in the environment the process kills itself at the k-th call
 * that changes a file, a write after half of its bytes; with FAIL_AT=k that call fails; COUNT=1 prints how many there were. */
#include "tiny.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static long calls, die_at, fail_at;

/* Counts a call; true: it fails. */
static int counted(void)
{
    calls++;
    if (die_at && calls == die_at) {
        kill(getpid(), SIGKILL);
    }
    errno = ENOSPC;
    return fail_at && calls == fail_at;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
ssize_t __real_write(int file, const void *data, size_t size);
ssize_t __wrap_write(int file, const void *data, size_t size);
int __real_fsync(int file);
int __wrap_fsync(int file);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_ftruncate(int file, off_t size);
int __wrap_ftruncate(int file, off_t size);
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);

int __wrap_open(const char *path, int flags, ...)
{
    return (flags & O_CREAT) && counted() ? -1 : __real_open(path, flags, 0666);
}

ssize_t __wrap_write(int file, const void *data, size_t size)
{
    if (die_at && calls + 1 == die_at && __real_write(file, data, size / 2) < 0) {
        return -1;
    }
    return counted() ? -1 : __real_write(file, data, size);
}

int __wrap_fsync(int file)
{
    return counted() ? -1 : __real_fsync(file);
}

int __wrap_rename(const char *from, const char *to)
{
    return counted() ? -1 : __real_rename(from, to);
}

int __wrap_ftruncate(int file, off_t size)
{
    return counted() ? -1 : __real_ftruncate(file, size);
}

int __wrap_unlink(const char *path)
{
    return counted() ? -1 : __real_unlink(path);
}

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

static void begin(tiny *t, const char *folder, const char *options)
{
    tiny_open(t, "", "threads=1 seed=3");
    OK(tiny_train(t, folder, options, NULL));
}

static void take_up(tiny *t, const char *folder, const char *options)
{
    char text[300];
    snprintf(text, sizeof text, "%s threads=%ld seed=99", TINY_DEVICE, number("THREADS") ? number("THREADS") : 1);
    OK(dd_context_create(&t->context, text));
    OK(dd_trainer_resume(&t->trainer, t->context, folder, options));
}

int main(int count, char **argument)
{
    tiny t = {0};
    char path[512];
    int32_t why = 0;
    dd_model *student;
    const char *folder = argument[1];
    if (count < 3) {
        return 2;
    }
    snprintf(path, sizeof path, "%s/state.safetensors", folder);
    const int there = access(path, F_OK) == 0;
    snprintf(path, sizeof path, "%s/state.next.safetensors", folder);
    if (there || access(path, F_OK) == 0) {
        take_up(&t, folder, argument[2]);
    } else {
        begin(&t, folder, argument[2]);
    }
    die_at = number("DIE_AT");
    fail_at = number("FAIL_AT");
    calls = 0;
    const dd_status status = dd_trainer_run(t.trainer, 0, &why);
    if (status != DD_OK && fail_at) { /* what follows is as if nothing had happened */
        fail_at = 0;
        fprintf(stderr, "%s\n", dd_status_name(status));
        OK(dd_trainer_run(t.trainer, 0, &why));
    } else {
        OK(status);
    }
    if (number("COUNT")) {
        printf("%ld\n", calls);
    } else {
        OK(dd_trainer_student(t.trainer, &student));
        printf("%016llx %d\n", (unsigned long long)tiny_hash(student), why);
    }
    tiny_close(&t);
    return 0;
}
