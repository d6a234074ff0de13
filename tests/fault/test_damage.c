/* SPDX-License-Identifier: Apache-2.0
 * A sample of each kind of file, cut off, with flipped bits, with parts exchanged: an error with a sentence, or a file that
 * still is one; never a crash, and what is asked of memory is bounded. */
#include "readers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MOST_BYTES = 1 << 20, EVERY_BYTE_UP_TO = 4096, CUTS = 300, FLIPS = 300, SWAPS = 100, PART = 64 };

static unsigned char bytes[MOST_BYTES], damaged[MOST_BYTES];
static uint32_t random_state;

static size_t random_below(size_t bound)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (size_t)(((uint64_t)(random_state >> 8) * bound) >> 24);
}

static size_t load(const char *path)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_in_range(size, 1, sizeof bytes - 1);
    return size;
}

static void store(const char *path, const void *data, size_t size)
{
    const int file = open(path, O_WRONLY);
    assert_true(file >= 0 && write(file, data, size) == (ssize_t)size && ftruncate(file, (off_t)size) == 0);
    close(file);
}

static int32_t refused, taken;

static void read_damaged(const sample *s, size_t size, const char *how, size_t where)
{
    static const dd_status fitting[] = {DD_ERR_FORMAT, DD_ERR_IO,    DD_ERR_LIMIT,       DD_ERR_DTYPE,
                                        DD_ERR_SHAPE,  DD_ERR_STATE, DD_ERR_UNSUPPORTED, DD_ERR_NOT_FOUND};
    double sum = 0;
    store(sample_path(s->file), damaged, size);
    const dd_status status = s->read(sample_path(s->file), &sum);
    int fits = status == DD_OK;
    for (size_t i = 0; i < sizeof fitting / sizeof *fitting; i++) {
        fits |= status == fitting[i];
    }
    if (!fits || (status != DD_OK && dd_error_message()[0] == '\0')) {
        fail_msg("%s, %s at %zu: %s: %s", s->file, how, where, dd_status_name(status), dd_error_message());
    }
    refused += status != DD_OK;
    taken += status == DD_OK;
}

static void cut(const sample *s, size_t size)
{
    memcpy(damaged, bytes, size);
    const size_t step = size <= EVERY_BYTE_UP_TO ? 1 : 0;
    for (size_t i = 0; i < (step ? size : CUTS); i++) {
        const size_t length = step ? i : random_below(size);
        read_damaged(s, length, "cut", length);
    }
}

static void flip(const sample *s, size_t size)
{
    static const int counts[] = {1, 2, 8};
    for (int i = 0; i < FLIPS; i++) {
        size_t where = 0;
        memcpy(damaged, bytes, size);
        for (int k = 0; k < counts[i % 3]; k++) {
            where = random_below(i % 2 && size > 256 ? 256 : size); /* half of them in the header */
            damaged[where] ^= (unsigned char)(1u << random_below(8));
        }
        read_damaged(s, size, "flipped", where);
    }
}

static void swap(const sample *s, size_t size)
{
    const size_t part = size / 4 < PART ? size / 4 : PART;
    for (int i = 0; i < SWAPS; i++) {
        const size_t a = random_below(size - part), b = random_below(size - part);
        memcpy(damaged, bytes, size);
        memcpy(damaged + a, bytes + b, part);
        memcpy(damaged + b, bytes + a, part);
        read_damaged(s, size, "exchanged", a);
    }
}

/* The sanitizer keeps 256 MiB of freed memory unless told; the limit below is of what is in use. It finds the function only if
 * the program shows it. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=16";
}

static void damaged_files(void **state)
{
    random_state = 77;
    for (int i = 0; i < sample_count; i++) {
        const sample *s = &samples[i];
        double sum = 0;
        const size_t size = load(sample_path(s->file));
        assert_int_equal(s->read(sample_path(s->file), &sum), DD_OK);
        refused = taken = 0;
        cut(s, size);
        flip(s, size);
        swap(s, size);
        store(sample_path(s->file), bytes, size);
        assert_int_equal(s->read(sample_path(s->file), &sum), DD_OK); /* nothing of it all stays behind */
        print_message("%s, %zu bytes: %d refused, %d taken\n", s->file, size, refused, taken);
        assert_true(refused > 50);
    }
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    print_message("largest size in memory: %ld MiB\n", usage.ru_maxrss >> 10);
    assert_true(usage.ru_maxrss < 512 << 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(damaged_files)};
    return cmocka_run_group_tests(tests, make_samples, remove_samples);
}
