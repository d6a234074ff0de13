/* SPDX-License-Identifier: Apache-2.0
 * The data set: collecting, choosing a split, reading a picture. finish.c puts it in order. */
#include "data/dataset.h"
#include "base/error.h"
#include "base/io.h"
#include "base/limits.h"
#include "data/finish.h"
#include "data/scenes.h"

#include <stdio.h>
#include <string.h>

static const ddi_option options[] = {
    {"split", DDI_TEXT, offsetof(ddi_dataset_settings, split), 0, 0, "", NULL,
     "train, val, test, .. as the folder names them; empty: the only one, or train"},
    {"format", DDI_CHOICE, offsetof(ddi_dataset_settings, format), 0, 0, "auto", "auto|coco|voc|pictures",
     "what lies at the path; auto: look"},
    {"annotations", DDI_TEXT, offsetof(ddi_dataset_settings, annotations), 0, 0, "", NULL,
     "annotation file (COCO) or folder (VOC), from the path on"},
    {"images", DDI_TEXT, offsetof(ddi_dataset_settings, images), 0, 0, "", NULL, "folder of the pictures, from the path on"},
    {"classes", DDI_TEXT, offsetof(ddi_dataset_settings, classes), 0, 0, "", NULL,
     "names with commas between, '_' for a blank: only these, in this order"},
    {"missing", DDI_CHOICE, offsetof(ddi_dataset_settings, skip_missing), 0, 0, "skip", "error|skip",
     "pictures whose file is missing"},
    {"empty", DDI_CHOICE, offsetof(ddi_dataset_settings, keep_empty), 0, 0, "keep", "drop|keep", "pictures without a target"},
};
const ddi_option_table ddi_dataset_options = {"dataset", options, sizeof options / sizeof options[0]};

enum { AUTO, COCO, VOC, PICTURES };

dd_status ddi_list_grow(ddi_list *list, int64_t more, int64_t most, size_t size, const char *what)
{
    const int64_t needed = list->count + more;
    if (needed <= list->room) {
        return DD_OK;
    }
    if (needed > most) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "more than %lld %s", (long long)most, what);
    }
    int64_t room = list->room < 32 ? 64 : 2 * list->room;
    room = room < needed ? needed : room > most ? most : room;
    void *grown = ddi_realloc(NULL, list->data, (size_t)room * size);
    if (!grown) {
        return ddi_fail_nomem((uint64_t)room * size, what);
    }
    list->data = grown;
    list->room = room;
    return DD_OK;
}

/* ---- Collecting */

/* Names come from files: they must stay below the folder. */
static bool leaves_folder(const char *name)
{
    if (*name == '/' || *name == '\0') {
        return true;
    }
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0')) {
            return true;
        }
    }
    return false;
}

dd_status ddi_dataset_add_image(dd_dataset *d, int64_t id, const char *file, int64_t width, int64_t height)
{
    const int64_t length = (int64_t)strlen(file) + 1;
    if (leaves_folder(file)) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "picture %lld: the file name '%.80s' is empty or leaves the data set's folder",
                        (long long)id, file);
    }
    if (width < 0 || height < 0 || width > DDI_MAX_IMAGE_SIDE || height > DDI_MAX_IMAGE_SIDE) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "picture %lld: its sides %lld x %lld must lie in 0 .. %d", (long long)id,
                        (long long)width, (long long)height, DDI_MAX_IMAGE_SIDE);
    }
    DDI_TRY(ddi_list_grow(&d->image, 1, DDI_MAX_DATASET_IMAGES, sizeof(ddi_picture), "pictures"));
    DDI_TRY(ddi_list_grow(&d->text, length, DDI_MAX_DATASET_IMAGES * 64, 1, "bytes of file names"));
    ((ddi_picture *)d->image.data)[d->image.count++] =
        (ddi_picture){.id = id, .file = d->text.count, .width = (int32_t)width, .height = (int32_t)height};
    memcpy((char *)d->text.data + d->text.count, file, (size_t)length);
    d->text.count += length;
    return DD_OK;
}

dd_status ddi_dataset_add_object(dd_dataset *d, const ddi_object *object)
{
    DDI_TRY(ddi_list_grow(&d->object, 1, INT32_MAX, sizeof *object, "objects"));
    ddi_object *made = (ddi_object *)d->object.data + d->object.count;
    *made = *object;
    made->sequence = d->object.count++;
    return DD_OK;
}

static void copy_name(char to[DDI_DATA_NAME], const char *name, size_t length)
{
    length = length < DDI_DATA_NAME ? length : DDI_DATA_NAME - 1;
    memcpy(to, name, length);
    to[length] = '\0';
}

dd_status ddi_dataset_add_class(dd_dataset *d, int64_t id, const char *name)
{
    DDI_TRY(ddi_list_grow(&d->class, 1, DDI_MAX_CLASSES, sizeof(ddi_class), "classes"));
    ddi_class *made = (ddi_class *)d->class.data + d->class.count++;
    made->id = id;
    copy_name(made->name, name, strlen(name));
    return DD_OK;
}

dd_status ddi_dataset_add_split(dd_dataset *d, const char *name, size_t length)
{
    DDI_TRY(ddi_list_grow(&d->split, 1, 4096, DDI_DATA_NAME, "splits"));
    copy_name((char *)d->split.data + d->split.count++ * DDI_DATA_NAME, name, length);
    return DD_OK;
}

/* ---- Splits */

/* "train2017" begins with "train" and goes on with digits. */
static bool is_with_year(const char *name, const char *wanted)
{
    const size_t length = strlen(wanted);
    return strncmp(name, wanted, length) == 0 && name[length] && name[length + strspn(name + length, "0123456789")] == '\0';
}

