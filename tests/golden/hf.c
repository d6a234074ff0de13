/* SPDX-License-Identifier: Apache-2.0
 * Replays a folder of golden/hf: a Hugging Face checkpoint of Deformable or Conditional DETR, its outputs, losses and
 * gradients.
 *
 *     golden_hf FOLDER..      with DETRDISTILL_GOLDEN_DEVICE=ref|cpu, DETRDISTILL_GOLDEN_DTYPE=f32|f64
 *
 * Each expected tensor is one case. Largest error / largest value must stay within the README's tolerances. */
#include "backend/exec.h"
#include "values.h"
#include <detrdistill/detrdistill.h>
#include <detrdistill/sys/backend.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 256, MOST_VALUES = 1 << 22 };

static int passed, failed, skipped;
static double *got_values; /* of a tensor of the library, in C order */

typedef struct replay {
    dd_context *context;
    ddi_exec exec;
    dd_model *model;
    dd_tensorfile *file;
    int32_t dtype;
    double forward, gradient; /* tolerances */
    const char *loss;         /* "", or "enc": names of the expected values begin with it */
    double worst_forward, worst_gradient;
} replay;

static void die(const char *what)
{
    fprintf(stderr, "golden_hf: %s: %s\n", what, dd_error_message());
    exit(2);
}

static void check_case(bool good, const char *name, double error, double allowed)
{
    passed += good;
    failed += !good;
    if (!good) {
        printf("FAILED %s: error %.3g, allowed %.3g\n", name, error, allowed);
    }
}

static dd_tensor expected(const replay *r, const char *name)
{
    dd_tensor t;
    if (dd_tensorfile_get(r->file, name, &t) != DD_OK) {
        die(name);
    }
    return t;
}

static bool has(const replay *r, const char *name)
{
    dd_tensor t;
    return dd_tensorfile_get(r->file, name, &t) == DD_OK;
}

/* Largest error of got[first ..] against a tensor, by its largest value. */
static double error_of(const dd_tensor *want, const double *got, double *largest)
{
    double error = 0;
    *largest = 0;
    for (int64_t i = 0; i < count_of(want); i++) {
        const double w = value_at(want, i);
        if (isinf(w) || isinf(got[i])) {
            error = w == got[i] ? error : INFINITY;
            continue;
        }
        *largest = fmax(*largest, fabs(w));
        error = fmax(error, isnan(got[i]) ? INFINITY : fabs(got[i] - w));
    }
    return error;
}

static void read_values(const dd_tensor *t)
{
    if (count_of(t) > MOST_VALUES) {
        die("a tensor is too large for this program");
    }
    for (int64_t i = 0; i < count_of(t); i++) {
        got_values[i] = value_at(t, i);
    }
}

static void compare_forward(replay *r, const char *want_name, const char *name)
{
    dd_tensor t;
    double largest;
    if (!has(r, want_name)) {
        return;
    }
    if (dd_model_tensor(r->model, name, &t) != DD_OK) {
        die(name);
    }
    const dd_tensor want = expected(r, want_name);
    if (want.ndim + 1 == t.ndim) { /* the same for all images: the first stands for them */
        t.shape[0] = 1;
    }
    if (count_of(&want) != count_of(&t)) {
        check_case(false, want_name, INFINITY, 0);
        return;
    }
    read_values(&t);
    const double error = error_of(&want, got_values, &largest), allowed = r->forward * fmax(largest, 1e-30);
    check_case(error <= allowed, want_name, error, allowed);
    r->worst_forward = fmax(r->worst_forward, error / fmax(largest, 1e-30));
}

/* ---- The forward pass */

static int32_t *image_sizes(const replay *r)
{
    const dd_tensor mask = expected(r, "pixel_mask");
    int32_t *sizes = calloc((size_t)mask.shape[0] * 2, sizeof *sizes);
    for (int64_t b = 0; b < mask.shape[0]; b++) {
        for (int64_t j = 0; j < mask.shape[2]; j++) {
            sizes[2 * b] += value_at(&mask, b * mask.shape[1] * mask.shape[2] + j) != 0;
        }
        for (int64_t i = 0; i < mask.shape[1]; i++) {
            sizes[2 * b + 1] += value_at(&mask, (b * mask.shape[1] + i) * mask.shape[2]) != 0;
        }
    }
    return sizes;
}

