# SPDX-License-Identifier: Apache-2.0
"""Matchers and the whole KD loss beside torch + scipy, in one run on the same tensors.

    .dev/venv/bin/python tests/bench/kd_bench.py [--quick] [--only matcher|kd|whole]

Prints for each case the least time of several alternating repeats, the ratio, and the peak memory that one step adds on top of its inputs
(each side in a process of its own).
"""

import argparse
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "bindings", "python"))
sys.path.insert(0, os.path.dirname(__file__))
import torch

import torch_peer as peer

LEVELS = ((100, 167), (50, 84), (25, 42), (13, 21))  # 800 x 1333 at strides 8 to 64


def make_case(queries_s, queries_t, objects, features, stages=6, images=2, classes=80, d=256, seed=1):
    """Random but lifelike: low scores, a few confident queries near objects, the student a noisy teacher."""
    g = torch.Generator().manual_seed(seed)
    r = lambda *shape: torch.rand(*shape, generator=g)
    n = lambda *shape: torch.randn(*shape, generator=g)
    sizes = torch.tensor([[1333.0, 800.0]]).repeat(images, 1)
    targets = [{"labels": torch.randint(0, classes, (objects,), generator=g), "boxes": torch.cat([0.1 + 0.8 * r(objects, 2), 0.03 + 0.3 * r(objects, 2)], 1)}
               for _ in range(images)]
    t_logits = n(stages, images, queries_t, classes) - 4.5
    t_boxes = torch.cat([r(stages, images, queries_t, 2), 0.02 + 0.4 * r(stages, images, queries_t, 2)], -1)
    for b in range(images):
        few = min(objects, queries_t)
        t_boxes[:, b, :few] = (targets[b]["boxes"][:few] + 0.01 * n(stages, few, 4)).clamp(0.01, 0.99)
        t_logits[:, b, torch.arange(few), targets[b]["labels"][:few]] += 6
    pick = torch.randperm(queries_t, generator=g)[torch.arange(queries_s) % queries_t]
    s_logits = t_logits[:, :, pick] + 0.7 * n(stages, images, queries_s, classes)
    s_boxes = (t_boxes[:, :, pick] + 0.03 * n(stages, images, queries_s, 4)).clamp(0.01, 0.99)
    case = dict(sizes=sizes, targets=targets, s_logits=s_logits.contiguous(), s_boxes=s_boxes.contiguous(), t_logits=t_logits, t_boxes=t_boxes)
    if features:
        case.update(p_logits=t_logits + 0.5 * n(*t_logits.shape), p_boxes=(t_boxes + 0.02 * n(*t_boxes.shape)).clamp(0.01, 0.99),
                    t_hidden=n(stages, images, queries_t, d), t_feat=[n(images, d, h, w) for h, w in LEVELS],
                    s_feat=[n(images, d, h, w) for h, w in LEVELS])
    return case


def bind_objects(handle, case):
    counts = [len(t["labels"]) for t in case["targets"]]
    handle.bind("gt.boxes", torch.cat([t["boxes"] for t in case["targets"]]))
    handle.bind("gt.labels", torch.cat([t["labels"] for t in case["targets"]]))
    handle.bind("gt.offsets", torch.tensor([sum(counts[:i]) for i in range(len(counts) + 1)], dtype=torch.int32))
    handle.bind("image.sizes", case["sizes"])


def our_matcher(dd, context, case, kind):
    m = dd.Matcher(context, **{"with": kind})
    m.bind("student.logits", case["s_logits"])
    m.bind("student.boxes", case["s_boxes"])
    if kind == "teacher":
        m.bind("teacher.logits", case["t_logits"])
        m.bind("teacher.boxes", case["t_boxes"])
    bind_objects(m, case)
    return m.run


def torch_matcher(case, kind):
    def run():
        if kind == "objects":
            return [peer.match_objects(x, y, case["targets"], case["sizes"]) for x, y in zip(case["s_logits"], case["s_boxes"])]
        targets = peer.teacher_targets(case["t_logits"], case["t_boxes"], case["sizes"])
        return [peer.match_teacher(x, y, *t, case["sizes"]) for x, y, *t in zip(case["s_logits"], case["s_boxes"], *targets)]

    return run


