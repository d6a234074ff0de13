/* SPDX-License-Identifier: Apache-2.0
 * What a run writes while it goes: log.jsonl, metrics.csv, TensorBoard's events. Every line or record goes to the operating
 * system whole and at once; a run that goes on from a checkpoint first cuts off what lies beyond it. */
#ifndef DDI_FORMATS_RUN_FILES_H
#define DDI_FORMATS_RUN_FILES_H

#include "base/io.h"
#include "formats/crc.h"
#include "formats/text.h"

typedef enum ddi_run_kind { DDI_RUN_REAL, DDI_RUN_INTEGER, DDI_RUN_TEXT } ddi_run_kind;

typedef struct ddi_run_value {
    const char *key;
    ddi_run_kind kind;
    double real;
    int64_t integer;
    const char *text;
} ddi_run_value;

/* ---- log.jsonl: {"step":7,"loss":0.5,..} in a line */

typedef struct ddi_run_log {
    ddi_append file;
    ddi_text line;
} ddi_run_log;

/* Lines from the first one of a step above `last_step` on are cut off, and half a line at the end (-1: the file starts anew;
 * INT64_MAX: all whole lines stay). Errors: IO, NOMEM. */
dd_status ddi_run_log_open(ddi_run_log *log, const char *path, int64_t last_step);
/* One line; numbers that JSON does not have become null. Errors: IO, NOMEM. */
dd_status ddi_run_log_write(ddi_run_log *log, int64_t step, const ddi_run_value *value, int32_t count);
dd_status ddi_run_log_close(ddi_run_log *log);

/* ---- metrics.csv (RFC 4180): step and the columns that it was opened with */

typedef struct ddi_run_table {
    ddi_append file;
    ddi_text line;
    int32_t columns;
} ddi_run_table;

/* As ddi_run_log_open; a file with other columns is FORMAT. */
dd_status ddi_run_table_open(ddi_run_table *table, const char *path, const char *const *column, int32_t columns,
                             int64_t last_step);
/* One row of as many numbers as there are columns; NaN: an empty cell. Errors: IO, NOMEM. */
dd_status ddi_run_table_write(ddi_run_table *table, int64_t step, const double *value);
dd_status ddi_run_table_close(ddi_run_table *table);

/* ---- Events of TensorBoard: a new file for each start of a run, FOLDER/events.out.tfevents.SECONDS.WHO */

typedef struct ddi_run_events {
    ddi_append file;
    ddi_text record, part;
    ddi_crc_table table;
} ddi_run_events;

/* `path` must be new. A `first_step` above 0 tells TensorBoard to forget steps from it on that earlier files have. `wall` is
 * the time in seconds since 1970. Errors: IO, NOMEM. */
dd_status ddi_run_events_open(ddi_run_events *events, const char *path, double wall, int64_t first_step);
/* Scalars of a step in one record; texts are left out. Errors: IO, NOMEM. */
dd_status ddi_run_events_write(ddi_run_events *events, double wall, int64_t step, const ddi_run_value *value, int32_t count);
dd_status ddi_run_events_close(ddi_run_events *events);

#endif
