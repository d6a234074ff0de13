/* SPDX-License-Identifier: Apache-2.0
 * A small Deformable DETR learns eight pictures of BCCD by heart, all 147 cells of three kinds. */
#include "tiny.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define STUDENT                                                                                                                \
    "classes=3 queries=40 backbone=resnet-18 block=basic stem=16 depths=1,1,1,1 widths=16,32,64,128 width=64 levels=4 "        \
    "encoder-layers=1 decoder-layers=2 ffn=128 refine=1 dropout=0"
#define OPTIONS                                                                                                                \
    "batch=4 epochs=360 limit=8 eval-limit=8 eval-batch=8 eval-every=0 sizes=160 max-size=0 flip=0 crop=0 warmup=20 drop=280 " \
    "lr=2e-3 lr.backbone=1 lr.sampling=0.3 clip=1"

static const char *data_folder(char path[512])
{
    const char *given = getenv("DETRDISTILL_TEST_DATA");
    snprintf(path, 512, "%s/bccd", given ? given : SHARED_DIR "/data");
    return access(path, R_OK) == 0 ? path : NULL;
}

/* AP50 on the pictures that were learnt. */
static double learn(const char *folder, int seed)
{
    tiny t = {0};
    double first, last = 0, numbers[12];
    char context[512];
    snprintf(context, sizeof context, "%s threads=1 seed=%d", TINY_DEVICE, seed);
    OK(dd_context_create(&t.context, context));
    OK(dd_model_create(&t.student, t.context, STUDENT));
    OK(dd_dataset_open(&t.train, folder, "split=train"));
    OK(dd_trainer_create(&t.trainer, t.student, NULL, t.train, t.train, NULL, OPTIONS, NULL));
    OK(dd_trainer_step(t.trainer, &first));
    while (tiny_value(&t, "finished") == 0) {
        OK(dd_trainer_step(t.trainer, &last));
    }
    OK(dd_trainer_evaluate(t.trainer, numbers));
    print_message("seed %d: loss %.2f, then %.3f; AP %.4f, AP50 %.4f\n", seed, first, last, numbers[0], numbers[1]);
    tiny_close(&t);
    return numbers[1];
}

static void test_overfits_eight_pictures(void **state)
{
    char path[512];
    const char *folder = data_folder(path);
    if (!folder) {
        print_message("skipped: %s is missing\n", path);
        skip();
    }
    for (int seed = 1; seed <= (getenv("DETRDISTILL_TEST_ALL") ? 5 : 1); seed++) {
        assert_true(learn(folder, seed) >= 0.95);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_overfits_eight_pictures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
