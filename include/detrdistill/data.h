/* SPDX-License-Identifier: Apache-2.0
 * Pictures, data sets and the loader that feeds a detector: COCO, Pascal VOC, folders of pictures, generated scenes. */
#ifndef DETRDISTILL_DATA_H
#define DETRDISTILL_DATA_H

#include <detrdistill/status.h>
#include <detrdistill/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- A picture: 8-bit RGB in host memory */

typedef struct dd_image dd_image;

/* Makes a black picture. Errors: ARGUMENT, LIMIT (a side over 65,500, more than 2^28 pixels), NOMEM. One thread at a time. */
DD_API dd_status dd_image_create(dd_image **image, int32_t width, int32_t height);

/* Reads a JPEG (grey or colour, baseline or progressive) or a PNG of any kind (16 bits become 8, transparency is left out),
 * turned upright by its EXIF orientation. Errors: ARGUMENT, IO, FORMAT (damaged, cut off, CMYK, another format), LIMIT (checked
 * before memory is taken), NOMEM. */
DD_API dd_status dd_image_open(dd_image **image, const char *path);

/* The same from memory; the bytes are not kept. */
DD_API dd_status dd_image_decode(dd_image **image, const void *bytes, uint64_t size);
DD_API void dd_image_free(dd_image *image);

/* A view of the pixels, u8 [height,width,3], which may be written to. It lives until the picture's next resize or free.
 * Errors: ARGUMENT. */
DD_API dd_status dd_image_pixels(dd_image *image, dd_tensor *view);

/* Antialiased bilinear resize, bit for bit that of Pillow (across, then down). Errors: ARGUMENT, LIMIT, NOMEM. */
DD_API dd_status dd_image_resize(dd_image *image, int32_t width, int32_t height);

/* Draws a frame along the inside of a box (x0, y0, x1, y1 in pixels; what leaves the picture is cut), `thickness` pixels wide,
 * colour 0xRRGGBB, and, where `label` is not NULL or "", a small label above it, or inside where there is no room. Letters are
 * ASCII capitals, digits and some marks; others become a box. Errors: ARGUMENT (thickness outside 1 .. 256, NaN). */
DD_API dd_status dd_image_draw_box(dd_image *image, const double box[4], int32_t thickness, uint32_t rgb, const char *label);

/* Writes a PNG: at `path` is at any time the old file or the whole new one. Errors: ARGUMENT, IO, NOMEM. */
DD_API dd_status dd_image_save(const dd_image *image, const char *path);

/* ---- A data set: one split, in memory but for the pixels */

typedef struct dd_dataset dd_dataset;

/* Why an object is no training target; 0: it is one. */
enum {
    DD_OBJECT_CROWD = 1,     /* COCO's iscrowd */
    DD_OBJECT_DIFFICULT = 2, /* VOC's difficult */
    DD_OBJECT_IGNORED = 4,   /* marked as ignore in the file */
    DD_OBJECT_DROPPED = 8    /* no area, a side under one pixel, or outside its picture */
};

/* Opens a split of a data set and reads its annotations. `path` is
 *   - a folder in COCO's layout: annotations/instances_SPLIT.json (or JSON files in the folder itself, or
 *     SPLIT/_annotations.coco.json) and pictures in SPLIT/, images/SPLIT/ or images/; or the JSON file;
 *   - a folder in Pascal VOC's: Annotations/, JPEGImages/, ImageSets/Main/SPLIT.txt, or folders VOC2007, VOC2012, .. of these
 *     (also below VOCdevkit), whose lists are joined;
 *   - a picture, or a folder of pictures: a data set without objects;
 *   - "scenes" or "scenes:train=2000,val=200,test=200,seed=1,size=160,width=0,height=0,classes=5,objects=8,smallest=small":
 *     generated pictures with 1 to `objects` shapes each, of COCO's sizes from `smallest` (small|medium|large) on.
 * Options (dd_options_help("dataset")): "split=NAME format=auto|coco|voc|pictures annotations=PATH images=DIR
 * classes=NAME,NAME missing=error|skip empty=drop|keep". A split may be named without its year ("train" for train2017).
 * Labels count from 0 without gaps: COCO's categories by id; VOC's twenty classes in their usual order or, where others
 * occur, all classes of the folder by the alphabet. Pictures are ordered by id; VOC's ids are 1, 2, .. in the list's order.
 * Errors: ARGUMENT, OPTION, IO, FORMAT, LIMIT, NOMEM. One thread at a time; loaders keep a reference. */
DD_API dd_status dd_dataset_open(dd_dataset **dataset, const char *path, const char *options);
DD_API void dd_dataset_free(dd_dataset *dataset);

/* Pictures, and classes. Errors: ARGUMENT. */
DD_API dd_status dd_dataset_image_count(const dd_dataset *dataset, int32_t *count);
DD_API dd_status dd_dataset_class_count(const dd_dataset *dataset, int32_t *count);

/* The names of the splits that the path has. Borrowed until free. Errors: ARGUMENT, NOT_FOUND. */
DD_API dd_status dd_dataset_split_count(const dd_dataset *dataset, int32_t *count);
DD_API dd_status dd_dataset_split_at(const dd_dataset *dataset, int32_t index, const char **name);

/* The class of a label: its name (borrowed until free) and its id in the annotations (VOC: label + 1). Pointers may be NULL.
 * Errors: ARGUMENT, NOT_FOUND. */
