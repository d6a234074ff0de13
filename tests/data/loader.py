# SPDX-License-Identifier: Apache-2.0
"""The loader through ctypes, for tests and benchmarks beside Pillow."""

import ctypes

import numpy

DTYPES = {1: numpy.float32, 5: numpy.int32, 6: numpy.int64, 7: numpy.uint8}


class Tensor(ctypes.Structure):
    _fields_ = [('struct_size', ctypes.c_uint32), ('dtype', ctypes.c_int32), ('ndim', ctypes.c_int32), ('device', ctypes.c_int32 * 2),
                ('flags', ctypes.c_uint32), ('data', ctypes.c_void_p), ('shape', ctypes.c_int64 * 8), ('stride', ctypes.c_int64 * 8),
                ('reserved', ctypes.c_uint64)]


class Library:
    def __init__(self, path):
        self.calls = ctypes.CDLL(path)
        self.calls.dd_error_message.restype = ctypes.c_char_p

    def check(self, status):
        if status:
            raise RuntimeError(self.calls.dd_error_message().decode())

    def array(self, view):
        shape = tuple(view.shape[:view.ndim])
        size = int(numpy.prod(shape)) * numpy.dtype(DTYPES[view.dtype]).itemsize
        if size == 0:
            return numpy.zeros(shape, DTYPES[view.dtype])
        memory = (ctypes.c_byte * size).from_address(view.data)
        return numpy.frombuffer(memory, DTYPES[view.dtype]).reshape(shape)

    def dataset(self, path, options=''):
        dataset = ctypes.c_void_p()
        self.check(self.calls.dd_dataset_open(ctypes.byref(dataset), path.encode(), options.encode()))
        return dataset


class Loader:
    def __init__(self, library, path, options):
        self.library, self.handle = library, ctypes.c_void_p()
        dataset = library.dataset(path)
        library.check(library.calls.dd_loader_create(ctypes.byref(self.handle), dataset, options.encode()))
        library.calls.dd_dataset_free(dataset)

    def next(self):
        images = ctypes.c_int32()
        self.library.check(self.library.calls.dd_loader_next(self.handle, ctypes.byref(images)))
        return images.value

    def __getitem__(self, name):
        view = Tensor()
        self.library.check(self.library.calls.dd_loader_tensor(self.handle, name.encode(), ctypes.byref(view)))
        return self.library.array(view)

    def close(self):
        self.library.calls.dd_loader_free(self.handle)


def official_size(width, height, size=800, longest=1333):
    """Width and height as the official code of DETR has them."""
    small, large = min(width, height), max(width, height)
    if large / small * size > longest:
        size = int(round(longest * small / large))
    return (size, int(size * height / width)) if width < height else (int(size * width / height), size)
