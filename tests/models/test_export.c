/* SPDX-License-Identifier: Apache-2.0
 * Models as checkpoints of other programs: what is written and read comes back to the bit, and files of the programs
 * themselves, too. Families that the library does not have yet are passed over. */
#include "models/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "foreign.h"

static char path[2][64];

static dd_context *new_context(void)
{
    dd_context *context;
    good(dd_context_create(&context, "device=ref"));
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "/tmp/dd-export-%d-%d.safetensors", (int)getpid(), i);
    }
    return context;
}

static void end(dd_context *context)
{
    dd_context_free(context);
    unlink(path[0]);
    unlink(path[1]);
}

static int64_t bytes_of(const dd_tensor *t)
{
    int64_t bytes = dd_dtype_size(t->dtype);
    for (int32_t i = 0; i < t->ndim; i++) {
        bytes *= t->shape[i];
    }
    return bytes;
}

/* Every tensor of the first but counters of batches is in the second, with the same bits; returns how many there are. */
static int32_t assert_holds(const dd_tensorfile *small, const dd_tensorfile *large)
{
    int32_t count = 0;
    for (int32_t i = 0; i < small->tensor_count; i++) {
        const char *name = small->tensor[i].name;
        dd_tensor a = small->tensor[i].view, b;
        if (strstr(name, "num_batches_tracked")) {
            continue;
        }
        if (dd_tensorfile_get(large, name, &b) != DD_OK) {
            fail_msg("%s is missing", name);
        }
        if (a.ndim != b.ndim || bytes_of(&a) != bytes_of(&b) || memcmp(a.data, b.data, (size_t)bytes_of(&a)) != 0) {
            fail_msg("%s differs", name);
        }
        count++;
    }
    return count;
}

static void assert_same_files(const char *a, const char *b)
{
    dd_tensorfile *file[2];
    good(dd_tensorfile_open(&file[0], a));
    good(dd_tensorfile_open(&file[1], b));
    assert_int_equal(assert_holds(file[0], file[1]), assert_holds(file[1], file[0]));
    dd_tensorfile_free(file[0]);
    dd_tensorfile_free(file[1]);
}

/* The first layer's head, for one that was shared and now is repeated. */
static const ddi_param *first_head(const dd_model *m, const char *name)
{
    char first[DDI_NAME_BYTES];
    const char *number = strstr(name, "_embed.");
    if (!number) {
        return NULL;
    }
    number += strlen("_embed.");
    snprintf(first, sizeof first, "%.*s0%s", (int)(number - name), name, number + strspn(number, "0123456789"));
    return ddi_params_find(&m->params, first);
}

/* Parameters by name; biases that one does not have are zero in the other. */
static void assert_same_models(const dd_model *a, const dd_model *b)
{
    for (int32_t i = 0; i < a->params.count; i++) {
        const ddi_param *p = a->params.all[i], *q = ddi_params_find(&b->params, p->name);
        q = q ? q : first_head(b, p->name);
        const size_t prefix = strlen(ddi_backbone_prefix);
        if (!q && strncmp(p->name, ddi_backbone_prefix, prefix) == 0) {
            continue; /* of another program's names; the files are compared */
        }
        if (!q && strncmp(p->name, "model.input_proj.", 17) == 0 && strstr(p->name, ".0.bias")) {
            for (int64_t k = 0; k < p->count; k++) {
                assert_true(((const float *)(const void *)p->data)[k] == 0);
            }
            continue;
        }
        if (!q) {
            fail_msg("%s is missing", p->name);
        }
        assert_memory_equal(p->data, q->data, (size_t)p->count * sizeof(float));
    }
}

static void there_and_back(dd_context *context, dd_model *model, const ddi_keymap *map)
{
    char words[128];
    dd_model *again;
    snprintf(words, sizeof words, "names=%s", map->convention);
    good(dd_model_export(model, path[0], words));
    snprintf(words, sizeof words, "heads=4 queries=%d", (int)model->net.config.queries);
    good(dd_model_load(&again, context, path[0], words));
    assert_ptr_equal(again->net.config.detector, model->net.config.detector);
    assert_same_models(again, model);
    snprintf(words, sizeof words, "names=%s", map->convention);
    good(dd_model_export(again, path[1], words));
    assert_same_files(path[0], path[1]);
    dd_model_free(again);
}

/* Of folders, to each program that has files of the family. */
static void every_convention(void **state)
{
    static const char *const folders[] = {
        "deformable_plain_basic",           "deformable_plain_bottleneck", "deformable_refine_basic",
        "deformable_refine_bottleneck",     "deformable_twostage_basic",   "deformable_twostage_bottleneck",
        "deformable_refine_timm_hublayout", "conditional_basic",           "conditional_bottleneck"};
    dd_context *context = new_context();
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char name[64], folder[1024];
        dd_model *model;
        snprintf(name, sizeof name, "hf/%s", folders[i]);
        dd_tensorfile_free(open_golden(name)); /* skips where there is none */
        snprintf(folder, sizeof folder, "%s/golden/%s", SHARED_DIR, name);
        good(dd_model_load(&model, context, folder, NULL));
        const ddi_keymap *map;
        for (int32_t m = 0; (map = ddi_keymap_at(m)) != NULL; m++) {
            const bool own = strcmp(map->family, model->net.config.detector->type) == 0;
            if (own && strncmp(map->convention, "mmdet", 5) == 0 && strncmp(folders[i], "deformable", 10) == 0) {
                char words[64];
                snprintf(words, sizeof words, "names=%s", map->convention);
                assert_int_equal(dd_model_export(model, path[0], words), DD_ERR_UNSUPPORTED); /* its neck has biases */
                continue;
            }
            if (own) {
                there_and_back(context, model, map);
            }
        }
        dd_model_free(model);
    }
    end(context);
}

