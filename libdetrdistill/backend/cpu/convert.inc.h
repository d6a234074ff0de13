/* SPDX-License-Identifier: Apache-2.0
 * Strided tensors of any type from and to contiguous f32, and the search for NaN and infinities. */
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"

#define CONVERT_PIECE 16384 /* elements */

/* The axes of one tensor, or of two that are walked together, with neighbours merged where memory allows. */
typedef struct layout {
    int32_t ndim;
    int64_t count, shape[DD_MAX_DIMS], stride[2][DD_MAX_DIMS];
} layout;

static layout layout_of(int32_t ndim, const int64_t *shape, const int64_t *stride0, const int64_t *stride1)
{
    layout l = {.count = 1};
    for (int32_t a = 0; a < ndim; a++) {
        l.count *= shape[a];
        if (shape[a] == 1) {
            continue;
        }
        const int32_t last = l.ndim - 1;
        if (l.ndim > 0 && l.stride[0][last] == stride0[a] * shape[a] && l.stride[1][last] == stride1[a] * shape[a]) {
            l.shape[last] *= shape[a];
        } else {
            l.shape[l.ndim++] = shape[a];
        }
        l.stride[0][l.ndim - 1] = stride0[a];
        l.stride[1][l.ndim - 1] = stride1[a];
    }
    if (l.ndim == 0) {
        l = (layout){.ndim = 1, .count = l.count, .shape = {1}, .stride = {{1}, {1}}};
    }
    return l;
}

/* Offsets of element i. Returns how many elements follow in its row. */
static int64_t locate(const layout *l, int64_t i, int64_t *at0, int64_t *at1)
{
    const int32_t inner = l->ndim - 1;
    const int64_t in_row = i % l->shape[inner];
    *at0 = in_row * l->stride[0][inner];
    *at1 = in_row * l->stride[1][inner];
    i /= l->shape[inner];
    for (int32_t a = inner - 1; a >= 0; a--) {
        const int64_t k = i % l->shape[a];
        *at0 += k * l->stride[0][a];
        *at1 += k * l->stride[1][a];
        i /= l->shape[a];
    }
    return l->shape[inner] - in_row;
}

INLINE float from_bf16(uint16_t bits)
{
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((int32_t)((uint32_t)bits << 16))));
}

INLINE float load_one(const void *data, int32_t dtype, int64_t at)
{
    switch (dtype) {
    case DD_F32:
        return ((const float *)data)[at];
    case DD_F64:
        return (float)((const double *)data)[at];
    case DD_F16:
        return _cvtsh_ss(((const uint16_t *)data)[at]);
    case DD_BF16:
        return from_bf16(((const uint16_t *)data)[at]);
    case DD_I32:
        return (float)((const int32_t *)data)[at];
    case DD_I64:
        return (float)((const int64_t *)data)[at];
    default:
        return (float)((const uint8_t *)data)[at];
    }
}

/* A row of elements `stride` apart. The type is known where this is inlined. */
INLINE void load_row(const void *data, int32_t dtype, int64_t at, int64_t stride, float *dst, int64_t count)
{
    int64_t i = 0;
    if (stride == 1 && (dtype == DD_F32 || dtype == DD_F16 || dtype == DD_BF16)) {
        for (; i + VW <= count; i += VW) {
            v_store(dst + i, dtype == DD_F32   ? v_load((const float *)data + at + i)
                             : dtype == DD_F16 ? v_from_f16((const uint16_t *)data + at + i)
                                               : v_from_bf16((const uint16_t *)data + at + i));
        }
    }
    for (; i < count; i++) {
        dst[i] = load_one(data, dtype, at + i * stride);
    }
}

static void load_row_of(const void *data, int32_t dtype, int64_t at, int64_t stride, float *dst, int64_t count)
{
    switch (dtype) {
    case DD_F32:
        load_row(data, DD_F32, at, stride, dst, count);
        break;
    case DD_F64:
        load_row(data, DD_F64, at, stride, dst, count);
        break;
    case DD_F16:
        load_row(data, DD_F16, at, stride, dst, count);
        break;
    case DD_BF16:
        load_row(data, DD_BF16, at, stride, dst, count);
        break;
    case DD_I32:
        load_row(data, DD_I32, at, stride, dst, count);
        break;
    case DD_I64:
        load_row(data, DD_I64, at, stride, dst, count);
        break;
    default:
        load_row(data, DD_U8, at, stride, dst, count);
    }
}

/* NaN -> 0, infinities -> +-1e4 */
static void sanitise_row(float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i += VW) {
        const vf v = v_load_n(x + i, count - i);
        const vf bound = v_select(v_is_nan(v), v_zero(), v_select(v_less(v, v_zero()), v_set(-1e4f), v_set(1e4f)));
        v_store_n(x + i, v_select(v_finite(v), v, bound), count - i);
    }
}

typedef struct gather_job {
    const dd_op_gather *op;
    layout layout;
} gather_job;

