/* SPDX-License-Identifier: Apache-2.0
 * dd_tensorfile: round trips, damaged and hostile files, writes that fail. */
#include <detrdistill/detrdistill.h>

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef DDI_FAULT_POINTS
int64_t dd_fault_set(int64_t n, int32_t for_good);
#endif

static char folder[] = "/tmp/dd-safetensors-XXXXXX";
static char path[64]; /* the file that most tests use */

/* ---- helpers: every status is compared with the thread's error, every failure must have a sentence */

#define good(call) assert_good((call), #call)
static void assert_good(dd_status status, const char *call)
{
    if (status != DD_OK)
        print_message("%s: %s\n", call, dd_error_message());
    assert_int_equal(status, DD_OK);
    assert_string_equal(dd_error_message(), "");
}

static void bad(dd_status status, dd_status expected)
{
    if (status != expected)
        print_message("%s: %s\n", dd_status_name(status), dd_error_message());
    assert_int_equal(status, expected);
    assert_int_equal(dd_error_status(), expected);
    assert_true(strlen(dd_error_message()) > 10);
}

static void write_bytes(const char *bytes, size_t size)
{
    unlink(path); /* file systems flush a file that is written over: thousands of times that takes long */
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static char *read_bytes(size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *bytes = malloc(1 << 20);
    *size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

/* A file of a header and `data_size` bytes 0, 1, 2, .. */
static void write_file(const char *header, size_t header_size, size_t data_size)
{
    char *bytes = malloc(8 + header_size + data_size);
    uint64_t length = header_size;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, header_size);
    for (size_t i = 0; i < data_size; i++)
        bytes[8 + header_size + i] = (char)i;
    write_bytes(bytes, 8 + header_size + data_size);
    free(bytes);
}

static void bad_open(dd_status expected)
{
    dd_tensorfile *untouched = (dd_tensorfile *)&folder, *file = untouched;
    bad(dd_tensorfile_open(&file, path), expected);
    assert_ptr_equal(file, untouched);
}

static dd_tensor view_of(void *data, int32_t dtype, int32_t ndim, const int64_t *shape, const int64_t *stride)
{
    dd_tensor view;
    good(dd_tensor_init(&view, data, dtype, ndim, shape, stride, DD_DEVICE_CPU, 0, 0));
    return view;
}

static int64_t byte_size(const dd_tensor *view)
{
    int64_t bytes = dd_dtype_size(view->dtype);
    for (int32_t i = 0; i < view->ndim; i++)
        bytes *= view->shape[i];
    return bytes;
}

static int files_in_folder(void)
{
    DIR *directory = opendir(folder);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

/* ---- round trips */

/* One tensor of each type, counting bytes as data, and words of metadata. */
static dd_tensorfile *make_set(void)
{
    static double memory[8];
    static const char *const names[] = {"", "f32", "f64", "f16", "bf16", "i32", "i64", "u8"};
    for (size_t i = 0; i < sizeof memory; i++)
        ((unsigned char *)memory)[i] = (unsigned char)i;
    dd_tensorfile *file;
    good(dd_tensorfile_create(&file));
    for (int32_t dtype = DD_F32; dtype <= DD_U8; dtype++) {
        dd_tensor view = view_of(memory, dtype, 2, (int64_t[]){1, dtype == DD_U8 ? 3 : 2}, NULL);
        good(dd_tensorfile_set(file, names[dtype], &view));
    }
    good(dd_tensorfile_set_metadata(file, "format", "pt"));
    good(dd_tensorfile_set_metadata(file, "a \"key\"\n", "back\\slash \x01 \xc3\xa9 \xf0\x9f\x98\x80"));
    return file;
}

static void round_trip(void **state)
{
    dd_tensorfile *file = make_set(), *copy;
    good(dd_tensorfile_save(file, path));
    good(dd_tensorfile_open(&copy, path));
    int32_t count;
    good(dd_tensorfile_count(copy, &count));
    assert_int_equal(count, 7);
    static const char *const order[] = {"f64", "i64", "f32", "i32", "bf16", "f16", "u8"}; /* size, then name */
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view, same, original;
        good(dd_tensorfile_at(copy, i, &name, &view));
        assert_string_equal(name, order[i]);
        good(dd_tensorfile_get(copy, name, &same));
        assert_memory_equal(&view, &same, sizeof view);
        good(dd_tensorfile_get(file, name, &original));
        assert_string_equal(dd_dtype_name(view.dtype), name);
        assert_int_equal(view.ndim, 2);
        assert_int_equal(view.flags, DD_TENSOR_READONLY);
        assert_int_equal((uintptr_t)view.data % (uintptr_t)dd_dtype_size(view.dtype), 0);
        assert_memory_equal(view.shape, original.shape, 2 * sizeof(int64_t));
        assert_memory_equal(view.data, original.data, (size_t)byte_size(&view));
    }
    const char *word;
    good(dd_tensorfile_metadata(copy, "format", &word));
    assert_string_equal(word, "pt");
    good(dd_tensorfile_metadata(copy, "a \"key\"\n", &word));
    assert_string_equal(word, "back\\slash \x01 \xc3\xa9 \xf0\x9f\x98\x80");
    dd_tensorfile_free(copy);
    dd_tensorfile_free(file);
}

static void saved_again_is_the_same_file(void **state)
{
    dd_tensorfile *file = make_set(), *copy;
    size_t first_size, second_size;
    good(dd_tensorfile_save(file, path));
    char *first = read_bytes(&first_size);
    assert_int_equal(*(uint64_t *)first % 8, 0);
    good(dd_tensorfile_open(&copy, path));
    good(dd_tensorfile_save(copy, path)); /* over the file that is mapped */
    char *second = read_bytes(&second_size);
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first, second, first_size);
    dd_tensor view;
    good(dd_tensorfile_get(copy, "u8", &view)); /* the mapping outlives the replaced file */
    assert_int_equal(((uint8_t *)view.data)[2], 2);
    free(first);
    free(second);
    dd_tensorfile_free(copy);
    dd_tensorfile_free(file);
}

