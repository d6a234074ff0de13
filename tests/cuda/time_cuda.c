/* SPDX-License-Identifier: Apache-2.0
 * Times of the CUDA module's operators at the shapes of a real step (Deformable DETR on COCO, 2 images, 6 stages), and of the
 * assignment against copying its costs to the host. time_cuda libdetrdistill-cuda.so */
#include "on_device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { L = 6, B = 2, C = 80, D = 256, G = 14, K = 100, PAIRS = 6, ROUNDS = 21 };

static const dd_backend *backend;
static void *device;

static void *must(void *memory, const char *what)
{
    if (!memory) {
        fprintf(stderr, "time_cuda: no %s\n", what);
        exit(1);
    }
    return memory;
}

static void *device_memory(const void *values, size_t bytes)
{
    void *memory = must(backend->mem_alloc(device, bytes), "device memory");
    const dd_status status = values ? backend->copy(device, NULL, memory, values, bytes, DD_COPY_TO_DEVICE)
                                    : backend->zero(device, NULL, memory, bytes);
    must(status == DD_OK && backend->sync(device, NULL) == DD_OK ? memory : NULL, "copy");
    return memory;
}

static float *random_reals(int64_t count, double low, double high, uint64_t seed)
{
    random_state r = {seed};
    float *values = must(malloc((size_t)count * sizeof *values), "memory");
    for (int64_t i = 0; i < count; i++) {
        values[i] = (float)(low + (high - low) * random_unit(&r));
    }
    float *on_device = device_memory(values, (size_t)count * sizeof *values);
    free(values);
    return on_device;
}

/* Scratch that is kept between runs, as the core keeps it. */
static struct {
    void *memory[DEVICE_SCRATCHES];
    size_t bytes[DEVICE_SCRATCHES];
    int used;
} kept;

static void *kept_scratch(dd_exec *exec, size_t bytes)
{
    const int i = kept.used++;
    if (i < DEVICE_SCRATCHES && kept.bytes[i] < bytes) {
        backend->mem_free(device, kept.memory[i]);
        kept.memory[i] = backend->mem_alloc(device, bytes);
        kept.bytes[i] = bytes;
    }
    return i < DEVICE_SCRATCHES ? kept.memory[i] : NULL;
}

static dd_status tell(dd_exec *exec, dd_status status, const char *sentence)
{
    printf("failed: %s\n", sentence);
    return status;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void run(int32_t op, int32_t row, const void *args)
{
    static dd_exec exec;
    exec = (dd_exec){sizeof(dd_exec), 1, device, NULL, kept_scratch, tell, NULL};
    kept.used = 0;
    for (int32_t k = 0; k < backend->kernel_count; k++) {
        const dd_kernel *kernel = &backend->kernels[k];
        if (kernel->op == op && kernel->dtype == DD_F32 && row-- == 0) {
            kernel->run(&exec, args);
            return;
        }
    }
}

/* Median of ROUNDS runs, from before the first launch to the device's end, in microseconds. */
static double time_of(const char *what, int32_t op, int32_t row, const void *args)
{
    double times[ROUNDS];
    run(op, row, args);
    backend->sync(device, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        const double start = now();
        run(op, row, args);
        backend->sync(device, NULL);
        times[i] = (now() - start) * 1e6;
    }
    qsort(times, ROUNDS, sizeof *times, by_value);
    printf("%-44s %10.1f us   (%.1f .. %.1f)\n", what, times[ROUNDS / 2], times[0], times[ROUNDS - 1]);
    return times[ROUNDS / 2];
}

static void time_copy(const char *what, const void *src, size_t bytes)
{
    double times[ROUNDS];
    void *host = must(malloc(bytes), "memory");
    for (int i = 0; i < ROUNDS; i++) {
        const double start = now();
        backend->copy(device, NULL, host, src, bytes, DD_COPY_TO_HOST);
        backend->sync(device, NULL);
        times[i] = (now() - start) * 1e6;
    }
    qsort(times, ROUNDS, sizeof *times, by_value);
    printf("%-44s %10.1f us   %.2f MB\n", what, times[ROUNDS / 2], (double)bytes / 1e6);
    free(host);
}

/* One step's inputs: student and teacher predictions of `n` and `m` queries, objects, matchings. */
typedef struct step {
    int32_t n, m;
    float *s_logits, *s_boxes, *t_logits, *t_boxes, *prob, *xyxy, *cxcywh, *sizes, *gt_boxes, *cost, *gt_cost, *g_logits,
        *g_boxes;
    int32_t *labels, *offsets, *pairs, *match, *gt_match;
    double *terms, *total;
    int64_t *bad;
} step;

static const int32_t pairs[2 * PAIRS] = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5};

