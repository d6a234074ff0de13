/* SPDX-License-Identifier: Apache-2.0
 * Curves and bars. A page is 760 wide; colours are of middle brightness, texts and lines follow the reader's colour scheme. */
#include "formats/svg_plot.h"
#include "base/error.h"
#include "base/io.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define PAGE_WIDTH 760.0
#define CURVES_HEIGHT 300.0
#define GLYPH 6.4 /* width of a character of 12 pixels, roughly */

enum { COLOURS = 8, MOST_TICKS = 24, BUCKETS = 700, MOST_NAME = 48 };

static const char *const colours[COLOURS] = {"#3b7dd8", "#e8743b", "#1f9e77", "#b55cc4",
                                             "#c79a00", "#e0457b", "#1398ab", "#85888c"};

static const char style[] =
    "<style>text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#4a4f57}"
    ".t{font-size:15px;font-weight:600;fill:#1d2127}.m{text-anchor:middle}.e{text-anchor:end}"
    ".g{stroke:#8a909a;stroke-opacity:.22;fill:none}.a{stroke:#8a909a;stroke-opacity:.7;fill:none}"
    ".c{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}.p{stroke-opacity:.28;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#b6bcc6}.t{fill:#eceff3}}</style>\n";

/* ---- Pieces */

static void put_number(ddi_text *t, double number)
{
    ddi_text_real(t, round(number * 100) / 100 + 0.0, 7);
}

/* ` name="number"` */
static void put_attribute(ddi_text *t, const char *name, double number)
{
    ddi_text_put(t, " ");
    ddi_text_put(t, name);
    ddi_text_put(t, "=\"");
    put_number(t, number);
    ddi_text_put(t, "\"");
}

/* Bytes of the first `most` characters, and how many there are. */
static size_t cut_name(const char *name, int32_t most, int32_t *characters)
{
    size_t bytes = 0;
    *characters = 0;
    for (; name[bytes]; bytes++) {
        if (((unsigned char)name[bytes] & 0xc0) != 0x80 && ++*characters > most) {
            --*characters;
            break;
        }
    }
    return bytes;
}

static double text_width(const char *words)
{
    int32_t characters;
    const size_t bytes = cut_name(words, MOST_NAME, &characters);
    return GLYPH * (characters + (words[bytes] ? 1 : 0));
}

/* A text, long ones cut. */
static void put_text(ddi_text *t, const char *class, double x, double y, const char *words)
{
    char kept[4 * MOST_NAME + 4];
    int32_t characters;
    const size_t bytes = cut_name(words, MOST_NAME, &characters);
    ddi_text_put(t, "<text class=\"");
    ddi_text_put(t, class);
    ddi_text_put(t, "\"");
    put_attribute(t, "x", x);
    put_attribute(t, "y", y);
    ddi_text_put(t, ">");
    if (words[bytes] && bytes < sizeof kept) {
        memcpy(kept, words, bytes);
        kept[bytes] = 0;
        ddi_text_xml(t, kept);
        ddi_text_put(t, "\xe2\x80\xa6");
    } else {
        ddi_text_xml(t, words);
    }
    ddi_text_put(t, "</text>\n");
}

static void put_line(ddi_text *t, const char *class, double x1, double y1, double x2, double y2)
{
    ddi_text_put(t, "<path class=\"");
    ddi_text_put(t, class);
    ddi_text_put(t, "\" d=\"M");
    put_number(t, x1);
    ddi_text_put(t, " ");
    put_number(t, y1);
    ddi_text_put(t, "L");
    put_number(t, x2);
    ddi_text_put(t, " ");
    put_number(t, y2);
    ddi_text_put(t, "\"/>\n");
}

static void put_rectangle(ddi_text *t, double x, double y, double width, double height, const char *colour)
{
    ddi_text_put(t, "<rect rx=\"2\"");
    put_attribute(t, "x", x);
    put_attribute(t, "y", y);
    put_attribute(t, "width", width);
    put_attribute(t, "height", height);
    ddi_text_put(t, " fill=\"");
    ddi_text_put(t, colour);
    ddi_text_put(t, "\"/>\n");
}

