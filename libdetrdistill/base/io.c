/* SPDX-License-Identifier: Apache-2.0
 * Mapping of whole files and writing of whole files, all or nothing. */
#include "base/io.h"
#include "base/alloc.h"
#include "base/error.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The system calls, each able to fail on demand: the fault is an I/O error. */
#define OR_FAULT(call) (ddi_fault() ? (errno = EIO, -1) : (call))

static dd_status fail_io(const char *what, const char *path)
{
    char reason[96];
    const char *text = strerror_r(errno, reason, sizeof reason);
    return ddi_fail(DD_ERR_IO, NULL, "cannot %s %s: %s", what, path, text);
}

static dd_status map_descriptor(ddi_file_map *map, int descriptor, const char *path)
{
    struct stat about;
    if (OR_FAULT(fstat(descriptor, &about)))
        return fail_io("look at", path);
    if (!S_ISREG(about.st_mode))
        return ddi_fail(DD_ERR_IO, NULL, "%s is not a regular file; give the path of a file on disk", path);
    ddi_file_map made = {NULL, (size_t)about.st_size};
    if (made.size) {
        void *memory =
            ddi_fault() ? (errno = ENOMEM, MAP_FAILED) : mmap(NULL, made.size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (memory == MAP_FAILED)
            return fail_io("map", path);
        made.data = memory;
    }
    *map = made;
    return DD_OK;
}

dd_status ddi_file_map_open(ddi_file_map *map, const char *path)
{
    int descriptor;
    do /* O_NONBLOCK: a named pipe without a writer would hang here */
        descriptor = OR_FAULT(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0)
        return fail_io("open", path);
    dd_status status = map_descriptor(map, descriptor, path);
    close(descriptor); /* the mapping stays */
    return status;
}

void ddi_file_map_close(ddi_file_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (ddi_file_map){NULL, 0};
}

static int write_all(int descriptor, const ddi_file_piece *piece)
{
    const char *data = piece->data;
    size_t left = piece->size;
    while (left) {
        ssize_t written = OR_FAULT(write(descriptor, data, left));
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return -1;
        data += written;
        left -= (size_t)written;
    }
    return 0;
}

static int sync_descriptor(int descriptor)
{
    int result;
    do
        result = OR_FAULT(fsync(descriptor));
    while (result && errno == EINTR);
    return result;
}

/* Closed in any case, also where the fault says that it failed. */
static int close_descriptor(int descriptor)
{
    int result = close(descriptor);
    return OR_FAULT(result);
}

/* Opens PATH.new-PID-N, the first N that is free, with the permissions of an existing file at `path`. */
static int create_beside(const char *path, char *name, size_t name_size)
{
    struct stat old;
    mode_t mode = stat(path, &old) == 0 ? old.st_mode & 0777 : 0666;
    for (int attempt = 0; attempt < 1000; attempt++) {
        snprintf(name, name_size, "%s.new-%ld-%d", path, (long)getpid(), attempt);
        int descriptor = OR_FAULT(open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
        if (descriptor >= 0 || (errno != EEXIST && errno != EINTR))
            return descriptor;
    }
    return -1;
}

static dd_status write_new_file(int descriptor, const char *name, const ddi_file_piece *pieces, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (write_all(descriptor, &pieces[i]))
            return fail_io("write", name);
    }
    if (sync_descriptor(descriptor))
        return fail_io("sync", name);
    return DD_OK;
}

/* The directory is opened before the rename: afterwards nothing but its sync can fail. */
static dd_status rename_and_sync(const char *name, const char *path, char *directory, bool *renamed)
{
    char *slash = strrchr(directory, '/');
    if (slash)
        slash[1] = 0;
    int descriptor = OR_FAULT(open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (descriptor < 0)
        return fail_io("open the directory of", path);
    dd_status status = DD_OK;
    if (OR_FAULT(rename(name, path))) {
        status = fail_io("rename the finished file to", path);
    } else {
        *renamed = true;
        /* EINVAL: a file system whose directories cannot be synced */
        if (sync_descriptor(descriptor) && errno != EINVAL)
            status = fail_io("sync the directory of the (complete) file", path);
    }
    close(descriptor);
    return status;
}

dd_status ddi_file_replace(const char *path, const ddi_file_piece *pieces, size_t count)
{
    size_t room = strlen(path) + 64;
    char *name = ddi_alloc(NULL, room);
    char *directory = ddi_strdup(NULL, path);
    if (!name || !directory) {
        ddi_free(NULL, name);
        ddi_free(NULL, directory);
        return ddi_fail_nomem(room, "a file name");
    }
    dd_status status;
    bool renamed = false;
    int descriptor = create_beside(path, name, room);
    if (descriptor < 0) {
        status = fail_io("create", name);
    } else {
        status = write_new_file(descriptor, name, pieces, count);
        if (close_descriptor(descriptor) && status == DD_OK)
            status = fail_io("close", name);
        if (status == DD_OK)
            status = rename_and_sync(name, path, directory, &renamed);
        if (!renamed)
            unlink(name);
    }
    ddi_free(NULL, directory);
    ddi_free(NULL, name);
    return status;
}

dd_status ddi_file_rename(const char *from, const char *to)
{
    char *directory = ddi_strdup(NULL, to);
    bool renamed = false;
    if (!directory)
        return ddi_fail_nomem(strlen(to), "a file name");
    dd_status status = rename_and_sync(from, to, directory, &renamed);
    ddi_free(NULL, directory);
    return status;
}

/* ---- Folders */

dd_status ddi_folder_make(const char *folder)
{
    struct stat about;
    if (!OR_FAULT(mkdir(folder, 0777)))
        return DD_OK;
    const int reason = errno;
    if (reason == EEXIST && stat(folder, &about) == 0 && S_ISDIR(about.st_mode))
        return DD_OK;
    errno = reason;
    return fail_io("make the folder", folder);
}

/* On the folder itself: no file is left behind, and two of one process exclude each other, too. */
dd_status ddi_folder_lock(const char *folder, int *lock)
{
    int result;
    *lock = -1;
    const int descriptor = OR_FAULT(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (descriptor < 0)
        return fail_io("open the folder", folder);
    do
        result = flock(descriptor, LOCK_EX | LOCK_NB);
    while (result && errno == EINTR);
    if (result == 0) {
        *lock = descriptor;
        return DD_OK;
    }
    const bool taken = errno == EWOULDBLOCK;
    close(descriptor);
    return taken ? ddi_fail(DD_ERR_STATE, NULL,
                            "%.150s is in use by another trainer; wait for its end, or choose another folder", folder)
                 : DD_OK;
}

void ddi_folder_unlock(int lock)
{
    if (lock >= 0) {
        flock(lock, LOCK_UN); /* a forked child may have the descriptor, too */
        close(lock);
    }
}

/* NAME.new-PID-N, see create_beside. */
static bool is_left_over(const char *name)
{
    const char *mark = strstr(name, ".new-");
    return mark && mark > name && mark[5] && strspn(mark + 5, "0123456789-") == strlen(mark + 5);
}

dd_status ddi_folder_sweep(const char *folder)
{
    char path[4096], **names;
    int32_t count;
    dd_status status = DD_OK;
    DDI_TRY(ddi_folder_list(folder, "", &names, &count));
    for (int32_t i = 0; i < count && status == DD_OK; i++) {
        if (!is_left_over(names[i]) || snprintf(path, sizeof path, "%s/%s", folder, names[i]) >= (int)sizeof path)
            continue;
        if (OR_FAULT(unlink(path)))
            status = fail_io("remove", path);
    }
    ddi_free(NULL, names);
    return status;
}

/* ---- Files that grow */

static dd_status prepare_append(ddi_append *file, int64_t keep)
{
    struct stat about;
    if (OR_FAULT(fstat(file->descriptor, &about)))
        return fail_io("look at", file->path);
    if (!S_ISREG(about.st_mode))
        return ddi_fail(DD_ERR_IO, NULL, "%s is not a regular file; give the path of a file on disk", file->path);
    file->size = about.st_size;
    if (keep >= 0 && keep < file->size) {
        if (OR_FAULT(ftruncate(file->descriptor, keep)))
            return fail_io("shorten", file->path);
        file->size = keep;
    }
    return DD_OK;
}

dd_status ddi_append_open(ddi_append *file, const char *path, int64_t keep)
{
    *file = (ddi_append){.descriptor = -1, .path = ddi_strdup(NULL, path)};
    if (!file->path)
        return ddi_fail_nomem(strlen(path), "a file name");
    do
        file->descriptor = OR_FAULT(open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666));
    while (file->descriptor < 0 && errno == EINTR);
    dd_status status = file->descriptor < 0 ? fail_io("open", path) : prepare_append(file, keep);
    if (status != DD_OK) {
        if (file->descriptor >= 0)
            close(file->descriptor);
        ddi_free(NULL, file->path);
        *file = (ddi_append){.descriptor = -1};
    }
    return status;
}

dd_status ddi_append_write(ddi_append *file, const void *data, size_t size)
{
    const ddi_file_piece piece = {data, size};
    if (write_all(file->descriptor, &piece)) {
        dd_status status = fail_io("write", file->path);
        if (ftruncate(file->descriptor, file->size))
            return fail_io("write, nor cut off what was written of it,", file->path);
        return status;
    }
    file->size += (int64_t)size;
    return DD_OK;
}

dd_status ddi_append_close(ddi_append *file)
{
    dd_status status = DD_OK;
    if (file->path) {
        if (sync_descriptor(file->descriptor))
            status = fail_io("sync", file->path);
        if (close_descriptor(file->descriptor) && status == DD_OK)
            status = fail_io("close", file->path);
        ddi_free(NULL, file->path);
    }
    *file = (ddi_append){.descriptor = -1};
    return status;
}

dd_status ddi_file_size(const char *path, int64_t *bytes)
{
    struct stat about;
    if (OR_FAULT(stat(path, &about)))
        return fail_io("look at", path);
    if (!S_ISREG(about.st_mode))
        return ddi_fail(DD_ERR_IO, NULL, "%s is not a regular file", path);
    *bytes = about.st_size;
    return DD_OK;
}

dd_status ddi_file_remove(const char *path)
{
    return OR_FAULT(unlink(path)) ? fail_io("remove", path) : DD_OK;
}
