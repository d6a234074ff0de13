/* SPDX-License-Identifier: Apache-2.0
 * Option strings: the first byte chooses the table. */
#include "backend/context.h"
#include "kd/distiller.h"
#include "match/matcher.h"
#include "models/model.h"
#include "target.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ddi_option_table *const tables[] = {&ddi_context_options, &ddi_matcher_options, &ddi_model_options,
                                                     &ddi_distiller_options};
    static union {
        double aligned;
        char bytes[1 << 16];
    } settings;
    if (size == 0) {
        return 0;
    }
    char *text = malloc(size);
    FUZZ_CHECK(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    if (data[0] % 4 == 3) {
        ddi_distiller_parse((void *)&settings, text);
    } else {
        ddi_options_init(tables[data[0] % 4], &settings);
        ddi_options_parse(tables[data[0] % 4], text, &settings, NULL);
    }
    free(text);
    return 0;
}
