# SPDX-License-Identifier: Apache-2.0
"""Tensors in and out without copying. In: NumPy arrays, torch tensors, anything with the buffer protocol or DLPack. Out:
`Tensor`, a view of the library's memory that NumPy, torch and every DLPack user can take."""
import ctypes
import math
import struct
import sys

from . import _api
from ._library import lib

NAMES = {_api.DD_F32: "f32", _api.DD_F64: "f64", _api.DD_F16: "f16", _api.DD_BF16: "bf16", _api.DD_I32: "i32",
         _api.DD_I64: "i64", _api.DD_U8: "u8"}
CODES = {name: code for code, name in NAMES.items()}
_SIZES = {"f32": 4, "f64": 8, "f16": 2, "bf16": 2, "i32": 4, "i64": 8, "u8": 1}
_NUMPY_TYPES = {"f32": "<f4", "f64": "<f8", "f16": "<f2", "i32": "<i4", "i64": "<i8", "u8": "|u1"}
_FORMATS = {"f32": "f", "f64": "d", "i32": "i", "i64": "q", "u8": "B"}
_TORCH_TYPES = {"f32": "float32", "f64": "float64", "f16": "float16", "bf16": "bfloat16", "i32": "int32", "i64": "int64",
                "u8": "uint8"}


def loaded(module):
    """The module if the program has imported it, else None: nothing heavy is imported on a caller's behalf."""
    return sys.modules.get(module)


def is_torch(value):
    torch = loaded("torch")
    return torch is not None and isinstance(value, torch.Tensor)


# ---- in


class _Buffer(ctypes.Structure):  # Py_buffer
    _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.py_object), ("len", ctypes.c_ssize_t),
                ("itemsize", ctypes.c_ssize_t), ("readonly", ctypes.c_int), ("ndim", ctypes.c_int),
                ("format", ctypes.c_char_p), ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
                ("strides", ctypes.POINTER(ctypes.c_ssize_t)), ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
                ("internal", ctypes.c_void_p)]


_python = ctypes.pythonapi
_get_buffer = _python.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
_release_buffer = _python.PyBuffer_Release
_release_buffer.argtypes = [ctypes.c_void_p]
_release_buffer.restype = None
_capsule_name = _python.PyCapsule_GetName
_capsule_name.argtypes = [ctypes.py_object]
_capsule_name.restype = ctypes.c_char_p
_capsule_pointer = _python.PyCapsule_GetPointer
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_capsule_pointer.restype = ctypes.c_void_p
_new_capsule = _python.PyCapsule_New
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_new_capsule.restype = ctypes.py_object

_PYBUF_FULL_READONLY = 0x011C  # PyBUF_FULL_RO: shape, strides, format; writable not asked for


class _HeldBuffer:
    """Keeps a buffer export open, so that its owner can neither move nor resize the memory."""

    def __init__(self, value):
        self.buffer = _Buffer()
        _get_buffer(value, ctypes.byref(self.buffer), _PYBUF_FULL_READONLY)

    def __del__(self):
        if _release_buffer is not None:
            _release_buffer(ctypes.byref(self.buffer))


def _buffer_dtype(format_text, itemsize):
    kind = format_text.lstrip("@=<" if sys.byteorder == "little" else "@=>!")
    if kind in ("f", "d", "e"):
        return {"f": "f32", "d": "f64", "e": "f16"}[kind]
    if kind in ("i", "l", "q", "n") and itemsize in (4, 8):
        return "i32" if itemsize == 4 else "i64"
    if kind in ("B", "?"):
        return "u8"
    raise TypeError(f"elements of type {format_text!r} are none of {', '.join(NAMES.values())} in this machine's byte order")


def describe(address, dtype, shape, stride=None, device=(_api.DD_DEVICE_CPU, 0), readonly=False):
    """dd_tensor_init: the checked view. Strides count elements; None is C order."""
    view = _api.dd_tensor()
    ndim = len(shape)
    if 0 in shape:
        address = None  # exporters give empty tensors any address, aligned or not
    lib.dd_tensor_init(view, address, CODES[dtype], ndim, (ctypes.c_int64 * ndim)(*shape),
                       None if stride is None else (ctypes.c_int64 * ndim)(*stride), device[0], device[1],
                       _api.DD_TENSOR_READONLY if readonly else 0)
    return view


