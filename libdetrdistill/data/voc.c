/* SPDX-License-Identifier: Apache-2.0
 * Data sets in Pascal VOC's layout, of one year or several; and folders of pictures without annotations. */
#include "base/error.h"
#include "base/io.h"
#include "data/dataset.h"
#include "formats/voc_list.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The order of labels where no other class occurs. */
static const char *const voc_classes[] = {"aeroplane", "bicycle",     "bird",  "boat",        "bottle", "bus",      "car",
                                          "cat",       "chair",       "cow",   "diningtable", "dog",    "horse",    "motorbike",
                                          "person",    "pottedplant", "sheep", "sofa",        "train",  "tvmonitor"};
enum { VOC_CLASSES = 20, MOST_YEARS = 32 };

static const char *const picture_endings[] = {".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"};
enum { ENDINGS = 6 };

typedef struct reader {
    dd_dataset *d;
    int32_t years;
    char year[MOST_YEARS][16]; /* folders below the root, "." for the root itself */
    int32_t now;               /* the year that is read */
    const char *annotations, *images, *split;
    int64_t id;
    bool only_classes; /* a second look, at pictures of other splits, for their classes */
} reader;

/* ---- Classes: while reading, ids count from 0 in order of appearance */

static dd_status class_id(dd_dataset *d, const char *name, int64_t *id)
{
    const ddi_class *class = d->class.data;
    for (*id = 0; *id < d->class.count; ++*id) {
        if (strncmp(class[*id].name, name, DDI_DATA_NAME - 1) == 0) {
            return DD_OK;
        }
    }
    return ddi_dataset_add_class(d, *id, name);
}

static int32_t voc_label(const char *name)
{
    int32_t label = 0;
    while (label < VOC_CLASSES && strcmp(voc_classes[label], name) != 0) {
        label++;
    }
    return label;
}

static bool only_vocs(const dd_dataset *d)
{
    for (int64_t i = 0; i < d->class.count; i++) {
        if (voc_label(((const ddi_class *)d->class.data)[i].name) == VOC_CLASSES) {
            return false;
        }
    }
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const ddi_class *)a)->name, ((const ddi_class *)b)->name);
}

/* Ids become 1, 2, .. in VOC's order, or the alphabet's where other classes occur. */
static dd_status number_classes(dd_dataset *d)
{
    int64_t *number = ddi_alloc_zero(NULL, (size_t)d->class.count + 1, sizeof *number);
    if (!number) {
        return ddi_fail_nomem((uint64_t)d->class.count * sizeof *number, "the classes of a data set");
    }
    const bool vocs = only_vocs(d);
    ddi_class *class = d->class.data;
    if (!vocs) {
        qsort(class, (size_t)d->class.count, sizeof *class, by_name);
    }
    for (int64_t i = 0; i < d->class.count; i++) {
        number[class[i].id] = vocs ? voc_label(class[i].name) + 1 : i + 1;
    }
    for (int64_t i = 0; i < d->object.count; i++) {
        ddi_object *o = (ddi_object *)d->object.data + i;
        o->category = number[o->category];
    }
    ddi_free(NULL, number);
    if (!vocs) {
        for (int64_t i = 0; i < d->class.count; i++) {
            class[i].id = i + 1;
        }
        return DD_OK;
    }
    d->class.count = 0;
    for (int32_t i = 0; i < VOC_CLASSES; i++) {
        DDI_TRY(ddi_dataset_add_class(d, i + 1, voc_classes[i]));
    }
    return DD_OK;
}

/* ---- A picture */

/* Corners are cut to whole pixels and counted from 0; the last pixel is the far edge. */
static dd_status add_objects(reader *r, const ddi_voc_annotation *a)
{
    for (int32_t i = 0; i < a->objects; i++) {
        const ddi_voc_object *v = &a->object[i];
        ddi_object object = {.image = r->id, .flags = v->difficult ? DD_OBJECT_DIFFICULT : 0};
        DDI_TRY(class_id(r->d, v->name, &object.category));
        if (r->only_classes) {
            continue;
        }
        const double x0 = trunc(v->corner[0]), y0 = trunc(v->corner[1]);
        const double box[4] = {x0 - 1, y0 - 1, trunc(v->corner[2]) - x0, trunc(v->corner[3]) - y0};
        memcpy(object.box, box, sizeof box);
        object.area = box[2] * box[3];
        r->d->tally[DDI_TALLY_SWAPPED] += v->swapped;
        DDI_TRY(ddi_dataset_add_object(r->d, &object));
    }
    return DD_OK;
}

