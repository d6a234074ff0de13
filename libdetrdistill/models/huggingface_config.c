/* SPDX-License-Identifier: Apache-2.0
 * config.json of a Hugging Face folder of Deformable DETR: reading and writing. */
#include "base/error.h"
#include "base/io.h"
#include "models/model.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    struct json_object *root;
    const char *file;
    dd_status status;
} reader;

static void complain(reader *r, const char *key, const char *what)
{
    if (r->status == DD_OK) {
        r->status = ddi_fail(DD_ERR_FORMAT, key, "%s: '%s' %s", r->file, key, what);
    }
}

static int64_t read_integer(reader *r, const char *key, int64_t initial, int64_t low, int64_t high)
{
    struct json_object *value;
    if (!json_object_object_get_ex(r->root, key, &value) || !value) {
        return initial;
    }
    const int64_t number = json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : low - 1;
    if (number < low || number > high) {
        complain(r, key, "is no integer in its range");
        return initial;
    }
    return number;
}

static double read_rate(reader *r, const char *key)
{
    struct json_object *value;
    if (!json_object_object_get_ex(r->root, key, &value) || !value) {
        return 0;
    }
    const bool number = json_object_is_type(value, json_type_double) || json_object_is_type(value, json_type_int);
    const double rate = number ? json_object_get_double(value) : -1;
    if (!(rate >= 0 && rate < 1)) {
        complain(r, key, "is no number in [0,1)");
        return 0;
    }
    return rate;
}

static bool read_flag(reader *r, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(r->root, key, &value) && json_object_get_boolean(value);
}

static bool has_key(reader *r, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(r->root, key, &value) && value;
}

static int64_t count_classes(reader *r)
{
    struct json_object *value;
    if (json_object_object_get_ex(r->root, "id2label", &value) && json_object_is_type(value, json_type_object)) {
        return json_object_object_length(value);
    }
    return read_integer(r, "num_labels", 2, 1, 65536);
}

static void check_family(reader *r)
{
    struct json_object *value;
    const char *family = json_object_object_get_ex(r->root, "model_type", &value) ? json_object_get_string(value) : NULL;
    if (!family || strcmp(family, "deformable_detr") != 0) {
        complain(r, "model_type", "is not 'deformable_detr', the one family that is read so far");
    }
    if (read_flag(r, "dilation")) {
        complain(r, "dilation", "asks for a dilated backbone, which is not supported");
    }
}

