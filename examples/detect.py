# SPDX-License-Identifier: Apache-2.0
"""Runs a model over pictures and prints the best detection of each: detect.py MODEL DATA SIZE"""
import sys
import detrdistill as dd

folder, path, size = sys.argv[1:4]
model = dd.Model.load(folder, gradients=0)
classes = model.classes
for batch in dd.Dataset(path).batches(mode="eval", max_size=0, sizes=size):
    model.forward(batch["pixels"], batch["image.sizes"])
    for image, (width, height) in enumerate(batch["image.originals"].tolist()):
        for found in model.detections(image, width, height, most=1):
            print(f"{classes[found.label]} {found.score:.3f} at " + " ".join(f"{side:.1f}" for side in found.box))