/* New models as mmdetection has them, of every family and kind. */
static void new_models(void **state)
{
    static const char *const models[] = {"family=deformable-detr",
                                         "family=deformable-detr refine=1",
                                         "family=deformable-detr refine=1 two-stage=1",
                                         "family=conditional-detr",
                                         "family=adamixer encoder-layers=0 in-points=4 out-points=8",
                                         "family=dino",
                                         "family=dino shared-class-head=1 shared-box-head=1"};
    dd_context *context = new_context();
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char words[512];
        dd_model *model;
        snprintf(
            words, sizeof words,
            "neck-bias=%d classes=80 queries=12 backbone=resnet-18 stem=8 depths=1,1,1,1 widths=8,16,16,32 width=32 heads=4 "
            "encoder-layers=2 decoder-layers=3 points=2 ffn=32 %s",
            strstr(models[i], "conditional") || strstr(models[i], "adamixer"), models[i]);
        good(dd_model_create(&model, context, words));
        const ddi_keymap *map;
        for (int32_t m = 0; (map = ddi_keymap_at(m)) != NULL; m++) {
            if (strcmp(map->family, model->net.config.detector->type) != 0) {
                continue;
            }
            if (map->one_head && !strstr(models[i], "shared")) {
                snprintf(words, sizeof words, "names=%s", map->convention);
                assert_int_equal(dd_model_export(model, path[0], words), DD_ERR_UNSUPPORTED); /* heads of layers differ */
            } else {
                there_and_back(context, model, map);
            }
        }
        dd_model_free(model);
    }
    end(context);
}

/* Checkpoints that mmdetection itself wrote. */
static void files_of_programs(void **state)
{
    static const struct {
        const char *folder, *names, *options;
    } files[] = {{"openmmlab/dino_basic_dn", "mmdet3", "heads=4"},
                 {"openmmlab/dino_bottleneck_dn", "mmdet3", "heads=4"},
                 {"openmmlab/adamixer_basic", "mmdet", "heads=4"},
                 {"openmmlab/adamixer_bottleneck", "mmdet", "heads=4"}};
    dd_context *context = new_context();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char from[1024], words[64];
        dd_model *model;
        dd_tensorfile_free(open_golden(files[i].folder));
        snprintf(from, sizeof from, "%s/golden/%s/model.safetensors", SHARED_DIR, files[i].folder);
        good(dd_model_load(&model, context, from, files[i].options));
        snprintf(words, sizeof words, "names=%s", files[i].names);
        good(dd_model_export(model, path[0], words));
        assert_same_files(from, path[0]);
        dd_model_free(model);
    }
    end(context);
}

#define SMALL                                                                                                                  \
    "queries=6 backbone=resnet-18 stem=8 depths=1,1,1,1 widths=8,8,8,8 width=32 heads=4 encoder-layers=1 decoder-layers=2 "    \
    "points=2 ffn=32 levels=3"

/* 80 classes become 91 ids, and 80 again. */
static void ids_of_coco(void **state)
{
    dd_context *context = new_context();
    dd_model *model, *again;
    dd_tensorfile *file;
    dd_tensor t;
    good(dd_model_create(&model, context, SMALL));
    good(dd_model_export(model, path[0], "names=official coco-ids=1"));
    good(dd_tensorfile_open(&file, path[0]));
    for (int32_t layer = 0; layer < 2; layer++) {
        char name[64];
        snprintf(name, sizeof name, "class_embed.%d.bias", layer);
        good(dd_tensorfile_get(file, name, &t));
        assert_int_equal(t.shape[0], 91);
        assert_float_equal(((const float *)t.data)[0], -1e4, 0); /* no id */
        assert_true(((const float *)t.data)[90] > -10);          /* the last */
    }
    good(dd_tensorfile_get(file, "class_embed.0.weight", &t));
    for (int32_t k = 0; k < 32; k++) {
        assert_true(((const float *)t.data)[12 * 32 + k] == 0);
    }
    dd_tensorfile_free(file);
    good(dd_model_load(&again, context, path[0], "heads=4 coco=1"));
    assert_same_models(again, model);
    dd_model_free(again);
    dd_model_free(model);
    end(context);
}

static void errors(void **state)
{
    dd_context *context = new_context();
    dd_model *model;
    good(dd_model_create(&model, context, SMALL));
    assert_int_equal(dd_model_export(model, path[0], "names=yolo"), DD_ERR_OPTION);
    assert_non_null(strstr(dd_error_message(), "official, mmdet2, mmdet3"));
    assert_int_equal(dd_model_export(model, path[0], NULL), DD_ERR_OPTION);
    assert_int_equal(dd_model_export(model, path[0], "nose=1"), DD_ERR_OPTION);
    assert_int_equal(dd_model_export(model, "/nowhere/a.safetensors", "names=official"), DD_ERR_IO);
    assert_int_equal(dd_model_export(model, NULL, "names=official"), DD_ERR_ARGUMENT);
    dd_model_free(model);
    end(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_convention), cmocka_unit_test(new_models),
                                       cmocka_unit_test(files_of_programs), cmocka_unit_test(ids_of_coco),
                                       cmocka_unit_test(errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
