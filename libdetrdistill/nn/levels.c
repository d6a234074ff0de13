/* SPDX-License-Identifier: Apache-2.0
 * Levels of a token tensor and their masks. */
#include "nn/levels.h"
#include "tape/node.h"

void ddi_levels_add(ddi_levels *levels, int64_t height, int64_t width)
{
    const int32_t l = levels->count++;
    levels->height[l] = (int32_t)height;
    levels->width[l] = (int32_t)width;
    levels->first[l] = levels->tokens;
    levels->tokens += height * width;
}

/* Cells of a level that read a real pixel by nearest sampling, with the ratio in float. */
static int32_t valid_cells(int64_t in, int64_t out, int32_t real_cells)
{
    const float ratio = (float)in / (float)out;
    int32_t count = 0;
    for (int64_t i = 0; i < out; i++) {
        const int64_t at = (int64_t)((float)i * ratio);
        count += (at < in - 1 ? at : in - 1) < real_cells;
    }
    return count;
}

ddi_value *ddi_upload(ddi_tape *t, const void *host, size_t bytes)
{
    ddi_value *v = ddi_bytes(t, bytes);
    if (t->status == DD_OK && !t->dry) {
        ddi_tape_fail(t, ddi_copy(t->exec, v->data, host, bytes, DD_COPY_TO_DEVICE));
    }
    return v;
}

static void fill_padding(const ddi_levels *levels, int64_t b, const int32_t *valid, uint8_t *padding)
{
    for (int32_t l = 0; l < levels->count; l++) {
        uint8_t *at = padding + b * levels->tokens + levels->first[l];
        for (int32_t i = 0; i < levels->height[l]; i++) {
            for (int32_t j = 0; j < levels->width[l]; j++) {
                *at++ = j >= valid[2 * l] || i >= valid[2 * l + 1];
            }
        }
    }
}

ddi_level_masks ddi_make_masks(ddi_tape *t, const ddi_levels *levels, const ddi_value *image, const int32_t *sizes)
{
    const int64_t B = image->shape[0], L = levels->count;
    ddi_level_masks masks = {.valid = &t->nothing, .valid_by_level = &t->nothing};
    bool padded = false;
    int32_t *valid = ddi_tape_memory(t, (size_t)(B * L * 2) * sizeof *valid);
    int32_t *by_level = ddi_tape_memory(t, (size_t)(B * L * 2) * sizeof *valid);
    char *ratio = ddi_tape_memory(t, (size_t)(B * L * 2) * t->element);
    uint8_t *padding = ddi_tape_memory(t, (size_t)(B * levels->tokens));
    if (!valid || !by_level || !ratio || !padding) {
        return masks;
    }
    for (int64_t i = 0; i < B * L * 2; i++) {
        const int64_t b = i / 2 / L, l = i / 2 % L, axis = i % 2;
        const int32_t side = axis ? levels->height[l] : levels->width[l];
        valid[i] = valid_cells(image->shape[axis ? 1 : 2], side, sizes[2 * b + axis]);
        by_level[(l * B + b) * 2 + axis] = valid[i];
        padded = padded || valid[i] < side;
        if (t->dtype == DD_F64) {
            ((double *)(void *)ratio)[i] = (double)valid[i] / side;
        } else {
            ((float *)(void *)ratio)[i] = (float)valid[i] / (float)side;
        }
    }
    masks.valid = ddi_upload(t, valid, (size_t)(B * L * 2) * sizeof *valid);
    masks.valid_by_level = ddi_upload(t, by_level, (size_t)(B * L * 2) * sizeof *valid);
    if (padded) {
        for (int64_t b = 0; b < B; b++) {
            fill_padding(levels, b, valid + b * L * 2, padding);
        }
        masks.padding = ddi_upload(t, padding, (size_t)(B * levels->tokens));
        ddi_value *bytes = ddi_upload(t, ratio, (size_t)(B * L * 2) * t->element);
        masks.ratio = ddi_view(t, bytes, 0, DDI_SHAPE(B, L, 2));
    }
    return masks;
}
