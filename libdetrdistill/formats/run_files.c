/* SPDX-License-Identifier: Apache-2.0
 * Log, table and events of a run. */
#include "formats/run_files.h"
#include "base/error.h"

#include <math.h>
#include <string.h>

enum { REAL_DIGITS = 9 }; /* enough for every float to come back as it was */

/* ---- Going on */

/* The number at the start of a line, behind `front`; false: it is no line of ours. */
static bool step_of(const char *line, const char *end, const char *front, int64_t *step)
{
    const size_t bytes = strlen(front);
    if ((size_t)(end - line) <= bytes || memcmp(line, front, bytes) != 0 || line[bytes] < '0' || line[bytes] > '9') {
        return false;
    }
    *step = 0;
    for (line += bytes; line < end && *line >= '0' && *line <= '9' && *step < INT64_MAX / 16; line++) {
        *step = *step * 10 + (*line - '0');
    }
    return true;
}

/* How many bytes of the lines stay, from `at` on. */
static size_t find_cut(const char *text, size_t size, size_t at, const char *front, int64_t last_step)
{
    while (at < size) {
        const char *end = memchr(text + at, '\n', size - at);
        int64_t step;
        if (!end || (step_of(text + at, end, front, &step) && step > last_step)) {
            break;
        }
        at = (size_t)(end - text) + 1;
    }
    return at;
}

/* Opens a file of lines of which the first must be `head` ("" : no such line). */
static dd_status open_lines(ddi_append *file, const char *path, const ddi_text *head, const char *front, int64_t last_step)
{
    ddi_file_map map = {NULL, 0};
    size_t keep = 0;
    *file = (ddi_append){.descriptor = -1};
    if (last_step >= 0 && ddi_file_exists(path)) {
        DDI_TRY(ddi_file_map_open(&map, path));
        const char *text = map.data, *line = text ? memchr(text, '\n', map.size) : NULL;
        const bool same = map.size >= head->size && (head->size == 0 || memcmp(text, head->data, head->size) == 0);
        const bool other = line && !same;
        keep = same ? find_cut(text, map.size, head->size, front, last_step) : 0;
        ddi_file_map_close(&map);
        if (other) {
            return ddi_fail(DD_ERR_FORMAT, NULL, "%s has other columns than this run; move it away, or go on as before", path);
        }
    }
    DDI_TRY(ddi_append_open(file, path, (int64_t)keep));
    const dd_status status = keep == 0 && head->size ? ddi_append_write(file, head->data, head->size) : DD_OK;
    if (status != DD_OK) {
        ddi_append_close(file);
    }
    return status;
}

static dd_status write_text(ddi_append *file, const ddi_text *text)
{
    DDI_TRY(ddi_text_status(text));
    return ddi_append_write(file, text->data, text->size);
}

static void start(ddi_text *text)
{
    text->size = 0;
    text->failed = false;
}

/* ---- log.jsonl */

dd_status ddi_run_log_open(ddi_run_log *log, const char *path, int64_t last_step)
{
    const ddi_text none = {.data = NULL};
    *log = (ddi_run_log){.line = none};
    return open_lines(&log->file, path, &none, "{\"step\":", last_step);
}

dd_status ddi_run_log_write(ddi_run_log *log, int64_t step, const ddi_run_value *value, int32_t count)
{
    ddi_text *line = &log->line;
    start(line);
    ddi_text_put(line, "{\"step\":");
    ddi_text_integer(line, step);
    for (int32_t i = 0; i < count; i++) {
        ddi_text_put(line, ",");
        ddi_text_json(line, value[i].key);
        ddi_text_put(line, ":");
        if (value[i].kind == DDI_RUN_TEXT) {
            ddi_text_json(line, value[i].text);
        } else if (value[i].kind == DDI_RUN_INTEGER) {
            ddi_text_integer(line, value[i].integer);
        } else if (isfinite(value[i].real)) {
            ddi_text_real(line, value[i].real, REAL_DIGITS);
        } else {
            ddi_text_put(line, "null");
        }
    }
    ddi_text_put(line, "}\n");
    return write_text(&log->file, line);
}

dd_status ddi_run_log_close(ddi_run_log *log)
{
    ddi_text_free(&log->line);
    return ddi_append_close(&log->file);
}

/* ---- metrics.csv */

static void put_cell(ddi_text *line, const char *words)
{
    if (!strpbrk(words, ",\"\r\n")) {
        ddi_text_put(line, words);
        return;
    }
    ddi_text_put(line, "\"");
    for (; *words; words++) {
        ddi_text_bytes(line, *words == '\n' || *words == '\r' ? " " : words, 1); /* a row is a line here */
        ddi_text_bytes(line, "\"", *words == '"');
    }
    ddi_text_put(line, "\"");
}

dd_status ddi_run_table_open(ddi_run_table *table, const char *path, const char *const *column, int32_t columns,
                             int64_t last_step)
{
    *table = (ddi_run_table){.columns = columns, .file = {.descriptor = -1}};
    ddi_text_put(&table->line, "step");
    for (int32_t i = 0; i < columns; i++) {
        ddi_text_put(&table->line, ",");
        put_cell(&table->line, column[i]);
    }
    ddi_text_put(&table->line, "\n");
    dd_status status = ddi_text_status(&table->line);
    if (status == DD_OK) {
        status = open_lines(&table->file, path, &table->line, "", last_step);
    }
    if (status != DD_OK) {
        ddi_text_free(&table->line);
    }
    return status;
}

