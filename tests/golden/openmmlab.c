/* SPDX-License-Identifier: Apache-2.0
 * Replays folders of golden/openmmlab: checkpoints of mmdetection's DINO and of AdaMixer, their outputs, matches, losses and
 * gradients.
 *
 *     golden_openmmlab FOLDER..      with DETRDISTILL_GOLDEN_DEVICE=ref|cpu, DETRDISTILL_GOLDEN_DTYPE=f32|f64
 *
 * Each expected tensor is one case. */
#include "openmmlab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed, skipped;

void must(dd_status status, const char *what)
{
    if (status != DD_OK) {
        fprintf(stderr, "golden_openmmlab: %s: %s\n", what, dd_error_message());
        exit(2);
    }
}

void check_case(bool good, const char *name, double error, double allowed)
{
    passed += good;
    failed += !good;
    if (!good) {
        printf("FAILED %s: error %.3g, allowed %.3g\n", name, error, allowed);
    }
}

/* ---- Numbers of the files */

double setting(const replay *r, const char *path)
{
    struct json_object *at = r->config;
    char part[NAME];
    for (const char *rest = path; rest; rest = strchr(rest, '.') ? strchr(rest, '.') + 1 : NULL) {
        snprintf(part, sizeof part, "%.*s", (int)strcspn(rest, "."), rest);
        if (!json_object_object_get_ex(at, part, &at)) {
            fprintf(stderr, "golden_openmmlab: config.json has no %s\n", path);
            exit(2);
        }
    }
    return json_object_get_double(at);
}

bool has(const replay *r, const char *name)
{
    dd_tensor t;
    return dd_tensorfile_get(r->file, name, &t) == DD_OK;
}

dd_tensor expected(const replay *r, const char *name)
{
    dd_tensor t;
    must(dd_tensorfile_get(r->file, name, &t), name);
    return t;
}

double real_of(const replay *r, const ddi_value *v, int64_t i)
{
    return r->dtype == DD_F64 ? ((const double *)(const void *)v->data)[i] : (double)((const float *)(const void *)v->data)[i];
}

/* ---- Comparing */

void compare(replay *r, const char *name, const double *got, const unsigned char *skip, double tolerance)
{
    const dd_tensor want = expected(r, name);
    double error = 0, largest = 0;
    for (int64_t i = 0; i < count_of(&want); i++) {
        const double w = value_at(&want, i);
        if (skip && skip[i]) {
            continue;
        }
        largest = fmax(largest, fabs(w));
        error = fmax(error, isfinite(got[i]) ? fabs(got[i] - w) : INFINITY);
    }
    check_case(error <= tolerance * largest, name, error, tolerance * largest);
    if (largest > 0) {
        r->worst_forward = fmax(r->worst_forward, error / largest);
    }
}

void compare_tensor(replay *r, const char *want, const char *name)
{
    dd_tensor t;
    if (!has(r, want)) {
        return;
    }
    must(dd_model_tensor(r->model, name, &t), name);
    const dd_tensor all = expected(r, want);
    if (count_of(&all) != count_of(&t)) {
        check_case(false, want, INFINITY, 0);
        return;
    }
    double *got = malloc((size_t)count_of(&t) * sizeof *got);
    for (int64_t i = 0; i < count_of(&t); i++) {
        got[i] = value_at(&t, i);
    }
    compare(r, want, got, NULL, FORWARD);
    free(got);
}

void compare_exactly(replay *r, const char *name, const dd_tensor *got)
{
    const dd_tensor want = expected(r, name);
    int64_t different = count_of(&want) != count_of(got);
    for (int64_t i = 0; different == 0 && i < count_of(&want); i++) {
        different += value_at(&want, i) != value_at(got, i);
    }
    check_case(different == 0, name, (double)different, 0);
}

void compare_term(const replay *r, const char *want, const char *name)
{
    const dd_tensor t = expected(r, want);
    double got = 0;
    if (dd_distiller_term_get(r->distiller, name, &got) != DD_OK) {
        got = 0; /* a module that had nothing to do */
    }
    const double error = fabs(got - value_at(&t, 0)), allowed = LOSS * fabs(value_at(&t, 0));
    check_case(error <= allowed, want, error, allowed);
}

