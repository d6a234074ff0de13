/* SPDX-License-Identifier: Apache-2.0
 * config.json of a model's folder, transformers' way: reading and writing. What is a family's own stands in its table of keys.
 */
#include "base/error.h"
#include "base/io.h"
#include "base/limits.h"
#include "models/model.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

struct ddi_config_reader {
    struct json_object *root;
    const char *file;
    dd_status status;
};

void ddi_config_complain(ddi_config_reader *r, const char *key, const char *what)
{
    if (r->status == DD_OK) {
        r->status = ddi_fail(DD_ERR_FORMAT, key, "%s: '%s' %s", r->file, key, what);
    }
}

int64_t ddi_config_integer(ddi_config_reader *r, const char *key, int64_t initial, int64_t low, int64_t high)
{
    struct json_object *value;
    if (!json_object_object_get_ex(r->root, key, &value) || !value) {
        return initial;
    }
    const int64_t number = json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : low - 1;
    if (number < low || number > high) {
        ddi_config_complain(r, key, "is no integer in its range");
        return initial;
    }
    return number;
}

double ddi_config_real(ddi_config_reader *r, const char *key, double initial, double low, double high)
{
    struct json_object *value;
    if (!json_object_object_get_ex(r->root, key, &value) || !value) {
        return initial;
    }
    const bool number = json_object_is_type(value, json_type_double) || json_object_is_type(value, json_type_int);
    const double real = number ? json_object_get_double(value) : low - 1;
    if (!(real >= low && real < high)) {
        ddi_config_complain(r, key, "is no number in its range");
        return initial;
    }
    return real;
}

bool ddi_config_flag(ddi_config_reader *r, const char *key, bool initial)
{
    struct json_object *value;
    return json_object_object_get_ex(r->root, key, &value) && value ? json_object_get_boolean(value) : initial;
}

static int64_t count_classes(ddi_config_reader *r)
{
    struct json_object *value;
    int64_t count = ddi_config_integer(r, "num_labels", 2, 1, DDI_MAX_CLASSES);
    if (json_object_object_get_ex(r->root, "id2label", &value) && json_object_is_type(value, json_type_object)) {
        count = json_object_object_length(value);
    }
    if (count < 1 || count > DDI_MAX_CLASSES) {
        ddi_config_complain(r, "id2label", "has no class, or too many");
    }
    return count;
}

static void read_family(ddi_config_reader *r, ddi_model_config *c)
{
    struct json_object *value;
    const char *family = json_object_object_get_ex(r->root, "model_type", &value) ? json_object_get_string(value) : NULL;
    c->detector = ddi_detector_find(family);
    if (!c->detector) {
        ddi_config_complain(r, "model_type", "is no family of detectors that is known here");
    }
    if (ddi_config_flag(r, "dilation", false)) {
        ddi_config_complain(r, "dilation", "asks for a dilated backbone, which is not supported");
    }
}

static void read_key(ddi_config_reader *r, const ddi_config_key *k, ddi_model_config *c)
{
    void *at = (char *)c + k->at;
    switch (k->kind) {
    case DDI_KEY_INT32:
        *(int32_t *)at = (int32_t)ddi_config_integer(r, k->key, (int64_t)k->initial, (int64_t)k->low, (int64_t)k->high);
        break;
    case DDI_KEY_INT64:
        *(int64_t *)at = ddi_config_integer(r, k->key, (int64_t)k->initial, (int64_t)k->low, (int64_t)k->high);
        break;
    case DDI_KEY_REAL:
        *(double *)at = ddi_config_real(r, k->key, k->initial, k->low, k->high);
        break;
    case DDI_KEY_FLAG:
        *(bool *)at = ddi_config_flag(r, k->key, k->initial != 0);
    }
}

static void read_numbers(ddi_config_reader *r, ddi_model_config *c)
{
    const ddi_detector_files *files = c->detector->files;
    c->classes = count_classes(r);
    for (int32_t i = 0; i < files->key_count; i++) {
        read_key(r, &files->keys[i], c);
    }
    if (files->read_config) {
        files->read_config(r, c);
    }
}

