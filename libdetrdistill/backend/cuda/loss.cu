/* SPDX-License-Identifier: Apache-2.0
 * Losses of matched queries with their gradients: detection (distillation D.2, detectors 1.13) and logits distillation
 * (A.4, A.6). The class terms are summed by chunks of elements, then by image; box terms by image at once. */
#include "block.cuh"
#include "box.cuh"
#include "device.cuh"
#include "scalar.cuh"

namespace {
constexpr int CHUNK = 16 * THREADS; /* class terms that one block sums */

int64_t chunks_of(int64_t elements)
{
    return (elements + CHUNK - 1) / CHUNK;
}

/* Writes or adds a gradient that has no term yet. */
template <class T> __device__ void put(T *gradient, T value, bool add)
{
    *gradient = add ? *gradient + value : value;
}

template <class T> __device__ void put_centre(T *gradient, centre value, bool add)
{
    put(gradient, (T)value.x, add);
    put(gradient + 1, (T)value.y, add);
    put(gradient + 2, (T)value.w, add);
    put(gradient + 3, (T)value.h, add);
}

/* Focal term of one logit and its derivative, alpha .25, gamma 2. */
template <class T> __device__ T focal(T x, bool positive, T *derivative)
{
    logit_terms<T> t(x);
    if (positive) {
        *derivative = T(FOCAL_ALPHA) * t.q * t.q * (-2 * t.p * t.softplus_negative - t.q);
        return T(FOCAL_ALPHA) * t.q * t.q * t.softplus_negative;
    }
    *derivative = T(1 - FOCAL_ALPHA) * t.p * t.p * (t.p + 2 * t.q * t.softplus);
    return T(1 - FOCAL_ALPHA) * t.p * t.p * t.softplus;
}

__device__ bool used(const uint8_t *image_use, int64_t b)
{
    return !image_use || image_use[b];
}

/* A block for each (stage, image, chunk of N*C logits). */
template <class T> __global__ void det_class(dd_op_det_loss a, int64_t chunks, double *part)
{
    int64_t elements = (int64_t)a.N * a.C;
    T factor = (T)(a.grad_scale * a.scale_class);
    for (int64_t block = blockIdx.x; block < (int64_t)a.S * a.B * chunks; block += gridDim.x) {
        int64_t image = block / chunks, b = image % a.B, first = block % chunks * CHUNK;
        const T *x = (const T *)a.logits + image * elements;
        T *g = a.g_logits ? (T *)a.g_logits + image * elements : NULL;
        bool in_use = used(a.image_use, b);
        double sum = 0;
        for (int64_t e = first + threadIdx.x; e < elements && e < first + CHUNK; e += THREADS) {
            T derivative = 0;
            if (in_use) {
                int32_t object = a.match[image * a.N + e / a.C];
                int32_t label = object < 0 ? -1 : a.gt_labels[a.gt_offsets[b] + object];
                sum += focal(x[e], label == (int32_t)(e % a.C), &derivative);
            }
            if (g)
                put(g + e, factor * derivative, a.accumulate);
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0)
            part[block] = sum;
    }
}

/* A block for each (stage, image): the box terms, and the sum of the class terms' chunks. */
template <class T> __global__ void det_boxes(dd_op_det_loss a, int64_t chunks, const double *part)
{
    for (int64_t image = blockIdx.x; image < (int64_t)a.S * a.B; image += gridDim.x) {
        int64_t b = image % a.B;
        const T *size = (const T *)a.sizes + 2 * b;
        double width = a.giou_pixels ? size[0] : 1, height = a.giou_pixels ? size[1] : 1;
        double classes = 0, l1 = 0, giou = 0;
        for (int64_t c = threadIdx.x; c < chunks; c += THREADS)
            classes += part[image * chunks + c];
        for (int64_t n = threadIdx.x; n < a.N; n += THREADS) {
            int64_t query = image * a.N + n;
            int32_t object = used(a.image_use, b) ? a.match[query] : -1;
            box_loss loss = {0, 0, {0, 0, 0, 0}};
            if (object >= 0) {
                centre target = load_centre((const T *)a.gt_boxes + (int64_t)(a.gt_offsets[b] + object) * 4);
                loss =
                    box_loss_of(load_centre((const T *)a.boxes + query * 4), target, to_corners(target, width, height),
                                a.l1_xyxy, width, height, a.giou_eps, a.grad_scale * a.scale_l1, a.grad_scale * a.scale_giou);
            }
            l1 += loss.l1;
            giou += loss.one_minus_giou;
            if (a.g_boxes)
                put_centre((T *)a.g_boxes + query * 4, loss.gradient, a.accumulate);
        }
        classes = block_sum(classes);
        l1 = block_sum(l1);
        giou = block_sum(giou);
        if (threadIdx.x == 0) {
            a.terms[image * 3] = a.scale_class * classes;
            a.terms[image * 3 + 1] = a.scale_l1 * l1;
            a.terms[image * 3 + 2] = a.scale_giou * giou;
        }
    }
}

/* What pair n says about student i of image b: the teacher query (over stages and images), and the kind of the match. */
struct kd_match {
    int64_t teacher;
    int32_t kind;
};

__device__ kd_match match_of(const dd_op_kd_loss &a, int64_t n, int64_t b, int64_t i)
{
    int64_t at = (n * a.B + b) * a.NS + i;
    int32_t j = used(a.image_use, b) ? a.match[at] : -1;
    kd_match m = {(a.pairs[2 * n + 1] * (int64_t)a.B + b) * a.NT + j, 0};
    if (j >= 0)
        m.kind = a.kind ? a.kind[at] : 1;
    return m;
}

/* A block for each (student stage, image, chunk of NS*C logits); the pairs of the stage one after the other, each element by
 * the same thread, so that their gradients add up in the order of n. */
template <class T> __global__ void kd_class(dd_op_kd_loss a, int64_t chunks, double *part)
{
    int64_t elements = (int64_t)a.NS * a.C;
    T factor = (T)(a.grad_scale * a.scale_class[1]);
    for (int64_t block = blockIdx.x; block < (int64_t)a.L_S * a.B * chunks; block += gridDim.x) {
        int64_t image = block / chunks, chunk = block % chunks, s = image / a.B, b = image % a.B;
        int64_t first = chunk * CHUNK, end = first + CHUNK < elements ? first + CHUNK : elements;
        const T *x = (const T *)a.s_logits + image * elements;
        T *g = a.g_logits ? (T *)a.g_logits + image * elements : NULL;
        if (g && !a.accumulate) {
            for (int64_t e = first + threadIdx.x; e < end; e += THREADS)
                g[e] = 0;
        }
        for (int64_t n = 0; n < a.n_pairs; ++n) {
            if (a.pairs[2 * n] != s)
                continue;
            double sum = 0;
            for (int64_t e = first + threadIdx.x; e < end; e += THREADS) {
                kd_match m = match_of(a, n, b, e / a.C);
                if (m.kind != 1)
                    continue;
                T t = ((const T *)a.t_prob)[m.teacher * a.C + e % a.C];
                sum += soft_bce(x[e], t);
                if (g)
                    g[e] += factor * (sigmoid(x[e]) - t);
            }
            sum = block_sum(sum);
            if (threadIdx.x == 0)
                part[(n * a.B + b) * chunks + chunk] = sum;
        }
    }
}

template <class T> __device__ box_loss kd_box_loss(const dd_op_kd_loss &a, int64_t b, int64_t student, kd_match m)
{
    const T *size = (const T *)a.sizes + 2 * b;
    return box_loss_of(load_centre((const T *)a.s_boxes + student * 4), load_centre((const T *)a.t_cxcywh + m.teacher * 4),
                       load_corners((const T *)a.t_xyxy + m.teacher * 4), a.l1_xyxy, size[0], size[1], 1e-6,
                       a.grad_scale * a.scale_l1[m.kind], a.grad_scale * a.scale_giou[m.kind]);
}

template <class T>
__device__ void kd_pair_boxes(const dd_op_kd_loss &a, int64_t n, int64_t b, int64_t students, int64_t chunks,
                              const double *part)
{
    double classes = 0, l1[2] = {0, 0}, giou[2] = {0, 0};
    for (int64_t c = threadIdx.x; c < chunks; c += THREADS)
        classes += part[(n * a.B + b) * chunks + c];
    for (int64_t i = threadIdx.x; i < a.NS; i += THREADS) {
        kd_match m = match_of(a, n, b, i);
        if (m.kind == 0)
            continue;
        box_loss loss = kd_box_loss<T>(a, b, students + i, m);
        l1[0] += m.kind == 1 ? loss.l1 : 0;
        l1[1] += m.kind == 2 ? loss.l1 : 0;
        giou[0] += m.kind == 1 ? loss.one_minus_giou : 0;
        giou[1] += m.kind == 2 ? loss.one_minus_giou : 0;
        if (a.g_boxes)
            put_centre((T *)a.g_boxes + (students + i) * 4, loss.gradient, true);
    }
    double *terms = a.terms + (n * a.B + b) * 5;
    classes = block_sum(classes);
    if (threadIdx.x == 0)
        terms[0] = a.scale_class[1] * classes;
    for (int kind = 1; kind <= 2; ++kind) {
        double sum_l1 = block_sum(l1[kind - 1]), sum_giou = block_sum(giou[kind - 1]);
        if (threadIdx.x == 0) {
            terms[2 * kind - 1] = a.scale_l1[kind] * sum_l1;
            terms[2 * kind] = a.scale_giou[kind] * sum_giou;
        }
    }
}

/* A block for each (student stage, image): the box terms of its pairs in turn, and the sums of the class terms' chunks. */
template <class T> __global__ void kd_boxes(dd_op_kd_loss a, int64_t chunks, const double *part)
{
    for (int64_t image = blockIdx.x; image < (int64_t)a.L_S * a.B; image += gridDim.x) {
        if (a.g_boxes && !a.accumulate) {
            for (int64_t i = threadIdx.x; i < a.NS; i += THREADS)
                put_centre((T *)a.g_boxes + (image * a.NS + i) * 4, {0, 0, 0, 0}, false);
        }
        for (int64_t n = 0; n < a.n_pairs; ++n) {
            if (a.pairs[2 * n] == image / a.B)
                kd_pair_boxes<T>(a, n, image % a.B, image * a.NS, chunks, part);
        }
    }
}
} // namespace

template <class T> dd_status ddc_det_loss(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_det_loss);
    int64_t images = (int64_t)a.S * a.B, chunks = chunks_of((int64_t)a.N * a.C);
    double *part;
    DDC_TRY(ddc_scratch(exec, images * chunks, &part));
    DDC_LAUNCH((det_class<T>), ddc_blocks(images * chunks), THREADS, 0, a, chunks, part);
    DDC_LAUNCH((det_boxes<T>), ddc_blocks(images), THREADS, 0, a, chunks, part);
    return DD_OK;
}

template <class T> dd_status ddc_kd_loss(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_kd_loss);
    int64_t images = (int64_t)a.L_S * a.B, chunks = chunks_of((int64_t)a.NS * a.C);
    double *part;
    DDC_TRY(ddc_scratch(exec, (int64_t)a.n_pairs * a.B * chunks, &part));
    DDC_LAUNCH((kd_class<T>), ddc_blocks(images * chunks), THREADS, 0, a, chunks, part);
    DDC_LAUNCH((kd_boxes<T>), ddc_blocks(images), THREADS, 0, a, chunks, part);
    return DD_OK;
}

DDC_OPERATOR(det_loss);
DDC_OPERATOR(kd_loss);