static step make_step(int32_t n, int32_t m)
{
    int32_t labels[G * B], offsets[B + 1] = {0, G, 2 * G};
    random_state r = {9};
    for (int i = 0; i < G * B; i++) {
        labels[i] = (int32_t)random_below(&r, C);
    }
    const float sizes[2 * B] = {1333, 800, 800, 1066};
    const int64_t students = (int64_t)L * B * n, teachers = (int64_t)L * B * m, costs = (int64_t)PAIRS * B * n * m;
    step s = {.n = n, .m = m};
    s.s_logits = random_reals(students * C, -8, 2, 1);
    s.s_boxes = random_reals(students * 4, 0.05, 0.6, 2);
    s.t_logits = random_reals(teachers * C, -8, 2, 3);
    s.t_boxes = random_reals(teachers * 4, 0.05, 0.6, 4);
    s.gt_boxes = random_reals(G * B * 4, 0.05, 0.6, 5);
    s.prob = device_memory(NULL, (size_t)teachers * C * 4);
    s.xyxy = device_memory(NULL, (size_t)teachers * 16);
    s.cxcywh = device_memory(NULL, (size_t)teachers * 16);
    s.sizes = device_memory(sizes, sizeof sizes);
    s.cost = device_memory(NULL, (size_t)costs * 4);
    s.gt_cost = device_memory(NULL, (size_t)L * G * B * (size_t)m * 4);
    s.g_logits = device_memory(NULL, (size_t)students * C * 4);
    s.g_boxes = device_memory(NULL, (size_t)students * 16);
    s.labels = device_memory(labels, sizeof labels);
    s.offsets = device_memory(offsets, sizeof offsets);
    s.pairs = device_memory(pairs, sizeof pairs);
    s.match = device_memory(NULL, (size_t)students * 4);
    s.gt_match = device_memory(NULL, (size_t)teachers * 4);
    s.terms = device_memory(NULL, 8 * 5 * L * B);
    s.total = device_memory(NULL, 8 * L * B);
    s.bad = device_memory(NULL, 8);
    return s;
}

static void time_assign(const char *what, const void *cost, int32_t blocks, int32_t rows, int32_t cols, int32_t by_columns,
                        int32_t *match, double *total)
{
    dd_assign_block *block = must(calloc((size_t)blocks, sizeof *block), "memory");
    for (int32_t k = 0; k < blocks; k++) {
        block[k] = (dd_assign_block){(int64_t)k * rows * cols, (int64_t)k * rows, (int64_t)k * cols, rows, cols};
    }
    const dd_op_assign op = {.cost = cost,
                             .block = device_memory(block, (size_t)blocks * sizeof *block),
                             .host_block = block,
                             .match = match,
                             .total = total,
                             .blocks = blocks,
                             .by_columns = by_columns,
                             .max_rows = rows,
                             .max_cols = cols};
    time_of(what, DD_OPERATOR_assign, 0, &op);
    free(block);
}

