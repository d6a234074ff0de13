/* SPDX-License-Identifier: Apache-2.0
 * What happened in each step, for the table, the file and the picture. */
#ifndef HISTORY_H
#define HISTORY_H

#include "judge.h"
#include "training.h"

enum { TERM_NAME = 64 };

typedef struct history {
    int32_t terms;
    char (*name)[TERM_NAME]; /* [terms] "total", "logits.class", .. */
    bool *shown;             /* [terms] in table and picture: the total and the parts, not the sums between */
    int64_t steps;
    double *value;     /* [steps][terms] */
    double *stability; /* [steps] share of partners kept, -1: unknown */
    verdict *judged;   /* [steps] */
    bool *is_judged;   /* [steps] */
    verdict teacher;
} history;

/* Room for `steps` steps; takes the names of the terms from the first step of the distiller. */
dd_status history_init(history *h, const dd_distiller *distiller, int64_t steps, const verdict *teacher);
/* Adds a step; `judged` may be NULL. */
dd_status history_add(history *h, const training *t, const verdict *judged);
double history_value(const history *h, int64_t step, int32_t term);
void history_free(history *h);

/* OUT/terms.csv and OUT/curves.svg; false (errno says why) where a file cannot be written. */
bool write_csv(const history *h, const char *path);
bool write_curves(const history *h, const char *path);

/* The table on standard output. */
void print_heading(const history *h);
void print_row(const history *h, int64_t step);

#endif
