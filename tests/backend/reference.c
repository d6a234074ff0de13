/* SPDX-License-Identifier: Apache-2.0
 * A small executor for the reference kernels, with guarded memory. */
#include "reference.h"

#include "backend/ref/ref.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD = 64, GUARD_BYTE = 0xa5, FILL_BYTE = 0xff };

typedef struct piece {
    struct piece *next;
    size_t bytes;
    unsigned char *memory; /* guard, bytes, guard */
} piece;

static piece *kept, *scratch_pieces;
static int scratch_limit = -1, scratch_count;
static uint64_t random_state = 20261123;

static void *new_piece(piece **list, size_t bytes)
{
    piece *p = malloc(sizeof *p);
    assert_non_null(p);
    p->memory = malloc(bytes + 2 * GUARD);
    assert_non_null(p->memory);
    memset(p->memory, GUARD_BYTE, bytes + 2 * GUARD);
    memset(p->memory + GUARD, FILL_BYTE, bytes);
    p->bytes = bytes;
    p->next = *list;
    *list = p;
    return p->memory + GUARD;
}

static void end_pieces(piece **list)
{
    int broken = 0;
    while (*list) {
        piece *p = *list;
        *list = p->next;
        for (size_t i = 0; i < GUARD; i++) {
            broken += p->memory[i] != GUARD_BYTE || p->memory[GUARD + p->bytes + i] != GUARD_BYTE;
        }
        free(p->memory);
        free(p);
    }
    assert_int_equal(broken, 0);
}

static void *scratch(dd_exec *exec, size_t bytes)
{
    if (scratch_limit >= 0 && scratch_count >= scratch_limit) {
        return NULL;
    }
    scratch_count++;
    return new_piece(&scratch_pieces, bytes);
}

dd_status run_op(int32_t op, int32_t dtype, const void *args)
{
    dd_exec exec = {.struct_size = sizeof exec, .threads = 1, .scratch = scratch};
    int32_t count;
    const dd_kernel *kernels = ddi_ref_kernels(&count);
    for (int32_t i = 0; i < count; i++) {
        if (kernels[i].op == op && kernels[i].dtype == dtype) {
            scratch_count = 0;
            const dd_status status = kernels[i].run(&exec, args);
            end_pieces(&scratch_pieces);
            return status;
        }
    }
    return DD_ERR_UNSUPPORTED;
}

void limit_scratch(int pieces)
{
    scratch_limit = pieces;
}

int scratch_asked(void)
{
    return scratch_count;
}

void *fresh(int64_t count, size_t element)
{
    return new_piece(&kept, (size_t)count * element);
}

void release(void)
{
    end_pieces(&kept);
}

void *fresh_reals(int32_t dtype, int64_t count)
{
    return fresh(count, dtype == DD_F32 ? sizeof(float) : sizeof(double));
}

double real_at(int32_t dtype, const void *data, int64_t i)
{
    return dtype == DD_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

void set_real(int32_t dtype, void *data, int64_t i, double value)
{
    if (dtype == DD_F32) {
        ((float *)data)[i] = (float)value;
    } else {
        ((double *)data)[i] = value;
    }
}

void *reals(int32_t dtype, int64_t count, const double *values)
{
    void *data = fresh_reals(dtype, count);
    for (int64_t i = 0; i < count; i++) {
        set_real(dtype, data, i, values[i]);
    }
    return data;
}

/* SplitMix64. */
uint64_t random_bits(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double uniform(double low, double high)
{
    return low + (high - low) * ((double)(random_bits() >> 11) * 0x1p-53);
}

int32_t random_below(int32_t end)
{
    return (int32_t)(random_bits() % (uint64_t)end);
}

void *random_reals(int32_t dtype, int64_t count, double low, double high)
{
    void *data = fresh_reals(dtype, count);
    for (int64_t i = 0; i < count; i++) {
        set_real(dtype, data, i, uniform(low, high));
    }
    return data;
}
