/* SPDX-License-Identifier: Apache-2.0
 * DINO of golden/openmmlab: a training step through the distiller with the file's noise, then detections. */
#include "openmmlab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The step */

static void run_step(replay *r)
{
    ddi_model_config *c = &r->model->net.config;
    ddi_noise noise = {NULL};
    struct json_object *denoising, *enabled;
    json_object_object_get_ex(r->config, "denoising", &denoising);
    json_object_object_get_ex(denoising, "enabled", &enabled);
    c->denoising.number = json_object_get_boolean(enabled) ? (int32_t)setting(r, "denoising.number") : 0;
    if (c->denoising.number > 0) {
        c->denoising.label_noise = setting(r, "denoising.label_noise_scale");
        c->denoising.box_noise = setting(r, "denoising.box_noise_scale");
        noise = (ddi_noise){expected(r, "dn.draw_label_u").data, expected(r, "dn.draw_label_new").data,
                            expected(r, "dn.draw_box_sign").data, expected(r, "dn.draw_box_u").data};
        r->distiller->attached->noise = &noise;
    }
    must(dd_distiller_step(r->distiller, NULL), "step");
    r->distiller->attached->noise = NULL;
}

/* ---- Backbone to encoder */

/* Real cells of a level, (w,h). */
static void real_cells(const replay *r, int32_t b, int32_t level, int32_t cells[2])
{
    const ddi_detections *o = &r->model->out;
    const int32_t side[2] = {o->levels.width[level], o->levels.height[level]};
    for (int32_t k = 0; k < 2; k++) {
        const int64_t at = (b * o->levels.count + level) * 2 + k;
        cells[k] = o->ratio ? (int32_t)lround(real_of(r, o->ratio, at) * side[k]) : side[k];
    }
}

static bool is_padded(const replay *r, int32_t b, int32_t level, int32_t cell)
{
    int32_t cells[2];
    const int32_t width = r->model->out.levels.width[level];
    real_cells(r, b, level, cells);
    return cell % width >= cells[0] || cell / width >= cells[1];
}

static void compare_mask(replay *r, int32_t level)
{
    char name[NAME];
    const int32_t cells = r->model->out.levels.width[level] * r->model->out.levels.height[level];
    unsigned char *mask = calloc((size_t)(r->images * cells), 1);
    dd_tensor view;
    for (int32_t i = 0; i < r->images * cells; i++) {
        mask[i] = is_padded(r, i / cells, level, i % cells);
    }
    must(dd_tensor_init(&view, mask, DD_U8, 1, (const int64_t[]){r->images * cells}, NULL, DD_DEVICE_CPU, 0, 0), "mask");
    snprintf(name, sizeof name, "mask.l%d", level);
    compare_exactly(r, name, &view);
    free(mask);
}

/* The code of positions on a level, without its embedding. */
static void compare_position(replay *r, int32_t level)
{
    const ddi_model_config *c = &r->model->net.config;
    const int32_t W = r->model->out.levels.width[level], H = r->model->out.levels.height[level], C = (int32_t)c->d;
    char name[NAME];
    snprintf(name, sizeof name, "enc.pos.l%d", level);
    if (!has(r, name)) {
        return;
    }
    const dd_tensor want = expected(r, name);
    const int64_t count = count_of(&want);
    int32_t *valid = calloc((size_t)r->images * 2, sizeof *valid);
    double *got = calloc((size_t)count, sizeof *got);
    unsigned char *skip = calloc((size_t)count, 1);
    void *y = calloc((size_t)count, sizeof(double));
    for (int32_t b = 0; b < r->images; b++) {
        real_cells(r, b, level, &valid[2 * b]);
    }
    const dd_op_sine_position op = {valid, NULL, y, H * W * C, r->images, H, W, C, c->position_temperature, c->position_offset};
    must(ddi_run(&r->exec, DD_OPERATOR_sine_position, r->dtype, &op), name);
    const bool last = want.ndim == 4; /* [B,C,H,W]; else [B,HW,C] */
    for (int64_t i = 0; i < count; i++) {
        const int64_t b = i / (H * W * C), cell = last ? i % (H * W) : i / C % (H * W), k = last ? i / (H * W) % C : i % C;
        const int64_t at = (b * H * W + cell) * C + k;
        got[i] = r->dtype == DD_F64 ? ((double *)y)[at] : (double)((float *)y)[at];
        skip[i] = is_padded(r, (int32_t)b, level, (int32_t)cell);
    }
    compare(r, name, got, skip, FORWARD);
    free(valid);
    free(got);
    free(skip);
    free(y);
}

/* The last layer's output; values at padded tokens are noise. */
static void compare_memory(replay *r)
{
    const ddi_detections *o = &r->model->out;
    const int64_t S = o->levels.tokens, d = r->model->net.config.d, count = r->images * S * d;
    double *got = calloc((size_t)count, sizeof *got);
    unsigned char *skip = calloc((size_t)count, 1);
    char name[NAME];
    for (int64_t i = 0; i < count; i++) {
        int32_t level = 0;
        const int64_t token = i / d % S;
        while (level + 1 < o->levels.count && token >= o->levels.first[level + 1]) {
            level++;
        }
        got[i] = real_of(r, o->encoder, i);
        skip[i] = is_padded(r, (int32_t)(i / d / S), level, (int32_t)(token - o->levels.first[level]));
    }
    snprintf(name, sizeof name, "enc.layer%d", r->model->net.config.encoder_layers - 1);
    compare(r, name, got, skip, FORWARD);
    free(got);
    free(skip);
}

