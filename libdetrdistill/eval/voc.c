/* SPDX-License-Identifier: Apache-2.0
 * Average precision by the rules of the Pascal VOC development kit (Everingham et al., IJCV 2010, section 4.2). */
#include "base/alloc.h"
#include "base/error.h"
#include "base/handle.h"
#include "base/options.h"
#include "eval/coco.h"

#include <math.h>
#include <stdlib.h>

typedef struct voc_settings {
    double iou;
    int32_t all_points;
    int64_t plus_one;
} voc_settings;

static const ddi_option options[] = {
    {"iou", DDI_REAL, offsetof(voc_settings, iou), 0.01, 1, "0.5", NULL, "overlap from which a detection is right"},
    {"points", DDI_CHOICE, offsetof(voc_settings, all_points), 0, 0, "11", "11|all",
     "precision at eleven recalls (2007), or the area under the curve (since 2010)"},
    {"plus_one", DDI_INT, offsetof(voc_settings, plus_one), 0, 1, "0", NULL, "1: sides are one pixel longer, as in the kit"},
};
static const ddi_option_table option_table = {"voc evaluation", options, sizeof options / sizeof options[0]};

/* A detection of the class at hand. */
typedef struct ranked {
    double score;
    int32_t at, sequence;
    bool counts, right;
} ranked;

typedef struct voc_work {
    const dd_eval *eval;
    const voc_settings *settings;
    ranked *ranked;
    double *precision, *recall;
    bool *taken; /* by object */
} voc_work;

static double overlap(const double *a, const double *b, double more)
{
    const double w = fmin(a[0] + a[2], b[0] + b[2]) - fmax(a[0], b[0]) + more;
    const double h = fmin(a[1] + a[3], b[1] + b[3]) - fmax(a[1], b[1]) + more;
    if (w <= 0 || h <= 0) {
        return 0;
    }
    return w * h / ((a[2] + more) * (a[3] + more) + (b[2] + more) * (b[3] + more) - w * h);
}

