/* SPDX-License-Identifier: Apache-2.0
 * Training steps through attached models. */
#include "attached.h"
#include "case.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- Gradients against central differences (f64, reference) */

static void derivative_of_defaults(void **state)
{
    check_differences(TINY_STUDENT "dtype=f64", TINY_TEACHER "dtype=f64", "weight.features=3", NULL);
}

static void derivative_across_widths(void **state)
{
    check_differences(TINY_STUDENT "dtype=f64", TINY_WIDE "dtype=f64",
                      "feature-source=encoder prior=group contrastive=1 contrastive-width=8", NULL);
}

static void derivative_of_the_paper(void **state)
{
    check_differences(TINY_STUDENT "dtype=f64", TINY_TEACHER "dtype=f64", "profile=paper", NULL);
}

static void derivative_of_refined_boxes(void **state)
{
    static const char *const last[2] = {"decoder.layers.1.", "embed.1"};
    check_differences(TINY_STUDENT "dtype=f64 refine=1", TINY_WIDE "dtype=f64 refine=1", "prior=group", last);
    check_differences(TINY_STUDENT "dtype=f64 refine=1 two-stage=1", TINY_TEACHER "dtype=f64", "", last);
    check_differences(TINY_STUDENT "dtype=f64 refine=1", TINY_TEACHER "dtype=f64 refine=1 two-stage=1", "", last);
}

/* Moves all trained parameters of the student along a random direction; the derivative there that the gradients say. */
static double move(setup *s, uint64_t direction, double step, const dd_tensor *grad)
{
    int32_t count, trained;
    double slope = 0;
    GOOD(dd_model_parameter_count(s->student, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor value;
        GOOD(dd_model_parameter_at(s->student, i, &name, &value, &trained));
        for (int64_t k = 0; trained && k < tensor_elements(&value); k++) {
            const double along = 2 * next_random(&direction) - 1;
            tensor_set(&value, k, tensor_get(&value, k) + step * along);
            slope += grad ? tensor_get(&grad[i], k) * along : 0;
        }
    }
    return slope;
}

/* The whole model with all losses along ten directions. */
static void derivative_along_directions(void **state)
{
    enum { DIRECTIONS = 10 };
    const double h = 2e-7;
    setup s;
    double slope[DIRECTIONS], total[2];
    int32_t count, trained;
    set_up(&s, "device=ref threads=2", TINY_STUDENT "dtype=f64", TINY_TEACHER "dtype=f64", CONTRASTIVE);
    GOOD(dd_distiller_step(s.distiller, NULL));
    const uint64_t matchings = hash_matchings(s.distiller);
    GOOD(dd_model_parameter_count(s.student, &count));
    dd_tensor *grad = calloc((size_t)count, sizeof *grad);
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor value;
        GOOD(dd_model_parameter_at(s.student, i, &name, &value, &trained));
        if (trained) {
            GOOD(dd_model_gradient(s.student, name, &grad[i]));
        }
    }
    for (int k = 0; k < DIRECTIONS; k++) {
        slope[k] = move(&s, 100 + (uint64_t)k, 0, grad); /* before further steps add to the gradients */
    }
    for (int k = 0; k < DIRECTIONS; k++) {
        for (int i = 0; i < 2; i++) {
            move(&s, 100 + (uint64_t)k, i ? -2 * h : h, NULL);
            GOOD(dd_distiller_step(s.distiller, &total[i]));
            assert_true(hash_matchings(s.distiller) == matchings);
        }
        move(&s, 100 + (uint64_t)k, h, NULL);
        const double numeric = (total[0] - total[1]) / (2 * h);
        print_message("along direction %d: %.9g, off by %.1e\n", k, slope[k], fabs(numeric / slope[k] - 1));
        assert_true(fabs(numeric - slope[k]) <= 1e-6 * fabs(slope[k]));
    }
    free(grad);
    tear_down(&s);
}

