/* SPDX-License-Identifier: Apache-2.0
 * A tiny run in a process of its own, to be killed: run_tiny FOLDER OPTIONS begins one, or takes up the one that is there, runs
 * it to its end and prints a hash of all weights. With DIE_AT=k in the environment the process kills itself at the k-th call
 * that changes a file, a write after half of its bytes; with CRASH=seed besides, the machine crashes: what was written since a
 * file's last fsync is kept, lost or garbage, and a rename before its folder's fsync may not have happened. With FAIL_AT=k the
 * k-th such call of the run itself fails. COUNT=1 prints how many there were, COUNT=2 without those that take the run up. */
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

/* ---- What is not on the disk yet */

enum { MOST_WRITES = 4096, BLOCK = 512 };

typedef struct written {
    char path[300];
    off_t first;
    size_t size;
} written;

static written unsynced[MOST_WRITES];
static int writes;
static char renamed_from[300], renamed_to[300]; /* "": no rename without its folder's fsync */
static uint32_t crash_state;                    /* 0: no crash is asked for */

static uint32_t draw(uint32_t bound)
{
    crash_state = crash_state * 1664525u + 1013904223u;
    return (crash_state >> 8) % bound;
}

static void path_of(int file, char path[300])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, path, 299);
    path[length > 0 ? length : 0] = '\0';
}

static void note_write(int file, size_t size)
{
    written *w = &unsynced[writes];
    if (crash_state && writes < MOST_WRITES) {
        path_of(file, w->path);
        w->first = lseek(file, 0, SEEK_CUR) - (off_t)size;
        w->size = size;
        writes++;
    }
}

static void note_sync(int file)
{
    char path[300], undo[310];
    struct stat about;
    path_of(file, path);
    if (fstat(file, &about) == 0 && S_ISDIR(about.st_mode)) {
        snprintf(undo, sizeof undo, "%s.undo", renamed_to);
        __real_unlink(undo);
        renamed_to[0] = '\0';
        return;
    }
    int kept = 0;
    for (int i = 0; i < writes; i++) {
        if (strcmp(unsynced[i].path, path) != 0) {
            unsynced[kept++] = unsynced[i];
        }
    }
    writes = kept;
}

/* What the file was that a rename covers stays beside it until the folder is synced. */
static void note_rename(const char *from, const char *to)
{
    char undo[310], whole[2][300];
    if (!crash_state || !realpath(from, whole[0])) {
        return;
    }
    snprintf(renamed_from, sizeof renamed_from, "%s", from);
    snprintf(renamed_to, sizeof renamed_to, "%s", to);
    snprintf(undo, sizeof undo, "%s.undo", to);
    __real_unlink(undo);
    if (link(to, undo) != 0 && errno != ENOENT) {
        abort();
    }
    snprintf(whole[1], sizeof whole[1], "%.*s/%s", (int)(strrchr(whole[0], '/') - whole[0]), whole[0], strrchr(to, '/') + 1);
    for (int i = 0; i < writes; i++) {
        if (strcmp(unsynced[i].path, whole[0]) == 0) {
            memcpy(unsynced[i].path, whole[1], sizeof whole[1]);
        }
    }
}

static void spoil(const written *w)
{
    const int file = __real_open(w->path, O_RDWR);
    if (file < 0) {
        return;
    }
    if (draw(4) == 0 && w->first + (off_t)w->size == lseek(file, 0, SEEK_END)) { /* the file has not grown yet */
        if (__real_ftruncate(file, w->first + (off_t)draw((uint32_t)w->size + 1)) != 0) {
            abort();
        }
    }
    const off_t end = lseek(file, 0, SEEK_END);
    for (off_t at = w->first; at < w->first + (off_t)w->size && at < end; at += BLOCK) {
        char block[BLOCK] = {0};
        const uint32_t fate = draw(3);
        const off_t rest = w->first + (off_t)w->size - at, size = rest < BLOCK ? rest : BLOCK;
        for (int i = 0; i < BLOCK && fate == 2; i++) {
            block[i] = (char)draw(256);
        }
        if (fate && pwrite(file, block, (size_t)(end - at < size ? end - at : size), at) < 0) {
            abort();
        }
    }
    close(file);
}

static void crash(void)
{
    char undo[310];
    for (int i = 0; i < writes; i++) {
        spoil(&unsynced[i]);
    }
    snprintf(undo, sizeof undo, "%s.undo", renamed_to);
    if (renamed_to[0] && draw(2)) {
        __real_rename(renamed_to, renamed_from);
        __real_rename(undo, renamed_to);
    }
    __real_unlink(undo);
}

/* ---- The calls */

/* Counts a call; true: it fails. */
static int counted(void)
{
    calls++;
    if (die_at && calls == die_at) {
        if (crash_state) {
            crash();
        }
        kill(getpid(), SIGKILL);
    }
    errno = ENOSPC;
    return fail_at && calls == fail_at;
}

int __wrap_open(const char *path, int flags, ...)
{
    return (flags & O_CREAT) && counted() ? -1 : __real_open(path, flags, 0666);
}

ssize_t __wrap_write(int file, const void *data, size_t size)
{
    if (die_at && calls + 1 == die_at) {
        if (__real_write(file, data, size / 2) < 0) {
            return -1;
        }
        note_write(file, size / 2);
    }
    const ssize_t result = counted() ? -1 : __real_write(file, data, size);
    if (result > 0) {
        note_write(file, (size_t)result);
    }
    return result;
}

int __wrap_fsync(int file)
{
    if (counted() || __real_fsync(file) != 0) {
        return -1;
    }
    note_sync(file);
    return 0;
}

int __wrap_rename(const char *from, const char *to)
{
    if (counted()) {
        return -1;
    }
    note_rename(from, to);
    return __real_rename(from, to);
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
    die_at = number("DIE_AT");
    crash_state = (uint32_t)number("CRASH");
    snprintf(path, sizeof path, "%s/state.safetensors", folder);
    const int there = access(path, F_OK) == 0;
    snprintf(path, sizeof path, "%s/state.next.safetensors", folder);
    if (there || access(path, F_OK) == 0) {
        take_up(&t, folder, argument[2]);
    } else {
        begin(&t, folder, argument[2]);
    }
    fail_at = number("FAIL_AT");
    calls = die_at || number("COUNT") == 1 ? calls : 0;
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
