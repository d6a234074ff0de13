/* SPDX-License-Identifier: Apache-2.0
 * Matrix products by oneDNN. */
#ifndef DDI_CPU_ONEDNN_H
#define DDI_CPU_ONEDNN_H

#include <detrdistill/sys/backend.h>

/* Every open that succeeds needs its close; the last one drops all primitives. Any thread. */
dd_status cpu_onednn_open(void);
void cpu_onednn_close(void);

dd_status cpu_onednn_matmul(dd_exec *exec, const void *args);
int32_t cpu_onednn_accepts(const void *args);

#endif
