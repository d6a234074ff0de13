/* SPDX-License-Identifier: Apache-2.0
 * What the host owns is as before after good and bad calls: standard output and error (nothing was written), locale,
 * environment, signal handlers and mask, working directory, file mask, floating-point mode, number of open files. */
#include <detrdistill/detrdistill.h>
#include <dirent.h>
#include <fenv.h>
#include <immintrin.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h> /* wants the C library's headers before it */

extern char **environ;

typedef struct surroundings {
    char locale[256], folder[4096];
    uint64_t environment; /* hash of all words */
    char **environ;
    struct sigaction handlers[NSIG];
    sigset_t mask;
    mode_t file_mask;
    int rounding;
    uint32_t mxcsr;
} surroundings;

static uint64_t hash_environment(void)
{
    uint64_t hash = 1469598103934665603u; /* FNV-1a */
    for (char **word = environ; *word; word++)
        for (const char *c = *word;; c++) {
            hash = (hash ^ (uint8_t)*c) * 1099511628211u;
            if (!*c)
                break;
        }
    return hash;
}

static void look(surroundings *s)
{
    memset(s, 0, sizeof *s);
    snprintf(s->locale, sizeof s->locale, "%s", setlocale(LC_ALL, NULL));
    assert_non_null(getcwd(s->folder, sizeof s->folder));
    s->environment = hash_environment();
    s->environ = environ;
    for (int i = 1; i < NSIG; i++)
        sigaction(i, NULL, &s->handlers[i]);
    sigprocmask(SIG_SETMASK, NULL, &s->mask);
    s->file_mask = umask(0);
    umask(s->file_mask);
    s->rounding = fegetround();
    s->mxcsr = _mm_getcsr() & ~0x3fu; /* without the sticky exception flags, which arithmetic sets */
}

static void expect_same(const surroundings *before)
{
    surroundings now;
    look(&now);
    assert_string_equal(now.locale, before->locale);
    assert_string_equal(now.folder, before->folder);
    assert_int_equal(now.environment, before->environment);
    assert_ptr_equal(now.environ, before->environ);
    for (int i = 1; i < NSIG; i++) {
        assert_ptr_equal(now.handlers[i].sa_handler, before->handlers[i].sa_handler);
        assert_int_equal(now.handlers[i].sa_flags, before->handlers[i].sa_flags);
    }
    assert_memory_equal(&now.mask, &before->mask, sizeof now.mask);
    assert_int_equal(now.file_mask, before->file_mask);
    assert_int_equal(now.rounding, before->rounding);
    assert_int_equal(now.mxcsr, before->mxcsr);
}

/* Standard output and error go to a file between the two; close_outputs returns how many bytes it got. */
static int saved[2];
static FILE *sink;

static void open_outputs(void)
{
    fflush(NULL);
    sink = tmpfile();
    assert_non_null(sink);
    for (int file = 1; file <= 2; file++) {
        saved[file - 1] = dup(file);
        dup2(fileno(sink), file);
    }
}

static off_t close_outputs(void)
{
    struct stat info;
    fflush(NULL);
    for (int file = 1; file <= 2; file++) {
        dup2(saved[file - 1], file);
        close(saved[file - 1]);
    }
    off_t bytes = fstat(fileno(sink), &info) ? -1 : info.st_size;
    fclose(sink);
    return bytes;
}

static int open_files(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

/* ---- one host's life: two stages, two images, six queries, four classes */

enum { L = 2, B = 2, N = 6, C = 4, D = 8, H = 5, W = 7, G = 3 };

static float student_logits[L * B * N * C], student_boxes[L * B * N * 4], teacher_logits[L * B * N * C],
    teacher_boxes[L * B * N * 4];
static float queries[L * B * N * D], student_map[B * D * H * W], teacher_map[B * D * H * W];
static float logits_grad[L * B * N * C], map_grad[B * D * H * W];
static float gt_boxes[G * 4] = {.3f, .3f, .2f, .2f, .6f, .5f, .3f, .4f, .5f, .5f, .5f, .5f};
static int32_t gt_labels[G] = {0, 2, 3}, gt_offsets[B + 1] = {0, 2, 3};
static float sizes[B * 2] = {640, 480, 500, 375};

static void fill(float *x, int n, float low, float high, uint32_t seed)
{
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = low + (high - low) * (float)(seed >> 8) / 16777216.0f;
    }
}

static void bind(dd_distiller *d, const char *name, void *data, int32_t dtype, int32_t ndim, const int64_t *shape)
{
    dd_tensor t;
    assert_int_equal(dd_tensor_init(&t, data, dtype, ndim, shape, NULL, DD_DEVICE_CPU, 0, 0), DD_OK);
    if (dd_distiller_bind(d, name, &t) != DD_OK)
        fail_msg("%s: %s", name, dd_error_message());
}

