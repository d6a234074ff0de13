/* SPDX-License-Identifier: Apache-2.0
 * The module's own matrix product, for machines without cuBLASLt and for shapes that it refuses. */
#include "device.cuh"

namespace {
constexpr int SIDE = 64;  /* of the tile of C that a block makes */
constexpr int DEPTH = 16; /* of one step along K */
constexpr int PART = 4;   /* a thread makes PART x PART elements */
constexpr int LANES = SIDE / PART;
constexpr int BLOCK = LANES * LANES;

/* An operand as it is read: element (i, k) at first + i*row + k*step. */
template <class T> struct operand {
    const T *first;
    int64_t row, step;
    int32_t rows;
};

/* tile[k][i] = element (i0+i, k0+k), 0 outside. Neighbouring threads read along the axis that is dense in memory. */
template <class T> __device__ void load_tile(T tile[DEPTH][SIDE + 1], operand<T> from, int32_t i0, int32_t k0, int32_t depth)
{
    for (int e = threadIdx.x; e < SIDE * DEPTH; e += BLOCK) {
        int i = from.row == 1 ? e % SIDE : e / DEPTH, k = from.row == 1 ? e / SIDE : e % DEPTH;
        bool inside = i0 + i < from.rows && k0 + k < depth;
        tile[k][i] = inside ? from.first[(i0 + i) * from.row + (k0 + k) * from.step] : T(0);
    }
}

template <class T>
__device__ void multiply_tile(T sum[PART][PART], operand<T> left, operand<T> right, int32_t m0, int32_t n0, int32_t depth)
{
    __shared__ T a[DEPTH][SIDE + 1], b[DEPTH][SIDE + 1];
    int x = threadIdx.x % LANES, y = threadIdx.x / LANES;
    for (int32_t k0 = 0; k0 < depth; k0 += DEPTH) {
        __syncthreads();
        load_tile(a, left, m0, k0, depth);
        load_tile(b, right, n0, k0, depth);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
#pragma unroll
            for (int i = 0; i < PART; ++i) {
#pragma unroll
                for (int j = 0; j < PART; ++j)
                    sum[i][j] += a[k][y + i * LANES] * b[k][x + j * LANES];
            }
        }
    }
}

/* A block for each (matrix, tile of C). */
template <class T> __global__ void multiply(dd_op_matmul p, int64_t tiles_m, int64_t tiles_n)
{
    int x = threadIdx.x % LANES, y = threadIdx.x / LANES;
    for (int64_t block = blockIdx.x; block < p.batch * tiles_m * tiles_n; block += gridDim.x) {
        int64_t matrix = block / (tiles_m * tiles_n);
        int32_t m0 = (int32_t)(block / tiles_n % tiles_m) * SIDE, n0 = (int32_t)(block % tiles_n) * SIDE;
        operand<T> left = {(const T *)p.a + matrix * p.stride_a, p.trans_a ? 1 : p.lda, p.trans_a ? p.lda : 1, p.M};
        operand<T> right = {(const T *)p.b + matrix * p.stride_b, p.trans_b ? p.ldb : 1, p.trans_b ? 1 : p.ldb, p.N};
        T sum[PART][PART] = {{0}};
        multiply_tile(sum, left, right, m0, n0, p.K);
#pragma unroll
        for (int i = 0; i < PART; ++i) {
#pragma unroll
            for (int j = 0; j < PART; ++j) {
                int64_t m = m0 + y + i * LANES, n = n0 + x + j * LANES;
                if (m >= p.M || n >= p.N)
                    continue;
                T *c = (T *)p.c + matrix * p.stride_c + m * p.ldc + n;
                T value = (T)p.alpha * sum[i][j];
                if (p.beta != 0) /* otherwise C may be uninitialised */
                    value += (T)p.beta * *c;
                if (p.bias)
                    value += ((const T *)p.bias)[p.bias_rows ? m : n];
                *c = value;
            }
        }
    }
}
} // namespace

template <class T> dd_status ddc_matmul(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_matmul);
    int64_t tiles_m = (a.M + SIDE - 1) / SIDE, tiles_n = (a.N + SIDE - 1) / SIDE;
    DDC_LAUNCH((multiply<T>), ddc_blocks(a.batch * tiles_m * tiles_n), BLOCK, 0, a, tiles_m, tiles_n);
    return DD_OK;
}

template <class T> dd_status ddc_multiply(dd_exec *exec, const dd_op_matmul *product)
{
    return ddc_lt_present(product) ? ddc_matmul_cublaslt<T>(exec, product) : ddc_matmul<T>(exec, product);
}

DDC_OPERATOR(matmul);
template dd_status ddc_multiply<float>(dd_exec *, const dd_op_matmul *);
template dd_status ddc_multiply<double>(dd_exec *, const dd_op_matmul *);
