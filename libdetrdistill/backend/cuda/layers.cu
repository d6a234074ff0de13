/* SPDX-License-Identifier: Apache-2.0
 * What adaptors and the query-contrastive term are made of, besides matrix products (distillation A.9, B.5). */
#include "block.cuh"
#include "device.cuh"

namespace {
constexpr double VARIANCE_FLOOR = 1e-5;
constexpr double LENGTH_FLOOR = 1e-12;

/* y[m] = sum over i, n: a block for each m */
template <class T> __global__ void sum_rows(dd_op_row_sum a)
{
    for (int64_t m = blockIdx.x; m < a.M; m += gridDim.x) {
        double sum = 0;
        for (int64_t i = 0; i < a.batch; ++i) {
            const T *x = (const T *)a.x + (i * a.M + m) * a.N;
            for (int64_t n = threadIdx.x; n < a.N; n += THREADS)
                sum += x[n];
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0)
            ((T *)a.y)[m] = (T)sum;
    }
}

/* y[n] = sum over i, m: a block for TILE columns */
template <class T> __global__ void sum_columns(dd_op_row_sum a)
{
    int64_t rows = (int64_t)a.batch * a.M;
    for (int64_t first = (int64_t)blockIdx.x * TILE; first < a.N; first += (int64_t)gridDim.x * TILE) {
        int64_t n = first + threadIdx.x % TILE;
        double sum = 0;
        for (int64_t row = threadIdx.x / TILE; row < rows && n < a.N; row += ROWS)
            sum += ((const T *)a.x)[row * a.N + n];
        sum = column_sum(sum);
        if (threadIdx.x < TILE && n < a.N)
            ((T *)a.y)[n] = (T)sum;
    }
}

/* Target coordinate i reads source coordinates low and high, the latter with weight `part`. */
struct tap {
    int32_t low, high;
    double part;
};

__device__ tap tap_of(int32_t i, int32_t source, int32_t target)
{
    double x = fmax((i + 0.5) * source / target - 0.5, 0.0);
    int32_t low = (int32_t)x < source - 1 ? (int32_t)x : source - 1;
    return {low, low + 1 < source ? low + 1 : low, x - low};
}

template <class T> __global__ void resize(dd_op_resize a)
{
    int64_t size = (int64_t)a.dst_h * a.dst_w;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.maps * size; i += (int64_t)gridDim.x * THREADS) {
        tap v = tap_of((int32_t)(i % size / a.dst_w), a.src_h, a.dst_h), h = tap_of((int32_t)(i % a.dst_w), a.src_w, a.dst_w);
        const T *map = (const T *)a.src + i / size * a.src_h * a.src_w;
        const T *upper = map + (int64_t)v.low * a.src_w, *lower = map + (int64_t)v.high * a.src_w;
        double above = (1 - h.part) * upper[h.low] + h.part * upper[h.high];
        double below = (1 - h.part) * lower[h.low] + h.part * lower[h.high];
        ((T *)a.dst)[i] = (T)((1 - v.part) * above + v.part * below);
    }
}

/* Weight of source coordinate s in target coordinate i. */
__device__ double weight_in(int32_t s, int32_t i, int32_t source, int32_t target)
{
    tap t = tap_of(i, source, target);
    return (t.low == s ? 1 - t.part : 0) + (t.high == s ? t.part : 0);
}

/* Target coordinates [first, end) that may read source coordinate s. */
struct range {
    int32_t first, end;
};

__device__ range readers_of(int32_t s, int32_t source, int32_t target)
{
    double scale = (double)target / source;
    double first = s == 0 ? 0 : floor((s - 0.5) * scale - 0.5) - 1,
           end = s == source - 1 ? target : ceil((s + 1.5) * scale - 0.5) + 2;
    return {first > 0 ? (int32_t)first : 0, end < target ? (int32_t)end : target};
}

/* A thread for each source element adds what it gave: no two write one place. */
template <class T> __global__ void resize_grad(dd_op_resize a)
{
    int64_t size = (int64_t)a.src_h * a.src_w;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.maps * size; i += (int64_t)gridDim.x * THREADS) {
        int32_t sy = (int32_t)(i % size / a.src_w), sx = (int32_t)(i % a.src_w);
        range ys = readers_of(sy, a.src_h, a.dst_h), xs = readers_of(sx, a.src_w, a.dst_w);
        const T *map = (const T *)a.dst + i / size * a.dst_h * a.dst_w;
        double sum = 0;
        for (int32_t y = ys.first; y < ys.end; ++y) {
            double v = weight_in(sy, y, a.src_h, a.dst_h);
            for (int32_t x = xs.first; v != 0 && x < xs.end; ++x)
                sum += v * weight_in(sx, x, a.src_w, a.dst_w) * map[(int64_t)y * a.dst_w + x];
        }
        ((T *)a.src)[i] = (T)sum;
    }
}

