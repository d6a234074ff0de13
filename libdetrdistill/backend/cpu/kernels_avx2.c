/* SPDX-License-Identifier: Apache-2.0
 * Every own kernel, compiled for AVX2 with FMA and F16C. */
#include "backend/cpu/kernels.h"

#include "backend/cpu/convert.inc.h"
