/* SPDX-License-Identifier: Apache-2.0
 * Target-aware weight map of a feature level and the distance that it weighs (distillation B.3, B.4). Maps are [channels,
 * positions]: a block takes TILE positions, its ROWS warps share the channels. */
#include "block.cuh"
#include "device.cuh"

namespace {
constexpr double NORM_FLOOR = 1e-12;
constexpr double SIMILARITY_FLOOR = 0.01;
constexpr int VECTORS = 8; /* dot products with the features that one pass makes */

/* What the vectors that features are multiplied with are made of, in working memory. */
template <class T> struct query_vectors {
    T *vector;      /* SUM_MAX: [L,B,d] sum of q_n Q^_n; else [L,B,K,d] the rows Q^_n with q_n != 0, packed */
    T *quality;     /* [L,B,K] q_n of those */
    int32_t *count; /* [L,B] how many */
};

/* 1/|Q_n| (1 if raw), by a warp. */
template <class T> __device__ double row_factor(const T *row, int32_t d, bool raw)
{
    if (raw)
        return 1;
    double squares = 0;
    for (int32_t c = threadIdx.x % WARP; c < d; c += WARP)
        squares += (double)row[c] * row[c];
    return 1 / fmax(sqrt(warp_sum(squares)), NORM_FLOOR);
}

template <class T> __device__ const T *query_row(const dd_op_feature_weights &a, int64_t image, int64_t n)
{
    return (const T *)a.queries + (image * a.N + a.index[image * a.K + n] / a.index_divisor) * a.d;
}

/* factor[l][b][n] = q_n / |Q_n|, a warp for each entry */
template <class T> __global__ void entry_factors(dd_op_feature_weights a, double *factor)
{
    int64_t entries = (int64_t)a.L * a.B * a.K;
    for (int64_t at = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP; at < entries; at += (int64_t)gridDim.x * WARPS) {
        double value = row_factor(query_row<T>(a, at / a.K, at % a.K), a.d, a.raw);
        if (threadIdx.x % WARP == 0)
            factor[at] = value * ((const T *)a.quality)[at];
    }
}

/* vector[l][b][c] = sum_n factor_n Q_n[c], a thread for each */
template <class T> __global__ void sum_rows(dd_op_feature_weights a, const double *factor, T *vector)
{
    int64_t count = (int64_t)a.L * a.B * a.d;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS) {
        int64_t image = i / a.d, c = i % a.d;
        double sum = 0;
        for (int64_t n = 0; n < a.K; ++n) {
            if (factor[image * a.K + n] != 0)
                sum += factor[image * a.K + n] * query_row<T>(a, image, n)[c];
        }
        vector[i] = (T)sum;
    }
}

/* Packs the rows with q_n != 0 in the order of n, normalised. A block for each (stage, image), a row for each of its warps. */
template <class T> __global__ void pack_rows(dd_op_feature_weights a, query_vectors<T> to)
{
    for (int64_t image = blockIdx.x; image < (int64_t)a.L * a.B; image += gridDim.x) {
        const T *quality = (const T *)a.quality + image * a.K;
        int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        int32_t packed = 0;
        for (int32_t first = 0; first < a.K; first += WARP) {
            bool kept = first + lane < a.K && quality[first + lane] != 0;
            unsigned kept_lanes = __ballot_sync(ALL_LANES, kept);
            for (unsigned rest = kept_lanes; rest != 0; rest &= rest - 1, ++packed) {
                if (packed % WARPS != warp)
                    continue;
                int32_t n = first + __ffs((int)rest) - 1;
                const T *row = query_row<T>(a, image, n);
                double factor = row_factor(row, a.d, a.raw);
                T *vector = to.vector + (image * a.K + packed) * a.d;
                for (int32_t c = lane; c < a.d; c += WARP)
                    vector[c] = (T)(row[c] * factor);
                if (lane == 0)
                    to.quality[image * a.K + packed] = quality[n];
            }
        }
        if (threadIdx.x == 0)
            to.count[image] = packed;
    }
}

/* One tile: where its threads are. */
struct place {
    int64_t p;
    int row;
    bool inside;
};

__device__ place place_in(int64_t tile, int64_t positions)
{
    place at = {tile * TILE + threadIdx.x % TILE, (int)(threadIdx.x / TILE), false};
    at.inside = at.p < positions;
    return at;
}

/* dot[v] = <vector v, F(:,p)> for v < count <= VECTORS, vector v at vectors + v*stride; every thread of the position gets them.
 * length (or NULL) gets |F(:,p)|. Sums are in double: squares of large features do not overflow, and memory is the limit
 * anyway. */
template <class T>
__device__ void project(const T *features, int64_t positions, int32_t d, place at, const T *vectors, int64_t stride, int count,
                        double dot[VECTORS], double *length)
{
    double part[VECTORS] = {0}, squares = 0;
    for (int32_t c = at.row; c < d && at.inside; c += ROWS) {
        double f = features[c * positions + at.p];
        squares += f * f;
#pragma unroll
        for (int v = 0; v < VECTORS; ++v)
            part[v] += v < count ? f * vectors[v * stride + c] : 0;
    }
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        if (v < count)
            dot[v] = column_sum(part[v]);
    }
    if (length)
        *length = fmax(sqrt(column_sum(squares)), NORM_FLOOR);
}

