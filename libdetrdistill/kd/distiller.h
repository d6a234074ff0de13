/* SPDX-License-Identifier: Apache-2.0
 * The distiller behind dd_distiller: what is bound, what the options ask for, and the state of one step. */
#ifndef DDI_KD_DISTILLER_H
#define DDI_KD_DISTILLER_H

#include "base/limits.h"
#include "match/finite.h"
#include "match/matching.h"
#include <detrdistill/distiller.h>

typedef enum { DDI_PRIOR_NONE, DDI_PRIOR_INIT, DDI_PRIOR_GROUP, DDI_PRIOR_ASSIGNED } ddi_prior_mode;
typedef enum { DDI_MASK_SUM_MAX, DDI_MASK_PER_QUERY, DDI_MASK_NONE } ddi_mask_mode;
typedef enum { DDI_SOURCE_AUTO, DDI_SOURCE_NECK, DDI_SOURCE_ENCODER } ddi_feature_source;
typedef enum { DDI_ADAPTOR_AUTO, DDI_ADAPTOR_ALWAYS, DDI_ADAPTOR_NEVER } ddi_adaptor_mode;

/* Modules of the total loss (D.1), in the order of their sum. */
typedef enum {
    DDI_DET,
    DDI_DENOISING,
    DDI_ENCODER,
    DDI_LOGITS,
    DDI_FEATURES,
    DDI_PRIOR,
    DDI_CONTRASTIVE,
    DDI_MODULES
} ddi_module;

typedef struct ddi_distiller_settings {
    int32_t profile, family, det, logits, split, stage, contrastive, mask, psi_raw, source, adaptor, prior, prior_last,
        nonfinite;
    int64_t classes, topk, hidden, denoising_groups;
    double gamma_class, gamma_iou;
    double weight[DDI_MODULES]; /* lambda of each module */
} ddi_distiller_settings;

extern const ddi_option_table ddi_distiller_options;
extern const char *const ddi_module_names[DDI_MODULES];

enum { DDI_BRANCH_PARAMETERS = 8 };

/* Names that may be bound. Where a tensor has a gradient, it follows its input. */
enum {
    IN_STUDENT_LOGITS,
    IN_STUDENT_BOXES,
    IN_STUDENT_QUERIES,
    IN_PRIOR_LOGITS,
    IN_PRIOR_BOXES,
    IN_DENOISING_LOGITS,
    IN_DENOISING_BOXES,
    IN_ENCODER_LOGITS,
    IN_ENCODER_BOXES,
    IN_STUDENT_FEATURES,
    IN_ADAPTOR_WEIGHT = IN_STUDENT_FEATURES + DDI_MAX_LEVELS,
    IN_ADAPTOR_BIAS = IN_ADAPTOR_WEIGHT + DDI_MAX_LEVELS,
    IN_BRANCH_STUDENT = IN_ADAPTOR_BIAS + DDI_MAX_LEVELS,
    IN_BRANCH_TEACHER = IN_BRANCH_STUDENT + DDI_BRANCH_PARAMETERS,
    IN_WITH_GRADIENT = IN_BRANCH_TEACHER + DDI_BRANCH_PARAMETERS,
    IN_GRADIENTS = IN_WITH_GRADIENT, /* gradient of input i is input IN_GRADIENTS + i */
    IN_TEACHER_LOGITS = 2 * IN_WITH_GRADIENT,
    IN_TEACHER_BOXES,
    IN_TEACHER_QUERIES,
    IN_DENOISING_MATCH,
    IN_GT_BOXES,
    IN_GT_LABELS,
    IN_GT_OFFSETS,
    IN_GT_CROWD,
    IN_SIZES,
    IN_TEACHER_FEATURES,
    IN_PADDING = IN_TEACHER_FEATURES + DDI_MAX_LEVELS,
    IN_PIXELS = IN_PADDING + DDI_MAX_LEVELS, /* of attached models */
    IN_IDS,
    IN_COUNT
};

