/* SPDX-License-Identifier: Apache-2.0
 * A distiller with tiny models attached: its steps, and differences of them. */
#include "attached.h"
#include "case.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* teacher NULL: none. */
void set_up(setup *s, const char *context, const char *student, const char *teacher, const char *options)
{
    s->context = new_context(context);
    s->student = new_model(s->context, student, 5);
    s->teacher = teacher ? new_model(s->context, teacher, 6) : NULL;
    GOOD(dd_distiller_create(&s->distiller, s->context, options));
    GOOD(dd_distiller_attach(s->distiller, s->student, s->teacher));
    pictures_fill(&s->batch, 3);
    pictures_bind(&s->batch, s->distiller);
}

void tear_down(setup *s)
{
    dd_distiller_free(s->distiller);
    dd_model_free(s->student);
    dd_model_free(s->teacher);
    dd_context_free(s->context);
}

double term(const setup *s, const char *name)
{
    double value;
    GOOD(dd_distiller_term_get(s->distiller, name, &value));
    return value;
}

bool has_term(const setup *s, const char *name)
{
    double value;
    return dd_distiller_term_get(s->distiller, name, &value) == DD_OK;
}

/* ---- Gradients against central differences (f64, reference) */

#define STEP 1e-6

uint64_t hash_matchings(dd_distiller *d)
{
    static const char *const names[] = {"match.det", "match.prior", "match.logits", "match.encoder"};
    uint64_t hash = 1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        dd_tensor view;
        if (dd_distiller_result(d, names[i], &view) == DD_OK) {
            hash = hash_bytes(hash, view.data, (size_t)tensor_elements(&view) * 4);
        }
    }
    return hash;
}

typedef struct difference_check {
    setup *setup;
    uint64_t matchings, random;
    int32_t compared, not_zero;
} difference_check;

/* Entry k of `value`, whose gradient is `analytic`. */
static void compare(difference_check *c, const char *name, const dd_tensor *value, int64_t k, double analytic)
{
    double total[2];
    const double x = tensor_get(value, k);
    for (int i = 0; i < 2; i++) {
        tensor_set(value, k, x + (i ? -STEP : STEP));
        GOOD(dd_distiller_step(c->setup->distiller, &total[i]));
        assert_true(hash_matchings(c->setup->distiller) == c->matchings); /* across another matching the total has a kink */
    }
    tensor_set(value, k, x);
    const double numeric = (total[0] - total[1]) / (2 * STEP);
    if (!(fabs(numeric - analytic) <= 1e-5 * fabs(analytic) + 2e-7)) {
        fail_msg("%s[%lld]: numeric %.12g, analytic %.12g", name, (long long)k, numeric, analytic);
    }
    c->compared++;
    c->not_zero += fabs(analytic) > 1e-6;
}

enum { ENTRIES = 1 };

static void compare_entries(difference_check *c, const char *name, const dd_tensor *value, const dd_tensor *grad)
{
    double analytic[ENTRIES];
    int64_t at[ENTRIES];
    const int64_t n = tensor_elements(value);
    for (int i = 0; i < ENTRIES; i++) {
        at[i] = (int64_t)(next_random(&c->random) * (double)n);
        analytic[i] = tensor_get(grad, at[i]); /* the steps of the comparison add to it */
    }
    for (int i = 0; i < ENTRIES; i++) {
        compare(c, name, value, at[i], analytic[i]);
    }
}

/* Gradients of one step, put aside. */
dd_tensor copy_of(const dd_tensor *view)
{
    dd_tensor copy = *view;
    copy.data = malloc((size_t)tensor_elements(view) * 8);
    memcpy(copy.data, view->data, (size_t)tensor_elements(view) * 8);
    return copy;
}

/* Of all parameters, or of those whose names hold one of two words: where boxes are refined, nothing flows back through the
 * reference of the next layer, and differences agree for what comes after the last one alone. */
