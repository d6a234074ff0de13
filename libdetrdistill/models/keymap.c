/* SPDX-License-Identifier: Apache-2.0
 * Rules for names: matching, their inverse, and what they do to a file. */
#include "models/keymap.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/limits.h"
#include "formats/json_reader.h"

#include <stdio.h>
#include <string.h>

enum { MOST_HOLES = 8, MOST_RULES = 4096, MOST_RULE_BYTES = 1 << 20, MOST_NECK_LEVELS = 16 };

/* ---- Patterns */

/* What the wildcards of a pattern stand for. */
typedef struct holes {
    const char *at[MOST_HOLES];
    int32_t bytes[MOST_HOLES];
    int32_t count;
} holes;

static size_t digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* A star takes as little as it can; only the last one is widened when the rest does not fit, which is all that is needed. */
static bool fits(const char *pattern, const char *name, holes *h)
{
    const char *star = NULL;
    int32_t star_hole = 0;
    h->count = 0;
    for (;;) {
        bool good = true;
        if (*pattern == '*' || *pattern == '#') {
            const size_t bytes = *pattern == '*' ? *name != 0 : digits(name);
            good = bytes > 0 && h->count < MOST_HOLES;
            if (good) {
                star = *pattern == '*' ? pattern : star;
                star_hole = *pattern == '*' ? h->count : star_hole;
                h->at[h->count] = name;
                h->bytes[h->count++] = (int32_t)bytes;
                name += bytes;
                pattern++;
            }
        } else if (*pattern) {
            good = *pattern == *name;
            pattern += good;
            name += good;
        } else if (*name == 0) {
            return true;
        } else {
            good = false;
        }
        if (!good) {
            if (!star || h->at[star_hole][h->bytes[star_hole]] == 0) {
                return false;
            }
            name = h->at[star_hole] + ++h->bytes[star_hole];
            pattern = star + 1;
            h->count = star_hole + 1;
        }
    }
}

typedef struct writer {
    char *at, *end;
} writer;

static void put(writer *w, const char *text, size_t bytes)
{
    if (w->at && (size_t)(w->end - w->at) > bytes) {
        memcpy(w->at, text, bytes);
        w->at += bytes;
    } else {
        w->at = NULL;
    }
}

/* "{q,k,v}" in a pattern: where it lies and how many words it has; 1 without one. */
static int32_t find_words(const char *pattern, const char **open)
{
    int32_t words = 1;
    *open = strchr(pattern, '{');
    for (const char *at = *open; at && *at && *at != '}'; at++) {
        words += *at == ',';
    }
    return words;
}

/* The pattern with word `part` in place of the braces and the number of layers in place of '@'; wildcards stay. */
static bool choose(const char *pattern, int32_t part, int32_t layers, char out[DDI_KEY_BYTES])
{
    writer w = {out, out + DDI_KEY_BYTES};
    const char *open;
    find_words(pattern, &open);
    for (const char *at = pattern; *at; at++) {
        if (at == open) {
            const char *close = strchr(at, '}');
            for (at++; close && part > 0 && at < close; at++) {
                part -= *at == ',';
            }
            put(&w, at, strcspn(at, ",}"));
            if (!close) {
                return false;
            }
            at = close;
        } else if (*at == '@') {
            char number[16];
            put(&w, number, (size_t)snprintf(number, sizeof number, "%d", layers));
        } else {
            put(&w, at, 1);
        }
    }
    put(&w, "", 0);
    if (w.at) {
        *w.at = 0;
    }
    return w.at != NULL;
}

/* The pattern with what was found in place of its wildcards. */
static bool fill(const char *pattern, const holes *h, char out[DDI_KEY_BYTES])
{
    writer w = {out, out + DDI_KEY_BYTES};
    int32_t hole = 0;
    for (const char *at = pattern; *at; at++) {
        if (*at != '*' && *at != '#') {
            put(&w, at, 1);
        } else if (hole < h->count) {
            put(&w, h->at[hole], (size_t)h->bytes[hole]);
            hole++;
        }
    }
    put(&w, "", 0);
    if (w.at) {
        *w.at = 0;
    }
    return w.at != NULL;
}

/* The pattern with the number of layers in place of '@'; NULL: too long. */
static const char *with_layers(const char *pattern, int32_t layers, char out[DDI_KEY_BYTES])
{
    const char *at = strchr(pattern, '@');
    if (!at) {
        return pattern;
    }
    const int length = snprintf(out, DDI_KEY_BYTES, "%.*s%d%s", (int)(at - pattern), pattern, layers, at + 1);
    return length < DDI_KEY_BYTES ? out : NULL;
}

