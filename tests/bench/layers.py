# SPDX-License-Identifier: Apache-2.0
"""Linear layers, convolutions (with folded norm, ReLU and residual) and norms beside torch's, forward and with all gradients, in one run.

    .dev/venv/bin/python tests/bench/layers.py build/.../libdetrdistill-cpu.so [--threads 2] [--only linear] [--size 480 640] [--rows avx512] [--bf16]

Prints the least time of alternating repeats, GFLOP/s (2 operations for each multiply-add; three times that with gradients) or GB/s, the ratio to
torch, and the largest difference between the two by the largest value. The sum over ResNet-50 counts each convolution as often as it occurs.
"""

import argparse
import ctypes

import torch
import torch.nn.functional as F

from deformable_attention import Module, least_times

LINEAR = ((22223, 256, 1024), (22223, 1024, 256), (22223, 256, 256), (22223, 256, 384), (600, 256, 256), (600, 256, 1024), (600, 256, 80))
P = ctypes.c_void_p


class Linear(ctypes.Structure):
    _fields_ = ([(n, P) for n in ("x", "w", "bias", "y", "g_y", "g_x", "g_w", "g_bias")] + [(n, ctypes.c_int64) for n in ("rows", "ldx", "ldy")] +
                [(n, ctypes.c_int32) for n in ("K", "N", "relu", "compute", "add")])


class Conv(ctypes.Structure):
    _fields_ = ([(n, P) for n in ("x", "w", "scale", "shift", "residual", "y", "g_y", "g_x", "g_w", "g_scale", "g_shift")] +
                [(n, ctypes.c_int32) for n in ("B", "H", "W", "Cin", "Cout", "OH", "OW", "kernel", "stride", "pad", "relu", "compute", "add")])


class Dropout(ctypes.Structure):
    _fields_ = [("rate", ctypes.c_double), ("seed", ctypes.c_uint64), ("step", ctypes.c_uint32), ("stream", ctypes.c_uint32)]


class LayerNorm(ctypes.Structure):
    _fields_ = ([(n, P) for n in ("x", "r", "gamma", "beta", "s", "y", "mean", "rstd", "g_y", "g_x", "g_r", "g_gamma", "g_beta")] +
                [("rows", ctypes.c_int64), ("d", ctypes.c_int32), ("add", ctypes.c_int32), ("dropout", Dropout)])


class GroupNorm(ctypes.Structure):
    _fields_ = ([(n, P) for n in ("x", "gamma", "beta", "y", "mean", "rstd", "g_y", "g_x", "g_gamma", "g_beta")] +
                [(n, ctypes.c_int64) for n in ("P", "y_stride")] + [(n, ctypes.c_int32) for n in ("B", "C", "groups", "add")])


def point(a, **tensors):
    a.keep = tensors
    for name, t in tensors.items():
        setattr(a, name, t.data_ptr())


def compare(o, title, a, operator, forward, leaves, outputs, g_y, work, moved=0):
    """forward: torch's; outputs: our tensors [y, gradient of each leaf]; parameters' gradients are added to."""

    def theirs_both():
        y = forward()
        return [y, *torch.autograd.grad(y, leaves, g_y)]

    def theirs_forward():
        with torch.no_grad():
            forward()

    def ours(row, gradients):
        a.g_y = g_y.data_ptr()
        if operator in ("linear", "conv"):
            a.relu = o.relu
        o.module.run(operator, row, a)
        if gradients:
            o.module.run(operator + "_grad", row, a)

    expected = theirs_both()
    runs = {"torch forward": theirs_forward, "torch both": theirs_both}
    for row in o.rows:
        for t in outputs:
            t.zero_()
        a.g_y, saved = g_y.data_ptr(), g_y.clone()
        ours(row, True)
        g_y.copy_(saved)
        worst = max(((x.flatten() - y.flatten()).abs().max() / y.abs().max()).item() for x, y in zip(outputs, expected))
        title += f"  [{row} off by {worst:.1e}]"
        runs[f"{row} forward"] = lambda row=row: ours(row, False)
        runs[f"{row} both"] = lambda row=row: ours(row, True)
    best = least_times(runs, o.repeats)
    print(title)
    for name, seconds in best.items():
        kind = name.split()[1]
        rate = work * (1 if kind == "forward" else 3) / seconds * 1e-9 if work else moved * (1 if kind == "forward" else 2.5) / seconds * 1e-9
        print(f"  {name:16} {seconds * 1e3:8.3f} ms {rate:7.1f} {'GFLOP/s' if work else 'GB/s'}  torch / this {best['torch ' + kind] / seconds:6.2f}")
    return best


def linear(o):
    for rows, k, n in LINEAR:
        x, w, b, g_y = torch.randn(rows, k), torch.randn(n, k) / k**0.5, torch.randn(n), torch.randn(rows, n)
        leaves = [t.requires_grad_() for t in (x, w, b)]
        out = [torch.empty(rows, n), *(torch.empty_like(t) for t in leaves)]
        a = Linear(rows=rows, ldx=k, ldy=n, K=k, N=n, compute=o.bf16)
        point(a, x=x, w=w, bias=b, y=out[0], g_x=out[1], g_w=out[2], g_bias=out[3])
        f = (lambda: F.relu(F.linear(x, w, b))) if o.relu else (lambda: F.linear(x, w, b))
        compare(o, f"linear {rows} x {k} to {n}", a, "linear", f, leaves, out, g_y, 2.0 * rows * k * n)


