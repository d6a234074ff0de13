# SPDX-License-Identifier: Apache-2.0
"""Trains a small detector on generated scenes and keeps it as a Hugging Face folder: train.py FOLDER"""
import sys
import detrdistill as dd

folder = sys.argv[1] if len(sys.argv) > 1 else "run"
scenes = "scenes:train=8,val=4,size=64,classes=3"
student = dd.Model(dd.Context(device="cpu", seed=7), backbone="resnet-18", classes=3, queries=10, width=32, levels=3, heads=2, ffn=64,
                   decoder_layers=2, encoder_layers=1, stem=8, widths="8,16,24,32", depths="1,1,1,1")
trainer = dd.Trainer(student, dd.Dataset(scenes, split="train"), dd.Dataset(scenes, split="val"), folder=folder, epochs=2, sizes=64,
                     max_size=0, crop=0, warmup=0)


def tell(event, values):
    if event == 3:  # an evaluation is done
        print("  ".join(f"{name} {value:g}" for name, value in list(values.items())[:3]))


trainer.run(tell)
print(f"loss {trainer.values()['loss.total']:.4f}, the student is in {folder}/student")
