/* SPDX-License-Identifier: Apache-2.0
 * Log, table and events of a run: what stands in them, going on after a stop, plots. With a folder as argument it leaves
 * samples there for read_run_files.py. */
#include "base/alloc.h"
#include "formats/run_files.h"
#include "formats/svg_plot.h"

#include <expat.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/dd-run-files-XXXXXX";
static char path[512];

static void good(dd_status status)
{
    if (status != DD_OK) {
        print_message("%s\n", dd_error_message());
    }
    assert_int_equal(status, DD_OK);
}

static const char *contents(void)
{
    static char bytes[1 << 16];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    bytes[fread(bytes, 1, sizeof bytes - 1, file)] = 0;
    fclose(file);
    return bytes;
}

static void set_contents(const char *words)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(words, 1, strlen(words), file), strlen(words));
    fclose(file);
}

/* ---- Log and table */

static void writes_lines(void **state)
{
    const ddi_run_value values[] = {{.key = "loss", .real = 0.25},
                                    {.key = "nan", .real = NAN},
                                    {.key = "inf", .real = -INFINITY},
                                    {.key = "n", .kind = DDI_RUN_INTEGER, .integer = -3},
                                    {.key = "a \"key\"\\", .kind = DDI_RUN_TEXT, .text = "line\n\xc3\xa9\xff\x01"}};
    ddi_run_log log;
    good(ddi_run_log_open(&log, path, -1));
    good(ddi_run_log_write(&log, 7, values, 5));
    assert_string_equal(contents(), "{\"step\":7,\"loss\":0.25,\"nan\":null,\"inf\":null,\"n\":-3,\"a \\\"key\\\"\\\\\":"
                                    "\"line\\u000a\xc3\xa9\xef\xbf\xbd\\u0001\"}\n");
    good(ddi_run_log_write(&log, 8, NULL, 0));
    good(ddi_run_log_close(&log));
    assert_true(strstr(contents(), "}\n{\"step\":8}\n") != NULL);
    good(ddi_run_log_close(&log));
}

static void goes_on_behind_a_step(void **state)
{
    static const struct {
        const char *before;
        int64_t last_step;
        const char *after;
    } cases[] = {
        {"{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n", 2, "{\"step\":1}\n{\"step\":2}\n"},
        {"{\"step\":1}\n{\"step\":2}\n{\"st", 2, "{\"step\":1}\n{\"step\":2}\n"},
        {"{\"step\":1}\n{\"step\":2,\"lo", INT64_MAX, "{\"step\":1}\n"},
        {"{\"step\":1}\n{\"step\":5}\n{\"step\":2}\n", 2, "{\"step\":1}\n"},
        {"{\"note\":1}\n{\"step\":12345678901234567890123}\n", 2, "{\"note\":1}\n"},
        {"{\"step\":0}\n", -1, ""},
        {"\n\n", 3, "\n\n"},
        {"", 3, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ddi_run_log log;
        char wanted[256];
        set_contents(cases[i].before);
        good(ddi_run_log_open(&log, path, cases[i].last_step));
        assert_string_equal(contents(), cases[i].after);
        good(ddi_run_log_write(&log, 3, NULL, 0));
        good(ddi_run_log_close(&log));
        snprintf(wanted, sizeof wanted, "%s{\"step\":3}\n", cases[i].after);
        assert_string_equal(contents(), wanted);
    }
}

static void writes_tables(void **state)
{
    static const char *const columns[] = {"loss", "AP, \"small\"\n"}, *const others[] = {"loss"};
    static const char head[] = "step,loss,\"AP, \"\"small\"\" \"\n";
    ddi_run_table table;
    char wanted[256];
    unlink(path);
    good(ddi_run_table_open(&table, path, columns, 2, 100));
    good(ddi_run_table_write(&table, 1, (const double[]){1.5, NAN}));
    good(ddi_run_table_write(&table, 2, (const double[]){1e-7, INFINITY}));
    good(ddi_run_table_close(&table));
    snprintf(wanted, sizeof wanted, "%s1,1.5,\n2,1e-07,inf\n", head);
    assert_string_equal(contents(), wanted);
    good(ddi_run_table_open(&table, path, columns, 2, 1));
    good(ddi_run_table_write(&table, 2, (const double[]){3, 4}));
    good(ddi_run_table_close(&table));
    snprintf(wanted, sizeof wanted, "%s1,1.5,\n2,3,4\n", head);
    assert_string_equal(contents(), wanted);
    assert_int_equal(ddi_run_table_open(&table, path, others, 1, 1), DD_ERR_FORMAT);
    assert_string_equal(contents(), wanted);
    set_contents("step,lo"); /* killed within the first write */
    good(ddi_run_table_open(&table, path, columns, 2, 1));
    good(ddi_run_table_close(&table));
    assert_string_equal(contents(), head);
}

static void numbers_have_a_point_everywhere(void **state)
{
    static const char *const locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "ps_AF.UTF-8", "C"};
    for (size_t i = 0; i < sizeof locales / sizeof locales[0]; i++) {
        char out[DDI_REAL_BYTES];
        setlocale(LC_NUMERIC, locales[i]);
        ddi_real_text(-1234.5, 17, out);
        assert_string_equal(out, "-1234.5");
        ddi_real_text(DBL_MAX, 17, out);
        assert_string_equal(out, "1.7976931348623157e+308");
        ddi_real_text(0.1, 9, out);
        assert_string_equal(out, "0.1");
    }
    setlocale(LC_NUMERIC, "C");
}