static void open_document(ddi_text *t, double height, const char *title)
{
    ddi_text_put(t, "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\"");
    put_attribute(t, "width", PAGE_WIDTH);
    put_attribute(t, "height", height);
    ddi_text_put(t, " viewBox=\"0 0 ");
    put_number(t, PAGE_WIDTH);
    ddi_text_put(t, " ");
    put_number(t, height);
    ddi_text_put(t, "\">\n<title>");
    ddi_text_xml(t, title ? title : "plot");
    ddi_text_put(t, "</title>\n");
    ddi_text_put(t, style);
    if (title) {
        put_text(t, "t", 16, 26, title);
    }
}

/* ---- Numbers as people write them */

static void number_words(double v, int digits, char out[DDI_REAL_BYTES])
{
    static const struct {
        double from, unit;
        const char *suffix;
    } large[] = {{1e12, 1e12, "T"}, {1e9, 1e9, "G"}, {1e6, 1e6, "M"}, {1e4, 1e3, "k"}};
    const double size = fabs(v);
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        if (size >= large[i].from && size < 1e15) {
            ddi_real_text(v / large[i].unit, digits, out);
            snprintf(out + strlen(out), 4, "%s", large[i].suffix);
            return;
        }
    }
    ddi_real_text(v, digits, out);
    char *e = strchr(out, 'e'); /* 1e-05 and 1e+20 become 1e-5 and 1e20 */
    if (e) {
        char *to = e + 1;
        const char *from = to + 1;
        to += *to == '-';
        from += strspn(from, "0");
        memmove(to, from, strlen(from) + 1);
    }
}

/* ---- Axes */

typedef struct axis {
    double low, high; /* logarithms where `log` */
    bool log, any;
    double at, length; /* on the page; a negative length points up */
    double tick[MOST_TICKS];
    int32_t ticks;
} axis;

static bool usable(const axis *a, double v)
{
    return isfinite(v) && (!a->log || v > 0);
}

static void include(axis *a, double v)
{
    if (usable(a, v)) {
        v = a->log ? log10(v) : v;
        a->low = a->any ? fmin(a->low, v) : v;
        a->high = a->any ? fmax(a->high, v) : v;
        a->any = true;
    }
}

/* Halves and quarters keep the widest range of doubles finite. */
static double place(const axis *a, double v)
{
    v = a->log ? log10(v) : v;
    return a->at + a->length * ((v / 4 - a->low / 4) / (a->high / 4 - a->low / 4));
}

/* 1, 2 or 5 times a power of ten, so that the range has about `wanted` steps. */
static double nice_step(const axis *a, int32_t wanted)
{
    const double raw = (a->high / 4 - a->low / 4) / wanted * 4;
    const double power = pow(10, floor(log10(raw))), rest = raw / power;
    return power * (rest <= 1.0001 ? 1 : rest <= 2.0001 ? 2 : rest <= 5.0001 ? 5 : 10);
}

static void add_tick(axis *a, double v)
{
    const double on_axis = a->log ? log10(v) : v;
    const double slack = (a->high / 4 - a->low / 4) * 4e-9;
    if (a->ticks < MOST_TICKS && isfinite(v) && on_axis >= a->low - slack && on_axis <= a->high + slack) {
        a->tick[a->ticks++] = v;
    }
}

static void log_ticks(axis *a)
{
    const double decades = a->high - a->low, every = fmax(1, ceil(decades / 8));
    for (double k = floor(a->low / every) * every; k <= a->high && a->ticks < MOST_TICKS; k += every) {
        const double power = pow(10, k);
        add_tick(a, power);
        if (decades <= 3 && every < 2) {
            add_tick(a, 2 * power);
            add_tick(a, 5 * power);
        }
    }
}

static void linear_ticks(axis *a, int32_t wanted)
{
    const double step = nice_step(a, wanted);
    for (int32_t i = 0; i < MOST_TICKS; i++) {
        const double v = (ceil(a->low / step - 1e-9) + i) * step;
        if (v > a->high || !isfinite(v)) {
            break;
        }
        add_tick(a, v + 0.0);
    }
}

