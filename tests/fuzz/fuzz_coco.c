/* SPDX-License-Identifier: Apache-2.0
 * Annotations and results in COCO's JSON: the input is read as one, then as the other, then counted. */
#include "target.h"
#include <detrdistill/eval.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    const double box[4] = {10, 20, 30, 40};
    const int64_t label = 1;
    double numbers[12];
    int64_t left_out;
    dd_eval *eval;
    FUZZ_CHECK(dd_eval_create(&eval) == DD_OK);
    FUZZ_CHECK(dd_eval_add_objects(eval, 1, 1, box, &label, NULL, NULL) == DD_OK);
    dd_eval_add_coco_annotations(eval, path);
    dd_eval_add_coco_results(eval, path, &left_out);
    FUZZ_CHECK(dd_eval_finish(eval, numbers) == DD_OK);
    for (int i = 0; i < 12; i++) {
        FUZZ_CHECK(numbers[i] >= -1 && numbers[i] <= 1);
    }
    dd_eval_free(eval);
    return 0;
}
