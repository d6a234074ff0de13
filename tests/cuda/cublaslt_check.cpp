/* SPDX-License-Identifier: Apache-2.0
 * Compares the module's own declarations of cuBLASLt with NVIDIA's header. Nothing to run: it compiles or it does not. */
#include "cublaslt.h"
#include <cublasLt.h>

#define SAME(ours, theirs) static_assert((int)(ours) == (int)(theirs), #theirs)
SAME(LT_OP_N, CUBLAS_OP_N);
SAME(LT_OP_T, CUBLAS_OP_T);
SAME(LT_REAL_32, CUDA_R_32F);
SAME(LT_REAL_64, CUDA_R_64F);
SAME(LT_COMPUTE_32, CUBLAS_COMPUTE_32F);
SAME(LT_COMPUTE_64, CUBLAS_COMPUTE_64F);
SAME(LT_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
SAME(LT_DESC_TRANSB, CUBLASLT_MATMUL_DESC_TRANSB);
SAME(LT_LAYOUT_BATCH_COUNT, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT);
SAME(LT_LAYOUT_BATCH_OFFSET, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
SAME(LT_PREF_WORKSPACE, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(LT_PREF_REDUCTION_MASK, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
SAME(LT_PREF_ALIGNMENT_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME(LT_PREF_ALIGNMENT_B, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
SAME(LT_PREF_ALIGNMENT_C, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
SAME(LT_PREF_ALIGNMENT_D, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
SAME(LT_REDUCTION_NONE, CUBLASLT_REDUCTION_SCHEME_NONE);
static_assert(sizeof(lt_algorithm) == sizeof(cublasLtMatmulAlgo_t), "algorithm");
static_assert(sizeof(lt_choice) == sizeof(cublasLtMatmulHeuristicResult_t), "choice");
static_assert(offsetof(lt_choice, workspace) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize), "workspace");
static_assert(offsetof(lt_choice, status) == offsetof(cublasLtMatmulHeuristicResult_t, state), "status");
