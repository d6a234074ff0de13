/* SPDX-License-Identifier: Apache-2.0
 * Whole models through the public interface: made from options, run, measured, saved and loaded again. */
#include <detrdistill/detrdistill.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define GOOD(call)                                                                                                             \
    do {                                                                                                                       \
        if ((call) != DD_OK) {                                                                                                 \
            fail_msg("%s: %s", #call, dd_error_message());                                                                     \
        }                                                                                                                      \
    } while (0)

#define TINY                                                                                                                   \
    "backbone=resnet-18 stem=8 depths=1,1,1,1 widths=8,8,16,32 width=32 heads=4 points=2 ffn=48 encoder-layers=1 "             \
    "decoder-layers=2 queries=9 classes=5 "
#define ADAMIXER "family=adamixer encoder-layers=0 in-points=3 out-points=5 "

enum { HEIGHT = 48, WIDTH = 64, IMAGES = 2 };

static float pixels[IMAGES * 3 * HEIGHT * WIDTH];

static dd_context *new_context(const char *options)
{
    dd_context *context;
    GOOD(dd_context_create(&context, options));
    return context;
}

static dd_model *new_model(dd_context *context, const char *options)
{
    dd_model *model;
    GOOD(dd_model_create(&model, context, options));
    return model;
}

static void fill_pixels(void)
{
    for (int i = 0; i < IMAGES * 3 * HEIGHT * WIDTH; i++) {
        pixels[i] = (float)((i * 7919) % 2003) / 1000.0f - 1.0f;
    }
}

static dd_tensor images(void)
{
    dd_tensor t;
    const int64_t shape[] = {IMAGES, 3, HEIGHT, WIDTH};
    fill_pixels();
    GOOD(dd_tensor_init(&t, pixels, DD_F32, 4, shape, NULL, DD_DEVICE_CPU, 0, 0));
    return t;
}

static int64_t elements(const dd_tensor *t)
{
    int64_t count = 1;
    for (int i = 0; i < t->ndim; i++) {
        count *= t->shape[i];
    }
    return count;
}

static uint32_t bits_of(dd_model *model, const char *name)
{
    dd_tensor t;
    uint32_t sum = 2166136261u;
    GOOD(dd_model_tensor(model, name, &t));
    const unsigned char *bytes = t.data;
    for (int64_t i = 0; i < elements(&t) * 4; i++) {
        sum = (sum ^ bytes[i]) * 16777619u;
    }
    return sum;
}

/* A new folder below the test's own. */
static void new_folder(char *path, size_t size)
{
    snprintf(path, size, "/tmp/dd-model-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static void remove_folder(const char *path)
{
    char name[512];
    snprintf(name, sizeof name, "%s/config.json", path);
    unlink(name);
    snprintf(name, sizeof name, "%s/model.safetensors", path);
    unlink(name);
    assert_int_equal(rmdir(path), 0);
}

/* ---- Making */

static void same_seed_same_start(void **state)
{
    (void)state;
    const char *const contexts[] = {"device=ref seed=5", "device=ref seed=5 threads=2", "device=ref seed=6"};
    uint32_t bits[3];
    const dd_tensor x = images();
    for (int i = 0; i < 3; i++) {
        dd_context *context = new_context(contexts[i]);
        dd_model *model = new_model(context, TINY);
        GOOD(dd_model_forward(model, &x, NULL));
        bits[i] = bits_of(model, "encoder");
        dd_model_free(model);
        dd_context_free(context);
    }
    assert_int_equal(bits[0], bits[1]);
    assert_int_not_equal(bits[0], bits[2]);
}

static const float *parameter(dd_model *model, const char *wanted, dd_tensor *view)
{
    int32_t count;
    GOOD(dd_model_parameter_count(model, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        GOOD(dd_model_parameter_at(model, i, &name, view, NULL));
        if (strcmp(name, wanted) == 0) {
            return view->data;
        }
    }
    fail_msg("no parameter %s", wanted);
    return NULL;
}

static void start_values(void **state)
{
    (void)state;
    dd_context *context = new_context("device=ref");
    dd_model *model = new_model(context, TINY);
    dd_tensor view;
    const float *bias = parameter(model, "class_embed.0.bias", &view);
    for (int i = 0; i < 5; i++) {
        assert_true(fabs(bias[i] + log(99)) < 1e-6);
    }
    const float *box = parameter(model, "bbox_embed.0.layers.2.bias", &view);
    assert_true(box[0] == 0 && box[1] == 0 && box[2] == -2 && box[3] == -2);
    /* Head 1 of 4 looks down: point 0 one cell, point 1 two. */
    const float *offset = parameter(model, "model.encoder.layers.0.self_attn.sampling_offsets.bias", &view);
    const int at = 1 * 4 * 2 * 2;
    assert_true(fabsf(offset[at]) < 1e-6f && fabsf(offset[at + 1] - 1) < 1e-6f);
    assert_true(fabsf(offset[at + 2]) < 1e-6f && fabsf(offset[at + 3] - 2) < 1e-6f);
    dd_model_free(model);
    dd_context_free(context);
}

static void options_that_are_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *options, *words;
        dd_status status;
    } cases[] = {{"quries=3", "did you mean 'queries'", DD_ERR_OPTION},
                 {"width=48", "multiple of 32", DD_ERR_OPTION},
                 {"heads=7", "multiple of 32", DD_ERR_OPTION},
                 {"two-stage=1", "needs refine=1", DD_ERR_OPTION},
                 {"depths=1,2,3", "four numbers", DD_ERR_OPTION},
                 {"depths=1,2,3,4,5", "four numbers", DD_ERR_OPTION},
                 {"widths=1,2,0,4", "four numbers", DD_ERR_OPTION},
                 {"widths=6,8,8,8", "multiple of 4", DD_ERR_OPTION},
                 {"backbone=vgg", "resnet-18", DD_ERR_OPTION},
                 {"classes=0", "must lie in", DD_ERR_OPTION},
                 {"levels=2", "3 to 8", DD_ERR_OPTION},
                 {"family=conditional-detr levels=4", "one level", DD_ERR_OPTION},
                 {"refine=1 family=conditional-detr", "no refine=1", DD_ERR_OPTION},
                 {"family=conditional-detr neck-bias=0", "has a bias", DD_ERR_OPTION},
                 {"family=conditional-detr heads=7", "numbers of heads", DD_ERR_OPTION},
                 {"family=adamixer groups=7", "numbers of heads and groups", DD_ERR_OPTION},
                 {"family=adamixer width=4096 groups=1", "more than 16777216", DD_ERR_OPTION},
                 {"family=adamixer encoder-layers=1", "no encoder", DD_ERR_OPTION},
                 {"family=adamixer neck-bias=0", "has biases", DD_ERR_OPTION},
                 {"family=adamixer levels=3", "four levels", DD_ERR_OPTION},
                 {"family=dino two-stage=0", "two-stage=1", DD_ERR_OPTION},
                 {"family=dino classes=9 label-rows=8", "label table", DD_ERR_OPTION}};
    dd_context *context = new_context("device=ref");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dd_model *model = NULL;
        assert_int_equal(dd_model_create(&model, context, cases[i].options), cases[i].status);
        assert_null(model);
        if (!strstr(dd_error_message(), cases[i].words)) {
            fail_msg("%s: %s", cases[i].options, dd_error_message());
        }
    }
    const char *help;
    GOOD(dd_options_help("architecture", &help));
    assert_non_null(strstr(help, "encoder-layers=0..32"));
    dd_context_free(context);
}

/* ---- Detections */

static void channels_last_is_the_same(void **state)
{
    (void)state;
    static float last[IMAGES * 3 * HEIGHT * WIDTH];
    dd_context *context = new_context("device=ref");
    dd_model *model = new_model(context, TINY);
    const dd_tensor x = images();
    GOOD(dd_model_forward(model, &x, NULL));
    const uint32_t bits = bits_of(model, "logits");
    for (int i = 0; i < IMAGES * 3 * HEIGHT * WIDTH; i++) {
        const int image = i / (3 * HEIGHT * WIDTH), c = i / (HEIGHT * WIDTH) % 3, place = i % (HEIGHT * WIDTH);
        last[(image * HEIGHT * WIDTH + place) * 3 + c] = pixels[i];
    }
    dd_tensor y;
    const int64_t shape[] = {IMAGES, HEIGHT, WIDTH, 3};
    GOOD(dd_tensor_init(&y, last, DD_F32, 4, shape, NULL, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_model_forward(model, &y, NULL));
    assert_int_equal(bits_of(model, "logits"), bits);
    dd_model_free(model);
    dd_context_free(context);
}

typedef struct scored {
    double score;
    int64_t place;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : (x->place > y->place) - (x->place < y->place);
}

/* Against sorting all pairs. */
static void check_detections(dd_model *model, int32_t image, int32_t most, double least)
{
    dd_tensor logits, boxes;
    scored all[9 * 5];
    int32_t count, want = 0;
    const double *box, *score;
    const int64_t *label;
    const int32_t *query;
    GOOD(dd_model_tensor(model, "logits", &logits));
    GOOD(dd_model_tensor(model, "boxes", &boxes));
    const float *x = (const float *)logits.data + (IMAGES + image) * 45, *b = (const float *)boxes.data + (IMAGES + image) * 36;
    for (int i = 0; i < 45; i++) {
        all[i] = (scored){1 / (1 + exp(-(double)x[i])), i};
    }
    qsort(all, 45, sizeof *all, by_score);
    while (want < most && want < 45 && all[want].score > least) {
        want++;
    }
    GOOD(dd_model_detections(model, image, 200, 100, most, least, &count, &box, &label, &score, &query));
    assert_int_equal(count, want);
    for (int i = 0; i < count; i++) {
        const float *at = b + all[i].place / 5 * 4;
        assert_true(score[i] == all[i].score);
        assert_int_equal(label[i], all[i].place % 5);
        assert_int_equal(query[i], all[i].place / 5);
        assert_true(fabs(box[4 * i] - ((double)at[0] - at[2] / 2) * 200) < 1e-4);
        assert_true(fabs(box[4 * i + 1] - ((double)at[1] - at[3] / 2) * 100) < 1e-4);
        assert_true(fabs(box[4 * i + 2] - (double)at[2] * 200) < 1e-4);
        assert_true(fabs(box[4 * i + 3] - (double)at[3] * 100) < 1e-4);
    }
}

static void best_pairs(void **state)
{
    (void)state;
    dd_context *context = new_context("device=ref");
    dd_model *model = new_model(context, TINY);
    int32_t count;
    const dd_tensor x = images();
    assert_int_equal(dd_model_detections(model, 0, 8, 8, 5, 0, &count, NULL, NULL, NULL, NULL), DD_ERR_STATE);
    GOOD(dd_model_forward(model, &x, NULL));
    for (int32_t image = 0; image < IMAGES; image++) {
        for (int32_t most = 1; most <= 50; most += 7) {
            check_detections(model, image, most, 0);
        }
        check_detections(model, image, 100, 0.0102);
        check_detections(model, image, 45, 1);
    }
    assert_int_equal(dd_model_detections(model, 2, 8, 8, 5, 0, &count, NULL, NULL, NULL, NULL), DD_ERR_NOT_FOUND);
    assert_int_equal(dd_model_detections(model, 0, 0, 8, 5, 0, &count, NULL, NULL, NULL, NULL), DD_ERR_ARGUMENT);
    assert_int_equal(dd_model_detections(model, 0, 8, 8, 5, NAN, &count, NULL, NULL, NULL, NULL), DD_ERR_ARGUMENT);
    dd_tensor logits;
    GOOD(dd_model_tensor(model, "logits", &logits));
    ((float *)logits.data)[(IMAGES + 1) * 45 + 3] = NAN;
    assert_int_equal(dd_model_detections(model, 1, 8, 8, 5, 0, &count, NULL, NULL, NULL, NULL), DD_ERR_NONFINITE);
    assert_int_equal(dd_error_place(DD_PLACE_IMAGE), 1);
    dd_model_free(model);
    dd_context_free(context);
}

/* A picture smaller than the model's queries, and others that are as small as can be. */
static void small_pictures(void **state)
{
    (void)state;
    dd_context *context = new_context("device=ref");
    dd_model *model = new_model(context, TINY "refine=1 two-stage=1 queries=23"), *plain = new_model(context, TINY);
    dd_tensor x;
    fill_pixels();
    GOOD(dd_tensor_init(&x, pixels, DD_F32, 4, (const int64_t[]){1, 3, 32, 32}, NULL, DD_DEVICE_CPU, 0, 0));
    assert_int_equal(dd_model_forward(model, &x, NULL), DD_ERR_SHAPE);
    assert_non_null(strstr(dd_error_message(), "22 tokens"));
    GOOD(dd_tensor_init(&x, pixels, DD_F32, 4, (const int64_t[]){1, 3, 48, 32}, NULL, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_model_forward(model, &x, NULL));
    GOOD(dd_tensor_init(&x, pixels, DD_F32, 4, (const int64_t[]){2, 3, 1, 1}, NULL, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_model_forward(plain, &x, NULL));
    GOOD(dd_tensor_init(&x, pixels, DD_F32, 4, (const int64_t[]){1, 3, 1, 700}, NULL, DD_DEVICE_CPU, 0, 0));
    GOOD(dd_model_forward(plain, &x, NULL));
    dd_model_free(plain);
    dd_model_free(model);
    dd_context_free(context);
}

/* ---- Saving */

static void saved_and_loaded(void **state)
{
    (void)state;
    static const char *const variants[] = {TINY,
                                           TINY "refine=1",
                                           TINY "refine=1 shared-class-head=1",
                                           TINY "refine=1 two-stage=1",
                                           TINY "neck-bias=0",
                                           TINY "block=bottleneck levels=5",
                                           TINY "family=dino",
                                           TINY "family=dino shared-class-head=1 shared-box-head=1 neck-bias=1 label-rows=6 "
                                                "position-temperature=50 position-offset=-0.5 box-eps=0.001",
                                           TINY ADAMIXER,
                                           TINY ADAMIXER "block=bottleneck groups=8 out-points=7"};
    const dd_tensor x = images();
    dd_context *context = new_context("device=ref");
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        char folder[64];
        const char *name;
        int64_t trained[2], all[2];
        dd_model *model = new_model(context, variants[i]), *again;
        new_folder(folder, sizeof folder);
        GOOD(dd_model_set_class(model, 2, "traffic \"light\" \xc3\xa9"));
        GOOD(dd_model_save(model, folder));
        GOOD(dd_model_load(&again, context, folder, NULL));
        GOOD(dd_model_class_at(again, 2, &name));
        assert_string_equal(name, "traffic \"light\" \xc3\xa9");
        GOOD(dd_model_class_at(again, 4, &name));
        assert_string_equal(name, "LABEL_4");
        GOOD(dd_model_size(model, &trained[0], &all[0]));
        GOOD(dd_model_size(again, &trained[1], &all[1]));
        assert_true(trained[0] == trained[1] && all[0] == all[1]);
        GOOD(dd_model_forward(model, &x, NULL));
        GOOD(dd_model_forward(again, &x, NULL));
        assert_int_equal(bits_of(model, "logits"), bits_of(again, "logits"));
        assert_int_equal(bits_of(model, "boxes"), bits_of(again, "boxes"));
        /* Other names in a loaded configuration; the rest of it stays. */
        GOOD(dd_model_set_class(again, 0, "cat"));
        GOOD(dd_model_save(again, folder));
        dd_model_free(model);
        GOOD(dd_model_load(&model, context, folder, NULL));
        GOOD(dd_model_class_at(model, 0, &name));
        assert_string_equal(name, "cat");
        GOOD(dd_model_class_at(model, 2, &name));
        assert_string_equal(name, "traffic \"light\" \xc3\xa9");
        dd_model_free(model);
        dd_model_free(again);
        remove_folder(folder);
    }
    dd_context_free(context);
}

static void modes(void **state)
{
    (void)state;
    dd_context *context = new_context("device=ref");
    dd_model *model = new_model(context, TINY "gradients=0");
    const dd_tensor x = images();
    dd_tensor seed;
    GOOD(dd_model_forward(model, &x, NULL));
    const uint32_t bits = bits_of(model, "logits");
    assert_int_equal(dd_model_seed(model, "logits", &seed), DD_ERR_STATE);
    GOOD(dd_model_set_mode(model, 0, 1));
    GOOD(dd_model_forward(model, &x, NULL));
    assert_int_equal(bits_of(model, "logits"), bits);
    GOOD(dd_model_seed(model, "logits", &seed));
    ((float *)seed.data)[0] = 1;
    GOOD(dd_model_backward(model));
    GOOD(dd_model_set_mode(model, 1, 1));
    GOOD(dd_model_forward(model, &x, NULL));
    assert_int_not_equal(bits_of(model, "logits"), bits);
    assert_int_equal(dd_model_set_mode(model, 2, 0), DD_ERR_ARGUMENT);
    dd_model_free(model);
    dd_context_free(context);
}

/* ---- What it is made of, and what it takes */

/* detectors.md sections 11 and 12: 300 queries, 80 classes, mmdetection's neck. */
/* Elements of all parameters, without the norms' running means and variances. */
static int64_t without_statistics(dd_model *model)
{
    int32_t count;
    int64_t sum = 0;
    GOOD(dd_model_parameter_count(model, &count));
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view;
        GOOD(dd_model_parameter_at(model, i, &name, &view, NULL));
        int64_t elements = 1;
        for (int32_t k = 0; k < view.ndim; k++) {
            elements *= view.shape[k];
        }
        sum += strstr(name, ".running_") ? 0 : elements;
    }
    return sum;
}

/* Stem and first stage of bottlenecks, with their norms. */
enum { FROZEN_BY_ADAMIXER = 225344 };

static void published_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *options;
        int64_t trained, part[6];
        double operations;
    } models[] = {
        {"backbone=resnet-50 neck-bias=0 gradients=0",
         39843414,
         {23232512, 5638144, 4541184, 6123264, 153172, 155138},
         195.262e9},
        {"backbone=resnet-101 neck-bias=0 gradients=0",
         58783318,
         {42172416, 5638144, 4541184, 6123264, 153172, 155138},
         271.335e9},
        {"family=conditional-detr backbone=resnet-50 gradients=0",
         43193174,
         {23232512, 524544, 7890432, 11315714, 153172, 76800},
         95.322e9},
        {"family=conditional-detr backbone=resnet-101 gradients=0",
         62133078,
         {42172416, 524544, 7890432, 11315714, 153172, 76800},
         171.395e9},
        {"family=adamixer backbone=resnet-50 gradients=0", 134565560, {23282688, 984576, 0, 110272296, 0, 26000}, 102.880e9},
        {"family=adamixer backbone=resnet-101 gradients=0", 153557688, {42274816, 984576, 0, 110272296, 0, 26000}, 178.953e9}};
    static const char *const names[] = {"backbone", "neck", "encoder", "decoder", "heads", "queries"};
    dd_context *context = new_context("device=ref threads=2");
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        dd_model *model = new_model(context, models[i].options);
        int64_t trained, all, sum = 0;
        double operations, part, parts = 0;
        GOOD(dd_model_size(model, &trained, &all));
        assert_int_equal(trained, models[i].trained);
        assert_true(!strstr(models[i].options, "adamixer") || without_statistics(model) == trained + FROZEN_BY_ADAMIXER);
        for (int k = 0; k < 6; k++) {
            int64_t of_part;
            GOOD(dd_model_part_size(model, names[k], &trained, &of_part));
            assert_int_equal(trained, models[i].part[k]);
            sum += of_part;
            if (k < 5) {
                GOOD(dd_model_operations(model, 800, 1280, names[k], &part));
                parts += part;
            }
        }
        assert_int_equal(sum, all);
        GOOD(dd_model_operations(model, 800, 1280, NULL, &operations));
        assert_true(fabs(operations - models[i].operations) < 0.0005e9);
        assert_true(fabs(operations - parts) < 1);
        assert_int_equal(dd_model_part_size(model, "tail", &trained, &all), DD_ERR_NOT_FOUND);
        dd_model_free(model);
    }
    dd_context_free(context);
}

