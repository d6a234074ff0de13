/* SPDX-License-Identifier: Apache-2.0
 * A wrapper for calls into the library: a failure has a sentence and a documented status, a success leaves no sentence. */
#ifndef TESTS_GUARD_H
#define TESTS_GUARD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <detrdistill/detrdistill.h>

/* Checks what the call left behind, notes (function, status), and gives the status on. */
#define CALL(call) guard_call(#call, (call), __FILE__, __LINE__)
/* The call must be good, or fail with this status. */
#define GOOD(call) guard_expect(DD_OK, #call, (call), __FILE__, __LINE__)
#define FAILS(status, call) guard_expect(status, #call, (call), __FILE__, __LINE__)

dd_status guard_call(const char *call, dd_status status, const char *file, int line);
void guard_expect(dd_status expected, const char *call, dd_status status, const char *file, int line);

/* The last sentence says `words`. */
void guard_message_has(const char *words, const char *file, int line);
#define SAYS(words) guard_message_has(words, __FILE__, __LINE__)

/* Last test of a program: every pair (function, status) seen is among the "Errors:" of the headers. */
void every_status_is_documented(void **state);

#endif
