/* SPDX-License-Identifier: Apache-2.0
 * The picture of a run: loss terms above, average precision below, as an SVG that follows the reader's light or dark theme. */
#include "history.h"
#include <math.h>
#include <stdio.h>

enum { WIDTH = 960, HEIGHT = 700, LEFT = 80, RIGHT = 730, PANEL = 250 };

/* A plot: values 0 .. top over the steps, drawn from y = `bottom` upwards. */
typedef struct panel {
    FILE *file;
    double bottom, top, last_step;
    int lines; /* in the legend so far */
} panel;

/* Mid-tones that stand out on white and on black; the dash tells lines apart where colours cannot. */
static const char *const colours[] = {"#4a90d9", "#e4576b", "#2f9e5b", "#c98a1b", "#9b6bd3", "#1ba3a8", "#c25fa0", "#7d8790"};
static const char *const dashes[] = {"none", "8 3", "3 3", "10 3 3 3", "none", "8 3", "3 3", "10 3 3 3"};
enum { STYLES = sizeof colours / sizeof colours[0] };

static double x_of(const panel *p, double step)
{
    return LEFT + (RIGHT - LEFT) * (p->last_step > 0 ? step / p->last_step : 0);
}

static double y_of(const panel *p, double value)
{
    return p->bottom - PANEL * value / p->top;
}

/* 1, 2 or 5 times a power of ten, so that at most eight ticks fit below `top`. */
static double tick_step(double top)
{
    double power = pow(10, floor(log10(top / 8)));
    while (top / power > 8)
        power *= top / (2 * power) <= 8 ? 2 : top / (5 * power) <= 8 ? 5 : 10;
    return power;
}

static void draw_frame(const panel *p, const char *title, const char *axis)
{
    FILE *f = p->file;
    fprintf(f, "<text class=\"title\" x=\"%d\" y=\"%g\">%s</text>\n", LEFT, p->bottom - PANEL - 14, title);
    double step = tick_step(p->top);
    for (int i = 0; i * step <= p->top * 1.0001; i++) {
        fprintf(f, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, y_of(p, i * step), RIGHT);
        fprintf(f, "<text class=\"end\" x=\"%d\" y=\"%.1f\">%.4g</text>\n", LEFT - 8, y_of(p, i * step) + 4, i * step);
    }
    step = fmax(1, tick_step(fmax(p->last_step, 1)));
    for (int i = 0; i * step <= p->last_step; i++) {
        fprintf(f, "<path class=\"axis\" d=\"M%.1f %gv5\"/>", x_of(p, i * step), p->bottom);
        fprintf(f, "<text class=\"middle\" x=\"%.1f\" y=\"%g\">%.0f</text>\n", x_of(p, i * step), p->bottom + 20, i * step);
    }
    fprintf(f, "<path class=\"axis\" d=\"M%d %gV%gH%d\"/>\n", LEFT, p->bottom - PANEL, p->bottom, RIGHT);
    fprintf(f, "<text class=\"middle\" x=\"%d\" y=\"%g\">step</text>\n", (LEFT + RIGHT) / 2, p->bottom + 38);
    fprintf(f, "<text class=\"middle\" transform=\"translate(24 %g) rotate(-90)\">%s</text>\n", p->bottom - PANEL / 2., axis);
}

static void begin_line(panel *p, const char *name, double width)
{
    int style = p->lines % STYLES;
    double y = p->bottom - PANEL + 10 + 22 * p->lines++;
    fprintf(p->file, "<g class=\"line\" stroke=\"%s\" stroke-width=\"%g\" stroke-dasharray=\"%s\">", colours[style], width,
            dashes[style]);
    fprintf(p->file, "<path d=\"M%d %gh28\"/><text x=\"%d\" y=\"%g\">%s</text><path d=\"", RIGHT + 20, y, RIGHT + 56, y + 4,
            name);
}

static void add_point(const panel *p, bool *first, double step, double value)
{
    fprintf(p->file, "%c%.1f %.1f", *first ? 'M' : 'L', x_of(p, step), y_of(p, value));
    *first = false;
}

static void end_line(const panel *p)
{
    fprintf(p->file, "\"/></g>\n");
}

/* A term as a share of its first value. */
static double share(const history *h, int64_t step, int32_t term)
{
    double start = history_value(h, 0, term);
    return start != 0 ? history_value(h, step, term) / start : 1;
}

static void draw_losses(FILE *file, const history *h)
{
    panel p = {.file = file, .bottom = 50 + PANEL, .top = 1, .last_step = (double)h->steps - 1};
    for (int32_t i = 0; i < h->terms; i++) {
        for (int64_t s = 0; s < h->steps && h->shown[i]; s++)
            p.top = fmax(p.top, share(h, s, i));
    }
    draw_frame(&p, "Loss terms", "share of the value at step 0");
    for (int32_t i = 0; i < h->terms; i++) {
        if (!h->shown[i])
            continue;
        bool first = true;
        begin_line(&p, h->name[i], p.lines == 0 ? 3 : 1.8); /* the total is first and thickest */
        for (int64_t s = 0; s < h->steps; s++)
            add_point(&p, &first, (double)s, share(h, s, i));
        end_line(&p);
    }
}

static void draw_quality(FILE *file, const history *h)
{
    panel p = {.file = file, .bottom = 390 + PANEL, .top = 1, .last_step = (double)h->steps - 1};
    bool first = true;
    draw_frame(&p, "Quality on the objects", "AP, or share of all");
    begin_line(&p, "AP, student", 3);
    for (int64_t s = 0; s < h->steps; s++) {
        if (h->is_judged[s])
            add_point(&p, &first, (double)s, h->judged[s].ap);
    }
    end_line(&p);
    begin_line(&p, "AP, teacher", 1.8);
    fprintf(file, "M%d %.1fH%d", LEFT, y_of(&p, fmax(h->teacher.ap, 0)), RIGHT);
    end_line(&p);
    first = true;
    begin_line(&p, "objects found", 1.8);
    for (int64_t s = 0; s < h->steps; s++) {
        if (h->is_judged[s])
            add_point(&p, &first, (double)s, h->judged[s].found);
    }
    end_line(&p);
    first = true;
    begin_line(&p, "partners kept", 1.2);
    for (int64_t s = 0; s < h->steps; s++) {
        if (h->stability[s] >= 0)
            add_point(&p, &first, (double)s, h->stability[s]);
    }
    end_line(&p);
}

bool write_curves(const history *h, const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return false;
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n"
            "<title>Distillation of a detector's outputs: loss terms and average precision over the steps</title>\n"
            "<style>\n"
            "  .paper{fill:#ffffff} text{font:13px sans-serif;fill:#1f2328;stroke:none}\n"
            "  .title{font-size:16px;font-weight:bold} .end{text-anchor:end} .middle{text-anchor:middle}\n"
            "  .grid{stroke:#d8dde3;fill:none} .axis{stroke:#1f2328;fill:none} .line{fill:none;stroke-linejoin:round}\n"
            "  @media (prefers-color-scheme:dark){\n"
            "    .paper{fill:#15181d} text{fill:#e4e8ed} .grid{stroke:#3a414b} .axis{stroke:#e4e8ed}\n"
            "  }\n"
            "</style>\n"
            "<rect class=\"paper\" width=\"100%%\" height=\"100%%\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    draw_losses(file, h);
    draw_quality(file, h);
    fprintf(file, "</svg>\n");
    bool written = !ferror(file);
    return fclose(file) == 0 && written;
}
