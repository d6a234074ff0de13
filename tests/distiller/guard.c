/* SPDX-License-Identifier: Apache-2.0
 * The guard around calls, and the comparison of what was seen with the headers' words. */
#include "guard.h"

#include <ctype.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { PAIRS = 512, HEADER_BYTES = 1 << 16 };

static struct {
    char function[64];
    dd_status status;
} pair[PAIRS];
static int pairs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void note(const char *call, dd_status status)
{
    size_t n = strcspn(call, "(");
    if (strncmp(call, "dd_", 3) != 0 || n >= sizeof pair[0].function)
        return;
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < pairs && (pair[i].status != status || strncmp(pair[i].function, call, n) != 0 || pair[i].function[n]))
        i++;
    if (i == pairs && pairs < PAIRS) {
        memcpy(pair[i].function, call, n);
        pair[pairs++].status = status;
    }
    pthread_mutex_unlock(&lock);
}

static void complain(const char *what, const char *call, dd_status status, const char *file, int line)
{
    print_error("%s\n    %s\n    gave %s: %s\n", what, call, dd_status_name(status), dd_error_message());
    _fail(file, line);
}

dd_status guard_call(const char *call, dd_status status, const char *file, int line)
{
    const char *message = dd_error_message();
    if (dd_error_status() != status)
        complain("dd_error_status differs from what the call returned", call, status, file, line);
    if (strcmp(dd_status_name(status), "DD_ERR_?") == 0 || status == DD_ERR_INTERNAL)
        complain("no status that a caller should meet", call, status, file, line);
    if (status == DD_OK && message[0])
        complain("a good call left a sentence", call, status, file, line);
    if (status != DD_OK && (!message[0] || strlen(message) > 255))
        complain("a failure needs a sentence of 1 to 255 bytes", call, status, file, line);
    for (int i = 0; i < 4 && status == DD_OK; i++)
        if (dd_error_place(i) != -1 || dd_error_subject()[0])
            complain("a good call left a place or subject", call, status, file, line);
    note(call, status);
    return status;
}

void guard_expect(dd_status expected, const char *call, dd_status status, const char *file, int line)
{
    guard_call(call, status, file, line);
    if (status != expected)
        complain(dd_status_name(expected), call, status, file, line);
}

void guard_message_has(const char *words, const char *file, int line)
{
    if (!strstr(dd_error_message(), words))
        complain("the sentence lacks words", words, dd_error_status(), file, line);
}

/* The comment that a declaration belongs to: the last one that ends before it. */
static bool find_comment(const char *text, const char *function, char *comment, size_t size)
{
    char declaration[96];
    snprintf(declaration, sizeof declaration, "DD_API dd_status %s(", function);
    const char *at = strstr(text, declaration), *begin = NULL;
    for (const char *c = text; at && c && c < at; c = strstr(c + 1, "/*"))
        if (strncmp(c, "/*", 2) == 0)
            begin = c;
    if (begin)
        snprintf(comment, size, "%.*s", (int)(at - begin), begin);
    return begin != NULL;
}

static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word))
        if ((at == text || !(isalnum((unsigned char)at[-1]) || at[-1] == '_')) &&
            !(isalnum((unsigned char)at[n]) || at[n] == '_'))
            return true;
    return false;
}

/* NULL and stale handles are ARGUMENT, a busy handle STATE, everywhere (detrdistill.h). */
static bool documented(const char *text, const char *function, dd_status status)
{
    char comment[8192];
    if (status == DD_OK || status == DD_ERR_ARGUMENT || status == DD_ERR_STATE)
        return true;
    if (!find_comment(text, function, comment, sizeof comment))
        return false;
    const char *errors = strstr(comment, "Errors:");
    if (!errors)
        return false;
    const char *other = strstr(errors, "as dd_");
    if (other && !has_word(errors, dd_status_name(status) + 7)) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strspn(other + 3, "abcdefghijklmnopqrstuvwxyz0123456789_"), other + 3);
        return strcmp(name, function) != 0 && documented(text, name, status);
    }
    return has_word(errors, dd_status_name(status) + 7);
}

void every_status_is_documented(void **state)
{
    static const char *const headers[] = {"status",    "context", "tensor", "matcher",
                                          "distiller", "dlpack",  "eval",   "tensorfile"};
    char *text = calloc(1, HEADER_BYTES * 8), path[4096];
    size_t used = 0;
    int missing = 0;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        snprintf(path, sizeof path, "%s/detrdistill/%s.h", HEADERS, headers[i]);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        used += fread(text + used, 1, HEADER_BYTES, file);
        fclose(file);
    }
    for (int i = 0; i < pairs; i++) {
        if (!documented(text, pair[i].function, pair[i].status)) {
            print_error("%s gave %s, which its header does not name\n", pair[i].function, dd_status_name(pair[i].status));
            missing++;
        }
    }
    free(text);
    assert_true(pairs > 0);
    assert_int_equal(missing, 0);
}
