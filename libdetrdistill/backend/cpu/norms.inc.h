/* SPDX-License-Identifier: Apache-2.0
 * Layer norm of the sum of two branches, group norm of maps, and their gradients. Sums are in double. */
#ifndef DDI_CPU_NORMS_H
#define DDI_CPU_NORMS_H

#include "backend/cpu/parallel.h"
#include "backend/cpu/philox.inc.h"

#define NORM_EPS 1e-5
#define NORM_ROWS 64  /* of a piece */
#define NORM_ROOM 512 /* elements whose dropout is drawn at once, a multiple of PHILOX_SET */

/* to[i] = x[i] + kept r[i]; with r NULL to[i] = x[i]. first: the dropout's index of x[0]. to may be x or r. */
static void norm_sum_row(const dd_op_layernorm *op, const float *x, const float *r, int64_t first, float *to)
{
    float room[NORM_ROOM + PHILOX_SET + 4];
    for (int64_t begin = 0; begin < op->d; begin += NORM_ROOM) {
        const int64_t count = minimum(NORM_ROOM, op->d - begin);
        const float *kept = NULL;
        if (r && op->dropout.rate > 0) {
            kept = philox_kept(&op->dropout, (uint64_t)(first + begin), count, room);
        }
        for (int64_t c = 0; c < count; c += VW) {
            const int64_t lanes = count - c;
            vf s = v_load_n(x + begin + c, lanes);
            if (r) {
                const vf branch = v_load_n(r + begin + c, lanes);
                s = v_add(s, kept ? v_mul(branch, v_load_n(kept + c, lanes)) : branch);
            }
            v_store_n(to + begin + c, s, lanes);
        }
    }
}

static double norm_total(const float *x, int64_t count)
{
    vd sum = vd_zero();
    for (int64_t c = 0; c < count; c += VW) {
        sum = vd_add(sum, vd_from(v_load_n(x + c, count - c)));
    }
    return vd_sum(sum);
}

static double norm_squares(const float *x, double mean, int64_t count)
{
    const vd middle = vd_all(mean);
    vd sum = vd_zero();
    for (int64_t c = 0; c < count; c += VW) {
        const int64_t lanes = count - c;
        vd deviation = vd_sub(vd_from(v_load_n(x + c, lanes)), middle);
        if (lanes < VW) {
            double some[VW];
            vd_store(some, deviation);
            for (int64_t i = lanes; i < VW; i++) {
                some[i] = 0;
            }
            deviation = vd_load(some);
        }
        sum = vd_fma(deviation, deviation, sum);
    }
    return vd_sum(sum);
}

static void layernorm_piece(void *arg, int64_t piece)
{
    const dd_op_layernorm *op = arg;
    for (int64_t row = piece * NORM_ROWS; row < minimum((piece + 1) * NORM_ROWS, op->rows); row++) {
        const int64_t first = row * op->d;
        float *y = (float *)op->y + first;
        const float *s = (const float *)op->x + first;
        if (op->r) {
            float *sum = op->s ? (float *)op->s + first : y;
            norm_sum_row(op, s, (const float *)op->r + first, first, sum);
            s = sum;
        }
        const double mean = norm_total(s, op->d) / op->d;
        const double rstd = 1 / sqrt(norm_squares(s, mean, op->d) / op->d + NORM_EPS);
        const vd factor = vd_all(rstd), offset = vd_all(-mean * rstd);
        for (int64_t c = 0; c < op->d; c += VW) {
            const int64_t lanes = op->d - c;
            vd value = vd_fma(vd_from(v_load_n(s + c, lanes)), factor, offset);
            if (op->gamma) {
                value = vd_fma(value, vd_from(v_load_n((const float *)op->gamma + c, lanes)),
                               vd_from(v_load_n((const float *)op->beta + c, lanes)));
            }
            v_store_n(y + c, vd_round(value), lanes);
        }
        ((float *)op->mean)[row] = (float)mean;
        ((float *)op->rstd)[row] = (float)rstd;
    }
}

dd_status KERNEL(layernorm)(dd_exec *exec, const void *args)
{
    const dd_op_layernorm *op = args;
    cpu_parallel_for(exec->threads, cpu_pieces(op->rows, NORM_ROWS), layernorm_piece, (void *)(uintptr_t)op);
    return DD_OK;
}

