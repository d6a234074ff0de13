/* SPDX-License-Identifier: Apache-2.0
 * Replays every case of a folder in the format of golden/kd through the public interface, prints the largest error of each
 * array, and fails where one is out of its file's tolerance.  golden DIR [--device ref|cpu|cuda] [--type f32|f64] [--modules
 * DIR] [--verbose] */
#include "golden.h"
#include "device_memory.h"

#include <dirent.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool verbose;
static dd_context *context;
static int32_t real_type = DD_F32;
static int32_t device_type = DD_DEVICE_CPU;

static void need(dd_status status)
{
    if (status != DD_OK) {
        fprintf(stderr, "golden: %s\n", dd_error_message());
        exit(2);
    }
}

static void *get_memory(size_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory)
        exit(2);
    return memory;
}

const char *golden_option(const golden_case *c, const char *key)
{
    const char *value;
    return dd_tensorfile_metadata(c->file, key, &value) == DD_OK ? value : NULL;
}

array *golden_array(golden_case *c, const char *name)
{
    for (int k = 0; k < c->count; k++)
        if (strcmp(c->arrays[k].name, name) == 0)
            return &c->arrays[k];
    return NULL;
}

array *golden_add(golden_case *c, const char *name, int kind, int dims, const int64_t *shape)
{
    if (c->count == MAX_ARRAYS)
        exit(2);
    array *a = &c->arrays[c->count++];
    memset(a, 0, sizeof *a);
    snprintf(a->name, sizeof a->name, "%s", name);
    a->kind = kind;
    a->dims = dims;
    a->n = 1;
    for (int k = 0; k < dims; k++)
        a->n *= a->shape[k] = shape[k];
    a->f = kind == 0 ? get_memory((size_t)a->n * 8) : NULL;
    a->i = kind == 1 ? get_memory((size_t)a->n * 4) : NULL;
    a->u = kind == 2 ? get_memory((size_t)a->n) : NULL;
    return a;
}

static void load_case(golden_case *c, const char *path)
{
    int32_t count;
    memset(c, 0, sizeof *c);
    c->path = path;
    need(dd_tensorfile_open(&c->file, path));
    need(dd_tensorfile_count(c->file, &count));
    for (int32_t k = 0; k < count; k++) {
        const char *name;
        dd_tensor t;
        need(dd_tensorfile_at(c->file, k, &name, &t));
        int kind = t.dtype == DD_F32 ? 0 : t.dtype == DD_I32 ? 1 : 2;
        array *a = golden_add(c, name, kind, t.ndim, t.shape);
        for (int64_t i = 0; i < a->n && kind == 0; i++)
            a->f[i] = ((const float *)t.data)[i];
        if (kind)
            memcpy(kind == 1 ? (void *)a->i : a->u, t.data, (size_t)a->n * (kind == 1 ? 4 : 1));
    }
    if (golden_option(c, "recipe_seed"))
        golden_make_recipe(c);
}

static void free_case(golden_case *c)
{
    for (int k = 0; k < c->count; k++) {
        free(c->arrays[k].f);
        free(c->arrays[k].i);
        free(c->arrays[k].u);
    }
    dd_tensorfile_free(c->file);
}

/* ---- running the library ---- */

typedef struct run {
    golden_case *c;
    dd_distiller *d;
    void *memory[8 * MAX_ARRAYS]; /* of tensors, on the device */
    int memory_count;
    int failures;
} run;

/* The array as a tensor of the run's real type, in memory of the run on its device. */
static dd_tensor tensor_of(run *r, const array *a)
{
    dd_tensor t;
    size_t n = (size_t)a->n, bytes = n * (a->kind == 1 ? 4 : a->kind == 2 ? 1 : real_type == DD_F64 ? 8 : 4);
    void *host = get_memory(bytes), *data = device_memory_get(bytes);
    r->memory[r->memory_count++] = data;
    int32_t dtype = a->kind == 1 ? DD_I32 : a->kind == 2 ? DD_U8 : real_type;
    for (size_t i = 0; i < n && a->kind == 0; i++) {
        if (real_type == DD_F64)
            ((double *)host)[i] = a->f[i];
        else
            ((float *)host)[i] = (float)a->f[i];
    }
    if (a->kind)
        memcpy(host, a->kind == 1 ? (const void *)a->i : a->u, bytes);
    device_memory_put(data, host, bytes);
    free(host);
    need(dd_tensor_init(&t, data, dtype, a->dims, a->shape, NULL, device_type, 0, 0));
    return t;
}

