/* SPDX-License-Identifier: Apache-2.0
 * Target-aware feature distillation (B.3, B.4): weight maps, and the weighted squared distance with its gradient. Both are
 * bound by memory: features are read once. */
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"

#define FEATURE_PIECE 512 /* positions, a multiple of 2 VW */
#define NORM_FLOOR 1e-12
#define SIMILARITY_FLOOR 0.01f
#define MAP_ROWS 8 /* query rows that go through the features together */

/* dots[r][p] += <row r, F(:,p)> over 4 channels, for R rows and `count` positions; squares[p] += |F(:,p)|^2 if `squared`.
 * R and `squared` are constants where this is inlined. Two vectors of positions share each number of a row. `next`: to the four
 * channels after these, which are asked for by hand (they start in other pages). */
INLINE void add_dots(int R, bool squared, const float *rows, int64_t row_step, const float *features, int64_t P, int64_t next,
                     int64_t count, float *dots, float *squares)
{
    for (int64_t p = 0; p < count; p += 2 * VW) {
        const int64_t lanes = count - p, more = lanes > VW ? lanes - VW : 0;
        vf f[4], h[4];
        for (int k = 0; k < 4; k++) {
            _mm_prefetch((const char *)(features + next + k * P + p), _MM_HINT_T0);
            _mm_prefetch((const char *)(features + next + k * P + p + VW), _MM_HINT_T0);
            f[k] = v_load_n(features + k * P + p, lanes);
            h[k] = v_load_n(features + k * P + p + VW, more);
        }
        for (int r = 0; r < R + squared; r++) {
            float *at = r < R ? dots + r * FEATURE_PIECE + p : squares + p;
            vf low = v_load(at), high = v_load(at + VW);
            for (int k = 0; k < 4; k++) {
                const vf x = v_set(r < R ? rows[r * row_step + k] : 0);
                low = v_fma(r < R ? x : f[k], f[k], low);
                high = v_fma(r < R ? x : h[k], h[k], high);
            }
            v_store(at, low);
            v_store(at + VW, high);
        }
    }
}

static void add_dots_of(int R, const float *rows, int64_t row_step, const float *features, int64_t P, int64_t next,
                        int64_t count, float *dots, float *squares)
{
    switch (squares ? R + MAP_ROWS : R) {
#define ADD_DOTS(n)                                                                                                            \
    case n:                                                                                                                    \
        add_dots(n, false, rows, row_step, features, P, next, count, dots, NULL);                                              \
        break;                                                                                                                 \
    case n + MAP_ROWS:                                                                                                         \
        add_dots(n, true, rows, row_step, features, P, next, count, dots, squares);                                            \
        break;
        ADD_DOTS(1)
        ADD_DOTS(2)
        ADD_DOTS(3)
        ADD_DOTS(4)
        ADD_DOTS(5)
        ADD_DOTS(6)
        ADD_DOTS(7)
        ADD_DOTS(8)
#undef ADD_DOTS
    default:
        break;
    }
}

/* squares[p] += F(c,p)^2 */
static void add_squares(const float *features, int64_t count, float *squares)
{
    for (int64_t p = 0; p < count; p += VW) {
        const vf f = v_load_n(features + p, count - p);
        v_store(squares + p, v_fma(f, f, v_load(squares + p)));
    }
}

/* Query rows of one image, ready for the features: [count][width] floats, width = d filled up to 4 with zeros. */
typedef struct map_rows {
    const float *row;
    int64_t count, width;
} map_rows;

/* The last channels when d is no multiple of 4: they are taken one at a time. */
static void add_single_channel(const map_rows *rows, int64_t first, int64_t R, int64_t c, const float *features, int64_t count,
                               float *dots)
{
    for (int64_t r = 0; r < R; r++) {
        const vf x = v_set(rows->row[(first + r) * rows->width + c]);
        for (int64_t p = 0; p < count; p += VW) {
            float *at = dots + r * FEATURE_PIECE + p;
            v_store(at, v_fma(x, v_load_n(features + p, count - p), v_load(at)));
        }
    }
}

