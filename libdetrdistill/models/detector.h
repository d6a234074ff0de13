/* SPDX-License-Identifier: Apache-2.0
 * What a family of detectors is to the rest of the library: a row of the table in detectors.c. A family is a source file with
 * its network (deformable_detr.c) and one with its names in files of others (deformable_detr_files.c). */
#ifndef DDI_MODELS_DETECTOR_H
#define DDI_MODELS_DETECTOR_H

#include "models/config_file.h"
#include "models/keymap.h"
#include "nn/denoising.h"
#include "nn/levels.h"
#include "nn/resnet.h"
#include "nn/transformer.h"

typedef struct ddi_detector ddi_detector;

/* The sizes of a model of any family; what a family does not have is 0. */
typedef struct ddi_model_config {
    const ddi_detector *detector;
    ddi_resnet_config backbone;
    int64_t d, encoder_ffn, decoder_ffn, queries, classes;
    int32_t levels, encoder_layers, decoder_layers, encoder_heads, decoder_heads, encoder_points, decoder_points;
    bool refine, two_stage;
    bool neck_bias;                          /* convolutions of the neck have one */
    bool shared_class_head, shared_box_head; /* one for all layers, whatever refine says */
    double dropout, attention_dropout, activation_dropout;
    /* DINO alone */
    double position_temperature, position_offset; /* of the position codes (1.4) */
    double head_eps;                              /* of the inverse sigmoid where boxes are predicted (1.8) */
    int64_t label_rows;                           /* of the label table: the classes, and maybe one more */
    ddi_denoising_config denoising;
    /* AdaMixer alone */
    int32_t mixing_groups, in_points, out_points;
} ddi_model_config;

/* Parameters of a model. */
typedef struct ddi_net {
    ddi_model_config config;
    ddi_resnet backbone;
    ddi_param *queries; /* the table that queries start from; NULL: they are made of the encoder's tokens alone */
    void *parts;        /* the family's own, detector->bytes */
} ddi_net;

/* What a decoder starts from; values of the tape. NULL: as the model's own queries have it. */
typedef struct ddi_query_values {
    ddi_value *position, *content; /* [B,N,d] */
    ddi_value *reference;          /* [B,N,2 or 4] */
} ddi_query_values;

/* Where a second group's streams of dropout begin: more than the first ever draws from. */
enum { DDI_SECOND_STREAMS = 1 << 24 };

/* Makes a second group of queries for the decoder. Returns false where there is none. */
typedef bool (*ddi_group_fn)(ddi_tape *tape, void *arg, int64_t images, ddi_query_values *queries);

/* What a forward pass reads. */
typedef struct ddi_model_input {
    ddi_value *image;     /* [B,H,W,3], normalised, zero outside */
    const int32_t *sizes; /* (w,h) of each image's real part, on the host */
    ddi_group_fn group;   /* NULL: no second group of queries */
    void *group_arg;
    const ddi_truth *truth; /* NULL: no denoising queries; so are they where the tape is not training */
    const ddi_noise *noise; /* NULL: drawn */
} ddi_model_input;

/* What a forward pass leaves; values of the tape. NULL: not of this family or variant. */
typedef struct ddi_detections {
    ddi_levels levels;
    ddi_value *stage[4];                          /* C2..C5 [B,H,W,C] */
    ddi_value *features;                          /* neck, [B,S,d] */
    ddi_value *encoder;                           /* [B,S,d] */
    ddi_value *layer[DDI_MOST_LAYERS];            /* [B,N,d]: what the heads read */
    ddi_value *raw[DDI_MOST_LAYERS];              /* [B,N,d]: before a norm that is the heads' alone */
    ddi_value *reference;                         /* [B,N,2 or 4]; of AdaMixer (x,y,z,r) */
    ddi_value *refined[DDI_MOST_LAYERS];          /* [B,N,4]; of AdaMixer (x,y,z,r) */
    ddi_value *logits, *boxes;                    /* [L,B,N,K], [L,B,N,4] cxcywh of the image's real part */
    ddi_value *ratio;                             /* [B,levels,2]; NULL: nothing is padded */
    ddi_value *proposal_logits, *proposals, *top; /* [B,S,K], [B,S,4] before the sigmoid, int32 [B,N] */
    ddi_value *proposal_boxes;                    /* [B,S,4] after it; of DINO these three are [B,N,..], of the chosen alone */
    ddi_value *scores;                            /* [B,S] by which tokens were chosen, where that is not the first class */
    ddi_query_values queries;                     /* what the decoder started from */
    ddi_value *group_logits, *group_boxes;        /* [L,B,Ng,K], [L,B,Ng,4] of the second group; NULL: none ran */
    ddi_denoising denoising;
    /* Before the decoder's norm, and what was added to queries and keys; denoising queries in front. */
    ddi_value *state[DDI_MOST_LAYERS], *position[DDI_MOST_LAYERS];
} ddi_detections;

/* Which part of a model the parameters belong to whose names begin so. */
typedef struct ddi_part_name {
    const char *prefix;
    ddi_part part;
} ddi_part_name;

/* What the loader of checkpoints knows beside the tensors. */
typedef struct ddi_unsaid {
    int32_t refine; /* 1 yes, 2 no, 0 as the tensors have it */
    int64_t heads, queries;
    const ddi_keymap *map; /* NULL: only the user's rules */
} ddi_unsaid;