void compare_matches(replay *r, const char *layer)
{
    char name[NAME];
    dd_tensor all, one;
    must(dd_distiller_result(r->distiller, "match.det", &all), "match.det");
    for (int32_t i = 0; i < r->model->net.config.decoder_layers; i++) {
        one = all;
        one.data = (int32_t *)all.data + i * all.stride[0];
        one.shape[0] = 1;
        snprintf(name, sizeof name, "match.%s%d", layer, i);
        compare_exactly(r, name, &one);
    }
}

void compare_losses(const replay *r, const char *layer, const char *prefix, const char *ours)
{
    static const char *const kinds[][2] = {{"cls", "class"}, {"bbox", "l1"}, {"iou", "giou"}};
    char want[NAME], name[NAME];
    for (int32_t k = 0; k < 3; k++) {
        for (int32_t i = 0; i < r->model->net.config.decoder_layers; i++) {
            snprintf(want, sizeof want, "loss.%s%d.%sloss_%s", layer, i, prefix, kinds[k][0]);
            snprintf(name, sizeof name, "loss.%s.stage%d.%s", ours, i, kinds[k][1]);
            compare_term(r, want, name);
        }
    }
}

/* ---- Gradients */

/* Loaded files have transformers' names for a backbone's convolutions and norms; here they are torchvision's. */
static void backbone_name(const char *name, char plain[DDI_KEY_BYTES])
{
    int stage, layer, conv;
    const char *at = strstr(name, "encoder.stages.");
    snprintf(plain, DDI_KEY_BYTES, "%s", name);
    if (!at || sscanf(at, "encoder.stages.%d.layers.%d.", &stage, &layer) != 2) {
        return;
    }
    const char *which = strstr(at, ".layer."), *end = strrchr(name, '.');
    const bool norm = strstr(at, ".normalization.") != NULL;
    if (which && sscanf(which, ".layer.%d.", &conv) == 1) {
        snprintf(plain, DDI_KEY_BYTES, "%.*slayer%d.%d.%s%d%s", (int)(at - name), name, stage + 1, layer, norm ? "bn" : "conv",
                 conv + 1, end);
    } else {
        snprintf(plain, DDI_KEY_BYTES, "%.*slayer%d.%d.downsample.%d%s", (int)(at - name), name, stage + 1, layer, norm, end);
    }
}

/* What another program calls a parameter of ours, and which of how many parts of its rows ours is. */
static bool foreign_name(const ddi_keymap *map, const char *ours, int32_t layers, char source[DDI_KEY_BYTES], int32_t *part,
                         int32_t *parts)
{
    char name[DDI_KEY_BYTES];
    backbone_name(ours, name);
    for (int32_t i = 0; i < map->rules; i++) {
        if (ddi_key_rule_invert(&map->rule[i], name, layers, source, part, parts)) {
            return true;
        }
    }
    return false;
}

static void compare_gradient(replay *r, const ddi_keymap *map, const char *name, const dd_tensor *grad)
{
    char source[DDI_KEY_BYTES], want_name[DDI_KEY_BYTES + 8];
    int32_t part = 0, parts = 1;
    if (!foreign_name(map, name, r->model->net.config.decoder_layers, source, &part, &parts)) {
        check_case(false, name, INFINITY, 0);
        return;
    }
    snprintf(want_name, sizeof want_name, "grad.%s", source);
    const bool known = has(r, want_name); /* trained, but not part of this case: zero */
    const dd_tensor want = known ? expected(r, want_name) : *grad;
    const int64_t count = count_of(grad);
    double error = 0, largest = 0;
    for (int64_t i = 0; i < count_of(&want); i++) {
        largest = known ? fmax(largest, fabs(value_at(&want, i))) : 0;
    }
    for (int64_t i = 0; i < count; i++) {
        error = fmax(error, fabs(value_at(grad, i) - (known ? value_at(&want, part * count + i) : 0)));
    }
    /* zero in theory where a norm has a channel for each of its groups: what arrives is rounding */
    const double allowed = fmax(GRADIENT * largest, largest < 1e-12 && known ? 1e-4 : 0);
    check_case(error <= allowed, want_name, error, allowed);
    if (largest > 1e-12) {
        r->worst_gradient = fmax(r->worst_gradient, error / largest);
    }
}

