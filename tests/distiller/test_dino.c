/* SPDX-License-Identifier: Apache-2.0
 * Training steps through attached DINO models: denoising queries, the encoder's proposals, queries of a teacher that saw the
 * picture. */
#include "attached.h"
#include "case.h"
#include "models/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* With the same random numbers each time. */
static double step(setup *s)
{
    double total;
    s->student->tape.step = 0;
    GOOD(dd_distiller_step(s->distiller, &total));
    return total;
}

static uint64_t hash_same_step(setup *s)
{
    s->student->tape.step = 0;
    return hash_step(s);
}

/* ---- Gradients against central differences (f64, reference) */

#define STEP 1e-6

typedef struct difference_check {
    setup *setup;
    uint64_t matchings, random;
    int32_t compared, not_zero;
} difference_check;

/* One entry of a parameter, drawn. */
static void compare(difference_check *c, const char *name, const dd_tensor *value, const dd_tensor *grad)
{
    const int64_t k = (int64_t)(next_random(&c->random) * (double)tensor_elements(value));
    const double x = tensor_get(value, k), analytic = tensor_get(grad, k);
    double total[2];
    for (int i = 0; i < 2; i++) {
        tensor_set(value, k, x + (i ? -STEP : STEP));
        total[i] = step(c->setup);
        assert_true(hash_matchings(c->setup->distiller) == c->matchings);
    }
    tensor_set(value, k, x);
    const double numeric = (total[0] - total[1]) / (2 * STEP);
    if (!(fabs(numeric - analytic) <= 1e-5 * fabs(analytic) + 2e-7)) {
        fail_msg("%s[%lld]: numeric %.12g, analytic %.12g", name, (long long)k, numeric, analytic);
    }
    c->compared++;
    c->not_zero += fabs(analytic) > 1e-6;
}

/* References do not depend on the model then, only on which tokens are chosen: nothing is lost where they have no way back. */
static void fix_references(dd_model *model)
{
    static const char *const names[] = {"model.enc_out_bbox_embed.layers.2.weight", "model.enc_out_bbox_embed.layers.2.bias"};
    for (int i = 0; i < 2; i++) {
        const dd_tensor view = parameter_of(model, names[i]);
        for (int64_t k = 0; k < tensor_elements(&view); k++) {
            tensor_set(&view, k, 0);
        }
    }
}

/* with, without: parameters whose names hold one of the words of the first and not the second; NULL: all. */
typedef struct choice {
    const char *with[2], *without;
} choice;

static bool is_chosen(const choice *c, const char *name)
{
    return (!c->with[0] || strstr(name, c->with[0]) || strstr(name, c->with[1])) && !(c->without && strstr(name, c->without));
}

static int32_t read_gradients(setup *s, const choice *which, dd_tensor *grad)
{
    int32_t count, own, trained;
    GOOD(dd_model_parameter_count(s->student, &count));
    GOOD(dd_distiller_parameter_count(s->distiller, &own));
    for (int32_t i = 0; i < count + own; i++) {
        const char *name;
        dd_tensor view, value;
        grad[i].data = NULL;
        if (i >= count) {
            GOOD(dd_distiller_parameter_at(s->distiller, i - count, NULL, NULL, &view));
            grad[i] = copy_of(&view);
            continue;
        }
        GOOD(dd_model_parameter_at(s->student, i, &name, &value, &trained));
        if (trained && is_chosen(which, name)) {
            GOOD(dd_model_gradient(s->student, name, &view));
            grad[i] = copy_of(&view);
        }
    }
    return count;
}

static void check_chosen(const char *student, const char *teacher, const char *options, const choice *which, bool fixed)
{
    enum { MOST = 400 };
    static dd_tensor grad[MOST];
    setup s;
    int32_t own;
    set_up(&s, "device=ref threads=2", student, teacher, options);
    if (fixed) {
        fix_references(s.student);
    }
    step(&s);
    difference_check c = {.setup = &s, .random = 11, .matchings = hash_matchings(s.distiller)};
    const int32_t count = read_gradients(&s, which, grad);
    GOOD(dd_distiller_parameter_count(s.distiller, &own));
    assert_true(count + own <= MOST);
    for (int32_t i = 0; i < count + own; i++) {
        const char *name;
        dd_tensor value;
        if (!grad[i].data) {
            continue;
        }
        if (i < count) {
            GOOD(dd_model_parameter_at(s.student, i, &name, &value, NULL));
        } else {
            GOOD(dd_distiller_parameter_at(s.distiller, i - count, &name, &value, NULL));
        }
        compare(&c, name, &value, &grad[i]);
        free(grad[i].data);
    }
    print_message("%d compared, %d not zero\n", c.compared, c.not_zero);
    assert_true(c.compared > 15 && c.not_zero > c.compared / 2);
    tear_down(&s);
}

