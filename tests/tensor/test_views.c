/* SPDX-License-Identifier: Apache-2.0
 * R12: tensor views that lie. Generated views with the right status for each; data between guard pages, so that a read or
 * write outside ends the program; and views that a distiller must refuse. */
#include "../distiller/case.h"
#include "../distiller/guard.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CASES = 20000 };

/* `bytes` that end right before (or begin right after) a page that must not be touched. */
typedef struct guarded {
    char *map, *data;
    size_t map_bytes;
} guarded;

static guarded guard_alloc(size_t bytes, bool at_end)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), inner = (bytes + page - 1) / page * page + page;
    guarded g = {.map_bytes = inner + 2 * page};
    g.map = mmap(NULL, g.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + page, inner, PROT_READ | PROT_WRITE), 0);
    g.data = at_end ? g.map + page + inner - bytes : g.map + page;
    return g;
}

static void guard_free(guarded g)
{
    munmap(g.map, g.map_bytes);
}

static uint64_t random_state = 99;

static int64_t pick(int64_t low, int64_t high)
{
    return low + (int64_t)(next_random(&random_state) * (double)(high - low + 1));
}

/* A view with up to three lies. Which of them is complained about first is not promised. */
typedef struct lies {
    int32_t dtype, ndim, device_type, device_index;
    uint32_t flags;
    int64_t shape[10], stride[10];
    bool strides, no_data, misaligned;
} lies;

__extension__ typedef __int128 wide;

static bool overflows(const lies *t)
{
    wide elements = 1, reach = 0;
    bool empty = false;
    for (int i = 0; i < t->ndim; i++)
        empty |= t->shape[i] == 0;
    for (int i = 0; i < t->ndim && !empty; i++)
        elements = elements > ((wide)1 << 60) ? elements : elements * t->shape[i];
    wide step = 1;
    for (int i = t->ndim - 1; i >= 0 && !empty; i--) {
        wide stride = t->strides ? t->stride[i] : step;
        step = step > ((wide)1 << 60) ? step : step * t->shape[i];
        if (stride == INT64_MIN)
            return true; /* no number of steps has it */
        if (reach > (wide)1 << 60)
            return true;
        reach += (stride < 0 ? -stride : stride) * (t->shape[i] - 1);
    }
    return elements > ((wide)1 << 40) || reach * dd_dtype_size(t->dtype) >= ((wide)1 << 42);
}

static bool expected(const lies *t, dd_status status)
{
    bool negative = false, empty = false, bad_argument;
    for (int i = 0; i < t->ndim && i < 10; i++) {
        negative |= t->shape[i] < 0;
        empty |= t->shape[i] == 0;
    }
    bool bad_ndim = t->ndim < 1 || t->ndim > 8, bad_dtype = t->dtype < 1 || t->dtype > 7;
    bool bad_device = (t->device_type != DD_DEVICE_CPU && t->device_type != DD_DEVICE_CUDA) || t->device_index < 0 ||
                      t->device_index > 63 || (t->device_type == DD_DEVICE_CPU && t->device_index != 0);
    bad_argument = bad_ndim || negative || t->flags > 1 || (t->misaligned && !bad_dtype && dd_dtype_size(t->dtype) > 1) ||
                   (t->no_data && !empty);
    bool limit = !bad_ndim && !bad_dtype && !negative && overflows(t);
    switch (status) {
    case DD_OK:
        return !bad_argument && !bad_dtype && !bad_device && !limit;
    case DD_ERR_ARGUMENT:
        return bad_argument;
    case DD_ERR_DTYPE:
        return bad_dtype;
    case DD_ERR_DEVICE:
        return bad_device;
    case DD_ERR_LIMIT:
        return limit;
    default:
        return false;
    }
}