/* enc.out with the rows of padded tokens zeroed, as the file has it. */
static void compare_encoder(replay *r)
{
    const dd_tensor want = expected(r, "enc.out");
    dd_tensor t;
    double largest;
    if (dd_model_tensor(r->model, "encoder", &t) != DD_OK) {
        die("encoder");
    }
    read_values(&t);
    for (int64_t row = 0; row < want.shape[0] * want.shape[1]; row++) {
        bool padded = true;
        for (int64_t c = 0; c < want.shape[2]; c++) {
            padded = padded && value_at(&want, row * want.shape[2] + c) == 0;
        }
        for (int64_t c = 0; padded && c < want.shape[2]; c++) {
            got_values[row * want.shape[2] + c] = 0;
        }
    }
    const double error = error_of(&want, got_values, &largest);
    check_case(error <= r->forward * largest, "enc.out", error, r->forward * largest);
    r->worst_forward = fmax(r->worst_forward, error / largest);
}

/* dec.layers or ref.inter: one tensor of ours for each layer. */
static void compare_stacked(replay *r, const char *want_name, const char *prefix)
{
    if (!has(r, want_name)) {
        return;
    }
    const dd_tensor all = expected(r, want_name);
    for (int32_t l = 0; l < all.shape[0]; l++) {
        dd_tensor t, want = all;
        char name[NAME];
        double largest;
        snprintf(name, sizeof name, "%s.%d", prefix, l);
        if (dd_model_tensor(r->model, name, &t) != DD_OK) {
            return; /* plain models refine nothing */
        }
        want.data = (char *)all.data + (size_t)l * (size_t)all.stride[0] * sizeof(float);
        want.ndim = all.ndim - 1;
        memmove(want.shape, all.shape + 1, (size_t)want.ndim * sizeof *want.shape);
        memmove(want.stride, all.stride + 1, (size_t)want.ndim * sizeof *want.stride);
        read_values(&t);
        const double error = error_of(&want, got_values, &largest);
        check_case(error <= r->forward * largest, name, error, r->forward * largest);
    }
}

static void run_forward(replay *r)
{
    const dd_tensor pixels = expected(r, "pixel_values");
    int32_t *sizes = image_sizes(r);
    dd_tensor s;
    const int64_t shape[] = {pixels.shape[0], 2};
    if (dd_tensor_init(&s, sizes, DD_I32, 2, shape, NULL, DD_DEVICE_CPU, 0, 0) != DD_OK ||
        dd_model_forward(r->model, &pixels, &s) != DD_OK) {
        die("forward");
    }
    free(sizes);
}

static void compare_all(replay *r)
{
    for (int32_t i = 0; i < 4; i++) {
        char want[NAME], name[NAME];
        snprintf(want, sizeof want, "feat.stage%d", i + 1);
        snprintf(name, sizeof name, "backbone.%d", i);
        compare_forward(r, want, name);
        snprintf(want, sizeof want, "proj.level%d", i);
        snprintf(name, sizeof name, "features.%d", i);
        compare_forward(r, want, name);
    }
    compare_encoder(r);
    compare_forward(r, "ref.init", "reference");
    compare_forward(r, "logits", "logits");
    compare_forward(r, "boxes", "boxes");
    compare_forward(r, "enc.class", "proposal.logits");
    compare_forward(r, "enc.coord_logits", "proposal.boxes");
    compare_forward(r, "enc.topk", "proposal.top");
    compare_stacked(r, "dec.layers", has(r, "dec.hs") ? "raw" : "decoder"); /* two where heads have a norm of their own */
    compare_stacked(r, "dec.hs", "decoder");
    compare_stacked(r, "ref.inter", "refined");
}

/* ---- The loss: matched and differentiated by the library's operators */

static void *reals_of(const replay *r, const char *name)
{
    const dd_tensor t = expected(r, name);
    const int64_t count = count_of(&t);
    void *out = calloc((size_t)count + 1, sizeof(double));
    for (int64_t i = 0; i < count; i++) {
        if (r->dtype == DD_F64) {
            ((double *)out)[i] = value_at(&t, i);
        } else {
            ((float *)out)[i] = (float)value_at(&t, i);
        }
    }
    return out;
}

/* "loss.terms" or "encloss.terms"; the match of the encoder has a name of its own. */
static const char *loss_name(const replay *r, const char *part)
{
    static char name[NAME];
    snprintf(name, sizeof name, "%sloss.%s", r->loss, part);
    return name;
}

