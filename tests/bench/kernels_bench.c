/* SPDX-License-Identifier: Apache-2.0
 * Times every kernel of the CPU module at the shapes of Deformable DETR (6 stages, 2 images, 300 queries, 80 classes; features
 * of 256 channels), against this machine's limits, measured in the same run. Usage: kernels_bench [threads [part of a name]] */
#include <detrdistill/sys/backend.h>
#include <dlfcn.h>
#include <emmintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    STAGES = 6,
    IMAGES = 2,
    QUERIES = 300,
    CLASSES = 80,
    OBJECTS = 14,
    ENTRIES = 100,
    CHANNELS = 256,
    LEVELS = 4,
    SCRATCHES = 16
};

static const int64_t level_size[LEVELS][2] = {{100, 167}, {50, 84}, {25, 42}, {13, 21}};
static const dd_backend *module;
static void *device;
static int32_t threads = 2;
static double copy_limit, product_limit; /* GB/s, GFLOP/s */

typedef struct bench_exec {
    dd_exec base;
    void *memory[SCRATCHES];
    size_t bytes[SCRATCHES];
    int used;
} bench_exec;

static void *must(void *memory)
{
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

static void *room(size_t bytes)
{
    void *memory = must(aligned_alloc(64, (bytes + 127) / 64 * 64));
    memset(memory, 0, bytes);
    return memory;
}

/* Keeps its pieces from call to call, as the core does. */
static void *bench_scratch(dd_exec *exec, size_t bytes)
{
    bench_exec *e = (bench_exec *)exec;
    if (e->used == SCRATCHES) {
        return NULL;
    }
    if (e->bytes[e->used] < bytes) {
        free(e->memory[e->used]);
        e->memory[e->used] = room(bytes);
        e->bytes[e->used] = bytes;
    }
    return e->memory[e->used++];
}

static dd_status bench_fail(dd_exec *exec, dd_status status, const char *sentence)
{
    fprintf(stderr, "%s\n", sentence);
    return status;
}

static bench_exec exec = {{sizeof(dd_exec), 1, NULL, NULL, bench_scratch, bench_fail, NULL}, {NULL}, {0}, 0};

static double now(void)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t); /* one thread: undisturbed by others */
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double random_real(void)
{
    static uint64_t s = 1;
    s = s * 6364136223846793005u + 1442695040888963407u;
    return (double)(s >> 40) * 0x1p-24;
}