void check_differences(const char *student, const char *teacher, const char *options, const char *const words[2])
{
    setup s;
    set_up(&s, "device=ref threads=2", student, teacher, options);
    difference_check c = {.setup = &s, .random = 11};
    int32_t count, own, trained;
    const char *name;
    dd_tensor value, *grad;
    GOOD(dd_distiller_step(s.distiller, NULL));
    c.matchings = hash_matchings(s.distiller);
    GOOD(dd_model_parameter_count(s.student, &count));
    GOOD(dd_distiller_parameter_count(s.distiller, &own));
    grad = calloc((size_t)(count + own), sizeof *grad);
    for (int32_t i = 0; i < count + own; i++) {
        dd_tensor view;
        if (i >= count) {
            GOOD(dd_distiller_parameter_at(s.distiller, i - count, NULL, NULL, &view));
            if (!words) {
                grad[i] = copy_of(&view);
            }
            continue;
        }
        GOOD(dd_model_parameter_at(s.student, i, &name, &value, &trained));
        if (trained && (!words || strstr(name, words[0]) || strstr(name, words[1]))) {
            GOOD(dd_model_gradient(s.student, name, &view));
            grad[i] = copy_of(&view);
        }
    }
    for (int32_t i = 0; i < count + own; i++) {
        if (!grad[i].data) {
            continue;
        }
        if (i < count) {
            GOOD(dd_model_parameter_at(s.student, i, &name, &value, NULL));
        } else {
            GOOD(dd_distiller_parameter_at(s.distiller, i - count, &name, &value, NULL));
        }
        compare_entries(&c, name, &value, &grad[i]);
        free(grad[i].data);
    }
    free(grad);
    assert_true(c.compared > (words ? 20 : 60));
    assert_true(c.not_zero > c.compared / 2);
    tear_down(&s);
}

/* ---- */

/* Of a step's terms, and of its gradients alone. */
uint64_t hash_step(setup *s)
{
    GOOD(dd_model_zero_gradients(s->student));
    GOOD(dd_distiller_zero_gradients(s->distiller));
    GOOD(dd_distiller_step(s->distiller, NULL));
    const uint64_t terms = case_hash_terms(s->distiller);
    return hash_bytes(hash_model_gradients(s->student), &terms, sizeof terms);
}

const char *const step_devices[2] = {"device=ref threads=1", CPU_DEVICE " threads=2"};

void check_same_bits(const char *student, const char *teacher)
{
    static const char *const contexts[] = {"device=ref threads=1", "device=ref threads=2", CPU_DEVICE " threads=1",
                                           CPU_DEVICE " threads=2"};
    uint64_t hash[4];
    for (int i = 0; i < 4; i++) {
        setup s;
        set_up(&s, contexts[i], student, teacher, CONTRASTIVE);
        hash[i] = hash_step(&s);
        tear_down(&s);
    }
    assert_true(hash[0] == hash[1] && hash[2] == hash[3]);
}

void check_steady_steps(const char *student, const char *teacher)
{
    for (int i = 0; i < 2; i++) {
        setup s;
        int64_t live[2], peak, on_device, device_peak, count[2];
        set_up(&s, step_devices[i], student, teacher, CONTRASTIVE);
        for (int k = 0; k < 2; k++) {
            GOOD(dd_distiller_step(s.distiller, NULL));
        }
        for (int k = 0; k < 2; k++) {
            GOOD(dd_context_memory(s.context, &live[k], &peak, &on_device, &device_peak, &count[k]));
            GOOD(dd_distiller_step(s.distiller, NULL));
        }
        assert_int_equal(count[0], count[1]);
        assert_int_equal(live[0], live[1]);
        tear_down(&s);
    }
}

dd_model *check_own_outputs(setup *s, const char *student, const char *const names[], size_t count)
{
    dd_model *alone = new_model(s->context, student, 5);
    const int64_t shape[] = {PICTURES, 3, HEIGHT, WIDTH}, stride[] = {HEIGHT * WIDTH * 3, 1, WIDTH * 3, 3};
    dd_tensor pixels, sizes;
    GOOD(dd_tensor_init(&pixels, s->batch.pixels, DD_F64, 4, shape, stride, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_tensor_init(&sizes, s->batch.sizes, DD_I32, 2, (const int64_t[]){PICTURES, 2}, NULL, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_model_forward(alone, &pixels, &sizes));
    for (size_t k = 0; k < count; k++) {
        assert_true(hash_model_tensor(alone, names[k]) == hash_model_tensor(s->student, names[k]));
    }
    return alone;
}

void new_folder(char path[64])
{
    strcpy(path, "/tmp/dd-teacher-XXXXXX");
    assert_non_null(mkdtemp(path));
}

/* Calls `each` (or removes) for every file; returns how many there were. */
int each_file(const char *folder, void (*each)(const char *path), bool removes)
{
    char path[512];
    int n = 0;
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    for (const struct dirent *e; (e = readdir(stream));) {
        if (e->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (each) {
            each(path);
        }
        if (removes) {
            unlink(path);
        }
        n++;
    }
    closedir(stream);
    return n;
}

void remove_folder(const char *folder)
{
    each_file(folder, NULL, true);
    assert_int_equal(rmdir(folder), 0);
}
