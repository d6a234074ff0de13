/* SPDX-License-Identifier: Apache-2.0
 * Inputs of the recipe_* golden files: they are computed, not stored (golden/kd README, RECIPE). */
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t golden_hash(uint64_t i, uint64_t seed, uint64_t stream)
{
    uint64_t z = i + (seed << 48) + (stream << 40) + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

enum { LOGITS, BOXES, MAPS };

static void fill(array *a, int kind, uint64_t seed, uint64_t stream)
{
    for (int64_t i = 0; i < a->n; i++) {
        uint64_t z = golden_hash((uint64_t)i, seed, stream);
        double hi = (double)(z >> 42), lo = (double)((z >> 20) & 0x3fffff);
        if (kind == LOGITS)
            a->f[i] = (hi + lo) / 524288 - 14;
        else if (kind == BOXES)
            a->f[i] = i % 4 < 2 ? hi / 4194304 : (hi + 1) / 8388608;
        else
            a->f[i] = hi / 2097152 - 1;
    }
}

static int64_t number(const golden_case *c, const char *key)
{
    const char *text = golden_option(c, key);
    return text ? strtoll(text, NULL, 10) : 0;
}

static void add_reals(golden_case *c, const char *name, int kind, int dims, const int64_t *shape, uint64_t stream)
{
    fill(golden_add(c, name, 0, dims, shape), kind, (uint64_t)number(c, "recipe_seed"), stream);
}

static void add_objects(golden_case *c, int64_t images, uint64_t seed, int64_t classes)
{
    const char *counts = golden_option(c, "recipe_G");
    int64_t total = 0;
    array *offsets = golden_add(c, "gt_offsets", 1, 1, (int64_t[]){images + 1});
    offsets->i[0] = 0;
    for (int64_t b = 0; b < images; b++) {
        char *end;
        total += strtoll(counts, &end, 10);
        counts = *end ? end + 1 : end;
        offsets->i[b + 1] = (int32_t)total;
    }
    add_reals(c, "gt_boxes", BOXES, 2, (int64_t[]){total, 4}, 7);
    array *labels = golden_add(c, "gt_labels", 1, 1, (int64_t[]){total});
    for (int64_t g = 0; g < total; g++)
        labels->i[g] = (int32_t)(golden_hash((uint64_t)g, seed, 8) % (uint64_t)classes);
}

void golden_make_recipe(golden_case *c)
{
    int64_t B = number(c, "recipe_B"), C = number(c, "recipe_C"), L = number(c, "recipe_L"), NS = number(c, "recipe_NS"),
            NT = number(c, "recipe_NT"), d = number(c, "recipe_d"), width = 0, height = 0;
    add_reals(c, "s_logits", LOGITS, 4, (int64_t[]){L, B, NS, C}, 1);
    add_reals(c, "s_boxes", BOXES, 4, (int64_t[]){L, B, NS, 4}, 2);
    add_reals(c, "t_logits", LOGITS, 4, (int64_t[]){L, B, NT, C}, 3);
    add_reals(c, "t_boxes", BOXES, 4, (int64_t[]){L, B, NT, 4}, 4);
    add_reals(c, "p_logits", LOGITS, 4, (int64_t[]){L, B, NT, C}, 5);
    add_reals(c, "p_boxes", BOXES, 4, (int64_t[]){L, B, NT, 4}, 6);
    add_reals(c, "t_hidden", MAPS, 4, (int64_t[]){L, B, NT, d}, 9);
    add_objects(c, B, (uint64_t)number(c, "recipe_seed"), C);
    const char *levels = golden_option(c, "recipe_levels");
    for (int l = 0; levels && *levels; l++) {
        char name[32], *end;
        int64_t h = strtoll(levels, &end, 10), w = strtoll(end + 1, &end, 10);
        levels = *end ? end + 1 : end;
        snprintf(name, sizeof name, "t_feat.%d", l);
        add_reals(c, name, MAPS, 4, (int64_t[]){B, d, h, w}, (uint64_t)(16 + l));
        snprintf(name, sizeof name, "s_feat.%d", l);
        add_reals(c, name, MAPS, 4, (int64_t[]){B, d, h, w}, (uint64_t)(32 + l));
    }
    if (sscanf(golden_option(c, "recipe_size"), "%ldx%ld", &width, &height) == 2) {
        array *sizes = golden_add(c, "img_size", 0, 2, (int64_t[]){B, 2});
        for (int64_t b = 0; b < B; b++) {
            sizes->f[2 * b] = (double)width;
            sizes->f[2 * b + 1] = (double)height;
        }
    }
}
