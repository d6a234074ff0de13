/* SPDX-License-Identifier: Apache-2.0
 * Schedules by value; clipping; AdamW by slices, averages and their swap, against the formulas in double. */
#include "tiny.h"

#include "models/model.h"
#include "train/optimiser.h"
#include "train/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Schedules */

static void test_warm_up_and_drops(void **state)
{
    ddi_schedule s = {.warmup = 500, .warmup_from = 0.001, .drop_factor = 0.1};
    OK(ddi_schedule_drops(&s, "8,11", 12));
    const struct {
        int64_t step, epoch;
        double rate;
    } cases[] = {{0, 0, 0.001},   {250, 0, 0.5005}, {499, 0, 0.998002}, {500, 0, 1},      {9999, 7, 1},
                 {10000, 8, 0.1}, {10001, 10, 0.1}, {20000, 11, 0.01},  {100, 8, 0.02008}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(fabs(ddi_schedule_rate(&s, cases[i].step, cases[i].epoch) - cases[i].rate) < 1e-12);
    }
    s.warmup = 0;
    assert_true(ddi_schedule_rate(&s, 0, 0) == 1);
}

static void test_drops_are_read(void **state)
{
    ddi_schedule s = {.drop_factor = 0.1};
    OK(ddi_schedule_drops(&s, "auto", 50));
    assert_int_equal(s.drop[0], 40);
    OK(ddi_schedule_drops(&s, "auto", 4)); /* too short for one */
    assert_int_equal(s.drops, 0);
    OK(ddi_schedule_drops(&s, "3", 4));
    assert_int_equal(s.drop[0], 3);
    static const char *const bad[] = {"", ",", "3,", ",3", "3,3", "5,4", "x", "-1", "3 ,4", "12345678901", "autos"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(ddi_schedule_drops(&s, bad[i], 50), DD_ERR_OPTION);
    }
}

static void test_average_starts_short(void **state)
{
    assert_true(fabs(ddi_schedule_average(0.999, 1) - 2.0 / 11) < 1e-15);
    assert_true(ddi_schedule_average(0.999, 100000) == 0.999);
}

static void test_clip_factor(void **state)
{
    assert_true(ddi_clip_factor(0, 5) == 1);
    assert_true(ddi_clip_factor(0.1, 0.05) == 1);
    assert_true(fabs(ddi_clip_factor(0.1, 5) - 0.1 / 5.000001) < 1e-15);
}

/* ---- The update */

static const double LARGEST = 0.1; /* gradient */
static const double RATE = 1e-2;   /* size of an update */

typedef struct record {
    double *w, *m, *v, *average;
} record;

static double element(const ddi_params *p, const void *data, int64_t i)
{
    return ((const float *)data)[i];
}

static void expect_update(const ddi_optimiser *o, const ddi_params *params, record *r, int64_t update, double rate,
                          double scale)
{
    const ddi_optimiser_settings *s = &o->settings;
    for (int32_t k = 0; k < params->count; k++) {
        const ddi_param *p = params->all[k];
        for (int64_t i = p->place; p->trained && i < p->place + p->count; i++) {
            const double g = element(params, params->grad.data, i) * scale, factor = rate * s->rate_of_group[p->group];
            const double decay = s->small_decay || p->ndim > 1 ? s->decay : 0;
            r->m[i] = s->beta1 * r->m[i] + (1 - s->beta1) * g;
            r->v[i] = s->beta2 * r->v[i] + (1 - s->beta2) * g * g;
            const double m = r->m[i] / (1 - pow(s->beta1, (double)update)), v = r->v[i] / (1 - pow(s->beta2, (double)update));
            r->w[i] = r->w[i] * (1 - factor * decay) - factor * m / (sqrt(v) + s->eps);
            const double d = ddi_schedule_average(s->average, update);
            r->average[i] = d * r->average[i] + (1 - d) * r->w[i];
        }
    }
}

static void fill_gradients(ddi_params *params, int32_t update)
{
    for (int32_t k = 0; k < params->count; k++) {
        const ddi_param *p = params->all[k];
        for (int64_t i = 0; p->trained && i < p->count; i++) {
            ((float *)(void *)p->grad)[i] = (float)(sin((double)(p->place + i + 1) * (update + 0.37)) * LARGEST);
        }
    }
}