/* The object of a text; NULL: the status says why. */
static struct json_object *parse(const char *file, const void *text, size_t size, dd_status *status)
{
    enum { MOST = 16 << 20 };
    if (size == 0 || size > MOST) {
        *status = ddi_fail(DD_ERR_FORMAT, file, "%s is empty or larger than 16 MiB", file);
        return NULL;
    }
    struct json_tokener *tokener = ddi_fault() ? NULL : json_tokener_new_ex(32);
    if (!tokener) {
        *status = ddi_fail_nomem(size, "a configuration");
        return NULL;
    }
    struct json_object *root = json_tokener_parse_ex(tokener, text, (int)size);
    const enum json_tokener_error error = json_tokener_get_error(tokener);
    json_tokener_free(tokener);
    if (!json_object_is_type(root, json_type_object)) {
        *status = ddi_fail(DD_ERR_FORMAT, file, "%s: %s", file,
                           error == json_tokener_success ? "this is no JSON object" : json_tokener_error_desc(error));
        json_object_put(root);
        return NULL;
    }
    return root;
}

dd_status ddi_huggingface_config(const char *file, const void *text, size_t size, ddi_model_config *config)
{
    ddi_config_reader r = {.file = file, .status = DD_OK};
    *config = (ddi_model_config){.detector = NULL};
    r.root = parse(file, text, size, &r.status);
    if (r.root) {
        read_family(&r, config);
        if (config->detector) {
            read_numbers(&r, config);
        }
        json_object_put(r.root);
    }
    return r.status;
}

dd_status ddi_huggingface_classes(dd_model *m)
{
    dd_status status = DD_OK;
    struct json_object *root = parse("config.json", m->config, m->config_bytes, &status), *names, *name;
    if (!root) {
        return status;
    }
    const bool known = json_object_object_get_ex(root, "id2label", &names) && json_object_is_type(names, json_type_object);
    for (int64_t i = 0; known && status == DD_OK && i < m->net.config.classes; i++) {
        char key[32];
        snprintf(key, sizeof key, "%lld", (long long)i);
        if (json_object_object_get_ex(names, key, &name) && json_object_is_type(name, json_type_string)) {
            status = ddi_model_set_class(m, (int32_t)i, json_object_get_string(name));
        }
    }
    json_object_put(root);
    return status;
}

/* ---- Writing */

static void put_key(ddi_config_writer *w, const char *key)
{
    ddi_text_put(&w->text, w->first ? "\n  " : ",\n  ");
    ddi_text_json(&w->text, key);
    ddi_text_put(&w->text, ": ");
    w->first = false;
}

void ddi_config_put_integer(ddi_config_writer *w, const char *key, int64_t value)
{
    put_key(w, key);
    ddi_text_integer(&w->text, value);
}

void ddi_config_put_real(ddi_config_writer *w, const char *key, double value)
{
    put_key(w, key);
    ddi_text_real(&w->text, value, 15);
}

static void put_words(ddi_config_writer *w, const char *key, const char *json)
{
    put_key(w, key);
    ddi_text_put(&w->text, json);
}

void ddi_config_put_flag(ddi_config_writer *w, const char *key, bool value)
{
    put_words(w, key, value ? "true" : "false");
}

static void put_number(ddi_config_writer *w, const ddi_config_key *k, const ddi_model_config *c)
{
    const void *at = (const char *)c + k->at;
    switch (k->kind) {
    case DDI_KEY_INT32:
        ddi_config_put_integer(w, k->key, *(const int32_t *)at);
        break;
    case DDI_KEY_INT64:
        ddi_config_put_integer(w, k->key, *(const int64_t *)at);
        break;
    case DDI_KEY_REAL:
        ddi_config_put_real(w, k->key, *(const double *)at);
        break;
    case DDI_KEY_FLAG:
        ddi_config_put_flag(w, k->key, *(const bool *)at);
    }
}

static void put_labels(ddi_config_writer *w, const dd_model *m)
{
    char number[32];
    put_words(w, "id2label", "{");
    for (int64_t i = 0; i < m->net.config.classes; i++) {
        snprintf(number, sizeof number, "%lld", (long long)i);
        ddi_text_put(&w->text, i ? ", " : "");
        ddi_text_json(&w->text, number);
        ddi_text_put(&w->text, ": ");
        ddi_text_json(&w->text, m->class_name[i]);
    }
    ddi_text_put(&w->text, "}");
    put_words(w, "label2id", "{");
    for (int64_t i = 0; i < m->net.config.classes; i++) {
        ddi_text_put(&w->text, i ? ", " : "");
        ddi_text_json(&w->text, m->class_name[i]);
        ddi_text_put(&w->text, ": ");
        ddi_text_integer(&w->text, i);
    }
    ddi_text_put(&w->text, "}");
}

