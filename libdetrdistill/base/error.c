/* SPDX-License-Identifier: Apache-2.0
 * The calling thread's last error. */
#include "base/error.h"
#include "base/limits.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PLACES = 4 };

static _Thread_local struct {
    dd_status status;
    char message[DDI_MAX_ERROR_BYTES];
    char subject[DDI_MAX_ERROR_BYTES];
    int64_t place[PLACES];
} last_error;

static void clear_places(void)
{
    for (int i = 0; i < PLACES; i++)
        last_error.place[i] = -1;
}

void ddi_error_clear(void)
{
    last_error.status = DD_OK;
    last_error.message[0] = last_error.subject[0] = '\0';
    clear_places();
}

/* Drops an incomplete UTF-8 character that a full buffer left at its end. */
static void cut_at_character(char *text)
{
    size_t n = strlen(text), start = n;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (n - (start - 1) < need)
        text[start - 1] = '\0';
}

dd_status ddi_fail(dd_status status, const char *subject, const char *format, ...)
{
    char message[DDI_MAX_ERROR_BYTES]; /* the arguments may point into the old message */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    cut_at_character(message);
    last_error.status = status;
    memcpy(last_error.message, message, sizeof message);
    snprintf(last_error.subject, sizeof last_error.subject, "%s", subject ? subject : "");
    cut_at_character(last_error.subject);
    clear_places();
    return status;
}

void ddi_error_set_place(int32_t place, int64_t index)
{
    if (place >= 0 && place < PLACES)
        last_error.place[place] = index;
}

dd_status ddi_fail_nomem(uint64_t bytes, const char *what)
{
    return ddi_fail(DD_ERR_NOMEM, NULL, "out of memory: %llu bytes for %s", (unsigned long long)bytes, what);
}

const char *dd_error_message(void)
{
    return last_error.message;
}

dd_status dd_error_status(void)
{
    return last_error.status;
}

const char *dd_error_subject(void)
{
    return last_error.subject;
}

int64_t dd_error_place(int32_t place)
{
    /* before the thread's first call the places are zeroed, not -1 */
    return place >= 0 && place < PLACES && last_error.status != DD_OK ? last_error.place[place] : -1;
}

const char *dd_status_name(dd_status status)
{
    static const char *const names[] = {
        "DD_OK",         "DD_ERR_ARGUMENT", "DD_ERR_SHAPE",     "DD_ERR_DTYPE",     "DD_ERR_DEVICE",    "DD_ERR_STATE",
        "DD_ERR_OPTION", "DD_ERR_LIMIT",    "DD_ERR_NOMEM",     "DD_ERR_NONFINITE", "DD_ERR_BACKEND",   "DD_ERR_UNSUPPORTED",
        "DD_ERR_FORMAT", "DD_ERR_IO",       "DD_ERR_CANCELLED", "DD_ERR_FORKED",    "DD_ERR_NOT_FOUND", "DD_ERR_INTERNAL",
    };
    int32_t i = status > 0 || status < -17 ? -1 : -status;
    return i < 0 ? "DD_ERR_?" : names[i];
}
