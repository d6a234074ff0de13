/* SPDX-License-Identifier: Apache-2.0
 * Matching costs: queries with objects (detectors 1.14), students with teachers (distillation A.2, A.3). */
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"
#include "backend/cpu/tile.inc.h"
#include "backend/cpu/vecmath.h"

#define COST_OF_NONFINITE 1e12f

/* Stores n costs at flat index `at`. Returns the flat index of the first that is not finite, or INT64_MAX. */
INLINE int64_t put_costs(float *cost, int64_t at, vf value, int64_t n)
{
    const vm finite = v_finite(value);
    v_store_n(cost + at, v_select(finite, value, v_set(COST_OF_NONFINITE)), n);
    const uint32_t lanes = n >= VW ? (uint32_t)((1ull << VW) - 1) : (1u << n) - 1;
    const uint32_t bad = ~v_bits(finite) & lanes;
    return bad ? at + __builtin_ctz(bad) : INT64_MAX;
}

/* *bad becomes the lowest of itself and all pieces. */
static void lower_bad(int64_t *bad, const int64_t *piece_bad, int64_t pieces)
{
    for (int64_t i = 0; i < pieces; i++) {
        *bad = minimum(*bad, piece_bad[i]);
    }
}

/* GIoU = I/U - 1 + U/E from the areas; both guarded. */
INLINE vf giou_of(vf inter, vf area_sum, vf hull, vf guard)
{
    const vf uni = v_max(v_sub(area_sum, inter), guard), enclosing = v_max(hull, guard);
    return v_add(v_div(inter, uni), v_sub(v_div(uni, enclosing), v_set(1)));
}

/* -ln(p + eps), where p = sigmoid(x) and minus_log_p = softplus(-x). Adding eps to p would lose digits of 1-p for large p. */
INLINE vf minus_log_plus(vf p, vf minus_log_p, vf eps)
{
    const vf direct = v_sub(v_zero(), v_log(v_add(p, eps)));
    return v_select(v_less(p, v_set(0.5f)), direct, v_sub(minus_log_p, v_div(eps, p)));
}

/* alpha (1-p)^2 * -ln(p+eps) - (1-alpha) p^2 * -ln(1-p+eps), alpha = 1/4. */
INLINE vf focal_cost(vf x, vf eps)
{
    const v_logistic l = v_logistic_of(x);
    const vf softplus = v_add(l.positive_part, l.log1p_e);                           /* -ln q */
    const vf softplus_minus = v_add(v_max(v_zero(), v_sub(v_zero(), x)), l.log1p_e); /* -ln p */
    const vf positive = v_mul(v_mul(v_set(0.25f), v_mul(l.q, l.q)), minus_log_plus(l.p, softplus_minus, eps));
    const vf negative = v_mul(v_mul(v_set(0.75f), v_mul(l.p, l.p)), minus_log_plus(l.q, softplus, eps));
    return v_sub(positive, negative);
}

/* One axis of two boxes in centre form. Differences of edges are taken from centres and extents, so that the edges' own
 * rounding does not enter. */
typedef struct v_axis {
    vf overlap, hull; /* sides of the overlap (negative: apart) and of the enclosing interval */
    vf distance;      /* L1 of the axis: centre and extent, or both edges */
} v_axis;

INLINE v_axis axis_of(vf centre_a, vf extent_a, vf centre_b, vf extent_b, bool edges)
{
    const vf half = v_set(0.5f), centre = v_sub(centre_a, centre_b), extent = v_sub(extent_a, extent_b);
    const vf reach = v_mul(half, v_add(extent_a, extent_b)), gap = v_abs(centre);
    v_axis axis;
    axis.overlap = v_min(v_min(extent_a, extent_b), v_sub(reach, gap));
    axis.hull = v_max(v_max(extent_a, extent_b), v_add(reach, gap));
    axis.distance =
        edges ? v_add(v_abs(v_fnma(half, extent, centre)), v_abs(v_fma(half, extent, centre))) : v_add(gap, v_abs(extent));
    return axis;
}

typedef struct gt_cost_job {
    const dd_op_gt_cost *op;
    int64_t *bad; /* of each stage and object */
} gt_cost_job;

