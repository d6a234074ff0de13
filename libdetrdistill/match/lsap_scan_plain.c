/* SPDX-License-Identifier: Apache-2.0
 * Row passes of the assignment solver in portable C, one column at a time. */
#include "match/lsap_scan.h"
#include <math.h>

#define TARGET
#define LANES 1
typedef double vec;
typedef int32_t rows;

static inline vec same(double x)
{
    return x;
}

static inline rows same_row(int32_t row)
{
    return row;
}

static inline vec lower(vec x, vec y)
{
    return x < y ? x : y;
}

static inline double lowest(vec x)
{
    return x;
}

static inline vec start_lanes(vec c, const double *v, rows row, double *d, int32_t *via)
{
    *via = row;
    return *d = c - *v;
}

static inline vec relax_lanes(vec c, const double *v, vec h, rows row, double *d, int32_t *via)
{
    vec x = (c - *v) - h;
    if (x < *d) {
        *d = x;
        *via = row;
    }
    return *d;
}

static inline void column_min_lanes(vec c, rows row, double *v, int32_t *best)
{
    if (c < *v) {
        *v = c;
        *best = row;
    }
}

static uint64_t equal(const double *d, double value)
{
    uint64_t bits = 0;
    for (int32_t j = 0; j < DDI_LSAP_BLOCK; j++)
        bits |= (uint64_t)(d[j] == value) << j;
    return bits;
}

#define COST float
#define PASS(name) name##_f32
#define LOAD(c) (*(c))
#define LOAD_FIRST(n, c) (*(c)) /* never reached: no remainder */
#include "match/lsap_scan_loops.inc.h"

#define COST double
#define PASS(name) name##_f64
#define LOAD(c) (*(c))
#define LOAD_FIRST(n, c) (*(c))
#include "match/lsap_scan_loops.inc.h"

const ddi_lsap_scan ddi_lsap_scan_plain[2] = {
    {start_f32, relax_f32, column_min_f32, equal},
    {start_f64, relax_f64, column_min_f64, equal},
};
