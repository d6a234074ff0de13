/* SPDX-License-Identifier: Apache-2.0
 * Same seed, same bits: for any number of threads, of the loader's, too; in a host that has threads of its own. */
#include "tiny.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define TEACHER TINY_STUDENT " width=64 queries=16 decoder-layers=4"
#define RUN "epochs=100 batch=2 lr=1e-3 ema=0.9 "

/* Hash of all weights after some steps with a teacher, dropout, mirrored pictures. */
static uint64_t learn(int threads, int loader, int steps)
{
    tiny t;
    char words[80];
    snprintf(words, sizeof words, "threads=%d seed=8", threads);
    tiny_open(&t, "", words);
    OK(dd_model_create(&t.teacher, t.context, TEACHER));
    snprintf(words, sizeof words, RUN "threads=%d prefetch=%d", loader, 1 + loader);
    OK(tiny_train(&t, NULL, words, "contrastive=1 contrastive-width=16"));
    for (int i = 0; i < steps; i++) {
        OK(dd_trainer_step(t.trainer, NULL));
    }
    const uint64_t hash = tiny_hash(t.student);
    tiny_close(&t);
    return hash;
}

static void test_same_bits(void **state)
{
    static const int loaders[] = {0, 1, 4};
    const uint64_t wanted = learn(1, 0, 50);
    for (int threads = 1; threads <= 4; threads++) {
        for (int k = 0; k < 3; k++) {
            assert_true(learn(threads, loaders[k], 50) == wanted);
        }
    }
    assert_true(learn(1, 0, 49) != wanted);
}

/* ---- The host's threads */

static void test_inside_openmp(void **state)
{
    uint64_t hash[3];
    const uint64_t wanted = learn(2, 1, 4);
#pragma omp parallel for num_threads(3)
    for (int i = 0; i < 3; i++) {
        hash[i] = learn(2, 1, 4);
    }
    for (int i = 0; i < 3; i++) {
        assert_true(hash[i] == wanted);
    }
}

static void *learn_in_thread(void *hash)
{
    *(uint64_t *)hash = learn(2, 1, 4);
    return NULL;
}

static void test_small_stack(void **state)
{
    pthread_t thread;
    pthread_attr_t attributes;
    uint64_t hash = 0;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 64 << 10), 0);
    assert_int_equal(pthread_create(&thread, &attributes, learn_in_thread, &hash), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    assert_true(hash == learn(2, 1, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_inside_openmp),
        cmocka_unit_test(test_small_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
