/* SPDX-License-Identifier: Apache-2.0
 * Files of safetensors. */
#include "fuzz_tensorfile.inc.h"
