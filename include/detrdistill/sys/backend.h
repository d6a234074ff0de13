/* SPDX-License-Identifier: Apache-2.0
 * The plug-in interface between the core and a backend module (libdetrdistill-cpu.so, libdetrdistill-cuda.so).
 * Weaker promise than the rest of include/: it changes with DD_BACKEND_INTERFACE, and a module of another number is refused.
 *
 * A backend is a table of device functions and a list of kernels, best first. A kernel runs one operator of ops.def on one real
 * type (f32 or f64). The core appends its reference kernels after a host backend's list; for a device backend (host_memory = 0)
 * a missing kernel is an error.
 *
 * Conventions of the argument structs
 * - Pointers are device memory (host memory for host backends), C order, aligned to at least 4 bytes (reals may lie
 *   anywhere in the caller's memory: no vector alignment). `void *` arrays hold the kernel's real type; others their own type.
 * NULL is allowed only where said.
 * - L_S, L_T stages; B images; N queries (NS student, NT teacher); C classes; G objects in all; d channels; P = H*W positions.
 * - Outputs never alias inputs. Output memory is uninitialised unless `accumulate` says "added to".
 * - Empty sizes (G = 0, N = 0 ..) are legal and must work.
 * - Sums have an order that the shape alone fixes: same bits for any number of threads, no floating-point atomics.
 *   Sums in f32 kernels are over f32 products but partial results are combined in double where the output is double.
 * - Formulas: shared/spec/distillation.md (section letters below) and golden/kd/README.txt DECISIONS. */
#ifndef DETRDISTILL_SYS_BACKEND_H
#define DETRDISTILL_SYS_BACKEND_H

#include <detrdistill/tensor.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DD_BACKEND_INTERFACE 1u

/* 1.1920929e-7: the epsilon of "a + eps" normalisers is applied by the core; kernels get finished factors. */

/* First non-finite element of x, seen as [outer, images, inner]. *first = its flat index, or -1.
 * image_bad[b] is set to 1 where image b has one (never cleared: the core zeroes it once per step). */
typedef struct dd_op_check_finite {
    const void *x;
    int64_t outer, images, inner;
    int64_t *first;
    int32_t *image_bad; /* [images] or NULL */
} dd_op_check_finite;

/* Strided source of any float type (or i32/i64/u8 when the kernel's real type is asked for) -> contiguous reals.
 * sanitise: NaN becomes 0, +-Inf becomes +-1e4. */
typedef struct dd_op_gather {
    const void *src; /* of src_dtype */
    void *dst;       /* reals */
    int32_t src_dtype, ndim;
    int64_t shape[DD_MAX_DIMS], stride[DD_MAX_DIMS]; /* of src, in elements */
    int32_t sanitise;
} dd_op_gather;

/* Contiguous reals -> strided destination of any float type (rounded to nearest even).
 * zero_where: a strided tensor of the same shape (zero_dtype, zero_stride) or NULL; where it is not finite, 0 is written. */
typedef struct dd_op_scatter {
    const void *src; /* reals */
    void *dst;       /* of dst_dtype */
    int32_t dst_dtype, ndim;
    int64_t shape[DD_MAX_DIMS], stride[DD_MAX_DIMS]; /* of dst */
    const void *zero_where;
    int32_t zero_dtype;
    int64_t zero_stride[DD_MAX_DIMS];
} dd_op_scatter;

/* Detection matching cost (detectors 1.14): cost[s][g][n], g over all objects of the batch: object g of image b against query n
 * of stage s, image b:  w_class*(focal cost of the object's label) + w_l1*L1 - w_giou*GIoU. focal cost: a(1-p)^2 * -ln(p+eps) -
 * (1-a)p^2 * -ln((1-p)+eps), a = .25, with 1-p = sigmoid(-x), never as a difference (golden DECISION 3: exact at |x| = 50). L1
 * over cxcywh, or xyxy of the normalised boxes if l1_xyxy. GIoU of boxes times (W,H,W,H) if giou_pixels, guards
 * max(U,giou_eps), max(E,giou_eps); the guarded U is used in I/U and in E-U.
 * A non-finite cost is written as 1e12 and *bad becomes the lowest flat index of such an entry (the core sets it to INT64_MAX).
 */
typedef struct dd_op_gt_cost {
    const void *logits;        /* [S,B,N,C] */
    const void *boxes;         /* [S,B,N,4] cxcywh */
    const void *gt_boxes;      /* [G,4] cxcywh */
    const int32_t *gt_labels;  /* [G] */
    const int32_t *gt_offsets; /* [B+1] */
    const void *sizes;         /* [B,2] W,H; NULL if not giou_pixels */
    void *cost;                /* [S,G,N] */
    int64_t *bad;
    int32_t S, B, N, C, G;
    int32_t l1_xyxy, giou_pixels;
    double w_class, w_l1, w_giou, class_eps, giou_eps;
} dd_op_gt_cost;

/* Teacher targets (A.2): prob = sigmoid(logits); xyxy = boxes in pixels clipped to the image; cxcywh = xyxy / (W,H), back
 * in centre form. */
