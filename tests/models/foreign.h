/* SPDX-License-Identifier: Apache-2.0
 * Golden checkpoints in the names of other programs. */
#ifndef DD_TESTS_FOREIGN_H
#define DD_TESTS_FOREIGN_H

#include "models/keymap.h"

#include <stdbool.h>

/* Fails the test unless the status is good. */
void good(dd_status status);

/* The checkpoint of a golden folder; where there is none the test is skipped. */
dd_tensorfile *open_golden(const char *name);

/* The name in the other program's file; mmdetection has no copies of heads under the decoder. */
bool invert(const ddi_keymap *map, const char *name, int32_t layers, char source[DDI_KEY_BYTES], int32_t *part, int32_t *parts);

int32_t count_layers(const dd_tensorfile *file);

/* The golden file as the other program would have written it: queries, keys and values joined, under `prefix`. */
dd_tensorfile *as_foreign(const dd_tensorfile *file, const ddi_keymap *map, const char *prefix, bool neck_bias);

#endif
