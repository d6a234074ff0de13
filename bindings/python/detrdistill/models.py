# SPDX-License-Identifier: Apache-2.0
"""Whole detectors, data sets and the trainer."""
from __future__ import annotations

import ctypes
import os
from typing import Any, Callable, Iterator, NamedTuple, Sequence

from . import _api
from ._library import create, keep_exception, lib
from ._options import Option, option_words
from ._tensor import Tensor, view
from .context import Context, shared_context
from .evaluation import NUMBERS


class Detection(NamedTuple):
    """A box (x, y, width, height) in pixels, the model's label, its score, and the query that found it."""
    box: tuple[float, float, float, float]
    label: int
    score: float
    query: int


class Model:
    """A detector. Model(backbone="resnet-18", classes=3, ...) makes one with start values (options_help("architecture"));
    Model.load reads a Hugging Face folder or a checkpoint of another program."""

    def __init__(self, context: Context | None = None, **options: Option) -> None:
        context = context or shared_context()
        self._handle = create(_api.dd_model, lib.dd_model_free, lib.dd_model_create, context._handle, option_words(options),
                              parent=context)

    @classmethod
    def load(cls, path: str | os.PathLike, context: Context | None = None, **options: Option) -> Model:
        model = cls.__new__(cls)
        context = context or shared_context()
        model._handle = create(_api.dd_model, lib.dd_model_free, lib.dd_model_load, context._handle, os.fsencode(path),
                               option_words(options), parent=context)
        return model

    def save(self, folder: str | os.PathLike) -> None:
        """config.json and model.safetensors in a folder that exists; transformers loads them."""
        lib.dd_model_save(self._handle, os.fsencode(folder))

    def export(self, path: str | os.PathLike, names: str, **options: Option) -> None:
        """A .safetensors file with the names of another program: "official", "mmdet2", ..; options_help("export")."""
        lib.dd_model_export(self._handle, os.fsencode(path), option_words({"names": names, **options}))

    @property
    def classes(self) -> list[str]:
        count, name = ctypes.c_int32(), ctypes.c_char_p()
        lib.dd_model_class_count(self._handle, ctypes.byref(count))
        names = []
        for label in range(count.value):
            lib.dd_model_class_at(self._handle, label, ctypes.byref(name))
            names.append(name.value.decode("utf-8", "replace"))
        return names

    @classes.setter
    def classes(self, names: Sequence[str]) -> None:
        for label, name in enumerate(names):
            lib.dd_model_set_class(self._handle, label, name.encode())

    def parameters(self) -> dict[str, Tensor]:
        """{name: Tensor}, the model's own memory, frozen ones included."""
        count, name = ctypes.c_int32(), ctypes.c_char_p()
        lib.dd_model_parameter_count(self._handle, ctypes.byref(count))
        found = {}
        for index in range(count.value):
            tensor = _api.dd_tensor()
            lib.dd_model_parameter_at(self._handle, index, ctypes.byref(name), tensor, None)
            found[name.value.decode()] = Tensor(tensor, self._handle)
        return found

    def forward(self, pixels: Any, sizes: Any = None) -> None:
        """pixels [B,3,H,W] (or a loader's [B,H,W,3]), normalised; sizes [B,2] (w,h) int32 of each picture's real part."""
        described, kept = view(pixels)
        described_sizes, kept_sizes = (None, None) if sizes is None else view(sizes)
        lib.dd_model_forward(self._handle, described, described_sizes)
        del kept, kept_sizes

    def tensor(self, name: str) -> Tensor:
        """"logits", "boxes", "encoder", ..: a view of the last forward pass, until the next one."""
        tensor = _api.dd_tensor()
        lib.dd_model_tensor(self._handle, name.encode(), tensor)
        return Tensor(tensor, self._handle)

    def detections(self, image: int, width: int, height: int, most: int = 100, least_score: float = 0) -> list[Detection]:
        """The best detections of a picture of the last forward pass, which is `width` x `height` pixels in its file."""
        count = ctypes.c_int32()
        boxes, scores = ctypes.POINTER(ctypes.c_double)(), ctypes.POINTER(ctypes.c_double)()
        labels, queries = ctypes.POINTER(ctypes.c_int64)(), ctypes.POINTER(ctypes.c_int32)()
        lib.dd_model_detections(self._handle, image, width, height, most, least_score, ctypes.byref(count), ctypes.byref(boxes),
                                ctypes.byref(labels), ctypes.byref(scores), ctypes.byref(queries))
        return [Detection(tuple(boxes[4 * i:4 * i + 4]), labels[i], scores[i], queries[i]) for i in range(count.value)]


