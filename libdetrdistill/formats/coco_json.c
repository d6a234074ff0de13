/* SPDX-License-Identifier: Apache-2.0
 * COCO annotations through the walk item by item. */
#include "formats/coco_json.h"
#include "base/error.h"

#include <string.h>

typedef struct walk {
    ddi_json_items *items;
    const ddi_coco_taker *taker;
    void *user;
} walk;

typedef dd_status (*take_item)(const walk *w, struct json_object *item);

static bool read_box(ddi_json_items *items, struct json_object *item, bool negative_sides, double box[4])
{
    if (!ddi_json_numbers(item, "bbox", 4, box)) {
        return ddi_json_items_problem(items, "'bbox' is not an array of four numbers");
    }
    return negative_sides || (box[2] >= 0 && box[3] >= 0) ||
           ddi_json_items_problem(items, "'bbox' has a negative width or height");
}

bool ddi_coco_box(ddi_json_items *items, struct json_object *item, double box[4])
{
    return read_box(items, item, false, box);
}

static dd_status problem(const walk *w, const char *what)
{
    ddi_json_items_problem(w->items, what);
    return w->items->status;
}

static dd_status take_image(const walk *w, struct json_object *item)
{
    ddi_coco_image image = {.file = ""};
    if (!ddi_json_integer(item, "id", &image.id)) {
        return problem(w, "an image lacks its integer 'id'");
    }
    ddi_json_integer(item, "width", &image.width);
    ddi_json_integer(item, "height", &image.height);
    ddi_json_text(item, "file_name", &image.file);
    return w->taker->image(w->user, &image);
}

static dd_status take_annotation(const walk *w, struct json_object *item)
{
    ddi_coco_annotation a;
    int64_t crowd = 0, ignore = 0;
    if (!ddi_json_integer(item, "image_id", &a.image) || !ddi_json_integer(item, "category_id", &a.category)) {
        return problem(w, "an annotation lacks its integer 'image_id' or 'category_id'");
    }
    if (!read_box(w->items, item, w->taker->negative_sides, a.box)) {
        return w->items->status;
    }
    if (!ddi_json_number(item, "area", &a.area)) {
        a.area = a.box[2] * a.box[3];
    }
    ddi_json_integer(item, "iscrowd", &crowd);
    ddi_json_integer(item, "ignore", &ignore);
    a.crowd = crowd != 0;
    a.ignore = ignore != 0;
    return w->taker->annotation(w->user, &a);
}

static dd_status take_category(const walk *w, struct json_object *item)
{
    int64_t id;
    const char *name = "";
    if (!ddi_json_integer(item, "id", &id)) {
        return problem(w, "a category lacks its integer 'id'");
    }
    ddi_json_text(item, "name", &name);
    return w->taker->category(w->user, id, name);
}

static dd_status read_array(const walk *w, take_item take)
{
    if (!ddi_json_items_enter(w->items, '[')) {
        return problem(w, "an array is missing here");
    }
    for (bool first = true; ddi_json_items_more(w->items, &first);) {
        struct json_object *item = ddi_json_items_take(w->items);
        const dd_status status = item ? take(w, item) : w->items->status;
        json_object_put(item);
        DDI_TRY(status);
    }
    return w->items->status;
}

dd_status ddi_coco_read(ddi_json_items *items, const ddi_coco_taker *taker, void *user)
{
    const walk w = {items, taker, user};
    char key[32];
    int32_t found = 0;
    if (!ddi_json_items_enter(items, '{')) {
        return problem(&w, "annotations begin with '{'");
    }
    for (bool first = true; ddi_json_items_key(items, &first, key, sizeof key);) {
        take_item take = strcmp(key, "images") == 0        ? take_image
                         : strcmp(key, "annotations") == 0 ? take_annotation
                         : strcmp(key, "categories") == 0  ? take_category
                                                           : NULL;
        if (!take) {
            ddi_json_items_skip(items);
            continue;
        }
        found |= take == take_image ? 1 : take == take_annotation ? 2 : 0;
        DDI_TRY(read_array(&w, take));
    }
    DDI_TRY(ddi_json_items_finish(items));
    return found == 3 ? DD_OK : ddi_fail(DD_ERR_FORMAT, items->file, "%s has no 'images' or no 'annotations'", items->file);
}
