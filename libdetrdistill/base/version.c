/* SPDX-License-Identifier: Apache-2.0
 * Version numbers. (dd_has lies in backend/registry.c.) */
#include <detrdistill/version.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *dd_version(void)
{
    return TEXT(DD_VERSION_MAJOR) "." TEXT(DD_VERSION_MINOR) "." TEXT(DD_VERSION_PATCH);
}

uint32_t dd_abi_version(void)
{
    return DD_ABI_VERSION;
}
