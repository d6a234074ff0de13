/* SPDX-License-Identifier: Apache-2.0
 * The end of opening a data set. */
#ifndef DDI_DATA_FINISH_H
#define DDI_DATA_FINISH_H

#include "data/dataset.h"

/* Sorts pictures by id, gives classes their labels, drops what is missing, puts the objects of each picture together, and
 * judges which are training targets. Errors: FORMAT (an id twice), OPTION (classes), IO (missing=error), LIMIT, NOMEM. */
dd_status ddi_dataset_finish(dd_dataset *dataset);

/* "traffic_light" and "traffic light" are the same. */
bool ddi_same_class(const char *name, const char *other, size_t length);

#endif