/* One decoder layer with fixed references: there is a way back everywhere, so that differences see what gradients see. */
static void derivative_of_all(void **state)
{
    static const choice all = {.without = "enc_out_bbox_embed.layers.2"};
    check_chosen(DINO_STUDENT "decoder-layers=1 dtype=f64 training=1", DINO_TEACHER "dtype=f64", "weight.features=3", &all,
                 true);
    check_chosen(DINO_STUDENT "decoder-layers=1 dtype=f64 training=1 shared-class-head=1 shared-box-head=1 label-rows=4",
                 DINO_WIDE "dtype=f64", "prior=group contrastive=1 contrastive-width=8 feature-source=encoder", &all, true);
}

/* Behind the last reference without a way back. */
static void derivative_of_the_last_layer(void **state)
{
    static const choice last = {{"decoder.layers.1.", "embed.1."}, NULL};
    check_chosen(DINO_STUDENT "dtype=f64 training=1", DINO_TEACHER "dtype=f64", "profile=paper", &last, false);
}

/* Of the chosen tokens alone, back through encoder, neck and backbone. */
static void derivative_of_proposals(void **state)
{
    static const choice before = {{"enc", "input_proj"}, NULL};
    check_chosen(DINO_STUDENT "dtype=f64 training=1", DINO_TEACHER "dtype=f64",
                 "weight.det=0 weight.denoising=0 weight.encoder=1.5 logits=0 feature-mask=none prior=none", &before, false);
}

/* Look forward twice: what the last layer's boxes ask for teaches the box head of the layer before, through the reference that
 * it refined. */
static void the_layer_before_is_taught(void **state)
{
    setup s;
    double largest = 0;
    dd_tensor grad;
    set_up(&s, "device=ref", DINO_STUDENT "dtype=f64", NULL, "");
    dd_model *m = s.student;
    const ddi_model_pass pass = {.record = true};
    const int64_t shape[] = {PICTURES, 3, HEIGHT, WIDTH}, stride[] = {HEIGHT * WIDTH * 3, 1, WIDTH * 3, 3};
    dd_tensor pixels;
    GOOD(dd_tensor_init(&pixels, s.batch.pixels, DD_F64, 4, shape, stride, DD_DEVICE_CPU, 0, 0));
    GOOD(ddi_model_run(m, &pixels, NULL, &pass));
    double *seed = ddi_seed(&m->tape, m->out.boxes);
    for (int64_t i = m->out.boxes->count / 2; i < m->out.boxes->count; i++) {
        seed[i] = 1;
    }
    GOOD(dd_model_backward(m));
    GOOD(dd_model_gradient(m, "bbox_embed.0.layers.0.weight", &grad));
    for (int64_t i = 0; i < tensor_elements(&grad); i++) {
        largest = fmax(largest, fabs(tensor_get(&grad, i)));
    }
    assert_true(largest > 1e-6);
    tear_down(&s);
}

/* ---- What a step does */

static void every_module_has_its_term(void **state)
{
    static const char *const modules[] = {"loss.det",      "loss.denoising", "loss.encoder",    "loss.logits",
                                          "loss.features", "loss.prior",     "loss.contrastive"};
    for (int i = 0; i < 2; i++) {
        setup s;
        double sum = 0;
        set_up(&s, step_devices[i], DINO_STUDENT "training=1", DINO_TEACHER, CONTRASTIVE);
        const double total = step(&s);
        for (size_t k = 0; k < sizeof modules / sizeof *modules; k++) {
            assert_true(term(&s, modules[k]) > 0);
            sum += term(&s, modules[k]);
        }
        assert_true(fabs(total - sum) <= 1e-12 * sum);
        tear_down(&s);
    }
}

