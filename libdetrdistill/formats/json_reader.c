/* SPDX-License-Identifier: Apache-2.0
 * A strict JSON reader (RFC 8259) for objects, arrays, strings and natural numbers. */
#include "formats/json_reader.h"
#include <string.h>

void ddi_json_start(ddi_json *json, char *text, size_t size)
{
    *json = (ddi_json){text, text, text + size, NULL};
}

bool ddi_json_problem(ddi_json *json, const char *problem)
{
    if (!json->problem)
        json->problem = problem;
    return false;
}

static void skip_space(ddi_json *json)
{
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t'))
        json->at++;
}

bool ddi_json_take(ddi_json *json, char c)
{
    skip_space(json);
    if (json->problem || json->at == json->end || *json->at != c)
        return false;
    json->at++;
    return true;
}

bool ddi_json_expect(ddi_json *json, char c, const char *problem)
{
    return ddi_json_take(json, c) || ddi_json_problem(json, problem);
}

bool ddi_json_next(ddi_json *json, char closing, bool *first)
{
    if (json->problem || ddi_json_take(json, closing))
        return false;
    if (!*first && !ddi_json_take(json, ','))
        return ddi_json_problem(json, closing == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
    *first = false;
    return true;
}

bool ddi_json_finish(ddi_json *json)
{
    skip_space(json);
    return !json->problem && (json->at == json->end || ddi_json_problem(json, "something follows the end"));
}

bool ddi_json_natural(ddi_json *json, int64_t *value)
{
    skip_space(json);
    const char *start = json->at;
    int64_t number = 0;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9') {
        if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, *json->at - '0', &number))
            return ddi_json_problem(json, "the number is too large");
        json->at++;
    }
    ptrdiff_t digits = json->at - start;
    if (digits == 0 || (digits > 1 && *start == '0') || (json->at < json->end && strchr(".eE", *json->at)))
        return ddi_json_problem(json, "expected a whole number, 0 or more");
    *value = number;
    return true;
}

/* Four hexadecimal digits, or -1. */
static int32_t hex4(const ddi_json *json, const char *digits)
{
    if (json->end - digits < 4)
        return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = digits[i];
        int32_t digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static char *put_utf8(char *out, int32_t code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xF0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3F));
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

/* \uXXXX, or two of them where the first is the first half of a surrogate pair; `at` is behind the 'u'. */
static bool unicode_escape(ddi_json *json, char **out)
{
    int32_t code = hex4(json, json->at);
    if (code >= 0xD800 && code < 0xDC00 && json->end - json->at >= 6 && json->at[4] == '\\' && json->at[5] == 'u') {
        int32_t low = hex4(json, json->at + 6);
        if (low < 0xDC00 || low > 0xDFFF)
            return ddi_json_problem(json, "half of a surrogate pair");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        json->at += 6;
    } else if (code >= 0xD800 && code <= 0xDFFF) {
        return ddi_json_problem(json, "half of a surrogate pair");
    }
    if (code <= 0)
        return ddi_json_problem(json, code ? "expected four hexadecimal digits" : "a NUL character");
    json->at += 4;
    *out = put_utf8(*out, code);
    return true;
}

static bool escape(ddi_json *json, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (json->at == json->end)
        return ddi_json_problem(json, "the string does not end");
    char c = *json->at++;
    if (c == 'u')
        return unicode_escape(json, out);
    const char *found = memchr(from, c, sizeof from - 1);
    if (!found)
        return ddi_json_problem(json, "unknown escape in a string");
    *(*out)++ = to[found - from];
    return true;
}

int ddi_utf8_length(const char *text, const char *end)
{
    const unsigned char *c = (const unsigned char *)text;
    int length = c[0] < 0x80 ? 1 : c[0] < 0xC2 ? 0 : c[0] < 0xE0 ? 2 : c[0] < 0xF0 ? 3 : c[0] < 0xF5 ? 4 : 0;
    if (end - text < length)
        return 0;
    for (int i = 1; i < length; i++) {
        if ((c[i] & 0xC0) != 0x80)
            return 0;
    }
    bool overlong = (c[0] == 0xE0 && c[1] < 0xA0) || (c[0] == 0xF0 && c[1] < 0x90);
    bool outside = (c[0] == 0xED && c[1] > 0x9F) || (c[0] == 0xF4 && c[1] > 0x8F);
    return overlong || outside ? 0 : length;
}

bool ddi_json_string(ddi_json *json, char **text, size_t *bytes)
{
    if (!ddi_json_expect(json, '"', "expected a string"))
        return false;
    char *start = json->at, *out = start; /* what is decoded is never longer than what was read */
    while (json->at < json->end && *json->at != '"') {
        if (*json->at == '\\') {
            json->at++;
            if (!escape(json, &out))
                return false;
            continue;
        }
        int length = ddi_utf8_length(json->at, json->end);
        if (length == 0)
            return ddi_json_problem(json, "not UTF-8");
        if ((unsigned char)*json->at < 0x20)
            return ddi_json_problem(json, "a control character in a string");
        memmove(out, json->at, (size_t)length);
        out += length;
        json->at += length;
    }
    if (json->at == json->end)
        return ddi_json_problem(json, "the string does not end");
    json->at++;
    *out = 0; /* at the closing quote or before it */
    *text = start;
    *bytes = (size_t)(out - start);
    return true;
}
