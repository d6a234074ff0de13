#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/kd_case.safetensors from a golden case: its inputs under the library's names, and the expected total.

    make_kd_case.py GOLDEN/kd/teacher_outside.safetensors tests/data/kd_case.safetensors
"""
import json
import struct
import sys

NAMES = {
    "s_logits": "student.logits", "s_boxes": "student.boxes", "s_hidden": "student.queries",
    "t_logits": "teacher.logits", "t_boxes": "teacher.boxes", "t_hidden": "teacher.queries",
    "p_logits": "prior.logits", "p_boxes": "prior.boxes",
    "gt_boxes": "gt.boxes", "gt_labels": "gt.labels", "gt_offsets": "gt.offsets", "img_size": "image.sizes",
}
FAMILIES = {"deformable": "deformable-detr", "conditional": "conditional-detr", "adamixer": "adamixer", "dino": "dino"}
# What the examples do not set must be at its default.
DEFAULTS = {"kd_split": "0", "kd_stage": "GROUP", "query_contrastive": "0", "feat_mask": "SUM_MAX", "feat_topk": "100",
            "prior_mode": "ASSIGNED", "prior_stage": "STAGE", "world_size": "1", "lambda1": "1.0", "lambda2": "1.0",
            "lambda3": "1.0"}


def library_name(name):
    kind, _, level = name.partition(".")
    if kind in ("s_feat", "t_feat"):
        return {"s": "student", "t": "teacher"}[kind[0]] + ".features." + level
    return NAMES.get(name)


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    size, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__", {})
    data = data[8 + size:]
    arrays = {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in header.items()}
    return metadata, arrays


def write(path, metadata, arrays):
    header, at = {"__metadata__": metadata}, 0
    for name, (dtype, shape, data) in arrays.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in arrays.values()))


def main(source, target):
    metadata, arrays = read(source)
    odd = {key: metadata.get(key) for key, value in DEFAULTS.items() if metadata.get(key) != value}
    if odd:
        sys.exit(f"{source} is not a case of the default profile: {odd}")
    total = struct.unpack("<7f", arrays["totals"][2])[6]
    renamed = {library_name(name): entry for name, entry in arrays.items() if library_name(name)}
    write(target, {"family": FAMILIES[metadata["detector"]], "total": f"{total:.9g}", "case": metadata["case"]}, renamed)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
