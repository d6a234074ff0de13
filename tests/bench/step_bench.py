# SPDX-License-Identifier: Apache-2.0
"""One whole KD step, and inference, of Deformable and Conditional DETR beside torch + transformers, in one run.

    .dev/venv/bin/python tests/bench/step_bench.py [--only small|middle|large|conditional|inference|adamixer|dino] [--repeats 3] [--fp32]

A step: teacher without gradients, student, prior group through the student's decoder, all matchings and losses, backward, clipping, AdamW; ours
also reads and decodes its pictures. 300 queries, 80 classes, 6 + 6 layers, random weights. Each side runs in a process of its own, one
after the other, and ours before and after the peer; the least time counts. The peer runs with glibc's malloc as it is and with page faults
tuned away, in fp32 and under bf16 autocast; its faster figure counts, in bf16 the faster of both types. Memory is the process's highest
resident size beyond what it had with its modules loaded.

AdaMixer and DINO run alone (no peer has them): the parts of a step, and what share of the processor's rate of products (numpy's, of large
matrices) their products reach, those of a backward pass counted twice.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "bindings", "python")]

# name: (height, width, images, depth of student, of teacher)
STEPS = {"small": (480, 640, 2, 18, 50), "middle": (480, 640, 1, 50, 101), "large": (800, 1333, 1, 50, 101),
         "conditional": (480, 640, 1, 50, 101)}
ALONE = {"adamixer": (480, 640, 1, 50, 101), "dino": (480, 640, 1, 50, 101)}
FAMILY = {"conditional": "conditional-detr", "adamixer": "adamixer", "dino": "dino"}  # deformable-detr else
INFERENCE = {"480x640": (480, 640), "800x1333": (800, 1333)}
OBJECTS = 14
TUNED = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}


def resident():
    with open("/proc/self/status") as f:
        fields = dict(line.split(":", 1) for line in f if ":" in line)
    return int(fields["VmHWM"].split()[0]) / 2**20, int(fields["VmRSS"].split()[0]) / 2**20


def report(run, repeats):
    """Warm-up, then the least time; called with everything loaded but the models."""
    before = resident()[1]
    step = run()
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    print(json.dumps({"seconds": min(times), "gib": resident()[0] - before}))


# ---- ours


def make_folder(folder, height, width, images):
    """COCO: pictures of smooth noise, `OBJECTS` boxes each, 80 classes."""
    import numpy as np
    from PIL import Image

    g = np.random.default_rng(1)
    os.makedirs(folder + "/images")
    boxes = []
    for i in range(images):
        small = g.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width, height)).save(f"{folder}/images/{i + 1}.jpg", quality=90)
        for _ in range(OBJECTS):
            w, h = g.uniform(0.05, 0.4, 2) * (width, height)
            x, y = g.uniform(0, 1, 2) * (width - w, height - h)
            boxes.append({"id": len(boxes) + 1, "image_id": i + 1, "category_id": int(g.integers(1, 81)), "bbox": [x, y, w, h],
                          "area": w * h, "iscrowd": 0})
    with open(folder + "/instances.json", "w") as f:
        json.dump({"images": [{"id": i + 1, "file_name": f"{i + 1}.jpg", "width": width, "height": height} for i in range(images)],
                   "annotations": boxes, "categories": [{"id": i + 1, "name": f"c{i}"} for i in range(80)]}, f)


def our_step(case, compute, folder):
    import detrdistill as dd

    height, width, images, student, teacher = {**STEPS, **ALONE}[case]

    def start():
        context = dd.Context(threads=2)
        models = [dd.Model(context, family=FAMILY.get(case, "deformable-detr"), backbone=f"resnet-{depth}", classes=80, dropout=0, attention_dropout=0,
                           activation_dropout=0, gradients=gradients)
                  for depth, gradients in ((student, 1), (teacher, 0))]
        data = dd.Dataset(folder)
        trainer = dd.Trainer(models[0], data, teacher=models[1], epochs=10000, batch=images, sizes=height, max_size=width, flip=0, crop=0,
                             eval_every=0, compute=compute, nonfinite="skip")
        return trainer.step

    return start


def our_inference(shape, compute):
    import numpy as np

    import detrdistill as dd

    height, width = INFERENCE[shape]

    def start():
        model = dd.Model(dd.Context(threads=2), backbone="resnet-50", classes=80, gradients=0)
        pixels = np.random.default_rng(1).standard_normal((1, 3, height, width), dtype=np.float32)
        return lambda: model.forward(pixels)

    return start


def our_pass(case, part):
    """The teacher's pass without gradients, or the student's forward pass that keeps what a backward pass needs."""
    import numpy as np

    import detrdistill as dd

    height, width, images, student, teacher = ALONE[case]

    def start():
        model = dd.Model(dd.Context(threads=2), family=FAMILY[case], backbone=f"resnet-{teacher if part == 'teacher' else student}", classes=80,
                         dropout=0, attention_dropout=0, activation_dropout=0, gradients=int(part == "student"))
        pixels = np.random.default_rng(1).standard_normal((images, 3, height, width), dtype=np.float32)
        return lambda: model.forward(pixels)

    return start


def products(case, part):
    import ctypes

    import detrdistill as dd
    from detrdistill._library import lib

    height, width, images, student, teacher = ALONE[case]
    model = dd.Model(dd.Context(), family=FAMILY[case], backbone=f"resnet-{teacher if part == 'teacher' else student}", classes=80, gradients=0)
    value = ctypes.c_double()
    lib.dd_model_plan(model._handle, images, height, width, 0, 0, b"products", ctypes.byref(value))
    return value.value


def product_rate():
    """Multiply-adds a second."""
    import numpy as np

    n, best = 2048, 1e9
    a = np.ones((n, n), np.float32)
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return n**3 / best


# ---- the peer


def torch_model(depth, family="deformable-detr"):
    from transformers import (ConditionalDetrConfig, ConditionalDetrForObjectDetection, DeformableDetrConfig,
                              DeformableDetrForObjectDetection, ResNetConfig)

    basic = depth == 18
    depths = {18: [2, 2, 2, 2], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}[depth]
    backbone = ResNetConfig(depths=depths, layer_type="basic" if basic else "bottleneck",
                            hidden_sizes=[64, 128, 256, 512] if basic else [256, 512, 1024, 2048], out_features=["stage2", "stage3", "stage4"])
    common = dict(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, num_labels=80,
                  num_queries=300, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
    if family == "conditional-detr":
        model = ConditionalDetrForObjectDetection(ConditionalDetrConfig(auxiliary_loss=True, **common))  # keeps the outputs of all layers
    else:
        model = DeformableDetrForObjectDetection(DeformableDetrConfig(**common))
    for name, p in model.model.backbone.named_parameters():
        p.requires_grad_("embedder" not in name and "stages.0" not in name)
    return model


class Recorded:
    """A model whose decoder can run again on other queries, with what the pass recorded."""

    def __init__(self, model):
        self.model, self.neck = model, [None] * 4
        model.model.decoder.register_forward_pre_hook(self.keep, with_kwargs=True)
        for level, part in enumerate(model.model.input_proj):
            part.register_forward_hook(lambda _, __, out, level=level: self.neck.__setitem__(level, out))

    def keep(self, _, args, kwargs):
        self.inputs = kwargs

    def heads(self, hidden, reference):
        import torch

        logits = torch.stack([f(hidden[:, k]) for k, f in enumerate(self.model.class_embed)])
        inverse = torch.special.logit(reference, eps=1e-5)
        boxes = []
        for k, f in enumerate(self.model.bbox_embed):
            delta = f(hidden[:, k])
            boxes.append(torch.cat([delta[..., :2] + inverse, delta[..., 2:]], -1).sigmoid())
        return logits.float(), torch.stack(boxes).float()

    def forward(self, pixels):
        out = self.model.model(pixel_values=pixels)
        return *self.heads(out.intermediate_hidden_states, out.init_reference_points), out.intermediate_hidden_states.transpose(0, 1).float()

    def prior(self, table, images):
        position, target = table.split(256, 1)
        position, target = (x[None].expand(images, -1, -1) for x in (position, target))
        reference = self.model.model.reference_points(position).sigmoid()
        out = self.model.model.decoder(**{**self.inputs, "inputs_embeds": target, "object_queries_position_embeddings": position,
                                          "reference_points": reference})
        return self.heads(out.intermediate_hidden_states, reference)


class RecordedConditional:
    """The same for Conditional DETR, whose maps are the encoder's."""

    def __init__(self, model):
        self.model, self.neck = model, [None]
        model.model.decoder.register_forward_pre_hook(self.keep, with_kwargs=True)
        model.model.input_projection.register_forward_hook(lambda _, __, out: setattr(self, "shape", out.shape))

    def keep(self, _, args, kwargs):
        self.inputs = kwargs

    def heads(self, out):
        import torch

        hidden, reference = out.intermediate_hidden_states, torch.special.logit(out.reference_points, eps=1e-5).transpose(0, 1)
        delta = self.model.bbox_predictor(hidden)
        boxes = torch.cat([delta[..., :2] + reference, delta[..., 2:]], -1).sigmoid()
        return self.model.class_labels_classifier(hidden).float(), boxes.float()

    def forward(self, pixels):
        out = self.model.model(pixel_values=pixels)
        self.neck = [out.encoder_last_hidden_state.transpose(1, 2).reshape(self.shape)]
        return *self.heads(out), out.intermediate_hidden_states.float()

    def prior(self, table, images):
        import torch

        position = table[None].expand(images, -1, -1)
        return self.heads(self.model.model.decoder(**{**self.inputs, "inputs_embeds": torch.zeros_like(position),
                                                      "object_queries_position_embeddings": position}))


