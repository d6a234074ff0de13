/* SPDX-License-Identifier: Apache-2.0
 * Matching inside one image and class: each detection, best score first, takes the free object of the highest IoU. */
#include "base/alloc.h"
#include "base/error.h"
#include "eval/coco.h"
#include <string.h>

/* An object or detection outside the range is ignored: neither right nor wrong. Both ends belong to the range. */
static const double area_range[DDI_COCO_AREAS][2] = {{0, 1e10}, {0, 32 * 32}, {32 * 32, 96 * 96}, {96 * 96, 1e10}};

dd_status ddi_coco_scratch_init(ddi_coco_scratch *scratch, int32_t objects)
{
    size_t count = (size_t)objects;
    *scratch = (ddi_coco_scratch){.iou = ddi_alloc(NULL, count * DDI_COCO_DETECTIONS * sizeof(double)),
                                  .order = ddi_alloc(NULL, count * sizeof(int32_t)),
                                  .ignored = ddi_alloc(NULL, count),
                                  .taken = ddi_alloc(NULL, count)};
    if (scratch->iou && scratch->order && scratch->ignored && scratch->taken)
        return DD_OK;
    ddi_coco_scratch_free(scratch);
    return ddi_fail_nomem(count * (DDI_COCO_DETECTIONS * sizeof(double) + 6), "matching of detections");
}

void ddi_coco_scratch_free(ddi_coco_scratch *scratch)
{
    ddi_free(NULL, scratch->iou);
    ddi_free(NULL, scratch->order);
    ddi_free(NULL, scratch->ignored);
    ddi_free(NULL, scratch->taken);
    *scratch = (ddi_coco_scratch){NULL, NULL, NULL, NULL};
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* IoU of (x,y,w,h) boxes; against a crowd the union is the detection alone. */
static double box_iou(const double *d, const double *g, bool crowd)
{
    double w = smaller(d[0] + d[2], g[0] + g[2]) - larger(d[0], g[0]);
    double h = smaller(d[1] + d[3], g[1] + g[3]) - larger(d[1], g[1]);
    if (w <= 0 || h <= 0)
        return 0;
    double both = w * h, detection = d[2] * d[3], object = g[2] * g[3];
    return both / (crowd ? detection : detection + object - both);
}

static bool outside(double area, const double range[2])
{
    return area < range[0] || area > range[1];
}

/* The object that detection row `iou` takes at a threshold, or -1. Objects that count come first in `order`: once one of
 * them is good enough, an ignored one is not looked at; a crowd may be taken many times. */
static int32_t best_object(const double *iou, double threshold, const ddi_coco_object *object, int32_t objects,
                           const ddi_coco_scratch *scratch)
{
    double best = smaller(threshold, 1 - 1e-10);
    int32_t found = -1;
    for (int32_t i = 0; i < objects; i++) {
        int32_t g = scratch->order[i];
        if (scratch->taken[g] && !object[g].crowd)
            continue;
        if (found >= 0 && !scratch->ignored[found] && scratch->ignored[g])
            break;
        if (iou[g] < best)
            continue;
        best = iou[g];
        found = g;
    }
    return found;
}

/* Which objects are ignored in an area range, and the order that follows; returns how many count. */
static int32_t order_objects(const ddi_coco_object *object, int32_t objects, const double range[2], ddi_coco_scratch *scratch)
{
    int32_t counted = 0, placed = 0;
    for (int32_t g = 0; g < objects; g++) {
        scratch->ignored[g] = object[g].crowd || outside(object[g].area, range);
        counted += !scratch->ignored[g];
    }
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t g = 0; g < objects; g++) {
            if (scratch->ignored[g] == (pass == 1))
                scratch->order[placed++] = g;
        }
    }
    return counted;
}

static void match_area(int area, const ddi_coco_object *object, int32_t objects, const ddi_coco_detection *detection,
                       int32_t detections, ddi_coco_scratch *scratch, ddi_coco_scored *scored)
{
    for (int t = 0; t < DDI_COCO_THRESHOLDS; t++) {
        double threshold = t == DDI_COCO_THRESHOLDS - 1 ? .95 : .5 + t * ((.95 - .5) / 9); /* numpy.linspace(.5, .95, 10) */
        memset(scratch->taken, 0, (size_t)objects);
        for (int32_t d = 0; d < detections; d++) {
            int32_t g = best_object(scratch->iou + (int64_t)d * objects, threshold, object, objects, scratch);
            if (g < 0)
                continue;
            scratch->taken[g] = true;
            scored[d].matched[area] |= (uint16_t)(1u << t);
            if (scratch->ignored[g])
                scored[d].ignored[area] |= (uint16_t)(1u << t);
        }
    }
    for (int32_t d = 0; d < detections; d++) {
        if (outside(detection[d].box[2] * detection[d].box[3], area_range[area]))
            scored[d].ignored[area] |= (uint16_t)~scored[d].matched[area];
    }
}

void ddi_coco_match(const ddi_coco_object *object, int32_t objects, const ddi_coco_detection *detection, int32_t detections,
                    ddi_coco_scratch *scratch, ddi_coco_scored *scored, int64_t counted[DDI_COCO_AREAS])
{
    for (int32_t d = 0; d < detections; d++) {
        scored[d] = (ddi_coco_scored){.score = detection[d].score, .rank = d};
        for (int32_t g = 0; g < objects; g++)
            scratch->iou[(int64_t)d * objects + g] = box_iou(detection[d].box, object[g].box, object[g].crowd);
    }
    for (int area = 0; area < DDI_COCO_AREAS; area++) {
        counted[area] += order_objects(object, objects, area_range[area], scratch);
        match_area(area, object, objects, detection, detections, scratch, scored);
    }
}