/* FOLDER/NAME with the first ending whose file exists, from the root on; the first ending where none does. */
static dd_status find_picture(const reader *r, const char *stem, char file[DDI_DATA_PATH])
{
    char path[DDI_DATA_PATH];
    for (int32_t i = 0; i <= ENDINGS; i++) {
        const char *ending = picture_endings[i % ENDINGS];
        const char *year = strcmp(r->year[r->now], ".") == 0 ? "" : r->year[r->now];
        const int length = snprintf(file, DDI_DATA_PATH, "%s%s%s%s%s%s", year, *year ? "/" : "", r->images,
                                    *r->images ? "/" : "", stem, ending);
        if (length >= DDI_DATA_PATH) {
            return ddi_fail(DD_ERR_LIMIT, NULL, "the path of picture %.80s is too long", stem);
        }
        DDI_TRY(ddi_path_join(path, r->d->root, file));
        if (i == ENDINGS || ddi_file_exists(path)) {
            break;
        }
    }
    return DD_OK;
}

static dd_status xml_path(const reader *r, const char *stem, char path[DDI_DATA_PATH])
{
    const int length = snprintf(path, DDI_DATA_PATH, "%s/%s/%s/%s.xml", r->d->root, r->year[r->now], r->annotations, stem);
    return length < DDI_DATA_PATH ? DD_OK : ddi_fail(DD_ERR_LIMIT, NULL, "the path of picture %.80s is too long", stem);
}

static dd_status take_picture(void *user, const char *name, size_t length)
{
    reader *r = user;
    char stem[DDI_DATA_NAME], path[DDI_DATA_PATH], file[DDI_DATA_PATH];
    ddi_voc_annotation a = {0};
    if (length >= sizeof stem) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "a picture's name has %zu characters; it may have 127", length);
    }
    memcpy(stem, name, length);
    stem[length] = '\0';
    DDI_TRY(xml_path(r, stem, path));
    const bool has_xml = ddi_file_exists(path);
    if (has_xml) {
        DDI_TRY(ddi_voc_read_file(&a, &ddi_default_allocator, path));
    }
    dd_status status = DD_OK;
    if (!r->only_classes) {
        r->id++;
        r->d->tally[DDI_TALLY_MISSING_XML] += !has_xml;
        status = find_picture(r, stem, file);
        if (status == DD_OK) {
            status = ddi_dataset_add_image(r->d, r->id, file, a.width, a.height);
        }
    }
    if (status == DD_OK) {
        status = add_objects(r, &a);
    }
    ddi_voc_free(&a);
    return status;
}

/* ---- A folder */

static size_t stem_of(const char *file)
{
    const size_t length = strlen(file);
    for (int32_t i = 0; i < ENDINGS; i++) {
        const size_t ending = strlen(picture_endings[i]);
        if (length > ending && strcmp(file + length - ending, picture_endings[i]) == 0) {
            return length - ending;
        }
    }
    return 0;
}

static dd_status each_picture(const char *folder, dd_status (*take)(void *user, const char *name, size_t length), void *user,
                              bool with_ending)
{
    char **file;
    int32_t files;
    dd_status status = ddi_folder_list(folder, "", &file, &files);
    for (int32_t i = 0; i < files && status == DD_OK; i++) {
        const size_t length = stem_of(file[i]);
        status = length > 0 ? take(user, file[i], with_ending ? strlen(file[i]) : length) : DD_OK;
    }
    ddi_free(NULL, file);
    return status;
}

static dd_status each_xml(const char *folder, reader *r)
{
    char **file;
    int32_t files;
    dd_status status = ddi_folder_list(folder, ".xml", &file, &files);
    for (int32_t i = 0; i < files && status == DD_OK; i++) {
        status = take_picture(r, file[i], strlen(file[i]) - 4);
    }
    ddi_free(NULL, file);
    return status;
}

static dd_status year_path(const reader *r, const char *name, char path[DDI_DATA_PATH])
{
    char year[DDI_DATA_PATH];
    DDI_TRY(ddi_path_join(year, r->d->root, r->year[r->now]));
    return ddi_path_join(path, year, name);
}

/* With split NULL: every picture. */
static dd_status read_year(reader *r)
{
    char path[DDI_DATA_PATH], list[2 * DDI_DATA_NAME];
    if (!r->split) {
        DDI_TRY(year_path(r, r->images, path));
        return each_picture(path, take_picture, r, false);
    }
    snprintf(list, sizeof list, "ImageSets/Main/%s.txt", r->split);
    DDI_TRY(year_path(r, list, path));
    return ddi_file_exists(path) ? ddi_voc_each_name(path, take_picture, r) : DD_OK;
}

