/* SPDX-License-Identifier: Apache-2.0
 * Sampling of a pyramid (detectors.md 4.3 step 3). VW points of a query's group are placed on all levels at once, in double, so
 * that a point on the border of a cell falls into the cell that the reference takes; then rows of values are summed point by
 * point. */
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd_wide.h"
#include "backend/cpu/vecmath.h"

#define CLOUD_VECTORS 4 /* of a row at a time */
#define CLOUD_COLUMNS (CLOUD_VECTORS * VW)
#define CLOUD_ZEROS (1 << 18) /* elements of a piece */

typedef struct cloud_job {
    const dd_op_sample3d *op;
    int64_t ld;                          /* elements from token to token */
    int64_t first[8];                    /* token of a level */
    double cells_by_pixel[8], centre[8]; /* centre: log2 stride */
    vf *dots;                            /* of the gradient: [B,G,L,4,VW] */
} cloud_job;

/* VW points on a level: upper left corners, which corners exist, weights. */
typedef struct cloud_level {
    vf share, lx, ly;
    float part[4][VW];
    int64_t at[VW];
    uint32_t exists[4];
} cloud_level;

typedef struct cloud_block {
    cloud_level level[8];
    vd z;
    double side[2]; /* of the query's box */
} cloud_block;

static cloud_job cloud_job_of(const dd_op_sample3d *op)
{
    cloud_job job = {.op = op, .ld = (int64_t)op->G * op->D};
    for (int32_t l = 0; l < op->L; l++) {
        job.first[l] = l ? job.first[l - 1] + (int64_t)op->height[l - 1] * op->width[l - 1] : 0;
        job.cells_by_pixel[l] = 1.0 / op->stride[l];
        job.centre[l] = log2(op->stride[l]);
    }
    return job;
}

/* Softmax over the levels of how far the points are from each. */
INLINE void cloud_shares(const cloud_job *job, cloud_block *k)
{
    const int32_t L = job->op->L;
    vd logit[8], highest = vd_all(-INFINITY);
    vf sum = v_zero();
    for (int32_t l = 0; l < L; l++) {
        const vd above = vd_sub(k->z, vd_all(job->centre[l]));
        logit[l] = vd_mul(vd_mul(above, above), vd_all(-1 / job->op->tau));
        highest = vd_max(logit[l], highest);
    }
    for (int32_t l = 0; l < L; l++) {
        k->level[l].share = v_exp(vd_round(vd_sub(logit[l], highest)));
        sum = v_add(sum, k->level[l].share);
    }
    for (int32_t l = 0; l < L; l++) {
        k->level[l].share = v_div(k->level[l].share, sum);
    }
}

/* x, y: in pixels. Lanes that are not used: far outside. */
INLINE void cloud_place_level(const cloud_job *job, int32_t l, vd x, vd y, cloud_level *k)
{
    const vd scale = vd_all(job->cells_by_pixel[l]), half = vd_all(-0.5);
    const vi width = vi_set(job->op->width[l]), height = vi_set(job->op->height[l]), one = vi_set(1);
    x = vd_fma(x, scale, half);
    y = vd_fma(y, scale, half);
    const vd x0 = vd_floor(x), y0 = vd_floor(y);
    const vi column = vd_to_whole(x0, -2), row = vd_to_whole(y0, -2);
    const vm in_x[2] = {vi_within(column, width), vi_within(vi_add(column, one), width)};
    const vm in_y[2] = {vi_within(row, height), vi_within(vi_add(row, one), height)};
    for (int c = 0; c < 4; c++) {
        k->exists[c] = v_bits(vm_and(in_x[c % 2], in_y[c / 2]));
    }
    k->lx = vd_round(vd_sub(x, x0));
    k->ly = vd_round(vd_sub(y, y0));
    const vi token = vi_add(vi_set((int32_t)job->first[l]), vi_add(vi_mul(row, width), column));
    vi_store_scaled(k->at, token, job->ld);
    const vf right = v_mul(k->share, k->lx), left = v_sub(k->share, right);
    const vf bottom_left = v_mul(left, k->ly), bottom_right = v_mul(right, k->ly);
    v_store(k->part[0], v_sub(left, bottom_left));
    v_store(k->part[1], v_sub(right, bottom_right));
    v_store(k->part[2], bottom_left);
    v_store(k->part[3], bottom_right);
}

/* Places n points of a query. off: the first one's. */
INLINE void cloud_place(const cloud_job *job, int64_t query, const float *off, int64_t n, cloud_block *k)
{
    const float *position = (const float *)job->op->position + 4 * query;
    float some[3 * VW];
    if (n < VW) {
        for (int64_t i = 0; i < 3 * VW; i++) {
            some[i] = i < 3 * n ? off[i] : i % 3 < 2 ? INFINITY : 0;
        }
        off = some;
    }
    k->side[0] = exp2((double)position[2] - 0.5 * (double)position[3]);
    k->side[1] = exp2((double)position[2] + 0.5 * (double)position[3]);
    const vd x = vd_fma(vd_from(v_load_strided(off, 3)), vd_all(k->side[0]), vd_all(position[0]));
    const vd y = vd_fma(vd_from(v_load_strided(off + 1, 3)), vd_all(k->side[1]), vd_all(position[1]));
    k->z = vd_add(vd_from(v_load_strided(off + 2, 3)), vd_all(position[2]));
    cloud_shares(job, k);
    for (int32_t l = 0; l < job->op->L; l++) {
        cloud_place_level(job, l, x, y, &k->level[l]);
    }
}