typedef struct dd_op_kd_targets {
    const void *logits; /* [L,B,N,C] */
    const void *boxes;  /* [L,B,N,4] */
    const void *sizes;  /* [B,2] */
    void *prob;         /* [L,B,N,C] */
    void *xyxy;         /* [L,B,N,4] */
    void *cxcywh;       /* [L,B,N,4] */
    int32_t L, B, N, C;
} dd_op_kd_targets;

/* KD matching cost (A.3), pair n = (student stage pairs[2n], teacher stage pairs[2n+1]): cost[n][b][i][j] =
 * w_class*sum_c BCE(x_ic, t_jc) + w_l1*L1 - w_giou*GIoU(pixels, guards 1e-6). w_class = 0 (negatives of A.6) skips the logits.
 * sum_c BCE = sum_c softplus(x_ic) - X T^t (row constant and one matrix product). `bad` as in gt_cost. */
typedef struct dd_op_kd_cost {
    const void *s_logits; /* [L_S,B,NS,C] */
    const void *s_boxes;  /* [L_S,B,NS,4] */
    const void *t_prob;   /* [L_T,B,NT,C]   the three of kd_targets */
    const void *t_xyxy;   /* [L_T,B,NT,4] */
    const void *t_cxcywh; /* [L_T,B,NT,4] */
    const void *sizes;    /* [B,2] */
    const int32_t *pairs; /* [n_pairs,2] device */
    void *cost;           /* [n_pairs,B,NS,NT] */
    int64_t *bad;
    int32_t n_pairs, B, NS, NT, C, l1_xyxy;
    const int32_t *host_pairs; /* the same on the host */
    double w_class, w_l1, w_giou;
} dd_op_kd_cost;

/* One block: rows x cols costs at cost + cost_offset (row-major, dense). */
typedef struct dd_assign_block {
    int64_t cost_offset; /* elements */
    int64_t row_offset;  /* of the block in row_use and, by rows, in match */
    int64_t col_offset;  /* of the block in col_use and, by columns, in match */
    int32_t rows, cols;
} dd_assign_block;

/* Exact assignment of each block. All costs are finite. by_columns = 0: match[row_offset+i] = column of row i or -1;
 * 1: match[col_offset+j] = row of column j or -1. row_use / col_use: bytes, 0 leaves a row / column out (its match is -1).
 * total[block] = sum of the chosen costs, in double. */
typedef struct dd_op_assign {
    const void *cost;
    const dd_assign_block *block;      /* [blocks] device */
    const dd_assign_block *host_block; /* [blocks] the same on the host */
    const uint8_t *row_use, *col_use;  /* or NULL: all */
    int32_t *match;
    double *total; /* [blocks] */
    int32_t blocks, by_columns, max_rows, max_cols;
} dd_op_assign;

/* A.6: from the teacher-object matching t_match [L_T,B,NT] (object or -1), for each pair n and image b:
 * step 0: col_use[n][b][j] = teacher query j is positive;           row_use[n][b][i] = 1
 * step 1: col_use = it is negative;  row_use = student i was not taken, i.e. match[n][b][i] < 0
 * step 2: joins: where match < 0 and match2 >= 0: match = match2, kind = 2; where match >= 0 already: kind = 1; else 0. */
typedef struct dd_op_split_masks {
    const int32_t *t_match; /* [L_T,B,NT] */
    const int32_t *pairs;   /* [n_pairs,2] */
    int32_t *match;         /* [n_pairs,B,NS] */
    const int32_t *match2;  /* [n_pairs,B,NS] step 2 */
    int32_t *kind;          /* [n_pairs,B,NS] step 2 */
    uint8_t *row_use;       /* [n_pairs,B,NS] steps 0, 1 */
    uint8_t *col_use;       /* [n_pairs,B,NT] steps 0, 1 */
    int32_t n_pairs, B, NS, NT, step;
} dd_op_split_masks;

/* Detection loss (D.2; also the prior group C.4 and denoising D.6). For each stage s, image b, with image_use[b] != 0 (NULL:
 * all): terms[s][b][0] = scale_class * sum_{n,c} focal(x, c == label of match), alpha .25, gamma 2 (primitive 2;
 * detectors 1.13) terms[s][b][1] = scale_l1 * sum_{matched} L1        terms[s][b][2] = scale_giou * sum_{matched} (1 - GIoU)
 * Images left out: terms 0, gradient 0 (or nothing added). Gradients, where the pointers are not NULL, are grad_scale times the
 * derivative of the sum of all terms; accumulate adds to them. Subgradients: golden DECISION 12. */
typedef struct dd_op_det_loss {
    const void *logits, *boxes; /* [S,B,N,C], [S,B,N,4] */
    const int32_t *match;       /* [S,B,N] object in the image or -1 */
    const void *gt_boxes;
    const int32_t *gt_labels, *gt_offsets;
    const void *sizes; /* or NULL */
    const uint8_t *image_use;
    double *terms; /* [S,B,3] */
    void *g_logits, *g_boxes;
    int32_t S, B, N, C, G;
    int32_t l1_xyxy, giou_pixels, accumulate;
    double giou_eps, scale_class, scale_l1, scale_giou, grad_scale;
} dd_op_det_loss;

