/* SPDX-License-Identifier: Apache-2.0
 * Rules for names of tensors: the input up to a NUL is rules, the rest a name. */
#include "models/keymap.h"
#include "target.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *split = size ? memchr(data, 0, size) : NULL;
    const size_t bytes = split ? (size_t)(split - data) : size, rest = size - bytes - (split != NULL);
    char name[1025];
    ddi_key_rules rules;
    ddi_key_match match;
    memcpy(name, split ? split + 1 : data, rest < sizeof name ? rest : 0);
    name[rest < sizeof name ? rest : 0] = 0;
    if (ddi_key_rules_read(&rules, "fuzz", data, bytes) == DD_OK) {
        const ddi_keymap *map;
        for (int32_t m = 0; (map = ddi_keymap_at(m)) != NULL; m++) {
            ddi_keymap_apply(map, &rules, name, 6, &match);
        }
        for (int32_t i = 0; i < rules.count; i++) {
            char source[DDI_KEY_BYTES];
            int32_t part, parts;
            ddi_key_rule_invert(&rules.rule[i], name, 6, source, &part, &parts);
        }
    }
    ddi_key_rules_free(&rules);
    return 0;
}
