/* SPDX-License-Identifier: Apache-2.0
 * Curves as an SVG document, readable on light and dark pages. */
#ifndef DETRDISTILL_PLOT_H
#define DETRDISTILL_PLOT_H

#include <detrdistill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dd_plot dd_plot;

/* Makes an empty plot. Options (dd_options_help("plot")): "log-y=0|1 smoothing=0" (0 .. 0.999; the raw curve stays visible,
 * pale). Errors: ARGUMENT, OPTION, NOMEM. One thread at a time. */
DD_API dd_status dd_plot_create(dd_plot **plot, const char *options);
DD_API void dd_plot_free(dd_plot *plot);

/* What stands above, below and beside the curves, UTF-8, copied; NULL: nothing. Errors: ARGUMENT, NOMEM. */
DD_API dd_status dd_plot_set_labels(dd_plot *plot, const char *title, const char *x, const char *y);

/* Adds a curve (at most 64): x [count] ascending, or NULL for 0, 1, 2, ..; y [count], of which NaN and infinities are gaps. All
 * is copied. Errors: ARGUMENT (x descends), LIMIT, NOMEM. */
DD_API dd_status dd_plot_add_curve(dd_plot *plot, const char *name, int64_t count, const double *x, const double *y);

/* Writes the document: at `path` is at any time the old file or the whole new one. Errors: ARGUMENT, IO, LIMIT, NOMEM. */
DD_API dd_status dd_plot_save(const dd_plot *plot, const char *path);

#ifdef __cplusplus
}
#endif
#endif
