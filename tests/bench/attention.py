# SPDX-License-Identifier: Apache-2.0
"""The softmax attention core beside torch's scaled_dot_product_attention, in one run, at the shapes of the decoders and of Conditional DETR's encoder.

    .dev/venv/bin/python tests/bench/attention.py build/.../libdetrdistill-cpu.so [--images 1] [--threads 2]

Prints the least time of alternating repeats, GFLOP/s (2 operations for each multiply-add of the two products; of seven with gradients, two of
which form the scores again), the ratio, and the largest difference between the two by the largest value.
"""

import argparse
import ctypes

import torch
import torch.nn.functional as F

from deformable_attention import Module, least_times

HEADS = 8
SHAPES = ((300, 300, 32, 32), (900, 900, 32, 32), (300, 1700, 64, 32), (1700, 1700, 32, 32))  # Nq, Nk, dk, dv
POINTERS = ("q", "k", "v", "bias", "key_padding", "mask", "y", "lse", "g_y", "g_q", "g_k", "g_v", "g_bias")


class Dropout(ctypes.Structure):
    _fields_ = [("rate", ctypes.c_double), ("seed", ctypes.c_uint64), ("step", ctypes.c_uint32), ("stream", ctypes.c_uint32)]


class Arguments(ctypes.Structure):
    _fields_ = ([(p, ctypes.c_void_p) for p in POINTERS] + [(n, ctypes.c_int64) for n in ("ldq", "ldk", "ldv", "ldy")] +
                [(n, ctypes.c_int32) for n in ("B", "Nq", "Nk", "M", "dk", "dv", "split", "compute", "add")] +
                [("scale", ctypes.c_double), ("dropout", Dropout)])


def bench(module, images, nq, nk, dk, dv, repeats, rate):
    g = torch.Generator().manual_seed(1)
    q, k, v, g_y = (torch.randn(images, n, HEADS * d, generator=g) for n, d in ((nq, dk), (nk, dk), (nk, dv), (nq, dv)))
    leaves = [x.requires_grad_() for x in (q, k, v)]
    out = [torch.empty_like(g_y), torch.empty(images, HEADS, nq), *(torch.empty_like(x) for x in leaves)]
    a = Arguments(ldq=HEADS * dk, ldk=HEADS * dk, ldv=HEADS * dv, ldy=HEADS * dv, B=images, Nq=nq, Nk=nk, M=HEADS, dk=dk, dv=dv, scale=dk**-0.5,
                  dropout=Dropout(rate, 1, 1, 1))
    for name, t in zip(("q", "k", "v", "g_y", "y", "lse", "g_q", "g_k", "g_v"), [*leaves, g_y, *out]):
        setattr(a, name, t.data_ptr())

    def theirs():
        heads = [x.view(images, -1, HEADS, d).transpose(1, 2) for x, d in zip(leaves, (dk, dk, dv))]
        return F.scaled_dot_product_attention(*heads, dropout_p=rate).transpose(1, 2).flatten(2)

    def theirs_both():
        y = theirs()
        return [y, *torch.autograd.grad(y, leaves, g_y)]

    def theirs_forward():
        with torch.no_grad():
            theirs()

    def ours(row, gradients):
        module.run("attention", row, a)
        if gradients:
            module.run("attention_grad", row, a)

    runs = {"torch forward": theirs_forward, "torch both": theirs_both}
    expected = theirs_both()
    for row in ("avx512", "avx2"):
        ours(row, True)
        worst = max(((x - y).abs().max() / y.abs().max()).item() for x, y in zip([out[0], *out[2:]], expected))
        print(f"{nq} x {nk}, {dk} and {dv} wide, dropout {rate}: {row}" + ("" if rate else f", difference from torch {worst:.1e}"))
        runs[f"{row} forward"] = lambda row=row: ours(row, False)
        runs[f"{row} both"] = lambda row=row: ours(row, True)
    best = least_times(runs, repeats)
    for name, seconds in best.items():
        kind = name.split()[1]
        products = dk + dv if kind == "forward" else 4 * dk + 3 * dv
        rate_of = 2.0 * images * HEADS * nq * nk * products / seconds * 1e-9
        print(f"  {name:16} {seconds * 1e3:8.2f} ms {rate_of:7.1f} GFLOP/s  torch / this {best['torch ' + kind] / seconds:6.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--dropout", type=float, default=0.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    module = Module(options.module, options.threads)
    for shape in SHAPES:
        bench(module, options.images, *shape, options.repeats, options.dropout)


if __name__ == "__main__":
    main()
