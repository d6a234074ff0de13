# SPDX-License-Identifier: Apache-2.0
"""Random evaluation cases with pycocotools' answers, as JSON that test_coco reads.

    pycocotools_cases.py FILE COUNT SEED        cases.json here is: pycocotools_cases.py cases.json 24 1

Boxes and scores come from coarse grids, so that ties in score, IoUs that meet a threshold and areas that meet a limit are common."""

import contextlib
import io
import json
import sys

import numpy
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# Side lengths whose products meet 32^2 and 96^2 often.
SIDES = [8, 16, 20, 31, 32, 33, 48, 64, 95, 96, 97, 128, 192]


def random_box(random):
    return [float(v) for v in (random.integers(0, 40) * 4, random.integers(0, 40) * 4, random.choice(SIDES), random.choice(SIDES))]


def near(random, box):
    """The box itself, or one moved and resized a little on the grid."""
    if random.random() < .3:
        return list(box)
    return [box[0] + float(random.integers(-2, 3)), box[1] + float(random.integers(-2, 3)),
            max(1., box[2] + float(random.integers(-4, 5))), max(1., box[3] + float(random.integers(-4, 5)))]


def random_case(random, number):
    """Objects [image, label, x, y, w, h, area, crowd] and detections [image, label, x, y, w, h, score], in the order in which they
    are added."""
    images = sorted(int(i) for i in random.choice(1000, random.integers(1, 7), replace=False))
    labels = [int(c) for c in random.choice(90, random.integers(1, 5), replace=False)]
    grid = int(random.choice([4, 10, 1000]))  # of scores
    many = number % 8 == 7  # more than 100 detections of a class in an image
    objects, detections = [], []
    for image in images:
        for _ in range(random.integers(0, 6)):
            box = random_box(random)
            area = box[2] * box[3] * (1 if random.random() < .7 else .5)
            objects.append([image, int(random.choice(labels)), *box, area, int(random.random() < .15)])
        mine = [o for o in objects if o[0] == image]
        for _ in range(150 if many else random.integers(0, 13)):
            source = mine[random.integers(len(mine))] if mine and random.random() < .8 else None
            box = near(random, source[2:6]) if source else random_box(random)
            label = source[1] if source and random.random() < .9 else int(random.choice(labels))
            detections.append([image, label, *box, float(random.integers(0, grid + 1)) / grid])
    return {'images': images, 'objects': objects, 'detections': detections}


def coco_numbers(case):
    """The twelve numbers and the AP of each class that has objects."""
    labels = sorted({o[1] for o in case['objects']})
    truth = COCO()
    truth.dataset = {'images': [{'id': i} for i in case['images']], 'categories': [{'id': c} for c in labels],
                     'annotations': [{'id': n + 1, 'image_id': o[0], 'category_id': o[1], 'bbox': o[2:6], 'area': o[6], 'iscrowd': o[7]}
                                     for n, o in enumerate(case['objects'])]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = [{'image_id': d[0], 'category_id': d[1], 'bbox': d[2:6], 'score': d[6]} for d in case['detections']]
        run = COCOeval(truth, truth.loadRes(found) if found else COCO(), 'bbox')
        run.evaluate()
        run.accumulate()
        if not labels:
            return [-1.] * 12, {}
        run.summarize()
    classes = {}
    for k, label in enumerate(labels):
        precision = run.eval['precision'][:, :, k, 0, 2]
        classes[label] = float(precision.mean()) if (precision > -1).any() else -1.
    return [float(v) for v in run.stats], classes


def make_cases(count, seed):
    cases = []
    random = numpy.random.default_rng(seed)
    for number in range(count):
        case = random_case(random, number)
        case['numbers'], case['classes'] = coco_numbers(case)
        cases.append(case)
    return cases


if __name__ == '__main__':
    with open(sys.argv[1], 'w', encoding='utf-8') as file:
        lines = ',\n'.join(json.dumps(case, separators=(',', ':')) for case in make_cases(int(sys.argv[2]), int(sys.argv[3])))
        file.write(f'[\n{lines}\n]\n')
