/* SPDX-License-Identifier: Apache-2.0
 * R13, R11: NULL for each pointer of each function, handles that are freed, of another kind or made up, and every limit at, one
 * below and one above its number. */
#include "../distiller/case.h"
#include "../distiller/guard.h"
#include "base/limits.h"

#include <stdio.h>
#include <string.h>

static dd_context *context;
static dd_matcher *matcher;
static dd_distiller *distiller;
static dd_tensorfile *tensorfile;
static dd_eval *eval;
static kd_case *data;

static int open_handles(void **state)
{
    data = case_make(case_small, 2);
    return dd_context_create(&context, "device=ref") || dd_matcher_create(&matcher, context, "") ||
           dd_distiller_create(&distiller, context, "") || dd_tensorfile_create(&tensorfile) || dd_eval_create(&eval) ||
           case_bind(data, distiller, true) || case_bind_matcher(data, matcher, false) || dd_distiller_step(distiller, NULL) ||
           dd_matcher_run(matcher);
}

static int close_handles(void **state)
{
    dd_context_free(context); /* before its children */
    dd_eval_free(eval);
    dd_tensorfile_free(tensorfile);
    dd_distiller_free(distiller);
    dd_matcher_free(matcher);
    case_free(data);
    return 0;
}

static void null_arguments(void **state)
{
    dd_tensor view = case_find(data, "student.logits")->view;
    dd_dl_managed_versioned *out;
    double number;
    FAILS(DD_ERR_ARGUMENT, dd_context_create(NULL, ""));
    FAILS(DD_ERR_ARGUMENT, dd_context_create_with(NULL, "", NULL, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_context_describe(context, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_context_kernel(context, NULL, DD_F32, &(const char *){NULL}));
    FAILS(DD_ERR_ARGUMENT, dd_context_kernel(context, "assign", DD_F32, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_device_count(NULL, &(int32_t){0}));
    FAILS(DD_ERR_ARGUMENT, dd_device_count("cpu", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_options_help(NULL, &(const char *){NULL}));
    FAILS(DD_ERR_ARGUMENT, dd_options_help("context", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_tensor_init(NULL, data, DD_F32, 1, (int64_t[]){1}, NULL, DD_DEVICE_CPU, 0, 0));
    FAILS(DD_ERR_ARGUMENT, dd_tensor_init(&view, data, DD_F32, 1, NULL, NULL, DD_DEVICE_CPU, 0, 0));
    FAILS(DD_ERR_ARGUMENT, dd_tensor_from_dlpack(NULL, &(dd_dl_tensor){0}));
    FAILS(DD_ERR_ARGUMENT, dd_tensor_from_dlpack(&view, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_tensor_from_dlpack_versioned(NULL, &(dd_dl_managed_versioned){0}));
    FAILS(DD_ERR_ARGUMENT, dd_tensor_from_dlpack_versioned(&view, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_tensor_to_dlpack(NULL, &out));
    FAILS(DD_ERR_ARGUMENT, dd_tensor_to_dlpack(&view, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_matcher_create(NULL, context, ""));
    FAILS(DD_ERR_ARGUMENT, dd_matcher_bind(matcher, NULL, &view));
    FAILS(DD_ERR_ARGUMENT, dd_matcher_count(matcher, NULL, &(int32_t){0}));
    FAILS(DD_ERR_ARGUMENT, dd_matcher_count(matcher, &(int32_t){0}, NULL));
    GOOD(dd_matcher_get(matcher, 0, 0, NULL, NULL, NULL));
    FAILS(DD_ERR_NOT_FOUND, dd_matcher_get(matcher, 9, 0, NULL, NULL, NULL));
    FAILS(DD_ERR_NOT_FOUND, dd_matcher_get(matcher, 0, -1, NULL, NULL, NULL));
    FAILS(DD_ERR_NOT_FOUND, dd_matcher_bind(matcher, "gt.box", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_create(NULL, context, ""));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_bind(distiller, NULL, &view));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_term_count(distiller, NULL));
    GOOD(dd_distiller_term_at(distiller, 0, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_term_get(distiller, NULL, &number));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_term_get(distiller, "loss.det", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_result(distiller, NULL, &view));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_result(distiller, "match.det", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_set_weight(distiller, NULL, 1));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_get_weight(distiller, NULL, &number));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_get_weight(distiller, "det", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_parameter_count(distiller, NULL));
    FAILS(DD_ERR_NOT_FOUND, dd_distiller_parameter_at(distiller, 99, NULL, NULL, NULL));
    GOOD(dd_distiller_parameter_at(distiller, 0, NULL, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_create(NULL));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_open(NULL, "x"));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_open(&(dd_tensorfile *){NULL}, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_count(tensorfile, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_get(tensorfile, NULL, &view));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_get(tensorfile, "x", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_metadata(tensorfile, NULL, &(const char *){NULL}));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_metadata(tensorfile, "x", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_set(tensorfile, NULL, &view));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_set(tensorfile, "x", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_set_metadata(tensorfile, NULL, "x"));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_set_metadata(tensorfile, "x", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_save(tensorfile, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_eval_create(NULL));
    FAILS(DD_ERR_ARGUMENT, dd_eval_add_objects(eval, 0, 1, NULL, &(int64_t){1}, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_eval_add_objects(eval, 0, 1, (double[4]){0}, NULL, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_eval_add_objects(eval, 0, -1, (double[4]){0}, &(int64_t){1}, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_eval_add_detections(eval, 0, 1, NULL, &(int64_t){1}, &(double){1}));
    FAILS(DD_ERR_ARGUMENT, dd_eval_add_detections(eval, 0, 1, (double[4]){0}, NULL, &(double){1}));
    FAILS(DD_ERR_ARGUMENT, dd_eval_add_detections(eval, 0, 1, (double[4]){0}, &(int64_t){1}, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_eval_finish(eval, NULL));
    GOOD(dd_eval_finish(eval, (double[12]){0}));
    FAILS(DD_ERR_ARGUMENT, dd_eval_class(eval, 1, NULL));
    GOOD(dd_context_memory(context, NULL, NULL, NULL, NULL, NULL));
    GOOD(dd_distiller_set_mean(distiller, NULL, NULL));
    dd_context_free(NULL);
    dd_matcher_free(NULL);
    dd_distiller_free(NULL);
    dd_tensorfile_free(NULL);
    dd_eval_free(NULL);
}

/* Every function of each kind of handle, with handles that it must not accept: all are ARGUMENT, none is touched. */
static void refuse_context(void *h)
{
    dd_matcher *m;
    dd_distiller *d;
    const char *text;
    FAILS(DD_ERR_ARGUMENT, dd_context_describe(h, &text));
    FAILS(DD_ERR_ARGUMENT, dd_context_set_log(h, NULL, NULL, 0));
    FAILS(DD_ERR_ARGUMENT, dd_context_memory(h, NULL, NULL, NULL, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_context_kernel(h, "assign", DD_F32, &text));
    FAILS(DD_ERR_ARGUMENT, dd_matcher_create(&m, h, ""));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_create(&d, h, ""));
    if (h)
        dd_context_free(h);
}

static void refuse_matcher(void *h)
{
    int32_t n;
    FAILS(DD_ERR_ARGUMENT, dd_matcher_bind(h, "gt.boxes", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_matcher_run(h));
    FAILS(DD_ERR_ARGUMENT, dd_matcher_count(h, &n, &n));
    FAILS(DD_ERR_ARGUMENT, dd_matcher_get(h, 0, 0, NULL, NULL, NULL));
    dd_matcher_free(h);
}

static void refuse_distiller(void *h)
{
    int32_t n;
    double number;
    dd_tensor view;
    FAILS(DD_ERR_ARGUMENT, dd_distiller_bind(h, "gt.boxes", NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_step(h, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_term_count(h, &n));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_term_at(h, 0, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_term_get(h, "loss.det", &number));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_result(h, "match.det", &view));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_set_weight(h, "det", 1));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_get_weight(h, "det", &number));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_set_stream(h, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_set_mean(h, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_set_trace(h, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_prepare(h));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_parameter_count(h, &n));
    FAILS(DD_ERR_ARGUMENT, dd_distiller_parameter_at(h, 0, NULL, NULL, NULL));
    dd_distiller_free(h);
}

static void refuse_tensorfile(void *h)
{
    int32_t n;
    const char *text;
    dd_tensor view = case_find(data, "gt.boxes")->view;
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_count(h, &n));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_at(h, 0, &text, &view));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_get(h, "x", &view));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_metadata(h, "x", &text));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_set(h, "x", &view));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_set_metadata(h, "x", "y"));
    FAILS(DD_ERR_ARGUMENT, dd_tensorfile_save(h, "/tmp/never-written"));
    dd_tensorfile_free(h);
}

static void refuse_eval(void *h)
{
    double number;
    FAILS(DD_ERR_ARGUMENT, dd_eval_add_objects(h, 0, 0, NULL, NULL, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_eval_add_detections(h, 0, 0, NULL, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_eval_finish(h, (double[12]){0}));
    FAILS(DD_ERR_ARGUMENT, dd_eval_class(h, 1, &number));
    dd_eval_free(h);
}

static void handles_of_no_use(void **state)
{
    dd_context *old_context;
    dd_matcher *old_matcher;
    dd_distiller *old_distiller;
    dd_tensorfile *old_file;
    dd_eval *old_eval;
    GOOD(dd_context_create(&old_context, "device=ref"));
    GOOD(dd_matcher_create(&old_matcher, old_context, ""));
    GOOD(dd_distiller_create(&old_distiller, old_context, ""));
    GOOD(dd_tensorfile_create(&old_file));
    GOOD(dd_eval_create(&old_eval));
    dd_eval_free(old_eval);
    dd_tensorfile_free(old_file);
    dd_distiller_free(old_distiller);
    dd_matcher_free(old_matcher);
    dd_context_free(old_context);
    char stack[64] = {0};
    void *const useless[] = {NULL,    old_context, old_matcher,         old_distiller, old_file, old_eval,
                             context, matcher,     distiller,           tensorfile,    eval,     (void *)(intptr_t)8,
                             stack,   stack + 1,   (void *)(intptr_t)-1};
    for (size_t i = 0; i < sizeof useless / sizeof useless[0]; i++) {
        if (useless[i] != context)
            refuse_context(useless[i]);
        if (useless[i] != matcher)
            refuse_matcher(useless[i]);
        if (useless[i] != distiller)
            refuse_distiller(useless[i]);
        if (useless[i] != tensorfile)
            refuse_tensorfile(useless[i]);
        if (useless[i] != eval)
            refuse_eval(useless[i]);
    }
    FAILS(DD_ERR_ARGUMENT, dd_context_cancel(NULL, 1));
    GOOD(dd_distiller_step(distiller, NULL)); /* the real ones are as they were */
    GOOD(dd_matcher_run(matcher));
}

static int64_t foreign_bytes;

static void *foreign_alloc(void *user, uint64_t bytes)
{
    foreign_bytes += (int64_t)bytes;
    return aligned_alloc(64, (bytes + 63) & ~(uint64_t)63);
}

static void foreign_free(void *user, void *memory)
{
    free(memory);
}

static void allocators(void **state)
{
    dd_context *c;
    FAILS(DD_ERR_ARGUMENT, dd_context_create_with(&c, "device=ref", foreign_alloc, NULL, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_context_create_with(&c, "device=ref", NULL, foreign_free, NULL));
    GOOD(dd_context_create_with(&c, "device=ref", foreign_alloc, foreign_free, NULL));
    assert_true(foreign_bytes > 0);
    dd_context_free(c);
}

static void log_levels(void **state)
{
    FAILS(DD_ERR_ARGUMENT, dd_context_set_log(context, NULL, NULL, -1));
    FAILS(DD_ERR_ARGUMENT, dd_context_set_log(context, NULL, NULL, 4));
    GOOD(dd_context_set_log(context, NULL, NULL, DD_LOG_DEBUG));
    const char *name;
    FAILS(DD_ERR_DTYPE, dd_context_kernel(context, "assign", DD_BF16, &name));
    FAILS(DD_ERR_NOT_FOUND, dd_context_kernel(context, "asign", DD_F32, &name));
    GOOD(dd_context_kernel(context, "assign", DD_F64, &name));
}

/* A matcher or distiller meets sizes through a view whose memory is one number (stride 0), so that large ones cost nothing
 * before they are refused. Returns the status of a run with this shape of student.logits. */
static dd_status run_with_shape(const int64_t shape[4])
{
    static float zero;
    static const int64_t none[4] = {0};
    dd_matcher *m;
    dd_tensor view;
    GOOD(dd_matcher_create(&m, context, ""));
    GOOD(dd_tensor_init(&view, &zero, DD_F32, 4, shape, none, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_matcher_bind(m, "student.logits", &view));
    dd_status status = CALL(dd_matcher_run(m));
    dd_matcher_free(m);
    return status;
}

static void sizes_of_predictions(void **state)
{
    static const int64_t limits[4] = {DDI_MAX_STAGES, DDI_MAX_IMAGES, DDI_MAX_QUERIES, DDI_MAX_CLASSES};
    for (int i = 0; i < 4; i++) {
        for (int64_t off = -1; off <= 1; off++) {
            int64_t shape[4] = {1, 1, 1, 1};
            shape[i] = limits[i] + off;
            /* within the limit the missing boxes are noticed next */
            assert_int_equal(run_with_shape(shape), off > 0 ? DD_ERR_LIMIT : DD_ERR_STATE);
        }
        int64_t shape[4] = {1, 1, 1, 1};
        shape[i] = 0;
        assert_int_equal(run_with_shape(shape), DD_ERR_SHAPE);
    }
}

static void sizes_of_maps(void **state)
{
    static float zero;
    static const int64_t none[4] = {0};
    static const struct {
        int64_t shape[3];
        dd_status status; /* of the maps; then the missing image.sizes are noticed */
    } maps[] = {{{8, DDI_MAX_MAP_SIDE, 1}, DD_ERR_STATE},
                {{8, DDI_MAX_MAP_SIDE + 1, 1}, DD_ERR_LIMIT},
                {{8, 1, DDI_MAX_MAP_SIDE - 1}, DD_ERR_STATE},
                {{8, 1, DDI_MAX_MAP_SIDE + 1}, DD_ERR_LIMIT},
                {{8, 65500, 65500}, DD_ERR_LIMIT},
                {{8, 0, 4}, DD_ERR_SHAPE}};
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        dd_distiller *d;
        dd_tensor view;
        case_sizes s = case_small;
        s.levels = 0;
        s.student_width = s.teacher_width;
        kd_case *c = case_make(s, 1);
        GOOD(dd_distiller_create(&d, context, ""));
        assert_int_equal(case_bind(c, d, true), DD_OK);
        GOOD(dd_distiller_bind(d, "image.sizes", NULL));
        GOOD(dd_tensor_init(&view, &zero, DD_F32, 4, (int64_t[]){2, maps[i].shape[0], maps[i].shape[1], maps[i].shape[2]}, none,
                            DD_DEVICE_CPU, 0, 0));
        GOOD(dd_distiller_bind(d, "student.features.0", &view));
        GOOD(dd_distiller_bind(d, "teacher.features.0", &view));
        FAILS(maps[i].status, dd_distiller_step(d, NULL));
        dd_distiller_free(d);
        case_free(c);
    }
}

static void channels_and_levels(void **state)
{
    static float zero;
    static const int64_t none[4] = {0};
    dd_tensor view;
    dd_distiller *d;
    case_sizes s = case_small;
    s.levels = 0;
    kd_case *c = case_make(s, 1);
    for (int64_t off = -1; off <= 1; off++) {
        GOOD(dd_distiller_create(&d, context, "contrastive=1 feature-mask=none contrastive-width=2"));
        assert_int_equal(case_bind(c, d, false), DD_OK);
        GOOD(dd_tensor_init(&view, &zero, DD_F32, 4, (int64_t[]){2, 2, 7, DDI_MAX_CHANNELS + off}, none, DD_DEVICE_CPU, 0, 0));
        GOOD(dd_distiller_bind(d, "student.queries", &view));
        dd_status status = CALL(dd_distiller_step(d, NULL));
        assert_int_equal(status, off > 0 ? DD_ERR_LIMIT : DD_OK);
        dd_distiller_free(d);
    }
    GOOD(dd_distiller_create(&d, context, ""));
    GOOD(dd_tensor_init(&view, &zero, DD_F32, 4, (int64_t[]){1, 1, 1, 1}, none, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_distiller_bind(d, "student.features.7", &view));
    FAILS(DD_ERR_NOT_FOUND, dd_distiller_bind(d, "student.features.8", &view));
    dd_distiller_free(d);
    case_free(c);
}

static void objects_of_an_image(void **state)
{
    for (int32_t off = -1; off <= 1; off++) {
        case_sizes s = case_small;
        s.images = 1;
        s.student_stages = s.teacher_stages = 1;
        s.student_queries = 2;
        s.levels = 0;
        s.objects = DDI_MAX_BOXES + off;
        kd_case *c = case_make(s, 4);
        dd_matcher *m;
        GOOD(dd_matcher_create(&m, context, ""));
        assert_int_equal(case_bind_matcher(c, m, false), DD_OK);
        dd_status status = CALL(dd_matcher_run(m));
        assert_int_equal(status, off > 0 ? DD_ERR_LIMIT : DD_OK);
        dd_matcher_free(m);
        case_free(c);
    }
}

static void sizes_of_assignments(void **state)
{
    static float zero;
    int32_t *match = calloc(DDI_MAX_QUERIES + 1, sizeof *match);
    FAILS(DD_ERR_LIMIT, dd_assign_f32(&zero, DDI_MAX_QUERIES + 1, 1, 0, 0, match, NULL));
    FAILS(DD_ERR_LIMIT, dd_assign_f32(&zero, 1, DDI_MAX_QUERIES + 1, 0, 0, match, NULL));
    GOOD(dd_assign_f32(&zero, DDI_MAX_QUERIES, 1, 0, 0, match, NULL));
    GOOD(dd_assign_f32(&zero, 1, DDI_MAX_QUERIES - 1, 0, 0, match, NULL));
    free(match);
}

static void sizes_of_tensors(void **state)
{
    static const struct {
        int64_t shape, stride;
        int32_t dtype;
        dd_status status;
    } views[] = {{DDI_MAX_ELEMENTS, 0, DD_F32, DD_OK},
                 {DDI_MAX_ELEMENTS - 1, 0, DD_F32, DD_OK},
                 {DDI_MAX_ELEMENTS + 1, 0, DD_F32, DD_ERR_LIMIT},
                 {2, DDI_MAX_BYTES / 4 - 1, DD_F32, DD_OK},
                 {2, DDI_MAX_BYTES / 4, DD_F32, DD_ERR_LIMIT},
                 {2, -DDI_MAX_BYTES / 8, DD_F64, DD_ERR_LIMIT},
                 {2, -DDI_MAX_BYTES / 8 + 1, DD_F64, DD_OK}};
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++) {
        dd_tensor view;
        dd_status status =
            CALL(dd_tensor_init(&view, &view, views[i].dtype, 1, &views[i].shape, &views[i].stride, DD_DEVICE_CPU, 0, 0));
        assert_int_equal(status, views[i].status);
    }
}

/* Options text, threads. */
static void sizes_of_options(void **state)
{
    char *text = malloc(DDI_MAX_OPTIONS_BYTES + 2);
    dd_context *c;
    dd_distiller *d;
    for (int off = -1; off <= 1; off++) {
        memset(text, ' ', DDI_MAX_OPTIONS_BYTES + 1);
        memcpy(text, "device=ref", 10);
        text[DDI_MAX_OPTIONS_BYTES + off] = '\0';
        dd_status status = CALL(dd_context_create(&c, text));
        assert_int_equal(status, off > 0 ? DD_ERR_LIMIT : DD_OK);
        if (status == DD_OK)
            dd_context_free(c);
        char words[64];
        snprintf(words, sizeof words, "device=ref threads=%d", DDI_MAX_THREADS + off);
        status = CALL(dd_context_create(&c, words));
        assert_int_equal(status, off > 0 ? DD_ERR_OPTION : DD_OK);
        if (status == DD_OK)
            dd_context_free(c);
        snprintf(words, sizeof words, "classes=%d", DDI_MAX_CLASSES + off);
        status = CALL(dd_distiller_create(&d, context, words));
        assert_int_equal(status, off > 0 ? DD_ERR_OPTION : DD_OK);
        if (status == DD_OK)
            dd_distiller_free(d);
    }
    /* a folder name may have 4095 bytes */
    memset(text, 'x', 5000);
    memcpy(text, "device=ref modules=", 19);
    text[19 + 4095] = '\0';
    GOOD(dd_context_create(&c, text));
    dd_context_free(c);
    text[19 + 4095] = 'x';
    text[19 + 4096] = '\0';
    FAILS(DD_ERR_LIMIT, dd_context_create(&c, text));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_arguments),       cmocka_unit_test(handles_of_no_use),
        cmocka_unit_test(allocators),           cmocka_unit_test(log_levels),
        cmocka_unit_test(sizes_of_predictions), cmocka_unit_test(sizes_of_maps),
        cmocka_unit_test(channels_and_levels),  cmocka_unit_test(objects_of_an_image),
        cmocka_unit_test(sizes_of_assignments), cmocka_unit_test(sizes_of_tensors),
        cmocka_unit_test(sizes_of_options),     cmocka_unit_test(every_status_is_documented),
    };
    return cmocka_run_group_tests(tests, open_handles, close_handles);
}
