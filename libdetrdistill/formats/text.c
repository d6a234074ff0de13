/* SPDX-License-Identifier: Apache-2.0
 * Growing text. */
#include "formats/text.h"
#include "base/alloc.h"
#include "base/error.h"
#include "formats/json_reader.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

void ddi_text_free(ddi_text *text)
{
    ddi_free(NULL, text->data);
    *text = (ddi_text){.data = NULL};
}

void ddi_text_bytes(ddi_text *t, const void *bytes, size_t size)
{
    if (t->failed || size == 0) {
        return;
    }
    if (size > t->room - t->size) {
        size_t room = t->room < 256 ? 512 : t->room * 2;
        room = room - t->size < size ? t->size + size : room;
        char *grown = ddi_realloc(NULL, t->data, room);
        if (!grown) {
            t->failed = true;
            return;
        }
        t->data = grown;
        t->room = room;
    }
    memcpy(t->data + t->size, bytes, size);
    t->size += size;
}

void ddi_text_put(ddi_text *t, const char *words)
{
    ddi_text_bytes(t, words, strlen(words));
}

void ddi_text_integer(ddi_text *t, int64_t number)
{
    char out[DDI_REAL_BYTES];
    ddi_text_bytes(t, out, (size_t)snprintf(out, sizeof out, "%lld", (long long)number));
}

void ddi_real_text(double number, int digits, char out[DDI_REAL_BYTES])
{
    char local[DDI_REAL_BYTES + 16];
    char *to = out;
    if (!isfinite(number)) {
        snprintf(out, DDI_REAL_BYTES, "%s", isnan(number) ? "nan" : number > 0 ? "inf" : "-inf");
        return;
    }
    snprintf(local, sizeof local, "%.*g", digits < 1 ? 1 : digits > 17 ? 17 : digits, number);
    for (const char *at = local; *at;) { /* what is no digit, sign or exponent is the locale's point, of any length */
        if (strchr("0123456789+-e", *at)) {
            *to++ = *at++;
        } else {
            *to++ = '.';
            at += strcspn(at, "0123456789");
        }
    }
    *to = 0;
}

void ddi_text_real(ddi_text *t, double number, int digits)
{
    char out[DDI_REAL_BYTES];
    ddi_real_text(number, digits, out);
    ddi_text_put(t, out);
}

/* Bytes of the character at `at`, or 0 where it is none that a text file may hold. */
static int character(const char *at, const char *end)
{
    const int bytes = ddi_utf8_length(at, end);
    const bool last =
        bytes == 3 && memcmp(at, "\xef\xbf", 2) == 0 && ((unsigned char)at[2] & 0xfe) == 0xbe; /* U+FFFE, U+FFFF */
    return last ? 0 : bytes;
}

void ddi_text_json(ddi_text *t, const char *words)
{
    const char *end = words + strlen(words);
    ddi_text_put(t, "\"");
    while (words < end) {
        const int bytes = ddi_utf8_length(words, end);
        char code[8];
        if (bytes == 0) {
            ddi_text_put(t, REPLACEMENT);
        } else if (*words == '"' || *words == '\\') {
            ddi_text_put(t, "\\");
            ddi_text_bytes(t, words, 1);
        } else if ((unsigned char)*words < 0x20) {
            ddi_text_bytes(t, code, (size_t)snprintf(code, sizeof code, "\\u%04x", (unsigned)*words));
        } else {
            ddi_text_bytes(t, words, (size_t)bytes);
        }
        words += bytes ? bytes : 1;
    }
    ddi_text_put(t, "\"");
}

void ddi_text_xml(ddi_text *t, const char *words)
{
    static const struct {
        char from;
        const char *to;
    } special[] = {{'&', "&amp;"},  {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"},
                   {'\'', "&#39;"}, {'\t', " "},   {'\n', " "},   {'\r', " "}};
    const char *end = words + strlen(words);
    while (words < end) {
        const int bytes = character(words, end);
        const char *other = bytes == 0 || (unsigned char)*words < 0x20 ? REPLACEMENT : NULL;
        for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) {
            other = *words == special[i].from ? special[i].to : other;
        }
        if (other) {
            ddi_text_put(t, other);
        } else {
            ddi_text_bytes(t, words, (size_t)bytes);
        }
        words += bytes ? bytes : 1;
    }
}

dd_status ddi_text_status(const ddi_text *t)
{
    return t->failed ? ddi_fail_nomem(t->room * 2, "a text") : DD_OK;
}
