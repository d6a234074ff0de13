# SPDX-License-Identifier: Apache-2.0
"""The distiller: one knowledge-distillation step on tensors bound by name, or on DETR-style dicts as a differentiable loss."""
from __future__ import annotations

import ctypes
import json
from typing import Any, Callable, Mapping, Sequence

from . import _api
from ._library import create, keep_exception, lib
from ._options import Option, option_words
from ._tensor import Tensor, is_torch, loaded, view
from .context import Bound, Context, shared_context
from .targets import batch_inputs


class LossDict(dict):
    """Every loss term of a step by name, as floats: "loss.logits.stage0.class", ...

    total   their weighted sum: a torch scalar that is part of the autograd graph where the inputs are torch's, else a float
    grads   gradients by input name, "student.logits": .. (as arrays of the input's framework), for those that were asked for"""

    def __init__(self, terms: dict[str, float], total: Any, grads: dict[str, Any]) -> None:
        super().__init__(terms)
        self.total = total
        self.grads = grads


class Distiller(Bound):
    """One knowledge-distillation step: matchings, every loss term, gradients.

        kd = Distiller(family="deformable-detr", prior="none", weight={"logits": 2})
        loss = kd(student=out_s, teacher=out_t, targets=targets, image_sizes=sizes)
        loss.total.backward()

    or by the library's names:

        kd.bind("student.logits", logits); ..; kd.bind("student.logits.grad", grad); total = kd.step(); kd.terms

    Options: detrdistill.options_help("distiller"); '_' stands for '-', True and False for 1 and 0. A module whose tensors are
    not given is an error of the library, not switched off: say so by prior="none", feature_mask="none".
    device ("cpu", "cuda:0", ..) or context chooses where it runs. One thread at a time."""

    _bind = staticmethod(lib.dd_distiller_bind)

    def __init__(self, context: Context | None = None, device: str = "cpu", **options: Option) -> None:
        context = context or shared_context(device)
        self._bound = {}
        self._torch_parameters = None
        self._handle = create(_api.dd_distiller, lib.dd_distiller_free, lib.dd_distiller_create, context._handle,
                              option_words(options), parent=context._handle)

    # ---- by name

    def step(self) -> float:
        """One step on the bound tensors. Gradients go to the tensors bound as NAME.grad. Returns the weighted total."""
        total = ctypes.c_double()
        lib.dd_distiller_step(self._handle, ctypes.byref(total))
        return total.value

    @property
    def terms(self) -> dict[str, float]:
        """{name: value} of the last step, without the outer weights except in "loss.total"."""
        count, name, value = ctypes.c_int32(), ctypes.c_char_p(), ctypes.c_double()
        lib.dd_distiller_term_count(self._handle, ctypes.byref(count))
        terms = {}
        for index in range(count.value):
            lib.dd_distiller_term_at(self._handle, index, ctypes.byref(name), ctypes.byref(value))
            terms[name.value.decode()] = value.value
        return terms

    def result(self, name: str, copy: bool = True) -> Tensor:
        """A result of the last step as a Tensor: "match.det" [L,B,N], "features.weight.0", .. (dd_distiller_result).

        copy=False gives the library's own memory: the next step overwrites or frees it, so do not keep it."""
        found = _api.dd_tensor()
        lib.dd_distiller_result(self._handle, name.encode(), found)
        borrowed = Tensor(found, self._handle)
        return borrowed.copy() if copy else borrowed

    def set_weight(self, module: str, weight: float) -> None:
        """Outer weight of "det", "denoising", "encoder", "logits", "features", "prior" or "contrastive"."""
        lib.dd_distiller_set_weight(self._handle, module.encode(), weight)

    def get_weight(self, module: str) -> float:
        weight = ctypes.c_double()
        lib.dd_distiller_get_weight(self._handle, module.encode(), ctypes.byref(weight))
        return weight.value

    def set_stream(self, stream: int | None) -> None:
        """The CUDA stream (its address, e.g. torch.cuda.current_stream().cuda_stream) of the following steps."""
        lib.dd_distiller_set_stream(self._handle, stream)

    def set_mean(self, mean: Callable[[list[float]], Sequence[float]] | None) -> None:
        """mean(values) averages a list of numbers over all processes of a distributed run and returns them; None: one process.

            def mean(values):
                values = torch.tensor(values, dtype=torch.float64)
                torch.distributed.all_reduce(values)
                return (values / torch.distributed.get_world_size()).tolist()

        An exception that it raises comes out of the step."""
        if mean is None:
            lib.dd_distiller_set_mean(self._handle, _api.dd_mean_fn(), None)
            self._handle.callbacks.pop("mean", None)
            return

        def average(_, values, count):
            try:
                averaged = list(mean(values[:count]))
                if len(averaged) != count:
                    raise ValueError(f"mean got {count} numbers and returned {len(averaged)}")
                for i, value in enumerate(averaged):
                    values[i] = value
                return 0
            except BaseException as exception:
                keep_exception(exception)
                return 1

        function = _api.dd_mean_fn(average)
        lib.dd_distiller_set_mean(self._handle, function, None)
        self._handle.callbacks["mean"] = function

    def set_trace(self, trace: Callable[[dict], Any] | None) -> None:
        """trace(pair) gets a dict for each matched pair after each good step (who taught whom); False ends it; None: off.

        An exception that it raises comes out of the step."""
        if trace is None:
            lib.dd_distiller_set_trace(self._handle, _api.dd_trace_fn(), None)
            self._handle.callbacks.pop("trace", None)
            return

        def receive(_, line, size):
            try:
                return 1 if trace(json.loads(line[:size])) is False else 0
            except BaseException as exception:
                keep_exception(exception)
                return 1

        function = _api.dd_trace_fn(receive)
        lib.dd_distiller_set_trace(self._handle, function, None)
        self._handle.callbacks["trace"] = function

    def prepare(self) -> None:
        """Makes the distiller's own parameters for the bound tensors' widths; a step does so as well."""
        lib.dd_distiller_prepare(self._handle)

    def named_parameters(self) -> dict[str, tuple[Tensor, Tensor]]:
        """{name: (value, gradient)}: Tensors on the distiller's own memory, the same for its whole life. A step writes the
        gradient; the caller's optimiser updates the value in place."""
        count, name = ctypes.c_int32(), ctypes.c_char_p()
        lib.dd_distiller_parameter_count(self._handle, ctypes.byref(count))
        found = {}
        for index in range(count.value):
            value, gradient = _api.dd_tensor(), _api.dd_tensor()
            lib.dd_distiller_parameter_at(self._handle, index, ctypes.byref(name), value, gradient)
            found[name.value.decode()] = Tensor(value, self._handle), Tensor(gradient, self._handle)
        return found

    def parameters(self) -> list:
        """The same as torch.nn.Parameters for a torch optimiser: updated in place, and part of `loss.total`'s graph.
        They exist after the first call (or after bind and prepare)."""
        if not self._torch_parameters:
            import torch
            self._torch_parameters = {name: (torch.nn.Parameter(value.torch()), gradient.torch())
                                      for name, (value, gradient) in self.named_parameters().items()}
        return [value for value, _ in self._torch_parameters.values()]

    def close(self) -> None:
        super().close()
        self._torch_parameters = None

    # ---- on DETR-style dicts

    def __call__(self, student: Mapping[str, Any], teacher: Mapping[str, Any], targets: Sequence[Mapping[str, Any]],
                 image_sizes: Any = None, prior: Mapping[str, Any] | None = None, denoising: Mapping[str, Any] | None = None,
                 feature_padding: Sequence[Any] | None = None, encoder: Mapping[str, Any] | None = None) -> LossDict:
        """A step on the outputs of two detectors. Returns a LossDict.

        student, teacher, prior   {'pred_logits': [B,N,C], 'pred_boxes': [B,N,4], 'aux_outputs': [the same of earlier stages]}
                                  or {'logits': [L,B,N,C], 'boxes': [L,B,N,4]}; and where their modules are on
                                  'queries': [L,B,N,d], 'features': a list of [B,d,H,W]
        targets       a list of B dicts {'labels': [G], 'boxes': [G,4] (cx,cy,w,h in 0..1)}, optionally 'iscrowd'
        image_sizes   [B,2] (W,H) in pixels; default: from the targets' 'size' (H,W) where all have one
        denoising     {'logits': [L,B,Nd,C], 'boxes': .., 'match': [L,B,Nd]}
        encoder       {'logits': [B,S,C], 'boxes': [B,S,4]} of a two-stage encoder, all S tokens
        feature_padding   a list of [B,H,W] masks, 1 = padded

        torch: inputs that require gradients get them by loss.total.backward(); gradients are computed in this call already.
        NumPy and others: gradients of the student's, prior, denoising and encoder inputs are in loss.grads."""
        inputs = batch_inputs(student, teacher, targets, image_sizes, prior, denoising, feature_padding, encoder)
        before = dict(self._bound)
        try:
            for name, value in inputs.items():
                self.bind(name, value)
            return self._torch_loss(inputs) if is_torch(inputs["student.logits"]) else self._array_loss(inputs)
        finally:
            for name in set(self._bound) - set(before):  # the caller's activations are not kept beyond the call
                self.bind(name, None)

    def _array_loss(self, inputs):
        names = [name for name in inputs if differentiable(name)]
        grads = {name: zeros_like(inputs[name]) for name in names}
        for name in names:
            self.bind(name + ".grad", grads[name])
        total = self.step()
        return LossDict(self.terms, total, grads)

    def _torch_loss(self, inputs):
        torch = loaded("torch")
        from . import _autograd
        logits = inputs["student.logits"]
        if logits.is_cuda:
            self.set_stream(torch.cuda.current_stream(logits.device).cuda_stream)
        if self._torch_parameters is None:
            self.prepare()
        own = self.parameters()
        names = [name for name, value in inputs.items()
                 if differentiable(name) and torch.is_grad_enabled() and is_torch(value) and value.requires_grad]
        grads = {name: torch.empty(inputs[name].shape, dtype=gradient_type(torch, inputs[name].dtype),
                                   device=inputs[name].device) for name in names}
        for name in names:
            self.bind(name + ".grad", grads[name])
        total = _autograd.Step.apply(self, list(grads.values()), *[inputs[name] for name in names], *own)
        return LossDict(self.terms, total, grads)


def differentiable(name):
    return name.startswith(("student.", "prior.", "denoising.", "encoder.")) and name != "denoising.match"


def gradient_type(torch, dtype):
    """Gradients of 16-bit tensors are kept in f32 until loss scaling has been applied."""
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32


def zeros_like(value):
    """Memory for a gradient, in the value's framework: NumPy where it is imported, else a Tensor."""
    numpy = loaded("numpy")
    described, _ = view(value)
    shape = tuple(described.shape[:described.ndim])
    double = described.dtype == _api.DD_F64
    if numpy is not None:
        return numpy.zeros(shape, numpy.float64 if double else numpy.float32)
    return Tensor.zeros(shape, "f64" if double else "f32")