def our_step(dd, context, case):
    d = dd.Distiller(context)
    names = {"s_logits": "student.logits", "s_boxes": "student.boxes", "t_logits": "teacher.logits", "t_boxes": "teacher.boxes",
             "p_logits": "prior.logits", "p_boxes": "prior.boxes", "t_hidden": "teacher.queries"}
    for key, name in names.items():
        d.bind(name, case[key])
    for n, (t, s) in enumerate(zip(case["t_feat"], case["s_feat"])):
        d.bind(f"teacher.features.{n}", t)
        d.bind(f"student.features.{n}", s)
        d.bind(f"student.features.{n}.grad", torch.empty_like(s))
    for key in ("s_logits", "s_boxes", "p_logits", "p_boxes"):
        d.bind(names[key] + ".grad", torch.empty_like(case[key]))
    bind_objects(d, case)
    return d.step


def torch_step(case):
    leaves = [case[k] for k in ("s_logits", "s_boxes", "p_logits", "p_boxes")] + case["s_feat"]
    for x in leaves:
        x.requires_grad_(True)

    def run():
        for x in leaves:
            x.grad = None
        total = peer.whole_loss(case)
        total.backward()
        return float(total)

    return run


def both(label, case, kind):
    """The two sides of a case as callables."""
    import detrdistill as dd

    context = dd.Context(threads=2)
    if kind == "whole":
        ours = our_step(dd, context, case)
        return ours, torch_step(case)
    return our_matcher(dd, context, case, kind), torch_matcher(case, kind)


def high_water(reset=False):
    if reset:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    fields = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    return int(fields["VmHWM"].split()[0]) / 1024, int(fields["VmRSS"].split()[0]) / 1024


def memory_worker(side, arguments, kind):
    case = make_case(**eval(arguments, {}))  # our own repr, from the parent process
    run = both("", case, kind)[side == "torch"]
    _, before = high_water(reset=True)
    run()
    run()
    print(f"{high_water()[0] - before:.1f}")


def peak_memory(side, arguments, kind):
    out = subprocess.run([sys.executable, __file__, "--memory", side, repr(arguments), kind], capture_output=True, text=True, check=True)
    return float(out.stdout.split()[-1])


def least_time(ours, theirs, seconds):
    ours(), theirs()
    times, end = ([], []), time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[1]) < 3:
        for side, run in enumerate((ours, theirs)):
            start = time.perf_counter()
            run()
            times[side].append(time.perf_counter() - start)
    return min(times[0]), min(times[1])


def run_cases(title, cases, seconds):
    print(f"\n{title}\n{'case':44} {'ours ms':>9} {'torch ms':>9} {'ratio':>7} {'ours MB':>8} {'torch MB':>9}")
    for label, arguments, kind in cases:
        ours, theirs = least_time(*both(label, make_case(**arguments), kind), seconds)
        memory = [peak_memory(side, arguments, kind) for side in ("ours", "torch")]
        print(f"{label:44} {1e3 * ours:9.2f} {1e3 * theirs:9.2f} {theirs / ours:6.1f}x {memory[0]:8.1f} {memory[1]:9.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("matcher", "kd", "whole"))
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.memory:
        return memory_worker(*options.memory)
    seconds = 0.5 if options.quick else 4
    matcher = [(f"objects: {q} queries, {g} objects", dict(queries_s=q, queries_t=q, objects=g, features=False), "objects")
               for q in (300, 900) for g in (10, 50, 200)]
    kd = [(f"teacher: {s} x {t}", dict(queries_s=s, queries_t=t, objects=10, features=False), "teacher")
          for s, t in ((300, 300), (300, 900), (900, 900))]
    whole = [("whole KD loss with gradients, 300 x 300", dict(queries_s=300, queries_t=300, objects=10, features=True), "whole")]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; 6 stages x 2 images, 80 classes")
    for key, title, cases in (("matcher", "Ground-truth matcher", matcher), ("kd", "Teacher-student matcher", kd),
                              ("whole", "Whole KD loss at 800 x 1333 (Deformable DETR, default profile)", whole)):
        if options.only in (None, key):
            run_cases(title, cases, seconds)


if __name__ == "__main__":
    main()