/* Room around what was included; an axis of nothing goes from 0 to 1, a single value lies in the middle. */
static void finish_axis(axis *a, double margin, int32_t wanted)
{
    if (!a->any) {
        a->low = 0;
        a->high = 1;
    }
    const double span = a->high / 4 - a->low / 4;
    double pad = span * 4 * margin;
    if (span < fabs(a->high) * 1e-12 || span < 1e-290) {
        pad = a->log ? 0.5 : fabs(a->high) < 1e-280 ? 1 : fabs(a->high) * 0.1;
    }
    a->low = fmax(a->low - fmin(pad, DBL_MAX), -DBL_MAX);
    a->high = fmin(a->high + fmin(pad, DBL_MAX), DBL_MAX);
    if (a->log) {
        log_ticks(a);
    } else {
        linear_ticks(a, wanted);
    }
}

/* ---- Legend */

static void legend_entry(const ddi_plot_series *s, bool last_value, char *words, size_t size)
{
    char number[DDI_REAL_BYTES];
    int32_t characters;
    const char *name = s->name ? s->name : "";
    const size_t bytes = cut_name(name, MOST_NAME - 12, &characters);
    int64_t last = s->count - 1;
    while (last_value && last >= 0 && !isfinite(s->y[last])) {
        last--;
    }
    if (last_value && last >= 0) {
        number_words(s->y[last], 3, number);
        snprintf(words, size, "%.*s%s  %s", (int)bytes, name, name[bytes] ? "\xe2\x80\xa6" : "", number);
    } else {
        snprintf(words, size, "%.*s%s", (int)bytes, name, name[bytes] ? "\xe2\x80\xa6" : "");
    }
}

/* Entries in rows from `top` down, without text NULL: only the height that they take. */
static double put_legend(ddi_text *t, const ddi_plot_series *series, int32_t count, double top, bool last_value)
{
    double x = 16, y = top;
    for (int32_t i = 0; i < count; i++) {
        char words[4 * MOST_NAME + DDI_REAL_BYTES];
        legend_entry(&series[i], last_value, words, sizeof words);
        const double width = text_width(words) + 34;
        if (x > 16 && x + width > PAGE_WIDTH - 16) {
            x = 16;
            y += 20;
        }
        if (t) {
            put_rectangle(t, x, y + 4, 14, 4, colours[i % COLOURS]);
            put_text(t, "l", x + 19, y + 11, words);
        }
        x += width;
    }
    return count ? y + 20 - top : 0;
}

/* ---- Curves */

typedef struct pen {
    ddi_text *text;
    const axis *x, *y;
    bool down;   /* the last point is part of a line */
    bool lonely; /* and the line has no other */
} pen;

static void end_line(pen *p)
{
    if (p->lonely) { /* a line to itself, with round ends: a dot */
        ddi_text_put(p->text, "h0");
    }
    p->down = p->lonely = false;
}

static void draw_to(pen *p, double x, double y)
{
    const double to_x = place(p->x, x), to_y = place(p->y, y);
    ddi_text_put(p->text, p->down ? "L" : "M");
    put_number(p->text, to_x);
    ddi_text_put(p->text, " ");
    put_number(p->text, to_y);
    p->lonely = !p->down;
    p->down = true;
}

static double x_of(const ddi_plot_series *s, int64_t i)
{
    return s->x ? s->x[i] : (double)i;
}

/* One point or, of a bucket of many, its lowest and highest. */
typedef struct bucket {
    double x[2], y[2];
    int32_t count;
} bucket;

static void add_to_bucket(bucket *b, double x, double y)
{
    if (b->count == 0) {
        *b = (bucket){{x, x}, {y, y}, 1};
        return;
    }
    const double low = fmin(b->y[0], b->y[1]), high = fmax(b->y[0], b->y[1]);
    if (y < low || y > high) { /* the earlier of both extremes stays in front */
        const int keep = y < low ? (b->y[0] == high ? 0 : 1) : (b->y[0] == low ? 0 : 1);
        b->x[0] = b->x[keep];
        b->y[0] = b->y[keep];
        b->x[1] = x;
        b->y[1] = y;
        b->count = 2;
    }
}

/* A running mean whose weights fall by `smoothing` from point to point and add up to one. */
typedef struct mean {
    double smoothing, sum, weight;
} mean;

