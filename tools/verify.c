/* SPDX-License-Identifier: Apache-2.0
 * detrdistill verify: a training step of small detectors on each kind of kernels that this machine can run, held to numbers
 * that the float64 reference left. */
#include "common.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const option verify_options[] = {
    {"--kernels", NULL, NULL, "also which kernel each operator takes"},
    {"--write", NULL, NULL, "write the numbers of the float64 reference, as verify_vectors.inc.h has them"},
    {"--json", NULL, NULL, "one JSON object instead of a table"},
    {NULL, NULL, NULL, NULL},
};

enum { SIDE = 64, IMAGES = 2, OBJECTS = 5, CLASSES = 5, CASES = 3, PARTS = 6, NUMBERS = 2 + 2 + 2 * PARTS, MACHINES = 5 };

/* Loss, and along a fixed direction and as length: logits, boxes, the gradient of each part. */
static const double vectors[CASES][NUMBERS] = {
#include "verify_vectors.inc.h"
};

static const char *const number_names[NUMBERS] = {
    "total",   "terms",          "logits",  "boxes",          "backbone", "backbone.length", "neck",  "neck.length",
    "encoder", "encoder.length", "decoder", "decoder.length", "heads",    "heads.length",    "other", "other.length"};

/* What the distiller is asked for; together they run every module. */
static const char *const case_words[CASES] = {"profile=default", "profile=paper", "profile=as-published adaptor=auto"};
static const char student_words[] =
    "backbone=resnet-18 depths=1,1,1,1 widths=16,16,32,32 stem=16 width=32 levels=3 heads=2 points=2 ffn=48 "
    "queries=12 encoder-layers=1 decoder-layers=2 refine=1 classes=5";
static const char teacher_words[] =
    "backbone=resnet-50 depths=1,1,1,1 widths=16,32,32,64 stem=16 width=64 levels=4 heads=4 points=2 ffn=64 "
    "queries=16 encoder-layers=2 decoder-layers=4 two-stage=1 refine=1 classes=5";

typedef struct machine {
    const char *name, *context, *type;
    double tolerance; /* of the length of what is compared */
} machine;

static const machine machines[MACHINES] = {{"reference, float64", "device=ref", "f64", 1e-9},
                                           {"reference, float32", "device=ref", "f32", 1e-4},
                                           {"cpu, portable", "device=cpu isa=none", "f32", 1e-4},
                                           {"cpu, up to avx2", "device=cpu isa=avx2", "f32", 1e-4},
                                           {"cpu, up to avx512", "device=cpu isa=avx512", "f32", 1e-4}};

typedef struct scene {
    float pixels[IMAGES * 3 * SIDE * SIDE];
    dd_context *context;
    dd_model *student, *teacher;
    dd_distiller *distiller;
} scene;

/* ---- Numbers that depend on two counters alone, in -1 .. 1 */

static double noise(uint64_t stream, uint64_t index)
{
    uint64_t x = stream * 0x9E3779B97F4A7C15u + index + 1;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return (double)(int64_t)(x >> 40) / (double)(1 << 23) - 1;
}

static uint64_t hash(const char *name)
{
    uint64_t h = 14695981039346656037u;
    for (; *name; name++) {
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    }
    return h >> 16;
}

static int64_t count_of(const dd_tensor *t)
{
    int64_t count = 1;
    for (int32_t d = 0; d < t->ndim; d++) {
        count *= t->shape[d];
    }
    return count;
}

static double get(const dd_tensor *t, int64_t i)
{
    return t->dtype == DD_F64 ? ((const double *)t->data)[i] : (double)((const float *)t->data)[i];
}

static void set(const dd_tensor *t, int64_t i, double value)
{
    if (t->dtype == DD_F64) {
        ((double *)t->data)[i] = (double)(float)value;
    } else {
        ((float *)t->data)[i] = (float)value;
    }
}

/* Weights of a size that keeps activations in range; biases small, norms around one. */
static dd_status fill_model(dd_model *model)
{
    int32_t count = 0;
    dd_status status = dd_model_parameter_count(model, &count);
    for (int32_t k = 0; k < count && status == DD_OK; k++) {
        const char *name;
        dd_tensor view;
        int32_t trained;
        status = dd_model_parameter_at(model, k, &name, &view, &trained);
        if (status != DD_OK || !trained) {
            continue;
        }
        const int64_t elements = count_of(&view);
        const double fan = view.ndim > 1 ? (double)(elements / view.shape[0]) : 1;
        const bool norm = view.ndim == 1 && strstr(name, "weight");
        for (int64_t i = 0; i < elements; i++) {
            set(&view, i,
                norm ? 1 + noise(hash(name), (uint64_t)i) / 8
                     : noise(hash(name), (uint64_t)i) * (view.ndim > 1 ? 1.7 / sqrt(fan) : .1));
        }
    }
    return status;
}

