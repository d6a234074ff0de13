/* SPDX-License-Identifier: Apache-2.0
 * Inside of a dd_model: a family's parameters and its last forward pass. */
#ifndef DDI_MODELS_MODEL_H
#define DDI_MODELS_MODEL_H

#include "base/options.h"
#include "formats/tensorfile.h"
#include "formats/text.h"
#include "models/detector.h"
#include <detrdistill/model.h>
#include <detrdistill/tensorfile.h>

typedef struct ddi_model_settings {
    int32_t f64, training, gradients;
    /* Of files without a configuration. */
    int32_t refine, coco; /* refine: auto, 1, 0 */
    int64_t heads, queries;
    char map[DDI_OPTION_TEXT], side[DDI_OPTION_TEXT];
} ddi_model_settings;

extern const ddi_option_table ddi_model_options, ddi_architecture_options, ddi_export_options;

struct dd_model {
    dd_context *context;
    ddi_exec exec;
    ddi_model_settings settings;
    int32_t dtype;
    ddi_params params;
    ddi_net net;
    char *config; /* text of the folder's config.json; NULL: the model was made from options */
    size_t config_bytes;
    uint64_t seed; /* of dropout: the context's, or a trainer's */
    char *source;  /* the folder it was loaded from; NULL: none */
    char **class_name;
    bool renamed; /* class names are no longer those of the text */
    ddi_tape tape;
    ddi_detections out;
    ddi_buffer found; /* detections of one image */
    struct {
        int64_t elements; /* most pixels that were planned for, and the bytes they take */
        size_t bytes;
    } planned[5]; /* without gradients; with them, and of these with two groups, with denoising, with both */
    bool has_run;
};

/* Detections of one image, best first. */
typedef struct ddi_found {
    int64_t count;
    double *boxes, *scores; /* (x,y,w,h) */
    int64_t *labels;
    int32_t *queries;
} ddi_found;

/* Checkpoints of other programs: our names for their tensors; what their shapes say; a start for the backbone. *map: NULL where
 * only the user's rules fit. */
dd_status ddi_checkpoint_rename(dd_tensorfile *file, const char *path, const ddi_model_settings *settings,
                                const ddi_keymap **map);
dd_status ddi_checkpoint_config(const dd_tensorfile *file, const ddi_model_settings *settings, const ddi_keymap *map,
                                ddi_model_config *config);
dd_status ddi_checkpoint_backbone(dd_model *model, const char *path);

/* Options of a model made from nothing. */
/* weights: DDI_OPTION_TEXT bytes for the file of a pretrained backbone, or "". */
dd_status ddi_architecture_read(const char *text, ddi_model_settings *settings, ddi_model_config *config, char *weights);

/* Reads config.json of a Hugging Face folder. */
dd_status ddi_huggingface_config(const char *file, const void *text, size_t size, ddi_model_config *config);
/* What the configuration does not say about a backbone is read off the names and shapes of its tensors. */
dd_status ddi_huggingface_backbone(const dd_tensorfile *file, ddi_resnet_config *config);
/* Where the file has each parameter, by its name or a name that means the same; strict: says what is missing, of another shape
 * or unknown. Reads no numbers. *place: to be freed. */
dd_status ddi_huggingface_match(const dd_model *model, const dd_tensorfile *file, int32_t **place);
dd_status ddi_huggingface_load(dd_model *model, const dd_tensorfile *file, const int32_t *place);
bool ddi_param_fits(const ddi_param *param, const dd_tensor *view);
dd_status ddi_model_copy_in(dd_model *model, const ddi_param *param, const dd_tensor *view);
extern const char ddi_backbone_prefix[];
/* What timm and torchvision call a tensor of transformers' ResNet (names below the prefix). */
bool ddi_backbone_other_name(const char *name, char *other, size_t size);
dd_status ddi_huggingface_save(const dd_model *model, dd_tensorfile *file);

/* Class names of the model's config.json, and that file's text. */
dd_status ddi_huggingface_classes(dd_model *model);
dd_status ddi_huggingface_write(const dd_model *model, ddi_text *text);

dd_status ddi_model_load(dd_model **model, dd_context *context, const char *folder, const char *options);
dd_status ddi_model_create(dd_model **model, dd_context *context, const char *options);
dd_status ddi_model_save(const dd_model *model, const char *folder);
dd_status ddi_model_export(const dd_model *model, const char *path, const char *options);
dd_status ddi_model_set_class(dd_model *model, int32_t label, const char *name);
dd_status ddi_model_set_mode(dd_model *model, bool training, bool gradients);
void ddi_model_destroy(dd_model *model);
/* Exchanges the memory of two models' passes; what their last passes left is gone. A teacher's pass is over before its
 * student's begins: it runs in the student's memory. */
void ddi_model_exchange(dd_model *one, dd_model *other);
dd_status ddi_model_forward(dd_model *model, const dd_tensor *pixels, const dd_tensor *sizes);
/* A forward pass in another mode than the model's own. */
typedef struct ddi_model_pass {
    bool record, training; /* keep what gradients need; dropout draws */
    ddi_group_fn group;    /* NULL: no second group of queries */
    void *group_arg;
    const ddi_truth *truth; /* NULL: no denoising queries */
    const ddi_noise *noise;
} ddi_model_pass;

/* What a batch of a shape takes in a pass. Bytes, but for products. */
typedef struct ddi_plan {
    double activations, parameters, gradients, products, traffic;
    double counted[DDI_PARTS]; /* by the counting rule of detectors.md 12.1 */
} ddi_plan;
dd_status ddi_model_plan(dd_model *model, const int64_t shape[4], bool padded, const ddi_model_pass *pass, ddi_plan *plan);
extern const char *const ddi_part_names[DDI_PARTS + 1]; /* those that operations are counted in, then "queries" */
/* Elements of the parameters of a part (of ddi_part_names). */
void ddi_model_part_size(const dd_model *model, int32_t part, int64_t *trained, int64_t *all);

dd_status ddi_model_run(dd_model *model, const dd_tensor *pixels, const dd_tensor *sizes, const ddi_model_pass *pass);

/* size: (w,h) of the picture. */
dd_status ddi_model_detections(dd_model *model, int32_t image, const int32_t size[2], int64_t most, double least,
                               ddi_found *found);
/* The value of a name ("logits", ..) and how its tensor is seen. */
dd_status ddi_model_value(dd_model *model, const char *name, ddi_value **value, dd_tensor *view);

#endif
