/* SPDX-License-Identifier: Apache-2.0
 * Names and versions of the libraries that this build of the module uses. */
#include "backend/cpu/libraries.h"

#include <stdio.h>
#include <string.h>

#if CPU_HAVE_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#endif
#if CPU_HAVE_OPENBLAS
#include <cblas.h>
#endif

void cpu_libraries_describe(char *text, size_t text_size)
{
    text[0] = '\0';
#if CPU_HAVE_ONEDNN
    const dnnl_version_t *version = dnnl_version();
    snprintf(text, text_size, "oneDNN %d.%d, ", version->major, version->minor);
#endif
#if CPU_HAVE_OPENBLAS
    /* "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH .." */
    const size_t used = strlen(text);
    int major = 0, minor = 0, patch = 0;
    if (sscanf(openblas_get_config(), "OpenBLAS %d.%d.%d", &major, &minor, &patch) == 3) {
        snprintf(text + used, text_size - used, "OpenBLAS %d.%d.%d, ", major, minor, patch);
    }
#endif
}