/* A gradient's host copy, as doubles; the caller frees it. */
static double *values_of(const dd_tensor *t, int64_t n)
{
    size_t bytes = (size_t)(n * dd_dtype_size(t->dtype));
    void *raw = get_memory(bytes);
    double *values = get_memory((size_t)n * sizeof *values);
    device_memory_take(raw, t->data, bytes);
    for (int64_t i = 0; i < n; i++)
        values[i] = t->dtype == DD_F64 ? ((double *)raw)[i] : ((float *)raw)[i];
    free(raw);
    return values;
}

static double real_at(const dd_tensor *t, int64_t i)
{
    return t->dtype == DD_F64 ? ((const double *)t->data)[i] : ((const float *)t->data)[i];
}

/* Name in the library of a golden input, or NULL. */
static const char *library_name(const char *golden, char out[64])
{
    static const char *const plain[][2] = {
        {"img_size", "image.sizes"},       {"gt_boxes", "gt.boxes"},        {"gt_labels", "gt.labels"},
        {"gt_offsets", "gt.offsets"},      {"s_logits", "student.logits"},  {"s_boxes", "student.boxes"},
        {"t_logits", "teacher.logits"},    {"t_boxes", "teacher.boxes"},    {"p_logits", "prior.logits"},
        {"p_boxes", "prior.boxes"},        {"t_hidden", "teacher.queries"}, {"s_hidden", "student.queries"},
        {"dn_logits", "denoising.logits"}, {"dn_boxes", "denoising.boxes"}, {"dn_match", "denoising.match"}};
    for (size_t k = 0; k < sizeof plain / sizeof plain[0]; k++)
        if (strcmp(golden, plain[k][0]) == 0)
            return plain[k][1];
    static const char *const prefix[][2] = {
        {"t_feat.", "teacher.features."}, {"s_feat.", "student.features."}, {"feat_pad.", "features.padding."}};
    for (int k = 0; k < 3; k++)
        if (strncmp(golden, prefix[k][0], strlen(prefix[k][0])) == 0) {
            snprintf(out, 64, "%s%s", prefix[k][1], golden + strlen(prefix[k][0]));
            return out;
        }
    if (strncmp(golden, "phi_w.", 6) == 0 || strncmp(golden, "phi_b.", 6) == 0) {
        snprintf(out, 64, "adaptor.%s.%s", golden + 6, golden[4] == 'w' ? "weight" : "bias");
        return out;
    }
    if (strncmp(golden, "qc_s.", 5) == 0 || strncmp(golden, "qc_t.", 5) == 0) {
        const char *part = golden + 5;
        snprintf(out, 64, "contrastive.%s.%s", golden[3] == 's' ? "student" : "teacher",
                 strcmp(part, "bn_w") == 0   ? "bn_weight"
                 : strcmp(part, "bn_b") == 0 ? "bn_bias"
                                             : part);
        return out;
    }
    return NULL;
}

static void distiller_options(const golden_case *c, char *out, size_t size)
{
    static const char *const map[][2] = {{"kd_split", "split"},        {"query_contrastive", "contrastive"},
                                         {"feat_topk", "topk"},        {"gamma_c", "gamma-class"},
                                         {"gamma_iou", "gamma-iou"},   {"psi_raw", "psi-raw"},
                                         {"lambda1", "weight.logits"}, {"lambda2", "weight.features"},
                                         {"lambda3", "weight.prior"},  {"dn_groups", "denoising-groups"}};
    const char *family = golden_option(c, "detector"), *stage = golden_option(c, "kd_stage"),
               *mask = golden_option(c, "feat_mask"), *prior = golden_option(c, "prior_mode"),
               *last = golden_option(c, "prior_stage");
    int used = snprintf(out, size, "family=%s%s stage=%s feature-mask=%s prior=%s prior-stage=%s", family,
                        strcmp(family, "deformable") == 0 || strcmp(family, "conditional") == 0 ? "-detr" : "",
                        strcmp(stage, "FIRST") == 0 ? "first" : "grouped",
                        strcmp(mask, "NONE") == 0        ? "none"
                        : strcmp(mask, "PER_QUERY") == 0 ? "per-query"
                                                         : "sum-max",
                        strcmp(prior, "NONE") == 0    ? "none"
                        : strcmp(prior, "GROUP") == 0 ? "group"
                                                      : "assigned",
                        strcmp(last, "LAST") == 0 ? "last" : "stage");
    for (size_t k = 0; k < sizeof map / sizeof map[0]; k++) {
        const char *value = golden_option(c, map[k][0]);
        if (value)
            used += snprintf(out + used, size - (size_t)used, " %s=%s", map[k][1], value);
    }
}