/* Of the encoder's proposals alone: back through encoder, neck and backbone. */
static void derivative_of_proposals(void **state)
{
    static const char *const words[2] = {"enc", "embed.2"};
    check_differences(TINY_STUDENT "dtype=f64 refine=1 two-stage=1", TINY_TEACHER "dtype=f64",
                      "weight.det=0 weight.encoder=1.5 logits=0 feature-mask=none prior=none", words);
}

/* ---- What a step does */

static void own_outputs_keep_their_bits(void **state)
{
    static const char *const names[] = {"logits", "boxes", "decoder.0", "decoder.1", "encoder"};
    for (int i = 0; i < 4; i++) {
        setup s;
        const char *student = i / 2 ? TINY_STUDENT "training=1" : TINY_STUDENT "refine=1";
        set_up(&s, step_devices[i % 2], student, TINY_TEACHER, "");
        GOOD(dd_distiller_step(s.distiller, NULL));
        assert_true(term(&s, "loss.prior") > 0);
        dd_model_free(check_own_outputs(&s, student, names, sizeof names / sizeof *names));
        tear_down(&s);
    }
}

static void without_a_teacher(void **state)
{
    setup s;
    double total;
    int32_t count;
    set_up(&s, "device=ref", TINY_STUDENT, NULL, "profile=as-published weight.det=2");
    GOOD(dd_distiller_parameter_count(s.distiller, &count));
    assert_int_equal(count, 0);
    GOOD(dd_distiller_step(s.distiller, &total));
    assert_true(total == 2 * term(&s, "loss.det") && total > 0);
    assert_true(!has_term(&s, "loss.logits") && !has_term(&s, "loss.features") && !has_term(&s, "loss.prior") &&
                !has_term(&s, "loss.contrastive"));
    tear_down(&s);
}

/* The same proposals, bound by a host, give the same terms and gradients; det=0 turns both losses off. */
static void proposals_are_matched_with_objects(void **state)
{
    for (int i = 0; i < 2; i++) {
        setup s;
        dd_tensor match;
        double total;
        set_up(&s, step_devices[i], TINY_STUDENT "refine=1 two-stage=1", NULL, "weight.encoder=0.5");
        GOOD(dd_distiller_step(s.distiller, &total));
        assert_true(fabs(total - term(&s, "loss.det") - 0.5 * term(&s, "loss.encoder")) <= 1e-12 * total);
        assert_true(term(&s, "loss.encoder.class") > 0 && term(&s, "loss.encoder.l1") > 0 && term(&s, "loss.encoder.giou") > 0);
        GOOD(dd_distiller_result(s.distiller, "match.encoder", &match));
        int32_t tokens[PICTURES] = {0};
        for (int64_t k = 0; k < tensor_elements(&match); k++) {
            tokens[k / match.shape[2]] += ((const int32_t *)match.data)[k] >= 0;
        }
        for (int b = 0; b < PICTURES; b++) {
            assert_int_equal(tokens[b], s.batch.offsets[b + 1] - s.batch.offsets[b]);
        }
        tear_down(&s);
    }
    setup s;
    set_up(&s, "device=ref", TINY_STUDENT "refine=1 two-stage=1", TINY_TEACHER, "det=0");
    GOOD(dd_distiller_step(s.distiller, NULL));
    assert_true(!has_term(&s, "loss.encoder") && !has_term(&s, "loss.det"));
    tear_down(&s);
}

static void every_module_has_its_term(void **state)
{
    static const char *const modules[] = {"loss.det", "loss.logits", "loss.features", "loss.prior", "loss.contrastive"};
    setup s;
    double total, sum = 0;
    set_up(&s, "device=ref", TINY_STUDENT, TINY_TEACHER, "profile=as-published");
    GOOD(dd_distiller_step(s.distiller, &total));
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        assert_true(term(&s, modules[i]) > 0);
        sum += term(&s, modules[i]);
    }
    assert_true(fabs(total - sum) <= 1e-12 * sum && total == term(&s, "loss.total"));
    assert_true(has_term(&s, "loss.features.level2") && !has_term(&s, "loss.features.level3"));
    tear_down(&s);
}