/* ---- Sums by channel that pieces make and one more pass adds up: sum[pieces][2][channels] */

typedef struct channel_sums {
    const double *sum;
    int64_t pieces, channels;
    float *to[2]; /* += the two sums; or NULL */
} channel_sums;

static void channel_total(void *arg, int64_t piece)
{
    const channel_sums *job = arg;
    const int64_t c = piece * VW, lanes = job->channels - c;
    for (int n = 0; n < 2; n++) {
        vd sum = vd_zero();
        for (int64_t i = 0; job->to[n] && i < job->pieces; i++) {
            sum = vd_add(sum, vd_load_n(job->sum + (i * 2 + n) * job->channels + c, lanes));
        }
        if (job->to[n]) {
            float *to = job->to[n] + c;
            v_store_n(to, vd_round(vd_add(vd_from(v_load_n(to, lanes)), sum)), lanes);
        }
    }
}

/* ---- Gradient of layer norm */

typedef struct layernorm_grad_job {
    const dd_op_layernorm *op;
    double *sum; /* as channel_sums; NULL: not wanted */
} layernorm_grad_job;

/* A row's normalised value times what it is multiplied by, both from c on. */
typedef struct norm_pair {
    vd u, z;
} norm_pair;

INLINE norm_pair layernorm_pair(const dd_op_layernorm *op, const float *s, const float *g, int64_t c, vd rstd, vd offset)
{
    const int64_t lanes = op->d - c;
    const vd slope = vd_from(v_load_n(g + c, lanes));
    return (norm_pair){op->gamma ? vd_mul(slope, vd_from(v_load_n((const float *)op->gamma + c, lanes))) : slope,
                       vd_fma(vd_from(v_load_n(s + c, lanes)), rstd, offset)};
}

static void put_slope(void *to, int64_t at, vd value, int64_t lanes, int32_t add)
{
    if (to) {
        float *y = (float *)to + at;
        v_store_n(y, vd_round(add ? vd_add(value, vd_from(v_load_n(y, lanes))) : value), lanes);
    }
}

static void layernorm_grad_row(const dd_op_layernorm *op, int64_t row, double *sums)
{
    const int64_t first = row * op->d;
    const float *s = (const float *)(op->r ? op->s : op->x) + first, *g = (const float *)op->g_y + first;
    const double mean = (double)((const float *)op->mean)[row], scale = (double)((const float *)op->rstd)[row];
    const vd rstd = vd_all(scale), offset = vd_all(-mean * scale);
    vd sum = vd_zero(), moment = vd_zero();
    for (int64_t c = 0; c < op->d; c += VW) {
        const int64_t lanes = op->d - c;
        const norm_pair p = layernorm_pair(op, s, g, c, rstd, offset); /* u is 0 beyond the row */
        sum = vd_add(sum, p.u);
        moment = vd_fma(p.u, p.z, moment);
        if (sums) {
            const vd slope = vd_from(v_load_n(g + c, lanes));
            vd_store_n(sums + c, vd_fma(slope, p.z, vd_load_n(sums + c, lanes)), lanes);
            vd_store_n(sums + op->d + c, vd_add(slope, vd_load_n(sums + op->d + c, lanes)), lanes);
        }
    }
    if (!op->g_x && !op->g_r) {
        return;
    }
    float room[NORM_ROOM + PHILOX_SET + 4];
    const float *kept = NULL;
    const double level = vd_sum(sum) / op->d, along = vd_sum(moment) / op->d;
    for (int64_t c = 0; c < op->d; c += VW) {
        const int64_t lanes = op->d - c;
        if (op->g_r && op->dropout.rate > 0 && c % NORM_ROOM == 0) {
            kept = philox_kept(&op->dropout, (uint64_t)(first + c), minimum(NORM_ROOM, op->d - c), room) - c;
        }
        const norm_pair p = layernorm_pair(op, s, g, c, rstd, offset);
        const vd slope = vd_mul(rstd, vd_sub(p.u, vd_fma(p.z, vd_all(along), vd_all(level))));
        put_slope(op->g_x, first + c, slope, lanes, op->add & 1);
        put_slope(op->g_r, first + c, kept ? vd_mul(slope, vd_from(v_load_n(kept + c, lanes))) : slope, lanes, op->add & 2);
    }
}