/* The other ranks of two_ranks: averages from the file take the place of local counts. */
static int32_t stored_means(void *user, double *values, int32_t count)
{
    static const char *const key[] = {"avg_num_pos", "avg_num_gt", "avg_kd_pairs", "avg_kd_pos", "avg_kd_neg", "avg_prior_pos"};
    for (int32_t k = 0; k < count && k < 6; k++) {
        const char *value = golden_option(user, key[k]);
        if (value)
            values[k] = strtod(value, NULL);
    }
    return 0;
}

static void make_distiller(run *r)
{
    char options[1024];
    distiller_options(r->c, options, sizeof options);
    need(dd_distiller_create(&r->d, context, options));
    const char *world = golden_option(r->c, "world_size");
    if (world && strcmp(world, "1") != 0)
        need(dd_distiller_set_mean(r->d, stored_means, r->c));
    bool padding = golden_option(r->c, "feat_mask_padding") && golden_option(r->c, "feat_mask_padding")[0] == '1';
    bool contrastive = golden_option(r->c, "query_contrastive")[0] == '1';
    for (int k = 0; k < r->c->count; k++) {
        char memory[64];
        const array *a = &r->c->arrays[k];
        const char *name = library_name(a->name, memory);
        if (!name || (!padding && strncmp(a->name, "feat_pad.", 9) == 0) || (!contrastive && strncmp(a->name, "qc_", 3) == 0))
            continue;
        dd_tensor t = tensor_of(r, a);
        need(dd_distiller_bind(r->d, name, &t));
    }
}

/* ---- comparing ---- */

static void report(run *r, const char *name, double worst, double limit, bool good)
{
    if (verbose || !good)
        printf("    %-28s largest error %.3g of its tolerance%s\n", name, limit > 0 ? worst / limit : worst,
               good ? "" : "   OUT OF TOLERANCE");
    r->failures += !good;
}

/* An output that no comparison looked at would pass unseen. */
static void check_coverage(run *r)
{
    char memory[64];
    for (int k = 0; k < r->c->count; k++) {
        const array *a = &r->c->arrays[k];
        if (a->compared || library_name(a->name, memory))
            continue;
        printf("    %-28s was not compared\n", a->name);
        r->failures++;
    }
}

/* Losses, costs, maps: |x-ref| <= tol*(|ref| + 1e-3 max|ref|). */
static void compare_terms(run *r, array *ref, const dd_tensor *t)
{
    ref->compared = 1;
    double tol = strtod(golden_option(r->c, "tol_loss"), NULL), most = 0, worst = 0;
    int64_t n = 1;
    for (int32_t k = 0; k < t->ndim; k++)
        n *= t->shape[k];
    if (n != ref->n) {
        printf("    %-28s has %ld elements, not %ld\n", ref->name, n, ref->n);
        r->failures++;
        return;
    }
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(ref->f[i]));
    for (int64_t i = 0; i < n; i++) {
        double error = fabs(real_at(t, i) - ref->f[i]) / (tol * (fabs(ref->f[i]) + 1e-3 * most) + 1e-30);
        worst = isnan(error) ? INFINITY : fmax(worst, error);
    }
    report(r, ref->name, worst, 1, worst <= 1);
}

static void compare_indices(run *r, array *ref, const dd_tensor *t)
{
    ref->compared = 1;
    int64_t differ = 0, n = 1;
    for (int32_t k = 0; k < t->ndim; k++)
        n *= t->shape[k];
    for (int64_t i = 0; i < ref->n && n == ref->n; i++)
        differ += ref->i[i] != ((const int32_t *)t->data)[i];
    if (n != ref->n)
        differ = -1;
    if (verbose || differ)
        printf("    %-28s %ld of %ld differ\n", ref->name, differ, ref->n);
    r->failures += differ != 0;
}

