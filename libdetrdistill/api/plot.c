/* SPDX-License-Identifier: Apache-2.0
 * Public functions of plots: curves are kept until they are drawn. */
#include "api/plot.h"
#include "base/error.h"
#include "base/handle.h"
#include "formats/svg_plot.h"
#include <detrdistill/plot.h>

#include <string.h>

enum { LABELS = 3, MOST_POINTS = 1 << 24 };

typedef struct curve {
    char *name;
    double *x, *y; /* x: NULL or y's neighbour in one block */
    int64_t count;
} curve;

typedef struct settings {
    int32_t log_y;
    double smoothing;
} settings;

struct dd_plot {
    settings settings;
    char *label[LABELS]; /* title, x, y */
    curve curve[DDI_PLOT_MOST_SERIES];
    int32_t count;
};

static const ddi_option options[] = {
    {"log-y", DDI_CHOICE, offsetof(settings, log_y), 0, 0, "0", "0|1", "1: values on a logarithmic scale"},
    {"smoothing", DDI_REAL, offsetof(settings, smoothing), 0, 0.999, "0", NULL, "0: none; towards 1: more"},
};
const ddi_option_table ddi_plot_options = {"plot", options, sizeof options / sizeof options[0]};

static dd_status no_null(const void *p, const char *function, const char *what)
{
    return p ? DD_OK : ddi_fail(DD_ERR_ARGUMENT, NULL, "%s: %s is NULL", function, what);
}

static void destroy(dd_plot *plot)
{
    for (int32_t i = 0; i < plot->count; i++) {
        ddi_free(NULL, plot->curve[i].name);
        ddi_free(NULL, plot->curve[i].y);
    }
    for (int i = 0; i < LABELS; i++) {
        ddi_free(NULL, plot->label[i]);
    }
    ddi_free(NULL, plot);
}

static dd_status enter(const dd_plot *plot, const char *function)
{
    ddi_error_clear();
    return ddi_handle_enter(plot, DDI_PLOT, function);
}

static dd_status leave(const dd_plot *plot, dd_status status)
{
    if (ddi_handle_leave(plot)) {
        destroy((dd_plot *)(uintptr_t)plot);
    }
    return status;
}

dd_status dd_plot_create(dd_plot **plot, const char *text)
{
    settings chosen;
    ddi_error_clear();
    DDI_TRY(no_null(plot, "dd_plot_create", "plot"));
    ddi_options_init(&ddi_plot_options, &chosen);
    DDI_TRY(ddi_options_parse(&ddi_plot_options, text, &chosen, NULL));
    dd_plot *made = ddi_alloc_zero(NULL, 1, sizeof *made);
    const dd_status status = made ? ddi_handle_add(made, DDI_PLOT) : ddi_fail_nomem(sizeof *made, "a plot");
    if (status != DD_OK) {
        ddi_free(NULL, made);
        return status;
    }
    made->settings = chosen;
    *plot = made;
    return DD_OK;
}

void dd_plot_free(dd_plot *plot)
{
    if (ddi_handle_remove(plot, DDI_PLOT)) {
        destroy(plot);
    }
}

static dd_status copy_text(char **copy, const char *text)
{
    *copy = NULL;
    if (!text) {
        return DD_OK;
    }
    const size_t bytes = strlen(text) + 1;
    *copy = ddi_alloc(NULL, bytes);
    if (!*copy) {
        return ddi_fail_nomem(bytes, "a label");
    }
    memcpy(*copy, text, bytes);
    return DD_OK;
}

static dd_status set_labels(dd_plot *plot, const char *const text[LABELS])
{
    char *copy[LABELS] = {NULL};
    dd_status status = DD_OK;
    for (int i = 0; i < LABELS && status == DD_OK; i++) {
        status = copy_text(&copy[i], text[i]);
    }
    for (int i = 0; i < LABELS; i++) {
        ddi_free(NULL, status == DD_OK ? plot->label[i] : copy[i]);
        plot->label[i] = status == DD_OK ? copy[i] : plot->label[i];
    }
    return status;
}

dd_status dd_plot_set_labels(dd_plot *plot, const char *title, const char *x, const char *y)
{
    DDI_TRY(enter(plot, "dd_plot_set_labels"));
    return leave(plot, set_labels(plot, (const char *const[LABELS]){title, x, y}));
}

static dd_status check_curve(const dd_plot *plot, const char *name, int64_t count, const double *x, const double *y)
{
    DDI_TRY(no_null(name, "dd_plot_add_curve", "name"));
    if (count < 0 || count > MOST_POINTS || plot->count == DDI_PLOT_MOST_SERIES) {
        return ddi_fail(DD_ERR_LIMIT, name, "a plot takes %d curves of 0 .. %d points", DDI_PLOT_MOST_SERIES, MOST_POINTS);
    }
    if (count > 0) {
        DDI_TRY(no_null(y, "dd_plot_add_curve", "y"));
    }
    for (int64_t i = 0; x && i < count; i++) {
        if (!(x[i] >= (i ? x[i - 1] : -1e300) && x[i] <= 1e300)) {
            return ddi_fail(DD_ERR_ARGUMENT, name, "curve '%.80s': x must ascend and be finite", name);
        }
    }
    return DD_OK;
}

static dd_status add_curve(dd_plot *plot, const char *name, int64_t count, const double *x, const double *y)
{
    DDI_TRY(check_curve(plot, name, count, x, y));
    curve *c = &plot->curve[plot->count];
    const size_t bytes = (size_t)count * sizeof(double);
    DDI_TRY(copy_text(&c->name, name));
    c->y = ddi_alloc(NULL, 2 * bytes + 1);
    if (!c->y) {
        ddi_free(NULL, c->name);
        return ddi_fail_nomem(2 * bytes, "a curve");
    }
    c->count = count;
    c->x = x ? c->y + count : NULL;
    if (count > 0) {
        memcpy(c->y, y, bytes);
    }
    if (x && count > 0) {
        memcpy(c->x, x, bytes);
    }
    plot->count++;
    return DD_OK;
}

dd_status dd_plot_add_curve(dd_plot *plot, const char *name, int64_t count, const double *x, const double *y)
{
    DDI_TRY(enter(plot, "dd_plot_add_curve"));
    return leave(plot, add_curve(plot, name, count, x, y));
}

static dd_status save(const dd_plot *plot, const char *path)
{
    ddi_plot_series series[DDI_PLOT_MOST_SERIES];
    ddi_text svg = {0};
    DDI_TRY(no_null(path, "dd_plot_save", "path"));
    for (int32_t i = 0; i < plot->count; i++) {
        const curve *c = &plot->curve[i];
        series[i] = (ddi_plot_series){.name = c->name, .x = c->x, .y = c->y, .count = c->count};
    }
    const ddi_plot_curves curves = {.title = plot->label[0],
                                    .x_label = plot->label[1],
                                    .y_label = plot->label[2],
                                    .series = series,
                                    .count = plot->count,
                                    .log_y = plot->settings.log_y != 0,
                                    .smoothing = plot->settings.smoothing};
    dd_status status = ddi_plot_draw_curves(&svg, &curves);
    if (status == DD_OK) {
        status = ddi_plot_save(&svg, path);
    }
    ddi_text_free(&svg);
    return status;
}

dd_status dd_plot_save(const dd_plot *plot, const char *path)
{
    DDI_TRY(enter(plot, "dd_plot_save"));
    return leave(plot, save(plot, path));
}
