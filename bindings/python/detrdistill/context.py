# SPDX-License-Identifier: Apache-2.0
"""The context (device, threads, seed, log) and what all handles share."""
from __future__ import annotations

import ctypes
import os
from typing import Any, Callable

from . import _api
from ._library import create, keep_exception, lib, text
from ._options import Option, option_words
from ._tensor import view


class Context:
    """One device with its memory, threads and seed.

        Context(device="cpu", threads=2, seed=7)      options: detrdistill.options_help("context")

    Threads: a context may be shared by threads; every other object is used by one thread at a time (misuse is StateError).
    Fork: an object made before os.fork() answers ForkedError in the child; make a new context there.
    Closing: objects may be closed or collected in any order. `with` closes at the end of the block."""

    def __init__(self, **options: Option) -> None:
        self._handle = create(_api.dd_context, lib.dd_context_free, lib.dd_context_create, option_words(options))

    def close(self) -> None:
        """Lets go of the C object; it ends when the last matcher, distiller or view on it has gone."""
        self._handle = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __repr__(self):
        return "detrdistill.Context(closed)" if self._handle is None else f"detrdistill.Context({self.describe()!r})"

    def describe(self) -> str:
        """For example "cpu: oneDNN 3.2, OpenBLAS 0.3.21, AVX-512, 2 threads"."""
        return text(lib.dd_context_describe, self._handle)

    def kernel(self, op: str, dtype: str = "f32") -> str:
        """The kernel that runs operator `op` here, for example "cpu/avx512"."""
        name = ctypes.c_char_p()
        lib.dd_context_kernel(self._handle, op.encode(), {"f32": _api.DD_F32, "f64": _api.DD_F64}[dtype], ctypes.byref(name))
        return name.value.decode()

    def memory(self) -> dict[str, int]:
        """{'host_bytes', 'host_peak', 'device_bytes', 'device_peak', 'allocations'} of this context and its objects."""
        numbers = [ctypes.c_int64() for _ in range(5)]
        lib.dd_context_memory(self._handle, *map(ctypes.byref, numbers))
        names = ("host_bytes", "host_peak", "device_bytes", "device_peak", "allocations")
        return {name: number.value for name, number in zip(names, numbers)}

    def cancel(self, cancelled: bool = True) -> None:
        """Makes running and later calls on this context's objects raise CancelledError until cancel(False). Any thread."""
        lib.dd_context_cancel(self._handle, int(cancelled))

    def set_log(self, log: Callable[[int, str], None] | None, level: int = _api.DD_LOG_INFO) -> None:
        """log(level, line) gets the library's log lines up to `level` (LOG_ERROR .. LOG_DEBUG); None: nothing.

        An exception that it raises comes out of the library call that logged."""
        if log is None:
            lib.dd_context_set_log(self._handle, _api.dd_log_fn(), None, level)
            self._handle.callbacks.pop("log", None)
            return

        def receive(_, line_level, line):
            try:
                log(line_level, line.decode("utf-8", "replace"))
            except BaseException as exception:
                keep_exception(exception)

        function = _api.dd_log_fn(receive)
        lib.dd_context_set_log(self._handle, function, None, level)
        self._handle.callbacks["log"] = function  # the old one may go only now


class Bound:
    """A handle to which tensors are bound by name. They are kept alive until they are unbound."""

    _bind = None  # the C function

    def bind(self, name: str, tensor: Any) -> None:
        """Binds a tensor by name; None unbinds. The memory is used in place, so it must not move or shrink meanwhile.

        Anything with the buffer protocol or DLPack, a torch tensor (gradients are not tracked here), a detrdistill.Tensor, or a
        list, which is copied."""
        if tensor is None:
            self._bind(self._handle, name.encode(), None)
            self._bound.pop(name, None)
            return
        described, kept = view(tensor, list_dtype="i64" if name in INTEGER_TENSORS else "f64")
        self._bind_view(name, described, kept)

    def _bind_view(self, name, described, kept):
        self._bind(self._handle, name.encode(), described)
        self._bound[name] = kept

    def unbind_all(self) -> None:
        for name in list(self._bound):
            self.bind(name, None)

    def close(self) -> None:
        """Lets go of the C object and of the bound tensors."""
        self._handle = None
        self._bound = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


INTEGER_TENSORS = frozenset(["gt.labels", "gt.offsets", "denoising.match"])

_shared = {}


def shared_context(device: str = "cpu") -> Context:
    """The context that calls without one of their own use: one per device and process."""
    key = os.getpid(), device
    if key not in _shared:
        for old in [each for each in _shared if each[0] != os.getpid()]:
            del _shared[old]  # made before a fork: of no use here
        _shared[key] = Context(device=device)
    return _shared[key]