/* Costs of object g with all queries of stage s. */
static int64_t object_costs(const dd_op_gt_cost *op, int64_t s, int64_t b, int64_t g)
{
    const int64_t first = (s * op->B + b) * op->N;
    const float *x = (const float *)op->logits + first * op->C + op->gt_labels[g];
    const float *y = (const float *)op->boxes + first * 4, *object = (const float *)op->gt_boxes + g * 4;
    const float *size = op->giou_pixels ? (const float *)op->sizes + b * 2 : NULL;
    const vf area_unit = v_set(size ? size[0] * size[1] : 1), guard = v_set((float)op->giou_eps);
    const vf eps = v_set((float)op->class_eps);
    const vf w_class = v_set((float)op->w_class), w_l1 = v_set((float)op->w_l1), w_giou = v_set((float)op->w_giou);
    int64_t bad = INT64_MAX;
    for (int64_t n = 0; n < op->N; n += VW) {
        const int64_t lanes = op->N - n;
        vf logit, box[4];
        if (lanes >= VW) {
            logit = v_load_strided(x + n * op->C, op->C);
            for (int i = 0; i < 4; i++) {
                box[i] = v_load_strided(y + n * 4 + i, 4);
            }
        } else {
            float rest[5][VW] = {{0}};
            for (int64_t k = 0; k < lanes; k++) {
                rest[4][k] = x[(n + k) * op->C];
                for (int i = 0; i < 4; i++) {
                    rest[i][k] = y[(n + k) * 4 + i];
                }
            }
            logit = v_load(rest[4]);
            for (int i = 0; i < 4; i++) {
                box[i] = v_load(rest[i]);
            }
        }
        const v_axis across = axis_of(box[0], box[2], v_set(object[0]), v_set(object[2]), op->l1_xyxy);
        const v_axis down = axis_of(box[1], box[3], v_set(object[1]), v_set(object[3]), op->l1_xyxy);
        const vf inter = v_mul(v_mul(v_max(v_zero(), across.overlap), v_max(v_zero(), down.overlap)), area_unit);
        const vf area_sum = v_mul(v_fma(box[2], box[3], v_set(object[2] * object[3])), area_unit);
        const vf giou = giou_of(inter, area_sum, v_mul(v_mul(across.hull, down.hull), area_unit), guard);
        const vf boxes = v_fnma(w_giou, giou, v_mul(w_l1, v_add(across.distance, down.distance)));
        const vf cost = v_fma(w_class, focal_cost(logit, eps), boxes);
        bad = minimum(bad, put_costs(op->cost, (s * op->G + g) * op->N + n, cost, lanes));
    }
    return bad;
}

static void gt_cost_piece(void *arg, int64_t piece)
{
    const gt_cost_job *job = arg;
    const int64_t s = piece / job->op->G, g = piece % job->op->G;
    int64_t b = 0;
    while (job->op->gt_offsets[b + 1] <= g) {
        b++;
    }
    job->bad[piece] = object_costs(job->op, s, b, g);
}

dd_status KERNEL(gt_cost)(dd_exec *exec, const void *args)
{
    const dd_op_gt_cost *op = args;
    const int64_t pieces = (int64_t)op->S * op->G;
    if (pieces == 0) {
        return DD_OK;
    }
    gt_cost_job job = {op, exec->scratch(exec, (size_t)pieces * sizeof *job.bad)};
    if (!job.bad) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, pieces, gt_cost_piece, &job);
    lower_bad(op->bad, job.bad, pieces);
    return DD_OK;
}

#define TARGET_PIECE 64 /* queries */

static double clipped(double x, double size)
{
    x = x > 0 ? x : 0;
    return x < size ? x : size;
}

/* In double: a clipped box is small against the coordinates that it is the difference of. */
static void target_box(const float *y, const float *size, float *xyxy, float *cxcywh)
{
    for (int a = 0; a < 2; a++) {
        const double half = 0.5 * y[2 + a];
        const double low = clipped((y[a] - half) * size[a], size[a]), high = clipped((y[a] + half) * size[a], size[a]);
        xyxy[a] = (float)low;
        xyxy[2 + a] = (float)high;
        cxcywh[a] = (float)((low / size[a] + high / size[a]) / 2);
        cxcywh[2 + a] = (float)(high / size[a] - low / size[a]);
    }
}

static void kd_targets_piece(void *arg, int64_t piece)
{
    const dd_op_kd_targets *op = arg;
    const int64_t queries = (int64_t)op->L * op->B * op->N;
    const int64_t begin = piece * TARGET_PIECE, end = minimum(begin + TARGET_PIECE, queries);
    const float *logits = op->logits;
    for (int64_t i = begin * op->C; i < end * op->C; i += VW) {
        const int64_t lanes = end * op->C - i;
        v_store_n((float *)op->prob + i, v_sigmoid(v_load_n(logits + i, lanes)), lanes);
    }
    for (int64_t i = begin; i < end; i++) {
        target_box((const float *)op->boxes + i * 4, (const float *)op->sizes + i / op->N % op->B * 2,
                   (float *)op->xyxy + i * 4, (float *)op->cxcywh + i * 4);
    }
}

