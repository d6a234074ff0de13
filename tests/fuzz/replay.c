/* SPDX-License-Identifier: Apache-2.0
 * Runs a fuzz target on the files of folders, and on each of them cut in half: replay FOLDER.. */
#include "target.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static int replay(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(1 << 20);
    if (!file || !bytes) {
        fprintf(stderr, "cannot read %s\n", path);
        return 0;
    }
    const size_t size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    const size_t sizes[] = {size, size / 2};
    for (int i = 0; i < 2; i++) {
        uint8_t *exact = malloc(sizes[i] + !sizes[i]); /* so that a sanitizer sees what reads beyond */
        for (size_t k = 0; k < sizes[i]; k++) {
            exact[k] = bytes[k];
        }
        LLVMFuzzerTestOneInput(exact, sizes[i]);
        free(exact);
    }
    free(bytes);
    return 1;
}

int main(int argc, char **argv)
{
    int passed = 0, failed = argc < 2;
    for (int i = 1; i < argc; i++) {
        int here = 0;
        DIR *folder = opendir(argv[i]);
        for (const struct dirent *entry; folder && (entry = readdir(folder));) {
            if (entry->d_name[0] != '.') {
                const int good = replay(argv[i], entry->d_name);
                here += good;
                failed += !good;
            }
        }
        if (folder) {
            closedir(folder);
        }
        failed += here == 0; /* an empty corpus tests nothing */
        passed += here;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