static dd_status open_scene(scene *s, const machine *m, const char *words)
{
    char text[MOST_WORDS];
    memset(s, 0, sizeof *s);
    for (int i = 0; i < IMAGES * 3 * SIDE * SIDE; i++) {
        s->pixels[i] = (float)(noise(1, (uint64_t)(i / 7)) + noise(2, (uint64_t)i) / 4);
    }
    dd_status status = dd_context_create(&s->context, m->context);
    snprintf(text, sizeof text, "%s dtype=%s training=0 gradients=1", student_words, m->type);
    status = status ? status : dd_model_create(&s->student, s->context, text);
    snprintf(text, sizeof text, "%s dtype=%s training=0 gradients=0", teacher_words, m->type);
    status = status ? status : dd_model_create(&s->teacher, s->context, text);
    status = status ? status : fill_model(s->student);
    status = status ? status : fill_model(s->teacher);
    status = status ? status : dd_distiller_create(&s->distiller, s->context, words);
    return status ? status : dd_distiller_attach(s->distiller, s->student, s->teacher);
}

static void close_scene(scene *s)
{
    dd_distiller_free(s->distiller);
    dd_model_free(s->student);
    dd_model_free(s->teacher);
    dd_context_free(s->context);
}

/* The distiller's own parameters, too, come from noise and not from its start values. */
static dd_status fill_distiller(dd_distiller *distiller)
{
    int32_t count = 0;
    dd_status status = dd_distiller_parameter_count(distiller, &count);
    for (int32_t k = 0; k < count && status == DD_OK; k++) {
        const char *name;
        dd_tensor value, gradient;
        status = dd_distiller_parameter_at(distiller, k, &name, &value, &gradient);
        for (int64_t i = 0; status == DD_OK && i < count_of(&value); i++) {
            set(&value, i, noise(hash(name), (uint64_t)i) * .2);
        }
    }
    return status;
}

static dd_status bind_batch(scene *s)
{
    static int32_t sizes[IMAGES * 2] = {SIDE, SIDE, 48, 56}, labels[OBJECTS] = {0, 3, 1, 4, 2},
                                  offsets[IMAGES + 1] = {0, 3, OBJECTS};
    static float boxes[OBJECTS * 4] = {.3f, .4f, .2f,  .3f, .7f, .6f,  .4f, .5f, .5f, .2f,
                                       .1f, .1f, .25f, .7f, .3f, .35f, .6f, .5f, .7f, .8f};
    const struct {
        const char *name;
        void *data;
        int32_t dtype, ndim;
        int64_t shape[4];
    } all[] = {{"pixels", s->pixels, DD_F32, 4, {IMAGES, 3, SIDE, SIDE}},
               {"image.sizes", sizes, DD_I32, 2, {IMAGES, 2}},
               {"gt.boxes", boxes, DD_F32, 2, {OBJECTS, 4}},
               {"gt.labels", labels, DD_I32, 1, {OBJECTS}},
               {"gt.offsets", offsets, DD_I32, 1, {IMAGES + 1}}};
    dd_status status = DD_OK;
    for (size_t i = 0; i < sizeof all / sizeof all[0] && status == DD_OK; i++) {
        dd_tensor view;
        status = dd_tensor_init(&view, all[i].data, all[i].dtype, all[i].ndim, all[i].shape, NULL, DD_DEVICE_CPU, 0, 0);
        status = status ? status : dd_distiller_bind(s->distiller, all[i].name, &view);
    }
    return status;
}

/* ---- What a step left */

static int part_of(const char *name)
{
    static const char *const mark[PARTS - 1] = {"backbone", "input_proj", "encoder.layers", "decoder.layers", "_embed."};
    for (int p = 0; p < PARTS - 1; p++) {
        if (strstr(name, mark[p])) {
            return p;
        }
    }
    return PARTS - 1;
}

static dd_status read_gradients(dd_model *model, double *out)
{
    int32_t count = 0;
    dd_status status = dd_model_parameter_count(model, &count);
    for (int32_t k = 0; k < count && status == DD_OK; k++) {
        const char *name;
        dd_tensor view;
        int32_t trained;
        status = dd_model_parameter_at(model, k, &name, &view, &trained);
        if (status != DD_OK || !trained) {
            continue;
        }
        status = dd_model_gradient(model, name, &view);
        double *part = out + 2 * part_of(name);
        for (int64_t i = 0; status == DD_OK && i < count_of(&view); i++) {
            const double g = get(&view, i);
            part[0] += g * noise(hash(name) + 1, (uint64_t)i);
            part[1] += g * g;
        }
    }
    for (int p = 0; p < PARTS; p++) {
        out[2 * p + 1] = sqrt(out[2 * p + 1]);
    }
    return status;
}

static dd_status read_output(dd_model *model, const char *name, double *out)
{
    dd_tensor view;
    const dd_status status = dd_model_tensor(model, name, &view);
    for (int64_t i = 0; status == DD_OK && i < count_of(&view); i++) {
        *out += get(&view, i) * noise(hash(name), (uint64_t)i);
    }
    return status;
}