static void layernorm_grad_piece(void *arg, int64_t piece)
{
    const layernorm_grad_job *job = arg;
    const dd_op_layernorm *op = job->op;
    double *sums = job->sum ? job->sum + piece * 2 * op->d : NULL;
    for (int64_t i = 0; sums && i < 2 * op->d; i++) {
        sums[i] = 0;
    }
    for (int64_t row = piece * NORM_ROWS; row < minimum((piece + 1) * NORM_ROWS, op->rows); row++) {
        layernorm_grad_row(op, row, sums);
    }
}

dd_status KERNEL(layernorm_grad)(dd_exec *exec, const void *args)
{
    const dd_op_layernorm *op = args;
    const int64_t pieces = cpu_pieces(op->rows, NORM_ROWS);
    layernorm_grad_job job = {op, NULL};
    if (op->g_gamma || op->g_beta) {
        job.sum = exec->scratch(exec, (size_t)(pieces * 2 * op->d + 1) * sizeof *job.sum);
        if (!job.sum) {
            return DD_ERR_NOMEM;
        }
    }
    cpu_parallel_for(exec->threads, pieces, layernorm_grad_piece, &job);
    if (job.sum) {
        channel_sums total = {job.sum, pieces, op->d, {op->g_gamma, op->g_beta}};
        cpu_parallel_for(exec->threads, cpu_pieces(op->d, VW), channel_total, &total);
    }
    return DD_OK;
}

/* ---- Group norm. A piece is a block of positions of one image; its sums by channel go to sum[image][block][2][C]. Positions
 * are read four at a time, all channels of them: memory in its order, and a quarter of the traffic to the sums. */

#define NORM_FOUR 4

typedef struct groupnorm_job {
    const dd_op_groupnorm *op;
    int64_t blocks; /* of an image */
    double *sum;    /* forward: of x, and of squares of what differs from the block's mean; gradient: of g z, of g */
    double *factor; /* [image][3][C]: see the second passes */
} groupnorm_job;

typedef struct groupnorm_block {
    int64_t b, first, positions;
    const float *x;
    double *sum;
} groupnorm_block;

static groupnorm_block groupnorm_block_of(const groupnorm_job *job, int64_t piece)
{
    const dd_op_groupnorm *op = job->op;
    const int64_t b = piece / job->blocks, first = piece % job->blocks * NORM_ROWS;
    return (groupnorm_block){b, first, minimum(NORM_ROWS, op->P - first), (const float *)op->x + (b * op->P + first) * op->C,
                             job->sum + piece * 2 * op->C};
}

/* Sums of d and of d^2, d what differs from the block's first position; from them the sums that are wanted. */
static void groupnorm_sums(void *arg, int64_t piece)
{
    const groupnorm_job *job = arg;
    const groupnorm_block k = groupnorm_block_of(job, piece);
    const int64_t C = job->op->C;
    for (int64_t p = 0; p < k.positions; p += NORM_FOUR) {
        const int64_t end = minimum(p + NORM_FOUR, k.positions);
        for (int64_t c = 0; c < C; c += VW) {
            const int64_t lanes = C - c;
            const vd pivot = vd_from(v_load_n(k.x + c, lanes));
            vd sum = p > 0 ? vd_load_n(k.sum + c, lanes) : vd_zero();
            vd squares = p > 0 ? vd_load_n(k.sum + C + c, lanes) : vd_zero();
            for (int64_t i = p; i < end; i++) {
                const vd d = vd_sub(vd_from(v_load_n(k.x + i * C + c, lanes)), pivot);
                sum = vd_add(sum, d);
                squares = vd_fma(d, d, squares);
            }
            vd_store_n(k.sum + c, sum, lanes);
            vd_store_n(k.sum + C + c, squares, lanes);
        }
    }
    for (int64_t c = 0; c < C; c++) {
        k.sum[C + c] -= k.sum[c] * k.sum[c] / (double)k.positions;
        k.sum[c] += (double)k.positions * (double)k.x[c];
    }
}