/* Logits distillation loss (A.4, A.6). kind of pair n, image b, query i: kind[..], or 1 for each match >= 0 if kind is NULL.
 *   terms[n][b][0] = scale_class[kind] * sum BCE(x, t)   (kind 1 only)
 *   terms[n][b][1], [2] = scale_l1[1] * L1, scale_giou[1] * (1-GIoU)  of kind 1;   [3], [4] the same of kind 2 with index 2
 * Index 0 of the scales is unused; scale_class[2] is 0. Gradients as in det_loss; several pairs of one student stage add up in
 * the order of n (accumulate says whether to what was there). Stages without a pair get 0 (accumulate: nothing). */
typedef struct dd_op_kd_loss {
    const void *s_logits, *s_boxes;
    const void *t_prob, *t_xyxy, *t_cxcywh;
    const void *sizes;
    const int32_t *pairs;      /* device */
    const int32_t *host_pairs; /* host */
    const int32_t *match;      /* [n_pairs,B,NS] */
    const int32_t *kind;       /* or NULL */
    const uint8_t *image_use;
    double *terms;            /* [n_pairs,B,5] */
    void *g_logits, *g_boxes; /* [L_S,B,NS,..] */
    int32_t n_pairs, L_S, B, NS, NT, C, l1_xyxy, accumulate;
    double scale_class[3], scale_l1[3], scale_giou[3], grad_scale;
} dd_op_kd_loss;

/* Teacher entries and quality (B.2), K entries for each stage and image.
 * all_queries = 0: the K highest of N*C logits, ties by lower flat index, in order; index = flat index n*C+c; c_score = its
 *   probability. all_queries = 1 (K = N): index = n, c_score = highest class probability of the query.
 * iou: matched = 0: max over the image's objects of IoU (pixels, guard max(U,1e-6), raw teacher box); matched = 1: IoU with the
 *   object of match[..] (queries without: quality 0).
 * quality = c^gamma_class * iou^gamma_iou; without objects: matched = 0: c^gamma_class; matched = 1: 0. (0^0 = 1; exponent 1 is
 * exact.) */
typedef struct dd_op_quality {
    const void *logits, *boxes; /* [L,B,N,C], [L,B,N,4] */
    const int32_t *match;       /* [L,B,N], if matched */
    const void *gt_boxes;
    const int32_t *gt_offsets;
    const void *sizes;
    int32_t *index; /* [L,B,K] */
    void *quality;  /* [L,B,K] */
    int32_t L, B, N, C, G, K, all_queries, matched;
    double gamma_class, gamma_iou;
} dd_op_quality;

/* Weight map of one level (B.3, B.4). Query rows Q_n = queries[l][b][index[l][b][n] / index_divisor], l2-normalised (norm floor
 * 1e-12) unless raw; F^ = F l2-normalised over channels at each position (unless raw). per_query = 0 (SUM_MAX): s = sum_n q_n
 * <Q_n, F^> (linear: sum the rows first); s = max(s, .01); psi = s / max over positions; weight[l][b][p] = psi^2. per_query =
 * 1: weight[l][b][p] = (1/K) sum_n q_n v_n^2, v = max(0, <Q_n, F^>), or the plain dot product if raw. Rows with q_n = 0 cost
 * nothing. padding[b][p] != 0: weight 0 and no part in the maximum. sum[b][p] = weights summed over stages l in order.
 * image_use[b] = 0: weights 0. */
typedef struct dd_op_feature_weights {
    const void *queries;    /* [L,B,N,d] */
    const int32_t *index;   /* [L,B,K] */
    const void *quality;    /* [L,B,K] */
    const void *features;   /* [B,d,P] */
    const uint8_t *padding; /* [B,P] or NULL */
    const uint8_t *image_use;
    void *weight; /* [L,B,P] */
    void *sum;    /* [B,P] */
    int32_t L, B, N, K, d, index_divisor, per_query, raw;
    int64_t P;
} dd_op_feature_weights;

/* terms[l][b] = 1/(B*d*P) * sum_p weight[l][b][p] * r[p],  r[p] = sum_c (F_T - F_S)^2;
 * g_student (or NULL) = grad_scale * 2 * sum[b][p] * (F_S - F_T) / (B*d*P). */
typedef struct dd_op_feature_loss {
    const void *teacher, *student; /* [B,d,P] */
    const void *weight;            /* [L,B,P] */
    const void *sum;               /* [B,P] */
    double *terms;                 /* [L,B] */
    void *g_student;               /* [B,d,P] */
    int32_t L, B, d;
    int64_t P;
    double grad_scale;
} dd_op_feature_loss;

/* C[i] = alpha * op(A[i]) * op(B[i]) + beta * C[i] + bias, i < batch; op(A) is M x K, op(B) is K x N, C is M x N, all dense
 * rows with the leading dimensions given (of the stored matrix). bias: NULL, [N] added to each row (bias_rows = 0), or [M] one
 * per row (1). */