DD_API dd_status dd_dataset_class_at(const dd_dataset *dataset, int32_t label, int64_t *id, const char **name);

/* A picture: its id, its file below the data set's folder (borrowed until free), and its size as the annotations say (0: they
 * do not). Pointers may be NULL. Errors: ARGUMENT, NOT_FOUND. */
DD_API dd_status dd_dataset_image_at(const dd_dataset *dataset, int32_t index, int64_t *id, const char **file, int32_t *width,
                                     int32_t *height);

/* A picture's objects as arrays, borrowed until free: boxes [count][4] (x, y, width, height in pixels from the upper left
 * corner, not cut at the picture), labels, areas (COCO: of the mask), and flags (DD_OBJECT_*; 0: a training target). Pointers
 * may be NULL. Errors: ARGUMENT, NOT_FOUND. */
DD_API dd_status dd_dataset_objects(const dd_dataset *dataset, int32_t index, int32_t *count, const double **boxes,
                                    const int32_t **labels, const double **areas, const uint8_t **flags);

/* Reads and decodes a picture, or renders it. Errors: ARGUMENT, NOT_FOUND, IO, FORMAT, LIMIT, NOMEM. */
DD_API dd_status dd_dataset_read(const dd_dataset *dataset, int32_t index, dd_image **image);

/* What was found and what was dropped, by name: images, objects, targets, images-without-targets, crowd, difficult, ignored,
 * zero-area, tiny, outside, clipped, swapped-corners (repaired), unknown-class, unknown-image, missing-xml (pictures taken as
 * empty), missing-image (pictures dropped). Names are static. Errors: ARGUMENT, NOT_FOUND. */
DD_API dd_status dd_dataset_statistic_count(const dd_dataset *dataset, int32_t *count);
DD_API dd_status dd_dataset_statistic_at(const dd_dataset *dataset, int32_t index, const char **name, int64_t *value);

/* ---- The loader: batches of resized, normalised pictures and their targets, decoded ahead by threads */

typedef struct dd_loader dd_loader;

/* Makes a loader. Options (dd_options_help("loader")):
 *   mode=train|eval   eval: all pictures once, in order, resized to the last of `sizes`; no flip, crop or shuffling
 *   batch=2  drop-last=0|1  limit=N (0: all)  shuffle=auto|0|1  seed=N
 *   sizes=480,512,..,800  max-size=1333 (0: none)   short sides, one drawn for each picture, and the longest long side
 *   flip=0.5  crop=0.5 (chance of: resize to one of crop-sizes=400,500,600, cut out a part whose sides are crop-min=384 to
 *   crop-max=600, then resize as above)  crop-max-size=0 (of the first resize; 0: none)
 *   multiple=1   height and width of a batch are rounded up to a multiple
 *   threads=1 (0: pictures are decoded inside dd_loader_next)  prefetch=2 (batches ahead)
 *   damaged=error|skip|keep   skip: pictures that are cut off or unreadable are left out of their batch and counted; keep: of
 *   those that are cut off the rest is grey
 * What is drawn depends on (seed, epoch, picture) alone: the same bits in the same order for any number of threads.
 * Errors: ARGUMENT, OPTION, NOMEM. One thread at a time. */
DD_API dd_status dd_loader_create(dd_loader **loader, dd_dataset *dataset, const char *options);

/* Stops the threads. NULL is fine. */
DD_API void dd_loader_free(dd_loader *loader);

/* Goes on to the next batch. *images: how many pictures it has, 0 at the end of an epoch (the call after it begins the next
 * one). On error the batch is passed over, and the loader can go on. Errors: ARGUMENT, IO, FORMAT, LIMIT, NOMEM (the picture is
 * named; the place is DD_PLACE_IMAGE), FORKED. */
DD_API dd_status dd_loader_next(dd_loader *loader, int32_t *images);

/* A tensor of the current batch, by name; it lives until the next call of dd_loader_next, dd_loader_seek or dd_loader_free.
 *   pixels [B,H,W,3] f32, RGB, normalised by ImageNet's mean and deviation, zero beyond a picture's right and lower edge
 *   image.sizes [B,2] i32 (w,h) of the real part   image.originals [B,2] i32 (w,h) of the upright file
 *   image.ids [B] i64   image.indices [B] i32 in the data set
 *   gt.boxes [G,4] f32 (cx,cy,w,h) in 0..1 of the real part   gt.labels [G] i32   gt.offsets [B+1] i32
 * Errors: ARGUMENT, NOT_FOUND, STATE (no batch). */
DD_API dd_status dd_loader_tensor(dd_loader *loader, const char *name, dd_tensor *view);

/* Where the loader is: the epoch (from 0), and how many of its batches were handed out. */
DD_API dd_status dd_loader_position(const dd_loader *loader, int64_t *epoch, int64_t *batch);

/* Goes on from a position, e.g. a saved one: what follows is what followed there. Errors: ARGUMENT. */
DD_API dd_status dd_loader_seek(dd_loader *loader, int64_t epoch, int64_t batch);

/* Batches of an epoch. */
DD_API dd_status dd_loader_batch_count(const dd_loader *loader, int64_t *count);

/* Pictures that were left out (damaged=skip) or completed with grey (damaged=keep) in the batches handed out so far. */
DD_API dd_status dd_loader_damaged_count(const dd_loader *loader, int64_t *count);

#ifdef __cplusplus
}
#endif
#endif
