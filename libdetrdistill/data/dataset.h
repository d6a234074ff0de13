/* SPDX-License-Identifier: Apache-2.0
 * A data set in memory: pictures, classes and objects, and where the pictures come from. Readers (coco.c, voc.c, scenes.c)
 * collect; dataset.c puts in order, judges which objects are training targets, and reads pictures. */
#ifndef DDI_DATA_DATASET_H
#define DDI_DATA_DATASET_H

#include "base/options.h"
#include "images/image.h"
#include <detrdistill/data.h>
#include <stdbool.h>

enum { DDI_DATA_PATH = 4096, DDI_DATA_NAME = 128 };

/* What is counted; names in dataset.c. */
typedef enum ddi_tally {
    DDI_TALLY_IMAGES,
    DDI_TALLY_OBJECTS,
    DDI_TALLY_TARGETS,
    DDI_TALLY_NO_TARGETS,
    DDI_TALLY_CROWD,
    DDI_TALLY_DIFFICULT,
    DDI_TALLY_IGNORED,
    DDI_TALLY_ZERO_AREA,
    DDI_TALLY_TINY,
    DDI_TALLY_OUTSIDE,
    DDI_TALLY_CLIPPED,
    DDI_TALLY_SWAPPED,
    DDI_TALLY_UNKNOWN_CLASS,
    DDI_TALLY_UNKNOWN_IMAGE,
    DDI_TALLY_MISSING_XML,
    DDI_TALLY_MISSING_IMAGE,
    DDI_TALLIES
} ddi_tally;

/* A shape in a generated scene (scenes.c). */
typedef struct ddi_scenes {
    int32_t width, height, classes;
    int32_t objects;  /* of a scene, at most */
    int32_t smallest; /* 0 small, 1 medium, 2 large */
    uint64_t seed;
    uint32_t stream; /* which split */
} ddi_scenes;

typedef struct ddi_class {
    int64_t id;
    char name[DDI_DATA_NAME];
} ddi_class;

typedef struct ddi_picture {
    int64_t id;
    int64_t file;  /* offset into text */
    int64_t first; /* of its objects */
    int32_t objects;
    int32_t width, height; /* 0: not said */
} ddi_picture;

/* As a reader found it. `category` is an id until the end, then the index of the class. */
typedef struct ddi_object {
    int64_t image, category;
    double box[4], area;
    int64_t sequence;
    uint8_t flags;
} ddi_object;

/* A growing array. */
typedef struct ddi_list {
    void *data;
    int64_t count, room;
} ddi_list;

typedef struct ddi_dataset_settings {
    char split[DDI_OPTION_TEXT], annotations[DDI_OPTION_TEXT], images[DDI_OPTION_TEXT], classes[DDI_OPTION_TEXT];
    int32_t format, skip_missing, keep_empty;
} ddi_dataset_settings;

extern const ddi_option_table ddi_dataset_options;

struct dd_dataset {
    int32_t references; /* atomic: the handle and its loaders */
    bool generated;
    ddi_dataset_settings settings;
    ddi_scenes scenes;
    char given[DDI_DATA_PATH];                       /* as dd_dataset_open got it; a folder: its absolute path */
    char root[DDI_DATA_PATH], folder[DDI_DATA_PATH]; /* what was opened; where file names begin */
    ddi_list image;                                  /* ddi_picture */
    ddi_list class;                                  /* ddi_class */
    ddi_list split;                                  /* char[DDI_DATA_NAME] */
    ddi_list text;                                   /* char: file names */
    ddi_list object;                                 /* ddi_object; empty after the end */
    /* objects, image by image */
    double (*box)[4];
    double *area;
    int32_t *label;
    uint8_t *flags;
    int64_t tally[DDI_TALLIES];
};

/* Room for `more` elements of `size` bytes. Errors: LIMIT, NOMEM. */
dd_status ddi_list_grow(ddi_list *list, int64_t more, int64_t most, size_t size, const char *what);

dd_status ddi_dataset_open(dd_dataset **dataset, const char *path, const char *options);
void ddi_dataset_retain(dd_dataset *dataset);
void ddi_dataset_release(dd_dataset *dataset);

/* For readers. Errors: LIMIT, NOMEM; of names also FORMAT (one that leaves the folder). */
dd_status ddi_dataset_add_image(dd_dataset *dataset, int64_t id, const char *file, int64_t width, int64_t height);
dd_status ddi_dataset_add_object(dd_dataset *dataset, const ddi_object *object);
dd_status ddi_dataset_add_class(dd_dataset *dataset, int64_t id, const char *name);
dd_status ddi_dataset_add_split(dd_dataset *dataset, const char *name, size_t length);
/* Which split of those that were added is wanted: by name, or by the name without the year behind it; with no wish, the only
 * one or "train". Errors: OPTION. */
dd_status ddi_dataset_choose_split(const dd_dataset *dataset, int32_t *split);
dd_status ddi_path_join(char to[DDI_DATA_PATH], const char *folder, const char *name);

static inline ddi_picture *ddi_dataset_picture(const dd_dataset *dataset, int32_t index)
{
    return (ddi_picture *)dataset->image.data + index;
}

/* Reads and decodes a picture, or renders it, upright. *truncated: its file ended too early. Thread-safe. Errors: IO, FORMAT,
 * LIMIT, NOMEM. */
dd_status ddi_dataset_read(const dd_dataset *dataset, int32_t index, ddi_image *image, bool *truncated);
/* What an error sentence calls a picture. */
const char *ddi_dataset_file(const dd_dataset *dataset, int32_t index);

/* The readers. */
dd_status ddi_coco_open(dd_dataset *dataset, const char *path, bool *is_one);
dd_status ddi_voc_open(dd_dataset *dataset, const char *path, bool *is_one);
dd_status ddi_folder_open(dd_dataset *dataset, const char *path);
dd_status ddi_scenes_open(dd_dataset *dataset, const char *words);

#endif