/* dots[r][p] of R rows from `first` on; squares too if it is not NULL. */
static void dots_in_float(const map_rows *rows, int64_t first, int64_t R, const float *features, int64_t d, int64_t P,
                          int64_t count, float *dots, float *squares)
{
    memset(dots, 0, (size_t)R * FEATURE_PIECE * sizeof *dots);
    if (squares) {
        memset(squares, 0, FEATURE_PIECE * sizeof *squares);
    }
    for (int64_t c = 0; c < d; c += 4) {
        const int64_t channels = minimum(4, d - c);
        const float *f = features + c * P;
        if (channels == 4) {
            add_dots_of((int)R, rows->row + first * rows->width + c, rows->width, f, P, c + 8 <= d ? 4 * P : 0, count, dots,
                        squares);
            continue;
        }
        for (int64_t k = 0; k < channels; k++) {
            add_single_channel(rows, first, R, c + k, f + k * P, count, dots);
            if (squares) {
                add_squares(f + k * P, count, squares);
            }
        }
    }
}

/* One row in double, for features whose squares leave the range of float. Divides by the length unless raw. */
static void similarities_in_double(const float *row, const float *features, int64_t d, int64_t P, int64_t count, bool raw,
                                   float *similarity)
{
    for (int64_t p = 0; p < count; p += VW) {
        vd dot = vd_zero(), squares = vd_zero();
        for (int64_t c = 0; c < d; c++) {
            const vd f = vd_from(v_load_n(features + c * P + p, count - p));
            dot = vd_fma(vd_from(v_set(row[c])), f, dot);
            squares = vd_fma(f, f, squares);
        }
        double lane[2][VW];
        vd_store(lane[0], dot);
        vd_store(lane[1], squares);
        for (int k = 0; k < VW; k++) {
            const double length = sqrt(lane[1][k]);
            similarity[p + k] = (float)(raw ? lane[0][k] : lane[0][k] / (length > NORM_FLOOR ? length : NORM_FLOOR));
        }
    }
}

/* Are all sums of squares in the range where float sums of the products are safe? */
static bool squares_are_safe(const float *squares, int64_t count)
{
    for (int64_t p = 0; p < count; p += VW) {
        const vf s = count - p >= VW ? v_load(squares + p) : v_select(v_first(count - p), v_load(squares + p), v_set(1));
        const uint32_t good = v_bits(v_less(v_set(1e-24f), s)) & v_bits(v_less(s, v_set(1e30f)));
        if (good != (uint32_t)((1ull << VW) - 1)) {
            return false;
        }
    }
    return true;
}

/* dots -> similarities: divided by the length of F. */
static void divide_by_length(const float *squares, int64_t count, float *similarity)
{
    for (int64_t p = 0; p < count; p++) {
        similarity[p] /= sqrtf(squares[p]);
    }
}

typedef struct weights_job {
    const dd_op_feature_weights *op;
    int64_t pieces, width; /* pieces: of an image's positions */
    float *row;            /* SUM_MAX: [L, B, width]; PER_QUERY: [L, B, K, width], rows with q = 0 left out */
    float *row_quality;    /* PER_QUERY: [L, B, K] */
    int32_t *row_count;    /* PER_QUERY: [L, B] */
    float *highest;        /* SUM_MAX: [L, B, pieces] */
} weights_job;

/* What entry n's query row is multiplied by to become a unit vector. */
static double entry_factor(const dd_op_feature_weights *op, const float *x)
{
    if (op->raw) {
        return 1;
    }
    double squares = 0;
    vd sum = vd_zero();
    for (int64_t c = 0; c < op->d; c += VW) {
        const vd v = vd_from(v_load_n(x + c, op->d - c));
        sum = vd_fma(v, v, sum);
    }
    squares = vd_sum(sum);
    const double length = sqrt(squares);
    return 1 / (length > NORM_FLOOR ? length : NORM_FLOOR);
}

static const float *entry_row(const dd_op_feature_weights *op, int64_t image, int64_t n)
{
    const int64_t query = op->index[image * op->K + n] / op->index_divisor;
    return (const float *)op->queries + (image * op->N + query) * op->d;
}

/* row = sum_n q_n Q^_n: the similarity map is linear in the queries. */
static void sum_rows(const dd_op_feature_weights *op, int64_t image, int64_t width, float *row)
{
    enum { AT_ONCE = 8 }; /* vectors */
    const float *quality = (const float *)op->quality + image * op->K;
    memset(row, 0, (size_t)width * sizeof *row);
    for (int64_t first = 0; first < op->d; first += AT_ONCE * VW) {
        const int64_t end = minimum(first + AT_ONCE * VW, op->d);
        vd sum[AT_ONCE] = {{{0}, {0}}};
        for (int64_t n = 0; n < op->K; n++) {
            if (quality[n] == 0) {
                continue;
            }
            const float *x = entry_row(op, image, n);
            const vd factor = vd_set(quality[n] * entry_factor(op, x));
            for (int64_t c = first, k = 0; c < end; c += VW, k++) {
                sum[k] = vd_fma(factor, vd_from(v_load_n(x + c, end - c)), sum[k]);
            }
        }
        for (int64_t c = first, k = 0; c < end; c += VW, k++) {
            v_store_n(row + c, vd_round(sum[k]), end - c);
        }
    }
}