static void gradients_add_up(void **state)
{
    setup s;
    dd_tensor once, twice, own;
    double own_once;
    int32_t count;
    set_up(&s, "device=ref", TINY_STUDENT "dtype=f64", TINY_WIDE, CONTRASTIVE);
    GOOD(dd_distiller_parameter_count(s.distiller, &count));
    assert_int_equal(count, 3 * 2 + 2 * 8 + 4); /* adaptors of three levels, two branches, two maps of queries */
    GOOD(dd_distiller_step(s.distiller, NULL));
    GOOD(dd_model_gradient(s.student, "model.level_embed", &twice));
    GOOD(dd_distiller_parameter_at(s.distiller, 0, NULL, NULL, &own));
    own_once = tensor_get(&own, 0);
    once = copy_of(&twice);
    GOOD(dd_distiller_step(s.distiller, NULL));
    assert_true(own_once != 0 && tensor_get(&own, 0) == 2 * own_once);
    for (int64_t i = 0; i < tensor_elements(&once); i++) {
        assert_true(fabs(tensor_get(&twice, i) - 2 * tensor_get(&once, i)) <= 1e-9 * (1 + fabs(tensor_get(&once, i))));
    }
    GOOD(dd_distiller_zero_gradients(s.distiller));
    for (int32_t i = 0; i < count; i++) {
        GOOD(dd_distiller_parameter_at(s.distiller, i, NULL, NULL, &own));
        for (int64_t k = 0; k < tensor_elements(&own); k++) {
            assert_true(tensor_get(&own, k) == 0);
        }
    }
    free(once.data);
    tear_down(&s);
}

static void same_bits_for_any_threads(void **state)
{
    check_same_bits(TINY_STUDENT "training=1", TINY_TEACHER);
}

static void steady_steps_allocate_nothing(void **state)
{
    check_steady_steps(TINY_STUDENT, TINY_WIDE);
}

static void initialised_from_the_teacher(void **state)
{
    setup s;
    dd_distiller *other;
    set_up(&s, "device=ref", TINY_STUDENT "queries=12 dtype=f64", TINY_TEACHER, "prior=init");
    const char *table = "model.query_position_embeddings.weight";
    const dd_tensor mine = parameter_of(s.student, table), theirs = parameter_of(s.teacher, table);
    assert_int_equal(tensor_elements(&mine), tensor_elements(&theirs));
    for (int64_t i = 0; i < tensor_elements(&mine); i++) {
        assert_true(tensor_get(&mine, i) == tensor_get(&theirs, i));
    }
    tensor_set(&mine, 0, 123);
    GOOD(dd_distiller_step(s.distiller, NULL));
    assert_true(tensor_get(&mine, 0) == 123 && !has_term(&s, "loss.prior"));
    GOOD(dd_distiller_create(&other, s.context, "prior=init"));
    dd_model *few = new_model(s.context, TINY_STUDENT, 1);
    FAILS(DD_ERR_SHAPE, dd_distiller_attach(other, few, s.teacher));
    SAYS("12 queries");
    GOOD(dd_distiller_attach(other, few, NULL)); /* the failed try left nothing behind */
    dd_model_free(few);
    dd_distiller_free(other);
    tear_down(&s);
}

static void fed_by_a_loader(void **state)
{
    setup s;
    dd_dataset *data;
    dd_loader *loader;
    int32_t images;
    double first, again;
    set_up(&s, "device=ref", TINY_STUDENT, TINY_TEACHER, "");
    GOOD(dd_dataset_open(&data, "scenes:train=4,val=1,test=1,size=64,classes=3", "split=train"));
    GOOD(dd_loader_create(&loader, data, "batch=2 sizes=48 crop=0 threads=0"));
    FAILS(DD_ERR_STATE, dd_distiller_bind_batch(s.distiller, loader));
    GOOD(dd_loader_next(loader, &images));
    GOOD(dd_distiller_bind_batch(s.distiller, loader));
    GOOD(dd_distiller_step(s.distiller, &first));
    GOOD(dd_loader_next(loader, &images));
    GOOD(dd_distiller_bind_batch(s.distiller, loader));
    GOOD(dd_distiller_step(s.distiller, &again));
    assert_true(first > 0 && again > 0 && first != again);
    dd_loader_free(loader);
    dd_dataset_free(data);
    tear_down(&s);
}

