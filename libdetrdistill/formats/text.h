/* SPDX-License-Identifier: Apache-2.0
 * Text that grows: numbers with a point in every locale, strings escaped for JSON and XML. */
#ifndef DDI_FORMATS_TEXT_H
#define DDI_FORMATS_TEXT_H

#include <detrdistill/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DDI_REAL_BYTES = 32 };

/* Starts as {0}. After an allocation that failed nothing more is added. */
typedef struct ddi_text {
    char *data; /* not terminated */
    size_t size, room;
    bool failed;
} ddi_text;

void ddi_text_free(ddi_text *text);
void ddi_text_bytes(ddi_text *text, const void *bytes, size_t size);
void ddi_text_put(ddi_text *text, const char *words);
void ddi_text_integer(ddi_text *text, int64_t number);
/* At most `digits` (1 to 17) significant digits, "nan", "inf" or "-inf". */
void ddi_text_real(ddi_text *text, double number, int digits);
/* In quotes, escaped; bytes that are no UTF-8 become U+FFFD. */
void ddi_text_json(ddi_text *text, const char *words);
/* For the content of elements and attributes; what XML 1.0 does not allow becomes U+FFFD. */
void ddi_text_xml(ddi_text *text, const char *words);

/* NOMEM where an allocation failed. */
dd_status ddi_text_status(const ddi_text *text);

/* The number as ddi_text_real writes it, NUL-terminated. */
void ddi_real_text(double number, int digits, char out[DDI_REAL_BYTES]);

#endif
