/* SPDX-License-Identifier: Apache-2.0
 * How good a model's outputs are: COCO average precision and the share of objects that are found. */
#ifndef JUDGE_H
#define JUDGE_H

#include "case.h"
#include <detrdistill/detrdistill.h>

typedef struct verdict {
    double ap, ap50, ap75; /* COCO's; of the 100 best (query, class) entries of each picture */
    double found;          /* share of objects whose matched query has the right class on top and IoU >= .5 */
} verdict;

dd_status judge(const distil_case *c, const detections *d, dd_context *context, verdict *v);

#endif
