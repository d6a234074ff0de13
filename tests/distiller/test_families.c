/* SPDX-License-Identifier: Apache-2.0
 * Training steps through attached models of every family but the first, which test_attached.c has. */
#include "attached.h"
#include "case.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Words that turn the tiny models of models.h into the family's; parameters of the distiller's own across widths. */
typedef struct family {
    const char *name, *words, *queries; /* the query table */
    const char *memory;                 /* what the decoder reads */
    const char *whole;                  /* words without which a loss's way to parameters is cut somewhere */
    const char *last[2];                /* with a cut: parameters behind it; NULL: there is none */
    int32_t own;
} family;

static const family families[] = {
    /* adaptor, two branches, map of positions */
    {"Conditional DETR",
     "family=conditional-detr levels=1",
     "model.query_position_embeddings.weight",
     "encoder",
     "",
     {NULL},
     2 + 2 * 8 + 2},
    /* adaptors, two branches, map of contents */
    {"AdaMixer",
     ADAMIXER,
     "model.query_embeddings.weight",
     "features.0",
     "decoder-layers=1",
     {"layers.1.", "layers.0.class_head."},
     4 * 2 + 2 * 8 + 2},
};
enum { FAMILIES = sizeof families / sizeof families[0] };

static const char *of(const family *f, const char *model, const char *more)
{
    static char text[2][1024];
    static int turn;
    turn ^= 1;
    snprintf(text[turn], sizeof text[turn], "%s%s %s", model, f->words, more);
    return text[turn];
}

static void derivatives(void **state)
{
    for (int i = 0; i < FAMILIES; i++) {
        static const char *const pairs[][2] = {{TINY_TEACHER, "weight.features=3"},
                                               {TINY_WIDE, "feature-source=neck prior=group " CONTRASTIVE},
                                               {TINY_TEACHER, "profile=as-published feature-source=auto"}};
        const family *f = &families[i];
        for (size_t k = 0; k < sizeof pairs / sizeof pairs[0]; k++) {
            char student[1024];
            snprintf(student, sizeof student, "%s%s dtype=f64 %s", TINY_STUDENT, f->words, f->whole);
            check_differences(student, of(f, pairs[k][0], "dtype=f64"), pairs[k][1], NULL);
            if (f->last[0] && k == 1) {
                check_differences(of(f, TINY_STUDENT, "dtype=f64"), of(f, pairs[k][0], "dtype=f64"), pairs[k][1], f->last);
            }
        }
    }
}

/* Logits are distilled whatever the teacher is; the rest needs models of one family. */
static void across_families(void **state)
{
    for (int i = 0; i < FAMILIES; i++) {
        char student[1024];
        snprintf(student, sizeof student, "%s%s dtype=f64 %s", TINY_STUDENT, families[i].words, families[i].whole);
        check_differences(student, TINY_TEACHER "dtype=f64", "prior=none feature-mask=none", NULL);
        static const struct {
            const char *options, *says;
        } wrong[] = {{"", "prior=none"},
                     {"prior=none", "feature-mask=none"},
                     {"prior=none feature-mask=none contrastive=1", "one family"}};
        for (int back = 0; back < 2; back++) {
            setup s;
            const char *own = of(&families[i], TINY_STUDENT, "");
            set_up(&s, "device=ref", back ? TINY_STUDENT : own, back ? own : TINY_STUDENT, "prior=none feature-mask=none");
            GOOD(dd_distiller_step(s.distiller, NULL));
            assert_true(term(&s, "loss.logits") > 0 && !has_term(&s, "loss.prior") && !has_term(&s, "loss.features"));
            for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
                dd_distiller *d;
                GOOD(dd_distiller_create(&d, s.context, wrong[k].options));
                FAILS(DD_ERR_UNSUPPORTED, dd_distiller_attach(d, s.student, s.teacher));
                SAYS(wrong[k].says);
                dd_distiller_free(d);
            }
            tear_down(&s);
        }
    }
}

/* A second group of queries changes nothing of the first, dropout included. */
static void own_outputs_keep_their_bits(void **state)
{
    for (int i = 0; i < 2 * FAMILIES; i++) {
        const char *const names[] = {"logits", "boxes", "decoder.0", "decoder.1", families[i / 2].memory};
        setup s;
        const char *student = of(&families[i / 2], TINY_STUDENT, "training=1");
        set_up(&s, step_devices[i % 2], student, of(&families[i / 2], TINY_TEACHER, ""), "");
        GOOD(dd_distiller_step(s.distiller, NULL));
        assert_true(term(&s, "loss.prior") > 0);
        dd_model_free(check_own_outputs(&s, student, names, sizeof names / sizeof *names));
        tear_down(&s);
    }
}

