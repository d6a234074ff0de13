/* SPDX-License-Identifier: Apache-2.0
 * Curves of a run folder, read from its metrics.csv: losses, average precision, learning rate, one below the other. */
#include "base/error.h"
#include "formats/svg_plot.h"
#include "train/trainer.h"

#include <math.h>
#include <string.h>

enum { MOST_COLUMNS = 64, PANELS = 3, PANEL_HEIGHT = 410 };
enum { MOST_ROWS = 1 << 26 };

typedef struct columns {
    char *head; /* names, each terminated */
    const char *name[MOST_COLUMNS];
    int32_t count;
    double *cell; /* [count][rows]; of what is not there: NaN */
    int64_t rows;
} columns;

static dd_status no_table(const char *path)
{
    return ddi_fail(DD_ERR_FORMAT, NULL, "%.180s is no table of a run", path);
}

/* The names in the first line. */
static dd_status read_head(columns *c, const char *text, const char *end, const char *path)
{
    c->head = ddi_alloc(NULL, (size_t)(end - text) + 1);
    if (!c->head) {
        return ddi_fail_nomem((uint64_t)(end - text), "the head of a table");
    }
    memcpy(c->head, text, (size_t)(end - text));
    c->head[end - text] = '\0';
    for (char *at = c->head; at; c->count++) {
        if (c->count == MOST_COLUMNS) {
            return no_table(path);
        }
        c->name[c->count] = at;
        at = strchr(at, ',');
        if (at) {
            *at++ = '\0';
        }
    }
    return strcmp(c->name[0], "step") == 0 ? DD_OK : no_table(path);
}

/* A number as the run wrote it, good enough to be drawn; NaN: an empty cell, or no number. */
static double read_cell(const char *at, const char *end)
{
    double sign = 1, number = 0, scale = 1;
    int32_t exponent = 0, digits = 0, exponent_sign = 1;
    bool point = false;
    if (at < end && *at == '-') {
        sign = -1;
        at++;
    }
    for (; at < end && ((*at >= '0' && *at <= '9') || (*at == '.' && !point)); at++) {
        point = point || *at == '.';
        if (*at != '.') {
            number = number * 10 + (*at - '0');
            scale *= point ? 10 : 1;
            digits++;
        }
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        exponent_sign = at < end && *at == '-' ? -1 : 1;
        at += at < end && (*at == '-' || *at == '+');
        for (; at < end && *at >= '0' && *at <= '9' && exponent < 1000; at++) {
            exponent = exponent * 10 + (*at - '0');
        }
    }
    return digits && at == end ? sign * number / scale * pow(10, exponent_sign * exponent) : (double)NAN;
}

static void read_row(columns *c, int64_t row, const char *at, const char *end)
{
    for (int32_t k = 0; k < c->count; k++) {
        const char *comma = at <= end ? memchr(at, ',', (size_t)(end - at)) : NULL;
        const char *stop = comma ? comma : end;
        c->cell[k * c->rows + row] = at <= end ? read_cell(at, stop) : (double)NAN;
        at = stop + 1;
    }
}

static dd_status read_table(columns *c, const char *text, size_t size, const char *path)
{
    const char *all = text + size, *line = size ? memchr(text, '\n', size) : NULL;
    if (!line) {
        return no_table(path);
    }
    DDI_TRY(read_head(c, text, line, path));
    for (const char *at = line + 1; at < all && c->rows < MOST_ROWS; c->rows++) {
        const char *end = memchr(at, '\n', (size_t)(all - at));
        if (!end) {
            break; /* half a line */
        }
        at = end + 1;
    }
    c->cell = ddi_alloc(NULL, (size_t)c->rows * (size_t)c->count * sizeof *c->cell + 1);
    if (!c->cell) {
        return ddi_fail_nomem((uint64_t)c->rows * (uint64_t)c->count * sizeof *c->cell, "the table of a run");
    }
    const char *at = line + 1;
    for (int64_t row = 0; row < c->rows; row++) {
        const char *end = memchr(at, '\n', (size_t)(all - at));
        read_row(c, row, at, end);
        at = end + 1;
    }
    return DD_OK;
}

