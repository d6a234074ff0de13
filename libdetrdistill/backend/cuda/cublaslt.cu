/* SPDX-License-Identifier: Apache-2.0
 * Matrix products by cuBLASLt: the copy that the process has loaded, else the newest that is found. One algorithm for each
 * shape, without split along K, so that results repeat bit for bit. */
#include "block.cuh"
#include "cublaslt.h"
#include "device.cuh"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef DDC_CUBLASLT_NAMES
#define DDC_CUBLASLT_NAMES "libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11", "/usr/local/cuda/lib64/libcublasLt.so"
#endif

namespace {
constexpr size_t MOST_WORKSPACE = 4 << 20;
constexpr int CACHED = 64;

struct lt_library {
    bool present;
#define X(name, parameters) int32_t(*name) parameters;
    LT_FUNCTIONS(X)
#undef X
};

lt_library lt;
pthread_once_t lt_once = PTHREAD_ONCE_INIT;

void *open_library()
{
    static const char *const names[] = {DDC_CUBLASLT_NAMES};
    for (const char *name : names) {
        if (void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD))
            return library;
    }
    for (const char *name : names) {
        if (void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL))
            return library;
    }
    return NULL;
}

/* The library stays loaded: its kernels belong to the device's context. */
void find_library()
{
    void *library = open_library();
    lt.present = library != NULL;
#define X(name, parameters)                                                                                                    \
    if (library) {                                                                                                             \
        void *symbol = dlsym(library, #name);                                                                                  \
        memcpy(&lt.name, &symbol, sizeof symbol);                                                                              \
        lt.present = lt.present && symbol;                                                                                     \
    }
    LT_FUNCTIONS(X)
#undef X
}

/* What an algorithm was chosen for. No padding: compared as bytes. */
struct lt_shape {
    int64_t stride_a, stride_b, stride_c;
    int32_t real, batch, M, N, K, lda, ldb, ldc, trans_a, trans_b;
    uint32_t alignment[3];
    int32_t beta;
};

static_assert(sizeof(lt_shape) == 80, "shapes are compared as bytes");

struct descriptors {
    void *product = NULL, *left = NULL, *right = NULL, *result = NULL, *preference = NULL;

    ~descriptors()
    {
        if (product)
            lt.cublasLtMatmulDescDestroy(product);
        if (left)
            lt.cublasLtMatrixLayoutDestroy(left);
        if (right)
            lt.cublasLtMatrixLayoutDestroy(right);
        if (result)
            lt.cublasLtMatrixLayoutDestroy(result);
        if (preference)
            lt.cublasLtMatmulPreferenceDestroy(preference);
    }
};

#define LT_TRY(call)                                                                                                           \
    do {                                                                                                                       \
        int32_t lt_status = (call);                                                                                            \
        if (lt_status != 0)                                                                                                    \
            return lt_status;                                                                                                  \
    } while (0)

int32_t make_layout(void **layout, const lt_shape &s, int32_t rows, int32_t columns, int32_t leading, int64_t stride)
{
    /* Row-major here is column-major there: columns are counted first. */
    LT_TRY(lt.cublasLtMatrixLayoutCreate(layout, s.real, (uint64_t)columns, (uint64_t)rows, leading));
    LT_TRY(lt.cublasLtMatrixLayoutSetAttribute(*layout, LT_LAYOUT_BATCH_COUNT, &s.batch, sizeof s.batch));
    return lt.cublasLtMatrixLayoutSetAttribute(*layout, LT_LAYOUT_BATCH_OFFSET, &stride, sizeof stride);
}

/* C^t = op(B)^t op(A)^t: read column-major, the stored matrices are the transposes, and B comes first. */
int32_t describe(descriptors *d, const lt_shape &s)
{
    const int32_t first = s.trans_b ? LT_OP_T : LT_OP_N, second = s.trans_a ? LT_OP_T : LT_OP_N;
    LT_TRY(lt.cublasLtMatmulDescCreate(&d->product, s.real == LT_REAL_32 ? LT_COMPUTE_32 : LT_COMPUTE_64, s.real));
    LT_TRY(lt.cublasLtMatmulDescSetAttribute(d->product, LT_DESC_TRANSA, &first, sizeof first));
    LT_TRY(lt.cublasLtMatmulDescSetAttribute(d->product, LT_DESC_TRANSB, &second, sizeof second));
    LT_TRY(make_layout(&d->left, s, s.trans_b ? s.N : s.K, s.trans_b ? s.K : s.N, s.ldb, s.stride_b));
    LT_TRY(make_layout(&d->right, s, s.trans_a ? s.K : s.M, s.trans_a ? s.M : s.K, s.lda, s.stride_a));
    return make_layout(&d->result, s, s.M, s.N, s.ldc, s.stride_c);
}

int32_t choose(void *handle, descriptors *d, const lt_shape &s, lt_choice *choice)
{
    const uint32_t none = LT_REDUCTION_NONE;
    const size_t workspace = MOST_WORKSPACE;
    int32_t found = 0;
    LT_TRY(lt.cublasLtMatmulPreferenceCreate(&d->preference));
    LT_TRY(lt.cublasLtMatmulPreferenceSetAttribute(d->preference, LT_PREF_WORKSPACE, &workspace, sizeof workspace));
    LT_TRY(lt.cublasLtMatmulPreferenceSetAttribute(d->preference, LT_PREF_REDUCTION_MASK, &none, sizeof none));
    const int32_t attributes[] = {LT_PREF_ALIGNMENT_A, LT_PREF_ALIGNMENT_B, LT_PREF_ALIGNMENT_C, LT_PREF_ALIGNMENT_D};
    const uint32_t alignments[] = {s.alignment[1], s.alignment[0], s.alignment[2], s.alignment[2]};
    for (int i = 0; i < 4; ++i)
        LT_TRY(lt.cublasLtMatmulPreferenceSetAttribute(d->preference, attributes[i], &alignments[i], sizeof alignments[i]));
    LT_TRY(lt.cublasLtMatmulAlgoGetHeuristic(handle, d->product, d->left, d->right, d->result, d->result, d->preference, 1,
                                             choice, &found));
    return found > 0 ? choice->status : -1;
}

/* The alignment, up to 256 bytes, that all matrices of an operand have. */
uint32_t alignment_of(const void *first, int64_t stride_bytes)
{
    uintptr_t bits = (uintptr_t)first | (uintptr_t)stride_bytes | 256;
    return (uint32_t)(bits & ~(bits - 1));
}

template <class T> lt_shape shape_of(const dd_op_matmul &p)
{
    const int64_t size = sizeof(T);
    lt_shape s = {};
    s.stride_a = p.stride_a;
    s.stride_b = p.stride_b;
    s.stride_c = p.stride_c;
    s.real = sizeof(T) == 4 ? LT_REAL_32 : LT_REAL_64;
    s.batch = p.batch;
    s.M = p.M;
    s.N = p.N;
    s.K = p.K;
    s.lda = p.lda;
    s.ldb = p.ldb;
    s.ldc = p.ldc;
    s.trans_a = p.trans_a != 0;
    s.trans_b = p.trans_b != 0;
    s.alignment[0] = alignment_of(p.a, p.stride_a * size);
    s.alignment[1] = alignment_of(p.b, p.stride_b * size);
    s.alignment[2] = alignment_of(p.c, p.stride_c * size);
    s.beta = p.beta != 0;
    return s;
}

template <class T>
__global__ void add_bias(T *c, const T *bias, int64_t count, int32_t M, int32_t N, int32_t ldc, int64_t stride, bool rows)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS) {
        int64_t n = i % N, m = i / N % M;
        c[i / N / M * stride + m * ldc + n] += bias[rows ? m : n];
    }
}

