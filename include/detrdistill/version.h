/* SPDX-License-Identifier: Apache-2.0
 * Version and features of the library that is loaded (not of the header it was compiled with). */
#ifndef DETRDISTILL_VERSION_H
#define DETRDISTILL_VERSION_H

#include <detrdistill/status.h>

#define DD_VERSION_MAJOR 0
#define DD_VERSION_MINOR 1
#define DD_VERSION_PATCH 0

/* Grows by one with each change of the binary interface; equal numbers are compatible. */
#define DD_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0". Static, any thread. */
DD_API const char *dd_version(void);

/* DD_ABI_VERSION of the loaded library. */
DD_API uint32_t dd_abi_version(void);

/* 1 if the loaded library can do `feature`, else 0: "cpu", "cuda" (module present and usable), "ref", "avx2", "avx512",
 * "fault_points" (a build for tests). NULL and unknown names give 0. Any thread. */
DD_API int32_t dd_has(const char *feature);

#ifdef __cplusplus
}
#endif
#endif
