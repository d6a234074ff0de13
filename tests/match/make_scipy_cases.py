#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes scipy_cases.inc.h: what scipy.optimize.linear_sum_assignment answers for costs that test_lsap.c makes anew by the
same rule (kinds below; the C side is make_cost of test_lsap.c). Where the optimum is unique the pairing is kept, else only the total.

    make_scipy_cases.py > scipy_cases.inc.h
"""

import numpy as np
import scipy
from scipy.optimize import linear_sum_assignment

UNIFORM, INTEGER, BOXES, CLUSTERED, PRODUCT = range(5)
SIZES = [(1, 1), (2, 5), (7, 3), (16, 16), (33, 65), (10, 300), (300, 10), (64, 64), (100, 100), (50, 200), (129, 128), (200, 300),
         (300, 200), (300, 300)]


def random_words(seed, count):
    """splitmix64"""
    with np.errstate(over='ignore'):
        z = np.uint64(seed) * np.uint64(1 << 32) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(seed, count):
    return (random_words(seed, count) >> np.uint64(40)).astype(np.float64) / (1 << 24)


def make_cost(kind, seed, rows, cols):
    """As float64; each value is then rounded to the type under test."""
    if kind == UNIFORM:
        return uniform(seed, rows * cols).reshape(rows, cols)
    if kind == INTEGER:
        return (random_words(seed, rows * cols) % np.uint64(10)).astype(np.float64).reshape(rows, cols)
    if kind == PRODUCT:
        return np.outer(np.arange(1, rows + 1, dtype=np.float64), np.arange(1, cols + 1, dtype=np.float64))
    # Points in a cube, near eight corners if clustered; L1 distance plus a little that depends on the column.
    point = uniform(seed, (rows + cols) * 4).reshape(-1, 4)
    if kind == CLUSTERED:
        corner = (random_words(seed + 1, (rows + cols) * 4) % np.uint64(2)).astype(np.float64).reshape(-1, 4)
        corner[:, 3] = 0
        point = corner + point / 1024
    a, b = point[:rows], point[rows:]
    cost = np.zeros((rows, cols))
    for k in range(4):
        cost = cost + np.abs(a[:, None, k] - b[None, :, k])
    return cost + b[None, :, 0] / 8


def is_unique(cost, total):
    """Forbidding any pair of the optimum must cost more than rounding does."""
    rows, cols = linear_sum_assignment(cost)
    margin = 1e-11 * max(1, np.abs(cost).max())
    for i, j in zip(rows, cols):
        other = cost.copy()
        other[i, j] = np.abs(cost).max() * 4 * len(rows) + 1
        r, c = linear_sum_assignment(other)
        if other[r, c].sum() <= total + margin:
            return False
    return True


def print_case(kind, seed, n_rows, n_cols, single):
    cost = make_cost(kind, seed, n_rows, n_cols)
    if single:
        cost = cost.astype(np.float32).astype(np.float64)
    rows, cols = linear_sum_assignment(cost)
    total = 0.0
    for i, j in zip(rows, cols):
        total += float(cost[i, j])
    columns = []
    if is_unique(cost, total):
        columns = np.full(n_rows, -1)
        columns[rows] = cols
    print(f'    {{{kind}, {seed}, {n_rows}, {n_cols}, {int(single)}, {len(columns)}, {total.hex()}, (const int16_t[]){{'
          + (','.join(map(str, columns)) or '0') + '}},')


print('/* SPDX-License-Identifier: Apache-2.0')
print(f' * Written by make_scipy_cases.py with scipy {scipy.__version__}: kind, seed, rows, cols, single precision, length of the pairing')
print(' * (0: the optimum is not unique), total, column of each row. */')
print('/* clang-format off */')
seed = 1
for single in (False, True):
    for kind in (UNIFORM, INTEGER, BOXES, CLUSTERED, PRODUCT):
        for size in SIZES:
            print_case(kind, seed, *size, single)
            seed += 2
print('/* clang-format on */')