/* Unit rows of the entries with a quality. */
static void list_rows(const weights_job *job, int64_t image)
{
    const dd_op_feature_weights *op = job->op;
    const float *quality = (const float *)op->quality + image * op->K;
    int32_t count = 0;
    for (int64_t n = 0; n < op->K; n++) {
        if (quality[n] == 0) {
            continue;
        }
        const float *x = entry_row(op, image, n);
        float *row = job->row + (image * op->K + count) * job->width;
        const double factor = entry_factor(op, x);
        memset(row, 0, (size_t)job->width * sizeof *row);
        for (int64_t c = 0; c < op->d; c++) {
            row[c] = (float)(x[c] * factor);
        }
        job->row_quality[image * op->K + count++] = quality[n];
    }
    job->row_count[image] = count;
}

static void weights_rows(void *arg, int64_t image)
{
    const weights_job *job = arg;
    if (job->op->per_query) {
        list_rows(job, image);
    } else {
        sum_rows(job->op, image, job->width, job->row + image * job->width);
    }
}

/* Similarities of R rows (at most MAP_ROWS) with `count` positions. `state`: 0 squares not known, 1 safe, 2 not safe. */
static void similarities(const weights_job *job, const map_rows *rows, int64_t first, int64_t R, const float *features,
                         int64_t count, float *out, float *squares, int *state)
{
    const dd_op_feature_weights *op = job->op;
    if (*state != 2) {
        dots_in_float(rows, first, R, features, op->d, op->P, count, out, *state == 0 ? squares : NULL);
        *state = squares_are_safe(squares, count) ? 1 : 2;
    }
    for (int64_t r = 0; r < R; r++) {
        if (*state == 2) {
            similarities_in_double(rows->row + (first + r) * rows->width, features, op->d, op->P, count, op->raw,
                                   out + r * FEATURE_PIECE);
        } else if (!op->raw) {
            divide_by_length(squares, count, out + r * FEATURE_PIECE);
        }
    }
}

/* Writes the similarities s of all stages at the place of the weights, and the highest of the piece. */
static void sum_max_piece(const weights_job *job, int64_t b, int64_t piece, const float *features, int64_t begin, int64_t count)
{
    const dd_op_feature_weights *op = job->op;
    const uint8_t *padding = op->padding ? op->padding + b * op->P + begin : NULL;
    float out[MAP_ROWS * FEATURE_PIECE] __attribute__((aligned(64))), squares[FEATURE_PIECE] __attribute__((aligned(64)));
    const map_rows rows = {job->row + b * job->width, op->L, (int64_t)op->B * job->width};
    int state = 0;
    for (int64_t l = 0; l < op->L; l += MAP_ROWS) {
        const int64_t R = minimum(MAP_ROWS, op->L - l);
        similarities(job, &rows, l, R, features, count, out, squares, &state);
        for (int64_t r = 0; r < R; r++) {
            float highest = SIMILARITY_FLOOR;
            for (int64_t p = 0; p < count; p++) {
                const float s = out[r * FEATURE_PIECE + p];
                highest = !(padding && padding[p]) && s > highest ? s : highest;
            }
            const int64_t image = (l + r) * op->B + b;
            job->highest[image * job->pieces + piece] = highest;
            memcpy((float *)op->weight + image * op->P + begin, out + r * FEATURE_PIECE, (size_t)count * sizeof(float));
        }
    }
}

/* total += q v^2 */
static void add_weighted_squares(float quality, const float *similarity, bool raw, int64_t count, float *total)
{
    for (int64_t p = 0; p < count; p += VW) {
        const vf s = v_load(similarity + p), v = raw ? s : v_max(v_zero(), s);
        v_store(total + p, v_fma(v_mul(v_set(quality), v), v, v_load(total + p)));
    }
}

