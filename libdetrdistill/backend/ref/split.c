/* SPDX-License-Identifier: Apache-2.0
 * The two matchings of the paper's split (distillation A.6): masks before each of them, then their union. */
#include "backend/ref/real.h"

static void join(const dd_op_split_masks *op, int64_t i)
{
    op->kind[i] = op->match[i] >= 0 ? 1 : op->match2[i] >= 0 ? 2 : 0;
    if (op->kind[i] == 2) {
        op->match[i] = op->match2[i];
    }
}

dd_status REF(split_masks)(dd_exec *exec, const void *args)
{
    const dd_op_split_masks *op = args;
    for (int64_t n = 0; n < op->n_pairs; n++) {
        for (int64_t b = 0; b < op->B; b++) {
            const int64_t block = n * op->B + b;
            const int32_t *t_match = op->t_match + (op->pairs[2 * n + 1] * (int64_t)op->B + b) * op->NT;
            for (int64_t i = block * op->NS; i < (block + 1) * op->NS; i++) {
                if (op->step == 2) {
                    join(op, i);
                } else {
                    op->row_use[i] = op->step == 0 || op->match[i] < 0;
                }
            }
            for (int64_t j = 0; op->step != 2 && j < op->NT; j++) {
                op->col_use[block * op->NT + j] = (t_match[j] >= 0) == (op->step == 0);
            }
        }
    }
    return DD_OK;
}