typedef struct dd_op_matmul {
    const void *a, *b, *bias;
    void *c;
    int32_t batch, M, N, K, lda, ldb, ldc, trans_a, trans_b, bias_rows;
    int64_t stride_a, stride_b, stride_c; /* elements from one matrix to the next; 0 shares one */
    double alpha, beta;
} dd_op_matmul;

/* y[m] = sum over batch i and n < N of x[i][m][n]; with by_columns: y[n] = sum over i, m. x: [batch, M, N]. */
typedef struct dd_op_row_sum {
    const void *x;
    void *y;
    int32_t batch, M, by_columns;
    int64_t N;
} dd_op_row_sum;

/* Bilinear, align_corners = false, no antialias (B.5): [maps, src_h, src_w] -> [maps, dst_h, dst_w]. resize_grad is the
 * adjoint: it reads `dst` (a gradient) and writes `src`. */
typedef struct dd_op_resize {
    void *src, *dst;
    int64_t maps;
    int32_t src_h, src_w, dst_h, dst_w;
} dd_op_resize;

/* dst[i] = src[index[i]] for i < rows (row width d), zeros where index[i] < 0; index counts within blocks: rows_per_block of
 * dst read from src_rows_per_block of src (images of a batch). inverse = 1: dst[index[i]] = src[i] with all other rows of dst 0
 * (each index at most once in a block); then `rows` counts src rows. */
typedef struct dd_op_take_rows {
    const void *src;
    const int32_t *index; /* NULL: identity */
    void *dst;
    int64_t rows, rows_per_block, src_rows_per_block;
    int32_t d, inverse;
} dd_op_take_rows;

/* Forward: y = relu(gamma * (x - mean) * rstd + beta), mean and biased variance over rows (eps 1e-5); mean, rstd written.
 * Gradient: reads x, y, mean, rstd, g_y; writes g_x, g_gamma, g_beta. */
typedef struct dd_op_batchnorm_relu {
    const void *x, *gamma, *beta;
    void *y, *mean, *rstd;
    const void *g_y;
    void *g_x, *g_gamma, *g_beta;
    int64_t rows;
    int32_t d;
} dd_op_batchnorm_relu;

/* Forward: y = x / max(|x|, 1e-12), length[rows] = |x| written. Gradient: reads y, length, g_y; writes g_x. */
typedef struct dd_op_l2norm {
    const void *x;
    void *y, *length;
    const void *g_y;
    void *g_x;
    int64_t rows;
    int32_t d;
} dd_op_l2norm;

/* logits [n,n] (already scaled). *loss = scale * mean_i (logsumexp(row i) - logits[i][i]); g_logits = grad_scale*scale *
 * derivative. */
typedef struct dd_op_cross_entropy {
    const void *logits;
    void *g_logits;
    double *loss;
    int64_t n;
    double scale, grad_scale;
} dd_op_cross_entropy;

/* ---- Layers of detectors (detectors.md sections 1 and 2).
 * Maps are channels last, [B,H,W,C]; tokens [B,S,C]; a level of a token tensor is a map.
 * An operator NAME_grad takes NAME's struct: it reads what the forward read and wrote, and the gradient g_y of its output.
 * Gradients of activations are written, or added to what is there where their bit of `add` is set (bit 0: the first g_ field
 * listed, and so on); gradients of parameters (marked +=) are always added to. NULL: not wanted. g_y may be overwritten. */

/* How products are formed: in the kernel's real type, or with both factors rounded to bf16 (nearest even; those below 2^-126
 * may count as 0) and sums in f32. */
enum { DD_COMPUTE_FULL = 0, DD_COMPUTE_BF16 = 1 };

/* Dropout of element i: kept, times 1/(1-rate), where the 24-bit uniform number i of the Philox stream (seed, step, stream) is
 * >= rate; 0 otherwise. rate 0: nothing is drawn. */
typedef struct dd_dropout {
    double rate;
    uint64_t seed;
    uint32_t step, stream;
} dd_dropout;

/* y = relu(x w^T + bias). Row i of x begins at x + i*ldx, of y (and g_y) at y + i*ldy; g_x has ldx.
 * linear_grad: with relu, g_y is first made 0 where y is 0. add bit 0: g_x. */
typedef struct dd_op_linear {
    const void *x, *w, *bias; /* [rows,K], [N,K], [N] or NULL */
    void *y;                  /* [rows,N] */
    void *g_y, *g_x;
    void *g_w, *g_bias; /* += */
    int64_t rows, ldx, ldy;
    int32_t K, N, relu, compute, add;
} dd_op_linear;

/* y = relu(conv(x, w) * scale + shift + residual); scale and shift (a folded frozen norm, or a bias) by output channel.
 * conv_grad: g_y becomes the gradient before the ReLU, which is also the residual's; g_w += scale * dw, g_scale[o] += sum over
 * w of channel o of w*dw, g_shift += sum g_y, with dw the plain gradient of the convolution's weight. add bit 0: g_x. */
