/* SPDX-License-Identifier: Apache-2.0
 * The module's device handle, the operators that its kernel table is made of, and what every operator's host side needs:
 * checked launches, the current device kept, scratch memory. */
#ifndef DDC_DEVICE_CUH
#define DDC_DEVICE_CUH

#include "platform.cuh"

#include <detrdistill/sys/backend.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct ddc_lt_cache;

struct ddc_device {
    int index;
    pthread_mutex_t lock; /* of `lt` */
    ddc_lt_cache *lt;     /* cuBLASLt's handle and the algorithms chosen so far; NULL until the first product */
};

/* Makes `index` the current device of the thread for a scope; the caller's own comes back at its end. */
struct ddc_current_device {
    int before = -1;
    bool changed = false;
    cudaError_t error;

    explicit ddc_current_device(int index)
    {
        error = cudaGetDevice(&before);
        if (error == cudaSuccess && before != index) {
            error = cudaSetDevice(index);
            changed = error == cudaSuccess;
        }
    }
    ~ddc_current_device()
    {
        if (changed)
            (void)cudaSetDevice(before);
    }
    ddc_current_device(const ddc_current_device &) = delete;
    ddc_current_device &operator=(const ddc_current_device &) = delete;
};

/* Operators of operators.def, by their name in ops.def, each for float and double: dd_status ddc_gt_cost<float>(exec, args). */
#define DDC_OP(name) template <class T> dd_status ddc_##name(dd_exec *exec, const void *arguments);
#include "operators.def"
#undef DDC_OP
#define DDC_OPERATOR(name)                                                                                                     \
    template dd_status ddc_##name<float>(dd_exec *, const void *);                                                             \
    template dd_status ddc_##name<double>(dd_exec *, const void *)

/* The matrix product by cuBLASLt, which need not be there. */
template <class T> dd_status ddc_matmul_cublaslt(dd_exec *exec, const void *arguments);
int32_t ddc_lt_present(const void *arguments); /* the `accepts` of those rows: arguments are not looked at */
void ddc_lt_free(ddc_lt_cache *cache);

/* c = alpha op(a) op(b) + beta c by the fastest kernel present. */
template <class T> dd_status ddc_multiply(dd_exec *exec, const dd_op_matmul *product);

/* Status of a CUDA call made for the operator whose function is `function` (__func__). */
dd_status ddc_check(dd_exec *exec, const char *function, cudaError_t error);
/* Adds the error to the calling thread's sentence for last_error. */
dd_status ddc_keep_error(const char *what, cudaError_t error);
const char *ddc_kept_error(void);

#define DDC_TRY(expression)                                                                                                    \
    do {                                                                                                                       \
        dd_status ddc_try_status = (expression);                                                                               \
        if (ddc_try_status != DD_OK)                                                                                           \
            return ddc_try_status;                                                                                             \
    } while (0)

/* Launches on the caller's stream with `exec` in scope; returns from the operator when that failed. No blocks: nothing to do.
 */
#define DDC_LAUNCH(kernel, blocks, threads, shared_bytes, ...)                                                                 \
    do {                                                                                                                       \
        unsigned ddc_grid = (blocks);                                                                                          \
        if (ddc_grid != 0) {                                                                                                   \
            DD_LAUNCH(kernel, dim3(ddc_grid), dim3(threads), shared_bytes, (cudaStream_t)exec->stream, __VA_ARGS__);           \
            DDC_TRY(ddc_check(exec, __func__, cudaGetLastError()));                                                            \
        }                                                                                                                      \
    } while (0)

#define DDC_CUDA(call) DDC_TRY(ddc_check(exec, __func__, (call)))

/* Every operator starts with this: its arguments, and the device current until it returns. */
#define DDC_BEGIN(type)                                                                                                        \
    const type &a = *(const type *)arguments;                                                                                  \
    ddc_current_device current(((ddc_device *)exec->device)->index);                                                           \
    DDC_TRY(ddc_check(exec, __func__, current.error))

/* Kernels walk their items in steps of the grid, so any number of blocks is right; this many are enough. */
static inline unsigned ddc_blocks(int64_t items, int64_t per_block = 1)
{
    const int64_t most = 1 << 20;
    int64_t blocks = (items + per_block - 1) / per_block;
    return blocks < 0 ? 0u : (unsigned)(blocks < most ? blocks : most);
}

template <class U> static inline dd_status ddc_scratch(dd_exec *exec, int64_t count, U **memory)
{
    *memory = (U *)exec->scratch(exec, (size_t)(count > 0 ? count : 1) * sizeof(U));
    return *memory ? DD_OK : exec->fail(exec, DD_ERR_NOMEM, "out of device memory for a kernel's working space");
}

#endif
