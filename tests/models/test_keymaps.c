/* SPDX-License-Identifier: Apache-2.0
 * Names of other programs: single names by hand from the tables of the specification, whole models there and back, files. */
#include "base/alloc.h"
#include "models/keymap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "foreign.h"

/* ---- Single names */

typedef struct name_case {
    const char *family, *convention, *name, *wanted[3]; /* NULL: dropped */
} name_case;

static const name_case cases[] = {
    {"deformable_detr",
     "mmdet2",
     "backbone.layer2.0.downsample.0.weight",
     {"model.backbone.conv_encoder.model.layer2.0.downsample.0.weight"}},
    {"deformable_detr", "mmdet2", "backbone.bn1.num_batches_tracked", {NULL}},
    {"deformable_detr", "mmdet2", "neck.convs.1.gn.bias", {"model.input_proj.1.1.bias"}},
    {"deformable_detr", "mmdet2", "neck.extra_convs.0.conv.weight", {"model.input_proj.3.0.weight"}},
    {"deformable_detr", "mmdet2", "bbox_head.transformer.level_embeds", {"model.level_embed"}},
    {"deformable_detr",
     "mmdet2",
     "bbox_head.transformer.encoder.layers.5.attentions.0.sampling_offsets.weight",
     {"model.encoder.layers.5.self_attn.sampling_offsets.weight"}},
    {"deformable_detr",
     "mmdet2",
     "bbox_head.transformer.encoder.layers.0.ffns.0.layers.0.0.bias",
     {"model.encoder.layers.0.fc1.bias"}},
    {"deformable_detr",
     "mmdet2",
     "bbox_head.transformer.decoder.layers.3.attentions.0.attn.in_proj_bias",
     {"model.decoder.layers.3.self_attn.q_proj.bias", "model.decoder.layers.3.self_attn.k_proj.bias",
      "model.decoder.layers.3.self_attn.v_proj.bias"}},
    {"deformable_detr",
     "mmdet2",
     "bbox_head.transformer.decoder.layers.3.norms.1.weight",
     {"model.decoder.layers.3.encoder_attn_layer_norm.weight"}},
    {"deformable_detr", "mmdet2", "bbox_head.query_embedding.weight", {"model.query_position_embeddings.weight"}},
    {"deformable_detr", "mmdet2", "bbox_head.reg_branches.4.2.weight", {"bbox_embed.4.layers.1.weight"}},
    {"deformable_detr", "mmdet3", "memory_trans_fc.weight", {"model.enc_output.weight"}},
    {"deformable_detr",
     "mmdet3",
     "decoder.layers.0.cross_attn.value_proj.bias",
     {"model.decoder.layers.0.encoder_attn.value_proj.bias"}},
    {"deformable_detr", "mmdet3", "reference_points_fc.bias", {"model.reference_points.bias"}},
    {"deformable_detr",
     "official",
     "transformer.decoder.layers.1.norm1.weight",
     {"model.decoder.layers.1.encoder_attn_layer_norm.weight"}},
    {"deformable_detr",
     "official",
     "transformer.decoder.layers.1.norm2.weight",
     {"model.decoder.layers.1.self_attn_layer_norm.weight"}},
    {"deformable_detr",
     "official",
     "transformer.encoder.layers.1.norm2.bias",
     {"model.encoder.layers.1.final_layer_norm.bias"}},
    {"deformable_detr",
     "official",
     "transformer.decoder.bbox_embed.6.layers.2.bias",
     {"model.decoder.bbox_embed.6.layers.2.bias"}},
    {"conditional_detr",
     "official",
     "transformer.decoder.layers.1.norm1.weight",
     {"model.decoder.layers.1.self_attn_layer_norm.weight"}},
    {"conditional_detr",
     "official",
     "transformer.decoder.layers.0.ca_qpos_proj.weight",
     {"model.decoder.layers.0.ca_qpos_proj.weight"}},
    {"conditional_detr", "official", "transformer.decoder.layers.4.ca_qpos_proj.weight", {NULL}},
    {"conditional_detr",
     "mmdet3",
     "decoder.layers.2.cross_attn.qpos_sine_proj.bias",
     {"model.decoder.layers.2.ca_qpos_sine_proj.bias"}},
    {"conditional_detr", "mmdet3", "bbox_head.fc_reg.bias", {"bbox_predictor.layers.2.bias"}},
    {"conditional_detr", "mmdet3", "decoder.post_norm.bias", {"model.decoder.layernorm.bias"}},
    {"adamixer", "mmdet", "neck.lateral_convs.2.conv.bias", {"model.input_proj.2.bias"}},
    {"adamixer", "mmdet", "rpn_head.init_proposal_bboxes.weight", {"model.query_boxes.weight"}},
    {"adamixer",
     "mmdet",
     "roi_head.bbox_head.5.attention.attn.in_proj_weight",
     {"model.decoder.layers.5.self_attn.q_proj.weight", "model.decoder.layers.5.self_attn.k_proj.weight",
      "model.decoder.layers.5.self_attn.v_proj.weight"}},
    {"adamixer",
     "mmdet",
     "roi_head.bbox_head.1.sampling_n_mixing.adaptive_mixing.out_proj.bias",
     {"model.decoder.layers.1.mixing_out_proj.bias"}},
    {"adamixer", "mmdet", "roi_head.bbox_head.0.reg_fcs.1.weight", {"model.decoder.layers.0.box_head.layer_norm.weight"}},
    {"dino", "official", "transformer.enc_out_bbox_embed.layers.2.bias", {"model.enc_out_bbox_embed.layers.2.bias"}},
    {"dino",
     "official",
     "transformer.decoder.layers.0.norm1.weight",
     {"model.decoder.layers.0.encoder_attn_layer_norm.weight"}},
    {"dino",
     "official",
     "transformer.decoder.layers.2.self_attn.in_proj_bias",
     {"model.decoder.layers.2.self_attn.q_proj.bias", "model.decoder.layers.2.self_attn.k_proj.bias",
      "model.decoder.layers.2.self_attn.v_proj.bias"}},
    {"dino", "official", "label_enc.weight", {"model.label_embeddings.weight"}},
    {"dino", "official", "transformer.decoder.class_embed.0.weight", {NULL}},
    {"dino", "mmdet3", "bbox_head.cls_branches.6.weight", {"model.enc_out_class_embed.weight"}},
    {"dino", "mmdet3", "bbox_head.cls_branches.5.weight", {"class_embed.5.weight"}},
    {"dino", "mmdet3", "bbox_head.reg_branches.6.4.bias", {"model.enc_out_bbox_embed.layers.2.bias"}},
    {"dino", "mmdet3", "decoder.ref_point_head.layers.1.bias", {"model.decoder.ref_point_head.layers.1.bias"}},
    {"dino",
     "detrex",
     "backbone.res4.3.conv2.norm.running_var",
     {"model.backbone.conv_encoder.model.layer3.3.bn2.running_var"}},
    {"dino", "detrex", "bbox_embed.6.layers.0.weight", {"model.enc_out_bbox_embed.layers.0.weight"}},
    {"dino", "detrex", "neck.convs.2.norm.weight", {"model.input_proj.2.1.weight"}},
    {"resnet", "torchvision", "layer4.2.bn3.running_var", {"model.backbone.conv_encoder.model.layer4.2.bn3.running_var"}},
    {"resnet", "torchvision", "fc.weight", {NULL}},
};

