/* SPDX-License-Identifier: Apache-2.0
 * Plots as SVG: curves over steps, and bars with their values. Readable on light and dark pages. */
#ifndef DDI_FORMATS_SVG_PLOT_H
#define DDI_FORMATS_SVG_PLOT_H

#include "formats/text.h"

enum { DDI_PLOT_MOST_SERIES = 64, DDI_PLOT_MOST_ROWS = 4096 };

typedef struct ddi_plot_series {
    const char *name;
    const double *x; /* ascending; NULL: 0, 1, 2, .. */
    const double *y; /* NaN and infinities are gaps */
    int64_t count;
} ddi_plot_series;

typedef struct ddi_plot_curves {
    const char *title, *x_label, *y_label; /* NULL: none */
    const ddi_plot_series *series;
    int32_t count;
    bool log_y;       /* what is not above zero is a gap */
    double smoothing; /* 0: none; towards 1: more. The raw curve stays visible, pale */
} ddi_plot_curves;

typedef struct ddi_plot_bars {
    const char *title, *label; /* of the values; NULL: none */
    const char *const *row;    /* a name for each row */
    int32_t rows;
    const ddi_plot_series *series; /* y has a value for each row; x is not looked at */
    int32_t count;
} ddi_plot_bars;

/* Adds a whole SVG document to the text. Errors: ARGUMENT (a smoothing outside [0,1)), LIMIT, NOMEM. */
dd_status ddi_plot_draw_curves(ddi_text *svg, const ddi_plot_curves *plot);
dd_status ddi_plot_draw_bars(ddi_text *svg, const ddi_plot_bars *plot);
/* Writes a document to a file, whole or not at all. Errors: IO, NOMEM. */
dd_status ddi_plot_save(const ddi_text *svg, const char *path);

#endif