static void any_strides(void **state)
{
    float data[24], expected[24];
    for (int i = 0; i < 24; i++)
        data[i] = (float)i;
    dd_tensorfile *file;
    dd_tensor view;
    good(dd_tensorfile_create(&file));
    struct {
        float *start;
        int64_t shape[3], stride[3];
    } cases[] = {{data, {2, 3, 4}, {12, 4, 1}},   {data, {4, 3, 2}, {1, 4, 12}},      {data + 23, {2, 3, 4}, {-12, -4, -1}},
                 {data, {2, 5, 2}, {12, 0, 7}},   {data, {24, 1, 1}, {1, 900, -900}}, {data, {1, 3, 4}, {5, 4, 1}},
                 {data + 5, {2, 2, 2}, {6, 2, 4}}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int n = 0;
        for (int64_t i = 0; i < cases[c].shape[0]; i++)
            for (int64_t j = 0; j < cases[c].shape[1]; j++)
                for (int64_t k = 0; k < cases[c].shape[2]; k++)
                    expected[n++] = cases[c].start[i * cases[c].stride[0] + j * cases[c].stride[1] + k * cases[c].stride[2]];
        view = view_of(cases[c].start, DD_F32, 3, cases[c].shape, cases[c].stride);
        good(dd_tensorfile_set(file, "x", &view));
        good(dd_tensorfile_get(file, "x", &view));
        assert_memory_equal(view.data, expected, (size_t)n * sizeof(float));
        assert_int_equal(view.stride[2], 1);
    }
    dd_tensorfile_free(file);
}