static void compare_encoder(replay *r)
{
    char want[NAME], name[NAME];
    dd_tensor top;
    for (int32_t l = 0; l < 4; l++) {
        snprintf(want, sizeof want, "backbone.c%d", l + 2);
        snprintf(name, sizeof name, "backbone.%d", l);
        compare_tensor(r, want, name);
        snprintf(want, sizeof want, "neck.l%d", l);
        snprintf(name, sizeof name, "features.%d", l);
        compare_tensor(r, want, name);
        compare_mask(r, l);
        compare_position(r, l);
    }
    compare_memory(r);
    compare_tensor(r, "enc.cls_max", "proposal.scores");
    compare_tensor(r, "enc.topk_logits", "proposal.logits");
    compare_tensor(r, "enc.topk_boxes", "proposal.sigmoid");
    must(dd_model_tensor(r->model, "proposal.top", &top), "proposal.top");
    compare_exactly(r, "enc.topk_index", &top);
}

/* ---- Denoising and decoder */

static void compare_value(replay *r, const char *name, const ddi_value *v)
{
    double *got = calloc((size_t)v->count, sizeof *got);
    for (int64_t i = 0; i < v->count; i++) {
        got[i] = real_of(r, v, i);
    }
    compare(r, name, got, NULL, FORWARD);
    free(got);
}

/* Layer `layer` of denoising queries (NULL: none, or not looked at) and of the model's own, side by side in the file. */
static void compare_rows(replay *r, const char *name, const ddi_value *noisy, const ddi_value *own, int32_t layer)
{
    const dd_tensor want = expected(r, name);
    const int32_t slots = r->model->out.denoising.slots, n = (int32_t)want.shape[1] - slots, w = (int32_t)want.shape[2];
    double *got = calloc((size_t)count_of(&want), sizeof *got);
    unsigned char *skip = calloc((size_t)count_of(&want), 1);
    for (int64_t i = 0; i < count_of(&want); i++) {
        const int64_t b = i / w / (slots + n), row = i / w % (slots + n), k = i % w;
        const bool first = row < slots;
        skip[i] = first && !noisy;
        if (first) {
            got[i] = noisy ? real_of(r, noisy, (((int64_t)layer * r->images + b) * slots + row) * w + k) : 0;
        } else {
            got[i] = real_of(r, own, (((int64_t)layer * r->images + b) * n + row - slots) * w + k);
        }
    }
    compare(r, name, got, skip, FORWARD);
    free(got);
    free(skip);
}

static void compare_denoising(replay *r)
{
    const ddi_denoising *n = &r->model->out.denoising;
    if (r->model->net.config.denoising.number > 0) {
        check_case(n->slots == (int32_t)setting(r, "denoising.slots"), "denoising.slots", n->slots, 0);
    }
    if (n->slots == 0) {
        return;
    }
    const int64_t rows = n->slots + r->model->net.config.queries;
    dd_tensor mask;
    check_case(n->groups == (int32_t)setting(r, "denoising.groups"), "denoising.groups", n->groups, 0);
    compare_value(r, "dn.content", n->content);
    compare_value(r, "dn.ref_logit", n->box);
    must(dd_tensor_init(&mask, n->mask->data, DD_U8, 2, (const int64_t[]){rows, rows}, NULL, DD_DEVICE_CPU, 0, 0), "mask");
    compare_exactly(r, "dn.mask", &mask);
}

static void compare_decoder(replay *r)
{
    const ddi_detections *o = &r->model->out;
    const ddi_denoising *n = &o->denoising;
    char name[NAME];
    compare_rows(r, "dec.init_ref", NULL, o->reference, 0);
    for (int32_t i = 0; i < r->model->net.config.decoder_layers; i++) {
        snprintf(name, sizeof name, "dec.layer%d.query_pos", i);
        compare_value(r, name, o->position[i]);
        snprintf(name, sizeof name, "dec.layer%d.query_unnormed", i);
        compare_value(r, name, o->state[i]);
        snprintf(name, sizeof name, "dec.layer%d.query", i);
        compare_rows(r, name, NULL, o->layer[i], 0);
        snprintf(name, sizeof name, "dec.layer%d.ref_next", i);
        compare_rows(r, name, NULL, o->refined[i], 0);
        snprintf(name, sizeof name, "dec.layer%d.logits", i);
        compare_rows(r, name, n->logits, o->logits, i);
        snprintf(name, sizeof name, "dec.layer%d.boxes", i);
        compare_rows(r, name, n->boxes, o->boxes, i);
    }
}

/* ---- Matches and losses */

static void compare_encoder_loss(replay *r)
{
    dd_tensor match;
    must(dd_distiller_result(r->distiller, "match.encoder", &match), "match.encoder");
    compare_exactly(r, "match.enc", &match);
    compare_term(r, "loss.enc_loss_cls", "loss.encoder.class");
    compare_term(r, "loss.enc_loss_bbox", "loss.encoder.l1");
    compare_term(r, "loss.enc_loss_iou", "loss.encoder.giou");
}

void replay_dino(replay *r)
{
    run_step(r);
    compare_encoder(r);
    compare_denoising(r);
    compare_decoder(r);
    compare_matches(r, "layer");
    compare_losses(r, "d", "", "det");
    if (has(r, "loss.d0.dn_loss_cls")) {
        compare_losses(r, "d", "dn_", "denoising");
    }
    compare_encoder_loss(r);
    compare_term(r, "loss.total", "loss.total");
    compare_gradients(r, ddi_keymap_find("dino", "mmdet3"));
    compare_predictions(r, true);
}
