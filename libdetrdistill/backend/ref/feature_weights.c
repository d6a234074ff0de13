/* SPDX-License-Identifier: Apache-2.0
 * Target-aware weight map of one feature level (distillation B.3, B.4). Arithmetic is in double for both types. */
#include "backend/ref/math.h"
#include "backend/ref/real.h"

#define NORM_FLOOR 1e-12
#define SIMILARITY_FLOOR 0.01

typedef struct weights_scratch {
    double *row;        /* [d] */
    double *similarity; /* [P] */
    double *length;     /* [P] what features are divided by */
} weights_scratch;

/* The divisor that makes a vector a unit vector. */
static double length_of(const real *x, int64_t count, int64_t stride)
{
    double squares = 0;
    for (int64_t c = 0; c < count; c++) {
        squares += (double)x[c * stride] * x[c * stride];
    }
    const double length = sqrt(squares);
    return length > NORM_FLOOR ? length : NORM_FLOOR;
}

/* row += factor * query row of entry n (normalised unless raw). */
static void add_query(const dd_op_feature_weights *op, int64_t image, int64_t n, double factor, double *row)
{
    const int64_t query = op->index[image * op->K + n] / op->index_divisor;
    const real *x = (const real *)op->queries + (image * op->N + query) * op->d;
    const double length = op->raw ? 1 : length_of(x, op->d, 1);
    for (int32_t c = 0; c < op->d; c++) {
        row[c] += factor * (x[c] / length);
    }
}

/* similarity[p] = <row, F^(:,p)> */
static void similarities(const dd_op_feature_weights *op, const real *features, const weights_scratch *s)
{
    for (int64_t p = 0; p < op->P; p++) {
        double dot = 0;
        for (int32_t c = 0; c < op->d; c++) {
            dot += s->row[c] * features[c * op->P + p];
        }
        s->similarity[p] = dot / s->length[p];
    }
}

static void clear(double *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        x[i] = 0;
    }
}

/* psi^2, psi = max(s, .01) / its maximum, s = <sum_n q_n Q^_n, F^>. */
static void sum_max(const dd_op_feature_weights *op, int64_t image, const real *features, const uint8_t *padding,
                    const weights_scratch *s, real *weight)
{
    const real *quality = (const real *)op->quality + image * op->K;
    clear(s->row, op->d);
    for (int64_t n = 0; n < op->K; n++) {
        if (quality[n] != 0) {
            add_query(op, image, n, quality[n], s->row);
        }
    }
    similarities(op, features, s);
    double highest = SIMILARITY_FLOOR;
    for (int64_t p = 0; p < op->P; p++) {
        if (!(padding && padding[p]) && s->similarity[p] > highest) {
            highest = s->similarity[p];
        }
    }
    for (int64_t p = 0; p < op->P; p++) {
        const double psi = (s->similarity[p] > SIMILARITY_FLOOR ? s->similarity[p] : SIMILARITY_FLOOR) / highest;
        weight[p] = padding && padding[p] ? 0 : (real)(psi * psi);
    }
}

/* (1/K) sum_n q_n v_n^2, v_n = max(0, <Q^_n, F^>), or the dot product itself if raw. */
static void per_query(const dd_op_feature_weights *op, int64_t image, const real *features, const uint8_t *padding,
                      const weights_scratch *s, double *total, real *weight)
{
    const real *quality = (const real *)op->quality + image * op->K;
    clear(total, op->P);
    for (int64_t n = 0; n < op->K; n++) {
        if (quality[n] == 0) {
            continue;
        }
        clear(s->row, op->d);
        add_query(op, image, n, 1, s->row);
        similarities(op, features, s);
        for (int64_t p = 0; p < op->P; p++) {
            const double v = op->raw || s->similarity[p] > 0 ? s->similarity[p] : 0;
            total[p] += quality[n] * v * v;
        }
    }
    for (int64_t p = 0; p < op->P; p++) {
        weight[p] = op->K == 0 || (padding && padding[p]) ? 0 : (real)(total[p] / op->K);
    }
}

static void image_weights(const dd_op_feature_weights *op, int64_t b, const weights_scratch *s, double *total)
{
    const real *features = (const real *)op->features + b * op->d * op->P;
    const uint8_t *padding = op->padding ? op->padding + b * op->P : NULL;
    real *sum = (real *)op->sum + b * op->P;
    const int used = !op->image_use || op->image_use[b];
    for (int64_t p = 0; p < op->P; p++) {
        s->length[p] = op->raw ? 1 : length_of(features + p, op->d, op->P);
        sum[p] = 0;
    }
    for (int64_t l = 0; l < op->L; l++) {
        const int64_t image = l * op->B + b;
        real *weight = (real *)op->weight + image * op->P;
        if (!used) {
            memset(weight, 0, (size_t)op->P * sizeof *weight);
        } else if (op->per_query) {
            per_query(op, image, features, padding, s, total, weight);
        } else {
            sum_max(op, image, features, padding, s, weight);
        }
        for (int64_t p = 0; p < op->P; p++) {
            sum[p] += weight[p];
        }
    }
}

dd_status REF(feature_weights)(dd_exec *exec, const void *args)
{
    const dd_op_feature_weights *op = args;
    weights_scratch s;
    s.row = ddi_ref_scratch(exec, op->d, sizeof *s.row);
    s.similarity = ddi_ref_scratch(exec, op->P, sizeof *s.similarity);
    s.length = ddi_ref_scratch(exec, op->P, sizeof *s.length);
    double *total = ddi_ref_scratch(exec, op->P, sizeof *total);
    if (!s.row || !s.similarity || !s.length || !total) {
        return DD_ERR_NOMEM;
    }
    for (int64_t b = 0; b < op->B; b++) {
        image_weights(op, b, &s, total);
    }
    return DD_OK;
}
