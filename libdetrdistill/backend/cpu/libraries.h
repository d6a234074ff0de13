/* SPDX-License-Identifier: Apache-2.0
 * Names and versions of the libraries that this build of the module uses. */
#ifndef DDI_CPU_LIBRARIES_H
#define DDI_CPU_LIBRARIES_H

#include <stddef.h>

/* "oneDNN 3.2, OpenBLAS 0.3.21, ", or less. */
void cpu_libraries_describe(char *text, size_t text_size);

#endif