bool ddi_key_rule_apply(const ddi_key_rule *rule, const char *name, int32_t layers, ddi_key_match *match)
{
    holes h;
    const char *open;
    char chosen[DDI_KEY_BYTES];
    const char *from = with_layers(rule->from, layers, chosen);
    match->parts = 0;
    if (!from || !fits(from, name, &h)) {
        return false;
    }
    const int32_t parts = rule->to ? find_words(rule->to, &open) : 0;
    for (int32_t i = 0; i < parts; i++) {
        if (parts > DDI_KEY_PARTS || !choose(rule->to, i, layers, chosen) || !fill(chosen, &h, match->name[i])) {
            return false;
        }
    }
    match->parts = parts;
    return true;
}

bool ddi_key_rule_invert(const ddi_key_rule *rule, const char *name, int32_t layers, char source[DDI_KEY_BYTES], int32_t *part,
                         int32_t *parts)
{
    holes h;
    const char *open;
    char chosen[DDI_KEY_BYTES], numbered[DDI_KEY_BYTES];
    const char *from = with_layers(rule->from, layers, numbered);
    *parts = rule->to && from ? find_words(rule->to, &open) : 0;
    for (*part = 0; *part < *parts; ++*part) {
        if (choose(rule->to, *part, layers, chosen) && fits(chosen, name, &h) && fill(from, &h, source)) {
            return true;
        }
    }
    return false;
}

bool ddi_keymap_apply(const ddi_keymap *map, const ddi_key_rules *own, const char *name, int32_t layers, ddi_key_match *match)
{
    for (int32_t i = 0; own && i < own->count; i++) {
        if (ddi_key_rule_apply(&own->rule[i], name, layers, match)) {
            return true;
        }
    }
    for (int32_t i = 0; map && i < map->rules; i++) {
        if (ddi_key_rule_apply(&map->rule[i], name, layers, match)) {
            return true;
        }
    }
    return false;
}

/* ---- Maps */

const ddi_keymap *ddi_keymap_find(const char *family, const char *convention)
{
    const ddi_keymap *map;
    for (int32_t i = 0; (map = ddi_keymap_at(i)) != NULL; i++) {
        if (strcmp(map->family, family) == 0 && strcmp(map->convention, convention) == 0) {
            break;
        }
    }
    return map;
}

static const char *after(const char *name, const char *prefix)
{
    const size_t bytes = strlen(prefix);
    return strncmp(name, prefix, bytes) == 0 ? name + bytes : NULL;
}

/* The name without "module." and the side; NULL: it is of another side. */
static const char *plain_name(const char *name, const char *side)
{
    const char *rest = after(name, "module.");
    name = rest ? rest : name;
    return side && *side ? after(name, side) : name;
}

static const char *side_of(const dd_tensorfile *file, const char *side)
{
    for (int32_t i = 0; !side && i < file->tensor_count; i++) {
        side = plain_name(file->tensor[i].name, "student.") ? "student." : NULL;
    }
    return side;
}

const ddi_keymap *ddi_keymap_guess(const dd_tensorfile *file, const char *side)
{
    side = side_of(file, side);
    const ddi_keymap *map;
    for (int32_t m = 0; (map = ddi_keymap_at(m)) != NULL; m++) {
        for (int32_t i = 0; i < file->tensor_count; i++) {
            holes h;
            const char *name = plain_name(file->tensor[i].name, side);
            if (name && fits(map->mark, name, &h)) {
                return map;
            }
        }
    }
    return NULL;
}

/* ---- Rules of the user */

static char *trim(char *at, char *end)
{
    while (at < end && strchr(" \t\r", *at)) {
        at++;
    }
    while (end > at && strchr(" \t\r", end[-1])) {
        end--;
    }
    *end = 0;
    return at;
}

static int32_t count_holes(const char *pattern)
{
    int32_t count = 0;
    for (; *pattern; pattern++) {
        count += *pattern == '*' || *pattern == '#';
    }
    return count;
}

static bool good_rule(const ddi_key_rule *rule)
{
    const char *open;
    const int32_t in = count_holes(rule->from);
    if (!*rule->from || in > MOST_HOLES || strlen(rule->from) > DDI_MAX_NAME_BYTES) {
        return false;
    }
    return !rule->to || (count_holes(rule->to) <= in && strlen(rule->to) <= DDI_MAX_NAME_BYTES &&
                         find_words(rule->to, &open) <= DDI_KEY_PARTS && (!open || strchr(open, '}')));
}

