/* SPDX-License-Identifier: Apache-2.0
 * Small data sets on disk for tests. */
#ifndef TESTS_DATA_FOLDER_H
#define TESTS_DATA_FOLDER_H

#include <detrdistill/detrdistill.h>

#define GOOD(call)                                                                                                             \
    do {                                                                                                                       \
        if ((call) != DD_OK)                                                                                                   \
            fail_msg("%s: %s", #call, dd_error_message());                                                                     \
    } while (0)
#define BAD(call, wanted)                                                                                                      \
    do {                                                                                                                       \
        assert_int_equal((call), (wanted));                                                                                    \
        assert_true(strlen(dd_error_message()) > 0);                                                                           \
    } while (0)

/* An empty folder below /tmp, and its end. */
const char *folder_make(void);
void folder_remove(void);
/* Paths and files below it; folders are made as needed. The path lives until the next call. */
const char *folder_path(const char *name);
void folder_write(const char *name, const void *bytes, size_t size);
void folder_text(const char *name, const char *text);
/* A PNG with a white rectangle (x, y, w, h) on black. */
void folder_picture(const char *name, int32_t width, int32_t height, const int32_t box[4]);

int64_t statistic(const dd_dataset *dataset, const char *name);

#endif