INLINE int64_t cloud_corner(const cloud_job *job, const cloud_block *k, int32_t l, int64_t i, int c)
{
    return k->level[l].at[i] + (c % 2 ? job->ld : 0) + (c / 2 ? job->op->width[l] * job->ld : 0);
}

/* `width` columns of point i. */
INLINE void cloud_sum(const cloud_job *job, const cloud_block *k, const float *values, int64_t i, int64_t width, float *y)
{
    vf sum[2][CLOUD_VECTORS];
    for (int v = 0; v < CLOUD_VECTORS; v++) {
        sum[0][v] = sum[1][v] = v_zero();
    }
    for (int32_t l = 0; l < job->op->L; l++) {
        for (int c = 0; c < 4; c++) {
            if (k->level[l].exists[c] >> i & 1) {
                const float *row = values + cloud_corner(job, k, l, i, c);
                const vf weight = v_set(k->level[l].part[c][i]);
                for (int v = 0; v < CLOUD_VECTORS && v * VW < width; v++) {
                    sum[c % 2][v] = v_fma(weight, v_load_n(row + v * VW, width - v * VW), sum[c % 2][v]);
                }
            }
        }
    }
    for (int v = 0; v < CLOUD_VECTORS && v * VW < width; v++) {
        v_store_n(y + v * VW, v_add(sum[0][v], sum[1][v]), width - v * VW);
    }
}

/* A group of a query. */
static void cloud_group(void *arg, int64_t i)
{
    const cloud_job *job = arg;
    const dd_op_sample3d *op = job->op;
    const int64_t query = i / op->G, D = op->D;
    const float *values = (const float *)op->value + query / op->N * op->S * job->ld + i % op->G * D;
    for (int64_t p = 0; p < op->P; p += VW) {
        const int64_t first = i * op->P + p, n = minimum(VW, op->P - p);
        cloud_block k;
        cloud_place(job, query, (const float *)op->off + 3 * first, n, &k);
        for (int64_t lane = 0; lane < n; lane++) {
            float *y = (float *)op->y + (first + lane) * D;
            int64_t column = 0;
            for (; column + CLOUD_COLUMNS <= D; column += CLOUD_COLUMNS) {
                cloud_sum(job, &k, values + column, lane, CLOUD_COLUMNS, y + column);
            }
            if (column < D) {
                cloud_sum(job, &k, values + column, lane, D - column, y + column);
            }
        }
    }
}

dd_status KERNEL(sample3d)(dd_exec *exec, const void *args)
{
    const dd_op_sample3d *op = args;
    cloud_job job = cloud_job_of(op);
    cpu_parallel_for(exec->threads, (int64_t)op->B * op->N * op->G, cloud_group, &job);
    return DD_OK;
}

/* ---- Gradient: a task for each image and group, so that one thread alone adds to a value's gradient, in the points' order. */

/* The sum of dot[l][c][i] is <g, corner c of point i on level l>. Too much for a small stack. */
typedef vf cloud_dots[4][VW];

/* `width` columns of point i: adds to the gradients of values, if any, and to the products. */
INLINE void cloud_point_back(const cloud_job *job, const cloud_block *k, const float *values, float *sums, const float *g_y,
                             int64_t i, int64_t width, bool begins, cloud_dots *dot)
{
    vf g[CLOUD_VECTORS];
    for (int v = 0; v < CLOUD_VECTORS; v++) {
        g[v] = v * VW < width ? v_load_n(g_y + v * VW, width - v * VW) : v_zero();
    }
    for (int32_t l = 0; l < job->op->L; l++) {
        for (int c = 0; c < 4; c++) {
            vf sum = begins ? v_zero() : dot[l][c][i];
            if (k->level[l].exists[c] >> i & 1) {
                const int64_t corner = cloud_corner(job, k, l, i, c);
                const vf weight = v_set(k->level[l].part[c][i]);
                for (int v = 0; v < CLOUD_VECTORS && v * VW < width; v++) {
                    const int64_t n = width - v * VW;
                    sum = v_fma(g[v], v_load_n(values + corner + v * VW, n), sum);
                    if (sums) {
                        float *to = sums + corner + v * VW;
                        v_store_n(to, v_fma(weight, g[v], v_load_n(to, n)), n);
                    }
                }
            }
            dot[l][c][i] = sum;
        }
    }
}