def torch_step(case, compute):
    import torch

    import torch_peer as peer
    import transformers.models.conditional_detr.modeling_conditional_detr  # noqa: F401
    import transformers.models.deformable_detr.modeling_deformable_detr  # noqa: F401: loaded before memory is counted

    torch.set_num_threads(2)
    height, width, images, student_depth, teacher_depth = STEPS[case]

    def start():
        torch.manual_seed(1)
        family = FAMILY.get(case, "deformable-detr")
        record = RecordedConditional if family == "conditional-detr" else Recorded
        student, teacher = record(torch_model(student_depth, family).train()), record(torch_model(teacher_depth, family).eval().requires_grad_(False))
        for module in student.model.modules():  # a detector's batch norm is frozen
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval().requires_grad_(False)
        trained = [p for p in student.model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=1e-6, fused=True)
        pixels = torch.randn(images, 3, height, width)
        sizes = torch.tensor([[float(width), float(height)]]).repeat(images, 1)
        targets = [{"labels": torch.randint(0, 80, (OBJECTS,)), "boxes": torch.cat([0.3 + 0.4 * torch.rand(OBJECTS, 2), 0.05 + 0.3 * torch.rand(OBJECTS, 2)], 1)}
                   for _ in range(images)]
        # The teacher's table, copied once (Teacher Init).
        table = torch.nn.Parameter(teacher.model.model.query_position_embeddings.weight.detach().clone())

        def step():
            with torch.autocast("cpu", torch.bfloat16, enabled=compute == "bf16"):
                with torch.no_grad():
                    t_logits, t_boxes, t_hidden = teacher.forward(pixels)
                s_logits, s_boxes, _ = student.forward(pixels)
                p_logits, p_boxes = student.prior(table, images)
            total = peer.whole_loss(dict(s_logits=s_logits, s_boxes=s_boxes, t_logits=t_logits, t_boxes=t_boxes, p_logits=p_logits, p_boxes=p_boxes,
                                         t_hidden=t_hidden, t_feat=[x.float() for x in teacher.neck], s_feat=[x.float() for x in student.neck],
                                         sizes=sizes, targets=targets))
            total.backward()
            torch.nn.utils.clip_grad_norm_(trained, 0.1)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

        return step

    return start


