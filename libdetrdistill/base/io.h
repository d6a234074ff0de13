/* SPDX-License-Identifier: Apache-2.0
 * The one file layer: nothing else in the library opens, reads, writes, maps, renames or removes a file. Every system
 * call asks ddi_fault() first, so a test build can make each of them fail. */
#ifndef DDI_BASE_IO_H
#define DDI_BASE_IO_H

#include <detrdistill/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A whole file, mapped read-only. An empty file has data NULL and size 0. */
typedef struct ddi_file_map {
    const void *data;
    size_t size;
} ddi_file_map;

/* Errors: IO (also for what is not a regular file). */
dd_status ddi_file_map_open(ddi_file_map *map, const char *path);
void ddi_file_map_close(ddi_file_map *map);

/* Whether there is something at the path. */
bool ddi_file_exists(const char *path);

/* Bytes of a file. Errors: IO (also for what is not a regular file). */
dd_status ddi_file_size(const char *path, int64_t *bytes);

/* Removes a file. Errors: IO. */
dd_status ddi_file_remove(const char *path);

/* Names of the files in a folder that end in `ending`, sorted by byte; to be freed at once with ddi_free(NULL, ..), the names
 * lie behind the array. Errors: IO, NOMEM, LIMIT (more than 2^22 files). */
dd_status ddi_folder_list(const char *folder, const char *ending, char ***names, int32_t *count);

/* One run of bytes of a file to be written. */
typedef struct ddi_file_piece {
    const void *data;
    size_t size;
} ddi_file_piece;

/* Makes `path` hold the pieces, one after the other. They are written to a new file beside it, synced and renamed, so that
 * `path` is at any time the old file or the whole new one; on error the new file is removed. A symbolic link is replaced, not
 * followed; an existing file's permissions are kept. Errors: IO, NOMEM. */
dd_status ddi_file_replace(const char *path, const ddi_file_piece *pieces, size_t count);

/* The path from the root, links followed, or the path as it is where that is not to be had. */
void ddi_path_absolute(const char *path, char absolute[4096]);

/* Moves a file within its folder, over one of that name, and syncs the folder. Errors: IO, NOMEM. */
dd_status ddi_file_rename(const char *from, const char *to);

/* Makes a folder unless it is there. Errors: IO. */
dd_status ddi_folder_make(const char *folder);

/* Keeps other trainers out of a folder until it is given back, or the process ends in whatever way. *lock: what to give back,
 * -1 where the file system has no locks. Errors: STATE (somebody has it), IO. */
dd_status ddi_folder_lock(const char *folder, int *lock);
void ddi_folder_unlock(int lock);

/* Removes what writers of `ddi_file_replace` left beside its files when they were killed. Nobody else may be writing there.
 * Errors: IO, NOMEM, LIMIT. */
dd_status ddi_folder_sweep(const char *folder);

/* A file that grows at its end. */
typedef struct ddi_append {
    int descriptor;
    int64_t size;
    char *path;
} ddi_append;

/* Opens `path`, or makes it; of what it holds, `keep` bytes stay (negative: all). Errors: IO, NOMEM. */
dd_status ddi_append_open(ddi_append *file, const char *path, int64_t keep);
/* Hands the bytes to the operating system at once. On an error what was written of them is cut off again. Errors: IO. */
dd_status ddi_append_write(ddi_append *file, const void *data, size_t size);
/* Syncs and closes; closed in any case, and twice is as good as once. Errors: IO. */
dd_status ddi_append_close(ddi_append *file);

#endif
