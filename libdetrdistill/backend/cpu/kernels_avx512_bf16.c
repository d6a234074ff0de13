/* SPDX-License-Identifier: Apache-2.0
 * Products of bf16, compiled for AVX-512 with BF16. */
#include "backend/cpu/kernels.h"

#include "backend/cpu/dense.inc.h"