dd_status fail_lt(dd_exec *exec, const char *what, int32_t status)
{
    char sentence[128];
    snprintf(sentence, sizeof sentence, "CUDA operator matmul: cuBLASLt %s failed with status %d", what, (int)status);
    return exec->fail(exec, DD_ERR_BACKEND, sentence);
}
} // namespace

struct ddc_lt_cache {
    void *handle;
    int used, next;
    lt_shape shape[CACHED];
    lt_choice choice[CACHED];
};

int32_t ddc_lt_present(const void *arguments)
{
    (void)arguments;
    pthread_once(&lt_once, find_library);
    return lt.present;
}

void ddc_lt_free(ddc_lt_cache *cache)
{
    if (cache)
        lt.cublasLtDestroy(cache->handle);
    free(cache);
}

/* With the device's lock held. */
static dd_status open_cache(dd_exec *exec, ddc_device *device)
{
    if (device->lt)
        return DD_OK;
    ddc_lt_cache *cache = (ddc_lt_cache *)calloc(1, sizeof(ddc_lt_cache));
    if (!cache)
        return exec->fail(exec, DD_ERR_NOMEM, "out of memory for cuBLASLt's algorithms");
    int32_t status = lt.cublasLtCreate(&cache->handle);
    if (status != 0) {
        free(cache);
        return fail_lt(exec, "cublasLtCreate", status);
    }
    device->lt = cache;
    return DD_OK;
}

