/* SPDX-License-Identifier: Apache-2.0
 * Temporary folders with a link to a module. */
#include "module_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static void path_in(const char *where, const char *kind, char *path, size_t size)
{
    snprintf(path, size, "%s/libdetrdistill-%s.so", where, kind);
}

const char *module_folder(const char *file, const char *kind)
{
    char link_path[128], target[1024];
    strcpy(folder, "/tmp/detrdistill-module-XXXXXX");
    if (!mkdtemp(folder))
        abort();
    path_in(folder, kind, link_path, sizeof link_path);
    /* this program itself is no module, nor is a text file; the header is a text file that is always there */
    if (file)
        snprintf(target, sizeof target, "%s/%s", MODULE_FILES, file);
    else
        snprintf(target, sizeof target, "%s/detrdistill/detrdistill.h", HEADERS);
    if (symlink(target, link_path) != 0)
        abort();
    return folder;
}

void module_folder_remove(const char *where, const char *kind)
{
    char path[128];
    path_in(where, kind, path, sizeof path);
    unlink(path);
    rmdir(where);
}
