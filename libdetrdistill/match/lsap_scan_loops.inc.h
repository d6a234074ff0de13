/* SPDX-License-Identifier: Apache-2.0
 * Row passes of the assignment solver for one cost type, over vectors of LANES columns. The file that includes this names the
 * type (COST, PASS(name)) and gives the vector operations: vec, rows            LANES doubles, LANES row numbers same(x)
 * same_row(i)  one value in all lanes LOAD(c), LOAD_FIRST(n, c)   LANES costs, or n of them and zeros start_lanes, relax_lanes,
 * column_min_lanes   one step; lower(x, y), lowest(x)   minimum of two vectors, of the lanes */

TARGET static double PASS(start)(const void *costs, int32_t cols, const double *v, int32_t row, double *d, int32_t *via,
                                 double *block_min)
{
    const COST *c = costs;
    const rows row_lanes = same_row(row);
    vec least = same(INFINITY);
    for (int32_t begin = 0; begin < cols; begin += DDI_LSAP_BLOCK) {
        int32_t end = cols - begin < DDI_LSAP_BLOCK ? cols : begin + DDI_LSAP_BLOCK, j = begin;
        vec block = same(INFINITY);
        for (; j + LANES <= end; j += LANES)
            block = lower(block, start_lanes(LOAD(c + j), v + j, row_lanes, d + j, via + j));
        if (j < end)
            block = lower(block, start_lanes(LOAD_FIRST(end - j, c + j), v + j, row_lanes, d + j, via + j));
        block_min[begin / DDI_LSAP_BLOCK] = lowest(block);
        least = lower(least, block);
    }
    return lowest(least);
}

TARGET static double PASS(relax)(const void *costs, int32_t cols, const double *v, double h, int32_t row, double *d,
                                 int32_t *via, double *block_min)
{
    const COST *c = costs;
    const rows row_lanes = same_row(row);
    const vec h_lanes = same(h);
    vec least = same(INFINITY);
    for (int32_t begin = 0; begin < cols; begin += DDI_LSAP_BLOCK) {
        int32_t end = cols - begin < DDI_LSAP_BLOCK ? cols : begin + DDI_LSAP_BLOCK, j = begin;
        vec block = same(INFINITY);
        for (; j + LANES <= end; j += LANES)
            block = lower(block, relax_lanes(LOAD(c + j), v + j, h_lanes, row_lanes, d + j, via + j));
        if (j < end)
            block = lower(block, relax_lanes(LOAD_FIRST(end - j, c + j), v + j, h_lanes, row_lanes, d + j, via + j));
        block_min[begin / DDI_LSAP_BLOCK] = lowest(block);
        least = lower(least, block);
    }
    return lowest(least);
}

TARGET static void PASS(column_min)(const void *costs, int32_t cols, int32_t row, double *v, int32_t *best)
{
    const COST *c = costs;
    const rows row_lanes = same_row(row);
    int32_t j = 0;
    for (; j + LANES <= cols; j += LANES)
        column_min_lanes(LOAD(c + j), row_lanes, v + j, best + j);
    if (j < cols)
        column_min_lanes(LOAD_FIRST(cols - j, c + j), row_lanes, v + j, best + j);
}

#undef COST
#undef PASS
#undef LOAD
#undef LOAD_FIRST
