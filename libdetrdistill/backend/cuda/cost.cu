/* SPDX-License-Identifier: Apache-2.0
 * Costs of the matchings: queries with objects (detectors 1.14), students with teachers (distillation A.2, A.3). */
#include "block.cuh"
#include "box.cuh"
#include "device.cuh"
#include "scalar.cuh"

namespace {
constexpr double COST_OF_NONFINITE = 1e12;

template <class T> __device__ void put_cost(T *cost, int64_t at, double value, int64_t *bad)
{
    T rounded = (T)value;
    if (!is_finite(rounded)) {
        rounded = (T)COST_OF_NONFINITE;
        atomicMin((unsigned long long *)bad, (unsigned long long)at);
    }
    cost[at] = rounded;
}

/* a (1-p)^2 * -ln(p+eps) - (1-a) p^2 * -ln(1-p+eps) */
__device__ double focal_cost(double x, double eps)
{
    double p = sigmoid(x), q = sigmoid(-x);
    return (1 - FOCAL_ALPHA) * p * p * log_sigmoid_plus(-x, eps) - FOCAL_ALPHA * q * q * log_sigmoid_plus(x, eps);
}

/* The image of object g: the last one whose offset is not above g. */
__device__ int image_of(const int32_t *offsets, int images, int g)
{
    int low = 0, high = images;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (offsets[middle] <= g)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* A block for each (stage, object), its threads over the queries. */
template <class T> __global__ void gt_cost(dd_op_gt_cost a)
{
    for (int64_t row = blockIdx.x; row < (int64_t)a.S * a.G; row += gridDim.x) {
        int g = (int)(row % a.G), b = image_of(a.gt_offsets, a.B, g);
        int64_t query = (row / a.G * a.B + b) * a.N;
        const T *logits = (const T *)a.logits + query * a.C + a.gt_labels[g], *boxes = (const T *)a.boxes + query * 4;
        double width = a.giou_pixels ? ((const T *)a.sizes)[2 * b] : 1,
               height = a.giou_pixels ? ((const T *)a.sizes)[2 * b + 1] : 1;
        centre target = load_centre((const T *)a.gt_boxes + (int64_t)g * 4);
        corners target_corners = to_corners(target, width, height);
        for (int n = threadIdx.x; n < a.N; n += THREADS) {
            centre box = load_centre(boxes + (int64_t)n * 4);
            double cost = a.w_class * focal_cost(logits[(int64_t)n * a.C], a.class_eps) +
                          a.w_l1 * l1_distance(box, target, a.l1_xyxy) -
                          a.w_giou * giou(to_corners(box, width, height), target_corners, a.giou_eps);
            put_cost((T *)a.cost, row * a.N + n, cost, a.bad);
        }
    }
}

template <class T> __global__ void probabilities(const T *logits, T *prob, int64_t count)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS)
        prob[i] = sigmoid(logits[i]);
}

__device__ double clipped(double x, double most)
{
    return fmin(fmax(x, 0.0), most);
}

template <class T> __global__ void clipped_boxes(dd_op_kd_targets a, int64_t queries)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < queries; i += (int64_t)gridDim.x * THREADS) {
        const T *size = (const T *)a.sizes + i / a.N % a.B * 2;
        corners box = to_corners(load_centre((const T *)a.boxes + i * 4), size[0], size[1]);
        box = {clipped(box.x1, size[0]), clipped(box.y1, size[1]), clipped(box.x2, size[0]), clipped(box.y2, size[1])};
        T *xyxy = (T *)a.xyxy + i * 4, *cxcywh = (T *)a.cxcywh + i * 4;
        xyxy[0] = (T)box.x1;
        xyxy[1] = (T)box.y1;
        xyxy[2] = (T)box.x2;
        xyxy[3] = (T)box.y2;
        cxcywh[0] = (T)(0.5 * (box.x1 + box.x2) / size[0]);
        cxcywh[1] = (T)(0.5 * (box.y1 + box.y2) / size[1]);
        cxcywh[2] = (T)((box.x2 - box.x1) / size[0]);
        cxcywh[3] = (T)((box.y2 - box.y1) / size[1]);
    }
}

/* constant[row] = sum_c softplus(x_c), a warp for each row */
template <class T> __global__ void softplus_sums(const T *logits, double *constant, int64_t rows, int classes)
{
    int lane = threadIdx.x % WARP;
    for (int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP; row < rows; row += (int64_t)gridDim.x * WARPS) {
        double sum = 0;
        for (int c = lane; c < classes; c += WARP)
            sum += softplus(logits[row * classes + c]);
        sum = warp_sum(sum);
        if (lane == 0)
            constant[row] = sum;
    }
}

