# SPDX-License-Identifier: Apache-2.0
"""Named tensors in safetensors files."""
from __future__ import annotations

import ctypes
import os
from typing import Any, Mapping

from . import _api
from ._library import create, lib
from ._tensor import Tensor, view


def load(path: str | os.PathLike) -> dict[str, Tensor]:
    """{name: Tensor} of a safetensors file, in file order. The file is mapped, not copied, and must not be changed while a
    tensor of it is in use."""
    handle = create(_api.dd_tensorfile, lib.dd_tensorfile_free, lib.dd_tensorfile_open, os.fsencode(path))
    count, name = ctypes.c_int32(), ctypes.c_char_p()
    lib.dd_tensorfile_count(handle, ctypes.byref(count))
    tensors = {}
    for index in range(count.value):
        found = _api.dd_tensor()
        lib.dd_tensorfile_at(handle, index, ctypes.byref(name), found)
        tensors[name.value.decode()] = Tensor(found, handle)
    return tensors


def metadata(path: str | os.PathLike, key: str) -> str:
    """A word of the file's metadata. NotFoundError (a KeyError) where it has none."""
    handle = create(_api.dd_tensorfile, lib.dd_tensorfile_free, lib.dd_tensorfile_open, os.fsencode(path))
    value = ctypes.c_char_p()
    lib.dd_tensorfile_metadata(handle, key.encode(), ctypes.byref(value))
    return value.value.decode()


def save(path: str | os.PathLike, tensors: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
    """Writes {name: tensor} as a safetensors file, whole or not at all. Host tensors of any kind that bind() takes."""
    handle = create(_api.dd_tensorfile, lib.dd_tensorfile_free, lib.dd_tensorfile_create)
    for name, tensor in tensors.items():
        described, kept = view(tensor)
        lib.dd_tensorfile_set(handle, name.encode(), described)
        del kept
    for key, value in (metadata or {}).items():
        lib.dd_tensorfile_set_metadata(handle, key.encode(), str(value).encode())
    lib.dd_tensorfile_save(handle, os.fsencode(path))
