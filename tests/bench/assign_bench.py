#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dd_assign beside scipy.optimize.linear_sum_assignment and lap.lapjv, on the same arrays in one process.

    .dev/venv/bin/python tests/bench/assign_bench.py [--repeats N] [--only WORD] [--type f32|f64] BUILD/libdetrdistill/libdetrdistill.so

Prints the least time of several alternating repeats, and how many times longer the others took. dd_assign's time includes its check for
NaN, its memory and the ctypes call. Totals are compared before anything is timed.
"""

import argparse
import ctypes
import time

import lap
import numpy as np
from scipy.optimize import linear_sum_assignment


def corners(box):
    centre, half = box[:, :2], box[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], 1) * [1333, 800, 1333, 800]


def box_cost(a, b):
    """5 L1 - 2 GIoU of cxcywh boxes"""
    p, q = corners(a)[:, None], corners(b)[None]
    area = lambda low, high: np.prod(np.clip(high - low, 0, None), -1)
    inter = area(np.maximum(p[..., :2], q[..., :2]), np.minimum(p[..., 2:], q[..., 2:]))
    union = np.maximum(area(p[..., :2], p[..., 2:]) + area(q[..., :2], q[..., 2:]) - inter, 1e-6)
    hull = np.maximum(area(np.minimum(p[..., :2], q[..., :2]), np.maximum(p[..., 2:], q[..., 2:])), 1e-6)
    return 5 * np.abs(a[:, None] - b[None]).sum(-1) - 2 * (inter / union - (hull - union) / hull)


def detections(random, n, boxes, labels, classes, noise):
    """Queries near objects of an image, with a score for their class, and background queries."""
    own, background = random.integers(0, len(boxes), n), random.random(n) < .4
    near = boxes[own] * (1 + noise * random.normal(size=(n, 4)))
    far = np.concatenate([random.random((n, 2)), np.exp(random.normal(-2, .8, (n, 2)))], 1)
    logits = random.normal(-5, 1, (n, classes))
    logits[np.arange(n), labels[own]] += np.where(background, 2 * random.random(n), np.clip(random.normal(4, 1.5, n), 0, 8))
    return logits, np.clip(np.where(background[:, None], far, near), .005, 1)


def image(random, objects, classes):
    boxes = np.concatenate([random.random((objects, 2)), np.clip(np.exp(random.normal(-2, .8, (objects, 2))), .01, .9)], 1)
    return boxes, random.integers(0, classes, objects)


def softplus(x):
    return np.logaddexp(0, x)


def student_teacher(rows, cols, objects, noise, close=False, classes=80):
    """KD cost (distillation A.3); close: the student is the teacher in another order, plus noise."""
    random = np.random.default_rng(rows * 1000 + cols + objects)
    scene = image(random, objects, classes)
    t_logits, t_boxes = detections(random, cols, *scene, classes, noise)
    s_logits, s_boxes = detections(random, rows, *scene, classes, 1.5 * noise)
    if close:
        order = random.permutation(cols)[np.arange(rows) % cols]
        s_logits = t_logits[order] + random.normal(0, .5, (rows, classes))
        s_boxes = np.clip(t_boxes[order] + .02 * random.normal(size=(rows, 4)), .003, 1)
    return softplus(s_logits).sum(1)[:, None] - s_logits @ (1 / (1 + np.exp(-t_logits))).T + box_cost(s_boxes, t_boxes)


def objects_queries(objects, queries, classes=80):
    """Detection cost (detectors 1.14), a row for each object."""
    random = np.random.default_rng(objects * 1000 + queries)
    boxes, labels = image(random, objects, classes)
    logits, predicted = detections(random, queries, boxes, labels, classes, .3)
    p = 1 / (1 + np.exp(-logits))
    focal = .25 * (1 - p)**2 * softplus(-logits) - .75 * p**2 * softplus(logits)
    return 2 * focal[:, labels].T + box_cost(boxes, predicted)


def make_cases():
    random = np.random.default_rng(0)
    for n in (100, 300, 900):
        yield f'uniform {n}x{n}', random.random((n, n))
        yield f'KD {n}x{n}', student_teacher(n, n, 8, .15)
        yield f'KD near ties {n}x{n}', student_teacher(n, n, 3, .03)
        yield f'KD close student {n}x{n}', student_teacher(n, n, 8, .15, close=True)
        yield f'integers 0..99 {n}x{n}', random.integers(0, 100, (n, n)).astype(float)
        yield f'integers 0..4 {n}x{n}', random.integers(0, 5, (n, n)).astype(float)
    yield 'all equal 900x900', np.ones((900, 900))
    yield 'KD 300x900', student_teacher(300, 900, 8, .15)
    yield 'KD 900x300', student_teacher(900, 300, 8, .15)
    for queries in (300, 900):
        for objects in (10, 50, 200):
            yield f'objects {objects}x{queries}', objects_queries(objects, queries)


def load(path):
    library = ctypes.CDLL(path)
    for name in ('dd_assign_f32', 'dd_assign_f64'):
        getattr(library, name).argtypes = [ctypes.c_void_p] + [ctypes.c_int64] * 4 + [ctypes.c_void_p, ctypes.POINTER(ctypes.c_double)]
    return library


def least_times(calls, repeats):
    """Seconds of each call, in turn, so that a slow moment of the machine meets all of them."""
    best = [float('inf')] * len(calls)
    for _ in range(repeats):
        for k, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[k] = min(best[k], time.perf_counter() - start)
    return best


def bench(library, name, cost, repeats):
    rows, cols = cost.shape
    function = library.dd_assign_f32 if cost.dtype == np.float32 else library.dd_assign_f64
    row_to_col, total = np.empty(rows, np.int32), ctypes.c_double()
    ours = lambda: function(cost.ctypes.data, rows, cols, cols, 1, row_to_col.ctypes.data, total)
    if ours() != 0:
        raise SystemExit(f'{name}: dd_assign failed')
    i, j = linear_sum_assignment(cost)
    expected = cost[i, j].astype(float).sum()
    if abs(total.value - expected) > 1e-9 * max(1, np.abs(cost).max()):
        raise SystemExit(f'{name}: total {total.value}, scipy {expected}')
    times = least_times([ours, lambda: linear_sum_assignment(cost), lambda: lap.lapjv(cost, extend_cost=rows != cols)], repeats)
    print(f'{name:26s} {cost.dtype.name:8s}' + ''.join(f'{1e3 * t:10.3f}' for t in times)
          + ''.join(f'{t / times[0]:9.1f}' for t in times[1:]), flush=True)
    return times[1] / times[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('library')
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--only', default='')
    parser.add_argument('--type', choices=['f32', 'f64'])
    options = parser.parse_args()
    library = load(options.library)
    types = {'f32': [np.float32], 'f64': [np.float64], None: [np.float32, np.float64]}[options.type]
    print(f'{"least time, ms":35s}{"dd_assign":>10s}{"scipy":>10s}{"lap":>10s}{"x scipy":>9s}{"x lap":>9s}')
    ratios = [bench(library, name, np.ascontiguousarray(cost, dtype), options.repeats)
              for name, cost in make_cases() if options.only in name for dtype in types]
    if ratios:
        print(f'scipy takes {np.exp(np.mean(np.log(ratios))):.1f} times as long (geometric mean), at least {min(ratios):.1f}')


if __name__ == '__main__':
    main()