/* The query of each object of each layer; compared with the file's. */
static int32_t *match_objects(replay *r, const dd_op_det_loss *loss)
{
    const dd_tensor weights = expected(r, "match.cost_weights"),
                    want = expected(r, r->loss[0] ? "encloss.match" : "match.query");
    const int32_t S = loss->S, N = loss->N, G = loss->G, B = loss->B;
    void *cost = calloc((size_t)S * (size_t)G * (size_t)N + 1, sizeof(double));
    int32_t *match = malloc((size_t)S * (size_t)B * (size_t)N * sizeof *match);
    int64_t bad = INT64_MAX;
    const dd_op_gt_cost c = {.logits = loss->logits,
                             .boxes = loss->boxes,
                             .gt_boxes = loss->gt_boxes,
                             .gt_labels = loss->gt_labels,
                             .gt_offsets = loss->gt_offsets,
                             .cost = cost,
                             .bad = &bad,
                             .S = S,
                             .B = B,
                             .N = N,
                             .C = loss->C,
                             .G = G,
                             .w_class = value_at(&weights, 0),
                             .w_l1 = value_at(&weights, 1),
                             .w_giou = value_at(&weights, 2),
                             .class_eps = 1e-8};
    if (ddi_run(&r->exec, DD_OPERATOR_gt_cost, r->dtype, &c) != DD_OK) {
        die("matching cost");
    }
    for (int64_t i = 0; i < (int64_t)S * B * N; i++) {
        match[i] = -1;
    }
    for (int32_t s = 0; s < S; s++) {
        for (int32_t b = 0; b < B; b++) {
            const int32_t first = loss->gt_offsets[b], count = loss->gt_offsets[b + 1] - first;
            int32_t query[64];
            double total;
            const char *block =
                (char *)cost + ((size_t)s * (size_t)G + (size_t)first) * (size_t)N * (r->dtype == DD_F64 ? 8 : 4);
            const dd_status status = r->dtype == DD_F64 ? dd_assign_f64((const double *)block, count, N, N, 1, query, &total)
                                                        : dd_assign_f32((const float *)block, count, N, N, 1, query, &total);
            if (count > 0 && status != DD_OK) {
                die("assignment");
            }
            for (int32_t g = 0; g < count; g++) {
                match[((int64_t)s * B + b) * N + query[g]] = g;
                check_case(query[g] == (int32_t)value_at(&want, (int64_t)s * G + first + g), "match.query", query[g], 0);
            }
        }
    }
    free(cost);
    return match;
}

static void compare_losses(replay *r, const double *terms, int32_t S, int32_t B)
{
    const dd_tensor want = expected(r, loss_name(r, "terms")), weights = expected(r, "loss.weights"),
                    total = expected(r, loss_name(r, "total"));
    double sum = 0, largest;
    for (int32_t i = 0; i < 3 * S; i++) {
        got_values[i] = 0;
        for (int32_t b = 0; b < B; b++) {
            got_values[i] += terms[((int64_t)(i / 3) * B + b) * 3 + i % 3] / value_at(&weights, i % 3);
        }
        sum += got_values[i] * value_at(&weights, i % 3);
    }
    const double error = error_of(&want, got_values, &largest);
    check_case(error <= r->forward * largest, loss_name(r, "terms"), error, r->forward * largest);
    const double off = fabs(sum - value_at(&total, 0));
    check_case(off <= r->forward * sum, loss_name(r, "total"), off, r->forward * sum);
}

/* Of the decoder's layers, or of the encoder's proposals, which are matched as if all objects were of class 0. */
static void run_loss(replay *r)
{
    const bool encoder = r->loss[0] != '\0';
    const char *logits_name = encoder ? "proposal.logits" : "logits", *boxes_name = encoder ? "proposal.sigmoid" : "boxes";
    const dd_tensor offsets = expected(r, "labels.offsets"), labels = expected(r, "labels.class"),
                    weights = expected(r, "loss.weights");
    const dd_tensor boxes = expected(r, "loss.num_boxes");
    dd_tensor logits, found, g_logits, g_boxes;
    if (dd_model_tensor(r->model, logits_name, &logits) != DD_OK || dd_model_tensor(r->model, boxes_name, &found) != DD_OK ||
        dd_model_seed(r->model, logits_name, &g_logits) != DD_OK || dd_model_seed(r->model, boxes_name, &g_boxes) != DD_OK) {
        die("seeding");
    }
    void *gt_boxes = reals_of(r, "labels.boxes");
    int32_t *zeros = calloc((size_t)count_of(&labels) + 1, sizeof *zeros);
    const double each = 1 / value_at(&boxes, 0);
    const int64_t *shape = &logits.shape[encoder ? 0 : 1]; /* proposals have no layers in front */
    dd_op_det_loss a = {.logits = logits.data,
                        .boxes = found.data,
                        .gt_boxes = gt_boxes,
                        .gt_labels = encoder ? zeros : labels.data,
                        .gt_offsets = offsets.data,
                        .g_logits = g_logits.data,
                        .g_boxes = g_boxes.data,
                        .S = encoder ? 1 : (int32_t)logits.shape[0],
                        .B = (int32_t)shape[0],
                        .N = (int32_t)shape[1],
                        .C = (int32_t)shape[2],
                        .G = (int32_t)count_of(&labels),
                        .grad_scale = 1,
                        .scale_class = each * value_at(&weights, 0),
                        .scale_l1 = each * value_at(&weights, 1),
                        .scale_giou = each * value_at(&weights, 2)};
    int32_t *match = match_objects(r, &a);
    a.match = match;
    a.terms = calloc((size_t)a.S * (size_t)a.B * 3, sizeof(double));
    if (ddi_run(&r->exec, DD_OPERATOR_det_loss, r->dtype, &a) != DD_OK) {
        die("loss");
    }
    compare_losses(r, a.terms, a.S, a.B);
    free(a.terms);
    free(match);
    free(zeros);
    free(gt_boxes);
}

