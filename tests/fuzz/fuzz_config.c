/* SPDX-License-Identifier: Apache-2.0
 * config.json of a Hugging Face folder. */
#include "models/model.h"
#include "target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ddi_model_config config = {.d = 0};
    if (ddi_huggingface_config("config.json", data, size, &config) == DD_OK) {
        FUZZ_CHECK(config.d % 32 == 0 && config.classes >= 1 && config.queries >= 1);
    }
    return 0;
}