class Dataset:
    """A split of a COCO or Pascal VOC folder, of a folder of pictures, or of generated "scenes" (options_help("dataset"))."""

    def __init__(self, path: str | os.PathLike, **options: Option) -> None:
        self._handle = create(_api.dd_dataset, lib.dd_dataset_free, lib.dd_dataset_open, os.fsencode(path), option_words(options))

    def __len__(self) -> int:
        count = ctypes.c_int32()
        lib.dd_dataset_image_count(self._handle, ctypes.byref(count))
        return count.value

    @property
    def classes(self) -> list[str]:
        count, name = ctypes.c_int32(), ctypes.c_char_p()
        lib.dd_dataset_class_count(self._handle, ctypes.byref(count))
        names = []
        for label in range(count.value):
            lib.dd_dataset_class_at(self._handle, label, None, ctypes.byref(name))
            names.append(name.value.decode("utf-8", "replace"))
        return names

    def batches(self, **options: Option) -> Iterator[dict[str, Tensor]]:
        """One epoch of a loader (options_help("loader")): "pixels", "image.sizes", "gt.boxes", .. of each batch, valid until
        the next one."""
        loader = create(_api.dd_loader, lib.dd_loader_free, lib.dd_loader_create, self._handle, option_words(options))
        images = ctypes.c_int32()
        while True:
            lib.dd_loader_next(loader, ctypes.byref(images))
            if images.value == 0:
                return
            batch = {}
            for name in _BATCH:
                tensor = _api.dd_tensor()
                lib.dd_loader_tensor(loader, name.encode(), tensor)
                batch[name] = Tensor(tensor, loader)
            yield batch


_BATCH = ("pixels", "image.sizes", "image.originals", "image.ids", "image.indices", "gt.boxes", "gt.labels", "gt.offsets")
ENDINGS = ("finished", "reached", "stopped", "no gain")


class Trainer:
    """Trains `student` in place, with a teacher or alone, and keeps the run in `folder` (options_help("trainer")):

        Trainer(student, train, validation, teacher=teacher, folder="run1", epochs=12, lr=1e-4).run(progress)

    `distiller`: options of the distillation, e.g. {"profile": "paper"}."""

    def __init__(self, student: Model, train: Dataset, validation: Dataset | None = None, teacher: Model | None = None,
                 folder: str | os.PathLike | None = None, distiller: dict[str, Option] | None = None, **options: Option) -> None:
        self._used = student, train, validation, teacher  # they stay until the trainer has gone
        self._handle = create(_api.dd_trainer, lib.dd_trainer_free, lib.dd_trainer_create, student._handle,
                              teacher and teacher._handle, train._handle, validation and validation._handle,
                              None if folder is None else os.fsencode(folder), option_words(options),
                              None if distiller is None else option_words(distiller), parent=self._used)

    @classmethod
    def resume(cls, folder: str | os.PathLike, context: Context | None = None, **options: Option) -> Trainer:
        trainer = cls.__new__(cls)
        context = context or shared_context()
        trainer._handle = create(_api.dd_trainer, lib.dd_trainer_free, lib.dd_trainer_resume, context._handle, os.fsencode(folder),
                                 option_words(options))
        return trainer

    def step(self) -> float:
        """One step; the weighted sum of the losses."""
        loss = ctypes.c_double()
        lib.dd_trainer_step(self._handle, ctypes.byref(loss))
        return loss.value

    def run(self, progress: Callable[[int, dict[str, float]], Any] | None = None, epoch: int = 0) -> str:
        """Runs to the end (or of an epoch); one of ENDINGS. progress(event, values) may return True to stop after the step."""
        def receive(_, event, names, values, count):
            try:
                return 1 if progress(event, {names[i].decode(): values[i] for i in range(count)}) else 0
            except BaseException as exception:
                keep_exception(exception)
                return 1

        function = _api.dd_train_fn(receive) if progress else _api.dd_train_fn()
        why = ctypes.c_int32()
        lib.dd_trainer_set_progress(self._handle, function, None)
        self._handle.callbacks["progress"] = function
        lib.dd_trainer_run(self._handle, epoch, ctypes.byref(why))
        return ENDINGS[why.value]

    def stop(self) -> None:
        """Asks a running run() to end after its step. Any thread."""
        lib.dd_trainer_stop(self._handle)

    def evaluate(self) -> dict[str, float]:
        """COCO's twelve numbers of the student on the validation set."""
        numbers = (ctypes.c_double * len(NUMBERS))()
        lib.dd_trainer_evaluate(self._handle, numbers)
        return dict(zip(NUMBERS, numbers))

    def values(self) -> dict[str, float]:
        """Where the run is: step, epoch, loss.total, ap, .."""
        count, name, value = ctypes.c_int32(), ctypes.c_char_p(), ctypes.c_double()
        lib.dd_trainer_value_count(self._handle, ctypes.byref(count))
        found = {}
        for index in range(count.value):
            lib.dd_trainer_value_at(self._handle, index, ctypes.byref(name), ctypes.byref(value))
            found[name.value.decode()] = value.value
        return found

    def export(self, folder: str | os.PathLike) -> None:
        """The student as a Hugging Face folder."""
        lib.dd_trainer_export(self._handle, os.fsencode(folder))