static void empty_and_replaced(void **state)
{
    dd_tensorfile *file, *copy;
    int32_t one = 1, two[2] = {7, 8}, count;
    good(dd_tensorfile_create(&file));
    good(dd_tensorfile_save(file, path)); /* no tensors at all */
    good(dd_tensorfile_open(&copy, path));
    good(dd_tensorfile_count(copy, &count));
    assert_int_equal(count, 0);
    dd_tensor view = view_of(NULL, DD_F32, 3, (int64_t[]){3, 0, 5}, NULL), back;
    good(dd_tensorfile_set(copy, "empty", &view));
    good(dd_tensorfile_set(copy, "also empty", &view));
    view = view_of(&one, DD_I32, 1, (int64_t[]){1}, NULL);
    good(dd_tensorfile_set(copy, "x", &view));
    view = view_of(two, DD_I32, 1, (int64_t[]){2}, NULL);
    good(dd_tensorfile_set(copy, "x", &view));
    good(dd_tensorfile_get(copy, "x", &view)); /* a view of the file's own memory may be set, too */
    good(dd_tensorfile_set(copy, "x", &view));
    good(dd_tensorfile_set_metadata(copy, "k", "old"));
    good(dd_tensorfile_set_metadata(copy, "k", "new"));
    good(dd_tensorfile_save(copy, path));
    dd_tensorfile_free(file);
    good(dd_tensorfile_open(&file, path));
    good(dd_tensorfile_count(file, &count));
    assert_int_equal(count, 3);
    good(dd_tensorfile_get(file, "empty", &back));
    assert_int_equal(back.ndim, 3);
    assert_int_equal(back.shape[1], 0);
    good(dd_tensorfile_get(file, "x", &back));
    assert_memory_equal(back.data, two, sizeof two);
    const char *word;
    good(dd_tensorfile_metadata(file, "k", &word));
    assert_string_equal(word, "new");
    dd_tensorfile_free(file);
    dd_tensorfile_free(copy);
}

static void misaligned_and_unsorted(void **state)
{
    /* The header has an odd length, and names are not in the order of the data. */
    const char header[] =
        "{\"b\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[3,11]},"
        " \"a\":{\"data_offsets\":[0,3],\"shape\":[3],\"dtype\":\"BOOL\"},\"\\u00e9\\ud83d\\ude00\\n\":{\"dtype\":"
        "\"U8\",\"shape\":[0,7],\"data_offsets\":[11,11]}, \"__metadata__\":{\"\":\"\"}}  ";
    for (size_t pad = 0; pad < 8; pad++) {
        char text[sizeof header + 8];
        snprintf(text, sizeof text, "%s%*s", header, (int)pad, "");
        write_file(text, strlen(text), 11);
        dd_tensorfile *file;
        dd_tensor view;
        const char *name;
        good(dd_tensorfile_open(&file, path));
        good(dd_tensorfile_at(file, 0, &name, &view));
        assert_string_equal(name, "a");
        assert_int_equal(view.dtype, DD_U8);
        good(dd_tensorfile_get(file, "b", &view));
        assert_int_equal(view.ndim, 1);
        assert_int_equal(view.shape[0], 1);
        assert_int_equal((uintptr_t)view.data % 8, 0);
        assert_memory_equal(view.data, "\x03\x04\x05\x06\x07\x08\x09\x0a", 8);
        good(dd_tensorfile_get(file, "\xc3\xa9\xf0\x9f\x98\x80\n", &view));
        assert_int_equal(view.shape[1], 7);
        dd_tensorfile_free(file);
    }
}

/* ---- damaged files */

static void every_cut_point(void **state)
{
    dd_tensorfile *file = make_set();
    good(dd_tensorfile_save(file, path));
    dd_tensorfile_free(file);
    size_t size;
    char *bytes = read_bytes(&size);
    for (size_t cut = 0; cut < size; cut++) {
        write_bytes(bytes, cut);
        bad_open(DD_ERR_FORMAT);
    }
    bytes[size] = 0;
    write_bytes(bytes, size + 1); /* a byte too many */
    bad_open(DD_ERR_FORMAT);
    free(bytes);
}