static void time_matching(int32_t n, int32_t m)
{
    char what[80];
    step s = make_step(n, m);
    printf("-- students %d, teachers %d\n", n, m);
    const dd_op_kd_targets targets = {s.t_logits, s.t_boxes, s.sizes, s.prob, s.xyxy, s.cxcywh, L, B, m, C};
    time_of("kd_targets", DD_OPERATOR_kd_targets, 0, &targets);
    const dd_op_kd_cost cost = {s.s_logits, s.s_boxes, s.prob, s.xyxy, s.cxcywh, s.sizes, s.pairs, s.cost, s.bad, PAIRS,
                                B,          n,         m,      C,      0,        pairs,   1,       5,      2};
    time_of("kd_cost", DD_OPERATOR_kd_cost, 0, &cost);
    snprintf(what, sizeof what, "assign 12 blocks %d x %d, kd costs", n, m);
    time_assign(what, s.cost, PAIRS * B, n, m, 0, s.match, s.total);
    time_copy("  copy of those costs to the host", s.cost, (size_t)PAIRS * B * (size_t)n * (size_t)m * 4);
    snprintf(what, sizeof what, "assign 12 blocks %d x %d, random costs", n, m);
    void *uniform = random_reals((int64_t)PAIRS * B * n * m, 0, 1, 77);
    time_assign(what, uniform, PAIRS * B, n, m, 0, s.match, s.total);
    const dd_op_gt_cost gt_cost = {s.t_logits, s.t_boxes, s.gt_boxes, s.labels, s.offsets, s.sizes, s.gt_cost, s.bad, L,   B, m,
                                   C,          G * B,     0,          1,        2,         5,       2,         1e-12, 1e-6};
    time_of("gt_cost", DD_OPERATOR_gt_cost, 0, &gt_cost);
    snprintf(what, sizeof what, "assign 12 blocks %d x %d, object costs", G, m);
    time_assign(what, s.gt_cost, L * B, G, m, 1, s.gt_match, s.total);
    time_copy("  copy of those costs to the host", s.gt_cost, (size_t)L * G * B * (size_t)m * 4);
    const dd_op_kd_loss kd_loss = {.s_logits = s.s_logits,
                                   .s_boxes = s.s_boxes,
                                   .t_prob = s.prob,
                                   .t_xyxy = s.xyxy,
                                   .t_cxcywh = s.cxcywh,
                                   .sizes = s.sizes,
                                   .pairs = s.pairs,
                                   .host_pairs = pairs,
                                   .match = s.match,
                                   .terms = s.terms,
                                   .g_logits = s.g_logits,
                                   .g_boxes = s.g_boxes,
                                   .n_pairs = PAIRS,
                                   .L_S = L,
                                   .B = B,
                                   .NS = n,
                                   .NT = m,
                                   .C = C,
                                   .scale_class = {0, 1, 0},
                                   .scale_l1 = {0, 1, 1},
                                   .scale_giou = {0, 1, 1},
                                   .grad_scale = 1};
    time_of("kd_loss with gradients", DD_OPERATOR_kd_loss, 0, &kd_loss);
    const dd_op_det_loss det_loss = {.logits = s.s_logits,
                                     .boxes = s.s_boxes,
                                     .match = device_memory(NULL, (size_t)L * B * (size_t)n * 4),
                                     .gt_boxes = s.gt_boxes,
                                     .gt_labels = s.labels,
                                     .gt_offsets = s.offsets,
                                     .sizes = s.sizes,
                                     .terms = s.terms,
                                     .g_logits = s.g_logits,
                                     .g_boxes = s.g_boxes,
                                     .S = L,
                                     .B = B,
                                     .N = n,
                                     .C = C,
                                     .G = G * B,
                                     .giou_pixels = 1,
                                     .giou_eps = 1e-6,
                                     .scale_class = 2,
                                     .scale_l1 = 5,
                                     .scale_giou = 2,
                                     .grad_scale = 1};
    time_of("det_loss with gradients", DD_OPERATOR_det_loss, 0, &det_loss);
}