static int by_score(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    const int order = (x->score < y->score) - (x->score > y->score);
    return order ? order : (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

/* First object at or after o (of those before `end`, sorted by image) whose image is not below `image`. */
static int32_t first_of_image(const dd_eval *eval, int32_t o, int32_t end, int64_t image)
{
    while (o < end) {
        const int32_t middle = o + (end - o) / 2;
        if (eval->object[middle].image < image) {
            o = middle + 1;
        } else {
            end = middle;
        }
    }
    return o;
}

/* Compares with the object it overlaps most, which may have been found already or be a difficult one. */
static void judge(const voc_work *w, ranked *r, int32_t o, int32_t o_end)
{
    const ddi_coco_detection *d = &w->eval->detection[r->at];
    double best = -1;
    int32_t object = -1;
    for (int32_t k = first_of_image(w->eval, o, o_end, d->image); k < o_end && w->eval->object[k].image == d->image; k++) {
        const double iou = overlap(d->box, w->eval->object[k].box, (double)w->settings->plus_one);
        if (iou > best) {
            best = iou;
            object = k;
        }
    }
    r->counts = true;
    r->right = false;
    if (object >= 0 && best >= w->settings->iou) {
        r->counts = !w->eval->object[object].crowd;
        r->right = r->counts && !w->taken[object];
        w->taken[object] = true;
    }
}

static double area_under(const double *recall, const double *precision, int32_t points)
{
    double area = 0;
    for (int32_t i = 0; i < points; i++) {
        area += (recall[i] - (i ? recall[i - 1] : 0)) * precision[i];
    }
    return area;
}

static double eleven_points(const double *recall, const double *precision, int32_t points)
{
    double sum = 0;
    for (int32_t k = 0, i = 0; k <= 10; k++) {
        while (i < points && recall[i] < k / 10.0) {
            i++;
        }
        sum += i < points ? precision[i] : 0;
    }
    return sum / 11;
}

/* Objects o .. o_end-1 and detections d .. d_end-1 are those of one class. */
static double class_ap(const voc_work *w, int32_t o, int32_t o_end, int32_t d, int32_t d_end, int64_t positives)
{
    int32_t points = 0;
    double right = 0, wrong = 0, highest = 0;
    for (int32_t k = d; k < d_end; k++) {
        w->ranked[k - d] = (ranked){.score = w->eval->detection[k].score, .at = k, .sequence = w->eval->detection[k].sequence};
    }
    qsort(w->ranked, (size_t)(d_end - d), sizeof *w->ranked, by_score);
    for (int32_t k = 0; k < d_end - d; k++) {
        judge(w, &w->ranked[k], o, o_end);
        if (w->ranked[k].counts) {
            right += w->ranked[k].right;
            wrong += !w->ranked[k].right;
            w->recall[points] = right / (double)positives;
            w->precision[points++] = right / (right + wrong);
        }
    }
    for (int32_t k = points - 1; k >= 0; k--) {
        highest = fmax(highest, w->precision[k]);
        w->precision[k] = highest;
    }
    return w->settings->all_points ? area_under(w->recall, w->precision, points)
                                   : eleven_points(w->recall, w->precision, points);
}

static double all_classes(voc_work *w, dd_eval *eval)
{
    double sum = 0;
    int32_t counted = 0;
    for (int32_t o = 0, d = 0; o < eval->objects;) {
        const int64_t label = eval->object[o].label;
        int32_t o_end = o, d_end;
        int64_t positives = 0;
        for (; o_end < eval->objects && eval->object[o_end].label == label; o_end++) {
            positives += !eval->object[o_end].crowd;
        }
        while (d < eval->detections && eval->detection[d].label < label) {
            d++;
        }
        for (d_end = d; d_end < eval->detections && eval->detection[d_end].label == label;) {
            d_end++;
        }
        const double ap = positives ? class_ap(w, o, o_end, d, d_end, positives) : -1;
        eval->class[eval->classes++] = (ddi_coco_class){label, ap, positives, d_end - d};
        sum += positives ? ap : 0;
        counted += positives > 0;
        o = o_end;
        d = d_end;
    }
    return counted ? sum / counted : -1;
}

static dd_status average(dd_eval *eval, const voc_settings *settings, double *mean_ap)
{
    const size_t detections = (size_t)eval->detections, objects = (size_t)eval->objects;
    voc_work w = {.eval = eval, .settings = settings};
    dd_status status = DD_OK;
    ddi_eval_sort(eval);
    w.ranked = ddi_alloc(NULL, detections * sizeof *w.ranked + 1);
    w.precision = ddi_alloc(NULL, detections * sizeof *w.precision + 1);
    w.recall = ddi_alloc(NULL, detections * sizeof *w.recall + 1);
    w.taken = ddi_alloc_zero(NULL, objects + 1, sizeof *w.taken);
    eval->class = ddi_alloc(NULL, objects * sizeof *eval->class + 1); /* no more classes than objects */
    if (w.ranked && w.precision && w.recall && w.taken && eval->class) {
        *mean_ap = all_classes(&w, eval);
    } else {
        ddi_eval_forget_result(eval);
        status = ddi_fail_nomem(detections * (sizeof *w.ranked + 2 * sizeof(double)), "averaging of detections");
    }
    ddi_free(NULL, w.ranked);
    ddi_free(NULL, w.precision);
    ddi_free(NULL, w.recall);
    ddi_free(NULL, w.taken);
    return status;
}

static dd_status finish(dd_eval *eval, const char *text, double *mean_ap)
{
    voc_settings settings;
    if (!mean_ap) {
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_eval_finish_voc: mean_ap is NULL");
    }
    ddi_options_init(&option_table, &settings);
    DDI_TRY(ddi_options_parse(&option_table, text, &settings, NULL));
    ddi_eval_forget_result(eval);
    return average(eval, &settings, mean_ap);
}

dd_status dd_eval_finish_voc(dd_eval *eval, const char *text, double *mean_ap)
{
    ddi_error_clear();
    DDI_TRY(ddi_handle_enter(eval, DDI_EVAL, "dd_eval_finish_voc"));
    return ddi_eval_leave(eval, finish(eval, text, mean_ap));
}
