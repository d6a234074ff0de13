# SPDX-License-Identifier: Apache-2.0
"""COCO's box metric."""
from __future__ import annotations

import ctypes
from typing import Sequence

from . import _api
from ._library import create, lib

NUMBERS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR1", "AR10", "AR100", "AR_S", "AR_M", "AR_L")


class CocoEval:
    """COCO's twelve numbers as pycocotools computes them. Boxes are rows (x,y,w,h) in pixels."""

    def __init__(self):
        self._handle = create(_api.dd_eval, lib.dd_eval_free, lib.dd_eval_create)

    def add_objects(self, image_id: int, boxes: Sequence, labels: Sequence[int], crowd: Sequence[int] | None = None,
                    area: Sequence[float] | None = None) -> None:
        """Ground truth of an image: boxes [n,4], labels [n], crowd [n] 0 or 1, area [n] (default w*h)."""
        lib.dd_eval_add_objects(self._handle, image_id, len(labels), _doubles(_flat(boxes, len(labels))),
                                _numbers(ctypes.c_int64, labels), None if crowd is None else _numbers(ctypes.c_uint8, crowd),
                                None if area is None else _doubles(area))

    def add_detections(self, image_id: int, boxes: Sequence, labels: Sequence[int], scores: Sequence[float]) -> None:
        """Detections of an image: boxes [n,4], labels [n], scores [n]."""
        if len(scores) != len(labels):
            raise ValueError(f"{len(labels)} labels and {len(scores)} scores")
        lib.dd_eval_add_detections(self._handle, image_id, len(labels), _doubles(_flat(boxes, len(labels))),
                                   _numbers(ctypes.c_int64, labels), _doubles(scores))

    def finish(self) -> dict[str, float]:
        """{'AP': .., 'AP50': .., ..}; -1 where no object falls in."""
        numbers = (ctypes.c_double * len(NUMBERS))()
        lib.dd_eval_finish(self._handle, numbers)
        return dict(zip(NUMBERS, numbers))

    def class_ap(self, label: int) -> float:
        """AP of one class, after finish(); -1 without objects."""
        value = ctypes.c_double()
        lib.dd_eval_class(self._handle, label, ctypes.byref(value))
        return value.value


def _flat(boxes, count):
    rows = [[float(number) for number in row] for row in boxes]
    if len(rows) != count or any(len(row) != 4 for row in rows):
        raise ValueError(f"boxes must be {count} rows of 4 numbers")
    return [number for row in rows for number in row]


def _numbers(kind, values):
    values = [int(value) for value in values]
    return (kind * len(values))(*values)


def _doubles(values):
    values = [float(value) for value in values]
    return (ctypes.c_double * len(values))(*values)