dd_status ddi_run_table_write(ddi_run_table *table, int64_t step, const double *value)
{
    start(&table->line);
    ddi_text_integer(&table->line, step);
    for (int32_t i = 0; i < table->columns; i++) {
        ddi_text_put(&table->line, ",");
        if (!isnan(value[i])) {
            ddi_text_real(&table->line, value[i], REAL_DIGITS);
        }
    }
    ddi_text_put(&table->line, "\n");
    return write_text(&table->file, &table->line);
}

dd_status ddi_run_table_close(ddi_run_table *table)
{
    ddi_text_free(&table->line);
    return ddi_append_close(&table->file);
}

/* ---- Events: protocol buffers in TFRecords
 *     Event: 1 wall_time double, 2 step int64, 3 file_version string, 5 summary, 7 session_log
 *     Summary: 1 repeated value; its Value: 1 tag string, 2 simple_value float
 *     SessionLog: 1 status (1: start) */

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_varint(ddi_text *t, uint64_t number)
{
    unsigned char out[10];
    size_t size = 0;
    do {
        out[size++] = (unsigned char)((number & 127) | (number > 127 ? 128 : 0));
        number >>= 7;
    } while (number);
    ddi_text_bytes(t, out, size);
}

static void put_field(ddi_text *t, int field, int kind)
{
    put_varint(t, (uint64_t)(field << 3 | kind));
}

static void put_block(ddi_text *t, int field, const void *bytes, size_t size)
{
    put_field(t, field, BYTES);
    put_varint(t, size);
    ddi_text_bytes(t, bytes, size);
}

static uint32_t masked_sum(const ddi_run_events *e, const void *bytes, size_t size)
{
    const uint32_t sum = ddi_crc(&e->table, bytes, size);
    return (sum >> 15 | sum << 17) + 0xa282ead8u;
}

enum { FRONT = 12 }; /* length and its checksum */

static void start_event(ddi_run_events *e, double wall, int64_t step)
{
    start(&e->record);
    ddi_text_bytes(&e->record, (const char[FRONT]){0}, FRONT);
    put_field(&e->record, 1, FIXED64);
    ddi_text_bytes(&e->record, &wall, sizeof wall);
    if (step) {
        put_field(&e->record, 2, VARINT);
        put_varint(&e->record, (uint64_t)step);
    }
}

static dd_status write_event(ddi_run_events *e)
{
    DDI_TRY(ddi_text_status(&e->record));
    const uint64_t size = e->record.size - FRONT;
    const uint32_t front = masked_sum(e, &size, sizeof size), back = masked_sum(e, e->record.data + FRONT, (size_t)size);
    memcpy(e->record.data, &size, sizeof size);
    memcpy(e->record.data + sizeof size, &front, sizeof front);
    ddi_text_bytes(&e->record, &back, sizeof back);
    return write_text(&e->file, &e->record);
}

static dd_status write_front(ddi_run_events *e, double wall, int64_t first_step)
{
    static const char version[] = "brain.Event:2";
    start_event(e, wall, 0);
    put_block(&e->record, 3, version, strlen(version));
    DDI_TRY(write_event(e));
    if (first_step <= 0) {
        return DD_OK;
    }
    start_event(e, wall, first_step);
    put_block(&e->record, 7, "\x08\x01", 2);
    return write_event(e);
}

dd_status ddi_run_events_open(ddi_run_events *events, const char *path, double wall, int64_t first_step)
{
    *events = (ddi_run_events){.file = {.descriptor = -1}};
    ddi_crc_make(&events->table, DDI_CRC_CASTAGNOLI);
    if (ddi_file_exists(path)) {
        return ddi_fail(DD_ERR_IO, NULL, "%s is there already; events need a file of their own for each start", path);
    }
    DDI_TRY(ddi_append_open(&events->file, path, 0));
    const dd_status status = write_front(events, wall, first_step);
    if (status != DD_OK) {
        ddi_text_free(&events->record);
        ddi_append_close(&events->file);
    }
    return status;
}

dd_status ddi_run_events_write(ddi_run_events *e, double wall, int64_t step, const ddi_run_value *value, int32_t count)
{
    ddi_text one = e->part, all = {.data = NULL};
    for (int32_t i = 0; i < count; i++) {
        const float number = (float)(value[i].kind == DDI_RUN_INTEGER ? (double)value[i].integer : value[i].real);
        if (value[i].kind == DDI_RUN_TEXT) {
            continue;
        }
        start(&one);
        put_block(&one, 1, value[i].key, strlen(value[i].key));
        put_field(&one, 2, FIXED32);
        ddi_text_bytes(&one, &number, sizeof number);
        put_block(&all, 1, one.data, one.size);
        all.failed = all.failed || one.failed;
    }
    start_event(e, wall, step);
    put_block(&e->record, 5, all.data, all.size);
    e->record.failed = e->record.failed || all.failed;
    e->part = one;
    ddi_text_free(&all);
    return write_event(e);
}

dd_status ddi_run_events_close(ddi_run_events *events)
{
    ddi_text_free(&events->record);
    ddi_text_free(&events->part);
    return ddi_append_close(&events->file);
}
