/* SPDX-License-Identifier: Apache-2.0
 * The part of cuBLASLt's binary interface that the module uses, found at run time: it builds and runs without NVIDIA's
 * header and library. tests/cuda/cublaslt_check.c compares it with the header where there is one. */
#ifndef DDC_CUBLASLT_H
#define DDC_CUBLASLT_H

#include <stddef.h>
#include <stdint.h>

enum {
    LT_OP_N = 0,
    LT_OP_T = 1,
    LT_REAL_32 = 0,
    LT_REAL_64 = 1,
    LT_COMPUTE_32 = 68, /* plain f32: no TF32, no emulation */
    LT_COMPUTE_64 = 70,
    LT_DESC_TRANSA = 3,
    LT_DESC_TRANSB = 4,
    LT_LAYOUT_BATCH_COUNT = 5,
    LT_LAYOUT_BATCH_OFFSET = 6,
    LT_PREF_WORKSPACE = 1,
    LT_PREF_REDUCTION_MASK = 3,
    LT_PREF_ALIGNMENT_A = 5,
    LT_PREF_ALIGNMENT_B = 6,
    LT_PREF_ALIGNMENT_C = 7,
    LT_PREF_ALIGNMENT_D = 8,
    LT_REDUCTION_NONE = 0 /* no split along K: one fixed order of summation */
};

typedef struct lt_algorithm {
    uint64_t data[8];
} lt_algorithm;

typedef struct lt_choice {
    lt_algorithm algorithm;
    size_t workspace;
    int32_t status;
    float waves;
    int32_t reserved[4];
} lt_choice;

/* X(name in the library, parameters); all return cublasStatus_t, 0 for success. */
#define LT_FUNCTIONS(X)                                                                                                        \
    X(cublasLtCreate, (void **handle))                                                                                         \
    X(cublasLtDestroy, (void *handle))                                                                                         \
    X(cublasLtMatmulDescCreate, (void **desc, int32_t compute, int32_t scale_type))                                            \
    X(cublasLtMatmulDescDestroy, (void *desc))                                                                                 \
    X(cublasLtMatmulDescSetAttribute, (void *desc, int32_t attribute, const void *value, size_t bytes))                        \
    X(cublasLtMatrixLayoutCreate, (void **layout, int32_t type, uint64_t rows, uint64_t columns, int64_t leading))             \
    X(cublasLtMatrixLayoutDestroy, (void *layout))                                                                             \
    X(cublasLtMatrixLayoutSetAttribute, (void *layout, int32_t attribute, const void *value, size_t bytes))                    \
    X(cublasLtMatmulPreferenceCreate, (void **preference))                                                                     \
    X(cublasLtMatmulPreferenceDestroy, (void *preference))                                                                     \
    X(cublasLtMatmulPreferenceSetAttribute, (void *preference, int32_t attribute, const void *value, size_t bytes))            \
    X(cublasLtMatmulAlgoGetHeuristic, (void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference,         \
                                       int32_t wanted, lt_choice *choices, int32_t *found))                                    \
    X(cublasLtMatmul, (void *handle, void *desc, const void *alpha, const void *a, void *a_layout, const void *b,              \
                       void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,               \
                       const lt_algorithm *algorithm, void *workspace, size_t workspace_bytes, void *stream))

#endif