dd_status ddi_dataset_choose_split(const dd_dataset *d, int32_t *split)
{
    const char(*name)[DDI_DATA_NAME] = d->split.data;
    const char *wanted = d->settings.split[0] ? d->settings.split : "train";
    int32_t fits = 0;
    for (int32_t i = 0; i < (int32_t)d->split.count; i++) {
        if (strcmp(name[i], wanted) == 0 || (d->split.count == 1 && !d->settings.split[0])) {
            *split = i;
            return DD_OK;
        }
        if (is_with_year(name[i], wanted)) {
            *split = i;
            fits++;
        }
    }
    if (fits == 1) {
        return DD_OK;
    }
    char list[160] = "";
    for (int32_t i = 0; i < (int32_t)d->split.count; i++) {
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", name[i]);
    }
    return ddi_fail(DD_ERR_OPTION, "split", "split=%.40s fits %s of the splits here: %s", wanted, fits ? "several" : "none",
                    list);
}

dd_status ddi_path_join(char to[DDI_DATA_PATH], const char *folder, const char *name)
{
    return snprintf(to, DDI_DATA_PATH, "%s/%s", folder, name) < DDI_DATA_PATH
               ? DD_OK
               : ddi_fail(DD_ERR_LIMIT, NULL, "the path %.80s.. is too long", folder);
}

/* ---- Opening */

static dd_status read_path(dd_dataset *d, const char *path)
{
    const int32_t format = d->settings.format;
    bool is_one = false;
    if (strlen(path) >= sizeof d->given) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "the path %.80s.. is too long", path);
    }
    memcpy(d->given, path, strlen(path) + 1);
    if (strncmp(path, "scenes", 6) == 0 && (path[6] == '\0' || path[6] == ':')) {
        return ddi_scenes_open(d, path[6] ? path + 7 : "");
    }
    if (snprintf(d->root, sizeof d->root, "%s", path) >= (int)sizeof d->root) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "the path %.80s.. is too long", path);
    }
    if (!ddi_file_exists(path)) {
        return ddi_fail(DD_ERR_IO, NULL, "there is nothing at %.200s", path);
    }
    ddi_path_absolute(path, d->given);
    if (format == AUTO || format == VOC) {
        DDI_TRY(ddi_voc_open(d, path, &is_one));
    }
    if (!is_one && (format == AUTO || format == COCO)) {
        DDI_TRY(ddi_coco_open(d, path, &is_one));
    }
    if (!is_one && (format == AUTO || format == PICTURES)) {
        return ddi_folder_open(d, path);
    }
    return is_one ? DD_OK : ddi_fail(DD_ERR_FORMAT, NULL, "%.180s is not laid out as %s", path, format == VOC ? "VOC" : "COCO");
}

dd_status ddi_dataset_open(dd_dataset **dataset, const char *path, const char *text)
{
    dd_dataset *d = ddi_alloc_zero(NULL, 1, sizeof *d);
    if (!d) {
        return ddi_fail_nomem(sizeof *d, "a data set");
    }
    d->references = 1;
    ddi_options_init(&ddi_dataset_options, &d->settings);
    dd_status status = ddi_options_parse(&ddi_dataset_options, text, &d->settings, NULL);
    if (status == DD_OK) {
        status = read_path(d, path);
    }
    if (status == DD_OK) {
        status = ddi_dataset_finish(d);
    }
    if (status == DD_OK) {
        *dataset = d;
    } else {
        ddi_dataset_release(d);
    }
    return status;
}

void ddi_dataset_retain(dd_dataset *d)
{
    __atomic_add_fetch(&d->references, 1, __ATOMIC_RELAXED);
}

void ddi_dataset_release(dd_dataset *d)
{
    if (__atomic_sub_fetch(&d->references, 1, __ATOMIC_ACQ_REL) > 0) {
        return;
    }
    void *const held[] = {d->image.data, d->class.data, d->split.data, d->text.data, d->object.data,
                          d->box,        d->area,       d->label,      d->flags};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) {
        ddi_free(NULL, held[i]);
    }
    ddi_free(NULL, d);
}

/* ---- Pictures */

const char *ddi_dataset_file(const dd_dataset *d, int32_t index)
{
    return (const char *)d->text.data + ddi_dataset_picture(d, index)->file;
}

/* Annotations of a picture with a turned size were made on the picture as it is stored. */
static bool is_to_be_turned(const ddi_picture *p, const ddi_image_about *about)
{
    const bool as_stored = p->width == about->width && p->height == about->height;
    return about->orientation < 5 || !as_stored || p->width == p->height;
}

static dd_status read_file(const ddi_picture *p, const char *path, ddi_image *image, bool *truncated)
{
    ddi_file_map map;
    ddi_image_about about;
    DDI_TRY(ddi_file_map_open(&map, path));
    dd_status status = ddi_image_decode(image, &about, path, map.data, map.size);
    ddi_file_map_close(&map);
    DDI_TRY(status);
    *truncated = about.truncated;
    return is_to_be_turned(p, &about) ? ddi_image_turn(image, about.orientation) : DD_OK;
}

dd_status ddi_dataset_read(const dd_dataset *d, int32_t index, ddi_image *image, bool *truncated)
{
    char path[DDI_DATA_PATH];
    *truncated = false;
    if (d->generated) {
        return ddi_scene_render(&d->scenes, (int32_t)ddi_dataset_picture(d, index)->id - 1, image);
    }
    DDI_TRY(ddi_path_join(path, d->folder, ddi_dataset_file(d, index)));
    return read_file(ddi_dataset_picture(d, index), path, image, truncated);
}
