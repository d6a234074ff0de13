/* SPDX-License-Identifier: Apache-2.0
 * cuBLASLt for the emulated device: the functions of cublaslt.h, with plain loops over column-major matrices. It refuses what
 * would break the module's promises: a split along K, or a pointer less aligned than was said. */
#include "cublaslt.h"
#include "emulate.h"

#include <stdlib.h>

namespace {
enum { GOOD = 0, NO_MEMORY = 3, BAD_VALUE = 7, NOT_SUPPORTED = 15 };

struct description {
    int32_t compute, transpose[2];
};

struct layout {
    int32_t type, batch;
    uint64_t rows, columns;
    int64_t leading, stride;
};

struct preference {
    uint32_t reductions, alignment[4];
    size_t workspace;
};

template <class T> int32_t make(void **out, T value)
{
    T *made = (T *)malloc(sizeof(T));
    if (!made)
        return NO_MEMORY;
    *made = value;
    *out = made;
    return GOOD;
}

template <class T> int32_t set(T *field, const void *value, size_t bytes)
{
    if (bytes != sizeof(T))
        return BAD_VALUE;
    memcpy(field, value, bytes);
    return GOOD;
}

/* Rows and columns of op(matrix). */
uint64_t rows_of(const layout &m, bool transposed)
{
    return transposed ? m.columns : m.rows;
}

template <class T>
void product(const description &d, T alpha, const T *a, const layout &la, const T *b, const layout &lb, T beta, T *c,
             const layout &lc)
{
    const uint64_t depth = rows_of(la, !d.transpose[0]);
    for (int64_t i = 0; i < lc.batch; ++i, a += la.stride, b += lb.stride, c += lc.stride) {
        for (uint64_t at = 0; at < lc.rows * lc.columns; ++at) {
            const uint64_t row = at % lc.rows, column = at / lc.rows;
            T sum = 0;
            for (uint64_t k = 0; k < depth; ++k) {
                const T x = d.transpose[0] ? a[row * (uint64_t)la.leading + k] : a[k * (uint64_t)la.leading + row];
                const T y = d.transpose[1] ? b[k * (uint64_t)lb.leading + column] : b[column * (uint64_t)lb.leading + k];
                sum += x * y;
            }
            T &to = c[column * (uint64_t)lc.leading + row];
            to = alpha * sum + (beta != 0 ? beta * to : 0);
        }
    }
}

bool aligned(const void *p, const layout &m, uint64_t alignment)
{
    const uint64_t size = m.type == LT_REAL_64 ? 8 : 4;
    return ((uintptr_t)p | (m.batch > 1 ? (uint64_t)m.stride * size : 0)) % alignment == 0;
}

bool fits(const description &d, const layout &a, const layout &b, const layout &c)
{
    return rows_of(a, d.transpose[0]) == c.rows && rows_of(a, !d.transpose[0]) == rows_of(b, d.transpose[1]) &&
           rows_of(b, !d.transpose[1]) == c.columns && a.leading >= (int64_t)a.rows && b.leading >= (int64_t)b.rows &&
           c.leading >= (int64_t)c.rows && a.batch == c.batch && b.batch == c.batch && a.type == b.type && a.type == c.type;
}
} // namespace

#define LT_API extern "C" __attribute__((visibility("default"))) int32_t

LT_API cublasLtCreate(void **handle)
{
    return make(handle, 1);
}

LT_API cublasLtDestroy(void *handle)
{
    free(handle);
    return GOOD;
}

LT_API cublasLtMatmulDescCreate(void **desc, int32_t compute, int32_t scale_type)
{
    const bool known =
        (compute == LT_COMPUTE_32 && scale_type == LT_REAL_32) || (compute == LT_COMPUTE_64 && scale_type == LT_REAL_64);
    return known ? make(desc, description{compute, {LT_OP_N, LT_OP_N}}) : (int32_t)NOT_SUPPORTED;
}

LT_API cublasLtMatmulDescDestroy(void *desc)
{
    free(desc);
    return GOOD;
}

