/* SPDX-License-Identifier: Apache-2.0
 * Matrix products by register tiles, where no library does it. */
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"
#include "backend/cpu/tile.inc.h"

#define MATMUL_ROWS (4 * TILE_ROWS) /* of a piece; its sums are on the stack, which may be small */
#define MATMUL_PANELS 4
#define MATMUL_DEPTH 512 /* of K at a time: panels stay in the cache */

typedef struct matmul_job {
    const dd_op_matmul *op;
    int64_t panels, row_pieces, panel_pieces, pieces; /* pieces: of one product */
    float *packed;                                    /* [matrices of b, panels, K, TILE_COLUMNS] */
} matmul_job;

static void matmul_pack(void *arg, int64_t i)
{
    const matmul_job *job = arg;
    const dd_op_matmul *op = job->op;
    const float *b = (const float *)op->b + i / job->panels * op->stride_b;
    float *panel = job->packed + i * op->K * TILE_COLUMNS;
    const int64_t first = i % job->panels * TILE_COLUMNS;
    pack_panel(b, op->trans_b ? 1 : op->ldb, op->trans_b ? op->ldb : 1, op->K, first, op->N, panel);
}

/* C = alpha tile + beta C + bias for rows m.. and columns n.. */
static void put_tile(const dd_op_matmul *op, const float *tile, float *c, int64_t m, int64_t rows, int64_t n)
{
    const vf alpha = v_set((float)op->alpha), beta = v_set((float)op->beta);
    const float *bias = op->bias;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < minimum(TILE_COLUMNS, op->N - n); j += VW) {
            float *at = c + (m + i) * op->ldc + n + j;
            const int64_t lanes = op->N - n - j;
            vf value = v_mul(alpha, v_load(tile + i * TILE_COLUMNS + j));
            if (op->beta != 0) { /* otherwise C may be uninitialised */
                value = v_fma(beta, v_load_n(at, lanes), value);
            }
            if (bias) {
                value = v_add(value, op->bias_rows ? v_set(bias[m + i]) : v_load_n(bias + n + j, lanes));
            }
            v_store_n(at, value, lanes);
        }
    }
}

static void matmul_piece(void *arg, int64_t piece)
{
    const matmul_job *job = arg;
    const dd_op_matmul *op = job->op;
    const int64_t i = piece / job->pieces, part = piece % job->pieces;
    const int64_t m_begin = part / job->panel_pieces * MATMUL_ROWS, m_end = minimum(m_begin + MATMUL_ROWS, op->M);
    const int64_t p_begin = part % job->panel_pieces * MATMUL_PANELS, p_end = minimum(p_begin + MATMUL_PANELS, job->panels);
    const int64_t a_row = op->trans_a ? 1 : op->lda, a_k = op->trans_a ? op->lda : 1;
    const float *a = (const float *)op->a + i * op->stride_a;
    const float *packed = job->packed + (op->stride_b ? i : 0) * job->panels * op->K * TILE_COLUMNS;
    float tiles[MATMUL_PANELS * MATMUL_ROWS * TILE_COLUMNS];
    memset(tiles, 0, sizeof tiles);
    for (int64_t k = 0; k < op->K; k += MATMUL_DEPTH) {
        const int64_t depth = minimum(MATMUL_DEPTH, op->K - k);
        for (int64_t p = p_begin; p < p_end; p++) {
            const float *panel = packed + (p * op->K + k) * TILE_COLUMNS;
            for (int64_t m = m_begin; m < m_end; m += TILE_ROWS) {
                float *tile = tiles + ((p - p_begin) * MATMUL_ROWS + (m - m_begin)) * TILE_COLUMNS;
                tile_product(a + m * a_row + k * a_k, a_row, a_k, minimum(TILE_ROWS, m_end - m), panel, depth, true, tile);
            }
        }
    }
    for (int64_t p = p_begin; p < p_end; p++) {
        const float *tile = tiles + (p - p_begin) * MATMUL_ROWS * TILE_COLUMNS;
        put_tile(op, tile, (float *)op->c + i * op->stride_c, m_begin, m_end - m_begin, p * TILE_COLUMNS);
    }
}

dd_status KERNEL(matmul)(dd_exec *exec, const void *args)
{
    const dd_op_matmul *op = args;
    if (op->batch == 0 || op->M == 0 || op->N == 0) {
        return DD_OK;
    }
    matmul_job job = {.op = op, .panels = panel_count(op->N), .row_pieces = cpu_pieces(op->M, MATMUL_ROWS)};
    job.panel_pieces = cpu_pieces(job.panels, MATMUL_PANELS);
    job.pieces = job.row_pieces * job.panel_pieces;
    const int64_t matrices = op->stride_b ? op->batch : 1;
    job.packed = exec->scratch(exec, (size_t)(matrices * job.panels * op->K * TILE_COLUMNS + 1) * sizeof *job.packed);
    if (!job.packed) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, matrices * job.panels, matmul_pack, &job);
    cpu_parallel_for(exec->threads, op->batch * job.pieces, matmul_piece, &job);
    return DD_OK;
}