static dd_status read_rule(ddi_key_rules *rules, const char *file, int32_t line, char *at, char *end)
{
    at = trim(at, end);
    if (!*at || *at == '#') {
        return DD_OK;
    }
    char *arrow = strstr(at, "->");
    ddi_key_rule rule = {.from = at};
    if (arrow) {
        rule.to = trim(arrow + 2, arrow + 2 + strlen(arrow + 2));
        rule.to = *rule.to ? rule.to : NULL;
        trim(at, arrow);
    }
    if (!arrow || !good_rule(&rule)) {
        return ddi_fail(
            DD_ERR_FORMAT, NULL,
            "%s, line %d: a rule is FROM -> TO, with at most %d wildcards, no more on the right than on the left, and "
            "at most %d words in braces",
            file, line, MOST_HOLES, DDI_KEY_PARTS);
    }
    if (rules->count == MOST_RULES) {
        return ddi_fail(DD_ERR_LIMIT, NULL, "%s has more than %d rules", file, MOST_RULES);
    }
    if (!ddi_file_grow((void **)&rules->rule, rules->count, &rules->room, sizeof rule)) {
        return ddi_fail_nomem(sizeof rule, "the rules for names");
    }
    rules->rule[rules->count++] = rule;
    return DD_OK;
}

dd_status ddi_key_rules_read(ddi_key_rules *rules, const char *file, const void *text, size_t size)
{
    *rules = (ddi_key_rules){.text = NULL};
    if (size > MOST_RULE_BYTES || (size && memchr(text, 0, size))) {
        return ddi_fail(DD_ERR_FORMAT, NULL, "%s has more than %d bytes, or a NUL", file, MOST_RULE_BYTES);
    }
    rules->text = ddi_alloc(NULL, size + 1);
    if (!rules->text) {
        return ddi_fail_nomem(size, "the rules for names");
    }
    if (size) {
        memcpy(rules->text, text, size);
    }
    rules->text[size] = 0;
    char *at = rules->text;
    for (int32_t line = 1;; line++) {
        char *end = at + strcspn(at, "\n;");
        const char mark = *end;
        DDI_TRY(read_rule(rules, file, line, at, end));
        if (!mark) {
            return DD_OK;
        }
        at = end + 1;
    }
}

void ddi_key_rules_free(ddi_key_rules *rules)
{
    ddi_free(NULL, rules->rule);
    ddi_free(NULL, rules->text);
    *rules = (ddi_key_rules){.text = NULL};
}

/* ---- Files */

/* The new list of tensors, while it is made. Data stay with the old one until all is well. */
typedef struct renaming {
    ddi_file_tensor *tensor;
    int32_t count, room;
    int32_t *first; /* for each old tensor, where its first part is, or -1 */
    ddi_name_index index;
} renaming;

static void drop_renaming(renaming *r)
{
    for (int32_t i = 0; i < r->count; i++) {
        ddi_free(NULL, r->tensor[i].own_name);
    }
    ddi_free(NULL, r->tensor);
    ddi_free(NULL, r->first);
    ddi_name_index_free(&r->index);
}

/* 1 + the largest number behind "decoder.layers." */
static int32_t count_layers(const dd_tensorfile *file)
{
    static const char word[] = "decoder.layers.";
    int32_t layers = 0;
    for (int32_t i = 0; i < file->tensor_count; i++) {
        const char *at = strstr(file->tensor[i].name, word);
        int32_t number = 0;
        for (at = at ? at + strlen(word) : ""; *at >= '0' && *at <= '9' && number < 10000; at++) {
            number = number * 10 + (*at - '0');
            layers = number >= layers ? number + 1 : layers;
        }
    }
    return layers;
}

/* Part i of the rows. */
static dd_status cut_rows(const dd_tensor *whole, const char *name, int32_t part, int32_t parts, dd_tensor *view)
{
    *view = *whole;
    if (parts == 1) {
        return DD_OK;
    }
    if (whole->shape[0] % parts != 0) {
        return ddi_fail(DD_ERR_SHAPE, name, "the file's tensor '%.150s' has %lld rows, which cannot be cut into %d parts", name,
                        (long long)whole->shape[0], parts);
    }
    view->shape[0] = whole->shape[0] / parts;
    view->data = (char *)whole->data + part * view->shape[0] * whole->stride[0] * dd_dtype_size(whole->dtype);
    return DD_OK;
}