LT_API cublasLtMatmulDescSetAttribute(void *desc, int32_t attribute, const void *value, size_t bytes)
{
    if (attribute != LT_DESC_TRANSA && attribute != LT_DESC_TRANSB)
        return NOT_SUPPORTED;
    return set(&((description *)desc)->transpose[attribute == LT_DESC_TRANSB], value, bytes);
}

LT_API cublasLtMatrixLayoutCreate(void **out, int32_t type, uint64_t rows, uint64_t columns, int64_t leading)
{
    return make(out, layout{type, 1, rows, columns, leading, 0});
}

LT_API cublasLtMatrixLayoutDestroy(void *m)
{
    free(m);
    return GOOD;
}

LT_API cublasLtMatrixLayoutSetAttribute(void *m, int32_t attribute, const void *value, size_t bytes)
{
    if (attribute == LT_LAYOUT_BATCH_COUNT)
        return set(&((layout *)m)->batch, value, bytes);
    return attribute == LT_LAYOUT_BATCH_OFFSET ? set(&((layout *)m)->stride, value, bytes) : (int32_t)NOT_SUPPORTED;
}

LT_API cublasLtMatmulPreferenceCreate(void **out)
{
    return make(out, preference{~0u, {256, 256, 256, 256}, 0});
}

LT_API cublasLtMatmulPreferenceDestroy(void *p)
{
    free(p);
    return GOOD;
}

LT_API cublasLtMatmulPreferenceSetAttribute(void *p, int32_t attribute, const void *value, size_t bytes)
{
    preference *wish = (preference *)p;
    if (attribute == LT_PREF_WORKSPACE)
        return set(&wish->workspace, value, bytes);
    if (attribute == LT_PREF_REDUCTION_MASK)
        return set(&wish->reductions, value, bytes);
    if (attribute < LT_PREF_ALIGNMENT_A || attribute > LT_PREF_ALIGNMENT_D)
        return NOT_SUPPORTED;
    return set(&wish->alignment[attribute - LT_PREF_ALIGNMENT_A], value, bytes);
}

/* The "algorithm" remembers the alignments, and asks for a workspace, as the real ones may. */
LT_API cublasLtMatmulAlgoGetHeuristic(void *, void *desc, void *a, void *b, void *c, void *, void *p, int32_t wanted,
                                      lt_choice *choices, int32_t *found)
{
    const preference *wish = (const preference *)p;
    *found = 0;
    if (wish->reductions != LT_REDUCTION_NONE || wanted < 1 ||
        !fits(*(description *)desc, *(layout *)a, *(layout *)b, *(layout *)c))
        return NOT_SUPPORTED;
    memset(choices, 0, sizeof *choices);
    for (int i = 0; i < 4; ++i)
        choices->algorithm.data[i] = wish->alignment[i];
    choices->workspace = 1000 <= wish->workspace ? 1000 : 0;
    *found = 1;
    return GOOD;
}

LT_API cublasLtMatmul(void *, void *desc, const void *alpha, const void *a, void *a_layout, const void *b, void *b_layout,
                      const void *beta, const void *c, void *c_layout, void *d, void *, const lt_algorithm *algorithm,
                      void *workspace, size_t workspace_bytes, void *)
{
    const description how = *(description *)desc;
    const layout la = *(layout *)a_layout, lb = *(layout *)b_layout, lc = *(layout *)c_layout;
    const uint64_t *alignment = algorithm->data;
    if (c != d || !fits(how, la, lb, lc) || !aligned(a, la, alignment[0]) || !aligned(b, lb, alignment[1]) ||
        !aligned(c, lc, alignment[2]) || !workspace || workspace_bytes < 1000)
        return BAD_VALUE;
    auto body = [=]() {
        if (threadIdx.x != 0)
            return;
        memset(workspace, 0xee, workspace_bytes);
        if (lc.type == LT_REAL_32)
            product(how, *(const float *)alpha, (const float *)a, la, (const float *)b, lb, *(const float *)beta, (float *)d,
                    lc);
        else
            product(how, *(const double *)alpha, (const double *)a, la, (const double *)b, lb, *(const double *)beta,
                    (double *)d, lc);
    };
    emulate::launch_body("cublasLtMatmul", dim3(1), dim3(32), 0, body);
    return cudaGetLastError() == cudaSuccess ? GOOD : (int32_t)NOT_SUPPORTED;
}
