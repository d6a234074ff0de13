# SPDX-License-Identifier: Apache-2.0
"""DETR-style inputs, as training code has them, in the library's named tensors."""
import array

from ._tensor import Tensor, describe, is_torch, loaded


def join_targets(targets):
    """[{'labels': [G_b], 'boxes': [G_b,4], 'iscrowd' or 'crowd' (optional): [G_b]}, ..] -> the gt.* tensors by name."""
    labels = [target["labels"] for target in targets]
    boxes = [target["boxes"] for target in targets]
    crowd = [target.get("crowd", target.get("iscrowd")) for target in targets]
    offsets = [0]
    for each in labels:
        offsets.append(offsets[-1] + len(each))
    named = {"gt.boxes": _join(boxes, "float", 4), "gt.labels": _join(labels, "integer"),
             "gt.offsets": array.array("q", offsets)}
    if all(each is not None for each in crowd) and crowd:
        named["gt.crowd"] = _join(crowd, "flag")
    return named


def _join(parts, kind, width=None):
    """One tensor of all parts, in the framework that they come from."""
    torch, numpy = loaded("torch"), loaded("numpy")
    if any(is_torch(part) for part in parts):
        parts = [torch.as_tensor(part).detach() for part in parts]
        joined = torch.cat([part.reshape(-1, width) if width else part.reshape(-1) for part in parts])
        if kind == "float":
            return joined if joined.is_floating_point() else joined.float()
        return joined.to(torch.int64 if kind == "integer" else torch.uint8)
    if numpy is not None:
        parts = [numpy.asarray(part) for part in parts]
        shape = (-1, width) if width else (-1,)
        joined = numpy.concatenate([part.reshape(shape) for part in parts] or [numpy.empty(0)])
        if kind == "float":
            return joined if joined.dtype in (numpy.float32, numpy.float64) else joined.astype(numpy.float64)
        return joined.astype(numpy.int64 if kind == "integer" else numpy.uint8)
    rows = [row for part in parts for row in (part.tolist() if hasattr(part, "tolist") else part)]
    if kind == "float":
        return _boxes(rows)
    return array.array("q" if kind == "integer" else "B", rows)


def _boxes(rows):
    """[G,4] doubles without NumPy; a shape with 0 rows cannot be said by lists or memoryviews."""
    memory = array.array("d", [number for row in rows for number in row])
    return Tensor(describe(memory.buffer_info()[0], "f64", [len(rows), 4], readonly=True), memory)


def image_sizes_of(targets):
    """[[W, H], ..] from targets that carry DETR's 'size' (H, W), or None."""
    if not targets or any("size" not in target for target in targets):
        return None
    return [[float(target["size"][1]), float(target["size"][0])] for target in targets]


def batch_inputs(student, teacher, targets, image_sizes, prior, denoising, feature_padding, encoder=None):
    """All tensors of a step by the library's names."""
    inputs = {}
    for who, outputs in (("student", student), ("teacher", teacher), ("prior", prior)):
        if outputs is not None:
            inputs.update(_detector_outputs(who, outputs))
    for name, value in (denoising or {}).items():
        inputs["denoising." + name] = value
    for name, value in (encoder or {}).items():
        inputs["encoder." + name] = value[None] if len(value.shape) == 3 else value
    for level, mask in enumerate(feature_padding or ()):
        inputs[f"features.padding.{level}"] = mask
    inputs.update(join_targets(targets))
    sizes = image_sizes if image_sizes is not None else image_sizes_of(targets)
    if sizes is not None:
        inputs["image.sizes"] = sizes
    return inputs


def _detector_outputs(who, outputs):
    if "pred_logits" in outputs:
        stages = list(outputs.get("aux_outputs") or ()) + [outputs]
        named = {who + ".logits": _stack([stage["pred_logits"] for stage in stages]),
                 who + ".boxes": _stack([stage["pred_boxes"] for stage in stages])}
    else:
        named = {who + ".logits": outputs["logits"], who + ".boxes": outputs["boxes"]}
    if outputs.get("queries") is not None:
        named[who + ".queries"] = outputs["queries"]
    for level, features in enumerate(outputs.get("features") or ()):
        named[f"{who}.features.{level}"] = features
    return named


def _stack(stages):
    """[B,N,..] of each stage -> [L,B,N,..]. One stage is only viewed; torch keeps its graph."""
    if is_torch(stages[0]):
        return stages[0].unsqueeze(0) if len(stages) == 1 else loaded("torch").stack(stages)
    numpy = loaded("numpy")
    if numpy is not None:
        return numpy.asarray(stages[0])[None] if len(stages) == 1 else numpy.stack(stages)
    return [stage.tolist() if hasattr(stage, "tolist") else stage for stage in stages]
