#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decoders and resize against Pillow, on pictures made here: the same bytes.

    against_pillow.py COPY_PICTURE"""

import io
import os
import random
import subprocess
import sys
import tempfile
import unittest

try:
    import numpy
    from PIL import Image, ImageOps
except ImportError as missing:
    print(f'skipped: {missing}')
    sys.exit(77)

PROGRAM = sys.argv.pop()


def scene(rng, width, height):
    """Smooth colours with noise: neither flat nor all noise."""
    y, x = numpy.mgrid[0:height, 0:width]
    planes = [128 + 90 * numpy.sin(x / rng.uniform(3, 40) + y / rng.uniform(3, 40)) for _ in range(3)]
    noise = numpy.random.default_rng(rng.randrange(2**32)).normal(0, 20, (height, width, 3))
    return Image.fromarray(numpy.clip(numpy.stack(planes, -1) + noise, 0, 255).astype(numpy.uint8))


def resized(image, width, height):
    """Across, then down, as Pillow before 13 always did it; 13 goes down first where that is cheaper."""
    return image.resize((width, image.height), Image.BILINEAR).resize((width, height), Image.BILINEAR)


class AgainstPillow(unittest.TestCase):
    def setUp(self):
        self.rng = random.Random(5)
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.orders, self.wanted = [], []

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def save(self, image, **options):
        name = self.path(f'{len(self.wanted)}.{options.pop("ending", "png")}')
        image.save(name, **options)
        return name

    def order(self, file, wanted, isa=2, size=(0, 0), window=(0, 0, 0, 0)):
        raw = self.path(f'{len(self.wanted)}.raw')
        self.orders.append(' '.join(map(str, [file, raw, isa, *size, *window])))
        self.wanted.append((raw, wanted.tobytes(), self.orders[-1]))

    def compare(self):
        orders = self.path('orders')
        with open(orders, 'w', encoding='utf-8') as file:
            file.write('\n'.join(self.orders))
        done = subprocess.run([PROGRAM, orders], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ''), done.stderr)
        for raw, wanted, order in self.wanted:
            with open(raw, 'rb') as file:
                self.assertTrue(file.read() == wanted, order)

    def test_resize(self):
        shapes = [(1, 1, 5, 7), (1, 9, 1, 3), (640, 2, 3, 2), (2, 1500, 2, 2), (37, 23, 37, 50), (37, 23, 50, 23), (64, 48, 64, 48)]
        shapes += [[self.rng.randint(1, 120) for _ in range(4)] for _ in range(40)]
        for width, height, to_width, to_height in shapes:
            image = scene(self.rng, width, height)
            file = self.save(image)
            wanted = resized(image, to_width, to_height)
            x, y = self.rng.randrange(to_width), self.rng.randrange(to_height)
            w, h = self.rng.randint(1, to_width - x), self.rng.randint(1, to_height - y)
            for isa in range(3):
                self.order(file, wanted, isa, (to_width, to_height), (0, 0, to_width, to_height))
                self.order(file, wanted.crop((x, y, x + w, y + h)), isa, (to_width, to_height), (x, y, w, h))
        self.compare()

    def test_resize_of_extremes(self):
        """Full black and white next to each other: sums at their largest."""
        pixels = numpy.random.default_rng(1).integers(0, 2, (61, 83, 3)) * 255
        image = Image.fromarray(pixels.astype(numpy.uint8))
        file = self.save(image)
        for size in [(7, 5), (83, 200), (333, 61), (200, 150)]:
            for isa in range(3):
                self.order(file, resized(image, *size), isa, size, (0, 0, *size))
        self.compare()

    def test_jpeg(self):
        for width, height in [(1, 1), (7, 9), (16, 16), (131, 77), (200, 33)]:
            image = scene(self.rng, width, height)
            for options in [{}, {'progressive': True}, {'subsampling': 0}, {'subsampling': 1}, {'quality': 10}]:
                for kind in ['RGB', 'L']:
                    file = self.save(image.convert(kind), ending='jpg', **options)
                    self.order(file, Image.open(file).convert('RGB'))
        self.compare()

    def test_orientation(self):
        image = scene(self.rng, 40, 24)
        for orientation in range(0, 10):
            exif = Image.Exif()
            exif[0x0112] = orientation
            for ending in ['jpg', 'png']:
                file = self.save(image, ending=ending, exif=exif)
                self.order(file, ImageOps.exif_transpose(Image.open(file)).convert('RGB'))
        self.compare()

    def test_png(self):
        image = scene(self.rng, 45, 31)
        grey16 = Image.fromarray(numpy.random.default_rng(2).integers(0, 700, (31, 45)).astype(numpy.uint16))
        for kind in ['RGB', 'L', '1', 'P', 'RGBA', 'LA']:
            made = image.convert(kind)
            if kind in ('RGBA', 'LA'):
                made.putalpha(Image.fromarray(numpy.random.default_rng(3).integers(0, 256, (31, 45)).astype(numpy.uint8)))
            self.order(self.save(made), made.convert('RGB'))
        few = image.convert('P', palette=Image.ADAPTIVE, colors=7)
        self.order(self.save(few, transparency=3, bits=4), few.convert('RGB'))
        self.order(self.save(few, bits=4), few.convert('RGB'))
        self.order(self.save(grey16), Image.open(io.BytesIO(self.bytes_of(grey16))).convert('RGB'))
        self.compare()

    @staticmethod
    def bytes_of(image):
        stream = io.BytesIO()
        image.save(stream, 'png')
        return stream.getvalue()


if __name__ == '__main__':
    unittest.main()