/* With the device's lock held. The algorithm for a shape, the oldest of the cache making room. */
static dd_status find_choice(dd_exec *exec, ddc_lt_cache *cache, descriptors *d, const lt_shape &shape, lt_choice *choice)
{
    for (int i = 0; i < cache->used; ++i) {
        if (memcmp(&cache->shape[i], &shape, sizeof shape) == 0) {
            *choice = cache->choice[i];
            return DD_OK;
        }
    }
    int32_t status = choose(cache->handle, d, shape, choice);
    if (status != 0)
        return fail_lt(exec, "cublasLtMatmulAlgoGetHeuristic", status);
    cache->shape[cache->next] = shape;
    cache->choice[cache->next] = *choice;
    cache->next = (cache->next + 1) % CACHED;
    cache->used = cache->used < CACHED ? cache->used + 1 : CACHED;
    return DD_OK;
}

template <class T> dd_status ddc_matmul_cublaslt(dd_exec *exec, const void *arguments)
{
    DDC_BEGIN(dd_op_matmul);
    if (a.batch == 0 || a.M == 0 || a.N == 0)
        return DD_OK;
    if (a.K == 0)
        return ddc_matmul<T>(exec, arguments);
    ddc_device *device = (ddc_device *)exec->device;
    const lt_shape shape = shape_of<T>(a);
    descriptors d;
    lt_choice choice = {};
    int32_t status = describe(&d, shape);
    if (status != 0)
        return fail_lt(exec, "descriptor", status);
    pthread_mutex_lock(&device->lock);
    dd_status found = open_cache(exec, device);
    if (found == DD_OK)
        found = find_choice(exec, device->lt, &d, shape, &choice);
    pthread_mutex_unlock(&device->lock);
    DDC_TRY(found);
    unsigned char *workspace = NULL;
    if (choice.workspace > 0)
        DDC_TRY(ddc_scratch(exec, (int64_t)choice.workspace, &workspace));
    const T alpha = (T)a.alpha, beta = (T)a.beta;
    status = lt.cublasLtMatmul(device->lt->handle, d.product, &alpha, a.b, d.left, a.a, d.right, &beta, a.c, d.result, a.c,
                               d.result, &choice.algorithm, workspace, choice.workspace, exec->stream);
    if (status != 0)
        return fail_lt(exec, "cublasLtMatmul", status);
    int64_t count = a.bias ? (int64_t)a.batch * a.M * a.N : 0;
    DDC_LAUNCH((add_bias<T>), ddc_blocks(count, THREADS), THREADS, 0, (T *)a.c, (const T *)a.bias, count, a.M, a.N, a.ldc,
               a.stride_c, a.bias_rows != 0);
    return DD_OK;
}

template dd_status ddc_matmul_cublaslt<float>(dd_exec *, const void *);
template dd_status ddc_matmul_cublaslt<double>(dd_exec *, const void *);
