/* SPDX-License-Identifier: Apache-2.0
 * The inner loops of the assignment solver: passes over one row of costs. One table for each instruction set and cost type; all
 * tables compute the same doubles.
 *
 * Column arrays (prices v, distances d, ..) are 64-byte aligned and padded to whole blocks; padding has v = -inf, d = +inf, so
 * that it is never chosen. A row has exactly `cols` costs and no alignment. */
#ifndef DDI_MATCH_LSAP_SCAN_H
#define DDI_MATCH_LSAP_SCAN_H

#include <stdint.h>

enum { DDI_LSAP_BLOCK = 64 }; /* columns; one bit each in a uint64_t */

typedef struct ddi_lsap_scan {
    /* d[j] = c[j] - v[j], via[j] = row; block_min[b] = least d of block b. Returns the least d. */
    double (*start)(const void *c, int32_t cols, const double *v, int32_t row, double *d, int32_t *via, double *block_min);
    /* The same with d[j] = min(d[j], c[j] - v[j] - h); via[j] = row where that is less than before. */
    double (*relax)(const void *c, int32_t cols, const double *v, double h, int32_t row, double *d, int32_t *via,
                    double *block_min);
    /* v[j] = min(v[j], c[j]); best[j] = row where that is less than before. */
    void (*column_min)(const void *c, int32_t cols, int32_t row, double *v, int32_t *best);
    /* Bit j: d[j] == value, for one block. */
    uint64_t (*equal)(const double *d, double value);
} ddi_lsap_scan;

/* [0] for float, [1] for double costs. */
extern const ddi_lsap_scan ddi_lsap_scan_plain[2];
#if defined(__x86_64__)
extern const ddi_lsap_scan ddi_lsap_scan_avx2[2];
extern const ddi_lsap_scan ddi_lsap_scan_avx512[2];
#endif

#endif