/* Mean and variance of a group from those of its blocks and channels; factors a, b of y = a x + b. */
static void groupnorm_group(void *arg, int64_t at)
{
    const groupnorm_job *job = arg;
    const dd_op_groupnorm *op = job->op;
    const int64_t b = at / op->groups, width = op->C / op->groups, c0 = at % op->groups * width;
    const double count = (double)(op->P * width);
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < job->blocks * width; i++) {
        mean += job->sum[(b * job->blocks + i / width) * 2 * op->C + c0 + i % width];
    }
    mean /= count > 0 ? count : 1;
    for (int64_t i = 0; i < job->blocks * width; i++) {
        const int64_t block = i / width;
        const double n = (double)minimum(NORM_ROWS, op->P - block * NORM_ROWS);
        const double *sum = job->sum + (b * job->blocks + block) * 2 * op->C + c0 + i % width;
        const double off = sum[0] / n - mean;
        variance += sum[op->C] + n * off * off;
    }
    const double rstd = 1 / sqrt(variance / (count > 0 ? count : 1) + NORM_EPS);
    for (int64_t c = c0; c < c0 + width; c++) {
        double *factor = job->factor + b * 3 * op->C + c;
        factor[0] = rstd * (double)((const float *)op->gamma)[c];
        factor[op->C] = (double)((const float *)op->beta)[c] - mean * factor[0];
    }
    ((float *)op->mean)[at] = (float)mean;
    ((float *)op->rstd)[at] = (float)rstd;
}

static void groupnorm_apply(void *arg, int64_t piece)
{
    const groupnorm_job *job = arg;
    const dd_op_groupnorm *op = job->op;
    const groupnorm_block k = groupnorm_block_of(job, piece);
    const double *factor = job->factor + k.b * 3 * op->C;
    float *y = (float *)op->y + k.b * op->y_stride + k.first * op->C;
    for (int64_t p = 0; p < k.positions; p += NORM_FOUR) {
        const int64_t end = minimum(p + NORM_FOUR, k.positions);
        for (int64_t c = 0; c < op->C; c += VW) {
            const int64_t lanes = op->C - c;
            const vd a = vd_load_n(factor + c, lanes), b = vd_load_n(factor + op->C + c, lanes);
            for (int64_t i = p; i < end; i++) {
                const vd value = vd_fma(vd_from(v_load_n(k.x + i * op->C + c, lanes)), a, b);
                v_store_n(y + i * op->C + c, vd_round(value), lanes);
            }
        }
    }
}

static bool groupnorm_room(dd_exec *exec, groupnorm_job *job)
{
    const dd_op_groupnorm *op = job->op;
    job->blocks = cpu_pieces(op->P, NORM_ROWS);
    job->sum = exec->scratch(exec, (size_t)(op->B * job->blocks * 2 * op->C + 1) * sizeof *job->sum);
    job->factor = exec->scratch(exec, (size_t)((int64_t)op->B * 3 * op->C + 1) * sizeof *job->factor);
    return job->sum && job->factor;
}

dd_status KERNEL(groupnorm)(dd_exec *exec, const void *args)
{
    groupnorm_job job = {.op = args};
    if (!groupnorm_room(exec, &job)) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, job.op->B * job.blocks, groupnorm_sums, &job);
    cpu_parallel_for(exec->threads, (int64_t)job.op->B * job.op->groups, groupnorm_group, &job);
    cpu_parallel_for(exec->threads, job.op->B * job.blocks, groupnorm_apply, &job);
    return DD_OK;
}

/* Sums of g z and of g, z the normalised x, from factors rstd and -mean rstd of z. */
static void groupnorm_grad_sums(void *arg, int64_t piece)
{
    const groupnorm_job *job = arg;
    const dd_op_groupnorm *op = job->op;
    const groupnorm_block k = groupnorm_block_of(job, piece);
    const double *factor = job->factor + k.b * 3 * op->C;
    const float *g = (const float *)op->g_y + k.b * op->y_stride + k.first * op->C;
    for (int64_t p = 0; p < k.positions; p += NORM_FOUR) {
        const int64_t end = minimum(p + NORM_FOUR, k.positions);
        for (int64_t c = 0; c < op->C; c += VW) {
            const int64_t lanes = op->C - c;
            const vd rstd = vd_load_n(factor + c, lanes), offset = vd_load_n(factor + op->C + c, lanes);
            vd moment = p > 0 ? vd_load_n(k.sum + c, lanes) : vd_zero();
            vd sum = p > 0 ? vd_load_n(k.sum + op->C + c, lanes) : vd_zero();
            for (int64_t i = p; i < end; i++) {
                const vd slope = vd_from(v_load_n(g + i * op->C + c, lanes));
                moment = vd_fma(slope, vd_fma(vd_from(v_load_n(k.x + i * op->C + c, lanes)), rstd, offset), moment);
                sum = vd_add(sum, slope);
            }
            vd_store_n(k.sum + c, moment, lanes);
            vd_store_n(k.sum + op->C + c, sum, lanes);
        }
    }
}