static void bind_all(dd_distiller *d)
{
    const int64_t logits[4] = {L, B, N, C}, boxes[4] = {L, B, N, 4}, hidden[4] = {L, B, N, D}, map[4] = {B, D, H, W};
    const int64_t objects[2] = {G, 4}, labels[1] = {G}, offsets[1] = {B + 1}, pixels[2] = {B, 2};
    bind(d, "student.logits", student_logits, DD_F32, 4, logits);
    bind(d, "student.logits.grad", logits_grad, DD_F32, 4, logits);
    bind(d, "student.boxes", student_boxes, DD_F32, 4, boxes);
    bind(d, "teacher.logits", teacher_logits, DD_F32, 4, logits);
    bind(d, "teacher.boxes", teacher_boxes, DD_F32, 4, boxes);
    bind(d, "teacher.queries", queries, DD_F32, 4, hidden);
    bind(d, "student.features.0", student_map, DD_F32, 4, map);
    bind(d, "student.features.0.grad", map_grad, DD_F32, 4, map);
    bind(d, "teacher.features.0", teacher_map, DD_F32, 4, map);
    bind(d, "gt.boxes", gt_boxes, DD_F32, 2, objects);
    bind(d, "gt.labels", gt_labels, DD_I32, 1, labels);
    bind(d, "gt.offsets", gt_offsets, DD_I32, 1, offsets);
    bind(d, "image.sizes", sizes, DD_F32, 2, pixels);
}

static void good_calls(const char *options)
{
    dd_context *context;
    dd_distiller *d;
    double total;
    if (dd_context_create(&context, options) != DD_OK)
        fail_msg("%s", dd_error_message());
    assert_int_equal(dd_distiller_create(&d, context, "prior=none adaptor=always"), DD_OK);
    bind_all(d);
    for (int step = 0; step < 3; step++)
        if (dd_distiller_step(d, &total) != DD_OK)
            fail_msg("%s", dd_error_message());
    dd_distiller_free(d);
    dd_context_free(context);
}

static void bad_calls(const char *options)
{
    dd_context *context, *none;
    dd_distiller *d;
    assert_int_not_equal(dd_context_create(&none, "device=cpu quries=3"), DD_OK);
    assert_int_not_equal(dd_context_create(&none, "device=cpu modules=/nonexistent isa=none threads=-1"), DD_OK);
    assert_int_not_equal(dd_context_create(NULL, NULL), DD_OK);
    assert_int_equal(dd_context_create(&context, options), DD_OK);
    assert_int_not_equal(dd_distiller_create(&d, context, "family=yolo"), DD_OK);
    assert_int_equal(dd_distiller_create(&d, context, "prior=none"), DD_OK);
    assert_int_not_equal(dd_distiller_step(d, NULL), DD_OK); /* nothing is bound */
    bind_all(d);
    float kept = teacher_logits[5];
    teacher_logits[5] = (float)NAN;
    assert_int_equal(dd_distiller_step(d, NULL), DD_ERR_NONFINITE);
    teacher_logits[5] = kept;
    gt_labels[0] = C;
    assert_int_equal(dd_distiller_step(d, NULL), DD_ERR_ARGUMENT);
    gt_labels[0] = 0;
    dd_distiller_free(d);
    dd_context_free(context);
    dd_tensorfile *file;
    assert_int_equal(dd_tensorfile_open(&file, "/nonexistent.safetensors"), DD_ERR_IO);
}

static void leaves_alone(void (*calls)(const char *), const char *options)
{
    surroundings before;
    calls(
        options); /* files that a first use opens for good (the module) are not counted; quiet_at_first_use looks at the rest */
    look(&before);
    int files = open_files();
    open_outputs();
    calls(options);
    assert_int_equal(close_outputs(), 0);
    expect_same(&before);
    assert_int_equal(open_files(), files);
}

static void quiet_at_first_use(void **state)
{
    (void)state;
    surroundings before;
    look(&before);
    open_outputs();
    good_calls("device=ref");
    if (dd_has("cpu"))
        good_calls("device=cpu threads=2");
    assert_int_equal(close_outputs(), 0);
    expect_same(&before);
}

static void ref_good(void **state)
{
    (void)state;
    leaves_alone(good_calls, "device=ref");
}

static void ref_bad(void **state)
{
    (void)state;
    leaves_alone(bad_calls, "device=ref");
}

static void cpu_good(void **state)
{
    (void)state;
    if (!dd_has("cpu")) {
        print_message("skipped: the CPU module is not here\n");
        skip();
    }
    leaves_alone(good_calls, "device=cpu threads=2");
}

static void cpu_bad(void **state)
{
    (void)state;
    if (!dd_has("cpu")) {
        print_message("skipped: the CPU module is not here\n");
        skip();
    }
    leaves_alone(bad_calls, "device=cpu threads=2");
}

/* The same in a host with a comma for a decimal point (where the machine has such a locale), rounding up and denormals off. */
static void unusual_host(void **state)
{
    (void)state;
    setlocale(LC_ALL, "de_DE.UTF-8");
    fesetround(FE_UPWARD);
    _mm_setcsr(_mm_getcsr() | 0x8040);
    leaves_alone(good_calls, "device=ref");
    if (dd_has("cpu"))
        leaves_alone(good_calls, "device=cpu threads=2");
    _mm_setcsr(_mm_getcsr() & ~0x8040u);
    fesetround(FE_TONEAREST);
    setlocale(LC_ALL, "C");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quiet_at_first_use), cmocka_unit_test(ref_good), cmocka_unit_test(ref_bad),
        cmocka_unit_test(cpu_good),           cmocka_unit_test(cpu_bad),  cmocka_unit_test(unusual_host)};
    fill(student_logits, L * B * N * C, -4, 2, 1);
    fill(teacher_logits, L * B * N * C, -4, 2, 2);
    fill(student_boxes, L * B * N * 4, .2f, .6f, 3);
    fill(teacher_boxes, L * B * N * 4, .2f, .6f, 4);
    fill(queries, L * B * N * D, -1, 1, 5);
    fill(student_map, B * D * H * W, -1, 1, 6);
    fill(teacher_map, B * D * H * W, -1, 1, 7);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
