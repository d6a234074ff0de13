/* SPDX-License-Identifier: Apache-2.0
 * Search for NaN and infinities. */
#include "backend/ref/math.h"
#include "backend/ref/real.h"

dd_status REF(check_finite)(dd_exec *exec, const void *args)
{
    const dd_op_check_finite *op = args;
    const real *x = op->x;
    int64_t i = 0;
    *op->first = -1;
    for (int64_t o = 0; o < op->outer; o++) {
        for (int64_t b = 0; b < op->images; b++) {
            for (int64_t k = 0; k < op->inner; k++, i++) {
                if (isfinite(x[i])) {
                    continue;
                }
                if (*op->first < 0) {
                    *op->first = i;
                }
                if (op->image_bad) {
                    op->image_bad[b] = 1;
                }
            }
        }
    }
    return DD_OK;
}