/* A family in files: its names there, and config.json. NULL functions: nothing to do. */
typedef struct ddi_detector_files {
    const ddi_keymap *maps; /* names that other programs give the tensors */
    int32_t map_count;
    const ddi_config_key *keys; /* of config.json */
    int32_t key_count;
    /* The rest of config.json, and what the tensors of a folder say beside it. */
    void (*read_config)(ddi_config_reader *reader, ddi_model_config *config);
    void (*write_config)(ddi_config_writer *writer, const ddi_model_config *config);
    void (*read_folder)(const dd_tensorfile *file, ddi_model_config *config);
    /* The sizes of a checkpoint without a configuration, by tensors that have our names; the backbone's are there already. */
    dd_status (*read_tensors)(const dd_tensorfile *file, const ddi_unsaid *unsaid, ddi_model_config *config);
    /* Another name under which a file may have a parameter. */
    bool (*other_name)(const char *name, char *other, size_t size);
    /* A tensor that a file may have beside the model's. */
    bool (*is_spare)(const ddi_model_config *config, const char *name);
    /* Tensors that a saved folder has beside the parameters: copies under other names, constants. */
    dd_status (*save_copy)(const ddi_model_config *config, dd_tensorfile *file, const char *name, const dd_tensor *view);
    dd_status (*save_more)(const ddi_net *net, dd_context *context, int32_t dtype, dd_tensorfile *file);
} ddi_detector_files;

struct ddi_detector {
    const char *name;         /* in options: "deformable-detr" */
    const char *type;         /* model_type of config.json; the family of key maps: "deformable_detr" */
    const char *architecture; /* in config.json: "DeformableDetrForObjectDetection" */
    bool auxiliary_loss;      /* in config.json: transformers trains all stages (its Conditional DETR then runs differently) */
    const char *defaults;     /* options where they differ from the table's: "ffn=2048 queries=900" */
    size_t bytes;             /* of net->parts */
    const ddi_part_name *part_names;
    int32_t part_name_count;
    /* Columns of a row of the query table where the decoder's position and content begin; -1: not in it. */
    int32_t (*position_column)(const ddi_model_config *config);
    int32_t (*content_column)(const ddi_model_config *config);
    /* Queries start from what the model saw in the image: references differ from image to image. */
    bool (*reads_image)(const ddi_model_config *config);
    bool no_position;           /* queries bring none: the decoder makes positions of the references */
    bool denoises;              /* makes denoising queries of the objects in training */
    bool features_from_encoder; /* the maps that distillation compares by default (distillation D.5) */
    int32_t first_stride;       /* of the finest level */
    bool trains_norms;          /* of the backbone's stages 2 to 4: gamma and beta */

    /* What is wrong with a configuration; NULL: nothing. */
    const char *(*complaint)(const ddi_model_config *config);
    /* Adds the parameters of net->config; parts are zeros. */
    dd_status (*build)(ddi_net *net, ddi_build *build);
    /* The second group does not see the first, so the first gives what it gives alone, dropout included. */
    void (*forward)(ddi_tape *tape, const ddi_net *net, const ddi_model_input *in, ddi_detections *out);
    const ddi_detector_files *files;
};

extern const ddi_detector ddi_deformable_detr, ddi_conditional_detr, ddi_adamixer, ddi_dino;
extern const ddi_detector_files ddi_deformable_detr_files, ddi_conditional_detr_files, ddi_adamixer_files, ddi_dino_files;

/* All families, in the order of DDI_FAMILIES (match/conventions.h). */
enum { DDI_DETECTORS = 4 };
extern const ddi_detector *const ddi_detectors[DDI_DETECTORS];
/* By `type`; NULL: none (also for NULL). */
const ddi_detector *ddi_detector_find(const char *type);
int32_t ddi_detector_number(const ddi_detector *detector);

dd_status ddi_net_build(ddi_net *net, ddi_build *build, const ddi_model_config *config);
void ddi_net_free(ddi_net *net, ddi_exec *exec);

/* What the blocks of the encoder, or of the decoder, share. */
ddi_block_config ddi_config_block(const ddi_model_config *config, bool encoder);

/* Checks that all families share: the backbone, divisible widths. NULL: nothing is wrong. */
const char *ddi_config_complaint(const ddi_model_config *config);

/* For detectors' read_tensors: a tensor's view, by name and number of dimensions. */
bool ddi_file_shape(const dd_tensorfile *file, const char *name, int32_t ndim, dd_tensor *view);
/* How many layers have a tensor "model.PART.layers.N.NAME", and the rows of the last. */
int32_t ddi_file_layers(const dd_tensorfile *file, const char *part, const char *name, int64_t *rows);
bool ddi_file_all_zero(const dd_tensorfile *file, const char *name);
dd_status ddi_file_lacks(const char *what);
/* Two matrices of the same type and shape, the same to the bit; by name: false, too, where one is not there. */
bool ddi_same_bytes(const dd_tensor *a, const dd_tensor *b);
bool ddi_file_same(const dd_tensorfile *file, const char *a, const char *b);
/* Queries and width by the query table, classes by the class head. */
dd_status ddi_file_tables(const dd_tensorfile *file, const char *table, const char *class_head, ddi_model_config *config);
/* Layers of encoder and decoder, and the width of their hidden layers. */
dd_status ddi_file_depth(const dd_tensorfile *file, ddi_model_config *config);
/* Levels, width and layers of a deformable transformer. */
dd_status ddi_file_deformable(const dd_tensorfile *file, ddi_model_config *config);
/* Its heads, and the points that fit them; layers and levels are known already. */
dd_status ddi_file_sampling(const dd_tensorfile *file, int64_t heads, ddi_model_config *config);

#endif