/* Finishes the cost: where constant is given, `cost` holds the products <x_i, t_j>. A block for each row (pair, image,
 * student). */
template <class T> __global__ void kd_cost(dd_op_kd_cost a, const double *constant)
{
    int64_t rows = (int64_t)a.n_pairs * a.B * a.NS;
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        int64_t b = row / a.NS % a.B, n = row / a.NS / a.B;
        int64_t student = (a.pairs[2 * n] * (int64_t)a.B + b) * a.NS + row % a.NS;
        int64_t teachers = (a.pairs[2 * n + 1] * (int64_t)a.B + b) * a.NT;
        const T *size = (const T *)a.sizes + 2 * b;
        centre box = load_centre((const T *)a.s_boxes + student * 4);
        corners box_corners = to_corners(box, size[0], size[1]);
        for (int j = threadIdx.x; j < a.NT; j += THREADS) {
            int64_t at = row * a.NT + j;
            double value = a.w_l1 * l1_distance(box, load_centre((const T *)a.t_cxcywh + (teachers + j) * 4), a.l1_xyxy) -
                           a.w_giou * giou(box_corners, load_corners((const T *)a.t_xyxy + (teachers + j) * 4), 1e-6);
            if (constant)
                value += a.w_class * (constant[student] - (double)((const T *)a.cost)[at]);
            put_cost((T *)a.cost, at, value, a.bad);
        }
    }
}

/* cost[n..n+run) = X T^t of consecutive pairs: their matrices lie one after the other on both sides. */
template <class T> dd_status products(dd_exec *exec, const dd_op_kd_cost &a)
{
    for (int32_t n = 0, run; n < a.n_pairs; n += run) {
        const int32_t *pair = a.host_pairs + 2 * n;
        for (run = 1; n + run < a.n_pairs && pair[2 * run] == pair[0] + run && pair[2 * run + 1] == pair[1] + run; ++run)
            ;
        dd_op_matmul product = {};
        product.stride_a = (int64_t)a.NS * a.C;
        product.stride_b = (int64_t)a.NT * a.C;
        product.stride_c = (int64_t)a.NS * a.NT;
        product.a = (const T *)a.s_logits + (int64_t)pair[0] * a.B * product.stride_a;
        product.b = (const T *)a.t_prob + (int64_t)pair[1] * a.B * product.stride_b;
        product.c = (T *)a.cost + (int64_t)n * a.B * product.stride_c;
        product.batch = run * a.B;
        product.M = a.NS;
        product.N = product.ldc = a.NT;
        product.K = product.lda = product.ldb = a.C;
        product.trans_b = 1;
        product.alpha = 1;
        DDC_TRY(ddc_multiply<T>(exec, &product));
    }
    return DD_OK;
}
} // namespace

template <class T> dd_status ddc_gt_cost(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_gt_cost);
    DDC_LAUNCH((gt_cost<T>), ddc_blocks((int64_t)a.S * a.G), THREADS, 0, a);
    return DD_OK;
}

template <class T> dd_status ddc_kd_targets(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_kd_targets);
    int64_t queries = (int64_t)a.L * a.B * a.N;
    DDC_LAUNCH((probabilities<T>), ddc_blocks(queries * a.C, THREADS), THREADS, 0, (const T *)a.logits, (T *)a.prob,
               queries * a.C);
    DDC_LAUNCH((clipped_boxes<T>), ddc_blocks(queries, THREADS), THREADS, 0, a, queries);
    return DD_OK;
}

template <class T> dd_status ddc_kd_cost(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_kd_cost);
    double *constant = NULL;
    if (a.w_class != 0 && a.n_pairs > 0) {
        int32_t stages = 0;
        for (int32_t n = 0; n < a.n_pairs; ++n)
            stages = a.host_pairs[2 * n] >= stages ? a.host_pairs[2 * n] + 1 : stages;
        int64_t rows = (int64_t)stages * a.B * a.NS;
        DDC_TRY(ddc_scratch(exec, rows, &constant));
        DDC_LAUNCH((softplus_sums<T>), ddc_blocks(rows, WARPS), THREADS, 0, (const T *)a.s_logits, constant, rows, a.C);
        DDC_TRY(products<T>(exec, a));
    }
    DDC_LAUNCH((kd_cost<T>), ddc_blocks((int64_t)a.n_pairs * a.B * a.NS), THREADS, 0, a, constant);
    return DD_OK;
}

DDC_OPERATOR(gt_cost);
DDC_OPERATOR(kd_targets);
DDC_OPERATOR(kd_cost);