typedef struct dd_op_conv {
    const void *x;             /* [B,H,W,Cin] */
    const void *w;             /* [Cout,Cin,kernel,kernel] */
    const void *scale, *shift; /* [Cout] or NULL: 1, 0 */
    const void *residual;      /* [B,OH,OW,Cout] or NULL */
    void *y;                   /* [B,OH,OW,Cout], OH = (H + 2 pad - kernel) / stride + 1 */
    void *g_y, *g_x;
    void *g_w, *g_scale, *g_shift; /* += */
    int32_t B, H, W, Cin, Cout, OH, OW, kernel, stride, pad, relu, compute, add;
} dd_op_conv;

/* Largest of each window, padding counts as -inf; the gradient goes to the first maximum in row-major order. add bit 0: g_x. */
typedef struct dd_op_maxpool {
    const void *x; /* [B,H,W,C] */
    void *y;       /* [B,OH,OW,C] */
    const void *g_y;
    void *g_x;
    int32_t B, H, W, C, OH, OW, kernel, stride, pad, add;
} dd_op_maxpool;

/* Each image's channels in `groups` groups, normalised over positions and channels of the group (biased variance, two passes or
 * the like), eps 1e-5. Image b of y (and g_y) begins at y + b*y_stride: a level of a token tensor. add bit 0: g_x. */
typedef struct dd_op_groupnorm {
    const void *x, *gamma, *beta; /* [B,P,C], [C], [C] */
    void *y;
    void *mean, *rstd; /* [B,groups] */
    const void *g_y;
    void *g_x;
    void *g_gamma, *g_beta; /* += */
    int64_t P, y_stride;
    int32_t B, C, groups, add;
} dd_op_groupnorm;

/* s = x + dropout(r); y = (s - mean) * rstd * gamma + beta over each row (biased variance, eps 1e-5).
 * layernorm_grad reads s, gamma, mean, rstd, g_y. g_x is the gradient of s; g_r the same through the dropout (NULL where
 * rate = 0: then it equals g_x). add bits: 0 g_x, 1 g_r. */
typedef struct dd_op_layernorm {
    const void *x, *r;        /* [rows,d]; r or NULL */
    const void *gamma, *beta; /* [d], or both NULL */
    void *s;                  /* [rows,d]; NULL: not wanted; may be r or x; without r: unused, the gradient reads x */
    void *y, *mean, *rstd;    /* [rows,d], [rows], [rows] */
    const void *g_y;
    void *g_x, *g_r;
    void *g_gamma, *g_beta; /* += */
    int64_t rows;
    int32_t d, add;
    dd_dropout dropout;
} dd_op_layernorm;

/* y = dropout(x); y may be x. Its own gradient: run on g_y. */
typedef struct dd_op_dropout {
    const void *x;
    void *y;
    int64_t count;
    dd_dropout dropout;
} dd_op_dropout;

/* y = a + b, where b repeats every `period` elements; y may be a or b. */
typedef struct dd_op_add {
    const void *a, *b;
    void *y;
    int64_t count, period;
} dd_op_add;

/* dst[i*dst_outer + j*dst_row + k] = (or += if add) src[i*src_outer + j*src_row + k], i < outer, j < rows, k < width, in the
 * order of i. Strides may be 0: a source that repeats, or (with add) a sum over i or j. */
typedef struct dd_op_copy_rows {
    const void *src;
    void *dst;
    int64_t outer, rows, width, src_outer, src_row, dst_outer, dst_row;
    int32_t add;
} dd_op_copy_rows;

/* y[i] = mask[i] ? 0 : x[i], rows of d; y may be x. Its own gradient. */
typedef struct dd_op_mask_rows {
    const void *x;
    const uint8_t *mask;
    void *y;
    int64_t rows;
    int32_t d;
} dd_op_mask_rows;

/* Attention core (1.6): y = dropout(softmax(scale q k^T + bias, blocked: -inf)) v, head h in columns h*dk.. of q and k, h*dv..
 * of v and y. Rows at q + (b*Nq+i)*ldq and so on. Blocked: key_padding[b][j], mask[i][j], and, if split > 0, i < split != j <
 * split. A row that has every key blocked gives 0. lse[b][h][i] = log of the sum of exponentials (natural), for the gradient.
 * Dropout index: ((b*M+h)*Nq+i)*Nk+j. add bits: 0 g_q, 1 g_k, 2 g_v, 3 g_bias. Gradients have the strides of q, k, v. */
typedef struct dd_op_attention {
    const void *q, *k, *v;      /* [B,Nq,M*dk], [B,Nk,M*dk], [B,Nk,M*dv] */
    const void *bias;           /* [B,M,Nq,Nk] or NULL */
    const uint8_t *key_padding; /* [B,Nk] or NULL */
    const uint8_t *mask;        /* [Nq,Nk] or NULL */
    void *y, *lse;              /* [B,Nq,M*dv] (ldy), [B,M,Nq] */
    const void *g_y;
    void *g_q, *g_k, *g_v, *g_bias;
    int64_t ldq, ldk, ldv, ldy;
    int32_t B, Nq, Nk, M, dk, dv, split, compute, add;
    double scale;
    dd_dropout dropout;
} dd_op_attention;