void compare_gradients(replay *r, const ddi_keymap *map)
{
    int32_t count, trained;
    must(dd_model_parameter_count(r->model, &count), "parameters");
    for (int32_t i = 0; i < count; i++) {
        const char *name;
        dd_tensor view, grad;
        must(dd_model_parameter_at(r->model, i, &name, &view, &trained), "parameters");
        if (trained) {
            must(dd_model_gradient(r->model, name, &grad), name);
            compare_gradient(r, map, name, &grad);
        }
    }
    int64_t size;
    must(dd_model_size(r->model, &size, NULL), "size");
    check_case((double)size == setting(r, "params_trainable"), "params_trainable", (double)size, 0);
}

/* ---- Detections */

static void compare_image(replay *r, int32_t b, int32_t most, bool clip, double *scores, double *boxes, int32_t *labels)
{
    const int32_t w = r->sizes[2 * b], h = r->sizes[2 * b + 1];
    int32_t count;
    const double *box, *score;
    const int64_t *label;
    must(dd_model_detections(r->model, b, w, h, most, 0, &count, &box, &label, &score, NULL), "detections");
    for (int32_t i = 0; i < count && i < most; i++) {
        scores[b * most + i] = score[i];
        labels[b * most + i] = (int32_t)label[i];
        for (int32_t k = 0; k < 4; k++) {
            const double side = box[4 * i + k % 2] + (k < 2 ? 0 : box[4 * i + k]), edge = k % 2 ? h : w;
            boxes[(b * most + i) * 4 + k] = clip ? fmin(fmax(side, 0), edge) : side;
        }
    }
}

void compare_predictions(replay *r, bool clip)
{
    if (!has(r, "pred.scores")) {
        return;
    }
    const dd_tensor pixels = expected(r, "in.images"), want = expected(r, "pred.scores");
    const int32_t most = (int32_t)(count_of(&want) / r->images);
    const size_t all = (size_t)count_of(&want);
    double *scores = calloc(all, sizeof *scores), *boxes = calloc(all * 4, sizeof *boxes);
    int32_t *labels = calloc(all, sizeof *labels);
    dd_tensor view;
    must(dd_tensor_init(&view, r->sizes, DD_I32, 2, (const int64_t[]){r->images, 2}, NULL, DD_DEVICE_CPU, 0, 0), "sizes");
    must(dd_model_set_mode(r->model, 0, 0), "mode");
    must(dd_model_forward(r->model, &pixels, &view), "forward");
    for (int32_t b = 0; b < r->images; b++) {
        compare_image(r, b, most, clip, scores, boxes, labels);
    }
    compare(r, "pred.scores", scores, NULL, FORWARD);
    compare(r, "pred.boxes", boxes, NULL, FORWARD);
    must(dd_tensor_init(&view, labels, DD_I32, 1, (const int64_t[]){(int64_t)all}, NULL, DD_DEVICE_CPU, 0, 0), "labels");
    compare_exactly(r, "pred.labels", &view);
    free(scores);
    free(boxes);
    free(labels);
}

/* ---- A folder */

/* The batch as the library takes it: sizes as (w,h), boxes in parts of the real image. */
static void read_batch(replay *r)
{
    const dd_tensor pixels = expected(r, "in.images"), hw = expected(r, "in.img_hw"), boxes = expected(r, "in.gt_boxes");
    const dd_tensor counts = expected(r, "in.gt_count"), labels = expected(r, "in.gt_labels");
    r->images = (int32_t)pixels.shape[0];
    r->height = (int32_t)pixels.shape[2];
    r->width = (int32_t)pixels.shape[3];
    r->sizes = calloc((size_t)r->images * 2, sizeof *r->sizes);
    r->offsets = calloc((size_t)r->images + 1, sizeof *r->offsets);
    r->labels = calloc((size_t)count_of(&labels) + 1, sizeof *r->labels);
    r->boxes = calloc((size_t)count_of(&boxes) + 4, sizeof *r->boxes);
    for (int32_t b = 0; b < r->images; b++) {
        r->sizes[2 * b] = (int32_t)value_at(&hw, 2 * b + 1);
        r->sizes[2 * b + 1] = (int32_t)value_at(&hw, 2 * b);
        r->offsets[b + 1] = r->offsets[b] + (int32_t)value_at(&counts, b);
        for (int32_t g = r->offsets[b]; g < r->offsets[b + 1]; g++) {
            r->labels[g] = (int32_t)value_at(&labels, g);
            for (int32_t k = 0; k < 2; k++) {
                const double low = value_at(&boxes, 4 * g + k), high = value_at(&boxes, 4 * g + 2 + k);
                r->boxes[4 * g + k] = (low + high) / 2 / r->sizes[2 * b + k];
                r->boxes[4 * g + 2 + k] = (high - low) / r->sizes[2 * b + k];
            }
        }
    }
}