def resnet50(height, width):
    """(how often, kernel, stride, inputs, outputs, H, W) of the convolutions, the stem first."""
    half = lambda n: (n + 1) // 2
    shapes = {(7, 2, 3, 64, height, width): 1}
    h, w, inputs = half(half(height)), half(half(width)), 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        mid, out = 64 << stage, 256 << stage
        for block in range(blocks):
            stride = 2 if stage and block == 0 else 1
            oh, ow = (half(h), half(w)) if stride == 2 else (h, w)
            layers = [(1, 1, inputs, mid, h, w), (3, stride, mid, mid, h, w), (1, 1, mid, out, oh, ow)]
            layers += [(1, stride, inputs, out, h, w)] if block == 0 else []
            for layer in layers:
                shapes[layer] = shapes.get(layer, 0) + 1
            h, w, inputs = oh, ow, out
    return [(count, *shape) for shape, count in shapes.items()]


def conv(o):
    total, work_total = {}, 0.0
    for count, kernel, stride, inputs, outputs, h, w in resnet50(*o.size):
        pad, oh, ow = kernel // 2, (h + 2 * (kernel // 2) - kernel) // stride + 1, (w + 2 * (kernel // 2) - kernel) // stride + 1
        x = torch.randn(o.images, inputs, h, w).contiguous(memory_format=torch.channels_last)
        weight, scale, shift = torch.randn(outputs, inputs, kernel, kernel) / (inputs**0.5 * kernel), torch.rand(outputs) + 0.5, torch.randn(outputs)
        folded = (weight * scale.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
        leaves = [t.requires_grad_() for t in ((weight,) if kernel == 7 else (x, weight))]
        g_y = torch.randn(o.images, outputs, oh, ow).contiguous(memory_format=torch.channels_last)
        y = torch.empty_like(g_y)
        out = [y, *(torch.empty_like(t) for t in leaves)]
        a = Conv(B=o.images, H=h, W=w, Cin=inputs, Cout=outputs, OH=oh, OW=ow, kernel=kernel, stride=stride, pad=pad, compute=o.bf16)
        rows = lambda t: t.permute(0, 2, 3, 1) if t.dim() == 4 and t is not leaves[-1] else t
        point(a, x=x, w=weight, scale=scale, shift=shift, y=y, g_w=out[-1], **({} if kernel == 7 else {"g_x": out[1]}))

        def forward():
            z = F.conv2d(x, weight * scale.view(-1, 1, 1, 1), shift, stride, pad)
            return F.relu_(z) if o.relu else z

        work = 2.0 * o.images * oh * ow * outputs * inputs * kernel * kernel
        best = compare(o, f"conv {kernel} x {kernel} / {stride}, {inputs} to {outputs}, {h} x {w}, {count} times", a, "conv", forward, leaves, out, g_y, work)
        work_total += count * work
        for name, seconds in best.items():
            total[name] = total.get(name, 0) + count * seconds
    print(f"ResNet-50, {o.size[0]} x {o.size[1]}, {o.images} image(s), sum of layers")
    for name, seconds in total.items():
        kind = name.split()[1]
        print(f"  {name:16} {seconds * 1e3:8.1f} ms {work_total * (1 if kind == 'forward' else 3) / seconds * 1e-9:7.1f} GFLOP/s  "
              f"torch / this {total['torch ' + kind] / seconds:6.2f}")


def layernorm(o):
    for rows, d in ((22223, 256), (600, 256)):
        x, r, gamma, beta, g_y = torch.randn(rows, d), torch.randn(rows, d), torch.rand(d), torch.randn(d), torch.randn(rows, d)
        leaves = [t.requires_grad_() for t in (x, gamma, beta)]
        out = [torch.empty(rows, d), *(torch.empty_like(t) for t in leaves)]
        a = LayerNorm(rows=rows, d=d)
        point(a, x=x, r=r, gamma=gamma, beta=beta, s=torch.empty_like(x), y=out[0], mean=torch.empty(rows), rstd=torch.empty(rows), g_x=out[1],
              g_gamma=out[2], g_beta=out[3])
        compare(o, f"layernorm of a sum, {rows} x {d}", a, "layernorm", lambda: F.layer_norm(x + r, (d,), gamma, beta), leaves, out, g_y, 0, 16.0 * rows * d)


def groupnorm(o):
    for h, w in ((100, 167), (50, 84), (13, 21)):
        x = torch.randn(o.images, 256, h, w).contiguous(memory_format=torch.channels_last)
        gamma, beta, g_y = torch.rand(256), torch.randn(256), torch.randn(o.images, 256, h, w).contiguous(memory_format=torch.channels_last)
        leaves = [t.requires_grad_() for t in (x, gamma, beta)]
        out = [torch.empty_like(g_y), *(torch.empty_like(t) for t in leaves)]
        a = GroupNorm(P=h * w, y_stride=h * w * 256, B=o.images, C=256, groups=32)
        point(a, x=x, gamma=gamma, beta=beta, y=out[0], mean=torch.empty(o.images, 32), rstd=torch.empty(o.images, 32), g_x=out[1], g_gamma=out[2],
              g_beta=out[3])
        compare(o, f"groupnorm {h} x {w}", a, "groupnorm", lambda: F.group_norm(x, 32, gamma, beta), leaves, out, g_y, 0, 8.0 * x.numel())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="linear,conv,layernorm,groupnorm")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333))
    parser.add_argument("--rows", default="avx512,avx2")
    parser.add_argument("--relu", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    options.rows = options.rows.split(",")
    torch.manual_seed(1)
    torch.set_num_threads(options.threads)
    options.module = Module(options.module, options.threads)
    for name in options.only.split(","):
        {"linear": linear, "conv": conv, "layernorm": layernorm, "groupnorm": groupnorm}[name](options)


if __name__ == "__main__":
    main()
