/* SPDX-License-Identifier: Apache-2.0
 * Every own kernel, compiled for AVX-512 (F, VL, DQ, BW). */
#include "backend/cpu/kernels.h"

#include "backend/cpu/convert.inc.h"