static dd_status read_terms(dd_distiller *distiller, double *out)
{
    int32_t count = 0;
    dd_status status = dd_distiller_term_count(distiller, &count);
    for (int32_t i = 0; i < count && status == DD_OK; i++) {
        const char *name;
        double value = 0;
        status = dd_distiller_term_at(distiller, i, &name, &value);
        *out += value * (1 + noise(hash(name), 0) / 2);
    }
    return status;
}

static dd_status run_case(const machine *m, const char *words, double number[NUMBERS])
{
    static scene s;
    memset(number, 0, NUMBERS * sizeof *number);
    dd_status status = open_scene(&s, m, words);
    status = status ? status : fill_distiller(s.distiller);
    status = status ? status : bind_batch(&s);
    status = status ? status : dd_distiller_step(s.distiller, &number[0]);
    status = status ? status : read_terms(s.distiller, &number[1]);
    status = status ? status : read_output(s.student, "logits", &number[2]);
    status = status ? status : read_output(s.student, "boxes", &number[3]);
    status = status ? status : read_gradients(s.student, number + 4);
    char message[256];
    snprintf(message, sizeof message, "%s", dd_error_message());
    close_scene(&s);
    if (status != DD_OK) {
        complain(EXIT_FAILED, "verify", "%s: %s", m->name, message);
    }
    return status;
}

/* The largest difference of a case, in tolerances; `worst`: where. */
static double compare(const double *got, const double *stored, double tolerance, int *worst)
{
    double largest = 0;
    for (int i = 0; i < NUMBERS; i++) {
        /* A gradient along a direction is judged by its length, which stands behind it. */
        const double scale = i >= 4 ? stored[i | 1] : fabs(stored[i]);
        double off = fabs(got[i] - stored[i]) / (tolerance * (scale > 1e-12 ? scale : 1e-12));
        off = off >= 0 ? off : 1e30; /* NaN */
        if (off > largest) {
            largest = off;
            *worst = i;
        }
    }
    return largest;
}

static void print_kernels(const machine *m)
{
    static const char *const ops[] = {
#define DD_OP(name, arguments, what) #name,
#include <detrdistill/sys/ops.def>
#undef DD_OP
    };
    dd_context *context = NULL;
    if (dd_context_create(&context, m->context) != DD_OK) {
        return;
    }
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        const char *kernel;
        const int32_t type = strcmp(m->type, "f64") == 0 ? DD_F64 : DD_F32;
        printf("    %-24s %s\n", ops[i], dd_context_kernel(context, ops[i], type, &kernel) == DD_OK ? kernel : "none");
    }
    dd_context_free(context);
}

static int verify_machine(const verb *v, const char *const *values, const machine *m, bool first)
{
    double number[NUMBERS], largest = 0;
    int at = 0;
    const char *in = case_words[0];
    for (int c = 0; c < CASES; c++) {
        int worst = 0;
        if (run_case(m, case_words[c], number) != DD_OK) {
            return EXIT_FAILED;
        }
        const double off = compare(number, vectors[c], m->tolerance, &worst);
        if (off > largest) {
            largest = off;
            at = worst;
            in = case_words[c];
        }
    }
    if (is_given(v, values, "--json")) {
        printf("%s\"%s\": {\"good\": %s, \"difference\": %.3g, \"tolerance\": %.3g}", first ? "" : ", ", m->name,
               largest <= 1 ? "true" : "false", largest * m->tolerance, m->tolerance);
    } else {
        printf("%-20s %-6s largest difference %.1e of %.1e (%s, %s)\n", m->name, largest <= 1 ? "good" : "WRONG",
               largest * m->tolerance, m->tolerance, number_names[at], in);
        if (is_given(v, values, "--kernels")) {
            print_kernels(m);
        }
    }
    return largest <= 1 ? EXIT_DONE : EXIT_FAILED;
}

static int write_vectors(void)
{
    printf("/* generated by detrdistill verify --write: do not edit */\n");
    for (int c = 0; c < CASES; c++) {
        double number[NUMBERS];
        if (run_case(&machines[0], case_words[c], number) != DD_OK) {
            return EXIT_FAILED;
        }
        printf("{");
        for (int i = 0; i < NUMBERS; i++) {
            printf("%s%.17g", i ? ", " : "", number[i]);
        }
        printf("}%s\n", c + 1 < CASES ? "," : "");
    }
    return EXIT_DONE;
}

int run_verify(const verb *v, const char *const *values)
{
    const bool json = is_given(v, values, "--json");
    int code = EXIT_DONE;
    if (is_given(v, values, "--write")) {
        return write_vectors();
    }
    if (json) {
        printf("{");
    }
    for (int i = 0; i < MACHINES; i++) {
        code = verify_machine(v, values, &machines[i], i == 0) == EXIT_DONE ? code : EXIT_FAILED;
    }
    if (json) {
        printf("}\n");
    }
    return code;
}