static void compare_result(run *r, const char *golden, const char *library)
{
    dd_tensor t;
    array *ref = golden_array(r->c, golden);
    if (!ref)
        return;
    if (dd_distiller_result(r->d, library, &t) != DD_OK) {
        printf("    %-28s %s\n", golden, dd_error_message());
        r->failures++;
    } else if (ref->kind == 1) {
        compare_indices(r, ref, &t);
    } else {
        compare_terms(r, ref, &t);
    }
}

static void compare_outputs(run *r)
{
    static const char *const results[][2] = {
        {"det_match", "match.det"},      {"p_match", "match.prior"},  {"kd_pairs", "pairs.logits"},
        {"kd_match", "match.logits"},    {"kd_kind", "kind.logits"},  {"det_cost", "cost.det"},
        {"p_cost", "cost.prior"},        {"kd_cost", "cost.logits"},  {"feat_idx", "features.index"},
        {"feat_q", "features.quality"},  {"loss_det", "terms.det"},   {"loss_dn", "terms.denoising"},
        {"loss_prior", "terms.prior"},   {"loss_kd", "terms.logits"}, {"loss_feat", "terms.features"},
        {"loss_qc", "terms.contrastive"}};
    for (size_t k = 0; k < sizeof results / sizeof results[0]; k++)
        compare_result(r, results[k][0], results[k][1]);
    for (int l = 0; l < 8; l++) {
        char golden[32], library[32];
        snprintf(golden, sizeof golden, "feat_w.%d", l);
        snprintf(library, sizeof library, "features.weight.%d", l);
        compare_result(r, golden, library);
    }
}

static void compare_totals(run *r, double total)
{
    static const char *const module[6] = {"det", "denoising", "logits", "features", "prior", "contrastive"};
    array *ref = golden_array(r->c, "totals");
    double value[7];
    for (int k = 0; k < 6; k++) {
        char name[32];
        snprintf(name, sizeof name, "loss.%s", module[k]);
        if (dd_distiller_term_get(r->d, name, &value[k]) != DD_OK)
            value[k] = 0;
    }
    value[6] = total;
    dd_tensor t;
    need(dd_tensor_init(&t, value, DD_F64, 1, (int64_t[]){7}, NULL, DD_DEVICE_CPU, 0, 0));
    compare_terms(r, ref, &t);
}

/* The teacher's own matching, through the matcher. */
static void compare_teacher_matching(run *r)
{
    array *ref = golden_array(r->c, "t_match"), *cost = golden_array(r->c, "t_cost");
    if (!ref)
        return;
    dd_matcher *m;
    char options[128];
    const char *family = golden_option(r->c, "detector");
    snprintf(options, sizeof options, "with=objects family=%s%s", family,
             strcmp(family, "deformable") == 0 || strcmp(family, "conditional") == 0 ? "-detr" : "");
    static const char *const bind[][2] = {{"t_logits", "student.logits"}, {"t_boxes", "student.boxes"},
                                          {"gt_boxes", "gt.boxes"},       {"gt_labels", "gt.labels"},
                                          {"gt_offsets", "gt.offsets"},   {"img_size", "image.sizes"}};
    need(dd_matcher_create(&m, context, options));
    for (int k = 0; k < 6; k++) {
        dd_tensor t = tensor_of(r, golden_array(r->c, bind[k][0]));
        need(dd_matcher_bind(m, bind[k][1], &t));
    }
    need(dd_matcher_run(m));
    int32_t stages, images;
    need(dd_matcher_count(m, &stages, &images));
    int64_t differ = 0, at = 0;
    ref->compared = 1;
    double *totals = get_memory((size_t)stages * (size_t)images * 8);
    for (int32_t k = 0; k < stages * images; k++) {
        const int32_t *match;
        int64_t count;
        need(dd_matcher_get(m, k / images, k % images, &match, &count, &totals[k]));
        for (int64_t i = 0; i < count; i++, at++)
            differ += at >= ref->n || match[i] != ref->i[at];
    }
    if (verbose || differ)
        printf("    %-28s %ld of %ld differ\n", "t_match (matcher)", differ, ref->n);
    r->failures += differ != 0;
    dd_tensor t;
    need(dd_tensor_init(&t, totals, DD_F64, 2, (int64_t[]){stages, images}, NULL, DD_DEVICE_CPU, 0, 0));
    if (cost)
        compare_terms(r, cost, &t);
    dd_matcher_free(m);
    free(totals);
}