/* ---- Stored outputs of the teacher */

typedef struct counts {
    int64_t hits, misses, bytes;
} counts;

static counts cache_counts(const setup *s)
{
    counts c;
    GOOD(dd_distiller_cache_statistics(s->distiller, &c.hits, &c.misses, &c.bytes));
    return c;
}

static void damage(const char *path)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, -100, SEEK_END); /* a byte of a tensor */
    const int byte = fgetc(file);
    fseek(file, -100, SEEK_END);
    fputc(byte ^ 1, file);
    fclose(file);
}

static void cut(const char *path)
{
    assert_int_equal(truncate(path, 300), 0);
}

static void expect_counts(const setup *s, int64_t hits, int64_t misses)
{
    const counts c = cache_counts(s);
    assert_int_equal(c.hits, hits);
    assert_int_equal(c.misses, misses);
}

static void read_is_what_was_computed(void **state)
{
    static const char *const teachers[] = {TINY_WIDE, TINY_TEACHER "refine=1 two-stage=1"};
    for (int i = 0; i < 4; i++) {
        setup s;
        char folder[64];
        new_folder(folder);
        set_up(&s, step_devices[i % 2], TINY_STUDENT, teachers[i / 2], CONTRASTIVE);
        GOOD(dd_distiller_set_cache(s.distiller, folder, 1 << 30));
        const uint64_t computed = hash_step(&s);
        expect_counts(&s, 0, PICTURES);
        assert_true(hash_step(&s) == computed);
        expect_counts(&s, PICTURES, PICTURES);
        assert_int_equal(each_file(folder, damage, false), PICTURES); /* a bit that fell over: computed anew, and stored */
        assert_true(hash_step(&s) == computed);
        expect_counts(&s, PICTURES, 2 * PICTURES);
        each_file(folder, cut, false);
        assert_true(hash_step(&s) == computed);
        expect_counts(&s, PICTURES, 3 * PICTURES);
        assert_true(hash_step(&s) == computed);
        expect_counts(&s, 2 * PICTURES, 3 * PICTURES);
        assert_int_equal(each_file(folder, NULL, false), PICTURES);
        if (i % 2 == 0) { /* rows of a batch do not depend on each other in the reference */
            GOOD(dd_distiller_set_cache(s.distiller, NULL, 0));
            assert_true(hash_step(&s) == computed);
        }
        tear_down(&s);
        remove_folder(folder);
    }
}

static void anything_else_is_a_miss(void **state)
{
    setup s;
    char folder[64];
    new_folder(folder);
    set_up(&s, "device=ref", TINY_STUDENT, TINY_TEACHER, "");
    GOOD(dd_distiller_set_cache(s.distiller, folder, 1 << 30));
    hash_step(&s);
    s.batch.pixels[100] += 1e-3; /* another augmentation of the first picture */
    hash_step(&s);
    expect_counts(&s, 1, 3);
    s.batch.ids[1]++;
    hash_step(&s);
    expect_counts(&s, 2, 4);
    s.batch.sizes[1][0]++;
    hash_step(&s);
    expect_counts(&s, 3, 5);
    const dd_tensor head = parameter_of(s.teacher, "class_embed.0.bias");
    const double old = tensor_get(&head, 0);
    tensor_set(&head, 0, old + 0.25);
    hash_step(&s);
    expect_counts(&s, 3, 7);
    tensor_set(&head, 0, old);
    hash_step(&s);
    expect_counts(&s, 5, 7);
    tear_down(&s);
    remove_folder(folder);
}

