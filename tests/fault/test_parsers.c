/* SPDX-License-Identifier: Apache-2.0
 * Every allocation fails in turn, also those inside json-c, expat, libjpeg, libpng and the C library, which no hook of ours
 * sees: this program's own malloc and free come before the C library's. Each failure is an error, or changes nothing; nothing
 * leaks. */
#include "readers.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The allocator */

static int64_t calls, fail_at, live;
static bool for_good, counting;

static bool fails(void)
{
    if (!counting) {
        return false;
    }
    calls++;
    if (fail_at > 0 && (for_good ? calls >= fail_at : calls == fail_at)) {
        errno = ENOMEM;
        return true;
    }
    return false;
}

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { CAN_FAIL = 0 };
#else
enum { CAN_FAIL = 1 };
#pragma GCC visibility push(default) /* else the libraries would not see them */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static void *made(void *memory)
{
    if (memory) {
        __atomic_add_fetch(&live, 1, __ATOMIC_RELAXED);
    }
    return memory;
}

void *malloc(size_t size)
{
    return fails() ? NULL : made(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : made(__libc_calloc(count, size));
}

void *realloc(void *old, size_t size)
{
    if (fails()) {
        return NULL;
    }
    return old ? __libc_realloc(old, size) : made(__libc_malloc(size));
}

void *memalign(size_t alignment, size_t size)
{
    return fails() ? NULL : made(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    void *got = memalign(alignment, size);
    *memory = got ? got : *memory;
    return got ? 0 : ENOMEM;
}

void free(void *memory)
{
    if (memory) {
        __atomic_sub_fetch(&live, 1, __ATOMIC_RELAXED);
        __libc_free(memory);
    }
}
#pragma GCC visibility pop
#endif

/* ---- */

static dd_status read_with_fault(const sample *s, int64_t n, bool good, double *sum)
{
    *sum = 0;
    calls = 0;
    fail_at = n;
    for_good = good;
    counting = true;
    const dd_status status = s->read(sample_path(s->file), sum);
    counting = false;
    return status;
}

static void check_sample(const sample *s)
{
    double wanted, sum;
    const dd_status undisturbed = read_with_fault(s, 0, false, &wanted); /* whatever is made once is there now */
    if (undisturbed != DD_OK) {
        fail_msg("%s: %s", s->file, dd_error_message());
    }
    const int64_t before = live;
    assert_int_equal(read_with_fault(s, 0, false, &sum), DD_OK);
    assert_true(sum == wanted && live == before);
    const int64_t count = calls;
    int64_t errors = 0;
    for (int64_t n = 1; n <= count; n++) {
        for (int good = 0; good < 2; good++) {
            const dd_status status = read_with_fault(s, n, good, &sum);
            if (status == DD_OK ? sum != wanted : dd_error_message()[0] == '\0') {
                fail_msg("%s, allocation %lld of %lld: status %d, %s", s->file, (long long)n, (long long)count, status,
                         dd_error_message());
            }
            const bool of_opendir = status == DD_ERR_IO && strstr(dd_error_message(), "Cannot allocate memory");
            if (status != DD_OK && status != DD_ERR_NOMEM && !of_opendir) {
                fail_msg("%s, allocation %lld of %lld: %s: %s", s->file, (long long)n, (long long)count, dd_status_name(status),
                         dd_error_message());
            }
            errors += status != DD_OK;
            if (live != before) {
                fail_msg("%s, allocation %lld of %lld: %lld blocks left", s->file, (long long)n, (long long)count,
                         (long long)(live - before));
            }
        }
    }
    assert_int_equal(read_with_fault(s, 0, false, &sum), DD_OK);
    assert_true(sum == wanted);
    print_message("%s: %lld allocations, %lld errors\n", s->file, (long long)count, (long long)errors);
    assert_true(errors > 0);
}

static void every_allocation_fails(void **state)
{
    if (!CAN_FAIL) {
        print_message("skipped: a sanitizer has its own malloc\n");
        skip();
    }
    for (int i = 0; i < sample_count; i++) {
        if (!samples[i].json) {
            check_sample(&samples[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_fails)};
    return cmocka_run_group_tests(tests, make_samples, remove_samples);
}
