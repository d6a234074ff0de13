# SPDX-License-Identifier: Apache-2.0
"""One distillation step on the tensors of a safetensors file that have the library's names: kd_step.py CASE"""
import sys
import detrdistill as dd
import torch

tensors = {name: tensor.torch() for name, tensor in dd.load(sys.argv[1]).items()}
kd = dd.Distiller(family="deformable-detr")
for name, tensor in tensors.items():
    kd.bind(name, tensor)
grad = torch.empty_like(tensors["student.logits"])
kd.bind("student.logits.grad", grad)  # the step writes it; so for every tensor that needs one
print(f"total {kd.step():.8g}")