/* Multi-scale deformable attention core (1.9 steps 3 to 6): softmax of `logits` over a head's L*P entries, sampling locations
 * ref*ratio + off/(W_l,H_l) (R = 2) or ref.xy*ratio + off * ref.wh*ratio * .5/P (R = 4), bilinear reads with zeros outside.
 * value rows with padding != 0 count as 0 and get no gradient. Rows of off and logits: ldo, ldl elements apart; g_off, g_logits
 * the same. ref has `ref_images` = B or 1 (shared: its gradient sums over b). add bits: 0 g_value, 1 g_off, 2 g_logits, 3
 * g_ref. The gradient sums in an order that the shape fixes. */
typedef struct dd_op_msda {
    const void *value;      /* [B,S,M*D], levels one after the other */
    const void *off;        /* [B,N,M,L,P,2] x,y */
    const void *logits;     /* [B,N,M,L*P] */
    const void *ref;        /* [ref_images,N,R] */
    const void *ratio;      /* [B,L,2] x,y; NULL: 1 */
    const uint8_t *padding; /* [B,S] or NULL */
    void *y;                /* [B,N,M*D] */
    const void *g_y;
    void *g_value, *g_off, *g_logits, *g_ref;
    int64_t S, ldo, ldl;
    int32_t B, N, M, D, L, P, R, ref_images, add;
    int32_t height[8], width[8]; /* of the levels */
} dd_op_msda;

/* Sine position code of a level (1.4) whose real part is valid[b] = (w,h) cells from the upper left, plus the level's embedding
 * (or NULL); y[b][p][c], image b at y + b*y_stride. Channels 0 .. C/2-1 encode y, the rest x. Cells outside get 0 + embedding.
 */
typedef struct dd_op_sine_position {
    const int32_t *valid;  /* [B,2] */
    const void *embedding; /* [C] */
    void *y;
    int64_t y_stride;
    int32_t B, H, W, C;
    double temperature, offset;
} dd_op_sine_position;

/* Coordinate embedding (1.5): y[row][j*n + c] = sin (c even) or cos (c odd) of scale * x[row][k] / unit[k] / T^(2
 * floor(c/2)/n), k = order[j], j < coordinates. A unit of 0 counts as 1. add bit 0: g_x. */
typedef struct dd_op_coord_embed {
    const void *x; /* [rows,coordinates] */
    void *y;       /* [rows,coordinates*n] */
    const void *g_y;
    void *g_x;
    int64_t rows;
    int32_t coordinates, n, order[4], add;
    double scale, temperature;
    double unit[4];
} dd_op_coord_embed;

/* y = 1/(1+exp(-x)), also of infinities. sigmoid_grad: g_x from y and g_y. add bit 0: g_x. */
typedef struct dd_op_sigmoid {
    const void *x;
    void *y;
    const void *g_y;
    void *g_x;
    int64_t count;
    int32_t add;
} dd_op_sigmoid;

/* Box from a head's output and a reference (2.1 step 6, 2.2): y = sigmoid(t + inv(ref)), inv of 1.8 with eps; R = 2: only the
 * first two entries get inv(ref). Row i uses reference row i % ref_rows (its gradient sums in row order).
 * add bits: 0 g_t, 1 g_ref. */
typedef struct dd_op_box_refine {
    const void *t, *ref; /* [rows,4], [ref_rows,R] */
    void *y;             /* [rows,4] */
    const void *g_y;
    void *g_t, *g_ref;
    int64_t rows, ref_rows;
    int32_t R, add;
    double eps;
} dd_op_box_refine;

/* Encoder reference points (1.10): y[b][s] = ((j+.5)/(ratio_x*W_l), (i+.5)/(ratio_y*H_l)) of token s = (l,i,j). */
typedef struct dd_op_grid_points {
    const void *ratio; /* [B,L,2] or NULL: 1 */
    void *y;           /* [B,S,2] */
    int64_t S;
    int32_t B, L;
    int32_t height[8], width[8];
} dd_op_grid_points;

/* Encoder proposals (1.11): logit[b][s] = inverse sigmoid of (centre, size), +inf where padded or not inside (.01,.99);
 * drop[b][s] = 1 there, else 0. valid[b][l] = (w,h) real cells of the level. */
typedef struct dd_op_proposals {
    const int32_t *valid; /* [B,L,2] */
    void *logit;          /* [B,S,4] */
    uint8_t *drop;        /* [B,S] */
    int64_t S;
    int32_t B, L;
    int32_t height[8], width[8];
} dd_op_proposals;

/* index[b] = the k rows with the largest x[b*S*stride + s*stride], in descending order, ties by lower row; NaN sorts last. */
typedef struct dd_op_top_rows {
    const void *x;
    int32_t *index; /* [B,k] */
    int64_t S, stride;
    int32_t B, k;
} dd_op_top_rows;

/* ---- AdaMixer (section 4). A position is (x, y, z, r): a centre in pixels, and the box's sides 2^(z - r/2), 2^(z + r/2). */

