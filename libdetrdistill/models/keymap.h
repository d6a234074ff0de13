/* SPDX-License-Identifier: Apache-2.0
 * Names of tensors in checkpoints of other programs, turned into those of the library's models. */
#ifndef DDI_MODELS_KEYMAP_H
#define DDI_MODELS_KEYMAP_H

#include "formats/tensorfile.h"

enum { DDI_KEY_PARTS = 3, DDI_KEY_BYTES = 1024 + 64 };

/* One rule. In `from`, '#' stands for a number and '*' for one or more characters; in `to` they stand for the same again, in
 * order; '@' stands for the number of decoder layers in both. "{q,k,v}" in `to`: the rows are cut into that many equal parts.
 * `to` NULL: the tensor is not wanted. The first rule that fits counts. */
typedef struct ddi_key_rule {
    const char *from, *to;
} ddi_key_rule;

typedef struct ddi_keymap {
    const char *family, *convention; /* "deformable_detr", "official" */
    const char *mark;                /* a file with a name of this pattern is of this kind */
    const ddi_key_rule *rule;
    int32_t rules;
    /* For writing: names that are there twice, and the second one. */
    const ddi_key_rule *copy;
    int32_t copies;
    bool one_head; /* their layers have one head, of which each has a copy in the file */
} ddi_keymap;

/* Rules of the user, which come before those of a map. */
typedef struct ddi_key_rules {
    ddi_key_rule *rule;
    int32_t count, room;
    char *text; /* what the rules point into */
} ddi_key_rules;

/* What becomes of a name. */
typedef struct ddi_key_match {
    int32_t parts; /* 0: the tensor is dropped */
    char name[DDI_KEY_PARTS][DDI_KEY_BYTES];
} ddi_key_match;

/* Map i of all, those that are looked for first at the front; NULL: there are no more. */
const ddi_keymap *ddi_keymap_at(int32_t i);

/* The map of a family and convention, or NULL. */
const ddi_keymap *ddi_keymap_find(const char *family, const char *convention);
/* The first map whose mark is met; NULL: none. A leading "module." and `side` are passed over. */
const ddi_keymap *ddi_keymap_guess(const dd_tensorfile *file, const char *side);

/* Reads lines "from -> to" ("from ->": dropped; '#' at the start of a line: a comment; line ends may be ';'). Free in any case.
 * Errors: FORMAT, LIMIT, NOMEM. */
dd_status ddi_key_rules_read(ddi_key_rules *rules, const char *file, const void *text, size_t size);
void ddi_key_rules_free(ddi_key_rules *rules);

/* Applies a rule to a name; false: it does not fit, or the result is too long. */
bool ddi_key_rule_apply(const ddi_key_rule *rule, const char *name, int32_t layers, ddi_key_match *match);
/* The other way: the name in the file, and which of how many parts of it, for a name of ours. */
bool ddi_key_rule_invert(const ddi_key_rule *rule, const char *name, int32_t layers, char source[DDI_KEY_BYTES], int32_t *part,
                         int32_t *parts);
/* The first rule of the user (or NULL) and of the map (or NULL) that fits. */
bool ddi_keymap_apply(const ddi_keymap *map, const ddi_key_rules *own, const char *name, int32_t layers, ddi_key_match *match);

/* Gives the tensors of an open file the names of our models, cuts those that stand for several, drops what is not wanted, and
 * adds the zero biases of neck convolutions that have none (detectors.md 7.7). `side`: "student." keeps names that begin so,
 * without it; NULL: "student." where a name begins so. On an error the file is as before. Errors: FORMAT (a name that no rule
 * knows, two that become one), SHAPE (rows that cannot be cut), LIMIT, NOMEM. */
dd_status ddi_keymap_rename(dd_tensorfile *file, const ddi_keymap *map, const ddi_key_rules *own, const char *side);

/* Keeps the 80 rows of classes that COCO has, of tensors with 91 rows whose name fits one of our patterns for class heads and
 * label tables. Errors: NOMEM. */
dd_status ddi_keymap_select_coco(dd_tensorfile *file);

/* The other way, of such tensors (by our names) with 80 rows: the other ids have weights of 0 and biases that are far below all
 * others. Errors: NOMEM. */
dd_status ddi_keymap_expand_coco(dd_tensorfile *file);

/* ---- For the tables of maps */

/* What every program's files may have, and no model wants. */
#define DDI_NEVER_WANTED                                                                                                       \
    {"*num_batches_tracked", NULL},                                                                                            \
    {                                                                                                                          \
        "ema_*", NULL                                                                                                          \
    }
#define DDI_OUR_BACKBONE "model.backbone.conv_encoder.model."
#define DDI_OUR_ENCODER "model.encoder.layers.#."
#define DDI_OUR_DECODER "model.decoder.layers.#."

#define DDI_COUNT(table) (int32_t)(sizeof(table) / sizeof((table)[0]))
#define DDI_KEYMAP(family, convention, mark, table)                                                                            \
    {                                                                                                                          \
        family, convention, mark, table, DDI_COUNT(table), NULL, 0, false                                                      \
    }
/* With copies for writing. */
#define DDI_KEYMAP_TWICE(family, convention, mark, table, copy, one_head)                                                      \
    {                                                                                                                          \
        family, convention, mark, table, DDI_COUNT(table), copy, DDI_COUNT(copy), one_head                                     \
    }

#endif
