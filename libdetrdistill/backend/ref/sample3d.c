/* SPDX-License-Identifier: Apache-2.0
 * Sampling of a pyramid of maps (detectors.md 4.3 step 3). */
#include "backend/ref/xyzr.h"

/* A point of a query's group on one level. */
typedef struct reading {
    int64_t corner[4]; /* rows of value, upper left first; -1: outside */
    double part[4];    /* bilinear weights */
    double lx, ly, weight;
    double slope; /* d (exponent of the softmax) / d z */
} reading;

typedef struct point {
    const dd_op_sample3d *op;
    int64_t at;     /* which of [B,N,G,P] */
    int64_t b;      /* image */
    int32_t g;      /* group */
    double side[2]; /* of the query's box */
    double x, y, z;
} point;

static point point_of(const dd_op_sample3d *op, int64_t at)
{
    const int64_t query = at / op->P / op->G;
    const real *position = (const real *)op->position + 4 * query, *off = (const real *)op->off + 3 * at;
    point p = {.op = op, .at = at, .b = query / op->N, .g = (int32_t)(at / op->P % op->G)};
    p.side[0] = ddi_xyzr_side(position, 0);
    p.side[1] = ddi_xyzr_side(position, 1);
    p.x = (double)position[0] + (double)off[0] * p.side[0];
    p.y = (double)position[1] + (double)off[1] * p.side[1];
    p.z = (double)position[2] + (double)off[2];
    return p;
}

static int64_t corner_at(const point *p, int32_t level, double x, double y)
{
    const dd_op_sample3d *op = p->op;
    int64_t first = p->b * op->S;
    if (!(x >= 0 && y >= 0 && x < op->width[level] && y < op->height[level])) {
        return -1;
    }
    for (int32_t l = 0; l < level; l++) {
        first += (int64_t)op->height[l] * op->width[l];
    }
    return first + (int64_t)y * op->width[level] + (int64_t)x;
}

/* The point on every level. */
static void read_levels(const point *p, reading *r)
{
    const dd_op_sample3d *op = p->op;
    double highest = -INFINITY, sum = 0;
    for (int32_t l = 0; l < op->L; l++) {
        const double x = p->x / op->stride[l] - 0.5, y = p->y / op->stride[l] - 0.5, x0 = floor(x), y0 = floor(y);
        const double above = p->z - ddi_log(op->stride[l]) / (DDI_LN2_HIGH + DDI_LN2_LOW);
        r[l].lx = x - x0;
        r[l].ly = y - y0;
        for (int32_t k = 0; k < 4; k++) {
            r[l].corner[k] = corner_at(p, l, x0 + k % 2, y0 + k / 2);
            r[l].part[k] = (k % 2 ? r[l].lx : 1 - r[l].lx) * (k / 2 ? r[l].ly : 1 - r[l].ly);
        }
        r[l].slope = -2 * above / op->tau;
        r[l].weight = -above * above / op->tau;
        highest = r[l].weight > highest ? r[l].weight : highest;
    }
    for (int32_t l = 0; l < op->L; l++) {
        r[l].weight = ddi_exp(r[l].weight - highest);
        sum += r[l].weight;
    }
    for (int32_t l = 0; l < op->L; l++) {
        r[l].weight /= sum;
    }
}

/* Element of a corner's row where the group's channels begin. */
static int64_t channels_at(const point *p, int64_t corner)
{
    return (corner * p->op->G + p->g) * p->op->D;
}

static void put(void *to, int64_t at, double value, int32_t add)
{
    if (to) {
        real *y = (real *)to + at;
        *y = (real)(value + (add ? (double)*y : 0));
    }
}

dd_status REF(sample3d)(dd_exec *exec, const void *args)
{
    const dd_op_sample3d *op = args;
    reading r[8];
    for (int64_t at = 0; at < (int64_t)op->B * op->N * op->G * op->P; at++) {
        const point p = point_of(op, at);
        read_levels(&p, r);
        for (int32_t c = 0; c < op->D; c++) {
            double sum = 0;
            for (int32_t k = 0; k < 4 * op->L; k++) {
                const reading *of = &r[k / 4];
                if (of->corner[k % 4] >= 0) {
                    const real *v = (const real *)op->value + channels_at(&p, of->corner[k % 4]);
                    sum += of->weight * of->part[k % 4] * (double)v[c];
                }
            }
            ((real *)op->y)[at * op->D + c] = (real)sum;
        }
    }
    return DD_OK;
}

/* Adds to the values' gradients; <g, what was read>, and its slopes along both axes, in cells. */
static void level_back(const point *p, const reading *r, double *g_value, double by[3])
{
    const dd_op_sample3d *op = p->op;
    const real *g = (const real *)op->g_y + p->at * op->D;
    double dot[4] = {0};
    for (int32_t k = 0; k < 4; k++) {
        for (int32_t c = 0; r->corner[k] >= 0 && c < op->D; c++) {
            const int64_t at = channels_at(p, r->corner[k]) + c;
            dot[k] += (double)g[c] * (double)((const real *)op->value)[at];
            g_value[at] += r->weight * r->part[k] * (double)g[c];
        }
    }
    by[0] = (1 - r->ly) * (dot[1] - dot[0]) + r->ly * (dot[3] - dot[2]);
    by[1] = (1 - r->lx) * (dot[2] - dot[0]) + r->lx * (dot[3] - dot[1]);
    by[2] = r->part[0] * dot[0] + r->part[1] * dot[1] + r->part[2] * dot[2] + r->part[3] * dot[3];
}

static void point_back(const point *p, double *g_value)
{
    const dd_op_sample3d *op = p->op;
    reading r[8];
    double by[3], x = 0, y = 0, z = 0, mean = 0;
    read_levels(p, r);
    for (int32_t l = 0; l < op->L; l++) {
        mean += r[l].weight * r[l].slope;
    }
    for (int32_t l = 0; l < op->L; l++) {
        level_back(p, &r[l], g_value, by);
        x += r[l].weight * by[0] / op->stride[l];
        y += r[l].weight * by[1] / op->stride[l];
        z += r[l].weight * by[2] * (r[l].slope - mean);
    }
    put(op->g_off, 3 * p->at, x * p->side[0], op->add & 2);
    put(op->g_off, 3 * p->at + 1, y * p->side[1], op->add & 2);
    put(op->g_off, 3 * p->at + 2, z, op->add & 2);
}

dd_status REF(sample3d_grad)(dd_exec *exec, const void *args)
{
    const dd_op_sample3d *op = args;
    const int64_t values = (int64_t)op->B * op->S * op->G * op->D;
    double *g_value = ddi_ref_scratch(exec, values, sizeof *g_value);
    if (!g_value) {
        return DD_ERR_NOMEM;
    }
    for (int64_t i = 0; i < values; i++) {
        g_value[i] = 0;
    }
    for (int64_t at = 0; at < (int64_t)op->B * op->N * op->G * op->P; at++) {
        const point p = point_of(op, at);
        point_back(&p, g_value);
    }
    for (int64_t i = 0; i < values; i++) {
        put(op->g_value, i, g_value[i], op->add & 1);
    }
    return DD_OK;
}
