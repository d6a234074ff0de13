# SPDX-License-Identifier: Apache-2.0
"""The deformable attention core of one encoder layer (800 x 1333, 4 levels, 8 heads, 4 points) beside torch's grid_sample, in one run.

    .dev/venv/bin/python tests/bench/deformable_attention.py build/.../libdetrdistill-cpu.so [--images 1] [--threads 2] [--queries 0]

--queries 300 takes a decoder layer instead. Prints the least time of alternating repeats, the ratio, GFLOP/s (a multiplication and an
addition for each corner and channel; three times that with gradients), and the largest difference between the two.
"""

import argparse
import ctypes
import os
import re
import time

import torch
import torch.nn.functional as F

LEVELS = ((100, 167), (50, 84), (25, 42), (13, 21))
HEADS, CHANNELS, POINTS = 8, 32, 4
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
POINTERS = ("value", "off", "logits", "ref", "ratio", "padding", "y", "g_y", "g_value", "g_off", "g_logits", "g_ref")
INTEGERS = ("B", "N", "M", "D", "L", "P", "R", "ref_images", "add")
SCRATCH = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Arguments(ctypes.Structure):
    _fields_ = ([(p, ctypes.c_void_p) for p in POINTERS] + [(n, ctypes.c_int64) for n in ("S", "ldo", "ldl")] +
                [(n, ctypes.c_int32) for n in INTEGERS] + [(n, ctypes.c_int32 * 8) for n in ("height", "width")])


class Exec(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("threads", ctypes.c_int32), ("device", ctypes.c_void_p), ("stream", ctypes.c_void_p),
                ("scratch", SCRATCH), ("fail", ctypes.c_void_p), ("core", ctypes.c_void_p)]


class Kernel(ctypes.Structure):
    _fields_ = [("op", ctypes.c_int32), ("dtype", ctypes.c_int32), ("isa", ctypes.c_int32), ("reserved", ctypes.c_int32),
                ("name", ctypes.c_char_p), ("run", ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)), ("accepts", ctypes.c_void_p)]


class Backend(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("version", ctypes.c_uint32), ("name", ctypes.c_char_p), ("host_memory", ctypes.c_int32),
                ("device_type", ctypes.c_int32), ("functions", ctypes.c_void_p * 12), ("kernels", ctypes.POINTER(Kernel)),
                ("kernel_count", ctypes.c_int32), ("reserved", ctypes.c_int32)]


class Module:
    """Kernels of the module, called without the core; scratch memory is kept from call to call, as the core does."""

    def __init__(self, path, threads):
        library = ctypes.CDLL(path)
        library.dd_backend_entry.restype = ctypes.POINTER(Backend)
        self.backend = library.dd_backend_entry(1).contents
        with open(os.path.join(ROOT, "include", "detrdistill", "sys", "ops.def")) as f:
            self.operators = re.findall(r"^DD_OP\((\w+),", f.read(), re.M)
        self.memory, self.used = [], 0
        self.exec = Exec(ctypes.sizeof(Exec), threads, None, None, SCRATCH(self.scratch), None, None)

    def scratch(self, _, size):
        if self.used == len(self.memory):
            self.memory.append(torch.empty(0, dtype=torch.uint8))
        if self.memory[self.used].numel() < size + 64:
            self.memory[self.used] = torch.zeros(size + 64, dtype=torch.uint8)
        self.used += 1
        return (self.memory[self.used - 1].data_ptr() + 63) // 64 * 64

    def run(self, operator, row, arguments):
        for k in self.backend.kernels[: self.backend.kernel_count]:
            if self.operators[k.op] == operator and k.name.decode() == row and k.dtype == 1:
                self.used = 0
                if k.run(ctypes.byref(self.exec), ctypes.byref(arguments)):
                    raise RuntimeError(operator)
                return
        raise LookupError(f"{operator} {row}")


def torch_core(value, off, logits, ref):
    """As the usual CPU path: softmax, locations, one grid_sample for each level, weighted sum."""
    images, queries = logits.shape[:2]
    weight = logits.view(images, queries, HEADS, -1).softmax(-1)
    shape = torch.tensor([[w, h] for h, w in LEVELS], dtype=torch.float32)
    grid = 2 * (ref[:, :, None, None, None] + off.view(images, queries, HEADS, len(LEVELS), POINTS, 2) / shape[:, None]) - 1
    read = []
    for level, part in enumerate(value.view(images, -1, HEADS, CHANNELS).split([h * w for h, w in LEVELS], 1)):
        part = part.permute(0, 2, 3, 1).reshape(images * HEADS, CHANNELS, *LEVELS[level])
        where = grid[:, :, :, level].transpose(1, 2).flatten(0, 1)
        read.append(F.grid_sample(part, where, mode="bilinear", padding_mode="zeros", align_corners=False))
    weight = weight.transpose(1, 2).reshape(images * HEADS, 1, queries, -1)
    y = (torch.stack(read, -2).flatten(-2) * weight).sum(-1)
    return y.view(images, HEADS * CHANNELS, queries).transpose(1, 2)


