/* SPDX-License-Identifier: Apache-2.0
 * Data sets in COCO's layout: finds the annotation file of a split and the folder of its pictures. */
#include "base/error.h"
#include "base/io.h"
#include "data/dataset.h"
#include "formats/coco_json.h"

#include <stdio.h>
#include <string.h>

/* ---- Contents */

static dd_status take_image(void *user, const ddi_coco_image *image)
{
    return ddi_dataset_add_image(user, image->id, image->file, image->width, image->height);
}

static dd_status take_annotation(void *user, const ddi_coco_annotation *a)
{
    ddi_object object = {.image = a->image, .category = a->category, .area = a->area};
    memcpy(object.box, a->box, sizeof object.box);
    object.flags = (uint8_t)((a->crowd ? DD_OBJECT_CROWD : 0) | (a->ignore ? DD_OBJECT_IGNORED : 0));
    return ddi_dataset_add_object(user, &object);
}

static dd_status take_category(void *user, int64_t id, const char *name)
{
    return ddi_dataset_add_class(user, id, name);
}

static dd_status read_annotations(dd_dataset *d, const char *path)
{
    static const ddi_coco_taker taker = {take_image, take_annotation, take_category, .negative_sides = true};
    ddi_file_map map = {0};
    ddi_json_items items;
    DDI_TRY(ddi_file_map_open(&map, path));
    dd_status status = ddi_json_items_open(&items, path, map.data, map.size);
    if (status == DD_OK) {
        status = ddi_coco_read(&items, &taker, d);
        ddi_json_items_close(&items);
    }
    ddi_file_map_close(&map);
    if (status == DD_OK && d->image.count == 0) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%.180s lists no pictures", path);
    }
    return status;
}

/* ---- Where the pictures are */

/* Whether one of the first pictures lies in the folder. */
static dd_status has_pictures(const dd_dataset *d, const char *folder, bool *has)
{
    enum { TRIED = 16 };
    char path[DDI_DATA_PATH];
    *has = false;
    for (int32_t i = 0; i < TRIED && i < d->image.count && !*has; i++) {
        DDI_TRY(ddi_path_join(path, folder, ddi_dataset_file(d, i)));
        *has = ddi_file_exists(path);
    }
    return DD_OK;
}

static void folder_of(char folder[DDI_DATA_PATH], const char *file)
{
    const char *slash = strrchr(file, '/');
    if (slash) {
        snprintf(folder, DDI_DATA_PATH, "%.*s", slash > file ? (int)(slash - file) : 1, file);
    } else {
        snprintf(folder, DDI_DATA_PATH, ".");
    }
}

/* The places where COCO and its imitators keep a split's pictures; the first that has one of them. */
static dd_status find_folder(dd_dataset *d, const char *root, const char *annotations, const char *split)
{
    char beside[DDI_DATA_PATH], name[7][2 * DDI_DATA_NAME];
    const size_t letters = strcspn(split, "0123456789");
    folder_of(beside, annotations);
    if (d->settings.images[0]) {
        return d->settings.images[0] == '/' ? ddi_path_join(d->folder, "/", d->settings.images + 1)
                                            : ddi_path_join(d->folder, root, d->settings.images);
    }
    snprintf(name[0], sizeof *name, "%s", split);
    snprintf(name[1], sizeof *name, "images/%s", split);
    snprintf(name[2], sizeof *name, "%.*s", (int)letters, split);
    snprintf(name[3], sizeof *name, "images/%.*s", (int)letters, split);
    snprintf(name[4], sizeof *name, "images");
    snprintf(name[5], sizeof *name, "JPEGImages");
    snprintf(name[6], sizeof *name, ".");
    bool has = false;
    for (int32_t i = -1; i < 7 && !has; i++) {
        DDI_TRY(i < 0 ? ddi_path_join(d->folder, beside, ".") : ddi_path_join(d->folder, root, name[i]));
        DDI_TRY(has_pictures(d, d->folder, &has));
    }
    return has ? DD_OK
               : ddi_fail(DD_ERR_IO, NULL,
                          "%.150s: its pictures are in none of the usual folders; say where with images=", annotations);
}

/* ---- Where the annotations are */

enum { SPLIT_FILES = 256 };

typedef struct found {
    char folder[DDI_DATA_PATH]; /* of the annotation files */
    char **file;
    int32_t files;
    int32_t file_of[SPLIT_FILES]; /* a split's file */
} found;