static void maps_single_names(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const name_case *c = &cases[i];
        ddi_key_match match;
        const ddi_keymap *map = ddi_keymap_find(c->family, c->convention);
        assert_non_null(map);
        if (!ddi_keymap_apply(map, NULL, c->name, 6, &match)) {
            fail_msg("%s %s: no rule for %s", c->family, c->convention, c->name);
        }
        assert_int_equal(match.parts, c->wanted[0] == NULL ? 0 : c->wanted[1] ? 3 : 1);
        for (int32_t p = 0; p < match.parts; p++) {
            assert_string_equal(match.name[p], c->wanted[p]);
        }
    }
}

static void knows_no_strange_names(void **state)
{
    ddi_key_match match;
    static const char *const names[] = {"transformer.encoder.layers.x.norm1.weight", "query_embed.weights", "",
                                        "backbone.0.body."};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_false(ddi_keymap_apply(ddi_keymap_find("deformable_detr", "official"), NULL, names[i], 6, &match));
    }
    assert_null(ddi_keymap_find("deformable_detr", "keras"));
    assert_null(ddi_keymap_find("yolo", "official"));
}

/* ---- Whole models of the golden cases */

static const struct golden_case {
    const char *folder, *family, *convention;
} golden[] = {
    {"hf/deformable_plain_basic", "deformable_detr", "official"},
    {"hf/deformable_refine_timm_hublayout", "deformable_detr", "official"},
    {"hf/deformable_twostage_bottleneck", "deformable_detr", "official"},
    {"hf/deformable_plain_bottleneck", "deformable_detr", "mmdet2"},
    {"hf/deformable_twostage_basic", "deformable_detr", "mmdet2"},
    {"hf/deformable_plain_basic", "deformable_detr", "mmdet3"},
    {"hf/deformable_twostage_basic", "deformable_detr", "mmdet3"},
    {"hf/conditional_basic", "conditional_detr", "official"},
    {"hf/conditional_bottleneck", "conditional_detr", "mmdet3"},
    {"openmmlab/dino_basic_dn", "dino", "official"},
    {"openmmlab/dino_basic_nodn", "dino", "mmdet3"},
    {"openmmlab/dino_bottleneck_dn", "dino", "detrex"},
    {"openmmlab/adamixer_basic", "adamixer", "mmdet"},
};