static void the_folder_is_bounded(void **state)
{
    setup s;
    char folder[64];
    new_folder(folder);
    set_up(&s, "device=ref", TINY_STUDENT, TINY_TEACHER, "");
    GOOD(dd_distiller_set_cache(s.distiller, folder, 1 << 30));
    hash_step(&s);
    const int64_t two = cache_counts(&s).bytes;
    GOOD(dd_distiller_set_cache(s.distiller, folder, two + 9000)); /* room for these, and the slack of one */
    assert_int_equal(cache_counts(&s).bytes, two);
    s.batch.pixels[100] += 1e-3;
    hash_step(&s);
    expect_counts(&s, 1, 1);
    assert_int_equal(cache_counts(&s).bytes, two); /* full: not stored */
    const dd_tensor head = parameter_of(s.teacher, "class_embed.0.bias");
    tensor_set(&head, 0, 1);
    hash_step(&s);
    assert_int_equal(cache_counts(&s).bytes, two); /* those of the old weights made room */
    hash_step(&s);
    expect_counts(&s, 3, 3);
    GOOD(dd_distiller_set_cache(s.distiller, folder, 0));
    s.batch.pixels[200] += 1e-3;
    hash_step(&s);
    assert_int_equal(each_file(folder, NULL, false), PICTURES);
    tear_down(&s);
    remove_folder(folder);
}

static void caches_that_cannot_be(void **state)
{
    setup s;
    dd_distiller *bare;
    set_up(&s, "device=ref", TINY_STUDENT, TINY_TEACHER, "");
    FAILS(DD_ERR_IO, dd_distiller_set_cache(s.distiller, "/nonexistent/folder", 1));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_set_cache(s.distiller, "/tmp", -1));
    FAILS(DD_ERR_STATE, dd_distiller_cache_statistics(s.distiller, NULL, NULL, NULL));
    GOOD(dd_distiller_create(&bare, s.context, ""));
    FAILS(DD_ERR_STATE, dd_distiller_set_cache(bare, "/tmp", 1));
    dd_distiller_free(bare);
    tear_down(&s);
}

/* ---- Errors */

static void what_does_not_fit(void **state)
{
    dd_context *context = new_context("device=ref"), *other = new_context("device=ref");
    dd_model *student = new_model(context, TINY_STUDENT, 1), *teacher = new_model(context, TINY_TEACHER, 2);
    dd_model *foreign = new_model(other, TINY_TEACHER, 2), *classes = new_model(context, TINY_TEACHER "classes=4", 2);
    dd_model *frozen = new_model(context, TINY_STUDENT "gradients=0", 1), *wide = new_model(context, TINY_WIDE, 2);
    dd_distiller *d, *narrow, *dino, *five;
    GOOD(dd_distiller_create(&d, context, ""));
    GOOD(dd_distiller_create(&narrow, context, "adaptor=never"));
    GOOD(dd_distiller_create(&dino, context, "family=dino"));
    GOOD(dd_distiller_create(&five, context, "classes=5"));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_attach(NULL, student, teacher));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_attach(d, NULL, teacher));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_attach(d, student, student));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_attach(d, student, (dd_model *)context));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_attach(d, student, foreign));
    SAYS("another context");
    FAILS(DD_ERR_SHAPE, dd_distiller_attach(d, student, classes));
    SAYS("3 classes, the teacher 4");
    FAILS(DD_ERR_SHAPE, dd_distiller_attach(five, student, teacher));
    FAILS(DD_ERR_STATE, dd_distiller_attach(d, frozen, teacher));
    SAYS("gradients=1");
    FAILS(DD_ERR_SHAPE, dd_distiller_attach(narrow, student, wide));
    FAILS(DD_ERR_UNSUPPORTED, dd_distiller_attach(dino, student, teacher));
    FAILS(DD_ERR_STATE, dd_distiller_bind_batch(d, NULL));
    GOOD(dd_distiller_attach(d, student, teacher));
    FAILS(DD_ERR_STATE, dd_distiller_attach(d, student, teacher));
    FAILS(DD_ERR_STATE, dd_distiller_step(d, NULL));
    SAYS("pixels is not bound");
    dd_distiller_free(d);
    dd_distiller_free(narrow);
    dd_distiller_free(dino);
    dd_distiller_free(five);
    dd_model *const models[] = {student, teacher, foreign, classes, frozen, wide};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        dd_model_free(models[i]);
    }
    dd_context_free(context);
    dd_context_free(other);
}