static double smooth(mean *m, double y)
{
    m->sum = m->sum * m->smoothing + y * (1 - m->smoothing);
    m->weight = m->weight * m->smoothing + (1 - m->smoothing);
    return m->sum / m->weight;
}

static void draw_curve(ddi_text *t, const axis *x, const axis *y, const ddi_plot_series *s, const char *colour,
                       const char *class, double smoothing)
{
    const int64_t stride = s->count / BUCKETS / 2 + 1;
    pen p = {.text = t, .x = x, .y = y};
    mean m = {.smoothing = smoothing};
    ddi_text_put(t, "<path class=\"");
    ddi_text_put(t, class);
    ddi_text_put(t, "\" stroke=\"");
    ddi_text_put(t, colour);
    ddi_text_put(t, "\" d=\"");
    const size_t before = t->size;
    for (int64_t i = 0; i < s->count; i += stride) {
        bucket b = {.count = 0};
        for (int64_t k = i; k < i + stride && k < s->count; k++) {
            if (usable(y, s->y[k]) && usable(x, x_of(s, k))) {
                const double value = smooth(&m, s->y[k]);
                add_to_bucket(&b, x_of(s, k), usable(y, value) ? value : s->y[k]);
            }
        }
        if (b.count == 0) {
            end_line(&p);
        }
        for (int32_t k = 0; k < b.count; k++) {
            draw_to(&p, b.x[k], b.y[k]);
        }
    }
    end_line(&p);
    ddi_text_put(t, t->size == before ? "M0 0\"/>\n" : "\"/>\n");
}

static void put_axes(ddi_text *t, const axis *x, const axis *y, const ddi_plot_curves *plot)
{
    char words[DDI_REAL_BYTES];
    const double bottom = y->at, right = x->at + x->length;
    for (int32_t i = 0; i < y->ticks; i++) {
        const double at = place(y, y->tick[i]);
        put_line(t, "g", x->at, at, right, at);
        number_words(y->tick[i], 5, words);
        put_text(t, "e", x->at - 8, at + 4, words);
    }
    for (int32_t i = 0; i < x->ticks; i++) {
        const double at = place(x, x->tick[i]);
        put_line(t, "a", at, bottom, at, bottom + 4);
        number_words(x->tick[i], 5, words);
        put_text(t, "m", at, bottom + 19, words);
    }
    put_line(t, "a", x->at, bottom, right, bottom);
    if (plot->x_label) {
        put_text(t, "m", x->at + x->length / 2, bottom + 39, plot->x_label);
    }
    if (plot->y_label) {
        put_text(t, "l", 16, bottom + y->length - 12, plot->y_label);
    }
}

static dd_status check_series(const ddi_plot_series *series, int32_t count)
{
    if (count < 0 || count > DDI_PLOT_MOST_SERIES) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "a plot has at most %d series", DDI_PLOT_MOST_SERIES);
    }
    for (int32_t i = 0; i < count; i++) {
        if (series[i].count < 0 || (series[i].count > 0 && !series[i].y)) {
            return ddi_fail(DD_ERR_ARGUMENT, series[i].name, "a series of a plot has no values");
        }
    }
    return DD_OK;
}

dd_status ddi_plot_draw_curves(ddi_text *svg, const ddi_plot_curves *plot)
{
    DDI_TRY(check_series(plot->series, plot->count));
    if (!(plot->smoothing >= 0 && plot->smoothing < 1)) {
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "the smoothing of a plot must lie in [0,1)");
    }
    const double top = plot->title ? 42 : 14, legend = put_legend(NULL, plot->series, plot->count, top, true);
    const double first = top + legend + (plot->y_label ? 26 : 12), bottom = first + CURVES_HEIGHT;
    axis x = {.at = 64, .length = PAGE_WIDTH - 64 - 24}, y = {.at = bottom, .length = -CURVES_HEIGHT, .log = plot->log_y};
    for (int32_t i = 0; i < plot->count; i++) {
        const ddi_plot_series *s = &plot->series[i];
        for (int64_t k = 0; k < s->count; k++) {
            if (usable(&y, s->y[k]) && usable(&x, x_of(s, k))) {
                include(&x, x_of(s, k));
                include(&y, s->y[k]);
            }
        }
    }
    const bool empty = !x.any;
    finish_axis(&x, 0, 8);
    finish_axis(&y, 0.04, 6);
    open_document(svg, bottom + (plot->x_label ? 54 : 34), plot->title);
    put_legend(svg, plot->series, plot->count, top, true);
    put_axes(svg, &x, &y, plot);
    for (int32_t i = 0; i < plot->count; i++) {
        const char *colour = colours[i % COLOURS];
        if (plot->smoothing > 0) {
            draw_curve(svg, &x, &y, &plot->series[i], colour, "c p", 0);
        }
        draw_curve(svg, &x, &y, &plot->series[i], colour, "c", plot->smoothing);
    }
    if (empty) {
        put_text(svg, "m", x.at + x.length / 2, bottom - CURVES_HEIGHT / 2, "no data");
    }
    ddi_text_put(svg, "</svg>\n");
    return ddi_text_status(svg);
}