/* detectors.md 11 and 15: DINO, as mmdetection 3 has it, and as the official program does. */
static void published_sizes_of_dino(void **state)
{
    (void)state;
    static const struct {
        const char *options;
        int64_t trained, part[6]; /* part[0] = 0: not told */
    } models[] = {{"backbone=resnet-18", 30977356, {0}},
                  {"backbone=resnet-18 queries=300", 30823756, {0}},
                  {"backbone=resnet-50", 47426892, {23232512, 5638144, 7693056, 9472768, 1072204, 318208}},
                  {"backbone=resnet-50 queries=300", 47273292, {0}},
                  {"backbone=resnet-101", 66366796, {0}},
                  {"backbone=resnet-101 queries=300", 66213196, {0}},
                  {"classes=91 label-rows=92 shared-class-head=1 shared-box-head=1 neck-bias=1",
                   46670782,
                   {23232512, 5639168, 7693056, 9472768, 311998, 321280}},
                  {"classes=4 label-rows=6 shared-class-head=1 shared-box-head=1 neck-bias=1", 46604048, {0}}};
    static const char *const names[] = {"backbone", "neck", "encoder", "decoder", "heads", "queries"};
    dd_context *context = new_context("device=ref threads=2");
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        char options[160];
        int64_t trained, all, part;
        snprintf(options, sizeof options, "family=dino gradients=0 %s", models[i].options);
        dd_model *model = new_model(context, options);
        GOOD(dd_model_size(model, &trained, &all));
        assert_int_equal(trained, models[i].trained);
        for (int k = 0; k < 6 && models[i].part[0]; k++) {
            GOOD(dd_model_part_size(model, names[k], &part, &all));
            assert_int_equal(part, models[i].part[k]);
        }
        dd_model_free(model);
    }
    dd_context_free(context);
}