static void refuses_what_it_cannot_write(void **state)
{
    ddi_run_log log;
    ddi_run_events events;
    assert_int_equal(ddi_run_log_open(&log, "/nowhere/log.jsonl", 1), DD_ERR_IO);
    assert_int_equal(ddi_run_log_open(&log, folder, -1), DD_ERR_IO);
    set_contents("x");
    assert_int_equal(ddi_run_events_open(&events, path, 0, 0), DD_ERR_IO); /* is there already */
    assert_string_equal(contents(), "x");
}

/* Whatever fails, the file holds whole lines and nothing leaks. */
static void every_failing_call_is_an_error(void **state)
{
#ifndef DDI_FAULT_POINTS
    print_message("skipped: a build without fault points\n");
    skip();
#else
    const ddi_run_value value = {.key = "loss", .real = 0.5};
    const int64_t before = ddi_default_allocator.live_blocks;
    bool all_good = false;
    for (int n = 1; !all_good; n++) {
        ddi_run_log log;
        assert_in_range(n, 1, 1000);
        set_contents("");
        dd_fault_set(n, 0);
        all_good = ddi_run_log_open(&log, path, 5) == DD_OK;
        if (all_good) {
            for (int step = 0; step < 4; step++) {
                all_good = ddi_run_log_write(&log, step, &value, 1) == DD_OK && all_good;
            }
            all_good = ddi_run_log_close(&log) == DD_OK && all_good;
        }
        dd_fault_set(0, 0);
        const char *text = contents();
        assert_true(!*text || text[strlen(text) - 1] == '\n');
        for (; *text; text = strchr(text, '\n') + 1) {
            assert_int_equal(strncmp(text, "{\"step\":", 8), 0);
        }
        assert_int_equal(ddi_default_allocator.live_blocks, before);
    }
#endif
}

/* ---- Plots */

static void assert_xml(const ddi_text *svg)
{
    XML_Parser parser = XML_ParserCreate("UTF-8");
    if (XML_Parse(parser, svg->data, (int)svg->size, 1) != XML_STATUS_OK) {
        fail_msg("line %lu: %s", (unsigned long)XML_GetCurrentLineNumber(parser), XML_ErrorString(XML_GetErrorCode(parser)));
    }
    XML_ParserFree(parser);
}

/* No coordinate that a browser would refuse. */
static void assert_numbers(const ddi_text *svg)
{
    char *copy = malloc(svg->size + 1);
    memcpy(copy, svg->data, svg->size);
    copy[svg->size] = 0;
    for (char *at = copy; (at = strstr(at, " d=\"")) != NULL;) {
        at += 4;
        const size_t bytes = strcspn(at, "\"");
        if (strspn(at, "MLh0123456789.- ") != bytes) {
            fail_msg("a path of %.*s", (int)bytes, at);
        }
    }
    assert_null(strstr(copy, "nan"));
    assert_null(strstr(copy, "=\"inf"));
    free(copy);
}