/* ---- Bars */

static void put_bar(ddi_text *t, const axis *x, double value, double y, double height, const char *colour)
{
    char words[DDI_REAL_BYTES];
    const double zero = place(x, 0);
    if (!isfinite(value)) {
        put_text(t, "l", zero + 6, y + height / 2 + 4,
                 isnan(value) ? "\xe2\x80\x93"
                 : value > 0  ? "\xe2\x88\x9e"
                              : "\xe2\x88\x92\xe2\x88\x9e");
        return;
    }
    const double end = place(x, value);
    put_rectangle(t, fmin(zero, end), y, fmax(fabs(end - zero), 0.5), height, colour);
    number_words(value, 4, words);
    put_text(t, value < 0 ? "e" : "l", end + (value < 0 ? -6 : 6), y + height / 2 + 4, words);
}

dd_status ddi_plot_draw_bars(ddi_text *svg, const ddi_plot_bars *plot)
{
    DDI_TRY(check_series(plot->series, plot->count));
    if (plot->rows < 0 || plot->rows > DDI_PLOT_MOST_ROWS) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "a plot has at most %d rows", DDI_PLOT_MOST_ROWS);
    }
    const double bar = plot->count > 1 ? 13 : 15, row = plot->count * (bar + 2) + 9, top = plot->title ? 42 : 14;
    const double first = top + (plot->count > 1 ? put_legend(NULL, plot->series, plot->count, top, false) + 8 : 4);
    double names = 0;
    axis x = {.any = true};
    for (int32_t r = 0; r < plot->rows; r++) {
        names = fmax(names, text_width(plot->row[r]));
        for (int32_t i = 0; i < plot->count; i++) {
            include(&x, r < plot->series[i].count ? plot->series[i].y[r] : NAN);
        }
    }
    x.at = 28 + names + (x.low < 0 ? 56 : 0);
    x.length = PAGE_WIDTH - x.at - 76;
    x.high = x.low == 0 && x.high == 0 ? 1 : x.high;
    finish_axis(&x, 0, 8);
    const double bottom = first + row * plot->rows;
    open_document(svg, bottom + (plot->label ? 34 : 14), plot->title);
    if (plot->count > 1) {
        put_legend(svg, plot->series, plot->count, top, false);
    }
    for (int32_t r = 0; r < plot->rows; r++) {
        const double y = first + row * r;
        put_text(svg, "e", 16 + names, y + row / 2 + 1, plot->row[r]);
        for (int32_t i = 0; i < plot->count; i++) {
            const double value = r < plot->series[i].count ? plot->series[i].y[r] : NAN;
            put_bar(svg, &x, value, y + i * (bar + 2), bar, colours[i % COLOURS]);
        }
    }
    put_line(svg, "a", place(&x, 0), first - 4, place(&x, 0), bottom);
    if (plot->label) {
        put_text(svg, "m", x.at + x.length / 2, bottom + 20, plot->label);
    }
    ddi_text_put(svg, "</svg>\n");
    return ddi_text_status(svg);
}

dd_status ddi_plot_save(const ddi_text *svg, const char *path)
{
    const ddi_file_piece piece = {svg->data, svg->size};
    DDI_TRY(ddi_text_status(svg));
    return ddi_file_replace(path, &piece, 1);
}
