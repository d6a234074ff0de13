/* SPDX-License-Identifier: Apache-2.0
 * config.json of a model's folder: what families read and write there. */
#ifndef DDI_MODELS_CONFIG_FILE_H
#define DDI_MODELS_CONFIG_FILE_H

#include "formats/text.h"
#include <detrdistill/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ddi_config_reader ddi_config_reader;
typedef struct ddi_config_writer {
    ddi_text text;
    bool first;
} ddi_config_writer;

/* A number of the file and where it lies in a ddi_model_config. */
typedef enum ddi_key_kind { DDI_KEY_INT32, DDI_KEY_INT64, DDI_KEY_REAL, DDI_KEY_FLAG } ddi_key_kind;
typedef struct ddi_config_key {
    const char *key;
    ddi_key_kind kind;
    size_t at;
    double initial, low, high; /* range, inclusive; of reals: below `high` */
} ddi_config_key;

int64_t ddi_config_integer(ddi_config_reader *reader, const char *key, int64_t initial, int64_t low, int64_t high);
/* low <= value < high. */
double ddi_config_real(ddi_config_reader *reader, const char *key, double initial, double low, double high);
bool ddi_config_flag(ddi_config_reader *reader, const char *key, bool initial);
/* Keeps the first complaint. */
void ddi_config_complain(ddi_config_reader *reader, const char *key, const char *what);

void ddi_config_put_integer(ddi_config_writer *writer, const char *key, int64_t value);
void ddi_config_put_real(ddi_config_writer *writer, const char *key, double value);
void ddi_config_put_flag(ddi_config_writer *writer, const char *key, bool value);

#endif