static lies invent(void)
{
    lies t = {.dtype = DD_F32, .ndim = (int32_t)pick(1, 8), .device_type = DD_DEVICE_CPU, .strides = pick(0, 1)};
    for (int i = 0; i < 10; i++) {
        t.shape[i] = pick(1, 4);
        t.stride[i] = pick(-20, 20);
    }
    for (int64_t lie = pick(0, 3); lie > 0; lie--) {
        int at = (int)pick(0, 7);
        static const int64_t sizes[] = {-1,         INT64_MIN,       0, INT64_MAX, (int64_t)1 << 40, (int64_t)1 << 41,
                                        3037000500, (int64_t)1 << 20};
        switch (pick(0, 9)) {
        case 0:
            t.ndim = (int32_t)(int64_t[]){0, 9, -1, INT32_MAX, INT32_MIN, 8}[pick(0, 5)];
            break;
        case 1:
            t.dtype = (int32_t)(int64_t[]){0, 8, -1, INT32_MAX, DD_F64, DD_U8, DD_BF16}[pick(0, 6)];
            break;
        case 2:
        case 3:
            t.shape[at] = sizes[pick(0, 7)];
            break;
        case 4:
        case 5:
            t.stride[at] = (int64_t[]){INT64_MIN, INT64_MAX, (int64_t)1 << 40, -((int64_t)1 << 39), 0}[pick(0, 4)];
            break;
        case 6:
            t.device_type = (int32_t)(int64_t[]){0, 3, -1, DD_DEVICE_CUDA}[pick(0, 3)];
            t.device_index = (int32_t)(int64_t[]){0, -1, 63, 64, INT32_MAX}[pick(0, 4)];
            break;
        case 7:
            t.flags = (uint32_t)pick(0, 9);
            break;
        case 8:
            t.misaligned = true;
            break;
        default:
            t.no_data = true;
        }
    }
    return t;
}

static void invented_views(void **state)
{
    int64_t seen[32] = {0};
    char *inaccessible = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int k = 0; k < CASES; k++) {
        lies t = invent();
        dd_tensor view, before;
        memset(&view, 0x5A, sizeof view);
        before = view;
        /* nothing is read from `data`: it may not even be readable */
        dd_status status =
            CALL(dd_tensor_init(&view, t.no_data ? NULL : inaccessible + (t.misaligned && !t.no_data), t.dtype, t.ndim, t.shape,
                                t.strides ? t.stride : NULL, t.device_type, t.device_index, t.flags));
        t.misaligned &= !t.no_data;
        if (!expected(&t, status))
            fail_msg("case %d: %s, %s", k, dd_status_name(status), dd_error_message());
        if (status != DD_OK)
            assert_memory_equal(&view, &before, sizeof view);
        seen[-status]++;
    }
    munmap(inaccessible, 4096);
    static const dd_status must[] = {DD_OK, DD_ERR_ARGUMENT, DD_ERR_DTYPE, DD_ERR_DEVICE, DD_ERR_LIMIT};
    for (int i = 0; i < 5; i++)
        assert_true(seen[-must[i]] > 300);
}

/* Fields that were changed behind dd_tensor_init's back. */
static void damaged_views(void **state)
{
    dd_context *context;
    dd_distiller *d;
    dd_dl_managed_versioned *out;
    kd_case *c = case_make(case_small, 1);
    GOOD(dd_context_create(&context, "device=ref"));
    GOOD(dd_distiller_create(&d, context, ""));
    const dd_tensor whole = case_find(c, "student.logits")->view;
    for (int k = 0; k < 12; k++) {
        dd_tensor view = whole;
        dd_status status = DD_ERR_ARGUMENT;
        view.struct_size = k == 0 ? 0 : k == 1 ? 3 : k == 2 ? UINT32_MAX : view.struct_size;
        view.reserved = k == 3;
        view.flags = k == 4 ? 2 : 0;
        view.ndim = k == 5 ? 0 : k == 6 ? 9 : view.ndim;
        view.data = k == 7 ? NULL : k == 8 ? (char *)view.data + 1 : view.data;
        view.shape[1] = k == 9 ? -1 : view.shape[1];
        if (k == 10) {
            view.dtype = 99;
            status = DD_ERR_DTYPE;
        }
        if (k == 11) {
            view.shape[0] = INT64_MAX / 2;
            status = DD_ERR_LIMIT;
        }
        FAILS(status, dd_distiller_bind(d, "student.logits", &view));
        assert_string_equal(dd_error_subject(), "student.logits");
        FAILS(status, dd_tensor_to_dlpack(&view, &out));
    }
    FAILS(DD_ERR_STATE, dd_distiller_step(d, NULL));
    dd_distiller_free(d);
    dd_context_free(context);
    case_free(c);
}

