# SPDX-License-Identifier: Apache-2.0
"""One exception class per status of the library. Each also has the built-in class that a Python caller would expect."""
from . import _api


class Error(Exception):
    """A call into the library failed; str() is the library's sentence.

    status   the number (DD_ERR_*);  name: its name, "DD_ERR_SHAPE"
    subject  the tensor or option that it is about, or ""
    image, stage, query, step   where it was met, or None
    """

    status = _api.DD_ERR_INTERNAL
    name = "DD_ERR_INTERNAL"

    def __init__(self, message, subject="", image=None, stage=None, query=None, step=None):
        super().__init__(message)
        self.subject, self.image, self.stage, self.query, self.step = subject, image, stage, query, step

    def __str__(self):  # KeyError and OSError would print it in their own way
        return str(self.args[0]) if self.args else ""


class ArgumentError(Error, ValueError):
    pass


class ShapeError(Error, ValueError):
    pass


class DTypeError(Error, TypeError):
    pass


class DeviceError(Error, RuntimeError):
    pass


class StateError(Error, RuntimeError):
    pass


class OptionError(Error, ValueError):
    pass


class LimitError(Error, ValueError):
    pass


class OutOfMemoryError(Error, MemoryError):
    pass


class NonFiniteError(Error, ValueError):
    pass


class BackendError(Error, RuntimeError):
    pass


class UnsupportedError(Error, NotImplementedError):
    pass


class FormatError(Error, ValueError):
    pass


class FileError(Error, OSError):
    pass


class CancelledError(Error, RuntimeError):
    pass


class ForkedError(Error, RuntimeError):
    pass


class NotFoundError(Error, KeyError):
    pass


class InternalError(Error, RuntimeError):
    pass


CLASSES = {
    _api.DD_ERR_ARGUMENT: ArgumentError, _api.DD_ERR_SHAPE: ShapeError, _api.DD_ERR_DTYPE: DTypeError,
    _api.DD_ERR_DEVICE: DeviceError, _api.DD_ERR_STATE: StateError, _api.DD_ERR_OPTION: OptionError,
    _api.DD_ERR_LIMIT: LimitError, _api.DD_ERR_NOMEM: OutOfMemoryError, _api.DD_ERR_NONFINITE: NonFiniteError,
    _api.DD_ERR_BACKEND: BackendError, _api.DD_ERR_UNSUPPORTED: UnsupportedError, _api.DD_ERR_FORMAT: FormatError,
    _api.DD_ERR_IO: FileError, _api.DD_ERR_CANCELLED: CancelledError, _api.DD_ERR_FORKED: ForkedError,
    _api.DD_ERR_NOT_FOUND: NotFoundError, _api.DD_ERR_INTERNAL: InternalError,
}
for _status, _class in CLASSES.items():
    _class.status = _status
    _class.name = next(name for name, value in vars(_api).items() if name.startswith("DD_ERR_") and value == _status)
