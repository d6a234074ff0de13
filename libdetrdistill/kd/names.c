/* SPDX-License-Identifier: Apache-2.0
 * The names under which tensors are bound. */
#include "kd/distiller.h"

#include <stdio.h>
#include <string.h>

static void name_input(ddi_input *in, ddi_element_kind kind, int32_t dims, const char *format, int32_t number)
{
    if (number < 0)
        snprintf(in->name, sizeof in->name, "%s", format);
    else
        snprintf(in->name, sizeof in->name, "%s.%d", format, number);
    in->kind = kind;
    in->dims = dims;
}

static void name_branch(ddi_input *in, const char *who)
{
    static const char *const part[DDI_BRANCH_PARAMETERS] = {"w1", "b1", "w2", "b2", "bn_weight", "bn_bias", "w3", "b3"};
    for (int32_t i = 0; i < DDI_BRANCH_PARAMETERS; i++) {
        snprintf(in[i].name, sizeof in[i].name, "contrastive.%s.%s", who, part[i]);
        in[i].kind = DDI_REALS;
        in[i].dims = part[i][0] == 'w' ? 2 : 1;
    }
}

void ddi_distiller_name_inputs(dd_distiller *d)
{
    static const struct {
        int32_t input;
        const char *name;
        ddi_element_kind kind;
        int32_t dims;
        bool anywhere;
    } plain[] = {
        {IN_STUDENT_LOGITS, "student.logits", DDI_REALS, 4, false},
        {IN_STUDENT_BOXES, "student.boxes", DDI_REALS, 4, false},
        {IN_STUDENT_QUERIES, "student.queries", DDI_REALS, 4, false},
        {IN_PRIOR_LOGITS, "prior.logits", DDI_REALS, 4, false},
        {IN_PRIOR_BOXES, "prior.boxes", DDI_REALS, 4, false},
        {IN_DENOISING_LOGITS, "denoising.logits", DDI_REALS, 4, false},
        {IN_DENOISING_BOXES, "denoising.boxes", DDI_REALS, 4, false},
        {IN_ENCODER_LOGITS, "encoder.logits", DDI_REALS, 4, false},
        {IN_ENCODER_BOXES, "encoder.boxes", DDI_REALS, 4, false},
        {IN_TEACHER_LOGITS, "teacher.logits", DDI_REALS, 4, false},
        {IN_TEACHER_BOXES, "teacher.boxes", DDI_REALS, 4, false},
        {IN_TEACHER_QUERIES, "teacher.queries", DDI_REALS, 4, false},
        {IN_DENOISING_MATCH, "denoising.match", DDI_INDICES, 3, true},
        {IN_GT_BOXES, "gt.boxes", DDI_REALS, 2, true},
        {IN_GT_LABELS, "gt.labels", DDI_INDICES, 1, true},
        {IN_GT_OFFSETS, "gt.offsets", DDI_INDICES, 1, true},
        {IN_GT_CROWD, "gt.crowd", DDI_BYTES, 1, true},
        {IN_SIZES, "image.sizes", DDI_REALS | DDI_INDICES, 2, true},
        {IN_PIXELS, "pixels", DDI_REALS, 4, true},
        {IN_IDS, "image.ids", DDI_INDICES, 1, true},
    };
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        name_input(&d->input[plain[i].input], plain[i].kind, plain[i].dims, plain[i].name, -1);
        d->input[plain[i].input].anywhere = plain[i].anywhere;
    }
    for (int32_t n = 0; n < DDI_MAX_LEVELS; n++) {
        name_input(&d->input[IN_STUDENT_FEATURES + n], DDI_REALS, 4, "student.features", n);
        name_input(&d->input[IN_TEACHER_FEATURES + n], DDI_REALS, 4, "teacher.features", n);
        name_input(&d->input[IN_PADDING + n], DDI_BYTES, 3, "features.padding", n);
        snprintf(d->input[IN_ADAPTOR_WEIGHT + n].name, sizeof d->input[0].name, "adaptor.%d.weight", n);
        snprintf(d->input[IN_ADAPTOR_BIAS + n].name, sizeof d->input[0].name, "adaptor.%d.bias", n);
        d->input[IN_ADAPTOR_WEIGHT + n].kind = d->input[IN_ADAPTOR_BIAS + n].kind = DDI_REALS;
        d->input[IN_ADAPTOR_WEIGHT + n].dims = 2;
        d->input[IN_ADAPTOR_BIAS + n].dims = 1;
    }
    name_branch(&d->input[IN_BRANCH_STUDENT], "student");
    name_branch(&d->input[IN_BRANCH_TEACHER], "teacher");
    for (int32_t i = 0; i < IN_WITH_GRADIENT; i++) {
        ddi_input *grad = &d->input[IN_GRADIENTS + i];
        size_t length = strlen(d->input[i].name);
        memcpy(grad->name, d->input[i].name, length);
        memcpy(grad->name + length, ".grad", sizeof ".grad");
        grad->kind = DDI_REALS;
        grad->dims = d->input[i].dims;
        grad->writable = true;
    }
}