/* A parameter that the distiller owns. */
typedef struct ddi_parameter {
    int32_t input;          /* the name it has when bound */
    ddi_buffer value, grad; /* device, reals of `view.dtype` */
    dd_tensor view;         /* of value */
    ddi_buffer sum;         /* of gradients over steps, where models are attached */
} ddi_parameter;

/* One feature level of a step. */
typedef struct ddi_level {
    int32_t height, width;                           /* the teacher's map */
    bool adapt, resize;                              /* student maps need a 1x1 convolution; another size */
    ddi_buffer mapped, resized, g_resized, g_mapped; /* after each of the two, and their gradients */
    ddi_buffer weight, sum;                          /* psi^2 by teacher stage; their sum W */
    ddi_buffer terms;                                /* double [L_T,B] */
} ddi_level;

typedef struct ddi_term {
    char name[56];
    double value;
} ddi_term;

/* Numbers whose mean over processes the normalisers need (avg_R), in the order in which dd_mean_fn gets them. */
typedef enum {
    NORM_POSITIVES,      /* matched queries of the student */
    NORM_OBJECTS,        /* ground-truth objects */
    NORM_PAIRS,          /* student-teacher pairs of one stage */
    NORM_PAIRS_POSITIVE, /* .. with a positive teacher query, with split=1 */
    NORM_PAIRS_NEGATIVE,
    NORM_PRIOR_POSITIVES,   /* matched queries of the prior group */
    NORM_ENCODER_POSITIVES, /* matched proposals of the encoder; the last, and told only where there are any */
    NORM_COUNT
} ddi_norm;

enum { CONTRASTIVE_BUFFERS = 34, RESULTS = 16 + DDI_MAX_LEVELS };

/* Total, modules, five parts of six modules at most for each stage, three of the encoder, levels. */
enum { DDI_MAX_TERMS = 1 + DDI_MODULES + DDI_MAX_STAGES * (3 + 3 + 5 + 3 + 1) + 3 + DDI_MAX_LEVELS };

typedef struct ddi_attachment ddi_attachment; /* attach.h */

struct dd_distiller {
    ddi_exec exec;
    ddi_distiller_settings settings;
    ddi_input input[IN_COUNT];
    dd_mean_fn mean;
    void *mean_user;
    dd_trace_fn trace;
    void *trace_user;
    ddi_parameter parameter[2 * DDI_MAX_LEVELS + 2 * DDI_BRANCH_PARAMETERS];
    int32_t parameter_count;
    ddi_attachment *attached; /* NULL: the caller binds every tensor */

    /* of the step in hand */
    int32_t dtype, images, levels, topk;
    bool active[DDI_MODULES];
    bool replaced[IN_COUNT];                      /* the input had non-finite numbers, which were replaced */
    bool written[IN_COUNT];                       /* the gradient has been written in this step: add to it */
    double norm[NORM_COUNT], local_pairs, groups; /* groups: of the denoising block */
    ddi_predictions student, teacher, prior, denoising, encoder;
    ddi_objects objects;
    ddi_targets targets;
    ddi_stage_pairs pairs;
    ddi_matching det_match, teacher_match, prior_match, kd_match, encoder_match;
    ddi_finite_scan scan;
    ddi_level level[DDI_MAX_LEVELS];
    ddi_buffer quality_index, quality;          /* [L_T,B,K] */
    ddi_buffer fixed_match, fixed_match_device; /* matches that are not searched: denoising slots */
    ddi_buffer prior_targets;                   /* teacher matches arranged by student stage */
    ddi_buffer first_class;                     /* device: zeros, the encoder's labels */
    ddi_buffer contrastive[CONTRASTIVE_BUFFERS];
    ddi_buffer terms[DDI_MODULES];      /* device: what the loss operators write */
    ddi_buffer host_terms[DDI_MODULES]; /* host: [stages or pairs][parts], summed over images */