static float *reals(int64_t count, double low, double high)
{
    float *x = room((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++) {
        x[i] = (float)(low + (high - low) * random_real());
    }
    return x;
}

/* Seconds of the fastest call: what others do on the machine only adds. */
static double time_kernel(dd_kernel_fn run, const void *args)
{
    double best = 1e9, begin = now();
    for (int n = 0; n < 200 && (n < 10 || now() - begin < 1); n++) {
        const double start = now();
        exec.used = 0;
        if (run(&exec.base, args) != DD_OK) {
            exit(1);
        }
        const double s = now() - start;
        best = s < best ? s : best;
    }
    return best;
}

static const char *wanted = "";

/* All rows of one operator. bytes: what must move at least; work: multiplications and additions, 0 if bytes are the limit. */
static void bench(int32_t op, const char *text, const void *args, double bytes, double work)
{
    for (int32_t k = 0; k < module->kernel_count; k++) {
        const dd_kernel *row = &module->kernels[k];
        if (row->op != op || row->dtype != DD_F32 || row->isa > module->isa() || (row->accepts && !row->accepts(args)) ||
            !strstr(text, wanted)) {
            continue;
        }
        const double s = time_kernel(row->run, args);
        const double rate = (work > 0 ? work : bytes) / s * 1e-9, limit = work > 0 ? product_limit : copy_limit;
        printf("%-44s %-8s %9.3f ms %8.1f %-7s %5.0f %%\n", text, row->name, s * 1e3, rate, work > 0 ? "GFLOP/s" : "GB/s",
               100 * rate / limit);
    }
}

/* ---- limits ---- */

typedef struct copy_job {
    char *dst, *src;
} copy_job;

enum { COPY_PIECE = 1 << 20, COPY_PIECES = 256 };

/* Past the cache: a byte read for each byte written. */
static void copy_piece(void *arg, int64_t i)
{
    const copy_job *job = arg;
    for (int64_t at = i * COPY_PIECE; at < (i + 1) * COPY_PIECE; at += 16) {
        _mm_stream_si128((__m128i *)(void *)(job->dst + at), _mm_load_si128((const __m128i *)(const void *)(job->src + at)));
    }
}

static void measure_copy(void)
{
    copy_job job = {room((size_t)COPY_PIECE * COPY_PIECES), room((size_t)COPY_PIECE * COPY_PIECES)};
    double best = 1e9;
    memset(job.src, 1, (size_t)COPY_PIECE * COPY_PIECES);
    for (int i = 0; i < 8; i++) {
        const double start = now();
        module->parallel_for(threads, COPY_PIECES, copy_piece, &job);
        const double s = now() - start;
        best = s < best ? s : best;
    }
    copy_limit = 2.0 * COPY_PIECE * COPY_PIECES / best * 1e-9;
    printf("copy: %.1f GB/s\n", copy_limit);
    free(job.dst);
    free(job.src);
}

static dd_op_matmul product_of(int32_t batch, int32_t M, int32_t N, int32_t K, int32_t trans_a, int32_t trans_b, int shared_a)
{
    dd_op_matmul op = {.batch = batch, .M = M, .N = N, .K = K, .trans_a = trans_a, .trans_b = trans_b, .alpha = 1};
    op.lda = trans_a ? M : K;
    op.ldb = trans_b ? K : N;
    op.ldc = N;
    op.stride_a = shared_a ? 0 : (int64_t)M * K;
    op.stride_b = (int64_t)K * N;
    op.stride_c = (int64_t)M * N;
    op.a = reals((int64_t)batch * M * K, -1, 1);
    op.b = reals((int64_t)batch * K * N, -1, 1);
    op.c = reals((int64_t)batch * M * N, -1, 1);
    return op;
}

static void bench_product(const char *text, dd_op_matmul op)
{
    bench(DD_OPERATOR_matmul, text, &op, 0, 2.0 * op.batch * op.M * op.N * op.K);
    free((void *)(uintptr_t)op.a);
    free((void *)(uintptr_t)op.b);
    free(op.c);
}

static void measure_product(void)
{
    dd_op_matmul op = product_of(1, 2048, 2048, 2048, 0, 0, 0);
    for (int32_t k = 0; k < module->kernel_count && product_limit == 0; k++) {
        if (module->kernels[k].op == DD_OPERATOR_matmul && module->kernels[k].isa <= module->isa()) {
            product_limit = 2.0 * 2048 * 2048 * 2048 / time_kernel(module->kernels[k].run, &op) * 1e-9;
            printf("product of 2048 x 2048 (%s): %.0f GFLOP/s\n", module->kernels[k].name, product_limit);
        }
    }
}

/* ---- operators ---- */

static int32_t offsets[IMAGES + 1] = {0, OBJECTS / 2, OBJECTS};
static float sizes[2 * IMAGES] = {1333, 800, 1200, 800};
static int32_t pairs[2 * STAGES];

static void bench_costs(int32_t queries)
{
    const int64_t rows = (int64_t)STAGES * IMAGES * queries;
    float *logits = reals(rows * CLASSES, -6, 2), *boxes = reals(rows * 4, 0.1, 0.5), *t_logits = reals(rows * CLASSES, -6, 2);
    float *prob = reals(rows * CLASSES, 0, 1), *xyxy = reals(rows * 4, 0, 800), *cxcywh = reals(rows * 4, 0.1, 0.5);
    float *gt = reals(OBJECTS * 4, 0.1, 0.5), *cost = reals(rows * queries, 0, 1);
    int32_t labels[OBJECTS] = {3};
    int64_t bad = INT64_MAX;
    char text[80];
    dd_op_gt_cost gt_cost = {logits,  boxes,   gt,      labels, offsets, sizes, cost, &bad, STAGES, IMAGES,
                             queries, CLASSES, OBJECTS, 0,      1,       2,     5,    2,    1e-12,  1e-6};
    snprintf(text, sizeof text, "gt_cost %dx%dx%d, %d objects", STAGES, IMAGES, queries, OBJECTS);
    bench(DD_OPERATOR_gt_cost, text, &gt_cost, 4.0 * (double)rows * (CLASSES + 4), 0);
    dd_op_kd_targets targets = {t_logits, boxes, sizes, prob, xyxy, cxcywh, STAGES, IMAGES, queries, CLASSES};
    snprintf(text, sizeof text, "kd_targets %dx%dx%dx%d", STAGES, IMAGES, queries, CLASSES);
    bench(DD_OPERATOR_kd_targets, text, &targets, 8.0 * (double)rows * CLASSES, 0);
    dd_op_kd_cost kd = {logits, boxes,   prob,    xyxy,    cxcywh, sizes, pairs, cost, &bad, STAGES,
                        IMAGES, queries, queries, CLASSES, 0,      pairs, 1,     5,    2};
    snprintf(text, sizeof text, "kd_cost %d x %dx%dx%d", STAGES * IMAGES, queries, CLASSES, queries);
    bench(DD_OPERATOR_kd_cost, text, &kd, 0, (double)rows * queries * (2 * CLASSES + 40));
    free(logits), free(boxes), free(t_logits), free(prob), free(xyxy), free(cxcywh), free(gt), free(cost);
}

static void bench_losses(void)
{
    const int64_t rows = (int64_t)STAGES * IMAGES * QUERIES;
    float *logits = reals(rows * CLASSES, -6, 2), *boxes = reals(rows * 4, 0.1, 0.5), *g_logits = reals(rows * CLASSES, 0, 1);
    float *prob = reals(rows * CLASSES, 0, 1), *xyxy = reals(rows * 4, 0, 800), *g_boxes = reals(rows * 4, 0, 1);
    int32_t *match = room((size_t)rows * sizeof *match), labels[OBJECTS] = {3};
    double *terms = room((size_t)STAGES * IMAGES * 5 * sizeof *terms);
    for (int64_t i = 0; i < rows; i++) {
        match[i] = i % QUERIES < OBJECTS / 2 ? (int32_t)(i % QUERIES) : -1;
    }
    dd_op_det_loss det = {logits, boxes,   match,   boxes,   labels, offsets, sizes, NULL, terms, g_logits, g_boxes, STAGES,
                          IMAGES, QUERIES, CLASSES, OBJECTS, 0,      1,       0,     1e-6, 1,     1,        1,       1};
    bench(DD_OPERATOR_det_loss, "det_loss 6x2x300x80", &det, 8.0 * (double)rows * CLASSES, 0);
    for (int64_t i = 0; i < rows; i++) {
        match[i] = (int32_t)(i * 7 % QUERIES);
    }
    dd_op_kd_loss kd = {logits,  boxes,   prob,  xyxy,     boxes,     sizes,     pairs,     pairs,  match,
                        NULL,    NULL,    terms, g_logits, g_boxes,   STAGES,    STAGES,    IMAGES, QUERIES,
                        QUERIES, CLASSES, 0,     0,        {0, 1, 0}, {0, 1, 1}, {0, 1, 1}, 1};
    bench(DD_OPERATOR_kd_loss, "kd_loss 6x2x300x80", &kd, 12.0 * (double)rows * CLASSES, 0);
    int32_t *index = room((size_t)STAGES * IMAGES * ENTRIES * sizeof *index);
    float *q = reals((int64_t)STAGES * IMAGES * ENTRIES, 0, 1);
    dd_op_quality quality = {logits, boxes,   NULL,    boxes,   offsets, sizes, index, q, STAGES,
                             IMAGES, QUERIES, CLASSES, OBJECTS, ENTRIES, 0,     0,     1, 1};
    bench(DD_OPERATOR_quality, "quality 6x2, 100 of 24000", &quality, 4.0 * (double)rows * CLASSES, 0);
    free(logits), free(boxes), free(g_logits), free(prob), free(xyxy), free(g_boxes), free(match), free(terms), free(index),
        free(q);
}

static void bench_features(int level)
{
    const int64_t h = level_size[level][0], w = level_size[level][1], P = h * w, count = IMAGES * CHANNELS * P;
    float *teacher = reals(count, -1, 1), *student = reals(count, -1, 1), *gradient = reals(count, -1, 1);
    float *queries = reals((int64_t)STAGES * IMAGES * QUERIES * CHANNELS, -1, 1), *weight = reals(STAGES * IMAGES * P, 0, 1);
    float *sum = reals(IMAGES * P, 0, 6), *quality = reals((int64_t)STAGES * IMAGES * QUERIES, 0, 1);
    int32_t *index = room((size_t)STAGES * IMAGES * QUERIES * sizeof *index);
    int32_t bad[IMAGES];
    int64_t first;
    double terms[STAGES * IMAGES];
    char text[80];
    const double bytes = 4.0 * (double)count;
    for (int64_t i = 0; i < STAGES * IMAGES * QUERIES; i++) {
        index[i] = (int32_t)(i * 7 % QUERIES);
    }
    dd_op_feature_weights weights = {queries, index,   quality, teacher,  NULL, NULL, weight, sum, STAGES,
                                     IMAGES,  QUERIES, ENTRIES, CHANNELS, 1,    0,    0,      P};
    snprintf(text, sizeof text, "feature_weights %lldx%lld SUM_MAX", (long long)h, (long long)w);
    bench(DD_OPERATOR_feature_weights, text, &weights, bytes, 0);
    for (int64_t i = 0; i < STAGES * IMAGES * QUERIES; i++) {
        quality[i] = i % QUERIES < 7 ? quality[i] : 0; /* as many as objects */
    }
    weights.K = QUERIES;
    weights.per_query = 1;
    snprintf(text, sizeof text, "feature_weights %lldx%lld PER_QUERY", (long long)h, (long long)w);
    bench(DD_OPERATOR_feature_weights, text, &weights, 0, 2.0 * STAGES * 7 * (double)count);
    dd_op_feature_loss loss = {teacher, student, weight, sum, terms, gradient, STAGES, IMAGES, CHANNELS, P, 1};
    snprintf(text, sizeof text, "feature_loss %lldx%lld", (long long)h, (long long)w);
    bench(DD_OPERATOR_feature_loss, text, &loss, 3 * bytes, 0);
    dd_op_check_finite finite = {teacher, 1, IMAGES, CHANNELS * P, &first, bad};
    snprintf(text, sizeof text, "check_finite %lldx%lld", (long long)h, (long long)w);
    bench(DD_OPERATOR_check_finite, text, &finite, bytes, 0);
    if (level == 0) {
        dd_op_gather gather = {teacher, student, DD_F16, 1, {count}, {1}, 0};
        bench(DD_OPERATOR_gather, "gather f16", &gather, bytes * 1.5, 0);
        dd_op_gather turned = {teacher, student, DD_F32, 3, {IMAGES, CHANNELS, P}, {CHANNELS * P, 1, CHANNELS}, 0};
        bench(DD_OPERATOR_gather, "gather f32, channels last", &turned, bytes * 2, 0);
        dd_op_scatter scatter = {teacher, student, DD_BF16, 1, {count}, {1}, NULL, 0, {0}};
        bench(DD_OPERATOR_scatter, "scatter bf16", &scatter, bytes * 1.5, 0);
        dd_op_row_sum row_sum = {teacher, sum, IMAGES, CHANNELS, 0, P};
        bench(DD_OPERATOR_row_sum, "row_sum 256 x 16700 x 2", &row_sum, bytes, 0);
        dd_op_resize resize = {student, teacher, IMAGES * CHANNELS, 50, 84, 100, 167};
        bench(DD_OPERATOR_resize, "resize 50x84 to 100x167", &resize, bytes * 1.25, 0);
        bench(DD_OPERATOR_resize_grad, "resize_grad 50x84 from 100x167", &resize, bytes * 1.25, 0);
    }
    free(teacher), free(student), free(gradient), free(queries), free(weight), free(sum), free(quality), free(index);
}

/* Query-contrastive term: 600 queries, hidden width 512. */
static void bench_contrastive(void)
{
    enum { ROWS = IMAGES * QUERIES, WIDTH = 512 };
    float *x = reals((int64_t)ROWS * ROWS, -1, 1), *y = reals((int64_t)ROWS * ROWS, -1, 1),
          *g = reals((int64_t)ROWS * ROWS, -1, 1);
    float *d[5];
    for (int i = 0; i < 5; i++) {
        d[i] = reals(ROWS, 0.5, 1);
    }
    float *g_x = reals((int64_t)ROWS * ROWS, -1, 1);
    int32_t *index = room(ROWS * sizeof *index);
    double loss;
    const double bytes = 4.0 * ROWS * WIDTH;
    for (int i = 0; i < ROWS; i++) {
        index[i] = i * 7 % QUERIES;
    }
    dd_op_take_rows rows = {x, index, y, ROWS, QUERIES, QUERIES, WIDTH, 0};
    bench(DD_OPERATOR_take_rows, "take_rows 600 x 512", &rows, 2 * bytes, 0);
    dd_op_batchnorm_relu norm = {x, d[0], d[1], y, d[2], d[3], g, g_x, d[4], d[1], ROWS, WIDTH};
    bench(DD_OPERATOR_batchnorm_relu, "batchnorm_relu 600 x 512", &norm, 2 * bytes, 0);
    bench(DD_OPERATOR_batchnorm_relu_grad, "batchnorm_relu_grad 600 x 512", &norm, 4 * bytes, 0);
    dd_op_l2norm length = {x, y, d[0], g, g_x, ROWS, WIDTH};
    bench(DD_OPERATOR_l2norm, "l2norm 600 x 512", &length, 2 * bytes, 0);
    bench(DD_OPERATOR_l2norm_grad, "l2norm_grad 600 x 512", &length, 3 * bytes, 0);
    dd_op_cross_entropy entropy = {x, g, &loss, ROWS, 0.2, 1};
    bench(DD_OPERATOR_cross_entropy, "cross_entropy 600 x 600", &entropy, 8.0 * ROWS * ROWS, 0);
}

/* AdaMixer: 300 queries of 4 groups, 32 points in and 128 out, 64 channels of a group. */
static void bench_mixing(void)
{
    enum { GROUPS = 4, WIDTH = CHANNELS / GROUPS, IN = 32, OUT = 128, ROWS = IMAGES * QUERIES, POINTS = ROWS * GROUPS * IN };
    const int64_t each = WIDTH * WIDTH + OUT * IN, matrices = (int64_t)ROWS * GROUPS;
    dd_op_sample3d cloud = {.B = IMAGES, .N = QUERIES, .G = GROUPS, .D = WIDTH, .L = LEVELS, .P = IN, .tau = 2};
    for (int32_t l = 0; l < LEVELS; l++) {
        cloud.height[l] = 200 >> l;
        cloud.width[l] = 334 >> l;
        cloud.stride[l] = 4 << l;
        cloud.S += (int64_t)cloud.height[l] * cloud.width[l];
    }
    float *position = reals((int64_t)ROWS * 4, 0, 1);
    for (int64_t i = 0; i < 4 * ROWS; i++) {
        static const float low[] = {0, 0, 5, -1}, high[] = {1333, 800, 8, 1};
        position[i] = low[i % 4] + position[i] * (high[i % 4] - low[i % 4]);
    }
    cloud.position = position;
    cloud.value = reals(IMAGES * cloud.S * CHANNELS, -1, 1);
    cloud.g_value = reals(IMAGES * cloud.S * CHANNELS, -1, 1);
    cloud.off = reals((int64_t)POINTS * 3, -0.5, 0.5);
    cloud.g_off = reals((int64_t)POINTS * 3, 0, 0);
    cloud.y = reals((int64_t)POINTS * WIDTH, -1, 1);
    cloud.g_y = reals((int64_t)POINTS * WIDTH, -1, 1);
    const double work = 2.0 * POINTS * LEVELS * 4 * WIDTH, read = work * 2; /* a float for each multiplication and addition */
    bench(DD_OPERATOR_sample3d, "sample3d 2x300x4x32, work", &cloud, 0, work);
    bench(DD_OPERATOR_sample3d, "sample3d 2x300x4x32, rows read", &cloud, read + 4.0 * POINTS * WIDTH, 0);
    bench(DD_OPERATOR_sample3d_grad, "sample3d_grad, work", &cloud, 0, 2 * work);
    bench(DD_OPERATOR_sample3d_grad, "sample3d_grad, rows read and written", &cloud, 3 * read, 0);
    dd_op_mixing mix = {.x = cloud.y, .g_x = reals((int64_t)POINTS * WIDTH, 0, 0), .rows = ROWS, .G = GROUPS, .in = IN};
    mix.out = OUT;
    mix.c = WIDTH;
    mix.params = reals(matrices * each, -1, 1);
    mix.g_params = reals(matrices * each, 0, 0);
    mix.y = reals(matrices * OUT * WIDTH, 0, 0);
    mix.g_y = reals(matrices * OUT * WIDTH, -1, 1);
    mix.stats = reals(matrices * 4, 0, 0);
    const double products = 2.0 * (double)matrices * WIDTH * (IN * WIDTH + OUT * IN);
    const double bytes = 4.0 * (double)matrices * (IN * WIDTH + (double)each + OUT * WIDTH);
    bench(DD_OPERATOR_mixing, "mixing 600x4, 32 to 128, work", &mix, 0, products);
    bench(DD_OPERATOR_mixing, "mixing 600x4, 32 to 128, bytes", &mix, bytes, 0);
    bench(DD_OPERATOR_mixing_grad, "mixing_grad 600x4, work", &mix, 0, 3 * products);
    bench(DD_OPERATOR_mixing_grad, "mixing_grad 600x4, bytes", &mix, 2 * bytes, 0);
    float *tau = reals(8, 0, 4), *overlap = reals((int64_t)ROWS * QUERIES, 0, 0),
          *bias = reals((int64_t)ROWS * QUERIES * 8, 0, 0);
    dd_op_iof_bias iof = {position, tau, overlap, bias, bias, tau, IMAGES, QUERIES, 8};
    bench(DD_OPERATOR_iof_bias, "iof_bias 2x8x300x300", &iof, 4.0 * ROWS * QUERIES * 9, 0);
    bench(DD_OPERATOR_iof_bias_grad, "iof_bias_grad 2x8x300x300", &iof, 4.0 * ROWS * QUERIES * 9, 0);
}

int main(int argc, char **argv)
{
    const char *path = getenv("DETRDISTILL_TEST_MODULE");
    void *library = dlopen(path ? path : TEST_MODULE, RTLD_NOW | RTLD_LOCAL);
    char text[160] = "";
    dd_backend_entry_fn entry;
    threads = argc > 1 ? atoi(argv[1]) : 2;
    wanted = argc > 2 ? argv[2] : "";
    if (!library || threads < 1) {
        fprintf(stderr, "%s\n", library ? "usage: kernels_bench [threads [part of a name]]" : dlerror());
        return 1;
    }
    *(void **)&entry = dlsym(library, DD_BACKEND_ENTRY);
    module = entry(DD_BACKEND_INTERFACE);
    if (!module || module->device_open(0, &device, text, sizeof text) != DD_OK) {
        fprintf(stderr, "%s\n", text);
        return 1;
    }
    exec.base.threads = threads;
    exec.base.device = device;
    for (int s = 0; s < STAGES; s++) {
        pairs[2 * s] = pairs[2 * s + 1] = s;
    }
    printf("%s, %d threads\n", text, threads);
    measure_copy();
    measure_product();
    printf("%-44s %-8s %12s %16s %7s\n", "kernel", "row", "best", "rate", "limit");
    bench_costs(300);
    bench_costs(900);
    bench_losses();
    for (int level = 0; level < LEVELS; level++) {
        bench_features(level);
    }
    bench_product("matmul 2 x 256x16700, K 512: adaptor", product_of(2, 256, 16700, 512, 0, 0, 1));
    bench_product("matmul 256x512, K 16700: its weights", product_of(1, 256, 512, 16700, 0, 1, 0));
    bench_product("matmul 2 x 512x16700, K 256: its input", product_of(2, 512, 16700, 256, 1, 0, 1));
    bench_product("matmul 600x512, K 256: contrastive", product_of(1, 600, 512, 256, 0, 1, 0));
    bench_product("matmul 600x600, K 512: contrastive", product_of(1, 600, 600, 512, 0, 1, 0));
    bench_product("matmul 12 x 300x300, K 80: kd_cost", product_of(12, 300, 300, 80, 0, 1, 0));
    bench_product("matmul 12 x 900x900, K 80: kd_cost", product_of(12, 900, 900, 80, 0, 1, 0));
    bench_product("matmul 12 x 150x100, K 80: kd_cost", product_of(12, 150, 100, 80, 0, 1, 0));
    bench_contrastive();
    bench_mixing();
    module->device_close(device);
    return 0;
}