static void views_that_a_distiller_refuses(void **state)
{
    dd_context *context;
    dd_distiller *d;
    kd_case *c = case_make(case_small, 1);
    GOOD(dd_context_create(&context, "device=ref"));
    GOOD(dd_distiller_create(&d, context, ""));
    assert_int_equal(case_bind(c, d, true), DD_OK);
    dd_tensor view = case_find(c, "student.logits.grad")->view;
    view.flags = DD_TENSOR_READONLY;
    FAILS(DD_ERR_ARGUMENT, dd_distiller_bind(d, "student.logits.grad", &view));
    SAYS("read-only");
    view = case_find(c, "student.logits.grad")->view;
    view.stride[1] = 0;
    FAILS(DD_ERR_ARGUMENT, dd_distiller_bind(d, "student.logits.grad", &view));
    SAYS("share memory");
    view = case_find(c, "student.logits.grad")->view;
    view.stride[2] = view.stride[2] - 1;
    FAILS(DD_ERR_ARGUMENT, dd_distiller_bind(d, "student.logits.grad", &view));
    /* a gradient in the memory of an input, of another gradient, and an input in that of a gradient */
    view = case_find(c, "student.logits")->view;
    FAILS(DD_ERR_ARGUMENT, dd_distiller_bind(d, "student.logits.grad", &view));
    SAYS("shares memory");
    view = case_find(c, "prior.boxes.grad")->view;
    FAILS(DD_ERR_ARGUMENT, dd_distiller_bind(d, "student.boxes.grad", &view));
    view = case_find(c, "student.features.0.grad")->view;
    FAILS(DD_ERR_ARGUMENT, dd_distiller_bind(d, "student.features.1", &view));
    /* wrong type and number of dimensions */
    static const struct {
        const char *name;
        int32_t dtype, dims;
        dd_status status;
    } wrong[] = {{"student.logits", DD_I32, 4, DD_ERR_DTYPE},     {"gt.labels", DD_F32, 1, DD_ERR_DTYPE},
                 {"gt.crowd", DD_I32, 1, DD_ERR_DTYPE},           {"gt.offsets", DD_U8, 1, DD_ERR_DTYPE},
                 {"gt.boxes", DD_I64, 2, DD_ERR_DTYPE},           {"student.logits", DD_F32, 3, DD_ERR_SHAPE},
                 {"gt.boxes", DD_F32, 1, DD_ERR_SHAPE},           {"gt.labels", DD_I32, 2, DD_ERR_SHAPE},
                 {"features.padding.0", DD_F32, 3, DD_ERR_DTYPE}, {"image.sizes", DD_U8, 2, DD_ERR_DTYPE},
                 {"student.boxes.grad", DD_I32, 4, DD_ERR_DTYPE}};
    static const int64_t ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    int64_t memory[1] = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        GOOD(dd_tensor_init(&view, memory, wrong[i].dtype, wrong[i].dims, ones, NULL, DD_DEVICE_CPU, 0, 0));
        FAILS(wrong[i].status, dd_distiller_bind(d, wrong[i].name, &view));
        assert_string_equal(dd_error_subject(), wrong[i].name);
    }
    FAILS(DD_ERR_NOT_FOUND, dd_distiller_bind(d, "student.logit", &view));
    SAYS("did you mean 'student.logits'");
    FAILS(DD_ERR_NOT_FOUND, dd_distiller_bind(d, "", &view));
    GOOD(dd_distiller_step(d, NULL)); /* what was bound before is still bound */
    dd_distiller_free(d);
    dd_context_free(context);
    case_free(c);
}

