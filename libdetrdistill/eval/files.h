/* SPDX-License-Identifier: Apache-2.0
 * What the readers of evaluation files share. */
#ifndef DDI_EVAL_FILES_H
#define DDI_EVAL_FILES_H

#include "eval/coco.h"
#include "formats/json_items.h"

typedef dd_status (*ddi_eval_reader)(dd_eval *eval, ddi_json_items *items, void *user);

/* Maps a JSON file and walks through it; on error nothing of it stays. */
dd_status ddi_eval_read_file(dd_eval *eval, const char *path, ddi_eval_reader read, void *user);
/* The same for a list of results: `add` gets each of its items. */
typedef dd_status (*ddi_eval_adder)(dd_eval *eval, ddi_json_items *items, struct json_object *item, void *user);
dd_status ddi_eval_read_results(dd_eval *eval, const char *path, ddi_eval_adder add, void *user);
/* bbox (x,y,w,h) and score of a result. */
dd_status ddi_eval_read_detection(ddi_json_items *items, struct json_object *item, double box[4], double *score);
/* Forgets what was added since the copy `before` was taken. */
void ddi_eval_undo(dd_eval *eval, const dd_eval *before);
dd_status ddi_eval_add_name(dd_eval *eval, int64_t label, const char *name);
dd_status ddi_eval_check_path(const void *path, const char *function);

#endif
