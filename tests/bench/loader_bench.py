#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The loader beside Pillow, on the same photos, in one process.

    .dev/venv/bin/python tests/bench/loader_bench.py BUILD/libdetrdistill/libdetrdistill.so [FOLDER OF A DATA SET]

Two things are timed, with one thread and with two: decoding and resizing to short side 800 (no side over 1333), and a batch of two
images, normalised, in float32, padded. Pillow's side runs in threads, too: it lets go of Python's lock. Files are in the page cache on
both sides. Prints the most images per second of several alternating repeats."""

import concurrent.futures
import ctypes
import glob
import os
import sys
import time

import numpy
from PIL import Image, __version__

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'data'))
from loader import Library, Loader, Tensor, official_size  # noqa: E402

MEAN = numpy.array([123.675, 116.28, 103.53], numpy.float32)
SCALE = numpy.float32(1) / numpy.array([58.395, 57.12, 57.375], numpy.float32)
REPEATS = 7


def pillow_image(path):
    photo = Image.open(path).convert('RGB')
    return photo.resize(official_size(*photo.size), Image.BILINEAR)


def pillow_batch(paths):
    arrays = [(numpy.asarray(pillow_image(path)).astype(numpy.float32) - MEAN) * SCALE for path in paths]
    batch = numpy.zeros((len(arrays), *(max(a.shape[i] for a in arrays) for i in range(2)), 3), numpy.float32)
    for to, array in zip(batch, arrays):
        to[:array.shape[0], :array.shape[1]] = array
    return batch


def our_image(library, path):
    image, view = ctypes.c_void_p(), Tensor()
    library.check(library.calls.dd_image_open(ctypes.byref(image), path.encode()))
    library.check(library.calls.dd_image_pixels(image, ctypes.byref(view)))
    library.check(library.calls.dd_image_resize(image, *official_size(view.shape[1], view.shape[0])))
    library.calls.dd_image_free(image)


def rate(count, run):
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


def compare(title, count, ours, theirs):
    rates = [(rate(count, ours), rate(count, theirs)) for _ in range(REPEATS)]
    our, their = (max(column) for column in zip(*rates))
    print(f'{title:44} {our:10.0f} {their:10.0f} {our / their:7.2f}x')


def one_epoch(loader):
    while loader.next():
        pass


def main():
    library = Library(sys.argv[1])
    folder = sys.argv[2] if len(sys.argv) > 2 else os.path.join(HERE, '..', '..', '..', 'shared', 'data', 'coco17')
    paths = sorted(glob.glob(os.path.join(folder, '**', '*.jpg'), recursive=True))[:64]
    if not paths:
        print(f'skipped: there are no photos in {folder}')
        return
    pairs = [paths[i:i + 2] for i in range(0, len(paths), 2)]
    print(f'images per second, {len(paths)} photos, Pillow {__version__}')
    print(f'{"":44} {"ours":>10} {"Pillow":>10}   ratio')
    for threads in (1, 2):
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            compare(f'decode and resize, {threads} thread{"s" * (threads > 1)}', len(paths),
                    lambda: list(pool.map(lambda path: our_image(library, path), paths)), lambda: list(pool.map(pillow_image, paths)))
            loader = Loader(library, folder, f'mode=eval batch=2 limit={len(paths)} threads={threads}')
            one_epoch(loader)
            compare(f'batches of two, float32, {threads} thread{"s" * (threads > 1)}', len(paths), lambda: one_epoch(loader),
                    lambda: list(pool.map(pillow_batch, pairs)))
            loader.close()


if __name__ == '__main__':
    main()