/* Groups of pairs for the fullest picture; a crowd box has none, and the first of each two finds its object. */
static void denoising_queries(void **state)
{
    setup s;
    uint8_t crowd[5] = {0, 1, 0, 0, 0};
    dd_tensor view;
    set_up(&s, "device=ref", DINO_STUDENT "training=1", NULL, "");
    GOOD(dd_tensor_init(&view, crowd, DD_U8, 1, (const int64_t[]){5}, NULL, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_distiller_bind(s.distiller, "gt.crowd", &view));
    const double noisy = step(&s);
    const ddi_denoising *n = &s.student->out.denoising;
    assert_true(n->groups == 4 && n->slots == 16); /* 9 / 2 groups of 2 pairs */
    for (int32_t i = 0; i < 2 * n->slots; i++) {
        assert_int_equal(n->object[i], i % 4 < 2 ? i % 4 : -1);
        assert_true(n->label[i] >= 0 && n->label[i] < 3);
    }
    assert_true(term(&s, "loss.denoising.stage1.class") > 0 && term(&s, "loss.denoising.stage0.giou") > 0);
    GOOD(dd_model_set_mode(s.student, 0, 1)); /* not in training: none */
    assert_true(step(&s) < noisy && !has_term(&s, "loss.denoising"));
    GOOD(dd_model_set_mode(s.student, 1, 1));
    assert_true(step(&s) == noisy);
    s.batch.offsets[1] = s.batch.offsets[2] = 0; /* no object at all */
    GOOD(dd_tensor_init(&view, s.batch.boxes, DD_F32, 2, (const int64_t[]){0, 4}, NULL, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_distiller_bind(s.distiller, "gt.boxes", &view));
    GOOD(dd_tensor_init(&view, s.batch.labels, DD_I32, 1, (const int64_t[]){0}, NULL, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_distiller_bind(s.distiller, "gt.labels", &view));
    GOOD(dd_distiller_bind(s.distiller, "gt.crowd", NULL));
    GOOD(dd_model_zero_gradients(s.student));
    assert_true(step(&s) > 0 && !has_term(&s, "loss.denoising"));
    GOOD(dd_model_gradient(s.student, "model.label_embeddings.weight", &view));
    for (int64_t i = 0; i < tensor_elements(&view); i++) {
        assert_true(tensor_get(&view, i) == 0);
    }
    tear_down(&s);
}

/* More objects than pairs: one group, and the noise stays inside the picture. */
static void many_objects_few_pairs(void **state)
{
    setup s;
    set_up(&s, "device=ref", DINO_STUDENT "training=1 denoising=2 box-noise=3 label-noise=2", NULL, "");
    step(&s);
    const ddi_denoising *n = &s.student->out.denoising;
    assert_true(n->groups == 1 && n->slots == 6);
    assert_int_equal(n->label[6 + 2], -1); /* the second picture has two objects */
    const float *box = (const float *)(const void *)n->box->data;
    for (int32_t i = 0; i < 2 * 6 * 4; i++) {
        assert_true(fabsf(box[i]) <= 7);
        assert_true((i / 4 != 8 && i / 4 != 11) || box[i] == 0);
    }
    tear_down(&s);
}

/* Another step, another noise; the same step, the same. */
static void noise_is_keyed(void **state)
{
    setup s;
    set_up(&s, "device=ref", DINO_STUDENT "training=1", NULL, "");
    const double first = step(&s);
    double second;
    GOOD(dd_distiller_step(s.distiller, &second));
    assert_true(first != second && step(&s) == first);
    tear_down(&s);
}

/* The queries of the model itself do not see the others. */
static void own_outputs_stay(void **state)
{
    static const char *const names[] = {"logits", "boxes", "decoder.1", "encoder", "proposal.sigmoid"};
    for (int i = 0; i < 2; i++) {
        setup s;
        set_up(&s, step_devices[i], DINO_STUDENT, DINO_TEACHER, "");
        step(&s);
        assert_true(term(&s, "loss.prior") > 0);
        dd_model *alone = check_own_outputs(&s, DINO_STUDENT, names, sizeof names / sizeof *names);
        dd_tensor with, without;
        GOOD(dd_model_set_mode(s.student, 1, 1)); /* with denoising queries they lie elsewhere in the products */
        step(&s);
        GOOD(dd_model_tensor(s.student, "logits", &with));
        GOOD(dd_model_tensor(alone, "logits", &without));
        for (int64_t k = 0; k < tensor_elements(&with); k++) {
            assert_true(fabs(tensor_get(&with, k) - tensor_get(&without, k)) < 1e-4);
        }
        dd_model_free(alone);
        tear_down(&s);
    }
}

static void same_bits_for_any_threads(void **state)
{
    check_same_bits(DINO_STUDENT "training=1 dropout=0.1", DINO_TEACHER);
}

static void steady_steps_allocate_nothing(void **state)
{
    check_steady_steps(DINO_STUDENT "training=1", DINO_WIDE);
}

static void initialised_from_the_teacher(void **state)
{
    setup s;
    dd_distiller *other;
    const char *table = "model.query_content_embeddings.weight";
    set_up(&s, "device=ref", DINO_STUDENT "queries=12", DINO_TEACHER, "prior=init");
    const dd_tensor mine = parameter_of(s.student, table), theirs = parameter_of(s.teacher, table);
    assert_memory_equal(mine.data, theirs.data, (size_t)tensor_elements(&mine) * sizeof(float));
    step(&s);
    assert_true(!has_term(&s, "loss.prior"));
    GOOD(dd_distiller_create(&other, s.context, "prior=init"));
    dd_model *few = new_model(s.context, DINO_STUDENT, 1);
    FAILS(DD_ERR_SHAPE, dd_distiller_attach(other, few, s.teacher));
    dd_model_free(few);
    dd_distiller_free(other);
    tear_down(&s);
}

/* Fewer queries than the teacher, as many, and more; half of its stages. */
static void numbers_of_queries(void **state)
{
    static const char *const students[] = {DINO_STUDENT "training=1", DINO_STUDENT "training=1 queries=12 decoder-layers=4",
                                           DINO_STUDENT "training=1 queries=15"};
    for (size_t i = 0; i < sizeof students / sizeof *students; i++) {
        setup s;
        dd_tensor match;
        set_up(&s, "device=ref", students[i], DINO_TEACHER, "");
        step(&s);
        GOOD(dd_distiller_result(s.distiller, "match.logits", &match));
        assert_int_equal(match.shape[0], 4);
        assert_int_equal(match.shape[2], s.student->net.config.queries);
        assert_int_equal(s.student->out.group_logits->shape[2], 12);
        tear_down(&s);
    }
}

/* Wider teachers: contents are mapped, there are no positions to map. */
static void parameters_of_the_distiller(void **state)
{
    setup s;
    int32_t count;
    set_up(&s, "device=ref", DINO_STUDENT, DINO_WIDE, "");
    GOOD(dd_distiller_parameter_count(s.distiller, &count));
    assert_int_equal(count, 3 * 2 + 2); /* adaptors of three levels, a map */
    step(&s);
    tear_down(&s);
}

/* ---- Stored outputs of the teacher */

static void read_is_what_was_computed(void **state)
{
    for (int i = 0; i < 2; i++) {
        setup s;
        char folder[64];
        int64_t hits, misses;
        new_folder(folder);
        set_up(&s, step_devices[i], DINO_STUDENT "training=1", DINO_WIDE, CONTRASTIVE);
        const uint64_t direct = hash_same_step(&s);
        GOOD(dd_distiller_set_cache(s.distiller, folder, 1 << 30));
        const uint64_t computed = hash_same_step(&s);
        assert_true(i == 1 || direct == computed); /* rows of a batch do not depend on each other in the reference */
        assert_true(hash_same_step(&s) == computed);
        GOOD(dd_distiller_cache_statistics(s.distiller, &hits, &misses, NULL));
        assert_true(hits == PICTURES && misses == PICTURES && each_file(folder, NULL, false) == PICTURES);
        tear_down(&s);
        remove_folder(folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivative_of_all),
        cmocka_unit_test(derivative_of_the_last_layer),
        cmocka_unit_test(derivative_of_proposals),
        cmocka_unit_test(the_layer_before_is_taught),
        cmocka_unit_test(every_module_has_its_term),
        cmocka_unit_test(denoising_queries),
        cmocka_unit_test(many_objects_few_pairs),
        cmocka_unit_test(noise_is_keyed),
        cmocka_unit_test(own_outputs_stay),
        cmocka_unit_test(same_bits_for_any_threads),
        cmocka_unit_test(steady_steps_allocate_nothing),
        cmocka_unit_test(initialised_from_the_teacher),
        cmocka_unit_test(numbers_of_queries),
        cmocka_unit_test(parameters_of_the_distiller),
        cmocka_unit_test(read_is_what_was_computed),
        cmocka_unit_test(every_status_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