/* ---- gradients ---- */

static const char *const modules[6][2] = {{"det", "det"},       {"dn", "denoising"}, {"kd", "logits"},
                                          {"feat", "features"}, {"prior", "prior"},  {"qc", "contrastive"}};

static void compare_gradient(run *r, const array *ref, const double *g)
{
    double tol = strtod(golden_option(r->c, "tol_grad"), NULL), most = 0, worst = 0;
    for (int64_t i = 0; i < ref->n; i++)
        most = fmax(most, fabs(ref->f[i]));
    double limit = most < 1e-9 ? 1e-9 : tol * most;
    bool sampled = strncmp(ref->name, "sub_", 4) == 0;
    for (int64_t i = 0; i < ref->n; i++) {
        double error = fabs(g[sampled ? 997 * i : i] - ref->f[i]) / limit;
        worst = isnan(error) ? INFINITY : fmax(worst, error);
    }
    report(r, ref->name, worst, 1, worst <= 1);
}

/* [sum g, sum |g|, sum g^2, sum g_i r_i] of the whole gradient */
static void compare_gradient_sums(run *r, const array *ref, const double *all, int64_t n)
{
    double tol = strtod(golden_option(r->c, "tol_grad"), NULL), sum[4] = {0}, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double g = all[i], sign = golden_hash((uint64_t)i, 0, 63) >> 63 ? -1 : 1;
        sum[0] += g;
        sum[1] += fabs(g);
        sum[2] += g * g;
        sum[3] += sign * g;
    }
    for (int k = 0; k < 4; k++) {
        double limit = tol * (k == 2 ? 2 * ref->f[2] : ref->f[1]);
        worst = fmax(worst, fabs(sum[k] - ref->f[k]) / limit);
    }
    report(r, ref->name, worst, 1, worst <= 1);
}

/* Gradients of one module: its weight 1, all others 0. */
static void compare_module_gradients(run *r, int module)
{
    char prefix[3][24], memory[64];
    snprintf(prefix[0], 24, "g_%s.", modules[module][0]);
    snprintf(prefix[1], 24, "sub_g_%s.", modules[module][0]);
    snprintf(prefix[2], 24, "sum_g_%s.", modules[module][0]);
    dd_tensor grad[MAX_ARRAYS];
    bool any = false;
    for (int k = 0; k < r->c->count; k++) {
        const array *a = &r->c->arrays[k];
        const char *name = library_name(a->name, memory);
        grad[k].data = NULL;
        if (!name || a->kind != 0 || strncmp(a->name, "t_", 2) == 0 || strncmp(a->name, "gt_", 3) == 0 || a->name[0] == 'i' ||
            (strncmp(a->name, "qc_", 3) == 0 && golden_option(r->c, "query_contrastive")[0] != '1'))
            continue;
        char gradient[72];
        snprintf(gradient, sizeof gradient, "%s.grad", name);
        grad[k] = tensor_of(r, a);
        need(dd_distiller_bind(r->d, gradient, &grad[k]));
    }
    for (int m = 0; m < 6; m++)
        need(dd_distiller_set_weight(r->d, modules[m][1], m == module));
    need(dd_distiller_step(r->d, NULL));
    double *values[MAX_ARRAYS];
    for (int k = 0; k < r->c->count; k++)
        values[k] = grad[k].data ? values_of(&grad[k], r->c->arrays[k].n) : NULL;
    for (int k = 0; k < r->c->count; k++) {
        array *ref = &r->c->arrays[k];
        for (int p = 0; p < 3; p++) {
            if (strncmp(ref->name, prefix[p], strlen(prefix[p])) != 0)
                continue;
            array *in = golden_array(r->c, ref->name + strlen(prefix[p]));
            if (!in || !values[in - r->c->arrays]) {
                printf("    %-28s has no input\n", ref->name);
                r->failures++;
            } else if (p < 2) {
                compare_gradient(r, ref, values[in - r->c->arrays]);
            } else {
                compare_gradient_sums(r, ref, values[in - r->c->arrays], in->n);
            }
            ref->compared = 1;
            any = true;
        }
    }
    /* an absent gradient is zero */
    for (int k = 0; k < r->c->count && any; k++) {
        char names[3][96];
        bool stored = false;
        for (int p = 0; p < 3; p++) {
            snprintf(names[p], 96, "%s%s", prefix[p], r->c->arrays[k].name);
            stored = stored || golden_array(r->c, names[p]) != NULL;
        }
        for (int64_t i = 0; values[k] && !stored && i < r->c->arrays[k].n; i++)
            if (values[k][i] != 0) {
                printf("    g_%s.%s is not zero\n", modules[module][0], r->c->arrays[k].name);
                r->failures++;
                break;
            }
    }
    for (int k = 0; k < r->c->count; k++)
        free(values[k]);
}