static void gather_piece(void *arg, int64_t piece)
{
    const gather_job *job = arg;
    const int64_t begin = piece * CONVERT_PIECE, end = minimum(begin + CONVERT_PIECE, job->layout.count);
    float *dst = job->op->dst;
    for (int64_t i = begin, run; i < end; i += run) {
        int64_t at, unused;
        run = minimum(locate(&job->layout, i, &at, &unused), end - i);
        load_row_of(job->op->src, job->op->src_dtype, at, job->layout.stride[0][job->layout.ndim - 1], dst + i, run);
    }
    if (job->op->sanitise) {
        sanitise_row(dst + begin, end - begin);
    }
}

#define TURN_ROWS 32
#define TURN_COLUMNS 64

/* A tensor whose neighbours in memory are not those of the result (channels last): axis `row` has stride 1 in the source, the
 * last axis in the result. Square tiles let both sides move whole cache lines. */
typedef struct turn_job {
    const dd_op_gather *op;
    layout others; /* the axes that are neither */
    int64_t rows, columns;
    int64_t row_dst, column_src; /* strides: rows in the result, columns in the source */
    int64_t row_pieces, column_pieces;
} turn_job;

static void turn_tile(const turn_job *job, int64_t src, float *dst, int64_t rows, int64_t columns)
{
    float line[TURN_ROWS], tile[TURN_ROWS][TURN_COLUMNS];
    for (int64_t j = 0; j < columns; j++) {
        load_row_of(job->op->src, job->op->src_dtype, src + j * job->column_src, 1, line, rows);
        for (int64_t k = 0; k < rows; k++) {
            tile[k][j] = line[k];
        }
    }
    for (int64_t k = 0; k < rows; k++) {
        if (job->op->sanitise) {
            sanitise_row(tile[k], columns);
        }
        memcpy(dst + k * job->row_dst, tile[k], (size_t)columns * sizeof(float));
    }
}

static void turn_piece(void *arg, int64_t piece)
{
    const turn_job *job = arg;
    const int64_t column = piece % job->column_pieces * TURN_COLUMNS,
                  row = piece / job->column_pieces % job->row_pieces * TURN_ROWS;
    int64_t src, dst;
    locate(&job->others, piece / job->column_pieces / job->row_pieces, &src, &dst);
    turn_tile(job, src + row + column * job->column_src, (float *)job->op->dst + dst + row * job->row_dst + column,
              minimum(TURN_ROWS, job->rows - row), minimum(TURN_COLUMNS, job->columns - column));
}

/* Prepares the job where it pays. */
static bool is_turned(const dd_op_gather *op, const layout *l, turn_job *job)
{
    const int32_t last = l->ndim - 1;
    int32_t row = -1;
    for (int32_t a = 0; a < last; a++) {
        row = l->stride[0][a] == 1 ? a : row;
    }
    if (row < 0 || l->stride[0][last] == 1 || l->shape[row] < TURN_ROWS / 2 || l->shape[last] < TURN_ROWS / 2) {
        return false;
    }
    *job = (turn_job){.op = op, .rows = l->shape[row], .columns = l->shape[last], .column_src = l->stride[0][last]};
    int64_t shape[DD_MAX_DIMS] = {1}, source[DD_MAX_DIMS] = {0}, result[DD_MAX_DIMS] = {0}, step = l->shape[last];
    int32_t count = 0;
    for (int32_t a = last - 1; a >= 0; a--) {
        if (a == row) {
            job->row_dst = step;
        } else {
            shape[count] = l->shape[a]; /* in any order: each tile finds its own place */
            source[count] = l->stride[0][a];
            result[count++] = step;
        }
        step *= l->shape[a];
    }
    job->others = layout_of(count, shape, source, result);
    job->row_pieces = cpu_pieces(job->rows, TURN_ROWS);
    job->column_pieces = cpu_pieces(job->columns, TURN_COLUMNS);
    return true;
}

dd_status KERNEL(gather)(dd_exec *exec, const void *args)
{
    const dd_op_gather *op = args;
    if (op->src_dtype < DD_F32 || op->src_dtype > DD_U8) {
        return DD_ERR_DTYPE;
    }
    gather_job job = {op, layout_of(op->ndim, op->shape, op->stride, op->stride)};
    turn_job turned;
    if (job.layout.count > 0 && is_turned(op, &job.layout, &turned)) {
        const int64_t pieces = turned.others.count * turned.row_pieces * turned.column_pieces;
        cpu_parallel_for(exec->threads, pieces, turn_piece, &turned);
    } else {
        cpu_parallel_for(exec->threads, cpu_pieces(job.layout.count, CONVERT_PIECE), gather_piece, &job);
    }
    return DD_OK;
}

INLINE void store_one(void *data, int32_t dtype, int64_t at, float x)
{
    uint16_t bits[VW];
    switch (dtype) {
    case DD_F32:
        ((float *)data)[at] = x;
        break;
    case DD_F64:
        ((double *)data)[at] = x;
        break;
    case DD_F16:
        ((uint16_t *)data)[at] = _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
        break;
    default:
        v_to_bf16(bits, v_set(x));
        ((uint16_t *)data)[at] = bits[0];
    }
}

