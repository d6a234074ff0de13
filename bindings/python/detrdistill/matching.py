# SPDX-License-Identifier: Apache-2.0
"""Bipartite matching: the bare assignment problem, predictions with objects, students with teachers."""
from __future__ import annotations

import array
import ctypes
from typing import Any, Mapping, Sequence

from . import _api
from ._library import create, lib
from ._options import Option, option_words
from ._tensor import NAMES, is_torch, loaded, view, with_leading_one
from .context import Bound, Context, shared_context
from .targets import join_targets


def assign(cost: Any, maximize: bool = False) -> tuple[Any, Any]:
    """Minimum-cost assignment, as scipy.optimize.linear_sum_assignment: (row_ind, col_ind), sorted by row.

    cost: a matrix [n, m]: NumPy (any strides and type), torch on the CPU, nested lists, anything with the buffer protocol.
    float32 and float64 are read in place. The indices are int64 NumPy arrays where NumPy is imported, else lists. Where several
    pairings are optimal the choice may differ from scipy's. NaN and infinities raise NonFiniteError (a ValueError)."""
    described, kept = _cost_view(cost, maximize)
    if described.ndim != 2:
        raise ValueError(f"expected a matrix (2-D array), got a {described.ndim}-D array")
    rows, cols = described.shape[:2]
    real = ctypes.c_float if described.dtype == _api.DD_F32 else ctypes.c_double
    solve = lib.dd_assign_f32 if described.dtype == _api.DD_F32 else lib.dd_assign_f64
    match = array.array("i", bytes(4 * rows))
    in_place = (ctypes.c_int32 * rows).from_buffer(match) if rows else (ctypes.c_int32 * 1)()
    memory = ctypes.cast(described.data or ctypes.addressof(in_place), ctypes.POINTER(real))
    solve(memory, rows, cols, described.stride[0], described.stride[1], in_place, None)
    del in_place, kept
    return _pairs(match)


def _pairs(match):
    """row -> column or -1, as (rows, columns)."""
    numpy = loaded("numpy")
    if numpy is not None:
        columns = numpy.frombuffer(match, dtype=numpy.int32) if len(match) else numpy.empty(0, numpy.int32)
        rows = numpy.flatnonzero(columns >= 0)
        return rows, columns[rows].astype(numpy.int64)
    rows = [row for row, column in enumerate(match) if column >= 0]
    return rows, [match[row] for row in rows]


def _cost_view(cost, maximize):
    """A dd_tensor of f32 or f64 elements and what keeps it alive. Copies only where the type or `maximize` asks for it."""
    numpy = loaded("numpy")
    if is_torch(cost):
        cost = cost.detach()
        torch = loaded("torch")
        if cost.dtype not in (torch.float32, torch.float64):
            cost = cost.float() if cost.dtype in (torch.float16, torch.bfloat16) else cost.double()
        described = view(-cost if maximize else cost)
        if described[0].device_type != _api.DD_DEVICE_CPU:
            raise TypeError("the cost must be on the CPU")
        return described
    if numpy is not None:
        cost = numpy.asarray(cost)
        if cost.dtype.kind == "c":
            raise TypeError("the cost must be real")
        if cost.dtype not in (numpy.float32, numpy.float64) or any(step % cost.itemsize for step in cost.strides):
            cost = cost.astype(numpy.float32 if cost.dtype == numpy.float16 else numpy.float64)
        if cost.ndim != 2:
            raise ValueError(f"expected a matrix (2-D array), got a {cost.ndim}-D array")
        return view(-cost if maximize else cost)
    described = view(cost)
    if NAMES[described[0].dtype] in ("f32", "f64") and not maximize:
        return described
    rows = cost.tolist() if hasattr(cost, "tolist") else cost
    return view([[-float(each) if maximize else float(each) for each in row] for row in rows])


class Matcher(Bound):
    """Matches predictions with objects (with_="objects") or with a teacher's predictions (with_="teacher").

        m = Matcher(with_="objects", family="deformable-detr")      options: detrdistill.options_help("matcher")
        m.bind("student.logits", logits) ..; m.run(); m.get(stage, image)

    Tensor names and shapes are those of dd_matcher_bind. One thread at a time."""

    _bind = staticmethod(lib.dd_matcher_bind)

    def __init__(self, context: Context | None = None, **options: Option) -> None:
        context = context or shared_context()
        self._bound = {}
        self._handle = create(_api.dd_matcher, lib.dd_matcher_free, lib.dd_matcher_create, context._handle,
                              option_words(options), parent=context._handle)

    def run(self) -> None:
        lib.dd_matcher_run(self._handle)

    def count(self) -> tuple[int, int]:
        """(pairs of stages, images) of the last run."""
        stages, images = ctypes.c_int32(), ctypes.c_int32()
        lib.dd_matcher_count(self._handle, ctypes.byref(stages), ctypes.byref(images))
        return stages.value, images.value

    def get(self, stage: int, image: int) -> tuple[Any, float]:
        """(match, cost): match[i] is the object or teacher query of student query i, or -1; an int32 array, a copy."""
        match, count, cost = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_int64(), ctypes.c_double()
        lib.dd_matcher_get(self._handle, stage, image, ctypes.byref(match), ctypes.byref(count), ctypes.byref(cost))
        copied = array.array("i", ctypes.string_at(match, 4 * count.value) if count.value else b"")
        numpy = loaded("numpy")
        return (numpy.array(copied, dtype=numpy.int32) if numpy is not None else copied), cost.value


def match(outputs: Mapping[str, Any], targets: Sequence[Mapping[str, Any]], image_sizes: Any = None,
          context: Context | None = None, family: str = "conditional-detr", **options: Option) -> list[tuple[Any, Any]]:
    """Drop-in for the forward of a DETR HungarianMatcher with focal class cost.

    outputs      {'pred_logits': [B,N,C], 'pred_boxes': [B,N,4] (cx,cy,w,h in 0..1)}; other keys are ignored
    targets      a list of B dicts {'labels': [G], 'boxes': [G,4]}
    image_sizes  [B,2] (W,H) in pixels; needed for families that measure GIoU in pixels
    family       default: the plain HungarianMatcher's conventions (normalised boxes)
    options      class_=2, l1=5, giou=2, nonfinite=.. (detrdistill.options_help("matcher"))

    Returns a list of B pairs (index_i, index_j): queries in growing order and their objects; int64, torch tensors if the
    outputs are torch's, else NumPy arrays (lists where NumPy is not imported)."""
    logits = outputs["pred_logits"]
    context = context or shared_context(_device_of(logits))
    with Matcher(context, with_="objects", family=family, **options) as matcher:
        for name, value in (("student.logits", logits), ("student.boxes", outputs["pred_boxes"])):
            described, kept = view(value)
            matcher._bind_view(name, with_leading_one(described) if described.ndim == 3 else described, kept)
        for name, value in join_targets(targets).items():
            matcher.bind(name, value)
        if image_sizes is not None:
            matcher.bind("image.sizes", image_sizes)
        matcher.run()
        return [_index_pair(matcher.get(0, image)[0], is_torch(logits)) for image in range(len(targets))]


def _device_of(value):
    described, _ = view(value)
    return "cpu" if described.device_type == _api.DD_DEVICE_CPU else f"cuda:{described.device_index}"


def _index_pair(matched, as_torch):
    queries, objects = _pairs(array.array("i", matched.tobytes()))
    if as_torch:
        torch = loaded("torch")
        return torch.as_tensor(queries, dtype=torch.int64), torch.as_tensor(objects, dtype=torch.int64)
    return queries, objects
