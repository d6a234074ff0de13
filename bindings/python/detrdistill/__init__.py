# SPDX-License-Identifier: Apache-2.0
"""Knowledge distillation for DETR-family detectors: losses, matchings and gradients on the caller's own tensors.

    import detrdistill as dd

    rows, cols = dd.assign(cost)                       # as scipy.optimize.linear_sum_assignment
    indices = dd.match(outputs, targets)               # as DETR's HungarianMatcher
    kd = dd.Distiller(family="deformable-detr", prior="none")
    loss = kd(student=out_s, teacher=out_t, targets=targets, image_sizes=sizes)
    loss.total.backward()                              # torch; with NumPy the gradients are in loss.grads

Neither NumPy nor torch is needed or imported; tensors of both are used in place. libdetrdistill is looked for in
$DETRDISTILL_LIBRARY (a file), this package's lib folder, and the system's library path. Failures raise subclasses of
detrdistill.Error."""
import ctypes as _ctypes

from . import errors
from ._api import DD_LOG_DEBUG as LOG_DEBUG, DD_LOG_ERROR as LOG_ERROR
from ._api import DD_LOG_INFO as LOG_INFO, DD_LOG_WARNING as LOG_WARNING
from ._library import lib as _lib, text as _text
from ._tensor import Tensor
from .context import Context
from .distiller import Distiller, LossDict
from .errors import Error
from .evaluation import CocoEval
from .files import load, metadata, save
from .matching import Matcher, assign, match
from .models import Dataset, Detection, Model, Trainer

__version__ = "0.1.0"
__all__ = ["CocoEval", "Context", "Dataset", "Detection", "Distiller", "Error", "LOG_DEBUG", "LOG_ERROR", "LOG_INFO",
           "LOG_WARNING", "LossDict", "Matcher", "Model", "Tensor", "Trainer", "assign", "device_count", "errors", "has", "library_version", "load", "match",
           "metadata", "options_help", "save"]


def library_version() -> str:
    """Version of the libdetrdistill that is loaded."""
    return _lib.dd_version().decode()


def has(feature: str) -> bool:
    """Whether the loaded library can do "cpu", "cuda", "ref", "avx2" or "avx512"."""
    return bool(_lib.dd_has(feature.encode()))


def device_count(kind: str) -> int:
    """How many devices of a kind ("cpu", "cuda", "ref") can be opened."""
    count = _ctypes.c_int32()
    _lib.dd_device_count(kind.encode(), _ctypes.byref(count))
    return count.value


def options_help(name: str) -> str:
    """The options of "context", "matcher" or "distiller", a line each."""
    return _text(_lib.dd_options_help, name.encode())