/* listed: rows per block of the side that `index` lists; other: of the other one. */
template <class T> __global__ void take_rows(dd_op_take_rows a, int64_t listed, int64_t other)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.rows * a.d; i += (int64_t)gridDim.x * THREADS) {
        int64_t row = i / a.d, c = i % a.d, inside = a.index ? a.index[row] : row % listed;
        int64_t at = (row / listed * other + inside) * a.d + c;
        if (!a.inverse)
            ((T *)a.dst)[i] = inside < 0 ? T(0) : ((const T *)a.src)[at];
        else if (inside >= 0)
            ((T *)a.dst)[at] = ((const T *)a.src)[i];
    }
}

/* A block for TILE columns. */
template <class T> __global__ void batchnorm_relu(dd_op_batchnorm_relu a)
{
    for (int64_t first = (int64_t)blockIdx.x * TILE; first < a.d; first += (int64_t)gridDim.x * TILE) {
        int64_t c = first + threadIdx.x % TILE, end = c < a.d ? a.rows : 0;
        const T *x = (const T *)a.x + c;
        double mean = 0, variance = 0;
        for (int64_t row = threadIdx.x / TILE; row < end; row += ROWS)
            mean += x[row * a.d];
        mean = column_sum(mean) / (double)a.rows;
        for (int64_t row = threadIdx.x / TILE; row < end; row += ROWS)
            variance += (x[row * a.d] - mean) * (x[row * a.d] - mean);
        double rstd = 1 / sqrt(column_sum(variance) / (double)a.rows + VARIANCE_FLOOR);
        for (int64_t row = threadIdx.x / TILE; row < end; row += ROWS) {
            double y = ((const T *)a.gamma)[c] * ((x[row * a.d] - mean) * rstd) + ((const T *)a.beta)[c];
            ((T *)a.y)[row * a.d + c] = y > 0 ? (T)y : T(0);
        }
        if (threadIdx.x < TILE && c < a.d) {
            ((T *)a.mean)[c] = (T)mean;
            ((T *)a.rstd)[c] = (T)rstd;
        }
    }
}

/* With z = (x - mean) rstd and g = g_y where y > 0:  g_beta = sum g, g_gamma = sum g z,
 * g_x = gamma rstd (g - (g_beta + z g_gamma) / rows). */
template <class T> __global__ void batchnorm_relu_grad(dd_op_batchnorm_relu a)
{
    for (int64_t first = (int64_t)blockIdx.x * TILE; first < a.d; first += (int64_t)gridDim.x * TILE) {
        int64_t c = first + threadIdx.x % TILE, end = c < a.d ? a.rows : 0;
        const T *x = (const T *)a.x + c, *y = (const T *)a.y + c, *g_y = (const T *)a.g_y + c;
        double mean = c < a.d ? ((const T *)a.mean)[c] : 0, rstd = c < a.d ? ((const T *)a.rstd)[c] : 0;
        double g_beta = 0, g_gamma = 0;
        for (int64_t row = threadIdx.x / TILE; row < end; row += ROWS) {
            double g = y[row * a.d] > 0 ? g_y[row * a.d] : 0;
            g_beta += g;
            g_gamma += g * ((x[row * a.d] - mean) * rstd);
        }
        g_beta = column_sum(g_beta);
        g_gamma = column_sum(g_gamma);
        for (int64_t row = threadIdx.x / TILE; row < end; row += ROWS) {
            double g = y[row * a.d] > 0 ? g_y[row * a.d] : 0, z = (x[row * a.d] - mean) * rstd;
            ((T *)a.g_x)[row * a.d + c] = (T)(((const T *)a.gamma)[c] * rstd * (g - (g_beta + z * g_gamma) / (double)a.rows));
        }
        if (threadIdx.x < TILE && c < a.d) {
            ((T *)a.g_beta)[c] = (T)g_beta;
            ((T *)a.g_gamma)[c] = (T)g_gamma;
        }
    }
}

/* A warp for each row; `length` gets |x| itself, so that the gradient knows whether the floor divided. */
template <class T> __global__ void l2norm(dd_op_l2norm a)
{
    int lane = threadIdx.x % WARP;
    for (int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP; row < a.rows; row += (int64_t)gridDim.x * WARPS) {
        const T *x = (const T *)a.x + row * a.d;
        double squares = 0;
        for (int32_t c = lane; c < a.d; c += WARP)
            squares += (double)x[c] * x[c];
        double length = sqrt(warp_sum(squares)), divisor = fmax(length, LENGTH_FLOOR);
        for (int32_t c = lane; c < a.d; c += WARP)
            ((T *)a.y)[row * a.d + c] = (T)(x[c] / divisor);
        if (lane == 0)
            ((T *)a.length)[row] = (T)length;
    }
}

/* y = x/|x|: g_x = (g_y - y <y, g_y>) / |x|. At the floor y = x/1e-12: g_x = g_y/1e-12. */
template <class T> __global__ void l2norm_grad(dd_op_l2norm a)
{
    int lane = threadIdx.x % WARP;
    for (int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP; row < a.rows; row += (int64_t)gridDim.x * WARPS) {
        const T *y = (const T *)a.y + row * a.d, *g_y = (const T *)a.g_y + row * a.d;
        double length = ((const T *)a.length)[row], along = 0;
        bool floored = length < LENGTH_FLOOR;
        for (int32_t c = lane; c < a.d; c += WARP)
            along += floored ? 0 : (double)y[c] * g_y[c];
        along = warp_sum(along);
        for (int32_t c = lane; c < a.d; c += WARP)
            ((T *)a.g_x)[row * a.d + c] = (T)((g_y[c] - y[c] * along) / (floored ? LENGTH_FLOOR : length));
    }
}