/* Bias of attention between queries: overlap[b][i][j] = log(IoF + 1e-7), bias[b][m] = tau[m] * overlap[b]. IoF: what boxes i
 * and j share, by the area of box i, which counts as 1e-6 where it is less; at most 1. The gradient reads `overlap`. */
typedef struct dd_op_iof_bias {
    const void *position; /* [B,N,4] */
    const void *tau;      /* [M] */
    void *overlap;        /* [B,N,N]; NULL: not wanted */
    void *y;              /* [B,M,N,N] */
    const void *g_y;
    void *g_tau; /* += */
    int32_t B, N, M;
} dd_op_iof_bias;

/* Positions (4.1) of boxes that all images share. */
typedef struct dd_op_xyzr_start {
    const void *boxes;   /* [N,4] cxcywh by the image's size */
    const int32_t *size; /* [B,2] w,h in pixels */
    void *y;             /* [B,N,4] */
    int32_t B, N;
} dd_op_xyzr_start;

/* next = (x + delta_x 2^z, y + delta_y 2^z, z + delta_z, r + delta_r) (4.2); y: its boxes, cxcywh by the image's size. The
 * gradient is that of the boxes by delta. add bit 0: g_delta. */
typedef struct dd_op_xyzr_refine {
    const void *position, *delta; /* [B,N,4] */
    const int32_t *size;          /* [B,2] w,h in pixels */
    void *next, *y;               /* [B,N,4] */
    const void *g_y;
    void *g_delta;
    int32_t B, N, add;
} dd_op_xyzr_refine;

/* Sampling of a pyramid (4.3 step 3): point p of group g of a query lies at (x, y) + off_xy * the box's sides, z + off_z.
 * Sample = sum over levels of softmax(-(z_point - log2 stride)^2 / tau) * the bilinear read at xy / stride - .5, zeros outside,
 * of the group's channels. Locations are formed in double. add bits: 0 g_value, 1 g_off. The gradient sums in an order that the
 * shape fixes. */
typedef struct dd_op_sample3d {
    const void *value;    /* [B,S,G*D], levels one after the other */
    const void *off;      /* [B,N,G,P,3] x,y,z */
    const void *position; /* [B,N,4] */
    void *y;              /* [B,N,G,P,D] */
    const void *g_y;
    void *g_value, *g_off;
    int64_t S;
    int32_t B, N, G, D, L, P, add;
    int32_t height[8], width[8], stride[8]; /* of the levels; stride: pixels by cell */
    double tau;
} dd_op_sample3d;

/* Adaptive mixing (4.3 step 4) of each row's groups: m = relu(norm(x A)), y = relu(norm(B m)), where A [c,c] and B [out,in] are
 * the group's own parameters, in this order, and norm is over all numbers of its matrix (biased variance, eps 1e-5). stats:
 * mean and rstd of the first norm, then of the second; the gradient reads x, params, stats. add bits: 0 g_x, 1 g_params. */
typedef struct dd_op_mixing {
    const void *x;      /* [rows,G,in,c] */
    const void *params; /* [rows,G,c*c + out*in] */
    void *y;            /* [rows,G,out,c] */
    void *stats;        /* [rows,G,4] */
    const void *g_y;
    void *g_x, *g_params;
    int64_t rows;
    int32_t G, in, out, c, add;
} dd_op_mixing;

/* What a norm with fixed statistics (eps 1e-5) is for the convolution before it: y[0] = scale = gamma * rstd, y[1] = shift =
 * beta - mean * scale. */
typedef struct dd_op_fold_norm {
    const void *gamma, *beta, *mean, *variance; /* [C] */
    void *y;                                    /* [2,C] */
    const void *g_y;
    void *g_gamma, *g_beta; /* += */
    int64_t C;
} dd_op_fold_norm;

/* y = x, or 0 where that is less; NaN stays. relu_grad: g_x = g_y where y is not 0. add bit 0: g_x. */
typedef struct dd_op_relu {
    const void *x;
    void *y;
    const void *g_y;
    void *g_x;
    int64_t count;
    int32_t add;
} dd_op_relu;

/* ---- Mixed query selection and denoising (DINO). */

/* y[i] = largest of row i; NaN where the row has one. */
typedef struct dd_op_row_max {
    const void *x; /* [rows,d] */
    void *y;       /* [rows] */
    int64_t rows, d;
} dd_op_row_max;

/* table[index[i]] += x[i], in the order of i; index < 0: left out. The gradient of a table whose rows were looked up. */
typedef struct dd_op_add_rows {
    const void *x; /* [rows,d] */
    const int32_t *index;
    void *table;
    int64_t rows;
    int32_t d;
} dd_op_add_rows;

/* y[b][i][c] = x[b][i][c] * ratio[b][0][c % 2]: references as the finest level has them (detectors 5.3). */
typedef struct dd_op_scale_references {
    const void *x;     /* [B,N,R] */
    const void *ratio; /* [B,L,2] x,y */
    void *y;           /* [B,N,R] */
    int64_t N;
    int32_t B, L, R;
} dd_op_scale_references;

/* ---- Optimiser. */

