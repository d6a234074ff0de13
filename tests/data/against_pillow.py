#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The loader's batches on real photos beside Pillow and NumPy: the same bits.

    against_pillow.py LIBRARY SHARED"""

import os
import sys
import unittest

try:
    import numpy
    from PIL import Image
except ImportError as missing:
    print(f'skipped: {missing}')
    sys.exit(77)

from loader import Library, Loader, official_size

SHARED = os.environ.get('DETRDISTILL_TEST_DATA') or os.path.join(sys.argv.pop(), 'data')
LIBRARY = sys.argv.pop()
MEAN = numpy.array([123.675, 116.28, 103.53], numpy.float32)
SCALE = numpy.float32(1) / numpy.array([58.395, 57.12, 57.375], numpy.float32)


class Photos(unittest.TestCase):
    def test_evaluation_of_coco17(self):
        folder = os.path.join(SHARED, 'coco17')
        if not os.path.isdir(folder):
            self.skipTest(f'{folder} is not there')
        loader = Loader(Library(LIBRARY), folder, 'mode=eval batch=3 threads=2')
        seen = 0
        while loader.next():
            for image, number in enumerate(loader['image.ids']):
                photo = Image.open(os.path.join(folder, 'images', f'{number:012}.jpg')).convert('RGB')
                width, height = official_size(*photo.size)
                self.assertEqual(loader['image.sizes'][image].tolist(), [width, height])
                self.assertEqual(loader['image.originals'][image].tolist(), list(photo.size))
                # across, then down, whatever order this Pillow prefers
                resized = photo.resize((width, photo.height), Image.BILINEAR).resize((width, height), Image.BILINEAR)
                wanted = (numpy.asarray(resized).astype(numpy.float32) - MEAN) * SCALE
                pixels = loader['pixels'][image]
                self.assertTrue(numpy.array_equal(pixels[:height, :width], wanted))
                self.assertFalse(pixels[height:].any() or pixels[:, width:].any())
                seen += 1
        self.assertEqual(seen, 17)
        loader.close()


if __name__ == '__main__':
    unittest.main()