static void expect_error(run *r, const char *expect)
{
    double total = 77;
    dd_status status = dd_distiller_step(r->d, &total);
    bool good = strcmp(expect, "error_nonfinite") == 0 ? status == DD_ERR_NONFINITE
                                                       : status == DD_ERR_ARGUMENT || status == DD_ERR_SHAPE;
    good = good && total == 77 && dd_error_message()[0];
    if (verbose || !good)
        printf("    %s: %s \"%s\"\n", expect, dd_status_name(status), dd_error_message());
    r->failures += !good;
}

static bool replay(const char *path)
{
    golden_case c;
    run r = {.c = &c};
    load_case(&c, path);
    make_distiller(&r);
    const char *expect = golden_option(&c, "expect");
    if (expect) {
        expect_error(&r, expect);
    } else {
        double total = 0;
        dd_status status = dd_distiller_step(r.d, &total);
        if (status != DD_OK) {
            printf("    %s: %s\n", dd_status_name(status), dd_error_message());
            r.failures++;
        } else {
            compare_outputs(&r);
            compare_totals(&r, total);
            compare_teacher_matching(&r);
            for (int m = 0; m < 6; m++)
                compare_module_gradients(&r, m);
            check_coverage(&r);
        }
    }
    dd_distiller_free(r.d);
    for (int k = 0; k < r.memory_count; k++)
        device_memory_free(r.memory[k]);
    free_case(&c);
    return r.failures == 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
    char *path[1024], options[512] = "threads=2";
    int count = 0, passed = 0, failed = 0;
    const char *folder = NULL, *module_folder = ".";
    for (int k = 1; k < argc; k++) {
        if (strcmp(argv[k], "--verbose") == 0)
            verbose = true;
        else if (strcmp(argv[k], "--type") == 0 && k + 1 < argc)
            real_type = strcmp(argv[++k], "f64") == 0 ? DD_F64 : DD_F32;
        else if (strncmp(argv[k], "--", 2) == 0 && k + 1 < argc) {
            size_t used = strlen(options);
            snprintf(options + used, sizeof options - used, " %s=%s", argv[k] + 2, argv[k + 1]);
            if (strcmp(argv[k], "--device") == 0 && strncmp(argv[k + 1], "cuda", 4) == 0)
                device_type = DD_DEVICE_CUDA;
            if (strcmp(argv[k], "--modules") == 0)
                module_folder = argv[k + 1];
            k++;
        } else {
            folder = argv[k];
        }
    }
    if (device_type == DD_DEVICE_CUDA) {
        char module[4096];
        snprintf(module, sizeof module, "%s/libdetrdistill-cuda.so", module_folder);
        if (!device_memory_use(module))
            return 2;
    }
    DIR *entries = folder ? opendir(folder) : NULL;
    if (!entries) {
        fprintf(stderr, "usage: golden DIR [--device ref|cpu|cuda] [--type f32|f64] [--modules DIR] [--isa "
                        "..] [--verbose]\n");
        return 2;
    }
    need(dd_context_create(&context, options));
    for (struct dirent *e; (e = readdir(entries)) && count < 1024;) {
        size_t n = strlen(e->d_name);
        if (n > 12 && strcmp(e->d_name + n - 12, ".safetensors") == 0 && asprintf(&path[count], "%s/%s", folder, e->d_name) > 0)
            count++;
    }
    closedir(entries);
    qsort(path, (size_t)count, sizeof path[0], compare_names);
    for (int k = 0; k < count; k++) {
        if (verbose)
            printf("  %s\n", path[k]);
        bool good = replay(path[k]);
        printf("%s %s\n", good ? "ok  " : "FAIL", path[k]);
        passed += good;
        failed += !good;
        free(path[k]);
    }
    dd_context_free(context);
    printf("%d passed, %d failed\n", passed, failed + (count == 0));
    return failed || count == 0;
}