/* Decoupled weight decay (Loshchilov, Hutter 2019), as torch.optim.AdamW: with g' = g * grad_scale:
 * w *= 1 - rate*decay; m += (1-beta1)(g'-m); v = beta2 v + (1-beta2) g'^2; w -= rate/correction1 * m / (sqrt(v/correction2) +
 * eps) where correction = 1 - beta^step. */
typedef struct dd_op_adamw {
    void *w, *m, *v;
    const void *g;
    int64_t count;
    double rate, decay, beta1, beta2, eps, correction1, correction2, grad_scale;
} dd_op_adamw;

/* *sum = sum of squares, by blocks whose size the count does not change. */
typedef struct dd_op_sum_squares {
    const void *x;
    double *sum;
    int64_t count;
} dd_op_sum_squares;

/* y += (1 - decay) * (x - y): a running average of weights. */
typedef struct dd_op_average {
    const void *x;
    void *y;
    int64_t count;
    double decay;
} dd_op_average;

/* y = a * b. product_grad: g_a = g_y * b, g_b = g_y * a; NULL: not wanted. add bits: 0 g_a, 1 g_b. */
typedef struct dd_op_product {
    const void *a, *b;
    void *y;
    const void *g_y;
    void *g_a, *g_b;
    int64_t count;
    int32_t add;
} dd_op_product;

/* Operator numbers: DD_OPERATOR_check_finite, .. */
enum {
#define DD_OP(name, args, text) DD_OPERATOR_##name,
#include <detrdistill/sys/ops.def>
#undef DD_OP
    DD_OPERATOR_COUNT
};

/* What a kernel may use while it runs. */
typedef struct dd_exec {
    uint32_t struct_size;
    int32_t threads; /* >= 1; host backends */
    void *device;    /* what device_open returned */
    void *stream;    /* CUDA: the caller's stream */
    /* Device memory (64-byte aligned) that is the kernel's until it returns; on a stream, until the next kernel of that stream.
     * NULL: out of memory, return DD_ERR_NOMEM. May be called several times. Calling thread only. */
    void *(*scratch)(struct dd_exec *exec, size_t bytes);
    /* Keeps a sentence for the caller and returns `status`. */
    dd_status (*fail)(struct dd_exec *exec, dd_status status, const char *sentence);
    void *core;
} dd_exec;

typedef dd_status (*dd_kernel_fn)(dd_exec *exec, const void *args);

/* Instruction sets, ordered; a context's isa option bounds them. */
enum { DD_ISA_NONE = 0, DD_ISA_AVX2 = 1, DD_ISA_AVX512 = 2 };

typedef struct dd_kernel {
    int32_t op;    /* DD_OPERATOR_* */
    int32_t dtype; /* DD_F32 or DD_F64 */
    int32_t isa;   /* needed; modules must check the processor by themselves in score(), the core checks the bound */
    int32_t reserved;
    const char *name; /* "avx512", "onednn", .. */
    dd_kernel_fn run;
    int32_t (*accepts)(const void *args); /* NULL: any arguments; 0: try the next row */
} dd_kernel;

enum { DD_COPY_TO_DEVICE = 1, DD_COPY_TO_HOST = 2, DD_COPY_ON_DEVICE = 3 };

typedef struct dd_backend {
    uint32_t struct_size;
    uint32_t interface_version; /* DD_BACKEND_INTERFACE */
    const char *name;           /* "cpu", "cuda" */
    int32_t host_memory;        /* 1: device pointers are host pointers */
    int32_t device_type;        /* DD_DEVICE_* that tensors must have */
    /* 0: cannot run on this machine, with the reason in why. */
    int32_t (*score)(char *why, size_t why_size);
    int32_t (*device_count)(void);
    /* Highest DD_ISA_* of this machine that the module's kernels may use (0 for devices). */
    int32_t (*isa)(void);
    dd_status (*device_open)(int32_t index, void **device, char *text, size_t text_size); /* text: description, or the reason */
    void (*device_close)(void *device);
    void *(*mem_alloc)(void *device, size_t bytes); /* NULL entries: the core uses the context's host allocator */
    void (*mem_free)(void *device, void *memory);
    dd_status (*copy)(void *device, void *stream, void *dst, const void *src, size_t bytes,
                      int32_t kind); /* may be asynchronous */
    dd_status (*zero)(void *device, void *stream, void *dst, size_t bytes);
    dd_status (*sync)(void *device, void *stream); /* also reports earlier asynchronous errors */
    const char *(*last_error)(void *device);       /* sentence for a failed device call; may be NULL */
    /* Runs fn(arg, i) for i < n on `threads` threads; host backends. NULL: the core runs them in turn. */
    void (*parallel_for)(int32_t threads, int64_t n, void (*fn)(void *arg, int64_t i), void *arg);
    const dd_kernel *kernels;
    int32_t kernel_count;
    int32_t reserved;
} dd_backend;

/* The one symbol of a module. Returns NULL if it cannot serve `interface_version`. */
typedef const dd_backend *(*dd_backend_entry_fn)(uint32_t interface_version);
#define DD_BACKEND_ENTRY "dd_backend_entry"

#ifdef __cplusplus
}
#endif
#endif
