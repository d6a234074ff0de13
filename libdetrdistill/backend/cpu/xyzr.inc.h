/* SPDX-License-Identifier: Apache-2.0
 * Overlap of AdaMixer's boxes as a bias of attention (detectors.md 4.3 step 1): in double up to the logarithm, which is steep
 * for boxes that hardly meet. */
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd_wide.h"
#include "backend/cpu/vecmath.h"

enum { IOF_LEFT, IOF_RIGHT, IOF_TOP, IOF_BOTTOM, IOF_PARTS };

typedef struct iof_job {
    const dd_op_iof_bias *op;
    double *ends; /* [B,IOF_PARTS,N] */
    double *sums; /* [B,M] */
} iof_job;

static void iof_fill_ends(const iof_job *job, int64_t b)
{
    const int64_t N = job->op->N;
    double *ends = job->ends + b * IOF_PARTS * N;
    for (int64_t i = 0; i < N; i++) {
        const float *p = (const float *)job->op->position + (b * N + i) * 4;
        const double half_w = exp2((double)p[2] - 0.5 * (double)p[3]) / 2, half_h = exp2((double)p[2] + 0.5 * (double)p[3]) / 2;
        ends[IOF_LEFT * N + i] = (double)p[0] - half_w;
        ends[IOF_RIGHT * N + i] = (double)p[0] + half_w;
        ends[IOF_TOP * N + i] = (double)p[1] - half_h;
        ends[IOF_BOTTOM * N + i] = (double)p[1] + half_h;
    }
}

/* Length that [low, high] and n others share. */
INLINE vd iof_shared(double low, double high, const double *lows, const double *highs, int64_t n)
{
    const vd begin = vd_max(vd_all(low), vd_load_n(lows, n)), end = vd_min(vd_all(high), vd_load_n(highs, n));
    return vd_max(vd_sub(end, begin), vd_zero());
}

/* Box i of an image against all. */
static void iof_row(void *arg, int64_t row)
{
    const iof_job *job = arg;
    const dd_op_iof_bias *op = job->op;
    const int64_t N = op->N, b = row / N, i = row % N;
    const double *end = job->ends + b * IOF_PARTS * N;
    const double left = end[IOF_LEFT * N + i], right = end[IOF_RIGHT * N + i];
    const double top = end[IOF_TOP * N + i], bottom = end[IOF_BOTTOM * N + i], area = (right - left) * (bottom - top);
    const vd whole = vd_all(area > 1e-6 ? area : 1e-6);
    for (int64_t j = 0; j < N; j += VW) {
        const int64_t n = N - j;
        const vd w = iof_shared(left, right, end + IOF_LEFT * N + j, end + IOF_RIGHT * N + j, n);
        const vd h = iof_shared(top, bottom, end + IOF_TOP * N + j, end + IOF_BOTTOM * N + j, n);
        const vd share = vd_min(vd_div(vd_mul(w, h), whole), vd_all(1));
        const vf overlap = v_log(vd_round(vd_add(share, vd_all(1e-7))));
        if (op->overlap) {
            v_store_n((float *)op->overlap + row * N + j, overlap, n);
        }
        for (int64_t m = 0; m < op->M; m++) {
            const vf tau = v_set(((const float *)op->tau)[m]);
            v_store_n((float *)op->y + ((b * op->M + m) * N + i) * N + j, v_mul(tau, overlap), n);
        }
    }
}

dd_status KERNEL(iof_bias)(dd_exec *exec, const void *args)
{
    iof_job job = {.op = args};
    const int64_t boxes = (int64_t)job.op->B * job.op->N;
    job.ends = exec->scratch(exec, (size_t)(boxes * IOF_PARTS + 1) * sizeof *job.ends);
    if (!job.ends) {
        return DD_ERR_NOMEM;
    }
    for (int64_t b = 0; b < job.op->B; b++) {
        iof_fill_ends(&job, b);
    }
    cpu_parallel_for(exec->threads, boxes, iof_row, &job);
    return DD_OK;
}

/* One image's part of a head's gradient. */
static void iof_sum(void *arg, int64_t i)
{
    const iof_job *job = arg;
    const int64_t cells = (int64_t)job->op->N * job->op->N;
    const float *g = (const float *)job->op->g_y + i * cells;
    const float *overlap = (const float *)job->op->overlap + i / job->op->M * cells;
    vd sum = vd_zero();
    for (int64_t k = 0; k < cells; k += VW) {
        sum = vd_fma(vd_from(v_load_n(g + k, cells - k)), vd_from(v_load_n(overlap + k, cells - k)), sum);
    }
    job->sums[i] = vd_sum(sum);
}

dd_status KERNEL(iof_bias_grad)(dd_exec *exec, const void *args)
{
    iof_job job = {.op = args};
    const int64_t M = job.op->M, parts = (int64_t)job.op->B * M;
    if (!job.op->g_tau) {
        return DD_OK;
    }
    job.sums = exec->scratch(exec, (size_t)(parts + 1) * sizeof *job.sums);
    if (!job.sums) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, parts, iof_sum, &job);
    for (int64_t m = 0; m < M; m++) {
        float *g_tau = (float *)job.op->g_tau + m;
        double sum = (double)*g_tau;
        for (int64_t i = m; i < parts; i += M) {
            sum += job.sums[i];
        }
        *g_tau = (float)sum;
    }
    return DD_OK;
}