static void groupnorm_normal(void *arg, int64_t at)
{
    const groupnorm_job *job = arg;
    const dd_op_groupnorm *op = job->op;
    const int64_t width = op->C / op->groups, c0 = at % op->groups * width;
    const double mean = (double)((const float *)op->mean)[at], rstd = (double)((const float *)op->rstd)[at];
    for (int64_t c = c0; c < c0 + width; c++) {
        double *factor = job->factor + at / op->groups * 3 * op->C + c;
        factor[0] = rstd;
        factor[op->C] = -mean * rstd;
    }
}

/* g_x = rstd (u - mean u - z mean(u z)), u = gamma g, as a g + b x + c: the factors. */
static void groupnorm_grad_group(void *arg, int64_t at)
{
    const groupnorm_job *job = arg;
    const dd_op_groupnorm *op = job->op;
    const int64_t b = at / op->groups, width = op->C / op->groups, c0 = at % op->groups * width;
    const double mean = (double)((const float *)op->mean)[at], rstd = (double)((const float *)op->rstd)[at];
    double level = 0, along = 0;
    for (int64_t i = 0; i < job->blocks * width; i++) {
        const double *sum = job->sum + (b * job->blocks + i / width) * 2 * op->C + c0 + i % width;
        const double gamma = (double)((const float *)op->gamma)[c0 + i % width];
        along += gamma * sum[0];
        level += gamma * sum[op->C];
    }
    level /= (double)(op->P * width);
    along /= (double)(op->P * width);
    for (int64_t c = c0; c < c0 + width; c++) {
        double *factor = job->factor + b * 3 * op->C + c;
        factor[0] = rstd * (double)((const float *)op->gamma)[c];
        factor[op->C] = -rstd * rstd * along;
        factor[2 * op->C] = rstd * (mean * rstd * along - level);
    }
}

static void groupnorm_grad_apply(void *arg, int64_t piece)
{
    const groupnorm_job *job = arg;
    const dd_op_groupnorm *op = job->op;
    const groupnorm_block k = groupnorm_block_of(job, piece);
    const double *factor = job->factor + k.b * 3 * op->C;
    const float *g = (const float *)op->g_y + k.b * op->y_stride + k.first * op->C;
    const int64_t first = (k.b * op->P + k.first) * op->C;
    for (int64_t p = 0; p < k.positions; p += NORM_FOUR) {
        const int64_t end = minimum(p + NORM_FOUR, k.positions);
        for (int64_t c = 0; c < op->C; c += VW) {
            const int64_t lanes = op->C - c;
            const vd by_g = vd_load_n(factor + c, lanes), by_x = vd_load_n(factor + op->C + c, lanes);
            const vd level = vd_load_n(factor + 2 * op->C + c, lanes);
            for (int64_t at = p * op->C + c; at < end * op->C; at += op->C) {
                const vd rest = vd_fma(vd_from(v_load_n(k.x + at, lanes)), by_x, level);
                put_slope(op->g_x, first + at, vd_fma(vd_from(v_load_n(g + at, lanes)), by_g, rest), lanes, op->add & 1);
            }
        }
    }
}

dd_status KERNEL(groupnorm_grad)(dd_exec *exec, const void *args)
{
    const dd_op_groupnorm *op = args;
    groupnorm_job job = {.op = op};
    if (!groupnorm_room(exec, &job)) {
        return DD_ERR_NOMEM;
    }
    const int64_t groups = (int64_t)op->B * op->groups, pieces = op->B * job.blocks;
    cpu_parallel_for(exec->threads, groups, groupnorm_normal, &job);
    cpu_parallel_for(exec->threads, pieces, groupnorm_grad_sums, &job);
    channel_sums total = {job.sum, pieces, op->C, {op->g_gamma, op->g_beta}};
    cpu_parallel_for(exec->threads, cpu_pieces(op->C, VW), channel_total, &total);
    if (op->g_x && op->P > 0) {
        cpu_parallel_for(exec->threads, groups, groupnorm_grad_group, &job);
        cpu_parallel_for(exec->threads, pieces, groupnorm_grad_apply, &job);
    }
    return DD_OK;
}

#endif