def torch_inference(shape, compute):
    import torch
    import transformers.models.deformable_detr.modeling_deformable_detr  # noqa: F401

    torch.set_num_threads(2)
    height, width = INFERENCE[shape]

    def start():
        model, pixels = torch_model(50).eval(), torch.randn(1, 3, height, width)

        def run():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=compute == "bf16"):
                model(pixel_values=pixels)

        return run

    return start


# ---- both


def worker(side, what, case, compute, folder, repeats):
    if what == "pass":
        import detrdistill  # noqa: F401

        report(our_pass(case, compute), repeats)
    elif side == "ours":
        import detrdistill  # noqa: F401: loaded before memory is counted

        report(our_step(case, compute, folder) if what == "step" else our_inference(case, compute), repeats)
    else:
        report(torch_step(case, compute) if what == "step" else torch_inference(case, compute), repeats)


def launch(side, what, case, compute, folder, repeats, extra=None):
    command = [sys.executable, __file__, "--worker", side, what, case, compute, folder, str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(extra or {})})
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def least(*found):
    return {key: min(f[key] for f in found) for key in ("seconds", "gib")}


def compare(what, case, folder, repeats, types):
    best = None
    for compute in types:
        ours = launch("ours", what, case, compute, folder, repeats)
        peers = [launch("torch", what, case, compute, folder, repeats, extra) for extra in (None, TUNED)]
        ours = least(ours, launch("ours", what, case, compute, folder, repeats))
        theirs = least(*peers)
        best = theirs if best is None else {"seconds": min(best["seconds"], theirs["seconds"]), "gib": theirs["gib"]}
        title = "{0}x{1} B={2} R-{3} <- R-{4}".format(*STEPS[case]) if what == "step" else f"inference R-50 {case}"
        title += " conditional" if case == "conditional" else ""
        print(f"{title:<36} {compute:<5} {ours['seconds']:8.3f} {best['seconds']:8.3f} {best['seconds'] / ours['seconds']:6.2f}x "
              f"{ours['gib']:7.2f} {theirs['gib']:7.2f} {100 * ours['gib'] / theirs['gib']:5.0f} %", flush=True)


