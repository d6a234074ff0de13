/* SPDX-License-Identifier: Apache-2.0
 * What fuzz targets share: the entry point of libFuzzer, and input as a file. */
#ifndef TESTS_FUZZ_TARGET_H
#define TESTS_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The path of a file in memory with these bytes; the next call changes it. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* Ends the program, as a crash that a fuzzer notices. */
void fuzz_broken(const char *what);
#define FUZZ_CHECK(condition) ((condition) ? (void)0 : fuzz_broken(#condition))

#endif