/* ---- Panels */

/* Rows where the column has a number, as points. */
static bool take_points(const columns *c, const char *name, double *point, ddi_plot_series *series)
{
    int64_t count = 0;
    for (int32_t k = 1; k < c->count; k++) {
        for (int64_t row = 0; row < c->rows && strcmp(c->name[k], name) == 0; row++) {
            if (isfinite(c->cell[k * c->rows + row])) {
                point[count] = c->cell[row];
                point[c->rows + count++] = c->cell[k * c->rows + row];
            }
        }
    }
    *series = (ddi_plot_series){.name = name, .x = point, .y = point + c->rows, .count = count};
    return count > 0;
}

static dd_status draw_panel(ddi_text *svg, const columns *c, const char *title, const char *const *names, double smoothing)
{
    ddi_plot_series series[8];
    ddi_plot_curves plot = {.title = title, .x_label = "step", .series = series, .smoothing = smoothing};
    double *points = ddi_alloc(NULL, (size_t)c->rows * 2 * sizeof(double) * 8 + 1);
    if (!points) {
        return ddi_fail_nomem((uint64_t)c->rows * 128, "the points of a plot");
    }
    for (; *names; names++) {
        plot.count += take_points(c, *names, points + plot.count * 2 * c->rows, &series[plot.count]);
    }
    const dd_status status = ddi_plot_draw_curves(svg, &plot);
    ddi_free(NULL, points);
    return status;
}

static dd_status draw(ddi_text *svg, const columns *c)
{
    static const char *const losses[] = {"loss.total",   "loss.det",         "loss.denoising",
                                         "loss.encoder", "loss.logits",      "loss.features",
                                         "loss.prior",   "loss.contrastive", NULL};
    static const char *const precision[] = {"ap", "ap50", "ap75", "ap-small", "ap-medium", "ap-large", NULL};
    static const char *const rate[] = {"lr", NULL};
    const struct {
        const char *title;
        const char *const *names;
        double smoothing;
    } panel[PANELS] = {{"Losses", losses, 0.9}, {"Average precision", precision, 0}, {"Learning rate", rate, 0}};
    ddi_text_put(svg, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"1230\" viewBox=\"0 0 760 1230\">\n");
    for (int32_t i = 0; i < PANELS; i++) {
        ddi_text_put(svg, "<g transform=\"translate(0,");
        ddi_text_integer(svg, i * PANEL_HEIGHT);
        ddi_text_put(svg, ")\">\n");
        DDI_TRY(draw_panel(svg, c, panel[i].title, panel[i].names, panel[i].smoothing));
        ddi_text_put(svg, "</g>\n");
    }
    ddi_text_put(svg, "</svg>\n");
    return ddi_text_status(svg);
}

dd_status ddi_run_plot(const char *folder, const char *path)
{
    char table[DDI_TRAIN_PATH], own[DDI_TRAIN_PATH];
    ddi_file_map map;
    ddi_text svg = {.data = NULL};
    columns c = {.head = NULL};
    DDI_TRY(ddi_path_of(table, folder, "metrics.csv"));
    DDI_TRY(ddi_path_of(own, folder, "curves.svg"));
    DDI_TRY(ddi_file_map_open(&map, table));
    dd_status status = read_table(&c, map.data, map.size, table);
    ddi_file_map_close(&map);
    if (status == DD_OK) {
        status = draw(&svg, &c);
    }
    if (status == DD_OK) {
        status = ddi_plot_save(&svg, path ? path : own);
    }
    ddi_text_free(&svg);
    ddi_free(NULL, c.cell);
    ddi_free(NULL, c.head);
    return status;
}
