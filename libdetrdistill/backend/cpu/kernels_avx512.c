/* SPDX-License-Identifier: Apache-2.0
 * Every own kernel, compiled for AVX-512 (F, VL, DQ, BW). */
#include "backend/cpu/kernels.h"

#include "backend/cpu/attention.inc.h"
#include "backend/cpu/convert.inc.h"
#include "backend/cpu/cost.inc.h"
#include "backend/cpu/dense.inc.h"
#include "backend/cpu/elements.inc.h"
#include "backend/cpu/feature.inc.h"
#include "backend/cpu/loss.inc.h"
#include "backend/cpu/matmul.inc.h"
#include "backend/cpu/msda.inc.h"
#include "backend/cpu/norms.inc.h"
#include "backend/cpu/positions.inc.h"
#include "backend/cpu/quality.inc.h"
#include "backend/cpu/rows.inc.h"