__device__ bool counts(const dd_op_feature_weights &a, int64_t b, int64_t p)
{
    return (!a.image_use || a.image_use[b]) && !(a.padding && a.padding[b * a.P + p]);
}

__device__ void raise(float *most, float value)
{
    atomicMax((unsigned *)most, __float_as_uint(value)); /* positive floats are ordered as their bits */
}

__device__ void raise(double *most, double value)
{
    atomicMax((unsigned long long *)most, (unsigned long long)__double_as_longlong(value));
}

/* SUM_MAX, first pass: weight = max(s, .01), most[l][b] = its maximum. A block for each (image, tile). */
template <class T> __global__ void similarities(dd_op_feature_weights a, query_vectors<T> from, T *most, int64_t tiles)
{
    for (int64_t block = blockIdx.x; block < a.B * tiles; block += gridDim.x) {
        int64_t b = block / tiles;
        place at = place_in(block % tiles, a.P);
        const T *features = (const T *)a.features + b * a.d * a.P;
        double dot[VECTORS], length = 1;
        for (int32_t l = 0; l < a.L; l += VECTORS) {
            int count = a.L - l < VECTORS ? a.L - l : VECTORS;
            project(features, a.P, a.d, at, from.vector + ((int64_t)l * a.B + b) * a.d, (int64_t)a.B * a.d, count, dot,
                    l == 0 && !a.raw ? &length : NULL);
#pragma unroll
            for (int v = 0; v < VECTORS; ++v) {
                if (v >= count)
                    break;
                int64_t image = (int64_t)(l + v) * a.B + b;
                T s = (T)fmax(dot[v] / length, SIMILARITY_FLOOR);
                bool counted = at.inside && counts(a, b, at.p);
                T highest = warp_max(counted ? s : T(0));
                if (at.row == 0 && at.inside)
                    ((T *)a.weight)[image * a.P + at.p] = s;
                if (threadIdx.x == 0 && highest > 0)
                    raise(most + image, highest);
            }
        }
    }
}

/* SUM_MAX, second pass: weight = psi^2, psi = s / most; sum over stages. */
template <class T> __global__ void finish_sum_max(dd_op_feature_weights a, const T *most)
{
    int64_t count = a.B * a.P;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS) {
        int64_t b = i / a.P, p = i % a.P;
        bool counted = counts(a, b, p);
        T sum = 0;
        for (int64_t l = 0; l < a.L; ++l) {
            T *weight = (T *)a.weight + (l * a.B + b) * a.P + p;
            T psi = counted ? *weight / most[l * a.B + b] : T(0);
            *weight = psi * psi;
            sum += *weight;
        }
        ((T *)a.sum)[i] = sum;
    }
}

/* weight = (1/K) sum_n q_n v_n^2 and its sum over stages. A block for each (image, tile). */
template <class T> __global__ void per_query_weights(dd_op_feature_weights a, query_vectors<T> from, int64_t tiles)
{
    for (int64_t block = blockIdx.x; block < a.B * tiles; block += gridDim.x) {
        int64_t b = block / tiles;
        place at = place_in(block % tiles, a.P);
        const T *features = (const T *)a.features + b * a.d * a.P;
        double dot[VECTORS], length = 1;
        bool counted = at.inside && counts(a, b, at.p);
        T sum = 0;
        if (!a.raw)
            project(features, a.P, a.d, at, (const T *)NULL, 0, 0, dot, &length);
        for (int64_t l = 0; l < a.L; ++l) {
            int64_t image = l * a.B + b;
            double total = 0;
            for (int32_t n = 0; n < from.count[image]; n += VECTORS) {
                int count = from.count[image] - n < VECTORS ? from.count[image] - n : VECTORS;
                project(features, a.P, a.d, at, from.vector + (image * a.K + n) * a.d, a.d, count, dot, NULL);
#pragma unroll
                for (int v = 0; v < VECTORS; ++v) {
                    if (v >= count)
                        break;
                    double s = dot[v] / length;
                    total += from.quality[image * a.K + n + v] * (a.raw || s > 0 ? s * s : 0);
                }
            }
            T weight = counted && a.K > 0 ? (T)(total / a.K) : T(0);
            sum += weight;
            if (at.row == 0 && at.inside)
                ((T *)a.weight)[image * a.P + at.p] = weight;
        }
        if (at.row == 0 && at.inside)
            ((T *)a.sum)[b * a.P + at.p] = sum;
    }
}

/* r[p] = sum_c (F_T - F_S)^2, the gradient, and part[l][b][tile] = sum over the tile of weight * r. A block for each (image,
 * tile). */
