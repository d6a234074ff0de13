/* SPDX-License-Identifier: Apache-2.0
 * Assignment of any matrix: rows, columns and the kind of number from the first bytes, costs from the others. */
#include "target.h"
#include <detrdistill/matcher.h>

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { SIDE = 24 };

static void check_pairs(const int32_t *row_to_col, int64_t rows, int64_t cols)
{
    bool used[SIDE] = {false};
    int64_t pairs = 0;
    for (int64_t i = 0; i < rows; i++) {
        FUZZ_CHECK(row_to_col[i] >= -1 && row_to_col[i] < cols);
        if (row_to_col[i] >= 0) {
            FUZZ_CHECK(!used[row_to_col[i]]);
            used[row_to_col[i]] = true;
            pairs++;
        }
    }
    FUZZ_CHECK(pairs == (rows < cols ? rows : cols));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static double wide[SIDE * SIDE];
    static float narrow[SIDE * SIDE];
    int32_t row_to_col[SIDE];
    double total;
    if (size < 3) {
        return 0;
    }
    const int64_t rows = data[0] % (SIDE + 1), cols = data[1] % (SIDE + 1);
    const bool bits = data[2] & 1; /* else small whole numbers: ties */
    data += 3;
    size -= 3;
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        wide[i] = size ? data[i % size] % 8 : 0;
        if (bits && size >= (i + 1) * sizeof wide[i]) {
            memcpy(&wide[i], data + i * sizeof wide[i], sizeof wide[i]);
        }
        narrow[i] = fabs(wide[i]) < 1e38 || !isfinite(wide[i]) ? (float)wide[i] : 1e38f;
    }
    if (dd_assign_f64(wide, rows, cols, SIDE, 1, row_to_col, &total) == DD_OK) {
        check_pairs(row_to_col, rows, cols);
    }
    if (dd_assign_f32(narrow, rows, cols, 1, SIDE, row_to_col, &total) == DD_OK) {
        check_pairs(row_to_col, rows, cols);
    }
    return 0;
}