/* With our names: the golden files of DINO and AdaMixer have mmdetection's. */
static dd_tensorfile *open_ours(const char *folder, const char *family)
{
    dd_tensorfile *file = open_golden(folder);
    const bool dino = strcmp(family, "dino") == 0, adamixer = strcmp(family, "adamixer") == 0;
    if (dino || adamixer) {
        good(ddi_keymap_rename(file, ddi_keymap_find(family, dino ? "mmdet3" : "mmdet"), NULL, NULL));
    }
    return file;
}

static void goes_there_and_back(void **state)
{
    for (size_t g = 0; g < sizeof golden / sizeof golden[0]; g++) {
        dd_tensorfile *file = open_ours(golden[g].folder, golden[g].family);
        const ddi_keymap *map = ddi_keymap_find(golden[g].family, golden[g].convention);
        const int32_t layers = count_layers(file);
        assert_non_null(map);
        for (int32_t i = 0; i < file->tensor_count; i++) {
            char source[DDI_KEY_BYTES];
            const char *name = file->tensor[i].name;
            ddi_key_match match;
            int32_t part, parts;
            if (!invert(map, name, layers, source, &part, &parts)) {
                fail_msg("%s, %s: nothing becomes %s", golden[g].folder, golden[g].convention, name);
            }
            assert_true(ddi_keymap_apply(map, NULL, source, layers, &match));
            assert_int_equal(match.parts, parts);
            if (strncmp(name, "model.decoder.class_embed", 25) != 0 && strncmp(name, "model.decoder.bbox_embed", 24) != 0) {
                assert_string_equal(match.name[part], name);
            }
        }
        dd_tensorfile_free(file);
    }
}

static void guesses_the_convention(void **state)
{
    static const struct {
        const char *folder, *family, *convention;
    } own[] = {{"hf/deformable_plain_basic", "deformable_detr", "huggingface"},
               {"hf/deformable_twostage_basic", "deformable_detr", "huggingface"},
               {"hf/conditional_basic", "conditional_detr", "huggingface"},
               {"openmmlab/dino_basic_dn", "dino", "mmdet3"},
               {"openmmlab/adamixer_bottleneck", "adamixer", "mmdet"}};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        dd_tensorfile *file = open_golden(own[i].folder);
        const ddi_keymap *map = ddi_keymap_guess(file, NULL);
        assert_ptr_equal(map, ddi_keymap_find(own[i].family, own[i].convention));
        dd_tensorfile_free(file);
    }
}

/* ---- Files */

static void assert_equal_or_zero(const dd_tensorfile *have, const dd_tensorfile *want, bool zero_bias)
{
    for (int32_t i = 0; i < want->tensor_count; i++) {
        const ddi_file_tensor *w = &want->tensor[i];
        dd_tensor view;
        const bool copy =
            strncmp(w->name, "model.decoder.class_embed", 25) == 0 || strncmp(w->name, "model.decoder.bbox_embed", 24) == 0;
        if (copy) {
            continue; /* mmdetection keeps one of them */
        }
        good(dd_tensorfile_get(have, w->name, &view));
        assert_int_equal(view.ndim, w->view.ndim);
        const size_t bytes = (size_t)(view.shape[0] * view.stride[0] * dd_dtype_size(view.dtype));
        if (zero_bias && strncmp(w->name, "model.input_proj.", 17) == 0 && strstr(w->name, ".0.bias")) {
            for (size_t k = 0; k < bytes; k++) {
                assert_int_equal(((const char *)view.data)[k], 0);
            }
        } else {
            assert_memory_equal(view.data, w->view.data, bytes);
        }
    }
}

