/* SPDX-License-Identifier: Apache-2.0
 * Softmax attention of many heads. */
#include "backend/ref/dropout.h"
#include "backend/ref/math.h"

#include <string.h>

/* One query of one head. */
typedef struct query {
    const dd_op_attention *op;
    int64_t b, i;
    int32_t h;
} query;

static bool blocked(const query *q, int64_t j)
{
    const dd_op_attention *op = q->op;
    return (op->key_padding && op->key_padding[q->b * op->Nk + j]) || (op->mask && op->mask[q->i * op->Nk + j]) ||
           (op->split > 0 && (q->i < op->split) != (j < op->split));
}

static int64_t place(const query *q)
{
    return (q->b * q->op->M + q->h) * q->op->Nq + q->i;
}

static const real *row(const void *x, int64_t ld, int64_t at, int64_t column)
{
    return (const real *)x + at * ld + column;
}

static double logit(const query *q, int64_t j)
{
    const dd_op_attention *op = q->op;
    const real *a = row(op->q, op->ldq, q->b * op->Nq + q->i, (int64_t)q->h * op->dk);
    const real *k = row(op->k, op->ldk, q->b * op->Nk + j, (int64_t)q->h * op->dk);
    double sum = 0;
    for (int32_t c = 0; c < op->dk; c++) {
        sum += (double)a[c] * (double)k[c];
    }
    return op->scale * sum + (op->bias ? (double)((const real *)op->bias)[place(q) * op->Nk + j] : 0);
}

static void forward(const query *q, double *p)
{
    const dd_op_attention *op = q->op;
    double highest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < op->Nk; j++) {
        p[j] = blocked(q, j) ? -INFINITY : logit(q, j);
        highest = p[j] > highest ? p[j] : highest;
    }
    for (int64_t j = 0; j < op->Nk; j++) {
        p[j] = p[j] == -INFINITY ? 0 : ddi_exp(p[j] - highest);
        sum += p[j];
    }
    ((real *)op->lse)[place(q)] = (real)(sum > 0 ? highest + ddi_log(sum) : -INFINITY);
    real *y = (real *)op->y + (q->b * op->Nq + q->i) * op->ldy + (int64_t)q->h * op->dv;
    for (int32_t c = 0; c < op->dv; c++) {
        double total = 0;
        for (int64_t j = 0; j < op->Nk; j++) {
            const real *v = row(op->v, op->ldv, q->b * op->Nk + j, (int64_t)q->h * op->dv);
            total += p[j] > 0 ? p[j] / sum * ddi_ref_kept(&op->dropout, place(q) * op->Nk + j) * (double)v[c] : 0;
        }
        y[c] = (real)total;
    }
}

dd_status REF(attention)(dd_exec *exec, const void *args)
{
    const dd_op_attention *op = args;
    double *p = ddi_ref_scratch(exec, op->Nk, sizeof *p);
    if (!p) {
        return DD_ERR_NOMEM;
    }
    for (query q = {.op = op}; q.b < op->B; q.b++) {
        for (q.h = 0; q.h < op->M; q.h++) {
            for (q.i = 0; q.i < op->Nq; q.i++) {
                forward(&q, p);
            }
        }
    }
    return DD_OK;
}

/* The sums of one head, in double. */
typedef struct head_sums {
    double *q, *k, *v, *p, *g_p;
} head_sums;

/* g_logit = p (g_p - sum p g_p), where g_p is the gradient of the probability before dropout. */
static void backward(const query *q, const head_sums *s)
{
    const dd_op_attention *op = q->op;
    const real *g = row(op->g_y, op->ldy, q->b * op->Nq + q->i, (int64_t)q->h * op->dv);
    const real *a = row(op->q, op->ldq, q->b * op->Nq + q->i, (int64_t)q->h * op->dk);
    const double lse = (double)((const real *)op->lse)[place(q)];
    double mean = 0;
    for (int64_t j = 0; j < op->Nk; j++) {
        const real *v = row(op->v, op->ldv, q->b * op->Nk + j, (int64_t)q->h * op->dv);
        const double kept = ddi_ref_kept(&op->dropout, place(q) * op->Nk + j);
        double sum = 0;
        s->p[j] = blocked(q, j) ? 0 : ddi_exp(logit(q, j) - lse);
        for (int32_t c = 0; s->p[j] > 0 && c < op->dv; c++) {
            sum += (double)g[c] * (double)v[c];
            s->v[j * op->dv + c] += s->p[j] * kept * (double)g[c];
        }
        s->g_p[j] = sum * kept;
        mean += s->p[j] * s->g_p[j];
    }
    for (int64_t j = 0; j < op->Nk; j++) {
        const real *k = row(op->k, op->ldk, q->b * op->Nk + j, (int64_t)q->h * op->dk);
        const double slope = s->p[j] * (s->g_p[j] - mean);
        for (int32_t c = 0; c < op->dk; c++) {
            s->q[q->i * op->dk + c] += op->scale * slope * (double)k[c];
            s->k[j * op->dk + c] += op->scale * slope * (double)a[c];
        }
        if (op->g_bias) {
            real *to = (real *)op->g_bias + place(q) * op->Nk + j;
            *to = (real)(slope + (op->add & 8 ? (double)*to : 0));
        }
    }
}

static void deliver(void *to, const double *sum, int64_t rows, int32_t width, int64_t ld, int64_t first, int64_t column,
                    int32_t add)
{
    for (int64_t i = 0; to && i < rows; i++) {
        real *y = (real *)to + (first + i) * ld + column;
        for (int32_t c = 0; c < width; c++) {
            y[c] = (real)(sum[i * width + c] + (add ? (double)y[c] : 0));
        }
    }
}

dd_status REF(attention_grad)(dd_exec *exec, const void *args)
{
    const dd_op_attention *op = args;
    const int64_t nq = (int64_t)op->Nq * op->dk, nk = (int64_t)op->Nk * op->dk, nv = (int64_t)op->Nk * op->dv;
    double *all = ddi_ref_scratch(exec, nq + nk + nv + 2 * (int64_t)op->Nk, sizeof *all);
    if (!all) {
        return DD_ERR_NOMEM;
    }
    const head_sums s = {all, all + nq, all + nq + nk, all + nq + nk + nv, all + nq + nk + nv + op->Nk};
    for (query q = {.op = op}; q.b < op->B; q.b++) {
        for (q.h = 0; q.h < op->M; q.h++) {
            for (int64_t i = 0; i < nq + nk + nv; i++) {
                all[i] = 0;
            }
            for (q.i = 0; q.i < op->Nq; q.i++) {
                backward(&q, &s);
            }
            deliver(op->g_q, s.q, op->Nq, op->dk, op->ldq, q.b * op->Nq, (int64_t)q.h * op->dk, op->add & 1);
            deliver(op->g_k, s.k, op->Nk, op->dk, op->ldk, q.b * op->Nk, (int64_t)q.h * op->dk, op->add & 2);
            deliver(op->g_v, s.v, op->Nk, op->dv, op->ldv, q.b * op->Nk, (int64_t)q.h * op->dv, op->add & 4);
        }
    }
    return DD_OK;
}