/* A shape that does not fit, for each tensor in turn and each of its dimensions. */
static void shapes_that_do_not_fit(void **state)
{
    case_sizes s = case_small;
    s.parts = CASE_ALL | CASE_CROWD;
    dd_context *context;
    int refused = 0;
    GOOD(dd_context_create(&context, "device=ref"));
    kd_case *c = case_make(s, 1);
    for (int32_t i = 0; i < c->count; i++) {
        for (int32_t dim = 0; dim < c->tensor[i].view.ndim; dim++) {
            dd_distiller *d;
            GOOD(dd_distiller_create(&d, context, "contrastive=1 split=1 denoising-groups=1"));
            assert_int_equal(case_bind(c, d, true), DD_OK);
            dd_tensor view = c->tensor[i].view;
            view.shape[dim] -= 1;
            GOOD(dd_distiller_bind(d, c->tensor[i].name, &view));
            case_mark_gradients(c);
            dd_status status = CALL(dd_distiller_step(d, NULL));
            if (status != DD_ERR_SHAPE && status != DD_ERR_ARGUMENT)
                fail_msg("%s with dimension %d smaller: %s", c->tensor[i].name, dim, dd_status_name(status));
            assert_true(case_gradients_untouched(c));
            refused++;
            dd_distiller_free(d);
        }
    }
    assert_true(refused > 100);
    case_free(c);
    dd_context_free(context);
}

/* Every tensor between guard pages: nothing is read or written outside. */
static void nothing_outside_is_touched(void **state)
{
    static const char *const devices[] = {"device=ref", CPU_DEVICE " threads=1"};
    for (int k = 0; k < 12; k++) {
        case_sizes s = case_small;
        s.parts = CASE_ALL;
        s.student_queries = 5 + k % 5;
        s.teacher_queries = 11 + k % 4;
        s.classes = 3 + k;
        s.width = 3 + k;
        s.student_height = k % 2 ? 7 : 0;
        s.dtype = k % 5 == 4 ? DD_F64 : DD_F32;
        dd_context *context;
        dd_distiller *d;
        guarded memory[CASE_TENSORS];
        kd_case *c = case_make(s, (uint64_t)k);
        if (k % 3 == 2) {
            case_restore(case_find(c, "teacher.logits"), DD_BF16, (int32_t[]){1, 0, 3, 2}, 0);
            case_restore(case_find(c, "student.features.0.grad"), DD_F16, (int32_t[]){0, 2, 3, 1}, 0);
        }
        for (int32_t i = 0; i < c->count; i++) {
            case_tensor *t = &c->tensor[i];
            memory[i] = guard_alloc(t->bytes, k / 2 % 2);
            memcpy(memory[i].data, t->memory, t->bytes);
            t->view.data = memory[i].data;
        }
        GOOD(dd_context_create(&context, devices[k % 2]));
        GOOD(dd_distiller_create(&d, context, k % 4 == 3 ? "profile=paper" : "contrastive=1"));
        assert_int_equal(case_bind(c, d, true), DD_OK);
        GOOD(dd_distiller_step(d, NULL));
        dd_distiller_free(d);
        dd_context_free(context);
        for (int32_t i = 0; i < c->count; i++)
            guard_free(memory[i]);
        case_free(c);
    }
}

