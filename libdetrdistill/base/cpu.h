/* SPDX-License-Identifier: Apache-2.0
 * Which vector instructions this machine can run. */
#ifndef DDI_BASE_CPU_H
#define DDI_BASE_CPU_H

#include <stdint.h>

/* The best DD_ISA_* (sys/backend.h) that processor and operating system support. */
int32_t ddi_cpu_isa(void);

#endif