/* ---- Gradients of parameters: whole, or samples and signed sums (README of the folder) */

static uint32_t hash32(uint32_t i, uint32_t k)
{
    uint32_t u = i * 2654435761u + (k + 1) * 0x9E3779B9u;
    u ^= u >> 15;
    u *= 0x85EBCA6Bu;
    u ^= u >> 13;
    u *= 0xC2B2AE35u;
    return u ^ u >> 16;
}

/* "grad/NAME" or "encloss.grad/NAME". */
static void gradient_file_name(const replay *r, char out[2 * NAME], const char *kind, const char *name)
{
    snprintf(out, 2 * NAME, "%s%s/%s", r->loss[0] ? "encloss." : "", kind, name);
}

static double largest_gradient(const replay *r)
{
    char whole[2 * NAME], sample[2 * NAME];
    int32_t count;
    double largest = 0;
    gradient_file_name(r, whole, "grad", "model");
    gradient_file_name(r, sample, "gradsample", "");
    dd_tensorfile_count(r->file, &count);
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor t;
        dd_tensorfile_at(r->file, i, &name, &t);
        for (int64_t k = 0;
             (strncmp(name, whole, strlen(whole)) == 0 || strncmp(name, sample, strlen(sample)) == 0) && k < count_of(&t);
             k++) {
            largest = fmax(largest, fabs(value_at(&t, k)));
        }
    }
    return largest;
}

/* The file may name a head's gradient with or without "model.decoder.", as the checkpoint did. */
static const char *gradient_name(const replay *r, const char *name)
{
    static const char decoder[] = "model.decoder.";
    static char other[NAME + 16];
    char want[2 * NAME];
    const bool below = strncmp(name, decoder, strlen(decoder)) == 0;
    snprintf(other, sizeof other, "%s%s", below ? "" : decoder, below ? name + strlen(decoder) : name);
    for (int i = 0; i < 2; i++) {
        gradient_file_name(r, want, i ? "gradstat" : "grad", other);
        if (has(r, want)) {
            gradient_file_name(r, want, i ? "gradstat" : "grad", name);
            return has(r, want) ? name : other;
        }
    }
    return name;
}

static void compare_gradient(replay *r, const char *name, const dd_tensor *grad, double zero)
{
    char want_name[2 * NAME];
    name = gradient_name(r, name);
    const int64_t n = count_of(grad);
    double largest = 0, error;
    read_values(grad);
    gradient_file_name(r, want_name, "grad", name);
    if (has(r, want_name)) {
        const dd_tensor want = expected(r, want_name);
        error = error_of(&want, got_values, &largest);
        const double allowed = r->gradient * (largest > 0 ? largest : zero);
        check_case(error <= allowed, want_name, error, allowed);
        r->worst_gradient = largest > 0 ? fmax(r->worst_gradient, error / largest) : r->worst_gradient;
        return;
    }
    gradient_file_name(r, want_name, "gradstat", name);
    if (r->loss[0] && !has(r, want_name)) { /* nothing of the encoder's loss reaches the decoder */
        error_of(grad, got_values, &largest);
        check_case(largest == 0, name, largest, 0);
        return;
    }
    const dd_tensor stat = expected(r, want_name);
    double sum[6] = {0};
    for (int64_t i = 0; i < n; i++) {
        sum[0] += got_values[i] * got_values[i];
        sum[1] += got_values[i];
        for (uint32_t k = 0; k < 4; k++) {
            sum[2 + k] += hash32((uint32_t)i, k) >> 7 & 1 ? got_values[i] : -got_values[i];
        }
    }
    sum[0] = sqrt(sum[0]);
    const double length = value_at(&stat, 0) > 0 ? value_at(&stat, 0) : zero; /* 0: by symmetry, as the README lists them */
    for (int32_t k = 0; k < 6; k++) {
        error = fabs(sum[k] - value_at(&stat, k));
        check_case(error <= r->gradient * length, want_name, error, r->gradient * length);
    }
    gradient_file_name(r, want_name, "gradsample", name);
    if (r->loss[0] && !has(r, want_name)) { /* of the encoder's loss most have the sums alone */
        return;
    }
    const dd_tensor sample = expected(r, want_name);
    int64_t step = n / 200 > 1 ? n / 200 : 1;
    while (step > 1 && (step % 2 == 0 || step % 3 == 0)) {
        step++;
    }
    for (int64_t i = 0; i < count_of(&sample); i++) {
        got_values[i] = got_values[i * step];
    }
    error = error_of(&sample, got_values, &largest);
    largest = largest > 0 ? largest : zero;
    check_case(error <= r->gradient * largest, want_name, error, r->gradient * largest);
    r->worst_gradient = fmax(r->worst_gradient, error / largest);
}

