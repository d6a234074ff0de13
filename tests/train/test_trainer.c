/* SPDX-License-Identifier: Apache-2.0
 * The trainer on tiny models: it learns, its averages, its evaluation, refused steps, stops, the files that it writes. */
#include "tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- It learns */

static void test_overfits_a_few_scenes(void **state)
{
    tiny t;
    double first, last = 0;
    tiny_open(&t, "dropout=0 attention-dropout=0 activation-dropout=0", "seed=1");
    OK(tiny_train(&t, NULL, "epochs=1000 limit=2 batch=2 flip=0 lr=1e-3 lr.sampling=1 lr.backbone=1 clip=1 drop=900", NULL));
    OK(dd_trainer_step(t.trainer, &first));
    for (int i = 0; i < 150; i++) {
        OK(dd_trainer_step(t.trainer, &last));
    }
    print_message("loss %.3f, after 150 steps %.3f\n", first, last);
    assert_true(last < 0.4 * first);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overfits_a_few_scenes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