/* weight = 1/K sum_n q_n v_n^2 of one stage. */
static void per_query_stage(const weights_job *job, int64_t image, const float *features, const uint8_t *padding, int64_t begin,
                            int64_t count, float *squares, int *state)
{
    const dd_op_feature_weights *op = job->op;
    float out[MAP_ROWS * FEATURE_PIECE] __attribute__((aligned(64)));
    float total[FEATURE_PIECE] __attribute__((aligned(64))) = {0};
    const map_rows rows = {job->row + image * op->K * job->width, job->row_count[image], job->width};
    for (int64_t n = 0; n < rows.count; n += MAP_ROWS) {
        const int64_t R = minimum(MAP_ROWS, rows.count - n);
        similarities(job, &rows, n, R, features, count, out, squares, state);
        for (int64_t r = 0; r < R; r++) {
            add_weighted_squares(job->row_quality[image * op->K + n + r], out + r * FEATURE_PIECE, op->raw, count, total);
        }
    }
    float *weight = (float *)op->weight + image * op->P + begin;
    for (int64_t p = 0; p < count; p++) {
        weight[p] = op->K == 0 || (padding && padding[p]) ? 0 : total[p] / (float)op->K;
    }
}

static void weights_similarities(void *arg, int64_t i)
{
    const weights_job *job = arg;
    const dd_op_feature_weights *op = job->op;
    const int64_t b = i / job->pieces, piece = i % job->pieces, begin = piece * FEATURE_PIECE;
    const int64_t count = minimum(FEATURE_PIECE, op->P - begin);
    const float *features = (const float *)op->features + b * op->d * op->P + begin;
    if (op->image_use && !op->image_use[b]) {
        return;
    }
    if (!op->per_query) {
        sum_max_piece(job, b, piece, features, begin, count);
        return;
    }
    float squares[FEATURE_PIECE] __attribute__((aligned(64)));
    int state = 0;
    for (int64_t l = 0; l < op->L; l++) {
        per_query_stage(job, l * op->B + b, features, op->padding ? op->padding + b * op->P + begin : NULL, begin, count,
                        squares, &state);
    }
}

/* psi^2, psi = max(s, .01) / highest */
static void square_psi(float *weight, const uint8_t *padding, float highest, int64_t count)
{
    const vf top = v_set(highest);
    for (int64_t p = 0; p < count; p += VW) {
        const vf psi = v_div(v_max(v_set(SIMILARITY_FLOOR), v_load_n(weight + p, count - p)), top);
        v_store_n(weight + p, v_mul(psi, psi), count - p);
    }
    for (int64_t p = 0; padding && p < count; p++) {
        weight[p] = padding[p] ? 0 : weight[p];
    }
}

/* Finishes the weights of one piece of positions and sums them over the stages. */
static void weights_finish(void *arg, int64_t i)
{
    const weights_job *job = arg;
    const dd_op_feature_weights *op = job->op;
    const int64_t b = i / job->pieces, begin = i % job->pieces * FEATURE_PIECE;
    const int64_t count = minimum(FEATURE_PIECE, op->P - begin);
    float *sum = (float *)op->sum + b * op->P + begin;
    memset(sum, 0, (size_t)count * sizeof *sum);
    for (int64_t l = 0; l < op->L; l++) {
        const int64_t image = l * op->B + b;
        float *weight = (float *)op->weight + image * op->P + begin;
        if (op->image_use && !op->image_use[b]) {
            memset(weight, 0, (size_t)count * sizeof *weight);
        } else if (!op->per_query) {
            float highest = SIMILARITY_FLOOR;
            for (int64_t k = 0; k < job->pieces; k++) {
                const float other = job->highest[image * job->pieces + k];
                highest = other > highest ? other : highest;
            }
            square_psi(weight, op->padding ? op->padding + b * op->P + begin : NULL, highest, count);
        }
        for (int64_t p = 0; p < count; p++) {
            sum[p] += weight[p];
        }
    }
}

dd_status KERNEL(feature_weights)(dd_exec *exec, const void *args)
{
    const dd_op_feature_weights *op = args;
    const int64_t images = (int64_t)op->L * op->B, width = (op->d + 3) / 4 * 4;
    const int64_t rows = op->per_query ? images * op->K : images;
    weights_job job = {.op = op, .pieces = cpu_pieces(op->P, FEATURE_PIECE), .width = width};
    job.row = exec->scratch(exec, (size_t)(rows * width + 1) * sizeof *job.row);
    job.row_quality = exec->scratch(exec, (size_t)(rows + 1) * sizeof *job.row_quality);
    job.row_count = exec->scratch(exec, (size_t)(images + 1) * sizeof *job.row_count);
    job.highest = exec->scratch(exec, (size_t)(images * job.pieces + 1) * sizeof *job.highest);
    if (!job.row || !job.row_quality || !job.row_count || !job.highest) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, images, weights_rows, &job);
    cpu_parallel_for(exec->threads, op->B * job.pieces, weights_similarities, &job);
    cpu_parallel_for(exec->threads, op->B * job.pieces, weights_finish, &job);
    return DD_OK;
}

