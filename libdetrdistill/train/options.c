/* SPDX-License-Identifier: Apache-2.0
 * Options of the trainer. */
#include "base/error.h"
#include "train/trainer.h"

#include <string.h>

#define AT(field) offsetof(ddi_trainer_settings, field)
static const ddi_option options[] = {
    {"epochs", DDI_INT, AT(epochs), 1, 1e6, "50", NULL, "length of the run"},
    {"steps", DDI_INT, AT(steps), 0, 1e12, "0", NULL, "the run ends after so many steps; 0: after its epochs"},
    {"batch", DDI_INT, AT(batch), 1, DDI_MAX_IMAGES, "2", NULL, "pictures of a batch"},
    {"accumulate", DDI_INT, AT(accumulate), 1, 65536, "1", NULL, "batches of a step, whose gradients are averaged"},
    {"compute", DDI_CHOICE, AT(bf16), 0, 0, "fp32", "fp32|bf16", "bf16: products in bf16; weights, sums, moments stay fp32"},
    {"lr", DDI_REAL, AT(lr), 0, 1e3, "2e-4", NULL, "learning rate"},
    {"lr.backbone", DDI_REAL, AT(lr_backbone), 0, 1e3, "0.1", NULL, "factor of the learning rate: backbone"},
    {"lr.sampling", DDI_REAL, AT(lr_sampling), 0, 1e3, "0.1", NULL,
     "factor of the learning rate: sampling offsets and reference points"},
    {"warmup", DDI_INT, AT(warmup), 0, 1e12, "500", NULL, "steps of linear warm-up"},
    {"warmup-from", DDI_REAL, AT(warmup_from), 0, 1, "0.001", NULL, "factor of the learning rate at the first step"},
    {"drop", DDI_TEXT, AT(drop), 0, 0, "auto", NULL, "epochs after which the learning rate drops; auto: four fifths"},
    {"drop-factor", DDI_REAL, AT(drop_factor), 0, 1, "0.1", NULL, "what it is multiplied with there"},
    {"decay", DDI_REAL, AT(decay), 0, 1e3, "1e-4", NULL, "weight decay of AdamW"},
    {"decay-norm-bias", DDI_CHOICE, AT(small_decay), 0, 0, "1", "0|1", "0: tensors of one dimension do not decay"},
    {"beta1", DDI_REAL, AT(beta1), 0, 0.999999, "0.9", NULL, "AdamW: decay of the mean of gradients"},
    {"beta2", DDI_REAL, AT(beta2), 0, 0.99999999, "0.999", NULL, "AdamW: decay of the mean of their squares"},
    {"eps", DDI_REAL, AT(eps), 1e-30, 1, "1e-8", NULL, "AdamW: added to the root"},
    {"clip", DDI_REAL, AT(clip), 0, 1e30, "0.1", NULL, "largest L2 norm of all gradients; 0: off"},
    {"ema", DDI_REAL, AT(average), 0, 0.9999999, "0", NULL, "decay of averaged weights, evaluated and exported; 0: off"},
    {"nonfinite", DDI_CHOICE, AT(skip), 0, 0, "error", "error|skip", "a step with NaN or infinity in a loss or gradient"},
    {"eval-every", DDI_INT, AT(eval_every), 0, 1e6, "1", NULL, "epochs between evaluations; 0: none"},
    {"eval-batch", DDI_INT, AT(eval_batch), 0, DDI_MAX_IMAGES, "0", NULL, "pictures of a batch there; 0: as batch"},
    {"eval-limit", DDI_INT, AT(eval_limit), 0, DDI_MAX_DATASET_IMAGES, "0", NULL, "only the first N pictures; 0: all"},
    {"eval-detections", DDI_INT, AT(eval_detections), 1, 65536, "100", NULL, "most detections of a picture there"},
    {"patience", DDI_INT, AT(patience), 0, 1e6, "0", NULL, "evaluations without a better AP that end the run; 0: never"},
    {"save-every", DDI_INT, AT(save_every), 0, 1e12, "0", NULL, "steps between checkpoints within an epoch; 0: none"},
    {"log-every", DDI_INT, AT(log_every), 1, 1e12, "10", NULL, "steps between lines of the logs"},
    {"seed", DDI_INT, AT(seed), -1, 9.2e18, "-1", NULL, "of order, augmentation and dropout; -1: the context's"},
    {"resume", DDI_CHOICE, AT(resume), 0, 0, "0", "0|1", "1: goes on from the folder's checkpoint where there is one"},
    {"limit", DDI_INT, AT(limit), 0, DDI_MAX_DATASET_IMAGES, "0", NULL, "only the first N training pictures; 0: all"},
    {"shuffle", DDI_CHOICE, AT(shuffle), 0, 0, "1", "0|1", "training pictures in an order drawn anew for each epoch"},
    {"drop-last", DDI_CHOICE, AT(drop_last), 0, 0, "0", "0|1", "1: a last batch that is not full is left out"},
    {"sizes", DDI_TEXT, AT(sizes), 0, 0, "480,512,544,576,608,640,672,704,736,768,800", NULL,
     "short sides to draw from, in pixels; the last is that of evaluations"},
    DDI_AUGMENT_OPTIONS(AT),
    {"threads", DDI_INT, AT(threads), 0, DDI_MAX_THREADS, "1", NULL, "that decode pictures ahead; 0: decode when asked"},
    {"prefetch", DDI_INT, AT(prefetch), 1, 64, "2", NULL, "batches ahead"},
    {"damaged", DDI_CHOICE, AT(damaged), 0, 0, "error", "error|skip|keep", "pictures that are cut off or unreadable"},
};
const ddi_option_table ddi_trainer_options = {"trainer", options, sizeof options / sizeof options[0]};

