/* SPDX-License-Identifier: Apache-2.0
 * The maps of names of all families (each family's are in its own file), and a classifier's. */
#include "models/detector.h"

/* A classifier's file: the pretrained backbone. */
static const ddi_key_rule resnet_torchvision[] = {
    DDI_NEVER_WANTED,
    {"fc.*", NULL},
    {"conv1.*", DDI_OUR_BACKBONE "conv1.*"},
    {"bn1.*", DDI_OUR_BACKBONE "bn1.*"},
    {"layer#.*", DDI_OUR_BACKBONE "layer#.*"},
};

static const ddi_keymap classifier = DDI_KEYMAP("resnet", "torchvision", "layer1.0.conv1.weight", resnet_torchvision);

/* The last family first: names of Deformable DETR are found in files of DINO, too. */
const ddi_keymap *ddi_keymap_at(int32_t i)
{
    for (int32_t k = DDI_DETECTORS - 1; k >= 0; k--) {
        const ddi_detector_files *files = ddi_detectors[k]->files;
        if (i < files->map_count) {
            return &files->maps[i];
        }
        i -= files->map_count;
    }
    return i == 0 ? &classifier : NULL;
}