static dd_status add_name(renaming *r, const char *name, const dd_tensor *view)
{
    if (r->count == DDI_MAX_SAFETENSORS_TENSORS || strlen(name) > DDI_MAX_NAME_BYTES) {
        return ddi_fail(DD_ERR_LIMIT, name, "renaming leads to more than %d tensors, or a name of more than %d bytes",
                        DDI_MAX_SAFETENSORS_TENSORS, DDI_MAX_NAME_BYTES);
    }
    char *copy = ddi_strdup(NULL, name);
    if (!copy || !ddi_file_grow((void **)&r->tensor, r->count, &r->room, sizeof *r->tensor)) {
        ddi_free(NULL, copy);
        return ddi_fail_nomem(sizeof *r->tensor, "the list of tensors");
    }
    r->tensor[r->count++] = (ddi_file_tensor){.name = copy, .own_name = copy, .view = *view};
    return DD_OK;
}

static dd_status rename_one(renaming *r, const ddi_file_tensor *old, const char *name, const ddi_key_match *match)
{
    for (int32_t part = 0; part < match->parts; part++) {
        dd_tensor view;
        DDI_TRY(cut_rows(&old->view, name, part, match->parts, &view));
        DDI_TRY(add_name(r, match->name[part], &view));
    }
    return DD_OK;
}

static dd_status index_renaming(renaming *r)
{
    if (!ddi_name_index_reserve(&r->index, r->count)) {
        return ddi_fail_nomem((uint64_t)r->count * sizeof(ddi_name), "the index of names");
    }
    for (int32_t i = 0; i < r->count; i++) {
        r->index.sorted[i] = (ddi_name){r->tensor[i].name, i};
    }
    const char *twice = ddi_name_index_sort(&r->index, r->count);
    return twice ? ddi_fail(DD_ERR_FORMAT, twice, "two of the file's tensors become '%.150s'", twice) : DD_OK;
}

/* A neck convolution's bias of zeros. The memory belongs to the tensor at once. */
static dd_status add_neck_bias(renaming *r, int32_t level)
{
    char name[64];
    snprintf(name, sizeof name, "model.input_proj.%d.0.bias", level);
    const bool there = ddi_name_index_find(&r->index, name) >= 0;
    snprintf(name, sizeof name, "model.input_proj.%d.0.weight", level);
    const int32_t weight = ddi_name_index_find(&r->index, name);
    if (there || weight < 0) {
        return DD_OK;
    }
    dd_tensor view = r->tensor[weight].view;
    view.ndim = 1;
    view.stride[0] = 1;
    void *zeros = ddi_alloc_zero(NULL, (size_t)view.shape[0], (size_t)dd_dtype_size(view.dtype));
    if (!zeros) {
        return ddi_fail_nomem((uint64_t)view.shape[0], "a bias");
    }
    view.data = zeros;
    snprintf(name, sizeof name, "model.input_proj.%d.0.bias", level);
    const dd_status status = add_name(r, name, &view);
    if (status != DD_OK) {
        ddi_free(NULL, zeros);
        return status;
    }
    r->tensor[r->count - 1].own_data = zeros;
    return DD_OK;
}

static dd_status make_renaming(renaming *r, const dd_tensorfile *file, const ddi_keymap *map, const ddi_key_rules *own,
                               const char *side)
{
    const int32_t layers = count_layers(file);
    r->first = ddi_alloc(NULL, (size_t)file->tensor_count * sizeof *r->first);
    if (!r->first) {
        return ddi_fail_nomem((uint64_t)file->tensor_count * sizeof *r->first, "the list of tensors");
    }
    for (int32_t i = 0; i < file->tensor_count; i++) {
        ddi_key_match match;
        const char *name = plain_name(file->tensor[i].name, side);
        r->first[i] = -1;
        if (!name) {
            continue;
        }
        if (!ddi_keymap_apply(map, own, name, layers, &match)) {
            return ddi_fail(DD_ERR_FORMAT, name,
                            "no rule for names knows the file's tensor '%.150s'; give one with '%.40s -> '", name, name);
        }
        r->first[i] = match.parts ? r->count : -1;
        DDI_TRY(rename_one(r, &file->tensor[i], name, &match));
    }
    DDI_TRY(index_renaming(r));
    const int32_t before = r->count;
    for (int32_t level = 0; level < MOST_NECK_LEVELS; level++) {
        DDI_TRY(add_neck_bias(r, level));
    }
    return r->count > before ? index_renaming(r) : DD_OK;
}

