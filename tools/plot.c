/* SPDX-License-Identifier: Apache-2.0
 * detrdistill plot: the curves of a run, or one column of several runs in one picture. */
#include "common.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const option plot_options[] = {
    {"--out", "FILE", NULL, "SVG file (standard output)"},
    {"--column", "NAME", NULL, "a column of metrics.csv, e.g. ap50 or loss.det; one curve for each run (several runs: ap)"},
    {"--smoothing", "X", "0", "0: none; towards 1: more"},
    {"--log-y", NULL, NULL, "values on a logarithmic scale"},
    {NULL, NULL, NULL, NULL},
};

enum { LINE_BYTES = 8192, PATH_BYTES = 4096 };

typedef struct points {
    double *x, *y;
    int64_t count, room;
} points;

/* The number of the column in a line of names; -1: it is not there. */
static int find_column(const char *line, const char *name)
{
    const size_t length = strlen(name);
    for (int i = 0;; i++) {
        const size_t bytes = strcspn(line, ",\r\n");
        if (bytes == length && strncmp(line, name, length) == 0) {
            return i;
        }
        if (line[bytes] != ',') {
            return -1;
        }
        line += bytes + 1;
    }
}

/* NaN where the cell is empty. */
static double read_cell(const char *line, int column)
{
    for (; column > 0 && line; column--) {
        line = strchr(line, ',');
        line += line != NULL;
    }
    char *end = NULL;
    const double value = line ? strtod(line, &end) : (double)NAN;
    return line && end != line ? value : (double)NAN;
}

static bool add_point(points *p, double x, double y)
{
    if (p->count == p->room) {
        const int64_t room = p->room ? 2 * p->room : 256;
        double *wider = realloc(p->x, (size_t)room * sizeof(double));
        p->x = wider ? wider : p->x;
        double *higher = wider ? realloc(p->y, (size_t)room * sizeof(double)) : NULL;
        p->y = higher ? higher : p->y;
        if (!higher) {
            return false;
        }
        p->room = room;
    }
    p->x[p->count] = x;
    p->y[p->count++] = y;
    return true;
}

static int read_points(const verb *v, FILE *file, const char *path, const char *column, points *p)
{
    char line[LINE_BYTES];
    if (!fgets(line, sizeof line, file)) {
        return complain(EXIT_DATA, v->name, "%s is empty", path);
    }
    const int k = find_column(line, column), step = find_column(line, "step");
    if (k < 0 || step < 0) {
        return complain(EXIT_DATA, v->name, "%s has no column '%s'; its columns: %.*s", path, k < 0 ? column : "step",
                        (int)strcspn(line, "\r\n"), line);
    }
    while (fgets(line, sizeof line, file)) {
        const double x = read_cell(line, step), y = read_cell(line, k);
        if (!isnan(y) && !(x >= 0)) {
            return complain(EXIT_DATA, v->name, "%s: a line has no step", path);
        }
        if (!isnan(y) && !add_point(p, x, y)) {
            return complain(EXIT_MEMORY, v->name, "memory ran out");
        }
    }
    return EXIT_DONE;
}

static int add_run(const verb *v, dd_plot *plot, const char *run, const char *column)
{
    char path[PATH_BYTES];
    points p = {0};
    if (snprintf(path, sizeof path, "%s/metrics.csv", run) >= (int)sizeof path) {
        return complain(EXIT_DATA, v->name, "%.80s..: the name is too long", run);
    }
    FILE *file = fopen(path, "r");
    if (!file) {
        return complain(EXIT_DATA, v->name, "cannot open %s: %s", path, strerror(errno));
    }
    int code = read_points(v, file, path, column, &p);
    fclose(file);
    if (code == EXIT_DONE && dd_plot_add_curve(plot, run, p.count, p.x, p.y) != DD_OK) {
        code = complain_of_library(v->name);
    }
    free(p.x);
    free(p.y);
    return code;
}

static int compare(const verb *v, const char *const *values, const char *out)
{
    const char *column = value_of(v, values, "--column");
    char words[MOST_WORDS] = "";
    dd_plot *plot = NULL;
    int code = EXIT_DONE;
    column = column ? column : "ap";
    add_words(words, "smoothing=%s log-y=%d", value_of(v, values, "--smoothing"), is_given(v, values, "--log-y"));
    if (dd_plot_create(&plot, words) != DD_OK || dd_plot_set_labels(plot, column, "step", column) != DD_OK) {
        code = complain_of_library(v->name);
    }
    for (int i = 0; i < MOST_OPERANDS && operand_of(values, i) && code == EXIT_DONE; i++) {
        code = add_run(v, plot, operand_of(values, i), column);
    }
    if (code == EXIT_DONE && dd_plot_save(plot, out) != DD_OK) {
        code = complain_of_library(v->name);
    }
    dd_plot_free(plot);
    return code;
}

static int draw(const verb *v, const char *const *values, const char *out)
{
    if (operand_of(values, 1) || is_given(v, values, "--column")) {
        return compare(v, values, out);
    }
    return dd_run_plot(operand_of(values, 0), out) == DD_OK ? EXIT_DONE : complain_of_library(v->name);
}

static int copy_out(const verb *v, const char *path)
{
    char part[1 << 14];
    size_t bytes;
    FILE *file = fopen(path, "r");
    if (!file) {
        return complain(EXIT_FAILED, v->name, "cannot open %s: %s", path, strerror(errno));
    }
    while ((bytes = fread(part, 1, sizeof part, file)) > 0) {
        fwrite(part, 1, bytes, stdout);
    }
    fclose(file);
    return EXIT_DONE;
}

int run_plot(const verb *v, const char *const *values)
{
    const char *out = value_of(v, values, "--out"), *base = getenv("TMPDIR");
    char folder[PATH_BYTES], path[PATH_BYTES + 16];
    if (out) {
        return draw(v, values, out);
    }
    snprintf(folder, sizeof folder, "%s/detrdistill-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder)) {
        return complain(EXIT_FAILED, v->name, "cannot make the folder %s: %s", folder, strerror(errno));
    }
    snprintf(path, sizeof path, "%s/curves.svg", folder);
    int code = draw(v, values, path);
    code = code == EXIT_DONE ? copy_out(v, path) : code;
    unlink(path);
    rmdir(folder);
    return code;
}