/* Lists of single classes, like cat_train.txt, are no splits. */
static dd_status add_splits(reader *r)
{
    char path[DDI_DATA_PATH];
    char **file;
    int32_t files;
    DDI_TRY(year_path(r, "ImageSets/Main", path));
    if (!ddi_file_exists(path)) {
        return DD_OK;
    }
    dd_status status = ddi_folder_list(path, ".txt", &file, &files);
    for (int32_t i = 0; i < files && status == DD_OK; i++) {
        const size_t length = strlen(file[i]) - 4;
        bool known = strchr(file[i], '_') != NULL;
        for (int64_t k = 0; k < r->d->split.count && !known; k++) {
            const char *name = (const char *)r->d->split.data + k * DDI_DATA_NAME;
            known = strncmp(name, file[i], length) == 0 && name[length] == '\0';
        }
        status = known ? DD_OK : ddi_dataset_add_split(r->d, file[i], length);
    }
    ddi_free(NULL, file);
    return status;
}

/* VOC2007, VOC2012, .. below the root. */
static dd_status find_years(reader *r)
{
    char **name;
    int32_t names;
    DDI_TRY(ddi_folder_list(r->d->root, "", &name, &names));
    for (int32_t i = 0; i < names && r->years < MOST_YEARS; i++) {
        if (strncmp(name[i], "VOC", 3) == 0 && strlen(name[i]) == 7 && strspn(name[i] + 3, "0123456789") == 4) {
            snprintf(r->year[r->years++], sizeof r->year[0], "%.7s", name[i]);
        }
    }
    ddi_free(NULL, name);
    return DD_OK;
}

static bool has(const char *folder, const char *name)
{
    char path[DDI_DATA_PATH];
    return *name && snprintf(path, sizeof path, "%s/%s", folder, name) < DDI_DATA_PATH && ddi_file_exists(path);
}

/* Finds the years: the path itself, those below it, or those below its VOCdevkit. */
static dd_status find_layout(reader *r)
{
    dd_dataset *d = r->d;
    const bool given = d->settings.annotations[0] && d->settings.images[0] && d->settings.format > 0;
    r->annotations = d->settings.annotations[0] ? d->settings.annotations : "Annotations";
    r->images = d->settings.images[0] ? d->settings.images : "JPEGImages";
    if (given || has(d->root, "ImageSets/Main") || (has(d->root, "Annotations") && has(d->root, r->images))) {
        snprintf(r->year[r->years++], sizeof r->year[0], ".");
        return DD_OK;
    }
    if (has(d->root, "VOCdevkit")) {
        char inner[DDI_DATA_PATH];
        DDI_TRY(ddi_path_join(inner, d->root, "VOCdevkit"));
        memcpy(d->root, inner, sizeof inner);
    }
    return find_years(r);
}

/* The labels must be the same in every split: unless only VOC's classes occur, every annotation is looked at. */
static dd_status look_for_classes(reader *r)
{
    char path[DDI_DATA_PATH];
    r->only_classes = true;
    for (r->now = 0; r->now < r->years && !only_vocs(r->d); r->now++) {
        DDI_TRY(year_path(r, r->annotations, path));
        DDI_TRY(ddi_file_exists(path) ? each_xml(path, r) : DD_OK);
    }
    return number_classes(r->d);
}

dd_status ddi_voc_open(dd_dataset *d, const char *path, bool *is_one)
{
    reader r = {.d = d};
    const size_t length = strlen(path);
    if ((length > 5 && strcmp(path + length - 5, ".json") == 0) || stem_of(path) > 0) {
        return DD_OK;
    }
    DDI_TRY(find_layout(&r));
    if (r.years == 0) {
        return DD_OK;
    }
    *is_one = true;
    for (r.now = 0; r.now < r.years; r.now++) {
        DDI_TRY(add_splits(&r));
    }
    if (d->split.count > 0) {
        int32_t split;
        DDI_TRY(ddi_dataset_choose_split(d, &split));
        r.split = (const char *)d->split.data + (size_t)split * DDI_DATA_NAME;
    } else {
        DDI_TRY(ddi_dataset_add_split(d, "all", 3));
    }
    memcpy(d->folder, d->root, sizeof d->folder);
    for (r.now = 0; r.now < r.years; r.now++) {
        DDI_TRY(read_year(&r));
    }
    return look_for_classes(&r);
}

/* ---- Pictures alone */

static dd_status take_alone(void *user, const char *name, size_t length)
{
    dd_dataset *d = user;
    return ddi_dataset_add_image(d, d->image.count + 1, name, 0, 0);
}

dd_status ddi_folder_open(dd_dataset *d, const char *path)
{
    DDI_TRY(ddi_dataset_add_split(d, "all", 3));
    if (stem_of(path) > 0) {
        const char *slash = strrchr(path, '/');
        snprintf(d->folder, sizeof d->folder, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
        return take_alone(d, slash ? slash + 1 : path, 0);
    }
    memcpy(d->folder, d->root, sizeof d->folder);
    DDI_TRY(each_picture(path, take_alone, d, true));
    return d->image.count > 0 ? DD_OK
                              : ddi_fail(DD_ERR_FORMAT, NULL,
                                         "%.150s is no data set: neither VOC's folders nor a COCO file nor pictures", path);
}