static void batches_that_do_not_fit(void **state)
{
    setup s;
    dd_tensor view;
    set_up(&s, "device=ref", TINY_STUDENT, TINY_TEACHER, "");
    const uint64_t untouched = hash_model_gradients(s.student);
    GOOD(dd_tensor_init(&view, s.batch.pixels, DD_F32, 4, (const int64_t[]){1, 1, 2, 2}, NULL, DD_DEVICE_CPU, 0, 0));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_bind(s.distiller, "student.logits", &view));
    SAYS("attached models");
    s.batch.sizes[1][0] = WIDTH + 1;
    FAILS(DD_ERR_ARGUMENT, dd_distiller_step(s.distiller, NULL));
    s.batch.sizes[1][0] = WIDTH;
    s.batch.labels[2] = 3;
    FAILS(DD_ERR_ARGUMENT, dd_distiller_step(s.distiller, NULL));
    s.batch.labels[2] = 0;
    s.batch.pixels[5] = NAN;
    FAILS(DD_ERR_NONFINITE, dd_distiller_step(s.distiller, NULL));
    s.batch.pixels[5] = 0;
    GOOD(dd_distiller_bind(s.distiller, "pixels", NULL));
    FAILS(DD_ERR_STATE, dd_distiller_step(s.distiller, NULL));
    assert_true(hash_model_gradients(s.student) == untouched);
    double value;
    FAILS(DD_ERR_STATE, dd_distiller_term_get(s.distiller, "loss.total", &value));
    pictures_bind(&s.batch, s.distiller);
    GOOD(dd_distiller_step(s.distiller, NULL));
    dd_model_free(s.teacher);
    s.teacher = NULL;
    FAILS(DD_ERR_ARGUMENT, dd_distiller_step(s.distiller, NULL));
    SAYS("was freed");
    tear_down(&s);
}

static void without_models(void **state)
{
    dd_context *context = new_context("device=ref");
    dd_distiller *d;
    dd_tensor view;
    float pixel[3] = {0};
    GOOD(dd_distiller_create(&d, context, ""));
    GOOD(dd_tensor_init(&view, pixel, DD_F32, 4, (const int64_t[]){1, 3, 1, 1}, NULL, DD_DEVICE_CPU, 0, 0));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_bind(d, "pixels", &view));
    FAILS(DD_ERR_STATE, dd_distiller_bind_batch(d, NULL));
    GOOD(dd_distiller_zero_gradients(d));
    dd_distiller_free(d);
    dd_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivative_of_defaults),
        cmocka_unit_test(derivative_across_widths),
        cmocka_unit_test(derivative_of_the_paper),
        cmocka_unit_test(derivative_of_refined_boxes),
        cmocka_unit_test(derivative_of_proposals),
        cmocka_unit_test(derivative_along_directions),
        cmocka_unit_test(proposals_are_matched_with_objects),
        cmocka_unit_test(own_outputs_keep_their_bits),
        cmocka_unit_test(without_a_teacher),
        cmocka_unit_test(every_module_has_its_term),
        cmocka_unit_test(gradients_add_up),
        cmocka_unit_test(same_bits_for_any_threads),
        cmocka_unit_test(steady_steps_allocate_nothing),
        cmocka_unit_test(initialised_from_the_teacher),
        cmocka_unit_test(fed_by_a_loader),
        cmocka_unit_test(read_is_what_was_computed),
        cmocka_unit_test(anything_else_is_a_miss),
        cmocka_unit_test(the_folder_is_bounded),
        cmocka_unit_test(caches_that_cannot_be),
        cmocka_unit_test(what_does_not_fit),
        cmocka_unit_test(batches_that_do_not_fit),
        cmocka_unit_test(without_models),
        cmocka_unit_test(every_status_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
