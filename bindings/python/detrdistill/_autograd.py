# SPDX-License-Identifier: Apache-2.0
"""The step as a node of torch's autograd graph. Imported only where torch is in use."""
import torch
from torch.autograd.function import once_differentiable


class Step(torch.autograd.Function):
    """forward runs the library's step, which computes the gradients too; backward scales them by the gradient of the total."""

    @staticmethod
    def forward(ctx, distiller, grads, *inputs):
        total = distiller.step()
        # The next step overwrites the gradients of the distiller's own parameters, so the graph gets a copy.
        own = [gradient.clone() for _, gradient in distiller._torch_parameters.values()]
        ctx.save_for_backward(*grads, *own)
        ctx.types = [each.dtype for each in inputs]
        first = distiller._bound["student.logits"]
        double = first.dtype is torch.float64
        return torch.tensor(total, dtype=torch.float64 if double else torch.float32, device=first.device)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_total):
        scaled = [(gradient * grad_total.to(gradient.dtype)).to(dtype) for gradient, dtype in zip(ctx.saved_tensors, ctx.types)]
        return (None, None, *scaled)
