/* SPDX-License-Identifier: Apache-2.0
 * The calling thread's last error: one sentence, what it is about, and where. */
#ifndef DDI_BASE_ERROR_H
#define DDI_BASE_ERROR_H

#include <detrdistill/status.h>

/* Clears the thread's error; every public function that can fail starts with it. */
void ddi_error_clear(void);

/* Sets status, subject (tensor or option name, NULL: none) and the sentence; clears the places. Returns `status`.
 * Works when memory is exhausted. */
dd_status ddi_fail(dd_status status, const char *subject, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Names a place of the error just set (DD_PLACE_*). */
void ddi_error_set_place(int32_t place, int64_t index);

/* DD_ERR_NOMEM with the usual sentence. */
dd_status ddi_fail_nomem(uint64_t bytes, const char *what);

/* return the status of `expression` unless it is good */
#define DDI_TRY(expression)                                                                                                    \
    do {                                                                                                                       \
        dd_status ddi_try_status = (expression);                                                                               \
        if (ddi_try_status != DD_OK)                                                                                           \
            return ddi_try_status;                                                                                             \
    } while (0)

#endif