static void time_level(int32_t height, int32_t width, int32_t *index, float *quality, const float *queries)
{
    const int64_t positions = (int64_t)height * width, count = B * D * positions;
    float *teacher = random_reals(count, -1, 1, 6), *student = random_reals(count, -1, 1, 7);
    float *weight = device_memory(NULL, (size_t)(L * B * positions * 4)),
          *sum = device_memory(NULL, (size_t)(B * positions * 4));
    float *gradient = device_memory(NULL, (size_t)count * 4);
    double *terms = device_memory(NULL, 8 * L * B);
    printf("-- level %d x %d\n", height, width);
    dd_op_feature_weights weights = {.queries = queries,
                                     .index = index,
                                     .quality = quality,
                                     .features = teacher,
                                     .weight = weight,
                                     .sum = sum,
                                     .L = L,
                                     .B = B,
                                     .N = 300,
                                     .K = K,
                                     .d = D,
                                     .index_divisor = C,
                                     .P = positions};
    time_of("feature_weights, sum-max", DD_OPERATOR_feature_weights, 0, &weights);
    weights.per_query = 1;
    time_of("feature_weights, per-query", DD_OPERATOR_feature_weights, 0, &weights);
    const dd_op_feature_loss loss = {teacher, student, weight, sum, terms, gradient, L, B, D, positions, 1};
    const double us = time_of("feature_loss with gradient", DD_OPERATOR_feature_loss, 0, &loss);
    printf("   moves %.1f MB: %.2f TB/s\n", (double)count * 12e-6, (double)count * 12e-6 / us);
    const dd_op_matmul adaptor = {.a = queries,
                                  .b = student,
                                  .c = gradient,
                                  .batch = B,
                                  .M = D,
                                  .N = (int32_t)positions,
                                  .K = D,
                                  .lda = D,
                                  .ldb = (int32_t)positions,
                                  .ldc = (int32_t)positions,
                                  .stride_b = D * positions,
                                  .stride_c = D * positions,
                                  .alpha = 1};
    const double flops = 2.0 * B * D * D * (double)positions;
    for (int32_t row = 0; row < 2; row++) {
        const double took =
            time_of(row ? "matmul 256 x P x 256, own" : "matmul 256 x P x 256, cublaslt", DD_OPERATOR_matmul, row, &adaptor);
        printf("   %.2f TFLOP/s\n", flops * 1e-6 / took);
    }
    const dd_op_check_finite finite = {student, 1, B, D * positions, device_memory(NULL, 8), NULL};
    time_of("check_finite", DD_OPERATOR_check_finite, 0, &finite);
}

static void time_features(void)
{
    const int64_t teachers = (int64_t)L * B * 300;
    float *logits = random_reals(teachers * C, -8, 2, 3), *boxes = random_reals(teachers * 4, 0.05, 0.6, 4);
    step s = make_step(1, 1);
    dd_op_quality quality = {.logits = logits,
                             .boxes = boxes,
                             .gt_boxes = s.gt_boxes,
                             .gt_offsets = s.offsets,
                             .sizes = s.sizes,
                             .index = device_memory(NULL, 4 * L * B * K),
                             .quality = device_memory(NULL, 4 * L * B * K),
                             .L = L,
                             .B = B,
                             .N = 300,
                             .C = C,
                             .G = G * B,
                             .K = K,
                             .gamma_class = 1,
                             .gamma_iou = 1};
    time_of("quality, top 100 of 24000", DD_OPERATOR_quality, 0, &quality);
    const float *queries = random_reals(teachers * D, -1, 1, 8);
    time_level(100, 160, quality.index, quality.quality, queries);
    time_level(50, 80, quality.index, quality.quality, queries);
    time_level(25, 40, quality.index, quality.quality, queries);
    time_level(13, 20, quality.index, quality.quality, queries);
}

int main(int argc, char **argv)
{
    char text[256] = "";
    dd_backend_entry_fn entry = NULL;
    void *module = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (module) {
        *(void **)&entry = dlsym(module, DD_BACKEND_ENTRY);
    }
    backend = entry ? entry(DD_BACKEND_INTERFACE) : NULL;
    if (!backend || backend->score(text, sizeof text) == 0 || backend->device_open(0, &device, text, sizeof text) != DD_OK) {
        fprintf(stderr, "time_cuda: no device: %s\n", text);
        return 1;
    }
    printf("%s; medians of %d, launch to end\n", text, ROUNDS);
    time_matching(300, 300);
    time_matching(900, 900);
    time_matching(300, 900);
    time_matching(900, 300);
    time_features();
    return 0;
}