def _view_of_buffer(value):
    held = _HeldBuffer(value)
    buffer = held.buffer
    if buffer.suboffsets and any(buffer.suboffsets[i] >= 0 for i in range(buffer.ndim)):
        raise TypeError("buffers of pointers (suboffsets) are not supported")
    stride = None  # ctypes arrays say nothing: C order
    if buffer.strides:
        stride_bytes = [buffer.strides[i] for i in range(buffer.ndim)]
        if any(step % buffer.itemsize for step in stride_bytes):
            raise ValueError("strides must be whole elements; make a contiguous copy first")
        stride = [step // buffer.itemsize for step in stride_bytes]
    dtype = _buffer_dtype((buffer.format or b"B").decode(), buffer.itemsize)
    view = describe(buffer.buf, dtype, [buffer.shape[i] for i in range(buffer.ndim)], stride, readonly=bool(buffer.readonly))
    return view, held


def _view_of_torch(tensor):
    torch = loaded("torch")
    tensor = tensor.detach()
    if tensor.layout is not torch.strided or tensor.is_conj() or tensor.is_neg():
        raise TypeError("only plain strided torch tensors can be viewed")
    kind = "u8" if tensor.dtype is torch.bool else next(
        (code for code, name in _TORCH_TYPES.items() if tensor.dtype is getattr(torch, name)), None)
    if kind is None:
        raise TypeError(f"elements of type {tensor.dtype} are none of {', '.join(NAMES.values())}")
    if tensor.device.type not in ("cpu", "cuda"):
        raise TypeError(f"tensors on {tensor.device} cannot be viewed: cpu and cuda only")
    device = (_api.DD_DEVICE_CPU, 0) if tensor.device.type == "cpu" else (_api.DD_DEVICE_CUDA, tensor.device.index or 0)
    return describe(tensor.data_ptr() or None, kind, tensor.shape, tensor.stride(), device), tensor


def _view_of_dlpack(value):
    try:
        capsule = value.__dlpack__(max_version=(1, 0))
    except TypeError:  # a producer from before DLPack 1.0
        capsule = value.__dlpack__()
    view = _api.dd_tensor()
    name = _capsule_name(capsule)
    if name not in (b"dltensor", b"dltensor_versioned"):
        raise TypeError(f"__dlpack__ gave a capsule named {name!r}")
    address = _capsule_pointer(capsule, name)
    if name == b"dltensor_versioned":
        lib.dd_tensor_from_dlpack_versioned(view, ctypes.cast(address, ctypes.POINTER(_api.dd_dl_managed_versioned)))
    else:
        lib.dd_tensor_from_dlpack(view, ctypes.cast(address, ctypes.POINTER(_api.dd_dl_tensor)))
    return view, capsule  # not consumed: the capsule itself ends the export when it is collected


def _has_buffer(value):
    try:
        memoryview(value).release()
    except (TypeError, BufferError, ValueError):
        return False
    return True


def aligned_memory(size):
    """At least `size` zero bytes, aligned for every element type."""
    return (ctypes.c_double * (size // 8 + 1))()


def _view_of_list(value, dtype):
    flat, shape = [], []
    level = value
    while isinstance(level, (list, tuple)):
        shape.append(len(level))
        level = level[0] if level else None

    def flatten(part, depth):
        if depth == len(shape):
            flat.append(part)
            return
        if not isinstance(part, (list, tuple)) or len(part) != shape[depth]:
            raise ValueError("nested lists of unequal length")
        for each in part:
            flatten(each, depth + 1)

    flatten(value, 0)
    memory = struct.pack(f"={len(flat)}{_FORMATS[dtype]}", *flat)
    held = aligned_memory(len(memory))
    ctypes.memmove(held, memory, len(memory))
    return describe(ctypes.addressof(held), dtype, shape, readonly=True), held


def view(value, list_dtype="f64"):
    """(dd_tensor, what must stay alive with it). Lists are copied, as `list_dtype`; everything else is viewed in place."""
    if isinstance(value, Tensor):
        return value._view, value
    if is_torch(value):
        return _view_of_torch(value)
    if isinstance(value, (list, tuple)):
        return _view_of_list(value, list_dtype)
    if _has_buffer(value):
        return _view_of_buffer(value)
    if hasattr(value, "__dlpack__"):
        return _view_of_dlpack(value)
    raise TypeError(f"{type(value).__name__} is no tensor: it has neither the buffer protocol nor __dlpack__")


def with_leading_one(tensor):
    """The same view with a first dimension of size 1: one stage."""
    shape, stride = list(tensor.shape[:tensor.ndim]), list(tensor.stride[:tensor.ndim])
    return describe(tensor.data, NAMES[tensor.dtype], [1] + shape, [0] + stride, (tensor.device_type, tensor.device_index),
                    bool(tensor.flags & _api.DD_TENSOR_READONLY))


# ---- out


class Tensor:
    """A view of memory that the library owns. It keeps the owner alive.

    `numpy()` and `torch()` take it without copying, as do `numpy.asarray(t)`, `torch.from_dlpack(t)` and other users of
    DLPack. `tolist()` works without either. A result of a step is overwritten by the next step (see Distiller.result)."""

    def __init__(self, view, owner):
        self._view = view
        self._owner = owner

    @classmethod
    def zeros(cls, shape, dtype="f32"):
        """New memory of its own."""
        memory = aligned_memory(math.prod(shape) * _SIZES[dtype])
        return cls(describe(ctypes.addressof(memory), dtype, shape), memory)

    @property
    def shape(self):
        return tuple(self._view.shape[:self._view.ndim])

    @property
    def strides(self):
        """In elements."""
        return tuple(self._view.stride[:self._view.ndim])

    @property
    def dtype(self):
        """"f32", "f64", "f16", "bf16", "i32", "i64" or "u8"."""
        return NAMES[self._view.dtype]

    @property
    def device(self):
        return "cpu" if self._view.device_type == _api.DD_DEVICE_CPU else f"cuda:{self._view.device_index}"

    @property
    def readonly(self):
        return bool(self._view.flags & _api.DD_TENSOR_READONLY)

    def __repr__(self):
        return f"detrdistill.Tensor({self.dtype} {list(self.shape)} on {self.device})"

    def _array_interface(self):
        if self.dtype not in _NUMPY_TYPES:
            raise AttributeError(f"NumPy has no {self.dtype}; use torch() or DLPack")
        size = _SIZES[self.dtype]
        return {"version": 3, "shape": self.shape, "typestr": _NUMPY_TYPES[self.dtype],
                "data": (self._view.data or 0, self.readonly), "strides": tuple(step * size for step in self.strides)}

    @property
    def __array_interface__(self):
        self._need("cpu")
        if 0 in self.shape:  # an empty view may have no address, which NumPy refuses
            return {"version": 3, "shape": self.shape, "typestr": _NUMPY_TYPES[self.dtype]}
        return self._array_interface()

    @property
    def __cuda_array_interface__(self):
        self._need("cuda")
        return self._array_interface()

    def _need(self, kind):
        if not self.device.startswith(kind):
            raise AttributeError(f"the tensor is on {self.device}")

    def numpy(self):
        """The same memory as a NumPy array."""
        import numpy
        return numpy.asarray(self)

    def torch(self):
        """The same memory as a torch tensor (torch ignores that a view is read-only)."""
        import torch
        if self._view.device_type == _api.DD_DEVICE_CUDA:
            return torch.as_tensor(self, device=self.device)
        dtype = getattr(torch, _TORCH_TYPES[self.dtype])
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=dtype)
        return torch.frombuffer(self._memory(), dtype=dtype).as_strided(self.shape, self.strides)

    def _memory(self):
        """All bytes from the first element to the last one, as a ctypes array that holds the owner."""
        if any(step < 0 for step in self.strides):
            raise ValueError("negative strides")
        last = sum((size - 1) * step for size, step in zip(self.shape, self.strides))
        memory = (ctypes.c_char * ((last + 1) * _SIZES[self.dtype])).from_address(self._view.data)
        memory._owner = self._owner
        return memory

    def tolist(self):
        """Nested lists of Python numbers."""
        self._need("cpu")
        if self.dtype == "bf16":
            raise TypeError("Python has no bf16; use torch()")
        letter = "e" if self.dtype == "f16" else _FORMATS[self.dtype]
        memory = b"" if 0 in self.shape else bytes(self._memory())

        def take(depth, element):
            if depth == self._view.ndim:
                return struct.unpack_from("=" + letter, memory, element * _SIZES[self.dtype])[0]
            return [take(depth + 1, element + i * self.strides[depth]) for i in range(self.shape[depth])]

        return take(0, 0)

    def copy(self):
        """The same numbers in new memory of their own, safe from the next step."""
        if self._view.device_type == _api.DD_DEVICE_CUDA:
            raise TypeError("copy() is for host tensors; use torch().clone()")
        copied = Tensor.zeros(self.shape, self.dtype)
        if self.strides != copied.strides:
            raise ValueError("copy() is for contiguous memory; use numpy() or torch()")
        ctypes.memmove(copied._view.data, self._view.data, math.prod(self.shape) * _SIZES[self.dtype])
        return copied

    # DLPack

    def __dlpack_device__(self):
        return self._view.device_type, self._view.device_index

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if max_version is None or max_version[0] < 1:
            raise BufferError("only DLPack 1.0 and later can say that memory is read-only")
        if copy or (dl_device is not None and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError("only views in place are exported")
        managed = ctypes.POINTER(_api.dd_dl_managed_versioned)()
        lib.dd_tensor_to_dlpack(self._view, ctypes.byref(managed))
        address = ctypes.addressof(managed.contents)
        # By address: the member read as an object would follow the assignment below.
        deleter = _Deleter(ctypes.cast(managed.contents.deleter, ctypes.c_void_p).value)
        _exported[address] = (self._owner, deleter)
        managed.contents.deleter = _end_export
        return _new_capsule(address, b"dltensor_versioned", _capsule_destructor)


# DLPack exports that a consumer holds: address -> (owner of the memory, the library's own deleter).
_exported = {}


_Deleter = dict(_api.dd_dl_managed_versioned._fields_)["deleter"]


@_Deleter
def _end_export(managed):
    owner, deleter = _exported.pop(ctypes.addressof(managed.contents))
    deleter(managed)


# By address: while its destructor runs, the capsule must not be touched as a Python object.
_dying_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_GetName", _python))
_dying_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _python))


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _capsule_unused(capsule):
    """A capsule that nobody took still ends its export (a taken one has another name)."""
    if _dying_name(capsule) == b"dltensor_versioned":
        address = _dying_pointer(capsule, b"dltensor_versioned")
        _end_export(ctypes.cast(address, ctypes.POINTER(_api.dd_dl_managed_versioned)))


_capsule_destructor = ctypes.cast(_capsule_unused, ctypes.c_void_p)