/* "instances_train2017.json" is the split "train2017", "instances.json" is "all". */
static dd_status add_split(dd_dataset *d, const char *file)
{
    size_t length = strlen(file) - strlen(".json");
    if (strncmp(file, "instances", 9) == 0) {
        const size_t skipped = file[9] == '_' ? 10 : 9;
        file += skipped;
        length -= skipped < length ? skipped : length;
    }
    return length > 0 ? ddi_dataset_add_split(d, file, length) : ddi_dataset_add_split(d, "all", 3);
}

/* Each JSON file of a folder is a split; where some are called instances*, only those. */
static dd_status list_files(dd_dataset *d, found *f)
{
    bool instances = false;
    DDI_TRY(ddi_folder_list(f->folder, ".json", &f->file, &f->files));
    for (int32_t i = 0; i < f->files; i++) {
        instances |= strncmp(f->file[i], "instances", 9) == 0;
    }
    for (int32_t i = 0; i < f->files && d->split.count < SPLIT_FILES; i++) {
        if (!instances || strncmp(f->file[i], "instances", 9) == 0) {
            f->file_of[d->split.count] = i;
            DDI_TRY(add_split(d, f->file[i]));
        }
    }
    return DD_OK;
}

/* ROOT/SPLIT/_annotations.coco.json, the pictures beside it. */
static dd_status open_exported(dd_dataset *d, const char *root, bool *is_one)
{
    static const char *const names[] = {"train", "valid", "val", "test"};
    char path[DDI_DATA_PATH], name[64];
    for (int32_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s/_annotations.coco.json", names[i]);
        DDI_TRY(ddi_path_join(path, root, name));
        if (ddi_file_exists(path)) {
            DDI_TRY(ddi_dataset_add_split(d, names[i], strlen(names[i])));
        }
    }
    if (d->split.count == 0) {
        return DD_OK;
    }
    int32_t split;
    *is_one = true;
    DDI_TRY(ddi_dataset_choose_split(d, &split));
    const char *chosen = (const char *)d->split.data + (size_t)split * DDI_DATA_NAME;
    snprintf(name, sizeof name, "%.30s/_annotations.coco.json", chosen);
    DDI_TRY(ddi_path_join(path, root, name));
    DDI_TRY(read_annotations(d, path));
    return find_folder(d, root, path, chosen);
}

static dd_status open_file(dd_dataset *d, const char *root, const char *path, const char *split)
{
    DDI_TRY(read_annotations(d, path));
    return find_folder(d, root, path, split);
}

static dd_status open_listed(dd_dataset *d, const char *root, found *f, bool *is_one)
{
    char path[DDI_DATA_PATH];
    int32_t split;
    DDI_TRY(list_files(d, f));
    if (d->split.count == 0) {
        return DD_OK;
    }
    *is_one = true;
    DDI_TRY(ddi_dataset_choose_split(d, &split));
    DDI_TRY(ddi_path_join(path, f->folder, f->file[f->file_of[split]]));
    return open_file(d, root, path, (const char *)d->split.data + (size_t)split * DDI_DATA_NAME);
}

static bool ends_with_json(const char *path)
{
    const size_t length = strlen(path);
    return length > 5 && strcmp(path + length - 5, ".json") == 0;
}

dd_status ddi_coco_open(dd_dataset *d, const char *path, bool *is_one)
{
    char root[DDI_DATA_PATH], file[DDI_DATA_PATH];
    found f = {.file = NULL};
    if (ends_with_json(path) || d->settings.annotations[0]) {
        *is_one = true;
        DDI_TRY(ddi_dataset_add_split(d, "all", 3));
        if (d->settings.annotations[0]) {
            DDI_TRY(ddi_path_join(file, path, d->settings.annotations));
            return open_file(d, path, file, d->settings.split);
        }
        folder_of(root, path);
        return open_file(d, root, path, d->settings.split);
    }
    DDI_TRY(ddi_path_join(f.folder, path, "."));
    if (!ddi_file_exists(f.folder)) { /* a file */
        return DD_OK;
    }
    DDI_TRY(ddi_path_join(f.folder, path, "annotations"));
    if (!ddi_file_exists(f.folder)) {
        DDI_TRY(open_exported(d, path, is_one));
        if (*is_one) {
            return DD_OK;
        }
        DDI_TRY(ddi_path_join(f.folder, path, "."));
    }
    const dd_status status = open_listed(d, path, &f, is_one);
    ddi_free(NULL, f.file);
    return status;
}