static void renames_files(void **state)
{
    static const struct {
        const char *folder, *family, *convention, *prefix, *side;
        bool neck_bias;
    } all[] = {{"hf/deformable_plain_basic", "deformable_detr", "official", "", NULL, true},
               {"hf/deformable_plain_basic", "deformable_detr", "official", "module.", NULL, true},
               {"hf/deformable_plain_bottleneck", "deformable_detr", "mmdet2", "student.", NULL, false},
               {"hf/deformable_plain_basic", "deformable_detr", "mmdet2", "module.teacher.", "teacher.", false},
               {"hf/deformable_twostage_basic", "deformable_detr", "mmdet3", "", NULL, false},
               {"hf/conditional_basic", "conditional_detr", "official", "", NULL, true},
               {"hf/conditional_bottleneck", "conditional_detr", "mmdet3", "", NULL, true},
               {"openmmlab/dino_basic_dn", "dino", "official", "", NULL, true},
               {"openmmlab/dino_basic_nodn", "dino", "mmdet3", "", NULL, false},
               {"openmmlab/dino_bottleneck_dn", "dino", "detrex", "module.", NULL, true},
               {"openmmlab/adamixer_basic", "adamixer", "mmdet", "student.", NULL, true}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        dd_tensorfile *file = open_ours(all[i].folder, all[i].family);
        const ddi_keymap *map = ddi_keymap_find(all[i].family, all[i].convention);
        dd_tensorfile *foreign = as_foreign(file, map, all[i].prefix, all[i].neck_bias);
        const dd_tensor other = file->tensor[0].view;
        if (all[i].prefix[0] && all[i].prefix[0] != 'm') {
            good(dd_tensorfile_set(foreign, "teacher.backbone.conv1.weight", &other)); /* of the other side: not looked at */
        }
        assert_ptr_equal(ddi_keymap_guess(foreign, all[i].side), map);
        good(ddi_keymap_rename(foreign, map, NULL, all[i].side));
        assert_equal_or_zero(foreign, file, !all[i].neck_bias);
        dd_tensorfile_free(foreign);
        dd_tensorfile_free(file);
    }
}

static dd_tensorfile *file_of(int32_t count, const char *const *names, int64_t rows)
{
    static float numbers[92 * 4];
    dd_tensorfile *file;
    dd_tensor view;
    for (int i = 0; i < 92 * 4; i++) {
        numbers[i] = (float)i;
    }
    good(dd_tensor_init(&view, numbers, DD_F32, 2, (int64_t[]){rows, 4}, NULL, DD_DEVICE_CPU, 0, 0));
    good(dd_tensorfile_create(&file));
    for (int32_t i = 0; i < count; i++) {
        good(dd_tensorfile_set(file, names[i], &view));
    }
    return file;
}

static void leaves_a_file_alone_where_it_fails(void **state)
{
    const ddi_keymap *map = ddi_keymap_find("deformable_detr", "official");
    static const struct {
        const char *name[2];
        int64_t rows;
        dd_status status;
    } all[] = {{{"class_embed.0.weight", "what.is.this"}, 4, DD_ERR_FORMAT},
               {{"query_embed.weight", "module.query_embed.weight"}, 4, DD_ERR_FORMAT},
               {{"class_embed.0.weight", "transformer.decoder.layers.0.self_attn.in_proj_weight"}, 4, DD_ERR_SHAPE}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        dd_tensor view;
        dd_tensorfile *file = file_of(2, all[i].name, all[i].rows);
        assert_int_equal(ddi_keymap_rename(file, map, NULL, NULL), all[i].status);
        good(dd_tensorfile_get(file, all[i].name[0], &view));
        good(dd_tensorfile_get(file, all[i].name[1], &view));
        dd_tensorfile_free(file);
    }
}

