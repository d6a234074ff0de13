/* SPDX-License-Identifier: Apache-2.0
 * The table of families. */
#include "base/error.h"

#include "models/detector.h"
#include <string.h>

const ddi_detector *const ddi_detectors[DDI_DETECTORS] = {&ddi_deformable_detr, &ddi_conditional_detr, &ddi_adamixer,
                                                          &ddi_dino};

const ddi_detector *ddi_detector_find(const char *type)
{
    for (int32_t i = 0; type && i < DDI_DETECTORS; i++) {
        if (strcmp(ddi_detectors[i]->type, type) == 0) {
            return ddi_detectors[i];
        }
    }
    return NULL;
}

int32_t ddi_detector_number(const ddi_detector *detector)
{
    int32_t i = 0;
    while (ddi_detectors[i] != detector) {
        i++;
    }
    return i;
}

ddi_block_config ddi_config_block(const ddi_model_config *c, bool encoder)
{
    return (ddi_block_config){.d = c->d,
                              .heads = encoder ? c->encoder_heads : c->decoder_heads,
                              .levels = c->levels,
                              .points = encoder ? c->encoder_points : c->decoder_points,
                              .dropout = c->dropout,
                              .attention_dropout = c->attention_dropout,
                              .activation_dropout = c->activation_dropout};
}

const char *ddi_config_complaint(const ddi_model_config *c)
{
    for (int32_t s = 0; s < 4; s++) {
        if (c->backbone.depth[s] < 1 || c->backbone.width[s] < 1 || (c->backbone.bottleneck && c->backbone.width[s] % 4 != 0)) {
            return "each stage of the backbone needs a block, and channels (of bottlenecks a multiple of 4)";
        }
    }
    return c->detector->complaint(c);
}

dd_status ddi_net_build(ddi_net *net, ddi_build *b, const ddi_model_config *config)
{
    net->config = *config;
    net->config.backbone.train_affine = config->detector->trains_norms;
    net->parts = ddi_alloc_zero(&b->params->context->allocator, 1, config->detector->bytes);
    if (!net->parts) {
        return ddi_fail_nomem(config->detector->bytes, "a model");
    }
    DDI_TRY(ddi_resnet_build(&net->backbone, b, "model.backbone.conv_encoder.model.", &net->config.backbone));
    return config->detector->build(net, b);
}

void ddi_net_free(ddi_net *net, ddi_exec *exec)
{
    ddi_resnet_free(&net->backbone, exec);
    ddi_free(&exec->context->allocator, net->parts);
}