/* The plan's activations against what passes really took. */
static void plan_tells_the_truth(void **state)
{
    (void)state;
    static const char *const variants[] = {TINY,
                                           TINY "refine=1",
                                           TINY "refine=1 two-stage=1",
                                           TINY "block=bottleneck encoder-layers=3 training=1",
                                           TINY "family=dino",
                                           TINY ADAMIXER};
    const dd_tensor x = images();
    const int32_t sizes[] = {WIDTH, HEIGHT, WIDTH / 2, HEIGHT / 3};
    dd_tensor s;
    GOOD(dd_tensor_init(&s, (void *)(uintptr_t)sizes, DD_I32, 2, (const int64_t[]){IMAGES, 2}, NULL, DD_DEVICE_CPU, 0, 0));
    dd_context *context = new_context("device=ref");
    for (size_t i = 0; i < 4 * sizeof variants / sizeof variants[0]; i++) {
        const int32_t gradients = i / 2 % 2, padded = i % 2;
        dd_model *model = new_model(context, variants[i / 4]);
        double planned, other;
        int64_t peak, held;
        GOOD(dd_model_set_mode(model, i / 4 == 3, gradients));
        GOOD(dd_model_plan(model, IMAGES, HEIGHT, WIDTH, padded, gradients, "activations", &planned));
        GOOD(dd_model_memory(model, &peak, &held));
        assert_true(peak == 0 && held == 0);
        for (int pass = 0; pass < 2; pass++) {
            static const char *const seeds[] = {"logits", "boxes", "features.0", "proposal.logits", "proposal.sigmoid"};
            GOOD(dd_model_forward(model, &x, padded ? &s : NULL));
            for (int k = 0; gradients && k < 5; k++) {
                dd_tensor seed;
                if (k >= 3 && dd_model_tensor(model, seeds[k], &seed) != DD_OK) {
                    continue; /* no proposals */
                }
                GOOD(dd_model_seed(model, seeds[k], &seed));
                ((float *)seed.data)[0] = 1;
            }
            if (gradients) {
                GOOD(dd_model_backward(model));
            }
        }
        GOOD(dd_model_memory(model, &peak, &held));
        if (fabs((double)peak - planned) > 0.01 * planned || (double)peak > planned) {
            fail_msg("%s, gradients %d, padded %d: planned %.0f, taken %lld", variants[i / 4], gradients, padded, planned,
                     (long long)peak);
        }
        assert_true(held >= peak);
        GOOD(dd_model_plan(model, IMAGES, HEIGHT, WIDTH, padded, gradients, "total", &other));
        assert_true(other > planned);
        assert_int_equal(dd_model_plan(model, IMAGES, HEIGHT, WIDTH, 0, 0, "time", &other), DD_ERR_NOT_FOUND);
        assert_int_equal(dd_model_plan(model, 0, HEIGHT, WIDTH, 0, 0, "total", &other), DD_ERR_LIMIT);
        dd_model_free(model);
    }
    dd_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_seed_same_start),
                                       cmocka_unit_test(start_values),
                                       cmocka_unit_test(options_that_are_wrong),
                                       cmocka_unit_test(channels_last_is_the_same),
                                       cmocka_unit_test(best_pairs),
                                       cmocka_unit_test(small_pictures),
                                       cmocka_unit_test(saved_and_loaded),
                                       cmocka_unit_test(modes),
                                       cmocka_unit_test(published_sizes),
                                       cmocka_unit_test(published_sizes_of_dino),
                                       cmocka_unit_test(plan_tells_the_truth)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