def make_case(images, queries):
    """Offsets of a fresh layer (one direction for each head, 1 to 4 cells) with noise of a cell or two on top."""
    g = torch.Generator().manual_seed(1)
    tokens = sum(h * w for h, w in LEVELS)
    cells = [torch.stack(torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")[::-1], -1).view(-1, 2) for h, w in LEVELS]
    ref = torch.cat(cells).expand(images, -1, -1) if not queries else torch.rand(images, queries, 2, generator=g)
    n = ref.shape[1]
    angle = torch.arange(HEADS) * (2 * torch.pi / HEADS)
    unit = torch.stack([angle.cos(), angle.sin()], -1)
    unit = unit / unit.abs().amax(-1, keepdim=True)
    off = unit[:, None, None] * torch.arange(1, POINTS + 1)[:, None] + 1.5 * torch.randn(images, n, HEADS, len(LEVELS), POINTS, 2, generator=g)
    leaf = lambda x: x.contiguous().requires_grad_()
    return [leaf(torch.randn(images, tokens, HEADS * CHANNELS, generator=g)), leaf(off.flatten(2)),
            leaf(torch.randn(images, n, HEADS * len(LEVELS) * POINTS, generator=g)), ref.contiguous()]


def arguments_of(case, g_y):
    value, off, logits, ref = case
    out = [torch.empty_like(g_y), torch.empty_like(value), torch.empty_like(off), torch.empty_like(logits)]
    a = Arguments(S=value.shape[1], ldo=off.shape[2], ldl=logits.shape[2], B=value.shape[0], N=off.shape[1], M=HEADS, D=CHANNELS, L=len(LEVELS),
                  P=POINTS, R=2, ref_images=ref.shape[0])
    for name, t in zip(("value", "off", "logits", "ref", "g_y", "y", "g_value", "g_off", "g_logits"), [*case, g_y, *out]):
        setattr(a, name, t.data_ptr())
    for level, (h, w) in enumerate(LEVELS):
        a.height[level], a.width[level] = h, w
    return a, out


def least_times(runs, repeats):
    best = {name: float("inf") for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            run()  # what the one before left in the caches is no part of it
            begin = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - begin)
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--queries", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    module = Module(options.module, options.threads)
    case = make_case(options.images, options.queries)
    g_y = torch.randn(options.images, case[1].shape[1], HEADS * CHANNELS, generator=torch.Generator().manual_seed(2))
    arguments, out = arguments_of(case, g_y)

    def ours(row, gradients):
        module.run("msda", row, arguments)
        if gradients:
            module.run("msda_grad", row, arguments)

    def theirs():
        y = torch_core(*case)
        return [y, *torch.autograd.grad(y, case[:3], g_y)]

    def theirs_forward():
        with torch.no_grad():
            torch_core(*case)

    rows = ("avx512", "avx2")
    expected = theirs()
    for row in rows:
        ours(row, True)
        worst = [f"{((x - y).abs().max() / y.abs().max()).item():.1e}" for x, y in zip(out, expected)]
        print(f"{row}: difference from torch by the largest value: y {worst[0]}, value {worst[1]}, offsets {worst[2]}, logits {worst[3]}")
    runs = {"torch forward": theirs_forward, "torch both": theirs}
    for row in rows:
        runs[f"{row} forward"] = lambda row=row: ours(row, False)
        runs[f"{row} both"] = lambda row=row: ours(row, True)
    best = least_times(runs, options.repeats)
    corners = case[2].numel() * 4
    flops = corners * CHANNELS * 2
    moved = {"forward": 4 * (case[0].numel() + case[1].numel() + case[2].numel() + g_y.numel()),
             "both": 4 * (3 * case[0].numel() + 3 * case[1].numel() + 3 * case[2].numel() + 2 * g_y.numel())}
    print(f"{options.images} image(s), {case[1].shape[1]} queries, {options.threads} threads; rows of values read {corners:,}")
    for name, seconds in best.items():
        row, kind = name.split()
        work = flops * (1 if kind == "forward" else 4)
        print(f"{name:16} {seconds * 1e3:8.2f} ms {work / seconds * 1e-9:7.1f} GFLOP/s {corners * CHANNELS * 4 / seconds * 1e-9:7.1f} GB/s of value rows "
              f"{moved[kind] / seconds * 1e-9:6.1f} GB/s to and from memory  torch / this {best['torch ' + kind] / seconds:6.2f}")


if __name__ == "__main__":
    main()
