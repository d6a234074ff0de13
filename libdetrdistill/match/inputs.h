/* SPDX-License-Identifier: Apache-2.0
 * Tensors bound by name, and their way to contiguous reals on the device. */
#ifndef DDI_MATCH_INPUTS_H
#define DDI_MATCH_INPUTS_H

#include "backend/exec.h"
#include <detrdistill/tensor.h>

typedef enum { DDI_NONFINITE_ERROR, DDI_NONFINITE_SKIP, DDI_NONFINITE_CLAMP } ddi_nonfinite;

/* What may be bound under a name. */
typedef enum { DDI_REALS = 1, DDI_INDICES = 2, DDI_BYTES = 4 } ddi_element_kind;

/* One name. `tensor` is the caller's view; `data` is where a step finds it as contiguous reals (or indices, bytes) on the
 * device: the caller's own memory when it already has that form, else `staged`. */
typedef struct ddi_input {
    char name[48];
    ddi_element_kind kind;
    int32_t dims;  /* needed number of dimensions, 0: any */
    bool writable; /* a gradient */
    bool anywhere; /* may lie on the CPU when the context is on a device (objects, sizes) */
    bool bound;
    dd_tensor tensor;
    ddi_buffer staged;
    void *data;
} ddi_input;

/* Binds (tensor = NULL: unbinds) by name among `count` inputs. */
dd_status ddi_inputs_bind(ddi_exec *exec, ddi_input *input, int32_t count, const char *name, const dd_tensor *tensor);
void ddi_inputs_free(ddi_exec *exec, ddi_input *input, int32_t count);

/* The tensor is bound and has this shape; -1 leaves a size open. */
dd_status ddi_input_expect(const ddi_input *input, int32_t dims, const int64_t *shape);

/* Makes `data` ready for reading as reals of `dtype` (sanitise: non-finite values are replaced). */
dd_status ddi_input_stage(ddi_exec *exec, ddi_input *input, int32_t dtype, bool sanitise);

/* Makes `data` ready for a gradient: the caller's memory if a kernel may write there, else a buffer that ddi_output_deliver
 * copies out. */
dd_status ddi_output_stage(ddi_exec *exec, ddi_input *output, int32_t dtype);
/* Brings a staged gradient to the caller. `source` (or NULL): zeros are written where it is not finite. */
dd_status ddi_output_deliver(ddi_exec *exec, ddi_input *output, int32_t dtype, const ddi_input *source);
dd_status ddi_output_zero(ddi_exec *exec, ddi_input *output, int32_t dtype);
/* Zeros in the caller's memory, on the way out of a failure: it neither obeys a cancellation nor replaces the error. */
void ddi_output_clear(ddi_exec *exec, const ddi_input *output);

/* Copies a bound index or byte tensor to host memory as int32. Indices beyond int32 are an error. */
dd_status ddi_input_to_host(ddi_exec *exec, const ddi_input *input, int32_t *out);
/* The same for numbers. */
dd_status ddi_input_to_host_real(ddi_exec *exec, const ddi_input *input, double *out);

#endif
