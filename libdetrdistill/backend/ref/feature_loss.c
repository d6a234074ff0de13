/* SPDX-License-Identifier: Apache-2.0
 * Weighted squared distance of feature maps, with gradient (distillation B.3). */
#include "backend/ref/math.h"
#include "backend/ref/real.h"

dd_status REF(feature_loss)(dd_exec *exec, const void *args)
{
    const dd_op_feature_loss *op = args;
    const real *weight = op->weight, *sum = op->sum;
    const double positions = (double)op->B * op->d * (double)op->P;
    double *distance = ddi_ref_scratch(exec, op->P, sizeof *distance);
    if (!distance) {
        return DD_ERR_NOMEM;
    }
    for (int64_t b = 0; b < op->B; b++) {
        const real *teacher = (const real *)op->teacher + b * op->d * op->P;
        const real *student = (const real *)op->student + b * op->d * op->P;
        for (int64_t p = 0; p < op->P; p++) {
            distance[p] = 0;
        }
        for (int64_t i = 0; i < op->d * op->P; i++) {
            const double difference = (double)teacher[i] - student[i];
            distance[i % op->P] += difference * difference;
        }
        for (int64_t l = 0; l < op->L; l++) {
            double term = 0;
            for (int64_t p = 0; p < op->P; p++) {
                term += weight[(l * op->B + b) * op->P + p] * distance[p];
            }
            op->terms[l * op->B + b] = positions > 0 ? term / positions : 0;
        }
        real *g = op->g_student ? (real *)op->g_student + b * op->d * op->P : NULL;
        for (int64_t i = 0; g && i < op->d * op->P; i++) {
            const double difference = (double)student[i] - teacher[i];
            g[i] = (real)(op->grad_scale * 2 * sum[b * op->P + i % op->P] * difference / positions);
        }
    }
    return DD_OK;
}
