/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints of torch.save: what torch itself wrote, cut and flipped, and files made to harm (tests/data/torch/make_files.py).
 */
#include "formats/crc.h"
#include "formats/tensorfile.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef DDI_FAULT_POINTS
#include "base/alloc.h"
#endif

static char scratch[] = "/tmp/dd-torch-XXXXXX";

static const char *data_path(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", TORCH_DATA, name);
    return path;
}

static char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *bytes = malloc(1 << 20);
    *size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

static void write_file(const char *bytes, size_t size)
{
    unlink(scratch);
    FILE *file = fopen(scratch, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void good(dd_status status)
{
    if (status != DD_OK) {
        print_message("%s\n", dd_error_message());
    }
    assert_int_equal(status, DD_OK);
    assert_string_equal(dd_error_message(), "");
}

/* ---- What torch wrote */

static void assert_same_tensors(const dd_tensorfile *file)
{
    dd_tensorfile *expected;
    int32_t count, found;
    good(dd_tensorfile_open(&expected, data_path("expected.safetensors")));
    good(dd_tensorfile_count(expected, &count));
    good(dd_tensorfile_count(file, &found));
    assert_int_equal(found, count);
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor want, have;
        good(dd_tensorfile_at(expected, i, &name, &want));
        good(dd_tensorfile_get(file, name, &have));
        assert_int_equal(have.dtype, want.dtype);
        assert_int_equal(have.ndim, want.ndim);
        int64_t bytes = dd_dtype_size(want.dtype);
        for (int32_t d = 0; d < want.ndim; d++) {
            assert_int_equal(have.shape[d], want.shape[d]);
            assert_int_equal(have.stride[d], want.stride[d]);
            bytes *= want.shape[d];
        }
        assert_memory_equal(have.data, want.data, (size_t)bytes);
    }
    dd_tensorfile_free(expected);
}

static void reads_what_torch_wrote(void **state)
{
    static const char *const names[] = {"plain.pth",          "plain_old.pth", "plain_protocol4.pth", "checkpoint.pth",
                                        "checkpoint_old.pth", "no_sums.pth",   "nested.pth"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        dd_tensorfile *file;
        good(dd_tensorfile_open(&file, data_path(names[i])));
        assert_same_tensors(file);
        dd_tensorfile_free(file);
    }
}

static void takes_the_asked_dictionary(void **state)
{
    dd_tensorfile *file;
    good(ddi_tensorfile_open(&file, data_path("checkpoint.pth"), "state_dict"));
    assert_same_tensors(file);
    dd_tensorfile_free(file);
    good(ddi_tensorfile_open(&file, data_path("plain_old.pth"), ""));
    dd_tensorfile_free(file);
    good(ddi_tensorfile_open(&file, data_path("nested.pth"), "ema/module"));
    assert_same_tensors(file);
    dd_tensorfile_free(file);
    static const char *const absent[] = {"", "ema", "model", "meta", "student"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        assert_int_equal(ddi_tensorfile_open(&file, data_path("nested.pth"), absent[i]), DD_ERR_NOT_FOUND);
    }
}

static void refuses_types_that_tensors_lack(void **state)
{
    dd_tensorfile *file;
    assert_int_equal(dd_tensorfile_open(&file, data_path("refused_int8.pth")), DD_ERR_DTYPE);
    assert_string_equal(dd_error_subject(), "a");
    assert_int_equal(dd_tensorfile_open(&file, data_path("refused_complex_old.pth")), DD_ERR_DTYPE);
    assert_int_equal(dd_tensorfile_open(&file, data_path("refused_list.pth")), DD_ERR_NOT_FOUND);
}

/* ---- Damage */

static void refuses_a_file_cut_anywhere(void **state)
{
    static const char *const names[] = {"checkpoint.pth", "checkpoint_old.pth"};
    for (int i = 0; i < 2; i++) {
        size_t size;
        char *bytes = read_file(data_path(names[i]), &size);
        for (size_t cut = 0; cut < size; cut++) {
            dd_tensorfile *file;
            write_file(bytes, cut);
            const dd_status status = dd_tensorfile_open(&file, scratch);
            if (status != DD_ERR_FORMAT) {
                fail_msg("%s cut at %zu: %s %s", names[i], cut, dd_status_name(status), dd_error_message());
            }
        }
        free(bytes);
    }
}

/* Nothing worse than an error comes of any flipped bit; an archive's tensors are those that were saved, or it is refused. */
static void survives_flipped_bits(void **state)
{
    static const char *const names[] = {"plain.pth", "plain_old.pth", "no_sums.pth"};
    for (int i = 0; i < 3; i++) {
        size_t size;
        char *bytes = read_file(data_path(names[i]), &size);
        int refused = 0;
        for (size_t at = 0; at < size; at++) {
            dd_tensorfile *file;
            bytes[at] ^= (char)(1 << at % 8);
            write_file(bytes, size);
            if (dd_tensorfile_open(&file, scratch) == DD_OK) {
                if (i == 0) {
                    assert_same_tensors(file);
                }
                dd_tensorfile_free(file);
            } else {
                refused++;
                assert_true(strlen(dd_error_message()) > 10);
            }
            bytes[at] ^= (char)(1 << at % 8);
        }
        assert_in_range(refused, size / 10, size);
        free(bytes);
    }
}

/* The second word of the name says what has to come of it. */
static void refuses_hostile_files(void **state)
{
    int seen = 0;
    DIR *folder = opendir(TORCH_DATA);
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder));) {
        char word[16];
        dd_tensorfile *file;
        if (sscanf(entry->d_name, "hostile_%15[a-z]_", word) != 1) {
            continue;
        }
        const dd_status wanted = strcmp(word, "format") == 0  ? DD_ERR_FORMAT
                                 : strcmp(word, "limit") == 0 ? DD_ERR_LIMIT
                                 : strcmp(word, "none") == 0  ? DD_ERR_NOT_FOUND
                                                              : DD_OK;
        const dd_status status = dd_tensorfile_open(&file, data_path(entry->d_name));
        if (status != wanted) {
            fail_msg("%s: %s %s", entry->d_name, dd_status_name(status), dd_error_message());
        }
        if (status == DD_OK) {
            dd_tensor view;
            good(dd_tensorfile_get(file, "a", &view));
            assert_int_equal(view.shape[0], 4);
            assert_memory_equal(view.data, ((const float[]){1, 2, 3, 4}), 16);
            dd_tensorfile_free(file);
        }
        seen++;
    }
    closedir(folder);
    assert_true(seen > 30);
    assert_int_not_equal(access("/tmp/dd-pickle-was-run", F_OK), 0);
}