static void every_module_has_its_term(void **state)
{
    static const char *const modules[] = {"loss.det", "loss.logits", "loss.features", "loss.prior", "loss.contrastive"};
    for (int i = 0; i < FAMILIES; i++) {
        setup s;
        double total, sum = 0;
        set_up(&s, "device=ref", of(&families[i], TINY_STUDENT, ""), of(&families[i], TINY_TEACHER, ""),
               "profile=as-published");
        GOOD(dd_distiller_step(s.distiller, &total));
        for (size_t k = 0; k < sizeof modules / sizeof *modules; k++) {
            assert_true(term(&s, modules[k]) > 0);
            sum += term(&s, modules[k]);
        }
        assert_true(fabs(total - sum) <= 1e-12 * sum);
        tear_down(&s);
    }
}

static void same_bits_for_any_threads(void **state)
{
    for (int i = 0; i < FAMILIES; i++) {
        check_same_bits(of(&families[i], TINY_STUDENT, "training=1"), of(&families[i], TINY_TEACHER, ""));
    }
}

static void steady_steps_allocate_nothing(void **state)
{
    for (int i = 0; i < FAMILIES; i++) {
        check_steady_steps(of(&families[i], TINY_STUDENT, ""), of(&families[i], TINY_WIDE, ""));
    }
}

static void parameters_of_the_distiller(void **state)
{
    for (int i = 0; i < 2 * FAMILIES; i++) {
        setup s;
        int32_t own;
        set_up(&s, step_devices[i % 2], of(&families[i / 2], TINY_STUDENT, ""), of(&families[i / 2], TINY_WIDE, ""),
               CONTRASTIVE);
        GOOD(dd_distiller_parameter_count(s.distiller, &own));
        assert_int_equal(own, families[i / 2].own);
        tear_down(&s);
    }
}

static void initialised_from_the_teacher(void **state)
{
    for (int i = 0; i < FAMILIES; i++) {
        const char *table = families[i].queries;
        setup s;
        set_up(&s, "device=ref", of(&families[i], TINY_STUDENT, "queries=12 dtype=f64"), of(&families[i], TINY_TEACHER, ""),
               "prior=init");
        const dd_tensor mine = parameter_of(s.student, table), theirs = parameter_of(s.teacher, table);
        assert_int_equal(tensor_elements(&mine), tensor_elements(&theirs));
        for (int64_t k = 0; k < tensor_elements(&mine); k++) {
            assert_true(tensor_get(&mine, k) == tensor_get(&theirs, k));
        }
        GOOD(dd_distiller_step(s.distiller, NULL));
        assert_false(has_term(&s, "loss.prior"));
        tear_down(&s);
    }
}

static void stored_teachers(void **state)
{
    for (int i = 0; i < 2 * FAMILIES; i++) {
        setup s;
        char folder[64];
        int64_t hits, misses, bytes;
        new_folder(folder);
        set_up(&s, step_devices[i % 2], of(&families[i / 2], TINY_STUDENT, ""), of(&families[i / 2], TINY_WIDE, ""),
               CONTRASTIVE);
        GOOD(dd_distiller_set_cache(s.distiller, folder, 1 << 30));
        const uint64_t computed = hash_step(&s);
        assert_true(hash_step(&s) == computed);
        GOOD(dd_distiller_cache_statistics(s.distiller, &hits, &misses, &bytes));
        assert_int_equal(hits, PICTURES);
        assert_int_equal(misses, PICTURES);
        if (i % 2 == 0) { /* rows of a batch do not depend on each other in the reference */
            GOOD(dd_distiller_set_cache(s.distiller, NULL, 0));
            assert_true(hash_step(&s) == computed);
        }
        tear_down(&s);
        remove_folder(folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivatives),
        cmocka_unit_test(across_families),
        cmocka_unit_test(own_outputs_keep_their_bits),
        cmocka_unit_test(every_module_has_its_term),
        cmocka_unit_test(same_bits_for_any_threads),
        cmocka_unit_test(steady_steps_allocate_nothing),
        cmocka_unit_test(parameters_of_the_distiller),
        cmocka_unit_test(initialised_from_the_teacher),
        cmocka_unit_test(stored_teachers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
