# SPDX-License-Identifier: Apache-2.0
"""Finds, loads and checks libdetrdistill; turns statuses and exceptions inside callbacks into Python exceptions.

`lib.dd_NAME(..)` calls the C function. Where it returns dd_status, a bad one is raised. The interpreter lock is released
during each call.
"""
import ctypes
import ctypes.util
import os
import pathlib
import threading
import weakref

from . import _api
from .errors import CLASSES, InternalError

SONAME = "libdetrdistill.so.0"


class _Pending(threading.local):
    exception = None


_pending = _Pending()


def keep_exception(exception):
    """Called inside a callback: `exception` is raised when the library call on this thread returns."""
    if _pending.exception is None:
        _pending.exception = exception


def _raise_pending():
    exception, _pending.exception = _pending.exception, None
    if exception is not None:
        raise exception


def last_error(status):
    """The exception that describes the last failed call of this thread."""
    def place(which):
        index = lib.dd_error_place(which)
        return None if index < 0 else index

    message = lib.dd_error_message().decode("utf-8", "replace")
    subject = lib.dd_error_subject().decode("utf-8", "replace")
    return CLASSES.get(status, InternalError)(
        message, subject, image=place(_api.DD_PLACE_IMAGE), stage=place(_api.DD_PLACE_STAGE),
        query=place(_api.DD_PLACE_QUERY), step=place(_api.DD_PLACE_STEP))


def _check_status(status, function, arguments):
    if _pending.exception is not None:
        _raise_pending()
    if status < 0:
        raise last_error(status)
    return status


def _candidates():
    chosen = os.environ.get("DETRDISTILL_LIBRARY")
    if chosen:
        return [chosen]
    bundled = pathlib.Path(__file__).resolve().parent / "lib" / SONAME
    found = [str(bundled) if bundled.exists() else None, ctypes.util.find_library("detrdistill"), SONAME]
    return [each for each in found if each]


def _open():
    reasons = []
    for path in _candidates():
        try:
            return ctypes.CDLL(path)
        except OSError as error:
            reasons.append(str(error))
    raise ImportError("cannot load libdetrdistill (set DETRDISTILL_LIBRARY to its full path): " + "; ".join(reasons))


def _declare(library):
    for name, result, arguments in _api.FUNCTIONS:
        function = getattr(library, name)
        can_fail = result is _api.dd_status and name != "dd_error_status"
        function.argtypes = [ctypes.c_int32 if each is _api.dd_status else each for each in arguments]
        function.restype = ctypes.c_int32 if result is _api.dd_status else result
        if can_fail:
            function.errcheck = _check_status


def _check_layout(library):
    """Makes the library fill a dd_tensor and reads it back through our declaration: size and offsets must be the same."""
    shape, stride = (ctypes.c_int64 * 2)(3, 5), (ctypes.c_int64 * 2)(7, 1)
    memory = (ctypes.c_double * 32)()
    tensor = _api.dd_tensor()
    address = ctypes.addressof(memory)
    library.dd_tensor_init(tensor, address, _api.DD_F64, 2, shape, stride, _api.DD_DEVICE_CPU, 0, _api.DD_TENSOR_READONLY)
    found = (tensor.struct_size, tensor.dtype, tensor.ndim, tensor.device_type, tensor.device_index, tensor.flags, tensor.data,
             tensor.shape[:2], tensor.stride[:2], tensor.reserved)
    expected = (ctypes.sizeof(_api.dd_tensor), _api.DD_F64, 2, _api.DD_DEVICE_CPU, 0, _api.DD_TENSOR_READONLY, address,
                [3, 5], [7, 1], 0)
    if found != expected:
        raise ImportError(f"dd_tensor of {library._name} has another layout than these bindings: {found} instead of {expected}")


def _load():
    library = _open()
    try:
        library.dd_abi_version.restype = ctypes.c_uint32
        version = library.dd_abi_version()
        if version != _api.DD_ABI_VERSION:
            raise ImportError(f"{library._name} has interface {version}; these bindings need {_api.DD_ABI_VERSION}")
        _declare(library)
    except AttributeError as error:
        raise ImportError(f"{library._name} is not a libdetrdistill of this version: {error}") from None
    _check_layout(library)
    return library


lib = _load()


class Handle:
    """Owns one C handle. It is freed when the last Python object that needs it is gone: the wrapper, or a view of its memory.

    ctypes passes it as the handle. `parent` and `callbacks` must outlive it, since the library may still call them: they do,
    as a weak reference's finalizer runs before what the object refers to goes, in the collector's cycles too."""

    def __init__(self, pointer, free, parent=None):
        self._as_parameter_ = pointer
        self.parent = parent
        self.callbacks = {}
        weakref.finalize(self, free, pointer)


def create(kind, free, function, *arguments, parent=None):
    """Calls `function(&pointer, *arguments)` and wraps what it made."""
    pointer = ctypes.POINTER(kind)()
    function(ctypes.byref(pointer), *arguments)
    return Handle(pointer, free, parent)


def text(function, *arguments):
    """The string that `function(.., const char **text)` gives."""
    found = ctypes.c_char_p()
    function(*arguments, ctypes.byref(found))
    return found.value.decode("utf-8", "replace")