static void draw(const ddi_plot_curves *plot)
{
    ddi_text svg = {.data = NULL};
    good(ddi_plot_draw_curves(&svg, plot));
    assert_xml(&svg);
    assert_numbers(&svg);
    assert_in_range(svg.size, 500, 200000);
    ddi_text_free(&svg);
}

static void draws_any_numbers(void **state)
{
    static double many[100000];
    static const double one[] = {3}, none[] = {NAN, NAN}, gaps[] = {1, NAN, 2, 3, INFINITY, -4, NAN}, same[] = {5, 5, 5},
                        huge[] = {-DBL_MAX, DBL_MAX, 0}, top[] = {DBL_MAX, DBL_MAX}, tiny[] = {5e-324, 1e-323, 0},
                        close[] = {1e16, 1e16 + 2}, wide[] = {1e-300, 1e300}, negative[] = {-1, -2, 0};
    const struct {
        const double *y;
        int64_t count;
    } all[] = {{NULL, 0}, {one, 1},  {none, 2},  {gaps, 7}, {same, 3},     {huge, 3},
               {top, 2},  {tiny, 3}, {close, 2}, {wide, 2}, {negative, 3}, {many, 100000}};
    for (int i = 0; i < 100000; i++) {
        many[i] = sin(i * 0.001) + (i % 97 == 0 ? NAN : 0);
    }
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const ddi_plot_series series[] = {{"a <b> & \"c\" \xff\x02", NULL, all[i].y, all[i].count},
                                          {"", all[i].y, all[i].y, all[i].count}};
        for (int k = 0; k < 8; k++) {
            draw(&(ddi_plot_curves){.title = k & 1 ? "t < & >" : NULL,
                                    .x_label = k & 2 ? "<x>" : NULL,
                                    .y_label = "&y",
                                    .series = series,
                                    .count = i % 2 ? 1 : 2,
                                    .log_y = k & 4,
                                    .smoothing = k & 1 ? 0.9 : 0});
        }
    }
    draw(&(ddi_plot_curves){.count = 0});
}

static void draws_bars(void **state)
{
    static const char *const rows[] = {"person", "a name of more than forty-eight characters, which is cut <here>", "", "last"};
    static const double one[] = {0.5, -0.25, NAN, INFINITY}, two[] = {1e300, -1e300}, zero[] = {0, 0, 0, 0};
    const ddi_plot_series series[] = {{"before", NULL, one, 4}, {"after", NULL, two, 2}, {"zero", NULL, zero, 4}};
    for (int32_t count = 0; count <= 3; count++) {
        for (int32_t r = 0; r <= 4; r++) {
            ddi_text svg = {.data = NULL};
            good(ddi_plot_draw_bars(&svg, &(ddi_plot_bars){"bars", "AP", rows, r, series + 3 - count, count}));
            assert_xml(&svg);
            assert_numbers(&svg);
            ddi_text_free(&svg);
        }
    }
}

static void refuses_bad_plots(void **state)
{
    ddi_text svg = {.data = NULL};
    const ddi_plot_series series = {"a", NULL, NULL, 3};
    assert_int_equal(ddi_plot_draw_curves(&svg, &(ddi_plot_curves){.smoothing = 1}), DD_ERR_ARGUMENT);
    assert_int_equal(ddi_plot_draw_curves(&svg, &(ddi_plot_curves){.smoothing = NAN}), DD_ERR_ARGUMENT);
    assert_int_equal(ddi_plot_draw_curves(&svg, &(ddi_plot_curves){.count = 65}), DD_ERR_LIMIT);
    assert_int_equal(ddi_plot_draw_curves(&svg, &(ddi_plot_curves){.series = &series, .count = 1}), DD_ERR_ARGUMENT);
    assert_int_equal(ddi_plot_draw_bars(&svg, &(ddi_plot_bars){.rows = 5000}), DD_ERR_LIMIT);
    ddi_text_free(&svg);
}

