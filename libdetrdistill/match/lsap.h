/* SPDX-License-Identifier: Apache-2.0
 * Exact rectangular assignment (linear sum assignment problem) on one thread in caller's memory. Pure functions. */
#ifndef DDI_MATCH_LSAP_H
#define DDI_MATCH_LSAP_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of workspace that any cost of rows x cols needs, whatever its type and strides; 0 when the number does not fit. */
size_t ddi_lsap_workspace(int64_t rows, int64_t cols);

/* Assigns min(rows, cols) pairs of least total cost. Cost (i, j) lies at cost[i*row_stride + j*col_stride] and must be
 * finite. row_to_col[i] gets the column of row i, or -1. Returns the sum of the chosen costs, added in row order.
 * `workspace` is 64-byte aligned memory of ddi_lsap_workspace(rows, cols) bytes; rows and cols are below 2^31.
 * isa: the DD_ISA_* to use at most, which this machine must have; the pairing does not depend on it.
 * Work grows at most with rows^2 * cols whatever the costs are. Ties: of the nearest columns one without a row is taken first,
 * then the lowest. Costs are compared in double:
 * totals closer than the rounding of a sum of that many of the largest cost count as equal. */
double ddi_lsap_f32(const float *cost, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride, int32_t *row_to_col,
                    void *workspace, int32_t isa);
double ddi_lsap_f64(const double *cost, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride, int32_t *row_to_col,
                    void *workspace, int32_t isa);

/* i * cols + j of the first cost that is NaN or infinite, or -1. */
int64_t ddi_lsap_first_nonfinite_f32(const float *cost, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride);
int64_t ddi_lsap_first_nonfinite_f64(const double *cost, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride);

#endif