def alone(case, folder, repeats):
    height, width, images, student, teacher = ALONE[case]
    rate = product_rate()
    forward = {part: products(case, part) for part in ("teacher", "student")}
    rows = [("teacher", launch("ours", "pass", case, "teacher", folder, repeats), forward["teacher"]),
            ("student forward", launch("ours", "pass", case, "student", folder, repeats), forward["student"]),
            ("whole step", launch("ours", "step", case, "fp32", folder, repeats), forward["teacher"] + 3 * forward["student"])]
    for name, found, count in rows:
        title = f"{case} {height}x{width} B={images} R-{student} <- R-{teacher}, {name}"
        print(f"{title:<60} {found['seconds']:8.3f} s {found['gib']:6.2f} GiB {count / 1e9:7.1f} G products "
              f"{100 * count / found['seconds'] / rate:5.1f} % of {rate / 1e9:.0f} G/s", flush=True)


def main():
    if sys.argv[1:2] == ["--worker"]:
        side, what, case, compute, folder, repeats = sys.argv[2:]
        return worker(side, what, case, compute, folder, int(repeats))
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=[*STEPS, "inference", *ALONE])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fp32", action="store_true")
    arguments = parser.parse_args()
    types = ("fp32",) if arguments.fp32 else ("fp32", "bf16")
    print(f"{'whole KD step; forward pass':<36} {'type':<5} {'ours s':>8} {'torch s':>8} {'ratio':>7} {'GiB':>7} {'torch':>7} {'share':>7}")
    for case, (height, width, images, _, _) in STEPS.items():
        if arguments.only in (None, case):
            with tempfile.TemporaryDirectory() as folder:
                make_folder(folder, height, width, images)
                compare("step", case, folder, arguments.repeats, types)
    for case, (height, width, images, _, _) in ALONE.items():
        if arguments.only in (None, case):
            with tempfile.TemporaryDirectory() as folder:
                make_folder(folder, height, width, images)
                alone(case, folder, arguments.repeats)
    for shape in INFERENCE:
        if arguments.only in (None, "inference"):
            compare("inference", shape, "-", arguments.repeats, ("fp32",))


if __name__ == "__main__":
    main()
