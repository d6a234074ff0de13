/* SPDX-License-Identifier: Apache-2.0
 * A preloaded library that stands before the C library's functions which a library must leave to its host: exit, abort, locale,
 * environment, signals, working directory, FPU mode, output. A call that comes straight from code of libdetrdistill*.so (or of
 * a library that its modules bring along) ends the process with status 97; all others go through. */
#include <dlfcn.h>
#include <fenv.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GUARD_STATUS 97

#pragma GCC visibility push(default)

static const char *const guarded[] = {"libdetrdistill", "libdnnl", "libopenblas"};

static void refuse(const char *function, const char *library)
{
    char line[512];
    int length = snprintf(line, sizeof line, "guard: %s called %s\n", library, function);
    syscall(SYS_write, 2, line, (size_t)length);
    syscall(SYS_exit_group, GUARD_STATUS);
}

/* Ends the process if `caller` lies in a guarded library. */
static void check(const char *function, void *caller)
{
    Dl_info where;
    if (!dladdr(caller, &where) || !where.dli_fname)
        return;
    const char *slash = strrchr(where.dli_fname, '/');
    const char *name = slash ? slash + 1 : where.dli_fname;
    for (size_t i = 0; i < sizeof guarded / sizeof *guarded; i++)
        if (!strncmp(name, guarded[i], strlen(guarded[i])))
            refuse(function, name);
}

static void *next(const char *function)
{
    return dlsym(RTLD_NEXT, function);
}

/* A function of the C library with its declaration's own words: result, name, (parameters), (arguments). */
#define GUARD(result, name, parameters, arguments)                                                                             \
    result name parameters                                                                                                     \
    {                                                                                                                          \
        check(#name, __builtin_return_address(0));                                                                             \
        return ((result(*) parameters)next(#name))arguments;                                                                   \
    }

#define GUARD_END(name, parameters, arguments)                                                                                 \
    void name parameters                                                                                                       \
    {                                                                                                                          \
        check(#name, __builtin_return_address(0));                                                                             \
        ((void(*) parameters)next(#name)) arguments;                                                                           \
        __builtin_unreachable();                                                                                               \
    }

GUARD_END(exit, (int status), (status))
GUARD_END(_exit, (int status), (status))
GUARD_END(abort, (void), ())

GUARD(char *, setlocale, (int category, const char *locale), (category, locale))
GUARD(locale_t, uselocale, (locale_t locale), (locale))
GUARD(int, setenv, (const char *name, const char *value, int replace), (name, value, replace))
GUARD(int, unsetenv, (const char *name), (name))
GUARD(int, putenv, (char *text), (text))
GUARD(int, chdir, (const char *path), (path))
GUARD(__sighandler_t, signal, (int number, __sighandler_t handler), (number, handler))
GUARD(int, sigaction, (int number, const struct sigaction *action, struct sigaction *old), (number, action, old))
GUARD(int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
GUARD(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
GUARD(int, fesetenv, (const fenv_t *environment), (environment))
GUARD(int, fesetround, (int mode), (mode))
GUARD(int, puts, (const char *text), (text))
GUARD(int, putchar, (int c), (c))

int printf(const char *format, ...)
{
    check("printf", __builtin_return_address(0));
    va_list arguments;
    va_start(arguments, format);
    int written = vprintf(format, arguments);
    va_end(arguments);
    return written;
}

static void check_stream(const char *function, FILE *stream, void *caller)
{
    if (stream == stdout || stream == stderr)
        check(function, caller);
}

int fprintf(FILE *stream, const char *format, ...)
{
    check_stream("fprintf", stream, __builtin_return_address(0));
    va_list arguments;
    va_start(arguments, format);
    int written = vfprintf(stream, format, arguments);
    va_end(arguments);
    return written;
}

int fputs(const char *text, FILE *stream)
{
    check_stream("fputs", stream, __builtin_return_address(0));
    return ((int (*)(const char *, FILE *))next("fputs"))(text, stream);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream)
{
    check_stream("fwrite", stream, __builtin_return_address(0));
    return ((size_t(*)(const void *, size_t, size_t, FILE *))next("fwrite"))(data, size, count, stream);
}

ssize_t write(int file, const void *data, size_t bytes)
{
    if (file == 1 || file == 2)
        check("write", __builtin_return_address(0));
    return ((ssize_t(*)(int, const void *, size_t))next("write"))(file, data, bytes);
}
