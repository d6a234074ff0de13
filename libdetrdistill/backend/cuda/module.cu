/* SPDX-License-Identifier: Apache-2.0
 * The module's entry: devices, memory, copies, errors and the table of kernels. */
#include "device.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static thread_local char kept_error[256];

dd_status ddc_keep_error(const char *what, cudaError_t error)
{
    (void)cudaGetLastError(); /* what is not sticky is told once */
    snprintf(kept_error, sizeof kept_error, "CUDA %s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
    return error == cudaErrorMemoryAllocation ? DD_ERR_NOMEM : DD_ERR_BACKEND;
}

const char *ddc_kept_error(void)
{
    return kept_error;
}

dd_status ddc_check(dd_exec *exec, const char *function, cudaError_t error)
{
    if (error == cudaSuccess)
        return DD_OK;
    char what[64];
    snprintf(what, sizeof what, "operator %s", strncmp(function, "ddc_", 4) == 0 ? function + 4 : function);
    dd_status status = ddc_keep_error(what, error);
    return exec->fail(exec, status, kept_error);
}

/* A failed call of the device table, for last_error. */
static dd_status checked(const char *what, cudaError_t error)
{
    return error == cudaSuccess ? DD_OK : ddc_keep_error(what, error);
}

static cudaError_t count_devices(int *count)
{
    cudaError_t error = cudaGetDeviceCount(count);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        *count = 0;
    }
    return error;
}

static int32_t score(char *why, size_t why_size)
{
    int count, driver = 0;
    cudaError_t error = count_devices(&count);
    if (error == cudaSuccess && count > 0)
        return 100;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        snprintf(why, why_size, "no CUDA driver: libcuda.so.1 was not found");
    else if (error == cudaErrorInsufficientDriver)
        snprintf(why, why_size, "the CUDA driver (for CUDA %d.%d) is too old for this module", driver / 1000,
                 driver % 1000 / 10);
    else if (error == cudaSuccess || error == cudaErrorNoDevice)
        snprintf(why, why_size, "no CUDA device");
    else
        snprintf(why, why_size, "no CUDA device: %s", cudaGetErrorString(error));
    return 0;
}

static int32_t device_count(void)
{
    int count;
    (void)count_devices(&count);
    return count;
}

static int32_t isa(void)
{
    return DD_ISA_NONE;
}

static dd_status describe_device(int32_t index, cudaDeviceProp *properties, char *text, size_t text_size)
{
    int count;
    cudaError_t error = count_devices(&count);
    if (index < 0 || index >= count) {
        snprintf(text, text_size, "no CUDA device %d (there are %d)", (int)index, count);
        return DD_ERR_DEVICE;
    }
    error = cudaGetDeviceProperties(properties, index);
    if (error != cudaSuccess) {
        (void)checked("cudaGetDeviceProperties", error);
        snprintf(text, text_size, "%s", kept_error);
        return DD_ERR_DEVICE;
    }
    if (properties->major < 8) {
        snprintf(text, text_size, "%s has compute capability %d.%d, 8.0 is needed", properties->name, properties->major,
                 properties->minor);
        return DD_ERR_DEVICE;
    }
    snprintf(text, text_size, "%s, compute capability %d.%d, %.0f GiB", properties->name, properties->major, properties->minor,
             (double)properties->totalGlobalMem / (1 << 30));
    return DD_OK;
}

static dd_status device_open(int32_t index, void **device, char *text, size_t text_size)
{
    cudaDeviceProp properties;
    DDC_TRY(describe_device(index, &properties, text, text_size));
    ddc_current_device current(index);
    if (current.error != cudaSuccess || (current.error = cudaFree(NULL)) != cudaSuccess) { /* makes the context */
        (void)checked("cudaSetDevice", current.error);
        snprintf(text, text_size, "%s", kept_error);
        return DD_ERR_DEVICE;
    }
    ddc_device *opened = (ddc_device *)calloc(1, sizeof *opened);
    if (!opened || pthread_mutex_init(&opened->lock, NULL) != 0) {
        free(opened);
        return DD_ERR_NOMEM;
    }
    opened->index = index;
    *device = opened;
    return DD_OK;
}