dd_status ddi_trainer_parse(ddi_trainer_settings *settings, const char *text)
{
    ddi_options_init(&ddi_trainer_options, settings);
    return ddi_options_parse(&ddi_trainer_options, text, settings, NULL);
}

/* ---- As text */

static void put_value(const ddi_option *o, const void *settings, ddi_text *text)
{
    const char *field = (const char *)settings + o->offset;
    int64_t whole;
    double real;
    int32_t choice;
    switch (o->type) {
    case DDI_INT:
        memcpy(&whole, field, sizeof whole);
        ddi_text_integer(text, whole);
        return;
    case DDI_REAL:
        memcpy(&real, field, sizeof real);
        ddi_text_real(text, real, 15);
        return;
    case DDI_TEXT:
        ddi_text_put(text, field);
        return;
    case DDI_CHOICE:
        memcpy(&choice, field, sizeof choice);
        const char *at = o->choices;
        for (; choice > 0; choice--) {
            at = strchr(at, '|') + 1;
        }
        ddi_text_bytes(text, at, strcspn(at, "|"));
    }
}

static bool is_listed(const char *key, const char *const *keys)
{
    for (; *keys; keys++) {
        if (strcmp(*keys, key) == 0) {
            return true;
        }
    }
    return false;
}

void ddi_trainer_loader_words(const ddi_trainer_settings *settings, bool validation, int64_t seed, ddi_text *words)
{
    static const char *const of_both[] = {"sizes", "max-size", "multiple", "threads", "prefetch", "damaged", NULL};
    static const char *const of_training[] = {"limit",      "shuffle",       "drop-last", "flip",     "crop",
                                              "crop-sizes", "crop-max-size", "crop-min",  "crop-max", NULL};
    ddi_text_put(words, validation ? "mode=eval batch=" : "mode=train batch=");
    ddi_text_integer(words, validation && settings->eval_batch ? settings->eval_batch : settings->batch);
    ddi_text_put(words, " seed=");
    ddi_text_integer(words, seed);
    if (validation) {
        ddi_text_put(words, " limit=");
        ddi_text_integer(words, settings->eval_limit);
    }
    for (int32_t i = 0; i < ddi_trainer_options.count; i++) {
        const ddi_option *o = &options[i];
        if (is_listed(o->key, of_both) || (!validation && is_listed(o->key, of_training))) {
            ddi_text_put(words, " ");
            ddi_text_put(words, o->key);
            ddi_text_put(words, "=");
            put_value(o, settings, words);
        }
    }
    ddi_text_bytes(words, "", 1);
}

void ddi_dataset_words(const dd_dataset *data, ddi_text *words)
{
    for (int32_t i = 0; i < ddi_dataset_options.count; i++) {
        const ddi_option *o = &ddi_dataset_options.option[i];
        ddi_text value = {.data = NULL};
        put_value(o, &data->settings, &value);
        if (value.size) {
            ddi_text_put(words, words->size ? " " : "");
            ddi_text_put(words, o->key);
            ddi_text_put(words, "=");
            ddi_text_bytes(words, value.data, value.size);
        }
        words->failed = words->failed || value.failed;
        ddi_text_free(&value);
    }
    ddi_text_bytes(words, "", 1);
}

void ddi_options_json(const ddi_option_table *table, const void *settings, ddi_text *text)
{
    for (int32_t i = 0; i < table->count; i++) {
        const ddi_option *o = &table->option[i];
        const bool number = o->type == DDI_INT || o->type == DDI_REAL;
        ddi_text value = {.data = NULL};
        put_value(o, settings, &value);
        ddi_text_put(text, i ? "," : "{");
        ddi_text_json(text, o->key);
        ddi_text_put(text, ":");
        ddi_text_bytes(&value, "", 1);
        if (!value.data) {
            text->failed = true;
        } else if (number) {
            ddi_text_put(text, value.data);
        } else {
            ddi_text_json(text, value.data);
        }
        ddi_text_free(&value);
    }
    ddi_text_put(text, "}");
}