/* Gradients of a block's offsets: three vectors. */
INLINE void cloud_offsets_back(const cloud_job *job, const cloud_block *k, cloud_dots *dot, vf by[3])
{
    const dd_op_sample3d *op = job->op;
    vf x = v_zero(), y = v_zero(), mean = v_zero(), slope[8];
    for (int32_t l = 0; l < op->L; l++) {
        slope[l] = vd_round(vd_mul(vd_sub(vd_all(job->centre[l]), k->z), vd_all(2 / op->tau)));
        mean = v_fma(k->level[l].share, slope[l], mean);
    }
    by[2] = v_zero();
    for (int32_t l = 0; l < op->L; l++) {
        const cloud_level *at = &k->level[l];
        const vf corner[4] = {v_sums(dot[l][0]), v_sums(dot[l][1]), v_sums(dot[l][2]), v_sums(dot[l][3])};
        const vf step_top = v_sub(corner[1], corner[0]), step_bottom = v_sub(corner[3], corner[2]);
        const vf top = v_fma(at->lx, step_top, corner[0]), bottom = v_fma(at->lx, step_bottom, corner[2]);
        const vf drop = v_sub(bottom, top), scaled = v_mul(at->share, v_set((float)job->cells_by_pixel[l]));
        x = v_fma(scaled, v_fma(at->ly, v_sub(step_bottom, step_top), step_top), x);
        y = v_fma(scaled, drop, y);
        by[2] = v_fma(v_mul(at->share, v_fma(at->ly, drop, top)), v_sub(slope[l], mean), by[2]);
    }
    by[0] = vd_round(vd_mul(vd_from(x), vd_all(k->side[0])));
    by[1] = vd_round(vd_mul(vd_from(y), vd_all(k->side[1])));
}

static void cloud_put_offsets(const dd_op_sample3d *op, int64_t first, int64_t n, const vf by[3])
{
    float lanes[3][VW], *to = (float *)op->g_off + 3 * first;
    for (int axis = 0; axis < 3; axis++) {
        v_store(lanes[axis], by[axis]);
    }
    for (int64_t i = 0; i < 3 * n; i++) {
        to[i] = lanes[i % 3][i / 3] + (op->add & 2 ? to[i] : 0);
    }
}

/* A group of a query. */
static void cloud_group_back(const cloud_job *job, int64_t query, int64_t group, cloud_dots *dot)
{
    const dd_op_sample3d *op = job->op;
    const int64_t D = op->D, from = query / op->N * op->S * job->ld + group * D;
    const float *values = (const float *)op->value + from;
    float *sums = op->g_value ? (float *)op->g_value + from : NULL;
    for (int64_t p = 0; p < op->P; p += VW) {
        const int64_t first = (query * op->G + group) * op->P + p, n = minimum(VW, op->P - p);
        cloud_block k;
        vf by[3];
        cloud_place(job, query, (const float *)op->off + 3 * first, n, &k);
        for (int64_t i = 0; i < VW; i++) { /* lanes beyond n have no corners */
            const float *g_y = (const float *)op->g_y + (first + minimum(i, n - 1)) * D;
            int64_t column = 0;
            for (; column + CLOUD_COLUMNS <= D; column += CLOUD_COLUMNS) {
                float *to = sums ? sums + column : NULL;
                cloud_point_back(job, &k, values + column, to, g_y + column, i, CLOUD_COLUMNS, column == 0, dot);
            }
            if (column < D) {
                float *to = sums ? sums + column : NULL;
                cloud_point_back(job, &k, values + column, to, g_y + column, i, D - column, column == 0, dot);
            }
        }
        if (op->g_off) {
            cloud_offsets_back(job, &k, dot, by);
            cloud_put_offsets(op, first, n, by);
        }
    }
}

static void cloud_task(void *arg, int64_t i)
{
    const cloud_job *job = arg;
    const int64_t N = job->op->N, b = i / job->op->G;
    for (int64_t n = 0; n < N; n++) {
        cloud_group_back(job, b * N + n, i % job->op->G, (cloud_dots *)(void *)job->dots + i * job->op->L);
    }
}

static void cloud_zero(void *arg, int64_t piece)
{
    const dd_op_sample3d *op = ((const cloud_job *)arg)->op;
    const int64_t begin = piece * CLOUD_ZEROS, count = (int64_t)op->B * op->S * op->G * op->D;
    memset((float *)op->g_value + begin, 0, (size_t)minimum(CLOUD_ZEROS, count - begin) * sizeof(float));
}

dd_status KERNEL(sample3d_grad)(dd_exec *exec, const void *args)
{
    const dd_op_sample3d *op = args;
    cloud_job job = cloud_job_of(op);
    job.dots = exec->scratch(exec, (size_t)((int64_t)op->B * op->G * op->L + 1) * sizeof(cloud_dots));
    if (!job.dots) {
        return DD_ERR_NOMEM;
    }
    if (op->g_value && !(op->add & 1)) {
        const int64_t count = (int64_t)op->B * op->S * op->G * op->D;
        cpu_parallel_for(exec->threads, cpu_pieces(count, CLOUD_ZEROS), cloud_zero, &job);
    }
    cpu_parallel_for(exec->threads, (int64_t)op->B * op->G, cloud_task, &job);
    return DD_OK;
}