/* part[i] = logsumexp(row i) - logits[i][i]; d loss / d logits = scale / n (softmax(row) - 1 on the diagonal). A block for each
 * row. */
template <class T> __global__ void cross_entropy(dd_op_cross_entropy a, double *part)
{
    double factor = a.grad_scale * a.scale / (double)a.n;
    for (int64_t i = blockIdx.x; i < a.n; i += gridDim.x) {
        const T *x = (const T *)a.logits + i * a.n;
        T most = x[0];
        for (int64_t j = threadIdx.x; j < a.n; j += THREADS)
            most = x[j] > most ? x[j] : most;
        double highest = block_max(most), sum = 0;
        for (int64_t j = threadIdx.x; j < a.n; j += THREADS)
            sum += exp(x[j] - highest);
        sum = block_sum(sum);
        for (int64_t j = threadIdx.x; a.g_logits && j < a.n; j += THREADS)
            ((T *)a.g_logits)[i * a.n + j] = (T)(factor * (exp(x[j] - highest) / sum - (j == i)));
        if (threadIdx.x == 0)
            part[i] = highest - x[i] + log(sum);
    }
}

__global__ void finish_cross_entropy(dd_op_cross_entropy a, const double *part)
{
    double sum = 0;
    for (int64_t i = threadIdx.x; i < a.n; i += THREADS)
        sum += part[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *a.loss = a.n > 0 ? a.scale / (double)a.n * sum : 0;
}
} // namespace

template <class T> dd_status ddc_row_sum(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_row_sum);
    if (a.by_columns)
        DDC_LAUNCH((sum_columns<T>), ddc_blocks(a.N, TILE), THREADS, 0, a);
    else
        DDC_LAUNCH((sum_rows<T>), ddc_blocks(a.M), THREADS, 0, a);
    return DD_OK;
}

template <class T> dd_status ddc_resize(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_resize);
    DDC_LAUNCH((resize<T>), ddc_blocks(a.maps * a.dst_h * a.dst_w, THREADS), THREADS, 0, a);
    return DD_OK;
}

template <class T> dd_status ddc_resize_grad(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_resize);
    DDC_LAUNCH((resize_grad<T>), ddc_blocks(a.maps * a.src_h * a.src_w, THREADS), THREADS, 0, a);
    return DD_OK;
}

template <class T> dd_status ddc_take_rows(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_take_rows);
    int64_t listed = a.inverse ? a.src_rows_per_block : a.rows_per_block,
            other = a.inverse ? a.rows_per_block : a.src_rows_per_block;
    if (a.rows == 0 || a.d == 0)
        return DD_OK;
    if (a.inverse) {
        size_t bytes = (size_t)(a.rows / listed * other * a.d) * sizeof(T);
        DDC_CUDA(cudaMemsetAsync(a.dst, 0, bytes, (cudaStream_t)exec->stream));
    }
    DDC_LAUNCH((take_rows<T>), ddc_blocks(a.rows * a.d, THREADS), THREADS, 0, a, listed, other);
    return DD_OK;
}

template <class T> dd_status ddc_batchnorm_relu(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_batchnorm_relu);
    DDC_LAUNCH((batchnorm_relu<T>), ddc_blocks(a.d, TILE), THREADS, 0, a);
    return DD_OK;
}

template <class T> dd_status ddc_batchnorm_relu_grad(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_batchnorm_relu);
    DDC_LAUNCH((batchnorm_relu_grad<T>), ddc_blocks(a.d, TILE), THREADS, 0, a);
    return DD_OK;
}

template <class T> dd_status ddc_l2norm(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_l2norm);
    DDC_LAUNCH((l2norm<T>), ddc_blocks(a.rows, WARPS), THREADS, 0, a);
    return DD_OK;
}

template <class T> dd_status ddc_l2norm_grad(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_l2norm);
    DDC_LAUNCH((l2norm_grad<T>), ddc_blocks(a.rows, WARPS), THREADS, 0, a);
    return DD_OK;
}

template <class T> dd_status ddc_cross_entropy(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_cross_entropy);
    double *part;
    DDC_TRY(ddc_scratch(exec, a.n, &part));
    DDC_LAUNCH((cross_entropy<T>), ddc_blocks(a.n), THREADS, 0, a, part);
    DDC_LAUNCH(finish_cross_entropy, 1u, THREADS, 0, a, part);
    return DD_OK;
}

DDC_OPERATOR(row_sum);
DDC_OPERATOR(resize);
DDC_OPERATOR(resize_grad);
DDC_OPERATOR(take_rows);
DDC_OPERATOR(batchnorm_relu);
DDC_OPERATOR(batchnorm_relu_grad);
DDC_OPERATOR(l2norm);
DDC_OPERATOR(l2norm_grad);
DDC_OPERATOR(cross_entropy);