static uint64_t random_state = 1;
static uint64_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* Reads every byte of every tensor that an opened file claims to have. */
static void use_all(const dd_tensorfile *file)
{
    int32_t count;
    good(dd_tensorfile_count(file, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view;
        good(dd_tensorfile_at(file, i, &name, &view));
        volatile unsigned char sum = 0;
        for (int64_t b = 0; b < byte_size(&view); b++)
            sum = (unsigned char)(sum + ((unsigned char *)view.data)[b]);
        good(dd_tensorfile_get(file, name, &view));
    }
}

static void flipped_bytes(void **state)
{
    dd_tensorfile *file = make_set();
    good(dd_tensorfile_save(file, path));
    dd_tensorfile_free(file);
    size_t size;
    int opened = 0, refused = 0;
    char *bytes = read_bytes(&size), *damaged = malloc(size);
    for (int round = 0; round < 2000; round++) {
        static const int flips[] = {1, 2, 8};
        memcpy(damaged, bytes, size);
        for (int i = 0; i < flips[round % 3]; i++)
            damaged[random_number() % size] ^= (char)(1 + random_number() % 255);
        write_bytes(damaged, size);
        dd_status status = dd_tensorfile_open(&file, path);
        if (status == DD_OK) {
            use_all(file);
            dd_tensorfile_free(file);
            opened++;
        } else {
            assert_true(status == DD_ERR_FORMAT || status == DD_ERR_DTYPE || status == DD_ERR_LIMIT);
            bad(status, status);
            refused++;
        }
    }
    assert_true(opened > 0 && refused > 1000); /* what is flipped in data is no damage that a reader can see */
    free(bytes);
    free(damaged);
}

#define T(name, type, shape, from, to)                                                                                         \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

static void hostile_headers(void **state)
{
    static const struct {
        const char *header;
        size_t data;
        dd_status expected;
    } cases[] = {
        {"{" T("a", "F32", "[2]", 0, 8) "}", 8, DD_OK},
        {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "U8", "[1]", 8, 9) "}", 9, DD_OK},
        {"{" T("", "F32", "[2]", 0, 8) "}", 8, DD_OK}, /* an empty name is a name */
        {"{}", 0, DD_OK},
        /* places */
        {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "U8", "[1]", 7, 8) "}", 8, DD_ERR_FORMAT},   /* overlap */
        {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[2]", 0, 8) "}", 8, DD_ERR_FORMAT},  /* the same place */
        {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "U8", "[1]", 9, 10) "}", 10, DD_ERR_FORMAT}, /* hole */
        {"{" T("a", "F32", "[2]", 4, 12) "}", 12, DD_ERR_FORMAT},                               /* hole at the start */
        {"{" T("a", "F32", "[2]", 0, 8) "}", 9, DD_ERR_FORMAT},                                 /* hole at the end */
        {"{" T("a", "F32", "[2]", 0, 8) "}", 7, DD_ERR_FORMAT},                                 /* outside */
        {"{}", 1, DD_ERR_FORMAT},                                                               /* nothing but a hole */
        {"{" T("a", "F32", "[2]", 8, 0) "}", 8, DD_ERR_FORMAT},                                 /* backwards */
        {"{" T("a", "F32", "[0]", 0, 0) "," T("b", "U8", "[1]", 0, 1) "," T("c", "F32", "[0]", 9, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("a", "F32", "[3]", 0, 8) "}", 8, DD_ERR_FORMAT},  /* size is not dtype x shape */
        {"{" T("a", "F32", "[2]", -8, 0) "}", 8, DD_ERR_FORMAT}, /* negative */
        {"{" T("a", "F32", "[-2]", 0, 8) "}", 8, DD_ERR_FORMAT},
        {"{" T("a", "F32", "[2]", 0, 9223372036854775807) "}", 8, DD_ERR_FORMAT},
        {"{" T("a", "F32", "[2]", 0, 9223372036854775808) "}", 8, DD_ERR_FORMAT},
        {"{" T("a", "F32", "[2]", 0, 99999999999999999999999) "}", 8, DD_ERR_FORMAT},
        /* shapes */
        {"{" T("a", "F32", "[4294967296,4294967296]", 0, 8) "}", 8, DD_ERR_LIMIT},
        {"{" T("a", "F32", "[4294967296,4294967296,4]", 0, 0) "}", 0, DD_ERR_LIMIT}, /* 2^66 = 0 in 64 bits */
        {"{" T("a", "F32", "[9223372036854775807,2]", 0, 8) "}", 8, DD_ERR_LIMIT},
        {"{" T("a", "F32", "[9223372036854775807,0]", 0, 0) "}", 0, DD_ERR_LIMIT},
        {"{" T("a", "F64", "[1099511627776]", 0, 8) "}", 8, DD_ERR_LIMIT}, /* 2^40 elements, 2^43 bytes */
        {"{" T("a", "U8", "[1,1,1,1,1,1,1,1,1]", 0, 1) "}", 1, DD_ERR_LIMIT},
        {"{" T("a", "U8", "[1.0]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("a", "U8", "[1e0]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("a", "U8", "[01]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("a", "U8", "[1,]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("a", "U8", "1", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("a", "U8", "[[1]]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("a", "U8", "[\"1\"]", 0, 1) "}", 1, DD_ERR_FORMAT},
        /* types */
        {"{" T("a", "I8", "[1]", 0, 1) "}", 1, DD_ERR_DTYPE},
        {"{" T("a", "F8_E4M3", "[1]", 0, 1) "}", 1, DD_ERR_DTYPE},
        {"{" T("a", "", "[1]", 0, 1) "}", 1, DD_ERR_DTYPE},
        {"{" T("a", "f32", "[1]", 0, 4) "}", 4, DD_ERR_DTYPE},
        {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, DD_ERR_FORMAT},
        /* names */
        {"{" T("a", "U8", "[1]", 0, 1) "," T("a", "U8", "[1]", 1, 2) "}", 2, DD_ERR_FORMAT},
        {"{" T("a", "U8", "[1]", 0, 1) "," T("\\u0061", "U8", "[1]", 1, 2) "}", 2, DD_ERR_FORMAT},
        {"{" T("a\\u0000b", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("\\ud800", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("\\ud800\\u0041", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("\\udc00", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("\\u00g1", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("\\x41", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("\xff", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT},         /* not UTF-8 */
        {"{" T("\xc0\x80", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT},     /* overlong */
        {"{" T("\xed\xa0\x80", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT}, /* surrogate */
        {"{" T("\xf4\x90\x80\x80", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("\xc3", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT},
        {"{" T("a\nb", "U8", "[1]", 0, 1) "}", 1, DD_ERR_FORMAT},
        /* grammar */
        {"", 0, DD_ERR_FORMAT},
        {" {}", 0, DD_ERR_FORMAT}, /* the format wants '{' first */
        {"[]", 0, DD_ERR_FORMAT},
        {"{", 0, DD_ERR_FORMAT},
        {"{}{}", 0, DD_ERR_FORMAT},
        {"{\"a\":null}", 0, DD_ERR_FORMAT},
        {"{\"a\"}", 0, DD_ERR_FORMAT},
        {"{\"a", 0, DD_ERR_FORMAT},
        {"{\"a\\", 0, DD_ERR_FORMAT},
        {"{\"a\\u00", 0, DD_ERR_FORMAT},
        {"{,}", 0, DD_ERR_FORMAT},
        {"{a:1}", 0, DD_ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 0, DD_ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, DD_ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, DD_ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, DD_ERR_FORMAT},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 1, DD_ERR_FORMAT},
        {"{\"__metadata__\":{\"a\":1}}", 0, DD_ERR_FORMAT},
        {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, DD_ERR_FORMAT},
        {"{\"__metadata__\":{\"a\":\"1\"},\"__metadata__\":{\"b\":\"2\"}}", 0, DD_ERR_FORMAT},
        {"{\"__metadata__\":[]}", 0, DD_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(cases[i].header, strlen(cases[i].header), cases[i].data);
        dd_tensorfile *file;
        if (cases[i].expected == DD_OK) {
            good(dd_tensorfile_open(&file, path));
            use_all(file);
            dd_tensorfile_free(file);
            continue;
        }
        if (dd_tensorfile_open(&file, path) != cases[i].expected)
            print_message("case %zu: %s\n", i, cases[i].header);
        bad_open(cases[i].expected);
    }
}

static void error_names_the_tensor(void **state)
{
    const char header[] = "{" T("good", "U8", "[1]", 0, 1) "," T("wrong one", "I8", "[1]", 1, 2) "}";
    write_file(header, strlen(header), 2);
    bad_open(DD_ERR_DTYPE);
    assert_string_equal(dd_error_subject(), "wrong one");
    assert_non_null(strstr(dd_error_message(), "I8"));
}

/* The attribute keeps gcc's analysis of sanitized code from imagining NULL. */
__attribute__((returns_nonnull)) static char *get_memory(size_t bytes)
{
    char *memory = malloc(bytes);
    if (!memory)
        abort();
    return memory;
}

static void deep_json(void **state)
{
    size_t depth = 1000000;
    char *header = get_memory(depth + 6);
    memcpy(header, "{\"a\":", 5);
    memset(header + 5, '[', depth);
    write_file(header, depth + 5, 0);
    bad_open(DD_ERR_FORMAT);
    memset(header + 5, '{', depth);
    write_file(header, depth + 5, 0);
    bad_open(DD_ERR_FORMAT);
    free(header);
}

/* ---- limits */

/* A file of `count` empty tensors, the first with a name of `name_bytes`. */
static void write_many(int count, int name_bytes)
{
    char *header = get_memory((size_t)count * 80 + (size_t)name_bytes + 80);
    size_t size = (size_t)sprintf(header, "{");
    for (int i = 0; i < count; i++)
        size += (size_t)sprintf(header + size, "%s\"%0*d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                                i ? "," : "", i ? 7 : name_bytes, i);
    header[size++] = '}';
    write_file(header, size, 0);
    free(header);
}

static void limits(void **state)
{
    dd_tensorfile *file;
    dd_tensor view;
    write_many(100000, 1024);
    good(dd_tensorfile_open(&file, path));
    good(dd_tensorfile_get(file, "0099999", &view));
    view = view_of(NULL, DD_F32, 1, (int64_t[]){0}, NULL);
    bad(dd_tensorfile_set(file, "one more", &view), DD_ERR_LIMIT);
    dd_tensorfile_free(file);
    write_many(100001, 7);
    bad_open(DD_ERR_LIMIT);
    write_many(1, 1025);
    bad_open(DD_ERR_LIMIT);

    uint64_t length = 100000001; /* a sparse file whose header is one byte above the limit */
    write_bytes((const char *)&length, 8);
    assert_int_equal(truncate(path, 8 + (off_t)length), 0);
    bad_open(DD_ERR_LIMIT);
    length = UINT64_MAX;
    write_bytes((const char *)&length, 8);
    bad_open(DD_ERR_FORMAT);

    char name[1026];
    memset(name, 'n', sizeof name);
    name[1025] = 0;
    good(dd_tensorfile_create(&file));
    bad(dd_tensorfile_set(file, name, &view), DD_ERR_LIMIT);
    name[1024] = 0;
    good(dd_tensorfile_set(file, name, &view));
    dd_tensorfile_free(file);
}

/* ---- what cannot be opened or written */

static void not_a_file(void **state)
{
    unlink(path);
    bad_open(DD_ERR_IO);
    assert_non_null(strstr(dd_error_message(), path));
    assert_int_equal(mkdir(path, 0700), 0);
    bad_open(DD_ERR_IO);
    dd_tensorfile *file = make_set();
    bad(dd_tensorfile_save(file, path), DD_ERR_IO); /* a folder is in the way */
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    bad_open(DD_ERR_IO); /* and does not hang */
    unlink(path);
    bad(dd_tensorfile_save(file, "/nowhere/at/all/x.safetensors"), DD_ERR_IO);
    bad(dd_tensorfile_save(file, ""), DD_ERR_IO);
    assert_int_equal(files_in_folder(), 0);
    dd_tensorfile_free(file);
}

static void failed_write_leaves_old_file(void **state)
{
    dd_tensorfile *file = make_set();
    good(dd_tensorfile_save(file, path));
    assert_int_equal(chmod(path, 0640), 0);
    size_t old_size, size;
    char *old = read_bytes(&old_size);
    static char much[100000];
    dd_tensor view = view_of(much, DD_U8, 1, (int64_t[]){sizeof much}, NULL);
    good(dd_tensorfile_set(file, "much", &view));

    struct rlimit limit, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, SIG_IGN); /* a full disk: the write that reaches the limit is short, the next fails */
    small = (struct rlimit){50000, limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    bad(dd_tensorfile_save(file, path), DD_ERR_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);

    char *now = read_bytes(&size);
    assert_int_equal(size, old_size);
    assert_memory_equal(now, old, size);
    assert_int_equal(files_in_folder(), 1);
    good(dd_tensorfile_save(file, path)); /* with room it succeeds, and the permissions stay */
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    assert_true(about.st_size > (off_t)sizeof much);
    assert_int_equal(about.st_mode & 0777, 0640);
    free(old);
    free(now);
    dd_tensorfile_free(file);
}

static void wrong_calls(void **state)
{
    dd_tensorfile *file = make_set();
    dd_tensor view, damaged;
    const char *word;
    int32_t count;
    bad(dd_tensorfile_open(NULL, path), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_create(NULL), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_open(&file, NULL), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_count(NULL, &count), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_count(file, NULL), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_at(file, -1, NULL, &view), DD_ERR_NOT_FOUND);
    bad(dd_tensorfile_at(file, 7, NULL, &view), DD_ERR_NOT_FOUND);
    good(dd_tensorfile_at(file, 0, NULL, NULL));
    bad(dd_tensorfile_get(file, "f33", &view), DD_ERR_NOT_FOUND);
    assert_string_equal(dd_error_subject(), "f33");
    bad(dd_tensorfile_get(file, NULL, &view), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_get(file, "f32", NULL), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_metadata(file, "none", &word), DD_ERR_NOT_FOUND);
    bad(dd_tensorfile_metadata(file, "format", NULL), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_set_metadata(file, NULL, ""), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_set_metadata(file, "k", NULL), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_set_metadata(file, "k", "\xff"), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_save(file, NULL), DD_ERR_ARGUMENT);
    good(dd_tensorfile_get(file, "f32", &view));
    bad(dd_tensorfile_set(file, "__metadata__", &view), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_set(file, "\xff", &view), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_set(file, NULL, &view), DD_ERR_ARGUMENT);
    bad(dd_tensorfile_set(file, "x", NULL), DD_ERR_ARGUMENT);
    damaged = view;
    damaged.struct_size = 8;
    bad(dd_tensorfile_set(file, "x", &damaged), DD_ERR_ARGUMENT);
    damaged = view;
    damaged.device_type = DD_DEVICE_CUDA;
    bad(dd_tensorfile_set(file, "x", &damaged), DD_ERR_DEVICE);
    good(dd_tensorfile_count(file, &count));
    assert_int_equal(count, 7);
    dd_tensorfile_free(file);
    bad(dd_tensorfile_count(file, &count), DD_ERR_ARGUMENT); /* freed */
    dd_tensorfile_free(file);
    dd_tensorfile_free(NULL);
}

static void real_file(void **state)
{
    dd_tensorfile *file;
    dd_tensor view;
    if (access(SHARED_DIR "/data/deimv2/outputs.safetensors", R_OK)) {
        print_message("skipped: no %s/data/deimv2/outputs.safetensors\n", SHARED_DIR);
        skip();
    }
    good(dd_tensorfile_open(&file, SHARED_DIR "/data/deimv2/outputs.safetensors"));
    good(dd_tensorfile_get(file, "femto.pred_logits", &view));
    assert_int_equal(view.dtype, DD_F32);
    assert_int_equal(view.shape[0] * 1000000 + view.shape[1] * 1000 + view.shape[2], 27150080);
    use_all(file);
    dd_tensorfile_free(file);
}

#ifdef DDI_FAULT_POINTS
/* Makes each allocation and file call of `scenario` fail in turn, once and for good, until it gets through. */
static void sweep(dd_status (*scenario)(void))
{
    for (int for_good = 0; for_good < 2; for_good++) {
        int64_t n = 1;
        for (;; n++) {
            dd_fault_set(n, for_good);
            dd_status status = scenario();
            dd_fault_set(0, 0);
            if (status == DD_OK)
                break;
            assert_true(status == DD_ERR_NOMEM || status == DD_ERR_IO);
            assert_true(n < 1000);
        }
        assert_true(n > 5);
    }
}

static dd_status open_scenario(void)
{
    dd_tensorfile *file = NULL;
    dd_status status = dd_tensorfile_open(&file, path);
    if (status == DD_OK)
        dd_tensorfile_free(file);
    else
        assert_null(file);
    return status;
}

static void open_with_faults(void **state)
{
    const char header[] = "{" T("a", "U8", "[1]", 0, 1) "," T("b", "F64", "[1]", 1, 9) ",\"__metadata__\":{\"k\":\"v\"}}";
    write_file(header, strlen(header), 9);
    sweep(open_scenario);
}

static dd_tensorfile *saved;
static char *old_bytes;
static size_t old_size;

/* Saving over an old file: whatever fails, the file is the old or the new one, and nothing lies beside it. */
static dd_status save_scenario(void)
{
    write_bytes(old_bytes, old_size);
    dd_status status = dd_tensorfile_save(saved, path);
    dd_fault_set(0, 0);
    size_t size;
    char *now = read_bytes(&size);
    bool is_old = size == old_size && memcmp(now, old_bytes, size) == 0;
    free(now);
    assert_int_equal(files_in_folder(), 1);
    if (!is_old) {
        dd_tensorfile *file;
        dd_tensor view;
        good(dd_tensorfile_open(&file, path));
        good(dd_tensorfile_get(file, "extra", &view));
        dd_tensorfile_free(file);
    }
    assert_true(status != DD_OK || !is_old);
    return status;
}

static void save_with_faults(void **state)
{
    saved = make_set();
    good(dd_tensorfile_save(saved, path));
    old_bytes = read_bytes(&old_size);
    dd_tensor view;
    good(dd_tensorfile_get(saved, "f64", &view));
    good(dd_tensorfile_set(saved, "extra", &view));
    sweep(save_scenario);
    dd_tensorfile_free(saved);
    free(old_bytes);
}

static dd_status fill_scenario(void)
{
    dd_tensorfile *file = NULL;
    int32_t number = 7;
    dd_tensor view;
    dd_status status = dd_tensor_init(&view, &number, DD_I32, 1, (int64_t[]){1}, NULL, DD_DEVICE_CPU, 0, 0);
    if (!status)
        status = dd_tensorfile_create(&file);
    for (int i = 0; i < 20 && !status; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d", i % 10); /* the second ten replace the first */
        status = dd_tensorfile_set(file, name, &view);
        if (!status)
            status = dd_tensorfile_set_metadata(file, name, "word");
    }
    dd_tensorfile_free(file);
    return status;
}

static void fill_with_faults(void **state)
{
    sweep(fill_scenario);
}
#endif

static int make_folder(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/file.safetensors", folder);
    return 0;
}

static int remove_file(void **state)
{
    unlink(path);
    return 0;
}

static int remove_folder(void **state)
{
    return rmdir(folder); /* fails if a test left something behind */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(round_trip, remove_file),
        cmocka_unit_test_teardown(saved_again_is_the_same_file, remove_file),
        cmocka_unit_test_teardown(any_strides, remove_file),
        cmocka_unit_test_teardown(empty_and_replaced, remove_file),
        cmocka_unit_test_teardown(misaligned_and_unsorted, remove_file),
        cmocka_unit_test_teardown(every_cut_point, remove_file),
        cmocka_unit_test_teardown(flipped_bytes, remove_file),
        cmocka_unit_test_teardown(hostile_headers, remove_file),
        cmocka_unit_test_teardown(error_names_the_tensor, remove_file),
        cmocka_unit_test_teardown(deep_json, remove_file),
        cmocka_unit_test_teardown(limits, remove_file),
        cmocka_unit_test_teardown(not_a_file, remove_file),
        cmocka_unit_test_teardown(failed_write_leaves_old_file, remove_file),
        cmocka_unit_test(wrong_calls),
        cmocka_unit_test(real_file),
#ifdef DDI_FAULT_POINTS
        cmocka_unit_test_teardown(open_with_faults, remove_file),
        cmocka_unit_test_teardown(save_with_faults, remove_file),
        cmocka_unit_test_teardown(fill_with_faults, remove_file),
#endif
    };
    return cmocka_run_group_tests_name("safetensors", tests, make_folder, remove_folder);
}
