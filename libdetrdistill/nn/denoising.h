/* SPDX-License-Identifier: Apache-2.0
 * Contrastive denoising (detectors.md 5.4): in training, noisy copies of the objects are further queries. In each group every
 * object has a positive query, which is to find it, and a negative one, farther off, which is to find nothing. */
#ifndef DDI_NN_DENOISING_H
#define DDI_NN_DENOISING_H

#include "tape/tape.h"

/* The objects of a batch, on the host. */
typedef struct ddi_truth {
    const int32_t *offsets; /* [B+1] */
    const int32_t *labels;
    const void *boxes; /* (cx,cy,w,h) in 0..1 */
    int32_t dtype;     /* of boxes */
} ddi_truth;

/* Random numbers from outside, [2*groups][objects of the batch], rows 2g and 2g+1 the positive and negative copies of group g.
 */
typedef struct ddi_noise {
    const float *label; /* in [0,1) */
    const int32_t *new_label;
    const int32_t *sign; /* 1 or -1, four for each box */
    const float *shift;  /* in [0,1), four for each box */
} ddi_noise;

typedef struct ddi_denoising_config {
    int32_t number;                /* of pairs: groups = number / objects of the fullest image, at least 1; 0: none */
    double label_noise, box_noise; /* half of the first: the probability of another label; the second scales the shifts */
} ddi_denoising_config;

typedef struct ddi_denoising {
    int32_t groups, slots;
    int32_t *object;           /* on the host, [B,slots]: which object of its image the query is to find, or -1 */
    int32_t *label;            /* on the host, [B,slots]: row of the label table, or -1: an unused slot */
    ddi_value *content, *box;  /* [B,slots,d], [B,slots,4] in logit form */
    ddi_value *mask;           /* bytes [slots+N, slots+N]: 1 = blocked */
    ddi_value *logits, *boxes; /* what comes out: [L,B,slots,K], [L,B,slots,4]; NULL: no denoising queries ran */
} ddi_denoising;

/* Queries for a batch, in front of `queries` others. table [classes or more, d]. noise NULL: drawn, keyed by the tape's seed
 * and step. Returns false, and slots = 0, where there is no object (or nothing to do). */
bool ddi_make_denoising(ddi_tape *tape, const ddi_denoising_config *config, const ddi_truth *truth, const ddi_noise *noise,
                        ddi_param *table, int64_t classes, int64_t images, int64_t queries, ddi_denoising *out);

#endif