template <class T> __global__ void distances(dd_op_feature_loss a, int64_t tiles, double *part)
{
    double share = a.d > 0 ? 1 / ((double)a.B * a.d * (double)a.P) : 0;
    for (int64_t block = blockIdx.x; block < a.B * tiles; block += gridDim.x) {
        int64_t b = block / tiles, tile = block % tiles;
        place at = place_in(tile, a.P);
        const T *teacher = (const T *)a.teacher + b * a.d * a.P, *student = (const T *)a.student + b * a.d * a.P;
        T *gradient = a.g_student ? (T *)a.g_student + b * a.d * a.P : NULL;
        double factor = at.inside && gradient ? a.grad_scale * 2 * share * ((const T *)a.sum)[b * a.P + at.p] : 0;
        double squares = 0;
#pragma unroll 4
        for (int32_t c = at.row; c < a.d && at.inside; c += ROWS) {
            double difference = (double)student[c * a.P + at.p] - teacher[c * a.P + at.p];
            squares += difference * difference;
            if (gradient)
                gradient[c * a.P + at.p] = (T)(factor * difference);
        }
        double distance = column_sum(squares);
        for (int64_t l = at.row; l < a.L; l += ROWS) { /* a warp for each stage */
            double weight = at.inside ? (double)((const T *)a.weight)[(l * a.B + b) * a.P + at.p] : 0;
            double sum = warp_sum(weight * distance);
            if (threadIdx.x % WARP == 0)
                part[(l * a.B + b) * tiles + tile] = sum * share;
        }
    }
}

__global__ void sum_parts(const double *part, int64_t parts, double *sum, int64_t sums)
{
    for (int64_t i = blockIdx.x; i < sums; i += gridDim.x) {
        double total = 0;
        for (int64_t k = threadIdx.x; k < parts; k += THREADS)
            total += part[i * parts + k];
        total = block_sum(total);
        if (threadIdx.x == 0)
            sum[i] = total;
    }
}

int64_t tiles_of(int64_t positions)
{
    return (positions + TILE - 1) / TILE;
}
} // namespace

template <class T> static dd_status ddc_feature_weights_sum_max(dd_exec *exec, const dd_op_feature_weights &a)
{
    int64_t images = (int64_t)a.L * a.B, tiles = tiles_of(a.P);
    query_vectors<T> vectors = {NULL, NULL, NULL};
    double *factor;
    T *most;
    DDC_TRY(ddc_scratch(exec, images * a.K, &factor));
    DDC_TRY(ddc_scratch(exec, images * a.d, &vectors.vector));
    DDC_TRY(ddc_scratch(exec, images, &most));
    DDC_LAUNCH((entry_factors<T>), ddc_blocks(images * a.K, WARPS), THREADS, 0, a, factor);
    DDC_LAUNCH((sum_rows<T>), ddc_blocks(images * a.d, THREADS), THREADS, 0, a, factor, vectors.vector);
    DDC_CUDA(cudaMemsetAsync(most, 0, (size_t)images * sizeof *most, (cudaStream_t)exec->stream));
    DDC_LAUNCH((similarities<T>), ddc_blocks(a.B * tiles), THREADS, 0, a, vectors, most, tiles);
    DDC_LAUNCH((finish_sum_max<T>), ddc_blocks(a.B * a.P, THREADS), THREADS, 0, a, most);
    return DD_OK;
}

template <class T> static dd_status ddc_feature_weights_per_query(dd_exec *exec, const dd_op_feature_weights &a)
{
    int64_t images = (int64_t)a.L * a.B, tiles = tiles_of(a.P);
    query_vectors<T> vectors;
    DDC_TRY(ddc_scratch(exec, images * a.K * a.d, &vectors.vector));
    DDC_TRY(ddc_scratch(exec, images * a.K, &vectors.quality));
    DDC_TRY(ddc_scratch(exec, images, &vectors.count));
    DDC_LAUNCH((pack_rows<T>), ddc_blocks(images), THREADS, 0, a, vectors);
    DDC_LAUNCH((per_query_weights<T>), ddc_blocks(a.B * tiles), THREADS, 0, a, vectors, tiles);
    return DD_OK;
}

template <class T> dd_status ddc_feature_weights(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_feature_weights);
    return a.per_query ? ddc_feature_weights_per_query<T>(exec, a) : ddc_feature_weights_sum_max<T>(exec, a);
}

template <class T> dd_status ddc_feature_loss(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_feature_loss);
    int64_t terms = (int64_t)a.L * a.B, tiles = tiles_of(a.P);
    double *part;
    DDC_TRY(ddc_scratch(exec, terms * tiles, &part));
    DDC_LAUNCH((distances<T>), ddc_blocks(a.B * tiles), THREADS, 0, a, tiles, part);
    DDC_LAUNCH(sum_parts, ddc_blocks(terms), THREADS, 0, part, tiles, a.terms, terms);
    return DD_OK;
}

DDC_OPERATOR(feature_weights);
DDC_OPERATOR(feature_loss);
