/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints of torch.save. */
#include "fuzz_tensorfile.inc.h"