static void bind(const replay *r, const char *name, void *data, int32_t dtype, int32_t ndim, const int64_t *shape)
{
    dd_tensor view;
    must(dd_tensor_init(&view, data, dtype, ndim, shape, NULL, DD_DEVICE_CPU, 0, 0), name);
    must(dd_distiller_bind(r->distiller, name, &view), name);
}

static void bind_batch(const replay *r)
{
    const dd_tensor pixels = expected(r, "in.images");
    const int64_t objects = r->offsets[r->images];
    must(dd_distiller_bind(r->distiller, "pixels", &pixels), "pixels");
    bind(r, "gt.boxes", r->boxes, DD_F64, 2, (const int64_t[]){objects, 4});
    bind(r, "gt.labels", r->labels, DD_I32, 1, (const int64_t[]){objects});
    bind(r, "gt.offsets", r->offsets, DD_I32, 1, (const int64_t[]){r->images + 1});
    bind(r, "image.sizes", r->sizes, DD_I32, 2, (const int64_t[]){r->images, 2});
}

static const struct family {
    const char *name;
    void (*replay)(replay *r);
} families[] = {{"dino", replay_dino}, {"adamixer", replay_adamixer}};

static const struct family *family_of(const replay *r)
{
    struct json_object *value;
    const char *name = json_object_object_get_ex(r->config, "family", &value) ? json_object_get_string(value) : "";
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (strcmp(families[i].name, name) == 0) {
            return &families[i];
        }
    }
    return NULL;
}

static void open_model(replay *r, const char *device)
{
    char text[1200], options[200];
    snprintf(text, sizeof text, "device=%s", device);
    must(dd_context_create(&r->context, text), "context");
    ddi_exec_init(&r->exec, r->context);
    snprintf(text, sizeof text, "%s/model.safetensors", r->folder);
    snprintf(options, sizeof options, "dtype=%s heads=%d training=1", r->dtype == DD_F64 ? "f64" : "f32",
             (int)setting(r, "heads"));
    must(dd_model_load(&r->model, r->context, text, options), text);
    snprintf(text, sizeof text, "%s/case.safetensors", r->folder);
    must(dd_tensorfile_open(&r->file, text), text);
    must(dd_distiller_create(&r->distiller, r->context, ""), "distiller");
    must(dd_distiller_attach(r->distiller, r->model, NULL), "attach");
    read_batch(r);
    bind_batch(r);
}

static void close_model(replay *r)
{
    dd_distiller_free(r->distiller);
    dd_tensorfile_free(r->file);
    dd_model_free(r->model);
    ddi_exec_free(&r->exec);
    dd_context_free(r->context);
    json_object_put(r->config);
    free(r->sizes);
    free(r->offsets);
    free(r->labels);
    free(r->boxes);
}

static void replay_folder(const char *folder, const char *device, const char *dtype)
{
    replay r = {.folder = folder, .dtype = strcmp(dtype, "f64") == 0 ? DD_F64 : DD_F32};
    char text[1200];
    const int before = failed;
    const char *slash = strrchr(folder, '/'), *name = slash && slash[1] ? slash + 1 : folder;
    snprintf(text, sizeof text, "%s/config.json", folder);
    r.config = json_object_from_file(text);
    const struct family *family = family_of(&r);
    if (!family) {
        printf("%-36s skipped: a family that is not replayed\n", name);
        skipped++;
        json_object_put(r.config);
        return;
    }
    open_model(&r, device);
    family->replay(&r);
    close_model(&r);
    printf("%-36s %s %s  forward %.1e of %.0e  gradient %.1e of %.0e  %s\n", name, device, dtype, r.worst_forward, FORWARD,
           r.worst_gradient, GRADIENT, failed == before ? "ok" : "FAILED");
}

int main(int count, char **words)
{
    const char *device = getenv("DETRDISTILL_GOLDEN_DEVICE"), *dtype = getenv("DETRDISTILL_GOLDEN_DTYPE");
    for (int i = 1; i < count; i++) {
        replay_folder(words[i], device ? device : "ref", dtype ? dtype : "f32");
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed > 0 || count < 2;
}