static void takes_rules_of_the_user(void **state)
{
    static const char text[] =
        "# of my program\n  net.head.*.w -> class_embed.*.weight \r\n\nextra.* ->; a.*.b.# -> b.#.x.*\nqkv -> {q,k,v}";
    static const char *const bad[] = {"no arrow", " -> x", "a.* -> b.*.*", "a -> {b", "a -> {1,2,3,4}", "*#*#*#*#* -> x"};
    static const char *const names[] = {"net.head.0.w", "extra.1", "query_embed.weight"};
    ddi_key_rules rules;
    ddi_key_match match;
    good(ddi_key_rules_read(&rules, "rules", text, strlen(text)));
    assert_int_equal(rules.count, 4);
    assert_true(ddi_keymap_apply(NULL, &rules, "a.1.2.b.33", 0, &match));
    assert_string_equal(match.name[0], "b.1.2.x.33"); /* in order, whatever the wildcard */
    assert_true(ddi_keymap_apply(NULL, &rules, "qkv", 0, &match));
    assert_int_equal(match.parts, 3);
    assert_string_equal(match.name[2], "v");
    dd_tensorfile *file = file_of(3, names, 4);
    dd_tensor view;
    good(ddi_keymap_rename(file, ddi_keymap_find("deformable_detr", "official"), &rules, NULL));
    good(dd_tensorfile_get(file, "class_embed.0.weight", &view));
    good(dd_tensorfile_get(file, "model.query_position_embeddings.weight", &view));
    assert_int_equal(file->tensor_count, 2);
    dd_tensorfile_free(file);
    ddi_key_rules_free(&rules);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(ddi_key_rules_read(&rules, "rules", bad[i], strlen(bad[i])), DD_ERR_FORMAT);
        ddi_key_rules_free(&rules);
    }
}

static void keeps_the_rows_of_coco(void **state)
{
    static const char *const names[] = {"class_embed.0.weight", "bbox_embed.0.layers.0.weight"};
    dd_tensorfile *file = file_of(2, names, 91);
    dd_tensor view;
    good(ddi_keymap_select_coco(file));
    good(dd_tensorfile_get(file, names[1], &view));
    assert_int_equal(view.shape[0], 91);
    good(dd_tensorfile_get(file, names[0], &view));
    assert_int_equal(view.shape[0], 80);
    const float *rows = view.data;
    assert_int_equal((int)rows[0], 4);           /* person is 1 */
    assert_int_equal((int)rows[11 * 4], 13 * 4); /* stop sign is 13 */
    assert_int_equal((int)rows[79 * 4], 90 * 4); /* toothbrush is 90 */
    assert_int_equal((int)rows[60 * 4], 67 * 4); /* dining table is 67 */
    dd_tensorfile_free(file);
    static const char *const table[] = {"model.label_embeddings.weight"}; /* with a row for no label */
    file = file_of(1, table, 92);
    good(ddi_keymap_select_coco(file));
    good(dd_tensorfile_get(file, table[0], &view));
    assert_int_equal(view.shape[0], 80);
    assert_int_equal((int)((const float *)view.data)[79 * 4], 90 * 4);
    dd_tensorfile_free(file);
}

static void every_failing_call_is_an_error(void **state)
{
#ifndef DDI_FAULT_POINTS
    print_message("skipped: a build without fault points\n");
    skip();
#else
    static const char *const names[] = {"transformer.decoder.layers.0.self_attn.in_proj_weight", "input_proj.0.0.weight"};
    const int64_t before = ddi_default_allocator.live_blocks;
    dd_status status = DD_ERR_NOMEM;
    int n = 1;
    for (; status != DD_OK; n++) {
        dd_tensorfile *file = file_of(2, names, 6);
        dd_tensor view;
        assert_in_range(n, 1, 1000);
        dd_fault_set(n, 0);
        status = ddi_keymap_rename(file, ddi_keymap_find("deformable_detr", "official"), NULL, NULL);
        dd_fault_set(0, 0);
        assert_true(status == DD_OK || status == DD_ERR_NOMEM);
        good(dd_tensorfile_get(file, status == DD_OK ? "model.input_proj.0.0.bias" : names[0], &view));
        dd_tensorfile_free(file);
        assert_int_equal(ddi_default_allocator.live_blocks, before);
    }
    assert_true(n > 5);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_single_names),
        cmocka_unit_test(knows_no_strange_names),
        cmocka_unit_test(goes_there_and_back),
        cmocka_unit_test(guesses_the_convention),
        cmocka_unit_test(renames_files),
        cmocka_unit_test(leaves_a_file_alone_where_it_fails),
        cmocka_unit_test(takes_rules_of_the_user),
        cmocka_unit_test(keeps_the_rows_of_coco),
        cmocka_unit_test(every_failing_call_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
