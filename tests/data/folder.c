/* SPDX-License-Identifier: Apache-2.0
 * Small data sets on disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "folder.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

const char *folder_make(void)
{
    snprintf(root, sizeof root, "/tmp/dd_data_XXXXXX");
    assert_non_null(mkdtemp(root));
    return root;
}

static int remove_one(const char *path, const struct stat *about, int flag, struct FTW *where)
{
    return remove(path);
}

void folder_remove(void)
{
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *folder_path(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static void make_parents(const char *name)
{
    char part[512];
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%s/%.*s", root, (int)(slash - name), name);
        mkdir(part, 0777);
    }
}

void folder_write(const char *name, const void *bytes, size_t size)
{
    make_parents(name);
    FILE *file = fopen(folder_path(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

void folder_text(const char *name, const char *text)
{
    folder_write(name, text, strlen(text));
}

void folder_picture(const char *name, int32_t width, int32_t height, const int32_t box[4])
{
    dd_image *image;
    dd_tensor view;
    make_parents(name);
    GOOD(dd_image_create(&image, width, height));
    GOOD(dd_image_pixels(image, &view));
    for (int32_t y = box[1]; y < box[1] + box[3]; y++) {
        memset((uint8_t *)view.data + 3 * (y * width + box[0]), 255, 3 * (size_t)box[2]);
    }
    GOOD(dd_image_save(image, folder_path(name)));
    dd_image_free(image);
}

int64_t statistic(const dd_dataset *dataset, const char *name)
{
    int32_t count;
    GOOD(dd_dataset_statistic_count(dataset, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *known;
        int64_t value;
        GOOD(dd_dataset_statistic_at(dataset, i, &known, &value));
        if (strcmp(known, name) == 0) {
            return value;
        }
    }
    fail_msg("there is no statistic %s", name);
    return -1;
}