static void put_backbone(ddi_config_writer *w, const ddi_resnet_config *c)
{
    put_words(w, "backbone_config",
              "{\"model_type\": \"resnet\", \"num_channels\": 3, \"hidden_act\": \"relu\", "
              "\"downsample_in_bottleneck\": false, \"downsample_in_first_stage\": false, "
              "\"out_features\": [\"stage2\", \"stage3\", \"stage4\"], \"out_indices\": [2, 3, 4], "
              "\"stage_names\": [\"stem\", \"stage1\", \"stage2\", \"stage3\", \"stage4\"], "
              "\"embedding_size\": ");
    ddi_text_integer(&w->text, c->stem);
    ddi_text_put(&w->text, c->bottleneck ? ", \"layer_type\": \"bottleneck\"" : ", \"layer_type\": \"basic\"");
    for (int32_t s = 0; s < 8; s++) {
        ddi_text_put(&w->text, s == 0 ? ", \"depths\": [" : s == 4 ? "], \"hidden_sizes\": [" : ", ");
        ddi_text_integer(&w->text, s < 4 ? c->depth[s] : c->width[s - 4]);
    }
    ddi_text_put(&w->text, "]}");
}

static dd_status write_new(const dd_model *m, ddi_text *out)
{
    ddi_config_writer w = {.first = true};
    const ddi_model_config *c = &m->net.config;
    const ddi_detector *detector = c->detector;
    ddi_text_put(&w.text, "{");
    put_key(&w, "architectures");
    ddi_text_put(&w.text, "[");
    ddi_text_json(&w.text, detector->architecture);
    ddi_text_put(&w.text, "]");
    put_key(&w, "model_type");
    ddi_text_json(&w.text, detector->type);
    put_words(&w, "activation_function", "\"relu\"");
    put_words(&w, "position_embedding_type", "\"sine\"");
    ddi_config_put_flag(&w, "use_timm_backbone", false);
    put_words(&w, "backbone", "null");
    ddi_config_put_flag(&w, "use_pretrained_backbone", false);
    ddi_config_put_flag(&w, "auxiliary_loss", detector->auxiliary_loss);
    ddi_config_put_flag(&w, "dilation", false);
    ddi_config_put_integer(&w, "class_cost", 2);
    put_words(&w, "dtype", m->dtype == DD_F64 ? "\"float64\"" : "\"float32\"");
    for (int32_t i = 0; i < detector->files->key_count; i++) {
        put_number(&w, &detector->files->keys[i], c);
    }
    if (detector->files->write_config) {
        detector->files->write_config(&w, c);
    }
    put_backbone(&w, &m->net.config.backbone);
    put_labels(&w, m);
    ddi_text_put(&w.text, "\n}\n");
    *out = w.text;
    return ddi_text_status(out);
}

/* The folder's own text with other names of classes. */
static dd_status write_changed(const dd_model *m, ddi_text *out)
{
    dd_status status = DD_OK;
    struct json_object *root = parse("config.json", m->config, m->config_bytes, &status);
    if (!root) {
        return status;
    }
    ddi_config_writer w = {.first = true};
    json_object_object_del(root, "id2label");
    json_object_object_del(root, "label2id");
    ddi_text_put(&w.text, "{");
    json_object_object_foreach(root, key, value)
    {
        const char *words = ddi_fault() ? NULL : json_object_to_json_string_ext(value, JSON_C_TO_STRING_SPACED);
        w.text.failed = w.text.failed || !words;
        put_words(&w, key, words ? words : "");
    }
    put_labels(&w, m);
    ddi_text_put(&w.text, "\n}\n");
    json_object_put(root);
    *out = w.text;
    return ddi_text_status(out);
}

dd_status ddi_huggingface_write(const dd_model *m, ddi_text *out)
{
    if (!m->config) {
        return write_new(m, out);
    }
    if (m->renamed) {
        return write_changed(m, out);
    }
    ddi_text_bytes(out, m->config, m->config_bytes);
    return ddi_text_status(out);
}
