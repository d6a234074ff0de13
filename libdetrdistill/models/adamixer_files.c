/* SPDX-License-Identifier: Apache-2.0
 * AdaMixer in files. */
#include "models/detector.h"

/* The names are ours already. */
static const ddi_key_rule same[] = {DDI_NEVER_WANTED, {"backbone.fc.*", NULL}, {"*", "*"}};

static const ddi_keymap maps[] = {
    DDI_KEYMAP("adamixer", "mmdet", "rpn_head.init_content_features.weight", same),
};

const ddi_detector_files ddi_adamixer_files = {.maps = maps, .map_count = DDI_COUNT(maps)};