dd_status KERNEL(kd_targets)(dd_exec *exec, const void *args)
{
    const dd_op_kd_targets *op = args;
    cpu_parallel_for(exec->threads, cpu_pieces((int64_t)op->L * op->B * op->N, TARGET_PIECE), kd_targets_piece,
                     (void *)(uintptr_t)op);
    return DD_OK;
}

/* What a cost needs of a box, for either side: the four numbers of L1, the pixel corners, the pixel area. */
enum { COST_L1 = 0, COST_CORNER = 4, COST_AREA = 8, COST_NUMBERS = 9 };

#define KD_COST_ROWS (5 * TILE_ROWS) /* students of a piece */

typedef struct kd_cost_job {
    const dd_op_kd_cost *op;
    int64_t panels, row_pieces, columns; /* columns: teachers, filled up to whole panels */
    float *teacher_panels;               /* [n_pairs, B, panels, C, TILE_COLUMNS]: t_prob */
    float *teacher_boxes;                /* [n_pairs, B, COST_NUMBERS, columns] */
    int64_t *bad;                        /* of each piece */
} kd_cost_job;

static void l1_numbers(const float *y, int32_t edges, float *out, int64_t step)
{
    for (int a = 0; a < 2; a++) {
        const float half = y[2 + a] / 2;
        out[a * step] = edges ? y[a] - half : y[a];
        out[(2 + a) * step] = edges ? y[a] + half : y[2 + a];
    }
}

/* Lays out the teachers of one pair and image: a column each. */
static void kd_cost_teachers(void *arg, int64_t block)
{
    const kd_cost_job *job = arg;
    const dd_op_kd_cost *op = job->op;
    const int64_t first = (op->host_pairs[2 * (block / op->B) + 1] * (int64_t)op->B + block % op->B) * op->NT;
    float *numbers = job->teacher_boxes + block * COST_NUMBERS * job->columns;
    for (int64_t j = 0; j < op->NT; j++) {
        const float *corner = (const float *)op->t_xyxy + (first + j) * 4;
        l1_numbers((const float *)op->t_cxcywh + (first + j) * 4, op->l1_xyxy, numbers + j, job->columns);
        for (int i = 0; i < 4; i++) {
            numbers[(COST_CORNER + i) * job->columns + j] = corner[i];
        }
        numbers[COST_AREA * job->columns + j] = (corner[2] - corner[0]) * (corner[3] - corner[1]);
    }
    for (int64_t j = op->NT; j < job->columns; j++) {
        for (int i = 0; i < COST_NUMBERS; i++) {
            numbers[i * job->columns + j] = 0;
        }
    }
    for (int64_t p = 0; op->w_class != 0 && p < job->panels; p++) {
        pack_panel((const float *)op->t_prob + first * op->C, 1, op->C, op->C, p * TILE_COLUMNS, op->NT,
                   job->teacher_panels + (block * job->panels + p) * op->C * TILE_COLUMNS);
    }
}

typedef struct kd_student {
    float number[COST_NUMBERS];
    float constant; /* sum_c softplus(x_c) */
} kd_student;

static kd_student student_of(const dd_op_kd_cost *op, int64_t student, const float *size)
{
    const float *y = (const float *)op->s_boxes + student * 4, *x = (const float *)op->s_logits + student * op->C;
    kd_student s = {.constant = 0};
    l1_numbers(y, op->l1_xyxy, s.number + COST_L1, 1);
    for (int a = 0; a < 2; a++) {
        const float half = y[2 + a] / 2;
        s.number[COST_CORNER + a] = (y[a] - half) * size[a];
        s.number[COST_CORNER + 2 + a] = (y[a] + half) * size[a];
    }
    s.number[COST_AREA] = y[2] * size[0] * (y[3] * size[1]);
    if (op->w_class != 0) {
        vd sum = vd_zero();
        for (int64_t c = 0; c < op->C; c += VW) {
            sum = vd_add(sum, vd_from(v_keep(v_softplus(v_load_n(x + c, op->C - c)), op->C - c)));
        }
        s.constant = (float)vd_sum(sum);
    }
    return s;
}

/* w_l1 L1 - w_giou GIoU of one student with VW teachers, whose numbers start at t. */
INLINE vf box_costs(const kd_student *s, const float *t, int64_t columns, vf w_l1, vf w_giou)
{
    vf l1 = v_zero(), overlap[2], hull[2];
    for (int i = 0; i < 4; i++) {
        l1 = v_add(l1, v_abs(v_sub(v_set(s->number[COST_L1 + i]), v_load(t + (COST_L1 + i) * columns))));
    }
    for (int a = 0; a < 2; a++) {
        const vf s_low = v_set(s->number[COST_CORNER + a]), s_high = v_set(s->number[COST_CORNER + 2 + a]);
        const vf t_low = v_load(t + (COST_CORNER + a) * columns), t_high = v_load(t + (COST_CORNER + 2 + a) * columns);
        overlap[a] = v_max(v_zero(), v_sub(v_min(s_high, t_high), v_max(s_low, t_low)));
        hull[a] = v_sub(v_max(s_high, t_high), v_min(s_low, t_low));
    }
    const vf area_sum = v_add(v_set(s->number[COST_AREA]), v_load(t + COST_AREA * columns));
    const vf giou = giou_of(v_mul(overlap[0], overlap[1]), area_sum, v_mul(hull[0], hull[1]), v_set(1e-6f));
    return v_fnma(w_giou, giou, v_mul(w_l1, l1));
}