    /* results */
    int64_t steps;
    bool has_result;
    ddi_term *term;
    int32_t term_count;
    double module_sum[DDI_MODULES], total;
    ddi_buffer result[RESULTS]; /* memory behind dd_distiller_result */
};

dd_status ddi_distiller_init(dd_distiller *distiller, dd_context *context, const char *options);
/* A handle; the context need not be a live one any more, as long as somebody holds a reference on it. */
dd_status ddi_distiller_make(dd_distiller **distiller, dd_context *context, const char *options);
void ddi_distiller_free(dd_distiller *distiller);
dd_status ddi_distiller_step(dd_distiller *distiller, double *total);
dd_status ddi_distiller_prepare(dd_distiller *distiller);

/* names.c: names and kinds of all inputs. */
void ddi_distiller_name_inputs(dd_distiller *distiller);

/* gradients.c */
/* Where an operator writes the gradient of input i, or NULL if nobody asked for it. *accumulate: 1 if something is there
 * already. */
void *ddi_gradient_target(dd_distiller *distiller, int32_t i, int32_t *accumulate);
dd_status ddi_gradients_stage(dd_distiller *distiller);
/* Finite inputs may still give gradients that are not: those are not delivered. */
dd_status ddi_gradients_check(dd_distiller *distiller);
dd_status ddi_gradients_deliver(dd_distiller *distiller);
/* After a failure in the middle: no bound gradient is left half written. Those that are staged in other memory were not touched
 * before `delivering`. */
void ddi_gradients_zero(dd_distiller *distiller, bool delivering);

/* parameters.c: makes those that the bound tensors need, and readies caller-bound ones. */
dd_status ddi_parameters_make(dd_distiller *distiller);
void *ddi_parameter_gradient(dd_distiller *distiller, int32_t input);

/* One file per module: computes its terms and adds its gradients. */
dd_status ddi_detection_loss(dd_distiller *distiller);   /* detection.c: D.2 */
dd_status ddi_denoising_loss(dd_distiller *distiller);   /* detection.c: D.6 */
dd_status ddi_prior_loss(dd_distiller *distiller);       /* prior.c: C.4 */
dd_status ddi_logits_loss(dd_distiller *distiller);      /* logits.c: A.4, A.6 */
dd_status ddi_feature_loss(dd_distiller *distiller);     /* features.c: B.2 to B.5 */
dd_status ddi_contrastive_loss(dd_distiller *distiller); /* contrastive.c: A.9 */
dd_status ddi_denoising_match(dd_distiller *distiller);  /* detection.c: checks and uploads the fixed matches */
dd_status ddi_encoder_match(dd_distiller *distiller);    /* encoder.c: detectors 2.3 */
dd_status ddi_encoder_loss(dd_distiller *distiller);
/* prior.c: the teacher stage whose assignment supervises the prior group at student stage s. */
int32_t ddi_prior_teacher_stage(const dd_distiller *distiller, int32_t s);
/* features.c: checks shapes; readies the maps. */
dd_status ddi_features_check(dd_distiller *distiller);
dd_status ddi_features_take(dd_distiller *distiller);
/* 1: this step matches the teacher with the objects. */
bool ddi_needs_teacher_match(const dd_distiller *distiller);
/* options.c */
dd_status ddi_distiller_parse(ddi_distiller_settings *settings, const char *text);

/* The image mask that loss operators get: NULL unless images may be left out. */
const uint8_t *ddi_image_use(const dd_distiller *distiller);

/* terms.c: sums of all modules to the host; names; results by name. */
dd_status ddi_terms_fetch(dd_distiller *distiller);
void ddi_terms_name(dd_distiller *distiller);
/* results.c */
dd_status ddi_result_get(dd_distiller *distiller, const char *name, dd_tensor *view);
int32_t ddi_term_parts(const dd_distiller *distiller, ddi_module module);
int32_t ddi_term_rows(const dd_distiller *distiller, ddi_module module);

/* trace.c */
void ddi_trace_matches(dd_distiller *distiller);

#endif
