/* SPDX-License-Identifier: Apache-2.0
 * What a folder holds. */
#include "base/alloc.h"
#include "base/error.h"
#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_FILES = 1 << 22 };

bool ddi_file_exists(const char *path)
{
    return !ddi_fault() && access(path, F_OK) == 0;
}

void ddi_path_absolute(const char *path, char absolute[4096])
{
    _Static_assert(PATH_MAX <= 4096, "realpath writes up to PATH_MAX bytes");
    if (!realpath(path, absolute)) {
        snprintf(absolute, 4096, "%s", path);
    }
}

static bool ends_with(const char *name, const char *ending)
{
    const size_t length = strlen(name), tail = strlen(ending);
    return length > tail && strcmp(name + length - tail, ending) == 0;
}

/* Bytes and number of the names; with `names` they are copied, too, as far as there is room. */
static dd_status walk(const char *folder, const char *ending, size_t *bytes, int32_t *count, char **names, char *text)
{
    const size_t room = *bytes;
    const int32_t most = *count;
    DIR *stream = ddi_fault() ? (errno = EIO, NULL) : opendir(folder);
    if (!stream) {
        char reason[96];
        return ddi_fail(DD_ERR_IO, NULL, "cannot open the folder %s: %s", folder, strerror_r(errno, reason, sizeof reason));
    }
    *bytes = 0;
    *count = 0;
    for (const struct dirent *entry; *count < MOST_FILES && (entry = readdir(stream));) {
        const size_t length = strlen(entry->d_name) + 1;
        if (!ends_with(entry->d_name, ending)) {
            continue;
        }
        if (names) {
            if (*count == most || *bytes + length > room) {
                break; /* the folder has grown meanwhile */
            }
            names[*count] = memcpy(text + *bytes, entry->d_name, length);
        }
        *bytes += length;
        ++*count;
    }
    closedir(stream);
    return *count < MOST_FILES ? DD_OK : ddi_fail(DD_ERR_LIMIT, NULL, "the folder %s has more than 4194303 files", folder);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

dd_status ddi_folder_list(const char *folder, const char *ending, char ***names, int32_t *count)
{
    size_t bytes = 0;
    *count = 0;
    *names = NULL;
    DDI_TRY(walk(folder, ending, &bytes, count, NULL, NULL));
    const size_t table = (size_t)*count * sizeof(char *);
    char **made = ddi_alloc(NULL, table + bytes + 1);
    if (!made) {
        return ddi_fail_nomem(table + bytes, "the list of a folder");
    }
    const dd_status status = walk(folder, ending, &bytes, count, made, (char *)made + table);
    if (status != DD_OK) {
        ddi_free(NULL, made);
        return status;
    }
    qsort(made, (size_t)*count, sizeof *made, by_name);
    *names = made;
    return DD_OK;
}
