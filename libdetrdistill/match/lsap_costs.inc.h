/* SPDX-License-Identifier: Apache-2.0
 * What the assignment solver does with strided costs of one type. The file that includes this names the type: COST, its bits as
 * an integer BITS, EXPONENT_BITS and MANTISSA_BITS, and NAME(function). */

/* Whether one of n costs that lie side by side has a biased exponent of `least` or more. Adding what is missing to the next
 * power of two carries into the top bit, which needs no comparison and so vectorises everywhere. */
static bool NAME(line_reaches)(const COST *cost, int64_t n, int32_t least)
{
    const BITS exponent = (((BITS)1 << EXPONENT_BITS) - 1) << MANTISSA_BITS;
    const BITS missing = (((BITS)1 << EXPONENT_BITS) - (BITS)least) << MANTISSA_BITS;
    BITS seen = 0;
    for (int64_t i = 0; i < n; i++) {
        BITS bits;
        memcpy(&bits, cost + i, sizeof bits);
        seen |= (bits & exponent) + missing;
    }
    return seen >> (EXPONENT_BITS + MANTISSA_BITS);
}

/* The same for a whole matrix, by rows or, where these lie side by side, by columns. */
static bool NAME(reaches)(const COST *cost, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride, int32_t least)
{
    if (row_stride == 1 && col_stride != 1)
        return NAME(reaches)(cost, cols, rows, col_stride, row_stride, least);
    bool reached = false;
    for (int64_t i = 0; i < rows && !reached; i++) {
        const COST *row = cost + i * row_stride;
        if (col_stride == 1)
            reached = NAME(line_reaches)(row, cols, least);
        else
            for (int64_t j = 0; j < cols; j++)
                reached |= NAME(line_reaches)(row + j * col_stride, 1, least);
    }
    return reached;
}

int64_t NAME(ddi_lsap_first_nonfinite)(const COST *cost, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride)
{
    if (!NAME(reaches)(cost, rows, cols, row_stride, col_stride, (1 << EXPONENT_BITS) - 1))
        return -1;
    int64_t k = 0;
    while (isfinite(cost[k / cols * row_stride + k % cols * col_stride]))
        k++;
    return k;
}

/* Copies scaled costs so that a row's lie side by side; tiles keep the lines that a column crosses in the cache. */
static void NAME(pack)(const COST *cost, int32_t rows, int32_t cols, int64_t row_stride, int64_t col_stride, COST scale,
                       COST *packed)
{
    enum { TILE = 16 };
    for (int32_t row = 0; row < rows; row += TILE)
        for (int32_t col = 0; col < cols; col += TILE)
            for (int32_t i = row; i < rows && i < row + TILE; i++)
                for (int32_t j = col; j < cols && j < col + TILE; j++)
                    packed[(int64_t)i * cols + j] = cost[i * row_stride + j * col_stride] * scale;
}

double NAME(ddi_lsap)(const COST *cost, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride, int32_t *row_to_col,
                      void *workspace, int32_t isa)
{
    /* Differences and sums of some 2^16 costs must stay finite. */
    const int32_t huge = 1023 + 900;
    bool turned = rows > cols, wide = sizeof(COST) == sizeof(double);
    int64_t along = turned ? row_stride : col_stride, across = turned ? col_stride : row_stride;
    solver s = {.cost = (const char *)cost, .row_bytes = across * (int64_t)sizeof *cost, .wide = wide};
    set_size(&s, rows, cols);
    s.scan = scan_of(isa, wide);
    COST *packed = (COST *)(void *)((char *)workspace + place_arrays(&s, workspace));
    bool scaled = wide && NAME(reaches)(cost, rows, cols, row_stride, col_stride, huge);
    if (along != 1 || scaled) {
        NAME(pack)(cost, s.rows, s.cols, across, along, scaled ? (COST)0x1p-64 : 1, packed);
        s.cost = (const char *)packed;
        s.row_bytes = s.cols * (int64_t)sizeof *cost;
    }
    solve(&s);
    double total = 0;
    for (int64_t i = 0; i < rows; i++) {
        row_to_col[i] = turned ? s.row_of[i] : s.col_of[i];
        if (row_to_col[i] >= 0)
            total += cost[i * row_stride + row_to_col[i] * col_stride];
    }
    return total;
}

#undef COST
#undef BITS
#undef EXPONENT_BITS
#undef MANTISSA_BITS
#undef NAME