/* Gradients of more than this go past the cache: nobody reads them before the cache has turned over. */
#define STREAM_BYTES (4 << 20)

typedef struct feature_job {
    const dd_op_feature_loss *op;
    int64_t pieces;
    bool stream;
    double *terms; /* [L, B, pieces] */
} feature_job;

/* One channel of a piece of positions. */
typedef struct channel {
    const float *teacher, *student;
    float *g;            /* or NULL */
    const float *factor; /* of the gradient, [positions] */
    double *distance;    /* [positions] */
    int64_t next;        /* elements to the next channel */
} channel;

/* VW positions: distance += (T - S)^2, g = factor (S - T). The next channel is asked for by hand: it starts in another page,
 * where the processor does not look by itself. */
INLINE void channel_step(const channel *c, int64_t p, int64_t lanes, bool stream)
{
    _mm_prefetch((const char *)(c->teacher + c->next + p), _MM_HINT_T0);
    _mm_prefetch((const char *)(c->student + c->next + p), _MM_HINT_T0);
    const vf t = v_load_n(c->teacher + p, lanes), s = v_load_n(c->student + p, lanes);
    const vd difference = vd_fma(vd_from(t), vd_from(v_set(-1)), vd_from(s));
    double *at = c->distance + p;
    vd_store_n(at, vd_fma(difference, difference, vd_load_n(at, lanes)), lanes);
    if (c->g && stream) {
        v_stream(c->g + p, v_mul(v_load_n(c->factor + p, lanes), v_sub(s, t)));
    } else if (c->g) {
        v_store_n(c->g + p, v_mul(v_load_n(c->factor + p, lanes), v_sub(s, t)), lanes);
    }
}

static void channel_distance(const channel *c, int64_t count, bool stream)
{
    int64_t p = 0;
    if (stream && c->g) {
        p = minimum(count, (int64_t)(-(uintptr_t)c->g / sizeof *c->g % VW));
        if (p > 0) {
            channel_step(c, 0, p, false);
        }
        for (; p + VW <= count; p += VW) {
            channel_step(c, p, VW, true);
        }
    }
    for (; p < count; p += VW) {
        channel_step(c, p, count - p, false);
    }
}

static void feature_loss_piece(void *arg, int64_t i)
{
    const feature_job *job = arg;
    const dd_op_feature_loss *op = job->op;
    const int64_t b = i / job->pieces, begin = i % job->pieces * FEATURE_PIECE;
    const int64_t count = minimum(FEATURE_PIECE, op->P - begin), at = b * op->d * op->P + begin;
    const double positions = (double)op->B * op->d * (double)op->P;
    double distance[FEATURE_PIECE] = {0};
    float factor[FEATURE_PIECE];
    for (int64_t p = 0; p < count; p++) {
        factor[p] = (float)(op->grad_scale * 2 * ((const float *)op->sum)[b * op->P + begin + p] / positions);
    }
    for (int64_t c = 0; c < op->d; c++) {
        const int64_t row = at + c * op->P;
        const channel ch = {(const float *)op->teacher + row,
                            (const float *)op->student + row,
                            op->g_student ? (float *)op->g_student + row : NULL,
                            factor,
                            distance,
                            op->P};
        channel_distance(&ch, count, job->stream);
    }
    for (int64_t l = 0; l < op->L; l++) {
        const float *weight = (const float *)op->weight + (l * op->B + b) * op->P + begin;
        double term = 0;
        for (int64_t p = 0; p < count; p++) {
            term += weight[p] * distance[p];
        }
        job->terms[(l * op->B + b) * job->pieces + begin / FEATURE_PIECE] = term;
    }
    if (job->stream) {
        _mm_sfence();
    }
}

dd_status KERNEL(feature_loss)(dd_exec *exec, const void *args)
{
    const dd_op_feature_loss *op = args;
    const double positions = (double)op->B * op->d * (double)op->P;
    const int64_t images = (int64_t)op->L * op->B;
    feature_job job = {op, cpu_pieces(op->P, FEATURE_PIECE), positions * sizeof(float) > STREAM_BYTES, NULL};
    job.terms = exec->scratch(exec, (size_t)(images * job.pieces + 1) * sizeof *job.terms);
    if (!job.terms) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, op->B * job.pieces, feature_loss_piece, &job);
    for (int64_t image = 0; image < images; image++) {
        double term = 0;
        for (int64_t k = 0; k < job.pieces; k++) {
            term += job.terms[image * job.pieces + k];
        }
        op->terms[image] = positions > 0 ? term / positions : 0;
    }
    return DD_OK;
}
