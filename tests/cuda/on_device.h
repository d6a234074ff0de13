/* SPDX-License-Identifier: Apache-2.0
 * Runs cases of tests/kernels on a device backend: arrays in device memory between guard bytes, scratch of the backend's. */
#ifndef ON_DEVICE_H
#define ON_DEVICE_H

#include "ddcheck.h"

enum { DEVICE_SCRATCHES = 64 };

/* A dd_exec whose n-th scratch request can be made to fail, and which keeps the sentence of a failure. */
typedef struct device_exec {
    dd_exec base;
    const dd_backend *backend;
    void *scratch[DEVICE_SCRATCHES];
    int32_t used, fail_scratch;
    char sentence[256];
} device_exec;

void device_exec_init(device_exec *exec, const dd_backend *backend, void *device);
void device_exec_free(device_exec *exec);

/* A case laid out in device memory, for one run or many. */
typedef struct device_case {
    const test_case *c;
    const dd_backend *backend;
    void *device;
    int32_t dtype;
    unsigned char *memory[CASE_ARRAYS]; /* with guards; NULL for arrays that stay on the host */
    size_t skip[CASE_ARRAYS];           /* from there to the array */
    _Alignas(16) unsigned char args[CASE_ARGS];
} device_case;

/* NULL, or what went wrong. */
const char *device_case_open(device_case *d, const test_case *c, int32_t dtype, const dd_backend *backend, void *device,
                             placing place);
/* Takes the results: NULL, or a written guard or a changed input. */
const char *device_case_results(device_case *d, results *out);
void device_case_close(device_case *d);

/* Opens, runs, waits, takes the results and closes. */
const char *run_on_device(dd_kernel_fn kernel, const test_case *c, int32_t dtype, const dd_backend *backend, void *device,
                          placing place, results *out);

/* Bytes of one element in a run of reals of `dtype`. */
size_t element_size(const array *a, int32_t dtype);

/* Compares results in double with the reference in double. NULL, or a sentence. */
const char *compare_f64(const test_case *c, const results *got, const results *truth, double *worst);

/* Cases of the operators that cases.c of tests/kernels leaves out. */
void split_masks_case(int64_t i, test_case *c);
/* Assignment: `unique` says that only one matching is the best. */
void assign_case(int64_t i, test_case *c, bool *unique);
/* NULL, or what is wrong with an assignment, by its own laws and the reference's totals. */
const char *check_assignment(const test_case *c, const results *got, const results *truth, bool unique);

#endif
