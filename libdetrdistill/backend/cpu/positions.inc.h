/* SPDX-License-Identifier: Apache-2.0
 * Position codes of maps and coordinates (detectors.md 1.4, 1.5): each wave of a row or column is computed once. */
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"

#define POSITION_TWO_PI 6.283185307179586
#define POSITION_ROWS 16 /* of a piece */

/* to[c] = T^(2 floor(c/2) / n) */
static void position_periods(double temperature, int64_t n, double *to)
{
    for (int64_t c = 0; c < n; c++) {
        to[c] = pow(temperature, (double)(2 * (c / 2)) / (double)n);
    }
}

static double position_wave(double x, int64_t c)
{
    return c % 2 ? cos(x) : sin(x);
}

typedef struct sine_job {
    const dd_op_sine_position *op;
    double *period; /* [C/2] */
    float *code;    /* [B,H+W,C/2]: rows, then columns */
} sine_job;

static void sine_codes(void *arg, int64_t i)
{
    const sine_job *job = arg;
    const dd_op_sine_position *op = job->op;
    const int64_t lines = (int64_t)op->H + op->W, line = i % lines, half = op->C / 2;
    const int32_t *valid = op->valid + i / lines * 2;
    const bool row = line < op->H;
    const double at = (double)(row ? line + 1 : line - op->H + 1) + op->offset;
    const double angle = at / ((row ? valid[1] : valid[0]) + 1e-6) * POSITION_TWO_PI;
    for (int64_t c = 0; c < half; c++) {
        job->code[i * half + c] = (float)position_wave(angle / job->period[c], c);
    }
}

/* y = code + embedding; either may be NULL: 0 */
static void sine_put(float *y, const float *code, const float *embedding, int64_t count)
{
    for (int64_t c = 0; c < count; c += VW) {
        const vf x = code ? v_load_n(code + c, count - c) : v_zero();
        v_store_n(y + c, embedding ? v_add(x, v_load_n(embedding + c, count - c)) : x, count - c);
    }
}

static void sine_row(void *arg, int64_t i)
{
    const sine_job *job = arg;
    const dd_op_sine_position *op = job->op;
    const int64_t b = i / op->H, row = i % op->H, half = op->C / 2;
    const float *codes = job->code + b * (op->H + op->W) * half, *embedding = op->embedding;
    for (int64_t j = 0; j < op->W; j++) {
        float *y = (float *)op->y + b * op->y_stride + (row * op->W + j) * op->C;
        const bool inside = row < op->valid[2 * b + 1] && j < op->valid[2 * b];
        sine_put(y, inside ? codes + row * half : NULL, embedding, half);
        sine_put(y + half, inside ? codes + (op->H + j) * half : NULL, embedding ? embedding + half : NULL, half);
    }
}

dd_status KERNEL(sine_position)(dd_exec *exec, const void *args)
{
    const dd_op_sine_position *op = args;
    const int64_t half = op->C / 2, lines = (int64_t)op->B * ((int64_t)op->H + op->W);
    sine_job job = {.op = op};
    job.period = exec->scratch(exec, (size_t)(half + 1) * sizeof *job.period);
    job.code = exec->scratch(exec, (size_t)(lines * half + 1) * sizeof *job.code);
    if (!job.period || !job.code) {
        return DD_ERR_NOMEM;
    }
    position_periods(op->temperature, half, job.period);
    cpu_parallel_for(exec->threads, lines, sine_codes, &job);
    cpu_parallel_for(exec->threads, (int64_t)op->B * op->H, sine_row, &job);
    return DD_OK;
}

typedef struct embed_job {
    const dd_op_coord_embed *op;
    double *period; /* [n] */
} embed_job;

static double embed_scale(const dd_op_coord_embed *op, int32_t k)
{
    return op->scale / (op->unit[k] == 0 ? 1 : op->unit[k]);
}

static void embed_piece(void *arg, int64_t piece)
{
    const embed_job *job = arg;
    const dd_op_coord_embed *op = job->op;
    const int64_t k = op->coordinates, end = minimum((piece + 1) * POSITION_ROWS, op->rows) * k;
    for (int64_t i = piece * POSITION_ROWS * k; i < end; i++) {
        const int32_t from = op->order[i % k];
        const double x = embed_scale(op, from) * (double)((const float *)op->x)[i / k * k + from];
        for (int64_t c = 0; c < op->n; c++) {
            ((float *)op->y)[i * op->n + c] = (float)position_wave(x / job->period[c], c);
        }
    }
}

static void embed_piece_back(void *arg, int64_t piece)
{
    const embed_job *job = arg;
    const dd_op_coord_embed *op = job->op;
    const int64_t k = op->coordinates, end = minimum((piece + 1) * POSITION_ROWS, op->rows) * k;
    for (int64_t i = piece * POSITION_ROWS * k; i < end; i++) {
        const int64_t at = i / k * k + op->order[i % k];
        const double scale = embed_scale(op, op->order[i % k]), x = scale * (double)((const float *)op->x)[at];
        float *g_x = (float *)op->g_x + at;
        double sum = op->add & 1 ? (double)*g_x : 0;
        for (int64_t c = 0; c < op->n; c++) {
            const double angle = x / job->period[c], slope = c % 2 ? -sin(angle) : cos(angle);
            sum += (double)((const float *)op->g_y)[i * op->n + c] * slope * scale / job->period[c];
        }
        *g_x = (float)sum;
    }
}

static dd_status embed_run(dd_exec *exec, const dd_op_coord_embed *op, void (*piece)(void *arg, int64_t i))
{
    embed_job job = {op, exec->scratch(exec, (size_t)(op->n + 1) * sizeof *job.period)};
    if (!job.period) {
        return DD_ERR_NOMEM;
    }
    position_periods(op->temperature, op->n, job.period);
    cpu_parallel_for(exec->threads, cpu_pieces(op->rows, POSITION_ROWS), piece, &job);
    return DD_OK;
}

dd_status KERNEL(coord_embed)(dd_exec *exec, const void *args)
{
    return embed_run(exec, args, embed_piece);
}

dd_status KERNEL(coord_embed_grad)(dd_exec *exec, const void *args)
{
    return embed_run(exec, args, embed_piece_back);
}
