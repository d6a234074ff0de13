/* SPDX-License-Identifier: Apache-2.0
 * Help texts of the option tables. */
#include "api/plot.h"
#include "base/error.h"
#include "data/loader.h"
#include "kd/distiller.h"
#include "match/matcher.h"
#include "models/model.h"
#include "train/trainer.h"

#include <pthread.h>
#include <string.h>

enum { HELP_BYTES = 8192, TABLES = 10 };

static const ddi_option_table *const tables[TABLES] = {
    &ddi_context_options,      &ddi_matcher_options, &ddi_distiller_options, &ddi_model_options,   &ddi_export_options,
    &ddi_architecture_options, &ddi_dataset_options, &ddi_loader_options,    &ddi_trainer_options, &ddi_plot_options};
static char texts[TABLES][HELP_BYTES];

static void write_texts(void)
{
    for (int i = 0; i < TABLES; i++)
        ddi_options_help(tables[i], texts[i], HELP_BYTES);
}

dd_status dd_options_help(const char *object, const char **text)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    ddi_error_clear();
    if (!object || !text)
        return ddi_fail(DD_ERR_ARGUMENT, NULL, "dd_options_help: %s is NULL", object ? "text" : "object");
    pthread_once(&once, write_texts);
    for (int i = 0; i < TABLES; i++)
        if (strcmp(tables[i]->object, object) == 0) {
            *text = texts[i];
            return DD_OK;
        }
    return ddi_fail(DD_ERR_NOT_FOUND, object,
                    "'%.40s' has no options; context, matcher, distiller, model, export, architecture, dataset, loader, "
                    "trainer and plot have",
                    object);
}