/* The file's own memory follows its first part; what no part needs is given back. */
static void hand_over(renaming *r, dd_tensorfile *file)
{
    for (int32_t i = 0; i < file->tensor_count; i++) {
        ddi_file_tensor *old = &file->tensor[i];
        if (r->first[i] >= 0) {
            r->tensor[r->first[i]].own_data = old->own_data;
            old->own_data = NULL;
        }
        ddi_free(NULL, old->own_data);
        ddi_free(NULL, old->own_name);
    }
    ddi_free(NULL, r->first);
    ddi_free(NULL, file->tensor);
    ddi_name_index_free(&file->tensor_index);
    file->tensor = r->tensor;
    file->tensor_count = r->count;
    file->tensor_room = r->room;
    file->tensor_index = r->index;
}

dd_status ddi_keymap_rename(dd_tensorfile *file, const ddi_keymap *map, const ddi_key_rules *own, const char *side)
{
    renaming r = {.tensor = NULL};
    const dd_status status = make_renaming(&r, file, map, own, side_of(file, side));
    if (status != DD_OK) {
        for (int32_t i = 0; i < r.count; i++) {
            ddi_free(NULL, r.tensor[i].own_data); /* biases that were made; nothing else is here yet */
        }
        drop_renaming(&r);
        return status;
    }
    hand_over(&r, file);
    return DD_OK;
}

/* ---- Classes */

enum { CLASSES = 80, IDS = 91 };
static const unsigned char unused_ids[] = {0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83};

static bool is_used(int32_t id)
{
    return id < IDS && !memchr(unused_ids, id, sizeof unused_ids);
}

/* How many rows a tensor has in files where ids are labels: a class head as many as there are, DINO's label table one more; 0:
 * it has none of classes. */
static int32_t rows_of_ids(const char *name)
{
    static const char *const heads[] = {"class_embed.*", "model.decoder.class_embed.*", "class_labels_classifier.*",
                                        "bbox_head.cls_branches.*", "model.enc_out_class_embed.*"};
    holes h;
    for (size_t k = 0; k < sizeof heads / sizeof heads[0]; k++) {
        if (fits(heads[k], name, &h)) {
            return IDS;
        }
    }
    return strcmp(name, "model.label_embeddings.weight") == 0 ? IDS + 1 : 0;
}

static void take_rows(ddi_file_tensor *t, void *data, int64_t rows)
{
    ddi_free(NULL, t->own_data);
    t->own_data = t->view.data = data;
    t->view.shape[0] = rows;
}

static dd_status keep_rows(ddi_file_tensor *t)
{
    const size_t row = (size_t)(t->view.stride[0] * dd_dtype_size(t->view.dtype));
    char *kept = ddi_alloc(NULL, CLASSES * row), *to = kept;
    if (!kept) {
        return ddi_fail_nomem(CLASSES * row, t->name);
    }
    for (int32_t id = 0; id < IDS; id++) {
        if (is_used(id)) {
            memcpy(to, (const char *)t->view.data + (size_t)id * row, row);
            to += row;
        }
    }
    take_rows(t, kept, CLASSES);
    return DD_OK;
}

dd_status ddi_keymap_select_coco(dd_tensorfile *file)
{
    for (int32_t i = 0; i < file->tensor_count; i++) {
        ddi_file_tensor *t = &file->tensor[i];
        const int32_t rows = rows_of_ids(t->name);
        if (rows && t->view.shape[0] == rows) {
            DDI_TRY(keep_rows(t));
        }
    }
    return DD_OK;
}

static dd_status spread_rows(ddi_file_tensor *t, int32_t rows)
{
    const float never = -1e4f;
    const double never_at_all = -1e4;
    const size_t row = (size_t)(t->view.stride[0] * dd_dtype_size(t->view.dtype));
    char *spread = ddi_alloc_zero(NULL, (size_t)rows, row);
    const char *from = t->view.data;
    if (!spread) {
        return ddi_fail_nomem((uint64_t)rows * row, t->name);
    }
    for (int32_t id = 0; id < rows; id++) {
        char *to = spread + (size_t)id * row;
        if (is_used(id)) {
            memcpy(to, from, row);
            from += row;
        } else if (t->view.ndim == 1) {
            memcpy(to, t->view.dtype == DD_F64 ? (const void *)&never_at_all : (const void *)&never, row);
        }
    }
    take_rows(t, spread, rows);
    return DD_OK;
}

dd_status ddi_keymap_expand_coco(dd_tensorfile *file)
{
    for (int32_t i = 0; i < file->tensor_count; i++) {
        ddi_file_tensor *t = &file->tensor[i];
        const int32_t rows = rows_of_ids(t->name);
        if (rows && t->view.shape[0] == CLASSES) {
            DDI_TRY(spread_rows(t, rows));
        }
    }
    return DD_OK;
}