/* 1,000,001 opcodes that do nothing. */
static void bounds_the_opcodes(void **state)
{
    enum { STEPS = 1000001 };
    char *bytes = malloc(2 + STEPS + 1);
    dd_tensorfile *file;
    memcpy(bytes, "\x80\x02", 2);
    for (int i = 0; i < STEPS; i++) {
        bytes[2 + i] = i % 2 ? '0' : 'N';
    }
    bytes[2 + STEPS] = '.';
    write_file(bytes, 2 + STEPS + 1);
    assert_int_equal(dd_tensorfile_open(&file, scratch), DD_ERR_LIMIT);
    free(bytes);
}

static void every_failing_call_is_an_error(void **state)
{
#ifndef DDI_FAULT_POINTS
    print_message("skipped: a build without fault points\n");
    skip();
#else
    static const char *const names[] = {"checkpoint.pth", "checkpoint_old.pth"};
    for (int i = 0; i < 2; i++) {
        dd_status status = DD_ERR_NOMEM;
        int n = 1;
        for (; status != DD_OK; n++) {
            dd_tensorfile *file;
            assert_in_range(n, 1, 10000);
            const int64_t before = ddi_default_allocator.live_blocks;
            dd_fault_set(n, 0);
            status = dd_tensorfile_open(&file, data_path(names[i]));
            dd_fault_set(0, 0);
            if (status == DD_OK) {
                dd_tensorfile_free(file);
            } else {
                assert_true(status == DD_ERR_NOMEM || status == DD_ERR_IO);
            }
            assert_int_equal(ddi_default_allocator.live_blocks, before);
        }
        assert_true(n > 20);
    }
#endif
}

/* ---- Checksums */

static void checksums_have_their_check_values(void **state)
{
    ddi_crc_table table;
    ddi_crc_make(&table, DDI_CRC_ZIP);
    assert_int_equal(ddi_crc(&table, "123456789", 9), 0xCBF43926u);
    ddi_crc_make(&table, DDI_CRC_CASTAGNOLI);
    assert_int_equal(ddi_crc(&table, "123456789", 9), 0xE3069283u);
    assert_int_equal(ddi_crc(&table, "", 0), 0);
}

static int begin(void **state)
{
    const int descriptor = mkstemp(scratch);
    return descriptor < 0 ? -1 : close(descriptor);
}

static int end(void **state)
{
    return unlink(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_torch_wrote),
        cmocka_unit_test(takes_the_asked_dictionary),
        cmocka_unit_test(refuses_types_that_tensors_lack),
        cmocka_unit_test(refuses_a_file_cut_anywhere),
        cmocka_unit_test(survives_flipped_bits),
        cmocka_unit_test(refuses_hostile_files),
        cmocka_unit_test(bounds_the_opcodes),
        cmocka_unit_test(every_failing_call_is_an_error),
        cmocka_unit_test(checksums_have_their_check_values),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