static void read_numbers(reader *r, ddi_deformable_config *c)
{
    c->two_stage = read_flag(r, "two_stage");
    c->refine = read_flag(r, "with_box_refine");
    c->d = read_integer(r, "d_model", 256, 1, 8192);
    c->encoder_ffn = read_integer(r, "encoder_ffn_dim", 1024, 1, 65536);
    c->decoder_ffn = read_integer(r, "decoder_ffn_dim", 1024, 1, 65536);
    c->queries = read_integer(r, c->two_stage ? "two_stage_num_proposals" : "num_queries", 300, 1, 16384);
    c->classes = count_classes(r);
    c->levels = (int32_t)read_integer(r, "num_feature_levels", 4, 3, DDI_MOST_LEVELS);
    c->encoder_layers = (int32_t)read_integer(r, "encoder_layers", 6, 0, DDI_MOST_LAYERS);
    c->decoder_layers = (int32_t)read_integer(r, "decoder_layers", 6, 1, DDI_MOST_LAYERS);
    c->encoder_heads = (int32_t)read_integer(r, "encoder_attention_heads", 8, 1, 1024);
    c->decoder_heads = (int32_t)read_integer(r, "decoder_attention_heads", 8, 1, 1024);
    c->encoder_points = (int32_t)read_integer(r, "encoder_n_points", 4, 1, 64);
    c->decoder_points = (int32_t)read_integer(r, "decoder_n_points", 4, 1, 64);
    c->dropout = read_rate(r, "dropout");
    c->attention_dropout = read_rate(r, "attention_dropout");
    c->activation_dropout = read_rate(r, "activation_dropout");
    c->neck_bias = !has_key(r, "neck_bias") || read_flag(r, "neck_bias");
    if (c->d % 32 != 0 || c->d % c->encoder_heads != 0 || c->d % c->decoder_heads != 0) {
        complain(r, "d_model", "is not a multiple of 32 and of the numbers of heads");
    }
    if (c->classes < 1 || c->classes > 65536) {
        complain(r, "id2label", "has no class, or more than 65536");
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

dd_status ddi_huggingface_config(const char *file, const void *text, size_t size, ddi_deformable_config *config)
{
    reader r = {.file = file, .status = DD_OK};
    r.root = parse(file, text, size, &r.status);
    if (r.root) {
        check_family(&r);
        read_numbers(&r, config);
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

typedef struct writer {
    ddi_text text;
    bool first;
} writer;

static void put_key(writer *w, const char *key)
{
    ddi_text_put(&w->text, w->first ? "\n  " : ",\n  ");
    ddi_text_json(&w->text, key);
    ddi_text_put(&w->text, ": ");
    w->first = false;
}

static void put_integer(writer *w, const char *key, int64_t value)
{
    put_key(w, key);
    ddi_text_integer(&w->text, value);
}

static void put_rate(writer *w, const char *key, double value)
{
    put_key(w, key);
    ddi_text_real(&w->text, value, 15);
}

static void put_words(writer *w, const char *key, const char *json)
{
    put_key(w, key);
    ddi_text_put(&w->text, json);
}

static void put_flag(writer *w, const char *key, bool value)
{
    put_words(w, key, value ? "true" : "false");
}

static void put_labels(writer *w, const dd_model *m)
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

static void put_backbone(writer *w, const ddi_resnet_config *c)
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

static void put_numbers(writer *w, const ddi_deformable_config *c)
{
    put_integer(w, "d_model", c->d);
    put_integer(w, "num_queries", c->queries);
    put_integer(w, "two_stage_num_proposals", c->queries);
    put_integer(w, "num_feature_levels", c->levels);
    put_integer(w, "encoder_layers", c->encoder_layers);
    put_integer(w, "encoder_ffn_dim", c->encoder_ffn);
    put_integer(w, "encoder_attention_heads", c->encoder_heads);
    put_integer(w, "encoder_n_points", c->encoder_points);
    put_integer(w, "decoder_layers", c->decoder_layers);
    put_integer(w, "decoder_ffn_dim", c->decoder_ffn);
    put_integer(w, "decoder_attention_heads", c->decoder_heads);
    put_integer(w, "decoder_n_points", c->decoder_points);
    put_rate(w, "dropout", c->dropout);
    put_rate(w, "attention_dropout", c->attention_dropout);
    put_rate(w, "activation_dropout", c->activation_dropout);
    put_flag(w, "with_box_refine", c->refine);
    put_flag(w, "two_stage", c->two_stage);
    /* Tied or not: what the file holds is what the layers get. */
    put_flag(w, "tie_word_embeddings", c->shared_class_head || !(c->refine || c->two_stage));
    if (!c->neck_bias) {
        put_flag(w, "neck_bias", false);
    }
}

static dd_status write_new(const dd_model *m, ddi_text *out)
{
    writer w = {.first = true};
    ddi_text_put(&w.text, "{");
    put_words(&w, "architectures", "[\"DeformableDetrForObjectDetection\"]");
    put_words(&w, "model_type", "\"deformable_detr\"");
    put_words(&w, "activation_function", "\"relu\"");
    put_words(&w, "position_embedding_type", "\"sine\"");
    put_flag(&w, "use_timm_backbone", false);
    put_words(&w, "backbone", "null");
    put_flag(&w, "use_pretrained_backbone", false);
    put_flag(&w, "auxiliary_loss", true);
    put_flag(&w, "dilation", false);
    put_integer(&w, "class_cost", 2);
    put_words(&w, "dtype", m->dtype == DD_F64 ? "\"float64\"" : "\"float32\"");
    put_numbers(&w, &m->net.config);
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
    writer w = {.first = true};
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
