/* SPDX-License-Identifier: Apache-2.0
 * Geometry of boxes for the reference kernels: corners, L1, IoU, GIoU and the gradients (distillation, primitive 4;
 * subgradients as in golden DECISION 12). */
#ifndef DDI_REF_BOX_H
#define DDI_REF_BOX_H

#include "backend/ref/real.h"

/* (x0, y0, x1, y1) */
typedef struct ref_box {
    real edge[4];
} ref_box;

/* Overlap I, guarded union U and guarded enclosing area E of two boxes, with what their gradients need. */
typedef struct ref_overlap {
    real side[2]; /* of the overlap, before max(0, .) */
    real hull[2]; /* sides of the enclosing box */
    real inter, uni, enclosing;
    int union_free, enclosing_free; /* not held by its guard */
} ref_overlap;

/* Corners of (cx, cy, w, h), times `size` (W, H), or as they are if size is NULL. */
static inline ref_box ref_corners(const real *centre, const real *size)
{
    ref_box box;
    for (int a = 0; a < 2; a++) {
        const real scale = size ? size[a] : 1, half = centre[2 + a] / 2;
        box.edge[a] = (centre[a] - half) * scale;
        box.edge[2 + a] = (centre[a] + half) * scale;
    }
    return box;
}

static inline real ref_area(const ref_box *box)
{
    return (box->edge[2] - box->edge[0]) * (box->edge[3] - box->edge[1]);
}

static inline ref_overlap ref_overlap_of(const ref_box *a, const ref_box *b, real guard)
{
    ref_overlap o;
    for (int i = 0; i < 2; i++) {
        o.side[i] = ddi_ref_min(a->edge[2 + i], b->edge[2 + i]) - ddi_ref_max(a->edge[i], b->edge[i]);
        o.hull[i] = ddi_ref_max(a->edge[2 + i], b->edge[2 + i]) - ddi_ref_min(a->edge[i], b->edge[i]);
    }
    o.inter = ddi_ref_max(o.side[0], 0) * ddi_ref_max(o.side[1], 0);
    const real uni = ref_area(a) + ref_area(b) - o.inter, enclosing = o.hull[0] * o.hull[1];
    o.union_free = uni >= guard;
    o.enclosing_free = enclosing >= guard;
    o.uni = o.union_free ? uni : guard;
    o.enclosing = o.enclosing_free ? enclosing : guard;
    return o;
}

static inline real ref_iou(const ref_box *a, const ref_box *b, real guard)
{
    const ref_overlap o = ref_overlap_of(a, b, guard);
    return o.inter / o.uni;
}

/* IoU - (E - U) / E */
static inline real ref_giou(const ref_box *a, const ref_box *b, real guard)
{
    const ref_overlap o = ref_overlap_of(a, b, guard);
    return o.inter / o.uni - (o.enclosing - o.uni) / o.enclosing;
}

/* 1 where x > y, half where they tie. */
static inline real ref_share(real x, real y)
{
    return x > y ? (real)1 : x == y ? (real)0.5 : (real)0;
}

/* d giou(a, b) / d edges of a. With giou = I/U - 1 + U/E:  d/dI = 1/U,  d/dU = 1/E - I/U^2,  d/dE = -U/E^2,
 * U = area(a) + area(b) - I. */
static inline ref_box ref_giou_gradient(const ref_box *a, const ref_box *b, real guard)
{
    const ref_overlap o = ref_overlap_of(a, b, guard);
    const real d_union = o.union_free ? 1 / o.enclosing - o.inter / o.uni / o.uni : 0;
    const real d_enclosing = o.enclosing_free ? -o.uni / o.enclosing / o.enclosing : 0;
    const real d_inter = 1 / o.uni - d_union;
    ref_box g;
    for (int i = 0; i < 2; i++) {
        const int other = 1 - i;
        const real d_extent = d_union * (a->edge[2 + other] - a->edge[other]);
        const real d_side = o.side[i] >= 0 ? d_inter * ddi_ref_max(o.side[other], 0) : 0;
        const real d_hull = d_enclosing * o.hull[other];
        g.edge[2 + i] =
            d_extent + d_side * ref_share(b->edge[2 + i], a->edge[2 + i]) + d_hull * ref_share(a->edge[2 + i], b->edge[2 + i]);
        g.edge[i] = -(d_extent + d_side * ref_share(a->edge[i], b->edge[i]) + d_hull * ref_share(b->edge[i], a->edge[i]));
    }
    return g;
}

/* Adds `factor` times a gradient by edges to one by (cx, cy, w, h); edges are the corners times size. */
static inline void ref_add_corner_gradient(real *g_centre, const ref_box *g, const real *size, real factor)
{
    for (int a = 0; a < 2; a++) {
        const real scale = factor * (size ? size[a] : 1);
        g_centre[a] += scale * (g->edge[a] + g->edge[2 + a]);
        g_centre[2 + a] += scale * (g->edge[2 + a] - g->edge[a]) / 2;
    }
}

/* |a - b| summed over the four numbers of two (cx, cy, w, h), or of their corners. */
static inline real ref_l1(const real *a, const real *b, int corners)
{
    real sum = 0;
    const ref_box box_a = ref_corners(a, NULL), box_b = ref_corners(b, NULL);
    const real *x = corners ? box_a.edge : a, *y = corners ? box_b.edge : b;
    for (int i = 0; i < 4; i++) {
        sum += x[i] > y[i] ? x[i] - y[i] : y[i] - x[i];
    }
    return sum;
}

/* Adds `factor` times d ref_l1 / d a. */
static inline void ref_add_l1_gradient(real *g_centre, const real *a, const real *b, int corners, real factor)
{
    const ref_box box_a = ref_corners(a, NULL), box_b = ref_corners(b, NULL);
    const real *x = corners ? box_a.edge : a, *y = corners ? box_b.edge : b;
    ref_box sign;
    for (int i = 0; i < 4; i++) {
        sign.edge[i] = (real)((x[i] > y[i]) - (x[i] < y[i]));
    }
    if (corners) {
        ref_add_corner_gradient(g_centre, &sign, NULL, factor);
        return;
    }
    for (int i = 0; i < 4; i++) {
        g_centre[i] += factor * sign.edge[i];
    }
}

#endif
