/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints of other programs become models that compute what the Hugging Face folder computes. */
#include "models/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "foreign.h"

enum { SIDE = 64 };

static char path[128]; /* of the file that a test writes */
static char logged[4096];

static void take_path(const char *ending)
{
    snprintf(path, sizeof path, "/tmp/dd-checkpoint-%d%s", (int)getpid(), ending);
}

static void note_line(void *user, int32_t level, const char *line)
{
    strncat(logged, line, sizeof logged - strlen(logged) - 2);
    strcat(logged, "\n");
}

static dd_context *new_context(void)
{
    dd_context *context;
    good(dd_context_create(&context, "device=ref"));
    good(dd_context_set_log(context, note_line, NULL, DD_LOG_INFO));
    logged[0] = '\0';
    return context;
}

static void golden_folder(char *folder, size_t size, const char *name)
{
    snprintf(folder, size, "%s/golden/hf/%s", SHARED_DIR, name);
}

/* The last stage's logits and boxes of a picture, added up with signs so that places count. */
static double answer(dd_model *model)
{
    static float pixels[3 * SIDE * SIDE];
    dd_tensor x;
    double sum = 0;
    for (int i = 0; i < 3 * SIDE * SIDE; i++) {
        pixels[i] = (float)(i * 31 % 101) / 50 - 1;
    }
    good(dd_tensor_init(&x, pixels, DD_F32, 4, (int64_t[]){1, 3, SIDE, SIDE}, NULL, DD_DEVICE_CPU, 0, 0));
    good(dd_model_forward(model, &x, NULL));
    for (int k = 0; k < 2; k++) {
        dd_tensor t;
        good(dd_model_tensor(model, k ? "boxes" : "logits", &t));
        for (int64_t i = 0; i < t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3]; i++) {
            sum += (double)((const float *)t.data)[i] * (double)(i % 17 - 8);
        }
    }
    return sum;
}

static void zero_neck_biases(dd_model *model)
{
    for (int32_t i = 0; i < model->params.count; i++) {
        const ddi_param *p = model->params.all[i];
        if (strncmp(p->name, "model.input_proj.", 17) == 0 && strstr(p->name, ".0.bias")) {
            memset(p->data, 0, (size_t)p->count * sizeof(float));
        }
    }
}

/* Programs repeat a shared head for every layer. */
static void repeat_heads(dd_tensorfile *file, const char *from, const char *to)
{
    const int32_t count = file->tensor_count;
    for (int32_t i = 0; i < count; i++) {
        const char *name = file->tensor[i].name, *at = strstr(name, from);
        if (at) {
            char copy[256];
            const dd_tensor view = file->tensor[i].view;
            snprintf(copy, sizeof copy, "%.*s%s%s", (int)(at - name), name, to, at + strlen(from));
            good(dd_tensorfile_set(file, copy, &view));
        }
    }
}

static void foreign_files(void **state)
{
    static const struct {
        const char *folder, *convention, *prefix, *options, *repeat[4];
        bool neck_bias;
    } cases[] = {{"deformable_plain_basic",
                  "official",
                  "module.",
                  "heads=4",
                  {"class_embed.0", "class_embed.1", "bbox_embed.0", "bbox_embed.1"},
                  true},
                 {"deformable_plain_basic",
                  "mmdet2",
                  "student.",
                  "heads=4",
                  {"cls_branches.0", "cls_branches.1", "reg_branches.0", "reg_branches.1"},
                  false},
                 {"deformable_plain_basic", "mmdet3", "teacher.", "heads=4 side=teacher", {NULL}, false},
                 {"deformable_refine_timm_hublayout", "official", "", "heads=4", {NULL}, true},
                 {"deformable_twostage_basic", "mmdet3", "", "heads=4 queries=12", {NULL}, false},
                 {"conditional_basic",
                  "official",
                  "",
                  "heads=4",
                  {"layers.0.ca_qpos_proj", "layers.1.ca_qpos_proj", "layers.0.ca_qpos_proj", "layers.2.ca_qpos_proj"},
                  true},
                 {"conditional_basic", "mmdet3", "student.", "heads=4", {NULL}, true}};
    take_path(".safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[64], folder[512];
        dd_context *context = new_context();
        dd_model *want, *have;
        snprintf(name, sizeof name, "hf/%s", cases[i].folder);
        golden_folder(folder, sizeof folder, cases[i].folder);
        dd_tensorfile *file = open_golden(name);
        good(dd_model_load(&want, context, folder, NULL));
        const ddi_keymap *map = ddi_keymap_find(want->net.config.detector->type, cases[i].convention);
        dd_tensorfile *foreign = as_foreign(file, map, cases[i].prefix, cases[i].neck_bias);
        for (int k = 0; k < 4 && cases[i].repeat[k]; k += 2) {
            repeat_heads(foreign, cases[i].repeat[k], cases[i].repeat[k + 1]);
        }
        good(dd_tensorfile_save(foreign, path));
        if (!cases[i].neck_bias) {
            zero_neck_biases(want);
        }
        good(dd_model_load(&have, context, path, cases[i].options));
        assert_int_equal(have->net.config.neck_bias, cases[i].neck_bias);
        assert_int_equal(have->net.config.refine, want->net.config.refine);
        assert_int_equal(have->net.config.queries, want->net.config.two_stage ? 12 : want->net.config.queries);
        if (!want->net.config.two_stage || want->net.config.queries == 12) {
            assert_true(answer(have) == answer(want));
        }
        dd_model_free(want);
        dd_model_free(have);
        dd_tensorfile_free(foreign);
        dd_tensorfile_free(file);
        dd_context_free(context);
        unlink(path);
    }
}