static void compare(const ddi_optimiser *o, const ddi_params *params, const record *r)
{
    const ddi_weights *b = &o->block[0];
    double worst = 0;
    for (int32_t k = 0; k < params->count; k++) {
        const ddi_param *p = params->all[k];
        for (int64_t i = p->place; p->trained && i < p->place + p->count; i++) {
            const double got[3] = {element(params, b->w, i), element(params, b->m.data, i),
                                   element(params, b->average.data, i)};
            const double wanted[3] = {r->w[i], r->m[i], r->average[i]};
            for (int32_t c = 0; c < 3; c++) {
                const double entered = c == 1 ? LARGEST : RATE; /* what is near zero is a difference of such numbers */
                worst = fmax(worst, fabs(got[c] - wanted[c]) / (fabs(wanted[c]) + entered));
            }
        }
    }
    assert_true(worst < 2e-6);
}

static void check_updates(const ddi_optimiser_settings *settings, int32_t batches)
{
    tiny t;
    ddi_exec exec;
    ddi_optimiser o;
    tiny_open(&t, "", "seed=2");
    ddi_params *params = &t.student->params;
    ddi_exec_init(&exec, t.context);
    OK(ddi_optimiser_init(&o, &exec, params, settings));
    const size_t n = (size_t)params->trained_elements;
    record r = {calloc(n, 8), calloc(n, 8), calloc(n, 8), calloc(n, 8)};
    for (size_t i = 0; i < n; i++) {
        r.w[i] = r.average[i] = element(params, params->trained.data, (int64_t)i);
    }
    for (int32_t u = 1; u <= 3; u++) {
        double norm, sum = 0;
        fill_gradients(params, u);
        for (size_t i = 0; i < n; i++) {
            sum += pow(element(params, params->grad.data, (int64_t)i), 2);
        }
        OK(ddi_optimiser_norm(&o, batches, &norm));
        assert_true(fabs(norm - sqrt(sum) / batches) < 1e-9 * norm);
        OK(ddi_optimiser_update(&o, u, RATE, batches, norm));
        expect_update(&o, params, &r, u, RATE, ddi_clip_factor(settings->clip, norm) / batches);
        compare(&o, params, &r);
    }
    const uint64_t before = tiny_hash(t.student);
    ddi_optimiser_swap_average(&o);
    assert_true(tiny_hash(t.student) != before);
    ddi_optimiser_swap_average(&o);
    assert_true(tiny_hash(t.student) == before);
    ddi_optimiser_free(&o);
    ddi_exec_free(&exec);
    free(r.w);
    free(r.m);
    free(r.v);
    free(r.average);
    tiny_close(&t);
}

static void test_updates(void **state)
{
    const ddi_optimiser_settings all = {.decay = 0.1,
                                        .beta1 = 0.9,
                                        .beta2 = 0.99,
                                        .eps = 1e-8,
                                        .clip = 0.5,
                                        .average = 0.9,
                                        .rate_of_group = {1, 0.1, 0.5},
                                        .small_decay = true};
    ddi_optimiser_settings some = all;
    some.small_decay = false;
    some.clip = 0;
    check_updates(&all, 1);
    check_updates(&some, 4);
}

/* The backbone and the sampling layers have rates of their own; all trained elements are in exactly one slice. */
static void test_slices(void **state)
{
    tiny t;
    ddi_exec exec;
    ddi_optimiser o;
    const ddi_optimiser_settings settings = {.rate_of_group = {1, 0.25, 0.5}, .small_decay = false, .decay = 1};
    tiny_open(&t, "", "seed=2");
    const ddi_params *params = &t.student->params;
    ddi_exec_init(&exec, t.context);
    OK(ddi_optimiser_init(&o, &exec, params, &settings));
    for (int32_t k = 0; k < params->count; k++) {
        const ddi_param *p = params->all[k];
        int32_t found = 0;
        for (int32_t i = 0; p->trained && i < o.block[0].slices; i++) {
            const ddi_slice *s = &o.block[0].slice[i];
            if (p->place >= s->first && p->place + p->count <= s->first + s->count) {
                const bool sampling = strstr(p->name, "sampling_offsets") || strstr(p->name, "reference_points");
                assert_true(s->rate == (strstr(p->name, "backbone") ? 0.25 : sampling ? 0.5 : 1));
                assert_true(s->decays == (p->ndim > 1));
                found++;
            }
        }
        assert_int_equal(found, p->trained);
    }
    ddi_optimiser_free(&o);
    ddi_exec_free(&exec);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warm_up_and_drops),
        cmocka_unit_test(test_drops_are_read),
        cmocka_unit_test(test_average_starts_short),
        cmocka_unit_test(test_clip_factor),
        cmocka_unit_test(test_updates),
        cmocka_unit_test(test_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
