/* SPDX-License-Identifier: Apache-2.0
 * Boxes of the losses, in double: matched pairs are few, and in float the overlap of a small box far from the origin loses
 * half of its digits. Subgradients: golden DECISION 12. */
#ifndef DDI_CPU_BOX_H
#define DDI_CPU_BOX_H

typedef struct corner_box {
    double low[2], high[2];
} corner_box;

/* Corners of (cx, cy, w, h) times size (W, H); NULL: as they are. */
static inline corner_box corners_of(const float *y, const float *size)
{
    corner_box box;
    for (int a = 0; a < 2; a++) {
        const double unit = size ? size[a] : 1, half = 0.5 * y[2 + a];
        box.low[a] = (y[a] - half) * unit;
        box.high[a] = (y[a] + half) * unit;
    }
    return box;
}

static inline corner_box corners_from(const float *xyxy)
{
    return (corner_box){{xyxy[0], xyxy[1]}, {xyxy[2], xyxy[3]}};
}

static inline double larger(double a, double b)
{
    return a > b ? a : b;
}

static inline double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* 1 where x > y, 1/2 where they tie */
static inline double share_of_larger(double x, double y)
{
    return x > y ? 1 : x == y ? 0.5 : 0;
}

typedef struct box_pair {
    double overlap[2], hull[2]; /* sides; overlap before max(0, .) */
    double extent[2];           /* of the first box */
    double inter, uni, enclosing;
    int uni_guarded, enclosing_guarded;
} box_pair;

static inline box_pair pair_of(const corner_box *a, const corner_box *b, double guard)
{
    box_pair p;
    double area_b = 1;
    for (int i = 0; i < 2; i++) {
        p.overlap[i] = smaller(a->high[i], b->high[i]) - larger(a->low[i], b->low[i]);
        p.hull[i] = larger(a->high[i], b->high[i]) - smaller(a->low[i], b->low[i]);
        p.extent[i] = a->high[i] - a->low[i];
        area_b *= b->high[i] - b->low[i];
    }
    p.inter = larger(p.overlap[0], 0) * larger(p.overlap[1], 0);
    p.uni = p.extent[0] * p.extent[1] + area_b - p.inter;
    p.enclosing = p.hull[0] * p.hull[1];
    p.uni_guarded = !(p.uni >= guard);
    p.enclosing_guarded = !(p.enclosing >= guard);
    p.uni = p.uni_guarded ? guard : p.uni;
    p.enclosing = p.enclosing_guarded ? guard : p.enclosing;
    return p;
}

static inline double iou_of_pair(const box_pair *p)
{
    return p->inter / p->uni;
}

static inline double giou_of_pair(const box_pair *p)
{
    return p->inter / p->uni - (p->enclosing - p->uni) / p->enclosing;
}

/* g[4] += factor * d giou / d (cx, cy, w, h) of the first box, whose corners are its own times size.
 * giou = I/U - 1 + U/E with U = A + A_b - I. */
static inline void add_giou_gradient(const box_pair *p, const corner_box *a, const corner_box *b, const float *size,
                                     double factor, double *g)
{
    const double by_uni = p->uni_guarded ? 0 : 1 / p->enclosing - p->inter / (p->uni * p->uni);
    const double by_enclosing = p->enclosing_guarded ? 0 : -p->uni / (p->enclosing * p->enclosing);
    const double by_inter = 1 / p->uni - by_uni;
    for (int i = 0; i < 2; i++) {
        const double by_extent = by_uni * p->extent[1 - i], by_hull = by_enclosing * p->hull[1 - i];
        const double by_overlap = p->overlap[i] >= 0 ? by_inter * larger(p->overlap[1 - i], 0) : 0;
        const double by_high = by_extent + by_overlap * share_of_larger(b->high[i], a->high[i]) +
                               by_hull * share_of_larger(a->high[i], b->high[i]);
        const double by_low =
            -(by_extent + by_overlap * share_of_larger(a->low[i], b->low[i]) + by_hull * share_of_larger(b->low[i], a->low[i]));
        const double unit = factor * (size ? size[i] : 1);
        g[i] += unit * (by_low + by_high);
        g[2 + i] += unit * (by_high - by_low) / 2;
    }
}

static inline double sign_of(double x)
{
    return (double)((x > 0) - (x < 0));
}

/* L1 distance of (cx, cy, w, h), or of their corners; g[4] += factor * its derivative by y. */
static inline double l1_with_gradient(const float *y, const float *target, int edges, double factor, double *g)
{
    double sum = 0;
    for (int i = 0; i < 2; i++) {
        const double centre = (double)y[i] - target[i], extent = (double)y[2 + i] - target[2 + i];
        if (edges) {
            const double low = centre - extent / 2, high = centre + extent / 2;
            sum += larger(low, -low) + larger(high, -high);
            g[i] += factor * (sign_of(low) + sign_of(high));
            g[2 + i] += factor * (sign_of(high) - sign_of(low)) / 2;
        } else {
            sum += larger(centre, -centre) + larger(extent, -extent);
            g[i] += factor * sign_of(centre);
            g[2 + i] += factor * sign_of(extent);
        }
    }
    return sum;
}

#endif