INLINE void store_row(void *data, int32_t dtype, int64_t at, int64_t stride, const float *src, int64_t count)
{
    int64_t i = 0;
    for (; stride == 1 && dtype != DD_F64 && i + VW <= count; i += VW) {
        const vf x = v_load(src + i);
        if (dtype == DD_F32) {
            v_store((float *)data + at + i, x);
        } else if (dtype == DD_F16) {
            v_to_f16((uint16_t *)data + at + i, x);
        } else {
            v_to_bf16((uint16_t *)data + at + i, x);
        }
    }
    for (; i < count; i++) {
        store_one(data, dtype, at + i * stride, src[i]);
    }
}

static void store_row_of(void *data, int32_t dtype, int64_t at, int64_t stride, const float *src, int64_t count)
{
    switch (dtype) {
    case DD_F32:
        store_row(data, DD_F32, at, stride, src, count);
        break;
    case DD_F64:
        store_row(data, DD_F64, at, stride, src, count);
        break;
    case DD_F16:
        store_row(data, DD_F16, at, stride, src, count);
        break;
    default:
        store_row(data, DD_BF16, at, stride, src, count);
    }
}

/* out = x where `where` is finite, else 0 */
static void keep_where_finite(const float *x, const float *where, float *out, int64_t count)
{
    for (int64_t i = 0; i < count; i += VW) {
        const vm finite = v_finite(v_load_n(where + i, count - i));
        v_store_n(out + i, v_select(finite, v_load_n(x + i, count - i), v_zero()), count - i);
    }
}

typedef struct scatter_job {
    const dd_op_scatter *op;
    layout layout;
} scatter_job;

static void scatter_piece(void *arg, int64_t piece)
{
    enum { ROW = 512 };
    const scatter_job *job = arg;
    const dd_op_scatter *op = job->op;
    const layout *l = &job->layout;
    const int64_t begin = piece * CONVERT_PIECE, end = minimum(begin + CONVERT_PIECE, l->count);
    float where[ROW], kept[ROW];
    for (int64_t i = begin, run; i < end; i += run) {
        int64_t at, zero_at;
        const float *src = (const float *)op->src + i;
        run = minimum(locate(l, i, &at, &zero_at), end - i);
        if (op->zero_where) {
            run = minimum(run, ROW);
            load_row_of(op->zero_where, op->zero_dtype, zero_at, l->stride[1][l->ndim - 1], where, run);
            keep_where_finite(src, where, kept, run);
            src = kept;
        }
        store_row_of(op->dst, op->dst_dtype, at, l->stride[0][l->ndim - 1], src, run);
    }
}

static bool is_float(int32_t dtype)
{
    return dtype >= DD_F32 && dtype <= DD_BF16;
}

dd_status KERNEL(scatter)(dd_exec *exec, const void *args)
{
    const dd_op_scatter *op = args;
    if (!is_float(op->dst_dtype) || (op->zero_where && !is_float(op->zero_dtype))) {
        return DD_ERR_DTYPE;
    }
    scatter_job job = {op, layout_of(op->ndim, op->shape, op->stride, op->zero_where ? op->zero_stride : op->stride)};
    cpu_parallel_for(exec->threads, cpu_pieces(job.layout.count, CONVERT_PIECE), scatter_piece, &job);
    return DD_OK;
}

/* First non-finite element of count, or -1. */
static int64_t first_nonfinite(const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i += VW) {
        const uint32_t bad = ~v_bits(v_finite(v_load_n(x + i, count - i))) & (uint32_t)((1ull << VW) - 1);
        if (bad) {
            return i + __builtin_ctz(bad);
        }
    }
    return -1;
}

typedef struct finite_job {
    const dd_op_check_finite *op;
    int64_t pieces_per_row;
    int64_t *first; /* of each piece, flat, or -1 */
} finite_job;

static void check_finite_piece(void *arg, int64_t piece)
{
    const finite_job *job = arg;
    const int64_t row = piece / job->pieces_per_row, inner = job->op->inner;
    const int64_t begin = piece % job->pieces_per_row * CONVERT_PIECE, at = row * inner + begin;
    const int64_t first = first_nonfinite((const float *)job->op->x + at, minimum(CONVERT_PIECE, inner - begin));
    job->first[piece] = first < 0 ? -1 : at + first;
}

dd_status KERNEL(check_finite)(dd_exec *exec, const void *args)
{
    const dd_op_check_finite *op = args;
    *op->first = -1;
    const int64_t rows = op->outer * op->images;
    if (rows == 0 || op->inner == 0) {
        return DD_OK;
    }
    finite_job job = {op, cpu_pieces(op->inner, CONVERT_PIECE), NULL};
    const int64_t pieces = rows * job.pieces_per_row;
    job.first = exec->scratch(exec, (size_t)pieces * sizeof *job.first);
    if (!job.first) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, pieces, check_finite_piece, &job);
    for (int64_t k = 0; k < pieces; k++) {
        if (job.first[k] < 0) {
            continue;
        }
        if (*op->first < 0) {
            *op->first = job.first[k];
        }
        if (op->image_bad) {
            op->image_bad[k / job.pieces_per_row % op->images] = 1;
        }
    }
    return DD_OK;
}
