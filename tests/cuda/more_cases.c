/* SPDX-License-Identifier: Apache-2.0
 * Cases of assignment and of the masks of the split matchings. */
#include "on_device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BLOCKS = 5 };

static array *add(test_case *c, const char *name, size_t offset, array_kind kind, array_use use, size_t element, int64_t count)
{
    array *a = &c->array[c->arrays++];
    *a = (array){.name = name, .offset = offset, .kind = kind, .use = use, .element = element, .count = count};
    if (use != OUTPUT && !(a->values = calloc((size_t)count + 1, element ? element : sizeof(float)))) {
        abort();
    }
    return a;
}

static void fill_numbers(array *a, random_state *r, int32_t low, int32_t high)
{
    for (int64_t k = 0; k < a->count; k++) {
        ((int32_t *)a->values)[k] = low + (int32_t)random_below(r, high - low);
    }
}

void split_masks_case(int64_t i, test_case *c)
{
    random_state r = {(uint64_t)i + 77};
    memset(c, 0, sizeof *c);
    c->op = DD_OPERATOR_split_masks;
    dd_op_split_masks *op = (void *)c->args;
    const int32_t stages = 1 + (int32_t)random_below(&r, 3);
    op->step = (int32_t)(i % 3);
    op->n_pairs = (int32_t)random_below(&r, 4);
    op->B = 1 + (int32_t)random_below(&r, 3);
    op->NS = (int32_t)random_below(&r, 70);
    op->NT = (int32_t)random_below(&r, 70);
    const int64_t students = (int64_t)op->n_pairs * op->B * op->NS;
#define FIELD(name) #name, offsetof(dd_op_split_masks, name)
    fill_numbers(add(c, FIELD(t_match), BYTES, INPUT, 4, (int64_t)stages * op->B * op->NT), &r, -2, 2);
    fill_numbers(add(c, FIELD(pairs), BYTES, INPUT, 4, 2 * op->n_pairs), &r, 0, stages);
    fill_numbers(add(c, FIELD(match), BYTES, UPDATED, 4, students), &r, -1, 4);
    fill_numbers(add(c, FIELD(match2), BYTES, INPUT, 4, students), &r, -1, 4);
    if (op->step == 2) {
        add(c, FIELD(kind), BYTES, OUTPUT, 4, students);
    } else {
        add(c, FIELD(row_use), BYTES, OUTPUT, 1, students);
        add(c, FIELD(col_use), BYTES, OUTPUT, 1, (int64_t)op->n_pairs * op->B * op->NT);
    }
#undef FIELD
    snprintf(c->text, sizeof c->text, "step %d pairs %d B %d NS %d NT %d", op->step, op->n_pairs, op->B, op->NS, op->NT);
}

/* Costs: all different; whole numbers with many ties; all equal; some as the library patches what is not finite; large and
 * of both signs; nearly a product of row and column, which leaves long augmenting paths. */
enum { DIFFERENT, WHOLE, EQUAL, PATCHED, LARGE, PRODUCT, COST_KINDS };

static float cost_of(random_state *r, int kind, int32_t row, int32_t column)
{
    const double u = random_unit(r);
    switch (kind) {
    case WHOLE:
        return (float)random_below(r, 6);
    case EQUAL:
        return 2.5f;
    case PATCHED:
        return random_below(r, 5) ? (float)u : 1e12f;
    case LARGE:
        return (float)((u - 0.5) * 1e8);
    case PRODUCT:
        return (float)((row + 1.0) * (column + 1.0) + u * 1e-3);
    default:
        return (float)(u * 40 - 10);
    }
}

/* Any shape up to 60; now and then one side is longer than a thread block, or than shared memory. */
static int32_t some_side(random_state *r, int64_t i)
{
    const int64_t most = i % 20 == 19 ? 1300 : i % 4 == 3 ? 12 : 60;
    return (int32_t)(i % 17 == 16 ? random_below(r, 2) : 1 + random_below(r, most));
}

static array *add_mask(test_case *c, random_state *r, const char *name, size_t offset, int64_t count)
{
    array *use = add(c, name, offset, BYTES, INPUT, 1, count);
    const int64_t share = 1 + random_below(r, 6);
    for (int64_t k = 0; k < count; k++) {
        ((uint8_t *)use->values)[k] = random_below(r, 6) < share;
    }
    return use;
}