static void run_backward(replay *r)
{
    int32_t count, trained;
    const double zero = largest_gradient(r);
    if (dd_model_backward(r->model) != DD_OK || dd_model_parameter_count(r->model, &count) != DD_OK) {
        die("backward");
    }
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view, grad;
        dd_model_parameter_at(r->model, i, &name, &view, &trained);
        if (trained && dd_model_gradient(r->model, name, &grad) == DD_OK) {
            compare_gradient(r, name, &grad, zero);
        }
    }
}

/* ---- */

static void read_tolerances(replay *r, const char *folder)
{
    char path[1024], text[8192];
    snprintf(path, sizeof path, "%s/README.txt", folder);
    FILE *file = fopen(path, "r");
    const size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[length] = '\0';
    const char *at = strstr(text, "per tensor): forward ");
    if (file) {
        fclose(file);
    }
    if (!at || sscanf(at, "per tensor): forward %lf, gradient %lf", &r->forward, &r->gradient) != 2) {
        fprintf(stderr, "golden_hf: %s has no line of tolerances\n", path);
        exit(2);
    }
}

static void replay_folder(const char *folder, const char *device, const char *dtype)
{
    replay r = {.loss = "", .dtype = strcmp(dtype, "f64") == 0 ? DD_F64 : DD_F32};
    char text[1200];
    const int before = failed;
    read_tolerances(&r, folder);
    snprintf(text, sizeof text, "device=%s", device);
    if (dd_context_create(&r.context, text) != DD_OK) {
        die("context");
    }
    ddi_exec_init(&r.exec, r.context);
    snprintf(text, sizeof text, "dtype=%s", dtype);
    if (dd_model_load(&r.model, r.context, folder, text) != DD_OK) {
        if (strcmp(dd_error_subject(), "model_type") == 0) {
            printf("skipped: %s\n", dd_error_message());
            skipped++;
            dd_context_free(r.context);
            return;
        }
        die(folder);
    }
    snprintf(text, sizeof text, "%s/case.safetensors", folder);
    if (dd_tensorfile_open(&r.file, text) != DD_OK) {
        die(text);
    }
    run_forward(&r);
    compare_all(&r);
    run_loss(&r);
    run_backward(&r);
    if (has(&r, "encloss.terms")) {
        r.loss = "enc";
        dd_model_zero_gradients(r.model);
        run_forward(&r);
        run_loss(&r);
        run_backward(&r);
    }
    const char *name = strrchr(folder, '/');
    printf("%-36s %s %s  forward %.1e of %.0e  gradient %.1e of %.0e  %s\n", name ? name + 1 : folder, device, dtype,
           r.worst_forward, r.forward, r.worst_gradient, r.gradient, failed == before ? "ok" : "FAILED");
    dd_tensorfile_free(r.file);
    dd_model_free(r.model);
    ddi_exec_free(&r.exec);
    dd_context_free(r.context);
}

int main(int count, char **words)
{
    const char *device = getenv("DETRDISTILL_GOLDEN_DEVICE"), *dtype = getenv("DETRDISTILL_GOLDEN_DTYPE");
    got_values = malloc(MOST_VALUES * sizeof *got_values);
    for (int i = 1; i < count; i++) {
        replay_folder(words[i], device ? device : "ref", dtype ? dtype : "f32");
    }
    free(got_values);
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed > 0 || count < 2;
}