static void device_close(void *device)
{
    ddc_device *d = (ddc_device *)device;
    if (!d)
        return;
    ddc_current_device current(d->index);
    ddc_lt_free(d->lt);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static void *mem_alloc(void *device, size_t bytes)
{
    ddc_current_device current(((ddc_device *)device)->index);
    void *memory = NULL;
    cudaError_t error = current.error == cudaSuccess ? cudaMalloc(&memory, bytes > 0 ? bytes : 1) : current.error;
    return checked("cudaMalloc", error) == DD_OK ? memory : NULL;
}

static void mem_free(void *device, void *memory)
{
    ddc_current_device current(((ddc_device *)device)->index);
    (void)checked("cudaFree", cudaFree(memory));
}

static dd_status copy(void *device, void *stream, void *dst, const void *src, size_t bytes, int32_t kind)
{
    ddc_current_device current(((ddc_device *)device)->index);
    const cudaMemcpyKind direction = kind == DD_COPY_TO_DEVICE ? cudaMemcpyHostToDevice
                                     : kind == DD_COPY_TO_HOST ? cudaMemcpyDeviceToHost
                                                               : cudaMemcpyDeviceToDevice;
    DDC_TRY(checked("cudaSetDevice", current.error));
    return bytes == 0 ? DD_OK : checked("cudaMemcpyAsync", cudaMemcpyAsync(dst, src, bytes, direction, (cudaStream_t)stream));
}

static dd_status zero(void *device, void *stream, void *dst, size_t bytes)
{
    ddc_current_device current(((ddc_device *)device)->index);
    DDC_TRY(checked("cudaSetDevice", current.error));
    return bytes == 0 ? DD_OK : checked("cudaMemsetAsync", cudaMemsetAsync(dst, 0, bytes, (cudaStream_t)stream));
}

static dd_status sync(void *device, void *stream)
{
    ddc_current_device current(((ddc_device *)device)->index);
    DDC_TRY(checked("cudaSetDevice", current.error));
    return checked("cudaStreamSynchronize", cudaStreamSynchronize((cudaStream_t)stream));
}

static const char *last_error(void *device)
{
    (void)device;
    return ddc_kept_error();
}

/* cuBLASLt first, where it is there; then this module's own kernels, one for each operator of operators.def. */
static const dd_kernel kernels[] = {
    {DD_OPERATOR_matmul, DD_F32, DD_ISA_NONE, 0, "cublaslt", ddc_matmul_cublaslt<float>, ddc_lt_present},
    {DD_OPERATOR_matmul, DD_F64, DD_ISA_NONE, 0, "cublaslt", ddc_matmul_cublaslt<double>, ddc_lt_present},
#define DDC_OP(name)                                                                                                           \
    {DD_OPERATOR_##name, DD_F32, DD_ISA_NONE, 0, "own", ddc_##name<float>, NULL},                                              \
        {DD_OPERATOR_##name, DD_F64, DD_ISA_NONE, 0, "own", ddc_##name<double>, NULL},
#include "operators.def"
#undef DDC_OP
};

static const dd_backend backend = {sizeof(dd_backend),
                                   DD_BACKEND_INTERFACE,
                                   "cuda",
                                   0,
                                   DD_DEVICE_CUDA,
                                   score,
                                   device_count,
                                   isa,
                                   device_open,
                                   device_close,
                                   mem_alloc,
                                   mem_free,
                                   copy,
                                   zero,
                                   sync,
                                   last_error,
                                   NULL,
                                   kernels,
                                   (int32_t)(sizeof kernels / sizeof kernels[0]),
                                   0};

extern "C" __attribute__((visibility("default"))) const dd_backend *dd_backend_entry(uint32_t interface_version)
{
    return interface_version == DD_BACKEND_INTERFACE ? &backend : NULL;
}
