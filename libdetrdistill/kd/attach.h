/* SPDX-License-Identifier: Apache-2.0
 * Whole models under a distiller: which of their tensors it reads, and a training step through them. */
#ifndef DDI_KD_ATTACH_H
#define DDI_KD_ATTACH_H

#include "kd/distiller.h"
#include "models/model.h"

typedef struct ddi_cache ddi_cache;

enum { DDI_KEPT_OUTPUTS = 6 };

/* What a step reads of the teacher: copies, or stored outputs. ndim 0: not needed. */
typedef struct ddi_teacher_outputs {
    dd_tensor logits, boxes;                /* [L,B,N,C], [L,B,N,4] */
    dd_tensor queries;                      /* [L,B,N,d] */
    dd_tensor maps;                         /* [B,S,d]: neck or encoder */
    dd_tensor position, content, reference; /* [B,N,d], [B,N,d], [B,N,2 or 4] */
    ddi_levels levels;
} ddi_teacher_outputs;

struct ddi_attachment {
    dd_model *student, *teacher;             /* teacher NULL: the detection loss alone */
    uint64_t student_number, teacher_number; /* of their handles: an address may be used again */
    bool encoder;                            /* maps are the encoder's, not the neck's */
    int32_t levels;                          /* that both have */
    bool wants_queries, wants_maps, wants_group;
    bool stored_group;                   /* the group differs from image to image: it is among the teacher's outputs */
    ddi_params maps;                     /* from the teacher's queries to the student's width */
    ddi_dense position_map, content_map; /* w NULL: same width */
    ddi_teacher_outputs teacher_outputs;
    ddi_buffer sizes;                                 /* int32 [B,2] on the host */
    ddi_buffer teacher_queries;                       /* [L,B,N,d] */
    ddi_buffer kept[DDI_KEPT_OUTPUTS];                /* the others, while the student runs in the same memory */
    ddi_buffer student_queries, student_queries_grad; /* for the contrastive term */
    ddi_buffer denoising_match;                       /* int32 [L,B,slots] on the host */
    const ddi_noise *noise;                           /* of denoising queries; NULL: drawn */
    ddi_cache *cache;                                 /* NULL: none */
};

dd_status ddi_attach(dd_distiller *distiller, dd_model *student, dd_model *teacher);
void ddi_attachment_free(dd_distiller *distiller);
dd_status ddi_attached_step(dd_distiller *distiller, double *total);
/* Zeroes what parameters of the distiller have summed up. */
dd_status ddi_attached_zero(dd_distiller *distiller);
/* folder NULL: none. */
dd_status ddi_attached_cache(dd_distiller *distiller, const char *folder, int64_t most_bytes);
/* Inputs that are bound while models are attached. */
bool ddi_attached_input(int32_t input);

/* teacher.c: the teacher's outputs for the bound pixels. */
dd_status ddi_teacher_run(dd_distiller *distiller, const dd_tensor *sizes);
/* Maps of level n as [B,d,H,W]. */
dd_tensor ddi_level_view(const dd_tensor *maps, const ddi_levels *levels, int32_t n);
/* The layers of a decoder as one tensor [L,B,N,d]. */
dd_status ddi_pack_layers(ddi_exec *exec, const dd_model *model, ddi_buffer *buffer, dd_tensor *view);

/* cache.c */
dd_status ddi_cache_open(ddi_cache **cache, const dd_distiller *distiller, const char *folder, int64_t most_bytes);
void ddi_cache_free(ddi_cache *cache, ddi_exec *exec);
/* The outputs for the bound pixels: read where they are stored, computed one image at a time and stored where not. */
dd_status ddi_cache_run(dd_distiller *distiller, const dd_tensor *sizes);
void ddi_cache_statistics(const ddi_cache *cache, int64_t *hits, int64_t *misses, int64_t *bytes);

#endif
