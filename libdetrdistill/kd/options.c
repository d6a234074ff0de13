/* SPDX-License-Identifier: Apache-2.0
 * Options of the distiller and the three profiles (distillation, section 0). */
#include "kd/distiller.h"

#include <string.h>

const char *const ddi_module_names[DDI_MODULES] = {"det", "denoising", "encoder", "logits", "features", "prior", "contrastive"};

#define FIELD(name) offsetof(ddi_distiller_settings, name)
#define WEIGHT(module) (offsetof(ddi_distiller_settings, weight) + sizeof(double) * (module))
static const ddi_option option[] = {
    {"profile", DDI_CHOICE, FIELD(profile), 0, 0, "default", "default|as-published|paper",
     "sets split, stage, contrastive, feature-mask, topk, gammas, feature-source, adaptor and prior"},
    {"family", DDI_CHOICE, FIELD(family), 0, 0, "deformable-detr", DDI_FAMILIES, "conventions of matching and base loss"},
    {"classes", DDI_INT, FIELD(classes), 0, DDI_MAX_CLASSES, "0", NULL, "checked against the tensors; 0: taken from them"},
    {"det", DDI_CHOICE, FIELD(det), 0, 0, "1", "0|1", "the student's own detection loss"},
    {"logits", DDI_CHOICE, FIELD(logits), 0, 0, "1", "0|1", "Hungarian-matched logits distillation"},
    {"split", DDI_CHOICE, FIELD(split), 0, 0, "0", "0|1", "logits: match teacher positives and negatives apart (A.6)"},
    {"stage", DDI_CHOICE, FIELD(stage), 0, 0, "grouped", "grouped|first", "teacher stages when the student has fewer (A.5)"},
    {"contrastive", DDI_CHOICE, FIELD(contrastive), 0, 0, "0", "0|1", "query-contrastive term (A.9)"},
    {"contrastive-width", DDI_INT, FIELD(hidden), 1, DDI_MAX_CHANNELS, "512", NULL, "hidden width of its branches"},
    {"feature-mask", DDI_CHOICE, FIELD(mask), 0, 0, "sum-max", "sum-max|per-query|none",
     "feature distillation (B.3, B.4); none: off"},
    {"topk", DDI_INT, FIELD(topk), 0, (double)DDI_MAX_QUERIES * 64, "100", NULL,
     "teacher entries of the mask; 0: all queries once"},
    {"gamma-class", DDI_REAL, FIELD(gamma_class), 0, 100, "1", NULL, "exponent of the class score in the quality"},
    {"gamma-iou", DDI_REAL, FIELD(gamma_iou), 0, 100, "1", NULL, "exponent of the IoU in the quality"},
    {"psi-raw", DDI_CHOICE, FIELD(psi_raw), 0, 0, "0", "0|1", "per-query: literal dot product, not the cosine"},
    {"feature-source", DDI_CHOICE, FIELD(source), 0, 0, "auto", "auto|neck|encoder",
     "maps of attached models that are compared (D.5); auto: the neck's"},
    {"adaptor", DDI_CHOICE, FIELD(adaptor), 0, 0, "auto", "auto|always|never", "1x1 convolution on student maps (B.5)"},
    {"prior", DDI_CHOICE, FIELD(prior), 0, 0, "assigned", "none|init|group|assigned",
     "query-prior assignment distillation (C.5)"},
    {"prior-stage", DDI_CHOICE, FIELD(prior_last), 0, 0, "stage", "stage|last",
     "whose teacher assignment: of each stage, or the last"},
    {"denoising-groups", DDI_INT, FIELD(denoising_groups), 0, DDI_MAX_QUERIES, "0", NULL,
     "groups in denoising.*; 0: slots / (2 * objects of the fullest image)"},
    {"weight.det", DDI_REAL, WEIGHT(DDI_DET), 0, 1e9, "1", NULL, "outer weight"},
    {"weight.denoising", DDI_REAL, WEIGHT(DDI_DENOISING), 0, 1e9, "1", NULL, "outer weight"},
    {"weight.encoder", DDI_REAL, WEIGHT(DDI_ENCODER), 0, 1e9, "1", NULL, "outer weight, proposals of a two-stage encoder"},
    {"weight.logits", DDI_REAL, WEIGHT(DDI_LOGITS), 0, 1e9, "1", NULL, "outer weight, lambda 1"},
    {"weight.features", DDI_REAL, WEIGHT(DDI_FEATURES), 0, 1e9, "1", NULL, "outer weight, lambda 2"},
    {"weight.prior", DDI_REAL, WEIGHT(DDI_PRIOR), 0, 1e9, "1", NULL, "outer weight, lambda 3"},
    {"weight.contrastive", DDI_REAL, WEIGHT(DDI_CONTRASTIVE), 0, 1e9, "1", NULL, "outer weight"},
    {"nonfinite", DDI_CHOICE, FIELD(nonfinite), 0, 0, "error", "error|skip|clamp", "what a NaN or infinity in an input does"},
};
const ddi_option_table ddi_distiller_options = {"distiller", option, sizeof option / sizeof option[0]};

typedef enum { PROFILE_DEFAULT, PROFILE_AS_PUBLISHED, PROFILE_PAPER } profile;

/* The table of section 0. */
static void apply_profile(void *settings, const ddi_option *changed)
{
    ddi_distiller_settings *s = settings;
    if (strcmp(changed->key, "profile") != 0)
        return;
    bool paper = s->profile == PROFILE_PAPER, published = s->profile == PROFILE_AS_PUBLISHED;
    s->split = paper;
    s->stage = published ? DDI_STAGE_FIRST : DDI_STAGE_GROUPED;
    s->contrastive = published;
    s->mask = paper ? DDI_MASK_PER_QUERY : DDI_MASK_SUM_MAX;
    s->topk = paper ? 0 : 100;
    s->gamma_class = s->gamma_iou = paper ? .5 : 1;
    s->source = paper ? DDI_SOURCE_ENCODER : published ? DDI_SOURCE_NECK : DDI_SOURCE_AUTO;
    s->adaptor = paper ? DDI_ADAPTOR_ALWAYS : published ? DDI_ADAPTOR_NEVER : DDI_ADAPTOR_AUTO;
    s->prior = published ? DDI_PRIOR_GROUP : DDI_PRIOR_ASSIGNED;
}

dd_status ddi_distiller_parse(ddi_distiller_settings *settings, const char *text)
{
    ddi_options_init(&ddi_distiller_options, settings);
    return ddi_options_parse(&ddi_distiller_options, text, settings, apply_profile);
}