void assign_case(int64_t i, test_case *c, bool *unique)
{
    random_state r = {(uint64_t)i * 31 + 5};
    dd_assign_block block[MOST_BLOCKS];
    int64_t costs = 3, rows = 0, columns = 0;
    memset(c, 0, sizeof *c);
    c->op = DD_OPERATOR_assign;
    dd_op_assign *op = (void *)c->args;
    const int kind = (int)(i % COST_KINDS);
    op->blocks = i % 13 == 12 ? 0 : 1 + (int32_t)random_below(&r, i % 20 == 19 ? 1 : MOST_BLOCKS);
    op->by_columns = (int32_t)(i / 2 % 2);
    for (int32_t k = 0; k < op->blocks; k++) {
        const int32_t n = some_side(&r, i), m = random_below(&r, 3) ? some_side(&r, i % 20 == 19 ? 0 : i) : n;
        block[k] = (dd_assign_block){costs, rows, columns, random_below(&r, 2) ? n : m, m};
        block[k].cols = block[k].rows == n ? m : n;
        costs += (int64_t)n * m + random_below(&r, 3); /* holes between blocks are legal */
        rows += block[k].rows;
        columns += block[k].cols;
        op->max_rows = block[k].rows > op->max_rows ? block[k].rows : op->max_rows;
        op->max_cols = block[k].cols > op->max_cols ? block[k].cols : op->max_cols;
    }
#define FIELD(name) #name, offsetof(dd_op_assign, name)
    array *cost = add(c, FIELD(cost), REALS, INPUT, 0, costs);
    for (int32_t k = 0; k < op->blocks; k++) {
        for (int64_t at = 0; at < (int64_t)block[k].rows * block[k].cols; at++) {
            ((float *)cost->values)[block[k].cost_offset + at] =
                cost_of(&r, kind, (int32_t)(at / block[k].cols), (int32_t)(at % block[k].cols));
        }
    }
    memcpy(add(c, FIELD(block), BYTES, INPUT, sizeof *block, op->blocks)->values, block, (size_t)op->blocks * sizeof *block);
    memcpy(add(c, FIELD(host_block), BYTES, INPUT, sizeof *block, op->blocks)->values, block,
           (size_t)op->blocks * sizeof *block);
    if (i % 3 == 2) {
        add_mask(c, &r, FIELD(row_use), rows);
    }
    if (i % 5 >= 3) {
        add_mask(c, &r, FIELD(col_use), columns);
    }
    add(c, FIELD(match), BYTES, OUTPUT, 4, op->by_columns ? columns : rows);
    add(c, FIELD(total), DOUBLES, OUTPUT, 0, op->blocks);
#undef FIELD
    *unique = kind == DIFFERENT;
    snprintf(c->text, sizeof c->text, "blocks %d, first %d x %d, kind %d, by columns %d, masks %d %d", op->blocks,
             op->blocks ? block[0].rows : 0, op->blocks ? block[0].cols : 0, kind, op->by_columns, i % 3 == 2, i % 5 >= 3);
}

static const array *find(const test_case *c, const char *name, int32_t *at)
{
    for (*at = 0; *at < c->arrays; ++*at) {
        if (strcmp(c->array[*at].name, name) == 0) {
            return &c->array[*at];
        }
    }
    return NULL;
}

static int32_t count_used(const uint8_t *use, int32_t count)
{
    int32_t used = 0;
    for (int32_t i = 0; i < count; i++) {
        used += !use || use[i];
    }
    return used;
}

/* One block: partners within range, used, nobody twice, as many pairs as fit, and the total of them. */
static const char *check_block(const dd_op_assign *op, const dd_assign_block *b, const float *cost, const uint8_t *row_use,
                               const uint8_t *col_use, const int32_t *match, double *total)
{
    const int32_t keys = op->by_columns ? b->cols : b->rows, partners = op->by_columns ? b->rows : b->cols;
    const uint8_t *key_use = op->by_columns ? col_use : row_use, *partner_use = op->by_columns ? row_use : col_use;
    uint8_t *taken = calloc((size_t)partners + 1, 1);
    const char *wrong = NULL;
    int32_t pairs = 0;
    *total = 0;
    for (int32_t k = 0; k < keys && taken && !wrong; k++) {
        const int32_t p = match[k];
        if (p == -1) {
            continue;
        }
        if (p < 0 || p >= partners || taken[p]++ || (key_use && !key_use[k]) || (partner_use && !partner_use[p])) {
            wrong = "is no matching";
            break;
        }
        *total += cost[b->cost_offset + (int64_t)(op->by_columns ? p : k) * b->cols + (op->by_columns ? k : p)];
        pairs++;
    }
    const int32_t used_keys = count_used(key_use, keys), used_partners = count_used(partner_use, partners);
    free(taken);
    return wrong ? wrong : pairs != (used_keys < used_partners ? used_keys : used_partners) ? "leaves a pair out" : NULL;
}

const char *check_assignment(const test_case *c, const results *got, const results *truth, bool unique)
{
    const dd_op_assign *op = (const void *)c->args;
    int32_t at_match, at_total, at;
    find(c, "match", &at_match);
    find(c, "total", &at_total);
    const array *cost = find(c, "cost", &at), *row_use = find(c, "row_use", &at), *col_use = find(c, "col_use", &at);
    const dd_assign_block *block = find(c, "host_block", &at)->values;
    const int32_t *match = got->array[at_match];
    for (int32_t k = 0; k < op->blocks; k++) {
        double total;
        const double told = ((const double *)got->array[at_total])[k], best = ((const double *)truth->array[at_total])[k];
        const char *wrong =
            check_block(op, &block[k], cost->values, row_use ? (const uint8_t *)row_use->values + block[k].row_offset : NULL,
                        col_use ? (const uint8_t *)col_use->values + block[k].col_offset : NULL,
                        match + (op->by_columns ? block[k].col_offset : block[k].row_offset), &total);
        /* both are optimal, so only the order of adding may differ */
        const double allowed = 1e-13 * fabs(best) + 1e-12;
        if (wrong || fabs(total - told) > allowed || fabs(told - best) > allowed) {
            return wrong ? wrong : "has another total";
        }
    }
    const bool same = memcmp(match, truth->array[at_match], (size_t)c->array[at_match].count * sizeof *match) == 0;
    return unique && !same ? "differs where only one matching is the best" : NULL;
}