/* Costs of `rows` students (at most TILE_ROWS) with the teachers of panel p. */
static int64_t kd_cost_tile(const kd_cost_job *job, int64_t block, int64_t p, const float *x, const kd_student *student,
                            int64_t rows, int64_t at)
{
    const dd_op_kd_cost *op = job->op;
    const vf w_class = v_set((float)op->w_class), w_l1 = v_set((float)op->w_l1), w_giou = v_set((float)op->w_giou);
    const float *numbers = job->teacher_boxes + block * COST_NUMBERS * job->columns + p * TILE_COLUMNS;
    float tile[TILE_ROWS * TILE_COLUMNS];
    int64_t bad = INT64_MAX;
    if (op->w_class != 0) {
        const float *panel = job->teacher_panels + (block * job->panels + p) * op->C * TILE_COLUMNS;
        tile_product(x, op->C, 1, rows, panel, op->C, false, tile);
    }
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < minimum(TILE_COLUMNS, op->NT - p * TILE_COLUMNS); j += VW) {
            vf cost = box_costs(&student[i], numbers + j, job->columns, w_l1, w_giou);
            if (op->w_class != 0) {
                const vf classes = v_sub(v_set(student[i].constant), v_load(tile + i * TILE_COLUMNS + j));
                cost = v_fma(w_class, classes, cost);
            }
            const int64_t column = p * TILE_COLUMNS + j;
            bad = minimum(bad, put_costs(op->cost, at + i * op->NT + column, cost, op->NT - column));
        }
    }
    return bad;
}

static void kd_cost_piece(void *arg, int64_t piece)
{
    const kd_cost_job *job = arg;
    const dd_op_kd_cost *op = job->op;
    const int64_t block = piece / job->row_pieces, first = piece % job->row_pieces * KD_COST_ROWS;
    const int64_t rows = minimum(KD_COST_ROWS, op->NS - first), b = block % op->B;
    const int64_t s = (op->host_pairs[2 * (block / op->B)] * (int64_t)op->B + b) * op->NS + first;
    kd_student student[KD_COST_ROWS];
    int64_t bad = INT64_MAX;
    for (int64_t i = 0; i < rows; i++) {
        student[i] = student_of(op, s + i, (const float *)op->sizes + b * 2);
    }
    for (int64_t p = 0; p < job->panels; p++) {
        for (int64_t i = 0; i < rows; i += TILE_ROWS) {
            const int64_t at = (block * op->NS + first + i) * op->NT;
            const float *x = (const float *)op->s_logits + (s + i) * op->C;
            bad = minimum(bad, kd_cost_tile(job, block, p, x, student + i, minimum(TILE_ROWS, rows - i), at));
        }
    }
    job->bad[piece] = bad;
}

dd_status KERNEL(kd_cost)(dd_exec *exec, const void *args)
{
    const dd_op_kd_cost *op = args;
    const int64_t blocks = (int64_t)op->n_pairs * op->B, panels = panel_count(op->NT);
    if (blocks == 0 || op->NS == 0 || op->NT == 0) {
        return DD_OK;
    }
    kd_cost_job job = {op, panels, cpu_pieces(op->NS, KD_COST_ROWS), panels * TILE_COLUMNS, NULL, NULL, NULL};
    const int64_t pieces = blocks * job.row_pieces;
    job.bad = exec->scratch(exec, (size_t)pieces * sizeof *job.bad);
    job.teacher_boxes = exec->scratch(exec, (size_t)(blocks * COST_NUMBERS * job.columns) * sizeof(float));
    if (op->w_class != 0) {
        job.teacher_panels = exec->scratch(exec, (size_t)(blocks * job.columns * op->C + 1) * sizeof(float));
    }
    if (!job.bad || !job.teacher_boxes || (op->w_class != 0 && !job.teacher_panels)) {
        return DD_ERR_NOMEM;
    }
    cpu_parallel_for(exec->threads, blocks, kd_cost_teachers, &job);
    cpu_parallel_for(exec->threads, pieces, kd_cost_piece, &job);
    lower_bad(op->bad, job.bad, pieces);
    return DD_OK;
}