/* ---- Samples */

static void name(const char *in, const char *file)
{
    snprintf(path, sizeof path, "%.400s/%s", in, file);
}

static void leave_events(const char *in)
{
    const ddi_run_value values[] = {{.key = "loss/total", .real = 1.25},
                                    {.key = "note", .kind = DDI_RUN_TEXT, .text = "no scalar"},
                                    {.key = "epoch \xc3\xa9", .kind = DDI_RUN_INTEGER, .integer = 3},
                                    {.key = "nan", .real = NAN}};
    ddi_run_events events;
    name(in, "events.out.tfevents.1700000000.test");
    good(ddi_run_events_open(&events, path, 1700000000.5, 0));
    good(ddi_run_events_write(&events, 1700000001.25, 1, values, 1));
    good(ddi_run_events_write(&events, 1700000002, 300, values, 4));
    good(ddi_run_events_close(&events));
    name(in, "events.out.tfevents.1700000005.test");
    good(ddi_run_events_open(&events, path, 1700000005, 200));
    good(ddi_run_events_write(&events, 1700000006, INT64_MAX, values, 1));
    good(ddi_run_events_close(&events));
}

static void leave_plots(const char *in)
{
    enum { STEPS = 600 };
    static double loss[4][STEPS];
    static const char *const rows[] = {"person", "bicycle", "car", "dog", "traffic light", "surfboard"};
    static const double before[] = {0.412, 0.201, 0.318, 0.455, 0.187, 0.231},
                        after[] = {0.447, 0.239, 0.342, 0.501, 0.203, 0.268};
    ddi_text svg = {.data = NULL};
    for (int i = 0; i < STEPS; i++) {
        for (int k = 0; k < 4; k++) {
            loss[k][i] = (2.0 + k) * exp(-i / (90.0 + 40 * k)) + 0.12 * (k + 1) +
                         0.12 * sin(i * (7.1 + k)) * cos(i * 1.7) * exp(-i / 400.0);
        }
    }
    const ddi_plot_series curves[] = {{"total", NULL, loss[3], STEPS},
                                      {"logits", NULL, loss[2], STEPS},
                                      {"features", NULL, loss[1], STEPS},
                                      {"prior group", NULL, loss[0], STEPS}};
    good(ddi_plot_draw_curves(&svg,
                              &(ddi_plot_curves){"Distillation losses", "step", "loss (log scale)", curves, 4, true, 0.9}));
    name(in, "curves.svg");
    good(ddi_plot_save(&svg, path));
    svg.size = 0;
    const ddi_plot_series bars[] = {{"student", NULL, before, 6}, {"distilled", NULL, after, 6}};
    good(ddi_plot_draw_bars(&svg, &(ddi_plot_bars){"Average precision by class", "AP", rows, 6, bars, 2}));
    name(in, "bars.svg");
    good(ddi_plot_save(&svg, path));
    ddi_text_free(&svg);
}

static void leaves_samples(void **state)
{
    leave_events(folder);
    leave_plots(folder);
}

static int begin(void **state)
{
    if (!mkdtemp(folder)) {
        return -1;
    }
    name(folder, "file");
    return 0;
}

static int end(void **state)
{
    static const char *const files[] = {"file", "curves.svg", "bars.svg", "events.out.tfevents.1700000000.test",
                                        "events.out.tfevents.1700000005.test"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        name(folder, files[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_lines),
        cmocka_unit_test(goes_on_behind_a_step),
        cmocka_unit_test(writes_tables),
        cmocka_unit_test(numbers_have_a_point_everywhere),
        cmocka_unit_test(refuses_what_it_cannot_write),
        cmocka_unit_test(every_failing_call_is_an_error),
        cmocka_unit_test(draws_any_numbers),
        cmocka_unit_test(draws_bars),
        cmocka_unit_test(refuses_bad_plots),
        cmocka_unit_test(leaves_samples),
    };
    if (argc > 1) {
        leave_events(argv[1]);
        leave_plots(argv[1]);
        return 0;
    }
    return cmocka_run_group_tests(tests, begin, end);
}