static void assignment_between_guard_pages(void **state)
{
    for (int k = 0; k < 2000; k++) {
        int64_t rows = pick(0, 20), cols = pick(0, 20), gap = pick(0, 3),
                bytes = (rows > 0 && cols > 0) ? ((rows - 1) * (cols + gap) + cols) * 4 : 0;
        guarded cost = guard_alloc((size_t)bytes, k % 2), match = guard_alloc((size_t)rows * 4, !(k % 2));
        for (int64_t i = 0; i < bytes / 4; i++)
            ((float *)cost.data)[i] = (float)pick(-9, 9);
        GOOD(dd_assign_f32((float *)cost.data, rows, cols, cols + gap, 1, (int32_t *)match.data, NULL));
        int64_t pairs = 0;
        for (int64_t i = 0; i < rows; i++)
            pairs += ((int32_t *)match.data)[i] >= 0;
        assert_int_equal(pairs, rows < cols ? rows : cols);
        guard_free(cost);
        guard_free(match);
    }
    float one = 1;
    int32_t match[2];
    FAILS(DD_ERR_LIMIT, dd_assign_f32(&one, 2, 1, INT64_MIN, 1, match, NULL));
    FAILS(DD_ERR_LIMIT, dd_assign_f32(&one, 2, 1, INT64_MAX, 1, match, NULL));
    FAILS(DD_ERR_LIMIT, dd_assign_f32(&one, 1, 2, 1, (int64_t)1 << 60, match, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_assign_f32(&one, -1, 1, 1, 1, match, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_assign_f64(NULL, 1, 1, 1, 1, match, NULL));
    FAILS(DD_ERR_ARGUMENT, dd_assign_f32(&one, 1, 1, 1, 1, NULL, NULL));
    GOOD(dd_assign_f32(NULL, 0, 5, 1, 1, NULL, NULL));
    GOOD(dd_assign_f32(&one, 1, 1, INT64_MAX, INT64_MAX, match, NULL)); /* one element: its strides do not matter */
}

static void dlpack_there_and_back(void **state)
{
    static const int32_t types[] = {DD_F32, DD_F64, DD_F16, DD_BF16, DD_I32, DD_I64, DD_U8};
    double memory[24];
    for (int k = 0; k < 14; k++) {
        dd_tensor view, back;
        dd_dl_managed_versioned *out;
        GOOD(dd_tensor_init(&view, memory, types[k % 7], 3, (int64_t[]){2, 3, 4}, (int64_t[]){1, 8, 2}, DD_DEVICE_CPU, 0,
                            k / 7));
        GOOD(dd_tensor_to_dlpack(&view, &out));
        GOOD(dd_tensor_from_dlpack_versioned(&back, out));
        assert_memory_equal(&view, &back, sizeof view);
        out->major = 2;
        FAILS(DD_ERR_ARGUMENT, dd_tensor_from_dlpack_versioned(&back, out));
        out->major = 1;
        out->tensor.type_lanes = 4;
        FAILS(DD_ERR_DTYPE, dd_tensor_from_dlpack(&back, &out->tensor));
        out->tensor.type_lanes = 1;
        out->tensor.type_bits = 128;
        FAILS(DD_ERR_DTYPE, dd_tensor_from_dlpack(&back, &out->tensor));
        out->tensor.type_bits = 8;
        out->tensor.type_code = 6;
        out->tensor.ndim = 9;
        FAILS(DD_ERR_ARGUMENT, dd_tensor_from_dlpack(&back, &out->tensor));
        out->tensor.ndim = -1;
        FAILS(DD_ERR_ARGUMENT, dd_tensor_from_dlpack(&back, &out->tensor));
        out->tensor.ndim = 0;
        GOOD(dd_tensor_from_dlpack(&back, &out->tensor));
        assert_true(back.ndim == 1 && back.shape[0] == 1 && back.dtype == DD_U8);
        out->tensor.ndim = 3;
        out->tensor.shape = NULL;
        FAILS(DD_ERR_ARGUMENT, dd_tensor_from_dlpack(&back, &out->tensor));
        out->deleter(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invented_views),
        cmocka_unit_test(damaged_views),
        cmocka_unit_test(views_that_a_distiller_refuses),
        cmocka_unit_test(shapes_that_do_not_fit),
        cmocka_unit_test(nothing_outside_is_touched),
        cmocka_unit_test(assignment_between_guard_pages),
        cmocka_unit_test(dlpack_there_and_back),
        cmocka_unit_test(every_status_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
