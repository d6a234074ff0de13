/* SPDX-License-Identifier: Apache-2.0
 * Annotations of Pascal VOC. */
#include "formats/voc_xml.h"
#include "target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ddi_voc_annotation annotation = {.objects = 0};
    if (ddi_voc_read(&annotation, NULL, "fuzz.xml", data, size) == DD_OK) {
        for (int32_t i = 0; i < annotation.objects; i++) {
            const ddi_voc_object *o = &annotation.object[i];
            FUZZ_CHECK(o->corner[2] >= o->corner[0] && o->corner[3] >= o->corner[1]);
        }
    }
    ddi_voc_free(&annotation);
    return 0;
}
