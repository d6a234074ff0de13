/* SPDX-License-Identifier: Apache-2.0
 * Boxes: corners, L1, IoU and GIoU with their subgradients (golden README, decisions 2 and 12). All in double: differences of
 * corners lose digits in f32 where a box is small and far from the origin. */
#ifndef DDC_BOX_CUH
#define DDC_BOX_CUH

#include "platform.cuh"

struct corners {
    double x1, y1, x2, y2;
};

struct centre {
    double x, y, w, h;
};

template <class T> __device__ inline centre load_centre(const T *box)
{
    return {(double)box[0], (double)box[1], (double)box[2], (double)box[3]};
}

template <class T> __device__ inline corners load_corners(const T *box)
{
    return {(double)box[0], (double)box[1], (double)box[2], (double)box[3]};
}

/* Corners of a cxcywh box, times (width, height). */
__device__ inline corners to_corners(centre box, double width, double height)
{
    return {(box.x - 0.5 * box.w) * width, (box.y - 0.5 * box.h) * height, (box.x + 0.5 * box.w) * width,
            (box.y + 0.5 * box.h) * height};
}

__device__ inline double positive(double x)
{
    return x > 0 ? x : 0;
}

__device__ inline double area(corners a)
{
    return (a.x2 - a.x1) * (a.y2 - a.y1);
}

__device__ inline double overlap(corners a, corners b)
{
    return positive(fmin(a.x2, b.x2) - fmax(a.x1, b.x1)) * positive(fmin(a.y2, b.y2) - fmax(a.y1, b.y1));
}

__device__ inline double iou(corners a, corners b, double eps)
{
    double both = overlap(a, b);
    return both / fmax(area(a) + area(b) - both, eps);
}

/* IoU - (E - U)/E with U = max(union, eps), E = max(enclosing area, eps) */
__device__ inline double giou(corners a, corners b, double eps)
{
    double both = overlap(a, b);
    double u = fmax(area(a) + area(b) - both, eps);
    double e = fmax((fmax(a.x2, b.x2) - fmin(a.x1, b.x1)) * (fmax(a.y2, b.y2) - fmin(a.y1, b.y1)), eps);
    return both / u - (e - u) / e;
}

/* d max(a, b) / da, half where they tie; d min(a, b) / da = share_of_max(b, a). */
__device__ inline double share_of_max(double a, double b)
{
    return a > b ? 1 : a == b ? 0.5 : 0;
}

/* giou(a, b) and its derivative by the corners of a. */
__device__ inline double giou_gradient(corners a, corners b, double eps, corners *gradient)
{
    double side_x = fmin(a.x2, b.x2) - fmax(a.x1, b.x1), side_y = fmin(a.y2, b.y2) - fmax(a.y1, b.y1);
    double both = positive(side_x) * positive(side_y);
    double out_x = fmax(a.x2, b.x2) - fmin(a.x1, b.x1), out_y = fmax(a.y2, b.y2) - fmin(a.y1, b.y1);
    double u_free = area(a) + area(b) - both, e_free = out_x * out_y;
    double u = fmax(u_free, eps), e = fmax(e_free, eps);

    double g_u = u_free >= eps ? 1 / e - both / (u * u) : 0;
    double g_e = e_free >= eps ? -u / (e * e) : 0;
    double g_both = 1 / u - g_u, g_area = g_u;
    double g_side_x = side_x >= 0 ? g_both * positive(side_y) : 0, g_side_y = side_y >= 0 ? g_both * positive(side_x) : 0;
    double g_out_x = g_e * out_y, g_out_y = g_e * out_x;
    double g_w = g_area * (a.y2 - a.y1), g_h = g_area * (a.x2 - a.x1);

    gradient->x1 = -g_side_x * share_of_max(a.x1, b.x1) - g_out_x * share_of_max(b.x1, a.x1) - g_w;
    gradient->y1 = -g_side_y * share_of_max(a.y1, b.y1) - g_out_y * share_of_max(b.y1, a.y1) - g_h;
    gradient->x2 = g_side_x * share_of_max(b.x2, a.x2) + g_out_x * share_of_max(a.x2, b.x2) + g_w;
    gradient->y2 = g_side_y * share_of_max(b.y2, a.y2) + g_out_y * share_of_max(a.y2, b.y2) + g_h;
    return both / u - (e - u) / e;
}

__device__ inline double sign(double x)
{
    return x > 0 ? 1 : x < 0 ? -1 : 0;
}

/* |a - b| in centre form, or of the normalised corners. */
__device__ inline double l1_distance(centre a, centre b, bool of_corners)
{
    if (!of_corners)
        return fabs(a.x - b.x) + fabs(a.y - b.y) + fabs(a.w - b.w) + fabs(a.h - b.h);
    corners p = to_corners(a, 1, 1), q = to_corners(b, 1, 1);
    return fabs(p.x1 - q.x1) + fabs(p.y1 - q.y1) + fabs(p.x2 - q.x2) + fabs(p.y2 - q.y2);
}

/* What one matched box adds to a loss: L1, 1 - GIoU, and the derivative of scale_l1*L1 + scale_giou*(1-GIoU) by the centre
 * form. */
struct box_loss {
    double l1, one_minus_giou;
    centre gradient;
};

/* Derivatives by corners, to the centre form of a box whose corners were multiplied by (width, height). */
__device__ inline void add_corner_gradient(centre *sum, corners g, double width, double height)
{
    sum->x += (g.x1 + g.x2) * width;
    sum->y += (g.y1 + g.y2) * height;
    sum->w += 0.5 * (g.x2 - g.x1) * width;
    sum->h += 0.5 * (g.y2 - g.y1) * height;
}

/* `target` in centre form for L1, `target_corners` in GIoU's space. */
__device__ inline box_loss box_loss_of(centre box, centre target, corners target_corners, bool l1_xyxy, double width,
                                       double height, double eps, double scale_l1, double scale_giou)
{
    box_loss loss;
    corners g;
    loss.one_minus_giou = 1 - giou_gradient(to_corners(box, width, height), target_corners, eps, &g);
    loss.l1 = l1_distance(box, target, l1_xyxy);
    loss.gradient = {0, 0, 0, 0};
    g = {-scale_giou * g.x1, -scale_giou * g.y1, -scale_giou * g.x2, -scale_giou * g.y2};
    add_corner_gradient(&loss.gradient, g, width, height);
    if (l1_xyxy) {
        corners p = to_corners(box, 1, 1), q = to_corners(target, 1, 1);
        g = {scale_l1 * sign(p.x1 - q.x1), scale_l1 * sign(p.y1 - q.y1), scale_l1 * sign(p.x2 - q.x2),
             scale_l1 * sign(p.y2 - q.y2)};
        add_corner_gradient(&loss.gradient, g, 1, 1);
    } else {
        loss.gradient.x += scale_l1 * sign(box.x - target.x);
        loss.gradient.y += scale_l1 * sign(box.y - target.y);
        loss.gradient.w += scale_l1 * sign(box.w - target.w);
        loss.gradient.h += scale_l1 * sign(box.h - target.h);
    }
    return loss;
}

#endif
