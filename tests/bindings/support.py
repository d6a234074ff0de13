# SPDX-License-Identifier: Apache-2.0
"""What the Python tests share: finding the package, optional modules, random cases."""
import importlib.util
import os
import pathlib
import random
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "kd_case.safetensors"
sys.path.insert(0, str(ROOT / "bindings" / "python"))

if "DETRDISTILL_LIBRARY" not in os.environ:
    sys.exit("set DETRDISTILL_LIBRARY to the full path of the libdetrdistill.so.0 to be tested")


def missing(*modules):
    """Why a test must be skipped, or None."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"SKIPPED, NOT INSTALLED: {', '.join(absent)}" if absent else None


def resident_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def case_inputs(dd, path=DATA):
    """The stored case as arguments of Distiller.__call__."""
    tensors = dd.load(path)

    def detector(who, *more):
        found = {"logits": tensors[who + ".logits"], "boxes": tensors[who + ".boxes"]}
        found.update({name: tensors[f"{who}.{name}"] for name in more if f"{who}.{name}" in tensors})
        features = [tensors[name] for name in sorted(tensors) if name.startswith(who + ".features.")]
        return dict(found, features=features) if features else found

    offsets = tensors["gt.offsets"].tolist()
    labels, boxes = tensors["gt.labels"].tolist(), tensors["gt.boxes"].tolist()
    targets = [{"labels": labels[a:b], "boxes": boxes[a:b]} for a, b in zip(offsets, offsets[1:])]
    return {"student": detector("student"), "teacher": detector("teacher", "queries"), "prior": detector("prior"),
            "targets": targets, "image_sizes": tensors["image.sizes"].tolist()}


def random_matrix(generator, rows, cols):
    return [[generator.uniform(-1, 1) for _ in range(cols)] for _ in range(rows)]


def seeded(seed):
    return random.Random(seed)