/* ---- DINO: the golden file has mmdetection's names, and no folder */

static void new_folder(char folder[64])
{
    snprintf(folder, 64, "/tmp/dd-checkpoint-XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static void remove_folder(const char *folder)
{
    char name[128];
    snprintf(name, sizeof name, "%s/config.json", folder);
    unlink(name);
    snprintf(name, sizeof name, "%s/model.safetensors", folder);
    unlink(name);
    assert_int_equal(rmdir(folder), 0);
}

/* The model as a folder of ours that has the constants of another program. */
static dd_model *with_constants(dd_context *context, dd_model *model, const ddi_model_config *of)
{
    char folder[64];
    dd_model *again;
    new_folder(folder);
    model->net.config.head_eps = of->head_eps;
    model->net.config.position_temperature = of->position_temperature;
    model->net.config.position_offset = of->position_offset;
    good(dd_model_save(model, folder));
    good(dd_model_load(&again, context, folder, NULL));
    remove_folder(folder);
    return again;
}

static void files_of_dino(void **state)
{
    static const struct {
        const char *convention;
        double eps, temperature, offset;
        bool neck_bias;
    } cases[] = {{"mmdet3", 1e-5, 20, 0, false}, {"official", 1e-3, 20, 0, true}, {"detrex", 1e-3, 10000, -0.5, true}};
    char golden[512];
    dd_context *context = new_context();
    take_path(".safetensors");
    snprintf(golden, sizeof golden, "%s/golden/openmmlab/dino_basic_nodn/model.safetensors", SHARED_DIR);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dd_model *first, *want, *have;
        dd_tensorfile *file = open_golden("openmmlab/dino_basic_nodn");
        good(ddi_keymap_rename(file, ddi_keymap_find("dino", "mmdet3"), NULL, NULL));
        dd_tensorfile *foreign = as_foreign(file, ddi_keymap_find("dino", cases[i].convention), "", cases[i].neck_bias);
        good(dd_tensorfile_save(foreign, path));
        good(dd_model_load(&have, context, path, "heads=4"));
        const ddi_model_config *c = &have->net.config;
        assert_true(c->head_eps == cases[i].eps && c->position_temperature == cases[i].temperature &&
                    c->position_offset == cases[i].offset && c->neck_bias == cases[i].neck_bias);
        assert_true(!c->shared_class_head && !c->shared_box_head && c->queries == 14 && c->label_rows == 7);
        good(dd_model_load(&first, context, golden, "heads=4"));
        want = with_constants(context, first, c);
        assert_true(answer(have) == answer(want));
        dd_model_free(first);
        dd_model_free(want);
        dd_model_free(have);
        dd_tensorfile_free(foreign);
        dd_tensorfile_free(file);
    }
    dd_context_free(context);
    unlink(path);
}

/* The official program's own form: one head for all layers, stored for each, and a label more than there are classes. */
static void shared_heads_of_dino(void **state)
{
    char folder[64], weights[128];
    dd_context *context = new_context();
    dd_tensorfile *file;
    dd_model *want, *have;
    good(dd_model_create(&want, context,
                         "family=dino backbone=resnet-18 stem=8 depths=1,1,1,1 widths=8,8,16,32 width=32 heads=4 ffn=32 "
                         "encoder-layers=1 decoder-layers=2 queries=9 classes=5 label-rows=6 neck-bias=1 shared-class-head=1 "
                         "shared-box-head=1 box-eps=0.001"));
    new_folder(folder);
    good(dd_model_save(want, folder));
    snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
    good(dd_tensorfile_open(&file, weights));
    dd_tensorfile *foreign = as_foreign(file, ddi_keymap_find("dino", "official"), "", true);
    repeat_heads(foreign, "class_embed.0", "class_embed.1");
    repeat_heads(foreign, "bbox_embed.0", "bbox_embed.1");
    take_path(".safetensors");
    good(dd_tensorfile_save(foreign, path));
    good(dd_model_load(&have, context, path, "heads=4"));
    const ddi_model_config *c = &have->net.config;
    assert_true(c->shared_class_head && c->shared_box_head && c->label_rows == 6 && c->classes == 5);
    assert_true(answer(have) == answer(want));
    dd_model_free(want);
    dd_model_free(have);
    dd_tensorfile_free(foreign);
    dd_tensorfile_free(file);
    remove_folder(folder);
    dd_context_free(context);
    unlink(path);
}

/* ---- What does not fit */

static void expect(dd_context *context, const char *options, dd_status status, const char *words)
{
    dd_model *model = NULL;
    assert_int_equal(dd_model_load(&model, context, path, options), status);
    assert_null(model);
    if (!strstr(dd_error_message(), words)) {
        fail_msg("'%s' lacks '%s'", dd_error_message(), words);
    }
}

static dd_tensorfile *copy_without(const dd_tensorfile *file, const char *const *left_out)
{
    dd_tensorfile *copy;
    good(dd_tensorfile_create(&copy));
    for (int32_t i = 0; i < file->tensor_count; i++) {
        bool keep = true;
        for (int k = 0; left_out[k]; k++) {
            keep = keep && strcmp(file->tensor[i].name, left_out[k]) != 0;
        }
        if (keep) {
            good(dd_tensorfile_set(copy, file->tensor[i].name, &file->tensor[i].view));
        }
    }
    return copy;
}

/* 91 rows of classes become the 80 that COCO has; the first layer's projection may be in all layers of a folder. */
static void conditional_coco(void **state)
{
    static float rows[91 * 32];
    dd_context *context = new_context();
    dd_tensorfile *file = open_golden("hf/conditional_basic");
    dd_tensor view;
    dd_model *model;
    take_path(".safetensors");
    for (int i = 0; i < 91 * 32; i++) {
        rows[i] = (float)(i / 32);
    }
    good(dd_tensor_init(&view, rows, DD_F32, 2, (int64_t[]){91, 32}, NULL, DD_DEVICE_CPU, 0, 0));
    good(dd_tensorfile_set(file, "class_labels_classifier.weight", &view));
    good(dd_tensor_init(&view, rows, DD_F32, 1, (int64_t[]){91}, NULL, DD_DEVICE_CPU, 0, 0));
    good(dd_tensorfile_set(file, "class_labels_classifier.bias", &view));
    good(dd_tensorfile_get(file, "model.decoder.layers.0.ca_qpos_proj.bias", &view));
    good(dd_tensorfile_set(file, "model.decoder.layers.1.ca_qpos_proj.bias", &view));
    good(dd_tensorfile_save(file, path));
    good(dd_model_load(&model, context, path, "heads=4 coco=1"));
    assert_int_equal(model->net.config.classes, 80);
    for (int32_t i = 0; i < model->params.count; i++) {
        const ddi_param *p = model->params.all[i];
        if (strcmp(p->name, "class_labels_classifier.weight") == 0) { /* the last is id 90; the twelfth id 13 */
            assert_true(((const float *)p->data)[79 * 32] == 90 && ((const float *)p->data)[11 * 32] == 13);
        }
    }
    dd_model_free(model);
    dd_tensorfile_free(file);
    dd_context_free(context);
    unlink(path);
}

static void strict_names(void **state)
{
    static const char *const gone[] = {"model.encoder.layers.0.fc2.bias", "model.decoder.layers.1.fc1.bias", NULL};
    static const char *const none[] = {NULL};
    dd_context *context = new_context();
    dd_tensorfile *file = open_golden("hf/deformable_plain_basic");
    const dd_tensor bias = file->tensor[0].view;
    take_path(".safetensors");
    dd_tensorfile *changed = copy_without(file, gone);
    good(dd_tensorfile_save(changed, path));
    expect(context, "heads=4", DD_ERR_NOT_FOUND, "the file lacks 2 tensors: 'model.encoder.layers.0.fc2.bias'");
    assert_non_null(strstr(logged, "the file lacks: model.decoder.layers.1.fc1.bias"));
    dd_tensorfile_free(changed);
    changed = copy_without(file, none);
    good(dd_tensorfile_set(changed, "model.encoder.layers.0.extra", &bias));
    good(dd_tensorfile_save(changed, path));
    expect(context, "heads=4", DD_ERR_FORMAT, "this model does not know 'model.encoder.layers.0.extra'");
    dd_tensor short_bias;
    good(dd_tensorfile_get(file, "class_embed.0.bias", &short_bias));
    good(dd_tensorfile_set(changed, "model.encoder.layers.0.fc2.bias", &short_bias));
    good(dd_tensorfile_save(changed, path));
    expect(context, "heads=4", DD_ERR_SHAPE, "'model.encoder.layers.0.fc2.bias' is [");
    expect(context, "heads=3", DD_ERR_SHAPE, "give heads=");
    expect(context, "map=/nowhere", DD_ERR_IO, "/nowhere");
    dd_tensorfile_free(changed);
    dd_tensorfile_free(file);
    file = open_golden("hf/conditional_basic");
    good(dd_tensorfile_save(file, path));
    expect(context, "heads=5", DD_ERR_FORMAT, "numbers of heads");
    dd_tensorfile_free(file);
    float numbers[4] = {0};
    dd_tensor strange;
    good(dd_tensor_init(&strange, numbers, DD_F32, 1, (int64_t[]){4}, NULL, DD_DEVICE_CPU, 0, 0));
    good(dd_tensorfile_create(&file));
    good(dd_tensorfile_set(file, "net.0.w", &strange));
    good(dd_tensorfile_save(file, path));
    expect(context, NULL, DD_ERR_FORMAT, "'net.0.w', ..");
    dd_tensorfile_free(file);
    dd_context_free(context);
    unlink(path);
}

/* A file with names of its own, and rules for them. */
static void rules_from_a_file(void **state)
{
    char rules[160], options[256], folder[512];
    dd_context *context = new_context();
    dd_model *have, *want;
    dd_tensorfile *file = open_golden("hf/deformable_plain_basic"), *other;
    good(dd_tensorfile_create(&other));
    for (int32_t i = 0; i < file->tensor_count; i++) {
        char name[300];
        snprintf(name, sizeof name, "my.%s", file->tensor[i].name);
        good(dd_tensorfile_set(other, name, &file->tensor[i].view));
    }
    take_path(".safetensors");
    good(dd_tensorfile_save(other, path));
    snprintf(rules, sizeof rules, "%s.map", path);
    FILE *text = fopen(rules, "w");
    assert_non_null(text);
    fputs("# all of them\nmy.* -> *\n", text);
    fclose(text);
    snprintf(options, sizeof options, "heads=4 map=%s", rules);
    good(dd_model_load(&have, context, path, options));
    golden_folder(folder, sizeof folder, "deformable_plain_basic");
    good(dd_model_load(&want, context, folder, NULL));
    assert_true(answer(have) == answer(want));
    dd_model_free(have);
    dd_model_free(want);
    dd_tensorfile_free(file);
    dd_tensorfile_free(other);
    dd_context_free(context);
    unlink(path);
    unlink(rules);
}

/* ---- Backbones */

#define SMALL "backbone=resnet-18 width=32 heads=4 ffn=32 encoder-layers=0 decoder-layers=1 queries=3 classes=2 gradients=0 "

static const float *values(dd_model *model, const char *name)
{
    char whole[256];
    snprintf(whole, sizeof whole, "%s%s", ddi_backbone_prefix, name);
    const ddi_param *p = ddi_params_find(&model->params, whole);
    assert_non_null(p);
    return (const float *)(const void *)p->data;
}

static void folded_trunk(void **state)
{
    char options[512];
    dd_context *context = new_context();
    dd_tensorfile *file;
    dd_model *model, *plain;
    dd_tensor view;
    const char *trunk = SHARED_DIR "/data/resnet18-trunk/resnet18_trunk_bnfolded.safetensors";
    if (dd_tensorfile_open(&file, trunk) != DD_OK) {
        dd_context_free(context);
        print_message("skipped: %s\n", dd_error_message());
        skip();
    }
    snprintf(options, sizeof options, SMALL "backbone-weights=%s", trunk);
    good(dd_model_create(&model, context, options));
    good(dd_model_create(&plain, context, SMALL));
    assert_non_null(strstr(logged, "16 of the backbone's 20 convolutions"));
    good(dd_tensorfile_get(file, "layer2.0.downsample.0.weight", &view));
    assert_memory_equal(values(model, "encoder.stages.1.layers.0.shortcut.convolution.weight"), view.data, 128 * 64 * 4);
    good(dd_tensorfile_get(file, "layer3.1.conv2.bias", &view));
    const ddi_resnet_conv *c = &model->net.backbone.block[5].conv[1];
    for (int i = 0; i < 256; i++) {
        assert_true(fabsf(((const float *)(const void *)c->shift)[i] - ((const float *)view.data)[i]) < 1e-6f);
        assert_true(fabsf(((const float *)(const void *)c->scale)[i] - 1) < 1e-6f);
    }
    /* What the file lacks starts as without it. */
    assert_memory_equal(values(model, "encoder.stages.3.layers.1.layer.0.convolution.weight"),
                        values(plain, "encoder.stages.3.layers.1.layer.0.convolution.weight"), 512 * 512 * 9 * 4);
    snprintf(options, sizeof options, SMALL "stem=8 widths=8,8,16,16 backbone-weights=%s", trunk);
    dd_model_free(plain);
    assert_int_equal(dd_model_create(&plain, context, options), DD_ERR_SHAPE);
    assert_non_null(strstr(dd_error_message(), "none of its convolutions fits"));
    dd_model_free(model);
    dd_tensorfile_free(file);
    dd_context_free(context);
}

/* A backbone with norms, under torchvision's names. */
static void norms_of_torchvision(void **state)
{
    char options[512];
    dd_context *context = new_context();
    dd_tensorfile *file = open_golden("hf/deformable_refine_timm_hublayout"), *resnet;
    dd_model *model;
    dd_tensor view;
    good(dd_tensorfile_create(&resnet));
    const size_t prefix = strlen(ddi_backbone_prefix);
    for (int32_t i = 0; i < file->tensor_count; i++) {
        if (strncmp(file->tensor[i].name, ddi_backbone_prefix, prefix) == 0) {
            good(dd_tensorfile_set(resnet, file->tensor[i].name + prefix, &file->tensor[i].view));
        }
    }
    take_path(".safetensors");
    good(dd_tensorfile_save(resnet, path));
    snprintf(options, sizeof options, SMALL "depths=1,1,1,1 widths=8,8,16,32 backbone-weights=%s", path);
    good(dd_model_create(&model, context, options));
    good(dd_tensorfile_get(resnet, "layer3.0.bn2.running_var", &view));
    assert_memory_equal(values(model, "encoder.stages.2.layers.0.layer.1.normalization.running_var"), view.data, 16 * 4);
    good(dd_tensorfile_get(resnet, "bn1.weight", &view));
    assert_memory_equal(values(model, "embedder.embedder.normalization.weight"), view.data, 64 * 4);
    dd_model_free(model);
    dd_tensorfile_free(resnet);
    dd_tensorfile_free(file);
    dd_context_free(context);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(foreign_files), cmocka_unit_test(conditional_coco),
                                       cmocka_unit_test(files_of_dino), cmocka_unit_test(shared_heads_of_dino),
                                       cmocka_unit_test(strict_names),  cmocka_unit_test(rules_from_a_file),
                                       cmocka_unit_test(folded_trunk),  cmocka_unit_test(norms_of_torchvision)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
